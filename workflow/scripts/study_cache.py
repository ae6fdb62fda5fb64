"""Finished runs, kept one file a run, so that an interrupted or grown study computes only what is missing.

A run is found again by its key, the sequences it read and what made it: code, libraries, device. Snakemake deletes the output of a
job before it runs it again; this folder is nobody's output and is never deleted. It may be removed at any time.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from study_files import written_aside

Columns = dict[str, np.ndarray]


@dataclass(frozen=True)
class Entry:
    """What one run measured.

    Attributes:
        traces, updates: columns.
        row: the run's own columns of ``runs``.
        checks: one dict a comparison with an oracle; None if the run was not verified.
        timing: its columns of ``timings``.
    """

    traces: Columns
    updates: Columns
    row: dict[str, Any]
    checks: list[dict[str, Any]] | None
    timing: dict[str, Any] = field(default_factory=dict)


class Cache:
    """Entries in ``folder`` that were made by the same code, libraries and device, whose digest ``identity`` is."""

    def __init__(self, folder: str | Path, identity: str) -> None:
        self.folder = Path(folder) / identity

    def get(self, key: str) -> Entry | None:
        """The entry, or None if there is none that can be read: a damaged file is as good as no file."""
        try:
            with np.load(self._file(key), allow_pickle=False) as stored:
                traces, updates = (
                    {name.partition("/")[2]: stored[name] for name in stored.files if name.startswith(table)}
                    for table in ("traces/", "updates/")
                )
                return Entry(traces, updates, **json.loads(str(stored["json"])))
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry, whole or not at all."""
        arrays = {f"traces/{name}": values for name, values in entry.traces.items()}
        arrays |= {f"updates/{name}": values for name, values in entry.updates.items()}
        text = json.dumps({"row": entry.row, "checks": entry.checks, "timing": entry.timing})
        with written_aside(self._file(key)) as aside:
            np.savez(aside, json=np.array(text), **arrays)  # type: ignore[arg-type]

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.npz"


def data_digest(file: str | Path) -> str:
    """16 hexadecimal digits of a file's content, to tell runs on other sequences apart."""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16]
