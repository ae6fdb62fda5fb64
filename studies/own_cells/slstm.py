"""An sLSTM step with its stabiliser: Beck et al. (2024), xLSTM, arXiv 2405.04517, section 2.2, equations 8 to 17.

    z_t = tanh(z̃_t),  o_t = σ(õ_t),  i_t = exp(ĩ_t),  f_t = σ(f̃_t) or exp(f̃_t)      preactivations: W x_t + R h_{t-1} + b
    c_t = f_t c_{t-1} + i_t z_t,     n_t = f_t n_{t-1} + i_t,     h_t = o_t c_t / n_t

i_t may leave the range of floats. So c and n are kept times exp(−m_t), with m_t = max(ln f_t + m_{t-1}, ln i_t): i_t and f_t become
exp(ln i_t − m_t) and exp(ln f_t + m_{t-1} − m_t), at most 1. h_t does not change. The state has four parts, each (B, H); m starts at 0.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

PARTS = ("hidden", "cell", "normaliser", "stabiliser")


class SLSTM(nn.Module):
    """x_t (B, D) and the state before it to the state after it. ``gain`` is the standard deviation of R times √H."""

    def __init__(self, input_size: int, hidden_size: int, gain: float = 1.0, forget: str = "sigmoid") -> None:
        super().__init__()
        if forget not in ("sigmoid", "exponential"):
            raise ValueError(f"forget: {forget!r} is not known; allowed: sigmoid, exponential")
        self.forget = forget
        self.inward = nn.Parameter(torch.randn(4 * hidden_size, input_size) / math.sqrt(input_size))
        self.recurrent = nn.Parameter(gain * torch.randn(4 * hidden_size, hidden_size) / math.sqrt(hidden_size))
        kept = torch.linspace(3.0, 6.0, hidden_size) if forget == "sigmoid" else torch.zeros(hidden_size)
        rest = torch.zeros(hidden_size)
        self.bias = nn.Parameter(torch.cat([rest, rest, kept, rest]))  # z, i, f, o

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        """Nothing seen yet."""
        return {part: self.recurrent.new_zeros(batch_size, self.recurrent.shape[1]) for part in PARTS}

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        before = x @ self.inward.T + state["hidden"] @ self.recurrent.T + self.bias
        z, log_i, f, o = before.chunk(4, dim=1)
        log_f = (functional.logsigmoid(f) if self.forget == "sigmoid" else f) + state["stabiliser"]
        m = torch.maximum(log_f, log_i)
        i, f = torch.exp(log_i - m), torch.exp(log_f - m)
        c = f * state["cell"] + i * torch.tanh(z)
        n = f * state["normaliser"] + i
        return {"hidden": torch.sigmoid(o) * c / n, "cell": c, "normaliser": n, "stabiliser": m}
