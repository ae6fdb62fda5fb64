"""What joins the directions of a layer, once more and otherwise than the engine has it: by exponents of single entries.

Arrays of the reverse direction stand in its own time: its first row is of the last step.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from rnn_core.arrays import to_numpy
from rnn_core.oracles.tensors import as_tensor
from rnn_core.scaling import Scaled, mantissa_and_exponents

FORWARD, REVERSE = 0, 1


def turned(rows: Tensor | Scaled, direction: int) -> Tensor | Scaled:
    """The rows in the order of the other time, where the direction is the reverse one."""
    if direction == FORWARD:
        return rows
    last_to_first = list(range(len(rows) - 1, -1, -1))
    if isinstance(rows, Scaled):
        mantissa, exponent = mantissa_and_exponents(rows)
        return Scaled(as_tensor(mantissa)[last_to_first], exponent[last_to_first])
    return as_tensor(rows)[last_to_first]


def given_by(states: list[Tensor]) -> Tensor:
    """What the layer above reads: at every step the states of both directions, (T, B, H of both)."""
    return torch.cat([turned(each, direction) for direction, each in enumerate(states)], dim=2)


def sent_to(sent: list[Tensor | Scaled], direction: int) -> Tensor | Scaled:
    """What the layer above sends to one direction of a layer, from the dL/dx of each of its own directions: their sum, and of that the
    direction's own units.

    Args:
        sent: dL/dx of every direction of the layer above, each in its own time.
    """
    if len(sent) == 1:
        return sent[0]
    both = [turned(each, way) for way, each in enumerate(sent)]
    units = both[0].shape[2] // 2
    mine = slice(0, units) if direction == FORWARD else slice(units, 2 * units)
    return turned(_sum([_entries(each, mine) for each in both], both[0]), direction)


def _entries(rows: Tensor | Scaled, units: slice) -> tuple[np.ndarray, np.ndarray]:
    """Some units as m 2^e with 1/2 ≤ |m| < 1, an exponent an entry."""
    mantissa, exponent = mantissa_and_exponents(rows)
    m, e = np.frexp(to_numpy(mantissa).astype(np.float64)[:, :, units])
    return m, np.where(m == 0.0, -(2**40), e + exponent[:, None, None])


def _sum(terms: list[tuple[np.ndarray, np.ndarray]], like_this: Tensor | Scaled) -> Tensor | Scaled:
    """The sum of entries, with an exponent a step; plain where all terms were."""
    top = np.max([e.max(axis=(1, 2)) for _, e in terms], axis=0)
    top = np.where(top < -(2**39), 0, top)
    total = sum(np.ldexp(m, np.clip(e - top[:, None, None], -4000, 0).astype(np.int64)) for m, e in terms)
    kind = mantissa_and_exponents(like_this)[0]
    return Scaled(as_tensor(total).to(as_tensor(kind)), top.astype(np.int64))
