"""What the page says of training that ends in values that are not finite, and of gradients that are truncated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from study.report import measures, statistics
from study.report.phrases import at_value, bracketed, count_of, every_run, interval_words, of_seeds, task_of
from study.report.words import few, itemized, listed, marked, named, percent


def breakdown_sentence(part: measures.Part, compared: list[measures.Comparison]) -> str:
    """How many runs break down, by the axis that is asked about, and whether that differs clearly."""
    runs = part.runs
    where = {"sweep": part.sweep, **part.fixed}
    if not runs["broken"].any():
        if len(runs) == 1:
            return f"The one run on {task_of(part)} does not break down: loss, gradients and parameters stay finite."
        every = every_run(len(runs), "trained_runs", **where)
        return f"No run on {task_of(part)} breaks down: loss, gradients and parameters stay finite in {every}."
    if runs["broken"].all():
        return ""
    by_value = {value: int(at_value(runs, part.column, value)["broken"].sum()) for value in part.columns}
    groups = [[value] for value, count in by_value.items() if count]
    whole = [value for value, count in by_value.items() if not count]
    groups += [whole] if whole else []
    words = [_breakdowns(part, runs, values, where) for values in groups]
    seeds = of_seeds([pd.concat([at_value(runs, part.column, value) for value in values]) for values in groups])
    clear = [each for each in compared if each.clear]
    few_seeds = any(each.verdict == "few" for each in compared)
    tail = ""
    if compared:
        tail = (
            " The difference is clear."
            if clear
            else " There are too few seeds to tell whether that differs."
            if few_seeds
            else " The difference is not clear."
        )
    return f"On {task_of(part)}, runs break down because a value is no longer finite: {itemized(words) if len(words) < 7 else few(words, 6)}.{seeds}{tail}"


def _breakdowns(part: measures.Part, runs: pd.DataFrame, values: list[Any], where: Mapping[str, Any]) -> str:
    """5 of 18 (12 % to 51 %) with no clipping."""
    axis = part.column
    rows = pd.concat([at_value(runs, axis, value) for value in values])
    address = {**where, **({axis: values[0] if len(values) == 1 else values} if axis else {})}
    count = int(rows["broken"].sum())
    share = interval_words(
        statistics.proportion(count / len(rows), rows["seed"].nunique()), percent, "broken_share", **address
    )
    with_ = f" with {few([named(axis, value) for value in values])}" if axis else ""
    return f"{count_of(count, 'broken', **address)} of {count_of(len(rows), 'trained_runs', **address)}{bracketed(share)}{with_}"


def truncation_sentence(runs: pd.DataFrame, updates: pd.DataFrame) -> str:
    """How far truncated gradients are from the full ones, at the first update and at the last; empty where nothing is truncated."""
    truncated = runs.drop_duplicates("run_key").dropna(subset=["truncation"])
    sizes = {}
    for kind, update in (("truncation_bias", 0), ("truncation_bias_last", measures.updates_made(truncated) - 1)):
        known = truncated.assign(update=update).merge(
            updates.drop_duplicates(["run_key", "update"]), on=["run_key", "update"]
        )
        medians = known.groupby("truncation")["truncation_bias"].median().dropna()
        sizes[kind] = [
            f"{marked(f'{100 * bias:.2g} %', kind, bias, truncation=k)} (k = {int(k)})" for k, bias in medians.items()
        ]
    first, last = sizes.values()
    if not first:
        return ""
    later = f" It changes that of the last update by {listed(last)}." if last else ""
    several = truncated.groupby("truncation").size().max() > 1
    start = "In the median over the runs, truncation" if several else "Truncation"
    return f"{start} to k steps changes the gradient of the first update by {listed(first)} of its norm.{later}"
