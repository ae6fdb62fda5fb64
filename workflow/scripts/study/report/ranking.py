"""Which value of an axis leads the others: for the headline of a part, and for the cell of a row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from study.report import measures
from study.report.phrases import at_value, key_of


def winner_of(comparison: measures.Comparison) -> Any:
    """The key of the value that is clearly better."""
    return key_of(comparison.a if comparison.better == "a" else comparison.b)


def loser_of(comparison: measures.Comparison) -> Any:
    """The key of the value that is clearly worse."""
    return key_of(comparison.b if comparison.better == "a" else comparison.a)


def scores(runs: pd.DataFrame, axis: str, values: Sequence[Any]) -> dict[Any, float]:
    """By key, how good the runs of a value are, where they have a result: an accuracy, or a loss with the other sign."""
    sign = 1.0 if str(runs["metric"].iloc[0]) == "held_out_accuracy" else -1.0
    own = {key_of(value): at_value(runs, axis, value) for value in values}
    means = {key: sign * measures.outcome(rows).value for key, rows in own.items() if not rows["broken"].all()}
    return {key: mean for key, mean in means.items() if math.isfinite(mean)}


def clear_leader(values: Sequence[Any], compared: Sequence[measures.Comparison], by_key: Mapping[Any, float]) -> Any:
    """The key of the value that is clearly better than the most others, of equals the one with the best ``scores``. It needs a clear comparison.

    Of many values neighbours and the two ends alone are compared. An end may then beat most and be poor, so the best winner leads.
    """
    won = [winner_of(each) for each in compared if each.better]
    all_paired = len(values) <= measures.MOST_PAIRED
    return max(won, key=lambda key: (won.count(key) if all_paired else 0, by_key.get(key, -math.inf)), default=None)
