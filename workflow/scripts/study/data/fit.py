"""Whether the sweeps of a config fit the user's sequences. Every value that a run would be refused for is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rnn_core.experiment import RAGGED_REVERSE, RANGES
from rnn_core.losses import NO_LABEL, commonest_missed
from study.config.idle import easy_success
from study.counts import counted
from study.data.messages import listed
from study.plan import as_list


class Fit:
    """The grid of one sweep beside the sequences of one of its tasks.

    Args:
        sweep, grid: of the config.
        task, data: the task's name, and its sequences as a ``Task``.
        defaults: axis -> value, for axes that the grid does not name.
    """

    def __init__(self, sweep: str, grid: Mapping[str, Any], task: str, data: Any, defaults: Mapping[str, Any]) -> None:
        self.where, self.grid, self.task, self.data, self.defaults = f"sweeps.{sweep}.grid", grid, task, data, defaults

    def problems(self) -> Iterator[str]:
        """What no run could be made with."""
        yield from self._lengths()
        yield from self._batches()
        yield from self._loss_at()
        yield from self._inputs()
        yield from self._classes()
        yield from self._constant_targets()
        yield from self._range()
        yield from self._success()
        yield from self._directions()

    def warnings(self) -> Iterator[str]:
        """What can be run and may be a mistake."""
        ends = self.data.ends
        for length in self._values("sequence_length"):
            early = int((ends < length).sum())
            if early and length <= ends.max():
                yield f"{self._key('sequence_length', length)} is more than {early:,} of {counted(len(ends), 'sequence')} of {self.task!r} have; these end earlier"

        for share in self._values("success_below"):
            if share is not None and self.data.classes is not None and (wrong := self._missed_by_guessing()) < share:
                yield easy_success(f"{self.where}.success_below", share, self.task, wrong)

    def _missed_by_guessing(self) -> float:
        """The fraction of the held-out sequences that always naming the commonest class gets wrong."""
        labels = self.data.targets
        if self.data.mask is not None and labels.ndim == 2:
            labels = np.where(self.data.mask, labels, NO_LABEL)
        return commonest_missed(labels[self.data.held_out])

    def _values(self, axis: str) -> list[Any]:
        return as_list(self.grid.get(axis, self.defaults[axis]))

    def _key(self, axis: str, value: Any) -> str:
        """The key and the value, and whether it was given."""
        given = "" if axis in self.grid else " (the default)"
        return f"{self.where}.{axis}: {value!r}{given}"

    def _lengths(self) -> Iterator[str]:
        ends, starts, names = self.data.ends, self.data.starts, self.data.names
        longest, shortest = int(ends.max()), int(ends.min())
        for length in self._values("sequence_length"):
            if length > longest:
                have = f"have {longest}" if shortest == longest else f"have {shortest} to {longest}"
                yield f"{self._key('sequence_length', length)} is too long; the sequences of {self.task!r} {have} steps"
            elif self.data.loss_at == "every" and (starts > length).any():
                late = np.flatnonzero(starts > length)
                shown = listed((repr(names[index]) for index in late[:10]), late.size)
                yield (
                    f"{self._key('sequence_length', length)} cuts {counted(late.size, 'sequence')} of {self.task!r} ({shown}) before the first target, "
                    f"which the latest has at step {int(starts.max())}"
                )

    def _batches(self) -> Iterator[str]:
        training = int((~self.data.held_out).sum())
        for size in self._values("batch_size"):
            if size > training:
                yield (
                    f"{self._key('batch_size', size)} is too large; {self.task!r} has {training} sequences to train on "
                    f"({len(self.data.held_out)}, of which {len(self.data.held_out) - training} are held out)"
                )

    def _loss_at(self) -> Iterator[str]:
        if "every" in self._values("loss_at") and self.data.loss_at == "last":
            yield f"{self._key('loss_at', 'every')} does not fit; {self.task!r} has one target a sequence (sequences.{self.task}.loss_at: last)"

    def _inputs(self) -> Iterator[str]:
        D = self.data.inputs.shape[2]
        for size in self._values("input_size"):
            if size not in (None, D):
                yield f"{self._key('input_size', size)} does not fit; {self.task!r} has {counted(D, 'input')} a step; leave input_size out"

    def _classes(self) -> Iterator[str]:
        if self.data.classes is not None and len(self.data.classes) == 1 and max(self._values("updates")) > 0:
            yield (
                f"{self.where}.task: {self.task!r} has one class alone, {self.data.classes[0]!r}, so there is nothing to train for; "
                "give it another target, or leave updates out"
            )

    def _constant_targets(self) -> Iterator[str]:
        if self.data.classes is not None or max(self._values("updates")) == 0:
            return
        every = self.data.loss_at == "every" and self.data.mask is not None
        targets = self.data.targets[self.data.mask] if every else self.data.targets
        targets = targets.reshape(-1, targets.shape[-1])
        if (targets == targets[0]).all():
            yield (
                f"{self.where}.task: {self.task!r} has the same target everywhere, {', '.join(f'{value:g}' for value in targets[0])}, so there is nothing to "
                "train for; give it another target, or leave updates out"
            )

    def _success(self) -> Iterator[str]:
        for share in self._values("success_below"):
            if share is not None and self.data.classes is None:
                yield f"{self._key('success_below', share)} does not fit; of numbers, as {self.task!r} asks for, nothing says which are wrong"

    def _directions(self) -> Iterator[str]:
        if True not in self._values("bidirectional"):
            return
        every = "every" in [loss_at or self.data.loss_at for loss_at in self._values("loss_at")]
        for length in self._values("sequence_length"):
            gaps = every and self.data.mask is not None and not self.data.mask[:, :length].all()
            if gaps or (self.data.ends < length).any():
                yield (
                    f"{self._key('bidirectional', True)} does not fit sequence_length: {length}; sequences of {self.task!r} end at different steps "
                    f"or lack targets, and {RAGGED_REVERSE}"
                )

    def _range(self) -> Iterator[str]:
        largest = float(np.abs(self.data.inputs).max())
        if self.data.classes is None:
            largest = max(largest, float(np.abs(self.data.targets).max()))
        for dtype in self._values("dtype"):
            if largest > RANGES[dtype][1]:
                yield f"{self._key('dtype', dtype)} does not hold {largest:.3g}, the largest value of {self.task!r}; standardise its columns"
