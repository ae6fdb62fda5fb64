"""Spectra of a user's own torch module: those of the same network as one of our cells, and of states of any shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.theory import jacobians, log_singular_values, lyapunov_spectrum

PAIRS = [
    (torch.nn.RNNCell, rc.VanillaCell("tanh")),
    (torch.nn.GRUCell, rc.GRUCell("tanh")),
    (torch.nn.LSTMCell, rc.LSTMCell("tanh")),
]
T, B, H = 60, 3, 5


def tapes(kind: Any, cell: rc.Cell, dtype: torch.dtype = torch.float64) -> tuple[rc.Tape, rc.Tape]:
    """The same network as a module and as a cell of ours."""
    torch.manual_seed(0)
    module = kind(2, H, dtype=torch.float64)
    with torch.no_grad():
        for value in module.parameters():
            value *= 2.0
    module = module.to(dtype)
    x = torch.randn(T, B, 2, dtype=torch.float64).to(dtype)
    own = rc.TorchCell(module)
    ours = {name: to_numpy(value).astype(np.float64) for name, value in own.params().items()}
    return rc.forward(own, own.params(), x), rc.forward(cell, ours, to_numpy(x).astype(np.float64))


@pytest.mark.parametrize(("kind", "cell"), PAIRS, ids=lambda v: getattr(v, "name", None))
def test_a_module_has_the_spectra_of_our_cell(kind: Any, cell: rc.Cell) -> None:
    """Another sample is taken, a part of the state is lost, or the parts are in another order."""
    theirs, ours = tapes(kind, cell)
    np.testing.assert_allclose(to_numpy(jacobians(theirs, 2)), jacobians(ours, 2), atol=1e-12)
    for k in (2, None):
        found, expected = (lyapunov_spectrum(tape, k, 5, sample=2) for tape in (theirs, ours))
        np.testing.assert_allclose(found.exponents, expected.exponents, atol=1e-8)
    found, expected = (log_singular_values(tape, 30, sample=2) for tape in (theirs, ours))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_module_in_float32_has_the_first_exponents() -> None:
    theirs, ours = tapes(*PAIRS[0], dtype=torch.float32)
    found, expected = lyapunov_spectrum(theirs, 2, 5), lyapunov_spectrum(ours, 2, 5)
    np.testing.assert_allclose(found.exponents, expected.exponents, atol=1e-4)


def test_a_state_of_matrices_has_a_direction_for_every_number() -> None:
    """A memory (B, 2, 3) that decays at six rates, beside a hidden part that it feeds: exponents known exactly."""
    decay = torch.tensor([[0.9, 0.5, 0.3], [1.1, 0.7, 0.2]], dtype=torch.float64)

    def step(x: Any, state: Any) -> dict[str, Any]:
        memory = decay * state["memory"] + x[:, :1, None]
        return {"hidden": memory.sum(dim=(1, 2), keepdim=False)[:, None] + 0.0 * state["hidden"], "memory": memory}

    start = {"hidden": torch.zeros(2, 1, dtype=torch.float64), "memory": torch.zeros(2, 2, 3, dtype=torch.float64)}
    tape = rc.forward(rc.TorchCell(step), {}, torch.randn(200, 2, 1, dtype=torch.float64), start)
    assert jacobians(tape).shape == (200, 7, 7)
    expected = np.sort(np.log(decay.numpy().reshape(-1)))[::-1]
    spectrum = lyapunov_spectrum(tape, burn_in=100)
    np.testing.assert_allclose(spectrum.exponents[:6], expected, atol=1e-8)
    assert spectrum.exponents[6] == -np.inf  # the hidden part sends nothing back
    np.testing.assert_allclose(lyapunov_spectrum(tape, 2, burn_in=100).exponents, expected[:2], atol=1e-8)


def test_a_module_that_knows_one_batch_alone_has_spectra_too() -> None:
    """Columns are not put side by side beyond the batch that it takes."""
    torch.manual_seed(1)
    W = torch.randn(4, 4, dtype=torch.float64)
    shift = torch.randn(3, 1, dtype=torch.float64)  # one number a sample: no other batch fits

    def step(x: Any, h: Any) -> Any:
        assert h.shape[0] == 3
        return torch.tanh(h @ W.T + 0.0 * shift + x)

    x = torch.randn(40, 3, 4, dtype=torch.float64)
    tape = rc.forward(rc.TorchCell(step), {}, x, {"hidden": torch.zeros(3, 4, dtype=torch.float64)})
    ours = rc.forward(rc.VanillaCell(), {"weight_ih": np.eye(4), "weight_hh": W.numpy()}, x.numpy())
    np.testing.assert_allclose(to_numpy(jacobians(tape, 1)), jacobians(ours, 1), atol=1e-13)
    for k in (1, 4):
        found, expected = (lyapunov_spectrum(each, k, 3, sample=1) for each in (tape, ours))
        np.testing.assert_allclose(found.exponents, expected.exponents, atol=1e-9)


def test_a_module_that_forgets_all_at_once_has_no_direction_left() -> None:
    """It ended in NumPy's "need at least one array to concatenate"."""
    cell = rc.TorchCell(lambda x, h: 0 * h + x)
    tape = rc.forward(cell, {}, torch.ones(5, 2, 3, dtype=torch.float64), torch.zeros(2, 3, dtype=torch.float64))  # type: ignore[arg-type]
    assert (log_singular_values(tape) == -np.inf).all() and (lyapunov_spectrum(tape).exponents == -np.inf).all()
