"""The study's view of a call: its lines in the place of Snakemake's words."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from study.cost.forecast import Estimate, Job
from study.counts import counted
from study.screen import job_log, telling
from study.screen import stop as stopping
from study.screen.display import Screen
from study.screen.following import Follower

PAGE_RULE = "render_report"
REPEATED = (  # errors that only repeat what was told already
    "Exiting because a job execution failed",
    "WorkflowError:\nAt least one job did not complete successfully",
)


class StudyView:
    """Shows what matters of Snakemake's words, and how far the study is.

    Args:
        workflow: Snakemake's.
        snakemakes: Snakemake's own handler; None if it was not found.
        page: the study's report.

    Attributes:
        in_place: whether the study's lines stand in the place of Snakemake's words. If not, they stand between these.
        stopping: set when a signal asks the call to stop: what fails from then on fails for that reason.
        well: how the call ended; None if it did not come so far.
    """

    def __init__(self, workflow: Any, snakemakes: Any, page: str) -> None:
        self.workflow, self.snakemakes, self.page = workflow, snakemakes, Path(page)
        self.screen: Screen | None = None
        self.estimate: Estimate | None = None
        self.follower: Follower | None = None
        self.in_place = self.nothing_to_do = False
        self.stopping = threading.Event()
        self.well: bool | None = None
        self._began = time.time()
        self._unexplained: dict[int | None, logging.LogRecord] = {}  # thread -> an error; the next words may explain it
        self._told_failures: set[tuple[str, str]] = set()

    def take_over(self) -> None:
        """From now on the study's lines stand in the place of Snakemake's words."""
        self.in_place = True
        self.screen = Screen(self.snakemakes.stream, not self.snakemakes.nocolor)
        self.screen.own_terminal()
        if any(each.name == "INPUT_OUTPUT" for each in self.workflow.storage_settings.shared_fs_usage):
            os.environ[job_log.LOGS_ARE_READ] = "1"  # elsewhere, a job's log stays where it ran
        stopping.interrupt_on_signals()
        if self.screen.live:
            self.screen.show("finding out what is to be done", "", share=None)

    def give_way(self) -> None:
        """From now on Snakemake speaks for itself, and plain lines stand between its own."""
        if self.in_place and self.screen is not None:
            self.screen.close()
        self.in_place = False
        self.screen = self._plain_screen()
        if self.follower is not None:
            self.follower.screen, self.follower.always = self.screen, False
        os.environ.pop(job_log.LOGS_ARE_READ, None)

    def _plain_screen(self) -> Screen:
        """For words between Snakemake's; nowhere at all if it was told to be silent."""
        quiet = {str(getattr(each, "name", each)).lower() for each in self.workflow.output_settings.quiet or ()}
        stream = self.snakemakes.stream if self.snakemakes is not None else sys.stderr
        screen = Screen(open(os.devnull, "w") if "all" in quiet else stream)  # noqa: PTH123, SIM115 - open to the end
        screen.live = False
        return screen

    def _say(self, text: str, colour: str | None = None) -> None:
        if self.screen is not None:
            self.screen.say(text, colour)

    # ---- Snakemake's words

    def hear(self, record: logging.LogRecord) -> None:
        """Take note of what Snakemake says, and show what matters of it."""
        event, text = getattr(record, "event", None), record.getMessage()
        if text.startswith("Nothing to be done"):
            self.nothing_to_do = True
        if self.estimate is not None:
            self._hear_of_job(record, event, text)
        error = self._unexplained.pop(record.thread, None)
        if event == "job_error":
            self._job_failed(record, error)
        elif error is not None:
            self._tell_error(error)
        if not self.in_place:
            if self.snakemakes is not None:
                self.snakemakes.handle(record)
        elif event == "error":
            self._unexplained[record.thread] = record
        elif event is None and record.levelno >= logging.WARNING and not text.startswith(REPEATED):
            without_blanks = "\n".join(line for line in text.splitlines() if line.strip())
            self._say(without_blanks, "red" if record.levelno >= logging.ERROR else "yellow")

    def _hear_of_job(self, record: Any, event: str | None, text: str) -> None:
        """A job begins, ends well, or is tried again."""
        assert self.estimate is not None
        if event == "job_info":
            self.estimate.begin(record.jobid)
        elif event == "job_finished":
            self.estimate.end(record.job_id)
            job = self.estimate.jobs.get(record.job_id)
            for sentence in telling.warnings_of(job) if self.in_place and job is not None else ():
                self._say(sentence, "yellow")
        elif event is None and (again := re.fullmatch(r"Trying to restart job (\d+)\.", text)):
            job = self.estimate.restart(int(again[1]))
            if self.in_place and job is not None and not self.stopping.is_set():
                self._say(f"Tried again: {job.name}", "yellow")

    def _job_failed(self, record: Any, error: logging.LogRecord | None) -> None:
        if self.estimate is not None:
            self.estimate.end(record.jobid, failed=True)
        if telling.died_of_a_stop(error):  # was the signal for the whole call? It may not have heard of it yet
            self.stopping.wait(stopping.HEARD_LATER)
        if not self.in_place or self.stopping.is_set():
            return
        job = self.estimate.jobs.get(record.jobid) if self.estimate else None
        name, reason, log = telling.failure_of(record, job, error)
        if (name, reason) not in self._told_failures:
            self._told_failures.add((name, reason))
            self._say(f"Failed: {name}\n  {reason}\n  Log: {log}", "red")

    def _tell_error(self, record: logging.LogRecord) -> None:
        """An error that is no job's."""
        text = record.getMessage()
        if not (self.stopping.is_set() or text.startswith(REPEATED)):
            self._say(telling.without_frames(text), "red")

    # ---- beginning and end

    def start(self, jobs: Mapping[int, Job], cores: int, progress_log: Path, queued: bool = False) -> None:
        """The study runs: follow its jobs. Arguments as of ``Estimate``."""
        keeps_going = self.workflow.execution_settings.keep_going
        self.estimate = Estimate(jobs, cores, self._began, keeps_going, queued)
        if self.screen is None:
            self.screen = self._plain_screen()
        self.screen.keep_log(progress_log)
        if self.in_place:
            self.screen.clear()
            runs = sum(job.runs for job in jobs.values())
            size = f"{counted(len(jobs), 'job')}, {counted(runs, 'run')}" if runs else counted(len(jobs), "job")
            hint = " Ctrl-C stops it, and the same command goes on." if self.screen.live else ""
            self._say(f"Study {self.page.parent.name}: {size}.{hint}")
        self.follower = Follower(self.estimate, self.screen, always=self.in_place)
        self.follower.start()

    def stop(self) -> None:
        """The screen says that the call is stopping."""
        if self.screen is not None and self.screen.live:
            self.screen.silence_others()
        if self.follower is not None:
            self.follower.stop()

    def end(self, last_words: bool) -> None:
        """Show no further line; ``last_words``: tell how the call ended."""
        if self.follower is not None:
            self.follower.end()
        with suppress(Exception):
            for error in self._unexplained.values():
                self._tell_error(error)
            if last_words:
                self._tell_end()
        if self.screen is not None:
            self.screen.close()

    def _tell_end(self) -> None:
        if self.well and self.follower is not None:
            self.follower.show()
        screen = self.screen = self.screen or self._plain_screen()
        screen.close()  # what others wrote stands before the last words
        ending = telling.Ending(
            self.well, self.stopping.is_set(), self.nothing_to_do, time.time() - self._began, report=self._report()
        )
        if self.estimate is not None:
            ending.jobs, ending.failed = len(self.estimate.jobs), self.estimate.failed()
        text, colour = ending.last_words()
        if text:
            screen.say(text, colour)

    def _report(self) -> str:
        """Where the page is, and its size; empty if this call was not asked for it."""
        with suppress(OSError):
            if any(job.rule.name == PAGE_RULE for job in self.workflow.dag.jobs):
                return f"Report: {self.page} ({self.page.stat().st_size / 1e6:.1f} MB)"
        return ""
