"""What joins the two directions of a layer. Derivation: rnn_core/README.md, section 2.5.

The forward direction, number 0, reads its inputs from the first step to the last; the reverse direction, number 1, from the last to the
first. Each is a network of one direction in its own time: s = t forward, s = T + 1 - t in reverse. Here rows are turned from one time to the
other, and what both directions have of a step is put side by side, cut in two again, or added.
"""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np

from rnn_core.arrays import Array, namespace
from rnn_core.scaling import Scaled, all_finite, exponents_of, mantissa_and_exponents, plain_if_fits

DIRECTIONS = ("forward", "reverse")

Rows = Array | Scaled  # (T, B, …), with an exponent a step where plain floats do not hold them


def in_own_time(rows: Rows, direction: int) -> Rows:
    """Rows by the steps t = 1 … T in the order in which a direction takes them; or from its own order back to that of t."""
    if not direction:
        return rows
    if isinstance(rows, Scaled):
        mantissa, exponent = mantissa_and_exponents(rows)
        return Scaled(in_own_time(mantissa, direction), exponent[::-1])
    return namespace(rows).flip(rows, axis=0)


def side_by_side(rows: list[Rows]) -> Rows:
    """(T, B, H) of every direction, all by t, as (T, B, H of all).

    Where plain floats do not hold them a step has one exponent for both. What lies further below the other direction than the range of
    the dtype is then 0.
    """
    if len(rows) == 1:
        return rows[0]
    if not any(isinstance(each, Scaled) for each in rows):
        return namespace(rows[0]).concat(rows, axis=-1)
    mantissas, exponent = _at_one_exponent_a_step(rows)
    return plain_if_fits(namespace(mantissas[0]).concat(mantissas, axis=-1), exponent)


def part_of_direction(rows: Rows, direction: int, directions: int) -> Rows:
    """The units of one direction, (T, B, H) of ``side_by_side``."""
    if directions == 1:
        return rows
    H = rows.shape[2] // directions
    return rows[:, :, direction * H : (direction + 1) * H]


def added(rows: list[Rows]) -> Rows:
    """The sum of what several directions send, all by t, (T, B, …)."""
    if len(rows) == 1:
        return rows[0]
    if not any(isinstance(each, Scaled) for each in rows):
        with np.errstate(over="ignore", invalid="ignore"):
            total: Array = reduce(add, rows)
        if all_finite(total) or not all_finite(*rows):
            return total
    mantissas, exponent = _at_one_exponent_a_step(rows)
    return plain_if_fits(reduce(add, mantissas), exponent)


def _at_one_exponent_a_step(rows: list[Rows]) -> tuple[list[Array], np.ndarray]:
    """(mantissas, int64 (T,)): each times 2**exponent is what it was, and the largest entry of a step is of size 1."""
    pairs = [mantissa_and_exponents(each) for each in rows]
    sizes = np.fmax.reduce([exponents_of(mantissa) + exponent for mantissa, exponent in pairs])  # nan: no size
    common = np.nan_to_num(sizes).astype(np.int64)
    return [Scaled(mantissa, exponent - common).to_float() for mantissa, exponent in pairs], common
