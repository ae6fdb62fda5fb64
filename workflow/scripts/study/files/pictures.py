"""A figure's files: its pictures, and its facts. The facts hold the digests of the pictures, and have a seal.

One job draws all figures, and Snakemake deletes the files of all before it runs. So each is kept once more, and a figure whose code and
tables are still the same is not drawn again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from study.files import seal
from study.files.writing import FileTrouble, Misplaced, reading, written_aside

KINDS = {"png": "png", "svg": "svg", "phone": "phone.svg"}  # kind of picture -> what its file's name ends in

Facts = dict[str, Any]


def files(folder: Path, figure: str) -> dict[str, Path]:
    """Kind -> file of a figure in the results' folder of figures."""
    return {
        **{kind: folder / f"{figure}.{suffix}" for kind, suffix in KINDS.items()},
        "facts": folder / f"{figure}.json",
    }


def kept_files(folder: Path) -> dict[str, Path]:
    """Kind -> file of a figure that is kept in a folder of its own."""
    return {kind: folder / kind for kind in (*KINDS, "facts")}


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


def made_from(code: str, tables: Iterable[str | Path]) -> str:
    """The digest of what decides a figure: its code's digest and the seals of the tables."""
    return hashlib.sha256("|".join([code, *map(seal.seal_of, tables)]).encode()).hexdigest()[:16]


def keep(folder: Path, files: Mapping[str, str | Path]) -> None:
    """Keep a copy of a figure's files (kind -> file), the facts last."""
    for kind, kept in kept_files(folder).items():
        with reading(files[kind]):
            content = Path(files[kind]).read_bytes()
        _write(kept, content)


def restored(folder: Path, files: Mapping[str, str | Path], study: str, figure: str, made_from: str) -> bool:
    """Put the kept files in their places, if they are whole and were made from the same; whether they were."""
    kept = kept_files(folder)
    try:
        facts = facts_of(kept["facts"], study, figure)
        if facts["made_from"] != made_from:
            return False
        contents = {kind: seal.check_content(kept[kind], facts["pictures"][kind]) for kind in KINDS}
        with reading(kept["facts"]):
            contents["facts"] = kept["facts"].read_bytes()
    except FileTrouble:  # none is kept, or it cannot be used
        return False
    for kind, content in contents.items():
        _write(files[kind], content)
    return True


def _write(file: str | Path, content: bytes) -> None:
    with written_aside(file) as aside:
        aside.write_bytes(content)
