"""Which results the page compares, and that headline and table agree on it."""

from __future__ import annotations

import numpy as np

from tests.page.frames import trained
from tests.page.test_unusual_trainings import headline, verdicts

SEEDS = range(6)


def noisy(level: float, spread: float, seed: int, column: int) -> float:
    """A result: ``level``, and noise that another column does not share."""
    return level + spread * float(np.random.default_rng([seed, column]).uniform(-1.0, 1.0))


def test_a_clear_difference_that_leads_the_headline_leads_the_cell() -> None:
    """The headline said that adagc:1.05 is clearly better than adaptive:0.01, the cell "no clear difference" against no clipping."""
    rules = [
        "none", "norm:10.0", "norm:1.0", "norm:0.1", "value:0.1", "value:0.01", "adaptive:0.1", "adaptive:0.01", "adagc:1.05", "signal:0.01"
    ]  # fmt: skip
    levels = {"adaptive:0.01": (0.2, 0.01), "adagc:1.05": (0.5, 0.01), "none": (0.35, 0.3), "signal:0.01": (0.35, 0.3)}
    runs = [
        trained(noisy(*levels.get(rule, (0.35, 0.3)), seed, i), clipping=rule, seed=seed)
        for i, rule in enumerate(rules) for seed in SEEDS
    ]  # fmt: skip
    assert headline(runs) == "On digits, adagc:1.05 is clearly better than adaptive:0.01."
    (verdict,) = verdicts(runs)
    first, _, others = verdict.partition("; no clear difference: ")
    assert first.startswith("adagc:1.05 better than adaptive:0.01: +")
    assert "against no clipping: +" in others


def test_a_clear_difference_between_others_than_the_best_is_told() -> None:
    """The best mean may be that of a value with a wide spread, and differ clearly from none."""
    results = {"sgd": (0.3,) * 6, "adam": (0.5,) * 6, "momentum": (0.05, 1.0, 0.2, 0.95, 0.1, 1.0)}
    runs = [
        trained(noisy(level, 0.01, seed, i), optimizer=name, seed=seed)
        for i, (name, own) in enumerate(results.items()) for seed, level in enumerate(own)
    ]  # fmt: skip
    assert headline(runs) == "On digits, adam is clearly better than sgd."
    (verdict,) = verdicts(runs)
    assert verdict.startswith("adam better than sgd: +20") and "; no clear difference: momentum against" in verdict
