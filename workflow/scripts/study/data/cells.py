"""The cells of one column of a user's file, and what all readings of them share.

Whatever a file calls a type, a number is a number: integers of any width, decimals, booleans, and text that reads as one. Cells that
cannot be read are refused with the numbers of their rows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from study.data.messages import data_rows

# how programs write a missing value, in small letters
BLANK = ["", "na", "n/a", "nan", "null", "none", "#n/a", "#na", "-nan", "<na>", "nat"]
NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True)
class Cells:
    """Cells of one column.

    Attributes:
        where: task, file and column: the beginning of every sentence about the cells.
        values: one a cell; dictionaries are decoded.
        rows: (cells,) the data rows of the cells, counted from 0.
        decimal: the decimal mark of a text file.
    """

    where: str
    values: pa.Array
    rows: np.ndarray
    decimal: str

    def in_rows(self, cells: np.ndarray) -> str:
        """The data rows of these cells, for a sentence. ``cells`` are indices or booleans."""
        return data_rows(np.sort(self.rows[cells]))


def is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or kind == pa.string_view())


def matches(text: str, pattern: str) -> bool:
    return re.search(pattern, text) is not None


def all_true(matched: pa.Array) -> bool:
    """Whether all values that are not null are true, and there is at least one."""
    return bool(pc.all(matched, min_count=1).as_py())


def is_blank(value: Any) -> bool:
    """Whether a cell is blank, or holds what programs write for a missing value."""
    return value is None or (isinstance(value, str) and value.strip().lower() in BLANK)


def trimmed(values: pa.Array) -> pa.Array:
    """Text without surrounding blanks; null where a program wrote that the value is missing."""
    text = pc.utf8_trim_whitespace(values.cast(pa.string()))
    blank = pc.is_in(pc.utf8_lower(text), pa.array(BLANK))
    return pc.if_else(blank, pa.scalar(None, pa.string()), text)


def with_decimal_points(text: pa.Array, decimal: str) -> pa.Array:
    """Numbers in text with decimal points. Where the decimal mark is a comma, a point makes the text unreadable, as it should."""
    if decimal == ".":
        return text
    return pc.replace_substring(pc.replace_substring(text, ".", "point"), ",", ".")
