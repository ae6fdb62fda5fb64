"""A stack of layers of one cell: forward upwards, backward downwards. Derivation: rnn_core/README.md, section 2.5.

Each layer reads the states of the layer below. So the dL/dx_t of a layer is the direct part of dL/dh_t of the layer below it. A layer may
have two directions (``directions.py``). Then it gives the states of both, side by side.

Parameters of all layers stand in one dict, named as in torch.nn without its _l0: ``weight_hh`` of the first layer, ``weight_hh_l1`` of the
second, and so on upwards; ``weight_hh_reverse`` and ``weight_hh_l1_reverse`` of their reverse directions.
"""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple

from rnn_core.arguments import GradHidden
from rnn_core.arrays import Array, Params
from rnn_core.bptt.directions import DIRECTIONS, added, in_own_time, part_of_direction, side_by_side
from rnn_core.bptt.passes import backward, run_forward
from rnn_core.bptt.results import Gradients
from rnn_core.cells.base import Cell
from rnn_core.scaling import Scaled
from rnn_core.tape import Tape

_ENDING = re.compile(r"(_l[1-9][0-9]*)?(_reverse)?$")


class Layer(NamedTuple):
    """One direction of one layer of a stack after both passes, each in the direction's own time.

    Attributes:
        number: of the layer, the first counted as 0.
        direction: 0 forward, 1 reverse.
    """

    tape: Tape
    gradients: Gradients
    number: int = 0
    direction: int = 0


def name_in_layer(name: str, layer: int, direction: int = 0) -> str:
    """What a parameter of a layer is called, the first counted as 0: ``weight_hh``, ``weight_hh_reverse``, ``weight_hh_l1`` …"""
    return name + _ending(layer, direction)


def _ending(layer: int, direction: int) -> str:
    return (f"_l{layer}" if layer else "") + ("_reverse" if direction else "")


def params_of_layer(params: Params, layer: int, direction: int = 0) -> Params:
    """The parameters of one direction of a layer by their plain names; of the first also what belongs to none, as a readout."""
    ending = _ending(layer, direction)
    return {name.removesuffix(ending): value for name, value in params.items() if _ending_of(name) == ending}


@functools.lru_cache(maxsize=4096)  # every pass asks for all names again, once a layer
def _ending_of(name: str) -> str:
    ending = _ENDING.search(name)
    assert ending is not None  # it matches the end of any name
    return ending[0]


def run_stack(
    cell: Cell, params: Params, x: Array, layers: int, memory_budget: int | None = None, bidirectional: bool = False
) -> list[Tape]:
    """The tapes of all layers over x (T, B, D) from zero states, the first layer's first.

    Args:
        memory_budget: of a single layer with one direction, see ``forward``.
        bidirectional: whether every layer has two directions; then its forward tape stands before its reverse one, which is in own time.

    Raises:
        ValueError: a shape does not fit; a memory budget with several layers or directions.
    """
    if layers == 1 and not bidirectional:
        return [run_forward(cell, params, x, memory_budget=memory_budget)]
    if memory_budget is not None:
        many = f"layers: {layers}" if layers > 1 else "bidirectional: True"
        raise ValueError(
            f"memory_budget: {memory_budget!r} is not allowed with {many}; "
            "what goes from layer to layer is kept whole, so leave it out"
        )
    tapes: list[Tape] = []
    given: Array | Scaled = x
    for layer in range(layers):
        of_layer = [
            run_forward(cell, params_of_layer(params, layer, direction), in_own_time(given, direction))
            for direction in range(len(DIRECTIONS) if bidirectional else 1)
        ]
        tapes += of_layer
        if layer < layers - 1:
            given = states_of_layer(of_layer)
    return tapes


def states_of_layer(tapes: list[Tape]) -> Array | Scaled:
    """What a layer gives: the states h_1 … h_T of its directions side by side, (T, B, H of all)."""
    return side_by_side([in_own_time(tape.hidden, direction) for direction, tape in enumerate(tapes)])


def back_through_stack(
    tapes: list[Tape], grad_hidden: GradHidden | tuple[GradHidden, ...], **options: Any
) -> list[Gradients]:
    """The gradients of all layers, the first layer's first, from the direct part of dL/dh_t of the last.

    Args:
        tapes: from ``run_stack``.
        grad_hidden: as ``backward`` takes it; of two directions a pair, each in its direction's own time.
        options: ``window`` and ``signal_threshold`` of ``backward``. They act on every layer and direction.
    """
    given: list[Any] = list(grad_hidden) if isinstance(grad_hidden, tuple) else [grad_hidden]
    directions, gradients = len(given), list[Gradients]()
    for start in reversed(range(0, len(tapes), directions)):
        of_layer = [
            backward(tape, direct, **options)
            for tape, direct in zip(tapes[start : start + directions], given, strict=True)
        ]
        gradients = of_layer + gradients
        if start:
            sent = input_gradient_of_layer(of_layer)
            given = [in_own_time(part_of_direction(sent, i, directions), i) for i in range(directions)]
    return gradients


def input_gradient_of_layer(gradients: list[Gradients]) -> Array | Scaled:
    """dL/dx_t of a layer, (T, B, inputs): all of its directions read x_t."""
    return added([in_own_time(each.x, direction) for direction, each in enumerate(gradients)])


def stack_gradients(gradients: list[Gradients], bidirectional: bool = False) -> dict[str, Array | Scaled]:
    """dL/d(parameter) of all layers and directions in one dict."""
    directions = len(DIRECTIONS) if bidirectional else 1
    return {
        name_in_layer(name, *divmod(index, directions)): gradient
        for index, each in enumerate(gradients)
        for name, gradient in each.params.items()
    }
