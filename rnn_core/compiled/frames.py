"""Orthonormal columns back through the compiled steps of one sample (frames.h)."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from rnn_core import compiled
from rnn_core.arrays import Params, State
from rnn_core.cells.base import Cell
from rnn_core.compiled import _Arrays, _call
from rnn_core.compiled.kept import KeptSteps
from rnn_core.compiled.memory import address


class _Frame(ctypes.Structure):
    """``struct frame`` of frames.h."""

    _fields_ = [*((name, ctypes.c_void_p) for name in ("dh", "dc", "diagonal")), ("steep", ctypes.c_double)]


def covers(cell: Cell, params: Params, saved: Any) -> bool:
    """Whether ``carry_back`` knows this cell, and what was saved of its steps; all in float64."""
    return isinstance(saved, KeptSteps | np.ndarray) and compiled.covers(cell, params["weight_ih"])


def carry_back(
    cell: Cell, params: Params, kept: np.ndarray, states: State, parts: State, steep: float
) -> tuple[State, np.ndarray]:
    """(frame, diagonal of R (done, k)): a frame back through the last ``done`` steps, the last first.

    It stops before a step that is too steep: the smallest entry of its diagonal is below ``steep`` times the largest; or that is not
    finite.

    Args:
        kept: (steps, rows, 1), what compiled steps keep of one sample.
        states: of that sample, each (steps + 1, H, 1).
        parts: the frame's rows for every part of the state, each (H, k).
    """
    steps, k = len(kept), parts["hidden"].shape[1]
    sent = {name: np.array(part, order="C") for name, part in parts.items()}
    diagonal = np.empty((steps, k))
    # Inputs change no Jacobian: the steps are taken as if there were none.
    without = {**params, "weight_ih": params["weight_ih"][:, :0]}
    arrays = _Arrays(cell, without, np.empty((steps, k, 0)), states, np.zeros(0, np.int64), kept)
    frame = _Frame(address(sent["hidden"]), address(sent.get("cell")), address(diagonal), steep)
    return sent, diagonal[: _call("rnn_frame", diagonal.dtype, arrays.passed, frame)]
