"""Checking a config before anything runs: which line and key, what was given, what is allowed, the nearest valid name."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from study import plan
from study.config.mistakes import Problem, dotted, hint, violations
from study.config.reader import Document, line_of
from study.cost import model
from study.data import intake
from study.machine import memory_of_machine_mb
from study.plan import Block, as_list
from study.settings import axis_defaults, described_axes, generated_tasks
from study.tables import store

DIGIT_PIXELS = 64
DIGITS_TO_TRAIN_ON = 1438  # of 1797, a fifth is held out
LENIENT = 1e-2  # a tolerance beyond it checks next to nothing
LONGEST_RANGE = 10_000  # values
MOST_RUNS, MOST_JOBS = 200_000, 10_000  # of a study that nobody has confirmed

_KEY = re.compile(r"(?:sequences|sweeps)(?:\.[a-z0-9_-]+)+")


class ConfigError(Exception):
    """All that is wrong with a config, one line each."""


@dataclass(frozen=True)
class Approved:
    """A config that can become a study.

    Attributes:
        config: in the form that the workflow goes by (``canonical``).
        notes: settings that change nothing, and what may not be meant of the data.
        reports: task -> what its data are, a line each.
    """

    config: dict[str, Any]
    notes: list[str]
    reports: dict[str, list[str]]


def check(
    config: Mapping[str, Any],
    document: Document | None = None,
    folders: Sequence[Path] = (Path(),),
    local: bool = True,
) -> Approved:
    """The config and what is to be said of it, if it is a valid study.

    Args:
        config: as it was read, before ``canonical``.
        document: the file that it was read from, for line numbers; keys that it does not hold came from the command line.
        folders: relative file names are looked for here, one after the other.
        local: the jobs run on this machine, whose memory therefore counts.

    Raises:
        ConfigError: it is none.
    """
    plain = canonical(check_form(config, document))
    problems = violations(plain) or list(_check_numbers(plain))  # of the values of its ranges
    problems = problems or list(_check_sweeps(plain))
    problems = problems or [
        *_check_size(plain, config.get("confirm_runs", 0)),
        *(_check_memory(plain) if local else ()),
    ]
    if problems:
        raise ConfigError(message(problems, document))
    with store.without_pandas():  # which pyarrow would import for half a second
        data = intake.inspect(plain, folders)
    if data.problems:
        raise ConfigError(message([(_key_at_start(text), text) for text in data.problems], document))
    return Approved(plain, [*without_effect(plain), *data.warnings], data.reports)


def check_form(config: Mapping[str, Any], document: Document | None = None) -> Mapping[str, Any]:
    """The config, if it has the form of a study: what ``canonical`` relies on.

    Raises:
        ConfigError: it has not.
    """
    problems = violations(config) or list(_check_ranges(config))
    if problems:
        raise ConfigError(message(problems, document))
    return config


def _key_at_start(text: str) -> tuple[Any, ...]:
    """The path of the key that a sentence begins with."""
    key = _KEY.match(text)
    return tuple(key[0].split(".")) if key else ()


def message(problems: list[Problem], document: Document | None = None) -> str:
    """All problems in the order of the file's lines."""
    name = document.file if document else "The config"
    lines = [(line_of(document, path) if document else None, path, text) for path, text in problems]
    if document and all(line is None and path for line, path, _ in lines):
        name = "The command line (--config)"
    lines.sort(key=lambda found: found[0] or 0)
    return "\n".join(
        [f"{name} has {'a mistake' if len(problems) == 1 else f'{len(problems)} mistakes'}:"]
        + [f"  {f'line {line}, ' if line else ''}{_after_key(path, text)}" for line, path, text in lines]
    )


def _after_key(path: tuple[Any, ...], text: str) -> str:
    key = dotted(path) or "top level"
    return text if text.startswith(key) else f"{key}: {text}"


# ---- one form for what may be written in several


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config that the workflow goes by: ranges as lists, 2.0 as 2 where a whole number is meant, nothing about this call."""
    plain = copy.deepcopy(dict(config))
    plain.pop("confirm_runs", None)
    kinds = {axis: described["kind"] for axis, described in described_axes().items()}
    for described in plain["sweeps"].values():
        described["seeds"] = _whole(described["seeds"])
        grid = described["grid"]
        for axis, values in grid.items():
            if isinstance(values, Mapping):
                grid[axis] = values_of_range(values)
            if kinds[axis] == "integer":
                values = grid[axis]
                grid[axis] = [_whole(value) for value in values] if isinstance(values, list) else _whole(values)
    plain["gate"]["checked_runs_per_job"] = _whole(plain["gate"]["checked_runs_per_job"])
    return plain


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def values_of_range(described: Mapping[str, Any]) -> list[Any]:
    """``{from: 0.1, to: 0.3, step: 0.1}`` as [0.1, 0.2, 0.3]: counted in decimals, so that no value has a tail of rounding."""
    start, stop, step = (Decimal(str(described[key])) for key in ("from", "to", "step"))
    whole = all(isinstance(described[key], int) for key in ("from", "to", "step"))
    count = int((stop - start) / step) + 1
    return [int(value) if whole else float(value) for value in (start + step * index for index in range(count))]


def _check_ranges(config: Mapping[str, Any]) -> Iterator[Problem]:
    """That every range goes upwards and its steps meet its end."""
    for sweep, described in config["sweeps"].items():
        for axis, given in described["grid"].items():
            if not isinstance(given, Mapping):
                continue
            path = ("sweeps", sweep, "grid", axis)
            if not all(math.isfinite(value) for value in given.values()):
                yield path, "from, to and step must be finite"
                continue
            start, stop, step = (Decimal(str(given[key])) for key in ("from", "to", "step"))
            if stop < start:
                yield path, f"to: {given['to']} is below from: {given['from']}; give the smaller value first"
            elif (steps := (stop - start) / step) > LONGEST_RANGE:
                yield path, f"has {int(steps) + 1:,} values; at most {LONGEST_RANGE:,} are allowed"
            elif steps != int(steps):
                below = start + int(steps) * step
                yield (
                    path,
                    f"steps of {given['step']} from {given['from']} do not meet to: {given['to']}; write {below} or {below + step}",
                )


# ---- what the schema cannot say


def _check_numbers(config: Any, path: tuple[Any, ...] = ()) -> Iterator[Problem]:
    """inf and nan pass as numbers in YAML."""
    if isinstance(config, float) and not math.isfinite(config):
        yield path, f"{config!r} is not allowed; it must be finite"
    elif isinstance(config, Mapping):
        for key, value in config.items():
            yield from _check_numbers(value, (*path, key))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from _check_numbers(value, (*path, index))


def _check_sweeps(config: Mapping[str, Any]) -> Iterator[Problem]:
    defaults = axis_defaults()
    built_in = [*generated_tasks(), "digits"]
    for name in config.get("sequences", {}):
        if name in built_in:
            yield ("sequences", name), "this name is taken by a built-in task; choose another"
    known = [*built_in, *config.get("sequences", {})]
    for sweep, described in config["sweeps"].items():
        grid = described["grid"]
        for index, axis in enumerate(described.get("jobs_over", [])):
            if axis not in grid:
                yield (
                    ("sweeps", sweep, "jobs_over", index),
                    f"{axis!r} is not an axis of this sweep; {hint(axis, grid)}",
                )
        path = ("sweeps", sweep, "grid")
        for index, task in enumerate(as_list(grid.get("task", defaults["task"]))):
            place = (*path, "task", index) if isinstance(grid.get("task"), list) else (*path, "task")
            if task not in known:
                yield place, f"{task!r} is not known; {hint(task, known, 'task')}"
            if task == "digits":
                yield from _check_digits(path, grid, as_list(grid.get("sequence_length", defaults["sequence_length"])))
        yield from _check_cells(path, grid, as_list(grid.get("cell", defaults["cell"])))
        yield from _check_rules((*path, "clipping"), as_list(grid.get("clipping", "none")))
        yield from _check_formats(path, grid, as_list(grid.get("dtype", defaults["dtype"])))


def _check_cells(path: tuple[Any, ...], grid: Mapping[str, Any], cells: list[str]) -> Iterator[Problem]:
    """A setting of one cell beside another."""
    for axis, values in grid.items():
        owner = described_axes()[axis]["cell"]
        if owner and cells != [owner] and any(value is not None for value in as_list(values)):
            others = ", ".join(cell for cell in cells if cell != owner)
            yield (*path, axis), f"only the cell {owner!r} has it, not {others}; give {owner} a sweep of its own"


def _check_rules(path: tuple[Any, ...], rules: list[str]) -> Iterator[Problem]:
    """Thresholds above 0 and finite; each rule once, however its threshold is written."""
    seen: dict[tuple[str, float], str] = {}
    for rule in rules:
        kind, _, threshold = rule.partition(":")
        value = float(threshold or math.nan)
        if rule != "none" and not 0.0 < value < math.inf:
            yield path, f"{rule!r} is not allowed; the threshold must be above 0 and finite"
        elif (kind, value) in seen:
            yield path, f"{seen[kind, value]!r} and {rule!r} are the same rule; leave one out"
        seen[kind, value] = rule


def _check_formats(path: tuple[Any, ...], grid: Mapping[str, Any], dtypes: list[str]) -> Iterator[Problem]:
    """Settings that a run's own floats do not hold: what ``Experiment`` would refuse in the middle of the study."""
    numbers = [axis for axis, described in described_axes().items() if described["kind"] in ("number", "rule")]
    for dtype in dtypes:
        limits = np.finfo(dtype)
        smallest, largest = float(limits.smallest_normal), float(limits.max)
        for axis in numbers:
            for value in as_list(grid.get(axis, [])):
                number = float(value.partition(":")[2] or 1.0) if isinstance(value, str) else value
                if number and not smallest <= number <= largest:
                    yield (
                        (*path, axis),
                        f"{value!r} is not allowed with dtype {dtype}, which holds {smallest:.3g} to {largest:.3g}",
                    )


def _check_digits(path: tuple[Any, ...], grid: Mapping[str, Any], lengths: list[int]) -> Iterator[Problem]:
    """The digits' own limits: 64 pixels, one a step; one label an image; as many images as there are."""
    if max(lengths) > DIGIT_PIXELS:
        default = "" if "sequence_length" in grid else ", which is the default; write sequence_length: 64"
        yield (*path, "sequence_length"), f"{max(lengths)} is too long{default}; a digit has {DIGIT_PIXELS} pixels"
    if max(as_list(grid.get("batch_size", 1))) > DIGITS_TO_TRAIN_ON:
        yield (*path, "batch_size"), f"there are {DIGITS_TO_TRAIN_ON} digits to train on"
    if not {1, None} >= set(as_list(grid.get("input_size", 1))):
        yield (*path, "input_size"), "a digit has 1 input a step; leave input_size out"
    if "every" in as_list(grid.get("loss_at", "last")):
        yield (*path, "loss_at"), "a digit has one label, at the last step; leave loss_at out"


# ---- too large to be meant, or for this machine


def _check_size(config: Mapping[str, Any], confirmed: float) -> Iterator[Problem]:
    """A study so large that it looks like a slip wants to be confirmed, by its number of runs."""
    runs, jobs = plan.count(config)
    if (runs <= MOST_RUNS and jobs <= MOST_JOBS) or runs <= confirmed:
        return
    yield (
        (),
        (
            f"the study has {runs:,} runs in {jobs:,} jobs; beyond {MOST_RUNS:,} runs or {MOST_JOBS:,} jobs it must be confirmed. "
            f"If it is meant, add `--config confirm_runs={runs}` to the command, or the key confirm_runs: {runs} to the config"
        ),
    )


def _check_memory(config: Mapping[str, Any]) -> Iterator[Problem]:
    """Networks that this machine has no room for."""
    machine = memory_of_machine_mb()
    for sweep, described in config["sweeps"].items():
        grid = {axis: as_list(values) for axis, values in described["grid"].items()}
        needed = model.largest_run_mb(Block(sweep, "all", {}, grid, 1), config)
        if needed > machine:
            yield (
                ("sweeps", sweep, "grid"),
                (
                    f"its largest run needs about {needed / 1024:,.0f} GiB of memory, and this machine has {machine / 1024:,.0f}; "
                    "choose a smaller hidden_size, batch_size or sequence_length, or bound the states by memory_mb"
                ),
            )


def check_device(config: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` if the study wants a GPU and this machine has none that torch knows."""
    if config["device"] != "cuda":
        return
    from rnn_core.arrays import resolve_device  # imports torch, which takes a second

    try:
        resolve_device("cuda")
    except RuntimeError as error:
        raise ConfigError(f"The config asks for what this machine does not have. {error}.") from error


# ---- what is allowed and yet not meant


def without_effect(config: Mapping[str, Any]) -> list[str]:
    """Settings of a canonical config that change nothing, and tolerances that check nothing."""
    used = {task for described in config["sweeps"].values() for task in as_list(described["grid"].get("task", []))}
    unused = [f"sequences.{name}: no sweep uses it; write task: {name} in one" for name in config.get("sequences", {}) if name not in used]  # fmt: skip
    lenient = [
        f"gate.tolerance.{dtype}: {value:g} lets errors of {100 * value:g} % pass; the default study has 1e-10 and 1e-3"
        for dtype, value in config["gate"]["tolerance"].items()
        if value > LENIENT
    ]
    idle = [text for sweep, described in config["sweeps"].items() for text in _without_effect(sweep, described)]
    return [*lenient, *idle, *unused]


def _without_effect(sweep: str, described: Mapping[str, Any]) -> Iterator[str]:
    axes = described_axes()
    grid = {axis: as_list(values) for axis, values in described["grid"].items()}
    where = f"sweeps.{sweep}.grid"
    longest = max(grid.get("sequence_length", [axes["sequence_length"]["default"]]))
    idle = [window for window in grid.get("truncation", []) if window is not None and window >= longest]
    for window in idle:
        yield f"{where}.truncation: {window} changes nothing; no sequence of this sweep is longer than {longest} steps"
    updates = max(grid.get("updates", [axes["updates"]["default"]]))
    if not updates:
        for axis in ("learning_rate", "optimizer", "trace_every"):
            if axis in grid:
                repeated = f", and every run is made {len(grid[axis])} times" if len(grid[axis]) > 1 else ""
                yield f"{where}.{axis}: it changes nothing; no run of this sweep trains (updates: 0){repeated}"
    for every in grid.get("trace_every", []) if updates else []:
        if every > updates:
            yield f"{where}.trace_every: {every} is more than the {updates} updates; traces are recorded at the first and the last alone"
