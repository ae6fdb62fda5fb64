"""CUDA against the CPU. The same checks also run on torch tensors on the CPU, so that they are known to work without a GPU."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.arrays import resolve_device, to_numpy
from rnn_core.oracles import autograd, torch_modules
from rnn_core.oracles.compare import relative_error, worst_step
from tests.support.networks import BIASES, draw_network, zero_input_problem
from tests.support.programs import assert_agrees, autograd_program

LIMIT = 1e-10  # relative, per time step, float64
# "cpu:0" is a torch device but not the name that means NumPy, so it takes the path that CUDA takes.
devices = pytest.mark.parametrize("device", ["cpu:0", pytest.param("cuda", marks=pytest.mark.gpu)])


def evaluate(experiment: rc.Experiment, device: str, data: rc.Sequences | None = None) -> tuple[rc.Problem, Any]:
    problem = rc.prepare(experiment, data, device)
    return problem, rc.evaluate(problem, problem.params, *problem.batch(0))


every_cell = pytest.mark.parametrize("cell", list(rc.CELLS))


@devices
@pytest.mark.parametrize("activation", list(rc.ACTIVATIONS))
@pytest.mark.parametrize("loss_at", ["last", "every"])
@every_cell
def test_gradients_are_the_cpus(cell: str, activation: str, loss_at: str, device: str) -> None:
    """A kernel of the GPU computes something else (TF32 products would be wrong in the fourth digit)."""
    experiment = rc.Experiment(
        cell=cell, activation=activation, loss_at=loss_at, hidden_size=32, sequence_length=40, batch_size=8
    )  # fmt: skip
    (_, cpu), (problem, there) = evaluate(experiment, "cpu"), evaluate(experiment, device)
    assert str(problem.params["weight_ih"].device).startswith(device.split(":")[0])
    assert there.loss == pytest.approx(cpu.loss, rel=LIMIT)
    assert worst_step("x", there.gradients.x, cpu.gradients.x).relative < LIMIT
    for name in problem.cell.state_names:
        assert worst_step(name, there.tape.states(name), cpu.tape.states(name)).relative < LIMIT
        theirs, ours = there.gradients.parts[name], cpu.gradients.parts[name]
        assert worst_step(name, theirs, ours).relative < LIMIT
        assert relative_error(there.tape.state[name], cpu.tape.state[name]) < LIMIT
        assert relative_error(there.gradients.state[name], cpu.gradients.state[name]) < LIMIT
    for name, gradient in cpu.param_grads.items():
        assert relative_error(there.param_grads[name], gradient) < LIMIT, name
    np.testing.assert_allclose(there.gradients.log_norm, cpu.gradients.log_norm, rtol=0, atol=LIMIT)
    if cpu.gradients.log_norm_cell is not None:
        np.testing.assert_allclose(there.gradients.log_norm_cell, cpu.gradients.log_norm_cell, rtol=0, atol=LIMIT)


@devices
@pytest.mark.parametrize("biases", list(BIASES))
@every_cell
def test_states_and_biases_are_taken_there(cell: str, biases: str, device: str) -> None:
    """Initial states, gradients of final ones or absent biases are made on the wrong device, or differ there."""
    network = draw_network(cell, biases=biases)

    def there(values: dict[str, Any] | None) -> dict[str, Any] | None:
        return values and {name: torch.as_tensor(value, device=device) for name, value in values.items()}

    placed = replace(
        network,
        params=there(network.params),
        x=torch.as_tensor(network.x, device=device),
        grad_hidden=torch.as_tensor(network.grad_hidden, device=device),
        state=there(network.state),
        grad_state=there(network.grad_state),
    )
    tape, gradients = placed.run()
    assert_agrees(tape, gradients, autograd_program(network), LIMIT)
    results = [tape.hidden, gradients.hidden, gradients.x, *gradients.params.values(), *gradients.state.values()]
    assert all(str(r.device).startswith(device.split(":")[0]) for r in results)


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
@pytest.mark.parametrize(
    ("cell", "clipping"),
    [
        ("vanilla", "none"),
        ("vanilla", "norm:0.5"),
        ("vanilla", "value:0.05"),
        *((cell, "norm:0.5") for cell in list(rc.CELLS)[1:]),
    ],
)
def test_a_whole_run_is_the_cpus(cell: str, clipping: str, device: str) -> None:
    """Training, clipping, traces or the held-out loss take another path on the GPU."""
    experiment = rc.Experiment(
        task="input_mean", cell=cell, hidden_size=16, sequence_length=20, batch_size=4, updates=6, trace_every=2,
        clipping=clipping,
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
@every_cell
def test_the_oracles_work_there(cell: str, device: str) -> None:
    """The gate must check the engine on the device that the sweep uses."""
    experiment = rc.Experiment(cell=cell, hidden_size=12, sequence_length=15, batch_size=3)
    problem, evaluation = evaluate(experiment, device)
    x, target = problem.batch(0)
    assert autograd.check(problem, problem.params, x, target, evaluation).relative < LIMIT
    if torch_modules.module_of(problem):
        grad_hidden = torch.ones((15, 3, 12), dtype=torch.float64, device=device)
        assert torch_modules.check(problem, x, grad_hidden).relative < LIMIT


def test_devices_are_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was meant for the GPU goes to the CPU without a word, or ``auto`` fails where there is none."""
    assert resolve_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == "cpu"
    with pytest.raises(RuntimeError, match="device: cuda was asked for, but torch finds no CUDA device"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("cuda") == "cuda"
