"""SIGKILL to jobs, to Snakemake and to both, in every phase of a study; Ctrl-C and SIGTERM. Then the same command again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from study.files import seal
from study.files.writing import Damaged, FileTrouble
from tests.faults.disturbed import Disturbed, assert_whole, fresh, kill

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("kills")]

# what is alive at the kill, which comes a random moment after that job has started
FIRST = ("check_engine", "verify_runs")
LAST = (*2 * ("gather_table",), "draw_figures", "render_report")
JOBS = (*FIRST, *4 * ("run_block",), *LAST)
SNAKEMAKES = ("check_engine", *FIRST, *5 * ("run_block",), *LAST)


def assert_kept(before: dict[str, float], after: dict[str, float]) -> None:
    """No finished run was made again."""
    again = [file for file, changed in before.items() if after.get(file) != changed]
    assert not again, f"{len(again)} of {len(before)} finished runs were made again"


def assert_nothing_half_written(project: Disturbed) -> None:
    """Right after a kill, whatever has a file's name is that whole file; orphans may go on, and Snakemake may remove it meanwhile."""
    assert [file for file in project.results.rglob("*.parquet") if file.name[0] != "." and damaged(file)] == []


def damaged(file: Path) -> bool:
    try:
        seal.check(file)
    except Damaged:
        return True
    except FileTrouble:  # gone
        return False
    return False


def test_ten_jobs_are_killed_and_run_again(undisturbed: Disturbed, tmp_path: Path) -> None:
    """Under ``--retries`` a job that was killed is run again within the same call."""
    project, rng, kept = fresh(tmp_path / "project"), random.Random(1), {}
    running = project.start("--retries", "9")
    for script in JOBS:
        job = None
        while job not in project.jobs():  # it may end by itself before the moment has come
            job = project.await_job(script, running)
            assert job is not None, f"the study ended before a {script} could be killed:\n{project.said()}"
            time.sleep(rng.uniform(0.0, 1.0 if script == "run_block" else 0.2))
        kept |= project.finished_runs()
        kill(job)
        while job in project.jobs():
            time.sleep(0.005)
        assert_nothing_half_written(project)
    assert running.wait(timeout=300) == 0, project.said()
    assert_kept(kept, project.finished_runs())
    assert_whole(project, undisturbed)


def test_twelve_snakemakes_are_killed_and_the_study_goes_on(undisturbed: Disturbed, tmp_path: Path) -> None:
    """Snakemake alone, whose jobs live on and meet those of the next call, or with all its jobs. Recovery as documented."""
    project, rng, kept, kills = fresh(tmp_path / "project"), random.Random(2), {}, 0
    for index, script in enumerate(SNAKEMAKES):
        running = project.start()
        while project.await_job(script, running) is None:  # what orphans finished may leave this phase nothing to do
            assert running.returncode == 0, project.said()
            (project.results / "report.html").unlink()
            running = project.start()
            script = "render_report"
        time.sleep(rng.uniform(0.0, 1.2 if script == "run_block" else 0.3))
        kept |= project.finished_runs()
        assert running.poll() is None, "the kill came too late"
        kill(running.pid, group=index % 2 == 0)
        running.wait()
        kills += 1
        assert_nothing_half_written(project)
        assert project.is_locked()
        if index % 3:
            assert "was killed and left its lock behind" in project.release_lock()
        else:
            assert "can be removed with the --unlock argument" in project.run(check=False)
            project.run("--unlock")
        assert not project.is_locked()
    project.await_quiet()
    project.run()
    assert kills == 12
    assert_kept(kept, project.finished_runs())
    assert_whole(project, undisturbed)


def test_a_study_that_is_told_to_stop_stops_and_goes_on_by_the_same_command(
    undisturbed: Disturbed, tmp_path: Path
) -> None:
    """Ctrl-C reaches Snakemake and its jobs, a batch system's SIGTERM too, ``kill`` Snakemake alone. No lock stays behind."""
    project, kept = fresh(tmp_path / "project"), {}
    for stop, group in ((signal.SIGINT, True), (signal.SIGTERM, True), (signal.SIGTERM, False)):
        running = project.start()
        assert project.await_job("run_block", running), f"nothing is left to be stopped:\n{project.said()}"
        before = project.finished_runs()
        while project.finished_runs() == before:
            assert running.poll() is None, project.said()
            time.sleep(0.01)
        kept |= project.finished_runs()
        (os.killpg if group else os.kill)(running.pid, stop)
        assert running.wait(timeout=60) != 0
        assert project.jobs() == {}, "a job lives on"
        assert not project.is_locked()
    project.run()
    assert_kept(kept, project.finished_runs())
    assert_whole(project, undisturbed)
