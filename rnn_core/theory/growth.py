"""The measured growth rate of a gradient per step back, with its error, and the regime it puts a run in.

Why a window and why samples: rnn_core/README.md, section 4.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

REGIME_DECADES = 2.0  # a gradient that changes by less than a factor of 100 over the whole sequence counts as stable
REGIMES = ("vanishing", "stable", "exploding")
SETTLED_WITHIN = 0.05  # of its usual size: a state that near has settled
ALIGNING = 11  # steps at the end over which the gradient still shows the readout's direction


class Growth(NamedTuple):
    """How a gradient grows on its way back.

    Attributes:
        rate: mean change of ln ‖dL/dh_t^(b)‖ per step back inside the window, mean over the samples b; ln per step.
        error: its standard error.
        ratio: log10(‖dL/dh_1‖/‖dL/dh_T‖) of the whole sequence, with norms over the batch.
        dead: fraction of samples whose gradient is exactly zero at the first step of the window. ``rate`` leaves them out.
    """

    rate: float
    error: float
    ratio: float
    dead: float


def settled_window(hidden_rms: np.ndarray) -> slice:
    """Where growth is a property of the network, not of the ends of its sequence: indices t - 1 of steps t = 1 … T.

    The state starts from zero and takes some steps to its usual size. Let t_s be the first t at which ``hidden_rms`` (T,) is within
    5 % of its median over the second half. The gradient starts along the readout and takes some steps to turn. The window is
    t > t_s with lag T - t > 10.

    A short sequence leaves out at most half of its steps at the end, and then at most half of the rest at the beginning. So do
    states that never settle or are not finite. For T >= 2 at least two steps remain.
    """
    [start], stop = settled_windows(hidden_rms[None])
    return slice(int(start), stop)


def settled_windows(hidden_rms: np.ndarray) -> tuple[np.ndarray, int]:
    """``settled_window`` of several runs, from (runs, T): where the window of each starts, int (runs,), and where all stop."""
    T = hidden_rms.shape[1]
    stop = T - min(ALIGNING, (T - 1) // 2)
    with np.errstate(invalid="ignore"):  # inf - inf: such a state has not settled
        usual = np.median(hidden_rms[:, T // 2 :], axis=1, keepdims=True)
        settled = np.abs(hidden_rms - usual) <= SETTLED_WITHIN * usual
    most = (stop - 1) // 2
    ever = settled.any(axis=1) & np.isfinite(usual[:, 0])
    return np.where(ever, np.minimum(settled.argmax(axis=1) + 1, most), most), stop


def growth(log_norm: np.ndarray, window: slice | None = None) -> Growth:
    """The growth of ln ‖dL/dh_t‖, t = 1 … T, when the loss sits at the last step alone.

    The rate of one sample is its conditional Lyapunov exponent. The rate of the batch's norm would rise with the batch size,
    because the largest sample rules it. Where all samples are exactly zero it is -inf.

    The error is the larger of two, and nan where there is neither:

    - Over time: the error of the mean of non-overlapping groups of about √n of the n steps, because neighbouring steps are
      correlated (batch means, Law & Kelton 2000, section 9.5.3). It takes four groups.
    - Over samples: the standard deviation of their rates over √B. It takes two samples.

    Args:
        log_norm: (T,) of one norm, or (T, B) of every sample.
        window: the indices t - 1 that count; None is all of them.
    """
    samples = log_norm.reshape(len(log_norm), -1)
    inside = samples[window or slice(None)]
    if len(inside) < 2:
        return Growth(math.nan, math.nan, _ratio(samples), math.nan)
    alive = inside[0] != -np.inf
    dead = 1.0 - float(alive.mean())
    if not alive.any():
        return Growth(-math.inf, math.nan, _ratio(samples), dead)
    living = inside[:, alive]
    rates = (living[0] - living[-1]) / (len(inside) - 1)
    with np.errstate(invalid="ignore"):  # inf - inf, where a gradient is not finite
        steps = -np.diff(living.mean(axis=1))
    error = _larger(error_over_time(steps), _error_over_samples(rates))
    return Growth(float(rates.mean()), error, _ratio(samples), dead)


def ragged_growth(log_norm: np.ndarray, ends: np.ndarray, windows: list[slice] | None = None) -> Growth:
    """``growth`` of sequences that end at different steps. Each is measured by itself, up to its own end, in its own window.

    The rate is the mean over the living samples, and ``dead`` the fraction of dead ones. Neither counts sequences with a single
    step in their window. The error is the larger of two: √(Σ error_b²)/n from the errors of the samples over time, and the
    standard deviation of their rates over √n. The ratio divides the norm over the batch at t = 1 by that at the last step of
    every sequence.

    Args:
        log_norm: ln ‖dL/dh_t^(b)‖ (T, B), the loss at every sequence's last step alone.
        ends: steps of every sequence, (B,).
        windows: of every sequence; None is all of its steps.
    """
    own = [log_norm[:end, b] for b, end in enumerate(ends)]
    if windows is None:
        windows = [slice(0, int(end)) for end in ends]
    measured = [growth(norms, window) for norms, window in zip(own, windows, strict=True) if len(norms[window]) > 1]
    ratio = _ratio(np.stack([log_norm[0], log_norm[ends - 1, np.arange(len(ends))]]))
    if not measured:
        return Growth(math.nan, math.nan, ratio, math.nan)
    dead = float(np.mean([each.dead for each in measured]))
    living = [each for each in measured if each.dead == 0.0]
    if not living:
        return Growth(-math.inf, math.nan, ratio, dead)
    rates, errors = (np.array([getattr(each, name) for each in living]) for name in ("rate", "error"))
    over_time = float(np.sqrt((errors**2).sum()) / len(errors))
    return Growth(float(rates.mean()), _larger(over_time, _error_over_samples(rates)), ratio, dead)


def _larger(*errors: float) -> float:
    """The largest that is known; nan where none is."""
    return max((error for error in errors if not math.isnan(error)), default=math.nan)


def error_over_time(steps: np.ndarray) -> float:
    """The error of the mean of ``steps`` (n,) by batch means of about √n of them; nan for fewer than four batches, inf or nan."""
    length = max(1, math.isqrt(len(steps)))
    count = len(steps) // length
    if count < 4 or not np.isfinite(steps).all():
        return math.nan
    means = steps[: count * length].reshape(count, length).mean(axis=1)
    return float(means.std(ddof=1) / math.sqrt(count))


def _error_over_samples(rates: np.ndarray) -> float:
    if len(rates) < 2 or not np.isfinite(rates).all():
        return math.nan
    return float(rates.std(ddof=1) / math.sqrt(len(rates)))


def _ratio(samples: np.ndarray) -> float:
    """log10(‖dL/dh_1‖/‖dL/dh_T‖) of the norms over the batch; 0 for a single step."""
    if len(samples) < 2:
        return 0.0
    with np.errstate(invalid="ignore"):  # nan stays nan
        first, last = (0.5 * float(np.logaddexp.reduce(2.0 * norms)) for norms in (samples[0], samples[-1]))
    return (first - last) / math.log(10.0)


def regime(ratio: float) -> str | None:
    """vanishing, stable or exploding, by log10(‖dL/dh_1‖/‖dL/dh_T‖); None where that is nan."""
    if math.isnan(ratio):
        return None
    return "vanishing" if ratio < -REGIME_DECADES else "exploding" if ratio > REGIME_DECADES else "stable"
