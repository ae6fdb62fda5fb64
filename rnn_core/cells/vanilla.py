"""The vanilla (Elman) RNN, ``torch.nn.RNN`` with any registered activation. Derivation: rnn_core/README.md, section 2.

Shapes: u, a, h, du, da, dh are (H, B); W_hh is (H, H); biases (H).
"""

from __future__ import annotations

from typing import ClassVar

from rnn_core import activations
from rnn_core.arrays import Array, Params, State
from rnn_core.cells.base import Cell


class VanillaCell(Cell):
    """h_t = phi(a_t),  a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh  (Elman 1990).

    Raises:
        ValueError: the activation is not registered.
    """

    name: ClassVar[str] = "vanilla"
    gates: ClassVar[int] = 1

    def __init__(self, activation: str = "tanh") -> None:
        self.phi = activations.activation(activation)

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Array]:
        h_prev = state["hidden"]
        a = params["weight_hh"] @ h_prev + params["bias_hh"][:, None] + u  # a_t = W_hh h_{t-1} + b_hh + u_t
        h = self.phi.f(a)  # h_t = phi(a_t)
        return {"hidden": h}, a

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        a, dh = saved, dstate["hidden"]
        da = self.phi.df(a) * dh  # dL/da_t = phi'(a_t) ⊙ dL/dh_t
        dh_prev = params["weight_hh"].T @ da  # W_hh^T dL/da_t, what flows to h_{t-1}
        return da, da, {"hidden": dh_prev}

    def slope(self, saved: Array) -> Array:
        return self.phi.df(saved) / self.phi.gamma

    def __repr__(self) -> str:
        return f"VanillaCell(activation={self.phi.name!r})"
