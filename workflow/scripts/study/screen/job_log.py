"""What a job prints goes to its log file, where the screen of the study looks it up.

Snakemake gives every job a log file and lets the job write it. A job does so if ``LOGS_ARE_READ`` stands in the environment. Then its
caller shows the reason of a failure from the log. Otherwise a job prints to the terminal, as Snakemake expects.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

LOGS_ARE_READ = "STUDY_JOB_LOGS_ARE_READ"
FOR_THE_TERMINAL = ("plan",)  # rules whose answer is not for a log
LONGEST_REASON = 400  # characters
_ERROR = re.compile(r"[\w.]*(?:Error|Exception|Interrupt|Exit|Failed|Warning)\b")  # begins a traceback's last words
_CLUSTERS_ERROR = re.compile(r"\berror:|\b(?:Exceeded|exceeded|oom|Killed|CANCELLED|TIMEOUT|FAILED)\b")
_MEMORY = re.compile(r"memory|oom", re.IGNORECASE)

_terminal: int | None = None  # where standard error led before it led to the log


def write_to_log() -> None:
    """Send all that this job and its libraries print to the job's log. Nothing happens if this is no job or nobody reads logs."""
    global _terminal
    job = getattr(sys.modules["__main__"], "snakemake", None)
    if job is None or not job.log or job.rule in FOR_THE_TERMINAL or not os.environ.get(LOGS_ARE_READ):
        return
    with suppress(OSError):  # a log that cannot be opened: the words stay on the terminal
        log = os.open(job.log[0], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
        _terminal = _terminal or os.dup(2)
        for standard in (1, 2):
            os.dup2(log, standard)
        os.close(log)


def last_words(text: str) -> SystemExit:
    """The exception that ends this job with these words. They reach the terminal if a full disk takes no log."""
    if _terminal is None:
        return SystemExit(text)
    line = f"{text}\n".encode()
    for place in (2, _terminal):
        with suppress(OSError):
            if os.write(place, line) == len(line):
                break
    return SystemExit(1)


def reason(job_logs: Iterable[str | Path], executor_logs: Iterable[str | Path] = ()) -> tuple[str, str]:
    """(why a job failed, the log that says so), both empty if no log does. Further lines of a reason are indented.

    Args:
        job_logs: logs that the job writes. Their last words count.
        executor_logs: a cluster's, which hold Snakemake's words too. The first line of an error counts, one of memory first.
    """
    for log in job_logs:
        if lines := _lines(log):
            return _last_words(lines), str(log)
    for log in executor_logs:
        if errors := [line for line in _lines(log) if _CLUSTERS_ERROR.search(line)]:
            of_memory = [line for line in errors if _MEMORY.search(line)]
            return cut((of_memory or errors)[0].strip()), str(log)
    return "", ""


def _last_words(lines: list[str]) -> str:
    """The message of the exception if there is a traceback; else the last line, with those indented below it."""
    frames = [number for number, line in enumerate(lines) if line.lstrip().startswith('File "')]
    begins = [number for number, line in enumerate(lines) if frames and number > frames[-1] and _ERROR.match(line)]
    if begins:
        return cut(" ".join(line.strip() for line in lines[begins[0] :]))
    first = max((number for number, line in enumerate(lines) if not line.startswith(" ")), default=len(lines) - 1)
    return "\n  ".join(cut(line.strip()) for line in lines[first:])


def _lines(log: str | Path) -> list[str]:
    try:
        text = Path(log).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def cut(words: str) -> str:
    """Words, cut to what a person reads."""
    return words if len(words) <= LONGEST_REASON else f"{words[: LONGEST_REASON - 1]}…"


def first_words(log: str | Path) -> str:
    """The first line that a job that ended well printed: a warning. Empty if it printed nothing, as it should."""
    return cut(next(iter(_lines(log)), "").strip())


write_to_log()  # on import, which every job does at its start: whatever fails from now on leaves its words there
