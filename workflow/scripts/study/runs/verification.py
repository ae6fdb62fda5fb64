"""Checking a sample of every block's runs: they are run again beside PyTorch, and later compared with the rows on disk.

To run them again needs nothing of the blocks. So that happens while the blocks are computed, and their rows are compared when they are
gathered.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import rnn_core as rc
from study.files.cache import Entry
from study.files.writing import reading, writing
from study.plan import Block
from study.runs.checks import CheckFailed, Verifier, describe
from study.runs.runner import BlockRunner
from study.tables import store
from study.tables.columns import columns_of, schema_of


@dataclass(frozen=True)
class Sample:
    """A run that is verified.

    Attributes:
        sweep, block: the block that it was chosen from.
        tolerance: largest relative error.
        described: its settings, for messages.
    """

    sweep: str
    block: str
    run_key: str
    tolerance: float
    described: str


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


def samples_of(
    blocks: list[Block], runner: BlockRunner, tolerance: dict[str, float], size: int
) -> dict[Sample, rc.Experiment]:
    """The samples of these blocks."""
    samples = {}
    for block in blocks:
        for experiment in sample(block, size):
            key, limit = runner.name(experiment), tolerance[experiment.dtype]
            samples[Sample(block.sweep, block.name, key, limit, describe(experiment, key))] = experiment
    return samples


def verify(
    samples: Mapping[Sample, rc.Experiment],
    runner: BlockRunner,
    files: Mapping[str, str | Path],
    provenance: Mapping[str, Any],
) -> None:
    """Verify runs and write their tables ``checks``, ``timings`` and ``traces``, the last run by run.

    Raises:
        CheckFailed: a run disagrees with PyTorch by more than its tolerance.
    """
    footer = {**provenance, "samples": [asdict(chosen) for chosen in samples]}
    rows: dict[str, list[dict[str, Any]]] = {"checks": [], "timings": []}
    fields = schema_of("traces")
    with (
        store.sealed(files["traces"]) as aside,
        store.writer(aside, fields, {**footer, "table": "traces"}) as traces,
        runner.cache.joined(),
    ):
        for chosen, experiment in samples.items():
            entry = verified(experiment, runner, chosen.tolerance)
            name = {"sweep": chosen.sweep, "run_key": chosen.run_key}
            rows["checks"] += [{**check, **name} for check in entry.checks or []]
            rows["timings"].append({**entry.timing, **name})
            steps = len(entry.traces["t"])
            names = {column: steps * [value] for column, value in name.items()}
            with writing(files["traces"]):
                traces.write_table(store.unsorted("traces", {**entry.traces, **names}))
    for table, of_table in rows.items():
        columns = {c.name: [row[c.name] for row in of_table] for c in columns_of(table)}
        store.write(store.build(table, columns), files[table], {**footer, "table": table})


def require_same_rows(blocks: Iterable[str | Path], verifications: Iterable[str | Path]) -> None:
    """Compare the blocks' tables ``traces`` with those of the verified runs.

    Raises:
        CheckFailed: a gradient norm differs by more than the run's tolerance, or a row is missing.
    """
    files = {tuple(Path(file).parts[-3:-1]): file for file in blocks}
    for verification in verifications:
        for described in store.provenance_of(verification)["samples"]:
            chosen = Sample(**described)
            _require_same_norms(chosen, str(verification), str(files[chosen.sweep, chosen.block]))


def _require_same_norms(chosen: Sample, verification: str, traces: str) -> None:
    verified_rows, rows = (_rows_of(chosen, file) for file in (verification, traces))
    if not all(rows[name].equals(verified_rows[name]) for name in ("update", "t")):
        raise CheckFailed(f"the rows in {traces} are not those of the run that was verified, {chosen.described}")
    computed, stored = verified_rows["log10_grad_norm"].to_numpy(), rows["log10_grad_norm"].to_numpy()
    same = (computed == stored) | (np.isnan(computed) & np.isnan(stored))
    with np.errstate(all="ignore"):
        error = np.where(same, 0.0, np.abs(np.expm1((stored - computed) * math.log(10.0))))
    if not (error <= chosen.tolerance).all():
        at = int(np.nanargmax(np.where(np.isnan(error), np.inf, error)))
        raise CheckFailed(
            f"the gradient norm in {traces} differs by {error[at]:.3g} from the one that was verified, "
            f"at t={rows['t'][at].as_py()}, above the tolerance {chosen.tolerance:g}, in {chosen.described}"
        )


def _rows_of(chosen: Sample, file: str) -> pa.Table:
    where = [("sweep", "==", chosen.sweep), ("run_key", "==", chosen.run_key)]
    with reading(file):
        return pq.read_table(file, columns=["update", "t", "log10_grad_norm"], filters=where, use_threads=False)
