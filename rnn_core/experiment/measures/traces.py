"""The table ``traces``: norms at every time step of one recorded update."""

from __future__ import annotations

import math

import numpy as np

from rnn_core.columns import OWN_CELL, Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.measures.states import StateMeasures
from rnn_core.formats import FORMATS

LN10 = math.log(10.0)

TRACE = (
    Column("update", "integer", "updates", "Updates made before this gradient was taken"),
    Column("t", "integer", "steps", "Time step, 1 … T"),
    Column("lag", "integer", "steps", "Steps back from the end of the sequence, T − t"),
    Column(
        "log10_grad_norm",
        "number",
        "log10",
        "log10 ‖∂L/∂h_t‖ over batch and units, total gradient; of a cell of the user's own h is the first part of its state; −inf where it is exactly zero, nan where it is not a number",
    ),
    Column(
        "log10_immediate_norm",
        "number",
        "log10",
        "The same of the direct part alone, the loss at step t; −inf where step t carries no loss",
    ),
    Column(
        "log10_cell_grad_norm",
        "number",
        "log10",
        "log10 ‖∂L/∂c_t‖ of an LSTM's cell path: total gradient, through h_t and through c_(t+1); of a user's own cell of the part called cell",
        null="a state without such a part",
    ),
    Column("hidden_rms", "number", "1", "Root mean square of h_t over batch and units"),
    Column(
        "saturation",
        "number",
        "fraction",
        "Units (of a gated cell: and gates) that are off or saturated: their slope is below a tenth of its supremum",
        null=OWN_CELL,
    ),
    *(
        Column(f"{format.name}_{what}", "number", "fraction", f"Nonzero entries of ∂L/∂h_t that {format.name} would {verb}")
        for format in FORMATS
        for what, verb in (("flushed", "round to zero"), ("overflowed", "turn into inf"))
    ),
)  # fmt: skip


def trace_columns(evaluation: Evaluation, states: StateMeasures) -> dict[str, np.ndarray]:
    """The columns ``TRACE`` of one update, each (T,)."""
    gradients = evaluation.gradients
    T = len(gradients.log_norm)
    t = np.arange(1, T + 1, dtype=np.int32)
    cell_norm = gradients.log_norm_cell if gradients.log_norm_cell is not None else np.full(T, math.nan)
    return {
        "update": np.full(T, evaluation.update, dtype=np.int32),
        "t": t,
        "lag": T - t,
        "log10_grad_norm": gradients.log_norm / LN10,
        "log10_immediate_norm": gradients.log_norm_immediate / LN10,
        "log10_cell_grad_norm": cell_norm / LN10,
        "hidden_rms": states.hidden_rms,
        "saturation": states.saturation,
        **gradients.lost,
    }
