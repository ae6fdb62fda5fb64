"""``python -m MODULE …`` in forks of one process that has imported the large libraries: ``python python_server.py``.

Snakemake takes longer to import than to find that nothing is to be done, and the tests call it hundreds of times. A fork is such a call
in all that a test can see: its folder, environment, arguments, output, exit status and jobs, which are processes of their own. Nothing
of this project is imported before the fork, so that a copy of the project runs its own code. One line of JSON in, one out.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import os
import runpy
import select
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = (
    "snakemake.cli",
    "snakemake.report.html_reporter",
    "snakemake_storage_plugin_fs",
    "numpy",
    "pandas",
    "pyarrow.parquet",
    "array_api_compat",
    "jsonschema",
    "yte",
)


def run_module(
    module: str, *arguments: str, folder: Path, environment: dict[str, str], seconds: float = 600.0
) -> subprocess.CompletedProcess[str]:
    """What ``subprocess.run([sys.executable, "-m", module, *arguments], capture_output=True, …)`` gives, as text; no line end is changed."""
    server = _server()
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"
        asked = {"module": module, "arguments": arguments, "folder": str(folder), "environment": environment}
        assert server.stdin and server.stdout
        server.stdin.write(json.dumps(asked | {"out": str(out), "err": str(err)}) + "\n")
        server.stdin.flush()
        if not select.select([server.stdout], [], [], seconds)[0]:
            server.kill()
            _server.cache_clear()
            raise subprocess.TimeoutExpired([module, *arguments], seconds)
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(
            [module, *arguments], status, out.read_bytes().decode(), err.read_bytes().decode()
        )


@functools.cache
def _server() -> subprocess.Popen[str]:
    """One for each test worker. It ends when its input does."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(Path(__file__).resolve())]
    server = subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(server.communicate)
    return server


# ---- in the server


def become(asked: dict) -> None:
    """Make this fork the process that was asked for, up to its first statement."""
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(asked[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    more = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:1] = [asked["folder"], *more]  # the first was this file's folder
    sys.argv = [asked["module"], *asked["arguments"]]


def main() -> None:
    for library in LIBRARIES:
        importlib.import_module(library)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            asked = json.loads(line)
            become(asked)
            runpy.run_module(asked["module"], run_name="__main__", alter_sys=True)
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
