"""Copy memory: say again, after a long wait, what was seen at the beginning."""

from __future__ import annotations

import math

import numpy as np

from rnn_core.arrays import Array, namespace
from rnn_core.streams import stream
from rnn_core.tasks.base import Batch
from rnn_core.tasks.generated import GeneratedTask, one_hot

SYMBOLS, KINDS = 10, 8  # S symbols to remember, of K kinds
BLANK, GO = KINDS, KINDS + 1


class CopyMemory(GeneratedTask):
    """S = 10 symbols of K = 8 kinds, T - 1 blanks, a go, and 10 blanks in which the symbols are asked for, in their order.

    T = ``sequence_length`` is the lag: a symbol of step t is asked for at step t + T + 10 of T + 20. Until then the label is the
    blank (Hochreiter & Schmidhuber 1997, as Arjovsky, Shah & Bengio 2016 pose it).
    """

    loss = "softmax_cross_entropy"
    output_size = KINDS + 1
    default_loss_at = "every"
    default_input_size = KINDS + 2
    wrong_if = "any of its ten symbols is"
    own = ("loss_at", "input_size")
    white_inputs = False
    prefixes = False

    @classmethod
    def steps_of(cls, sequence_length: int) -> int:
        """The lag, and what is shown before and asked for after it."""
        return sequence_length + 2 * SYMBOLS

    def draw(self, name: str, index: int, size: int) -> Batch:
        symbols = stream(self.seed, name, index).integers(KINDS, size=(SYMBOLS, size))
        shown = np.full((self.T, size), BLANK)
        shown[:SYMBOLS], shown[self.T - SYMBOLS - 1] = symbols, GO
        target = np.full((self.T, size), BLANK)
        target[self.T - SYMBOLS :] = symbols
        return Batch(one_hot(shown, KINDS + 2), target)

    @property
    def baseline(self) -> float:
        """The clock tells when a blank is asked for; of a symbol it tells nothing: S ln K / (T + 2 S)."""
        return SYMBOLS * math.log(KINDS) / self.T

    @property
    def baseline_accuracy(self) -> float:
        """Always the blank, which is the commonest class."""
        return (self.T - SYMBOLS) / self.T

    @property
    def baseline_error(self) -> float:
        """Of K^S equally likely answers one is right: 1 - 8^-10."""
        return 1.0 - float(KINDS) ** -SYMBOLS

    def wrong(self, y: Array, target: Array) -> Array:
        """Sequences of which any of the S answers is wrong, whatever is said before."""
        xp = namespace(y)
        return xp.any(xp.argmax(y[-SYMBOLS:], axis=-1) != target[-SYMBOLS:], axis=0)
