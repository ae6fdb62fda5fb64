"""The figure of the cliff: what is drawn, and what it says of the wall and of the paths."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from figures import cliff as figure
from rnn_core.experiment import cliff
from study.report import style
from study.report.words import addresses, plain
from tests.figures.drawn import PROPAGATION, lines, render
from tests.figures.test_any_study import check
from tests.page.second_opinion_cliff import KINDS


def shown(**given: Any) -> tuple[pd.DataFrame, Any, Any]:
    data = pd.DataFrame(cliff.table(cliff.Asked.of({"points": 21, **given})))[figure.COLUMNS]
    with style.theme():
        ax = figure.draw(data).axes[0]
    return data, figure.facts(data, None), ax  # type: ignore[arg-type]


def test_the_wall_and_the_paths_are_told_as_they_are() -> None:
    data, facts, ax = shown()
    kinds = {
        (address["kind"], address["where"].get("clipping")): address["value"]
        for text in (facts["title"], *facts["claims"])
        for _, address in addresses(text)
    }
    for text in (facts["title"], *facts["claims"]):
        for _, address in addresses(text):
            again = KINDS[address["kind"]]({"cliff": data}, address["where"])
            assert again == pytest.approx(address["value"], rel=1e-9) or (
                address["kind"] == "cliff_weight" and address["value"] in (4.0, 6.0)
            )
    b = [cliff.ridge(cliff.Unit(), w, -3.5, -1.5) for w in (4.0, 6.0)]
    ends = [float(cliff.Unit()(w, np.array([each])).log10_grad_norm[0]) for w, each in zip((4.0, 6.0), b, strict=True)]
    assert math.log10(kinds["cliff_per_weight", None]) == pytest.approx((ends[1] - ends[0]) / 2, rel=1e-6)
    title = plain(facts["title"])
    assert title.startswith("On average") and title.endswith("from 6.2 at w = 4 to 10⁷·³ at w = 6."), title
    text = [plain(claim) for claim in facts["claims"]]
    assert "of its 441 points, the steepest has a gradient of" in text[0]
    path = data[data["clipping"] == "none"].sort_values(
        "update"
    )  # chaotic at the wall: when it leaves, machines need not agree
    left = int(path.loc[~(path["weight"].between(4.0, 6.0) & path["bias"].between(-3.5, -1.5)), "update"].iloc[0])
    assert kinds["left_at", "none"] == left and f"leaves the map at update {left}" in text[1]
    assert (
        kinds["longest_step", "norm:0.1"] == pytest.approx(0.04)
        and "With norm:0.1, the longest step is 0.04. The path stays on the map, and its loss is" in text[2]
    )
    assert facts["answer"] == facts["claims"][1:]  # whether clipping helps is what the study asks
    assert (
        len(lines(ax, "path")) == 3
        and len(lines(ax, "left")) == 1
        and len(lines(ax, "end")) == 2
        and len(lines(ax, "start")) == 3
    )
    html = render("cliff", facts=facts | {"claims": []})
    assert html.count("<p>") == 3 and "A cross is the last point" in html and "thick line is the ridge" in html
    inside = data[(data["clipping"] == "none") & (data["update"] == left - 1)].iloc[0]
    assert (lines(ax, "left")[0].get_xdata()[0], lines(ax, "left")[0].get_ydata()[0]) == (
        inside["weight"],
        inside["bias"],
    )


def test_a_surface_without_a_cliff_says_so() -> None:
    _, facts, ax = shown(
        weights=[0.5, 1.5], biases=[-1.0, 1.0], **{"from": [1.0, 0.0]}, updates=4, clipping=["norm:1.0"]
    )
    assert "There is no cliff here" in plain(facts["title"]) and not {"ridge", "left"} & set(facts["shown"])
    html = render("cliff", facts=facts | {"claims": []})
    assert "ridge" not in html and "cross" not in html and len(lines(ax, "end")) == 1


def test_a_study_that_does_not_ask_says_what_to_add(make_study: Any) -> None:
    facts = check(figure, make_study([PROPAGATION]))
    assert not facts["drawn"] and "key cliff" in facts["claims"][0]
