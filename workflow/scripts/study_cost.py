"""What a block costs: a stand-in with the interface of the planner's own cost model, which replaces this file.

PLACEHOLDER of the branch ``cluster``: ``block_cost`` is right to about a factor of two, enough to ask a cluster for resources.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from study_plan import Block, as_list

FLOPS = 5e9  # of the recurrent products, forward, backward and parameter gradients (1/s)
STEP_SECONDS = 5e-5  # Python's part of a time step
PROCESS_MB = 300.0
SIZES = {"sequence_length": 100, "hidden_size": 64, "batch_size": 16, "updates": 0, "trace_every": 25}
GATES = {"gru": 3, "gru_reset_before": 3, "lstm": 4}


@dataclass(frozen=True)
class Cost:
    """CPU seconds, the job's peak memory and the size of its tables."""

    seconds: float
    memory_mb: float
    disk_mb: float


def block_cost(block: Block, config: Mapping[str, Any]) -> Cost:
    """The cost of all runs of a block: a pure function of the config."""
    axes = {name: as_list({**block.shared, **block.grid}.get(name, default)) for name, default in SIZES.items()}
    cells = as_list({**block.shared, **block.grid}.get("cell", "vanilla"))
    others = len(block) // (math.prod(map(len, axes.values())) * len(cells))
    seconds = megabytes = peak = 0.0
    for steps, units, sequences, updates, every, cell in itertools.product(*axes.values(), cells):
        gates, gradients = GATES.get(cell, 1), updates + 1
        rows = steps * (1 + updates // every) + updates
        seconds += others * steps * gradients * (STEP_SECONDS + 12 * units**2 * sequences * gates / FLOPS)
        megabytes += others * rows * 1e-4
        peak = max(peak, steps * sequences * units * (gates + 1) * 8 * 6 / 2**20)
    return Cost(seconds, PROCESS_MB + peak + megabytes, megabytes)
