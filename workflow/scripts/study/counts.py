"""Counts and times as a sentence has them."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """``1 row``, ``1,200 rows``. Give ``plural`` where it does not end in s."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"


def duration(seconds: float) -> str:
    """25 s, 1 min 25 s, 2 h 5 min."""
    minutes, left_seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes} min" if hours else f"{minutes} min {left_seconds} s" if minutes else f"{left_seconds} s"
    )
