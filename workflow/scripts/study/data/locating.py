"""Where the user's own files are: looked for in several folders, watched by date and by content."""

from __future__ import annotations

import filecmp
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from study.data.messages import DataError


def folder_of(file: str, folders: Sequence[Path]) -> Path:
    """The first of these folders that holds the file; the first of all if none does."""
    return next(iter(_holding(file, folders)), folders[0])


def _holding(file: str, folders: Sequence[Path]) -> list[Path]:
    """The folders that hold such a file."""
    return [folder for folder in folders if os.path.exists(folder / file)]  # noqa: PTH110 - Path.exists fails on a name too long


def require_one_file(name: str, file: str, folders: Sequence[Path], key: str = "sequences") -> None:
    """Refuse a name that leads to two different files. ``key`` is where the config has it."""
    first, *further = [folder / file for folder in _holding(file, folders)] or [Path()]
    for file_elsewhere in further:
        if not (first.samefile(file_elsewhere) or filecmp.cmp(first, file_elsewhere, shallow=False)):
            raise DataError(
                f"{key}.{name}.file: {file!r} is two different files, {first} and {file_elsewhere}. Write the path of the right one"
            )


def place_of(config: Mapping[str, Any], task: str, folders: Sequence[Path]) -> tuple[str, str] | None:
    """(folder, file) of a task on the user's data, the file's name as seen from here; None for another task."""
    described = config.get("sequences", {}).get(task)
    if not described:
        return None
    folder = folder_of(described["file"], folders)
    return str(folder), str(folder / described["file"])


def watched(file: str | None) -> list[str]:
    """The file, if Snakemake can watch its date. A name with braces is a pattern to Snakemake, no file."""
    return [] if file is None or "{" in file else [file]


def content_digest(file: str | None) -> str | None:
    """16 hexadecimal digits of the bytes of the user's file; None if there is no such file here."""
    try:
        with Path(file or "").open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
    except OSError:
        return None
