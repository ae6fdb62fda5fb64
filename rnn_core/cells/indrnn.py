"""The independently recurrent network, IndRNN: every unit sees no other unit's past. Derivation: rnn_core/README.md, section 2.8.

Shapes: u, a, h, du, da, dh are (H, B); w = ``weight_hh``, the diagonal of W_hh, and biases are (H).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.cells.base import DiagonalCell
from rnn_core.choices import Registry
from rnn_core.initializers import Draw


def signs(rng: np.random.Generator, size: int) -> np.ndarray:
    """±1, by chance: what an orthogonal diagonal matrix is."""
    return 2.0 * rng.integers(0, 2, size) - 1.0


class IndRNNCell(DiagonalCell):
    """h_t = phi(a_t),  a_t = W_ih x_t + b_ih + w ⊙ h_{t-1} + b_hh  (Li et al. 2018).

    ``weight_hh`` is w (H,). An initializer draws the diagonal of such a matrix: normal numbers, signs, or ones. With phi = identity the
    cell is H linear recurrences, each with an eigenvalue w_i of its own.
    """

    name: ClassVar[str] = "indrnn"
    draws: ClassVar[Registry[Draw] | None] = Registry(
        "initializers",
        {
            "gaussian": lambda rng, size: rng.standard_normal(size),
            "orthogonal": signs,
            "identity": lambda rng, size: np.ones(size),
        },
    )

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Array]:
        h_prev = state["hidden"]
        v = params["weight_hh"][:, None] * h_prev  # w ⊙ h_{t-1}
        a = v + params["bias_hh"][:, None] + u if "bias_hh" in params else v + u  # a_t = w ⊙ h_{t-1} + b_hh + u_t
        return {"hidden": self.phi.f(a)}, a  # h_t = phi(a_t)

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        da = self.phi.df(saved) * dstate["hidden"]  # dL/da_t = phi'(a_t) ⊙ dL/dh_t
        return da, da, {"hidden": params["weight_hh"][:, None] * da}  # w ⊙ dL/da_t, what flows to h_{t-1}

    def recurrent_gradient(self, params: Params, dv: Array, factor: Array) -> Array:
        return namespace(dv).sum(dv * factor, axis=1)  # dw = Σ_t dv_t ⊙ h_{t-1}, the diagonal of Σ_t dv_t h_{t-1}^T

    def recurrent_matrix(self, weight_hh: Any) -> Any:
        return np.diag(weight_hh)
