"""What a run says after training: how it answers held-out sequences, and where it broke down."""

from __future__ import annotations

import math
from typing import Any

from rnn_core.columns import Column
from rnn_core.experiment.evaluation import Evaluation, HeldOut
from rnn_core.experiment.problem import Problem
from rnn_core.experiment.settings import Experiment

SOLVED_AT = 0.1  # a task is solved when the held-out loss is at most this fraction of the task's baseline
UNTRAINED = "a run that trains nothing"
BROKEN = f"{UNTRAINED}, or whose training broke down"

END = (
    Column("held_out_loss", "number", "1", "Loss on held-out sequences after training", null=BROKEN),
    Column("held_out_accuracy", "number", "fraction", "Accuracy on held-out sequences after training",
           null=f"{BROKEN}, or a regression"),
    Column("held_out_error", "number", "fraction",
           "Held-out sequences that are answered wrongly after training: of a classification those with any wrong label; as the task says",
           null=f"{BROKEN}, or a task that does not say which answers are wrong"),
    Column("success", "flag", "true/false", "held_out_error below success_below, when training ended",
           null="success_below is not set; a run that trains nothing"),
    Column("updates_to_success", "integer", "updates",
           "Updates after which held_out_error was below success_below for the first time that it was looked at",
           null="no success: the updates ended before, or training broke down; or success_below is not set"),
    Column("baseline_loss", "number", "1", "Held-out loss of the best prediction that remembers nothing of the sequence",
           null=UNTRAINED),
    Column("baseline_accuracy", "number", "fraction",
           "Held-out accuracy of always naming the commonest class; where classes are equally likely, 1/C",
           null=f"{UNTRAINED}, or a regression"),
    Column("solved", "flag", "true/false", "Held-out loss at most a tenth of baseline_loss", null=UNTRAINED),
)  # fmt: skip


def looks_at_held_out(experiment: Experiment, update: int) -> bool:
    """Whether the held-out sequences are evaluated after this update, counted from 0."""
    made, every = update + 1, experiment.validate_every
    return 0 < made <= experiment.updates and (made == experiment.updates or (every is not None and made % every == 0))


def succeeds(experiment: Experiment, held_out: HeldOut | None) -> bool:
    """Whether the network answers as few sequences wrongly as the experiment asks."""
    return held_out is not None and experiment.success_below is not None and held_out.error < experiment.success_below


def end_columns(problem: Problem, held_out: HeldOut | None, updates: int) -> dict[str, Any]:
    """The columns ``END``; nan and None where nothing was trained, or training broke down.

    Args:
        held_out: after the last update; None where training did not come to an end.
        updates: that were made.
    """
    end, experiment = untrained_columns(), problem.experiment
    if experiment.updates == 0:
        return end
    end |= {
        "baseline_loss": problem.task.baseline,
        "baseline_accuracy": problem.task.baseline_accuracy,
        "solved": False,
    }
    if experiment.success_below is not None:
        end["success"] = succeeds(experiment, held_out)
        end["updates_to_success"] = updates if end["success"] else None
    if held_out is None:
        return end
    measured = {f"held_out_{name}": value for name, value in held_out._asdict().items()}
    return {**end, **measured, "solved": bool(held_out.loss <= SOLVED_AT * end["baseline_loss"])}


def untrained_columns() -> dict[str, Any]:
    """The columns ``END`` of a run that trains nothing."""
    return {
        "held_out_loss": math.nan,
        "held_out_accuracy": math.nan,
        "held_out_error": math.nan,
        "success": None,
        "updates_to_success": None,
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
