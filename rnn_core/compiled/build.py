"""The compiled steps as a library: built once for this processor by the C compiler that is there, or done without.

The one place in rnn_core that knows files (decision of 2026-11-22, README section 7): a study must run from a plain checkout, and
without a compiler, so nothing is installed and nothing is shipped in binary form.
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCES = tuple(Path(__file__).resolve().parent / name for name in ("kernel.c", "steps.h"))
FLAGS = ("-O3", "-march=native", "-fPIC", "-shared")
# No loop becomes a call to memcpy: for the few kilobytes of one step the call costs more than the copy. (clang calls it otherwise.)
NO_MEMCPY = ("-fno-tree-loop-distribute-patterns", "-fno-builtin-memcpy")
COMPILERS = ("gcc", "cc", "clang")
FUNCTIONS = tuple(f"rnn_{which}_{real}" for which in ("forward", "backward") for real in ("double", "float"))
_SEAL = hashlib.sha256().digest_size  # bytes at the end of the file: the digest of those before
MODES = ("auto", "off", "require")


@dataclass(frozen=True)
class Library:
    """What was found.

    Attributes:
        handle: the loaded library, or None.
        why: in words, which compiler made it, or why there is none.
    """

    handle: ctypes.CDLL | None
    why: str


@cache
def library() -> Library:
    """The library, built if it must be; ``RNN_CORE_COMPILED`` says ``auto`` (the default), ``off`` or ``require``.

    Raises:
        ValueError: the variable says something else.
        RuntimeError: it says ``require`` and there is none; with the reason.
    """
    mode = os.environ.get("RNN_CORE_COMPILED", "auto")
    if mode not in MODES:
        raise ValueError(
            f"RNN_CORE_COMPILED: {mode!r} is not allowed; it must be {', '.join(MODES[:-1])} or {MODES[-1]}"
        )
    if mode == "off":
        return Library(None, "RNN_CORE_COMPILED=off")
    found = _load()
    if mode == "require" and found.handle is None:
        raise RuntimeError(f"RNN_CORE_COMPILED=require, but {found.why}")
    return found


def _load() -> Library:
    if not hasattr(os, "getuid"):
        return Library(None, "there is no fast path for this system")
    why = "no folder to keep the library in was found"
    for folder in _folders():
        file = folder / f"steps-{_digest()}.so"
        try:
            if not _is_whole(file):
                failed = _build(file)
                if failed:
                    return Library(None, failed)
            handle = ctypes.CDLL(str(file))
            for name in FUNCTIONS:
                getattr(handle, name)
            return Library(handle, f"compiled for {platform.machine()}, {file.stem}")
        except (OSError, AttributeError) as error:
            why = f"the library could not be stored or loaded ({getattr(error, 'strerror', None) or error})"
    return Library(None, why)


def _folders() -> list[Path]:
    """Where the library may lie: the user's cache, or where that is read-only or full, the folder for temporary files."""
    found = []
    try:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path("~").expanduser() / ".cache")
        found.append(Path(home) / "rnn_core")
    except (RuntimeError, KeyError):  # a user without a home, as in a container
        pass
    return [*found, Path(tempfile.gettempdir()) / f"rnn_core-{os.getuid()}"]


def _is_whole(file: Path) -> bool:
    """Whether the library is there, whole, and ours. After a power cut a file may be short, and loading it would kill the process.

    Raises:
        OSError: the folder or the file is one that somebody else can write.
    """
    for path in (file.parent, file):
        if not os.path.lexists(path):
            return False
        status = path.lstat()
        if path.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
            raise OSError(f"{path} is not this user's alone")
    content = file.read_bytes()
    return hashlib.sha256(content[:-_SEAL]).digest() == content[-_SEAL:]


def _build(file: Path) -> str:
    """Why it failed, or nothing. Written aside and renamed, so that of many jobs that start together none loads half a library.

    Raises:
        OSError: the folder cannot be written, or is one that somebody else can write.
    """
    asked = shlex.split(os.environ.get("CC", ""))
    compilers = [call for call in ([asked] if asked else [[name] for name in COMPILERS]) if shutil.which(call[0])]
    if not compilers:
        return f"no C compiler ({' '.join(asked) or ', '.join(COMPILERS)}) was found"
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _is_whole(file)  # only for whose folder it is
    said = ""
    with tempfile.TemporaryDirectory(dir=file.parent) as aside:
        made = Path(aside) / file.name
        for compiler, own in itertools.product(compilers, NO_MEMCPY):
            call = [*compiler, *FLAGS, own, "-o", str(made), str(SOURCES[0])]
            done = subprocess.run(call, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                content = made.read_bytes()
                made.write_bytes(content + hashlib.sha256(content).digest())  # what follows a library is not loaded
                made.chmod(0o700)
                made.replace(file)
                return ""
            said = f"{' '.join(compiler)} failed: {(done.stderr.strip().splitlines() or ['no word'])[0]}"
    return said


@cache
def _digest() -> str:
    """Of the sources, the flags and the processor's features: another node of a cluster may lack some."""
    total = hashlib.sha256(" ".join([platform.machine(), *FLAGS, *NO_MEMCPY]).encode())
    for source in SOURCES:
        total.update(source.read_bytes())
    total.update(_processor().encode())
    return total.hexdigest()[:16]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
