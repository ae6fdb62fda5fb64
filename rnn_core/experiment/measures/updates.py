"""The table ``updates``: one row for a training update, and the gradient that training uses."""

from __future__ import annotations

import math
from typing import Any

from rnn_core.arrays import Params
from rnn_core.clipping import Clipped, Gradient, compare, global_log_norm, parse_clipping
from rnn_core.columns import Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.settings import Experiment
from rnn_core.regularizers import omega
from rnn_core.scaling import add, times

LARGEST_LOG = 700.0  # exp of more would overflow

UPDATE = (
    Column("update", "integer", "updates", "Index of the update; 0 is the first"),
    Column("loss", "number", "1", "Training loss of the batch before the update, mean over batch and steps with a loss"),
    Column("accuracy", "number", "fraction", "Training accuracy of the batch", null="a regression"),
    Column("log10_norm_before", "number", "log10", "log10 of the global gradient norm before clipping"),
    Column("log10_norm_after", "number", "log10", "log10 of the global gradient norm after clipping"),
    Column("clip_factor", "number", "1", "Norm after over norm before; nan where the gradient was not finite"),
    Column(
        "truncation_bias",
        "number",
        "relative",
        "‖truncated − full‖/‖full‖ of all parameters' gradients, before clipping",
        null="truncation is not set",
    ),
    Column("omega", "number", "1", "Ω of the batch before the update: mean over it of Σ_t (‖J_t^T ∂L/∂h_t‖/‖∂L/∂h_t‖ − 1)², t = 2 … T, the full gradient's",
           null="the setting omega is 0"),
    Column("held_out_error", "number", "fraction", "Held-out sequences that are answered wrongly after this update",
           null="not looked at after this update; a task that does not say which answers are wrong"),
    Column("finite", "flag", "true/false", "Loss, gradient and new parameters are all finite; if not, training ends here"),
)  # fmt: skip


def update_columns(
    experiment: Experiment, evaluation: Evaluation, params: Params, memory: Any = None
) -> tuple[dict[str, Any], Clipped]:
    """(one row of ``UPDATE``, the gradient that training uses). ``finite`` does not speak of new parameters yet.

    Args:
        memory: what the clipping rule remembers of the updates before, ``Clipped.memory``.
    """
    grads, bias = _truncated(experiment, evaluation)
    value, more = _regularised(experiment, evaluation)
    clipped = _clipped(experiment, evaluation, grads, more, params, memory)
    row = {
        "update": evaluation.update,
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "log10_norm_before": clipped.log_norm_before / math.log(10.0),
        "log10_norm_after": clipped.log_norm_after / math.log(10.0),
        "clip_factor": clipped.factor,
        "truncation_bias": bias,
        "omega": value,
        "held_out_error": math.nan,
        "finite": math.isfinite(evaluation.loss) and clipped.finite,
    }
    return row, clipped


def _truncated(experiment: Experiment, evaluation: Evaluation) -> tuple[Gradient, float]:
    """(the gradient of truncated backpropagation, ‖truncated - full‖/‖full‖), or the full gradient and nan."""
    full = evaluation.param_grads
    if experiment.truncation is None:
        return full, math.nan
    used = {**full, **evaluation.backward(window=experiment.truncation)}
    difference = {name: add(used[name], full[name] / -1.0) for name in full}
    return used, math.exp(min(global_log_norm(difference) - global_log_norm(full), LARGEST_LOG))


def _regularised(experiment: Experiment, evaluation: Evaluation) -> tuple[float, Gradient]:
    """(Ω, alpha times its immediate gradient), or nan and nothing."""
    if not experiment.omega:  # None of a cell of the user's own
        return math.nan, {}
    value, gradients = omega(evaluation.tape, evaluation.gradients)
    return value, {name: times(g, experiment.omega) for name, g in gradients.items()}


def _clipped(
    experiment: Experiment,
    evaluation: Evaluation,
    grads: Gradient,
    more: Gradient,
    params: Params,
    memory: Any,
) -> Clipped:
    """``grads``, and ``more`` with them, clipped. The rule ``signal`` clips on the way back, which takes another backward pass."""
    clip = parse_clipping(experiment.clipping)
    if not clip.on_signal:
        return clip(_sum(grads, more), params, memory)
    signal = evaluation.backward(window=experiment.truncation, signal_threshold=clip.threshold)
    return compare(_sum(grads, more), _sum({**grads, **signal}, more))


def _sum(grads: Gradient, more: Gradient) -> Gradient:
    """The sum, where ``more`` has some of the parameters."""
    return {**grads, **{name: add(grads[name], g) for name, g in more.items()}} if more else grads
