"""One point of a sweep: what it is (``Experiment``), and what running it measures (``run``).

The way of a run: ``settings`` -> ``problem`` -> ``evaluation`` of one batch -> ``measures`` -> ``runs`` -> ``result``.
"""

from __future__ import annotations

from rnn_core.experiment.evaluation import DirectPart, Evaluation, evaluate, loss_of
from rnn_core.experiment.measures import (
    ASKED,
    COLUMNS,
    ONE_RECURRENCE,
    SATURATED_BELOW,
    SOLVED_AT,
    SPECTRA,
    SPECTRUM,
    SURVIVES,
    Request,
    Spectra,
    as_one_layer,
    growth_of,
    measure_spectra,
    norms_of_last_step,
)
from rnn_core.experiment.own_cells import OWN_CELLS, SEPARATOR, OwnCell, register
from rnn_core.experiment.problem import RAGGED_REVERSE, Problem, prepare
from rnn_core.experiment.result import Result
from rnn_core.experiment.runs import Watcher, run, run_many
from rnn_core.experiment.settings import OF_MATRIX, RANGES, WITHOUT_MATRIX, Experiment, axes

__all__ = [
    "ASKED",
    "COLUMNS",
    "DirectPart",
    "Evaluation",
    "Experiment",
    "OF_MATRIX",
    "ONE_RECURRENCE",
    "OWN_CELLS",
    "OwnCell",
    "Problem",
    "RAGGED_REVERSE",
    "RANGES",
    "Request",
    "Result",
    "SATURATED_BELOW",
    "SEPARATOR",
    "SOLVED_AT",
    "SPECTRA",
    "SPECTRUM",
    "SURVIVES",
    "Spectra",
    "WITHOUT_MATRIX",
    "Watcher",
    "as_one_layer",
    "axes",
    "evaluate",
    "growth_of",
    "loss_of",
    "measure_spectra",
    "norms_of_last_step",
    "prepare",
    "register",
    "run",
    "run_many",
]
