"""What everybody is timed on: forward and backward through a network, every ln ‖dL/dh_t‖ and all parameter gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import rnn_core as rc

BATCH, INPUTS = 32, 8


@dataclass(frozen=True, eq=False)
class Work:
    """One run: a cell from a zero state along x, L = Σ g ∘ h_T.

    Attributes:
        kind: "vanilla", "residual", "gru" or "lstm".
        activation: of the candidate: "tanh", "relu" or "sigmoid". The peers' gated cells know tanh alone.
        params: torch.nn's, without the ``_l0``.
        x: (T, B, D).
        g: dL/dh_T, (B, H).
        options: of a residual cell its ``step`` and ``leak``.
        device: where torch puts it.
    """

    kind: str
    activation: str
    params: dict[str, np.ndarray]
    x: np.ndarray
    g: np.ndarray
    options: Mapping[str, float] = field(default_factory=dict)
    device: str = "cpu"

    @property
    def hidden_size(self) -> int:
        return int(self.g.shape[1])

    @property
    def flops(self) -> float:
        """Of the recurrent products alone, W_hh h, W_hhᵀ dv and dv hᵀ: 2 G H² B each a step."""
        T, B, _ = self.x.shape
        return float(6 * self.params["weight_hh"].size * B * T)

    def cell(self) -> rc.Cell:
        """The engine's."""
        makers: dict[str, Callable[..., rc.Cell]] = {
            "vanilla": rc.VanillaCell, "residual": rc.ResidualCell, "gru": rc.GRUCell, "lstm": rc.LSTMCell,
        }  # fmt: skip
        return makers[self.kind](self.activation, **self.options)


@dataclass(frozen=True)
class Measured:
    """What a run found: ln ‖dL/dh_t‖ (T,), None of who gives no trace, and the gradients of all parameters.

    A gradient is mantissa · 2^exponent; ``params`` holds the mantissas.
    """

    log_norm: np.ndarray | None
    params: dict[str, np.ndarray]
    exponents: Mapping[str, int] = field(default_factory=dict)


def log_norms(signals: np.ndarray) -> np.ndarray:
    """ln ‖dL/dh_t‖ (T,) of all dL/dh_t (T, B, H), by each step's largest entry: what a float holds counts, not what its square does."""
    rows = signals.reshape(len(signals), -1).astype(np.float64)
    with np.errstate(all="ignore"):
        largest = np.abs(rows).max(axis=1, keepdims=True)
        inside = np.where(largest > 0.0, largest, 1.0)
        return np.asarray(np.log(np.linalg.norm(rows / inside, axis=1)) + np.log(inside[:, 0]))


@dataclass(frozen=True)
class Prepared:
    """A contender ready to start.

    Attributes:
        call: does all of the work, and returns when it is done.
        read: what ``call`` returned, in NumPy, one a run; not timed.
        compile_seconds: what making ``call`` took, where it is compiled; not in any time.
    """

    call: Callable[[], Any]
    read: Callable[[Any], list[Measured]]
    compile_seconds: float | None = None


@dataclass(frozen=True)
class Form:
    """One way to write a contender. Of several the fastest competes, found anew for every size.

    Attributes:
        runs: how many runs one call does.
        largest: the largest H it is tried at: what takes several arrays a run runs out of memory beyond.
    """

    name: str
    prepare: Callable[[Sequence[Work]], Prepared]
    runs: int = 1
    largest: int = 10**9


@dataclass(frozen=True)
class Contender:
    """Who competes.

    Attributes:
        trace: False of who gives parameter gradients alone.
        devices: where it runs.
        knows: (kind, activation) of the cells that it has; empty where it has all.
        narrows: whether some setting keeps it to AVX2 on a processor that has AVX-512.
    """

    name: str
    label: str
    forms: tuple[Form, ...]
    trace: bool = True
    devices: tuple[str, ...] = ("cpu",)
    knows: tuple[tuple[str, str], ...] = ()
    narrows: bool = True

    def has(self, work: Work) -> bool:
        """Whether it can do the work."""
        return work.device in self.devices and (not self.knows or (work.kind, work.activation) in self.knows)
