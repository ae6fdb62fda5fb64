"""Tasks whose sequences are drawn from the run's streams."""

from __future__ import annotations

from rnn_core.streams import stream
from rnn_core.tasks.base import Batch, Task

HELD_OUT_SEQUENCES = 256


class _WhiteNoiseInputs(Task):
    """x_t ~ N(0, I_D), independent over t and over the batch."""

    loss = "squared_error"
    output_size = 1

    def __init__(self, seed: int, sequence_length: int, batch_size: int, input_size: int, loss_at: str) -> None:
        self.seed, self.T, self.B, self.input_size, self.loss_at = (
            seed,
            sequence_length,
            batch_size,
            input_size,
            loss_at,
        )

    def batch(self, update: int) -> Batch:
        return self._draw("inputs", update, self.B)

    def held_out(self) -> Batch:
        return self._draw("held_out", 0, HELD_OUT_SEQUENCES)

    def _draw(self, name: str, index: int, size: int) -> Batch:
        raise NotImplementedError


class WhiteNoise(_WhiteNoiseInputs):
    """White-noise inputs and white-noise targets: nothing to learn, a probe for how gradients travel."""

    default_loss_at = "last"
    default_input_size = 8

    def _draw(self, name: str, index: int, size: int) -> Batch:
        x = stream(self.seed, name, index).standard_normal((self.T, size, self.input_size))
        targets = "held_out_targets" if name == "held_out" else "targets"
        target = stream(self.seed, targets, index).standard_normal((size, 1))
        return Batch(x, target if self.loss_at == "last" else target[None].repeat(self.T, axis=0))


class InputMean(_WhiteNoiseInputs):
    """The target at every step is the mean of that step's inputs (the second seed document, D = 10)."""

    default_loss_at = "every"
    default_input_size = 10

    def _draw(self, name: str, index: int, size: int) -> Batch:
        x = stream(self.seed, name, index).standard_normal((self.T, size, self.input_size))
        return Batch(x, self.at(self.loss_at, x.mean(axis=-1, keepdims=True)))
