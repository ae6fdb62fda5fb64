"""Runs jobs of a study again, one at a time and without Snakemake, with a call that fails: ``python replay.py SCRIPTS CONTROL``.

SCRIPTS holds the jobs' scripts as Snakemake wrote them (``kept_scripts``), in order. Every job is a fork of this process, which has
imported the large libraries: a job takes a fraction of a second. One line of JSON in, one out.
"""

from __future__ import annotations

import gc
import json
import os
import struct
import sys
import time
import traceback
from pathlib import Path
from typing import Any

LAYOUT = struct.Struct("=8q400s")  # of failing_calls.c's struct control
NOTHING, WRITES, READS = range(3)
PREAMBLE_ENDS = "######## snakemake preamble end #########"

# For PYTHONPATH: keeps a copy of every job's script, which Snakemake deletes when the job has ended.
KEEPER = """
import os, shutil, sys, time
for word in sys.orig_argv[1:2]:
    if "/.snakemake/scripts/" in word:
        shutil.copy(word, os.path.join(os.environ["KEPT_SCRIPTS"], f"{time.time_ns()}-{os.path.basename(word)}"))
"""


def control(
    file: Path, kind: int = NOTHING, at: int = 0, error: int = 0, sticky: bool = False, process: int = 0
) -> None:
    """Say what fails from now on, and count from 0 again. The file keeps its place: it is mapped into every process."""
    content = LAYOUT.pack(kind, at, error, sticky, process, 0, 0, 0, b"")
    with file.open("r+b" if file.exists() else "wb") as opened:
        opened.write(content)


def counted(file: Path) -> tuple[list[int], str]:
    """(calls since then of every kind, the call that failed)."""
    *_, nothing, writes, reads, where = LAYOUT.unpack(file.read_bytes())
    return [nothing, writes, reads], where.rstrip(b"\0").decode()


class Job:
    """A job's script, and its outputs' paths below the project's folder."""

    def __init__(self, script: Path) -> None:
        self.script, self.text = script, script.read_text(encoding="utf-8")
        names: dict[str, Any] = {"__file__": str(script)}
        exec(self.text.split(PREAMBLE_ENDS)[0], names)
        self.name = script.name.split(".", 1)[1].removesuffix(".py")
        self.outputs = [str(file) for file in names["snakemake"].output]

    def run(self, root: Path, said: Path) -> int:
        """In a fork, with what it says in a file; its exit status."""
        child = os.fork()
        if child == 0:
            os._exit(self._run(root, said))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def _run(self, root: Path, said: Path) -> int:
        words = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(words, 1)
        os.dup2(words, 2)
        os.chdir(root)
        # What is written once a second must be as many calls on a busy machine.
        clock = time.time(), time.monotonic()
        time.time, time.monotonic = (lambda: clock[0]), (lambda: clock[1])
        status = 0
        try:
            exec(compile(self.text, str(self.script), "exec"), {"__name__": "__main__", "__file__": str(self.script)})
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            status = 1
        gc.collect()  # what a file that was left half written says of itself when it is forgotten
        sys.stdout.flush()
        sys.stderr.flush()
        return status

    def remove_outputs(self, root: Path) -> None:
        """As Snakemake does after a job failed."""
        for output in self.outputs:
            (root / output).unlink(missing_ok=True)


def answer(job: Job, asked: dict[str, Any], shared: Path) -> dict[str, Any]:
    """Run the job in a project's folder with a call that fails."""
    root = Path(asked["root"])
    said = root / "said.txt"
    control(shared, asked["kind"], asked["at"], asked["error"], asked["sticky"])
    status = job.run(root, said)
    calls, where = counted(shared)
    control(shared)
    if status:
        job.remove_outputs(root)
    return {"status": status, "said": said.read_text(errors="replace"), "calls": calls, "where": where}


def main() -> None:
    import matplotlib.backends.backend_svg
    import pandas
    import pyarrow.dataset
    import pyarrow.parquet
    import seaborn
    import sklearn.datasets
    import torch

    del matplotlib, pandas, pyarrow, seaborn, sklearn, torch
    jobs = [Job(script) for script in sorted(Path(sys.argv[1]).iterdir())]
    print(json.dumps([[job.name, job.outputs] for job in jobs]), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(answer(jobs[asked["job"]], asked, Path(sys.argv[2]))), flush=True)


if __name__ == "__main__":
    main()
