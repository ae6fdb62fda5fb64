"""A cell at rest: one step from a zero state with zero inputs, and its derivative."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rnn_core.arrays import Array, Params, State

if TYPE_CHECKING:
    from rnn_core.cells.base import Cell


def jacobian(cell: Cell, params: Params) -> np.ndarray | None:
    """``Cell.rest_jacobian`` of the step as it stands: backward with the unit vectors as gradients gives the transposed matrix."""
    H = hidden_size(cell, params)
    params = {**cell.own_start(H), **params}
    after, saved = step(cell, params, H, 1)
    if any(np.any(part != 0.0) for part in after.values()):
        return None
    if any(np.isin(a, phi.kinks).any() for phi, a in cell.nonlinearities(saved)):
        return None
    if len(cell.gates) == 1 and cell.has_matrix:
        [(phi, a)] = cell.nonlinearities(saved)
        known = cell.jacobian(cell.recurrent_matrix(params["weight_hh"]), phi.df(a)[:, 0])
        if known is not None:
            return known
    S = H * len(cell.state_names)
    _, saved = step(cell, params, H, S)
    unit = np.split(np.eye(S), len(cell.state_names))
    gradients = cell.total(saved, dict(zip(cell.state_names, unit, strict=True)))
    before = cell.backward(params, saved, gradients)[2]
    return np.asarray(np.concatenate([before[name] for name in cell.state_names]).T)


def step(cell: Cell, params: Params, H: int, columns: int) -> tuple[State, Any]:
    """One step from a zero state with zero inputs, in so many equal columns."""
    u = np.zeros((len(cell.gates) * H, columns)) + params.get("bias_ih", np.zeros(1))[:, None]
    return cell.forward(params, u, {name: np.zeros((H, columns)) for name in cell.state_names})


def hidden_size(cell: Cell, params: Params) -> int:
    """H, from a checked ``weight_hh`` and biases."""
    gates = len(cell.gates)
    letters = "H" if gates == 1 else f"{gates}H"
    if not cell.has_matrix:
        H = _units_without_matrix(cell, params)
    else:
        if "weight_hh" not in params:
            raise ValueError(f"params: weight_hh is missing; the cell {cell.name!r} needs it")
        shape = tuple(params["weight_hh"].shape)
        H = cell.units_of(shape) if shape else 0
        if H < 1 or shape != cell.recurrent_shape(H):
            raise ValueError(
                f"weight_hh: shape {shape} does not fit; the cell {cell.name!r} has {cell.recurrent_letters}"
            )
    for name in ("bias_ih", "bias_hh"):
        if name in params and params[name].shape != (gates * H,):
            raise ValueError(
                f"{name}: shape {tuple(params[name].shape)} does not fit; expected ({gates * H},), which is ({letters},)"
            )
    return H


def _units_without_matrix(cell: Cell, params: Params) -> int:
    """H, from the rows of the first parameter that is given."""
    for name in ("weight_ih", "bias_ih", "bias_hh"):
        if name in params:
            H = units_of_rows(cell, params[name])
            if H < 1 or H * len(cell.gates) != params[name].shape[0]:
                raise ValueError(
                    f"{name}: {params[name].shape[0]} rows do not fit; the cell {cell.name!r} has {len(cell.gates)} blocks of H rows"
                )
            return H
    raise ValueError(f"params: weight_ih is missing; the cell {cell.name!r} needs it, or a bias, to know its units")


def units_of_rows(cell: Cell, rows: Array) -> int:
    """H, from a parameter that has a row for every unit of every gate."""
    return int(rows.shape[0]) // len(cell.gates)
