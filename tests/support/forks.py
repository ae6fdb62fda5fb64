"""Python processes that are forks of one which has imported large libraries: ``python forks.py FOLDER`` (see python_server.py).

Calls come as lines of JSON. For Snakemake's jobs there is a second process, with what jobs import; its forks are asked for through a
socket in FOLDER, by ``FOLDER/python``. Snakemake takes that for its Python. So a job is a process that Snakemake started, and if that is
killed, so is the fork.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

LIBRARIES = (
    "smart_open",
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
OF_JOBS = (
    "snakemake.script",
    "torch",
    "torch.fx.experimental.symbolic_shapes",  # torch imports it, and sympy, at the first gradient of several numbers
    "scipy.stats",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "seaborn",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "jinja2",
)
PYTHON = """#!/bin/sh
case "$1" in
*/.snakemake/scripts/*.py) exec {python} -SEI {forks} {folder} "$@" ;;
*) exec {python} "$@" ;;
esac
"""


def become(
    folder: str, environment: dict[str, str], first: str, arguments: Sequence[str], files: Sequence[int]
) -> None:
    """Make this fork another Python process, up to its first statement.

    Args:
        folder: its working folder.
        environment: its variables.
        first: where it looks for modules first.
        arguments: its ``sys.argv``.
        files: its standard input, output and error.
    """
    for standard, file in enumerate(files):
        os.dup2(file, standard)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    more = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:0] = [first, *more]
    sys.argv = list(arguments)


def end_with(program: Callable[[], object]) -> NoReturn:
    """Run the program and end this fork as Python ends, but without freeing what was imported: that takes longer than most jobs."""
    status: object = 0
    try:
        program()
    except SystemExit as ended:
        status = ended.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type] - there is one
        status = 1
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    threading._shutdown()  # type: ignore[attr-defined] - waits for threads, as at any end
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 0xFF)


def load(libraries: Sequence[str]) -> None:
    """Import them, and keep the garbage collector from touching, and so copying, what they hold."""
    for library in libraries:
        importlib.import_module(library)
    gc.freeze()


# ---- calls


def serve_calls(folder: Path) -> None:
    """Run what is asked for on standard input, one after the other. What is to go on meanwhile has a session of its own."""
    load(LIBRARIES)
    for line in sys.stdin:
        asked = json.loads(line)
        if "status_of" in asked:
            print(os.waitstatus_to_exitcode(os.waitpid(asked["status_of"], 0)[1]), flush=True)
            continue
        child = os.fork()
        if child == 0:
            if asked["goes_on"]:
                os.setsid()
            opened = os.O_WRONLY | os.O_CREAT | os.O_APPEND | (0 if asked["goes_on"] else os.O_TRUNC)
            output = (os.open(asked[name], opened, 0o600) for name in ("out", "err"))
            files = (os.open(os.devnull, os.O_RDONLY), *output)
            become(
                asked["folder"], asked["environment"], asked["folder"], [asked["module"], *asked["arguments"]], files
            )
            if asked["module"] == "snakemake":
                sys.executable = str(folder / "python")
            end_with(functools.partial(runpy.run_module, asked["module"], run_name="__main__", alter_sys=True))
        print(child if asked["goes_on"] else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


# ---- jobs


def serve_jobs(place: socket.socket, owner: int) -> None:
    """Run the jobs that are asked for, at the same time, until the owner has ended."""
    load(OF_JOBS)
    while True:
        ready = select.select([place, owner], [], [])[0]
        if owner in ready:
            return
        connection = place.accept()[0]
        if os.fork() == 0:
            place.close()
            run_job(connection)
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def run_job(connection: socket.socket) -> NoReturn:
    """Run one job in a fork and tell its exit status. If who asks is killed, so is the job."""
    asked, files = receive(connection)
    child = os.fork()
    if child == 0:
        connection.close()
        script = asked["arguments"][0]
        become(asked["folder"], asked["environment"], str(Path(script).parent), asked["arguments"], files)
        end_with(functools.partial(runpy.run_path, script, run_name="__main__"))
    ended = os.pidfd_open(child)
    if ended not in select.select([connection, ended], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with suppress(OSError):
        connection.sendall(str(status).encode())
    os._exit(0)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """(what is asked for, standard input, output and error)."""
    message, files, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    while not message.endswith(b"\n"):
        message += connection.recv(1 << 16)
    return json.loads(message), files


def ask_for_job(folder: Path, arguments: Sequence[str]) -> int:
    """What ``FOLDER/python`` does: the exit status of a job."""
    asked = {"arguments": arguments, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(folder / "socket"))
        message = json.dumps(asked).encode() + b"\n"
        sent = socket.send_fds(connection, [message], [0, 1, 2])
        connection.sendall(message[sent:])
        status = int(connection.recv(16) or 1)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
        os.kill(os.getpid(), -status)
    return status


def main() -> None:
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        sys.exit(ask_for_job(folder, sys.argv[2:]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for pytest; this ends when pytest does
    del sys.path[0]  # this file's folder, in which nobody should look for modules
    python = folder / "python"
    python.write_text(PYTHON.format(python=sys.executable, forks=Path(__file__).resolve(), folder=folder))
    python.chmod(0o755)
    place = socket.socket(socket.AF_UNIX)
    place.bind(str(folder / "socket"))
    place.listen(64)
    owner, mine = os.pipe()
    if os.fork() == 0:
        os.close(mine)
        os.dup2(2, 1)  # the first's output is for answers
        serve_jobs(place, owner)
    else:
        os.close(owner)
        place.close()
        serve_calls(folder)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
