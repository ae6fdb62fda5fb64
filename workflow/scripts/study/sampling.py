"""Which jobs verify the samples of which blocks. A function of the config alone, as the plan is."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any

from study.cost import model
from study.cost.rates import RATES
from study.plan import Block

TOGETHER = 20.0  # predicted seconds of one job, about; to import torch takes two of its own


def verification_jobs(planned: Mapping[tuple[str, str], Block], config: Mapping[str, Any]) -> dict[str, list[Block]]:
    """Group -> the blocks whose samples one job verifies; none if the config wants no samples.

    A block's group follows from its names, and the number of groups is a power of two. So a grown axis adds blocks to some groups
    and leaves most as they are.
    """
    if not config["gate"]["checked_runs_per_job"]:
        return {}
    seconds, start = 0.0, RATES["verify_job_seconds"]
    for block in planned.values():
        seconds += model.verification_cost([block], config).seconds - start
    groups = 1
    while seconds > groups * TOGETHER and groups < len(planned):
        groups *= 2
    jobs: dict[str, list[Block]] = {}
    for block in planned.values():
        number = zlib.crc32(f"{block.sweep}/{block.name}".encode()) % groups
        jobs.setdefault(f"{number + 1}-of-{groups}", []).append(block)
    return jobs
