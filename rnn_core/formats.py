"""What narrower floating-point formats would keep of an exact gradient: rounding to nearest, with subnormal numbers.

Each format holds magnitudes up to its largest number; what is at least half a unit above that becomes inf, and what is at most
half of the smallest subnormal number becomes 0 (IEEE 754-2019, sections 3.6, 4.3.1; bfloat16: float32's exponents, 8 digits).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnn_core.arrays import Array, like, namespace, to_numpy


@dataclass(frozen=True)
class Format:
    """A binary format.

    Attributes:
        digits: binary digits of the significand, the leading one included.
        top: every finite number is below 2**top.
        bottom: the smallest subnormal number is 2**bottom.
    """

    name: str
    digits: int
    top: int
    bottom: int


FORMATS = (Format("float32", 24, 128, -149), Format("bfloat16", 8, 128, -133), Format("float16", 11, 16, -24))


def lost_fractions(mantissa: Array, exponent: np.ndarray) -> dict[str, np.ndarray]:
    """By ``<format>_flushed`` and ``<format>_overflowed``: the fractions of the nonzero entries of
    ``mantissa[t] * 2**exponent[t]`` that would become 0 and inf, float64 (T,); 0 where there is no nonzero entry."""
    xp = namespace(mantissa)
    magnitude = xp.abs(xp.reshape(mantissa, (mantissa.shape[0], -1)))
    least, most = xp.min(magnitude, axis=1, keepdims=True), xp.max(magnitude, axis=1, keepdims=True)
    nonzero = _count(magnitude)
    zeros, none, fractions = magnitude.shape[1] - nonzero, np.zeros_like(nonzero), {}
    for format in FORMATS:  # entries are counted only where the extremes say that there are any
        low = _limit(0.5, format.bottom - exponent, mantissa)
        high = _limit(2.0 - 2.0**-format.digits, format.top - 1 - exponent, mantissa)
        flushed = none if bool(xp.all(least > low)) else _count(magnitude <= low) - zeros
        overflowed = none
        if not bool(xp.all(most < high)):
            overflowed = _count(magnitude >= high) - np.where(to_numpy(high[:, 0]) == 0, zeros, 0)
        for name, count in (("flushed", flushed), ("overflowed", overflowed)):
            fractions[f"{format.name}_{name}"] = count / np.maximum(nonzero, 1)
    return fractions


def _count(entries: Array) -> np.ndarray:
    """How many of each row are not zero, or true."""
    return np.asarray(to_numpy(namespace(entries).count_nonzero(entries, axis=1)))


def first_lost(columns: dict[str, np.ndarray]) -> dict[str, int | None]:
    """By ``<format>_flushed_at`` and ``<format>_overflowed_at``: the first step on the way back, which has the largest t. There all
    nonzero entries of the gradient would be flushed to zero, or one would overflow; None where there is none. ``columns`` are those
    of ``lost_fractions``."""
    first_steps: dict[str, int | None] = {}
    for format in FORMATS:
        flushed, overflowed = columns[f"{format.name}_flushed"] == 1.0, columns[f"{format.name}_overflowed"] > 0.0
        for name, steps in (("flushed", np.flatnonzero(flushed)), ("overflowed", np.flatnonzero(overflowed))):
            first_steps[f"{format.name}_{name}_at"] = int(steps[-1]) + 1 if steps.size else None
    return first_steps


def _limit(number: float, exponent: np.ndarray, reference: Array) -> Array:
    """number * 2**exponent[t] as a column beside ``reference``, 0 or inf where that is out of range."""
    with np.errstate(over="ignore", under="ignore"):
        return like(np.ldexp(number, np.clip(exponent, -2000, 2000))[:, None], reference)
