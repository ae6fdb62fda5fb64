"""The forward equations of every cell, once more: the oracles differentiate these, each in its own arithmetic.

A step is written once, for arrays whose rows are samples, and sees a ``Network`` that does the arithmetic. On torch tensors
(``tensors.py``) autograd differentiates it; on complex numbers (``complex_step.py``) the imaginary part does. Nothing here
is differentiated by hand, and nothing is shared with ``rnn_core.cells``.

An equation that is wrong here is wrong for both oracles. PyTorch's own kernels (``torch_modules.py``) are a third party, and so
are central differences. Of these, only the check of ``torch.lstm`` asks this file for something: how dL/dc_t splits into what
comes through h_t and what comes through c_{t+1}.

To add a cell, write its step and add a row to ``CELLS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rnn_core.arrays import like

State = dict[str, Any]  # by name, each (…, H): of torch tensors or of complex NumPy arrays


class Network(Protocol):
    """Weights, activation and options of one network, for one kind of arrays. ``phi`` and ``gate`` act elementwise."""

    @property
    def options(self) -> Mapping[str, float]:
        """The cell's numbers, by name."""

    @property
    def phi(self) -> Callable[[Any], Any]:
        """The activation."""

    @property
    def gate(self) -> Callable[[Any], Any]:
        """The sigmoid."""

    @property
    def softplus(self) -> Callable[[Any], Any]:
        """ln(1 + e^a)."""

    def linear(self, kind: str, a: Any) -> Any:
        """W a + b, (…, G·H); ``kind`` is "ih" for inputs (…, D), "hh" for states (…, H). W_hh is what ``Cell.matrix`` makes of its weights.

        Without a ``weight_hh`` it is b_hh alone, or 0, for any state.
        """

    def normalised(self, a: Any) -> Any:
        """(a - mean) / √(variance + 1e-5) over the units, times ``weight_ln``, plus ``bias_ln``."""

    def blocks(self, a: Any) -> Sequence[Any]:
        """``a`` (…, G·H) cut into one block (…, H) a gate."""

    def seen(self, name: str, value: Any) -> Any:
        """A new part of the state as all that depends on it sees it: ``value`` itself, or ``value`` perturbed."""


def vanilla(net: Network, x: Any, state: State) -> State:
    """Elman 1990."""
    h = net.phi(net.linear("ih", x) + net.linear("hh", state["hidden"]))
    return {"hidden": net.seen("hidden", h)}


def residual(net: Network, x: Any, state: State) -> State:
    """Jaeger et al. 2007; Chang et al. 2019."""
    change = net.phi(net.linear("ih", x) + net.linear("hh", state["hidden"]))
    h = state["hidden"] * (1.0 - net.options["leak"]) + change * net.options["step"]
    return {"hidden": net.seen("hidden", h)}


def layer_norm(net: Network, x: Any, state: State) -> State:
    """Ba, Kiros & Hinton 2016; leak 1 is the vanilla network, leak 0 the residual one."""
    change = net.phi(net.normalised(net.linear("ih", x) + net.linear("hh", state["hidden"])))
    h = state["hidden"] * (1.0 - net.options["leak"]) + change * net.options["step"]
    return {"hidden": net.seen("hidden", h)}


def gru(net: Network, x: Any, state: State) -> State:
    """Cho et al. 2014 as torch.nn.GRU has it: the reset gate acts after the product."""
    h = state["hidden"]
    (u_r, u_z, u_n), (v_r, v_z, v_n) = net.blocks(net.linear("ih", x)), net.blocks(net.linear("hh", h))
    n = net.phi(u_n + net.gate(u_r + v_r) * v_n)
    return {"hidden": net.seen("hidden", net.gate(-u_z - v_z) * n + net.gate(u_z + v_z) * h)}  # 1 - z would cancel


def gru_reset_before(net: Network, x: Any, state: State) -> State:
    """Cho et al. 2014 as published: the reset gate acts on the state, before the product."""
    h = state["hidden"]
    (u_r, u_z, u_n), (v_r, v_z, _) = net.blocks(net.linear("ih", x)), net.blocks(net.linear("hh", h))
    _, _, v_n = net.blocks(net.linear("hh", net.gate(u_r + v_r) * h))
    n = net.phi(u_n + v_n)
    return {"hidden": net.seen("hidden", net.gate(-u_z - v_z) * n + net.gate(u_z + v_z) * h)}


def lstm(net: Network, x: Any, state: State) -> State:
    """Hochreiter & Schmidhuber 1997; Gers, Schmidhuber & Cummins 2000: torch.nn.LSTM's, with phi for tanh."""
    i, f, g, o = net.blocks(net.linear("ih", x) + net.linear("hh", state["hidden"]))
    c = net.seen("cell", net.gate(f) * state["cell"] + net.gate(i) * net.phi(g))
    return {"hidden": net.seen("hidden", net.gate(o) * net.phi(c)), "cell": c}


def antisymmetric(net: Network, x: Any, state: State) -> State:
    """Chang et al. 2019, equation 11."""
    change = net.phi(net.linear("ih", x) + net.linear("hh", state["hidden"]))
    return {"hidden": net.seen("hidden", state["hidden"] + change * net.options["step"])}


def slstm(net: Network, x: Any, state: State) -> State:
    """Beck et al. 2024, equations 8 to 17, of c/n and ln n."""
    z, i, f, o = net.blocks(net.linear("ih", x) + net.linear("hh", state["hidden"]))
    kept = state["normaliser"] - net.softplus(-f)  # ln (f n), for ln σ(f) = −softplus(−f)
    n = net.seen("normaliser", kept + net.softplus(i - kept))
    share = net.gate(i - kept)
    c = net.seen("cell", net.gate(kept - i) * state["cell"] + share * net.phi(z))
    return {"hidden": net.seen("hidden", net.gate(o) * c), "cell": c, "normaliser": n}


def mingru(net: Network, x: Any, state: State) -> State:
    """Feng et al. 2024, with any activation of the candidate. Nothing multiplies the state: of the recurrent part b_hh alone is there."""
    z, n = net.blocks(net.linear("ih", x) + net.linear("hh", state["hidden"]))
    return {"hidden": net.seen("hidden", net.gate(-z) * state["hidden"] + net.gate(z) * net.phi(n))}


# ---- W_hh where it is made of the weights ------------------------------------------------------------------------------------


def _any_matrix(w: Any, options: Mapping[str, float]) -> Any:
    return w


def _diagonal(w: Any, options: Mapping[str, float]) -> Any:
    return w[:, None] * like(np.eye(len(w)), w)


def _antisymmetric(w: Any, options: Mapping[str, float]) -> Any:
    return w - w.T - like(options["diffusion"] * np.eye(len(w)), w)


def _complex_diagonal(w: Any, options: Mapping[str, float]) -> Any:
    """Blocks ((Re λ, -Im λ), (Im λ, Re λ)), the two rows of a block half of the units apart; an odd number of units leaves a real one."""
    m = len(w) // 2
    eye, both = np.eye(len(w)), len(w) - m
    of_re, of_im = eye[:both].copy(), np.zeros((m, len(w), len(w)))
    alone = np.stack([np.outer(row, row) for row in of_re])
    for j in range(m):
        alone[j, both + j, both + j] = 1.0
        of_im[j, both + j, j], of_im[j, j, both + j] = 1.0, -1.0
    basis = like(np.concatenate([alone, of_im]), w)
    return (w[:, None, None] * basis).sum(0)


@dataclass(frozen=True)
class Cell:
    """A cell as the oracles know it.

    Attributes:
        step: the state after a step from x (…, D) and the state before it.
        gates: blocks of H rows in the weights.
        states: the names of the state's parts.
        options: its numbers, with their defaults.
        matrix: W_hh (G·H, H) from ``weight_hh`` and the options.
        weights: the shape of ``weight_hh`` from G and H; None where the cell has none.
        own: its other parameters, vectors (H,).
    """

    step: Callable[[Network, Any, State], State]
    gates: int = 1
    states: tuple[str, ...] = ("hidden",)
    options: Mapping[str, float] = field(default_factory=dict)
    matrix: Callable[[Any, Mapping[str, float]], Any] = _any_matrix
    weights: Callable[[int, int], tuple[int, ...] | None] = lambda G, H: (G * H, H)
    own: tuple[str, ...] = ()


CELLS: dict[str, Cell] = {
    "vanilla": Cell(vanilla),
    "residual": Cell(residual, options={"step": 1.0, "leak": 0.0}),
    "gru": Cell(gru, gates=3),
    "gru_reset_before": Cell(gru_reset_before, gates=3),
    "lstm": Cell(lstm, gates=4, states=("hidden", "cell")),
    "slstm": Cell(slstm, gates=4, states=("hidden", "cell", "normaliser")),
    "indrnn": Cell(vanilla, matrix=_diagonal, weights=lambda G, H: (H,)),  # Li et al. 2018
    "antisymmetric": Cell(antisymmetric, options={"step": 0.1, "diffusion": 0.0}, matrix=_antisymmetric),
    "layer_norm": Cell(layer_norm, options={"step": 1.0, "leak": 1.0}, own=("weight_ln", "bias_ln")),
    "lru": Cell(vanilla, matrix=_complex_diagonal, weights=lambda G, H: (H,)),  # Orvieto et al. 2023
    "mingru": Cell(mingru, gates=2, weights=lambda G, H: None),
}
