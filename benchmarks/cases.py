"""The grid: which cells, in which regimes, of which sizes and lengths; and the networks that make the regimes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from benchmarks.work import BATCH, INPUTS, Work

SIZES = (32, 64, 128, 256, 512)
DTYPES = ("float64", "float32")
LENGTHS = (100, 500, 2000)
REGIMES = ("vanishing", "critical", "exploding", "saturated")
# The longest group whose length may be more than the shortest: gates · H² · T, in float32 half of it. About 0.1 s a run.
MOST = 1.7e7
LARGEST = 512  # of this size a group has two regimes: the critical one, and one of the others in turn


@dataclass(frozen=True)
class Setting:
    """What puts a cell into a regime.

    Attributes:
        radius: spectral radius of W_hh, of every gate; a number for all sizes, or one for each of ``SIZES``.
        inputs: standard deviation that the inputs give to preactivations.
        keep: bias of the gate that keeps the state; at -5 it keeps a hundredth.
        options: of a residual cell.
    """

    radius: float | tuple[float, ...]
    inputs: float = 1.0
    keep: float = 0.0
    options: Mapping[str, float] = field(default_factory=dict)


# Radii at which the gradient of these very networks neither grows nor vanishes were found by bisection.
LEAKY, EULER, ADDED = {"step": 1.0, "leak": 0.9}, {"step": 0.1, "leak": 0.0}, {"step": 1.0, "leak": 0.0}
SETTINGS: Mapping[tuple[str, str], Mapping[str, Setting]] = {
    ("vanilla", "tanh"): {
        "vanishing": Setting(0.01),
        "critical": Setting((2.066, 2.09, 1.902, 1.891, 1.891)),
        "exploding": Setting(10.0),
        "saturated": Setting(1.0, 5.0),
    },
    ("vanilla", "relu"): {
        "vanishing": Setting(0.02),
        "critical": Setting((1.535, 1.449, 1.41, 1.422, 1.422)),
        "exploding": Setting(5.0),
        "saturated": Setting(1.0, 5.0),
    },
    ("vanilla", "sigmoid"): {
        "vanishing": Setting(0.05),
        "critical": Setting((9.812, 14.812, 11.812, 10.75, 9.25)),
        "exploding": Setting(50.0),
        "saturated": Setting(1.0, 5.0),
    },
    ("residual", "tanh"): {
        "vanishing": Setting(0.01, options=LEAKY),
        "critical": Setting(0.1, options=EULER),
        "exploding": Setting(10.0, options=LEAKY),
        "saturated": Setting(1.0, 5.0, options=ADDED),
    },
    ("gru", "tanh"): {
        "vanishing": Setting(0.01, keep=-5.0),
        "critical": Setting((3.363, 3.441, 3.09, 3.109, 3.109)),
        "exploding": Setting(16.0),
        "saturated": Setting(1.0, 5.0),
    },
    ("lstm", "tanh"): {
        "vanishing": Setting(0.01, keep=-5.0),
        "critical": Setting((4.086, 4.039, 3.664, 3.781, 3.781)),
        "exploding": Setting(32.0),
        "saturated": Setting(1.0, 5.0),
    },
}
CELLS = tuple(SETTINGS)
GATES: Mapping[str, int] = {"vanilla": 1, "residual": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True)
class Group:
    """What is measured together, side by side: one network size and length in several regimes."""

    kind: str
    activation: str
    hidden_size: int
    dtype: str
    length: int
    regimes: tuple[str, ...] = REGIMES

    @property
    def cell(self) -> str:
        """Its name in tables."""
        return name_of(self.kind, self.activation)


def name_of(kind: str, activation: str) -> str:
    """The name of a cell in tables."""
    return kind.upper() if kind in ("gru", "lstm") else f"{kind} {activation}"


NAMES = {name_of(*cell): cell for cell in CELLS}


def grid(
    sizes: Sequence[int] = SIZES,
    dtypes: Sequence[str] = DTYPES,
    names: Iterable[str] = NAMES,
    lengths: Sequence[int] | None = None,
) -> list[Group]:
    """Every cell, size and dtype; the lengths in turn, as far as they are not too long, or those given; at H = 512 two regimes."""
    groups = []
    every = product(enumerate(NAMES), enumerate(SIZES), enumerate(DTYPES))
    for (i, name), (j, size), (k, dtype) in every:
        if name not in names or size not in sizes or dtype not in dtypes:
            continue
        kind, activation = NAMES[name]
        cost = GATES[kind] * size**2 / (1 if dtype == "float64" else 2)
        bearable = [length for length in LENGTHS if cost * length <= MOST] or [LENGTHS[0]]
        others = [regime for regime in REGIMES if regime != "critical"]
        regimes = REGIMES if size < LARGEST else ("critical", others[(i + k) % len(others)])
        for length in lengths or [bearable[-1 - (i + j + k) % len(bearable)]]:
            groups.append(Group(kind, activation, size, dtype, length, regimes))
    return groups


def on_gpu(sizes: Sequence[int], dtypes: Sequence[str]) -> list[Group]:
    """On a GPU a step waits for Python, whatever the regime: vanilla tanh says it all."""
    return [Group("vanilla", "tanh", size, dtype, 500, ("critical",)) for dtype, size in product(dtypes, sizes)]


def make(group: Group, regime: str, seed: int = 0, batch: int = BATCH, device: str = "cpu") -> Work:
    """The work of one run; other seeds are other networks and inputs. float32 is float64 rounded."""
    setting = SETTINGS[group.kind, group.activation][regime]
    size, radius = group.hidden_size, setting.radius
    if isinstance(radius, tuple):
        radius = dict(zip(SIZES, radius, strict=True)).get(size, radius[0])
    rng = np.random.default_rng([seed, size])
    empty = np.zeros(0)
    cell = Work(group.kind, group.activation, {}, empty, empty, setting.options).cell()
    params = cell.init_params(rng, INPUTS, size, "gaussian", radius, setting.inputs)
    if setting.keep:
        params["bias_ih"][size : 2 * size] = setting.keep  # of a GRU z, of an LSTM f
    x = rng.standard_normal((group.length, batch, INPUTS))
    g = rng.standard_normal((batch, size)) / batch
    rounded = {name: value.astype(group.dtype) for name, value in params.items()}
    return Work(group.kind, group.activation, rounded, x.astype(group.dtype), g.astype(group.dtype), setting.options, device)  # fmt: skip
