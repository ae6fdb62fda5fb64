"""What a reader of the code reads is plain, too: docstrings of the product, captions of the report, and what settings and columns mean."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from rnn_core.experiment import axes
from rnn_core.experiment.measures import COLUMNS
from tests.docs.test_plain_english import LONGEST, ROOT, sentences, words

FOLDERS = (
    "rnn_core",
    "workflow",
    "verification",
    "benchmarks",
    "examples",
    "docs",
)  # not studies/own_cells: a file's text is part of its runs' keys
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
CAPTIONS = sorted((ROOT / "workflow").rglob("*.rst"))
_SECTION = re.compile(r"^\s*(?:Args|Attributes|Returns|Raises|Warns|Yields):\s*$", re.MULTILINE)
_ITEM = re.compile(r"^ +((?:[\w*.]+(?:, )?)+): ", re.MULTILINE)


def prose(docstring: str) -> str:
    """A docstring's sentences: without examples, formulas on lines of their own, shapes and headings; every item a paragraph."""
    text = re.sub(r"^ *>>>.*?(?=\n\s*\n|\Z)", "", docstring, flags=re.MULTILINE | re.DOTALL)
    paragraphs = [p for p in re.split(r"\n\s*\n", _SECTION.sub("\n", text)) if not p.lstrip().startswith("Shapes:")]
    lines = [line for line in "\n\n".join(paragraphs).splitlines() if not re.search(r"\S {3,}\S", line)]
    return _ITEM.sub(r"\n\n\1: ", "\n".join(lines)).replace("; ", ".\n\n")


def docstrings(file: Path) -> Iterator[tuple[str, str]]:
    """(name, docstring) of the module, its classes and its functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield getattr(node, "name", "module"), text


def too_long(text: str) -> list[str]:
    return [f"{len(words(s))} words: {s}" for s in sentences(text) if len(words(s)) > LONGEST]


@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_are_short_sentences(folder: str) -> None:
    """A sentence of a docstring must be read twice: cut it in two."""
    found = [
        f"{file.relative_to(ROOT)}, {name}: {sentence}"
        for file in FILES
        if file.is_relative_to(ROOT / folder)
        for name, text in docstrings(file)
        for sentence in too_long(prose(text))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("caption", CAPTIONS, ids=lambda file: file.stem)
def test_captions_are_short_sentences(caption: Path) -> None:
    """A sentence of the report must be read twice: cut it in two."""
    text = re.sub(r"\{\{.*?\}\}", "value", caption.read_text(encoding="utf-8"), flags=re.DOTALL)
    # What stands there under a condition is a piece of its own.
    text = re.sub(r"\{[%#].*?[%#]\}", "\n\n", text, flags=re.DOTALL)
    assert not too_long(text)


def test_settings_and_columns_are_short_sentences() -> None:
    """What a setting or a column means must be read twice."""
    texts = {name: [axis.meaning, axis.unset] for name, axis in axes().items()}
    texts |= {column.name: [column.meaning, column.null] for columns in COLUMNS.values() for column in columns}
    long = [
        (name, said)
        for name, parts in texts.items()
        for part in parts
        for said in too_long(part.replace("; ", ".\n\n"))
    ]
    assert not long


def test_the_measure_sees_sentences_and_not_formulas() -> None:
    """Long sentences pass, or a list of arguments counts as one."""
    text = """One sentence of seven words is here.

    a = b + c       and a formula

    Args:
        x, y: the first of two items.
        z: another; and its second half. A third.

    >>> f(x)
    3
    """
    found = [s for s in sentences(prose(text)) if words(s)]
    assert [len(words(s)) for s in found] == [7, 7, 2, 4, 2]
    assert too_long(prose("One " + "word " * 40 + "end."))
