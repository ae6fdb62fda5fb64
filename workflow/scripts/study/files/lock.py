"""Who holds Snakemake's lock on a study. It tells a lock whose holder was killed from one that is in use.

Snakemake's lock does not name its holder. So a call that has the lock leaves a record beside it. A later call reads there whether that
process still lives.

Snakemake refuses a second call only where their files overlap. So several calls may hold locks in one folder, of several studies or of
one. The first of them that ends would remove the locks of all; ``keep_other_locks`` prevents that. A record belongs to its writer as
long as the writer lives. Locks younger than the record may be another call's: nothing is known of them.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from study.files.writing import is_running, place, written_aside

SNAKEMAKE = Path(".snakemake")


def record(study: str) -> None:
    """Record that this process holds the lock of ``study``. To be called with the lock held.

    The record of another living process stays. Its locks are older, and would seem to be this process's if this one were killed.
    """
    with suppress(OSError, ValueError, LookupError, TypeError):  # no record, or half a one
        holder = json.loads(_record(study).read_text())
        if holder["place"] == place() and _lives(holder):
            return
    with written_aside(_record(study)) as aside:
        aside.write_text(json.dumps(_myself()))


def forget(study: str) -> None:
    """Remove this process's record, at the end of a call."""
    with suppress(OSError, ValueError):
        if json.loads(_record(study).read_text()) == _myself():
            _record(study).unlink()


def keep_other_locks() -> None:
    """Let Snakemake remove only its own locks at the end of this process, not those of all calls. ``--unlock`` removes all."""
    try:
        from snakemake.persistence.file import FilePersistence  # type: ignore[import-untyped]

        FilePersistence.cleanup_locks = FilePersistence._delete_locks
        FilePersistence.unlock = _take_back
    except (ImportError, AttributeError):  # another version of Snakemake: it does as it always did
        return


def _take_back(persistence: Any) -> None:
    """The folder stays: another call may be about to write into it."""
    for lock in persistence._lockfile.values():
        Path(lock).unlink(missing_ok=True)
    persistence._lockfile.clear()


def is_stale(study: str) -> bool:
    """Whether this study is locked and the holder of its lock is dead.

    False where that is not certain: there is no record, the record is another machine's, or a lock is younger than it.
    """
    try:
        locks = _locks(study)
        holder, recorded = json.loads(_record(study).read_text()), _record(study).stat().st_mtime_ns
        younger = any(lock.stat().st_mtime_ns > recorded for lock in locks)
    except (OSError, ValueError):
        return False
    return bool(locks) and not younger and holder["place"] == place() and not _lives(holder)


def release(study: str) -> None:
    """Remove the locks of this study alone. Only for one that ``is_stale``."""
    for lock in _locks(study):
        lock.unlink(missing_ok=True)


def _locks(study: str) -> list[Path]:
    """Snakemake's locks on files of this study. A lock holds one file's name a line."""
    locks = sorted((SNAKEMAKE / "locks").glob("*.lock"))
    return [lock for lock in locks if any(f"results/{study}/" in line for line in lock.read_text().splitlines())]


def _myself() -> dict[str, Any]:
    return {"place": place(), "pid": os.getpid(), "started": _started(os.getpid())}


def _lives(holder: dict[str, Any]) -> bool:
    """Whether the process of a record exists on this machine: that process, not a later one with the same number."""
    return is_running(holder["pid"]) and _started(holder["pid"]) == holder["started"]


def _record(study: str) -> Path:
    return SNAKEMAKE / "holders" / f"{study}.json"


def _started(pid: int) -> str:
    """When a process started, in the kernel's count, for its number may be used again. Empty where the kernel does not say."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return ""
