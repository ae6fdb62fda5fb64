"""Sequences of different lengths and missing targets: what counts is what each sequence would give by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core import losses, ragged
from rnn_core.experiment import growth_of
from rnn_core.experiment import problem as problems
from rnn_core.oracles import autograd
from rnn_core.scaling import plain
from rnn_core.tasks import SequenceTask
from rnn_core.theory import growth, regime, settled_window

N, T, D = 10, 30, 3
LENGTHS = np.array([30, 1, 14, 22, 30, 9, 2, 27, 18, 5])
KINDS = [(loss, loss_at) for loss in rc.LOSSES for loss_at in ("last", "every")]


def sequences(loss: str, loss_at: str, gaps: bool = True, seed: int = 0, lengths: np.ndarray = LENGTHS) -> rc.Sequences:
    """Of different lengths; with a loss at every step some targets before the end are missing as well."""
    rng = np.random.default_rng(seed)
    mask = np.arange(T) < lengths[:, None]
    if loss_at == "every" and gaps:
        mask &= (rng.random((N, T)) < 0.6) | (np.arange(T) == lengths[:, None] - 1)
    leading = (N, T) if loss_at == "every" else (N,)
    targets = rng.integers(0, 3, leading) if loss == "softmax_cross_entropy" else rng.standard_normal((*leading, 2))
    return rc.Sequences(rng.standard_normal((N, T, D)), targets, np.arange(N) < 2, loss, loss_at, mask)


def experiment(**changes: Any) -> rc.Experiment:
    return rc.Experiment(**({"task": "mine", "sequence_length": T, "batch_size": 8, "hidden_size": 5} | changes))


def same(a: Any, b: Any) -> bool:
    """Equal to the bit: columns, numbers (nan equals nan), words and None."""
    return repr(a) == repr(b) if not isinstance(a, np.ndarray) else a.dtype == b.dtype and a.tobytes() == b.tobytes()


def alone(
    problem: rc.Problem, x: np.ndarray, target: np.ndarray
) -> Iterator[tuple[int, int, rc.Problem, np.ndarray, np.ndarray]]:
    """(end, targets, problem, x, target) of every sequence of a batch, without its padding, its loss the sum over its targets."""
    for b, end in enumerate(ragged.ends_of(target)):
        there = losses.carries_target(target[:end, b : b + 1])
        yield int(end), int(there.sum()), problem, x[:end, b : b + 1], target[:end, b : b + 1]


@pytest.mark.parametrize("cell", ["vanilla", "lstm", "gru"])
@pytest.mark.parametrize(("loss", "loss_at"), KINDS)
def test_a_batch_is_its_sequences_one_by_one(loss: str, loss_at: str, cell: str) -> None:
    """A padded step adds to a loss or gradient, a mean counts steps without a target, or a sequence ends elsewhere."""
    data = sequences(loss, loss_at)
    problem = rc.prepare(experiment(cell=cell), data)
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    counts = [count for _, count, *_ in alone(problem, x, target)]
    total, grads = 0.0, {name: np.zeros_like(value) for name, value in problem.params.items()}
    for b, (end, count, _, x_b, target_b) in enumerate(alone(problem, x, target)):
        own = rc.evaluate(problem, problem.params, x_b, target_b)
        share = count / sum(counts)
        total += share * own.loss
        grads = {name: grads[name] + share * own.param_grads[name] for name in grads}
        np.testing.assert_allclose(
            evaluation.gradients.hidden[:end, b], share * own.gradients.hidden[:, 0], rtol=1e-9, atol=1e-15
        )
        np.testing.assert_allclose(
            evaluation.gradients.x[:end, b], share * own.gradients.x[:, 0], rtol=1e-9, atol=1e-15
        )
        assert not evaluation.gradients.hidden[end:, b].any() and not evaluation.gradients.x[end:, b].any()
    assert evaluation.loss == pytest.approx(total, rel=1e-12)
    for name, value in grads.items():
        np.testing.assert_allclose(evaluation.param_grads[name], value, rtol=1e-9, atol=1e-14)
    assert len(set(ragged.ends_of(target))) > 4


@pytest.mark.parametrize(("loss", "loss_at"), KINDS)
def test_padding_and_ignored_targets_change_no_bit(loss: str, loss_at: str) -> None:
    """What stands behind the end of a sequence, or where no target is, is seen by something."""
    data = sequences(loss, loss_at)
    inputs, targets = data.inputs.copy(), data.targets.copy()
    inputs[np.arange(T) >= LENGTHS[:, None]] = 1e9
    assert data.mask is not None
    if loss_at == "every":
        targets[~data.mask] = -7 if loss == "softmax_cross_entropy" else np.nan
    other = rc.Sequences(inputs, targets, data.held_out, loss, loss_at, data.mask)
    assert other.digest == data.digest and other.largest == data.largest
    for changes in ({"updates": 3}, {}, {"activation": "relu", "spectral_radius": 1.5}):
        a, b = (rc.run(experiment(**changes), each) for each in (data, other))
        for name in a:
            assert same(a[name], b[name]), name


@pytest.mark.parametrize(("loss", "loss_at"), KINDS)
def test_a_mask_that_says_nothing_changes_no_bit(loss: str, loss_at: str) -> None:
    """Equally long sequences with a mask are not the same runs as without one, cut or whole."""
    data = sequences(loss, loss_at)
    plain_data = replace(data, mask=None, targets=np.nan_to_num(data.targets))
    whole = np.ones((N, T), bool) if loss_at == "every" else np.arange(T) == np.full((N, 1), T - 1)
    masked = replace(plain_data, mask=whole)
    cut = replace(
        plain_data, mask=np.arange(T) < (20 if loss_at == "every" else 12 + np.arange(N)[:, None]) * np.ones((N, 1))
    )
    assert masked.mask is None and masked.digest == plain_data.digest and cut.mask is not None
    for other, length in ((masked, T), (cut, 10)):
        a, b = (rc.run(experiment(updates=2, sequence_length=length), each) for each in (plain_data, other))
        for name in ("loss", "log10_grad_norm", "growth_rate", "held_out_loss", "baseline_loss", "hidden_rms"):
            np.testing.assert_array_equal(a[name], b[name])


# ---- what is measured of it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize(
    "changes", [{}, {"spectral_radius": 0.5}, {"activation": "relu", "spectral_radius": 2.0}, {"cell": "lstm"}]
)
def test_growth_is_that_of_every_sequence_by_itself(loss_at: str, changes: dict[str, Any]) -> None:
    """Growth is measured from the end of the batch, over padding, or in one window for all."""
    problem = rc.prepare(experiment(**changes), sequences("squared_error", loss_at))
    x, target = problem.batch(0)
    result = rc.run(problem.experiment, problem.task.data)  # type: ignore[attr-defined]
    rates, errors, first, last, dead, windows = [], [], [], [], [], []
    for end, _, _, x_b, target_b in alone(problem, x, target):
        tape = rc.forward(problem.cell, problem.params, x_b)
        y = tape.hidden[-1] @ problem.params["weight_ho"].T + problem.params["bias_ho"]
        signal = (y - target_b[-1]) @ problem.params["weight_ho"]  # of this sequence's last loss alone
        norms = rc.backward(tape, grad_state={"hidden": signal}).log_norm_samples
        window = settled_window(np.sqrt((plain(tape.hidden) ** 2).mean(axis=(1, 2))))
        own = growth(norms, window)
        first.append(norms[0, 0])
        last.append(norms[-1, 0])
        windows.append(window)
        if end > 1:
            dead.append(own.dead)
            if not own.dead:
                rates.append(own.rate)
                errors.append(own.error)
    assert result["growth_rate"] == pytest.approx(np.mean(rates), rel=1e-9)
    assert result["dead_samples"] == np.mean(dead)
    ratio = 0.5 * (np.logaddexp.reduce(2 * np.array(first)) - np.logaddexp.reduce(2 * np.array(last))) / math.log(10)
    assert result["log10_gradient_ratio"] == pytest.approx(ratio, rel=1e-9)
    assert result["regime"] == regime(ratio)
    assert (result["settled_from"], result["settled_to"]) == (
        min(w.start for w in windows) + 1,
        max(w.stop for w in windows),
    )
    over_time = math.sqrt(sum(e**2 for e in errors)) / len(errors)
    expected = max(e for e in (over_time, np.std(rates, ddof=1) / math.sqrt(len(rates))) if not math.isnan(e))
    assert result["growth_rate_error"] == pytest.approx(expected, rel=1e-9)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    assert growth_of(problem, evaluation).ratio == result["log10_gradient_ratio"]


def test_growth_of_ragged_norms_by_hand() -> None:
    """Two living sequences of 3 and 4 steps, one dead, one of a single step."""
    norms = np.array(
        [
            [0.0, 4.0, -np.inf, 7.0],
            [2.0, 3.0, -np.inf, -np.inf],
            [4.0, 2.0, 1.0, -np.inf],
            [-np.inf, 1.0, -np.inf, -np.inf],
        ]
    )
    found = rc.theory.ragged_growth(norms, np.array([3, 4, 3, 1]))
    assert (found.rate, found.dead) == (pytest.approx((-2.0 + 1.0) / 2), pytest.approx(1 / 3))
    assert found.error == pytest.approx(1.5)  # std of -2 and 1 over √2
    at_ends = 0.5 * math.log(math.exp(8) + math.exp(2) + math.exp(2) + math.exp(14))
    assert found.ratio == pytest.approx((0.5 * math.log(1 + math.exp(8) + math.exp(14)) - at_ends) / math.log(10))
    windowed = rc.theory.ragged_growth(
        norms, np.array([3, 4, 3, 1]), [slice(0, 2), slice(1, 4), slice(0, 3), slice(0, 1)]
    )
    assert windowed.rate == pytest.approx((-2.0 + 1.0) / 2)
    only_dead = rc.theory.ragged_growth(norms[:, 2:], np.array([3, 1]))
    assert (only_dead.rate, only_dead.dead) == (-math.inf, 1.0)
    single = rc.theory.ragged_growth(norms[:, 3:], np.array([1]))
    assert math.isnan(single.rate) and math.isnan(single.dead) and single.ratio == 0.0
    broken = rc.theory.ragged_growth(np.array([[np.nan], [0.0]]), np.array([2]))
    assert math.isnan(broken.rate)


def test_states_are_those_of_sequences_that_have_not_ended() -> None:
    """Root mean square, saturation, mean field's input variance or the operating point's slopes count padding."""
    problem = rc.prepare(
        experiment(spectral_radius=0.9, input_scale=2.0),
        sequences("squared_error", "last", lengths=np.minimum(LENGTHS, 28)),
    )
    x, target = problem.batch(0)
    result = rc.run(problem.experiment, problem.task.data)  # type: ignore[attr-defined]
    tape = rc.forward(problem.cell, problem.params, x)
    ends = ragged.ends_of(target)
    slopes = 1 - tape.hidden**2
    assert (
        ends.max() < T
        and np.isnan(result["hidden_rms"][ends.max() :]).all()
        and np.isnan(result["saturation"][ends.max() :]).all()
    )
    for t in range(ends.max()):
        live = tape.hidden[t, ends > t]
        assert result["hidden_rms"][t] == pytest.approx(np.sqrt((live**2).mean()), rel=1e-12)
        assert result["saturation"][t] == pytest.approx((1 - live**2 < 0.1).mean(), abs=1e-12)
    own = [settled_window(np.sqrt((tape.hidden[:end, b] ** 2).mean(axis=1))) for b, end in enumerate(ends)]
    inside = np.concatenate([slopes[window, b] for b, window in enumerate(own)])
    mean, square = inside.mean(axis=0), (inside**2).mean(axis=0)
    assert result["slope_fluctuation"] == pytest.approx((square - mean**2).mean() / square.mean(), rel=1e-9)
    radius = np.abs(np.linalg.eigvals(mean[:, None] * problem.params["weight_hh"])).max()
    assert result["operating_rate"] == pytest.approx(math.log(radius), rel=1e-9)
    rows = np.concatenate([x[:end, b] for b, end in enumerate(ends)])
    sigma_u2 = ((rows @ problem.params["weight_ih"].T) ** 2).mean()
    W = problem.params["weight_hh"]
    expected = rc.theory.fixed_point(problem.cell.phi, sigma_w2=(W**2).sum() / len(W), sigma_u2=sigma_u2).rate
    assert result["mean_field_rate"] == pytest.approx(expected, rel=1e-9)


def test_the_baseline_and_the_accuracy_count_targets() -> None:
    """Blanks are a class, or a value of the targets."""
    labels, numbers = sequences("softmax_cross_entropy", "every"), sequences("squared_error", "every")
    a, b = (rc.prepare(experiment(), each) for each in (labels, numbers))
    assert labels.mask is not None and numbers.mask is not None
    held = labels.targets[:2][labels.mask[:2]]
    p = np.bincount(held) / len(held)
    assert a.task.baseline == pytest.approx(-(p * np.log(p)).sum()) and a.task.baseline_accuracy == p.max()
    assert b.task.baseline == pytest.approx(0.5 * numbers.targets[:2][numbers.mask[:2]].var(axis=0).sum())
    x, target = a.batch(0)
    evaluation = rc.evaluate(a, a.params, x, target)
    named = np.argmax(evaluation.output, axis=-1)[target >= 0]
    assert evaluation.accuracy == pytest.approx((named == target[target >= 0]).mean())


# ---- the same by every way ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("loss", "loss_at"), KINDS)
def test_checkpoints_and_shared_work_change_no_bit(loss: str, loss_at: str) -> None:
    data = sequences(loss, loss_at)
    lengths = [T, 25] if loss_at == "every" else [T, 25, 12, 3]
    many = [experiment(sequence_length=length, clipping=rule) for length in lengths for rule in ("none", "norm:0.1")]
    shared = dict(rc.run_many(many, {"mine": data}))
    assert len(many) == len(shared)
    for each in many:
        one = rc.run(each, data)
        kept = rc.run(each, data, memory_budget=1000)
        for name in one:
            for other in (shared[each], kept):
                assert same(one[name], other[name]), name


def test_torch_measures_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    data = sequences("softmax_cross_entropy", "every")
    e = experiment(updates=3, sequence_length=25)
    expected = rc.run(e, data)
    monkeypatch.setattr(
        problems, "place", lambda values, dtype, device: torch.as_tensor(np.asarray(values, dtype=dtype))
    )
    on_torch = rc.run(e, data)
    for name in ("loss", "accuracy", "growth_rate", "held_out_loss", "log10_grad_norm", "hidden_rms", "operating_rate"):
        np.testing.assert_allclose(on_torch[name], expected[name], rtol=1e-9)


@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_a_broken_run_says_where(loss_at: str) -> None:
    """An output behind the end of its sequence makes a run break down, or a broken run is not seen."""
    data = sequences("squared_error", loss_at)
    result = rc.run(experiment(activation="relu", spectral_radius=1e100, updates=2), data)
    assert not result["finite"][0] and result["first_nonfinite_step"] < 10
    far = rc.run(
        experiment(activation="relu", spectral_radius=1e100),
        sequences("squared_error", loss_at, lengths=np.minimum(LENGTHS, 2)),
    )
    assert math.isfinite(far["loss"][0])


# ---- where sequences end -----------------------------------------------------------------------------------------------


def drawn(data: rc.Sequences, length: int, loss_at: str) -> np.ndarray:
    """The targets (T, N) of all training sequences in order, by their first input, which counts them."""
    batch = SequenceTask(data, 0, length, N - 2, loss_at).batch(0)
    return batch.target[:, np.argsort(batch.x[0, :, 0])]


def counted(loss_at: str, mask: np.ndarray) -> rc.Sequences:
    """Sequence n starts with the input n + 1; labels are t at every step, or n."""
    inputs = np.zeros((N, T, 1))
    inputs[:, 0, 0] = np.arange(N) + 1
    targets = np.broadcast_to(np.arange(T), (N, T)) if loss_at == "every" else np.arange(N)
    return rc.Sequences(inputs, targets, np.arange(N) < 2, "softmax_cross_entropy", loss_at, mask)


def test_the_one_target_of_a_sequence_sits_at_its_end() -> None:
    """A label sits at the wrong step, or a longer sequence that is cut loses it."""
    data = counted("last", np.arange(T) < LENGTHS[:, None])
    for length in (T, 12):
        target = drawn(data, length, "last")
        steps, who = np.nonzero(target >= 0)
        assert sorted(who) == list(range(8)) and target.shape == (length, 8)
        np.testing.assert_array_equal(steps[np.argsort(who)], np.minimum(LENGTHS[2:], length) - 1)
        np.testing.assert_array_equal(target.max(axis=0), np.arange(2, N))


def test_of_targets_at_every_step_the_last_is_that_of_the_end() -> None:
    mask = np.arange(T) < LENGTHS[:, None]
    mask[:, 1::2] = False  # targets at steps 1, 3, 5 …
    data = counted("every", mask)
    every, last = drawn(data, 12, "every"), drawn(data, 12, "last")
    np.testing.assert_array_equal(every >= 0, mask[2:, :12].T)
    np.testing.assert_array_equal(every[every >= 0], np.nonzero(mask[2:, :12].T)[0])
    expected = [max(t for t in range(min(length, 12)) if t % 2 == 0) for length in LENGTHS[2:]]
    np.testing.assert_array_equal(last.max(axis=0), expected)
    assert (last >= 0).sum() == 8


def test_a_sequence_without_a_target_after_the_cut_is_refused() -> None:
    mask = np.ones((N, T), bool)
    mask[6, :20] = False
    data = counted("every", mask)
    for loss_at in ("last", "every"):
        with pytest.raises(ValueError, match="sequence_length: 20 leaves sequence 6 no step that carries a target"):
            SequenceTask(data, 0, 20, 4, loss_at)
        SequenceTask(data, 0, 21, 4, loss_at)


# ---- the oracles ---------------------------------------------------------------------------------------------------------


def error_of(problem: rc.Problem) -> float:
    x, target = problem.batch(0)
    return autograd.check(problem, problem.params, x, target, rc.evaluate(problem, problem.params, x, target)).relative


@pytest.mark.parametrize("cell", list(rc.CELLS))
@pytest.mark.parametrize(("loss", "loss_at"), KINDS)
def test_autograd_agrees(loss: str, loss_at: str, cell: str) -> None:
    assert error_of(rc.prepare(experiment(cell=cell), sequences(loss, loss_at))) < 1e-10


def nothing_is_masked(x: Any, kept: Any) -> Any:
    """Blanks are still no labels and no nan, but they count."""
    return np.where(np.isnan(x), 0.0, x) if np.asarray(x).dtype.kind == "f" else np.maximum(x, 0)


def ends_one_early(x: Any, kept: Any) -> Any:
    return np.nan_to_num(ragged_only(x, np.concatenate([kept[1:], kept[:1]])))


def counts_all(x: Any) -> Any:
    return np.size(x)


ragged_only = ragged.only


@pytest.mark.parametrize("bug", [nothing_is_masked, ends_one_early])
@pytest.mark.parametrize(("loss", "loss_at"), KINDS)
def test_a_mask_that_is_ignored_or_shifted_is_caught(
    loss: str, loss_at: str, bug: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = rc.prepare(experiment(), sequences(loss, loss_at))
    monkeypatch.setattr(ragged, "only", bug)
    assert error_of(problem) > 1e-3


@pytest.mark.parametrize(("loss", "loss_at"), KINDS)
def test_a_mean_over_all_steps_is_caught(loss: str, loss_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = rc.prepare(experiment(), sequences(loss, loss_at))
    monkeypatch.setattr(np, "count_nonzero", counts_all)
    assert error_of(problem) > 1e-3
