"""A user's file, whatever wrote it: read as it was meant, or refused in one sentence that names the task, the file and the fault."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from study.data import intake
from study.data.messages import DataError
from study.data.task import Task, sequences_of

LABELS: dict[str, Any] = {"sequence": "id", "inputs": ["a", "b"], "targets": ["kind"], "loss": "softmax_cross_entropy", "loss_at": "last"}  # fmt: skip
N, T = 12, 4
ID, STEP = np.repeat(np.arange(N), T), np.tile(np.arange(T), N)
A, B = np.random.default_rng(0).standard_normal((2, N * T)).round(4)
KIND = ID % 2
COLUMNS: dict[str, Any] = {"id": ID, "step": STEP, "a": A, "b": B, "kind": KIND, "y": 2.0 * A}


def text_of(columns: dict[str, Any] = COLUMNS, mark: str = ",") -> str:
    """A text file of these columns, as a spreadsheet writes it."""
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    return "".join(mark.join("" if value is None else str(value) for value in row) + "\n" for row in rows)


def read(folder: Path, content: str | bytes | pa.Table, name: str = "mine.csv", **described: Any) -> Task:
    """What is read from a file with this content."""
    file = folder / name
    if isinstance(content, pa.Table):
        pq.write_table(content, file)
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return intake.read("mine", {**LABELS, "file": name, **described}, folder)


def refusal(folder: Path, content: str | bytes | pa.Table, name: str = "mine.csv", **described: Any) -> str:
    """The one sentence that refuses it."""
    with pytest.raises(DataError) as error:
        read(folder, content, name, **described)
    said = str(error.value)
    assert said.startswith("sequences.mine") and "\n" not in said and len(said) < 500
    return said


def same(task: Task, decimals: int = 15) -> None:
    """That it holds what ``COLUMNS`` do."""
    np.testing.assert_allclose(task.inputs[:, :, 0].ravel(), A, rtol=10.0**-decimals)
    np.testing.assert_allclose(task.inputs[:, :, 1].ravel(), B, rtol=10.0**-decimals)
    assert task.targets.tolist() == [0, 1] * (N // 2) and task.classes == [0, 1] and task.mask is None


def quoted_cells(columns: dict[str, Any]) -> str:
    return text_of({f'"{name}"': [f'"{cell}"' for cell in cells] for name, cells in columns.items()})


def european(columns: dict[str, Any] = COLUMNS) -> str:
    return text_of(columns, ";").replace(".", ",")


GOOD: list[tuple[str, str | bytes, str, dict[str, Any]]] = [
    ("plain", text_of(), "mine.csv", {}),
    ("upper-case suffix", text_of(), "mine.CSV", {}),
    ("all in quotes", quoted_cells(COLUMNS), "mine.csv", {}),
    ("Windows lines", text_of().replace("\n", "\r\n"), "mine.csv", {}),
    ("no last line end", text_of().rstrip("\n"), "mine.csv", {}),
    ("empty lines at the end", text_of() + "\n\n", "mine.csv", {}),
    ("blanks around", text_of().replace(",", " , "), "mine.csv", {}),
    ("mark of UTF-8", b"\xef\xbb\xbf" + text_of().encode(), "mine.csv", {}),
    ("mark of UTF-8, named", b"\xef\xbb\xbf" + text_of().encode(), "mine.csv", {"encoding": "utf-8-sig"}),
    ("UTF-16, named", text_of().encode("utf-16"), "mine.csv", {"encoding": "utf-16"}),
    ("UTF-16 without a mark, named", text_of().encode("utf-16-le"), "mine.csv", {"encoding": "UTF-16-LE"}),
    ("latin-1, named", text_of({**COLUMNS, "größe": ID}).encode("latin-1"), "mine.csv", {"encoding": "latin-1"}),
    ("tabs", text_of(mark="\t"), "mine.tsv", {}),
    ("text, bars", text_of(mark="|"), "mine.txt", {"delimiter": "|"}),
    ("semicolons, decimal commas", european(), "mine.csv", {"delimiter": ";", "decimal": ","}),
    ("decimal commas in quotes", quoted_cells({**COLUMNS, "a": [str(a).replace(".", ",") for a in A], "b": [str(b).replace(".", ",") for b in B]}), "mine.csv", {"decimal": ","}),
    ("signs and exponents", text_of({**COLUMNS, "a": [f"{a:+.6e}" for a in A]}), "mine.csv", {}),
    ("a note over two lines", text_of({**COLUMNS, "note": ['"two\nlines"'] * (N * T)}), "mine.csv", {}),
    ("a note of 3 MiB", text_of({**COLUMNS, "note": ["x" * (3 << 20)] + [""] * (N * T - 1)}), "mine.csv", {}),
    ("a column called #", text_of({"#": ID, **COLUMNS}), "mine.csv", {}),
    ("name with a comma in quotes", text_of({**COLUMNS, '"a, b"': ID}), "mine.csv", {}),
    ("file name like a pattern", text_of(), "my {data} [1] *?.csv", {}),
]  # fmt: skip


@pytest.mark.parametrize(("content", "name", "described"), [case[1:] for case in GOOD], ids=[case[0] for case in GOOD])
def test_text_of_any_writer_is_read_as_it_was_meant(tmp_path: Path, content: str | bytes, name: str, described: dict[str, Any]) -> None:  # fmt: skip
    same(read(tmp_path, content, name, **described))


def test_cells_mean_the_same_wherever_they_stand(tmp_path: Path) -> None:
    """A reader that guesses a type from the first megabyte would refuse the fraction at the end."""
    rows = 120_000
    columns = {
        "id": np.arange(rows) // 10,
        "a": ["1"] * (rows - 1) + ["0.5"],
        "b": ["2"] * rows,
        "kind": np.arange(rows) // 10 % 2,
    }
    task = read(tmp_path, text_of(columns))
    assert task.inputs[-1, -1, 0] == 0.5 and task.inputs.shape == (rows // 10, 10, 2)


BAD_FILES: list[tuple[str, str | bytes, str, dict[str, Any], list[str]]] = [
    ("nothing", b"", "mine.csv", {}, ["mine.csv", "the file is empty"]),
    ("blank lines", b"\n\n  \n", "mine.csv", {}, ["the file is empty"]),
    ("header only", "id,step,a,b,kind,y\n", "mine.csv", {}, ["a header and no rows"]),
    ("no header", text_of().split("\n", 1)[1], "mine.csv", {}, ["needs a header"]),
    ("UTF-16", text_of().encode("utf-16"), "mine.csv", {}, ["is text in UTF-16; add encoding: utf-16, or"]),
    ("UTF-16 without a mark", text_of().encode("utf-16-le"), "mine.csv", {}, ["zero bytes", "utf-16-le"]),
    ("UTF-8 called latin-1", b"\xef\xbb\xbf" + text_of().encode(), "mine.csv", {"encoding": "latin-1"}, ["marked as UTF-8"]),
    ("plain called UTF-16", text_of(), "mine.csv", {"encoding": "utf-16"}, ["not text in utf-16", "leave encoding out"]),
    ("latin-1 in the header", text_of({**COLUMNS, "größe": ID}).encode("latin-1"), "mine.csv", {}, ["not text in utf-8", "line 1", "encoding: latin-1"]),
    ("latin-1 in a label", text_of({**COLUMNS, "kind": np.where(KIND == 1, "groß", "klein")}).encode("latin-1"), "mine.csv", {}, ["not text in utf-8", "line 6", "encoding: latin-1"]),
    ("an encoding of no text", text_of(), "mine.csv", {"encoding": "base64"}, ["sequences.mine.encoding", "'base64' is not known"]),
    ("a misspelt encoding", text_of(), "mine.csv", {"encoding": "latin_one"}, ["sequences.mine.encoding", "'latin_one'", "Did you mean 'latin-1'?"]),
    ("Parquet called CSV", b"PAR1" + b"\0" * 40 + b"PAR1", "mine.csv", {}, ["Parquet", ".parquet"]),
    ("gzip called CSV", gzip.compress(text_of().encode()), "mine.csv", {}, ["gzip", "gunzip"]),
    ("gzip", gzip.compress(text_of().encode()), "mine.csv.gz", {}, ["sequences.mine.file", "Compressed files are not read"]),
    ("a spreadsheet", b"PK\x03\x04" + b"\0" * 40, "mine.csv", {}, ["spreadsheet"]),
    ("another suffix", text_of(), "mine.dat", {}, ["sequences.mine.file", "must end in .csv, .tsv, .txt or .parquet"]),
    ("too few values", text_of() + "11,4,0.5\n", "mine.csv", {}, ["data row 49 has 3 values, the header has 6 names"]),
    ("too many values", text_of().replace("\n1,0,", "\n1,0,9,"), "mine.csv", {}, ["data row 5 has 7 values", "quotation marks"]),
    ("decimal commas in a comma file", text_of().replace(".", ","), "mine.csv", {}, ["the header has 6 names"]),
    ("semicolons, not named", european(), "mine.csv", {}, ['add delimiter: ";"']),
    ("tabs, not named", text_of(mark="\t"), "mine.csv", {}, [r'add delimiter: "\t"']),
    ("text without a delimiter", text_of(), "mine.txt", {}, ["sequences.mine.delimiter: is missing"]),
    ("two letters", text_of(), "mine.csv", {"delimiter": "::"}, ["sequences.mine.delimiter: '::' is not allowed"]),
    ("a tab by name", text_of(), "mine.csv", {"delimiter": "tab"}, [r'For tabs write "\t"']),
    ("a delimiter that stands in numbers", text_of(), "mine.csv", {"delimiter": "."}, ["sequences.mine.delimiter"]),
    ("decimal commas that part columns", text_of().replace(".", ","), "mine.csv", {"decimal": ","}, ["the header has 6 names", "quotation marks"]),
    ("decimal commas, not named", text_of(mark=";").replace(".", ","), "mine.csv", {"delimiter": ";"}, ["column 'a' holds '0,1257'", 'add decimal: ","']),
    ("decimal points, commas named", text_of(mark=";"), "mine.csv", {"delimiter": ";", "decimal": ","}, ["column 'a' holds '0.1257' in data rows", "has no point"]),
    ("thousands", text_of({**COLUMNS, "a": [f'"1,{i + 200}.5"' for i in range(N * T)]}), "mine.csv", {}, ["'1,200.5'", "separators of thousands"]),
    ("a name twice", text_of().replace("step", "a", 1), "mine.csv", {}, ["the header names 'a' more than once"]),
    ("a name twice but for blanks", text_of().replace("step", " a ", 1), "mine.csv", {}, ["the header names 'a' more than once"]),
    ("text called Parquet", text_of(), "mine.parquet", {}, ["no Parquet file", ".csv"]),
    ("Parquet cut short", b"PAR1" + b"\0" * 40, "mine.parquet", {}, ["cut short or damaged"]),
    ("Parquet damaged", b"PAR1" + b"\7" * 400 + b"PAR1", "mine.parquet", {}, ["damaged"]),
    ("empty Parquet", b"", "mine.parquet", {}, ["the file is empty"]),
    ("a text option for Parquet", b"PAR1", "mine.parquet", {"delimiter": ";"}, ["sequences.mine.delimiter: a Parquet file has none"]),
    ("a quotation mark without its other", text_of().replace("id,", '"id,', 1), "mine.csv", {}, ["mine.csv"]),
    ("a remark before the header", "# made by me, 2024\n" + text_of(), "mine.csv", {}, ["the first row begins with #"]),
    ("Excel's first row", "sep=;\n" + text_of(mark=";"), "mine.csv", {"delimiter": ";"}, ["sep=…, is Excel's", "delimiter:"]),
    ("a web page", "<!DOCTYPE html>\n<html></html>\n", "mine.csv", {}, ["a web page"]),
    ("JSON", '[{"id": 0, "a": 1.5}]', "mine.csv", {}, ["is JSON"]),
    ("JSON by lines", '{"id": 0, "a": 1.5}\n', "mine.csv", {}, ["is JSON"]),
    ("a pointer of Git LFS", "version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "mine.csv", {}, ["git lfs pull"]),
    ("columns that blanks line up", pd.DataFrame(COLUMNS).to_string(index=False), "mine.txt", {"delimiter": " "}, ["several blanks"]),
    ("a line that is no table", b"x" * 300_000, "mine.csv", {}, ["header", "field"]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "name", "described", "said"), [case[1:] for case in BAD_FILES], ids=[case[0] for case in BAD_FILES])  # fmt: skip
def test_a_file_that_is_something_else_is_refused_in_one_sentence(tmp_path: Path, content: str | bytes, name: str, described: dict[str, Any], said: list[str]) -> None:  # fmt: skip
    message = refusal(tmp_path, content, name, **described)
    assert all(part in message for part in said), message


def test_a_file_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "waves.csv").write_text(text_of())
    with pytest.raises(DataError, match=r"wave\.csv.*does not exist.*Did you mean 'waves\.csv'\?"):
        intake.read("mine", {**LABELS, "file": "wave.csv"}, tmp_path)


@pytest.mark.parametrize(("file", "hint"), [("~/mine.csv", "write the whole path"), ("https://a.b/mine.csv", "download"), ("$HOME/mine.csv", "Variables"), ("*.csv", "A pattern is not understood"), ("data\\mine.csv", "Write / between"), ("x" * 300 + ".csv", "too long"), ("mine.csv/x.csv", "does not exist")])  # fmt: skip
def test_names_that_are_no_files_here(tmp_path: Path, file: str, hint: str) -> None:
    (tmp_path / "mine.csv").write_text(text_of())
    with pytest.raises(DataError, match=hint):
        intake.read("mine", {**LABELS, "file": file}, tmp_path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").mkdir()
    with pytest.raises(DataError, match="this is a folder"):
        intake.read("mine", {**LABELS, "file": "mine.parquet"}, tmp_path)


def test_a_file_behind_a_closed_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(text_of())
    file.chmod(0)
    if os.access(file, os.R_OK):  # root reads everything

        def closed(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(DataError, match="you may not read the file"):
        intake.read("mine", {**LABELS, "file": "mine.csv"}, tmp_path)


def parquet(**columns: Any) -> pa.Table:
    return pa.table({**COLUMNS, **columns})


WHOLE = np.arange(N * T) % 100 - 20
TYPES: list[tuple[str, Any, np.ndarray]] = [
    *((f"{kind}", pa.array(np.abs(WHOLE) if "u" in kind else WHOLE, getattr(pa, kind)()), np.abs(WHOLE) if "u" in kind else WHOLE)
      for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")),
    ("float16", pa.array((WHOLE / 8).astype(np.float16)), WHOLE / 8),
    ("float32", pa.array((WHOLE / 8).astype(np.float32)), WHOLE / 8),
    ("decimal", pa.array([decimal.Decimal(int(value)) / 8 for value in WHOLE], pa.decimal128(12, 4)), WHOLE / 8),
    ("boolean", pa.array(WHOLE % 2 == 0), WHOLE % 2 == 0),
    ("dictionary", pa.array(WHOLE / 8).dictionary_encode(), WHOLE / 8),
    ("text", pa.array([str(value / 8) for value in WHOLE]), WHOLE / 8),
    ("large text", pa.array([str(value / 8) for value in WHOLE], pa.large_string()), WHOLE / 8),
    ("nanoseconds", pa.array(WHOLE.astype(np.int64) + 1_700_000_000_000_000_001), (WHOLE.astype(np.int64) + 1_700_000_000_000_000_001).astype(float)),
    ("beyond int64", pa.array(np.abs(WHOLE).astype(np.uint64) + np.uint64(2**63 + 1)), np.full(N * T, 2.0**63)),
]  # fmt: skip


@pytest.mark.parametrize(("column", "values"), [case[1:] for case in TYPES], ids=[case[0] for case in TYPES])
def test_numbers_of_every_type_are_numbers(tmp_path: Path, column: Any, values: np.ndarray) -> None:
    task = read(tmp_path, parquet(a=column), "mine.parquet")
    np.testing.assert_allclose(task.inputs[:, :, 0].ravel(), values.astype(np.float64), rtol=0, atol=0)
    exact = np.abs(values.astype(np.float64)).max() < 2**53
    assert any("lost their last digits" in line for line in task.report) != exact


def test_digits_that_float64_loses_are_counted_in_text_as_well(tmp_path: Path) -> None:
    numbers = [2**53 + value for value in range(N * T)]  # every second is odd and has no float64
    task = read(tmp_path, text_of({**COLUMNS, "a": numbers}))
    assert any(f"input 'a': {N * T // 2} integers" in line for line in task.report)


def test_true_and_false_are_one_and_nought_in_text_as_well(tmp_path: Path) -> None:
    task = read(tmp_path, text_of({**COLUMNS, "a": np.where(KIND == 1, "TRUE", "False")}))
    np.testing.assert_array_equal(task.inputs[:, :, 0].ravel(), KIND)
    assert any("read as 1 and 0" in line for line in task.report)


def changed(column: str, row: int, value: Any) -> dict[str, Any]:
    cells = [*map(str, COLUMNS[column])]
    cells[row] = value
    return {**COLUMNS, column: cells}


WORDS = pa.array([["x"]] * N * T)
BAD_CELLS: list[tuple[str, Any, str, list[str]]] = [
    ("a word", text_of(changed("a", 6, "word")), "mine.csv", ["column 'a' holds 'word' in data row 7, and must hold numbers"]),
    ("a typographer's minus", text_of(changed("a", 6, "\u22121.5")), "mine.csv", ["its minus is a typographer's: write -"]),
    ("units", text_of(changed("a", 6, "3 kg")), "mine.csv", ["'3 kg' in data row 7"]),
    ("blank", text_of(changed("a", 3, "")), "mine.csv", ["column 'a' is blank in data row 4 (1 missing"]),
    ("NA", text_of(changed("a", 3, "NA")), "mine.csv", ["column 'a' is blank in data row 4"]),
    ("infinite", text_of(changed("b", 0, "inf")), "mine.csv", ["column 'b' is infinite in data row 1 (1 missing or non-finite"]),
    ("nan", parquet(b=pa.array([np.nan, np.nan, np.nan, *B[3:]])), "mine.parquet", ["not a number (nan) in data rows 1 to 3 (3 missing"]),
    ("null", parquet(b=pa.nulls(N * T)), "mine.parquet", ["column 'b' is blank in data rows 1 to 48 (48 missing"]),
    ("dates in text", text_of({**COLUMNS, "a": ["2024-01-31"] * (N * T)}), "mine.csv", ["holds '2024-01-31'", "a date is no input", "time:"]),
    ("dates", parquet(a=pa.array([datetime.date(2024, 1, 31)] * N * T)), "mine.parquet", ["type date32", "a date is no input", "time:"]),
    ("lists", parquet(a=WORDS), "mine.parquet", ["list", "several values a cell"]),
    ("structs", parquet(a=pa.array([{"x": 1.0}] * N * T)), "mine.parquet", ["struct", "several values a cell"]),
    ("bytes", parquet(a=pa.array([b"x"] * N * T)), "mine.parquet", ["binary", "must hold numbers"]),
    ("lists as labels", parquet(kind=WORDS), "mine.parquet", ["column 'kind' is of type list"]),
    ("a column that is not there", text_of({k: v for k, v in COLUMNS.items() if k not in ("b", "kind")}), "mine.csv", ["no column 'b' and 'kind'; the file has id, step, a, y."]),
    ("capitals", text_of().replace("kind", "Kind", 1), "mine.csv", ["no column 'kind'", "Did you mean 'Kind'?"]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "name", "said"), [case[1:] for case in BAD_CELLS], ids=[case[0] for case in BAD_CELLS])  # fmt: skip
def test_cells_that_are_no_numbers_are_named_with_their_rows(tmp_path: Path, content: Any, name: str, said: list[str]) -> None:  # fmt: skip
    message = refusal(tmp_path, content, name)
    assert all(part in message for part in said), message


PIECES = [
    b",",
    b";",
    b'"',
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"nan",
    b"inf",
    b"1e400",
    b"",
    b"9" * 25,
    b"1,5",
    b"2024-01-01",
    b"true",
    b"0x1",
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_happened_to_a_file_it_is_read_or_refused_in_one_sentence(data: Any) -> None:
    """Bytes of a text or Parquet file exchanged or cut off, and options that may not fit it."""
    name = data.draw(st.sampled_from(["mine.csv", "mine.parquet"]))
    content = bytearray(PARQUET if name == "mine.parquet" else text_of().encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        content[start : start + data.draw(st.integers(0, 3))] = data.draw(st.sampled_from(PIECES))
    content = content[: data.draw(st.sampled_from([len(content)] * 4 + [len(content) // 2]))]
    options = {
        "time": [None, "step", "y"],
        "mask": ["kind"],
        "targets": [["y"], ["kind"]],
        "loss": ["squared_error"],
        "loss_at": ["every"],
    }
    if name == "mine.csv":
        options |= {"decimal": [","], "delimiter": [";", "\t"], "encoding": ["utf-16", "latin-1", "ascii"]}
    described = {
        key: data.draw(st.sampled_from(values)) for key, values in options.items() if data.draw(st.integers(0, 3)) == 0
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            task = read(Path(folder), bytes(content), name, **described)
        except DataError as error:
            assert str(error).startswith("sequences.mine") and "\n" not in str(error) and len(str(error)) < 600
        else:
            assert np.isfinite(task.inputs).all() and sequences_of(task).digest


def _parquet_bytes() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(COLUMNS), stream)
    return stream.getvalue()


PARQUET = _parquet_bytes()


def test_the_same_numbers_are_the_same_data_whatever_file_they_come_from(tmp_path: Path) -> None:
    """The digest, and with it the run keys, is of what was read."""
    tasks = [
        read(tmp_path, text_of()),
        read(tmp_path, european(), delimiter=";", decimal=","),
        read(tmp_path, pa.table(COLUMNS), "mine.parquet"),
    ]
    assert len({sequences_of(task).digest for task in tasks}) == 1
    other = read(tmp_path, text_of(changed("a", 0, "0.1258")))
    assert sequences_of(other).digest != sequences_of(tasks[0]).digest


def test_data_frames_of_pandas_are_read(tmp_path: Path) -> None:
    frame = pd.DataFrame(COLUMNS).astype({"kind": "category", "id": "string"})
    frame.to_parquet(tmp_path / "mine.parquet")
    same(intake.read("mine", {**LABELS, "file": "mine.parquet"}, tmp_path))
