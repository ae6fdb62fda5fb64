"""Signals whose entries lie too far apart for one exponent: every entry has its own.

A backward step is linear, so such a signal can be cut into layers of entries of similar size, each with an exponent, that go
back through the step one by one, and the results be added entry by entry. It is the slow path, for the rare step at which the
fast one over- or underflows somewhere; arrays are NumPy's, whatever the engine runs on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rnn_core.arrays import Array, State, like, to_numpy
from rnn_core.scaling import PLAIN, WINDOW, common_exponent, dtype_name, times_power_of_two

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

    def plus(self, other: Wide) -> Wide:
        """The sum, entry by entry; parts that ``other`` lacks stay."""
        mantissa, exponent = dict(self.mantissa), dict(self.exponent)
        for name in other.mantissa:
            top = np.maximum(self.exponent[name], other.exponent[name])
            terms = [np.ldexp(w.mantissa[name], np.maximum(w.exponent[name] - top, -2000)) for w in (self, other)]
            m, e = np.frexp(terms[0] + terms[1])
            mantissa[name], exponent[name] = m, np.where(m == 0, _NOTHING, e + top)
        return Wide(mantissa, exponent)

    def layers(self, like_this: Array) -> list[tuple[State, int]]:
        """Parts in the library of ``like_this`` with one exponent each, the largest entry first; together all nonzero entries.

        The entries of a layer differ by less than the window allows, the largest is in [1/2, 1).
        """
        found, left = [], dict(self.exponent)
        while (top := max(int(e.max()) for e in left.values())) > _NOTHING:
            inside = {name: e > top - _span(like_this) for name, e in left.items()}
            layer = {}
            for name, m in self.mantissa.items():
                e = np.where(inside[name], self.exponent[name] - top, 0)
                layer[name] = like(np.where(inside[name], np.ldexp(m, e), 0), like_this)
            found.append((layer, top))
            left = {name: np.where(inside[name], _NOTHING, e) for name, e in left.items()}
        return found

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


def _span(x: Array) -> int:
    return WINDOW[dtype_name(x)] * 5 // 8


def combined(terms: list[tuple[Array, int]]) -> tuple[Array, int]:
    """The sum of arrays mantissa * 2**exponent, with one exponent; 0 if plain floats hold the largest entry."""
    if len(terms) == 1:
        return terms[0]
    common = common_exponent(*terms)
    common = 0 if abs(common) <= PLAIN[dtype_name(terms[0][0])] else common
    return sum(times_power_of_two(m, e - common) for m, e in terms), common
