"""The compiled steps as a library: built once for this processor by the C compiler that is there, or done without.

The one place in rnn_core that knows files (docs/decisions.md, decision 68): a study must run from a plain checkout, and without a
compiler. So nothing is installed and nothing is shipped in binary form.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

HEADERS = tuple(
    f"{name}.h"
    for name in (
        "diagonal",
        "frames",
        "gru",
        "layer_norm",
        "lstm",
        "memory",
        "mingru",
        "phi",
        "products",
        "scales",
        "shares",
        "signal",
        "steps",
        "sums",
        "vanilla",
    )
)
SOURCES = tuple(Path(__file__).resolve().parent / name for name in ("kernel.c", *HEADERS))
# RNN_CORE_CFLAGS adds to these, -mno-avx512f say: what other processors would compute, and how fast.
FLAGS = ("-O3", "-march=native", "-fPIC", "-shared")
# No loop becomes a call to memcpy: for the few kilobytes of one step the call costs more than the copy. (clang calls it otherwise.)
NO_MEMCPY = ("-fno-tree-loop-distribute-patterns", "-fno-builtin-memcpy")
COMPILERS = ("gcc", "cc", "clang")
FUNCTIONS = (
    *(f"rnn_{which}_{real}" for which in ("forward", "backward") for real in ("double", "float")),
    "rnn_frame_double",
)
_SEAL = hashlib.sha256().digest_size  # bytes at the end of the file: the digest of those before
MODES = ("auto", "off", "require")
COMPILE_WITHIN, ANSWER_WITHIN = 120.0, 20.0  # seconds: it takes two, and a hundredth of one
FORGOTTEN_AFTER, DAY = 3600.0, 24 * 3600.0  # seconds until a compiler that hung is tried again
HANGS = "hangs"
Call = tuple[str, ...]  # a compiler's name and its options


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
    loaded = _load()
    if mode == "require" and loaded.handle is None:
        raise RuntimeError(f"RNN_CORE_COMPILED=require, but {loaded.why}")
    return loaded


def _load() -> Library:
    if not hasattr(os, "getuid"):
        return Library(None, "there is no fast path for this system")
    calls = _compilers()
    why = "no folder to keep the library in was found"
    for folder in _folders():
        try:
            loaded = _built(folder, calls) if calls else _left(folder)
        except OSError as error:
            why = f"the library could not be stored or loaded ({error.strerror or error})"
            continue
        if loaded.handle is None and calls:  # somebody counts on it
            warnings.warn(f"rnn_core computes without its compiled steps: {loaded.why}", RuntimeWarning, stacklevel=4)
        return loaded
    return Library(None, why)


def _compilers() -> list[Call]:
    """How the compilers that are there are called: the one that CC asks for, or all that are known."""
    asked = shlex.split(os.environ.get("CC", ""))
    return [tuple(call) for call in ([asked] if asked else [[name] for name in COMPILERS]) if shutil.which(call[0])]


def _left(folder: Path) -> Library:
    """Where there is no compiler, as on some nodes of a cluster: what a compiler has left in a folder that nodes share."""
    for file in () if os.environ.get("CC") else sorted(folder.glob(f"steps-{_digest()}-*.so")):
        if _is_whole(file):
            return _opened(file)
    return Library(None, f"no C compiler ({os.environ.get('CC') or ', '.join(COMPILERS)}) was found")


def _built(folder: Path, calls: list[Call]) -> Library:
    """The library of the first compiler that can make it.

    Raises:
        OSError: the folder cannot be written, or is one that somebody else can write, or nothing may be loaded from it.
    """
    said = ""
    for call in calls:
        try:
            file = folder / f"steps-{_digest()}-{_identity(call, folder)}.so"
            said = "" if _is_whole(file) and not _trial(file) else _build(file, call) or _trial(file)
            if not said:
                return _opened(file)
            file.unlink(missing_ok=True)
        except subprocess.TimeoutExpired as late:
            said = f"{' '.join(call)} did not end within {late.timeout:g} s"
            _note(call, folder).write_text(HANGS, encoding="utf-8")
    return Library(None, said)


def _trial(file: Path) -> str:
    """Why a library cannot be loaded; empty if it can.

    Raises:
        OSError: nothing may be loaded from its folder.
    """
    try:
        _opened(file)
    except (OSError, AttributeError) as error:
        if "failed to map segment" in str(error):  # a file system without programs: another compiler would not help
            raise
        return f"the compiler's library cannot be loaded ({error})"
    return ""


def _opened(file: Path) -> Library:
    handle = ctypes.CDLL(str(file))
    for name in FUNCTIONS:
        getattr(handle, name)
    return Library(handle, f"compiled for {platform.machine()}, {file.stem}")


def _folders() -> list[Path]:
    """Where the library may lie: the user's cache, or where that is read-only or full, the folder for temporary files."""
    folders = []
    try:
        home = os.environ.get("XDG_CACHE_HOME") or str(Path("~").expanduser() / ".cache")
        folders.append(Path(home) / "rnn_core")
    except (RuntimeError, KeyError):  # a user without a home, as in a container
        pass
    return [*folders, Path(tempfile.gettempdir()) / f"rnn_core-{os.getuid()}"]


def _is_whole(file: Path) -> bool:
    """Whether the library is there, whole, and ours. After a power cut a file may be short, and loading it would kill the process.

    Raises:
        OSError: the folder or the file is one that somebody else can write.
    """
    for path in (file.parent, file):
        if not os.path.lexists(path):
            return False
        if not _is_ours(path):
            raise OSError(f"{path} is not this user's alone")
    content = file.read_bytes()
    return hashlib.sha256(content[:-_SEAL]).digest() == content[-_SEAL:]


def _is_ours(path: Path) -> bool:
    """Whether nobody else can write there."""
    status = path.lstat()
    return not path.is_symlink() and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _build(file: Path, call: Call) -> str:
    """Why it failed, or nothing. Written aside and renamed, so that of many jobs that start together none loads half a library.

    Raises:
        OSError: the folder cannot be written, or is one that somebody else can write.
        subprocess.TimeoutExpired: the compiler does not end.
    """
    said = ""
    _remove_leftovers(file.parent)
    with tempfile.TemporaryDirectory(prefix=f"build-{_place()}-{os.getpid()}-", dir=file.parent) as aside:
        made = Path(aside) / file.name
        for own in NO_MEMCPY:
            done = _run([*call, *_flags(), own, "-o", str(made), str(SOURCES[0])], COMPILE_WITHIN)
            if done.returncode == 0 and made.exists():
                content = made.read_bytes()
                made.write_bytes(content + hashlib.sha256(content).digest())  # what follows a library is not loaded
                made.chmod(0o700)
                made.replace(file)
                return ""
            said = f"{' '.join(call)} failed: {(done.stderr.strip().splitlines() or ['no word'])[0]}"
    return said


def _run(call: list[str], within: float) -> subprocess.CompletedProcess[str]:
    """A compiler to its end, or to the end of it and of all that it has started.

    Raises:
        subprocess.TimeoutExpired: it has not ended within so many seconds.
    """
    with (
        tempfile.TemporaryFile("w+") as out,
        tempfile.TemporaryFile("w+") as err,
    ):  # pipes stay open in what it has started
        with subprocess.Popen(
            call, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        ) as running:
            try:
                running.wait(timeout=within)
            except BaseException:
                os.killpg(running.pid, signal.SIGKILL)
                raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(call, running.returncode, out.read(), err.read())


def _identity(call: Call, folder: Path) -> str:
    """8 hexadecimal digits of what a compiler is: how it is called, where it lies, and what it says of itself.

    Asking takes longer than loading the library, so the answer is kept beside it, for this very file of the compiler's.

    Raises:
        OSError: the folder cannot be written, or is one that somebody else can write.
        subprocess.TimeoutExpired: it does not answer, or did not within the last hour.
    """
    note = _note(call, folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_ours(folder):
        raise OSError(f"{folder} is not this user's alone")
    said = note.read_text(encoding="utf-8") if note.exists() and _is_ours(note) else ""
    if said == HANGS and time.time() - note.stat().st_mtime < FORGOTTEN_AFTER:
        raise subprocess.TimeoutExpired(call, COMPILE_WITHIN)
    if said in ("", HANGS):
        said = _run([*call, "--version"], ANSWER_WITHIN).stdout or "no word"
        aside = note.with_name(f"{note.name}.{os.getpid()}")
        aside.write_text(said, encoding="utf-8")
        aside.replace(note)
    return hashlib.sha256("\0".join([*_file_of(call), *call[1:], said]).encode()).hexdigest()[:8]


def _note(call: Call, folder: Path) -> Path:
    """Where the compiler's answer is kept."""
    path, real = _file_of(call)
    status = Path(real).stat()
    key = "\0".join([*call, path, real, str(status.st_size), str(status.st_mtime_ns)])
    return folder / f"compiler-{hashlib.sha256(key.encode()).hexdigest()[:16]}.txt"


def _file_of(call: Call) -> tuple[str, str]:
    """(the compiler's path as it is found, the file behind it)."""
    path = shutil.which(call[0]) or call[0]
    return path, os.path.realpath(path)


def _remove_leftovers(folder: Path) -> None:
    """Remove what builds that were killed have left: of this machine's dead processes, and whatever is a day old."""
    for left in folder.glob("build-*"):
        with suppress(OSError, ValueError):  # ValueError: a folder of somebody else's with such a name
            _, place, pid, _ = left.name.split("-", 3)
            dead = place == _place() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists()
            if dead or time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left, ignore_errors=True)


def _flags() -> list[str]:
    """What every compiler is called with."""
    return [*FLAGS, *shlex.split(os.environ.get("RNN_CORE_CFLAGS", ""))]


@cache
def _place() -> str:
    """8 hexadecimal digits for the machine and container whose process numbers these are."""
    name = platform.node()
    with suppress(OSError):
        name += str(Path("/proc/self/ns/pid").readlink())
    with suppress(OSError):
        name += Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    return hashlib.sha256(name.encode()).hexdigest()[:8]


@cache
def _digest() -> str:
    """Of the sources, the flags and the processor's features: another node of a cluster may lack some."""
    total = hashlib.sha256(" ".join([platform.machine(), *_flags(), *NO_MEMCPY]).encode())
    for source in SOURCES:
        total.update(source.read_bytes())
    total.update(_processor().encode())
    return total.hexdigest()[:8]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")
