"""The columns of a user's file as a table, and what a file of any kind must have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from study.data.cells import Cells
from study.data.messages import NO_HEADER, DataError, is_number, listed

HEAD = 65536  # bytes that tell what a file is
Wanted = Callable[[list[str]], list[str]]
_OTHER_FILES = {  # first bytes -> what such a file is, what to do
    b"PAR1": ("a Parquet file", "rename it so that it ends in .parquet"),
    b"\x1f\x8b": ("compressed (gzip)", "unpack it, for example with gunzip"),
    b"BZh": ("compressed (bzip2)", "unpack it, for example with bunzip2"),
    b"\xfd7zXZ": ("compressed (xz)", "unpack it, for example with unxz"),
    b"\x28\xb5\x2f\xfd": ("compressed (zstd)", "unpack it, for example with unzstd"),
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "unpack it, or save the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old spreadsheet", "save the sheet as CSV"),
    b"\x89HDF": ("an HDF5 file", "write its values as CSV or Parquet"),
    b"\x93NUMPY": ("a NumPy file", "write its values as CSV or Parquet"),
    b"ARROW1": ("an Arrow (feather) file", "write its values as CSV or Parquet"),
}


@dataclass(frozen=True)
class Table:
    """The columns of a file that are wanted.

    Attributes:
        where: task and file.
        names: the names of all columns of the file, in order, without surrounding blanks.
        columns: the wanted ones; of a text file all are text.
        rows: how many rows there are below the header.
        decimal: the decimal mark of a text file.
    """

    where: str
    names: list[str]
    columns: dict[str, pa.Array]
    rows: int
    decimal: str = "."

    def cells(self, column: str, rows: np.ndarray | None = None) -> Cells:
        """The cells of a column in these data rows, counted from 0; without ``rows`` in all."""
        values = self.columns[column]
        if rows is None:
            rows = np.arange(self.rows)
        else:
            values = values.take(pa.array(rows))
        return Cells(f"{self.where}: column {column!r}", values, rows, self.decimal)


def kind_of(head: bytes) -> tuple[str, str] | None:
    return next((kind for mark, kind in _OTHER_FILES.items() if head.startswith(mark)), None)


def one_array(values: pa.ChunkedArray) -> pa.Array:
    """The column in one piece, a dictionary's values in the place of its indices."""
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.cast(values.type.storage_type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)


def require_distinct(names: list[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice and all(map(is_number, names)):
        raise DataError(f"{where}: {NO_HEADER}")
    if twice:
        raise DataError(
            f"{where}: the header names {listed(map(repr, twice))} more than once; every column needs a name of its own"
        )


def require_rows(rows: int, where: str) -> None:
    if not rows:
        raise DataError(f"{where}: the file has a header and no rows; it needs one row a time step")


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
