"""Arrays of both libraries, and how far two of them are apart: by programs that share nothing with the engine's comparator."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, settings

import rnn_core as rc
from rnn_core.arrays import to_numpy

LIBRARIES = ("numpy", "torch")
DTYPES = ("float64", "float32")
EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
LOG10_2 = math.log10(2.0)

# The same examples every time, so that the same commit gives the same verdict; no deadline on a shared machine.
quick = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
thorough = settings(quick, max_examples=80)  # for tests that cost microseconds


def array(values: Any, library: str = "numpy", dtype: str = "float64") -> Any:
    """``values`` as an array of ``library``."""
    plain = np.asarray(values, dtype=dtype)
    return plain if library == "numpy" else torch.as_tensor(plain.copy())


def exact(x: Any) -> list[Fraction]:
    """The entries of a plain or scaled array as exact rational numbers, flat."""
    if not isinstance(x, rc.Scaled):
        return [Fraction(float(v)) for v in to_numpy(x).reshape(-1)]
    mantissa = to_numpy(x.mantissa)
    if isinstance(x.exponent, int):
        return [Fraction(float(v)) * Fraction(2) ** x.exponent for v in mantissa.reshape(-1)]
    rows = zip(mantissa, x.exponent, strict=True)
    return [Fraction(float(v)) * Fraction(2) ** int(e) for row, e in rows for v in np.asarray(row).reshape(-1)]


def relative(ours: Any, reference: Any) -> float:
    """‖ours - reference‖ / ‖reference‖ of plain arrays; 0 where both are zero, inf where only the reference is."""
    a, b = to_numpy(ours).astype(np.float64), to_numpy(reference).astype(np.float64)
    assert a.shape == b.shape
    size, difference = float(np.linalg.norm(b)), float(np.linalg.norm(a - b))
    return difference / size if size else (0.0 if difference == 0.0 else math.inf)


def worst_relative(ours: Any, reference: Any) -> float:
    """The largest ``relative`` over the leading index, time."""
    return max(relative(ours[t], reference[t]) for t in range(len(reference)))


def log_norm_error(ours: np.ndarray, gradients: np.ndarray) -> float:
    """The largest relative error of norms given by their logarithms; inf where only one of two norms is zero."""
    norms = np.linalg.norm(gradients.reshape(len(gradients), -1), axis=1)
    errors = [
        abs(math.expm1(o - math.log(n))) if n else math.inf
        for o, n in zip(ours, norms, strict=True)
        if n or o != -math.inf
    ]
    return max(errors, default=0.0)
