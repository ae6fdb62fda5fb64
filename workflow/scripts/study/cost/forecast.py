"""How far one call of Snakemake is, and how long it will still take.

The cost model predicts the seconds of every job. Jobs that have ended, or run, tell how much slower this machine is than the
model's, kind by kind. What is left is then spread over the cores, stage by stage. A core that verifies works for the verification,
not for the runs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from study.cost.kinds import KINDS, STAGES
from study.counts import counted, duration
from study.screen import progress
from study.screen.progress import Record

# How fast libraries are imported decides how long these take.
IMPORTING = ("sequences", "tables", "figures", "page")
CONFIDENCE = 0.5  # jobs that the model's own speed counts for, beside those that were measured
OVERDUE = 0.1  # a job that takes longer than expected is expected to take this share of its time longer


@dataclass
class Job:
    """One job of this call, and how far it is.

    Attributes:
        kind: one of ``KINDS``.
        name: what a person calls it: ``block propagation/activation=tanh``.
        seconds: what the model predicts for it, on one core.
        starts: of these, the seconds that pass before the first run (blocks only).
        logs: its log files.
        runs: how many it computes (blocks only); ``record`` is where it tells how many are finished.
        submitted: whether Snakemake has given it to its executor.
        began, ended: seconds since 1970; None before it happened, or if its time in a queue is unknown.
    """

    kind: str
    name: str
    seconds: float
    starts: float = 0.0
    logs: tuple[str, ...] = ()
    runs: int = 0
    submitted: bool = False
    began: float | None = None
    ended: float | None = None
    failed: bool = False
    record: Record | None = field(default=None, repr=False)

    @property
    def computed(self) -> int:
        """Runs that this call computed."""
        return self.record.finished - self.record.reused if self.record else 0

    @property
    def finished(self) -> int:
        """Runs that are finished, by this call or before. A block that ended where its record cannot be seen counts whole."""
        if self.record is not None:
            return self.record.finished
        return self.runs if self.ended is not None and not self.failed else 0

    @property
    def open_seconds(self) -> float:
        """Predicted seconds, less those of the runs that earlier calls have finished."""
        if self.record is None or not self.record.runs:
            return self.seconds
        return self.starts + (self.seconds - self.starts) * (1.0 - self.record.reused / self.record.runs)

    def passed(self, now: float) -> float:
        """Seconds since it began; 0 if nobody knows when that was."""
        return 0.0 if self.began is None else (self.ended or now) - self.began

    def expected_so_far(self) -> float:
        """Predicted seconds of what it has done."""
        if self.ended is not None:
            return self.open_seconds
        if self.record is None or not self.computed:
            return 0.0
        share = self.computed / max(self.record.runs - self.record.reused, 1)
        return self.starts + share * (self.open_seconds - self.starts)


@dataclass(frozen=True)
class Progress:
    """A moment of a call.

    Attributes:
        finished, runs: runs that are finished, of all.
        rate: runs a second while all cores compute runs; None as long as none was computed.
        left: seconds until everything is finished, page included; None if nobody knows.
        share: of all work that is done, 0 to 1.
        phase: what is going on.
        stage: the number of the first stage that is not finished; it never falls.
    """

    finished: int
    runs: int
    rate: float | None
    left: float | None
    share: float
    phase: str
    stage: int

    def line(self) -> str:
        """24 of 72 runs (33 %), 69.3 runs/s, about 25 s left: runs, verification."""
        phrases = (
            [f"{self.finished:,} of {self.runs:,} runs ({100 * self.finished // self.runs} %)"] if self.runs else []
        )
        if self.rate is not None and self.finished < self.runs:
            phrases.append(f"{self.rate:.3g} runs/s")
        if self.left is not None and self.phase:
            phrases.append(f"about {duration(self.left)} left")
        sentence = ", ".join(phrases)
        return f"{sentence}: {self.phase}" if sentence and self.phase else sentence or self.phase


class Estimate:
    """All jobs of a call by Snakemake's numbers, kept up to date by whoever hears of their beginnings and ends.

    Args:
        cores: jobs that may run beside each other.
        started: when the call began, in seconds since 1970; older records are an earlier call's.
        keeps_going: whether jobs that need nothing of a failed one still run (``--keep-going``).
        queued: whether jobs wait in a cluster's queue: then only the blocks' records tell when a job began.
    """

    def __init__(
        self,
        jobs: Mapping[int, Job],
        cores: int,
        started: float,
        keeps_going: bool = False,
        queued: bool = False,
    ) -> None:
        self.jobs, self.cores, self.started = dict(jobs), max(1, cores), started
        self.keeps_going, self.queued = keeps_going, queued
        self.hears = False  # whether anybody tells of beginnings
        self.most_blocks = 1  # that were seen to run beside each other

    def begin(self, number: int) -> None:
        self.hears = True
        if number in self.jobs:
            job = self.jobs[number]
            job.submitted, job.began = True, None if self.queued else time.time()
            job.ended, job.failed, job.record = None, False, None

    def end(self, number: int, failed: bool = False) -> None:
        if number in self.jobs:
            job = self.jobs[number]
            job.ended, job.failed = time.time(), failed
            self._read(job)

    def restart(self, number: int) -> Job | None:
        """The job is to be tried again; None if it is not known."""
        job = self.jobs.get(number)
        if job is not None:
            job.failed, job.submitted, job.began, job.ended = False, False, None, None
        return job

    def running(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.submitted and job.ended is None]

    def failed(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.failed]

    def _read(self, job: Job) -> None:
        """The record that a block has written since this call began."""
        if job.kind == "runs" and job.logs:
            record = progress.read(progress.record_file(job.logs[0]))
            if record is not None and record.started >= self.started:
                job.record = record
                job.began = job.began or record.started

    def look(self) -> Progress:
        """Where the call stands now. Reads the records of the blocks that run."""
        for job in self.jobs.values():
            if job.ended is None and (job.submitted or not self.hears):
                self._read(job)
        return self.at(time.time())

    def at(self, now: float) -> Progress:
        """The same from what is known already."""
        jobs = list(self.jobs.values())
        blocks = [job for job in jobs if job.kind == "runs"]
        self.most_blocks = max(
            self.most_blocks, sum(job.kind == "runs" and job.began is not None for job in self.running())
        )
        slower = self._slower(now)
        left = {id(job): remaining(job, slower[job.kind], now) for job in jobs}
        work = sum(job.open_seconds * slower[job.kind] for job in jobs)
        return Progress(
            finished=sum(job.finished for job in blocks),
            runs=sum(job.runs for job in blocks),
            rate=self._rate(blocks, now),
            left=None if self.failed() or not jobs else self._wall(left),
            share=1.0 - sum(left.values()) / work if work else 0.0,
            phase=self._phase(),
            stage=next(
                (n for n, kinds in enumerate(STAGES) if any(j.kind in kinds and j.ended is None for j in jobs)),
                len(STAGES),
            ),
        )

    def _rate(self, blocks: list[Job], now: float) -> float | None:
        """Runs a second of one core that computes runs, times the blocks that run beside each other."""
        seconds = sum(job.passed(now) for job in blocks if job.computed)
        return sum(job.computed for job in blocks) / seconds * self.most_blocks if seconds > 0 else None

    def _slower(self, now: float) -> dict[str, float]:
        """Measured over predicted seconds by kind. What was not measured yet is as slow as what is like it."""
        by_kind = {kind: [job for job in self.jobs.values() if job.kind == kind] for kind in KINDS}
        usual = _ratio([job for kind in IMPORTING for job in by_kind[kind]], 1.0, now)
        checking = _ratio(by_kind["engine check"], usual, now)
        like = {kind: checking if kind == "verification" else usual for kind in KINDS}  # both compare with PyTorch
        return {kind: _ratio(jobs, like[kind], now) for kind, jobs in by_kind.items()}

    def _wall(self, left: Mapping[int, float]) -> float:
        """Seconds until the end: a stage takes no less than its longest job, nor than all its work on all cores."""
        total = 0.0
        for stage in STAGES:
            seconds = [left[id(job)] for job in self.jobs.values() if job.kind in stage]
            total += max(sum(seconds) / self.cores, max(seconds, default=0.0))
        return total

    def _phase(self) -> str:
        """What runs, in the study's order; between two jobs, what comes next."""
        running = self.running()
        if self.failed() and not self.keeps_going:
            return f"waiting for {counted(len(running), 'job')} after a failure" if running else "stopping"
        kinds = {job.kind for job in running}
        if not kinds:
            waiting = [kind for kind in KINDS if any(j.kind == kind and j.ended is None for j in self.jobs.values())]
            kinds = set(waiting[:1])
        return ", ".join(self._named(kind) for kind in KINDS if kind in kinds)

    def _named(self, kind: str) -> str:
        jobs = [job for job in self.jobs.values() if job.kind == kind]
        if kind in ("runs", "engine check", "page") or len(jobs) < 2:
            return kind
        return f"{kind} ({sum(job.ended is not None for job in jobs)} of {len(jobs)})"


def remaining(job: Job, slower: float, now: float) -> float:
    """Seconds that a job still takes on its core."""
    if job.ended is not None:
        return 0.0
    if job.began is None and not job.computed:
        return job.open_seconds * slower
    if job.computed:
        return (job.open_seconds - job.expected_so_far()) * slower
    passed = job.passed(now)
    return max(job.open_seconds * slower - passed, OVERDUE * passed)


def _ratio(jobs: Iterable[Job], usual: float, now: float) -> float:
    """Measured over predicted seconds of jobs that have ended, are under way or are overdue; few of them are not believed alone."""
    jobs = list(jobs)
    measured = predicted = 0.0
    for job in jobs:
        expected = job.expected_so_far()
        if job.ended is None and not expected and job.passed(now) > job.open_seconds * usual:
            expected = job.open_seconds  # it should have ended by now
        if expected and job.began is not None and not job.failed:
            measured, predicted = measured + job.passed(now), predicted + expected
    believed = CONFIDENCE * math.fsum(job.seconds for job in jobs) / len(jobs) if jobs else 1.0
    return (measured + usual * believed) / (predicted + believed) if predicted + believed else usual
