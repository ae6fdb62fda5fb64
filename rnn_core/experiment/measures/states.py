"""What the forward pass alone decides: the size of the states, their saturation, and the slopes of the activation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_core import ragged
from rnn_core.arrays import Array, like, namespace, to_numpy
from rnn_core.cells import Cell
from rnn_core.compiled.kept import KeptSteps
from rnn_core.scaling import LN2, log_norms, log_norms_of_columns
from rnn_core.tape import Segment, Tape, pieces
from rnn_core.theory import Slopes

SATURATED_BELOW = 0.1  # a unit is saturated where |phi'(a)| is below this fraction of sup |phi'|


@dataclass(frozen=True)
class StateMeasures:
    """What the states of a batch say.

    Attributes:
        hidden_rms: root mean square of h_t over batch and units, float64 (T,).
        saturation: fraction of saturated units, float64 (T,).
        slope_sums: sums over the batch of phi'/gamma and of its square, float64 (2, T, H). Beside the tape they are as large
            as 1/B. None where nobody asks for them, and where the tape is not kept whole.
        windows: for ragged sequences, the settled window of each (``ragged.live_states``). Otherwise None.
    """

    hidden_rms: np.ndarray
    saturation: np.ndarray
    slope_sums: np.ndarray | None
    windows: list[slice] | None = None

    def first(self, T: int) -> StateMeasures:
        """What the first T states say."""
        sums = None if self.slope_sums is None else self.slope_sums[:, :T]
        return StateMeasures(self.hidden_rms[:T], self.saturation[:T], sums)


def measure_states(cell: Cell, tape: Tape, ends: np.ndarray | None = None, slopes: bool = False) -> StateMeasures:
    """Read the tape once.

    Args:
        ends: of ragged sequences, see ``Evaluation``.
        slopes: whether to sum the slopes, of a cell that has one for each unit.
    """
    if ends is not None:
        return _measure_ragged_states(cell, tape, ends)
    rms, saturation, sums = [], [], []
    wanted = slopes and tape.kept is not None and has_slopes(cell)
    main = tape.cell.measured[-1]
    for segment in tape.segments():
        states, exponent = segment.states[main][1:], segment.exponent[1:]
        rms.append(np.exp(log_norms(states) + exponent * LN2) / math.sqrt(math.prod(states.shape[1:])))
        if cell.opaque:  # nobody knows what saturates in it
            saturation.append(np.full(len(states), math.nan))
        for slope in _slopes(cell, segment):
            xp = namespace(slope)
            saturated = xp.count_nonzero(xp.abs(slope) < SATURATED_BELOW, axis=(1, 2))
            saturation.append(to_numpy(saturated) / math.prod(slope.shape[1:]))
            if wanted:
                sums.append(_sums_of_slopes(slope))
    slope_sums = np.concatenate(sums, axis=1) if wanted else None
    return StateMeasures(np.concatenate(rms), np.concatenate(saturation), slope_sums)


def _measure_ragged_states(cell: Cell, tape: Tape, ends: np.ndarray) -> StateMeasures:
    """The same over the sequences that have not ended, with the window of every sequence."""
    log_rms, saturation = [], []
    main = tape.cell.measured[-1]
    for segment in tape.segments():
        states, exponent = segment.states[main][1:], segment.exponent[1:]
        if cell.opaque:
            saturation.append(np.full((len(states), states.shape[2]), math.nan))
        log_rms.append(log_norms_of_columns(states) + exponent[:, None] * LN2 - 0.5 * math.log(states.shape[1]))
        for slope in _slopes(cell, segment):
            xp = namespace(slope)
            saturation.append(to_numpy(xp.count_nonzero(xp.abs(slope) < SATURATED_BELOW, axis=1)) / slope.shape[1])
    live = ragged.live_states(np.concatenate(log_rms), np.concatenate(saturation), ends)
    return StateMeasures(live.hidden_rms, live.saturation, None, live.windows)


def has_slopes(cell: Cell) -> bool:
    """Whether the operating point needs the cell's slopes.

    Those of the identity are all 1. A gated cell has no such point.
    """
    return not cell.opaque and cell.phi.name != "identity" and cell.jacobian(np.ones((1, 1))) is not None


def settled_slopes(cell: Cell, tape: Tape, states: StateMeasures, window: slice) -> Slopes:
    """The slopes of every unit inside the window, or for ragged sequences inside the window of each.

    They come from the sums of ``states``. Where the tape is not kept whole they take another pass, segment by segment, so
    that both have the same bits.
    """
    if states.windows is not None:
        return _ragged_slopes(cell, tape, states.windows)
    total: Any = 0.0
    for segment in tape.segments():
        start, stop = max(window.start, segment.start), min(window.stop, segment.stop)
        if start >= stop:
            continue
        if states.slope_sums is not None:
            inside = states.slope_sums[:, start:stop]
        else:
            per_step = np.concatenate([_sums_of_slopes(slope) for slope in _slopes(cell, segment)], axis=1)
            inside = per_step[:, start - segment.start : stop - segment.start]
        total = total + inside.sum(axis=1)
    mean, square = total / ((window.stop - window.start) * tape.x.shape[1])
    return Slopes(cell.phi.gamma * mean, cell.phi.gamma**2 * square)


def _ragged_slopes(cell: Cell, tape: Tape, windows: list[slice]) -> Slopes:
    """The slopes inside the window of every sequence."""
    counted, total = ragged.inside(windows, tape.x.shape[0]), np.zeros((2, tape.state["hidden"].shape[1]))
    for segment in tape.segments():
        start = segment.start
        for slope in _slopes(cell, segment):
            xp = namespace(slope)
            weight = like(counted[start : start + len(slope), None, :], slope)
            total += [to_numpy(xp.sum(weight * power, axis=(0, 2))).astype(np.float64) for power in (slope, slope**2)]
            start += len(slope)
    mean, square = total / counted.sum()
    return Slopes(cell.phi.gamma * mean, cell.phi.gamma**2 * square)


def _slopes(cell: Cell, segment: Segment) -> Iterator[Array]:
    """The slopes over their supremum, (steps, rows, B), of one group of steps after the other; none of a user's own cell."""
    if cell.opaque:
        return
    for piece in pieces(len(segment.saved), math.prod(segment.states["hidden"].shape[1:])):
        saved = segment.saved[piece]
        if isinstance(saved, np.ndarray):  # the fast path keeps a_t in one array
            yield cell.slope(saved)
        elif isinstance(saved, KeptSteps):
            yield cell.slope(saved.together())
        else:
            yield namespace(segment.states["hidden"]).stack([cell.slope(kept) for kept in saved])


def _sums_of_slopes(slope: Array) -> np.ndarray:
    """Sums over the batch of the slopes and of their squares, (steps, H, B) to float64 (2, steps, H)."""
    xp = namespace(slope)
    ones = xp.ones_like(slope[0, 0])  # of rows this short, products are taken three times as fast as sums
    return np.stack([to_numpy(xp.vecdot(slope, factor)) for factor in (ones, slope)]).astype(np.float64)
