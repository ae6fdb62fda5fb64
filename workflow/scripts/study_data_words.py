"""How a fault in the user's data is said: the task, the file, the rows, what is wrong, what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

NAMED = 6  # rows, names or values that a sentence lists before it counts the rest
WIDTH = 40  # characters of a cell that a sentence shows

NO_HEADER = "the first row holds numbers; the file needs a header with the columns' names"


class DataError(Exception):
    """What is wrong with a file of sequences, in one sentence."""


def data_rows(rows: Sequence[int] | np.ndarray) -> str:
    """Rows of the file by their numbers, counted from 1 below the header: ``data row 4``, ``data rows 25 to 30``.

    Args:
        rows: at least one, counted from 0, in increasing order.
    """
    numbers = [int(row) + 1 for row in rows[: NAMED + 1]]
    last, count = int(rows[-1]) + 1, len(rows)
    if count == 1:
        return f"data row {numbers[0]}"
    if last - numbers[0] == count - 1 and count > 2:
        return f"data rows {numbers[0]} to {last}"
    return f"data rows {listed(map(str, numbers), count)}"


def listed(names: Iterable[str], count: int | None = None) -> str:
    """``a``, ``a and b``, ``a, b and c``; of many the first and how many more.

    Args:
        count: how many there are, where ``names`` holds only the first of them.
    """
    given = list(names)
    count = count or len(given)
    shown = given[:NAMED]
    if count > NAMED:
        return f"{', '.join(shown)} and {count - NAMED:,} more"
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]])) if shown else "none"


def quoted(value: Any) -> str:
    """A cell or name as it stands in the file, cut where it is long."""
    text = repr(value)
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}…"


def is_number(text: str) -> bool:
    """Whether text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def counted(count: int, noun: str) -> str:
    """``1 row``, ``1,200 rows``."""
    return f"{count:,} {noun if count == 1 else f'{noun}s'}"


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest allowed name, whatever its capitals and surrounding blanks; else nothing."""
    by_plain = {option.strip().lower(): option for option in allowed}
    near = get_close_matches(name.strip().lower(), by_plain, n=1)
    return f" Did you mean {by_plain[near[0]]!r}?" if near else ""
