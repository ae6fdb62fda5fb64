"""What the cells of a user's column mean: numbers, class labels, identifiers, moments in time, marks of yes and no.

Whatever a file calls a type, a number is a number: integers of any width, decimals, booleans, and text that reads as one. What
cannot be meant is refused with its data rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from study.counts import counted
from study.data.messages import DataError, listed, quoted
from study.data.reading import Cells

EXACT = 2**53  # integers up to this size are float64 numbers, all of them
LARGEST_LABEL = 10**9  # an integer beyond it is taken for an identifier or a timestamp, not for a class
# how programs write a missing value, in small letters
BLANK = ["", "na", "n/a", "nan", "null", "none", "#n/a", "#na", "-nan", "<na>", "nat"]
_YES, _NO = ("true", "yes"), ("false", "no")
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_DATE_TYPES = tuple(
    pa.timestamp(unit, zone) for unit in ("ns", "us") for zone in (None, "UTC")
)  # how dates are written
_INFINITE = r"(?i)^[+-]?inf(inity)?$"
_INTEGER = r"^-?(0|[1-9][0-9]*)$"
_LABEL = r"^[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?$"  # no leading zeros: 007 is a name
_DATE = r"^([0-9]{4}-[0-9]{1,2}-[0-9]{1,2}|[0-9]{1,2}[./][0-9]{1,2}[./][0-9]{2,4}|[0-9]{1,2}:[0-9]{2}(:[0-9]{2})?$)"
_THOUSANDS = {".": r"^[+-]?[0-9]{1,3}(,[0-9]{3})+\.[0-9]*$", ",": r"^[+-]?[0-9]{1,3}(\.[0-9]{3})+(,[0-9]*)?$"}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9, "D": 86400.0}


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Attributes:
        values: (cells,) float64; nan where the cell is blank or not a number.
        blank: (cells,) bool.
        notes: what was done to get them, for the report.
    """

    values: np.ndarray
    blank: np.ndarray
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Names:
    """A column of names: class labels or identifiers.

    Attributes:
        codes: (cells,) int64, index into ``names``.
        names: different values; labels in sorted order, identifiers in the order of their first cells.
        warnings: what may not be meant.
    """

    codes: np.ndarray
    names: list[Any]
    warnings: list[str] = field(default_factory=list)


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


def numbers(cells: Cells) -> Numbers:
    """Cells as numbers.

    Raises:
        DataError: some hold no number.
    """
    values, kind = cells.values, cells.values.type
    if _is_text(kind):
        return _numbers_of_text(cells)
    blank = np.asarray(values.is_null())
    if pa.types.is_null(kind):
        return Numbers(np.full(len(values), np.nan), blank)
    if pa.types.is_boolean(kind):
        found = values.cast(pa.uint8()).cast(pa.float64())
        return Numbers(_floats(found), blank, ["true and false are read as 1 and 0"])
    if pa.types.is_integer(kind):
        exact = values.fill_null(0).to_numpy(zero_copy_only=False)
        found, lost = exact.astype(np.float64), _lost(exact)
        return Numbers(np.where(blank, np.nan, found), blank, _said_of_lost(lost))
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        found = _floats(values.cast(pa.float64()))
        lost = int((np.abs(found) > EXACT).sum()) if pa.types.is_decimal(kind) else 0
        return Numbers(found, blank, _said_of_lost(lost))
    raise DataError(_no_number(cells))


def finite(cells: Cells, need: str) -> Numbers:
    """Cells as finite numbers, none of them blank; ``need`` says why.

    Raises:
        DataError: some are not.
    """
    found = numbers(cells)
    faults = []
    kinds = {
        "blank": found.blank,
        "not a number (nan)": np.isnan(found.values) & ~found.blank,
        "infinite": np.isinf(found.values),
    }
    for kind, wrong in kinds.items():
        if wrong.any():
            faults.append(
                f"{kind} in {cells.in_rows(wrong)} ({counted(int(wrong.sum()), 'missing or non-finite value')})"
            )
    if faults:
        raise DataError(f"{cells.where} is {listed(faults)}; {need}")
    return found


def labels(cells: Cells, need: str) -> Names:
    """Cells as class labels: text, booleans or integers, counted from 0 in sorted order; ``need`` says why none may be blank.

    Raises:
        DataError: some are blank, fractions, or look like identifiers; or two differ in blanks alone.
    """
    codes, raw = distinct(cells)
    meant, warnings = _labels_meant(cells, codes, raw)
    _require_named(cells, codes, meant, need)
    _require_apart(cells, raw, [value if isinstance(value, str) else None for value in meant], "classes")
    names = sorted(set(meant) - {None})
    if names and isinstance(names[0], int) and max(abs(names[0]), abs(names[-1])) > LARGEST_LABEL:
        raise DataError(
            f"{cells.where} looks like identifiers or timestamps, and as classes they are too many: labels run from "
            f"{names[0]} to {names[-1]} ({counted(len(names), 'different value')} in {counted(len(codes), 'target')}); "
            "number the classes 0, 1, 2, …, or write their names"
        )
    place = {name: index for index, name in enumerate(names)}
    number = np.array([place.get(value, -1) for value in meant], dtype=np.int64)
    return Names(number[codes], names, warnings)


def identifiers(cells: Cells) -> Names:
    """Cells as names of sequences, in the order of their first cells.

    Raises:
        DataError: some are blank; or two differ only in how they are written.
    """
    codes, raw = distinct(cells)
    meant = raw
    if _is_text(cells.values.type):
        meant = [None if says_nothing(text) else text.strip() for text in raw]
        if all(text is None or _matches(text, _INTEGER) for text in meant):
            meant = [None if text is None else int(text) for text in meant]
    _require_named(cells, codes, meant, "every row needs to say which sequence it belongs to")
    _require_apart(cells, raw, meant, "identifiers")
    warnings = []
    folded: dict[str, Any] = {}
    for name in meant:
        if isinstance(name, str) and folded.setdefault(name.lower(), name) != name:
            warnings.append(
                f"{cells.where}: {folded[name.lower()]!r} and {name!r} are two sequences; only their capitals differ"
            )
    return Names(codes, list(meant), warnings[:3])


def flags(cells: Cells) -> np.ndarray:
    """Cells as yes (1, true) or no (0, false): (cells,) bool.

    Raises:
        DataError: some are neither.
    """
    found = numbers(cells)
    wrong = found.blank | ~np.isin(found.values, (0.0, 1.0))
    if wrong.any():
        given = quoted(cells.values[int(np.flatnonzero(wrong)[0])].as_py())
        raise DataError(
            f"{cells.where} holds {given} in {cells.in_rows(wrong)}; a mask is 1 or true where the row carries a target, else 0 or false"
        )
    return np.asarray(found.values == 1.0)


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
    if _is_text(kind):
        text = _trimmed(values)
        if _all(pc.match_substring_regex(_plain(text, cells.decimal), _NUMBER)):
            plain = _first_cast(_plain(text, cells.decimal), pa.int64(), pa.uint64(), pa.float64())
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
    """The first cell of a text that cannot be read together with those before it: in doubt the first of another kind."""
    low, high = 0, len(text)  # the first ``low`` cells can be read, the first ``high`` cannot
    while high - low > 1:
        middle = (low + high) // 2
        part = text[:middle]
        numbers = _all(pc.match_substring_regex(_plain(part, decimal), _NUMBER))
        low, high = (middle, high) if numbers or _first_cast(part, *_DATE_TYPES) is not None else (low, middle)
    return high - 1


def _first_cast(text: pa.Array, *kinds: pa.DataType) -> pa.Array | None:
    """The text in the first type that all cells read as; None if there is none."""
    for kind in kinds:
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def _matches(text: str, pattern: str) -> bool:
    return re.search(pattern, text) is not None


def _all(matched: pa.Array) -> bool:
    """Whether all that are not null are true, and there are some."""
    return bool(pc.all(matched, min_count=1).as_py())


def says_nothing(value: Any) -> bool:
    """Whether a cell is blank, or holds what programs write for a missing value."""
    return value is None or (isinstance(value, str) and value.strip().lower() in BLANK)


def _trimmed(values: pa.Array) -> pa.Array:
    """Text without surrounding blanks; null where a program wrote that the value is missing."""
    text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    blank = pc.is_in(pc.utf8_lower(text), pa.array(BLANK))
    return pc.if_else(blank, pa.scalar(None, pa.string()), text)


def _plain(text: pa.Array, decimal: str) -> pa.Array:
    """Numbers in text as programs write them. With a decimal comma a point is no part of a number, and stays unreadable."""
    if decimal == ".":
        return text
    return pc.replace_substring(pc.replace_substring(text, ".", "point"), ",", ".")


def _numbers_of_text(cells: Cells) -> Numbers:
    try:  # cells that are all plain numbers, as nearly always: four times as fast
        plain, text = _plain(cells.values, cells.decimal), None
        values = plain.cast(pa.float64())
    except pa.ArrowInvalid:
        text = _trimmed(cells.values)
        plain = _plain(text, cells.decimal)
        good = pc.or_(pc.match_substring_regex(plain, _NUMBER), pc.match_substring_regex(plain, _INFINITE))
        wrong = ~np.asarray(pc.fill_null(good, True))
        if wrong.any():
            return _of_words(cells, text, wrong)
        values = plain.cast(pa.float64())
    found = _floats(values)
    return Numbers(found, np.asarray(plain.is_null()), _said_of_lost(_lost_in_text(plain, found)))


def _of_words(cells: Cells, text: pa.Array, wrong: np.ndarray) -> Numbers:
    """Cells of which some are no numbers: 1 and 0 if all that are not blank say yes or no."""
    small, blank = pc.utf8_lower(text), np.asarray(text.is_null())
    yes, no = (np.asarray(pc.is_in(small, pa.array(words))) for words in (_YES, _NO))
    if not (yes | no | blank).all():
        raise DataError(_unreadable(cells, text, wrong))
    return Numbers(np.where(blank, np.nan, yes.astype(np.float64)), blank, ["true and false are read as 1 and 0"])


def _lost_in_text(plain: pa.Array, values: np.ndarray) -> int:
    """How many of these whole numbers, as they are written, float64 does not hold exactly."""
    large = np.flatnonzero(np.abs(values) >= EXACT)
    whole = [text for text in plain.take(pa.array(large)).to_pylist() if re.search(r"^\s*[+-]?[0-9]+\s*$", text)]
    return sum(int(float(text)) != int(text) for text in whole)


def _floats(values: pa.Array) -> np.ndarray:
    return np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)


def _lost(exact: np.ndarray) -> int:
    """How many integers float64 does not hold exactly."""
    large = [value for value in exact[np.abs(exact.astype(np.float64)) >= EXACT].tolist() if int(float(value)) != value]
    return len(large)


def _said_of_lost(count: int) -> list[str]:
    if not count:
        return []
    return [f"{counted(count, 'integer')} beyond 2^53 lost their last digits in float64; take an offset away before"]


def _unreadable(cells: Cells, text: pa.Array, wrong: np.ndarray) -> str:
    """What stands where a number should, and what would be right."""
    cell = str(text[int(np.flatnonzero(wrong)[0])].as_py())
    said = f"{cells.where} holds {quoted(cell)} in {cells.in_rows(wrong)}, and must hold numbers"
    comma = cells.decimal == ","
    if _matches(cell, _DATE):
        return f"{said}; {_DATES}"
    if _matches(cell, _THOUSANDS[cells.decimal]):
        return f"{said}; write them without separators of thousands"
    if not comma and _matches(cell, r"^[+-]?[0-9]*,[0-9]+([eE][+-]?[0-9]+)?$"):
        return f'{said}; for decimal commas add decimal: ",", and write thousands without separators'
    if comma and _matches(cell, _NUMBER):
        return f'{said}; with decimal: "," a number has no point'
    return said


_DATES = "a date is no input: write it as a number, such as hours since the start, or name the column under time: if it orders the rows"


def _no_number(cells: Cells) -> str:
    kind = cells.values.type
    if pa.types.is_temporal(kind):
        return f"{cells.where} is of type {kind}, and must hold numbers; {_DATES}"
    if pa.types.is_nested(kind):
        return f"{cells.where} is of type {kind}, several values a cell; give each of them a column of numbers"
    return f"{cells.where} is of type {kind}; it must hold numbers"


def distinct(cells: Cells) -> tuple[np.ndarray, list[Any]]:
    """(index of every cell into the different values, these values in the order of their first cells); None is a blank cell.

    Raises:
        DataError: cells hold several values, or bytes.
    """
    kind = cells.values.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        raise DataError(f"{cells.where} is of type {kind}; it must hold names or whole numbers")
    values = cells.values.cast(pa.float64()) if pa.types.is_float16(kind) else cells.values
    encoded = values.dictionary_encode()
    raw = encoded.dictionary.to_pylist()
    if encoded.indices.null_count or not raw:
        raw.append(None)
    codes = np.asarray(encoded.indices.fill_null(len(raw) - 1), dtype=np.int64)
    return codes, [None if isinstance(value, float) and np.isnan(value) else value for value in raw]


def _require_named(cells: Cells, codes: np.ndarray, meant: Sequence[Any], need: str) -> None:
    blank = np.array([value is None for value in meant])[codes]
    if blank.any():
        raise DataError(f"{cells.where} is blank in {cells.in_rows(blank)} (NA, nan and null count as blank); {need}")


def _require_apart(cells: Cells, raw: Sequence[Any], meant: Sequence[Any], what: str) -> None:
    """That no two values are written differently and mean the same to a reader: ``a`` and ``a `` or ``1`` and ``01``."""
    first: dict[Any, Any] = {}
    for given, value in zip(raw, meant, strict=True):
        same = float(value) if isinstance(value, str) and _matches(value, r"^[+-]?[0-9]+(\.0*)?$") else value
        if isinstance(given, str) and value is not None and given != first.setdefault(same, given):
            raise DataError(
                f"{cells.where}: the {what} {first[same]!r} and {given!r} differ only in how they are written; write them alike, or name them apart"
            )


def _labels_meant(cells: Cells, codes: np.ndarray, raw: list[Any]) -> tuple[list[Any], list[str]]:
    """(every different value as a label, or None if it is blank; warnings)."""
    if _is_text(cells.values.type):
        return _labels_of_text(cells, codes, raw)
    if all(value is None or isinstance(value, bool) for value in raw):
        return raw, []
    if all(value is None or not hasattr(value, "__float__") for value in raw):
        return [None if value is None else str(value) for value in raw], []
    fraction = np.array([value is not None and value != value // 1 for value in raw])[codes]
    if fraction.any():
        raise DataError(_fraction(cells, fraction))
    return [None if value is None else int(value) for value in raw], []


def _labels_of_text(cells: Cells, codes: np.ndarray, raw: list[str | None]) -> tuple[list[Any], list[str]]:
    text = [None if value is None else value.strip() for value in raw]
    said = [value for value in text if not says_nothing(value)]
    plain = {value: value.replace(",", ".") if cells.decimal == "," else value for value in said if value is not None}
    if said and all(_matches(value, _LABEL) for value in plain.values()):
        fraction = np.array([value in plain and float(plain[value]) % 1 != 0 for value in text])[codes]
        if fraction.any():
            raise DataError(_fraction(cells, fraction))
        return [int(plain[value].partition(".")[0]) if value in plain else None for value in text], []
    if said and all(value is not None and value.lower() in ("true", "false") for value in said):
        return [value.lower() == "true" if value in plain else None for value in text], []  # type: ignore[union-attr]
    names = [value or None for value in text]
    blank = sorted({value for value in names if value and says_nothing(value)})
    warnings = [
        f"{cells.where}: {value!r} is taken as the name of a class; if it means a missing value, leave the cell empty"
        for value in blank
    ]
    if not said:  # nothing but words for missing values
        return [None] * len(names), []
    folded: dict[str, str] = {}
    for name in filter(None, names):
        if folded.setdefault(name.lower(), name) != name:
            warnings.append(
                f"{cells.where}: {folded[name.lower()]!r} and {name!r} are two classes; only their capitals differ"
            )
    return list(names), warnings


def _fraction(cells: Cells, wrong: np.ndarray) -> str:
    given = quoted(cells.values[int(np.flatnonzero(wrong)[0])].as_py())
    return (
        f"{cells.where} holds {given} in {cells.in_rows(wrong)}; softmax_cross_entropy needs class labels: names or whole numbers. "
        "For numbers as targets choose loss: squared_error"
    )
