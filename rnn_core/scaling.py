"""Numbers beyond floating-point range: value = mantissa * 2**exponent, and norms that neither overflow nor underflow.

Multiplying by a power of two changes no bit of a mantissa, so a pass that carries its exponent apart computes the very
same bits as a plain pass wherever the plain one would have stayed in range (Higham 2002, section 2.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from rnn_core.arrays import Array, State, dtype_name, like, namespace, to_numpy

LN2 = math.log(2.0)
Found = TypeVar("Found")

# Magnitudes within 2**±WINDOW are left alone: their squares still sum without overflow or underflow.
WINDOW = {"float64": 480, "float32": 48}
# Magnitudes within 2**±PLAIN are normal numbers of the dtype, and so is each of these powers of two as a factor.
PLAIN = {"float64": 1000, "float32": 120}


def times_power_of_two(x: Array, exponent: int) -> Array:
    """``x * 2**exponent``, in steps that stay in range; overflows and underflows only where the result does."""
    largest = PLAIN[dtype_name(x)]
    left = max(-4 * largest, min(4 * largest, exponent))
    while left:
        step = max(-largest, min(largest, left))
        x = x * 2.0**step
        left -= step
    return x


def top_exponent(x: Array) -> int | None:
    """The e with 2**(e-1) <= max|x| < 2**e; None if ``x`` is all zero or empty.

    Raises:
        FloatingPointError: ``x`` holds inf or nan.
    """
    xp = namespace(x)
    largest = float(xp.max(xp.abs(x))) if math.prod(x.shape) else 0.0
    if not math.isfinite(largest):
        raise FloatingPointError("inf or nan has no exponent")
    return math.frexp(largest)[1] if largest else None


def top_exponent_or_zero(x: Array) -> int:
    """``top_exponent``; 0 where there is none, also for inf and nan."""
    try:
        return top_exponent(x) or 0
    except FloatingPointError:
        return 0


def log_norm(x: Array) -> float:
    """ln of the Euclidean norm of all entries, accurate for any magnitude; -inf for zeros, nan or inf where ``x`` is."""
    xp = namespace(x)
    try:
        top = top_exponent(x)
    except FloatingPointError:
        return math.nan if bool(xp.any(xp.isnan(x))) else math.inf
    if top is None:
        return -math.inf
    m = times_power_of_two(x, -top).reshape(-1)
    return 0.5 * math.log(float(m @ m)) + top * LN2


def log_norms(x: Array) -> np.ndarray:
    """ln of the Euclidean norm of ``x[t]`` for every leading index t, float64; as accurate as ``log_norm``, -inf for zeros only."""
    xp = namespace(x)
    rows = xp.reshape(x, (x.shape[0], -1))
    (some,) = np.nonzero(to_numpy(xp.any(rows != 0, axis=1)))  # often the last step alone carries a loss
    norms = np.full(x.shape[0], -np.inf)
    if not len(some):
        return norms
    rows = rows if len(some) == len(rows) else rows[some]
    lowest, highest = square_limits(x)
    with np.errstate(all="ignore"):
        squares = to_numpy(xp.vecdot(rows, rows)).astype(np.float64)
        norms[some] = 0.5 * np.log(squares)
    for k in np.flatnonzero(
        ~((squares >= lowest) & (squares <= highest))
    ):  # what the squares of plain floats do not hold
        norms[some[k]] = log_norm(rows[int(k)])
    return norms


def log_norms_of_columns(x: Array) -> np.ndarray:
    """ln of the Euclidean norm of every column, (steps, rows, B) to float64 (steps, B); as accurate as ``log_norm``.

    -inf for columns of zeros only; nan or inf where ``x`` is.
    """
    xp = namespace(x)
    lowest, highest = square_limits(x)
    with np.errstate(all="ignore"):
        squares = to_numpy(xp.vecdot(x, x, axis=1)).astype(np.float64)
        norms = 0.5 * np.log(squares)
    steps, samples = np.nonzero(~((squares >= lowest) & (squares <= highest)))  # what plain squares do not hold
    if len(steps):
        rows = to_numpy(x[steps, :, samples]).astype(np.float64)
        size = np.frexp(np.abs(rows).max(axis=1))[1]  # 0 where it is 0, inf or nan
        with np.errstate(all="ignore"):
            rows = np.ldexp(rows, -size[:, None])
            norms[steps, samples] = 0.5 * np.log(np.vecdot(rows, rows)) + size * LN2
    return norms


@dataclass(frozen=True)
class Scaled:
    """An array whose entries do not fit in plain floats: ``mantissa * 2**exponent``.

    Attributes:
        mantissa: any shape, in the library, dtype and device of the inputs.
        exponent: one integer for all entries, or an int64 array of shape ``mantissa.shape[:1]``, one per leading index.
    """

    mantissa: Array
    exponent: int | np.ndarray

    def __post_init__(self) -> None:
        exponent = np.asarray(self.exponent)
        if exponent.dtype.kind not in "iu" or exponent.shape not in ((), tuple(self.mantissa.shape[:1])):
            raise ValueError("exponent: it must be an integer, or one for every leading index of the mantissa")
        object.__setattr__(self, "exponent", exponent.astype(np.int64) if exponent.ndim else int(exponent))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.mantissa.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __len__(self) -> int:
        return len(self.mantissa)

    def __getitem__(self, index: int | slice | tuple[Any, ...]) -> Array | Scaled:
        """The entries at one leading index, or at some, plain where they fit; further indices select among those."""
        if isinstance(index, tuple):
            first, rest = self[index[0]], (slice(None),) * isinstance(index[0], slice) + index[1:]
            if not isinstance(first, Scaled):
                return first[rest]
            return plain_if_fits(first.mantissa[rest], first.exponent)
        exponent = self.exponent if isinstance(self.exponent, int) else self.exponent[index]
        return plain_if_fits(self.mantissa[index], exponent if isinstance(exponent, np.ndarray) else int(exponent))

    def __truediv__(self, number: float) -> Scaled:
        return Scaled(self.mantissa / number, self.exponent)

    def to_float(self) -> Array:
        """Plain floats; entries out of range become ±inf or 0."""
        with np.errstate(over="ignore", under="ignore"):
            return self._to_float()

    def _to_float(self) -> Array:
        if isinstance(self.exponent, int):
            return times_power_of_two(self.mantissa, self.exponent)
        largest, x = PLAIN[dtype_name(self.mantissa)], self.mantissa
        left = np.clip(self.exponent, -4 * largest, 4 * largest).reshape(-1, *(1,) * (len(self.shape) - 1))
        while left.any():
            step = np.clip(left, -largest, largest)
            x = x * like(np.ldexp(1.0, step), x)
            left = left - step
        return x

    def log_norm(self) -> float:
        """ln of the Euclidean norm of all entries."""
        if isinstance(self.exponent, int):
            return log_norm(self.mantissa) + self.exponent * LN2
        return 0.5 * float(np.logaddexp.reduce(2.0 * (log_norms(self.mantissa) + self.exponent * LN2)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(to_numpy(self.to_float()), dtype=dtype)


def plain(x: Array | Scaled) -> Array:
    """Plain floats; entries out of range become ±inf or 0."""
    return x.to_float() if isinstance(x, Scaled) else x


def parts(x: Array | Scaled) -> tuple[Array, np.ndarray]:
    """(mantissa, one exponent for every leading index)."""
    mantissa, exponent = (x.mantissa, x.exponent) if isinstance(x, Scaled) else (x, 0)
    return mantissa, np.broadcast_to(np.asarray(exponent, dtype=np.int64), tuple(mantissa.shape[:1]))


def concat(arrays: list[Array | Scaled]) -> Array | Scaled:
    """Joined along the leading axis; plain where all are."""
    if not any(isinstance(a, Scaled) for a in arrays):
        return arrays[0] if len(arrays) == 1 else namespace(arrays[0]).concat(arrays)
    mantissas, exponents = zip(*map(parts, arrays), strict=True)
    return Scaled(namespace(mantissas[0]).concat(list(mantissas)), np.concatenate(exponents))


def log_norm_of(x: Array | Scaled) -> float:
    """ln of the Euclidean norm, of plain or scaled entries."""
    return x.log_norm() if isinstance(x, Scaled) else log_norm(x)


def _fits(x: Array, exponent: int) -> bool:
    """Whether the largest magnitude of ``x * 2**exponent`` is a normal number (smaller entries may round to zero)."""
    top = top_exponent(x)
    smallest, largest = _exponent_range(x)
    return top is None or smallest <= top + exponent <= largest


def _exponent_range(x: Array) -> tuple[int, int]:
    """``top_exponent`` of the smallest normal and of the largest number of the dtype."""
    limits = namespace(x).finfo(x.dtype)
    return math.frexp(float(limits.smallest_normal))[1], math.frexp(float(limits.max))[1]


def plain_if_fits(x: Array, exponent: int | np.ndarray) -> Array | Scaled:
    """``x * 2**exponent`` in plain floats if every leading entry's largest magnitude fits, otherwise ``Scaled``.

    With one exponent for all, "every leading entry" is the whole array. inf and nan stay what they are.
    """
    scaled = Scaled(x, exponent)
    try:
        if isinstance(exponent, int):
            return x if exponent == 0 else scaled.to_float() if _fits(x, exponent) else scaled
    except FloatingPointError:
        return scaled.to_float()
    if not exponent.any():
        return x
    sizes = tops(x) + exponent
    smallest, largest = _exponent_range(x)
    return (
        scaled if ((sizes < smallest) | (sizes > largest)).any() else scaled.to_float()
    )  # nan, for 0, inf and nan, is neither


def common_exponent(*terms: tuple[Array, int]) -> int:
    """The exponent at which to add terms mantissa * 2**exponent: 0, that of plain floats, where the largest is well in range;
    else the largest one's. Where a term is inf or nan, the first term's."""
    try:
        sizes = [size + e for term, e in terms if (size := top_exponent(term)) is not None]
    except FloatingPointError:
        return terms[0][1]
    top = max(sizes, default=0)
    return 0 if abs(top) <= WINDOW[dtype_name(terms[0][0])] else top


def add(parts: State, exponent: int, name: str, y: Array, y_exponent: int = 0) -> tuple[State, int]:
    """``parts * 2**exponent`` with ``y * 2**y_exponent`` added to the part ``name``, as (parts, exponent): the plain sum,
    exponent 0, where both were plain or all is well in range."""
    if exponent == y_exponent == 0:
        return {**parts, name: parts[name] + y}, 0
    common = common_exponent(*((part, exponent) for part in parts.values()), (y, y_exponent))
    moved = {key: times_power_of_two(part, exponent - common) for key, part in parts.items()}
    return {**moved, name: moved[name] + times_power_of_two(y, y_exponent - common)}, common


def square_limits(x: Array) -> tuple[float, float]:
    """Between these, the squared norm of an array like ``x`` says that its magnitudes are well within the window."""
    window = WINDOW[dtype_name(x)]
    return 2.0 ** (-2 * window), 2.0 ** (2 * window)


def renormalise(parts: State, exponent: int) -> tuple[State, int]:
    """The same values, the largest magnitude of all parts in [1/2, 1); unchanged where they are 0, inf or nan."""
    top = _top_of(parts)
    if top is None:
        return parts, exponent
    return {name: times_power_of_two(part, -top) for name, part in parts.items()}, exponent + top


def _top_of(parts: State) -> int | None:
    """``top_exponent`` of all parts together; None where they are zero, or where anything is inf or nan."""
    try:
        return max((top for part in parts.values() if (top := top_exponent(part)) is not None), default=None)
    except FloatingPointError:
        return None


def all_finite(*arrays: Array) -> bool:
    """Whether no entry is inf or nan."""
    return all(bool(namespace(a).all(namespace(a).isfinite(a))) for a in arrays)


def flags_raise() -> np.errstate:
    """Within it NumPy raises FloatingPointError wherever an operation over- or underflows or is invalid."""
    return np.errstate(over="raise", under="raise", invalid="raise")


def at_a_good_scale(
    step: Callable[[int], Found], arrays: Callable[[Found], list[Array]], sound: Callable[[Found], bool], x: Array
) -> tuple[Found, int]:
    """(step(shift), shift) for the first of three powers of two, 2**shift, at which nothing over- or underflows.

    Flags say so with NumPy, ``sound`` with other libraries. Where all are flawed, a finite result is preferred, and among
    those one that was scaled up: what still underflows there is further below the largest.
    """
    room = 2 * WINDOW[dtype_name(x)] * 15 // 16
    best, best_finite = None, False
    for shift in (0, room, -room):
        try:
            with flags_raise():
                found = step(shift)
                if sound(found):
                    return found, shift
        except FloatingPointError:
            found = step(shift)
        finite = all_finite(*arrays(found))
        if best is None or (finite and (shift > 0 or not best_finite)):
            best, best_finite = (found, shift), finite
    assert best is not None
    return best


def sum_of_products(
    d: Array, exponents: np.ndarray, factor: Array | None, contract: Callable[[Array, Array | None], Array]
) -> Array | Scaled:
    """``contract(d, factor)``, a sum over the leading index t of d_t · factor_t, where d_t counts times 2**exponents[t].

    The plain sum is taken where all exponents are 0 and no product or sum over- or underflows: NumPy says so; of other
    libraries the size of the result must tell.
    """
    if not exponents.any():
        try:
            with flags_raise():
                total = contract(d, factor)
            top = top_exponent(total)
            if isinstance(total, np.ndarray) or (top is not None and top > -2 * WINDOW[dtype_name(d)]):
                return total
        except FloatingPointError:
            pass
    d, factor, common = align(d, exponents, factor)
    return plain_if_fits(contract(d, factor), common)


def plus(a: Array | Scaled, b: Array | Scaled) -> Array | Scaled:
    """a + b, each with at most one exponent for all entries."""
    if not isinstance(a, Scaled) and not isinstance(b, Scaled):
        with np.errstate(over="ignore", invalid="ignore"):
            total = a + b
        if all_finite(total) or not all_finite(a, b):
            return total
    (x, e_x), (y, e_y) = ((v.mantissa, v.exponent) if isinstance(v, Scaled) else (v, 0) for v in (a, b))
    assert isinstance(e_x, int) and isinstance(e_y, int)
    parts, e = add(*renormalise({"sum": x}, e_x), "sum", y, e_y)
    return plain_if_fits(parts["sum"], e)


def align(d: Array, exponents: np.ndarray, factor: Array | None = None) -> tuple[Array, Array | None, int]:
    """(d, factor, exponent) such that Σ_t d_t · factor_t can be summed in plain arithmetic and is right times 2**exponent.

    ``d`` (T, …) has an exponent for every t; ``factor`` (T, …) is plain, None stands for ones. Every factor_t is brought to
    size 1 and every d_t to the size that its product has beside the largest product, whose exponent is returned (0 where that
    is in range). What then rounds to zero is smaller than the largest product by more than the dtype's whole range.
    """
    sizes = tops(d)
    factors = np.zeros(len(sizes)) if factor is None else tops(factor)
    products = sizes + exponents + factors
    if np.isnan(products).all():
        return d, factor, 0
    largest = int(np.nanmax(products))
    common = 0 if abs(largest) <= WINDOW[dtype_name(d)] else largest
    # Where a product is zero (or not finite), its parts are brought to size 1, lest one overflows beside the zero.
    shift = np.where(np.isnan(products), -np.nan_to_num(sizes), exponents + np.nan_to_num(factors) - common)
    if factor is not None:
        factor = Scaled(factor, -np.nan_to_num(factors).astype(np.int64)).to_float()
    return Scaled(d, shift.astype(np.int64)).to_float(), factor, common


def tops(x: Array) -> np.ndarray:
    """``top_exponent`` of ``x[t]`` for every leading index t; nan where it is zero, inf or nan. float64 (T,)."""
    xp = namespace(x)
    rows = xp.reshape(x, (x.shape[0], -1))
    largest = to_numpy(xp.maximum(xp.max(rows, axis=1), -xp.min(rows, axis=1))).astype(np.float64)
    return np.where(np.isfinite(largest) & (largest > 0), np.frexp(largest)[1], np.nan)
