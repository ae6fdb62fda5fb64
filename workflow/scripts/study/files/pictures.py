"""A figure's files: its pictures, and its facts. The facts hold the digests of the pictures, and have a seal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from study.files import seal
from study.files.writing import Misplaced, written_aside

KINDS = {"png": "png", "svg": "svg", "phone": "phone.svg"}  # kind of picture -> what its file's name ends in

Facts = dict[str, Any]


def write_facts(file: str | Path, facts: Mapping[str, Any]) -> None:
    """Write facts with a seal. They must have ``study``, ``figure`` and ``pictures`` (kind -> digest)."""
    sealed = {"sealed": seal.BLANK.decode(), **facts}
    text = seal.sealed_text(json.dumps(sealed, ensure_ascii=False, indent=1) + "\n")
    with written_aside(file) as aside:
        aside.write_text(text, encoding="utf-8")


def facts_of(file: str | Path, study: str, figure: str) -> Facts:
    """The facts of a figure, from their file.

    Raises:
        Damaged: the file is not what was written.
        Misplaced: it belongs to another figure or study.
        FileTrouble: it cannot be read.
    """
    facts: Facts = json.loads(seal.check_text(file))
    for name, expected in (("study", study), ("figure", figure)):
        if facts[name] != expected:
            raise Misplaced(file, f"it is of the {name} {facts[name]!r}, not {expected!r}")
    return facts
