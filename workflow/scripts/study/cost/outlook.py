"""What a study will take, told before it starts: runs, jobs, processor time, wall time, memory, disk, and what is left.

The cost model knows how much work there is. It does not know how fast this machine is. So some short runs of the study are timed
here, for 10 seconds at most. In each sweep the engine's predicted time is multiplied by measured over predicted. What was not timed
stands as in the model: starts of jobs, keeping rows, tables, figures. A machine without a compiler is many times slower in the engine
alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import rnn_core as rc
from study import plan as planning
from study.cost import model
from study.cost.kinds import figures_seconds, page_seconds
from study.cost.rates import RATES
from study.counts import counted
from study.data.messages import listed
from study.own_cells.described import used
from study.plan import Block
from study.runs import gate
from study.runs.runner import BlockRunner
from study.sampling import verification_jobs
from study.settings import axis_defaults
from study.tables.columns import TABLES
from study.wide import sampling_jobs

SAMPLE_SECONDS = 10.0  # for all sweeps together
# Work that is not the engine's; and eigenvalues, which are remembered when a sample is timed.
NOT_TIMED = ("block", "kept", "row", "cubed")


@dataclass(frozen=True)
class Times:
    """Processor seconds by the model.

    Attributes:
        engine: in the engine, whose speed is measured here.
        rest: in everything else.
    """

    engine: float
    rest: float

    def at(self, factor: float) -> float:
        """On a machine that takes ``factor`` times as long in the engine."""
        return self.engine * factor + self.rest


@dataclass(frozen=True)
class SweepPlan:
    """What one sweep takes.

    Attributes:
        runs, finished: how many it has, and how many are in the cache.
        blocks: times of every block.
        open: share of every block's runs that are not finished.
        factor: measured over predicted time in the engine.
        sampled: how many runs that was measured on.
        memory_mb: of the largest job (MiB).
        disk_mb: of all jobs (MiB).
    """

    sweep: str
    runs: int
    finished: int
    blocks: list[Times]
    open: list[float]
    factor: float
    sampled: int
    memory_mb: float
    disk_mb: float

    @property
    def engine(self) -> float:
        """Seconds in the engine by the model."""
        return sum(block.engine for block in self.blocks)

    @property
    def predicted(self) -> float:
        """Seconds by the model alone."""
        return sum(block.at(1.0) for block in self.blocks)

    @property
    def spent(self) -> float:
        """Seconds on this machine."""
        return sum(block.at(self.factor) for block in self.blocks)

    @property
    def left(self) -> float:
        """Seconds on this machine for what is not finished."""
        return sum(block.at(self.factor) * share for block, share in zip(self.blocks, self.open, strict=True))

    @property
    def longest(self) -> float:
        """Seconds of the longest job on this machine."""
        return max(block.at(self.factor) for block in self.blocks)


def small_parts(block: Block, budget: float, traces: Collection[str] = ()) -> Iterator[Block]:
    """Small blocks out of a block, each of at most ``budget`` seconds: a point of its grid, with all lengths if they fit."""
    rng = np.random.default_rng(0)
    axes = {axis: [value] for axis, value in block.shared.items()} | block.grid
    while True:
        point = {axis: [values[int(rng.integers(len(values)))]] for axis, values in axes.items()}
        whole = point | {axis: axes[axis] for axis in model.SHARED if axis in axes}
        trained = point.get("updates", [0])[0]
        for grid in (point if trained else whole, point, point | {"updates": [min(trained, 2)]}):
            part = Block(block.sweep, "sample", {}, grid, 1)
            if model.seconds(engine_work(part, traces=traces)) <= budget:
                yield part
                break
        else:
            return


def engine_work(block: Block, shared: bool = True, traces: Collection[str] = ()) -> model.Work:
    """The work that is timed here."""
    work = model.block_work(block, shared, traces)
    for kind in NOT_TIMED:
        del work[kind]
    return work


def speed(blocks: list[Block], runner: BlockRunner, budget: float) -> tuple[float, int]:
    """(measured over predicted time, runs timed) of blocks evenly spread; (1, 0) if none is small enough."""
    open_samples = [small_parts(block, budget / 4, runner.traces) for block in blocks[:: max(1, len(blocks) // 16)]]
    start, measured, predicted, runs = time.perf_counter(), 0.0, 0.0, 0
    while open_samples:
        for samples in list(open_samples):
            block = next(samples, None)
            if block is None:
                open_samples.remove(samples)
                continue
            list(runner.compute(experiments_of(block)))  # finds eigenvalues and warms up
            begun = time.process_time()
            runs += len(list(runner.compute(experiments_of(block))))
            measured += time.process_time() - begun
            predicted += model.seconds(engine_work(block, traces=runner.traces))
            if time.perf_counter() - start > budget:
                return measured / predicted, runs
    return (measured / predicted, runs) if runs else (1.0, 0)


def experiments_of(block: Block) -> list[rc.Experiment]:
    return [rc.Experiment(**run) for run in block.runs()]


def plan_sweep(blocks: list[Block], config: dict[str, Any], runner: BlockRunner, budget: float) -> SweepPlan:
    costs = [model.block_cost(block, config) for block in blocks]
    factor, sampled = speed(blocks, runner, budget)
    finished_keys = runner.cache.keys()
    finished = [
        sum(runner.name(e) in finished_keys for e in experiments_of(block)) if finished_keys else 0 for block in blocks
    ]
    engine = [model.seconds(engine_work(block, traces=config.get("traces", ()))) for block in blocks]
    return SweepPlan(
        sweep=blocks[0].sweep,
        runs=sum(map(len, blocks)),
        finished=sum(finished),
        blocks=[Times(inside, cost.seconds - inside) for inside, cost in zip(engine, costs, strict=True)],
        open=[1.0 - finished_runs / len(block) for finished_runs, block in zip(finished, blocks, strict=True)],
        factor=factor,
        sampled=sampled,
        memory_mb=max(cost.memory_mb for cost in costs),
        disk_mb=sum(cost.disk_mb for cost in costs),
    )


def verification_times(blocks: list[Block], config: dict[str, Any]) -> Times:
    """Times of a job that verifies these blocks. The engine runs their samples once more; the rest is PyTorch's."""
    checked = config["gate"]["checked_runs_per_job"]
    engine = sum(min(1.0, checked / len(block)) * model.seconds(engine_work(block, shared=False)) for block in blocks)
    return Times(engine, model.verification_cost(blocks, config).seconds - engine)


def _own_cases(config: dict[str, Any]) -> Iterator[tuple[str, rc.Experiment]]:
    """What is checked of the user's own cells."""
    for cell in used(config):
        yield from gate.cases(config["sweeps"], cell)


def around(config: dict[str, Any], blocks: dict[tuple[str, str], Block]) -> dict[str, tuple[int, Times]]:
    """(jobs, times) of what surrounds the sweeps: the gate, verification, theory, tables and figures."""
    verifications = verification_jobs(blocks, config)
    verifying = [verification_times(group, config) for group in verifications.values()]
    cases = [
        Block(sweep, "case", {}, _grid(case), 1) for sweep, case in [*gate.cases(config["sweeps"]), *_own_cases(config)]
    ]
    once = {"gate": {"checked_runs_per_job": 1}}
    checking = [verification_times([case], once) for case in cases]
    starts = (len(cases) - 1) * RATES["verify_job_seconds"]  # the cases are one job
    samplings = [model.sampling_cost(settings).seconds for settings in sampling_jobs(config).values()]
    rows = sum(model.block_work(block)["row"] for block in blocks.values())
    tables = len(TABLES)
    return {
        "engine check": (1, Times(sum(t.engine for t in checking), sum(t.rest for t in checking) - starts)),
        "verification": (len(verifications), Times(sum(t.engine for t in verifying), sum(t.rest for t in verifying))),
        **({"theory": (len(samplings), Times(0.0, sum(samplings)))} if samplings else {}),
        "tables": (tables, Times(0.0, tables * RATES["job_seconds"] + rows * RATES["gathered_row_seconds"])),
        "figures, page": (2, Times(0.0, figures_seconds(config) + page_seconds())),
    }


def _grid(experiment: rc.Experiment) -> dict[str, list[Any]]:
    return {**{name: [value] for name, value in vars(experiment).items()}, "updates": [0]}


def shown(seconds: float) -> str:
    """4.2 s, 3 min, 5.1 h."""
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def table(rows: list[list[str]]) -> str:
    """Columns right-aligned, but for the first."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    )  # fmt: skip


def report(config: dict[str, Any], plans: list[SweepPlan], rest: dict[str, tuple[int, Times]], cores: int) -> str:
    """The whole plan as text."""
    sampled = sum(plan.sampled for plan in plans)
    factor = sum(p.engine * p.factor for p in plans) / sum(p.engine for p in plans)
    rows = [["", "runs", "finished", "jobs", "CPU time", "left", "model", "memory", "disk"]]
    for p in plans:
        times = [shown(p.spent), shown(p.left), shown(p.predicted)]
        space = [f"{p.memory_mb:.0f} MiB", f"{p.disk_mb:.0f} MiB"]
        rows.append([p.sweep, f"{p.runs:,}", f"{p.finished:,}", str(len(p.blocks)), *times, *space])
    for name, (jobs, times_around) in rest.items():
        rows.append([name, "", "", str(jobs), shown(times_around.at(factor)), "", shown(times_around.at(1.0)), "", ""])
    sweeps, around_sweeps = sum(p.spent for p in plans), sum(t.at(factor) for _, t in rest.values())
    runs, finished, disk = (sum(getattr(p, n) for p in plans) for n in ("runs", "finished", "disk_mb"))
    total = [f"{runs:,}", f"{finished:,}", str(sum(len(p.blocks) for p in plans) + sum(j for j, _ in rest.values()))]
    with_tables = f"{disk * 1.3:.0f} MiB"  # the tables hold the rows once more
    rows.append(["all", *total, shown(sweeps + around_sweeps), "", "", "", with_tables])
    wall = max(sweeps / cores, *(p.longest for p in plans)) + around_sweeps / cores
    lines = [
        f"Study {config['study']}: the plan",
        table(rows),
        f"Wall time of the whole study on {counted(cores, 'core')}: about {shown(RATES['snakemake_seconds'] + wall)}.",
    ]
    if sampled:
        lines.append(
            f"Short runs with the study's settings were timed here ({sampled:,} with repeats): in the engine this machine takes {factor:.2f} times what the model says."
        )
    else:
        lines.append(
            "No run of the study is short enough to be timed here. The times are the model's, for another machine."
        )
    until = [sweep for sweep, described in config["sweeps"].items() if ends_early(described["grid"])]
    if until:
        lines.append(f"Runs of {listed(until)} end at success: these are the times of runs that never succeed.")
    defaults = axis_defaults()
    for (first, second), count in planning.shared_runs(config, defaults).items():
        lines.append(f"The sweeps {first} and {second} share {count:,} runs; these are computed once.")
    return "\n".join(lines)


def ends_early(grid: Mapping[str, Any]) -> bool:
    """Whether a run of the grid may end before its updates do, because it succeeds on the way."""
    below, every = (planning.as_list(grid.get(axis)) for axis in ("success_below", "validate_every"))
    return any(each is not None for each in below) and any(each is not None for each in every)


def of_study(config: dict[str, Any], runner: BlockRunner, cores: int) -> str:
    """The plan of a study as text, after timing some of its runs."""
    blocks = planning.blocks(config)
    by_sweep = [[block for (sweep, _), block in blocks.items() if sweep == name] for name in config["sweeps"]]
    plans = [plan_sweep(sweep_blocks, config, runner, SAMPLE_SECONDS / len(by_sweep)) for sweep_blocks in by_sweep]
    factors = [plan.factor for plan in plans if plan.sampled]
    typical = math.exp(float(np.mean(np.log(factors)))) if factors else 1.0
    plans = [plan if plan.sampled else replace(plan, factor=typical) for plan in plans]
    return report(config, plans, around(config, blocks), cores)
