"""The figure of spectra: what is drawn, and what is said of how many directions survive."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest

from figures import engine_checks, spectra
from study.report.words import addresses, plain
from tests.figures.drawn import PROPAGATION, grid, lines, render, show
from tests.figures.test_any_study import check

ONE = PROPAGATION | {"sequence_length": 10, "spectra": True, "activation": "tanh", "spectral_radius": 1.0, "seed": 0}
RADII = [0.5, 1.0, 1.5]
STUDIES: dict[str, list[dict[str, Any]]] = {
    "one run": [ONE],
    "one run of one step": [ONE | {"sequence_length": 1}],
    "no singular values": [ONE | {"lags": ()}],
    "lags that are too long": [ONE | {"lags": (50,)}],
    "nothing is a number": [ONE | {"rate": math.nan}],
    "all dead": [ONE | {"rate": -math.inf, "dead_directions": 6, "seed": s} for s in (0, 1)],
    "some dead": [ONE | {"dead_directions": 3, "seed": s, "spectral_radius": r} for s in (0, 1) for r in RADII],
    "one radius, many seeds": [ONE | {"seed": s} for s in range(6)],
    "gated cells": [ONE | {"cell": c, "seed": s} for c in ("gru", "lstm") for s in (0, 1)],
    "other axes": [ONE | {"input_scale": i, "sequence_length": T} for i in (0.1, 1.0) for T in (4, 10)],
    "many kinds": [ONE | {"activation": f"phi{i}", "initializer": j} for i in range(5) for j in "ab"],
    "loss at every step": [ONE | {"loss_at": "every"}],
    "far apart": [ONE | {"apart": 0.3}],
}  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_any_study_draws(name: str, make_study: Any) -> None:
    facts = check(spectra, make_study(STUDIES[name]))
    render("spectra", facts=facts | {"claims": []})


def test_a_study_that_does_not_ask_says_what_to_add(make_study: Any) -> None:
    facts = check(spectra, make_study([ONE | {"spectra": False}]))
    assert not facts["drawn"] and "spectra" in facts["claims"][0]


def test_it_says_how_many_directions_survive(make_study: Any) -> None:
    """λ_i falls by 0.1 from one direction to the next: over 30 steps e^-3 a direction, so the first two keep one percent."""
    runs = grid(**ONE | {"sequence_length": 40, "lags": (1, 30), "spectral_radius": RADII, "seed": [0, 1, 2]})
    _, facts, axes = show(spectra, make_study(runs))
    assert (
        plain(facts["title"])
        == "Over 30 steps, 2 of 6 directions keep one percent of what the best keeps in every setting."
    )
    assert "the rate belongs to the network" in plain(facts["claims"][2])
    kinds = {
        address["kind"]: address["value"]
        for text in (facts["title"], *facts["claims"])
        for _, address in addresses(text)
    }
    assert kinds["surviving_directions"] == 2.0 and kinds["directions"] == 6 and kinds["spectra_lag"] == 30
    assert kinds["lyapunov_highest"] == pytest.approx(math.log(1.5) + 0.02)
    assert len(lines(axes[0], "spectrum")) == 3 and len(lines(axes[1], "value")) == 6
    [norm], [best] = lines(axes[1], "norm"), lines(axes[1], "best")
    assert (np.asarray(norm.get_ydata()) <= np.asarray(best.get_ydata()) + 1e-12).all()
    first = lines(axes[0], "spectrum")[0]
    np.testing.assert_allclose(first.get_ydata(), math.log(0.5) + 0.01 - 0.1 * np.arange(6))  # the median seed


def test_settings_that_differ_are_named(make_study: Any) -> None:
    runs = [
        ONE | {"sequence_length": 40, "lags": (30,), "activation": a, "dead_directions": d, "seed": s}
        for a, d in (("relu", 5), ("tanh", 0))
        for s in (0, 1)
    ]
    _, facts, _ = show(spectra, make_study(runs))
    assert (
        plain(facts["title"])
        == "Over 30 steps, 1 of 6 directions keeps one percent of what the best keeps for relu, and 2 for tanh."
    )
    assert "cut" in facts["shown"]


def test_a_scale_that_changes_nothing_is_not_named(make_study: Any) -> None:
    """ "1.8 directions for glorot (σ_w = 0.8), and 16 for orthogonal (σ_w = 1.3)": of linear networks, any σ_w would do."""
    kinds = (("glorot", 5), ("orthogonal", 0))
    common = ONE | {"sequence_length": 40, "lags": (30,), "activation": "identity"}
    runs = [
        common | {"initializer": name, "dead_directions": dead, "spectral_radius": r, "seed": s}
        for name, dead in kinds for r in RADII for s in (0, 1)
    ]  # fmt: skip
    _, facts, _ = show(spectra, make_study(runs))
    best = "keeps one percent of what the best keeps"
    assert plain(facts["title"]) == f"Over 30 steps, 1 of 6 directions {best} for glorot, and 2 for orthogonal."
    assert "ρ =" not in plain(facts["claims"][0])
    for run in runs:
        run["dead_directions"] = 5 if run["initializer"] == "glorot" or run["spectral_radius"] == 0.5 else 0
    _, facts, _ = show(spectra, make_study(runs))  # of orthogonal it does change something
    assert "2 for ρ = 1.5 (orthogonal)" in plain(facts["title"])


def test_rates_that_differ_from_exponents_are_not_called_the_networks_own(make_study: Any) -> None:
    _, facts, _ = show(spectra, make_study([ONE | {"apart": 0.3}]))
    text = " ".join(map(plain, facts["claims"]))
    assert "0.3 a step apart" in text and "belongs to the network" not in text


def test_the_setting_that_is_furthest_from_its_exponent_speaks(make_study: Any) -> None:
    """Six networks without any difference made the median of eighteen; a fourth of the rate of the others was the readout's."""
    kinds = {"identity": (0.0, 0.0), "tanh": (-0.03, 0.008), "relu": (0.02, 0.001)}
    runs = [
        ONE | {"activation": f, "seed": s, "rate": rate, "apart": apart}
        for f, (rate, apart) in kinds.items() for s in range(3)
    ]  # fmt: skip
    _, facts, _ = show(spectra, make_study(runs))
    text = " ".join(map(plain, facts["claims"]))
    assert (
        "In the median network of a setting, the measured growth rate and this exponent are up to 0.008 a step apart, for tanh."
        in text
    )
    near = [run | {"apart": run["apart"] / 10} for run in runs]
    _, facts, _ = show(spectra, make_study(near))
    assert (
        "of every setting, the measured growth rate is at most 0.0008 a step from this exponent: the rate belongs"
        in " ".join(map(plain, facts["claims"]))
    )


def test_identities_of_spectra_are_no_comparison_with_pytorch_alone(make_study: Any) -> None:
    checks = [{}, {"oracle": "spectra: determinant", "relative_error": 2e-12, "where": "steps 1 to 6"}]
    _, facts, _ = show(engine_checks, make_study([], checks))
    assert "2 comparisons with PyTorch and with exact identities" in plain(facts["title"])
    assert "the spectra's determinant, of tanh at" in plain(facts["claims"][0])
    assert "exact identities" in render("engine_checks", facts=facts | {"claims": []})


def test_growth_before_everything_shrinks_is_told(make_study: Any) -> None:
    """ρ < 1 and yet gradients grow at first: a reader who knows the exponent alone would not expect it."""
    runs = [
        ONE | {"sequence_length": 40, "lags": (1, 5, 30), "rate": -0.1, "first": 0.5 if s < 2 else -0.5, "seed": s}
        for s in range(3)
    ]
    runs += [
        ONE | {"sequence_length": 40, "lags": (1, 5, 30), "rate": 0.2, "first": 0.9, "spectral_radius": 1.5, "seed": s}
        for s in range(3)
    ]
    _, facts, axes = show(spectra, make_study(runs))
    text = " ".join(map(plain, facts["claims"]))
    most = 0.5 - 0.1 / math.log(10.0)
    assert (
        "Of 3 networks in which every direction shrinks in the end, 2 first stretch some direction by a twentieth or more."
        in text
    )
    assert f"In their median it grows {10**most:.1f}-fold before it shrinks, the most over 1 step back." in text
    assert (
        "Henrici's departure from a normal matrix, in parts of its norm and in the median: 0.7." in text
        and "stretch more than ρ alone would: 3.5 times at power k = 7." in text
    )
    [alone] = lines(axes[1], "exponent alone")
    assert list(alone.get_ydata()) == pytest.approx([0.0, -0.1 * 30 / math.log(10.0)])
    kinds = {address["kind"]: address["value"] for claim in facts["claims"] for _, address in addresses(claim)}
    assert kinds["first_growth"] == pytest.approx(most) and kinds["first_growing"] == 2 and kinds["peak_growth"] == 3.5


def test_growth_on_the_way_is_counted_in_kinds_without_a_panel_too(make_study: Any) -> None:
    """Of 137 networks that shrink, the 24 of the drawn panels were counted: "none stretches", where nine did."""
    runs = [
        ONE | {"activation": f, "lags": (1, 5), "rate": -0.1, "first": 0.5 if f == "sigmoid" else -0.5, "seed": s}
        for f in ("elu", "identity", "relu", "selu", "sigmoid", "tanh") for s in range(2)
    ]  # fmt: skip
    data, facts, _ = show(spectra, make_study(runs))
    assert data["panel"].nunique() == 4 and "sigmoid" not in set(data["panel"].astype(str))
    text = " ".join(map(plain, facts["claims"]))
    assert "Of 12 networks in which every direction shrinks in the end, 2 first stretch" in text


def test_powers_that_stretch_by_a_twentieth_are_told(make_study: Any) -> None:
    _, facts, _ = show(spectra, make_study([ONE | {"peak_growth": 1.05, "seed": s} for s in range(3)]))
    assert "stretch more than ρ alone would: 1.1 times at power k = 7" in " ".join(map(plain, facts["claims"])).replace(
        "1.05", "1.1"
    )


@pytest.mark.parametrize("rate", [-1e-15, 1e-15])
def test_an_exponent_of_rounding_has_no_sign(make_study: Any, rate: float) -> None:
    """All directions of an orthogonal linear network stay; its exponents are −1e-15 with an error of 1e-17."""
    kept = {"lags": (1, 5), "rate": rate, "exponent_error": 1e-17, "apart": 5e-16}
    _, facts, _ = show(spectra, make_study([ONE | kept | {"seed": s} for s in range(3)]))
    text = " ".join(map(plain, facts["claims"]))
    assert "the rate belongs to the network" in text and "make the difference" not in text
    assert "In no network does any direction grow" in text and "shrinks in the end" not in text


def test_normal_matrices_are_told_apart(make_study: Any) -> None:
    _, facts, _ = show(spectra, make_study([ONE | {"henrici": 1e-15, "peak_growth": 1.0, "rate": -0.1}]))
    text = " ".join(map(plain, facts["claims"]))
    assert (
        "in parts of its norm: 0. So the powers of this matrix grow" in text
        and "grow as its ρ says, from the first one on" in text
    )
    assert (
        "Of 1 network in which every direction shrinks in the end, none stretches any direction by a twentieth on the way."
        in text
    )


def test_kinds_of_network_share_one_scale(make_study: Any) -> None:
    """Each on a scale of its own, all fans looked alike, and the line of one percent could lie out of sight."""
    runs = [ONE | {"seed": s, "activation": f, "apart": a} for s in (0, 1) for f, a in (("tanh", 0.0), ("relu", 0.3))]
    _, facts, axes = show(spectra, make_study(runs))
    assert len(axes) == 4 and "scale" in facts["shown"]
    assert axes[0].get_ylim() == axes[2].get_ylim() and axes[1].get_ylim() == axes[3].get_ylim()
    for ax in axes[1::2]:
        low, high = ax.get_ylim()
        assert all(low < y < high for line in lines(ax, "one percent") for y in line.get_ydata())


def test_one_direction_of_one_is_no_finding(make_study: Any) -> None:
    """ "1 of 1 directions keeps one percent of what the best keeps": it is the best. Nor are there "1 directions"."""
    runs = [ONE | {"seed": s, "directions": 1, "sequence_length": 40, "lags": (30,)} for s in range(6)]
    _, facts, _ = show(spectra, make_study(runs))
    assert plain(facts["title"]).startswith("The largest Lyapunov exponent") and "percent" not in " ".join(
        facts["claims"]
    )
    mixed = [run | {"hidden_size": 3, "directions": 3, "dead_directions": 2} for run in runs]
    assert "1 direction keeps one percent" in plain(show(spectra, make_study([*runs, *mixed]))[1]["title"])


def test_steps_are_whole(make_study: Any) -> None:
    """Powers stretched "1.1 times after 0.5 steps": half a step is no step. Nor is a rounded number a bound."""
    runs = [
        ONE | {"seed": s, "sequence_length": 40, "lags": (1, 2), "rate": -0.1, "first": 0.1 + 0.1 * s, "peak_growth_lag": s, "apart": 0.0174}
        for s in (0, 1)
    ]  # fmt: skip
    text = " ".join(map(plain, show(spectra, make_study(runs))[1]["claims"]))
    assert (
        "3.5 times at power k = 1." in text and "within" not in text and "this exponent are 0.017 a step apart." in text
    )
    assert not re.search(r"\d\.\d+ steps? ?(back)?", text)


def test_directions_are_counted_in_whole_numbers(make_study: Any) -> None:
    """The index of a direction had ticks at 0.945 and 0.96."""
    for count in (1, 2, 6):
        _, _, axes = show(spectra, make_study([ONE | {"seed": s, "directions": count} for s in range(2)]))
        low, high = axes[0].get_xlim()
        ticks = [tick for tick in axes[0].xaxis.get_majorticklocs() if low <= tick <= high]
        assert ticks and all(tick == round(tick) and 1 <= tick <= count for tick in ticks), ticks


def test_what_is_said_of_one_network_is_no_median(make_study: Any) -> None:
    """Of one run of 12 steps the page said "in the median", and that powers of "these matrices" stretch "after 132 steps"."""
    one = ONE | {"rate": -0.1, "first": 0.5, "sequence_length": 12, "peak_growth": 2.5, "peak_growth_lag": 132}
    text = " ".join(map(plain, show(spectra, make_study([one]))[1]["claims"]))
    assert "Henrici's departure from a normal matrix, in parts of its norm: 0.7." in text
    assert "Powers of this matrix stretch more than ρ alone would: 2.5 times at power k = 132." in text
    assert "Of 1 network in which every direction shrinks in the end, 1 first stretches some direction" in text
    assert "more. It grows 2.9-fold before" in text and "median" not in text
    several = " ".join(map(plain, show(spectra, make_study([one | {"seed": s} for s in range(3)]))[1]["claims"]))
    assert "in parts of its norm and in the median: 0.7. Powers of these matrices stretch" in several


def test_the_kinds_that_the_headline_names_are_drawn(make_study: Any) -> None:
    """Of eight kinds four have a row; the one with the fewest directions and the one with the most were named, and the first not drawn."""
    kinds = ["elu", "identity", "relu", "selu", "sigmoid", "softplus", "tanh"]
    sizes = {"relu": 1, "softplus": 6}
    runs = [ONE | {"activation": f, "lags": (1, 5), "directions": 6, "dead_directions": 6 - sizes.get(f, 3), "seed": s} for f in kinds for s in range(2)]  # fmt: skip
    data, facts, _ = show(spectra, make_study(runs))
    assert "for relu, and" in plain(facts["title"]) and "for softplus." in plain(facts["title"])
    panels = list(data["panel"].cat.categories)
    assert len(panels) == 4 and {"relu", "softplus"} <= set(panels) and panels == sorted(panels, key=kinds.index)
    assert set(data.loc[data["what"] == "exponent", "panel"].astype(str)) == set(panels)
    [others] = [plain(claim) for claim in facts["claims"] if "no room" in claim]
    assert set(re.findall(r"\w+", others)) & set(kinds) == set(kinds) - set(panels)


def test_of_one_network_a_setting_nothing_is_a_median(make_study: Any) -> None:
    """ "In the median network of every setting": each had one."""
    runs = grid(**ONE | {"spectral_radius": RADII, "seed": [0]})
    _, facts, _ = show(spectra, make_study(runs))
    text = " ".join(map(plain, facts["claims"]))
    assert "In every setting, the measured growth rate is at most" in text and "In the median network of" not in text
