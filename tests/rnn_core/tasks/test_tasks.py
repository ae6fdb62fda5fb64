"""Tasks: generated batches and given sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.tasks import SequenceTask
from rnn_core.tasks.sequences import DIGIT_STEPS, DIGITS, DIGITS_TO_TRAIN_ON
from tests.support.arrays import quick


def generated(task: str, **changes: Any) -> rc.Problem:
    T = max(6, rc.GENERATED[task].shortest)
    return rc.prepare(rc.Experiment(task=task, sequence_length=T, batch_size=5, hidden_size=4, **changes))


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("task", list(rc.GENERATED))
def test_shapes(task: str, loss_at: str) -> None:
    """A batch does not fit the network, or targets do not fit where the loss sits."""
    kind = rc.GENERATED[task]
    if "loss_at" in kind.own and loss_at != kind.default_loss_at:
        return
    D = kind.default_input_size if "input_size" in kind.own else 3
    problem = generated(task, loss_at=loss_at, input_size=D)
    T = kind.steps_of(problem.experiment.sequence_length)
    for (x, target), size in ((problem.batch(0), 5), (problem.held_out(), 256)):
        assert x.shape == (T, size, D) and problem.task.T == T
        outputs = (problem.task.output_size,) if kind.loss == "squared_error" else ()
        assert target.shape == ((size, *outputs) if loss_at == "last" else (T, size, *outputs))


@pytest.mark.parametrize("task", list(rc.GENERATED))
def test_defaults_are_the_tasks_own(task: str) -> None:
    """Input size and place of the loss do not follow from the task."""
    problem, kind = generated(task), rc.GENERATED[task]
    assert problem.task.input_size == problem.batch(0)[0].shape[2] == kind.default_input_size
    assert problem.task.loss_at == kind.default_loss_at


@pytest.mark.parametrize("task", list(rc.GENERATED))
def test_updates_see_fresh_batches_and_held_out_ones_are_apart(task: str) -> None:
    """Training repeats one batch, or is tested on what it has seen."""
    problem = generated(task)
    inputs = [problem.batch(update)[0] for update in range(4)] + [problem.held_out()[0][:, :5]]
    assert len({a.tobytes() for a in inputs}) == len(inputs)
    np.testing.assert_array_equal(problem.held_out()[0], problem.held_out()[0])


@pytest.mark.parametrize("task", [name for name, kind in rc.GENERATED.items() if kind.white_inputs])
def test_inputs_are_white(task: str) -> None:
    """A task that says so has inputs of another mean or variance, or correlated ones, which theories of wide networks take for white."""
    x = rc.prepare(rc.Experiment(task=task, sequence_length=200, batch_size=64, hidden_size=2)).batch(0)[0]
    assert abs(x.mean()) < 5 / np.sqrt(x.size)
    assert x.var() == pytest.approx(1.0, abs=5 * np.sqrt(2 / x.size))
    assert abs((x[1:] * x[:-1]).mean()) < 5 / np.sqrt(x.size)


@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_input_mean_is_the_mean_of_the_same_steps_inputs(loss_at: str) -> None:
    """The target is another step's, or another average."""
    x, target = generated("input_mean", loss_at=loss_at).batch(3)
    mean = x.sum(axis=2, keepdims=True) / x.shape[2]
    np.testing.assert_allclose(target, mean if loss_at == "every" else mean[-1], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("r", [0.3, 0.9])
def test_correlated_inputs_have_the_correlation_that_was_asked_for(r: float) -> None:
    """Their variance settles slowly, the correlation is another, or it does not fall as a power of r."""
    x = (
        rc.prepare(rc.Experiment(input_correlation=r, sequence_length=40, batch_size=4000, input_size=5))
        .task.batch(0)
        .x
    )
    np.testing.assert_allclose((x**2).mean(axis=(1, 2)), 1.0, atol=0.06)  # from the first step on
    for lag in (1, 2, 5):
        assert (x[lag:] * x[:-lag]).mean() == pytest.approx(r**lag, abs=0.02)
    assert np.abs((x[..., 0] * x[..., 1]).mean()) < 0.02  # inputs of one step stay independent
    short = (
        rc.prepare(rc.Experiment(input_correlation=r, sequence_length=7, batch_size=4000, input_size=5)).task.batch(0).x
    )
    np.testing.assert_array_equal(short, x[:7])


def test_correlation_is_refused_where_no_task_draws_it() -> None:
    """A task ignores it, and the table calls its white inputs correlated; or inputs that never change are accepted."""
    with pytest.raises(
        ValueError, match=r"input_correlation: 0\.5 is not allowed with task 'input_mean'; only white_noise has it"
    ):
        rc.Experiment(task="input_mean", input_correlation=0.5)
    with pytest.raises(
        ValueError, match=r"input_correlation: 1\.0 is not allowed; it must be a number from 0 to below 1"
    ):
        rc.Experiment(input_correlation=1.0)


def test_white_noise_targets_do_not_depend_on_length() -> None:
    """The loss, hence the gradient's size at the last step, would change with T."""
    a, b = (rc.prepare(rc.Experiment(sequence_length=T, hidden_size=4)).batch(1)[1] for T in (3, 9))
    np.testing.assert_array_equal(a, b)


def test_held_out_targets_are_not_those_of_the_first_update() -> None:
    """What no update sees must be independent of what update 0 sees."""
    problem = generated("white_noise")
    assert not np.array_equal(problem.batch(0)[1], problem.held_out()[1][:5])


# ---- given sequences ---------------------------------------------------------------------------------------------------


def sequences(loss: str = "softmax_cross_entropy", loss_at: str = "last", N: int = 12, T: int = 7) -> rc.Sequences:
    """Sequence n holds n in every input, so that a batch says where it came from."""
    inputs = np.broadcast_to(np.arange(N, dtype=float)[:, None, None], (N, T, 2)).copy()
    leading = (N, T) if loss_at == "every" else (N,)
    labels = np.broadcast_to(np.arange(N).reshape(-1, *[1] * (len(leading) - 1)), leading) % 3
    targets = labels.copy() if loss == "softmax_cross_entropy" else np.repeat(labels[..., None] * 1.0, 2, axis=-1)
    return rc.Sequences(inputs, targets, np.arange(N) % 4 == 0, loss, loss_at)


def with_value(array: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
    array[at] = value
    return array


def task(data: rc.Sequences, loss_at: str | None = None, T: int = 5, B: int = 4, seed: int = 0) -> SequenceTask:
    return SequenceTask(data, seed, T, B, loss_at or data.loss_at)


@given(seed=st.integers(0, 1000), B=st.integers(1, 9))
@quick
def test_an_epoch_visits_sequences_at_most_once_and_never_a_held_out_one(seed: int, B: int) -> None:
    """A sequence is drawn twice in an epoch, or a held-out one is trained on."""
    data = sequences()
    drawn = task(data, B=B, seed=seed)
    per_epoch = 9 // B
    epochs = []
    for epoch in range(3):
        rows = np.concatenate([drawn.batch(epoch * per_epoch + i).x[0, :, 0] for i in range(per_epoch)]).astype(int)
        assert len(set(rows)) == len(rows) == per_epoch * B
        assert not data.held_out[rows].any()
        epochs.append(tuple(rows))
    held_out = drawn.held_out().x[0, :, 0].astype(int)
    assert data.held_out[held_out].all() and len(held_out) == data.held_out.sum()


def test_epochs_are_shuffled_anew() -> None:
    """Every epoch has the same order."""
    drawn = task(sequences(), B=9)
    assert len({drawn.batch(epoch).x[0, :, 0].tobytes() for epoch in range(4)}) > 1


@pytest.mark.parametrize("loss", list(rc.LOSSES))
@pytest.mark.parametrize(("given_at", "wanted"), [("last", "last"), ("every", "every"), ("every", "last")])
def test_targets_stay_with_their_sequences(loss: str, given_at: str, wanted: str) -> None:
    """A label is paired with another sequence, or with another step."""
    batch = task(sequences(loss, given_at), wanted).batch(2)
    assert batch.x.shape == (5, 4, 2)
    label = batch.x[..., 0] % 3 if wanted == "every" else batch.x[-1, :, 0] % 3
    target = batch.target if loss == "softmax_cross_entropy" else batch.target[..., 0]
    np.testing.assert_array_equal(target, label)


def test_a_cut_sequence_ends_with_its_own_target() -> None:
    """A loss at the last step of a sequence cut to T steps must take the target of step T, not of the uncut end."""
    data = rc.Sequences(
        np.zeros((4, 7, 1)), np.arange(28).reshape(4, 7) % 7, np.arange(4) == 0, "softmax_cross_entropy", "every"
    )
    np.testing.assert_array_equal(task(data, "last", T=3, B=3).batch(0).target, [2, 2, 2])


def test_output_size_follows_from_the_targets() -> None:
    """The readout has too few outputs, or too many."""
    assert sequences().output_size == 3
    assert sequences("squared_error").output_size == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": np.zeros((5, 7))}, r"inputs: shape \(5, 7\) is not \(N, T, D\)"),
        (
            {"targets": np.zeros(4, dtype=int)},
            r"targets: shape \(4,\) does not fit softmax_cross_entropy; expected \(5\)",
        ),
        ({"loss_at": "every"}, r"targets: shape \(5,\) does not fit .*; expected \(5, 7\)"),
        ({"targets": np.zeros((5, 1), dtype=int)}, r"targets: shape \(5, 1\) does not fit softmax_cross_entropy"),
        (
            {"targets": np.full(5, 0.5)},
            r"targets: 0\.5 is no label; labels are whole numbers\. .* the loss is squared_error",
        ),
        ({"targets": np.full(5, np.nan)}, r"targets: nan is no label"),
        ({"targets": np.full(5, 1e300)}, r"targets: 1e\+300 is no label"),
        ({"targets": list("abcde")}, r"targets: labels must be whole numbers, not <U.*return_inverse"),
        (
            {"targets": np.ma.masked_equal(np.arange(5), 3)},
            r"targets: 1 of 5 values are masked, and a NumPy mask is not",
        ),
        ({"inputs": np.ma.masked_equal(np.zeros((5, 7, 2)), 0)}, r"inputs: 70 of 70 values are masked"),
        ({"held_out": np.ma.array(np.arange(5) == 0, mask=np.arange(5) == 2)}, r"held_out: 1 of 5 values are masked"),
        ({"targets": [0, [1]]}, r"targets: the values make no array; pad shorter sequences"),
        ({"targets": None}, r"targets: shape \(\) does not fit softmax_cross_entropy; expected \(5\)"),
        ({"inputs": None}, r"inputs: dtype object is not allowed; it must be numbers"),
        ({"held_out": None}, r"held_out: shape \(\) does not fit; expected \(5,\), one flag each"),
        ({"mask": [[1], [1, 0]]}, r"mask: the values make no array"),
        ({"loss": ["squared_error"]}, r"loss: \['squared_error'\] is not known; allowed: squared_error"),
        ({"loss_at": 1}, r"loss_at: 1 is not known; allowed: last, every"),
        (
            {"targets": np.zeros(5), "loss": "squared_error"},
            r"targets: shape \(5,\) does not fit squared_error; expected \(5, C\)",
        ),
        ({"loss": "hinge"}, r"loss: 'hinge' is not known; allowed: squared_error, softmax_cross_entropy."),
        ({"loss": "mse"}, r"loss: 'mse' is not known; .*Did you mean 'squared_error'\?"),
        ({"loss_at": "end"}, r"loss_at: 'end' is not known; allowed: last, every. Did you mean 'last'\?"),
        ({"inputs": np.zeros((5, 0, 2))}, r"inputs: shape \(5, 0, 2\) is not \(N, T, D\) with at least one of each"),
        ({"inputs": np.full((5, 7, 2), "1")}, r"inputs: dtype <U1 is not allowed; it must be numbers"),
        (
            {"inputs": [[[1.0]], [[1.0], [2.0]]]},
            r"inputs: the values make no array; pad shorter sequences .* give a mask",
        ),
        (
            {"inputs": with_value(np.zeros((5, 7, 2)), (3, 4, 1), np.nan)},
            r"inputs: nan at sequence 3, step 4, column 1 is not",
        ),
        (
            {"inputs": with_value(np.zeros((5, 7, 2)), (0, 0, 0), -np.inf)},
            r"inputs: -inf at sequence 0, step 0, column 0",
        ),
        (
            {"targets": with_value(np.zeros((5, 2)), (2, 1), np.nan), "loss": "squared_error"},
            r"targets: nan at sequence 2, step 1",
        ),
        ({"targets": np.arange(5) - 1}, r"targets: label -1 is not allowed; labels count from 0"),
        (
            {"targets": np.arange(5) * 10**11},
            r"labels up to 400000000000 make 400000000001 classes, too many for 5 .*\(5 distinct",
        ),
        ({"targets": np.arange(5) * 300}, r"targets: labels up to 1200 make 1201 classes, too many for 5 sequences"),
        ({"held_out": np.arange(4) == 0}, r"held_out: shape \(4,\) does not fit; expected \(5,\)"),
        (
            {"held_out": np.arange(5)},
            r"held_out: int64 values are not allowed; it must hold True and False, or 0 and 1",
        ),
        ({"held_out": (np.arange(5) == 0) * 1.0}, r"held_out: float64 values are not allowed"),
        ({"held_out": np.array(list("TFFFF"))}, r"held_out: <U1 values are not allowed"),
        ({"mask": np.ones((5, 6), bool)}, r"mask: shape \(5, 6\) does not fit; expected \(5, 7\)"),
        ({"mask": np.arange(35).reshape(5, 7)}, r"mask: int64 values are not allowed"),
        ({"mask": np.arange(5)[:, None].repeat(7, axis=1) != 3}, r"mask: sequence 3 has no step that carries a target"),
        ({"held_out": np.zeros(5, dtype=bool)}, r"0 of 5 sequences are held out"),
        ({"held_out": np.ones(5, dtype=bool)}, r"5 of 5 sequences are held out"),
    ],
)
def test_sequences_that_do_not_fit_are_refused(change: dict[str, Any], message: str) -> None:
    """Data that cannot be trained on is accepted, or refused without naming what is wrong."""
    good: dict[str, Any] = {
        "inputs": np.zeros((5, 7, 2)), "targets": np.zeros(5, dtype=int), "held_out": np.arange(5) == 0,
        "loss": "softmax_cross_entropy", "loss_at": "last",
    }  # fmt: skip
    rc.Sequences(**good)
    with pytest.raises(ValueError, match=message):
        rc.Sequences(**(good | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"T": 8}, "sequence_length: 8 is more than the 7 steps"),
        ({"B": 10}, "batch_size: 10 is more than the 9 training sequences"),
        ({"loss_at": "every"}, "loss_at: 'every' needs a target at every step"),
        ({"loss_at": "end"}, r"loss_at: 'end' is not known; allowed: last, every. Did you mean 'last'\?"),
        ({"T": 0}, "sequence_length: 0 is not allowed; it must be an integer of at least 1"),
        ({"B": 2.0}, "batch_size: 2.0 is not allowed; it must be an integer of at least 1"),
        ({"seed": -1}, "seed: -1 is not allowed; it must be an integer of at least 0"),
    ],
)
def test_a_task_that_does_not_fit_its_sequences_is_refused(change: dict[str, Any], message: str) -> None:
    """An experiment asks for more than the data has."""
    with pytest.raises(ValueError, match=message):
        task(sequences(), **change).batch(0)


@pytest.mark.parametrize("kind", list(rc.GENERATED.values()))
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 4, 2, "last"), "sequence_length: 0 is not allowed; it must be an integer of at least 1"),
        ((0, 5, "4", 2, "last"), "batch_size: '4' is not allowed; it must be an integer of at least 1"),
        ((0, 5, 4, None, "last"), "input_size: None is not allowed; it must be an integer of at least 1"),
        ((0, 5, 4, 2, "lats"), r"loss_at: 'lats' is not known; allowed: last, every. Did you mean 'last'\?"),
        (("0", 5, 4, 2, "last"), "seed: '0' is not allowed; it must be an integer of at least 0"),
    ],
)
def test_a_generated_task_refuses_what_it_cannot_draw(kind: Any, arguments: Any, message: str) -> None:
    """NumPy's own words come from a generator of random numbers."""
    seed, T, B, D, loss_at = arguments
    T, D = (kind.shortest + 5 if T == 5 else T), (kind.default_input_size if D == 2 else D)
    with pytest.raises(ValueError, match=message):
        kind(seed, T, B, D, kind.default_loss_at if loss_at == "last" else loss_at).batch(0)


def test_other_wrong_arguments_of_tasks_are_named() -> None:
    """An array is taken for sequences, an update is no number, or a share is above 1."""
    with pytest.raises(TypeError, match=r"data: ndarray is not allowed; it must be rc\.Sequences\(…\)"):
        task(np.zeros((3, 4, 5)), "last")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="index: -1 is not allowed; it must be an integer of at least 0"):
        generated("white_noise").batch(-1)
    with pytest.raises(ValueError, match="update: -1 is not allowed; it must be an integer of at least 0"):
        task(sequences()).batch(-1)
    with pytest.raises(ValueError, match="fraction: 20 is not allowed; it must be a number from 0 to 1"):
        rc.tasks.split(10, 20)
    with pytest.raises(ValueError, match="count: 0 is not allowed; it must be an integer of at least 1"):
        rc.tasks.split(0)


def test_a_task_shows_its_sizes() -> None:
    """A task shows its address in memory."""
    assert repr(generated("white_noise").task) == "WhiteNoise(T=6, B=5, D=8, C=1, squared_error at last)"
    assert repr(task(sequences())) == "SequenceTask(T=5, B=4, D=2, C=3, softmax_cross_entropy at last)"


def test_zeros_and_ones_are_flags() -> None:
    """``~`` of an integer array trains on the held-out sequences."""
    flags = (np.arange(12) % 4 == 0).astype(int)
    base = sequences()
    for zeros_and_ones in (flags, flags.astype(np.uint8), flags.tolist()):
        data = rc.Sequences(base.inputs, base.targets, zeros_and_ones, base.loss, base.loss_at)
        drawn = task(data, B=9)
        assert data.held_out.dtype == bool and len(drawn.training) == 9 and not data.held_out[drawn.training].any()
        np.testing.assert_array_equal(drawn.held_out().x, task(base).held_out().x)


def test_whole_numbers_of_any_type_are_labels() -> None:
    """A column of labels that has gaps elsewhere holds 1.0 for 1, and was refused for its type."""
    base = sequences()
    for labels in (base.targets.astype(np.float64), base.targets.astype(np.float32), np.ma.array(base.targets)):
        data = rc.Sequences(base.inputs, labels, base.held_out, base.loss, base.loss_at)
        assert data.targets.dtype == np.int64 and data.digest == base.digest
    yes = rc.Sequences(base.inputs, base.targets > 0, base.held_out, base.loss, base.loss_at)
    np.testing.assert_array_equal(yes.targets, (base.targets > 0).astype(int))
    mask = np.ones(base.inputs.shape[:2], dtype=bool)
    mask[:, -1] = False
    gaps = np.where(mask, 1.0, np.nan)
    data = rc.Sequences(base.inputs, gaps, base.held_out, base.loss, "every", mask=mask)
    assert data.targets.dtype == np.int64 and data.targets[mask].tolist() == [1] * int(mask.sum())


def test_many_classes_are_taken_where_there_are_as_many_sequences() -> None:
    """1200 classes of 1500 sequences are a data set; a column of ids is not."""
    N = 1500
    data = rc.Sequences(np.zeros((N, 1, 1)), np.arange(N), np.arange(N) < 5, "softmax_cross_entropy", "last")
    assert data.output_size == N
    N = 10_001
    with pytest.raises(ValueError, match="10001 classes, too many for 10001 sequences"):
        rc.Sequences(np.zeros((N, 1, 1)), np.arange(N), np.arange(N) < 5, "softmax_cross_entropy", "last")


def test_other_types_of_numbers_are_the_same_sequences() -> None:
    """Integers, lists and unsigned labels are refused, or train another network."""
    base = sequences("squared_error")
    other = rc.Sequences(base.inputs.astype(int).tolist(), base.targets.astype(int), base.held_out, base.loss, base.loss_at)  # type: ignore[arg-type]  # fmt: skip
    assert other.digest == base.digest
    e = rc.Experiment(task="mine", sequence_length=5, batch_size=4, hidden_size=4, updates=3)
    np.testing.assert_array_equal(rc.run(e, base).updates["loss"], rc.run(e, other).updates["loss"])
    labels = sequences()
    unsigned = rc.Sequences(
        labels.inputs, labels.targets.astype(np.uint8), labels.held_out, labels.loss, labels.loss_at
    )
    assert unsigned.digest == labels.digest and unsigned.targets.dtype == np.int64


def test_the_digest_is_that_of_the_content() -> None:
    """Two data sets share a digest, and one's runs are taken for the other's."""
    base = sequences("squared_error", "every")
    fields: dict[str, Any] = {
        name: getattr(base, name) for name in ("inputs", "targets", "held_out", "loss", "loss_at")
    }
    mask = np.ones(base.inputs.shape[:2], bool)
    changed = [
        {"inputs": with_value(base.inputs.copy(), (1, 2, 0), 0.5)}, {"targets": with_value(base.targets.copy(), (1, 2, 0), 0.5)},
        {"held_out": np.arange(12) % 3 == 0}, {"mask": with_value(mask.copy(), (1, 2), False)},
        {"mask": with_value(mask.copy(), (2, 1), False)}, {"inputs": base.inputs[:, ::-1, :1].repeat(2, axis=2) + 1},
        {"inputs": base.inputs[..., :1]}, {"loss_at": "last", "targets": base.targets[:, -1]},
    ]  # fmt: skip
    digests = [rc.Sequences(**(fields | change)).digest for change in changed]
    assert len({base.digest, *digests}) == len(changed) + 1
    assert rc.Sequences(**(fields | {"mask": mask})).digest == base.digest == rc.Sequences(**fields).digest
    assert len(base.digest) == 16 and int(base.digest, 16) >= 0 and len(repr(base)) < 100


def test_digits() -> None:
    """The digits differ from those that studies run on, or their labels have left their pictures."""
    data = rc.tasks.digits()
    assert data.inputs.shape == (1797, 64, 1) and data.output_size == 10 and int(data.held_out.sum()) == 359
    from sklearn.datasets import load_digits

    pictures = load_digits()
    np.testing.assert_array_equal(data.inputs[7, :, 0], pictures.data[7] / 16.0)
    np.testing.assert_array_equal(data.targets, pictures.target)
    assert data.digest == "4bc9bc3fdad9c0fa"
    assert data.inputs.shape[:2] == (DIGITS, DIGIT_STEPS) and int((~data.held_out).sum()) == DIGITS_TO_TRAIN_ON
    assert np.isfinite(rc.run(rc.Experiment(task="digits", sequence_length=64, hidden_size=4), data).updates["loss"][0])
