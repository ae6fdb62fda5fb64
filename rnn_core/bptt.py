"""Backpropagation through time: the only time loop. Derivation: rnn_core/README.md, sections 1 to 3.

Public arrays are time first, batch second: x (T, B, D), hidden (T, B, H). Inside, a column is a sample: (T, H, B).
The backward pass carries its exponent apart (scaling.py), so it is exact at any growth and any length, and bit for bit the
plain pass wherever that one stays in range (but for entries more than 2**540 below the largest of their step).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.cells.base import Cell
from rnn_core.choices import unknown
from rnn_core.scaling import (
    LN2,
    Scaled,
    add,
    align,
    log_norms,
    plain_if_fits,
    renormalise,
    square_limits,
    times_power_of_two,
)


@dataclass(frozen=True)
class Tape:
    """What a forward pass leaves for the backward pass.

    Attributes:
        columns: h_t with samples as columns, (T+1, H, B); index 0 is the initial hidden state.
        saved: one entry a step, as the cell's forward returned it.
        state: the final state by name, each (B, H).
    """

    cell: Cell
    params: Params
    x: Array
    columns: Array
    saved: list[Any] = field(repr=False)
    state: State = field(repr=False)

    @property
    def hidden(self) -> Array:
        """h_1 … h_T, (T, B, H)."""
        return _swap(self.columns[1:])


@dataclass(frozen=True)
class Gradients:
    """Gradients of L, summed over the batch. Plain floats where they fit, ``Scaled`` where they do not.

    Attributes:
        params: dL/d(parameter), by name, shaped as the parameters.
        x: dL/dx, (T, B, D).
        state: dL/d(initial state), by name, each (B, H).
        hidden: total dL/dh_t (direct loss and future steps), (T, B, H).
        log_norm: ln ‖dL/dh_t‖ over the batch and units, float64 (T,), exact beyond float range; -inf where it is zero.
        log_norm_immediate: the same for the direct part alone, as it was given in ``grad_hidden``.
    """

    params: dict[str, Array | Scaled]
    x: Array | Scaled
    state: dict[str, Array | Scaled]
    hidden: Array | Scaled
    log_norm: np.ndarray
    log_norm_immediate: np.ndarray


def forward(cell: Cell, params: Params, x: Array, state: State | None = None) -> Tape:
    """Run ``cell`` over x (T, B, D) from ``state`` ({"hidden": (B, H), …}; None is zeros).

    Raises:
        ValueError: a shape does not fit, naming the argument, its shape and the shape expected.
    """
    _check_inputs(cell, params, x, state)
    xp = namespace(x)
    T, B, _ = x.shape
    H = params["weight_hh"].shape[1]
    u = params["weight_ih"] @ _swap(x) + params["bias_ih"][:, None]  # u_t = W_ih x_t + b_ih for all t, (T, G·H, B)
    if state is None:
        now = {name: xp.zeros((H, B), dtype=x.dtype, device=x.device) for name in cell.state_names}
    else:
        now = {name: state[name].T for name in cell.state_names}

    columns, saved = [now["hidden"]], []
    for t in range(T):
        now, kept = cell.forward(params, u[t], now)
        columns.append(now["hidden"])
        saved.append(kept)
    return Tape(cell, params, x, xp.stack(columns), saved, {name: value.T for name, value in now.items()})


def backward(tape: Tape, grad_hidden: Array, grad_state: State | None = None) -> Gradients:
    """Gradients of L from the immediate dL/dh_t.

    Args:
        tape: from ``forward``.
        grad_hidden: the direct part of dL/dh_t, (T, B, H), without what flows back from later steps.
        grad_state: dL/d(final state) by name, each (B, H), added to the last step; None is zeros.

    Raises:
        ValueError: a shape does not fit, naming the argument, its shape and the shape expected.
    """
    _check_grad_hidden(tape, grad_hidden, grad_state)
    cell, params, xp = tape.cell, tape.params, namespace(tape.x)
    T, B, H = grad_hidden.shape
    immediate = _swap(grad_hidden)  # (T, H, B)
    reaches_loss = [bool(nonzero) for nonzero in xp.any(immediate != 0, axis=(1, 2))]  # nan != 0, so nan is kept
    dstate = {name: xp.zeros((H, B), dtype=tape.x.dtype, device=tape.x.device) for name in cell.state_names}
    dstate |= {name: value.T for name, value in (grad_state or {}).items()}

    # The value of every array of step t is what is stored times 2**exponent[t].
    exponent, e = np.zeros(T, dtype=np.int64), 0
    squared_norm = np.zeros(T)
    lowest, highest = square_limits(tape.x)
    dh, du, dv = [None] * T, [None] * T, [None] * T
    with np.errstate(over="ignore"):  # a squared norm may overflow, and is then taken again
        for t in reversed(range(T)):
            if reaches_loss[t]:  # dL/dh_t = direct part + what the future sent
                dstate, e = _add_immediate(dstate, e, immediate[t])
            flat = dstate["hidden"].reshape(-1)
            squared_norm[t] = float(flat @ flat)
            if not lowest <= squared_norm[t] <= highest:
                dstate, e = renormalise(dstate, e)
                flat = dstate["hidden"].reshape(-1)
                squared_norm[t] = float(flat @ flat)
            dh[t], exponent[t] = dstate["hidden"], e
            du[t], dv[t], dstate = cell.backward(params, tape.saved[t], dstate)

    with np.errstate(divide="ignore"):
        log_norm = 0.5 * np.log(squared_norm) + exponent * LN2
    grads, dx = _parameter_gradients(tape, xp.stack(du), xp.stack(dv), exponent)
    return Gradients(
        params=grads,
        x=dx,
        state={name: plain_if_fits(value.T, e) for name, value in dstate.items()},
        hidden=plain_if_fits(_swap(xp.stack(dh)), exponent),
        log_norm=log_norm,
        log_norm_immediate=log_norms(immediate),
    )


def _add_immediate(dstate: State, e: int, grad: Array) -> tuple[State, int]:
    """The direct part joins dL/dh_t; the other parts of the state follow to the common exponent."""
    total, common = add(dstate["hidden"], e, grad)
    others = {name: times_power_of_two(part, e - common) for name, part in dstate.items() if name != "hidden"}
    return {"hidden": total, **others}, common


def _parameter_gradients(
    tape: Tape, du: Array, dv: Array, exponent: np.ndarray
) -> tuple[dict[str, Array | Scaled], Array | Scaled]:
    """Sums over t of dv_t h_{t-1}^T, du_t x_t^T, dv_t, du_t; and dL/dx_t = W_ih^T du_t. du, dv are (T, G·H, B)."""
    h_prev, x = tape.columns[:-1], _swap(tape.x)
    return {
        "weight_ih": _sum_over_time(du, exponent, x),
        "weight_hh": _sum_over_time(dv, exponent, h_prev),
        "bias_ih": _sum_over_time(du, exponent),
        "bias_hh": _sum_over_time(dv, exponent),
    }, plain_if_fits(_swap(tape.params["weight_ih"].T @ du), exponent)


def _sum_over_time(d: Array, exponent: np.ndarray, factor: Array | None = None) -> Array | Scaled:
    """Σ_t d_t factor_t^T (rows, columns), or Σ_t d_t 1 (rows,), over time and batch."""
    xp = namespace(d)
    d, factor, common = align(d, exponent, factor)
    total = xp.sum(d, axis=(0, 2)) if factor is None else xp.tensordot(d, factor, axes=((0, 2), (0, 2)))
    return plain_if_fits(total, common)


def _swap(x: Array) -> Array:
    """(T, B, rows) <-> (T, rows, B), a view."""
    return namespace(x).matrix_transpose(x)


def _check_inputs(cell: Cell, params: Params, x: Array, state: State | None) -> None:
    if x.ndim != 3 or x.shape[0] < 1 or x.shape[1] < 1:
        raise ValueError(f"x: shape {tuple(x.shape)} is not allowed; it must be (T, B, D) with T >= 1 and B >= 1")
    rows, D = params["weight_ih"].shape
    H = rows // cell.gates
    expected = {"weight_hh": (rows, H), "bias_ih": (rows,), "bias_hh": (rows,)}
    for name, shape in expected.items():
        _check_shape(name, params[name], shape)
    _check_shape("x", x, (x.shape[0], x.shape[1], D))
    _check_state("state", cell, state, (x.shape[1], H))


def _check_grad_hidden(tape: Tape, grad_hidden: Array, grad_state: State | None) -> None:
    _check_shape("grad_hidden", grad_hidden, tuple(tape.hidden.shape))
    _check_state("grad_state", tape.cell, grad_state, tuple(tape.hidden.shape[1:]), whole=False)


def _check_state(argument: str, cell: Cell, state: State | None, shape: tuple[int, ...], whole: bool = True) -> None:
    if state is None:
        return
    for name in state:
        if name not in cell.state_names:
            raise ValueError(unknown(argument, name, cell.state_names))
        _check_shape(f"{argument}[{name!r}]", state[name], shape)
    missing = set(cell.state_names) - set(state)
    if whole and missing:
        raise ValueError(f"{argument}: {', '.join(sorted(missing))} is missing; a {cell.name} cell needs all parts")


def _check_shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if tuple(array.shape) != shape:
        raise ValueError(f"{name}: shape {tuple(array.shape)} does not fit; expected {shape}")
