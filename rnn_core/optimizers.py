"""Optimisers: an object holds what it remembers, ``step`` maps parameters and gradients to new parameters.

``step`` changes none of its arguments. A gradient beyond float range makes its parameters inf or nan: the caller looks at
``finite``.

Every optimiser has a weight decay lambda, as in torch. It acts on all parameters, and after clipping. In SGD, momentum and Adam it is the L2
penalty, g <- g + lambda theta; in AdamW it is apart from the gradient, theta <- (1 - learning_rate lambda) theta.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

from rnn_core.arrays import Array, Params, namespace
from rnn_core.choices import Registry
from rnn_core.clipping import Gradient
from rnn_core.scalars import as_python
from rnn_core.scaling import Scaled, plain


class Optimizer(Protocol):
    """What every optimiser offers; every row of ``OPTIMIZERS`` makes one from a learning rate and, where it is not 0, a ``weight_decay``."""

    def step(self, params: Params, grads: Gradient) -> Params:
        """New parameters."""


class SGD:
    """theta <- theta - learning_rate · g (Robbins & Monro 1951)."""

    def __init__(self, learning_rate: float, weight_decay: float = 0.0) -> None:
        # a NumPy scalar would decide the dtype of the parameters
        self.learning_rate, self.weight_decay = as_python(learning_rate), as_python(weight_decay)

    def __repr__(self) -> str:
        return f"SGD(learning_rate={self.learning_rate!r}{_decay(self.weight_decay)})"

    def step(self, params: Params, grads: Gradient) -> Params:
        """New parameters. A gradient beyond float range makes its parameters inf: the caller looks at ``finite``."""
        return {
            name: p - self.learning_rate * _penalised(p, grads[name], self.weight_decay) for name, p in params.items()
        }


class Momentum:
    """v <- momentum · v + g, theta <- theta - learning_rate · v: the heavy ball (Polyak 1964), as torch.optim.SGD writes it.

    Not Nesterov's form. Sutskever et al. (2013), eq. 1-2, keep -learning_rate · v instead: the same steps, as long as the
    learning rate does not change. A gradient beyond float range makes v, and every later step of its parameters, inf or nan.
    """

    def __init__(self, learning_rate: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        self.learning_rate, self.momentum, self.weight_decay = map(as_python, (learning_rate, momentum, weight_decay))
        self._velocity: dict[str, Array] = {}

    def __repr__(self) -> str:
        return f"Momentum(learning_rate={self.learning_rate!r}, momentum={self.momentum!r}{_decay(self.weight_decay)})"

    def step(self, params: Params, grads: Gradient) -> Params:
        """New parameters."""
        following = {}
        for name, p in params.items():
            g = _penalised(p, grads[name], self.weight_decay)
            v = self.momentum * _remembered(self._velocity, name, p) + g
            self._velocity[name] = v
            following[name] = p - self.learning_rate * v
        return following


class Adam:
    """theta <- theta - learning_rate · m̂ / (√v̂ + eps), bias-corrected (Kingma & Ba 2015, algorithm 1), as torch.optim.Adam.

    m <- beta1 · m + (1 - beta1) · g; v <- beta2 · v + (1 - beta2) · g²; m̂ = m / (1 - beta1^t); v̂ = v / (1 - beta2^t).

    What is kept is √v, never g². Where g² overflows (|g| above 1e154, or 1e19 in float32), v would be inf. Its parameters would
    stand still for ever after, with nothing to show for it. So steps are finite for every plain gradient short of the very end of
    the range, and differ from torch's by rounding alone where torch's g² does not overflow. A gradient beyond float range makes its
    parameters nan.
    """

    def __init__(
        self,
        learning_rate: float,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        self.learning_rate, self.beta1, self.beta2, self.eps = map(as_python, (learning_rate, beta1, beta2, eps))
        self.weight_decay = as_python(weight_decay)
        self._steps = 0
        self._mean: dict[str, Array] = {}
        self._root: dict[str, Array] = {}  # √v

    def __repr__(self) -> str:
        numbers = f"learning_rate={self.learning_rate!r}, beta1={self.beta1!r}, beta2={self.beta2!r}, eps={self.eps!r}"
        return f"{type(self).__name__}({numbers}{_decay(self.weight_decay)})"

    def step(self, params: Params, grads: Gradient) -> Params:
        """New parameters."""
        self._steps += 1
        mean_so_far, root_so_far = 1.0 - self.beta1**self._steps, math.sqrt(1.0 - self.beta2**self._steps)
        decay, share = math.sqrt(self.beta2), math.sqrt(1.0 - self.beta2)
        following = {}
        for name, p in params.items():
            g, p = self._decayed(p, grads[name])
            m = self.beta1 * _remembered(self._mean, name, p) + (1.0 - self.beta1) * g
            root = namespace(p).hypot(decay * _remembered(self._root, name, p), share * g)
            self._mean[name], self._root[name] = m, root
            following[name] = p - self.learning_rate / mean_so_far * (m / (root / root_so_far + self.eps))
        return following

    def _decayed(self, p: Array, grad: Array | Scaled) -> tuple[Array, Array]:
        """(the gradient, the parameters) that the step is made from, with weight decay in the one or the other."""
        return _penalised(p, grad, self.weight_decay), p


class AdamW(Adam):
    """theta <- (1 - learning_rate · weight_decay) theta, then Adam's step (Loshchilov & Hutter 2019, algorithm 2), as torch.optim.AdamW.

    Their decay is that times the schedule of the learning rate alone. Without weight decay it is Adam.
    """

    def _decayed(self, p: Array, grad: Array | Scaled) -> tuple[Array, Array]:
        return plain(grad), p * (1.0 - self.learning_rate * self.weight_decay) if self.weight_decay else p


OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry(
    "optimizers", {"sgd": SGD, "momentum": Momentum, "adam": Adam, "adamw": AdamW}
)


def _penalised(p: Array, grad: Array | Scaled, weight_decay: float) -> Array:
    """The gradient with that of the penalty weight_decay/2 ‖theta‖², in plain floats."""
    return plain(grad) + weight_decay * p if weight_decay else plain(grad)


def _decay(weight_decay: float) -> str:
    return f", weight_decay={weight_decay!r}" if weight_decay else ""


def _remembered(state: dict[str, Array], name: str, p: Array) -> Array:
    """What is kept for parameter ``name``; zeros before its first step."""
    return state[name] if name in state else namespace(p).zeros_like(p)
