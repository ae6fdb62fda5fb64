"""The compiled steps as a library: built once for this processor by the C compiler that is there, or done without.

The one place in rnn_core that knows files (decision of 2026-11-22, README section 7): a study must run from a plain checkout, and
without a compiler, so nothing is installed and nothing is shipped in binary form.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCES = tuple(Path(__file__).resolve().parent / name for name in ("kernel.c", "steps.h"))
# No loop becomes a call to memcpy: for the few kilobytes of one step the call costs more than the copy.
FLAGS = ("-O3", "-march=native", "-fno-tree-loop-distribute-patterns", "-fPIC", "-shared")
COMPILERS = ("cc", "gcc", "clang")
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
    asked = os.environ.get("CC")
    compiler = next(filter(shutil.which, (asked,) if asked else COMPILERS), None)
    for folder in _folders():
        file = folder / f"steps-{_digest()}.so"
        try:
            if not file.exists():
                if compiler is None:
                    return Library(None, f"no C compiler ({asked or ', '.join(COMPILERS)}) was found")
                _build(compiler, file)
            return Library(ctypes.CDLL(str(file)), f"compiled for {platform.machine()}")
        except subprocess.CalledProcessError as error:
            said = error.stderr.strip().splitlines()
            return Library(None, f"{compiler} failed: {said[0] if said else error}")
        except OSError as error:
            why = f"the library could not be stored or loaded ({error.strerror or error})"
    return Library(None, why)


def _folders() -> list[Path]:
    """Where the library may lie: the user's cache, or where that is read-only or full, the folder for temporary files."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~").expanduser() / ".cache")
    return [Path(home) / "rnn_core", Path(tempfile.gettempdir()) / f"rnn_core-{os.getuid()}"]


def _build(compiler: str, file: Path) -> None:
    """Written aside and renamed, so that of many jobs that start together none loads half a library."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if file.parent.stat().st_uid != os.getuid():  # a shared folder for temporary files: another's library is not loaded
        raise OSError(f"{file.parent} belongs to another user")
    with tempfile.TemporaryDirectory(dir=file.parent) as aside:
        made = Path(aside) / file.name
        call = [compiler, *FLAGS, "-o", str(made), str(SOURCES[0])]
        subprocess.run(call, check=True, capture_output=True, text=True)
        made.replace(file)


@cache
def _digest() -> str:
    """Of the sources, the flags and the processor's features: another node of a cluster may lack some."""
    total = hashlib.sha256(" ".join([platform.machine(), *FLAGS]).encode())
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
