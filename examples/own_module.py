"""A torch module of one's own: a matrix memory with a backward pass by hand, probed, and found out when it is wrong.

python -m examples.own_module
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import rnn_core as rc


class Squash(torch.autograd.Function):  # type: ignore[misc]
    """v / (1 + |v|), with a backward pass by hand. ``wrong`` forgets the square."""

    wrong = False

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return v / (1 + v.abs())

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        slope: Tensor = 1 / (1 + v.abs()) if Squash.wrong else 1 / (1 + v.abs()) ** 2
        return given * slope


class Memory(nn.Module):  # type: ignore[misc]
    """C_t = f_t C_{t-1} + v_t k_t^T, and an output that q_t reads from it."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.qkv, self.forget = nn.Linear(inputs, 3 * units), nn.Linear(inputs, 1)

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        blank = self.forget.weight.new_zeros(batch_size, self.units, self.units)
        return {"output": blank[:, 0], "memory": blank}

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        q, k, v = self.qkv(x).chunk(3, dim=1)
        f = torch.sigmoid(self.forget(x))[..., None]
        memory = f * state["memory"] + v[:, :, None] * k[:, None, :]
        return {"output": Squash.apply((memory @ q[..., None])[..., 0]), "memory": memory}


def main() -> None:
    T, B, D, N = 2000, 4, 3, 5
    torch.manual_seed(0)
    model = Memory(D, N).double()
    x = torch.randn(T, B, D, dtype=torch.float64)

    look = rc.probe(model, x, grad=torch.ones(B, N, dtype=torch.float64))
    print(look)

    # The memory is forgotten by f_t alone, so the gradient of C_1 is that of C_T times their product.
    factors = torch.sigmoid(model.forget(x))[1:, :, 0].detach().log10().sum(0).numpy()
    samples = look.log10_grad_norm_samples
    print(
        "the product of the forget gates says the same:",
        bool(np.allclose(samples[0] - samples[-1], factors, rtol=1e-10)),
    )

    Squash.wrong = True
    print("with a mistake:", rc.check_derivatives(model, x[:20]).where)
    Squash.wrong = False


if __name__ == "__main__":
    main()
