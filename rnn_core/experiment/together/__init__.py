"""``run_many`` on a torch device: untrained runs of one shape go together (``rnn_core.batched``), the others one by one.

What goes together: a single layer, no training, full gradients without Ω, clipping after them, sequences of equal length, a cell in ``batched.STEPS``, and no
watcher. A run whose numbers one exponent a sample does not hold, or whose states grow too large, is made again by the engine in NumPy.

| file | holds |
|---|---|
| ``draws.py`` | networks and sequences, drawn once a seed |
| ``batch.py`` | runs of one shape through the engine |
| ``rows.py`` | from there to results |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, NamedTuple

from rnn_core.batched import STEPS, Shape, Together
from rnn_core.clipping import parse_clipping
from rnn_core.experiment.measures import COLUMNS
from rnn_core.experiment.own_cells import OWN_CELLS
from rnn_core.experiment.problem import cell_of, task_of
from rnn_core.experiment.result import Result
from rnn_core.experiment.settings import Experiment
from rnn_core.experiment.together.batch import evaluate_together
from rnn_core.experiment.together.draws import Draws
from rnn_core.experiment.together.rows import results
from rnn_core.tasks import Sequences, Task

FEWEST_STEPS = 2  # a single step has no growth to reduce

# Runs that differ in these go together.
NOT_OF_A_SHAPE = {"seed", "spectral_radius", "weight_scale", "input_scale", "initializer", "clipping"}
# Settings that these passes heed, or that do nothing where nothing is trained. With any other that is set a run goes alone: a setting
# that was added is not ignored here because nobody thought of it.
HEEDED = NOT_OF_A_SHAPE | {
    *("task", "cell", "activation", "residual_step", "residual_leak", "hidden_size", "input_size", "input_correlation"),
    *("sequence_length", "batch_size", "loss_at", "dtype", "optimizer", "learning_rate", "weight_decay", "updates"),
    *("trace_every", "record_every", "held_out_sequences", "validate_every", "success_below"),
}
OTHERS = {field.name: field.default for field in fields(Experiment) if field.name not in HEEDED}
# Columns of every run. One that was added and is not in ``rows.py`` sends all runs to the engine in NumPy, which measures it.
ALWAYS = {table: {column.name for column in columns if not column.asked} for table, columns in COLUMNS.items()}


class Plan(NamedTuple):
    """What ``run_many`` does with its experiments.

    Attributes:
        together: for every shape its runs, each as a list of experiments that differ in clipping alone.
        alone: the others.
    """

    together: list[list[list[Experiment]]]
    alone: list[Experiment]


def planned(
    experiments: Sequence[Experiment], data: Mapping[str, Sequences], device: str, memory_budget: int | None
) -> Plan:
    """Which of the experiments go together on ``device``."""
    shapes: dict[tuple[Any, ...], dict[tuple[Any, ...], list[Experiment]]] = {}
    fits: dict[tuple[Any, ...], bool] = {}
    alone = []
    for experiment in sorted(experiments, key=lambda e: e.seed):  # runs of one seed share their draws
        values = vars(experiment)
        shape = tuple(value for name, value in values.items() if name not in NOT_OF_A_SHAPE)
        if shape not in fits:
            fits[shape] = _fits(experiment, data, device, memory_budget)
        if fits[shape] and not parse_clipping(experiment.clipping).on_signal:
            run = tuple(value for name, value in values.items() if name != "clipping")
            shapes.setdefault(shape, {}).setdefault(run, []).append(experiment)
        else:
            alone.append(experiment)
    return Plan([list(runs.values()) for runs in shapes.values()], alone)


def _fits(e: Experiment, data: Mapping[str, Sequences], device: str, memory_budget: int | None) -> bool:
    """Whether runs of this shape can go together."""
    if e.cell in OWN_CELLS or e.updates or any(getattr(e, name) != default for name, default in OTHERS.items()):
        return False
    if e.layers > 1:
        return False
    cell = cell_of(e)
    if type(cell) not in STEPS:
        return False
    task = task_of(e, data.get(e.task))
    if task.ragged or task.T < FEWEST_STEPS:
        return False
    shape = _shape(e, task, device)
    rows = STEPS[type(cell)](cell, e.hidden_size).rows
    within = memory_budget is None or shape.bytes_of_a_run(rows) <= memory_budget
    return within and shape.runs(rows) > 0


def _is_whole(result: Result) -> bool:
    """Whether every column that every run has is there."""
    measured = {"traces": result.traces, "updates": result.updates, "runs": result.summary}
    return all(ALWAYS[table] <= columns.keys() for table, columns in measured.items())


def _shape(e: Experiment, task: Task, device: str) -> Shape:
    return Shape(cell_of(e), task.T, e.batch_size, task.input_size, e.hidden_size, e.dtype, device)


def run_together(
    plan: Plan, data: Mapping[str, Sequences], device: str
) -> Iterator[tuple[Experiment, Result] | Experiment]:
    """The results of the runs that go together; of a run whose numbers have not held, the experiment alone."""
    for runs in plan.together:
        [first, *_] = runs[0]
        together = Together(_shape(first, task_of(first, data.get(first.task)), device))
        draws = Draws(together.shape.cell, first.dtype, device)
        for start in range(0, len(runs), together.R):
            variants = runs[start : start + together.R]
            some = [each[0] for each in variants]
            some += some[:1] * (together.R - len(some))  # always as many, so that no bit depends on how many there are
            tasks = [task_of(e, data.get(e.task)) for e in some]
            evaluated = evaluate_together(together, draws, some, tasks)
            for experiment, result in results(together, evaluated, some, tasks, variants):
                yield (experiment, result) if _is_whole(result) else experiment
            for experiments, holds in zip(variants, evaluated.hold, strict=False):
                if not holds:
                    yield from experiments
        del together  # its memory, before the next shape takes more
