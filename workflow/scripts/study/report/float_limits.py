"""Where plain floating-point numbers end, as lines of a figure that are named where no line of the data is in the way."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

LIMITS = (  # log10 of the smallest positive and of the largest number
    ("float32", -44.9, 38.5),
    ("float64", -323.3, 308.3),
)


PURPLE = "#8f3a6d"


def name_limit(ax: Axes, text: str, y: float, rows: pd.DataFrame) -> None:
    """The first place along a limit, above or below it, where no line runs through its name."""
    box = ax.get_window_extent()
    inches = box.width / ax.figure.dpi, box.height / ax.figure.dpi
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    wide, tall = 0.08 * len(text) / inches[0] * (right - left), 0.16 / inches[1] * (high - low)
    lines = [_curves(line) for _, line in rows.groupby("hue", observed=True)]
    for start in np.linspace(left + 0.01 * (right - left), right - wide, 40):
        for bottom, align in ((y, "bottom"), (y - tall, "top")):
            inside = bottom >= low and bottom + tall <= high
            if inside and not any(_crosses(line, (start, start + wide), (bottom, bottom + tall)) for line in lines):
                ax.text(start, y, text, va=align, ha="left", fontsize=9, color=PURPLE, gid="limit name")
                return


Curve = tuple[np.ndarray, np.ndarray, np.ndarray]  # lags, and the lower and the upper edge at each


def _curves(line: pd.DataFrame) -> list[Curve]:
    """The band of a line, its law, and the line itself."""
    lag = line["lag"].to_numpy()
    edges = {name: np.clip(line[name].to_numpy(), -1e9, 1e9) for name in ("low", "high", "linear", "median")}
    pairs = (("low", "high"), ("linear", "linear"), ("median", "median"))
    return [(lag, edges[lower], edges[upper]) for lower, upper in pairs]


def _crosses(curves: list[Curve], across: tuple[float, float], up: tuple[float, float]) -> bool:
    """Whether a line, its band or its law passes through a rectangle."""
    at = np.linspace(*across, 12)
    for lag, lower, upper in curves:
        below, above = np.interp(at, lag, lower), np.interp(at, lag, upper)
        inside = at <= lag.max()
        if bool((inside & (np.minimum(below, above) <= up[1]) & (np.maximum(below, above) >= up[0])).any()):
            return True
    return False
