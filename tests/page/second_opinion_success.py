"""The numbers of runs that train until success, computed a second time from the table of runs alone: plain pandas and NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd

from tests.page.second_opinion_training import Tables, Where, chosen, once

Z = 1.959963984540054  # the normal distribution's quantile at 97.5 %
PUBLISHED = (
    5,
    5,
    5_000_000,
)  # succeeded, runs and updates in Pascanu, Mikolov & Bengio (2013), figure 7 (tanh, T up to 200)


def asked(tables: Tables, where: Where) -> pd.DataFrame:
    """Every run once that was asked for success, with these settings."""
    runs = once(chosen(tables["runs"], where))
    return runs[runs["success"].notna()]


def took(tables: Tables, where: Where) -> list[float]:
    """The updates of the runs that succeed, in order."""
    return sorted(asked(tables, where)["updates_to_success"].dropna().astype(float))


def wilson(share: float, count: int) -> tuple[float, float]:
    """The shares p whose z score |share - p| / sqrt(p (1 - p) / count) is Z: the roots of a quadratic equation."""
    low, high = np.sort(np.real(np.roots([1.0 + Z**2 / count, -(2.0 * share + Z**2 / count), share**2])))
    return max(0.0, float(low)), min(1.0, float(high))


def rate_end(which: int) -> Callable[[Tables, Where], float]:
    """An end of the share's interval; a seed counts once, however many runs it has."""

    def end(tables: Tables, where: Where) -> float:
        runs = asked(tables, where)
        return wilson(float(np.mean(runs["success"].astype(float))), runs["seed"].nunique())[which]

    return end


def against_published(tables: Tables, where: Where) -> tuple[float, float, float]:
    """Ours minus theirs, with Newcombe's interval."""
    runs = asked(tables, where)
    ours, theirs = float(np.mean(runs["success"].astype(float))), PUBLISHED[0] / PUBLISHED[1]
    (low, high), (below, above) = wilson(ours, runs["seed"].nunique()), wilson(theirs, PUBLISHED[1])
    apart = ours - theirs
    return (
        apart,
        apart - math.sqrt((ours - low) ** 2 + (above - theirs) ** 2),
        apart + math.sqrt((high - ours) ** 2 + (theirs - below) ** 2),
    )


def middle(values: list[float]) -> float:
    return (values[(len(values) - 1) // 2] + values[len(values) // 2]) / 2


KINDS: dict[str, Callable[[Tables, Where], float]] = {
    "succeeded": lambda t, w: float(asked(t, w)["updates_to_success"].notna().sum()),
    "runs_to_succeed": lambda t, w: float(len(asked(t, w))),
    "success_rate_low": rate_end(0),
    "success_rate_high": rate_end(1),
    "least_updates_to_success": lambda t, w: took(t, w)[0],
    "median_updates_to_success": lambda t, w: middle(took(t, w)),
    "most_updates_to_success": lambda t, w: took(t, w)[-1],
    "published_succeeded": lambda t, w: float(PUBLISHED[0]),
    "published_runs": lambda t, w: float(PUBLISHED[1]),
    "published_updates": lambda t, w: float(PUBLISHED[2]),
    "published_difference": lambda t, w: against_published(t, w)[0],
    "published_difference_low": lambda t, w: against_published(t, w)[1],
    "published_difference_high": lambda t, w: against_published(t, w)[2],
}
