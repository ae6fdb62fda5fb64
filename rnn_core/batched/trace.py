"""What is read off the buffers, reduced where they are: norms, saturation, slopes, what narrower formats lose, and which runs hold."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from rnn_core.batched.columns import READ, Columns, columns_of, parts_of
from rnn_core.batched.passes import Together
from rnn_core.batched.powers import times_two_to
from rnn_core.formats import FORMATS

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


# ---- states --------------------------------------------------------------------------------------------------------------


def read_states(together: Together, saturated_below: float) -> States:
    """After ``forward`` and before ``backward``, which overwrites what is read."""
    shape, step = together.shape, together.step
    norms, saturated, sums = [], [], []
    hold = torch.ones(together.R, dtype=torch.bool, device=together.a.device)
    for steps in parts_of(together, step.rows):
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
    """Whether norms of states (T, R) are well in range, bool (R,). Zeros are, but not what is too small for its square."""
    limit, zero = 2.0**together.limits.state, norm == 0.0
    if bool(zero.any()):
        parts = parts_of(together, together.shape.H)
        zero &= torch.cat([torch.amax(together.h[1:][steps].abs(), dim=(2, 3)) == 0.0 for steps in parts])
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
    columns = columns_of(together)
    hidden, cell = columns["hidden"], columns.get("cell")
    log_norm = _over_batch(hidden.log_norm)
    hold = (log_norm < torch.inf).all(dim=0)  # nan is not
    for part in columns.values():
        hold &= _hold(together, part)
    return Gradients(
        hidden.log_norm,
        log_norm,
        None if cell is None else _over_batch(cell.log_norm),
        _lost(together.dh[1:], together.exponent[1:], hidden) if lost else {},
        hold,
    )


def _over_batch(samples: Tensor) -> Tensor:
    return 0.5 * torch.logsumexp(2.0 * samples, dim=-1)


def _hold(together: Together, columns: Columns) -> Tensor:
    """Whether no entry is so small that others may have been lost, bool (R,). A zero counts unless units may be off."""
    large = columns.smallest >= 2.0**together.limits.low
    if not together.shape.phi.piecewise_linear:
        large &= columns.nonzero == together.shape.H
    return large.all(dim=2).all(dim=0)


def _lost(d: Tensor, exponent: Tensor, columns: Columns) -> dict[str, Tensor]:
    """Counted entry by entry only in columns whose largest and smallest entries lie on two sides of a limit."""
    limits, mixed = {}, torch.zeros_like(columns.largest, dtype=torch.bool)
    largest, smallest, nonzero = (each.double() for each in (columns.largest, columns.smallest, columns.nonzero))
    for format in FORMATS:
        for name, number, power in (("flushed", 0.5, format.bottom), ("overflowed", 2.0 - 2.0**-format.digits, format.top - 1)):  # fmt: skip
            limit = times_two_to(torch.full_like(largest, number), power - exponent)
            limits[f"{format.name}_{name}"] = limit
            mixed |= (smallest <= limit) & (largest >= limit)
    mixed &= nonzero > 0
    where = mixed.nonzero(as_tuple=True)
    counts = {
        name: torch.where(largest <= limit, nonzero, 0.0)
        if name.endswith("flushed")
        else torch.where(smallest >= limit, nonzero, 0.0)
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
    total = torch.clamp(nonzero.sum(dim=2), min=1.0)
    return {name: count.sum(dim=2) / total for name, count in counts.items()}
