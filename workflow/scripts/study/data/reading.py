"""Reading the columns of a user's file, text or Parquet, and saying in one sentence what is wrong with the file.

Every column of a text file is read as text: what its cells mean is decided in ``study.data.cells``, over the whole column and
with the numbers of the rows at hand. A reader that guesses types from the first rows refuses, or changes, what comes later.
"""

from __future__ import annotations

import codecs
import csv as header_csv
import io
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from study.counts import counted
from study.data.messages import NO_HEADER, DataError, data_rows, is_number, listed, nearest, quoted

DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": ""}  # by suffix; a .txt file has no usual one
SUFFIXES = (*DELIMITERS, ".parquet")
_TEXT_ONLY = ("delimiter", "encoding", "decimal")
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
_HEAD = 65536  # bytes that tell what a file is
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_LARGEST_BLOCK = 1 << 30  # bytes that the text reader takes at once; a row must fit
Wanted = Callable[[list[str]], list[str]]


@dataclass(frozen=True)
class Cells:
    """Cells of one column.

    Attributes:
        where: task, file and column, the beginning of every sentence about them.
        values: one a cell; dictionaries are decoded.
        rows: (cells,) their data rows, counted from 0.
        decimal: the decimal mark of a text file.
    """

    where: str
    values: pa.Array
    rows: np.ndarray
    decimal: str

    def in_rows(self, cells: np.ndarray) -> str:
        """The data rows of these cells, for a sentence; ``cells`` are indices or booleans."""
        return data_rows(np.sort(self.rows[cells]))


@dataclass(frozen=True)
class Table:
    """The columns of a file that are wanted.

    Attributes:
        where: task and file.
        names: of all columns of the file, in order, without surrounding blanks.
        columns: those that are wanted; of a text file all are text.
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
                return _parquet(stream, where, wanted)
            return _text(stream, where, _TextOptions.of(name, described, suffix), wanted)
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
    """The file, or one sentence on why there is none."""
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
    """What may have been meant by a file that is not there."""
    if "~" in file.parts:
        return " ~ is not understood here; write the whole path."
    if any(part in ("http:", "https:", "s3:", "gs:", "file:") for part in file.parts):
        return " An address is not understood here; download the file and name the copy."
    others = [entry.name for entry in file.parent.iterdir()] if file.parent.is_dir() else []
    return nearest(file.name, others)


def _kind_of(head: bytes) -> tuple[str, str] | None:
    return next((kind for mark, kind in _OTHER_FILES.items() if head.startswith(mark)), None)


def _parquet(stream: BinaryIO, where: str, wanted: Wanted) -> Table:
    head = stream.read(_HEAD)
    if not head:
        raise DataError(f"{where}: the file is empty (0 bytes)")
    if not head.startswith(b"PAR1"):
        kind, remedy = _kind_of(head) or ("no Parquet file", "if it is text, rename it so that it ends in .csv")
        raise DataError(f"{where}: the name ends in .parquet, but the file is {kind}; {remedy}")
    stream.seek(-4, os.SEEK_END)
    if stream.read() != b"PAR1":
        raise DataError(f"{where}: the Parquet file is cut short or damaged; write it again")
    stream.seek(0)
    try:
        parquet = pq.ParquetFile(stream)
        names = list(parquet.schema_arrow.names)
        _require_distinct(names, where)
        chosen = wanted(names)
        rows = parquet.read(columns=chosen)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{where}: the Parquet file is damaged ({_first_line(error)}); write it again") from error
    columns = {name: _one_array(rows[name]) for name in chosen}
    _require_rows(rows.num_rows, where)
    return Table(where, names, columns, rows.num_rows)


def _one_array(values: pa.ChunkedArray) -> pa.Array:
    """The column in one piece, a dictionary's values in the place of its indices."""
    if isinstance(values.type, pa.BaseExtensionType):
        values = values.cast(values.type.storage_type)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    return values.combine_chunks() if values.num_chunks != 1 else values.chunk(0)


def _require_distinct(names: list[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1 and name]
    if twice and all(map(is_number, names)):
        raise DataError(f"{where}: {NO_HEADER}")
    if twice:
        raise DataError(
            f"{where}: the header names {listed(map(repr, twice))} more than once; every column needs a name of its own"
        )


def _require_rows(rows: int, where: str) -> None:
    if not rows:
        raise DataError(f"{where}: the file has a header and no rows; it needs one row a time step")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


@dataclass(frozen=True)
class _TextOptions:
    """How a text file is written.

    Attributes:
        encoding_given: whether the config names the encoding.
    """

    delimiter: str
    encoding: str
    encoding_given: bool
    decimal: str

    @classmethod
    def of(cls, name: str, described: Mapping[str, Any], suffix: str) -> _TextOptions:
        key = f"sequences.{name}"
        delimiter, decimal = described.get("delimiter") or DELIMITERS[suffix], described.get("decimal") or "."
        if not delimiter:
            raise DataError(
                f'{key}.delimiter: is missing; a .txt file has no usual one. Add for example delimiter: "\\t" (tab)'
            )
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter.isalnum() or delimiter in "\"'\r\n.+-":
            tab = ' For tabs write "\\t", in double quotes.' if delimiter.strip("\\").lower() in ("t", "tab") else ""
            raise DataError(
                f"{key}.delimiter: {delimiter!r} is not allowed; it must be one character that stands in no number, as ; or |.{tab}"
            )
        if decimal not in (".", ","):
            raise DataError(f'{key}.decimal: {decimal!r} is not allowed; it must be "." or ","')
        return cls(delimiter, _encoding(key, described.get("encoding")), described.get("encoding") is not None, decimal)


def _encoding(key: str, given: str | None) -> str:
    """The name that Python has for an encoding."""
    try:
        found = codecs.lookup(given or "utf-8")
    except (LookupError, ValueError):
        found = None
    if found is None or not getattr(found, "_is_text_encoding", True):
        common = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1250", "shift_jis", "gb18030")
        raise DataError(
            f"{key}.encoding: {given!r} is not known; common ones are {', '.join(common)}.{nearest(str(given), common)}"
        )
    return "utf-8" if found.name == "utf-8-sig" else found.name


def _text(stream: BinaryIO, where: str, options: _TextOptions, wanted: Wanted) -> Table:
    head = stream.read(_HEAD)
    _require_text(head, where, options)
    stream.seek(0)
    try:
        raw = _header(stream, where, options)
        names = [name.strip() for name in raw]
        _require_distinct(names, where)
        of_name = dict(zip(names, raw, strict=True))
        chosen = wanted(names)
        stream.seek(0)
        columns = _columns(stream, where, options, [of_name[name] for name in chosen])
    except UnicodeError as error:
        raise DataError(_undecodable(stream, where, options)) from error
    rows = len(next(iter(columns.values())))
    _require_rows(rows, where)
    return Table(where, names, {name: columns[of_name[name]] for name in chosen}, rows, options.decimal)


def _require_text(head: bytes, where: str, options: _TextOptions) -> None:
    """That a file begins like text in the encoding that was named."""
    if not head.strip():
        raise DataError(
            f"{where}: the file is empty; it needs a header with the columns' names, and one row a time step"
        )
    if kind := _kind_of(head):
        raise DataError(f"{where}: the file is no text, it is {kind[0]}; {kind[1]}")
    wide = options.encoding.startswith(("utf-16", "utf-32"))
    if head.startswith(_UTF16_MARKS) and not wide:
        raise DataError(f"{where}: the file is text in UTF-16; add encoding: utf-16, or save it as UTF-8")
    if b"\0" in head and not wide:
        raise DataError(
            f"{where}: the file has zero bytes, so it is no text, or text in UTF-16; save it as UTF-8 or add encoding: utf-16-le"
        )
    if head.startswith(_UTF8_MARK) and options.encoding != "utf-8":
        raise DataError(f"{where}: the file is marked as UTF-8, not {options.encoding}; leave encoding out")


def _header(stream: BinaryIO, where: str, options: _TextOptions) -> list[str]:
    """The names in the first row that is not empty, as they stand there."""
    encoding = "utf-8-sig" if options.encoding == "utf-8" else options.encoding
    text = io.TextIOWrapper(stream, encoding=encoding, newline="")
    try:
        names = next((row for row in header_csv.reader(text, delimiter=options.delimiter) if row), [])
    except header_csv.Error as error:
        raise DataError(f"{where}: the header cannot be read ({error}); is a quotation mark missing?") from error
    finally:
        text.detach()  # the stream stays open
    other = next((mark for mark in (";", "\t", "|", ",") if mark in names[0]), None) if len(names) == 1 else None
    if other:
        said = quoted(other).replace("'", '"')
        raise DataError(
            f"{where}: the header is one name, {quoted(names[0])}; if {said} stands between the columns, add delimiter: {said}"
        )
    return names


def _columns(stream: BinaryIO, where: str, options: _TextOptions, names: list[str]) -> dict[str, pa.Array]:
    """These columns as text."""
    wrong: list[csv.InvalidRow] = []

    def note(row: csv.InvalidRow) -> str:
        wrong.append(row)
        return "skip"

    size = max(os.fstat(stream.fileno()).st_size, 1 << 16)
    encoding = "utf8" if options.encoding == "utf-8" else options.encoding  # under this name pyarrow does not transcode
    try:
        rows = csv.read_csv(
            stream,
            csv.ReadOptions(use_threads=False, block_size=min(size, _LARGEST_BLOCK), encoding=encoding),
            csv.ParseOptions(delimiter=options.delimiter, newlines_in_values=True, invalid_row_handler=note),
            csv.ConvertOptions(include_columns=names, column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        if "UTF8" in str(error):
            raise UnicodeError(str(error)) from error
        raise DataError(f"{where}: the file cannot be read as a table ({_first_line(error)})") from error
    if wrong:
        raise DataError(_uneven(wrong, where, options))
    return {name: _one_array(rows[name]) for name in names}


def _uneven(wrong: list[csv.InvalidRow], where: str, options: _TextOptions) -> str:
    first = wrong[0]
    more = f" (and {counted(len(wrong) - 1, 'other row')})" if len(wrong) > 1 else ""
    commas = options.delimiter == "," and first.actual_columns > first.expected_columns
    remedy = "; put values that hold a comma in quotation marks" if commas else ""
    return (
        f"{where}: {data_rows([first.number - 2])}{more} has {counted(first.actual_columns, 'value')}, the header has "
        f"{counted(first.expected_columns, 'name')}: {quoted(first.text)}{remedy}"
    )


def _undecodable(stream: BinaryIO, where: str, options: _TextOptions) -> str:
    """Where the file is not in its encoding, and what would help."""
    stream.seek(0)
    said = f"{where}: the file is not text in {options.encoding}"
    if options.encoding == "utf-8":
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                said = f"{said}: line {number} holds {quoted(line.decode('latin-1').strip())}"
                break
    if options.encoding_given:
        return f"{said}; name the encoding that it was written in, or leave encoding out for UTF-8"
    return f"{said}; add its encoding, for example encoding: latin-1, or save it as UTF-8"
