"""What joins the directions of a layer, once more: nothing of the engine's ``bptt/directions.py`` is used.

Arrays of the reverse direction stand in its own time: its first row is of the last step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rnn_core.arrays import Array
from rnn_core.oracles.scaled import by_step, total_of
from rnn_core.oracles.tensors import as_tensor
from rnn_core.scaling import Scaled, mantissa_and_exponents

FORWARD, REVERSE = 0, 1


def turned(rows: Array, direction: int) -> Tensor:
    """The rows in the order of the other time, where the direction is the reverse one."""
    rows = as_tensor(rows)
    return rows if direction == FORWARD else rows[list(range(len(rows) - 1, -1, -1))]


def given_by(states: list[Tensor]) -> Tensor:
    """What the layer above reads: at every step the states of all directions, (T, B, H of all)."""
    return torch.cat([turned(each, direction) for direction, each in enumerate(states)], dim=2)


def sent_to(sent: list[Array | Scaled], direction: int) -> Array | Scaled:
    """What the layer above sends to one direction of a layer: of the sum of its directions' dL/dx, the direction's own units.

    Args:
        sent: dL/dx of every direction of the layer above, each in its own time.
    """
    if len(sent) == 1:
        return sent[0]
    total = total_of(*(_turned(by_step(each), way) for way, each in enumerate(sent)))
    mantissa, exponent = mantissa_and_exponents(total)
    H = mantissa.shape[2] // 2
    return _turned(Scaled(mantissa[:, :, :H] if direction == FORWARD else mantissa[:, :, H:], exponent), direction)


def _turned(rows: Scaled, direction: int) -> Scaled:
    mantissa, exponent = mantissa_and_exponents(rows)
    return Scaled(turned(mantissa, direction), exponent if direction == FORWARD else exponent[::-1])
