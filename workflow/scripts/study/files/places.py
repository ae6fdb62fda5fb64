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
from study.sampling import verification_jobs
from study.tables import store
from study.wide import sampling_jobs

Plan = Mapping[str, Any]


def require(file: str | Path, config: Plan) -> None:
    """Refuse a table of the study, of a block, a verification or a sampling that is not whole, or is not in its place.

    Raises:
        Damaged: its content is not what was written.
        Misplaced: it was written for another place.
        FileTrouble: it cannot be read.
    """
    require_all([file], config)


def require_all(files: Iterable[str | Path], config: Plan) -> None:
    """As ``require``, for many files. The study is planned once, and all bad files are told at once."""
    blocks = plan.blocks(config)
    groups, samplings = verification_jobs(blocks, config), sampling_jobs(config)
    bad: list[Damaged] = []
    for file in files:
        try:
            store.require(file, **_expected_footer(Path(file), config, blocks, groups, samplings))
        except Damaged as damaged:
            bad.append(damaged)
    if bad:
        bad[0].others = bad[1:]
        raise bad[0]


def _expected_footer(
    file: Path,
    config: Plan,
    blocks: Mapping[tuple[str, str], plan.Block],
    groups: Mapping[str, list[plan.Block]],
    samplings: Mapping[str, list[plan.Settings]],
) -> dict[str, Any]:
    """What the footer of the table in this place must say."""
    above, folder = file.parts[-3:-1]
    if folder == "tables":
        return {"table": file.stem, "study": config["study"]}
    if folder == "checks":
        return {"table": "checks", "sweeps": config["sweeps"]}
    if above == "verified" and folder in groups:  # no block has such a name
        return {"table": file.stem, "blocks": [asdict(block) for block in groups[folder]]}
    if above == "sampled" and folder in samplings:
        return {"table": file.stem, "settings": samplings[folder]}
    return {"table": file.stem, "block": asdict(blocks[above, folder])}
