"""The statistics of the page, each in one definition: intervals, where a rate crosses zero, and what counts as a difference.

Seeds are what is independent: a seed is one network, its runs at other settings share its random numbers. Every test therefore has one
number a seed. All comparisons of a study are judged together, so that a study in which nothing has an effect claims one
in at most 5 % of cases.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.05  # of a whole study: the probability that it claims any difference where there is none
CONFIDENCE = 0.95  # of every interval, which is about one number by itself
FEWEST_SEEDS = 6  # two of 2^n sign patterns are the most extreme: 2 / 2^5 is above LEVEL, 2 / 2^6 below
_ALL_PATTERNS_UP_TO = 12  # seeds; of more, some patterns are drawn
_DRAWN = 4096


class Interval(NamedTuple):
    """A number with its 95 % interval; nan where there is too little to say."""

    value: float
    low: float
    high: float


def proportion(share: float, units: int) -> Interval:
    """A proportion with Wilson's interval (Wilson 1927), which is honest at 0 and at 1, too.

    ``units`` are what is independent: the runs of one seed share its random numbers and count as one, however many they are.
    """
    if not units:
        return Interval(math.nan, math.nan, math.nan)
    z = float(special.ndtri(0.5 + CONFIDENCE / 2))
    middle = (share + z * z / (2 * units)) / (1 + z * z / units)
    half = z * math.sqrt(max(0.0, share * (1 - share)) / units + (z / (2 * units)) ** 2) / (1 + z * z / units)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))


def apart(first: Interval, second: Interval) -> Interval:
    """The difference of two proportions from ``proportion``, with Newcombe's interval (1998, method 10), made of their two."""
    value = first.value - second.value
    return Interval(
        value,
        value - math.hypot(first.value - first.low, second.high - second.value),
        value + math.hypot(first.high - first.value, second.value - second.low),
    )


def mean(values: np.ndarray) -> Interval:
    """A mean over seeds with Student's interval; no interval with one seed."""
    values = np.asarray(values, dtype=float)
    middle = float(values.mean()) if len(values) else math.nan
    if len(values) < 2 or not np.isfinite(values).all():
        return Interval(middle, math.nan, math.nan)
    half = float(special.stdtrit(len(values) - 1, 0.5 + CONFIDENCE / 2) * values.std(ddof=1) / math.sqrt(len(values)))
    return Interval(middle, middle - half, middle + half)


def ends_of_mean(values: np.ndarray) -> tuple[float, float]:
    """The interval of a mean for seaborn; the mean itself where it has none."""
    average = mean(values)
    return (average.low, average.high) if math.isfinite(average.low) else (average.value, average.value)


def median(values: np.ndarray) -> Interval:
    """A median over networks with the exact interval of order statistics (Thompson 1936), for values that may be infinite.

    The ranks follow from the binomial distribution, whatever distribution the values have. With fewer than six networks no such
    interval exists. The ends are then the lowest and the highest network, which cover less.
    A bootstrap of the median would cover 71 % with three networks, 92 % with six and 87 % with ten.
    """
    values = np.sort(np.asarray(values, dtype=float))
    count = len(values)
    if not count:
        return Interval(math.nan, math.nan, math.nan)
    middle = _between(values, count - 1)
    if count < 2:
        return Interval(middle, math.nan, math.nan)
    left_out = max(0, binomial_quantile((1 - CONFIDENCE) / 2, count) - 1)  # ranks beyond each end
    return Interval(middle, float(values[left_out]), float(values[count - 1 - left_out]))


def whole_median(values: np.ndarray) -> float:
    """A median of counts that is one of them: of two in the middle the larger. There is no half step."""
    return float(np.sort(np.asarray(values, dtype=float))[len(values) // 2])


def binomial_quantile(probability: float, trials: int) -> int:
    """The smallest number of heads in ``trials`` tosses that is not exceeded with at least this probability.

    As ``scipy.stats.binom.ppf``, without its import, which takes longer than to write the page.
    """
    heads = max(0, math.ceil(float(special.bdtrik(probability, trials, 0.5))) - 2)  # bdtrik rounds
    while special.bdtr(heads, trials, 0.5) < probability:
        heads += 1
    return heads


def _between(ordered: np.ndarray, twice_rank: int) -> float:
    """The value at a rank, or halfway between two; where these are infinite, the infinite one."""
    low, high = float(ordered[twice_rank // 2]), float(ordered[-(-twice_rank // 2)])
    if math.isfinite(low) and math.isfinite(high):
        return (low + high) / 2
    return low if low == high or not math.isfinite(low) else high


class Crossing(NamedTuple):
    """Where one network's rate changes from shrinking to growing, and the values tried on both sides.

    ``at`` is +inf if the rate never grows, −inf if it always does, and nan if it does not change in this order.
    """

    at: float
    below: float
    above: float


def crossing(radius: np.ndarray, rate: np.ndarray) -> Crossing:
    """The first zero of ``rate`` over increasing ``radius``, by a straight line in ln ``radius``: a linear network's rate is ln ρ."""
    known = ~np.isnan(rate)
    radius, rate = np.asarray(radius, dtype=float)[known], np.asarray(rate, dtype=float)[known]
    nowhere = Crossing(math.nan, math.nan, math.nan)
    if not len(rate):
        return nowhere
    if (rate < 0).all():
        return Crossing(math.inf, float(radius[-1]), math.inf)
    if (rate > 0).all():
        return Crossing(-math.inf, -math.inf, float(radius[0]))
    if rate[0] > 0:
        return nowhere
    first = int(np.flatnonzero(rate >= 0)[0])
    if rate[first] == 0:
        return Crossing(float(radius[first]), float(radius[first]), float(radius[first]))
    low, high = float(radius[first - 1]), float(radius[first])
    share = 1.0 if math.isinf(rate[first - 1]) else -rate[first - 1] / (rate[first] - rate[first - 1])
    if math.isinf(rate[first]):
        share = 0.0
    return Crossing(low * (high / low) ** float(share), low, high)


def familywise(differences: np.ndarray) -> np.ndarray:
    """The p value of every comparison, all comparisons taken into account: exact paired sign-flip tests with one joint null.

    Without any effect, a seed's differences are as likely with the opposite sign, all of them together.
    The statistic of a comparison is |Σ_s d_s| / √Σ_s d_s². It is set against the largest statistic of all comparisons, under every
    pattern of signs (Westfall & Young 1993, maxT). With n seeds, p is at least 2 / 2^n: few seeds cannot reach a small p.

    Args:
        differences: (seeds, comparisons); nan where a seed is not in a comparison.
    """
    d = np.nan_to_num(np.asarray(differences, dtype=float), nan=0.0)
    seeds, comparisons = d.shape
    if not comparisons or not seeds:
        return np.ones(comparisons)
    length = np.sqrt((d**2).sum(axis=0))
    d = d / np.where(length > 0, length, 1.0)
    observed = np.abs(d.sum(axis=0))
    extreme = np.zeros(comparisons)
    patterns = _sign_patterns(seeds)
    for some in np.array_split(patterns, max(1, len(patterns) * comparisons // 2_000_000)):
        largest = np.abs(some @ d).max(axis=1)
        extreme += (largest[:, None] >= observed - 1e-9).sum(axis=0)
    return np.where(length > 0, extreme / len(patterns), 1.0)


def _sign_patterns(seeds: int) -> np.ndarray:
    """All patterns of signs, (patterns, seeds), the first seed's fixed because the test has two sides; of very many, a sample."""
    if seeds <= _ALL_PATTERNS_UP_TO:
        return np.array([(1.0, *signs) for signs in itertools.product((1.0, -1.0), repeat=seeds - 1)])
    drawn = np.random.default_rng(0).choice((1.0, -1.0), size=(_DRAWN, seeds))
    drawn[0] = 1.0  # what was observed is one of them
    return drawn
