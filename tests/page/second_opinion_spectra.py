"""The numbers of the figure of spectra, computed a second time from the tables alone: plain pandas and NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tests.page.second_opinion_start import Tables, Where, finite, longest, pick, starts

MATRIX = ["cell", "activation", "residual_step", "residual_leak", "initializer", "hidden_size", "seed"]
STUDENT = {1: 12.7062047, 2: 4.30265273, 3: 3.18244631, 4: 2.77644511, 5: 2.57058184, 7: 2.36462425, 9: 2.26215716}


def measured(tables: Tables, where: Where | None = None) -> pd.DataFrame:
    """Networks with spectra, at the longest sequence of their kind."""
    known = starts(tables["runs"]).dropna(subset=["lyapunov_max"])
    return pick(longest(known), where or {})


def at_longest_lag(tables: Tables, where: Where) -> pd.Series:
    """Surviving directions, one number a seed."""
    known = measured(tables).dropna(subset=["surviving_directions", "spectra_lag"])
    known = pick(known[known["spectra_lag"] == known["spectra_lag"].max()], where)
    return known.groupby("seed")["surviving_directions"].mean()


def surviving(tables: Tables, where: Where, side: int) -> float:
    seeds = at_longest_lag(tables, where)
    end = (
        seeds.mean() + side * STUDENT[len(seeds) - 1] * seeds.std(ddof=1) / math.sqrt(len(seeds))
        if side
        else seeds.mean()
    )
    return float(min(max(end, 0.0), directions(tables) if side > 0 else math.inf))


def directions(tables: Tables) -> float:
    rows = tables["spectra"]
    return float(rows.loc[rows["lag"].notna() & rows["run_key"].isin(measured(tables)["run_key"]), "i"].max())


def stretched(tables: Tables) -> pd.DataFrame:
    """Of every network whose largest exponent is clearly negative, the lag at which its best direction is longest, and by how much."""
    networks = measured(tables)
    shrinking = networks[networks["lyapunov_max"] + 2 * networks["lyapunov_error"] < -1e-9]
    rows = tables["spectra"]
    rows = rows[
        (rows["sample"] == 0) & (rows["i"] == 1) & rows["lag"].notna() & rows["run_key"].isin(shrinking["run_key"])
    ]
    rows = rows[np.isfinite(rows["log10_singular_value"])].sort_values(
        "log10_singular_value", kind="stable", ascending=False
    )
    return rows.drop_duplicates("run_key")


def growing(tables: Tables) -> pd.DataFrame:
    networks = measured(tables)
    return networks[networks["lyapunov_max"] - 2 * networks["lyapunov_error"] > 1e-9]


def of_matrices(name: str) -> Callable[[Tables, Where], float]:
    return lambda t, w: float(measured(t, w).dropna(subset=["henrici"]).drop_duplicates(MATRIX)[name].median())


def first(tables: Tables) -> pd.DataFrame:
    return stretched(tables)[lambda rows: 10 ** rows["log10_singular_value"] > 1.05]


KINDS: dict[str, Callable[[Tables, Where], Any]] = {
    "surviving_directions": lambda t, w: surviving(t, w, 0),
    "surviving_low": lambda t, w: surviving(t, w, -1),
    "surviving_high": lambda t, w: surviving(t, w, 1),
    "directions": lambda t, w: directions(t),
    "spectra_lag": lambda t, w: float(measured(t)["spectra_lag"].max()),
    "lyapunov_lowest": lambda t, w: float(finite(measured(t)["lyapunov_max"]).min()),
    "lyapunov_highest": lambda t, w: float(finite(measured(t)["lyapunov_max"]).max()),
    "growth_minus_lyapunov": lambda t, w: float(finite(measured(t, w)["growth_minus_lyapunov"]).abs().median()),
    "chaotic_networks": lambda t, w: float(len(growing(t))),
    "networks_with_spectra": lambda t, w: float(len(measured(t))),
    "kaplan_yorke_dimension": lambda t, w: float(growing(t)["kaplan_yorke_dimension"].max()),
    "shrinking_networks": lambda t, w: float(len(stretched(t))),
    "first_growing": lambda t, w: float(len(first(t))),
    "first_growth": lambda t, w: float(first(t)["log10_singular_value"].median()),
    "first_growth_lag": lambda t, w: float(first(t)["lag"].quantile(0.5, interpolation="higher")),
    "henrici": of_matrices("henrici"),
    "peak_growth": of_matrices("peak_growth"),
    "peak_growth_lag": lambda t, w: float(
        measured(t, w)
        .dropna(subset=["henrici"])
        .drop_duplicates(MATRIX)["peak_growth_lag"]
        .quantile(0.5, interpolation="higher")
    ),
}
