"""The time loop and its backward pass against programs that share nothing with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.bptt import watch
from tests.rnn_core.engine_helpers import (
    DTYPES,
    EPS,
    LIBRARIES,
    Case,
    array,
    assert_agrees,
    autograd_program,
    cases,
    draw_case,
    quick,
    relative,
    worst_relative,
)

NAMES = list(rc.ACTIVATIONS)
EXACT = 1e-12  # relative, per time step, atol = 0


# ---- against torch.autograd and torch.nn.RNN -------------------------------------------------------------------------


@pytest.mark.parametrize("activation", NAMES)
@given(case=cases())
@quick
def test_backward_is_autograds(activation: str, case: Case) -> None:
    """A step of the delta recursion, a sum over time or batch, or the initial state is wrong."""
    tape, gradients = case.run(activation)
    assert_agrees(gradients, tape, autograd_program(activation, case), EXACT)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("activation", NAMES)
def test_both_libraries_give_autograds_gradients(activation: str, library: str) -> None:
    """The code path of one array library differs, or the results come back in another library or dtype."""
    case = draw_case(5, T=7, B=3, D=2, H=5, with_state=True)
    tape, gradients = case.to(library).run(activation)
    assert_agrees(gradients, tape, autograd_program(activation, case), EXACT)
    kind = type(array(0.0, library))
    results = [tape.hidden, gradients.hidden, gradients.x, gradients.state["hidden"], *gradients.params.values()]
    assert all(type(r) is kind and str(r.dtype).endswith("float64") for r in results)
    assert type(gradients.log_norm) is np.ndarray


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("activation", NAMES)
def test_float32_stays_float32(activation: str, library: str) -> None:
    """A float32 run is silently computed in float64 (or the other way round), or is worse than rounding explains."""
    case = draw_case(6, T=7, B=3, D=2, H=5, with_state=True)
    tape, gradients = case.to(library, "float32").run(activation)
    results = [tape.hidden, gradients.hidden, gradients.x, gradients.state["hidden"], *gradients.params.values()]
    assert all(str(r.dtype).endswith("float32") for r in results)
    assert gradients.log_norm.dtype == gradients.log_norm_immediate.dtype == np.float64
    assert_agrees(gradients, tape, autograd_program(activation, case), 2e-5)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@given(case=cases())
@quick
def test_backward_is_torch_nn_rnns(activation: str, case: Case) -> None:
    """Parameter names, shapes or the meaning of the two biases are not torch.nn.RNN's."""
    D, H = case.x.shape[2], case.params["weight_hh"].shape[0]
    module = torch.nn.RNN(D, H, nonlinearity=activation, dtype=torch.float64)
    with torch.no_grad():
        for name, value in case.params.items():
            getattr(module, f"{name}_l0").copy_(torch.tensor(value))
    x = torch.tensor(case.x, requires_grad=True)
    h0 = torch.tensor(case.state["hidden"] if case.state else np.zeros((x.shape[1], H)), requires_grad=True)
    hidden, last = module(x, h0[None])
    loss = (hidden * torch.tensor(case.grad_hidden)).sum()
    if case.grad_state:
        loss = loss + (last[0] * torch.tensor(case.grad_state["hidden"])).sum()
    loss.backward()

    tape, gradients = case.run(activation)
    assert worst_relative(tape.hidden, hidden) <= EXACT
    assert relative(tape.state["hidden"], last[0]) <= EXACT
    assert worst_relative(gradients.x, x.grad) <= EXACT
    assert relative(gradients.state["hidden"], h0.grad) <= EXACT
    for name, ours in gradients.params.items():
        assert relative(ours, getattr(module, f"{name}_l0").grad) <= EXACT, name


# ---- against central differences: any cell that is registered, with no program of its own ----------------------------


@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("cell_name", list(rc.CELLS))
def test_backward_against_central_differences(cell_name: str, activation: str) -> None:
    """A cell's backward is not the derivative of its forward. (Needs no reference: a new cell is tested at birth.)"""
    rng = np.random.default_rng(11)
    cell = rc.CELLS[cell_name](activation=activation)
    T, B, D, H = 6, 2, 3, 4
    params = cell.init_params(rng, D, H, "gaussian", 1.1)
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


@given(case=cases())
@quick
def test_log_norms_are_those_of_the_gradients(case: Case) -> None:
    """The curve that every figure shows is not the norm of dL/dh_t."""
    _, gradients = case.run("tanh")
    T = len(case.x)
    norms = np.linalg.norm(np.asarray(gradients.hidden).reshape(T, -1), axis=1)
    direct = np.linalg.norm(case.grad_hidden.reshape(T, -1), axis=1)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(gradients.log_norm, np.log(norms), rtol=0, atol=1e-14)
        np.testing.assert_allclose(gradients.log_norm_immediate, np.log(direct), rtol=0, atol=1e-14)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_step_that_no_loss_reaches_has_log_norm_minus_infinity(library: str) -> None:
    """A gradient that is exactly zero would be given some finite norm."""
    case = draw_case(1, T=5, B=2, D=1, H=3)
    case.grad_hidden[3:] = 0.0
    _, gradients = case.to(library).run("tanh")
    assert (gradients.log_norm[3:] == -math.inf).all()
    assert np.isfinite(gradients.log_norm[:3]).all()
    assert (gradients.log_norm_immediate[3:] == -math.inf).all()
    assert not to_numpy(gradients.hidden)[3:].any()


def test_nothing_to_differentiate_gives_zeros() -> None:
    """A zero gradient breaks the renormalisation."""
    case = draw_case(1, T=5, B=2, D=1, H=3)
    _, gradients = Case(case.params, case.x, np.zeros_like(case.grad_hidden), None, None).run("tanh")
    assert all(not np.asarray(g).any() for g in [*gradients.params.values(), gradients.x, gradients.hidden])
    assert (gradients.log_norm == -math.inf).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_inputs_are_not_changed(library: str) -> None:
    """forward or backward writes into the caller's arrays."""
    case, before = draw_case(2, 6, 2, 2, 4, with_state=True).to(library), draw_case(2, 6, 2, 2, 4, with_state=True)
    case.run("tanh")
    for name, value in before.params.items():
        np.testing.assert_array_equal(to_numpy(case.params[name]), value)
    np.testing.assert_array_equal(to_numpy(case.x), before.x)
    np.testing.assert_array_equal(to_numpy(case.grad_hidden), before.grad_hidden)
    assert case.state is not None and before.state is not None
    np.testing.assert_array_equal(to_numpy(case.state["hidden"]), before.state["hidden"])


def test_two_halves_make_a_whole() -> None:
    """The final state, or the gradient that enters and leaves through states, does not continue a sequence."""
    case = draw_case(3, T=9, B=2, D=3, H=4, with_state=True)
    whole_tape, whole = case.run("tanh")
    cell = rc.VanillaCell("tanh")
    first = rc.forward(cell, case.params, case.x[:4], case.state)
    second = rc.forward(cell, case.params, case.x[4:], first.state)
    late = rc.backward(second, case.grad_hidden[4:], case.grad_state)
    early = rc.backward(first, case.grad_hidden[:4], late.state)
    np.testing.assert_array_equal(np.concatenate([first.hidden, second.hidden]), whole_tape.hidden)
    assert worst_relative(np.concatenate([early.x, late.x]), whole.x) <= EXACT
    assert worst_relative(np.concatenate([early.hidden, late.hidden]), whole.hidden) <= EXACT
    assert relative(early.state["hidden"], whole.state["hidden"]) <= EXACT
    for name in whole.params:
        assert relative(np.asarray(early.params[name]) + np.asarray(late.params[name]), whole.params[name]) <= EXACT


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_final_state_is_the_last_hidden_state(dtype: str) -> None:
    """``tape.state`` is another step's."""
    tape, _ = draw_case(4, 5, 2, 2, 3, with_state=True).to("numpy", dtype).run("relu")
    np.testing.assert_array_equal(tape.state["hidden"], tape.hidden[-1])
    assert np.abs(tape.hidden).max() > EPS[dtype]


# ---- what does not fit is said -----------------------------------------------------------------------------------------


def _wrong_shapes() -> list[tuple[str, dict[str, Any]]]:
    case = draw_case(0, T=3, B=2, D=4, H=5)
    p = case.params
    return [
        (r"x: shape \(3, 4\) is not allowed; it must be \(T, B, D\)", {"x": case.x[:, 0]}),
        (r"x: shape \(0, 2, 4\) is not allowed", {"x": case.x[:0]}),
        (r"x: shape \(3, 2, 3\) does not fit; expected \(3, 2, 4\)", {"x": case.x[:, :, :3]}),
        (r"weight_hh: shape \(5, 4\) does not fit; expected \(5, 5\)", {"params": {**p, "weight_hh": p["weight_ih"]}}),
        (r"bias_ih: shape \(4,\) does not fit; expected \(5,\)", {"params": {**p, "bias_ih": np.zeros(4)}}),
        (r"bias_hh: shape \(5, 1\) does not fit", {"params": {**p, "bias_hh": np.zeros((5, 1))}}),
        (r"state\['hidden'\]: shape \(5, 2\) does not fit; expected \(2, 5\)", {"state": {"hidden": np.zeros((5, 2))}}),
        (r"state: 'hiden' is not known; .*Did you mean 'hidden'\?", {"state": {"hiden": np.zeros((2, 5))}}),
        (r"state: hidden is missing", {"state": {}}),
        (r"x: dtype int64 is not allowed; it must be float64 or float32", {"x": np.ones((3, 2, 4), dtype=np.int64)}),
        (r"x: list is not allowed; it must be a NumPy array or a torch tensor", {"x": case.x.tolist()}),
        (r"x: dtype float16 is not allowed", {"x": case.x.astype(np.float16)}),
        (r"weight_ih: float64 on cpu does not fit; x is float32 on cpu", {"x": case.x.astype(np.float32)}),
        (r"weight_ih: NumPy does not fit; x is torch", {"x": torch.tensor(case.x)}),
        (r"bias_hh: torch does not fit; x is NumPy", {"params": {**p, "bias_hh": torch.zeros(5).double()}}),
        (r"state\['hidden'\]: dtype int64 is not allowed", {"state": {"hidden": np.zeros((2, 5), dtype=np.int64)}}),
        (r"state: list is not allowed; it must be", {"state": [np.zeros((2, 5))]}),
        (
            r"grad_hidden: float32 on cpu does not fit; x is float64",
            {"grad_hidden": case.grad_hidden.astype(np.float32)},
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
    case = draw_case(0, T=3, B=2, D=4, H=5)
    given = {"params": case.params, "x": case.x, "state": None, "grad_hidden": case.grad_hidden, "grad_state": None}
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
    params = {name: torch.as_tensor(v) for name, v in cell.init_params(rng, 3, 6, spectral_radius=0.9).items()}
    x, grad = (torch.as_tensor(rng.standard_normal((100, 2, size))) for size in (3, 6))
    rc.backward(rc.forward(cell, params, x), grad)
    assert len(looked) == 4  # 100 steps, 32 at a time
