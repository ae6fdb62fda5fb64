"""A block of runs, without Snakemake: rows do not depend on what the cache holds, and the cache on nothing but the run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rnn_core as rc
from rnn_core.experiment import axes
from study.files.cache import Cache, Entry
from study.plan import Block
from study.runs import verification
from study.runs.checks import CheckFailed
from study.runs.runner import BlockRunner, finish, identity
from study.screen.progress import Record
from study.tables import store
from study.tables.columns import columns_of
from tests.support.study_project import ROOT

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


def runner(folder: Path, engine: str = "e", sequences: dict[str, str] | None = None) -> BlockRunner:
    return BlockRunner(Cache(folder / "cache", engine), sequences or {}, "cpu")


def run(block: Block, runner: BlockRunner, folder: Path) -> dict[str, pa.Table]:
    """The block's tables, written and read again."""
    files = {table: folder / f"{table}.parquet" for table in ("traces", "updates", "runs", "timings")}
    made = {"engine": "e", "block": asdict(block)}
    finish(block, runner, Record("run_block", folder / "record.json"), files, made)
    return {table: pq.read_table(file) for table, file in files.items()}


def verify(
    block: Block, runner: BlockRunner, folder: Path, size: int, tolerance: dict[str, float] = TOLERANCE
) -> list[dict[str, Any]]:
    """The checks of a sample of a block whose tables lie in ``folder``, as they are written."""
    files = {table: folder / f"verified-{table}.parquet" for table in ("checks", "timings", "traces")}
    samples = verification.samples_of([block], runner, tolerance, size)
    verification.verify(samples, runner, files, {"blocks": [asdict(block)]})
    (folder / "sweep" / "all").mkdir(parents=True, exist_ok=True)
    traces = Path(shutil.copy(folder / "traces.parquet", folder / "sweep" / "all"))
    verification.require_same_rows([traces], [files["traces"]])
    return list(pq.read_table(files["checks"]).to_pylist())


def test_what_traces_hold_besides_fills_its_columns_and_no_others(tmp_path: Path) -> None:
    """Other columns change, asked columns stay empty, or what nobody asked for has a value."""
    folders = [tmp_path / str(i) for i in range(3)]
    for folder in folders:
        folder.mkdir()
    plain, asked, again = (
        run(block(), BlockRunner(Cache(folder / "cache", "e"), {}, "cpu", traces=traces), folder)
        for folder, traces in zip(folders, ([], ["weight_gradient"], ["weight_gradient"]), strict=True)
    )
    assert_same(asked, again)
    for table in ("traces", "runs"):
        columns = [c for c in columns_of(table) if c.asked]
        for column in columns:
            assert plain[table][column.name].null_count == plain[table].num_rows
            wanted = column.asked == "weight_gradient"
            assert (asked[table][column.name].null_count < asked[table].num_rows) == wanted, column.name
        others = [name for name in plain[table].column_names if name not in {c.name for c in columns}]
        assert plain[table].select(others).equals(asked[table].select(others))


def test_what_traces_hold_besides_is_part_of_the_caches_identity() -> None:
    """An entry without what is asked for is taken for one with it."""
    which = [
        identity("cpu"),
        identity("cpu", ["weight_gradient"]),
        identity("cpu", ["entry_quantiles", "weight_gradient"]),
    ]
    assert len(set(which)) == 3
    assert identity("cpu", []) == which[0]
    assert identity("cpu", ["weight_gradient", "entry_quantiles"]) == which[2]


def assert_same(one: dict[str, pa.Table], other: dict[str, pa.Table]) -> None:
    for name in ("traces", "updates", "runs"):
        pd.testing.assert_frame_equal(one[name].to_pandas(), other[name].to_pandas(), check_exact=True)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of all runs that are computed, in order."""
    keys: list[str] = []
    alone, run = rc.run, rc.run_many

    def verified(experiment: rc.Experiment, *arguments: Any, **named: Any) -> rc.Result:
        keys.append(experiment.key)
        return alone(experiment, *arguments, **named)

    def counted(
        experiments: list[rc.Experiment], *arguments: Any, **named: Any
    ) -> Iterator[tuple[rc.Experiment, rc.Result]]:
        for experiment, result in run(experiments, *arguments, **named):
            keys.append(experiment.key)
            yield experiment, result

    monkeypatch.setattr(rc, "run", verified)
    monkeypatch.setattr(rc, "run_many", counted)
    return keys


def test_a_second_time_nothing_is_computed_and_the_rows_are_the_same(tmp_path: Path, count: list[str]) -> None:
    first = run(block(), runner(tmp_path), tmp_path)
    assert len(count) == 8
    again = run(block(), runner(tmp_path), tmp_path)
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
    run(block(), runner(tmp_path / "a"), tmp_path)
    count.clear()
    grown = run(larger, runner(tmp_path / "a"), tmp_path)
    assert len(count) == new
    assert_same(grown, run(larger, runner(tmp_path / "b"), tmp_path))


# every axis: what else the runs need, its value and the one that is added
GROWN: dict[str, tuple[dict[str, list[Any]], Any, Any]] = {
    "task": ({}, "input_mean", "white_noise"),
    "cell": ({}, "vanilla", "gru"),
    "activation": ({}, "tanh", "relu"),
    "residual_step": ({"cell": ["residual"]}, 0.5, 0.6),
    "residual_leak": ({"cell": ["residual"]}, 0.5, 0.6),
    "layer_norm_step": ({"cell": ["layer_norm"]}, 0.5, 0.6),
    "layer_norm_leak": ({"cell": ["layer_norm"]}, 0.5, 0.6),
    "antisymmetric_step": ({"cell": ["antisymmetric"]}, 0.1, 0.2),
    "antisymmetric_diffusion": ({"cell": ["antisymmetric"]}, 0.1, 0.2),
    "initializer": ({}, "gaussian", "orthogonal"),
    "weight_scale": ({"spectral_radius": [None]}, 1.0, 1.2),
    "forget_bias": ({"cell": ["lstm"]}, 1.0, 2.0),
    "chrono": ({"cell": ["gru"]}, 5, 9),
    "spectral_radius": ({}, 0.9, 1.0),
    "hidden_size": ({}, 6, 5),
    "layers": ({}, 1, 3),
    "bidirectional": ({}, False, True),
    "input_size": ({}, 2, 3),
    "input_scale": ({}, 1.0, 0.1),
    "input_correlation": ({"task": ["white_noise"]}, 0.0, 0.5),
    "sequence_length": ({}, 7, 9),
    "batch_size": ({}, 3, 2),
    "loss_at": ({}, "last", "every"),
    "truncation": ({}, 3, 4),
    "clipping": ({}, "none", "norm:0.1"),
    "omega": ({}, 0.0, 2.0),
    "flossing": ({}, 0, 2),
    "flossing_exponents": ({"flossing": [2]}, 2, 3),
    "optimizer": ({}, "sgd", "adam"),
    "learning_rate": ({}, 0.5, 0.4),
    "weight_decay": ({}, 0.0, 0.1),
    "updates": ({}, 4, 0),
    "trace_every": ({}, 2, 3),
    "record_every": ({}, 1, 2),
    "held_out_sequences": ({}, 5, 6),
    "success_below": ({"task": ["adding"]}, 0.5, 0.4),
    "validate_every": ({"task": ["adding"], "success_below": [0.01]}, 2, 3),
    "dtype": ({}, "float64", "float32"),
}


def test_every_axis_is_grown_below() -> None:
    assert set(GROWN) | {"seed", "cell_options"} == set(
        axes()
    )  # options are those of a user's own cell: tests/own_cells


@pytest.mark.parametrize("axis", GROWN)
def test_a_value_added_to_any_axis_computes_the_new_runs_alone(tmp_path: Path, count: list[str], axis: str) -> None:
    others, value, added = GROWN[axis]
    common: dict[str, list[Any]] = {name: values[:1] for name, values in GRID.items()}
    before = Block("sweep", "all", {}, {**common, **others, axis: [value]}, 2)
    after = Block("sweep", "all", {}, {**common, **others, axis: [value, added]}, 2)
    run(before, runner(tmp_path / "a"), tmp_path)
    old = set(count)
    count.clear()
    grown = run(after, runner(tmp_path / "a"), tmp_path)
    assert len(count) == 2
    assert not old & set(count)
    assert_same(grown, run(after, runner(tmp_path / "b"), tmp_path))


def test_rows_are_those_of_the_runs_in_the_order_of_their_keys(tmp_path: Path) -> None:
    """Against rc.run itself, value by value; and a table that is written in many row groups is the same table."""
    tables = run(block(), runner(tmp_path), tmp_path)
    experiments = sorted((rc.Experiment(**settings) for settings in block().runs()), key=lambda e: e.key)
    results = [rc.run(experiment) for experiment in experiments]
    for table in ("traces", "updates"):
        measured = [getattr(result, table) for result in results]
        for name in measured[0]:
            expected = np.concatenate([columns[name] for columns in measured])
            found = tables[table][name].to_numpy()
            np.testing.assert_array_equal(found.astype(expected.dtype), expected, err_msg=name)
        lengths = [len(columns["update"]) for columns in measured]
        assert tables[table]["run_key"].to_pylist() == list(np.repeat([e.key for e in experiments], lengths))
    for row, result in zip(tables["runs"].to_pylist(), results, strict=True):
        for name, value in result.summary.items():
            missing = value is None or value != value
            assert row[name] is None or row[name] != row[name] if missing else row[name] == value


def test_another_sample_is_verified_and_the_first_is_not_verified_again(tmp_path: Path, count: list[str]) -> None:
    run(block(), runner(tmp_path), tmp_path)
    checking = BlockRunner(Cache(tmp_path / "verified", "e"), {}, "cpu")
    few = verify(block(), checking, tmp_path, 1)
    count.clear()
    more = verify(block(), checking, tmp_path, 3)
    assert len(count) == 2
    assert {check["run_key"] for check in few} < {check["run_key"] for check in more}
    assert len({check["run_key"] for check in more}) == 3


def test_another_tolerance_is_applied_to_verified_runs(tmp_path: Path) -> None:
    """A run that was verified at 1e-10 is no answer to 1e-30."""
    run(block(), runner(tmp_path), tmp_path)
    verify(block(), runner(tmp_path), tmp_path, 1)
    with pytest.raises(CheckFailed, match="above the tolerance 1e-30"):
        verify(block(), runner(tmp_path), tmp_path, 1, {"float64": 1e-30, "float32": 1e-3})


@pytest.mark.parametrize("where", ["first", "last"])
def test_rows_that_are_not_those_verified_stop_the_study(tmp_path: Path, where: str) -> None:
    """One gradient norm in the block's table is off by one part in a million; and once a row is missing."""
    whole = run(block(), runner(tmp_path), tmp_path)["traces"]
    sampled = verification.sample(block(), 1)[0].key
    index = whole["run_key"].to_pylist().index(sampled)
    last = len(whole) - 1 - whole["run_key"].to_pylist()[::-1].index(sampled)
    norms = whole["log10_grad_norm"].to_numpy().copy()
    norms[index if where == "first" else last] += np.log10(1.0 + 1e-6)
    place = whole.schema.get_field_index("log10_grad_norm")
    made = {"table": "traces", "block": asdict(block())}
    store.write(whole.set_column(place, whole.schema.field(place), pa.array(norms)), tmp_path / "traces.parquet", made)  # fmt: skip
    with pytest.raises(CheckFailed, match=r"differs by 1e-06 from the one that was verified, at t=[17]"):
        verify(block(), runner(tmp_path), tmp_path, 1)
    short = pa.concat_tables([whole.slice(0, last), whole.slice(last + 1)])
    store.write(short, tmp_path / "traces.parquet", made)
    with pytest.raises(CheckFailed, match="not those of the run that was verified"):
        verify(block(), runner(tmp_path), tmp_path, 1)


def test_another_engine_finds_nothing(tmp_path: Path, count: list[str]) -> None:
    run(block(), runner(tmp_path), tmp_path)
    run(block(), runner(tmp_path, engine="f"), tmp_path)
    assert len(count) == 16


def test_other_sequences_of_the_same_name_are_other_runs(tmp_path: Path, count: list[str]) -> None:
    from study.data import task_file

    rng = np.random.default_rng(0)
    for index in range(2):
        arrays = {"inputs": rng.standard_normal((20, 7, 1)), "targets": rng.integers(0, 2, 20)}
        arrays |= {
            "held_out": np.arange(20) < 5,
            "loss": np.array("softmax_cross_entropy"),
            "loss_at": np.array("last"),
        }
        task_file.save(arrays, tmp_path / "mine.npz")
        mine = runner(tmp_path, sequences={"mine": str(tmp_path / "mine.npz")})
        run(block(task=["mine"]), mine, tmp_path)
        assert len(count) == 8 * (index + 1)


def test_a_run_that_disagrees_with_pytorch_stops_the_study_and_does_not_count_as_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A derivative that is off by one part in a million, planted for one activation."""
    from dataclasses import replace

    phi = rc.ACTIVATIONS["tanh"]
    wrong = replace(phi, derivative=lambda xp, a: phi.derivative(xp, a) * (1 + 1e-6))
    monkeypatch.setitem(rc.ACTIVATIONS, "tanh", wrong)
    tanh = block(activation=["tanh"])
    run(tanh, runner(tmp_path), tmp_path)
    checking = BlockRunner(Cache(tmp_path / "verified", "e"), {}, "cpu")
    with pytest.raises(CheckFailed, match=r"disagrees with torch\.autograd: relative error .* activation=tanh"):
        verify(tanh, checking, tmp_path, 1)
    assert not list((tmp_path / "verified").rglob("*.runs"))


ENTRY = Entry(
    traces={"log10_grad_norm": np.array([-np.inf, np.nan, 1e-300]), "t": np.arange(3, dtype=np.int32)},
    updates={"finite": np.array([True, False])},
    row={"a": float("nan"), "b": None, "c": 0.1},
    timing={"s": 1.0},
)


def test_an_entry_survives_the_file(tmp_path: Path) -> None:
    """nan, inf and None come back as they were, and types too."""
    cache = Cache(tmp_path, "e")
    assert cache.get("abc") is None
    cache.put("abc", ENTRY)
    assert cache.get("abc") is not None  # while it waits to be written
    cache.join()
    cache = Cache(tmp_path, "e")
    found = cache.get("abc")
    assert found is not None
    for table in ("traces", "updates"):
        assert list(getattr(found, table)) == list(getattr(ENTRY, table))
        for name, values in getattr(ENTRY, table).items():
            np.testing.assert_array_equal(getattr(found, table)[name], values)
            assert getattr(found, table)[name].dtype == values.dtype
    assert found.row["a"] != found.row["a"]
    assert (found.row["b"], found.row["c"], found.checks, found.timing) == (None, 0.1, None, {"s": 1.0})
    assert cache.keys() == {"abc"}


def test_a_damaged_entry_is_no_entry(tmp_path: Path) -> None:
    """Every cut, and every flipped bit, is noticed: a wrong number must not come out of a cache."""
    cache = Cache(tmp_path, "e")
    cache.put("abc", ENTRY)
    cache.join()
    (file,) = tmp_path.rglob("*.runs")
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert Cache(tmp_path, "e").get("abc") is None, length
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert Cache(tmp_path, "e").get("abc") is None, place
    file.write_bytes(whole)
    assert Cache(tmp_path, "e").get("abc") is not None


def test_runs_are_written_together_and_a_kill_loses_no_more_than_the_last_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve runs, one in 0.3 s: what a killed job leaves is all but its last second. A job that ends leaves one file."""
    now = [0.0]
    monkeypatch.setattr("study.files.cache.time.monotonic", lambda: now[0])
    cache = Cache(tmp_path, "e", own="a block")
    for number in range(12):
        now[0] += 0.3
        cache.put(f"key{number}", ENTRY)
    kept = Cache(tmp_path, "e").keys()  # what another job finds if this one is killed now
    assert kept == {f"key{number}" for number in range(12)}
    now[0] += 0.3
    cache.put("key12", ENTRY)
    assert Cache(tmp_path, "e").keys() == kept
    assert len(list(tmp_path.rglob("*.runs"))) == 3
    cache.join()
    assert len(list(tmp_path.rglob("*.runs"))) == 1
    found = Cache(tmp_path, "e")
    assert all(found.get(f"key{number}") is not None for number in range(13))
    now[0] += 5.0
    long_run = Cache(tmp_path, "e", own="long runs")
    now[0] += 5.0
    long_run.put("long", ENTRY)  # a run that took longer than a second does not wait
    assert Cache(tmp_path, "e").get("long") is not None


def test_many_bytes_do_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.files.cache.MOST_BYTES", 1000)
    monkeypatch.setattr("study.files.cache.time.monotonic", lambda: 0.0)
    cache = Cache(tmp_path, "e")
    for number in range(10):
        cache.put(f"key{number}", ENTRY)
    kept = Cache(tmp_path, "e").keys()
    assert 5 < len(kept) <= 10
    cache.join()
    assert len(Cache(tmp_path, "e").keys()) == 10
    assert len(list(tmp_path.rglob("*.runs"))) > 2, "so many bytes were put together in memory"


def test_a_damaged_entry_is_computed_again_in_the_block(tmp_path: Path, count: list[str]) -> None:
    first = run(block(), runner(tmp_path), tmp_path)
    (file,) = (tmp_path / "cache").rglob("*.runs")
    file.write_bytes(file.read_bytes()[:-1])
    count.clear()
    assert_same(first, run(block(), runner(tmp_path), tmp_path))
    assert len(count) == 1


JOB = """
import runpy, sys, types
sys.path[:0] = {path!r}
from dataclasses import asdict
from study.plan import Block
from study.provenance import engine_digest

block = Block("s", "all", {{}}, {grid!r}, 1)
files = {{table: f"{{table}}.parquet" for table in ("traces", "updates", "runs", "timings")}}
params = types.SimpleNamespace(block=asdict(block), device="cpu", memory_mb=None, engine=engine_digest(), cache="cache", refused="no", traces=[], spectra=None)
job = types.SimpleNamespace(params=params, input={{}}, output=files, log=["log"], rule="run_block")
runpy.run_path({path!r}[1] + "/run_block.py", {{"snakemake": job}}, "__main__")
print(sorted({{"torch", "pandas", "matplotlib", "seaborn", "sklearn", "jsonschema"}} & {{n for n, m in sys.modules.items() if m}}))
"""


def test_a_job_imports_only_what_it_needs(tmp_path: Path) -> None:
    """torch takes two seconds, pandas half of one; pyarrow imports the latter by itself unless it is told not to."""
    code = JOB.format(path=[str(ROOT), str(ROOT / "workflow" / "scripts")], grid=GRID)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert pq.read_metadata(tmp_path / "runs.parquet").num_rows == 8
