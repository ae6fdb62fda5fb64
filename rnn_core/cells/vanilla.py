"""The vanilla (Elman) RNN, ``torch.nn.RNN`` with any registered activation. Derivation: rnn_core/README.md, section 2.

Shapes: u, a, h, du, da, dh are (H, B); W_hh is (H, H); biases (H).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State
from rnn_core.cells.base import Cell, product


class VanillaCell(Cell):
    """h_t = phi(a_t),  a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh  (Elman 1990)."""

    name: ClassVar[str] = "vanilla"

    def __init__(self, activation: str = "tanh") -> None:
        super().__init__(activation)
        self.homogeneous = self.phi.homogeneous

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Array]:
        h_prev = state["hidden"]
        a = product(params, h_prev) + u  # a_t = W_hh h_{t-1} + b_hh + u_t
        h = self.phi.f(a)  # h_t = phi(a_t)
        return {"hidden": h}, a

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        a, dh = saved, dstate["hidden"]
        da = self.phi.df(a) * dh  # dL/da_t = phi'(a_t) ⊙ dL/dh_t
        dh_prev = params["weight_hh"].T @ da  # W_hh^T dL/da_t, what flows to h_{t-1}
        return da, da, {"hidden": dh_prev}

    def nonlinearities(self, saved: Array) -> list[tuple[Activation, Array]]:
        return [(self.phi, saved)]

    def jacobian(self, W: np.ndarray, slopes: np.ndarray | float = 1.0) -> np.ndarray:
        return np.asarray(np.reshape(slopes, (-1, 1)) * W)

    def step_bound(self, sigma_max: float) -> float:
        return self.phi.gamma * sigma_max  # Pascanu, Mikolov & Bengio 2013, section 2.1
