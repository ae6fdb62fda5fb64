"""The GRU with the reset gate before the recurrent product, as first published. Derivation: rnn_core/README.md, section 2.3.

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


class GRUResetBeforeCell(Cell):
    """h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1},  n_t = phi(u_n + W_hn (r_t ⊙ h_{t-1}) + b_hn)  (Cho et al. 2014).

    ``GRUCell`` with another v_n; parameters and their order are the same.
    """

    name: ClassVar[str] = "gru_reset_before"
    gates: ClassVar[tuple[str, ...]] = ("reset", "update", "candidate")
    keeping_gate: ClassVar[str | None] = "update"  # z_t ⊙ h_{t-1}
    rest_matrices: ClassVar[tuple[str, str] | None] = ("½ I + ¼ φ′(0) W", "σ(b_z) I + σ(−b_z) φ′(0) W σ(b_r)")

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        h_prev = state["hidden"]
        H = h_prev.shape[0]
        v = product(params, h_prev, slice(2 * H))  # v_r, v_z = W_hh h_{t-1} + b_hh
        a_r = u[:H] + v[:H]
        a_z = u[H : 2 * H] + v[H:]
        r, z, keep = SIGMA.f(a_r), SIGMA.f(a_z), SIGMA.f(-a_z)  # keep = 1 - z, which would cancel
        a_n = u[2 * H :] + product(params, r * h_prev, slice(2 * H, None))  # v_n = W_hn (r_t ⊙ h_{t-1}) + b_hn
        n = self.phi.f(a_n)
        h = keep * n + z * h_prev  # h_t = (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}
        return {"hidden": h}, (a_r, a_z, a_n, r, z, keep, n, h_prev)

    def backward(self, params: Params, saved: Any, dstate: State) -> tuple[Array, Array, State]:
        a_r, a_z, a_n, r, z, keep, n, h_prev = saved
        dh, H = dstate["hidden"], h_prev.shape[0]
        W = params["weight_hh"]
        da_n = self.phi.df(a_n) * (keep * dh)  # dn_t = (1 - z_t) ⊙ dh_t
        da_z = SIGMA.df(a_z) * ((h_prev - n) * dh)  # dz_t = (h_{t-1} - n_t) ⊙ dh_t
        dq = W[2 * H :].T @ da_n  # of q_t = r_t ⊙ h_{t-1}
        da_r = SIGMA.df(a_r) * (h_prev * dq)  # dr_t = h_{t-1} ⊙ dq_t
        concat = namespace(dh).concat
        gates = concat([da_r, da_z])
        dv = concat([gates, da_n])
        dh_prev = z * dh + r * dq + W[: 2 * H].T @ gates  # z_t ⊙ dh_t + r_t ⊙ dq_t + the gates' share
        return dv, dv, {"hidden": dh_prev}

    def factors(self, saved: Any, h_prev: Array) -> list[Array]:
        r = saved[3]
        return [h_prev, h_prev, r * h_prev]

    def saved_from(self, rows: Array, before: State, after: State) -> Any:
        h_prev = before["hidden"]
        a_r, a_z, a_n = blocks(rows, h_prev.shape[-2])
        return a_r, a_z, a_n, SIGMA.f(a_r), SIGMA.f(a_z), SIGMA.f(-a_z), self.phi.f(a_n), h_prev

    def nonlinearities(self, saved: Any) -> list[tuple[Activation, Array]]:
        a_r, a_z, a_n, *_ = saved
        return [(SIGMA, a_r), (SIGMA, a_z), (self.phi, a_n)]
