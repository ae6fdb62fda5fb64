"""Programs that compute the engine's results in another way, and the engine held against them.

Nothing here uses rnn_core's backward pass, its scaling or its comparator.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

import rnn_core as rc
from rnn_core.oracles.activations import ACTIVATIONS
from rnn_core.oracles.complex_step import complex_step_gradients
from rnn_core.oracles.tensors import step_of
from rnn_core.tape import segment_length
from tests.support.arrays import log_norm_error, relative, worst_relative
from tests.support.networks import Network


def torch_function(activation: str) -> Callable[[Tensor], Tensor]:
    """PyTorch's own function of that name, which cancels where units saturate; the oracles' form where it has none."""
    name = {"hard_tanh": "hardtanh"}.get(activation, activation)
    return getattr(functional, name, ACTIVATIONS[activation].tensor)


@dataclass(frozen=True)
class Program:
    """The results of another program.

    Attributes:
        totals: the total dL/dstate_t by name, (T, B, H).
        params, x, initial: the gradients of the parameters, of the inputs and of the initial state.
        states: the states by name, (T, B, H); none of a program that does not keep them.
    """

    totals: dict[str, np.ndarray]
    params: dict[str, np.ndarray]
    x: np.ndarray
    initial: dict[str, np.ndarray]
    states: dict[str, np.ndarray] = field(default_factory=dict)


def autograd_program(network: Network) -> Program:
    """A plain loop over torch tensors in float64, differentiated by torch.autograd in one go."""
    step = step_of(network.cell.name, network.cell.phi.name, network.options)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in network.params.items()}
    x = torch.tensor(network.x, requires_grad=True)
    start = {name: torch.tensor(value, requires_grad=True) for name, value in network.initial().items()}
    state, history = start, []
    for x_t in x.unbind(0):
        state = step(p, x_t, state)
        for value in state.values():
            value.retain_grad()
        history.append(state)
    loss = (torch.stack([s["hidden"] for s in history]) * torch.tensor(network.grad_hidden)).sum()
    for name, value in network.initial("grad_state").items():
        loss = loss + (state[name] * torch.tensor(value)).sum()
    loss.backward()

    def grad(tensor: Tensor) -> np.ndarray:
        return np.zeros(tuple(tensor.shape)) if tensor.grad is None else tensor.grad.numpy()

    return Program(
        {name: np.stack([grad(s[name]) for s in history]) for name in start},
        {name: grad(value) for name, value in p.items()},
        grad(x),
        {name: grad(value) for name, value in start.items()},
        {name: np.stack([s[name].detach().numpy() for s in history]) for name in start},
    )


def complex_step_program(network: Network) -> Program:
    """The forward equations on complex numbers."""
    derivatives = complex_step_gradients(
        network.cell.name, network.cell.phi.name, network.params, network.x, network.grad_hidden, network.state,
        network.grad_state, network.options,
    )  # fmt: skip
    return Program(dict(derivatives.parts), derivatives.params, derivatives.x, derivatives.state)


def states_before(tape: rc.Tape) -> np.ndarray:
    """h_0 … h_{T-1} of a tape that starts from zero, samples as columns, (T, H, B)."""
    hidden = np.asarray(tape.hidden).transpose(0, 2, 1)
    return np.concatenate([np.zeros_like(hidden[:1]), hidden[:-1]])


def plain_pass(tape: rc.Tape, grad_hidden: np.ndarray) -> Program:
    """The delta recursion with no exponent carried apart, as a textbook writes it (NumPy, vanilla cell), from h_0 = 0.

    Sums over time are taken in the engine's order: piece by piece, the last piece first.
    """
    assert isinstance(tape.cell, rc.VanillaCell)
    W, phi, h_prev = tape.params["weight_hh"], tape.cell.phi, states_before(tape)
    T, B, H = grad_hidden.shape
    dh_next, dh, da = np.zeros((H, B), dtype=grad_hidden.dtype), [], []
    for t in reversed(range(T)):
        dh_t = dh_next + grad_hidden[t].T
        da_t = phi.df(tape.saved[t]) * dh_t
        dh_next = W.T @ da_t
        dh.append(dh_t)
        da.append(da_t)
    da_all, x = np.stack(da[::-1]), tape.x.transpose(0, 2, 1)
    length = segment_length(T)
    pieces = [slice(start, start + length) for start in reversed(range(0, T, length))]

    def summed(factor: np.ndarray) -> np.ndarray:
        return functools.reduce(np.add, [np.tensordot(da_all[p], factor[p], axes=((0, 2), (0, 2))) for p in pieces])

    bias = functools.reduce(np.add, [np.sum(da_all[p], axis=(0, 2)) for p in pieces])
    return Program(
        {"hidden": np.stack(dh[::-1]).transpose(0, 2, 1)},
        {"weight_ih": summed(x), "weight_hh": summed(h_prev), "bias_ih": bias, "bias_hh": bias},
        (tape.params["weight_ih"].T @ da_all).transpose(0, 2, 1),
        {"hidden": dh_next.T},
        {"hidden": np.asarray(tape.hidden)},
    )


def errors_of(tape: rc.Tape, gradients: rc.Gradients, program: Program) -> dict[str, float]:
    """The relative error of every result of the engine, the worst time step's, with no absolute tolerance."""
    assert set(gradients.params) == set(program.params)
    assert set(tape.state) == set(gradients.state) == set(program.initial)
    assert (gradients.cell is None) == (gradients.log_norm_cell is None) == ("cell" not in program.totals)
    errors = {name: relative(gradients.params[name], value) for name, value in program.params.items()}
    errors["x"] = worst_relative(gradients.x, program.x)
    for name, states in program.states.items():
        errors[f"states {name}"] = worst_relative(tape.states(name), states)
        errors[f"final {name}"] = relative(tape.state[name], states[-1])
        if name == "hidden":
            errors["tape.hidden"] = worst_relative(tape.hidden, states)
    for name, total in program.totals.items():
        errors[f"dL/d{name}"] = worst_relative(gradients.parts[name], total)
        errors[f"log_norm {name}"] = log_norm_error(gradients.log_norms[name], total)
        errors[f"initial {name}"] = relative(gradients.state[name], program.initial[name])
    return errors


def assert_agrees(tape: rc.Tape, gradients: rc.Gradients, program: Program, limit: float) -> None:
    """Every result of the engine within ``limit`` of the program's."""
    errors = errors_of(tape, gradients, program)
    assert max(errors.values()) <= limit, errors
