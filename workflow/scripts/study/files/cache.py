"""Finished runs, kept as soon as they are ready. An interrupted or grown study computes only what is missing.

A run is known by its key (its settings and the sequences that it read) and by what made it: code, libraries, device. Snakemake deletes
the output of a job before it runs the job again. This folder is no job's output and is never deleted. It may be removed at any time.

A job writes its runs together, once a second: a kill loses the last second. At its end it makes one file of them. A file begins with an
index, which says how long each entry is, and the index's checksum. An entry begins with a checksum of the rest. Then come a line of JSON
and the compressed bytes of all columns. The JSON holds the entry's name, the run's row, and name, type and length of every column. The
name exposes an entry that was copied to another one's place. Writing and reading take a tenth of a millisecond; a zip archive of arrays
takes two, and a file for each run a fifth.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
import zlib
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from study.files import writing
from study.files.writing import FileTrouble, reading, written_aside

Columns = dict[str, np.ndarray]
SUFFIX = ".runs"
EVERY = 1.0  # seconds between two writings: as much is lost if the job is killed
MOST_BYTES = 2**24  # that wait to be written, and of a file that is made of several
_CODEC = pa.Codec("lz4")
_CHECKSUM = _LENGTH = 4  # bytes


@dataclass(frozen=True)
class Entry:
    """What one run measured.

    Attributes:
        traces, updates: columns.
        row: the run's own columns of ``runs``.
        checks: one dict a comparison with an oracle; None if the run was not verified.
        timing: its columns of ``timings``.
        layers: columns; none of a run with a single layer.
    """

    traces: Columns
    updates: Columns
    row: dict[str, Any]
    checks: list[dict[str, Any]] | None = None
    timing: dict[str, Any] = field(default_factory=dict)
    layers: Columns = field(default_factory=dict)


class Place(NamedTuple):
    """Where an entry lies: bytes of a file."""

    file: Path
    start: int
    length: int

    def read(self) -> bytes:
        with open(self.file, "rb", buffering=0) as opened:  # noqa: PTH123 - once a run, and Path.open takes twice as long
            opened.seek(self.start)
            return opened.read(self.length)


class Cache:
    """Entries in ``folder`` of one ``identity``: the digest of the code, libraries and device that made them.

    Args:
        own: where below it the files of this job go. Entries of all jobs are found.
    """

    def __init__(self, folder: str | Path, identity: str, own: str = "runs") -> None:
        self.folder, self.own = Path(folder) / identity, own
        self._waiting: dict[str, bytes] = {}
        self._bytes = self._recent_bytes = 0
        self._recent: dict[str, Entry] = {}  # so that they need not be read again, as far as memory should hold them
        self._parts: list[Path] = []
        self._places: dict[str, list[Place]] | None = None
        self._written = time.monotonic()

    def look_for(self, keys: Container[str] | None = None) -> None:
        """Find out where entries lie: those of ``keys``, or all. Files that others write later are not seen."""
        self._places = {}
        for file in sorted(self.folder.rglob(f"[!.]*{SUFFIX}")):
            with suppress(OSError):
                self._remember(file, keys)

    def _remember(self, file: Path, keys: Container[str] | None = None) -> None:
        assert self._places is not None
        for key, place in _index(file).items():
            if keys is None or key in keys:
                self._places.setdefault(key, []).insert(0, place)  # the newest first: older ones may be gone

    def get(self, key: str) -> Entry | None:
        """The entry, or None. A damaged one, or one that is another run's, counts as none."""
        if key in self._recent:
            return self._recent[key]
        if key in self._waiting:
            return _unpacked(self._waiting[key], self._name(key))
        if self._places is None:
            self.look_for()
        for place in (self._places or {}).get(key, ()):
            with suppress(OSError):
                if (entry := _unpacked(place.read(), self._name(key))) is not None:
                    return entry
        return None

    def put(self, key: str, entry: Entry) -> None:
        """Store an entry, with those of the same second: a file of its own costs more than the rest of keeping a run."""
        self._waiting[key] = _packed(entry, self._name(key))
        self._bytes += len(self._waiting[key])
        self._recent_bytes += len(self._waiting[key])
        if self._recent_bytes <= MOST_BYTES:
            self._recent[key] = entry
        if time.monotonic() - self._written >= EVERY or self._bytes >= MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write the entries that wait, whole or not at all."""
        if self._waiting:
            name = f"part-{writing.place()}-{os.getpid()}-{secrets.token_hex(4)}"  # no other job's
            self._parts.append(self._write(self._waiting, name))
            self._waiting, self._bytes = {}, 0
        self._written = time.monotonic()

    @contextmanager
    def joined(self) -> Iterator[None]:
        """What is put within it is written at its end, after an error too; the error that came first is the one that is told."""
        try:
            yield
        except BaseException:
            with suppress(FileTrouble, OSError):
                self.join()
            raise
        self.join()

    def join(self) -> None:
        """Write what waits, and make one file of all that this job has written: every later job looks into each file.

        If that would be more than memory should hold, the files stay apart; so large ones are few.
        """
        if self._bytes + sum(part.stat().st_size for part in self._parts) > MOST_BYTES:
            self.flush()
            return
        if not (self._waiting or self._parts):
            return
        entries: dict[str, bytes] = {}
        for part in self._parts:
            with reading(part):
                content, places = part.read_bytes(), _index(part)
            entries |= {key: content[p.start : p.start + p.length] for key, p in places.items()}
        entries |= self._waiting
        self._write(entries, hashlib.sha256("".join(sorted(entries)).encode()).hexdigest()[:16])
        for part in self._parts:
            part.unlink(missing_ok=True)
        self._waiting, self._bytes, self._parts = {}, 0, []

    def _write(self, entries: Mapping[str, bytes], name: str) -> Path:
        index = json.dumps({key: len(content) for key, content in entries.items()}).encode()
        head = zlib.crc32(index).to_bytes(_CHECKSUM) + len(index).to_bytes(_LENGTH)
        file = self.folder / self.own / f"{name}{SUFFIX}"
        with written_aside(file) as aside, aside.open("wb") as opened:
            opened.write(head + index)
            opened.writelines(entries.values())
        if self._places is not None:
            self._remember(file)
        return file

    def keys(self) -> set[str]:
        """The keys of all entries, whether damaged or not: for a plan, not for a run."""
        self.look_for()
        return {*(self._places or {}), *self._waiting}

    def _name(self, key: str) -> str:
        return f"{self.folder.name}/{key}"


def _index(file: Path) -> dict[str, Place]:
    """Where the entries of a file lie; nothing if its index is damaged.

    Raises:
        OSError: it cannot be read.
    """
    with file.open("rb") as opened:
        head = opened.read(_CHECKSUM + _LENGTH)
        index = opened.read(int.from_bytes(head[_CHECKSUM:]))
    if len(head) < _CHECKSUM + _LENGTH or zlib.crc32(index) != int.from_bytes(head[:_CHECKSUM]):
        return {}
    places, start = {}, len(head) + len(index)
    for key, length in json.loads(index).items():
        places[key] = Place(file, start, length)
        start += length
    return places


def is_sound(file: Path) -> bool:
    """Whether a file of a cache is whole, and each of its entries of the identity in whose folder it lies.

    Raises:
        OSError: it cannot be read.
    """
    content, places = file.read_bytes(), _index(file)
    ends = [p.start + p.length for p in places.values()]
    return (
        bool(ends)
        and ends[-1] == len(content)
        and all(
            _unpacked(content[p.start : p.start + p.length], f"{file.parents[2].name}/{key}") is not None
            for key, p in places.items()
        )
    )


def _packed(entry: Entry, name: str) -> bytes:
    columns = [
        (table, name, np.ascontiguousarray(values))
        for table, columns_of_table in (("traces", entry.traces), ("updates", entry.updates), ("layers", entry.layers))
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
    tables: dict[str, Columns] = {"traces": {}, "updates": {}, "layers": {}}
    start = 0
    for table, name, kind, length in described:
        tables[table][name] = np.frombuffer(blob, kind, length, start)
        start += tables[table][name].nbytes
    return Entry(tables["traces"], tables["updates"], layers=tables["layers"], **header)
