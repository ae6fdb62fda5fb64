"""Oracle for a cell of the user's own: torch runs the module over a stretch of the sequence, and autograd goes back through all of it.

The equations stand in the user's module alone, so this says nothing about them. It shows that the engine's time loop, its
exponents, its sums over time and its way of taking steps together change nothing. Whether the module's own derivatives are right,
central differences say (``step_differences``).

A stretch is short enough to stay in range. It starts from the state that the engine reached, and its gradient goes on into the
stretch before it with an exponent of its own. So whole sequences are compared, at any length and beyond floating-point range.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rnn_core.arrays import Array, dtype_name
from rnn_core.oracles import places
from rnn_core.oracles.compare import Error, worst
from rnn_core.oracles.rounding import SUSPECT, beyond_rounding, errors_beyond_rounding, moved, noise
from rnn_core.scaling import Scaled, add, exponent_of, mantissa_and_exponents, times_power_of_two

STEPS = {"float64": 32, "float32": 8}  # of a stretch: a gradient that grows or shrinks by 2^15 a step stays in range
TRIALS = 2  # how often the whole is done again to find out what rounding does
Parts = dict[str, Tensor]


@dataclass(frozen=True)
class Module:
    """The user's module as torch's own programs call it.

    Attributes:
        call: the module, or a function without parameters.
        form: how it takes and returns its state (``rnn_core.cells.own.state``).
        p: its parameters by name; of complex ones the real and imaginary parts on a last axis.
        complex: the names of those.
    """

    call: Any
    form: Any
    p: dict[str, Tensor]
    complex: frozenset[str] = frozenset()

    def step(self, x: Tensor, parts: Parts) -> Parts:
        """The state after x_t (B, D), every part a tensor of its own."""
        state = self.form.built(parts)
        own = {name: torch.view_as_complex(p) if name in self.complex else p for name, p in self.p.items()}
        after = torch.func.functional_call(self.call, own, (x, state)) if own else self.call(x, state)
        distinct: Parts = {}
        for name, part in self.form.parts(after, x).items():
            alias = any(part is each for each in (*distinct.values(), *parts.values(), x))
            distinct[name] = part.view_as(part) if alias else part
        return distinct


class Sent(NamedTuple):
    """What a stretch sends to the state before it: values are what is stored times 2**exponent."""

    parts: Parts
    exponent: int


def recurrent_errors(
    ours: Any, states: Parts, module: Module, start: Parts, x: Tensor, direct: Array | Scaled
) -> list[Error]:
    """The worst error over t of the states and of every gradient that goes back through time, and that of every parameter.

    Where an error is large enough to matter, the whole is done again from numbers that differ in their last digit, and what the
    result moves by is no error. A gradient that is zero but for rounding (that of an sLSTM's stabiliser) differs between any two programs.

    Args:
        ours: the engine's gradients.
        states: the engine's states after every step by name, each (T, B, …).
        start: the state before the first step.
        x: (T, B, D).
        direct: the direct part of dL/dh_t, shaped as the first part of the state.
    """
    run = _Run(states, module, start, x, direct)
    errors = _errors(ours, run, [])
    if worst(errors).relative <= SUSPECT * torch.finfo(x.dtype).eps:
        return errors
    return _errors(ours, run, [noise(trial) for trial in range(TRIALS)])


@dataclass(frozen=True)
class _Run:
    """A forward pass of the engine, and what to go back from."""

    states: Parts
    module: Module
    start: Parts
    x: Tensor
    direct: Array | Scaled


def _errors(ours: Any, run: _Run, trials: list[torch.Generator]) -> list[Error]:
    T, steps = len(run.x), STEPS[dtype_name(run.x)]
    nothing = Sent({name: torch.zeros_like(part) for name, part in run.start.items()}, 0)
    sources: list[torch.Generator | None] = [None, *trials]
    sent = [nothing for _ in sources]
    sums: list[dict[str, Array | Scaled]] = [{} for _ in sources]
    errors = []
    for first in reversed(range(0, T, steps)):
        stop = min(first + steps, T)
        before = run.start if first == 0 else {name: part[first - 1] for name, part in run.states.items()}
        runs = []
        for i, source in enumerate(sources):
            stretch = _Stretch(run.module, before, run.x[first:stop], source)
            by_step, shares, sent[i] = stretch.back(sent[i], run.direct[first:stop], source)
            runs.append({**stretch.states(), **by_step})
            for name, share in shares.items():
                sums[i][name] = add(sums[i][name], share) if name in sums[i] else share
        claimed = {f"{name} of the state": part[first:stop] for name, part in run.states.items()}
        claimed |= {name: ours.parts[name][first:stop] for name in run.start} | {"x": ours.x[first:stop]}
        errors += [_worst_step(name, claimed[name], [each[name] for each in runs], first) for name in claimed]
    for name in run.start:
        again = [Scaled(each.parts[name], each.exponent) for each in sent]
        error = beyond_rounding(ours.state[name], again[0], again[1:])
        errors.append(Error(error, f"dL/d({name} before the first step)"))
    of_parameters = [
        Error(beyond_rounding(grad, sums[0][name], [each[name] for each in sums[1:]]), name)
        for name, grad in ours.params.items()
    ]
    return [worst(errors), *of_parameters]


def _worst_step(name: str, ours: Array | Scaled, references: list[Array | Scaled], first: int) -> Error:
    """The largest error of a step beyond rounding; ``references`` are the reference and what it is from changed numbers."""
    errors = errors_beyond_rounding(ours, references[0], references[1:])
    t = int(np.argmax(errors))
    return Error(float(errors[t]), places.at_step(name, first + t + 1))


class _Stretch:
    """Some steps of the sequence as one torch program."""

    def __init__(self, module: Module, before: Parts, x: Tensor, source: torch.Generator | None) -> None:
        self.before = {name: _leaf(part, source) for name, part in before.items()}
        self.x = _leaf(x, source)
        self.p = {name: _leaf(value, source) for name, value in module.p.items()}
        now, self.after = self.before, []
        with torch.enable_grad():
            for x_t in self.x.unbind(0):
                now = replace(module, p=self.p).step(x_t, now)
                self.after.append(now)

    def states(self) -> dict[str, Tensor]:
        """After every step, by name."""
        return {f"{name} of the state": torch.stack([now[name].detach() for now in self.after]) for name in self.before}

    def back(
        self, sent: Sent, direct: Array | Scaled, source: torch.Generator | None
    ) -> tuple[dict[str, Scaled], dict[str, Scaled], Sent]:
        """(gradients of states and inputs by step, shares of the parameters, what the state before receives)."""
        (rows, exponents), main = mantissa_and_exponents(direct), next(iter(self.before))
        known = [(part, sent.exponent) for part in sent.parts.values()] + list(
            zip(rows, exponents.tolist(), strict=True)
        )
        common = max((e + own for part, e in known if (own := exponent_of(part)) is not None), default=0)
        outputs, given = [], []
        for name, part in sent.parts.items():
            outputs.append(self.after[-1][name])
            given.append(times_power_of_two(moved(part, source), sent.exponent - common))
        for now, row, e in zip(self.after, rows, exponents.tolist(), strict=True):
            outputs.append(now[main])
            given.append(times_power_of_two(moved(row, source), e - common))
        inside = {name: [now[name] for now in self.after] for name in self.before}
        wanted = [
            self.x,
            *self.before.values(),
            *self.p.values(),
            *(part for parts in inside.values() for part in parts),
        ]
        derivatives = iter(_derivatives(outputs, wanted, given))
        by_step = {"x": _by_step(Scaled(next(derivatives), common))}
        sent = Sent({name: next(derivatives) for name in self.before}, common)
        shares = {name: Scaled(next(derivatives), common) for name in self.p}
        by_step |= {
            name: _by_step(Scaled(torch.stack([next(derivatives) for _ in parts]), common))
            for name, parts in inside.items()
        }
        return by_step, shares, sent


def _leaf(value: Tensor, source: torch.Generator | None) -> Tensor:
    return moved(value.detach(), source).clone().requires_grad_()


def _by_step(rows: Scaled) -> Scaled:
    return Scaled(rows.mantissa, np.full(len(rows.mantissa), rows.exponent))


def _derivatives(outputs: list[Tensor], wanted: list[Tensor], given: list[Tensor]) -> tuple[Tensor, ...]:
    """The derivatives of Σ given · outputs; zero for what nothing depends on, or what asks for no gradient."""
    connected = [(output, g) for output, g in zip(outputs, given, strict=True) if output.requires_grad]
    asked = [each for each in wanted if each.requires_grad]
    ends, cotangents = zip(*connected, strict=True)
    gradients = iter(torch.autograd.grad(ends, asked, cotangents, allow_unused=True, materialize_grads=True))
    return tuple(next(gradients) if each.requires_grad else torch.zeros_like(each) for each in wanted)
