"""Figures that will show nothing, as far as the config tells: a reader learns of it before hours of runs, not after them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from study.data.messages import listed
from study.plan import as_list
from study.settings import axis_defaults, steps_of
from study.tables.columns import ASKED_FOR, has_several_layers

Grid = dict[str, list[Any]]  # all axes of a sweep, each as a list
Needs = tuple[
    str, Callable[[Mapping[str, Any], list[Grid]], bool]
]  # what a figure needs, in words, and whether it is there


def silent_figures(config: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each thing that figures of a canonical config lack, with all that show nothing for want of it."""
    grids = [
        {axis: as_list(described["grid"].get(axis, default)) for axis, default in axis_defaults().items()}
        for described in config["sweeps"].values()
    ]
    by_lack: dict[str, list[str]] = {}
    for figure in config["figures"]:
        lacks = [what for what, is_there in NEEDS.get(figure, ()) if not is_there(config, grids)]
        if lacks:  # the first is enough to say
            by_lack.setdefault(lacks[0], []).append(figure)
    for what, figures in by_lack.items():
        yield f"figures: {listed(figures)} {'shows' if len(figures) == 1 else 'show'} nothing without {what}"


def _trains(grid: Grid) -> bool:
    return any(updates > 0 for updates in grid["updates"])


def _some_train(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    return any(map(_trains, grids))


def _some_clip(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    return any(_trains(grid) and set(grid["clipping"]) != {"none"} for grid in grids)


def _two_ways(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    """Whether there is more than one way of training: a sweep with several settings, or several sweeps."""
    return sum(math.prod(map(len, grid.values())) for grid in grids if _trains(grid)) > 1


def _some_succeed(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    return any(_trains(grid) and any(share is not None for share in grid["success_below"]) for grid in grids)


def _way_back(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    """Whether some sequence has two steps. Of the user's own sequences the key says no more than how many are taken."""
    return any(
        steps_of(task, length) > 1 for grid in grids for task in grid["task"] for length in grid["sequence_length"]
    )


def _several_lengths(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    return any(len(grid["sequence_length"]) > 1 for grid in grids)


def _several_seeds(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    return any(described["seeds"] > 1 for described in config["sweeps"].values())


def _two_radii(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    radii = {radius for grid in grids for radius in grid["spectral_radius"] if radius is not None}
    return len([radius for radius in radii if radius <= 1.0]) > 1


def _traces(name: str) -> Needs:
    return f"traces: [{name}]", lambda config, grids: name in config.get("traces", [])


def _key(name: str) -> Needs:
    return f"the key {name}", lambda config, grids: name in config


TRAINING: Needs = ("a sweep with updates above 0", _some_train)
WAY_BACK: Needs = ("a sweep with a sequence_length above 1", _way_back)
NEEDS: dict[str, tuple[Needs, ...]] = {
    **{key: (_key(key),) for key in ASKED_FOR.values()},
    "depth_time": (("a sweep with layers above 1", lambda config, grids: has_several_layers(config)),),
    **dict.fromkeys(("training_results", "learning_curves", "training_traces"), (TRAINING,)),
    "clipping_norms": (("a sweep with updates above 0 that clips", _some_clip),),
    "remedies": (TRAINING, ("two ways of training", _two_ways)),
    "success_rate": (("a sweep with updates above 0 and success_below", _some_succeed),),
    **dict.fromkeys(("gradient_norm_by_step", "growth_rate"), (WAY_BACK,)),
    "seed_distribution": (WAY_BACK, ("a sweep with seeds above 1", _several_seeds)),
    "radius_length_map": (WAY_BACK, ("a sweep with several values of sequence_length", _several_lengths)),
    "entry_sizes": (_traces("entry_quantiles"), WAY_BACK),
    "weight_gradient_by_step": (_traces("weight_gradient"), WAY_BACK),
    "memory_curse": (_traces("parameter_sensitivity"), WAY_BACK, ("two values of spectral_radius below 1", _two_radii)),
}
