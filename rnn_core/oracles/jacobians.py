"""Oracle: the Jacobians of single steps, by torch's autograd of the oracles' own equations, and a frame that goes forward through them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from rnn_core.oracles import tensors
from rnn_core.oracles.rounding import moved, noise


def jacobians(
    cell: str,
    activation: str,
    options: Mapping[str, float],
    params: Mapping[str, np.ndarray],
    states: Mapping[str, np.ndarray],
    x: np.ndarray,
) -> np.ndarray:
    """∂s_t/∂s_{t-1} of one sample, (steps, S, S), float64; the parts of the state one below the other.

    Args:
        cell: its name, and the activation's and its numbers.
        states: by name, before every step, (steps, H).
        x: (steps, D).
    """
    step = tensors.step_of(cell, activation, options)
    weights = {name: torch.as_tensor(value) for name, value in params.items()}
    before = torch.as_tensor(np.concatenate(list(states.values()), axis=1))
    steps, S = before.shape
    # Every step stands S times in one batch, once for each row of its Jacobian.
    rows = before.repeat_interleave(S, dim=0).requires_grad_()
    state = dict(zip(states, rows.chunk(len(states), dim=1), strict=True))
    after = step(weights, torch.as_tensor(x).repeat_interleave(S, dim=0), state)
    joined = torch.cat([after[name] for name in states], dim=1)
    (gradient,) = torch.autograd.grad(joined.gather(1, torch.arange(S).repeat(steps)[:, None]).sum(), rows)
    return np.asarray(gradient.reshape(steps, S, S).numpy())


def rounded_otherwise(matrices: np.ndarray, eps: float, trial: int) -> np.ndarray:
    """``matrices`` with their last digits, of a precision of ``eps``, changed at random."""
    return np.asarray(moved(torch.from_numpy(matrices), noise(trial), eps).numpy())


def by_forward_frame(matrices: np.ndarray) -> float:
    """The sum of all Lyapunov exponents, ln per step, by a frame that goes forward through (steps, S, S)."""
    frame, total = np.eye(matrices.shape[1]), 0.0
    for J in matrices:
        frame, triangle = np.linalg.qr(J @ frame)
        total += float(np.log(np.abs(np.diagonal(triangle))).sum())
    return total / len(matrices)
