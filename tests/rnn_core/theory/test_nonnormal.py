"""Measures of non-normality: known values, theorems, and what wide random matrices tend to."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rnn_core.theory import (
    henrici,
    kreiss_constant,
    memory_sensitivity,
    numerical_abscissa,
    numerical_radius,
    peak_growth,
)

SHEAR = np.array([[0.9, 5.0], [0.0, 0.8]])
SHIFT = 0.4 * np.eye(8) + np.diag(np.ones(7), 1)


def gaussian(seed: int = 5, H: int = 40, rho: float = 0.95) -> np.ndarray:
    W = np.random.default_rng(seed).standard_normal((H, H))
    return np.asarray(W * rho / np.abs(np.linalg.eigvals(W)).max())


def antisymmetric() -> np.ndarray:
    """K = M - M^T of the recipe N(51, 32, 1)."""
    M = np.random.default_rng(51).standard_normal((32, 32)) / math.sqrt(32)
    return M - M.T


@pytest.mark.parametrize(
    ("W", "kreiss", "radius", "departure", "peak", "lag"),
    [
        (SHEAR, 8.608641, 3.3504999500, 5.0, 13.477879, 6),
        (SHIFT, 3.388873, 1.3396926208, 2.6457513111, 11.749001, 10),
        (gaussian(), 1.742672, 1.3172462489, 3.9036433837, 3.496563, 10),
    ],
)
def test_values_of_an_independent_program(
    W: np.ndarray, kreiss: float, radius: float, departure: float, peak: float, lag: int
) -> None:
    """science.md, R17."""
    assert kreiss_constant(W) == pytest.approx(kreiss, rel=1e-6)
    assert numerical_radius(W) == pytest.approx(radius, rel=1e-9)
    assert henrici(W) == pytest.approx(departure, rel=1e-9)
    factor, at = peak_growth(W)
    assert factor == pytest.approx(peak, rel=1e-7) and at == lag


def test_an_antisymmetric_network_explodes() -> None:
    """Its Euler steps grow by ½ ln(1 + ε² ω²), although its numerical abscissa is 0 (science.md, R19)."""
    from rnn_core import ResidualCell
    from rnn_core.theory import rest_rate

    K = antisymmetric()
    assert np.abs(np.linalg.eigvals(K)).max() == pytest.approx(2.603946207185, rel=1e-11)
    assert rest_rate(ResidualCell(step=0.1), {"weight_hh": K}) == pytest.approx(0.032802737666, rel=1e-9)
    damped = K - 0.05 * np.eye(32)
    assert rest_rate(ResidualCell(step=0.1), {"weight_hh": damped}) == pytest.approx(0.028109989448, rel=1e-9)
    assert numerical_abscissa(K) == pytest.approx(0.0, abs=1e-14)
    assert numerical_abscissa(damped) == pytest.approx(-0.05, rel=1e-12)


def test_a_wide_gaussian_matrix() -> None:
    """What it tends to: r -> √2 sigma_w, Henrici over ‖W‖_F -> 1/√2 (science.md, R18); here H = 300."""
    W = np.random.default_rng(0).standard_normal((300, 300)) / math.sqrt(300)
    assert numerical_radius(W) == pytest.approx(math.sqrt(2.0), rel=0.02)
    assert henrici(W) / np.linalg.norm(W) == pytest.approx(math.sqrt(0.5), rel=0.01)
    assert numerical_abscissa(W) == pytest.approx(math.sqrt(2.0), rel=0.03)


def test_a_normal_matrix_shows_nothing() -> None:
    """Orthogonal, symmetric, diagonal: growth in the end is growth at once."""
    rng = np.random.default_rng(2)
    Q, _ = np.linalg.qr(rng.standard_normal((9, 9)))
    symmetric = Q @ np.diag(np.linspace(-0.7, 0.6, 9)) @ Q.T
    for W, rho in ((0.9 * Q, 0.9), (symmetric, 0.7), (np.diag([0.5, -0.8]), 0.8)):
        assert henrici(W) == pytest.approx(0.0, abs=1e-13)
        assert numerical_radius(W) == pytest.approx(rho, rel=1e-12)
        assert kreiss_constant(W) == pytest.approx(1.0, rel=1e-9)
        assert peak_growth(W) == (1.0, 0)
        factor, _ = peak_growth(W, relative=True)
        assert factor == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_theorems(seed: int) -> None:
    """Kreiss <= largest power <= e H Kreiss; ‖W^k‖ <= 2 r^k; ‖W‖/2 <= r <= ‖W‖; rho <= r."""
    H = 7
    W = gaussian(seed, H, 0.9) + (0.7 * np.triu(np.ones((H, H)), 1) if seed % 2 else 0.0)
    W *= 0.9 / np.abs(np.linalg.eigvals(W)).max()
    K, r, peak = kreiss_constant(W), numerical_radius(W), peak_growth(W)
    norms = [np.linalg.norm(np.linalg.matrix_power(W, k), 2) for k in range(300)]
    assert peak.factor == pytest.approx(max(norms), rel=1e-12) and peak.lag == int(np.argmax(norms))
    assert K <= peak.factor * (1 + 1e-9) <= math.e * H * K
    assert all(norm <= 2 * r**k * (1 + 1e-9) for k, norm in enumerate(norms))
    assert norms[1] / 2 <= r * (1 + 1e-12) and r <= norms[1] * (1 + 1e-12) and r >= 0.9 - 1e-12
    v = np.random.default_rng(seed).standard_normal((H, 500)) + 1j * np.random.default_rng(seed + 50).standard_normal(
        (H, 500)
    )
    v /= np.linalg.norm(v, axis=0)
    assert np.abs((v.conj() * (W @ v)).sum(axis=0)).max() <= r * (1 + 1e-12)


def test_relative_growth_knows_no_scale() -> None:
    """A sweep over rho changes what belongs to the shape of W."""
    W = gaussian(1, 12, 1.0)
    factor, lag = peak_growth(W, relative=True)
    for scale in (0.3, 1.7):
        other, at = peak_growth(scale * W, relative=True)
        assert other == pytest.approx(factor, rel=1e-9) and at == lag
    assert peak_growth(1.7 * W) == peak_growth(1.7 * W, relative=True)  # there the absolute one has no end
    norms = [np.linalg.norm(np.linalg.matrix_power(W, k), 2) for k in range(201)]
    assert factor == pytest.approx(max(norms), rel=1e-9)


def test_a_radius_of_one_has_no_kreiss_constant() -> None:
    assert kreiss_constant(np.eye(3)) == math.inf
    with pytest.raises(ValueError, match="relative: False is not allowed with a spectral radius of 2"):
        peak_growth(2 * np.eye(2), relative=False)
    with pytest.raises(ValueError, match="relative: True is not allowed for a matrix whose spectral radius is 0"):
        peak_growth(np.diag([1.0], 1), relative=True)
    assert peak_growth(np.diag([3.0], 1)) == (3.0, 1)


@pytest.mark.parametrize("function", [henrici, kreiss_constant, numerical_abscissa, numerical_radius, peak_growth])
@pytest.mark.parametrize(
    ("W", "message"),
    [
        (np.ones((2, 3)), r"W: shape \(2, 3\) is not allowed; it must be square"),
        (np.full((2, 2), math.nan), "W: an entry is inf or nan"),
        ([["a"]], "W: dtype"),
    ],
)
def test_wrong_matrices_are_named(function: Callable[[Any], Any], W: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        function(W)


@pytest.mark.parametrize(
    ("lam", "r", "state", "derivative"),
    [
        (0.9, 0.0, 5.2631578947, 263.88686397),
        (0.8, 0.3, 4.5321637427, 63.763684173),
        (0.95, 0.8, 75.2136752137, 17828.576566),
    ],
)
def test_the_curse_of_memory(lam: float, r: float, state: float, derivative: float) -> None:
    """science.md, R21."""
    assert memory_sensitivity(lam, r) == pytest.approx((state, derivative), rel=1e-9)


@pytest.mark.parametrize(("lam", "r"), [(0.7, 0.5), (-0.6, 0.4), (0.5, -0.3), (0.0, 0.2)])
def test_the_curse_of_memory_by_its_sums(lam: float, r: float) -> None:
    """E h² = Σ λ^j λ^k r^|j-k| and E(∂h/∂λ)² = Σ j λ^(j-1) k λ^(k-1) r^|j-k|."""
    k = np.arange(400.0)
    between = r ** np.abs(k[:, None] - k)
    powers, derivatives = lam**k, np.concatenate([[0.0], k[1:] * lam ** (k[1:] - 1)])
    expected = (powers @ between @ powers, derivatives @ between @ derivatives)
    assert memory_sensitivity(lam, r) == pytest.approx(expected, rel=1e-10)
    with pytest.raises(ValueError, match=r"lam: 1\.0 is not allowed"):
        memory_sensitivity(1.0, r)
