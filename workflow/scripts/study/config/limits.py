"""What a study may take: so many runs that they look like a slip, and what this machine does not have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from study import plan
from study.config.mistakes import Problem
from study.cost import model
from study.machine import memory_of_machine_mb
from study.plan import Block, as_list

MOST_RUNS, MOST_JOBS = 200_000, 10_000  # of a study that nobody has confirmed


def too_many_runs(config: Mapping[str, Any], confirmed: float) -> Iterator[Problem]:
    """A very large study must be confirmed by its number of runs."""
    runs, jobs = plan.count(config)
    if (runs <= MOST_RUNS and jobs <= MOST_JOBS) or runs <= confirmed:
        return
    yield (
        (),
        f"the study has {runs:,} runs in {jobs:,} jobs; beyond {MOST_RUNS:,} runs or {MOST_JOBS:,} jobs it must be confirmed. "
        f"If it is meant, add `--config confirm_runs={runs}` to the command, or the key confirm_runs: {runs} to the config",
    )


def too_much_memory(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Sweeps whose largest network does not fit into this machine."""
    machine_mb = memory_of_machine_mb()
    for sweep, described in config["sweeps"].items():
        grid = {axis: as_list(values) for axis, values in described["grid"].items()}
        needed_mb = model.largest_run_mb(Block(sweep, "all", {}, grid, 1), config)
        if needed_mb > machine_mb:
            yield (
                ("sweeps", sweep, "grid"),
                f"its largest run needs about {needed_mb / 1024:,.0f} GiB of memory, and this machine has {machine_mb / 1024:,.0f}; "
                "choose a smaller hidden_size, batch_size or sequence_length, or bound the states by memory_mb",
            )
