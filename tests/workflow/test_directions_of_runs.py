"""Two directions in a study: the table of every layer, the gate, the sample that is verified, costs, the figure, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import rnn_core as rc
from rnn_core import bptt
from rnn_core.bptt import stack
from study.cost import model
from study.data.fit import Fit
from study.files.cache import Cache
from study.plan import Block
from study.report.measures import flags_as_numbers
from study.runs import gate
from study.runs.checks import CheckFailed
from study.runs.runner import BlockRunner
from study.runs.verification import verified
from study.settings import axis_defaults
from study.tables.columns import TABLES, tables_of
from tests.support.refusals import refusal_of
from tests.support.study_project import ROOT, copy, kept_runs


@pytest.fixture
def config() -> dict[str, Any]:
    given = dict(yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8")))
    given["sweeps"]["propagation"]["grid"]["bidirectional"] = [False, True]
    return given


def test_a_study_of_one_direction_has_no_such_table(config: dict[str, Any]) -> None:
    assert tables_of(config) == (*TABLES, "layers")
    config["sweeps"]["propagation"]["grid"]["bidirectional"] = False
    assert tables_of(config) == TABLES


@pytest.mark.parametrize("bug", ["in_own_time", "added"])
def test_the_gate_checks_both_and_sees_a_mistake(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Directions are not checked, or the reverse one is not."""
    grid = {
        "bidirectional": [False, True],
        "layers": 2,
        "hidden_size": 5,
        "sequence_length": 12,
        "input_scale": 0.3,
        "loss_at": "last",
    }
    sweeps, tolerance = {"one": {"grid": grid}}, {"float64": 1e-10}
    assert [e.bidirectional for _, e in gate.cases(sweeps)] == [False, True]
    rows = gate.table(sweeps, {}, "cpu", tolerance)
    assert rows["oracle"] == ["torch.autograd", "torch.nn.RNN"] * 2 and max(rows["relative_error"]) < 1e-10
    wrong = {"in_own_time": lambda rows, direction: rows, "added": lambda rows: rows[0]}
    monkeypatch.setattr(stack, bug, wrong[bug])
    with pytest.raises(CheckFailed, match=r"1 of 4 checks failed.*(forward|reverse).*bidirectional"):
        gate.table(sweeps, {}, "cpu", tolerance)


def test_runs_are_verified_and_kept_with_their_directions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of directions are lost in the cache; or a run of two directions is not verified."""
    runner = BlockRunner(Cache(tmp_path / "cache", "e"), {}, "cpu")
    experiment = rc.Experiment(
        bidirectional=True, task="input_mean", updates=3, trace_every=1, hidden_size=5, sequence_length=8
    )
    entry = verified(experiment, runner, 1e-10)
    assert entry.checks is not None and len(entry.checks) == 3
    assert all(check["relative_error"] < 1e-10 for check in entry.checks)
    assert entry.layers["direction"].tolist() == (["forward"] * 8 + ["reverse"] * 8) * 3
    back = bptt.back_through_stack

    def reverse_alone_is_wrong(tapes: Any, grad_hidden: Any, **options: Any) -> Any:
        found = back(tapes, grad_hidden, **options)
        return [found[0], rc.backward(tapes[1], grad_hidden[0], **options)]

    monkeypatch.setattr(bptt, "back_through_stack", reverse_alone_is_wrong)
    with pytest.raises(CheckFailed, match="reverse"):
        verified(experiment, BlockRunner(Cache(tmp_path / "other", "e"), {}, "cpu"), 1e-10)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"omega": 0.1}, ["grid.omega", "Ω is about one matrix W_hh", "give bidirectional a sweep without it"]),
        (
            {"flossing": 3},
            ["grid.flossing", "an exponent is of one recurrence", "give bidirectional a sweep without it"],
        ),
        ({"bidirectional": 1}, ["grid.bidirectional", "true or false"]),
        ({"bidirectional": [True, "no way"]}, ["grid.bidirectional[1]", "true or false"]),
        ({"directions": True}, ["directions", "Did you mean 'bidirectional'"]),
    ],
)
def test_a_mistake_is_named(config: dict[str, Any], change: dict[str, Any], expected: list[str]) -> None:
    config["sweeps"]["propagation"]["grid"] |= {"activation": ["tanh"], "cell": ["vanilla"], **change}
    config["sweeps"]["propagation"].pop("jobs_over")
    refusal = refusal_of(config)
    assert all(text in refusal for text in expected), refusal


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("spectra", {"samples": 1}, "a spectrum is that of one recurrence"),
        ("memory_mb", 100, "leave the key memory_mb out, or bidirectional"),
    ],
)
def test_what_two_directions_have_not_is_refused(config: dict[str, Any], key: str, value: Any, expected: str) -> None:
    refusal = refusal_of(config | {key: value})
    assert "grid.bidirectional" in refusal and expected in refusal


def test_sequences_that_end_early_are_told_before_any_job() -> None:
    """A run would be refused in the middle of the study."""
    from types import SimpleNamespace

    ends = np.array([9, 9, 7])
    mask = np.arange(9) < ends[:, None]
    data = SimpleNamespace(ends=ends, mask=mask, loss_at="every")

    def told(**grid: Any) -> list[str]:
        return list(Fit("one", grid, "mine", data, axis_defaults())._directions())

    [text] = told(bidirectional=[False, True], sequence_length=[7, 9])
    assert "bidirectional: True does not fit sequence_length: 9; sequences of 'mine' end at different steps" in text
    assert not told(bidirectional=True, sequence_length=7) and not told(sequence_length=9)
    mask[0, 2] = False
    assert told(bidirectional=True, sequence_length=7) and not told(
        bidirectional=True, sequence_length=7, loss_at="last"
    )


def test_the_page_compares_two_values_and_no_mask() -> None:
    """Of false and true pandas makes a mask of rows, where columns were meant. A cell of the user's own has neither."""
    runs = pd.DataFrame({"bidirectional": [False, True, None]})
    found = flags_as_numbers(runs)["bidirectional"]
    assert found[:2].tolist() == [0, 1] and not isinstance(found[0], bool) and pd.isna(found[2])
    assert flags_as_numbers(runs[:2])["bidirectional"].dtype.kind in "if"


@pytest.mark.parametrize("layers", [1, 3])
def test_costs_are_those_of_twice_the_cells(layers: int) -> None:
    """A plan counts one direction for two."""

    def block(both: list[bool]) -> Block:
        grid = {
            "bidirectional": both, "layers": [layers], "cell": ["lstm"], "task": ["input_mean"], "updates": [2], "hidden_size": [32],
            "sequence_length": [7], "batch_size": [3],
        }  # fmt: skip
        return Block("sweep", "all", {}, grid, 2)

    one, two = (model.block_work(block([both])) for both in (False, True))
    assert two["network"] == 2 * one["network"] and two["fast_step"] == 2 * one["fast_step"]
    assert two["fast_flop"] >= 2 * one["fast_flop"] and (layers == 1) == (two["fast_flop"] == 2 * one["fast_flop"])
    mixed = model.block_work(block([False, True]))
    assert mixed["fast_flop"] == pytest.approx(one["fast_flop"] + two["fast_flop"])
    memory = [model.largest_run_mb(block([both]), {}) for both in (False, True)]
    assert memory[1] == pytest.approx(2 * memory[0])


@pytest.mark.workflow
def test_a_study_of_two_directions_is_whole(tmp_path: Path) -> None:
    """The table has no rows of the reverse direction, the page does not say what it is, or a run with one direction is made again."""
    project = copy(tmp_path)
    grid: dict[str, Any] = {
        "task": "input_mean", "layers": 2, "cell": ["vanilla", "gru"], "sequence_length": 9, "hidden_size": 6, "batch_size": 4, "updates": 3,
        "trace_every": 2, "clipping": ["none", "norm:0.1"], "loss_at": "last",
    }  # fmt: skip
    config = project.config() | {"study": "ways", "figures": ["depth_time", "engine_checks"]}
    config["sweeps"] = {"deep": {"seeds": 2, "jobs_over": ["cell"], "grid": grid}}
    for key in ("sequences", "traces"):
        config.pop(key)
    project.snakemake(*project.write_config("ways", config))
    kept = kept_runs(tmp_path / "results" / "ways" / "cache")
    grid["bidirectional"] = [False, True]
    project.snakemake(*project.write_config("ways", config))
    again = kept_runs(tmp_path / "results" / "ways" / "cache")
    assert kept.items() <= again.items()
    runs, layers, traces = (project.table(name, "ways") for name in ("runs", "layers", "traces"))
    assert runs["bidirectional"].value_counts().to_dict() == {False: 8, True: 8}
    assert layers["direction"].value_counts().to_dict() == {"forward": 16 * 2 * 2 * 9, "reverse": 8 * 2 * 2 * 9}
    last = layers.query("layer == 2 and direction == 'forward'")
    order = ["run_key", "update", "t"]
    np.testing.assert_array_equal(
        last.sort_values(order)["log10_grad_norm"], traces.sort_values(order)["log10_grad_norm"]
    )
    in_order = layers[["sweep", "run_key", "update", "layer", "direction", "t"]]
    assert in_order.equals(in_order.sort_values(list(in_order), ignore_index=True))
    assert (project.table("checks", "ways")["relative_error"] < 1e-10).all()
    assert runs["verified_error"].notna().any()
    page = (tmp_path / "results" / "ways" / "report.html").read_text(encoding="utf-8")
    assert "The reverse direction reads from the last step to the first" in page
    assert "bidirectional=True" in page  # of the run that is made again
    assert "Of a bidirectional network, the forward cell of the last layer is followed." in page
    table = page.index("Gradients on their way back: decades gained")
    assert "it is the gradient of the last layer's forward cell" in page[:table]  # "all vanish" is of one direction
