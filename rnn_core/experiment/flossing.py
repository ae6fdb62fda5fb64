"""Flossing before training: updates that bring Lyapunov exponents to zero, before anything is measured or trained.

They are part of how a network starts, as an initialiser is. Derivation: rnn_core/README.md, section 3.5.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from rnn_core.arrays import Params
from rnn_core.cells import Cell
from rnn_core.experiment.settings import Experiment, axes
from rnn_core.flossing import SEQUENCES, STEPS, flossing_loss
from rnn_core.optimizers import Adam
from rnn_core.tasks import SequenceTask, Task

LEARNING_RATE = 1e-3  # of Adam (Engelken 2023)
REMEMBERED = 64  # flossed networks: their spectra, checks and runs that differ in training ask for the same one
_TRAINING = {name: axis for name, axis in axes().items() if axis.training}


class Flossed(NamedTuple):
    """What flossing did to a network.

    Attributes:
        params: of the cell, float64.
        updates: how many were made; fewer than asked for where a direction died.
        loss_drawn: of the first batch's part, with the parameters as drawn.
        loss: of the same afterwards.
    """

    params: Params
    updates: int
    loss_drawn: float
    loss: float


_remembered: OrderedDict[tuple[Experiment, str], Flossed] = OrderedDict()


def flossed_start(experiment: Experiment, cell: Cell, task: Task, params: Params) -> Flossed:
    """``params`` after ``experiment.flossing`` updates by the inputs of the first batches.

    Args:
        params: of the cell as drawn, NumPy float64; they are not changed.
    """
    defaults = Experiment()
    untrained = replace(experiment, dtype=defaults.dtype, **{name: getattr(defaults, name) for name in _TRAINING})
    key = untrained, task.data.digest if isinstance(task, SequenceTask) else ""
    if key not in _remembered:
        while len(_remembered) >= REMEMBERED:
            _remembered.popitem(last=False)
        _remembered[key] = _flossed(experiment, cell, task, params)
    flossed = _remembered[key]
    return flossed._replace(params={name: value.copy() for name, value in flossed.params.items()})


def _flossed(experiment: Experiment, cell: Cell, task: Task, params: Params) -> Flossed:
    k, optimizer, first = experiment.flossing_exponents, Adam(LEARNING_RATE), _inputs(task, 0)
    made = 0
    while made < experiment.flossing:
        evaluated = flossing_loss(cell, params, first if made == 0 else _inputs(task, made), k)
        if made == 0:
            drawn = evaluated.loss
        if not np.isfinite(evaluated.loss):
            break
        params, made = optimizer.step(params, evaluated.gradients), made + 1
    return Flossed(params, made, drawn, flossing_loss(cell, params, first, k).loss)


def _inputs(task: Task, update: int) -> np.ndarray:
    """The first steps of the first sequences of a batch, (up to STEPS, up to SEQUENCES, D)."""
    return np.asarray(task.batch(update)[0][:STEPS, :SEQUENCES], dtype=np.float64)
