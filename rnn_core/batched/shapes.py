"""What runs must share to go together, and how many go."""

from __future__ import annotations

from typing import NamedTuple

import torch

from rnn_core.activations import Activation
from rnn_core.cells.base import Cell

MOST_RUNS = {"cuda": 1024, "cpu": 8}  # runs that go together; more would not make a GPU faster
MEMORY_SHARE = 0.4  # of a GPU's memory, for the buffers of one batch
CPU_MEMORY = 2**28  # bytes, for the same on a CPU
BYTES = {"float64": 8, "float32": 4}


class Shape(NamedTuple):
    """What runs of one batch have in common.

    Attributes:
        cell: the equations, with their activation.
        T, B, D, H: steps, sequences, inputs and hidden units.
        dtype: ``float64`` or ``float32``.
        device: a torch device.
    """

    cell: Cell
    T: int
    B: int
    D: int
    H: int
    dtype: str
    device: str

    @property
    def phi(self) -> Activation:
        return self.cell.phi

    @property
    def columns(self) -> int:
        """K: hidden units, inputs and a one for the bias, and zeros up to a multiple of 8, which matrix products like."""
        return -(-(self.H + self.D + 1) // 8) * 8

    def bytes_of_a_run(self, rows: int) -> int:
        """What the buffers of one run take, where a step's product has ``rows`` rows."""
        parts = len(self.cell.state_names)
        numbers = self.columns + rows + (2 * parts - 1) * self.H
        return (self.T + 1) * numbers * self.B * BYTES[self.dtype]

    def runs(self, rows: int) -> int:
        """R: runs that go together, the same however many there are, so that a run's bits do not depend on its company.

        It depends on the shape and on the device's memory alone; 0 where not even one fits.
        """
        kind = torch.device(self.device).type
        memory = CPU_MEMORY
        if kind == "cuda":
            memory = int(MEMORY_SHARE * float(torch.cuda.get_device_properties(self.device).total_memory))
        fitting = min(MOST_RUNS.get(kind, MOST_RUNS["cuda"]), memory // self.bytes_of_a_run(rows))
        return 1 << (fitting.bit_length() - 1) if fitting else 0
