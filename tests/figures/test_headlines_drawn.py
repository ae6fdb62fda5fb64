"""Of more than have a place, what a headline names is drawn."""

from __future__ import annotations

from typing import Any

import pytest

from figures import clipping_norms
from study.report.chosen import with_wanted
from study.report.words import plain
from tests.figures.drawn import TRAINING, grid, show

RULES = ["none", "norm:10.0", "norm:1.0", "norm:0.1", "value:0.1", "value:0.01", "adaptive:0.1", "adaptive:0.01", "adagc:1.05", "zclip:2.5"]  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "wanted", "places"),
    [
        ([0, 3, 6, 9], [], [0, 3, 6, 9]),
        ([0, 3, 6, 9], [3], [0, 3, 6, 9]),
        ([0, 3, 6, 9], [5], [0, 3, 5, 9]),
        ([0, 3, 6, 9], [0, 1], [0, 1, 6, 9]),  # the nearest is wanted itself
        ([0, 9], [2, 4, 5], [2, 4]),
        ([0, 9], [2, 0, 9], [0, 2]),  # one that happened to be chosen kept its place before the first
        ([0, 9], [2, 2, 4], [2, 4]),
    ],
)
def test_what_is_wanted_stands_instead_of_its_neighbour(
    chosen: list[int], wanted: list[int], places: list[int]
) -> None:
    assert with_wanted(chosen, wanted) == places


def test_rules_with_breakdowns_are_drawn(make_study: Any) -> None:
    """ "With it, 2 of 78" broke down, under rules that had no panel."""
    runs = grid(**TRAINING | {"clipping": RULES}, seed=[0, 1])
    lost = {("none", 0), ("norm:1.0", 1), ("adaptive:0.01", 0)}
    runs = [run | ({"breaks_at": 3} if (run["clipping"], run["seed"]) in lost else {}) for run in runs]
    data, facts, axes = show(clipping_norms, make_study(runs))
    assert plain(facts["title"]) == "Without clipping 1 of 2 runs breaks down; with it, 2 of 18."
    drawn = clipping_norms.drawn_rules(data)
    assert len(drawn) == len(axes) == clipping_norms.MOST_RULES and {rule for rule, _ in lost} <= set(drawn)
    assert "norm:1.0" in facts["alt"] and "adaptive:0.01" in facts["alt"]


def test_rules_that_the_headline_names_are_drawn(make_study: Any) -> None:
    runs = [run | {"norm": 0.5} for run in grid(**TRAINING | {"clipping": RULES}, seed=[0, 1])]
    data, facts, _ = show(clipping_norms, make_study(runs))
    told = [rule for rule in RULES if rule in plain(facts["title"])]
    assert told and set(told) <= set(clipping_norms.drawn_rules(data))
