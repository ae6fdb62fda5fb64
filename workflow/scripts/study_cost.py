"""What a block costs before it is run: processor time, memory, disk. Counted work times measured rates; a pure function of the config.

The rates are ``study_rates.py``, written by ``measure_rates.py`` (``make rates``) from blocks run on one machine. Another
machine is faster or slower by a factor, which ``snakemake plan`` measures.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import study_tables
from study_plan import Block, Settings
from study_rates import RATES

GATES = {"vanilla": 1, "residual": 1, "gru": 3, "gru_reset_before": 3, "lstm": 4}
BYTES = {"float64": 8, "float32": 4}
SHARED = ("sequence_length", "clipping")  # untrained runs that differ in these alone are computed together
MIB = 2.0**20
FILE_BLOCK = 4096  # bytes; a small file takes a whole block of the disk

# the settings that work depends on; of all others only their number counts
_COUNTED = (
    "cell", "hidden_size", "input_size", "batch_size", "loss_at", "truncation", "updates", "trace_every", "dtype", *SHARED,
)  # fmt: skip
_INPUTS = 8  # of a generated task that is not told otherwise

Work = Counter[str]


@dataclass(frozen=True)
class Cost:
    """Attributes:
    seconds: processor time of the job, from its start to its end (seconds on one core).
    memory_mb: most memory that its process holds (MiB, resident).
    disk_mb: its files: cache entries and block tables (MiB).
    """

    seconds: float
    memory_mb: float
    disk_mb: float


def block_cost(block: Block, config: Mapping[str, Any]) -> Cost:
    """What the job ``run_block`` costs if none of its runs is finished yet."""
    work = block_work(block)
    return Cost(
        seconds=RATES["job_seconds"] + seconds(work),
        memory_mb=RATES["job_mb"] + _states_mb(block, config, RATES["states_copies"]) + _listed_mb(block),
        disk_mb=(work["run"] * FILE_BLOCK + work["row"] * RATES["row_bytes"] + work["update"] * RATES["update_bytes"])
        / MIB,
    )


def verification_cost(blocks: Iterable[Block], config: Mapping[str, Any]) -> Cost:
    """What the job ``verify_runs`` of these blocks costs: their samples run again, and compared with PyTorch."""
    found, checked = list(blocks), config["gate"]["checked_runs_per_job"]
    total, memory = 0.0, 0.0
    for block in found:
        share = min(1.0, checked / len(block))
        work = block_work(block)
        alone = block_work(block, shared=False)
        kinds = ("run", "row", "trace")
        total += share * (seconds(alone) + sum(work[kind] * RATES[f"verified_{kind}_seconds"] for kind in kinds))
        memory = max(memory, _states_mb(block, config, RATES["verified_states_copies"]))
    return Cost(RATES["verify_job_seconds"] + total, RATES["verify_job_mb"] + memory, 0.0)


def seconds(work: Work) -> float:
    """Processor time of counted work, in the engine and in keeping its results."""
    return math.fsum(float(count) * RATES[f"{kind}_seconds"] for kind, count in work.items())


def block_work(block: Block, shared: bool = True) -> Work:
    """The work of all runs of a block, counted."""
    total: Work = Counter({"block": 1})
    for settings, times, lengths, clippings in _alike(block):
        for kind, count in _work(settings, lengths, clippings, shared and settings["updates"] == 0).items():
            total[kind] += times * count
    return total


def _alike(block: Block) -> Iterator[tuple[Settings, int, list[int], list[str]]]:
    """(settings, how many, lengths, clippings): runs that cost the same; every one has all of the lengths and clippings."""
    described = study_tables.axes()
    given = {**{axis: [value] for axis, value in block.shared.items()}, **block.grid}
    values = {axis: given.get(axis, [described[axis]["default"]]) for axis in _COUNTED}
    others = math.prod(len(found) for axis, found in given.items() if axis not in values) * block.seeds
    own = [axis for axis in _COUNTED if axis not in SHARED]
    for point in itertools.product(*(values[axis] for axis in own)):
        yield dict(zip(own, point, strict=True)), others, values["sequence_length"], values["clipping"]


def _work(settings: Settings, lengths: list[int], clippings: list[str], shared: bool) -> Work:
    """The work of one run a length and clipping; if it is shared, of one forward pass for all of them."""
    gates, H, B = GATES[settings["cell"]], settings["hidden_size"], settings["batch_size"]
    D, scale = settings["input_size"] or _INPUTS, BYTES[settings["dtype"]] / 8
    updates, runs = settings["updates"], len(lengths) * len(clippings)
    passes, steps = max(1, updates), sum(lengths)
    traces = 1 if not updates else len({*range(0, updates, settings["trace_every"]), updates - 1})
    again = (settings["truncation"] is not None) * passes + (settings["loss_at"] == "every")
    signal = sum(rule.startswith("signal") for rule in clippings) * passes
    sharing = 1 if shared else len(clippings)
    forward = (max(lengths) if shared else steps * len(clippings)) * passes
    forward += steps * len(clippings) * (updates > 0)  # held-out sequences
    backward = steps * (sharing * (passes + again) + signal)
    width = gates * H
    found = {
        "run": runs,
        "cubed": runs * gates * H**3,  # eigenvalues, singular values
        "theory": runs * (settings["cell"] == "vanilla"),
        "step": forward + backward,
        "flop": 2.0 * width * (H + D) * B * (forward + 2 * backward) * scale,
        "element": width * B * (forward + 2 * backward) * scale,
        "trace": steps * len(clippings) * traces * width * B * scale,
        "parameter": runs * updates * width * (H + D),
        "update": runs * passes,
        "kept": runs,
        "row": steps * len(clippings) * traces,
    }
    return Counter({kind: count for kind, count in found.items() if count})


def _states_mb(block: Block, config: Mapping[str, Any], copies: float) -> float:
    """The states of the largest run; the engine keeps some of them, unless ``memory_mb`` bounds them."""
    most: int = max(
        max(lengths) * settings["batch_size"] * GATES[settings["cell"]] * settings["hidden_size"] * BYTES[settings["dtype"]]
        for settings, _, lengths, _ in _alike(block)
    )  # fmt: skip
    limit = float(config.get("memory_mb") or math.inf)
    return min(copies * most / MIB, limit + most / MIB)


def _listed_mb(block: Block) -> float:
    """The list of the block's runs."""
    return len(block) * RATES["run_bytes"] / MIB
