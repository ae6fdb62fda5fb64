"""The numbers of the figure of the curse of memory, computed a second time from the table of runs alone: plain pandas and NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from tests.page.second_opinion_start import Tables, Where, longest, pick, starts

MEASURED, LAW = "log10_parameter_sensitivity", "log10_sensitivity_predicted"


def remembering(tables: Tables, where: Where) -> pd.DataFrame:
    """Networks whose sensitivity was measured and whose ρ is below 1, at the longest sequence of their kind."""
    runs = longest(starts(tables["runs"]))
    return pick(runs[runs[MEASURED].notna() & (runs["measured_spectral_radius"] < 1.0)], where)


def factor(tables: Tables, where: Where) -> float:
    runs = remembering(tables, where)
    ends = [runs[runs["spectral_radius"] == end].set_index("seed")[MEASURED] for end in (runs["spectral_radius"].max(), runs["spectral_radius"].min())]  # fmt: skip
    return float(10.0 ** (ends[0] - ends[1]).dropna().mean())


def power(tables: Tables, where: Where) -> float:
    """The mean over seeds of the slope of a straight line through the three largest radii."""
    runs = remembering(tables, where)
    near = runs[runs["spectral_radius"] >= sorted(runs["spectral_radius"].unique())[-3:][0]]
    slopes = [
        np.polyfit(np.log10(1.0 - own["measured_spectral_radius"]), own[MEASURED], 1)[0]
        for _, own in near.groupby("seed")
    ]
    return float(np.mean(slopes))


def deviation(tables: Tables, where: Where) -> float:
    runs = remembering(tables, where)
    return float((runs[MEASURED] - runs[LAW]).groupby(runs["seed"]).mean().mean())


KINDS: dict[str, Callable[[Tables, Where], float]] = {
    "fastest_signal": lambda t, w: float(remembering(t, w)["growth_rate"].max()),
    "sensitivity_factor": factor,
    "sensitivity_power": power,
    "sensitivity_deviation": deviation,
}
