"""Backpropagation through time: the loop over steps. Derivation: rnn_core/README.md, sections 1 to 3.

Public arrays are time first, batch second: x (T, B, D), hidden (T, B, H). Inside, a column is a sample: (T, H, B).
The backward pass carries its exponent apart (scaling.py), so it is exact at any growth and any length, and bit for bit the
plain pass wherever that one stays in range.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from rnn_core import compiled
from rnn_core.arguments import (
    GradHidden,
    check_gradients,
    check_inputs,
    check_like_x,
    check_shape,
    state_shape,
    warn_if_batch_first,
)
from rnn_core.arrays import Array, Params, State, constant, dtype_name, namespace, to_numpy
from rnn_core.cells.base import Cell
from rnn_core.clipping import clip_signal
from rnn_core.formats import lost
from rnn_core.scalars import as_python
from rnn_core.scaling import (
    LN2,
    WINDOW,
    Scaled,
    add,
    all_finite,
    at_a_good_scale,
    common_exponent,
    flags_raise,
    log_norm,
    log_norms,
    log_norms_of_columns,
    plain_if_fits,
    plus,
    renormalise,
    square_limits,
    sum_of_products,
    times_power_of_two,
    top_exponent_or_zero,
    tops,
)
from rnn_core.scaling import parts as parts_of
from rnn_core.tape import Segment, Tape, joined, nbytes, part_of, pieces, run_segment, run_whole, segment_length, swap
from rnn_core.wide import Wide, combined, plain_parts

Layers = dict[int, list[tuple[State, int]]]  # by step: dL/dh_t as a sum, where one exponent does not hold its entries
STEPS_BETWEEN = 8  # steps taken one by one where many at a time have failed, before that is tried again
TOGETHER = 32  # steps that are computed before any is looked at, where looking means waiting for a GPU


@dataclass(frozen=True, eq=False, repr=False)
class Gradients:
    """Gradients of L, summed over the batch. Plain floats where they fit, ``Scaled`` where they do not.

    Attributes:
        params: dL/d(parameter), by name, shaped as the parameters.
        x: dL/dx, (T, B, D).
        state: dL/d(initial state), by name, each (B, H).
        hidden: total dL/dh_t (direct loss and future steps), (T, B, H).
        log_norm: ln ‖dL/dh_t‖ over the batch and units, float64 (T,), exact beyond float range; -inf where it is zero.
        log_norm_immediate: the same for the direct part alone, as it was given in ``grad_hidden``.
        cell: of an LSTM total dL/dc_t (through h_t and through c_{t+1}), (T, B, H); None for other cells.
        log_norm_cell: ln ‖dL/dc_t‖, as ``log_norm``; None for other cells.
        find_lost, find_log_norm_samples: what ``lost`` and ``log_norm_samples`` are found by.

    Where a tape's memory budget cannot hold ``hidden``, ``x`` and ``cell``, they are ``NotKept``: using one is a LookupError.
    """

    params: dict[str, Array | Scaled]
    x: Array | Scaled
    state: dict[str, Array | Scaled]
    hidden: Array | Scaled
    log_norm: np.ndarray
    log_norm_immediate: np.ndarray
    cell: Array | Scaled = None
    log_norm_cell: np.ndarray | None = None
    find_lost: Callable[[], dict[str, np.ndarray]] = dict
    find_log_norm_samples: Callable[[], np.ndarray] = lambda: np.empty((0, 0))

    @cached_property
    def lost(self) -> dict[str, np.ndarray]:
        """What float32, bfloat16 and float16 would lose of ``hidden`` at each step (``formats.lost``), each float64 (T,).

        Found when it is asked for: training looks at it only where a trace is recorded.
        """
        return self.find_lost()

    @cached_property
    def log_norm_samples(self) -> np.ndarray:
        """ln ‖dL/dh_t^(b)‖ of each sample over its units, float64 (T, B); -inf where it is exactly zero.

        A sample far below the largest of its step is right too, as far as the backward pass holds it: with NumPy always, with
        torch down to the smallest number of the dtype. Found when it is asked for, as ``lost`` is.
        """
        return self.find_log_norm_samples()

    def __repr__(self) -> str:
        return f"Gradients(params: {', '.join(self.params)}; T = {len(self.log_norm)})"


class NotKept:
    """Stands for an array that a memory budget had no room for; any use of it raises LookupError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise LookupError(
            f"grads.{self._name} was not kept: the tape's memory_budget has no room for it; "
            "log_norm, params and state are there. Raise the budget to keep it."
        )

    __getattr__ = __getitem__ = __len__ = __iter__ = __array__ = _refuse


def forward(cell: Cell, params: Params, x: Array, state: State | None = None, memory_budget: int | None = None) -> Tape:
    """Run ``cell`` over x (T, B, D) from ``state`` ({"hidden": (B, H)[, "cell": (B, H)]}, all parts; None is zeros).

    ``params`` and ``x`` must not be changed before ``backward``. torch tensors are taken without their autograd history.

    Args:
        memory_budget: bytes that the tape may keep. A longer one keeps checkpoints, O(√T) states, and ``backward`` computes
            the rest again, to the same bits. None keeps everything. (``tape.hidden`` is computed again, whole, when asked for.)

    Raises:
        ValueError: a shape does not fit, naming the argument, its shape and the shape expected.

    Warns:
        UserWarning: x looks like (B, T, D) (``arguments.warn_if_batch_first`` says when).
    """
    tape = run_forward(cell, params, x, state, memory_budget)
    warn_if_batch_first(tape.x, stacklevel=2)
    return tape


def run_forward(
    cell: Cell, params: Params, x: Array, state: State | None = None, memory_budget: int | None = None
) -> Tape:
    """``forward`` of an x whose axes are known to be in order."""
    check_inputs(cell, params, x, state, memory_budget)
    memory_budget = as_python(memory_budget)  # a NumPy integer would overflow in a product
    params, x = {name: constant(value) for name, value in params.items()}, constant(x)
    xp, T, B, H = namespace(x), x.shape[0], x.shape[1], params["weight_hh"].shape[1]
    now, e = {name: xp.zeros((H, B), dtype=x.dtype, device=x.device) for name in cell.state_names}, 0
    with np.errstate(all="ignore"):
        for name, value in (state or {}).items():
            now, e = add(now, e, name, *_columns(value))
        if not cell.homogeneous:  # only a homogeneous cell can go on from a state that plain floats do not hold
            now, e = {name: times_power_of_two(part, e) for name, part in now.items()}, 0

    if memory_budget is None and (whole := run_whole(cell, params, x, now, e)):
        final = {name: xp.asarray(part[-1].T, copy=True) for name, part in whole.states.items()}
        return Tape(cell, params, x, final, memory_budget, [], whole)
    length, checkpoints, kept, keep = segment_length(T), [], [], True
    for start in range(0, T, length):
        checkpoints.append((now, e))
        segment = run_segment(cell, params, x, start, min(start + length, T), now, e)
        if start == 0 and memory_budget is not None:
            keep = nbytes(segment) * T <= memory_budget * (segment.stop - segment.start)
        if keep:
            kept.append(segment)
        now, e = {name: part[-1] for name, part in segment.states.items()}, int(segment.exponent[-1])
        now = {name: xp.asarray(part, copy=True) for name, part in now.items()}
    final = {name: plain_if_fits(part.T, e) for name, part in now.items()}
    return Tape(cell, params, x, final, memory_budget, checkpoints, joined(kept) if keep else None)


def backward(
    tape: Tape,
    grad_hidden: GradHidden = None,
    grad_state: dict[str, Array | Scaled] | None = None,
    window: int | None = None,
    signal_threshold: float | None = None,
) -> Gradients:
    """Gradients of L from the immediate dL/dh_t.

    Args:
        tape: from ``forward``.
        grad_hidden: the direct part of dL/dh_t, (T, B, H), without what flows back from later steps; None is zeros; or a
            function (start, stop) -> rows start … stop - 1 of it, or None where they are zero.
        grad_state: dL/d(final state) by name, each (B, H), added to the last step; None is zeros.
        window: truncated backpropagation: the signal is dropped every ``window`` steps, counted from the last one, as if the
            state had been detached there (Williams & Peng 1990; Sutskever 2013, section 2.8.6, with k1 = k2).
        signal_threshold: every entry of the backward signal is moved into ±threshold at every step (Graves 2013); the results
            are then no longer the gradients of L.

    Raises:
        ValueError: a shape does not fit, naming the argument, its shape and the shape expected; ``window`` below 1; ``signal_threshold``
            not above 0.
    """
    check_gradients(tape, grad_hidden, grad_state, window, signal_threshold)
    window, signal_threshold = as_python(window), as_python(signal_threshold)
    with np.errstate(all="ignore"):  # the loop itself asks for the flags where it needs them
        loop = _Loop(tape, window, signal_threshold)
        for name, value in (grad_state or {}).items():
            loop.join(name, *_columns(value))
        for segment in tape.segments(backward=True, several=loop.covered and not callable(grad_hidden)):
            loop.back_through(segment, _direct_part(tape, grad_hidden, segment))
        return loop.gradients()


class _Loop:
    """The backward pass from the last step to the first: dstate · 2**e is what the future sends to the step before.

    The value of every array of step t is what is stored times 2**exponent[t]. ``wide`` replaces (dstate, e) where one exponent
    does not hold all entries.
    """

    def __init__(self, tape: Tape, window: int | None, signal_threshold: float | None) -> None:
        x, xp, (T, B, D), H = tape.x, namespace(tape.x), tape.x.shape, tape.params["weight_hh"].shape[1]
        self.tape, self.window, self.signal_threshold = tape, window, signal_threshold
        self.lowest, self.highest = square_limits(tape.x)
        self.covered = signal_threshold is None and compiled.covers(tape.cell, tape.x)
        self.part = segment_length(T)
        self.dstate = {n: xp.zeros((H, B), dtype=tape.x.dtype, device=tape.x.device) for n in tape.cell.state_names}
        self.e = 0
        self.wide: Wide | None = None
        self.lost: list[dict[str, np.ndarray]] = []
        self.samples: list[np.ndarray] = []
        self.spread: Layers = {}
        self.sums: dict[str, Array | Scaled] = {}
        rows = {**dict.fromkeys(self.dstate, H), "x": D}
        self.exponent = {name: np.zeros(T, dtype=np.int64) for name in (*rows, "d")}  # d: of du and dv
        self.log_norm = {name: np.full(T, -np.inf) for name in (*self.dstate, "immediate")}
        size = T * B * sum(rows.values()) * tape.x.dtype.itemsize
        self.kept: dict[str, Array] = {}
        if tape.memory_budget is None or size <= tape.memory_budget:
            make = (
                partial(compiled.room, dtype=x.dtype)
                if type(x) is np.ndarray
                else partial(xp.empty, dtype=x.dtype, device=x.device)
            )
            self.kept = {name: make((T, r, B)) for name, r in rows.items()}

    def back_through(self, segment: Segment, direct: Array | Scaled | None) -> None:
        """The steps of one segment, last first: as many as can be by the fast path, the others one by one."""
        steps = len(segment.saved)
        grads, e_grads, reaches_loss = self._immediate(segment, direct)
        quick = self.covered and not segment.exponent.any()
        stop = steps
        while stop:
            if quick:
                done = self._compiled_steps(segment, stop, grads, e_grads, reaches_loss)
                stop -= done
                if done and stop and self._renormalise():
                    continue
            last = segment.start + stop - 1
            edge = last // self.part * self.part - segment.start  # sums are taken segment by segment
            start = max(0, edge, stop - STEPS_BETWEEN if quick else 0)
            if start < stop:
                self._readable_steps(part_of(segment, start, stop), grads, e_grads, reaches_loss, start)
                stop = start

    def _compiled_steps(self, segment: Segment, stop: int, grads: Array, e_grads: np.ndarray, joins: np.ndarray) -> int:
        """The steps before ``stop`` by the fast path, as far as it goes; how many it did.

        It adds the direct part in plain floats, so it goes no further than a step where either has an exponent.
        """
        t = segment.start + stop - 1
        self._reset_at_window(t)
        if self.wide is not None:
            return 0
        low = 0
        if self.window is not None:  # the next step that is cut off from what follows
            left = self.tape.x.shape[0] - 1 - t
            low = max(0, stop - (self.window - left % self.window))
        apart = np.flatnonzero(joins[low:stop] & ((e_grads[low:stop] != 0) | (self.e != 0)))
        low += int(apart[-1]) + 1 if apart.size else 0
        if low == stop:
            return 0
        part, here = part_of(segment, low, stop), slice(segment.start + low, segment.start + stop)
        H, B = self.dstate["hidden"].shape
        dh, dx = (
            self.kept[name][here] if self.kept else compiled.room((stop - low, rows, B), self.tape.x.dtype)
            for name, rows in (("hidden", H), ("x", self.tape.x.shape[2]))
        )
        found = compiled.run_backward(
            self.tape.cell, self.tape.params, self.tape.x[here], part.states["hidden"], np.asarray(part.saved),
            None if grads is None else grads[low:stop], joins[low:stop], (self.lowest, self.highest),
            self.dstate["hidden"], dh, dx, part.start, self.part,
        )  # fmt: skip
        if found.done:
            self._note(part, dh, found)
        return found.done

    def _renormalise(self) -> bool:
        """Moves the signal's exponent where the fast path has stopped; whether that was possible without loss."""
        if self.wide is not None or not all_finite(*self.dstate.values()):
            return False
        try:
            with flags_raise():
                moved, e = renormalise(self.dstate, self.e)
        except FloatingPointError:
            return False
        changed = e != self.e
        self.dstate, self.e = moved, e
        return changed

    def _note(self, part: Segment, dh: np.ndarray, found: compiled.Steps) -> None:
        """What the fast path found for the last steps of ``part``."""
        here = slice(part.stop - found.done, part.stop)
        self.dstate = {"hidden": found.dstate}
        with np.errstate(divide="ignore"):
            self.log_norm["hidden"][here] = 0.5 * np.log(found.squares) + self.e * LN2
        for exponents in self.exponent.values():
            exponents[here] = self.e
        for sums in found.sums:
            self._add(self._shares(sums) if sums.hold else self._careful_shares(part, dh, sums.steps))
            if not self.kept:
                steps = sums.steps
                self._look(slice(part.start + steps.start, part.start + steps.stop), dh[steps])

    def _shares(self, sums: compiled.Sums) -> dict[str, Array | Scaled]:
        """What some steps add to the parameter gradients."""
        H = len(sums.bias)
        shares: dict[str, Any] = {"weight_ih": sums.weights[:, H:], "weight_hh": sums.weights[:, :H]}
        shares |= {name: sums.bias for name in ("bias_ih", "bias_hh") if name in self.tape.params}
        return {name: plain_if_fits(value, self.e) for name, value in shares.items()} if self.e else shares

    def _careful_shares(self, part: Segment, dh: np.ndarray, steps: slice) -> dict[str, Array | Scaled]:
        """The same where sums over- or underflow."""
        segment = part_of(part, steps.start, steps.stop)
        pairs = zip(segment.saved, dh[steps], strict=True)
        da = np.stack([self.tape.cell.backward(self.tape.params, a, {"hidden": d})[0] for a, d in pairs])
        return _parameter_gradients(self.tape, segment, da, da, np.full(len(da), self.e, dtype=np.int64))

    def _readable_steps(
        self, segment: Segment, grads: Array, e_grads: np.ndarray, reaches_loss: np.ndarray, first: int
    ) -> None:
        """The steps of ``segment`` one by one; ``grads`` and its companions are those from step ``first`` on."""
        xp, steps = namespace(self.tape.x), len(segment.saved)
        signals: list[Any] = [None] * steps
        du, dv = [None] * steps, [None] * steps
        stop, single = steps, 0
        while stop:
            if not single:
                found = self._steps_together(segment, stop, grads, e_grads, reaches_loss, first)
                for k, step in zip(reversed(range(stop)), found, strict=False):
                    signals[k], du[k], dv[k] = step
                stop -= len(found)
                single = 0 if len(found) == TOGETHER else STEPS_BETWEEN
                continue
            k, stop, single = stop - 1, stop - 1, single - 1
            t = segment.start + k
            self._reset_at_window(t)
            if reaches_loss[first + k]:  # dL/dh_t = direct part + what the future sent
                self.join("hidden", grads[first + k], int(e_grads[first + k]))
            if self.signal_threshold is not None:
                self._clip()
            fast = None if self.wide else self._fast_step(t, segment.saved[k])
            signals[k], du[k], dv[k] = fast or self._careful_step(t, segment.saved[k])
        self._collect(segment, signals, xp.stack(du), xp.stack(dv))

    def _steps_together(
        self, segment: Segment, stop: int, grads: Array, e_grads: np.ndarray, joins: np.ndarray, first: int
    ) -> list[tuple[State, Array, Array]]:
        """``_fast_step`` of the steps before ``stop``, as many as nothing stands in the way of, last first.

        On a GPU every look at a number waits for all work before it, so here many steps are computed before any is looked at.
        NumPy's flags must be read step by step.
        """
        if isinstance(self.tape.x, np.ndarray) or self.wide is not None or self.signal_threshold is not None:
            return []
        cell, params, xp = self.tape.cell, self.tape.params, namespace(self.tape.x)
        found, sent, sizes, dstate = [], [], [], self.dstate
        for k in reversed(range(max(0, stop - TOGETHER), stop)):
            left = self.tape.x.shape[0] - 1 - (segment.start + k)
            if self.window is not None and left and left % self.window == 0:
                break
            if joins[first + k]:
                if self.e or e_grads[first + k]:
                    break
                dstate = {**dstate, "hidden": dstate["hidden"] + grads[first + k]}
            total = cell.total(segment.saved[k], dstate)
            du, dv, dstate = cell.backward(params, segment.saved[k], total)
            found.append((total, du, dv))
            sent.append(dstate)
            parts = [part.reshape(-1) for part in (*total.values(), du, dv, *dstate.values())]
            sizes.append(xp.stack([part @ part for part in parts] + [part.any().to(part.dtype) for part in parts]))
        return (
            self._accept(segment.start + stop, found, sent, to_numpy(xp.stack(sizes)).astype(np.float64))
            if found
            else []
        )

    def _accept(
        self, stop: int, found: list[tuple[State, Array, Array]], sent: list[State], sizes: np.ndarray
    ) -> list[tuple[State, Array, Array]]:
        """Those of the steps before ``stop`` before the first that shows a sign of over- or underflow; goes on from there."""
        squares, nonzero = np.split(sizes, 2, axis=1)
        count = len(self.dstate)
        usual = (squares >= self.lowest) & (squares <= self.highest)
        zero = squares == 0.0
        sound = (usual[:, :count] | (zero & (nonzero == 0))[:, :count]).all(axis=1)  # the totals, as in ``_usual``
        tiny = ~((zero | (squares > self.lowest**0.5))[:, :count].all(axis=1))
        sound &= usual[:, count:].all(axis=1) | ((usual | zero)[:, count:].all(axis=1) & ~tiny)  # as in ``_sound``
        good = len(found) if sound.all() else int(np.argmin(sound))
        if good:
            here = slice(stop - good, stop)
            for i, name in enumerate(self.dstate):
                with np.errstate(divide="ignore"):
                    self.log_norm[name][here] = (0.5 * np.log(squares[:good, i]) + self.e * LN2)[::-1]
            for exponents in self.exponent.values():
                exponents[here] = self.e
            self.dstate = sent[good - 1]
        return found[:good]

    def _reset_at_window(self, t: int) -> None:
        """Drops the signal where truncated backpropagation has cut the state off from what follows."""
        left = self.tape.x.shape[0] - 1 - t
        if self.window is not None and left and left % self.window == 0:
            self.wide, self.e = None, 0
            self.dstate = {name: namespace(part).zeros_like(part) for name, part in self.dstate.items()}

    def _fast_step(self, t: int, saved: Any) -> tuple[State, Array, Array] | None:
        """(total dL/dstate_t, du_t, dv_t), and on to dL/dstate_{t-1}; None if anything may have over- or underflowed."""
        cell, params = self.tape.cell, self.tape.params
        try:
            with flags_raise():
                total = cell.total(saved, self.dstate)
                squares = {name: _square(part) for name, part in total.items()}
                if not all(self._usual(square, total[name]) for name, square in squares.items()):
                    return None
                du, dv, dstate = cell.backward(params, saved, total)
        except FloatingPointError:
            return None
        if not self._sound(total, du, dv, dstate):
            return None
        for name, square in squares.items():
            self.log_norm[name][t] = 0.5 * np.log(square) + self.e * LN2 if square else -np.inf
        for exponents in self.exponent.values():
            exponents[t] = self.e
        self.dstate = dstate
        return total, du, dv

    def _usual(self, square: float, part: Array) -> bool:
        """Whether a part's squared norm says that its magnitudes are well in range, or all of it is zero."""
        return self.lowest <= square <= self.highest or (square == 0.0 and not bool(namespace(part).any(part != 0)))

    def _sound(self, total: State, du: Array, dv: Array, dstate: State) -> bool:
        """Whether a step shows no sign of over- or underflow. NumPy has said so already; other libraries say nothing."""
        if isinstance(self.tape.x, np.ndarray):
            return True
        sizes = [_square(part) for part in (du, dv, *dstate.values())]
        if all(self.lowest <= size <= self.highest for size in sizes):
            return True
        if all(size == 0.0 or self.lowest <= size <= self.highest for size in sizes):
            # Zeros: dead units or no signal, unless the signal was so small that they may be what has underflowed.
            known = [_square(part) for part in total.values()]
            return all(size == 0.0 or size > self.lowest**0.5 for size in known)
        return False

    def _careful_step(self, t: int, saved: Any) -> tuple[State, Array, Array]:
        """The same for a signal of any size and spread: layer by layer, each at a scale at which nothing is lost."""
        x = self.tape.x
        if self.wide is None and not all_finite(*self.dstate.values()):
            layers = [(self.dstate, self.e)]  # inf and nan pass through
        else:
            layers = (self.wide or Wide.of(self.dstate, self.e)).layers(x) or [(self.dstate, 0)]
        found = self._side_by_side(saved, layers) or [self._layer(saved, parts, e) for parts, e in layers]
        total = {name: combined([(f[0][name], f[4]) for f in found]) for name in self.dstate}
        du, dv = combined([(f[1], f[4]) for f in found]), combined([(f[2], f[4]) for f in found])
        common = common_exponent(du, dv)
        if len(found) > 1:
            self.spread[t] = [({"hidden": f[0]["hidden"]}, f[4]) for f in found]
        for name, (part, e) in total.items():
            self.log_norm[name][t] = log_norm(part) + e * LN2
            self.exponent[name][t] = e
        self.exponent["d"][t] = self.exponent["x"][t] = common
        self._resume([(f[3], f[4]) for f in found])
        return (
            {name: part for name, (part, _) in total.items()},
            times_power_of_two(du[0], du[1] - common),
            times_power_of_two(dv[0], dv[1] - common),
        )

    def _side_by_side(
        self, saved: Any, layers: list[tuple[State, int]]
    ) -> list[tuple[State, Array, Array, State, int]] | None:
        """``_layer`` of several layers at once, as if they were samples; None where that over- or underflows somewhere."""
        cell, xp, count = self.tape.cell, namespace(self.tape.x), len(layers)
        if count == 1:
            return None
        joint = {name: xp.concat([parts[name] for parts, _ in layers], axis=-1) for name in self.dstate}
        kept: Any = tuple(
            xp.concat([part] * count, axis=-1) for part in (saved if isinstance(saved, tuple) else (saved,))
        )
        kept = kept if isinstance(saved, tuple) else kept[0]
        try:
            with flags_raise():
                total = cell.total(kept, joint)
                du, dv, dstate = cell.backward(self.tape.params, kept, total)
        except FloatingPointError:
            return None
        if not self._sound(total, du, dv, dstate):
            return None
        B, found = self.tape.x.shape[1], []
        for i, (_, e) in enumerate(layers):
            own = slice(i * B, (i + 1) * B)
            parts, sent = ({name: part[:, own] for name, part in state.items()} for state in (total, dstate))
            found.append((parts, du[:, own], dv[:, own], sent, e))
        return found

    def _layer(self, saved: Any, parts: State, e: int) -> tuple[State, Array, Array, State, int]:
        """(total, du, dv, dstate, exponent) of one layer, at the first scale at which nothing over- or underflows."""
        cell, params = self.tape.cell, self.tape.params

        def step(shift: int) -> tuple[State, Array, Array, State]:
            total = cell.total(saved, {name: times_power_of_two(part, shift) for name, part in parts.items()})
            return total, *cell.backward(params, saved, total)

        def arrays(found: tuple[State, Array, Array, State]) -> list[Array]:
            total, du, dv, dstate = found
            return [*total.values(), du, dv, *dstate.values()]

        found, shift = at_a_good_scale(step, arrays, lambda found: self._sound(*found), self.tape.x)
        return *found, e - shift

    def _resume(self, sent: list[tuple[State, int]]) -> None:
        """What the layers send to the step before, as one signal: narrow where one exponent holds it."""
        if not all(all_finite(*parts.values()) for parts, _ in sent):  # inf and nan pass through
            e = max(e for _, e in sent)
            self.dstate = {n: sum(times_power_of_two(parts[n], e_l - e) for parts, e_l in sent) for n in self.dstate}
            self.e, self.wide = e, None
            return
        self._narrowed(Wide.sum_of(sent))

    def join(self, name: str, grad: Array, e_grad: int = 0) -> None:
        """Adds to one part of the signal, at the exponent that holds both summands, or else entry by entry."""
        if self.wide is None:
            try:
                with flags_raise():
                    dstate, e = add(self.dstate, self.e, name, grad, e_grad)
                if isinstance(grad, np.ndarray) or (self.e == e_grad == 0 and all_finite(dstate[name])):
                    self.dstate, self.e = dstate, e
                    return
            except FloatingPointError:
                pass
        if not all_finite(grad, *self.dstate.values()):
            dstate = plain_parts(self.wide, self.tape.x) if self.wide else self.dstate
            e = 0 if self.wide else self.e
            self.wide = None
            self.dstate, self.e = add(dstate, e, name, grad, e_grad)
            return
        signal = self.wide or Wide.of(self.dstate, self.e)
        self._narrowed(signal.plus(Wide.of({name: grad}, e_grad)))

    def _narrowed(self, signal: Wide) -> None:
        """``signal`` with one exponent where that holds it."""
        narrow = signal.narrow(self.tape.x)
        self.wide = None if narrow else signal
        if narrow:
            self.dstate, self.e = narrow

    def _clip(self) -> None:
        assert self.signal_threshold is not None
        if self.wide is not None:
            self.dstate, self.e, self.wide = plain_parts(self.wide, self.tape.x), 0, None
        self.dstate, self.e = clip_signal(self.dstate, self.e, self.signal_threshold)

    def _immediate(self, segment: Segment, direct: Array | Scaled | None) -> tuple[Array, np.ndarray, np.ndarray]:
        """(columns, exponents, whether not zero) of the direct parts of a segment; notes their norms."""
        steps = len(segment.saved)
        if direct is None:
            return None, np.zeros(steps, dtype=np.int64), np.zeros(steps, dtype=bool)
        part, exponents = parts_of(direct)
        norms = log_norms(part)  # -inf for zeros only
        self.log_norm["immediate"][segment.start : segment.stop] = norms + exponents * LN2
        return swap(part), exponents, norms != -np.inf

    def _collect(self, segment: Segment, signals: list[Any], du: Array, dv: Array) -> None:
        """Adds the segment's share to the parameter gradients, and keeps what is wanted step by step."""
        xp, here = namespace(du), slice(segment.start, segment.stop)
        exponent = self.exponent["d"][here]
        self._add(_parameter_gradients(self.tape, segment, du, dv, exponent))
        columns = {name: xp.stack([signal[name] for signal in signals]) for name in self.dstate}
        if not self.kept:  # now or never
            self._look(here, columns["hidden"])
        else:
            for name, part in columns.items():
                self.kept[name][here] = part
            dx, self.exponent["x"][here] = _input_gradients(self.tape.params["weight_ih"], du, exponent)
            self.kept["x"][here] = dx

    def _look(self, here: slice, columns: Array) -> None:
        """Notes what is wanted of dL/dh_t, (steps, H, B), where it is not kept."""
        exponent = self.exponent["hidden"][here]
        self.lost.append(lost(columns, exponent))
        self.samples.append(_log_norms_of_samples(columns, exponent, self.spread, here.start))
        self.spread.clear()

    def _add(self, shares: dict[str, Array | Scaled]) -> None:
        for name, share in shares.items():
            self.sums[name] = plus(self.sums[name], share) if name in self.sums else share

    def gradients(self) -> Gradients:
        """All results."""
        kept: dict[str, Any] = {name: NotKept(name) for name in (*self.dstate, "x")}
        for name, columns in self.kept.items():
            found = plain_if_fits(columns, self.exponent[name])
            scaled = isinstance(found, Scaled)
            kept[name] = Scaled(swap(found.mantissa), found.exponent) if scaled else swap(found)
        state = {name: (part, self.e) for name, part in self.dstate.items()}
        if self.wide is not None:
            state = {name: self.wide.part(name, self.tape.x) for name in self.dstate}
        if self.kept:
            find_lost = partial(_lost_of, self.kept["hidden"], self.exponent["hidden"])
            find_samples = partial(_log_norms_of_samples, self.kept["hidden"], self.exponent["hidden"], self.spread)
        else:
            find_lost = partial(_one_after_another, self.lost[::-1])
            find_samples = partial(np.concatenate, self.samples[::-1])
        return Gradients(
            params=self.sums,
            x=kept["x"],
            state={name: plain_if_fits(part.T, e) for name, (part, e) in state.items()},
            hidden=kept["hidden"],
            log_norm=self.log_norm["hidden"],
            log_norm_immediate=self.log_norm["immediate"],
            cell=kept.get("cell"),
            log_norm_cell=self.log_norm.get("cell"),
            find_lost=find_lost,
            find_log_norm_samples=find_samples,
        )


def _parameter_gradients(
    tape: Tape, segment: Segment, du: Array, dv: Array, exponent: np.ndarray
) -> dict[str, Array | Scaled]:
    """Sums over t of dv_t h_{t-1}^T, du_t x_t^T, dv_t, du_t. du, dv are (steps, G·H, B)."""
    x = swap(tape.x[segment.start : segment.stop])
    sums = {"weight_ih": _sum_over_time(du, exponent, x), "weight_hh": _recurrent_sum(tape.cell, segment, dv, exponent)}
    if "bias_ih" in tape.params:
        sums["bias_ih"] = _sum_over_time(du, exponent)
    if "bias_hh" in tape.params:
        sums["bias_hh"] = _sum_over_time(dv, exponent)
    return sums


def _recurrent_sum(cell: Cell, segment: Segment, dv: Array, exponent: np.ndarray) -> Array | Scaled:
    """Σ_t dv_t h_{t-1}^T, or block by block of rows where the cell multiplies W_hh by something else than h_{t-1}."""
    xp, h_prev = namespace(dv), segment.states["hidden"][:-1]
    both = exponent + segment.exponent[:-1]
    count = len(cell.factors(segment.saved[0], h_prev[0]))
    if count == 1:
        return _sum_over_time(dv, both, h_prev)
    rows = dv.shape[1] // count
    per_step = [cell.factors(saved, h) for saved, h in zip(segment.saved, h_prev, strict=True)]
    blocks = [
        _sum_over_time(dv[:, i * rows : (i + 1) * rows], both, xp.stack([factors[i] for factors in per_step]))
        for i in range(count)
    ]
    if not any(isinstance(block, Scaled) for block in blocks):
        return xp.concat(blocks)
    scaled = [block if isinstance(block, Scaled) else Scaled(block, 0) for block in blocks]
    top = max(int(block.exponent) for block in scaled)
    return plain_if_fits(xp.concat([Scaled(b.mantissa, int(b.exponent) - top).to_float() for b in scaled]), top)


def _sum_over_time(d: Array, exponent: np.ndarray, factor: Array | None = None) -> Array | Scaled:
    """Σ_t d_t factor_t^T (rows, columns), or Σ_t d_t 1 (rows,), over time and batch."""
    xp = namespace(d)

    def contract(d: Array, factor: Array | None) -> Array:
        return xp.sum(d, axis=(0, 2)) if factor is None else xp.tensordot(d, factor, axes=((0, 2), (0, 2)))

    return sum_of_products(d, exponent, factor, contract)


def _input_gradients(W_ih: Array, du: Array, exponent: np.ndarray) -> tuple[Array, np.ndarray]:
    """dL/dx_t = W_ih^T du_t, (steps, D, B), and its exponents."""
    dx = W_ih.T @ du
    sizes, sizes_dx = tops(du), tops(dx)  # nan where zero or not finite
    lost_some = np.isnan(sizes_dx) | (sizes_dx < -2 * WINDOW[dtype_name(du)])
    if not (lost_some & ~np.isnan(sizes)).any():
        return dx, exponent
    top, sizes = top_exponent_or_zero(W_ih), np.nan_to_num(sizes).astype(np.int64)
    return times_power_of_two(W_ih, -top).T @ Scaled(du, -sizes).to_float(), exponent + sizes + top


def _lost_of(columns: Array, exponent: np.ndarray) -> dict[str, np.ndarray]:
    """``formats.lost``, a few steps at a time."""
    parts = pieces(columns.shape[0], math.prod(columns.shape[1:]), 2**16)
    return _one_after_another([lost(columns[piece], exponent[piece]) for piece in parts])


def _log_norms_of_samples(columns: Array, exponent: np.ndarray, spread: Layers, first: int = 0) -> np.ndarray:
    """ln of the norm of every sample of ``columns[k] * 2**exponent[k]``, (steps, H, B) to (steps, B).

    Where ``spread`` has layers of step ``first + k``, their sum is taken instead.
    """
    parts = pieces(columns.shape[0], math.prod(columns.shape[1:]), 2**16)
    norms = np.concatenate([log_norms_of_columns(columns[piece]) for piece in parts]) + exponent[:, None] * LN2
    for t, layers in spread.items():
        norms[t - first] = Wide.sum_of(layers).log_norms("hidden")
    return norms


def _one_after_another(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _square(x: Array) -> float:
    flat = x.reshape(-1)
    return float(flat @ flat)


def _columns(value: Array | Scaled) -> tuple[Array, int]:
    """(B, H), plain or scaled, as (columns, exponent)."""
    if isinstance(value, Scaled):
        if not isinstance(value.exponent, int):
            raise ValueError("a state has one exponent for all its entries")
        return constant(value.mantissa).T, value.exponent
    return constant(value).T, 0


def _direct_part(tape: Tape, grad_hidden: GradHidden, segment: Segment) -> Array | Scaled | None:
    """The immediate dL/dh_t of the segment's steps, (steps, B, H)."""
    if grad_hidden is None:
        return None
    rows = slice(segment.start, segment.stop)
    if callable(grad_hidden):
        part = grad_hidden(segment.start, segment.stop)
        if part is None:
            return None
        check_like_x("grad_hidden(start, stop)", part, tape.x)
        check_shape("grad_hidden(start, stop)", part, (segment.stop - segment.start, *state_shape(tape)))
        return part if isinstance(part, Scaled) else constant(part)
    if isinstance(grad_hidden, Scaled):
        mantissa, exponents = parts_of(grad_hidden)
        return Scaled(constant(mantissa[rows]), exponents[rows])
    return constant(grad_hidden[rows])
