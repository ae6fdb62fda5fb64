"""How a cell's recurrent parameter is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rnn_core.arrays import Params
from rnn_core.initializers import drawn, recurrent_matrix
from rnn_core.scalars import is_integer

if TYPE_CHECKING:
    from rnn_core.cells.base import Cell

NO_MATRIX = "it has no W_hh: nothing multiplies the state before but its gate"


def recurrent(
    cell: Cell,
    rng: np.random.Generator,
    hidden_size: int,
    initializer: str,
    spectral_radius: float | None,
    weight_scale: float | None,
) -> Params:
    """``weight_hh`` such that the W_hh of every gate has the given spectral radius, measured, or the given scale; nothing without W_hh."""
    if not cell.has_matrix:
        _check_nothing_is_asked(cell, hidden_size, initializer, spectral_radius, weight_scale)
        return {}
    if cell.draws is None:
        scale = {"rho": spectral_radius, "sigma_w": weight_scale}
        blocks = [recurrent_matrix(rng, hidden_size, initializer, **scale) for _ in cell.gates]
        return {"weight_hh": np.concatenate(blocks)}
    if weight_scale is not None:
        raise ValueError(
            f"weight_scale: {weight_scale!r} is not allowed with cell {cell.name!r}, whose W_hh has a form of its own"
        )
    return {"weight_hh": drawn(rng, hidden_size, initializer, spectral_radius, cell.draws, cell.recurrent_matrix)}


def _check_nothing_is_asked(
    cell: Cell, hidden_size: int, initializer: str, spectral_radius: float | None, weight_scale: float | None
) -> None:
    """ValueError where something is asked of a W_hh that the cell does not have; the defaults ask for nothing."""
    if not (is_integer(hidden_size) and hidden_size >= 1):
        raise ValueError(f"hidden_size: {hidden_size!r} is not allowed; it must be an integer of at least 1")
    for name, value, nothing in (
        ("initializer", initializer, ("gaussian", None)),
        ("spectral_radius", spectral_radius, (1.0, None)),
        ("weight_scale", weight_scale, (None,)),
    ):
        if value not in nothing:
            raise ValueError(f"{name}: {value!r} is not allowed with cell {cell.name!r}; {NO_MATRIX}")
