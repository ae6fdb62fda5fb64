"""Gradient flossing: a loss that brings the first k Lyapunov exponents to zero, with its gradient by hand. Derivation: rnn_core/README.md, section 3.5.

Engelken 2023. A frame Q of k orthonormal columns goes forward with the states of every sample, J_t Q_{t-1} = Q_t R_t. The exponents are
the means of ln |R_ii|. What they send back needs no derivative of the decomposition but a division by R^T.

Shapes: a, h, s are (B, H), a row a sample; Q, Y, Z, G, P are (B, H, k) and R is (B, k, k). NumPy float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnn_core.arguments import check_inputs
from rnn_core.arrays import Array, Params, like, to_numpy
from rnn_core.cells.base import Cell
from rnn_core.scalars import as_python, is_integer

# Cells with one matrix W_hh, whose step is h_t = (1 - leak) h_{t-1} + step phi(a_t).
COVERED = ("vanilla", "residual")
ONLY = f"only {' and '.join(COVERED)} can be flossed: there one slope a unit is all that its Jacobian has besides W_hh"
ONE_LAYER = "an exponent is of one recurrence, and every layer and direction has its own"
# What of a batch is flossed before training: its first steps, over more of which a chaotic network's gradient is noise, and its first
# sequences (Engelken 2023).
STEPS, SEQUENCES = 55, 16
DEAD = float(
    np.finfo(np.float64).eps
)  # times H and the largest R_ii of its step: what rounding leaves of a direction that is 0


class Flossing(NamedTuple):
    """What flossing says of a batch.

    Attributes:
        loss: mean over the batch of the mean of λ_i² over the k exponents; inf where a direction dies.
        exponents: λ_i of every sample, ln per step, in the order of the frame's columns, (B, k).
        gradients: of the loss, by the names of the cell's parameters; nan where the loss is not finite.
    """

    loss: float
    exponents: np.ndarray
    gradients: dict[str, Array]

    def __repr__(self) -> str:
        """Sizes and the loss."""
        B, k = self.exponents.shape
        return f"Flossing(loss {self.loss:.4g} of k={k} exponents, B={B}; gradients: {', '.join(self.gradients)})"


def flossing_loss(cell: Cell, params: Params, x: Array, k: int | None = None) -> Flossing:
    """The loss (1/B) Σ_b (1/k) Σ_i λ_i², its exponents, and its full gradient: states and slopes move with the parameters.

    Sequences start from a zero state. All of x is taken. It is computed in float64.

    Args:
        cell: vanilla or residual, whose activation has a second derivative.
        params: its parameters.
        x: (T, B, D).
        k: how many exponents; None is all H.

    Raises:
        ValueError: the cell is another one, an argument does not fit it, or k is not from 1 to H.
    """
    cell, _ = check_inputs(cell, params, x, None, None)
    if cell.name not in COVERED:
        raise ValueError(f"cell: {cell.name!r} is not allowed; {ONLY}")
    H = int(params["weight_hh"].shape[0])
    k = H if k is None else as_python(k)
    if not (is_integer(k) and 1 <= k <= H):
        raise ValueError(
            f"k: {k!r} is not allowed; it must be an integer from 1 to {H}, the units of this cell, or None"
        )
    own: list[str] = [name for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if name in params]
    wide = {name: to_numpy(params[name]).astype(np.float64) for name in own}
    with np.errstate(all="ignore"):
        passed = _forward(cell, wide, to_numpy(x).astype(np.float64), int(k))
        exponents = passed.exponents()
        loss = float((exponents**2).mean())
        if np.isfinite(loss):
            gradients = _backward(cell, wide, passed, 2.0 * exponents / (exponents.size * len(passed.x)))
        else:
            gradients = {name: np.full_like(value, np.nan) for name, value in wide.items()}
    return Flossing(loss, exponents, {name: like(gradients[name], params[name]) for name in own})


class _Passed(NamedTuple):
    """What a forward pass leaves; each list has an entry a step.

    Attributes:
        x: (T, B, D).
        h: the states before every step, (B, H).
        a: preactivations, (B, H).
        Q: the frames, of which there is one more than steps, (B, H, k).
        Y: W_hh Q_{t-1}, (B, H, k).
        R: (B, k, k).
    """

    x: np.ndarray
    h: list[np.ndarray]
    a: list[np.ndarray]
    Q: list[np.ndarray]
    Y: list[np.ndarray]
    R: list[np.ndarray]

    def exponents(self) -> np.ndarray:
        """λ_i, (B, k); -inf where a direction is 0 but for rounding."""
        total = np.zeros(self.R[0].shape[:2])
        for R in self.R:
            diagonal = np.abs(np.diagonal(R, axis1=1, axis2=2))
            dead = diagonal <= DEAD * self.Q[0].shape[1] * diagonal.max(axis=1, keepdims=True)
            total = total + np.where(dead, -np.inf, np.log(diagonal))
        return np.asarray(total / len(self.R))


def _forward(cell: Cell, params: Params, x: np.ndarray, k: int) -> _Passed:
    """States and frames side by side: Z_t = J_t Q_{t-1} = Q_t R_t."""
    W, (_, B, _), (leak, step) = params["weight_hh"], x.shape, _leak_and_step(cell)
    H = len(W)
    u = x @ params["weight_ih"].T + sum(params[name] for name in ("bias_ih", "bias_hh") if name in params)
    h, Q = np.zeros((B, H)), np.broadcast_to(first_frame(H, k), (B, H, k))
    passed = _Passed(x, [], [], [Q], [], [])
    for u_t in u:
        a = u_t + h @ W.T  # a_t = W_hh h_{t-1} + u_t
        Y = W @ Q
        Z = (1.0 - leak) * Q + step * cell.phi.df(a)[..., None] * Y
        if not np.isfinite(Z).all():
            R = np.full((B, k, k), np.nan)  # no decomposition of it
        else:
            Q, R = np.linalg.qr(Z)
        for kept, now in ((passed.h, h), (passed.a, a), (passed.Q, Q), (passed.Y, Y), (passed.R, R)):
            kept.append(now)
        h = (1.0 - leak) * h + step * cell.phi.f(a)
    return passed


def _backward(cell: Cell, params: Params, passed: _Passed, c: np.ndarray) -> Params:
    """The gradient of Σ_b Σ_i c_i T λ_i, summed over the batch, for c (B, k): dW_hh, dW_ih and the biases'."""
    W, (leak, step) = params["weight_hh"], _leak_and_step(cell)
    dW_hh, dW_ih, db = np.zeros_like(W), np.zeros_like(params["weight_ih"]), np.zeros(len(W))
    P, dh = passed.Q[-1] * c[:, None, :], np.zeros_like(passed.a[0])  # P_T = Q_T C, dh_T = 0
    for t in reversed(range(len(passed.a))):
        a, h_prev, Y, Q_prev = passed.a[t], passed.h[t], passed.Y[t], passed.Q[t]
        s = step * cell.phi.df(a)
        G = np.matrix_transpose(np.linalg.solve(passed.R[t], np.matrix_transpose(P)))  # P_t R_t^-T, dL/dZ_t
        dY = s[..., None] * G
        ds = (G * Y).sum(axis=2)  # the slope of a unit multiplies its row of Y_t
        da = s * dh + step * cell.phi.ddf(a) * ds
        dW_hh += np.tensordot(dY, Q_prev, axes=((0, 2), (0, 2))) + da.T @ h_prev
        dW_ih += da.T @ passed.x[t]
        db += da.sum(axis=0)
        P = _frame_back((1.0 - leak) * G + W.T @ dY, Q_prev, c)
        dh = (1.0 - leak) * dh + da @ W
    return {"weight_hh": dW_hh, "weight_ih": dW_ih, "bias_ih": db, "bias_hh": db}


def _frame_back(P: np.ndarray, Q: np.ndarray, c: np.ndarray) -> np.ndarray:
    """P_{t-1} with what Q^T P is known to be: lower triangular with c on its diagonal. What rounding puts above would grow."""
    upper = np.triu(np.matrix_transpose(Q) @ P) - c[:, None, :] * np.eye(c.shape[1])
    return np.asarray(P - Q @ upper)


def _leak_and_step(cell: Cell) -> tuple[float, float]:
    """lambda and eta; of a vanilla cell both are 1."""
    return (getattr(cell, "leak", 1.0), getattr(cell, "step", 1.0))


def first_frame(size: int, k: int) -> np.ndarray:
    """Q_0 (H, k), always the same: directions that favour no unit."""
    return np.asarray(np.linalg.qr(np.random.default_rng(0).standard_normal((size, k)))[0])
