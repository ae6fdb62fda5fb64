"""A linear recurrent unit (LRU): Orvieto et al. (2023), Resurrecting Recurrent Neural Networks, arXiv 2303.06349, sections 3.2 to 3.4.

    s_t = λ ⊙ s_{t-1} + γ ⊙ (B x_t),    λ_j = exp(−exp(ν_j) + i exp(θ_j)),    γ_j = √(1 − |λ_j|²) at the start

λ and s are complex. Here s is real, (B, H, 2): the last axis holds real and imaginary part, and λ turns and shrinks that pair.
|λ|² is drawn evenly from r_min² to r_max² and the phase from 0 to ``max_phase``: evenly in a ring (lemma 3.2). The paper's
y_t = Re(C s_t) + D x_t acts on no later step. A study's readout, linear in both parts, is just that but for D.
"""

import math

import torch
from torch import Tensor, nn


class LRU(nn.Module):
    """x_t (B, D) and the state before it to the state after it."""

    def __init__(
        self, input_size: int, hidden_size: int, r_min: float = 0.0, r_max: float = 1.0, max_phase: float = 2 * math.pi
    ) -> None:
        super().__init__()
        squared = r_min**2 + (r_max**2 - r_min**2) * torch.rand(hidden_size)  # |λ|²
        self.nu = nn.Parameter(torch.log(-0.5 * torch.log(squared)))
        self.theta = nn.Parameter(torch.log(max_phase * torch.rand(hidden_size)))
        self.log_gamma = nn.Parameter(0.5 * torch.log1p(-squared))
        self.B = nn.Parameter(torch.randn(2, hidden_size, input_size) / math.sqrt(2 * input_size))

    def initial_state(self, batch_size: int) -> Tensor:
        """Nothing seen yet."""
        return self.nu.new_zeros(batch_size, len(self.nu), 2)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        real, imaginary = state.unbind(dim=2)
        modulus, phase = torch.exp(-torch.exp(self.nu)), torch.exp(self.theta)
        turned = modulus * torch.cos(phase), modulus * torch.sin(phase)
        entering = torch.exp(self.log_gamma) * (x @ self.B.transpose(1, 2))  # (2, B, H)
        return torch.stack(
            [
                turned[0] * real - turned[1] * imaginary + entering[0],
                turned[1] * real + turned[0] * imaginary + entering[1],
            ],
            dim=2,
        )
