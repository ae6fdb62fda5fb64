"""Dynamic mean field by sampling: published edges, the static theory, the law at rest, and wide networks of the engine."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.theory import dynamic_mean_field, dynamic_rate, fixed_point
from rnn_core.theory.dynamic import WideMatrix

FEW: dict[str, Any] = {"units": 3000}  # enough for two digits


@pytest.mark.parametrize(
    ("delta", "gain", "published"),
    [(1.0, 1.5, 0.0652172), (1.0, 3.0, 0.3102493), (0.5, 3.0, 0.5 * 0.2161237), (0.25, 5.0, 0.25 * 0.4010741)],
)
def test_published_edges_of_autonomous_networks(delta: float, gain: float, published: float) -> None:
    """Their largest exponent at infinite width, by an operator (rnn-lyapunov; science.md, R9): memory across steps is lost."""
    cell = rc.ResidualCell(step=delta, leak=delta)
    rate = dynamic_rate(cell, gain**2, 0.0, units=6000, steps=240)
    assert rate == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize(
    ("activation", "sigma_w", "sigma_u"),
    [("tanh", 0.8, 0.5), ("tanh", 2.5, 0.3), ("relu", 1.2, 1.0), ("sigmoid", 3.0, 1.0), ("silu", 1.5, 0.5)],
)
def test_a_vanilla_network_follows_the_static_theory(activation: str, sigma_w: float, sigma_u: float) -> None:
    """½ ln chi_1: white inputs leave the gradient of a vanilla cell no memory."""
    cell = rc.VanillaCell(activation)
    expected = fixed_point(cell.phi, sigma_w**2, sigma_u**2).rate
    assert dynamic_rate(cell, sigma_w**2, sigma_u**2, **FEW) == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize(("cell", "gain"), [(rc.GRUCell(), 1.0), (rc.GRUResetBeforeCell(), 2.6), (rc.LSTMCell(), 1.5)])
def test_near_rest_it_is_the_law_at_rest(cell: rc.Cell, gain: float) -> None:
    """ln(½ + sigma_w/4): the edge of the spectrum of I/2 + W/4. Above 2 the state grows, and the rate falls below it."""
    rate = dynamic_rate(cell, gain**2, 1e-8, **FEW)
    edge = math.log(0.5 + gain / 4)
    if gain < 2.0:
        assert rate == pytest.approx(edge, abs=0.006)  # the edge is reached like 1/(4 lag)
    else:
        assert 0.0 < rate < edge - 0.02


def wide(cell: rc.Cell, sigma_w: float, sigma_u: float, H: int, seed: int, forget_bias: float = 0.0) -> float:
    """The rate of one network of the engine, over lags 40 to 100; without the recipe of a study."""
    rng, G, D, T = np.random.default_rng(seed), len(cell.gates), 300, 140
    bias = np.repeat([forget_bias if gate in ("forget", "update") else 0.0 for gate in cell.gates], H)
    params = {
        "weight_ih": rng.standard_normal((G * H, D)) * sigma_u / math.sqrt(D),
        "weight_hh": rng.standard_normal((G * H, H)) * sigma_w / math.sqrt(H),
        "bias_ih": bias,
    }
    tape = rc.forward(cell, params, rng.standard_normal((T, 1, D)))
    log_norm = rc.backward(tape, grad_state={"hidden": rng.standard_normal((1, H))}).log_norm
    return float(log_norm[T - 101] - log_norm[T - 41]) / 60


@pytest.mark.parametrize(
    ("cell", "sigma_w", "sigma_u", "forget_bias"),
    [
        (rc.GRUCell(), 1.0, 1.0, 0.0),
        (rc.GRUCell(), 3.0, 0.5, 0.0),
        (rc.GRUCell("softsign"), 2.0, 0.5, 1.0),
        (rc.GRUResetBeforeCell(), 2.0, 1.0, 0.0),
        (rc.LSTMCell(), 2.0, 1.0, 0.0),
        (rc.LSTMCell(), 3.0, 0.5, 1.0),
        (rc.ResidualCell(step=0.5, leak=0.5), 2.0, 0.5, 0.0),
    ],
    ids=repr,
)
def test_wide_networks_of_the_engine(cell: rc.Cell, sigma_w: float, sigma_u: float, forget_bias: float) -> None:
    """Gates share no noise, a bias is in another gate, the way back forgets a gate, or steps are taken for independent."""
    measured = [wide(cell, sigma_w, sigma_u, 700, seed, forget_bias) for seed in range(4)]
    theory = dynamic_mean_field(cell, sigma_w**2, sigma_u**2, forget_bias, **FEW)
    both = math.hypot(np.std(measured, ddof=1) / 2, theory.error)
    assert both < 0.01
    assert abs(np.mean(measured) - theory.rate) < 3.0 * both + 0.004


def test_steps_are_not_independent() -> None:
    """With new weights at every step a GRU of sigma_w = 3 and inputs of 0.1 would shrink by 0.08 a step; it grows (science.md, R16)."""
    assert dynamic_rate(rc.GRUCell(), 9.0, 0.01, **FEW) == pytest.approx(0.054, abs=0.012)


class UpdateGate(rc.Cell):
    """A cell of a user's own, which multiplies by two slices of W."""

    name = "update_gate"
    gates = ("update", "candidate")

    def forward(self, params: Any, u: Any, state: Any) -> Any:
        h, H = state["hidden"], len(state["hidden"])
        a_z, a_n = (params["weight_hh"][rows] @ h + u[rows] for rows in (slice(H), slice(H, None)))
        z, n = 1 / (1 + np.exp(-a_z)), np.tanh(a_n)
        return {"hidden": z * h + (1 - z) * n}, (z, n, h)

    def backward(self, params: Any, saved: Any, dstate: Any) -> Any:
        (z, n, h), d = saved, dstate["hidden"]
        da = np.concatenate([z * (1 - z) * (h - n) * d, (1 - n**2) * (1 - z) * d])
        return da, da, {"hidden": z * d + params["weight_hh"].T @ da}

    def nonlinearities(self, saved: Any) -> Any:
        return []


def test_a_cell_of_a_users_own() -> None:
    """Whatever multiplies by W alone has a theory."""
    cell = UpdateGate()
    measured = [wide(cell, 2.0, 1.0, 600, seed) for seed in range(3)]
    assert dynamic_rate(cell, 4.0, 1.0, **FEW) == pytest.approx(np.mean(measured), abs=0.02)


def test_the_products_have_their_law() -> None:
    """The covariance over steps is sigma_w² x_t·x_s/H, of other blocks there is none, and the way back is independent of the way forward."""
    n, x = 40_000, np.zeros((40_000, 3))
    rng = np.random.default_rng(0)
    x[:] = rng.standard_normal((n, 3)) @ np.array([[1.0, 0.5, -0.3], [0.0, 0.4, 0.8], [0.0, 0.0, 0.2]])
    W = WideMatrix(1.7, n, range(2), 10, rng)
    forward = np.stack([(W @ x[:, t : t + 1])[:, 0] for t in range(3)])
    back = np.stack([(W.T @ np.concatenate([x, -x])[:, t : t + 1])[:, 0] for t in range(3)])
    covariance = 1.7 * x.T @ x / n
    for block in (forward[:, :n], forward[:, n:]):
        np.testing.assert_allclose(block @ block.T / n, covariance, atol=0.05)
        np.testing.assert_allclose(block @ back.T / n, np.zeros((3, 3)), atol=0.05)
    np.testing.assert_allclose(forward[:, :n] @ forward[:, n:].T / n, np.zeros((3, 3)), atol=0.05)
    np.testing.assert_allclose(back @ back.T / n, 2.0 * covariance, atol=0.1)
    lower = np.stack([(W[n:] @ x[:, t : t + 1])[:, 0] for t in range(3)])
    np.testing.assert_allclose(lower @ forward[:, n:].T / n, np.zeros((3, 3)), atol=0.05)  # its own process


def test_a_seed_decides_and_dead_networks_are_told() -> None:
    few: dict[str, Any] = {"units": 2000, "steps": 60}
    one = dynamic_mean_field(rc.GRUCell(), 1.0, 1.0, **few)
    assert one == dynamic_mean_field(rc.GRUCell(), 1.0, 1.0, **few)
    assert one.rate != dynamic_rate(rc.GRUCell(), 1.0, 1.0, seed=1, **few)
    assert dynamic_rate(rc.VanillaCell(), 0.0, 1.0, **few) == -math.inf
    assert dynamic_rate(rc.ResidualCell(), 0.0, 1.0, **few) == pytest.approx(0.0, abs=1e-12)
    remembering = dynamic_rate(rc.LSTMCell(), 1.0, 1.0, 3.0, **few)
    assert remembering > dynamic_rate(rc.LSTMCell(), 1.0, 1.0, **few) + 0.2
    huge = dynamic_mean_field(rc.VanillaCell("identity"), 1e12, 1.0, **few)  # states beyond the range of floats
    assert math.isnan(huge.rate) and huge.hidden_rms == math.inf and not huge.settled
    assert one.settled and not dynamic_mean_field(rc.ResidualCell(), 1.0, 1.0, **few).settled


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cell": "gru"}, "cell: str is not allowed"),
        (
            {"cell": rc.TorchCell(torch.nn.GRUCell(2, 3))},
            "cell: 'GRUCell' is not allowed; only a cell that multiplies by weight_hh",
        ),
        ({"sigma_w2": -1.0}, r"sigma_w2: -1\.0 is not allowed"),
        ({"sigma_u2": math.inf}, "sigma_u2: inf is not allowed"),
        ({"forget_bias": "1"}, "forget_bias: '1' is not allowed"),
        ({"cell": rc.VanillaCell(), "forget_bias": 1.0}, "the cell 'vanilla' has no gate that keeps its state"),
        ({"units": 1}, "units: 1 is not allowed"),
        ({"steps": 20}, "steps: 20 is not allowed; it must be an integer of at least 40"),
        ({"seed": -1}, "seed: -1 is not allowed"),
    ],
)
def test_wrong_arguments_are_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"cell": rc.GRUCell(), "sigma_w2": 1.0, "sigma_u2": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        dynamic_rate(**arguments)
