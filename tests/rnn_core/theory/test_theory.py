"""Theory: bounds, mean field, and how growth is measured; held against known values and against real networks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core import theory
from rnn_core.experiment import measures
from rnn_core.theory import (
    MIXING_INITIALIZERS,
    REGIME_DECADES,
    REGIMES,
    MeanField,
    Slopes,
    critical_sigma_w,
    fixed_point,
    growth,
    operating_rate,
    regime,
    settled_window,
    slope_fluctuation,
)
from rnn_core.theory.mean_field import _expect
from tests.support.arrays import quick

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


def test_growth_of_samples() -> None:
    """The largest sample rules the rate, a dead one enters it, or steps outside the window do."""
    back = np.arange(99, -1, -1.0)
    samples = np.stack([0.1 * back, 50.0 + 0.3 * back, np.where(back > 40, -np.inf, 0.2 * back)], axis=1)
    samples[:10] += 7.0
    samples[-5:] -= 3.0
    inside = growth(samples, slice(10, 95))
    assert inside.rate == pytest.approx(0.2, rel=1e-12)  # of the two that live
    assert inside.error == pytest.approx(0.1, rel=1e-9)  # 0.2/√2 over √2: nothing changes in time
    assert inside.dead == pytest.approx(1 / 3)
    whole = 0.5 * np.log(np.exp(2 * samples).sum(axis=1))
    assert inside.ratio == pytest.approx((whole[0] - whole[-1]) / LN10, rel=1e-12)
    all_alive = growth(samples, slice(62, 95))
    assert (all_alive.rate, all_alive.dead) == (pytest.approx(0.2, rel=1e-12), 0.0)
    assert growth(np.full((9, 2), -np.inf)).rate == -math.inf
    assert growth(np.full((9, 2), -np.inf)).dead == 1.0
    broken = np.zeros((9, 2))
    broken[0, 1] = math.nan
    assert math.isnan(growth(broken).rate)


def test_growth_error_is_the_larger_of_two() -> None:
    """Chance along the way is hidden by samples that agree, or the spread over samples by steps that do."""
    rng = np.random.default_rng(3)
    noise = np.cumsum(rng.normal(0.0, 0.5, 401))[:, None]
    together = growth(np.repeat(noise, 4, axis=1))
    assert together.error == growth(noise[:, 0]).error > 0.01
    lines = np.arange(400.0)[:, None] * np.array([0.1, 0.2, 0.3, 0.4])
    assert growth(lines).error == pytest.approx(np.std([0.1, 0.2, 0.3, 0.4], ddof=1) / 2, rel=1e-12)
    assert math.isnan(growth(lines[:3, :1]).error)


# ---- the settled window ------------------------------------------------------------------------------------------------


def test_the_window_opens_where_the_state_has_settled() -> None:
    """Growth is taken from steps at which the state still grows from zero, or the gradient still turns from the readout."""
    rms = 2.0 * (1.0 - 0.8 ** np.arange(1, 101))  # within 5 % of 2 from t = 14 on: 0.8¹⁴ = 0.044
    assert settled_window(rms) == slice(14, 89)  # t = 15 … 89, lags 85 … 11
    assert settled_window(rms * 1e-200) == slice(14, 89)
    assert settled_window(np.ones(100)) == slice(1, 89)
    assert settled_window(np.zeros(100)) == slice(1, 89)


@pytest.mark.parametrize("profile", ["exploding", "nan", "inf", "constant"])
def test_the_window_always_holds_a_step(profile: str) -> None:
    """A short sequence, or one whose state never settles, is left without a rate."""
    for T in range(2, 200):
        rms = {"exploding": 1.5 ** np.arange(T), "constant": np.ones(T)}.get(profile, np.full(T, float(profile) if profile in ("nan", "inf") else 0.0))  # fmt: skip
        window = settled_window(rms)
        assert 0 <= window.start <= window.stop - 2
        assert window.stop == T - min(11, (T - 1) // 2)
        assert window.start <= (window.stop - 1) // 2
        assert T < 23 or T - window.stop > 10
        assert profile == "constant" or window.start == (window.stop - 1) // 2
    assert settled_window(np.ones(1)) == slice(0, 1)


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
    limit = fixed_point(rc.ACTIVATIONS["relu"], sigma_w2, sigma_u2)
    assert limit.chi == pytest.approx(sigma_w2 / 2, rel=1e-12)
    assert limit.q == pytest.approx(sigma_u2 / (1 - sigma_w2 / 2), rel=1e-9)
    assert limit.rate == pytest.approx(0.5 * math.log(sigma_w2 / 2), rel=1e-12, abs=1e-12)


@given(sigma_w2=st.floats(0.05, 0.95), sigma_u2=st.floats(0.01, 5.0))
@quick
def test_identity_is_linear(sigma_w2: float, sigma_u2: float) -> None:
    """identity: chi = sigma_w², and q = sigma_u² / (1 - sigma_w²)."""
    limit = fixed_point(rc.ACTIVATIONS["identity"], sigma_w2, sigma_u2)
    assert limit.chi == pytest.approx(sigma_w2, rel=1e-12)
    assert limit.q == pytest.approx(sigma_u2 / (1 - sigma_w2), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "sigma_w2", "chi"), [("identity", 1.5, 1.5), ("relu", 3.0, 1.5), ("leaky_relu", 3.0, 1.50015)]
)
def test_a_variance_without_limit_is_infinite(name: str, sigma_w2: float, chi: float) -> None:
    """Where q grows for ever, chi must still be the one of the asymptotic regime."""
    limit = fixed_point(rc.ACTIVATIONS[name], sigma_w2, 1.0)
    assert limit.q == math.inf
    assert limit.chi == pytest.approx(chi, rel=1e-12)


@pytest.mark.parametrize("name", ["tanh", "softsign", "hard_tanh"])
def test_a_network_near_rest_is_linear(name: str) -> None:
    """phi'(0) = 1: with tiny inputs chi tends to sigma_w² below the transition."""
    limit = fixed_point(rc.ACTIVATIONS[name], 0.5, 1e-10)
    assert limit.q == pytest.approx(2e-10, rel=1e-4)
    assert limit.chi == pytest.approx(0.5, rel=1e-4)


def test_tanh_to_first_order() -> None:
    """tanh'² = 1 - 2a² + …, hence chi = sigma_w² (1 - 2q) for small q."""
    limit = fixed_point(rc.ACTIVATIONS["tanh"], 0.5, 1e-5)
    assert 1 - limit.chi / 0.5 == pytest.approx(2 * limit.q, rel=1e-3)


@pytest.mark.parametrize("name", list(rc.ACTIVATIONS))
def test_integrals_against_adaptive_quadrature(name: str) -> None:
    """An expectation over the Gaussian is computed wrongly, or q is no fixed point."""
    phi, sigma_w2, sigma_u2 = rc.ACTIVATIONS[name], 0.9, 0.7
    limit = fixed_point(phi, sigma_w2, sigma_u2)

    def expectation(function: Callable[[np.ndarray], np.ndarray]) -> float:
        def integrand(z: mp.mpf) -> mp.mpf:
            return mp.npdf(z) * float(function(np.array([math.sqrt(limit.q) * float(z)]))[0]) ** 2

        kinks = {kink / math.sqrt(limit.q) for kink in phi.kinks}
        return float(mp.quad(integrand, sorted({-12, -6, -3, -1, 0, 1, 3, 6, 12} | kinks)))

    assert limit.chi == pytest.approx(sigma_w2 * expectation(phi.df), rel=1e-9)
    assert limit.q == pytest.approx(sigma_w2 * expectation(phi.f) + sigma_u2, rel=1e-9)


@pytest.mark.parametrize(("sigma_w2", "sigma_u2"), [(1.0, 1.0), (2.0, 0.5), (0.5, 4.0), (4.0, 1.0), (0.5, 1e4)])
def test_hard_tanh_is_an_error_function(sigma_w2: float, sigma_u2: float) -> None:
    """hard_tanh: chi = sigma_w² erf(1/√(2q)), the probability that |a| < 1; a grid that ignores the jumps is off by 0.4 %."""
    limit = fixed_point(rc.ACTIVATIONS["hard_tanh"], sigma_w2, sigma_u2)
    assert limit.chi == pytest.approx(sigma_w2 * math.erf(1 / math.sqrt(2 * limit.q)), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "q", "chi"),
    [
        ("relu", 1.61290323, 0.845),
        ("leaky_relu", 1.61378300, 0.8450845),
        ("elu", 4.54242075, 0.99561049),
        ("selu", 35.0135183, 1.10771595),
        ("gelu", 0.82965091, 0.75012619),
        ("silu", 0.54785535, 0.57481178),
        ("softplus", 5.00328752, 0.60634891),
        ("softsign", 0.45629227, 0.51888314),
        ("hard_tanh", 1.17542633, 1.08778743),
        ("sigmoid", 0.73052098, 0.08112521),
        ("tanh", 0.87580532, 0.82520288),
    ],
)
def test_fixed_points_of_an_independent_program(name: str, q: float, chi: float) -> None:
    """sigma_w² = 1.69, sigma_u² = 0.25: another program, by adaptive quadrature, found these (science.md, R11)."""
    limit = fixed_point(rc.ACTIVATIONS[name], 1.69, 0.25)
    assert limit.q == pytest.approx(q, rel=1e-7)
    assert limit.chi == pytest.approx(chi, rel=1e-7)
    assert not limit.bistable


@pytest.mark.parametrize(
    ("name", "sigma_w", "q", "chi"),
    [("gelu", 1.5, 0.0242443799, 0.5956199133), ("silu", 1.7, 0.0388984024, 0.7495580318)],
)
def test_a_zero_state_leads_to_the_lower_branch(name: str, sigma_w: float, q: float, chi: float) -> None:
    """Started from above, q leaves for ever: the rate had the wrong sign (science.md, R12)."""
    limit = fixed_point(rc.ACTIVATIONS[name], sigma_w**2, 0.01)
    assert limit.q == pytest.approx(q, rel=1e-9)
    assert limit.chi == pytest.approx(chi, rel=1e-9)
    assert limit.bistable
    assert not fixed_point(rc.ACTIVATIONS[name], 1.4**2, 0.01).bistable  # below √2 it comes back from far above
    gone = fixed_point(rc.ACTIVATIONS[name], 4.0, 1.0)
    assert gone.q == math.inf and not gone.bistable  # one end, far out


@pytest.mark.parametrize("name", list(rc.ACTIVATIONS))
def test_without_inputs_a_network_may_rest(name: str) -> None:
    """sigma_u² = 0 divides by zero, or rest counts as another end than what decays to it."""
    limit = fixed_point(rc.ACTIVATIONS[name], 0.25, 0.0)
    assert 0.0 <= limit.q < 0.5 and not limit.bistable
    if limit.q < 1e-9 and not rc.ACTIVATIONS[name].kinks:
        assert limit.chi == pytest.approx(0.25 * float(rc.ACTIVATIONS[name].df(np.zeros(1))[0]) ** 2, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "sigma_u2", "expected"),
    [
        ("tanh", 0.01, 1.193400725),
        ("tanh", 1.0, 1.855589101),
        ("hard_tanh", 0.01, 1.025700351),
        ("relu", 0.01, math.sqrt(2.0)),
        ("identity", 1.0, 1.0),
    ],
)
def test_critical_sigma_w(name: str, sigma_u2: float, expected: float) -> None:
    """Another sigma_w than the smallest with chi_1 = 1 (science.md, R14)."""
    assert critical_sigma_w(rc.ACTIVATIONS[name], sigma_u2) == pytest.approx(expected, rel=1e-8)


def test_a_dead_network_has_rate_minus_infinity() -> None:
    """chi = 0 would raise in the logarithm."""
    assert MeanField(1.0, 0.0).rate == -math.inf


# ---- mean field: real networks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("activation", "initializer", "rho", "input_scale"),
    [
        ("tanh", "gaussian", 1.0, 1.0),
        ("tanh", "gaussian", 1.5, 0.5),
        ("tanh", "glorot", 1.5, 0.5),
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


# ---- the operating point -----------------------------------------------------------------------------------------------


def test_slope_fluctuation_of_known_slopes() -> None:
    """A unit that differs from others is taken for one that changes, or the scale of the slopes counts."""
    constant = np.array([0.1, 0.9, 0.0])
    assert slope_fluctuation(Slopes(constant, constant**2)) == 0.0
    switched = Slopes(np.array([0.5, 0.5]), np.array([0.5, 0.5]))  # on half of the time
    assert slope_fluctuation(switched) == 0.5
    assert slope_fluctuation(Slopes(3.0 * switched.mean, 9.0 * switched.square)) == pytest.approx(0.5, rel=1e-15)
    assert math.isnan(slope_fluctuation(Slopes(np.zeros(2), np.zeros(2))))


@pytest.mark.parametrize("cell", [rc.VanillaCell("relu"), rc.ResidualCell("relu", step=0.5, leak=1.0)])
def test_a_network_whose_units_are_off(cell: rc.Cell) -> None:
    """The logarithm of zero raises."""
    jacobian = cell.jacobian(np.eye(3), np.zeros(3))
    assert jacobian is not None
    assert operating_rate(jacobian) == -math.inf
    assert math.isnan(operating_rate(np.full((2, 2), math.nan)))


def test_the_jacobian_at_some_slopes() -> None:
    """The slopes scale columns instead of rows, or the leak is forgotten."""
    W, slopes = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([0.5, 0.1])
    np.testing.assert_array_equal(rc.VanillaCell().jacobian(W, slopes), [[0.5, 1.0], [0.1 * 3.0, 0.4]])
    residual = rc.ResidualCell(step=2.0, leak=0.25)
    np.testing.assert_allclose(residual.jacobian(W, slopes), [[1.75, 2.0], [0.6, 1.55]], rtol=1e-15)
    assert rc.GRUCell().jacobian(W) is None


@pytest.mark.parametrize("cell", ["vanilla", "residual"])
@pytest.mark.parametrize("activation", ["tanh", "selu", "sigmoid", "relu"])
def test_the_operating_point_of_a_run(activation: str, cell: str) -> None:
    """Slopes of other steps than the settled ones, over their supremum, or of one sample."""
    experiment = rc.Experiment(cell=cell, activation=activation, hidden_size=9, sequence_length=70, batch_size=3, spectral_radius=0.9,
                               residual_step=0.3 if cell == "residual" else None, residual_leak=0.4 if cell == "residual" else None)  # fmt: skip
    summary, problem = rc.run(experiment).summary, rc.prepare(experiment)
    tape = rc.forward(problem.cell, problem.params, problem.batch(0)[0])
    steps = slice(summary["settled_from"] - 1, summary["settled_to"])
    slopes = problem.cell.phi.df(np.stack(tape.saved)[steps])
    W, mean = problem.params["weight_hh"], slopes.mean(axis=(0, 2))
    J = np.diag(mean) @ W if cell == "vanilla" else 0.6 * np.eye(9) + 0.3 * np.diag(mean) @ W
    assert summary["operating_rate"] == pytest.approx(math.log(max(abs(np.linalg.eigvals(J)))), rel=1e-10)
    fluctuation = slopes.var(axis=(0, 2)).mean() / (slopes**2).mean()
    assert summary["slope_fluctuation"] == pytest.approx(fluctuation, rel=1e-9)
    assert summary["sigma_w"] == pytest.approx(np.linalg.norm(W) / 3, rel=1e-14)


# ---- the right ruler: what growth does not depend on, and what it follows ----------------------------------------------


def chaotic(seeds: int, **options: int) -> list[dict[str, float]]:
    """Summaries of tanh networks above the transition."""
    return [
        rc.run(rc.Experiment(spectral_radius=1.5, input_scale=0.1, seed=seed, **options)).summary
        for seed in range(seeds)
    ]


def test_the_settled_rate_does_not_depend_on_the_batch_size() -> None:
    """The largest of B samples rules the norm over the batch: its rate rises with B, that of a sample does not."""
    runs = {B: chaotic(4, sequence_length=400, batch_size=B) for B in (1, 4, 16, 64)}
    for summaries, most in zip(zip(*runs.values(), strict=True), [64] * 4, strict=True):
        for summary in summaries[:-1]:
            both = math.hypot(summary["growth_rate_error"], summaries[-1]["growth_rate_error"])
            assert abs(summary["growth_rate"] - summaries[-1]["growth_rate"]) < 3.0 * both, most
    rates = [np.mean([s["growth_rate"] for s in summaries]) for summaries in runs.values()]
    assert max(rates) - min(rates) < 0.006
    batch_norm = [np.mean([s["log10_gradient_ratio"] * LN10 / 399 for s in summaries]) for summaries in runs.values()]
    assert batch_norm[3] - batch_norm[0] > 0.01
    assert batch_norm[0] < batch_norm[1] < batch_norm[2]


def test_the_settled_rate_does_not_depend_on_the_length() -> None:
    """The ends of a sequence enter the rate, and make it fall like 1/T."""
    runs = {T: chaotic(4, sequence_length=T) for T in (100, 200, 400)}
    for summaries in zip(*runs.values(), strict=True):
        for summary in summaries[:-1]:
            both = math.hypot(summary["growth_rate_error"], summaries[-1]["growth_rate_error"])
            assert abs(summary["growth_rate"] - summaries[-1]["growth_rate"]) < 3.0 * both
    rates = [np.mean([s["growth_rate"] for s in summaries]) for summaries in runs.values()]
    assert max(rates) - min(rates) < 0.003
    whole = [np.mean([s["log10_gradient_ratio"] * LN10 / (T - 1) for s in summaries]) for T, summaries in runs.items()]
    assert whole[0] - whole[2] > 0.008


@pytest.mark.parametrize(("activation", "rho"), [("tanh", 0.5), ("tanh", 1.0), ("sigmoid", 0.5), ("sigmoid", 2.0)])
def test_a_network_with_steady_slopes_follows_its_operating_point(activation: str, rho: float) -> None:
    """Below the transition mean field is off by ln of rho over sigma_w, 0.05 a step; an eigenvalue is not."""
    runs = [
        rc.run(
            rc.Experiment(activation=activation, spectral_radius=rho, input_scale=0.1, sequence_length=400, seed=seed)
        ).summary
        for seed in range(5)
    ]
    for summary in runs:
        assert summary["slope_fluctuation"] < 0.05 and summary["predicted_by"] == "operating point"
        assert summary["predicted_rate"] == summary["operating_rate"]
        assert abs(summary["deviation"]) < 0.005
    off = [summary["growth_rate"] - summary["mean_field_rate"] for summary in runs]
    assert np.mean(off) > 0.03


def test_a_linear_network_follows_its_eigenvalue() -> None:
    """Exactly, at every step, where W is orthogonal; elsewhere up to c/T, what it takes to turn to the first eigenvector."""
    linear = rc.Experiment(activation="identity", spectral_radius=1.1, sequence_length=400)
    exact = rc.run(replace(linear, initializer="orthogonal")).summary
    assert exact["deviation"] == pytest.approx(0.0, abs=1e-13) and exact["predicted_by"] == "linear law"
    assert exact["operating_rate"] == exact["linear_rate"] and exact["slope_fluctuation"] == 0.0
    for seed in range(4):
        summary = rc.run(replace(linear, spectral_radius=1.0, sequence_length=4000, seed=seed)).summary
        assert abs(summary["deviation"]) < 1e-3


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_the_prediction_has_the_right_sign_where_there_are_two_branches(activation: str) -> None:
    """Mean field went to the branch of large states: +0.1 a step where -0.16 was measured."""
    for seed in range(2):
        summary = rc.run(
            rc.Experiment(activation=activation, spectral_radius=1.7, input_scale=0.1, hidden_size=256, sequence_length=100,
                          batch_size=4, seed=seed)
        ).summary  # fmt: skip
        assert summary["bistable"] is True
        assert summary["growth_rate"] < -0.1 and summary["predicted_rate"] < -0.1 and summary["mean_field_rate"] < -0.1
        assert abs(summary["deviation"]) < 0.05


def test_a_dead_network_is_measured() -> None:
    """All units off: rates of -inf, no exception."""
    problem = rc.prepare(rc.Experiment(activation="relu", hidden_size=5, sequence_length=30, batch_size=2))
    dead = replace(problem, params=problem.params | {"bias_hh": np.full(5, -1e3)})
    evaluation = rc.evaluate(dead, dead.params, *dead.batch(0))
    states = measures.measure_states(dead.cell, evaluation.tape, evaluation.ends, slopes=True)
    summary = measures.start_columns(dead, evaluation, measures.trace_columns(evaluation, states), states)
    assert summary["operating_rate"] == summary["growth_rate"] == -math.inf
    assert summary["dead_samples"] == 1.0 and math.isnan(summary["slope_fluctuation"])
    assert summary["predicted_by"] == "mean field"


@pytest.mark.parametrize(
    ("name", "sigma_w", "sigma_u2", "q"),
    [
        ("gelu", 1.41, 0.1, 0.3324118154620858),
        ("softplus", 1.41, 0.01, 46.41548085546631),
        ("tanh", 1.0, 1e-6, 7.078150621962132e-04),
        ("hard_tanh", 1.0, 1e-6, 0.05133326376176662),
    ],
)
def test_a_variance_that_creeps_to_its_end_is_not_taken_for_two(
    name: str, sigma_w: float, sigma_u2: float, q: float
) -> None:
    """Near a critical point plain iteration needs tens of thousands of steps; to stop it early is to report another end."""
    phi = rc.ACTIVATIONS[name]
    limit = fixed_point(phi, sigma_w**2, sigma_u2)
    assert not limit.bistable
    assert limit.q == pytest.approx(q, rel=1e-6)
    from_above = 100.0 * limit.q
    for _ in range(60_000):
        from_above = sigma_w**2 * _expect(phi, from_above, phi.f) + sigma_u2
    assert from_above == pytest.approx(limit.q, rel=1e-3)
