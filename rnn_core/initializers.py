"""Recurrent weight matrices, rescaled so that their measured spectral radius is the one that was asked for.

The spectral radius rho is the largest modulus of an eigenvalue. It governs W^k as k grows. The largest singular value
sigma_max is the largest factor of a single step. rho <= sigma_max, with equality for normal matrices.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from array_api_compat import is_torch_array

from rnn_core.arrays import to_numpy
from rnn_core.choices import Registry, choose
from rnn_core.scalars import is_integer, is_number, numbers

Draw = Callable[[np.random.Generator, int], np.ndarray]


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


INITIALIZERS: Registry[Draw] = Registry(
    "initializers", {"gaussian": gaussian, "orthogonal": orthogonal, "identity": identity}
)


REMEMBERED_MATRICES = 256  # so many matrices keep their eigenvalues and singular values


class _Remembered:
    """A function of a matrix that keeps its last values.

    The runs of a sweep ask for the same matrices again and again, and an eigenvalue problem takes as long as a hundred steps.
    """

    def __init__(self, measure: Callable[[np.ndarray], Any], most: int = REMEMBERED_MATRICES) -> None:
        self.measure, self.most = measure, most
        self.values: dict[tuple[bytes, tuple[int, ...], str], Any] = {}

    def __call__(self, matrix: np.ndarray) -> Any:
        key = (hashlib.sha256(matrix.tobytes()).digest(), matrix.shape, matrix.dtype.str)
        if key not in self.values:
            while len(self.values) >= self.most:
                self.values.pop(next(iter(self.values)), None)
            self.values[key] = self.measure(matrix)
        return self.values[key]


_eigenvalues = _Remembered(np.linalg.eigvals)
_sigma_max = _Remembered(lambda matrix: float(np.linalg.norm(matrix, 2)))


def spectral_radius(matrix: np.ndarray, remember: bool = True) -> float:
    """rho: the largest modulus of an eigenvalue of a square matrix (H, H).

    Args:
        matrix: of finite numbers; an array, a torch tensor or a list of rows.
        remember: whether to keep the value for the next call. False where nobody will ask again.

    Raises:
        ValueError: it is not a square matrix of finite numbers. A recurrent matrix of G gates has G square blocks.
    """
    return float(np.abs(eigenvalues(matrix, remember)).max())


def eigenvalues(matrix: np.ndarray, remember: bool = True) -> np.ndarray:
    """All eigenvalues (H,) of a square matrix (H, H), in no order; arguments as for ``spectral_radius``."""
    matrix = _checked(matrix, square=True)
    return np.asarray(_eigenvalues(matrix) if remember else _eigenvalues.measure(matrix))


def sigma_max(matrix: np.ndarray) -> float:
    """The largest singular value of a matrix.

    Args:
        matrix: of finite numbers; an array, a torch tensor or a list of rows.

    Raises:
        ValueError: it is not a matrix of finite numbers.
    """
    return float(_sigma_max(_checked(matrix, square=False)))


def _checked(matrix: Any, square: bool) -> np.ndarray:
    """``matrix`` as an array of finite numbers."""
    array = numbers("matrix", to_numpy(matrix) if is_torch_array(matrix) else matrix)
    wanted = "square, (H, H)" if square else "(rows, columns)"
    if array.ndim != 2 or 0 in array.shape or (square and array.shape[0] != array.shape[1]):
        hint = ""
        if square and array.ndim == 2 and array.shape[1] and array.shape[0] % array.shape[1] == 0 and array.size:
            gates = array.shape[0] // array.shape[1]
            hint = f"; of a gated cell take one gate at a time, np.split(weight_hh, {gates})"
        raise ValueError(f"matrix: shape {array.shape} is not allowed; it must be {wanted}{hint}")
    if not np.isfinite(array).all():
        raise ValueError("matrix: an entry is inf or nan; all must be finite")
    return array


def recurrent_matrix(rng: np.random.Generator, size: int, initializer: str, rho: float) -> np.ndarray:
    """A (size, size) matrix drawn by ``initializer`` and rescaled to the measured spectral radius ``rho``.

    Raises:
        ValueError: ``rng`` is no generator, the initializer is unknown, size < 1, or rho is not positive and finite.
    """
    return drawn(rng, size, initializer, rho, INITIALIZERS, lambda matrix: matrix)


def drawn(
    rng: np.random.Generator,
    size: int,
    initializer: str,
    rho: float,
    draws: Registry[Draw],
    matrix_of: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Numbers drawn by a row of ``draws``, scaled until the matrix that they stand for has the measured spectral radius ``rho``.

    Args:
        matrix_of: (size, size) from the numbers, and linear in them.
    """
    check_generator(rng)
    draw = choose("initializer", initializer, draws)
    if not (is_integer(size) and size >= 1):
        raise ValueError(f"hidden_size: {size!r} is not allowed; it must be an integer of at least 1")
    if not (is_number(rho) and rho > 0.0):
        raise ValueError(f"spectral_radius: {rho!r} is not allowed; it must be positive and finite")
    numbers = draw(rng, int(size))
    return numbers * (float(rho) / spectral_radius(matrix_of(numbers)))


def check_generator(rng: Any) -> None:
    """ValueError unless this is a NumPy generator."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng: {rng!r} is not allowed; it must be a NumPy generator, np.random.default_rng(seed)")
