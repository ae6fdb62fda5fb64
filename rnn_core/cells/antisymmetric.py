"""The antisymmetric RNN: an Euler step of an ODE that neither grows nor shrinks. Derivation: rnn_core/README.md, section 2.9.

Shapes: u, a, h, du, da, dh are (H, B); W_hh is (H, H), K = W_hh - W_hh^T - gamma I; biases (H).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State
from rnn_core.cells.base import Cell, product
from rnn_core.scalars import is_number


class AntisymmetricCell(Cell):
    """h_t = h_{t-1} + step · phi(a_t),  a_t = W_ih x_t + b_ih + (W_hh - W_hh^T - gamma I) h_{t-1} + b_hh  (Chang et al. 2019).

    The ODE dh/dt = phi(a) has eigenvalues on the imaginary axis. Its Euler steps do not: they grow by ½ ln(1 + step² ω²), unless the
    diffusion gamma takes that away.

    Args:
        activation: phi.
        step: epsilon, above 0.
        diffusion: gamma, at least 0.

    Raises:
        ValueError: the activation is not registered, or ``step`` or ``diffusion`` is out of range.
    """

    name: ClassVar[str] = "antisymmetric"
    options: ClassVar[tuple[str, ...]] = ("step", "diffusion")
    linear_matrix: ClassVar[str] = "I + ε (W − Wᵀ − γ I), with step ε and diffusion γ"
    outer_products: ClassVar[bool] = False

    def __init__(self, activation: str = "tanh", step: float = 0.1, diffusion: float = 0.0) -> None:
        super().__init__(activation)
        if not (is_number(step) and step > 0.0):
            raise ValueError(f"step: {step!r} is not allowed; it must be a number above 0")
        if not (is_number(diffusion) and diffusion >= 0.0):
            raise ValueError(f"diffusion: {diffusion!r} is not allowed; it must be a number of at least 0")
        self.step, self.diffusion = float(step), float(diffusion)
        self.homogeneous = self.phi.homogeneous

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Array]:
        h_prev = state["hidden"]
        a = product(params, h_prev) + u - self._rest(params, h_prev)  # a_t = K h_{t-1} + b_hh + u_t
        return {"hidden": h_prev + self.step * self.phi.f(a)}, a  # h_t = h_{t-1} + epsilon phi(a_t)

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        dh, W = dstate["hidden"], params["weight_hh"]
        da = self.step * self.phi.df(saved) * dh  # dL/da_t = epsilon phi'(a_t) ⊙ dL/dh_t
        return da, da, {"hidden": dh + (W.T @ da - W @ da - self.diffusion * da)}  # dL/dh_t + K^T dL/da_t

    def _rest(self, params: Params, h: Array) -> Array:
        """(W_hh^T + gamma I) h, what K h has less than W_hh h."""
        return params["weight_hh"].T @ h + self.diffusion * h

    def recurrent_gradient(self, params: Params, dv: Array, factor: Array) -> Array:
        return self.of_matrix(dv @ factor.T)  # Σ_t dv_t h_{t-1}^T

    @staticmethod
    def of_matrix(dK: Array) -> Array:
        """dL/dW_hh from dL/dK: W_ij stands in K_ij, and with a minus sign in K_ji."""
        return dK - dK.T

    def matrix(self, W: np.ndarray) -> np.ndarray:
        """K = W_hh - W_hh^T - gamma I, in the dtype of W_hh."""
        return np.asarray(W - W.T - self.diffusion * np.eye(len(W), dtype=W.dtype))

    def nonlinearities(self, saved: Array) -> list[tuple[Activation, Array]]:
        return [(self.phi, saved)]

    def jacobian(self, W: np.ndarray, slopes: np.ndarray | float = 1.0) -> np.ndarray:
        return np.asarray(np.eye(len(W)) + self.step * np.reshape(slopes, (-1, 1)) * self.matrix(W))

    def step_bound(self, sigma_max: float) -> float:
        return 1.0 + self.step * self.phi.gamma * (2.0 * sigma_max + self.diffusion)  # ‖W - W^T‖ is at most 2 sigma_max
