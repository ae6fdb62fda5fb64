"""Untrained runs of one shape through the engine together, to what their rows need. Nothing here is done run by run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_core.batched import Together
from rnn_core.batched.passes import Direct
from rnn_core.batched.sums import ParameterGradients, parameter_gradients
from rnn_core.batched.trace import Gradients, States, read_gradients, read_states
from rnn_core.experiment.measures import SATURATED_BELOW
from rnn_core.experiment.settings import Experiment
from rnn_core.experiment.together.draws import Draws, Loaded
from rnn_core.losses import LOSSES
from rnn_core.tasks import Task

NEAR = 32  # steps that are multiplied together where outputs are at every step


class Losses(NamedTuple):
    """Of every run.

    Attributes:
        loss, accuracy: float64 (runs,); accuracy is nan for a regression.
        dy: dL/dy of the steps with an output, (steps, runs, B, C).
        h: the states at these steps, (steps, runs, H, B).
    """

    loss: Tensor
    accuracy: Tensor
    dy: Tensor
    h: Tensor


class Evaluated(NamedTuple):
    """A batch of runs, evaluated.

    Attributes:
        growth: of the last step's loss alone; with a loss at the last step it is ``gradients``.
        immediate: ln of the norm of the direct part of dL/dh_t, float64 (T, runs).
        param_grads: those of the cell, and those of the readout.
        hold: bool (runs,); what is said of the others counts for nothing.
    """

    loaded: Loaded
    states: States
    losses: Losses
    gradients: Gradients
    growth: Gradients
    immediate: Tensor
    param_grads: list[ParameterGradients]
    hold: np.ndarray


def evaluate_together(
    together: Together, draws: Draws, experiments: Sequence[Experiment], tasks: Sequence[Task]
) -> Evaluated:
    """Loss and gradients of the first batch of every run. Their number is ``together.R``."""
    n, task = len(experiments), tasks[0]
    loaded = draws.load(experiments, tasks)
    cell = {name: value for name, value in loaded.params.items() if not name.endswith("_ho")}
    together.load(cell, loaded.x, loaded.which)
    together.forward()
    states = read_states(together, SATURATED_BELOW)
    losses = _losses(together, loaded, task)
    W, every = loaded.params["weight_ho"], task.outputs_at == "every"
    dy = losses.dy.transpose(2, 3)  # (steps, runs, C, B)
    last = W.transpose(1, 2) @ dy[-1]
    growth = None
    if every:
        together.backward(last, keep=False)
        growth = read_gradients(together, lost=False)
    together.backward(last, Direct(W, dy) if every else None)
    gradients = read_gradients(together)
    growth = growth or gradients
    sums = parameter_gradients(together)
    param_grads = _with_readout(sums, losses)
    hold = states.hold & gradients.hold & growth.hold
    hold = hold[:n] & losses.loss.isfinite()
    for value in (*(each for part in param_grads for each in part.mantissa.values()), *cell.values()):
        hold &= value[:n].isfinite().flatten(1).all(dim=1)
    immediate = _immediate(W, dy, together.shape.T)
    return Evaluated(loaded, states, losses, gradients, growth, immediate, param_grads, hold.cpu().numpy())


def _losses(together: Together, loaded: Loaded, task: Task) -> Losses:
    """Loss, accuracy and dL/dy, as ``evaluation`` has them of one run."""
    W, b = loaded.params["weight_ho"], loaded.params["bias_ho"]
    n = len(W)
    h = together.h[1:, :n] if task.outputs_at == "every" else together.h[-1:, :n]
    target = loaded.target[loaded.which]
    target = target.transpose(0, 1) if task.outputs_at == "every" else target[None]
    y = (W @ h).transpose(2, 3) + b[:, None]  # (steps, runs, B, C)
    losses, dy = LOSSES[task.loss](y, target)
    count = losses.shape[0] * losses.shape[2]
    accuracy = torch.full((n,), math.nan, dtype=torch.float64, device=y.device)
    if task.loss == "softmax_cross_entropy":
        accuracy = (y.argmax(dim=-1) == target).sum(dim=(0, 2)).double() / count
    return Losses(losses.sum(dim=(0, 2)).double() / count, accuracy, dy / count, h)


def _with_readout(sums: ParameterGradients, losses: Losses) -> list[ParameterGradients]:
    """The gradients of the runs: of the cell's parameters, and of the readout's in plain floats."""
    n = losses.dy.shape[1]
    shares = [
        (dy.transpose(2, 3) @ h.transpose(2, 3)).sum(dim=0)
        for dy, h in zip(losses.dy.split(NEAR), losses.h.split(NEAR), strict=True)
    ]
    of_readout = {"weight_ho": torch.stack(shares).sum(dim=0), "bias_ho": losses.dy.sum(dim=(0, 2))}
    return [
        ParameterGradients({name: value[:n] for name, value in sums.mantissa.items()}, sums.exponent[:n]),
        ParameterGradients(of_readout, torch.zeros_like(sums.exponent[:n])),
    ]


def _immediate(W: Tensor, dy: Tensor, T: int) -> Tensor:
    """ln ‖W_ho^T dy_t‖ over batch and units; -inf where no loss sits."""
    gram = W.double() @ W.double().transpose(1, 2)  # ‖W^T d‖² = d^T (W W^T) d
    squares = [(d * (gram @ d)).sum(dim=(2, 3)) for d in (part.double() for part in dy.split(NEAR))]
    norms = torch.full((T, dy.shape[1]), -torch.inf, dtype=torch.float64, device=dy.device)
    norms[T - len(dy) :] = 0.5 * torch.cat(squares).log()
    return norms
