"""The Jacobian of one step, J_t = ∂s_t/∂s_{t-1}, of any cell, from its backward step.

The backward step of a cell multiplies columns by J_t^T. So a column for every unit of the state gives the whole matrix, and
no cell needs a Jacobian of its own. The state s_t of one sample is its parts one below the other: of an LSTM (h_t; c_t).
Derivation: rnn_core/README.md, section 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from rnn_core.arguments import check_tape
from rnn_core.arrays import Array, constant, like, namespace, to_numpy
from rnn_core.compiled import frames
from rnn_core.compiled.kept import KeptSteps
from rnn_core.scalars import as_python, is_integer
from rnn_core.tape import Segment, Tape

AT_ONCE = 2**17  # entries of Jacobians that are computed together: they stay in the cache


def jacobians(tape: Tape, sample: int = 0) -> Array:
    """J_t = ∂s_t/∂s_{t-1} of every step t = 1 … T, (T, S, S), in the library, dtype and device of x.

    S is the number of units in all parts of the state: H, of an LSTM 2H in the order (hidden, cell). inf and nan stay what
    they are.

    Args:
        tape: from ``forward``.
        sample: which sequence of the batch, from 0.

    Raises:
        ValueError: ``tape`` is none, or there is no such sample.
    """
    check_tape(tape)
    sample = checked_sample(tape, sample)
    each = [matrix.T for segment in tape.segments() for matrix in SampleSteps(tape, segment, sample).matrices()]
    return like(np.stack(each), tape.x)


def checked_sample(tape: Tape, sample: int) -> int:
    """``sample``, if there is such a one."""
    B = tape.x.shape[1]
    if not (is_integer(sample) and 0 <= sample < B):
        raise ValueError(f"sample: {sample!r} is not allowed; it must be an integer from 0 to {B - 1}, for B = {B}")
    return int(as_python(sample))


def state_size(tape: Tape) -> int:
    """S, the number of units in all parts of one sample's state."""
    return sum(math.prod(part.shape[1:]) for part in tape.state.values())


class SampleSteps:
    """Backward steps of one sample of a segment: products with J_t^T, float64 in NumPy. Steps are counted within the segment.

    A cell that is only known by its program (``opaque``) computes in its own library and dtype.

    Attributes:
        size: S, the number of units in all parts of the state.
    """

    def __init__(self, tape: Tape, segment: Segment, sample: int) -> None:
        self.cell = tape.cell
        self.opaque = tape.cell.opaque
        own, widen = slice(sample, sample + 1), constant if self.opaque else widened
        self.saved = of_sample(segment.saved, own, widen)
        self.params = {name: widen(value) for name, value in tape.params.items()}
        self.states = {name: widen(part[..., own]) for name, part in segment.states.items()}
        self.size = sum(part.shape[1] for part in self.states.values())
        self._most = 2**30 if tape.cell.any_batch else tape.x.shape[1]
        self._near: tuple[int, np.ndarray] = 0, np.empty((0, 0, 0))

    def __len__(self) -> int:
        return len(self.saved)

    def back(self, t: int, columns: np.ndarray) -> np.ndarray:
        """J_t^T times ``columns`` (S, k)."""
        if 2 * columns.shape[1] > self.size:
            return np.asarray(self.matrix(t) @ columns)
        return self._product(repeated(self.saved[t], columns.shape[1]), columns)

    def back_compiled(self, first: int, stop: int, columns: np.ndarray, steep: float) -> tuple[np.ndarray, np.ndarray]:
        """An orthonormal frame ``columns`` (S, k) back through the steps ``stop`` - 1 … ``first``, as far as compiled steps take it.

        Returns (frame, diagonal of R of every step done, the last first); see ``compiled.frames``.
        """
        if self.opaque or not frames.covers(self.cell, self.params, self.saved):
            return columns, np.empty((0, columns.shape[1]))
        saved = self.saved[first:stop]
        kept = saved.rows if isinstance(saved, KeptSteps) else saved
        states = {name: part[first : stop + 1] for name, part in self.states.items()}
        sent, diagonal = frames.carry_back(self.cell, self.params, kept, states, self._split(columns), steep)
        return np.concatenate(list(sent.values())), diagonal

    def matrix(self, t: int) -> np.ndarray:
        """J_t^T, (S, S). Its neighbours are computed with it."""
        start, matrices = self._near
        if not start <= t < start + len(matrices):
            count = max(1, AT_ONCE // self.size**2)
            start = t // count * count
            matrices = self._matrices(slice(start, min(start + count, len(self))))
            self._near = start, matrices
        matrix: np.ndarray = matrices[t - start]
        return matrix

    def factors(self, t: int) -> list[np.ndarray]:
        """J_t^T as a product of matrices (S, S), the last first, each of which holds its small entries to their last digits.

        What c_t of an LSTM receives through h_t would hide what the output gate alone sends back.
        """
        eye, saved = np.eye(self.size), repeated(self.saved[t], self.size)
        if not self.opaque:
            total = np.concatenate(list(self.cell.total(saved, self._split(eye)).values()))
            if not np.array_equal(total, eye):
                return [total, self._product(saved, eye, total=True)]
        return [self.matrix(t)]

    def matrices(self) -> Iterator[np.ndarray]:
        """``matrix`` of every step, in order."""
        return (self.matrix(t) for t in range(len(self)))

    def _matrices(self, steps: slice) -> np.ndarray:
        S, count = self.size, steps.stop - steps.start
        product = self._product(side_by_side(self.saved[steps], S), np.tile(np.eye(S), count))
        return np.asarray(product.reshape(S, count, S).swapaxes(0, 1))

    def _product(self, saved: Any, columns: np.ndarray, total: bool = False) -> np.ndarray:
        """J^T of what was ``saved``, column by column, times ``columns`` (S, k); these are the ``total`` dL/dstate_t already."""
        with np.errstate(all="ignore"):
            if not self.opaque:
                dstate = self._split(columns)
                sent = self.cell.backward(self.params, saved, dstate if total else self.cell.total(saved, dstate))[2]
                return np.concatenate([sent[name] for name in self.states])
            parts = [np.empty((self.size, 0))]  # all there is where every direction is lost
            for first in range(0, columns.shape[1], self._most):
                here = slice(first, first + self._most)
                parts.append(self._opaque_product(tuple(array[..., here] for array in saved), columns[:, here]))
            return np.concatenate(parts, axis=1)

    def _opaque_product(self, saved: Any, columns: np.ndarray) -> np.ndarray:
        """The same by the cell's own program, which may know no other batch than B."""
        k, model = columns.shape[1], next(iter(self.states.values()))
        missing = self._most - k if self._most < 2**30 else 0
        if missing:
            columns = np.pad(columns, ((0, 0), (0, missing)))
            saved = tuple(namespace(a).concat([a, *[a[..., :1]] * missing], axis=-1) for a in saved)
        dstate = {name: like(part, model) for name, part in self._split(columns).items()}
        sent = self.cell.back(self.params, saved, dstate)[3]
        return np.concatenate([to_numpy(sent[name]).astype(np.float64)[:, :k] for name in self.states])

    def _split(self, columns: np.ndarray) -> dict[str, np.ndarray]:
        """The rows of every part of the state."""
        ends = np.cumsum([part.shape[1] for part in self.states.values()])
        return dict(zip(self.states, np.split(columns, ends[:-1]), strict=True))


def widened(array: Array) -> np.ndarray:
    """``array`` in NumPy and float64, contiguous."""
    return np.ascontiguousarray(to_numpy(array), dtype=np.float64)


def of_sample(saved: Any, own: slice, widen: Callable[[Array], Array]) -> Any:
    """What steps saved, of one sample: an array or ``KeptSteps``, or a list with a tuple of arrays a step."""
    if isinstance(saved, KeptSteps):
        states = {name: widen(part[..., own]) for name, part in saved.states.items()}
        return KeptSteps(saved.cell, widen(saved.rows[..., own]), states)
    if isinstance(saved, np.ndarray):
        return widen(saved[..., own])
    if not isinstance(saved[0], tuple):
        return np.stack([widen(of_step[..., own]) for of_step in saved])
    return [tuple(widen(array[..., own]) for array in of_step) for of_step in saved]


def repeated(saved: Any, count: int) -> Any:
    """What one step saved of one sample, ``count`` times: a column is a sample."""
    return _of_arrays(lambda array: namespace(array).broadcast_to(array, (*array.shape[:-1], count)), saved)


def side_by_side(saved: Any, count: int) -> Any:
    """What some steps saved of one sample, as if the steps were samples: ``count`` columns for each, step by step."""
    if isinstance(saved, KeptSteps):
        saved = saved.together()
    if isinstance(saved, list):
        saved = tuple(namespace(arrays[0]).stack(list(arrays)) for arrays in zip(*saved, strict=True))

    def spread(array: Array) -> Array:  # (steps, rows, 1) to (rows, steps * count)
        xp, (steps, rows, _) = namespace(array), array.shape
        each = xp.broadcast_to(xp.permute_dims(array, (1, 0, 2)), (rows, steps, count))
        return xp.reshape(each, (rows, steps * count))

    return _of_arrays(spread, saved)


def _of_arrays(function: Callable[[Array], Array], saved: Any) -> Any:
    return tuple(map(function, saved)) if isinstance(saved, tuple) else function(saved)
