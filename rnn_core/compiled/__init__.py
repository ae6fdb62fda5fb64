"""The fast path: the steps of the cells in ``COVERED`` in C (kernel.c), forward and backward, at any size of the signal.

The readable engine is its oracle. This path declines another cell, library or activation, and needs a compiler. It stops at a step
whose entries lie too far apart for one exponent. Then readable steps go on by themselves (bptt/steps.py). There are only these two.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from rnn_core.activations import ACTIVATIONS
from rnn_core.arrays import Array, Params, State, device_name
from rnn_core.cells.base import Cell
from rnn_core.compiled.build import library
from rnn_core.compiled.forms import FORMS, form_of, gain_and_keep, recurrent_gradient, recurrent_numbers
from rnn_core.compiled.kept import KeptSteps
from rnn_core.compiled.memory import address
from rnn_core.scaling import LN2

# As kernel.c counts them. An activation that is not here takes the readable path.
PHI = (
    "identity", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "softsign", "hard_tanh", "sigmoid", "tanh",
)  # fmt: skip
_ROWS = {name: ACTIVATIONS[name] for name in PHI}


COVERED = tuple(FORMS)  # the cells whose steps are compiled code
BY_UNIT = tuple(kind for kind, form in FORMS.items() if form.by_unit)  # those in which no matrix mixes units
_REAL = {np.dtype(np.float64): "double", np.dtype(np.float32): "float"}
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
    """Which path computes on the CPU, in words."""
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


def run_forward(
    cell: Cell, params: Params, x: np.ndarray, states: State, exponent: np.ndarray, kept: np.ndarray
) -> None:
    """The steps of x (steps, B, D): states by name (steps + 1, H, B), whose first is given, and what is kept (steps, rows, B).

    ``exponent`` (steps + 1,) is that of the states, the first given; it stays zero for cells that are not homogeneous.

    Raises:
        FloatingPointError: the states of a homogeneous cell are not finite.
    """
    arrays = _Arrays(cell, params, x, states, exponent, kept)
    if _call("rnn_forward", x.dtype, arrays.passed) == -2:
        raise FloatingPointError("inf or nan among the states")


class BackwardTask(NamedTuple):
    """Steps that ``run_backward`` goes through, the last first.

    Attributes:
        x, states, exponent, kept: of these steps, as ``run_forward`` had and left them.
        direct: g_t (steps, H, B), any strides, or None; used where ``joins`` (steps,) is set, times 2**direct_exponent (steps,).
        results: receive dL/dstate_t by name, each (steps, H, B), and under ``x`` dL/dx_t, (steps, D, B).
        window, after: the signal is dropped every ``window`` steps, counted from the last of the sequence, which lies ``after``
            steps behind the last of these; 0 is never.
        first, sums_over: sums are taken apart at steps whose number, ``first`` for the first, is a multiple of ``sums_over``.
    """

    cell: Cell
    params: Params
    x: np.ndarray
    states: State
    exponent: np.ndarray
    kept: np.ndarray
    direct: np.ndarray | None
    direct_exponent: np.ndarray
    joins: np.ndarray
    results: State
    first: int
    sums_over: int
    window: int
    after: int


class Sums(NamedTuple):
    """Sums over the steps of one part of the time, each times 2**exponent.

    Attributes:
        steps: which of the steps of the task.
        shares: by parameter the sum, and its exponent.
        lost, broke: whether too much underflowed in them; whether anything overflowed or was invalid.
    """

    steps: slice
    shares: dict[str, tuple[np.ndarray, int]]
    lost: bool
    broke: bool


class Steps(NamedTuple):
    """What ``run_backward`` did: the last ``number`` steps of the task.

    Attributes:
        stuck: whether the step before them was given up.
        sent: what they send to the step before, by name (H, B); column b counts times 2**sent_exponent[b]. Where every entry has an
            exponent of its own, ``sent_exponent`` is (H, B).
        exponent: of their results, by name, int64 (number,).
        log_norm: ln ‖dL/dstate_t‖ by name, float64 (number,).
        log_norm_samples: ln ‖dL/dh_t^(b)‖, float64 (number, B), where samples lie too far apart for one exponent; else None.
        sums: part by part, the last first.
    """

    number: int
    stuck: bool
    sent: State
    sent_exponent: np.ndarray
    exponent: dict[str, np.ndarray]
    log_norm: dict[str, np.ndarray]
    log_norm_samples: np.ndarray | None
    sums: list[Sums]


def run_backward(task: BackwardTask, signal: State, exponent: np.ndarray, apart: bool = False) -> Steps:
    """Steps from last to first, until one exponent does not hold all entries of one, or one is not finite.

    ``signal``, by name (H, B), is what the future sends to the last step; column b counts times 2**exponent[b], or entry by entry
    times 2**exponent, (H, B).

    Args:
        apart: an exponent for every sample, or where no matrix mixes units for every entry, which is slower. The steps then end where a
            part of the sums does.
    """
    back = _Back(task, signal, exponent, apart=apart)
    number = _call("rnn_backward", task.x.dtype, back.arrays.passed, back.passed)
    own = slice(len(task.x) - number, None)
    norms = _log_norms(back.squares[:, own], back.square_exponent[:, own])
    names = task.cell.state_names
    return Steps(
        number,
        bool(back.stuck[0]),
        back.sent,
        back.sent_exponent + back.sent_columns,
        dict(zip((*names, "x"), back.exponent[:, own], strict=True)),
        dict(zip(names, norms, strict=True)),
        _log_norms(back.column_squares[own], back.column_exponent[own]) if apart else None,
        back.sums(number),
    )


def sums_again(task: BackwardTask, exponent: dict[str, np.ndarray]) -> Sums:
    """The sums of all steps of ``task`` as one part, at scales at which nothing that counts is lost.

    They are taken from its results, by name times 2**exponent (steps,).
    """
    parts = np.stack([exponent[name] for name in task.cell.state_names])
    back = _Back(task._replace(first=0, sums_over=len(task.x)), {}, np.zeros(task.x.shape[1], np.int64), again=parts)
    return back.sums(_call("rnn_backward", task.x.dtype, back.arrays.passed, back.passed))[0]


class Shares(NamedTuple):
    """By step ‖G_t‖² = squares * 4**exponent and <G_t, G> = inner * 2**exponent, each (steps,), where G is at size 1.

    ``given_up``: where neither is known.
    """

    squares: np.ndarray
    inner: np.ndarray
    exponent: np.ndarray
    given_up: np.ndarray


def weight_shares(task: BackwardTask, exponent: dict[str, np.ndarray], whole: np.ndarray, cancelled: float) -> Shares:
    """What every step of ``task`` adds to dL/dW_hh, from its results, by name times 2**exponent (steps,).

    Args:
        whole: dL/dW_hh over all steps, its largest entry at size 1.
        cancelled: a step whose samples cancel to less than this is given up.
    """
    steps, parts = len(task.x), task.cell.state_names
    back = _Back(task, {}, np.zeros(task.x.shape[1], np.int64), again=np.stack([exponent[name] for name in parts]))
    shares = Shares(np.empty(steps), np.empty(steps), np.empty(steps, np.int64), np.empty(steps, bool))
    whole = np.ascontiguousarray(whole, task.x.dtype)
    passed = _Shares(*map(address, (whole, *shares)), cancelled)
    _call("rnn_weight_shares", task.x.dtype, back.arrays.passed, back.passed, passed)
    return shares


class _Shares(ctypes.Structure):
    """``struct shares`` of kernel.c."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("whole", "squares", "inner", "exponent", "given_up")),
        ("cancelled", ctypes.c_double),
    ]


class _Pass(ctypes.Structure):
    """``struct pass`` of kernel.c."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("cell", "phi")),
        *((name, ctypes.c_double) for name in ("keep", "gain")),
        *((name, ctypes.c_long) for name in ("steps", "H", "B", "D", "homogeneous")),
        *((name, ctypes.c_void_p) for name in ("W_hh", "W_ih", "b_hh", "b_ih", "gain_ln", "shift_ln", "x", "hidden", "memory", "kept", "exponent")),
    ]  # fmt: skip


class _Backward(ctypes.Structure):
    """``struct backward`` of kernel.c."""

    _fields_ = [
        ("g", ctypes.c_void_p),
        *((name, ctypes.c_long) for name in ("g_step", "g_row", "g_column")),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "joins", "g_exponent", "sent", "sent_memory", "sent_exponent", "sent_columns", "dh", "dc", "dx", "exponent", "squares", "column_squares", "square_exponent",
                "column_exponent", "stuck",
            )
        ),
        *((name, ctypes.c_long) for name in ("before", "part")),
        *((name, ctypes.c_void_p) for name in ("dW_hh", "dW_ih", "db", "sum_exponent", "sums_broke")),
        *((name, ctypes.c_long) for name in ("again", "apart_call", "window", "after")),
    ]  # fmt: skip


class _Arrays:
    """What both passes are given; the arrays live as long as this does. ``numbers`` is what kernel.c takes for W_hh, None without any."""

    def __init__(
        self, cell: Cell, params: Params, x: np.ndarray, states: State, exponent: np.ndarray, kept: np.ndarray
    ) -> None:
        steps, B, D = x.shape
        gain, keep = gain_and_keep(cell)
        self.numbers = recurrent_numbers(cell, params)
        given = [self.numbers, params["weight_ih"], params.get("bias_hh"), params.get("bias_ih")]
        given += [*(params[name] for name in cell.own_parameters), None, None][:2]
        given.append(x)
        self._alive = [None if a is None else np.ascontiguousarray(a) for a in given]
        self._alive += [states["hidden"], states.get("cell"), kept, exponent]
        self.passed = _Pass(
            form_of(cell).number, PHI.index(cell.phi.name), keep, gain, steps, states["hidden"].shape[1], B, D, cell.homogeneous,
            *map(address, self._alive),
        )  # fmt: skip


class _Back:
    """What the backward pass is given besides, and what it gives."""

    def __init__(
        self,
        task: BackwardTask,
        signal: State,
        exponent: np.ndarray,
        again: np.ndarray | None = None,
        apart: bool = False,
    ) -> None:
        cell, dtype, steps = task.cell, task.x.dtype, len(task.x)
        H, form, names = task.states["hidden"].shape[1], form_of(cell), cell.state_names
        _, B, D = task.x.shape
        self._task, self._form = task, form
        self.arrays = _Arrays(cell, task.params, task.x, task.states, task.exponent, task.kept)
        self._edges = [0, *range(task.sums_over - task.first % task.sums_over, steps, task.sums_over), steps]
        count, rows = len(self._edges) - 1, len(cell.gates) * H
        self.sent = {name: np.array(part, order="C") for name, part in signal.items()}
        self.sent_exponent = np.array([exponent.max()], np.int64)
        self.sent_columns = np.ascontiguousarray(exponent, np.int64) - self.sent_exponent
        if apart and form.by_unit and exponent.ndim == 1:
            self.sent_columns = np.repeat(self.sent_columns[None], H, axis=0)
        self.squares = np.empty((len(names), steps))
        self.square_exponent = np.empty((len(names), steps), np.int64)
        self.column_squares = np.empty((steps * apart, B))
        self.column_exponent, self.stuck = np.empty((steps * apart, B), np.int64), np.zeros(1, np.int64)
        self.exponent = np.empty((len(names) + 1, steps), np.int64)
        if again is not None:
            self.exponent[: len(again)] = again
        numbers = self.arrays.numbers
        self._dW_hh = np.empty((count, *(() if numbers is None else numbers.shape)), dtype)
        self._dW_ih = np.empty((count, rows, D), dtype)
        self._db = np.empty((count, form.da * H), dtype)
        self._sum_exponent, self._broke = np.zeros((count, 3), np.int64), np.zeros(count, np.int64)
        direct = task.direct
        if direct is not None and (not direct.flags.aligned or any(s % direct.itemsize for s in direct.strides)):
            direct = np.ascontiguousarray(direct)  # a field of a record, say
        strides = (0, 0, 0) if direct is None else tuple(stride // direct.itemsize for stride in direct.strides)
        joins, g_exponent = (
            np.ascontiguousarray(task.joins, np.uint8),
            np.ascontiguousarray(task.direct_exponent, np.int64),
        )
        self._alive = (direct, joins, g_exponent)
        results = task.results
        self.passed = _Backward(
            None if direct is None else direct.__array_interface__["data"][0], *strides, address(joins), address(g_exponent),
            address(self.sent.get("hidden")), address(self.sent.get("cell")), address(self.sent_exponent), address(self.sent_columns),
            address(results["hidden"]), address(results.get("cell")), address(results.get("x")),
            address(self.exponent), address(self.squares), address(self.column_squares), address(self.square_exponent),
            address(self.column_exponent), address(self.stuck), task.first, task.sums_over,
            address(self._dW_hh), address(self._dW_ih), address(self._db), address(self._sum_exponent), address(self._broke),
            again is not None, apart, task.window, task.after,
        )  # fmt: skip

    def sums(self, number: int) -> list[Sums]:
        """The sums of the parts of the last ``number`` steps, the last part first."""
        first, edges = len(self._task.x) - number, self._edges
        own = [
            slice(max(start, first), stop)
            for start, stop in zip(reversed(edges[:-1]), reversed(edges[1:]), strict=True)
            if stop > first
        ]
        return [Sums(steps, self._shares(part), *self._flags(part)) for part, steps in enumerate(own)]

    def _flags(self, part: int) -> tuple[bool, bool]:
        return bool(self._broke[part] == 1), bool(self._broke[part] == 2)

    def _shares(self, part: int) -> dict[str, tuple[np.ndarray, int]]:
        of_W_hh, of_W_ih, of_b = (int(e) for e in self._sum_exponent[part])
        shares = {"weight_ih": (self._dW_ih[part], of_W_ih)}
        if self._task.cell.has_matrix:
            shares["weight_hh"] = recurrent_gradient(self._task.cell, self._dW_hh[part], of_W_hh)
        blocks = self._db[part].reshape(self._form.da, -1)
        for name, which in (("bias_ih", self._form.bias_ih), ("bias_hh", self._form.bias_hh)):
            if name in self._task.params:
                shares[name] = (_joined(blocks, which), of_b)
        shares |= {
            name: (blocks[i], of_b) for name, i in zip(self._task.cell.own_parameters, self._form.own, strict=True)
        }
        return shares


def kept_rows(cell: Cell, hidden_size: int) -> int:
    """The rows of what the forward pass keeps of a step."""
    return form_of(cell).kept * hidden_size


def by_unit(cell: Cell) -> bool:
    """Whether every entry of what flows back may have an exponent of its own: no matrix mixes units."""
    return form_of(cell).by_unit


def knows(cell: Cell, saved: Any) -> bool:
    """Whether ``run_backward`` can use what a segment saved: of a gated cell readable steps save it in a way of their own."""
    return isinstance(saved, KeptSteps) or form_of(cell).kept == 1


def kept_array(saved: Any) -> np.ndarray:
    """It as an array, (steps, rows, B)."""
    return saved.rows if isinstance(saved, KeptSteps) else np.asarray(saved)


def part_of_task(task: BackwardTask, steps: slice) -> BackwardTask:
    """Some of its steps."""
    states = slice(steps.start, steps.stop + 1)
    return task._replace(
        x=task.x[steps],
        states={name: part[states] for name, part in task.states.items()},
        exponent=task.exponent[states],
        kept=task.kept[steps],
        direct=None,
        direct_exponent=task.direct_exponent[steps],
        joins=task.joins[steps],
        results={name: array[steps] for name, array in task.results.items()},
    )


def _log_norms(squares: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """ln of norms whose squares are ``squares * 4**exponent``. Two large logarithms that cancel would cost digits."""
    with np.errstate(divide="ignore"):
        norms: np.ndarray = 0.5 * np.log(squares)
        if exponent.any():
            mantissa, of_square = np.frexp(squares)
            norms = np.where(exponent == 0, norms, 0.5 * np.log(mantissa) + (0.5 * of_square + exponent) * LN2)
    return norms


def _joined(blocks: np.ndarray, which: tuple[int, ...]) -> np.ndarray:
    return blocks.reshape(-1) if which == tuple(range(len(blocks))) else blocks[list(which)].reshape(-1)


def _call(name: str, dtype: np.dtype, *structures: ctypes.Structure) -> int:
    """``name`` for ``dtype``."""
    function = getattr(library().handle, f"{name}_{_REAL[dtype]}")
    function.restype = ctypes.c_long
    result = int(function(*map(ctypes.byref, structures)))
    if result == -1:
        raise MemoryError(f"{name}: no memory for its buffers")
    return result
