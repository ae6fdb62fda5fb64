"""One call of Snakemake, as a person sees it: Snakemake's log events become the study's lines, its stop signals become an orderly end.

The only module that knows how Snakemake speaks and stops; checked with 9.27. It stands in front of Snakemake's own stream handler
and takes its place when a study begins to run. Whatever else Snakemake is asked for (a dry run, ``--lint``, ``--dag``, a plan) passes
through unchanged, and so does everything if ``STUDY_SCREEN=off``, ``--verbose``, ``--quiet`` or ``--logger`` asks for Snakemake's view, or
if its internals are not as expected: then progress is told in plain lines between Snakemake's.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from study.cost import forecast, model
from study.cost.forecast import Estimate, Job
from study.counts import counted, duration
from study.plan import Block
from study.screen import job_log
from study.screen import stop as stopping
from study.screen.display import Screen
from study.screen.stop import STOPPED

SWITCH = "STUDY_SCREEN"  # =off: Snakemake's own view
EVERY = 1.0  # seconds between two looks at the records
SHOWN_FAILURES = 5  # names of failed jobs in the last line
PAGE_RULE = "render_report"
NOTHING = "Nothing to be done: everything is finished."
UNNEEDED = (  # errors that only repeat what was said
    "Exiting because a job execution failed",
    "WorkflowError:\nAt least one job did not complete successfully",
)
_FRAME = re.compile(r'^(?:WorkflowError in file ".*", line \d+:|  File ".*", line .*)$\n?', re.MULTILINE)
_STATUS = re.compile(r"non-zero exit status (\d+)|died with <Signals\.(\w+)")


class Listener(logging.Handler):
    """Hears what Snakemake says, and shows what matters of it.

    Args:
        workflow: Snakemake's.
        theirs: Snakemake's own handler, or None if it was not found: then nothing is taken over.

    Attributes:
        ours: whether Snakemake's own view is off.
    """

    def __init__(self, workflow: Any, theirs: Any, page: str) -> None:
        super().__init__()
        self.workflow, self.theirs, self.page = workflow, theirs, Path(page)
        self.screen: Screen | None = None
        self.estimate: Estimate | None = None
        self.ours, self.decided, self.runs_study = False, False, False
        self.well: bool | None = None  # how the call ended; None if it did not come so far
        self.nothing_to_do = self.stopping = False
        self._began, self._ended = time.time(), threading.Event()
        self._held: dict[int | None, logging.LogRecord] = {}  # thread -> an error that its next words may explain
        self._early: list[logging.LogRecord] = []
        self._said: set[tuple[str, str]] = set()

    # ---- Snakemake's words

    def emit(self, record: logging.LogRecord) -> None:
        """Called by Snakemake's logger, with this handler's lock held."""
        try:
            self._decide(record)
            if not self._early or self._early[-1] is not record:
                self._hear(record)
        except Exception:  # Snakemake speaks otherwise than expected: let it speak for itself
            with suppress(Exception):
                self._give_way()
            if self.theirs is not None:
                self.theirs.handle(record)

    def _decide(self, record: logging.LogRecord) -> None:
        """Whether this call runs a study, known as soon as Snakemake has chosen how jobs are executed."""
        if self.decided:
            return
        plugin = getattr(self.workflow, "_executor_plugin", None)
        if plugin is None:
            if record.getMessage().startswith("Assuming unrestricted shared filesystem"):
                self._early.append(record)
            return
        self.decided = True
        common, targets = plugin.common_settings, set(self.workflow.dag_settings.targets)
        self.runs_study = not (common.dryrun_exec or common.touch_exec or targets == {"plan"})
        if self.runs_study and self.theirs is not None and not own_view(self.workflow):
            self._take_over()
        self._tell_early()

    def _take_over(self) -> None:
        self.ours = True
        self.screen = Screen(self.theirs.stream, not self.theirs.nocolor)
        self.screen.own_terminal()
        if any(each.name == "INPUT_OUTPUT" for each in self.workflow.storage_settings.shared_fs_usage):
            os.environ[job_log.LOGS_ARE_READ] = "1"  # elsewhere, a job's log stays where it ran
        stopping.interrupt_on_signals()
        if self.screen.live:
            self.screen.show("finding out what is to be done", "", share=None)

    def _give_way(self) -> None:
        if self.ours and self.screen is not None:
            self.screen.close()
        self.ours, self.decided = False, True
        self.screen = self._plain_screen()
        os.environ.pop(job_log.LOGS_ARE_READ, None)
        self._tell_early()

    def _tell_early(self) -> None:
        early, self._early = self._early, []
        for record in early:
            if not self.ours and self.theirs is not None:
                self.theirs.handle(record)

    def _hear(self, record: logging.LogRecord) -> None:
        event, text = getattr(record, "event", None), record.getMessage()
        if text.startswith("Nothing to be done"):
            self.nothing_to_do = True
        if self.estimate is not None:
            if event == "job_info":
                self.estimate.begin(record.jobid)  # type: ignore[attr-defined]
            elif event == "job_finished":
                self._job_ended(record.job_id)  # type: ignore[attr-defined]
            elif event is None and (again := re.fullmatch(r"Trying to restart job (\d+)\.", text)):
                self._job_restarts(int(again[1]))
        held = self._held.pop(record.thread, None)
        if event == "job_error":
            self._job_failed(record, held)
        elif held is not None:
            self._error(held)
        if not self.ours:
            if self.theirs is not None:
                self.theirs.handle(record)
        elif event == "error":
            self._held[record.thread] = record
        elif event is None and record.levelno >= logging.WARNING and not text.startswith(UNNEEDED):
            whole = "\n".join(line for line in text.splitlines() if line.strip())
            self._say(whole, "red" if record.levelno >= logging.ERROR else "yellow")

    def _say(self, text: str, colour: str | None = None) -> None:
        if self.screen is not None:
            self.screen.say(text, colour)

    def _error(self, record: logging.LogRecord) -> None:
        """An error that is no job's."""
        text = record.getMessage()
        if not (self.stopping or text.startswith(UNNEEDED)):
            self._say(_FRAME.sub("", text).strip(), "red")

    # ---- jobs

    def _job_ended(self, number: int) -> None:
        assert self.estimate is not None
        self.estimate.end(number)
        job = self.estimate.jobs.get(number)
        if self.ours and job is not None:
            for log in job.logs:
                if words := job_log.first_words(log):
                    self._say(f"{job.name} says: {words} (log: {log})", "yellow")

    def _job_restarts(self, number: int) -> None:
        assert self.estimate is not None
        job = self.estimate.jobs.get(number)
        if job is not None:
            job.failed, job.submitted, job.began, job.ended = False, False, None, None
            if self.ours:
                self._say(f"Tried again: {job.name}", "yellow")

    def _job_failed(self, record: Any, held: logging.LogRecord | None) -> None:
        if self.estimate is not None:
            self.estimate.end(record.jobid, failed=True)
        if not self.ours or self.stopping:
            return
        job = self.estimate.jobs.get(record.jobid) if self.estimate else None
        name = job.name if job else record.rule_name
        own = [log for log in record.log if job is None or str(log) in job.logs]
        words, log = job_log.reason(own, [each for each in record.log if each not in own])
        words, log = words or silent_end(held, record.rule_msg), log or ", ".join(map(str, record.log))
        if (name, words) not in self._said:
            self._said.add((name, words))
            self._say(f"Failed: {name}\n  {words}\n  Log: {log}", "red")

    # ---- beginning and end

    def start(self, jobs: Mapping[int, Job], cores: int, progress_log: Path, queued: bool = False) -> None:
        """The study runs: follow its jobs, in a thread that ends with the process. Arguments as of ``Estimate``."""
        keeps_going = self.workflow.execution_settings.keep_going
        self.estimate = Estimate(jobs, cores, self._began, keeps_going, queued)
        if self.screen is None:
            self.screen = self._plain_screen()
        self.screen.keep_log(progress_log)
        if self.ours:
            self.screen.clear()
            runs = sum(job.runs for job in jobs.values())
            what = f"{counted(len(jobs), 'job')}, {counted(runs, 'run')}" if runs else counted(len(jobs), "job")
            hint = " Ctrl-C stops it, and the same command goes on." if self.screen.live else ""
            self._say(f"Study {self.page.parent.name}: {what}.{hint}")
        self._show()
        threading.Thread(target=self._follow, daemon=True).start()

    def _plain_screen(self) -> Screen:
        """For words between Snakemake's; nowhere at all if it was told to be silent."""
        quiet = {str(getattr(each, "name", each)).lower() for each in self.workflow.output_settings.quiet or ()}
        stream = self.theirs.stream if self.theirs is not None else sys.stderr
        screen = Screen(open(os.devnull, "w") if "all" in quiet else stream)  # noqa: PTH123, SIM115 - open to the end
        screen.live = False
        return screen

    def _follow(self) -> None:
        pause = EVERY
        while not self._ended.wait(pause):
            begun = time.perf_counter()
            with suppress(Exception):  # one line that cannot be made is no reason to lose the next
                self._show()
            pause = max(EVERY, 200 * (time.perf_counter() - begun))  # half a per cent of one core

    def _show(self) -> None:
        if self.estimate is None or self.screen is None:
            return
        progress = self.estimate.look()
        line = "stopping" if self.stopping else progress.line()
        if line and (self.ours or self.estimate.hears or progress.done):
            self.screen.show(line, f"{self.stopping} {progress.stage}", progress.share)

    def stop(self) -> None:
        """A signal asks the call to stop: what fails from now on fails for that reason."""
        self.stopping = True
        if self.screen is not None and self.screen.live:
            self.screen.silence_others()
            self._show()

    def close(self) -> None:
        """Called by Snakemake when it has said everything."""
        if not self._ended.is_set():
            self._ended.set()
            with suppress(Exception):
                self._tell_early()
                for held in self._held.values():
                    self._error(held)
                if self.runs_study:
                    if self.well:
                        self._show()
                    self._last_words()
            if self.screen is not None:
                self.screen.close()
        super().close()

    def _last_words(self) -> None:
        screen = self.screen = self.screen or self._plain_screen()
        screen.close()  # what others wrote stands before the last words
        failed = self.estimate.failed() if self.estimate else []
        if self.nothing_to_do:
            screen.say(f"{NOTHING} {self._report()}".strip(), "green")
        elif self.well:  # also if a signal came too late
            spent = duration(time.time() - self._began)
            screen.say(f"{self._report() or 'Done'}, {spent}", "green")
        elif self.stopping:
            screen.say(STOPPED, "yellow")
        elif self.well is False and failed:
            names = ", ".join(job.name for job in failed[:SHOWN_FAILURES])
            names += f" and {len(failed) - SHOWN_FAILURES} more" if len(failed) > SHOWN_FAILURES else ""
            jobs = counted(len(self.estimate.jobs if self.estimate else failed), "job")
            screen.say(f"{len(failed)} of {jobs} failed: {names}. What is finished is kept; once that is mended, the same command goes on.", "red")  # fmt: skip
        elif self.well is False:
            screen.say("The study did not end well. What is finished is kept; the same command goes on.", "red")

    def _report(self) -> str:
        """Where the page is, and its size; empty if this call was not asked for it."""
        with suppress(OSError):
            if any(job.rule.name == PAGE_RULE for job in self.workflow.dag.jobs):
                return f"Report: {self.page} ({self.page.stat().st_size / 1e6:.1f} MB)"
        return ""


def listen(workflow: Any, page: str) -> Listener:
    """Stand in front of Snakemake's own stream handler; to be called while the Snakefile is read, in the main process only."""
    logger = logging.getLogger("snakemake.logging")
    theirs = next((handler for handler in logger.handlers if handler.name == "DefaultStreamHandler"), None)
    if not (hasattr(theirs, "stream") and hasattr(theirs, "nocolor")):
        theirs = None
    listener = Listener(workflow, theirs, page)
    if theirs is not None:
        logger.removeHandler(theirs)
    logger.addHandler(listener)
    return listener


def own_view(workflow: Any) -> bool:
    """Whether somebody asked for Snakemake's own view. The profile's ``quiet`` asks for nothing: it was there before."""
    output, execution = workflow.output_settings, workflow.execution_settings
    asked = any(word.startswith(("--quiet", "-q")) for word in sys.argv[1:])
    asked |= output.verbose or output.debug_dag or bool(output.log_handler_settings)
    return asked or execution.no_hooks or execution.debug or os.environ.get(SWITCH, "").lower() == "off"


def silent_end(held: logging.LogRecord | None, message: str | None) -> str:
    """Why a job failed whose log holds no words: what its executor says, or its exit status."""
    status = _STATUS.search(held.getMessage()) if held is not None else None
    if status is not None:
        number = int(status[1] or 0)
        if status[2] or number > 128:
            return f"It was killed ({status[2] or f'signal {number - 128}'}): by hand, or by the system for want of memory."
        return f"It ended with exit status {number} and left no words in its log."
    if held is not None:
        message = _FRAME.sub("", held.getMessage())
    return job_log.cut(" ".join((message or "It left no words.").split()))


def jobs_of(
    workflow: Any,
    blocks: Mapping[tuple[str, str], Block],
    verifications: Mapping[tuple[str, str], list[Block]],
    config: Mapping[str, Any],
) -> dict[int, Job]:
    """The jobs that this call will run, by Snakemake's numbers."""
    rows = sum(model.block_work(block)["row"] for block in blocks.values())
    found = {}
    for job in workflow.dag.needrun_jobs():
        kind = forecast.kind_of(job.rule.name)
        if kind is None:
            continue
        wildcards = dict(job.wildcards.items())
        own: Iterable[Block] = []
        if kind == "runs":
            own = [blocks[wildcards["sweep"], wildcards["block"]]]
        elif kind == "verification":
            own = verifications[wildcards["sweep"], wildcards["group"]]
        seconds, starts = forecast.predicted(job.rule.name, list(own), config, rows)
        runs = sum(map(len, own)) if kind == "runs" else 0
        name = name_of(job.rule.name, wildcards)
        found[workflow.dag.jobid(job)] = Job(kind, name, seconds, starts, tuple(map(str, job.log)), runs)
    return found


def name_of(rule: str, wildcards: Mapping[str, str]) -> str:
    """What a person calls a job."""
    named = {
        "read_sequences": "sequences of {task}",
        "check_engine": "engine check",
        "run_block": "block {sweep}/{block}",
        "verify_runs": "verification of {sweep}, group {group}",
        "gather_table": "table {table}",
        "draw_figure": "figure {figure}",
        "render_report": "report page",
    }
    return named[rule].format(**wildcards)
