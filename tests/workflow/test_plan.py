"""The plan: a pure function of the config."""

from __future__ import annotations

import time
from typing import Any

import pytest
from study_project import ROOT
from yaml import safe_load

import rnn_core as rc
import study_plan


@pytest.fixture
def config() -> dict[str, Any]:
    return dict(safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))


def test_the_default_study_is_what_was_asked_for(config: dict[str, Any]) -> None:
    propagation, clipping = config["sweeps"]["propagation"], config["sweeps"]["clipping"]
    grid = propagation["grid"]
    assert set(grid["activation"]) >= {"identity", "relu", "sigmoid", "tanh"}
    assert len(grid["spectral_radius"]) >= 7
    assert min(grid["spectral_radius"]) == 0.5
    assert max(grid["spectral_radius"]) == 1.5
    assert min(grid["sequence_length"]) == 25
    assert max(grid["sequence_length"]) == 400
    assert len(grid["sequence_length"]) >= 5
    assert propagation["seeds"] >= 5
    assert grid["loss_at"] == "last"
    assert set(clipping["grid"]["clipping"]) == {"none", "norm:1.0", "norm:0.1", "value:0.1"}
    assert set(clipping["grid"]["task"]) == {"digits", "input_mean"}
    assert clipping["grid"]["updates"] >= 100


def test_blocks_hold_every_run_once(config: dict[str, Any]) -> None:
    keys = [rc.Experiment(**run).key for block in study_plan.blocks(config).values() for run in block.runs()]
    expected = 1
    total = 0
    for sweep in config["sweeps"].values():
        expected = sweep["seeds"]
        for values in sweep["grid"].values():
            expected *= len(study_plan.as_list(values))
        total += expected
    assert len(keys) == len(set(keys)) == total
    assert sum(map(len, study_plan.blocks(config).values())) == total


def test_a_grown_axis_adds_blocks_and_leaves_the_others_alone(config: dict[str, Any]) -> None:
    before = study_plan.blocks(config)
    config["sweeps"]["propagation"]["grid"]["spectral_radius"].append(1.7)
    after = study_plan.blocks(config)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {("propagation", "spectral_radius=1.7")}


def test_jobs_over_does_not_change_the_runs(config: dict[str, Any]) -> None:
    def keys() -> set[str]:
        return {rc.Experiment(**run).key for block in study_plan.blocks(config).values() for run in block.runs()}

    expected = keys()
    config["sweeps"]["propagation"]["jobs_over"] = ["activation", "sequence_length"]
    config["sweeps"]["clipping"]["jobs_over"] = ["clipping"]
    assert keys() == expected
    assert ("clipping", "clipping=norm-1.0") in study_plan.blocks(config)  # no colon in a file name


def test_planning_does_not_import_the_engine() -> None:
    """The Snakefile is parsed again in every job of a cluster: no NumPy, no torch, no rnn_core for that."""
    import subprocess
    import sys

    code = "import sys, study_config, study_plan, study_provenance; print([m for m in ('torch', 'rnn_core', 'pandas') if m in sys.modules])"  # fmt: skip
    scripts = ROOT / "workflow" / "scripts"
    done = subprocess.run([sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_planning_is_quick_for_many_runs(config: dict[str, Any]) -> None:
    """A guard against work per run, not a benchmark: 100 000 runs are planned as 8 blocks, none of them expanded."""
    config["sweeps"]["propagation"]["seeds"] = 1000
    start = time.process_time()
    assert sum(map(len, study_plan.blocks(config).values())) > 100_000
    assert time.process_time() - start < 1.0
