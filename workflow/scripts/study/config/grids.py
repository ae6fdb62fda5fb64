"""What the schema cannot say of a sweep's grid: whether its values exist, and whether they go together."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from rnn_core.cells import CELLS
from rnn_core.cells.base import NO_MATRIX
from rnn_core.experiment import OF_MATRIX, ONE_RECURRENCE, RANGES, WITHOUT_MATRIX, axes
from rnn_core.flossing import COVERED as FLOSSED_CELLS
from rnn_core.flossing import ONE_LAYER as ONE_FLOSSED_LAYER
from rnn_core.flossing import ONLY as ONLY_FLOSSED
from rnn_core.initializers import OF_OWN_SIZE, SMALLEST_SIZE
from rnn_core.regularizers import COVERED, ONE_LAYER, ONLY
from rnn_core.tasks import GENERATED, PACKAGED, GeneratedTask
from rnn_core.tasks.sequences import DIGIT_STEPS, DIGITS_TO_TRAIN_ON
from study.config.mistakes import Problem, hint
from study.data.messages import listed
from study.own_cells.described import expanded, name_of, own_cells
from study.plan import as_list
from study.settings import axis_defaults, described_axes

KeyPath = tuple[Any, ...]
_SWEPT_TEXT = re.compile(r"[A-Za-z0-9_.+-]{1,64}")


def not_finite(config: Any, path: KeyPath = ()) -> Iterator[Problem]:
    """Numbers that are inf or nan. YAML reads both as numbers."""
    if isinstance(config, float) and not math.isfinite(config):
        yield path, f"{config!r} is not allowed; it must be finite"
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from not_finite(value, (*path, key))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from not_finite(value, (*path, index))


def grid_mistakes(config: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong with the sweeps of a canonical config."""
    built_in = [*GENERATED, *PACKAGED]
    for name in config.get("sequences", {}):
        if name in built_in:
            yield ("sequences", name), "this name is taken by a built-in task; choose another"
    own = own_cells(config)
    for name in own:
        if name in CELLS:
            yield ("cells", name), "this name is taken by a built-in cell; choose another"
        yield from _swept_options(("cells", name, "options"), own[name].get("options", {}))
    known_tasks = [*built_in, *config.get("sequences", {})]
    for sweep, described in config["sweeps"].items():
        yield from _jobs_over(("sweeps", sweep, "jobs_over"), described)
        path, grid = ("sweeps", sweep, "grid"), described["grid"]
        values = {axis: as_list(grid.get(axis, default)) for axis, default in axis_defaults().items()}
        yield from _tasks(path, grid, values, known_tasks)
        yield from _known_cells(path, grid, values["cell"], own)
        yield from _own_cells(path, grid, values["cell"], own)
        yield from _cells(path, grid, values["cell"])
        yield from _without_matrix(path, grid, values["cell"])
        yield from _initializers(path, grid, values)
        yield from _correlated(path, grid, values)
        yield from _omega(path, values)
        yield from _flossing(path, values)
        yield from _layers(path, values, config)
        yield from _rules((*path, "clipping"), values["clipping"])
        yield from _formats(path, grid, values["dtype"])
        yield from _sizes(path, values)
        yield from _scales(path, grid, values)


def _jobs_over(path: KeyPath, described: Mapping[str, Any]) -> Iterator[Problem]:
    """Every axis of ``jobs_over`` must be an axis of the sweep."""
    for index, axis in enumerate(described.get("jobs_over", [])):
        if axis not in described["grid"]:
            yield (*path, index), f"{axis!r} is not an axis of this sweep; {hint(axis, described['grid'])}"


def names_not_known(config: Mapping[str, Any], refused: set[Any]) -> Iterator[Problem]:
    """Cells and tasks that a config with other mistakes does not have. They are told with these, so that none comes up later.

    Args:
        refused: keys at the top level in which the schema found a mistake. Which cells and tasks there are is not known of these.
    """
    if refused & {"cells", "sequences"}:
        return
    own, sequences = own_cells(config), config.get("sequences", {})
    for sweep, described in _mapping(config.get("sweeps")).items():
        grid = _mapping(_mapping(described).get("grid"))
        given = {axis: [each for each in as_list(grid.get(axis)) if isinstance(each, str)] for axis in ("cell", "task")}
        path = ("sweeps", sweep, "grid")
        yield from _known_cells(path, grid, given["cell"], own)
        yield from _known_tasks(path, grid, given["task"], [*GENERATED, *PACKAGED, *sequences])


def _mapping(given: object) -> Mapping[str, Any]:
    """What should be a mapping; nothing where it is none."""
    return given if isinstance(given, Mapping) else {}


def _known_tasks(path: KeyPath, grid: Mapping[str, Any], tasks: list[str], known: list[str]) -> Iterator[Problem]:
    """Every task must be a generated one, a packaged one, or one of the config's own."""
    for task in tasks:
        if task not in known:
            yield (
                _place(path, grid, "task", task),
                f"{task!r} is not known; {hint(task, known, 'task', 'a name under sequences')}",
            )


def _place(path: KeyPath, grid: Mapping[str, Any], axis: str, value: object) -> KeyPath:
    """Where a value of an axis stands: in a list its index, too."""
    given = grid.get(axis)
    return (*path, axis, given.index(value)) if isinstance(given, list) and value in given else (*path, axis)


def _tasks(
    path: KeyPath, grid: Mapping[str, Any], values: Mapping[str, list[Any]], known_tasks: list[str]
) -> Iterator[Problem]:
    """Every task must be known, and the settings must fit it."""
    yield from _known_tasks(path, grid, values["task"], known_tasks)
    for task in values["task"]:
        if task in PACKAGED:
            yield from _digits(path, grid, values["sequence_length"])
        if task in GENERATED:
            yield from _generated(path, task, values)
        elif any(value is not None for value in values["held_out_sequences"]):
            yield (
                (*path, "held_out_sequences"),
                f"the sequences of {task!r} are given, and so is which are held out; leave it out",
            )


def _generated(path: KeyPath, task: str, values: Mapping[str, list[Any]]) -> Iterator[Problem]:
    """What the task decides itself, how short a sequence may be, and whether its answers are right or wrong."""
    kind = GENERATED[task]
    mistakes: dict[str, str] = {}
    points = itertools.product(*(values[axis] for axis in ("sequence_length", "input_size", "loss_at")))
    for length, size, loss_at in points:
        mistakes |= kind.mistakes(length, size or kind.default_input_size, loss_at or kind.default_loss_at)
    for axis, mistake in mistakes.items():
        yield (*path, axis), f"{mistake.removeprefix(f'{axis}: ')} (task {task!r})"
    if not _counts_wrong(kind) and any(value is not None for value in values["success_below"]):
        counting = [*(name for name, each in GENERATED.items() if _counts_wrong(each)), *PACKAGED]
        who = f"{', '.join(counting)} and your own sequences of classes"
        yield (*path, "success_below"), f"task {task!r} does not say which answers are wrong; {who} do"


def _counts_wrong(kind: type[GeneratedTask]) -> bool:
    return kind(0, kind.shortest, 1, kind.default_input_size, kind.default_loss_at).counts_wrong


def _digits(path: KeyPath, grid: Mapping[str, Any], lengths: list[int]) -> Iterator[Problem]:
    """The limits of the digits: one pixel a step, one label an image, and as many images as there are."""
    if max(lengths) > DIGIT_STEPS:
        default = "" if "sequence_length" in grid else f", which is the default; write sequence_length: {DIGIT_STEPS}"
        yield (*path, "sequence_length"), f"{max(lengths)} is too long{default}; a digit has {DIGIT_STEPS} pixels"
    if max(as_list(grid.get("batch_size", 1))) > DIGITS_TO_TRAIN_ON:
        yield (*path, "batch_size"), f"there are {DIGITS_TO_TRAIN_ON} digits to train on"
    if not {1, None} >= set(as_list(grid.get("input_size", 1))):
        yield (*path, "input_size"), "a digit has 1 input a step; leave input_size out"
    if "every" in as_list(grid.get("loss_at", "last")):
        yield (*path, "loss_at"), "a digit has one label, at the last step; leave loss_at out"


def _swept_options(path: KeyPath, options: Mapping[str, Any]) -> Iterator[Problem]:
    """A value that is swept stands in names of files and runs."""
    for option, values in options.items():
        for index, value in enumerate(values if isinstance(values, list) else []):
            if isinstance(value, str) and not _SWEPT_TEXT.fullmatch(value):
                yield (
                    (*path, option, index),
                    f"{value!r} cannot be swept; use letters, digits, _, -, + and ., at most 64 of them",
                )


def _known_cells(path: KeyPath, grid: Mapping[str, Any], cells: list[str], own: Mapping[str, Any]) -> Iterator[Problem]:
    """Every cell must be a built-in one or one of the config's own, in a variant that it has."""
    known = list(dict.fromkeys([*CELLS, *own, *expanded(own, {"cells": own})]))  # a name alone is all of its variants
    for cell in cells:
        if cell not in known:
            yield (
                _place(path, grid, "cell", cell),
                f"{cell!r} is not known; {hint(cell, known, 'cell', 'a name under cells')}",
            )


def _own_cells(path: KeyPath, grid: Mapping[str, Any], cells: list[str], own: Mapping[str, Any]) -> Iterator[Problem]:
    """A setting that only built-in cells have must not stand beside a cell of the user's own."""
    mine = list(dict.fromkeys(name_of(cell) for cell in cells if name_of(cell) in own))
    others = [cell for cell in cells if name_of(cell) not in own]
    for axis in grid if mine else ():
        if why := axes()[axis].built_in:
            apart = f"; give {listed(mine)} a sweep of its own" if others else "; leave it out"
            yield (*path, axis), f"it does not apply to your own cell {listed(mine)}: {why}{apart}"


def _cells(path: KeyPath, grid: Mapping[str, Any], cells: list[str]) -> Iterator[Problem]:
    """A setting of some cells must not stand beside another cell."""
    for axis, values in grid.items():
        owners = described_axes()[axis]["cells"]
        others = [cell for cell in cells if cell not in owners]
        if owners and others and any(value is not None for value in as_list(values)):
            have = f"the cell {owners[0]!r} has" if len(owners) == 1 else f"the cells {', '.join(owners)} have"
            own = owners[0] if len(owners) == 1 else "them"
            yield (*path, axis), f"only {have} it, not {', '.join(others)}; give {own} a sweep of its own"
    if any(value is not None for value in as_list(grid.get("chrono"))) and any(
        value is not None for value in as_list(grid.get("forget_bias"))
    ):
        yield (*path, "chrono"), "forget_bias sets the same bias; give each a sweep of its own"


def _without_matrix(path: KeyPath, grid: Mapping[str, Any], cells: list[str]) -> Iterator[Problem]:
    """A setting of W_hh must not stand beside a cell that has none."""
    without = [cell for cell in cells if cell in WITHOUT_MATRIX]
    others = [cell for cell in cells if cell not in without]
    for axis in OF_MATRIX if without else ():
        if any(value not in (None, axis_defaults()[axis]) for value in as_list(grid.get(axis))):
            apart = f"; give {listed(without)} a sweep of its own" if others else "; leave it out"
            yield (*path, axis), f"it does not apply to the cell {listed(without)}: {NO_MATRIX}{apart}"


def _scales(path: KeyPath, grid: Mapping[str, Any], values: Mapping[str, list[Any]]) -> Iterator[Problem]:
    """Spectral radius or weight scale: at most one of them scales the recurrent matrix."""
    if all(scale is None for scale in values["weight_scale"]):
        return
    if grid.get("spectral_radius") is not None:
        yield (*path, "spectral_radius"), "weight_scale scales W_hh; give each of the two a sweep of its own"
    for cell in values["cell"]:
        if cell in CELLS and CELLS[cell].draws is not None:
            yield (*path, "weight_scale"), f"the W_hh of cell {cell!r} has a form of its own; give it a spectral_radius"
    for initializer in values["initializer"]:
        if initializer in OF_OWN_SIZE:
            yield (*path, "weight_scale"), f"initializer {initializer!r} has a size of its own; leave both scales null"


def _initializers(path: KeyPath, grid: Mapping[str, Any], values: Mapping[str, list[Any]]) -> Iterator[Problem]:
    """A cell whose W_hh has a form of its own knows some initialisers alone."""
    for cell in values["cell"]:
        draws = CELLS[cell].draws if cell in CELLS else None
        if draws is None:
            continue
        for index, initializer in enumerate(values["initializer"]):
            if initializer not in draws:
                place = (
                    (*path, "initializer", index) if isinstance(grid["initializer"], list) else (*path, "initializer")
                )
                why = f"whose W_hh has a form of its own; allowed: {listed(list(draws))}"
                yield place, f"{initializer!r} does not apply to the cell {cell!r}, {why}"


def _correlated(path: KeyPath, grid: Mapping[str, Any], values: Mapping[str, list[Any]]) -> Iterator[Problem]:
    """Inputs are correlated only where a task draws them so."""
    able = [name for name, kind in GENERATED.items() if kind.correlates]
    for task in values["task"]:
        if any(values["input_correlation"]) and task not in able:
            yield (*path, "input_correlation"), f"only {listed(able)} has correlated inputs, not {task}"


def _omega(path: KeyPath, values: Mapping[str, list[Any]]) -> Iterator[Problem]:
    """Some cells have no Ω. ``Experiment`` would refuse them in the middle of the study."""
    others = [cell for cell in values["cell"] if cell in CELLS and cell not in COVERED]
    if any(values["omega"]) and others:
        yield (*path, "omega"), f"{ONLY}; give {listed(others)} a sweep without it"


def _flossing(path: KeyPath, values: Mapping[str, list[Any]]) -> Iterator[Problem]:
    """Some cells cannot be flossed, and a network has no more exponents than units."""
    others = [cell for cell in values["cell"] if cell in CELLS and cell not in FLOSSED_CELLS]
    if any(values["flossing"]) and others:
        yield (*path, "flossing"), f"{ONLY_FLOSSED}; give {listed(others)} a sweep without it"
    most, smallest = max((k or 0 for k in values["flossing_exponents"]), default=0), min(values["hidden_size"])
    if most > smallest:
        yield (
            (*path, "flossing_exponents"),
            f"{most} is too many; a network of hidden_size: {smallest} has no more than that",
        )


def _layers(path: KeyPath, values: Mapping[str, list[Any]], config: Mapping[str, Any]) -> Iterator[Problem]:
    """What several layers or directions have not. The engine would refuse it in the middle of the study."""
    deep = max(layers or 1 for layers in values["layers"]) > 1
    if not deep and True not in values["bidirectional"]:
        return
    key = "layers" if deep else "bidirectional"
    if any(values["omega"]):
        yield (*path, "omega"), f"{ONE_LAYER}; give {key} a sweep without it"
    if any(values["flossing"]):
        yield (*path, "flossing"), f"{ONE_FLOSSED_LAYER}; give {key} a sweep without it"
    if "spectra" in config:
        yield (*path, key), f"{ONE_RECURRENCE}; leave the key spectra out, or {key}"
    if config.get("memory_mb") is not None:
        yield (*path, key), f"what goes from layer to layer is kept whole; leave the key memory_mb out, or {key}"


def _rules(path: KeyPath, rules: list[str]) -> Iterator[Problem]:
    """A threshold must be finite and above 0. A rule must stand there once, however its threshold is written."""
    seen: dict[tuple[str, float], str] = {}
    for rule in rules:
        kind, _, threshold = rule.partition(":")
        value = float(threshold or math.nan)
        if rule != "none" and not 0.0 < value < math.inf:
            yield path, f"{rule!r} is not allowed; the threshold must be above 0 and finite"
        elif (kind, value) in seen:
            yield path, f"{seen[kind, value]!r} and {rule!r} are the same rule; leave one out"
        seen[kind, value] = rule


def _sizes(path: KeyPath, values: Mapping[str, list[Any]]) -> Iterator[Problem]:
    """A recurrent matrix must have a size that its draw can have."""
    for initializer in values["initializer"]:
        least = SMALLEST_SIZE.get(initializer, 1)
        if min(values["hidden_size"]) < least:
            yield (
                (*path, "hidden_size"),
                f"{min(values['hidden_size'])} is too small for initializer {initializer}; it needs at least {least}",
            )


def _formats(path: KeyPath, grid: Mapping[str, Any], dtypes: list[str]) -> Iterator[Problem]:
    """A run's own floats must hold its settings. ``Experiment`` would refuse them in the middle of the study."""
    numbers = [axis for axis, described in described_axes().items() if described["kind"] in ("number", "rule")]
    for dtype in dtypes:
        smallest, largest = RANGES[dtype]
        for axis in numbers:
            for value in as_list(grid.get(axis, [])):
                number = float(value.partition(":")[2] or 1.0) if isinstance(value, str) else value
                if number and not smallest <= abs(number) <= largest:
                    held = f"which holds {smallest:.3g} to {largest:.3g}"
                    yield (*path, axis), f"{value!r} is not allowed with dtype {dtype}, {held}"
