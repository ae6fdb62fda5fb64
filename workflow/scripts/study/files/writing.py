"""Writing files whole or not at all, and telling in words what went wrong with a file.

No reader sees half a file, and no killed job leaves one.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from study.screen import job_log

ABANDONED_AFTER = 24 * 3600.0  # seconds; for writers on other machines, of which nothing else is known
_ASIDE = re.compile(r"\..*\.aside-(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}(\.[^.]*)?")
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # of Linux
_KEPT = "What is finished is kept."
_ADVICE = {
    errno.ENOSPC: f"the disk is full. Free some space there, then run the same command again. {_KEPT}",
    errno.EDQUOT: f"your disk quota is used up. Free some space there, then run the same command again. {_KEPT}",
    errno.EFBIG: "the file is larger than this shell or file system allows. Raise the limit (ulimit -f), then run the same command again.",
    errno.EROFS: "it is on a file system that can only be read. Make it writable, or work in a copy of the project elsewhere.",
    errno.EACCES: "you may not write there. Change the folder's owner or permissions, or work in a copy of the project elsewhere.",
    errno.EPERM: "you may not write there. Change the folder's owner or permissions, or work in a copy of the project elsewhere.",
    errno.EIO: f"the disk reports an error. Have it looked at, then run the same command again. {_KEPT}",
}
_READING = {
    errno.EIO: _ADVICE[errno.EIO],
    errno.EACCES: "you may not read it. Change its owner or permissions, or those of a folder above it, then run the same command again.",
    errno.EPERM: "you may not read it. Change its owner or permissions, or those of a folder above it, then run the same command again.",
    errno.EMFILE: "too many files are open. Raise the limit (ulimit -n) or use fewer --cores, then run the same command again.",
    errno.ENFILE: "too many files are open on this machine. Close other programs, then run the same command again.",
    errno.ESTALE: "the file server has lost it. Run the same command again.",
    errno.ENOENT: "it has gone. Run the same command again and it is made anew.",
}
_NO_MEMORY = (
    "There is not enough memory: {}. Run the same command with fewer --cores. Or give memory_mb in the config,"
    f" or a smaller hidden_size, batch_size or sequence_length. {_KEPT}"
)


class FileTrouble(RuntimeError):
    """What is wrong with a file, and what to do about it."""


class Damaged(FileTrouble):
    """A file that does not hold what was written to it. ``others`` were noticed at the same time."""

    verdict = "is damaged"

    def __init__(self, file: str | Path, why: str) -> None:
        self.file, self.why = Path(file), why
        self.others: list[Damaged] = []
        super().__init__(f"{self.fault} Delete it and run the same command again: it is made anew. {_KEPT}")

    @property
    def fault(self) -> str:
        """A sentence: the file, and what is wrong with it."""
        return f"{self.file} {self.verdict}: {self.why}."

    def put_aside(self) -> str:
        """Rename the files, so that Snakemake makes them anew, and say so. Somebody may have edited them: none is deleted."""
        return "\n  ".join([self._renamed(), *(damaged.put_aside() for damaged in self.others)])

    def _renamed(self) -> str:
        aside = self.file.with_name(f"{self.file.name}.damaged")
        try:
            self.file.replace(aside)
        except OSError:
            return str(self)
        return f"{self.fault} It was renamed to {aside.name}; run the same command again and it is made anew. {_KEPT}"


class Misplaced(Damaged):
    """A whole file, but another one than belongs in its place."""

    verdict = "is another file than belongs there"


@contextmanager
def ending_in_words(*expected: type[Exception], before: str = "") -> Iterator[None]:
    """End a job with what is wrong and what to do, without a traceback.

    Args:
        expected: errors whose own words are enough.
        before: what precedes their words; the error's name if empty.
    """
    try:
        yield
    except Damaged as damaged:
        raise job_log.last_words(damaged.put_aside()) from damaged
    except FileTrouble as trouble:
        raise job_log.last_words(str(trouble)) from trouble
    except expected as error:
        raise job_log.last_words(f"{before or f'{type(error).__name__}: '}{error}") from error
    except MemoryError as error:
        raise job_log.last_words(_NO_MEMORY.format(str(error).rstrip(".") or "the system refuses more")) from error
    except OSError as error:  # outside any `reading` or `written_aside`
        raise job_log.last_words(cannot_read(error.filename, error) if error.filename else _refused(error)) from error


@contextmanager
def reading(file: str | Path) -> Iterator[None]:
    """For a block that reads ``file``: an error of the disk is told as such. It says nothing against the file.

    Raises:
        FileTrouble: in the place of an ``OSError``; the message names ``file`` and what to do.
    """
    try:
        yield
    except OSError as error:
        raise FileTrouble(cannot_read(file, error)) from error


def cannot_read(file: str | Path, error: OSError) -> str:
    """What an error in reading ``file`` means."""
    return f"{file} cannot be read: {_advice(error)}"


def _refused(error: OSError) -> str:
    """What an error means that names no file."""
    return f"The operating system refuses something: {_advice(error)}"


def _advice(error: OSError) -> str:
    """What is wrong with reading, and what to do."""
    unknown = f"{error.strerror or error}. When that is mended, run the same command again. {_KEPT}"
    return _READING.get(error.errno or 0, unknown)


@contextmanager
def written_aside(target: str | Path) -> Iterator[Path]:
    """A path beside ``target`` to write to. It becomes ``target`` if the block ends well; otherwise it is removed.

    Its name tells who writes. So ``remove_leftovers`` knows the files of writers that were killed.

    Raises:
        FileTrouble: the file system refuses; the message names ``target`` and what to do.
    """
    target = Path(target)
    aside = target.with_name(f".{target.stem}.aside-{place()}-{os.getpid()}-{secrets.token_hex(4)}{target.suffix}")
    try:
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(target)
    except BaseException as error:
        full = isinstance(error, OSError) and is_full(target.parent)  # before the removal makes room
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise FileTrouble(cannot_write(target, error, full)) from error
        raise


@contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """For a block that writes ``target``, among other files: its errors are told as this file's.

    Raises:
        FileTrouble: in the place of an ``OSError``; the message names ``target`` and what to do.
    """
    try:
        yield
    except OSError as error:
        raise FileTrouble(cannot_write(target, error, is_full(Path(target).parent))) from error


def cannot_write(target: str | Path, error: BaseException | None, full: bool = False) -> str:
    """What an error in writing ``target`` means. ``full`` says that the disk is full, for libraries lose the error's number."""
    number = getattr(error, "errno", None)
    number = errno.ENOSPC if full and number not in _ADVICE else number
    advice = _ADVICE.get(number or 0, f"{error}. When that is mended, run the same command again. {_KEPT}")
    return f"{target} cannot be written: {advice}"


def is_full(folder: Path) -> bool:
    """Whether the folder's file system has no room left for a file of ours."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < 2**16 or (disk.f_files > 0 and disk.f_favail == 0)


def refusal(folder: str | Path) -> str:
    """Why nothing can be written in ``folder``, or above it if it does not exist; empty if it can. Nothing is tried."""
    nearest = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if os.path.isdir(path))  # noqa: PTH112 - Path.is_dir fails behind a closed door
    if os.access(nearest, os.W_OK | os.X_OK):
        return ""
    read_only = os.statvfs(nearest).f_flag & os.ST_RDONLY
    return cannot_write(f"The folder {folder}", OSError(errno.EROFS if read_only else errno.EACCES, ""))


def require_writable(folder: str | Path) -> None:
    """Write a file in ``folder`` and remove it. Only the attempt shows that a disk is full or out of reach.

    Raises:
        FileTrouble: nothing can be written there.
    """
    try:
        with written_aside(Path(folder) / "writable") as aside:
            aside.write_bytes(4096 * b"0")
        (Path(folder) / "writable").unlink()
    except FileTrouble as trouble:
        raise FileTrouble(cannot_write(f"The folder {folder}", trouble.__cause__)) from trouble


@cache
def place() -> str:
    """8 hexadecimal digits for the machine, its boot and the container: within these a process number is unique.

    Machines may share a name, and the first container of every Linux has the same number. Only the boot's number tells them apart.
    """
    name = socket.gethostname()
    with suppress(OSError):
        name += str(Path("/proc/self/ns/pid").readlink())
    with suppress(OSError):
        name += _BOOT.read_text(encoding="ascii")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def is_running(pid: int) -> bool:
    """Whether a process of this machine and container exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def remove_leftovers(*folders: str | Path) -> int:
    """Remove files that killed writers left below ``folders``; how many. Those of living writers stay."""
    removed = 0
    for folder in folders:
        for parent, _, names in os.walk(folder):
            for name in names:
                if name.startswith(".") and _is_leftover(Path(parent) / name):
                    with suppress(OSError):  # another Snakemake was faster, or it is not ours to remove
                        (Path(parent) / name).unlink()
                        removed += 1
    return removed


def _is_leftover(file: Path) -> bool:
    match = _ASIDE.fullmatch(file.name)
    if match is None:
        return False
    if match["place"] == place():
        return not is_running(int(match["pid"]))
    try:
        return time.time() - file.stat().st_mtime > ABANDONED_AFTER
    except OSError:
        return False
