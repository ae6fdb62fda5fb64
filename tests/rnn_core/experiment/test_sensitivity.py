"""How far the last state moves with a weight: against the derivative of every unit by itself, and against the law."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.experiment.measures import sensitivity
from rnn_core.oracles.tensors import step_of
from rnn_core.theory import memory_sensitivity

NAMES = [column.name for column in sensitivity.SENSITIVITY]


def measured(**settings: object) -> rc.Result:
    return rc.run(rc.Experiment(**settings), traces=["parameter_sensitivity"])  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", ["indrnn", "vanilla", "lstm"])
def test_it_is_the_root_mean_square_of_all_derivatives(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Units or samples are counted twice, or the mean over entries is a sum: autograd has every unit's derivative by itself."""
    monkeypatch.setattr(sensitivity, "PROBES", 600)
    experiment = rc.Experiment(cell=cell, hidden_size=3, sequence_length=6, batch_size=2, spectral_radius=1.2)
    problem = rc.prepare(experiment)
    x, target = problem.batch(0)
    W = torch.tensor(problem.params["weight_hh"], requires_grad=True)
    p = {name: torch.tensor(value) for name, value in problem.params.items()} | {"weight_hh": W}
    state = {name: torch.zeros(2, 3, dtype=torch.float64) for name in problem.cell.state_names}
    for x_t in torch.tensor(x):
        state = step_of(cell, "tanh")(p, x_t, state)
    squares = sum(
        float((torch.autograd.grad(h, W, retain_graph=True)[0] ** 2).sum()) for h in state["hidden"].flatten()
    )
    expected = 0.5 * math.log10(squares / (W.numel() * 2))
    found = sensitivity.log10_sensitivity(problem, rc.evaluate(problem, problem.params, x, target))
    assert found == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(("rate", "r"), [(0.9, 0.0), (0.8, 0.3)])
def test_linear_units_obey_the_law(rate: float, r: float) -> None:
    """The law is that of other inputs, or of other units (science.md, R21)."""
    found = [
        measured(
            cell="indrnn", activation="identity", initializer="identity", spectral_radius=rate, input_correlation=r,
            sequence_length=150, hidden_size=64, batch_size=64, seed=seed,
        )
        for seed in range(4)
    ]  # fmt: skip
    gaps = [each["log10_parameter_sensitivity"] - each["log10_sensitivity_predicted"] for each in found]
    assert np.mean(gaps) == pytest.approx(0.0, abs=0.04)
    assert np.mean([each["last_hidden_rms"] / each["last_hidden_rms_predicted"] for each in found]) == pytest.approx(
        1.0, abs=0.03
    )
    # By hand: the variance of each unit's input times the derivative.
    state, derivative = memory_sensitivity(rate, r)
    assert found[0]["last_hidden_rms_predicted"] == pytest.approx(found[0]["sigma_u"] * math.sqrt(state), rel=0.1)
    weights = rc.prepare(found[0].experiment).params["weight_ih"]  # type: ignore[arg-type]
    expected = 0.5 * math.log10((weights**2).sum(axis=1).mean() * derivative)
    assert found[0]["log10_sensitivity_predicted"] == pytest.approx(expected, abs=1e-12)


def test_it_is_exact_beyond_the_range_of_floats() -> None:
    """A sensitivity above 10^308 is inf: of one linear unit it is T w^(T-1) x_1 and smaller terms, known by its logarithm."""
    T = 400
    experiment = rc.Experiment(
        cell="indrnn", activation="identity", initializer="identity", spectral_radius=10.0, sequence_length=T, hidden_size=1, batch_size=1,
    )  # fmt: skip
    result = rc.run(experiment, traces=["parameter_sensitivity"])
    assert T - 3 < result["log10_parameter_sensitivity"] - math.log10(T) < T + 1
    assert math.isnan(result["log10_sensitivity_predicted"])  # no law for a state that grows


def test_it_is_measured_where_it_is_asked_for() -> None:
    """Every run takes four backward passes more, or a law is claimed of a network that is not linear."""
    assert not set(NAMES) & set(rc.run(rc.Experiment(hidden_size=4, sequence_length=8)).summary)
    result = measured(hidden_size=4, sequence_length=8)
    assert math.isfinite(result["log10_parameter_sensitivity"]) and math.isnan(result["log10_sensitivity_predicted"])
