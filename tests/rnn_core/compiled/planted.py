"""A library of compiled steps with bugs in it, each asleep until it is woken by its number."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rnn_core import compiled
from rnn_core.compiled import build


def library(folder: Path, bugs: Mapping[str, tuple[str, str]]) -> ctypes.CDLL:
    """Built in ``folder``. Of each bug, by its name: source in which «these words» are wrong, and what is put in their place.

    The bug number n, from 1, is there while the library's ``planted`` is n.
    """
    left = set(bugs)
    for source in build.SOURCES:
        text = source.read_text()
        for number, (bug, (marked, wrong)) in enumerate(bugs.items(), start=1):
            before, right, after = marked.replace("«", "»").split("»")
            if before + right + after in text:
                chosen = f"(planted == {number} ? ({wrong}) : ({right}))"
                text = text.replace(before + right + after, before + chosen + after)
                left.discard(bug)
        declared = "int planted;\n" if source.name == "kernel.c" else ""
        (folder / source.name).write_text(declared + text)
    assert not left, f"nothing was planted: {sorted(left)}"
    file = folder / "planted.so"
    subprocess.run(["cc", *build.FLAGS, "-O1", "-o", str(file), str(folder / "kernel.c")], check=True)
    return ctypes.CDLL(str(file))


def waking(
    planted: ctypes.CDLL, bugs: Iterable[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], None]]:
    """For a fixture: the engine computes with ``planted``, and what is given wakes a bug by its name; an empty one wakes none."""
    numbers = {name: i for i, name in enumerate(("", *bugs))}
    number, ours = ctypes.c_int.in_dll(planted, "planted"), build.Library(planted, "a test's own")
    monkeypatch.setattr(compiled, "library", lambda: ours)
    yield lambda bug: setattr(number, "value", numbers[bug])
    number.value = 0


def fixtures(bugs: Mapping[str, tuple[str, str]]) -> tuple[Any, Any]:
    """For a module of tests: ``planted``, its library with all of these bugs, and ``wake`` (see ``waking``)."""

    @pytest.fixture(scope="module")
    def planted(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
        return library(tmp_path_factory.mktemp("planted"), bugs)

    @pytest.fixture
    def wake(planted: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
        yield from waking(planted, bugs, monkeypatch)

    return planted, wake
