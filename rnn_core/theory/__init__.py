"""What theory says a measured curve should do: bounds, the linear law, mean field; and how growth is measured."""

from rnn_core.theory.bounds import bound_rate, linear_rate
from rnn_core.theory.growth import REGIME_DECADES, REGIMES, Growth, growth, regime
from rnn_core.theory.mean_field import MIXING_INITIALIZERS, MeanField, fixed_point

__all__ = [
    "MIXING_INITIALIZERS",
    "REGIMES",
    "REGIME_DECADES",
    "Growth",
    "MeanField",
    "bound_rate",
    "fixed_point",
    "growth",
    "linear_rate",
    "regime",
]
