"""Cells as numbers: of any type that a file may give them, or text that reads as numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from study.counts import counted
from study.data.cells import NUMBER, Cells, is_text, matches, trimmed, with_decimal_points
from study.data.messages import DataError, listed, quoted

EXACT = 2**53  # integers up to this size are float64 numbers, all of them
_YES, _NO = ("true", "yes"), ("false", "no")
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_DATE = r"^([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4}|[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?$)"
_DATES = "a date is no input. Write it as a number, such as hours since the start, or name the column under time: if it orders the rows"
_THOUSANDS = {".": r"^[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]*$", ",": r"^[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]*)?$"}


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Attributes:
        values: (cells,) float64; nan where the cell is blank or not a number.
        blank: (cells,) bool.
        notes: for the report, what was done to get the numbers.
    """

    values: np.ndarray
    blank: np.ndarray
    notes: list[str] = field(default_factory=list)


def numbers(cells: Cells, of_words: str = "") -> Numbers:
    """Cells as numbers.

    Args:
        of_words: what helps where a cell holds a word.

    Raises:
        DataError: some hold no number.
    """
    values, kind = cells.values, cells.values.type
    if is_text(kind):
        return _numbers_of_text(cells, of_words)
    blank = np.asarray(values.is_null())
    if pa.types.is_null(kind):
        return Numbers(np.full(len(values), np.nan), blank)
    if pa.types.is_boolean(kind):
        floats = values.cast(pa.uint8()).cast(pa.float64())
        return Numbers(_floats(floats), blank, ["true and false are read as 1 and 0"])
    if pa.types.is_integer(kind):
        exact = values.fill_null(0).to_numpy(zero_copy_only=False)
        floats, rounded = exact.astype(np.float64), _rounded_integers(exact)
        return Numbers(np.where(blank, np.nan, floats), blank, _note_on_rounding(rounded))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        floats = _floats(values.cast(pa.float64()))
        rounded = int((np.abs(floats) > EXACT).sum()) if pa.types.is_decimal(kind) else 0
        return Numbers(floats, blank, _note_on_rounding(rounded))
    raise DataError(_no_number(cells))


def finite(cells: Cells, need: str, of_words: str = "") -> Numbers:
    """Cells as finite numbers, none of them blank; ``need`` says why, ``of_words`` what helps where a cell holds a word.

    Raises:
        DataError: some are not.
    """
    column = numbers(cells, of_words)
    faults = []
    kinds = {
        "blank": column.blank,
        "not a number (nan)": np.isnan(column.values) & ~column.blank,
        "infinite": np.isinf(column.values),
    }
    for kind, wrong in kinds.items():
        if wrong.any():
            faults.append(
                f"{kind} in {cells.in_rows(wrong)} ({counted(int(wrong.sum()), 'missing or non-finite value')})"
            )
    if faults:
        raise DataError(f"{cells.where} is {listed(faults)}; {need}")
    return column


def flags(cells: Cells) -> np.ndarray:
    """Cells as yes (1, true) or no (0, false): (cells,) bool.

    Raises:
        DataError: some are neither.
    """
    column = numbers(cells)
    wrong = column.blank | ~np.isin(column.values, (0.0, 1.0))
    if wrong.any():
        given = quoted(cells.values[int(np.flatnonzero(wrong)[0])].as_py())
        raise DataError(
            f"{cells.where} holds {given} in {cells.in_rows(wrong)}; a mask is 1 or true where the row carries a target, else 0 or false"
        )
    return np.asarray(column.values == 1.0)


def _numbers_of_text(cells: Cells, of_words: str) -> Numbers:
    try:  # cells that are all plain numbers, as nearly always: four times as fast
        decimal_text, text = with_decimal_points(cells.values, cells.decimal), None
        values = decimal_text.cast(pa.float64())
    except pa.ArrowInvalid:
        text = trimmed(cells.values)
        decimal_text = with_decimal_points(text, cells.decimal)
        readable = pc.or_(
            pc.match_substring_regex(decimal_text, NUMBER), pc.match_substring_regex(decimal_text, _INFINITE)
        )
        wrong = ~np.asarray(pc.fill_null(readable, True))
        if wrong.any():
            return _numbers_of_yes_and_no(cells, text, wrong, of_words)
        values = decimal_text.cast(pa.float64())
    floats = _floats(values)
    return Numbers(
        floats, np.asarray(decimal_text.is_null()), _note_on_rounding(_rounded_in_text(decimal_text, floats))
    )


def _numbers_of_yes_and_no(cells: Cells, text: pa.Array, wrong: np.ndarray, of_words: str) -> Numbers:
    """Words as numbers: 1 for yes or true, 0 for no or false.

    Raises:
        DataError: a cell that is not blank says neither.
    """
    small, blank = pc.utf8_lower(text), np.asarray(text.is_null())
    yes, no = (np.asarray(pc.is_in(small, pa.array(words))) for words in (_YES, _NO))
    if not (yes | no | blank).all():
        raise DataError(_unreadable(cells, text, wrong, of_words))
    return Numbers(np.where(blank, np.nan, yes.astype(np.float64)), blank, ["true and false are read as 1 and 0"])


def _rounded_in_text(decimal_text: pa.Array, values: np.ndarray) -> int:
    """How many whole numbers in this text float64 does not hold exactly."""
    large = np.flatnonzero(np.abs(values) >= EXACT)
    whole = [text for text in decimal_text.take(pa.array(large)).to_pylist() if re.search(r"^\s*[+-]?[0-9]+\s*$", text)]
    return sum(int(float(text)) != int(text) for text in whole)


def _floats(values: pa.Array) -> np.ndarray:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def _rounded_integers(exact: np.ndarray) -> int:
    """How many integers float64 does not hold exactly."""
    large = [value for value in exact[np.abs(exact.astype(np.float64)) >= EXACT].tolist() if int(float(value)) != value]
    return len(large)


def _note_on_rounding(count: int) -> list[str]:
    if not count:
        return []
    return [f"{counted(count, 'integer')} beyond 2^53 lost their last digits in float64; subtract an offset first"]


def _unreadable(cells: Cells, text: pa.Array, wrong: np.ndarray, of_words: str) -> str:
    """The text that stands where a number should, and what would be right."""
    cell = str(text[int(np.flatnonzero(wrong)[0])].as_py())
    fault = f"{cells.where} holds {quoted(cell)} in {cells.in_rows(wrong)}, and must hold numbers"
    comma = cells.decimal == ","
    if matches(cell, _DATE):
        return f"{fault}; {_DATES}"
    if matches(cell, _THOUSANDS[cells.decimal]):
        return f"{fault}; write them without separators of thousands"
    if not comma and matches(cell, r"^[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?$"):
        return f'{fault}; for decimal commas add decimal: ",", and write thousands without separators'
    if comma and matches(cell, NUMBER):
        return f'{fault}; with decimal: "," a number has no point'
    if cell.startswith(("\u2212", "\u2013")):
        return f"{fault}; its minus is a typographer's: write -"
    return f"{fault}{of_words}"


def _no_number(cells: Cells) -> str:
    kind = cells.values.type
    if pa.types.is_temporal(kind):
        return f"{cells.where} is of type {kind}, and must hold numbers; {_DATES}"
    if pa.types.is_nested(kind):
        return f"{cells.where} is of type {kind}, several values a cell; give each of them a column of numbers"
    return f"{cells.where} is of type {kind}; it must hold numbers"
