"""Whether steps backwards stay within the range of plain floats.

NumPy's flags tell of every operation that over- or underflows; a norm shows how far the range still is. Other libraries report
nothing, so the sizes of all results must tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_core.arrays import Array, State, namespace, to_numpy
from rnn_core.scaling import square_limits


class FlagWatch:
    """Watches NumPy steps, one by one, within ``scaling.flags_raise``."""

    def __init__(self, lowest: float, highest: float) -> None:
        self._lowest, self._highest = lowest, highest
        self._squares: list[list[float]] = []

    def passes(self, total: State, du: Array, dv: Array, sent: State) -> bool:
        """Whether the squared norm of every part of dL/dstate_t is well in range, or the part is zero."""
        squares = []
        for part in total.values():
            flat = part.reshape(-1)
            square = float(flat @ flat)
            if not (self._lowest <= square <= self._highest or (square == 0.0 and not part.any())):
                return False
            squares.append(square)
        self._squares.append(squares)
        return True

    def squares(self) -> np.ndarray:
        """The squared norms of the parts of dL/dstate_t, float64 (steps, parts), of the steps that have passed."""
        return np.array(self._squares)


class SizeWatch:
    """Watches the steps of other libraries, many together: on a GPU every look at a number waits for all work before it."""

    def __init__(self, lowest: float, highest: float) -> None:
        self._lowest, self._highest = lowest, highest
        self._numbers: list[Array] = []
        self._parts = 0

    def passes(self, total: State, du: Array, dv: Array, sent: State) -> bool:
        """True; ``squares`` says later which steps have passed."""
        self._parts = len(total)
        flat = [part.reshape(-1) for part in (*total.values(), du, dv, *sent.values())]
        squares, nonzero = [part @ part for part in flat], [part.any().to(part.dtype) for part in flat]
        self._numbers.append(namespace(du).stack(squares + nonzero))
        return True

    def squares(self) -> np.ndarray:
        """As ``FlagWatch.squares``, of the steps before the first whose total or results have a size that is not usual."""
        if not self._numbers:
            return np.empty((0, 0))
        numbers = to_numpy(namespace(self._numbers[0]).stack(self._numbers)).astype(np.float64)
        squares, nonzero = np.split(numbers, 2, axis=1)
        usual = self._usual(squares) | ((squares == 0.0) & (nonzero == 0.0))
        good = usual[:, : self._parts].all(axis=1) & self._hold(squares)
        return squares[: len(good) if good.all() else int(np.argmin(good)), : self._parts]

    def results_hold(self) -> bool:
        """Whether no result of the steps shows a sign of over- or underflow, whatever the size of their totals."""
        numbers = to_numpy(namespace(self._numbers[0]).stack(self._numbers)).astype(np.float64)
        return bool(self._hold(np.split(numbers, 2, axis=1)[0]).all())

    def _usual(self, squares: np.ndarray) -> np.ndarray:
        return (squares >= self._lowest) & (squares <= self._highest)

    def _hold(self, squares: np.ndarray) -> Any:
        """Zeros come from dead units or from no signal, unless the total was so small that they may be what has underflowed."""
        usual, zero = self._usual(squares), squares == 0.0
        total, results = slice(0, self._parts), slice(self._parts, None)
        large_enough = (zero | (squares > self._lowest**0.5))[:, total].all(axis=1)
        return usual[:, results].all(axis=1) | ((usual | zero)[:, results].all(axis=1) & large_enough)


def watch_of(dstate: State) -> FlagWatch | SizeWatch:
    """The watch for steps in the library of ``dstate``."""
    part = dstate["hidden"]
    return (FlagWatch if isinstance(part, np.ndarray) else SizeWatch)(*square_limits(part))


def results_hold(total: State, du: Array, dv: Array, sent: State) -> bool:
    """Whether a step shows no sign of over- or underflow in its results. NumPy has said so already, by its flags."""
    watch = watch_of(total)
    if isinstance(watch, FlagWatch):
        return True
    watch.passes(total, du, dv, sent)
    return watch.results_hold()
