"""Gradients of parameters and inputs from what a backward pass leaves: products over all steps, none of them in the loop."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rnn_core.batched.columns import columns_of
from rnn_core.batched.passes import Together
from rnn_core.batched.powers import two_to
from rnn_core.batched.steps import Tensors

ROOM = 2**29  # bytes, for one factor of a product over some steps


class ParameterGradients(NamedTuple):
    """Gradients of R runs, summed over time and batch.

    Attributes:
        mantissa: by name, with a leading run axis.
        exponent: int64 (R,); the values are mantissa * 2**exponent.
    """

    mantissa: Tensors
    exponent: Tensor


def parameter_gradients(together: Together) -> ParameterGradients:
    """Σ_t da_t z_t^T, every da_t brought to its size beside the largest signal of its run. What then rounds to zero is too small
    beside the sum to be seen in it."""
    common = torch.stack([part.exponent for part in columns_of(together).values()]).amax(dim=0)
    kernels = together.kernels
    by = _by_torch if kernels is None or not kernels.sums_cover(together) else kernels.sums
    return ParameterGradients(together.step.parameter_gradients(by(together, common), together.shape.D), common)


def _by_torch(together: Together, common: Tensor) -> Tensor:
    """Some steps at a time, copied to stand beside each other, as one product for every run."""
    T, R, rows, B = together.a.shape
    K, limits = together.shape.columns, together.limits
    factor = two_to(torch.clamp(together.exponent[1:] - common[:, None], max=limits.bias), together.shape.dtype)
    length = max(1, min(T, ROOM // (R * max(rows, K) * B * together.a.element_size())))
    d, z = (together.a.new_empty((R, n, length, B)) for n in (rows, K))
    sums = together.a.new_zeros((R, rows, K))
    for steps in together.pieces(T, length):
        n = steps.stop - steps.start
        if n < length:
            d, z = (each[:, :, :n].contiguous() for each in (d, z))
        torch.mul(together.a[steps].permute(1, 2, 0, 3), factor[steps].permute(1, 0, 2)[:, None], out=d)
        z.copy_(together.z[steps].permute(1, 2, 0, 3))
        sums.baddbmm_(d.view(R, rows, n * B), z.view(R, K, n * B).transpose(1, 2))
    return sums


def input_gradients(together: Together) -> tuple[Tensor, Tensor]:
    """(dL/dx_t as stored (T, R, D, B), its exponents (T, R, B)): dx_t = W_ih^T du_t."""
    H, D = together.shape.H, together.shape.D
    W_ih = together.step.input_rows(together.W.transpose(1, 2)[:, H : H + D].transpose(1, 2))
    du = together.step.input_rows(together.a)
    return torch.matmul(W_ih.transpose(1, 2), du), together.exponent[1:]
