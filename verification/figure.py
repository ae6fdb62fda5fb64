"""The figure of ``make verify``: the relative error of every comparison beside its tolerance, and how many abstained.

It has the style of a study's figures. ``python -m verification.figure engine_verification.parquet`` draws it again.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.files.writing import written_aside
from study.report import layout, style
from study.report.words import number, plural

RED = "#b2001d"
REGIMES = {"vanishing": ("v", "#0072B2", -0.24), "critical": ("o", "#4d4d4d", 0.0), "exploding": ("^", "#D55E00", 0.24)}
PANELS = ("torch.autograd", "torch.autograd, unrolled", "torch.nn modules", "complex step", "central differences")
FLOOR, CEILING = 1e-18, 1e2  # of the error axis; what is smaller, exactly 0 included, or larger is drawn at its end
EPSILON = float(np.finfo(np.float64).eps)


def frame(table: Path) -> pd.DataFrame:
    """One row a comparison or abstention, with its ``panel`` and its ``drawn`` error, null where the oracle abstains."""
    data = pd.read_parquet(table)
    modules = data["oracle"].str.startswith("torch.nn")
    data["panel"] = data["oracle"].mask(modules, "torch.nn modules")
    data["drawn"] = data["relative_error"].clip(FLOOR, CEILING)
    order = ["panel", "cell", "regime", "activation", "layers", "sequence_length", "loss_at", "device"]
    return data.sort_values(order, ignore_index=True)


def headline(data: pd.DataFrame) -> str:
    """The finding, in numbers."""
    compared = data.dropna(subset=["relative_error"])
    abstained = plural(len(data) - len(compared), "abstention")
    if compared.empty:
        return f"Nothing could be compared: {abstained}."
    failed = int((~compared["passed"].astype(bool)).sum())
    what = f"{len(compared)} comparisons of the engine with {plural(compared['panel'].nunique(), 'kind')} of oracle"
    if failed:
        return f"{failed} of {what} exceed the tolerance ({abstained})"
    strict = compared[compared["tolerance"] == compared["tolerance"].min()]
    share = float((strict["relative_error"] / strict["tolerance"]).max())
    margin = f"the strict ones by a factor of {number(1 / share, 2)} or more" if share else "the strict ones exactly"
    return f"All {what} pass, {margin} ({abstained})"


def draw(data: pd.DataFrame) -> Figure:
    """One panel an oracle: strips of points, a strip for each cell and regime."""
    panels = [panel for panel in PANELS if (data["panel"] == panel).any()]
    figure, axes = layout.grid(len(panels), 2, 3.1, extra=1.2, sharex=False, sharey=True)
    for ax, panel in zip(axes, panels, strict=True):
        _panel(ax, data[data["panel"] == panel])
        layout.panel_title(ax, panel, 40)
    for ax in axes[::2]:
        ax.set_ylabel("worst relative error")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=4)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame) -> None:
    cells = sorted(rows["cell"].unique())
    for regime, (marker, colour, offset) in REGIMES.items():
        shown = rows[(rows["regime"] == regime) & rows["drawn"].notna()]
        x = np.array([cells.index(cell) for cell in shown["cell"]], dtype=float) + offset + _jitter(len(shown))
        failed = shown["relative_error"] > shown["tolerance"]
        edges = [RED if bad else colour for bad in failed]
        sizes = np.where(failed, 40, 9)
        ax.scatter(
            x,
            shown["drawn"],
            marker=marker,
            s=sizes,
            c=colour,
            alpha=0.55,
            linewidths=0.9,
            edgecolors=edges,
            gid=regime,
        )
    for tolerance in rows["tolerance"].unique():
        ax.axhline(tolerance, color=RED, lw=2, gid="tolerance")
        ax.text(0.995, tolerance * 1.6, f"tolerance {number(tolerance, 2)}", color=RED, ha="right", fontsize=9.5,
                transform=ax.get_yaxis_transform())  # fmt: skip
    ax.axhline(EPSILON, color=style.FAINT, lw=1.2, ls=":", gid="epsilon")
    compared = int(rows["relative_error"].notna().sum())
    ax.text(
        0.01, 0.985, _counts(rows, compared), ha="left", va="top", fontsize=9.5, transform=ax.transAxes, gid="counts"
    )
    ax.set(yscale="log", ylim=(FLOOR / 6, CEILING * 4), xlim=(-0.5, len(cells) - 0.5))
    ax.set_xticks(range(len(cells)), [cell.replace("gru_reset_before", "gru, reset\nbefore") for cell in cells])
    ax.tick_params(axis="x", length=0)


def _jitter(count: int) -> np.ndarray:
    """The same spread at every drawing."""
    return np.random.default_rng(0).uniform(-0.09, 0.09, count)


def _counts(rows: pd.DataFrame, compared: int) -> str:
    """How many were compared, how many abstained, and why."""
    lines = [f"{compared} compared, {len(rows) - compared} abstained"]
    for why, count in rows.loc[rows["relative_error"].isna(), "where"].value_counts().items():
        lines += textwrap.wrap(f"{count}: {why}", 46)
    return "\n".join(lines)


def _legend() -> list[Line2D]:
    regimes = [
        Line2D([], [], ls="", marker=marker, ms=6, color=colour, label=f"{regime} gradient")
        for regime, (marker, colour, _) in REGIMES.items()
    ]
    return [*regimes, Line2D([], [], color=style.FAINT, ls=":", label="machine ε")]


def save(table: Path) -> None:
    """PNG and SVG beside the table: the same bytes from the same table."""
    data = frame(table)
    with style.theme():
        figure = draw(data)
        layout.headline(figure, headline(data))
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            with written_aside(table.with_suffix(f".{kind}")) as aside:
                figure.savefig(aside, format=kind, dpi=style.DPI, metadata=metadata)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("table", type=Path, help="engine_verification.parquet")
    save(parser.parse_args().table)


if __name__ == "__main__":
    main()
