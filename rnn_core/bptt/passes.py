"""The forward and the backward pass. Derivation: rnn_core/README.md, sections 1 to 3.

Public arrays are time first, batch second: x (T, B, D), hidden (T, B, H). Inside, a column is a sample: (T, H, B).
The backward pass carries its exponent apart (signal.py), so it is exact at any growth and any length. Wherever the plain pass stays
in range, the bits are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from rnn_core.arguments import (
    GradHidden,
    check_gradients,
    check_inputs,
    check_like_x,
    check_shape,
    state_shape,
    warn_if_batch_first,
)
from rnn_core.arrays import Array, Params, State, constant, namespace
from rnn_core.bptt.loop import DirectPart
from rnn_core.bptt.results import Gradients, Results, empty_like
from rnn_core.bptt.steps import BackwardPass, Taken, compiled_steps, readable_steps
from rnn_core.bptt.weights import GIVEN, Totals
from rnn_core.cells.base import Cell
from rnn_core.choices import ByName
from rnn_core.scalars import as_python
from rnn_core.scaling import (
    LN2,
    Scaled,
    add_to_part,
    log_norms,
    mantissa_and_exponents,
    plain,
    plain_if_fits,
    times_power_of_two,
)
from rnn_core.tape import Segment, Tape, joined, nbytes, part_of, run_segment, run_whole_compiled, segment_length, swap


def forward(
    cell: Cell, params: Params, x: Array | Scaled, state: State | None = None, memory_budget: int | None = None
) -> Tape:
    """Run ``cell`` over x (T, B, D) from ``state`` ({"hidden": (B, H)[, "cell": (B, H)]}, all parts; None is zeros).

    ``params`` and ``x`` must not be changed before ``backward``. Tensors of torch are taken without their autograd history. Where x is
    ``tape.hidden`` of the layer below, it may be ``Scaled``: a homogeneous cell goes on from that, and another cell sees plain floats.

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
    cell: Cell, params: Params, x: Array | Scaled, state: State | None = None, memory_budget: int | None = None
) -> Tape:
    """``forward`` of an x whose axes are known to be in order."""
    x, x_exponent = _inputs(cell, x)
    cell, state = check_inputs(cell, params, x, state, memory_budget)
    memory_budget = as_python(memory_budget)  # a NumPy integer would overflow in a product
    params, x = {name: constant(value) for name, value in params.items()}, constant(x)
    xp, T, B, shapes = namespace(x), x.shape[0], x.shape[1], cell.state_shapes(params)
    sizes = {name: (math.prod(shapes[name]), B) for name in cell.state_names}
    now, e = {name: xp.zeros(size, dtype=x.dtype, device=x.device) for name, size in sizes.items()}, 0
    with np.errstate(all="ignore"):
        for name, value in (state or {}).items():
            now, e = add_to_part(now, e, name, *_columns(value))
        if not cell.homogeneous:  # only a homogeneous cell can go on from a state that plain floats do not hold
            now, e = {name: times_power_of_two(part, e) for name, part in now.items()}, 0

    goes_whole = memory_budget is None and x_exponent is None
    if goes_whole and (whole := run_whole_compiled(cell, params, x, now, e)):
        e = int(whole.exponent[-1])
        final = {name: plain_if_fits(xp.asarray(part[-1].T, copy=True), e) for name, part in whole.states.items()}
        return Tape(cell, params, x, ByName(final), memory_budget, [], whole, shapes)
    length, checkpoints, kept, keep = segment_length(T), [], [], True
    for start in range(0, T, length):
        checkpoints.append((now, e))
        segment = run_segment(cell, params, x, start, min(start + length, T), now, e, x_exponent)
        if start == 0 and memory_budget is not None:
            keep = nbytes(segment) * T <= memory_budget * (segment.stop - segment.start)
        if keep:
            kept.append(segment)
        now, e = {name: part[-1] for name, part in segment.states.items()}, int(segment.exponent[-1])
        now = {name: xp.asarray(part, copy=True) for name, part in now.items()}
    final = {name: plain_if_fits(part.T, e) for name, part in now.items()}
    tape = Tape(cell, params, x, final, memory_budget, checkpoints, joined(kept) if keep else None, shapes, x_exponent)
    return replace(tape, state=ByName({name: tape.shaped(name, part) for name, part in final.items()}))


def _inputs(cell: Cell, x: Array | Scaled) -> tuple[Array, np.ndarray | None]:
    """(x, an exponent a step) of inputs that plain floats do not hold, for a homogeneous cell; (x, None) of others."""
    if not isinstance(x, Scaled):
        return x, None
    if not getattr(cell, "homogeneous", False):
        return plain(x), None
    mantissa, exponent = mantissa_and_exponents(x)
    return mantissa, np.array(exponent)


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
    back = BackwardPass(tape, window, signal_threshold)
    results = Results(
        back, partial(_totals, back, grad_hidden, grad_state), partial(_alone, back, grad_hidden, grad_state)
    )
    with np.errstate(all="ignore"), tape.cell.holding(tape.params):  # the steps themselves ask for the flags
        for segment, g, taken in _steps(back, grad_hidden, grad_state, results.kept):
            if g is not None:
                results.add_direct_part(segment.start, g.log_norm)
            results.add(taken)
        return results.gradients(taken.sent)


def _steps(
    back: BackwardPass, grad_hidden: GradHidden, grad_state: dict[str, Array | Scaled] | None, kept: State
) -> Iterator[tuple[Segment, DirectPart | None, Taken]]:
    """All steps from the last to the first: what some of them gave, with their segment, and when it is new its direct part.

    Compiled ones write into ``kept``, where that is not empty.
    """
    tape, signal = back.tape, back.nothing_sent()
    for name, value in (grad_state or {}).items():
        signal = signal.plus(name, *_columns(value))
    for segment in tape.segments(backward=True, several=back.compiled and not callable(grad_hidden)):
        g = _direct_part(tape, grad_hidden, segment)
        stop, taken = len(segment.saved), None
        while stop:
            compilable, new = taken is None or taken.compiled_can_go_on, taken is None
            apart = taken is not None and taken.one_exponent_is_short
            taken = compiled_steps(back, signal, segment, stop, g, kept, apart) if compilable else None
            taken = taken or readable_steps(back, signal, segment, stop, g)
            yield segment, g if new else None, taken
            signal, stop = taken.sent, stop - taken.number


def _totals(
    back: BackwardPass, grad_hidden: GradHidden, grad_state: dict[str, Array | Scaled] | None
) -> Iterator[Totals]:
    """dL/dstate_t of every step, by the whole pass once more: for what is asked for after it, where it was not kept."""
    with back.tape.cell.holding(back.tape.params):
        for segment, _, taken in _steps(back, grad_hidden, grad_state, {}):
            start = taken.start - segment.start
            exponent = {
                n: np.broadcast_to(np.asarray(taken.exponent[n]), (taken.number,)) for n in back.tape.cell.state_names
            }
            parts = dict(taken.columns)
            if taken.given is not None:
                parts[GIVEN], exponent[GIVEN] = taken.given
            yield part_of(segment, start, start + taken.number), parts, exponent


def _alone(
    back: BackwardPass, grad_hidden: GradHidden, grad_state: dict[str, Array | Scaled] | None, sample: int
) -> tuple[Tape, Gradients]:
    """Both passes of one sample by itself: for what is asked for after them, where no exponent holds it beside the others."""
    tape, own = back.tape, slice(sample, sample + 1)
    first, e = tape.start
    state = {name: tape.shaped(name, plain_if_fits(constant(part[:, own].T), e)) for name, part in first.items()}
    direct: GradHidden
    if callable(grad_hidden):
        rows_of = grad_hidden

        def direct(start: int, stop: int) -> Array | Scaled | None:
            rows = rows_of(start, stop)
            return None if rows is None else _samples(rows, own, 1)
    else:
        direct = None if grad_hidden is None else _samples(grad_hidden, own, 1)
    final = {name: _samples(value, own, 0) for name, value in (grad_state or {}).items()}
    alone = run_forward(tape.cell, tape.params, _samples(tape.inputs, own, 1), state, tape.memory_budget)
    return alone, backward(alone, direct, final or None, back.window, back.signal_threshold)


def _samples(value: Array | Scaled, own: slice, axis: int) -> Array | Scaled:
    """Some samples of (T, B, …) or (B, …), plain or scaled."""
    if isinstance(value, Scaled):
        return Scaled(_samples(value.mantissa, own, axis), value.exponent)
    return value[own] if axis == 0 else value[:, own]


def _columns(value: Array | Scaled) -> tuple[Array, int]:
    """(B, H) or (B, …), plain or scaled, as (columns, exponent)."""
    mantissa, exponent = (value.mantissa, value.exponent) if isinstance(value, Scaled) else (value, 0)
    assert isinstance(exponent, int)  # ``check_state`` has seen to it
    return _flat(constant(mantissa), 1).T, exponent


def _flat(array: Array, leading: int) -> Array:
    """With all axes but the ``leading`` ones as one, (…, rows)."""
    return array if array.ndim == leading + 1 else namespace(array).reshape(array, (*array.shape[:leading], -1))


def _direct_part(tape: Tape, grad_hidden: GradHidden, segment: Segment) -> DirectPart:
    """The direct part of dL/dh_t at the segment's steps."""
    steps = len(segment.saved)
    rows = _rows_of(tape, grad_hidden, segment)
    if rows is None:
        return DirectPart(None, np.zeros(steps, dtype=np.int64), np.zeros(steps, dtype=bool), np.full(steps, -np.inf))
    mantissa, exponent = mantissa_and_exponents(rows)
    mantissa = _flat(mantissa, 2)
    silent = _leading_zeros(mantissa)
    norms = np.full(mantissa.shape[0], -np.inf)  # for zeros only
    if silent < len(norms):
        norms[silent:] = log_norms(mantissa[silent:])
    before = steps - mantissa.shape[0]
    if before:  # these steps carry no loss; nobody looks at their rows
        whole = empty_like(tape.x, (steps, *mantissa.shape[1:]))
        whole[before:] = mantissa
        mantissa, norms = whole, np.concatenate([np.full(before, -np.inf), norms])
        exponent = np.concatenate([np.zeros(before, dtype=np.int64), exponent])
    return DirectPart(swap(mantissa), exponent, norms != -np.inf, norms + exponent * LN2)


def _leading_zeros(rows: Array) -> int:
    """How many of the first rows are zero. A NumPy array is looked at byte by byte, which takes a third of the time of its norms."""
    if type(rows) is not np.ndarray or not rows.flags.c_contiguous or not rows.size:
        return 0
    row, flat = int(rows[0].nbytes), rows.reshape(-1).view(np.bool_)
    first = int(flat.argmax())  # of the bytes that are not zero
    return first // row if flat[first] else rows.shape[0]


def _rows_of(tape: Tape, grad_hidden: GradHidden, segment: Segment) -> Array | Scaled | None:
    """The rows of ``grad_hidden`` for the segment's steps, (steps, B, H), or as the first part is shaped; None for zeros.

    A function that knows its ``first`` row that is not zero is asked for none before; then these are the segment's last rows.
    """
    if grad_hidden is None:
        return None
    if callable(grad_hidden):
        start = max(segment.start, getattr(grad_hidden, "first", 0))
        rows = grad_hidden(start, segment.stop) if start < segment.stop else None
        if rows is None:
            return None
        check_like_x("grad_hidden(start, stop)", rows, tape.x)
        check_shape(
            "grad_hidden(start, stop)", rows, (segment.stop - start, *state_shape(tape)), "(stop - start, B, H)"
        )
        return rows if isinstance(rows, Scaled) else constant(rows)
    steps = slice(segment.start, segment.stop)
    if isinstance(grad_hidden, Scaled):
        mantissa, exponents = mantissa_and_exponents(grad_hidden)
        return Scaled(constant(mantissa[steps]), exponents[steps])
    return constant(grad_hidden[steps])
