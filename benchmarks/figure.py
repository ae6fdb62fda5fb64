"""The figure of docs/benchmarks.md: a heat map of every ratio of the grid."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from benchmarks import cases, ratios
from study.files.writing import written_aside
from study.report import layout, style

FURTHEST = 8.0  # colours end at this ratio, and at one by it
COLOURS = "RdBu"  # red below 1, blue above; every place has its number too
BOLD_BELOW, DARK = 1.0, 3.5  # a ratio below this is bold; colours further out are dark


def headline(results: dict[str, Any]) -> str:
    """The finding, in numbers: the worst first."""
    entries = results["grid"]
    low = ratios.worst(entries)
    high = max(ratios.ratio(entry)[0] for entry in entries)
    behind = sum(ratios.ratio(entry)[0] < 1.0 for entry in entries)
    return (
        f"At its worst rnn_core is {ratios.short(ratios.ratio(low)[0])} times as fast as the fastest other program that counts ({ratios.where(low)}); "
        f"at its best {ratios.short(high)} times. It is behind at {behind} of {len(entries)} places"
    )


def draw(results: dict[str, Any]) -> Figure:
    """A panel for each cell and dtype; regimes from top to bottom, sizes from left to right with their lengths."""
    entries = results["grid"]
    names = [name for name in cases.NAMES if any(entry["cell"] == name for entry in entries)]
    dtypes = [dtype for dtype in cases.DTYPES if any(entry["dtype"] == dtype for entry in entries)]
    figure = Figure(figsize=(style.PAGE_WIDTH, 1.75 * len(names) + 1.6), layout="constrained")
    axes = figure.subplots(len(names), len(dtypes), squeeze=False, sharey=True)
    for row, name in zip(axes, names, strict=True):
        for ax, dtype in zip(row, dtypes, strict=True):
            mine = [entry for entry in entries if (entry["cell"], entry["dtype"]) == (name, dtype)]
            shown = _panel(ax, mine)
            layout.panel_title(ax, f"{name}, {dtype}")
    for ax in axes[-1]:
        ax.set_xlabel("hidden size H, and below it length T")
    bar = figure.colorbar(shown, ax=axes, location="bottom", shrink=0.5, aspect=40, extend="both")
    ticks = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
    bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks], minor=False)
    bar.minorticks_off()
    bar.set_label(
        "time of the fastest other program that counts ÷ rnn_core's; above 1 rnn_core is faster; ° no other answer is right"
    )
    return figure


def _panel(ax: Axes, entries: list[dict[str, Any]]) -> Any:
    at = {(entry["regime"], entry["hidden_size"]): entry for entry in entries}
    sizes = sorted({size for _, size in at})
    values = [
        [ratios.ratio(at[regime, size])[0] if (regime, size) in at else math.nan for size in sizes]
        for regime in cases.REGIMES
    ]
    norm = LogNorm(1 / FURTHEST, FURTHEST)
    shown = ax.imshow(values, cmap=matplotlib.colormaps[COLOURS], norm=norm, aspect="auto")
    for i, regime in enumerate(cases.REGIMES):
        for j, size in enumerate(sizes):
            if (regime, size) in at:
                _number(ax, i, j, at[regime, size])
    lengths = {entry["hidden_size"]: entry["length"] for entry in entries}
    ax.set_xticks(range(len(sizes)), [f"{size}\n{lengths[size]}" for size in sizes])
    ax.set_yticks(range(len(cases.REGIMES)), cases.REGIMES)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return shown


def _number(ax: Axes, i: int, j: int, entry: dict[str, Any]) -> None:
    value = ratios.ratio(entry)[0]
    ax.text(
        j, i, ratios.short(value) + ("" if ratios.some_right(entry) else "°"), ha="center", va="center", fontsize=9.5, gid="ratio",
        fontweight="bold" if value < BOLD_BELOW else "normal", color="white" if max(value, 1 / value) > DARK else style.INK,
    )  # fmt: skip


def save(results: dict[str, Any], target: Path) -> None:
    """The same bytes from the same results."""
    with style.theme():
        drawn = draw(results)
        layout.headline(drawn, headline(results))
        with written_aside(target) as aside:
            drawn.savefig(aside, format="png", dpi=style.DPI, metadata={"Software": None})
