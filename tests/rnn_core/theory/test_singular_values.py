"""Singular values of products of Jacobians, against products with hundreds of digits and against numbers of an independent program."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import pytest

import rnn_core as rc
from rnn_core.theory import jacobians, log_singular_values
from rnn_core.theory.singular_values import Graded, _orthogonal
from tests.rnn_core.theory.spectra_oracles import autonomous, driven, log_singular_values_by_mpmath
from tests.support.arrays import array

REFERENCE = [  # networks without inputs, computed with 1000 digits by a program that shares nothing with this one
    (rc.VanillaCell(), 11, 6, 1.5, 40, [1.5540296402, -5.0227937330, -18.8160345762, -21.2035992844, -45.3618434953, -46.6832279404]),
    (rc.GRUCell(), 21, 4, 3.0, 30, [-10.8458513850, -24.5169328430, -28.5479251634, -70.9249971558]),
    (
        rc.LSTMCell(), 31, 3, 2.0, 25,
        [-6.7331678362, -18.9028894091, -44.6396152854, -205.1553122076, -252.0349518332, -262.9201206756],
    ),
]  # fmt: skip


def exact(tape: rc.Tape, digits: int) -> np.ndarray:
    return log_singular_values_by_mpmath(list(jacobians(tape)), digits)


@pytest.mark.parametrize(
    ("cell", "seed", "N", "gain", "T", "expected"), REFERENCE, ids=lambda v: getattr(v, "name", None)
)
def test_they_are_those_of_an_independent_program(
    cell: rc.Cell, seed: int, N: int, gain: float, T: int, expected: list[float]
) -> None:
    """Small values are lost beside large ones, or the last is taken from the wrong end of the product."""
    np.testing.assert_allclose(log_singular_values(autonomous(cell, seed, N, gain, T)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("gain", [0.5, 1.5, 5.0, 20.0, 50.0])
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_saturated_units_leave_every_digit(activation: str, gain: float) -> None:
    """At a gain of 50 the slopes of one step differ by 200 decades, and rounding hides the small directions of J itself."""
    tape = autonomous(rc.VanillaCell(activation), 7, 6, gain, 10)
    W = mp.matrix(tape.params["weight_hh"].tolist())
    with mp.workdps(2000):
        slope = (lambda a: 1 / mp.cosh(a) ** 2) if activation == "tanh" else (lambda a: 1 / (2 * mp.cosh(a / 2)) ** 2)
        matrices = [mp.diag([slope(mp.mpf(float(a))) for a in saved[:, 0]]) * W for saved in tape.saved]
    np.testing.assert_allclose(
        log_singular_values(tape), log_singular_values_by_mpmath(matrices, 2000), atol=1e-10, rtol=0
    )


def shut_and_open(seed: int) -> rc.Tape:
    """A gated network whose gates are shut beyond 10^-30 in one step and open in the next."""
    rng = np.random.default_rng(seed)
    cell = rc.GRUCell("tanh") if seed % 2 else rc.LSTMCell("sigmoid")
    params = cell.init_params(rng, 2, 3, spectral_radius=1.0)
    return rc.forward(cell, params, 100.0 * rng.standard_normal((4, 1, 2)))


def lost(seed: int) -> bool | None:
    """Whether the largest value cannot be that of the exact product; None where it is not known."""
    tape = shut_and_open(seed)
    found = log_singular_values(tape)[0]
    with mp.workdps(1200):  # the norm of all entries is at least the largest value, and at most sqrt(S) times it
        product = mp.eye(len(next(iter(jacobians(tape)))))
        for J in jacobians(tape):
            product = mp.matrix(J.tolist()) * product
        norm = float(mp.log(mp.norm(product))) if any(product) else -np.inf
    return None if np.isnan(found) else not norm - np.log(len(product)) / 2 - 1e-6 <= found <= norm + 1e-6


def test_a_largest_value_that_rounding_hides_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a wrong number, hundreds of decades too small."""
    judged = [lost(seed) for seed in range(24)]
    assert True not in judged
    assert None in judged and False in judged
    monkeypatch.setattr("rnn_core.theory.singular_values.SLACK", np.inf)
    assert all(lost(seed) for seed, known in enumerate(judged) if known is None)


@pytest.mark.parametrize("gain", [2.0, 5.0, 20.0])
def test_of_an_lstm_what_the_output_gate_sends_back_alone_is_not_lost(gain: float) -> None:
    """dh_t/dh_{t-1} is a sum of two parts. Where the output gate is saturated, one is far below the rounding of the other."""
    tape, n = autonomous(rc.LSTMCell(), 9, 4, gain, 6), 4
    with mp.workdps(800):
        matrices = [_lstm_jacobian(tape.params["weight_hh"], saved, n) for saved in tape.saved]
        expected = log_singular_values_by_mpmath(matrices, 800)
    np.testing.assert_allclose(log_singular_values(tape), expected, atol=1e-9, rtol=0)


def _lstm_jacobian(W: np.ndarray, saved: Any, n: int) -> Any:
    """∂(h_t; c_t)/∂(h_{t-1}; c_{t-1}), written out."""
    a, c_prev, c = ([mp.mpf(float(v)) for v in saved[i][:, 0]] for i in (0, 5, 6))
    s, ds, dt = (
        (lambda v: 1 / (1 + mp.exp(-v))),
        (lambda v: 1 / (2 * mp.cosh(v / 2)) ** 2),
        (lambda v: 1 / mp.cosh(v) ** 2),
    )
    J = mp.zeros(2 * n)
    for r in range(n):
        i, f, g, o = a[r], a[n + r], a[2 * n + r], a[3 * n + r]
        through = s(o) * dt(c[r])
        for k in range(n):
            w = [mp.mpf(float(W[gate * n + r, k])) for gate in range(4)]
            of_c = ds(i) * mp.tanh(g) * w[0] + ds(f) * c_prev[r] * w[1] + dt(g) * s(i) * w[2]
            J[n + r, k], J[r, k] = of_c, through * of_c + ds(o) * mp.tanh(c[r]) * w[3]
        J[n + r, n + r], J[r, n + r] = s(f), through * s(f)
    return J


@pytest.mark.parametrize(
    "tape",
    [
        driven(rc.ResidualCell("tanh", 0.5, 0.25), 40, 1, 6, gain=3.0),
        driven(rc.GRUCell(), 40, 1, 6, gain=4.0),
        driven(rc.GRUResetBeforeCell(), 40, 1, 6, gain=4.0),
        driven(rc.VanillaCell("leaky_relu"), 40, 1, 6, gain=2.0),
        driven(rc.VanillaCell("identity"), 60, 1, 6),
        autonomous(rc.VanillaCell(), 3, 16, 1.5, 60),
    ],
    ids=lambda tape: f"{tape.cell!r} {tape.x.shape[0]}",
)
def test_every_cell_keeps_all_its_values(tape: rc.Tape) -> None:
    """Hundreds of digits take the product as it stands."""
    np.testing.assert_allclose(log_singular_values(tape), exact(tape, 900), atol=1e-9, rtol=0)


def test_a_plain_product_loses_what_is_sixteen_decades_below_the_first() -> None:
    """What this module is for: from the 13th value on, those of the product in plain floats are wrong."""
    tape = autonomous(rc.VanillaCell(), 3, 24, 1.5, 60)
    product = np.linalg.multi_dot(list(jacobians(tape))[::-1])
    plain, ours = np.log(np.linalg.svd(product, compute_uv=False)), log_singular_values(tape)
    np.testing.assert_allclose(plain[:8], ours[:8], atol=1e-6)
    assert plain[-1] - ours[-1] > 200.0


def test_the_last_value_of_that_product_by_a_program_without_the_engine() -> None:
    """-277.40093: the smallest of 24, 234 below what plain floats say. Recurrence and product by mpmath, with 300 digits."""
    rng = np.random.default_rng(3)
    W, h = rng.standard_normal((24, 24)) * 1.5 / np.sqrt(24), rng.standard_normal(24)
    with mp.workdps(300):
        exactly, state, matrices, log_det = mp.matrix(W.tolist()), mp.matrix(h.tolist()), [], mp.mpf(0)
        for _ in range(60):
            a = exactly * state
            slopes = [1 / mp.cosh(each) ** 2 for each in a]
            matrices.append(mp.diag(slopes) * exactly)
            log_det += sum(mp.log(slope) for slope in slopes)
            state = a.apply(mp.tanh)
        log_det += 60 * mp.log(abs(mp.det(exactly)))
    expected = log_singular_values_by_mpmath(matrices, 300)
    ours = log_singular_values(autonomous(rc.VanillaCell(), 3, 24, 1.5, 60))
    assert ours[-1] == pytest.approx(-277.40093, abs=1e-5)
    np.testing.assert_allclose(ours, expected, atol=1e-8)
    assert ours.sum() == pytest.approx(
        float(log_det), abs=1e-8
    )  # and another law: the product of all is the determinant


@pytest.mark.parametrize(("activation", "gain"), [("relu", 1.5), ("hard_tanh", 1.5)])
def test_units_that_are_off_take_directions_to_zero(activation: str, gain: float) -> None:
    """A zero is rounded to 1e-17, or a direction that lives is lost with it."""
    tape = driven(rc.VanillaCell(activation), 12, 1, 8, gain=gain, seed=3)
    ours, expected = log_singular_values(tape), exact(tape, 400)
    assert 0 < np.isneginf(ours).sum() < 8
    np.testing.assert_array_equal(np.isneginf(ours), np.isneginf(expected))
    np.testing.assert_allclose(ours[np.isfinite(ours)], expected[np.isfinite(expected)], atol=1e-10)


def test_units_that_do_not_mix_die_one_by_one() -> None:
    """W a multiple of the identity: the dead are not the last ones."""
    params = {"weight_ih": np.array([[1.0], [-1.0], [1.0], [-1.0], [2.0]]), "weight_hh": 0.9 * np.eye(5)}
    tape = rc.forward(rc.VanillaCell("relu"), params, np.ones((9, 1, 1)))
    np.testing.assert_allclose(log_singular_values(tape), [9 * np.log(0.9)] * 3 + [-np.inf] * 2, atol=1e-13)


def test_orthogonal_matrices_stretch_every_direction_alike() -> None:
    """Equal values never come apart by iteration: the rotations must know them."""
    rng = np.random.default_rng(0)
    params = {"weight_ih": np.zeros((7, 1)), "weight_hh": rc.recurrent_matrix(rng, 7, "orthogonal", 1.1)}
    tape = rc.forward(rc.VanillaCell("identity"), params, np.zeros((1000, 1, 1)))
    np.testing.assert_allclose(log_singular_values(tape), np.full(7, 1000 * np.log(1.1)), rtol=1e-13)


def test_values_beyond_the_range_of_floats_are_right() -> None:
    """Powers of a matrix with eigenvalues 2, 1 and 1/2 over 4000 steps: e^±2773."""
    rng = np.random.default_rng(1)
    Q = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    params = {"weight_ih": np.zeros((3, 1)), "weight_hh": Q @ np.diag([2.0, 1.0, 0.5]) @ Q.T}
    tape = rc.forward(rc.VanillaCell("identity"), params, np.zeros((4000, 1, 1)))
    expected = np.array([4000 * np.log(2.0), 0.0, -4000 * np.log(2.0)])
    np.testing.assert_allclose(log_singular_values(tape), expected, rtol=1e-12, atol=1e-9)


def test_a_window_is_the_product_of_its_steps() -> None:
    """start and stop are off by one, in segments too."""
    tape = driven(rc.GRUCell(), 300, 2, 4, memory_budget=1)
    matrices = list(jacobians(tape, 1))
    for start, stop in [(0, 1), (126, 130), (127, 128), (128, 129), (250, 300), (299, 300)]:
        found = log_singular_values(tape, start, stop, sample=1)
        expected = log_singular_values_by_mpmath(matrices[start:stop], 300)
        np.testing.assert_allclose(found, expected, atol=1e-10)
    np.testing.assert_array_equal(log_singular_values(tape, 7, 7), np.zeros(4))
    np.testing.assert_array_equal(log_singular_values(tape, np.int64(300)), np.zeros(4))


@pytest.mark.parametrize("cell", [rc.VanillaCell(), rc.LSTMCell()], ids=repr)
def test_torch_and_float32_agree(cell: rc.Cell) -> None:
    """The spectrum of a float32 network is found in float64 from its states."""
    tape = driven(cell, 30, 2, 5)
    in_torch = rc.forward(cell, {n: array(v, "torch") for n, v in tape.params.items()}, array(tape.x, "torch"))
    np.testing.assert_allclose(log_singular_values(in_torch), log_singular_values(tape), atol=1e-9)
    narrow = rc.forward(cell, {n: v.astype("f") for n, v in tape.params.items()}, tape.x.astype("f"))
    np.testing.assert_allclose(log_singular_values(narrow), log_singular_values(tape), rtol=1e-4)


def test_what_is_not_finite_is_nan() -> None:
    tape = driven(rc.VanillaCell(), 30, 2, 5)
    x = tape.x.copy()
    x[17, 0] = np.nan
    broken = rc.forward(rc.VanillaCell(), tape.params, x)
    assert np.isnan(log_singular_values(broken)).all()
    np.testing.assert_array_equal(log_singular_values(broken, 0, 17), log_singular_values(tape, 0, 17))
    np.testing.assert_array_equal(log_singular_values(broken, sample=1), log_singular_values(tape, sample=1))


def test_a_measured_ratio_lies_between_the_smallest_and_the_largest() -> None:
    """The theorem that a reader uses: σ_S <= ‖dL/dh_start‖ / ‖dL/dh_stop‖ <= σ_1."""
    tape, rng = driven(rc.VanillaCell(), 60, 1, 8, gain=1.5), np.random.default_rng(2)
    for _ in range(5):
        grad = np.zeros((60, 1, 8))
        grad[-1] = rng.standard_normal((1, 8))
        norms = rc.backward(tape, grad).log_norm
        for start in (1, 20, 59):
            values = log_singular_values(tape, start, 60)
            assert values[-1] - 1e-9 <= norms[start - 1] - norms[-1] <= values[0] + 1e-9


def test_rows_of_any_size_and_order_are_graded() -> None:
    """The rotations against mpmath, on rows whose order and exponents are arbitrary."""
    rng = np.random.default_rng(4)
    for size in (1, 2, 5, 6):
        rows, exponent = rng.standard_normal((size, 6)), rng.integers(-900, 900, size)
        with mp.workdps(1500):
            M = mp.matrix(rows.tolist())
            for i in range(size):
                M[i, :] = M[i, :] * mp.mpf(2) ** int(exponent[i])
            expected = np.sort([float(mp.log(e) / 2) for e in mp.eigsy(M * M.T, eigvals_only=True)])[::-1]
        np.testing.assert_allclose(Graded(rows, exponent).log_singular_values(), expected, atol=1e-10)


@pytest.mark.parametrize("size", [8, 20, 32])
def test_a_larger_row_may_have_the_smaller_exponent(size: int) -> None:
    """A row's norm is up to √S times its largest entry: beside a shorter row of a larger exponent it was turned by a wrong angle."""
    out_of_order = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        M = rng.standard_normal((size, size)) * np.exp2(rng.integers(-1, 1, size))[:, None]
        graded = Graded(M, np.zeros(size, dtype=np.int64)).normalised().falling()
        out_of_order += int((np.diff(graded.exponent) > 0).sum())
        turned = np.linalg.norm(_orthogonal(graded.rows, graded.exponent), axis=1)
        values = np.sort(np.ldexp(turned, graded.exponent))[::-1]
        np.testing.assert_allclose(values, np.linalg.svd(M, compute_uv=False), rtol=1e-12)
    assert out_of_order


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop": 31}, "stop: 31 is not allowed; it must be a step from 0 to 30, for T = 30, or None"),
        ({"start": 20, "stop": 10}, "start: 20 is not allowed; it must be a step from 0 to stop = 10"),
        ({"start": -1}, "start: -1 is not allowed; it must be a step from 0 to stop = 30"),
        ({"start": 1.5}, "start: 1.5 is not allowed"),
        ({"sample": 2}, "sample: 2 is not allowed; it must be an integer from 0 to 1, for B = 2"),
    ],
)
def test_a_wrong_argument_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_singular_values(driven(rc.VanillaCell(), 30, 2, 5), **options)
