"""Oracle: the fused kernels behind PyTorch's own modules, ``torch.nn.RNN`` (tanh, relu), ``torch.nn.GRU`` and ``torch.nn.LSTM``.

As in ``autograd.py`` each step is judged by itself, from the engine's own states and totals.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rnn_core import Tape
from rnn_core.arrays import Array, like, namespace
from rnn_core.bptt import backward
from rnn_core.bptt import run_forward as forward
from rnn_core.experiment import Problem
from rnn_core.oracles import directions
from rnn_core.oracles.autograd import place_of, states_of, step_of
from rnn_core.oracles.compare import Abstains, Error, worst
from rnn_core.oracles.problems import params_of, recurrences
from rnn_core.oracles.steps import Step, recurrent_errors
from rnn_core.oracles.tensors import as_tensor, as_tensors
from rnn_core.scaling import plain

# (cell, activation) -> (module, kernel)
KERNELS: dict[tuple[str, str], tuple[str, Callable[..., Any]]] = {
    ("vanilla", "tanh"): ("torch.nn.RNN", torch.rnn_tanh),
    ("vanilla", "relu"): ("torch.nn.RNN", torch.rnn_relu),
    ("gru", "tanh"): ("torch.nn.GRU", torch.gru),
    ("lstm", "tanh"): ("torch.nn.LSTM", torch.lstm),
}
_ORDER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def module_of(problem: Problem) -> str | None:
    """PyTorch's module for this cell and activation; None where it has none."""
    module, _ = KERNELS.get((problem.experiment.cell, problem.experiment.activation), (None, None))
    return module


def check(problem: Problem, x: Array, grad_hidden: Array, tolerance: float = 1e-10) -> Error:
    """The worst relative error of states, dL/dh_t and dL/dx_t at every t, the initial state, and parameter gradients.

    Raises:
        Abstains: a state of the engine is not finite; or a unit is saturated, so that the kernel's own derivative, 1 - h² of
            tanh and s (1 - s) of sigmoid, has a relative error near ``tolerance``.
    """
    errors, inputs, given, states = [], x, grad_hidden, []
    for layer, direction in recurrences(problem):
        own = params_of(problem, problem.params, layer, direction)
        tape = forward(problem.cell, own, like(directions.turned(inputs, direction), x))
        error = _check_layer(problem, tape, given, tolerance)
        errors.append(Error(error.relative, error.where + place_of(problem, layer, direction)))
        states.append(as_tensor(plain(tape.hidden)))
        if direction == problem.directions - 1:
            inputs, given, states = like(directions.given_by(states), x), tape.hidden, []
    return worst(errors)


def _check_layer(problem: Problem, tape: Tape, grad_hidden: Array, tolerance: float) -> Error:
    """The same of one layer, from its tape and the direct part of dL/dh_t."""
    _, kernel = KERNELS[problem.experiment.cell, problem.experiment.activation]

    def step(p: dict[str, Tensor], x_t: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        initial = [part[None] for part in state.values()]
        weights = [p[name] for name in _ORDER if name in p]
        given = initial if len(initial) > 1 else initial[0]
        # As in training: cuDNN goes backward in no other mode, and without dropout the mode changes no number.
        _, *after = kernel(x_t[None], given, weights, len(weights) == 4, 1, 0.0, True, False, False)
        return {name: part[0] for name, part in zip(state, after, strict=True)}

    x = tape.x
    gradients = backward(tape, grad_hidden)
    states = states_of(tape)
    if not all(part.isfinite().all() for part in states.values()):
        raise Abstains("a state is not finite in plain floats")
    if problem.experiment.activation == "tanh":
        xp, eps = namespace(x), torch.finfo(states["hidden"].dtype).eps
        nonlinearities = [pair for saved in tape.saved for pair in tape.cell.nonlinearities(saved)]
        flattest = min(float(xp.min(phi.df(a) / phi.gamma)) for phi, a in nonlinearities)  # 1 - h², and 4 s (1 - s)
        if flattest * tolerance < 8 * eps:
            raise Abstains("a unit is so saturated that the kernel's own 1 − h² has too few digits")
    p, direct = as_tensors(tape.params), as_tensor(grad_hidden)
    of_ours = Step(step_of(problem), p, as_tensor(x), direct, kernel=step)
    with warnings.catch_warnings():  # cuDNN would have the weights side by side: a matter of speed, not of numbers
        warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")
        return worst(recurrent_errors(gradients, states, of_ours))
