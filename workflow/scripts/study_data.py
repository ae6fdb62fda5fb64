"""Reading sequences from files: scikit-learn's digits and a user's own Parquet or CSV file, checked and split."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from difflib import get_close_matches
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

from study_files import Damaged, FileTrouble, reading, written_aside

HELD_OUT_FRACTION = 0.2
Arrays = dict[str, np.ndarray]


class DataError(Exception):
    """What is wrong with a file of sequences."""


def digits() -> Arrays:
    """The 1797 handwritten digits of scikit-learn, one pixel a step in reading order: T = 64, D = 1, values 0 … 1.

    Source: E. Alpaydin & C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
    """
    from sklearn.datasets import load_digits

    images = load_digits()
    inputs = images.images.reshape(len(images.images), 64, 1) / 16.0
    return _finish(inputs, images.target.astype(np.int64), "softmax_cross_entropy", "last", HELD_OUT_FRACTION)


def from_file(name: str, described: Mapping[str, Any], root: Path = Path()) -> Arrays:
    """Sequences as the config's ``sequences`` section describes them: a tidy file, one row a time step.

    Raises:
        DataError: a column is missing or not a number, sequences differ in length, or values are not finite.
    """
    file = root / described["file"]
    rows = pq.read_table(file) if file.suffix == ".parquet" else csv.read_csv(file)
    where = f"sequences.{name} ({described['file']})"
    wanted = [described["sequence"], *described["inputs"], *described["targets"]]
    for column in wanted:
        if column not in rows.column_names:
            near = get_close_matches(column, rows.column_names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise DataError(f"{where}: no column {column!r}; the file has {', '.join(rows.column_names)}.{hint}")
    identifiers = rows[described["sequence"]].to_pylist()
    names = list(dict.fromkeys(identifiers))
    index = {identifier: number for number, identifier in enumerate(names)}
    of_row = np.array([index[identifier] for identifier in identifiers])
    order = np.argsort(of_row, kind="stable")  # within a sequence, rows keep the file's order: time
    lengths = np.bincount(of_row)
    if lengths.min() != lengths.max():
        short, long = names[int(lengths.argmin())], names[int(lengths.argmax())]
        raise DataError(
            f"{where}: sequence {short!r} has {lengths.min()} rows and {long!r} has {lengths.max()}; all must be equally long"
        )
    shape = (len(names), int(lengths[0]), -1)
    inputs = np.stack([_numbers(rows, c, where) for c in described["inputs"]], axis=1)[order].reshape(shape)
    targets = np.stack([_numbers(rows, c, where) for c in described["targets"]], axis=1)[order].reshape(shape)
    if described["loss_at"] == "last":
        targets = targets[:, -1]
    if described["loss"] == "softmax_cross_entropy":
        targets = _labels(targets[..., 0], where)
    return _finish(
        inputs, targets, described["loss"], described["loss_at"], described.get("held_out", HELD_OUT_FRACTION), name
    )


def _numbers(rows: pa.Table, column: str, where: str) -> np.ndarray:
    try:
        values = rows[column].cast(pa.float64()).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{where}: column {column!r} is of type {rows[column].type}; it must hold numbers") from error
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise DataError(
            f"{where}: column {column!r} has {bad.size} missing or non-finite values, the first in row {bad[0] + 1}"
        )
    return np.asarray(values)


def _labels(values: np.ndarray, where: str) -> np.ndarray:
    if (values != np.rint(values)).any() or values.min() < 0:
        raise DataError(f"{where}: the target of softmax_cross_entropy must be class labels 0, 1, 2, …")
    return values.astype(np.int64)


def _finish(
    inputs: np.ndarray, targets: np.ndarray, loss: str, loss_at: str, fraction: float, name: str = "digits"
) -> Arrays:
    """Hold out a fraction, drawn once for the data set, so that every run of every seed has the same split."""
    N = len(inputs)
    rng = np.random.default_rng(zlib.crc32(b"held_out"))
    held_out = np.zeros(N, dtype=bool)
    held_out[rng.permutation(N)[: round(fraction * N)]] = True
    if not 0 < held_out.sum() < N:
        raise DataError(f"sequences.{name}: holding out {fraction:g} of {N} sequences leaves none on one side")
    return {
        "inputs": inputs,
        "targets": targets,
        "held_out": held_out,
        "loss": np.array(loss),
        "loss_at": np.array(loss_at),
    }


def save(arrays: Arrays, file: str | Path) -> None:
    """Write aside and rename."""
    with written_aside(file) as aside:
        np.savez_compressed(aside, **arrays)  # type: ignore[arg-type]


def load(file: str | Path) -> dict[str, Any]:
    """The fields of ``rnn_core.Sequences``.

    Raises:
        Damaged: the file is not what was written; every array in it has its checksum.
        FileTrouble: it cannot be read.
    """
    try:
        with reading(file):
            content = BytesIO(Path(file).read_bytes())  # what goes wrong from here on is the content's fault
        with zipfile.ZipFile(content) as archive:
            if (member := archive.testzip()) is not None:  # before a damaged header asks for all memory
                raise Damaged(file, f"the array {member} is not what was written")
        content.seek(0)
        with np.load(content, allow_pickle=False) as stored:
            arrays = dict(stored)
        return {**arrays, "loss": str(arrays["loss"]), "loss_at": str(arrays["loss_at"])}
    except (FileTrouble, MemoryError):
        raise
    except Exception as error:  # whatever a damaged archive makes of zipfile, zlib and NumPy's header: a dozen types
        raise Damaged(file, str(error) or type(error).__name__) from error
