"""Which steps write the recurrent weights' gradient, computed a second time from the table ``traces``, number by number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pandas as pd

Tables = dict[str, pd.DataFrame]
Where = dict[str, Any]
MEASURED = ["log10_weight_grad_norm", "weight_grad_cosine"]


_last: list[tuple[Tables, dict[str, pd.DataFrame]]] = []  # the study that was asked about last, and its rows


def by_run(tables: Tables) -> dict[str, pd.DataFrame]:
    """The rows of every run before training."""
    if not _last or _last[0][0] is not tables:
        traces = tables["traces"].loc[tables["traces"]["update"] == 0, ["run_key", "t", *MEASURED]]
        _last[:] = [(tables, {str(key): rows for key, rows in traces.groupby("run_key")})]
    return _last[0][1]


def contributions(tables: Tables, run_key: str) -> list[float]:
    """Norm times cosine of every step before training, up to a common factor; nothing where nobody asked, or where it has no number."""
    rows = by_run(tables).get(run_key)
    if rows is None:
        return []
    rows = rows.drop_duplicates("t")
    norms, cosines = (rows[name].tolist() for name in MEASURED)
    known = [(n, c) for n, c in zip(norms, cosines, strict=True) if math.isfinite(n) and math.isfinite(c)]
    top = max((n for n, _ in known), default=0.0)
    return [c * 10.0 ** (n - top) for n, c in known]


def half(parts: list[float]) -> int:
    """How many of the largest make half of the sum."""
    left, count = sum(parts) / 2.0, 0
    for part in sorted(parts, reverse=True):
        count, left = count + 1, left - part
        if left <= 1e-12 * abs(sum(parts)):
            break
    return count


def against(parts: list[float]) -> float:
    return -math.fsum(p for p in parts if p < 0) / math.fsum(abs(p) for p in parts)


def kinds(networks: Callable[[Tables, Where], pd.DataFrame]) -> dict[str, Callable[[Tables, Where], Any]]:
    """By name; ``networks`` picks the rows. A list stands for its median."""

    def found(tables: Tables, where: Where) -> list[list[float]]:
        all_parts = [contributions(tables, key) for key in networks(tables, where)["run_key"]]
        return [parts for parts in all_parts if sum(parts) > 0]

    def settings(tables: Tables, where: Where, names: list[str]) -> list[tuple[float, int]]:
        """Of every setting that has a number: the median number of steps, and T."""
        medians = []
        for _, own in networks(tables, where).groupby([*names], dropna=False):
            steps = sorted(half(p) for p in (contributions(tables, k) for k in own["run_key"]) if sum(p) > 0)
            if steps:
                middle = (steps[(len(steps) - 1) // 2] + steps[len(steps) // 2]) / 2
                medians.append((middle, int(own["task_steps"].max())))
        return medians

    return {
        "steps": lambda t, w: [float(half(p)) for p in found(t, w)],
        "against": lambda t, w: [against(p) for p in found(t, w)],
        "networks": lambda t, w: float(len(found(t, w))),
        "settings": settings,
    }
