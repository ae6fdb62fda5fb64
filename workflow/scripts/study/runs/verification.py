"""Checking a sample of every block's runs. They are run again beside PyTorch and compared with the rows on disk."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq

import rnn_core as rc
from study.files.cache import Entry
from study.files.writing import reading
from study.plan import Block
from study.runs.checks import CheckFailed, Verifier, describe
from study.runs.runner import BlockRunner
from study.tables import store


def sample(block: Block, size: int) -> list[rc.Experiment]:
    """The runs that are verified. Each block has its own, always the same. A larger sample holds a smaller one."""
    rng = np.random.default_rng(zlib.crc32(f"{block.sweep}/{block.name}".encode()))
    chosen = {int(index) for index in rng.permutation(len(block))[:size]}
    return [rc.Experiment(**run) for index, run in enumerate(block.runs()) if index in chosen]


def verified(experiment: rc.Experiment, runner: BlockRunner, tolerance: float) -> Entry:
    """The run with its checks, from the cache if it was verified at this tolerance already.

    Raises:
        CheckFailed: it disagrees with PyTorch by more than the tolerance.
    """
    name = runner.name(experiment)
    cached = runner.cache.get(name)
    if cached is not None and cached.checks and all(check["tolerance"] == tolerance for check in cached.checks):
        return cached
    verifier, start = Verifier(tolerance), time.perf_counter()
    data = runner.data.get(experiment.task)
    result = rc.run(experiment, data, runner.device, watch=verifier, memory_budget=runner.memory_budget)
    seconds = time.perf_counter() - start - verifier.seconds
    entry = runner.entry(experiment, result, seconds)
    timing = {**entry.timing, "verify_seconds": verifier.seconds}
    entry = replace(entry, checks=verifier.rows, timing=timing)
    runner.cache.put(name, entry)
    return entry


def require_same_rows(key: str, experiment: rc.Experiment, traces: str, entry: Entry, tolerance: float) -> None:
    """Refuse a block whose table ``traces`` holds other gradient norms under ``key`` than the run that was verified.

    Raises:
        CheckFailed: they differ by more than the tolerance.
    """
    where = [("run_key", "==", key)]
    with reading(traces):
        rows = pq.read_table(traces, columns=["update", "t", "log10_grad_norm"], filters=where, use_threads=False)
    steps = [np.array_equal(rows[name].to_numpy(), entry.traces[name]) for name in ("update", "t")]
    if not all(steps):
        raise CheckFailed(
            f"the rows in {traces} are not those of the run that was verified, {describe(experiment, key)}"
        )
    computed, stored = entry.traces["log10_grad_norm"], rows["log10_grad_norm"].to_numpy()
    same = (computed == stored) | (np.isnan(computed) & np.isnan(stored))
    with np.errstate(all="ignore"):
        error = np.where(same, 0.0, np.abs(np.expm1((stored - computed) * math.log(10.0))))
    if not (error <= tolerance).all():
        at = int(np.nanargmax(np.where(np.isnan(error), np.inf, error)))
        raise CheckFailed(
            f"the gradient norm in {traces} differs by {error[at]:.3g} from the one that was verified, "
            f"at t={entry.traces['t'][at]}, above the tolerance {tolerance:g}, in {describe(experiment, key)}"
        )


def rows_of(
    blocks: list[Block], traces: list[str], runner: BlockRunner, tolerance: dict[str, float], size: int
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(check, timing) of every comparison. Comparisons of one run have the same timing."""
    for block, file in zip(blocks, traces, strict=True):
        store.require(file, table="traces", block=asdict(block))
        for experiment in sample(block, size):
            limit = tolerance[experiment.dtype]
            key, entry = runner.name(experiment), verified(experiment, runner, limit)
            require_same_rows(key, experiment, file, entry, limit)
            name = {"sweep": block.sweep, "run_key": key}
            for check in entry.checks or []:
                yield {**check, **name}, {**entry.timing, **name}
