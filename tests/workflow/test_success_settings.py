"""Tasks of the literature and training until success, in configs, plans and tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import rnn_core as rc
from rnn_core.tasks import GENERATED, PACKAGED, SequenceTask
from study.config import approval
from study.config.idle import without_effect
from study.cost import model, outlook
from study.data import intake, task_file
from study.plan import Block, as_list
from study.report import reader
from tests.support.study_project import ROOT

GRID = {"task": "temporal_order", "sequence_length": 20, "updates": 100, "success_below": 0.01}


def study(**grid: Any) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "studies" / "tiny.yaml").read_text(encoding="utf-8"))
    del config["sequences"]
    return {**config, "sweeps": {"one": {"seeds": 1, "grid": GRID | grid}}}


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"loss_at": "every"}, "loss_at: 'every' does not fit; this task has 'last', so leave loss_at out (task 'temporal_order')"),
        ({"input_size": [6, 7]}, "input_size: 7 does not fit; this task has 6"),
        ({"sequence_length": [5, 20]}, "sequence_length: 5 is too short for this task; it needs at least 10 steps"),
        ({"task": ["adding", "white_noise"]}, "success_below: task 'white_noise' does not say which answers are wrong; adding,"),
        ({"task": "permuted_digits", "sequence_length": 65}, "65 is too long; a digit has 64 pixels"),
        ({"task": "digits", "held_out_sequences": 9}, "held_out_sequences: the sequences of 'digits' are given"),
        ({"success_below": 0}, "success_below: 0 is not allowed; it must be above 0"),
        ({"task": "copy_memry"}, "Did you mean 'copy_memory'?"),
    ],
)  # fmt: skip
def test_a_setting_that_does_not_fit_its_task_is_told_before_any_job(grid: dict[str, Any], message: str) -> None:
    """The first job ends with the engine's error, an hour later."""
    with pytest.raises(approval.ConfigError) as error:
        approval.check(study(**grid), folders=[ROOT])
    assert message in str(error.value)


def test_every_task_that_says_which_answers_are_wrong_is_offered() -> None:
    """The digits were left out, and a user's own classes, though studies/remedies.yaml has successes on the digits."""
    with pytest.raises(approval.ConfigError) as error:
        approval.check(study(task="white_noise"), folders=[ROOT])
    (offered,) = re.findall(r"which answers are wrong; (.*) and your own sequences of classes do", str(error.value))
    tasks = {name: kind(0, 30, 1, kind.default_input_size, kind.default_loss_at) for name, kind in GENERATED.items()}
    tasks |= {name: SequenceTask(made(), 0, 30, 1, "last") for name, made in PACKAGED.items()}
    assert offered.split(", ") == [name for name, task in tasks.items() if task.counts_wrong]


def test_settings_that_fit_are_accepted() -> None:
    """A study of the literature is refused."""
    for grid in (
        {},
        {"task": "copy_memory", "sequence_length": 1},
        {"spectral_radius": [None, 0.9], "initializer": "pascanu_smart"},
    ):
        approval.check(study(**grid), folders=[ROOT])


def test_a_setting_without_effect_counts_the_steps_that_a_task_adds() -> None:
    """A window of 25 steps is said to change nothing in 20 + 20 steps; or that nobody looks so late goes unsaid."""
    assert not any("truncation" in note for note in without_effect(study(task="copy_memory", truncation=25)))
    assert any("truncation: 40" in note for note in without_effect(study(task="copy_memory", truncation=40)))
    assert any(
        "validate_every: 101 is more than the 100 updates" in note for note in without_effect(study(validate_every=101))
    )


def test_a_success_that_guessing_has_is_told_before_any_job() -> None:
    """A study of hours counts every run as a success at its first look."""
    easy = [note for note in without_effect(study(success_below=0.8)) if "success_below" in note]
    assert easy == [
        "sweeps.one.grid.success_below: 0.8 is easier than guessing; the best answer without memory is wrong for 0.75 of the "
        "sequences of 'temporal_order', so a run that learns nothing may succeed"
    ]
    assert not any("easier than guessing" in note for note in without_effect(study(success_below=0.7)))
    both = study(
        task=["adding", "multiplication", "digits", "copy_memory"], sequence_length=20, success_below=[0.5, 0.9]
    )
    told = [
        note.split(" is easier")[0].split(": ")[1] + note.split("sequences of")[1]
        for note in without_effect(both)
        if "easier" in note
    ]
    assert [each.split(",")[0] for each in told] == [
        "0.9 'adding'",
        "0.5 'multiplication'",
        "0.9 'multiplication'",
        "0.9 'digits'",
    ]


def test_a_success_that_guessing_has_is_told_of_the_users_own_sequences(tmp_path: Path) -> None:
    """Labels of which nine in ten are alike make every run a success, and nobody says so."""
    classes = np.repeat((np.arange(40) % 10 == 0).astype(int), 3)
    rows = pd.DataFrame({"id": np.repeat(range(40), 3), "x": np.arange(120) % 5, "y": classes})
    rows.to_csv(tmp_path / "mine.csv", index=False)
    config = study(task="mine", sequence_length=3, success_below=0.4, batch_size=2)
    config["sequences"] = {
        "mine": {"file": "mine.csv", "sequence": "id", "inputs": ["x"], "targets": ["y"], "loss": "softmax_cross_entropy", "loss_at": "last"}
    }  # fmt: skip
    told = [note for note in intake.inspect(config, [tmp_path]).warnings if "easier than guessing" in note]
    assert len(told) == 1 and told[0].startswith(
        "sweeps.one.grid.success_below: 0.4 is easier than guessing; the best answer"
    )
    rows.assign(y=np.repeat(np.arange(40) % 2, 3)).to_csv(tmp_path / "mine.csv", index=False)
    config["sweeps"]["one"]["grid"]["success_below"] = 0.01
    assert not any("easier" in note for note in intake.inspect(config, [tmp_path]).warnings)


def cost(**grid: Any) -> tuple[model.Work, model.Cost]:
    block = Block("one", "all", {}, {axis: as_list(value) for axis, value in (GRID | grid).items()}, 2)
    return model.block_work(block), model.block_cost(block, study())


def test_the_plan_counts_looks_steps_and_rows() -> None:
    """A study of the literature takes hours more, or gigabytes less, than its plan says."""
    work, once = cost()
    looked, often = cost(validate_every=30, held_out_sequences=2560)  # after 30, 60, 90 and 100 updates
    steps = 20
    assert looked["fast_step"] - work["fast_step"] == 2 * steps * (4 * 10 - 1)
    assert looked["fast_element"] - work["fast_element"] == 2 * steps * 64 * (4 * 2560 - 256)
    assert often.seconds > once.seconds
    copies, _ = cost(task="copy_memory")
    assert copies["fast_element"] / work["fast_element"] == pytest.approx((20 + 20) / 20, rel=1e-12)
    _, thinned = cost(record_every=50)
    rows = (once.disk_mb - thinned.disk_mb) * model.MIB / model.RATES["update_bytes"]
    assert rows == pytest.approx(2 * (100 - 2), rel=1e-9)
    _, larger = cost(batch_size=256)
    assert once.memory_mb < larger.memory_mb and once.memory_mb > model.RATES["job_mb"]


def test_the_plan_says_that_runs_may_end_early() -> None:
    """A plan of twenty minutes ends after ten, and nobody knows why; or it says so of runs that cannot."""
    assert outlook.ends_early(GRID | {"validate_every": 10}) and outlook.ends_early(
        GRID | {"validate_every": [None, 10]}
    )
    assert not outlook.ends_early(GRID) and not outlook.ends_early({"validate_every": 10})


def test_curves_take_rows_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of runs with a row every 70 updates, a curve asks for updates between them and stays empty."""
    asked: list[Any] = []
    tables = reader.Tables({})
    monkeypatch.setattr(
        reader.Tables, "read", lambda *given: asked.append(given) or pd.DataFrame({"run_key": [], "update": []})
    )
    runs = pd.DataFrame({"run_key": ["a", "b"], "updates": 10_000, "record_every": [1, 70]})
    reader.updates_of(tables, runs, ["loss"], most=50)
    _, _, spread = asked[0][3][0][1]
    assert sum(update % 70 == 0 for update in spread) >= 50 and max(spread) == 9999


def test_a_baseline_of_the_users_own_sequences_reaches_the_run(tmp_path: Path) -> None:
    """The config's ``baseline`` is read and forgotten."""
    rows = pd.DataFrame({"id": np.repeat(range(8), 3), "x": np.arange(24) % 5, "y": np.repeat([0, 1] * 4, 3)})
    rows.to_csv(tmp_path / "mine.csv", index=False)
    described = {
        "file": "mine.csv", "sequence": "id", "inputs": ["x"], "targets": ["y"], "loss": "softmax_cross_entropy", "loss_at": "last",
        "baseline": 0.25,
    }  # fmt: skip
    assert (
        intake.task_of("permuted_digits", None, None).report[0].startswith("the permuted digits of scikit-learn: 1,797")
    )
    task = intake.task_of("mine", described, tmp_path)
    assert any(line.startswith("baseline: 0.25") for line in task.report)
    file = tmp_path / "s" / "sequences" / "mine.npz"
    file.parent.mkdir(parents=True)
    task_file.save_task(task, file, file.with_suffix(".txt"), file.with_suffix(".json"))
    data = rc.Sequences(**task_file.load(file))
    assert data.baseline == 0.25
    run = rc.run(rc.Experiment(task="mine", sequence_length=3, batch_size=2, hidden_size=2, updates=1), data)
    assert run["baseline_loss"] == 0.25
