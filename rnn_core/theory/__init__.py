"""What theory says of a growth rate, and how it is measured: bounds, linear law, operating point, mean field, growth, spectra."""

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
from rnn_core.theory.jacobians import jacobians
from rnn_core.theory.mean_field import MIXING_INITIALIZERS, MeanField, critical_sigma_w, fixed_point
from rnn_core.theory.operating_point import STEADY_BELOW, Slopes, operating_rate, slope_fluctuation
from rnn_core.theory.singular_values import log_singular_values
from rnn_core.theory.spectra import Spectrum, kaplan_yorke, lyapunov_spectrum

__all__ = [
    "MIXING_INITIALIZERS",
    "REGIMES",
    "REGIME_DECADES",
    "STEADY_BELOW",
    "Growth",
    "MeanField",
    "Slopes",
    "Spectrum",
    "bound_rate",
    "critical_sigma_w",
    "fixed_point",
    "growth",
    "jacobians",
    "kaplan_yorke",
    "linear_rate",
    "log_singular_values",
    "lyapunov_spectrum",
    "operating_rate",
    "ragged_growth",
    "regime",
    "settled_window",
    "settled_windows",
    "slope_fluctuation",
]
