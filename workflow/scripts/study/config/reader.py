"""Reading a config file: its values, and the line of every key. What YAML does not understand is told in a sentence.

A config is data and cannot run code. Snakemake would execute a file that says ``__use_yte__``: such a file is refused
(``config_guard.py``). No YAML tag makes anything but plain values.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

MOST_ENTRIES = 200_000  # of a config; an alias that repeats aliases makes millions out of a few lines
CODE_KEYS = ("__use_yte__", "__definitions__", "__variables__")
_REREAD = re.compile(r"[-+]?0[0-9_]+|.*:.*")  # numbers that YAML takes as octal, or as minutes and seconds
KeyPath = tuple[Hashable, ...]


class ReadError(Exception):
    """Why a config file cannot be read, in a sentence that names the file and the line."""


class RunsCode(ReadError):
    """The config would run code."""


@dataclass(frozen=True)
class Document:
    """A config file as it was read.

    Attributes:
        file: its name as it was given.
        values: keys and values, plain Python.
        lines: path of a key or list entry -> its line, counted from 1.
    """

    file: str
    values: dict[str, Any]
    lines: dict[KeyPath, int]


def read(file: str | Path) -> Document:
    """The config in ``file``.

    Raises:
        ReadError: there is no such file; it is not text, not YAML, empty or no mapping; it names a key twice.
        RunsCode: it could run code.
    """
    name = _shown(file)
    text = _text(file, name)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ReadError(f"{name}{_place(error)} is not valid YAML: {_reason(error, text)}") from error
    except RecursionError as error:
        raise ReadError(f"{name} is nested too deeply to be a config") from error
    if node is None:
        raise ReadError(f"{name} is empty; a study needs study, title, question, device, gate, sweeps and figures")
    if not isinstance(node, yaml.MappingNode):
        raise ReadError(f"{name} holds no keys at its top level; a study is written as `key: value` lines")
    _require_plain(node, name)
    refused = [key for key, _ in node.value if key.value in CODE_KEYS]
    if refused:
        raise RunsCode(
            f"{name}, line {_line(refused[0])}: {refused[0].value} is not allowed; a config cannot run code. "
            "Remove it if you trust the rest of the file"
        )
    twice = list(_twice(node, ()))
    if twice:
        raise ReadError("\n".join(f"{name}, {each}" for each in twice))
    loader = yaml.SafeLoader("")
    try:
        values = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ReadError(f"{name}{_place(error)} is not allowed: {_reason(error, text)}") from error
    except ValueError as error:  # of what looks like a date and is none
        raise ReadError(
            f"{name} holds a value that looks like a date and is none ({error}); put it in quotes"
        ) from error
    return Document(name, values, {(): 1, **dict(_lines(node, ()))})


def _shown(file: str | Path) -> str:
    """The name of ``file`` from here, where it lies below here."""
    path = Path(file)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _text(file: str | Path, name: str) -> str:
    try:
        return Path(file).read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise ReadError(f"The config file {name} does not exist{_meant_instead(Path(file))}") from error
    except UnicodeDecodeError as error:
        raise ReadError(
            f"{name} is not UTF-8 text (byte {error.start + 1}); save it as UTF-8 in your editor, and try again"
        ) from error
    except OSError as error:
        raise ReadError(f"The config file {name} cannot be read: {error.strerror}") from error


def _meant_instead(file: Path) -> str:
    """What may have been meant by the name of a file that is not there."""
    if not file.suffix:
        return ". A target stands before --configfile, which takes every word behind it"
    others = [entry.name for entry in file.parent.iterdir() if entry.is_file()] if file.parent.is_dir() else []
    near = get_close_matches(file.name, others, n=1)
    return f". Did you mean {near[0]!r}?" if near else ""


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""


def _reason(error: yaml.YAMLError, text: str) -> str:
    """PyYAML's words, and the most frequent cause."""
    problem, mark = getattr(error, "problem", None) or str(error), getattr(error, "problem_mark", None)
    lines = text.splitlines()
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f"{problem}. The line begins with a tab; indent with spaces"
    if "mapping values are not allowed" in problem:
        return f"{problem}. A value that holds a colon needs quotes, and keys of one mapping need the same indentation"
    if "could not determine a constructor" in problem:
        return f"{problem}. A config holds plain values only"
    return f"{problem}. Look at this line and the one before: `{line.strip()}`" if line.strip() else problem


def _require_plain(root: yaml.Node, name: str) -> None:
    """Refuse what YAML allows and a config does not need: keys that are lists, aliases without end, 010 for 8.

    Raises:
        ReadError: the config has one of these.
    """
    entries, open_nodes = 0, [(root, frozenset({id(root)}))]
    while open_nodes:
        node, around = open_nodes.pop()
        if isinstance(node, yaml.MappingNode):
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise ReadError(f"{name}, line {_line(key)}: a key must be a word, not a list or a mapping")
        number = isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float"))
        if number and _REREAD.fullmatch(node.value):
            raise ReadError(
                f"{name}, line {_line(node)}: YAML reads {node.value} as {yaml.safe_load(node.value)}; write the number that you mean"
            )
        for _, child in _children(node):
            entries += 1
            if id(child) in around or entries > MOST_ENTRIES:
                raise ReadError(
                    f"{name}, line {_line(child)}: aliases (*) repeat each other without end; write the values"
                )
            open_nodes.append((child, around | {id(child)}))


def _twice(node: yaml.Node, path: KeyPath) -> Iterator[str]:
    """A sentence for every key that one mapping holds twice. YAML would keep the last of them."""
    for key, value in _children(node):
        yield from _twice(value, (*path, key))
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, _ in node.value:
            if key.value in first and key.value != "<<":
                where = ".".join(map(str, (*path, key.value)))
                yield f"lines {first[key.value]} and {_line(key)}: {where} stands there twice; keep one, or rename one"
            first.setdefault(key.value, _line(key))


def _children(node: yaml.Node) -> Iterator[tuple[Hashable, yaml.Node]]:
    """(key or index, node) of what a mapping or list holds."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key.value, value
    elif isinstance(node, yaml.SequenceNode):
        yield from enumerate(node.value)


def _lines(node: yaml.Node, path: KeyPath) -> Iterator[tuple[KeyPath, int]]:
    """The line of every key and list entry below ``node``. A key's line counts, not that of its value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*path, key.value), _line(key)
            yield from _lines(value, (*path, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*path, index), _line(value)
            yield from _lines(value, (*path, index))


def line_of(document: Document, path: KeyPath) -> int | None:
    """The line of a key, or of the nearest key around it that has one; None if there is none in the file."""
    for length in range(len(path), 0, -1):
        if path[:length] in document.lines:
            return document.lines[path[:length]]
    return None
