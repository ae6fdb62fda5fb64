"""Tensors of float64 with an exponent for every step, (steps, …): what the oracles hold beyond the range of floats."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rnn_core.arrays import Array
from rnn_core.scaling import Scaled, exponents_of, mantissa_and_exponents


def by_step(x: Array | Scaled, whole: bool = False) -> Scaled:
    """``x``, a leading index a step; ``whole`` is one step without its leading index."""
    mantissa, exponent = (x.mantissa, x.exponent) if isinstance(x, Scaled) else (x, 0)
    rows = np.ascontiguousarray(mantissa) if isinstance(mantissa, np.ndarray) and mantissa.ndim else mantissa
    tensor = torch.as_tensor(rows).detach().double()  # torch takes no array that goes backward
    return at_exponents(tensor[None], exponent) if whole else at_exponents(tensor, exponent)


def at_exponents(x: Tensor, exponent: int | np.ndarray = 0) -> Scaled:
    """x[t] · 2**exponent, or times 2**exponent[t]."""
    return Scaled(x, np.broadcast_to(np.asarray(exponent, dtype=np.int64), (len(x),)))


def whole(x: Array | Scaled) -> Scaled:
    """One array with one exponent, as one step."""
    return by_step(x, whole=True)


def between(x: Array | Scaled, where: slice) -> Scaled:
    """Some of the steps."""
    mantissa, exponent = mantissa_and_exponents(x)
    return Scaled(mantissa[where], exponent[where])


def flat(x: Tensor) -> Tensor:
    """(steps, B, K) to (steps · B, K), a copy of its own."""
    return x.detach().reshape(-1, x.shape[-1]).clone()


def joined(arrays: dict[str, Scaled]) -> dict[str, Scaled]:
    """The same values, every step of all parts at one exponent, its largest mantissa between 1/2 and 1. Zeros have the smallest there is."""
    largest = np.fmax.reduce(
        [exponents_of(each.mantissa) + mantissa_and_exponents(each)[1] for each in arrays.values()]
    )
    smallest = np.fmin.reduce(largest, initial=np.inf)
    common = np.where(np.isnan(largest), smallest if np.isfinite(smallest) else 0.0, largest).astype(np.int64)
    return {name: Scaled(Scaled(m, e - common).to_float(), common) for name, (m, e) in ((n, mantissa_and_exponents(v)) for n, v in arrays.items())}  # fmt: skip


def total_of(a: Scaled, b: Scaled) -> Scaled:
    """a + b, step by step."""
    aligned = joined({"a": a, "b": b})
    return Scaled(aligned["a"].mantissa + aligned["b"].mantissa, aligned["a"].exponent)
