"""What a config says of cells of the user's own: what is refused, in which words, and which runs follow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from study import plan
from study.config import approval
from study.config.canonical import canonical
from study.own_cells import described, kept, loading
from tests.support.study_project import copy_of

CELL = """
from torch import nn


class Leaky(nn.Module):
    def __init__(self, input_size, hidden_size, leak=0.5, kind="plain"):
        super().__init__()

    def forward(self, x, state):
        return state


def factory(input_size, hidden_size, **options):
    return Leaky(input_size, hidden_size)
"""
CONFIG: dict[str, Any] = {
    "study": "mine",
    "title": "My cell",
    "question": "How far do its gradients get?",
    "device": "cpu",
    "gate": {"tolerance": {"float64": 1e-10, "float32": 1e-3}, "checked_runs_per_job": 1},
    "cells": {"leaky": {"file": "leaky.py", "class": "Leaky", "options": {"leak": 0.1}}},
    "sweeps": {"one": {"seeds": 2, "grid": {"cell": "leaky", "sequence_length": [5, 10], "hidden_size": 3}}},
    "figures": ["engine_checks"],
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The config with one key set."""
    config = copy_of(CONFIG)
    *parents, last = path.split("/")
    place = config
    for parent in parents:
        place = place[parent]
    place[last] = value
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "leaky.py").write_text(CELL)
    return tmp_path


def test_a_cell_of_ones_own_is_accepted(folder: Path) -> None:
    approved = approval.check(CONFIG, folders=[folder])
    assert approved.notes == []
    assert plan.count(approved.config) == (4, 1)


MISTAKES = [
    # key, value, what the message must hold
    ("sweeps/one/grid/cell", "laeky", ["grid.cell", "'laeky' is not known", "Did you mean 'leaky'"]),
    ("sweeps/one/grid/cell", ["gru", "lstmm"], ["grid.cell[1]", "Did you mean 'lstm'"]),
    ("sweeps/one/grid/cell", "LSTM", ["'LSTM'", "Did you mean 'lstm'"]),
    ("sweeps/one/grid/activation", "relu", ["grid.activation", "your own cell leaky", "leave it out"]),
    ("sweeps/one/grid/spectral_radius", [0.9, 1.1], ["grid.spectral_radius", "your own cell leaky", "W_hh", "leave it out"]),
    ("sweeps/one/grid/initializer", "orthogonal", ["grid.initializer", "draws its own parameters"]),
    ("sweeps/one/grid/input_scale", 0.1, ["grid.input_scale", "draws its own parameters"]),
    ("sweeps/one/grid/residual_leak", 0.1, ["grid.residual_leak", "only the cell 'residual' has it"]),
    ("sweeps/one/grid", {"cell": ["gru", "leaky"], "activation": "tanh"}, ["grid.activation", "give leaky a sweep of its own"]),
    ("sweeps/one/grid/cell_options", "leak=0.1", ["cell_options", "no such key"]),
    ("cells/leaky/file", "leeky.py", ["cells.leaky.file", "does not exist"]),
    ("cells/leaky/file", "leaky.txt", ["cells.leaky.file", ".py"]),
    ("cells/leaky/class", "Leeky", ["cells.leaky.class", "no class 'Leeky'", "Did you mean 'Leaky'"]),
    ("cells/leaky/options", {"leek": 1}, ["cells.leaky.options.leek", "takes no such option", "Did you mean 'leak'"]),
    ("cells/leaky/options", {"hidden_size": 1}, ["cells.leaky.options.hidden_size", "in a sweep's grid"]),
    ("cells/leaky/options", {"leak": []}, ["cells.leaky.options.leak", "empty"]),
    ("cells/leaky/options", {"leak": {"a": 1}}, ["cells.leaky.options.leak", "it must be a number or true or false or text"]),
    ("cells/leaky/options", {"kind": ["a", [1]]}, ["cells.leaky.options.kind[1]", "it must be a number or true or false or text"]),
    ("cells/leaky/options", {"kind": [None, 1]}, ["cells.leaky.options.kind[0]", "or text, and nothing stands there"]),
    ("cells/leaky/options", {"leak": [0.1, 0.1]}, ["cells.leaky.options.leak", "twice"]),
    ("cells/leaky/options", {"kind": ["a b", "c"]}, ["cells.leaky.options.kind[0]", "'a b' cannot be swept"]),
    ("cells/leaky/options", {"two words": 1}, ["cells.leaky.options", "two words"]),
    ("cells/leaky", {"file": "leaky.py"}, ["cells.leaky", "class is missing"]),
    ("cells/Leaky", {"file": "leaky.py", "class": "Leaky"}, ["cells", "'Leaky'", "lower-case"]),
    ("cells/gru", {"file": "leaky.py", "class": "Leaky"}, ["cells.gru", "built-in cell"]),
    ("models", {}, ["models: no such key", "Did you mean 'cells'"]),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "words"), MISTAKES)
def test_a_mistake_is_told_with_its_key(path: str, value: Any, words: list[str], folder: Path) -> None:
    with pytest.raises(approval.ConfigError) as error:
        approval.check(changed(path, value), folders=[folder])
    text = str(error.value)
    for word in words:
        assert word in text, text
    assert len(text.splitlines()) <= 3, text


SOURCES = {
    "def broken(:\n": ["leaky.py, line 1, is not valid Python"],
    "x = 1\nclass Leaky\n    pass\n": ["leaky.py, line 2, is not valid Python"],
    "x = 1\n": ["has no class 'Leaky'"],
}


@pytest.mark.parametrize("text", SOURCES)
def test_a_file_that_is_no_python_is_told_before_any_block(text: str, folder: Path) -> None:
    (folder / "leaky.py").write_text(text)
    with pytest.raises(approval.ConfigError) as error:
        approval.check(CONFIG, folders=[folder])
    for words in SOURCES[text]:
        assert words in str(error.value)


def test_bytes_that_are_no_text_are_told(folder: Path) -> None:
    (folder / "leaky.py").write_bytes(b"x = '\xff'\n")
    with pytest.raises(approval.ConfigError, match="not UTF-8 text"):
        approval.check(CONFIG, folders=[folder])


def test_planning_runs_nothing_of_the_file(folder: Path) -> None:
    """The user's code would run while Snakemake plans, and its errors would be Snakemake's."""
    (folder / "leaky.py").write_text("raise SystemExit('run')\n" + CELL)
    approval.check(CONFIG, folders=[folder])


def test_a_name_that_leads_to_two_files_is_refused(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "leaky.py").write_text(CELL + "# another\n")
    with pytest.raises(approval.ConfigError, match="two different files"):
        approval.check(CONFIG, folders=[folder, folder / "sub"])


@pytest.mark.parametrize(
    "source",
    [
        "from torch.nn import GRUCell as Leaky\n",
        "from torch.nn import *\n",
        CELL.replace("class Leaky", "Leaky = None\nclass Other"),
    ],
)
def test_what_the_text_cannot_tell_is_left_to_the_jobs(source: str, folder: Path) -> None:
    """A class that is imported or assigned may take any option."""
    (folder / "leaky.py").write_text(source)
    approval.check(CONFIG, folders=[folder])


def test_a_function_may_stand_for_the_class(folder: Path) -> None:
    approval.check(
        changed("cells/leaky", {"file": "leaky.py", "class": "factory", "options": {"any": 1}}), folders=[folder]
    )


# ---- options that are swept


SWEPT = {"leak": [0.1, 0.5], "kind": ["plain", "fancy"]}


def test_a_list_of_values_is_swept(folder: Path) -> None:
    approved = approval.check(changed("cells/leaky/options", SWEPT), folders=[folder])
    cells = approved.config["sweeps"]["one"]["grid"]["cell"]
    assert cells == [f"leaky:leak={leak},kind={kind}" for leak in (0.1, 0.5) for kind in ("plain", "fancy")]
    assert plan.count(approved.config) == (4 * 4, 1)
    assert canonical(approved.config) == approved.config


def test_a_single_variant_can_be_named(folder: Path) -> None:
    config = changed("cells/leaky/options", {"leak": [0.1, 0.5]})
    config["sweeps"]["one"]["grid"]["cell"] = ["gru", "leaky:leak=0.5"]
    approved = approval.check(config, folders=[folder])
    assert approved.config["sweeps"]["one"]["grid"]["cell"] == ["gru", "leaky:leak=0.5"]
    config["sweeps"]["one"]["grid"]["cell"] = ["laeky"]
    with pytest.raises(
        approval.ConfigError,
        match=r"'laeky' is not known; allowed: .*lstm, .*leaky, leaky:leak=0.1, .*Did you mean 'leaky'",
    ):
        approval.check(config, folders=[folder])
    config["sweeps"]["one"]["grid"]["cell"] = ["leaky:leak=0.4"]
    with pytest.raises(approval.ConfigError, match=r"'leaky:leak=0.4' is not known.*Did you mean 'leaky:leak=0.5'"):
        approval.check(config, folders=[folder])


def test_variants_make_blocks_of_their_own(folder: Path) -> None:
    config = changed("cells/leaky/options", SWEPT)
    config["sweeps"]["one"]["jobs_over"] = ["cell"]
    blocks = plan.blocks(approval.check(config, folders=[folder]).config)
    assert [name for _, name in blocks] == [f"cell=leaky-{v}" for v in described.variants({"options": SWEPT})]


def test_a_cell_that_no_sweep_uses_is_named(folder: Path) -> None:
    approved = approval.check(changed("sweeps/one/grid/cell", "gru"), folders=[folder])
    assert approved.notes == ["cells.leaky: no sweep uses it; write cell: leaky in one"]


def test_a_file_that_ends_its_process_is_told_with_its_line() -> None:
    """The job ended with a status alone: neither the cell nor its file was named."""
    before = os._exit
    cell = kept.KeptCell("mine", "mine.py", "Mine", "import os\n\nos._exit(3)\n", {None: {}})
    with pytest.raises(
        loading.CellError, match=r"cell mine \(mine.py\): its import fails in line 3, SystemExit: .*os._exit\(3\)"
    ):
        loading.own_cell(cell)
    assert os._exit is before


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("input_size, hidden_size", (3, 5)),
        ("hidden_size, input_size", (5, 3)),
        ("d_in, hidden_size", (3, 5)),
        ("hidden_size, d_in", (5, 3)),
        ("units, input_size", (5, 3)),
        ("input_size, gain, units", (3, 0.5, 5)),
        ("d_in, d_model", (3, 5)),
        ("hidden_size", (5,)),
        ("*sizes", (3, 5)),
    ],
)
def test_a_class_may_call_its_sizes_otherwise(arguments: str, expected: tuple[Any, ...]) -> None:
    """Where one of the two names is another, its size was missing, or was taken for the other one."""
    names = arguments.removeprefix("*")
    given = "sizes" if arguments == "*sizes" else f"({names},)"
    source = f"class Mine:\n    def __init__(self, {arguments}):\n        self.given = {given}\n"
    options = {"gain": 0.5} if "gain" in arguments else {}
    own = loading.own_cell(kept.KeptCell("mine", "mine.py", "Mine", source, {None: options}))
    assert own.build(3, 5, **options).given == expected


def test_a_class_that_asks_for_more_is_told_what_it_was_given() -> None:
    source = "class Mine:\n    def __init__(self, d_in, hidden_size, heads):\n        pass\n"
    own = loading.own_cell(kept.KeptCell("mine", "mine.py", "Mine", source, {None: {}}))
    with pytest.raises(
        loading.CellError, match=r"Mine\(d_in=3, hidden_size=5\) fails, TypeError: .*missing 1 required .*'heads'"
    ):
        own.build(3, 5)


def test_the_part_that_is_read_is_in_the_key() -> None:
    def digest(hidden: str | None) -> str:
        return kept.KeptCell("mine", "mine.py", "Mine", "", {None: {}}, hidden).digest

    assert len({digest(None), digest("h"), digest("c")}) == 3
