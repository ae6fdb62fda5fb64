"""What every column of dL/dh_t says of itself, read once from the buffers: the rest of ``trace`` and ``sums`` goes by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from rnn_core.batched.powers import exponent_bits
from rnn_core.scaling import LN2

if TYPE_CHECKING:
    from rnn_core.batched.passes import Together

READ = 2**27  # bytes that are looked at together
NOTHING = -(2**30)  # the exponent of a zero


class Columns(NamedTuple):
    """Of every column of a part of dL/dstate_t, t = 1 … T; all but ``log_norm`` as stored, without the exponent.

    Attributes:
        log_norm: ln of its norm, float64 (T, R, B); -inf where all is 0.
        largest: its largest magnitude, (T, R, B).
        smallest: its smallest magnitude that is not 0, (T, R, B); inf where all are.
        nonzero: how many are not 0, (T, R, B).
        exponent: the e with largest magnitude below 2**e of all columns of a run with the exponent, int64 (R,); ``NOTHING`` where all is 0.
    """

    log_norm: Tensor
    largest: Tensor
    smallest: Tensor
    nonzero: Tensor
    exponent: Tensor


def columns_of(together: Together) -> dict[str, Columns]:
    """By part of the state. They are found once after every backward pass."""
    if not together.columns:
        parts = {"hidden": together.dh} if together.dc is None else {"hidden": together.dh, "cell": together.dc}
        read = _by_torch if together.kernels is None else together.kernels.columns
        together.columns |= {name: read(together, part) for name, part in parts.items()}
    return together.columns


def parts_of(together: Together, rows: int) -> Iterator[slice]:
    """Steps in order, as many at a time as are looked at together where each has so many rows a run."""
    size = together.R * rows * together.shape.B * together.a.element_size()
    yield from together.pieces(together.shape.T, max(1, READ // size))


def _by_torch(together: Together, part: Tensor) -> Columns:
    exponent, read = together.exponent[1:], []
    for steps in parts_of(together, part.shape[2]):
        d = part[1:][steps]
        zero = d == 0
        norm, largest = (torch.linalg.vector_norm(d, order, dim=2) for order in (2, torch.inf))
        smallest = d.abs().masked_fill_(zero, torch.inf).amin(dim=2)
        read.append((norm, largest, smallest, (d.shape[2] - zero.sum(dim=2)).to(d.dtype)))
    norm, largest, smallest, nonzero = (torch.cat(each) for each in zip(*read, strict=True))
    own = exponent_bits(largest, together.shape.dtype).to(torch.int64) + exponent
    highest = torch.where(largest > 0, own, NOTHING).amax(dim=(0, 2))
    return Columns(norm.double().log() + exponent.double() * LN2, largest, smallest, nonzero, highest)
