"""A Mamba step: the selective state-space model S6 of Gu & Dao (2023), arXiv 2312.00752, algorithm 2.

    u_t = SiLU(Σ_j K_j ⊙ (W_in x_{t-j}) + b_K)    a short causal convolution, channel by channel, as section 3.4 has it
    Δ_t = softplus(W_up W_down u_t + b_Δ)         how long each channel looks at this step, (B, E)
    B_t = W_B u_t                                 what the step adds to the N numbers of a channel, (B, N)
    S_t = exp(Δ_t A) ⊙ S_{t-1} + (Δ_t u_t) B_tᵀ   the memory, (B, E, N); A = −exp(log_A), so every factor is below 1

E channels are ``hidden_size``, N is ``state_size``. exp(Δ A) is the zero-order hold of equation 4; Δ B is its first order, as in the
authors' code. The state is {"hidden": S, "recent": the inputs that the convolution still needs}.

Left out is what acts on no later step: y_t = S_t C_t + D u_t and the gate. A study's readout, linear in S, stands in their place.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class Mamba(nn.Module):
    """x_t (B, D) and the state before it to the state after it."""

    def __init__(self, input_size: int, hidden_size: int, state_size: int = 16, window: int = 4) -> None:
        super().__init__()
        rank = math.ceil(hidden_size / 16)
        self.inward = nn.Linear(input_size, hidden_size, bias=False)
        self.kernel = nn.Parameter((2 * torch.rand(hidden_size, window) - 1) / math.sqrt(window))
        self.kernel_bias = nn.Parameter(torch.zeros(hidden_size))
        self.to_B = nn.Linear(hidden_size, state_size, bias=False)
        self.down, self.up = nn.Linear(hidden_size, rank, bias=False), nn.Linear(rank, hidden_size)
        self.log_A = nn.Parameter(torch.arange(1.0, state_size + 1).log().repeat(hidden_size, 1))
        duration = torch.exp(
            math.log(1e-3) + torch.rand(hidden_size) * math.log(100)
        )  # Δ from 0.001 to 0.1, section 3.6
        self.up.bias = nn.Parameter(duration + torch.log(-torch.expm1(-duration)))  # softplus of this is the duration

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        """Nothing seen yet."""
        (channels, window), states = self.kernel.shape, self.log_A.shape[1]
        return {
            "hidden": self.kernel.new_zeros(batch_size, channels, states),
            "recent": self.kernel.new_zeros(batch_size, channels, window - 1),
        }

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        recent = torch.cat([state["recent"], self.inward(x)[:, :, None]], dim=2)  # the newest last
        u = functional.silu((recent * self.kernel).sum(dim=2) + self.kernel_bias)
        duration = functional.softplus(self.up(self.down(u)))
        kept = torch.exp(duration[:, :, None] * -torch.exp(self.log_A))
        added = (duration * u)[:, :, None] * self.to_B(u)[:, None, :]
        return {"hidden": kept * state["hidden"] + added, "recent": recent[:, :, 1:]}
