"""The oracles' equations on torch tensors, for autograd: a step of a cell, and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from rnn_core.arrays import Array
from rnn_core.oracles.activations import ACTIVATIONS
from rnn_core.oracles.equations import CELLS

EPSILON = 1e-5  # torch.nn.LayerNorm's
Params = dict[str, Tensor]
State = dict[str, Tensor]
Step = Callable[..., State]  # the state after a step, from the parameters, x (B, D) and the state before


class Seams(Protocol):
    """Where a step can be looked into: what lies between its parts."""

    def product(self, value: Tensor) -> Tensor:
        """W a + b as the rest of the step sees it."""

    def part(self, name: str, value: Tensor) -> Tensor:
        """A new part of the state as the rest of the step sees it."""

    def difference(self, a: Tensor, of_a: Callable[[Tensor], Tensor], slope: Tensor) -> Tensor:
        """of_a(a), whose derivative by a is a difference of terms as large as the derivative by of_a(a) times ``slope``."""


class Closed:
    """Everything as it is."""

    def product(self, value: Tensor) -> Tensor:
        return value

    def part(self, name: str, value: Tensor) -> Tensor:
        return value

    def difference(self, a: Tensor, of_a: Callable[[Tensor], Tensor], slope: Tensor) -> Tensor:
        return of_a(a)


CLOSED = Closed()


@dataclass(frozen=True)
class TensorNetwork:
    """A network of torch tensors, as ``equations.Network`` says."""

    params: Params
    gates: int
    phi: Callable[[Tensor], Tensor]
    gate: Callable[[Tensor], Tensor]
    softplus: Callable[[Tensor], Tensor]
    options: Mapping[str, float]
    matrix: Callable[[Tensor, Mapping[str, float]], Tensor]
    seams: Seams

    def linear(self, kind: str, a: Tensor) -> Tensor:
        weight = self.params.get(f"weight_{kind}")
        if weight is None:
            return self.params.get(f"bias_{kind}", a.new_zeros(()))
        W = weight if kind == "ih" else self.matrix(weight, self.options)
        return self.seams.product(functional.linear(a, W, self.params.get(f"bias_{kind}")))

    def normalised(self, a: Tensor) -> Tensor:
        gain, shift = self.params["weight_ln"], self.params["bias_ln"]
        if a.shape[-1] == 2:
            return gain * _normalised_pair(a) + shift
        slope = (a.detach().var(dim=-1, correction=0, keepdim=True) + EPSILON).rsqrt()
        return gain * self.seams.difference(a, lambda v: functional.layer_norm(v, v.shape[-1:]), slope) + shift

    def blocks(self, a: Tensor) -> tuple[Tensor, ...]:
        return tuple(a.chunk(self.gates, dim=-1))

    def seen(self, name: str, value: Tensor) -> Tensor:
        return self.seams.part(name, value)


def _normalised_pair(a: Tensor) -> Tensor:
    """Layer normalisation of two units: ±d/√(d² + ε), d half their difference.

    Autograd of torch's own forms 1 - d²/(d² + ε), of which ε/d² is left. Where d is large it is written as ±1/√(1 + ε/d²), whose derivative
    is a product. Each form is given numbers of its own range, so that the other's derivative is finite.
    """
    d = 0.5 * (a[..., :1] - a[..., 1:])
    large = d * d > EPSILON
    far = torch.where(large, d, 1.0)
    near = torch.where(large, 0.0, d)
    n = torch.where(
        large, far.sign() / torch.sqrt(1.0 + EPSILON / (far * far)), near / torch.sqrt(near * near + EPSILON)
    )
    return torch.cat([n, -n], dim=-1)


def step_of(cell: str, activation: str, options: Mapping[str, float] | None = None) -> Step:
    """One step of a cell; ``options`` that are not given have their defaults."""
    row, (phi, gate, softplus) = CELLS[cell], (ACTIVATIONS[name].tensor for name in (activation, "sigmoid", "softplus"))
    numbers = {**row.options, **(options or {})}

    def step(params: Params, x: Tensor, state: State, seams: Seams = CLOSED) -> State:
        return row.step(TensorNetwork(params, row.gates, phi, gate, softplus, numbers, row.matrix, seams), x, state)

    return step


def mean_loss(loss: str, y: Tensor, target: Tensor) -> Tensor:
    """The loss of outputs y (…, C) as the engine defines it: the mean over the samples and steps that carry a target.

    A target of nan, or a label below 0, is none.
    """
    given = target >= 0 if loss == "softmax_cross_entropy" else ~target[..., 0].isnan()
    y, target = y[given], target[given]
    if loss == "softmax_cross_entropy":
        # ln(1 + Σ exp(y_c - y_target)) over the other classes: torch's own cross_entropy differentiates to softmax - 1,
        # which cancels where the prediction is confident and right.
        labels = target[..., None]
        others = (y - y.gather(-1, labels)).scatter(-1, labels, -math.inf).logsumexp(-1)
        return torch.logaddexp(torch.zeros_like(others), others).mean()
    return 0.5 * functional.mse_loss(y, target, reduction="sum") / (y.numel() // y.shape[-1])


def as_tensor(array: Array) -> Tensor:
    """``array`` as a tensor that shares its memory and is no part of a graph."""
    return torch.as_tensor(array).detach()


def as_tensors(params: dict[str, Array]) -> Params:
    """Every parameter by ``as_tensor``."""
    return {name: as_tensor(value) for name, value in params.items()}
