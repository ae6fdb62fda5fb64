"""A study on a user's own file, all the way: names as classes, sequences of different lengths, rows out of order, semicolons and
decimal commas, and a file name full of patterns."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import rnn_core as rc
from study.data import task_file
from study.settings import described_axes
from tests.support.study_project import Project, copy, without_figures

pytestmark = pytest.mark.xdist_group("own data")  # one set-up for all

FILE = "data/my {task} {waves} [1] *?.csv"
DESCRIBED: dict[str, Any] = {
    "file": FILE,
    "sequence": "wave",
    "time": "when",
    "inputs": ["height", "slope"],
    "targets": ["kind"],
    "loss": "softmax_cross_entropy",
    "loss_at": "last",
    "held_out": 0.25,
    "delimiter": ";",
    "decimal": ",",
}
GRID = {"sequence_length": [4, 9], "hidden_size": 6, "batch_size": 4, "spectral_radius": [0.8, 1.2]}


def waves() -> pd.DataFrame:
    """24 waves of 5 to 9 steps, three kinds, rows shuffled."""
    rng = np.random.default_rng(0)
    parts = []
    for wave in range(24):
        T = 5 + wave % 5
        parts.append(pd.DataFrame({
            "wave": f"w{wave:02}",
            "when": pd.date_range("2024-01-01", periods=T, freq="h").astype(str),
            "height": rng.standard_normal(T).round(4) + wave % 3,
            "slope": rng.standard_normal(T).round(4),
            "kind": [None] * (T - 1) + [("calm", "rough", "storm")[wave % 3]],
        }))  # fmt: skip
    return pd.concat(parts).sample(frac=1.0, random_state=0)


def write_waves(project: Project, data: pd.DataFrame) -> Path:
    file = project.root / FILE
    file.parent.mkdir(exist_ok=True)
    data.to_csv(file, index=False, sep=";", decimal=",")
    return file


def config_of(project: Project) -> dict[str, Any]:
    sweeps = {
        "start": {"seeds": 2, "jobs_over": ["task"], "grid": {"task": ["mine", "white_noise"], **GRID}},
        "training": {"seeds": 1, "grid": {"task": "mine", **GRID, "updates": 4, "trace_every": 2}},
    }
    return {**without_figures(project.config()), "study": "own", "sequences": {"mine": DESCRIBED}, "sweeps": sweeps}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, list[str]]:
    """The study after one call of Snakemake."""
    project = copy(tmp_path_factory.mktemp("own") / "project")
    write_waves(project, waves())
    config = config_of(project)
    config["figures"] = ["gradient_norm_by_step", "growth_rate", "training_results", "engine_checks"]
    arguments = project.write_config("own", config)
    project.snakemake(*arguments)
    return project, arguments


def data_of(project: Project) -> rc.Sequences:
    return rc.Sequences(**task_file.load(project.root / "results/own/sequences/mine.npz"))


def test_the_sequences_are_those_of_the_file(own: tuple[Project, list[str]]) -> None:
    project, _ = own
    data, rows = data_of(project), waves().sort_values(["wave", "when"])
    assert data.inputs.shape == (24, 9, 2) and data.mask is not None
    for index, (_, wave) in enumerate(rows.groupby("wave")):
        T = len(wave)
        np.testing.assert_allclose(data.inputs[index, :T], wave[["height", "slope"]], rtol=1e-12)
        assert data.mask[index].nonzero()[0][-1] == T - 1
        assert data.targets[index] == ["calm", "rough", "storm"].index(wave["kind"].iloc[-1])


def test_what_was_read_is_told_beside_it(own: tuple[Project, list[str]]) -> None:
    project, _ = own
    text = (project.root / "results/own/sequences/mine.txt").read_text()
    assert "24 sequences" in text and "5 to 9 steps, median 7" in text and data_of(project).digest in text
    assert "3 classes: calm = 0 (" in text
    facts = json.loads((project.root / "results/own/sequences/mine.json").read_text())
    assert facts["classes"] == ["calm", "rough", "storm"]


def test_every_run_says_which_data_it_read(own: tuple[Project, list[str]]) -> None:
    project, _ = own
    runs, digest = project.table("runs", "own"), data_of(project).digest
    mine = runs["task"] == "mine"
    assert (runs.loc[mine, "data"] == digest).all() and runs.loc[~mine, "data"].isna().all()
    assert mine.sum() == 12 and (~mine).sum() == 8
    for row in runs.to_dict("records"):
        settings = {name: _plain(row[name]) for name in described_axes()}
        experiment = rc.Experiment(**settings)
        assert row["run_key"] == (experiment.key_with(digest) if row["task"] == "mine" else experiment.key)
    checks = project.table("checks", "own")
    assert set(checks.loc[checks["stage"] == "sweep", "run_key"]) <= set(runs["run_key"])
    gate = checks[(checks["stage"] == "gate") & (checks["task"] == "mine")]
    assert len(gate) and not set(gate["run_key"]) & {_settings_key(row) for row in runs[mine].to_dict("records")}
    assert (
        set(project.table("traces", "own")["run_key"])
        == set(runs["run_key"])
        == set(project.table("updates", "own")["run_key"])
    )
    assert (runs["baseline_accuracy"].dropna() < 1.0).all()


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _settings_key(row: dict[str, Any]) -> str:
    return rc.Experiment(**{name: _plain(row[name]) for name in described_axes()}).key


def test_the_page_renders(own: tuple[Project, list[str]]) -> None:
    project, _ = own
    page = (project.root / "results/own/report.html").read_text(encoding="utf-8")
    assert "<h2>Provenance" in page and len(re.findall("<figure", page)) >= 3


def test_a_file_that_changed_is_read_again_whatever_its_date(own: tuple[Project, list[str]]) -> None:
    """A file put back from a copy is older than what was made of its successor. Of the study, what is compared is made again."""
    project, arguments = own
    rows = "results/own/tables/runs.parquet"
    assert "read_sequences" not in project.rules_to_run(*arguments)
    before, file = project.table("runs", "own"), project.root / FILE
    data, content = data_of(project), file.read_bytes()
    write_waves(project, waves().assign(slope=lambda d: d["slope"] + 1.0))
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert project.rules_to_run(*arguments)["read_sequences"] == 1
    project.snakemake(*arguments, rows)
    after = project.table("runs", "own")
    assert data_of(project).digest != data.digest
    generated = before.loc[before["task"] == "white_noise", "run_key"]
    assert set(before["run_key"]) & set(after["run_key"]) == set(generated)
    file.write_bytes(content)
    project.snakemake(*arguments, rows)
    pd.testing.assert_frame_equal(project.table("runs", "own"), before)


def test_what_does_not_fit_is_no_failure_of_the_engine(tmp_path: Path) -> None:
    """Should the inspection be passed by: the job's words are the data's or the settings', not the engine check's."""
    project = copy(tmp_path / "project")
    write_waves(project, waves())
    config = config_of(project)
    config["sweeps"]["start"]["grid"]["sequence_length"] = [9, 50]
    done = project.snakemake(*project.write_config("own", config), "results/own/checks/gate.parquet", check=False)
    said = done.stdout + done.stderr
    assert done.returncode and "Traceback" not in said
    assert "The engine check stopped the study" not in said and "50" in said


def test_a_fault_in_the_data_is_one_sentence(tmp_path: Path) -> None:
    project = copy(tmp_path / "project")
    write_waves(project, waves().assign(wave=lambda d: d["wave"].where(d["wave"] != "w03")))
    arguments = project.write_config("own", config_of(project))
    done = project.snakemake(*arguments, check=False)
    said = done.stdout + done.stderr
    assert done.returncode and "column 'wave' is blank in data rows" in said
    assert "Traceback" not in said and "The engine check stopped the study" not in said
