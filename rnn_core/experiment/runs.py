"""``run``: one experiment from its draw to its summary. ``run_many``: several, which share work where they can."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from rnn_core.arrays import Array, Params, namespace, torch_for
from rnn_core.clipping import Gradient
from rnn_core.experiment.arguments import (
    check_data,
    check_data_by_task,
    check_device,
    check_experiment,
    check_experiments,
    check_traces,
    check_watch,
    takes_an_experiment,
)
from rnn_core.experiment.evaluation import Evaluation, evaluate, held_out_of
from rnn_core.experiment.measures import (
    ASKED,
    StateMeasures,
    breakdown_columns,
    end_columns,
    layer_columns,
    looks_at_held_out,
    measure_states,
    start_columns,
    succeeds,
    trace_columns,
    update_columns,
)
from rnn_core.experiment.problem import Problem, prepare
from rnn_core.experiment.result import Result
from rnn_core.experiment.settings import Experiment
from rnn_core.optimizers import OPTIMIZERS, Optimizer
from rnn_core.scaling import all_finite
from rnn_core.tape import Tape
from rnn_core.tasks import Sequences

Watcher = Callable[[Problem, Params, Array, Array, Evaluation], None]


@takes_an_experiment
def run(
    experiment: Experiment,
    data: Sequences | None = None,
    device: str = "cpu",
    watch: Watcher | None = None,
    memory_budget: int | None = None,
    traces: Collection[str] = (),
) -> Result:
    """Run one experiment: measure gradients at the start, then train for ``updates`` updates and measure on the way.

    A loss, gradient or parameter that is not finite ends the training. The result says at which update and time step. So does
    success, where ``success_below`` asks for it.

    Args:
        data: the sequences of a task that is not generated.
        device: ``cpu`` (NumPy) or ``cuda`` (torch).
        watch: is called with every evaluation whose trace is recorded, as (problem, params, x, target, evaluation).
        memory_budget: in bytes, for the states of one batch: see ``forward``.
        traces: what traces hold besides, of ``weight_gradient`` (what every step adds to dL/dW_hh) and ``entry_quantiles`` (how
            large the entries of dL/dh_t are).

    Raises:
        TypeError: an argument is not what its name says.
        ValueError: the experiment and its task do not fit (see ``prepare``); a name in ``traces`` is not known.
    """
    check_experiment("run", experiment)
    check_data(data)
    check_watch(watch)
    check_traces(traces, ASKED)
    return _run(experiment, SharedStarts(data, device, memory_budget, traces), watch)


def run_many(
    experiments: Iterable[Experiment],
    data: Mapping[str, Sequences] | None = None,
    device: str = "cpu",
    watch: Watcher | None = None,
    memory_budget: int | None = None,
    traces: Collection[str] = (),
) -> Iterator[tuple[Experiment, Result]]:
    """Every experiment with its result, bit for bit as by ``run``, in an order that shares work.

    Untrained runs that differ only in sequence length share one forward pass: the states of a shorter sequence are the
    first of the longer one. Those that differ only in clipping share their gradient as well.

    Args:
        data: by task, the sequences of those that are not generated.
        device: as for ``run``.
        watch: as for ``run``.
        memory_budget: as for ``run``.
        traces: as for ``run``; with any, runs on a GPU go one by one.

    Raises:
        TypeError: an argument is not what its name says.
        ValueError: an experiment and its task do not fit (see ``prepare``); the device or a name in ``traces`` is unknown.
    """
    checked = check_experiments(experiments)
    check_data_by_task(data)
    check_device(device)
    check_watch(watch)
    check_traces(traces, ASKED)
    if device != "cpu" and watch is None and not traces:
        return _run_on_device(checked, data or {}, device, memory_budget)
    return _run_groups(checked, data or {}, device, watch, memory_budget, traces)


def _run_on_device(
    experiments: list[Experiment], data: Mapping[str, Sequences], device: str, memory_budget: int | None
) -> Iterator[tuple[Experiment, Result]]:
    """The runs of ``run_many`` on a torch device: those that can, together; those whose numbers that does not hold, in NumPy."""
    torch_for(f"device: {device!r}")
    from rnn_core.experiment import together

    plan = together.planned(experiments, data, device, memory_budget)
    beyond: list[Experiment] = []
    for made in together.run_together(plan, data, device):
        if isinstance(made, Experiment):
            beyond.append(made)
        else:
            yield made
    yield from _run_groups(beyond, data, "cpu", None, memory_budget)
    yield from _run_groups(plan.alone, data, device, None, memory_budget)


def _run_groups(
    experiments: list[Experiment],
    data: Mapping[str, Sequences],
    device: str,
    watch: Watcher | None,
    memory_budget: int | None,
    traces: Collection[str] = (),
) -> Iterator[tuple[Experiment, Result]]:
    """The runs of ``run_many``, group by group; those of a group differ only in sequence length and clipping.

    A flossed network depends on the length of its sequences, so it shares with those of its own length alone.
    """
    groups: dict[Experiment, list[Experiment]] = {}
    for experiment in experiments:
        length = experiment.sequence_length if experiment.flossing else 1
        groups.setdefault(replace(experiment, sequence_length=length, clipping="none"), []).append(experiment)
    for key, group in groups.items():
        starts = SharedStarts(data.get(key.task), device, memory_budget, traces)
        for experiment in sorted(group, key=lambda e: -e.sequence_length):
            yield experiment, _run(experiment, starts, watch)


def _run(experiment: Experiment, starts: SharedStarts, watch: Watcher | None) -> Result:
    """One run, from its draw to its summary. Without training it is update 0 without a step of the optimiser."""
    problem, batch, trace, of_layers, start = starts.start_of(experiment)
    params, optimizer, memory = problem.params, optimizer_of(experiment), None
    traces, layers, rows = [], [], []
    for update in range(max(1, experiment.updates)):
        held_out = None
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is recorded
            if update > 0:
                del batch  # the next one is written where it lies, which the processor still holds at hand
                batch = _evaluate_update(problem, params, update, starts.memory_budget)
            row, clipped = update_columns(experiment, batch.evaluation, params, memory)
            following = _stepped(optimizer, params, clipped.grads, problem) if experiment.updates else params
            row["finite"] = row["finite"] and all_finite(*following.values())
            if row["finite"] and looks_at_held_out(experiment, update):
                held_out = held_out_of(problem, following, starts.memory_budget)
                row["held_out_error"] = held_out.error
            done = update == experiment.updates - 1 or succeeds(experiment, held_out)
            if update % experiment.trace_every == 0 or done:
                if update > 0:
                    e = batch.evaluation
                    states = measure_states(problem.cell, e.tape, e.ends)
                    trace = trace_columns(e, states, starts.traces)
                    of_layers = layer_columns(problem, e, states, trace)
                traces.append(trace)
                layers.append(of_layers)
                if watch is not None:
                    watch(problem, params, *batch)
        if update % experiment.record_every == 0 or held_out is not None or not row["finite"]:
            rows.append(row)
        if done or not row["finite"]:
            break
        params, memory = following, clipped.memory
    end = end_columns(problem, held_out, update + 1)
    breakdown = breakdown_columns(batch.evaluation, row["finite"])
    return Result(
        traces=_joined(traces),
        updates={name: np.array([row[name] for row in rows]) for name in rows[0]},
        summary={**start, **end, **breakdown},
        experiment=experiment,
        layers=_joined(layers),
    )


def _joined(of_updates: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The rows of one update after another, a copy."""
    return {name: np.concatenate([each[name] for each in of_updates]) for name in of_updates[0]}


def optimizer_of(experiment: Experiment) -> Optimizer:
    """The optimiser of a run, before its first step."""
    decay = {"weight_decay": experiment.weight_decay} if experiment.weight_decay else {}
    return OPTIMIZERS[experiment.optimizer](experiment.learning_rate, **decay)


def _stepped(optimizer: Optimizer, params: Params, grads: Gradient, problem: Problem) -> Params:
    following = optimizer.step(params, grads)
    return {**following, **{name: params[name] for name in problem.frozen}} if problem.cell.opaque else following


class EvaluatedBatch(NamedTuple):
    """A batch of one update, and what the engine says of it."""

    x: Array
    target: Array
    evaluation: Evaluation


def _evaluate_update(problem: Problem, params: Params, update: int, memory_budget: int | None) -> EvaluatedBatch:
    x, target = problem.batch(update)
    return EvaluatedBatch(x, target, evaluate(problem, params, x, target, update, memory_budget))


class Start(NamedTuple):
    """A run before its first update. Clipping has no part in it.

    Attributes:
        batch: the first, evaluated with the parameters as drawn.
        trace: of that evaluation.
        layers: the same of every layer and direction; nothing of a single one.
        summary: what is measured of the network before training.
    """

    problem: Problem
    batch: EvaluatedBatch
    trace: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]
    summary: dict[str, Any]


class SharedStarts:
    """The starts of runs that differ only in sequence length and clipping, asked for from the longest to the shortest.

    Untrained runs of a single layer and direction share the tape of the longest, and with the same length everything. A run that trains shares
    nothing: what is kept for others would take memory until its end.
    """

    def __init__(
        self, data: Sequences | None, device: str, memory_budget: int | None, traces: Collection[str] = ()
    ) -> None:
        self.data, self.device, self.memory_budget, self.traces = data, device, memory_budget, traces
        self._longest: tuple[Tape, StateMeasures] | None = None
        self._last: tuple[Experiment, Start] | None = None

    def start_of(self, experiment: Experiment) -> Start:
        """The start of one run, from what is kept where it can be."""
        unclipped = replace(experiment, clipping="none")
        if self._last is not None and self._last[0] == unclipped:
            return self._last[1]
        problem = prepare(experiment, self.data, self.device)
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is recorded
            x, target = problem.batch(0)
            tape = self._tape_of(x)
            evaluation = evaluate(problem, problem.params, x, target, 0, self.memory_budget, tape)
            if tape is not None and self._longest is not None and evaluation.ends is None:
                states = self._longest[1].first(len(x))
            else:
                states = measure_states(problem.cell, evaluation.tape, evaluation.ends, slopes=True)
            trace = trace_columns(evaluation, states, self.traces)
            layers = layer_columns(problem, evaluation, states, trace)
            summary = start_columns(problem, evaluation, trace, states, self.traces)
        start = Start(problem, EvaluatedBatch(x, target, evaluation), trace, layers, summary)
        if not experiment.updates:
            self._longest = self._longest or (None if len(evaluation.layers) > 1 else (evaluation.tape, states))
            self._last = unclipped, start
        return start

    def _tape_of(self, x: Array) -> Tape | None:
        """The tape of x, if x is the beginning of the longest sequence."""
        if self._longest is None:
            return None
        tape, T = self._longest[0], x.shape[0]
        if tape.x.shape[0] < T or not bool(namespace(x).all(tape.x[:T] == x)):
            return None
        return tape.prefix(T)
