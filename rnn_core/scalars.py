"""What counts as a number: those of Python and of NumPy, one value for both. True and False do not count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def as_python(value: Any) -> Any:
    """A NumPy scalar, or an array without axes, as the Python object of the same value. Everything else stays as it is."""
    if isinstance(value, np.ndarray) and value.ndim == 0 and not isinstance(value, np.ma.MaskedArray):
        value = value[()]
    if isinstance(value, np.floating):
        return float(value)  # item() would leave a longdouble as it is
    return value.item() if isinstance(value, np.generic) else value


def is_number(value: Any) -> bool:
    """Whether this is a finite integer or float, of Python or NumPy. An integer beyond the range of floats is none."""
    value = as_python(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def is_integer(value: Any) -> bool:
    """Whether this is an integer of Python or NumPy. 8.0 is none."""
    value = as_python(value)
    return isinstance(value, int) and not isinstance(value, bool)


def as_array(name: str, values: Any, hint: str = "") -> np.ndarray:
    """``values`` as an array.

    Args:
        hint: what to do where rows differ in length.

    Raises:
        ValueError: they make no array, or some are masked.
    """
    require_unmasked(name, values)
    try:
        return np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name}: the values make no array{hint}") from error


def require_unmasked(name: str, values: Any) -> None:
    """Refuse a masked array with masked values: as a plain array it would hold what lies under the mask.

    Raises:
        ValueError: some values are masked.
    """
    if isinstance(values, np.ma.MaskedArray) and (hidden := values.size - int(values.count())):
        raise ValueError(
            f"{name}: {hidden} of {values.size} values are masked, and a NumPy mask is not read; fill them (.filled(…))"
        )


def numbers(name: str, values: Any, hint: str = "") -> np.ndarray:
    """``values`` as an array of integers, floats or flags; arguments as for ``as_array``.

    Raises:
        ValueError: they make no array, or its entries are no numbers.
    """
    array = as_array(name, values, hint)
    if array.dtype.kind not in "iufb":
        raise ValueError(f"{name}: dtype {array.dtype} is not allowed; it must be numbers")
    return array
