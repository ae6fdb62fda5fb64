"""Oracle: PyTorch's own fused modules with the same parameters: ``torch.nn.RNN`` for a vanilla cell with tanh or relu."""

from __future__ import annotations

import torch

from rnn_core.arrays import Array, to_numpy
from rnn_core.bptt import backward, forward
from rnn_core.experiment import Problem
from rnn_core.oracles.compare import Error, relative_error, worst, worst_step

MODULE_ACTIVATIONS = ("tanh", "relu")


def covers(problem: Problem) -> bool:
    """Whether PyTorch has a module for this cell and activation."""
    return problem.experiment.cell == "vanilla" and problem.experiment.activation in MODULE_ACTIVATIONS


def check(problem: Problem, x: Array, grad_hidden: Array) -> Error:
    """The worst relative error of states, dL/dx at every t, and parameter gradients, for an x (T, B, D) short enough that
    plain floats hold them and rounding errors do not grow."""
    xt = torch.as_tensor(x).detach().clone().requires_grad_()
    H = problem.experiment.hidden_size
    module = torch.nn.RNN(x.shape[2], H, nonlinearity=problem.experiment.activation, dtype=xt.dtype, device=xt.device)
    cell_params = {name: value for name, value in problem.params.items() if not name.endswith("_ho")}
    with torch.no_grad():
        for name, value in cell_params.items():
            getattr(module, f"{name}_l0").copy_(torch.as_tensor(value))
    hidden, _ = module(xt)
    hidden.backward(torch.as_tensor(grad_hidden))

    tape = forward(problem.cell, cell_params, x)
    grads = backward(tape, grad_hidden)
    errors = [worst_step("state", tape.hidden, hidden), worst_step("x", grads.x, xt.grad)]
    errors += [Error(relative_error(g, to_numpy(getattr(module, f"{n}_l0").grad)), n) for n, g in grads.params.items()]
    return worst(errors)
