"""What is told of jobs, and at the end of a call: sentences alone."""

from __future__ import annotations

import logging
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from study.cost.forecast import Job
from study.counts import counted, duration
from study.screen import job_log
from study.screen.stop import SIGNALS, STOPPED

NOTHING = "Nothing to be done: everything is finished."
NOT_WELL = "The study did not end well. What is finished is kept; the same command goes on."
SHOWN_FAILURES = 5  # names of failed jobs in the last line
_FRAME = re.compile(r'^(?:WorkflowError in file ".*", line \d+:|  File ".*", line .*)$\n?', re.MULTILINE)
_STATUS = re.compile(r"non-zero exit status (\d+)|died with <Signals\.(\w+)")


def without_frames(text: str) -> str:
    """Snakemake's error without the files and lines of its workflow."""
    return _FRAME.sub("", text).strip()


def warnings_of(job: Job) -> Iterator[str]:
    """A sentence for each log of a job that ended well and has something in it."""
    for log in job.logs:
        if words := job_log.first_words(log):
            yield f"{job.name} says: {words} (log: {log})"


def failure_of(record: Any, job: Job | None, error: logging.LogRecord | None) -> tuple[str, str, str]:
    """(the failed job's name, why it failed, the log that says so).

    Args:
        record: Snakemake's event ``job_error``.
        job: as the study knows it; None if it does not.
        error: the error that Snakemake told of just before.
    """
    job_logs = [log for log in record.log if job is None or str(log) in job.logs]
    executor_logs = [log for log in record.log if log not in job_logs]
    words, log = job_log.reason(job_logs, executor_logs)
    name = job.name if job else record.rule_name
    return name, words or silent_end(error, record.rule_msg), log or ", ".join(map(str, record.log))


def died_of_a_stop(error: logging.LogRecord | None) -> bool:
    """Whether a job ended by a signal that stops a call too, if the call received it as well."""
    status = _STATUS.search(error.getMessage()) if error is not None else None
    return status is not None and _killed_by(status) in [number.name for number in SIGNALS]


def _killed_by(status: re.Match[str]) -> str:
    """The signal that ended a job, empty if none did. A shell that waits for a killed process ends with 128 and the signal's number."""
    number = int(status[1] or 0) - 128
    known = number in set(signal.Signals)
    return status[2] or (signal.Signals(number).name if known else f"signal {number}" if number > 0 else "")


def silent_end(error: logging.LogRecord | None, message: str | None) -> str:
    """Why a job failed whose log holds no words: its exit status, or what its executor says."""
    status = _STATUS.search(error.getMessage()) if error is not None else None
    if status is not None:
        if killed_by := _killed_by(status):
            return f"It was killed ({killed_by}): by hand, or by the system for want of memory."
        return f"It ended with exit status {status[1]} and left no words in its log."
    if error is not None:
        message = _FRAME.sub("", error.getMessage())
    return job_log.cut(" ".join((message or "It left no words.").split()))


@dataclass
class Ending:
    """How a call ended.

    Attributes:
        well: whether all jobs ended well; None if the call did not come so far.
        stopped: whether a signal asked it to stop.
        nothing_to_do: whether Snakemake found nothing to do.
        seconds: how long it took.
        report: where the page is; empty if the call was not asked for it.
        jobs, failed: how many jobs there were, and those that failed.
    """

    well: bool | None
    stopped: bool
    nothing_to_do: bool
    seconds: float
    report: str = ""
    jobs: int = 0
    failed: list[Job] = field(default_factory=list)

    def last_words(self) -> tuple[str, str]:
        """(the last sentence of the call, its colour); empty if there is nothing to say."""
        if self.nothing_to_do:
            return f"{NOTHING} {self.report}".strip(), "green"
        if self.well:  # also if a signal came too late
            return f"{self.report or 'Done'}, {duration(self.seconds)}", "green"
        if self.stopped:
            return STOPPED, "yellow"
        if self.well is False:
            return self._failures() if self.failed else NOT_WELL, "red"
        return "", ""

    def _failures(self) -> str:
        names = ", ".join(job.name for job in self.failed[:SHOWN_FAILURES])
        hidden = len(self.failed) - SHOWN_FAILURES
        names += f" and {hidden} more" if hidden > 0 else ""
        jobs = counted(max(self.jobs, len(self.failed)), "job")
        return (
            f"{len(self.failed)} of {jobs} failed: {names}. "
            "What is finished is kept; once that is mended, the same command goes on."
        )
