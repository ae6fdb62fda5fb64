"""Figures that are kept once more, so that a job that draws all of them draws only what has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.files import pictures, seal
from study.tables import store
from study.tables.columns import schema_of


@pytest.fixture
def drawn(tmp_path: Path) -> dict[str, Path]:
    """The files of a figure, as they are drawn."""
    files = pictures.files(tmp_path, "mine")
    digests = {}
    for kind in pictures.KINDS:
        files[kind].write_bytes(kind.encode())
        digests[kind] = seal.digest_of(kind.encode())
    facts = {"study": "s", "figure": "mine", "made_from": "m", "pictures": digests, "title": "It rises."}
    pictures.write_facts(files["facts"], facts)
    return files


def taken_away(files: dict[str, Path]) -> dict[str, bytes]:
    contents = {kind: file.read_bytes() for kind, file in files.items()}
    for file in files.values():
        file.unlink()
    return contents


def test_what_was_kept_comes_back_to_the_bit(drawn: dict[str, Path], tmp_path: Path) -> None:
    pictures.keep(tmp_path / "kept", drawn)
    contents = taken_away(drawn)
    assert pictures.restored(tmp_path / "kept", drawn, "s", "mine", "m")
    assert {kind: file.read_bytes() for kind, file in drawn.items()} == contents


@pytest.mark.parametrize(
    ("study", "figure", "made_from"), [("t", "mine", "m"), ("s", "yours", "m"), ("s", "mine", "n")]
)
def test_what_is_another_figure_or_made_from_something_else_is_drawn(
    drawn: dict[str, Path], tmp_path: Path, study: str, figure: str, made_from: str
) -> None:
    pictures.keep(tmp_path / "kept", drawn)
    taken_away(drawn)
    assert not pictures.restored(tmp_path / "kept", drawn, study, figure, made_from)
    assert not any(file.exists() for file in drawn.values())


@pytest.mark.parametrize("kind", [*pictures.KINDS, "facts"])
@pytest.mark.parametrize("missing", [True, False], ids=["missing", "damaged"])
def test_what_is_damaged_or_missing_is_drawn(drawn: dict[str, Path], tmp_path: Path, kind: str, missing: bool) -> None:
    pictures.keep(tmp_path / "kept", drawn)
    taken_away(drawn)
    file = pictures.kept_files(tmp_path / "kept")[kind]
    content = file.read_bytes()
    file.unlink() if missing else file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not pictures.restored(tmp_path / "kept", drawn, "s", "mine", "m")
    assert not any(file.exists() for file in drawn.values())


def test_other_code_and_other_tables_are_something_else(tmp_path: Path) -> None:
    tables = [tmp_path / name for name in ("a.parquet", "b.parquet")]
    for number, file in enumerate(tables):
        store.write(schema_of("timings").empty_table(), file, {"number": number})
    made = pictures.made_from("c", tables)
    assert pictures.made_from("c", tables) == made
    assert pictures.made_from("d", tables) != made
    store.write(schema_of("timings").empty_table(), tables[1], {"number": 2})
    assert pictures.made_from("c", tables) != made
