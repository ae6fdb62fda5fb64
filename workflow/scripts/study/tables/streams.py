"""Tables of any size in bounded memory: a block's, written run by run; a study's, gathered from its blocks range by range.

Rows are sorted by sweep, run key, update and t. A block is written in the order of its run keys. Its row groups end where the first
digit of the key changes. So gathering can read a range of keys alone. Keys are digests and spread evenly: a range of keys is a share of
the rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from study.files.writing import reading, writing
from study.tables import store
from study.tables.columns import schema_of
from study.tables.store import sealed

ROWS_IN_GROUP = 4096  # at least, of a block; small enough to be skipped, large enough to compress
ROWS_AT_ONCE = 500_000  # that gathering holds, about 75 MB of traces
BLOCK_TABLES = ("traces", "updates", "runs", "timings")  # written by a block; sorted by sweep and run key
_BY_RUN = (*BLOCK_TABLES, "layers", "spectra")


class TableWriter:
    """A block's table, given run by run in the order of the run keys. Memory holds the runs of one row group."""

    def __init__(self, table: str, sweep: str, parquet: pq.ParquetWriter, target: str | Path) -> None:
        self.table, self.sweep, self._parquet, self._target = table, sweep, parquet, target
        self._last = ""
        self._clear()

    def _clear(self) -> None:
        self._keys: list[str] = []
        self._lengths: list[int] = []
        self._parts: dict[str, list[Any]] = defaultdict(list)

    def add(self, run_key: str, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> None:
        """One run's rows, equally long columns.

        Raises:
            ValueError: the run comes before one that is already written.
        """
        if run_key < self._last:
            raise ValueError(f"run {run_key} comes after {self._last}; runs are written in the order of their keys")
        if run_key[:1] != self._last[:1] and sum(self._lengths) >= ROWS_IN_GROUP:
            self.flush()
        self._last = run_key
        self._keys.append(run_key)
        self._lengths.append(len(next(iter(columns.values()))))
        for name, values in columns.items():
            self._parts[name].append(values)

    def flush(self) -> None:
        """Write the runs that are held."""
        if self._keys:
            rows = store.unsorted(self.table, {**self._names(), **_joined(self._parts)})
            with writing(self._target):
                self._parquet.write_table(rows)
            self._clear()

    def _names(self) -> dict[str, pa.Array]:
        runs = np.repeat(np.arange(len(self._keys), dtype=np.int32), self._lengths)
        named = {"sweep": [self.sweep] * len(self._keys), "run_key": self._keys}
        return {name: pa.array(values, pa.string()).take(pa.array(runs)) for name, values in named.items()}


def _joined(columns: Mapping[str, list[Any]]) -> dict[str, Any]:
    return {
        name: np.concatenate(values) if isinstance(values[0], np.ndarray) else [v for part in values for v in part]
        for name, values in columns.items()
    }


class BlockWriter:
    """All tables of one block. They take their places together when all are whole. After an error none does."""

    def __init__(self, sweep: str, files: Mapping[str, str | Path], provenance: Mapping[str, Any]) -> None:
        self._sweep, self._files, self._provenance = sweep, files, provenance
        self._stack = ExitStack()
        self.tables: dict[str, TableWriter] = {}

    def __enter__(self) -> BlockWriter:
        with ExitStack() as stack:  # which takes the files away if one of them cannot be opened
            asides = {table: stack.enter_context(sealed(file)) for table, file in self._files.items()}
            for table, aside in asides.items():  # after all of those, so that all are closed before one takes its place
                footer = {**self._provenance, "table": table}
                stack.enter_context(writing(self._files[table]))  # else an error would be the last file's
                parquet = stack.enter_context(store.writer(aside, schema_of(table), footer))
                self.tables[table] = TableWriter(table, self._sweep, parquet, self._files[table])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:  # which takes the files away if closing fails, as it does on a full disk
            if error is not None:
                raise error
            for table in self.tables.values():
                table.flush()


Change = Callable[[pa.Table], pa.Table]


def gather(
    table: str,
    files: Iterable[str | Path],
    target: str | Path,
    provenance: Mapping[str, Any],
    change: Change = lambda rows: rows,
) -> None:
    """All blocks of a table as one, sorted. ``change`` may alter each piece before it is written."""
    pieces = _ranges(files, table) if table in _BY_RUN else [_whole(files, table)]
    fields = schema_of(table)
    footer = {**provenance, "table": table}
    with sealed(target) as aside, store.writer(aside, fields, footer) as parquet:
        for rows in pieces:
            if rows.num_rows:
                parquet.write_table(change(rows), row_group_size=ROWS_AT_ONCE // 8)


def _whole(files: Iterable[str | Path], table: str) -> pa.Table:
    tables = []
    for file in files:
        with reading(file):
            tables.append(pq.read_table(file, schema=schema_of(table)))
    return store.sort(table, pa.concat_tables(tables)) if tables else schema_of(table).empty_table()


def _ranges(files: Iterable[str | Path], table: str) -> Iterator[pa.Table]:
    """The rows of one sweep after the other, in ranges of run keys."""
    from pyarrow.dataset import dataset as dataset_of  # not for those that only write: 0.1 s

    by_sweep: dict[str, list[str]] = defaultdict(list)
    rows: dict[str, int] = defaultdict(int)
    for file in files:
        for sweep, count in _sweeps(file):
            by_sweep[sweep].append(str(file))
            rows[sweep] += count
    for sweep in sorted(by_sweep):
        dataset = dataset_of(by_sweep[sweep], schema=schema_of(table), format="parquet")
        for inside in _shares(rows[sweep]):
            rows_wanted = inside & (pc.field("sweep") == sweep)
            with reading(f"One of the {len(by_sweep[sweep])} tables of {table}"):  # Arrow does not say which
                in_range = dataset.to_table(
                    filter=rows_wanted, use_threads=False, fragment_readahead=1, batch_readahead=1
                )
            yield _by_run(in_range)


def _sweeps(file: str | Path) -> list[tuple[str, int]]:
    """(sweep, rows) of a file, from its footer alone. A block has one sweep."""
    with reading(file):
        metadata = pq.read_metadata(file)
    rows: dict[str, int] = defaultdict(int)
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if group.num_rows:
            rows[group.column(0).statistics.min] += group.num_rows
    return list(rows.items())


def _shares(rows: int) -> list[pc.Expression]:
    """Ranges of run keys with about equally many rows. Their number is a power of two, so they end at digits."""
    count, key = 1, pc.field("run_key")
    while rows > count * ROWS_AT_ONCE and count < 256:
        count *= 2
    starts = [f"{256 * index // count:02x}" for index in range(count)]
    return [
        (key >= start) & (key < end)
        for start, end in zip(starts, [*starts[1:], "g"], strict=True)  # g comes after every hexadecimal digit
    ]


def _by_run(rows: pa.Table) -> pa.Table:
    """Rows sorted by run key. Within a run they are in order already: one block holds it, update by update."""
    keys = rows["run_key"].combine_chunks().dictionary_encode()
    names = keys.dictionary.to_numpy(zero_copy_only=False)
    place = np.empty(len(names), dtype=np.int32)
    place[np.argsort(names)] = np.arange(len(names), dtype=np.int32)
    return rows.take(pa.array(np.argsort(place[keys.indices.to_numpy()], kind="stable")))
