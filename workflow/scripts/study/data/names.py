"""Cells as names: class labels, and identifiers of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from study.counts import counted
from study.data.cells import Cells, is_blank, is_text, matches
from study.data.messages import DataError, quoted

LARGEST_LABEL = 10**9  # an integer beyond it is taken for an identifier or a timestamp, not for a class
_INTEGER = r"^-?(0|[1-9][0-9]*)$"
_LABEL = r"^[+-]?(0|[1-9][0-9]*)(\.[0-9]*)?$"  # no leading zeros: 007 is a name


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


def labels(cells: Cells, need: str) -> Names:
    """Cells as class labels: text, booleans or integers, counted from 0 in sorted order.

    Args:
        need: why no cell may be blank.

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
    if is_text(cells.values.type):
        meant = [None if is_blank(text) else text.strip() for text in raw]
        if all(text is None or matches(text, _INTEGER) for text in meant):
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


def distinct(cells: Cells) -> tuple[np.ndarray, list[Any]]:
    """(index of every cell into the different values, the different values in the order of their first cells).

    A blank cell is the value None.

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
    """Refuse two values that a reader takes for the same: ``a`` and ``a ``, or ``1`` and ``01``."""
    first: dict[Any, Any] = {}
    for given, value in zip(raw, meant, strict=True):
        same = float(value) if isinstance(value, str) and matches(value, r"^[+-]?[0-9]+(\.0*)?$") else value
        if isinstance(given, str) and value is not None and given != first.setdefault(same, given):
            raise DataError(
                f"{cells.where}: the {what} {first[same]!r} and {given!r} differ only in how they are written; write them alike, or name them apart"
            )


def _labels_meant(cells: Cells, codes: np.ndarray, raw: list[Any]) -> tuple[list[Any], list[str]]:
    """(every different value as a label, None where it is blank; warnings)."""
    if is_text(cells.values.type):
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
    filled = [value for value in text if not is_blank(value)]
    decimal_text = {
        value: value.replace(",", ".") if cells.decimal == "," else value for value in filled if value is not None
    }
    if filled and all(matches(value, _LABEL) for value in decimal_text.values()):
        fraction = np.array([value in decimal_text and float(decimal_text[value]) % 1 != 0 for value in text])[codes]
        if fraction.any():
            raise DataError(_fraction(cells, fraction))
        return [int(decimal_text[value].partition(".")[0]) if value in decimal_text else None for value in text], []
    if filled and all(value is not None and value.lower() in ("true", "false") for value in filled):
        return [value.lower() == "true" if value in decimal_text else None for value in text], []  # type: ignore[union-attr]
    names = [value or None for value in text]
    blank = sorted({value for value in names if value and is_blank(value)})
    warnings = [
        f"{cells.where}: {value!r} is taken as the name of a class; if it means a missing value, leave the cell empty"
        for value in blank
    ]
    if not filled:  # nothing but words for missing values
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
