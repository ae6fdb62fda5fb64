"""Training until success: held-out sequences on the way, early end, and the same losses as a plain PyTorch program."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.experiment.evaluation import held_out_of

ORDER = rc.Experiment(
    task="temporal_order", sequence_length=20, hidden_size=12, batch_size=8, learning_rate=0.2, updates=30,
    held_out_sequences=600, trace_every=10,
)  # fmt: skip


def test_success_ends_training_at_the_first_look_that_is_good_enough() -> None:
    """Training goes on after success, or another look than the first counts."""
    watched = rc.run(replace(ORDER, validate_every=4)).updates
    looks = watched["update"][~np.isnan(watched["held_out_error"])]
    np.testing.assert_array_equal(looks, [3, 7, 11, 15, 19, 23, 27, 29])
    errors = watched["held_out_error"][looks]
    below = float(np.median(errors))  # so that some looks are good enough, and the first is not
    first = int(looks[np.argmax(errors < below)])
    result = rc.run(replace(ORDER, validate_every=4, success_below=below))
    assert result["success"] is True and result["updates_to_success"] == first + 1 == len(result.updates["update"])
    np.testing.assert_array_equal(result.updates["held_out_error"], watched["held_out_error"][: first + 1])
    assert result["held_out_error"] == errors[looks == first]
    assert result.traces["update"].max() == first  # the last gradient is recorded, as without an early end
    exactly = rc.run(replace(ORDER, validate_every=4, updates=4, success_below=float(errors[0])))
    assert exactly["held_out_error"] == errors[0] and exactly["success"] is False  # below is not at
    shorter = rc.run(replace(ORDER, updates=first + 1))
    assert result["held_out_loss"] == shorter["held_out_loss"] and shorter["success"] is None
    np.testing.assert_array_equal(result.updates["loss"], shorter.updates["loss"])


def test_without_success_the_budget_ends() -> None:
    """A run that never succeeds claims an update at which it did, or looks at the held-out sequences more often than asked."""
    result = rc.run(replace(ORDER, success_below=1e-9))
    assert result["success"] is False and result["updates_to_success"] is None
    assert np.isnan(result.updates["held_out_error"][:-1]).all() and len(result.updates["update"]) == 30
    assert result["held_out_error"] == result.updates["held_out_error"][-1]
    untrained = rc.run(replace(ORDER, success_below=0.5, updates=0))
    assert untrained["success"] is None and math.isnan(untrained["held_out_error"])


def test_a_run_that_breaks_down_is_no_success() -> None:
    """nan is below every threshold, or above none."""
    wild = replace(ORDER, task="adding", activation="relu", learning_rate=1e9, success_below=0.99)
    result = rc.run(wild)
    assert result["first_nonfinite_update"] is not None
    assert result["success"] is False and result["updates_to_success"] is None and math.isnan(result["held_out_error"])


def test_fewer_rows_of_updates_leave_all_else_as_it_is() -> None:
    """A run of millions of updates keeps a row of each, or one with fewer rows trains otherwise."""
    every, some = rc.run(ORDER), rc.run(replace(ORDER, record_every=7, validate_every=10))
    np.testing.assert_array_equal(some.updates["update"], [0, 7, 9, 14, 19, 21, 28, 29])
    for name in ("loss", "log10_norm_before"):
        np.testing.assert_array_equal(some.updates[name], every.updates[name][some.updates["update"]])
    for name in ("held_out_loss", "held_out_error", "solved"):
        assert some[name] == every[name]


def test_many_runs_are_those_of_run() -> None:
    """``run_many`` ends other runs, or at other updates."""
    runs = [replace(ORDER, clipping=c, success_below=0.7, validate_every=5) for c in ("none", "norm:0.1")]
    for experiment, result in rc.run_many(runs):
        alone = rc.run(experiment)
        assert repr(result.summary) == repr(alone.summary)
        np.testing.assert_array_equal(result.updates["loss"], alone.updates["loss"])


def test_parts_of_the_held_out_sequences_count_by_their_size() -> None:
    """The last, small part weighs as much as the others."""
    problem = rc.prepare(replace(ORDER, held_out_sequences=300))
    x, target = problem.held_out()
    together = rc.evaluate(problem, problem.params, x, target)
    wrong = problem.task.wrong(together.output[0], target)
    found = held_out_of(problem, problem.params)
    assert found.loss == pytest.approx(together.loss, rel=1e-13)
    assert found.accuracy == pytest.approx(together.accuracy, rel=1e-13)
    assert found.error == pytest.approx(wrong.mean(), rel=1e-13) == 1 - found.accuracy


# ---- a plain PyTorch program on the same draws -----------------------------------------------------------------------------


def plain_program(experiment: rc.Experiment, clip: float | None) -> tuple[list[float], float]:
    """(training losses, wrong fraction of the held-out sequences) by torch's own modules, loss, clipping and optimiser."""
    problem = rc.prepare(experiment)
    H, D = problem.params["weight_ih"].shape
    rnn = torch.nn.RNN(D, H, dtype=torch.float64)
    readout = torch.nn.Linear(H, problem.task.output_size, dtype=torch.float64)
    named = {"weight_ho": readout.weight, "bias_ho": readout.bias}
    named |= {name.removesuffix("_l0"): value for name, value in rnn.named_parameters()}
    with torch.no_grad():
        for name, value in problem.params.items():
            named[name].copy_(torch.from_numpy(value))
    optimizer = torch.optim.SGD(named.values(), lr=experiment.learning_rate)

    def scores(x: np.ndarray) -> torch.Tensor:
        states, last = rnn(torch.from_numpy(x))
        return readout(states if problem.task.loss_at == "every" else last[0])

    losses = []
    for update in range(experiment.updates):
        x, target = problem.task.batch(update)
        y, goal = scores(x), torch.from_numpy(target)
        if problem.task.loss == "squared_error":
            loss = 0.5 * torch.nn.functional.mse_loss(y, goal)
        else:
            loss = torch.nn.functional.cross_entropy(y.flatten(0, -2), goal.flatten())
        optimizer.zero_grad()
        loss.backward()
        if clip is not None:  # as torch's clip_grad_norm_, which adds 1e-6 to the norm
            norm = (
                torch.stack([value.grad.square().sum() for value in named.values() if value.grad is not None])
                .sum()
                .sqrt()
            )
            for value in named.values():
                assert value.grad is not None
                value.grad *= min(1.0, clip / norm.item())
        optimizer.step()
        losses.append(loss.item())
    x, target = problem.task.held_out()
    with torch.no_grad():
        y = scores(x).numpy()
    if problem.task.loss == "squared_error":
        wrong = np.abs(y - target)[:, 0] > 0.2
    elif problem.task.loss_at == "every":
        wrong = (y.argmax(-1) != target)[-10:].any(axis=0)
    else:
        wrong = y.argmax(-1) != target
    return losses, float(wrong.mean())


@pytest.mark.parametrize(
    "settings",
    [
        {"task": "temporal_order", "initializer": "pascanu_smart", "spectral_radius": None},
        {"task": "temporal_order_3", "initializer": "pascanu_tanh", "spectral_radius": None, "clipping": "norm:0.5"},
        {"task": "adding"},
        {"task": "multiplication"},
        {"task": "copy_memory", "sequence_length": 3},
    ],
)
def test_fifty_updates_have_the_losses_of_a_plain_pytorch_program(settings: dict[str, Any]) -> None:
    """A success rate would be that of another network, task, loss, clipping or optimiser."""
    experiment = rc.Experiment(
        **{"sequence_length": 12, "hidden_size": 30, "batch_size": 20, "updates": 50, "learning_rate": 0.05, **settings}
    )
    result = rc.run(experiment)
    clip = float(experiment.clipping.partition(":")[2]) if experiment.clipping != "none" else None
    losses, wrong = plain_program(experiment, clip)
    if clip is not None:
        assert (result.updates["clip_factor"] < 1).mean() > 0.2  # else clipping were not compared
    np.testing.assert_allclose(result.updates["loss"], losses, rtol=1e-9, atol=0)
    assert result["held_out_error"] == wrong
