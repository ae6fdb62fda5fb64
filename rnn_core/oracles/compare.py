"""The one comparator: relative, per time step and per parameter, ``atol = 0``.

With an absolute tolerance a gradient that has vanished to 1e-16 passes whatever it is. Here the error of a step is
‖ours - reference‖ / ‖reference‖ over that step's entries, taken at a common exponent so that it holds beyond float range.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rnn_core.arrays import Array, to_numpy
from rnn_core.oracles import places
from rnn_core.scaling import LN2, Scaled, exponent_of, mantissa_and_exponents, times_power_of_two


class Abstains(Exception):
    """The oracle has nothing to compare with; the message says why."""


class Error(NamedTuple):
    """A relative error and where it is: ``hidden, t = 7`` or a parameter's name."""

    relative: float
    where: str


def relative_error(ours: Array | Scaled, reference: Array | Scaled) -> float:
    """‖ours - reference‖ / ‖reference‖ of two arrays with one exponent each; 0 if both are zero, inf if only the reference is.

    inf or nan on either side gives inf: what is not finite agrees with nothing.
    """
    (a, e_a), (b, e_b) = _parts(ours), _parts(reference)
    if a.shape != b.shape:
        raise ValueError(f"shapes {a.shape} and {b.shape} cannot be compared")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return math.inf
    top = exponent_of(b)
    if top is None:
        return 0.0 if not a.any() else math.inf
    common = top + e_b
    b = times_power_of_two(b, e_b - common)
    with np.errstate(over="ignore"):
        a = times_power_of_two(a, e_a - common)
        return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def worst_step(name: str, ours: Array | Scaled, reference: Array | Scaled) -> Error:
    """The largest ``relative_error`` over the leading index, which is time: t = 1 … T."""
    if tuple(ours.shape) != tuple(reference.shape):
        raise ValueError(f"{name}: shapes {tuple(ours.shape)} and {tuple(reference.shape)} cannot be compared")
    errors = step_errors(ours, reference)
    t = int(np.argmax(errors))
    return Error(float(errors[t]), places.at_step(name, t + 1))


def step_errors(ours: Array | Scaled, reference: Array | Scaled) -> np.ndarray:
    """``relative_error`` for every leading index, float64 (T,)."""
    return _errors(*_rows(ours), *_rows(reference))


def log_distance(ours: Array | Scaled, reference: Array | Scaled) -> np.ndarray:
    """ln ‖ours - reference‖ for every leading index, float64 (T,); -inf where they are equal, nan where one is not finite."""
    (a, e_a), (b, e_b) = _rows(ours), _rows(reference)
    common = np.maximum(_tops(a, e_a), _tops(b, e_b))
    with np.errstate(all="ignore"):
        difference = np.abs(_at(a, e_a - common) - _at(b, e_b - common))
        largest = difference.max(axis=1, initial=0.0)
        scaled = difference / np.where(largest > 0.0, largest, 1.0)[:, None]  # their squares stay in range
        distance = np.log(np.linalg.norm(scaled, axis=1)) + np.log(largest) + common * LN2
    return np.where(np.isfinite(largest), distance, math.nan)


def _tops(m: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """The exponent of the largest entry of every row; far below all others where there is none."""
    with np.errstate(invalid="ignore"):
        return np.where(m.any(axis=1), np.frexp(np.abs(m).max(axis=1, initial=0.0))[1] + exponent, -(2**40))


def _at(m: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """Every row times 2 to its exponent."""
    powers = np.ldexp(1.0, exponent := np.clip(exponent, -4000, 4000).astype(np.int64))
    if np.isfinite(powers).all() and powers.all():  # a product takes a tenth of the time, and is as exact
        return np.asarray(m * powers[:, None])
    return np.asarray(np.ldexp(m, exponent[:, None]))


def _rows(x: Array | Scaled) -> tuple[np.ndarray, np.ndarray]:
    """(float64 (T, entries), an exponent for every t)."""
    mantissa, exponent = mantissa_and_exponents(x)
    return to_numpy(mantissa).astype(np.float64, copy=False).reshape(len(exponent), -1), exponent


def _errors(a: np.ndarray, e_a: np.ndarray, b: np.ndarray, e_b: np.ndarray) -> np.ndarray:
    """``relative_error`` of every row, all rows at once: a study compares millions of them."""
    finite = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    _, top = np.frexp(np.abs(b).max(axis=1, initial=0.0))
    with np.errstate(all="ignore"):
        scaled = _at(b, -top)  # its largest entry is one of size 1
        difference = _at(a, np.clip(e_a - e_b, -4000, 4000) - top) - scaled
        errors = np.linalg.norm(difference, axis=1) / np.linalg.norm(scaled, axis=1)
    errors[~b.any(axis=1)] = math.inf
    errors[~a.any(axis=1) & ~b.any(axis=1)] = 0.0
    errors[~finite] = math.inf  # agrees with nothing
    return np.asarray(errors)


def worst(errors: list[Error]) -> Error:
    """The largest of several errors."""
    return max(errors, key=lambda error: error.relative)


def _parts(x: Array | Scaled) -> tuple[np.ndarray, int]:
    if isinstance(x, Scaled):
        if not isinstance(x.exponent, int):
            raise TypeError("compare arrays with an exponent per step by worst_step")
        return to_numpy(x.mantissa).astype(np.float64), x.exponent
    return to_numpy(x).astype(np.float64), 0
