"""Recurrent weight matrices, rescaled so that the spectral radius that is asked for is the one that is measured.

The spectral radius rho is the largest modulus of an eigenvalue; it governs W^k as k grows. The largest singular value
sigma_max is the largest factor of a single step; rho <= sigma_max, with equality for normal matrices.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np

from rnn_core.choices import choose
from rnn_core.scalars import is_integer, is_number


def gaussian(rng: np.random.Generator, size: int) -> np.ndarray:
    """Independent normal entries of variance 1/H: rho -> 1 as H grows (circular law, Girko 1985)."""
    return rng.standard_normal((size, size)) / math.sqrt(size)


def orthogonal(rng: np.random.Generator, size: int) -> np.ndarray:
    """Uniform (Haar) orthogonal matrix by QR with the signs of R's diagonal moved to Q (Mezzadri 2007; Saxe et al. 2014)."""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    return np.asarray(q * np.sign(np.diag(r)))


def identity(rng: np.random.Generator, size: int) -> np.ndarray:
    """The identity, as in the IRNN (Le, Jaitly & Hinton 2015). Draws nothing from ``rng``."""
    return np.eye(size)


INITIALIZERS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "gaussian": gaussian,
    "orthogonal": orthogonal,
    "identity": identity,
}


REMEMBERED = 256  # matrices whose eigenvalues, or singular values, are kept


class _Remembered:
    """A function of a matrix that keeps its last values: the runs of a sweep ask for the same matrices again and again, and
    an eigenvalue problem takes as long as a hundred steps of a run."""

    def __init__(self, measure: Callable[[np.ndarray], float], most: int = REMEMBERED) -> None:
        self.measure, self.most = measure, most
        self.found: dict[tuple[bytes, tuple[int, ...], str], float] = {}

    def __call__(self, matrix: np.ndarray) -> float:
        key = (hashlib.sha256(matrix.tobytes()).digest(), matrix.shape, matrix.dtype.str)
        if key not in self.found:
            while len(self.found) >= self.most:
                self.found.pop(next(iter(self.found)), None)
            self.found[key] = self.measure(matrix)
        return self.found[key]


_spectral_radius = _Remembered(lambda matrix: float(np.max(np.abs(np.linalg.eigvals(matrix)))))
_sigma_max = _Remembered(lambda matrix: float(np.linalg.norm(matrix, 2)))


def spectral_radius(matrix: np.ndarray, remember: bool = True) -> float:
    """rho: the largest modulus of an eigenvalue of a square matrix; not remembered where nobody will ask again."""
    return _spectral_radius(matrix) if remember else _spectral_radius.measure(matrix)


def sigma_max(matrix: np.ndarray) -> float:
    """The largest singular value."""
    return _sigma_max(matrix)


def recurrent_matrix(rng: np.random.Generator, size: int, initializer: str, rho: float) -> np.ndarray:
    """A (size, size) matrix drawn by ``initializer`` and rescaled to the measured spectral radius ``rho``.

    Raises:
        ValueError: unknown initializer, size < 1, or rho not positive and finite.
    """
    draw = choose("initializer", initializer, INITIALIZERS)
    if not (is_integer(size) and size >= 1):
        raise ValueError(f"hidden_size: {size!r} is not allowed; it must be an integer of at least 1")
    if not (is_number(rho) and rho > 0.0):
        raise ValueError(f"spectral_radius: {rho!r} is not allowed; it must be positive and finite")
    matrix = draw(rng, int(size))
    return matrix * (float(rho) / spectral_radius(matrix))
