"""A stack of layers of one cell: forward upwards, backward downwards. Derivation: rnn_core/README.md, section 2.5.

Each layer reads the states of the layer below. So the dL/dx_t of a layer is the direct part of dL/dh_t of the layer below it.

Parameters of all layers stand in one dict, named as in torch.nn without its _l0: ``weight_hh`` of the first layer, ``weight_hh_l1`` of the
second, and so on upwards.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from rnn_core.arguments import GradHidden
from rnn_core.arrays import Array, Params
from rnn_core.bptt.passes import backward, run_forward
from rnn_core.bptt.results import Gradients
from rnn_core.cells.base import Cell
from rnn_core.scaling import Scaled
from rnn_core.tape import Tape

_ABOVE = re.compile(r"_l[1-9][0-9]*$")


class Layer(NamedTuple):
    """One layer of a stack after both passes."""

    tape: Tape
    gradients: Gradients


def name_in_layer(name: str, layer: int) -> str:
    """What a parameter of a layer is called, the first counted as 0: ``weight_hh``, ``weight_hh_l1`` …"""
    return f"{name}_l{layer}" if layer else name


def params_of_layer(params: Params, layer: int) -> Params:
    """The parameters of one layer by their plain names; with the first layer also what belongs to none, as a readout."""
    if not layer:
        return {name: value for name, value in params.items() if not _ABOVE.search(name)}
    ending = f"_l{layer}"
    return {name.removesuffix(ending): value for name, value in params.items() if name.endswith(ending)}


def run_stack(cell: Cell, params: Params, x: Array, layers: int, memory_budget: int | None = None) -> list[Tape]:
    """The tapes of all layers over x (T, B, D) from zero states, the first layer's first.

    Args:
        memory_budget: of a single layer, see ``forward``.

    Raises:
        ValueError: a shape does not fit; a memory budget with several layers.
    """
    if layers == 1:
        return [run_forward(cell, params, x, memory_budget=memory_budget)]
    if memory_budget is not None:
        raise ValueError(
            f"memory_budget: {memory_budget!r} is not allowed with layers: {layers}; "
            "what goes from layer to layer is kept whole, so leave it out"
        )
    tapes: list[Tape] = []
    given: Array | Scaled = x
    for layer in range(layers):
        tapes.append(run_forward(cell, params_of_layer(params, layer), given))
        given = tapes[-1].hidden
    return tapes


def back_through_stack(tapes: list[Tape], grad_hidden: GradHidden, **options: Any) -> list[Gradients]:
    """The gradients of all layers, the first layer's first, from the direct part of dL/dh_t of the last.

    Args:
        tapes: from ``run_stack``.
        grad_hidden: as ``backward`` takes it.
        options: ``window`` and ``signal_threshold`` of ``backward``. They act on every layer.
    """
    of_layers: list[Gradients] = []
    for tape in reversed(tapes):
        of_layers.append(backward(tape, of_layers[-1].x if of_layers else grad_hidden, **options))
    return of_layers[::-1]


def stack_gradients(gradients: list[Gradients]) -> dict[str, Array | Scaled]:
    """dL/d(parameter) of all layers in one dict."""
    return {
        name_in_layer(name, layer): gradient
        for layer, of_layer in enumerate(gradients)
        for name, gradient in of_layer.params.items()
    }
