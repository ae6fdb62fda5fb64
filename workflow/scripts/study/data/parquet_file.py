"""Reading a user's Parquet file."""

from __future__ import annotations

import os
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from study.data.messages import DataError
from study.data.table import HEAD, Table, Wanted, first_line, kind_of, one_array, require_distinct, require_rows


def read_parquet(stream: BinaryIO, where: str, wanted: Wanted) -> Table:
    head = stream.read(HEAD)
    if not head:
        raise DataError(f"{where}: the file is empty (0 bytes)")
    if not head.startswith(b"PAR1"):
        kind, remedy = kind_of(head) or ("no Parquet file", "if it is text, rename it so that it ends in .csv")
        raise DataError(f"{where}: the name ends in .parquet, but the file is {kind}; {remedy}")
    stream.seek(-4, os.SEEK_END)
    if stream.read() != b"PAR1":
        raise DataError(f"{where}: the Parquet file is cut short or damaged; write it again")
    stream.seek(0)
    try:
        parquet = pq.ParquetFile(stream)
        names = list(parquet.schema_arrow.names)
        require_distinct(names, where)
        chosen = wanted(names)
        rows = parquet.read(columns=chosen)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{where}: the Parquet file is damaged ({first_line(error)}); write it again") from error
    columns = {name: one_array(rows[name]) for name in chosen}
    require_rows(rows.num_rows, where)
    return Table(where, names, columns, rows.num_rows)
