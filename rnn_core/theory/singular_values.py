"""The singular values of a product of Jacobians, J_stop … J_{start+1}: by how much every direction is stretched.

A product in plain floats loses all that lies 16 decades below its largest value. Here the product is kept as an orthonormal frame
times a triangle whose rows have exponents of their own. Its values are found by rotations that know these exponents. Each value is
right to its last digits, also 300 decades below the first. One Jacobian may be so steep that its own rounding hides directions: units
saturated beyond 10^-30, and open the next step. Then small values may be wrong or -inf. The largest is found in another way, too.
Derivation: rnn_core/README.md, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rnn_core.arguments import check_tape
from rnn_core.scalars import as_python, is_integer
from rnn_core.scaling import LN2
from rnn_core.tape import Tape
from rnn_core.theory.frames import NotFinite, back, forth, plain_step
from rnn_core.theory.jacobians import SampleSteps, checked_sample, state_size

ROUNDS = 60  # sweeps of rotations; five to ten are usual
TRIANGLES = 3  # triangles taken first, which leave the rotations little to do
FAR = 2000  # powers of two: what lies so far below is zero beside the rest
SURVIVES = 0.01  # a direction survives that keeps so much of what the best one keeps
EPS = float(np.finfo(np.float64).eps)
SLACK = 1e-6  # what two ways to the largest value may differ by, in ln


def log_singular_values(tape: Tape, start: int = 0, stop: int | None = None, sample: int = 0) -> np.ndarray:
    """ln σ_i of J_stop … J_{start+1} of one sample, descending, float64 (S,).

    The gradient's norm over these steps lies between the smallest and the largest. -inf where a direction is lost, as where units of
    relu are off. All nan where a Jacobian is not finite, or so steep that the largest value is not known. Time grows with the steps, and for large S with S³. It is about 0.2 ms a
    step of 8 units and 3 ms of 64, so that 20,000 steps of 64 units take a minute. For ``start`` = ``stop`` the product is the
    identity.

    Args:
        tape: from ``forward``.
        start: the product is ∂s_stop/∂s_start; s_0 is the initial state.
        stop: a step from ``start`` to T; None is T.
        sample: which sequence of the batch, from 0.

    Raises:
        ValueError: ``tape`` is none; there is no such sample; ``start`` and ``stop`` are not steps in order.
    """
    check_tape(tape)
    T, S, sample = tape.x.shape[0], state_size(tape), checked_sample(tape, sample)
    start, stop = as_python(start), T if stop is None else as_python(stop)
    if not (is_integer(stop) and 0 <= stop <= T):
        raise ValueError(f"stop: {stop!r} is not allowed; it must be a step from 0 to {T}, for T = {T}, or None")
    if not (is_integer(start) and 0 <= start <= stop):
        raise ValueError(f"start: {start!r} is not allowed; it must be a step from 0 to stop = {stop}")
    try:
        values = _product(tape, start, stop, sample).log_singular_values()
    except NotFinite:
        return np.full(S, np.nan)
    values = np.concatenate([values, np.full(S - len(values), -np.inf)])
    # Rounding may hide a direction whose units are shut at one step, and which is all that is left where they open again.
    largest = _largest(tape, start, stop, sample)
    right = largest == values[0] or abs(largest - values[0]) < SLACK
    return values if right or not _some_steep(tape, start, stop, sample) else np.full(S, np.nan)


def _some_steep(tape: Tape, start: int, stop: int, sample: int) -> bool:
    """Whether a step is so steep that rounding may hide a direction; elsewhere a wrong value would be a bug, which nobody should hide."""
    windows = _windows(tape, start, stop, sample)
    return any(plain_step(steps.matrix(t)) is None for steps, own in windows for t in own)


def _largest(tape: Tape, start: int, stop: int, sample: int) -> float:
    """ln σ_1 from the product as it stands, whose columns have an exponent each: it loses small values, but not the largest."""
    product = np.eye(state_size(tape))
    exponent = np.zeros(len(product), dtype=np.int64)
    for steps, own in _windows(tape, start, stop, sample):
        for t in own:
            product = steps.matrix(t).T @ product
            size = np.frexp(np.abs(product).max(axis=0))[1]
            product, exponent = np.ldexp(product, -size), exponent + size
    top = int(exponent[product.any(axis=0)].max(initial=-FAR))
    with np.errstate(divide="ignore"):
        norm = np.log(np.linalg.norm(np.ldexp(product, np.clip(exponent - top, -FAR, 0)), 2))
    return float(norm + top * LN2)


def surviving_directions(log_values: np.ndarray) -> float:
    """How many directions keep ``SURVIVES`` of what the best one keeps, by ln σ_i, descending; nan where they are not known."""
    if np.isnan(log_values[0]):
        return math.nan
    return float((log_values > log_values[0] + math.log(SURVIVES)).sum()) if log_values[0] > -math.inf else 0.0


def _product(tape: Tape, start: int, stop: int, sample: int) -> Graded:
    """A triangle with the singular values of J_stop … J_{start+1}, but for those that are zero.

    On the way forward a frame turns to what the product makes longest. The way back starts with it. So the rows of the triangle
    come in falling order, and no direction is lost beside a larger one.
    """
    frame = np.eye(state_size(tape))
    for steps, own in _windows(tape, start, stop, sample):
        for t in own:
            frame = forth(steps, t, frame).frame
    product = Graded(np.eye(frame.shape[1]), np.zeros(frame.shape[1], dtype=np.int64))
    for steps, own in _windows(tape, start, stop, sample, backward=True):
        for t in reversed(own):
            carried = back(steps, t, frame)
            frame, product = carried.frame, product.times(carried.triangle)
    return product


def _windows(
    tape: Tape, start: int, stop: int, sample: int, backward: bool = False
) -> Iterator[tuple[SampleSteps, range]]:
    """The segments that hold steps start + 1 … stop, and which of their steps these are."""
    for segment in tape.segments(backward=backward):
        own = range(max(start - segment.start, 0), min(stop - segment.start, len(segment.saved)))
        if len(own):
            yield SampleSteps(tape, segment, sample), own


@dataclass(frozen=True)
class Graded:
    """A matrix whose rows may lie any number of decades apart: row i is rows[i] * 2**exponent[i], float64 and int64."""

    rows: np.ndarray
    exponent: np.ndarray

    def times(self, triangle: np.ndarray) -> Graded:
        """``triangle`` (r, k) times this one (k, n)."""
        size = np.where(triangle == 0.0, -np.inf, np.frexp(triangle)[1] + self.exponent.astype(np.float64))
        top = size.max(axis=1, keepdims=True, initial=-np.inf).astype(np.int64)
        factors = np.ldexp(triangle, np.clip(self.exponent - top, -FAR, FAR))
        return Graded(factors @ self.rows, top[:, 0]).normalised()

    def normalised(self) -> Graded:
        """The same, the largest entry of every row in [1/2, 1)."""
        size = np.frexp(np.abs(self.rows).max(axis=1, initial=0.0))[1]
        return Graded(np.ldexp(self.rows, -size[:, None]), self.exponent + size)

    def falling(self) -> Graded:
        """The same singular values, the largest rows first."""
        order = np.argsort(-(self.exponent + np.log2(np.linalg.norm(self.rows, axis=1))), kind="stable")
        return Graded(self.rows[order], self.exponent[order])

    def triangular(self) -> Graded:
        """The same singular values, nearer to the diagonal: the off-diagonal falls by the squared ratio of neighbours (QR iteration).

        With D for the powers of two, D N = (D L) Q^T by a QR of N^T. As L is triangular, D L = (D L D^{-1}) D holds no number out
        of range, and a QR of the bracket leaves R D. Its transpose is a triangle with the same D.
        """
        own = self.normalised().falling()
        lower = np.asarray(np.linalg.qr(own.rows.T, mode="r")).T
        ratios = np.clip(own.exponent[:, None] - own.exponent, -FAR, FAR)
        return Graded(np.asarray(np.linalg.qr(np.ldexp(lower, ratios), mode="r")).T, own.exponent)

    def log_singular_values(self) -> np.ndarray:
        """ln of the singular values, descending."""
        if not len(self.rows):
            return np.empty(0)
        graded = self
        for _ in range(TRIANGLES):
            graded = graded.triangular()
        graded = graded.normalised().falling()
        rows = _orthogonal(graded.rows, graded.exponent)
        return np.sort(np.log(np.linalg.norm(rows, axis=1)) + graded.exponent * LN2)[::-1]


def _orthogonal(rows: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Rows that are orthogonal to each other, with the same exponents and singular values: one-sided Jacobi.

    Each value is right to its last digits if the rows, brought to size 1, are well conditioned (Demmel & Veselić 1992). Half as many
    pairs as there are rows are turned at once, as in a tournament.
    """
    count = len(rows)
    rows, seats = rows.copy(), np.arange(count + count % 2)
    for _ in range(ROUNDS):
        worst = 0.0
        for _ in range(len(seats) - 1):
            pairs = np.sort(
                [seats[: len(seats) // 2], seats[: len(seats) // 2 - 1 : -1]], axis=0
            )  # the larger row first
            worst = max(worst, _turn(rows, exponent, *pairs[:, pairs[1] < count]))
            seats = np.append(seats[0], np.roll(seats[1:], 1))  # all but one move on (the circle method)
        if worst < EPS * count:
            break
    return rows


def _turn(rows: np.ndarray, exponent: np.ndarray, p: np.ndarray, q: np.ndarray) -> float:
    """Make rows p and q of every pair orthogonal; the largest cosine there was. Row q counts times 2^(e_q - e_p) beside row p.

    Row p is the larger one. Its exponent may still be the smaller, for a row's norm is up to √S times its largest entry.
    """
    a, b = rows[p], rows[q]
    alpha, beta, gamma = np.vecdot(a, a), np.vecdot(b, b), np.vecdot(a, b)
    square = np.ldexp(1.0, np.clip(2 * (exponent[q] - exponent[p]), -FAR, FAR))
    delta = beta * square - alpha
    below = np.abs(delta) + np.hypot(delta, 2.0 * gamma * np.sqrt(square))
    above = np.where(delta < 0.0, -2.0, 2.0) * gamma
    tangent = np.divide(above, below, out=np.zeros_like(above), where=below > 0.0)  # over 2^(e_q - e_p)
    cosine = 1.0 / np.sqrt(1.0 + tangent**2 * square)
    rows[p] = cosine[:, None] * (a - (tangent * square)[:, None] * b)
    rows[q] = cosine[:, None] * (b + tangent[:, None] * a)
    return float(np.max(np.abs(gamma) / np.sqrt(alpha * beta), initial=0.0))
