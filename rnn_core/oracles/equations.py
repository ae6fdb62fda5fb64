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
    # functional.gelu takes 1 + erf, which cancels on the left.
    "gelu": lambda a: a * 0.5 * torch.special.erfc(-a * math.sqrt(0.5)),
    "silu": functional.silu,
    "softplus": lambda a: functional.softplus(a, threshold=40.0),  # the default, 20, drops log1p(exp(-a)) too early
    "softsign": functional.softsign,
    "hard_tanh": functional.hardtanh,
    # torch differentiates these two as s (1 - s) and 1 - h², which cancel where the unit is saturated: at |a| = 19 the
    # derivative of torch.tanh is 0 in float64, not 1.3e-16. There the same function is written so that autograd does not cancel.
    "sigmoid": lambda a: torch.where(a > 1, 1 / (1 + torch.exp(-a.abs())), torch.sigmoid(a)),
    "tanh": lambda a: torch.where(a.abs() > 1, a.sign() * (2 / (1 + torch.exp(-2 * a.abs())) - 1), torch.tanh(a)),
}


State = dict[str, Tensor]
Phi = Callable[[Tensor], Tensor]
Step = Callable[[dict[str, Tensor], Phi, Tensor, State], State]


def _input_part(p: dict[str, Tensor], x: Tensor) -> Tensor:
    return functional.linear(x, p["weight_ih"], p.get("bias_ih"))


def _recurrent_part(p: dict[str, Tensor], h: Tensor) -> Tensor:
    return functional.linear(h, p["weight_hh"], p.get("bias_hh"))


def vanilla_step(p: dict[str, Tensor], phi: Phi, x: Tensor, state: State) -> State:
    """h_t (B, H) from x_t (B, D) and h_{t-1} (B, H)."""
    return {"hidden": phi(_input_part(p, x) + _recurrent_part(p, state["hidden"]))}


def residual_step(
    p: dict[str, Tensor], phi: Phi, x: Tensor, state: State, step: float = 1.0, leak: float = 0.0
) -> State:
    """The residual or leaky cell."""
    change = phi(_input_part(p, x) + _recurrent_part(p, state["hidden"]))
    return {"hidden": state["hidden"] * (1.0 - leak) + change * step}


def gru_step(p: dict[str, Tensor], phi: Phi, x: Tensor, state: State) -> State:
    """torch.nn.GRU's equations, with phi for tanh."""
    gate, h = ACTIVATIONS["sigmoid"], state["hidden"]
    u_r, u_z, u_n = _input_part(p, x).chunk(3, dim=-1)
    v_r, v_z, v_n = _recurrent_part(p, h).chunk(3, dim=-1)
    n = phi(u_n + gate(u_r + v_r) * v_n)
    return {"hidden": gate(-u_z - v_z) * n + gate(u_z + v_z) * h}


def gru_reset_before_step(p: dict[str, Tensor], phi: Phi, x: Tensor, state: State) -> State:
    """The same with the reset gate before the product."""
    gate, h = ACTIVATIONS["sigmoid"], state["hidden"]
    w_r, w_z, w_n = p["weight_hh"].chunk(3)
    b_r, b_z, b_n = p["bias_hh"].chunk(3) if "bias_hh" in p else (None, None, None)
    u_r, u_z, u_n = _input_part(p, x).chunk(3, dim=-1)
    r = gate(u_r + functional.linear(h, w_r, b_r))
    a_z = u_z + functional.linear(h, w_z, b_z)
    n = phi(u_n + functional.linear(r * h, w_n, b_n))
    return {"hidden": gate(-a_z) * n + gate(a_z) * h}


def lstm_step(p: dict[str, Tensor], phi: Phi, x: Tensor, state: State) -> State:
    """torch.nn.LSTM's equations, with phi for tanh."""
    gate = ACTIVATIONS["sigmoid"]
    i, f, g, o = (_input_part(p, x) + _recurrent_part(p, state["hidden"])).chunk(4, dim=-1)
    c = gate(f) * state["cell"] + gate(i) * phi(g)
    return {"hidden": gate(o) * phi(c), "cell": c}


STEPS: dict[str, Callable[..., State]] = {
    "vanilla": vanilla_step,
    "residual": residual_step,
    "gru": gru_step,
    "gru_reset_before": gru_reset_before_step,
    "lstm": lstm_step,
}


def mean_loss(loss: str, y: Tensor, target: Tensor) -> Tensor:
    """The loss of outputs y (…, C) as the engine defines it: mean over the samples and steps that carry a target.

    A target of nan, or a label below 0, is none.
    """
    there = target >= 0 if loss == "softmax_cross_entropy" else ~target[..., 0].isnan()
    y, target = y[there], target[there]
    if loss == "softmax_cross_entropy":
        # ln(1 + Σ exp(y_c - y_target)) over the other classes: torch's own cross_entropy differentiates to softmax - 1,
        # which cancels where the prediction is confident and right.
        labels = target[..., None]
        others = (y - y.gather(-1, labels)).scatter(-1, labels, -math.inf).logsumexp(-1)
        return torch.logaddexp(torch.zeros_like(others), others).mean()
    return 0.5 * functional.mse_loss(y, target, reduction="sum") / (y.numel() // y.shape[-1])
