"""The mean-field slope ½ ln chi_1 of a wide random network (Poole et al. 2016; Schoenholz et al. 2017; Chen et al. 2018).

The preactivations of a wide network are Gaussian with a variance q that settles at a fixed point of
    q = sigma_w² E[phi(√q z)²] + sigma_u²,        z ~ N(0, 1),
where sigma_w² = ‖W‖²_F / H and sigma_u² is the variance of the input part. The expected squared gradient norm is multiplied by
    chi_1 = sigma_w² E[phi'(√q z)²]
at every step back, so ln ‖dL/dh_t‖ changes by ½ ln chi_1 a step. It holds for matrices with random entries or singular vectors
(gaussian, orthogonal). It does not hold for the identity matrix, whose units never mix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rnn_core.activations import Activation

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANELS = np.linspace(-12.0, 12.0, 97)

MIXING_INITIALIZERS = ("gaussian", "orthogonal")
FEW_STEPS = 60  # far from a critical point q has settled by then
_GRID, _HALVES = 128, 60  # places between which a fixed point is looked for; halvings of the interval that holds it
AT_REST = 1e-12  # a smaller q changes no slope
FAR_OUT = 1e6  # times sigma_u² + sigma_w²: there phi is in its asymptotic regime
LARGEST_Q = 1e100  # beyond it q grows for ever
TOLERANCE = 1e-12  # relative: q has settled where a step changes it by no more
APART = 1e-3  # relative: two ends of q that differ by more are two
_LARGEST_SIGMA_W = 1e3


@dataclass(frozen=True)
class MeanField:
    """A wide network's fixed point.

    Attributes:
        q: variance of the preactivations (``inf`` if it grows without limit).
        chi: chi_1, the factor of the squared gradient norm per step back.
        bistable: a network that starts from large states ends at another q.
    """

    q: float
    chi: float
    bistable: bool = False

    @property
    def rate(self) -> float:
        """½ ln chi_1, ln per step."""
        return 0.5 * math.log(self.chi) if self.chi > 0.0 else -math.inf


def _expect(phi: Activation, q: float, squared: Callable[[np.ndarray], np.ndarray]) -> float:
    """E[squared(√q z)²] by Gauss-Legendre on panels that end where phi' jumps."""
    z, weights = quadrature(tuple(min(max(kink / math.sqrt(q), -12.0), 12.0) for kink in phi.kinks))
    return float((weights * squared(math.sqrt(q) * z) ** 2).sum())


@lru_cache(maxsize=16)
def quadrature(kinks: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(nodes, weights times the normal density)."""
    ends = np.union1d(_PANELS, np.array(kinks))
    half = 0.5 * np.diff(ends)[:, None]
    z = ends[:-1, None] + half * (1.0 + _NODES)
    return z, half * _WEIGHTS * (np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))


def fixed_point(phi: Activation, sigma_w2: float, sigma_u2: float, tolerance: float = TOLERANCE) -> MeanField:
    """Iterate q to its fixed point. It starts from sigma_u², the variance of the first step of a run from a zero state.

    The map of q can have more than one fixed point: gelu and silu have slope ½ at 0 and 1 far out. Such a run goes to the
    lowest, and that is returned. ``bistable`` says that a start far above ends elsewhere.

    Args:
        sigma_w2: ‖W‖²_F / H.
        sigma_u2: variance of W_ih x_t + b_ih over units and time.
    """
    if phi.homogeneous:  # phi(√q z)² = q phi(z)², so the equation is linear in q and phi' knows no scale
        gain = sigma_w2 * _expect(phi, 1.0, phi.f)
        return MeanField(sigma_u2 / (1.0 - gain) if gain < 1.0 else math.inf, sigma_w2 * _expect(phi, 1.0, phi.df))

    def map_of(q: float) -> float:
        return max(sigma_w2 * _expect(phi, q, phi.f) + sigma_u2, AT_REST)

    q = _lowest_end(map_of, max(sigma_u2, AT_REST), FAR_OUT * (sigma_u2 + sigma_w2), tolerance)
    chi = sigma_w2 * _expect(phi, q, phi.df)
    bistable = q <= LARGEST_Q and _rises_above(map_of, q, FAR_OUT * (sigma_u2 + sigma_w2))
    return MeanField(q if q <= LARGEST_Q else math.inf, chi, bistable)


def _lowest_end(map_of: Callable[[float], float], start: float, far: float, tolerance: float) -> float:
    """Where q ends if it starts below every fixed point: at the lowest one. Above ``LARGEST_Q`` it grows without limit."""
    q = start
    for _ in range(FEW_STEPS):
        following = map_of(q)
        if abs(following - q) <= tolerance * following:
            return following
        q = following
    # Near a critical point q creeps. It only ever rises, so the fixed point lies where map_of(q) - q changes its sign above it.
    low = q
    for high in np.geomspace(q, max(far, 2.0 * q), _GRID)[1:]:
        if map_of(high) <= high:
            return _root(map_of, low, float(high))
        low = float(high)
    return 2.0 * LARGEST_Q


def _root(map_of: Callable[[float], float], low: float, high: float) -> float:
    """The zero of map_of(q) - q between ``low``, where it is positive, and ``high``, by halves of ln q."""
    for _ in range(_HALVES):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if map_of(middle) > middle else (low, middle)
    return math.sqrt(low * high)


def _rises_above(map_of: Callable[[float], float], lower: float, far: float) -> bool:
    """Whether some larger q grows: then a network that starts from there does not come down to ``lower``."""
    q = far
    for _ in range(FEW_STEPS):
        following = map_of(q)
        if following <= (1.0 + APART) * lower:
            return False
        if following >= q:
            return True
        q = following
    between = np.geomspace((1.0 + APART) * lower, q, _GRID)
    return any(map_of(float(each)) >= each for each in between)


def critical_sigma_w(phi: Activation, sigma_u2: float) -> float:
    """The smallest sigma_w at which chi_1 reaches 1; inf where none below 1000 does.

    chi_1 may jump past 1, where the branch that a zero state leads to ends. Then it is the place of the jump.

    Args:
        sigma_u2: variance of W_ih x_t + b_ih over units and time.
    """
    from scipy.optimize import brentq  # takes a while to load, and no run asks for it

    def above(sigma_w: float) -> float:
        return fixed_point(phi, sigma_w**2, sigma_u2).chi - 1.0

    low = high = 0.01
    while above(high) < 0.0:
        low, high = high, high * 1.1
        if high > _LARGEST_SIGMA_W:
            return math.inf
    return float(brentq(above, low, high, xtol=1e-12, rtol=1e-12))
