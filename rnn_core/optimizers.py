"""Optimisers: an object holds what it remembers, ``step`` maps parameters and gradients to new parameters."""

from __future__ import annotations

from rnn_core.arrays import Array, Params
from rnn_core.clipping import Gradient
from rnn_core.scaling import Scaled


class SGD:
    """theta <- theta - learning_rate · g (Robbins & Monro 1951)."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def step(self, params: Params, grads: Gradient) -> Params:
        """New parameters. A gradient beyond float range makes its parameters inf: the caller looks at ``finite``."""
        return {name: p - self.learning_rate * _plain(grads[name]) for name, p in params.items()}


OPTIMIZERS = {"sgd": SGD}


def _plain(g: Array | Scaled) -> Array:
    return g.to_float() if isinstance(g, Scaled) else g
