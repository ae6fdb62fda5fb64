"""The file of a user's own cell as the jobs read it: its text, sealed, with what the config says of the cell.

The user's file lies where Snakemake was started, and maybe nowhere else. So it is taken into the study's folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from study.files import seal
from study.files.writing import Misplaced, reading, written_aside
from study.own_cells.described import Described, variants


@dataclass(frozen=True)
class KeptCell:
    """A user's cell as a study keeps it.

    Attributes:
        name: what the config calls it.
        file: its file, as the config names it.
        class_name: the class in it.
        source: the text of the file.
        variants: by ``cell_options``, all options of the class.
        hidden: the part of the state that the readout reads; None is the first.
    """

    name: str
    file: str
    class_name: str
    source: str
    variants: Mapping[str | None, Mapping[str, Any]]
    hidden: str | None = None

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of text, class and the part that is read. An edited file makes other runs."""
        part = f"\0{self.hidden}" if self.hidden else ""
        return hashlib.sha256(f"{self.class_name}{part}\0{self.source}".encode()).hexdigest()[:16]


def take(name: str, described: Described, source: str | Path, target: str | Path) -> None:
    """Take the user's file ``source`` into the study."""
    with reading(source):
        text = Path(source).read_bytes().decode("utf-8-sig")
    fields = {"place": _place(target), "name": name, "described": dict(described), "source": text}
    content = json.dumps({"sealed": seal.BLANK.decode(), **fields}, indent=2, ensure_ascii=False) + "\n"
    with written_aside(target) as aside:
        aside.write_text(seal.sealed_text(content), encoding="utf-8")


def load(file: str | Path) -> KeptCell:
    """What ``take`` wrote.

    Raises:
        Damaged: the file is not what was written.
        Misplaced: it is another cell's, or another study's.
        FileTrouble: it cannot be read.
    """
    kept = json.loads(seal.check_text(file))
    if kept["place"] != _place(file):
        raise Misplaced(file, f"it was written as {kept['place']}")
    described = kept["described"]
    name, source, hidden = kept["name"], kept["source"], described.get("hidden")
    return KeptCell(name, described["file"], described["class"], source, variants(described), hidden)


def _place(file: str | Path) -> str:
    """Study and cell of ``results/STUDY/cells/CELL.json``, by its name."""
    return "/".join([*Path(file).parts[-3:-1], Path(file).stem])
