"""The forward equations once more, in PyTorch's own functions and row-major, sharing nothing with ``cells/`` or ``losses.py``.

The oracles differentiate these with torch.autograd. Every cell and activation of the registries has a row here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda a: a,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": torch.selu,
    "silu": functional.silu,
    "softplus": lambda a: functional.softplus(a, threshold=40.0),  # the default, 20, drops log1p(exp(-a)) too early
    "softsign": functional.softsign,
    "hard_tanh": functional.hardtanh,
    # torch differentiates these two as s (1 - s) and 1 - h², which cancel where the unit is saturated: at |a| = 19 the
    # derivative of torch.tanh is 0 in float64, not 1.3e-16. There the same function is written so that autograd does not cancel.
    "sigmoid": lambda a: torch.where(a > 1, 1 / (1 + torch.exp(-a.abs())), torch.sigmoid(a)),
    "tanh": lambda a: torch.where(a.abs() > 1, a.sign() * (2 / (1 + torch.exp(-2 * a.abs())) - 1), torch.tanh(a)),
}


def vanilla_step(p: dict[str, Tensor], phi: Callable[[Tensor], Tensor], x: Tensor, h: Tensor) -> Tensor:
    """h_t (B, H) from x_t (B, D) and h_{t-1} (B, H)."""
    return phi(functional.linear(x, p["weight_ih"], p["bias_ih"]) + functional.linear(h, p["weight_hh"], p["bias_hh"]))


Step = Callable[[dict[str, Tensor], Callable[[Tensor], Tensor], Tensor, Tensor], Tensor]
STEPS: dict[str, Step] = {"vanilla": vanilla_step}


def mean_loss(loss: str, y: Tensor, target: Tensor) -> Tensor:
    """The loss of outputs y (…, C) as the engine defines it: mean over batch and steps."""
    if loss == "softmax_cross_entropy":
        # ln(1 + Σ exp(y_c - y_target)) over the other classes: torch's own cross_entropy differentiates to softmax - 1,
        # which cancels where the prediction is confident and right.
        labels = target[..., None]
        others = (y - y.gather(-1, labels)).scatter(-1, labels, -math.inf).logsumexp(-1)
        return torch.logaddexp(torch.zeros_like(others), others).mean()
    return 0.5 * functional.mse_loss(y, target, reduction="sum") / (y.numel() // y.shape[-1])
