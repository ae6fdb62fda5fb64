"""Temporal order: which of two symbols came first, among distractors."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np

from rnn_core.streams import stream
from rnn_core.tasks.base import Batch
from rnn_core.tasks.generated import GeneratedTask, one_hot

ASKED, SHOWN = 2, 6  # A and B are asked for; c, d, e and f distract


class TemporalOrder(GeneratedTask):
    """A or B at two steps, c … f at all others; the last step is asked which two it were: AA, BA, AB or BB, labels 0 … 3.

    The first stands in [.1 T, .2 T), the second in [.5 T, .6 T), counted from 0. So draws the code of Pascanu, Mikolov & Bengio
    (2013), after Hochreiter & Schmidhuber (1997, task 6a).
    """

    loss = "softmax_cross_entropy"
    output_size = 4
    default_loss_at = "last"
    default_input_size = SHOWN
    own = ("loss_at", "input_size")
    shortest = 10
    white_inputs = False
    prefixes = False
    tenths: ClassVar[tuple[int, ...]] = (1, 5)  # of T, where the steps that count begin; each has a tenth to stand in

    def draw(self, name: str, index: int, size: int) -> Batch:
        rng, each = stream(self.seed, name, index), np.arange(size)
        shown = rng.integers(ASKED, SHOWN, size=(self.T, size))
        target = np.zeros(size, dtype=np.int64)
        for place, tenth in enumerate(self.tenths):
            symbol = rng.integers(ASKED, size=size)
            shown[tenth * self.T // 10 + rng.integers(self.T // 10, size=size), each] = symbol
            target += symbol << place
        return Batch(one_hot(shown, SHOWN), target)

    @property
    def baseline(self) -> float:
        """ln of the number of classes, which are equally likely: ln 4."""
        return math.log(self.output_size)

    @property
    def baseline_accuracy(self) -> float:
        """One class of all."""
        return 1.0 / self.output_size

    @property
    def baseline_error(self) -> float:
        """All classes but one."""
        return 1.0 - self.baseline_accuracy


class TemporalOrder3(TemporalOrder):
    """The same of three symbols, in [.1 T, .2 T), [.3 T, .4 T) and [.6 T, .7 T): eight classes (their task 6b)."""

    output_size = 8
    tenths = (1, 3, 6)
