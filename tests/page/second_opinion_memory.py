"""The numbers of the figure of the curse of memory, computed a second time from the table of runs alone: plain pandas and NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import scipy.stats

from tests.page.second_opinion_start import Tables, Where, longest, pick, starts

ENDS = ("", "_low", "_high")
MEASURED, LAW = "log10_parameter_sensitivity", "log10_sensitivity_predicted"


def recorded(tables: Tables) -> pd.DataFrame:
    """Networks whose sensitivity was measured and whose ρ is below 1, at the longest sequence of their kind."""
    runs = longest(starts(tables["runs"]))
    return runs[runs[MEASURED].notna() & (runs["measured_spectral_radius"] < 0.999999)]


def remembering(tables: Tables, where: Where) -> pd.DataFrame:
    """Those of them whose state moves with a weight."""
    return pick(recorded(tables)[lambda runs: runs[MEASURED] > -np.inf], where)


def gains(tables: Tables, where: Where) -> np.ndarray:
    runs = remembering(tables, where)
    ends = [runs[runs["spectral_radius"] == end].set_index("seed")[MEASURED] for end in (runs["spectral_radius"].max(), runs["spectral_radius"].min())]  # fmt: skip
    return (ends[0] - ends[1]).dropna().to_numpy()


def power(tables: Tables, where: Where, column: str = MEASURED) -> np.ndarray:
    """By seed the slope of a straight line through the three largest radii, of those from 0.8 on; of seeds that have all three."""
    runs = remembering(tables, where)[lambda runs: runs["spectral_radius"] >= 0.8]
    radii = sorted(runs["spectral_radius"].unique())[-3:]
    near = runs[runs["spectral_radius"].isin(radii)]
    near = near[near.groupby("seed")["spectral_radius"].transform("nunique") == len(radii)]
    slopes = [
        np.polyfit(np.log10(1.0 - own["measured_spectral_radius"]), own[column], 1)[0]
        for _, own in near.groupby("seed")
    ]
    return np.array(slopes)


def student(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval."""
    interval = scipy.stats.t.interval(0.95, len(values) - 1, np.mean(values), scipy.stats.sem(values))
    return float(np.mean(values)), float(interval[0]), float(interval[1])


def deviation(tables: Tables, where: Where) -> np.ndarray:
    runs = remembering(tables, where)
    return (runs[MEASURED] - runs[LAW]).groupby(runs["seed"]).mean().dropna().to_numpy()


KINDS: dict[str, Callable[[Tables, Where], float]] = {
    "networks_unmoved": lambda t, w: float(len(recorded(t)) - len(remembering(t, w))),
    "fastest_signal": lambda t, w: float(remembering(t, w)["growth_rate"].max()),
    "law_power": lambda t, w: float(np.mean(power(t, w, LAW))),
    **{f"sensitivity_factor{end}": (lambda t, w, i=i: 10.0 ** student(gains(t, w))[i]) for i, end in enumerate(ENDS)},
    **{f"sensitivity_power{end}": (lambda t, w, i=i: student(power(t, w))[i]) for i, end in enumerate(ENDS)},
    **{f"sensitivity_deviation{end}": (lambda t, w, i=i: student(deviation(t, w))[i]) for i, end in enumerate(ENDS)},
}
