"""Lyapunov spectra: exact identities, an independent frame that goes forward, published numbers, and every way to keep a tape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core import compiled
from rnn_core.theory import jacobians, kaplan_yorke, log_singular_values, lyapunov_spectrum
from tests.rnn_core.theory.spectra_oracles import autonomous, driven, exponents_by_forward_tangent
from tests.support.arrays import array

CELLS = [
    rc.VanillaCell("tanh"), rc.ResidualCell("tanh", 0.5, 0.25), rc.GRUCell(), rc.GRUResetBeforeCell(), rc.LSTMCell(),
]  # fmt: skip
cells = pytest.mark.parametrize("cell", CELLS, ids=repr)


# ---- exact identities --------------------------------------------------------------------------------------------------


@cells
@pytest.mark.parametrize("gain", [0.9, 2.0])
def test_the_exponents_add_up_to_the_logarithm_of_the_determinant(cell: rc.Cell, gain: float) -> None:
    """A factor of R is dropped, or a frame is not orthonormal."""
    tape = driven(cell, 150, 2, 8, gain)
    volume = np.linalg.slogdet(jacobians(tape, 1))[1].mean()
    assert lyapunov_spectrum(tape, sample=1).exponents.sum() == pytest.approx(volume, rel=1e-10)


@pytest.mark.parametrize("gain", [0.8, 1.5, 6.0, 30.0])
def test_of_a_vanilla_network_they_add_up_to_the_volume_of_w_and_the_slopes(gain: float) -> None:
    """At a gain of 30 most units are saturated, and single steps are steep."""
    tape = autonomous(rc.VanillaCell(), 12, 30, gain, 200)
    slopes = np.log(rc.activation("tanh").df(np.array(tape.saved))).sum(axis=(1, 2)).mean()
    law = np.linalg.slogdet(tape.params["weight_hh"])[1] + slopes
    assert lyapunov_spectrum(tape).exponents.sum() == pytest.approx(law, rel=1e-10)


def test_of_the_identity_they_are_the_moduli_of_the_eigenvalues() -> None:
    """Real ones and pairs; the frame turns to them at its start."""
    rng = np.random.default_rng(3)
    values = np.diag([1.3, 0.0, 0.0, 0.6, 0.2])
    values[1:3, 1:3] = 0.9 * np.array([[np.cos(1.0), np.sin(1.0)], [-np.sin(1.0), np.cos(1.0)]])
    basis = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    params = {"weight_ih": np.zeros((5, 1)), "weight_hh": basis @ values @ basis.T}
    tape = rc.forward(rc.VanillaCell("identity"), params, np.zeros((400, 1, 1)))
    expected = np.log([1.3, 0.9, 0.9, 0.6, 0.2])
    np.testing.assert_allclose(lyapunov_spectrum(tape, burn_in=200).exponents, expected, atol=1e-12)
    np.testing.assert_allclose(lyapunov_spectrum(tape, k=3, burn_in=200).exponents, expected[:3], atol=1e-12)


@cells
def test_a_frame_that_goes_forward_finds_the_same(cell: rc.Cell) -> None:
    """The oracle multiplies by J, another orthogonalisation. All S exponents of n steps differ by what n steps cannot tell."""
    tape = driven(cell, 3000, 1, 5, 1.5)
    matrices, S = jacobians(tape), 5 * len(cell.state_names)
    ours, forward = lyapunov_spectrum(tape, burn_in=300), exponents_by_forward_tangent(matrices, S, burn_in=300)
    np.testing.assert_allclose(ours.exponents, forward, atol=0.02)
    assert ours.exponents.sum() == pytest.approx(np.linalg.slogdet(matrices[:-300])[1].mean(), rel=1e-10)


def test_the_first_exponents_are_those_of_singular_values_per_step() -> None:
    """Of a long product, ln σ_i / T."""
    tape = driven(rc.VanillaCell(), 2000, 1, 6, 1.6)
    np.testing.assert_allclose(lyapunov_spectrum(tape).exponents, log_singular_values(tape) / 2000, atol=0.01)


def test_the_first_exponent_is_the_rate_of_the_gradient() -> None:
    """A conditional exponent is what ``growth`` measures of one sample."""
    tape, grad = driven(rc.VanillaCell(), 2000, 1, 16, 1.5), np.zeros((2000, 1, 16))
    grad[-1] = 1.0
    norms = rc.backward(tape, grad).log_norm
    rate = (norms[0] - norms[-100]) / 1900
    assert lyapunov_spectrum(tape, k=1, burn_in=100).exponents[0] == pytest.approx(rate, abs=0.003)


# ---- numbers of others -------------------------------------------------------------------------------------------------


def test_a_chaotic_network_has_the_spectrum_that_an_independent_program_finds() -> None:
    """N(101, 200, 2): λ₁ = 0.1529 ± 0.0025, D/N = 0.2615, h/N = 0.01108 over 3000 steps; here over 1000."""
    spectrum = lyapunov_spectrum(autonomous(rc.VanillaCell(), 101, 200, 2.0, 1000), burn_in=100)
    assert spectrum.exponents[0] == pytest.approx(0.1529, abs=0.01)
    assert spectrum.dimension / 200 == pytest.approx(0.2615, abs=0.01)
    assert spectrum.entropy_rate / 200 == pytest.approx(0.01108, abs=0.0015)
    assert 0.0 < spectrum.error[0] < 0.01


def test_a_network_that_dies_has_the_spectral_radius_for_an_exponent() -> None:
    """N(105, 100, 0.8): ln ρ(W) = -0.1907."""
    tape = autonomous(rc.VanillaCell(), 105, 100, 0.8, 3000)
    spectrum = lyapunov_spectrum(tape, k=4, burn_in=300)
    assert spectrum.exponents[0] == pytest.approx(math.log(rc.spectral_radius(tape.params["weight_hh"])), abs=5e-4)
    assert spectrum.exponents[0] == pytest.approx(-0.1907, abs=1e-3)
    assert spectrum.dimension == 0.0 and spectrum.entropy_rate == 0.0


@pytest.mark.parametrize(
    ("exponents", "dimension"),
    [
        ([0.5, 0.1, -0.2, -0.9], 3.0 + 0.4 / 0.9),
        ([0.5, 0.2, -0.3, -1.0, -2.0], 3.4),
        ([-2.0, 0.5, -1.0, 0.2, -0.3], 3.4),
        ([-0.1, -0.2], 0.0),
        ([0.0, -1.0], 1.0),
        ([0.3, -0.1], 2.0),
        ([0.3, -np.inf], 1.0),
        ([-np.inf, -np.inf], 0.0),
        ([0.3, np.nan], np.nan),
    ],
)
def test_kaplan_yorke(exponents: list[float], dimension: float) -> None:
    """The index is off by one, or the order counts."""
    assert kaplan_yorke(exponents) == pytest.approx(dimension, rel=1e-12, nan_ok=True)


# ---- few directions ----------------------------------------------------------------------------------------------------


@cells
def test_the_first_of_few_are_the_first_of_all(cell: rc.Cell) -> None:
    """A frame of k columns sees the k fastest directions, once it has turned to them."""
    tape = driven(cell, 1200, 1, 6, 1.5)
    few, whole = lyapunov_spectrum(tape, k=3, burn_in=200), lyapunov_spectrum(tape, burn_in=200)
    np.testing.assert_allclose(few.exponents, whole.exponents[:3], atol=2e-3)
    assert np.isfinite(few.error).all()


def test_units_that_do_not_mix_are_all_seen() -> None:
    """A frame of the first k unit vectors would never leave them."""
    rates = np.linspace(-1.0, 0.5, 10)
    params = {"weight_ih": np.zeros((10, 1)), "weight_hh": np.diag(np.exp(rates))}
    tape = rc.forward(rc.VanillaCell("identity"), params, np.zeros((600, 1, 1)))
    np.testing.assert_allclose(lyapunov_spectrum(tape).exponents, rates[::-1], atol=1e-12)
    np.testing.assert_allclose(lyapunov_spectrum(tape, k=2, burn_in=300).exponents, [0.5, rates[-2]], atol=1e-12)


def test_what_k_exponents_do_not_show_is_nan() -> None:
    """With all of the first positive, neither the dimension nor the entropy is known."""
    tape = driven(rc.VanillaCell("identity"), 50, 1, 6, 1.5)
    growing = rc.forward(rc.VanillaCell("identity"), {**tape.params, "weight_hh": 2.0 * np.eye(6)}, tape.x)
    few, whole = lyapunov_spectrum(growing, k=2), lyapunov_spectrum(growing)
    assert math.isnan(few.dimension) and math.isnan(few.entropy_rate)
    assert whole.dimension == 6.0 and whole.entropy_rate == pytest.approx(6 * math.log(2.0))


def test_directions_that_die_are_minus_infinity() -> None:
    """Units of relu are off: J has rank 3 of 8, and -36 a step is rounding."""
    W = np.random.default_rng(0).standard_normal((8, 8)) * 0.2
    params = {"weight_ih": np.zeros((8, 1)), "weight_hh": W, "bias_ih": np.r_[np.full(3, 50.0), np.full(5, -500.0)]}
    tape = rc.forward(rc.VanillaCell("relu"), params, np.zeros((40, 1, 1)))
    spectrum = lyapunov_spectrum(tape)
    assert np.isneginf(spectrum.exponents).tolist() == [False] * 3 + [True] * 5
    expected = np.sort(np.log(np.abs(np.linalg.eigvals(W[:3, :3]))))[::-1]
    late = lyapunov_spectrum(tape, burn_in=20)
    assert late.exponents[:3].sum() == pytest.approx(expected.sum(), rel=1e-10)
    assert np.isnan(spectrum.error[3:]).all() and spectrum.dimension <= 3.0
    few = lyapunov_spectrum(tape, k=5)
    assert np.isneginf(few.exponents).tolist() == [False] * 3 + [True] * 2
    assert np.isneginf(lyapunov_spectrum(tape, k=1).exponents).tolist() == [False]


def test_directions_that_died_before_the_window_live_again_in_it() -> None:
    """Steps that do not count take no direction away."""
    params = {"weight_ih": np.ones((4, 1)), "weight_hh": np.random.default_rng(1).standard_normal((4, 4)) * 0.1}
    x = np.full((60, 1, 1), 50.0)
    x[50:] = -1e6  # all units off at the end
    tape = rc.forward(rc.VanillaCell("relu"), params, x)
    assert np.isneginf(lyapunov_spectrum(tape).exponents).all()
    spectrum = lyapunov_spectrum(tape, burn_in=10)
    volume = np.linalg.slogdet(params["weight_hh"])[1]
    assert spectrum.exponents.sum() == pytest.approx(volume, rel=1e-10)


@pytest.mark.parametrize("budget", [None, 1])
def test_only_steps_of_the_window_count(budget: int | None) -> None:
    """burn_in and settle are off by one, or are counted within a segment."""
    tape = driven(rc.GRUCell(), 400, 1, 4, 1.5, memory_budget=budget)
    volumes = np.linalg.slogdet(jacobians(tape))[1]  # of step t at t - 1
    for burn_in, settle in [(0, 0), (11, 0), (0, 7), (130, 140), (144, 255), (399, 0), (128, 128), (0, 399)]:
        found = lyapunov_spectrum(tape, burn_in=burn_in, settle=settle).exponents.sum()
        assert found == pytest.approx(volumes[settle : 400 - burn_in].mean(), rel=1e-10)


# ---- every way to have a tape ------------------------------------------------------------------------------------------


@cells
@pytest.mark.parametrize("k", [1, 3, None])
def test_checkpoints_torch_and_the_readable_engine_agree(cell: rc.Cell, k: int | None) -> None:
    """Segments, libraries and paths round differently, and nothing more."""
    tape = driven(cell, 300, 2, 6, 1.2)
    params, expected = tape.params, lyapunov_spectrum(tape, k, 10, sample=1)
    others = [rc.forward(cell, params, tape.x, memory_budget=1)]
    others += [rc.forward(cell, {n: array(v, "torch") for n, v in params.items()}, array(tape.x, "torch"))]
    with compiled.switched_off():
        others += [rc.forward(cell, params, tape.x)]
        slowly = lyapunov_spectrum(tape, k, 10, sample=1)
    for spectrum in [slowly, *(lyapunov_spectrum(other, k, 10, sample=1) for other in others)]:
        np.testing.assert_allclose(spectrum.exponents, expected.exponents, atol=1e-8)
        # A step's Jacobian has a condition number of up to 3e6. What the last direction gains in one step is off by its square times a
        # rounding, and the next step takes that back: the mean does not see it, the error does.
        np.testing.assert_allclose(spectrum.error, expected.error, rtol=1e-5, atol=1e-8)


@cells
def test_float32_networks_have_spectra(cell: rc.Cell) -> None:
    tape = driven(cell, 200, 2, 6, 0.9)
    narrow = rc.forward(cell, {n: v.astype("f") for n, v in tape.params.items()}, tape.x.astype("f"))
    ours, wide = lyapunov_spectrum(narrow, k=3), lyapunov_spectrum(tape, k=3)
    assert ours.exponents.dtype == np.float64
    np.testing.assert_allclose(ours.exponents, wide.exponents, atol=1e-4)


def test_growth_beyond_the_range_of_floats_does_not_matter() -> None:
    """States and the product leave the range of floats; the exponents are ordinary numbers."""
    W = 50.0 * np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    params = {"weight_ih": np.ones((4, 1)), "weight_hh": W}
    tape = rc.forward(rc.VanillaCell("identity"), params, np.ones((400, 1, 1)))
    assert isinstance(tape.hidden, rc.Scaled)
    for scale in (1.0, 1e-200, 1e200):
        scaled = rc.forward(rc.VanillaCell("identity"), {**params, "weight_hh": scale * W}, np.ones((30, 1, 1)))
        for k in (1, 4):
            np.testing.assert_allclose(lyapunov_spectrum(scaled, k).exponents, math.log(50.0 * scale), rtol=1e-12)
    np.testing.assert_allclose(lyapunov_spectrum(tape).exponents, math.log(50.0), rtol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("k", [2, None])
def test_what_is_not_finite_is_nan(bad: float, k: int | None) -> None:
    tape = driven(rc.GRUCell(), 50, 2, 4)
    x = tape.x.copy()
    x[20, 0] = bad
    broken = rc.forward(rc.GRUCell(), tape.params, x)
    if math.isnan(bad):
        spectrum = lyapunov_spectrum(broken, k)
        assert (
            np.isnan(spectrum.exponents).all() and math.isnan(spectrum.dimension) and math.isnan(spectrum.entropy_rate)
        )
    else:
        assert not np.isposinf(lyapunov_spectrum(broken, k).exponents).any()
    assert np.isfinite(lyapunov_spectrum(broken, k, sample=1).exponents).all()


def test_a_short_sequence_has_exponents_without_an_error() -> None:
    tape = driven(rc.VanillaCell(), 1, 1, 3)
    spectrum = lyapunov_spectrum(tape)
    assert np.isfinite(spectrum.exponents).all() and np.isnan(spectrum.error).all()
    assert spectrum.exponents.sum() == pytest.approx(np.linalg.slogdet(jacobians(tape)[0])[1], rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k: 0 is not allowed; it must be an integer from 1 to 10, the units of this state, or None"),
        ({"k": 11}, "k: 11 is not allowed"),
        ({"k": 2.0}, "k: 2.0 is not allowed"),
        ({"burn_in": 30}, "burn_in: 30 is not allowed; it must be a number of steps from 0 to 29, for T = 30"),
        ({"burn_in": -1}, "burn_in: -1 is not allowed"),
        ({"burn_in": 10, "settle": 20}, "settle: 20 is not allowed; it must be a number of steps from 0 to 19"),
        ({"sample": 2}, "sample: 2 is not allowed; it must be an integer from 0 to 1, for B = 2"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lyapunov_spectrum(driven(rc.LSTMCell(), 30, 2, 5), **options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "exponents: shape"),
        ([[0.1]], "exponents: shape"),
        ("ab", "exponents: dtype"),
    ],
)
def test_a_wrong_list_of_exponents_is_named(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kaplan_yorke(given)
