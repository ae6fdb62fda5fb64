"""Whether a torch module's step is one: a function of x_t and the state alone, sample by sample, that autograd can differentiate.

The checks are made once for every size of batch, on a step that lies some steps into the sequence, where states are the module's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rnn_core.cells.base import BadStep
from rnn_core.cells.own.state import Form
from rnn_core.cells.own.step import Program, equal_but_for_rounding

TRIALS = 8  # calls with other random numbers: a dropout mask may happen to leave everything as it is
Parts = dict[str, Tensor]


class Facts(NamedTuple):
    """What is learnt of a step.

    Attributes:
        any_batch: whether it may be taken of any number of samples at once.
        acting: the parts of the state that the next state depends on. An output that is kept in the state is none.
    """

    any_batch: bool
    acting: tuple[str, ...]


def check_step(program: Program, form: Form, x: Tensor, parts: Parts) -> Facts:
    """What is to be known of the step from ``parts`` by x_t (B, D).

    Raises:
        BadStep: it is no function of x_t and the state, samples act on each other, or nothing can be differentiated.
    """

    def step(x: Tensor, parts: Parts) -> Parts:
        return program.forward(form, x, parts)

    same = _repeats(program, step, x, parts)
    any_batch, acting = _takes_more(step, x, parts), form.names
    if same:
        _check_samples(step, x, parts)
        acting = _check_graph(program, form, x, parts, any_batch)
    if changed := program.changed_buffers():
        raise BadStep(
            f"changes its buffer {changed[0]!r}: a step is a function of x_t and the state alone. A statistic that is gathered in "
            "training stands still after module.eval(); anything else that changes belongs into the state"
        )
    if not same:
        raise BadStep(
            "gives two results for the same x_t and state: the module keeps a state of its own between calls. What changes from "
            "step to step belongs into the state that is passed"
        )
    return Facts(any_batch, acting)


def _repeats(program: Program, step: Callable[[Tensor, Parts], Parts], x: Tensor, parts: Parts) -> bool:
    """Whether the same arguments give the same results.

    Raises:
        BadStep: random numbers make the difference.
    """
    random_before = _random_state(x)
    first = step(x, parts)
    draws = not torch.equal(random_before, _random_state(x))
    again = [step(x, parts) for _ in range(TRIALS if draws else 1)]
    same = all(_same(first, each) for each in again)
    if draws and not same:
        raise BadStep(f"is not the same twice: it draws random numbers{_dropout(program)}")
    return same


def _random_state(x: Tensor) -> Tensor:
    own = torch.cuda.get_rng_state(x.device) if x.device.type == "cuda" else torch.empty(0, dtype=torch.uint8)
    return torch.cat([torch.get_rng_state(), own])


def _dropout(program: Program) -> str:
    """Which layers do it, as far as they say so."""
    modules = program.owner.named_modules() if program.owner is not None else ()
    names = [name or "the module itself" for name, each in modules if each.training and _drops(each)]
    if names:
        return f" (dropout is on in {', '.join(names)}). Call module.eval() first, in a study self.eval() in __init__: a gradient is that of one function"
    return ". A gradient is that of one function; draw them before, and pass them in x_t, or leave them out"


def _drops(module: nn.Module) -> bool:
    """A layer of dropout, or one that has it inside, as ``nn.LSTM(…, dropout=0.5)``."""
    inside = getattr(module, "dropout", 0.0)
    return "Dropout" in type(module).__name__ or (isinstance(inside, float) and inside > 0.0)


def _same(a: Parts, b: Parts) -> bool:
    return all(equal_but_for_rounding(a[name], b[name]) for name in a)


def _takes_more(step: Callable[[Tensor, Parts], Parts], x: Tensor, parts: Parts) -> bool:
    """Whether a batch twice as large gives twice the same: some modules are made for one number of samples."""
    twice = {name: torch.cat([part, part]) for name, part in parts.items()}
    form_of_one = step(x, parts)
    try:
        after = step(torch.cat([x, x]), twice)
    except BadStep:
        return False
    B = x.shape[0]
    return _same({name: part[:B] for name, part in after.items()}, form_of_one)


def _check_samples(step: Callable[[Tensor, Parts], Parts], x: Tensor, parts: Parts) -> None:
    """The first sample comes out the same whatever stands beside it."""
    B = x.shape[0]
    if B == 1:
        return
    alone = step(_first_repeated(x), {name: _first_repeated(part) for name, part in parts.items()})
    beside = step(x, parts)
    if not _same({name: part[:1] for name, part in alone.items()}, {name: part[:1] for name, part in beside.items()}):
        raise BadStep(_MIXED)


_MIXED = (
    "mixes the samples of a batch (as BatchNorm does in training): the gradient of one sample would depend on the others. "
    "Call module.eval(), in a study self.eval() in __init__, or normalise within a sample"
)


def _first_repeated(part: Tensor) -> Tensor:
    return part[:1].repeat(part.shape[0], *(1,) * (part.ndim - 1))


def _check_graph(program: Program, form: Form, x: Tensor, parts: Parts, any_batch: bool) -> tuple[str, ...]:
    """Something can be differentiated, no parameter is unknown, and what is sent to other samples is exactly zero.

    Returns the names of the parts that the next state depends on.
    """
    if any_batch and x.shape[0] == 1:
        x, parts = torch.cat([x, x]), {name: torch.cat([part, part]) for name, part in parts.items()}
    leaf, before = x.detach().requires_grad_(), {name: part.detach().requires_grad_() for name, part in parts.items()}
    after = program.graph(form, leaf, before)
    outputs = [part for part in after.values() if part.requires_grad]
    if not outputs:
        raise BadStep(
            "cannot be differentiated: what it returns depends on neither x_t nor the state by operations that autograd knows "
            "(detach, .data, no_grad, NumPy or integers cut the way)"
        )
    used = _leaves(outputs)
    _check_leaves(used, [leaf, *before.values()])
    first_alone = [torch.zeros_like(part) for part in outputs]
    for each in first_alone:
        each[:1] = 1.0
    for derivative in program.derivatives(outputs, [leaf, *before.values()], first_alone):
        if bool((derivative[1:].nan_to_num() != 0).any()):
            raise BadStep(_MIXED)
    return tuple(name for name, part in before.items() if any(part is each for each in used))


def _leaves(outputs: list[Tensor]) -> list[Tensor]:
    """The tensors that a graph begins with."""
    todo, seen, variables = [part.grad_fn for part in outputs], set(), []
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            variables.append(variable)
        todo += [following for following, _ in node.next_functions]
    return variables


def _check_leaves(used: list[Tensor], known: list[Tensor]) -> None:
    """Whoever gives a function of (x_t, state) may have forgotten whose parameters it uses."""
    unknown = [tuple(leaf.shape) for leaf in used if not any(leaf is each for each in known)]
    if unknown:
        raise BadStep(
            f"uses parameters that the cell does not know, of shapes {', '.join(map(str, unknown))}: say whose they are, "
            "rc.TorchCell(step, parameters_of=module)"
        )
