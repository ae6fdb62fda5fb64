"""A study on a real Slurm: killed for memory, cancelled, the controller restarted under it; the rows are those of a local run.

Memory limits are real without cgroups: the nodes measure every step's resident memory once a second and kill what is above its
job's request (``OverMemoryKill``).
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.slurm.slurm_cluster import FinishedJob, Slurm, wait_for
from tests.support.study_project import REPEATABLE_TABLES, Project, copy, without_figures

pytestmark = [pytest.mark.slurm, pytest.mark.workflow, pytest.mark.xdist_group("slurm")]
PROFILE = ("--workflow-profile=workflow/profiles/slurm", "--latency-wait=5", "--slurm-keep-successful-logs")
QUICK = ("--slurm-init-seconds-before-status-checks=1", "--slurm-no-account")
TARGETS = [f"results/tiny/tables/{table}.parquet" for table in REPEATABLE_TABLES]
LARGE = "sequence_length=500"  # the block that is killed for memory
# The plan that believes this block to be small, and is right about everything else.
WRONG_PLAN = f"""

_predicted = block_cost


def block_cost(block, config):
    cost = _predicted(block, config)
    return Cost(cost.seconds, 250.0, cost.disk_mb) if block.name == "{LARGE}" else cost
"""


def study(project: Project) -> dict[str, Any]:
    """Three small blocks, and one that holds half as much again as it is given, for several seconds, on a fast node, too. ``auto`` asks for GPUs."""
    config = without_figures(project.config())
    del config["sequences"], config["sweeps"]["clipping"]
    config["sweeps"]["propagation"]["grid"] |= {"spectral_radius": [0.5, 1.5], "sequence_length": 30}
    grid = {"sequence_length": [500], "batch_size": 800, "hidden_size": 64, "updates": 7, "learning_rate": 1.0e-3}
    config["sweeps"]["large"] = {"seeds": 1, "jobs_over": ["sequence_length"], "grid": grid}
    return {**config, "device": "auto"}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same study, run as on a laptop."""
    project = copy(tmp_path_factory.mktemp("local") / "project")
    project.snakemake(*project.write_config("tiny", study(project)), *TARGETS)
    return project


def same_rows(one: Project, other: Project) -> None:
    for table in REPEATABLE_TABLES:
        pd.testing.assert_frame_equal(one.table(table), other.table(table), check_exact=True)


Submit = Callable[..., subprocess.Popen]


@pytest.fixture
def submit(slurm: Slurm) -> Iterator[Submit]:
    """Starts Snakemake with the Slurm profile, as a user would; one that a failed test leaves behind is told to stop."""
    started: list[subprocess.Popen] = []

    def start(project: Project, log: Path, *more: str) -> subprocess.Popen:
        arguments = [*TARGETS, *PROFILE, *QUICK, *more, "--configfile=studies/tiny.yaml"]
        with log.open("w") as out:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "snakemake", *arguments],
                    cwd=project.root,
                    env=slurm.environment(),
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)


def jobs_of(slurm: Slurm, project: Project, block: str) -> dict[str, FinishedJob]:
    """The finished jobs of one block, in the order of submission, by id."""
    logs = (project.root / ".snakemake" / "slurm_logs" / "rule_run_block").glob(f"*{block}*/*.log")
    finished = slurm.finished()
    return {job: finished[job] for job in sorted((log.stem for log in logs), key=int) if job in finished}


def test_a_study_survives_what_clusters_do(slurm: Slurm, submit: Submit, local: Project, tmp_path: Path) -> None:
    project = copy(tmp_path / "project")
    project.write_config("tiny", study(project))
    cost = project.root / "workflow" / "scripts" / "study/cost/model.py"
    cost.write_text(cost.read_text() + WRONG_PLAN)

    # Ctrl-C in the middle takes the jobs out of Slurm. It comes before the first look at their states, as in the first 40 seconds by
    # default: those that are being looked at Snakemake does not cancel (docs/cluster.md).
    first = submit(project, tmp_path / "first.log", "--slurm-init-seconds-before-status-checks=20")
    wait_for("a block runs", lambda: any("run_block" in name for name in slurm.queue().values()), first)
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=120) != 0
    wait_for("the queue is empty", lambda: not slurm.queue("pending,running,completing"))
    assert "CANCELLED" in {job.state for job in slurm.finished().values()}
    assert not list(project.root.glob("results/tiny/tables/*.parquet"))

    # The same command again. One job is cancelled by hand, and the controller goes away for a moment.
    # Its first look at their states comes later. A look in that moment finds no controller, and Snakemake then asks an accounting that is
    # not there, and waits for ever.
    second = submit(project, tmp_path / "second.log", "--slurm-init-seconds-before-status-checks=20")
    small: list[str] = []
    wait_for("a small block runs", lambda: small.extend(small_blocks(slurm)) or small, second)
    slurm.call("scancel", small[0])
    slurm.restart_controller()
    code = second.wait(timeout=400)
    text = (tmp_path / "second.log").read_text()
    assert code == 0, text
    assert slurm.finished()[small[0]].state == "CANCELLED"
    assert_killed_for_memory_and_given_more(slurm, project)
    assert {slurm.gpus(log.stem) for log in slurm_logs(project, "run_block")} == {1}
    assert {slurm.gpus(log.stem) for log in slurm_logs(project, "gather_table")} == {0}
    same_rows(local, project)


def small_blocks(slurm: Slurm) -> list[str]:
    return [job for job, name in slurm.queue().items() if "run_block" in name and LARGE not in name]


def slurm_logs(project: Project, rule: str) -> list[Path]:
    return list((project.root / ".snakemake" / "slurm_logs" / f"rule_{rule}").rglob("*.log"))


def assert_killed_for_memory_and_given_more(slurm: Slurm, project: Project) -> None:
    """Slurm killed the large block for its memory, and every further attempt asked for more, and the last was completed."""
    attempts = jobs_of(slurm, project, LARGE)
    logs = {log.stem: log.read_text() for log in slurm_logs(project, "run_block")}
    killed = [job for job in attempts if re.search("exceeded memory limit", logs[job])]
    assert killed, logs
    last = list(attempts)[-1]
    assert attempts[last].state == "COMPLETED"
    asked = [attempts[job].memory_mb for job in (*killed, last)]
    assert all(more > less + 300 for less, more in pairwise(asked)), asked


def test_a_job_that_no_node_can_hold_fails_with_slurms_own_words(submit: Submit, tmp_path: Path) -> None:
    project = copy(tmp_path / "project")
    project.write_config("tiny", study(project))
    refused = submit(project, tmp_path / "log", "--set-resources=check_engine:mem_mb=999999", "--retries=0")
    assert refused.wait(timeout=300) != 0  # until the job is looked at, which takes a minute and more beside other work
    assert "Memory specification can not be satisfied" in (tmp_path / "log").read_text()


def test_the_whole_study_in_one_allocation(slurm: Slurm, local: Project, tmp_path: Path) -> None:
    """The second way: one job, in which Snakemake runs as on a laptop with as many cores as the job was given."""
    project = copy(tmp_path / "project")
    project.write_config("tiny", study(project))
    script = tmp_path / "study.sh"
    given = (
        "--cores $SLURM_CPUS_ON_NODE --resources mem_mb=$SLURM_MEM_PER_NODE"  # --resources takes every word after it
    )
    command = f"snakemake {' '.join(TARGETS)} {given} --configfile studies/tiny.yaml"
    script.write_text(f"#!/bin/bash\n{command}\n")
    before = set(slurm.finished())
    options = ["--parsable", "--wait", "--cpus-per-task=2", "--mem=6000", "--time=10", f"--chdir={project.root}"]
    job = slurm.call("sbatch", *options, f"--output={tmp_path / 'log'}", str(script))
    same_rows(local, project)
    wait_for("the job is in the log", lambda: job in slurm.finished())
    assert set(slurm.finished()) - before == {job}
