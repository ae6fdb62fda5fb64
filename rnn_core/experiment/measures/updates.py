"""The table ``updates``: one row for a training update, and the gradient that training uses."""

from __future__ import annotations

import math
from typing import Any

from rnn_core import bptt
from rnn_core.arrays import Params
from rnn_core.clipping import Clipped, Gradient, compare, global_log_norm, parse_clipping
from rnn_core.columns import Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.settings import Experiment
from rnn_core.scaling import add

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
    Column("held_out_error", "number", "fraction", "Held-out sequences that are answered wrongly after this update",
           null="not looked at after this update; a task that does not say which answers are wrong"),
    Column("finite", "flag", "true/false", "Loss, gradient and new parameters are all finite; if not, training ends here"),
)  # fmt: skip


def update_columns(experiment: Experiment, evaluation: Evaluation, params: Params) -> tuple[dict[str, Any], Gradient]:
    """(one row of ``UPDATE``, the gradient that training uses). ``finite`` does not speak of new parameters yet."""
    grads, bias = _truncated(experiment, evaluation)
    clipped = _clipped(experiment, evaluation, grads, params)
    row = {
        "update": evaluation.update,
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "log10_norm_before": clipped.log_norm_before / math.log(10.0),
        "log10_norm_after": clipped.log_norm_after / math.log(10.0),
        "clip_factor": clipped.factor,
        "truncation_bias": bias,
        "held_out_error": math.nan,
        "finite": math.isfinite(evaluation.loss) and clipped.finite,
    }
    return row, clipped.grads


def _truncated(experiment: Experiment, evaluation: Evaluation) -> tuple[Gradient, float]:
    """(the gradient of truncated backpropagation, ‖truncated - full‖/‖full‖), or the full gradient and nan."""
    full = evaluation.param_grads
    if experiment.truncation is None:
        return full, math.nan
    recurrent = bptt.backward(evaluation.tape, evaluation.grad_hidden, window=experiment.truncation).params
    used = {**full, **recurrent}
    difference = {name: add(used[name], full[name] / -1.0) for name in full}
    return used, math.exp(min(global_log_norm(difference) - global_log_norm(full), LARGEST_LOG))


def _clipped(experiment: Experiment, evaluation: Evaluation, grads: Gradient, params: Params) -> Clipped:
    """``grads`` clipped. The rule ``signal`` clips on the way back, which takes another backward pass."""
    clip = parse_clipping(experiment.clipping)
    if not clip.on_signal:
        return clip(grads, params)
    tape, direct = evaluation.tape, evaluation.grad_hidden
    signal = bptt.backward(tape, direct, window=experiment.truncation, signal_threshold=clip.threshold)
    return compare(grads, {**grads, **signal.params})
