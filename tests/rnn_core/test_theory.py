"""Theory: bounds, mean field, and how growth is measured; held against known values and against real networks."""

from __future__ import annotations

import math
from collections.abc import Callable

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core import theory
from rnn_core.theory import MIXING_INITIALIZERS, REGIME_DECADES, REGIMES, MeanField, fixed_point, growth, regime
from tests.rnn_core.engine_helpers import quick

LN10 = math.log(10.0)


# ---- rates from the matrix ---------------------------------------------------------------------------------------------


@given(rho=st.floats(1e-3, 1e3), gamma=st.floats(0.1, 2.0), sigma=st.floats(1e-3, 1e3))
@quick
def test_rates_are_logarithms_of_factors(rho: float, gamma: float, sigma: float) -> None:
    """A rate is in another base, or sigma_max stands where rho belongs."""
    assert math.exp(theory.linear_rate(rho)) == pytest.approx(rho, rel=1e-13)
    assert math.exp(theory.bound_rate(gamma, sigma)) == pytest.approx(gamma * sigma, rel=1e-13)


# ---- growth and regime -------------------------------------------------------------------------------------------------


@given(rate=st.floats(-3.0, 3.0), T=st.integers(2, 400))
@quick
def test_growth_of_a_straight_line(rate: float, T: int) -> None:
    """The sign, the number of steps or the base is wrong: T values of ln norm make T - 1 steps."""
    log_norm = 0.3 + rate * np.arange(T - 1, -1, -1)  # t = 1 comes first and has seen the most steps back
    measured = growth(log_norm)
    assert measured.rate == pytest.approx(rate, abs=1e-12)
    assert measured.ratio == pytest.approx(rate * (T - 1) / LN10, abs=1e-10)
    if T >= 17:  # 16 steps make four batches of four
        assert measured.error == pytest.approx(0.0, abs=1e-12)
    if T < 5:
        assert math.isnan(measured.error)


def test_growth_error_of_independent_steps() -> None:
    """The standard error is too small or too large where it is known: s/√n for independent steps."""
    rng, errors, rates = np.random.default_rng(0), [], []
    for _ in range(400):
        measured = growth(np.concatenate([[0.0], np.cumsum(rng.normal(-0.1, 0.5, 900))]))
        errors.append(measured.error)
        rates.append(measured.rate)
    true = 0.5 / 30
    assert np.mean(errors) == pytest.approx(true, rel=0.05)
    assert np.std(rates) == pytest.approx(true, rel=0.15)
    assert np.mean(rates) == pytest.approx(0.1, abs=5 * true / 20)


def test_growth_error_of_correlated_steps() -> None:
    """Neighbouring steps are correlated in a network; an error that takes them for independent would be far too small."""
    rng, n, errors, rates = np.random.default_rng(1), 2500, [], []
    for _ in range(200):
        noise, steps = rng.standard_normal(n), np.empty(n)
        steps[0] = noise[0]
        for i in range(1, n):
            steps[i] = 0.6 * steps[i - 1] + noise[i]
        measured = growth(np.concatenate([[0.0], np.cumsum(steps)]))
        errors.append(measured.error)
        rates.append(measured.rate)
    true = 1 / (1 - 0.6) / math.sqrt(n)
    naive = 1 / math.sqrt(1 - 0.36) / math.sqrt(n)
    assert np.std(rates) == pytest.approx(true, rel=0.2)
    assert np.mean(errors) == pytest.approx(true, rel=0.1)
    assert np.mean(errors) > 1.5 * naive


def test_growth_of_special_cases() -> None:
    """A single step, or a gradient that is exactly zero, breaks the measurement."""
    one = growth(np.array([1.5]))
    assert math.isnan(one.rate) and math.isnan(one.error) and one.ratio == 0.0
    dead = growth(np.array([-math.inf, -1.0, 0.0]))
    assert dead.rate == -math.inf and dead.ratio == -math.inf and math.isnan(dead.error)
    broken = growth(np.array([math.nan, 0.0, 0.0]))
    assert math.isnan(broken.rate) and regime(broken.ratio) is None


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (-REGIME_DECADES - 1e-9, "vanishing"),
        (-REGIME_DECADES, "stable"),
        (0.0, "stable"),
        (REGIME_DECADES, "stable"),
        (REGIME_DECADES + 1e-9, "exploding"),
        (-math.inf, "vanishing"),
        (math.inf, "exploding"),
        (math.nan, None),
    ],
)
def test_regimes(ratio: float, expected: str | None) -> None:
    """A run is put in another regime than its gradient ratio says."""
    assert regime(ratio) == expected
    assert expected is None or expected in REGIMES


# ---- mean field: known values ------------------------------------------------------------------------------------------


@given(sigma_w2=st.floats(0.05, 1.9), sigma_u2=st.floats(0.01, 5.0))
@quick
def test_relu_halves(sigma_w2: float, sigma_u2: float) -> None:
    """relu: chi = sigma_w²/2, and q = sigma_u² / (1 - sigma_w²/2)."""
    found = fixed_point(rc.ACTIVATIONS["relu"], sigma_w2, sigma_u2)
    assert found.chi == pytest.approx(sigma_w2 / 2, rel=1e-12)
    assert found.q == pytest.approx(sigma_u2 / (1 - sigma_w2 / 2), rel=1e-9)
    assert found.rate == pytest.approx(0.5 * math.log(sigma_w2 / 2), rel=1e-12, abs=1e-12)


@given(sigma_w2=st.floats(0.05, 0.95), sigma_u2=st.floats(0.01, 5.0))
@quick
def test_identity_is_linear(sigma_w2: float, sigma_u2: float) -> None:
    """identity: chi = sigma_w², and q = sigma_u² / (1 - sigma_w²)."""
    found = fixed_point(rc.ACTIVATIONS["identity"], sigma_w2, sigma_u2)
    assert found.chi == pytest.approx(sigma_w2, rel=1e-12)
    assert found.q == pytest.approx(sigma_u2 / (1 - sigma_w2), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "sigma_w2", "chi"), [("identity", 1.5, 1.5), ("relu", 3.0, 1.5), ("leaky_relu", 3.0, 1.50015)]
)
def test_a_variance_without_limit_is_infinite(name: str, sigma_w2: float, chi: float) -> None:
    """Where q grows for ever, chi must still be the one of the asymptotic regime."""
    found = fixed_point(rc.ACTIVATIONS[name], sigma_w2, 1.0)
    assert found.q == math.inf
    assert found.chi == pytest.approx(chi, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "softsign", "hard_tanh"])
def test_a_network_near_rest_is_linear(name: str) -> None:
    """phi'(0) = 1: with tiny inputs chi tends to sigma_w² below the transition."""
    found = fixed_point(rc.ACTIVATIONS[name], 0.5, 1e-10)
    assert found.q == pytest.approx(2e-10, rel=1e-4)
    assert found.chi == pytest.approx(0.5, rel=1e-4)


def test_tanh_to_first_order() -> None:
    """tanh'² = 1 - 2a² + …, hence chi = sigma_w² (1 - 2q) for small q."""
    found = fixed_point(rc.ACTIVATIONS["tanh"], 0.5, 1e-5)
    assert 1 - found.chi / 0.5 == pytest.approx(2 * found.q, rel=1e-3)


@pytest.mark.parametrize("name", list(rc.ACTIVATIONS))
def test_integrals_against_adaptive_quadrature(name: str) -> None:
    """An expectation over the Gaussian is computed wrongly, or q is no fixed point."""
    phi, sigma_w2, sigma_u2 = rc.ACTIVATIONS[name], 0.9, 0.7
    found = fixed_point(phi, sigma_w2, sigma_u2)

    def expectation(function: Callable[[np.ndarray], np.ndarray]) -> float:
        def integrand(z: mp.mpf) -> mp.mpf:
            return mp.npdf(z) * float(function(np.array([math.sqrt(found.q) * float(z)]))[0]) ** 2

        kinks = {kink / math.sqrt(found.q) for kink in phi.kinks}
        return float(mp.quad(integrand, sorted({-12, -6, -3, -1, 0, 1, 3, 6, 12} | kinks)))

    assert found.chi == pytest.approx(sigma_w2 * expectation(phi.df), rel=1e-9)
    assert found.q == pytest.approx(sigma_w2 * expectation(phi.f) + sigma_u2, rel=1e-9)


@pytest.mark.parametrize(("sigma_w2", "sigma_u2"), [(1.0, 1.0), (2.0, 0.5), (0.5, 4.0), (4.0, 1.0), (0.5, 1e4)])
def test_hard_tanh_is_an_error_function(sigma_w2: float, sigma_u2: float) -> None:
    """hard_tanh: chi = sigma_w² erf(1/√(2q)), the probability that |a| < 1; a grid that ignores the jumps is off by 0.4 %."""
    found = fixed_point(rc.ACTIVATIONS["hard_tanh"], sigma_w2, sigma_u2)
    assert found.chi == pytest.approx(sigma_w2 * math.erf(1 / math.sqrt(2 * found.q)), rel=1e-12)


def test_a_dead_network_has_rate_minus_infinity() -> None:
    """chi = 0 would raise in the logarithm."""
    assert MeanField(1.0, 0.0).rate == -math.inf


# ---- mean field: real networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "initializer", "rho", "input_scale"),
    [
        ("tanh", "gaussian", 1.0, 1.0),
        ("tanh", "gaussian", 1.5, 0.5),
        ("tanh", "orthogonal", 1.2, 1.0),
        ("relu", "gaussian", 1.3, 1.0),
        ("relu", "orthogonal", 1.0, 1.0),
        ("sigmoid", "gaussian", 3.0, 1.0),
        ("silu", "gaussian", 1.0, 1.0),
        ("softsign", "gaussian", 1.5, 1.0),
        ("selu", "orthogonal", 0.8, 1.0),
    ],
)
def test_wide_networks_grow_as_predicted(activation: str, initializer: str, rho: float, input_scale: float) -> None:
    """Theory is drawn beside measurement: at H = 256 they must agree within the standard error over seeds."""
    # From a zero state the variance needs some steps to settle; theory speaks of the settled network.
    T, settle = 100, 20
    deviations, predictions = [], []
    for seed in range(6):
        experiment = rc.Experiment(
            activation=activation, initializer=initializer, spectral_radius=rho, input_scale=input_scale,
            hidden_size=256, sequence_length=T, batch_size=4, seed=seed,
        )  # fmt: skip
        problem = rc.prepare(experiment)
        log_norm = rc.evaluate(problem, problem.params, *problem.batch(0)).gradients.log_norm
        W = problem.params["weight_hh"]
        u = problem.batch(0)[0] @ problem.params["weight_ih"].T
        predicted = fixed_point(rc.ACTIVATIONS[activation], float((W**2).sum() / 256), float((u**2).mean())).rate
        deviations.append(growth(log_norm[settle:]).rate - predicted)
        predictions.append(predicted)
    standard_error = np.std(deviations, ddof=1) / math.sqrt(6)
    assert standard_error < 0.02
    assert abs(np.mean(deviations)) < 4 * standard_error + 0.002  # corrections of order 1/H
    assert initializer in MIXING_INITIALIZERS
    assert abs(np.mean(predictions)) > 0.03  # so far from 0 that a missing ½ or a wrong sign could not pass


def test_the_identity_matrix_does_not_mix() -> None:
    """Mean field is not applied where it does not hold: the identity's units never mix."""
    assert "identity" not in MIXING_INITIALIZERS
    summary = rc.run(rc.Experiment(initializer="identity", hidden_size=16, sequence_length=10)).summary
    assert math.isnan(summary["mean_field_rate"]) and math.isnan(summary["predicted_rate"])
