"""Ways to take steps backwards: compiled, by the textbook loop, and with care where numbers leave the range of plain floats.

Each takes the signal that the future sends and gives what the steps did, with the signal that they send on.
Derivation: rnn_core/README.md, section 3.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from rnn_core import compiled
from rnn_core.arrays import Array, State, dtype_name, namespace
from rnn_core.bptt.careful import careful_step
from rnn_core.bptt.loop import (
    DirectPart,
    Shares,
    Steps,
    back_through_time,
    input_gradients,
    parameter_gradients,
    sum_over_time,
)
from rnn_core.bptt.signal import Signal
from rnn_core.cells.base import BadStep
from rnn_core.compiled.memory import empty_aligned
from rnn_core.scaling import WINDOW, all_finite, exponent_or_zero, plain_if_fits, times_power_of_two
from rnn_core.tape import Segment, Tape, at_step, part_of, segment_length

STEPS_BETWEEN = 8  # steps taken one by one where many at a time have failed, before that is tried again
TOGETHER = 32  # steps that are computed before any is looked at, where looking means waiting for a GPU


class BackwardPass:
    """What holds for a whole backward pass.

    Attributes:
        window: steps after which the signal is dropped, counted from the last one; None is never.
        signal_threshold: every entry of the signal is clipped to ± this; None means no clipping.
        rows: number of rows of each result of a step, by name: the parts of dL/dstate_t, and ``x`` for dL/dx_t.
        keeps: whether the tape's memory budget holds that.
        compiled: whether compiled steps may be tried.
        sums_over: sums over time are split at multiples of this many steps.
    """

    def __init__(self, tape: Tape, window: int | None, signal_threshold: float | None) -> None:
        self.tape, self.window, self.signal_threshold = tape, window, signal_threshold
        T, B, D = tape.x.shape
        self.rows = {**{name: math.prod(shape) for name, shape in tape.shapes.items()}, "x": D}
        size = T * B * sum(self.rows.values()) * tape.x.dtype.itemsize
        self.keeps = tape.memory_budget is None or size <= tape.memory_budget
        self.compiled = signal_threshold is None and tape.x_exponent is None and compiled.covers(tape.cell, tape.x)
        self.sums_over = segment_length(T)

    def compiles(self, segment: Segment) -> bool:
        """Whether compiled steps may be tried on ``segment``: they must know what it saved."""
        return self.compiled and compiled.knows(self.tape.cell, segment.saved)

    def first_summed(self, t: int) -> int:
        """The first step whose share is summed together with that of step t."""
        return t // self.sums_over * self.sums_over

    def nothing_sent(self) -> Signal:
        """The signal behind the last step: zero."""
        x, zeros = self.tape.x, namespace(self.tape.x).zeros
        sizes = {name: (self.rows[name], x.shape[1]) for name in self.tape.cell.state_names}
        return Signal.of({name: zeros(size, dtype=x.dtype, device=x.device) for name, size in sizes.items()})

    def arriving(self, signal: Signal, t: int) -> Signal:
        """``signal`` as it arrives at step t: zero where truncated backpropagation has cut the state off from what follows."""
        after = self.tape.x.shape[0] - 1 - t
        return signal.dropped() if self.window is not None and after and after % self.window == 0 else signal

    def first_reached(self, t: int) -> int:
        """The first step that what arrives at step t flows to."""
        return 0 if self.window is None else t + 1 - (self.window - (self.tape.x.shape[0] - 1 - t) % self.window)


class Taken(NamedTuple):
    """What some steps gave; arrays are over these steps, in the order of time.

    Attributes:
        start, number: which steps.
        sent: what the step before them receives.
        log_norm: ln ‖dL/dstate_t‖ by part.
        exponent: of dL/dstate_t by part, and of dL/dx_t ("x"); one number, or one a step.
        columns: dL/dstate_t by part and dL/dx_t, (steps, rows, B), where they are not in their places yet.
        shares: what they add to the parameter gradients, with the steps, counted from ``start``; the last first.
        log_norm_samples: by step ln ‖dL/dh_t^(b)‖ (B,), where one exponent does not hold its entries.
        careful: the number of steps that were taken layer by layer.
        given: of an opaque cell what its steps were given, (steps, rows, B), and its exponents; None of other cells.
        compiled_can_go_on: whether compiled steps may be tried next.
        one_exponent_is_short: whether compiled steps with one exponent for all samples came to an end after few steps.
    """

    start: int
    number: int
    sent: Signal
    log_norm: dict[str, np.ndarray]
    exponent: dict[str, int | np.ndarray]
    columns: dict[str, Array]
    shares: list[tuple[slice, Shares]]
    log_norm_samples: dict[int, np.ndarray]
    careful: int = 0
    given: tuple[Array, np.ndarray] | None = None
    compiled_can_go_on: bool = True
    one_exponent_is_short: bool = False


# ---- by the textbook loop, and with care where that ends early ------------------------------------------------------------


def readable_steps(back: BackwardPass, signal: Signal, segment: Segment, stop: int, g: DirectPart) -> Taken:
    """The steps before ``stop`` that belong to the same sum over time.

    The textbook loop takes them. Where it ends early, a careful step goes on.
    """
    start = max(0, back.first_summed(segment.start + stop - 1) - segment.start)
    if back.compiles(segment):  # they have stopped: for a step that needs care, or at what is not finite and stays so
        start = max(start, stop - (1 if all_finite(*signal.layers[0].parts.values()) else STEPS_BETWEEN))
    looks_are_free = isinstance(back.tape.x, np.ndarray)
    pause = 1 if looks_are_free else STEPS_BETWEEN
    now, ended_at = stop, stop + pause  # the step before which the textbook loop last ended early
    runs: list[Steps] = []
    while now > start:
        t = segment.start + now - 1
        signal, run = back.arriving(signal, t), None
        if now <= ended_at - pause and signal.wide is None and back.signal_threshold is None:
            first = max(start, back.first_reached(t) - segment.start)
            if not looks_are_free:
                first = g.plain_from(signal.layers[0].exponent, max(first, now - TOGETHER), now)
            run = back_through_time(back.tape.cell, back.tape.params, segment, g, signal, first, now)
            if run is None or run.number < now - first:
                ended_at = now - (run.number if run else 0)
        run = run or _one_step(back, signal, segment, now - 1, g, failed=now == ended_at)
        runs.append(run)
        signal, now = run.sent, now - run.number
    return _collected(back, part_of(segment, start, stop), runs)


def _one_step(back: BackwardPass, signal: Signal, segment: Segment, t: int, g: DirectPart, failed: bool) -> Steps:
    """Step t of ``segment``: g_t joins, at any exponent; then in plain floats unless that has ``failed``, or with care."""
    if g.joins[t]:
        signal, failed = signal.plus(back.tape.cell.state_names[0], g.columns[t], int(g.exponent[t])), False
    if back.signal_threshold is not None:
        signal = signal.clipped(back.signal_threshold)
    if not failed and signal.wide is None:
        step = back_through_time(back.tape.cell, back.tape.params, segment, None, signal, t, t + 1)
        if step is not None:
            return step
    try:
        return careful_step(back.tape.cell, back.tape.params, segment.saved[t], signal)
    except BadStep as bad:
        raise at_step(back.tape.cell, segment.start + t, bad) from bad.__cause__


def _collected(back: BackwardPass, segment: Segment, runs: list[Steps]) -> Taken:
    """What the steps of ``segment`` gave, from runs of them, the last first."""
    xp, names = namespace(back.tape.x), back.tape.cell.state_names
    du, dv = (xp.stack([of_step for run in runs for of_step in getattr(run, which)][::-1]) for which in ("du", "dv"))
    log_norm = np.concatenate([run.log_norm for run in runs])[::-1]
    exponents = np.concatenate([run.exponent for run in runs])[::-1]
    totals = [total for run in runs for total in run.totals][::-1]
    columns = {name: xp.stack([total[name] for total in totals]) for name in names}
    exponent: dict[str, Any] = {name: exponents[:, i] for i, name in enumerate(names)}
    if back.keeps:
        columns["x"], exponent["x"] = input_gradients(back.tape, du, exponents[:, -1])
    samples, t = {}, segment.stop
    for run in runs:
        t -= run.number
        if run.log_norm_samples is not None:
            samples[t] = run.log_norm_samples
    return Taken(
        start=segment.start,
        number=len(totals),
        sent=runs[-1].sent,
        log_norm={name: log_norm[:, i] for i, name in enumerate(names)},
        exponent=exponent,
        columns=columns,
        shares=[
            (
                slice(0, len(totals)),
                parameter_gradients(back.tape, segment, du, dv, exponents[:, -1])
                | _own_gradients(back.tape, segment, totals, exponents[:, 0]),
            )
        ],
        log_norm_samples=samples,
        careful=sum(run.careful for run in runs),
        given=(dv, exponents[:, -1]) if back.tape.cell.opaque else None,
    )


def _own_gradients(tape: Tape, segment: Segment, totals: list[State], exponent: np.ndarray) -> Shares:
    """Sums over the steps of ``segment`` of what they add to the gradients of the cell's own parameters."""
    if not tape.cell.own_parameters:
        return {}
    steps = [tape.cell.own_gradients(saved, total) for saved, total in zip(segment.saved, totals, strict=True)]
    xp = namespace(tape.x)
    return {n: sum_over_time(xp.stack([step[n] for step in steps]), exponent) for n in tape.cell.own_parameters}


# ---- compiled ------------------------------------------------------------------------------------------------------------


def compiled_steps(
    back: BackwardPass, signal: Signal, segment: Segment, stop: int, g: DirectPart, kept: dict[str, Array], apart: bool
) -> Taken | None:
    """The steps before ``stop`` as far as the compiled ones go; None where they can take none. They write into ``kept``.

    ``apart``: every sample, or entry, has an exponent from the start.
    """
    if not back.compiles(segment):
        return None
    t = segment.start + stop - 1
    arriving = back.arriving(signal, t)
    columns = arriving.by_columns() or (arriving.by_entries() if compiled.by_unit(back.tape.cell) else None)
    if columns is None:
        return None
    part, steps = part_of(segment, 0, stop), slice(segment.start, segment.start + stop)
    if kept:
        results = {name: array[steps] for name, array in kept.items()}
    else:
        B, dtype = back.tape.x.shape[1], back.tape.x.dtype
        results = {name: empty_aligned((stop, rows, B), dtype) for name, rows in back.rows.items()}
    task = compiled.BackwardTask(
        back.tape.cell, back.tape.params, x=back.tape.x[steps], states=part.states, exponent=part.exponent,
        kept=compiled.kept_array(part.saved), direct=None if g.columns is None else g.columns[:stop],
        direct_exponent=g.exponent[:stop], joins=g.joins[:stop], results=results, first=part.start, sums_over=back.sums_over,
        window=back.window or 0, after=back.tape.x.shape[0] - 1 - t,
    )  # fmt: skip
    together = not apart and (columns[1] == columns[1].flat[0]).all()
    done = compiled.run_backward(task, *columns) if together else None
    if done is None or not done.number:
        done = compiled.run_backward(task, *columns, apart=True)
    return _taken_by_compiled(back, part, task, done) if done.number else None


def _taken_by_compiled(back: BackwardPass, part: Segment, task: compiled.BackwardTask, done: compiled.Steps) -> Taken:
    """What compiled steps gave, the last ``done.number`` of ``part``."""
    before, samples = len(task.x) - done.number, done.log_norm_samples
    shares = []
    for sums in done.sums:
        own = slice(sums.steps.start - before, sums.steps.stop - before)
        exponent = {name: of_part[own] for name, of_part in done.exponent.items()}
        shares.append((own, _shares_of(back.tape, part, task, sums, exponent)))
    return Taken(
        start=part.start + before,
        number=done.number,
        sent=Signal.of_columns(done.sent, done.sent_exponent),
        log_norm=done.log_norm,
        exponent={**done.exponent},
        columns={} if back.keeps else {name: task.results[name][before:] for name in done.log_norm},
        shares=shares,
        log_norm_samples={} if samples is None else {part.start + before + t: norms for t, norms in enumerate(samples)},
        compiled_can_go_on=not done.stuck or samples is None,
        one_exponent_is_short=done.stuck and samples is None and done.number < STEPS_BETWEEN,
    )


def _shares_of(
    tape: Tape, part: Segment, task: compiled.BackwardTask, sums: compiled.Sums, exponent: dict[str, np.ndarray]
) -> Shares:
    """What some compiled steps add to the parameter gradients; summed again where too much was lost.

    ``exponent`` is that of their results.
    """
    own, lost = sums.steps, sums.lost
    if lost:
        sums = compiled.sums_again(compiled.part_of_task(task, own), exponent)
    if sums.broke:
        return _careful_shares(tape, part_of(part, own.start, own.stop), task, own, exponent, lost)
    return {name: plain_if_fits(value, e) for name, (value, e) in sums.shares.items()}


def _careful_shares(
    tape: Tape,
    segment: Segment,
    task: compiled.BackwardTask,
    steps: slice,
    exponent: dict[str, np.ndarray],
    lost: bool,
) -> Shares:
    """The same by readable steps, where compiled sums overflow, or lose what counts, or are not finite.

    Where something was lost, every step is taken with its largest entry far up in the range, where small slopes lose nothing; if that
    overflows, as it is.
    """
    cell, totals, pairs = tape.cell, [], []
    common = np.max([exponent[name] for name in cell.state_names], axis=0)
    for k, t in enumerate(range(steps.start, steps.stop)):
        given = {
            name: times_power_of_two(task.results[name][t], int(exponent[name][k] - common[k]))
            for name in cell.state_names
        }
        up = 2 * WINDOW[dtype_name(tape.x)] - max(map(exponent_or_zero, given.values()))
        for lift in (up, 0) if lost else (0,):
            total = {name: times_power_of_two(part, lift) for name, part in given.items()}
            pair = cell.backward(tape.params, segment.saved[k], total)[:2]
            if all_finite(*pair):
                break
        totals.append(total)
        pairs.append(pair)
        common[k] -= lift
    du, dv = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    return parameter_gradients(tape, segment, du, dv, common) | _own_gradients(tape, segment, totals, common)
