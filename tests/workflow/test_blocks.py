"""A block of runs, without Snakemake: rows do not depend on what the cache holds, and the cache on nothing but the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
import run_block
import study_tables
from oracle_checks import CheckFailed
from study_cache import Cache, Entry
from study_plan import Block

TOLERANCE = {"float64": 1e-10, "float32": 1e-3}
GRID: dict[str, list[Any]] = {
    "activation": ["tanh", "relu"],
    "spectral_radius": [0.9, 1.6],
    "clipping": ["none", "norm:1.0"],
    "task": ["input_mean"],
    "updates": [4],
    "learning_rate": [0.5],
    "hidden_size": [6],
    "sequence_length": [7],
    "batch_size": [3],
}


def block(seeds: int = 1, **changed: list[Any]) -> Block:
    return Block("sweep", "all", {}, {**GRID, **changed}, seeds)


def runner(folder: Path, engine: str = "e", sequences: dict[str, str] | None = None) -> run_block.BlockRunner:
    return run_block.BlockRunner(Cache(folder, engine), sequences or {}, "cpu", TOLERANCE)


def tables(found: dict[str, Any]) -> dict[str, Any]:
    return {name: study_tables.build(name, found[name]) for name in ("traces", "updates", "runs", "checks")}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for name, table in tables(one).items():
        assert table.equals(tables(other)[name]) or table.to_pandas().equals(tables(other)[name].to_pandas()), name


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all runs that are computed, in order."""
    keys: list[str] = []
    run = rc.run

    def counted(experiment: rc.Experiment, *arguments: Any, **named: Any) -> rc.Result:
        keys.append(experiment.key)
        return run(experiment, *arguments, **named)

    monkeypatch.setattr(rc, "run", counted)
    return keys


def test_a_second_time_nothing_is_computed_and_the_rows_are_the_same(tmp_path: Path, count: list[str]) -> None:
    first = run_block.run_block(block(), runner(tmp_path), "e", 2)
    assert len(count) == 8
    again = run_block.run_block(block(), runner(tmp_path), "e", 2)
    assert len(count) == 8
    assert_same(first, again)


@pytest.mark.parametrize(
    ("larger", "new"),
    [
        (block(seeds=2), 8),
        (block(activation=["tanh", "relu", "sigmoid"]), 4),
        (block(spectral_radius=[0.7, 0.9, 1.6]), 4),
        (block(sequence_length=[7, 9]), 8),
        (block(clipping=["none", "norm:1.0", "value:0.1"]), 4),
        (block(updates=[4, 5]), 8),
        (block(hidden_size=[6, 5]), 8),
    ],
)
def test_any_grown_axis_computes_only_the_missing_runs(
    tmp_path: Path, count: list[str], larger: Block, new: int
) -> None:
    run_block.run_block(block(), runner(tmp_path / "a"), "e", 0)
    count.clear()
    grown = run_block.run_block(larger, runner(tmp_path / "a"), "e", 0)
    assert len(count) == new
    assert_same(grown, run_block.run_block(larger, runner(tmp_path / "b"), "e", 0))


def test_another_sample_is_verified_and_the_rows_are_a_fresh_runs(tmp_path: Path, count: list[str]) -> None:
    run_block.run_block(block(), runner(tmp_path / "a"), "e", 1)
    count.clear()
    more = run_block.run_block(block(), runner(tmp_path / "a"), "e", 3)
    assert len(count) == 2  # those that were not verified yet
    assert_same(more, run_block.run_block(block(), runner(tmp_path / "b"), "e", 3))
    assert sum(error is not None for error in more["runs"]["verified_error"]) == 3


def test_another_tolerance_is_applied_to_finished_runs(tmp_path: Path, count: list[str]) -> None:
    """A run that was verified at 1e-10 is no answer to 1e-30."""
    run_block.run_block(block(), runner(tmp_path), "e", 1)
    strict = run_block.BlockRunner(Cache(tmp_path, "e"), {}, "cpu", {"float64": 1e-30, "float32": 1e-3})
    with pytest.raises(CheckFailed, match="above the tolerance 1e-30"):
        run_block.run_block(block(), strict, "e", 1)


def test_another_engine_finds_nothing(tmp_path: Path, count: list[str]) -> None:
    run_block.run_block(block(), runner(tmp_path), "e", 0)
    run_block.run_block(block(), runner(tmp_path, engine="f"), "f", 0)
    assert len(count) == 16


def test_other_sequences_of_the_same_name_are_other_runs(tmp_path: Path, count: list[str]) -> None:
    import study_data

    rng = np.random.default_rng(0)
    for index in range(2):
        arrays = {"inputs": rng.standard_normal((20, 7, 1)), "targets": rng.integers(0, 2, 20)}
        arrays |= {
            "held_out": np.arange(20) < 5,
            "loss": np.array("softmax_cross_entropy"),
            "loss_at": np.array("last"),
        }
        study_data.save(arrays, tmp_path / "mine.npz")
        mine = runner(tmp_path / "cache", sequences={"mine": str(tmp_path / "mine.npz")})
        run_block.run_block(block(task=["mine"]), mine, "e", 0)
        assert len(count) == 8 * (index + 1)


def test_a_run_that_disagrees_with_pytorch_stops_the_block_and_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A derivative that is off by one part in a million, planted for one activation."""
    from dataclasses import replace

    phi = rc.ACTIVATIONS["tanh"]
    wrong = replace(phi, derivative=lambda xp, a: phi.derivative(xp, a) * (1 + 1e-6))
    monkeypatch.setitem(rc.ACTIVATIONS, "tanh", wrong)
    with pytest.raises(CheckFailed, match=r"disagrees with torch\.autograd: relative error .* activation=tanh"):
        run_block.run_block(block(), runner(tmp_path), "e", 1)
    assert not list(tmp_path.rglob("*.npz"))


def test_an_entry_survives_the_file(tmp_path: Path) -> None:
    """nan, inf and None come back as they were."""
    traces = {"log10_grad_norm": np.array([-np.inf, np.nan, 1e-300])}
    entry = Entry(
        traces, {"update": np.array([0], dtype=np.int32)}, {"a": float("nan"), "b": None, "c": 0.1}, None, {"s": 1.0}
    )
    cache = Cache(tmp_path, "e")
    assert cache.get("abc") is None
    cache.put("abc", entry)
    found = cache.get("abc")
    assert found is not None
    np.testing.assert_array_equal(found.traces["log10_grad_norm"], traces["log10_grad_norm"])
    assert found.row["a"] != found.row["a"]
    assert (found.row["b"], found.row["c"], found.checks) == (None, 0.1, None)
