"""The tables' one description, and writing that never leaves half a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import rnn_core as rc
import study_tables
from rnn_core.experiment import axes
from rnn_core.theory import REGIME_DECADES
from study_files import written_aside


def row(**changed: Any) -> dict[str, list[Any]]:
    blank = {c.name: ([None] if c.null else [0.0] if pa.types.is_floating(c.type) else [0] if pa.types.is_integer(c.type) else [False] if pa.types.is_boolean(c.type) else [""]) for c in study_tables.columns("traces")}  # fmt: skip
    return blank | {name: [value] for name, value in changed.items()}


def test_every_field_of_an_experiment_is_a_column_of_runs_with_its_description() -> None:
    columns = {c.name: c for c in study_tables.columns("runs")}
    for name, axis in axes().items():
        assert columns[name].meaning == axis.meaning
        assert columns[name].unit == axis.unit


@pytest.mark.parametrize("table", study_tables.TABLES)
def test_every_column_is_described_once(table: str) -> None:
    columns = study_tables.columns(table)
    assert len({c.name for c in columns}) == len(columns)
    assert all(c.unit and c.meaning for c in columns)


def test_a_column_that_is_not_described_is_refused() -> None:
    with pytest.raises(ValueError, match="no column bogus"):
        study_tables.build("traces", row(bogus=1))


def test_a_missing_column_is_refused() -> None:
    incomplete = row()
    del incomplete["t"]
    with pytest.raises(KeyError, match="t"):
        study_tables.build("traces", incomplete)


def test_non_finite_values_survive_in_a_table(tmp_path: Path) -> None:
    """nan is a result (not a number) where the column is never null; only elsewhere does it mean null."""
    nan, zero = float("nan"), float("-inf")
    table = study_tables.build("traces", {k: [*v, *w] for (k, v), w in zip(row(log10_grad_norm=nan).items(), row(log10_grad_norm=zero, t=1).values(), strict=True)})  # fmt: skip
    study_tables.write(table, tmp_path / "traces.parquet", {"a": 1})
    back = pq.read_table(tmp_path / "traces.parquet")
    assert back["log10_grad_norm"].null_count == 0
    values = back["log10_grad_norm"].to_pylist()
    assert values[0] != values[0]
    assert values[1] == zero
    assert study_tables.provenance_of(tmp_path / "traces.parquet") == {"a": 1}


def test_units_and_meanings_travel_in_the_file(tmp_path: Path) -> None:
    study_tables.write(study_tables.build("traces", row()), tmp_path / "t.parquet", {})
    field = pq.read_schema(tmp_path / "t.parquet").field("lag")
    assert field.metadata[b"unit"] == b"steps"
    assert b"Steps back" in field.metadata[b"meaning"]


def test_order_of_blocks_does_not_matter(tmp_path: Path) -> None:
    for index, key in enumerate(("b", "a")):
        study_tables.write(study_tables.build("traces", row(run_key=key)), tmp_path / f"{index}.parquet", {})
    files = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    forward, backward = study_tables.concat("traces", files), study_tables.concat("traces", files[::-1])
    assert forward.equals(backward)
    assert forward["run_key"].to_pylist() == ["a", "b"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "table.parquet"
    target.write_text("old")
    with pytest.raises(RuntimeError), written_aside(target) as aside:
        aside.write_text("half of the n")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_regimes_have_the_same_limits_in_engine_and_report() -> None:
    import study_verdicts

    assert study_tables.STABLE_DECADES == REGIME_DECADES
    for ratio in (-2.1, -1.9, 1.9, 2.1):
        assert study_verdicts.regime_of(ratio) == rc.theory.regime(ratio)


def test_axis_labels_carry_units() -> None:
    assert study_tables.label("sequence_length") == "sequence length T (steps)"
    assert study_tables.label("spectral_radius") == "spectral radius ρ"


def test_empty_tables_can_be_gathered(tmp_path: Path) -> None:
    empty = study_tables.build("checks", {c.name: [] for c in study_tables.columns("checks")})
    study_tables.write(empty, tmp_path / "c.parquet", {})
    assert len(pd.read_parquet(tmp_path / "c.parquet")) == 0
    assert study_tables.concat("checks", [tmp_path / "c.parquet"]).num_rows == 0
