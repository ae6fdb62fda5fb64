"""The correlation of two copies, and where mean field turns: known values, closed forms, plain quadrature and real networks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq

import rnn_core as rc
from rnn_core.theory import correlation, critical_sigma_w, fixed_point
from rnn_core.theory.mean_field import _expect

TANH = rc.ACTIVATIONS["tanh"]


@pytest.mark.parametrize(
    ("sigma_w2", "sigma_u2", "r", "c", "chi", "scale"),
    [
        (1.3, 0.05, 1.0, 1.0, 0.8801635, 7.8340693),
        (2.5, 0.05, 1.0, 0.4468042, 0.9187168, 11.795598),
        (4.0, 0.25, 1.0, 0.5209464, 0.8564503, 6.4533200),
        (1.3, 0.05, 0.5, 0.4584628, 0.8342621, 5.5185297),
    ],
)
def test_values_of_an_independent_program(
    sigma_w2: float, sigma_u2: float, r: float, c: float, chi: float, scale: float
) -> None:
    """science.md, R13."""
    found = correlation(TANH, sigma_w2, sigma_u2, r)
    assert found.c == pytest.approx(c, abs=2e-7)
    assert found.chi == pytest.approx(chi, abs=2e-7)
    assert found.scale == pytest.approx(scale, rel=2e-6)


def test_how_fast_the_variance_settles() -> None:
    """science.md, R13: a slope of the map that forgets phi phi''."""
    assert fixed_point(TANH, 2.5, 0.05).scale_q == pytest.approx(1.1798730, rel=1e-6)
    assert fixed_point(rc.ACTIVATIONS["relu"], 1.0, 0.5).chi_q == pytest.approx(0.5, rel=1e-12)
    assert fixed_point(rc.ACTIVATIONS["relu"], 3.0, 0.5).q == math.inf
    for name in ("tanh", "gelu", "hard_tanh", "selu", "sigmoid"):
        phi, w = rc.ACTIVATIONS[name], 1.1
        limit, step = fixed_point(phi, w, 0.3), 1e-5
        by_differences = w * (_expect(phi, limit.q + step, phi.f) - _expect(phi, limit.q - step, phi.f)) / (2 * step)
        assert limit.chi_q == pytest.approx(by_differences, rel=1e-6)


def plain(phi: rc.Activation, q: float, c: float, derivative: bool) -> float:
    """E[phi(u_1) phi(u_2)] on a fine plain grid in the sum and the difference of the two."""
    z = np.linspace(-9.0, 9.0, 2401)
    weights = np.exp(-z * z / 2)
    weights /= weights.sum()
    plus, minus = math.sqrt(q * (1 + c) / 2) * z[:, None], math.sqrt(q * (1 - c) / 2) * z
    function = phi.df if derivative else phi.f
    return float(weights @ (function(plus + minus) * function(plus - minus)) @ weights)


@pytest.mark.parametrize("name", list(rc.ACTIVATIONS))
@pytest.mark.parametrize(
    ("sigma_w2", "sigma_u2", "r", "sigma_b2"),
    [(1.7, 0.2, 0.6, 0.0), (3.1, 0.4, 1.0, 0.0), (1.9, 0.3, -0.7, 0.1), (6.0, 0.1, 1.0, 0.05)],
)
def test_every_activation_by_plain_quadrature(
    name: str, sigma_w2: float, sigma_u2: float, r: float, sigma_b2: float
) -> None:
    """A coefficient of Mehler's series, its tail, or the constant of biases is wrong; jumps of phi' are where series end late."""
    phi = rc.ACTIVATIONS[name]
    limit = fixed_point(phi, sigma_w2, sigma_u2, sigma_b2=sigma_b2)
    found = correlation(phi, sigma_w2, sigma_u2, r, sigma_b2=sigma_b2)
    if limit.q == math.inf:
        assert all(map(math.isnan, found))
        return
    again = (sigma_w2 * plain(phi, limit.q, found.c, False) + sigma_b2 + r * sigma_u2) / limit.q
    slope = phi.df(np.array([-1e-6, 0.0, 1e-6]))
    smooth = not phi.kinks and abs(np.diff(slope, n=2)[0]) < 1e-9  # the plain grid sees no corner of phi'
    assert again == pytest.approx(found.c, abs=1e-9 if smooth else 2e-5)
    assert found.chi == pytest.approx(sigma_w2 * plain(phi, limit.q, found.c, True), rel=1e-8 if smooth else 3e-3)
    assert found.chi <= 1.0 + 1e-9  # it is where copies go, so a change must not grow
    assert (found.c == 1.0) == (r == 1.0 and limit.chi <= 1.0)


@pytest.mark.parametrize(("sigma_w2", "r"), [(1.5, 0.5), (0.9, 0.0), (1.9, -0.4), (1.2, 0.95)])
def test_relu_has_a_closed_form(sigma_w2: float, r: float) -> None:
    """The arc-cosine kernel (Cho & Saul 2009): the series of a kink ends late, and its tail must hold."""
    q = 0.3 / (1 - sigma_w2 / 2)

    def excess(c: float) -> float:
        kernel = q / (2 * math.pi) * (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c)))
        return (sigma_w2 * kernel + r * 0.3) / q - c

    c = brentq(excess, -1.0, 1.0, xtol=1e-15)
    found = correlation(rc.ACTIVATIONS["relu"], sigma_w2, 0.3, r)
    assert found.c == pytest.approx(c, abs=1e-6)
    assert found.chi == pytest.approx(sigma_w2 * (math.pi - math.acos(c)) / (2 * math.pi), rel=1e-4)


@pytest.mark.parametrize("r", [0.999, 0.99999])
def test_relu_near_the_same_inputs(r: float) -> None:
    """c* so near 1 that a thousand orders are too few: what is beyond them must be added."""
    q = 0.3 / (1 - 1.5 / 2)

    def short(apart: float) -> float:  # of c = 1 - apart, the map below the diagonal
        c = 1.0 - apart
        kernel = q / (2 * math.pi) * (math.sqrt(apart * (2.0 - apart)) + c * (math.pi - math.acos(c)))
        return (1.5 * kernel + r * 0.3) / q - c

    apart = brentq(short, 1e-9, 0.1, xtol=1e-15)
    assert 1.0 - correlation(rc.ACTIVATIONS["relu"], 1.5, 0.3, r).c == pytest.approx(apart, rel=0.01)


@pytest.mark.parametrize(("power", "sigma_u2"), [(3, 0.02), (3, 0.05), (3, 0.2), (5, 0.08), (5, 0.1)])
def test_a_branch_that_jumps_to_a_further_one(power: int, sigma_u2: float) -> None:
    """Units that are off near rest and saturate far out: q jumps over a dip, and chi_1 may pass 1 before, in the jump or after."""
    p = power
    phi = rc.Activation(
        "flat",
        lambda xp, a: xp.tanh(a) ** p,
        lambda xp, a: p * xp.tanh(a) ** (p - 1) * (1 - xp.tanh(a) ** 2),
        0.75,
        "a test",
        bounded=True,
    )
    sigma_w = critical_sigma_w(phi, sigma_u2)
    scan = sigma_w * np.array([0.3, 0.6, 0.8, 0.9, 0.97, 0.99, 1.0 - 2e-4])
    assert max(fixed_point(phi, each**2, sigma_u2).chi for each in scan) < 1.0
    assert fixed_point(phi, (sigma_w * (1 + 1e-4)) ** 2, sigma_u2).chi >= 1.0


@pytest.mark.parametrize("sigma_w2", [1.02, 1.1, 1.5])
def test_hard_tanh_just_beyond_the_transition(sigma_w2: float) -> None:
    """c* near 1, where orders beyond the last coefficient count: against bivariate integrals that end at the kinks."""
    phi, u = rc.ACTIVATIONS["hard_tanh"], 1e-3
    limit, found = fixed_point(phi, sigma_w2, u), correlation(phi, sigma_w2, u)
    if limit.chi <= 1.0:
        assert found == (1.0, limit.chi, -1.0 / math.log(limit.chi))
        return
    again = (sigma_w2 * inner_first(phi, limit.q, found.c) + u) / limit.q
    assert 0.0 < found.c < 1.0
    assert (again - found.c) / (1.0 - found.c) == pytest.approx(0.0, abs=1e-4)


def inner_first(phi: rc.Activation, q: float, c: float) -> float:
    """E[phi(u_1) phi(u_2)]: for each u_1 the mean of clip(u_2) in closed form, then a fine grid over u_1."""
    from scipy.stats import norm

    z = np.linspace(-10.0, 10.0, 200_001)
    m, s = c * math.sqrt(q) * z, math.sqrt(q * (1 - c * c))
    low, high = (-1 - m) / s, (1 - m) / s
    inside = m * (norm.cdf(high) - norm.cdf(low)) + s * (norm.pdf(low) - norm.pdf(high))
    mean = inside + norm.sf(high) - norm.cdf(low)
    return float((phi.f(math.sqrt(q) * z) * mean * norm.pdf(z)).sum() * (z[1] - z[0]))


@pytest.mark.parametrize(("rho", "alike"), [(0.9, True), (2.5, False)])
def test_copies_of_a_wide_network(rho: float, alike: bool) -> None:
    """Two copies that start apart under the same inputs meet, or end with the correlation that theory says."""
    H, T = 600, 120
    rng, cell = np.random.default_rng(0), rc.VanillaCell()
    params = cell.init_params(rng, 300, H, "gaussian", rho, 0.3)
    x = np.repeat(rng.standard_normal((T, 1, 300)), 2, axis=1)
    tape = rc.forward(cell, params, x, {"hidden": rng.standard_normal((2, H))})
    W, u = params["weight_hh"], x[:, :1] @ params["weight_ih"].T
    a = tape.hidden[40:-1] @ W.T + u[41:]
    measured = (a[:, 0] * a[:, 1]).sum() / np.sqrt((a[:, 0] ** 2).sum() * (a[:, 1] ** 2).sum())
    found = correlation(TANH, float((W**2).sum() / H), float((u**2).mean()))
    assert (found.c == 1.0) is alike
    assert measured == pytest.approx(found.c, abs=1e-6 if alike else 0.05)


def test_the_smallest_critical_sigma_w_is_where_a_run_would_find_it() -> None:
    """Just below it chi_1 is below 1, just above it is not; the branch, jumps and inputs of every size."""
    for name, phi in rc.ACTIVATIONS.items():
        for sigma_u2 in (0.0, 1e-6, 0.01, 0.3, 4.0):
            sigma_w = critical_sigma_w(phi, sigma_u2)
            if sigma_w == math.inf:
                assert fixed_point(phi, 900.0**2, sigma_u2).chi < 1.0, (name, sigma_u2)
                continue
            at, beyond = (fixed_point(phi, (sigma_w * (1 + e)) ** 2, sigma_u2).chi for e in (-2e-4, 1e-6))
            assert at < 1.0 <= beyond * (1 + 1e-9), (name, sigma_u2)
            if beyond < 1.001:  # no jump
                assert fixed_point(phi, sigma_w**2, sigma_u2).chi == pytest.approx(1.0, abs=1e-8), (name, sigma_u2)
            smaller = [fixed_point(phi, (sigma_w * share) ** 2, sigma_u2).chi for share in np.linspace(0.05, 0.999, 20)]
            assert max(smaller) < 1.0, (name, sigma_u2)


@pytest.mark.parametrize(("arguments", "message"), [
    (("tanh", 1.0, 1.0), "phi: 'tanh' is not allowed"),
    ((TANH, -1.0, 1.0), "sigma_w2: -1.0 is not allowed"),
    ((TANH, 1.0, math.nan), "sigma_u2: nan is not allowed"),
])  # fmt: skip
def test_wrong_arguments_are_named(arguments: tuple, message: str) -> None:
    for function in (fixed_point, correlation):
        with pytest.raises(ValueError, match=message):
            function(*arguments)
    with pytest.raises(ValueError, match=r"r: 1\.5 is not allowed"):
        correlation(TANH, 1.0, 1.0, 1.5)
    with pytest.raises(ValueError, match=r"sigma_u2: -0\.1 is not allowed"):
        critical_sigma_w(TANH, -0.1)
