"""What the page says of a sequence whose task adds steps to its length T: copy memory at lag T takes T + 20 of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from figures import gradient_norm_by_step, radius_length_map, seed_distribution, training_traces
from rnn_core.tasks import Adding
from study.report import measures, reader, style
from study.report.findings import Study
from study.report.sentences.growth_claims import window_sentence
from study.report.words import plain
from tests.figures.drawn import Settings, grid, render, write_tables
from tests.figures.test_training_frames import traced
from tests.page.frames import frame, start
from tests.page.test_truth import ONE, TRAIN, page_of

COPY: Settings = {"task": "copy_memory", "loss_at": "every", "updates": 0}


def tables_of(folder: Path, runs: list[Settings]) -> reader.Tables:
    return reader.Tables(write_tables(folder, runs))


def claims(module: Any, tables: reader.Tables) -> str:
    facts = module.facts(module.frame(tables), tables.study)
    return " ".join(map(plain, facts["claims"]))


def said(runs: list[Settings]) -> str:
    return " ".join(map(plain, Study(frame(runs)).sentences))


@pytest.fixture
def lags(tmp_path: Path) -> reader.Tables:
    """Networks at two lags whose rates spread by 0.1 a step, and of which theory says 0.02 more than was measured."""
    rates = [-0.3, -0.2, -0.1]
    runs = [
        COPY | {"sequence_length": T, "spectral_radius": r, "seed": s, "rate": rate - (r < 1), "predicted": -0.18}
        for T in (2, 8)
        for r in (0.9, 1.2)
        for s, rate in enumerate(rates)
    ]
    return tables_of(tmp_path, runs)


def test_traces_reach_the_first_step(tmp_path: Path) -> None:
    """An axis ended at step T - 1, and the headline is about the first step."""
    copy = TRAIN | {"task": "copy_memory", "loss_at": "every"}
    tables = tables_of(tmp_path, grid(**copy | {"sequence_length": [2, 8]}, seed=[0, 1]))
    tables = traced(tables, tmp_path, lambda *_: 1.0, moments=(2,))
    with style.theme():
        axes = training_traces.draw(training_traces.frame(tables)).axes
    assert [ax.get_xlim() for ax in axes] == [(0, 21), (0, 27)]
    assert {ax.get_xlabel() for ax in axes} == {"steps back"}  # T is the lag, and no step is called so


def test_theory_predicts_over_all_steps(lags: reader.Tables) -> None:
    """At a rate of -0.18 gradients are within a factor of 100 over 8 steps, and not over 28."""
    data = radius_length_map.frame(lags)
    assert np.allclose(data["predicted"], -0.18 * (data["sequence_length"] + 19) / math.log(10.0))
    assert "times the steps back to the first" in render(
        "radius_length_map", facts=radius_length_map.facts(data, lags.study) | {"shown": ["theory", "added"]}
    )
    assert "(the number of time steps)" not in render(
        "radius_length_map", facts=radius_length_map.facts(data, lags.study)
    )


def test_a_spread_adds_up_over_all_steps(lags: reader.Tables) -> None:
    decades = 0.1 * 27 / math.log(10.0)
    assert f"adds {decades:.1f} decades over the whole sequence at T = 8" in claims(seed_distribution, lags)
    data = seed_distribution.frame(lags)
    with style.theme():
        figure = seed_distribution.draw(data)
        figure.draw_without_rendering()
        left, right = figure.axes
    (top,) = right.child_axes
    assert top.get_xlim() == pytest.approx(np.array(right.get_xlim()) * 27 / math.log(10.0))
    assert top.get_xlabel() == "decades over the whole sequence, T = 8 (28 steps)"
    (chance,) = (line for line in left.lines if line.get_gid() == "slope -0.5")
    assert list(chance.get_xdata()) == [22, 28]
    assert left.get_xlabel() == "steps of the sequence, n"
    caption = render("seed_distribution", facts=seed_distribution.facts(data, lags.study))
    assert "the number n of all steps" in caption and "1/n" in caption and "1/T" not in caption


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (["copy_memory"], "Over T = 8 (28 steps), none of 6 networks"),
        (["adding"], "Over T = 8 steps, none of 6 networks"),
        (["adding", "copy_memory"], "Over the whole sequence at T = 8, none of 12 networks"),
    ],
)
def test_the_steps_of_a_sequence_are_said_beside_its_length(tasks: list[str], words: str) -> None:
    assert words in said([start(-5.0, seed=s, task=task, sequence_length=8) for task in tasks for s in range(6)])


def test_decades_are_of_all_steps() -> None:
    runs = [start(-1.5 + 1.4 * (c == "gru") + 0.01 * s, seed=s, cell=c, task="copy_memory", sequence_length=3) for c in ("gru", "lstm") for s in range(6)]  # fmt: skip
    assert "over T = 3 (23 steps)" in said(runs)


def test_a_task_that_adds_steps_may_have_its_loss_at_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As docs/extending.md allows it; copy memory has its loss at every step."""
    monkeypatch.setattr(Adding, "steps_of", classmethod(lambda _, T: T + 3))
    tables = tables_of(tmp_path, [ONE | {"task": "adding", "seed": s, "rate": -0.1} for s in (0, 1)])
    data = gradient_norm_by_step.frame(tables)
    assert list(gradient_norm_by_step.ends(data)["lag"]) == [11]
    title = plain(gradient_norm_by_step.facts(data, tables.study)["title"])
    assert title.startswith("Going back over T = 9 (12 steps) multiplies")
    with style.theme():
        (ax,) = gradient_norm_by_step.draw(data).axes
    assert max(max(line.get_xdata()) for line in ax.lines) == 11


def test_a_window_is_that_of_the_most_steps() -> None:
    """Of T = 8 both; its median over two tasks was of no sequence."""
    runs = frame(
        start(-0.1, seed=s, task=task, sequence_length=T, settled_from=first, settled_to=first + 8)
        for task, T, first in (("copy_memory", 8, 9), ("adding", 8, 2), ("adding", 20, 5))
        for s in range(3)
    )
    assert plain(window_sentence(runs)) == (
        "In sequences of 28 steps, rates are measured from step t = 9 to t = 17, in the median of the networks."
    )


def test_a_lag_of_one_has_a_way_back(tmp_path: Path) -> None:
    """Its 21 steps were called one."""
    runs = [ONE | {"task": task, "sequence_length": 1, "seed": s} for task in ("copy_memory", "adding") for s in (0, 1)]
    tables = tables_of(tmp_path, runs)
    assert set(measures.starts(tables.runs())["task"]) == {"copy_memory"}
    page, _ = page_of(tmp_path / "page", [run for run in runs if run["task"] == "copy_memory"])
    assert "single step" not in page and "of one step" not in page


def test_steps_are_those_of_the_engine() -> None:
    runs = pd.DataFrame({"task": ["copy_memory", "adding", "own_file"], "sequence_length": [3, 3, 7]})
    assert list(measures.steps(runs)) == [23, 3, 7]
    assert measures.steps(runs.iloc[:0]).empty


def test_steps_need_not_be_a_constant_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a task that takes twice its length, nine was told: what it adds at T = 0, and T."""
    monkeypatch.setattr(Adding, "steps_of", classmethod(lambda _, T: 2 * T))
    runs = pd.DataFrame({"task": ["adding", "adding", "copy_memory"], "sequence_length": [9, 4, 4]}, index=[7, 2, 5])
    assert measures.steps(runs).to_dict() == {7: 18, 2: 8, 5: 24}
