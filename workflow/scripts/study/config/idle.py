"""What is allowed and may not be meant: settings that change nothing, and tolerances that check nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from rnn_core.cells import CELLS
from rnn_core.clipping.adapting import ADAGC_FIRST, ADAGC_LARGEST, ZCLIP_FIRST
from rnn_core.experiment import axes
from rnn_core.tasks import GENERATED, PACKAGED
from rnn_core.tasks.sequences import DIGITS_MISSED
from study.config.silent import silent_figures
from study.counts import counted
from study.own_cells.described import name_of, own_cells
from study.plan import as_list, shared_runs, size_of
from study.settings import axis_defaults, steps_of

LENIENT = 1e-2  # a tolerance beyond it checks next to nothing
FILLS_A_GPU = 256  # hidden units; with fewer, training is faster on a core (docs/benchmarks.md)
# Settings of training that show at the first gradient already: it is clipped, truncated and regularised even if nothing trains.
_SHOW_UNTRAINED = ("updates", "clipping", "truncation", "omega")


def without_effect(config: Mapping[str, Any]) -> list[str]:
    """A sentence for each setting of a canonical config that changes nothing, and for each tolerance that checks nothing."""
    return [
        *about_numbers(config),
        *_unused_tasks(config),
        *_unused_cells(config),
        *_idle_spectra(config),
        *_slow_on_a_gpu(config),
        *silent_figures(config),
    ]


def about_numbers(config: Mapping[str, Any]) -> list[str]:
    """Those of them that tell what the numbers of the study mean: a reader of its page needs them, too."""
    lenient = [
        f"gate.tolerance.{dtype}: {value:g} lets errors of {100 * value:g} % pass; the default study has 1e-10 and 1e-3"
        for dtype, value in config.get("gate", {}).get("tolerance", {}).items()
        if value > LENIENT
    ]
    idle = [text for sweep, described in config["sweeps"].items() for text in _idle_settings(sweep, described)]
    return [*lenient, *idle, *_repeated_sweeps(config)]


def _slow_on_a_gpu(config: Mapping[str, Any]) -> Iterator[str]:
    """Training of small networks, which goes run by run."""
    grids = [described["grid"] for described in config["sweeps"].values()]
    trained = [grid for grid in grids if max(as_list(grid.get("updates", axis_defaults()["updates"])))]
    units = max((max(as_list(g.get("hidden_size", axis_defaults()["hidden_size"]))) for g in trained), default=math.inf)
    if config["device"] != "cpu" and units < FILLS_A_GPU:
        where = "there" if config["device"] == "cuda" else "on a GPU"
        yield f"device: {config['device']}: training goes run by run {where}, and with at most {units} units it is faster with device: cpu"


def _repeated_sweeps(config: Mapping[str, Any]) -> Iterator[str]:
    """Sweeps whose runs are all runs of another one."""
    repeated: set[str] = set()
    for pair, shared in shared_runs(config, axis_defaults()).items():
        for sweep, other in (pair, pair[::-1]):
            if shared == size_of(config["sweeps"][sweep]) and not repeated & {sweep, other}:
                repeated.add(sweep)
                yield f"sweeps.{sweep}: {counted(shared, 'run')} of it, all there are, stand in sweeps.{other} too; they are computed once"


def _idle_spectra(config: Mapping[str, Any]) -> Iterator[str]:
    """Lags that no sequence has, and more than there is to measure."""
    longest = max(longest_of(described["grid"]) for described in config["sweeps"].values())
    for lag in config.get("spectra", {}).get("singular_values", []):
        if lag > longest and not config.get("sequences"):  # of the user's own sequences, no length is known here
            yield f"spectra.singular_values: {lag} changes nothing; no sequence of this study is longer than {longest} steps"
    yield from _more_than_there_are(config)


def _more_than_there_are(config: Mapping[str, Any]) -> Iterator[str]:
    """More exponents than the study's largest network has directions, or more samples than its largest batch has sequences."""
    asked, grids = config.get("spectra", {}), [described["grid"] for described in config["sweeps"].values()]
    largest = {
        axis: max(max(as_list(grid.get(axis, axis_defaults()[axis]))) for grid in grids)
        for axis in ("hidden_size", "batch_size")
    }
    most, samples = asked.get("exponents", 0), asked.get("samples", 0)
    if samples > largest["batch_size"]:
        yield f"spectra.samples: {samples} is more than a batch has; all {largest['batch_size']} sequences are measured"
    cells = {cell for grid in grids for cell in as_list(grid.get("cell", axis_defaults()["cell"]))}
    if cells <= set(CELLS):  # of the user's own cells, the size of the state is not known here
        directions = max(len(CELLS[cell].state_names) for cell in cells) * largest["hidden_size"]
        if most > directions:
            yield f"spectra.exponents: {most} is more than any network has; all {directions} of the largest are measured"


def longest_of(grid: Mapping[str, Any]) -> int:
    """Time steps of the longest sequence of a grid, with what a task adds."""
    tasks, lengths = (as_list(grid.get(axis, axis_defaults()[axis])) for axis in ("task", "sequence_length"))
    return max(steps_of(task, max(lengths)) for task in tasks)


def _unused_cells(config: Mapping[str, Any]) -> Iterator[str]:
    used = {name_of(c) for described in config["sweeps"].values() for c in as_list(described["grid"].get("cell", []))}
    for name in own_cells(config):
        if name not in used:
            yield f"cells.{name}: no sweep uses it; write cell: {name} in one"


def _unused_tasks(config: Mapping[str, Any]) -> Iterator[str]:
    used = {task for described in config["sweeps"].values() for task in as_list(described["grid"].get("task", []))}
    for name in config.get("sequences", {}):
        if name not in used:
            yield f"sequences.{name}: no sweep uses it; write task: {name} in one"


def _idle_settings(sweep: str, described: Mapping[str, Any]) -> Iterator[str]:
    defaults = axis_defaults()
    grid = {axis: as_list(values) for axis, values in described["grid"].items()}
    where = f"sweeps.{sweep}.grid"
    longest = longest_of(grid)
    for window in grid.get("truncation", []):
        if window is not None and window >= longest:
            yield f"{where}.truncation: {window} changes nothing; no sequence of this sweep is longer than {longest} steps"
    updates = max(grid.get("updates", [defaults["updates"]]))
    if not updates:
        yield from _idle_without_training(where, grid)
        return
    yield from _easy_success(where, grid)
    yield from _rules_that_wait(where, grid, updates)
    for every in grid.get("trace_every", []):
        if every > updates:
            yield f"{where}.trace_every: {every} is more than the {updates} updates; only the first and the last update are traced"
    for every in grid.get("record_every", []):
        if every > updates:
            yield f"{where}.record_every: {every} is more than the {updates} updates; only the first and the last have a row"
    for every in grid.get("validate_every", []):
        if every is not None and every > updates:
            yield f"{where}.validate_every: {every} is more than the {updates} updates; the held-out sequences are looked at once, at the end"


def _rules_that_wait(where: str, grid: Mapping[str, list[Any]], updates: int) -> Iterator[str]:
    """Adaptive clipping whose training ends before its own threshold acts."""
    for rule in grid.get("clipping", []):
        kind = rule.partition(":")[0]
        if kind == "adagc" and updates <= ADAGC_FIRST:
            yield f"{where}.clipping: {rule} clips as norm:{ADAGC_LARGEST} does; its own threshold acts after {ADAGC_FIRST} updates, and there are {updates}"
        if kind == "zclip" and updates <= ZCLIP_FIRST:
            yield f"{where}.clipping: {rule} changes nothing; it clips none of the first {ZCLIP_FIRST} gradients, and there are {updates}"


def _easy_success(where: str, grid: Mapping[str, list[Any]]) -> Iterator[str]:
    """Success that asks for less than an answer without memory has."""
    for task in grid.get("task", [axis_defaults()["task"]]):
        for share in grid.get("success_below", []):
            if share is not None and (wrong := missed_by_guessing(task)) < share:
                yield easy_success(f"{where}.success_below", share, task, wrong)


def easy_success(key: str, share: float, task: str, wrong: float) -> str:
    """What is said of it."""
    return (
        f"{key}: {share:g} is easier than guessing; the best answer without memory is wrong for {wrong:.3g} of the sequences of "
        f"{task!r}, so a run that learns nothing may succeed"
    )


def missed_by_guessing(task: str) -> float:
    """The fraction of sequences that the best answer without memory gets wrong; nan of the user's own, which are not read here."""
    if task in PACKAGED:
        return DIGITS_MISSED
    if task not in GENERATED:
        return math.nan
    kind = GENERATED[task]
    return kind(0, kind.shortest, 1, kind.default_input_size, kind.default_loss_at).baseline_error


def _idle_without_training(where: str, grid: Mapping[str, list[Any]]) -> Iterator[str]:
    for name, axis in axes().items():
        if name in grid and axis.training and name not in _SHOW_UNTRAINED:
            repeated = f", and every run is made {len(grid[name])} times" if len(grid[name]) > 1 else ""
            yield f"{where}.{name}: it changes nothing; no run of this sweep trains (updates: 0){repeated}"
