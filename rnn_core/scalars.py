"""What counts as a number: Python's and NumPy's, one value for both. True and False do not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def as_python(value: Any) -> Any:
    """A NumPy scalar as the Python object of the same value; everything else as it is."""
    if isinstance(value, np.floating):
        return float(value)  # item() would leave a longdouble as it is
    return value.item() if isinstance(value, np.generic) else value


def is_number(value: Any) -> bool:
    """A finite integer or float, of Python or NumPy."""
    value = as_python(value)
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_integer(value: Any) -> bool:
    """An integer of Python or NumPy; 8.0 is none."""
    value = as_python(value)
    return isinstance(value, int) and not isinstance(value, bool)
