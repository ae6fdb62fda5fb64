"""Powers of two as tensors, and which magnitudes a pass may hold. A product with one of them changes no bit of a mantissa."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Range(NamedTuple):
    """What the numbers of a backward pass are kept in, as binary exponents.

    Between two renormalisations a signal may grow by what is above ``top``, with room for its squares. A product of a slope of at
    least 2**slope with a signal of at least 2**low, and then with a weight, is still a normal number. So nothing that is not
    already smaller can have been lost, and a look at the smallest entries at the end tells whether anything was.

    Attributes:
        integer: the integer dtype as wide as the floats.
        mantissa: bits below the exponent.
        bias: the exponent's bias.
        top: the largest entry of a column is brought to 2**(top - 1) … 2**top.
        low: nonzero entries of a signal below 2**low are too small.
        slope: nonzero slopes below 2**slope are too small.
        state: states above 2**state or norms of states below 2**-state are left to the readable engine.
        every: steps from one renormalisation to the next.
    """

    integer: torch.dtype
    mantissa: int
    bias: int
    top: int
    low: int
    slope: int
    state: int
    every: int


RANGES = {
    "float64": Range(torch.int64, 52, 1023, top=400, low=-500, slope=-400, state=300, every=16),
    "float32": Range(torch.int32, 23, 127, top=30, low=-50, slope=-55, state=40, every=4),
}


def two_to(exponent: Tensor, dtype: str) -> Tensor:
    """2**exponent as floats, exact: exponents are integers, and below the range of normal numbers the result is 0.

    Exponents above the range are an error of the caller's.
    """
    limits = RANGES[dtype]
    bits = torch.clamp(exponent + limits.bias, min=0).to(limits.integer) << limits.mantissa
    return bits.view(getattr(torch, dtype))


def times_two_to(x: Tensor, exponent: Tensor) -> Tensor:
    """``x * 2**exponent`` for any exponents, in two factors, so that the result is right wherever it is a normal number."""
    dtype = str(x.dtype).removeprefix("torch.")
    limits = RANGES[dtype]
    bounded = torch.clamp(exponent, -2 * limits.bias + 2, 2 * limits.bias)
    half = torch.div(bounded, 2, rounding_mode="trunc")
    return x * two_to(half, dtype) * two_to(bounded - half, dtype)


def exponent_bits(magnitude: Tensor, dtype: str) -> Tensor:
    """The e with 2**(e-1) <= magnitude < 2**e of normal numbers, as integers of their width; 1 - bias of zero and of smaller
    numbers, bias + 2 of inf and nan."""
    limits = RANGES[dtype]
    return (magnitude.view(limits.integer) >> limits.mantissa) - (limits.bias - 1)
