"""Recurrent matrices: the spectral radius that is asked for is the one that is there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from tests.support.arrays import quick

NAMES = list(rc.INITIALIZERS)


def draw(name: str, size: int, rho: float, seed: int = 0) -> np.ndarray:
    return rc.recurrent_matrix(np.random.default_rng(seed), size, name, rho)


@pytest.mark.parametrize("name", NAMES)
@given(size=st.integers(1, 24), rho=st.floats(1e-3, 1e3), seed=st.integers(0, 10_000))
@quick
def test_spectral_radius_is_the_one_asked_for(name: str, size: int, rho: float, seed: int) -> None:
    """The x-axis of every figure would be wrong."""
    matrix = draw(name, size, rho, seed)
    assert matrix.shape == (size, size)
    assert matrix.dtype == np.float64
    assert max(abs(np.linalg.eigvals(matrix))) == pytest.approx(rho, rel=1e-11)
    assert rc.spectral_radius(matrix) == pytest.approx(rho, rel=1e-11)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000), rho=st.floats(0.1, 4.0))
@quick
def test_every_radius_rescales_the_same_matrix(name: str, seed: int, rho: float) -> None:
    """Two points of a sweep over rho differ by more than rho."""
    np.testing.assert_allclose(draw(name, 8, rho, seed), rho * draw(name, 8, 1.0, seed), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 12))
@quick
def test_an_eigenvalue_is_no_larger_than_the_largest_singular_value(name: str, seed: int, size: int) -> None:
    """rho and sigma_max are confused, or one of them is computed wrongly."""
    matrix = draw(name, size, 1.3, seed)
    largest = math.sqrt(max(np.linalg.eigvalsh(matrix.T @ matrix)))
    assert rc.sigma_max(matrix) == pytest.approx(largest, rel=1e-12)
    assert rc.spectral_radius(matrix) <= rc.sigma_max(matrix) * (1 + 1e-12)
    if name in ("orthogonal", "identity"):  # normal matrices
        assert rc.sigma_max(matrix) == pytest.approx(1.3, rel=1e-12)


def test_a_gaussian_matrix_is_not_normal() -> None:
    """If rho were sigma_max for a Gaussian matrix too, the tests above could not tell them apart."""
    matrix = draw("gaussian", 64, 1.0)
    assert rc.sigma_max(matrix) > 1.5


def test_circular_law() -> None:
    """Entries have variance 1/H, so that before it is rescaled rho is near 1 (Girko) and sigma_max near 2 (Bai-Yin)."""
    matrix = rc.INITIALIZERS["gaussian"](np.random.default_rng(0), 400)
    assert np.std(matrix) * math.sqrt(400) == pytest.approx(1.0, abs=4 / 400)
    assert rc.spectral_radius(matrix) == pytest.approx(1.0, abs=0.1)
    assert rc.sigma_max(matrix) == pytest.approx(2.0, abs=0.1)


def test_orthogonal_is_orthogonal_and_uniform() -> None:
    """Without the signs of R's diagonal QR does not give the uniform distribution: the mean of Q_11 would not be zero."""
    rng = np.random.default_rng(0)
    draws = np.array([rc.INITIALIZERS["orthogonal"](rng, 3) for _ in range(2000)])
    np.testing.assert_allclose(draws @ draws.transpose(0, 2, 1), np.broadcast_to(np.eye(3), draws.shape), atol=1e-14)
    standard_error = 1 / math.sqrt(3 * 2000)  # E[Q_ij²] = 1/3
    assert np.abs(draws.mean(axis=0)).max() < 5 * standard_error
    assert (np.linalg.det(draws) > 0).mean() == pytest.approx(0.5, abs=5 * 0.5 / math.sqrt(2000))


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan, math.inf])
def test_impossible_radii_are_refused(rho: float) -> None:
    """A matrix of nan would be drawn."""
    with pytest.raises(ValueError, match=r"spectral_radius: .* must be positive and finite"):
        draw("gaussian", 4, rho)


def test_other_impossible_arguments_are_refused() -> None:
    """An empty matrix, or a typing error, would fail somewhere inside."""
    with pytest.raises(ValueError, match="hidden_size: 0 is not allowed; it must be an integer of at least 1"):
        draw("gaussian", 0, 1.0)
    with pytest.raises(ValueError, match=r"initializer: 'gausian' .*Did you mean 'gaussian'\?"):
        draw("gausian", 4, 1.0)
    with pytest.raises(
        ValueError, match=r"rng: 3 is not allowed; it must be a NumPy generator, np.random.default_rng\(seed\)"
    ):
        rc.recurrent_matrix(3, 4, "gaussian", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"initializer: 3 is not known; allowed: gaussian, orthogonal, identity"):
        draw(3, 4, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("measure", [rc.spectral_radius, rc.sigma_max])
@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros(3), r"matrix: shape \(3,\) is not allowed; it must be "),
        (2.0, r"matrix: shape \(\) is not allowed; it must be "),
        (np.zeros((0, 0)), r"matrix: shape \(0, 0\) is not allowed; it must be "),
        (np.zeros((2, 3, 3)), r"matrix: shape \(2, 3, 3\) is not allowed; it must be "),
        ([[1.0, 2.0], [3.0]], r"matrix: the values make no array"),
        ("tanh", r"matrix: dtype <U4 is not allowed; it must be numbers"),
        (None, r"matrix: dtype object is not allowed; it must be numbers"),
        (np.diag([1.0, np.nan]), r"matrix: an entry is inf or nan; all must be finite"),
    ],
    ids=str,
)
def test_what_is_no_matrix_is_refused(measure: Any, matrix: Any, message: str) -> None:
    """NumPy's own words come from inside an eigenvalue routine."""
    with pytest.raises(ValueError, match=message):
        measure(matrix)


def test_a_gated_matrix_has_no_spectral_radius_of_its_own() -> None:
    """The three gates of a GRU are stacked, and an error does not say how to take them apart."""
    W = rc.GRUCell().init_params(np.random.default_rng(0), 2, 4)["weight_hh"]
    with pytest.raises(
        ValueError, match=r"shape \(12, 4\) .* must be square, \(H, H\); of a gated cell .*np\.split\(weight_hh, 3\)"
    ):
        rc.spectral_radius(W)
    assert rc.sigma_max(W) > rc.sigma_max(np.split(W, 3)[0]) > 0.0


def test_matrices_of_other_kinds_are_measured() -> None:
    """A list of rows or a torch tensor ends in an error of Python."""
    rows = [[0.0, 2.0], [0.5, 0.0]]
    for matrix in (rows, np.array(rows), torch.tensor(rows), torch.tensor(rows, requires_grad=True)):
        assert rc.spectral_radius(matrix) == pytest.approx(1.0)
        assert rc.sigma_max(matrix) == pytest.approx(2.0)
    assert rc.spectral_radius(np.array([[0, 2], [2, 0]])) == pytest.approx(2.0)


@pytest.mark.parametrize("cell_name", list(rc.CELLS))
@pytest.mark.parametrize("name", NAMES)
def test_cells_draw_what_they_say(cell_name: str, name: str) -> None:
    """Shapes are not torch.nn's, a gate has another radius, biases are not zero, or inputs are scaled wrongly."""
    cell = rc.CELLS[cell_name](activation="tanh")
    D, H, G = 50, 40, len(cell.gates)
    params = cell.init_params(np.random.default_rng(1), D, H, name, 1.7, 0.4)
    shapes = {"weight_ih": (G * H, D), "weight_hh": cell.recurrent_shape(H), "bias_ih": (G * H,), "bias_hh": (G * H,)}
    assert {key: value.shape for key, value in params.items()} == shapes
    for gate in np.split(cell.recurrent_matrix(params["weight_hh"]), G):
        assert rc.spectral_radius(gate) == pytest.approx(1.7, rel=1e-12)
    spread = params["weight_ih"].std() * math.sqrt(D)  # unit-variance inputs give preactivations of this deviation
    assert spread == pytest.approx(0.4, rel=5 / math.sqrt(2 * G * H * D))
    assert not params["bias_ih"].any() and not params["bias_hh"].any()
