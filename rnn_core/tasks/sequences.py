"""Tasks on given sequences: real data and a user's own. Reading files is the workflow's business, not this floor's."""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from rnn_core.choices import unknown
from rnn_core.losses import LOSSES, NO_LABEL
from rnn_core.streams import stream
from rnn_core.tasks.base import Batch, Task

HELD_OUT_FRACTION = 0.2
MANY_CLASSES, MOST_CLASSES = 1000, 10_000  # a column of ids taken for labels would be a readout of its largest number


@dataclass(frozen=True, eq=False, repr=False)
class Sequences:
    """N sequences with targets, split into training and held-out ones.

    Sequences of different lengths are padded to the longest and given a ``mask``. A sequence ends at its last step that carries
    a target; what follows is padding, which must be finite and changes nothing. Steps without a target may stand before the
    end as well.

    Attributes:
        inputs: (N, T, D) numbers, finite.
        targets: for ``softmax_cross_entropy`` integer labels (N,) or (N, T); for ``squared_error`` (N, C) or (N, T, C). Where the
            mask is False they are ignored.
        held_out: (N,) bool, or 0 and 1: the sequences that no update sees.
        loss: a name in ``losses.LOSSES``.
        loss_at: ``last`` if there is one target a sequence, ``every`` if there is one a step.
        mask: (N, T) bool, or 0 and 1: with ``every`` the steps that carry a target; with ``last`` the last True of a sequence is
            the step of its target. None if all sequences are equally long and no target is missing.

    Raises:
        ValueError: shapes do not agree, a number is not finite, labels are no class labels, or no sequence is left to train on or
            to hold out; naming what was given and where.
    """

    inputs: np.ndarray
    targets: np.ndarray
    held_out: np.ndarray
    loss: str
    loss_at: str
    mask: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, value, names in (("loss", self.loss, LOSSES), ("loss_at", self.loss_at, ("last", "every"))):
            if value not in names:
                raise ValueError(unknown(name, value, names))
        inputs = _numbers("inputs", self.inputs)
        if inputs.ndim != 3 or 0 in inputs.shape:
            raise ValueError(f"inputs: shape {inputs.shape} is not (N, T, D) with at least one of each")
        _finite("inputs", inputs)
        N, T, _ = inputs.shape
        mask = None if self.mask is None else _flags("mask", self.mask, (N, T))
        if mask is not None and not mask.any(axis=1).all():
            raise ValueError(f"mask: sequence {int(np.argmin(mask.any(axis=1)))} has no step that carries a target")
        if mask is not None and (mask if self.loss_at == "every" else mask[:, -1:]).all():
            mask = None  # it says what is so without one
        held_out = _flags("held_out", self.held_out, (N,))
        if not 0 < int(held_out.sum()) < N:
            raise ValueError(f"{int(held_out.sum())} of {N} sequences are held out; some must be, and some must not")
        targets = self._checked_targets(N, T, mask)
        if mask is not None:  # padding is nobody's input
            inputs = np.where((np.arange(T) <= last_true(mask)[:, None])[..., None], inputs, 0)
        for name, array in (("inputs", inputs), ("targets", targets), ("held_out", held_out), ("mask", mask)):
            object.__setattr__(self, name, array)

    def _checked_targets(self, N: int, T: int, mask: np.ndarray | None) -> np.ndarray:
        labelled = self.loss == "softmax_cross_entropy"  # a label is a number, a squared error has C outputs
        targets = np.asarray(self.targets) if labelled else _numbers("targets", self.targets)
        leading = (N, T) if self.loss_at == "every" else (N,)
        if targets.shape[: len(leading)] != leading or targets.ndim != len(leading) + (not labelled):
            shape = f"({', '.join(map(str, [*leading, *([] if labelled else ['C'])]))})"
            raise ValueError(f"targets: shape {targets.shape} does not fit {self.loss}; expected {shape}")
        carries = mask if mask is not None and self.loss_at == "every" else np.ones(leading, dtype=bool)
        if not labelled:
            targets = targets if targets.dtype.kind == "f" else targets.astype(np.float64)
            _finite("targets", np.where(carries[..., None], targets, 0.0))
            return targets if carries.all() else np.where(carries[..., None], targets, np.nan)
        if targets.dtype.kind not in "iu":
            raise ValueError(f"targets: labels must be integers, not {targets.dtype}")
        labels = np.where(carries, targets, 0)  # what is not a target may be anything, and is no class
        smallest, classes = int(labels.min()), int(labels.max()) + 1
        if smallest < 0:
            raise ValueError(f"targets: label {smallest} is not allowed; labels count from 0")
        if classes > MOST_CLASSES or classes > max(N, MANY_CLASSES):
            distinct = len(np.unique(labels[carries]))
            raise ValueError(
                f"targets: labels up to {classes - 1} make {classes} classes, too many for {N} sequences ({distinct} distinct labels); "
                f"number the classes 0, 1, 2, …: at most {MANY_CLASSES} or as many as sequences, and never more than {MOST_CLASSES}"
            )
        return labels.astype(np.int64) if targets.dtype.kind == "u" else labels

    @property
    def output_size(self) -> int:
        return int(self.targets.max()) + 1 if self.loss == "softmax_cross_entropy" else int(self.targets.shape[-1])

    @cached_property
    def largest(self) -> float:
        """The largest magnitude among inputs and targets that are numbers."""
        numbers = [self.inputs, *([self.targets] if self.targets.dtype.kind == "f" else [])]
        return max(float(np.nanmax(np.abs(each))) for each in numbers)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of all values: the same for the same content, whatever file or type it comes from."""
        content: dict[str, Any] = {
            "inputs": self.inputs.astype("<f8"), "targets": self.targets.astype("<i8" if self.targets.dtype.kind == "i" else "<f8"),
            "held_out": self.held_out, "mask": np.zeros(0) if self.mask is None else self.mask,
        }  # fmt: skip
        digest = hashlib.sha256(f"{self.loss} {self.loss_at}".encode())
        for name, array in content.items():
            digest.update(f" {name} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        N, T, D = self.inputs.shape
        lengths = "" if self.mask is None else ", with a mask"
        return f"Sequences(N={N}, T={T}, D={D}, {self.loss} at {self.loss_at}, {int(self.held_out.sum())} held out{lengths})"


def _numbers(name: str, values: Any) -> np.ndarray:
    """``values`` as an array of integers, floats or flags."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise ValueError(
            f"{name}: the values make no array; pad shorter sequences to the longest and give a mask"
        ) from error
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{name}: dtype {array.dtype} is not allowed; it must be numbers")
    return array


def _finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        where = ", ".join(f"{axis} {i}" for axis, i in zip(("sequence", "step", "column"), bad[0], strict=False))
        value = array[tuple(bad[0])]
        raise ValueError(f"{name}: {value} at {where} is not allowed; all {len(bad)} such values must be finite")


def _flags(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Booleans, or integers that are all 0 or 1, as booleans."""
    flags = np.asarray(values)
    if flags.shape != shape:
        raise ValueError(f"{name}: shape {flags.shape} does not fit; expected {shape}, one flag each")
    if flags.dtype.kind not in "biu" or not ((flags == 0) | (flags == 1)).all():
        raise ValueError(f"{name}: {flags.dtype} values are not allowed; it must hold True and False, or 0 and 1")
    return flags.astype(bool)


def split(count: int, fraction: float = HELD_OUT_FRACTION) -> np.ndarray:
    """Which of ``count`` sequences are held out, (count,) bool: drawn once for a data set, so that runs of every seed share it."""
    rng = np.random.default_rng(zlib.crc32(b"held_out"))
    held_out = np.zeros(count, dtype=bool)
    held_out[rng.permutation(count)[: round(fraction * count)]] = True
    return held_out


def digits() -> Sequences:
    """The 1797 handwritten digits of scikit-learn, one pixel a step in reading order: T = 64, D = 1, values 0 … 1, ten classes.

    Source: E. Alpaydin & C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("the digits come with scikit-learn: pip install scikit-learn") from error

    images = load_digits()
    inputs = images.images.reshape(len(images.images), 64, 1) / 16.0
    return Sequences(inputs, images.target.astype(np.int64), split(len(inputs)), "softmax_cross_entropy", "last")


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
        self.training = np.flatnonzero(np.logical_not(data.held_out))
        if batch_size > len(self.training):
            raise ValueError(f"batch_size: {batch_size} is more than the {len(self.training)} training sequences")
        self.data, self.seed, self.T, self.B = data, seed, sequence_length, batch_size
        self.loss, self.loss_at = data.loss, loss_at
        self.input_size, self.output_size = D, data.output_size
        self.carries = self._carries()
        self.ragged = self.carries is not None

    def _carries(self) -> np.ndarray | None:
        """(N, T) bool: the steps that carry a target after the cut; None where they are all, or the last of each."""
        mask = self.data.mask
        if mask is None:
            return None
        if self.data.loss_at == "every":
            mask = mask[:, : self.T]
            if not mask.any(axis=1).all():
                empty = int(np.argmin(mask.any(axis=1)))
                raise ValueError(f"sequence_length: {self.T} leaves sequence {empty} no step that carries a target")
            if self.loss_at == "every":
                return None if mask.all() else mask
        ends = np.minimum(last_true(mask), self.T - 1)
        return None if (ends == self.T - 1).all() else ends[:, None] == np.arange(self.T)

    def batch(self, update: int) -> Batch:
        epoch, index = divmod(update, len(self.training) // self.B)
        order = stream(self.seed, "batches", epoch).permutation(self.training)
        return self._pick(order[index * self.B : (index + 1) * self.B])

    def held_out(self) -> Batch:
        return self._pick(np.flatnonzero(self.data.held_out))

    def _pick(self, rows: np.ndarray) -> Batch:
        x = self.data.inputs[rows, : self.T].swapaxes(0, 1)
        target = self.data.targets[rows]
        if self.carries is not None:
            return self._pick_ragged(x, target, self.carries[rows])
        if self.data.loss_at == "every":
            target = self.at(self.loss_at, target[:, : self.T].swapaxes(0, 1))
        return Batch(x, target)

    def _pick_ragged(self, x: np.ndarray, target: np.ndarray, carries: np.ndarray) -> Batch:
        """x with zeros for padding, and a target for every step: nan, or the label ``NO_LABEL``, where there is none."""
        targets = target[:, : self.T] if self.data.loss_at == "every" else target[:, None]
        shown = carries if targets.ndim == 2 else carries[..., None]
        none = NO_LABEL if targets.dtype.kind == "i" else np.nan
        inside = np.arange(self.T) <= last_true(carries)[:, None]
        return Batch(np.where(inside.T[..., None], x, 0), np.where(shown, targets, none).swapaxes(0, 1))


def last_true(flags: np.ndarray) -> np.ndarray:
    """Of (N, T) flags the index of the last True in each row; every row has one."""
    return np.asarray(flags.shape[1] - 1 - np.argmax(flags[:, ::-1], axis=1))
