"""Promise 1: exact gradients beyond floating-point range, and no bit changed within it."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.arrays import to_numpy
from tests.support.arrays import DTYPES, EPS, LIBRARIES, LOG10_2, array, exact, quick
from tests.support.networks import Network, networks
from tests.support.programs import Program, plain_pass, states_before

NAMES = list(rc.ACTIVATIONS)
LN10 = math.log(10.0)


def at_rest(
    W: np.ndarray, T: int, library: str = "numpy", dtype: str = "float64", activation: str = "identity"
) -> rc.Tape:
    """A network with x = 0 and no bias: its states stay 0 however fast its gradients grow."""
    H = len(W)
    params = {"weight_ih": np.ones((H, 1)), "weight_hh": W, "bias_ih": np.zeros(H), "bias_hh": np.zeros(H)}
    params = {name: array(value, library, dtype) for name, value in params.items()}
    return rc.forward(rc.VanillaCell(activation), params, array(np.zeros((T, 1, 1)), library, dtype))


def last_step(tape: rc.Tape, values: list[float]) -> np.ndarray:
    """A direct dL/dh_t at the last step alone."""
    grad = np.zeros(tuple(tape.hidden.shape))
    grad[-1] = values
    return array(grad, "numpy" if isinstance(tape.x, np.ndarray) else "torch", str(tape.x.dtype).removeprefix("torch."))


# ---- T = 100 000 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rho", "initializer"), [(2.0, "orthogonal"), (0.5, "identity")])
def test_a_hundred_thousand_steps(rho: float, initializer: str) -> None:
    """log10 ‖dL/dh_0‖ = 30102.999… at rho = 2 and its mirror image at rho = 0.5, where autograd gives inf and 0."""
    T = 100_000
    W = rc.recurrent_matrix(np.random.default_rng(0), 2, initializer, rho)
    tape = at_rest(W, T)
    gradients = rc.backward(tape, last_step(tape, [0.6, 0.8]))
    expected = math.log10(rho) * np.arange(T - 1, -1, -1)
    np.testing.assert_allclose(gradients.log_norm / LN10, expected, rtol=1e-13, atol=1e-13)
    initial = gradients.state["hidden"]
    assert isinstance(initial, rc.Scaled)
    assert abs(initial.log_norm() / LN10) == pytest.approx(T * LOG10_2, rel=1e-13)
    assert abs(initial.log_norm() / LN10) == pytest.approx(30102.9995663981, abs=1e-8)
    assert isinstance(gradients.hidden, rc.Scaled)
    assert gradients.hidden[T - 2] == pytest.approx(W.T @ [0.6, 0.8] * np.ones((1, 1)))


def test_the_plain_pass_fails_there() -> None:
    """If a plain pass managed as well, the renormalisation would be idle."""
    with np.errstate(over="ignore", invalid="ignore"):
        for rho in (2.0, 0.5):
            tape = at_rest(rho * np.eye(2), 2000)
            norms = np.abs(plain_pass(tape, last_step(tape, [1.0, 1.0])).totals["hidden"]).max(axis=(1, 2))
            assert norms[1000] == rho**999
            assert norms[0] == 0.0 or not np.isfinite(norms[0])


# ---- exact values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("power", [-300, -37, -1, 1, 37, 300])
def test_every_entry_is_exact_where_arithmetic_is(power: int, dtype: str, library: str) -> None:
    """W = 2**power · permutation: each dL/dh_t and each sum over t is known as a rational number."""
    power = power if dtype == "float64" else power // 10 or power
    T, factor = 12, Fraction(2) ** power
    if abs(power) == 1:
        T = 1500 if dtype == "float64" else 200
    permutation = np.eye(3)[[1, 2, 0]]
    tape = at_rest(2.0**power * permutation, T, library, dtype)
    gradients = rc.backward(tape, last_step(tape, [1.0, -3.0, 0.5]))
    now, true, total = [Fraction(1), Fraction(-3), Fraction(1, 2)], [], [Fraction(0)] * 3
    for _ in range(T):
        true.append(now)
        total = [a + b for a, b in zip(total, now, strict=True)]
        now = [factor * now[j] for j in (2, 0, 1)]  # W^T h
    assert exact(gradients.hidden) == [v for step in reversed(true) for v in step]
    assert exact(gradients.state["hidden"]) == now
    assert exact(gradients.x) == [sum(step, Fraction(0)) for step in reversed(true)]  # W_ih is all ones
    for got, want in zip(exact(gradients.params["bias_hh"]), total, strict=True):
        assert abs(got - want) <= Fraction(8 * EPS[dtype]) * abs(want)
    lengths = [
        mp.log(mp.sqrt(sum((mp.mpf(v.numerator) / v.denominator) ** 2 for v in step))) for step in reversed(true)
    ]
    np.testing.assert_allclose(
        gradients.log_norm, [float(v) for v in lengths], rtol=4 * EPS[dtype], atol=4 * EPS[dtype]
    )


def multiprecision_pass(tape: rc.Tape, grad_hidden: np.ndarray) -> tuple[list[list[mp.mpf]], dict[str, np.ndarray]]:
    """The delta recursion for B = 1 in 30-digit numbers without limits: (dL/dh_t, parameter gradients as mpf)."""
    assert isinstance(tape.cell, rc.VanillaCell)
    W, h_prev = tape.params["weight_hh"], states_before(tape)[:, :, 0]
    T, _, H = grad_hidden.shape
    flowing, dh = [mp.mpf(0)] * H, []
    dW, db = np.full((H, H), mp.mpf(0)), np.full(H, mp.mpf(0))
    for t in reversed(range(T)):
        dh_t = [mp.mpf(float(g)) + f for g, f in zip(grad_hidden[t, 0], flowing, strict=True)]
        slope = tape.cell.phi.df(tape.saved[t])[:, 0]
        da = [mp.mpf(float(s)) * d for s, d in zip(slope, dh_t, strict=True)]
        flowing = [mp.fsum(mp.mpf(float(W[i, j])) * da[i] for i in range(H)) for j in range(H)]
        for i in range(H):
            db[i] += da[i]
            for j in range(H):
                dW[i, j] += da[i] * mp.mpf(float(h_prev[t, j]))
        dh.append(dh_t)
    return dh[::-1], {"weight_hh": dW, "bias_hh": db, "bias_ih": db}


@pytest.mark.parametrize(
    ("activation", "loss_at"),
    [
        ("sigmoid", "last"),
        ("tanh", "last"),
        ("softsign", "every"),
        ("silu", "last"),
        ("relu", "every"),
        ("selu", "last"),
    ],
)
def test_real_networks_against_multiprecision(activation: str, loss_at: str) -> None:
    """Gradients with no structure, vanished or exploded past the range, and mixed with fresh direct parts."""
    rng, T, H = np.random.default_rng(4), 500, 3
    exploding = activation in ("relu", "selu")
    gain = 12.0 if exploding else 0.3
    params = {
        "weight_ih": rng.standard_normal((H, 1)),
        "weight_hh": gain * rng.standard_normal((H, H)) / np.sqrt(H),
        "bias_ih": rng.standard_normal(H),
        "bias_hh": np.zeros(H),
    }
    x = rng.standard_normal((T, 1, 1))
    if exploding:  # states must stay in range while gradients leave it: a tiny input part, exactly homogeneous
        params["weight_ih"], params["bias_ih"] = 1e-300 * np.abs(params["weight_ih"]), np.zeros(H)
        params["weight_hh"], x, T = np.abs(params["weight_hh"]) * 300, np.abs(x[:150]), 150
    tape = rc.forward(rc.VanillaCell(activation), params, x)
    assert np.isfinite(np.asarray(tape.hidden)).all()
    grad = rng.standard_normal((T, 1, H))
    if exploding:
        grad *= 1e250
    if loss_at == "last":
        grad[:-1] = 0.0
    gradients = rc.backward(tape, grad)
    with mp.workdps(30):
        dh, sums = multiprecision_pass(tape, grad)
        lengths = [mp.sqrt(mp.fsum(v * v for v in step)) for step in dh]
        largest, smallest = max(lengths), min(lengths)
        assert largest > mp.mpf(2) ** 1024 or (loss_at == "every" and not exploding) or smallest < mp.mpf(2) ** -1074
        error = max(
            abs(mp.mpf(float(n)) - mp.log(length)) for n, length in zip(gradients.log_norm, lengths, strict=True)
        )
        assert error <= 1e-11
        for t in range(T):
            ours = [mp.mpf(v.numerator) / v.denominator for v in exact(gradients.hidden[t])]
            gap = mp.sqrt(mp.fsum((a - b) ** 2 for a, b in zip(ours, dh[t], strict=True)))
            assert gap <= 1e-12 * lengths[t], t
        for name, true in sums.items():
            ours = [mp.mpf(v.numerator) / v.denominator for v in exact(gradients.params[name])]
            gap = mp.sqrt(mp.fsum((a - b) ** 2 for a, b in zip(ours, true.reshape(-1), strict=True)))
            assert gap <= 1e-12 * mp.sqrt(mp.fsum(v * v for v in true.reshape(-1))), name


@pytest.mark.parametrize(("T", "start", "loss"), [(100, -1000, 0), (90, -900, -900)])
def test_states_and_gradients_that_grow_against_each_other(T: int, start: int, loss: int) -> None:
    """dv_t shrinks by 2**20 a step while h_{t-1} grows by 2**20: every step adds the same to dL/dW_hh.

    In the second case not even a plain pass leaves the range.
    """
    one = np.ones((1, 1))
    params = {"weight_ih": one, "weight_hh": 2.0**20 * one, "bias_ih": np.zeros(1), "bias_hh": np.zeros(1)}
    tape = rc.forward(rc.VanillaCell("identity"), params, np.zeros((T, 1, 1)), {"hidden": 2.0**start * one})
    gradients = rc.backward(tape, last_step(tape, [2.0**loss]))
    assert exact(gradients.params["weight_hh"]) == [T * Fraction(2) ** (20 * (T - 1) + start + loss)]


def test_no_warning_where_the_answer_is_exact() -> None:
    """A reader is told that something overflowed although every result is right."""
    tape = at_rest(2.0**300 * np.eye(2), 5)
    with np.errstate(over="raise"):
        gradients = rc.backward(tape, last_step(tape, [1.0, 0.0]))
    np.testing.assert_allclose(gradients.log_norm / math.log(2.0), 300 * np.arange(4, -1, -1), rtol=1e-15)


# ---- no bit changes within the range ---------------------------------------------------------------------------------


def assert_same_bits(gradients: rc.Gradients, plain: Program) -> None:
    """Plain floats everywhere, each equal to the plain pass's."""
    found = {**gradients.params, "x": gradients.x, "state": gradients.state["hidden"], "hidden": gradients.hidden}
    expected = {**plain.params, "x": plain.x, "state": plain.initial["hidden"], "hidden": plain.totals["hidden"]}
    for name, value in expected.items():
        assert np.isfinite(value).all()
        assert isinstance(found[name], np.ndarray), name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.usefixtures("readable")
@given(network=networks(biases=["both"]))
@quick
def test_ordinary_gradients_have_the_plain_passs_bits(activation: str, dtype: str, network: Network) -> None:
    """Something is rounded once more, or added in another order, than in the pass that a textbook writes."""
    given_network = network.to("numpy", dtype)
    tape = rc.forward(rc.VanillaCell(activation), given_network.params, given_network.x)
    assert_same_bits(rc.backward(tape, given_network.grad_hidden), plain_pass(tape, given_network.grad_hidden))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu"])
@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.usefixtures("readable")
@given(seed=st.integers(0, 10_000), loss_at=st.sampled_from(["last", "every"]))
@quick
def test_bits_are_kept_past_the_window(dtype: str, activation: str, direction: int, seed: int, loss_at: str) -> None:
    """Renormalised on the way (past 2**±480; 2**±48 in float32) but in range for a plain pass: the same bits."""
    rng, H, T = np.random.default_rng(seed), 4, 16
    window, per_step = (480, 45) if dtype == "float64" else (48, 5)
    W = rc.recurrent_matrix(rng, H, "orthogonal", 1.0)
    W = np.abs(W) if activation == "relu" else W
    params = {
        "weight_ih": np.abs(rng.standard_normal((H, 2))) * 2.0 ** (-T * per_step // 2 * direction),
        "weight_hh": W * 2.0 ** (direction * per_step),
        "bias_ih": np.zeros(H),
        "bias_hh": np.zeros(H),
    }
    params = {name: value.astype(dtype) for name, value in params.items()}
    x, grad = np.abs(rng.standard_normal((T, 2, 2))).astype(dtype), rng.standard_normal((T, 2, H)).astype(dtype)
    if loss_at == "last":
        grad[:-1] = 0.0
    tape = rc.forward(rc.VanillaCell(activation), params, x)
    gradients = rc.backward(tape, grad)
    assert_same_bits(gradients, plain_pass(tape, grad))
    if activation == "identity" and (direction == 1 or loss_at == "last"):
        assert np.abs(gradients.log_norm / math.log(2.0)).max() > window + per_step


def test_entries_far_apart_have_the_plain_passs_bits() -> None:
    """Two units that do not mix: one grows by 2 a step, one shrinks by 2."""
    tape = at_rest(np.diag([2.0, 0.5]), 900)
    grad = last_step(tape, [1.0, 1.0])
    assert_same_bits(rc.backward(tape, grad), plain_pass(tape, grad))


def test_entries_far_apart_do_not_harm_the_norm() -> None:
    """What is lost there must be far below rounding of the norm."""
    tape = at_rest(np.diag([2.0, 0.5]), 900)
    gradients = rc.backward(tape, last_step(tape, [1.0, 1.0]))
    lag = np.arange(899, -1, -1)
    expected = lag * math.log(2.0) + 0.5 * np.log1p(0.0625**lag)
    np.testing.assert_allclose(gradients.log_norm, expected, rtol=1e-15, atol=1e-15)


# ---- in which form results come ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rho", [2.0, 0.5])
def test_scaled_where_plain_floats_would_be_inf_or_zero(rho: float, library: str) -> None:
    """A gradient beyond the range is returned as inf or 0, or one within it is not plain."""
    T = 1500
    tape = at_rest(rho * np.eye(2), T, library)
    gradients = rc.backward(tape, last_step(tape, [1.0, 1.0]))
    kind = type(tape.x)
    assert isinstance(gradients.hidden, rc.Scaled)
    assert isinstance(gradients.state["hidden"], rc.Scaled)
    assert isinstance(gradients.hidden[0], rc.Scaled)
    assert type(gradients.hidden[T - 1000]) is kind  # 2**±999 fits
    assert to_numpy(gradients.hidden[T - 1000])[0, 0] == rho**999
    # Sums over t: beyond range at rho = 2; dominated by the last steps, hence plain, at rho = 0.5.
    assert isinstance(gradients.params["bias_hh"], rc.Scaled) == (rho > 1)
    if rho < 1:
        np.testing.assert_array_equal(to_numpy(gradients.params["bias_hh"]), [2.0, 2.0])
    assert type(gradients.params["weight_hh"]) is kind  # h = 0, so it is exactly zero
    assert not to_numpy(gradients.params["weight_hh"]).any()


@pytest.mark.parametrize("library", LIBRARIES)
def test_float32_beyond_its_range(library: str) -> None:
    """float32's window and range are taken for float64's."""
    tape = at_rest(2.0 * np.eye(2), 3000, library, "float32")
    gradients = rc.backward(tape, last_step(tape, [1.0, 0.0]))
    np.testing.assert_allclose(gradients.log_norm / math.log(2.0), np.arange(2999, -1, -1), rtol=1e-12, atol=1e-12)
    assert isinstance(gradients.hidden, rc.Scaled)
    assert str(gradients.hidden.mantissa.dtype).endswith("float32")
    assert isinstance(gradients.hidden[3000 - 129], rc.Scaled)  # 2**128
    assert not isinstance(gradients.hidden[3000 - 128], rc.Scaled)  # 2**127


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_so(bad: float) -> None:
    """A broken loss is renormalised into sound-looking gradients, or stops the program."""
    tape = at_rest(2.0 * np.eye(2), 50)
    with np.errstate(invalid="ignore"):
        gradients = rc.backward(tape, last_step(tape, [bad, 1.0]))
    assert not np.isfinite(gradients.log_norm).any()
    assert not np.isfinite(np.asarray(gradients.hidden)[:, 0, 0]).any()
    assert not np.isfinite(np.asarray(gradients.params["bias_hh"])[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_so_beyond_range(bad: float) -> None:
    """A nan in an early step's loss must come out as nan, as it does where the exponent is 0."""
    tape = at_rest(2.0 * np.eye(2), 2000)
    grad = last_step(tape, [1.0, 1.0])
    grad[5, 0, 0] = bad
    with np.errstate(invalid="ignore"):
        gradients = rc.backward(tape, grad)
    assert not np.isfinite(gradients.log_norm[:6]).any()
    assert np.isfinite(gradients.log_norm[6:]).all()
    with np.errstate(over="ignore"):  # what stands beside it is 2**1994
        assert not np.isfinite(np.asarray(gradients.hidden[5])[0, 0])
    sound = gradients.hidden[6]  # 2**1993
    assert isinstance(sound, rc.Scaled)
    assert exact(sound) == [Fraction(2) ** 1993] * 2


def test_a_zero_initial_state_beside_tiny_states() -> None:
    """h_0 = 0 has no size to be brought to one by; dL/dv_1, the largest of all, must not overflow beside it (inf · 0 = nan)."""
    T = 530
    params = {"weight_ih": np.eye(2), "weight_hh": 4.0 * np.eye(2), "bias_ih": np.zeros(2), "bias_hh": np.zeros(2)}
    x = np.zeros((T, 1, 2))
    x[0] = 2.0**-1060
    tape = rc.forward(rc.VanillaCell("identity"), params, x)
    gradients = rc.backward(tape, last_step(tape, [1.0, 0.5]))
    W = gradients.params["weight_hh"]
    assert exact(W) == [
        (T - 1) * Fraction(2) ** (2 * (T - 2) - 1060) * f for f in (1, 1, Fraction(1, 2), Fraction(1, 2))
    ]
    assert exact(gradients.params["weight_ih"]) == [
        Fraction(2) ** (2 * (T - 1) - 1060) * f for f in (1, 1, Fraction(1, 2), Fraction(1, 2))
    ]
