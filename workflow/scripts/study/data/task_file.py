"""A task's sequences as the jobs read them: one file with its place and checksums, and its report beside it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from study.data.task import FIELDS, Task
from study.files.writing import Damaged, FileTrouble, Misplaced, reading, written_aside


def save(arrays: Mapping[str, Any], file: str | Path) -> None:
    """Write aside and rename."""
    with written_aside(file) as aside:
        np.savez_compressed(aside, **arrays)


def save_task(task: Task, arrays: str | Path, report: str | Path, facts: str | Path) -> None:
    """Write the sequences for the runs, their report as text, and the report with the classes' names as JSON."""
    names = {} if task.class_names is None else {"classes": task.class_names}
    save({**task.arrays, **names, "place": _place(arrays)}, arrays)
    with written_aside(report) as aside:
        aside.write_text(
            "\n".join([*task.report, *(f"warning: {line}" for line in task.warnings), ""]), encoding="utf-8"
        )
    facts_of_task = {"classes": task.class_names, "report": task.report, "warnings": task.warnings}
    with written_aside(facts) as aside:
        aside.write_text(json.dumps(facts_of_task, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


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
        named = {"baseline": float(arrays["baseline"])} if "baseline" in arrays else {}
        return {**arrays, "loss": str(arrays["loss"]), "loss_at": str(arrays["loss_at"]), **named}
    except (FileTrouble, MemoryError):
        raise
    except Exception as error:  # whatever a damaged archive makes of zipfile, zlib and NumPy's header: a dozen types
        raise Damaged(file, str(error) or type(error).__name__) from error


def is_told(report: list[str], file: str | Path) -> bool:
    """Whether ``file``, a report that ``save_task`` wrote, says the same."""
    try:
        return "\n".join(report) in Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
