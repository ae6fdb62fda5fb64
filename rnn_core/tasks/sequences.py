"""Tasks on given sequences: real data and a user's own. The engine reads no files; the workflow does."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from rnn_core.choices import choose
from rnn_core.losses import LOSSES, NO_LABEL
from rnn_core.scalars import as_array, is_integer, is_number, numbers
from rnn_core.streams import stream
from rnn_core.tasks.base import Batch, Task, check_loss_at, check_sizes

HELD_OUT_FRACTION = 0.2
DIGITS, DIGIT_STEPS = 1797, 64  # the sequences of ``digits``, and the steps of each
DIGITS_TO_TRAIN_ON = DIGITS - round(HELD_OUT_FRACTION * DIGITS)
DIGITS_MISSED = 312 / 359  # of those held out, the share that is not of the commonest class
PAD = "; pad shorter sequences to the longest and give a mask"
LARGEST_EXACT = 2**53  # of whole numbers as floats
MANY_CLASSES, MOST_CLASSES = 1000, 10_000  # a column of ids taken for labels would be a readout of its largest number


@dataclass(frozen=True, eq=False, repr=False)
class Sequences:
    """N sequences with targets, split into training and held-out ones.

    Pad sequences of different lengths to the longest and give a ``mask``. A sequence ends at its last step that carries a
    target. What follows is padding: it must be finite, and it changes nothing. Before the end, too, steps may carry no target.

    Attributes:
        inputs: (N, T, D) numbers, finite.
        targets: for ``softmax_cross_entropy`` whole numbers as labels, (N,) or (N, T); for ``squared_error`` (N, C) or (N, T, C). They do
            not count where the mask is False.
        held_out: (N,) bool, or 0 and 1: the sequences that no update sees.
        loss: a name in ``losses.LOSSES``.
        loss_at: ``last`` if a sequence has one target, ``every`` if each step has one.
        mask: (N, T) bool, or 0 and 1. With ``every`` it marks the steps that carry a target. With ``last`` the last True of a
            sequence is the step of its target. None if all sequences are equally long and no target is missing.
        baseline: the held-out loss of the best prediction that remembers nothing, where the best constant is not that. ``solved`` is
            measured by it.

    Raises:
        ValueError: shapes do not agree, a number is not finite, labels are no class labels, or no sequence is left to train on
            or to hold out. The message names what was given and where.
    """

    inputs: np.ndarray
    targets: np.ndarray
    held_out: np.ndarray
    loss: str
    loss_at: str
    mask: np.ndarray | None = None
    baseline: float | None = None

    def __post_init__(self) -> None:
        choose("loss", self.loss, LOSSES)
        check_loss_at(self.loss_at)
        if self.baseline is not None and not (is_number(self.baseline) and self.baseline > 0.0):
            raise ValueError(f"baseline: {self.baseline!r} is not allowed; it must be a number above 0, a loss")
        inputs = numbers("inputs", self.inputs, PAD)
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
        """The targets in the form in which they are kept: labels int64, numbers with nan where the mask is False."""
        labelled = self.loss == "softmax_cross_entropy"  # a label is a number, a squared error has C outputs
        targets = as_array("targets", self.targets, PAD) if labelled else numbers("targets", self.targets, PAD)
        leading = (N, T) if self.loss_at == "every" else (N,)
        if targets.shape[: len(leading)] != leading or targets.ndim != len(leading) + (not labelled):
            shape = f"({', '.join(map(str, [*leading, *([] if labelled else ['C'])]))})"
            raise ValueError(f"targets: shape {targets.shape} does not fit {self.loss}; expected {shape}")
        carries = mask if mask is not None and self.loss_at == "every" else np.ones(leading, dtype=bool)
        if not labelled:
            targets = targets if targets.dtype.kind == "f" else targets.astype(np.float64)
            _finite("targets", np.where(carries[..., None], targets, 0.0))
            return targets if carries.all() else np.where(carries[..., None], targets, np.nan)
        if targets.dtype.kind not in "iufb":
            raise ValueError(
                f"targets: labels must be whole numbers, not {targets.dtype}; np.unique(labels, return_inverse=True)[1] numbers classes"
            )
        labels = _whole(
            np.where(carries, targets, targets.dtype.type(0))
        )  # what is not a target may be anything, and is no class
        smallest, classes = int(labels.min()), int(labels.max()) + 1
        if smallest < 0:
            raise ValueError(f"targets: label {smallest} is not allowed; labels count from 0")
        if classes > MOST_CLASSES or classes > max(N, MANY_CLASSES):
            distinct = len(np.unique(labels[carries]))
            raise ValueError(
                f"targets: labels up to {classes - 1} make {classes} classes, too many for {N} sequences ({distinct} distinct labels); "
                f"number the classes 0, 1, 2, …: at most {MANY_CLASSES} or as many as sequences, and never more than {MOST_CLASSES}"
            )
        return labels.astype(np.int64) if labels.dtype.kind == "u" else labels

    @property
    def output_size(self) -> int:
        """C: classes, or numbers of a target."""
        return int(self.targets.max()) + 1 if self.loss == "softmax_cross_entropy" else int(self.targets.shape[-1])

    @cached_property
    def largest(self) -> float:
        """The largest magnitude among inputs and targets that are numbers."""
        numbers = [self.inputs, *([self.targets] if self.targets.dtype.kind == "f" else [])]
        return max(float(np.nanmax(np.abs(each))) for each in numbers)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of all values. Equal content has equal digits, whatever file or type it comes from."""
        content: dict[str, Any] = {
            "inputs": self.inputs.astype("<f8"), "targets": self.targets.astype("<i8" if self.targets.dtype.kind == "i" else "<f8"),
            "held_out": self.held_out, "mask": np.zeros(0) if self.mask is None else self.mask,
        }  # fmt: skip
        named = "" if self.baseline is None else f" {float(self.baseline)!r}"
        digest = hashlib.sha256(f"{self.loss} {self.loss_at}{named}".encode())
        for name, array in content.items():
            digest.update(f" {name} {array.shape} ".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:16]

    def __repr__(self) -> str:
        N, T, D = self.inputs.shape
        lengths = "" if self.mask is None else ", with a mask"
        return f"Sequences(N={N}, T={T}, D={D}, {self.loss} at {self.loss_at}, {int(self.held_out.sum())} held out{lengths})"


def _whole(labels: np.ndarray) -> np.ndarray:
    """Labels as integers. A column with gaps elsewhere has them as floats, 1.0 for 1."""
    if labels.dtype.kind in "iu":
        return labels
    with np.errstate(invalid="ignore"):
        wrong = ~(np.abs(labels) <= LARGEST_EXACT) | (labels % 1 != 0)
    if wrong.any():
        raise ValueError(
            f"targets: {labels[wrong][0]} is no label; labels are whole numbers. For numbers as targets the loss is squared_error"
        )
    return labels.astype(np.int64)


def _finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        where = ", ".join(f"{axis} {i}" for axis, i in zip(("sequence", "step", "column"), bad[0], strict=False))
        value = array[tuple(bad[0])]
        raise ValueError(f"{name}: {value} at {where} is not allowed; all {len(bad)} such values must be finite")


def _flags(name: str, values: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Booleans, or integers that are all 0 or 1, as booleans."""
    flags = as_array(name, values)
    if flags.shape != shape:
        raise ValueError(f"{name}: shape {flags.shape} does not fit; expected {shape}, one flag each")
    if flags.dtype.kind not in "biu" or not ((flags == 0) | (flags == 1)).all():
        raise ValueError(f"{name}: {flags.dtype} values are not allowed; it must hold True and False, or 0 and 1")
    return flags.astype(bool)


def split(count: int, fraction: float = HELD_OUT_FRACTION) -> np.ndarray:
    """Which of ``count`` sequences are held out, bool (count,). It is the same for runs of every seed.

    Raises:
        ValueError: ``count`` is no number of sequences, or ``fraction`` is not between 0 and 1.
    """
    check_sizes(count=count)
    if not (is_number(fraction) and 0.0 <= fraction <= 1.0):
        raise ValueError(f"fraction: {fraction!r} is not allowed; it must be a number from 0 to 1")
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


def permuted_digits() -> Sequences:
    """``digits`` with their pixels in another order, the same for all of them: one permutation, drawn once (Le, Jaitly & Hinton 2015).

    Raises:
        ModuleNotFoundError: scikit-learn is not installed.
    """
    in_order = digits()
    order = np.random.default_rng(zlib.crc32(b"permuted_digits")).permutation(DIGIT_STEPS)
    return replace(in_order, inputs=in_order.inputs[:, order])


class SequenceTask(Task):
    """Batches drawn without replacement within an epoch from the training sequences, cut to the first T steps.

    Raises:
        TypeError: ``data`` are no ``Sequences``.
        ValueError: the sequences are shorter than ``sequence_length``, fewer than ``batch_size``, or have no target at the
            steps where the loss is wanted.
    """

    def __init__(self, data: Sequences, seed: int, sequence_length: int, batch_size: int, loss_at: str) -> None:
        if not isinstance(data, Sequences):
            raise TypeError(f"data: {type(data).__name__} is not allowed; it must be rc.Sequences(…)")
        check_sizes(sequence_length=sequence_length, batch_size=batch_size)
        check_loss_at(loss_at)
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
        """The steps that carry a target after the cut, bool (N, T); None where they are all, or the last of each."""
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
        if not (is_integer(update) and update >= 0):
            raise ValueError(f"update: {update!r} is not allowed; it must be an integer of at least 0")
        epoch, index = divmod(update, len(self.training) // self.B)
        order = stream(self.seed, "batches", epoch).permutation(self.training)
        return self._pick(order[index * self.B : (index + 1) * self.B])

    def held_out_parts(self) -> Iterator[Batch]:
        """All of them as one part: they are in memory already."""
        yield self._pick(np.flatnonzero(self.data.held_out))

    @property
    def baseline(self) -> float:
        """What the data name, or the loss of the best constant."""
        return super().baseline if self.data.baseline is None else float(self.data.baseline)

    def _pick(self, rows: np.ndarray) -> Batch:
        x = self.data.inputs[rows, : self.T].swapaxes(0, 1)
        target = self.data.targets[rows]
        if self.carries is not None:
            return self._pick_ragged(x, target, self.carries[rows])
        if self.data.loss_at == "every":
            target = self.at(self.loss_at, target[:, : self.T].swapaxes(0, 1))
        return Batch(x, target)

    def _pick_ragged(self, x: np.ndarray, target: np.ndarray, carries: np.ndarray) -> Batch:
        """x with zeros for padding, and a target for every step. Where there is none it is nan, or the label ``NO_LABEL``."""
        targets = target[:, : self.T] if self.data.loss_at == "every" else target[:, None]
        shown = carries if targets.ndim == 2 else carries[..., None]
        none = NO_LABEL if targets.dtype.kind == "i" else np.nan
        inside = np.arange(self.T) <= last_true(carries)[:, None]
        return Batch(np.where(inside.T[..., None], x, 0), np.where(shown, targets, none).swapaxes(0, 1))


def last_true(flags: np.ndarray) -> np.ndarray:
    """The index of the last True in each row of flags (N, T). Every row has one."""
    return np.asarray(flags.shape[1] - 1 - np.argmax(flags[:, ::-1], axis=1))
