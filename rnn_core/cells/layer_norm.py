"""Layer normalisation of the preactivation, in a vanilla, residual or leaky RNN. Derivation: rnn_core/README.md, section 2.12.

Shapes: u, a, n, z, h, du, da, dz, dh are (H, B); s is (1, B); W_hh is (H, H); g, b and biases (H).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.cells.base import Cell, blocks, product, step_and_leak

EPSILON = 1e-5  # under the root, torch.nn.LayerNorm's


class LayerNormCell(Cell):
    """h_t = (1 - leak) h_{t-1} + step · phi(z_t),  z_t = g ⊙ n_t + b,  n_t = (a_t - mean a_t) / s_t  (Ba, Kiros & Hinton 2016).

    a_t = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh. Mean and s_t² = variance + 1e-5 are over the units of a sample. Without options it is
    the vanilla RNN with layer normalisation; leak = 0 is the residual form.

    Args:
        activation: phi.
        step: eta, above 0.
        leak: lambda, in [0, 1].

    Raises:
        ValueError: the activation is not registered, or ``step`` or ``leak`` is out of range.
    """

    name: ClassVar[str] = "layer_norm"
    options: ClassVar[tuple[str, ...]] = ("step", "leak")
    leaves_rest: ClassVar[bool] = True  # there it grows by 1/√epsilon a step
    own_parameters: ClassVar[tuple[str, ...]] = ("weight_ln", "bias_ln")

    def __init__(self, activation: str = "tanh", step: float = 1.0, leak: float = 1.0) -> None:
        super().__init__(activation)
        self.step, self.leak = step_and_leak(step, leak)

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        h_prev = state["hidden"]
        a = product(params, h_prev) + u  # a_t = W_hh h_{t-1} + b_hh + u_t
        n, s = _normalised(a)
        z = n * params["weight_ln"][:, None] + params["bias_ln"][:, None]  # z_t = g ⊙ n_t + b
        h = (1.0 - self.leak) * h_prev + self.step * self.phi.f(z)
        return {"hidden": h}, (n, s, z)

    def backward(self, params: Params, saved: Any, dstate: State) -> tuple[Array, Array, State]:
        n, s, _ = saved
        dh = dstate["hidden"]
        dn = params["weight_ln"][:, None] * self._dz(saved, dh)  # dL/dn_t = g ⊙ dL/dz_t
        dc = dn - _mean(dn)
        # What is left of dn_t without its mean and without its share along n_t. Of two units that is epsilon's alone, lost in a difference.
        left = dc * (EPSILON**0.5 / s) ** 2 if n.shape[0] == 2 else dc - n * _mean(n * dc)
        da = left / s
        dh_prev = (1.0 - self.leak) * dh + params["weight_hh"].T @ da
        return da, da, {"hidden": dh_prev}

    def _dz(self, saved: Any, dh: Array) -> Array:
        return self.step * self.phi.df(saved[2]) * dh  # dL/dz_t = eta phi'(z_t) ⊙ dL/dh_t

    def own_gradients(self, saved: Any, total: State) -> dict[str, Array]:
        dz = self._dz(saved, total["hidden"])
        return {"weight_ln": dz * saved[0], "bias_ln": dz}  # dg = Σ dz_t ⊙ n_t, db = Σ dz_t

    def own_start(self, hidden_size: int) -> dict[str, np.ndarray]:
        return {"weight_ln": np.ones(hidden_size), "bias_ln": np.zeros(hidden_size)}

    def saved_from(self, rows: Array, before: State, after: State) -> Any:
        a, z = blocks(rows, before["hidden"].shape[-2])
        return *_normalised(a), z

    def nonlinearities(self, saved: Any) -> list[tuple[Activation, Array]]:
        return [(self.phi, saved[2])]


def _normalised(a: Array) -> tuple[Array, Array]:
    """n_t and s_t, (…, 1, B), from a_t (…, H, B)."""
    c = a - _mean(a)
    s = (_mean(c * c) + EPSILON) ** 0.5  # s_t² = variance of a_t + epsilon
    return c / s, s


def _mean(a: Array) -> Array:
    """Over the units of every sample, (…, 1, B)."""
    return namespace(a).mean(a, axis=-2, keepdims=True)
