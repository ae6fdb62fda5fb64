"""The table ``traces``: norms at every time step of one recorded update."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from rnn_core.bptt import Gradients
from rnn_core.columns import OWN_CELL, Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.measures.states import StateMeasures
from rnn_core.formats import FORMATS
from rnn_core.quantiles import LEVELS

LN10 = math.log(10.0)

# What a trace holds only where it is asked for: each costs about as much time as the gradient, or as much room as the other columns.
ASKED = {
    "weight_gradient": "what every step adds to ∂L/∂W_hh: its norm, and its cosine with the whole",
    "parameter_sensitivity": "how far the last state moves with an entry of W_hh, four backward passes a run; in runs",
    "entry_quantiles": "how large the entries of ∂L/∂h_t are: quantiles of log2 of their magnitudes",
}
QUANTILES = {"log2_entry_min": 0.0, "log2_entry_q05": 0.05, "log2_entry_q25": 0.25, "log2_entry_median": 0.5,
             "log2_entry_q75": 0.75, "log2_entry_q95": 0.95, "log2_entry_max": 1.0}  # fmt: skip
assert tuple(QUANTILES.values()) == LEVELS

TRACE = (
    Column("update", "integer", "updates", "Updates made before this gradient was taken"),
    Column("t", "integer", "steps", "Time step, 1 … T"),
    Column("lag", "integer", "steps", "Steps back from the end of the sequence, T − t"),
    Column(
        "log10_grad_norm",
        "number",
        "log10",
        "log10 ‖∂L/∂h_t‖ over batch and units, total gradient; of a cell of the user's own h is the first part of its state, and with it, where that acts on no later step, the first part that does; −inf where it is exactly zero, nan where it is not a number",
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
    Column("hidden_rms", "number", "1", "Root mean square of h_t over batch and units; in a cell of the user's own of the first part that acts on later steps"),
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
    Column(
        "log10_weight_grad_norm",
        "number",
        "log10",
        "log10 of the Frobenius norm of what step t adds to ∂L/∂W_hh (of a cell of your own: to all its parameters), summed over the batch; "
        "−inf where that is exactly zero",
        null="not asked for; a cell without W_hh; not a number",
        asked="weight_gradient",
    ),
    Column(
        "weight_grad_cosine",
        "number",
        "1",
        "Cosine of the angle between that and the whole gradient; below 0 step t works against the whole",
        null="not asked for; a cell without W_hh; one of the two is zero or not a number",
        asked="weight_gradient",
    ),
    *(
        Column(name, "number", "log2",
               f"Quantile {level:g} of log2 of the magnitudes of the nonzero entries of ∂L/∂h_t; −inf where all are zero",
               null="not asked for; an entry is not a number", asked="entry_quantiles")
        for name, level in QUANTILES.items()
    ),
    Column(
        "zero_entries", "number", "fraction", "Entries of ∂L/∂h_t that are exactly zero",
        null="not asked for", asked="entry_quantiles",
    ),
)  # fmt: skip


def trace_columns(evaluation: Evaluation, states: StateMeasures, also: Collection[str] = ()) -> dict[str, np.ndarray]:
    """The columns ``TRACE`` of one update, each (T,); of those that must be asked for, what is named in ``also``."""
    gradients = evaluation.gradients
    return {
        **columns_of_layer(evaluation.update, gradients, states),
        **gradients.going_back.lost,
        **(_weight_columns(evaluation) if "weight_gradient" in also else {}),
        **(_quantile_columns(gradients) if "entry_quantiles" in also else {}),
    }


def columns_of_layer(update: int, gradients: Gradients, states: StateMeasures) -> dict[str, np.ndarray]:
    """The first columns of ``TRACE``, which the table ``layers`` has of every layer, each (T,)."""
    going_back = gradients.going_back
    T = len(gradients.log_norm)
    t = np.arange(1, T + 1, dtype=np.int32)
    cell_norm = gradients.log_norm_cell if gradients.log_norm_cell is not None else np.full(T, math.nan)
    return {
        "update": np.full(T, update, dtype=np.int32),
        "t": t,
        "lag": T - t,
        "log10_grad_norm": going_back.log_norm / LN10,
        "log10_immediate_norm": gradients.log_norm_immediate / LN10,
        "log10_cell_grad_norm": cell_norm / LN10,
        "hidden_rms": states.hidden_rms,
        "saturation": states.saturation,
    }


def _weight_columns(evaluation: Evaluation) -> dict[str, np.ndarray]:
    gradients = evaluation.gradients
    if not evaluation.tape.cell.has_matrix:
        return dict.fromkeys(
            ("log10_weight_grad_norm", "weight_grad_cosine"), np.full(len(gradients.log_norm), math.nan)
        )
    shares = gradients.weight_shares
    return {"log10_weight_grad_norm": shares.log_norm / LN10, "weight_grad_cosine": shares.cosine}


def _quantile_columns(gradients: Gradients) -> dict[str, np.ndarray]:
    quantiles = gradients.going_back.entry_quantiles
    return {**dict(zip(QUANTILES, quantiles.log2.T, strict=True)), "zero_entries": quantiles.zero}
