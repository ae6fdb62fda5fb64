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

    def total_passes(self, total: State) -> bool:
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

    def note_results(self, du: Array, dv: Array, sent: State) -> None:
        """Nothing: the flags have told of every operation."""

    def squares(self) -> np.ndarray:
        """The squared norms of the parts of dL/dstate_t, float64 (steps, parts), of the steps whose total has passed."""
        return np.array(self._squares)


class SizeWatch:
    """Watches the steps of other libraries, many together: on a GPU every look at a number waits for all work before it."""

    def __init__(self, lowest: float, highest: float) -> None:
        self._lowest, self._highest = lowest, highest
        self._totals: list[list[Array]] = []  # of every step
        self._squares: list[Array] = []  # of every step in turn: the squared norms of its totals, then of its results

    def total_passes(self, total: State) -> bool:
        """True; ``squares`` says later which steps have passed."""
        self._totals.append(list(total.values()))
        return True

    def note_results(self, du: Array, dv: Array, sent: State) -> None:
        """Computes what ``squares`` will look at."""
        flat = [part.reshape(-1) for part in (*self._totals[-1], du, dv, *sent.values())]
        self._squares += [part @ part for part in flat]

    def squares(self) -> np.ndarray:
        """As ``FlagWatch.squares``, of the steps before the first whose total or results have a size that is not usual."""
        if not self._squares:
            return np.empty((0, 0))
        totals, results = self._looked_at()
        usual = self._usual(totals)
        zeros = np.argwhere(totals == 0.0)  # nothing, or what is too small for its square
        if len(zeros):
            nonzero = [self._totals[step][part].any() for step, part in zeros]
            usual[tuple(zeros.T)] = ~to_numpy(namespace(nonzero[0]).stack(nonzero))
        good = usual.all(axis=1) & self._hold(totals, results)
        return totals[: len(good) if good.all() else int(np.argmin(good))]

    def results_hold(self) -> bool:
        """Whether no result of the steps shows a sign of over- or underflow, whatever the size of their totals."""
        totals, results = self._looked_at()
        return bool(self._hold(totals, results).all())

    def _looked_at(self) -> list[np.ndarray]:
        """The squared norms of the totals, and those of the results, each (steps, …)."""
        squares = to_numpy(namespace(self._squares[0]).stack(self._squares)).astype(np.float64)
        return np.split(squares.reshape(len(self._totals), -1), [len(self._totals[0])], axis=1)

    def _usual(self, squares: np.ndarray) -> np.ndarray:
        return (squares >= self._lowest) & (squares <= self._highest)

    def _hold(self, totals: np.ndarray, results: np.ndarray) -> Any:
        """Zeros come from dead units or from no signal, unless the total was so small that they may be what has underflowed."""
        usual = self._usual(results)
        large_enough = ((totals == 0.0) | (totals > self._lowest**0.5)).all(axis=1)
        return usual.all(axis=1) | ((usual | (results == 0.0)).all(axis=1) & large_enough)


def watch_of(dstate: State) -> FlagWatch | SizeWatch:
    """The watch for steps in the library of ``dstate``."""
    part = next(iter(dstate.values()))
    return (FlagWatch if isinstance(part, np.ndarray) else SizeWatch)(*square_limits(part))


def results_hold(total: State, du: Array, dv: Array, sent: State) -> bool:
    """Whether a step shows no sign of over- or underflow in its results. NumPy has said so already, by its flags."""
    watch = watch_of(total)
    if isinstance(watch, FlagWatch):
        return True
    watch.total_passes(total)
    watch.note_results(du, dv, sent)
    return watch.results_hold()
