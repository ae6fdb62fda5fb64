"""What a task is: where its sequences come from, where its loss sits, and what counts as solved."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import numpy as np

from rnn_core import losses
from rnn_core.arrays import Array, namespace
from rnn_core.choices import unknown
from rnn_core.scalars import is_integer

LOSS_AT = ("last", "every")


class Batch(NamedTuple):
    """Sequences with their targets.

    Attributes:
        x: (T, B, D).
        target: for a loss at every step (T, B, C), or labels (T, B); at the last step (B, C), or labels (B,).
    """

    x: np.ndarray
    target: np.ndarray


class Task(ABC):
    """A source of batches for one run.

    Attributes:
        loss: a name in ``losses.LOSSES``.
        loss_at: ``last`` or ``every``: the step or steps at which the task defines its loss.
        input_size, output_size: D and C.
        T, B: steps of a sequence, and sequences of a training batch.
        ragged: whether sequences end at different steps, or targets are missing. Targets then are for every step, also for a
            loss at the last one. Where there is none they are nan, or the label ``losses.NO_LABEL``.
        wrong_if: in words, when an answer that ``wrong`` counts is wrong; empty where the labels alone decide.
    """

    loss: str
    loss_at: str
    input_size: int
    output_size: int
    T: int
    B: int
    ragged: bool = False
    wrong_if: ClassVar[str] = ""

    @abstractmethod
    def batch(self, update: int) -> Batch:
        """The training batch of one update."""

    @abstractmethod
    def held_out_parts(self) -> Iterator[Batch]:
        """Sequences that no update sees, the same for every run of a seed, in parts that fit into memory."""

    def held_out(self) -> Batch:
        """All of them together."""
        x, target = zip(*self.held_out_parts(), strict=True)
        axis = 0 if self.outputs_at == "last" else 1
        return (
            Batch(np.concatenate(x, axis=1), np.concatenate(target, axis=axis))
            if len(x) > 1
            else Batch(x[0], target[0])
        )

    @property
    def counts_wrong(self) -> bool:
        """Whether an answer is right or wrong: that of a classification is. A regression says how far off is wrong, or is not."""
        return self.loss == "softmax_cross_entropy"

    def wrong(self, y: Array, target: Array) -> Array:
        """Which sequences are answered wrongly, bool (B,): those with any wrong label.

        Args:
            y: outputs where the target has its entries: (B, C), or (T, B, C).
            target: as in a batch.

        Raises:
            ValueError: answers of this task are not right or wrong.
        """
        if not self.counts_wrong:
            raise ValueError(f"task: {type(self).__name__} does not say which answers are wrong")
        xp = namespace(y)
        missed = xp.argmax(y, axis=-1) != target
        if target.ndim == 1:
            return missed
        return xp.any(missed & losses.carries_target(target), axis=0)

    @property
    def outputs_at(self) -> str:
        """``every`` where outputs are needed at every step, though the loss may sit at a few; else ``last``."""
        return "every" if self.ragged else self.loss_at

    def _held_out_targets(self) -> np.ndarray:
        """The targets of the held-out sequences, without the blanks of ragged ones."""
        target = self.held_out().target
        return target[losses.carries_target(target)] if self.ragged else target

    @property
    def baseline(self) -> float:
        """The held-out loss of the best prediction that remembers nothing of the sequence. ``solved`` is measured by it.

        It is that of the best constant. A task whose target a network can half guess without memory overrides it. In copy
        memory, say, the clock alone tells that most steps ask for a blank.
        """
        return losses.baseline(self.loss, self._held_out_targets())

    @property
    def baseline_accuracy(self) -> float:
        """The held-out accuracy of always naming the commonest class; nan for a regression."""
        return losses.commonest(self._held_out_targets()) if self.loss == "softmax_cross_entropy" else math.nan

    @property
    def baseline_error(self) -> float:
        """The fraction of held-out sequences that the best answer without memory gets wrong; nan where none is right or wrong.

        Of labels it is the answer that always names the commonest class. A task that calls other answers wrong overrides it.
        """
        if not self.counts_wrong:
            return math.nan
        return losses.commonest_missed(np.moveaxis(self.held_out().target, -1, 0))

    def at(self, loss_at: str, target: np.ndarray) -> np.ndarray:
        """From targets for every step (T, B, …), those for a loss at ``loss_at``."""
        return target[-1] if loss_at == "last" else target

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}={getattr(self, name, '?')}" for name in ("T", "B"))
        return (
            f"{type(self).__name__}({sizes}, D={self.input_size}, C={self.output_size}, {self.loss} at {self.loss_at})"
        )


def check_sizes(**sizes: object) -> None:
    """ValueError unless all are integers of at least 1."""
    for name, size in sizes.items():
        if not (is_integer(size) and size >= 1):  # type: ignore[operator]
            raise ValueError(f"{name}: {size!r} is not allowed; it must be an integer of at least 1")


def check_loss_at(loss_at: object) -> None:
    """ValueError unless this is ``last`` or ``every``."""
    if not isinstance(loss_at, str) or loss_at not in LOSS_AT:
        raise ValueError(unknown("loss_at", loss_at, LOSS_AT))
