"""The GRU in ``torch.nn.GRU``'s form: the reset gate acts after the recurrent product.

Derivation: rnn_core/README.md, section 2.2. The form with the reset gate before the product is ``gru_reset_before.py``.

Shapes: r, z, n, their preactivations a_r, a_z, a_n and h are (H, B); u, v, du, dv are (3H, B) in the order r, z, n;
W_hh is (3H, H); biases (3H).
"""

from __future__ import annotations

from typing import Any, ClassVar

from rnn_core import activations
from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.cells.base import Cell, blocks, product

SIGMA = activations.activation("sigmoid")


class GRUCell(Cell):
    """h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1},  n_t = phi(u_n + r_t ⊙ v_n)  (Cho et al. 2014, with v_n inside the gate)."""

    name: ClassVar[str] = "gru"
    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")
    keeping_gate: ClassVar[str | None] = "update"  # z_t ⊙ h_{t-1}
    rest_matrices: ClassVar[tuple[str, str] | None] = ("½ I + ¼ φ′(0) W", "σ(b_z) I + σ(−b_z) σ(b_r) φ′(0) W")

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        h_prev = state["hidden"]
        H = h_prev.shape[0]
        v = product(params, h_prev)  # v_t = W_hh h_{t-1} + b_hh
        v_n = v[2 * H :]
        a_r = u[:H] + v[:H]
        a_z = u[H : 2 * H] + v[H : 2 * H]
        r, z, keep = SIGMA.f(a_r), SIGMA.f(a_z), SIGMA.f(-a_z)  # keep = 1 - z, which would cancel
        a_n = u[2 * H :] + r * v_n
        n = self.phi.f(a_n)
        h = keep * n + z * h_prev  # h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}
        return {"hidden": h}, (a_r, a_z, a_n, r, z, keep, n, v_n, h_prev)

    def backward(self, params: Params, saved: Any, dstate: State) -> tuple[Array, Array, State]:
        a_r, a_z, a_n, r, z, keep, n, v_n, h_prev = saved
        dh = dstate["hidden"]
        da_n = self.phi.df(a_n) * (keep * dh)  # dn_t = (1 - z_t) ⊙ dh_t
        da_z = SIGMA.df(a_z) * ((h_prev - n) * dh)  # dz_t = (h_{t-1} - n_t) ⊙ dh_t
        da_r = SIGMA.df(a_r) * (v_n * da_n)  # dr_t = v_n ⊙ da_n
        concat = namespace(dh).concat
        du = concat([da_r, da_z, da_n])
        dv = concat([da_r, da_z, r * da_n])  # dv_n = r_t ⊙ da_n
        dh_prev = z * dh + params["weight_hh"].T @ dv  # z_t ⊙ dh_t + W_hh^T dv_t
        return du, dv, {"hidden": dh_prev}

    def saved_from(self, rows: Array, before: State, after: State) -> Any:
        h_prev = before["hidden"]
        a_r, a_z, a_n, v_n = blocks(rows, h_prev.shape[-2])
        return a_r, a_z, a_n, SIGMA.f(a_r), SIGMA.f(a_z), SIGMA.f(-a_z), self.phi.f(a_n), v_n, h_prev

    def nonlinearities(self, saved: Any) -> list[tuple[Activation, Array]]:
        a_r, a_z, a_n, *_ = saved
        return [(SIGMA, a_r), (SIGMA, a_z), (self.phi, a_n)]
