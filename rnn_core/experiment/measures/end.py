"""What a run says after training: the held-out loss, and where the run broke down."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rnn_core.arrays import Params
from rnn_core.columns import Column
from rnn_core.experiment.evaluation import Evaluation, loss_of
from rnn_core.experiment.problem import Problem

SOLVED_AT = 0.1  # a task is solved when the held-out loss is at most this fraction of the task's baseline
UNTRAINED = "a run that trains nothing"
BROKEN = f"{UNTRAINED}, or whose training broke down"

END = (
    Column("held_out_loss", "number", "1", "Loss on held-out sequences after training", null=BROKEN),
    Column("held_out_accuracy", "number", "fraction", "Accuracy on held-out sequences after training",
           null=f"{BROKEN}, or a regression"),
    Column("baseline_loss", "number", "1", "Held-out loss of the best prediction that remembers nothing of the sequence",
           null=UNTRAINED),
    Column("baseline_accuracy", "number", "fraction", "Held-out accuracy of always naming the commonest class",
           null=f"{UNTRAINED}, or a regression"),
    Column("solved", "flag", "true/false", "Held-out loss at most a tenth of baseline_loss", null=UNTRAINED),
)  # fmt: skip


def end_columns(problem: Problem, params: Params, finite: bool, memory_budget: int | None) -> dict[str, Any]:
    """The columns ``END``; nan and None where nothing was trained, or training broke down.

    Args:
        params: after the last update.
        finite: whether training came to its end.
    """
    end = untrained_columns()
    if problem.experiment.updates == 0:
        return end
    end |= {
        "baseline_loss": problem.task.baseline,
        "baseline_accuracy": problem.task.baseline_accuracy,
        "solved": False,
    }
    if not finite:
        return end
    x, target = problem.held_out()
    with np.errstate(over="ignore", invalid="ignore"):
        held_out = loss_of(problem, params, x, target, memory_budget)
    solved = bool(held_out.loss <= SOLVED_AT * end["baseline_loss"])
    return {**end, "held_out_loss": held_out.loss, "held_out_accuracy": held_out.accuracy, "solved": solved}


def untrained_columns() -> dict[str, Any]:
    """The columns ``END`` of a run that trains nothing."""
    return {
        "held_out_loss": math.nan,
        "held_out_accuracy": math.nan,
        "baseline_loss": math.nan,
        "baseline_accuracy": math.nan,
        "solved": None,
    }


BREAKDOWN = (
    Column("first_nonfinite_update", "integer", "updates", "First update with a loss, gradient or parameter that is not finite",
           null="all were finite"),
    Column("first_nonfinite_step", "integer", "steps",
           "In that update, the first time step whose state or output leaves plain floats; if there is none, the first step, going back, "
           "whose gradient is not finite",
           null="all were finite, or no single step was to blame"),
)  # fmt: skip


def breakdown_columns(last: Evaluation, finite: bool) -> dict[str, int | None]:
    """The columns ``BREAKDOWN``, from the evaluation of the last update."""
    return {
        "first_nonfinite_update": None if finite else last.update,
        "first_nonfinite_step": None if finite else last.first_nonfinite_step(),
    }
