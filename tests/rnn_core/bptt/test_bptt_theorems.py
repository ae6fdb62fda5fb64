"""What must hold of any backpropagation through time: linearity, batches, scaling, the linear law and the bounds."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.theory import bound_rate
from tests.support.arrays import exact, quick
from tests.support.networks import Network, draw_network, networks, zero_input_problem

NAMES = list(rc.ACTIVATIONS)


def results(gradients: rc.Gradients) -> dict[str, np.ndarray]:
    """Every gradient by name."""
    found = {**gradients.params, "x": gradients.x, "h0": gradients.state["hidden"], "hidden": gradients.hidden}
    return {name: np.asarray(value) for name, value in found.items()}


def backward(network: Network, grad_hidden: np.ndarray) -> dict[str, np.ndarray]:
    tape = rc.forward(network.cell, network.params, network.x, network.state)
    return results(rc.backward(tape, grad_hidden))


@given(network=networks())
@quick
def test_losses_at_single_steps_add_up(network: Network) -> None:
    """The loss at every step is not the sum of the losses at each: one step's direct part is lost or counted twice."""
    every = backward(network, network.grad_hidden)
    alone = []
    for t in range(len(network.x)):
        at_t = np.zeros_like(network.grad_hidden)
        at_t[t] = network.grad_hidden[t]
        alone.append(backward(network, at_t))
    for name, value in every.items():
        size = sum(np.linalg.norm(part[name]) for part in alone)
        assert np.linalg.norm(value - sum(part[name] for part in alone)) <= 1e-13 * size, name


@pytest.mark.usefixtures("readable")
@given(network=networks(biases=["both"]), k=st.integers(-2500, 2500), growth=st.integers(-220, 220))
@quick
def test_a_power_of_two_in_the_loss_shifts_exponents_only(network: Network, k: int, growth: int) -> None:
    """Renormalising at other steps changes a bit of some mantissa: gradients would depend on the scale of the loss."""
    rest = np.zeros_like(network.x)  # at rest phi'(0) = 1, so that only growth moves the gradients
    params = {**network.params, "bias_ih": 0 * network.params["bias_ih"], "bias_hh": 0 * network.params["bias_hh"]}
    params["weight_hh"] = params["weight_hh"] * 2.0**growth
    for x, weights in ((rest, params), (network.x, network.params)):
        tape = rc.forward(network.cell, weights, x)
        start = np.clip(k, -900, 900)
        base = rc.backward(tape, network.grad_hidden)
        scaled = rc.backward(tape, network.grad_hidden * 2.0**start)
        factor = Fraction(2) ** int(start)
        pairs = [(base.hidden, scaled.hidden), (base.x, scaled.x), (base.state["hidden"], scaled.state["hidden"])]
        pairs += [(base.params[name], scaled.params[name]) for name in base.params]
        for before, after in pairs:
            assert [factor * v for v in exact(before)] == exact(after)
        with np.errstate(invalid="ignore"):
            shift = scaled.log_norm - base.log_norm
        np.testing.assert_allclose(shift[np.isfinite(shift)], start * math.log(2.0), rtol=0, atol=1e-11)


# ---- the linear law and the bound ------------------------------------------------------------------------------------


@pytest.mark.parametrize("initializer", ["orthogonal", "identity"])
@pytest.mark.parametrize("rho", [0.3, 0.5, 0.99, 1.0, 1.01, 2.0, 7.5])
def test_linear_law_every_step_multiplies_by_rho(rho: float, initializer: str) -> None:
    """phi = identity and W = rho · orthogonal: ‖dL/dh_t‖ must change by exactly rho a step."""
    problem, x, target = zero_input_problem("identity", rho, T=300, initializer=initializer)
    log_norm = rc.evaluate(problem, problem.params, x, target).gradients.log_norm
    size = 300 * abs(math.log(rho)) + 1
    np.testing.assert_allclose(-np.diff(log_norm), math.log(rho), rtol=0, atol=2e-15 * size)


@pytest.mark.parametrize("rho", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_linear_law_in_the_long_run_for_any_matrix(rho: float, seed: int) -> None:
    """phi = identity and any W: the rate tends to ln rho (an eigenvalue), not to ln sigma_max (a singular value)."""
    experiment = rc.Experiment(
        activation="identity", spectral_radius=rho, hidden_size=8, sequence_length=2000, input_size=1, batch_size=1, seed=seed
    )  # fmt: skip
    problem = rc.prepare(experiment)
    log_norm = rc.evaluate(problem, problem.params, np.zeros((2000, 1, 1)), np.ones((1, 1))).gradients.log_norm
    rate = (log_norm[0] - log_norm[-1]) / 1999
    assert abs(rate - math.log(rho)) < 5 / 1999  # what is left is the overlap with the leading eigenvectors, once
    assert math.log(rc.sigma_max(problem.params["weight_hh"])) - math.log(rho) > 0.1


@pytest.mark.parametrize("activation", NAMES)
@given(
    seed=st.integers(0, 10_000),
    initializer=st.sampled_from(list(rc.INITIALIZERS)),
    rho=st.floats(0.1, 4.0),
    input_scale=st.floats(0.1, 8.0),
)
@quick
def test_no_step_grows_more_than_the_bound(
    activation: str, seed: int, initializer: str, rho: float, input_scale: float
) -> None:
    """‖dL/dh_{t-1}‖ <= gamma · sigma_max · ‖dL/dh_t‖ where t-1 carries no loss (Pascanu et al. 2013)."""
    experiment = rc.Experiment(
        activation=activation, initializer=initializer, spectral_radius=rho, input_scale=input_scale,
        hidden_size=6, sequence_length=12, batch_size=3, seed=seed,
    )  # fmt: skip
    problem = rc.prepare(experiment)
    log_norm = rc.evaluate(problem, problem.params, *problem.batch(0)).gradients.log_norm
    bound = bound_rate(problem.cell.phi.gamma, rc.sigma_max(problem.params["weight_hh"]))  # type: ignore[attr-defined]
    grown = [earlier - later for earlier, later in pairwise(log_norm) if later != -math.inf]
    assert all(step <= bound + 1e-12 for step in grown)


def test_the_bound_is_reached() -> None:
    """If no network came near the bound, the test above could pass with a bound that is far too large."""
    problem, x, target = zero_input_problem("tanh", 1.7, T=20)  # at rest phi' = gamma
    log_norm = rc.evaluate(problem, problem.params, x, target).gradients.log_norm
    bound = bound_rate(1.0, rc.sigma_max(problem.params["weight_hh"]))
    np.testing.assert_allclose(-np.diff(log_norm), bound, rtol=1e-13)


def test_a_wrong_gamma_would_break_the_bound() -> None:
    """The test of the bound can fail: with selu's gamma taken for 1 it does."""
    network = draw_network(activation="selu", T=12, B=2, D=2, H=6, loss_at="last", with_state=False)
    _, gradients = network.run()
    sigma = rc.sigma_max(network.params["weight_hh"])
    steps = -np.diff(gradients.log_norm)
    assert steps.max() <= bound_rate(rc.ACTIVATIONS["selu"].gamma, sigma) + 1e-12
    rest = {**network.params, "bias_ih": np.full(6, -1e-3), "bias_hh": np.zeros(6)}
    rest["weight_hh"] = np.eye(6)
    tape = rc.forward(network.cell, rest, 0 * network.x)
    assert -np.diff(rc.backward(tape, network.grad_hidden).log_norm).min() > bound_rate(1.0, 1.0) + 0.1
