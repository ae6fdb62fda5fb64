"""One step of each cell for R runs at once: the equations of ``rnn_core/cells`` with a leading run axis. torch tensors only.

The hidden state, the inputs and a one stand in one array z_t = [h_{t-1}; x_t; 1] (R, K, B). The weights W = [W_hh, W_ih, b] (R, rows, K)
stand beside each other in the same way. So a_t = W z_t is one batched product, and Σ_t da_t z_t^T is every parameter's gradient at once.
Only what is left of a cell then stands here: what happens entry by entry. Shapes: a, da (R, rows, B); h, c, dh, dc (R, H, B).

To add a cell: a class here and its row in ``STEPS``. A cell that takes two products a step does not fit, and runs alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from rnn_core import activations
from rnn_core.activations import Activation
from rnn_core.cells import Cell, GRUCell, LSTMCell, ResidualCell, VanillaCell

Tensors = dict[str, Tensor]
SIGMA = activations.activation("sigmoid")


class CellSteps(ABC):
    """What a cell does entry by entry.

    Attributes:
        rows: of W and of a_t.
        recurrent: of those, the first so many act on h_{t-1}.
        slopes_first: ``after_forward`` turns a_t into the slope of phi, and ``backward`` takes that.
    """

    slopes_first = False

    def __init__(self, cell: Cell, H: int) -> None:
        self.cell, self.phi, self.H = cell, cell.phi, H
        self.rows = self.recurrent = len(cell.gates) * H

    @abstractmethod
    def forward(self, a: Tensor, before: Tensors, now: Tensors) -> None:
        """Write the state ``now`` from a_t and the state ``before``."""

    @abstractmethod
    def backward(self, a: Tensor, before: Tensors, now: Tensors, total: Tensors, da: Tensor, sent: Tensors) -> float:
        """Write da_t, and what goes to the state before without passing W. ``da`` may be ``a`` itself.

        Returns:
            1.0 if ``sent["hidden"]`` has been written to, 0.0 if W^T da_t is all of it.
        """

    def after_forward(self, a: Tensor) -> None:  # noqa: B027, most cells have nothing to change
        """Change preactivations of several steps, (…, rows, B), into what ``backward`` takes."""

    def saturation_slopes(self, a: Tensor) -> Tensor:
        """The slope of every gate's nonlinearity over its supremum, from several steps' preactivations (or slopes)."""
        gates = [*[SIGMA] * (len(self.cell.gates) - 1), self.phi]
        blocks = zip(gates, self.gate_preactivations(a), strict=True)
        return torch.cat([phi.df(block) / phi.gamma for phi, block in blocks], dim=-2)

    def gate_preactivations(self, a: Tensor) -> list[Tensor]:
        """Those of the sigmoid gates, and last that of phi."""
        raise NotImplementedError

    def stacked(self, params: Tensors, K: int) -> Tensor:
        """W (R, rows, K) from parameters with a leading run axis."""
        W_hh, W_ih = params["weight_hh"], params["weight_ih"]
        R, _, H = W_hh.shape
        D = W_ih.shape[2]
        W = torch.zeros((R, self.rows, K), dtype=W_hh.dtype, device=W_hh.device)
        W[:, :, :H], W[:, :, H : H + D] = W_hh, W_ih
        for name in ("bias_ih", "bias_hh"):
            if name in params:
                W[:, :, H + D] += params[name]
        return W

    def parameter_gradients(self, sums: Tensor, D: int) -> Tensors:
        """dL/d(parameter) from Σ da_t z_t^T (R, rows, K)."""
        H = self.H
        bias = sums[:, :, H + D]
        return {"weight_ih": sums[:, :, H : H + D], "weight_hh": sums[:, :, :H], "bias_ih": bias, "bias_hh": bias}

    def input_rows(self, da: Tensor) -> Tensor:
        """The rows of da_t (…, rows, B) that are dL/du_t."""
        return da


class VanillaSteps(CellSteps):
    """h_t = phi(a_t)."""

    slopes_first = True

    def forward(self, a: Tensor, before: Tensors, now: Tensors) -> None:
        apply(self.phi, a, now["hidden"])  # h_t = phi(a_t)

    def backward(self, a: Tensor, before: Tensors, now: Tensors, total: Tensors, da: Tensor, sent: Tensors) -> float:
        torch.mul(a, total["hidden"], out=da)  # da_t = phi'(a_t) ⊙ dh_t; the slopes stand where a_t stood
        return 0.0

    def after_forward(self, a: Tensor) -> None:
        turn_into_slopes(self.phi, a)

    def saturation_slopes(self, a: Tensor) -> Tensor:
        return a / self.phi.gamma if self.phi.gamma != 1.0 else a


class ResidualSteps(VanillaSteps):
    """h_t = (1 - leak) h_{t-1} + step · phi(a_t)."""

    cell: ResidualCell

    def forward(self, a: Tensor, before: Tensors, now: Tensors) -> None:
        torch.mul(before["hidden"], 1.0 - self.cell.leak, out=now["hidden"])
        now["hidden"].add_(self.phi.f(a), alpha=self.cell.step)  # h_t = (1 - lambda) h_{t-1} + eta phi(a_t)

    def backward(self, a: Tensor, before: Tensors, now: Tensors, total: Tensors, da: Tensor, sent: Tensors) -> float:
        torch.mul(a, total["hidden"], out=da)
        da.mul_(self.cell.step)  # da_t = eta phi'(a_t) ⊙ dh_t
        torch.mul(total["hidden"], 1.0 - self.cell.leak, out=sent["hidden"])
        return 1.0


class GRUSteps(CellSteps):
    """torch.nn.GRU's form. Its rows are a_r, a_z, v_n, u_n: the candidate's two parts meet only after the reset gate."""

    def __init__(self, cell: Cell, H: int) -> None:
        super().__init__(cell, H)
        self.rows, self.recurrent = 4 * H, 3 * H

    def forward(self, a: Tensor, before: Tensors, now: Tensors) -> None:
        a_r, a_z, v_n, u_n = a.split(self.H, dim=1)
        n = self.phi.f(u_n + SIGMA.f(a_r) * v_n)
        now["hidden"].copy_(SIGMA.f(-a_z) * n + SIGMA.f(a_z) * before["hidden"])  # (1 - z_t) ⊙ n_t + z_t ⊙ h_{t-1}

    def backward(self, a: Tensor, before: Tensors, now: Tensors, total: Tensors, da: Tensor, sent: Tensors) -> float:
        a_r, a_z, v_n, u_n = a.split(self.H, dim=1)
        dh, h_prev, r = total["hidden"], before["hidden"], SIGMA.f(a_r)
        a_n = u_n + r * v_n
        da_n = self.phi.df(a_n) * (SIGMA.f(-a_z) * dh)  # dn_t = (1 - z_t) ⊙ dh_t
        da_z = SIGMA.df(a_z) * ((h_prev - self.phi.f(a_n)) * dh)  # dz_t = (h_{t-1} - n_t) ⊙ dh_t
        da_r = SIGMA.df(a_r) * (v_n * da_n)  # dr_t = v_n ⊙ da_n
        torch.mul(SIGMA.f(a_z), dh, out=sent["hidden"])
        torch.cat([da_r, da_z, r * da_n, da_n], dim=1, out=da)
        return 1.0

    def gate_preactivations(self, a: Tensor) -> list[Tensor]:
        a_r, a_z, v_n, u_n = a.split(self.H, dim=-2)
        return [a_r, a_z, u_n + SIGMA.f(a_r) * v_n]

    def stacked(self, params: Tensors, K: int) -> Tensor:
        H, W_hh, W_ih = self.H, params["weight_hh"], params["weight_ih"]
        D = W_ih.shape[2]
        W = torch.zeros((len(W_hh), 4 * H, K), dtype=W_hh.dtype, device=W_hh.device)
        W[:, : 3 * H, :H], W[:, : 2 * H, H : H + D], W[:, 3 * H :, H : H + D] = W_hh, W_ih[:, : 2 * H], W_ih[:, 2 * H :]
        if "bias_hh" in params:
            W[:, : 3 * H, H + D] = params["bias_hh"]
        if "bias_ih" in params:
            W[:, : 2 * H, H + D] += params["bias_ih"][:, : 2 * H]
            W[:, 3 * H :, H + D] = params["bias_ih"][:, 2 * H :]
        return W

    def parameter_gradients(self, sums: Tensor, D: int) -> Tensors:
        H, of_u = self.H, self.input_rows(sums)
        return {
            "weight_ih": of_u[:, :, H : H + D],
            "weight_hh": sums[:, : 3 * H, :H],
            "bias_ih": of_u[:, :, H + D],
            "bias_hh": sums[:, : 3 * H, H + D],
        }

    def input_rows(self, da: Tensor) -> Tensor:
        a_r_and_z, _, of_u_n = da.split([2 * self.H, self.H, self.H], dim=-2)
        return torch.cat([a_r_and_z, of_u_n], dim=-2)


class LSTMSteps(CellSteps):
    """torch.nn.LSTM."""

    def forward(self, a: Tensor, before: Tensors, now: Tensors) -> None:
        a_i, a_f, a_g, a_o = a.split(self.H, dim=1)
        c = SIGMA.f(a_f) * before["cell"] + SIGMA.f(a_i) * self.phi.f(a_g)  # c_t = f_t ⊙ c_{t-1} + i_t ⊙ g_t
        now["cell"].copy_(c)
        torch.mul(SIGMA.f(a_o), self.phi.f(c), out=now["hidden"])  # h_t = o_t ⊙ phi(c_t)

    def backward(self, a: Tensor, before: Tensors, now: Tensors, total: Tensors, da: Tensor, sent: Tensors) -> float:
        a_i, a_f, a_g, a_o = a.split(self.H, dim=1)
        dh, dc, c, f = total["hidden"], total["cell"], now["cell"], SIGMA.f(a_f)
        dc += self.phi.df(c) * (SIGMA.f(a_o) * dh)  # c_t acts through c_{t+1}, and through h_t
        da_i = SIGMA.df(a_i) * (self.phi.f(a_g) * dc)  # di_t = g_t ⊙ dc_t
        da_f = SIGMA.df(a_f) * (before["cell"] * dc)  # df_t = c_{t-1} ⊙ dc_t
        da_g = self.phi.df(a_g) * (SIGMA.f(a_i) * dc)  # dg_t = i_t ⊙ dc_t
        da_o = SIGMA.df(a_o) * (self.phi.f(c) * dh)  # do_t = phi(c_t) ⊙ dh_t
        torch.mul(f, dc, out=sent["cell"])  # dc_{t-1} = f_t ⊙ dc_t
        torch.cat([da_i, da_f, da_g, da_o], dim=1, out=da)
        return 0.0

    def saturation_slopes(self, a: Tensor) -> Tensor:
        gates = zip((SIGMA, SIGMA, self.phi, SIGMA), a.split(self.H, dim=-2), strict=True)
        return torch.cat([phi.df(block) / phi.gamma for phi, block in gates], dim=-2)


STEPS: dict[type[Cell], type[CellSteps]] = {
    VanillaCell: VanillaSteps,
    ResidualCell: ResidualSteps,
    GRUCell: GRUSteps,
    LSTMCell: LSTMSteps,
}


def apply(phi: Activation, a: Tensor, out: Tensor) -> None:
    """phi(a) into ``out``; the commonest functions in one pass over memory."""
    if phi.name == "tanh":
        torch.tanh(a, out=out)
    elif phi.name == "identity":
        out.copy_(a)
    else:
        out.copy_(phi.f(a))


def turn_into_slopes(phi: Activation, a: Tensor) -> None:
    """phi'(a) in the place of a."""
    if phi.name == "tanh":
        a.cosh_().reciprocal_().square_()  # 1/cosh², in three passes; like ``activations``' form it cancels nothing
    else:
        a.copy_(phi.df(a))
