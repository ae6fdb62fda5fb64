"""The table ``layers``: norms at every time step of every layer of a stack, at one recorded update."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rnn_core.columns import Column
from rnn_core.experiment.evaluation import Evaluation
from rnn_core.experiment.measures.states import StateMeasures, measure_states
from rnn_core.experiment.measures.traces import TRACE, columns_of_layer
from rnn_core.experiment.problem import Problem

# What ``traces`` says of the last layer, said of every one.
_SHARED = ("update", "t", "lag", "log10_grad_norm", "log10_immediate_norm", "log10_cell_grad_norm", "hidden_rms", "saturation")  # fmt: skip
_OF_TRACE = {column.name: column for column in TRACE if column.name in _SHARED}
_IMMEDIATE = Column(
    "log10_immediate_norm", "number", "log10",
    "The same of the direct part alone: in the last layer the loss at step t, in the others what the layer above sends at step t; −inf where that is zero",
)  # fmt: skip

LAYER = (
    _OF_TRACE["update"],
    Column("layer", "integer", "layers", "Which layer, from 1, which reads the inputs, to L, which the readout reads"),
    *(_IMMEDIATE if name == _IMMEDIATE.name else _OF_TRACE[name] for name in _SHARED[1:]),
)


def layer_columns(
    problem: Problem, evaluation: Evaluation, states: StateMeasures, trace: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The columns ``LAYER`` of one update, layer by layer, each (L · T,). Of a single layer there are none: ``trace`` is all.

    Args:
        states: of the last layer.
        trace: of the same update.
    """
    if not evaluation.below:
        return {}
    parts: list[Mapping[str, np.ndarray]] = []
    for layer in evaluation.below:
        of_layer = measure_states(problem.cell, layer.tape, evaluation.ends)
        parts.append(columns_of_layer(evaluation.update, layer.gradients, of_layer))
    return _joined([*parts, trace])


def as_one_layer(traces: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns ``LAYER`` of a run with a single layer, from its ``traces``."""
    return _joined([traces])


def _joined(parts: list[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    columns = {name: np.concatenate([part[name] for part in parts]) for name in _SHARED}
    layer = np.repeat(np.arange(1, len(parts) + 1, dtype=np.int32), [len(part["t"]) for part in parts])
    return {column.name: layer if column.name == "layer" else columns[column.name] for column in LAYER}
