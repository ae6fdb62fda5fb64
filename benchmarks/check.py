"""Nobody is timed on wrong work: a contender's numbers must be the readable engine's before its time counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.work import Measured

# Relative: of ‖dL/dh_t‖ at every step, and of every parameter's gradient by its norm. Rounding adds up over 500 steps.
TOLERANCE: Mapping[str, float] = {"float64": 1e-9, "float32": 1e-3}


class WrongNumbers(Exception):
    """A contender computes something else."""


def worst_error(measured: Measured, expected: Measured) -> float:
    """The largest relative error of all steps and parameters; nan if anything is nan."""
    errors = []
    if measured.log_norm is not None and expected.log_norm is not None:
        if measured.log_norm.shape != expected.log_norm.shape:
            raise WrongNumbers(f"a trace of {measured.log_norm.shape}, not {expected.log_norm.shape}")
        errors.append(np.abs(np.expm1(measured.log_norm - expected.log_norm)).max())
    if set(measured.params) != set(expected.params):
        raise WrongNumbers(f"gradients of {sorted(measured.params)}, not of {sorted(expected.params)}")
    for name, value in expected.params.items():
        right = value.astype(np.float64)
        if measured.params[name].shape != right.shape:
            raise WrongNumbers(f"a gradient of {name} of shape {measured.params[name].shape}, not {right.shape}")
        errors.append(np.linalg.norm(measured.params[name] - right) / np.linalg.norm(right))
    return float(np.max(errors))


def check(
    name: str, measured: Sequence[Measured], expected: Sequence[Measured], dtype: str, trace: bool = True
) -> float:
    """The worst relative error of all runs.

    Raises:
        WrongNumbers: it is above the tolerance, or a trace is missing that should be there.
    """
    if len(measured) != len(expected):
        raise WrongNumbers(f"{name}: {len(measured)} runs, not {len(expected)}")
    if trace and any(each.log_norm is None for each in measured):
        raise WrongNumbers(f"{name}: no trace")
    try:
        worst = max((worst_error(*pair) for pair in zip(measured, expected, strict=True)), key=_nan_first)
    except WrongNumbers as error:
        raise WrongNumbers(f"{name}: {error}") from error
    if not worst <= TOLERANCE[dtype]:
        raise WrongNumbers(
            f"{name}: a relative error of {worst:.1e} in {dtype}, above {TOLERANCE[dtype]:.0e}: it computes something else"
        )
    return worst


def _nan_first(value: float) -> float:
    return np.inf if np.isnan(value) else value
