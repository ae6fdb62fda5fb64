"""The statistics of the page against SciPy, exact values, and simulated studies."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from study.report import statistics


def test_a_crossing_is_linear_in_the_logarithm() -> None:
    """ln ρ is what a linear network grows by: between 0.5 and 2 it crosses at 1.00, not halfway at 1.25."""
    found = statistics.crossing(np.array([0.5, 2.0]), np.log([0.5, 2.0]))
    assert found == (pytest.approx(1.0, rel=1e-15), 0.5, 2.0)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ([-0.3, -0.1, -0.2], math.inf),
        ([0.1, 0.2, 0.3], -math.inf),
        ([-0.1, 0.0, 0.2], 1.0),
        ([-math.inf, 0.2, 0.3], 1.0),  # dead, then growing: nothing lies between
        ([-math.inf, -math.inf, -math.inf], math.inf),  # dead networks shrink
        ([-0.1, math.inf, math.inf], 0.5),
        ([0.1, -0.2, 0.3], math.nan),  # grows first: no single critical radius
        ([math.nan, -0.2, 0.2], math.sqrt(2.0)),
        ([math.nan, math.nan, math.nan], math.nan),
    ],
)
def test_crossings_of_every_kind(rates: list[float], expected: float) -> None:
    found = statistics.crossing(np.array([0.5, 1.0, 2.0]), np.array(rates)).at
    assert found == pytest.approx(expected, rel=1e-12, nan_ok=True)


def test_a_median_may_lie_beyond_what_was_tried() -> None:
    """Networks that never turn are counted as turning beyond the largest radius; means of the others would hide them."""
    assert statistics.median(np.array([1.3, 1.4, math.inf, math.inf, math.inf])).value == math.inf
    found = statistics.median(np.array([1.3, 1.4, 1.5, math.inf, math.inf]))
    assert found.value == 1.5 and found.low == 1.3 and found.high == math.inf
    assert statistics.median(np.array([-math.inf, math.inf])).value == -math.inf


@pytest.mark.parametrize("seeds", [6, 8, 10, 13])
def test_intervals_of_medians_cover(seeds: int) -> None:
    """In simulated studies the interval holds the true median about as often as it says."""
    rng, covered = np.random.default_rng(seeds), 0
    for _ in range(400):
        found = statistics.median(rng.lognormal(0.0, 0.5, seeds))
        covered += found.low <= 1.0 <= found.high
    assert covered / 400 > 0.935  # 0.95 within three standard errors


@pytest.mark.parametrize("seeds", [6, 7, 9, 10, 17, 30])
def test_the_interval_of_a_median_is_scipys(seeds: int) -> None:
    values = np.random.default_rng(seeds).lognormal(0.0, 0.5, seeds)
    ours = statistics.median(values)
    theirs = stats.quantile_test(values, q=0.0, p=0.5).confidence_interval(0.95)
    assert ours.value == np.median(values)
    assert (ours.low, ours.high) == (theirs.low, theirs.high)


def test_means_and_proportions_are_scipys() -> None:
    values = np.array([0.3, 0.5, 0.1, 0.4])
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert statistics.mean(values) == pytest.approx((values.mean(), theirs.low, theirs.high), rel=1e-12)
    assert math.isnan(statistics.mean(np.array([0.3])).low)
    whole = statistics.proportion(1.0, 5)
    assert whole.value == 1.0 and whole.high == 1.0 and whole.low == pytest.approx(0.5655, abs=1e-4)  # Wilson 1927
    for count, total in ((0, 7), (3, 10), (9, 20)):
        theirs = stats.binomtest(count, total).proportion_ci(0.95, method="wilson")
        assert statistics.proportion(count / total, total)[1:] == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert math.isnan(statistics.proportion(0.5, 0).value)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_differences_of_proportions_have_newcombes_interval(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    """The interval is not that of Newcombe (1998), table II, method 10."""
    found = statistics.apart(*(statistics.proportion(count / total, total) for count, total in (first, second)))
    assert found.value == pytest.approx(first[0] / first[1] - second[0] / second[1], rel=1e-12)
    assert found[1:] == pytest.approx((low, high), abs=5e-5)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-5, 5).filter(lambda x: abs(x) > 1e-3), min_size=2, max_size=8))
def test_a_single_comparison_is_the_exact_sign_flip_test(differences: list[float]) -> None:
    """With one comparison it is SciPy's permutation test of paired samples, all sign patterns taken."""
    d = np.array(differences)
    theirs = stats.permutation_test((d,), lambda x, axis: np.abs(np.sum(x, axis=axis)), permutation_type="samples", n_resamples=np.inf, alternative="greater", vectorized=True)  # fmt: skip
    assert statistics.familywise(d[:, None])[0] == pytest.approx(theirs.pvalue, rel=1e-9)


def test_p_cannot_be_smaller_than_the_seeds_allow() -> None:
    for seeds in (2, 5, 6, 8):
        p = statistics.familywise(np.ones((seeds, 3)))
        assert p == pytest.approx([2 / 2**seeds] * 3)
    assert 2 / 2**statistics.FEWEST_SEEDS <= statistics.LEVEL < 2 / 2 ** (statistics.FEWEST_SEEDS - 1)


def test_no_difference_at_all_has_p_one() -> None:
    d = np.zeros((8, 2))
    d[:, 1] = 1.0
    assert statistics.familywise(d)[0] == 1.0


def test_seeds_that_a_comparison_lacks_do_not_help_it() -> None:
    d = np.full((10, 2), np.nan)
    d[:3, 0], d[:, 1] = 1.0, np.linspace(-1, 1, 10)
    assert statistics.familywise(d)[0] >= 2 / 2**3


@pytest.mark.parametrize("seeds", [6, 8, 15])
def test_the_whole_family_is_judged_at_its_level(seeds: int) -> None:
    """Of simulated studies without any effect at most 5 % have a p below 0.05 anywhere: skewed, correlated, discrete alike."""
    rng, claimed, studies = np.random.default_rng(seeds), 0, 400
    for i in range(studies):
        common = rng.standard_normal((seeds, 1))
        d = rng.standard_normal((seeds, 20)) * rng.lognormal(0, 1, 20) + (i % 2) * common
        if i % 3 == 0:
            d = np.sign(d)
        claimed += (statistics.familywise(d) <= statistics.LEVEL).any()
    assert claimed <= stats.binom.ppf(0.999, studies, statistics.LEVEL)


def test_a_family_of_many_still_finds_a_real_effect() -> None:
    rng, found = np.random.default_rng(0), 0
    for _ in range(50):
        d = rng.standard_normal((8, 20))
        d[:, 0] += 4.0
        found += statistics.familywise(d)[0] <= statistics.LEVEL
    assert found >= 45
