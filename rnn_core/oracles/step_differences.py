"""Oracle for a step of the user's own: autograd's derivatives of every single step against central differences of that step.

A module may bring a backward pass of its own (``torch.autograd.Function``). Autograd trusts it, and so does everything that is
built on autograd. Here nothing is asked but the step's values. Every step is judged by itself, from the state that the engine
reached before it, so a fault is named with its step.

Along a random direction v the derivative of the sum of g · step is ⟨J^T g, v⟩ by autograd. By differences it is
(f(θ + h v) - f(θ - h v)) / 2h. Both are taken for x_t, for every part of the state before, and for every parameter. A wrong derivative
differs along almost every v. Steps of a sample are rows of one batch, so all of them cost a few calls of the module.

At a kink, as relu has one, the two one-sided differences part, and a derivative between them is right. What rounding does to a
difference is no error: a derivative smaller than that cannot be judged. Nor can a step whose values leave the range of floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rnn_core.oracles.compare import Error

Parts = dict[str, Tensor]
Params = dict[str, Tensor]
# The state after a step of every row, from the parameters, x (rows, D) and the state before, each (rows, …).
Step = Callable[[Params, Tensor, Parts], Parts]

SIZES = (1.0, 0.1, 0.01)  # of the difference, times eps^(1/3): a kink that is too near for one is not for the next
ROUNDING = 64.0  # times eps and the size of the terms: what a value of the step may be off by
KINK = 1e-2  # one-sided differences that are further apart than this, relative to the derivative, lie on two sides of a kink


def worst_of_steps(
    step: Step,
    params: Params,
    x: Tensor,
    before: Parts,
    any_batch: bool = True,
    seed: int = 0,
    trainable: tuple[str, ...] | None = None,
    numbers: list[int] | None = None,
) -> Error:
    """The worst error of all derivatives of all steps, relative to the derivative, and where it is.

    Args:
        params: by name.
        x: (T, B, D), in float64 for the full sharpness.
        before: the state before every step by name, each (T, B, …).
        any_batch: whether steps may be taken together, as rows of one batch.
        seed: of g and v.
        trainable: the names of the parameters that are judged; None is all.
        numbers: which step of the sequence each of the T is, from 0; None is all of them in order.

    Returns:
        The error, with words like ``what step t = 5 sends to 'hidden'``. It is inf where a derivative is not finite and the
        difference is.
    """
    judge = _Judge(step, params, seed)
    T = len(x)
    stretches = [(0, T)] if any_batch else [(t, t + 1) for t in range(T)]
    worst = Error(0.0, "nothing")
    for start, stop in stretches:
        rows, parts = (
            x[start:stop].flatten(0, 1),
            {name: part[start:stop].flatten(0, 1) for name, part in before.items()},
        )
        for compared in judge.errors(rows, parts, stop - start, tuple(params) if trainable is None else trainable):
            t = int(compared.error.argmax())
            step_number = (numbers[start + t] if numbers else start + t) + 1
            if float(compared.error[t]) > worst.relative:
                worst = Error(
                    float(compared.error[t]),
                    f"{compared.what.format(t=step_number)}: autograd has {float(compared.autograd[t]):.6g}, differences {float(compared.differences[t]):.6g}",
                )
    return worst


class _Compared(NamedTuple):
    """Derivatives along one direction, one a step.

    Attributes:
        what: words with a place for t.
        error: relative, (steps,).
        autograd, differences: the derivatives.
    """

    what: str
    error: Tensor
    autograd: Tensor
    differences: Tensor


class _Judge:
    def __init__(self, step: Step, params: Params, seed: int) -> None:
        self._step, self._params = step, {name: value.detach() for name, value in params.items()}
        self._random = torch.Generator().manual_seed(seed)

    def errors(self, x: Tensor, before: Parts, steps: int, trainable: tuple[str, ...]) -> Iterator[_Compared]:
        """Of the rows of ``steps`` steps, every step's samples side by side."""
        given = {"x_t": x.detach(), **{name: part.detach() for name, part in before.items()}}
        after = self._after(self._params, given)
        g = {name: self._normal(part) for name, part in after.items()}
        terms = torch.stack([_row_sums((g[name] * part).abs()) for name, part in after.items()]).sum(0)
        noise = _by_step(terms, steps)
        leaves = {name: value.clone().requires_grad_() for name, value in given.items()}
        own = _gradients(self._rows(g, self._params, leaves).sum(), list(leaves.values()))
        for (name, value), gradient in zip(given.items(), own, strict=True):
            v = self._normal(value)

            def beside(h: float, name: str = name, v: Tensor = v) -> Tensor:
                return _by_step(self._rows(g, self._params, {**given, name: given[name] + h * v}), steps)

            scale = _by_step(_row_sums(gradient**2), steps).sqrt() / math.sqrt(max(1, value[0].numel()))
            target = "x_t" if name == "x_t" else f"{name!r} before it"
            derivative = _by_step(_row_sums(gradient * v), steps)
            yield _compared(f"what step t = {{t}} sends to {target}", derivative, scale, beside, noise)
        names = [name for name in trainable if name in self._params]
        gradients = self._parameter_gradients(g, given, steps, names)
        for name, of_steps in zip(names, gradients, strict=True):
            v = self._normal(self._params[name])

            def changed(h: float, name: str = name, v: Tensor = v) -> Tensor:
                return _by_step(self._rows(g, {**self._params, name: self._params[name] + h * v}, given), steps)

            derivative = _row_sums(of_steps * v)
            scale = _row_sums(of_steps**2).sqrt() / math.sqrt(max(1, v.numel()))
            yield _compared(f"what step t = {{t}} adds to {name!r}", derivative, scale, changed, noise)

    def _parameter_gradients(self, g: Parts, given: Parts, steps: int, names: list[str]) -> list[Tensor]:
        """What every step adds, (steps, …) of every parameter: one step after the other, which costs less than one graph of all."""
        if not names:
            return []
        leaves = {name: value.clone().requires_grad_(name in names) for name, value in self._params.items()}
        of_steps = []
        for t in range(steps):
            own = slice(t * len(given["x_t"]) // steps, (t + 1) * len(given["x_t"]) // steps)
            rows = self._rows(_part(g, own), leaves, _part(given, own))
            of_steps.append(_gradients(rows.sum(), [leaves[name] for name in names]))
        return [torch.stack(each) for each in zip(*of_steps, strict=True)]

    def _after(self, params: Params, given: Parts) -> Parts:
        return self._step(params, given["x_t"], {name: value for name, value in given.items() if name != "x_t"})

    def _rows(self, g: Parts, params: Params, given: Parts) -> Tensor:
        """Σ g · step of every row."""
        after = self._after(params, given)
        return torch.stack([_row_sums(g[name] * part) for name, part in after.items()]).sum(0)

    def _normal(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self._random, dtype=torch.float64).to(like)


def _compared(what: str, by_autograd: Tensor, scale: Tensor, f: Callable[[float], Tensor], noise: Tensor) -> _Compared:
    """Autograd's derivatives ``by_autograd`` against differences of ``f``, both by step.

    Args:
        scale: the usual size of such a derivative.
        noise: the size of the terms of f.
    """
    middle, eps = f(0.0), torch.finfo(by_autograd.dtype).eps
    best, differences = torch.full_like(by_autograd, math.inf), torch.zeros_like(by_autograd)
    for size in SIZES:
        h = size * eps ** (1 / 3)
        up, down = f(h), f(-h)
        right, left, central = (up - middle) / h, (middle - down) / h, (up - down) / (2 * h)
        at_kink = (right - left).abs() > KINK * torch.maximum(scale, central.abs())
        outside = torch.maximum(
            torch.minimum(right, left) - by_autograd, by_autograd - torch.maximum(right, left)
        ).clamp_min(0.0)
        off = torch.where(at_kink, outside, (central - by_autograd).abs()) - ROUNDING * eps * noise / h
        error = off.clamp_min(0.0) / torch.maximum(scale, central.abs()).clamp_min(torch.finfo(by_autograd.dtype).tiny)
        error = torch.where(central.isfinite(), torch.where(by_autograd.isfinite(), error, math.inf), 0.0)
        better = error < best
        best, differences = (
            torch.where(better, error, best),
            torch.where(better | differences.isnan(), central, differences),
        )
    return _Compared(what, best, by_autograd, differences)


def _part(rows: Parts, own: slice) -> Parts:
    return {name: value[own] for name, value in rows.items()}


def _row_sums(rows: Tensor) -> Tensor:
    """Over all axes but the first, if there are any."""
    return rows.reshape(len(rows), -1).sum(1)


def _by_step(rows: Tensor, steps: int) -> Tensor:
    return rows.detach().reshape(steps, -1).sum(1)


def _gradients(output: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """Zero for what nothing depends on."""
    if not output.requires_grad:
        return tuple(map(torch.zeros_like, inputs))
    return tuple(torch.autograd.grad(output, inputs, allow_unused=True, materialize_grads=True))


def functions_by_hand(step: Step, params: Params, x: Tensor, before: Parts) -> list[str]:
    """The names of the ``torch.autograd.Function`` in the graph of a step, from x (rows, D) and the state before, each (rows, …)."""
    leaves = {name: part.detach().clone().requires_grad_() for name, part in before.items()}
    with torch.enable_grad():
        after = step(params, x.detach().clone().requires_grad_(), leaves)
    todo: list[Any] = [part.grad_fn for part in after.values()]
    seen, names = set(), set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            names.add(type(node).__name__.removesuffix("Backward"))
        todo += [following for following, _ in node.next_functions]
    return sorted(names)
