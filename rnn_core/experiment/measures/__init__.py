"""What a run measures, and the columns that it comes in.

To add a measured column: a ``Column`` and its value, next to each other in one of these files. Tables, their documentation
and the ``Result`` follow. A test names a column that is declared and not measured, or measured and not declared.
"""

from __future__ import annotations

from rnn_core.columns import Column
from rnn_core.experiment.measures.end import (
    BREAKDOWN,
    END,
    SOLVED_AT,
    breakdown_columns,
    end_columns,
    looks_at_held_out,
    succeeds,
)
from rnn_core.experiment.measures.growth import GROWTH, growth_of, norms_of_last_step
from rnn_core.experiment.measures.layers import LAYER, as_one_layer, layer_columns
from rnn_core.experiment.measures.prediction import PREDICTION
from rnn_core.experiment.measures.sensitivity import SENSITIVITY
from rnn_core.experiment.measures.spectra import (
    ONE_RECURRENCE,
    SPECTRA,
    SPECTRUM,
    Request,
    Spectra,
    measure_spectra,
)
from rnn_core.experiment.measures.start import DEVIATION, FLOSSED, MATRIX, NARROWER_FORMATS, TASK, start_columns
from rnn_core.experiment.measures.states import SATURATED_BELOW, StateMeasures, measure_states
from rnn_core.experiment.measures.traces import ASKED, TRACE, trace_columns
from rnn_core.experiment.measures.updates import UPDATE, update_columns
from rnn_core.experiment.measures.weights import WEIGHTS
from rnn_core.theory import SURVIVES

# By table, in the order of its columns.
COLUMNS: dict[str, tuple[Column, ...]] = {
    "traces": TRACE,
    "layers": LAYER,
    "updates": UPDATE,
    "runs": (
        *TASK,
        *FLOSSED,
        *MATRIX,
        *GROWTH,
        *PREDICTION,
        *NARROWER_FORMATS,
        *DEVIATION,
        *WEIGHTS,
        *SENSITIVITY,
        *END,
        *BREAKDOWN,
    ),
}

__all__ = [
    "ASKED",
    "COLUMNS",
    "ONE_RECURRENCE",
    "Request",
    "SATURATED_BELOW",
    "SOLVED_AT",
    "SPECTRA",
    "SPECTRUM",
    "SURVIVES",
    "Spectra",
    "StateMeasures",
    "as_one_layer",
    "breakdown_columns",
    "end_columns",
    "growth_of",
    "layer_columns",
    "looks_at_held_out",
    "measure_spectra",
    "measure_states",
    "norms_of_last_step",
    "start_columns",
    "succeeds",
    "trace_columns",
    "update_columns",
]
