"""Numbers beyond floating-point range: checked against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core import scaling
from rnn_core.arrays import to_numpy
from tests.support.arrays import DTYPES, EPS, LIBRARIES, array, exact, thorough

floats = st.floats(allow_nan=False, allow_infinity=False)
vectors = st.lists(floats, min_size=1, max_size=5).map(np.array)
exponents = st.integers(-3000, 3000)
LIMIT = {"float64": 1024, "float32": 128}  # overflow at 2**LIMIT


def mp_log_norm(x: rc.Scaled | np.ndarray) -> float:
    """ln of the Euclidean norm with 60 digits."""
    with mp.workdps(60):
        total = mp.fsum((mp.mpf(v.numerator) / v.denominator) ** 2 for v in exact(x))
        return float(mp.log(total) / 2) if total else -math.inf


@given(x=floats, exponent=exponents)
@thorough
def test_times_power_of_two_changes_no_bit(x: float, exponent: int) -> None:
    """A scaling step leaves the range though its result does not, or rounds where it need not."""
    with np.errstate(over="ignore", under="ignore"):
        result = float(scaling.times_power_of_two(np.array([x]), exponent)[0])
    value = Fraction(x) * Fraction(2) ** exponent
    if abs(value) >= Fraction(2) ** 1024:
        assert result == math.copysign(math.inf, x)
    elif abs(value) >= Fraction(2) ** -1022 or value == 0:
        assert Fraction(result) == value
    else:  # subnormal: rounded, by one unit of the smallest number at most
        assert abs(Fraction(result) - value) <= Fraction(2) ** -1074


@given(x=vectors)
@thorough
def test_the_exponent_brackets_the_largest(x: np.ndarray) -> None:
    """The exponent is off by one, and a renormalised signal drifts out of its window."""
    top, largest = scaling.exponent_of(x), max(abs(Fraction(v)) for v in x)
    if top is None:
        assert largest == 0
    else:
        assert Fraction(2) ** (top - 1) <= largest < Fraction(2) ** top


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("library", LIBRARIES)
def test_what_is_not_finite_has_no_exponent(bad: float, library: str) -> None:
    """inf or nan would be given an exponent and pass for a number."""
    with pytest.raises(FloatingPointError):
        scaling.exponent_of(array([1.0, bad], library))


@given(x=vectors)
@thorough
def test_log_norm_is_right_at_any_magnitude(x: np.ndarray) -> None:
    """A norm overflows or underflows on the way although its logarithm is an ordinary number."""
    expected = mp_log_norm(x)
    if expected == -math.inf:
        assert scaling.log_norm(x) == -math.inf
        assert scaling.log_norms(x[None])[0] == -math.inf
    else:
        assert abs(scaling.log_norm(x) - expected) <= 4 * EPS["float64"] * max(1.0, abs(expected))
        assert abs(scaling.log_norms(x[None])[0] - expected) <= 4 * EPS["float64"] * max(1.0, abs(expected))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_log_norms_at_the_ends_of_the_range(library: str, dtype: str) -> None:
    """In float32 a norm of 1e-30 underflows when squared; log_norm and log_norms must not notice."""
    info = np.finfo(dtype)
    x = np.array([[info.max, info.max], [info.tiny, 0.0], [3e-30, 4e-30], [info.smallest_subnormal, 0.0], [0.0, 0.0]])
    expected = np.array([mp_log_norm(row.astype(dtype)) for row in x])
    given = array(x, library, dtype)
    np.testing.assert_allclose(scaling.log_norms(given), expected, rtol=4 * EPS[dtype], atol=0)
    np.testing.assert_allclose([scaling.log_norm(row) for row in given], expected, rtol=4 * EPS[dtype], atol=0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_log_norm_reports_what_is_not_finite(library: str) -> None:
    """A broken gradient would get a finite norm."""
    x = array([[1.0, np.nan], [np.inf, 1.0], [np.inf, np.nan]], library)
    for norms in (scaling.log_norms(x), np.array([scaling.log_norm(row) for row in x])):
        assert np.isnan(norms[0])
        assert norms[1] == np.inf
        assert np.isnan(norms[2])


@given(m=vectors, exponent=exponents)
@thorough
def test_plain_where_it_fits_scaled_where_it_does_not(m: np.ndarray, exponent: int) -> None:
    """A value is returned as inf or 0 without a word, or scaled although a float would hold it; or it changes."""
    value = scaling.plain_if_fits(m, exponent)
    largest = max(abs(v) for v in exact(rc.Scaled(m, exponent)))
    fits = exponent == 0 or largest == 0 or Fraction(2) ** -1022 <= largest < Fraction(2) ** 1024
    assert isinstance(value, rc.Scaled) == (not fits)
    if isinstance(value, rc.Scaled):
        assert exact(value) == exact(rc.Scaled(m, exponent))
    else:
        for got, true in zip(exact(value), exact(rc.Scaled(m, exponent)), strict=True):
            assert got == true or abs(got - true) <= Fraction(2) ** -1074  # an entry among larger ones may be subnormal


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_plain_if_fits_at_the_very_edge(library: str, dtype: str) -> None:
    """The first number that does not fit is let through, or the last that fits is not."""
    top = LIMIT[dtype]
    half = array([0.5], library, dtype)
    assert not isinstance(scaling.plain_if_fits(half, top), rc.Scaled)
    assert isinstance(scaling.plain_if_fits(half, top + 1), rc.Scaled)
    smallest = 2 - top + 1  # 0.5 * 2**smallest is the smallest normal number
    assert not isinstance(scaling.plain_if_fits(half, smallest), rc.Scaled)
    assert isinstance(scaling.plain_if_fits(half, smallest - 1), rc.Scaled)


@given(x=vectors, exponent=exponents, y=vectors)
@thorough
def test_add_is_the_sum(x: np.ndarray, exponent: int, y: np.ndarray) -> None:
    """What flows back and the direct part are added at different exponents."""
    size = min(len(x), len(y))
    x, y = x[:size], y[:size]
    with np.errstate(over="ignore"):
        parts, e = scaling.add_to_part({"hidden": x}, exponent, "hidden", y)
    total = parts["hidden"]
    if not np.isfinite(total).all():  # only a plain sum of two plain numbers may overflow
        assert exponent == 0
        return
    true = [a + b for a, b in zip(exact(rc.Scaled(x, exponent)), exact(y), strict=True)]
    scale = max(max(abs(v) for v in exact(rc.Scaled(x, exponent))), max(abs(v) for v in exact(y)))
    for got, want in zip(exact(rc.Scaled(total, e)), true, strict=True):
        assert abs(got - want) <= Fraction(EPS["float64"]) * scale


@given(x=vectors, y=vectors, exponent=exponents)
@thorough
def test_renormalise_keeps_the_value(x: np.ndarray, y: np.ndarray, exponent: int) -> None:
    """Renormalising changes a value, or leaves the largest magnitude outside [1/2, 1)."""
    parts, e = scaling.renormalise({"hidden": x, "cell": y}, exponent)
    largest = max(float(np.max(np.abs(part))) for part in parts.values())
    assert largest == 0.0 or 0.5 <= largest < 1.0
    for before, after in ((x, parts["hidden"]), (y, parts["cell"])):
        for a, b in zip(exact(rc.Scaled(before, exponent)), exact(rc.Scaled(after, e)), strict=True):
            assert abs(a - b) <= Fraction(2) ** (e - 1074)


def test_renormalise_leaves_what_is_not_finite() -> None:
    """A broken signal would be scaled into something else."""
    parts, e = scaling.renormalise({"hidden": np.array([np.nan, 1e300])}, 5)
    assert e == 5
    np.testing.assert_array_equal(parts["hidden"], [np.nan, 1e300])


@given(rows=st.lists(st.tuples(st.floats(0.5, 1.0), exponents), min_size=1, max_size=6))
@thorough
def test_align_brings_steps_to_one_exponent(rows: list[tuple[float, int]]) -> None:
    """Steps are summed at different exponents, so that a parameter gradient is wrong."""
    x, e = np.array([[m] for m, _ in rows]), np.array([k for _, k in rows], dtype=np.int64)
    aligned, factor, common = scaling.align(x, e)
    assert factor is None
    true = exact(rc.Scaled(x, e))
    for got, want in zip(exact(rc.Scaled(aligned, common)), true, strict=True):
        assert abs(got - want) <= max(true) * Fraction(2) ** -1000


@given(
    rows=st.lists(
        st.tuples(st.floats(0.5, 1.0), exponents, st.floats(0.5, 1.0), st.integers(-1000, 1000)), min_size=1, max_size=6
    ),
    dead=st.sets(st.integers(0, 5)),
)
@thorough
def test_align_brings_products_to_one_exponent(rows: list[tuple[float, int, float, int]], dead: set[int]) -> None:
    """d_t is small where its factor is large, or the factor is zero (as h_0 is): every product must come out right."""
    d, e = np.array([[m] for m, *_ in rows]), np.array([k for _, k, *_ in rows], dtype=np.int64)
    factor = np.array([[0.0 if t in dead else m * 2.0**k] for t, (*_, m, k) in enumerate(rows)])
    aligned, scaled, common = scaling.align(d, e, factor)
    assert scaled is not None and np.isfinite(aligned).all() and np.isfinite(scaled).all()
    true = [a * b for a, b in zip(exact(rc.Scaled(d, e)), exact(factor), strict=True)]
    for a, b, want in zip(exact(aligned), exact(scaled), true, strict=True):
        assert abs(a * b * Fraction(2) ** common - want) <= max(true) * Fraction(2) ** -1000


@pytest.mark.parametrize("library", LIBRARIES)
def test_scaled_gives_single_steps(library: str) -> None:
    """A step that fits in plain floats is not given so, or is given another step's exponent."""
    scaled = rc.Scaled(array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], library), np.array([0, 3, 5000], dtype=np.int64))
    assert scaled.shape == (3, 2)
    np.testing.assert_array_equal(to_numpy(scaled[0]), [1.0, 2.0])
    np.testing.assert_array_equal(to_numpy(scaled[1]), [24.0, 32.0])
    last = scaled[-1]
    assert isinstance(last, rc.Scaled)
    assert last.exponent == 5000
    np.testing.assert_array_equal(to_numpy(last.mantissa), [5.0, 6.0])
    row = rc.Scaled(array([[1.0, 2.0]], library), 5000)[0]
    assert isinstance(row, rc.Scaled)
    assert row.exponent == 5000


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("library", LIBRARIES)
def test_scaled_to_float(library: str) -> None:
    """Plain floats out of range are not inf and 0, or those in range are not exact."""
    scaled = rc.Scaled(array([[1.5], [-1.5], [1.5], [1.5]], library), np.array([2000, 2000, -2000, 10], dtype=np.int64))
    np.testing.assert_array_equal(to_numpy(scaled.to_float())[:, 0], [np.inf, -np.inf, 0.0, 1536.0])
    np.testing.assert_array_equal(np.asarray(scaled)[:, 0], [np.inf, -np.inf, 0.0, 1536.0])
    np.testing.assert_array_equal(to_numpy(rc.Scaled(array([1.5], library), 10).to_float()), [1536.0])


@given(m=vectors, exponent=st.integers(-300_000, 300_000))
@thorough
def test_scaled_log_norm(m: np.ndarray, exponent: int) -> None:
    """The exponent is left out of a norm, or counted wrongly."""
    expected = mp_log_norm(m) + exponent * math.log(2.0)
    for scaled in (rc.Scaled(m, exponent), rc.Scaled(m, np.full(m.shape, exponent, dtype=np.int64))):
        if m.any():
            assert abs(scaled.log_norm() - expected) <= 1e-15 * max(1.0, abs(exponent) + abs(mp_log_norm(m)))
        else:
            assert scaled.log_norm() == -math.inf


def test_scaled_log_norm_sums_steps_of_different_exponents() -> None:
    """Steps are not added in quadrature."""
    scaled = rc.Scaled(np.array([[3.0], [8.0]]), np.array([5000, 4999], dtype=np.int64))
    assert scaled.log_norm() == pytest.approx(math.log(5.0) + 5000 * math.log(2.0), rel=1e-15)


def test_log_norm_takes_both_forms() -> None:
    """A plain and a scaled gradient of the same value get different norms."""
    plain = np.array([3.0, 4.0])
    assert scaling.log_norm(plain) == pytest.approx(math.log(5.0), rel=1e-15)
    assert scaling.log_norm(rc.Scaled(plain, 0)) == scaling.log_norm(plain)


@pytest.mark.parametrize("dtype", DTYPES)
def test_square_limits_match_the_window(dtype: str) -> None:
    """The squared norm is compared with bounds at which its own terms have already left the range."""
    lowest, highest = scaling.square_limits(np.zeros(1, dtype=dtype))
    assert lowest == 2.0 ** (-2 * scaling.WINDOW[dtype])
    assert highest == 2.0 ** (2 * scaling.WINDOW[dtype])
    assert np.dtype(dtype).type(lowest) > 0.0
    assert np.isfinite(np.dtype(dtype).type(highest))


def test_dtype_name_of_both_libraries() -> None:
    """A torch tensor is taken for another dtype and gets another window."""
    assert scaling.dtype_name(np.zeros(1, dtype=np.float32)) == scaling.dtype_name(torch.zeros(1)) == "float32"
