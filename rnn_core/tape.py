"""What a forward pass leaves for the backward pass: everything, or checkpoints from which it is computed again.

Time is cut into segments of about √T steps. A tape that fits its memory budget keeps every step; another keeps the state at the
start of each segment, and runs a segment again when it is needed. That takes O(√T) memory and one more forward pass (Chen et al.
2016, section 3). Sums over time are taken segment by segment in both, so that both give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_core import compiled
from rnn_core.arrays import Array, Params, State, dtype_name, namespace, to_numpy
from rnn_core.cells.base import BadStep, Cell
from rnn_core.choices import no_such_attribute, unknown
from rnn_core.compiled.kept import KeptSteps
from rnn_core.compiled.memory import empty_aligned
from rnn_core.scaling import (
    WINDOW,
    Scaled,
    all_finite,
    at_first_sound_scale,
    common_exponent,
    exponent_or_zero,
    exponents_of,
    flags_raise,
    plain,
    plain_if_fits,
    times_power_of_two,
)

SHORTEST_SEGMENT = 128  # steps; shorter ones would make the products over time and batch too small to be fast


@dataclass(frozen=True)
class Segment:
    """Steps start + 1 … stop, samples as columns.

    Attributes:
        states: by name the states before the first step and after each, (steps + 1, H, B).
        exponent: of those states, int64 (steps + 1,); their value is what is stored times 2**exponent.
        saved: one entry a step, as the cell's forward returned it; where the fast path ran, an array (steps, H, B) of a_t, or of
            a gated cell ``KeptSteps``.
    """

    start: int
    stop: int
    states: dict[str, Array]
    exponent: np.ndarray
    saved: list[Any] | np.ndarray | KeptSteps

    @property
    def hidden(self) -> Array:
        """h_t after each step, (steps, B, H); ``Scaled`` where plain floats do not hold them. Of other states the first part."""
        return self.after(next(iter(self.states)))

    def after(self, name: str) -> Array:
        """One part of the state after each step, (steps, B, H)."""
        return plain_if_fits(swap(self.states[name][1:]), self.exponent[1:])


@dataclass(frozen=True, eq=False, repr=False)
class Tape:
    """What ``forward`` returns.

    Attributes:
        x: the inputs, (T, B, D).
        state: the final state by name, each (B, H); ``Scaled`` where plain floats do not hold it.
        memory_budget: bytes that states may take; None is no limit.
        shapes: the shape of every part of one sample's state, by name.
        x_exponent: int64 (T,) where the inputs are ``Scaled``: x_t is what is stored times 2**x_exponent[t]. Otherwise None.
    """

    cell: Cell
    params: Params
    x: Array
    state: dict[str, Array | Scaled]
    memory_budget: int | None
    checkpoints: list[tuple[State, int]]
    kept: Segment | None
    shapes: dict[str, tuple[int, ...]]
    x_exponent: np.ndarray | None = None

    def __getattr__(self, name: str) -> Any:
        raise no_such_attribute(
            "Tape", name, {"{}": ["hidden", "states", *vars(self)], "params[{!r}]": list(vars(self).get("params", ()))}
        )

    def __repr__(self) -> str:
        (T, B, D), H = (
            self.x.shape,
            ", ".join("×".join(map(str, shape)) for shape in dict.fromkeys(self.shapes.values())),
        )
        keeps = "every step" if self.kept else f"a checkpoint every {segment_length(T)} steps"
        return f"Tape({self.cell!r}, T={T}, B={B}, D={D}, H={H}, {dtype_name(self.x)}, keeps {keeps})"

    @property
    def hidden(self) -> Array:
        """h_1 … h_T, (T, B, H); ``Scaled`` where plain floats do not hold them. Of a state with other names its first part."""
        return self.states(self.cell.state_names[0])

    def states(self, name: str) -> Array:
        """One part of the state after every step, ``hidden`` or an LSTM's ``cell``, (T, B, H) or as the part is shaped; a copy.

        Raises:
            ValueError: the cell's state has no such part.
        """
        if name not in self.cell.state_names:
            raise ValueError(unknown("states", name, self.cell.state_names))
        whole = self.shaped(name, self._whole().after(name))
        return whole if isinstance(whole, Scaled) else namespace(whole).asarray(whole, copy=True)

    def shaped(self, name: str, rows: Array | Scaled) -> Array | Scaled:
        """(…, B, rows) of one part of the state as (…, B, *its shape)."""
        shape = self.shapes[name]
        if len(shape) == 1:
            return rows
        if isinstance(rows, Scaled):
            return Scaled(self.shaped(name, rows.mantissa), rows.exponent)
        return namespace(rows).reshape(rows, (*rows.shape[:-1], *shape))

    def prefix(self, T: int) -> Tape | None:
        """The tape of the first T steps, as views, bit for bit what ``forward`` would return.

        None where that cannot be promised: this tape is not kept whole, a shorter sequence would be cut into other segments, or
        states leave the range of plain floats.
        """
        whole = self.kept
        if whole is None or self.memory_budget is not None or whole.exponent.any() or self.x_exponent is not None:
            return None
        if segment_length(T) != segment_length(self.x.shape[0]):
            return None
        kept, xp = part_of(whole, 0, T), namespace(self.x)
        state = {name: xp.asarray(part[-1].T, copy=True) for name, part in kept.states.items()}
        return Tape(self.cell, self.params, self.x[:T], state, None, self.checkpoints, kept, self.shapes)

    @property
    def inputs(self) -> Array | Scaled:
        """x (T, B, D) as ``forward`` was given it."""
        return self.x if self.x_exponent is None else Scaled(self.x, self.x_exponent)

    @property
    def start(self) -> tuple[State, int]:
        """The initial state, as columns times 2**exponent."""
        if self.kept is None:
            return self.checkpoints[0]
        return {name: part[0] for name, part in self.kept.states.items()}, int(self.kept.exponent[0])

    @property
    def saved(self) -> list[Any]:
        """What the cell saved at every step."""
        return list(self._whole().saved)

    @property
    def first_nonfinite_step(self) -> int | None:
        """The first t = 1 … T whose state plain floats do not hold; None where they hold all. (Beyond the range the states of
        a homogeneous cell are still exact, as ``Scaled``; those of other cells are inf or nan.)"""
        xp = namespace(self.x)
        for segment in self.segments():
            for name in segment.states:
                finite = to_numpy(xp.all(xp.isfinite(plain(segment.after(name))), axis=(1, 2)))
                if not finite.all():
                    return segment.start + int(np.argmin(finite)) + 1
        return None

    def segments(self, backward: bool = False, several: bool = False) -> Iterator[Segment]:
        """The segments in order, or last first; computed again where they were not kept. ``several``: some as one where they were."""
        T, length = self.x.shape[0], segment_length(self.x.shape[0])
        length *= 8 if several and self.kept is not None else 1
        for start in sorted(range(0, T, length), reverse=backward):
            stop = min(start + length, T)
            if self.kept is None:
                state, exponent = self.checkpoints[start // length]
                segment = run_segment(self.cell, self.params, self.x, start, stop, state, exponent, self.x_exponent)
                if self.cell.opaque:
                    self._require_repeated(segment, start // length + 1)
                yield segment
            else:
                yield part_of(self.kept, start, stop)

    def _require_repeated(self, segment: Segment, following: int) -> None:
        """ValueError where the steps of an opaque cell, taken again, lead elsewhere than they did, to checkpoint ``following``."""
        known = (
            self.checkpoints[following][0]
            if following < len(self.checkpoints)
            else {name: namespace(part).reshape(part, (part.shape[0], -1)).T for name, part in self.state.items()}
        )
        try:
            self.cell.require_repeated({name: part[-1] for name, part in segment.states.items()}, known)
        except BadStep as bad:
            raise ValueError(
                f"the cell {self.cell.name!r} between the steps t = {segment.start + 1} and {segment.stop} {bad}"
            ) from None

    def _whole(self) -> Segment:
        return self.kept or joined(list(self.segments()))


def segment_length(T: int) -> int:
    """Steps in a segment: about √T, so that as many checkpoints are kept as steps are run again at a time."""
    return max(SHORTEST_SEGMENT, math.isqrt(T - 1) + 1)


def pieces(steps: int, entries: int, most: int = 2**13) -> Iterator[slice]:
    """Steps in order, as many at a time as have ``most`` entries: larger arrays come from the system page by page."""
    length = max(1, most // entries)
    yield from (slice(start, min(start + length, steps)) for start in range(0, steps, length))


def run_whole_compiled(cell: Cell, params: Params, x: Array, state: State, exponent: int) -> Segment | None:
    """All steps at once by compiled steps, without copying segments together. None where they cannot, or where states of a
    homogeneous cell are not finite: ``run_segment`` then decides. The bits are those of one segment after the other."""
    if not compiled.covers(cell, x):
        return None
    try:
        return _by_compiled_steps(cell, params, x, 0, x.shape[0], state, exponent)
    except FloatingPointError:
        return None


def run_segment(
    cell: Cell,
    params: Params,
    x: Array,
    start: int,
    stop: int,
    state: State,
    exponent: int,
    x_exponent: np.ndarray | None = None,
) -> Segment:
    """The steps from ``start`` to ``stop`` forward from ``state * 2**exponent`` (columns).

    It decides on the range: a homogeneous cell whose states leave that of plain floats is run again with an exponent apart. So is
    one whose inputs have exponents, ``Tape.x_exponent``.
    """
    with np.errstate(all="ignore"):  # what is not finite is reported by its step
        if x_exponent is not None:
            return _with_exponents(cell, params, x, start, stop, state, exponent, x_exponent)
        try:
            with flags_raise() if cell.homogeneous else np.errstate():
                if compiled.covers(cell, x):
                    return _by_compiled_steps(cell, params, x, start, stop, state, exponent)
                if exponent == 0:
                    segment = _by_readable_steps(cell, params, x, start, stop, state)
                    if not cell.homogeneous or _in_range(segment.states["hidden"]):
                        return segment
        except FloatingPointError:
            pass
        return _with_exponents(cell, params, x, start, stop, state, exponent)


def _by_readable_steps(cell: Cell, params: Params, x: Array, start: int, stop: int, state: State) -> Segment:
    """The textbook loop forward: rnn_core/README.md, sections 1 and 2."""
    if cell.opaque:
        return _by_opaque_steps(cell, params, x, start, stop, state)
    u = params["weight_ih"] @ swap(x[start:stop])  # u_t = W_ih x_t + b_ih for all t at once, (steps, G·H, B)
    if "bias_ih" in params:
        u = u + params["bias_ih"][:, None]
    xp, steps = namespace(u), u.shape[0]
    states = {name: xp.empty((steps + 1, *part.shape), dtype=u.dtype, device=u.device) for name, part in state.items()}
    saved, now = [], state
    for t in range(steps):
        _store(states, t, now)
        now, kept = cell.forward(params, u[t], now)  # h_t from u_t and h_{t-1}
        saved.append(kept)
    _store(states, steps, now)
    return Segment(start, stop, states, np.zeros(steps + 1, dtype=np.int64), saved)


def _by_opaque_steps(cell: Cell, params: Params, x: Array, start: int, stop: int, state: State) -> Segment:
    """The same by steps of which nothing is known but their program: what they are given is x_t and the state, as it is stored."""
    xp, steps = namespace(x), stop - start
    blank = {name: xp.empty((steps + 1, *part.T.shape), dtype=x.dtype, device=x.device) for name, part in state.items()}
    states, saved = {name: swap(part) for name, part in blank.items()}, []
    _store(states, 0, state)
    with cell.holding(params):
        for t in range(steps):
            try:
                after, kept = cell.forward(params, x[start + t].T, {name: part[t] for name, part in states.items()})
            except BadStep as bad:
                raise at_step(cell, start + t, bad) from bad.__cause__
            _store(states, t + 1, after)
            saved.append(kept)
    return Segment(start, stop, states, np.zeros(steps + 1, dtype=np.int64), saved)


def at_step(cell: Cell, t: int, bad: BadStep) -> ValueError:
    """What to raise where step t + 1 is not what a step has to be."""
    return ValueError(f"the cell {cell.name!r} at step t = {t + 1} {bad}")


def _by_compiled_steps(
    cell: Cell, params: Params, x: Array, start: int, stop: int, state: State, exponent: int
) -> Segment:
    """The same in C, at any size of a homogeneous cell's states. FloatingPointError where those are not finite."""
    steps, (H, B) = stop - start, state["hidden"].shape
    states = {name: empty_aligned((steps + 1, H, B), x.dtype) for name in cell.state_names}
    for name, part in state.items():
        states[name][0] = part
    exponents, kept = np.zeros(steps + 1, np.int64), empty_aligned((steps, compiled.kept_rows(cell, H), B), x.dtype)
    exponents[0] = exponent
    compiled.run_forward(cell, params, x[start:stop], states, exponents, kept)
    saved = kept if kept.shape[1] == H else KeptSteps(cell, kept, states)
    return Segment(start, stop, states, exponents, saved)


def _with_exponents(
    cell: Cell,
    params: Params,
    x: Array,
    start: int,
    stop: int,
    state: State,
    exponent: int,
    x_exponent: np.ndarray | None = None,
) -> Segment:
    """The same with an exponent apart: phi(2^e a) = 2^e phi(a), so inputs and biases need only be scaled as h_{t-1} is."""
    xp, steps, h, e = namespace(x), stop - start, state["hidden"], exponent
    hidden = xp.empty((steps + 1, *h.shape), dtype=x.dtype, device=x.device)
    exponents, saved = np.zeros(steps + 1, dtype=np.int64), []
    blank = xp.zeros_like(params["weight_ih"][:, 0])
    b_ih, b_hh = (params.get(name, blank) for name in ("bias_ih", "bias_hh"))
    e_W = exponent_or_zero(params["weight_ih"])
    W_ih = times_power_of_two(params["weight_ih"], -e_W)
    for t in range(steps):
        hidden[t], exponents[t] = h, e
        e_x = exponent_or_zero(x[start + t])
        own = 0 if x_exponent is None else int(x_exponent[start + t])
        product = W_ih @ times_power_of_two(x[start + t].T, -e_x), e_x + e_W + own  # W_ih x_t, apart from its exponent
        usual = common_exponent((h, e), product, (b_ih, 0), (b_hh, 0))

        def step(
            shift: int, h: Array = h, e: int = e, u: tuple[Array, int] = product, usual: int = usual
        ) -> tuple[State, Any]:
            common = usual - shift
            u_t = times_power_of_two(u[0], u[1] - common) + times_power_of_two(b_ih, -common)[:, None]
            scaled = {**params, "bias_hh": times_power_of_two(b_hh, -common)}
            return cell.forward(scaled, u_t, {"hidden": times_power_of_two(h, e - common)})

        (now, kept), shift = at_first_sound_scale(step, _hidden, _sound, x)
        saved.append(kept)
        h, e = now["hidden"], usual - shift
    hidden[steps], exponents[steps] = h, e
    return Segment(start, stop, {"hidden": hidden}, exponents, saved)


def _hidden(outcome: tuple[State, Any]) -> list[Array]:
    return [outcome[0]["hidden"]]


def _sound(outcome: tuple[State, Any]) -> bool:
    return isinstance(outcome[0]["hidden"], np.ndarray) or all_finite(*_hidden(outcome))


def _in_range(h: Array) -> bool:
    """Whether states h_0, h_1, … (steps + 1, H, B) have neither overflowed nor come near underflow."""
    exponents = exponents_of(h)  # nan where a state is zero
    zero = np.isnan(exponents)
    vanished = zero[1:] & ~zero[:-1]
    return all_finite(h) and not (exponents < -2 * WINDOW[dtype_name(h)]).any() and not vanished.any()


def joined(segments: list[Segment]) -> Segment:
    """Segments that follow each other as one."""
    first, xp = segments[0], namespace(next(iter(segments[0].states.values())))
    if len(segments) == 1:
        return first

    def whole(parts: list[Any], join: Any) -> Any:
        return join([part[:-1] for part in parts[:-1]] + parts[-1:])

    states = {name: whole([s.states[name] for s in segments], xp.concat) for name in first.states}
    return Segment(
        first.start, segments[-1].stop, states, whole([s.exponent for s in segments], np.concatenate), _saved_of(segments, states)
    )  # fmt: skip


def _saved_of(segments: list[Segment], states: State) -> list[Any] | KeptSteps:
    """What segments saved, as one; ``states`` are theirs as one."""
    saved = [s.saved for s in segments]
    if isinstance(saved[0], KeptSteps):
        return KeptSteps(saved[0].cell, np.concatenate([s.rows for s in saved if isinstance(s, KeptSteps)]), states)
    return [kept for of_segment in saved for kept in of_segment]


def part_of(whole: Segment, start: int, stop: int) -> Segment:
    """Its steps start + 1 … stop, counted within it, as views."""
    states = {name: part[start : stop + 1] for name, part in whole.states.items()}
    return Segment(
        whole.start + start, whole.start + stop, states, whole.exponent[start : stop + 1], whole.saved[start:stop]
    )


def _store(states: dict[str, Array], t: int, now: State) -> None:
    for name, part in now.items():
        states[name][t] = part


def nbytes(segment: Segment) -> int:
    """Bytes that the segment's arrays take."""
    if isinstance(segment.saved, KeptSteps):
        return sum(a.nbytes for a in [*segment.states.values(), segment.saved.rows])
    saved = [a for kept in segment.saved for a in (kept if isinstance(kept, tuple) else (kept,))]
    return sum(a.nbytes for a in [*segment.states.values(), *saved])


def swap(x: Array) -> Array:
    """(T, B, rows) <-> (T, rows, B), a view."""
    return namespace(x).matrix_transpose(x)
