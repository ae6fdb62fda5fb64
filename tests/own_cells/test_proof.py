"""The proof of a user's own cell: a fault at one step alone, and states that leave the range of floats."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import rnn_core as rc
from rnn_core.experiment import OwnCell, register
from study.runs import proof
from study.runs.checks import CheckFailed

TOLERANCE = {"float64": 1e-10, "float32": 1e-3}


def prove(name: str, T: int) -> dict[str, list[Any]]:
    grid = {"cell": name, "sequence_length": T, "hidden_size": 4, "batch_size": 2}
    return proof.table(name, {"one": {"seeds": 1, "grid": grid}}, {}, "cpu", TOLERANCE)


class Tanh(torch.autograd.Function):
    """Its slope is wrong where ``mark`` is ``marked``."""

    marked = torch.tensor(0.0)

    @staticmethod
    def forward(ctx: Any, a: Any, mark: Any) -> Any:
        ctx.save_for_backward(torch.tanh(a), mark)
        return torch.tanh(a)

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        h, mark = ctx.saved_tensors
        return g * (1 - h * h) * torch.where(mark == Tanh.marked, 1.5, 1.0), None


class ByHand(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.read, self.turn = nn.Linear(input_size, hidden_size), nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Any, h: Any) -> Any:
        return Tanh.apply(self.read(x) + self.turn(h), x[:, :1])


@pytest.mark.parametrize("step", [100, 101])
def test_a_fault_at_one_step_of_many_is_named(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proof that looks at some steps alone says that all is well."""
    register(OwnCell("by_hand", ByHand, source="by_hand.py"))
    experiment = rc.Experiment(cell="by_hand", sequence_length=200, hidden_size=4, batch_size=2)
    x, _ = rc.prepare(experiment).batch(0)
    monkeypatch.setattr(Tanh, "marked", x[step - 1, 0, 0])
    with pytest.raises(
        CheckFailed, match=rf"its derivative is wrong: what step t = {step} .* The backward of Tanh is written by hand"
    ):
        prove("by_hand", 200)


class Growing(nn.Module):
    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size, self.read = hidden_size, nn.Linear(input_size, hidden_size)

    def forward(self, x: Any, h: Any) -> Any:
        return 100 * h + self.read(x)


def test_an_exploding_cell_passes() -> None:
    """Its states leave the range of floats at step 156. That is what a study may be about, and no wrong derivative."""
    register(OwnCell("growing", Growing, source="growing.py"))
    rows = prove("growing", 200)
    assert all(error is None or error <= 1e-5 for error in rows["relative_error"])
