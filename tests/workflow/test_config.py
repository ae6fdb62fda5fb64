"""A wrong config stops before any job, with one clear message: which key, what was given, what is allowed, the nearest."""

from __future__ import annotations

import copy
import datetime
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

import rnn_core as rc
from study import plan
from study.config import approval, misplaced, reader
from study.config.canonical import canonical
from study.config.grids import grid_mistakes
from study.config.idle import without_effect
from study.config.rewritten import as_number
from study.tools import cells_page, choices_page, write_docs
from study.tools.write_docs import SCHEMA_FILE
from tests.support.study_project import ROOT, Project
from tests.support.study_project import copy as copy_project

STUDIES = [ROOT / "config.yaml", *sorted((ROOT / "studies").glob("*.yaml"))]


def load(file: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(file.read_text(encoding="utf-8")))


@pytest.fixture
def config() -> dict[str, Any]:
    return load(ROOT / "studies" / "tiny.yaml")


def put(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one key set."""
    changed = copy.deepcopy(config)
    *parents, last = path.split(".")
    place = changed
    for parent in parents:
        place = place[parent]
    place[last] = value
    return changed


@pytest.mark.parametrize("file", STUDIES, ids=lambda f: f.name)
def test_every_study_of_the_project_is_valid(file: Path) -> None:
    approval.check(load(file), folders=[ROOT, file.parent])


MISTAKES = [
    # key, value, what the message must hold
    ("figuers", ["growth_rate"], ["figuers", "no such key", "Did you mean 'figures'"]),
    ("sweeps.propagation.grid.activaton", ["tanh"], ["grid.activaton", "Did you mean 'activation'"]),
    ("sweeps.propagation.grid.activation", ["tanh", "relo"], ["grid.activation[1]", "'relo'", "allowed: identity, relu", "Did you mean 'relu'"]),
    ("sweeps.propagation.grid.activation", "tahn", ["grid.activation", "'tahn'", "Did you mean 'tanh'"]),
    ("sweeps.propagation.grid.activation", [], ["grid.activation", "empty"]),
    ("sweeps.propagation.grid.sequence_length", [-5], ["grid.sequence_length[0]", "-5", "at least 1"]),
    ("sweeps.propagation.grid.sequence_length", 2.5, ["grid.sequence_length", "2.5", "whole number"]),
    ("sweeps.propagation.grid.spectral_radius", ["0.9"], ["grid.spectral_radius[0]", "'0.9'", "a number", "text"]),
    ("sweeps.propagation.grid.spectral_radius", 0, ["grid.spectral_radius", "0", "above 0"]),
    ("sweeps.propagation.grid.spectral_radius", float("inf"), ["grid.spectral_radius", "inf", "finite"]),
    ("sweeps.propagation.grid.spectral_radius", [0.9, 0.9], ["grid.spectral_radius", "twice"]),
    ("sweeps.propagation.grid", {"weight_scale": [1.0], "initializer": "pascanu_tanh"}, ["grid.weight_scale", "has a size of its own"]),
    ("sweeps.propagation.grid", {"weight_scale": [1.0], "cell": "lru"}, ["grid.weight_scale", "has a form of its own"]),
    ("sweeps.propagation.grid.weight_scale", [1.0, 2.0], ["grid.spectral_radius", "weight_scale scales W_hh"]),
    ("sweeps.propagation.grid.scale", "variance", ["grid.scale", "no such key", "'weight_scale'"]),
    ("sweeps.propagation.grid.forget_bias", 1.0, ["grid.forget_bias", "gru", "lstm", "not vanilla", "a sweep of its own"]),
    ("sweeps.propagation.grid.hidden_size", True, ["grid.hidden_size", "true is", "whole number", "YAML reads yes, no, on and off"]),
    ("sweeps.propagation.grid.batch_size", False, ["false is not allowed; it must be a whole number (YAML reads yes, no"]),
    ("sweeps.propagation.grid.momentum", 0.9, ["no such key; it is a value of optimizer: write optimizer: momentum"]),
    ("sweeps.propagation.grid.cell", "gruu", ["lstm", "or a name under cells. Did you mean 'gru'?"]),
    ("sweeps.propagation.grid.task", "mine", ["digits", "or a name under sequences"]),
    ("cliff", {"biases": [-3.5]}, ["cliff.biases: [-3.5] has 1 value; give exactly 2"]),
    ("cliff", {"from": [1]}, ["cliff.from: [1] has 1 value; give exactly 2"]),
    ("cliff", {"weights": [1, 2, 3]}, ["has 3 values; give exactly 2"]),
    ("spectra", {"singular_values": list(range(1, 18))}, ["has 17 values; give at most 16"]),
    ("traces", False, ["false is not allowed; it must be a list: write its values in brackets, and [] for none"]),
    ("sweeps.propagation.grid.seed", [1, 2], ["grid.seed", "no such key"]),
    ("sweeps.clipping.grid.clipping", ["none", "norm:0"], ["grid.clipping[1]", "'norm:0'", "threshold above 0"]),
    ("sweeps.clipping.grid.clipping", "nrom:1.0", ["grid.clipping", "'nrom:1.0'", "norm:THRESHOLD"]),
    ("sweeps.clipping.grid.clipping", "norm:-1", ["grid.clipping", "'norm:-1'", "above 0"]),
    ("sweeps.clipping.grid.learning_rate", "1e-3", ["grid.learning_rate", "'1e-3'", "1.0e-3"]),
    ("sweeps.clipping.grid.task", ["digist"], ["grid.task[0]", "'digist'", "Did you mean 'digits'"]),
    ("sweeps.clipping.grid.sequence_length", [24, 65], ["grid.sequence_length", "65", "64 pixels"]),
    ("sweeps.clipping.grid.clipping", "norm:1e-400", ["grid.clipping", "'norm:1e-400'", "above 0 and finite"]),
    ("sweeps.clipping.grid.batch_size", 5000, ["grid.batch_size", "1438 digits"]),
    ("sweeps.clipping.grid.input_size", 3, ["grid.input_size", "1 input a step"]),
    ("sweeps.clipping.grid.loss_at", "every", ["grid.loss_at", "one label"]),
    ("sweeps.clipping.seeds", 0, ["sweeps.clipping.seeds", "0", "at least 1"]),
    ("sweeps.clipping.jobs_over", ["taks"], ["jobs_over", "'taks'", "Did you mean 'task'"]),
    ("sweeps", {}, ["sweeps", "empty"]),
    ("sweeps.Clipping", {"seeds": 1, "grid": {}}, ["'Clipping'", "lower-case"]),
    ("study", "My Study", ["study", "'My Study'", "lower-case"]),
    ("device", "gpu", ["device", "'gpu'", "cpu, cuda, auto"]),
    ("gate.tolerance.float64", 0, ["gate.tolerance.float64", "above 0"]),
    ("figures", ["growth_rat"], ["figures[0]", "Did you mean 'growth_rate'"]),
    ("sequences.waves.file", "studies/data/wave.csv", ["sequences.waves (studies/data/wave.csv)", "does not exist"]),
    ("sequences.waves.file", "studies/data/waves.xlsx", ["sequences.waves.file", "waves.xlsx", ".csv", ".parquet"]),
    ("sequences.waves.loss", "cross_entropy", ["sequences.waves.loss", "Did you mean 'softmax_cross_entropy'"]),
    ("sequences.digits", None, ["sequences.digits"]),
    # the field's other words, and other spellings
    ("sweeps.clipping.grid.lr", 0.1, ["grid.lr", "Did you mean 'learning_rate'"]),
    ("sweeps.clipping.grid.epochs", 3, ["grid.epochs", "Did you mean 'updates'"]),
    ("sweeps.propagation.grid.activation", "ReLU", ["'ReLU'", "Did you mean 'relu'"]),
    ("sweeps.propagation.grid.activation", "Linear", ["'Linear'", "Did you mean 'identity'"]),
    ("sweeps.propagation.grid.activation", True, ["true is not known", "put the word in quotes"]),
    ("sweeps.clipping.grid.optimizer", "Adam", ["'Adam'", "Did you mean 'adam'"]),
    ("sweeps.clipping.grid.task", "Digits", ["'Digits'", "Did you mean 'digits'"]),
    ("device", "GPU", ["'GPU'", "Did you mean 'cuda'"]),
    ("name", "mine", ["name: no such key", "Did you mean 'study'"]),
    # how YAML misreads a clipping rule
    ("sweeps.clipping.grid.clipping", 1.0, ["grid.clipping", 'write "norm:1.0"']),
    ("sweeps.clipping.grid.clipping", ["none", {"norm": 1.0}], ["grid.clipping[1]", 'write "norm:1.0"']),
    ("sweeps.clipping.grid.clipping", ["none", "norm"], ["grid.clipping[1]", "needs a threshold", '"norm:1.0"']),
    ("sweeps.clipping.grid.clipping", "Norm: 2", ["'Norm: 2'", 'Did you mean "norm:2"']),
    ("sweeps.clipping.grid.clipping", "nrom:1.5", ["'nrom:1.5'", 'Did you mean "norm:1.5"']),
    ("sweeps.clipping.grid.clipping", False, ["write none"]),
    ("sweeps.clipping.grid.clipping", "norm:1.0\n", ["grid.clipping", "is not allowed"]),
    ("memory_mb", "4GB", ["memory_mb", "'4GB'", "in MiB, without the unit: 4096"]),
    ("traces", ["weight_gradients"], ["traces[0]", "'weight_gradients'", "Did you mean 'weight_gradient'"]),
    ("traces", "weight_gradient", ["traces", "'weight_gradient'"]),
    ("memory_mb", "1.5 GiB", ["in MiB, without the unit: 1536"]),
    ("cliff", {"weight": [4, 6]}, ["cliff.weight: no such key", "Did you mean 'weights'"]),
    ("cliff", {"weights": [6, 4]}, ["cliff.weights: [6, 4] is not allowed", "the lower end first"]),
    ("cliff", {"biases": [-1]}, ["cliff.biases"]),
    ("cliff", {"points": 2.5}, ["cliff.points", "a whole number"]),
    ("cliff", {"target": 1}, ["cliff.target", "it must be below 1"]),
    ("cliff", {"clipping": ["norm:1.0", "signal:0.1"]}, ["cliff.clipping[1]", "'signal:0.1' acts on the way back"]),
    ("cliff", {"clipping": ["norm"]}, ["cliff.clipping[0]", "threshold"]),
    ("sweeps.propagation.grid.spectral_radius", "0.8, 1.2", ["write a list, with decimal points: [0.8, 1.2]"]),
    ("memory_mb", "512MB", ["memory_mb", "'512MB'", "write the number alone: 512"]),
    ("sweeps.clipping.grid.learning_rate", "0.1", ["'0.1'", "no quotes"]),
    ("sweeps.clipping.grid.hidden_size", None, ["grid.hidden_size: null is not allowed", "nothing stands there"]),
    ("sweeps.clipping.grid.input_scale", None, ["grid.input_scale: null is not allowed; it must be a number"]),
    ("memory_mb", [None, True], ["memory_mb: [null, true] is not allowed"]),
    ("study", 2024, ["study", 'put it in quotes, "2024"']),
    ("title", datetime.date(2024, 1, 1), ["title", 'put it in quotes, "2024-01-01"']),
    # names and numbers that meet a limit later
    ("study", "tiny\n", ["study", "not allowed"]),
    ("study", "x" * 65, ["study", "too long", "64"]),
    ("sweeps." + "y" * 300, {"seeds": 1, "grid": {}}, ["is too long", "at most 64"]),
    ("sweeps.one\n", {"seeds": 1, "grid": {}}, ["sweeps: 'one", "is not allowed"]),
    ("sweeps.clipping.grid.trace_every", 5_000_000_000, ["grid.trace_every", "at most 2147483647"]),
    ("sweeps.clipping.grid.updates", 2**31, ["grid.updates", "at most 2147483647"]),
    ("sweeps.clipping.seeds", 2**31, ["sweeps.clipping.seeds", "at most"]),
    ("sweeps.propagation.grid.hidden_size", 1_000_000, ["GiB of memory", "smaller hidden_size"]),
    ("sweeps.propagation.seeds", 1_000_000, ["runs in", "confirm_runs="]),
    # keys in another place than they belong
    ("activation", "relu", ["activation: no such key here; it belongs under sweeps.NAME.grid"]),
    ("sweeps.clipping.activation", "relu", ["sweeps.clipping.activation: no such key here; it belongs under sweeps.clipping.grid"]),
    ("sweeps.clipping.lr", 0.1, ["sweeps.clipping.lr", "did you mean 'learning_rate'? It belongs under sweeps.clipping.grid"]),
    ("sweeps.clipping.grid.seeds", 3, ["grid.seeds: no such key here; it belongs under sweeps.clipping"]),
    ("sweeps.clipping.figures", ["growth_rate"], ["sweeps.clipping.figures", "it belongs at the top level"]),
    ("gate.float64", 1e-10, ["gate.float64", "it belongs under gate.tolerance"]),
    ("sequences.waves.sep", ";", ["sequences.waves.sep", "Did you mean 'delimiter'"]),
    ("sweeps.clipping.grid.data", "digits", ["grid.data: no such key", "Did you mean 'task'"]),
    # one value where a list belongs, and the other way round
    ("sweeps.propagation.grid.activation", {"relu": None, "tanh": None}, ["keys without values", "[relu, tanh]"]),
    ("sweeps.propagation.grid.spectral_radius", {0.5: None, 1.0: None}, ["keys without values", "[0.5, 1.0]"]),
    ("sweeps.clipping.grid.clipping", {"norm:1.0": None}, ['["norm:1.0"]']),
    ("sequences.waves.inputs", "height", ["sequences.waves.inputs", "a list: write [height]"]),
    ("sequences.waves.target", ["kind"], ["sequences.waves.target", "Did you mean 'targets'"]),
    ("sweeps.propagation.grid.activation", "relu, tanh", ["'relu, tanh' is one text; write a list: [relu, tanh]"]),
    ("sweeps.propagation.grid.spectral_radius", "0,5", ["write 0.5 with a decimal point, or a list: [0, 5]"]),
    ("figures", "growth_rate", ["a list: write [growth_rate]"]),
    ("figures", {"growth_rate": None}, ["[growth_rate]"]),
    ("sequences.waves.file", ["waves.csv"], ["write waves.csv alone, without brackets"]),
    ("sweeps", [{"seeds": 1, "grid": {}}], ["without a - before them"]),
    ("sweeps.clipping.seeds", [0, 1, 2], ["how many seeds there are: write 3"]),
    ("title", "", ["title: is empty; write a sentence"]),
    ("question", " \t", ["question: is empty; write a sentence"]),
    # numbers that are none
    ("sweeps.propagation.grid.spectral_radius", "np.linspace(0.5, 1.5, 5)", ["a config holds no code", "a range as {from: 0.5"]),
    ("sweeps.propagation.grid.spectral_radius", "0.5:1.5:0.1", ["write a range as {from: 0.5, to: 1.5, step: 0.1}"]),
    ("sweeps.propagation.grid.spectral_radius", "0.5 .. 1.5", ["write a range as {from: 0.5, to: 1.5, step: …}"]),
    ("sweeps.propagation.grid.spectral_radius", {"from": 1, "to": 10**400, "step": 1}, ["must be finite"]),
    # ranges
    ("sweeps.propagation.grid.spectral_radius", {"from": 0.5, "to": 1.5, "step": 0.3}, ["grid.spectral_radius", "do not meet", "1.4 or 1.7"]),
    ("sweeps.propagation.grid.spectral_radius", {"from": 0.5, "to": 1.5}, ["grid.spectral_radius", "step is missing"]),
    ("sweeps.propagation.grid.spectral_radius", {"from": 2, "to": 1, "step": 0.1}, ["is below from"]),
    ("sweeps.propagation.grid.spectral_radius", {"from": 1, "to": 2, "by": 0.1}, ["spectral_radius.by", "Did you mean 'step'"]),
    ("sweeps.propagation.grid.spectral_radius", {"from": 0.0, "to": 2.0, "step": 0.5}, ["grid.spectral_radius[0]", "above 0"]),
    ("sweeps.propagation.grid.spectral_radius", {"from": 0.0, "to": 2.0, "step": 0}, ["grid.spectral_radius.step", "above 0"]),
    ("sweeps.propagation.grid.spectral_radius", {"from": 1.0, "to": float("inf"), "step": 1.0}, ["must be finite"]),
    ("sweeps.propagation.grid.spectral_radius", {"from": 0.0001, "to": 2.0, "step": 0.0001}, ["20,000 values", "at most 10,000"]),
    ("sweeps.propagation.grid.sequence_length", {"from": 10, "to": 20, "step": 2.5}, ["grid.sequence_length.step", "whole number"]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value", "expected"), MISTAKES, ids=[f"{k}={v}" for k, v, _ in MISTAKES])
def test_a_mistake_is_named_with_its_remedy(config: dict[str, Any], key: str, value: Any, expected: list[str]) -> None:
    if key == "sequences.digits":
        value = config["sequences"]["waves"]
    with pytest.raises(approval.ConfigError) as error:
        approval.check(put(config, key, value), folders=[ROOT])
    for part in expected:
        assert part in str(error.value)


def test_all_mistakes_are_told_at_once(config: dict[str, Any]) -> None:
    """An unknown cell or task was told only after all other mistakes were mended: one more call of Snakemake for each."""
    grid = {"cell": ["gru", "Gru"], "task": "mine", "optimizer": "Adam", "dtype": "float"}
    with pytest.raises(approval.ConfigError) as error:
        approval.check(put(config, "sweeps.propagation.grid", grid), folders=[ROOT])
    text = str(error.value)
    assert text.startswith("The config has 4 mistakes:") and "grid.cell[1]: 'Gru'" in text and "'mine'" in text
    own = {"cells": {"mine": {"file": "m.py", "class": "M"}, "odd": {"file": "m.py"}}}
    for cells, count in ((own["cells"], 2), ({"mine": own["cells"]["mine"]}, 1), ([1], 2)):
        with pytest.raises(approval.ConfigError) as error:
            approval.check(
                put(config, "sweeps.propagation.grid", {"cell": "mine", "dtype": "float"}) | {"cells": cells}
            )
        assert "has a mistake:" in str(error.value) if count == 1 else f"{count} mistakes" in str(error.value)
        assert "'mine' is not known" not in str(error.value)


@pytest.mark.parametrize("cell", ["vanilla", "lstm"])
def test_more_than_there_is_to_measure_has_a_note(config: dict[str, Any], cell: str) -> None:
    """Lags beyond every sequence had a note, exponents beyond every state and samples beyond every batch had none."""
    asked = put(config, "sweeps.propagation.grid", {"cell": cell, "hidden_size": [4, 8], "batch_size": [2, 3]})
    asked["sweeps"] = {"propagation": asked["sweeps"]["propagation"]}
    parts = 2 if cell == "lstm" else 1
    notes = " ".join(without_effect(canonical(asked | {"spectra": {"exponents": 8 * parts + 1, "samples": 4}})))
    assert f"spectra.exponents: {8 * parts + 1} is more than any network has; all {8 * parts} of the largest" in notes
    assert "spectra.samples: 4 is more than a batch has; all 3 sequences are measured" in notes
    enough = " ".join(without_effect(canonical(asked | {"spectra": {"exponents": 8 * parts, "samples": 3}})))
    assert "is more than" not in enough


@pytest.mark.parametrize("text", ["1e-3", "1e3", "1.0e3", "2E5", "1.5E-7", "-1e+2", "1.e6", " 3e1"])
def test_the_number_that_is_proposed_is_one_to_yaml(text: str) -> None:
    """`1.0e3` is text to YAML. The advice was to write `1.0e-3`, another number."""
    proposed = as_number(text).rpartition(" ")[2]
    number = yaml.safe_load(proposed)
    assert isinstance(number, float) and number == float(text)


def test_every_key_is_sent_to_where_it_belongs() -> None:
    """A key of the schema that stands elsewhere is called unknown, or sent to a place that does not have it."""
    for place, keys in misplaced.keys_by_place():
        for key in keys:
            assert misplaced.belongs_under(key, place) == (".".join(place) or "top level")
            assert misplaced.belongs_under(key, ("nowhere",)) is not None
    assert misplaced.belongs_under("updates", ("sweeps", "one")) == "sweeps.one.grid"
    assert misplaced.belongs_under("file", ("cells", "mine", "options")) == "cells.mine"
    assert misplaced.belongs_under("relu", ()) is None


@pytest.mark.parametrize(("axis", "value"), [("spectral_radius", 1e-300), ("spectral_radius", 1e39), ("learning_rate", 1e-40), ("clipping", "norm:1e300")])  # fmt: skip
def test_what_float32_does_not_hold_is_refused_with_float32_alone(
    config: dict[str, Any], axis: str, value: Any
) -> None:
    grid = config["sweeps"]["clipping"]["grid"] | {axis: value}
    config["sweeps"]["clipping"]["grid"] = grid | {"dtype": "float64"}
    approval.check(config, folders=[ROOT])
    config["sweeps"]["clipping"]["grid"] = grid | {"dtype": ["float64", "float32"]}
    with pytest.raises(approval.ConfigError, match=rf"grid\.{axis}: .* with dtype float32, which holds 1.18e-38"):
        approval.check(config, folders=[ROOT])


def test_a_large_study_is_made_once_it_is_confirmed(config: dict[str, Any]) -> None:
    large = put(config, "sweeps.propagation.seeds", 1_000_000)
    runs, _ = plan.count(large)
    approval.check({**large, "confirm_runs": runs}, folders=[ROOT])
    with pytest.raises(approval.ConfigError, match=f"confirm_runs={runs}"):
        approval.check({**large, "confirm_runs": runs - 1}, folders=[ROOT])
    assert "confirm_runs" not in canonical({**large, "confirm_runs": runs})


@pytest.mark.parametrize(("given", "values"), [
    ({"from": 0.1, "to": 0.5, "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5]),  # 0.1 + 0.2 is 0.30000000000000004
    ({"from": 0.7, "to": 1.3, "step": 0.05}, [0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3]),
    ({"from": 1.0e-3, "to": 3.0e-3, "step": 1.0e-3}, [0.001, 0.002, 0.003]),
    ({"from": 1, "to": 3, "step": 1}, [1, 2, 3]),
    ({"from": 1.5, "to": 1.5, "step": 0.1}, [1.5]),
])  # fmt: skip
def test_a_range_is_the_list_that_one_would_write(config: dict[str, Any], given: Any, values: list[Any]) -> None:
    plain = canonical(put(config, "sweeps.propagation.grid.spectral_radius", given))
    listed = plain["sweeps"]["propagation"]["grid"]["spectral_radius"]
    assert listed == values
    assert [type(value) for value in listed] == [type(value) for value in values]
    names = [block.name for block in plan.blocks(plain).values() if block.sweep == "propagation"]
    assert not [name for name in names if len(name) > 60]


def test_whole_numbers_may_be_written_with_a_point(config: dict[str, Any]) -> None:
    """`seeds: 2.0` was a traceback while planning."""
    written = put(put(config, "sweeps.propagation.seeds", 2.0), "sweeps.propagation.grid.sequence_length", [8.0, 16])
    approval.check(written, folders=[ROOT])
    plain = canonical(written)["sweeps"]["propagation"]
    assert (plain["seeds"], plain["grid"]["sequence_length"]) == (2, [8, 16])
    assert type(plain["seeds"]) is int
    assert canonical(canonical(written)) == canonical(written)


@pytest.mark.parametrize(
    "axis",
    [
        name
        for name, axis in rc.experiment.axes().items()
        if axis.unset and name not in ("cell_options", "spectral_radius")
    ],
)
def test_null_stands_beside_values_where_a_setting_may_be_left_unset(config: dict[str, Any], axis: str) -> None:
    halves = dict.fromkeys(("residual_step", "residual_leak", "layer_norm_leak", "success_below"), 0.5)
    value = {"loss_at": "last", "input_size": 6, **halves}.get(axis, 3)
    grid = {
        "task": "temporal_order",
        "cell": (rc.experiment.axes()[axis].cells or ("residual",))[0],
        axis: [None, value],
    }
    config["sweeps"] = {"one": {"seeds": 1, "grid": grid, "jobs_over": [axis]}}
    approval.check(config, folders=[ROOT])
    experiments = [rc.Experiment(**run) for block in plan.blocks(config).values() for run in block.runs()]
    assert [getattr(e, axis) for e in experiments] == grid[axis]


@pytest.mark.parametrize(("changes", "note"), [
    ({"truncation": 500}, "truncation: 500 changes nothing; no sequence of this sweep is longer than 24"),
    ({"truncation": [None, 5]}, None),
    ({"trace_every": 10**6}, "trace_every: 1000000 is more than the"),
    ({"clipping": ["none", "adagc:1.05"]}, "clipping: adagc:1.05 clips as norm:1.0 does; its own threshold acts after 100 updates, and there are 12"),
    ({"clipping": ["norm:1.0", "zclip:2.5"]}, "clipping: zclip:2.5 changes nothing; it clips none of the first 25 gradients, and there are 12"),
    ({"updates": 0, "learning_rate": [0.1, 0.2]}, "every run is made 2 times"),
    ({"record_every": 10**6}, "record_every: 1000000 is more than the"),
])  # fmt: skip
def test_settings_that_change_nothing_are_named(
    config: dict[str, Any], changes: dict[str, Any], note: str | None
) -> None:
    config["sweeps"]["clipping"]["grid"] |= {"sequence_length": 24, **changes}
    notes = [text for text in without_effect(config) if f".{next(reversed(changes))}" in text]
    assert [note is not None and note in text for text in notes] == ([True] if note else [])


def test_a_tolerance_that_checks_nothing_is_named(config: dict[str, Any]) -> None:
    config["gate"]["tolerance"]["float64"] = 1.0
    assert [t for t in without_effect(config) if "gate.tolerance.float64: 1 lets errors of 100 % pass" in t]


@pytest.mark.parametrize("device", ["cpu", "cuda", "auto"])
def test_training_that_a_gpu_slows_down_is_named(config: dict[str, Any], device: str) -> None:
    """Small networks train several times as long on a GPU, and nobody said so before it was noticed."""

    def told() -> list[str]:
        return [text for text in without_effect(config) if "it is faster with device: cpu" in text]

    config["device"] = device
    assert len(told()) == (device != "cpu")
    assert device == "cpu" or told()[0].startswith(f"device: {device}: training goes run by run")
    config["sweeps"]["clipping"]["grid"]["hidden_size"] = [12, 256]
    assert not told()
    config["sweeps"]["clipping"]["grid"] |= {"hidden_size": 12, "updates": 0}
    assert not told()


def test_a_sweep_that_another_one_holds_is_named(config: dict[str, Any]) -> None:
    """It looks like twice the runs, and every run is computed once."""
    sweep = config["sweeps"]["propagation"]
    config["sweeps"]["again"] = {**sweep, "seeds": 1, "grid": {**sweep["grid"], "activation": "tanh"}}
    [note] = [text for text in without_effect(config) if text.startswith("sweeps.")]
    assert note == "sweeps.again: 6 runs of it, all there are, stand in sweeps.propagation too; they are computed once"
    config["sweeps"]["again"] = sweep
    assert len([text for text in without_effect(config) if "computed once" in text]) == 1
    config["sweeps"]["again"] = {**sweep, "grid": {**sweep["grid"], "activation": ["tanh", "relu"]}}
    assert not [text for text in without_effect(config) if "computed once" in text]


def test_sequences_that_no_sweep_uses_are_named(config: dict[str, Any]) -> None:
    config["sequences"]["spare"] = config["sequences"]["waves"]
    assert [text for text in without_effect(config) if text.startswith("sequences.spare: no sweep uses it")]


def test_a_long_block_name_ends_in_a_digest_and_blocks_stay_apart(config: dict[str, Any]) -> None:
    axes = {
        name: axis
        for name, axis in rc.experiment.axes().items()
        if name not in ("seed", "residual_step", "residual_leak")
    }
    grid = {name: [axis.choices[0]] if axis.choices and axis.kind == "choice" else [None if axis.unset else 1] for name, axis in axes.items()}  # fmt: skip
    grid |= {"task": ["white_noise"], "clipping": ["none"], "spectral_radius": [1.0, 1.5]}
    config["sweeps"] = {"one": {"seeds": 1, "grid": grid, "jobs_over": list(grid)}}
    names = [block.name for block in plan.blocks(config).values()]
    assert len(set(names)) == 2
    assert all(len(name.encode()) <= plan.LONGEST_NAME for name in names)


def test_mistakes_are_given_with_file_and_line_in_the_files_order(tmp_path: Path) -> None:
    text = (ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8").replace("device: cpu", "device: gpu")
    lines = [*text.splitlines(), "extra: 1"]
    (tmp_path / "wrong.yaml").write_text("\n".join(lines), encoding="utf-8")
    document = reader.read(tmp_path / "wrong.yaml")
    with pytest.raises(approval.ConfigError) as error:
        approval.check(document.values, document, ROOT)
    device = next(number for number, line in enumerate(lines, 1) if line.startswith("device"))
    head, first, second = str(error.value).splitlines()
    assert head == f"{tmp_path}/wrong.yaml has 2 mistakes:"
    assert first.startswith(f"  line {device}, device: 'gpu' is not known")
    assert second.startswith(f"  line {len(lines)}, extra: no such key")


def test_all_mistakes_are_named_at_once(config: dict[str, Any]) -> None:
    wrong = put(put(config, "device", "gpu"), "sweeps.propagation.seeds", -1)
    with pytest.raises(approval.ConfigError) as error:
        approval.check(wrong, folders=[ROOT])
    assert "device" in str(error.value)
    assert "sweeps.propagation.seeds" in str(error.value)


def test_a_missing_key_is_named(config: dict[str, Any]) -> None:
    del config["gate"]
    del config["device"]
    with pytest.raises(approval.ConfigError) as error:
        approval.check(config, folders=[ROOT])
    assert (
        str(error.value)
        == "The config has a mistake:\n  top level: device, gate are missing; a study needs study, title, question, device, gate, sweeps, figures, as studies/tiny.yaml has them"
    )


def test_schema_and_columns_page_are_up_to_date() -> None:
    """`make docs` was run after the last change of Experiment, a registry, a column or a figure."""
    assert json.loads(SCHEMA_FILE.read_text(encoding="utf-8")) == json.loads(json.dumps(write_docs.schema()))
    assert write_docs.COLUMNS_PAGE.read_text(encoding="utf-8") == write_docs.columns_page()
    assert write_docs.SETTINGS_PAGE.read_text(encoding="utf-8") == write_docs.settings_page()
    assert choices_page.PAGE.read_text(encoding="utf-8") == choices_page.page()
    assert cells_page.PAGE.read_text(encoding="utf-8") == cells_page.page()


def test_every_key_of_the_schema_is_described() -> None:
    def visit(schema: dict[str, Any], path: str) -> None:
        for name, inner in schema.get("properties", {}).items():
            assert inner.get("description"), f"{path}.{name} has no description"
            visit(inner, f"{path}.{name}")
        if isinstance(schema.get("additionalProperties"), dict):
            visit(schema["additionalProperties"], f"{path}.*")

    schema = write_docs.schema()
    Draft202012Validator.check_schema(schema)
    visit(schema, "")


def test_every_key_of_the_default_config_has_a_comment() -> None:
    """A reader of config.yaml is told what each key means where it stands."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    seen: dict[str, bool] = {}
    for line in text.splitlines():
        key, colon, rest = line.strip().partition(":")
        if colon and key.isidentifier():
            seen[key] = seen.get(key, False) or "#" in rest
    undescribed = [key for key, commented in seen.items() if not commented]
    assert not undescribed


@pytest.mark.parametrize("text", ["none", "norm:1.0", "value:0.1", "norm:1e-3", "norm:.5", "norm:0", "norm:0.0", "none:1", "norm", "norm:x", "value:-1"])  # fmt: skip
def test_schema_and_engine_agree_on_clipping_rules(config: dict[str, Any], text: str) -> None:
    def allowed(call: Any, *arguments: Any, **named: Any) -> bool:
        try:
            call(*arguments, **named)
        except (ValueError, approval.ConfigError):
            return False
        return True

    in_config = allowed(approval.check, put(config, "sweeps.clipping.grid.clipping", text), folders=[ROOT])
    assert in_config == allowed(rc.parse_clipping, text)


@pytest.mark.workflow
def test_a_wrong_config_stops_snakemake_before_any_job(tmp_path: Path) -> None:
    project: Project = copy_project(tmp_path / "project")
    wrong = put(project.config(), "sweeps.propagation.grid.activation", ["tahn"])
    done = project.snakemake(*project.write_config("wrong", wrong), check=False)
    assert done.returncode != 0
    message = done.stdout + done.stderr
    assert "sweeps.propagation.grid.activation[0]: 'tahn' is not known" in message
    assert "Did you mean 'tanh'?" in message
    assert "Traceback" not in message
    assert not (project.root / "results").exists()


@pytest.mark.workflow
def test_a_given_config_replaces_the_default_and_is_not_merged_into_it(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    small = project.config()
    del small["sweeps"]["clipping"]
    jobs = project.rules_to_run(*project.write_config("small", small))
    assert jobs["run_block"] == 3


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (
            {"cell": ["vanilla", "indrnn"], "initializer": ["identity", "ring"]},
            r"initializer\.1: 'ring' does not apply to the cell 'indrnn'",
        ),
        (
            {"task": "input_mean", "input_correlation": [0.0, 0.5]},
            "input_correlation: only white_noise has correlated inputs, not input_mean",
        ),
        (
            {"cell": ["vanilla", "lstm"], "omega": [0.0, 1.0]},
            "omega: only vanilla and residual have one: .*; give lstm a sweep without it",
        ),
        (
            {"cell": ["vanilla", "gru"], "flossing": [0, 9]},
            "flossing: only vanilla and residual can be flossed: .*; give gru a sweep without it",
        ),
        (
            {"layers": [1, 2], "flossing": 9},
            "flossing: an exponent is of one recurrence, and every layer and direction has its own; give layers a sweep without it",
        ),
        (
            {"hidden_size": [8, 64], "flossing": 9, "flossing_exponents": [4, 16]},
            "flossing_exponents: 16 is too many; a network of hidden_size: 8 has no more than that",
        ),
        (
            {"cell": ["vanilla", "mingru"], "spectral_radius": [0.9, 1.0]},
            "spectral_radius: it does not apply to the cell mingru: it has no W_hh.*; give mingru a sweep of its own",
        ),
        (
            {"cell": "mingru", "initializer": "orthogonal"},
            "initializer: it does not apply to the cell mingru: it has no W_hh.*; leave it out",
        ),
    ],
)
def test_what_a_cell_or_a_task_cannot_have_is_found_before_the_study(
    config: dict[str, Any], grid: dict[str, Any], said: str
) -> None:
    """An initialiser that a diagonal W_hh cannot have, or a correlation that a task ignores, ends a job in the middle of the study."""
    config["sweeps"] = {"one": {"seeds": 1, "jobs_over": [], "grid": {"sequence_length": 9, **grid}}}
    assert re.search(said, "; ".join(f"{'.'.join(map(str, path[3:]))}: {text}" for path, text in grid_mistakes(config)))


@pytest.mark.parametrize("cells", ["lstm", ["residual", "gru"], None])
def test_a_setting_of_another_cell_is_named_before_any_job(config: dict[str, Any], cells: Any) -> None:
    """residual_leak beside an LSTM is found only when the gate runs."""
    grid = next(iter(config["sweeps"].values()))["grid"]
    grid["residual_leak"] = 0.5
    if cells:
        grid["cell"] = cells
    with pytest.raises(approval.ConfigError, match=r"residual_leak: only the cell 'residual' has it, not .*sweep of"):
        approval.check(config)
    grid["cell"] = "residual"
    approval.check(config)
