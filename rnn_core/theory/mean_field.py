"""The mean-field slope ½ ln chi_1 of a wide random network (Poole et al. 2016; Schoenholz et al. 2017; Chen et al. 2018).

The preactivations of a wide network are Gaussian. Their variance q settles at a fixed point of the map below,
    q = sigma_w² E[phi(√q z)²] + sigma_u²,        z ~ N(0, 1),
where sigma_w² = ‖W‖²_F / H and sigma_u² is the variance of the input part. The expected squared gradient norm is multiplied by
    chi_1 = sigma_w² E[phi'(√q z)²]
at every step back, so ln ‖dL/dh_t‖ changes by ½ ln chi_1 a step. It holds for matrices with random entries or singular vectors
(gaussian, glorot, orthogonal). It does not hold where units never mix (identity, ring), or where W_ij decides W_ji (antisymmetric).
Nor does it where a unit listens to so few others that what it hears is not Gaussian (sparse).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from rnn_core.activations import Activation
from rnn_core.scalars import is_number

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANELS = np.linspace(-12.0, 12.0, 97)

MIXING_INITIALIZERS = ("gaussian", "glorot", "orthogonal", "pascanu_sigmoid", "pascanu_tanh", "pascanu_smart")
FEW_STEPS = 60  # far from a critical point q has settled by then
_NEAR = 16.0  # times q: so far it is looked for closely
_GRID, _HALVES = 128, 60  # places between which a fixed point is looked for; halvings of the interval that holds it
AT_REST = 1e-12  # a smaller q changes no slope
FAR_OUT = 1e6  # times sigma_u² + sigma_w²: there phi is in its asymptotic regime
LARGEST_Q = 1e100  # beyond it q grows for ever
TOLERANCE = 1e-12  # relative: q has settled where a step changes it by no more
APART = 1e-3  # relative: two ends of q that differ by more are two


@dataclass(frozen=True)
class MeanField:
    """A wide network's fixed point.

    Attributes:
        q: variance of the preactivations (``inf`` if it grows without limit).
        chi: chi_1, the factor of the squared gradient norm per step back.
        bistable: a network that starts from large states ends at another q.
        chi_q: the slope of the map of q at its fixed point: what is left of a small error of q after a step; nan where q is inf.
    """

    q: float
    chi: float
    bistable: bool = False
    chi_q: float = math.nan

    @property
    def rate(self) -> float:
        """½ ln chi_1, ln per step."""
        return 0.5 * math.log(self.chi) if self.chi > 0.0 else -math.inf

    @property
    def scale_q(self) -> float:
        """Steps in which an error of q falls by a factor of e, -1/ln |chi_q|; inf where it does not fall."""
        return depth_scale(abs(self.chi_q))


def depth_scale(factor: float) -> float:
    """Steps in which what is multiplied by ``factor`` a step falls by a factor of e; inf where it does not fall, nan for nan."""
    if not factor > 0.0:
        return factor
    return -1.0 / math.log(factor) if factor < 1.0 else math.inf


def nodes(phi: Activation, q: float) -> tuple[np.ndarray, np.ndarray]:
    """(z, weights times the normal density), flat: Gauss-Legendre on panels that end where phi' jumps."""
    z, weights = quadrature(tuple(min(max(kink / math.sqrt(q), -12.0), 12.0) for kink in phi.kinks))
    return z.reshape(-1), weights.reshape(-1)


def _expect(phi: Activation, q: float, squared: Callable[[np.ndarray], np.ndarray]) -> float:
    """E[squared(√q z)²]."""
    z, weights = nodes(phi, q)
    return float((weights * squared(math.sqrt(q) * z) ** 2).sum())


def _slope_of_map(phi: Activation, q: float) -> float:
    """d/dq E[phi(√q z)²] = E[phi(√q z) phi'(√q z) z]/√q, which needs no phi'' and so holds at kinks."""
    z, weights = nodes(phi, q)
    a = math.sqrt(q) * z
    return float((weights * phi.f(a) * phi.df(a) * z).sum()) / math.sqrt(q)


@lru_cache(maxsize=16)
def quadrature(kinks: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(nodes, weights times the normal density)."""
    ends = np.union1d(_PANELS, np.array(kinks))
    half = 0.5 * np.diff(ends)[:, None]
    z = ends[:-1, None] + half * (1.0 + _NODES)
    return z, half * _WEIGHTS * (np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))


def fixed_point(
    phi: Activation, sigma_w2: float, sigma_u2: float, *, sigma_b2: float = 0.0, tolerance: float = TOLERANCE
) -> MeanField:
    """Iterate q to its fixed point. It starts from sigma_u² + sigma_b², the variance of the first step of a run from a zero state.

    The map of q can have more than one fixed point: gelu and silu have slope ½ at 0 and 1 far out. Such a run goes to the
    lowest, and that is returned. ``bistable`` says that a start far above ends elsewhere.

    Args:
        sigma_w2: ‖W‖²_F / H.
        sigma_u2: variance of W_ih x_t over units and time; biases may be counted in.
        sigma_b2: variance of b_ih + b_hh over units.

    Raises:
        ValueError: a variance is negative, or phi is no activation.
    """
    check(phi, sigma_w2=sigma_w2, sigma_u2=sigma_u2, sigma_b2=sigma_b2)
    added = sigma_u2 + sigma_b2
    if phi.homogeneous:  # phi(√q z)² = q phi(z)², so the equation is linear in q and phi' knows no scale
        gain = sigma_w2 * _expect(phi, 1.0, phi.f)
        q = added / (1.0 - gain) if gain < 1.0 else math.inf
        return MeanField(q, sigma_w2 * _expect(phi, 1.0, phi.df), chi_q=gain)

    def map_of(q: float) -> float:
        return max(sigma_w2 * _expect(phi, q, phi.f) + added, AT_REST)

    q = _lowest_end(map_of, max(added, AT_REST), FAR_OUT * (added + sigma_w2), tolerance)
    chi = sigma_w2 * _expect(phi, q, phi.df)
    if q > LARGEST_Q:
        return MeanField(math.inf, chi)
    bistable = _rises_above(map_of, q, FAR_OUT * (added + sigma_w2))
    return MeanField(q, chi, bistable, chi_q=sigma_w2 * _slope_of_map(phi, q))


def check(phi: Activation, **numbers: float) -> None:
    """ValueError unless phi is an activation and the numbers are variances."""
    if not isinstance(phi, Activation):
        raise ValueError(f"phi: {phi!r} is not allowed; it must be an activation, such as rc.activation('tanh')")
    for name, number in numbers.items():
        if not (is_number(number) and number >= 0.0):
            raise ValueError(f"{name}: {number!r} is not allowed; it must be a number of at least 0")


def _lowest_end(map_of: Callable[[float], float], start: float, far: float, tolerance: float) -> float:
    """Where q ends if it starts below every fixed point: at the lowest one. Above ``LARGEST_Q`` it grows without limit."""
    q = start
    for _ in range(FEW_STEPS):
        following = map_of(q)
        if abs(following - q) <= tolerance * following:
            return following
        q = following
        if q > LARGEST_Q:
            return q
    # Near a critical point q creeps. It only ever rises, so the fixed point lies where map_of(q) - q changes its sign above it.
    low = q
    near = np.geomspace(q, _NEAR * q, _GRID)  # where two fixed points are about to meet they lie close together
    for high in [*near[1:], *np.geomspace(_NEAR * q, max(far, 2.0 * _NEAR * q), _GRID)[1:]]:
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
