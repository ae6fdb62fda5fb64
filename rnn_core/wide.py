"""Signals whose entries lie too far apart for one exponent: every entry has its own.

A backward step is linear, so such a signal can be cut into layers of entries of similar size, each with an exponent, that go
back through the step one by one, and the results be added entry by entry. It is the slow path, for the rare step at which the
fast one over- or underflows somewhere; arrays are NumPy's, whatever the engine runs on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnn_core.arrays import Array, State, dtype_name, like, to_numpy
from rnn_core.scaling import LN2, PLAIN, WINDOW, Scaled, common_exponent, times_power_of_two

_NOTHING = -(2**40)  # the exponent of a zero


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
    def sum_of(cls, layers: list[tuple[State, int]]) -> Wide:
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

    def layers(self, like_this: Array) -> list[tuple[State, int]]:
        """Parts in the library of ``like_this`` with one exponent each, the largest first; together all nonzero entries.

        The entries of a layer are between 2**-span and 1 as stored.
        """
        top, span = max(int(e.max()) for e in self.exponent.values()), WINDOW[dtype_name(like_this)]
        if top == _NOTHING:
            return []
        index = {name: np.where(e == _NOTHING, -1, (top - e) // span) for name, e in self.exponent.items()}
        found = []
        for i in np.unique(np.concatenate([layer.reshape(-1) for layer in index.values()])):
            if i >= 0:
                e_layer = top - int(i) * span
                found.append((self._entries(index, int(i), e_layer, like_this), e_layer))
        return found

    def _entries(self, index: dict[str, np.ndarray], i: int, e_layer: int, like_this: Array) -> State:
        parts = {}
        for name, m in self.mantissa.items():
            inside = index[name] == i
            parts[name] = like(
                np.where(inside, np.ldexp(m, np.where(inside, self.exponent[name] - e_layer, 0)), 0), like_this
            )
        return parts

    def narrow(self, like_this: Array) -> tuple[State, int] | None:
        """All of it as one layer (plain floats where they are well in range), or None where one does not hold it."""
        layers = self.layers(like_this)
        if not layers:
            return {name: like(m, like_this) for name, m in self.mantissa.items()}, 0
        if len(layers) > 1:
            return None
        (parts, e) = layers[0]
        if abs(e) <= WINDOW[dtype_name(like_this)]:
            return {name: times_power_of_two(part, e) for name, part in parts.items()}, 0
        return parts, e

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


def plain_parts(signal: Wide, like_this: Array) -> State:
    """All parts in plain floats; entries out of range become ±inf or 0."""
    return {name: Scaled(*signal.part(name, like_this)).to_float() for name in signal.mantissa}


def combined(terms: list[tuple[Array, int]]) -> tuple[Array, int]:
    """The sum of arrays mantissa * 2**exponent, with one exponent; 0 if plain floats hold the largest entry."""
    if len(terms) == 1:
        return terms[0]
    common = common_exponent(*terms)
    common = 0 if abs(common) <= PLAIN[dtype_name(terms[0][0])] else common
    return sum(times_power_of_two(m, e - common) for m, e in terms), common
