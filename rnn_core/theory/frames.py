"""Orthonormal columns that go back through steps: what every spectrum is made of.

A step multiplies the frame Q (S, k) by J^T. Then J^T Q = Q' R with Q' orthonormal and R triangular, so the product of many
Jacobians is the last Q' times the product of all R. No R loses the small directions beside the large ones, which a product of
the Jacobians themselves does (Benettin et al. 1980; Geist, Parlitz & Lauterborn 1990).

One J may itself be so steep that rounding hides its small directions: where units are saturated, columns of J^T differ by many
decades. Then it is first written as a product of factors that show them (``steep_step``). Where units are off, columns of J^T are
zero. Such directions leave the frame.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rnn_core.theory.jacobians import SampleSteps

NOISE = float(np.finfo(np.float64).eps)  # times the number of rows: what rounding leaves of a zero
STEEP = 1e-6  # a direction of one step that is so much below the largest keeps ten digits; a smaller one asks for care


class Carried(NamedTuple):
    """A frame behind one step.

    Attributes:
        frame: orthonormal columns (S, r).
        triangle: R (r, k) with J^T Q = frame @ R.
        pivots: int (r,), ascending: the columns of Q that lived on, one for every row of R. Another one's image is a combination
            of those before it.
    """

    frame: np.ndarray
    triangle: np.ndarray
    pivots: np.ndarray

    @property
    def growth(self) -> np.ndarray:
        """ln of what every column that lived on has grown by, apart from those before it, (r,)."""
        pivots = self.triangle[np.arange(len(self.pivots)), self.pivots]
        grown: np.ndarray = np.log(np.abs(pivots))
        return grown


class NotFinite(ArithmeticError):
    """A Jacobian holds inf or nan."""


class Frame:
    """k orthonormal columns on their way back through steps.

    All S start as units, in the order in which a pivoted QR of the first J^T takes them. Fewer start as directions that favour no
    unit, always the same, so that units that do not mix are all seen.

    Attributes:
        columns: which of the k live, int (r,).
    """

    def __init__(self, size: int, k: int) -> None:
        self.size, self.k, self.columns = size, k, np.arange(k)
        self._frame = np.empty((size, 0)) if k == size else _random(size, k)
        self._started = k < size

    def through(self, steps: SampleSteps, first: int, stop: int) -> np.ndarray:
        """Back through the steps ``stop`` - 1 … ``first``: ln R_ii of each, the last first, (stop - first, k); -inf for the dead.

        Raises:
            NotFinite: a Jacobian holds inf or nan.
        """
        grown = np.full((stop - first, self.k), -np.inf)
        if stop > first and not self._started:
            self._frame, self._started = _leading(steps.matrix(stop - 1)), True
        while stop > first and len(self.columns):
            here = grown[len(grown) - (stop - first) :]
            self._frame, diagonal = steps.back_compiled(first, stop, self._frame, STEEP)
            here[: len(diagonal), self.columns] = np.log(diagonal)
            stop -= len(diagonal)
            if stop > first:
                carried = back(steps, stop - 1, self._frame)
                self._frame, self.columns = carried.frame, self.columns[carried.pivots]
                here[len(diagonal), self.columns] = carried.growth
                stop -= 1
        return grown

    def complete(self) -> None:
        """Put new directions, orthogonal to those that live, in the place of the dead."""
        dead = np.setdiff1d(np.arange(self.k), self.columns)
        if len(dead):
            self._frame = np.linalg.qr(np.concatenate([self._frame, _random(self.size, len(dead))], axis=1))[0]
            self.columns = np.concatenate([self.columns, dead])


def back(steps: SampleSteps, t: int, frame: np.ndarray) -> Carried:
    """``frame`` (S, k) back through step t."""
    return plain_step(steps.back(t, frame)) or through(steps.factors(t), frame)


def forth(steps: SampleSteps, t: int, frame: np.ndarray) -> Carried:
    """``frame`` (S, k) forward through step t, as a small change of the state goes."""
    return plain_step(steps.matrix(t).T @ frame) or through([each.T for each in reversed(steps.factors(t))], frame)


def through(matrices: list[np.ndarray], frame: np.ndarray) -> Carried:
    """``frame`` (S, k) multiplied by ``matrices``, each (S, S), one after the other."""
    k = frame.shape[1]
    carried = Carried(frame, np.eye(k), np.arange(k))
    for matrix in matrices:
        further = plain_step(matrix @ carried.frame) or steep_step(matrix, carried.frame)
        carried = Carried(further.frame, further.triangle @ carried.triangle, carried.pivots[further.pivots])
    return carried


def _random(size: int, columns: int) -> np.ndarray:
    drawn = np.random.default_rng(0).standard_normal((size, columns))
    return np.asarray(np.linalg.qr(drawn)[0])


def _leading(matrix: np.ndarray) -> np.ndarray:
    """The unit vectors in the order in which a pivoted QR takes the columns of ``matrix`` (S, S)."""
    from scipy.linalg import qr

    if not np.isfinite(matrix).all():
        raise NotFinite
    return np.eye(len(matrix))[:, qr(matrix, mode="r", pivoting=True)[1]]


def plain_step(image: np.ndarray) -> Carried | None:
    """``image`` = J^T Q as frame times triangle; None where that step is too steep for it."""
    if not np.isfinite(image).all():
        raise NotFinite
    frame, triangle = np.linalg.qr(image)
    diagonal = np.abs(np.diagonal(triangle))
    if not diagonal.min(initial=np.inf) > STEEP * diagonal.max(initial=0.0):
        return None
    return Carried(frame, triangle, np.arange(image.shape[1]))


def steep_step(matrix: np.ndarray, frame: np.ndarray) -> Carried:
    """J^T Q for a J^T (S, S) whose columns, or rows, differ by many decades.

    J^T = Q₁ R₁ with the largest rows first and the largest column taken next. R₁ is a diagonal matrix of any range times one that
    is well conditioned. Every row of it is right to the last digits (Cox & Higham 1998). So are those of R₁ Q, and the QR of that,
    whose rows lie in falling order, keeps them.
    """
    from scipy.linalg import qr

    if not np.isfinite(matrix).all():
        raise NotFinite
    S, of_columns = len(matrix), np.linalg.norm(matrix, axis=0)
    of_rows = np.abs(matrix / np.where(of_columns > 0.0, of_columns, 1.0)).max(axis=1)
    rows = np.argsort(-of_rows, kind="stable")
    first, triangle, columns = qr(matrix[rows], pivoting=True)
    # A direction that rounding cannot tell from zero is zero, and so are all that come after it.
    lives = np.abs(np.diagonal(triangle)) > NOISE * S * of_rows[rows] * of_columns[columns]
    rank = S if lives.all() else int(np.argmin(lives))
    reduced = _echelon(triangle[:rank] @ frame[columns])
    back = np.empty((S, rank))
    back[rows] = first[:, :rank]
    return Carried(back @ reduced.frame, reduced.triangle, reduced.pivots)


def _echelon(image: np.ndarray) -> Carried:
    """The QR of ``image`` (rank, k), whose rows lie in falling order, without the columns that are combinations of those before them."""
    from scipy.linalg import qr

    rank, k = image.shape
    sizes = np.linalg.norm(image, axis=1)
    alive, dead = np.arange(k), np.arange(0)
    while True:
        count = min(rank, len(alive))
        if not count:
            return Carried(np.empty((rank, 0)), np.empty((0, k)), np.empty(0, dtype=np.int64))
        order = np.concatenate([alive, dead])
        frame, permuted = qr(image[:, order], mode="economic")
        lost = np.flatnonzero(np.abs(np.diagonal(permuted)[:count]) <= NOISE * rank * sizes[:count])
        if not len(lost):
            break
        alive, dead = np.delete(alive, lost[0]), np.append(dead, alive[lost[0]])
    triangle = np.empty((count, k))
    triangle[:, order] = permuted[:count]
    return Carried(frame[:, :count], triangle, alive[:count])
