"""Oracle: the fused kernels behind PyTorch's own modules: ``torch.nn.RNN`` for a vanilla cell with tanh or relu.

Like ``autograd.py`` it takes step after step from the engine's own states, so that rounding errors of a chaotic network do not
make two sound trajectories part.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnn_core.arrays import Array
from rnn_core.bptt import backward, forward
from rnn_core.experiment import Problem
from rnn_core.oracles.autograd import NotFinite, as_tensor, as_tensors, compare_recurrent, recurrent_gradients
from rnn_core.oracles.compare import Error, worst

KERNELS = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}
MODULE_ACTIVATIONS = tuple(KERNELS)
_ORDER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class TooSaturated(Exception):
    """PyTorch differentiates tanh as 1 - h², which has too few digits left for a comparison where a unit is saturated."""


def covers(problem: Problem) -> bool:
    """Whether PyTorch has a module for this cell and activation."""
    return problem.experiment.cell == "vanilla" and problem.experiment.activation in MODULE_ACTIVATIONS


def check(problem: Problem, x: Array, grad_hidden: Array, tolerance: float = 1e-10) -> Error:
    """The worst relative error of states, dL/dh_t and dL/dx_t at every t, dL/dh_0, and parameter gradients.

    Raises:
        NotFinite: a state of the engine is not finite.
        TooSaturated: the kernel's own derivative has a relative error near ``tolerance``.
    """
    kernel = KERNELS[problem.experiment.activation]

    def step(p: dict[str, Tensor], phi: object, x_t: Tensor, h: Tensor) -> Tensor:
        weights = [p[name] for name in _ORDER]
        return kernel(x_t[None], h[None], weights, True, 1, 0.0, False, False, False)[0][0]

    params = {name: value for name, value in problem.params.items() if not name.endswith("_ho")}
    tape = forward(problem.cell, params, x)
    gradients = backward(tape, grad_hidden)
    hidden = as_tensor(tape.hidden)
    if not hidden.isfinite().all():
        raise NotFinite
    if problem.experiment.activation == "tanh":
        narrowest = float((1 - hidden.abs()).min())
        if narrowest * tolerance < 4 * torch.finfo(hidden.dtype).eps:
            raise TooSaturated
    direct = as_tensor(grad_hidden)
    reference = recurrent_gradients(problem, as_tensors(params), as_tensor(x), hidden, direct, step)
    return worst(compare_recurrent(gradients, reference))
