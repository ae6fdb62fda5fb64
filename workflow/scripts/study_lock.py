"""Who holds Snakemake's lock on a study, so that a lock whose holder was killed can be told from one that is in use.

Snakemake's lock says nothing of its holder. So a call that has the lock leaves a record beside it; when a lock is met later, its
record tells whether that process still lives. Only one Snakemake at a time holds the lock of a study, therefore a record that is
younger than the lock is the holder's.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from study_files import is_running, place, written_aside

SNAKEMAKE = Path(".snakemake")


def record(study: str) -> None:
    """Leave word of who holds the lock. ``study`` is its name; to be called with the lock held."""
    with written_aside(_record(study)) as aside:
        aside.write_text(json.dumps({"place": place(), "pid": os.getpid(), "started": _started(os.getpid())}))


def forget(study: str) -> None:
    """Take the record back, at the end of a call."""
    with suppress(OSError):
        _record(study).unlink()


def is_stale(study: str) -> bool:
    """Whether there are locks, all of them this study's, and their holder is known to be dead.

    False wherever that is not certain: no record, another machine's record, a lock younger than the record, another study's lock.
    """
    locks = list((SNAKEMAKE / "locks").glob("*.lock"))
    try:
        holder, recorded = json.loads(_record(study).read_text()), _record(study).stat().st_mtime_ns
        outputs = [line for lock in locks if ".output." in lock.name for line in lock.read_text().splitlines()]
        younger = any(lock.stat().st_mtime_ns > recorded for lock in locks)
    except (OSError, ValueError):
        return False
    foreign = [line for line in outputs if f"results/{study}/" not in line]
    if not locks or foreign or younger or holder["place"] != place():
        return False
    return not is_running(holder["pid"]) or _started(holder["pid"]) != holder["started"]


def _record(study: str) -> Path:
    return SNAKEMAKE / "holders" / f"{study}.json"


def _started(pid: int) -> str:
    """When a process started, in the kernel's count: numbers of processes are used again. Empty where the kernel does not say."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
