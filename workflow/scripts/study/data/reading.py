"""Reading the columns of a user's file, text or Parquet. What is wrong with the file is told in one sentence."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from study.data.messages import DataError, nearest
from study.data.parquet_file import read_parquet
from study.data.table import Table, Wanted
from study.data.text_file import DELIMITERS, TextOptions, read_text

SUFFIXES = (*DELIMITERS, ".parquet")
_TEXT_ONLY = ("delimiter", "encoding", "decimal")


def read(name: str, described: Mapping[str, Any], root: Path, wanted: Wanted) -> Table:
    """The columns of a file that ``wanted`` chooses from all names.

    Args:
        name, described: the task and its entry under ``sequences``.
        root: what relative file names count from.

    Raises:
        DataError: the file cannot be read, or is not what its name or the options say.
    """
    where = f"sequences.{name} ({described['file']})"
    suffix = _suffix(name, described)
    if suffix == ".parquet" and (given := [key for key in _TEXT_ONLY if described.get(key) is not None]):
        raise DataError(f"sequences.{name}.{given[0]}: a Parquet file has none; leave it out")
    file = root / described["file"]
    try:
        with _opened(file, where) as stream:
            if suffix == ".parquet":
                return read_parquet(stream, where, wanted)
            return read_text(stream, where, TextOptions.of(name, described, suffix), wanted)
    except OSError as error:
        raise DataError(f"{where}: the file cannot be read: {error.strerror or error}") from error


def _suffix(name: str, described: Mapping[str, Any]) -> str:
    suffix = Path(described["file"]).suffix.lower()
    if suffix in SUFFIXES:
        return suffix
    packed = (
        " Compressed files are not read; unpack it first." if suffix in (".gz", ".bz2", ".xz", ".zst", ".zip") else ""
    )
    raise DataError(
        f"sequences.{name}.file: {described['file']!r} is not allowed; it must end in {', '.join(SUFFIXES[:-1])} or .parquet.{packed}"
    )


def _opened(file: Path, where: str) -> BinaryIO:
    """The open file.

    Raises:
        DataError: there is none, or it may not be read.
    """
    if file.is_dir():
        raise DataError(f"{where}: this is a folder; name one file in it")
    if os.path.exists(file) and not file.is_file():  # noqa: PTH110 - of a name that no file can have, Path.exists makes an error
        raise DataError(f"{where}: this is a pipe or a device; write the rows into a file")
    try:
        return file.open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise DataError(
            f"{where}: the file does not exist (looked for in this folder, in the project's and beside the config).{_hint(file)}"
        ) from error
    except PermissionError as error:
        raise DataError(f"{where}: you may not read the file; change its permissions") from error


def _hint(file: Path) -> str:
    """What may help where there is no such file."""
    if "~" in file.parts:
        return " ~ is not understood here; write the whole path."
    if any(part in ("http:", "https:", "s3:", "gs:", "file:") for part in file.parts):
        return " An address is not understood here; download the file and name the copy."
    if any(part.startswith(("$", "%")) for part in file.parts):
        return " Variables are not understood here; write the whole path."
    if any(mark in file.name for mark in "*?"):
        return " A pattern is not understood here; name one file."
    if "\\" in str(file):
        return " Write / between folders."
    others = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
    return nearest(file.name, others)
