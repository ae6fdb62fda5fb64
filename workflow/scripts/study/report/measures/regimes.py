"""How many gradients vanish, stay and explode, and at which spectral radius their growth turns from shrinking to growing."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from rnn_core.theory import REGIMES
from study.report import statistics

THEORIES_IN_TURN = ("mean_field_rate", "operating_rate", "dynamic_rate", "rest_rate")


def regime_counts(runs: pd.DataFrame) -> dict[str, int]:
    """How many networks vanish, stay and explode; how many have no number."""
    counts = {regime: int((runs["regime"] == regime).sum()) for regime in REGIMES}
    return counts | {"not finite": len(runs) - sum(counts.values())}


@dataclass(frozen=True)
class Critical:
    """Where growth turns from shrinking to growing, over the networks (seeds) of one kind.

    ``radius``: the median over networks, with its interval; infinite where most never turn. ``gap``: the distance between the
    radii tried around it.
    """

    radius: statistics.Interval
    turning: int
    shrinking: int
    growing: int
    unordered: int
    gap: float

    @property
    def networks(self) -> int:
        return self.turning + self.shrinking + self.growing + self.unordered

    @property
    def places(self) -> int:
        """Digits after the point that the radii tried can bear."""
        if not self.gap > 0 or not math.isfinite(self.gap):
            return 2
        return max(0, -math.floor(math.log10(self.gap / 5)))


def crossings(runs: pd.DataFrame, rate: str = "growth_rate") -> dict[int, statistics.Crossing]:
    """By seed, where ``rate`` crosses zero over the spectral radius."""
    by_seed = {}
    for seed, rows in runs.groupby("seed"):
        rows = rows.groupby("spectral_radius")[rate].mean()
        by_seed[int(seed)] = statistics.crossing(rows.index.to_numpy(dtype=float), rows.to_numpy(dtype=float))
    return by_seed


def critical(runs: pd.DataFrame, rate: str = "growth_rate") -> Critical | None:
    """The critical spectral radius of networks of one kind; None with fewer than two radii, or where nothing is a number."""
    if runs["spectral_radius"].nunique() < 2:
        return None
    by_seed = crossings(runs, rate)
    at = np.array([each.at for each in by_seed.values()])
    if np.isnan(at).all():
        return None
    known = at[~np.isnan(at)]
    radius = statistics.median(known)
    turning = [each for each in by_seed.values() if math.isfinite(each.at)]
    gaps = [each.above - each.below for each in turning if each.below < radius.value < each.above]
    exact = [each for each in turning if each.below == each.above]
    radii = np.sort(runs["spectral_radius"].unique())
    around = [high - low for low, high in itertools.pairwise(radii) if low <= radius.value <= high]
    gap = min([*gaps, *around], default=math.nan) if gaps or exact or around else math.nan
    return Critical(
        radius,
        turning=len(turning),
        shrinking=int((known == math.inf).sum()),
        growing=int((known == -math.inf).sum()),
        unordered=int(np.isnan(at).sum()),
        gap=float(gap),
    )


def theory_critical(runs: pd.DataFrame) -> Critical | None:
    """Where theory turns: one theory for all radii, since a change from one to another would turn by itself.

    The linear law for the identity. Else mean field where it is known for all, or the operating point, or dynamic mean field, or the
    law at rest.
    """
    if (runs["activation"] == "identity").all() and runs["linear_rate"].notna().all():
        return critical(runs, "linear_rate")
    known = [rate for rate in THEORIES_IN_TURN if runs[rate].notna().all()]
    return critical(runs, known[0]) if known else None


def has_law_at_rest(runs: pd.DataFrame) -> pd.Series:
    """Whether the law at rest stands for the linear law: a gated cell has none."""
    return runs["linear_rate"].isna() & runs["rest_rate"].notna()


def law(runs: pd.DataFrame) -> pd.Series:
    """What would hold without an activation function; for a gated cell, what holds at rest. nan where there is neither."""
    return runs["linear_rate"].astype(float).where(runs["linear_rate"].notna(), runs["rest_rate"].astype(float))


def never_settled(runs: pd.DataFrame) -> pd.DataFrame:
    """Networks whose state has not reached a usual size where the growth rate is measured, although that decides the rate.

    The settled window then begins as late as it may (rnn_core.theory.settled_window). The identity's slopes know no size.
    """
    latest = (runs["settled_to"] - 1) // 2
    return runs[(runs["settled_from"] - 1 >= latest) & (runs["activation"] != "identity")]
