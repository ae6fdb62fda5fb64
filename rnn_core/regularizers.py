"""Ω, the regulariser that asks every step to keep the length of what flows back. Derivation: rnn_core/README.md, section 3.4.

Pascanu, Mikolov & Bengio 2013, eq. 9 and 10. Only ratios of lengths enter: of every sample and step the gradient's direction counts, and its
size never. So a gradient of 10^-5000 says as much as one of size 1, and no step needs to be left out as too small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnn_core.arrays import Array, Params, dtype_name, like, namespace, to_numpy
from rnn_core.bptt import Gradients
from rnn_core.bptt.weights import LARGEST_PIECE, WEIGHT, Totals, columns_of, side_by_side, steps_at_size_one, wide_float
from rnn_core.cells.base import Cell
from rnn_core.scaling import LN2, WINDOW
from rnn_core.tape import Tape, pieces

USUAL = 1e30  # a column whose length is between this and one by it leaves room for slopes phi'(a) down to 1e-270
# Cells with one matrix W_hh whose step sends back (a multiple of dh_t) + W_hh^T da_t.
COVERED = ("vanilla", "residual")
ONLY = f"only {' and '.join(COVERED)} have one: there a single matrix W_hh carries the gradient from step to step"
ONE_LAYER = "Ω is about one matrix W_hh, and every layer and direction has its own"
# Where the ln of a sample's norm is further off than this, its entries are not held beside the others'.
HELD = {"float64": 1e-9, "float32": 1e-5}


def omega(tape: Tape, grads: Gradients) -> tuple[float, dict[str, Array]]:
    """(Ω, its immediate gradient {"weight_hh": (H, H)}): the mean over the batch of Σ_t (‖J_t^T dh_t‖/‖dh_t‖ - 1)², t = 2 … T.

    J_t = dh_t/dh_{t-1}, and dh_t = dL/dh_t is the total gradient. Ω does not depend on the size of L. The immediate gradient is that of J_t's
    own W_hh, with dh_t and the slopes phi'(a_t) held constant, as published. It leaves out how W_hh moves these.

    A step at which a sample's dh_t is exactly zero adds nothing. One that sends back exactly zero adds 1, and nothing to the
    gradient, which does not exist there. Both are computed in float64.

    Args:
        tape: from ``forward``, of a vanilla or a residual cell.
        grads: from ``backward`` of that tape.

    Raises:
        TypeError: an argument is not what its name says.
        ValueError: the cell is another one; the gradients are not of this tape.
    """
    _check(tape, grads)
    of_steps = np.ones(grads.log_norm_samples.shape, dtype=bool)
    of_steps[0] = False  # the initial state is no step's
    with np.errstate(all="ignore"):
        value, gradient = _omega(tape, grads, of_steps)
    B, W = tape.x.shape[1], tape.params[WEIGHT]
    return value / B, {WEIGHT: like(gradient / B, W)}


def _check(tape: Tape, grads: Gradients) -> None:
    for name, value, kind in (("tape", tape, Tape), ("grads", grads, Gradients)):
        if not isinstance(value, kind):
            source = {"tape": "rc.forward", "grads": "rc.backward"}[name]
            raise TypeError(f"{name}: {type(value).__name__} is not allowed; it must be what {source} returns")
    if tape.cell.name not in COVERED:
        raise ValueError(f"tape: its cell is {tape.cell.name!r}, which has no omega; {ONLY}")
    if grads.log_norm_samples.shape != tape.x.shape[:2]:
        raise ValueError(
            f"grads: they are of (T, B) = {grads.log_norm_samples.shape}, and the tape is of {tuple(tape.x.shape[:2])}"
        )


def _omega(tape: Tape, grads: Gradients, of_steps: np.ndarray) -> tuple[float, Array]:
    """(Ω, its gradient), summed over the batch and over those steps of every sample that are ``of_steps``, bool (T, B)."""
    params = {WEIGHT: wide_float(tape.params[WEIGHT])}
    value, gradient = 0.0, namespace(params[WEIGHT]).zeros_like(params[WEIGHT])
    held = np.ones_like(of_steps)
    for totals in grads.find_totals():
        segment, B = totals[0], of_steps.shape[1]
        for piece in pieces(segment.stop - segment.start, params[WEIGHT].shape[0] * B, LARGEST_PIECE):
            steps = slice(segment.start + piece.start, segment.start + piece.stop)
            terms = _terms(tape.cell, params, totals, piece)
            if B > 1:
                held[steps] = _holds(terms.log_norm, grads.log_norm_samples[steps], tape.x)
            counts = of_steps[steps] & held[steps] & (terms.log_norm != -np.inf)
            value += float(((terms.ratio - 1.0) ** 2).sum(where=counts))
            gradient = gradient + terms.gradient(counts)
    for sample in np.flatnonzero(~held.all(axis=0)).tolist():  # both passes of it again, by itself
        more = _omega(*grads.find_alone(sample), (of_steps & ~held)[:, sample : sample + 1])
        value, gradient = value + more[0], gradient + more[1]
    return value, gradient


def _holds(as_kept: np.ndarray, right: np.ndarray, x: Array) -> np.ndarray:
    """Which samples' entries are kept as they should be, (steps, B); nan and infinities are kept as what they are.

    Their norms tell, which NumPy has right in any case. Other libraries hold a sample as far as it is not far below the largest.
    """
    held = (np.abs(as_kept - right) <= HELD[dtype_name(x)]) | (as_kept == right) | np.isnan(right)
    if not isinstance(x, np.ndarray):
        held &= ~(right < np.max(right, axis=1, keepdims=True) - WINDOW[dtype_name(x)] * LN2)
    return np.asarray(held)


class _Terms(NamedTuple):
    """Of some steps; a column is one sample at one step, n of them.

    Attributes:
        log_norm: ln ‖dh_t^(b)‖ as it is kept, float64 (steps, B).
        ratio: r = ‖J^T dh‖/‖dh‖, (steps, B); nan where dh is zero or not finite.
        da, sent: dL/da_t, and J^T dh of the same columns, (H, n), each column at a size of its own.
        lengths: of dh times of ``sent``, at those sizes, (steps, B).
    """

    log_norm: np.ndarray
    ratio: np.ndarray
    da: Array
    sent: Array
    lengths: np.ndarray

    def gradient(self, counts: np.ndarray) -> Array:
        """Σ 2 (r - 1) da/‖dh‖ (J^T dh/‖J^T dh‖)^T over the columns that count."""
        factor = np.where(counts & (self.ratio != 0.0), 2.0 * (self.ratio - 1.0) / self.lengths, 0.0)
        return (self.da * like(factor.reshape(-1), self.da)) @ self.sent.T


def _terms(cell: Cell, params: Params, totals: Totals, piece: slice) -> _Terms:
    segment, parts, exponent = totals
    shape = (piece.stop - piece.start, parts["hidden"].shape[2])
    dh, length, e_dh = _with_lengths(columns_of(parts["hidden"][piece]), shape)
    _, da, before = cell.backward(params, side_by_side(segment.saved[piece]), {"hidden": dh})
    sent, length_sent, e_sent = _with_lengths(before["hidden"], shape)
    log_norm = np.log(length) + (e_dh + exponent["hidden"][piece, None]) * LN2
    return _Terms(log_norm, np.ldexp(length_sent / length, e_sent), da, sent, length * length_sent)


def _with_lengths(x: Array, shape: tuple[int, int]) -> tuple[Array, np.ndarray, np.ndarray]:
    """(columns, their lengths, exponents), the latter two (steps, B): all as they are where lengths are usual, or else each at size 1."""
    lengths, exponent = _lengths(x), np.zeros(x.shape[1], dtype=np.int64)
    if not ((lengths >= 1.0 / USUAL) & (lengths <= USUAL)).all():
        x, exponent = steps_at_size_one(x, 1)
        lengths = _lengths(x)
    return x, lengths.reshape(shape), exponent.reshape(shape)


def _lengths(x: Array) -> np.ndarray:
    xp = namespace(x)
    return np.asarray(np.sqrt(to_numpy(xp.vecdot(x, x, axis=0))))
