"""Batches whose sequences end at different steps: which entries count, and what is measured counts from each sequence's own end."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rnn_core.arrays import Array, namespace, to_numpy
from rnn_core.losses import carries_target
from rnn_core.scaling import Scaled, mantissa_and_exponents
from rnn_core.theory import settled_window

Rows = Callable[[int, int], Array | Scaled | None]


def ends_of(target: Array) -> np.ndarray:
    """The steps until each sequence's last target, int (B,), from targets (T, B) or (T, B, C) with blanks."""
    carries = to_numpy(carries_target(target))
    return np.asarray(len(carries) - np.argmax(carries[::-1], axis=0))


def only(x: Array | Scaled, kept: Array) -> Array | Scaled:
    """``x`` (T, B) or (T, B, …) with exact zeros where ``kept`` (T, B) is False, whatever stands there."""
    if isinstance(x, Scaled):
        mantissa, exponent = mantissa_and_exponents(x)
        return Scaled(only(mantissa, kept), exponent)
    xp = namespace(x)
    return xp.where(xp.reshape(kept, (*kept.shape, *(1,) * (x.ndim - 2))), x, 0)


def at_ends(direct: Rows, ends: np.ndarray) -> Rows:
    """The immediate dL/dh_t where only the last step of every sequence carries its loss, as ``backward`` takes it."""

    def rows(start: int, stop: int) -> Array | Scaled | None:
        kept = np.arange(start, stop)[:, None] == ends - 1
        given = direct(start, stop) if kept.any() else None
        if given is None:
            return None
        mantissa, _ = mantissa_and_exponents(given)
        return only(given, namespace(mantissa).asarray(kept, device=mantissa.device))

    return rows


class LiveStates(NamedTuple):
    """States of sequences that have not ended.

    Attributes:
        hidden_rms: root mean square over the units and the sequences that have not ended; nan where all have, float64 (T,).
        saturation: fraction of saturated units, over the sequences that have not ended; nan where all have, float64 (T,).
        windows: of every sequence the steps where growth is a property of the network (``settled_window``).
    """

    hidden_rms: np.ndarray
    saturation: np.ndarray
    windows: list[slice]


def live_states(log_rms: np.ndarray, saturation: np.ndarray, ends: np.ndarray) -> LiveStates:
    """From ln of every sample's root mean square over its units, and its saturated fraction, both (T, B)."""
    live = np.arange(len(log_rms))[:, None] < ends
    count = live.sum(axis=1)
    with np.errstate(all="ignore"):  # none is left, or a state is not finite
        mean_square = np.logaddexp.reduce(np.where(live, 2.0 * log_rms, -np.inf), axis=1) - np.log(count)
        rms = np.where(count > 0, np.exp(0.5 * mean_square), np.nan)
        saturated = np.where(count > 0, np.where(live, saturation, 0.0).sum(axis=1) / count, np.nan)
        windows = [settled_window(np.exp(log_rms[:end, b])) for b, end in enumerate(ends)]
    return LiveStates(rms, saturated, windows)


def inside(windows: list[slice], T: int) -> np.ndarray:
    """Which steps of which sample lie in its window, (T, B) bool."""
    t = np.arange(T)[:, None]
    start, stop = (np.array([getattr(window, end) for window in windows]) for end in ("start", "stop"))
    return np.asarray((t >= start) & (t < stop))
