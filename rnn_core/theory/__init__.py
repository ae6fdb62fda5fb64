"""What theory says of a growth rate, and how it is measured: bounds, linear law, operating point, mean field, growth."""

from rnn_core.theory.bounds import bound_rate, linear_rate
from rnn_core.theory.growth import (
    REGIME_DECADES,
    REGIMES,
    Growth,
    growth,
    ragged_growth,
    regime,
    settled_window,
    settled_windows,
)
from rnn_core.theory.mean_field import MIXING_INITIALIZERS, MeanField, critical_sigma_w, fixed_point
from rnn_core.theory.operating_point import STEADY_BELOW, Slopes, operating_rate, slope_fluctuation

__all__ = [
    "MIXING_INITIALIZERS",
    "REGIMES",
    "REGIME_DECADES",
    "STEADY_BELOW",
    "Growth",
    "MeanField",
    "Slopes",
    "bound_rate",
    "critical_sigma_w",
    "fixed_point",
    "growth",
    "linear_rate",
    "operating_rate",
    "ragged_growth",
    "regime",
    "settled_window",
    "settled_windows",
    "slope_fluctuation",
]
