"""The sequences of one task, with a report on them and warnings of what may be a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import rnn_core as rc
from study.counts import counted
from study.data.messages import listed

Arrays = dict[str, np.ndarray]
FIELDS = ("inputs", "targets", "held_out", "loss", "loss_at", "mask", "baseline")  # of ``rnn_core.Sequences``


@dataclass(frozen=True)
class Task:
    """The sequences of one task, split into training and held-out ones, with a report.

    Attributes:
        inputs, targets, held_out, loss, loss_at, mask, baseline: as in ``rnn_core.Sequences``.
        ends, starts: (N,) steps of every sequence up to its last target, and up to its first.
        names: (N,) the names of the sequences in the file.
        classes: what the labels 0, 1, … are called; None for a regression.
        report: lines on what the data are.
        warnings: what may be a mistake. Each begins with the key in the config.
    """

    inputs: np.ndarray
    targets: np.ndarray
    held_out: np.ndarray
    loss: str
    loss_at: str
    mask: np.ndarray | None
    ends: np.ndarray
    starts: np.ndarray
    names: list[Any]
    classes: list[Any] | None
    report: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    baseline: float | None = None

    @property
    def arrays(self) -> Arrays:
        """The fields of ``Sequences``, as they are stored."""
        import numpy as np

        return {name: np.asarray(getattr(self, name)) for name in FIELDS if getattr(self, name) is not None}

    @property
    def class_names(self) -> list[str] | None:
        """What the classes are called, in the order of their labels."""
        return None if self.classes is None else [class_name(value) for value in self.classes]


def sequences_of(task: Task) -> Any:
    """The task's ``rnn_core.Sequences``."""
    return rc.Sequences(**{name: getattr(task, name) for name in FIELDS})


def report_of(described: Mapping[str, Any], gathered: Any, task: Task, of_columns: list[str]) -> Iterator[str]:
    """What the data are, a line each."""
    N, ends = len(task.names), task.ends
    yield f"{described['file']}: {counted(gathered.file_rows, 'row')}, {counted(N, 'sequence')} (column {described['sequence']!r})"
    if ends.min() == ends.max():
        yield f"all sequences have {counted(int(ends[0]), 'step')}"
    else:
        median = f"{float(np.median(ends)):g}"
        yield f"sequences have {int(ends.min()):,} to {int(ends.max()):,} steps, median {median}; shorter ones end earlier"
    yield from of_columns
    yield from class_lines(task)
    if gathered.unused:
        yield f"not used: {listed(map(repr, gathered.unused))}"
    yield from last_lines(task)


def last_lines(task: Task) -> Iterator[str]:
    if task.baseline is not None:
        yield f"baseline: {task.baseline:g}, the held-out loss of the best prediction that remembers nothing"
    yield f"held out: {int(task.held_out.sum()):,} of {counted(len(task.names), 'sequence')}"
    yield f"digest of the data: {sequences_of(task).digest}"


def class_lines(task: Task) -> Iterator[str]:
    counts = _class_counts(task)
    if counts is None or task.classes is None:
        return
    of = "sequences" if task.loss_at == "last" else "steps"
    shown = [
        f"{class_name(name)} = {label} ({training:,} {of} to train on, {held:,} held out)"
        for label, (name, training, held) in enumerate(zip(task.classes, *counts, strict=True))
    ]
    yield f"{counted(len(shown), 'class', 'classes')}: {listed(shown)}"


def _class_counts(task: Task) -> tuple[Any, Any] | None:
    """(targets of every class among training sequences, among held-out sequences), each (C,); None for a regression."""
    if task.classes is None:
        return None
    carrying = task.mask if task.loss_at == "every" else None
    counts = []
    for part in (~task.held_out, task.held_out):
        labels = task.targets[part] if carrying is None else task.targets[part][carrying[part]]
        counts.append(np.bincount(labels.ravel(), minlength=len(task.classes)))
    return counts[0], counts[1]


def class_warnings(where: str, task: Task) -> Iterator[str]:
    counts = _class_counts(task)
    if counts is None or task.classes is None:
        return
    if len(task.classes) == 1:
        yield f"{where}: there is one class alone, {class_name(task.classes[0])}"
    for count, use in zip(counts, ("to train on", "held out"), strict=True):
        without = [class_name(name) for name, members in zip(task.classes, count, strict=True) if not members]
        if without:
            yield f"{where}: no sequence that is {use} has the class {listed(map(repr, without))}"


def seen_before(where: str, task: Task) -> Iterator[str]:
    """A warning if held-out sequences repeat those to train on: then the held-out loss does not show what was learnt."""
    seen = {inputs.tobytes() for inputs in task.inputs[~task.held_out]}
    repeated = sum(inputs.tobytes() in seen for inputs in task.inputs[task.held_out])
    if repeated:
        yield (
            f"{where}: {repeated:,} of {counted(int(task.held_out.sum()), 'held-out sequence')} repeat the inputs of a sequence to train on, "
            "step by step; what is measured on them is not of unseen data"
        )


def double_use(where: str, described: Mapping[str, Any]) -> Iterator[str]:
    """Warnings of columns with two roles, which is allowed and may be a mistake."""
    inputs, targets = described["inputs"], described["targets"]
    for column in inputs:
        if column in targets:
            yield f"{where}: column {column!r} is an input and the target: the network sees what it is asked for"
    for key in ("time", "mask"):
        column = described.get(key)
        if column is not None and column in [*inputs, *targets]:
            role = "an input" if column in inputs else "a target"
            yield f"{where}: column {column!r} is {key}: and {role}"


def class_name(value: Any) -> str:
    """What a class is called: ``true`` and ``false`` as in files."""
    return str(value).lower() if isinstance(value, bool) else str(value)
