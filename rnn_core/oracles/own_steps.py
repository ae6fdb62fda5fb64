"""Oracle for a cell of the user's own: is the step's derivative that of the step, and does each sample go its own way?

Central differences know nothing of autograd, so a backward that was written by hand is found wrong by them alone. They are
taken along random directions, of x_t, of each part of the state and of each parameter by itself, from the states of the run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_core.oracles.compare import Error
from rnn_core.oracles.unrolled import Module, Parts

STEPS = 16  # that are looked at, evenly spread over the sequence, the first and the last among them
DIRECTIONS = 2
STEP = float(np.cbrt(np.finfo(np.float64).eps))  # times the size of what is moved: best for central differences
KINK = 0.5  # a jump between the one-sided differences that shrinks by less than this with the step is that of a kink
ROUNDING = 16.0  # times what rounding does to a difference
PASS = 1e-6  # the largest relative error of a sound step


@dataclass(frozen=True)
class Wrong:
    """Where a derivative is not that of the step.

    Attributes:
        t: the time step, 1 … T.
        what: with respect to what: ``x_t``, a part of the state before, or a parameter.
        claimed, measured: the derivative in a direction by autograd, and by central differences.
        by_hand: names of the ``torch.autograd.Function`` that the step uses.
    """

    t: int
    what: str
    claimed: float
    measured: float
    by_hand: tuple[str, ...]


def chosen_steps(T: int) -> list[int]:
    """At most ``STEPS`` indices t - 1, evenly spread."""
    return sorted({round(t) for t in np.linspace(0, T - 1, min(T, STEPS))})


def derivative_errors(module: Module, x: Tensor, before: dict[int, Parts]) -> tuple[Error, Wrong | None]:
    """(the worst relative error over all steps and directions, the worst place), in float64.

    Args:
        x: the inputs, (T, B, D), float64.
        before: the state before each step that is looked at, by t - 1.
    """
    errors, worst = [Error(0.0, "x_t, t = 1")], None
    rng = torch.Generator().manual_seed(0)
    for t, parts in before.items():
        for difference in _differences(module, x[t], parts, rng):
            error = Error(difference.error, f"{difference.what}, t = {t + 1}")
            if error.relative > max(errors).relative:
                by_hand = _functions_by_hand(module, x[t], parts)
                worst = Wrong(t + 1, difference.what, difference.claimed, difference.measured, by_hand)
            errors.append(error)
    return max(errors), worst


def sample_error(module: Module, x: Tensor, before: dict[int, Parts]) -> Error:
    """The worst relative error of a step of one sample alone against the same sample in its batch."""
    worst = Error(0.0, "t = 1")
    for t, parts in before.items():
        with torch.no_grad():
            together = module.step(x[t], parts)
            for b in range(x.shape[1]):
                alone = module.step(x[t, b : b + 1], {name: part[b : b + 1] for name, part in parts.items()})
                for name, part in together.items():
                    error = _relative(alone[name][0], part[b])
                    worst = max(worst, Error(error, f"{name} of sample {b + 1}, t = {t + 1}"))
    return worst


def _relative(ours: Tensor, reference: Tensor) -> float:
    size = float(reference.norm())
    difference = float((ours - reference).norm())
    return difference / size if size else 0.0 if difference == 0.0 else math.inf


@dataclass(frozen=True)
class _Difference:
    """A derivative in one direction, by autograd and by central differences."""

    what: str
    claimed: float
    measured: float
    error: float


def _differences(module: Module, x: Tensor, parts: Parts, rng: torch.Generator) -> Iterator[_Difference]:
    """Every derivative of one step in some directions; none at a kink."""
    leaves = {"x_t": x, **parts, **{f"parameter {name}": value for name, value in module.p.items()}}
    leaves = {name: value.detach().clone().requires_grad_() for name, value in leaves.items()}
    after = _after(module, leaves, parts)
    for _ in range(DIRECTIONS):
        given = {name: torch.randn(part.shape, generator=rng, dtype=part.dtype) for name, part in after.items()}
        outputs = [name for name, part in after.items() if part.requires_grad]
        found = torch.autograd.grad(
            [after[name] for name in outputs], list(leaves.values()), [given[name] for name in outputs],
            retain_graph=True, allow_unused=True, materialize_grads=True,
        )  # fmt: skip

        def value(moved: dict[str, Tensor], given: Parts = given) -> float:
            with torch.no_grad():
                return math.fsum(
                    float((given[name] * part).sum()) for name, part in _after(module, moved, parts).items()
                )

        with torch.no_grad():
            size = math.fsum(float((given[name] * part).abs().sum()) for name, part in after.items())
        for (name, leaf), grad in zip(leaves.items(), found, strict=True):
            if leaf.numel():
                direction = torch.randn(leaf.shape, generator=rng, dtype=leaf.dtype) * _scale(leaf)
                claimed = float((grad * direction).sum())
                difference = _along(
                    value, {n: each.detach() for n, each in leaves.items()}, name, direction, claimed, size
                )
                if difference is not None:
                    yield difference


def _along(
    value: Callable[[dict[str, Tensor]], float],
    leaves: Parts,
    name: str,
    direction: Tensor,
    claimed: float,
    size: float,
) -> _Difference | None:
    """One derivative in one direction; None where the function has a kink there, or is not finite."""

    def at(step: float) -> float:
        return value({**leaves, name: leaves[name] + step * direction})

    wide, narrow, middle = (at(STEP), at(-STEP)), (at(STEP / 4), at(-STEP / 4)), at(0.0)
    if not all(map(math.isfinite, (*wide, *narrow, middle))):
        return None
    rounding = ROUNDING * float(np.finfo(np.float64).eps) * size / STEP
    jump_wide, jump_narrow = (
        (up - 2 * middle + down) / step for (up, down), step in ((wide, STEP), (narrow, STEP / 4))
    )
    if abs(jump_narrow) > max(KINK * abs(jump_wide), 4 * rounding):
        return None
    rough, fine = (wide[0] - wide[1]) / (2 * STEP), 2 * (narrow[0] - narrow[1]) / STEP
    measured = fine + (fine - rough) / 15  # Richardson: without the error of second order
    # beside what rounding alone makes of the difference, an error is relative to the derivative
    return _Difference(
        name, claimed, measured, abs(claimed - measured) / (max(abs(claimed), abs(measured)) + 4 * rounding / PASS)
    )


def _after(module: Module, leaves: Parts, parts: Parts) -> Parts:
    """The step from these leaves, by name."""
    p = {name: leaves[f"parameter {name}"] for name in module.p}
    return replace(module, p=p).step(leaves["x_t"], {name: leaves[name] for name in parts})


def _scale(leaf: Tensor) -> float:
    """The root mean square of the entries; of zeros 1."""
    with torch.no_grad():
        return float(leaf.square().mean().sqrt()) or 1.0


def _functions_by_hand(module: Module, x: Tensor, parts: Parts) -> tuple[str, ...]:
    """The names of the ``torch.autograd.Function`` in the graph of a step."""
    leaves = {name: part.detach().clone().requires_grad_() for name, part in parts.items()}
    with torch.enable_grad():
        after = module.step(x.detach().clone().requires_grad_(), leaves)
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
    return tuple(sorted(names))
