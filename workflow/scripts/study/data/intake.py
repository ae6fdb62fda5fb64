"""A study's data, read, checked and split: scikit-learn's digits, and a user's own sequences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import rnn_core as rc
from rnn_core.tasks.sequences import HELD_OUT_FRACTION, split
from study.counts import counted
from study.data import gathering
from study.data.fit import Fit
from study.data.locating import folder_of, require_one_file
from study.data.messages import DataError
from study.data.order import Notes
from study.data.task import Arrays, Task, class_lines, class_warnings, double_use, last_lines, report_of, seen_before
from study.plan import as_list
from study.settings import axis_defaults


@dataclass(frozen=True)
class Inspection:
    """What a study's data are, known before any job.

    Attributes:
        problems: what must be mended. Each begins with its key in the config.
        warnings: what may be a mistake. Each begins with its key, too.
        reports: task -> lines on what its data are.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reports: dict[str, list[str]] = field(default_factory=dict)


def inspect(config: Mapping[str, Any], folders: Sequence[Path] = (Path(),)) -> Inspection:
    """Read every file that the config declares, once, and compare the sweeps with what was read.

    Args:
        config: a study that agrees with the schema.
        folders: where relative file names are looked for, one after the other.
    """
    inspection = Inspection()
    tasks: dict[str, Task] = {}
    for name, described in config.get("sequences", {}).items():
        try:
            require_one_file(name, described["file"], folders)
            tasks[name] = read(name, described, folder_of(described["file"], folders))
        except DataError as error:
            inspection.problems.append(str(error))
        else:
            inspection.warnings.extend(tasks[name].warnings)
            inspection.reports[name] = tasks[name].report
    if tasks:
        for fit in _fits(config, tasks):
            inspection.problems.extend(fit.problems())
            inspection.warnings.extend(fit.warnings())
    return inspection


def _fits(config: Mapping[str, Any], tasks: Mapping[str, Task]) -> Iterator[Any]:
    """Every sweep beside every task of it that was read."""

    defaults = axis_defaults()
    for sweep, described in config["sweeps"].items():
        for task in as_list(described["grid"].get("task", [])):
            if task in tasks:
                yield Fit(sweep, described["grid"], task, tasks[task], defaults)


def from_file(name: str, described: Mapping[str, Any], root: Path = Path()) -> Arrays:
    """The arrays of ``read``: the fields of ``rnn_core.Sequences``.

    Raises:
        DataError: see ``read``.
    """
    return read(name, described, root).arrays


def read(name: str, described: Mapping[str, Any], root: Path = Path()) -> Task:
    """Sequences from a tidy file with one row a time step, as the config's ``sequences`` section describes them.

    Raises:
        DataError: the file, a column or a cell is not what it must be; the sentence begins with ``sequences.NAME``.
    """

    notes = Notes()
    where = f"sequences.{name} ({described['file']})"
    try:
        gathered = gathering.gather(name, described, root, notes)
    except MemoryError as error:
        raise DataError(f"{where}: the sequences do not fit into memory; use fewer, or shorter ones") from error
    except pa.ArrowException as error:
        raise DataError(f"{where}: the file cannot be read ({str(error).splitlines()[0]})") from error
    fraction = described.get("held_out", HELD_OUT_FRACTION)
    held_out = _held_out(where, len(gathered.names), fraction)
    task = Task(
        gathered.inputs,
        gathered.targets,
        held_out,
        described["loss"],
        described["loss_at"],
        gathered.mask,
        gathered.ends,
        gathered.starts,
        gathered.names,
        gathered.classes,
        baseline=described.get("baseline"),
    )
    task.report.extend(report_of(described, gathered, task, notes.report))
    task.warnings.extend(
        [*notes.warnings, *class_warnings(where, task), *seen_before(where, task), *double_use(where, described)]
    )
    return task


def task_of(name: str, described: Mapping[str, Any] | None, folder: str | Path | None) -> Task:
    """A packaged task, or the user's own that the config describes, with its file's folder."""
    if described is None or folder is None:
        return packaged_task(name)
    return read(name, described, Path(folder))


def digits() -> Arrays:
    """The arrays of the task ``digits``."""
    return packaged_task("digits").arrays


def packaged_task(name: str) -> Task:
    """One of ``rnn_core.tasks.PACKAGED``, with its report."""

    data = rc.tasks.PACKAGED[name]()
    N, T, _ = data.inputs.shape
    ends = np.full(N, T)
    classes = list(range(data.output_size))
    fields = (data.inputs, data.targets, data.held_out, data.loss, data.loss_at, data.mask)
    task = Task(*fields, ends, ends, list(range(N)), classes)
    task.report.append(f"the {name.replace('_', ' ')} of scikit-learn: {counted(N, 'sequence')} of {T} pixels")
    task.report.extend([*class_lines(task), *last_lines(task)])
    return task


def _held_out(where: str, N: int, fraction: float) -> np.ndarray:
    """(N,) bool. It is drawn once for the data set, so runs of all seeds have the same split."""
    held_out = split(N, fraction)
    if not 0 < held_out.sum() < N:
        raise DataError(
            f"{where}: holding out {fraction:g} of {counted(N, 'sequence')} leaves none on one side; change held_out, or add sequences"
        )
    return held_out
