"""What a task is: where its sequences come from, where its loss sits, and what counts as solved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """x (T, B, D); target for a loss at every step (T, B, C) or (T, B), at the last step (B, C) or (B,)."""

    x: np.ndarray
    target: np.ndarray


class Task(ABC):
    """A source of batches for one run.

    Attributes:
        loss: a name in ``losses.LOSSES``.
        loss_at: ``last`` or ``every``: the step or steps at which the task defines its loss.
        input_size, output_size: D and C.
    """

    loss: str
    loss_at: str
    input_size: int
    output_size: int

    @abstractmethod
    def batch(self, update: int) -> Batch:
        """The training batch of one update."""

    @abstractmethod
    def held_out(self) -> Batch:
        """Sequences that no update sees, the same for every run of a seed."""

    def at(self, loss_at: str, target: np.ndarray) -> np.ndarray:
        """Targets given for every step (T, B, …), as they are needed for a loss at ``loss_at``."""
        return target[-1] if loss_at == "last" else target
