"""What a run says of its network before training: the task, the recurrent matrix, growth, theory and narrower formats."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from rnn_core.arrays import to_numpy
from rnn_core.columns import NO_MATRIX, OWN_CELL, Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.flossing import Flossed
from rnn_core.experiment.measures.growth import growth_columns
from rnn_core.experiment.measures.prediction import (
    input_rms,
    prediction_columns,
    prediction_of_own,
    prediction_without_matrix,
    sigma_w2,
)
from rnn_core.experiment.measures.sensitivity import sensitivity_columns
from rnn_core.experiment.measures.states import StateMeasures
from rnn_core.experiment.measures.weights import weight_columns
from rnn_core.experiment.problem import Problem
from rnn_core.formats import FORMATS, first_lost
from rnn_core.initializers import sigma_max, spectral_radius
from rnn_core.theory import settled_window

TASK = (
    Column("task_input_size", "integer", "inputs", "D: inputs per step, as the task has them"),
    Column("task_loss_at", "name", "name", "Steps that carry a loss, as the task has them: last or every"),
    Column(
        "task_steps",
        "integer",
        "steps",
        "Time steps of a sequence, as the task has them: sequence_length, and what the task adds",
    ),
)


def task_columns(problem: Problem) -> dict[str, Any]:
    """What the task decided where the experiment left it open."""
    task = problem.task
    return {"task_input_size": task.input_size, "task_loss_at": task.loss_at, "task_steps": task.T}


MATRIX = (
    Column("measured_spectral_radius", "number", "1",
           "ρ of W_hh at the start: largest modulus of an eigenvalue; of a gated cell the largest of its gates; of an antisymmetric cell that of W_hh itself",
           null=NO_MATRIX),
    Column("sigma_max", "number", "1",
           "σ_max of W_hh at the start: largest singular value; of a gated cell the largest of its gates",
           null=NO_MATRIX),
    Column("sigma_w", "number", "1",
           "σ_w of W_hh at the start: √(‖W_hh‖²_F / H), what mean field goes by; of a gated cell the largest of its gates",
           null=NO_MATRIX),
    Column("sigma_u", "number", "1",
           "σ_u at the start: root mean square of the input part W_ih x_t over units, steps and samples",
           null=OWN_CELL),
)  # fmt: skip


_NOT_FLOSSED = "the setting flossing is 0"
FLOSSED = (
    Column("flossing_updates", "integer", "updates", "Updates of flossing that were made; fewer than the setting where a direction died", null=_NOT_FLOSSED),
    Column("flossing_loss_drawn", "number", "(ln per step)²",
           "Mean of λ_i² over the flossed exponents, over the first steps of the first sequences of the first batch, as the network was drawn; ∞ where a direction is dead",
           null=_NOT_FLOSSED),
    Column("flossing_loss", "number", "(ln per step)²", "The same after flossing, as the run starts", null=_NOT_FLOSSED),
)  # fmt: skip


def flossed_columns(done: Flossed | None) -> dict[str, Any]:
    """The columns ``FLOSSED``; None where nothing was flossed."""
    if done is None:
        return {"flossing_updates": None, "flossing_loss_drawn": math.nan, "flossing_loss": math.nan}
    return {"flossing_updates": done.updates, "flossing_loss_drawn": done.loss_drawn, "flossing_loss": done.loss}


def matrix_columns(W: np.ndarray, sigma_u: float) -> dict[str, float]:
    """The recurrent matrix (G·H, H), gate by gate, and the size of the input part."""
    blocks = np.split(W, W.shape[0] // W.shape[1])
    return {
        "measured_spectral_radius": max(map(spectral_radius, blocks)),
        "sigma_max": max(map(sigma_max, blocks)),
        "sigma_w": max(math.sqrt(sigma_w2(block)) for block in blocks),
        "sigma_u": sigma_u,
    }


def no_matrix_columns() -> dict[str, float]:
    """The same where there is no such matrix."""
    return dict.fromkeys((column.name for column in MATRIX), math.nan)


NARROWER_FORMATS = tuple(
    Column(f"{format.name}_{what}_at", "integer", "steps",
           f"At the start, the first t on the way back at which {format.name} would {verb}", null="there is none")
    for format in FORMATS
    for what, verb in (("flushed", "round all of ∂L/∂h_t to zero"), ("overflowed", "turn an entry of ∂L/∂h_t into inf"))
)  # fmt: skip

DEVIATION = (
    Column("deviation", "number", "ln per step", "growth_rate − predicted_rate", null="as either of them"),
)  # fmt: skip


def start_columns(
    problem: Problem,
    evaluation: Evaluation,
    trace: dict[str, np.ndarray],
    states: StateMeasures,
    also: Collection[str] = (),
) -> dict[str, Any]:
    """Everything that a run measures before its first update.

    Args:
        evaluation: of the first batch, with the parameters as drawn.
        trace: of that evaluation.
        states: the same, with slopes where there are any.
        also: what of the columns that must be asked for.
    """
    windows = states.windows or [settled_window(states.hidden_rms)]
    growth = growth_columns(problem, evaluation, windows)
    if problem.cell.opaque:  # it has no W_hh that could be measured, and the law at rest is all that theory says of it
        matrix, prediction = no_matrix_columns(), prediction_of_own(problem)
    elif not problem.cell.has_matrix:
        matrix = no_matrix_columns() | {"sigma_u": input_rms(evaluation)}
        prediction = prediction_without_matrix(evaluation)
    else:
        W = problem.cell.recurrent_matrix(to_numpy(evaluation.tape.params["weight_hh"]).astype(np.float64))
        matrix = matrix_columns(W, input_rms(evaluation))
        prediction = prediction_columns(problem, evaluation, states, windows, W, matrix["sigma_max"], matrix["sigma_u"])
    return {
        **task_columns(problem),
        **flossed_columns(problem.flossed),
        **matrix,
        **growth,
        **prediction,
        "deviation": growth["growth_rate"] - prediction["predicted_rate"],
        **first_lost(trace),
        **weight_columns(trace),
        **sensitivity_columns(problem, evaluation, states.hidden_rms, also),
    }
