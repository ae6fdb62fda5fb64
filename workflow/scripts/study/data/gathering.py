"""From the columns of a file to sequences: their inputs, their targets, where they end, and which steps carry a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from study.counts import counted
from study.data import reading
from study.data.cells import Cells, is_blank
from study.data.messages import NO_HEADER, DataError, column_name, is_number, listed, nearest, quoted
from study.data.names import Names, distinct, labels
from study.data.numbers import finite, flags
from study.data.order import Notes, Order, columns_of_order, order_of
from study.data.table import Table
from study.machine import memory_of_machine_mb

MOST_CLASSES = 1000
LEAST_CODE, FAR_OUT = (
    99,
    20,
)  # a number that marks missing values is no smaller, and so many times as large as all others
SHOWN_COLUMNS = 20  # that a sentence names
FEW_CLASSES = 20  # up to here classes may be as many as the targets


@dataclass(frozen=True)
class Gathered:
    """Sequences with targets, not split yet.

    Attributes:
        inputs: (N, T, D) float64, 0 after a sequence's end.
        targets: (N,) int64 or (N, C) float64 for a loss at the last step, with T as second axis for one at every step.
        mask: (N, T) bool, steps that carry a target. None if that is the last step of all sequences, or every step.
        ends, starts: (N,) the steps up to the last target, and up to the first.
        names: (N,) identifiers.
        classes: what the labels 0, 1, … are called; None for a regression.
        file_rows: rows of the file.
        unused: columns that nothing uses.
    """

    inputs: np.ndarray
    targets: np.ndarray
    mask: np.ndarray | None
    ends: np.ndarray
    starts: np.ndarray
    names: list[Any]
    classes: list[Any] | None
    file_rows: int
    unused: list[str]


def gather(name: str, described: Mapping[str, Any], root: Path, notes: Notes) -> Gathered:
    """The sequences of a file with one row a time step, as the config's ``sequences`` section describes them.

    Raises:
        DataError: the file, a column or a cell is not what it must be.
    """
    _require_roles(name, described)
    table = reading.read(name, described, root, lambda names: _wanted(name, described, names))
    order = order_of(table, described, notes)
    if order.lengths.max() == 1:
        notes.warnings.append(
            f"{table.where}: every sequence has one row, so there is nothing to remember; the file needs one row a time step, and "
            "sequence: names the column that its rows share"
        )
    carry = _carrying(table, described, order, notes)
    last = described["loss_at"] == "last"
    if last:  # the last of the rows that carry a target
        final = np.full(len(order.names), -1)
        np.maximum.at(final, order.of_row[carry], np.flatnonzero(carry))
        carry = np.zeros_like(carry)
        carry[final] = True
    targets, classes = _targets(table, described, order.rows[carry], notes)
    ends, starts = _ends(order, carry)
    T = int(ends.max())
    _require_memory(table.where, len(ends), T, len(described["inputs"]))
    inside = order.step < ends[order.of_row]
    _say_unused_rows(inside, notes)
    inputs = np.zeros((len(ends), T, len(described["inputs"])))
    for index, column in enumerate(described["inputs"]):
        inputs[order.of_row[inside], order.step[inside], index] = _input(table, column, order, notes)[inside]
    mask = np.zeros((len(ends), T), dtype=bool)
    mask[order.of_row[carry], order.step[carry]] = True
    if not last:
        targets = _by_step(targets, mask, order, carry)
    elif _varied(table, described, order, carry):
        notes.report.append("only the target in each sequence's last row counts; earlier rows hold others")
    plain = mask[:, -1].all() if last else mask.all()
    used = {
        described["sequence"],
        described.get("time"),
        described.get("mask"),
        *described["inputs"],
        *described["targets"],
    }
    unused = [column or "(no name)" for column in table.names if column not in used]
    return Gathered(inputs, targets, None if plain else mask, ends, starts, order.names, classes, table.rows, unused)


def _require_roles(name: str, described: Mapping[str, Any]) -> None:
    """Refuse a column that has two roles which exclude each other."""
    where, targets = f"sequences.{name}", list(described["targets"])
    if described["loss"] == "softmax_cross_entropy" and len(targets) != 1:
        raise DataError(
            f"{where}.targets: softmax_cross_entropy takes one column of class labels, not {len(targets)} ({', '.join(targets)}); "
            "make a task of each"
        )
    columns_of = {"inputs": described["inputs"], "targets": targets}
    columns_of |= {key: [described[key]] for key in ("sequence", "time", "mask") if described.get(key) is not None}
    for role, other_role in (("sequence", "inputs"), ("sequence", "targets"), ("sequence", "time"), ("sequence", "mask"), ("mask", "time"), ("mask", "targets")):  # fmt: skip
        shared = [column for column in columns_of.get(other_role, []) if column in columns_of.get(role, [])]
        if shared:
            raise DataError(
                f"{where}.{other_role}: {shared[0]!r} is the column of {role}: already; a column cannot be both"
            )


def _wanted(name: str, described: Mapping[str, Any], names: list[str]) -> list[str]:
    """The columns to read: all that the config names. If it names no time, also those that look like time."""
    roles = [("sequence", described["sequence"]), ("time", described.get("time")), ("mask", described.get("mask"))]
    roles += [(key, column) for key in ("inputs", "targets") for column in described[key]]
    missing = list(dict.fromkeys(column for _, column in roles if column is not None and column not in names))
    if missing:
        where = f"sequences.{name} ({described['file']})"
        shown = listed(map(repr, missing))
        hint = f" Or {NO_HEADER}." if all(map(is_number, names)) else nearest(missing[0], names)
        columns_there = [column_name(column) for column in names]
        there = ", ".join(columns_there) if len(names) <= SHOWN_COLUMNS else listed(columns_there)
        raise DataError(f"{where}: no column {shown}; the file has {there}.{hint}")
    chosen = [column for _, column in roles if column is not None]
    if "time" not in described:
        chosen += columns_of_order(names)
    return list(dict.fromkeys(chosen))


def _carrying(table: Table, described: Mapping[str, Any], order: Order, notes: Notes) -> np.ndarray:
    """(rows,) bool: which of the ordered rows carry a target."""
    mask = described.get("mask")
    if mask is None:
        return np.ones(len(order.rows), dtype=bool)
    carry = flags(table.cells(mask, order.rows))
    none = np.flatnonzero(np.bincount(order.of_row, weights=carry, minlength=len(order.names)) == 0)
    if none.size:
        shown = listed((quoted(order.names[index]) for index in none[:10]), none.size)
        raise DataError(
            f"{table.where}: column {mask!r} marks no row of {counted(none.size, 'sequence')} ({shown}); every sequence needs a target"
        )
    notes.report.append(f"{mask!r} marks {int(carry.sum()):,} of {counted(len(carry), 'row')} as carrying a target")
    return carry


def _ends(order: Order, carry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) steps up to the last and up to the first row that carries a target."""
    N = len(order.names)
    ends, starts = np.zeros(N, dtype=np.int64), np.full(N, np.iinfo(np.int64).max)
    np.maximum.at(ends, order.of_row[carry], order.step[carry] + 1)
    np.minimum.at(starts, order.of_row[carry], order.step[carry] + 1)
    return ends, starts


def _say_unused_rows(inside: np.ndarray, notes: Notes) -> None:
    after = int((~inside).sum())
    if after:
        notes.report.append(
            f"{counted(after, 'row')} after the last target of their sequence change no gradient and are left out"
        )


def _require_memory(where: str, N: int, T: int, D: int) -> None:
    """Refuse sequences that do not fit into this machine, each as long as the longest."""
    wanted, there = N * T * D * 8, memory_of_machine_mb() * 2**20
    if wanted > there / 2:
        raise DataError(
            f"{where}: {N:,} sequences, the longest of {T:,} steps with {counted(D, 'input')}, take {wanted / 2**30:.1f} GiB. "
            f"This machine has {there / 2**30:.1f} GiB; cut the longest sequences, or use fewer"
        )


def _input(table: Table, column: str, order: Order, notes: Notes) -> np.ndarray:
    """(rows,) one input in the order of the steps. Notes tell what is remarkable about it."""
    numbers = finite(table.cells(column), "every input needs a number in every row")
    values = numbers.values
    notes.report += [f"input {column!r}: {line}" for line in numbers.notes]
    notes.report.append(f"input {column!r}: {_spread(values)}")
    key = table.where
    if values.min() == values.max():
        notes.warnings.append(f"{key}: input {column!r} is {values[0]:g} in every row; it tells the network nothing")
    elif np.abs(values).max() > 1e6:
        notes.warnings.append(f"{key}: input {column!r} reaches {np.abs(values).max():.3g}; units saturate. Standardise it (mean 0, standard deviation 1)")  # fmt: skip
    elif np.abs(values).max() < 1e-6:
        notes.warnings.append(f"{key}: input {column!r} stays below {np.abs(values).max():.3g}; the network hardly sees it. Standardise it (mean 0, standard deviation 1)")  # fmt: skip
    notes.warnings += _codes_for_missing(f"{key}: input {column!r}", values)
    return np.asarray(values[order.rows])


def _codes_for_missing(what: str, values: np.ndarray) -> list[str]:
    """A warning if one whole number lies far from all others, again and again: -999 and its like mark missing values."""
    farthest = values[np.abs(values).argmax()]
    marked = values == farthest
    others = np.abs(values[~marked])
    if marked.sum() < 2 or farthest % 1 or not others.size or others.min() == others.max():
        return []
    if abs(farthest) < LEAST_CODE or abs(farthest) <= FAR_OUT * others.max():
        return []
    rows = counted(int(marked.sum()), "row")
    return [
        f"{what} is {farthest:g} in {rows} and stays within {others.max():.3g} elsewhere; if it marks missing values, fill them in: it is read as a number"
    ]


def _spread(values: np.ndarray) -> str:
    with np.errstate(over="ignore", invalid="ignore"):
        return f"min {values.min():.4g}, mean {values.mean():.4g}, max {values.max():.4g}, standard deviation {values.std():.4g}"


def _targets(
    table: Table, described: Mapping[str, Any], rows: np.ndarray, notes: Notes
) -> tuple[np.ndarray, list[Any] | None]:
    """(targets of these data rows, classes): (rows,) labels or (rows, C) numbers."""
    if described["loss"] == "softmax_cross_entropy":
        cells = table.cells(described["targets"][0], rows)
        names = labels(cells, f"every row that carries a target needs its class{_remedy(described)}")
        notes.warnings += names.warnings
        _require_few_classes(cells, names)
        return names.codes, names.names
    need = f"a squared error needs a number in every row that carries a target{_remedy(described)}"
    values = []
    for column in described["targets"]:
        numbers = finite(table.cells(column, rows), need, "; for names of classes choose loss: softmax_cross_entropy")
        notes.report += [f"target {column!r}: {line}" for line in numbers.notes]
        notes.report.append(f"target {column!r}: {_spread(numbers.values)}")
        if numbers.values.min() == numbers.values.max():
            notes.warnings.append(
                f"{table.where}: target {column!r} is {numbers.values[0]:g} wherever it counts; there is nothing to learn of it"
            )
        notes.warnings += _codes_for_missing(f"{table.where}: target {column!r}", numbers.values)
        values.append(numbers.values)
    return np.stack(values, axis=1), None


def _remedy(described: Mapping[str, Any]) -> str:
    """What helps where some steps have no target."""
    if described.get("mask") is not None:
        return ""
    if described["loss_at"] == "last":
        return "; with loss_at: last the last row of every sequence does"
    return "; where some have none, name a column under mask: that is 1 in rows with a target, else 0"


def _require_few_classes(cells: Cells, names: Names) -> None:
    """Refuse classes that look like identifiers: more than 1000, or more than 20 and half as many as targets."""
    classes, targets = len(names.names), len(names.codes)
    if classes > MOST_CLASSES or (classes > FEW_CLASSES and 2 * classes >= targets):
        raise DataError(
            f"{cells.where} has too many classes, {classes:,} in {counted(targets, 'target')}: it looks like identifiers. "
            f"At most {MOST_CLASSES:,} are allowed; more than {FEW_CLASSES} must be fewer than half the targets"
        )


def _by_step(targets: np.ndarray, mask: np.ndarray, order: Order, carry: np.ndarray) -> np.ndarray:
    """Targets (N, T, …), 0 at steps without one, from the targets of the rows that carry one."""
    spread = np.zeros((*mask.shape, *targets.shape[1:]), dtype=targets.dtype)
    spread[order.of_row[carry], order.step[carry]] = targets
    return spread


def _varied(table: Table, described: Mapping[str, Any], order: Order, carry: np.ndarray) -> bool:
    """Whether a row that does not count holds another target than the one row of its sequence that counts."""
    for column in described["targets"]:
        codes, values = distinct(table.cells(column, order.rows))
        blank = np.array([is_blank(value) for value in values])[codes]
        if ((codes != codes[carry][order.of_row]) & ~blank).any():
            return True
    return False
