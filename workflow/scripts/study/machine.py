"""What this machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path


def memory_of_machine_mb() -> float:
    """The memory that processes may use here (MiB): the machine's, or the limit of a container; inf if the system does not tell."""
    limits = [math.inf]
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        limits.append(float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    except (OSError, ValueError):  # another system, or no limit ("max")
        pass
    return min(limits) / 2**20
