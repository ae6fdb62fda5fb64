"""A throw-away Slurm for the tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.slurm_cluster import Slurm

HERE = Path(__file__).parent
NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "srun")


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """Skipped where Slurm is not installed or the user is not root; a failure there if REQUIRE_SLURM=1."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    problem = f"not installed: {', '.join(missing)}" if missing else "" if os.geteuid() == 0 else "the user is not root"
    if problem and os.environ.get("REQUIRE_SLURM") == "1":
        pytest.fail(f"REQUIRE_SLURM=1, but {problem}")
    if problem:
        pytest.skip(f"{problem} (apt-get install slurm-wlm munge; REQUIRE_SLURM=1 makes this a failure)")
    run = Path(tempfile.mkdtemp(prefix="slurm", dir="/tmp"))  # short: sockets have short names
    run.chmod(0o755)
    try:
        started = subprocess.run([HERE / "start.sh", run], capture_output=True, text=True, timeout=60)
        assert started.returncode == 0, started.stdout + started.stderr
        yield Slurm(run)
    finally:
        subprocess.run([HERE / "stop.sh", run], timeout=120, check=False)
        shutil.rmtree(run, ignore_errors=True)
