"""Complex-step differentiation: its activations, its cells against torch, and that it sees what is wrong with an engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import rnn_core as rc
from rnn_core.arrays import Array, Params, State
from rnn_core.oracles.complex_functions import ACTIVATIONS
from rnn_core.oracles.complex_step import CELLS, Derivatives, OutOfRange, complex_step_gradients
from tests.rnn_core.engine_helpers import TORCH_FUNCTIONS, cases, draw_case, quick, relative, worst_relative

EXACT = 1e-12
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = TORCH_FUNCTIONS | {"gelu": functional.gelu}
MODULES = {"vanilla": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}


def slope(name: str, points: list[float] | np.ndarray, h: float = 1e-20) -> np.ndarray:
    """phi' by a complex step."""
    return np.asarray(ACTIVATIONS[name](np.asarray(points) + 1j * h).imag / h)


def close(ours: np.ndarray, reference: list[float] | np.ndarray, limit: float = 4e-15) -> None:
    np.testing.assert_allclose(ours, reference, rtol=limit, atol=0.0)


# ---- activations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_values_and_slopes_are_torchs(name: str) -> None:
    """A function, its constants or its branch differ from torch's, at kinks too."""
    a = np.concatenate([np.linspace(-3.0, 3.0, 61), [-1e-9, 1e-9, 0.123, -0.777]])
    a[30] = 0.0
    tensor = torch.tensor(a, requires_grad=True)
    value = FUNCTIONS[name](tensor)
    value.sum().backward()
    assert tensor.grad is not None
    np.testing.assert_allclose(ACTIVATIONS[name](a + 1e-20j).real, value.detach().numpy(), rtol=1e-14, atol=1e-16)
    np.testing.assert_allclose(slope(name, a), tensor.grad.numpy(), rtol=1e-13, atol=1e-15)


def test_subgradients_at_the_kinks() -> None:
    """A kink takes the other side's derivative."""
    assert slope("relu", [0.0, -0.0]).tolist() == [0.0, 0.0]
    close(slope("leaky_relu", [0.0]), [0.01])
    close(slope("selu", [0.0]), [1.7580993408473766])
    assert slope("elu", [0.0]).tolist() == [1.0]
    assert slope("hard_tanh", [-1.0, 1.0, -2.0, 2.0]).tolist() == [0.0] * 4


@pytest.mark.parametrize("h", [1e-12, 1e-20, 1e-40])
def test_slopes_of_saturated_units(h: float) -> None:
    """A saturated unit's derivative has lost its digits, as 1 - tanh² has from |a| = 10 on."""
    for a in (0.3, 2.0, 10.0, 19.0, 40.0, 300.0):
        e, e2 = math.exp(-a), math.exp(-2 * a)
        close(slope("tanh", [a, -a], h), [4 * e2 / (1 + e2) ** 2] * 2)
        close(slope("sigmoid", [a, -a], h), [e / (1 + e) ** 2] * 2)
        close(slope("softplus", [a, -a], h), [1 / (1 + e), e / (1 + e)])
        close(slope("softsign", [a, -a], h), [1 / (1 + a) ** 2] * 2)
        close(slope("elu", [a, -a], h), [1.0, e])
        close(slope("silu", [-a], h), [e / (1 + e) * (1 - a / (1 + e))], 4e-14)
    close(slope("softsign", [1e12, -1e12], h), [1e-24, 1e-24], 1e-11)  # (1 + 1e12)² is not 1e24
    close(ACTIVATIONS["softplus"](np.array([-40.0 + 1j * h])).real, [math.log1p(math.exp(-40.0))])


def gelu_slope(a: float) -> float:
    """Phi(a) + a phi(a) for a ≤ -3 in 80 digits, with Phi from its continued fraction (Laplace)."""
    with localcontext() as context:
        context.prec = 80
        x, pi = (
            -Decimal(a),
            Decimal("3.14159265358979323846264338327950288419716939937510582097494459230781640628620899863"),
        )
        density = (-x * x / 2).exp() / (2 * pi).sqrt()
        fraction = x
        for k in range(3000, 0, -1):
            fraction = x + k / fraction
        return float(density / fraction - x * density)


def test_gelu_in_its_left_tail() -> None:
    """1 + erf cancels from a = -6 on, and the rounding error of a² shows in exp(-a²/2)."""
    points = [-3.0, -4.2, -5.0, -6.1, -8.3, -12.7, -20.0, -30.3, -33.33]
    close(slope("gelu", points), [gelu_slope(a) for a in points], 1e-14)
    close(slope("gelu", [-36.1], 1e-12), [gelu_slope(-36.1)], 1e-14)  # h times 1e-282 is still a normal number
    close(slope("gelu", [9.0, 40.0, 1e6, 1e200]), [1.0] * 4)
    assert slope("gelu", [-50.0, -1e200]).tolist() == [0.0, 0.0]
    assert slope("gelu", [0.0]).tolist() == [0.5]


# ---- cells -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Network:
    """A cell of any kind with all that the oracle takes."""

    cell: str
    params: dict[str, np.ndarray]
    x: np.ndarray
    grad_hidden: np.ndarray
    state: dict[str, np.ndarray]
    grad_state: dict[str, np.ndarray]
    options: dict[str, float]

    def differentiate(self, activation: str, **more: object) -> Derivatives:
        return complex_step_gradients(
            self.cell, activation, self.params, self.x, self.grad_hidden, self.state, self.grad_state, self.options, **more
        )  # fmt: skip  # type: ignore[arg-type]


def draw(cell: str, seed: int, T: int = 6, B: int = 2, D: int = 3, H: int = 4, biases: bool = True) -> Network:
    rng = np.random.default_rng(seed)
    rows = CELLS[cell].gates * H
    params = {
        "weight_ih": rng.standard_normal((rows, D)) / np.sqrt(D),
        "weight_hh": rng.standard_normal((rows, H)) / np.sqrt(H),
    }
    if biases:
        params |= {"bias_ih": 0.5 * rng.standard_normal(rows), "bias_hh": 0.5 * rng.standard_normal(rows)}
    states = [{name: rng.standard_normal((B, H)) for name in CELLS[cell].states} for _ in range(2)]
    options = {"step": 0.7, "leak": 0.2} if cell == "residual" else {}
    return Network(cell, params, rng.standard_normal((T, B, D)), rng.standard_normal((T, B, H)), *states, options)


networks = st.builds(
    draw,
    cell=st.sampled_from(sorted(CELLS)),
    seed=st.integers(0, 2**32 - 1),
    T=st.integers(1, 7),
    B=st.integers(1, 3),
    D=st.integers(1, 3),
    H=st.integers(1, 4),
    biases=st.booleans(),
)


def torch_step(
    net: Network, phi: Callable[[Tensor], Tensor], p: dict[str, Tensor], x: Tensor, s: list[Tensor]
) -> list[Tensor]:
    """One step in torch, [h] or [h, c]; c is a leaf of its own in the graph, so that its total gradient can be asked for."""
    h = s[0]
    u = functional.linear(x, p["weight_ih"], p.get("bias_ih"))
    v = functional.linear(h, p["weight_hh"], p.get("bias_hh"))
    if net.cell == "vanilla":
        return [phi(u + v)]
    if net.cell == "residual":
        return [(1 - net.options["leak"]) * h + net.options["step"] * phi(u + v)]
    if net.cell == "lstm":
        i, f, g, o = (u + v).chunk(4, dim=1)
        c = torch.sigmoid(f) * s[1] + torch.sigmoid(i) * phi(g)
        return [torch.sigmoid(o) * phi(c), c]
    H = h.shape[1]
    r, z = torch.sigmoid(u + v)[:, :H], torch.sigmoid(u + v)[:, H : 2 * H]
    if net.cell == "gru":
        n = phi(u[:, 2 * H :] + r * v[:, 2 * H :])
    else:
        b = p["bias_hh"][2 * H :] if "bias_hh" in p else None
        n = phi(u[:, 2 * H :] + functional.linear(r * h, p["weight_hh"][2 * H :], b))
    return [(1 - z) * n + z * h]


def autograd(net: Network, activation: str) -> Derivatives:
    """A plain loop, differentiated by torch.autograd."""
    p = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
    x = torch.tensor(net.x, requires_grad=True)
    start = {name: torch.tensor(value, requires_grad=True) for name, value in net.state.items()}
    state, history = list(start.values()), []
    for x_t in x.unbind(0):
        state = torch_step(net, FUNCTIONS[activation], p, x_t, state)
        for part in state:
            part.retain_grad()
        history.append(state)
    loss = sum((s[0] * torch.tensor(g)).sum() for s, g in zip(history, net.grad_hidden, strict=True))
    for part, g in zip(state, net.grad_state.values(), strict=True):
        loss = loss + (part * torch.tensor(g)).sum()
    loss.backward()  # type: ignore[union-attr]

    def grad(tensor: Tensor) -> np.ndarray:
        return np.zeros(tuple(tensor.shape)) if tensor.grad is None else tensor.grad.numpy()

    parts = [np.stack([grad(s[i]) for s in history]) for i in range(len(state))]
    return Derivatives(
        {name: grad(value) for name, value in p.items()},
        {name: grad(value) for name, value in start.items()},
        tuple(range(len(history))),
        parts[0],
        parts[1] if len(parts) == 2 else None,
        grad(x),
    )


def assert_agree(ours: Derivatives, reference: Derivatives, limit: float = EXACT) -> None:
    assert ours.steps == reference.steps
    assert set(ours.params) == set(reference.params) and set(ours.state) == set(reference.state)
    assert (ours.cell is None) == (reference.cell is None)
    errors = {name: relative(value, reference.params[name]) for name, value in ours.params.items()}
    errors |= {f"initial {name}": relative(value, reference.state[name]) for name, value in ours.state.items()}
    errors |= {n: worst_relative(getattr(ours, n), getattr(reference, n)) for n in ("hidden", "x")}
    if ours.cell is not None:
        errors["cell"] = worst_relative(ours.cell, reference.cell)
    assert max(errors.values()) <= limit, errors


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_cell_with_every_activation_agrees_with_autograd(cell: str, activation: str) -> None:
    """A gate, an index or a sign of the forward equations is not torch's."""
    net = draw(cell, 5)
    assert_agree(net.differentiate(activation), autograd(net, activation))


@quick
@given(net=networks, activation=st.sampled_from(sorted(ACTIVATIONS)))
def test_every_shape_agrees_with_autograd(net: Network, activation: str) -> None:
    """A shape of 1 is broadcast, a bias that is absent is missed, the last or the first step is treated as another."""
    assert_agree(net.differentiate(activation), autograd(net, activation))


@pytest.mark.parametrize("cell", sorted(MODULES))
def test_torchs_own_modules_agree(cell: str) -> None:
    """Gate order, names or shapes are not those of torch.nn."""
    net = draw(cell, 8, T=9)
    D, H = net.x.shape[2], net.grad_hidden.shape[2]
    module = MODULES[cell](D, H, dtype=torch.float64)
    with torch.no_grad():
        for name, value in net.params.items():
            getattr(module, f"{name}_l0").copy_(torch.tensor(value))
    x = torch.tensor(net.x, requires_grad=True)
    start = [torch.tensor(value[None], requires_grad=True) for value in net.state.values()]
    outputs, end = module(x, tuple(start) if cell == "lstm" else start[0])
    loss = (outputs * torch.tensor(net.grad_hidden)).sum()
    for part, g in zip(end if cell == "lstm" else [end], net.grad_state.values(), strict=True):
        loss = loss + (part[0] * torch.tensor(g)).sum()
    loss.backward()
    ours = net.differentiate("tanh")
    for name, value in ours.params.items():
        assert relative(value, getattr(module, f"{name}_l0").grad) <= EXACT, name
    assert x.grad is not None
    assert worst_relative(ours.x, x.grad) <= EXACT
    for part, value in zip(start, ours.state.values(), strict=True):
        assert part.grad is not None
        assert relative(value, part.grad[0]) <= EXACT


def test_chunks_and_chosen_steps_change_nothing() -> None:
    """Copies of different chunks or steps are mixed up."""
    net = draw("lstm", 3)
    every, some = net.differentiate("tanh"), net.differentiate("tanh", steps=[4, 0, 3], memory=1.0)
    assert some.steps == (4, 0, 3) and every.cell is not None and some.cell is not None
    for name in every.params:
        assert relative(some.params[name], every.params[name]) <= 1e-15
    for ours, reference in ((some.hidden, every.hidden), (some.cell, every.cell), (some.x, every.x)):
        assert worst_relative(ours, reference[[4, 0, 3]]) <= 1e-15
    none = net.differentiate("tanh", steps=[])
    assert none.hidden.shape == (0, 2, 4) and relative(none.state["cell"], every.state["cell"]) <= 1e-15


# ---- beside the engine -------------------------------------------------------------------------------------------------


def engine_errors(case: object, cell: rc.Cell, activation: str) -> dict[str, float]:
    """How far the engine's backward pass is from the complex step."""
    c = case  # a helpers.Case
    tape = rc.forward(cell, c.params, c.x, c.state)  # type: ignore[attr-defined]
    ours = rc.backward(tape, c.grad_hidden, c.grad_state)  # type: ignore[attr-defined]
    found = complex_step_gradients("vanilla", activation, c.params, c.x, c.grad_hidden, c.state, c.grad_state)  # type: ignore[attr-defined]
    errors = {name: relative(value, found.params[name]) for name, value in ours.params.items()}
    errors |= {"hidden": worst_relative(ours.hidden, found.hidden), "x": worst_relative(ours.x, found.x)}
    return errors | {"state": relative(ours.state["hidden"], found.state["hidden"])}


@quick
@given(case=cases(), activation=st.sampled_from(sorted(rc.ACTIVATIONS)))
def test_the_vanilla_engine_agrees(case: object, activation: str) -> None:
    """The hand-derived backward pass is not the derivative of the forward equations."""
    errors = engine_errors(case, rc.VanillaCell(activation), activation)
    assert max(errors.values()) <= EXACT, errors


@pytest.mark.parametrize("scale", [0.05, 1.0, 12.0])
def test_gradients_of_many_magnitudes_agree(scale: float) -> None:
    """Imaginary parts grow or shrink over hundreds of decades, and the power of two that is kept apart is wrong."""
    case = draw_case(1, T=90, B=2, D=2, H=4, loss_at="last", gain=scale)
    case.x[:] = 0.0
    case.params["bias_ih"][:] = -case.params["bias_hh"]
    errors = engine_errors(case, rc.VanillaCell("tanh"), "tanh")
    assert max(errors.values()) <= EXACT, errors
    size = np.abs(
        complex_step_gradients("vanilla", "tanh", case.params, case.x, case.grad_hidden, steps=[0]).hidden
    ).max()
    assert (size < 1e-80) if scale < 1 else (size > 1e60) if scale > 1 else (1e-30 < size < 1e10)


def test_saturated_units_agree() -> None:
    """The oracle itself loses digits at |a| = 19, where torch's tanh does."""
    case = draw_case(4, T=8, B=1, D=1, H=3, loss_at="last")
    case.params["weight_hh"][:] = 0.01
    case.params["bias_hh"][:] = [19.0, -19.0, 25.0]
    errors = engine_errors(case, rc.VanillaCell("tanh"), "tanh")
    assert max(errors.values()) <= EXACT, errors


class Transposed(rc.VanillaCell):
    """W for W^T in the backward pass."""

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        da, dv, _ = super().backward(params, saved, dstate)
        return da, dv, {"hidden": params["weight_hh"] @ da}


class SlopeOfState(rc.VanillaCell):
    """phi' taken at h for a."""

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        return super().backward(params, self.phi.f(saved), dstate)


class SlightlyOff(rc.VanillaCell):
    """A relative error of 1e-10 in what flows back: finite differences would not see it."""

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        da, dv, before = super().backward(params, saved, dstate)
        return da, dv, {"hidden": before["hidden"] * (1 + 1e-10)}


@pytest.mark.parametrize("bug", [Transposed, SlopeOfState, SlightlyOff])
def test_planted_bugs_are_caught(bug: type[rc.VanillaCell]) -> None:
    """The comparison passes whatever the engine does."""
    case = draw_case(2, T=7, B=2, D=2, H=4, with_state=True)
    assert max(engine_errors(case, rc.VanillaCell("tanh"), "tanh").values()) <= EXACT
    errors = engine_errors(case, bug("tanh"), "tanh")
    assert min(errors["hidden"], errors["weight_ih"], errors["state"]) > 10 * EXACT, errors


# ---- what it refuses ---------------------------------------------------------------------------------------------------


def one_unit(
    weight: float, T: int, activation: str = "identity", bias: float = 0.0, initial: bool = False
) -> Derivatives:
    """All but the weight are zero, the loss is the last state, and step 0 is looked at."""
    params = {"weight_ih": np.zeros((1, 1)), "weight_hh": np.array([[weight]]), "bias_hh": np.array([bias])}
    g = np.zeros((T, 1, 1))
    g[-1] = 1.0
    return complex_step_gradients("vanilla", activation, params, np.zeros((T, 1, 1)), g, steps=[0], initial=initial)


def test_derivatives_that_are_no_floats_are_refused() -> None:
    """A derivative beyond float64 comes back as inf or 0, and agrees with an engine's that is lost as well."""
    close(one_unit(0.5, 1001).hidden.ravel(), [2.0**-1000])
    close(one_unit(2.0, 1001).hidden.ravel(), [2.0**1000])
    for weight in (0.5, 2.0):
        with pytest.raises(OutOfRange, match="no normal float64"):
            one_unit(weight, 1100)
    close(one_unit(0.5, 1022).hidden.ravel(), [2.0**-1021])
    with pytest.raises(OutOfRange, match="initial hidden"):
        one_unit(0.5, 1023, initial=True)
    with pytest.raises(OutOfRange, match="not finite"):
        one_unit(2.0, 1100, bias=1.0)


def test_what_underflows_within_a_step_is_refused_or_harmless() -> None:
    """A derivative is 0 because a unit's imaginary part was rounded to it."""
    with pytest.raises(OutOfRange, match="underflow"):
        one_unit(1.0, 3, "tanh", bias=340.0)
    close(one_unit(1.0, 2, "tanh", bias=290.0).hidden.ravel(), [4 * math.exp(-2 * (1.0 + 290.0))], 1e-12)
    assert one_unit(1.0, 3, "relu", bias=-1.0).hidden.ravel() == [0.0]  # a dead unit's zero is exact
    assert one_unit(0.0, 3, "tanh").hidden.ravel() == [0.0]


def test_h_follows_large_inputs_and_weights() -> None:
    """h is not small beside what it is multiplied by."""
    net = draw("gru", 6)
    net.x[:] *= 1e15
    net.params["weight_ih"][:] *= 1e-15
    assert_agree(net.differentiate("tanh"), autograd(net, "tanh"))
    net.x[:] *= 1e-25
    assert_agree(net.differentiate("softplus"), autograd(net, "softplus"))


@pytest.mark.parametrize("exponent", [0, 40, 60, 150])
def test_h_shrinks_where_a_step_magnifies(exponent: int) -> None:
    """A unit is at rest, and yet its imaginary part is large: b_hn, which r multiplies, is balanced by b_in."""
    big = 2.0**exponent
    params = {
        "weight_ih": np.zeros((3, 1)), "weight_hh": np.array([[0.0], [0.0], [big]]),
        "bias_ih": np.array([0.0, 0.0, -0.5 * big * big]), "bias_hh": np.zeros(3),
    }  # fmt: skip
    one = np.ones((1, 1, 1))
    found = complex_step_gradients("gru", "tanh", params, one, one, {"hidden": big * one[0]}, steps=[])
    # h = (1 - z) n + z h' with z = r = 1/2, n = tanh(0) and dn/dr = big²
    close(found.params["bias_ih"], [0.5 * 0.25 * big * big, 0.25 * big, 0.5])
    close(found.state["hidden"].ravel(), [0.5 * 0.5 * big + 0.5])


def test_a_step_that_no_h_suits_is_refused() -> None:
    """An imaginary part of the size of the real one is taken for a derivative."""
    params = {"weight_ih": np.zeros((3, 1)), "weight_hh": np.array([[0.0], [0.0], [2.0**500]])}
    params["bias_ih"] = np.array([0.0, 0.0, -(2.0**999)])
    one = np.ones((1, 1, 1))
    with pytest.raises(OutOfRange, match="too large"):
        complex_step_gradients("gru", "tanh", params, one, one, {"hidden": 2.0**500 * one[0]}, steps=[])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "grru"}, "gru"),
        ({"activation": "tahn"}, "tanh"),
        ({"options": {"step": 1.0}}, "option"),
        ({"steps": [6]}, "steps"),
        ({"state": {"cell": np.zeros((2, 4))}}, "state"),
        ({"state": {"hidden": np.zeros((4, 2))}}, "state"),
        ({"params": {}}, "weight_"),
        ({"x": np.zeros((5, 2, 3))}, "expected"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    """A wrong name or shape is broadcast or ignored."""
    net = draw("gru", 1)
    arguments = {"cell": "gru", "activation": "tanh", "params": net.params, "x": net.x, "grad_hidden": net.grad_hidden}
    with pytest.raises(ValueError, match=message):
        complex_step_gradients(**(arguments | change))  # type: ignore[arg-type]
