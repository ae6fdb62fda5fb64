"""What the page says of runs that train until success: how many succeed, with what is compared, and after how many updates."""

from __future__ import annotations

from typing import Any

import pandas as pd

from study.report import measures, statistics
from study.report.phrases import at_value, bracketed, count_of, counted, interval_words, of_seeds, task_of, where_of
from study.report.words import few, listed, marked, marked_count, named, number, percent, plain, spelled

MOST_LISTED = 6


def success_sentence(part: measures.Part) -> str:
    """On temporal_order, 4 of 12 runs with no clipping succeed (14 % to 61 %), 5 of 12 with norm:1.0 (…); empty where no run was asked for success."""
    runs = part.runs[part.runs["success"].notna()]
    if runs.empty:
        return ""
    values = [each for each in part.columns if len(at_value(runs, part.column, each))] if part.column else [None]
    groups = [at_value(runs, part.column, value) for value in values]
    counts = [
        _count(part, rows, value, first=i == 0 and len(values) < 3)
        for i, (value, rows) in enumerate(zip(values, groups, strict=True))
    ]
    budgets = sorted(map(int, runs["updates"].unique()))
    written = listed([marked_count(budget, "setting", axis="updates") for budget in budgets], "or")
    within = f"within {counted(max(budgets), 'update', written)}"
    text = f"On {task_of(part)}, {few(counts)}, {within}."
    if len(counts) > 2:  # of so many, a list is easier to read
        some = (
            counts
            if len(counts) <= MOST_LISTED
            else [*counts[: MOST_LISTED - 1], f"{spelled(len(counts) - MOST_LISTED + 1)} more"]
        )
        text = f"On {task_of(part)}, so many runs succeed {within}: {'; '.join(some)}."
    text += of_seeds(groups)
    took = runs.loc[runs["success"].astype(bool), "updates_to_success"].astype(float)
    if took.empty:
        return f"{text} More updates might change that."
    where = where_of(part)
    first, half, last = (
        marked(number(updates), f"{name}_updates_to_success", updates, **where)
        for name, updates in (
            ("least", took.min()),
            ("median", statistics.median(took.to_numpy()).value),
            ("most", took.max()),
        )
    )
    if took.min() == took.max():
        return f"{text} Success takes {counted(int(took.min()), 'update', half)}."
    median = "" if plain(half) == plain(last) else f", half of the time at most {half}"
    return f"{text} Success takes between {first} and {last} updates{median}."


def _count(part: measures.Part, runs: pd.DataFrame, value: Any, first: bool) -> str:
    where = where_of(part, {part.column: value} if part.column else {})
    succeeded, share = int(runs["success"].sum()), float(runs["success"].astype(float).mean())
    rate = statistics.proportion(share, int(runs["seed"].nunique()))
    count = f"{count_of(succeeded, 'succeeded', **where)} of {marked_count(len(runs), 'runs_to_succeed', **where)}"
    name = f" with {named(part.column, value)}" if part.column else ""
    if len(runs) == 1 and not part.column:
        return marked(f"the one run {'succeeds' if succeeded else 'does not succeed'}", "succeeded", succeeded, **where)
    return f"{count}{' runs' if first else ''}{name}{' succeed' if first else ''}" + bracketed(
        interval_words(rate, percent, "success_rate", **where)
    )
