"""Cells as moments: what gives the order of the steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from study.data.cells import NUMBER, Cells, all_true, is_text, trimmed, with_decimal_points
from study.data.messages import DataError, quoted

_DATE_TYPES = tuple(
    pa.timestamp(unit, zone) for unit in ("ns", "us") for zone in (None, "UTC")
)  # how dates are written
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "D": 86400.0}


@dataclass(frozen=True)
class Moments:
    """A column that says when.

    Attributes:
        ranks: (cells,) int64; equal moments have equal ranks.
        values: (cells,) float64, for distances: in ``unit``.
    """

    ranks: np.ndarray
    values: np.ndarray
    unit: str


def moments(cells: Cells) -> Moments:
    """Cells as moments that have an order: numbers, dates, or text that reads as either.

    Raises:
        DataError: some are blank, or text that has no order in time.
    """
    values, unit = _moment_values(cells)
    missing = np.asarray(pc.fill_null(pc.is_null(values, nan_is_null=True), True))
    if missing.any():
        raise DataError(f"{cells.where} is blank in {cells.in_rows(missing)}; every row needs its time")
    if pa.types.is_decimal(values.type):
        exact = np.array(values.to_pylist(), dtype=object)
    else:
        exact = values.to_numpy(zero_copy_only=False)
    _, ranks = np.unique(exact, return_inverse=True)
    return Moments(ranks.astype(np.int64), exact.astype(np.float64) * _SECONDS.get(unit, 1.0), "s" if unit else "")


def _moment_values(cells: Cells) -> tuple[pa.Array, str]:
    """(sortable numbers, their unit of time if they are dates)."""
    values, kind = cells.values, cells.values.type
    if is_text(kind):
        text = trimmed(values)
        if all_true(pc.match_substring_regex(with_decimal_points(text, cells.decimal), NUMBER)):
            plain = _first_cast(with_decimal_points(text, cells.decimal), pa.int64(), pa.uint64(), pa.float64())
            assert plain is not None  # what matches is a number
            return plain, ""
        dates = _first_cast(text, *_DATE_TYPES)
        if dates is not None:
            return dates.cast(pa.int64()), dates.type.unit
        odd = _first_unread(text, cells.decimal)
        raise DataError(
            f"{cells.where} gives the order of the rows and holds {quoted(text[odd].as_py())} in {cells.in_rows(np.array([odd]))}; write numbers, or dates as 2024-12-31 or 2024-12-31 23:59:59"
        )
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return (values.cast(pa.float64()) if pa.types.is_float16(kind) else values), ""
    if pa.types.is_timestamp(kind) or pa.types.is_time(kind) or pa.types.is_duration(kind):
        return values.cast(pa.int32() if pa.types.is_time32(kind) else pa.int64()), kind.unit
    if pa.types.is_date(kind):
        return values.cast(pa.date32()).cast(pa.int32()), "D"
    if pa.types.is_null(kind):
        return pa.nulls(len(values), pa.int64()), ""
    raise DataError(f"{cells.where} gives the order of the rows and is of type {kind}; it must hold numbers or dates")


def _first_unread(text: pa.Array, decimal: str) -> int:
    """The first cell that cannot be read as the cells before it can."""
    low, high = 0, len(text)  # the first ``low`` cells can be read, the first ``high`` cannot
    while high - low > 1:
        middle = (low + high) // 2
        part = text[:middle]
        numbers = all_true(pc.match_substring_regex(with_decimal_points(part, decimal), NUMBER))
        low, high = (middle, high) if numbers or _first_cast(part, *_DATE_TYPES) is not None else (low, middle)
    return high - 1


def _first_cast(text: pa.Array, *kinds: pa.DataType) -> pa.Array | None:
    """The text in the first type that all cells can be read as; None if there is none."""
    for kind in kinds:
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None
