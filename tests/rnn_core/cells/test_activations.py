"""Every activation in the registry: its formula, its derivative (saturated too), its gamma, its flags, both libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.oracles.activations import ACTIVATIONS
from tests.support.arrays import DTYPES, EPS, LIBRARIES, array
from tests.support.programs import torch_function

NAMES = list(rc.ACTIVATIONS)

_ALPHA, _SCALE = mp.mpf("1.6732632423543772848170429916717"), mp.mpf("1.0507009873554804934193349852946")
# The textbook formulas, evaluated with 200 digits: there nothing cancels.
REFERENCE: dict[str, Callable[[mp.mpf], mp.mpf]] = {
    "identity": lambda a: a,
    "relu": lambda a: max(a, mp.mpf(0)),
    "leaky_relu": lambda a: a if a > 0 else a * mp.mpf(0.01),  # 0.01 as float64 has it
    "elu": lambda a: a if a > 0 else mp.exp(a) - 1,
    "selu": lambda a: _SCALE * (a if a > 0 else _ALPHA * (mp.exp(a) - 1)),
    "gelu": lambda a: a * mp.erfc(-a / mp.sqrt(2)) / 2,
    "silu": lambda a: a / (1 + mp.exp(-a)),
    "softplus": lambda a: mp.log(1 + mp.exp(a)),
    "softsign": lambda a: a / (1 + abs(a)),
    "hard_tanh": lambda a: max(mp.mpf(-1), min(mp.mpf(1), a)),
    "sigmoid": lambda a: 1 / (1 + mp.exp(-a)),
    "tanh": mp.tanh,
}
SUBNORMAL = 64 * 2.0**-1074  # gelu's left tail ends in subnormal numbers, which have no relative accuracy
POINTS = np.concatenate(
    [np.linspace(-40.0, 40.0, 81) + 0.0625, [-40.0, 40.0, -19.0, 19.0, 0.37, -0.37, 1e-8, -1e-8, -1.278]]
)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_right_to_rounding(name: str) -> None:
    """phi is not the function it is named after, or its formula cancels somewhere in |a| <= 40."""
    with mp.workdps(200):
        expected = [float(REFERENCE[name](mp.mpf(float(a)))) for a in POINTS]
    np.testing.assert_allclose(rc.ACTIVATIONS[name].f(POINTS), expected, rtol=8 * EPS["float64"], atol=SUBNORMAL)


@pytest.mark.parametrize("name", NAMES)
def test_derivative_is_right_to_rounding_where_units_saturate(name: str) -> None:
    """phi' is not phi's derivative, or it cancels: 1 - tanh(19)² is 0 in float64, and a gradient through it would vanish."""
    expected, size = [], []
    with mp.workdps(200):
        h = mp.mpf(10) ** -60
        for a in (mp.mpf(float(a)) for a in POINTS):
            slope = (REFERENCE[name](a + h) - REFERENCE[name](a - h)) / (2 * h)
            expected.append(float(slope))
            # silu' and gelu' = F(a) + a F'(a) have a root, near which only the larger term's rounding error can be asked for.
            F = REFERENCE[name](a) / a if name in ("silu", "gelu") else None
            size.append(float(F + abs(slope - F)) if F is not None else abs(float(slope)))
    error = np.abs(rc.ACTIVATIONS[name].df(POINTS) - expected)
    assert (error <= 8 * EPS["float64"] * np.array(size) + SUBNORMAL).all(), np.max(error / np.maximum(size, 1e-300))


def test_the_textbook_derivative_would_not_pass() -> None:
    """If 1 - tanh² passed the test above, that test would prove nothing."""
    with mp.workdps(200):
        true = float(1 / mp.cosh(mp.mpf(19)) ** 2)
    assert 1.0 - np.tanh(19.0) ** 2 == 0.0
    assert abs(rc.ACTIVATIONS["tanh"].df(np.array([19.0]))[0] / true - 1.0) < 8 * EPS["float64"]


@pytest.mark.parametrize("name", NAMES)
def test_derivative_against_central_differences_of_f(name: str) -> None:
    """f and df of one row do not belong together. (Holds for a new row without any reference.)"""
    phi, h = rc.ACTIVATIONS[name], 1e-5
    a = np.random.default_rng(0).uniform(-6.0, 6.0, 400)
    for kink in phi.kinks:
        a = a[np.abs(a - kink) > 2 * h]
    np.testing.assert_allclose(phi.df(a), (phi.f(a + h) - phi.f(a - h)) / (2 * h), rtol=0, atol=2e-9)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivative_is_right_to_rounding(name: str) -> None:
    """phi'' is not the derivative of phi', or it cancels where units saturate: what flosses such a unit is noise."""
    phi, expected, size = rc.ACTIVATIONS[name], [], []
    points = POINTS[~np.isin(POINTS, phi.kinks)]
    with mp.workdps(600):  # so that of a straight line nothing is left
        h = mp.mpf(10) ** -60
        for a in (mp.mpf(float(a)) for a in points):
            f = REFERENCE[name]
            expected.append(float((f(a + h) - 2 * f(a) + f(a - h)) / h**2))
            # silu'' and gelu'' are a product with 2 - a g(a), which has roots: there the larger of its terms counts.
            slope = (f(a + h) - f(a - h)) / (2 * h)
            size.append(float(abs(f(a)) + abs(slope) + 1) * 1e-3 if name in ("silu", "gelu") and abs(a) < 4 else 0.0)
    error = np.abs(phi.ddf(points) - expected)
    assert (error <= 64 * EPS["float64"] * (np.abs(expected) + np.array(size)) + 1600 * SUBNORMAL).all()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", NAMES)
def test_second_derivative_against_central_differences_of_the_first(name: str, library: str) -> None:
    """df and ddf of one row do not belong together; or one of them has its own dtype."""
    phi, h = rc.ACTIVATIONS[name], 1e-5
    a = np.random.default_rng(0).uniform(-6.0, 6.0, 400)
    for kink in (*phi.kinks, 0.0):  # elu's and softsign's second derivative jumps at 0
        a = a[np.abs(a - kink) > 2 * h]
    found = phi.ddf(array(a, library))
    assert str(found.dtype).endswith("float64")
    np.testing.assert_allclose(to_numpy(found), (phi.df(a + h) - phi.df(a - h)) / (2 * h), rtol=0, atol=2e-9)


def test_an_activation_without_a_second_derivative_is_named() -> None:
    """A row that says none is taken for a straight line."""
    bare = replace(rc.ACTIVATIONS["tanh"], second=None)
    with pytest.raises(ValueError, match="activation: 'tanh' is not allowed; its row says no second derivative"):
        bare.ddf(np.zeros(3))


@pytest.mark.parametrize("name", NAMES)
def test_gamma_is_the_supremum(name: str) -> None:
    """gamma is too small (Pascanu's bound would be broken) or too large (it would be idle)."""
    phi = rc.ACTIVATIONS[name]
    a = np.concatenate([np.linspace(-50.0, 50.0, 200_001), [0.0, -1e-12, 1e-12, 2.3993572805154675, 2.0**0.5]])
    largest = float(np.max(np.abs(phi.df(a))))
    assert phi.gamma * (1 - 1e-6) <= largest <= phi.gamma * (1 + 4 * EPS["float64"])


@pytest.mark.parametrize(("name", "near"), [("silu", 2.4), ("gelu", 1.4)])
def test_gamma_is_where_the_second_derivative_vanishes(name: str, near: float) -> None:
    """A gamma that is no round number was mistyped."""
    with mp.workdps(40):
        at = mp.findroot(lambda a: mp.diff(REFERENCE[name], a, 2), near)
        supremum = mp.diff(REFERENCE[name], at)
    assert abs(rc.ACTIVATIONS[name].gamma - float(supremum)) <= EPS["float64"] * 2


@pytest.mark.parametrize("name", NAMES)
def test_same_function_and_derivative_as_torch(name: str) -> None:
    """Our phi is not what PyTorch calls by that name (another slope, another alpha)."""
    a = np.random.default_rng(1).uniform(-3.0, 3.0, 300)
    at = torch.tensor(a, requires_grad=True)
    value = torch_function(name)(at)
    (slope,) = torch.autograd.grad(value.sum(), at)
    np.testing.assert_allclose(rc.ACTIVATIONS[name].f(a), value.detach().numpy(), rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(rc.ACTIVATIONS[name].df(a), slope.numpy(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_subgradient_at_a_kink_is_torchs(name: str) -> None:
    """At a kink we take another side than PyTorch, and the two programs part wherever a preactivation is exactly there."""
    a = np.array([-1.0, 0.0, -0.0, 1.0])
    at = torch.tensor(a, requires_grad=True)
    (slope,) = torch.autograd.grad(torch_function(name)(at).sum(), at)
    np.testing.assert_allclose(rc.ACTIVATIONS[name].df(a), slope.numpy(), rtol=1e-15, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
def test_numpy_and_torch_agree(name: str, dtype: str) -> None:
    """The two libraries compute different functions, or one of them changes the dtype."""
    a = np.linspace(-30.0, 30.0, 301)
    phi, results = rc.ACTIVATIONS[name], []
    for library in LIBRARIES:
        given = array(a, library, dtype)
        f, df = phi.f(given), phi.df(given)
        assert type(f) is type(df) is type(given)
        assert f.dtype == df.dtype == given.dtype
        assert f.shape == df.shape == given.shape
        results.append((to_numpy(f), to_numpy(df)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(
            ours, theirs, rtol=32 * EPS[dtype], atol=8 * EPS[dtype] if name in ("silu", "gelu") else 0
        )


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", NAMES)
def test_nan_stays_nan(name: str, library: str) -> None:
    """A state that is not a number would turn into a number, and a broken run would look sound."""
    phi, a = rc.ACTIVATIONS[name], array([np.nan, 1.0], library)
    f, df = to_numpy(phi.f(a)), to_numpy(phi.df(a))
    assert np.isnan(f[0]) and np.isfinite(f[1])
    assert (np.isnan(df[0]) or name == "identity") and np.isfinite(df[1])


@pytest.mark.parametrize("name", NAMES)
def test_far_tails_are_finite_and_silent(name: str) -> None:
    """phi or phi' overflows, warns or turns into nan far out, where the true value is an ordinary number."""
    a = np.array([-1e4, -800.0, 800.0, 1e4])
    phi = rc.ACTIVATIONS[name]
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert np.isfinite(phi.f(a)).all()
        assert np.isfinite(phi.df(a)).all()


@pytest.mark.parametrize(
    ("name", "below", "above"),
    [
        ("relu", 0.0, np.inf),
        ("leaky_relu", -np.inf, np.inf),
        ("elu", -1.0, np.inf),
        ("gelu", 0.0, np.inf),
        ("silu", 0.0, np.inf),
        ("softplus", 0.0, np.inf),
        ("softsign", -1.0, 1.0),
        ("hard_tanh", -1.0, 1.0),
        ("sigmoid", 0.0, 1.0),
        ("tanh", -1.0, 1.0),
    ],
)
def test_limits_at_infinity(name: str, below: float, above: float) -> None:
    """inf · 0 = nan: a state that has overflowed would break units that it only switches off."""
    np.testing.assert_array_equal(rc.ACTIVATIONS[name].f(np.array([-np.inf, np.inf])), [below, above])


@pytest.mark.parametrize("name", NAMES)
def test_homogeneous_flag(name: str) -> None:
    """The flag says that phi' does not depend on the scale of a where it does, or the other way round."""
    phi, a = rc.ACTIVATIONS[name], np.random.default_rng(2).uniform(-6.0, 6.0, 200)
    holds = all(np.array_equal(phi.f(c * a), c * phi.f(a)) for c in (0.25, 2.0, 64.0))  # powers of two: exact
    assert holds == phi.homogeneous


@pytest.mark.parametrize("name", NAMES)
def test_bounded_flag(name: str) -> None:
    """The flag says that units saturate where they grow without end, or the other way round."""
    phi = rc.ACTIVATIONS[name]
    far, near = (np.abs(phi.f(np.array([-size, size]))).max() for size in (1e30, 1e3))
    assert (far < 2.0 * near) == phi.bounded


@pytest.mark.parametrize("name", NAMES)
def test_piecewise_linear_flag(name: str) -> None:
    """The flag says that phi is made of straight lines where it is curved, or the other way round."""
    phi = rc.ACTIVATIONS[name]
    slopes = {float(slope) for slope in phi.df(np.linspace(-7.3, 7.1, 400))}
    assert (len(slopes) <= len(phi.kinks) + 1) == phi.piecewise_linear == ACTIVATIONS[name].piecewise_linear


def test_unknown_name_is_answered_with_the_nearest() -> None:
    """A typing error would not say what would have worked."""
    with pytest.raises(ValueError, match=r"activation: 'thanh' .*Did you mean 'tanh'\?"):
        rc.activation("thanh")
