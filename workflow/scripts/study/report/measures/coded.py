"""Settings as whole numbers: of wide tables with strings, pandas takes a hundred times as long to find what tells rows apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

Codes = Mapping[str, np.ndarray]  # by setting, of every row the number of its value


def coded(column: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Of every row the number of its value, and the values; a null is one of them."""
    codes, values = pd.factorize(column, use_na_sentinel=False)
    return codes, pd.Index(values)


def refined(groups: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, int]:
    """The groups of rows that agree in both: of every row the number of its group, and how many there are."""
    pairs = groups * (1 + int(codes.max(initial=0))) + codes
    distinct, numbers = np.unique(pairs, return_inverse=True)
    return numbers, len(distinct)


def combinations(codes: Codes, names: Iterable[str], rows: int) -> np.ndarray:
    """Of every row the number of its combination of these settings."""
    groups = np.zeros(rows, dtype=np.int64)
    for name in names:
        groups, _ = refined(groups, codes[name])
    return groups


def telling(codes: Codes, rows: int) -> list[str]:
    """The settings that tell rows apart, in turn; one that follows from those before it is not needed."""
    needed: list[str] = []
    groups, count = np.zeros(rows, dtype=np.int64), min(rows, 1)
    for name, own in codes.items():
        finer, more = refined(groups, own)
        if more > count:
            needed.append(name)
            groups, count = finer, more
    return needed


def in_common(by: np.ndarray, codes: np.ndarray) -> bool:
    """Whether some value is found with every value of ``by`` that there is."""
    seen = np.zeros((1 + int(by.max(initial=0)), 1 + int(codes.max(initial=0))), dtype=bool)
    seen[by, codes] = True
    return bool(seen[seen.any(axis=1)].all(axis=0).any())
