"""The sLSTM in its own variables against the paper's equations, and what its gates may do to it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import rnn_core as rc
from studies.own_cells.slstm import SLSTM
from tests.support.arrays import relative, worst_relative

EXACT = 1e-12


@pytest.mark.parametrize("gain", [1.0, 8.0])
def test_it_is_the_papers_cell_by_another_program(gain: float) -> None:
    """A gate, its order, or the normaliser is not the paper's: the torch module of ``studies/own_cells`` keeps c, n and m apart."""
    torch.manual_seed(0)
    module, rng = SLSTM(3, 5, gain).double(), np.random.default_rng(0)
    p = {name: value.detach().numpy() for name, value in module.named_parameters()}
    params = {"weight_ih": p["inward"], "weight_hh": p["recurrent"], "bias_ih": p["bias"]}
    x, start = (
        rng.standard_normal((20, 2, 3)),
        {name: rng.standard_normal((2, 5)) for name in ("hidden", "cell", "normaliser")},
    )
    theirs = {
        "hidden": start["hidden"],
        "cell": start["cell"] * np.exp(start["normaliser"]),  # c, where ours is c/n
        "normaliser": np.exp(start["normaliser"]),
        "stabiliser": np.zeros((2, 5)),
    }
    signal = rng.standard_normal((20, 2, 5))
    tape = rc.forward(rc.SLSTMCell(), params, x, start)
    own = rc.TorchCell(module)
    other = rc.forward(own, own.params(), torch.tensor(x), {name: torch.tensor(part) for name, part in theirs.items()})
    assert worst_relative(tape.hidden, other.hidden) <= EXACT
    n = other.states("normaliser").numpy()
    assert worst_relative(tape.states("cell"), other.states("cell").numpy() / n) <= EXACT
    np.testing.assert_allclose(
        tape.states("normaliser"), np.log(n) + other.states("stabiliser").numpy(), rtol=EXACT, atol=1e-12
    )
    ours, reference = rc.backward(tape, signal), rc.backward(other, torch.tensor(signal))
    assert worst_relative(ours.x, reference.x) <= EXACT
    assert worst_relative(ours.hidden, reference.hidden) <= EXACT
    assert relative(ours.params["weight_hh"], reference.params["recurrent"]) <= EXACT
    assert relative(ours.params["bias_ih"], reference.params["bias"]) <= EXACT


@pytest.mark.parametrize("size", [50.0, 5000.0])
def test_gates_beyond_the_range_of_floats_are_harmless(size: float) -> None:
    """exp(5000) is inf, and inf/inf is nan: a state or a gradient of large inputs is no number."""
    rng = np.random.default_rng(0)
    params = rc.SLSTMCell().init_params(rng, 2, 4, spectral_radius=1.0)
    tape = rc.forward(rc.SLSTMCell(), params, size * rng.standard_normal((30, 3, 2)))
    gradients = rc.backward(tape, rng.standard_normal((30, 3, 4)))
    assert all(np.isfinite(tape.states(name)).all() for name in tape.cell.state_names)
    assert np.abs(tape.states("cell")).max() <= 1.0 + 1e-14  # a mean of candidates, each at most 1
    assert not np.isnan(gradients.log_norm).any()
    assert all(np.isfinite(np.asarray(value)).all() for value in gradients.params.values())


def test_without_forgetting_the_cell_is_the_mean_of_what_it_saw() -> None:
    """f = 1, i = 1, n_0 = 1: c_t is the mean of t candidates and c_0, and ln n_t = ln(t + 1)."""
    H, T = 2, 9
    params = {
        "weight_ih": np.zeros((4 * H, 1)),
        "weight_hh": np.zeros((4 * H, H)),
        "bias_ih": np.repeat([0.0, 0.0, 800.0, 0.0], H),
    }
    params["weight_ih"][:H] = 1.0
    x = np.random.default_rng(0).standard_normal((T, 1, 1))
    tape = rc.forward(rc.SLSTMCell("identity"), params, x)
    expected = np.cumsum(x[:, 0, 0]) / np.arange(2, T + 2)
    np.testing.assert_allclose(tape.states("cell")[:, 0, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(tape.states("normaliser")[-1], math.log(T + 1), rtol=1e-12)
