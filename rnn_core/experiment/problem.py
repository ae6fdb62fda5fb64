"""An experiment with its arrays: ``prepare`` draws the parameters and sets up the task."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_core import gate_biases, readout
from rnn_core.arrays import Array, Params, like, namespace, place
from rnn_core.bptt import DIRECTIONS, name_in_layer
from rnn_core.cells import CELLS, Cell, make_cell
from rnn_core.experiment.arguments import check_data, check_device, check_experiment, takes_an_experiment
from rnn_core.experiment.flossing import Flossed, flossed_start
from rnn_core.experiment.own_cells import OWN_CELLS, own_cell_of
from rnn_core.experiment.settings import RANGES, Experiment
from rnn_core.scaling import all_finite
from rnn_core.streams import stream
from rnn_core.tasks import GENERATED, PACKAGED, Sequences, SequenceTask, Task

RAGGED_REVERSE = "their reverse direction would start in the padding of those that end early"


@dataclass(frozen=True, repr=False)
class Problem:
    """What a run starts from, or an oracle: settings, equations, task and parameters.

    Attributes:
        experiment: the settings.
        cell: the recurrent cell.
        task: where batches come from.
        params: the cell's parameters, and ``weight_ho`` and ``bias_ho`` of the readout; of a second layer with the ending _l1, and so on; of
            a reverse direction with the ending _reverse.
        device: ``cpu`` or ``cuda``.
        flossed: what flossing did before; None where nothing was flossed.
    """

    experiment: Experiment
    cell: Cell
    task: Task
    params: Params
    device: str
    flossed: Flossed | None = None

    @property
    def layers(self) -> int:
        """How many layers of the cell there are."""
        return self.experiment.layers or 1  # a user's own cell has no such setting

    @property
    def directions(self) -> int:
        """How many directions every layer has."""
        return directions_of(self.experiment)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The parameters of a user's module that ask for no gradient: training leaves them, with weight decay too."""
        if not self.cell.opaque:
            return ()
        cell: Any = self.cell
        return tuple(name for name in cell.params() if name not in cell.trainable)

    def batch(self, update: int) -> tuple[Array, Array]:
        """The training batch of ``update``: x (T, B, D) and its target, on the device."""
        return self._place(*self.task.batch(update))

    def held_out(self) -> tuple[Array, Array]:
        """The held-out sequences, on the device."""
        return self._place(*self.task.held_out())

    def held_out_parts(self) -> Iterator[tuple[Array, Array]]:
        """The same part after part, none of them larger than memory needs it."""
        for part in self.task.held_out_parts():
            yield self._place(*part)

    def _place(self, x: np.ndarray, target: np.ndarray) -> tuple[Array, Array]:
        parameter = next(iter(self.params.values()))
        placed = like(x, parameter)
        if target.dtype.kind != "i":
            return placed, like(target, parameter)
        return placed, namespace(placed).asarray(target, device=placed.device)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in self.params.items())
        return f"Problem({self.experiment!r} on {self.device}; params: {shapes})"


@takes_an_experiment
def prepare(experiment: Experiment, data: Sequences | None = None, device: str = "cpu") -> Problem:
    """Draw the parameters of ``experiment`` and set up its task.

    Args:
        data: the sequences of a task that is not generated.
        device: ``cpu`` (NumPy) or ``cuda`` (torch).

    Raises:
        TypeError: an argument is not what its name says.
        ValueError: the task is unknown, needs ``data``, or does not fit the experiment; the device is unknown; a weight is
            beyond the range of the dtype.
    """
    check_experiment("prepare", experiment)
    check_data(data)
    check_device(device)
    task = task_of(experiment, data)
    if experiment.cell in OWN_CELLS:
        return _of_own_cell(experiment, task, device)
    cell = cell_of(experiment)
    params: Params = {}
    directions, units = directions_of(experiment), directions_of(experiment) * experiment.hidden_size
    recurrences = list(itertools.product(range(experiment.layers), range(directions)))
    for layer, direction in recurrences:
        drawn = _drawn(cell, experiment, units if layer else task.input_size, layer, direction)
        params |= {name_in_layer(name, layer, direction): value for name, value in drawn.items()}
    flossed = flossed_start(experiment, cell, task, params) if experiment.flossing else None
    params = flossed.params if flossed else params
    params |= readout.init_readout(stream(experiment.seed, "readout"), units, task.output_size)
    with np.errstate(over="ignore"):  # the check below says so
        placed = {name: place(value, experiment.dtype, device) for name, value in params.items()}
    scale = "spectral_radius" if experiment.weight_scale is None else "weight_scale"
    for field, name in ((scale, "weight_hh"), ("input_scale", "weight_ih")):
        of_all = [placed.get(name_in_layer(name, *recurrence)) for recurrence in recurrences]
        if not all_finite(*(value for value in of_all if value is not None)):
            raise ValueError(
                f"{field}: {getattr(experiment, field)!r} is not allowed with dtype {experiment.dtype!r}; "
                f"entries of {name} leave its range"
            )
    return Problem(experiment, cell, task, placed, device, flossed)


def directions_of(experiment: Experiment) -> int:
    """How many directions every layer has."""
    return len(DIRECTIONS) if experiment.bidirectional else 1


def _drawn(cell: Cell, experiment: Experiment, inputs: int, layer: int, direction: int) -> Params:
    """The parameters of one direction of a layer, from streams of its own: a deeper stack begins with the same layers."""
    params = cell.init_params(
        stream(experiment.seed, f"weights{'_reverse' * direction}", layer),
        inputs,
        experiment.hidden_size,
        experiment.initializer,
        experiment.spectral_radius,
        experiment.input_scale,
        weight_scale=experiment.weight_scale,
    )
    params["bias_ih"] += _gate_bias(cell, experiment, layer, direction)
    return params


def _gate_bias(cell: Cell, experiment: Experiment, layer: int, direction: int) -> np.ndarray:
    """(G·H,), from a stream of its own: weights are the same with and without."""
    if experiment.chrono is not None:
        rng = stream(experiment.seed, f"biases{'_reverse' * direction}", layer)
        return gate_biases.chrono(cell, rng, experiment.hidden_size, experiment.chrono)
    return gate_biases.uniform(cell, experiment.hidden_size, experiment.forget_bias or 0.0)


def _of_own_cell(experiment: Experiment, task: Task, device: str) -> Problem:
    """The same of a cell of the user's own: a module that has drawn its parameters. The readout reads the first part of its state."""
    cell, x = own_cell_of(experiment, task.input_size, device)
    params = cell.params()
    units = math.prod(cell.state_shapes(params)[cell.state_names[0]])
    drawn = readout.init_readout(stream(experiment.seed, "readout"), units, task.output_size)
    for name in drawn:
        if name in params:
            raise ValueError(
                f"cell: {experiment.cell!r} has a parameter {name!r}, which is the readout's name; choose another"
            )
    return Problem(experiment, cell, task, params | {name: like(value, x) for name, value in drawn.items()}, device)


def cell_of(experiment: Experiment) -> Cell:
    """The cell with those of its options that the experiment sets."""
    options = {option: getattr(experiment, f"{experiment.cell}_{option}") for option in CELLS[experiment.cell].options}
    given = {option: value for option, value in options.items() if value is not None}
    return make_cell(experiment.cell, experiment.activation, **given)


def task_of(experiment: Experiment, data: Sequences | None) -> Task:
    """The task with what the experiment asks of it."""
    task = _posed(experiment, data)
    if experiment.bidirectional and task.ragged:
        raise ValueError(
            f"bidirectional: True does not fit; sequences of task {experiment.task!r} end at different steps or lack targets, and {RAGGED_REVERSE}"
        )
    if experiment.success_below is not None and not task.counts_wrong:
        raise ValueError(
            f"success_below: {experiment.success_below!r} does not fit; task {experiment.task!r} does not say which answers are wrong"
        )
    return task


def _posed(experiment: Experiment, data: Sequences | None) -> Task:
    e = experiment
    if data is None:
        if e.task not in GENERATED:
            given = f"data=rnn_core.tasks.{e.task}()" if e.task in PACKAGED else "data=Sequences(…)"
            raise ValueError(
                f"task: {e.task!r} is not generated ({', '.join(GENERATED)} are), so it needs its sequences: {given}"
            )
        kind = GENERATED[e.task]
        D = e.input_size or kind.default_input_size
        drawn = kind(e.seed, e.sequence_length, e.batch_size, D, e.loss_at or kind.default_loss_at)
        if e.held_out_sequences is not None:
            drawn.held_out_sequences = e.held_out_sequences
        drawn.correlation = e.input_correlation
        return drawn
    if e.task in GENERATED:
        raise ValueError(
            f"task: {e.task!r} is generated, and sequences were given; give them a name of their own, as task='mine', or leave them out"
        )
    if e.held_out_sequences is not None:
        raise ValueError(
            f"held_out_sequences: {e.held_out_sequences} does not fit; task {e.task!r} holds {int(data.held_out.sum())} of its sequences out"
        )
    if e.input_size not in (None, data.inputs.shape[2]):
        raise ValueError(
            f"input_size: {e.input_size} does not fit; the sequences have {data.inputs.shape[2]} inputs a step"
        )
    if data.largest > RANGES[e.dtype][1]:
        raise ValueError(f"dtype: {e.dtype!r} does not hold the sequences, whose largest number is {data.largest:.3g}")
    return SequenceTask(data, e.seed, e.sequence_length, e.batch_size, e.loss_at or data.loss_at)
