"""Tasks on given sequences: real data and a user's own. Reading files is the workflow's business, not this floor's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnn_core.losses import LOSSES
from rnn_core.streams import stream
from rnn_core.tasks.base import Batch, Task


@dataclass(frozen=True)
class Sequences:
    """N sequences with targets, split into training and held-out ones.

    Attributes:
        inputs: (N, T, D) float.
        targets: for ``softmax_cross_entropy`` integer labels (N,) or (N, T); for ``squared_error`` (N, C) or (N, T, C).
        held_out: (N,) bool, the sequences that no update sees.
        loss: a name in ``losses.LOSSES``.
        loss_at: ``last`` if there is one target a sequence, ``every`` if there is one a step.

    Raises:
        ValueError: shapes do not agree, or no sequence is left to train on or to hold out.
    """

    inputs: np.ndarray
    targets: np.ndarray
    held_out: np.ndarray
    loss: str
    loss_at: str

    def __post_init__(self) -> None:
        if self.inputs.ndim != 3:
            raise ValueError(f"inputs: shape {self.inputs.shape} is not (N, T, D)")
        N, T, _ = self.inputs.shape
        if self.loss not in LOSSES or self.loss_at not in ("last", "every"):
            raise ValueError(f"loss {self.loss!r} at {self.loss_at!r} is not known")
        leading = (N, T) if self.loss_at == "every" else (N,)
        outputs = 0 if self.loss == "softmax_cross_entropy" else 1  # a label is a number, a squared error has C outputs
        if self.targets.shape[: len(leading)] != leading or self.targets.ndim != len(leading) + outputs:
            shape = f"({', '.join(map(str, [*leading, *['C'] * outputs]))})"
            raise ValueError(f"targets: shape {self.targets.shape} does not fit {self.loss}; expected {shape}")
        if not outputs and self.targets.dtype.kind != "i":
            raise ValueError(f"targets: labels must be integers, not {self.targets.dtype}")
        if not outputs and int(self.targets.min()) < 0:
            raise ValueError(f"targets: label {int(self.targets.min())} is not allowed; labels count from 0")
        if not 0 < int(self.held_out.sum()) < N:
            raise ValueError(
                f"{int(self.held_out.sum())} of {N} sequences are held out; some must be, and some must not"
            )

    @property
    def output_size(self) -> int:
        return int(self.targets.max()) + 1 if self.loss == "softmax_cross_entropy" else int(self.targets.shape[-1])


class SequenceTask(Task):
    """Batches drawn without replacement within an epoch from the training sequences, cut to the first T steps.

    Raises:
        ValueError: the sequences are shorter than ``sequence_length``, fewer than ``batch_size``, or have no target at the
            steps where the loss is wanted.
    """

    def __init__(self, data: Sequences, seed: int, sequence_length: int, batch_size: int, loss_at: str) -> None:
        _, steps, D = data.inputs.shape
        if sequence_length > steps:
            raise ValueError(
                f"sequence_length: {sequence_length} is more than the {steps} steps that the sequences have"
            )
        if loss_at == "every" and data.loss_at == "last":
            raise ValueError("loss_at: 'every' needs a target at every step; these sequences have one each, at the end")
        self.training = np.flatnonzero(~data.held_out)
        if batch_size > len(self.training):
            raise ValueError(f"batch_size: {batch_size} is more than the {len(self.training)} training sequences")
        self.data, self.seed, self.T, self.B = data, seed, sequence_length, batch_size
        self.loss, self.loss_at = data.loss, loss_at
        self.input_size, self.output_size = D, data.output_size

    def batch(self, update: int) -> Batch:
        epoch, index = divmod(update, len(self.training) // self.B)
        order = stream(self.seed, "batches", epoch).permutation(self.training)
        return self._pick(order[index * self.B : (index + 1) * self.B])

    def held_out(self) -> Batch:
        return self._pick(np.flatnonzero(self.data.held_out))

    def _pick(self, rows: np.ndarray) -> Batch:
        x = self.data.inputs[rows, : self.T].swapaxes(0, 1)
        target = self.data.targets[rows]
        if self.data.loss_at == "every":
            target = self.at(self.loss_at, target[:, : self.T].swapaxes(0, 1))
        return Batch(x, target)
