"""Several layers: every dL/dh_t of every layer against torch, exact laws of linear stacks beyond range, and bugs that must be seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rnn_core as rc
from rnn_core import bptt
from rnn_core.bptt import stack
from rnn_core.oracles import autograd, tensors, torch_modules
from rnn_core.oracles.compare import relative_error, worst_step
from rnn_core.oracles.problems import with_biases
from rnn_core.scaling import plain
from tests.support.trained import assert_derivative_of_the_loss

LIMIT = 1e-10  # relative, of a step or a parameter; atol = 0
T, B, D, H, LAYERS = 12, 3, 2, 5, 3
MODULES = {"vanilla": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}


def problem_of(cell: str, **changes: Any) -> rc.Problem:
    settings = {
        "cell": cell, "layers": LAYERS, "hidden_size": H, "input_size": D, "sequence_length": T, "batch_size": B, "spectral_radius": 1.2,
        "loss_at": "every",
    } | changes  # fmt: skip
    if not rc.CELLS[cell].has_matrix:
        del settings["spectral_radius"]
    if "spectral_radius" not in changes and cell == "indrnn":
        settings["spectral_radius"] = 0.9
    return with_biases(rc.prepare(rc.Experiment(**settings)))


def unrolled(
    problem: rc.Problem, x: np.ndarray, grad: np.ndarray, step: Callable[..., Any]
) -> tuple[list[list[Tensor]], dict[str, Tensor], Tensor]:
    """(h_t of every layer with its gradient, parameters with theirs, x with its own) of the whole stack, unrolled in torch."""
    params = {name: torch.tensor(value, requires_grad=True) for name, value in problem.params.items()}
    given, states = torch.tensor(x, requires_grad=True), []
    inputs = list(given.unbind(0))
    for layer in range(problem.layers):
        own = bptt.params_of_layer(params, layer)
        state = {name: torch.zeros(x.shape[1], H, dtype=torch.float64) for name in problem.cell.state_names}
        states.append([])
        for x_t in inputs:
            state = step(own, x_t, state)
            state["hidden"].retain_grad()
            states[-1].append(state["hidden"])
        inputs = states[-1]
    torch.autograd.backward(states[-1], list(torch.tensor(grad)))
    return states, params, given


def compare(problem: rc.Problem, step: Callable[..., Any]) -> None:
    rng = np.random.default_rng(1)
    x, grad = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, H))
    tapes = bptt.run_stack(problem.cell, problem.params, x, problem.layers)
    found = bptt.back_through_stack(tapes, grad)
    states, params, given = unrolled(problem, x, grad, step)
    for layer, (tape, gradients, of_layer) in enumerate(zip(tapes, found, states, strict=True)):
        after = torch.stack(of_layer).detach().numpy()
        total = torch.stack([h.grad for h in of_layer]).numpy()
        assert worst_step("state", tape.hidden, after).relative < LIMIT, layer
        assert worst_step("hidden", gradients.hidden, total).relative < LIMIT, layer
        norms = np.log(np.linalg.norm(total.reshape(T, -1), axis=1))
        np.testing.assert_allclose(gradients.log_norm, norms, rtol=0, atol=LIMIT)
    assert worst_step("x", found[0].x, given.grad.numpy()).relative < LIMIT
    names = bptt.stack_gradients(found)
    assert set(names) == {name for name in problem.params if not name.endswith("_ho")}
    for name, gradient in names.items():
        assert relative_error(gradient, params[name].grad.numpy()) < LIMIT, name


@pytest.mark.parametrize("cell", list(rc.CELLS))
@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid", "identity"])
def test_every_layer_is_that_of_a_whole_stack_in_autograd(cell: str, activation: str) -> None:
    """A layer reads something else than the states below it, or gets another direct part than dL/dx_t of the layer above."""
    problem = problem_of(cell, activation=activation)
    compare(problem, tensors.step_of(cell, activation))


@pytest.mark.parametrize("cell", list(MODULES))
def test_every_layer_is_that_of_torch_modules(cell: str) -> None:
    """The oracles' own equations share a mistake with the engine."""

    def step(p: dict[str, Tensor], x_t: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        module = MODULES[cell](x_t.shape[1], H, dtype=torch.float64)
        before = tuple(state.values())
        after = torch.func.functional_call(module, p_of(p), (x_t, before if len(before) > 1 else before[0]))
        return dict(zip(state, after if isinstance(after, tuple) else (after,), strict=True))

    def p_of(p: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: value for name, value in p.items() if not name.endswith("_ho")}

    compare(problem_of(cell), step)


@pytest.mark.parametrize(
    ("cell", "module"), [("vanilla", torch.nn.RNN), ("gru", torch.nn.GRU), ("lstm", torch.nn.LSTM)]
)
def test_a_stack_is_num_layers_of_torch(cell: str, module: type[torch.nn.RNNBase]) -> None:
    """Layers are stacked in another order than torch.nn stacks them, or a name stands for another layer's parameter."""
    problem = problem_of(cell)
    rng = np.random.default_rng(2)
    x, grad = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, H))
    net = module(D, H, num_layers=LAYERS, dtype=torch.float64)
    own = {name: value for name, value in problem.params.items() if not name.endswith("_ho")}
    named = {name if "_l" in name else f"{name}_l0": torch.tensor(value) for name, value in own.items()}
    net.load_state_dict(named)
    given = torch.tensor(x, requires_grad=True)
    output, _ = net(given)
    output.backward(torch.tensor(grad))
    tapes = bptt.run_stack(problem.cell, problem.params, x, LAYERS)
    found = bptt.back_through_stack(tapes, grad)
    assert worst_step("state", tapes[-1].hidden, output.detach().numpy()).relative < LIMIT
    assert worst_step("x", found[0].x, given.grad.numpy()).relative < LIMIT
    for name, gradient in bptt.stack_gradients(found).items():
        theirs = getattr(net, name if "_l" in name else f"{name}_l0").grad
        assert relative_error(gradient, theirs.numpy()) < LIMIT, name


@pytest.mark.parametrize("cell", ["vanilla", "lstm", "layer_norm", "lru"])
def test_central_differences_of_the_loss(cell: str) -> None:
    """What training follows is not the derivative of the loss: torch and the engine share a mistake."""
    assert_derivative_of_the_loss(problem_of(cell, layers=2, hidden_size=4, sequence_length=5))


# ---- exact laws of linear stacks -------------------------------------------------------------------------------------------


def linear_stack(rho: float, g: float, layers: int, H: int = 1) -> dict[str, np.ndarray]:
    """W_hh = ρ I in every layer; W_ih = I in the first and g I above it."""
    params = {}
    for layer in range(layers):
        params[bptt.name_in_layer("weight_ih", layer)] = np.eye(H) * (g if layer else 1.0)
        params[bptt.name_in_layer("weight_hh", layer)] = np.eye(H) * rho
    return params


def log_binomial(n: int, k: int) -> float:
    return math.log(math.comb(n, k))


@pytest.mark.parametrize(("rho", "g"), [(2.0, 1.0), (0.5, 1.0), (2.0, 0.5), (0.9, 1.3), (1.0, 1.0)])
@pytest.mark.parametrize("as_function", [False, True])
def test_paths_through_depth_and_time_are_counted(rho: float, g: float, as_function: bool) -> None:
    """dL/dh of d layers down and k steps back is C(k + d, d) g^d ρ^k times that of the last: at any size, in every layer.

    A path is lost, or an exponent is, where a signal of 2^2000 goes from layer to layer.
    """
    T, layers = 2000, 3
    tapes = bptt.run_stack(rc.VanillaCell("identity"), linear_stack(rho, g, layers, 2), np.zeros((T, 1, 2)), layers)
    grad = np.zeros((T, 1, 2))
    grad[-1] = [[3.0, 4.0]]
    direct = (lambda start, stop: grad[start:stop]) if as_function else grad
    found = bptt.back_through_stack(tapes, direct)
    for d, gradients in enumerate(found[::-1]):
        law = [math.log(5.0) + k * math.log(rho) + d * math.log(g) + log_binomial(k + d, d) for k in range(T)]
        np.testing.assert_allclose(gradients.log_norm[::-1], law, rtol=1e-13, atol=1e-11)


@pytest.mark.parametrize("rho", [2.0, 0.5, 1.0])
def test_every_layer_has_the_same_gradient_in_a_linear_stack(rho: float) -> None:
    """h_T of the last layer is a symmetric polynomial of the layers' ρ: so dL/dρ is C(T + L - 2, L) ρ^(T-2) in every layer, dL/dg is
    C(T + L - 2, L - 1) ρ^(T-1). States go up to 2^2000, and are inputs of the layer above.
    """
    T, layers = 2000, 3
    x = np.zeros((T, 1, 1))
    x[0] = 1.0
    tapes = bptt.run_stack(rc.VanillaCell("identity"), linear_stack(rho, 1.0, layers), x, layers)
    assert isinstance(tapes[0].hidden, rc.Scaled) == (rho != 1.0)
    grad = np.zeros((T, 1, 1))
    grad[-1] = 1.0
    gradients = bptt.stack_gradients(bptt.back_through_stack(tapes, grad))
    recurrent = log_binomial(T + layers - 2, layers) + (T - 2) * math.log(rho)
    upwards = log_binomial(T + layers - 2, layers - 1) + (T - 1) * math.log(rho)
    for layer in range(layers):
        of_layer = {name: bptt.name_in_layer(name, layer) for name in ("weight_hh", "weight_ih")}
        assert rc.scaling.log_norm(gradients[of_layer["weight_hh"]]) == pytest.approx(recurrent, rel=1e-12, abs=1e-10)
        assert rc.scaling.log_norm(gradients[of_layer["weight_ih"]]) == pytest.approx(upwards, rel=1e-12, abs=1e-10)
    for layer, tape in enumerate(tapes):
        log_h = [log_binomial(t + layer, layer) + t * math.log(rho) for t in range(T)]
        np.testing.assert_allclose(rc.scaling.log_norms(tape.hidden), log_h, rtol=1e-13, atol=1e-11)


def test_an_input_beyond_range_is_what_it_is_in_range() -> None:
    """An exponent of an input is used twice, or in one of the sums alone."""
    rng, cell = np.random.default_rng(3), rc.VanillaCell("relu")
    params = cell.init_params(rng, 3, 4, "gaussian", 1.1)
    x, grad = rng.standard_normal((200, 2, 3)), rng.standard_normal((200, 2, 4))
    exponent = rng.integers(-40, 40, 200)
    as_floats = np.ldexp(x, exponent[:, None, None])
    plain_tape, tape = rc.forward(cell, params, as_floats), rc.forward(cell, params, rc.Scaled(x, exponent))
    assert worst_step("hidden", tape.hidden, plain_tape.hidden).relative < 1e-13
    expected, found = rc.backward(plain_tape, grad), rc.backward(tape, grad)
    for name, gradient in expected.params.items():
        assert relative_error(found.params[name], gradient) < 1e-12, name
    assert worst_step("x", found.x, expected.x).relative < 1e-12
    np.testing.assert_allclose(found.weight_shares.log_norm, expected.weight_shares.log_norm, rtol=1e-12)
    np.testing.assert_allclose(found.log_norm_samples, expected.log_norm_samples, rtol=1e-12)
    far = rc.forward(cell, params, rc.Scaled(x, exponent + 5000))  # a homogeneous cell scales with its inputs
    assert worst_step("hidden", far.hidden, times(tape.hidden, 5000)).relative < 1e-13
    gradient = rc.backward(far, grad).params["weight_ih"]
    assert relative_error(gradient, times(found.params["weight_ih"], 5000)) < 1e-12


def times(x: Any, exponent: int) -> rc.Scaled:
    return rc.Scaled(x.mantissa, x.exponent + exponent) if isinstance(x, rc.Scaled) else rc.Scaled(x, exponent)


# ---- truncation, clipping on the way back -----------------------------------------------------------------------------------


def test_truncation_detaches_every_layer() -> None:
    """The window cuts the last layer alone."""
    problem = problem_of("vanilla", loss_at="last", sequence_length=9)
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    grads = evaluation.backward(window=4)
    states, params = [torch.zeros(B, H, dtype=torch.float64)] * LAYERS, {}
    params = {name: torch.tensor(value, requires_grad=True) for name, value in problem.params.items()}
    step = tensors.step_of("vanilla", "tanh")
    for t, x_t in enumerate(torch.tensor(x)):
        if (9 - t) % 4 == 0:
            states = [state.detach() for state in states]
        given = x_t
        for layer in range(LAYERS):
            given = step(bptt.params_of_layer(params, layer), given, {"hidden": states[layer]})["hidden"]
            states[layer] = given
    y = states[-1] @ params["weight_ho"].T + params["bias_ho"]
    tensors.mean_loss(problem.task.loss, y[None], torch.tensor(target)[None]).backward()
    for name, gradient in grads.items():
        assert relative_error(gradient, params[name].grad.numpy()) < LIMIT, name


def test_a_signal_threshold_acts_on_every_layer() -> None:
    """Entries of a layer below stay above it."""
    problem = problem_of("vanilla")
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    tapes = [layer.tape for layer in evaluation.layers]
    clipped = bptt.back_through_stack(tapes, evaluation.grad_hidden, signal_threshold=1e-3)
    assert all(np.abs(plain(gradients.hidden)).max() <= 1e-3 for gradients in clipped)


# ---- planted bugs -----------------------------------------------------------------------------------------------------------


def checked(problem: rc.Problem) -> float:
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    return autograd.check(problem, problem.params, x, target, evaluation).relative


def through_wrong_weights(tapes: list[rc.Tape], grad_hidden: Any, **options: Any) -> list[rc.Gradients]:
    """The layer below gets dL/dh_t of the layer above, as if W_ih were the identity."""
    found: list[rc.Gradients] = []
    for tape in reversed(tapes):
        found.append(rc.backward(tape, found[-1].hidden if found else grad_hidden, **options))
    return found[::-1]


def to_every_layer(tapes: list[rc.Tape], grad_hidden: Any, **options: Any) -> list[rc.Gradients]:
    """The loss acts on every layer."""
    return [rc.backward(tape, grad_hidden, **options) for tape in tapes]


def one_step_late(tapes: list[rc.Tape], grad_hidden: Any, **options: Any) -> list[rc.Gradients]:
    """dL/dx_t arrives at h_{t-1}."""
    found: list[rc.Gradients] = []
    for tape in reversed(tapes):
        given = np.concatenate([found[-1].x[1:], found[-1].x[:1] * 0.0]) if found else grad_hidden
        found.append(rc.backward(tape, given, **options))
    return found[::-1]


@pytest.mark.parametrize("bug", [through_wrong_weights, to_every_layer, one_step_late])
def test_a_bug_on_the_way_down_is_seen(bug: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of("vanilla")
    assert checked(problem) < LIMIT
    monkeypatch.setattr(bptt, "back_through_stack", bug)
    assert checked(problem) > 1e-3


def test_a_bug_on_the_way_up_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer reads the states of the layer below one step late."""
    run_forward = stack.run_forward

    def late(cell: rc.Cell, params: Any, x: Any, **options: Any) -> rc.Tape:
        late_x = np.concatenate([x[:1] * 0.0, x[:-1]]) if x.shape[2] == H else x
        return run_forward(cell, params, late_x, **options)

    problem = problem_of("vanilla")
    monkeypatch.setattr(stack, "run_forward", late)
    assert checked(problem) > 1e-3


def test_a_gradient_of_another_layer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training gives the second layer the gradient of the third."""
    names, problem = {1: 2, 2: 1}, problem_of("vanilla")
    monkeypatch.setattr(
        stack, "name_in_layer", lambda name, layer, _: bptt.name_in_layer(name, names.get(layer, layer))
    )
    assert checked(problem) > 1e-3
    monkeypatch.undo()
    of_layer = stack.params_of_layer
    monkeypatch.setattr(stack, "params_of_layer", lambda params, layer, _: of_layer(params, names.get(layer, layer)))
    assert checked(problem) > 1e-3


@pytest.mark.parametrize("cell", list(rc.CELLS))
def test_the_gate_takes_every_cell(cell: str) -> None:
    """The engine check abstains, or finds an error where there is none; the modules of torch are compared layer by layer."""
    problem = problem_of(cell, sequence_length=40)
    assert checked(problem) < LIMIT
    if torch_modules.module_of(problem):
        x, _ = problem.batch(0)
        grad = np.random.default_rng(4).standard_normal((40, B, H))
        assert torch_modules.check(problem, x, grad).relative < LIMIT


@pytest.mark.parametrize(("rho", "T"), [(1.8, 1500), (0.4, 1500)])
def test_the_check_holds_beyond_range(rho: float, T: int) -> None:
    """It abstains where a layer's gradient is ``Scaled``, or compares zeros."""
    problem = problem_of("vanilla", activation="identity", spectral_radius=rho, sequence_length=T, loss_at="last")
    params = {name: value * (0.0 if name.startswith("bias") else 1.0) for name, value in problem.params.items()}
    problem = replace(problem, params=params)
    x, target = problem.batch(0)
    x = x * 0.0
    evaluation = rc.evaluate(problem, params, x, target)
    assert all(isinstance(layer.gradients.hidden, rc.Scaled) for layer in evaluation.layers)
    assert autograd.check(problem, params, x, target, evaluation).relative < LIMIT


def test_what_is_not_given_is_told() -> None:
    with pytest.raises(ValueError, match="memory_budget: 1000 is not allowed with layers: 2; what goes from layer"):
        rc.run(rc.Experiment(layers=2), memory_budget=1000)


@pytest.mark.parametrize("cell", ["vanilla", "lstm", "slstm"])
def test_torch_arrays_go_through_a_stack(cell: str) -> None:
    """What goes from layer to layer changes its library, or an exponent is lost on the way."""
    problem = problem_of(cell)
    x, target = problem.batch(0)
    params = {name: torch.tensor(value) for name, value in problem.params.items()}
    expected = rc.evaluate(problem, problem.params, x, target)
    evaluation = rc.evaluate(problem, params, torch.tensor(x), torch.tensor(target))
    for ours, theirs in zip(expected.layers, evaluation.layers, strict=True):
        assert isinstance(theirs.gradients.hidden, torch.Tensor)
        assert worst_step("hidden", ours.gradients.hidden, theirs.gradients.hidden.numpy()).relative < 1e-12
    for name, gradient in expected.param_grads.items():
        assert relative_error(gradient, evaluation.param_grads[name].numpy()) < 1e-12, name
