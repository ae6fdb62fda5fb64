"""From a config to blocks of runs. The plan is a function of the config alone, whatever lies on disk.

A block is one job: all runs of a sweep that share the values of the axes named in ``jobs_over``. A block is named after those
values, so a grown axis adds blocks and leaves the files of the others as they are.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rnn_core.experiment import axes
from rnn_core.tasks import PACKAGED

Settings = dict[str, Any]

LONGEST_NAME = 200  # bytes of a folder's name; file systems allow 255, and Snakemake adds to it


@dataclass(frozen=True)
class Block:
    """One job of a sweep.

    Attributes:
        sweep: the sweep that it belongs to.
        name: the shared values as part of a path: ``activation=tanh,spectral_radius=0.9``.
        shared: axis -> value, for the axes in ``jobs_over``.
        grid: axis -> values, for all other axes.
        seeds: how many seeds, counted from 0.
    """

    sweep: str
    name: str
    shared: Settings
    grid: dict[str, list[Any]]
    seeds: int

    def runs(self) -> Iterator[Settings]:
        """The settings of every run, in the grid's order, seeds innermost."""
        for values in itertools.product(*self.grid.values(), range(self.seeds)):
            yield {**self.shared, **dict(zip([*self.grid, "seed"], values, strict=True))}

    def __len__(self) -> int:
        size = self.seeds
        for values in self.grid.values():
            size *= len(values)
        return size


def shared_runs(config: Mapping[str, Any], defaults: Settings) -> dict[tuple[str, str], int]:
    """(sweep, other sweep) -> how many runs both have, if any. Such a run is computed once and stands in both."""
    sweeps = config["sweeps"]
    grids = {
        sweep: {axis: set(as_list(described["grid"].get(axis, default))) for axis, default in defaults.items()}
        for sweep, described in sweeps.items()
    }
    shared = {}
    for first, second in itertools.combinations(sweeps, 2):
        count = min(sweeps[first]["seeds"], sweeps[second]["seeds"])
        for axis in defaults.keys() - {"seed"}:
            count *= len(grids[first][axis] & grids[second][axis])
        if count:
            shared[first, second] = count
    return shared


def as_list(value: Any) -> list[Any]:
    """A grid's entry as a list. A single value is a list of one."""
    return list(value) if isinstance(value, list) else [value]


def checked_grid(grid: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The part of a sweep's grid that the engine check takes. Every setting says itself which of its values that are."""
    return {axis: _checked_values(as_list(given), axes()[axis].checked) for axis, given in grid.items()}


def _checked_values(values: list[Any], checked: str) -> list[Any]:
    """``all`` values, the ``first``, or both ``ends``; a value that is not set belongs to the ends."""
    if checked != "ends":
        return values if checked == "all" else values[:1]
    numbers = [value for value in values if value is not None]
    ends = sorted({min(numbers), max(numbers)}) if numbers else []
    return [*ends, None] if None in values else ends


def blocks(config: Mapping[str, Any]) -> dict[tuple[str, str], Block]:
    """All blocks of a study by (sweep, name), in the config's order."""
    planned: dict[tuple[str, str], Block] = {}
    for sweep, described in config["sweeps"].items():
        grid = {axis: as_list(values) for axis, values in described["grid"].items()}
        outer = described.get("jobs_over", [])
        inner = {axis: values for axis, values in grid.items() if axis not in outer}
        for values in itertools.product(*(grid[axis] for axis in outer)):
            shared = dict(zip(outer, values, strict=True))
            block = Block(sweep, block_name(shared), shared, inner, described["seeds"])
            assert (sweep, block.name) not in planned, f"two blocks of {sweep} are called {block.name}"
            planned[sweep, block.name] = block
    return planned


def size_of(sweep: Mapping[str, Any]) -> int:
    """How many runs a sweep has, without making them."""
    return int(sweep["seeds"]) * math.prod(len(as_list(values)) for values in sweep["grid"].values())


def count(config: Mapping[str, Any]) -> tuple[int, int]:
    """(runs, blocks) of a study, without making them."""
    runs = jobs = 0
    for described in config["sweeps"].values():
        sizes = {axis: len(as_list(values)) for axis, values in described["grid"].items()}
        runs += size_of(described)
        jobs += math.prod(sizes[axis] for axis in described.get("jobs_over", []))
    return runs, jobs


def block_name(shared: Settings) -> str:
    """Values as a file name. Not every file system allows ``:``. A long name is cut and ends in a digest of all of it."""
    name = ",".join(f"{axis}={str(value).replace(':', '-')}" for axis, value in shared.items()) or "all"
    if len(name) <= LONGEST_NAME:
        return name
    return f"{name[: LONGEST_NAME - 17]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def values_of(config: Mapping[str, Any], axis: str) -> list[Any]:
    """All values that any sweep gives an axis, in order of appearance."""
    values: dict[Any, None] = {}
    for described in config["sweeps"].values():
        values |= dict.fromkeys(as_list(described["grid"][axis]) if axis in described["grid"] else [])
    return list(values)


def tasks_from_data(config: Mapping[str, Any]) -> list[str]:
    """Tasks that need sequences: packaged ones, and those that the config declares under ``sequences``."""
    return [task for task in values_of(config, "task") if task in PACKAGED or task in config.get("sequences", {})]
