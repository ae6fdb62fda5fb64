"""What a job asks of a cluster: memory, minutes, disk and GPUs, from the plan's predicted cost.

Local runs ignore these numbers; an executor passes them on (``sbatch --mem … --time …``). A job that needed more is killed, and the
profile's ``retries`` submit it again: every attempt asks for one more share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from study.cost import model
from study.plan import Block, Settings, as_list
from study.runs.gate import LONGEST as LONGEST_CHECKED
from study.settings import steps_of

# Two Snakemakes (170 MiB each, measured) and a launcher stand around every script of a cluster job.
AROUND_MB = 400
MEMORY_HEAD_ROOM = 1.5  # the prediction is within 30 %; allocators and libraries differ
SLOWER = 3.0  # how much slower than the machine on which the rates were measured a node may be
START_MINUTES = 3  # starting two Snakemakes and importing torch from a busy file server
GATE_MB, GATE_MINUTES = 400, 30  # with PyTorch imported
# How many copies of all states the gate holds for each gate of its largest network: in the engine, in autograd and in torch.nn,
# values and gradients. Measured at T = 1000, B = 160, H = 64: vanilla 10.7, GRU 10.9, LSTM 9.4.
COPIES = 11
TABLE_MB, TABLE_LIMIT_MB = 800, 2500  # tables and figures are streamed: their memory stays bounded
FIGURE_PROCESSES = 4  # at most; with more, the figure that takes longest decides
REPORT_MINUTES = 10
ROUND_MB = 50

Resource = int | Callable[..., int]


def of_blocks(blocks: Mapping[tuple[str, str], Block], config: Mapping[str, Any]) -> dict[str, Resource]:
    """The resources of ``run_block``: functions of the job's wildcards and of the attempt."""
    return _of_cost(lambda job: model.block_cost(blocks[job.sweep, job.block], config), config)


def of_verifications(groups: Mapping[str, list[Block]], config: Mapping[str, Any]) -> dict[str, Resource]:
    """The resources of ``verify_runs``, likewise."""
    return _of_cost(lambda job: model.verification_cost(groups[job.group], config), config)


def of_samplings(groups: Mapping[str, list[Settings]], config: Mapping[str, Any]) -> dict[str, Resource]:
    """The resources of ``sample_theory``, likewise. It needs no GPU."""
    asked = _of_cost(lambda job: model.sampling_cost(groups[job.group]), config)
    return {name: value for name, value in asked.items() if name != "gpu"}


def _of_cost(cost: Callable[[Any], model.Cost], config: Mapping[str, Any]) -> dict[str, Resource]:
    def mem_mb(wildcards: Any, attempt: int) -> int:
        return memory(cost(wildcards).memory_mb, attempt)

    def runtime(wildcards: Any, attempt: int) -> int:
        return minutes(cost(wildcards).seconds, attempt)

    def disk_mb(wildcards: Any, attempt: int) -> int:
        return _rounded((200 + 3 * cost(wildcards).disk_mb) * attempt)  # blocks, the cache of runs, copies under way

    return {"mem_mb": mem_mb, "runtime": runtime, "disk_mb": disk_mb, **gpu(config)}


def of_gate(config: Mapping[str, Any]) -> dict[str, Resource]:
    """The resources of ``check_engine``: it holds the study's largest network several times over."""
    peak = max(_states_mb(described["grid"]) for described in config["sweeps"].values())

    def mem_mb(wildcards: Any, attempt: int) -> int:
        return memory(GATE_MB + peak, attempt)

    return {"mem_mb": mem_mb, "runtime": GATE_MINUTES, **gpu(config)}


def of_tables(blocks: Mapping[tuple[str, str], Block], config: Mapping[str, Any]) -> dict[str, Resource]:
    """The resources of what comes after the runs: tables and report."""

    @cache  # asked once a job and resource, and the answer is the same for all
    def size() -> float:
        return sum(model.block_cost(block, config).disk_mb for block in blocks.values())

    def mem_mb(wildcards: Any, attempt: int) -> int:
        return memory(min(TABLE_MB + 8 * size(), TABLE_LIMIT_MB), attempt)

    def runtime(wildcards: Any, attempt: int) -> int:
        return minutes(60 * REPORT_MINUTES + size() / 20, attempt)  # 20 MiB a second

    return {"mem_mb": mem_mb, "runtime": runtime}


def figure_processes(config: Mapping[str, Any]) -> int:
    """How many processes draw the figures."""
    return min(FIGURE_PROCESSES, len(config["figures"]))


def of_figures(blocks: Mapping[tuple[str, str], Block], config: Mapping[str, Any]) -> dict[str, Resource]:
    """The resources of ``draw_figures``: of a job that reads tables, for each of its processes."""
    one = of_tables(blocks, config)
    assert callable(one["mem_mb"])
    memory_of_one = one["mem_mb"]

    def mem_mb(wildcards: Any, attempt: int, threads: int) -> int:
        return threads * int(memory_of_one(wildcards, attempt))

    return {**one, "mem_mb": mem_mb}


def gpu(config: Mapping[str, Any]) -> dict[str, Resource]:
    """One GPU for every job that computes. If the study is for the CPU the key is absent, which every executor understands."""
    return {} if config["device"] == "cpu" else {"gpu": 1}


def memory(predicted_mb: float, attempt: int) -> int:
    """MiB to ask for: the prediction with head-room, and what stands around the script. Each attempt asks for as much again."""
    return _rounded((MEMORY_HEAD_ROOM * predicted_mb + AROUND_MB) * attempt)


def minutes(predicted_seconds: float, attempt: int) -> int:
    """Minutes to ask for on a slow node. Each attempt asks for as many again."""
    return math.ceil((START_MINUTES + SLOWER * predicted_seconds / 60) * attempt)


def _states_mb(grid: Mapping[str, Any]) -> float:
    """MiB of states that the gate holds for the largest network of a sweep."""
    largest = {"sequence_length": 100, "batch_size": 16, "hidden_size": 64}
    largest |= {axis: max(as_list(grid[axis])) for axis in largest if axis in grid}
    tasks, length = as_list(grid.get("task", "white_noise")), min(largest["sequence_length"], LONGEST_CHECKED)
    largest["sequence_length"] = max(steps_of(task, length) for task in tasks)
    gates = max(map(model.gates_of, as_list(grid.get("cell", "vanilla"))))
    return math.prod(largest.values()) * 8 / 2**20 * gates * COPIES


def _rounded(megabytes: float) -> int:
    return math.ceil(megabytes / ROUND_MB) * ROUND_MB
