"""Tasks whose sequences are drawn from the run's streams."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from rnn_core.streams import stream
from rnn_core.tasks.base import Batch, Task, check_loss_at, check_sizes

HELD_OUT_SEQUENCES = 256  # of an experiment that names no number; and so many at most are drawn at a time


class GeneratedTask(Task):
    """A task whose sequences are drawn: a subclass says how, in ``draw``, and what an experiment may leave open.

    Attributes:
        default_loss_at, default_input_size: of an experiment that names none.
        own: those of ``loss_at`` and ``input_size`` that belong to the task. An experiment leaves them open, or repeats them.
        shortest: the smallest ``sequence_length`` that has room for what is asked.
        correlates: inputs may be correlated over steps, by ``correlation`` from step to step; white where that is 0.
        white_inputs: inputs are independent over steps and units, with mean 0 and variance 1. Theories of wide networks ask for it.
        prefixes: a shorter sequence is the beginning of a longer one.
        held_out_sequences: how many no update sees.

    Raises:
        ValueError: a size is below 1 or has no room for the task, ``loss_at`` is not ``last`` or ``every``, or a setting is another
            than the task's own.
    """

    loss = "squared_error"
    output_size = 1
    default_loss_at: ClassVar[str]
    default_input_size: ClassVar[int]
    own: ClassVar[tuple[str, ...]] = ()
    shortest: ClassVar[int] = 1
    white_inputs: ClassVar[bool] = True
    prefixes: ClassVar[bool] = True
    held_out_sequences: int = HELD_OUT_SEQUENCES
    correlates: ClassVar[bool] = False
    correlation: float = 0.0

    def __init__(self, seed: int, sequence_length: int, batch_size: int, input_size: int, loss_at: str) -> None:
        check_sizes(sequence_length=sequence_length, batch_size=batch_size, input_size=input_size)
        check_loss_at(loss_at)
        for mistake in self.mistakes(sequence_length, input_size, loss_at).values():
            raise ValueError(mistake)
        self.seed, self.T, self.B = seed, self.steps_of(sequence_length), batch_size
        self.input_size, self.loss_at = input_size, loss_at

    @classmethod
    def mistakes(cls, sequence_length: int, input_size: int, loss_at: str) -> dict[str, str]:
        """By setting, what does not fit this task, in a sentence."""
        refusals = {}
        if sequence_length < cls.shortest:
            refusals["sequence_length"] = (
                f"sequence_length: {sequence_length} is too short for this task; it needs at least {cls.shortest} steps"
            )
        given = {"input_size": (input_size, cls.default_input_size), "loss_at": (loss_at, cls.default_loss_at)}
        for name in cls.own:
            value, only = given[name]
            if value != only:
                refusals[name] = f"{name}: {value!r} does not fit; this task has {only!r}, so leave {name} out"
        return refusals

    @classmethod
    def steps_of(cls, sequence_length: int) -> int:
        """Time steps of a sequence: ``sequence_length``, unless the task adds some."""
        return sequence_length

    def batch(self, update: int) -> Batch:
        return self.draw("inputs", update, self.B)

    def held_out_parts(self) -> Iterator[Batch]:
        """Part after part, so that their number is not bound by memory. The first 256 are those of a run that names no number."""
        for index, start in enumerate(range(0, self.held_out_sequences, HELD_OUT_SEQUENCES)):
            yield self.draw("held_out", index, min(HELD_OUT_SEQUENCES, self.held_out_sequences - start))

    @abstractmethod
    def draw(self, name: str, index: int, size: int) -> Batch:
        """``size`` sequences from the run's stream ``name``, ``index``."""


class WhiteNoise(GeneratedTask):
    """Inputs and targets of white noise, N(0, 1). There is nothing to learn: it probes how gradients travel.

    With a ``correlation`` r inputs are an AR(1) process, x_t = r x_{t-1} + √(1 − r²) ε_t: E x_t² = 1 and E x_t x_{t+k} = r^|k| from
    the first step on.
    """

    default_loss_at = "last"
    default_input_size = 8
    correlates = True

    def draw(self, name: str, index: int, size: int) -> Batch:
        x = stream(self.seed, name, index).standard_normal((self.T, size, self.input_size))
        if self.correlation:
            x[1:] *= math.sqrt(1.0 - self.correlation**2)
            for t in range(1, self.T):
                x[t] += self.correlation * x[t - 1]
        targets = "held_out_targets" if name == "held_out" else "targets"
        target = stream(self.seed, targets, index).standard_normal((size, 1))
        return Batch(x, target if self.loss_at == "last" else target[None].repeat(self.T, axis=0))


class InputMean(GeneratedTask):
    """The target at every step is the mean of the inputs of that step. It needs no memory."""

    default_loss_at = "every"
    default_input_size = 10

    def draw(self, name: str, index: int, size: int) -> Batch:
        x = stream(self.seed, name, index).standard_normal((self.T, size, self.input_size))
        return Batch(x, self.at(self.loss_at, x.mean(axis=-1, keepdims=True)))

    @property
    def baseline(self) -> float:
        """½ Var(mean) = ½ · 1/D, of the guess 0, whatever T is. That of the sequences drawn has a noise of several percent."""
        return 0.5 / self.input_size


def one_hot(symbols: np.ndarray, kinds: int) -> np.ndarray:
    """Symbols 0 … kinds - 1 of any shape (…) as (…, kinds): 1 in the place of the symbol, else 0."""
    x = np.zeros((*symbols.shape, kinds))
    np.put_along_axis(x, symbols[..., None], 1.0, axis=-1)
    return x
