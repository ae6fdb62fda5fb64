"""The minGRU: a cell without a recurrent matrix, whose gradient's way back the inputs alone decide."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rnn_core as rc
from rnn_core.theory import lyapunov_spectrum, rest_rate
from tests.support.arrays import LIBRARIES, relative, worst_relative
from tests.support.networks import Network, draw_network

EXACT = 1e-12


class Published(nn.Module):
    """Feng et al. 2024, section 3.1.2: two linear maps of the input, as its program has them."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.linear_z, self.linear_h = nn.Linear(inputs, units), nn.Linear(inputs, units)

    def forward(self, x_t: torch.Tensor, h_prev: torch.Tensor) -> torch.Tensor:
        z_t = torch.sigmoid(self.linear_z(x_t))
        return (1 - z_t) * h_prev + z_t * self.linear_h(x_t)


def test_it_is_the_papers_cell_by_another_program() -> None:
    """z keeps where it should write, or gate and candidate have each other's weights."""
    torch.manual_seed(0)
    module = Published(3, 5).double()
    z, h = module.linear_z, module.linear_h
    params = {
        "weight_ih": torch.cat([z.weight, h.weight]).detach().numpy(),
        "bias_ih": torch.cat([z.bias, h.bias]).detach().numpy(),
    }
    rng = np.random.default_rng(0)
    x, start, signal = rng.standard_normal((30, 4, 3)), rng.standard_normal((4, 5)), rng.standard_normal((30, 4, 5))
    tape = rc.forward(rc.MinGRUCell("identity"), params, x, {"hidden": start})
    ours = rc.backward(tape, signal)
    now = first = torch.tensor(start, requires_grad=True)
    loss: Any = 0.0
    states = []
    for x_t, g_t in zip(torch.tensor(x), torch.tensor(signal), strict=True):
        now = module(x_t, now)
        states.append(now.detach().numpy())
        loss = loss + (now * g_t).sum()
    loss.backward()
    assert worst_relative(tape.hidden, np.stack(states)) <= EXACT
    assert first.grad is not None and relative(ours.state["hidden"], first.grad.numpy()) <= EXACT
    theirs = {"weight_ih": torch.cat([z.weight.grad, h.weight.grad]), "bias_ih": torch.cat([z.bias.grad, h.bias.grad])}
    for name, gradient in theirs.items():
        assert relative(ours.params[name], gradient.numpy()) <= EXACT, name


def kept_of(network: Network) -> np.ndarray:
    """1 - z_t of every step, (T, B, H), from the inputs alone."""
    p = network.params
    a = network.x @ p["weight_ih"].T + p["bias_ih"] + p["bias_hh"]
    return np.asarray(1.0 / (1.0 + np.exp(a[..., : a.shape[2] // 2])))


def test_the_jacobians_are_the_gates_whatever_the_state() -> None:
    """Something flows back besides what the gate keeps."""
    network = draw_network("mingru", T=9, B=2, H=5)
    tape, _ = network.run()
    for sample, kept in enumerate(np.moveaxis(kept_of(network), 1, 0)):
        found = np.asarray(rc.theory.jacobians(tape, sample))
        np.testing.assert_allclose(found, [np.diag(each) for each in kept], rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("T", [40, 3000])
def test_the_gradient_is_a_product_of_gates(T: int) -> None:
    """dL/dh_t of a loss at the end is Π (1 - z) times it, unit by unit, 10^-1000 and below too; no step makes it longer."""
    network = draw_network("mingru", T=T, B=2, H=4, loss_at="last", with_state=False)
    _, grads = network.run()
    logs = np.log(kept_of(network))[:0:-1].cumsum(axis=0)[::-1]  # Σ over the steps after t
    logs += np.log(np.abs(network.grad_hidden[-1]))
    top = logs.max(axis=(1, 2), keepdims=True)
    expected = top[:, 0, 0] + 0.5 * np.log(np.exp(2.0 * (logs - top)).sum(axis=(1, 2)))
    np.testing.assert_allclose(grads.log_norm[:-1], expected, rtol=1e-12, atol=1e-12)
    assert (np.diff(grads.log_norm) > 0.0).all()


def test_the_states_are_a_weighted_sum() -> None:
    """The form of a parallel scan: h_T = Π (1 - z) h_0 + Σ z n Π (1 - z) over the steps after."""
    network = draw_network("mingru", T=50, B=3, H=4)
    tape, _ = network.run()
    p, kept = network.params, kept_of(network)
    a = network.x @ p["weight_ih"].T + p["bias_ih"] + p["bias_hh"]
    n = np.tanh(a[..., 4:])
    after = np.concatenate([np.cumprod(kept[::-1], axis=0)[::-1][1:], np.ones((1, 3, 4))])
    expected = kept.prod(axis=0) * network.initial()["hidden"] + ((1.0 - kept) * n * after).sum(axis=0)
    np.testing.assert_allclose(np.asarray(tape.hidden)[-1], expected, rtol=1e-12)


@pytest.mark.parametrize("k", [None, 3])
def test_its_exponents_are_the_means_of_its_gates(k: int | None) -> None:
    """A spectrum that a frame finds is not that of a diagonal product."""
    network = draw_network("mingru", T=400, B=2, H=6, with_state=False)
    tape, _ = network.run()
    means = np.sort(np.log(kept_of(network)[:, 1]).mean(axis=0))[::-1]
    found = lyapunov_spectrum(tape, k, sample=1).exponents
    if k is None:
        np.testing.assert_allclose(found, means, rtol=1e-12)
    else:  # a few random columns have to turn to the slowest units
        np.testing.assert_allclose(found, means[:k], atol=0.05)


def test_the_law_of_white_inputs() -> None:
    """Exponent i of Gaussian inputs is -E softplus(b_i + s_i ξ), by Gauss-Hermite quadrature."""
    rng, T, H = np.random.default_rng(3), 40_000, 5
    cell = rc.MinGRUCell("identity")
    params = cell.init_params(rng, 4, H, input_scale=1.5)
    params["bias_ih"][:H] = rng.standard_normal(H)
    tape = rc.forward(cell, params, rng.standard_normal((T, 1, 4)))
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    s = np.linalg.norm(params["weight_ih"][:H], axis=1)
    softplus = np.logaddexp(0.0, params["bias_ih"][:H, None] + s[:, None] * nodes)
    law = np.sort(-(softplus @ weights) / math.sqrt(2.0 * math.pi))[::-1]
    spectrum = lyapunov_spectrum(tape)
    assert (np.abs(spectrum.exponents - law) < 5.0 * spectrum.error).all()
    assert spectrum.error.max() < 0.02


def test_the_law_at_rest() -> None:
    """ln σ(-b_z) of the unit that forgets least; a kink of the candidate is no kink of it; a state that moves has no rest."""
    rng = np.random.default_rng(7)
    b = rng.standard_normal(6)
    expected = float(-np.logaddexp(0.0, b).min())
    for activation in ("identity", "tanh", "relu"):
        cell = rc.MinGRUCell(activation)
        params = cell.init_params(rng, 2, 6)
        params["bias_ih"][:6] = b
        assert rest_rate(cell, params) == pytest.approx(expected, abs=1e-13)
        assert rest_rate(cell, {"bias_hh": params["bias_ih"]}) == pytest.approx(expected, abs=1e-13)
    params["bias_hh"][6:] = 0.1
    assert math.isnan(rest_rate(cell, params)) and math.isnan(rest_rate(rc.MinGRUCell("sigmoid"), params))


@pytest.mark.parametrize("settings", [{"forget_bias": 1.7}, {"forget_bias": -2.0}, {"chrono": 40}])
def test_a_state_fades_by_the_sigmoid_of_the_bias(settings: dict[str, Any]) -> None:
    """A bias that should keep the state writes: σ(b) of it is left a step, b the negative of what stands in the gate."""
    problem = rc.prepare(rc.Experiment(cell="mingru", hidden_size=6, sequence_length=30, **settings))
    after = rc.forward(problem.cell, problem.params, np.zeros((7, 1, 8)), {"hidden": np.ones((1, 6))}).state["hidden"]
    b = -problem.params["bias_ih"][:6]
    assert (b == settings["forget_bias"]).all() if "forget_bias" in settings else (b > 0.0).all()
    np.testing.assert_allclose(after[0], (1.0 / (1.0 + np.exp(-b))) ** 7, rtol=1e-12)
    assert not problem.params["bias_ih"][6:].any()


@pytest.mark.parametrize("library", LIBRARIES)
def test_there_is_no_recurrent_parameter(library: str) -> None:
    """A gradient is given of a matrix that is not there, or one of the biases is lost."""
    network = draw_network("mingru").to(library)
    _, grads = network.run()
    assert set(grads.params) == {"weight_ih", "bias_ih", "bias_hh"}
    np.testing.assert_array_equal(np.asarray(grads.params["bias_ih"]), np.asarray(grads.params["bias_hh"]))


def test_a_run_says_what_there_is_not() -> None:
    """A spectral radius, a prediction or a share of W_hh stands in a table as a number."""
    e = rc.Experiment(cell="mingru", hidden_size=8, sequence_length=40, forget_bias=1.0)
    assert e.spectral_radius is None and e.initializer is None
    assert eval(repr(e), vars(rc)) == e and "initializer" not in repr(e)
    result = rc.run(e, traces=["weight_gradient", "parameter_sensitivity"])
    for name in ("measured_spectral_radius", "sigma_max", "linear_rate", "mean_field_rate", "critical_radius_predicted", "log10_parameter_sensitivity"):  # fmt: skip
        assert math.isnan(result[name]), name
    assert result["rest_rate"] == pytest.approx(math.log(1.0 / (1.0 + math.exp(-1.0))), abs=1e-12)
    assert result["bound_rate"] == 0.0 and result["sigma_u"] == pytest.approx(1.0, rel=0.2)
    assert np.isnan(result.traces["weight_grad_cosine"]).all()
    with pytest.raises(ValueError, match="only a cell that multiplies by weight_hh"):
        rc.theory.dynamic_rate(rc.MinGRUCell(), 1.0, 1.0)


@pytest.mark.parametrize(
    ("name", "value"), [("spectral_radius", 1.2), ("initializer", "orthogonal"), ("weight_scale", 1.0)]
)
def test_settings_of_a_matrix_are_refused(name: str, value: Any) -> None:
    """A radius is asked for and ignored: two rows of a table are one network."""
    message = re.escape(f"{name}: {value!r} is not allowed with cell 'mingru'; it has no W_hh")
    with pytest.raises(ValueError, match=message):
        rc.Experiment(cell="mingru", **{name: value})
    with pytest.raises(ValueError, match=message):
        rc.MinGRUCell().init_params(np.random.default_rng(0), 2, 4, **{name: value})


def test_what_its_law_at_rest_needs_is_named() -> None:
    """Nothing says how many units there are, or rows that are not two blocks are cut anywhere."""
    with pytest.raises(ValueError, match="params: weight_ih is missing; the cell 'mingru' needs it, or a bias"):
        rest_rate(rc.MinGRUCell(), {})
    with pytest.raises(ValueError, match="bias_ih: 5 rows do not fit; the cell 'mingru' has 2 blocks of H rows"):
        rest_rate(rc.MinGRUCell(), {"bias_ih": np.zeros(5)})
