"""The sLSTM of xLSTM: exponential input gates, and a normaliser that keeps the state in range. Derivation: rnn_core/README.md, section 2.11.

Shapes: z, o, w, keep, d, c, l, h are (H, B); u, a, du, da are (4H, B) in the order z, i, f, o; W_hh is (4H, H); biases (4H). c is the
paper's c_t / n_t, and l the logarithm of its n_t.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rnn_core import activations
from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.cells.base import Cell, blocks, product, rest

SIGMA, SOFTPLUS = activations.activation("sigmoid"), activations.activation("softplus")


class SLSTMCell(Cell):
    """h_t = o_t ⊙ c_t / n_t,  c_t = f_t ⊙ c_{t-1} + i_t ⊙ z_t,  n_t = f_t ⊙ n_{t-1} + i_t,  i_t = exp(a_i), f_t = σ(a_f)  (Beck et al. 2024).

    The state holds ``cell``, which is c_t / n_t, and ``normaliser``, which is ln n_t. So nothing leaves the range of floats, and the
    paper's stabiliser is not needed. A zero state has n_0 = 1.
    """

    name: ClassVar[str] = "slstm"
    gates: ClassVar[tuple[str, ...]] = ("candidate", "input", "forget", "output")
    state_names: ClassVar[tuple[str, ...]] = ("hidden", "cell", "normaliser")
    rest_matrices: ClassVar[tuple[str, str] | None] = ("½ I + ¼ φ′(0) W", "σ(b_f) I + σ(−b_f) σ(b_o) φ′(0) W")

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        h_prev, c_prev, l_prev = state["hidden"], state["cell"], state["normaliser"]
        H = h_prev.shape[0]
        a = product(params, h_prev) + u  # a_t = W_hh h_{t-1} + b_hh + u_t
        log_f = -SOFTPLUS.f(-a[2 * H : 3 * H])  # ln σ(a_f)
        kept = log_f + l_prev  # ln (f_t n_{t-1})
        d = a[H : 2 * H] - kept
        w, keep = SIGMA.f(d), SIGMA.f(-d)  # the shares of i_t and of f_t n_{t-1} in n_t
        z, o = self.phi.f(a[:H]), SIGMA.f(a[3 * H :])
        c = keep * c_prev + w * z
        after = {"hidden": o * c, "cell": c, "normaliser": kept + SOFTPLUS.f(d)}  # l_t = ln (f_t n_{t-1} + i_t)
        return after, (a, d, w, keep, z, o, c_prev, c)

    def total(self, saved: Any, dstate: State) -> State:
        *_, o, _, _ = saved
        return {**dstate, "cell": dstate["cell"] + o * dstate["hidden"]}  # c_t acts through c_{t+1}, and through h_t

    def backward(self, params: Params, saved: Any, dstate: State) -> tuple[Array, Array, State]:
        a, d, w, keep, z, _, c_prev, c = saved
        dh, dc, dl = dstate["hidden"], dstate["cell"], dstate["normaliser"]  # dc is the total
        H = dh.shape[0]
        through_w = SIGMA.df(d) * ((z - c_prev) * dc)  # dw_t = (z_t - c_{t-1}) ⊙ dc_t
        d_kept = keep * dl - through_w  # d_t and l_t both hold ln (f_t n_{t-1})
        da_z = self.phi.df(a[:H]) * (w * dc)  # dz_t = w_t ⊙ dc_t
        da_i = through_w + w * dl
        da_f = SIGMA.f(-a[2 * H : 3 * H]) * d_kept  # d ln σ(a) / da = σ(-a)
        da_o = SIGMA.df(a[3 * H :]) * (c * dh)  # do_t = c_t ⊙ dh_t
        da = namespace(dh).concat([da_z, da_i, da_f, da_o])
        before = {"hidden": params["weight_hh"].T @ da, "cell": keep * dc, "normaliser": d_kept}
        return da, da, before

    def rest_jacobian(self, params: Params) -> np.ndarray | None:
        """At h = c = 0 and where the normaliser has settled: n = i / (1 - f), so w_t = 1 - f_t whatever the input gate."""
        H = rest.hidden_size(self, params)
        after, (a, *_, o, _, _) = rest.step(self, params, H, 1)
        a_z, _, a_f, _ = blocks(a, H)
        if np.any(after["cell"] != 0.0) or np.isin(a_z, self.phi.kinks).any():
            return None
        W_z = params["weight_hh"][:H]  # c_t = f c_{t-1} + (1 - f) phi'(a_z) W_z h_{t-1}, and h_t = o c_t
        entering = SIGMA.f(-a_f) * self.phi.df(a_z) * W_z * o[:, 0]
        return np.asarray(np.diag(SIGMA.f(a_f)[:, 0]) + entering)

    def nonlinearities(self, saved: Any) -> list[tuple[Activation, Array]]:
        a, d, _, _, z, *_ = saved
        a_z, _, a_f, a_o = blocks(a, z.shape[-2])
        return [(self.phi, a_z), (SIGMA, d), (SIGMA, a_f), (SIGMA, a_o)]
