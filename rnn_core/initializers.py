"""Recurrent weight matrices, rescaled so that their measured spectral radius is the one that was asked for, or as drawn.

The spectral radius rho is the largest modulus of an eigenvalue. It governs W^k as k grows. The largest singular value
sigma_max is the largest factor of a single step. rho <= sigma_max, with equality for normal matrices.

Every draw has sigma_w² = ‖W‖²_F / H of 1, on average and as H grows. So its number may also be a standard deviation
(``recurrent_matrix`` with ``sigma_w``).

| draw | what rho is | normal |
|---|---|---|
| gaussian, glorot, sparse | about 1.06 sigma_w where H = 64: the largest of random eigenvalues | no |
| orthogonal, identity | the modulus of every eigenvalue | yes |
| antisymmetric | the largest frequency; every eigenvalue is ± i omega | yes |
| ring | the largest modulus; the others lie inside, evenly by area | yes |
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


def pascanu_sigmoid(rng: np.random.Generator, size: int) -> np.ndarray:
    """Normal entries of standard deviation 0.01, for sigmoid units (Pascanu, Mikolov & Bengio 2013, section 4.1)."""
    return 0.01 * rng.standard_normal((size, size))


def pascanu_tanh(rng: np.random.Generator, size: int) -> np.ndarray:
    """Normal entries of standard deviation 0.1, for tanh units (Pascanu, Mikolov & Bengio 2013, section 4.1)."""
    return 0.1 * rng.standard_normal((size, size))


SMART_ENTRIES, SMART_RADIUS = 15, 0.95  # entries of a row, and rho


def pascanu_smart(rng: np.random.Generator, size: int) -> np.ndarray:
    """15 normal entries in every row, in places of their own, the rest zero; rho = 0.95 (Pascanu, Mikolov & Bengio 2013, section 4.1).

    A small matrix may have no eigenvalue but 0. Such a draw is made again.
    """
    matrix = np.zeros((size, size))
    while not (radius := spectral_radius(matrix, remember=False)):
        for row in matrix:
            row[:] = 0.0
            row[rng.permutation(size)[:SMART_ENTRIES]] = rng.standard_normal(min(SMART_ENTRIES, size))
    return matrix * (SMART_RADIUS / radius)


def antisymmetric(rng: np.random.Generator, size: int) -> np.ndarray:
    """(M - M^T)/√2 of a Gaussian M: eigenvalues ± i omega, so that e^{Wt} turns and never stretches (Chang et al. 2019).

    An Euler step of it does stretch, by ½ ln(1 + eta² omega²). The damping gamma of that paper is the leak lambda = eta gamma of a
    residual cell, where phi is linear. omega runs to 2 as H grows. A size of 1 leaves nothing but 0.
    """
    M = gaussian(rng, size)
    return np.asarray((M - M.T) / math.sqrt(2.0))


def ring(rng: np.random.Generator, size: int, inner: float = 0.0) -> np.ndarray:
    """Turns by a random angle, each scaled by a modulus between an inner and an outer radius, uniform by area.

    It is the linear recurrent unit (Orvieto et al. 2023) in real numbers: a conjugate pair of eigenvalues is a block
    |λ| (cos θ, -sin θ; sin θ, cos θ) on the diagonal, with |λ|² uniform in [r_min², r_max²]. An odd size has one real eigenvalue more.

    Args:
        inner: r_min / r_max, from 0 to below 1.
    """
    pairs = (size + 1) // 2
    modulus, angle = np.sqrt(rng.uniform(inner**2, 1.0, pairs)), rng.uniform(0.0, 2.0 * math.pi, pairs)
    real, imaginary = modulus * np.cos(angle), modulus * np.sin(angle)
    W = np.zeros((2 * pairs, 2 * pairs))
    first, second = np.arange(0, 2 * pairs, 2), np.arange(1, 2 * pairs, 2)
    W[first, first] = W[second, second] = real
    W[second, first], W[first, second] = imaginary, -imaginary
    if size % 2:
        W[size - 1, size - 1] = math.copysign(float(modulus[-1]), float(real[-1]))
    return W[:size, :size] / math.sqrt(0.5 * (1.0 + inner**2))  # E |λ|² is the mean of both ends


def glorot(rng: np.random.Generator, size: int) -> np.ndarray:
    """Independent entries, uniform between ± √(6 / (fan_in + fan_out)) = ± √(3/H): variance 1/H (Glorot & Bengio 2010)."""
    limit = math.sqrt(6.0 / (size + size))
    return rng.uniform(-limit, limit, (size, size))


NONZEROS = 15  # in a row of a sparse matrix: what a unit listens to (Martens 2010; Sutskever et al. 2013)


def sparse(rng: np.random.Generator, size: int) -> np.ndarray:
    """In each row 15 normal entries of variance 1/15 at random places, or all H where there are fewer; the others are 0."""
    k = min(NONZEROS, size)
    W = np.zeros((size, size))
    for row in W:
        row[rng.choice(size, k, replace=False)] = rng.standard_normal(k) / math.sqrt(k)
    return W


INITIALIZERS: Registry[Callable[[np.random.Generator, int], np.ndarray]] = Registry(
    "initializers",
    {
        "gaussian": gaussian,
        "orthogonal": orthogonal,
        "identity": identity,
        "pascanu_sigmoid": pascanu_sigmoid,
        "pascanu_tanh": pascanu_tanh,
        "pascanu_smart": pascanu_smart,
        "antisymmetric": antisymmetric,
        "ring": ring,
        "glorot": glorot,
        "sparse": sparse,
    },
)
OF_OWN_SIZE = ("pascanu_sigmoid", "pascanu_tanh", "pascanu_smart")  # the draw of every other one has variance 1/H
SMALLEST_SIZE = {"antisymmetric": 2}  # of a draw that is nothing but 0 below


def check_size(initializer: str, size: int) -> None:
    """ValueError where a matrix of this size would be 0."""
    least = SMALLEST_SIZE.get(initializer, 1)
    if size < least:
        raise ValueError(
            f"hidden_size: {size!r} is not allowed with initializer {initializer!r}; it must be at least {least}"
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


def recurrent_matrix(
    rng: np.random.Generator, size: int, initializer: str, rho: float | None = None, *, sigma_w: float | None = None
) -> np.ndarray:
    """A (size, size) matrix drawn by ``initializer`` and rescaled to the measured spectral radius ``rho``; without a scale as drawn.

    Args:
        sigma_w: instead of rho. The draw, whose entries have variance 1/H, is multiplied by it, and nothing is measured: so a
            sweep sets what mean-field theory goes by. The spectral radius is then what it happens to be.

    Raises:
        ValueError: ``rng`` is no generator, the initializer is unknown, the size is too small, or the scale is not one number that is
            positive and finite.
    """
    if rho is not None and sigma_w is not None:
        raise ValueError(
            f"spectral_radius: {rho!r} is not allowed beside weight_scale: {sigma_w!r}; one of them scales W_hh"
        )
    if sigma_w is None:
        return drawn(rng, size, initializer, rho, INITIALIZERS, lambda matrix: matrix)
    _check_scale("weight_scale", sigma_w)
    return float(sigma_w) * drawn(rng, size, initializer, None, INITIALIZERS, lambda matrix: matrix)


def drawn(
    rng: np.random.Generator,
    size: int,
    initializer: str,
    rho: float | None,
    draws: Registry[Draw],
    matrix_of: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Numbers drawn by a row of ``draws``, scaled until the matrix that they stand for has the measured spectral radius ``rho``.

    Args:
        rho: None leaves them as drawn.
        matrix_of: (size, size) from the numbers, and linear in them.
    """
    check_generator(rng)
    draw = choose("initializer", initializer, draws)
    if not (is_integer(size) and size >= 1):
        raise ValueError(f"hidden_size: {size!r} is not allowed; it must be an integer of at least 1")
    _check_scale("spectral_radius", rho)
    check_size(initializer, int(size))
    numbers = draw(rng, int(size))
    return numbers if rho is None else np.asarray(numbers * (float(rho) / spectral_radius(matrix_of(numbers))))


def _check_scale(name: str, scale: float | None) -> None:
    if scale is not None and not (is_number(scale) and scale > 0.0):
        raise ValueError(f"{name}: {scale!r} is not allowed; it must be positive and finite")


def check_generator(rng: Any) -> None:
    """ValueError unless this is a NumPy generator."""
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng: {rng!r} is not allowed; it must be a NumPy generator, np.random.default_rng(seed)")
