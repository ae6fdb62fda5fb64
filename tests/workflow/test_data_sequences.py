"""What the rows of a user's file become: order, classes, ends, targets, and what is said of them before any job."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rnn_core as rc
import study
from study.data import intake, task_file
from study.data.messages import DataError
from study.data.task import FIELDS, Task, class_name, sequences_of
from study.files.writing import Misplaced

CLASSES: dict[str, Any] = {"sequence": "id", "inputs": ["a"], "targets": ["kind"], "loss": "softmax_cross_entropy", "loss_at": "last"}  # fmt: skip
VALUES = {**CLASSES, "targets": ["y"], "loss": "squared_error", "loss_at": "every"}


def frame(lengths: tuple[int, ...] = (3, 3, 3, 3, 3, 3)) -> pd.DataFrame:
    """Sequences of these lengths; the input says sequence and step, 2.1 is the second step of sequence 2."""
    ids = np.repeat(np.arange(len(lengths)), lengths)
    step = np.concatenate([np.arange(length) for length in lengths])
    return pd.DataFrame({"id": ids, "step": step, "a": ids + step / 10, "kind": ids % 2, "y": ids * 10.0 + step})


def read(folder: Path, data: pd.DataFrame, described: dict[str, Any] = CLASSES, **more: Any) -> Task:
    data.to_csv(folder / "mine.csv", index=False)
    return intake.read("mine", {**described, "file": "mine.csv", **more}, folder)


def refusal(folder: Path, data: pd.DataFrame, described: dict[str, Any] = CLASSES, **more: Any) -> str:
    with pytest.raises(DataError) as error:
        read(folder, data, described, **more)
    assert str(error.value).startswith("sequences.mine") and "\n" not in str(error.value)
    return str(error.value)


def said(task: Task, part: str) -> bool:
    return any(part in line for line in task.report)


def warned(task: Task, part: str) -> bool:
    assert all(line.startswith("sequences.mine") for line in task.warnings)
    return any(part in line for line in task.warnings)


# order


def test_rows_are_sorted_by_the_time_that_is_named(tmp_path: Path) -> None:
    mixed = frame().sample(frac=1.0, random_state=1)
    task = read(tmp_path, mixed, time="step")
    np.testing.assert_allclose(task.inputs[:, :, 0], frame()["a"].to_numpy().reshape(6, 3))
    assert task.names == list(range(6)) and task.classes == [0, 1] and task.targets.tolist() == [0, 1] * 3
    assert said(task, "steps in the order of 'step', sequences in the order of 'id'")


TIMES = {
    "fractions": [0.25, 0.5, 12.0],
    "large whole numbers": [2**60, 2**60 + 1, 2**60 + 2],  # float64 cannot tell them apart
    "text that sorts otherwise": ["2", "10", "100"],
    "dates": ["2023-12-31", "2024-01-01", "2024-01-02"],
    "dates with hours": ["2024-01-01 09:00", "2024-01-01 10:30:00", "2024-01-02T00:00:00.5"],
    "dates with a zone": ["2024-01-01T09:00:00Z", "2024-01-01T09:00:01Z", "2024-01-01T12:00:00+02:00"],
    "long ago": ["0800-12-25", "1600-01-01", "1600-01-02"],
}


@pytest.mark.parametrize("times", TIMES.values(), ids=TIMES)
def test_time_may_be_numbers_or_dates(tmp_path: Path, times: list[Any]) -> None:
    data = frame().assign(when=pd.Series(times * 6, dtype=object))
    task = read(tmp_path, data.iloc[::-1], time="when")
    np.testing.assert_allclose(task.inputs[:, :, 0], frame()["a"].to_numpy().reshape(6, 3))


TYPED = [
    pa.array([1, 2, 3] * 6, pa.uint64()),
    pa.array(np.array([1, 2, 3] * 6, dtype=np.float16)),
    pa.array(pd.to_datetime(["2024-01-01", "2024-01-02", "2024-03-01"] * 6)),
    pa.array(pd.to_datetime(["2024-01-01", "2024-01-02", "2024-03-01"] * 6)).cast(pa.date32()),
    pa.array(pd.to_datetime(["2024-01-01", "2024-01-02", "2024-03-01"] * 6)).cast(pa.date64()),
    pa.array(pd.to_timedelta([1, 2, 3] * 6, unit="s")),
    pa.array([1, 2, 3] * 6, pa.int32()).cast(pa.time32("s")),
    pa.array([1, 2, 3] * 6).cast(pa.decimal128(24, 3)),
]


@pytest.mark.parametrize("times", TYPED, ids=[str(column.type) for column in TYPED])
def test_time_may_be_of_any_type_that_has_an_order(tmp_path: Path, times: pa.Array) -> None:
    data = pa.Table.from_pandas(frame()).append_column("when", times)
    pq.write_table(data.take(pa.array(range(17, -1, -1))), tmp_path / "mine.parquet")
    task = intake.read("mine", {**CLASSES, "file": "mine.parquet", "time": "when"}, tmp_path)
    np.testing.assert_allclose(task.inputs[:, :, 0], frame()["a"].to_numpy().reshape(6, 3))


def test_steps_that_are_not_equally_long_are_reported(tmp_path: Path) -> None:
    assert not said(read(tmp_path, frame(), time="step"), "not equally long")
    task = read(tmp_path, frame().assign(when=["2024-01-01", "2024-01-02", "2024-01-09"] * 6), time="when")
    assert said(task, "steps of 'when' are not equally long: from 86400 s to 604800 s, median 345600 s")


BAD_TIMES = [
    (lambda d: d.assign(step=d["step"].replace(2, 1)), "two rows of sequence 0 the same time, data rows 2 and 3 (6 such pairs)"),
    (lambda d: d.assign(step=d["step"].where(d.index != 4)), "column 'step' is blank in data row 5"),
    (lambda d: d.assign(step=[*["31.12.2023", "1.1.2024", "2.1.2024"] * 6]), "holds '31.12.2023' in data row 1; write numbers, or dates as 2024-12-31"),
    (lambda d: d.assign(step=["one", "two", "three"] * 6), "holds 'one'"),
    (lambda d: d.assign(step=["1", "2", "three"] * 6), "holds 'three' in data row 3"),
    (lambda d: d.assign(step=[*["2024-01-01", "2024-01-02", "2024-01-03"] * 5, "2024-01-01", "foo", "2024-01-03"]), "holds 'foo' in data row 17"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), BAD_TIMES, ids=[m for _, m in BAD_TIMES])
def test_a_time_without_an_order_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    assert message in refusal(tmp_path, spoil(frame()), time="step")


def test_one_blank_cell_does_not_let_a_time_that_goes_back_pass(tmp_path: Path) -> None:
    """The rest of the column was not looked at, and the sequences were trained on in reverse."""
    backwards = frame().assign(time=[3.0, 2.0, 1.0] * 6)
    said = refusal(tmp_path, backwards.assign(time=backwards["time"].where(backwards.index != 4)))
    assert "column 'time' is blank in data row 5" in said and "add time: null to keep the file's order" in said


def study_on(file: str) -> dict[str, Any]:
    """A study on this file."""
    return {**config(), "sequences": {"mine": {**CLASSES, "file": file}}}


def test_one_name_for_two_different_files_is_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    frame().to_csv(tmp_path / "a" / "mine.csv", index=False)
    shutil.copy(tmp_path / "a" / "mine.csv", tmp_path / "b" / "mine.csv")
    study = study_on("mine.csv")
    assert not intake.inspect(study, [tmp_path / "a", tmp_path / "b"]).problems
    (tmp_path / "b" / "mine.csv").write_text((tmp_path / "a" / "mine.csv").read_text() + "\n")
    [said] = intake.inspect(study, [tmp_path / "a", tmp_path / "b"]).problems
    assert "'mine.csv' is two different files" in said


@pytest.mark.parametrize("file", ["x" * 300 + ".csv", "d\0.csv"])
def test_names_that_no_file_can_have_are_one_sentence(tmp_path: Path, file: str) -> None:
    [said] = intake.inspect(study_on(file), [tmp_path]).problems
    assert said.startswith("sequences.mine")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.csv")
    [said] = intake.inspect(study_on("mine.csv"), [tmp_path]).problems
    assert "this is a pipe or a device" in said


def test_sequences_in_another_tasks_place_are_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "one" / "sequences"
    folder.mkdir(parents=True)
    task_file.save_task(read(tmp_path, frame()), folder / "mine.npz", folder / "mine.txt", folder / "mine.json")
    assert task_file.load(folder / "mine.npz")
    for other in (folder / "other.npz", tmp_path / "results" / "two" / "sequences" / "mine.npz"):
        other.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "mine.npz", other)
        with pytest.raises(Misplaced, match="it was written as one/sequences/mine"):
            task_file.load(other)


@pytest.mark.parametrize("name", ["t", "year", "idx", "Time", "time_s", "timestamp (ms)", "STEP", "date", "step_index"])
def test_without_a_time_a_column_that_looks_like_it_must_agree(tmp_path: Path, name: str) -> None:
    backwards = frame().iloc[::-1].rename(columns={"step": name})
    message = refusal(tmp_path, backwards)
    assert f"column {name!r} looks like time and goes back from data row 1 to 2" in message
    assert f"time: {name} " in message and "time: null" in message
    task = read(tmp_path, backwards, time=None)
    assert task.inputs[0, :, 0].tolist() == [5.2, 5.1, 5.0] and task.names == [5, 4, 3, 2, 1, 0]
    assert said(read(tmp_path, frame().rename(columns={"step": name})), f"{name!r} looks like time and agrees")


@pytest.mark.parametrize("name", ["lifetime", "time of flight", "stepsize", "height", "candidate"])
def test_a_column_that_only_sounds_like_time_orders_nothing(tmp_path: Path, name: str) -> None:
    task = read(tmp_path, frame().iloc[::-1].rename(columns={"step": name}))
    assert task.inputs[0, :, 0].tolist() == [5.2, 5.1, 5.0]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_that_pandas_shuffled_are_noticed(tmp_path: Path, suffix: str) -> None:
    """A shuffled frame without a time column is read in its new order: sequences of steps that never followed each other."""
    ordered = frame()[["id", "a", "kind"]]
    shuffled = ordered.sample(frac=1, random_state=1).sort_values("id", kind="stable")
    index = {"csv": "", "parquet": "__index_level_0__"}[suffix]

    def taken(data: pd.DataFrame, **more: Any) -> Task:
        file = tmp_path / f"mine.{suffix}"
        if suffix == "csv":
            data.to_csv(file)
        else:
            data.to_parquet(file, index=True)
        return intake.read("mine", {**CLASSES, "file": file.name, **more}, tmp_path)

    with pytest.raises(DataError, match=r"the rows' own numbers and goes back .* may have been shuffled\. Add time: "):
        taken(shuffled)
    expected = taken(ordered.set_index(np.arange(10, 10 + len(ordered))))
    assert not warned(expected, "order") and not warned(expected, "shuffled")
    np.testing.assert_array_equal(taken(shuffled, time=index).inputs, expected.inputs)
    assert (taken(shuffled, time=None).inputs != expected.inputs).any()
    named = ordered.set_axis([f"row {n}" for n in range(len(ordered))])  # names of rows, which have no order
    np.testing.assert_array_equal(taken(named).inputs, expected.inputs)


def test_rows_of_a_sequence_that_lie_apart_are_told(tmp_path: Path) -> None:
    data = frame().drop(columns="step")
    assert not warned(read(tmp_path, data), "lie apart")
    again = pd.concat([data, data[data["id"] == 1]])
    assert warned(read(tmp_path, again), "rows of 1 sequence lie apart in the file, as of 1 in data rows 6 and 19")


def test_a_time_that_stands_still_is_told(tmp_path: Path) -> None:
    assert warned(
        read(tmp_path, frame().assign(step=[0, 1, 1] * 6)), "stands still 6 times, first in data rows 2 and 3"
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_however_rows_are_shuffled_time_puts_them_back(data: Any) -> None:
    """Random ragged frames: the file in order, and shuffled with ``time``, are the same sequences, and their digests are."""
    lengths = tuple(data.draw(st.lists(st.integers(1, 5), min_size=4, max_size=9)))
    every = data.draw(st.booleans())
    described = {**(VALUES if every else CLASSES), "file": "mine.csv", "time": "step"}
    rows = frame(lengths)
    shuffled = rows.iloc[data.draw(st.permutations(range(len(rows))))]
    with pytest.MonkeyPatch.context(), _folder() as folder:
        tasks = []
        for content in (rows, shuffled):
            content.to_csv(folder / "mine.csv", index=False)
            tasks.append(intake.read("mine", described, folder))
        plain, sorted_again = tasks
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(plain, name), getattr(sorted_again, name))
        assert sequences_of(plain).digest == sequences_of(sorted_again).digest
        for index, length in enumerate(lengths):
            np.testing.assert_allclose(plain.inputs[index, :length, 0], index + np.arange(length) / 10)
            assert not plain.inputs[index, length:].any()
            if every:
                np.testing.assert_allclose(plain.targets[index, :length, 0], index * 10 + np.arange(length))


def _folder() -> Any:
    import contextlib
    import tempfile

    @contextlib.contextmanager
    def folder() -> Any:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)

    return folder()


# classes

LABELS: list[tuple[str, list[Any], list[Any]]] = [
    ("names", ["cat", "dog", "cat", "dog", "ant", "ant"], ["ant", "cat", "dog"]),
    ("negative", [-1, 1, -1, 1, -1, 1], [-1, 1]),
    ("gaps", [30, 10, 20, 30, 10, 20], [10, 20, 30]),
    ("whole fractions", ["1.0", "2.0", "1.0", "2.0", "1.0", "2.0"], [1, 2]),
    ("booleans", ["True", "False", "true", "False", "True", "False"], [False, True]),
    ("codes with leading zeros", ["007", "008", "007", "008", "007", "008"], ["007", "008"]),
    ("numbers and names", ["1", "2", "x", "1", "2", "x"], ["1", "2", "x"]),
    ("blanks around", [" cat", " dog", " cat", " dog", " cat", " dog"], ["cat", "dog"]),
    ("a name that looks like missing", ["NA", "DE", "NA", "DE", "NA", "DE"], ["DE", "NA"]),
]


@pytest.mark.parametrize(("given_labels", "classes"), [case[1:] for case in LABELS], ids=[case[0] for case in LABELS])
def test_classes_may_have_any_names(tmp_path: Path, given_labels: list[Any], classes: list[Any]) -> None:
    data = frame()
    task = read(tmp_path, data.assign(kind=[given_labels[index] for index in data["id"]]))
    assert task.classes == classes and [type(name) for name in task.classes or []] == [type(name) for name in classes]
    written = [str(classes[label]).lower() for label in task.targets]
    assert written == [str(label).strip().lower().removesuffix(".0") for label in given_labels]
    assert said(task, f"{len(classes)} classes: {class_name(classes[0])} = 0 (")
    assert warned(task, "is taken as the name of a class") == ("NA" in classes)


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.float32(), pa.decimal128(22, 2), pa.bool_(), pa.dictionary(pa.int8(), pa.string()), pa.large_string()], ids=str)  # fmt: skip
def test_classes_may_be_of_any_type(tmp_path: Path, kind: pa.DataType) -> None:
    data = frame()
    values = [str(value) for value in data["kind"]] if pa.types.is_dictionary(kind) or pa.types.is_large_string(kind) else list(data["kind"])  # fmt: skip
    table = pa.Table.from_pandas(data).drop_columns("kind").append_column("kind", pa.array(values).cast(kind))
    pq.write_table(table, tmp_path / "mine.parquet")
    task = intake.read("mine", {**CLASSES, "file": "mine.parquet"}, tmp_path)
    assert task.targets.tolist() == [0, 1] * 3


def test_the_names_of_classes_are_kept_for_reports(tmp_path: Path) -> None:
    task = read(tmp_path, frame().assign(kind=lambda d: np.where(d["kind"] == 1, "dog", "cat")))
    task_file.save_task(task, tmp_path / "x.npz", tmp_path / "x.txt", tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text())["classes"] == ["cat", "dog"]
    assert np.load(tmp_path / "x.npz")["classes"].tolist() == ["cat", "dog"]
    assert "2 classes: cat = 0 (" in (tmp_path / "x.txt").read_text()
    assert rc.Sequences(**task_file.load(tmp_path / "x.npz")).output_size == 2


BAD_LABELS = [
    (lambda d: d.assign(kind=d["id"] + 0.5), "column 'kind' holds '0.5' in data rows", "loss: squared_error"),
    (lambda d: d.assign(kind=d["kind"].where(d["id"] != 2)), "column 'kind' is blank in data row 9", "needs its class; with loss_at: last the last row"),
    (lambda d: d.assign(kind=np.where(d["id"] == 2, "cat ", "cat")), "'cat' and 'cat ' differ only in how they are written", ""),
    (lambda d: d.assign(kind=np.where(d["id"] == 2, "1", np.where(d["id"] == 3, "01", "x"))), "'1' and '01' differ only", ""),
    (lambda d: d.assign(kind=d["kind"] * 1_700_000_000_000), "too many", "0 to 1700000000000 (2 different values in 6 targets)"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message", "more"), BAD_LABELS, ids=[m for _, m, _ in BAD_LABELS])
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, spoil: Any, message: str, more: str) -> None:
    text = refusal(tmp_path, spoil(frame()))
    assert message in text and more in text


@pytest.mark.parametrize(("classes", "sequences", "taken"), [(20, 20, True), (21, 21, False), (21, 42, False), (21, 43, True), (1000, 2001, True), (1001, 4000, False)])  # fmt: skip
def test_identifiers_as_classes_are_refused_with_the_counts(
    tmp_path: Path, classes: int, sequences: int, taken: bool
) -> None:
    data = frame((1,) * sequences).assign(kind=lambda d: d["id"] % classes)
    if taken:
        assert read(tmp_path, data).classes == list(range(classes))
    else:
        assert f"too many classes, {classes:,} in {sequences:,} targets" in refusal(tmp_path, data)


def test_steps_as_targets_may_have_more_classes_than_there_are_sequences(tmp_path: Path) -> None:
    data = frame((60,) * 4).assign(kind=lambda d: (d["step"] * 7 + d["id"]) % 30)
    assert len(read(tmp_path, data, loss_at="every").classes or []) == 30


def test_one_class_and_classes_without_sequences_are_told(tmp_path: Path) -> None:
    assert warned(read(tmp_path, frame().assign(kind="x")), "one class alone, x")
    rare = read(tmp_path, frame().assign(kind=lambda d: np.where(d["id"] == 1, "rare", "x")))
    side = "to train on" if rare.held_out[1] else "held out"
    assert warned(rare, f"no sequence that is {side} has the class 'rare'")


def test_words_as_numbers_to_predict_are_shown_the_other_loss(tmp_path: Path) -> None:
    message = refusal(tmp_path, frame().assign(y=lambda d: np.where(d.kind == 1, "cat", "dog")), VALUES)
    assert "holds 'dog'" in message and message.endswith("for names of classes choose loss: softmax_cross_entropy")


@pytest.mark.parametrize(("code", "rows", "told"), [(-999.0, 2, True), (1e20, 3, True), (-999.0, 1, False), (-999.5, 2, False), (7.0, 2, False)])  # fmt: skip
def test_a_code_for_missing_values_is_told(tmp_path: Path, code: float, rows: int, told: bool) -> None:
    """-999 for a missing value is read as a number, and every other input looks constant beside it."""
    for column, described in (("a", CLASSES), ("y", VALUES)):
        data = frame().assign(y=lambda d: d.a)
        data[column] = data[column].where(data.index >= rows, code)
        assert warned(read(tmp_path, data, described), "if it marks missing values") == told
    switch = frame().assign(a=lambda d: d.kind * 1000.0)  # two values are no code
    assert not warned(read(tmp_path, switch), "if it marks missing values")


def test_sequences_of_one_row_are_told(tmp_path: Path) -> None:
    """A file with one row a sequence, or `sequence` on a column of rows: no network has anything to remember."""
    task = read(tmp_path, frame().assign(id=lambda d: d.index))
    assert warned(task, "every sequence has one row, so there is nothing to remember")
    assert not warned(read(tmp_path, frame((1, 3, 3, 3, 1))), "one row")


def test_held_out_sequences_that_repeat_training_ones_are_told(tmp_path: Path) -> None:
    """The same recording under two names: the held-out loss is of data that was learnt by heart."""
    twice = pd.concat([frame(), frame().assign(id=lambda d: d.id + 6)])
    task = read(tmp_path, twice.drop(columns="step"))
    held_out, training = task.inputs[task.held_out], task.inputs[~task.held_out]
    repeated = sum(any((one == other).all() for other in training) for one in held_out)
    assert repeated and warned(
        task, f"{repeated} of {len(held_out)} held-out sequences repeat the inputs of a sequence to train on"
    )
    assert not warned(read(tmp_path, frame()), "repeat the inputs")


def test_several_columns_of_labels_are_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, frame(), targets=["kind", "y"])
    assert message.startswith("sequences.mine.targets: ") and "not 2 (kind, y)" in message


# ends and targets


def test_sequences_may_differ_in_length(tmp_path: Path) -> None:
    task = read(tmp_path, frame((3, 1, 4, 2, 2)))
    assert task.inputs.shape == (5, 4, 1) and task.ends.tolist() == [3, 1, 4, 2, 2]
    assert (
        task.mask is not None and task.mask.sum() == 5 and [int(row.argmax()) for row in task.mask] == [2, 0, 3, 1, 1]
    )
    assert task.inputs[1, :, 0].tolist() == [1.0, 0.0, 0.0, 0.0]
    assert said(task, "sequences have 1 to 4 steps, median 2; shorter ones end earlier")
    every = read(tmp_path, frame((3, 1, 4, 2, 2)), VALUES)
    assert every.mask is not None
    np.testing.assert_array_equal(every.mask, np.arange(4) < np.array([3, 1, 4, 2, 2])[:, None])


def test_only_the_last_row_needs_a_label_where_only_it_counts(tmp_path: Path) -> None:
    full = frame((3, 1, 4, 2, 2))
    last = full["id"] != full["id"].shift(-1)
    task, expected = read(tmp_path, full.assign(kind=full["kind"].where(last))), read(tmp_path, full)
    np.testing.assert_array_equal(task.targets, expected.targets)
    assert not said(task, "earlier rows hold others")
    other = read(tmp_path, full.assign(kind=full["kind"].where(last, 7)))
    np.testing.assert_array_equal(other.targets, expected.targets)
    assert said(other, "earlier rows hold others")


def test_a_mask_says_which_rows_carry_a_target(tmp_path: Path) -> None:
    data = frame((4, 4, 4, 4)).assign(has=[0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1])
    data["y"] = data["y"].where(data["has"] == 1)  # blank where there is none
    task = read(tmp_path, data, VALUES, mask="has")
    assert (
        task.mask is not None
        and task.mask.sum() == 8
        and task.ends.tolist() == [4, 1, 3, 4]
        and task.starts.tolist() == [2, 1, 3, 1]
    )
    assert task.targets[0, :, 0].tolist() == [0, 1, 0, 3] and task.targets[2, 2, 0] == 22
    assert not task.inputs[1, 1:].any(), "what comes after the last target is left out"
    assert said(task, "'has' marks 8 of 16 rows") and said(task, "4 rows after the last target")
    final = read(tmp_path, data, mask="has", **{**VALUES, "loss_at": "last"})
    assert final.targets[:, 0].tolist() == [3.0, 10.0, 22.0, 33.0] and final.ends.tolist() == [4, 1, 3, 4]


def test_a_mask_stays_with_its_rows(tmp_path: Path) -> None:
    data = frame((4, 4, 4, 4)).assign(has=[0, 1, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0, 1, 1, 1, 1])
    task = read(tmp_path, data, VALUES, mask="has", time="step")
    shuffled = read(tmp_path, data.sample(frac=1.0, random_state=3), VALUES, mask="has", time="step")
    np.testing.assert_array_equal(shuffled.mask, task.mask)
    np.testing.assert_array_equal(shuffled.targets, task.targets)


def test_a_mask_that_marks_every_row_changes_nothing(tmp_path: Path) -> None:
    task = read(tmp_path, frame().assign(has="true"), VALUES, mask="has")
    assert task.mask is None
    np.testing.assert_array_equal(task.targets, read(tmp_path, frame(), VALUES).targets)


BAD_TARGETS: list[tuple[str, dict[str, Any], Any, list[str]]] = [
    ("blank", {}, lambda d: d.assign(y=d["y"].where(d.index % 5 != 0)), ["column 'y' is blank in data rows 1, 6, 11 and 16 (4 missing", "mask:"]),
    ("masked, blank all the same", {"mask": "has"}, lambda d: d.assign(has=1, y=d["y"].where(d.index != 2)), ["is blank in data row 3 (1 missing"]),
    ("a mask of numbers", {"mask": "has"}, lambda d: d.assign(has=d["step"]), ["column 'has' holds '2' in data rows 3, 6", "1 or true"]),
    ("a mask with blanks", {"mask": "has"}, lambda d: d.assign(has=np.where(d.index == 3, None, 1)), ["column 'has' holds", "data row 4"]),
    ("no target in a sequence", {"mask": "has"}, lambda d: d.assign(has=(d["id"] != 4).astype(int)), ["marks no row of 1 sequence (4)"]),
]  # fmt: skip


@pytest.mark.parametrize(("more", "spoil", "parts"), [case[1:] for case in BAD_TARGETS], ids=[case[0] for case in BAD_TARGETS])  # fmt: skip
def test_missing_targets_are_named_with_their_rows(tmp_path: Path, more: dict[str, Any], spoil: Any, parts: list[str]) -> None:  # fmt: skip
    message = refusal(tmp_path, spoil(frame()), VALUES, **more)
    assert all(part in message for part in parts), message


def test_sequences_beyond_the_machines_memory_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from study.data import gathering

    monkeypatch.setattr(gathering, "memory_of_machine_mb", lambda: 4096 / 2**20)
    assert "the longest of 600 steps with 1 input, take" in refusal(tmp_path, frame((600, 1, 1, 1)))
    assert read(tmp_path, frame((60, 1, 1, 1))).ends.max() == 60


# identifiers and columns

BAD_IDS: list[tuple[str, Any, str]] = [
    ("blank", lambda d: d.assign(id=d["id"].where(d["id"] != 4)), "column 'id' is blank in data rows 13 to 15"),
    ("blanks", lambda d: d.assign(id=np.where(d["id"] == 4, "  ", d["id"].astype(str))), "is blank in data rows 13 to 15"),
    ("differ in blanks", lambda d: d.assign(id=np.where(d["id"] == 4, "3 ", d["id"].astype(str))), "identifiers '3' and '3 ' differ only in how they are written"),
    ("differ as numbers", lambda d: d.assign(id=np.where(d["id"] == 4, "3.0", np.where(d["id"] == 5, "x", d["id"].astype(str)))), "identifiers '3' and '3.0' differ only"),
    ("leading zeros", lambda d: d.assign(id=np.where(d["id"] == 4, "03", d["id"].astype(str))), "identifiers '3' and '03' differ only"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), [case[1:] for case in BAD_IDS], ids=[case[0] for case in BAD_IDS])
def test_identifiers_that_name_no_sequence_are_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    assert message in refusal(tmp_path, spoil(frame()))


def test_missing_identifiers_of_a_typed_column_are_refused(tmp_path: Path) -> None:
    for missing in (None, float("nan")):
        ids = [missing if value == 4 else float(value) for value in frame()["id"]]
        table = pa.Table.from_pandas(frame()).drop_columns("id").append_column("id", pa.array(ids, from_pandas=False))
        pq.write_table(table, tmp_path / "mine.parquet")
        with pytest.raises(DataError, match="'id' is blank in data rows 13 to 15"):
            intake.read("mine", {**CLASSES, "file": "mine.parquet"}, tmp_path)


def test_identifiers_that_differ_in_capitals_are_told(tmp_path: Path) -> None:
    names = np.array(["a", "A", "b", "c", "d", "e"])
    assert warned(read(tmp_path, frame().assign(id=lambda d: names[d["id"]])), "only their capitals differ")


def test_identifiers_in_text_are_sorted_as_numbers_where_they_are(tmp_path: Path) -> None:
    task = read(tmp_path, frame((1,) * 12).assign(id=lambda d: d["id"] + 0.0), time="step")
    assert task.inputs[:, 0, 0].tolist() == list(range(12))


DOUBLE = [
    ({"inputs": ["a", "id"]}, "sequences.mine.inputs: 'id' is the column of sequence: already"),
    ({"targets": ["id"]}, "sequences.mine.targets: 'id' is the column of sequence:"),
    ({"time": "id"}, "sequences.mine.time: 'id' is the column of sequence:"),
    ({"mask": "kind"}, "sequences.mine.targets: 'kind' is the column of mask:"),
    ({"mask": "step", "time": "step"}, "sequences.mine.time: 'step' is the column of mask:"),
]


@pytest.mark.parametrize(("more", "message"), DOUBLE, ids=[m for _, m in DOUBLE])
def test_a_column_that_cannot_be_both_is_refused(tmp_path: Path, more: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, frame(), **more)


def test_a_column_that_is_two_things_is_told(tmp_path: Path) -> None:
    assert warned(read(tmp_path, frame(), inputs=["a", "kind"]), "'kind' is an input and the target")
    assert warned(read(tmp_path, frame(), inputs=["a", "step"], time="step"), "'step' is time: and an input")


def test_what_is_not_used_is_told(tmp_path: Path) -> None:
    assert said(read(tmp_path, frame()), "not used: 'step' and 'y'")
    assert not said(read(tmp_path, frame()[["id", "a", "kind"]]), "not used")


def test_inputs_that_say_little_are_told(tmp_path: Path) -> None:
    assert not read(tmp_path, frame(), VALUES).warnings
    assert warned(read(tmp_path, frame().assign(a=0.5)), "input 'a' is 0.5 in every row")
    assert warned(read(tmp_path, frame().assign(a=lambda d: d["a"] * 1e7)), "Standardise it")
    assert warned(read(tmp_path, frame().assign(a=lambda d: d["a"] * 1e-9)), "Standardise it")


def test_the_report_says_what_the_data_are(tmp_path: Path) -> None:
    task = read(tmp_path, frame())
    digest = rc.Sequences(**{**task.arrays, "loss": task.loss, "loss_at": task.loss_at}).digest  # type: ignore[arg-type]
    for line in (
        "mine.csv: 18 rows, 6 sequences (column 'id')",
        "all sequences have 3 steps",
        "input 'a': min 0, mean 2.6, max 5.2, standard deviation",
        "held out: 1 of 6 sequences",
        f"digest of the data: {digest}",
    ):
        assert said(task, line), line


# before any job


def config(**grid: Any) -> dict[str, Any]:
    grid = {"task": "mine", "sequence_length": 3, "batch_size": 2, **grid}
    return {"sequences": {"mine": {**CLASSES, "file": "mine.csv"}}, "sweeps": {"one": {"seeds": 1, "grid": grid}}}


def inspected(folder: Path, data: pd.DataFrame, described: dict[str, Any] = CLASSES, **grid: Any) -> intake.Inspection:
    data.to_csv(folder / "mine.csv", index=False)
    study = config(**grid)
    study["sequences"]["mine"] = {**described, "file": "mine.csv"}
    return intake.inspect(study, [folder])


def test_a_study_that_fits_its_data_has_no_problems(tmp_path: Path) -> None:
    found = inspected(tmp_path, frame(), VALUES)
    assert found.problems == [] and found.warnings == [] and found.reports["mine"][0].startswith("mine.csv: 18 rows")


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"sequence_length": [2, 4, 50]}, "sweeps.one.grid.sequence_length: 4 is too long; the sequences of 'mine' have 1 to 3 steps"),
    ({"sequence_length": [2, 4, 50]}, "sweeps.one.grid.sequence_length: 50 is too long"),
    ({"batch_size": [2, 5, 6]}, "sweeps.one.grid.batch_size: 5 is too large; 'mine' has 4 sequences to train on (5, of which 1 are held out)"),
    ({"batch_size": [2, 5, 6]}, "sweeps.one.grid.batch_size: 6 is too large"),
    ({"input_size": [None, 2]}, "sweeps.one.grid.input_size: 2 does not fit; 'mine' has 1 input a step"),
    ({"loss_at": ["last", "every"]}, "sweeps.one.grid.loss_at: 'every' does not fit"),
]  # fmt: skip


@pytest.mark.parametrize(("grid", "message"), MISFITS, ids=[m for _, m in MISFITS])
def test_every_value_of_a_grid_that_does_not_fit_is_named(tmp_path: Path, grid: dict[str, Any], message: str) -> None:
    found = inspected(tmp_path, frame((3, 3, 3, 3, 1)), **grid)
    assert any(line.startswith(message) for line in found.problems), found.problems
    assert len(found.problems) == sum(len(found_by) for found_by in [{m for g, m in MISFITS if g == grid}])


def test_defaults_that_do_not_fit_are_named_as_such(tmp_path: Path) -> None:
    frame().to_csv(tmp_path / "mine.csv", index=False)
    study = config()
    del study["sweeps"]["one"]["grid"]["sequence_length"], study["sweeps"]["one"]["grid"]["batch_size"]
    found = intake.inspect(study, [tmp_path])
    assert any(
        "sequence_length: 100 (the default) is too long; the sequences of 'mine' have 3 steps" in line
        for line in found.problems
    )
    assert any("batch_size: 16 (the default) is too large" in line for line in found.problems)


def test_sequences_that_end_before_the_length_are_told(tmp_path: Path) -> None:
    found = inspected(tmp_path, frame((3, 3, 3, 2, 1)), sequence_length=[1, 2, 3])
    assert not found.problems
    assert any(
        "sequence_length: 3 is more than 2 of 5 sequences of 'mine' have; these end earlier" in line
        for line in found.warnings
    )
    assert any("sequence_length: 2 is more than 1 of 5" in line for line in found.warnings)


def test_a_length_that_cuts_off_all_targets_is_refused(tmp_path: Path) -> None:
    data = frame().assign(has=lambda d: (d["step"] >= np.where(d["id"] == 2, 2, 0)).astype(int))
    found = inspected(tmp_path, data, {**VALUES, "mask": "has"}, sequence_length=[2, 3])
    assert (
        [
            line
            for line in found.problems
            if "sequence_length: 2 cuts 1 sequence of 'mine' (2) before the first target" in line
        ]
        == found.problems
        != []
    )


def test_a_target_that_never_changes_is_told_and_refused_where_runs_train(tmp_path: Path) -> None:
    """Its best constant prediction is right: nothing can be learnt, and nothing is ever solved."""
    constant = frame().assign(y=3.0)
    untrained = inspected(tmp_path, constant, VALUES, updates=0)
    assert not untrained.problems
    assert [line for line in untrained.warnings if "target 'y' is 3 wherever it counts" in line]
    [said] = inspected(tmp_path, constant, VALUES, updates=[0, 5]).problems
    assert "task: 'mine' has the same target everywhere, 3, so there is nothing to train for" in said


def test_one_of_two_targets_may_be_constant(tmp_path: Path) -> None:
    found = inspected(tmp_path, frame().assign(z=3.0), {**VALUES, "targets": ["y", "z"]}, updates=5)
    assert not found.problems
    assert [line for line in found.warnings if "target 'z' is 3" in line]


def test_one_class_is_refused_where_runs_train(tmp_path: Path) -> None:
    alone = frame().assign(kind="x")
    assert not inspected(tmp_path, alone, updates=0).problems
    assert [
        "sweeps.one.grid.task: 'mine' has one class alone" in line
        for line in inspected(tmp_path, alone, updates=[0, 5]).problems
    ] == [True]


def test_values_beyond_float32_are_refused_where_runs_are_in_float32(tmp_path: Path) -> None:
    large = frame().assign(a=lambda d: d["a"] * 1e38)
    assert not inspected(tmp_path, large, dtype="float64").problems
    assert any(
        "dtype: 'float32' does not hold 5.2e+38" in line
        for line in inspected(tmp_path, large, dtype=["float64", "float32"]).problems
    )


def test_every_declared_file_is_inspected_and_each_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame().to_csv(tmp_path / "mine.csv", index=False)
    study = config()
    study["sequences"]["other"] = {**CLASSES, "file": "not there.csv"}
    study["sweeps"]["two"] = {
        "seeds": 1,
        "grid": {"task": ["mine", "white_noise"], "sequence_length": 9, "batch_size": 2},
    }
    opened: list[str] = []
    original = Path.open

    def counting(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self.name)
        return original(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", counting)
    found = intake.inspect(study, [tmp_path])
    assert len(found.problems) == 2
    assert found.problems[0].startswith("sequences.other (not there.csv): the file does not exist")
    assert found.problems[1].startswith("sweeps.two.grid.sequence_length: 9 is too long")
    assert opened.count("mine.csv") == 1


def test_inspecting_data_imports_neither_torch_nor_pandas(tmp_path: Path) -> None:
    """pyarrow looks for pandas, half a second, unless told not to; whoever else wants pandas gets it."""
    frame().to_csv(tmp_path / "mine.csv", index=False)
    root, scripts = Path(rc.__file__).parent.parent, Path(study.__file__).parent.parent
    script = "\n".join([
        f"import sys; sys.path[:0] = [{str(root)!r}, {str(scripts)!r}]",
        "from study.data import intake; from study.tables import store",
        f"with store.without_pandas(): found = intake.inspect({config()!r})",
        "assert found.reports, found",
        "print([name for name in ('torch', 'pandas', 'sklearn') if name in sys.modules])",
        "import pandas; print(pandas.DataFrame({'x': [1]}).shape)",
    ])  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split("\n")[:2] == ["[]", "(1, 1)"]


# what readers of the project reported

CASES = Path(__file__).parent / "cases"
REPORTED = {
    "f06_blank_ids.csv": "column 'id' is blank in data rows 25 to 30",
    "f08_label_is_an_id.csv": "as classes they are too many",
    "f09_d21_header_only.csv": "a header and no rows",
    "f09_d22_empty_file.csv": "the file is empty",
    "f09_d24_parquet_named_csv.csv": "it is a Parquet file",
    "f09_d33_utf16.csv": "encoding: utf-16",
    "f16_int64_nanoseconds.parquet": "",
    "f22_label_in_last_row_only.csv": "",
    "good.csv": "",
}


@pytest.mark.parametrize(("file", "problem"), REPORTED.items(), ids=REPORTED)
def test_files_that_failed_once(tmp_path: Path, file: str, problem: str) -> None:
    shutil.copy(CASES / file, tmp_path / file)
    study = config(sequence_length=5)
    study["sequences"]["mine"] |= {"file": file, "inputs": ["a", "b"]}
    found = intake.inspect(study, [tmp_path])
    if problem:
        assert len(found.problems) == 1 and problem in found.problems[0] and file in found.problems[0]
    else:
        assert found.problems == [] and any("2 classes: 0 = 0" in line for line in found.reports["mine"])


def test_a_study_longer_than_its_data_is_told_before_any_job(tmp_path: Path) -> None:
    shutil.copy(CASES / "good.csv", tmp_path / "mine.csv")
    found = intake.inspect(config(sequence_length=50), [tmp_path])
    assert found.problems == ["sweeps.one.grid.sequence_length: 50 is too long; the sequences of 'mine' have 6 steps"]


def test_a_header_that_is_one_long_quoted_cell_is_told_on_one_line(tmp_path: Path) -> None:
    """A quote that is never closed makes the whole file the name of its first column."""
    (tmp_path / "mine.csv").write_text('"id,step,a,kind\n0,0,1.0,1\n' + "0,1,2.0,1\n" * 50 + '",x\n1,2\n')
    [said] = intake.inspect(study_on("mine.csv"), [tmp_path]).problems
    assert "\n" not in said and "…, x" in said and len(said) < 300
