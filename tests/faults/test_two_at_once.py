"""Two Snakemakes at the same time: on one folder, on one study under two configs, on one cache. And whose lock may be released."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from study.files import lock as study_lock
from study.files import writing
from tests.faults.disturbed import STUDY, Disturbed, assert_whole, edit_holder, fresh, holder
from tests.support.study_project import ROOT

pytestmark = pytest.mark.xdist_group("two at once")


@pytest.mark.workflow
def test_a_second_snakemake_is_refused_and_the_first_is_not_disturbed(undisturbed: Disturbed, tmp_path: Path) -> None:
    project = fresh(tmp_path / "project")
    running = project.begin()
    assert project.await_job("check_engine", running)
    said = project.run(check=False)
    assert "Directory cannot be locked. Please make sure that no other Snakemake process" in said
    assert "can be removed with the --unlock argument" in said
    assert project.release_lock() == "", "the lock of a living Snakemake was released"
    assert project.is_locked()
    assert running.wait(timeout=300) == 0, project.said()
    assert_whole(project, undisturbed)


def locks_of(project: Disturbed) -> dict[str, str]:
    return {lock.name: lock.read_text() for lock in (project.root / ".snakemake" / "locks").glob("*.lock")}


@pytest.mark.workflow
def test_a_study_keeps_its_lock_when_another_one_in_the_folder_ends(undisturbed: Disturbed, tmp_path: Path) -> None:
    """Snakemake takes the locks of all calls away when one ends. Ended well, with nothing to do, or with an error."""
    project = fresh(tmp_path / "project")
    other = project.write_config("other", project.config(STUDY) | {"study": "other"})
    gate = ["--cores=1", "results/other/checks/gate.parquet"]
    running = project.begin()
    assert project.await_job("check_engine", running)
    os.killpg(running.pid, signal.SIGSTOP)  # so that it lives as long as we look
    try:
        locks = locks_of(project)
        assert len(locks) == 2
        for targets in (gate, gate, ["results/other/none"]):
            done = project.snakemake(*other, *targets, check=False)
            assert done.returncode == (targets != gate), done.stderr
            assert locks_of(project) == locks
        assert "Directory cannot be locked" in project.run(check=False)
    finally:
        os.killpg(running.pid, signal.SIGCONT)
    assert running.wait(timeout=300) == 0, project.said()
    assert not project.is_locked()
    shutil.rmtree(project.root / "results" / "other")
    assert_whole(project, undisturbed)


@pytest.mark.workflow
def test_two_configs_of_one_study_without_a_lock_lose_nothing(undisturbed: Disturbed, tmp_path: Path) -> None:
    """``--nolock``: both write the same files at once, with other rows. One of them may fail; the same command mends it."""
    project = fresh(tmp_path / "project")
    config = project.config(STUDY)
    config["sweeps"]["propagation"]["seeds"] = 2
    other = project.write_config("other", config)
    first = project.start(
        "--nolock"
    )  # slower to start than a fork: of calls in step, one may find files of the other only later
    said = project.snakemake("--nolock", *other, check=False)
    assert first.wait(timeout=300) in (0, 1)
    assert said.returncode in (0, 1)
    kept = project.finished_runs()
    project.run()
    assert kept.items() <= project.finished_runs().items()
    assert_whole(project, undisturbed)


@pytest.mark.workflow
def test_two_copies_of_the_project_share_a_cache(undisturbed: Disturbed, tmp_path: Path) -> None:
    """Both compute the same runs at the same time and write the same entries; both end with the same rows."""
    projects = [fresh(tmp_path / "one"), fresh(tmp_path / "two")]
    (tmp_path / "cache").mkdir()
    for project in projects:
        project.results.mkdir(parents=True)
        (project.results / "cache").symlink_to(tmp_path / "cache")
    for running in [project.begin() for project in projects]:
        assert running.wait(timeout=300) == 0
    assert projects[0].finished_runs().keys() == undisturbed.finished_runs().keys()
    for project in projects:
        assert_whole(project, undisturbed)


@pytest.mark.workflow
def test_a_plan_beside_a_running_study_touches_nothing_of_it(tmp_path: Path) -> None:
    """The record is of a living process: this one."""
    project = fresh(tmp_path / "project")
    mine = {"place": writing.place(), "pid": os.getpid(), "started": study_lock._started(os.getpid())}
    files = {
        project.root / ".snakemake" / "locks" / "0.input.lock": "studies/faults.yaml\n",
        project.root / ".snakemake" / "locks" / "0.output.lock": f"results/{STUDY}/report.html\n",
        holder(project): json.dumps(mine),
        project.results / "logs" / "session.json": json.dumps({"started": 1.0, "cores": 2}),
        project.results / "cache" / f".runs.aside-{writing.place()}-{TestLeftovers().dead()}-0123abcd.run": "half",
    }
    for file, text in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert "Wall time of the whole study" in project.run("plan", "--nolock", "--quiet=all")
    assert "add --nolock to `snakemake plan`" in project.run("plan", check=False)
    assert {file: file.read_text() for file in files if file.exists()} == files
    assert not (project.results / "logs" / "progress.log").exists()


class TestLeftovers:
    def write(self, folder: Path, place: str, pid: int, name: str = "runs", age: float = 0.0) -> Path:
        file = folder / f".{name}.aside-{place}-{pid}-0123abcd.parquet"
        file.write_text("half")
        os.utime(file, (time.time() - age, time.time() - age))
        return file

    def dead(self) -> int:
        """The number of a process that has ended."""
        child = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(child, 0)
        return child

    def test_only_those_of_dead_writers_are_removed(self, tmp_path: Path) -> None:
        here, elsewhere = writing.place(), "0" * 8
        gone = [
            self.write(tmp_path, here, self.dead()),
            self.write(tmp_path, elsewhere, 1, "far", age=2 * writing.ABANDONED_AFTER),
        ]
        stay = [
            self.write(tmp_path, here, os.getpid()),
            self.write(tmp_path, elsewhere, 2, age=60.0),
            tmp_path / "runs.parquet",
            tmp_path / ".runs.parquet",
        ]
        for file in stay:
            file.write_text("whole")
        assert writing.remove_leftovers(tmp_path) == 2
        assert not any(file.exists() for file in gone)
        assert all(file.exists() for file in stay)

    def test_of_two_studies_each_tidies_its_own(self, tmp_path: Path) -> None:
        """Another study's logs and results are none of ours, even where their writer is dead."""
        ours, theirs = tmp_path / "results" / "ours", tmp_path / "results" / "theirs"
        for study in (ours, theirs):
            (study / "logs" / "run_block").mkdir(parents=True)
        gone = self.write(ours / "logs" / "run_block", writing.place(), self.dead())
        stay = [
            self.write(theirs / "logs" / "run_block", writing.place(), self.dead()),
            self.write(ours / "logs", writing.place(), os.getpid(), "session"),
        ]
        (ours / "logs" / "run_block" / "all.json").write_text("{}")
        assert writing.remove_leftovers(ours, ours / "cache") == 1
        assert not gone.exists() and all(file.exists() for file in stay)
        assert (ours / "logs" / "run_block" / "all.json").exists()

    def test_a_writer_killed_half_way_leaves_the_old_file_and_what_is_removed(self, tmp_path: Path) -> None:
        file = tmp_path / "runs.parquet"
        file.write_text("old and whole")
        code = f"import os, signal, sys; sys.path.insert(0, {str(ROOT / 'workflow' / 'scripts')!r})\nfrom study.files.writing import written_aside\nwith written_aside({str(file)!r}) as aside:\n    aside.write_text('half of'); os.kill(os.getpid(), signal.SIGKILL)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
        assert file.read_text() == "old and whole"
        assert len(list(tmp_path.iterdir())) == 2
        assert writing.remove_leftovers(tmp_path) == 1
        assert list(tmp_path.iterdir()) == [file]

    def test_the_file_that_is_being_written_stays_and_becomes_the_result(self, tmp_path: Path) -> None:
        with writing.written_aside(tmp_path / "runs.parquet") as aside:
            aside.write_text("whole")
            assert writing.remove_leftovers(tmp_path) == 0
        assert [file.name for file in tmp_path.iterdir()] == ["runs.parquet"]


class TestPlace:
    """Two machines of one name on one file system must not take each other's processes for their own."""

    def test_another_boot_is_another_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        boot, found = tmp_path / "boot_id", set()
        monkeypatch.setattr(writing, "_BOOT", boot)
        found.add(writing.place.__wrapped__())  # no Linux
        for number in ("e3ac7b32-6b42-4ac3-8baf-e81ee70a4aa6\n", "1b2c7a50-0b0e-4f6a-a3f0-5ad3ae0bb29f\n"):
            boot.write_text(number)
            found.add(writing.place.__wrapped__())
            assert writing.place.__wrapped__() in found
        assert len(found) == 3
        assert all(len(place) == 8 for place in found)

    def test_all_processes_of_this_boot_are_in_one_place(self) -> None:
        code = f"import sys; sys.path.insert(0, {str(ROOT / 'workflow' / 'scripts')!r})\nfrom study.files import writing\nprint(writing.place())"
        said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        assert said.strip() == writing.place()


class TestStaleLock:
    """A lock is released only where its holder is known to be dead."""

    @pytest.fixture
    def killed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disturbed:
        """What Snakemake leaves behind when it is killed: its locks and, younger, our record of a process that is dead."""
        monkeypatch.chdir(tmp_path)
        project = Disturbed(tmp_path)
        (tmp_path / ".snakemake" / "locks").mkdir(parents=True)
        (tmp_path / ".snakemake" / "locks" / "0.input.lock").write_text("studies/data/waves.csv\n")
        (tmp_path / ".snakemake" / "locks" / "0.output.lock").write_text(f"results/{STUDY}/report.html\n")
        study_lock.record(STUDY)
        edit_holder(project, pid=TestLeftovers().dead())
        return project

    def test_of_a_dead_holder_it_is_stale(self, killed: Disturbed) -> None:
        assert study_lock.is_stale(STUDY)

    def test_of_a_living_holder_it_is_not(self, killed: Disturbed) -> None:
        edit_holder(killed, pid=os.getpid())
        assert not study_lock.is_stale(STUDY)

    def test_another_process_with_the_holders_number_is_not_the_holder(self, killed: Disturbed) -> None:
        edit_holder(killed, pid=os.getpid(), started="1")
        assert study_lock.is_stale(STUDY)

    def test_of_another_machines_holder_nothing_is_known(self, killed: Disturbed) -> None:
        edit_holder(killed, place="0" * 8)
        assert not study_lock.is_stale(STUDY)

    def test_a_lock_younger_than_the_record_is_another_holders(self, killed: Disturbed) -> None:
        lock, recorded = killed.root / ".snakemake" / "locks" / "0.output.lock", holder(killed).stat().st_mtime_ns
        os.utime(lock, ns=(recorded + 1, recorded + 1))
        assert not study_lock.is_stale(STUDY)

    def test_another_studys_lock_is_left_alone(self, killed: Disturbed) -> None:
        """Another study runs in this folder, and must not lose its lock with ours. Of data that nobody writes, a lock may stay."""
        locks = killed.root / ".snakemake" / "locks"
        (locks / "1.output.lock").write_text(f"results/another/report.html\nresults/{STUDY}-2/report.html\n")
        (locks / "1.input.lock").write_text(f"results/{STUDY}/tables/runs.parquet\n")
        os.utime(locks / "1.input.lock", ns=(0, 0))
        assert study_lock.is_stale(STUDY)
        study_lock.release(STUDY)
        assert {lock.name for lock in locks.iterdir()} == {"0.input.lock", "1.output.lock"}
        assert not study_lock.is_stale(STUDY)

    def test_without_a_lock_or_a_record_there_is_nothing_to_release(self, killed: Disturbed) -> None:
        shutil.rmtree(killed.root / ".snakemake" / "locks")
        assert not study_lock.is_stale(STUDY)
        edit_holder(killed, pid=os.getpid())
        study_lock.forget(STUDY)
        assert not holder(killed).exists()
        (killed.root / ".snakemake" / "locks").mkdir()
        (killed.root / ".snakemake" / "locks" / "0.output.lock").write_text(f"results/{STUDY}/report.html\n")
        assert not study_lock.is_stale(STUDY)

    def test_a_record_tells_who_wrote_it(self, killed: Disturbed) -> None:
        study_lock.record(STUDY)
        assert json.loads(holder(killed).read_text())["pid"] == os.getpid()
        assert not study_lock.is_stale(STUDY)

    @pytest.mark.parametrize("words", ["", "{", "[]", "{}", "7"])
    def test_a_record_that_says_nothing_is_replaced(self, killed: Disturbed, words: str) -> None:
        holder(killed).write_text(words)
        study_lock.forget(STUDY)
        assert holder(killed).read_text() == words
        study_lock.record(STUDY)
        assert json.loads(holder(killed).read_text())["pid"] == os.getpid()

    def test_a_living_holders_record_survives_another_process(self, killed: Disturbed) -> None:
        """Two Snakemakes may work on one study at once, on other files of it."""
        edit_holder(killed, pid=os.getpid())
        before = holder(killed).read_text()
        code = f"import sys; sys.path.insert(0, {str(ROOT / 'workflow' / 'scripts')!r})\nfrom study.files import lock as study_lock\nstudy_lock.record({STUDY!r}); study_lock.forget({STUDY!r})"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=killed.root)
        assert holder(killed).read_text() == before
        assert not study_lock.is_stale(STUDY)
