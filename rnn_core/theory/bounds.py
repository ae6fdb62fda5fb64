"""Growth rates of gradients that follow from the recurrent matrix alone, as ln of the factor per step.

For delta_t = dL/dh_t without a direct loss term, delta_{t-1} = W^T D_t delta_t with D_t = diag phi'(a_t).
"""

from __future__ import annotations

import math


def linear_rate(spectral_radius: float) -> float:
    """ln rho: how ‖(W^T)^k v‖ grows a step as k -> infinity, for almost every v (Gelfand's formula). Exact for phi = identity.

    -inf where it is zero: the step and the leak of a residual cell of one unit may cancel its weight.
    """
    return math.log(spectral_radius) if spectral_radius > 0.0 else -math.inf


def bound_rate(gamma: float, sigma_max: float) -> float:
    """ln(gamma · sigma_max): the gradient of no step grows by more (Pascanu, Mikolov & Bengio 2013, section 2.1)."""
    return math.log(gamma * sigma_max)
