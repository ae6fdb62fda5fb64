"""CUDA against the CPU. The same checks also run on torch tensors on the CPU, so that they are known to work without a GPU."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.arrays import resolve_device, to_numpy
from rnn_core.oracles import autograd, torch_modules
from rnn_core.oracles.compare import relative_error, worst_step
from tests.rnn_core.engine_helpers import zero_input_problem

LIMIT = 1e-10  # relative, per time step, float64
# "cpu:0" is a torch device but not the name that means NumPy, so it takes the path that CUDA takes.
devices = pytest.mark.parametrize("device", ["cpu:0", pytest.param("cuda", marks=pytest.mark.gpu)])


def evaluate(experiment: rc.Experiment, device: str, data: rc.Sequences | None = None) -> tuple[rc.Problem, Any]:
    problem = rc.prepare(experiment, data, device)
    return problem, rc.evaluate(problem, problem.params, *problem.batch(0))


@devices
@pytest.mark.parametrize("activation", list(rc.ACTIVATIONS))
@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_gradients_are_the_cpus(activation: str, loss_at: str, device: str) -> None:
    """A kernel of the GPU computes something else (TF32 products would be wrong in the fourth digit)."""
    experiment = rc.Experiment(activation=activation, loss_at=loss_at, hidden_size=32, sequence_length=40, batch_size=8)
    (_, cpu), (problem, there) = evaluate(experiment, "cpu"), evaluate(experiment, device)
    assert str(problem.params["weight_hh"].device).startswith(device.split(":")[0])
    assert there.loss == pytest.approx(cpu.loss, rel=LIMIT)
    assert worst_step("hidden", there.gradients.hidden, cpu.gradients.hidden).relative < LIMIT
    assert worst_step("x", there.gradients.x, cpu.gradients.x).relative < LIMIT
    assert relative_error(there.gradients.state["hidden"], cpu.gradients.state["hidden"]) < LIMIT
    for name, gradient in cpu.param_grads.items():
        assert relative_error(there.param_grads[name], gradient) < LIMIT, name
    np.testing.assert_allclose(there.gradients.log_norm, cpu.gradients.log_norm, rtol=0, atol=LIMIT)


@devices
@pytest.mark.parametrize("rho", [0.5, 2.0])
def test_beyond_range_too(rho: float, device: str) -> None:
    """The exponent is lost on the way to the GPU, or back."""
    problem, x, target = zero_input_problem("identity", rho, T=1500)
    params = {name: torch.as_tensor(value, device=device) for name, value in problem.params.items()}
    there = rc.evaluate(problem, params, torch.as_tensor(x, device=device), torch.as_tensor(target, device=device))
    expected = math.log(rho) * np.arange(1499, -1, -1)
    np.testing.assert_allclose(there.gradients.log_norm - there.gradients.log_norm[-1], expected, rtol=1e-12, atol=1e-9)
    assert isinstance(there.gradients.hidden, rc.Scaled)
    assert str(there.gradients.hidden.mantissa.device).startswith(device.split(":")[0])


@devices
@pytest.mark.parametrize("clipping", ["none", "norm:0.5", "value:0.05"])
def test_a_whole_run_is_the_cpus(clipping: str, device: str) -> None:
    """Training, clipping, traces or the held-out loss take another path on the GPU."""
    experiment = rc.Experiment(
        task="input_mean", hidden_size=16, sequence_length=20, batch_size=4, updates=6, trace_every=2, clipping=clipping
    )  # fmt: skip
    cpu, there = rc.run(experiment), rc.run(experiment, device=device)
    for ours, theirs in ((cpu.traces, there.traces), (cpu.updates, there.updates)):
        assert list(ours) == list(theirs)
        for name in ours:
            assert theirs[name].dtype == ours[name].dtype, name
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-9, atol=1e-9, err_msg=name)
    for name, value in cpu.summary.items():
        if isinstance(value, float):
            np.testing.assert_allclose(there.summary[name], value, rtol=1e-8, atol=1e-9, err_msg=name)
        else:
            assert there.summary[name] == value, name


@devices
def test_labels_and_float32(device: str) -> None:
    """Integer targets, or the dtype of a float32 run, are lost on the GPU."""
    rng = np.random.default_rng(0)
    data = rc.Sequences(
        rng.standard_normal((12, 10, 3)), rng.integers(0, 4, 12), np.arange(12) < 4, "softmax_cross_entropy", "last"
    )
    for dtype, limit in (("float64", LIMIT), ("float32", 2e-5)):
        experiment = rc.Experiment(task="labels", hidden_size=16, sequence_length=10, batch_size=6, dtype=dtype)
        (_, cpu), (_, there) = evaluate(experiment, "cpu", data), evaluate(experiment, device, data)
        assert there.accuracy == cpu.accuracy
        assert there.gradients.hidden.dtype == getattr(torch, dtype)
        assert worst_step("hidden", there.gradients.hidden, to_numpy(cpu.gradients.hidden)).relative < limit


@devices
def test_the_oracles_work_there(device: str) -> None:
    """The gate must check the engine on the device that the sweep uses."""
    experiment = rc.Experiment(hidden_size=12, sequence_length=15, batch_size=3)
    problem, evaluation = evaluate(experiment, device)
    x, target = problem.batch(0)
    assert autograd.check(problem, problem.params, x, target, evaluation).relative < LIMIT
    grad_hidden = torch.ones((15, 3, 12), dtype=torch.float64, device=device)
    assert torch_modules.check(problem, x, grad_hidden).relative < LIMIT
    assert not autograd.confirms_nonfinite(problem, problem.params, x, target)


def test_devices_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was meant for the GPU goes to the CPU without a word, or ``auto`` fails where there is none."""
    assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(RuntimeError, match="device: cuda was asked for, but torch finds no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
