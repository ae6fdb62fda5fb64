"""What stands where a study needs a folder: a file of that name, or a link that leads nowhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

FOLDERS = ("blocks", "cache", "cells", "checks", "figures", "logs", "sampled", "sequences", "tables", "verified")


def in_the_way(study: str | Path) -> str:
    """A sentence on the first thing that stands where a folder of the study belongs; empty if nothing does.

    Args:
        study: the study's folder, ``results/STUDY``.
    """
    for folder in _needed(Path(study)):
        if os.path.lexists(folder) and not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir fails behind a closed door
            what = "a link that leads nowhere" if folder.is_symlink() and not folder.exists() else "a file"
            return f"{folder} is {what}, and the study needs a folder of that name. Move it away, then run the same command again"
    return ""


def _needed(study: Path) -> Iterator[Path]:
    yield Path(".snakemake")
    yield from [*reversed(study.parents)][1:]
    yield study
    yield from (study / name for name in FOLDERS)
