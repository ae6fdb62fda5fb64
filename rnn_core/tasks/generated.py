"""Tasks whose sequences are drawn from the run's streams."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

from rnn_core.streams import stream
from rnn_core.tasks.base import Batch, Task, check_loss_at, check_sizes

HELD_OUT_SEQUENCES = 256


class GeneratedTask(Task):
    """A task whose sequences are drawn: a subclass says how, in ``draw``, and what an experiment may leave open.

    Attributes:
        default_loss_at, default_input_size: of an experiment that names none.
        correlates: inputs may be correlated over steps, by ``correlation`` from step to step; white where that is 0.
        white_inputs: inputs are independent over steps and units, with mean 0 and variance 1. Theories of wide networks ask for it.

    Raises:
        ValueError: a size is below 1, or ``loss_at`` is not ``last`` or ``every``.
    """

    loss = "squared_error"
    output_size = 1
    default_loss_at: ClassVar[str]
    default_input_size: ClassVar[int]
    white_inputs: ClassVar[bool] = True
    correlates: ClassVar[bool] = False
    correlation: float = 0.0

    def __init__(self, seed: int, sequence_length: int, batch_size: int, input_size: int, loss_at: str) -> None:
        check_sizes(sequence_length=sequence_length, batch_size=batch_size, input_size=input_size)
        check_loss_at(loss_at)
        self.seed, self.T, self.B = seed, sequence_length, batch_size
        self.input_size, self.loss_at = input_size, loss_at

    def batch(self, update: int) -> Batch:
        return self.draw("inputs", update, self.B)

    def held_out(self) -> Batch:
        return self.draw("held_out", 0, HELD_OUT_SEQUENCES)

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
