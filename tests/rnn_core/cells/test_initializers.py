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
from rnn_core.initializers import OF_OWN_SIZE, SMALLEST_SIZE, ring
from rnn_core.streams import stream
from tests.support.arrays import quick

NAMES = list(rc.INITIALIZERS)
NORMAL = ("orthogonal", "identity", "antisymmetric", "ring")  # W W^T = W^T W


def draw(name: str, size: int, rho: float, seed: int = 0) -> np.ndarray:
    size = SMALLEST_SIZE.get(name, 1) if size == 1 else size
    return rc.recurrent_matrix(np.random.default_rng(seed), size, name, rho)


@pytest.mark.parametrize("name", NAMES)
@given(size=st.integers(1, 24), rho=st.floats(1e-3, 1e3), seed=st.integers(0, 10_000))
@quick
def test_spectral_radius_is_the_one_asked_for(name: str, size: int, rho: float, seed: int) -> None:
    """The x-axis of every figure would be wrong."""
    matrix = draw(name, size, rho, seed)
    assert matrix.shape == (max(size, SMALLEST_SIZE.get(name, 1)),) * 2
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
    if name in NORMAL:
        assert rc.sigma_max(matrix) == pytest.approx(1.3, rel=1e-12)


@pytest.mark.parametrize("name", sorted({*NAMES} - {*OF_OWN_SIZE}))
def test_entries_have_the_variance_of_one_over_the_size(name: str) -> None:
    """sigma_w of a draw is not 1, and ``weight_scale`` sets something else than it says."""
    squares = [(rc.INITIALIZERS[name](np.random.default_rng(seed), 81) ** 2).sum() / 81 for seed in range(40)]
    standard_error = np.std(squares, ddof=1) / math.sqrt(40)
    assert np.mean(squares) == pytest.approx(1.0 - (name == "antisymmetric") / 81, abs=4 * standard_error + 1e-12)
    assert standard_error < 0.02


def test_a_weight_scale_multiplies_the_draw() -> None:
    """A measured number stands in the scale: science.md's recipe N(101, 40, 2), standard normal entries times 2/√40."""
    expected = np.random.default_rng(101).standard_normal((40, 40)) * 2.0 / np.sqrt(40)
    drawn = rc.recurrent_matrix(np.random.default_rng(101), 40, "gaussian", sigma_w=2.0)
    np.testing.assert_allclose(drawn, expected, rtol=1e-15)
    params = rc.GRUCell().init_params(np.random.default_rng(101), 3, 40, spectral_radius=None, weight_scale=2.0)
    np.testing.assert_array_equal(params["weight_hh"][:40], drawn)
    experiment = rc.Experiment(weight_scale=2.0, hidden_size=40, sequence_length=30)
    result, W = rc.run(experiment), rc.prepare(experiment).params["weight_hh"]
    assert experiment.spectral_radius is None and np.sqrt((W**2).mean() * 40) == pytest.approx(2.0, rel=0.05)
    assert result["linear_rate"] == pytest.approx(math.log(result["measured_spectral_radius"]), rel=1e-12)
    assert result["measured_spectral_radius"] == pytest.approx(rc.spectral_radius(W), rel=1e-12)
    assert result["sigma_w"] == pytest.approx(np.sqrt((W**2).sum() / 40), rel=1e-12)


def test_a_spectral_radius_is_not_a_weight_scale() -> None:
    """ρ of a Gaussian matrix of 64 units is 6 % above sigma_w: of one that is scaled to ρ sigma_w is that much lower."""
    radii = [rc.spectral_radius(rc.recurrent_matrix(np.random.default_rng(s), 64, "gaussian", sigma_w=1.0)) for s in range(60)]  # fmt: skip
    assert np.mean(radii) == pytest.approx(1.06, abs=0.02)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weight_scale": 1.0, "spectral_radius": 2.0}, "spectral_radius: 2.0 is not allowed beside weight_scale: 1.0; one"),
        ({"weight_scale": 1.0, "initializer": "pascanu_tanh"}, "weight_scale: 1.0 is not allowed with initializer 'pascanu_tanh', which"),
        ({"weight_scale": 0}, "weight_scale: 0 is not allowed; it must be a number above 0"),
        ({"weight_scale": 1e39, "dtype": "float32"}, "weight_scale: 1e[+]39 is not allowed with dtype 'float32'"),
    ],
)  # fmt: skip
def test_one_number_scales_the_matrix(settings: dict[str, Any], message: str) -> None:
    """Two scales are given, and one of them is ignored; or none is."""
    with pytest.raises(ValueError, match=message):
        rc.Experiment(**settings)


@pytest.mark.parametrize("name", NAMES)
def test_which_draws_are_normal(name: str) -> None:
    """What rho says of a single step is said of the wrong draws."""
    W = draw(name, 33, 1.0)
    distance = np.linalg.norm(W @ W.T - W.T @ W) / np.linalg.norm(W @ W.T)
    assert distance < 1e-13 if name in NORMAL else distance > 0.3


def test_an_antisymmetric_matrix_is_the_difference_to_its_transpose() -> None:
    """Signs or the scale are others than those of M - M^T: science.md, R19, for M = N(51, 32, 1)."""
    M = np.random.default_rng(51).standard_normal((32, 32)) / math.sqrt(32)
    W = draw("antisymmetric", 32, 2.603946207185, seed=51)
    np.testing.assert_allclose(W, M - M.T, rtol=1e-11)
    np.testing.assert_array_equal(W, -W.T)
    assert rc.theory.rest_rate(rc.ResidualCell(step=0.1), {"weight_hh": W}) == pytest.approx(0.032802737666, abs=1e-11)
    damped = rc.ResidualCell(step=0.1, leak=0.1 * 0.05)  # gamma = 0.05 as a leak
    assert rc.theory.rest_rate(damped, {"weight_hh": W}) == pytest.approx(0.028109989448, abs=1e-11)


def test_the_largest_frequency_of_a_wide_antisymmetric_matrix() -> None:
    """M - M^T reaches 2√2 sigma_w (science.md, R18): its draw, divided by √2, reaches 2."""
    frequencies = [
        rc.spectral_radius(rc.INITIALIZERS["antisymmetric"](np.random.default_rng(s), 300)) for s in range(4)
    ]
    assert np.mean(frequencies) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_a_ring_turns_pairs_of_units(size: int) -> None:
    """A block is no turn, an eigenvalue lies outside the ring, or an odd size has no real one."""
    inner = 0.9
    W = ring(np.random.default_rng(size), size, inner) * math.sqrt(0.5 * (1 + inner**2))
    eigenvalues = np.linalg.eigvals(W)
    modulus = np.abs(eigenvalues)
    assert W.dtype == np.float64 and (modulus >= inner * (1 - 1e-12)).all() and (modulus <= 1 + 1e-12).all()
    assert (np.abs(eigenvalues.imag) < 1e-12).sum() == size % 2
    rest = W.copy()
    for first in range(0, size, 2):
        block = rest[first : first + 2, first : first + 2]
        if len(block) == 2:
            assert block[0, 0] == block[1, 1] and block[0, 1] == -block[1, 0]
        block[:] = 0.0
    assert not rest.any()


def test_the_moduli_of_a_ring_are_uniform_by_area_and_its_angles_uniform() -> None:
    """|λ| is drawn and not |λ|², or only half of the plane: Kolmogorov's distance at a level of 0.1 %."""
    eigenvalues = np.linalg.eigvals(ring(np.random.default_rng(3), 1000, 0.5)) * math.sqrt(0.5 * 1.25)
    upper = eigenvalues[eigenvalues.imag > 0]
    for values in ((np.abs(upper) ** 2 - 0.25) / 0.75, np.angle(upper) / math.pi):
        n = len(values)
        assert np.abs(np.sort(values) - (np.arange(n) + 0.5) / n).max() < 1.95 / math.sqrt(n)
    first = np.array([ring(np.random.default_rng(seed), 2)[0, 1] for seed in range(400)])
    assert abs((first > 0).mean() - 0.5) < 4 * 0.5 / 20  # both directions of a turn


@pytest.mark.parametrize(("inner", "outer", "expected"), [(0.9, 0.99, 13.2645757815), (0.0, 0.99, 3.9965672352)])
def test_the_states_of_a_ring(inner: float, outer: float, expected: float) -> None:
    """E h² = ln((1 - r_min²)/(1 - r_max²)) / (r_max² - r_min²) for white inputs (Orvieto et al. 2023, proposition 3.3; R20)."""
    assert math.log((1 - inner**2) / (1 - outer**2)) / (outer**2 - inner**2) == pytest.approx(expected, rel=1e-10)
    scale, drawn = math.sqrt(0.5 * (1 + (inner / outer) ** 2)) * outer, np.random.default_rng(0)
    matrices = [ring(drawn, 100, inner / outer) * scale for _ in range(120)]
    per_draw = [np.mean(1.0 / (1.0 - np.abs(np.linalg.eigvals(W)) ** 2)) for W in matrices]
    assert np.mean(per_draw) == pytest.approx(expected, abs=4 * np.std(per_draw) / math.sqrt(120))
    assert np.std(per_draw) / math.sqrt(120) < 0.02 * expected

    x = np.random.default_rng(1).standard_normal((500, 60, 100))  # one of them in the engine
    h = rc.forward(rc.VanillaCell("identity"), {"weight_hh": matrices[0], "weight_ih": np.eye(100)}, x).hidden[-1]
    assert (h**2).mean() == pytest.approx(per_draw[0], rel=0.1)


def test_a_sparse_row_listens_to_fifteen() -> None:
    """Columns are sparse instead of rows, places repeat, or a small matrix has too few."""
    for size, expected in ((4, 4), (15, 15), (100, 15)):
        nonzero = rc.INITIALIZERS["sparse"](np.random.default_rng(0), size) != 0.0
        assert (nonzero.sum(axis=1) == expected).all()
    assert nonzero.sum(axis=0).std() > 2.0


def test_glorots_entries_are_uniform() -> None:
    """The limit of fan_in + fan_out is another."""
    W = rc.INITIALIZERS["glorot"](np.random.default_rng(0), 300)
    assert 0.999 < np.abs(W).max() / math.sqrt(3 / 300) <= 1.0
    assert W.std() * math.sqrt(300) == pytest.approx(1.0, rel=0.01)


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
    of_size_1 = "hidden_size: 1 is not allowed with initializer 'antisymmetric'; it must be at least 2"
    with pytest.raises(ValueError, match=of_size_1):
        rc.recurrent_matrix(np.random.default_rng(0), 1, "antisymmetric", 1.0)
    with pytest.raises(ValueError, match=r"spectral_radius: 1\.0 is not allowed beside weight_scale: 2\.0"):
        rc.recurrent_matrix(np.random.default_rng(0), 4, "gaussian", 1.0, sigma_w=2.0)
    with pytest.raises(ValueError, match=of_size_1):
        rc.Experiment(initializer="antisymmetric", hidden_size=1)
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


@pytest.mark.parametrize(
    ("cell_name", "name"),
    [(cell, name) for cell, kind in rc.CELLS.items() if kind.has_matrix for name in kind.draws or NAMES],
)
def test_cells_draw_what_they_say(cell_name: str, name: str) -> None:
    """Shapes are not torch.nn's, a gate has another radius, biases are not zero, or inputs are scaled wrongly."""
    cell = rc.CELLS[cell_name](activation="tanh")
    D, H, G = 50, 40, len(cell.gates)
    params = cell.init_params(np.random.default_rng(1), D, H, name, 1.7, 0.4)
    shapes = {"weight_ih": (G * H, D), "weight_hh": cell.recurrent_shape(H), "bias_ih": (G * H,), "bias_hh": (G * H,)}
    assert {key: value.shape for key, value in params.items()} == shapes | dict.fromkeys(cell.own_parameters, (H,))
    for gate in np.split(cell.recurrent_matrix(params["weight_hh"]), G):
        assert rc.spectral_radius(gate) == pytest.approx(1.7, rel=1e-12)
    spread = params["weight_ih"].std() * math.sqrt(D)  # unit-variance inputs give preactivations of this deviation
    assert spread == pytest.approx(0.4, rel=5 / math.sqrt(2 * G * H * D))
    assert not params["bias_ih"].any() and not params["bias_hh"].any()


# ---- drawn at a size of their own ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "scale"), [("pascanu_sigmoid", 0.01), ("pascanu_tanh", 0.1)])
def test_entries_have_the_published_size_where_no_radius_is_asked_for(name: str, scale: float) -> None:
    """``spectral_radius: null`` rescales all the same, or the standard deviation is taken for a variance."""
    matrix = rc.recurrent_matrix(np.random.default_rng(0), 200, name, None)
    assert matrix.std() == pytest.approx(scale, rel=5 / math.sqrt(2 * 200**2))
    assert abs(matrix.mean()) < 5 * scale / 200
    experiment = rc.Experiment(initializer=name, spectral_radius=None, hidden_size=20)
    np.testing.assert_array_equal(
        rc.prepare(experiment).params["weight_hh"],
        rc.INITIALIZERS[name](stream(0, "weights"), 20),
    )


def test_smart_matrices_have_fifteen_entries_a_row() -> None:
    """Rows share their places, or have other numbers of entries; ρ is another."""
    matrix = rc.recurrent_matrix(np.random.default_rng(0), 50, "pascanu_smart", None)
    places = matrix != 0
    assert (places.sum(axis=1) == 15).all() and len({row.tobytes() for row in places}) == 50
    assert rc.spectral_radius(matrix) == pytest.approx(0.95, rel=1e-12)
    assert places.sum(axis=0).min() >= 4 and places.sum(axis=0).max() <= 27  # binomial, 15 of 50
