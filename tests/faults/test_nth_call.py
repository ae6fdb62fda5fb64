"""Every call that opens, writes, renames, makes, closes or reads a file of a study fails once, one after the other.

Each fault must end in a sentence, or in nothing at all where the file was not needed; and the same command must then reach the rows of
an undisturbed run. A job is run as Snakemake runs it, but without Snakemake (replay.py), from the state before that job: what later
jobs read of it is compared with what an undisturbed job wrote. A normal test run takes a spread of the calls, ``make faults`` all.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from study.files import seal
from tests.faults.disturbed import STUDY, Disturbed
from tests.faults.replay import KEEPER, READS, WRITES, control, counted
from tests.support.study_project import copy, without_figures

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("failing calls")]

HERE = Path(__file__).parent
ALL = os.environ.get("ALL_FAULTS") == "1"
ERRORS = {WRITES: (errno.ENOSPC, errno.EIO, errno.EACCES), READS: (errno.EIO, errno.EACCES, errno.EMFILE)}
WORDS = {WRITES: "cannot be written: ", READS: "cannot be read: "}
SPREAD = (0.25, 0.6, 1.0)  # of all calls: those of a rule and a kind that fail in a normal test run


@cache
def shim() -> Path | None:
    """The library that makes calls fail; None without a C compiler, or where calls cannot be taken over."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        return None
    file = Path(os.environ.get("TMPDIR", "/tmp")) / f"failing-calls-{os.getpid()}.so"
    call = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(file), str(HERE / "failing_calls.c"), "-ldl"]  # fmt: skip
    subprocess.run(call, check=True, capture_output=True, text=True)
    return file


def environment(project: Disturbed, shared: Path, below: Path) -> dict[str, str]:
    """In which the calls on files below a folder fail as ``shared`` says."""
    control(shared)
    return project.environment() | {
        "LD_PRELOAD": str(shim()),
        "FAULTS_CONTROL": str(shared),
        "FAULTS_BELOW": str(below),
    }


def tiny(root: Path) -> Disturbed:
    """A study with every kind of job and as few runs as that needs: three."""
    project = Disturbed(copy(root).root)
    config = without_figures(project.config())
    config["study"] = STUDY
    propagation, training = config["sweeps"]["propagation"], config["sweeps"]["clipping"]
    small = {"activation": "tanh", "hidden_size": 3, "batch_size": 2}
    propagation |= {"seeds": 1, "jobs_over": [], "grid": small | {"spectral_radius": [0.5, 1.5], "sequence_length": 5}}
    training |= {"seeds": 1, "jobs_over": [], "grid": small | {"task": "waves", "sequence_length": 24, "updates": 2}}
    project.write_config(STUDY, config)
    return project


@dataclass
class Stage:
    """The jobs of a study, and the project's results before each of them.

    Attributes:
        jobs: (name, outputs) in the order in which they ran.
        before: the results before a job; one more: after the last.
        work: the project's folder in which jobs are disturbed.
        calls: (job, kind) -> calls of that kind that the job makes.
    """

    jobs: list[tuple[str, list[str]]]
    before: list[Path]
    work: Path
    server: subprocess.Popen[str]
    calls: dict[tuple[int, int], int]

    def run(self, job: int, kind: int = 0, at: int = 0, error: int = 0, sticky: bool = False) -> dict[str, Any]:
        """What the server answers about the job, run in ``work``."""
        asked = {"job": job, "root": str(self.work), "kind": kind, "at": at, "error": error, "sticky": sticky}
        assert self.server.stdin and self.server.stdout
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return dict(json.loads(self.server.stdout.readline()))

    def reset(self, job: int) -> None:
        """The results as they were before the job."""
        shutil.rmtree(self.work / "results", ignore_errors=True)
        shutil.copytree(self.before[job], self.work / "results")

    def count(self, job: int, after: Path) -> None:
        """Run the job undisturbed, count its calls and keep the results."""
        self.reset(job)
        undisturbed = self.run(job)
        assert undisturbed["status"] == 0, undisturbed["said"]
        self.calls |= {(job, kind): undisturbed["calls"][kind] for kind in (WRITES, READS)}
        shutil.copytree(self.work / "results", after)
        self.before.append(after)

    def files(self) -> set[str]:
        return {str(f.relative_to(self.work)) for f in (self.work / "results").rglob("*") if f.is_file()}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The study run once by Snakemake, whose jobs' scripts are kept; and once more job by job, counting calls."""
    if shim() is None:
        pytest.skip("no C compiler for the library that makes calls fail")
    folder = tmp_path_factory.mktemp("calls")
    project, scripts, site = tiny(folder / "project"), folder / "scripts", folder / "site"
    scripts.mkdir()
    site.mkdir()
    (site / "sitecustomize.py").write_text(KEEPER)
    keeping = project.environment() | {"PYTHONPATH": str(site), "KEPT_SCRIPTS": str(scripts)}
    subprocess.run(project.command(*project.arguments, cores=1), cwd=project.root, env=keeping, check=True, capture_output=True)  # fmt: skip
    work, shared = folder / "work", folder / "control"
    shutil.copytree(project.root, work, ignore=shutil.ignore_patterns("results", ".snakemake"))
    (folder / "0").mkdir()
    with subprocess.Popen(
        [sys.executable, str(HERE / "replay.py"), str(scripts), str(shared)],
        env=environment(project, shared, work / "results"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout
        stage = Stage(json.loads(server.stdout.readline()), [folder / "0"], work, server, {})
        for job in range(len(stage.jobs)):
            stage.count(job, folder / str(job + 1))
        yield stage
        server.communicate()  # ends its input, and so the server


def faults(stage: Stage, kind: int) -> Iterator[tuple[int, int, int]]:
    """(job, which call, errno): all; or of the jobs of every rule some calls, with one error after the other."""
    errors = itertools.cycle(ERRORS[kind])
    if ALL:
        for job in range(len(stage.jobs)):
            for at in range(1, stage.calls[job, kind] + 1):
                yield from ((job, at, error) for error in (ERRORS[kind] if kind == WRITES else [next(errors)]))
        return
    for rule in dict.fromkeys(name for name, _ in stage.jobs):
        jobs = [job for job, (name, _) in enumerate(stage.jobs) if name == rule and stage.calls[job, kind]]
        for turn, share in enumerate(SPREAD if jobs else ()):
            job = jobs[turn % len(jobs)]
            yield job, max(1, round(share * stage.calls[job, kind])), next(errors)


def same(file: str, ours: Path, theirs: Path) -> bool:
    """Whether a job's output is the undisturbed job's; of measured times, whether it is whole and has the same runs."""
    if file.endswith("timings.parquet"):
        seal.check(ours / file)
        return bool(pq.read_table(ours / file, columns=["run_key"]).equals(pq.read_table(theirs / file, columns=["run_key"])))  # fmt: skip
    if file.endswith(".parquet"):
        seal.check(ours / file)
        return bool(pq.read_table(ours / file).equals(pq.read_table(theirs / file)))
    if file.endswith(".html"):
        return "</html>" in seal.check_text(ours / file)
    if file.endswith(".npz"):
        one, two = np.load(ours / file), np.load(theirs / file)
        return list(one) == list(two) and all(np.array_equal(one[name], two[name]) for name in one)
    return (ours / file).read_bytes() == (theirs / file).read_bytes()


def different(stage: Stage, job: int) -> list[str]:
    """The job's outputs that are not the undisturbed job's."""
    outputs = [Path(file).relative_to("results").as_posix() for file in stage.jobs[job][1]]
    return [file for file in outputs if not same(file, stage.work / "results", stage.before[job + 1])]


def complaint(stage: Stage, job: int, at: int, kind: int, error: int, sticky: bool) -> str:
    """What is wrong with how a job meets a fault and with what the same job then makes; empty if nothing is."""
    name, outputs = stage.jobs[job]
    stage.reset(job)
    before = stage.files()
    met = stage.run(job, kind, at, error, sticky)
    words, label = met["said"].strip(), f"{name}, call {at} ({met['where']}), {errno.errorcode[error]}"
    if not met["where"]:
        return f"{label}: the call never came"
    if (
        met["status"] == 0
    ):  # a finished run that cannot be read is computed again; what opens a file may try another way
        lost = {str(f.relative_to(stage.before[job + 1])) for f in stage.before[job + 1].rglob("*") if f.is_file()}
        lost -= {file.removeprefix("results/") for file in stage.files()}
        other = different(stage, job)
        return f"{label}: nobody noticed, and {lost or other} is lost or another" if lost or other else ""
    named = re.search(r"/\.(.+)\.aside-|/([^/]+)$", met["where"])
    if named and (named[1] or named[2]) not in words and "One of the" not in words:
        return f"{label}: names another file: {words!r}"
    expected = WORDS[WRITES if "/." in met["where"] else kind]  # a half-written file is read to be sealed
    if expected not in words or len(words.splitlines()) > 1:
        return f"{label}: said {words!r}"
    left = {file for file in stage.files() - before if "/." in file or file.endswith(".damaged")}
    lost = {file for file in before - stage.files() if file not in outputs}
    if left or lost:
        return f"{label}: left {left}, lost {lost}"
    again = stage.run(job)
    if again["status"] != 0:
        return f"{label}: the same command then says {again['said']!r}"
    other = different(stage, job)
    return f"{label}: the same command then makes another {other}" if other else ""


@pytest.mark.parametrize("kind", [WRITES, READS], ids=["write", "read"])
def test_every_failing_call_ends_in_a_sentence_and_the_same_command_mends_it(stage: Stage, kind: int) -> None:
    chosen = list(faults(stage, kind))
    wrong = [said for job, at, error in chosen if (said := complaint(stage, job, at, kind, error, sticky=False))]
    assert len(chosen) > 15
    assert not wrong, f"{len(wrong)} of {len(chosen)} faults:\n" + "\n".join(wrong)


def test_a_disk_that_stays_full_ends_in_a_sentence_too(stage: Stage) -> None:
    """From the n-th call on all fail, the removal of half a file's rest included."""
    chosen = [(job, at) for job, at, error in faults(stage, WRITES) if error == errno.ENOSPC]
    wrong = [said for job, at in chosen if (said := complaint(stage, job, at, WRITES, errno.ENOSPC, sticky=True))]
    assert not wrong, f"{len(wrong)} of {len(chosen)} faults:\n" + "\n".join(wrong)


def test_a_fault_before_the_first_job_ends_in_a_sentence(tmp_path: Path) -> None:
    """In Snakemake's own process: what this project writes there. What Snakemake writes for its jobs, it speaks of in its own words."""
    if shim() is None:
        pytest.skip("no C compiler for the library that makes calls fail")
    project, shared = tiny(tmp_path / "project"), tmp_path / "control"
    faulty = environment(project, shared, project.root / "results")
    command = project.command(*project.arguments, f"results/{STUDY}/checks/gate.parquet")
    met = []
    for at in itertools.count(1) if ALL else (3, 8):
        shutil.rmtree(project.results, ignore_errors=True)
        control(shared)
        with subprocess.Popen(command, cwd=project.root, env=faulty, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:  # fmt: skip
            control(shared, WRITES, at, errno.EIO, process=running.pid)
            said = running.communicate()[0]
        _, where = counted(shared)
        if "/checks" in where or "check_engine" in where or not where:
            break
        met.append(where)
        assert running.returncode == 1, said
        assert said.count("cannot be written: the disk reports an error") == 1, said
        assert "Traceback" not in said, said
    assert len(met) >= 2
    control(shared)
    project.run(f"results/{STUDY}/checks/gate.parquet")
