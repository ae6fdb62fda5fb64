"""The proof of a user's own cell: a fault at one step alone, and states that leave the range of floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rnn_core as rc
from rnn_core import theory
from rnn_core.experiment import OwnCell, register
from rnn_core.theory import spectra as theory_spectra
from study.own_cells.loading import CellError
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


class Pair(nn.Module):
    """A gated state and a matrix beside it, which act on each other."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size, self.cell = hidden_size, nn.GRUCell(input_size + 2, hidden_size)
        self.decay = nn.Parameter(torch.rand(hidden_size, 2))

    def initial_state(self, batch_size: int) -> dict[str, Any]:
        weight = self.decay
        return {"h": weight.new_zeros(batch_size, self.hidden_size), "m": weight.new_zeros(batch_size, *weight.shape)}

    def forward(self, x: Any, state: dict[str, Any]) -> dict[str, Any]:
        h = self.cell(torch.cat([x, state["m"].mean(1)], 1), state["h"])
        return {"h": h, "m": self.decay * state["m"] + torch.tanh(h)[:, :, None]}


def identities_of(name: str) -> dict[str, float]:
    grid = {"cell": name, "sequence_length": 30, "hidden_size": 4, "batch_size": 2}
    rows = proof.table(name, {"one": {"seeds": 1, "grid": grid}}, {}, "cpu", TOLERANCE, spectra=True)
    errors = zip(rows["oracle"], rows["relative_error"], strict=True)
    return {oracle.removeprefix("spectra: "): error for oracle, error in errors if oracle.startswith("spectra")}


def test_spectra_of_a_users_cell_obey_their_identities(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were measured and compared with nothing: a frame that loses a part of the state would pass."""
    register(OwnCell("pair", Pair))
    found = identities_of("pair")
    assert set(found) == {"determinant", "forward frame", "singular values", "bounds", "eigenvalues"}
    assert all(error < 1e-11 for error in found.values())
    right = theory_spectra.lyapunov_spectrum

    def without_the_last(*args: Any, **options: Any) -> Any:
        spectrum = right(*args, **options)
        return spectrum._replace(exponents=np.append(spectrum.exponents[:-1], 0.0))

    monkeypatch.setattr(theory, "lyapunov_spectrum", without_the_last)
    with pytest.raises(CheckFailed, match="spectra: determinant"):
        identities_of("pair")


class ComplexStep(nn.Module):
    """A complex state and complex parameters, some of them in single precision as people write them: torch.cfloat."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.turn = nn.Parameter(torch.polar(torch.full((hidden_size,), 0.9), torch.rand(hidden_size)))
        self.read = nn.Parameter(torch.randn(hidden_size, input_size, dtype=torch.cfloat))

    def initial_state(self, batch_size: int) -> Any:
        return self.turn.new_zeros(batch_size, len(self.turn))

    def forward(self, x: Any, s: Any) -> Any:
        return self.turn * s + x.to(self.read.dtype) @ self.read.T


class Stacked(nn.Module):
    """A list of pairs (h, c)."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(input_size, hidden_size), nn.LSTMCell(hidden_size, hidden_size)])

    def initial_state(self, batch_size: int) -> Any:
        zero = self.cells[0].weight_hh.new_zeros(batch_size, self.cells[0].hidden_size)
        return [(zero, zero), (zero, zero)]

    def forward(self, x: Any, state: Any) -> Any:
        after = []
        for cell, own in zip(self.cells, state, strict=True):
            after.append(cell(x, own))
            x = after[-1][0]
        return after


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", [ComplexStep, Stacked])
def test_complex_and_nested_states_are_proved_and_trained(kind: Any, dtype: str) -> None:
    """float32 dropped the imaginary parts; a list of pairs was refused."""
    name = kind.__name__.lower()
    register(OwnCell(name, kind))
    grid = {"cell": name, "sequence_length": 30, "hidden_size": 4, "batch_size": 2, "dtype": dtype}
    rows = proof.table(name, {"one": {"seeds": 1, "grid": grid}}, {}, "cpu", TOLERANCE, spectra=dtype == "float64")
    assert len(rows["oracle"]) >= 3
    ran = rc.run(rc.Experiment(task="input_mean", loss_at="last", updates=3, learning_rate=1e-3, **grid))
    assert np.isfinite(ran.summary["growth_rate"]) and len(ran.updates["loss"]) == 3


class Late(Stacked):
    """A counter of calls, which acts from call 120 on."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.calls = 0

    def forward(self, x: Any, state: Any) -> Any:
        self.calls += 1
        return super().forward(x if self.calls < 120 else 0.5 * x, state)


@pytest.mark.parametrize("T", [20, 60, 200])
def test_a_state_of_its_own_that_acts_late_is_told_in_its_own_words(T: int) -> None:
    """It was told as a mistake of the engine, or at short lengths not at all."""
    register(OwnCell("late", Late, source="late.py"))
    said = r"Your own cell late \(late.py\).* The module keeps a state of its own|the cell 'late' at step t = .* keeps a state of its own"
    with pytest.raises((CheckFailed, CellError), match=said):
        prove("late", T)


def test_the_part_that_is_read_can_be_picked() -> None:
    """The lower cell of a stack was read, whatever stood above it: its gradient does not know the upper one."""
    for name, hidden in (("lower", None), ("upper", "2.1")):
        register(OwnCell(name, Stacked, hidden=hidden))
    lower, upper = (
        rc.prepare(rc.Experiment(cell=name, sequence_length=9, hidden_size=4, batch_size=2))
        for name in ("lower", "upper")
    )
    assert lower.cell.state_names[0] == "1.1" and upper.cell.state_names[0] == "2.1"
    assert prove("upper", 12)["relative_error"]
    evaluations = [rc.evaluate(each, each.params, *each.batch(0)) for each in (lower, upper)]
    weights = [bool(each.param_grads["cells.1.weight_hh"].any()) for each in evaluations]
    assert weights == [False, True]
    register(OwnCell("wrong", Stacked, source="stack.py", hidden="3.1"))
    with pytest.raises(
        CellError, match=r"Your own cell wrong \(stack.py\): hidden: '3.1' is not known; allowed: 1.1, 1.2, 2.1, 2.2"
    ):
        prove("wrong", 12)
