"""The residual RNN and its leaky form. Derivation: rnn_core/README.md, section 2.1.

Shapes: u, a, h, du, da, dh are (H, B); W_hh is (H, H); biases (H).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State
from rnn_core.cells.base import Cell, product, step_and_leak


class ResidualCell(Cell):
    """h_t = (1 - leak) h_{t-1} + step · phi(a_t),  a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh.

    With leak = 0 the state is only ever added to: an Euler step of dh/dt = phi(a) (Chang et al. 2019, equation 3). With leak = step it is
    the leaky integrator (Jaeger et al. 2007).

    Args:
        activation: phi.
        step: eta, above 0.
        leak: lambda, in [0, 1].

    Raises:
        ValueError: the activation is not registered, or ``step`` or ``leak`` is out of range.
    """

    name: ClassVar[str] = "residual"
    options: ClassVar[tuple[str, ...]] = ("step", "leak")
    linear_matrix: ClassVar[str] = "(1 − λ) I + η W, with step η and leak λ"

    def __init__(self, activation: str = "tanh", step: float = 1.0, leak: float = 0.0) -> None:
        super().__init__(activation)
        self.step, self.leak = step_and_leak(step, leak)
        self.homogeneous = self.phi.homogeneous

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Array]:
        h_prev = state["hidden"]
        a = product(params, h_prev) + u  # a_t = W_hh h_{t-1} + b_hh + u_t
        h = (1.0 - self.leak) * h_prev + self.step * self.phi.f(a)  # h_t = (1 - lambda) h_{t-1} + eta phi(a_t)
        return {"hidden": h}, a

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        a, dh = saved, dstate["hidden"]
        da = self.step * self.phi.df(a) * dh  # dL/da_t = eta phi'(a_t) ⊙ dL/dh_t
        dh_prev = (1.0 - self.leak) * dh + params["weight_hh"].T @ da  # (1 - lambda) dL/dh_t + W_hh^T dL/da_t
        return da, da, {"hidden": dh_prev}

    def nonlinearities(self, saved: Array) -> list[tuple[Activation, Array]]:
        return [(self.phi, saved)]

    def jacobian(self, W: np.ndarray, slopes: np.ndarray | float = 1.0) -> np.ndarray:
        return np.asarray((1.0 - self.leak) * np.eye(len(W)) + self.step * np.reshape(slopes, (-1, 1)) * W)

    def step_bound(self, sigma_max: float) -> float:
        return (1.0 - self.leak) + self.step * self.phi.gamma * sigma_max
