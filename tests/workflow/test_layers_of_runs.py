"""Several layers in a study: the table of every layer, the gate, the sample that is verified, costs, and what is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import rnn_core as rc
from rnn_core import bptt
from study import wide
from study.config import idle
from study.config.canonical import canonical
from study.cost import model
from study.files.cache import Cache
from study.plan import Block
from study.runs import gate, theory
from study.runs.checks import CheckFailed
from study.runs.runner import BlockRunner, finish
from study.runs.verification import Sample, verified
from study.screen.progress import Record
from study.tables.columns import TABLES, tables_of
from tests.support.refusals import refusal_of
from tests.support.study_project import ROOT, copy, kept_runs

GRID: dict[str, list[Any]] = {
    "layers": [1, 2, 4], "cell": ["vanilla", "lstm"], "task": ["input_mean"], "updates": [0, 2], "hidden_size": [5], "sequence_length": [7],
    "batch_size": [3], "trace_every": [1],
}  # fmt: skip
BLOCK = Block("sweep", "all", {}, GRID, 2)


@pytest.fixture
def config() -> dict[str, Any]:
    given = dict(yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8")))
    given["sweeps"]["propagation"]["grid"]["layers"] = [1, 2]
    return given


def run(folder: Path) -> dict[str, pd.DataFrame]:
    runner = BlockRunner(Cache(folder / "cache", "e"), {}, "cpu")
    files = {table: folder / f"{table}.parquet" for table in ("traces", "updates", "layers", "runs", "timings")}
    finish(BLOCK, runner, Record("run_block", folder / "record.json"), files, {"engine": "e", "block": {}})
    return {table: pq.read_table(file).to_pandas() for table, file in files.items()}


def test_a_block_writes_every_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a layer are lost in the cache, or a run with one layer has none."""
    first = run(tmp_path)
    rows, runs = first["layers"], first["runs"].set_index("run_key")
    assert (rows.groupby("run_key")["layer"].max() == runs["layers"]).all()
    for each in BLOCK.runs():
        experiment = rc.Experiment(**each)
        result, own = rc.run(experiment), rows[rows["run_key"] == experiment.key]
        last = own[own["layer"] == experiment.layers]
        np.testing.assert_array_equal(last["log10_grad_norm"], result.traces["log10_grad_norm"])
        if experiment.layers > 1:
            for name in ("update", "layer", "t", "log10_grad_norm", "log10_immediate_norm", "hidden_rms"):
                np.testing.assert_array_equal(own[name], result.layers[name])
    monkeypatch.setattr(BlockRunner, "compute", lambda self, experiments: iter([] if not experiments else [1 / 0]))
    again = run(tmp_path)
    for table, values in first.items():
        pd.testing.assert_frame_equal(again[table], values)


def test_a_study_of_one_layer_has_no_such_table(config: dict[str, Any]) -> None:
    assert tables_of(config) == (*TABLES, "layers")
    config["sweeps"]["propagation"]["grid"]["layers"] = 1
    assert tables_of(config) == TABLES


def test_the_gate_checks_both_ends_and_sees_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stacks are not checked, or a layer below is not."""
    sweeps = {
        "one": {
            "grid": {
                "layers": [1, 2, 3],
                "hidden_size": 5,
                "sequence_length": 12,
                "input_scale": 0.3,
                "loss_at": "last",
            }
        }
    }
    tolerance = {"float64": 1e-10}
    assert {e.layers for _, e in gate.cases(sweeps)} == {1, 3}
    rows = gate.table(sweeps, {}, "cpu", tolerance)
    assert set(rows["oracle"]) == {"torch.autograd", "torch.nn.RNN"} and max(rows["relative_error"]) < 1e-10
    back = bptt.back_through_stack

    def wrong(tapes: Any, grad_hidden: Any, **options: Any) -> Any:
        found = back(tapes, grad_hidden, **options)
        return [rc.backward(tapes[0], found[1].hidden), *found[1:]] if len(tapes) > 1 else found

    monkeypatch.setattr(bptt, "back_through_stack", wrong)
    with pytest.raises(CheckFailed, match=r"1 of 4 checks failed.*layer 1.*layers=3"):
        gate.table(sweeps, {}, "cpu", tolerance)


def test_deep_runs_are_verified(tmp_path: Path) -> None:
    runner = BlockRunner(Cache(tmp_path / "cache", "e"), {}, "cpu")
    experiment = rc.Experiment(layers=3, task="input_mean", updates=3, trace_every=1, hidden_size=5, sequence_length=8)
    entry = verified(experiment, runner, 1e-10)
    assert entry.checks is not None and len(entry.checks) == 3
    assert all(check["relative_error"] < 1e-10 for check in entry.checks) and len(entry.layers["t"]) == 3 * 3 * 8
    assert Sample.__doc__


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"omega": 0.1, "activation": ["tanh"]},
            ["grid.omega", "Ω is about one matrix W_hh, and every layer and direction has its own"],
        ),
        ({"layers": [0, 2]}, ["grid.layers[0]", "at least 1"]),
        ({"layers": 65}, ["grid.layers", "at most 64"]),
        ({"layers": "two"}, ["grid.layers", "whole number"]),
        ({"num_layers": 2}, ["num_layers", "Did you mean 'layers'"]),
    ],
)
def test_a_mistake_is_named(config: dict[str, Any], change: dict[str, Any], expected: list[str]) -> None:
    config["sweeps"]["propagation"]["grid"] |= change
    if "activation" in change:
        config["sweeps"]["propagation"].pop("jobs_over")
    refusal = refusal_of(config)
    assert all(text in refusal for text in expected), refusal


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("spectra", {"samples": 1}, "a spectrum is that of one recurrence"),
        ("memory_mb", 100, "what goes from layer to layer is kept whole; leave the key memory_mb out, or layers"),
    ],
)
def test_what_a_stack_has_not_is_refused(config: dict[str, Any], key: str, value: Any, expected: str) -> None:
    refusal = refusal_of(config | {key: value})
    assert "grid.layers" in refusal and expected in refusal


def test_a_figure_without_a_stack_is_told(config: dict[str, Any]) -> None:
    config["figures"] = ["depth_time"]
    told = "figures: depth_time shows nothing without a sweep with layers above 1"
    assert told not in idle.without_effect(canonical(config))
    config["sweeps"]["propagation"]["grid"]["layers"] = 1
    assert told in idle.without_effect(canonical(config))


def test_dynamic_theory_is_of_one_layer(config: dict[str, Any]) -> None:
    """It takes inputs to be white, and a layer above has the states of the one below."""
    grid: dict[str, Any] = {"cell": "gru", "layers": [2, 3], "task": "white_noise"}
    config["sweeps"] = {"deep": {"seeds": 1, "grid": grid}}
    assert not wide.sampled_settings(config)
    grid["layers"] = [1, 2]
    [setting] = wide.sampled_settings(config)
    found = theory.Theory([])
    found.rows = {("deep", *(setting[name] for name in wide.SETTING)): {"dynamic_rate": -0.1, "preactivation_rms": 1.0}}
    import pyarrow as pa

    names = [
        *wide.SETTING,
        "dynamic_rate",
        "predicted_rate",
        "predicted_by",
        "deviation",
        "linear_rate",
        "rest_rate",
        "growth_rate",
    ]
    rows = {name: [setting.get(name)] * 2 for name in names} | {"sweep": ["deep"] * 2, "layers": [1, 2]}
    kinds = {
        name: pa.array(values) if values[0] is not None else pa.nulls(2, pa.float64()) for name, values in rows.items()
    }
    kinds["predicted_by"] = pa.nulls(2, pa.string())
    joined = found.join(pa.table(kinds))
    assert joined["dynamic_rate"].to_pylist() == [-0.1, None]


def test_costs_grow_with_layers() -> None:
    """A plan counts one layer for four."""

    def block(layers: list[int]) -> Block:
        return Block("sweep", "all", {}, GRID | {"layers": layers, "hidden_size": [32]}, 2)

    one, four = (model.block_work(block([L])) for L in (1, 4))
    assert four["fast_step"] >= 4 * one["fast_step"] and four["fast_flop"] > 4 * one["fast_flop"]
    both = model.block_work(block([1, 4]))
    assert both["fast_flop"] == pytest.approx(one["fast_flop"] + four["fast_flop"])
    config: dict[str, Any] = {}
    assert model.largest_run_mb(block([4]), config) == pytest.approx(4 * model.largest_run_mb(block([1]), config))
    assert math.isfinite(model.block_cost(block([4]), config).seconds)


# ---- a whole study ----------------------------------------------------------------------------------------------------------


@pytest.mark.workflow
def test_a_study_of_stacks_is_whole(tmp_path: Path) -> None:
    """The table of every layer is not gathered, or trained stacks have no rows; a grown axis makes old runs again."""
    project = copy(tmp_path)
    grid = {
        "task": "input_mean", "layers": [1, 2], "cell": ["vanilla", "gru"], "sequence_length": 9, "hidden_size": 6, "batch_size": 4, "updates": 3,
        "trace_every": 2, "clipping": ["none", "norm:0.1"], "loss_at": "last",
    }  # fmt: skip
    config = project.config() | {"study": "stacks", "figures": ["depth_time", "engine_checks"]}
    config["sweeps"] = {"deep": {"seeds": 2, "jobs_over": ["cell"], "grid": grid}}
    for key in ("sequences", "traces"):
        config.pop(key)
    study = project.write_config("stacks", config)
    project.snakemake(*study)
    runs, layers, traces = (project.table(name, "stacks") for name in ("runs", "layers", "traces"))
    assert len(runs) == 16 and runs["layers"].value_counts().to_dict() == {1: 8, 2: 8}
    assert len(layers) == (8 + 2 * 8) * 2 * 9 and len(traces) == 16 * 2 * 9
    last = layers.merge(runs[["run_key", "layers"]]).query("layer == layers")
    order = ["run_key", "update", "t"]
    np.testing.assert_array_equal(
        last.sort_values(order)["log10_grad_norm"], traces.sort_values(order)["log10_grad_norm"]
    )
    assert (project.table("checks", "stacks")["relative_error"] < 1e-10).all()
    assert runs["verified_error"].notna().any()
    kept = kept_runs(tmp_path / "results" / "stacks" / "cache")
    grid["layers"] = [1, 2, 3]
    project.snakemake(*project.write_config("stacks", config))
    again = kept_runs(tmp_path / "results" / "stacks" / "cache")
    assert len(project.table("runs", "stacks")) == 24 and kept.items() <= again.items()
