"""The tables' one description, and writing that never leaves half a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import gather_table
import rnn_core as rc
from rnn_core.experiment import axes
from study.files.writing import written_aside
from study.settings import axis_label
from study.tables import store, streams
from study.tables.columns import TABLES, columns_of
from tests.support.study_project import ROOT


def row(**changed: Any) -> dict[str, list[Any]]:
    blank = {c.name: ([None] if c.null else [0.0] if pa.types.is_floating(c.type) else [0] if pa.types.is_integer(c.type) else [False] if pa.types.is_boolean(c.type) else [""]) for c in columns_of("traces")}  # fmt: skip
    return blank | {name: [value] for name, value in changed.items()}


def test_every_field_of_an_experiment_is_a_column_of_runs_with_its_description() -> None:
    columns = {c.name: c for c in columns_of("runs")}
    for name, axis in axes().items():
        assert columns[name].meaning == axis.meaning
        assert columns[name].unit == axis.unit


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_described_once(table: str) -> None:
    columns = columns_of(table)
    assert len({c.name for c in columns}) == len(columns)
    assert all(c.unit and c.meaning for c in columns)


def test_a_column_that_is_not_described_is_refused() -> None:
    with pytest.raises(ValueError, match="no column bogus"):
        store.build("traces", row(bogus=1))


def test_a_missing_column_is_refused() -> None:
    incomplete = row()
    del incomplete["t"]
    with pytest.raises(KeyError, match="t"):
        store.build("traces", incomplete)


def test_non_finite_values_survive_in_a_table(tmp_path: Path) -> None:
    """nan is a result (not a number) where the column is never null; only elsewhere does it mean null."""
    nan, zero = float("nan"), float("-inf")
    table = store.build("traces", {k: [*v, *w] for (k, v), w in zip(row(log10_grad_norm=nan).items(), row(log10_grad_norm=zero, t=1).values(), strict=True)})  # fmt: skip
    store.write(table, tmp_path / "traces.parquet", {"a": 1})
    back = pq.read_table(tmp_path / "traces.parquet")
    assert back["log10_grad_norm"].null_count == 0
    values = back["log10_grad_norm"].to_pylist()
    assert values[0] != values[0]
    assert values[1] == zero
    assert store.provenance_of(tmp_path / "traces.parquet") == {"a": 1}


def test_units_and_meanings_travel_in_the_file(tmp_path: Path) -> None:
    store.write(store.build("traces", row()), tmp_path / "t.parquet", {})
    field = pq.read_schema(tmp_path / "t.parquet").field("lag")
    assert field.metadata[b"unit"] == b"steps"
    assert b"Steps back" in field.metadata[b"meaning"]


def gathered(table: str, files: list[Path], target: Path) -> pa.Table:
    streams.gather(table, files, target, {"made": "here"})
    assert store.provenance_of(target) == {"made": "here", "table": table}
    return pq.read_table(target)


def test_order_of_blocks_does_not_matter(tmp_path: Path) -> None:
    for index, key in enumerate(("b", "a")):
        store.write(store.build("traces", row(run_key=key)), tmp_path / f"{index}.parquet", {})
    files = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    forward = gathered("traces", files, tmp_path / "forward.parquet")
    backward = gathered("traces", files[::-1], tmp_path / "backward.parquet")
    assert forward.equals(backward)
    assert forward["run_key"].to_pylist() == ["a", "b"]


def random_rows(seed: int, runs: int, steps: int) -> pa.Table:
    """Runs of two sweeps with random keys, each of two updates and ``steps`` steps, in the table's order."""
    rng = np.random.default_rng(seed)
    size = runs * 2 * steps
    data = {name: np.resize(values, size) for name, values in row().items() if name != "log10_cell_grad_norm"}
    data |= {"sweep": [["a", "b"][run % 2] for run in range(runs) for _ in range(2 * steps)]}
    data |= {"run_key": [key for key in (rng.bytes(8).hex() for _ in range(runs)) for _ in range(2 * steps)]}
    data |= {"update": np.tile(np.repeat([0, 5], steps), runs), "t": np.tile(np.arange(steps), 2 * runs)}
    data |= {"log10_grad_norm": rng.standard_normal(size), "log10_cell_grad_norm": [None] * size}
    return store.build("traces", data)


def test_gathering_range_by_range_is_sorting_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges and row groups that cut everywhere give what one sort of all rows gives."""
    monkeypatch.setattr(streams, "ROWS_AT_ONCE", 64)
    parts = [random_rows(seed, 24, 3) for seed in range(5)]
    files = []
    for index, part in enumerate(parts):
        for sweep in ("a", "b"):
            files.append(tmp_path / f"{index}-{sweep}.parquet")
            with written_aside(files[-1]) as aside:
                pq.write_table(part.filter(pc.equal(part["sweep"], sweep)), aside, row_group_size=7)
    expected = store.sort("traces", pa.concat_tables(parts))
    assert expected.num_rows == 5 * 24 * 6
    found = gathered("traces", files, tmp_path / "found.parquet")
    assert found.equals(expected)
    assert pq.read_metadata(tmp_path / "found.parquet").num_row_groups >= 8


def test_gathering_holds_a_part_of_the_rows_alone(tmp_path: Path) -> None:
    """By Arrow's own count, in a process of its own: the rows of a range, several times over, but never all of them."""
    files = []
    for index in range(4):
        part = random_rows(index, 500, 50)
        files.append(str(tmp_path / f"{index}.parquet"))
        pq.write_table(part, files[-1], row_group_size=4096)
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "workflow" / "scripts")!r}]
import pyarrow
from study.tables import streams
streams.ROWS_AT_ONCE = 10_000
streams.gather("traces", {files!r}, "all.parquet", {{}})
print(pyarrow.default_memory_pool().max_memory())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert pq.read_metadata(tmp_path / "all.parquet").num_rows == 4 * 500 * 100
    assert 0 < int(done.stdout) < 4 * part.nbytes / 3


def test_what_verification_found_stands_in_the_runs_rows(tmp_path: Path) -> None:
    """The worst of a run's checks, for that sweep's run alone; null where it was not verified or nothing was finite."""
    blank = {c.name: None if c.null else "" if pa.types.is_string(c.type) else 0 for c in columns_of("checks")}
    found = [("a", "k", 1e-15), ("a", "k", 1e-13), ("a", "k", None), ("b", "m", None)]
    rows = [{**blank, "sweep": sweep, "run_key": key, "relative_error": error} for sweep, key, error in found]
    checks = store.build("checks", {name: [row[name] for row in rows] for name in blank})
    store.write(checks, tmp_path / "c.parquet", {})
    fill = gather_table.with_verification("runs", [str(tmp_path / "c.parquet")])
    runs = pa.table({"sweep": ["a", "b", "b"], "run_key": ["k", "k", "m"], "verified_error": pa.nulls(3, pa.float64())})
    assert fill(runs)["verified_error"].to_pylist() == [1e-13, None, None]


def test_a_block_is_written_in_the_order_of_its_keys_and_in_row_groups(tmp_path: Path) -> None:
    rows = {name: values for name, values in row().items() if name not in ("sweep", "run_key")}
    columns = {name: np.resize(np.array(values, dtype=float), 1000) for name, values in rows.items()}
    keys = [f"{digit}{index}" for digit in "0123" for index in range(5)]
    file = tmp_path / "traces.parquet"
    with streams.BlockWriter("s", {"traces": file}, {"a": 1}) as writer:
        for key in keys:
            writer.tables["traces"].add(key, columns)
    assert pq.read_metadata(file).num_row_groups == 4  # one a digit: 5000 rows are enough
    assert pq.read_table(file)["run_key"].to_pylist() == [key for key in keys for _ in range(1000)]
    with pytest.raises(ValueError, match="order of their keys"), streams.BlockWriter("s", {"traces": tmp_path / "x.parquet"}, {}) as writer:  # fmt: skip
        writer.tables["traces"].add("1", columns)
        writer.tables["traces"].add("0", columns)
    assert [f.name for f in tmp_path.iterdir()] == ["traces.parquet"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "table.parquet"
    target.write_text("old")
    with pytest.raises(RuntimeError), written_aside(target) as aside:
        aside.write_text("half of the n")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_regimes_are_the_same_in_engine_and_report() -> None:
    from study.report import measures

    assert measures.REGIMES == rc.theory.REGIMES


def test_axis_labels_carry_units() -> None:
    assert axis_label("sequence_length") == "sequence length T (steps)"
    assert axis_label("spectral_radius") == "spectral radius ρ"


def test_empty_tables_can_be_gathered(tmp_path: Path) -> None:
    empty = store.build("checks", {c.name: [] for c in columns_of("checks")})
    store.write(empty, tmp_path / "c.parquet", {})
    assert len(pd.read_parquet(tmp_path / "c.parquet")) == 0
    assert gathered("checks", [tmp_path / "c.parquet"], tmp_path / "gathered.parquet").num_rows == 0
    empty = store.build("traces", {c.name: [] for c in columns_of("traces")})
    store.write(empty, tmp_path / "t.parquet", {})
    assert gathered("traces", [tmp_path / "t.parquet"], tmp_path / "gathered.parquet").num_rows == 0
