"""Tests of one group run in one worker: two Slurms would share their ports, and fixtures would be made twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

GROUP = """
import pathlib

import pytest


@pytest.mark.xdist_group("one")
@pytest.mark.parametrize("number", range(8))
def test_it(number, worker_id):
    pathlib.Path(f"{number}.seen").write_text(worker_id)
"""


def test_a_group_stays_together(tmp_path: Path) -> None:
    """A pytest and an xdist that do not fit ignore the marks without a word."""
    (tmp_path / "test_group.py").write_text(GROUP)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadgroup", "-p", "no:cacheprovider"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    done = subprocess.run(command, cwd=tmp_path, env=kept, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    workers = [file.read_text() for file in tmp_path.glob("*.seen")]
    assert len(workers) == 8
    assert len(set(workers)) == 1
