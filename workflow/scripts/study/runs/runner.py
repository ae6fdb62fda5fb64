"""Making the runs of a block. Finished ones come from the cache; each of the others goes there as soon as it is ready."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import rnn_core as rc
from rnn_core.arrays import resolve_device
from rnn_core.compiled import made_on
from rnn_core.experiment import as_one_layer
from study.data import task_file
from study.files.cache import Cache, Entry
from study.own_cells import loading
from study.plan import Block
from study.provenance import engine_digest, script_digest
from study.runs import gate
from study.runs.spectra import NOTHING, SpectraOfRuns
from study.screen.progress import Record
from study.tables.streams import BlockWriter


class BlockRunner:
    """Makes the runs of a block, or takes them from the cache.

    Args:
        cache: finished runs.
        sequences: task -> file, for tasks that are not generated.
        memory_mb: MiB that the states of a run may take; None is no limit. It changes no row.
        traces: what traces hold besides, as the config asks for it. It is part of the cache's identity.
    """

    def __init__(
        self,
        cache: Cache,
        sequences: dict[str, str],
        device: str,
        memory_mb: float | None = None,
        traces: Collection[str] = (),
    ) -> None:
        self.cache, self.device, self.traces = cache, device, traces
        self.memory_budget = None if memory_mb is None else int(memory_mb * 2**20)
        self.data = {task: rc.Sequences(**task_file.load(file)) for task, file in sequences.items()}
        self._names: dict[rc.Experiment, str] = {}
        self.digests = {task: data.digest for task, data in self.data.items()}

    def finish(self, experiments: Collection[rc.Experiment], record: Record) -> None:
        """Compute the runs that are not in the cache, and store each as soon as it is ready."""
        self.cache.look_for(set(map(self.name, experiments)))
        missing = [e for e in experiments if self.cache.get(self.name(e)) is None]
        record.finished = record.reused = record.runs - len(missing)
        record.write()
        before = time.perf_counter()
        with self.cache.joined():
            for experiment, entry in self.compute(missing):
                record.ran(time.perf_counter() - before)
                self.cache.put(self.name(experiment), entry)
                before = time.perf_counter()

    def compute(self, experiments: list[rc.Experiment]) -> Iterator[tuple[rc.Experiment, Entry]]:
        """Each run with its entry, in an order that shares work. Its time is what it added to the runs before it."""
        start = time.perf_counter()
        made = rc.run_many(experiments, self.data, self.device, memory_budget=self.memory_budget, traces=self.traces)
        for experiment, result in made:
            yield experiment, self.entry(experiment, result, time.perf_counter() - start)
            start = time.perf_counter()

    def entry(self, experiment: rc.Experiment, result: rc.Result, seconds: float) -> Entry:
        """A result as it is kept."""
        row = {**vars(experiment), **result.summary, "data": self.digests.get(experiment.task), "device": self.device}
        return Entry(result.traces, result.updates, row, timing={"seconds": seconds}, layers=result.layers)

    def finished(self, experiment: rc.Experiment) -> Entry:
        """The entry of a run, computed again if its file was lost or damaged meanwhile."""
        entry = self.cache.get(self.name(experiment))
        return entry if entry is not None else next(self.compute([experiment]))[1]

    def name(self, experiment: rc.Experiment) -> str:
        """The run's key, in the cache and in every table: a digest of its settings and of the sequences it reads."""
        if experiment not in self._names:  # a digest over all settings takes as long as to write the run
            self._names[experiment] = experiment.key_with(self.digests.get(experiment.task))
        return self._names[experiment]


def finish(
    block: Block,
    runner: BlockRunner,
    record: Record,
    files: Mapping[str, str | Path],
    provenance: Mapping[str, Any],
    spectra: SpectraOfRuns | None = None,
) -> None:
    """Finish a block's runs and write its tables, in the order of the run keys and in bounded memory."""
    by_name = {runner.name(experiment): experiment for experiment in (rc.Experiment(**run) for run in block.runs())}
    record.runs = len(by_name)
    runner.finish(by_name.values(), record)
    if spectra is not None:
        spectra.finish(by_name.values(), runner.data)
    with BlockWriter(block.sweep, files, provenance) as writer:
        for key in sorted(by_name):
            entry = runner.finished(by_name[key])
            writer.tables["traces"].add(key, entry.traces)
            writer.tables["updates"].add(key, entry.updates)
            if "layers" in writer.tables:
                writer.tables["layers"].add(key, entry.layers or as_one_layer(entry.traces))
            row = {**entry.row, **NOTHING, "engine": provenance["engine"], "dynamic_rate": None, "verified_error": None}
            if spectra is not None:
                row |= spectra.row(by_name[key], entry.row["growth_rate"])
                writer.tables["spectra"].add(key, spectra.table(by_name[key]))
            writer.tables["runs"].add(key, _as_columns(row))
            writer.tables["timings"].add(key, _as_columns({**entry.timing, "verify_seconds": None}))


def _as_columns(row: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {name: [value] for name, value in row.items()}


def identity(device: str, traces: Collection[str] = ()) -> str:
    """A digest of what decides an entry besides the run's settings and sequences: code, libraries, device, kernel, what is recorded."""
    ingredients = (
        *sorted(traces),
        engine_digest(),
        script_digest("run_block"),
        version("numpy"),
        version("scipy"),
        version("torch"),
        made_on(device),
    )
    return hashlib.sha256("|".join(ingredients).encode()).hexdigest()[:16]


def prepared(snakemake: Any, own: str, cache: str = "") -> BlockRunner:
    """A runner as a rule's params and input describe it.

    Args:
        own: the folder of the job's own files in the cache.
        cache: what tells the identity of its entries from that of a block's.

    Raises:
        CheckFailed: the engine check of this call has failed already.
        RuntimeError: the engine is no longer the one that the study was planned with.
    """
    p = snakemake.params
    gate.require_not_refused(p.refused)
    if engine_digest() != p.engine:
        raise RuntimeError("rnn_core was edited while the study ran; run snakemake again")
    device = resolve_device(p.device)
    if device == "cuda":
        import torch

        torch.set_num_threads(1)
    loading.register_all(snakemake.input.get("cells", []))
    sequences = {Path(file).stem: file for file in snakemake.input.get("sequences", [])}
    traces = getattr(p, "traces", ())  # a verification records nothing besides
    return BlockRunner(Cache(p.cache, identity(device, traces) + cache, own), sequences, device, p.memory_mb, traces)
