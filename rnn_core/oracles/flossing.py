"""Oracle: the loss of flossing and its gradient by torch.autograd, through every QR decomposition (rnn_core/README.md, section 3.5).

The definition as it stands: states, slopes by autograd, J_t written out, ``torch.linalg.qr``, whose derivative is torch's. Nothing of the
engine is used but the frame that it starts from.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rnn_core.arrays import Array, to_numpy
from rnn_core.experiment import Problem
from rnn_core.flossing import SEQUENCES, STEPS, first_frame, flossing_loss
from rnn_core.oracles.activations import ACTIVATIONS
from rnn_core.oracles.compare import Abstains, Error, worst
from rnn_core.oracles.problems import options_of
from rnn_core.oracles.rounding import TRIALS, beyond_rounding, moved, noise

Params = dict[str, Tensor]


def check(problem: Problem, params: dict[str, Array], x: Array) -> Error:
    """The worst relative error of the loss and of every parameter's gradient, beyond what rounding of the parameters does to them.

    Raises:
        Abstains: a direction dies, or a state is not finite.
    """
    e = problem.experiment
    own = {name: value for name, value in params.items() if not name.endswith("ho")}
    k, x = e.flossing_exponents or e.hidden_size, x[:STEPS, :SEQUENCES]
    ours = flossing_loss(problem.cell, own, x, k)
    if not math.isfinite(ours.loss):
        raise Abstains("a direction dies, or a state is not finite")
    p = {name: torch.as_tensor(to_numpy(value)).double() for name, value in own.items()}
    xt, phi = torch.as_tensor(to_numpy(x)).double(), ACTIVATIONS[e.activation].tensor
    options = {"step": 1.0, "leak": 0.0 if e.cell == "residual" else 1.0, **options_of(problem)}
    eps = float(torch.finfo(torch.as_tensor(x).dtype).eps)  # the engine's; torch's own is that of float64
    right, *again = [
        gradients_of(phi, {name: moved(each, source, eps) for name, each in p.items()}, xt, k, **options)
        for source in (None, *map(noise, range(TRIALS)))
    ]
    claimed = {"loss": np.array(ours.loss), **{n: to_numpy(g).astype(np.float64) for n, g in ours.gradients.items()}}
    return worst(
        [Error(beyond_rounding(claimed[name], right[name], [each[name] for each in again]), name) for name in claimed]
    )


def gradients_of(
    phi: Callable[[Tensor], Tensor], p: Params, x: Tensor, k: int, step: float = 1.0, leak: float = 1.0
) -> dict[str, np.ndarray]:
    """The gradient of ``loss_of`` by the names of the parameters, and the loss by its own."""
    leaves = {name: value.clone().requires_grad_() for name, value in p.items()}
    loss = loss_of(phi, leaves, x, k, step, leak)
    gradients = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return {"loss": loss.detach().numpy(), **{name: g.numpy() for name, g in zip(leaves, gradients, strict=True)}}


def loss_of(
    phi: Callable[[Tensor], Tensor], p: Params, x: Tensor, k: int, step: float = 1.0, leak: float = 1.0
) -> Tensor:
    """(1/B) Σ_b (1/k) Σ_i λ_i² of x (T, B, D), of a residual network; ``step`` and ``leak`` of 1 are the vanilla one."""
    W, B = p["weight_hh"], x.shape[1]
    H = len(W)
    h, Q = torch.zeros(B, H, dtype=x.dtype), torch.tensor(first_frame(H, k), dtype=x.dtype).expand(B, H, k)
    logs, bias = torch.zeros(B, k, dtype=x.dtype), p.get("bias_ih", 0.0) + p.get("bias_hh", torch.zeros(1))
    with torch.enable_grad():
        for x_t in x.unbind(0):
            a = x_t @ p["weight_ih"].T + h @ W.T + bias
            if not a.requires_grad:
                a.requires_grad_()
            n = phi(a)
            [slope] = torch.autograd.grad(n.sum(), a, create_graph=True)
            J = (1.0 - leak) * torch.eye(H, dtype=x.dtype) + step * slope[:, :, None] * W
            Q, R = torch.linalg.qr(J @ Q)
            logs = logs + torch.diagonal(R, dim1=1, dim2=2).abs().log()
            h = (1.0 - leak) * h + step * n
    return ((logs / len(x)) ** 2).mean()
