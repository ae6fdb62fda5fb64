"""The rate at rest: a network whose state and inputs are zero multiplies its gradient by one matrix at every step.

The law is exact, at any width, where rest is a fixed point. It covers gated cells too. Derivation: rnn_core/README.md, section 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from array_api_compat import is_torch_array

from rnn_core.arrays import Params, to_numpy
from rnn_core.cells.base import Cell
from rnn_core.initializers import eigenvalues
from rnn_core.scalars import is_integer


def rest_rate(cell: Cell, params: Params, input_size: int | None = None) -> float:
    """ln of the spectral radius of ds_t/ds_{t-1} at zero state and zero input; ln per step.

    - vanilla: ln(phi'(0) rho); residual: ln rho((1 - lambda) I + eta phi'(0) W)
    - GRU, both forms: ln rho(sigma(b_z) I + sigma(-b_z) sigma(b_r) phi'(0) W_n). With zero biases: ln rho(I/2 + W_n/4)
    - LSTM: ln rho(sigma(b_f) I + sigma(b_i) sigma(b_o) phi'(0)² W_g)
    - any other cell, a ``TorchCell`` too: the derivative that its own step gives

    b stands for b_ih + b_hh of a gate. A bias scales rows.

    Args:
        params: the cell's parameters; ``weight_ih`` and biases may be left out. Those of a ``TorchCell`` are ``cell.params()``.
        input_size: D, of a ``TorchCell`` whose module does not say it by ``input_size`` or a parameter ``weight_ih``.

    Returns:
        nan where rest is no fixed point (phi(0) is not 0, or the candidate has a bias), or where phi has a kink there (relu). Of a
        ``TorchCell`` kinks are not known: there autograd's derivative counts. -inf where the spectral radius is 0.

    Raises:
        ValueError: this is no cell, the parameters are not those of the cell, or ``input_size`` is needed.
    """
    if not isinstance(cell, Cell):
        given = f"the class {cell.__name__}" if isinstance(cell, type) else type(cell).__name__
        raise ValueError(f"cell: {given} is not allowed; it must be a cell, such as rc.GRUCell()")
    if not isinstance(params, Mapping):
        raise ValueError(f"params: {type(params).__name__} is not allowed; it must be {{name: array}}")
    at_rest = _eigenvalues_of_own(cell, dict(params), input_size) if cell.opaque else rest_eigenvalues(cell, params)
    return math.nan if at_rest is None else rate_of(at_rest)


def _eigenvalues_of_own(cell: Cell, params: Params, input_size: int | None) -> np.ndarray | None:
    """``rest_eigenvalues`` of a cell of which nothing but its step is known."""
    import torch

    from rnn_core.bptt import forward  # which stands above theory
    from rnn_core.theory.jacobians import jacobians

    D: Any = input_size or getattr(getattr(cell, "module", None), "input_size", None)
    if D is None and getattr(params.get("weight_ih"), "ndim", 0) == 2:
        D = params["weight_ih"].shape[1]
    if not (is_integer(D) and D >= 1):
        raise ValueError(
            f"input_size: {input_size!r} is not allowed; the cell {cell.name!r} needs its number of inputs, an integer of at least 1"
        )
    like = next((value for value in params.values() if value.is_floating_point()), torch.zeros(1, dtype=torch.float64))
    x = torch.zeros((1, 1, D), dtype=like.dtype, device=like.device)
    zero = {name: torch.zeros_like(part) for name, part in forward(cell, params, x).state.items()}
    tape = forward(cell, params, x, zero)
    if any(to_numpy(part).any() for part in tape.state.values()):
        return None
    J = to_numpy(jacobians(tape)[0]).astype(np.float64)
    return eigenvalues(J) if np.isfinite(J).all() else None


def rest_eigenvalues(cell: Cell, params: Params) -> np.ndarray | None:
    """The eigenvalues of ds_t/ds_{t-1} at rest, all that are not 0; None where ``rest_rate`` is nan."""
    jacobian = cell.rest_jacobian({name: _as_float64(value) for name, value in params.items()})
    return None if jacobian is None or not np.isfinite(jacobian).all() else eigenvalues(jacobian)


def rate_of(at_rest: np.ndarray) -> float:
    """ln of the largest modulus of eigenvalues; -inf where all are 0."""
    radius = float(np.abs(at_rest).max())
    return math.log(radius) if radius > 0.0 else -math.inf


def critical_scale(a: float, part_of_W: np.ndarray) -> float:
    """The factor of W at which the law at rest turns from shrinking to growing: the smallest s with |a + s μ| = 1 for one of the μ.

    For one μ it is the positive root of |μ|² s² + 2 a Re μ s + a² - 1.

    Args:
        a: what is left of the state without W, from 0 to 1 (``rest_affine``).
        part_of_W: the eigenvalues μ that W adds to it.

    Returns:
        inf where W adds nothing; 0 where any multiple of W grows (a = 1).
    """
    part_of_W = part_of_W[part_of_W != 0.0]
    if not len(part_of_W):
        return math.inf
    square, half = np.abs(part_of_W) ** 2, a * part_of_W.real
    return float(((np.sqrt(half**2 + square * (1.0 - a * a)) - half) / square).min())


def rest_affine(cell: Cell, bias: np.ndarray | None = None) -> tuple[float, float] | None:
    """(a, b): at rest, the derivative of the state has the eigenvalues a + b λ, λ those of the candidate's W.

    So networks that differ in the scale of W share one eigenvalue problem. None where ``rest_rate`` is nan.

    Args:
        bias: one number a gate, (G,); zero if left out.
    """
    biases = {} if bias is None else {"bias_ih": np.asarray(bias)}
    at_0, at_1 = (
        cell.rest_jacobian({"weight_hh": np.full(cell.recurrent_shape(1), value), **biases}) for value in (0.0, 1.0)
    )
    if at_0 is None or at_1 is None:
        return None
    a, with_b = (float(np.linalg.eigvals(at)[np.argmax(np.abs(np.linalg.eigvals(at)))].real) for at in (at_0, at_1))
    return a, with_b - a


def _as_float64(value: object) -> np.ndarray:
    return np.asarray(to_numpy(value) if is_torch_array(value) else value, dtype=np.float64)
