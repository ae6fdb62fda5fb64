"""Oracle: Ω and its immediate gradient by torch.autograd, from the definition (rnn_core/README.md, section 3.4).

The engine's own states and dL/dh_t are taken, which ``autograd.py`` checks. Everything else is torch's: slopes, what a step sends back, and the
derivative by W_hh with slopes and dL/dh_t held constant. Only directions are used, so it holds beyond the range of floats too.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rnn_core.arrays import Array, to_numpy
from rnn_core.experiment import Evaluation, Problem
from rnn_core.oracles.activations import ACTIVATIONS
from rnn_core.oracles.compare import Abstains, Error, worst
from rnn_core.oracles.problems import options_of
from rnn_core.regularizers import omega
from rnn_core.scaling import mantissa_and_exponents, plain

FURTHEST = 600.0  # in ln: of a sample that is further below the others of its step, dL/dh_t of the whole batch may have lost entries


def check(problem: Problem, params: dict[str, Array], x: Array, evaluation: Evaluation) -> Error:
    """The worse error of Ω and of its gradient, relative to what its terms r² + 1, and 2 (r + 1) |da|, add up to before r - 1 cancels.

    Raises:
        Abstains: states are not finite in plain floats, or samples lie too far apart to be seen side by side.
    """
    value, gradient = omega(evaluation.tape, evaluation.gradients)
    norms = evaluation.gradients.log_norm_samples
    with np.errstate(invalid="ignore"):
        if ((norms < norms.max(axis=1, keepdims=True) - FURTHEST) & (norms > -np.inf)).any():
            raise Abstains("samples too far apart")
    dh = torch.as_tensor(to_numpy(mantissa_and_exponents(evaluation.gradients.hidden)[0])).double()
    p = {name: torch.as_tensor(to_numpy(array)).double() for name, array in params.items()}
    h = torch.as_tensor(to_numpy(plain(evaluation.tape.hidden))).double()
    if not (h.isfinite().all() and dh.isfinite().all()):
        raise Abstains("not finite")
    W = p["weight_hh"].clone().requires_grad_()
    expected, scale, of_da = _omega(problem, {**p, "weight_hh": W}, torch.as_tensor(to_numpy(x)).double(), h, dh)
    right = np.zeros(tuple(W.shape))
    if expected.requires_grad:
        right = torch.autograd.grad(expected, W)[0].numpy()
    ours = to_numpy(gradient["weight_hh"]).astype(np.float64)
    return worst(
        [
            Error(_relative(abs(value - float(expected.detach())), scale), "Ω"),
            Error(_relative(float(np.linalg.norm(ours - right)), of_da), "∂Ω/∂W_hh"),
        ]
    )


def _omega(problem: Problem, p: dict[str, Tensor], x: Tensor, h: Tensor, dh: Tensor) -> tuple[Tensor, float, float]:
    """(Ω, the sum of r² + 1, the sum of 2 (r + 1) ‖da‖/‖dh‖), the means over the batch."""
    options = {"step": 1.0, "leak": 0.0 if problem.experiment.cell == "residual" else 1.0, **options_of(problem)}
    before = torch.cat([torch.zeros_like(h[:1]), h[:-1]])
    W = p["weight_hh"].detach()
    a = x @ p["weight_ih"].T + before @ W.T + p.get("bias_ih", 0.0) + p.get("bias_hh", 0.0)
    a = a.detach().requires_grad_()
    [slope] = torch.autograd.grad(ACTIVATIONS[problem.experiment.activation].tensor(a).sum(), a)
    dh = dh / dh.abs().amax(dim=-1, keepdim=True).clamp_min(torch.finfo(dh.dtype).tiny)
    size = dh.norm(dim=-1)
    there = (size > 0.0) & (torch.arange(len(h))[:, None] > 0)
    free = torch.zeros_like(h, requires_grad=True)
    after = (1.0 - options["leak"]) * free + options["step"] * slope * (free @ p["weight_hh"].T)
    [sent] = torch.autograd.grad(after, free, dh, create_graph=True)
    ratio = sent.norm(dim=-1)[there] / size[there]
    da = (options["step"] * slope * dh).norm(dim=-1)[there] / size[there]
    r, B = ratio.detach(), h.shape[1]
    return ((ratio - 1.0) ** 2).sum() / B, float((r**2 + 1.0).sum()) / B, float((2.0 * (r + 1.0) * da).sum()) / B


def _relative(difference: float, size: float) -> float:
    return difference / size if size else 0.0 if difference == 0.0 else float("inf")
