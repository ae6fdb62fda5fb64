"""``python -m MODULE …`` in forks of a process that has imported the large libraries, Snakemake's jobs too.

Snakemake takes longer to import than to find that nothing is to be done, and torch longer than to check a small study. The tests start
thousands of such processes. A fork is the process in all that a test can see: its folder, environment, arguments, output, exit status,
and that a signal ends it. Nothing of this project is imported before the fork, so that a copy of the project runs its own code.

``start_module`` starts a fork that goes on beside the test. What tests start by themselves are ordinary processes: sessions in a terminal,
studies that are killed, jobs on a cluster or elsewhere.
``TESTS_WITHOUT_FORKS=1`` makes all others ordinary too, and so does a system other than Linux.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

import psutil  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent


class Running(Protocol):
    """What tests ask of a process that goes on beside them; ``subprocess.Popen`` is one."""

    pid: int
    returncode: Any

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


def run_module(
    module: str, *arguments: str, folder: Path, environment: dict[str, str], seconds: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """What ``subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, …)`` gives, as text; no line end is changed."""
    command = [sys.executable, "-m", module, *arguments]
    if _without_forks():
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=seconds)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        asked = {"module": module, "arguments": arguments, "folder": str(folder), "environment": environment}
        status = _ask(asked | {"out": str(out), "err": str(err), "goes_on": False}, seconds)
        if status is None:
            raise subprocess.TimeoutExpired(command, seconds)
        return subprocess.CompletedProcess(command, status, out.read_bytes().decode(), err.read_bytes().decode())


def start_module(module: str, *arguments: str, folder: Path, environment: dict[str, str], said: Path) -> Running:
    """The same in a session of its own, which goes on beside the test; its words go to the end of a file."""
    if _without_forks():
        command = [sys.executable, "-m", module, *arguments]
        with said.open("a") as log:
            return subprocess.Popen(
                command, cwd=folder, env=environment, start_new_session=True, stdout=log, stderr=log, text=True
            )
    asked = {"module": module, "arguments": arguments, "folder": str(folder), "environment": environment}
    process = _ask(asked | {"out": str(said), "err": str(said), "goes_on": True}, 60.0)
    assert process is not None, "no process was started"
    return _Fork(process)


class _Fork:
    """A process that the server has started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = os.pidfd_open(pid)

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(timeout=0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not select.select([self._ended], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            os.close(self._ended)
            self.returncode = _ask({"status_of": self.pid}, 60.0)
        assert self.returncode is not None
        return self.returncode


def _without_forks() -> bool:
    return os.environ.get("TESTS_WITHOUT_FORKS") == "1" or sys.platform != "linux"


def _ask(asked: dict[str, Any], seconds: float) -> int | None:
    """The server's answer; if it takes too long, None, and the server is ended."""
    server = _server()
    assert server.stdin and server.stdout
    server.stdin.write(json.dumps(asked) + "\n")
    server.stdin.flush()
    if not select.select([server.stdout], [], [], seconds)[0]:
        for process in (*psutil.Process(server.pid).children(recursive=True), server):
            process.kill()
        _server.cache_clear()
        return None
    return int(server.stdout.readline())


@functools.cache
def _server() -> subprocess.Popen[str]:
    """One for each test worker. It ends, and its jobs' too, when its input does."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    folder = tempfile.mkdtemp(prefix="jobs", dir="/tmp")  # short: sockets have short names
    command = [sys.executable, str(HERE / "forks.py"), folder]
    server = subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server
