"""The Lyapunov spectrum: how fast every direction of a gradient grows, where its norm shows the fastest alone.

dL/ds_{t-1} = J_t^T dL/ds_t. A frame of k orthonormal columns goes the same way, and is made orthonormal again at every step:
J_t^T Q_t = Q_{t-1} R_t. The mean of ln |R_ii| over the steps is the i-th exponent (Benettin et al. 1980; Engelken, Wolf & Abbott
2023). Going backward gives the same spectrum as going forward. Derivation: rnn_core/README.md, section 5.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rnn_core.arguments import check_tape
from rnn_core.scalars import as_python, is_integer, numbers
from rnn_core.tape import Tape
from rnn_core.theory.frames import Frame, NotFinite
from rnn_core.theory.growth import error_over_time
from rnn_core.theory.jacobians import SampleSteps, checked_sample, state_size


class Spectrum(NamedTuple):
    """The k largest Lyapunov exponents of one sample, ln per step.

    Attributes:
        exponents: float64 (k,), descending. -inf where a direction dies: a step's Jacobian takes it to zero, as where units of
            relu are off. nan where a Jacobian is not finite.
        error: the standard error of each by batch means over time, (k,), as that of ``growth``; nan where there are too few steps.
        dimension: the Kaplan-Yorke dimension; nan where k exponents do not show it.
        entropy_rate: the sum of the positive exponents, by Pesin's formula; nan where all k of fewer than S are positive.
    """

    exponents: np.ndarray
    error: np.ndarray
    dimension: float
    entropy_rate: float


def lyapunov_spectrum(tape: Tape, k: int | None = None, burn_in: int = 0, sample: int = 0, settle: int = 0) -> Spectrum:
    """The k largest exponents of the product J_T … J_1 of one sample.

    Fewer than S directions start as random ones and take some steps to turn into the k fastest; all S start as units. ``burn_in``
    leaves such steps out.

    Args:
        tape: from ``forward``.
        k: how many exponents; None is all S, the number of units in all parts of the state.
        burn_in: steps at the end of the sequence, where the frame starts, that turn it and do not count.
        sample: which sequence of the batch, from 0.
        settle: steps at the beginning of the sequence, where the state has yet to settle, that do not count.

    Raises:
        ValueError: ``tape`` is none; there is no such sample; k is not from 1 to S; no step is left that counts.
    """
    check_tape(tape)
    T, S, sample = tape.x.shape[0], state_size(tape), checked_sample(tape, sample)
    k, burn_in = S if k is None else k, as_python(burn_in)
    if not (is_integer(k) and 1 <= k <= S):
        raise ValueError(
            f"k: {k!r} is not allowed; it must be an integer from 1 to {S}, the units of this state, or None"
        )
    settle = as_python(settle)
    if not (is_integer(burn_in) and 0 <= burn_in < T):
        raise ValueError(
            f"burn_in: {burn_in!r} is not allowed; it must be a number of steps from 0 to {T - 1}, for T = {T}"
        )
    if not (is_integer(settle) and 0 <= settle < T - burn_in):
        raise ValueError(
            f"settle: {settle!r} is not allowed; it must be a number of steps from 0 to {T - burn_in - 1}, "
            f"for T = {T} and burn_in = {burn_in}"
        )
    try:
        grown = _growth_of_frame(tape, int(as_python(k)), burn_in, sample, settle)
    except NotFinite:
        return Spectrum(np.full(k, math.nan), np.full(k, math.nan), math.nan, math.nan)
    with np.errstate(invalid="ignore"):
        exponents = grown.mean(axis=0)
    order = np.argsort(-exponents, kind="stable")
    exponents = exponents[order]
    error = np.array([error_over_time(grown[:, i]) for i in order])
    whole = k == S
    dimension = kaplan_yorke(exponents) if whole or exponents.sum() < 0.0 else math.nan
    entropy = float(exponents[exponents > 0.0].sum()) if whole or exponents[-1] <= 0.0 else math.nan
    return Spectrum(exponents, error, dimension, entropy)


def kaplan_yorke(exponents: np.ndarray) -> float:
    """The Kaplan-Yorke dimension of all S exponents (Kaplan & Yorke 1979).

    It is j + Σ_{i≤j} λ_i / |λ_{j+1}|, where j is the last index at which the sum of the j largest is not negative. It is 0 where
    the largest is negative, S where the sum of all is not, and nan where one is nan.

    Args:
        exponents: (S,), in any order; -inf is allowed.

    Raises:
        ValueError: they are not numbers in one row.
    """
    values = numbers("exponents", exponents).astype(np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"exponents: shape {values.shape} is not allowed; it must be (S,) with S >= 1")
    if np.isnan(values).any():
        return math.nan
    values = np.sort(values)[::-1]
    sums = np.cumsum(values)
    j = int((sums >= 0.0).sum())  # the sums rise, then fall for good
    if j in (0, len(values)):
        return float(j)
    return j + float(sums[j - 1] / -values[j])


def _growth_of_frame(tape: Tape, k: int, burn_in: int, sample: int, settle: int) -> np.ndarray:
    """ln R_ii of every step that counts, the last step first, (T - burn_in - settle, k); -inf where a direction is dead."""
    frame, counts_to, grown = Frame(state_size(tape), k), tape.x.shape[0] - burn_in, []
    for segment in tape.segments(backward=True, several=True):
        if segment.stop <= settle:
            break
        steps = SampleSteps(tape, segment, sample)
        last, first = (min(max(step - segment.start, 0), len(steps)) for step in (counts_to, settle))
        frame.through(steps, last, len(steps))
        if burn_in and segment.start < counts_to <= segment.stop:
            frame.complete()
        grown.append(frame.through(steps, first, last))
    return np.concatenate(grown)
