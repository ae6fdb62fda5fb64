"""Oracle for a cell of the user's own: torch runs the module over a stretch of the sequence, and autograd goes back through all of it.

The equations stand in the user's module alone, so this says nothing about them: it shows that the engine's time loop, its
exponents, its sums over time and its way of taking steps together change nothing. Whether the module's own derivatives are
right, central differences say (``study/runs/proof.py`` asks for both).

A stretch is short enough to stay in range. It starts from the state that the engine reached, and its gradient goes on into the
stretch before it with an exponent of its own. So whole sequences are compared, at any length and beyond floating-point range.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_core.arrays import Array, dtype_name
from rnn_core.bptt import Gradients
from rnn_core.oracles.compare import ALLOWED, Error, relative_error, worst, worst_step
from rnn_core.scaling import Scaled, add, exponent_of, log_norm, mantissa_and_exponents, times_power_of_two

STEPS = {"float64": 32, "float32": 8}  # of a stretch: a gradient that grows or shrinks by 2^15 a step stays in range
Parts = dict[str, Tensor]


@dataclass(frozen=True)
class Module:
    """The user's module as torch's own programs call it.

    Attributes:
        call: the module, or a function without parameters.
        form: how it takes and returns its state (``rnn_core.cells.own.state``).
        p: its parameters by name.
    """

    call: Any
    form: Any
    p: dict[str, Tensor]

    def step(self, x: Tensor, parts: Parts) -> Parts:
        """The state after x_t (B, D), every part a tensor of its own."""
        state = self.form.built(parts)
        after = torch.func.functional_call(self.call, self.p, (x, state)) if self.p else self.call(x, state)
        found: Parts = {}
        for name, part in self.form.parts(after, x).items():
            alias = any(part is each for each in (*found.values(), *parts.values(), x))
            found[name] = part.view_as(part) if alias else part
        return found


class Sent(NamedTuple):
    """What a stretch sends to the state before it: values are what is stored times 2**exponent."""

    parts: Parts
    exponent: int


def recurrent_errors(ours: Gradients, states: Parts, module: Module, start: Parts, x: Tensor, direct: Array | Scaled) -> list[Error]:
    """The worst error over t of the states and of every gradient that goes back through time, and that of every parameter.

    Args:
        ours: the engine's gradients.
        states: the engine's states after every step by name, each (T, B, …).
        start: the state before the first step.
        x: (T, B, D).
        direct: the direct part of dL/dh_t, shaped as the first part of the state.
    """
    T, steps = len(x), STEPS[dtype_name(x)]
    errors: list[Error] = []
    sums: dict[str, Array | Scaled] = {}
    sizes: dict[str, list[float]] = {}
    sent = Sent({name: torch.zeros_like(part) for name, part in start.items()}, 0)
    for first in reversed(range(0, T, steps)):
        stop = min(first + steps, T)
        before = start if first == 0 else {name: part[first - 1] for name, part in states.items()}
        stretch = _Stretch(module, before, x[first:stop])
        found, shares, sent = stretch.back(sent, direct[first:stop])
        errors += [_at(error, first) for error in stretch.errors(ours, states, found, first, stop)]
        for name, share in shares.items():
            sums[name] = add(sums[name], share) if name in sums else share
            sizes.setdefault(name, []).append(log_norm(share))
    errors += [
        Error(relative_error(ours.state[name], Scaled(part, sent.exponent)), f"dL/d({name} before the first step)")
        for name, part in sent.parts.items()
    ]
    return [worst(errors), *_parameter_errors(ours, sums, sizes, torch.finfo(x.dtype).eps)]


class _Stretch:
    """Some steps of the sequence as one torch program."""

    def __init__(self, module: Module, before: Parts, x: Tensor) -> None:
        self.before = {name: part.detach().clone().requires_grad_() for name, part in before.items()}
        self.x = x.detach().clone().requires_grad_()
        self.p = {name: value.detach().clone().requires_grad_() for name, value in module.p.items()}
        now, self.after = self.before, []
        with torch.enable_grad():
            for x_t in self.x.unbind(0):
                now = Module(module.call, module.form, self.p).step(x_t, now)
                self.after.append(now)

    def back(self, sent: Sent, direct: Array | Scaled) -> tuple[dict[str, Scaled], dict[str, Scaled], Sent]:
        """(gradients of states and inputs by step, shares of the parameters, what the state before receives)."""
        (rows, exponents), main = mantissa_and_exponents(direct), next(iter(self.before))
        known = [(part, sent.exponent) for part in sent.parts.values()] + list(zip(rows, exponents.tolist(), strict=True))
        common = max((e + own for part, e in known if (own := exponent_of(part)) is not None), default=0)
        outputs, given = [], []
        for name, part in sent.parts.items():
            outputs.append(self.after[-1][name])
            given.append(times_power_of_two(part, sent.exponent - common))
        for now, row, e in zip(self.after, rows, exponents.tolist(), strict=True):
            outputs.append(now[main])
            given.append(times_power_of_two(row, e - common))
        inside = {name: [now[name] for now in self.after] for name in self.before}
        wanted = [self.x, *self.before.values(), *self.p.values(), *(part for parts in inside.values() for part in parts)]
        found = iter(_derivatives(outputs, wanted, given))
        by_step = {"x": Scaled(next(found), common)}
        sent = Sent({name: next(found) for name in self.before}, common)
        shares = {name: Scaled(next(found), common) for name in self.p}
        by_step |= {name: Scaled(torch.stack([next(found) for _ in parts]), common) for name, parts in inside.items()}
        return by_step, shares, sent

    def errors(self, ours: Gradients, states: Parts, found: dict[str, Scaled], first: int, stop: int) -> Iterator[Error]:
        for name in self.before:
            reference = torch.stack([now[name].detach() for now in self.after])
            yield worst_step(f"{name} of the state", states[name][first:stop], reference)
            yield worst_step(name, ours.parts[name][first:stop], _by_step(found[name]))
        yield worst_step("x", ours.x[first:stop], _by_step(found["x"]))


def _by_step(rows: Scaled) -> Scaled:
    return Scaled(rows.mantissa, np.full(len(rows.mantissa), rows.exponent))


def _derivatives(outputs: list[Tensor], wanted: list[Tensor], given: list[Tensor]) -> tuple[Tensor, ...]:
    """The derivatives of Σ given · outputs; zero for what nothing depends on, or what asks for no gradient."""
    connected = [(output, g) for output, g in zip(outputs, given, strict=True) if output.requires_grad]
    asked = [each for each in wanted if each.requires_grad]
    ends, cotangents = zip(*connected, strict=True)
    found = iter(torch.autograd.grad(ends, asked, cotangents, allow_unused=True, materialize_grads=True))
    return tuple(next(found) if each.requires_grad else torch.zeros_like(each) for each in wanted)


def _at(error: Error, first: int) -> Error:
    """The error with its step counted from the start of the sequence."""
    name, t = error.where.split(", t = ")
    return Error(error.relative, f"{name}, t = {first + int(t)}")


def _parameter_errors(
    ours: Gradients, sums: dict[str, Array | Scaled], sizes: dict[str, list[float]], eps: float
) -> Iterator[Error]:
    """What rounding does to a sum whose terms cancel is no error: ``ALLOWED`` times eps, relative to the size of its terms."""
    for name, grad in ours.params.items():
        error = relative_error(grad, sums[name])
        largest, total = max(sizes[name]), log_norm(sums[name])
        if math.isfinite(largest) and math.isfinite(total):
            error = max(0.0, error - ALLOWED * eps * len(sizes[name]) * math.exp(min(largest - total, 100.0)))
        yield Error(error, name)
