"""Activation functions phi: one row each with f, its derivatives df and ddf, gamma = sup |phi'| and a source.

A derivative is written so that it stays accurate where the textbook form cancels: 1 - tanh(a)^2 is exactly 0 in float64
at a = 19, where the true value is 1.3e-16. The subgradient at a kink is PyTorch's (0 for relu at 0).

To add one, add a row to ``ROWS``, with phi'' if it is to be flossed, and a row to ``oracles/activations.py`` with its form for
each oracle. The tests ask for a formula that they can evaluate with 200 digits. Gate, verification, settings and figures
follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from rnn_core.arrays import Array, erfcx, namespace
from rnn_core.choices import Registry, choose

Formula = Callable[[ModuleType, Array], Array]


@dataclass(frozen=True, repr=False)
class Activation:
    """phi, elementwise.

    Attributes:
        gamma: sup |phi'|, the constant of the Lipschitz bound (Pascanu et al. 2013, section 2.1).
        homogeneous: phi(c a) = c phi(a) for c > 0, so that phi' does not depend on the scale of a.
        source: where the function was introduced.
        kinks: the points where phi' jumps.
        bounded: |phi(a)| has a bound, so that units saturate.
        piecewise_linear: phi' is constant between the kinks; neither phi nor phi' takes an exponential.
        second: phi'', where it is not 0 everywhere. At a kink it is taken for 0.
    """

    name: str
    formula: Formula
    derivative: Formula
    gamma: float
    source: str
    homogeneous: bool = False
    kinks: tuple[float, ...] = ()
    bounded: bool = False
    piecewise_linear: bool = False
    second: Formula | None = None

    def f(self, a: Array) -> Array:
        """phi(a), any shape."""
        with np.errstate(under="ignore"):  # a tail, or a branch that is not taken; the engine watches its own products
            return self.formula(namespace(a), a)

    def df(self, a: Array) -> Array:
        """phi'(a), same shape as ``a``."""
        with np.errstate(under="ignore"):
            return self.derivative(namespace(a), a)

    def ddf(self, a: Array) -> Array:
        """phi''(a), same shape as ``a``.

        Raises:
            ValueError: nobody has written it.
        """
        xp = namespace(a)
        if self.second is not None:
            with np.errstate(under="ignore"):
                return self.second(xp, a)
        if not self.piecewise_linear:
            raise ValueError(f"activation: {self.name!r} is not allowed; its row says no second derivative")
        return xp.zeros_like(a)

    def __repr__(self) -> str:
        return f"Activation({self.name!r}, gamma={self.gamma:g}, source={self.source!r})"


def _sigmoid(xp: ModuleType, a: Array) -> Array:
    e = xp.exp(-xp.abs(a))  # never overflows; keeps full relative accuracy in both tails
    return xp.where(a >= 0, 1.0, e) / (1.0 + e)


def _d_sigmoid(xp: ModuleType, a: Array) -> Array:
    e = xp.exp(-xp.abs(a))
    return e / ((1.0 + e) * (1.0 + e))


def _dd_sigmoid(xp: ModuleType, a: Array) -> Array:
    return -xp.tanh(0.5 * a) * _d_sigmoid(xp, a)  # sigma' (1 - 2 sigma), which would cancel


def _d_tanh(xp: ModuleType, a: Array) -> Array:
    e = xp.exp(-2.0 * xp.abs(a))  # 1/cosh(a)^2 = 4 e / (1 + e)^2: no cancellation, no overflow
    return 4.0 * e / ((1.0 + e) * (1.0 + e))


def _dd_tanh(xp: ModuleType, a: Array) -> Array:
    return -2.0 * xp.tanh(a) * _d_tanh(xp, a)


def _silu(xp: ModuleType, a: Array) -> Array:
    b = xp.clip(a, -1e4, None)  # below, sigmoid is 0, and -inf times it would be nan
    return b * _sigmoid(xp, b)


def _d_silu(xp: ModuleType, a: Array) -> Array:
    b = xp.clip(a, -1e4, 1e4)
    return _sigmoid(xp, b) + b * _d_sigmoid(xp, b)


def _dd_silu(xp: ModuleType, a: Array) -> Array:
    b = xp.clip(a, -1e4, 1e4)
    return _d_sigmoid(xp, b) * (2.0 - b * xp.tanh(0.5 * b))  # 2 sigma' + a sigma''


def _softsign(xp: ModuleType, a: Array) -> Array:
    b = xp.clip(a, -1e37, 1e37)  # beyond, it is ±1, and inf / inf would be nan
    return b / (1.0 + xp.abs(b))


def _gaussian_tail(xp: ModuleType, a: Array) -> tuple[Array, Array, Array]:
    """(m, Phi(-m), phi(m)) for m = |a|, cut at 40 where both are 0: the normal distribution's tail and density.

    exp(-m²/2) loses the digits that m² drops, 10^-13 of it at m = 38; so m = near + rest, whose near² is exact.
    """
    m = xp.clip(xp.abs(a), None, 40.0)
    near = xp.round(m * 256.0) / 256.0
    bell = xp.exp(-0.5 * near * near) * xp.exp(-0.5 * (m - near) * (m + near))
    return m, 0.5 * erfcx(m * math.sqrt(0.5)) * bell, bell / math.sqrt(2.0 * math.pi)


def _gelu(xp: ModuleType, a: Array) -> Array:
    m, tail, _ = _gaussian_tail(xp, a)
    return xp.where(a > 0, a - m * tail, -m * tail)  # a Phi(a)


def _d_gelu(xp: ModuleType, a: Array) -> Array:
    m, tail, density = _gaussian_tail(xp, a)
    left = tail - m * density  # Phi(-m) - m phi(m), the derivative at -m; at m it is 1 minus this
    return xp.where(a > 0, 1.0 - left, left)


def _dd_gelu(xp: ModuleType, a: Array) -> Array:
    m, _, density = _gaussian_tail(xp, a)
    return density * (2.0 - m * m)  # (a Phi)'' = 2 phi + a phi', and the normal density has phi' = -a phi


def _left_exponential(xp: ModuleType, a: Array, scale: float) -> Array:
    """scale · exp(a) on the left, 0 on the right."""
    return xp.where(a > 0, xp.zeros_like(a), scale * xp.exp(-xp.abs(a)))


def _where(xp: ModuleType, condition: Array, yes: float, no: float, a: Array) -> Array:
    """``yes`` or ``no`` by ``condition``, in the dtype and on the device of ``a``; nan where ``a`` is."""
    return xp.where(condition, xp.full_like(a, yes), xp.where(xp.isnan(a), a, xp.full_like(a, no)))


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805
_LEAK = 0.01  # torch.nn.functional.leaky_relu's default

ROWS = (
    Activation(
        "identity",
        lambda xp, a: a,
        lambda xp, a: xp.ones_like(a),
        1.0,
        "the linear network",
        homogeneous=True,
        piecewise_linear=True,
    ),
    Activation(
        "relu",
        lambda xp, a: xp.where(a < 0, 0.0, a),  # unlike a * (a > 0), keeps nan and gives 0 at -inf
        lambda xp, a: _where(xp, a > 0, 1.0, 0.0, a),
        1.0,
        "Nair & Hinton 2010",
        homogeneous=True,
        kinks=(0.0,),
        piecewise_linear=True,
    ),
    Activation(
        "leaky_relu",
        lambda xp, a: xp.where(a > 0, a, _LEAK * a),
        lambda xp, a: _where(xp, a > 0, 1.0, _LEAK, a),
        1.0,
        "Maas, Hannun & Ng 2013, slope 0.01",
        homogeneous=True,
        kinks=(0.0,),
        piecewise_linear=True,
    ),
    Activation(
        "elu",
        lambda xp, a: xp.where(a > 0, a, xp.expm1(-xp.abs(a))),
        lambda xp, a: xp.where(a > 0, xp.ones_like(a), xp.exp(-xp.abs(a))),
        1.0,
        "Clevert, Unterthiner & Hochreiter 2016, alpha = 1",
        second=lambda xp, a: _left_exponential(xp, a, 1.0),
    ),
    Activation(
        "selu",
        lambda xp, a: _SELU_SCALE * xp.where(a > 0, a, _SELU_ALPHA * xp.expm1(-xp.abs(a))),
        lambda xp, a: _SELU_SCALE * xp.where(a > 0, xp.ones_like(a), _SELU_ALPHA * xp.exp(-xp.abs(a))),
        _SELU_SCALE * _SELU_ALPHA,
        "Klambauer et al. 2017",
        kinks=(0.0,),
        second=lambda xp, a: xp.where(a == 0, xp.zeros_like(a), _left_exponential(xp, a, _SELU_SCALE * _SELU_ALPHA)),
    ),
    Activation(
        "gelu",
        _gelu,
        _d_gelu,
        1.1289041451851548,  # at a = √2, where phi'' = 0
        "Hendrycks & Gimpel 2016, exact form a Phi(a)",
        second=_dd_gelu,
    ),
    Activation(
        "silu",
        _silu,
        _d_silu,
        1.099839320128867,  # at a = 2.3993572805154674, where phi'' = 0
        "Elfwing, Uchibe & Doya 2018; Ramachandran et al. 2017",
        second=_dd_silu,
    ),
    Activation(
        "softplus",
        lambda xp, a: xp.where(a > 0, a, xp.zeros_like(a)) + xp.log1p(xp.exp(-xp.abs(a))),
        _sigmoid,
        1.0,
        "Dugas et al. 2001",
        second=_d_sigmoid,
    ),
    Activation(
        "softsign",
        _softsign,
        lambda xp, a: 1.0 / ((1.0 + xp.abs(a)) * (1.0 + xp.abs(a))),
        1.0,
        "Bergstra et al. 2009",
        bounded=True,
        second=lambda xp, a: -2.0 * xp.sign(a) / (1.0 + xp.abs(a)) ** 3,
    ),
    Activation(
        "hard_tanh",
        lambda xp, a: xp.clip(a, -1.0, 1.0),
        lambda xp, a: _where(xp, xp.abs(a) < 1.0, 1.0, 0.0, a),
        1.0,
        "Collobert 2004",
        kinks=(-1.0, 1.0),
        bounded=True,
        piecewise_linear=True,
    ),
    Activation(
        "sigmoid", _sigmoid, _d_sigmoid, 0.25, "Rumelhart, Hinton & Williams 1986", bounded=True, second=_dd_sigmoid
    ),
    Activation("tanh", lambda xp, a: xp.tanh(a), _d_tanh, 1.0, "LeCun et al. 1998", bounded=True, second=_dd_tanh),
)

ACTIVATIONS: Registry[Activation] = Registry("activations", {row.name: row for row in ROWS})


def activation(name: str) -> Activation:
    """The registered activation called ``name``; ValueError names the nearest one otherwise."""
    return choose("activation", name, ACTIVATIONS)
