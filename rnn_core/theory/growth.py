"""The measured growth rate of a gradient per step back, with its error, and the regime it puts a run in."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

REGIME_DECADES = 2.0  # a gradient that changes by less than a factor of 100 over the whole sequence counts as stable
REGIMES = ("vanishing", "stable", "exploding")


class Growth(NamedTuple):
    """rate: mean change of ln ‖dL/dh_t‖ per step back; error: its standard error; ratio: log10(‖dL/dh_1‖/‖dL/dh_T‖)."""

    rate: float
    error: float
    ratio: float


def growth(log_norm: np.ndarray) -> Growth:
    """The growth of ln ‖dL/dh_t‖, t = 1 … T, when the loss sits at the last step alone.

    The error is that of the mean of non-overlapping batches of about √T steps (batch means, Law & Kelton 2000, section 9.5.3),
    because neighbouring steps are correlated; nan with fewer than four batches. A gradient that is exactly zero has rate -inf.
    """
    if len(log_norm) < 2:
        return Growth(math.nan, math.nan, 0.0)
    total = float(log_norm[0] - log_norm[-1])
    with np.errstate(invalid="ignore"):  # -inf - -inf: two steps without a gradient
        steps = -np.diff(log_norm)
    length = max(1, math.isqrt(len(steps)))
    count = len(steps) // length
    error = math.nan
    if count >= 4 and np.isfinite(steps).all():
        means = steps[: count * length].reshape(count, length).mean(axis=1)
        error = float(means.std(ddof=1) / math.sqrt(count))
    return Growth(total / len(steps), error, total / math.log(10.0))


def regime(ratio: float) -> str | None:
    """vanishing, stable or exploding, by log10(‖dL/dh_1‖/‖dL/dh_T‖); None where that is nan."""
    if math.isnan(ratio):
        return None
    return "vanishing" if ratio < -REGIME_DECADES else "exploding" if ratio > REGIME_DECADES else "stable"
