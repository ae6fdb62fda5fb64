"""The minimal GRU, minGRU: a gate that looks at the input alone, and no recurrent matrix. Derivation: rnn_core/README.md, section 2.13.

Shapes: z, n, their preactivations a_z, a_n and h are (H, B); u, du, da are (2H, B) in the order z, n; biases (2H). There is no W_hh.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rnn_core import activations
from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.cells.base import Cell, blocks, rest

SIGMA = activations.activation("sigmoid")


class MinGRUCell(Cell):
    """h_t = (1 - z_t) ⊙ h_{t-1} + z_t ⊙ n_t,  z_t = σ(a_z), n_t = phi(a_n),  a_t = W_ih x_t + b_ih + b_hh  (Feng et al. 2024).

    With phi = identity it is the published cell. Its z_t writes, where that of ``GRUCell`` keeps. dh_t/dh_{t-1} is diag(1 - z_t): no step
    makes a gradient longer, and what it does follows from the inputs alone.
    """

    name: ClassVar[str] = "mingru"
    gates: ClassVar[tuple[str, ...]] = ("update", "candidate")
    writing_gate: ClassVar[str | None] = "update"  # z_t ⊙ n_t; what keeps the state is 1 - z_t
    has_matrix: ClassVar[bool] = False
    outer_products: ClassVar[bool] = False
    rest_matrices: ClassVar[tuple[str, str] | None] = ("½ I", "σ(−b_z) I")

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        h_prev = state["hidden"]
        H = h_prev.shape[0]
        a = u + params["bias_hh"][:, None] if "bias_hh" in params else u  # a_t = u_t + b_hh
        a_z, a_n = a[:H], a[H:]
        z, keep = SIGMA.f(a_z), SIGMA.f(-a_z)  # keep = 1 - z_t, which would cancel
        n = self.phi.f(a_n)
        h = keep * h_prev + z * n  # h_t = (1 - z_t) ⊙ h_{t-1} + z_t ⊙ n_t
        return {"hidden": h}, (a_z, a_n, z, keep, n, h_prev)

    def backward(self, params: Params, saved: Any, dstate: State) -> tuple[Array, Array, State]:
        a_z, a_n, z, keep, n, h_prev = saved
        dh = dstate["hidden"]
        dz = (n - h_prev) * dh  # h_t is a sum of products: each factor receives dh_t times the other
        dn = z * dh
        da = namespace(dh).concat([SIGMA.df(a_z) * dz, self.phi.df(a_n) * dn])
        return da, da, {"hidden": keep * dh}  # (1 - z_t) ⊙ dh_t, and nothing through a_t

    def saved_from(self, rows: Array, before: State, after: State) -> Any:
        h_prev = before["hidden"]
        a_z, a_n = blocks(rows, h_prev.shape[-2])
        return a_z, a_n, SIGMA.f(a_z), SIGMA.f(-a_z), self.phi.f(a_n), h_prev

    def rest_jacobian(self, params: Params) -> np.ndarray | None:
        """diag(1 - z): the candidate's slope is no factor of it, so a kink there is none here."""
        H = rest.hidden_size(self, params)
        after, (_, _, _, keep, *_) = rest.step(self, params, H, 1)
        return None if np.any(after["hidden"] != 0.0) else np.diag(keep[:, 0])

    def step_bound(self, sigma_max: float) -> float:
        return 1.0  # 1 - z_t is below 1, whatever the weights

    def nonlinearities(self, saved: Any) -> list[tuple[Activation, Array]]:
        a_z, a_n, *_ = saved
        return [(SIGMA, a_z), (self.phi, a_n)]
