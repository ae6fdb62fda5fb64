"""Reading and writing the tables of a study, each with its seal and with its provenance in the footer."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.files import seal
from study.files.writing import Misplaced, reading, written_aside
from study.tables.columns import Column, columns_of, schema_of
from study.wide import SETTING

PROVENANCE_KEY = b"gradient_study"


_SORT = {
    "traces": ["sweep", "run_key", "update", "t"],
    "layers": ["sweep", "run_key", "update", "layer", "direction", "t"],
    "updates": ["sweep", "run_key", "update"],
    "runs": ["sweep", "run_key"],
    "theory": ["sweep", *SETTING],
    "spectra": ["sweep", "run_key", "update", "sample", "lag", "i"],
    "cliff": ["what", "clipping", "update", "weight", "bias"],
    "checks": ["stage", "sweep", "run_key", "oracle", "update"],
    "timings": ["sweep", "run_key"],
    "verification": ["oracle", "cell", "activation", "regime", "sequence_length", "loss_at", "device"],
}


def leave_pandas_out() -> None:
    """Let pyarrow do without pandas, for jobs that do not use it. It would import pandas for its first array, in 0.35 s."""
    sys.meta_path.insert(0, _NoPandas())


@contextmanager
def without_pandas() -> Iterator[None]:
    """As ``leave_pandas_out``, where others in the process may want pandas. pyarrow asks within the block, and never again."""
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.scalar(0)  # it asks
        yield
    finally:
        sys.meta_path.remove(finder)


class _NoPandas(MetaPathFinder):
    """Says that pandas is not installed; pyarrow asks once."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is left out of this job", name=fullname)


def build(table: str, data: Mapping[str, Iterable[Any]]) -> pa.Table:
    """A sorted table from its columns. A float that is nan counts as null where the column says when it is null.

    Raises:
        KeyError: a column is missing.
        ValueError: there is a column that the table does not have.
    """
    return sort(table, unsorted(table, data))


def unsorted(table: str, data: Mapping[str, Iterable[Any]]) -> pa.Table:
    """As ``build``, with the rows in the order given."""
    described = columns_of(table)
    extra = set(data) - {c.name for c in described}
    if extra:
        raise ValueError(
            f"table {table} has no column {', '.join(sorted(extra))}; declare it where it is measured, in rnn_core/experiment/measures/"
        )
    rows = len(data[described[0].name])  # type: ignore[arg-type]  # any sequence
    arrays = [pa.nulls(rows, c.type) if c.asked and c.name not in data else _array(data[c.name], c) for c in described]
    return pa.Table.from_arrays(arrays, schema=schema_of(table))


def _array(values: Any, column: Column) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    return pa.array(values, type=column.type, from_pandas=bool(column.null))


def sort(table: str, rows: pa.Table) -> pa.Table:
    """Rows in the table's order, whichever run finished first."""
    return rows.take(pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in _SORT[table]]))


def write(rows: pa.Table, file: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write aside, seal and rename: no reader sees half a table. ``provenance`` goes to the Parquet footer."""
    with sealed(file) as aside, writer(aside, rows.schema, provenance) as parquet:
        parquet.write_table(rows)


@contextmanager
def sealed(target: str | Path) -> Iterator[Path]:
    """``written_aside`` for the file of a ``writer``. When the block ends the file must be closed; then it gets its seal."""
    with written_aside(target) as aside:
        yield aside
        seal.seal(aside)


@contextmanager
def writer(file: Path, fields: pa.Schema, provenance: Mapping[str, Any]) -> Iterator[pq.ParquetWriter]:
    """Writes tables of these fields one after the other, with a blank seal, for ``sealed``.

    The file is opened here. Arrow would lose the error's number where closing fails. Names and counts repeat, and get a dictionary;
    numbers seldom do. Page checksums serve other readers: ``pandas.read_parquet(file, page_checksum_verification=True)``.
    """
    footer = {PROVENANCE_KEY: json.dumps(provenance).encode(), seal.KEY: seal.BLANK}
    repeating = [field.name for field in fields if not pa.types.is_floating(field.type)]
    with file.open("wb") as opened:
        parquet = pq.ParquetWriter(
            opened,
            fields.with_metadata({**(fields.metadata or {}), **footer}),
            compression="zstd",
            use_dictionary=repeating,
            write_page_checksum=True,
        )
        try:
            yield parquet
            parquet.close()
        except BaseException:
            with suppress(OSError):  # the first error is told: on a full disk this file cannot be closed either
                opened.close()
            raise
        finally:
            parquet.is_open = False  # or, after an error, Arrow would try to close it once more when it is forgotten


def provenance_of(file: str | Path) -> dict[str, Any]:
    """What ``write`` put into the footer."""
    with reading(file):
        return dict(json.loads(pq.read_schema(file).metadata[PROVENANCE_KEY]))


def require(file: str | Path, **footer: Any) -> None:
    """Refuse a table that is damaged, or whose footer does not say ``footer`` (name -> value).

    Raises:
        Damaged: its content is not what was written.
        Misplaced: it was written for another place. The message says for which.
        FileTrouble: it cannot be read.
    """
    seal.check(file)
    written, expected = provenance_of(file), json.loads(json.dumps(footer))
    differences = [
        _difference(name, written.get(name), value) for name, value in expected.items() if written.get(name) != value
    ]
    if differences:
        raise Misplaced(file, f"its footer {' and '.join(differences)}")


def _difference(name: str, written: Any, expected: Any) -> str:
    """How two values of the footer differ. Of two blocks the first difference is told."""
    if isinstance(written, dict) and isinstance(expected, dict) and written.keys() == expected.keys():
        key = next(key for key in expected if written[key] != expected[key])
        return f"{_difference(key, written[key], expected[key])} of the {name}"
    if isinstance(written, str) and isinstance(expected, str):
        return f"says {written!r} where {expected!r} belongs, as the {name}"
    return f"{'does not name' if written is None else 'holds other values for'} the {name}"
