"""The LSTM, ``torch.nn.LSTM``. Derivation: rnn_core/README.md, section 2.4.

Shapes: i, f, g, o, c, h are (H, B); u, a, du, da are (4H, B) in the order i, f, g, o; W_hh is (4H, H); biases (4H).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rnn_core import activations
from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.cells.base import Cell, blocks, product, rest

SIGMA = activations.activation("sigmoid")


class LSTMCell(Cell):
    """c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t,  h_t = o_t ⊙ phi(c_t)  (Hochreiter & Schmidhuber 1997; Gers et al. 2000)."""

    name: ClassVar[str] = "lstm"
    gates: ClassVar[tuple[str, ...]] = ("input", "forget", "candidate", "output")
    state_names: ClassVar[tuple[str, ...]] = ("hidden", "cell")
    keeping_gate: ClassVar[str | None] = "forget"  # f_t ⊙ c_{t-1}
    writing_gate: ClassVar[str | None] = "input"  # i_t ⊙ g_t
    rest_matrices: ClassVar[tuple[str, str] | None] = ("½ I + ¼ φ′(0)² W", "σ(b_f) I + σ(b_i) σ(b_o) φ′(0)² W")

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        h_prev, c_prev = state["hidden"], state["cell"]
        H = h_prev.shape[0]
        a = product(params, h_prev) + u  # a_t = W_hh h_{t-1} + b_hh + u_t
        i, f, o = SIGMA.f(a[:H]), SIGMA.f(a[H : 2 * H]), SIGMA.f(a[3 * H :])
        g = self.phi.f(a[2 * H : 3 * H])
        c = f * c_prev + i * g  # c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
        s = self.phi.f(c)
        h = o * s  # h_t = o_t ⊙ phi(c_t)
        return {"hidden": h, "cell": c}, (a, i, f, g, o, c_prev, c, s)

    def total(self, saved: Any, dstate: State) -> State:
        _, _, _, _, o, _, c, _ = saved
        dh, dc = dstate["hidden"], dstate["cell"]
        return {"hidden": dh, "cell": dc + self.phi.df(c) * (o * dh)}  # c_t acts through c_{t+1}, and through h_t

    def backward(self, params: Params, saved: Any, dstate: State) -> tuple[Array, Array, State]:
        a, i, f, g, _, c_prev, _, s = saved
        dh, dc = dstate["hidden"], dstate["cell"]  # dc is the total
        H = dh.shape[0]
        da_i = SIGMA.df(a[:H]) * (g * dc)  # di_t = g_t ⊙ dc_t
        da_f = SIGMA.df(a[H : 2 * H]) * (c_prev * dc)  # df_t = c_{t-1} ⊙ dc_t
        da_g = self.phi.df(a[2 * H : 3 * H]) * (i * dc)  # dg_t = i_t ⊙ dc_t
        da_o = SIGMA.df(a[3 * H :]) * (s * dh)  # do_t = phi(c_t) ⊙ dh_t
        da = namespace(dh).concat([da_i, da_f, da_g, da_o])
        dh_prev = params["weight_hh"].T @ da  # W_hh^T da_t
        return da, da, {"hidden": dh_prev, "cell": f * dc}  # dc_{t-1} = f_t ⊙ dc_t

    def saved_from(self, rows: Array, before: State, after: State) -> Any:
        c_prev, c = before["cell"], after["cell"]
        a_i, a_f, a_g, a_o = blocks(rows, c.shape[-2])
        return rows, SIGMA.f(a_i), SIGMA.f(a_f), self.phi.f(a_g), SIGMA.f(a_o), c_prev, c, self.phi.f(c)

    def rest_jacobian(self, params: Params) -> np.ndarray | None:
        H = rest.hidden_size(self, params)
        after, (a, i, f, _, o, _, c, _) = rest.step(self, params, H, 1)
        a_g = a[2 * H : 3 * H]
        kinks = self.phi.kinks
        if np.any(after["cell"] != 0.0) or np.any(after["hidden"] != 0.0) or np.isin([a_g, c], kinks).any():
            return None
        # At rest h_t = o phi'(0) c_t alone, and c_t = f c_{t-1} + i phi'(a_g) W_g h_{t-1}: H eigenvalues of 2H are 0.
        W_g = params["weight_hh"][2 * H : 3 * H]
        return np.asarray(np.diag(f[:, 0]) + (i * self.phi.df(a_g)) * W_g * (o * self.phi.df(c))[:, 0])

    def nonlinearities(self, saved: Any) -> list[tuple[Activation, Array]]:
        a, i, _, _, _, _, c, _ = saved
        a_i, a_f, a_g, a_o = blocks(a, i.shape[-2])
        return [(SIGMA, a_i), (SIGMA, a_f), (self.phi, a_g), (SIGMA, a_o), (self.phi, c)]
