"""What theory predicts of the growth rate, before training."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from rnn_core.arrays import to_numpy
from rnn_core.columns import Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.measures.states import StateMeasures, has_slopes, settled_slopes
from rnn_core.experiment.problem import Problem
from rnn_core.initializers import spectral_radius
from rnn_core.theory import (
    MIXING_INITIALIZERS,
    STEADY_BELOW,
    fixed_point,
    linear_rate,
    operating_rate,
    slope_fluctuation,
)

PREDICTION = (
    Column("linear_rate", "number", "ln per step", "Linear law: ln ρ, for a residual cell ln ρ of (1 − λ) I + η W_hh",
           null="a gated cell, or one of the user's own"),
    Column("bound_rate", "number", "ln per step",
           "Upper bound for every step: Pascanu's ln(γ σ_max), for a residual cell ln(1 − λ + η γ σ_max)",
           null="a gated cell, or one of the user's own"),
    Column("mean_field_rate", "number", "ln per step",
           "Mean-field slope ½ ln χ₁, on the branch that a zero state leads to",
           null="another cell than vanilla, or an initialiser whose units never mix (identity)"),
    Column("bistable", "flag", "true/false",
           "Mean field has another end than that of mean_field_rate, for a network that starts from large states",
           null="as mean_field_rate"),
    Column("operating_rate", "number", "ln per step",
           "Operating point: ln ρ(D̄ W_hh), D̄ the slopes φ′(a_t) of every unit averaged over settled steps and samples;"
           " for a residual cell ln ρ of (1 − λ) I + η D̄ W_hh. −inf where all slopes are zero",
           null="a gated cell, one of the user's own, or not a number"),
    Column("slope_fluctuation", "number", "1",
           "How much slopes change: mean over units of Var φ′(a_t) over settled steps and samples, over the mean over units of E φ′(a_t)²",
           null="a gated cell, one of the user's own, all slopes zero, or not a number"),
    Column("predicted_rate", "number", "ln per step",
           f"linear_rate for φ = identity; operating_rate where slope_fluctuation is below {STEADY_BELOW:g}; mean_field_rate otherwise",
           null="none of them applies: see predicted_by"),
    Column("predicted_by", "name", "name", "What predicted_rate is: linear law, operating point or mean field",
           null="as predicted_rate"),
)  # fmt: skip


def prediction_columns(
    problem: Problem,
    evaluation: Evaluation,
    states: StateMeasures,
    windows: list[slice],
    W: np.ndarray,
    sigma_max: float,
) -> dict[str, Any]:
    """The columns ``PREDICTION``; nan where theory says nothing, as for gated cells.

    Args:
        W: the recurrent matrix, float64.
        sigma_max: its largest singular value; of a gated cell the largest of its gates.
    """
    cell = problem.cell
    jacobian, bound = cell.jacobian(W), cell.step_bound(sigma_max)
    linear = math.nan if jacobian is None else linear_rate(spectral_radius(jacobian))
    operating = fluctuation = math.nan
    if has_slopes(cell):
        window = slice(min(each.start for each in windows), max(each.stop for each in windows))
        slopes = settled_slopes(cell, evaluation.tape, states, window)
        at_mean_slopes = cell.jacobian(W, slopes.mean)
        assert at_mean_slopes is not None
        operating, fluctuation = operating_rate(at_mean_slopes), slope_fluctuation(slopes)
    elif jacobian is not None:  # all slopes are 1
        operating, fluctuation = linear, 0.0
    mean_field, bistable = _mean_field(problem, W, evaluation)
    rates = Rates(linear, math.nan if bound is None else math.log(bound), mean_field, bistable, operating, fluctuation)
    return columns_of_rates(rates, linear_network=jacobian is not None and cell.phi.name == "identity")


def no_prediction_columns() -> dict[str, Any]:
    """The columns ``PREDICTION`` of a cell of which nothing but its step is known."""
    nan = math.nan
    return columns_of_rates(Rates(nan, nan, nan, None, nan, nan), linear_network=False)


class Rates(NamedTuple):
    """What every theory says, in the words of its column; nan where it says nothing."""

    linear: float
    bound: float
    mean_field: float
    bistable: bool | None
    operating: float
    fluctuation: float


def columns_of_rates(rates: Rates, linear_network: bool) -> dict[str, Any]:
    """The columns ``PREDICTION``, from what the theories say."""
    linear, _, mean_field, _, operating, fluctuation = rates
    if linear_network:
        predicted, by = linear, "linear law"
    elif fluctuation < STEADY_BELOW:
        predicted, by = operating, "operating point"
    else:
        predicted, by = mean_field, "mean field"
    return {
        "linear_rate": linear,
        "bound_rate": rates.bound,
        "mean_field_rate": mean_field,
        "bistable": rates.bistable,
        "operating_rate": operating,
        "slope_fluctuation": fluctuation,
        "predicted_rate": predicted,
        "predicted_by": None if math.isnan(predicted) else by,
    }


def _mean_field(problem: Problem, W: np.ndarray, evaluation: Evaluation) -> tuple[float, bool | None]:
    """(the mean-field rate, whether there is another); (nan, None) where mean field does not apply."""
    e = problem.experiment
    if e.cell != "vanilla" or e.initializer not in MIXING_INITIALIZERS:
        return math.nan, None
    x = to_numpy(evaluation.tape.x).astype(np.float64)
    ended = np.zeros(1, dtype=bool) if evaluation.ends is None else np.arange(len(x))[:, None] >= evaluation.ends
    rows = x[~ended] if ended.any() else x.reshape(-1, x.shape[-1])  # of ragged sequences without their padding
    W_ih = to_numpy(problem.params["weight_ih"]).astype(np.float64)
    sigma_u2 = float(np.trace(W_ih @ (rows.T @ rows) @ W_ih.T)) / (len(rows) * len(W_ih))  # mean square of W_ih x_t
    limit = fixed_point(problem.cell.phi, sigma_w2=sigma_w2(W), sigma_u2=sigma_u2)
    return limit.rate, limit.bistable


def sigma_w2(W: np.ndarray) -> float:
    """sigma_w² = ‖W‖²_F / H."""
    return float((W**2).sum() / len(W))
