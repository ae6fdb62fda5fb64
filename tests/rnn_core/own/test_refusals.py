"""A step that is no step is refused in its own words, with the step's number where it has one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import rnn_core as rc
from tests.rnn_core.own.modules import Elman, Memory, module, normal

X = normal(6, 3, 2)
H = torch.zeros(3, 4, dtype=torch.float64)


class Base(nn.Module):
    """What the steps below are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden_size = 4
        self.a, self.w, self.drop, self.norm = nn.Linear(2, 4), nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4)
        self.register_buffer("count", torch.zeros(()))
        self.h: Any = None


def made(forward: Callable[[Any, Tensor, Any], Any]) -> Any:
    return module(type("Mine", (Base,), {"forward": forward}))


def run(call: Any, state: Any = None, x: Any = X, **kwargs: Any) -> rc.Tape:
    cell = rc.TorchCell(call, **kwargs)
    return rc.forward(cell, cell.params(), x, state)


def with_own_state(self: Any, x: Tensor, h: Tensor) -> Tensor:
    self.h = torch.tanh(self.w(h if self.h is None else self.h) + self.a(x)).detach()
    return self.h + 0 * self.a(x)


def counting(self: Any, x: Tensor, h: Tensor) -> Tensor:
    self.count += 1
    return torch.tanh(self.w(h) + self.a(x))


class Mixing(torch.autograd.Function):
    """Forward each sample goes its own way."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return h.clone()

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Tensor:
        return given.mean(0, keepdim=True).expand_as(given)


class Failing(torch.autograd.Function):
    """A backward pass with a mistake that Python finds."""

    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        return h.clone()

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Any:
        return given * {}["scale"]


class Fast:
    """Has a forward, as a module has, and is none."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return h


def starting(start: Callable[[Any, int], Tensor]) -> Any:
    """A sound step that starts from there."""
    step = {"forward": lambda s, x, h: torch.tanh(s.w(h) + s.a(x)), "initial_state": start}
    return module(type("Mine", (Base,), step))


def late(self: Any, x: Tensor, h: Tensor) -> Tensor:
    """Fails where the fifth x comes."""
    if float(x.detach().sum()) == float(X[4].sum()):
        raise RuntimeError("five is too many")
    return torch.tanh(self.w(h) + self.a(x))


STEPS: dict[str, tuple[Any, str]] = {
    "dropout": (
        made(lambda s, x, h: torch.tanh(s.drop(s.w(h)) + s.a(x))),
        r"the cell 'Mine' at step t = 4 is not the same twice: it draws random numbers \(dropout is on in drop\). Call module.eval\(\)",
    ),
    "random numbers": (
        made(lambda s, x, h: torch.tanh(s.w(h) + s.a(x) + torch.randn_like(h))),
        r"is not the same twice: it draws random numbers",
    ),
    "batch norm": (made(lambda s, x, h: torch.tanh(s.norm(s.w(h)) + s.a(x))), r"mixes the samples of a batch \(as BatchNorm"),
    "a mean over the batch": (made(lambda s, x, h: torch.tanh(s.w(h - h.mean(0)) + s.a(x))), "mixes the samples"),
    "a detached mean over the batch": (
        made(lambda s, x, h: torch.tanh(s.w(h) + s.a(x) - s.a(x).mean(0).detach())), "mixes the samples"),
    "a counter": (made(counting), "changes its buffer 'count': a step is a function of x_t and the state alone"),
    "a state of its own": (made(with_own_state), "gives two results for the same x_t and state: the module keeps a state of its own"),
    "in place": (made(lambda s, x, h: h.mul_(0.5).add_(s.a(x))), r"at step t = 1 changed 'hidden' in place; a step returns new"),
    "x in place": (made(lambda s, x, h: torch.tanh(s.w(h) + s.a(x.mul_(1.0)))), r"changed 'x_t' in place"),
    "another shape": (
        made(lambda s, x, h: torch.cat([h, s.a(x)], 1)),
        r"at step t = 1 returned 'hidden' with shape \(3, 8\); it was given with \(3, 4\), and a state keeps its shape",
    ),
    "another dtype": (made(lambda s, x, h: torch.tanh(s.w(h) + s.a(x)).float()), "returned 'hidden' in torch.float32; x is torch.float64"),
    "output and state": (
        made(lambda s, x, h: (s.a(x), h)),
        r"returned a tuple of a tensor \(3, 4\), a tensor \(3, 4\); it was given a tensor \(3, 4\).*If it returns \(output, state\), wrap it",
    ),
    "detached": (made(lambda s, x, h: torch.tanh(s.w(h) + s.a(x)).detach()), "cannot be differentiated: what it returns depends on neither"),
    "rounded to NumPy": (made(lambda s, x, h: torch.as_tensor((s.w(h) + s.a(x)).detach().numpy())), "cannot be differentiated"),
    "an error": (made(lambda s, x, h: torch.tanh(s.w(x))), "at step t = 1 failed: RuntimeError: mat1 and mat2 shapes"),
    "an error later": (made(late), "at step t = 5 failed: RuntimeError: five is too many"),
    "a complex state": (made(lambda s, x, h: torch.complex(h, h)), "returned 'hidden' in torch.complex128; it was given as a real one, and a state stays what it is: let initial_state"),
    "a backward that mixes samples": (made(lambda s, x, h: Mixing.apply(torch.tanh(s.w(h) + s.a(x)))), "mixes the samples"),
    "a state that was guessed": (
        made(lambda s, x, h: torch.tanh(h @ s.w(h).transpose(1, 2))),
        r"at step t = 1 failed: .* Its state was taken to be zeros \(B, hidden_size\): if it is not, give rc.forward a state",
    ),
    "a string": (made(lambda s, x, h: "h"), "returned a str; it was given"),
    "a name that is missing": (made(lambda s, x, h: misspelt(h)), "at step t = 1 failed: NameError: name 'misspelt' is not defined$"),  # type: ignore[name-defined]  # noqa: F821
    "an attribute that is missing": (made(lambda s, x, h: s.wait(h)), "failed: AttributeError: 'Mine' object has no attribute 'wait'$"),
    "a state taken apart": (made(lambda s, x, h: h["m"]), "at step t = 1 failed: .* Its state was taken to be zeros"),
    "a backward that fails": (made(lambda s, x, h: Failing.apply(torch.tanh(s.w(h) + s.a(x)))), "cannot be differentiated: KeyError: 'scale'"),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_is_none_is_refused(name: str) -> None:
    call, message = STEPS[name]
    before = {key: value.clone() for key, value in call.named_buffers()}
    with pytest.raises(ValueError, match=message):
        run(call, H, X.clone())
    assert all(torch.equal(value, before[key]) for key, value in call.named_buffers())


OTHERS: dict[str, tuple[Callable[[], Any], str]] = {
    "no state at all": (lambda: run(made(lambda s, x, h: None)), "called with None for a state it returns None: if it returns no state, it is no step"),
    "output and state from the first call on": (
        lambda: run(made(lambda s, x, h: (s.a(x), torch.tanh(s.a(x) + (0 if h is None else s.w(h)))))),
        r"at step t = 1 failed: .* If the two tensors that it returns are \(output, state\), wrap it",
    ),
    "a start that nobody knows": (
        lambda: run(lambda x, h: torch.tanh(h + x.sum())),
        r"state: is needed: nothing says what the states of '<lambda>' look like .*Give rc.forward a state, or the module a method initial_state",
    ),
    "parameters of somebody else": (
        lambda: run((lambda net: lambda x, h: net(x, h))(module(Elman)), H),
        r"uses parameters that the cell does not know, of shapes .*parameters_of=module",
    ),
    "a whole LSTM": (lambda: run(module(nn.LSTM, 2, 4)), r"a state is a tensor, or tuples, lists and dicts of tensors. If it returns \(output, state\)"),
    "a layer": (lambda: run(module(nn.Linear, 2, 4)), "takes 2 positional arguments but 3 were given"),
    "another D": (lambda: run(module(nn.GRUCell, 3, 4)), "at step t = 1 failed: RuntimeError: input has inconsistent input_size"),
    "a wrong part": (lambda: run(module(Elman), {"hiden": H}), "state: 'hiden' is not known; allowed: hidden. Did you mean 'hidden'?"),
    "a wrong part of a function": (lambda: run(lambda x, s: s, {"h": H}, state_names=("m",)), "state: 'h' is not known; allowed: m"),
    "a missing part": (lambda: run(module(nn.LSTMCell, 2, 4), {"hidden": H}), "state: cell is missing"),
    "a missing part of a function": (lambda: run(lambda x, s: s, {"a": H}, state_names=("a", "b")), "state: b is missing"),
    "a wrong shape": (lambda: run(module(Elman), {"hidden": H[:2]}), r"state\['hidden'\]: shape \(2, 4\) does not fit; expected \(3, 4\)"),
    "too many names": (lambda: run(module(nn.LSTMCell, 2, 4), state_names=("a", "b", "c")), "state_names: a, b, c does not fit; the state has 2 parts"),
    "a wrong name of a dict": (
        lambda: run(module(Memory), state_names=("output", "memry", "normaliser")),
        "state_names: 'memry' is not known; allowed: output, memory, normaliser. Did you mean 'memory'?",
    ),
    "a name that is taken": (lambda: run(lambda x, s: s * x, H[:, :2], state_names="x"), "state_names: 'x' is not allowed"),
    "a wrong hidden": (lambda: run(module(nn.LSTMCell, 2, 4), hidden="cel"), "hidden: 'cel' is not known; allowed: hidden, cell. Did you mean 'cell'?"),
    "NumPy": (lambda: run(module(Elman), x=X.numpy()), r"x: NumPy does not fit; a TorchCell takes torch tensors: torch.as_tensor\(x\)"),
    "float32": (lambda: run(module(Elman), x=X.float()), "read.weight: torch.float64 on cpu does not fit; x is torch.float32"),
    "a counter in the state": (
        lambda: run(lambda x, s: (s[0] * x, s[1] + 1), (H[:, :2], torch.zeros(3, 1, dtype=torch.int64))),
        "'part_2' in torch.int64; x is torch.float64, and every part of the state is kept in that",
    ),
    "the class": (lambda: rc.TorchCell(Elman), "module: the class Elman is not allowed; it must be a torch module or a function"),
    "a class of Python alone": (lambda: rc.TorchCell(Fast()), r"module: Fast is not allowed; .* It has a method forward: write class Fast\(torch.nn.Module\)"),
    "a start in float32": (
        lambda: run(starting(lambda s, B: torch.zeros(B, 4, dtype=torch.float32))),
        r"own start returned 'hidden' in torch.float32; x is torch.float64.* make it like a parameter, .*self.weight.new_zeros\(batch_size, hidden_size\)",
    ),
    "a number": (lambda: rc.TorchCell(3), "module: int is not allowed"),
    "parameters of a number": (lambda: rc.TorchCell(lambda x, h: h, parameters_of=3), "parameters_of: int is not allowed"),
    "a misspelt parameter": (
        lambda: rc.forward(rc.TorchCell(module(Elman)), {k.replace("turn", "trun"): v for k, v in rc.TorchCell(module(Elman)).params().items()}, X),
        "params: turn.weight is missing; the cell 'Elman' needs it, as cell.params.. gives it; 'trun.weight' is none of its names",
    ),
    "a parameter of another shape": (
        lambda: rc.forward(rc.TorchCell(module(Elman)), {**rc.TorchCell(module(Elman)).params(), "read.bias": H[0, :2]}, X),
        r"read.bias: shape \(2,\) does not fit; the module's is \(4,\)",
    ),
    "init_params": (lambda: rc.TorchCell(module(Elman)).init_params(), r"the cell 'Elman' brings its own parameters; take cell.params\(\)"),
    "shapes before inputs": (lambda: rc.TorchCell(module(Elman)).state_shapes({}), "has yet to learn what its states look like"),
    "a wrong grad_hidden": (lambda: rc.backward(run(module(Memory)), torch.zeros(6, 3, 4)), "grad_hidden: "),
    "a wrong grad_state": (lambda: rc.backward(run(module(Memory)), None, {"memroy": H}), "grad_state: 'memroy' is not known; .* Did you mean 'memory'?"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_an_argument_that_does_not_fit_is_named(name: str) -> None:
    call, message = OTHERS[name]
    with pytest.raises(ValueError) as caught:
        call()
    assert re.search(message, str(caught.value)), str(caught.value)


def test_an_object_that_can_be_called_has_its_own_name_and_state() -> None:
    """``hidden_size`` and the name of its class were not seen; the cell was called 'step', and its state was not known."""

    class Leaky:
        hidden_size = 4

        def __call__(self, x: Tensor, h: Tensor) -> Tensor:
            return 0.5 * h + x.sum(1, keepdim=True)

    tape = run(Leaky())
    assert tape.cell.name == "Leaky" and tape.hidden.shape == (6, 3, 4)


def test_harmless_random_numbers_and_evaluation_pass() -> None:
    """What a step draws and does not use is no randomness; dropout that is off is none."""
    run(made(lambda s, x, h: torch.tanh(s.w(h) + s.a(x) + 0 * torch.randn_like(h))), H)
    run(made(lambda s, x, h: torch.tanh(s.drop(s.w(h)) + s.a(x))).eval(), H)
    run(made(lambda s, x, h: torch.tanh(s.norm(s.w(h)) + s.a(x))).eval(), H)


def test_a_switch_to_training_is_seen() -> None:
    """The checks are made once, but for what may change them."""
    call = made(lambda s, x, h: torch.tanh(s.drop(s.w(h)) + s.a(x))).eval()
    cell = rc.TorchCell(call)
    rc.forward(cell, cell.params(), X, H)
    call.train()
    with pytest.raises(ValueError, match="dropout is on"):
        rc.forward(cell, cell.params(), X, H)
