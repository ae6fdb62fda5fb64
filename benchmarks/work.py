"""What everybody is timed on: forward and backward through a tanh network, every ln ‖dL/dh_t‖ and all parameter gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import rnn_core as rc

STEPS, BATCH, INPUTS = 500, 32, 8
SIZES = (32, 64, 128, 256, 512)
DTYPES = ("float64", "float32")
RADIUS = 1.0
INPUT_SCALE = 0.01
SETTING = (
    f"a Gaussian W_hh with spectral radius {RADIUS:g}. Its inputs give preactivations a standard deviation of {INPUT_SCALE:g} a step. "
    "L = Σ g ∘ h_T with a fixed g. So the network is nearly linear, and its gradient neither grows nor vanishes. No number comes near "
    "the end of float32's range, where arithmetic with denormal numbers would slow the peers down"
)


@dataclass(frozen=True, eq=False)
class Work:
    """One run: h_t = tanh(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), L = Σ g ∘ h_T.

    Attributes:
        params: torch.nn.RNN's, without the ``_l0``.
        x: (T, B, D).
        g: dL/dh_T, (B, H).
        device: where torch puts it.
    """

    params: dict[str, np.ndarray]
    x: np.ndarray
    g: np.ndarray
    device: str = "cpu"

    @property
    def hidden_size(self) -> int:
        return int(self.g.shape[1])

    @property
    def flops(self) -> float:
        """Of the recurrent products alone, W_hh h, W_hhᵀ da and da hᵀ: 2 H² B each a step."""
        T, B, _ = self.x.shape
        return float(6 * self.hidden_size**2 * B * T)


@dataclass(frozen=True)
class Measured:
    """What a run found: ln ‖dL/dh_t‖ (T,), None of who gives no trace, and the gradients of all parameters."""

    log_norm: np.ndarray | None
    params: dict[str, np.ndarray]


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
    """``trace`` is False of who gives parameter gradients alone."""

    name: str
    label: str
    forms: tuple[Form, ...]
    trace: bool = True
    devices: tuple[str, ...] = ("cpu",)


def make(
    hidden_size: int, dtype: str, seed: int = 0, steps: int = STEPS, batch: int = BATCH, device: str = "cpu"
) -> Work:
    """The work of one run; other seeds are other networks and inputs."""
    rng = np.random.default_rng([seed, hidden_size])
    params = rc.VanillaCell("tanh").init_params(rng, INPUTS, hidden_size, "gaussian", RADIUS, INPUT_SCALE)
    x = rng.standard_normal((steps, batch, INPUTS))
    g = rng.standard_normal((batch, hidden_size)) / batch
    return Work({name: value.astype(dtype) for name, value in params.items()}, x.astype(dtype), g.astype(dtype), device)
