"""What is expensive to set up is made once for all test workers."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of this test run that the first worker to ask for it fills; the others wait. Tests must not change it.

    Args:
        factory: pytest's.
        name: of the folder.
        make: fills the folder, which does not exist yet.
    """
    place = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent  # a worker has a folder of its own in the run's
    folder, made = place / name, place / f"{name}.made"
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, or its process dies
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what another worker failed to make
            make(folder)
            made.touch()
    return folder
