"""What is read off the buffers, reduced where they are: norms, saturation, slopes, what narrower formats lose, and which runs hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from rnn_core.batched.passes import Together
from rnn_core.batched.powers import times_two_to
from rnn_core.formats import FORMATS
from rnn_core.scaling import LN2

READ = 2**27  # bytes that are looked at together
LARGEST_GATE = {
    "float64": 100.0,
    "float32": 25.0,
}  # a gate's slope at a larger preactivation may underflow in a product


class States(NamedTuple):
    """What the forward pass says.

    Attributes:
        hidden_rms: root mean square of h_t over batch and units, float64 (T, R).
        saturation: fraction of slopes below ``saturated_below`` of their supremum, float64 (T, R).
        slope_sums: sums over the batch of phi'/gamma and of its square, (2, T, R, H); None of gated cells.
        hold: bool (R,): neither states nor slopes come near the end of the range.
    """

    hidden_rms: Tensor
    saturation: Tensor
    slope_sums: Tensor | None
    hold: Tensor


class Gradients(NamedTuple):
    """What the backward pass says.

    Attributes:
        log_norm_samples: ln ‖dL/dh_t^(b)‖ of every sample, float64 (T, R, B).
        log_norm: over batch and units, float64 (T, R).
        log_norm_cell: of an LSTM's dL/dc_t; None of other cells.
        lost: as ``formats.lost_fractions``, by name float64 (T, R); empty where nobody asks.
        hold: bool (R,): one exponent a sample has held every entry of every signal.
    """

    log_norm_samples: Tensor
    log_norm: Tensor
    log_norm_cell: Tensor | None
    lost: dict[str, Tensor]
    hold: Tensor


def _parts(together: Together, rows: int) -> Iterator[slice]:
    size = together.R * rows * together.shape.B * together.a.element_size()
    yield from together.pieces(together.shape.T, max(1, READ // size))


# ---- states --------------------------------------------------------------------------------------------------------------


def read_states(together: Together, saturated_below: float) -> States:
    """After ``forward`` and before ``backward``, which overwrites what is read."""
    shape, step = together.shape, together.step
    norms, saturated, sums = [], [], []
    hold = torch.ones(together.R, dtype=torch.bool, device=together.a.device)
    for steps in _parts(together, step.rows):
        a = together.a[steps]
        norms.append(torch.linalg.vector_norm(together.h[1:][steps], dim=(2, 3)).double())
        slope = step.saturation_slopes(a)
        saturated.append((slope.abs() < saturated_below).sum(dim=(2, 3)).double() / (slope.shape[2] * shape.B))
        hold &= _slopes_hold(together, a)
        if step.slopes_first:
            sums.append(torch.stack([slope.sum(dim=3), torch.linalg.vector_norm(slope, dim=3) ** 2]))
    norm = torch.cat(norms)
    hold &= _states_hold(together, norm)
    rms = norm / math.sqrt(shape.H * shape.B)
    return States(rms, torch.cat(saturated), torch.cat(sums, dim=1) if sums else None, hold)


def _states_hold(together: Together, norm: Tensor) -> Tensor:
    """Whether norms of states (T, R) are well in range, bool (R,). Zeros are, unless they are what is left of something."""
    limit, zero = 2.0**together.limits.state, norm == 0.0
    if bool(zero.any()):
        parts = _parts(together, together.shape.H)
        exact = torch.cat([torch.amax(together.h[1:][steps].abs(), dim=(2, 3)) == 0.0 for steps in parts])
        if together.shape.cell.homogeneous:  # its states are exact at any size in the readable engine
            exact[1:] &= zero[:-1]
        zero &= exact
    return (((norm <= limit) & (norm >= 1.0 / limit)) | zero).all(dim=0)


def _slopes_hold(together: Together, a: Tensor) -> Tensor:
    """Whether no slope is so small that a product with it may underflow, bool (R,), from some steps' slopes or preactivations."""
    if not together.step.slopes_first:
        return torch.linalg.vector_norm(a, torch.inf, dim=(0, 2, 3)) <= LARGEST_GATE[together.shape.dtype]
    if together.shape.phi.piecewise_linear:
        return torch.ones(together.R, dtype=torch.bool, device=a.device)
    return torch.linalg.vector_norm(a, -torch.inf, dim=(0, 2, 3)) >= 2.0**together.limits.slope


# ---- gradients -----------------------------------------------------------------------------------------------------------


def read_gradients(together: Together, lost: bool = True) -> Gradients:
    """After ``backward``."""
    exponent = together.exponent[1:]
    hidden = _columns(together, together.dh[1:])
    samples = hidden.norm.log() + exponent.double() * LN2
    hold, cell = hidden.hold, None
    if together.dc is not None:
        of_cell = _columns(together, together.dc[1:])
        cell, hold = _over_batch(of_cell.norm.log() + exponent.double() * LN2), hold & of_cell.hold
    fractions = _lost(together.dh[1:], exponent, hidden) if lost else {}
    log_norm = _over_batch(samples)
    hold = hold & (log_norm < torch.inf).all(dim=0)  # nan is not
    return Gradients(samples, log_norm, cell, fractions, hold)


def _over_batch(samples: Tensor) -> Tensor:
    return 0.5 * torch.logsumexp(2.0 * samples, dim=-1)


class _Columns(NamedTuple):
    """Of every column as stored, float64 (T, R, B): its norm, its largest and its smallest magnitude that is not 0 (inf where all
    are), how many are not 0; and whether all are large enough, bool (R,)."""

    norm: Tensor
    largest: Tensor
    smallest: Tensor
    nonzero: Tensor
    hold: Tensor


def _columns(together: Together, d: Tensor) -> _Columns:
    zeros_count = not together.shape.phi.piecewise_linear  # else a unit that is off sends exact zeros
    read: list[tuple[Tensor, ...]] = []
    for steps in _parts(together, d.shape[2]):
        part = d[steps]
        norm, largest = (torch.linalg.vector_norm(part, order, dim=2).double() for order in (2, torch.inf))
        if zeros_count:
            smallest = torch.linalg.vector_norm(part, -torch.inf, dim=2).double()
            nonzero = torch.full_like(smallest, part.shape[2])
        else:
            zero = part == 0
            smallest = part.abs().masked_fill_(zero, torch.inf).amin(dim=2).double()
            nonzero = part.shape[2] - zero.sum(dim=2).double()
        read.append((norm, largest, smallest, nonzero))
    norm, largest, smallest, nonzero = (torch.cat(each) for each in zip(*read, strict=True))
    hold = (smallest >= 2.0**together.limits.low).all(dim=2).all(dim=0)
    return _Columns(norm, largest, smallest, nonzero, hold)


def _lost(d: Tensor, exponent: Tensor, columns: _Columns) -> dict[str, Tensor]:
    """Counted entry by entry only in columns whose largest and smallest entries lie on two sides of a limit."""
    limits, mixed = {}, torch.zeros_like(columns.norm, dtype=torch.bool)
    for format in FORMATS:
        for name, number, power in (("flushed", 0.5, format.bottom), ("overflowed", 2.0 - 2.0**-format.digits, format.top - 1)):  # fmt: skip
            limit = times_two_to(torch.full_like(columns.norm, number), power - exponent)
            limits[f"{format.name}_{name}"] = limit
            mixed |= (columns.smallest <= limit) & (columns.largest >= limit)
    mixed &= columns.nonzero > 0
    where = mixed.nonzero(as_tuple=True)
    counts = {
        name: torch.where(columns.largest <= limit, columns.nonzero, 0.0)
        if name.endswith("flushed")
        else torch.where(columns.smallest >= limit, columns.nonzero, 0.0)
        for name, limit in limits.items()
    }
    at_once = max(1, READ // (8 * d.shape[2]))
    for some in zip(*(each.split(at_once) for each in where), strict=True):
        t, r, b = some
        entries = d[t, r, :, b].abs().double()
        for name, limit in limits.items():
            bound = limit[some][:, None]
            inside = (entries <= bound) & (entries > 0) if name.endswith("flushed") else entries >= bound
            counts[name][some] = inside.sum(dim=1).double()
    total = torch.clamp(columns.nonzero.sum(dim=2), min=1.0)
    return {name: count.sum(dim=2) / total for name, count in counts.items()}
