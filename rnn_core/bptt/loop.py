"""The textbook loop: backpropagation through time in plain floats. Derivation: rnn_core/README.md, section 2.

Inside, a column is a sample: h_t and dh_t are (H, B), du_t and dv_t (G·H, B). A d in front is a derivative of the loss L.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

import numpy as np

from rnn_core.arrays import Array, Params, State, dtype_name, namespace
from rnn_core.bptt.signal import Signal
from rnn_core.bptt.watch import watch_of
from rnn_core.cells.base import BadStep, Cell
from rnn_core.scaling import (
    LN2,
    WINDOW,
    Scaled,
    add_to_part,
    at_one_exponent,
    concat,
    exponent_or_zero,
    exponents_of,
    flags_raise,
    sum_of_products,
    times_power_of_two,
)
from rnn_core.tape import Segment, Tape, at_step, swap

Shares = dict[str, "Array | Scaled"]  # what some steps add to the parameter gradients, by name


def back_through_time(
    cell: Cell, params: Params, segment: Segment, g: DirectPart | None, signal: Signal, first: int, stop: int
) -> Steps | None:
    """The steps of ``segment`` from ``stop`` down to ``first``: dL/dh_t, dL/du_t, dL/dv_t, and what the step before receives.

    ``signal`` is what the future sends to the last of them. ``g`` holds the direct parts g_t; it is None where g_t has joined
    already. The loop ends before a step whose numbers leave the range of plain floats; None where that is the first one.
    """
    [(dstate, e)] = signal.layers  # the value is dstate * 2**e; e is 0 unless an earlier step has left the range
    steps, watch = [], watch_of(dstate)
    with flags_raise(), suppress(FloatingPointError):
        for t in reversed(range(first, stop)):
            if g is not None and g.joins[t]:  # dh_t = g_t + what the future sent
                dstate, e = joined(dstate, e, g.columns[t], int(g.exponent[t]))
            # dh_t, and of an LSTM dc_t, which acts through h_t too; du_t, dv_t; to h_{t-1} goes W_hh^T dv_t
            total, du, dv, sent = step_back(cell, params, segment, t, dstate)
            if not watch.total_passes(total):
                break
            watch.note_results(du, dv, sent)
            steps.append(Step(total, du, dv, sent, e))
            dstate = sent
    squares = watch.squares()[: len(steps)]  # ‖dh_t‖² as stored, of the steps that have passed
    return Steps.of(steps[: len(squares)], squares) if len(squares) else None


def step_back(cell: Cell, params: Params, segment: Segment, t: int, dstate: State) -> tuple[State, Array, Array, State]:
    """The total dL/dstate_t, du_t, dv_t and what the state before receives, by step t of ``segment``."""
    after = {name: part[t + 1] for name, part in segment.states.items()} if cell.opaque else None
    try:
        return cell.back(params, segment.saved[t], dstate, after)
    except BadStep as bad:
        raise at_step(cell, segment.start + t, bad) from bad.__cause__


def joined(dstate: State, e: int, g_t: Array, e_g: int) -> tuple[State, int]:
    """g_t * 2**e_g, the direct part of dL/dh_t, joins what the future sent, dstate * 2**e: the sum of the two, with its exponent."""
    hidden = next(iter(dstate))  # the first part is the one that the loss acts on
    return add_to_part(dstate, e, hidden, g_t, e_g)


def parameter_gradients(tape: Tape, segment: Segment, du: Array, dv: Array, exponent: np.ndarray) -> Shares:
    """Sums over the steps of ``segment``: dW_ih = Σ du_t x_t^T, dW_hh = Σ dv_t h_{t-1}^T, db_ih = Σ du_t 1, db_hh = Σ dv_t 1.

    du, dv are (steps, G·H, B); their values are what is stored times 2**exponent[t].
    """
    if tape.cell.opaque:
        return tape.cell.parameter_gradients(tape.params, list(segment.saved), dv, exponent)
    x = swap(tape.x[segment.start : segment.stop])
    with_x = exponent if tape.x_exponent is None else exponent + tape.x_exponent[segment.start : segment.stop]
    sums = {"weight_ih": sum_over_time(du, with_x, x)}
    if tape.cell.has_matrix:
        sums["weight_hh"] = recurrent_sum(tape, segment, dv, exponent)
    if "bias_ih" in tape.params:
        sums["bias_ih"] = sum_over_time(du, exponent)
    if "bias_hh" in tape.params:
        sums["bias_hh"] = sum_over_time(dv, exponent)
    return sums


def recurrent_sum(tape: Tape, segment: Segment, dv: Array, exponent: np.ndarray) -> Array | Scaled:
    """dL/d(weight_hh) = Σ_t dv_t h_{t-1}^T, or block by block of rows where the cell multiplies W_hh by something else than h_{t-1}.

    Where W_hh is made of ``weight_hh``, the cell says what of these products counts.
    """
    xp, cell, h_prev = namespace(dv), tape.cell, segment.states["hidden"][:-1]
    both = exponent + segment.exponent[:-1]
    if not cell.outer_products:
        return sum_of_products(dv, both, h_prev, lambda d, h: cell.recurrent_gradient(tape.params, *_wide(d, h)))
    count = len(cell.factors(segment.saved[0], h_prev[0]))
    if count == 1:
        return sum_over_time(dv, both, h_prev)
    rows = dv.shape[1] // count
    factors = [cell.factors(saved, h) for saved, h in zip(segment.saved, h_prev, strict=True)]
    blocks = [
        sum_over_time(dv[:, i * rows : (i + 1) * rows], both, xp.stack([of_step[i] for of_step in factors]))
        for i in range(count)
    ]
    return at_one_exponent(concat(blocks))


def _wide(*parts: Array | None) -> list[Array]:
    """(steps, rows, B) each, as (rows, steps · B): steps and samples side by side."""
    return [namespace(x).reshape(namespace(x).moveaxis(x, 0, 1), (x.shape[1], -1)) for x in parts if x is not None]


def sum_over_time(d: Array, exponent: np.ndarray, factor: Array | None = None) -> Array | Scaled:
    """Σ_t d_t factor_t^T (rows, columns), or Σ_t d_t 1 (rows,), over time and batch."""
    xp = namespace(d)

    def contract(d: Array, factor: Array | None) -> Array:
        return xp.sum(d, axis=(0, 2)) if factor is None else xp.tensordot(d, factor, axes=((0, 2), (0, 2)))

    return sum_of_products(d, exponent, factor, contract)


def input_gradients(tape: Tape, du: Array, exponent: np.ndarray) -> tuple[Array, np.ndarray]:
    """dx_t = W_ih^T du_t, (steps, D, B), and its exponents."""
    if tape.cell.opaque:  # its u_t is x_t
        return du, exponent
    W_ih = tape.params["weight_ih"]
    dx = W_ih.T @ du
    of_du, of_dx = exponents_of(du), exponents_of(dx)  # nan where zero or not finite
    underflowed = np.isnan(of_dx) | (of_dx < -2 * WINDOW[dtype_name(du)])
    if not (underflowed & ~np.isnan(of_du)).any():
        return dx, exponent
    of_W, of_du = exponent_or_zero(W_ih), np.nan_to_num(of_du).astype(np.int64)
    return times_power_of_two(W_ih, -of_W).T @ Scaled(du, -of_du).to_float(), exponent + of_du + of_W


# ---- what the loop takes and gives ---------------------------------------------------------------------------------------


class DirectPart(NamedTuple):
    """The direct part g_t of dL/dh_t at the steps of a segment.

    Attributes:
        columns: (steps, H, B), or None for zeros.
        exponent: int64 (steps,); the value of g_t is columns[t] * 2**exponent[t].
        joins: whether g_t is not zero, bool (steps,).
        log_norm: ln ‖g_t‖, float64 (steps,).
    """

    columns: Array
    exponent: np.ndarray
    joins: np.ndarray
    log_norm: np.ndarray

    def plain_from(self, e: int, first: int, stop: int) -> int:
        """The earliest of the steps ``first`` … ``stop`` from which on plain floats hold every g_t added to a signal with exponent ``e``."""
        if not (e or self.exponent.any()):
            return first
        apart = np.flatnonzero(self.joins[first:stop] & ((self.exponent[first:stop] != 0) | (e != 0)))
        return first + int(apart[-1]) + 1 if apart.size else first


class Step(NamedTuple):
    """One step backwards; the value of every array is what is stored times 2**exponent.

    Attributes:
        total: dL/dstate_t by name, each (H, B).
        du, dv: (G·H, B).
        sent: what the step before receives, by name, each (H, B).
    """

    total: State
    du: Array
    dv: Array
    sent: State
    exponent: int


class Steps(NamedTuple):
    """Steps backwards, the last first.

    Attributes:
        totals: dL/dstate_t by name, for every step.
        du, dv: for every step, (G·H, B).
        log_norm: ln of the norm of every part of dL/dstate_t, float64 (steps, parts).
        exponent: of every part of dL/dstate_t, and in the last column of du and dv, int64 (steps, parts + 1).
        sent: what the step before them receives.
        log_norm_samples: ln ‖dL/dh_t^(b)‖ (B,) of a single step where one exponent does not hold its entries; else None.
        careful: whether it is a step that was taken layer by layer.
    """

    totals: list[State]
    du: list[Array]
    dv: list[Array]
    log_norm: np.ndarray
    exponent: np.ndarray
    sent: Signal
    log_norm_samples: np.ndarray | None = None
    careful: bool = False

    @property
    def number(self) -> int:
        return len(self.du)

    @classmethod
    def of(cls, steps: list[Step], squares: np.ndarray) -> Steps:
        """From steps and the squared norms of the parts of dL/dstate_t as stored, (steps, parts)."""
        totals, du, dv, sent, exponents = zip(*steps, strict=True)
        exponent = np.array(exponents)[:, None]
        log_norm = 0.5 * np.log(squares) + exponent * LN2
        every = np.repeat(exponent, squares.shape[1] + 1, axis=1)
        return cls(list(totals), list(du), list(dv), log_norm, every, Signal.of(sent[-1], exponents[-1]))
