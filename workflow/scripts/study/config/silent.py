"""Figures that will show nothing, as far as the config tells: a reader learns of it before hours of runs, not after them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from rnn_core.tasks import GENERATED
from rnn_core.tasks.generated import GeneratedTask
from study.data.messages import listed
from study.plan import as_list
from study.settings import UNEQUAL, axis_defaults, described_axes, steps_of
from study.tables.columns import ASKED_FOR, has_several_layers

Grid = dict[str, list[Any]]  # all axes of a sweep, each as a list
OF_RECORDS = ("trace_every", "record_every", "validate_every", "held_out_sequences")  # what no figure compares
# What a figure needs, in words, and whether it is there.
Needs = tuple[str, Callable[[Mapping[str, Any], list[Grid]], bool]]


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
    """Whether some task is trained in more than one way, in one sweep or several. Lengths that make other tasks of it are none."""
    trained = [grid for grid in grids if _trains(grid)]
    for task in {task for grid in trained for task in grid["task"]}:
        own = [grid for grid in trained if task in grid["task"]]
        values = {axis: {value for grid in own for value in grid[axis]} for axis in own[0]}
        values["updates"].discard(0)
        apart = {"task", *OF_RECORDS, *(["sequence_length"] if _unequal(task, values["sequence_length"]) else [])}
        if any(len(each) > 1 for axis, each in values.items() if axis not in apart):
            return True
    return False


def _unequal(task: str, lengths: Collection[int]) -> bool:
    """Whether lengths differ in what is achieved without learning, as lags of copy memory do. Of a task without an exact baseline it is not known here."""
    kind = GENERATED.get(task)
    if kind is None or kind.baseline is GeneratedTask.baseline:
        return False
    tasks = [kind(0, length, 1, kind.default_input_size, kind.default_loss_at) for length in lengths]
    classified = kind.loss == "softmax_cross_entropy"
    baselines = [each.baseline_accuracy if classified else each.baseline for each in tasks]
    return max(baselines) - min(baselines) > UNEQUAL * max(baselines)


def _some_succeed(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    return any(_trains(grid) and any(share is not None for share in grid["success_below"]) for grid in grids)


def _with_way_back(grids: list[Grid]) -> list[Grid]:
    """A grid for each task of each sweep, with the lengths of two steps at least. Of the user's own sequences a length says no more than how many are taken."""
    every = [
        {**grid, "task": [task], "sequence_length": [T for T in grid["sequence_length"] if steps_of(task, T) > 1]}
        for grid in grids
        for task in grid["task"]
    ]
    return [grid for grid in every if grid["sequence_length"]]


def _way_back(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    return bool(_with_way_back(grids))


def _loss_at_last(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    """Of the sweeps that show starts: those that train nothing, if there are any."""
    back = _with_way_back(grids)
    untrained = [grid for grid in back if 0 in grid["updates"]]
    return any(_is_last(grid["task"][0], loss_at) for grid in untrained or back for loss_at in grid["loss_at"])


def _is_last(task: str, loss_at: str | None) -> bool:
    """The user's own sequences say where their loss is; they are not read here."""
    return task not in GENERATED or (loss_at or GENERATED[task].default_loss_at) == "last"


def _several_lengths(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    """Whether a map of one task has two columns; sweeps may share it."""
    by_task: dict[str, set[int]] = {}
    for grid in _with_way_back(grids):
        by_task.setdefault(grid["task"][0], set()).update(grid["sequence_length"])
    return any(len(lengths) > 1 for lengths in by_task.values())


def _several_rows(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    """Whether some sweep is set out along a number beside its lengths."""
    axes = [
        name
        for name, axis in described_axes().items()
        if axis["kind"] in ("number", "integer") and not axis["training"]
    ]
    rows = [axis for axis in axes if axis in axis_defaults() and axis not in ("sequence_length", *OF_RECORDS)]
    return any(len({value for value in grid[axis] if value is not None}) > 1 for grid in grids for axis in rows)


def _several_seeds(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    return any(described["seeds"] > 1 for described in config["sweeps"].values())


def _two_radii(config: Mapping[str, Any], grids: list[Grid]) -> bool:
    radii = {radius for grid in grids for radius in grid["spectral_radius"] if radius is not None}
    return len([radius for radius in radii if radius < 1.0]) > 1


def _traces(name: str) -> Needs:
    return f"traces: [{name}]", lambda config, grids: name in config.get("traces", [])


def _key(name: str) -> Needs:
    return f"the key {name}", lambda config, grids: name in config


TRAINING: Needs = ("a sweep with updates above 0", _some_train)
WAY_BACK: Needs = ("a sweep with a sequence_length above 1", _way_back)
LAST: Needs = ("a sweep with its loss at the last step", _loss_at_last)
NEEDS: dict[str, tuple[Needs, ...]] = {
    **{key: (_key(key),) for key in ASKED_FOR.values()},
    "depth_time": (("a sweep with layers above 1", lambda config, grids: has_several_layers(config)), WAY_BACK, LAST),
    **dict.fromkeys(("training_results", "learning_curves", "training_traces"), (TRAINING,)),
    "clipping_norms": (("a sweep with updates above 0 that clips", _some_clip),),
    "remedies": (TRAINING, ("two ways of training one task", _two_ways)),
    "success_rate": (("a sweep with updates above 0 and success_below", _some_succeed),),
    "gradient_norm_by_step": (WAY_BACK, LAST),
    "growth_rate": (WAY_BACK,),
    "seed_distribution": (WAY_BACK, ("a sweep with seeds above 1", _several_seeds)),
    "radius_length_map": (
        WAY_BACK,
        ("several values of sequence_length above 1", _several_lengths),
        ("a sweep with several values of spectral_radius, or of another number", _several_rows),
    ),
    "entry_sizes": (_traces("entry_quantiles"), WAY_BACK),
    "weight_gradient_by_step": (_traces("weight_gradient"), WAY_BACK),
    "memory_curse": (_traces("parameter_sensitivity"), WAY_BACK, ("two values of spectral_radius below 1", _two_radii)),
}
