"""What theory predicts of the growth rate, before training."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from rnn_core.activations import Activation
from rnn_core.arrays import to_numpy
from rnn_core.cells import Cell
from rnn_core.columns import Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.measures.states import StateMeasures, has_slopes, settled_slopes
from rnn_core.experiment.problem import Problem
from rnn_core.experiment.settings import Experiment
from rnn_core.initializers import spectral_radius
from rnn_core.scaling import plain
from rnn_core.theory import (
    MIXING_INITIALIZERS,
    STEADY_BELOW,
    Correlation,
    MeanField,
    correlation_at,
    critical_scale,
    critical_sigma_w,
    fixed_point,
    linear_rate,
    operating_rate,
    rate_of,
    rest_affine,
    rest_eigenvalues,
    rest_rate,
    slope_fluctuation,
)

LARGEST_AT_REST = 512  # numbers in the state of a user's own cell: its eigenvalues take a tenth of a second
NO_MEAN_FIELD = (
    "another cell than vanilla, an initialiser that is none of gaussian, glorot and orthogonal, or a flossed network"
)

PREDICTION = (
    Column("linear_rate", "number", "ln per step", "Linear law: ln ρ, for a residual cell ln ρ of (1 − λ) I + η W_hh, for an antisymmetric one of I + ε (W_hh − W_hhᵀ − γ I)",
           null="a gated cell, or one of the user's own"),
    Column("bound_rate", "number", "ln per step",
           "Upper bound for every step: Pascanu's ln(γ σ_max), for a residual cell ln(1 − λ + η γ σ_max), for an antisymmetric one ln(1 + ε γ (2 σ_max + its diffusion)). 0 for a minGRU",
           null="another gated cell, or one of the user's own"),
    Column("rest_rate", "number", "ln per step",
           "Law at rest: ln ρ of ∂s_t/∂s_(t−1) at zero state and input, exact at any width. For GRU and LSTM without biases ln ρ of"
           " I/2 + φ′(0) W/4 (LSTM: φ′(0)²), W that of the candidate. −inf where ρ is zero",
           null="rest is no fixed point (φ(0) is not 0), or φ has a kink there; layer normalisation, whose rest no network stays at; a state of a user's own cell of more than"
           f" {LARGEST_AT_REST} numbers"),
    Column("mean_field_rate", "number", "ln per step",
           "Mean-field slope ½ ln χ₁, on the branch that a zero state leads to",
           null=NO_MEAN_FIELD),
    Column("mean_field_q", "number", "1", "Mean field: variance q of the preactivations; inf where it grows without limit",
           null=NO_MEAN_FIELD),
    Column("chi", "number", "1", "Mean field: χ₁, what the squared gradient norm is multiplied by per step back", null=NO_MEAN_FIELD),
    Column("bistable", "flag", "true/false",
           "Mean field has another end than that of mean_field_rate, for a network that starts from large states",
           null="as mean_field_rate"),
    Column("correlation", "number", "1",
           "Mean field: correlation of the preactivations of two copies that see the same inputs, in the long run. 1: the network forgets"
           " where it started",
           null="as mean_field_rate, or q grows without limit"),
    Column("depth_scale", "number", "steps",
           "Mean field: steps in which a difference of two such copies falls by a factor of e, −1/ln χ at that correlation",
           null="as correlation"),
    Column("critical_radius_predicted", "number", "1",
           "Spectral radius at which theory turns from shrinking to growing, for this matrix. Vanilla: mean field with these inputs,"
           " the critical σ_w times ρ/σ_w. Other cells, and φ = identity: the law at rest, exact. inf if never, 0 if at every radius",
           null="vanilla: as mean_field_rate; other cells, and φ = identity: as rest_rate; chrono biases, a cell without W_hh, one of the user's own"),
    Column("operating_rate", "number", "ln per step",
           "Operating point: ln ρ(D̄ W_hh), D̄ the slopes φ′(a_t) of every unit averaged over settled steps and samples;"
           " for a residual cell ln ρ of (1 − λ) I + η D̄ W_hh, for an antisymmetric one of I + ε D̄ (W_hh − W_hhᵀ − γ I). −inf where all slopes are zero",
           null="a gated cell, one of the user's own, or not a number"),
    Column("slope_fluctuation", "number", "1",
           "How much slopes change: mean over units of Var φ′(a_t) over settled steps and samples, over the mean over units of E φ′(a_t)²",
           null="a gated cell, one of the user's own, all slopes zero, or not a number"),
    Column("predicted_rate", "number", "ln per step",
           f"linear_rate for φ = identity; operating_rate where slope_fluctuation is below {STEADY_BELOW:g}; mean_field_rate otherwise."
           " Where a cell has none of them: dynamic_rate, or rest_rate where preactivation_rms is below 0.25 (table theory)",
           null="none of them applies: see predicted_by"),
    Column("predicted_by", "name", "name", "What predicted_rate is: linear law, operating point, mean field, dynamic mean field or law at rest",
           null="as predicted_rate"),
)  # fmt: skip


def prediction_columns(
    problem: Problem,
    evaluation: Evaluation,
    states: StateMeasures,
    windows: list[slice],
    W: np.ndarray,
    sigma_max: float,
    sigma_u: float,
) -> dict[str, Any]:
    """The columns ``PREDICTION``; nan where a theory says nothing.

    Args:
        W: the recurrent matrix, float64.
        sigma_max: its largest singular value; of a gated cell the largest of its gates.
        sigma_u: root mean square of the input part.
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
    wide = None
    if mean_field_applies(problem.experiment) and math.isfinite(sigma_u):
        wide = wide_network(cell.phi, sigma_w2(W), sigma_u**2, spectral_radius(W) / math.sqrt(sigma_w2(W)))
    at_rest = AtRest(math.nan, math.nan)
    recurrent = _recurrent(evaluation)
    spectrum = None if cell.leaves_rest else rest_eigenvalues(cell, recurrent)
    if spectrum is not None:
        at_rest = law_at_rest(cell, spectrum, _radius(problem, W), _of_gates(recurrent, len(cell.gates)))
    rates = Rates(
        linear,
        math.nan if bound is None else math.log(bound),
        at_rest,
        wide,
        operating,
        fluctuation,
        cell.name == "vanilla",
    )
    return columns_of_rates(rates, linear_network=jacobian is not None and cell.phi.name == "identity")


def _recurrent(evaluation: Evaluation) -> dict[str, np.ndarray]:
    params = evaluation.tape.params
    names = [name for name in ("weight_hh", "bias_ih", "bias_hh") if name in params]
    return {name: to_numpy(params[name]).astype(np.float64) for name in names}


class AtRest(NamedTuple):
    """The law at rest of a run, and the spectral radius at which it would turn; nan where rest is no fixed point."""

    rate: float
    critical_radius: float


def law_at_rest(cell: Cell, spectrum: np.ndarray, spectral_radius: float, bias: np.ndarray | None) -> AtRest:
    """From the eigenvalues at rest: those of the candidate's W, scaled, on top of what is left of the state without it.

    Args:
        bias: one number a gate, (G,). None where it differs from unit to unit: then no scale of W is known at which the law turns.
    """
    if bias is None:
        return AtRest(rate_of(spectrum), math.nan)
    affine = rest_affine(cell, bias)
    without = math.nan if affine is None else affine[0]
    return AtRest(rate_of(spectrum), spectral_radius * critical_scale(without, spectrum - without))


def _radius(problem: Problem, W: np.ndarray) -> float:
    """The spectral radius that the experiment asks for; where it asks for another scale, or flossing changed it, that of the candidate's W."""
    if problem.experiment.spectral_radius is not None and not problem.experiment.flossing:
        return problem.experiment.spectral_radius
    gates = problem.cell.gates
    return spectral_radius(np.split(W, len(gates))[gates.index("candidate")])


def _of_gates(recurrent: dict[str, np.ndarray], gates: int) -> np.ndarray | None:
    """The bias of every gate, (G,), if all of its units have the same; else None."""
    biases = [recurrent[name].reshape(gates, -1) for name in ("bias_ih", "bias_hh") if name in recurrent]
    total = np.sum(biases, axis=0) if biases else np.zeros((gates, 1))
    return total[:, 0] if (total == total[:, :1]).all() else None


class WideNetwork(NamedTuple):
    """What mean field says of a run.

    Attributes:
        limit: the fixed point.
        copies: what becomes of two copies that see the same inputs.
        critical_radius: the spectral radius at which chi_1 would be 1.
    """

    limit: MeanField
    copies: Correlation
    critical_radius: float


def mean_field_applies(experiment: Experiment) -> bool:
    """Whether the static theory covers the cell and the initializer."""
    mixing = experiment.cell == "vanilla" and experiment.initializer in MIXING_INITIALIZERS
    return mixing and not experiment.flossing  # which makes entries of W_hh depend on each other


def wide_network(phi: Activation, w2: float, u2: float, radius_over_sigma_w: float) -> WideNetwork:
    """``WideNetwork`` from sigma_w², sigma_u² and the shape of W."""
    limit = fixed_point(phi, w2, u2)
    copies = correlation_at(phi, w2, u2, limit.q, limit.chi)
    return WideNetwork(limit, copies, critical_of_inputs(phi, u2) * radius_over_sigma_w)


critical_of_inputs = lru_cache(maxsize=4096)(critical_sigma_w)  # networks that differ in W alone ask for the same


def prediction_of_own(problem: Problem) -> dict[str, Any]:
    """The columns ``PREDICTION`` of a cell of which nothing but its step is known: the law at rest alone, which takes no more."""
    nan = math.nan
    at_rest = AtRest(_rest_of_own(problem), nan)
    return columns_of_rates(Rates(nan, nan, at_rest, None, nan, nan, vanilla=False), linear_network=False)


def prediction_without_matrix(evaluation: Evaluation) -> dict[str, Any]:
    """The columns ``PREDICTION`` of a cell without W_hh: the law at rest, and a bound that no weight enters. No radius makes it turn."""
    cell, nan = evaluation.tape.cell, math.nan
    bound, spectrum = cell.step_bound(nan), rest_eigenvalues(cell, _recurrent(evaluation))
    at_rest = AtRest(nan if spectrum is None else rate_of(spectrum), nan)
    log_bound = nan if bound is None else math.log(bound)
    return columns_of_rates(Rates(nan, log_bound, at_rest, None, nan, nan, vanilla=False), linear_network=False)


def _rest_of_own(problem: Problem) -> float:
    """nan also where the state has more than ``LARGEST_AT_REST`` numbers, or the step takes no single sequence."""
    state = problem.cell.state_shapes(problem.params)
    if sum(math.prod(shape) for shape in state.values()) > LARGEST_AT_REST or not problem.cell.any_batch:
        return math.nan
    return rest_rate(problem.cell, problem.params, problem.task.input_size)


class Rates(NamedTuple):
    """What every theory says, in the words of its column; nan or None where it says nothing."""

    linear: float
    bound: float
    rest: AtRest
    wide: WideNetwork | None
    operating: float
    fluctuation: float
    vanilla: bool


def columns_of_rates(rates: Rates, linear_network: bool) -> dict[str, Any]:
    """The columns ``PREDICTION``, from what the theories say."""
    linear, operating, fluctuation, wide = rates.linear, rates.operating, rates.fluctuation, rates.wide
    mean_field = math.nan if wide is None else wide.limit.rate
    if linear_network:
        predicted, by = linear, "linear law"
    elif fluctuation < STEADY_BELOW:
        predicted, by = operating, "operating point"
    else:
        predicted, by = mean_field, "mean field"
    critical = rates.rest.critical_radius if linear_network or not rates.vanilla else math.nan
    if wide is not None and not linear_network:
        critical = wide.critical_radius
    return {
        "linear_rate": linear,
        "bound_rate": rates.bound,
        "rest_rate": rates.rest.rate,
        "mean_field_rate": mean_field,
        "mean_field_q": math.nan if wide is None else wide.limit.q,
        "chi": math.nan if wide is None else wide.limit.chi,
        "bistable": None if wide is None else wide.limit.bistable,
        "correlation": math.nan if wide is None else wide.copies.c,
        "depth_scale": math.nan if wide is None else wide.copies.scale,
        "critical_radius_predicted": critical,
        "operating_rate": operating,
        "slope_fluctuation": fluctuation,
        "predicted_rate": predicted,
        "predicted_by": None if math.isnan(predicted) else by,
    }


def input_rms(evaluation: Evaluation) -> float:
    """sigma_u, the root mean square of W_ih x_t over units, steps and samples; of ragged sequences without their padding."""
    x = to_numpy(plain(evaluation.tape.inputs)).astype(np.float64)
    ended = np.zeros(1, dtype=bool) if evaluation.ends is None else np.arange(len(x))[:, None] >= evaluation.ends
    rows = x[~ended] if ended.any() else x.reshape(-1, x.shape[-1])
    W_ih = to_numpy(evaluation.tape.params["weight_ih"]).astype(np.float64)
    return math.sqrt(float(np.trace(W_ih @ (rows.T @ rows) @ W_ih.T)) / (len(rows) * len(W_ih)))


def sigma_w2(W: np.ndarray) -> float:
    """sigma_w² = ‖W‖²_F / H."""
    return float((W**2).sum() / len(W))
