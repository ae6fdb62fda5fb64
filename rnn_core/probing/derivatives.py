"""The derivatives of a module's own steps against central differences of those steps."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from rnn_core.arrays import Array, Params, dtype_name, namespace, torch_for
from rnn_core.bptt import run_forward
from rnn_core.cells.own import TorchCell
from rnn_core.oracles.compare import Error
from rnn_core.tape import Tape

# The largest relative error of a right derivative: what central differences do not reach near a kink, and no real mistake stays below.
SOUND = 1e-5
BY_HAND = "; written by hand: "  # what of a wrong step was
STEPS = 64  # that are looked at, evenly spread: a fault at a single one of many may be missed


def check_derivatives(model: Any, x: Array, state: Any = None, steps: int | None = STEPS, seed: int = 0) -> Error:
    """The worst difference between autograd's derivatives of a module's steps and central differences of those steps.

    A backward pass that was written by hand (``torch.autograd.Function``) may be wrong, and all of autograd trusts it. Each step is
    judged by itself, in float64, from the state that the sequence reaches there. Below 1e-5 all is well. A plain function is judged
    in the floats of x, for nobody can turn what it holds into others. In float32 a small fault passes, so give it x in float64.

    Args:
        model: a ``TorchCell``, or a torch module or function (x_t, state) -> state.
        x: (T, B, D).
        state: to start from, as ``forward`` takes it.
        steps: how many of the T steps, evenly spread, the first and the last among them; None is all.
        seed: of the random directions.

    Returns:
        ``Error(relative, where)``, whose words name the step, what is wrong there, both numbers, and what was written by hand.

    Raises:
        ValueError: the module has no step, as ``forward`` says.
    """
    torch = torch_for("check_derivatives")
    from rnn_core.oracles.step_differences import functions_by_hand, worst_of_steps

    cell, x = in_float64(model if isinstance(model, TorchCell) else TorchCell(model), torch.as_tensor(x).detach())
    tape = run_forward(cell, cell.params(), x, _in_dtype_of(x, state))
    bound: Any = tape.cell
    T = tape.first_nonfinite_step or len(x)
    chosen = spread_steps(T, T if steps is None else steps)
    before = states_before(tape, chosen)
    error = worst_of_steps(
        bound.step, tape.params, tape.x[chosen], before, bound.any_batch, seed, bound.trainable, [int(t) for t in chosen]
    )  # fmt: skip
    if error.relative <= SOUND:
        return error
    first = {name: part[0] for name, part in before.items()}
    by_hand = functions_by_hand(bound.step, tape.params, tape.x[int(chosen[0])], first)
    return Error(error.relative, error.where + (BY_HAND + ", ".join(by_hand)) * bool(by_hand))


def spread_steps(T: int, most: int) -> np.ndarray:
    """At most so many indices t - 1 of T steps, evenly spread, the first and the last among them."""
    return np.unique(np.linspace(0, T - 1, min(T, most)).round().astype(int))


def _in_dtype_of(x: Array, state: Any) -> Any:
    """A state, as ``forward`` takes it, in the dtype and on the device of x."""
    if state is None:
        return None
    if hasattr(state, "dtype"):
        return state.to(device=x.device, dtype=x.dtype.to_complex() if state.is_complex() else x.dtype)
    if isinstance(state, dict):
        return {name: _in_dtype_of(x, part) for name, part in state.items()}
    values = [_in_dtype_of(x, part) for part in state]
    return type(state)(*values) if hasattr(state, "_fields") else type(state)(values)


def in_float64(cell: TorchCell, x: Array) -> tuple[TorchCell, Array]:
    """A copy of the cell that computes in float64, and x; as they are where neither a module nor a method of one can be copied."""
    import torch

    from rnn_core.cells.own.step import in_floats

    model = cell.module
    owner = model if isinstance(model, torch.nn.Module) else getattr(model, "__self__", None)
    if dtype_name(x) == "float64" or not isinstance(owner, torch.nn.Module) or cell.parameters_of not in (None, owner):
        return cell, x
    wide_owner = in_floats(copy.deepcopy(owner), torch.float64)
    wide = TorchCell(
        wide_owner if model is owner else model.__func__.__get__(wide_owner), cell.given_names, cell.given_hidden
    )
    wide.name = cell.name
    return wide, x.double()


def states_before(tape: Tape, chosen: np.ndarray) -> Params:
    """The state before each of the ``chosen`` steps by name, (steps, B, …)."""
    states: dict[str, list[Array]] = {name: [] for name in tape.cell.state_names}
    for segment in tape.segments():
        own = [int(t) - segment.start for t in chosen if segment.start <= t < segment.stop]
        for name in states if own else ():
            states[name].append(segment.states[name][own])
    xp = namespace(tape.x)
    return {name: tape.shaped(name, xp.matrix_transpose(xp.concat(parts))) for name, parts in states.items()}
