"""What theory says of a growth rate, and how it is measured.

- exact: ``linear_rate``, ``bound_rate``, ``rest_rate``; of a matrix ``henrici``, ``numerical_radius``, ``numerical_abscissa``,
  ``kreiss_constant``, ``peak_growth``; of a linear recurrence ``memory_sensitivity``
- at the operating point: ``operating_rate``, ``slope_fluctuation``
- wide networks: ``fixed_point``, ``correlation``, ``critical_sigma_w``; of any cell, by sampling, ``dynamic_rate``
- measured: ``growth``, ``regime``, ``settled_window``
- spectra: ``jacobians``, ``lyapunov_spectrum``, ``kaplan_yorke``, ``log_singular_values``, ``surviving_directions``
"""

from rnn_core.theory.bounds import bound_rate, linear_rate
from rnn_core.theory.correlation import Correlation, correlation, correlation_at
from rnn_core.theory.critical import critical_sigma_w
from rnn_core.theory.dynamic import DynamicRate, dynamic_mean_field, dynamic_rate
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
from rnn_core.theory.mean_field import MIXING_INITIALIZERS, MeanField, fixed_point
from rnn_core.theory.memory import MemorySensitivity, memory_sensitivity
from rnn_core.theory.nonnormal import (
    PeakGrowth,
    henrici,
    kreiss_constant,
    numerical_abscissa,
    numerical_radius,
    peak_growth,
)
from rnn_core.theory.operating_point import STEADY_BELOW, Slopes, operating_rate, slope_fluctuation
from rnn_core.theory.rest import critical_scale, rate_of, rest_affine, rest_eigenvalues, rest_rate
from rnn_core.theory.singular_values import SURVIVES, log_singular_values, surviving_directions
from rnn_core.theory.spectra import Spectrum, kaplan_yorke, lyapunov_spectrum

__all__ = [
    "MIXING_INITIALIZERS",
    "REGIMES",
    "REGIME_DECADES",
    "SURVIVES",
    "STEADY_BELOW",
    "Correlation",
    "DynamicRate",
    "Growth",
    "MeanField",
    "MemorySensitivity",
    "PeakGrowth",
    "Slopes",
    "Spectrum",
    "bound_rate",
    "correlation",
    "correlation_at",
    "critical_scale",
    "critical_sigma_w",
    "dynamic_mean_field",
    "dynamic_rate",
    "fixed_point",
    "growth",
    "henrici",
    "jacobians",
    "kaplan_yorke",
    "kreiss_constant",
    "linear_rate",
    "log_singular_values",
    "lyapunov_spectrum",
    "memory_sensitivity",
    "numerical_abscissa",
    "numerical_radius",
    "operating_rate",
    "peak_growth",
    "ragged_growth",
    "regime",
    "rate_of",
    "rest_affine",
    "rest_eigenvalues",
    "rest_rate",
    "settled_window",
    "settled_windows",
    "slope_fluctuation",
    "surviving_directions",
]
