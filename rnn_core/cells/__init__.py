"""The registry of cells.

To add one: a file here, forward above backward; below, its import, its row in ``CELLS`` and its name; a step in
``oracles/equations.py``; a section of the derivation, which the file names.
"""

from __future__ import annotations

from rnn_core.cells.antisymmetric import AntisymmetricCell
from rnn_core.cells.base import Cell
from rnn_core.cells.gru import GRUCell
from rnn_core.cells.gru_reset_before import GRUResetBeforeCell
from rnn_core.cells.indrnn import IndRNNCell
from rnn_core.cells.layer_norm import LayerNormCell
from rnn_core.cells.lru import LRUCell
from rnn_core.cells.lstm import LSTMCell
from rnn_core.cells.mingru import MinGRUCell
from rnn_core.cells.own import TorchCell
from rnn_core.cells.residual import ResidualCell
from rnn_core.cells.slstm import SLSTMCell
from rnn_core.cells.vanilla import VanillaCell
from rnn_core.choices import Registry, choose

CELLS: Registry[type[Cell]] = Registry(
    "cells",
    {
        cell.name: cell
        for cell in (
            VanillaCell,
            ResidualCell,
            GRUCell,
            GRUResetBeforeCell,
            LSTMCell,
            IndRNNCell,
            AntisymmetricCell,
            LRUCell,
            SLSTMCell,
            LayerNormCell,
            MinGRUCell,
        )
    },
)


def make_cell(name: str, activation: str, **options: float) -> Cell:
    """The cell called ``name`` with the given activation and options; ValueError names the nearest one otherwise."""
    return choose("cell", name, CELLS)(activation, **options)


__all__ = [
    "CELLS",
    "AntisymmetricCell",
    "Cell",
    "GRUCell",
    "GRUResetBeforeCell",
    "IndRNNCell",
    "LRUCell",
    "LayerNormCell",
    "LSTMCell",
    "MinGRUCell",
    "ResidualCell",
    "SLSTMCell",
    "TorchCell",
    "VanillaCell",
]
