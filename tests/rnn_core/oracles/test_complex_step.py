"""Complex-step differentiation: its activations, its cells against torch, and that it sees what is wrong with an engine."""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.arrays import Array, Params, State
from rnn_core.oracles.activations import ACTIVATIONS
from rnn_core.oracles.complex_step import Derivatives, OutOfRange, complex_step_gradients
from rnn_core.oracles.equations import CELLS
from tests.support.arrays import quick, relative, worst_relative
from tests.support.networks import Network, draw_network, networks
from tests.support.programs import autograd_program, complex_step_program, errors_of, torch_function

EXACT = 1e-12
MODULES = {"vanilla": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}


def slope(name: str, points: list[float] | np.ndarray, h: float = 1e-20) -> np.ndarray:
    """phi' by a complex step."""
    return np.asarray(ACTIVATIONS[name].complex(np.asarray(points) + 1j * h).imag / h)


def close(ours: np.ndarray, reference: list[float] | np.ndarray, limit: float = 4e-15) -> None:
    np.testing.assert_allclose(ours, reference, rtol=limit, atol=0.0)


# ---- activations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_values_and_slopes_are_torchs(name: str) -> None:
    """A function, its constants or its branch differ from torch's, at kinks too."""
    a = np.concatenate([np.linspace(-3.0, 3.0, 61), [-1e-9, 1e-9, 0.123, -0.777]])
    a[30] = 0.0
    tensor = torch.tensor(a, requires_grad=True)
    value = torch_function(name)(tensor)
    value.sum().backward()
    assert tensor.grad is not None
    np.testing.assert_allclose(
        ACTIVATIONS[name].complex(a + 1e-20j).real, value.detach().numpy(), rtol=1e-14, atol=1e-16
    )
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
    close(ACTIVATIONS["softplus"].complex(np.array([-40.0 + 1j * h])).real, [math.log1p(math.exp(-40.0))])


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


def differentiated(network: Network, **more: Any) -> Derivatives:
    """The oracle's answer."""
    return complex_step_gradients(
        network.cell.name, network.cell.phi.name, network.params, network.x, network.grad_hidden, network.state,
        network.grad_state, network.options, **more,
    )  # fmt: skip


def assert_is_autograds(network: Network) -> None:
    ours, reference = differentiated(network), autograd_program(network)
    assert ours.steps == tuple(range(len(network.x)))
    assert set(ours.params) == set(reference.params) and set(ours.state) == set(reference.initial)
    assert (ours.cell is None) == ("cell" not in reference.totals)
    errors = {name: relative(value, reference.params[name]) for name, value in ours.params.items()}
    errors |= {f"initial {name}": relative(value, reference.initial[name]) for name, value in ours.state.items()}
    errors |= {name: worst_relative(ours.parts[name], total) for name, total in reference.totals.items()}
    errors["x"] = worst_relative(ours.x, reference.x)
    assert max(errors.values()) <= EXACT, errors


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
@pytest.mark.parametrize("cell", sorted(CELLS))
def test_every_cell_with_every_activation_agrees_with_autograd(cell: str, activation: str) -> None:
    """A perturbation is lost or doubled on its way, or one form of an activation is not the other."""
    assert_is_autograds(draw_network(cell, activation, seed=5, D=3))


@quick
@given(
    network=st.sampled_from([(c, a) for c in sorted(CELLS) for a in sorted(ACTIVATIONS)]).flatmap(
        lambda p: networks(*p)
    )
)
def test_every_shape_agrees_with_autograd(network: Network) -> None:
    """A shape of 1 is broadcast, a bias that is absent is missed, the last or the first step is treated as another."""
    assert_is_autograds(network)


@pytest.mark.parametrize("cell", sorted(MODULES))
def test_torchs_own_modules_agree(cell: str) -> None:
    """Gate order, names or shapes are not those of torch.nn."""
    net = draw_network(cell, seed=8, T=9)
    D, H = net.x.shape[2], net.grad_hidden.shape[2]
    module = MODULES[cell](D, H, dtype=torch.float64)
    with torch.no_grad():
        for name, value in net.params.items():
            getattr(module, f"{name}_l0").copy_(torch.tensor(value))
    x = torch.tensor(net.x, requires_grad=True)
    start = [torch.tensor(value[None], requires_grad=True) for value in net.initial().values()]
    outputs, end = module(x, tuple(start) if cell == "lstm" else start[0])
    loss = (outputs * torch.tensor(net.grad_hidden)).sum()
    for part, g in zip(end if cell == "lstm" else [end], net.initial("grad_state").values(), strict=True):
        loss = loss + (part[0] * torch.tensor(g)).sum()
    loss.backward()
    ours = differentiated(net)
    for name, value in ours.params.items():
        assert relative(value, getattr(module, f"{name}_l0").grad) <= EXACT, name
    assert x.grad is not None
    assert worst_relative(ours.x, x.grad) <= EXACT
    for part, value in zip(start, ours.state.values(), strict=True):
        assert part.grad is not None
        assert relative(value, part.grad[0]) <= EXACT


def test_chunks_and_chosen_steps_change_nothing() -> None:
    """Copies of different chunks or steps are mixed up."""
    net = draw_network("lstm", seed=3)
    every, some = differentiated(net), differentiated(net, steps=[4, 0, 3], memory=1.0)
    assert some.steps == (4, 0, 3) and every.cell is not None and some.cell is not None
    for name in every.params:
        assert relative(some.params[name], every.params[name]) <= 1e-15
    for ours, reference in ((some.hidden, every.hidden), (some.cell, every.cell), (some.x, every.x)):
        assert worst_relative(ours, reference[[4, 0, 3]]) <= 1e-15
    none = differentiated(net, steps=[])
    assert none.hidden.shape == (0, 3, 4) and relative(none.state["cell"], every.state["cell"]) <= 1e-15


# ---- beside the engine -------------------------------------------------------------------------------------------------


def engine_errors(network: Network) -> dict[str, float]:
    """How far the engine's backward pass is from the complex step."""
    return errors_of(*network.run(), complex_step_program(network))


@pytest.mark.parametrize("scale", [0.05, 1.0, 12.0])
def test_gradients_of_many_magnitudes_agree(scale: float) -> None:
    """Imaginary parts grow or shrink over hundreds of decades, and the power of two that is kept apart is wrong."""
    network = draw_network(seed=1, T=90, B=2, loss_at="last", with_state=False, gain=scale)
    network.x[:] = 0.0
    network.params["bias_ih"][:] = -network.params["bias_hh"]
    errors = engine_errors(network)
    assert max(errors.values()) <= EXACT, errors
    size = np.abs(differentiated(network, steps=[0]).hidden).max()
    assert (size < 1e-80) if scale < 1 else (size > 1e60) if scale > 1 else (1e-30 < size < 1e10)


def test_saturated_units_agree() -> None:
    """The oracle itself loses digits at |a| = 19, where torch's tanh does."""
    network = draw_network(seed=4, T=8, B=1, D=1, H=3, loss_at="last", with_state=False)
    network.params["weight_hh"][:] = 0.01
    network.params["bias_hh"][:] = [19.0, -19.0, 25.0]
    errors = engine_errors(network)
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
    network = draw_network(seed=2)
    assert max(engine_errors(network).values()) <= EXACT
    errors = engine_errors(replace(network, cell=bug("tanh")))
    assert min(errors["dL/dhidden"], errors["weight_ih"], errors["initial hidden"]) > 10 * EXACT, errors


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
    net = draw_network("gru", seed=6)
    net.x[:] *= 1e15
    net.params["weight_ih"][:] *= 1e-15
    assert_is_autograds(net)
    net.x[:] *= 1e-25
    assert_is_autograds(replace(net, cell=rc.GRUCell("softplus")))


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
    net = draw_network("gru", seed=1, T=6, B=2, D=3)
    arguments = {"cell": "gru", "activation": "tanh", "params": net.params, "x": net.x, "grad_hidden": net.grad_hidden}
    with pytest.raises(ValueError, match=message):
        complex_step_gradients(**(arguments | change))  # type: ignore[arg-type]
