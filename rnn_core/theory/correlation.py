"""How two copies of a wide random network stay alike: the correlation of their preactivations (Poole et al. 2016; Chen et al. 2018).

Two copies share W and biases, start from different states, and see inputs with correlation r. The correlation c of their
preactivations settles at a fixed point of
    q c = sigma_w² E[phi(u_1) phi(u_2)] + sigma_b² + r sigma_u²,        u_1, u_2 ~ N(0, q) with correlation c.
With the same inputs, r = 1, c = 1 is one. It is where copies go while chi_1 < 1: the network forgets where it started. Beyond,
copies part, and c* < 1.

By Mehler's formula E[phi(u_1) phi(u_2)] = Σ_k a_k² c^k, where a_k = E[phi(√q z) He_k(z)]/√(k!). So the map and its slope are power series
with coefficients that one look at phi gives.

Derivation: rnn_core/README.md, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rnn_core.activations import Activation
from rnn_core.scalars import is_number
from rnn_core.theory.mean_field import AT_REST, depth_scale, fixed_point, nodes, quadrature

ORDERS = (64, 256, 1024)  # coefficients that are found; more where phi' jumps or q is large
NEAREST = 2.0**-40  # to 1 that c* is looked for
ENOUGH = 1e-12  # of the slope at c = 1, that coefficients not found may carry


class Correlation(NamedTuple):
    """What becomes of two copies of a network.

    Attributes:
        c: c*, the correlation of their preactivations in the long run.
        chi: sigma_w² E[phi'(u_1) phi'(u_2)] at c*: what is left of a small change of c after a step.
        scale: -1/ln chi, the steps in which such a change falls by a factor of e: how long the network remembers.
    """

    c: float
    chi: float
    scale: float


def correlation(
    phi: Activation, sigma_w2: float, sigma_u2: float, r: float = 1.0, *, sigma_b2: float = 0.0
) -> Correlation:
    """Where the correlation of two copies settles; nan everywhere where q grows without limit.

    Args:
        sigma_w2: ‖W‖²_F / H.
        sigma_u2: variance of W_ih x_t over units and time.
        r: correlation of the two copies' inputs, from -1 to 1.
        sigma_b2: variance of b_ih + b_hh over units; both copies have the same biases.

    Raises:
        ValueError: a variance is negative, r is not a correlation, or phi is no activation.
    """
    if not (is_number(r) and -1.0 <= r <= 1.0):
        raise ValueError(f"r: {r!r} is not allowed; it must be a correlation, from -1 to 1")
    limit = fixed_point(phi, sigma_w2, sigma_u2, sigma_b2=sigma_b2)
    return correlation_at(phi, sigma_w2, sigma_u2, limit.q, limit.chi, r=r, sigma_b2=sigma_b2)


def correlation_at(
    phi: Activation,
    sigma_w2: float,
    sigma_u2: float,
    q: float,
    chi: float,
    r: float = 1.0,
    sigma_b2: float = 0.0,
) -> Correlation:
    """``correlation`` where q and chi_1 are known (``fixed_point``)."""
    if not math.isfinite(q):
        return Correlation(math.nan, math.nan, math.nan)
    same = r == 1.0 or sigma_u2 == 0.0  # the copies' inputs
    if same and chi <= 1.0:
        return Correlation(1.0, chi, depth_scale(chi))
    q = max(q, AT_REST)
    series = _Series(phi, q)
    constant = sigma_b2 + r * sigma_u2

    def excess(c: float) -> float:
        return (sigma_w2 * series.value(c) + constant) / q - c

    c = _root(excess, same)
    slope = sigma_w2 * series.slope(c)
    return Correlation(c, slope, depth_scale(slope))


def _root(excess: Callable[[float], float], same: bool) -> float:
    """The c below 1 with ``excess(c)`` = 0. The map is convex above 0, so there is one there."""
    from scipy.optimize import brentq  # takes a while to load

    high = 1.0
    if same:  # c = 1 is a zero as well: begin where the map lies below the diagonal
        gap = 0.5
        while gap > NEAREST and excess(1.0 - gap) >= 0.0:
            gap *= 0.5
        high = 1.0 - gap
    if excess(high) >= 0.0:
        return 1.0
    low = 0.0 if excess(0.0) >= 0.0 else -1.0
    return float(brentq(excess, low, high, xtol=1e-15, rtol=1e-14)) if excess(low) > 0.0 else low


class _Series:
    """Σ_k a_k² c^k = E[phi(u_1) phi(u_2)] where both variances are q; its derivative in c over q is E[phi'(u_1) phi'(u_2)] (Price).

    What the orders beyond the last one carry is known at c = 1, in value and slope. One more term, of a fitting order, holds it.
    """

    def __init__(self, phi: Activation, q: float) -> None:
        z, weights = nodes(phi, q)
        a = math.sqrt(q) * z
        f, df = phi.f(a), phi.df(a)
        value, slope = float((weights * f * f).sum()), q * float((weights * df * df).sum())  # at c = 1
        weighted = weights * f
        left = slope
        for orders in ORDERS[-1:] if phi.kinks else ORDERS:
            table = (
                hermite(orders) if not phi.kinks else _hermite(z, orders)
            )  # without kinks the nodes are always the same
            self.powers = (table @ weighted) ** 2
            self.k = np.arange(orders)
            left = slope - float(self.k @ self.powers)
            if left <= ENOUGH * slope:
                break
        beyond = value - float(self.powers.sum())
        self.beyond, self.order = (beyond, left / beyond) if beyond > 0.0 and left > 0.0 else (0.0, 1.0)
        self.q = q

    def value(self, c: float) -> float:
        return float(self.powers @ c**self.k + self.beyond * max(c, 0.0) ** self.order)

    def slope(self, c: float) -> float:
        derivative = float((self.k * self.powers)[1:] @ c ** self.k[:-1])
        return float(derivative + self.beyond * self.order * max(c, 0.0) ** (self.order - 1.0)) / self.q


@lru_cache(maxsize=len(ORDERS))
def hermite(orders: int) -> np.ndarray:
    """He_k(z)/√(k!) at the nodes of an activation without kinks, (orders, nodes)."""
    return _hermite(quadrature(())[0].reshape(-1), orders)


def _hermite(z: np.ndarray, orders: int) -> np.ndarray:
    rows = np.empty((orders, len(z)))
    rows[0], rows[1] = 1.0, z
    for k in range(1, orders - 1):
        rows[k + 1] = (z * rows[k] - math.sqrt(k) * rows[k - 1]) / math.sqrt(k + 1)
    return rows
