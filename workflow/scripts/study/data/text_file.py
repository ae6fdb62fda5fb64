"""Reading a user's text file.

Every column is read as text. What its cells mean is decided later, over the whole column and with the numbers of the rows at hand
(``study.data.cells``). A reader that guesses types from the first rows refuses, or changes, what comes later.
"""

from __future__ import annotations

import codecs
import csv as header_csv
import io
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv as csv

from study.counts import counted
from study.data.messages import DataError, data_rows, nearest, quoted
from study.data.table import HEAD, Table, Wanted, first_line, kind_of, one_array, require_distinct, require_rows

DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": ""}  # by suffix; a .txt file has no usual one
_UTF8_MARK, _UTF16_MARKS = b"\xef\xbb\xbf", (b"\xff\xfe", b"\xfe\xff")
_LARGEST_BLOCK = 1 << 30  # bytes that the text reader takes at once; a row must fit


@dataclass(frozen=True)
class TextOptions:
    """How a text file is written.

    Attributes:
        delimiter: what stands between the columns.
        encoding: Python's name of it.
        encoding_given: whether the config names the encoding.
        decimal: the decimal mark.
    """

    delimiter: str
    encoding: str
    encoding_given: bool
    decimal: str

    @classmethod
    def of(cls, name: str, described: Mapping[str, Any], suffix: str) -> TextOptions:
        key = f"sequences.{name}"
        delimiter, decimal = described.get("delimiter") or DELIMITERS[suffix], described.get("decimal") or "."
        if not delimiter:
            raise DataError(
                f'{key}.delimiter: is missing; a .txt file has no usual one. Add for example delimiter: "\\t" (tab)'
            )
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter.isalnum() or delimiter in "\"'\r\n.+-":
            tab = ' For tabs write "\\t", in double quotes.' if delimiter.strip("\\").lower() in ("t", "tab") else ""
            raise DataError(
                f"{key}.delimiter: {delimiter!r} is not allowed; it must be one character that no number holds, as ; or |.{tab}"
            )
        if decimal not in (".", ","):
            raise DataError(f'{key}.decimal: {decimal!r} is not allowed; it must be "." or ","')
        return cls(delimiter, _encoding(key, described.get("encoding")), described.get("encoding") is not None, decimal)


def _encoding(key: str, given: str | None) -> str:
    """The name that Python has for an encoding."""
    try:
        codec = codecs.lookup(given or "utf-8")
    except (LookupError, ValueError):
        codec = None
    if codec is None or not getattr(codec, "_is_text_encoding", True):
        common = ("utf-8", "utf-16", "latin-1", "cp1252", "cp1250", "shift_jis", "gb18030")
        raise DataError(
            f"{key}.encoding: {given!r} is not known; common ones are {', '.join(common)}.{nearest(str(given), common)}"
        )
    return "utf-8" if codec.name == "utf-8-sig" else codec.name


def read_text(stream: BinaryIO, where: str, options: TextOptions, wanted: Wanted) -> Table:
    head = stream.read(HEAD)
    _require_text(head, where, options)
    stream.seek(0)
    try:
        raw = _header(stream, where, options)
        names = [name.strip() for name in raw]
        require_distinct(names, where)
        of_name = dict(zip(names, raw, strict=True))
        chosen = wanted(names)
        stream.seek(0)
        columns = _text_columns(stream, where, options, [of_name[name] for name in chosen])
    except UnicodeError as error:
        raise DataError(_undecodable(stream, where, options)) from error
    rows = len(next(iter(columns.values())))
    require_rows(rows, where)
    return Table(where, names, {name: columns[of_name[name]] for name in chosen}, rows, options.decimal)


def _require_text(head: bytes, where: str, options: TextOptions) -> None:
    """Refuse a file that does not begin like text in its encoding."""
    if not head.strip():
        raise DataError(
            f"{where}: the file is empty; it needs a header with the columns' names, and one row a time step"
        )
    if kind := kind_of(head):
        raise DataError(f"{where}: the file is no text, it is {kind[0]}; {kind[1]}")
    if fault := _other_text(head.lstrip(_UTF8_MARK).lstrip()):
        raise DataError(f"{where}: {fault}")
    wide = options.encoding.startswith(("utf-16", "utf-32"))
    if head.startswith(_UTF16_MARKS) and not wide:
        raise DataError(f"{where}: the file is text in UTF-16; add encoding: utf-16, or save it as UTF-8")
    if b"\0" in head and not wide:
        raise DataError(
            f"{where}: the file has zero bytes: it is no text, or text in UTF-16. Save it as UTF-8 or add encoding: utf-16-le"
        )
    if head.startswith(_UTF8_MARK) and options.encoding != "utf-8":
        raise DataError(f"{where}: the file is marked as UTF-8, not {options.encoding}; leave encoding out")


_OTHER_TEXTS = {  # how a text begins -> what is wrong with it
    rb"version https://git-lfs": "the file is a pointer of Git LFS, not the data; git lfs pull gets them",
    rb"<(!|\?|html|svg)": "the file is a web page or XML, not a table; was it saved from the right address?",
    rb"(\{|\[)\s*[\[{\"]": "the file is JSON, not a table; write its values as CSV or Parquet",
    rb"#\s*[\w(]": "the first row begins with #; it must be the header with the columns' names, without #",
    rb"sep=": "the first row, sep=…, is Excel's; remove it, and name the mark under delimiter:",
}


def _other_text(head: bytes) -> str:
    """What is wrong with a text that is no table, or has something before its header; empty if nothing is."""
    return next((fault for beginning, fault in _OTHER_TEXTS.items() if re.match(beginning, head, re.IGNORECASE)), "")


def _header(stream: BinaryIO, where: str, options: TextOptions) -> list[str]:
    """The names in the first row that is not empty, with their blanks."""
    encoding = "utf-8-sig" if options.encoding == "utf-8" else options.encoding
    text = io.TextIOWrapper(stream, encoding=encoding, newline="")
    try:
        names = next((row for row in header_csv.reader(text, delimiter=options.delimiter) if row), [])
    except header_csv.Error as error:
        raise DataError(f"{where}: the header cannot be read ({error}); is a quotation mark missing?") from error
    finally:
        text.detach()  # the stream stays open
    delimiter = next((mark for mark in (";", "\t", "|", ",") if mark in names[0]), None) if len(names) == 1 else None
    if delimiter:
        shown = quoted(delimiter).replace("'", '"')
        raise DataError(
            f"{where}: the header is one name, {quoted(names[0])}. If {shown} stands between the columns, add delimiter: {shown}"
        )
    return names


def _text_columns(stream: BinaryIO, where: str, options: TextOptions, names: list[str]) -> dict[str, pa.Array]:
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
        raise DataError(f"{where}: the file cannot be read as a table ({first_line(error)})") from error
    if wrong:
        raise DataError(_uneven(wrong, where, options))
    return {name: one_array(rows[name]) for name in names}


def _uneven(wrong: list[csv.InvalidRow], where: str, options: TextOptions) -> str:
    first = wrong[0]
    more = f" (and {counted(len(wrong) - 1, 'other row')})" if len(wrong) > 1 else ""
    commas = options.delimiter == "," and first.actual_columns > first.expected_columns
    blanks = options.delimiter == " "
    remedy = "; put values that hold a comma in quotation marks" if commas else ""
    remedy = (
        '; columns that several blanks part are not read: write one "\\t" or comma between them' if blanks else remedy
    )
    return (
        f"{where}: {data_rows([first.number - 2])}{more} has {counted(first.actual_columns, 'value')}, the header has "
        f"{counted(first.expected_columns, 'name')}: {quoted(first.text)}{remedy}"
    )


def _undecodable(stream: BinaryIO, where: str, options: TextOptions) -> str:
    """A sentence on where the file is not in its encoding, and what would help."""
    stream.seek(0)
    fault = f"{where}: the file is not text in {options.encoding}"
    if options.encoding == "utf-8":
        for number, line in enumerate(stream, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                fault = f"{fault}: line {number} holds {quoted(line.decode('latin-1').strip())}"
                break
    if options.encoding_given:
        return f"{fault}; name the encoding that it was written in, or leave encoding out for UTF-8"
    return f"{fault}; add its encoding, for example encoding: latin-1, or save it as UTF-8"
