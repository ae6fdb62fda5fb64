"""Whose answer is right: a contender's numbers beside ours, ours beside the readable engine's, at every step and of every parameter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmarks.ours import OURS, READABLE
from benchmarks.work import Contender, Measured, Prepared, Work

# Relative: of ‖dL/dh_t‖ at every step, and of every parameter's gradient by its norm. Rounding adds up over 2000 steps.
TOLERANCE: Mapping[str, float] = {"float64": 1e-9, "float32": 1e-3}
CHECKED = 100  # steps over which our answer is compared with the readable engine's
MOVES = 5  # ways in which the weights are rounded otherwise
SPREADS = 10.0  # so many times what a rounding of the weights changes is no mistake


class WrongNumbers(Exception):
    """A contender computes something else."""


@dataclass(frozen=True)
class Errors:
    """How far one answer is from another: of ln ‖dL/dh_t‖ at every step, None without a trace, and of each parameter's gradient."""

    trace: np.ndarray | None
    params: dict[str, float]

    @property
    def worst_of_trace(self) -> float:
        """Of all steps."""
        return 0.0 if self.trace is None else float(self.trace.max())

    @property
    def worst(self) -> float:
        """The largest; inf where anything is inf or nan, or 0 that should not be."""
        return max([self.worst_of_trace, *self.params.values()])


def errors(measured: Measured, expected: Measured) -> Errors:
    """How far one answer is from another. A difference of logarithms is, where it is small, a relative error.

    Raises:
        WrongNumbers: they are not of the same shapes.
    """
    trace = None
    if measured.log_norm is not None and expected.log_norm is not None:
        if measured.log_norm.shape != expected.log_norm.shape:
            raise WrongNumbers(f"a trace of {measured.log_norm.shape}, not {expected.log_norm.shape}")
        with np.errstate(all="ignore"):
            trace = np.nan_to_num(np.abs(measured.log_norm - expected.log_norm), nan=np.inf, posinf=np.inf)
        trace[measured.log_norm == expected.log_norm] = 0.0  # two exact zeros, too
    if set(measured.params) != set(expected.params):
        raise WrongNumbers(f"gradients of {sorted(measured.params)}, not of {sorted(expected.params)}")
    return Errors(trace, {name: _of_param(name, measured, expected) for name in expected.params})


def _of_param(name: str, measured: Measured, expected: Measured) -> float:
    """‖measured_array - right‖ by the larger of the two norms, both in float64 and brought to the right one's exponent."""
    right, measured_array = (each.params[name].astype(np.float64) for each in (expected, measured))
    if measured_array.shape != right.shape:
        raise WrongNumbers(f"a gradient of {name} of shape {measured_array.shape}, not {right.shape}")
    shift = measured.exponents.get(name, 0) - expected.exponents.get(name, 0)
    with np.errstate(all="ignore"):
        measured_array = np.ldexp(measured_array, max(-4000, min(4000, shift)))
        if not np.isfinite(measured_array).all() or measured_array.any() != right.any():
            return np.inf
        largest = max(np.abs(right).max(), np.abs(measured_array).max()) or 1.0
        measured_array, right = measured_array / largest, right / largest
        return float(
            np.linalg.norm(measured_array - right) / (max(np.linalg.norm(measured_array), np.linalg.norm(right)) or 1.0)
        )


class Reference:
    """What our own answer is, once it is found to be the readable engine's over the first ``CHECKED`` steps.

    (Beyond the range of floats the readable engine would take most of the benchmark's time; the tests compare the two at all lengths.)

    A network whose gradient explodes amplifies every rounding on its way forward as well. Two right programs that add in another
    order then differ. So an answer is right, too, if it is as near as ``SPREADS`` times the answer for weights rounded otherwise.

    Raises:
        WrongNumbers: our answer is not the readable engine's.
    """

    def __init__(self, work: Work, by: Contender = OURS) -> None:
        self.work, self.by = work, by
        self.expected = only(by.forms[0].prepare([work]))
        self.tolerance = TOLERANCE[str(work.x.dtype)]
        if by is READABLE:
            return
        steps = work.x[:CHECKED]
        short = self if len(steps) == len(work.x) else Reference(replace(work, x=steps), READABLE)
        answer = only((READABLE if short is self else by).forms[0].prepare([short.work]))
        right, error = short.judge(answer)
        if not right:
            raise WrongNumbers(f"{by.name}: {error:.1e} away from the readable engine: it computes something else")

    @cached_property
    def spread(self) -> Errors:
        """Of the same program with each weight moved by its last digit, up or down: the largest of ``MOVES`` ways to move them.

        One way alone says little of a chaotic network: of six, one moved an answer by 4e-7 and another by 9e-6.
        """
        rng = np.random.default_rng(0)
        digit = np.finfo(self.work.x.dtype).eps
        errors_moved = []
        for _ in range(MOVES):
            moved = {
                name: (value * (1.0 + digit * rng.choice([-1.0, 1.0], value.shape))).astype(value.dtype)
                for name, value in self.work.params.items()
            }
            errors_moved.append(
                errors(only(self.by.forms[0].prepare([replace(self.work, params=moved)])), self.expected)
            )
        traces = [each.trace for each in errors_moved if each.trace is not None]
        params = {name: max(each.params[name] for each in errors_moved) for name in errors_moved[0].params}
        return Errors(np.max(traces, axis=0) if traces else None, params)

    def judge(self, measured: Measured) -> tuple[bool, float]:
        """(whether it is right, its worst error).

        Raises:
            WrongNumbers: it is not of the right shapes.
        """
        differences = errors(measured, self.expected)
        if differences.worst <= self.tolerance or not np.isfinite(differences.worst):
            return differences.worst <= self.tolerance, differences.worst
        of_params = max(differences.params.values()) <= self.tolerance + SPREADS * max(self.spread.params.values())
        return (
            of_params and differences.worst_of_trace <= self.tolerance + SPREADS * self.spread.worst_of_trace,
            differences.worst,
        )


def only(ready: Prepared) -> Measured:
    """What one run finds."""
    [measured] = ready.read(ready.call())
    return measured


def first_call(ready: Prepared, clock: Callable[[], float]) -> tuple[list[Measured], float]:
    """(what it finds, seconds that took)."""
    start = clock()
    result = ready.call()
    seconds = clock() - start
    return ready.read(result), seconds
