"""Oracle: complex-step differentiation, dL/dp = Im L(p + i h) / h  (Squire & Trapp 1998; Martins, Sturdza & Alonso 2003).

L(p + i h) = L(p) + i h L'(p) - h² L''(p)/2 - …: the imaginary part is the derivative, to a relative error of h² L'''/L'
and without a subtraction. With h = 2^-66 ≈ 1e-20 only rounding is left. Nothing is differentiated by hand here, and no
tape is kept: it is the oracles' own forward equations (``equations.py``), on complex numbers.

All entries of a parameter are perturbed in one pass, each in a copy of the network of its own: states are (copies, B,
H).

*Range.* Two things keep the method valid over many steps, and neither uses a derivative. The real part of every copy is
put back on the unperturbed trajectory after each step, for what it differs by is of order h². L' is linear in the direction of the
perturbation. So an imaginary part that has left [2^-300 h, 2^6 h] is brought back to h, its power of two kept apart.

*Limits*, each of which raises ``OutOfRange``: a state that is not finite; a result whose largest entry is no normal
float64; an imaginary part above 1e-8 of max(1, |a|) in front of a curved activation, even with h = 2^-600 (h is made
smaller as long as that helps); an imaginary part that one step takes below 1e-290 or rounds to zero, as where every unit is
saturated (tanh at |a| > 310). That last one is no limit if what has been summed up before is at least 1e40 times as large. Entries
that are far below the largest of their parameter or step are accurate relative to that one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rnn_core.choices import choose
from rnn_core.oracles.activations import ACTIVATIONS, Function, combine
from rnn_core.oracles.equations import CELLS, Cell, State

Arrays = Mapping[str, np.ndarray]

LARGEST_GROWTH, SMALLEST_GROWTH = 2.0**6, 2.0**-300  # an imaginary part between h times these is left as it is
TINY = 1e-290  # a smaller imaginary part loses digits to subnormal numbers before long
LARGEST_SLOPE_STEP = 1e-8  # b² of a relative 1e-16: phi'''(a) b² would show in the last digit
SMALLEST_STEP = 2.0**-600
NEVER = -(2**30)  # the exponent of an imaginary part that was never lost


class OutOfRange(ArithmeticError):
    """No step h gives this derivative in float64: the message says what left the range, and where."""


class _TooLargeAStep(OutOfRange):
    """A smaller h may do."""


@dataclass(frozen=True)
class Derivatives:
    """Total derivatives of L, float64.

    Attributes:
        params: by name, each of its parameter's shape.
        state: dL/d(initial state) by name, each (B, H); empty if it was not asked for.
        steps: the time steps of the arrays below, counted from 0; K of them.
        hidden: dL/dh_t, (K, B, H): through the loss and through step t + 1.
        cell: dL/dc_t, (K, B, H): through h_t and through step t + 1; None for a cell without one.
        x: dL/dx_t, (K, B, D).
        parts: the total derivative by every part of the state by its name, as ``hidden``.
        smallest: what is below it, times the largest of ``grad_hidden`` and ``grad_state`` of its sample, has lost digits to underflow. An
            entry far above it in another sample hides that.
    """

    params: State
    state: State
    steps: tuple[int, ...]
    hidden: np.ndarray
    cell: np.ndarray | None
    x: np.ndarray
    parts: State
    smallest: float


# ---- a network of complex numbers --------------------------------------------------------------------------------------


@dataclass
class _Weights:
    """Real parameters, one of which has an imaginary part: in copy c, ``size[c]`` at (rows[c], columns[c])."""

    values: Arrays
    name: str | None = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    columns: np.ndarray | None = None  # of a matrix
    size: np.ndarray = field(default_factory=lambda: np.zeros(0))
    matrix: Callable[[np.ndarray], np.ndarray] = lambda w: w  # W_hh, from its weights

    def linear(self, kind: str, a: np.ndarray) -> np.ndarray:
        """W a + b, complex (C, B, G·H), or (B, G·H) where nothing in it has copies; ``a`` is (C, B, K) or (B, K).

        Products of real and imaginary parts are written out: a complex BLAS may form (re + im)(re + im) - …, which loses the
        tiny part beside the large one.
        """
        W, b = self.values.get(f"weight_{kind}"), self.values.get(f"bias_{kind}")
        if W is None:  # a cell without W_hh
            out = np.zeros((*a.shape[:-1], len(self.values["weight_ih"])), dtype=np.complex128)
        else:
            W = W if kind == "ih" else self.matrix(W)
            flat = a.reshape(-1, a.shape[-1])
            out = combine(flat.real @ W.T, flat.imag @ W.T).reshape(*a.shape[:-1], -1)
        if b is not None:
            out += b
        if self.name not in (f"weight_{kind}", f"bias_{kind}"):
            return out
        copies = np.arange(len(self.rows))
        out = np.array(np.broadcast_to(out, (len(copies), *out.shape[-2:])))
        if W is not None and self.name == "weight_hh":  # an entry may stand at several places of W_hh
            changed = np.broadcast_to(a, (len(copies), *a.shape[-2:])) @ self._changes(W).swapaxes(1, 2)
            perturbed: np.ndarray = out + 1j * self.size[:, None, None] * changed
            return perturbed
        factor = np.broadcast_to(a, (len(copies), *a.shape[-2:]))[copies, :, self.columns] if self._in_matrix else 1.0
        out[copies, :, self.rows] += 1j * self.size[:, None] * factor
        return out

    def normalised(self, a: np.ndarray) -> np.ndarray:
        """Layer normalisation of complex ``a`` (C, B, H) or (B, H). Mean and variance are sums of products, so derivatives pass through them."""
        c = a - a.mean(axis=-1, keepdims=True)
        n = c / np.sqrt((c * c).mean(axis=-1, keepdims=True) + 1e-5)
        out = n * self.values["weight_ln"] + self.values["bias_ln"]
        if self.name not in ("weight_ln", "bias_ln"):
            return np.asarray(out)
        copies = np.arange(len(self.rows))
        out = np.array(np.broadcast_to(out, (len(copies), *out.shape[-2:])))
        of_gain = self.name == "weight_ln"
        factor = np.broadcast_to(n, out.shape)[copies, :, self.rows].real if of_gain else 1.0
        out[copies, :, self.rows] += 1j * self.size[:, None] * factor
        return out

    def _changes(self, W: np.ndarray) -> np.ndarray:
        """What W_hh changes by for a unit of the entry that each copy has changed, (C, G·H, H)."""
        blank = np.zeros_like(self.values["weight_hh"])
        at_zero, changes = self.matrix(blank), np.empty((len(self.rows), *W.shape))
        for copy, row in enumerate(self.rows):
            one = blank.copy()
            one[row if self.columns is None else (row, self.columns[copy])] = 1.0
            changes[copy] = self.matrix(one) - at_zero
        return changes

    @property
    def _in_matrix(self) -> bool:
        return self.columns is not None


@dataclass
class _Watched:
    """A curved function that sees to it that the method is valid.

    Attributes:
        vanished: which copies (C, B) have lost an imaginary part to underflow since ``vanished`` was last set to None.
    """

    function: Function
    vanished: np.ndarray | None = None

    def __call__(self, z: np.ndarray) -> np.ndarray:
        if (np.abs(z.imag) > LARGEST_SLOPE_STEP * np.maximum(1.0, np.abs(z.real))).any():
            raise _TooLargeAStep("an imaginary part is not small beside the real one: weights or inputs are too large")
        out = self.function(z)
        vanished = ((z.imag != 0) & (np.abs(out.imag) < TINY)).any(axis=-1)
        self.vanished = vanished if self.vanished is None else self.vanished | vanished
        return out


@dataclass
class _ComplexNetwork:
    """A network of perturbed copies, as ``equations.Network`` says; states are (C, B, H).

    Attributes:
        nudge: what is added to c_t and h_t as soon as they are there, so that all that depends on them sees it.
    """

    weights: _Weights
    gates: int
    phi: Function
    gate: Function
    softplus: Function
    options: Mapping[str, float]
    nudge: State

    def linear(self, kind: str, a: np.ndarray) -> np.ndarray:
        return self.weights.linear(kind, a)

    def normalised(self, a: np.ndarray) -> np.ndarray:
        return self.weights.normalised(a)

    def blocks(self, a: np.ndarray) -> list[np.ndarray]:
        return np.split(a, self.gates, axis=-1)

    def seen(self, name: str, value: np.ndarray) -> np.ndarray:
        return value + self.nudge[name] if name in self.nudge else value


# ---- copies and their imaginary parts ----------------------------------------------------------------------------------


@dataclass
class _Copies:
    """C perturbed copies. The true imaginary part is the stored one times 2^exponent, and so is L's, with an exponent of its own.

    Attributes:
        state: each (C, B, H), complex.
        exponent: (C, S), where S is B if the samples of a copy are perturbed apart, and 1 if together.
        loss, loss_exponent: Im L so far, (C, S).
        lost_at: the exponent at which an imaginary part was lost, (C, S); ``NEVER`` where none was.
    """

    state: State
    exponent: np.ndarray
    loss: np.ndarray
    loss_exponent: np.ndarray
    lost_at: np.ndarray

    @classmethod
    def of(cls, state: State, apart: bool) -> _Copies:
        C, B, _ = state["hidden"].shape
        zero = np.zeros((C, B if apart else 1), dtype=np.int64)
        return cls(state, zero, np.zeros(zero.shape), zero.copy(), np.full_like(zero, NEVER))

    def join(self, other: _Copies) -> _Copies:
        """Both, one after the other."""
        state = {name: np.concatenate([self.state[name], other.state[name]]) for name in self.state}
        pairs = [(getattr(self, n), getattr(other, n)) for n in ("exponent", "loss", "loss_exponent", "lost_at")]
        return _Copies(state, *(np.concatenate(pair) for pair in pairs))

    def _largest(self) -> np.ndarray:
        """The largest stored imaginary part of all states, (C, S)."""
        largest = np.max([np.abs(part.imag).max(axis=-1) for part in self.state.values()], axis=0)
        return self._gathered(largest, np.max)

    def _gathered(self, a: np.ndarray, how: Callable[..., np.ndarray]) -> np.ndarray:
        """(C, B) to (C, S)."""
        return a if self.exponent.shape[1] == a.shape[1] else np.asarray(how(a, axis=1, keepdims=True))

    def note_losses(self, vanished: np.ndarray | None) -> None:
        """After a step: which copies have nothing left in range of what was there before it."""
        largest = self._largest()
        gone = largest > 0
        if vanished is not None:
            gone = gone | self._gathered(np.broadcast_to(vanished, (len(gone), vanished.shape[1])), np.any)
        self.lost_at = np.where(gone & (largest < TINY), np.maximum(self.lost_at, self.exponent), self.lost_at)

    def add(self, g: np.ndarray, name: str = "hidden") -> None:
        """L += <g, state>, for g (B, H)."""
        term = self._gathered(np.einsum("cbh,bh->cb", self.state[name].imag, g), np.sum)
        common = np.where(self.loss == 0, self.exponent, np.maximum(self.exponent, self.loss_exponent))
        self.loss = np.ldexp(self.loss, self.loss_exponent - common) + np.ldexp(term, self.exponent - common)
        self.loss_exponent = common

    def settle(self, base: State, h: float, perturbed: bool) -> None:
        """Real parts back on the trajectory, imaginary ones back to about h where they have grown or shrunk too far.

        While a parameter is ``perturbed``, its own imaginary part shares the exponent and must not exceed h.
        """
        largest = self._largest()
        far = (largest > LARGEST_GROWTH * h) | ((largest > 0) & (largest < SMALLEST_GROWTH * h))
        shift = np.where(far, math.frexp(h)[1] - np.frexp(largest)[1].astype(np.int64), 0)
        if perturbed:
            shift = np.minimum(shift, self.exponent)
        self.exponent = self.exponent - shift
        for name, part in self.state.items():
            part.real = base[name]
            if shift.any():
                part.imag = np.ldexp(part.imag, shift[..., None])


# ---- the passes --------------------------------------------------------------------------------------------------------


@dataclass
class _Run:
    """A network, its data, and the unperturbed trajectory: ``base[t]`` is the state before step t, each (B, H)."""

    cell: Cell
    activation: str
    options: Mapping[str, float]
    params: Arrays
    x: np.ndarray
    grad_hidden: np.ndarray
    grad_state: Arrays
    memory: float
    base: list[State]
    h: float = 2.0**-66

    def __post_init__(self) -> None:
        for t in range(len(self.x)):
            before = {name: part[None] for name, part in self.base[t].items()}
            after = self.step(self.weights(), t, before, {}, None)[0]
            self.base.append({name: part[0].real.copy() for name, part in after.items()})
        # What multiplies a perturbation within a step: h is smaller where it is large.
        factors = [*self.params.values(), self.x, *(part for state in self.base for part in state.values())]
        largest = max((float(np.abs(a).max()) for a in factors if a.size), default=1.0)
        if largest > 1.0:
            self.h = max(SMALLEST_STEP, self.h * 2.0 ** -math.frexp(largest)[1])

    def weights(self, name: str | None = None, *entries: np.ndarray | None) -> _Weights:
        """The parameters, one copy an entry of ``name`` with an imaginary part."""

        def matrix(w: np.ndarray) -> np.ndarray:
            return np.asarray(self.cell.matrix(w, self.options))

        rows, columns = entries or (np.zeros(0, dtype=np.int64), None)
        assert rows is not None
        return _Weights(self.params, name, rows, columns, matrix=matrix)

    def step(
        self, w: _Weights, t: int, state: State, nudge: State, x: np.ndarray | None
    ) -> tuple[State, np.ndarray | None]:
        """The state after step t, and which copies lost an imaginary part to underflow; ``x`` instead of x[t]."""
        activation = ACTIVATIONS[self.activation]
        phi, gate, softplus = (_Watched(ACTIVATIONS[name].complex) for name in (self.activation, "sigmoid", "softplus"))
        curved = activation.complex if activation.piecewise_linear else phi
        network = _ComplexNetwork(w, self.cell.gates, curved, gate, softplus, self.options, nudge)
        after = self.cell.step(network, self.x[t] if x is None else x, state)
        if not all(np.isfinite(part).all() for part in after.values()):
            raise OutOfRange(f"a state is not finite at step {t} (counted from 0)")
        flags = [f.vanished for f in (phi, gate, softplus) if f.vanished is not None]
        return after, np.any(np.broadcast_arrays(*flags), axis=0) if flags else None

    def advance(self, copies: _Copies, w: _Weights, t: int) -> None:
        """Step t of all copies; ``settle`` comes before it, so that what the last step has done is in range."""
        copies.settle(self.base[t], self.h, w.name is not None)
        if w.name is not None:
            w.size = np.ldexp(self.h, -copies.exponent[:, 0])
        copies.state, vanished = self.step(w, t, copies.state, {}, None)
        copies.note_losses(vanished)

    def finish(self, copies: _Copies) -> _Copies:
        for name, g in self.grad_state.items():
            copies.add(g, name)
        return copies

    def at_rest(self, t: int, C: int) -> State:
        """C copies of the state before step t, complex (C, B, H)."""
        return {n: np.repeat(part[None].astype(np.complex128), C, axis=0) for n, part in self.base[t].items()}

    def chunk(self, rows: int) -> int:
        """How many copies may be made at once, each with ``rows`` numbers a sample in the widest array of a step."""
        return max(1, int(self.memory / (16 * 16 * self.x.shape[1] * rows)))  # about 16 complex arrays at a time


def _of_parameter(run: _Run, name: str) -> np.ndarray:
    """dL/d``name``, one copy an entry."""
    value = run.params[name]
    chunk = run.chunk(run.cell.gates * run.base[0]["hidden"].shape[1])
    finished = []
    for start in range(0, value.size, chunk):
        entries = np.unravel_index(np.arange(start, min(start + chunk, value.size)), value.shape)
        w = run.weights(name, entries[0], entries[1] if value.ndim == 2 else None)
        copies = _Copies.of(run.at_rest(0, len(entries[0])), apart=False)
        for t in range(len(run.x)):
            run.advance(copies, w, t)
            copies.add(run.grad_hidden[t])
        finished.append(run.finish(copies))
    return _values(run, name, finished).reshape(value.shape)


def _born_at(run: _Run, t: int) -> _Copies:
    """Copies after step t whose x_t, h_t (and c_t) is perturbed, one copy a feature or unit: D + H (+ H).

    All samples of a batch are perturbed at once, for they do not act on each other.
    """
    names, (B, D), H = run.cell.states, run.x.shape[1:], run.base[0]["hidden"].shape[1]
    C = D + len(names) * H
    x = np.repeat(run.x[t][None].astype(np.complex128), C, axis=0)
    x[np.arange(D), :, np.arange(D)] += 1j * run.h
    nudge = {}
    for place, name in enumerate(names):
        nudge[name] = np.zeros((C, B, H), dtype=np.complex128)
        nudge[name][D + place * H + np.arange(H), :, np.arange(H)] = 1j * run.h
    state, vanished = run.step(run.weights(), t, run.at_rest(t, C), nudge, x)
    copies = _Copies.of(state, apart=True)
    copies.note_losses(vanished)
    return copies


def _from_initial_state(run: _Run) -> _Copies:
    """Copies whose initial state is perturbed, one copy a unit of each of its parts."""
    names, H = run.cell.states, run.base[0]["hidden"].shape[1]
    state = run.at_rest(0, len(names) * H)
    for place, name in enumerate(names):
        state[name][place * H + np.arange(H), :, np.arange(H)] += 1j * run.h
    return _Copies.of(state, apart=True)


def _followed(run: _Run, births: Sequence[int]) -> _Copies:
    """The copies born at each of these steps (-1: in the initial state), in that order, followed to the end."""
    copies = _from_initial_state(run) if -1 in births else None
    for t in range(max(0, births[0]), len(run.x)):
        if copies is not None:
            run.advance(copies, run.weights(), t)
        if t in births:
            born = _born_at(run, t)
            copies = born if copies is None else copies.join(born)
        assert copies is not None
        copies.add(run.grad_hidden[t])
    assert copies is not None
    return run.finish(copies)


def _values(run: _Run, where: str, perturbed: Sequence[_Copies]) -> np.ndarray:
    """Im L / h of all copies, (C, S), as plain floats.

    Raises:
        OutOfRange: the largest of them is no normal number, or is not far above what was lost to underflow.
    """
    loss, exponent, lost_at = (
        np.concatenate([getattr(copies, name) for copies in perturbed]) for name in ("loss", "loss_exponent", "lost_at")
    )
    if not np.isfinite(loss).all():
        raise OutOfRange(f"{where}: the loss is not finite")
    exponents = np.where(loss != 0, np.frexp(loss)[1] + exponent, NEVER)
    largest, from_step = int(exponents.max()), math.frexp(run.h)[1] - 1
    if lost_at.max() > NEVER and largest < lost_at.max() + math.log2(TINY * 1e40):
        raise OutOfRange(f"{where}: its imaginary part is lost to underflow")
    if largest > NEVER and not -1021 <= largest - from_step <= 1024:
        raise OutOfRange(f"{where}: about 2^{largest - from_step}, which is no normal float64")
    return np.asarray(np.ldexp(loss, exponent - from_step))


def _of_states(run: _Run, steps: Sequence[int], initial: bool) -> tuple[State, dict[str, np.ndarray]]:
    """Derivatives by the initial state, each (B, H); and by x, hidden (and cell) at ``steps``, each (K, B, …)."""
    names, (B, D), H = run.cell.states, run.x.shape[1:], run.base[0]["hidden"].shape[1]
    widths = {"x": D, **dict.fromkeys(names, H)}
    first: State = {}
    derivatives = {name: np.zeros((len(steps), B, width)) for name, width in widths.items()}
    births = [*([-1] if initial else []), *sorted(steps)]
    chunk = max(1, run.chunk(run.cell.gates * H) // sum(widths.values()))
    for start in range(0, len(births), chunk):
        group = births[start : start + chunk]
        copies, start_row = _followed(run, group), 0
        for t in group:
            for name in names if t == -1 else widths:
                rows = slice(start_row, start_row + widths[name])
                start_row += widths[name]
                where = f"initial {name}" if t == -1 else f"{name} at step {t} (counted from 0)"
                value = _values(run, where, [_selected(copies, rows)]).T
                if t == -1:
                    first[name] = value
                else:
                    derivatives[name][steps.index(t)] = value
    return first, derivatives


def _selected(copies: _Copies, rows: slice) -> _Copies:
    """Some of the copies; the states are not needed any more."""
    return _Copies({}, copies.exponent[rows], copies.loss[rows], copies.loss_exponent[rows], copies.lost_at[rows])


# ---- public ------------------------------------------------------------------------------------------------------------


def complex_step_gradients(
    cell: str,
    activation: str,
    params: Arrays,
    x: np.ndarray,
    grad_hidden: np.ndarray,
    state: Arrays | None = None,
    grad_state: Arrays | None = None,
    options: Mapping[str, float] | None = None,
    steps: Sequence[int] | None = None,
    initial: bool = True,
    memory: float = 1e8,
) -> Derivatives:
    """All derivatives of L = Σ_t <grad_hidden[t], h_t> + Σ_name <grad_state[name], final state[name]>.

    Args:
        cell: a row of ``equations.CELLS``; ``activation``: a row of ``activations.ACTIVATIONS``. Gates are sigmoids.
        params: ``weight_ih`` (G·H, D), ``weight_hh`` (G·H, H), ``bias_ih`` and ``bias_hh`` (G·H) or neither or one of them,
            with torch.nn's gate order.
        x: (T, B, D).
        grad_hidden: (T, B, H).
        state: the initial ``hidden`` (and ``cell``), each (B, H); what is not given is zero.
        grad_state: as ``state``, of the final one.
        options: of the residual cell: ``step`` (1) and ``leak`` (0).
        steps: the time steps, counted from 0, at which x, h (and c) are differentiated; None for all, which costs T²/2 steps.
        initial: whether to differentiate by the initial state, which may be out of range where nothing else is.
        memory: about how many bytes the copies of one pass may take.

    Raises:
        ValueError: a name, a shape or a step that does not fit.
        OutOfRange: see the limits at the top of this module.
    """
    row = choose("cell", cell, CELLS)
    choose("activation", activation, ACTIVATIONS)
    plain = {name: np.asarray(value, dtype=np.float64) for name, value in params.items()}
    x, grad_hidden = np.asarray(x, dtype=np.float64), np.asarray(grad_hidden, dtype=np.float64)
    chosen = tuple(range(len(x))) if steps is None else tuple(steps)
    _check_shapes(row, plain, x, grad_hidden, chosen)
    shape = grad_hidden.shape[1:]
    start = {name: np.zeros(shape) for name in row.states} | _states(row, state, shape)
    settings = dict(row.options)
    for name, number in (options or {}).items():
        choose("option", name, row.options)
        settings[name] = number
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # what is not finite raises OutOfRange
        end = _states(row, grad_state, shape)
        run = _Run(row, activation, settings, plain, x, grad_hidden, end, memory, [start])
        while True:
            try:
                by_parameter = {name: _of_parameter(run, name) for name in plain}
                first, at_steps = _of_states(run, chosen, initial)
                parts = {name: at_steps[name] for name in row.states}
                dh, dc, dx = parts["hidden"], parts.get("cell"), at_steps["x"]
                return Derivatives(by_parameter, first, chosen, dh, dc, dx, parts, TINY / run.h)
            except _TooLargeAStep:
                if run.h <= SMALLEST_STEP:
                    raise
                run.h = max(SMALLEST_STEP, run.h * 2.0**-60)


def _states(row: Cell, given: Arrays | None, shape: tuple[int, ...]) -> State:
    """``given`` in float64; ValueError for a part that the cell does not have or that is not (B, H)."""
    states = {}
    for name, value in (given or {}).items():
        choose("state", name, dict.fromkeys(row.states))
        states[name] = np.asarray(value, dtype=np.float64)
        if states[name].shape != shape:
            raise ValueError(f"state {name}: {states[name].shape}, expected {shape}")
    return states


def _check_shapes(row: Cell, params: Arrays, x: np.ndarray, grad_hidden: np.ndarray, steps: tuple[int, ...]) -> None:
    if x.ndim != 3 or grad_hidden.ndim != 3 or x.shape[:2] != grad_hidden.shape[:2] or not len(x):
        raise ValueError(f"x {x.shape} and grad_hidden {grad_hidden.shape}: expected (T, B, D) and (T, B, H), T ≥ 1")
    rows, H = row.gates * grad_hidden.shape[2], grad_hidden.shape[2]
    expected = {
        "weight_ih": (rows, x.shape[2]),
        "bias_ih": (rows,),
        "bias_hh": (rows,),
        **dict.fromkeys(row.own, (H,)),
    }
    recurrent = row.weights(row.gates, H)
    if recurrent is not None:
        expected["weight_hh"] = recurrent
    for name in dict.fromkeys([*(name for name in expected if name not in ("bias_ih", "bias_hh")), *params]):
        if name not in params or params[name].shape != choose("parameter", name, expected):
            shape = params[name].shape if name in params else "missing"
            raise ValueError(f"parameter {name}: {shape}, expected {expected.get(name)}")
    if len(set(steps)) < len(steps) or not all(0 <= t < len(x) for t in steps):
        raise ValueError(f"steps {steps}: expected different numbers from 0 to {len(x) - 1}")
