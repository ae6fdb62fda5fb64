"""Whether a table is the one that belongs in its place. Its footer must say so.

The seal shows that a file is whole. A whole file may still have been copied, restored or written over another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from study import plan
from study.files.writing import Damaged
from study.tables import store

Plan = Mapping[str, Any]


def require(file: str | Path, config: Plan) -> None:
    """Refuse a table of the study, of a block or of a verification that is not whole, or is not in its place.

    Raises:
        Damaged: its content is not what was written.
        Misplaced: it was written for another place.
        FileTrouble: it cannot be read.
    """
    require_all([file], config)


def require_all(files: Iterable[str | Path], config: Plan) -> None:
    """As ``require``, for many files. The study is planned once, and all bad files are told at once."""
    blocks = plan.blocks(config)
    groups = plan.verification_jobs(blocks)
    bad: list[Damaged] = []
    for file in files:
        try:
            store.require(file, **_expected_footer(Path(file), config, blocks, groups))
        except Damaged as damaged:
            bad.append(damaged)
    if bad:
        bad[0].others = bad[1:]
        raise bad[0]


def _expected_footer(
    file: Path,
    config: Plan,
    blocks: Mapping[tuple[str, str], plan.Block],
    groups: Mapping[tuple[str, str], list[plan.Block]],
) -> dict[str, Any]:
    """What the footer of the table in this place must say."""
    kind, *name = file.parts[-4:-1] if file.parts[-2] not in ("tables", "checks") else file.parts[-2:-1]
    if kind == "tables":
        return {"table": file.stem, "study": config["study"]}
    if kind == "checks":
        return {"table": "checks", "sweeps": config["sweeps"]}
    if kind == "blocks":
        return {"table": file.stem, "block": asdict(blocks[name[0], name[1]])}
    return {"table": file.stem, "blocks": [asdict(block) for block in groups[name[0], name[1]]]}
