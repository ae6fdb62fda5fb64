"""The figure of docs/benchmarks.md: every peer's time relative to ours, and our fraction of the matrix-product rate, by H."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks import targets
from study.files.writing import written_aside
from study.report import layout, style
from study.report.words import percent

# Okabe and Ito's colours, and a marker each, so that colour is never needed
LOOKS = {
    "ours": (style.INK, "o"),
    "readable": (style.FAINT, "."),
    "torch_eager": ("#D55E00", "s"),
    "torch_rnn": ("#E69F00", "D"),
    "torch_func": ("#CC79A7", "v"),
    "jax_scan": ("#0072B2", "^"),
    "jax_vmap": ("#56B4E9", ">"),
    "numpy_loop": ("#009E73", "P"),
}
DASH = 0.24  # half the width of a target's mark, in sizes


def headline(results: dict[str, Any]) -> str:
    """The finding, in numbers."""
    ratios = [size["ours_vs_best_peer"] for size in results["single"]]
    fractions = [size["fraction_of_product_rate"]["ours"] for size in results["single"]]
    low, high = min(ratios), max(ratios)
    faster = f"rnn_core is {low:.1f} to {high:.1f} times as fast as the best of PyTorch and JAX"
    if low < 1:
        behind = sum(ratio < 1 for ratio in ratios)
        faster = f"rnn_core is behind the best peer at {behind} of {len(ratios)} sizes, up to {high:.1f} times as fast at the others"
    return f"{faster}, at {percent(min(fractions))} to {percent(max(fractions))} of the matrix-product rate"


def draw(results: dict[str, Any]) -> Figure:
    """Above the peers' times by ours, below fractions of the limit; a column for each dtype."""
    dtypes = list(dict.fromkeys(size["dtype"] for size in results["single"]))
    figure = Figure(figsize=(style.PAGE_WIDTH, 7.6), layout="constrained")
    axes = figure.subplots(2, len(dtypes), squeeze=False, sharey="row", sharex=True)
    for column, dtype in enumerate(dtypes):
        sizes = [size for size in results["single"] if size["dtype"] == dtype]
        _times(axes[0, column], sizes)
        _fractions(axes[1, column], sizes)
        layout.panel_title(axes[0, column], dtype)
        axes[1, column].set_xlabel("hidden size H")
    axes[0, 0].set_ylabel("time ÷ time of rnn_core")
    axes[1, 0].set_ylabel("fraction of the matrix-product rate")
    layout.plain_log_ticks(axes[0, 0])
    figure.legend(handles=_legend(results), loc="outside lower center", ncols=3)
    return figure


def _lines(ax: Axes, sizes: list[dict[str, Any]], part: str) -> None:
    for name, (colour, marker) in LOOKS.items():
        points = [(i, size[part][name]) for i, size in enumerate(sizes) if name in size[part]]
        if points:
            wide = 2.8 if name == "ours" else 1.3
            ax.plot(*zip(*points, strict=True), color=colour, marker=marker, ms=6, lw=wide, gid=name, clip_on=False)


def _targets(ax: Axes, sizes: list[dict[str, Any]], wanted: dict[int, float]) -> None:
    for i, size in enumerate(sizes):
        if (target := wanted.get(size["hidden_size"])) is not None:
            ax.plot([i - DASH, i + DASH], [target, target], color="#b2001d", lw=2.6, gid="target", zorder=3)


def _ticks(ax: Axes, sizes: list[dict[str, Any]]) -> None:
    ax.set_xticks(range(len(sizes)), [str(size["hidden_size"]) for size in sizes])
    ax.set_xlim(-0.4, len(sizes) - 0.6)


def _times(ax: Axes, sizes: list[dict[str, Any]]) -> None:
    ax.axhline(1.0, color=LOOKS["ours"][0], lw=2.8)
    ax.text(
        0.99, 1.02, "rnn_core", ha="right", va="bottom", transform=ax.get_yaxis_transform(), fontsize=10, weight="bold"
    )
    _lines(ax, sizes, "ours_vs_each")
    _targets(ax, sizes, targets.RATIO)
    ax.set_yscale("log")
    _ticks(ax, sizes)


def _fractions(ax: Axes, sizes: list[dict[str, Any]]) -> None:
    _lines(ax, sizes, "fraction_of_product_rate")
    _targets(ax, sizes, targets.FRACTION)
    ax.set_ylim(0, 1)
    _ticks(ax, sizes)


def _legend(results: dict[str, Any]) -> list[Line2D]:
    rows = {name: row["label"] for size in results["single"] for name, row in size["contenders"].items()}
    shown = [
        Line2D([], [], color=colour, marker=marker, ms=6, lw=2.8 if name == "ours" else 1.3, label=rows[name])
        for name, (colour, marker) in LOOKS.items()
        if name in rows
    ]
    return [
        *shown,
        Line2D([], [], color="#b2001d", lw=2.6, label="target: PyTorch and JAX above it · rnn_core above it"),
    ]


def save(results: dict[str, Any], target: Path) -> None:
    """The same bytes from the same results."""
    with style.theme():
        drawn = draw(results)
        layout.headline(drawn, headline(results))
        with written_aside(target) as aside:
            drawn.savefig(aside, format="png", dpi=style.DPI, metadata={"Software": None})
