"""The activations once more, for complex numbers a + i b with b tiny: the imaginary part of phi(a + i b) is b phi'(a).

No abs(), which is not analytic; branches are chosen by the real part. Where a formula cancels in either part it is written so that
neither does: each function is accurate in both tails, as long as b phi'(a) is a normal number. A kink takes PyTorch's subgradient.
Nothing is shared with ``rnn_core.activations`` or ``equations.py``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import wofz

Function = Callable[[np.ndarray], np.ndarray]


def combine(real: np.ndarray, imag: np.ndarray) -> np.ndarray:
    """real + i imag; written out, 1j * imag would turn an infinite ``imag`` into nan."""
    z = np.empty(np.broadcast_shapes(real.shape, imag.shape), dtype=np.complex128)
    z.real, z.imag = real, imag
    return z


def _sign(z: np.ndarray) -> np.ndarray:
    return np.where(z.real < 0, -1.0, 1.0)


def _log1p(w: np.ndarray) -> np.ndarray:
    """ln(1 + w) for Re w in [0, 1]; NumPy's takes the logarithm of a rounded |1 + w|."""
    x, y = w.real, w.imag
    return combine(0.5 * np.log1p(x * (2.0 + x) + y * y), np.arctan2(y, 1.0 + x))


def relu(z: np.ndarray) -> np.ndarray:
    return np.where(z.real > 0, z, 0.0)


def leaky_relu(z: np.ndarray) -> np.ndarray:
    return np.where(z.real > 0, z, 0.01 * z)


def elu(z: np.ndarray) -> np.ndarray:
    return np.where(z.real > 0, z, np.expm1(np.where(z.real > 0, 0.0, z)))


def selu(z: np.ndarray) -> np.ndarray:
    """Klambauer et al. 2017: the two constants to float64."""
    below = 1.6732632423543772848170429916717 * np.expm1(np.where(z.real > 0, 0.0, z))
    return np.asarray(1.0507009873554804934193349852946 * np.where(z.real > 0, z, below))


def sigmoid(z: np.ndarray) -> np.ndarray:
    e = np.exp(-_sign(z) * z)
    return np.asarray(np.where(z.real < 0, e, 1.0) / (1.0 + e))


def tanh(z: np.ndarray) -> np.ndarray:
    """(1 - e) / (1 + e) with e = exp(-2|a|), by its distance from 1: the quotient rule then adds terms of one sign."""
    s = _sign(z)
    m = np.expm1(-2.0 * s * z)
    return np.asarray(-s * m / (2.0 + m))


def silu(z: np.ndarray) -> np.ndarray:
    return np.asarray(z * sigmoid(z))


def softplus(z: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(z.real < 0, 0.0, z) + _log1p(np.exp(-_sign(z) * z)))


def softsign(z: np.ndarray) -> np.ndarray:
    """z / (1 + |z|); far out as 1 - 1 / (1 + |z|), where the quotient rule of the first form cancels."""
    s = _sign(z)
    d = 1.0 + s * z
    return np.asarray(np.where(s * z.real < 1.0, z / d, s * (1.0 - 1.0 / d)))


def hard_tanh(z: np.ndarray) -> np.ndarray:
    inside = (z.real > -1.0) & (z.real < 1.0)
    return np.where(inside, z, np.clip(z.real, -1.0, 1.0))


def _upper_tail(z: np.ndarray) -> np.ndarray:
    """The normal law's Q(z) = exp(-z²/2) erfcx(z/√2) / 2 for Re z ≥ 0, with erfcx(w) = wofz(i w) (scipy's Faddeeva).

    z² is split at ``near``, whose square is exact: the rounding error of z² alone would cost 1e-13 at z = 30. Beyond 40 all of
    it is below float64's range.
    """
    z = combine(np.minimum(z.real, 40.0), z.imag)
    near = np.round(z.real * 128.0) / 128.0
    gauss = np.exp(-0.5 * near * near) * np.exp(-0.5 * (z - near) * (z + near))
    w = z / np.sqrt(2.0)
    return np.asarray(0.5 * gauss * wofz(combine(-w.imag, w.real)))


def gelu(z: np.ndarray) -> np.ndarray:
    """a Phi(a), the exact one (Hendrycks & Gimpel 2016)."""
    tail = _upper_tail(_sign(z) * z)
    return np.asarray(z * np.where(z.real < 0, tail, 1.0 - tail))


ACTIVATIONS: dict[str, Function] = {
    "identity": lambda z: z,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "elu": elu,
    "selu": selu,
    "gelu": gelu,
    "silu": silu,
    "softplus": softplus,
    "softsign": softsign,
    "hard_tanh": hard_tanh,
    "sigmoid": sigmoid,
    "tanh": tanh,
}

# Piecewise linear: a zero derivative is zero, not one that was rounded to it, and no imaginary part is too large.
PIECEWISE_LINEAR = frozenset({"identity", "relu", "leaky_relu", "hard_tanh"})
