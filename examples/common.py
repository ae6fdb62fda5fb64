"""What the examples share: our names for a network's parameters, and one pass through it, forward and backward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import rnn_core as rc
from rnn_core import readout


@dataclass(frozen=True)
class Pass:
    """Everything that one pass computes. T steps, B sequences, H units, C outputs.

    Attributes:
        losses: the loss of every step and sequence, (T, B).
        y, dy: outputs and dL/dy, (T, B, C).
        direct: the part of dL/dh_t that comes from step t's own loss, (T, B, H).
        gradients: of the recurrent part, from ``rc.backward``.
        params: dL/d(parameter) by name, the readout's too.
    """

    losses: np.ndarray
    y: np.ndarray
    dy: np.ndarray
    direct: np.ndarray
    tape: rc.Tape
    gradients: rc.Gradients
    params: dict[str, Any]


def network(W_ih: Any, W_hh: Any, b: Any, W_ho: Any, b_o: Any) -> dict[str, np.ndarray]:
    """Parameters under our names. The programs have one hidden bias; ours is b_ih, and b_hh stays zero."""
    b = np.asarray(b)
    return {
        "weight_ih": np.asarray(W_ih),
        "weight_hh": np.asarray(W_hh),
        "bias_ih": b,
        "bias_hh": np.zeros_like(b),
        "weight_ho": np.asarray(W_ho),
        "bias_ho": np.asarray(b_o),
    }


def run(
    cell: rc.Cell, params: dict[str, np.ndarray], x: np.ndarray, target: np.ndarray, loss: str = "squared_error"
) -> Pass:
    """x (T, B, D) through the network and back; L is the sum of the losses of all steps."""
    tape = rc.forward(cell, params, x)
    y = readout.forward(params, tape.hidden)
    losses, dy = rc.LOSSES[loss](y, target)
    readout_grads, direct = readout.backward(params, tape.hidden, dy)
    gradients = rc.backward(tape, direct)
    return Pass(losses, y, dy, direct, tape, gradients, {**gradients.params, **readout_grads})


def number(value: Any) -> float:
    """The one entry of an array."""
    return float(np.asarray(value).item())
