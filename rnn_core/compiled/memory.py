"""Memory for the arrays of compiled steps: aligned, and given out again once nobody refers to an array."""

from __future__ import annotations

import ctypes
import math
from typing import Any
from weakref import finalize

import numpy as np

_LINE = 64  # bytes: vectors that straddle two cache lines cost twice
_FRESH, _KEPT = 2**17, 2**27  # bytes: smaller arrays are cheap to make, and more than this is not held back
# bytes: NumPy asks for the large pages of 2 MiB from 4 MiB on, and they begin at multiples of their size
_LARGE = 3 * 2**21
_free: dict[int, np.ndarray] = {}
_one_byte, _address_of = ctypes.c_char.from_buffer, ctypes.addressof


def empty_aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An empty array that begins with a cache line, in memory that a former one has left, where there is some.

    Fresh memory of this size comes from the operating system page by page, which takes as long as a tenth of the steps.
    """
    size = math.prod(shape) * dtype.itemsize
    if not _FRESH <= size <= _KEPT:
        return _aligned(np.empty(size + _LINE, dtype=np.uint8), size, shape, dtype)
    memory = _left_over(size)
    if memory is None:
        memory = np.empty(max(size + _LINE, _LARGE), dtype=np.uint8)
    # Every view of the array keeps `owner` alive; when the last one goes, the memory is free again.
    owner: Any = (ctypes.c_ubyte * memory.nbytes).from_buffer(memory.data)
    finalize(owner, _give_back, memory).atexit = False
    return _aligned(np.frombuffer(owner, dtype=np.uint8), size, shape, dtype)


def address(array: np.ndarray | None) -> int | None:
    """Where a C-contiguous array lies; None of None. NumPy's own ways take three times as long, and a pass asks forty times."""
    if array is None:
        return None
    try:
        return _address_of(_one_byte(array))  # type: ignore[arg-type]
    except (TypeError, ValueError):  # not to be written to, empty, or not contiguous
        assert array.flags.c_contiguous
        return int(array.__array_interface__["data"][0])


def _left_over(size: int) -> np.ndarray | None:
    for key, memory in list(_free.items()):
        if size <= memory.nbytes - _LINE <= max(2 * size, _LARGE) and _free.pop(key, None) is not None:
            return memory  # taken by this thread alone: pop gives it to one
    return None


def _give_back(memory: np.ndarray) -> None:
    if sum(block.nbytes for block in list(_free.values())) + memory.nbytes <= _KEPT:
        _free[id(memory)] = memory


def _aligned(memory: np.ndarray, size: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    start = -_address_of(_one_byte(memory.data)) % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)
