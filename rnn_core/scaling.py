"""Numbers beyond floating-point range: value = mantissa * 2**exponent, and norms that neither overflow nor underflow.

Multiplying by a power of two changes no bit of a mantissa (Higham 2002, section 2.1). So a pass that carries its exponent apart
computes the very same bits as a plain pass, wherever the plain one would have stayed in range.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from rnn_core.arrays import Array, State, dtype_name, like, namespace, to_numpy

LN2, LN10 = math.log(2.0), math.log(10.0)
Outcome = TypeVar("Outcome")

# Magnitudes within 2**±WINDOW are left alone: their squares still sum without overflow or underflow.
WINDOW = {"float64": 480, "float32": 48}
# Magnitudes within 2**±PLAIN are normal numbers of the dtype, and so is each of these powers of two as a factor.
PLAIN = {"float64": 1000, "float32": 120}
# ``exponent_of`` the smallest normal and of the largest number.
NORMAL = {
    name: (math.frexp(float(np.finfo(name).smallest_normal))[1], math.frexp(float(np.finfo(name).max))[1])
    for name in WINDOW
}


def times_power_of_two(x: Array, exponent: int) -> Array:
    """``x * 2**exponent``, in steps that stay in range; overflows and underflows only where the result does."""
    largest = PLAIN[dtype_name(x)]
    left = max(-4 * largest, min(4 * largest, exponent))
    while left:
        step = max(-largest, min(largest, left))
        x = x * 2.0**step
        left -= step
    return x


def exponent_of(x: Array) -> int | None:
    """The e with 2**(e-1) <= max|x| < 2**e; None if ``x`` is all zero or empty.

    Raises:
        FloatingPointError: ``x`` holds inf or nan.
    """
    xp = namespace(x)
    largest = float(xp.max(xp.abs(x))) if math.prod(x.shape) else 0.0
    if not math.isfinite(largest):
        raise FloatingPointError("inf or nan has no exponent")
    return math.frexp(largest)[1] if largest else None


def exponent_or_zero(x: Array) -> int:
    """``exponent_of``; 0 where there is none, also for inf and nan."""
    try:
        return exponent_of(x) or 0
    except FloatingPointError:
        return 0


def log_norm(x: Array | Scaled, exponent: int = 0) -> float:
    """ln of the Euclidean norm of all entries times 2**exponent, accurate for any magnitude; -inf for zeros, nan or inf where ``x`` is."""
    if isinstance(x, Scaled):
        return x.log_norm() + exponent * LN2
    xp = namespace(x)
    if xp is np and x.size:
        return _log_norm_of_numpy(x.reshape(-1), exponent)
    try:
        e = exponent_of(x)
    except FloatingPointError:
        return math.nan if bool(xp.any(xp.isnan(x))) else math.inf
    if e is None:
        return -math.inf
    m = times_power_of_two(x, -e).reshape(-1)
    return 0.5 * math.log(float(m @ m)) + (e + exponent) * LN2  # two large logarithms that cancel would cost digits


def _log_norm_of_numpy(flat: np.ndarray, exponent: int) -> float:
    """The same bits with half the calls: training asks for twelve norms an update, of arrays for which a call takes longer than the sum."""
    largest = max(float(np.maximum.reduce(flat)), -float(np.minimum.reduce(flat)))
    if not 0.0 < largest < math.inf:
        return (
            -math.inf if largest == 0.0 else math.inf if largest == math.inf and not np.isnan(flat).any() else math.nan
        )
    e = math.frexp(largest)[1]
    if abs(e) > WINDOW[dtype_name(flat)] // 2:
        flat = times_power_of_two(flat, -e)
        return 0.5 * math.log(float(flat @ flat)) + (e + exponent) * LN2
    # powers of two move out of a sum of squares without a rounding
    return 0.5 * math.log(math.ldexp(float(flat @ flat), -2 * e)) + (e + exponent) * LN2


def log_norms(x: Array | Scaled) -> np.ndarray:
    """ln of the Euclidean norm of ``x[t]`` for every leading index t, float64; as accurate as ``log_norm``, -inf for zeros only."""
    if isinstance(x, Scaled):
        return log_norms(x.mantissa) + x.exponent * LN2
    xp = namespace(x)
    rows = xp.reshape(x, (x.shape[0], -1))
    lowest, highest = square_limits(x)
    with np.errstate(all="ignore"):
        squares = to_numpy(xp.vecdot(rows, rows)).astype(np.float64)
        norms: np.ndarray = 0.5 * np.log(squares)
    outside = np.flatnonzero(
        ~((squares >= lowest) & (squares <= highest))
    )  # what the squares of plain floats do not hold
    if len(outside):  # zeros most often: the last step alone carries a loss
        most = 2 * len(outside) > len(rows)  # a copy of most rows takes longer than a look at all
        nonzero = to_numpy(xp.any((rows if most else rows[outside]) != 0, axis=1))
        for k in outside[nonzero[outside] if most else nonzero]:
            norms[k] = log_norm(rows[int(k)])
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


@dataclass(frozen=True, repr=False)
class Scaled:
    """An array whose entries do not fit in plain floats: ``mantissa * 2**exponent``.

    Attributes:
        mantissa: any shape, in the library, dtype and device of the inputs.
        exponent: one integer for all entries, or an int64 array of shape ``mantissa.shape[:1]``, one per leading index.
    """

    mantissa: Array
    exponent: int | np.ndarray

    def __post_init__(self) -> None:
        if not hasattr(self.mantissa, "dtype"):
            raise ValueError(
                f"mantissa: {type(self.mantissa).__name__} is not allowed; it must be a NumPy array or a torch tensor"
            )
        exponent = np.asarray(self.exponent)
        if exponent.dtype.kind not in "iu" or exponent.shape not in ((), tuple(self.mantissa.shape[:1])):
            raise ValueError(
                f"exponent: shape {exponent.shape} of {exponent.dtype} is not allowed; it must be one integer, "
                f"or one for every leading index of the mantissa, whose shape is {self.shape}"
            )
        object.__setattr__(self, "exponent", exponent.astype(np.int64) if exponent.ndim else int(exponent))

    def __repr__(self) -> str:
        """A number as 2.5·10^6020; of an array the shape, the dtype and the norm."""
        if self.ndim == 0:
            sign = "-" if float(self.mantissa) < 0.0 else ""
            return f"Scaled({sign}{in_powers_of_ten(self.log_norm())})"
        which = f"exponent {self.exponent}" if isinstance(self.exponent, int) else "an exponent a row"
        norm = in_powers_of_ten(self.log_norm())
        return f"Scaled(shape {self.shape}, {dtype_name(self.mantissa)}, {which}, norm {norm})"

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
            return log_norm(self.mantissa, self.exponent)
        return 0.5 * float(np.logaddexp.reduce(2.0 * (log_norms(self.mantissa) + self.exponent * LN2)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(to_numpy(self.to_float()), dtype=dtype)


def in_powers_of_ten(log: float) -> str:
    """A number by its natural logarithm, as 2.5·10^6020."""
    if not math.isfinite(log):
        return "0" if log == -math.inf else str(log)
    power = math.floor(log / LN10)
    digits = f"{math.exp(log - power * LN10):.6g}"
    if digits == "10":  # 9.9999999 is rounded up
        digits, power = "1", power + 1
    return f"{digits}·10^{power}"


def described_shape(x: Array | Scaled) -> str:
    """The shape, and whether plain floats do not hold the values."""
    return f"{tuple(x.shape)}{' Scaled' if isinstance(x, Scaled) else ''}"


def plain(x: Array | Scaled) -> Array:
    """Plain floats; entries out of range become ±inf or 0."""
    return x.to_float() if isinstance(x, Scaled) else x


def mantissa_and_exponents(x: Array | Scaled) -> tuple[Array, np.ndarray]:
    """(mantissa, one exponent for every leading index)."""
    mantissa, exponent = (x.mantissa, x.exponent) if isinstance(x, Scaled) else (x, 0)
    if isinstance(exponent, int):
        exponent = np.full(tuple(mantissa.shape[:1]), exponent, dtype=np.int64)
    return mantissa, exponent


def concat(arrays: list[Array | Scaled]) -> Array | Scaled:
    """Joined along the leading axis; plain where all are."""
    if not any(isinstance(a, Scaled) for a in arrays):
        return arrays[0] if len(arrays) == 1 else namespace(arrays[0]).concat(arrays)
    mantissas, exponents = zip(*map(mantissa_and_exponents, arrays), strict=True)
    return Scaled(namespace(mantissas[0]).concat(list(mantissas)), np.concatenate(exponents))


def at_one_exponent(x: Array | Scaled) -> Array | Scaled:
    """The same values with one exponent for all entries; plain where that fits. What is too far below the largest becomes 0."""
    if not isinstance(x, Scaled) or isinstance(x.exponent, int):
        return x
    zero = to_numpy(~namespace(x.mantissa).any(namespace(x.mantissa).reshape(x.mantissa, (len(x), -1)) != 0, axis=1))
    largest = int(
        np.where(zero, np.min(x.exponent), x.exponent).max()
    )  # whatever exponent zeros have, it counts for nothing
    return plain_if_fits(Scaled(x.mantissa, x.exponent - largest).to_float(), largest)


def times(x: Array | Scaled, factor: float | Array, exponent: int | np.ndarray = 0) -> Array | Scaled:
    """``x * factor * 2**exponent``; plain where that fits."""
    m, e = (x.mantissa, x.exponent) if isinstance(x, Scaled) else (x, 0)
    return plain_if_fits(m * factor, e + exponent)


def _fits(x: Array, exponent: int) -> bool:
    """Whether the largest magnitude of ``x * 2**exponent`` is a normal number (smaller entries may round to zero), or not finite."""
    try:
        e = exponent_of(x)
    except FloatingPointError:
        return True
    smallest, largest = NORMAL[dtype_name(x)]
    return e is None or smallest <= e + exponent <= largest


def plain_if_fits(x: Array, exponent: int | np.ndarray) -> Array | Scaled:
    """``x * 2**exponent`` in plain floats if every leading entry's largest magnitude fits, otherwise ``Scaled``.

    With one exponent for all, "every leading entry" is the whole array. inf and nan stay what they are.
    """
    if isinstance(exponent, int):
        if not exponent:
            return x
        if not _fits(x, exponent):
            return Scaled(x, exponent)
        with np.errstate(over="ignore", under="ignore"):
            return times_power_of_two(x, exponent)
    if not exponent.any():
        return x
    scaled, exponents = Scaled(x, exponent), exponents_of(x) + exponent
    smallest, largest = NORMAL[dtype_name(x)]
    outside = (exponents < smallest) | (exponents > largest)  # nan, for 0, inf and nan, is neither
    return scaled if outside.any() else scaled.to_float()


def common_exponent(*terms: tuple[Array, int]) -> int:
    """The exponent at which to add terms mantissa * 2**exponent: 0, that of plain floats, where the largest is well in range;
    else the largest one's. Where a term is inf or nan, the first term's."""
    try:
        exponents = [own + e for term, e in terms if (own := exponent_of(term)) is not None]
    except FloatingPointError:
        return terms[0][1]
    largest = max(exponents, default=0)
    return 0 if abs(largest) <= WINDOW[dtype_name(terms[0][0])] else largest


def sum_of_terms(terms: list[tuple[Array, int]]) -> tuple[Array, int]:
    """The sum of arrays mantissa * 2**exponent, as (mantissa, exponent); exponent 0 if plain floats hold the largest entry."""
    if len(terms) == 1:
        return terms[0]
    common = common_exponent(*terms)
    common = 0 if abs(common) <= PLAIN[dtype_name(terms[0][0])] else common
    return sum(times_power_of_two(m, e - common) for m, e in terms), common


def add_to_part(parts: State, exponent: int, name: str, y: Array, y_exponent: int = 0) -> tuple[State, int]:
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
    e = _exponent_of_parts(parts)
    if e is None:
        return parts, exponent
    return {name: times_power_of_two(part, -e) for name, part in parts.items()}, exponent + e


def _exponent_of_parts(parts: State) -> int | None:
    """``exponent_of`` of all parts together; None where they are zero, or where anything is inf or nan."""
    try:
        return max((e for part in parts.values() if (e := exponent_of(part)) is not None), default=None)
    except FloatingPointError:
        return None


def all_finite(*arrays: Array) -> bool:
    """Whether no entry is inf or nan."""
    return all(
        bool(np.isfinite(a).all() if type(a) is np.ndarray else namespace(a).all(namespace(a).isfinite(a)))
        for a in arrays
    )


def flags_raise() -> np.errstate:
    """Within it NumPy raises FloatingPointError wherever an operation over- or underflows or is invalid."""
    return np.errstate(over="raise", under="raise", invalid="raise")


def at_first_sound_scale(
    step: Callable[[int], Outcome], arrays: Callable[[Outcome], list[Array]], sound: Callable[[Outcome], bool], x: Array
) -> tuple[Outcome, int]:
    """(step(shift), shift) for the first of three powers of two, 2**shift, at which nothing over- or underflows.

    Flags say so with NumPy, ``sound`` with other libraries. Where all are flawed, a finite result is preferred, and among
    those one that was scaled up: what still underflows there is further below the largest.
    """
    far = 2 * WINDOW[dtype_name(x)] * 15 // 16
    best, best_finite = None, False
    for shift in (0, far, -far):
        try:
            with flags_raise():
                outcome = step(shift)
                if sound(outcome):
                    return outcome, shift
        except FloatingPointError:
            outcome = step(shift)
        finite = all_finite(*arrays(outcome))
        if best is None or (finite and (shift > 0 or not best_finite)):
            best, best_finite = (outcome, shift), finite
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
            e = exponent_of(total)
            if isinstance(total, np.ndarray) or (e is not None and e > -2 * WINDOW[dtype_name(d)]):
                return total
        except FloatingPointError:
            pass
    d, factor, common = align(d, exponents, factor)
    return plain_if_fits(contract(d, factor), common)


def add(a: Array | Scaled, b: Array | Scaled) -> Array | Scaled:
    """a + b, each with at most one exponent for all entries."""
    if not isinstance(a, Scaled) and not isinstance(b, Scaled):
        with np.errstate(over="ignore", invalid="ignore"):
            total = a + b
        if all_finite(total) or not all_finite(a, b):
            return total
    (x, e_x), (y, e_y) = ((v.mantissa, v.exponent) if isinstance(v, Scaled) else (v, 0) for v in (a, b))
    assert isinstance(e_x, int) and isinstance(e_y, int)
    parts, e = add_to_part(*renormalise({"sum": x}, e_x), "sum", y, e_y)
    return plain_if_fits(parts["sum"], e)


def align(d: Array, exponents: np.ndarray, factor: Array | None = None) -> tuple[Array, Array | None, int]:
    """(d, factor, exponent) such that Σ_t d_t · factor_t can be summed in plain arithmetic and is right times 2**exponent.

    ``d`` (T, …) has an exponent for every t; ``factor`` (T, …) is plain, None stands for ones. Every factor_t is brought to size 1
    and every d_t to the size that its product has beside the largest product. The exponent of that one is returned (0 where it is
    in range). What then rounds to zero is smaller than the largest product by more than the dtype's whole range.
    """
    of_d = exponents_of(d)
    of_factor = np.zeros(len(of_d)) if factor is None else exponents_of(factor)
    products = of_d + exponents + of_factor
    if np.isnan(products).all():
        return d, factor, 0
    largest = int(np.nanmax(products))
    common = 0 if abs(largest) <= WINDOW[dtype_name(d)] else largest
    # Where a product is zero (or not finite), its parts are brought to size 1, lest one overflows beside the zero.
    shift = np.where(np.isnan(products), -np.nan_to_num(of_d), exponents + np.nan_to_num(of_factor) - common)
    if factor is not None:
        factor = Scaled(factor, -np.nan_to_num(of_factor).astype(np.int64)).to_float()
    return Scaled(d, shift.astype(np.int64)).to_float(), factor, common


def exponents_of(x: Array) -> np.ndarray:
    """``exponent_of`` of ``x[t]`` for every leading index t; nan where it is zero, inf or nan. float64 (T,)."""
    xp = namespace(x)
    rows = xp.reshape(x, (x.shape[0], -1))
    largest = to_numpy(xp.maximum(xp.max(rows, axis=1), -xp.min(rows, axis=1))).astype(np.float64)
    return np.where(np.isfinite(largest) & (largest > 0), np.frexp(largest)[1], np.nan)
