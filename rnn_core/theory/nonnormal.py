"""Growth for a while against growth in the end: how far a matrix is from normal (Trefethen & Embree 2005, Spectra and Pseudospectra).

The spectral radius governs W^k for large k. On the way there ‖W^k‖ can first grow, although the radius is below 1: only a normal
matrix has ‖W^k‖ = rho^k. Derivation: rnn_core/README.md, section 4.4.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import is_torch_array

from rnn_core.arrays import to_numpy
from rnn_core.initializers import spectral_radius
from rnn_core.scalars import numbers

POWERS = 200  # of W/rho that are looked at
_LONGEST = 20_000  # the same of W, where it never falls below 1
_ANGLES = 48  # from 0 to pi, at which the numerical range is looked at first
_DISTANCES = np.geomspace(1e-4, 30.0, 40)  # |z| - 1, at which the resolvent is looked at first
_STARTS = 6  # of these the best, from which the largest value is looked for


class PeakGrowth(NamedTuple):
    """The largest growth on the way.

    Attributes:
        factor: of a vector's length.
        lag: the number of steps after which it is reached.
    """

    factor: float
    lag: int


def henrici(W: Any) -> float:
    """Henrici's departure from normality, √(‖W‖²_F - Σ |λ_i|²) (Henrici 1962). 0 for a normal matrix.

    Over ‖W‖_F it is a number from 0 to 1, and 0.7071 for a wide Gaussian matrix. It is taken from Schur's form, whose part above
    the diagonal has this norm: the difference would cancel.

    Args:
        W: (H, H) of finite numbers; an array, a torch tensor or a list of rows.

    Raises:
        ValueError: it is not a square matrix of finite numbers. So for every function here.
    """
    from scipy.linalg import schur  # takes a while to load

    upper, _ = schur(_square(W), output="complex")
    return float(np.linalg.norm(np.triu(upper, 1)))


def numerical_radius(W: Any) -> float:
    """max |v* W v| over unit vectors v, which is the largest eigenvalue of (e^iθ W + e^-iθ W^T)/2 over θ.

    It bounds every power: ‖W^k‖ <= 2 r^k. It is between ‖W‖/2 and ‖W‖, and √2 sigma_w for a wide Gaussian matrix.
    """
    from scipy.linalg import eigvalsh
    from scipy.optimize import minimize_scalar

    W = _square(W)

    def support(angle: float) -> float:
        rotated = np.exp(1j * angle) * W
        return float(eigvalsh(0.5 * (rotated + rotated.conj().T), subset_by_index=[len(W) - 1, len(W) - 1])[0])

    angles = np.linspace(0.0, math.pi, _ANGLES + 1)  # of a real matrix the other half is the same
    values, step = np.array([support(angle) for angle in angles]), angles[1]
    best = float(values.max())
    after, before = np.append(values[1:], values[-2]), np.insert(values[:-1], 0, values[1])
    peaks = (
        (values >= after) & (values >= before) & (values >= (1.0 - step**2) * best)
    )  # between angles it rises by less
    for angle in angles[peaks]:
        peak = minimize_scalar(
            lambda x: -support(x), bounds=(angle - step, angle + step), method="bounded", options={"xatol": 1e-7}
        )
        best = max(best, -float(peak.fun))
    return best


def numerical_abscissa(W: Any) -> float:
    """The largest eigenvalue of (W + W^T)/2: how fast ‖e^{tW}‖ grows at t = 0.

    A residual cell whose step eta is small grows at first by at most eta times this a step. In the end it grows by eta times
    the largest real part of an eigenvalue.
    """
    W = _square(W)
    return float(np.linalg.eigvalsh(0.5 * (W + W.T))[-1])


def kreiss_constant(W: Any) -> float:
    """sup (|z| - 1) ‖(zI - W)^-1‖ over |z| > 1 (Kreiss 1962); inf where rho >= 1.

    K <= max_k ‖W^k‖ <= e H K. It is 1 for a normal matrix. It takes seconds at H = 64.
    """
    from scipy.optimize import minimize

    W = _square(W)
    if spectral_radius(W, remember=False) >= 1.0:
        return math.inf
    eye = np.eye(len(W))

    def resolvent(angle: np.ndarray, distance: np.ndarray) -> np.ndarray:
        z = (1.0 + distance) * np.exp(1j * angle)
        smallest = np.linalg.svd(z[:, None, None] * eye - W, compute_uv=False)[:, -1]
        return np.asarray(distance / smallest)

    angles = np.linspace(0.0, math.pi, _ANGLES + 1)
    values = np.stack([resolvent(np.full(len(_DISTANCES), angle), _DISTANCES) for angle in angles])
    best = max(1.0, float(values.max()))  # far out the product is 1
    for flat in np.argsort(values, axis=None)[::-1][:_STARTS]:
        i, j = np.unravel_index(flat, values.shape)
        start = np.array([angles[i], math.log(_DISTANCES[j])])
        peak = minimize(lambda at: -resolvent(at[:1], np.exp(at[1:]))[0], start, method="Nelder-Mead",
                         options={"xatol": 1e-7, "fatol": 1e-9 * best})  # fmt: skip
        best = max(best, -float(peak.fun))
    return best


def peak_growth(W: Any, relative: bool | None = None) -> PeakGrowth:
    """The largest ‖W^k‖ over k = 0, 1, 2 …, and its k: gradients of a linear network grow by it on the way, although they vanish.

    Relative to rho^k it is a property of the shape of W alone: 1 for a normal matrix, and the same for every multiple. A relative
    factor that still grows after 200 steps, as that of a Jordan block, is that of the 200th.

    Args:
        relative: divide by rho^k. None does so where rho >= 1, for there ‖W^k‖ has no largest value.

    Raises:
        ValueError: W is not a square matrix of finite numbers; rho is 0 and the growth relative to it was asked for, or at least 1
            and the absolute growth was.
    """
    W = _square(W)
    radius = spectral_radius(W, remember=False)
    if relative is None:
        relative = radius >= 1.0
    if relative and radius == 0.0:
        raise ValueError("relative: True is not allowed for a matrix whose spectral radius is 0")
    if not relative and radius >= 1.0:
        raise ValueError(
            f"relative: False is not allowed with a spectral radius of {radius:.4g}: ‖W^k‖ has no largest value"
        )
    return _largest_relative(W / radius) if relative else _largest_absolute(W)


def _largest_relative(W: np.ndarray) -> PeakGrowth:
    """Over the first ``POWERS`` powers. The norm of all entries bounds that of the matrix and costs less: the largest come first."""
    powers = [W]
    while len(powers) < POWERS:
        powers.append(powers[-1] @ W)
    bounds = np.array([np.linalg.norm(power) for power in powers])
    best = PeakGrowth(1.0, 0)
    for i in np.argsort(-bounds, kind="stable"):
        if bounds[i] < best.factor:
            break
        best = _larger(best, powers[i], int(i) + 1)
    return best


def _largest_absolute(W: np.ndarray) -> PeakGrowth:
    """Until a power is a contraction: then ‖W^(k+m)‖ <= ‖W^m‖, and nothing larger follows."""
    best, power = PeakGrowth(1.0, 0), W
    for k in range(1, _LONGEST):
        bound = float(np.linalg.norm(power))
        if bound > best.factor:
            best = _larger(best, power, k)
        if bound <= 1.0:
            break
        power = power @ W
    return best


def _larger(best: PeakGrowth, power: np.ndarray, k: int) -> PeakGrowth:
    norm = float(np.linalg.norm(power, 2))
    return PeakGrowth(norm, k) if norm > best.factor or (norm == best.factor and k < best.lag) else best


def _square(W: Any) -> np.ndarray:
    """W as a square matrix of finite float64 numbers."""
    array = numbers("W", to_numpy(W) if is_torch_array(W) else W)
    if array.ndim != 2 or 0 in array.shape or array.shape[0] != array.shape[1]:
        raise ValueError(f"W: shape {array.shape} is not allowed; it must be square, (H, H)")
    if not np.isfinite(array).all():
        raise ValueError("W: an entry is inf or nan; all must be finite")
    return array.astype(np.float64)
