"""The rate at the operating point. A network whose slopes hardly change in time grows by an eigenvalue, as a linear one does.

One step back multiplies by W^T D_t with D_t = diag phi'(a_t). Where every unit keeps its slope, D_t is nearly its mean D̄, and
ln ‖dL/dh_t‖ changes by ln rho(D̄ W) a step. Where slopes change from step to step, products of different D_t mix, and mean field
predicts the rate. ``slope_fluctuation`` measures how much they change. Derivation: rnn_core/README.md, section 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rnn_core.initializers import spectral_radius

STEADY_BELOW = 0.05  # slopes with a fluctuation below this keep their values in time


class Slopes(NamedTuple):
    """Every unit's slope over settled steps and samples, float64 (H,).

    Attributes:
        mean: E phi'(a_i).
        square: E phi'(a_i)².
    """

    mean: np.ndarray
    square: np.ndarray


def slope_fluctuation(slopes: Slopes) -> float:
    """mean_i Var phi'(a_i) / mean_i E phi'(a_i)², variance and mean over settled steps and samples; from 0 to 1.

    It is 0 where every unit keeps its slope. It is nan where all slopes are zero, or one is not a number.
    """
    total = float(slopes.square.mean())
    if not total > 0.0:
        return math.nan
    return max(0.0, float((slopes.square - slopes.mean**2).mean())) / total


def operating_rate(jacobian: np.ndarray) -> float:
    """ln of the spectral radius of dh_t/dh_{t-1} (H, H) at the mean slopes (``Cell.jacobian``).

    -inf where that is zero, as in a network whose units are all off; nan where it is not finite.
    """
    if not np.isfinite(jacobian).all():
        return math.nan
    radius = spectral_radius(jacobian, remember=False)  # every run has slopes of its own
    return math.log(radius) if radius > 0.0 else -math.inf
