"""The figure of depth and time: its factors, what it says of chance, and which stacks it draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from figures import depth_time
from study.report import drawing
from study.report.words import addresses, plain
from tests.figures.drawn import PROPAGATION, Settings, render, show
from tests.figures.test_any_study import check
from tests.page.second_opinion_depth import KINDS

ONE = PROPAGATION | {"sequence_length": 12, "layers": 3}


def stack(seed: int, **changes: Any) -> Settings:
    return ONE | {"seed": seed, "rate": -0.1} | changes


def noise(seed: int) -> float:
    return float(np.random.default_rng(seed).standard_normal()) * 0.05


def said(make_study: Any, runs: list[Settings]) -> tuple[Any, dict[str, Any], Any, str]:
    data, facts, axes = show(depth_time, make_study(runs))
    return data, facts, axes, " ".join(plain(claim) for claim in [facts["title"], *facts["claims"]])


@pytest.mark.parametrize(
    "runs",
    [
        [stack(0)],
        [stack(0, sequence_length=2, layers=2)],
        [stack(s, spectral_radius=r, layers=L) for s in range(2) for r in (0.5, 1.0, 1.5) for L in (1, 2, 8)],
        [stack(s, rate=r) for s, r in enumerate((0.1, float("nan"), float("-inf")))],
        [stack(s, rate=float("-inf")) for s in range(2)],
        [stack(s, layers=L, bidirectional=both) for s in range(2) for L in (1, 3) for both in (False, True)],
        [stack(0, spectral_radius=0.1 * i, sequence_length=300) for i in range(1, 15)],
    ],
)
def test_any_study_draws(runs: list[Settings], make_study: Any) -> None:
    render("depth_time", facts=check(depth_time, make_study(runs)) | {"claims": []})


@pytest.mark.parametrize(
    "runs",
    [
        [ONE | {"layers": 1}],
        [stack(0, layers=1, bidirectional=True)],
        [stack(0, loss_at="every")],
        [stack(0, rate=float("nan"), depth=float("nan"))],
    ],
)
def test_a_study_without_it_says_what_to_add(runs: list[Settings], make_study: Any) -> None:
    """One layer, a loss at every step, or nothing that is a number."""
    facts = check(depth_time, make_study(runs))
    assert not facts["drawn"] and "layers" in facts["claims"][0]


def test_stacks_on_sequences_that_end_apart_say_so(make_study: Any) -> None:
    """ "No network has several layers and a loss at the last step alone": all had, and some sequences ended earlier."""
    facts = said(make_study, [stack(s, task="kinds", ends=(0, 3)) for s in (0, 1)])[1]
    assert not facts["drawn"] and facts["title"] == drawing.ENDS_APART


def test_of_every_kind_the_deepest_at_its_longest_is_drawn(make_study: Any) -> None:
    """A shallower stack is averaged with a deeper one, or a shorter sequence with a longer."""
    runs = [stack(s, layers=L, sequence_length=T) for s in (0, 1) for L in (1, 2, 5) for T in (6, 12)]
    runs += [stack(s, layers=2, spectral_radius=0.5) for s in (0, 1)]
    data, _, axes, _ = said(make_study, runs)
    sizes = data.groupby("panel", observed=True)[["layers", "steps"]].agg(["min", "max"])
    assert sizes.to_numpy().tolist() == [[2, 2, 12, 12], [5, 5, 12, 12]]
    [mesh] = [each for each in axes[1].collections if each.get_gid() == "depth map"]
    drawn = np.asarray(mesh.get_array()).reshape(5, 12)
    assert drawn[4, 0] == 0.0 and drawn[0, 0] == pytest.approx(4 * -0.3)  # the last layer on top


def test_the_factors_are_those_of_the_rows(make_study: Any) -> None:
    """A layer down is taken at the first step, or a step back over all of the sequence."""
    _, facts, _, words = said(make_study, [stack(s, depth=-0.3, slower=0.01) for s in range(8)])
    kinds = {each["kind"]: each["value"] for text in (facts["title"], *facts["claims"]) for _, each in addresses(text)}
    assert kinds["depth_factor_near"] == pytest.approx(10.0**-0.3)
    assert kinds["depth_factor_far"] == pytest.approx(10.0 ** (-0.3 + 0.01 * 11))
    assert kinds["step_factor_last"] == pytest.approx(np.exp(-0.1))
    assert kinds["step_factor_first"] == pytest.approx(np.exp(-0.1) * 10.0**0.02)
    assert (
        "Depth adds its own vanishing: a layer down is a factor of 0.501 at the last step, of 0.646 at the first."
        in words
    )
    assert "clearly larger in the first layer than in the last." in words


def test_what_chance_does_is_no_finding(make_study: Any) -> None:
    """Eight stacks whose depth scatters about no effect are said to vanish by depth, or to grow; or three seeds settle it."""
    assert (
        "Depth has no clear effect near the loss" in said(make_study, [stack(s, depth=noise(s)) for s in range(8)])[3]
    )
    assert "Depth adds its own growth" in said(make_study, [stack(s, depth=0.3 + noise(s)) for s in range(8)])[3]
    turns = [stack(s, slower=0.1 + noise(s) / 50) for s in range(8)]
    less = "Lower layers have less of the gradient near the loss, and more far from it"  # not vanishing "near the loss alone"
    assert less in said(make_study, turns)[3]
    ends = [stack(s, slower=0.3 / (ONE["sequence_length"] - 1) + noise(s) / 50) for s in range(8)]
    assert "Depth adds vanishing near the loss alone" in said(make_study, ends)[3]
    assert "Too few seeds to tell what depth does" in said(make_study, [stack(s) for s in range(3)])[3]
    same = said(make_study, [stack(s, slower=noise(s) / 50) for s in range(8)])[3]
    assert "does not clearly differ between the first layer and the last" in same


def test_chance_makes_a_finding_in_one_study_of_twenty() -> None:
    """Panels, both ends and time are judged apart, and a study without any effect claims one more often."""
    claims, rng = 0, np.random.default_rng(0)
    for _ in range(200):
        factors = {
            name: pd.DataFrame(rng.standard_normal((8, 4)), columns=["near", "far", "last", "first"]) for name in "abc"
        }
        said = [*map(depth_time._verdict, depth_time._signs(factors).values()), depth_time._layers_apart(factors)]
        claims += any("no clear" not in text and "not clearly" not in text for text in said)
    assert claims <= 20


def test_the_headline_is_of_all_kinds_of_network(make_study: Any) -> None:
    """What is so in one kind is said of all: "no clear effect" beside five kinds in which lower layers have less."""
    rates = (0.5, -0.7), (0.9, -0.01), (1.5, 0.4)
    alike = [stack(s, spectral_radius=r, rate=rate) for s in range(6) for r, rate in rates]
    _, facts, _, words = said(make_study, alike)
    assert plain(facts["title"]) == "In all 3 kinds of network, depth adds its own vanishing."
    assert "Where a step back does least, with ρ = 0.9, a layer down is a factor of 0.501" in words
    effects = {0.5: -0.3, 0.9: 0.0, 1.1: -0.2, 1.5: 0.4}  # least clear where time does least
    mixed = [
        stack(s, spectral_radius=r, rate=0.3 * (r - 0.9), depth=depth + noise(s) * (r == 0.9), slower=0.2 * (r == 0.5))
        for s in range(6) for r, depth in effects.items()
    ]  # fmt: skip
    assert plain(said(make_study, mixed)[1]["title"]) == (
        "Near the loss, lower layers clearly have less of the gradient in 2 and more in 1 of 4 kinds of network; far from it, less in 1 and more in 2."
    )
    chance = [stack(s, spectral_radius=r, depth=noise(s), slower=0.1 * (r > 1.0)) for s in range(6) for r in (0.5, 1.5)]
    assert (
        plain(said(make_study, chance)[1]["title"])
        == "In both kinds of network, depth has no clear effect near the loss."
    )
    few = [stack(s, spectral_radius=r) for s in range(3) for r in (0.5, 1.5)]
    assert plain(said(make_study, few)[1]["title"]) == "Too few seeds to tell what depth does."


def test_each_direction_has_a_panel_in_its_own_time(make_study: Any) -> None:
    """The reverse direction is averaged with the forward one, or is read from the end of the sequence, where its gradient has come to."""
    both = [stack(s, bidirectional=True, rate=-0.2, slower=0.01) for s in range(6)]
    data, facts, axes, words = said(make_study, [*both, *(stack(s, rate=-0.2) for s in range(6))])
    assert list(data["panel"].cat.categories) == [
        "one direction", "bidirectional (forward direction)", "bidirectional (reverse direction)",
    ]  # fmt: skip
    of_last = data[data["layer"] == 3].groupby(["panel", "lag"], observed=True)["decades"].mean().unstack()
    expected = np.broadcast_to(np.arange(12) * -0.2 / np.log(10.0), (3, 12))
    np.testing.assert_allclose(of_last.to_numpy(), expected, atol=1e-12)
    assert "The reverse direction reads from the last step to the first" in words
    assert plain(facts["title"]).startswith("In all 3 kinds and directions, ")
    assert (
        "Where a step back does least, with one direction" in words
    )  # not in the reverse one, whose last step is the first
    assert any("own time" in ax.get_xlabel() for ax in axes)
    alone = said(make_study, both)
    assert list(alone[0]["panel"].cat.categories) == ["forward direction", "reverse direction"]
    assert "reverse" not in said(make_study, [stack(s) for s in range(6)])[3]


def test_no_end_is_far_from_the_loss_with_two_directions(make_study: Any) -> None:
    """A headline said "more far from it" of the first step, which is near to the loss of the reverse direction; the caption explained one direction."""
    stacks = {both: [stack(s, bidirectional=both, slower=0.1) for s in range(6)] for both in (False, True)}
    _, facts, _, words = said(make_study, stacks[True])
    assert plain(facts["title"]) == (
        "In both kinds and directions, lower layers have less of the gradient at each direction's last step, and more at its first."
    )
    assert "far from it" not in facts["alt"] and depth_time.BOTH_ENDS_ARE_NEAR in words
    caption = " ".join(render("depth_time", facts=facts).split())
    assert "paths" not in caption and "gradients from both directions" in caption
    mixed = " ".join(render("depth_time", facts=said(make_study, stacks[False] + stacks[True])[1]).split())
    assert "In a linear stack of one direction, a place" in mixed and "gradients from both directions" in mixed
    one = said(make_study, stacks[False])
    caption = " ".join(render("depth_time", facts=one[1]).split())
    assert "In a linear stack, a place" in caption and "direction" not in caption
    assert "far from it" in plain(one[1]["title"])


def test_what_a_second_direction_does_is_told(make_study: Any) -> None:
    """A study asks what a reverse direction does to the first step, and has to read it off colours."""
    ways = {
        "vanilla": 0.5,
        "gru": 0.25,
    }  # decades that the first layer gains a step back, over eleven steps, two layers down
    runs = [
        stack(s, cell=cell, layers=3, bidirectional=both, slower=gain * both / 2 + 0.001 * s * both)
        for cell, gain in ways.items() for both in (False, True) for s in range(6)
    ]  # fmt: skip
    _, facts, _, words = said(make_study, runs)
    [answer] = (text for text in facts["answer"] if plain(text).startswith(depth_time.DOES_SECOND_DIRECTION))
    told = plain(answer)
    assert told in words
    values = [each["value"] for _, each in addresses(answer) if each["kind"] == "second_direction"]
    assert values == pytest.approx([11 * 0.5 + 22 * 0.0025, 11 * 0.25 + 22 * 0.0025])
    assert "10⁵·⁶" in told and "10²·⁸" in told
    assert not any("second direction" in plain(text) for text in said(make_study, runs[6:12])[1]["answer"])
    other_size = [*runs[:6], *(run | {"layers": 2} for run in runs[6:12])]
    assert not any("second direction" in plain(text) for text in said(make_study, other_size)[1]["answer"])


@pytest.mark.parametrize("directions", [(False,), (True,), (False, True)])
@pytest.mark.parametrize("seeds", [3, 8])
def test_every_number_is_computed_twice(seeds: int, directions: tuple[bool, ...], make_study: Any) -> None:
    """A number is of other rows than its address says, or is rounded before it is used."""
    effects = {0.5: (-0.2, 0.0), 1.0: (0.0, 0.03), 1.1: (0.3, -0.1)}
    runs = [
        stack(s, spectral_radius=r, rate=0.3 * (r - 1.0), depth=depth + noise(s), slower=slower + noise(s) / 20, layers=L, bidirectional=both)
        for r, (depth, slower) in effects.items() for s in range(seeds) for L in (2, 4) for both in directions
    ]  # fmt: skip
    tables = make_study(runs)
    _, facts, _ = show(depth_time, tables)
    found = [each for text in (facts["title"], *facts["claims"]) for _, each in addresses(text)]
    left = {kind for kind in KINDS if kind.startswith("second_direction")} if len(directions) < 2 else set()
    left |= {kind for kind in KINDS if kind.startswith("depth_kinds")} if seeds < 6 else set()
    assert {each["kind"] for each in found} == set(KINDS) - left
    known = {table: pd.read_parquet(tables.files[table]) for table in ("runs", "layers")}
    for each in found:
        assert KINDS[each["kind"]](known, each["where"]) == pytest.approx(each["value"], rel=1e-9)
