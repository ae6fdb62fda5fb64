"""Run one block: every run of it one after the other, a sample of them verified against PyTorch, into one file a table."""

import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import rnn_core as rc
import study_data
import study_tables
from oracle_checks import CheckFailed, Verifier
from rnn_core.arrays import device_name, resolve_device
from study_plan import Block

Columns = dict[str, list[Any]]


def run_block(
    block: Block, engine: str, sequences: dict[str, str], device: str, tolerance: dict[str, float], checked: int
) -> dict[str, Columns]:
    """All tables' columns for one block.

    Args:
        engine: digest of the engine's sources.
        sequences: task -> file, for tasks that are not generated.
        checked: how many runs are verified, evenly spread over the block.

    Raises:
        CheckFailed: a verified run disagrees with PyTorch by more than the tolerance of its dtype.
    """
    data = {task: rc.Sequences(**study_data.load(file)) for task, file in sequences.items()}
    sample = set(np.linspace(0, len(block) - 1, min(checked, len(block))).round().astype(int).tolist())
    found: dict[str, Columns] = {table: defaultdict(list) for table in study_tables.TABLES}
    for index, settings in enumerate(block.runs()):
        experiment = rc.Experiment(**settings)
        verifier = Verifier(block.sweep, device, tolerance[experiment.dtype]) if index in sample else None
        start = time.perf_counter()
        result = rc.run(experiment, data.get(experiment.task), device, watch=verifier)
        seconds = time.perf_counter() - start
        row: dict[str, Any] = {"verified_error": None}
        timing: dict[str, Any] = {"seconds": seconds, "verify_seconds": None}
        if verifier is not None:
            for check in verifier.rows:
                _extend(found["checks"], {"regime": result.summary["regime"], **check})
            row["verified_error"] = verifier.worst
            timing = {"seconds": seconds - verifier.seconds, "verify_seconds": verifier.seconds}
        _add_run(found, block.sweep, experiment, result)
        _extend(found["runs"], {**row, "device": device, "engine": engine})
        _extend(found["timings"], {"sweep": block.sweep, "run_key": experiment.key, **timing})
    return found


def _add_run(found: dict[str, Columns], sweep: str, experiment: rc.Experiment, result: rc.Result) -> None:
    _extend(found["runs"], {**asdict(experiment), **result.summary, "sweep": sweep, "run_key": experiment.key})
    for table, columns in (("traces", result.traces), ("updates", result.updates)):
        rows = len(columns["update"])
        named: dict[str, Any] = {"sweep": [sweep] * rows, "run_key": [experiment.key] * rows, **columns}
        for name, values in named.items():
            found[table][name].extend(values)


def _extend(columns: Columns, row: dict[str, Any]) -> None:
    for name, value in row.items():
        columns[name].append(value)


def main(snakemake: Any) -> None:
    p = snakemake.params
    device = resolve_device(p.device)
    sequences = {Path(file).stem: file for file in snakemake.input.get("sequences", [])}
    with threadpool_limits(1):  # the same bits at any --cores, and no more threads than the job was given
        if device == "cuda":
            import torch

            torch.set_num_threads(1)
        found = run_block(Block(**p.block), p.engine, sequences, device, p.tolerance, p.checked)
    provenance = {"block": p.block, "engine": p.engine, "device": device_name(device)}
    for table in study_tables.TABLES:
        columns = found[table] or {c.name: [] for c in study_tables.columns(table)}
        study_tables.write(study_tables.build(table, columns), snakemake.output[table], provenance)


if __name__ == "__main__":
    try:
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
    except (CheckFailed, ValueError, RuntimeError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
