"""The order of a file's rows: which sequence each belongs to, and which step of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from study.counts import counted
from study.data.messages import DataError, data_rows, is_number, quoted
from study.data.moments import Moments, moments
from study.data.names import identifiers
from study.data.table import Table

_TIME_WORDS = frozenset(
    {
        "t",
        "time",
        "times",
        "timestamp",
        "timestep",
        "timesteps",
        "step",
        "steps",
        "date",
        "datetime",
        "frame",
        "tick",
        "year",
        "epoch",
        "ts",
        "unix",
        "idx",
        "index",
    }
)
_TIME_ADDITIONS = frozenset({"s", "ms", "us", "ns", "sec", "secs", "seconds", "min", "minutes", "h", "hours", "d", "days", "utc", "index", "idx", "id", "no", "nr", "number"}) | _TIME_WORDS  # fmt: skip

_INDEX = ("", "Unnamed: 0", "__index_level_0__")  # what pandas calls the rows' own numbers, in CSV and in Parquet


@dataclass
class Notes:
    """What is told of the data: lines of its report, and warnings."""

    report: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Order:
    """Rows by sequence and step.

    Attributes:
        rows: (rows,) data rows, sequence after sequence, and step after step within each.
        of_row: (rows,) the sequence of each of ``rows``.
        step: (rows,) the step of each of ``rows`` in its sequence, counted from 0.
        lengths: (N,) rows of every sequence.
        names: (N,) identifiers.
    """

    rows: np.ndarray
    of_row: np.ndarray
    step: np.ndarray
    lengths: np.ndarray
    names: list[Any]


def order_of(table: Table, described: Mapping[str, Any], notes: Notes) -> Order:
    identified = identifiers(table.cells(described["sequence"]))
    notes.warnings += identified.warnings
    codes, names = identified.codes, identified.names
    time = described.get("time")
    if time is None:
        rows = np.argsort(codes, kind="stable")
        if "time" not in described:
            _check_time_order(table, described, rows, codes[rows], notes)
        _say_apart(table, rows, codes, names, notes)
        notes.report.append("steps and sequences in the order of the file")
    else:
        by_name = sorted(range(len(names)), key=_sortable(names))
        place = np.empty(len(names), dtype=np.int64)
        place[by_name] = np.arange(len(names))
        codes, names = place[codes], [names[index] for index in by_name]
        when = moments(table.cells(time))
        rows = np.lexsort((when.ranks, codes))
        _require_one_moment_each(table, time, rows, codes[rows], when, names)
        notes.report.append(f"steps in the order of {time!r}, sequences in the order of {described['sequence']!r}")
        notes.report += _spacing(time, codes[rows], when.values[rows], when.unit)
    lengths = np.bincount(codes, minlength=len(names))
    step = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Order(rows, codes[rows], step, lengths, names)


def columns_of_order(names: list[str]) -> list[str]:
    """Columns that may tell the order of the rows: those that look like time; if there is none, the index that pandas writes."""
    return [name for name in names if looks_like_time(name)] or [name for name in names if name in _INDEX][:1]


def looks_like_time(column: str) -> bool:
    """``t``, ``time_s``, ``Step``, ``timestamp (ms)`` do; ``lifetime`` and ``time of flight`` do not."""
    words = "".join(letter if letter.isalnum() else " " for letter in column.lower()).split()
    return bool(_TIME_WORDS & set(words)) and set(words) <= _TIME_ADDITIONS


def _sortable(names: list[Any]) -> Any:
    """A key for indices of ``names``: text that is numbers sorts as numbers, 2 before 10."""
    numeric = all(isinstance(name, str) and is_number(name) for name in names)
    return lambda index: (float(names[index]), names[index]) if numeric else names[index]


def _require_one_moment_each(
    table: Table, time: str, rows: np.ndarray, of_row: np.ndarray, when: Moments, names: list[Any]
) -> None:
    same = (np.diff(of_row) == 0) & (np.diff(when.ranks[rows]) == 0)
    if same.any():
        first = int(np.flatnonzero(same)[0])
        pair = np.sort(rows[first : first + 2])
        raise DataError(
            f"{table.where}: column {time!r} gives two rows of sequence {quoted(names[of_row[first]])} the same time, {data_rows(pair)}"
            f" ({counted(int(same.sum()), 'such pair')}). Every step of a sequence needs a time of its own"
        )


def _spacing(time: str, of_row: np.ndarray, values: np.ndarray, unit: str) -> list[str]:
    """A line for the report if steps are not equally long."""
    gaps = np.diff(values)[np.diff(of_row) == 0]
    if not gaps.size or np.allclose(gaps, gaps[0], rtol=1e-6, atol=0.0):
        return []
    unit = f" {unit}" if unit else ""
    return [
        f"steps of {time!r} are not equally long: from {gaps.min():.6g}{unit} to {gaps.max():.6g}{unit}, median {np.median(gaps):.6g}{unit}; "
        "the network sees them as equal"
    ]


def _check_time_order(
    table: Table, described: Mapping[str, Any], rows: np.ndarray, of_row: np.ndarray, notes: Notes
) -> None:
    """Where no ``time`` is named: columns that look like time, and rows' own numbers, must agree with the order of the file."""
    for column in columns_of_order(list(table.columns)):
        if column == described["sequence"] or column in described["targets"]:
            continue
        try:
            ranks = moments(table.cells(column)).ranks[rows]
        except DataError as error:  # one blank cell must not keep the whole column from being checked
            if column in _INDEX:  # names of rows, not numbers
                continue
            raise DataError(
                f"{error}. It looks like time; if it is none, add time: null to keep the file's order"
            ) from error
        back = (np.diff(of_row) == 0) & (np.diff(ranks) < 0)
        if back.any():
            raise DataError(f"{table.where}: {_goes_back(column, rows, back)}")
        same = (np.diff(of_row) == 0) & (np.diff(ranks) == 0)
        if same.any():
            notes.warnings.append(
                f"{table.where}: column {column!r} looks like time and stands still {counted(int(same.sum()), 'time')}, first in "
                f"{data_rows(np.sort(rows[np.flatnonzero(same)[0] :][:2]))}"
            )
        if column not in _INDEX:
            notes.report.append(f"{column!r} looks like time and agrees with the order of the file")


def _goes_back(column: str, rows: np.ndarray, back: np.ndarray) -> str:
    """What is wrong with a column that should rise with the rows of a sequence, and what to write."""
    first = int(np.flatnonzero(back)[0])
    places = f"goes back from data row {rows[first] + 1} to {rows[first + 1] + 1} of one sequence ({counted(int(back.sum()), 'such place')})"
    if column not in _INDEX:
        return f"column {column!r} looks like time and {places}. Add time: {column} to sort the rows by it, or time: null to keep the file's order"
    shown = f"column {column!r}" if column else "the column without a name"
    written = column or '""'
    return (
        f"{shown} holds the rows' own numbers and {places}: the rows may have been shuffled. Add time: {written} to sort them by it, "
        "the name of another column that tells their order, or time: null to keep the file's order"
    )


def _say_apart(table: Table, rows: np.ndarray, codes: np.ndarray, names: list[Any], notes: Notes) -> None:
    """Warn if rows of one sequence lie apart in the file. Two sequences may have the same identifier by mistake."""
    apart = np.flatnonzero((np.diff(codes[rows]) == 0) & (np.diff(rows) > 1))
    if apart.size:
        sequences = len(set(codes[rows[apart]].tolist()))
        first = rows[apart[0] : apart[0] + 2]
        notes.warnings.append(
            f"{table.where}: rows of {counted(sequences, 'sequence')} lie apart in the file, as of {quoted(names[codes[first[0]]])} in {data_rows(first)}; "
            "they are put together"
        )
