"""An error in reading is said to be one: it is no damage, no traceback, and no reason to rename a good file."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from study.data import task_file
from study.files import seal
from study.files.writing import Damaged, FileTrouble, ending_in_words, reading
from study.tables import store, streams
from study.tables.columns import schema_of

WORDS = {
    errno.EIO: "the disk reports an error. Have it looked at, then run the same command again. What is finished is kept.",
    errno.EACCES: "you may not read it. Change its owner or permissions, or those of a folder above it, then run",
    errno.EMFILE: "too many files are open. Raise the limit (ulimit -n) or use fewer --cores, then run",
    errno.ENOENT: "it has gone. Run the same command again and it is made anew.",
    errno.ENOTCONN: "Transport endpoint is not connected. When that is mended, run the same command again.",
}


@pytest.mark.parametrize("number", list(WORDS))
def test_every_error_names_the_file_and_what_to_do(tmp_path: Path, number: int) -> None:
    file = tmp_path / "runs.parquet"
    file.write_text("whole")
    for named in (True, False):  # Arrow's errors have no file's name; and where nobody says which file is read
        with pytest.raises(SystemExit) as ended, ending_in_words():
            if named:
                with reading(file):
                    raise OSError(number, os.strerror(number))
            raise OSError(number, os.strerror(number), str(file))
        assert str(ended.value).startswith(f"{file} cannot be read: {WORDS[number]}")
    assert [f.name for f in tmp_path.iterdir()] == ["runs.parquet"]


def test_an_error_that_names_no_file_is_no_traceback() -> None:
    with (
        pytest.raises(SystemExit, match="The operating system refuses something: the disk reports an error"),
        ending_in_words(),
    ):
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("words", ["", "Unable to allocate 7.28 TiB for an array with shape (1000000, 1000000)"])
def test_too_little_memory_says_what_to_make_smaller(words: str) -> None:
    with pytest.raises(SystemExit) as ended, ending_in_words(ValueError):
        raise MemoryError(words)
    said = str(ended.value)
    assert said.startswith(f"There is not enough memory: {words or 'the system refuses more'}.")
    assert "memory_mb" in said and "smaller hidden_size" in said and "--cores" in said


def sequences(folder: Path) -> Path:
    file = folder / "mine.npz"
    arrays = {"inputs": np.zeros((4, 3, 1)), "loss": np.array("squared_error"), "loss_at": np.array("last")}
    task_file.save(arrays, file)
    return file


def table(folder: Path) -> Path:
    file = folder / "runs.parquet"
    store.write(schema_of("runs").empty_table(), file, {"table": "runs"})
    return file


def text(folder: Path) -> Path:
    file = folder / "figure.json"
    file.write_text(seal.sealed_text(f'{{"sealed": "{seal.BLANK.decode()}"}}'))
    return file


READERS: list[tuple[Any, Any]] = [
    (sequences, task_file.load),
    (table, seal.check),
    (table, store.require),
    (table, store.provenance_of),
    (text, seal.check_text),
    (text, lambda file: seal.check_content(file, "sha256:")),
]


@pytest.mark.parametrize(("make", "read"), READERS)
@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EMFILE])
def test_no_reader_calls_a_file_damaged_that_it_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any, read: Any, number: int
) -> None:
    file = make(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    for name in ("open", "read_bytes"):
        monkeypatch.setattr(Path, name, refuse)
    monkeypatch.setattr(store.pq, "read_schema", refuse)
    with pytest.raises(FileTrouble) as caught:
        read(file)
    assert not isinstance(caught.value, Damaged)
    assert str(caught.value).startswith(f"{file} cannot be read: {WORDS[number]}")


def test_too_little_memory_is_no_damage_of_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = sequences(tmp_path)

    def refuse(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "load", refuse)
    with pytest.raises(SystemExit, match="There is not enough memory"), ending_in_words():
        task_file.load(file)
    assert file.exists()


@pytest.mark.parametrize("refused", ["traces", "runs", "timings"])
def test_a_disk_that_refuses_to_open_a_blocks_table_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """The first table, one in the middle, the last; none is left half made, and nothing more is said when they are forgotten."""
    files = {name: tmp_path / "block" / f"{name}.parquet" for name in streams.BLOCK_TABLES}
    usual = Path.open

    def opened(path: Path, *arguments: Any, **more: Any) -> Any:
        if path.name.startswith(f".{refused}.aside"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return usual(path, *arguments, **more)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(SystemExit) as ended, ending_in_words(), streams.BlockWriter("s", files, {}):
        raise AssertionError("a block without tables was begun")
    assert str(ended.value).startswith(f"{files[refused]} cannot be written: the disk is full. Free some space there")
    assert list((tmp_path / "block").iterdir()) == []


class Closing:
    """A file whose disk has no room left when it is closed, as NFS says it."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> Any:
        return self.file

    def __exit__(self, *_: object) -> None:
        self.file.close()
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def test_an_error_in_closing_a_table_keeps_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r", **more: Closing(usual(path, mode, **more)) if "aside" in path.name and mode == "wb" else usual(path, mode, **more))  # fmt: skip
    with pytest.raises(FileTrouble, match=r"runs\.parquet cannot be written: your disk quota is used up\. Free some"):
        table(tmp_path)
    assert list(tmp_path.iterdir()) == []
