"""The page as a reader has it before him: sentences, and the numbers in them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

# Sections about the execution, not about the study: their numbers come from clocks and programs, not from runs.
NOT_READ = ("checked", "provenance", "references", "time")
BLOCKS = ("p", "li", "h1", "h2", "h3", "td", "th", "caption", "dd")


@dataclass
class Number:
    """A number that says what it is."""

    text: str
    kind: str
    value: float
    where: dict[str, Any]
    block: str = ""


class Reader(HTMLParser):
    """Collects blocks of text (with their section), every marked number, and what digits are left without a mark."""

    def __init__(self, not_read: Sequence[str] = NOT_READ) -> None:
        super().__init__()
        self.not_read = not_read
        self.numbers: list[Number] = []
        self.blocks: list[tuple[str, str, str]] = []  # (section, tag, text)
        self.unmarked: list[str] = []  # text of blocks without their numbers
        self._section = self._tag = ""
        self._skip = 0
        self._text: list[str] = []
        self._bare: list[str] = []
        self._number: Number | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in ("svg", "style", "script", "pre", "nav", "title"):
            self._skip += 1
        if tag == "section":
            self._section = given.get("id") or ""
        if tag in BLOCKS:
            self._finish()
            self._tag = given.get("class") or tag if tag == "p" else tag
        if tag == "small":
            self._text.append(" ")
            self._bare.append(" ")
        if tag == "data" and not self._skip:
            self._number = Number(
                "", given["data-kind"] or "", float(given["value"] or "nan"), json.loads(given["data-where"] or "{}")
            )

    def handle_endtag(self, tag: str) -> None:
        if tag in ("svg", "style", "script", "pre", "nav", "title"):
            self._skip -= 1
        if tag == "data" and self._number:
            self.numbers.append(self._number)
            self._number = None
        if tag in BLOCKS:
            self._finish()
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        if self._skip:
            return
        self._text.append(data)
        if self._number:
            self._number.text += data
            self._number.block = self._section
        else:
            self._bare.append(data)

    def _finish(self) -> None:
        text = re.sub(r"\s+", " ", "".join(self._text)).strip()
        if text and self._tag and self._section not in self.not_read:
            self.blocks.append((self._section, self._tag, text))
            self.unmarked.append(re.sub(r"\s+", " ", "".join(self._bare)).strip())
        self._text, self._bare, self._tag = [], [], ""


def read(page: str, not_read: Sequence[str] = NOT_READ) -> Reader:
    reader = Reader(not_read)
    reader.feed(page)
    return reader


_BRACKETS = re.compile(r"\s?\([^()]*\)|\s?\[[^\]]*\]")
_SETTING = re.compile(r"(?:[a-z]+ )?[^\s(]+ [=×] [^\s,;]*[^\s,;:.]")  # learning rate = 0.1, 3.4 × 10⁻¹⁴
_NAME = r"(?!and\b|or\b|but\b|so\b|which\b|it\b)[\w:=+−-]+(?:\.\d+)?"
_NAMES = re.compile(rf"(?:{_NAME}, )+{_NAME} (?:and|or) (?:\w+ more|{_NAME})")
_QUANTITY = re.compile(r"[+−]?\d[\d.,]*(?: (?:%|points|decades))?")
_WORD = re.compile(r"¶|[^\W_]+(?:[’'./:_-][^\W_]+)*")


def sentences_of(text: str) -> list[str]:
    """The sentences of a paragraph."""
    return [each for each in re.split(r"(?<=[.!?])\s+", text) if each]


def count_words(sentence: str) -> int:
    """The words that a reader has to hold in mind.

    What stands in brackets counts as one word, because it can be skipped. So does a quantity with its unit, a setting (ρ = 0.5), and a
    list of single names (relu, sigmoid and tanh). Of a list behind a colon, with semicolons between its items, the longest item counts.
    """
    text = sentence
    while (shorter := _BRACKETS.sub(" ¶", text)) != text:
        text = shorter
    for pattern, word in ((_SETTING, "setting"), (_NAMES, "names"), (_QUANTITY, "quantity")):
        text = pattern.sub(word, text)
    head, colon, items = text.rpartition(": ") if "; " in text.rpartition(": ")[2] else ("", "", text)
    listed = items.split("; ") if colon else [items]
    return len(_WORD.findall(head)) + max(len(_WORD.findall(item)) for item in listed)
