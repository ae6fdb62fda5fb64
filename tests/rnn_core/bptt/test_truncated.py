"""Truncated backpropagation and clipping of the backward signal: against programs that do the same in PyTorch and NumPy."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.oracles.tensors import step_of
from tests.support.arrays import LIBRARIES, array, relative, worst_relative

CELLS = list(rc.CELLS)
T, B, D, H = 14, 2, 3, 4


def network(cell_name: str, steps: int = T) -> tuple[Any, ...]:
    rng = np.random.default_rng(7)
    cell = rc.CELLS[cell_name]("tanh")
    params = cell.init_params(rng, D, H, spectral_radius=1.3 if cell.has_matrix else None)
    params = {name: v + 0.1 * rng.standard_normal(v.shape) for name, v in params.items()}
    return cell, params, rng.standard_normal((steps, B, D)), rng.standard_normal((steps, B, H))


def detached(cell_name: str, params: Any, x: Any, grad: Any, window: int, cell: rc.Cell) -> tuple[Any, Any]:
    """(dL/dh_t, parameter gradients) of a torch loop that detaches its state every ``window`` steps before the last."""
    p = {name: torch.tensor(v, requires_grad=True) for name, v in params.items()}
    state = {name: torch.zeros(B, H, dtype=torch.float64) for name in cell.state_names}
    kept, loss = [], torch.zeros((), dtype=torch.float64)
    for t, x_t in enumerate(torch.tensor(x).unbind(0)):
        state = step_of(cell_name, "tanh")(p, x_t, state)
        state["hidden"].retain_grad()
        kept.append(state["hidden"])
        loss = loss + (state["hidden"] * torch.tensor(grad[t])).sum()
        if (len(x) - 1 - t) % window == 0:
            state = {name: part.detach() for name, part in state.items()}
    loss.backward()
    return np.stack([h.grad.numpy() for h in kept]), {name: v.grad.numpy() for name, v in p.items()}


@pytest.mark.parametrize("window", [1, 2, 5, 7, 13, 14, 30])
@pytest.mark.parametrize("cell_name", CELLS)
def test_a_window_is_a_detached_state(cell_name: str, window: int) -> None:
    """The signal is cut one step too early or too late, or only a part of the state is."""
    cell, params, x, grad = network(cell_name)
    tape = rc.forward(cell, params, x)
    gradients = rc.backward(tape, grad, window=window)
    hidden, expected = detached(cell_name, params, x, grad, window, cell)
    assert worst_relative(gradients.hidden, hidden) <= 1e-12
    for name, value in expected.items():
        assert relative(gradients.params[name], value) <= 1e-12, name


@pytest.mark.parametrize("window", [100, 128, 150, 299])
def test_windows_and_segments_do_not_know_each_other(window: int) -> None:
    """The window is counted within a segment instead of from the end of the sequence."""
    cell, params, x, grad = network("lstm", 300)
    gradients = rc.backward(rc.forward(cell, params, x), grad, window=window)
    hidden, _ = detached("lstm", params, x, grad, window, cell)
    assert worst_relative(gradients.hidden, hidden) <= 1e-11


@pytest.mark.parametrize("cell_name", CELLS)
def test_a_window_as_long_as_the_sequence_changes_nothing(cell_name: str) -> None:
    """The initial state's gradient, or a bit of any other, is lost although nothing is truncated."""
    cell, params, x, grad = network(cell_name)
    tape = rc.forward(cell, params, x)
    full, same = rc.backward(tape, grad), rc.backward(tape, grad, window=T)
    np.testing.assert_array_equal(same.hidden, full.hidden)
    for name in cell.state_names:
        np.testing.assert_array_equal(same.state[name], full.state[name])


def test_a_loss_at_the_last_step_reaches_back_exactly_the_window() -> None:
    """A window of k steps lets k - 1 or k + 1 of them see the loss."""
    cell, params, x, _ = network("vanilla")
    for window in (1, 4, 13):
        gradients = rc.backward(rc.forward(cell, params, x), grad_state={"hidden": np.ones((B, H))}, window=window)
        assert np.isfinite(gradients.log_norm[-window:]).all()
        assert (gradients.log_norm[:-window] == -math.inf).all()


def test_a_window_below_one_is_refused() -> None:
    """window = 0 means something that nobody asked for."""
    cell, params, x, grad = network("vanilla")
    with pytest.raises(ValueError, match=r"window: 0 is not allowed; it must be a number of steps, at least 1"):
        rc.backward(rc.forward(cell, params, x), grad, window=0)


@pytest.mark.parametrize("clipping", ["none", "norm:0.5"])
def test_the_bias_is_recorded_and_training_uses_it(clipping: str) -> None:
    """The bias of a truncated gradient is not its distance from the full one, or training goes on with the full one."""
    experiment = rc.Experiment(
        task="input_mean", spectral_radius=1.2, sequence_length=30, hidden_size=8, batch_size=4, updates=3,
        truncation=5, clipping=clipping, learning_rate=0.1,
    )  # fmt: skip
    result, problem = rc.run(experiment), rc.prepare(experiment)
    params = problem.params
    for update in range(3):
        e = rc.evaluate(problem, params, *problem.batch(update))
        cut = rc.backward(e.tape, e.grad_hidden, window=5).params
        used = {**e.param_grads, **cut}
        flat = [np.concatenate([np.ravel(g[n]) for n in used]) for g in (used, e.param_grads)]
        bias = np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1])
        assert result.updates["truncation_bias"][update] == pytest.approx(bias, rel=1e-12)
        assert bias > 1e-3
        params = rc.SGD(0.1).step(params, rc.parse_clipping(clipping)(used).grads)
    x, target = problem.held_out()
    held_out = rc.evaluate(replace(problem), params, x, target).loss
    assert result.summary["held_out_loss"] == pytest.approx(held_out, rel=1e-12)


def test_a_wider_window_has_less_bias() -> None:
    """The recorded bias does not measure what truncation loses."""
    biases = [
        rc.run(rc.Experiment(task="input_mean", sequence_length=40, hidden_size=16, truncation=k)).updates["truncation_bias"][0]
        for k in (1, 4, 16, 40)
    ]  # fmt: skip
    assert biases[0] > biases[1] > biases[2] > biases[3] == 0.0
    assert math.isnan(rc.run(rc.Experiment(sequence_length=5)).updates["truncation_bias"][0])


# ---- clipping the signal on its way back -------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("threshold", [0.05, 0.5])
def test_the_signal_is_clipped_at_every_step(threshold: float, library: str) -> None:
    """The recursion is clipped once, at another place, or not in what flows on."""
    cell, params, x, grad = network("vanilla")
    given = {name: array(v, library) for name, v in params.items()}
    tape = rc.forward(cell, given, array(x, library))
    gradients = rc.backward(tape, array(grad, library), signal_threshold=threshold)
    hidden = to_numpy(tape.hidden)
    flowing, dW = np.zeros((B, H)), np.zeros((H, H))
    for t in reversed(range(T)):
        dh = np.clip(grad[t] + flowing, -threshold, threshold)
        np.testing.assert_allclose(to_numpy(gradients.hidden[t]), dh, rtol=1e-12, atol=1e-15)
        da = (1 - hidden[t] ** 2) * dh
        dW += da.T @ (hidden[t - 1] if t else np.zeros((B, H)))
        flowing = da @ params["weight_hh"]
    assert relative(gradients.params["weight_hh"], dW) <= 1e-12
    assert np.abs(to_numpy(gradients.hidden)).max() == threshold


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("cell_name", CELLS)
def test_a_threshold_that_nothing_reaches_changes_no_bit(cell_name: str) -> None:
    """Clipping rounds what it does not clip."""
    cell, params, x, grad = network(cell_name)
    tape = rc.forward(cell, params, x)
    full, same = rc.backward(tape, grad), rc.backward(tape, grad, signal_threshold=1e6)
    np.testing.assert_array_equal(same.hidden, full.hidden)
    for name in full.params:
        np.testing.assert_array_equal(same.params[name], full.params[name])


def test_a_clipped_signal_cannot_explode() -> None:
    """The rule is for gradients that explode: here they would reach 10^3010."""
    cell = rc.VanillaCell("identity")
    params = {"weight_ih": np.ones((2, 1)), "weight_hh": 2.0 * np.eye(2)}
    tape = rc.forward(cell, params, np.zeros((10_000, 1, 1)))
    grad_state = {"hidden": np.array([[0.25, -0.5]])}
    full = rc.backward(tape, grad_state=grad_state)
    clipped = rc.backward(tape, grad_state=grad_state, signal_threshold=1.0)
    assert full.log_norm[0] / math.log(10.0) > 3000
    np.testing.assert_array_equal(clipped.hidden[0], [[1.0, -1.0]])


def test_a_run_says_what_clipping_the_signal_did() -> None:
    """The norm before is that of the clipped pass, or training goes on with unclipped gradients."""
    experiment = rc.Experiment(
        task="input_mean", activation="relu", spectral_radius=1.5, learning_rate=0.1, updates=10, hidden_size=32,
        sequence_length=50, clipping="signal:0.0003",
    )  # fmt: skip
    result, problem = rc.run(experiment), rc.prepare(experiment)
    e = rc.evaluate(problem, problem.params, *problem.batch(0))
    before = np.linalg.norm(np.concatenate([np.ravel(g) for g in e.param_grads.values()]))
    assert result.updates["log10_norm_before"][0] == pytest.approx(math.log10(before), rel=1e-12)
    assert result.updates["clip_factor"][0] < 0.9
    clipped = rc.backward(e.tape, e.grad_hidden, signal_threshold=0.0003).params
    params = rc.SGD(0.1).step(problem.params, {**e.param_grads, **clipped})
    second = rc.evaluate(problem, params, *problem.batch(1))
    assert result.updates["loss"][1] == pytest.approx(second.loss, rel=1e-12)
