"""The activations of the oracles: each twice, side by side, for torch's autograd and for complex numbers a + i b with b tiny.

*Why not one formula for both.* The imaginary part of phi(a + i b) is b phi'(a) only of an analytic formula. The modulus
is not, so branches are chosen by the real part. For autograd, each operation of torch has a rule of its own, and some rules cancel.
That of expm1 is result + 1, of which nothing is left in the tail: elu and selu would be 100 % wrong there. That of tanh is 1 - h². Each
form below is written so that neither the value nor the derivative cancels in its arithmetic.

Both forms are accurate in both tails, as long as phi'(a), or b phi'(a), is a normal number. At a kink they take PyTorch's
subgradient. Nothing is shared with ``rnn_core.activations``. To add an activation, add a row to ``ACTIVATIONS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import wofz
from torch import Tensor
from torch.nn import functional

Function = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Activation:
    """phi, elementwise.

    Attributes:
        tensor: by torch's functions, for autograd.
        complex: for complex steps.
        piecewise_linear: a derivative of zero is zero, not one that was rounded to it; no imaginary part is too large.
    """

    tensor: Callable[[Tensor], Tensor]
    complex: Function
    piecewise_linear: bool = False


# ---- complex forms -----------------------------------------------------------------------------------------------------


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


# ---- both forms, side by side ------------------------------------------------------------------------------------------


def size(a: Tensor) -> Tensor:
    """|a|. The second derivative of torch's own loads its compiler, and with it pandas."""
    return a.sign() * a


def tensor_softsign(a: Tensor) -> Tensor:
    """a / (1 + |a|)."""
    return a / (1 + size(a))


def tensor_sigmoid(a: Tensor) -> Tensor:
    """torch differentiates its own as s (1 - s), which cancels where s is near 1: above a = 1 it is written out."""
    return torch.where(a > 1, 1 / (1 + torch.exp(-size(a))), torch.sigmoid(a))


def tensor_tanh(a: Tensor) -> Tensor:
    """torch differentiates its own as 1 - h²: at |a| = 19 that is 0 in float64, not 1.3e-16. Above 1 it is written out."""
    return torch.where(size(a) > 1, a.sign() * (2 / (1 + torch.exp(-2 * size(a))) - 1), torch.tanh(a))


def tensor_gelu(a: Tensor) -> Tensor:
    """torch's own takes 1 + erf, which cancels on the left."""
    return a * 0.5 * torch.special.erfc(-a * math.sqrt(0.5))


def tensor_softplus(a: Tensor) -> Tensor:
    """torch's default threshold, 20, drops log1p(exp(-a)) too early."""
    return functional.softplus(a, threshold=40.0)


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda a: a, lambda z: z, piecewise_linear=True),
    "relu": Activation(torch.relu, relu, piecewise_linear=True),
    "leaky_relu": Activation(functional.leaky_relu, leaky_relu, piecewise_linear=True),
    "elu": Activation(functional.elu, elu),
    "selu": Activation(torch.selu, selu),
    "gelu": Activation(tensor_gelu, gelu),
    "silu": Activation(functional.silu, silu),
    "softplus": Activation(tensor_softplus, softplus),
    "softsign": Activation(tensor_softsign, softsign),
    "hard_tanh": Activation(functional.hardtanh, hard_tanh, piecewise_linear=True),
    "sigmoid": Activation(tensor_sigmoid, sigmoid),
    "tanh": Activation(tensor_tanh, tanh),
}
