"""The spectra of a block's runs, where a config asks for them. Finished ones come from a cache of their own.

They belong to a network as it was drawn. So runs that differ in their training alone share them, and a study that asks for them later
keeps all of its finished runs.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

import rnn_core as rc
from rnn_core.experiment import SPECTRA, Request, axes, measure_spectra
from study.files.cache import Cache, Entry

NOTHING: dict[str, Any] = {column.name: None for column in SPECTRA}
# Settings that a network has no part in before its first update.
_OF_TRAINING: dict[str, Any] = {f.name: f.default for f in fields(rc.Experiment) if axes()[f.name].training}


class SpectraOfRuns:
    """The spectra of runs, by their experiment.

    Args:
        request: what is asked for.
        cache: finished ones, of the same request.
        digests: by task, of the sequences of those that are not generated.
        memory_budget: in bytes, for the states of a batch; None is no limit. It changes no number.
    """

    def __init__(
        self, request: Request, cache: Cache, digests: Mapping[str, str], memory_budget: int | None = None
    ) -> None:
        self.request, self.cache, self.digests, self.memory_budget = request, cache, digests, memory_budget
        self._data: Mapping[str, rc.Sequences] = {}

    def finish(self, experiments: Collection[rc.Experiment], data: Mapping[str, rc.Sequences]) -> None:
        """Measure what is not in the cache, and store it as soon as it is ready."""
        self._data = data
        networks = {self._name(network): network for network in map(_untrained, experiments)}
        self.cache.look_for(set(networks))
        with self.cache.joined():
            for name, network in networks.items():
                if self.cache.get(name) is None:
                    self.cache.put(name, self._measured(network))

    def row(self, experiment: rc.Experiment, growth_rate: float) -> dict[str, Any]:
        """The run's columns of ``runs``."""
        row = self._entry(experiment).row
        return {**row, "growth_minus_lyapunov": _difference(growth_rate, row["lyapunov_max"])}

    def table(self, experiment: rc.Experiment) -> dict[str, np.ndarray]:
        """The run's rows of ``spectra``."""
        return self._entry(experiment).traces

    def _entry(self, experiment: rc.Experiment) -> Entry:
        network = _untrained(experiment)
        return self.cache.get(self._name(network)) or self._measured(network)

    def _measured(self, network: rc.Experiment) -> Entry:
        spectra = measure_spectra(network, self.request, self._data.get(network.task), self.memory_budget)
        return Entry(spectra.table, {}, spectra.summary)

    def _name(self, network: rc.Experiment) -> str:
        return network.key_with(self.digests.get(network.task))


def mark_of(request: Request) -> str:
    """What tells the cache of one request from that of another, as part of a folder's name."""
    lags = "_".join(map(str, request.singular_values))
    return f"-spectra-{request.exponents}-{lags}-{request.samples}"


def _untrained(experiment: rc.Experiment) -> rc.Experiment:
    return replace(experiment, **_OF_TRAINING)


def _difference(growth_rate: float, largest: float) -> float:
    """nan where both are the same infinity."""
    return math.nan if growth_rate == largest and math.isinf(largest) else growth_rate - largest
