"""A small study to be killed, starved and damaged; and what must hold of it afterwards."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from study.files import seal
from tests.support.python_server import Running, run_module, start_module
from tests.support.study_project import REPEATABLE_TABLES, Project, copy, kept_runs, of_four_blocks

STUDY = "faults"
SAID = "said.log"  # what Snakemake said
PATIENCE = 180.0  # seconds, for what takes two


@dataclass(frozen=True)
class Disturbed(Project):
    """A copy of the project with the study ``faults``."""

    @property
    def arguments(self) -> tuple[str, ...]:
        return (f"--configfile=studies/{STUDY}.yaml",)

    @property
    def results(self) -> Path:
        return self.root / "results" / STUDY

    def run(self, *more: str, check: bool = True) -> str:
        """Snakemake to its end, and what it said."""
        done = self.snakemake(*more, *self.arguments, check=check)
        assert check or done.returncode != 0, "this call was meant to fail"
        return done.stdout + done.stderr

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Snakemake in a process group of its own; its words go to a file, for a pipe's reader would be one more thing to kill."""
        with (self.root / SAID).open("a") as log:
            return subprocess.Popen(
                self.command(*more, *self.arguments),
                cwd=self.root,
                env=self.environment(),
                start_new_session=True,
                stdout=log,
                stderr=log,
                text=True,
            )

    def begin(self, *more: str) -> Running:
        """The same for what nobody kills: as a fork, with forks for jobs (see ``python_server``)."""
        words = self.command(*more, *self.arguments)[2:]
        return start_module(*words, folder=self.root, environment=self.environment(), said=self.root / SAID)

    def said(self) -> str:
        return (self.root / SAID).read_text()

    def jobs(self, session: int | None = None) -> dict[int, str]:
        """Living jobs of this copy: process -> script, found in the kernel's list; of one call only, if its process is given."""
        found = {}
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError, ValueError):
                words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                script = next((word for word in words if word.startswith(f"{self.root}/.snakemake/scripts/")), None)
                state, _, _, own = (process / "stat").read_text().rpartition(")")[2].split()[:4]
                if script and "-c" not in words and state != "Z" and session in (None, int(own)):
                    found[int(process.name)] = script.rpartition("/")[2].split(".", 1)[1]
        return found

    def await_job(self, script: str, running: Running) -> int | None:
        """The process of a job with this script, once this call has one; None if the call ends first."""
        deadline = time.monotonic() + PATIENCE
        while running.poll() is None:
            for process, name in self.jobs(running.pid).items():
                if name.startswith(script):
                    return process
            assert time.monotonic() < deadline, f"{script} never started:\n{self.said()}"
            time.sleep(0.01)
        return None

    def await_quiet(self) -> None:
        """Until no job of this copy lives: those that a killed Snakemake left behind end by themselves."""
        deadline = time.monotonic() + PATIENCE
        while self.jobs():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def finished_runs(self) -> dict[str, float]:
        """Every whole run of the cache, with what would change if it were made again."""
        return kept_runs(self.results / "cache")

    def cache_files(self) -> list[Path]:
        """Where these runs lie; those that were run once more to be verified are not among them."""
        files = (self.results / "cache").rglob("[!.]*.runs")
        return sorted(file for file in files if "-verified" not in str(file))

    def leftovers(self) -> list[str]:
        """Hidden files: what is being written, or was when its writer died."""
        return [str(f.relative_to(self.root)) for f in self.results.rglob(".*") if f.is_file()]

    def release_lock(self) -> str:
        """What ``make report`` does first."""
        done = self.tool("release_lock")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def tool(self, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        """``python -m study.tools.NAME`` of this study."""
        environment = self.environment() | {"PYTHONPATH": str(self.root / "workflow" / "scripts")}
        words = (f"study.tools.{name}", f"studies/{STUDY}.yaml", *more)
        return run_module(*words, folder=self.root, environment=environment)

    def is_locked(self) -> bool:
        return any((self.root / ".snakemake" / "locks").glob("*.lock"))


def fresh(root: Path) -> Disturbed:
    """A copy that has not been run: four blocks, 40 runs, one figure, the page."""
    project = Disturbed(copy(root).root)
    project.write_config(STUDY, of_four_blocks(project.config(), STUDY))
    return project


def finish(folder: Path) -> None:
    """Run the study in ``folder / "project"``, and keep what Snakemake said beside it."""
    (folder / SAID).write_text(fresh(folder / "project").run())


def finished(undisturbed: Disturbed, root: Path) -> Disturbed:
    """A copy of the finished study, times of change and Snakemake's notes included."""
    shutil.copytree(undisturbed.root, root, symlinks=True)
    return Disturbed(root)


def assert_whole(project: Disturbed, undisturbed: Disturbed) -> None:
    """Nothing lost, nothing half-written, nothing left over, nothing to do, and the rows of an undisturbed run."""
    files = {str(f.relative_to(project.results)) for f in project.results.rglob("*") if f.is_file()}
    expected = {str(f.relative_to(undisturbed.results)) for f in undisturbed.results.rglob("*") if f.is_file()}
    ours, theirs = ({f for f in found if not f.startswith("cache/")} for found in (files, expected))
    assert {f for f in ours if not f.endswith(".damaged")} == theirs
    # Runs made once more to be verified are not counted: another config that ran beside this one has samples of its own.
    ours, theirs = ([f for f in p.finished_runs() if "-verified" not in f] for p in (project, undisturbed))
    assert len(ours) == len(theirs)
    assert project.leftovers() == []
    for file in project.results.rglob("*.parquet"):
        seal.check(file)
        pq.read_table(file, page_checksum_verification=True)
    figures = project.results / "figures"
    for name in ("engine_checks.png", "engine_checks.svg", "engine_checks.phone.svg", "engine_checks.json"):
        assert (figures / name).read_bytes() == (undisturbed.results / "figures" / name).read_bytes(), name
    assert (project.results / "report.html").read_text().rstrip().endswith("</html>")
    for table in REPEATABLE_TABLES:
        pd.testing.assert_frame_equal(
            project.table(table, STUDY), undisturbed.table(table, STUDY), check_exact=True, obj=table
        )
    assert set(project.table("timings", STUDY)["run_key"]) == set(undisturbed.table("timings", STUDY)["run_key"])
    assert project.rules_to_run(*project.arguments) == {}
    assert not project.is_locked()


def kill(process: int, group: bool = False) -> None:
    (os.killpg if group else os.kill)(process, signal.SIGKILL)


@functools.cache
def has_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True)
        if tried.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return tried.returncode == 0


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """``mount … folder`` while the block lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", *options, str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def damage(file: Path, content: bytes) -> None:
    """Other content, as a failing disk gives it: the time of change stays."""
    times = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def flip(file: Path, position: int, bit: int = 0) -> None:
    """One bit."""
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    damage(file, content)


def footer_of(file: Path) -> int:
    """Where a Parquet file's footer starts."""
    content = file.read_bytes()
    return len(content) - 8 - int.from_bytes(content[-8:-4], "little")


def holder(project: Disturbed) -> Path:
    return project.root / ".snakemake" / "holders" / f"{STUDY}.json"


def edit_holder(project: Disturbed, **changed: object) -> None:
    record = json.loads(holder(project).read_text())
    holder(project).write_text(json.dumps(record | changed))
