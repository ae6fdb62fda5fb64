"""``python -m MODULE …`` in forks of a process that has imported the large libraries, Snakemake's jobs too.

Snakemake takes longer to import than to find that nothing is to be done, and torch longer than to check a small study. The tests start
thousands of such processes. A fork is the process in all that a test can see: its folder, environment, arguments, output, exit status,
and that a signal ends it. Nothing of this project is imported before the fork, so that a copy of the project runs its own code.

What tests start by themselves are ordinary processes: sessions in a terminal, studies that are killed, jobs on a cluster or elsewhere.
``TESTS_WITHOUT_FORKS=1`` makes all others ordinary too, and so does a system other than Linux.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import select
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil  # type: ignore[import-untyped]

HERE = Path(__file__).resolve().parent


def run_module(
    module: str, *arguments: str, folder: Path, environment: dict[str, str], seconds: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """What ``subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, …)`` gives, as text; no line end is changed."""
    command = [sys.executable, "-m", module, *arguments]
    if os.environ.get("TESTS_WITHOUT_FORKS") == "1" or sys.platform != "linux":
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=seconds)
        return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())
    server = _server()
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        asked = {"module": module, "arguments": arguments, "folder": str(folder), "environment": environment}
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps(asked | {"out": str(out), "err": str(err)}) + "\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], seconds)[0]:
            for process in (*psutil.Process(server.pid).children(recursive=True), server):
                process.kill()
            _server.cache_clear()
            raise subprocess.TimeoutExpired(command, seconds)
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, status, out.read_bytes().decode(), err.read_bytes().decode())


@functools.cache
def _server() -> subprocess.Popen[str]:
    """One for each test worker. It ends, and its jobs' too, when its input does."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    folder = tempfile.mkdtemp(prefix="jobs", dir="/tmp")  # short: sockets have short names
    command = [sys.executable, str(HERE / "forks.py"), folder]
    server = subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server
