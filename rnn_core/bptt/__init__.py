"""Backpropagation through time. Derivation: rnn_core/README.md, sections 1 to 3.

Read ``loop.py`` first: the loop over steps, last to first, and the sums over time, in the letters of the derivation.

| file | holds |
|---|---|
| ``loop.py`` | the textbook loop, in plain floats (sections 1 and 2) |
| ``passes.py`` | ``forward`` and ``backward``: from segment to segment of the sequence |
| ``signal.py`` | ``Signal``: what flows from a step to the one before, with its exponent apart (section 3) |
| ``careful.py`` | one step where numbers leave the range of plain floats (section 3) |
| ``watch.py`` | whether they do |
| ``steps.py`` | the ways to take steps: by the textbook loop, with care, or compiled |
| ``results.py`` | ``Gradients``, and what collects them |
| ``weights.py`` | ``WeightShares``: which step writes a weight's gradient (section 3.3) |
| ``stack.py`` | several layers: upwards, and downwards again (section 2.5) |
| ``directions.py`` | what joins the two directions of a layer (section 2.5) |
"""

from rnn_core.bptt.directions import DIRECTIONS, in_own_time, part_of_direction, side_by_side
from rnn_core.bptt.passes import backward, forward, run_forward
from rnn_core.bptt.results import Gradients, NotKept
from rnn_core.bptt.stack import (
    Layer,
    back_through_stack,
    input_gradient_of_layer,
    name_in_layer,
    params_of_layer,
    run_stack,
    stack_gradients,
    states_of_layer,
)
from rnn_core.bptt.weights import WeightShares

__all__ = [
    "DIRECTIONS",
    "Gradients",
    "Layer",
    "NotKept",
    "WeightShares",
    "back_through_stack",
    "backward",
    "forward",
    "in_own_time",
    "input_gradient_of_layer",
    "name_in_layer",
    "params_of_layer",
    "part_of_direction",
    "run_forward",
    "run_stack",
    "side_by_side",
    "stack_gradients",
    "states_of_layer",
]
