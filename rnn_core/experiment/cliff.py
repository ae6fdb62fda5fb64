"""The cliff of Pascanu, Mikolov & Bengio (2013, figure 6): the loss of one recurrent unit over its weight and its bias.

The model is x_t = w σ(x_{t−1}) + b, and E = (σ(x_T) − target)². It is a ``VanillaCell("sigmoid")`` of one unit, whose state is
h_t = σ(x_t) = σ(w h_{t−1} + b). The engine goes back through it. One batch holds many biases: b is the unit's input, with W_ih = 1.
So every sample has its own, and dE/db is the sum of dE/dx_t over the steps, and dE/dw that of dE/dx_t h_{t−1}.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from rnn_core.bptt import backward, forward
from rnn_core.cells import VanillaCell
from rnn_core.clipping import parse_clipping
from rnn_core.scaling import LN2, LN10, mantissa_and_exponents, plain

CELL = VanillaCell("sigmoid")
POINTS = 121  # biases in one look at the ridge
NEAREST = 4.0 * np.finfo(float).eps  # of a bias, relative: a closer look would see rounding
JUMP = 0.2  # share of the way between two ends that one cell of a look may make before it is looked into


@dataclass(frozen=True)
class Unit:
    """What is asked of the unit; called, it says what becomes of it.

    Attributes:
        steps: T.
        start: x_0, of which h_0 = σ(x_0).
        target: what h_T should be.
    """

    steps: int = 50
    start: float = 0.5
    target: float = 0.7

    def __call__(self, w: float, b: np.ndarray) -> Points:
        """The loss and its gradient at one weight and many biases."""
        b = np.asarray(b, dtype=float)
        x = np.broadcast_to(b[:, None], (self.steps, len(b), 1))
        h_0 = np.full((len(b), 1), 1.0 / (1.0 + math.exp(-self.start)))
        tape = forward(CELL, {"weight_ih": np.ones((1, 1)), "weight_hh": np.full((1, 1), float(w))}, x, {"hidden": h_0})
        h = tape.hidden
        given = np.zeros_like(h)
        given[-1] = 2.0 * (h[-1] - self.target)
        mantissa, exponent = mantissa_and_exponents(backward(tape, given).x)  # W_ih is 1: dE/dx_t is dE/da_t
        common = int(exponent.max())
        da = np.ldexp(mantissa, (exponent - common)[:, None, None])[..., 0]
        before = np.concatenate([h_0[None], h[:-1]])[..., 0]
        dw, db = (da * before).sum(axis=0), da.sum(axis=0)
        with np.errstate(divide="ignore", over="ignore"):
            log10_norm = np.log10(np.hypot(dw, db)) + common * LN2 / LN10
            dw, db = np.ldexp(dw, common), np.ldexp(db, common)
        return Points(h[-1, :, 0], (h[-1, :, 0] - self.target) ** 2, dw, db, log10_norm)


@dataclass(frozen=True)
class Descent:
    """Where gradient descent starts, and how it goes on: a path for every clipping rule."""

    weight: float = 5.8
    bias: float = -2.0
    learning_rate: float = 0.4
    updates: int = 300
    clipping: tuple[str, ...] = ("none", "norm:0.1", "value:0.1")


@dataclass(frozen=True)
class Asked:
    """What a config asks for: the unit, the weights and biases of the surface (from, to; so many points of each), and the paths."""

    weights: tuple[float, float] = (4.0, 6.0)
    biases: tuple[float, float] = (-3.5, -1.5)
    points: int = 121
    unit: Unit = field(default_factory=Unit)
    path: Descent = field(default_factory=Descent)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Asked:
        """Of a config's key ``cliff``, in which all of them stand side by side; ``from`` is the weight and bias to start from."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
        }
        weight, bias = known.pop("from", (Descent.weight, Descent.bias))
        of_unit, of_path = (
            {each.name: known.pop(each.name) for each in fields(kind) if each.name in known} for kind in (Unit, Descent)
        )
        return cls(unit=Unit(**of_unit), path=Descent(weight, bias, **of_path), **known)


class Points(NamedTuple):
    """Of every bias: h_T, the loss E, dE/dw and dE/db (inf beyond the range of floats), and log10 of the gradient's norm (never)."""

    hidden: np.ndarray
    loss: np.ndarray
    grad_weight: np.ndarray
    grad_bias: np.ndarray
    log10_grad_norm: np.ndarray


def ridge(unit: Unit, w: float, low: float, high: float) -> float:
    """The bias between ``low`` and ``high`` at which |dE/db| is largest; nan where that is at an end, so that there is no ridge.

    The ridge may be a millionth of the distance wide, and then no point of a grid lies on it. But h_T rises with b, from one attractor
    to the other. So the closer look is first at the cell in which it jumps, and at the end at the largest derivative.
    """
    first, last = low, high
    while high - low > NEAREST * max(abs(low), abs(high)):
        b = np.linspace(low, high, POINTS)
        points = unit(w, b)
        rise = np.abs(np.diff(points.hidden))
        jump = int(rise.argmax())
        steep = rise[jump] > JUMP * rise.sum()
        at = (b[jump] + b[jump + 1]) / 2.0 if steep else b[np.abs(points.grad_bias).argmax()]
        cell = 1.5 * (high - low) / (POINTS - 1)
        low, high = max(low, at - cell), min(high, at + cell)
    steepest = (low + high) / 2.0
    inside = NEAREST * max(abs(first), abs(last))
    return steepest if first + inside < steepest < last - inside else math.nan


def descent(
    unit: Unit, w: float, b: float, rule: str, learning_rate: float, updates: int
) -> Iterator[tuple[float, float, Points]]:
    """(w, b, the one point there) before the first update, and after every one: gradient descent under a clipping rule.

    It ends where a parameter is no longer a number.
    """
    clipping, memory = parse_clipping(rule), None
    for update in range(updates + 1):
        if not (math.isfinite(w) and math.isfinite(b)):
            return
        here = unit(w, np.array([b]))
        yield w, b, here
        if update < updates:
            at = {"w": np.array([w]), "b": np.array([b])}
            done = clipping({"w": here.grad_weight, "b": here.grad_bias}, at, memory)
            clipped, memory = done.grads, done.memory
            with np.errstate(over="ignore", invalid="ignore"):  # beyond the range of floats the path ends
                w, b = (float((at[name] - learning_rate * plain(clipped[name]))[0]) for name in ("w", "b"))


def table(asked: Asked) -> dict[str, list[Any]]:
    """The columns of the table ``cliff``: every point of the surface, the ridge at every weight that has one, and the paths."""
    rows: list[tuple[Any, ...]] = []
    biases = np.linspace(*asked.biases, asked.points)
    for w in np.linspace(*asked.weights, asked.points).tolist():
        rows += _rows("surface", None, None, w, biases, asked.unit(w, biases))
        b = ridge(asked.unit, w, *sorted(asked.biases))
        if not math.isnan(b):
            rows += _rows("ridge", None, None, w, np.array([b]), asked.unit(w, np.array([b])))
    path = asked.path
    for rule in path.clipping:
        steps = descent(asked.unit, path.weight, path.bias, rule, path.learning_rate, path.updates)
        for update, (w, bias, here) in enumerate(steps):
            rows += _rows("descent", rule, update, w, np.array([bias]), here)
    return dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))


COLUMNS = (
    "what",
    "clipping",
    "update",
    "weight",
    "bias",
    "hidden",
    "loss",
    "grad_weight",
    "grad_bias",
    "log10_grad_norm",
)


def _rows(
    what: str, rule: str | None, update: int | None, w: float, b: np.ndarray, points: Points
) -> Iterator[tuple[Any, ...]]:
    for bias, *numbers in zip(b.tolist(), *(column.tolist() for column in points), strict=True):
        yield what, rule, update, w, bias, *numbers
