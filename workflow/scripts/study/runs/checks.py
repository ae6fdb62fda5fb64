"""Comparing the engine's evaluations with the oracles, as rows of the table ``checks``. torch is imported on first use."""

from __future__ import annotations

import time
from typing import Any

import rnn_core as rc
from rnn_core.arrays import Array, Params
from rnn_core.cells import CELLS
from rnn_core.experiment import WITHOUT_MATRIX, Evaluation, Problem, growth_of
from rnn_core.oracles.compare import Abstains
from rnn_core.theory import regime
from study.runs import identities

Row = dict[str, Any]


class CheckFailed(Exception):
    """The engine and an oracle disagree by more than the tolerance."""


def autograd_row(problem: Problem, params: Params, x: Array, target: Array, evaluation: Evaluation) -> Row:
    """The engine against PyTorch's autograd: the worst error, or why there is none."""
    from rnn_core.oracles import autograd

    if isinstance(evaluation.gradients.hidden, rc.NotKept):
        return {"oracle": "torch.autograd", "relative_error": None, "where": "not compared: no room for every step"}
    try:
        error = autograd.check(problem, params, x, target, evaluation)
    except Abstains as reason:
        return {"oracle": "torch.autograd", "relative_error": None, "where": str(reason)}
    return {"oracle": "torch.autograd", "relative_error": error.relative, "where": error.where}


def omega_row(problem: Problem, params: Params, x: Array, evaluation: Evaluation) -> Row | None:
    """Ω and its gradient against PyTorch's autograd; None of a run without it."""
    from rnn_core.oracles import omega

    if not problem.experiment.omega:
        return None
    name = "torch.autograd of Ω"
    if isinstance(evaluation.gradients.hidden, rc.NotKept):
        return {"oracle": name, "relative_error": None, "where": "not compared: no room for every step"}
    try:
        error = omega.check(problem, params, x, evaluation)
    except Abstains as reason:
        return {"oracle": name, "relative_error": None, "where": str(reason)}
    return {"oracle": name, "relative_error": error.relative, "where": error.where}


def flossing_row(problem: Problem, params: Params, x: Array) -> Row | None:
    """The loss of flossing and its gradient against PyTorch's autograd through every QR; None of a run that is not flossed."""
    from rnn_core.oracles import flossing

    if not problem.experiment.flossing:
        return None
    name = "torch.autograd of flossing"
    try:
        error = flossing.check(problem, params, x)
    except Abstains as reason:
        return {"oracle": name, "relative_error": None, "where": str(reason)}
    return {"oracle": name, "relative_error": error.relative, "where": error.where}


def module_row(problem: Problem, x: Array, grad_hidden: Array, tolerance: float) -> Row | None:
    """The engine against PyTorch's own module; None where PyTorch has none that can be compared."""
    from rnn_core.oracles import torch_modules

    module = torch_modules.module_of(problem)
    if module is None:
        return None
    try:
        error = torch_modules.check(problem, x, grad_hidden, tolerance)
    except Abstains:
        return None
    return {"oracle": module, "relative_error": error.relative, "where": error.where}


def spectra_rows(problem: Problem, evaluation: Evaluation) -> list[Row]:
    """The exact identities that the spectra of a network must obey, and those of a linear network whose eigenvalues are known.

    Where rounding decides there is no row.
    """
    errors = [*identities.check(problem, evaluation), identities.check_eigenvalues()]
    return [
        {"oracle": f"spectra: {each.name}", "relative_error": each.relative, "where": each.where} for each in errors
    ]


def require(row: Row, experiment: rc.Experiment, tolerance: float) -> None:
    """Refuse a row whose error is above the tolerance, or nan.

    Raises:
        CheckFailed: it is.
    """
    error = row["relative_error"]
    if error is not None and not error <= tolerance:
        raise CheckFailed(
            f"the engine disagrees with {row['oracle']}: relative error {error:.3g} at {row['where']}, "
            f"above the tolerance {tolerance:g}, in {describe(experiment, row.get('run_key'))}"
        )


def key_of(problem: Problem) -> str:
    """The run's key, as in every table. It depends on the data of a task that is not generated."""
    data = problem.task.data.digest if isinstance(problem.task, rc.tasks.SequenceTask) else None
    return problem.experiment.key_with(data)


def describe(experiment: rc.Experiment, key: str | None = None) -> str:
    """The settings that tell one check from another, and the run's key; without ``key`` the key of the settings alone."""
    e = experiment
    cell = f"cell={e.cell}" + (f" {e.cell_options}" if e.cell_options else "")
    if e.cell in CELLS:  # a user's own has none of these
        cell += f" activation={e.activation}"
    if e.cell in CELLS and e.cell not in WITHOUT_MATRIX:
        scale = "spectral_radius" if e.weight_scale is None else "weight_scale"
        cell += f" initializer={e.initializer} {scale}={'as drawn' if getattr(e, scale) is None else f'{getattr(e, scale):g}'}"
    cell += f" layers={e.layers}" if (e.layers or 1) > 1 else ""
    cell += " bidirectional" if e.bidirectional else ""
    return (
        f"task={e.task} {cell} sequence_length={e.sequence_length} dtype={e.dtype} seed={e.seed} (run {key or e.key})"
    )


def settings_of(problem: Problem, evaluation: Evaluation, tolerance: float) -> Row:
    """The columns that say what was checked."""
    e = problem.experiment
    return {
        "run_key": key_of(problem),
        "update": evaluation.update,
        "regime": regime(growth_of(problem, evaluation).ratio) if evaluation.tape.x.shape[0] > 1 else None,
        "task": e.task,
        "cell": e.cell,
        "activation": e.activation,
        "spectral_radius": e.spectral_radius,
        "sequence_length": e.sequence_length,
        "dtype": e.dtype,
        "device": problem.device,
        "tolerance": tolerance,
    }


class Verifier:
    """Watches a run (``rnn_core.run(watch=…)``) and compares each evaluation that it is shown.

    Attributes:
        rows: one a comparison.
        seconds: time spent on comparing.
    """

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.rows: list[Row] = []
        self.seconds = 0.0

    def __call__(self, problem: Problem, params: Params, x: Array, target: Array, evaluation: Evaluation) -> None:
        start = time.perf_counter()
        settings = {"stage": "sweep", **settings_of(problem, evaluation, self.tolerance)}
        compared = autograd_row(problem, params, x, target, evaluation), omega_row(problem, params, x, evaluation)
        for check in filter(None, compared):
            row = {**settings, **check}
            require(row, problem.experiment, self.tolerance)
            self.rows.append(row)
        self.seconds += time.perf_counter() - start
