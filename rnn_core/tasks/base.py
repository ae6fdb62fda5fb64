"""What a task is: where its sequences come from, where its loss sits, and what counts as solved."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from rnn_core import losses


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
        ragged: sequences end at different steps, or targets are missing. Targets then are for every step, also for a loss at the
            last one, with nan or ``losses.NO_LABEL`` where there is none.
    """

    loss: str
    loss_at: str
    input_size: int
    output_size: int
    ragged: bool = False

    @abstractmethod
    def batch(self, update: int) -> Batch:
        """The training batch of one update."""

    @abstractmethod
    def held_out(self) -> Batch:
        """Sequences that no update sees, the same for every run of a seed."""

    @property
    def outputs_at(self) -> str:
        """``every`` where outputs are needed at every step, though the loss may sit at a few; else ``last``."""
        return "every" if self.ragged else self.loss_at

    def _held_out_targets(self) -> np.ndarray:
        """Those that there are, without the blanks of ragged sequences."""
        target = self.held_out().target
        return target[losses.carries_target(target)] if self.ragged else target

    @property
    def baseline(self) -> float:
        """The held-out loss of the best prediction that remembers nothing of the sequence: what ``solved`` is measured by.

        Here it is the best constant. A task whose target a network can half guess without memory says so in its place: in copy
        memory the clock alone tells that most steps ask for a blank.
        """
        return losses.baseline(self.loss, self._held_out_targets())

    @property
    def baseline_accuracy(self) -> float:
        """The held-out accuracy of always naming the commonest class; nan for a regression."""
        return losses.commonest(self._held_out_targets()) if self.loss == "softmax_cross_entropy" else math.nan

    def at(self, loss_at: str, target: np.ndarray) -> np.ndarray:
        """Targets given for every step (T, B, …), as they are needed for a loss at ``loss_at``."""
        return target[-1] if loss_at == "last" else target
