"""The time loop and its backward pass against programs that share nothing with it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.bptt import watch
from tests.support.arrays import DTYPES, EPS, LIBRARIES, quick, relative, worst_relative
from tests.support.networks import Network, draw_network, networks

NAMES = list(rc.ACTIVATIONS)
EXACT = 1e-12  # relative, per time step, atol = 0


# ---- against central differences: any cell that is registered, with no program of its own ----------------------------


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("cell_name", list(rc.CELLS))
def test_backward_against_central_differences(cell_name: str, activation: str) -> None:
    """A cell's backward is not the derivative of its forward. (Needs no reference: a new cell is tested at birth.)"""
    rng = np.random.default_rng(11)
    cell = rc.CELLS[cell_name](activation=activation)
    T, B, D, H = 6, 2, 3, 4
    params = cell.init_params(rng, D, H, "gaussian", 1.1 if cell.has_matrix else None)
    params = {name: value + 0.2 * rng.standard_normal(value.shape) for name, value in params.items()}
    state = {name: rng.standard_normal((B, H)) for name in cell.state_names}
    inputs: dict[str, Any] = {"x": rng.standard_normal((T, B, D)), **params, **{f"h0 {n}": v for n, v in state.items()}}
    grad_hidden = rng.standard_normal((T, B, H))
    grad_state = {name: rng.standard_normal((B, H)) for name in cell.state_names}

    def run(values: dict[str, Any]) -> tuple[float, rc.Tape]:
        p = {name: values[name] for name in params}
        tape = rc.forward(cell, p, values["x"], {name: values[f"h0 {name}"] for name in state})
        final = sum(float((tape.state[name] * grad_state[name]).sum()) for name in state)
        return float((tape.hidden * grad_hidden).sum()) + final, tape

    gradients = rc.backward(run(inputs)[1], grad_hidden, grad_state)
    ours = {"x": gradients.x, **gradients.params, **{f"h0 {n}": v for n, v in gradients.state.items()}}
    step = 1e-5
    for name, value in inputs.items():
        direction = rng.standard_normal(value.shape)
        higher, _ = run({**inputs, name: value + step * direction})
        lower, _ = run({**inputs, name: value - step * direction})
        slope = float((ours[name] * direction).sum())
        scale = float(np.linalg.norm(ours[name]) * np.linalg.norm(direction))
        assert abs((higher - lower) / (2 * step) - slope) <= 1e-8 * scale, name


# ---- what the results say about themselves ---------------------------------------------------------------------------


@given(network=networks())
@quick
def test_log_norms_are_those_of_the_gradients(network: Network) -> None:
    """The curve that every figure shows is not the norm of dL/dh_t."""
    _, gradients = network.run()
    T = len(network.x)
    norms = np.linalg.norm(np.asarray(gradients.hidden).reshape(T, -1), axis=1)
    direct = np.linalg.norm(network.grad_hidden.reshape(T, -1), axis=1)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(gradients.log_norm, np.log(norms), rtol=0, atol=1e-14)
        np.testing.assert_allclose(gradients.log_norm_immediate, np.log(direct), rtol=0, atol=1e-14)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_step_that_no_loss_reaches_has_log_norm_minus_infinity(library: str) -> None:
    """A gradient that is exactly zero would be given some finite norm."""
    network = draw_network(seed=1, T=5, B=2, D=1, H=3, with_state=False)
    network.grad_hidden[3:] = 0.0
    _, gradients = network.to(library).run()
    assert (gradients.log_norm[3:] == -math.inf).all()
    assert np.isfinite(gradients.log_norm[:3]).all()
    assert (gradients.log_norm_immediate[3:] == -math.inf).all()
    assert not to_numpy(gradients.hidden)[3:].any()


def test_nothing_to_differentiate_gives_zeros() -> None:
    """A zero gradient breaks the renormalisation."""
    network = draw_network(seed=1, T=5, B=2, D=1, H=3, with_state=False)
    _, gradients = replace(network, grad_hidden=np.zeros_like(network.grad_hidden)).run()
    assert all(not np.asarray(g).any() for g in [*gradients.params.values(), gradients.x, gradients.hidden])
    assert (gradients.log_norm == -math.inf).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_inputs_are_not_changed(library: str) -> None:
    """forward or backward writes into the caller's arrays."""
    before = draw_network(seed=2)
    network = before.to(library)
    network.run()
    for name, value in before.params.items():
        np.testing.assert_array_equal(to_numpy(network.params[name]), value)
    np.testing.assert_array_equal(to_numpy(network.x), before.x)
    np.testing.assert_array_equal(to_numpy(network.grad_hidden), before.grad_hidden)
    for part in ("state", "grad_state"):
        np.testing.assert_array_equal(to_numpy(getattr(network, part)["hidden"]), getattr(before, part)["hidden"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_final_state_is_the_last_hidden_state(dtype: str) -> None:
    """``tape.state`` is another step's."""
    tape, _ = draw_network(activation="relu", seed=4).to("numpy", dtype).run()
    np.testing.assert_array_equal(tape.state["hidden"], tape.hidden[-1])
    assert np.abs(tape.hidden).max() > EPS[dtype]


# ---- what does not fit is said -----------------------------------------------------------------------------------------


def _wrong_shapes() -> list[tuple[str, dict[str, Any]]]:
    network = draw_network(T=3, B=2, D=4, H=5)
    p = network.params
    return [
        (r"x: shape \(3, 4\) is not allowed; it must be \(T, B, D\)", {"x": network.x[:, 0]}),
        (r"x: shape \(0, 2, 4\) is not allowed", {"x": network.x[:0]}),
        (r"x: shape \(3, 2, 3\) does not fit; expected \(3, 2, 4\)", {"x": network.x[:, :, :3]}),
        (r"weight_hh: shape \(5, 4\) does not fit; expected \(5, 5\)", {"params": {**p, "weight_hh": p["weight_ih"]}}),
        (r"bias_ih: shape \(4,\) does not fit; expected \(5,\)", {"params": {**p, "bias_ih": np.zeros(4)}}),
        (r"bias_hh: shape \(5, 1\) does not fit", {"params": {**p, "bias_hh": np.zeros((5, 1))}}),
        (r"state\['hidden'\]: shape \(5, 2\) does not fit; expected \(2, 5\)", {"state": {"hidden": np.zeros((5, 2))}}),
        (r"state: 'hiden' is not known; .*Did you mean 'hidden'\?", {"state": {"hiden": np.zeros((2, 5))}}),
        (r"state: hidden is missing", {"state": {}}),
        (r"x: dtype int64 is not allowed; it must be float64 or float32", {"x": np.ones((3, 2, 4), dtype=np.int64)}),
        (r"x: list is not allowed; it must be a NumPy array or a torch tensor", {"x": network.x.tolist()}),
        (r"x: dtype float16 is not allowed", {"x": network.x.astype(np.float16)}),
        (r"weight_ih: float64 on cpu does not fit; x is float32 on cpu", {"x": network.x.astype(np.float32)}),
        (r"weight_ih: NumPy does not fit; x is torch", {"x": torch.tensor(network.x)}),
        (r"bias_hh: torch does not fit; x is NumPy", {"params": {**p, "bias_hh": torch.zeros(5).double()}}),
        (r"state\['hidden'\]: dtype int64 is not allowed", {"state": {"hidden": np.zeros((2, 5), dtype=np.int64)}}),
        (r"state: list is not allowed; it must be", {"state": [np.zeros((2, 5))]}),
        (
            r"grad_hidden: float32 on cpu does not fit; x is float64",
            {"grad_hidden": network.grad_hidden.astype(np.float32)},
        ),
        (r"weight_ih: shape \(5,\) is not allowed; it must be a matrix", {"params": {**p, "weight_ih": np.zeros(5)}}),
        (r"params: weight_hh is missing; the cell 'vanilla' needs it", {"params": {"weight_ih": p["weight_ih"]}}),
        (r"grad_hidden: shape \(3, 5, 2\) does not fit; expected \(3, 2, 5\)", {"grad_hidden": np.zeros((3, 5, 2))}),
        (r"grad_state\['hidden'\]: shape \(5,\) does not fit", {"grad_state": {"hidden": np.zeros(5)}}),
        (r"grad_state: 'cell' is not known", {"grad_state": {"cell": np.zeros((2, 5))}}),
    ]


@pytest.mark.parametrize(("message", "change"), _wrong_shapes())
def test_shapes_that_do_not_fit_are_named(message: str, change: dict[str, Any]) -> None:
    """A wrong shape is broadcast into a wrong result, or fails somewhere inside without naming the argument."""
    network = draw_network(T=3, B=2, D=4, H=5)
    given = {
        "params": network.params,
        "x": network.x,
        "state": None,
        "grad_hidden": network.grad_hidden,
        "grad_state": None,
    }
    given |= change
    with pytest.raises(ValueError, match=message):
        tape = rc.forward(rc.VanillaCell("tanh"), given["params"], given["x"], given["state"])
        rc.backward(tape, given["grad_hidden"], given["grad_state"])


def test_torch_parameters_that_require_gradients_are_taken_as_they_are() -> None:
    """torch records every operation of ours, and fails where we write into an array."""
    module = torch.nn.GRU(4, 5, dtype=torch.float64)
    params = {name.removesuffix("_l0"): value for name, value in module.named_parameters()}
    x = torch.randn(6, 2, 4, dtype=torch.float64, requires_grad=True)
    hidden, _ = module(x)
    hidden.sum().backward()
    gradients = rc.backward(rc.forward(rc.GRUCell(), params, x), torch.ones_like(hidden, requires_grad=True))
    for name, ours in gradients.params.items():
        assert not ours.requires_grad
        assert relative(ours, params[name].grad) <= EXACT, name
    assert x.grad is not None
    assert worst_relative(gradients.x, x.grad) <= EXACT


@pytest.mark.parametrize("cell_name", list(rc.CELLS))
def test_many_steps_are_computed_before_any_is_looked_at(cell_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the loop waits for every step: ten times slower, and no number says so."""
    looked: list[int] = []
    monkeypatch.setattr(watch, "to_numpy", lambda array: (looked.append(1), to_numpy(array))[1])
    cell, rng = rc.CELLS[cell_name]("tanh"), np.random.default_rng(0)
    drawn = cell.init_params(rng, 3, 6, spectral_radius=0.9 if cell.has_matrix else None)
    params = {name: torch.as_tensor(v) for name, v in drawn.items()}
    x, grad = (torch.as_tensor(rng.standard_normal((100, 2, size))) for size in (3, 6))
    rc.backward(rc.forward(cell, params, x), grad)
    once_more = (
        cell_name == "slstm"
    )  # for its normaliser's gradient is zero at the last step: nothing, or too small for its square?
    assert len(looked) == 4 + once_more  # 100 steps, 32 at a time
