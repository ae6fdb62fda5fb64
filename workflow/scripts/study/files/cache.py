"""Finished runs, one file a run. An interrupted or grown study computes only what is missing.

A run is known by its key (its settings and the sequences that it read) and by what made it: code, libraries, device. Snakemake deletes
the output of a job before it runs the job again. This folder is no job's output and is never deleted. It may be removed at any time.

A file begins with a checksum of the rest. Then come a line of JSON and the compressed bytes of all columns. The JSON holds the entry's
name, the run's row, and name, type and length of every column. The name exposes a file that was copied to another one's place. Writing
and reading take a tenth of a millisecond; a zip archive of arrays takes two.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from study.files.writing import written_aside

Columns = dict[str, np.ndarray]
SUFFIX = ".run"
_CODEC = pa.Codec("lz4")
_CHECKSUM = 4  # bytes


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
    checks: list[dict[str, Any]] | None = None
    timing: dict[str, Any] = field(default_factory=dict)


class Cache:
    """Entries in ``folder`` of one ``identity``: the digest of the code, libraries and device that made them."""

    def __init__(self, folder: str | Path, identity: str) -> None:
        self.folder = Path(folder) / identity

    def get(self, key: str) -> Entry | None:
        """The entry, or None. A damaged file, or one that holds another entry, counts as no file."""
        try:
            content = self._file(key).read_bytes()
        except OSError:
            return None
        return _unpacked(content, self._name(key))

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry, whole or not at all."""
        content = _packed(entry, self._name(key))
        with written_aside(self._file(key)) as aside:
            aside.write_bytes(content)

    def keys(self) -> set[str]:
        """The keys of all files, whether damaged or not: for a plan, not for a run."""
        return {file.stem for file in self.folder.glob(f"??/[!.]*{SUFFIX}")}

    def _file(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}{SUFFIX}"

    def _name(self, key: str) -> str:
        return f"{self.folder.name}/{key}"


def is_sound(file: Path) -> bool:
    """Whether a file of a cache is whole, and in its own place.

    Raises:
        OSError: it cannot be read.
    """
    return _unpacked(file.read_bytes(), f"{file.parent.parent.name}/{file.stem}") is not None


def _packed(entry: Entry, name: str) -> bytes:
    columns = [
        (table, name, np.ascontiguousarray(values))
        for table, columns_of_table in (("traces", entry.traces), ("updates", entry.updates))
        for name, values in columns_of_table.items()
    ]
    described = [(table, name, values.dtype.str, len(values)) for table, name, values in columns]
    header = {"name": name, "columns": described, "row": entry.row, "checks": entry.checks, "timing": entry.timing}
    blob = b"".join(values.tobytes() for _, _, values in columns)
    body = json.dumps(header).encode() + b"\n" + _CODEC.compress(blob, asbytes=True)
    return bytes(zlib.crc32(body).to_bytes(_CHECKSUM) + body)


def _unpacked(content: bytes, name: str) -> Entry | None:
    """The entry, if the content is whole and the entry has this name."""
    body = content[_CHECKSUM:]
    if not body or zlib.crc32(body) != int.from_bytes(content[:_CHECKSUM]):
        return None
    text, _, compressed = body.partition(b"\n")
    header = json.loads(text)
    if header.pop("name", None) != name:
        return None
    described = header.pop("columns")
    size = sum(np.dtype(kind).itemsize * length for *_, kind, length in described)
    blob = _CODEC.decompress(compressed, size, asbytes=True)
    tables: dict[str, Columns] = {"traces": {}, "updates": {}}
    start = 0
    for table, name, kind, length in described:
        tables[table][name] = np.frombuffer(blob, kind, length, start)
        start += tables[table][name].nbytes
    return Entry(tables["traces"], tables["updates"], **header)
