"""A whole small study with cells of the user's own: its tables, what an edit makes again, and what stops it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Any

import pandas as pd
import pytest

from study.report.page_tables import example_run
from study.report.reader import variants_as_cells
from tests.support.shared import made_once
from tests.support.study_project import REPEATABLE_TABLES, Project, copy, copy_of, kept_runs

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("own cells")]

GATED = """
import torch
from torch import nn


class Gated(nn.Module):
    def __init__(self, input_size, hidden_size, bias=0.0):
        super().__init__()
        self.hidden_size = hidden_size
        self.both = nn.Linear(input_size + hidden_size, 2 * hidden_size)
        nn.init.constant_(self.both.bias, bias)

    def forward(self, x, h):
        f, n = self.both(torch.cat([x, h], dim=1)).chunk(2, dim=1)
        return torch.sigmoid(f) * h + torch.sigmoid(-f) * torch.tanh(n)
"""
MATRIX = """
import torch
from torch import nn


class Matrix(nn.Module):
    def __init__(self, input_size, hidden_size):
        super().__init__()
        self.key, self.value = nn.Linear(input_size, hidden_size), nn.Linear(input_size, 3)

    def initial_state(self, batch_size):
        weight = self.key.weight
        return {"memory": weight.new_zeros(batch_size, len(weight), 3), "count": weight.new_zeros(batch_size)}

    def forward(self, x, state):
        written = torch.tanh(self.key(x))[:, :, None] * self.value(x)[:, None, :]
        return {"memory": 0.9 * state["memory"] + written, "count": state["count"] + 1}
"""
BY_HAND = """
class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        return torch.tanh(a)

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad


"""
STUDY: dict[str, Any] = {
    "study": "mine",
    "title": "Cells of my own",
    "question": "Do they go through?",
    "device": "cpu",
    "gate": {"tolerance": {"float64": 1e-10, "float32": 1e-3}, "checked_runs_per_job": 1},
    "cells": {
        "gated": {"file": "files/gated.py", "class": "Gated", "options": {"bias": [0.0, 2.0]}},
        "matrix": {"file": "files/matrix.py", "class": "Matrix"},
    },
    "sweeps": {
        "starts": {
            "seeds": 2,
            "jobs_over": ["cell"],
            "grid": {
                "cell": ["vanilla", "gated", "matrix"],
                "sequence_length": [6, 12],
                "hidden_size": 4,
                "batch_size": 3,
            },
        },
        "training": {
            "seeds": 2,
            "grid": {
                "task": "input_mean",
                "cell": "gated:bias=2.0",
                "updates": 2,
                "sequence_length": 5,
                "hidden_size": 3,
                "clipping": ["none", "norm:0.1"],
                "dtype": "float32",
            },
        },
    },
    "figures": ["gradient_norm_by_step", "growth_rate", "engine_checks"],
}


def set_up(project: Project, gated: str = GATED) -> list[str]:
    """Write the files and the config; the arguments that run it."""
    folder = project.root / "studies" / "files"
    folder.mkdir(exist_ok=True)
    (folder / "gated.py").write_text(gated)
    (folder / "matrix.py").write_text(MATRIX)
    return project.write_config("mine", STUDY)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The study after one call. Tests must leave it as it is."""

    def make(folder: Any) -> None:
        project = copy(folder)
        project.snakemake(*set_up(project))

    return Project(made_once(tmp_path_factory, "own_cells", make))


def test_the_tables_have_the_users_names(mine: Project) -> None:
    runs = mine.table("runs", "mine")
    starts = runs[runs["sweep"] == "starts"]
    assert len(runs) == 4 * 2 * 2 + 2 * 2
    assert set(zip(starts["cell"], starts["cell_options"].fillna(""), strict=True)) == {
        ("vanilla", ""),
        ("gated", "bias=0.0"),
        ("gated", "bias=2.0"),
        ("matrix", ""),
    }
    own = runs[runs["cell"] != "vanilla"]
    unknown = ["activation", "initializer", "spectral_radius", "input_scale", "sigma_max", "sigma_w", "predicted_rate"]
    assert own[unknown].isna().all(axis=None) and runs.loc[runs["cell"] == "vanilla", unknown].notna().all(axis=None)
    assert own["growth_rate"].notna().all()
    assert mine.table("traces", "mine")["saturation"].isna().any()


def test_every_cell_was_proved_and_runs_were_verified(mine: Project) -> None:
    checks = mine.table("checks", "mine")
    gate = checks[checks["stage"] == "gate"]
    for cell in ("gated", "matrix"):
        assert set(gate.loc[gate["cell"] == cell, "oracle"]) == {
            "torch.autograd",
            "central differences",
            "each sample alone",
        }
    assert set(gate.loc[gate["cell"] == "vanilla", "oracle"]) == {"torch.autograd", "torch.nn.RNN"}
    assert (checks["relative_error"] <= checks["tolerance"]).all()
    assert set(checks.loc[checks["stage"] == "sweep", "cell"]) == {"vanilla", "gated", "matrix"}


def test_the_page_says_nothing_that_it_does_not_know(mine: Project) -> None:
    text = (mine.root / "results/mine/report.html").read_text()
    for wrong in ("nan", "optionses", "None", "ρ = nan", "cell options"):
        assert f" {wrong}" not in text and f">{wrong}" not in text, wrong
    assert "gated bias=2.0" in text and "central differences" in text


def test_the_pages_code_knows_the_users_cell(mine: Project) -> None:
    """The code under Provenance imported what is in no installed package."""
    runs = variants_as_cells(mine.table("runs", "mine"))
    code = example_run(runs[runs["cell"] == "gated:bias=2.0"], "mine")
    assert 'register_all(["results/mine/cells/gated.json"])' in code
    subprocess.run([sys.executable, "-c", code], cwd=mine.root, env=mine.environment(), check=True, timeout=120)


def test_rows_are_the_same_on_one_core(mine: Project, tmp_path: Any) -> None:
    other = copy(tmp_path)
    other.snakemake(*set_up(other), cores=1)
    for table in REPEATABLE_TABLES:
        pd.testing.assert_frame_equal(mine.table(table, "mine"), other.table(table, "mine"), check_exact=True)


def runs_of(project: Project) -> dict[str, float]:
    return kept_runs(project.root / "results" / "mine" / "cache")


def test_an_edited_file_makes_its_own_runs_again_and_no_others(mine: Project, tmp_path: Any) -> None:
    project = Project(tmp_path / "project")
    shutil.copytree(mine.root, project.root)
    arguments = set_up(project)
    assert project.rules_to_run(*arguments) == {}
    before, keys = runs_of(project), project.table("runs", "mine").set_index("run_key")["cell"]
    set_up(project, GATED.replace("torch.tanh(n)", "torch.sin(n)"))
    jobs = project.rules_to_run(*arguments)
    assert jobs["run_block"] == 3 and jobs["take_cell"] == jobs["prove_cell"] == 1
    project.snakemake(*arguments)
    after, edited = runs_of(project), project.table("runs", "mine").set_index("run_key")["cell"]
    assert {name: after[name] for name in before} == before
    assert set(edited[edited != "gated"].index) == set(keys[keys != "gated"].index)
    assert not set(edited[edited == "gated"].index) & set(keys[keys == "gated"].index)


def stopped(project: Project, gated: str) -> str:
    """What a study says that does not come to its end. No block of the cell was made."""
    done = project.snakemake(*set_up(project, gated), check=False)
    assert done.returncode != 0
    assert not list((project.root / "results/mine").glob("blocks/*/cell=gated*"))
    assert not (project.root / "results/mine/tables/runs.parquet").exists()
    return done.stdout + done.stderr


def test_a_wrong_backward_stops_the_study_and_is_named(tmp_path: Any) -> None:
    gated = GATED.replace("class Gated", BY_HAND + "class Gated").replace("torch.tanh(n)", "Doubled.apply(n)")
    said = stopped(copy(tmp_path), gated)
    assert said.count("Doubled") == 1, said
    for words in (
        "Your own cell gated (files/gated.py)",
        "step t = ",
        "autograd has",
        "differences",
        "backward of Doubled",
    ):
        assert words in said, said


FAULTS = {
    "dropout": ("h + torch.sigmoid(-f)", "h + nn.functional.dropout(torch.sigmoid(-f))", ["random numbers"]),
    "in place": ("return torch.sigmoid(f) * h", "h.mul_(0.5); return torch.sigmoid(f) * h", ["in place"]),
    "shape": ("return torch", "return h[:, :2] + 0 * torch.sigmoid(f)[:, :2]; torch", ["shape"]),
    "mixing": ("torch.tanh(n)", "torch.tanh(n - n.mean(dim=0))", ["mixes the samples"]),
    "nan": ("torch.tanh(n)", "torch.log(n)", ["gives nan in 'hidden'"]),
    "not seeded": ("bias)", "__import__('random').random())", ["the same seed draws two values of both.bias"]),
    "at import": ("import torch\n", "import torch\nimport no_such_library\n", ["import fails in line 3", "A cell is one file"]),
    "in the constructor": ("super().__init__()", "super().__init__(); 1 / 0", ["Gated(input_size=8, hidden_size=4, bias=0.0) fails in line 8", "ZeroDivisionError"]),
    "in a step": ("return torch", "return {}['n'] * torch", ["(gated.py) in line 15: the cell 'gated' at step t = 1 failed: KeyError: 'n'"]),
    "no dict": ("return torch", "return {}; torch", ["a step returns the next one, in task="]),
    "output and state": ("return torch", "return x, h; torch", ["is a part of the state, in task="]),
    "no start": ("self.hidden_size = hidden_size", "self.initial_state = lambda batch: nothing", ["in line 9", "NameError"]),
    "an exit": ("import torch\n", "raise SystemExit(3)\n", ["import fails in line 2"]),
    "hidden state": ("return torch", "self.n = getattr(self, 'n', 0) + 1; return self.n * torch", ["state of its own"]),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_no_step_is_told_in_its_own_words(fault: str, tmp_path: Any) -> None:
    """The job's words, without Snakemake."""
    from study.own_cells import kept, loading
    from study.own_cells.loading import CellError
    from study.runs import proof
    from study.runs.checks import CheckFailed

    old, new, words = FAULTS[fault]
    assert old in GATED
    (tmp_path / "gated.py").write_text(GATED.replace(old, new, 1))
    described = {"file": "gated.py", "class": "Gated", "options": {"bias": [0.0]}}
    target = tmp_path / "results/mine/cells/gated.json"
    kept.take("gated", described, tmp_path / "gated.py", target)
    sweeps = copy_of(
        {
            "one": {
                "seeds": 1,
                "grid": {"cell": "gated:bias=0.0", "sequence_length": 9, "hidden_size": 4, "batch_size": 3},
            }
        }
    )
    with pytest.raises((CheckFailed, CellError)) as error:
        loading.register_all([target])
        proof.table("gated", sweeps, {}, "cpu", {"float64": 1e-10, "float32": 1e-3})
    said = str(error.value)
    assert "own cell gated (gated.py)" in said, said
    for each in words:
        assert each in said, said
