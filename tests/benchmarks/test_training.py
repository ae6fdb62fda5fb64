"""The benchmark of training: what it times is what it says, and its page says what its file holds."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

import rnn_core as rc
from benchmarks import training
from rnn_core.experiment import runs


def test_it_times_the_passes_and_all_that_an_update_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands still beside what is to be timed: the passes alone, or a run without its optimiser."""
    for name, few in (("UPDATES", 20), ("BEFORE", 2), ("ROUNDS", 2), ("PASSES", 20), ("STEPS", 20), ("SIZE", 8)):
        monkeypatch.setattr(training, name, few)
    plain = training.measure("input_mean")
    assert plain["ratio"] > 1.0
    assert (plain["loss_at"], plain["steps"]) == ("every", 20)
    step = rc.SGD.step

    def slow(self: rc.SGD, *given: Any) -> Any:
        begun = time.process_time()
        while time.process_time() - begun < 2e-3:
            pass
        return step(self, *given)

    monkeypatch.setattr(rc.SGD, "step", slow)
    assert isinstance(runs.optimizer_of(rc.Experiment()), rc.SGD)
    slowed = training.measure("input_mean")
    assert slowed["update_us"] > plain["update_us"] + 1500.0
    assert slowed["passes_us"] < plain["passes_us"] + 1500.0


def test_the_page_says_what_the_file_holds() -> None:
    """A task is missing, a ratio is another row's, or a goal that is missed is called met."""
    results: dict[str, Any] = json.loads(training.RESULTS.read_text(encoding="utf-8"))
    lines = training.section(results)
    assert lines == training.section()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")][1:]
    assert [row[0].removeprefix("| ") for row in rows] == [each["task"] for each in results["tasks"]]
    assert [row[-1].removesuffix(" |") for row in rows] == [f"{each['ratio']:.2f}" for each in results["tasks"]]
    met = sum(each["ratio"] <= 1.5 for each in results["tasks"])
    assert f"{met} of {len(rows)} tasks meet it" in "\n".join(lines)
    results["tasks"][0]["ratio"] = 9.0
    assert f"{met - 1} of {len(rows)} tasks meet it" in "\n".join(training.section(results))
