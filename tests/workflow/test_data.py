"""Sequences from files: the digits, a user's own Parquet or CSV, and what is said about a file that does not fit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import read_sequences
import rnn_core as rc
from study.data import intake, task_file
from study.data.messages import DataError

DESCRIBED: dict[str, Any] = {
    "sequence": "id",
    "inputs": ["a", "b"],
    "targets": ["y"],
    "loss": "squared_error",
    "loss_at": "every",
    "held_out": 0.25,
}


def frame(N: int = 8, T: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = {"id": np.repeat(np.arange(N), T), "step": np.tile(np.arange(T), N)}
    return pd.DataFrame(rows | {name: rng.standard_normal(N * T) for name in ("a", "b", "y")})


def write(data: pd.DataFrame, folder: Path, suffix: str) -> dict[str, Any]:
    file = folder / f"mine.{suffix}"
    data.to_csv(file, index=False) if suffix == "csv" else data.to_parquet(file)
    return {**DESCRIBED, "file": str(file)}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_users_file_becomes_sequences(tmp_path: Path, suffix: str) -> None:
    data = frame()
    arrays = intake.from_file("mine", write(data, tmp_path, suffix))
    task_file.save(arrays, tmp_path / "mine.npz")
    sequences = rc.Sequences(**task_file.load(tmp_path / "mine.npz"))
    assert sequences.inputs.shape == (8, 5, 2)
    np.testing.assert_allclose(sequences.inputs[3, :, 1], data[data["id"] == 3]["b"], rtol=1e-15)
    np.testing.assert_allclose(sequences.targets[3, :, 0], data[data["id"] == 3]["y"], rtol=1e-15)
    assert sequences.held_out.sum() == 2


def test_rows_may_come_in_any_order_of_sequences(tmp_path: Path) -> None:
    data = frame()
    mixed = data.sort_values(["step", "id"], kind="stable")  # sequences interleaved, time in order
    expected = intake.from_file("mine", write(data, tmp_path, "csv"))
    found = intake.from_file("mine", write(mixed, tmp_path, "csv"))
    np.testing.assert_array_equal(found["inputs"], expected["inputs"])


def test_labels_at_the_last_step(tmp_path: Path) -> None:
    data = frame().assign(y=lambda d: d["id"] % 3)
    described = write(data, tmp_path, "csv") | {"loss": "softmax_cross_entropy", "loss_at": "last"}
    sequences = rc.Sequences(**{k: v if k not in ("loss", "loss_at") else str(v) for k, v in intake.from_file("mine", described).items()})  # type: ignore[arg-type]  # fmt: skip
    assert sequences.targets.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert sequences.output_size == 3


MISFITS = [
    (lambda d: d.drop(columns="b").rename(columns={"y": "yy"}), "no column 'b'"),
    (lambda d: d.rename(columns={"step": "bb"}).drop(columns="b"), "Did you mean 'bb'"),
    (lambda d: d.assign(a="word"), "must hold numbers"),
    (lambda d: d.assign(a=d["a"].where(d.index != 3)), "is blank in data row 4"),
    (lambda d: d.assign(b=np.where(d.index == 0, np.inf, d["b"])), "non-finite"),
    (lambda d: d[d["id"] == 0], "leaves none on one side"),
]


@pytest.mark.parametrize(("spoil", "message"), MISFITS, ids=[m for _, m in MISFITS])
def test_a_file_that_does_not_fit_is_named_with_the_reason(tmp_path: Path, spoil: Any, message: str) -> None:
    with pytest.raises(DataError, match="mine") as error:
        intake.from_file("mine", write(spoil(frame()), tmp_path, "parquet"))
    assert message in str(error.value)


def test_digits_are_read_pixel_by_pixel_and_split_once() -> None:
    from sklearn.datasets import load_digits

    arrays = intake.digits()
    images = load_digits()
    assert arrays["inputs"].shape == (1797, 64, 1)
    np.testing.assert_array_equal(arrays["inputs"][5, :, 0], images.images[5].ravel() / 16)
    np.testing.assert_array_equal(arrays["targets"], images.target)
    assert arrays["held_out"].sum() == 359
    assert set(arrays["targets"][arrays["held_out"]]) == set(range(10))
    np.testing.assert_array_equal(arrays["held_out"], intake.digits()["held_out"])


def test_packaged_data_need_no_folder(tmp_path: Path) -> None:
    """Every study of the digits, the default one too, stopped at its first job: they have no folder, and None is no path."""
    endings = {"arrays": "npz", "report": "txt", "facts": "json"}
    files = {kind: str(tmp_path / f"digits.{ending}") for kind, ending in endings.items()}
    job = SimpleNamespace(
        wildcards=SimpleNamespace(task="digits"), params=SimpleNamespace(described=None, folder=None), output=files
    )
    read_sequences.main(job)
    np.testing.assert_array_equal(task_file.load(files["arrays"])["inputs"], intake.digits()["inputs"])
