"""The fast path: steps of vanilla and residual cells in C (kernel.c), forward and backward.

The readable engine is its oracle. Where this path declines (another cell, library or activation, no compiler) or stops (a step
beyond the range of plain floats), readable steps go on by themselves (bptt/steps.py). There are only these two.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rnn_core.activations import ACTIVATIONS
from rnn_core.arrays import Array, Params, device_name
from rnn_core.cells.base import Cell
from rnn_core.cells.residual import ResidualCell
from rnn_core.cells.vanilla import VanillaCell
from rnn_core.compiled.build import library

# As kernel.c counts them. An activation that is not here takes the readable path.
PHI = (
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "softsign", "hard_tanh", "sigmoid", "tanh",
)  # fmt: skip
_ROWS = {name: ACTIVATIONS[name] for name in PHI}
COVERED = (VanillaCell, ResidualCell)  # the cells whose steps are compiled code
_REAL = {np.dtype(np.float64): ("double", ctypes.c_double), np.dtype(np.float32): ("float", ctypes.c_float)}
_off = 0


@contextmanager
def switched_off() -> Iterator[None]:
    """Within it the readable engine computes everything, in this thread and all others: for comparing the two."""
    global _off
    _off += 1
    try:
        yield
    finally:
        _off -= 1


def describe() -> str:
    """Which path computes vanilla and residual cells on the CPU, in words."""
    built = library()
    return built.why if built.handle else f"readable ({built.why})"


def made_on(device: str) -> str:
    """The device by its name, and on the CPU which path computes: paths, and processors, round differently."""
    return f"{device_name(device)}, {describe()}" if device == "cpu" else device_name(device)


def covers(cell: Cell, x: Array) -> bool:
    """Whether the fast path computes this cell on arrays like x. A subclass or a changed activation is somebody's own."""
    return (
        not _off
        and type(cell) in COVERED
        and _ROWS.get(cell.phi.name) is cell.phi
        and type(x) is np.ndarray
        and x.dtype in _REAL
        and library().handle is not None
    )


def run_forward(cell: Cell, params: Params, x: np.ndarray, states: np.ndarray, saved: np.ndarray) -> bool:
    """The steps of x (steps, B, D): states (steps + 1, H, B), whose first is given, and a_t into saved (steps, H, B).

    Returns:
        whether nothing over- or underflowed.
    """
    steps, B, D = x.shape
    H = states.shape[1]
    biases = [params[name] for name in ("bias_ih", "bias_hh") if name in params]
    with np.errstate(all="ignore"):
        bias = np.ascontiguousarray(sum(biases)) if biases else None
    flagged = _call(
        "rnn_forward",
        x.dtype,
        *_kind(cell, x),
        steps,
        H,
        B,
        D,
        params["weight_hh"],
        params["weight_ih"],
        bias,
        x,
        states,
        saved,
    )
    return flagged == 0


class BackwardTask(NamedTuple):
    """Steps that ``run_backward`` goes through, the last first.

    Attributes:
        x, states, saved: of these steps, as ``run_forward`` had and left them.
        direct: g_t (steps, H, B), any strides, or None; used where ``joins`` (steps,) is set.
        dh, dx: receive dL/dh_t (steps, H, B) and dL/dx_t (steps, D, B).
        limits: of the squared norm of dL/dh_t; outside them, unless it is 0, the steps end.
        first, sums_over: sums are taken apart at steps whose number, ``first`` for the first, is a multiple of ``sums_over``.
    """

    cell: Cell
    params: Params
    x: np.ndarray
    states: np.ndarray
    saved: np.ndarray
    direct: np.ndarray | None
    joins: np.ndarray
    dh: np.ndarray
    dx: np.ndarray
    limits: tuple[float, float]
    first: int
    sums_over: int


class Sums(NamedTuple):
    """Sums over the steps of one part of the time.

    Attributes:
        steps: which of the steps of the task.
        weights: Σ_t da_t (h_{t-1}; x_t)^T, (H, H + D).
        bias: Σ_t da_t, (H,).
        hold: whether nothing over- or underflowed in them.
    """

    steps: slice
    weights: np.ndarray
    bias: np.ndarray
    hold: bool


class Steps(NamedTuple):
    """What ``run_backward`` did: the last ``number`` steps of the task.

    Attributes:
        sent: what they send to the step before, (H, B).
        squares: of ‖dL/dh_t‖, (number,).
        sums: part by part, the last first.
    """

    number: int
    sent: np.ndarray
    squares: np.ndarray
    sums: list[Sums]


def run_backward(task: BackwardTask, dstate: np.ndarray) -> Steps:
    """Steps from last to first until one over- or underflows, or has a squared norm outside the limits.

    ``dstate`` is what the future sends to the last step, (H, B).
    """
    x, direct = task.x, task.direct
    steps, B, D = x.shape
    H, dtype, itemsize = dstate.shape[0], x.dtype, x.itemsize
    edges = [0, *range(task.sums_over - task.first % task.sums_over, steps, task.sums_over), steps]
    count = len(edges) - 1  # of sums
    sent, squares, flagged = np.array(dstate, order="C"), np.empty(steps), np.zeros(count, np.int64)
    weights, bias = np.empty((count, H, H + D), dtype), np.empty((count, H), dtype)
    if direct is not None and (not direct.flags.aligned or any(stride % itemsize for stride in direct.strides)):
        direct = np.ascontiguousarray(direct)  # a field of a record, say
    strides = (0, 0, 0) if direct is None else tuple(stride // itemsize for stride in direct.strides)
    g = None if direct is None else _Strided(direct)
    number = _call(
        "rnn_backward", dtype, *_kind(task.cell, x), steps, H, B, D, task.params["weight_hh"], task.params["weight_ih"],
        x, task.states, task.saved, g, *strides, np.ascontiguousarray(task.joins, np.uint8), *task.limits,
        sent, task.dh, task.dx, squares, task.first, task.sums_over, weights, bias, flagged,
    )  # fmt: skip
    first = steps - number
    own = [slice(max(edges[k], first), edges[k + 1]) for k in reversed(range(count)) if edges[k + 1] > first]
    per_sum = zip(own, weights, bias, flagged, strict=False)
    sums = [Sums(part, of_weights, of_bias, not flag) for part, of_weights, of_bias, flag in per_sum]
    return Steps(number, sent, squares[first:], sums)


@dataclass(frozen=True)
class _Strided:
    """An array whose strides are given apart."""

    array: np.ndarray


def _kind(cell: Cell, x: np.ndarray) -> tuple[Any, ...]:
    """(phi, keep, gain) of h_t = keep h_{t-1} + gain phi(a_t)."""
    real = _REAL[x.dtype][1]
    keep, gain = (1.0 - cell.leak, cell.step) if isinstance(cell, ResidualCell) else (0.0, 1.0)
    return PHI.index(cell.phi.name), real(keep), real(gain)


def _call(name: str, dtype: np.dtype, *arguments: Any) -> int:
    """``name`` for ``dtype``; arrays must be, or are made, contiguous, and live until the call is over."""
    function = getattr(library().handle, f"{name}_{_REAL[dtype][0]}")
    function.restype = ctypes.c_long
    alive = [np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value for value in arguments]
    result = int(function(*map(_passed, alive)))
    if result < 0:
        raise MemoryError(f"{name}: no memory for its buffers")
    return result


def _passed(value: Any) -> Any:
    """An argument as C takes it."""
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, _Strided):
        return ctypes.c_void_p(value.array.ctypes.data)
    if isinstance(value, float):
        return ctypes.c_double(value)
    return ctypes.c_long(value) if isinstance(value, int) else value
