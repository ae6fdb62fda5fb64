"""The table ``layers``: norms at every time step of every layer and direction of a network, at one recorded update."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rnn_core.bptt import DIRECTIONS
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
    Column("direction", "name", "name", "forward: the cell that reads from the first step to the last; reverse: from the last to the first. t and lag count as forward in both"),
    *(_IMMEDIATE if name == _IMMEDIATE.name else _OF_TRACE[name] for name in _SHARED[1:]),
)  # fmt: skip
_OF_PLACE = ("update", "t", "lag")  # columns that say where a row is


_Part = tuple[int, int, Mapping[str, np.ndarray]]  # number of the layer, direction, columns


def layer_columns(
    problem: Problem, evaluation: Evaluation, states: StateMeasures, trace: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The columns ``LAYER`` of one update, layer by layer, each (L · T,), of two directions (2 L · T,).

    Of a single layer with one direction there are none: ``trace`` is all.

    Args:
        states: of the last layer, forward.
        trace: of the same update.
    """
    if len(evaluation.layers) == 1:
        return {}
    parts: list[_Part] = []
    for layer in evaluation.layers:
        if layer.gradients is evaluation.gradients:
            parts.append((layer.number, layer.direction, trace))
            continue
        of_layer = measure_states(problem.cell, layer.tape, evaluation.ends)
        columns = columns_of_layer(evaluation.update, layer.gradients, of_layer)
        turned = layer.direction == DIRECTIONS.index("reverse")
        by_t = {name: v[::-1] if turned and name not in _OF_PLACE else v for name, v in columns.items()}
        parts.append((layer.number, layer.direction, by_t))
    return _joined(parts)


def as_one_layer(traces: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The columns ``LAYER`` of a run with a single layer and direction, from its ``traces``."""
    return _joined([(0, 0, traces)])


def _joined(parts: list[_Part]) -> dict[str, np.ndarray]:
    columns = {name: np.concatenate([part[name] for *_, part in parts]) for name in _SHARED}
    steps = [len(part["t"]) for *_, part in parts]
    columns["layer"] = np.repeat(np.array([number + 1 for number, *_ in parts], dtype=np.int32), steps)
    columns["direction"] = np.repeat([DIRECTIONS[direction] for _, direction, _ in parts], steps)
    return {column.name: columns[column.name] for column in LAYER}
