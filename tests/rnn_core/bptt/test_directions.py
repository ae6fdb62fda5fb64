"""Two directions of every layer: all gradients against torch, an exact law beyond range, and bugs that must be seen."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import rnn_core as rc
from rnn_core import bptt
from rnn_core.bptt import directions, stack
from rnn_core.oracles import autograd, tensors, torch_modules
from rnn_core.oracles.compare import relative_error, worst_step
from rnn_core.oracles.problems import with_biases
from rnn_core.scaling import plain
from tests.support.trained import assert_derivative_of_the_loss

LIMIT = 1e-10  # relative, of a step or a parameter; atol = 0
T, B, D, H, LAYERS = 11, 3, 2, 4, 3
MODULES = {"vanilla": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}


def problem_of(cell: str, **changes: Any) -> rc.Problem:
    settings = {
        "cell": cell, "layers": LAYERS, "bidirectional": True, "hidden_size": H, "input_size": D, "sequence_length": T, "batch_size": B,
        "loss_at": "every",
    } | changes  # fmt: skip
    if rc.CELLS[cell].has_matrix:
        settings.setdefault("spectral_radius", 0.9 if cell == "indrnn" else 1.2)
    return with_biases(rc.prepare(rc.Experiment(**settings)))


# ---- the whole network in torch ------------------------------------------------------------------------------------------


def unrolled(
    problem: rc.Problem, x: np.ndarray, grad: np.ndarray
) -> tuple[list[list[Tensor]], dict[str, Tensor], Tensor]:
    """(h_t of every cell by t, parameters, x), each with its gradient of Σ grad · output: the time loops written out."""
    step = tensors.step_of(problem.experiment.cell, problem.experiment.activation)
    params = {name: torch.tensor(value, requires_grad=True) for name, value in problem.params.items()}
    given, cells = torch.tensor(x, requires_grad=True), []
    inputs = list(given.unbind(0))
    for layer in range(problem.layers):
        found = []
        for ending, order in (("", range(T)), ("_reverse", range(T - 1, -1, -1))):
            ending = (f"_l{layer}" if layer else "") + ending
            own = {
                name.removesuffix(ending): value
                for name, value in params.items()
                if name in [plain + ending for plain in (*problem.cell.own_parameters, *NAMES)]
            }
            state = {name: torch.zeros(B, H, dtype=torch.float64) for name in problem.cell.state_names}
            states: dict[int, Tensor] = {}
            for t in order:
                state = step(own, inputs[t], state)
                state["hidden"].retain_grad()
                states[t] = state["hidden"]
            found.append([states[t] for t in range(T)])
        cells += found
        inputs = [torch.cat(pair, dim=1) for pair in zip(*found, strict=True)]
    torch.autograd.backward(inputs, list(torch.tensor(grad)))
    return cells, params, given


NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def both_passes(problem: rc.Problem, x: np.ndarray, grad: np.ndarray) -> tuple[list[rc.Tape], list[rc.Gradients]]:
    """By the engine, from dL/d(output) by t."""
    tapes = bptt.run_stack(problem.cell, problem.params, x, problem.layers, bidirectional=True)
    return tapes, bptt.back_through_stack(tapes, (grad[..., :H], grad[::-1, :, H:]))


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("cell", list(rc.CELLS))
def test_every_cell_is_that_of_a_whole_network_in_autograd(cell: str, layers: int) -> None:
    """A direction reads something else than both states below it, or gets another direct part than its share of what both above send."""
    problem, rng = problem_of(cell, layers=layers), np.random.default_rng(1)
    x, grad = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, 2 * H))
    tapes, found = both_passes(problem, x, grad)
    cells, params, given = unrolled(problem, x, grad)
    for index, of_cell in enumerate(cells):
        order = slice(None, None, -1) if index % 2 else slice(None)
        after = torch.stack(of_cell).detach().numpy()[order]
        total = torch.stack([h.grad for h in of_cell]).numpy()[order]  # type: ignore[misc]
        assert worst_step("state", tapes[index].hidden, after).relative < LIMIT, index
        assert worst_step("hidden", found[index].hidden, total).relative < LIMIT, index
    assert given.grad is not None
    dx = bptt.input_gradient_of_layer(found[:2])
    assert worst_step("x", dx, given.grad.numpy()).relative < LIMIT
    names = bptt.stack_gradients(found, bidirectional=True)
    assert set(names) == {name for name in problem.params if not name.endswith("_ho")}
    for name, gradient in names.items():
        expected = params[name].grad
        assert expected is not None and relative_error(gradient, expected.numpy()) < LIMIT, name


def module_of(problem: rc.Problem) -> torch.nn.RNNBase:
    """torch's own module with the parameters of the problem, by torch's own names."""
    net = MODULES[problem.experiment.cell](D, H, num_layers=problem.layers, bidirectional=True, dtype=torch.float64)
    net.load_state_dict({torchs(name): torch.tensor(v) for name, v in problem.params.items() if "_ho" not in name})
    return net


def torchs(name: str) -> str:
    """weight_hh_l0_reverse of weight_hh_reverse."""
    if "_l" in name:
        return name
    return name.replace("_reverse", "_l0_reverse") if name.endswith("_reverse") else f"{name}_l0"


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", list(MODULES))
def test_it_is_bidirectional_true_of_torch(cell: str, layers: int) -> None:
    """States stand side by side in another order than in torch.nn, or a name stands for another cell's parameter."""
    problem, rng = problem_of(cell, layers=layers), np.random.default_rng(2)
    x, grad = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, 2 * H))
    net, given = module_of(problem), torch.tensor(x, requires_grad=True)
    output, _ = net(given)
    output.backward(torch.tensor(grad))
    tapes, found = both_passes(problem, x, grad)
    assert worst_step("state", bptt.states_of_layer(tapes[-2:]), output.detach().numpy()).relative < LIMIT
    assert worst_step("x", bptt.input_gradient_of_layer(found[:2]), given.grad.numpy()).relative < LIMIT
    for name, gradient in bptt.stack_gradients(found, bidirectional=True).items():
        assert relative_error(gradient, getattr(net, torchs(name)).grad.numpy()) < LIMIT, name


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("cell", list(MODULES))
def test_the_readout_reads_h_n_or_output_of_torch(cell: str, loss_at: str) -> None:
    """A loss at the last step reads output[T], where the reverse direction has seen one step; or a half of W_ho is the other's."""
    problem = problem_of(cell, loss_at=loss_at)
    x, target = problem.batch(0)
    net = module_of(problem)
    output, end = net(torch.tensor(x))
    h_n = end[0] if cell == "lstm" else end
    read = output if loss_at == "every" else torch.cat([h_n[-2], h_n[-1]], dim=1)
    w, b = (torch.tensor(problem.params[name], requires_grad=True) for name in ("weight_ho", "bias_ho"))
    loss = tensors.mean_loss(problem.task.loss, read @ w.T + b, torch.tensor(target))
    loss.backward()
    evaluation = rc.evaluate(problem, problem.params, x, target)
    assert evaluation.loss == pytest.approx(float(loss.detach()), rel=1e-12)
    for name, gradient in evaluation.param_grads.items():
        theirs = {"weight_ho": w, "bias_ho": b}.get(name)
        theirs = getattr(net, torchs(name)) if theirs is None else theirs
        assert relative_error(gradient, theirs.grad.numpy()) < LIMIT, name


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("cell", ["vanilla", "lstm", "lru", "mingru"])
def test_central_differences_of_the_loss(cell: str, loss_at: str) -> None:
    """What training follows is not the derivative of the loss: torch and the engine share a mistake."""
    assert_derivative_of_the_loss(problem_of(cell, layers=2, hidden_size=3, sequence_length=5, loss_at=loss_at))


# ---- beyond range --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [2.0, 0.5])
def test_a_layer_below_hears_of_both_ends(rho: float) -> None:
    """rnn_core/README.md, section 2.5: dh_t is (k + 1) ρ^k w δ + ρ^(t-1) (1 - ρ^(2k + 2)) / (1 - ρ²) w' δ', at 2^±2000 too.

    What the other direction sends is lost, is turned the wrong way, or loses its exponent where it is added.
    """
    T, w, w_other, delta, delta_other = 2000, 3.0, 0.25, 1.0, 2.0
    upper = {"weight_ih_l1": [[w, 0.5]], "weight_ih_l1_reverse": [[w_other, 0.125]]}
    params = {name: np.array(value) for name, value in upper.items()}
    params |= {f"weight_hh{ending}": np.eye(1) * rho for ending in ("", "_reverse", "_l1", "_l1_reverse")}
    params |= {f"weight_ih{ending}": np.eye(1) for ending in ("", "_reverse")}
    tapes = bptt.run_stack(rc.VanillaCell("identity"), params, np.zeros((T, 1, 1)), 2, bidirectional=True)
    ends = [np.zeros((T, 1, 1)) for _ in range(2)]
    ends[0][-1], ends[1][-1] = delta, delta_other
    found = bptt.back_through_stack(tapes, (ends[0], ends[1]))
    lags = range(T)
    for way, d in ((2, delta), (3, delta_other)):
        law = [math.log(d) + k * math.log(rho) for k in lags]
        np.testing.assert_allclose(found[way].log_norm[::-1], law, rtol=1e-13, atol=1e-11)
    for way, near, far in ((0, w * delta, w_other * delta_other), (1, 0.125 * delta_other, 0.5 * delta)):
        terms = [exact_law(Fraction(rho), T, k, Fraction(near), Fraction(far)) for k in lags]
        np.testing.assert_allclose(found[way].log_norm[::-1], terms, rtol=1e-12, atol=1e-11)


def exact_law(rho: Fraction, T: int, k: int, near: Fraction, far: Fraction) -> float:
    """ln of the law, in whole numbers; t = T - k in the direction's own time."""
    value = (k + 1) * rho**k * near + rho ** (T - k - 1) * (1 - rho ** (2 * k + 2)) / (1 - rho**2) * far
    return math.log(value.numerator) - math.log(value.denominator)


def test_the_readout_reads_states_beyond_range() -> None:
    """h_T = ρ^(T-1) of both directions, so y = 2 ρ^(T-1); dL/dW_ho = y h_T and dL/dW_hh = (T - 1) ρ^(T-2) y, each of 2^4000.

    An exponent is lost between the states, the readout and the directions.
    """
    rho, steps = 2.0, 2000
    problem = problem_of("vanilla", activation="identity", hidden_size=1, input_size=1, batch_size=1, layers=1, sequence_length=steps, loss_at="last")  # fmt: skip
    params = {name: np.full_like(value, 0.0 if "bias" in name else 1.0) for name, value in problem.params.items()}
    params |= {f"weight_hh{ending}": np.array([[rho]]) for ending in ("", "_reverse")}
    x, target = problem.batch(0)
    x = np.zeros_like(x)
    x[[0, -1]] = 1.0
    gradients = rc.evaluate(problem, params, x, target).param_grads
    log_y = math.log(2.0) + (steps - 1) * math.log(rho)
    both = gradients["weight_ho"]
    assert isinstance(both, rc.Scaled) and both.shape == (1, 2)
    entries = np.log(np.abs(np.asarray(both.mantissa))) + both.exponent * math.log(2.0)
    np.testing.assert_allclose(entries, log_y + (steps - 1) * math.log(rho), rtol=1e-12)
    for name in ("weight_hh", "weight_hh_reverse"):
        law = math.log(steps - 1) + (steps - 2) * math.log(rho) + log_y
        assert rc.scaling.log_norm(gradients[name]) == pytest.approx(law, rel=1e-12), name


def test_what_joins_directions_keeps_exponents() -> None:
    """An exponent is dropped, is used twice, or is not turned with its step."""
    rng = np.random.default_rng(3)
    exponents = [rng.integers(-30, 30, 20) for _ in range(2)]
    values = [rng.standard_normal((20, 2, 3)) for _ in range(2)]
    values[0][4], values[1][7] = 0.0, 0.0
    scaled = [rc.Scaled(m, e) for m, e in zip(values, exponents, strict=True)]
    floats = [np.ldexp(m, e[:, None, None]) for m, e in zip(values, exponents, strict=True)]
    far = [rc.Scaled(m, e + 5000) for m, e in zip(values, exponents, strict=True)]

    def back(rows: Any) -> np.ndarray:
        assert isinstance(rows, rc.Scaled)
        return np.asarray(plain(rc.Scaled(rows.mantissa, rows.exponent - 5000)))

    for expected, near, wide in (
        (floats[0] + floats[1], directions.added(scaled), directions.added(far)),
        (np.concatenate(floats, axis=2), directions.side_by_side(scaled), directions.side_by_side(far)),
        (floats[0][::-1], directions.in_own_time(scaled[0], 1), directions.in_own_time(far[0], 1)),
        (
            floats[0][:, :, 2:],
            directions.part_of_direction(scaled[0], 2, 3),
            directions.part_of_direction(far[0], 2, 3),
        ),
    ):
        assert worst_step("near", plain(near), expected).relative < 1e-15
        assert worst_step("wide", back(wide), expected).relative < 1e-15


def test_a_sum_that_overflows_goes_on_scaled() -> None:
    """Two directions send 1.5 · 10^308 each."""
    rows = np.full((2, 1, 1), 1.5e308)
    total = directions.added([rows, rows])
    assert isinstance(total, rc.Scaled) and total.log_norm() == pytest.approx(
        math.log(3.0) + 308 * math.log(10.0) + 0.5 * math.log(2.0)
    )


def test_the_check_holds_beyond_range() -> None:
    """It abstains where a direction's gradient is ``Scaled``, or compares zeros."""
    problem = problem_of("vanilla", activation="identity", spectral_radius=1.8, sequence_length=1500, loss_at="last")
    params = {name: value * (0.0 if name.startswith("bias") else 1.0) for name, value in problem.params.items()}
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, params, x * 0.0, target)
    assert all(isinstance(layer.gradients.hidden, rc.Scaled) for layer in evaluation.layers)
    assert autograd.check(problem, params, x * 0.0, target, evaluation).relative < LIMIT


# ---- truncation, clipping on the way back -----------------------------------------------------------------------------------


def test_truncation_detaches_every_direction_in_its_own_time() -> None:
    """The window cuts the forward direction alone, or the reverse one at the forward one's steps."""
    problem = problem_of("vanilla", loss_at="last", layers=2)
    x, target = problem.batch(0)
    grads = rc.evaluate(problem, problem.params, x, target).backward(window=4)
    params = {name: torch.tensor(value, requires_grad=True) for name, value in problem.params.items()}
    step, inputs = tensors.step_of("vanilla", "tanh"), list(torch.tensor(x))
    for layer in ("", "_l1"):
        found = []
        for ending in (layer, f"{layer}_reverse"):
            own, state, states = (
                {name: params[name + ending] for name in NAMES},
                torch.zeros(B, H, dtype=torch.float64),
                [],
            )
            for s, x_t in enumerate(inputs if ending == layer else inputs[::-1]):
                state = state.detach() if (T - s) % 4 == 0 else state
                state = step(own, x_t, {"hidden": state})["hidden"]
                states.append(state)
            found.append(states)
        ends = [states[-1] for states in found]
        inputs = [torch.cat(pair, dim=1) for pair in zip(found[0], found[1][::-1], strict=True)]
    y = torch.cat(ends, dim=1) @ params["weight_ho"].T + params["bias_ho"]
    tensors.mean_loss(problem.task.loss, y[None], torch.tensor(target)[None]).backward()
    for name, gradient in grads.items():
        expected = params[name].grad
        assert expected is not None and relative_error(gradient, expected.numpy()) < LIMIT, name


def test_a_signal_threshold_acts_on_every_direction() -> None:
    """Entries of the reverse direction stay above it."""
    problem = problem_of("vanilla")
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    tapes = [layer.tape for layer in evaluation.layers]
    direct = (evaluation.grad_hidden, evaluation.grad_beside)
    clipped = bptt.back_through_stack(tapes, direct, signal_threshold=1e-3)
    assert len(clipped) == 2 * LAYERS
    assert all(np.abs(plain(gradients.hidden)).max() <= 1e-3 for gradients in clipped)


# ---- planted bugs -----------------------------------------------------------------------------------------------------------


def checked(problem: rc.Problem) -> float:
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    return autograd.check(problem, problem.params, x, target, evaluation).relative


def not_turned(rows: Any, direction: int) -> Any:
    return rows


def first_alone(rows: list[Any]) -> Any:
    return rows[0]


def other_half(rows: Any, direction: int, count: int) -> Any:
    return directions.part_of_direction(rows, 1 - direction, count)


def other_order(rows: list[Any]) -> Any:
    return directions.side_by_side(rows[::-1])


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize(
    ("name", "bug"),
    [
        ("in_own_time", not_turned),
        ("added", first_alone),
        ("part_of_direction", other_half),
        ("side_by_side", other_order),
    ],
)
def test_a_bug_where_directions_join_is_seen(
    name: str, bug: Callable[..., Any], loss_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is turned; the reverse direction's gradient is dropped; halves are exchanged, on the way down or up."""
    problem = problem_of("vanilla", loss_at=loss_at)
    assert checked(problem) < LIMIT
    monkeypatch.setattr(stack, name, bug)
    assert checked(problem) > 1e-3


@pytest.mark.parametrize("part", ["the inputs' gradient", "the direct part"])
def test_a_gradient_that_is_not_turned_is_seen(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """States are turned rightly, and dL/dx_t of the reverse direction, or its direct part, is not."""
    problem = problem_of("gru", loss_at="last", layers=2)

    def wrong(tapes: list[rc.Tape], given: tuple[Any, Any], **options: Any) -> list[rc.Gradients]:
        upper = [rc.backward(tape, g, **options) for tape, g in zip(tapes[2:], given, strict=True)]
        sent = upper[0].x + (upper[1].x if part == "the inputs' gradient" else upper[1].x[::-1])
        below = sent[:, :, H:] if part == "the direct part" else sent[::-1, :, H:]
        return [rc.backward(tapes[0], sent[:, :, :H]), rc.backward(tapes[1], below), *upper]

    monkeypatch.setattr(bptt, "back_through_stack", wrong)
    assert checked(problem) > 1e-3


def test_a_gradient_of_the_other_direction_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training gives the reverse direction the gradient of the forward one; or both have read the other's parameters."""
    problem = problem_of("vanilla")
    named, of_layer = stack.name_in_layer, stack.params_of_layer
    monkeypatch.setattr(stack, "name_in_layer", lambda name, layer, direction: named(name, layer, 1 - direction))
    assert checked(problem) > 1e-3
    monkeypatch.undo()
    monkeypatch.setattr(
        stack, "params_of_layer", lambda params, layer, direction: of_layer(params, layer, 1 - direction)
    )
    assert checked(problem) > 1e-3


def test_the_other_half_of_the_readout_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The direct part of a direction goes through the other's columns of W_ho."""
    from rnn_core.experiment import evaluation as module

    problem, right = problem_of("vanilla", loss_at="last"), module._direct_parts
    monkeypatch.setattr(module, "_direct_parts", lambda *given: right(*given)[::-1])
    assert checked(problem) > 1e-3


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("cell", list(rc.CELLS))
def test_the_gate_takes_every_cell(cell: str, loss_at: str) -> None:
    """The engine check abstains, or finds an error where there is none; the modules of torch are compared cell by cell."""
    problem = problem_of(cell, sequence_length=40, layers=2, loss_at=loss_at)
    assert checked(problem) < LIMIT
    assert checked(problem_of(cell, sequence_length=40, layers=1, loss_at=loss_at, dtype="float32")) < 1e-3
    if torch_modules.module_of(problem):
        x, _ = problem.batch(0)
        grad = np.random.default_rng(4).standard_normal((40, B, H))
        assert torch_modules.check(problem, x, grad).relative < LIMIT


def test_what_is_not_given_is_told() -> None:
    with pytest.raises(ValueError, match="memory_budget: 1000 is not allowed with bidirectional: True; what goes from"):
        rc.run(rc.Experiment(bidirectional=True), memory_budget=1000)
    problem = problem_of("vanilla", layers=1)
    x, target = problem.batch(0)
    tape = rc.evaluate(problem, problem.params, x, target).tape
    with pytest.raises(ValueError, match="tape: a single one is not allowed with bidirectional: True; leave it out"):
        rc.evaluate(problem, problem.params, x, target, tape=tape)


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("cell", ["vanilla", "lstm", "slstm"])
def test_torch_arrays_go_through_both_directions(cell: str, loss_at: str) -> None:
    """What joins directions changes its library."""
    problem = problem_of(cell, loss_at=loss_at)
    x, target = problem.batch(0)
    params = {name: torch.tensor(value) for name, value in problem.params.items()}
    expected = rc.evaluate(problem, problem.params, x, target)
    evaluation = rc.evaluate(problem, params, torch.tensor(x), torch.tensor(target))
    for ours, theirs in zip(expected.layers, evaluation.layers, strict=True):
        assert isinstance(theirs.gradients.hidden, torch.Tensor)
        assert worst_step("hidden", ours.gradients.hidden, theirs.gradients.hidden.numpy()).relative < 1e-12
    for name, gradient in expected.param_grads.items():
        assert relative_error(gradient, evaluation.param_grads[name].numpy()) < 1e-12, name


def test_a_module_of_the_users_has_two_directions_too() -> None:
    """An opaque cell in the reverse direction reads its inputs in the order of t. torch.nn.GRU says what it should be."""
    net = torch.nn.GRU(D, H, bidirectional=True, dtype=torch.float64)
    params = {name.replace("_l0", ""): value.detach() for name, value in net.named_parameters()}
    rng = np.random.default_rng(6)
    x, grad = torch.tensor(rng.standard_normal((T, B, D))), torch.tensor(rng.standard_normal((T, B, 2 * H)))
    output, _ = net(x)
    output.backward(grad)
    cell = rc.TorchCell(torch.nn.GRUCell(D, H, dtype=torch.float64))
    tapes = bptt.run_stack(cell, params, x, 1, bidirectional=True)
    found = bptt.back_through_stack(tapes, (grad[..., :H], grad.flip(0)[..., H:]))
    states = bptt.states_of_layer(tapes)
    assert worst_step("state", states.numpy(), output.detach().numpy()).relative < LIMIT
    for name, gradient in bptt.stack_gradients(found, bidirectional=True).items():
        assert relative_error(gradient.numpy(), getattr(net, torchs(name)).grad.numpy()) < LIMIT, name
