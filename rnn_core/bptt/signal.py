"""What flows from a step to the one before: ``Signal``, a value of any size and spread. Derivation: rnn_core/README.md, section 3.

As long as one exponent holds all entries, a signal is arrays times 2**exponent. Where entries lie too far apart, it is a sum of
layers of entries of similar size, each with an exponent of its own. A backward step is linear, so the layers go back through it
one by one, and their results are added entry by entry (``Wide``). That is the slow path, for the rare step at which the fast one
over- or underflows somewhere; its arrays are NumPy's, whatever the engine runs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rnn_core.arrays import Array, State, dtype_name, like, namespace, to_numpy
from rnn_core.clipping import clip_signal
from rnn_core.scaling import (
    LN2,
    PLAIN,
    WINDOW,
    Scaled,
    add_to_part,
    all_finite,
    flags_raise,
    plain_if_fits,
    renormalise,
    times_power_of_two,
)

_NOTHING = -(2**40)  # the exponent of a zero


def any_part(parts: State) -> Array:
    """One of them, to see their library, dtype and batch."""
    return next(iter(parts.values()))


class Layer(NamedTuple):
    """Named arrays (rows, B); their values are what is stored times 2**exponent."""

    parts: State
    exponent: int


@dataclass(frozen=True, eq=False)
class Signal:
    """dL/dstate_t as the future sends it, without the direct part of step t.

    Attributes:
        layers: one, as long as one exponent holds all entries (always where an entry is inf or nan); else several, whose sum it
            is. Entries of several layers are between 2**-span and 1 as stored (``Wide.layers``).
        wide: that sum, entry by entry; None for one layer.
    """

    layers: tuple[Layer, ...]
    wide: Wide | None = None

    @classmethod
    def of(cls, parts: State, exponent: int = 0) -> Signal:
        """``parts * 2**exponent``."""
        return cls((Layer(parts, exponent),))

    @classmethod
    def of_columns(cls, parts: State, exponent: np.ndarray) -> Signal:
        """``parts`` with column b times 2**exponent[b], int64 (B,); or entry by entry times 2**exponent, (H, B)."""
        if (exponent == exponent.flat[0]).all():
            return cls.of(parts, int(exponent.flat[0]))
        split = {name: np.frexp(part) for name, part in parts.items()}
        mantissa = {name: m for name, (m, _) in split.items()}
        exponents = {name: np.where(m == 0, _NOTHING, e.astype(np.int64) + exponent) for name, (m, e) in split.items()}
        return Wide(mantissa, exponents).signal(any_part(parts))

    def by_columns(self) -> tuple[State, np.ndarray] | None:
        """(parts, exponents (B,)): an exponent a sample. None where that does not hold all entries. NumPy only."""
        parts, e = self.layers[0]
        if self.wide is None:
            return parts, np.full(any_part(parts).shape[1], e, dtype=np.int64)
        return self.wide.by_columns(any_part(parts).dtype)

    def by_entries(self) -> tuple[State, np.ndarray]:
        """(parts, exponents (H, B)) of a signal of one part: an exponent an entry. NumPy only."""
        parts, e = self.layers[0]
        [(name, part)] = parts.items()
        if self.wide is None:
            return parts, np.full(part.shape, e, dtype=np.int64)
        m = self.wide.mantissa[name]
        return {name: m.astype(part.dtype)}, np.where(m == 0, 0, self.wide.exponent[name])

    @classmethod
    def sum_of(cls, layers: list[Layer]) -> Signal:
        """The sum of layers, entry by entry, with one exponent where that holds it."""
        if not all(all_finite(*parts.values()) for parts, _ in layers):  # inf and nan pass through
            e = max(layer.exponent for layer in layers)
            names = layers[0].parts
            return cls.of({n: sum(times_power_of_two(parts[n], e_l - e) for parts, e_l in layers) for n in names}, e)
        return Wide.sum_of(layers).signal(any_part(layers[0].parts))

    def plus(self, name: str, grad: Array, e_grad: int = 0) -> Signal:
        """With ``grad * 2**e_grad`` added to one part: at the exponent that holds both summands, or else entry by entry."""
        parts, e = self.layers[0]
        if self.wide is None:
            try:
                with flags_raise():
                    total, e_total = add_to_part(parts, e, name, grad, e_grad)
                if isinstance(grad, np.ndarray) or (e == e_grad == 0 and all_finite(total[name])):
                    return Signal.of(total, e_total)
            except FloatingPointError:
                pass
        if not all_finite(grad, *parts.values()):
            return Signal.of(*add_to_part(*self._with_one_exponent(), name, grad, e_grad))
        return (self.wide or Wide.of(parts, e)).plus(Wide.of({name: grad}, e_grad)).signal(grad)

    def dropped(self) -> Signal:
        """Zero, as after a state that was detached."""
        return Signal.of({name: namespace(part).zeros_like(part) for name, part in self.layers[0].parts.items()})

    def clipped(self, threshold: float) -> Signal:
        """With every entry moved into ±threshold (``clipping.clip_signal``)."""
        return Signal.of(*clip_signal(*self._with_one_exponent(), threshold))

    def at_size_one(self) -> list[Layer]:
        """At least one layer, the largest entry of each brought to size 1. inf, nan and zeros stay as they are."""
        parts, e = self.layers[0]
        if self.wide is not None or not all_finite(*parts.values()):
            layers = list(self.layers)
        else:
            layers = Wide.of(parts, e).layers(any_part(parts)) or [Layer(parts, 0)]
        return [Layer(*renormalise(layer.parts, layer.exponent)) for layer in layers]

    def gradients(self) -> dict[str, Array | Scaled]:
        """dL/dstate by name, each (B, H), with one exponent a part; entries too far below the largest become 0."""
        parts, e = self.layers[0]
        by_part = {name: self.wide.part(name, part) if self.wide else (part, e) for name, part in parts.items()}
        return {name: plain_if_fits(m.T, e_part) for name, (m, e_part) in by_part.items()}

    def _with_one_exponent(self) -> Layer:
        """All of it as one layer; where that needed several, in plain floats, entries out of range become ±inf or 0."""
        if self.wide is None:
            return self.layers[0]
        parts = self.layers[0].parts
        return Layer({name: Scaled(*self.wide.part(name, part)).to_float() for name, part in parts.items()}, 0)


@dataclass(frozen=True)
class Wide:
    """Named arrays, entry by entry mantissa * 2**exponent, the mantissa's magnitude in [1/2, 1) or 0."""

    mantissa: dict[str, np.ndarray]
    exponent: dict[str, np.ndarray]

    @classmethod
    def of(cls, parts: State, exponent: int) -> Wide:
        """``parts * 2**exponent``; every entry finite."""
        split = {name: np.frexp(to_numpy(part)) for name, part in parts.items()}
        return cls(
            {name: m for name, (m, _) in split.items()},
            {name: np.where(m == 0, _NOTHING, e.astype(np.int64) + exponent) for name, (m, e) in split.items()},
        )

    @classmethod
    def sum_of(cls, layers: list[Layer]) -> Wide:
        """The sum of layers, each parts * 2**exponent with every entry finite."""
        first, *others = [cls.of(parts, e) for parts, e in layers]
        return first.plus(*others)

    def plus(self, *others: Wide) -> Wide:
        """The sum, entry by entry; parts that the others lack stay."""
        mantissa, exponent = dict(self.mantissa), dict(self.exponent)
        for name in others[0].mantissa if others else ():
            m, e = (np.stack([getattr(w, kind)[name] for w in (self, *others)]) for kind in ("mantissa", "exponent"))
            top = e.max(axis=0)
            m, more = np.frexp(np.ldexp(m, np.maximum(e - top, -2000)).sum(axis=0))
            mantissa[name], exponent[name] = m, np.where(m == 0, _NOTHING, top + more)
        return Wide(mantissa, exponent)

    def by_columns(self, dtype: np.dtype) -> tuple[State, np.ndarray] | None:
        """(parts, exponents (B,)): the largest entry of every column brought to size 1; None where another would not be a normal number."""
        top = np.max([e.max(axis=0) for e in self.exponent.values()], axis=0)
        top = np.where(top == _NOTHING, 0, top)
        below = {name: np.where(m == 0, 0, self.exponent[name] - top) for name, m in self.mantissa.items()}
        if min(int(b.min()) for b in below.values()) < -PLAIN[str(dtype)]:
            return None
        return {name: np.ldexp(m, below[name]).astype(dtype) for name, m in self.mantissa.items()}, top

    def layers(self, like_this: Array) -> list[Layer]:
        """Parts in the library of ``like_this`` with one exponent each, the largest first; together all nonzero entries.

        The entries of a layer are between 2**-span and 1 as stored.
        """
        top, span = max(int(e.max()) for e in self.exponent.values()), WINDOW[dtype_name(like_this)]
        if top == _NOTHING:
            return []
        index = {name: np.where(e == _NOTHING, -1, (top - e) // span) for name, e in self.exponent.items()}
        layers = []
        for i in np.unique(np.concatenate([layer.reshape(-1) for layer in index.values()])):
            if i >= 0:
                e_layer = top - int(i) * span
                layers.append(Layer(self._entries(index, int(i), e_layer, like_this), e_layer))
        return layers

    def _entries(self, index: dict[str, np.ndarray], i: int, e_layer: int, like_this: Array) -> State:
        parts = {}
        for name, m in self.mantissa.items():
            inside = index[name] == i
            parts[name] = like(
                np.where(inside, np.ldexp(m, np.where(inside, self.exponent[name] - e_layer, 0)), 0), like_this
            )
        return parts

    def signal(self, like_this: Array) -> Signal:
        """All of it as a signal, in plain floats where one layer holds it well in range."""
        layers = self.layers(like_this)
        if not layers:
            return Signal.of({name: like(m, like_this) for name, m in self.mantissa.items()})
        if len(layers) > 1:
            return Signal(tuple(layers), self)
        [(parts, e)] = layers
        if abs(e) <= WINDOW[dtype_name(like_this)]:
            return Signal.of({name: times_power_of_two(part, e) for name, part in parts.items()})
        return Signal.of(parts, e)

    def part(self, name: str, like_this: Array) -> tuple[Array, int]:
        """One part with one exponent; entries too far below the largest become 0."""
        m, e = self.mantissa[name], self.exponent[name]
        top = int(e.max())
        if top == _NOTHING:
            return like(m, like_this), 0
        if abs(top) <= PLAIN[dtype_name(like_this)]:
            return like(np.ldexp(m, np.maximum(e, -2000)), like_this), 0
        return like(np.ldexp(m, np.maximum(e - top, -2000)), like_this), top

    def log_norms(self, name: str) -> np.ndarray:
        """ln of the Euclidean norm of every column of one part, (rows, B) to (B,); -inf for zeros only."""
        m, e = self.mantissa[name], self.exponent[name]
        top = e.max(axis=0)
        near = np.ldexp(m.astype(np.float64), np.maximum(e - top, -600))  # what is further below adds nothing
        with np.errstate(divide="ignore"):
            return np.where(top == _NOTHING, -np.inf, 0.5 * np.log((near**2).sum(axis=0)) + top * LN2)
