"""Cells whose W_hh is made of fewer numbers, or of others: the laws that hold of them, and published ones."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.cells import lru
from rnn_core.theory import memory_sensitivity, rest_rate
from studies.own_cells.lru import LRU
from tests.support.arrays import relative, worst_relative
from tests.support.networks import Network, draw_network

EXACT = 1e-12


def as_vanilla(network: Network) -> Network:
    """The vanilla network with the W_hh that the cell's numbers stand for."""
    W = network.cell.recurrent_matrix(network.params["weight_hh"])
    return replace(network, cell=rc.VanillaCell(network.cell.phi.name), params={**network.params, "weight_hh": W})


@pytest.mark.parametrize("cell", ["indrnn", "lru"])
@pytest.mark.parametrize("H", [1, 6, 7])
def test_a_diagonal_cell_is_the_vanilla_cell_with_its_matrix(cell: str, H: int) -> None:
    """The matrix that is measured is not the one that the cell multiplies by, or a weight's gradient misses one of its places."""
    network = draw_network(cell, H=H, T=9)
    (tape, ours), (other, theirs) = network.run(), as_vanilla(network).run()
    assert worst_relative(tape.hidden, other.hidden) <= EXACT
    assert worst_relative(ours.hidden, theirs.hidden) <= EXACT
    w, dW = network.params["weight_hh"], np.asarray(theirs.params["weight_hh"])
    units = np.eye(len(w))
    through_places = [(network.cell.recurrent_matrix(unit) * dW).sum() for unit in units]  # the matrix is linear in w
    assert relative(ours.params["weight_hh"], np.array(through_places)) <= EXACT


def test_an_antisymmetric_cell_is_the_residual_cell_with_its_matrix() -> None:
    """K is not W - W^T - gamma I, or its gradient is not that of W."""
    network = draw_network("antisymmetric", T=9, step=0.6, diffusion=0.3)
    W = network.params["weight_hh"]
    params = {**network.params, "weight_hh": W - W.T - 0.3 * np.eye(len(W))}
    (tape, ours), (other, theirs) = (
        network.run(),
        replace(network, cell=rc.ResidualCell("tanh", 0.6), params=params).run(),
    )
    assert worst_relative(tape.hidden, other.hidden) <= EXACT
    dK = np.asarray(theirs.params["weight_hh"])
    assert relative(ours.params["weight_hh"], dK - dK.T) <= EXACT


@pytest.mark.parametrize(("diffusion", "expected"), [(0.0, 0.032802737666), (0.05, 0.028109989448)])
def test_euler_steps_of_an_antisymmetric_network_explode(diffusion: float, expected: float) -> None:
    """The law of an independent program (science.md, R19) is missed, or gamma acts with a wrong sign."""
    W = np.random.default_rng(51).standard_normal((32, 32)) / math.sqrt(32)
    omega = np.abs(np.linalg.eigvals(W - W.T).imag).max()
    cell = rc.AntisymmetricCell(step=0.1, diffusion=diffusion)
    assert omega == pytest.approx(2.603946207185, abs=1e-11)
    assert rest_rate(cell, {"weight_hh": W}) == pytest.approx(expected, abs=1e-11)
    assert expected == pytest.approx(0.5 * math.log((1 - 0.1 * diffusion) ** 2 + (0.1 * omega) ** 2), abs=1e-11)
    held = rc.AntisymmetricCell(step=0.1, diffusion=0.1 * omega**2 / 2 * 1.02)
    assert (
        rest_rate(held, {"weight_hh": W})
        < 0.0
        < rest_rate(rc.AntisymmetricCell(step=0.1, diffusion=0.3), {"weight_hh": W})
    )


def test_an_lru_is_the_papers_by_another_program() -> None:
    """λ turns the other way, or real and imaginary parts are paired wrongly: the torch module of ``studies/own_cells`` is the oracle."""
    torch.manual_seed(1)
    module, H, B = LRU(3, 4, 0.5, 0.95).double(), 4, 2
    p = {name: value.detach().numpy() for name, value in module.named_parameters()}
    entering = np.exp(p["log_gamma"])[:, None] * p["B"]  # (2, H, D): γ ⊙ B is W_ih
    weights = lru.pairs_of(np.exp(-np.exp(p["nu"])), np.exp(p["theta"]))
    params = {"weight_ih": entering.reshape(2 * H, 3), "weight_hh": weights}
    x = np.random.default_rng(0).standard_normal((12, B, 3))
    signal = np.random.default_rng(1).standard_normal((B, 2 * H))
    tape = rc.forward(rc.LRUCell("identity"), params, x)
    own = rc.forward(rc.TorchCell(module), rc.TorchCell(module).params(), torch.tensor(x))
    theirs = np.moveaxis(own.hidden.numpy(), 3, 2).reshape(12, B, 2 * H)
    assert worst_relative(tape.hidden, theirs) <= EXACT
    as_theirs = torch.tensor(signal.reshape(B, 2, H)).swapaxes(1, 2)
    ours, other = rc.backward(tape, grad_state={"hidden": signal}), rc.backward(own, grad_state={"hidden": as_theirs})
    assert worst_relative(ours.x, other.x) <= EXACT
    assert np.abs(ours.log_norm - other.log_norm).max() <= EXACT
    # dL/dθ of the paper's λ = exp(−e^ν + iθ'), by the chain rule: e^θ (−Im λ dRe + Re λ dIm).
    re, im, d_re, d_im = np.concatenate([weights.reshape(2, H), np.asarray(ours.params["weight_hh"]).reshape(2, H)])
    assert relative(np.exp(p["theta"]) * (re * d_im - im * d_re), other.params["theta"]) <= EXACT


@pytest.mark.parametrize(("low", "high", "expected"), [(0.9, 0.99, 13.2645757815), (0.0, 0.99, 3.9965672352)])
def test_the_states_of_a_ring_of_eigenvalues(low: float, high: float, expected: float) -> None:
    """E |s|² over a ring is not proposition 3.3 of Orvieto et al. 2023 (science.md, R20)."""
    units = 4000
    squared = (
        low**2 + (high**2 - low**2) * (np.arange(units) + 0.5) / units
    )  # evenly: the mean of the law without sampling
    weights = lru.pairs_of(np.sqrt(squared), np.linspace(0.0, 6.0, units))
    u = np.random.default_rng(0).standard_normal((1, 1, 1))
    params = {"weight_ih": np.ones((2 * units, 1)), "weight_hh": weights}
    params["weight_ih"][units:] = 0.0  # a real input of variance 1
    # The states that one impulse leaves, squared and added up over time, are what white noise of variance 1 gives at each time.
    tape = rc.forward(rc.LRUCell("identity"), params, np.concatenate([u / abs(u), np.zeros((1500, 1, 1))]))
    energy = (np.asarray(tape.hidden) ** 2).sum(axis=(0, 1))
    assert (energy[:units] + energy[units:]).mean() == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("rate", [0.6, 0.9])
def test_a_linear_unit_obeys_the_curse_of_memory(rate: float) -> None:
    """dL/dw of a linear recurrence is not Σ k w^(k-1) x_(t-k): its second moment is that of Zucchet & Orvieto (science.md, R21)."""
    lags = 400
    params = {"weight_ih": np.ones((1, 1)), "weight_hh": np.array([rate])}
    inputs = np.eye(lags)[
        :, :, None
    ]  # sequence b has its impulse at step b, so dL/dw is the sensitivity to each input apart
    tape = rc.forward(rc.IndRNNCell("identity"), params, inputs)
    sensitivities = [
        float(rc.backward(rc.forward(rc.IndRNNCell("identity"), params, inputs[:, b : b + 1]), grad_state={"hidden": np.ones((1, 1))}).params["weight_hh"][0])
        for b in range(lags)
    ]  # fmt: skip
    states, sensitivity = memory_sensitivity(rate, 0.0)
    assert (np.asarray(tape.hidden)[-1] ** 2).sum() == pytest.approx(states, rel=1e-10)
    assert np.square(sensitivities).sum() == pytest.approx(sensitivity, rel=1e-10)


@pytest.mark.parametrize("cell", ["indrnn", "lru"])
def test_what_initialisers_mean_is_told_by_eigenvalues(cell: str) -> None:
    """Gaussian eigenvalues are not spread, orthogonal ones not all of one modulus, or identity is not one number."""
    made, rng = rc.CELLS[cell]("tanh"), np.random.default_rng(0)
    moduli = {
        name: np.abs(np.linalg.eigvals(made.recurrent_matrix(made.init_params(rng, 2, 400, name, 0.8)["weight_hh"])))
        for name in ("gaussian", "orthogonal", "identity")
    }
    assert moduli["gaussian"].max() == pytest.approx(0.8) and moduli["gaussian"].std() > 0.1
    if cell == "lru":  # evenly over the disk: half of them within 1/√2 of the radius
        assert np.mean(moduli["gaussian"] < 0.8 / math.sqrt(2)) == pytest.approx(0.5, abs=0.08)
    np.testing.assert_allclose(moduli["orthogonal"], 0.8)
    np.testing.assert_allclose(moduli["identity"], 0.8)
    with pytest.raises(ValueError, match=re.escape("initializer: 'identiti' is not known; ")):
        made.init_params(rng, 2, 4, "identiti")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step": 0.0}, "step: 0.0 is not allowed; it must be a number above 0"),
        ({"step": float("nan")}, "step: nan is not allowed; it must be a number above 0"),
        ({"diffusion": -0.1}, "diffusion: -0.1 is not allowed; it must be a number of at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    """A step that gives no network, or a diffusion that feeds the state, is accepted."""
    with pytest.raises(ValueError, match=re.escape(message)):
        rc.AntisymmetricCell("tanh", **options)


@pytest.mark.parametrize("cell", ["indrnn", "antisymmetric", "lru"])
def test_no_theory_of_matrices_is_claimed(cell: str) -> None:
    """Mean field is given for a network whose units do not mix, or whose W_hh meets its own transpose."""
    result = rc.run(rc.Experiment(cell=cell, hidden_size=8, sequence_length=30))
    assert math.isnan(result["mean_field_rate"]) and not math.isnan(result["rest_rate"])
    with pytest.raises(ValueError, match="only a cell that multiplies by weight_hh"):
        rc.theory.dynamic_rate(rc.CELLS[cell]("tanh"), 1.0, 1.0)
