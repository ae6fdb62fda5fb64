"""How kernel.c sees each cell that it knows: its number, its blocks of rows, and the numbers of its W_hh."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rnn_core.arrays import Params
from rnn_core.cells.antisymmetric import AntisymmetricCell
from rnn_core.cells.base import Cell
from rnn_core.cells.gru import GRUCell
from rnn_core.cells.gru_reset_before import GRUResetBeforeCell
from rnn_core.cells.indrnn import IndRNNCell
from rnn_core.cells.layer_norm import LayerNormCell
from rnn_core.cells.lru import LRUCell
from rnn_core.cells.lstm import LSTMCell
from rnn_core.cells.mingru import MinGRUCell
from rnn_core.cells.residual import ResidualCell
from rnn_core.cells.vanilla import VanillaCell


class Numbers(NamedTuple):
    """What kernel.c multiplies a state by, where that is not ``weight_hh`` itself.

    Attributes:
        given: (cell, params) -> these numbers.
        gradient: their gradient, of the same shape -> dL/d(weight_hh). It is linear.
    """

    given: Callable[[Cell, Params], np.ndarray]
    gradient: Callable[[np.ndarray], np.ndarray]


class Form(NamedTuple):
    """How kernel.c sees a cell, in blocks of H rows.

    Attributes:
        number: as kernel.c counts the cells.
        kept: blocks that the forward pass keeps of a step.
        da: blocks of da_t.
        bias_ih, bias_hh: which of them, summed, are the gradients of the biases.
        own: which of them, summed, are the gradients of the cell's own parameters, in their order.
        numbers: what stands for ``weight_hh``; None is ``weight_hh`` as it is.
        by_unit: no matrix mixes units, so every entry of what flows back may have an exponent of its own.
    """

    number: int
    kept: int
    da: int
    bias_ih: tuple[int, ...]
    bias_hh: tuple[int, ...]
    own: tuple[int, ...] = ()
    numbers: Numbers | None = None
    by_unit: bool = False


def _matrix(cell: Cell, params: Params) -> np.ndarray:
    assert isinstance(cell, AntisymmetricCell)
    return cell.matrix(params["weight_hh"])


def _coefficients(cell: Cell, params: Params) -> np.ndarray:
    assert isinstance(cell, LRUCell)
    return cell.numbers(params["weight_hh"])


FORMS: dict[type[Cell], Form] = {
    VanillaCell: Form(0, 1, 1, (0,), (0,)),
    ResidualCell: Form(0, 1, 1, (0,), (0,)),
    AntisymmetricCell: Form(0, 1, 1, (0,), (0,), numbers=Numbers(_matrix, AntisymmetricCell.of_matrix)),
    LSTMCell: Form(1, 4, 4, (0, 1, 2, 3), (0, 1, 2, 3)),
    GRUCell: Form(2, 4, 4, (0, 1, 3), (0, 1, 2)),
    GRUResetBeforeCell: Form(3, 3, 3, (0, 1, 2), (0, 1, 2)),
    IndRNNCell: Form(4, 1, 1, (0,), (0,), by_unit=True),
    LRUCell: Form(5, 1, 1, (0,), (0,), numbers=Numbers(_coefficients, LRUCell.of_numbers), by_unit=True),
    MinGRUCell: Form(6, 2, 2, (0, 1), (0, 1), by_unit=True),
    LayerNormCell: Form(7, 2, 3, (0,), (0,), own=(2, 1)),
}


def form_of(cell: Cell) -> Form:
    """Of a cell that kernel.c knows."""
    return FORMS[type(cell)]


def recurrent_numbers(cell: Cell, params: Params) -> np.ndarray | None:
    """What kernel.c takes for W_hh; None of a cell without any."""
    numbers = form_of(cell).numbers
    if numbers is None:
        return params.get("weight_hh")
    with np.errstate(all="ignore"):  # as in C: what is not finite is found where it is looked for
        return numbers.given(cell, params)


def recurrent_gradient(cell: Cell, gradient: np.ndarray, exponent: int) -> tuple[np.ndarray, int]:
    """dL/d(weight_hh) and its exponent, from the gradient of what kernel.c took for W_hh, times 2**exponent."""
    numbers = form_of(cell).numbers
    if numbers is None:
        return gradient, exponent
    whole = numbers.gradient(gradient)
    if not np.isfinite(whole).all() and np.isfinite(gradient).all():  # two numbers near the top of the range were added
        return numbers.gradient(0.5 * gradient), exponent + 1
    return whole, exponent


def gain_and_keep(cell: Cell) -> tuple[float, float]:
    """(gain, keep) of h_t = keep h_{t-1} + gain phi(a_t)."""
    if isinstance(cell, ResidualCell | LayerNormCell):
        return cell.step, 1.0 - cell.leak
    return (cell.step, 1.0) if isinstance(cell, AntisymmetricCell) else (1.0, 0.0)
