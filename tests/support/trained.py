"""What training follows: the derivative of the loss, and the steps of a plain torch program."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rnn_core as rc
from rnn_core.oracles.central_differences import best_step, central_difference
from rnn_core.oracles.compare import relative_error

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda params, rate: torch.optim.SGD(params, rate),
    "momentum": lambda params, rate: torch.optim.SGD(params, rate, momentum=0.9),
    "adam": lambda params, rate: torch.optim.Adam(params, rate),
}


def assert_derivative_of_the_loss(problem: rc.Problem) -> None:
    """Every gradient that training follows is the central difference of the loss, to 1e-7."""
    x, target = problem.batch(0)
    gradients = rc.evaluate(problem, problem.params, x, target).param_grads
    for name, value in problem.params.items():

        def loss(at: np.ndarray, name: str = name) -> float:
            return rc.evaluate(problem, {**problem.params, name: at}, x, target).loss

        found = central_difference(loss, value, best_step("float64"))
        assert relative_error(found, gradients[name]) < 1e-7, name


def assert_trains_as(
    experiment: rc.Experiment, params: Sequence[torch.nn.Parameter], loss_of: Callable[[Any, Any], Tensor]
) -> None:
    """A run has the losses and norms of torch's ``params`` that go down ``loss_of`` (x, target) of the same batches."""
    problem, clipping = rc.prepare(experiment), experiment.clipping
    optimiser, losses, norms = OPTIMIZERS[experiment.optimizer](params, experiment.learning_rate), [], []
    for update in range(experiment.updates):
        loss = loss_of(*problem.batch(update))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        losses.append(float(loss.detach()))
        norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in params if p.grad is not None)))
        rule, _, threshold = clipping.partition(":")
        if rule == "norm":
            for p in params:  # torch's own divides by the norm plus 1e-6
                p.grad = p.grad if p.grad is None else p.grad * min(1.0, float(threshold) / norms[-1])
        elif rule == "value":
            torch.nn.utils.clip_grad_value_(list(params), float(threshold))
        optimiser.step()
    result = rc.run(experiment)
    np.testing.assert_allclose(result["loss"], losses, rtol=1e-10)
    np.testing.assert_allclose(result["log10_norm_before"], np.log10(norms), rtol=0, atol=1e-9)
    assert clipping == "none" or (result["clip_factor"] < 1.0).any()
