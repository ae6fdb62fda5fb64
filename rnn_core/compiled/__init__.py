"""The fast path: steps of vanilla and residual cells in C (kernel.c), forward and backward.

The readable engine is its oracle: wherever this path declines (another cell, library or activation, no compiler) or stops (a step
beyond the range of plain floats), the loop in bptt.py goes on by itself. There are only these two.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import finalize

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
_LINE = 64  # bytes: vectors that straddle two cache lines cost twice
_FRESH, _KEPT = 2**17, 2**27  # bytes: smaller arrays are cheap to make, and more than this is not held back
# bytes: NumPy asks for the large pages of 2 MiB from 4 MiB on, and they begin at multiples of their size
_LARGE = 3 * 2**21
_off = 0
_free: dict[int, np.ndarray] = {}


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
    found = library()
    return found.why if found.handle else f"readable ({found.why})"


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


def room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that begins with a cache line, in memory that a former one has left, where there is some.

    Fresh memory of this size comes from the operating system page by page, which takes as long as a tenth of the steps.
    """
    size = int(np.prod(shape)) * dtype.itemsize
    if not _FRESH <= size <= _KEPT:
        return _aligned(np.empty(size + _LINE, dtype=np.uint8), size, shape, dtype)
    memory = _left_over(size)
    if memory is None:
        memory = np.empty(max(size + _LINE, _LARGE), dtype=np.uint8)
    # Every view of the array keeps `owner` alive; when the last one goes, the memory is free again.
    owner: Any = (ctypes.c_ubyte * memory.nbytes).from_buffer(memory.data)
    finalize(owner, _give_back, memory).atexit = False
    return _aligned(np.frombuffer(owner, dtype=np.uint8), size, shape, dtype)


def _left_over(size: int) -> np.ndarray | None:
    for key, memory in list(_free.items()):
        if size <= memory.nbytes - _LINE <= max(2 * size, _LARGE) and _free.pop(key, None) is not None:
            return memory  # taken by this thread alone: pop gives it to one
    return None


def _give_back(memory: np.ndarray) -> None:
    if sum(block.nbytes for block in list(_free.values())) + memory.nbytes <= _KEPT:
        _free[id(memory)] = memory


def _aligned(memory: np.ndarray, size: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)


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


@dataclass(frozen=True)
class Sums:
    """Sums over the steps of one part of the time.

    Attributes:
        steps: which of the steps that ``run_backward`` was given.
        weights: Σ_t da_t (h_{t-1}; x_t)^T, (H, H + D).
        bias: Σ_t da_t, (H,).
        hold: whether nothing over- or underflowed in them.
    """

    steps: slice
    weights: np.ndarray
    bias: np.ndarray
    hold: bool


@dataclass(frozen=True)
class Steps:
    """What ``run_backward`` found: the last ``done`` steps it was given.

    Attributes:
        dstate: what they send to the step before, (H, B).
        squares: of ‖dL/dh_t‖, (done,).
        sums: part by part, the last first.
    """

    done: int
    dstate: np.ndarray
    squares: np.ndarray
    sums: list[Sums]


def run_backward(
    cell: Cell,
    params: Params,
    x: np.ndarray,
    states: np.ndarray,
    saved: np.ndarray,
    direct: np.ndarray | None,
    joins: np.ndarray,
    limits: tuple[float, float],
    dstate: np.ndarray,
    dh: np.ndarray,
    dx: np.ndarray,
    before: int,
    part: int,
) -> Steps:
    """Steps from last to first until one over- or underflows, or has a squared norm outside ``limits`` that is not 0.

    Args:
        x, states, saved: of these steps, as ``run_forward`` had and left them.
        direct: g_t (steps, H, B), any strides; used where ``joins`` (steps,) is set.
        dstate: what the future sends to the last step, (H, B).
        dh, dx: receive dL/dh_t (steps, H, B) and dL/dx_t (steps, D, B).
        before, part: sums are taken apart at steps whose number, ``before`` for the first, is a multiple of ``part``.
    """
    steps, B, D = x.shape
    H, dtype = dstate.shape[0], x.dtype
    edges = [0, *range(part - before % part, steps, part), steps]  # of the parts
    count = len(edges) - 1
    sent, squares, flagged = np.array(dstate, order="C"), np.empty(steps), np.zeros(count, np.int64)
    weights, bias = np.empty((count, H, H + D), dtype), np.empty((count, H), dtype)
    if direct is not None and (not direct.flags.aligned or any(stride % x.itemsize for stride in direct.strides)):
        direct = np.ascontiguousarray(direct)  # a field of a record, say
    strides = (0, 0, 0) if direct is None else tuple(stride // x.itemsize for stride in direct.strides)
    g = None if direct is None else _Strided(direct)
    done = _call(
        "rnn_backward", dtype, *_kind(cell, x), steps, H, B, D, params["weight_hh"], params["weight_ih"], x, states, saved,
        g, *strides, np.ascontiguousarray(joins, np.uint8), *limits, sent, dh, dx, squares, before, part, weights, bias, flagged,
    )  # fmt: skip
    parts = [
        slice(max(edges[k], steps - done), edges[k + 1]) for k in reversed(range(count)) if edges[k + 1] > steps - done
    ]
    found = zip(parts, weights, bias, flagged, strict=False)
    sums = [Sums(own, of_weights, of_bias, not flag) for own, of_weights, of_bias, flag in found]
    return Steps(done, sent, squares[steps - done :], sums)


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
