"""What the tests need of the throw-away Slurm: its commands, its queue, what became of the jobs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class FinishedJob:
    """What the controller wrote about a job when it ended."""

    state: str
    memory_mb: int


@dataclass(frozen=True)
class Slurm:
    """A running controller with two nodes; its files and commands are in ``run``."""

    run: Path

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")}
        path = os.pathsep.join([str(self.run / "bin"), str(Path(sys.executable).parent), kept["PATH"]])
        return {**kept, "PATH": path, "SLURM_CONF": str(self.run / "slurm.conf")}

    def call(self, *command: str) -> str:
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def restart_controller(self) -> None:
        """As after a crash of its machine: what it knows afterwards is what it had saved."""
        subprocess.run([HERE / "stop.sh", self.run, "controller"], check=True, timeout=60)
        subprocess.run([HERE / "start.sh", self.run, "controller"], check=True, timeout=60)

    def queue(self, states: str = "running") -> dict[str, str]:
        """Job id -> rule and wildcards, of the jobs in these states."""
        lines = self.call("squeue", "--noheader", f"--states={states}", "--format=%i|%k").splitlines()
        return dict(line.split("|", 1) for line in lines)

    def gpus(self, job: str) -> int:
        """How many the job asked for."""
        found = re.search(r"TresPerJob=gres:gpu:(\d+)", self.call("scontrol", "show", "job", job))
        return int(found[1]) if found else 0

    def finished(self) -> dict[str, FinishedJob]:
        """All jobs that ended, by id, from the completion log."""
        found = {}
        file = self.run / "jobs.log"
        for line in file.read_text().splitlines() if file.exists() else []:
            job, state, tres = (re.search(rf"{key}=(\S+)", line) for key in ("JobId", "JobState", "Tres"))
            assert job and state and tres, line
            amount, unit = re.search(r"mem=([\d.]+)([MG])", tres[1]).groups()  # type: ignore[union-attr]
            memory = round(float(amount) * (1024 if unit == "G" else 1))
            found[job[1]] = FinishedJob(state[1], memory)
        return found


def wait_for(what: str, condition: Callable[[], object], running: subprocess.Popen | None = None) -> None:
    """Until ``condition`` holds; an error after five minutes, or when the process that should bring it about has ended."""
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not in five minutes"
        assert running is None or running.poll() is None, f"{what}: snakemake ended before"
        time.sleep(0.2)
