"""The registry of cells. To add one: a file here, forward above backward, and a row in ``CELLS``."""

from __future__ import annotations

from rnn_core.cells.base import Cell
from rnn_core.cells.vanilla import VanillaCell
from rnn_core.choices import choose

CELLS: dict[str, type[VanillaCell]] = {cell.name: cell for cell in (VanillaCell,)}


def make_cell(name: str, activation: str) -> Cell:
    """The cell called ``name`` with the given activation; ValueError names the nearest one otherwise."""
    return choose("cell", name, CELLS)(activation=activation)


__all__ = ["CELLS", "Cell", "VanillaCell", "make_cell"]
