"""How large the entries of a gradient are: quantiles of log2 of their magnitudes, exact beyond floating-point range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnn_core.arrays import Array, namespace, to_numpy

LEVELS = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True, eq=False, repr=False)
class EntryQuantiles:
    """Of the entries of dL/dh_t, over batch and units, at every step.

    Attributes:
        levels: which quantiles; 0 is the smallest entry, 1 the largest.
        log2: quantiles of log2 |entry| over the entries that are not zero, interpolated as by ``np.quantile``, float64 (T, levels).
            -inf where all are zero, nan where one is not a number.
        zero: the fraction of entries that are exactly zero, float64 (T,).
    """

    levels: tuple[float, ...]
    log2: np.ndarray
    zero: np.ndarray

    def __repr__(self) -> str:
        """How many steps, and which quantiles."""
        return f"EntryQuantiles(T={len(self.zero)}, levels {', '.join(f'{level:g}' for level in self.levels)})"


def entry_quantiles(mantissa: Array, exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(log2, zero) of ``EntryQuantiles`` for the steps of ``mantissa[t] * 2**exponent[t]``, mantissa (steps, …)."""
    xp, steps = namespace(mantissa), mantissa.shape[0]
    rows = to_numpy(xp.sort(xp.abs(xp.reshape(mantissa, (steps, -1))), axis=1))  # zeros first, nan last
    count = rows.shape[1]
    zeros = count - np.count_nonzero(rows, axis=1)
    place = zeros[:, None] + np.array(LEVELS) * (count - zeros - 1)[:, None]
    below = np.clip(np.floor(place).astype(np.int64), 0, count - 1)
    above = np.minimum(below + 1, count - 1)
    with np.errstate(all="ignore"):
        low, high = (np.log2(np.take_along_axis(rows, at, axis=1).astype(np.float64)) for at in (below, above))
        share = place - below
        values = np.where((share == 0.0) | (low == high), low, low + share * (high - low)) + exponent[:, None]
    values[zeros == count] = -np.inf
    values[np.isnan(rows[:, -1])] = np.nan
    return values, zeros / count
