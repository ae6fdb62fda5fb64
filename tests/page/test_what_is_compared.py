"""Which results the page compares, and that headline and table agree on it."""

from __future__ import annotations

import re

import numpy as np
import pytest

from study.report import measures
from tests.page.frames import frame, regressed, trained
from tests.page.test_unusual_trainings import headline, sentences, verdicts

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


def test_headline_and_cell_have_the_same_leader() -> None:
    """The cell began with the best mean, which is clearly better than one value alone; the headline's leader is better than two."""
    wide = (0.93, 0.27, 0.93, 0.27, 0.93, 0.93, 0.27, 0.45)  # the best mean, but of a wide spread
    results = {"sgd": (0.1,) * 8, "rmsprop": (0.4,) * 8, "adam": (0.5,) * 8, "momentum": wide}
    runs = [
        trained(noisy(level, 0.01, seed, i), optimizer=name, seed=seed)
        for i, (name, own) in enumerate(results.items()) for seed, level in enumerate(own)
    ]  # fmt: skip
    assert headline(runs) == "On digits, adam is clearly better than rmsprop and sgd."
    (verdict,) = verdicts(runs)
    assert re.match(r"adam better than (sgd|rmsprop): .*; momentum better than sgd: ", verdict)


def test_of_comparisons_with_the_reference_the_leader_comes_first() -> None:
    """The headline named norm:1.0, and the cell began with "norm:10.0 better than no clipping"."""
    levels = {"none": 0.3, "norm:10.0": 0.4, "norm:1.0": 0.6}
    runs = [
        trained(noisy(level, 0.01, seed, i), clipping=rule, seed=seed)
        for i, (rule, level) in enumerate(levels.items()) for seed in range(8)
    ]  # fmt: skip
    assert headline(runs) == "On digits, norm:1.0 is clearly better than the other clipping rules."
    (verdict,) = verdicts(runs)
    assert re.match(r"norm:1.0 better than no clipping: .*; norm:10.0 better than no clipping: ", verdict)


def test_of_values_that_beat_as_many_the_best_leads() -> None:
    """The headline named the first value in the page's order, the cell the best one."""
    wide = np.array([0.2, 0.8, 0.2, 0.8, 0.2, 0.8, 0.2, 0.8])
    results = {"adam": [0.5] * 8, "momentum": [0.4] * 8, "rmsprop": wide + 0.15, "sgd": wide}
    runs = [
        trained(noisy(level, 0.01, seed, i), optimizer=name, seed=seed)
        for i, (name, own) in enumerate(results.items()) for seed, level in enumerate(own)
    ]  # fmt: skip
    assert headline(runs) == "On digits, rmsprop is clearly better than sgd."
    (verdict,) = verdicts(runs)
    assert verdict.startswith("rmsprop better than sgd: ")


def blanks(T: int) -> dict[str, float]:
    """What is right without learning: a longer sequence has more blanks."""
    return {"baseline_accuracy": 0.5 + 0.02 * T, "baseline_loss": 1.5}


def test_results_of_tasks_of_unequal_difficulty_are_not_compared() -> None:
    """ "On copy_memory, T = 8 is clearly better than T = 2": it has more blanks. Beyond naming the commonest class, T = 2 was ahead."""
    runs = [
        trained(0.5 + 0.02 * T + (0.04 if T == 2 else 0.01) + 0.001 * seed, seed=seed, cell=cell, sequence_length=T) | blanks(T)
        for cell in ("vanilla", "gru") for T in (2, 8) for seed in SEEDS
    ]  # fmt: skip
    assert headline(runs) == "On digits, vanilla and gru give the same results."
    text = " ".join(sentences(runs))
    assert "T = 8 learns better" not in text and "clearly better in" not in text
    assert (
        "On digits, with T = 2, the best mean held-out accuracy is 58 % (58 % to 58 %; 6 seeds), for vanilla and gru. "
        "Always naming the commonest class gets 54 % there. With T = 8, the best mean held-out accuracy is 67 %" in text
    )
    assert "Results of different sequence lengths are not compared: without learning they differ already." in text
    alone = [run for run in runs if run["cell"] == "gru"]
    assert headline(alone) == (
        "On digits, results of different sequence lengths are not compared, because they differ without learning."
    )
    assert verdicts(alone) == ["not compared: they differ without learning"]


@pytest.mark.parametrize(("lengths", "sizes", "says"), [
    ((2, 4, 8), (1,), ""), ((2, 4, 6, 8), (1,), "The tables have the others."), ((2, 8), (1, 2), "The tables have the others."),
])  # fmt: skip
def test_results_that_are_left_out_are_said_to_be(lengths: tuple[int, ...], sizes: tuple[int, ...], says: str) -> None:
    """Of four tasks the page told the first and the last, as if there were no others."""
    runs = [
        regressed(0.01 * T / D + 0.001 * s, seed=s, sequence_length=T, input_size=D) | {"baseline_loss": 0.1 * T / D}
        for T in lengths for D in sizes for s in SEEDS
    ]  # fmt: skip
    text = " ".join(sentences(runs))
    told = re.findall(r"ith T = (\d)", text)
    assert told == (["2", "8"] if says else ["2", "4", "8"])
    assert f" {says} Results of different".replace("  ", " ") in text
    assert says or "The tables have" not in text


def test_lengths_of_equal_difficulty_are_compared() -> None:
    """The baseline of digits is the same whatever T is: there a length may be better."""
    runs = [trained(0.5 + 0.1 * (T == 8) + 0.001 * s, seed=s, sequence_length=T) for T in (2, 8) for s in SEEDS]
    assert headline(runs) == "On digits, T = 8 is clearly better than T = 2."


def test_losses_of_unequal_tasks_are_not_compared() -> None:
    """The mean of more inputs is nearer to zero, so its loss is smaller before anything is learnt."""
    runs = [
        regressed(0.25 / D * (1.0 + 0.01 * s), seed=s, input_size=D, optimizer=name) | {"baseline_loss": 0.5 / D}
        for D in (2, 8) for name in ("adam", "sgd") for s in SEEDS
    ]  # fmt: skip
    text = " ".join(sentences(runs))
    assert "With D = 8, the best mean held-out loss is 0.032" in text
    assert "D = 8 learns better" not in text and "D = 2" not in headline(runs)


@pytest.mark.parametrize("seeds", [3, 6])
def test_noise_of_a_baseline_makes_no_other_task(seeds: int) -> None:
    """Of sequences that are drawn a baseline has 6 % noise a seed: the page called T = 20 and T = 80 of a user's task unequal."""
    runs = [
        regressed(0.03 - 0.02 * (T == 80) + 0.0001 * s, seed=s, sequence_length=T) | {"baseline_loss": noisy(0.05, 0.005, s, T)}
        for T in (20, 80) for s in range(seeds)
    ]  # fmt: skip
    by_length = [np.mean([run["baseline_loss"] for run in runs if run["sequence_length"] == T]) for T in (20, 80)]
    assert abs(by_length[0] / by_length[1] - 1.0) > 0.01  # their means alone would say so
    assert "not compared" not in " ".join([headline(runs), *verdicts(runs), *sentences(runs)])
    assert headline(runs) == "On input_mean, T = 80 is clearly better than T = 20." or seeds < 6


def test_another_task_is_seen_through_noise_and_other_settings() -> None:
    """A baseline that depends on two settings overlaps, value by value, though each of them makes another task."""
    runs = [
        regressed(0.01, seed=s, sequence_length=T, input_size=D) | {"baseline_loss": noisy(0.5, 0.01, s, T) * T / D}
        for T in (2, 8) for D in (2, 4) for s in range(6)
    ]  # fmt: skip
    assert measures.task_axes(measures.results(frame(runs))) == ["sequence_length", "input_size"]
