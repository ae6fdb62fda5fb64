"""The figure of gradients through training draws the runs that it counts, and no other: where a last step has no gradient, nothing can be compared."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from figures import training_traces
from study.report import reader, style
from study.report.words import plain
from tests.figures.drawn import TRAINING, grid, lines, render, show
from tests.figures.test_training_frames import edited, texts, traced

WHENS = {0: "before", 4: "middle", 7: "after"}


def without(tables: reader.Tables, folder: Path, lost: dict[str, dict[int, tuple[str, ...]]]) -> reader.Tables:
    """With a gradient of exactly zero at the last step: by clipping rule, of which seed at which moments."""
    runs = tables.runs().set_index("run_key")

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        zero = [
            lag == 0 and WHENS[update] in lost.get(runs["clipping"][key], {}).get(runs["seed"][key], ())
            for key, update, lag in zip(rows["run_key"], rows["update"], rows["lag"], strict=True)
        ]
        return rows.assign(log10_grad_norm=rows["log10_grad_norm"].mask(zero, -math.inf))

    return edited(tables, folder, "traces", change)


def study_with(make_study: Any, folder: Path, lost: dict[str, dict[int, tuple[str, ...]]]) -> reader.Tables:
    rules = ["none", "norm:1.0", "value:0.1"]
    tables = make_study(grid(**TRAINING | {"clipping": rules}, seed=[0, 1, 2]))
    (folder / "traced").mkdir()
    return without(traced(tables, folder / "traced", lambda key, _: 1.0), folder, lost)


def test_a_run_without_a_last_step_has_no_line_at_any_moment(make_study: Any, tmp_path: Path) -> None:
    """Panels showed its one end alone; others compared the median of some runs with that of others."""
    lost = {"none": {0: ("before",), 1: ("after",)}, "norm:1.0": dict.fromkeys(range(3), ("before",))}
    data, facts, axes = show(training_traces, study_with(make_study, tmp_path, lost))
    drawn = data.dropna(subset=["lag"])
    runs = drawn.groupby(["panel", "when"], observed=True)["seed"].agg(lambda seeds: tuple(sorted(set(seeds))))
    for when in WHENS.values():
        assert runs["no clipping", when] == (2,) and runs["value:0.1", when] == (0, 1, 2)
    assert not any(lines(axes[1], when) for when in WHENS.values())
    assert texts(axes[1], "empty") == ["all 3 left out"]
    assert [texts(ax, "under title") for ax in axes] == [["2 of 3 left out"], [], []]
    [each] = facts["answer"]
    assert plain(each).startswith("In the median this share goes from ") and plain(each).count(", in one run.") == 1
    assert "for no clipping, in one run." in plain(each)
    assert any(plain(claim).startswith("5 of 9 runs are left out") for claim in facts["claims"])
    assert "Runs that are left out are counted at their panel." in " ".join(
        render("training_traces", facts=facts).split()
    )


def test_medians_of_one_run_each_are_no_medians(make_study: Any, tmp_path: Path) -> None:
    lost = {rule: {0: ("before",), 1: ("after",)} for rule in ("none", "norm:1.0", "value:0.1")}
    _, facts, _ = show(training_traces, study_with(make_study, tmp_path, lost))
    [each] = facts["answer"]
    assert plain(each).startswith("This share goes from ") and "one run" not in plain(each)


def test_a_middle_of_other_runs_is_not_drawn(make_study: Any, tmp_path: Path) -> None:
    data, facts, axes = show(training_traces, study_with(make_study, tmp_path, {"none": {0: ("middle",)}}))
    assert not lines(axes[0], "middle") and all(lines(ax, "middle") for ax in axes[1:])
    assert data.loc[data["clipping"] == "none", "seed"].nunique() == 3
    assert "no dashed line" in render("training_traces", facts=facts)


def test_a_study_of_which_every_run_is_left_out_says_why(make_study: Any, tmp_path: Path) -> None:
    lost = {rule: dict.fromkeys(range(3), ("after",)) for rule in ("none", "norm:1.0", "value:0.1")}
    tables = study_with(make_study, tmp_path, lost)
    data = training_traces.frame(tables)
    facts = training_traces.facts(data, tables.study)
    assert facts["title"] == training_traces.LOST.why and not facts["drawn"]
    with style.theme():
        (ax,) = training_traces.draw(data).axes
    assert ax.texts[0].get_text().replace("\n", " ") == training_traces.LOST.add


def test_the_alternative_text_has_the_lines_that_there_are(make_study: Any, tmp_path: Path) -> None:
    """Of updates 0 and 7 alone it named a line halfway."""
    tables = make_study(grid(**TRAINING, seed=[0, 1]))
    for moments, words in (
        ((7,), "training, one at the last update."),
        ((4, 7), "training, one halfway, one at the last"),
    ):
        folder = tmp_path / str(len(moments))
        folder.mkdir()
        _, facts, _ = show(training_traces, traced(tables, folder, lambda *_: 1.0, moments))
        assert f"One line is before {words}" in facts["alt"]
