"""``TorchCell``: torch's own cells against ours, and modules of every kind of state against autograd through the whole sequence."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rnn_core as rc
from rnn_core.oracles.compare import relative_error, step_errors
from tests.rnn_core.own.modules import Elman, Memory, Oscillator, module, normal

EQUAL = 1e-12
OURS: dict[Any, rc.Cell] = {nn.RNNCell: rc.VanillaCell(), nn.GRUCell: rc.GRUCell(), nn.LSTMCell: rc.LSTMCell()}


def part_of(state: Any, name: str) -> Tensor:
    """A part of a module's state by its name."""
    if isinstance(state, Tensor):
        return state
    part: Tensor = state[name] if isinstance(state, dict) else getattr(state, name)
    return part


@pytest.mark.parametrize("T", [1, 7, 300])
@pytest.mark.parametrize("kind", OURS)
def test_torchs_cells_are_ours(kind: Any, T: int) -> None:
    """A gate is another's, a bias is left out, or what c_t sends to h_t within a step is lost."""
    ours, cell = OURS[kind], rc.TorchCell(module(kind, 2, 4))
    x, direct = normal(T, 3, 2), normal(T, 3, 4, seed=1)
    start, last = ({name: normal(3, 4, seed=i + k) for i, name in enumerate(ours.state_names)} for k in (2, 5))
    a, b = (rc.backward(rc.forward(each, cell.params(), x, start), direct, last) for each in (cell, ours))
    assert set(a.params) == set(b.params) == set(cell.params())
    for name in b.params:
        assert relative_error(a.params[name], b.params[name]) <= EQUAL, name
    for name in ours.state_names:
        assert relative_error(a.state[name], b.state[name]) <= EQUAL, name
        assert step_errors(a.parts[name], b.parts[name]).max() <= EQUAL, name
        assert abs(a.log_norms[name] - b.log_norms[name]).max() <= EQUAL, name
    assert step_errors(a.x, b.x).max() <= EQUAL and step_errors(a.hidden, b.hidden).max() <= EQUAL
    assert abs(a.log_norm_samples - b.log_norm_samples).max() <= EQUAL


@pytest.mark.parametrize("kind", [Elman, Memory, Oscillator])
def test_it_is_autograd_through_the_whole_sequence(kind: Any) -> None:
    """A part of the state is taken for another, is turned over, or its path within a step is lost."""
    m, x = module(kind), normal(11, 3, 2).requires_grad_()
    state = m.initial_state(3) if hasattr(m, "initial_state") else torch.zeros(3, 4, dtype=torch.float64)
    cell = rc.TorchCell(m)
    tape = rc.forward(cell, cell.params(), x)
    direct, names, states = normal(*tape.hidden.shape, seed=1), tape.cell.state_names, []
    for x_t in x:
        state = m(x_t, state)
        states.append(state)
    loss = sum(((g * part_of(s, names[0])).sum() for g, s in zip(direct, states, strict=True)), start=torch.zeros(()))
    wanted = [x, *m.parameters(), *(part_of(s, name) for name in names for s in states)]
    dx, *expected = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    ours = rc.backward(tape, direct)
    assert step_errors(ours.x, dx).max() <= EQUAL
    for name, _ in m.named_parameters():
        assert relative_error(ours.params[name], expected.pop(0)) <= EQUAL, name
    for i, name in enumerate(names):
        reference = torch.stack(expected[i * len(x) : (i + 1) * len(x)])
        assert ours.parts[name].shape == reference.shape == tape.states(name).shape
        assert torch.equal(tape.states(name), torch.stack([part_of(s, name) for s in states]).detach())
        assert step_errors(ours.parts[name], reference).max() <= EQUAL, name
