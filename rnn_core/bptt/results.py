"""What a backward pass returns: ``Gradients``, and ``Results``, which collects them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from rnn_core.arrays import Array, dtype_name, namespace
from rnn_core.bptt.signal import Signal
from rnn_core.bptt.steps import BackwardPass, Taken
from rnn_core.bptt.weights import Totals, WeightShares, weight_shares
from rnn_core.choices import ByName, no_such_attribute, no_such_name
from rnn_core.compiled.memory import empty_aligned
from rnn_core.formats import lost_fractions
from rnn_core.quantiles import LEVELS, EntryQuantiles, entry_quantiles
from rnn_core.scaling import (
    LN2,
    LN10,
    Scaled,
    add,
    described_shape,
    log_norms_of_columns,
    mantissa_and_exponents,
    plain_if_fits,
)
from rnn_core.tape import Tape, pieces, swap

LARGEST_PIECE = 2**16  # entries that are looked at together


@dataclass(frozen=True, eq=False, repr=False)
class GoingBack:
    """Of the gradient that goes back through time, step by step.

    Attributes:
        log_norm: ln of its norm over the batch, float64 (T,).
        find_samples, find_lost, find_quantiles: compute ``log_norm_samples`` and so on when they are first asked for.
    """

    log_norm: np.ndarray
    find_samples: Callable[[], np.ndarray]
    find_lost: Callable[[], dict[str, np.ndarray]]
    find_quantiles: Callable[[], EntryQuantiles]

    @cached_property
    def log_norm_samples(self) -> np.ndarray:
        """ln of the norm of each sample, (T, B)."""
        return self.find_samples()

    @cached_property
    def lost(self) -> dict[str, np.ndarray]:
        """What narrower formats would lose of its entries, each (T,)."""
        return self.find_lost()

    @cached_property
    def entry_quantiles(self) -> EntryQuantiles:
        """How large its entries are."""
        return self.find_quantiles()

    @classmethod
    def of_two(cls, output: GoingBack, memory: GoingBack) -> GoingBack:
        """Of an output and of a memory: norms of both together; entries of the memory, and of the output where those are all zero."""
        zero = np.isneginf(memory.log_norm)

        def lost() -> dict[str, np.ndarray]:
            return {name: np.where(zero, output.lost[name], own) for name, own in memory.lost.items()}

        def quantiles() -> EntryQuantiles:
            a, b = output.entry_quantiles, memory.entry_quantiles
            return EntryQuantiles(b.levels, np.where(zero[:, None], a.log2, b.log2), np.where(zero, a.zero, b.zero))

        def samples() -> np.ndarray:
            return _joint(output.log_norm_samples, memory.log_norm_samples)

        return cls(_joint(output.log_norm, memory.log_norm), samples, lost, quantiles)


def _joint(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """ln √(e^{2a} + e^{2b})."""
    with np.errstate(invalid="ignore"):
        return np.asarray(0.5 * np.logaddexp(2.0 * a, 2.0 * b))


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
        log_norms: ln ‖dL/d(part)_t‖ of every part of the state by its name, each as ``log_norm``, which is that of the first.
        parts: dL/d(part)_t by name, each (T, B, …), found when it is asked for; ``hidden`` is the first.
        careful_steps: how many of the T steps were taken layer by layer, which is slow. Their entries of one sample lay too far
            apart for one exponent, or were not finite.
        find_lost, find_log_norm_samples, find_weight_shares, find_entry_quantiles: compute ``lost`` and so on when they are first asked
            for. Until then gradients hold on to their tape.
        find_going_back: ``going_back`` of a state whose first part acts on no later step.
        find_totals: dL/dstate_t of all steps as the engine keeps them, with their exponents.
        find_alone: one sample by itself, as its tape and gradients.

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
    log_norms: dict[str, np.ndarray] = field(default_factory=dict)
    parts: Mapping[str, Array | Scaled] = field(default_factory=dict)
    careful_steps: int = 0
    find_lost: Callable[[], dict[str, np.ndarray]] = dict
    find_log_norm_samples: Callable[[], np.ndarray] = lambda: np.empty((0, 0))
    find_weight_shares: Callable[[tuple[str, ...]], WeightShares] = lambda names: _unknown("weight_shares")
    find_entry_quantiles: Callable[[], EntryQuantiles] = lambda: _unknown("entry_quantiles")
    find_totals: Callable[[], Iterable[Totals]] = lambda: _unknown("find_totals")
    find_going_back: Callable[[], GoingBack] | None = None
    find_alone: Callable[[int], tuple[Tape, Gradients]] = lambda sample: _unknown("find_alone")

    @cached_property
    def lost(self) -> dict[str, np.ndarray]:
        """What float32, bfloat16 and float16 would lose of ``hidden`` at each step (``formats.lost``), each float64 (T,).

        Found when it is asked for: training looks at it only where a trace is recorded.
        """
        return self.find_lost()

    @cached_property
    def log_norm_samples(self) -> np.ndarray:
        """ln ‖dL/dh_t^(b)‖ of each sample over its units, float64 (T, B); -inf where it is exactly zero.

        A sample far below the largest of its step is right too: with NumPy always, with torch down to the smallest number of the
        dtype. Found when it is asked for, as ``lost`` is.
        """
        return self.find_log_norm_samples()

    @cached_property
    def weight_shares(self) -> WeightShares:
        """Which step writes ``params["weight_hh"]``: of every step's contribution its norm, and its cosine with the sum.

        Of a user's module it is about all of its parameters, side by side; ``weight_shares_of`` picks some.

        Found when it is asked for, from ``hidden``; where a memory budget had no room for that, by one more backward pass. (A direct part
        that is a function is then called once more.)
        """
        return self.find_weight_shares(())

    def weight_shares_of(self, *names: str) -> WeightShares:
        """``weight_shares`` of some parameters of a user's module, side by side. Of other cells ``weight_hh`` is the only one.

        Raises:
            ValueError: a name is not that of such a parameter.
        """
        return self.find_weight_shares(names)

    @cached_property
    def entry_quantiles(self) -> EntryQuantiles:
        """How large the entries of dL/dh_t are at every step: quantiles of log2 of their magnitudes, exact beyond float range.

        Found when it is asked for, as ``weight_shares`` is.
        """
        return self.find_entry_quantiles()

    @cached_property
    def going_back(self) -> GoingBack:
        """How large the gradient is that goes back through time.

        It is that of h_t. In a state of a user's own, h_t may be an output that acts on no later step. Then it is that of h_t and of the
        first part that does, together.
        """
        if self.find_going_back is not None:
            return self.find_going_back()
        return GoingBack(self.log_norm, lambda: self.log_norm_samples, lambda: self.lost, lambda: self.entry_quantiles)

    def __getattr__(self, name: str) -> Any:
        own = vars(self)
        places = {f"{of}[{{!r}}]": list(own.get(of, ())) for of in ("params", "state")}
        raise no_such_attribute("Gradients", name, {"{}": list(own), **places})

    def __repr__(self) -> str:
        """Sizes, shapes, and between what the norms of dL/dh_t lie."""
        initial = next(iter(self.state.values()))
        of_steps = {**(self.parts or {"hidden": self.hidden, "cell": self.cell}), "x": self.x}
        lines = {
            "params": ", ".join(f"{name} {described_shape(value)}" for name, value in self.params.items()),
            "steps": ", ".join(
                f"{name} {'not kept' if isinstance(value, NotKept) else described_shape(value)}"
                for name, value in of_steps.items()
                if value is not None
            ),
            "state": ", ".join(f"{name} {described_shape(value)}" for name, value in self.state.items()),
            "log10 ‖dL/dh_t‖": _described_norms(self.log_norm),
        }
        B, *units = initial.shape
        H = "×".join(str(n) for n in units)
        sizes = f"T={len(self.log_norm)}, B={B}, H={H}, {dtype_name(mantissa_and_exponents(initial)[0])}"
        return "\n".join([f"Gradients({sizes}", *(f"  {name}: {text}" for name, text in lines.items())]) + ")"


class _WhenAsked:
    """An attribute that may be given as ``_Later``, and is then found when it is first asked for.

    Plain or ``Scaled`` is decided over all steps; most callers ask for norms and parameter gradients alone.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, gradients: Gradients | None, owner: type) -> Any:
        if gradients is None:
            return self
        value = gradients.__dict__[self._name]
        if isinstance(value, _Later):
            value = gradients.__dict__[self._name] = value.find()
        return value

    def __set__(self, gradients: Gradients, value: Any) -> None:
        gradients.__dict__[self._name] = value


class _Later:
    """A value that is found when it is first asked for, and then kept."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find: Callable[[], Any] | None = find
        self._found: Any = None

    def find(self) -> Any:
        if self._find is not None:
            self._found, self._find = self._find(), None
        return self._found


for _name in ("hidden", "x", "cell"):
    setattr(Gradients, _name, _WhenAsked(_name))


class _Parts(Mapping[str, Any]):
    """Arrays by name, each found when it is first asked for."""

    def __init__(self, arrays: dict[str, _Later]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> Any:
        if name not in self._arrays:
            raise no_such_name(name, self._arrays)
        return self._arrays[name].find()

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)


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

    def __repr__(self) -> str:
        return f"NotKept({self._name!r}: more than the tape's memory_budget holds)"


class Results:
    """Collects what the steps of a backward pass give, whichever way they were taken.

    Attributes:
        kept: by name dL/dstate_t and dL/dx_t of every step, (T, rows, B); empty where a memory budget cannot hold them.

    Args:
        once_more: takes all steps again, where they are not kept, for dL/dstate_t.
        alone: both passes of one sample by itself.
    """

    def __init__(
        self,
        back: BackwardPass,
        once_more: Callable[[], Iterable[Totals]],
        alone: Callable[[int], tuple[Tape, Gradients]],
    ) -> None:
        tape, names = back.tape, back.tape.cell.state_names
        T, B = tape.x.shape[:2]
        self._keeps, self._tape, self._main = back.keeps, tape, names[0]
        self._looked_at = tape.cell.measured
        self._once_more, self._alone = once_more, alone
        self._exponent = {name: np.zeros(T, dtype=np.int64) for name in (*names, "x")}
        self._log_norm = {name: np.full(T, -np.inf) for name in (*names, "immediate")}
        self._sums: dict[str, Array | Scaled] = ByName()
        # by step: ln of the norm of every sample, of the last part that is looked at, where one exponent does not hold its entries
        self._samples: dict[int, np.ndarray] = {}
        self._careful = 0
        self._lost: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in self._looked_at}
        self._log_norm_samples: dict[str, list[np.ndarray]] = {name: [] for name in self._looked_at}
        self.kept = {name: empty_like(tape.x, (T, rows, B)) for name, rows in back.rows.items()} if back.keeps else {}

    def add_direct_part(self, start: int, log_norm: np.ndarray) -> None:
        """The norms of the direct parts of steps from ``start`` on."""
        self._log_norm["immediate"][start : start + len(log_norm)] = log_norm

    def add(self, taken: Taken) -> None:
        """What some steps gave."""
        start, steps = taken.start, slice(taken.start, taken.start + taken.number)
        for name, norms in taken.log_norm.items():
            self._log_norm[name][steps] = norms
        for name, exponent in taken.exponent.items():
            self._exponent[name][steps] = exponent
        for name, columns in taken.columns.items() if self._keeps else ():
            self.kept[name][steps] = columns
        self._samples |= taken.log_norm_samples
        self._careful += taken.careful
        for part, shares in taken.shares:
            for name, share in shares.items():
                self._sums[name] = add(self._sums[name], share) if name in self._sums else share
            if not self._keeps:  # now or never
                self._look(start + part.start, {name: taken.columns[name][part] for name in self._looked_at})

    def _look(self, start: int, parts: dict[str, Array]) -> None:
        """Notes what is wanted of dL/dh_t, (steps, H, B), where it is not kept."""
        for name, columns in parts.items():
            exponent = self._exponent[name][start : start + columns.shape[0]]
            self._lost[name].append(lost_fractions(columns, exponent))
            norms = _log_norms_of_samples(columns, exponent, self._known_samples(name), start)
            self._log_norm_samples[name].append(norms)
        self._samples.clear()

    def _known_samples(self, name: str) -> dict[int, np.ndarray]:
        return self._samples if name == self._looked_at[-1] else {}

    def _find_lost(self, name: str) -> dict[str, np.ndarray]:
        if self._keeps:
            return _lost_of(self.kept[name], self._exponent[name])
        return _one_after_another(self._lost[name][::-1])

    def _find_samples(self, name: str) -> np.ndarray:
        if self._keeps:
            return _log_norms_of_samples(self.kept[name], self._exponent[name], self._known_samples(name))
        return np.concatenate(self._log_norm_samples[name][::-1])

    def gradients(self, signal: Signal) -> Gradients:
        """All results; ``signal`` is what the state before the first step receives."""
        kept = {name: _Later(partial(self._public, name)) for name in self._exponent}
        find_totals = partial(self._kept_totals, self._tape) if self._keeps else self._once_more
        find_given = self._once_more if self._tape.cell.opaque else find_totals  # what its steps were given is not kept
        names = self._tape.cell.state_names
        state = ByName({name: self._tape.shaped(name, value) for name, value in signal.gradients().items()})
        for name, share in self._tape.cell.start_gradients(self._tape.params, state).items():
            self._sums[name] = add(self._sums[name], share)
        return Gradients(
            params=self._sums,
            x=kept["x"],
            state=state,
            hidden=kept[self._main],
            log_norm=self._log_norm[self._main],
            log_norm_immediate=self._log_norm["immediate"],
            cell=kept.get("cell"),
            log_norm_cell=self._log_norm.get("cell"),
            log_norms=ByName({name: self._log_norm[name] for name in names}),
            parts=_Parts({name: kept[name] for name in names}),
            careful_steps=self._careful,
            find_lost=partial(self._find_lost, self._main),
            find_log_norm_samples=partial(self._find_samples, self._main),
            find_weight_shares=lambda names: weight_shares(self._tape, self._sums, find_given(), names),
            find_entry_quantiles=lambda: _entry_quantiles(self._tape, find_totals(), self._main),
            find_going_back=partial(self._going_back, find_totals) if len(self._looked_at) == 2 else None,
            find_totals=find_totals,
            find_alone=self._alone,
        )

    def _going_back(self, find_totals: Callable[[], Iterable[Totals]]) -> GoingBack:
        output, memory = (
            GoingBack(
                self._log_norm[name],
                partial(self._find_samples, name),
                partial(self._find_lost, name),
                lambda name=name: _entry_quantiles(self._tape, find_totals(), name),  # type: ignore[misc]
            )
            for name in self._looked_at
        )
        return GoingBack.of_two(output, memory)

    def _kept_totals(self, tape: Tape) -> Iterator[Totals]:
        """dL/dstate_t as kept, segment by segment."""
        for segment in tape.segments():
            steps = slice(segment.start, segment.stop)
            names = tape.cell.state_names
            yield segment, {n: self.kept[n][steps] for n in names}, {n: self._exponent[n][steps] for n in names}

    def _public(self, name: str) -> Any:
        """A kept array as (T, B, rows), plain or ``Scaled``."""
        if not self._keeps:
            return NotKept(name)
        value = plain_if_fits(self.kept[name], self._exponent[name])
        value = Scaled(swap(value.mantissa), value.exponent) if isinstance(value, Scaled) else swap(value)
        return value if name == "x" else self._tape.shaped(name, value)


def _unknown(name: str) -> Any:
    raise LookupError(f"grads.{name}: these gradients do not come from backward, which knows their steps")


def _entry_quantiles(tape: Tape, totals: Iterable[Totals], name: str) -> EntryQuantiles:
    """Of one part of dL/dstate_t, a few steps at a time."""
    T = tape.x.shape[0]
    quantiles = EntryQuantiles(LEVELS, np.empty((T, len(LEVELS))), np.empty(T))
    with np.errstate(all="ignore"), tape.cell.holding(tape.params):
        for segment, parts, exponent in totals:
            columns = parts[name]
            for piece in pieces(columns.shape[0], math.prod(columns.shape[1:]), LARGEST_PIECE):
                steps = slice(segment.start + piece.start, segment.start + piece.stop)
                quantiles.log2[steps], quantiles.zero[steps] = entry_quantiles(columns[piece], exponent[name][piece])
    return quantiles


def _described_norms(log_norm: np.ndarray) -> str:
    """The smallest and the largest norm with their steps t = 1 … T, and how many steps have none."""
    plain, texts = np.isfinite(log_norm), []
    if plain.any():
        steps = np.flatnonzero(plain)
        for word, t in (("smallest", steps[log_norm[steps].argmin()]), ("largest", steps[log_norm[steps].argmax()])):
            texts.append(f"{word} {log_norm[t] / LN10:.2f} at t={t + 1}")
    zero = np.isneginf(log_norm)
    for word, count in (("zero", zero.sum()), ("not finite", (~plain & ~zero).sum())):
        if count:
            texts.append(f"{word} at {count} of {len(log_norm)} steps")
    return ", ".join(texts)


def empty_like(x: Array, shape: tuple[int, ...]) -> Array:
    """An empty array of a shape in the library, dtype and device of ``x``."""
    if type(x) is np.ndarray:
        return empty_aligned(shape, x.dtype)
    return namespace(x).empty(shape, dtype=x.dtype, device=x.device)


def _lost_of(columns: Array, exponent: np.ndarray) -> dict[str, np.ndarray]:
    """``formats.lost_fractions``, a few steps at a time."""
    parts = pieces(columns.shape[0], math.prod(columns.shape[1:]), LARGEST_PIECE)
    return _one_after_another([lost_fractions(columns[piece], exponent[piece]) for piece in parts])


def _log_norms_of_samples(
    columns: Array, exponent: np.ndarray, known: dict[int, np.ndarray], first: int = 0
) -> np.ndarray:
    """ln of the norm of every sample of ``columns[k] * 2**exponent[k]``, (steps, H, B) to (steps, B).

    Those of step ``first + k`` may be ``known`` already.
    """
    parts = pieces(columns.shape[0], math.prod(columns.shape[1:]), LARGEST_PIECE)
    norms = np.concatenate([log_norms_of_columns(columns[piece]) for piece in parts]) + exponent[:, None] * LN2
    for t, of_step in known.items():
        norms[t - first] = of_step
    return norms


def _one_after_another(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
