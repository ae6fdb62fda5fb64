"""Run one block: every run that is not finished yet, a sample of them verified against PyTorch, into one file a table."""

import hashlib
import time
import zlib
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import rnn_core as rc
import study_data
import study_tables
from oracle_checks import CheckFailed, Verifier
from rnn_core.arrays import device_name, resolve_device
from study_cache import Cache, Entry, data_digest
from study_files import plainly
from study_plan import Block
from study_provenance import engine_digest, script_digest

Columns = dict[str, list[Any]]


class BlockRunner:
    """Runs the runs of a block, or finds them in the cache.

    Args:
        cache: finished runs.
        sequences: task -> file, for tasks that are not generated.
        tolerance: by dtype, for verified runs.
        memory_mb: MiB that the states of a run may take; None is no limit. It changes no row.
    """

    def __init__(
        self,
        cache: Cache,
        sequences: dict[str, str],
        device: str,
        tolerance: dict[str, float],
        memory_mb: float | None = None,
    ) -> None:
        self.cache, self.device, self.tolerance = cache, device, tolerance
        self.memory_budget = None if memory_mb is None else int(memory_mb * 2**20)
        self.data = {task: rc.Sequences(**study_data.load(file)) for task, file in sequences.items()}
        self.digests = {task: data_digest(file) for task, file in sequences.items()}

    def entry(self, experiment: rc.Experiment, verify: bool) -> Entry:
        """The run's entry, computed if it is missing, or not verified although it should be.

        Raises:
            CheckFailed: a verified run disagrees with PyTorch by more than the tolerance of its dtype.
        """
        key = experiment.key + self.digests.get(experiment.task, "")
        found = self.cache.get(key)
        if found is None or (verify and not self.is_verified(found, experiment)):
            found = self.run(experiment, verify)
            self.cache.put(key, found)
        return found

    def is_verified(self, entry: Entry, experiment: rc.Experiment) -> bool:
        """Whether the entry was verified, at the tolerance that holds now."""
        tolerance = self.tolerance[experiment.dtype]
        return entry.checks is not None and all(check["tolerance"] == tolerance for check in entry.checks)

    def run(self, experiment: rc.Experiment, verify: bool) -> Entry:
        """Run it, under the eyes of a verifier if ``verify``."""
        verifier = Verifier(self.tolerance[experiment.dtype]) if verify else None
        start = time.perf_counter()
        result = rc.run(
            experiment, self.data.get(experiment.task), self.device, watch=verifier, memory_budget=self.memory_budget
        )
        seconds = time.perf_counter() - start
        row = {**asdict(experiment), **result.summary, "device": self.device}
        if verifier is None:
            return Entry(result.traces, result.updates, row, None, {"seconds": seconds})
        timing = {"seconds": seconds - verifier.seconds, "verify_seconds": verifier.seconds}
        return Entry(result.traces, result.updates, row, verifier.rows, timing)


def run_block(block: Block, runner: BlockRunner, engine: str, checked: int) -> dict[str, Columns]:
    """All tables' columns for one block; ``checked`` of its runs, drawn by the block's name, are verified."""
    sample = set(_sample(block, checked))
    found: dict[str, Columns] = {
        table: {c.name: [] for c in study_tables.columns(table)} for table in study_tables.TABLES
    }
    for index, settings in enumerate(block.runs()):
        experiment = rc.Experiment(**settings)
        entry = runner.entry(experiment, verify=index in sample)
        checks = (entry.checks or []) if index in sample else []
        name = {"sweep": block.sweep, "run_key": experiment.key}
        errors = [check["relative_error"] for check in checks if check["relative_error"] is not None]
        row = {**name, **entry.row, "engine": engine, "verified_error": max(errors, default=None)}
        _extend(found["runs"], [row])
        _extend(found["checks"], [{**check, **name} for check in checks])
        _extend(found["timings"], [{"verify_seconds": None, **entry.timing, **name}])
        for table, columns in (("traces", entry.traces), ("updates", entry.updates)):
            rows = len(columns["update"])
            named: dict[str, Any] = {**{key: [value] * rows for key, value in name.items()}, **columns}
            for column, values in named.items():
                found[table][column].extend(values)
    return found


def _sample(block: Block, size: int) -> list[int]:
    """Which runs are verified: others in every block, the same ones every time, and a larger sample holds a smaller one."""
    rng = np.random.default_rng(zlib.crc32(f"{block.sweep}/{block.name}".encode()))
    return [int(index) for index in rng.permutation(len(block))[:size]]


def _extend(columns: Columns, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        for name, value in row.items():
            columns[name].append(value)


def identity(device: str) -> str:
    """What besides a run's settings and sequences decides its entry: the code, the libraries and the device."""
    parts = (engine_digest(), script_digest("run_block"), version("numpy"), version("torch"), device_name(device))
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def main(snakemake: Any) -> None:
    p = snakemake.params
    if engine_digest() != p.engine:
        raise RuntimeError("rnn_core was edited while the study ran; run snakemake again")
    device = resolve_device(p.device)
    sequences = {Path(file).stem: file for file in snakemake.input.get("sequences", [])}
    with threadpool_limits(1):  # the same bits at any --cores, and no more threads than the job was given
        if device == "cuda":
            import torch

            torch.set_num_threads(1)
        runner = BlockRunner(Cache(p.cache, identity(device)), sequences, device, p.tolerance, p.memory_mb)
        found = run_block(Block(**p.block), runner, p.engine, p.checked)
    provenance = {"block": p.block, "engine": p.engine, "device": device_name(device)}
    for table in study_tables.TABLES:
        study_tables.write(study_tables.build(table, found[table]), snakemake.output[table], provenance)


if __name__ == "__main__":
    with plainly(CheckFailed, ValueError, RuntimeError):
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
