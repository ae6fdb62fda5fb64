"""How the gradient grows on its way back through time, before training."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_core import bptt, ragged
from rnn_core.columns import Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.problem import Problem
from rnn_core.theory import REGIME_DECADES, Growth, growth, ragged_growth, regime

GROWTH = (
    Column("log10_gradient_ratio", "number", "log10",
           "log10(‖∂L/∂h_1‖/‖∂L/∂h_T‖) at the start, for the last step's loss alone: of the whole sequence, norm over the batch"),
    Column("growth_rate", "number", "ln per step",
           "Mean change of ln ‖∂L/∂h_t‖ of one sample per step back inside the settled window, mean over the samples whose gradient"
           " is not zero there; for the last step's loss alone. −inf where all are zero. Once the state settles it depends on neither B nor T;"
           " log10_gradient_ratio and regime are of the whole sequence and of the norm over the batch",
           null="sequences of one step, or not a number"),
    Column("growth_rate_error", "number", "ln per step",
           "Standard error of growth_rate: the larger of that by batch means over time and that of the mean over samples",
           null="sequences of few steps and a single sample whose gradient is not zero"),
    Column("settled_from", "integer", "steps", "First t of the settled window: h_t has its usual size from there on",
           null="sequences of one step"),
    Column("settled_to", "integer", "steps", "Last t of the settled window: from there back the gradient has forgotten the readout",
           null="sequences of one step"),
    Column("dead_samples", "number", "fraction",
           "Samples of the batch whose ∂L/∂h_t is exactly zero at settled_from; growth_rate leaves them out",
           null="sequences of one step"),
    Column("regime", "name", "name",
           "vanishing, stable or exploding: log10_gradient_ratio (whole sequence, norm over the batch)"
           f" below −{REGIME_DECADES:g}, between, above {REGIME_DECADES:g}",
           null="sequences of one step, or not a number"),
)  # fmt: skip


def growth_columns(problem: Problem, evaluation: Evaluation, windows: list[slice]) -> dict[str, Any]:
    """The columns ``GROWTH``.

    Args:
        windows: the settled window, as indices t - 1; of ragged sequences one for each.
    """
    measured = growth_of(problem, evaluation, windows[0] if evaluation.ends is None else windows)
    window = slice(min(each.start for each in windows), max(each.stop for each in windows))
    return columns_of_growth(measured, window, several=evaluation.tape.x.shape[0] > 1)


def columns_of_growth(measured: Growth, window: slice, several: bool = True) -> dict[str, Any]:
    """The same of a growth that has been measured; ``several`` says that sequences have more than one step."""
    return {
        "settled_from": window.start + 1 if several else None,
        "settled_to": window.stop if several else None,
        "growth_rate": measured.rate,
        "growth_rate_error": measured.error,
        "dead_samples": measured.dead,
        "log10_gradient_ratio": measured.ratio,
        "regime": regime(measured.ratio) if several else None,  # one step has no way back
    }


def growth_of(problem: Problem, evaluation: Evaluation, window: slice | list[slice] | None = None) -> Growth:
    """How the gradient of every sample grows on its way back, of the last step's loss alone.

    It is the same whatever other steps carry a loss. The last step of a ragged sequence is its own (``ragged_growth``).

    Args:
        window: the indices t - 1 that count (``settled_window``); for ragged sequences one for each. None is all.
    """
    norms = norms_of_last_step(problem, evaluation)
    if evaluation.ends is not None:
        assert not isinstance(window, slice)
        return ragged_growth(norms, evaluation.ends, window)
    assert not isinstance(window, list)
    return growth(norms, window)


def norms_of_last_step(problem: Problem, evaluation: Evaluation) -> np.ndarray:
    """ln ‖dL/dh_t^(b)‖ of the last step's loss alone, float64 (T, B); the last step of a ragged sequence is its own."""
    if problem.task.loss_at == "last":
        return evaluation.gradients.going_back.log_norm_samples
    if evaluation.ends is not None:
        at_ends = ragged.at_ends(evaluation.grad_hidden, evaluation.ends)
        return bptt.backward(evaluation.tape, at_ends).going_back.log_norm_samples
    T = evaluation.tape.x.shape[0]
    last = evaluation.grad_hidden(T - 1, T)
    assert last is not None
    main = evaluation.tape.cell.state_names[0]
    return bptt.backward(evaluation.tape, grad_state={main: last[0]}).going_back.log_norm_samples
