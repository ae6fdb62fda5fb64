"""Records of jobs: each job keeps a small file beside its log, which tells how far it is and what it took.

A record is rewritten once a second at most, whole or not at all. So it works on a cluster's shared file system, from any number of
jobs at once. ``study.cost.forecast`` counts from them how far the study is. The report tells from them where the time went.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from study.files.writing import written_aside

EVERY = 1.0  # seconds between two records of a job
WORK_OF_RULE = {
    "run_block": "starting jobs, cache and block tables",
    "verify_runs": "verification",
    "sample_theory": "theory",
    "check_engine": "engine check",
    "gather_table": "tables",
    "measure_cliff": "tables",
    "draw_figures": "figures",
}  # folder of the logs -> what its jobs do, besides the engine's work


@dataclass
class Record:
    """How far a job is.

    Attributes:
        rule: its rule.
        file: where the record is kept.
        runs, finished, reused: runs of the block, those finished, and of these those that were finished before.
        engine: seconds in the engine, by the clock (asking for processor time costs as much as writing a run).
        cpu: processor seconds of the process since its start, and of those that it started and that have ended.
        before: of these, the seconds that had passed when the record began.
        memory_mb: the most resident memory of the process (MiB); 0 where the system does not tell.
        started, updated: seconds since 1970.
    """

    rule: str
    file: Path
    runs: int = 0
    finished: int = 0
    reused: int = 0
    engine: float = 0.0
    cpu: float = 0.0
    memory_mb: float = 0.0
    before: float = field(default_factory=time.process_time)
    started: float = field(default_factory=time.time)
    updated: float = 0.0

    def ran(self, seconds: float) -> None:
        """One more run is done, after so many seconds in the engine."""
        self.finished += 1
        self.engine += seconds
        if time.time() - self.updated > EVERY:
            self.write()

    @property
    def engine_cpu(self) -> float:
        """Processor seconds in the engine: by the clock, times the share of the time in which the job had its core."""
        wall = self.updated - self.started
        return self.engine * min(1.0, (self.cpu - self.before) / wall) if wall > 0 else 0.0

    def write(self) -> None:
        self.updated, self.cpu, self.memory_mb = time.time(), time.process_time() + of_children(), most_memory()
        with written_aside(self.file) as aside:
            aside.write_text(json.dumps({**asdict(self), "file": self.file.name}), encoding="utf-8")


def record_file(log: str | Path) -> Path:
    """Where the record of the job with this log is."""
    return Path(log).with_suffix(".json")


@contextmanager
def recorded(snakemake: Any) -> Iterator[Record]:
    """The record of this job, written at the end if the job ends well."""
    record = Record(snakemake.rule, record_file(snakemake.log[0]))
    yield record
    record.write()


def of_children() -> float:
    """Processor seconds of the processes that this one has started and awaited."""
    times = os.times()
    return times.children_user + times.children_system


def most_memory() -> float:
    """Most resident memory of this process so far, MiB. Not ``getrusage``, which begins with the parent's."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def read(file: Path) -> Record | None:
    """A record, or None where there is none that can be read."""
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        return Record(**{**stored, "file": file})
    except (OSError, ValueError, TypeError):
        return None


# ---- calls of Snakemake


@dataclass(frozen=True)
class Session:
    """One call of Snakemake: when it started, and on how many cores."""

    started: float
    cores: int


def start_session(folder: str | Path, cores: int) -> Session:
    """Remember the call, for the report."""
    session = Session(time.time(), cores)
    with written_aside(Path(folder) / "session.json") as aside:
        aside.write_text(json.dumps(asdict(session)), encoding="utf-8")
    return session


# ---- when it is done


def spent(folder: str | Path) -> list[tuple[str, float, float | None]]:
    """(work, seconds, share of cores × wall time) of this call of Snakemake; the share is None if nobody knows.

    Jobs of earlier calls are left out.
    """
    try:
        session = Session(**json.loads((Path(folder) / "session.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return []
    stored = map(read, sorted(Path(folder).rglob("*.json")))
    records = [record for record in stored if record is not None and record.started >= session.started]
    seconds_of = {"engine": sum(r.engine_cpu for r in records)}
    for rule, name in WORK_OF_RULE.items():
        seconds_of[name] = sum(r.cpu - r.engine_cpu for r in records if r.rule == rule)
    whole = session.cores * (time.time() - session.started)
    idle = whole - sum(seconds_of.values())
    if idle < 0:  # jobs ran elsewhere too, on a cluster's nodes
        return [(name, seconds, None) for name, seconds in seconds_of.items()]
    seconds_of["Snakemake, and cores without a job"] = idle
    return [(name, seconds, seconds / whole) for name, seconds in seconds_of.items()]
