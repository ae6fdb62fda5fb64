"""What a reader reads is plain: no sentence above 30 words, and at most 16 on average over a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
LONGEST, AVERAGE = 30, 16.0
# Written by commands from the code, a study or a benchmark: their words are measured where they are made, or are none of ours.
WRITTEN = {"settings.md", "tables.md", "cells.md", "choices.md", "gallery.md"}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "rnn_core" / "README.md",
    ROOT / "config" / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in WRITTEN),
]

_ITEM = re.compile(r"^\s*(?:[-*]|\d+\.)\s+")
_END = re.compile(r"(?<=[.!?])[\"*)]*\s+(?=[\"*(`A-Z0-9$_\W])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|et al|cf|vs|eq|fig|no|sec)\.$", re.IGNORECASE)


def blocks(markdown: str) -> list[str]:
    """Paragraphs, list items and cells of tables, each as one line; headings, code and formulas on lines of their own left out."""
    text = re.sub(r"<!--.*?-->", "", markdown, flags=re.DOTALL)
    text = re.sub(r"^( *)(```|~~~).*?^\1\2", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\$\$.*?\$\$", " formula ", text, flags=re.DOTALL)
    made: list[str] = []
    paragraph: list[str] = []

    def end() -> None:
        if paragraph:
            made.append(" ".join(paragraph))
            paragraph.clear()

    for line in text.splitlines():
        stripped = line.strip().removeprefix("> ")
        if (
            not stripped
            or stripped.startswith(("#", "!!!", ":::", "--8<--", "!["))
            or re.fullmatch(r"[|:\-\s]+", stripped)
        ):
            end()
        elif stripped.startswith("|"):
            end()
            made += [cell for cell in re.split(r"(?<!\\)\|", stripped) if cell.strip()]
        elif _ITEM.match(line):
            end()
            paragraph.append(_ITEM.sub("", line).strip())
        else:
            paragraph.append(stripped)
    end()
    return made


def sentences(markdown: str) -> list[str]:
    """The sentences of a page. A formula, a piece of code and a link each read as their words."""
    found: list[str] = []
    for block in blocks(markdown):
        text = re.sub(r"`[^`]*`", "Code", block)
        text = re.sub(r"\$[^$]*\$", "Formula", text)
        text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)(?:\{[^}]*\})?", r"\1", text)
        text = re.sub(r"https?://\S+", "address", text).replace("**", "").replace("*", "")
        pieces = _END.split(text)
        joined: list[str] = []
        for piece in pieces:
            if joined and _ABBREVIATION.search(joined[-1]):
                joined[-1] += f" {piece}"
            else:
                joined.append(piece)
        found += [piece.strip() for piece in joined if words(piece)]
    return found


def words(sentence: str) -> list[str]:
    """Its words: whatever holds a letter or digit."""
    return [word for word in sentence.split() if re.search(r"\w", word)]


def is_prose(sentence: str) -> bool:
    """A cell of two words is no sentence, and would make any average small."""
    return len(words(sentence)) >= 5


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short(page: Path) -> None:
    """A sentence on this page must be read twice: cut it in two."""
    long = [s for s in sentences(page.read_text(encoding="utf-8")) if len(words(s)) > LONGEST]
    assert not long, f"{page.relative_to(ROOT)}: {len(long)} sentences above {LONGEST} words:\n" + "\n".join(
        f"  {len(words(s))} words: {s}" for s in long
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_short_on_average(page: Path) -> None:
    """The page as a whole is heavy: cut its longest sentences in two."""
    counts = sorted(
        ((len(words(s)), s) for s in sentences(page.read_text(encoding="utf-8")) if is_prose(s)), reverse=True
    )
    average = sum(count for count, _ in counts) / max(len(counts), 1)
    assert average <= AVERAGE, f"{page.relative_to(ROOT)}: {average:.1f} words a sentence; the longest: " + "; ".join(
        s for _, s in counts[:3]
    )


def test_the_measure_sees_what_a_reader_sees() -> None:
    """A long sentence hides behind a list, a table, a link, a formula or an abbreviation."""
    text = """# Heading that is not counted

A first sentence, e.g. this one. A second has `code with many words in it` and
[a link](docs/a.md) over two lines.

| cell one | a cell. Two sentences |
|---|---|

- an item
- another item: with $a = b + c$ and more

```sh
not counted at all. Nor this.
```
"""
    assert [len(words(s)) for s in sentences(text)] == [6, 10, 2, 2, 2, 2, 6]
    assert [s for s in sentences("One " + "word " * 40 + "end.") if len(words(s)) > LONGEST]
