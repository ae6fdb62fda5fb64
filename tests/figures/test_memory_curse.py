"""The figure of the curse of memory: its powers, its deviations, and what it says of chance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from figures import memory_curse
from study.report import style
from study.report.words import addresses, plain
from tests.figures.drawn import PROPAGATION, Settings, lines, render, show
from tests.figures.test_any_study import check
from tests.page.second_opinion_memory import KINDS

RADII = (0.8, 0.9, 0.95, 0.98)
ONE = PROPAGATION | {"sequence_length": 10, "cell": "indrnn", "activation": "identity", "initializer": "identity"}


def network(radius: float, seed: int, correlation: float = 0.0, gap: float = 0.0, power: float = -1.5) -> Settings:
    law = power * math.log10(1.0 - radius)
    return ONE | {
        "spectral_radius": radius, "seed": seed, "input_correlation": correlation, "rate": math.log(radius),
        "log10_parameter_sensitivity": law + gap, "log10_sensitivity_predicted": law, "last_hidden_rms": 2.0, "last_hidden_rms_predicted": 2.0,
    }  # fmt: skip


def said(make_study: Any, runs: list[Settings]) -> tuple[Any, dict[str, Any], Any, str]:
    data, facts, axes = show(memory_curse, make_study(runs))
    return data, facts, axes, " ".join(plain(claim) for claim in [facts["title"], *facts["claims"]])


def noise(seed: int) -> float:
    return float(np.random.default_rng(seed).standard_normal()) * 0.05


@pytest.mark.parametrize(
    "runs",
    [
        [network(radius, 0) for radius in RADII],
        [network(radius, seed, r) for radius in RADII for seed in range(3) for r in (0.0, 0.5)],
        [network(radius, 0) | {"log10_sensitivity_predicted": None, "last_hidden_rms_predicted": None} for radius in RADII[:2]],
        [network(radius, 0, r) for radius in RADII for r in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)],
    ],
)  # fmt: skip
def test_any_study_draws(runs: list[Settings], make_study: Any) -> None:
    render("memory_curse", facts=check(memory_curse, make_study(runs)) | {"claims": []})


@pytest.mark.parametrize(
    "runs",
    [
        [ONE | {"spectral_radius": 0.9, "seed": 0}],
        [network(0.9, 0)],
        [network(0.9, 0) | {"spectral_radius": radius} for radius in (1.0, 1.2)],
        # a ρ of 1 is measured as slightly less: its forgetting of 4e-16 stood at the end of the axis
        [network(0.9, 0) | {"spectral_radius": radius} for radius in (0.9, 1.0 - 4e-16)],
    ],
)
def test_a_study_without_it_says_what_to_add(runs: list[Settings], make_study: Any) -> None:
    """Nothing was asked for, there is one radius, or no memory ends."""
    facts = check(memory_curse, make_study(runs))
    assert not facts["drawn"] and "parameter_sensitivity" in facts["claims"][0]


def test_the_power_is_that_of_the_rows(make_study: Any) -> None:
    """It is fitted against ρ, over all radii, or with the wrong sign."""
    runs = [network(radius, seed, power=-1.25, gap=0.01 * seed) for radius in RADII for seed in range(3)]
    runs += [network(0.3, seed, power=-9.0) for seed in range(3)]  # far from 1: not in the fit
    _, facts, axes, words = said(make_study, runs)
    kinds = {each["kind"]: each["value"] for text in (facts["title"], *facts["claims"]) for _, each in addresses(text)}
    assert kinds["sensitivity_power"] == pytest.approx(-1.25, abs=1e-9)
    assert "to the power −1.25 (−1.25 to −1.25), by the law −1.25" in words
    assert kinds["sensitivity_deviation"] == pytest.approx(0.008, abs=1e-12)  # 0.01 a seed at four radii of five
    assert "too few seeds to tell" in words  # three
    assert len(lines(axes[2], "measured")[0].get_xdata()) == 5


def test_a_mean_is_of_all_networks_of_a_radius(make_study: Any) -> None:
    """Measured radii of seeds differ by rounding, so most marks called "mean" were of one network each."""
    runs = [network(radius, seed, gap=noise(seed)) for radius in RADII for seed in range(4)]
    tables = make_study(runs)
    data = memory_curse.frame(tables)
    data["forgetting"] = data["forgetting"] + 1e-15 * data["seed"]
    with style.theme():
        axes = memory_curse.draw(data).axes
    assert [len(lines(ax, "law")[0].get_xdata()) for ax in axes] == [0, len(RADII), len(RADII)]
    for ax, column in zip(axes, memory_curse.PANELS, strict=True):
        (mean,) = lines(ax, "measured")
        by_radius = data.groupby("spectral_radius", sort=True)[column].mean()[::-1]
        np.testing.assert_allclose(mean.get_ydata(), by_radius)
        np.testing.assert_allclose(mean.get_xdata(), 1.0 - by_radius.index.to_numpy())
    assert "networks" in memory_curse.facts(data, tables.study)["shown"]


def legend(axes: Any) -> list[str]:
    return [text.get_text() for text in axes[0].figure.legends[0].get_texts()]


def test_every_line_is_explained(make_study: Any) -> None:
    """Lines of the linear law stood on the left of a study of residual networks, and nothing said what they are."""
    tanh = {
        "log10_sensitivity_predicted": None,
        "last_hidden_rms_predicted": None,
        "cell": "residual",
        "activation": "tanh",
    }
    runs = [network(radius, seed) | tanh for radius in RADII for seed in range(2)]
    _, facts, axes, _ = said(make_study, runs)
    caption = " ".join(render("memory_curse", facts=facts | {"claims": []}).split())
    assert lines(axes[0], "law")[0].get_xdata().size == 4 and legend(axes)[-1] == "linear law of the signal"
    assert "Lines on the left are the linear law" in caption and "Zucchet" not in caption
    both = runs + [network(radius, seed) | {"cell": "vanilla"} for radius in RADII for seed in range(2)]
    _, facts, axes, _ = said(make_study, both)
    assert legend(axes)[-1] == "law of linear recurrences or linear law of the signal"
    assert "Of other networks, lines on the left" in render("memory_curse", facts=facts | {"claims": []})
    _, _, axes, _ = said(make_study, [network(radius, 0) for radius in RADII])
    assert legend(axes) == ["measured: one network", "law of linear recurrences"]


@pytest.mark.parametrize(("rate", "below"), [(-0.01, True), (0.005, False)])
def test_a_signal_comes_from_below_only_where_it_does(rate: float, below: bool, make_study: Any) -> None:
    """The caption said so of rates that are all above zero."""
    runs = [network(radius, seed) | {"rate": rate * (1.5 - radius)} for radius in RADII for seed in range(2)]
    caption = render("memory_curse", facts=said(make_study, runs)[1] | {"claims": []})
    assert ("from below" in caption) == below and "On the grey line" in caption


def test_what_chance_does_is_not_called_a_difference(make_study: Any) -> None:
    """Eight seeds that scatter about the law are told from it; or eight that all lie above it are not."""
    scattered = [network(radius, seed, gap=noise(seed)) for radius in RADII for seed in range(8)]
    assert "no clear difference" in said(make_study, scattered)[3]
    above = [network(radius, seed, gap=0.2 + noise(seed)) for radius in RADII for seed in range(8)]
    assert "They clearly differ." in said(make_study, above)[3]
    one_kind = [
        network(r, s, c, gap=(0.2 if c else 0.0) + noise(s)) for r in RADII for s in range(8) for c in (0.0, 0.5)
    ]
    assert "They clearly differ for input correlation r = 0.5." in said(make_study, one_kind)[3]


def test_a_signal_that_grows_is_said_to_grow(make_study: Any) -> None:
    """The headline says that no signal grows whatever the rows say."""
    runs = [network(radius, 0) | {"rate": 0.02} for radius in RADII]
    assert "A signal grows by up to 0.02 a step back, and" in plain(said(make_study, runs)[1]["title"])


@pytest.mark.parametrize("seeds", [3, 8])
def test_every_number_is_computed_twice(seeds: int, make_study: Any) -> None:
    """A number is of other rows than its address says, or is rounded before it is used."""
    runs = [network(r, s, c, gap=(0.1 * c * r) + noise(s)) for r in RADII for s in range(seeds) for c in (0.0, 0.5)]
    runs[0]["rate"] = 0.01
    runs += [
        network(r, seeds, 0.5) | {"log10_parameter_sensitivity": -math.inf} for r in RADII[1:]
    ]  # a seed of which nothing moves
    tables = make_study(runs)
    _, facts, _ = show(memory_curse, tables)
    found = [each for text in (facts["title"], *facts["claims"]) for _, each in addresses(text)]
    assert {each["kind"] for each in found} == set(KINDS)
    known = {"runs": pd.read_parquet(tables.files["runs"])}
    for each in found:
        assert KINDS[each["kind"]](known, each["where"]) == pytest.approx(each["value"], rel=1e-9)


def test_a_weight_that_moves_nothing_is_left_out_and_told(make_study: Any) -> None:
    """Seeds without any sensitivity were dropped from some numbers without a word, and were minus infinity in others."""
    runs = [network(r, s, gap=0.01 * s) for r in RADII for s in range(6)]
    dead = [
        run | {"log10_parameter_sensitivity": -math.inf, "last_hidden_rms": 0.0} if run["seed"] > 3 else run
        for run in runs
    ]
    data, facts, _, words = said(make_study, dead)
    assert np.isfinite(data[memory_curse.SENSITIVITY].astype(float)).all() and set(data["seed"]) == {0, 1, 2, 3}
    assert "Left out, because no weight moves the last state: 8 networks." in words
    assert "too few seeds to tell" in plain(facts["title"])
    assert "Left out" not in said(make_study, runs)[3]
    assert not said(make_study, [run | {"log10_parameter_sensitivity": -math.inf} for run in runs])[1]["drawn"]


def test_far_from_one_nothing_is_said_of_near(make_study: Any) -> None:
    """ "Near ρ = 1 a weight's sensitivity goes as (1 − ρ) to the power −0.586": the largest ρ was 0.01. An axis of 1 − ρ went up to 1.2."""
    runs = [network(r, s, gap=0.0002 * math.sqrt(r) * s) for r in (0.0001, 0.01) for s in range(6)]
    _, _, axes, words = said(make_study, runs)
    assert "Near ρ = 1" not in words and "a factor of 1:" not in words and "a factor of 1.0" in words
    assert all(max(ax.get_xlim()) <= 1.05 for ax in axes)
    assert "Near ρ = 1" in said(make_study, [network(r, s) for r in (0.5, 0.8, 0.9) for s in range(6)])[3]


@pytest.mark.parametrize(
    ("radii", "words"), [(RADII, "three"), ((0.5, 0.9, 0.95), "two"), ((0.5, 0.7, 0.9, 0.95, 0.98), "three")]
)
def test_a_power_says_of_which_radii_it_is(radii: tuple[float, ...], words: str, make_study: Any) -> None:
    """ "A ρ of 0.8 or more counts as near to 1": of seven such values the power was that of the largest three."""
    facts = said(make_study, [network(r, s) for r in radii for s in range(6)])[1]
    caption = render("memory_curse", facts=facts | {"claims": []})
    assert f"The power is that of the {words} largest ρ, none below 0.8." in caption
    far = said(make_study, [network(r, s) for r in (0.5, 0.7) for s in range(6)])[1]
    assert "The power is" not in render("memory_curse", facts=far | {"claims": []})


def test_a_change_that_chance_makes_is_no_headline(make_study: Any) -> None:
    """Sensitivities that scatter about one value are said to grow, because the ends of a random walk differ."""
    runs = [
        network(radius, seed, power=0.0, gap=noise(100 * seed + i))
        for i, radius in enumerate(RADII)
        for seed in range(8)
    ]
    assert "does not clearly change" in plain(said(make_study, runs)[1]["title"])
    few = [network(radius, seed) for radius in RADII for seed in range(3)]
    assert "changes by a factor of 32: too few seeds to tell." in plain(said(make_study, few)[1]["title"])


@pytest.mark.parametrize("radii", [(0.9, 0.95), (0.95, 0.98), RADII, (0.9, 0.99, 0.999)])
def test_the_memory_axis_has_a_scale(radii: tuple[float, ...], make_study: Any) -> None:
    """Radii within a factor of ten had one tick, 10^-1, or none."""
    _, _, axes = show(memory_curse, make_study([network(radius, seed) for radius in radii for seed in range(2)]))
    for ax in axes:
        low, high = sorted(ax.get_xlim())
        inside = [tick for tick in ax.xaxis.get_majorticklocs() if low <= tick <= high]
        assert 2 <= len(set(ax.xaxis.get_major_formatter().format_ticks(inside))) == len(inside)
