"""Sequences from files: scikit-learn's digits and a user's own. Read, checked, split, reported, and stored for the runs.

What reads a file (NumPy, pyarrow) is imported only where there is one to read: every start of Snakemake imports this module.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study.counts import counted
from study.data.messages import DataError, listed
from study.files.writing import Damaged, FileTrouble, Misplaced, reading, written_aside
from study.settings import axis_defaults

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray]

HELD_OUT_FRACTION = 0.2
FIELDS = ("inputs", "targets", "held_out", "loss", "loss_at", "mask")  # of ``rnn_core.Sequences``


@dataclass(frozen=True)
class Task:
    """The sequences of one task, split into training and held-out ones, with what is said of them.

    Attributes:
        inputs, targets, held_out, loss, loss_at, mask: as in ``rnn_core.Sequences``.
        ends, starts: (N,) steps of every sequence up to its last target, and up to its first.
        names: (N,) what the sequences are called in the file.
        classes: what the labels 0, 1, … are called; None for a regression.
        report: what the data are, a line each.
        warnings: what may not be meant; each begins with the key in the config.
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

    @property
    def arrays(self) -> Arrays:
        """The fields of ``Sequences``, as they are stored."""
        import numpy as np

        return {name: np.asarray(getattr(self, name)) for name in FIELDS if getattr(self, name) is not None}

    @property
    def class_names(self) -> list[str] | None:
        """What the classes are called, in the order of their labels."""
        return None if self.classes is None else [class_name(value) for value in self.classes]


@dataclass(frozen=True)
class Inspection:
    """What can be said of a study's data before any job.

    Attributes:
        problems: what must be mended; each begins with its key in the config.
        warnings: what may not be meant; likewise.
        reports: task -> what its data are, a line each.
    """

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    reports: dict[str, list[str]] = field(default_factory=dict)


def folder_of(file: str, folders: Sequence[Path]) -> Path:
    """The first of these folders that holds the file; the first of all if none does."""
    return next(iter(_holding(file, folders)), folders[0])


def _holding(file: str, folders: Sequence[Path]) -> list[Path]:
    """The folders that hold such a file."""
    return [folder for folder in folders if os.path.exists(folder / file)]  # noqa: PTH110 - Path.exists fails on a name too long


def _require_one(name: str, file: str, folders: Sequence[Path]) -> None:
    """That no two different files answer to the name."""
    first, *others = [folder / file for folder in _holding(file, folders)] or [Path()]
    for other in others:
        if not (first.samefile(other) or filecmp.cmp(first, other, shallow=False)):
            raise DataError(
                f"sequences.{name}.file: {file!r} is two different files, {first} and {other}; write the path of the one that is meant"
            )


def inspect(config: Mapping[str, Any], folders: Sequence[Path] = (Path(),)) -> Inspection:
    """Read every file that the config declares, once, and hold the sweeps against what was read.

    Args:
        config: a study that agrees with the schema.
        folders: where relative file names are looked for, one after the other.
    """
    found = Inspection()
    tasks: dict[str, Task] = {}
    for name, described in config.get("sequences", {}).items():
        try:
            _require_one(name, described["file"], folders)
            tasks[name] = read(name, described, folder_of(described["file"], folders))
        except DataError as error:
            found.problems.append(str(error))
        else:
            found.warnings.extend(tasks[name].warnings)
            found.reports[name] = tasks[name].report
    if tasks:
        for fit in _fits(config, tasks):
            found.problems.extend(fit.problems())
            found.warnings.extend(fit.warnings())
    return found


def _fits(config: Mapping[str, Any], tasks: Mapping[str, Task]) -> Iterator[Any]:
    """Every sweep beside every task of it that was read."""
    from study.data.fit import Fit
    from study.plan import as_list

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
    """Sequences as the config's ``sequences`` section describes them: a tidy file, one row a time step.

    Raises:
        DataError: the file, a column or a cell is not what it must be; the sentence begins with ``sequences.NAME``.
    """
    import pyarrow as pa

    from study.data import gathering as sequences

    notes = sequences.Notes()
    where = f"sequences.{name} ({described['file']})"
    try:
        found = sequences.gather(name, described, root, notes)
    except MemoryError as error:
        raise DataError(f"{where}: the sequences do not fit into memory; use fewer, or shorter ones") from error
    except pa.ArrowException as error:
        raise DataError(f"{where}: the file cannot be read ({str(error).splitlines()[0]})") from error
    fraction = described.get("held_out", HELD_OUT_FRACTION)
    held_out = _held_out(where, len(found.names), fraction)
    task = Task(
        found.inputs,
        found.targets,
        held_out,
        described["loss"],
        described["loss_at"],
        found.mask,
        found.ends,
        found.starts,
        found.names,
        found.classes,
    )
    task.report.extend(_report(described, found, task, notes.report))
    task.warnings.extend([*notes.warnings, *_class_warnings(where, task), *_double_use(where, described)])
    return task


def _report(described: Mapping[str, Any], found: Any, task: Task, of_columns: list[str]) -> Iterator[str]:
    """What the data are, a line each."""
    import numpy as np

    N, ends = len(task.names), task.ends
    yield f"{described['file']}: {counted(found.file_rows, 'row')}, {counted(N, 'sequence')} (column {described['sequence']!r})"
    if ends.min() == ends.max():
        yield f"all sequences have {counted(int(ends[0]), 'step')}"
    else:
        median = f"{float(np.median(ends)):g}"
        yield f"sequences have {int(ends.min()):,} to {int(ends.max()):,} steps, median {median}; shorter ones end earlier"
    yield from of_columns
    yield from _class_lines(task)
    if found.unused:
        yield f"not used: {listed(map(repr, found.unused))}"
    yield from _last_lines(task)


def _last_lines(task: Task) -> Iterator[str]:
    yield f"held out: {int(task.held_out.sum()):,} of {counted(len(task.names), 'sequence')}"
    yield f"digest of the data: {sequences_of(task).digest}"


def _class_lines(task: Task) -> Iterator[str]:
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
    """(targets of every class among training sequences, among held-out ones), each (C,); None for a regression."""
    import numpy as np

    if task.classes is None:
        return None
    carrying = task.mask if task.loss_at == "every" else None
    counts = []
    for part in (~task.held_out, task.held_out):
        labels = task.targets[part] if carrying is None else task.targets[part][carrying[part]]
        counts.append(np.bincount(labels.ravel(), minlength=len(task.classes)))
    return counts[0], counts[1]


def _class_warnings(where: str, task: Task) -> Iterator[str]:
    counts = _class_counts(task)
    if counts is None or task.classes is None:
        return
    if len(task.classes) == 1:
        yield f"{where}: there is one class alone, {class_name(task.classes[0])}"
    for count, said in zip(counts, ("to train on", "held out"), strict=True):
        without = [class_name(name) for name, here in zip(task.classes, count, strict=True) if not here]
        if without:
            yield f"{where}: no sequence that is {said} has the class {listed(map(repr, without))}"


def _double_use(where: str, described: Mapping[str, Any]) -> Iterator[str]:
    """Columns that are two things at once, which is allowed and may not be meant."""
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


def digits() -> Arrays:
    """The arrays of ``digits_task``."""
    return digits_task().arrays


def digits_task() -> Task:
    """The digits of ``rnn_core.tasks``, with what is said of them."""
    import numpy as np

    import rnn_core as rc

    data = rc.tasks.digits()
    N, T, _ = data.inputs.shape
    ends = np.full(N, T)
    classes = list(range(data.output_size))
    own = (data.inputs, data.targets, data.held_out, data.loss, data.loss_at, data.mask)
    task = Task(*own, ends, ends, list(range(N)), classes)
    task.report.append(f"the handwritten digits of scikit-learn: {counted(N, 'sequence')} of {T} pixels")
    task.report.extend([*_class_lines(task), *_last_lines(task)])
    return task


def _held_out(where: str, N: int, fraction: float) -> np.ndarray:
    """(N,) bool, drawn once for the data set, so that every run of every seed has the same split."""
    from rnn_core.tasks.sequences import split

    held_out = split(N, fraction)
    if not 0 < held_out.sum() < N:
        raise DataError(
            f"{where}: holding out {fraction:g} of {counted(N, 'sequence')} leaves none on one side; change held_out, or add sequences"
        )
    return held_out


def sequences_of(task: Task) -> Any:
    """The task's ``rnn_core.Sequences``."""
    import rnn_core as rc

    return rc.Sequences(**{name: getattr(task, name) for name in FIELDS})


def save(arrays: Mapping[str, Any], file: str | Path) -> None:
    """Write aside and rename."""
    import numpy as np

    with written_aside(file) as aside:
        np.savez_compressed(aside, **arrays)


def save_task(task: Task, arrays: str | Path, report: str | Path, facts: str | Path) -> None:
    """Write the sequences for the runs, what is said of them as text for people, and the same with the classes' names as JSON."""
    names = {} if task.class_names is None else {"classes": task.class_names}
    save({**task.arrays, **names, "place": _place(arrays)}, arrays)
    with written_aside(report) as aside:
        aside.write_text(
            "\n".join([*task.report, *(f"warning: {line}" for line in task.warnings), ""]), encoding="utf-8"
        )
    said = {"classes": task.class_names, "report": task.report, "warnings": task.warnings}
    with written_aside(facts) as aside:
        aside.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _place(file: str | Path) -> str:
    """Study and task of a file of sequences, ``results/STUDY/sequences/TASK.npz``, by its name."""
    return "/".join([*Path(file).parts[-3:-1], Path(file).stem])


def load(file: str | Path) -> dict[str, Any]:
    """The fields of ``rnn_core.Sequences``.

    Raises:
        Damaged: the file is not what was written; every array in it has its checksum.
        Misplaced: it is another task's, or another study's.
        FileTrouble: it cannot be read.
    """
    import numpy as np

    try:
        with reading(file):
            content = BytesIO(Path(file).read_bytes())  # what goes wrong from here on is the content's fault
        with zipfile.ZipFile(content) as archive:
            if (member := archive.testzip()) is not None:  # before a damaged header asks for all memory
                raise Damaged(file, f"the array {member} is not what was written")
        content.seek(0)
        with np.load(content, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in FIELDS if name in stored}
            place = str(stored["place"]) if "place" in stored else _place(file)
        if place != _place(file):
            raise Misplaced(file, f"it was written as {place}")
        return {**arrays, "loss": str(arrays["loss"]), "loss_at": str(arrays["loss_at"])}
    except (FileTrouble, MemoryError):
        raise
    except Exception as error:  # whatever a damaged archive makes of zipfile, zlib and NumPy's header: a dozen types
        raise Damaged(file, str(error) or type(error).__name__) from error


def place_of(config: Mapping[str, Any], task: str, folders: Sequence[Path]) -> tuple[str, str] | None:
    """(folder, file) of a task on the user's data: where it was found, and its name from here; None for another task."""
    described = config.get("sequences", {}).get(task)
    if not described:
        return None
    folder = folder_of(described["file"], folders)
    return str(folder), str(folder / described["file"])


def is_told(report: list[str], file: str | Path) -> bool:
    """Whether ``file``, a report that ``save_task`` wrote, says the same."""
    try:
        return "\n".join(report) in Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def watched(file: str | None) -> list[str]:
    """The file, if there is one whose date Snakemake can watch: to it a name with braces is a pattern, no file."""
    return [] if file is None or "{" in file else [file]


def content_digest(file: str | None) -> str | None:
    """16 hexadecimal digits of the bytes of the user's file; None if there is no such file here."""
    try:
        with Path(file or "").open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError:
        return None
