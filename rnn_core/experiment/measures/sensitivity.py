"""How far the last state moves with an entry of ``weight_hh``, before training: a long memory makes it large though no gradient explodes."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from rnn_core.arrays import like, to_numpy
from rnn_core.bptt import backward
from rnn_core.columns import Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.problem import Problem
from rnn_core.experiment.settings import Experiment
from rnn_core.scaling import Scaled, at_one_exponent, log_norm
from rnn_core.streams import stream
from rnn_core.theory import memory_sensitivity

ASKED_BY = "parameter_sensitivity"
PROBES = 4  # error signals, each of which takes a backward pass
_NONE = "not asked for; a user's own cell or one without W_hh; sequences of several lengths"
_NO_LAW = "not asked for; another cell than indrnn with φ = identity, several layers, another task than white_noise, or ρ of 1 and more"

SENSITIVITY = (
    Column(
        "log10_parameter_sensitivity", "number", "log10",
        "At the start, log10 of the root mean square of ‖∂h_T/∂θ‖ over the entries θ of weight_hh and over samples, from error signals of random signs"
        " at the last state",
        null=_NONE, asked=ASKED_BY,
    ),
    Column(
        "log10_sensitivity_predicted", "number", "log10",
        "The same of a long sequence by the law of linear recurrences, E (∂h/∂λ)² of Zucchet & Orvieto (2024), with the weights and the inputs of the run",
        null=_NO_LAW, asked=ASKED_BY,
    ),
    Column("last_hidden_rms", "number", "1", "At the start, root mean square of h_T over units and samples", null=_NONE, asked=ASKED_BY),
    Column("last_hidden_rms_predicted", "number", "1", "The same of a long sequence by the same law, E h²", null=_NO_LAW, asked=ASKED_BY),
)  # fmt: skip


def sensitivity_columns(
    problem: Problem, evaluation: Evaluation, hidden_rms: np.ndarray, also: Collection[str]
) -> dict[str, Any]:
    """The columns ``SENSITIVITY`` where ``also`` asks for them; none elsewhere."""
    if ASKED_BY not in also:
        return {}
    nan = math.nan
    measured = last = nan
    if not problem.cell.opaque and problem.cell.has_matrix and evaluation.ends is None:
        measured, last = log10_sensitivity(problem, evaluation), float(hidden_rms[-1])
    derivative, state = _law(problem) if _has_law(problem.experiment) else (nan, nan)
    return {
        "log10_parameter_sensitivity": measured,
        "log10_sensitivity_predicted": 0.5 * math.log10(derivative) if derivative > 0.0 else nan,
        "last_hidden_rms": last,
        "last_hidden_rms_predicted": math.sqrt(state),
    }


def log10_sensitivity(problem: Problem, evaluation: Evaluation) -> float:
    """For signs z that are independent, E (∂(z · h_T)/∂θ)² = Σ over samples of ‖∂h_T/∂θ‖²; the mean over some draws of z."""
    tape, rng = evaluation.tape, stream(problem.experiment.seed, "sensitivity")
    shape, logs = tuple(tape.state["hidden"].shape), []
    for _ in range(PROBES):
        signs = like(2.0 * rng.integers(0, 2, shape) - 1.0, tape.x)
        gradient = at_one_exponent(backward(tape, grad_state={"hidden": signs}).params["weight_hh"])
        m, e = (gradient.mantissa, gradient.exponent) if isinstance(gradient, Scaled) else (gradient, 0)
        logs.append(2.0 * (log_norm(m, int(e)) - 0.5 * math.log(math.prod(m.shape) * shape[0])))
    return 0.5 * float(np.logaddexp.reduce(logs) - math.log(PROBES)) / math.log(10.0)


def _has_law(experiment: Experiment) -> bool:
    """Whether the units are linear recurrences with inputs whose correlation is known."""
    alone = experiment.cell == "indrnn" and experiment.layers == 1  # states of a layer below are no white inputs
    return alone and experiment.activation == "identity" and experiment.task == "white_noise"


def _law(problem: Problem) -> tuple[float, float]:
    """(E (∂h/∂λ)², E h²), means over the units, each with its own λ and variance of its input."""
    rates = to_numpy(problem.params["weight_hh"]).astype(np.float64)
    if not (np.abs(rates) < 1.0).all():
        return math.nan, math.nan
    variances = (to_numpy(problem.params["weight_ih"]).astype(np.float64) ** 2).sum(axis=1)
    of_unit = [memory_sensitivity(float(rate), problem.experiment.input_correlation) for rate in rates]
    derivative = float(np.mean([v * each.derivative for v, each in zip(variances, of_unit, strict=True)]))
    return derivative, float(np.mean([v * each.state for v, each in zip(variances, of_unit, strict=True)]))
