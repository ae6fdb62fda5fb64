"""Reading a study's tables for its figures: only the columns and rows that are asked for, of files that are whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from rnn_core.experiment import SEPARATOR
from study.files.writing import reading
from study.report import measures
from study.report.findings import Study
from study.settings import described_axes
from study.tables import store
from study.tables.columns import THEORY

MOST_UPDATES = 300
MOST_ROWS = 500_000  # of a large table, in memory at once
Filter = list[tuple[str, str, Any]] | list[list[tuple[str, str, Any]]]  # all of these; or any of such lists


@dataclass(frozen=True)
class Tables:
    """The study's tables by name; only the columns and rows asked for are read, of files that are whole."""

    files: Mapping[str, str | Path]
    own: Mapping[str, Any] = field(default_factory=dict)  # what every table's footer says of itself
    checked: set[str] = field(default_factory=set)

    def read(self, table: str, columns: Sequence[str], where: Filter | None = None) -> pd.DataFrame:
        with reading(self.files[table]):
            return pq.read_table(self.whole(table), columns=list(columns), filters=where).to_pandas()

    def whole(self, table: str) -> str | Path:
        """The file of a table, checked before it is first read."""
        if table not in self.checked:
            store.require(self.files[table], table=table, **self.own)
            self.checked.add(table)
        return self.files[table]

    def pieces(
        self, table: str, columns: Sequence[str], where: pc.Expression, most: int = MOST_ROWS
    ) -> Iterator[pd.DataFrame]:
        """The rows that ``where`` picks, about ``most`` at a time, for what would not fit into memory at once."""
        held: list[pa.RecordBatch] = []
        scan = {"use_threads": False, "batch_readahead": 1, "fragment_readahead": 1}
        for batch in self._batches(table, columns=list(columns), filter=where, **scan):
            held.append(batch)
            if sum(each.num_rows for each in held) >= most:
                yield pa.Table.from_batches(held).to_pandas()
                held = []
        if any(batch.num_rows for batch in held):
            yield pa.Table.from_batches(held).to_pandas()

    def _batches(self, table: str, **scan: Any) -> Iterator[pa.RecordBatch]:
        with reading(self.files[table]):
            yield from ds.dataset(self.whole(table), format="parquet").to_batches(**scan)

    def runs(self, *measured: str) -> pd.DataFrame:
        """All settings and the measured columns asked for, each run once even if two sweeps share it."""
        return self.runs_of_sweeps(*measured).drop_duplicates("run_key")

    def runs_of_sweeps(self, *measured: str) -> pd.DataFrame:
        """The same, with a row for every sweep that a run is of."""
        columns = ["sweep", "run_key", *described_axes(), *measured]
        runs = measures.flags_as_numbers(self.read("runs", columns))
        return variants_as_cells(runs).drop_duplicates(["sweep", "run_key"])

    @cached_property
    def study(self) -> Study:
        """What the page says of these runs, for sentences."""
        with reading(self.files["runs"]):
            return Study(variants_as_cells(pd.read_parquet(self.whole("runs"))), sampled=THEORY in self.files)


def with_other_losses(tables: Tables, runs: pd.DataFrame) -> set[str]:
    """Runs on sequences of a file of which some end before the last step, so that another step has a loss, too."""
    keys = pa.array(runs.loc[runs["data"].notna(), "run_key"], pa.string())
    if not len(keys):
        return set()
    wanted = (pc.field("update") == 0) & (pc.field("lag") > 0) & pc.field("run_key").isin(keys)
    has_loss = wanted & (pc.field("log10_immediate_norm") > -math.inf)
    return {key for piece in tables.pieces("traces", ["run_key"], has_loss) for key in piece["run_key"]}


def variants_as_cells(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, with every variant of a user's own cell as a cell of its own, as a config names it: mamba:state_size=4.

    On the page it is compared as cells are. Options that vary in one cell say nothing of another.
    """
    known = runs["cell_options"].notna()
    if not known.any():
        return runs
    named = runs["cell"].astype(str) + SEPARATOR + runs["cell_options"].astype(str)
    return runs.assign(cell=runs["cell"].where(~known, named), cell_options=None)


def updates_of(tables: Tables, runs: pd.DataFrame, columns: Sequence[str], most: int = MOST_UPDATES) -> pd.DataFrame:
    """These columns of the runs' updates, sorted; of long trainings ``most`` evenly spread, and every breakdown.

    Of so many runs that these would be more than ``MOST_ROWS``, fewer updates, but eight at least.
    """
    last = int(runs["updates"].max()) - 1
    most = max(8, min(most, MOST_ROWS // len(runs)))
    evenly = np.linspace(0, last, min(last + 1, most)).round().astype(int)
    spread = np.unique(
        [evenly // every * every for every in runs["record_every"].unique()]
    ).tolist()  # rows that are there
    ours = ("run_key", "in", set(runs["run_key"]))
    rows = tables.read(
        "updates", ["run_key", "update", *columns], [[ours, ("update", "in", spread)], [ours, ("finite", "==", False)]]
    )
    return rows.drop_duplicates(["run_key", "update"]).sort_values(["run_key", "update"], ignore_index=True)
