"""What training does to the share of the gradient that reaches the first step: in how many runs it grows, shrinks or stays."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from study.report import measures
from study.report.phrases import count_of
from study.report.words import (
    LONGEST_TITLE,
    listed,
    marked,
    marked_count,
    named,
    ordered,
    plain,
    power,
    value_of,
)

MOST = 0.8  # of the runs: what so many do is the headline
DOUBLE = math.log10(2.0)  # decades; a smaller change is none
COUNT_KINDS = {"raises": "first_step_raised", "lowers": "first_step_lowered", "hardly changes": "first_step_kept"}
APART, MOST_VALUES = 0.3, 4  # shares of runs that differ so much are told by value, of so few values


def changes(runs: pd.DataFrame) -> pd.Series:
    """Decades that training adds to the gradient at the first step, relative to the last step's; of −∞ on both sides none."""
    known = runs.dropna(subset=["first", "final"])
    with np.errstate(invalid="ignore"):
        change = known["final"] - known["first"]
    return change.where(known["first"] != known["final"], 0.0)


def counted(change: pd.Series) -> dict[str, int]:
    """In how many runs the gradient at the first step grew, shrank, or did neither, relative to that at the last step."""
    counts = {"raises": int((change > DOUBLE).sum()), "lowers": int((change < -DOUBLE).sum())}
    return counts | {"hardly changes": len(change) - sum(counts.values())}


def change_headline(runs: pd.DataFrame, axis: str | None = None) -> str:
    """What training does to the gradient at the first step in most runs; else in how many, by the values of an axis if that decides."""
    change = changes(runs)
    counts = counted(change)
    if not len(change):
        return "No run has a gradient after training whose first and last step can be compared."
    if len(change) == 1:
        row = runs.dropna(subset=["first", "final"]).iloc[0]
        ends = [marked(power(row[name]), f"first_step_{name}", row[name]) for name in ("first", "final")]
        return f"Training takes the gradient at the first step from {ends[0]} to {ends[1]} times that at the last step."
    first, *others = sorted(counts, key=lambda name: -counts[name])
    written = {name: marked_count(count, COUNT_KINDS[name]) for name, count in counts.items()}
    total = marked_count(len(change), "runs_traced_to_end")
    share = f"all {written[first]}" if counts[first] == len(change) else f"{written[first]} of {total}"
    text = f"Training {first} the share of the gradient that reaches the first step in {share} runs"
    if counts[first] < MOST * len(change):
        by_value = _split_title(runs, first, axis) if axis else ""
        rest = [f"{name} it in {written[name]}" for name in others if counts[name]]
        return by_value or f"{listed([text, *rest])}."
    middle = float(change.median())
    if first == "hardly changes" or math.isinf(middle):
        return f"{text}."
    return f"{text}: by a factor of {marked(power(abs(middle)), 'first_step_change', middle)} in the median."


def split_axis(trained_parts: Sequence[measures.Part], runs: pd.DataFrame) -> str | None:
    """The axis along which the runs differ most in what training does to them; none where the same is done to most, or it decides little."""
    counts = counted(changes(runs))
    first = max(counts, key=lambda name: counts[name])
    if counts[first] >= MOST * max(1, sum(counts.values())):
        return None
    differences = {}
    everywhere = [axis for axis in trained_parts[0].axes if all(axis in part.axes for part in trained_parts)]
    for axis in everywhere:  # of an axis that one part sweeps, another part's runs would all count with one value
        shares = [counts_of_value[first] / total for _, counts_of_value, total in _counts(runs, axis) if total]
        if 1 < len(shares) <= MOST_VALUES:
            differences[axis] = max(shares) - min(shares)
    best = max(differences, key=lambda axis: differences[axis], default=None)
    return best if best and differences[best] >= APART else None


def _counts(runs: pd.DataFrame, axis: str) -> list[tuple[Any, dict[str, int], int]]:
    """By value of an axis, how many runs grew, shrank, or did neither, and of how many."""
    known = runs.dropna(subset=["first", "final"])
    counts = []
    for value in ordered(axis, known[axis]):
        change = changes(measures.where(known, **{axis: value}))
        counts.append((value, counted(change), len(change)))
    return counts


def _split_title(runs: pd.DataFrame, verb: str, axis: str) -> str:
    """32 of 40 runs with ρ = 0.5, 1 of 50 with ρ = 1.6; empty where that is too long."""
    whats = ("the share of the gradient that reaches the first step", "the gradient's share at the first step")
    for what, short in itertools.product(whats, (False, True)):
        words = []
        for i, (value, counts, total) in enumerate(_counts(runs, axis)):
            name = value_of(axis, value) if short and i else named(axis, value)
            run = " runs" if not i else ""
            words.append(f"{_of_total(verb, counts, total, **{axis: value})}{run} with {name}")
        text = f"Training {verb} {what} in {listed(words)}."
        if len(plain(text)) <= LONGEST_TITLE:
            return text
    return ""


def _of_total(verb: str, counts: Mapping[str, int], total: int, **where: Any) -> str:
    """32 of 40."""
    count = count_of(counts[verb], COUNT_KINDS[verb], **where)
    return f"{count} of {marked_count(total, 'runs_traced_to_end', **where)}"


def changes_by_value(part: measures.Part, runs: pd.DataFrame, name: str) -> str:
    """How many runs of a part grew and shrank, for every value of the axis that it asks about, where they differ. ``name`` tells it from others."""
    axis = str(part.column)
    known = _counts(runs, axis)
    shares = {tuple(count / total for count in counts.values()) for _, counts, total in known if total}
    if len(shares) < 2 or len(known) > MOST_VALUES:
        return ""
    words = []
    for i, (value, counts, total) in enumerate(known):
        where = {"sweep": part.sweep, "task": str(part.runs["task"].iloc[0]), axis: value}
        raised = _of_total("raises", counts, total, **where)
        lowered = count_of(counts["lowers"], COUNT_KINDS["lowers"], **where)
        what, runs_ = ("training raises this share", " runs") if not i else ("it raises it", "")
        of_part = f" ({name})" if name and not i else ""
        words.append(f"With {named(axis, value)}{of_part}, {what} in {raised}{runs_} and lowers it in {lowered}.")
    return " ".join(words)
