"""Comparing the engine's evaluations with the oracles, as rows of the table ``checks``. torch is imported on first use."""

from __future__ import annotations

import time
from typing import Any

import rnn_core as rc
from rnn_core.arrays import Array, Params
from rnn_core.experiment import Evaluation, Problem

Row = dict[str, Any]


class CheckFailed(Exception):
    """The engine and an oracle disagree by more than the tolerance."""


def autograd_row(problem: Problem, params: Params, x: Array, target: Array, evaluation: Evaluation) -> Row:
    """The engine against PyTorch autograd over our equations. A result that is not finite must not be finite there either.

    Raises:
        CheckFailed: the engine's result is not finite and PyTorch's is.
    """
    from rnn_core.oracles import autograd

    try:
        error = autograd.check(problem, params, x, target, evaluation)
    except autograd.NotFinite:
        if not autograd.confirms_nonfinite(problem, params, x, target):
            raise CheckFailed(
                f"{describe(problem.experiment)}: the engine's result is not finite, PyTorch's is"
            ) from None
        return {"oracle": "torch.autograd", "relative_error": None, "where": "not finite, on both sides"}
    return {"oracle": "torch.autograd", "relative_error": error.relative, "where": error.where}


def require(row: Row, experiment: rc.Experiment, tolerance: float) -> None:
    """CheckFailed if the row's error is above the tolerance; nan is."""
    error = row["relative_error"]
    if error is not None and not error <= tolerance:
        raise CheckFailed(
            f"the engine disagrees with {row['oracle']}: relative error {error:.3g} at {row['where']}, "
            f"above the tolerance {tolerance:g}, in {describe(experiment)}"
        )


def describe(experiment: rc.Experiment) -> str:
    """The settings that tell one check from another."""
    e = experiment
    return (
        f"task={e.task} cell={e.cell} activation={e.activation} initializer={e.initializer} "
        f"spectral_radius={e.spectral_radius:g} sequence_length={e.sequence_length} dtype={e.dtype} "
        f"seed={e.seed} (run {e.key})"
    )


def settings_of(experiment: rc.Experiment, device: str, tolerance: float) -> Row:
    """The columns that say what was checked."""
    e = experiment
    return {
        "run_key": e.key,
        "task": e.task,
        "cell": e.cell,
        "activation": e.activation,
        "spectral_radius": e.spectral_radius,
        "sequence_length": e.sequence_length,
        "dtype": e.dtype,
        "device": device,
        "tolerance": tolerance,
    }


class Verifier:
    """Watches a run (``rnn_core.run(watch=…)``) and compares each evaluation that it is shown.

    Attributes:
        rows: one a comparison, without the run's regime, which is known only after it.
        seconds: time spent on comparing.
    """

    def __init__(self, device: str, tolerance: float) -> None:
        self.device, self.tolerance = device, tolerance
        self.rows: list[Row] = []
        self.seconds = 0.0

    def __call__(self, problem: Problem, params: Params, x: Array, target: Array, evaluation: Evaluation) -> None:
        start = time.perf_counter()
        row = autograd_row(problem, params, x, target, evaluation)
        require(row, problem.experiment, self.tolerance)
        self.rows.append({"stage": "sweep", **settings_of(problem.experiment, self.device, self.tolerance), **row})
        self.seconds += time.perf_counter() - start
