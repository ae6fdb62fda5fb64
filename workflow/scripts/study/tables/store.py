"""The tables of a study: name, type, unit and meaning of every column; and reading and writing them.

The columns of a run are not listed here. Its settings follow from ``Experiment``, and what it measures from the columns that the
engine declares (``rnn_core.experiment.COLUMNS``).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rnn_core import formats
from rnn_core.experiment import COLUMNS
from study.files import seal
from study.files.writing import Misplaced, reading, written_aside
from study.settings import described_axes

PROVENANCE_KEY = b"gradient_study"


@dataclass(frozen=True)
class Column:
    """One column. ``null`` says when it is null; empty if it never is."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    null: str = ""


_INT, _FLOAT, _BOOL, _TEXT = pa.int32(), pa.float64(), pa.bool_(), pa.string()

_SWEEP = Column("sweep", _TEXT, "name", "Sweep of the config that the run belongs to")
_KEY = Column(
    "run_key", _TEXT, "hex", "Run: digest of all its settings, the seed included, and of the sequences that it read"
)

FORMATS = tuple(format.name for format in formats.FORMATS)  # whose losses are recorded beside the exact gradient
_TYPES = {"integer": _INT, "number": _FLOAT, "flag": _BOOL, "name": _TEXT}


def _measured(table: str) -> tuple[Column, ...]:
    """What a run measures, as the engine declares it."""
    return tuple(Column(c.name, _TYPES[c.kind], c.unit, c.meaning, c.null) for c in COLUMNS[table])


_TRACES, _UPDATES = _measured("traces"), _measured("updates")
_MEASURED = (
    *_measured("runs"),
    Column(
        "verified_error",
        _FLOAT,
        "relative",
        "Worst relative error against PyTorch autograd",
        null="not in the sample that was verified, or not finite (PyTorch agreed)",
    ),
    Column("data", _TEXT, "hex", "Digest of the sequences that the run read", null="a generated task"),
    Column("device", _TEXT, "name", "Device that the run was made on"),
    Column("engine", _TEXT, "hex", "Digest of the sources of rnn_core that made the run"),
)

# What every comparison with an oracle says of itself, in a study (checks) or in ``make verify`` (verification).
_ORACLE = Column("oracle", _TEXT, "name", "Independent program that the engine was compared with")
_NETWORK = (
    Column("cell", _TEXT, "name", "Recurrent cell"),
    Column("activation", _TEXT, "name", "Activation function"),
)
_LENGTH = Column("sequence_length", _INT, "steps", "Sequence length T")
_DEVICE = Column("device", _TEXT, "name", "Device")
_TOLERANCE = Column("tolerance", _FLOAT, "relative", "Largest error that passes")


def _relative_error(null: str) -> Column:
    meaning = "Worst relative error over all time steps and parameters, atol = 0"
    return Column("relative_error", _FLOAT, "relative", meaning, null=null)


_CHECKS = (
    Column("stage", _TEXT, "name", "gate: before the sweeps; sweep: a run verified inside its job"),
    _ORACLE,
    Column("run_key", _TEXT, "hex", "The run that was checked"),
    Column("sweep", _TEXT, "name", "The sweep it belongs to"),
    Column("update", _INT, "updates", "Updates made before the gradient that was checked was taken"),
    Column("task", _TEXT, "name", "Task"),
    *_NETWORK,
    Column("spectral_radius", _FLOAT, "1", "Spectral radius"),
    _LENGTH,
    Column("dtype", _TEXT, "name", "Floating-point type"),
    _DEVICE,
    Column("regime", _TEXT, "name", "vanishing, stable or exploding", null="not a number"),
    _relative_error(null="not finite, on both sides; or memory_mb has no room for every step"),
    Column("where", _TEXT, "name", "The time step or parameter that it was found at"),
    _TOLERANCE,
)

_TIMINGS = (
    Column("seconds", _FLOAT, "s", "Wall time of the run inside its job"),
    Column("verify_seconds", _FLOAT, "s", "Wall time of its verification", null="not in the sample"),
)

_VERIFICATION = (
    *_NETWORK,
    Column("regime", _TEXT, "name", "What the network was drawn for: vanishing, critical or exploding gradients"),
    _LENGTH,
    Column("loss_at", _TEXT, "name", "Steps that carry a loss: last or every"),
    _DEVICE,
    _ORACLE,
    Column(
        "growth_rate",
        _FLOAT,
        "ln per step",
        "Measured mean change of ln ‖∂L/∂h_t‖ per step back, over max(T, 50) steps, for the last step's loss alone",
    ),
    _relative_error(null="the oracle abstains: there was nothing that it can compare"),
    Column("where", _TEXT, "name", "The time step or parameter that it was found at; or why the oracle abstains"),
    _TOLERANCE,
    Column("passed", _BOOL, "true/false", "The error is at most the tolerance", null="the oracle abstains"),
)

TABLES = ("traces", "updates", "runs", "checks", "timings")
MEANING = {
    "traces": "Gradient norm at every time step: run × recorded update × t",
    "updates": "Every training update: run × update; of an untrained run its one gradient",
    "runs": "One row a run: its settings, what was measured, what theory predicts",
    "checks": "Every comparison of the engine with an independent program",
    "timings": "Where the time went. Kept apart because it is the one table that differs from one execution to the next",
}
_SORT = {
    "traces": ["sweep", "run_key", "update", "t"],
    "updates": ["sweep", "run_key", "update"],
    "runs": ["sweep", "run_key"],
    "checks": ["stage", "sweep", "run_key", "oracle", "update"],
    "timings": ["sweep", "run_key"],
    "verification": ["oracle", "cell", "activation", "regime", "sequence_length", "loss_at", "device"],
}


@cache
def columns(table: str) -> tuple[Column, ...]:
    """All columns of a table, in order."""
    if table == "runs":
        types = {"integer": _INT, "number": _FLOAT}
        settings = tuple(
            Column(
                n,
                types.get(a["kind"], _TEXT),
                a["unit"],
                a["meaning"],
                f"not set: {a['unset']}" if a["unset"] else "",
            )
            for n, a in described_axes().items()
        )
        return (_SWEEP, _KEY, *settings, *_MEASURED)
    if table == "checks":
        return _CHECKS
    if table == "verification":  # of ``make verify``, no table of a study
        return _VERIFICATION
    return (_SWEEP, _KEY, *{"traces": _TRACES, "updates": _UPDATES, "timings": _TIMINGS}[table])


def schema(table: str) -> pa.Schema:
    """The Arrow schema of a table; meaning and unit travel in the field metadata."""
    return pa.schema(
        [pa.field(c.name, c.type, metadata={"unit": c.unit, "meaning": c.meaning}) for c in columns(table)]
    )


def leave_pandas_out() -> None:
    """Let pyarrow do without pandas, which it imports for its first array (0.35 s) if it can; for jobs that use none."""
    sys.meta_path.insert(0, _NoPandas())


@contextmanager
def without_pandas() -> Iterator[None]:
    """As ``leave_pandas_out``, where others in the process may want pandas: pyarrow asks inside the block, and never again."""
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
    described = columns(table)
    extra = set(data) - {c.name for c in described}
    if extra:
        raise ValueError(
            f"table {table} has no column {', '.join(sorted(extra))}; declare it where it is measured, in rnn_core/experiment/measures/"
        )
    arrays = [_array(data[c.name], c) for c in described]
    return pa.Table.from_arrays(arrays, schema=schema(table))


def _array(values: Any, column: Column) -> pa.Array:
    if isinstance(values, pa.Array):
        return values
    return pa.array(values, type=column.type, from_pandas=bool(column.null))


def sort(table: str, rows: pa.Table) -> pa.Table:
    """Rows in the table's order, which does not depend on who finished first."""
    return rows.take(pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in _SORT[table]]))


def write(rows: pa.Table, file: str | Path, provenance: Mapping[str, Any]) -> None:
    """Write aside, seal and rename, so that no reader ever sees half a table. ``provenance`` goes to the Parquet footer."""
    with sealed(file) as aside, writer(aside, rows.schema, provenance) as parquet:
        parquet.write_table(rows)


@contextmanager
def sealed(target: str | Path) -> Iterator[Path]:
    """``written_aside`` for a ``writer``'s file, which must be closed when the block ends: it gets its seal and takes its place."""
    with written_aside(target) as aside:
        yield aside
        seal.seal(aside)


@contextmanager
def writer(file: Path, fields: pa.Schema, provenance: Mapping[str, Any]) -> Iterator[pq.ParquetWriter]:
    """Writes tables of these fields one after the other, with a blank seal, for ``sealed``.

    The file is opened here and not by Arrow, which loses an error's number where closing fails.

    A dictionary pays for names and counts: numbers seldom repeat. Page checksums are for other readers than ours:
    ``pandas.read_parquet(file, page_checksum_verification=True)``.
    """
    own = {PROVENANCE_KEY: json.dumps(provenance).encode(), seal.KEY: seal.BLANK}
    repeating = [field.name for field in fields if not pa.types.is_floating(field.type)]
    with file.open("wb") as opened:
        parquet = pq.ParquetWriter(
            opened,
            fields.with_metadata({**(fields.metadata or {}), **own}),
            compression="zstd",
            use_dictionary=repeating,
            write_page_checksum=True,
        )
        try:
            yield parquet
            parquet.close()
        finally:
            parquet.is_open = False  # or, after an error, Arrow would try to close it once more when it is forgotten


def provenance_of(file: str | Path) -> dict[str, Any]:
    """What ``write`` put into the footer."""
    with reading(file):
        return dict(json.loads(pq.read_schema(file).metadata[PROVENANCE_KEY]))


def require(file: str | Path, **own: Any) -> None:
    """That a table is whole and the one that belongs in its place: its footer says the same as ``own`` (name -> value).

    Raises:
        Damaged: its content is not what was written.
        Misplaced: it was written for another place; the message says for which.
        FileTrouble: it cannot be read.
    """
    seal.check(file)
    made, wanted = provenance_of(file), json.loads(json.dumps(own))
    other = [_difference(name, made.get(name), value) for name, value in wanted.items() if made.get(name) != value]
    if other:
        raise Misplaced(file, f"its footer {' and '.join(other)}")


def _difference(name: str, found: Any, wanted: Any) -> str:
    """How two values of the footer differ; of two blocks, where they do first."""
    if isinstance(found, dict) and isinstance(wanted, dict) and found.keys() == wanted.keys():
        key = next(key for key in wanted if found[key] != wanted[key])
        return f"{_difference(key, found[key], wanted[key])} of the {name}"
    if isinstance(found, str) and isinstance(wanted, str):
        return f"says {found!r} where {wanted!r} belongs, as the {name}"
    return f"{'does not name' if found is None else 'holds other values for'} the {name}"
