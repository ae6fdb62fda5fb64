"""The tasks of the literature: what is shown, what is asked, what a network without memory gets, and which answers are wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import chi2

import rnn_core as rc
from rnn_core.losses import NO_LABEL, commonest_missed
from rnn_core.tasks import Task
from rnn_core.tasks.sequences import DIGITS_MISSED

MANY = 4000


def task(name: str, T: int, size: int = MANY, seed: int = 0) -> Task:
    return rc.prepare(rc.Experiment(task=name, sequence_length=T, batch_size=size, hidden_size=2, seed=seed)).task


def evenly(counts: np.ndarray) -> bool:
    """Whether equally likely places were hit this often, at one in a million."""
    expected = counts.sum() / len(counts)
    return bool(((counts - expected) ** 2 / expected).sum() < chi2.isf(1e-6, len(counts) - 1))


# ---- baselines: R23 ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "T", "value"),
    [
        ("adding", 50, 1 / 12),
        ("multiplication", 50, 7 / 144 / 2),
        ("copy_memory", 100, 0.1732867951),
        ("copy_memory", 500, 0.0399892604),
        ("temporal_order", 50, 1.386294361),
        ("temporal_order_3", 50, 2.079441542),
    ],
)
def test_the_baseline_is_the_published_one(name: str, T: int, value: float) -> None:
    """``solved`` is measured by another number than the literature's."""
    assert task(name, T).baseline == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize(
    ("name", "D", "value"), [("input_mean", 10, 0.05), ("input_mean", 4, 0.125), ("white_noise", 8, None)]
)
def test_a_longer_sequence_of_the_same_question_has_the_same_baseline(
    name: str, D: int, value: float | None, loss_at: str
) -> None:
    """That of the sequences drawn has noise, so the page called two lengths tasks of unequal difficulty."""
    baselines = [rc.GENERATED[name](seed, T, 4, D, loss_at).baseline for T in (5, 20, 80) for seed in (0, 1)]
    assert baselines[:2] * 3 == pytest.approx(baselines, rel=1e-9)
    if value is not None:
        assert baselines == [value] * 6


@pytest.mark.parametrize("name", ["adding", "multiplication", "temporal_order", "temporal_order_3", "copy_memory"])
def test_no_guess_without_memory_is_wrong_less_often_than_the_baseline(name: str) -> None:
    """A success that guessing has is called one, or the warning of it is of another task than the one that is drawn."""
    drawn = task(name, 20, size=30_000)
    target = drawn.batch(0).target
    if drawn.loss == "squared_error":
        errors = [drawn.wrong(np.full_like(target, guess), target).mean() for guess in np.linspace(0.0, 2.0, 201)]
    else:
        shape = (*target.shape, drawn.output_size)
        errors = [
            drawn.wrong(np.broadcast_to(np.eye(shape[-1])[label], shape), target).mean() for label in range(shape[-1])
        ]
    assert min(errors) == pytest.approx(drawn.baseline_error, abs=0.01)


def test_the_best_guess_of_labels_is_the_commonest() -> None:
    """Steps without a label count, or one right label of several makes a sequence right."""
    assert commonest_missed(np.array([0, 1, 1, 1])) == 0.25
    assert commonest_missed(np.array([[1, 1, NO_LABEL], [1, 0, NO_LABEL], [NO_LABEL, 1, 1]])) == pytest.approx(1 / 3)
    for name in ("digits", "permuted_digits"):
        data = rc.tasks.PACKAGED[name]()
        posed = rc.prepare(rc.Experiment(task=name, sequence_length=64, batch_size=2, hidden_size=2), data).task
        assert posed.baseline_error == DIGITS_MISSED
    assert math.isnan(task("white_noise", 20, size=2).baseline_error)


@pytest.mark.parametrize("name", ["adding", "multiplication", "temporal_order", "temporal_order_3", "copy_memory"])
def test_the_baseline_is_what_a_guess_gets_that_knows_only_the_step(name: str) -> None:
    """The formula is of another task than the one that is drawn: the best guess a step, fitted to many sequences, has another loss."""
    drawn = task(name, 20, size=30_000)
    target = drawn.batch(0).target
    by_step = target if drawn.loss_at == "every" else target[None]
    if drawn.loss == "squared_error":
        loss, accuracy = 0.5 * by_step.var(), math.nan
    else:
        frequency = np.stack([(by_step == label).mean(axis=1) for label in range(drawn.output_size)], axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            loss = float(np.nansum(-frequency * np.log(frequency)) / len(by_step))
        accuracy = float(frequency.mean(axis=0).max())  # of one class at every step, as the page says
    assert loss == pytest.approx(drawn.baseline, rel=0.05)
    assert accuracy == pytest.approx(drawn.baseline_accuracy, rel=0.05, nan_ok=True)


# ---- what is shown and asked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "answer"), [("adding", np.add), ("multiplication", np.multiply)])
@pytest.mark.parametrize("T", [4, 20, 21])
def test_one_number_of_each_half_is_marked_and_they_are_what_is_asked_for(name: str, answer: Any, T: int) -> None:
    """Marks stand in one half, at a favourite step, or beside other numbers than the target's."""
    x, target = task(name, T).batch(3)
    marks, half = x[..., 1], T // 2
    assert set(np.unique(marks)) == {0.0, 1.0}
    np.testing.assert_array_equal([marks[:half].sum(axis=0), marks[half:].sum(axis=0)], np.ones((2, MANY)))
    assert evenly(marks[:half].sum(axis=1)) or half == 1
    assert evenly(marks[half:].sum(axis=1)) or T - half == 1
    first, second = (x[..., 0][part][marks[part] == 1] for part in (slice(half), slice(half, T)))
    of_first, of_second = (np.argmax(marks[part], axis=0) for part in (slice(half), slice(half, T)))
    first, second = x[of_first, range(MANY), 0], x[half + of_second, range(MANY), 0]
    np.testing.assert_array_equal(target[:, 0], answer(first, second))
    assert x[..., 0].min() >= 0.0 and x[..., 0].max() < 1.0 and x[..., 0].mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("T", [1, 7])
def test_copy_memory_asks_for_what_was_shown_so_many_steps_ago(T: int) -> None:
    """The lag is not ``sequence_length``, the go comes too early, or symbols are asked for in another order."""
    x, target = task("copy_memory", T).batch(0)
    assert x.shape == (T + 20, MANY, 10) and target.shape == (T + 20, MANY)
    shown = x.argmax(axis=-1)
    np.testing.assert_array_equal(x.sum(axis=-1), 1.0)
    assert (shown[:10] < 8).all() and (shown[10 : T + 9] == 8).all() and (shown[T + 9] == 9).all()
    assert (shown[T + 10 :] == 8).all() and (target[: T + 10] == 8).all()
    for t in range(10):
        np.testing.assert_array_equal(target[t + T + 10], shown[t])
    assert evenly(np.bincount(shown[:10].ravel(), minlength=8))


@pytest.mark.parametrize(
    ("name", "places"), [("temporal_order", [(10, 20), (50, 60)]), ("temporal_order_3", [(10, 20), (30, 40), (60, 70)])]
)
def test_temporal_order_asks_for_symbols_in_their_tenths(name: str, places: list[tuple[int, int]]) -> None:
    """Symbols stand elsewhere than in Pascanu's code, a class is rarer, or the target does not say which came first."""
    x, target = task(name, 100).batch(1)
    shown = x.argmax(axis=-1)
    np.testing.assert_array_equal(x.sum(axis=-1), 1.0)
    asked, label = shown < 2, np.zeros(MANY, dtype=int)
    assert (asked.sum(axis=0) == len(places)).all()
    for place, (start, stop) in enumerate(places):
        assert (asked[start:stop].sum(axis=0) == 1).all() and evenly(asked[start:stop].sum(axis=1))
        step = start + asked[start:stop].argmax(axis=0)
        label += shown[step, range(MANY)] << place
    np.testing.assert_array_equal(target, label)
    assert evenly(np.bincount(target)) and evenly(np.bincount(shown[~asked])[2:])


def test_permuted_digits_have_the_pixels_of_the_digits_in_another_order() -> None:
    """The permutation differs from image to image, loses a pixel, or is none."""
    plain, permuted = rc.tasks.digits(), rc.tasks.permuted_digits()
    np.testing.assert_array_equal(np.sort(plain.inputs, axis=1), np.sort(permuted.inputs, axis=1))
    columns = {plain.inputs[:, t].tobytes(): t for t in range(64)}
    moved = [columns[permuted.inputs[:, t].tobytes()] for t in range(64)]
    assert moved != list(range(64)) and len(set(moved)) == len(columns)
    np.testing.assert_array_equal(plain.targets, permuted.targets)
    assert plain.digest != permuted.digest


# ---- which answers are wrong ---------------------------------------------------------------------------------------------


def scores(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[labels]


@pytest.mark.parametrize("name", ["adding", "multiplication"])
def test_a_number_is_wrong_beyond_a_fifth(name: str) -> None:
    """Close answers count as wrong, or far ones as right; on one side alone."""
    drawn = task(name, 10, size=4)
    target = drawn.batch(0).target
    off = np.array([[0.19], [-0.19], [0.21], [-0.21]])
    np.testing.assert_array_equal(drawn.wrong(target + off, target), [False, False, True, True])


def test_a_copy_is_wrong_if_any_of_its_answers_is() -> None:
    """A blank that is missed makes a sequence wrong, or a missed symbol does not."""
    drawn = task("copy_memory", 5, size=4)
    target = drawn.batch(0).target
    said = target.copy()
    said[3, 1], said[-1, 2], said[-10, 3] = 0, 8, 8  # a blank, the last symbol, the first
    np.testing.assert_array_equal(drawn.wrong(scores(said, 9), target), [False, False, True, True])


def test_a_classification_is_wrong_where_any_label_is() -> None:
    """Also of a task of the user's own, whose sequences end at different steps."""
    drawn = task("temporal_order", 10, size=3)
    np.testing.assert_array_equal(
        drawn.wrong(scores(np.array([0, 1, 3]), 4), np.array([0, 2, 3])), [False, True, False]
    )
    mask = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])
    data = rc.Sequences(np.zeros((4, 3, 1)), np.ones((4, 3), int), [0, 0, 0, 1], "softmax_cross_entropy", "every", mask)
    own = rc.prepare(rc.Experiment(task="mine", sequence_length=3, batch_size=3, hidden_size=2), data).task
    target = own.held_out().target.repeat(3, axis=1)
    target[2:, 1] = -1  # it ends a step earlier
    said = target.copy()
    said[2, :2] = 0  # wrong in the first, after the end of the second
    np.testing.assert_array_equal(own.wrong(scores(said, 2), target), [True, False, False])


def test_a_regression_says_nothing_of_wrong_answers() -> None:
    """A success is claimed of a task that has none."""
    drawn = task("input_mean", 5)
    assert not drawn.counts_wrong
    with pytest.raises(ValueError, match="task: InputMean does not say which answers are wrong"):
        drawn.wrong(np.zeros((5, 2, 1)), np.zeros((5, 2, 1)))


# ---- settings that belong to the task ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "adding", "input_size": 3}, "input_size: 3 does not fit; this task has 2, so leave input_size out"),
        ({"task": "copy_memory", "loss_at": "last"}, "loss_at: 'last' does not fit; this task has 'every'"),
        ({"task": "temporal_order", "sequence_length": 9}, "sequence_length: 9 is too short .* at least 10 steps"),
        ({"task": "adding", "sequence_length": 1}, "sequence_length: 1 is too short for this task"),
        (
            {"task": "white_noise", "success_below": 0.1},
            "success_below: 0.1 does not fit; task 'white_noise' does not say",
        ),
    ],
)
def test_settings_that_do_not_fit_a_task_are_refused(settings: dict[str, Any], message: str) -> None:
    """Another task than the literature's is trained under its name."""
    with pytest.raises(ValueError, match=message):
        rc.prepare(rc.Experiment(**settings))


def test_a_repeated_setting_of_the_task_is_accepted() -> None:
    rc.prepare(rc.Experiment(task="adding", input_size=2, loss_at="last"))


# ---- the user's own baseline ---------------------------------------------------------------------------------------------


def test_sequences_may_name_their_baseline() -> None:
    """``solved`` goes by the best constant although the data's owner knows better; or a baseline leaves the key as it was."""
    plain = rc.Sequences(np.zeros((4, 3, 1)), np.arange(4) % 2, [0, 0, 0, 1], "softmax_cross_entropy", "last")
    named = rc.Sequences(
        np.zeros((4, 3, 1)), np.arange(4) % 2, [0, 0, 0, 1], "softmax_cross_entropy", "last", baseline=0.5
    )
    e = rc.Experiment(task="mine", sequence_length=3, batch_size=2, hidden_size=2, updates=1)
    assert rc.prepare(e, named).task.baseline == 0.5 == rc.run(e, named).summary["baseline_loss"]
    assert named.digest != plain.digest
    for wrong in (0.0, -1.0, math.nan, "0.5", True):
        with pytest.raises(ValueError, match=r"baseline: .* is not allowed; it must be a number above 0, a loss"):
            rc.Sequences(np.zeros((2, 3, 1)), np.arange(2), [0, 1], "softmax_cross_entropy", "last", baseline=wrong)


# ---- held-out sequences in parts -----------------------------------------------------------------------------------------


def test_more_held_out_sequences_come_in_parts_and_begin_with_the_usual_ones() -> None:
    """10 000 sequences take all memory, repeat themselves, or are others than those of a run that names no number."""
    usual, more = (
        rc.prepare(rc.Experiment(task="temporal_order", sequence_length=20, held_out_sequences=n, hidden_size=2)).task
        for n in (None, 600)
    )
    parts = [x.shape[1] for x, _ in more.held_out_parts()]
    assert parts == [256, 256, 88]
    x, target = more.held_out()
    np.testing.assert_array_equal(x[:, :256], usual.held_out().x)
    np.testing.assert_array_equal(target[:256], usual.held_out().target)
    assert len({x[:, b].tobytes() for b in range(600)}) == 600
    with pytest.raises(
        ValueError, match="held_out_sequences: 9 does not fit; task 'digits' holds 359 of its sequences out"
    ):
        rc.prepare(rc.Experiment(task="digits", sequence_length=64, held_out_sequences=9), rc.tasks.digits())
