"""Words for a fault in the user's data: the task, the file, the rows, what is wrong and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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


def column_name(name: str) -> str:
    """A column's name for a sentence: on one line, cut where it is long, ``(no name)`` where it is empty."""
    line = " ".join(name.split()) or "(no name)"
    return line if len(line) <= WIDTH else f"{line[:WIDTH]}…"


def is_number(text: str) -> bool:
    """Whether text reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def nearest(name: str, allowed: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest allowed name, whatever its capitals and surrounding blanks; else nothing."""
    from rnn_core.choices import nearest as nearest_name  # only where there is a mistake: it takes 0.2 s

    near = nearest_name(name, allowed)
    return f" Did you mean {near!r}?" if near else ""
