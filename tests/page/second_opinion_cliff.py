"""The numbers of the figure of the cliff, computed a second time from its table alone: plain pandas and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

Tables = dict[str, pd.DataFrame]
Where = dict[str, Any]


def rows(tables: Tables, what: str) -> pd.DataFrame:
    return tables["cliff"][tables["cliff"]["what"] == what]


def path(tables: Tables, where: Where) -> pd.DataFrame:
    own = rows(tables, "descent")
    return own[own["clipping"] == where["clipping"]].set_index("update").sort_index()


def per_weight(tables: Tables) -> float:
    """The factor that, once per unit of weight, leads from the first slope to the last."""
    ridge = rows(tables, "ridge").set_index("weight")["log10_grad_norm"]
    first, last = ridge.index.min(), ridge.index.max()
    return float((10.0 ** (ridge[last] - ridge[first])) ** (1.0 / (last - first)))


def on_ridge(tables: Tables, where: Where) -> float:
    ridge = rows(tables, "ridge")
    return float(ridge.loc[ridge["weight"] == where["weight"], "log10_grad_norm"].iloc[0])


def left_at(tables: Tables, where: Where) -> float:
    own, surface = path(tables, where), rows(tables, "surface")
    outside = np.zeros(len(own), dtype=bool)
    for name in ("weight", "bias"):
        outside |= ((own[name] < surface[name].min()) | (own[name] > surface[name].max())).to_numpy()
    return float(own.index[outside][0])


def longest_step(tables: Tables, where: Where) -> float:
    points = path(tables, where)[["weight", "bias"]].to_numpy()
    return float(np.sqrt(((points[1:] - points[:-1]) ** 2).sum(axis=1)).max())


KINDS: dict[str, Callable[[Tables, Where], float]] = {
    "cliff_per_weight": lambda t, w: per_weight(t),
    "cliff_slope": on_ridge,
    "cliff_weight": lambda t, w: float("nan"),  # an end of the ridge: ``test_cliff`` looks it up
    "cliff_points": lambda t, w: float(len(rows(t, "surface"))),
    "surface_steepest": lambda t, w: float(rows(t, "surface")["log10_grad_norm"].max()),
    "longest_step": longest_step,
    "left_at": left_at,
    "path_loss": lambda t, w: float(path(t, w)["loss"].iloc[-1]),
    "path_updates": lambda t, w: float(path(t, w).index[-1]),
}
