"""How closely the engine agrees with independent programs: every comparison's worst relative error, and the tolerance."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import study_figures as sf

NOTHING = sf.Nothing(
    "No comparison of the engine with an independent program is recorded.",
    "The gate compares the engine with PyTorch before every study; its table of checks is empty here. Set gate: "
    "checked_runs_per_job: 1 or more, too.",
)
EPSILON = {"float64": 2.0**-52, "float32": 2.0**-23}
STAGES = {
    "gate": ("o", -0.17, "gate: before the sweeps"),
    "sweep": ("D", 0.17, "sweep: runs of this study, checked once more"),
}
UNKNOWN = "not a number"


def frame(tables: sf.Tables) -> pd.DataFrame:
    """One row a check, with its ``panel`` (oracle, dtype) and ``network`` (activation, and the cell if it varies).

    ``exact`` marks an error of exactly 0. Results that neither program finds finite have no error.
    """
    settings = ["stage", "oracle", "run_key", "cell", "activation", "spectral_radius", "sequence_length", "dtype"]
    data = tables.read("checks", [*settings, "regime", "relative_error", "where", "tolerance"])
    if data.empty:
        return pd.DataFrame()
    data["regime"] = data["regime"].fillna(UNKNOWN)
    data["panel"] = data["oracle"] + ", " + data["dtype"]
    data["network"] = data["activation"] if data["cell"].nunique() == 1 else data["cell"] + ", " + data["activation"]
    data["exact"] = data["relative_error"] == 0
    order = ["panel", "network", "stage", "regime", "relative_error"]
    return data.sort_values(order, ignore_index=True)


def facts(data: pd.DataFrame) -> sf.Facts:
    if data.empty:
        return NOTHING.facts()
    known = data.dropna(subset=["relative_error"])
    compared = f"{len(data)} comparisons with {sf.listed(sorted(data['oracle'].unique()))}"
    numbers = {"checks": str(len(data))} | {f"checks_{stage}": str((data["stage"] == stage).sum()) for stage in STAGES}
    neither = len(data) - len(known)
    claims = {
        "neither": f"In {sf.plural(neither, 'comparison')} neither program found a finite result." if neither else "",
        "exact": f"{sf.plural(int(data['exact'].sum()), 'comparison')} agreed to the last bit."
        if data["exact"].any()
        else "",
    }
    if known.empty:
        title = f"In none of {compared} was there a finite result to compare."
        return sf.facts(title, f"An empty chart. {title}", numbers, claims)
    failed = int((known["relative_error"] > known["tolerance"]).sum())
    nearest = known.loc[(known["relative_error"] / known["tolerance"]).idxmax()]
    worst, margin = (
        sf.number(nearest["relative_error"], 2),
        nearest["tolerance"] / (nearest["relative_error"] or np.nan),
    )
    numbers |= {"worst": worst, "tolerance": sf.number(nearest["tolerance"], 2), "failed": str(failed)}
    if failed:
        title = f"{failed} of {compared} exceed the tolerance; the worst relative error is {worst}."
    else:
        below = f", {sf.number(margin, 2)} times below the tolerance" if nearest["relative_error"] > 0 else ""
        title = f"In all {compared} the relative error is at most {worst}{below}."
    claims["worst"] = (
        f"The worst, {worst}, is {nearest['where']} of {nearest['activation']} at ρ = {sf.number(nearest['spectral_radius'])}, "
        f"T = {nearest['sequence_length']} ({nearest['stage']}, {nearest['oracle']})."
    )
    alt = f"Dot plots of relative error on a logarithmic axis, one row an activation, tolerance and rounding error marked. {title}"
    return sf.facts(title, alt, numbers, claims)


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    panels, networks = sorted(data["panel"].unique()), sorted(data["network"].unique())
    figure, axes = sf.grid(len(panels), 2, 0.9 + 0.42 * len(networks), extra=1.5, sharex=True, sharey=True)
    positive = data.loc[data["relative_error"] > 0, "relative_error"]
    low = min([*positive, *map(EPSILON.get, data["dtype"].unique())]) / 8
    high = max([*positive, *data["tolerance"]]) * 4
    for ax, panel in zip(axes, panels, strict=True):
        _panel(ax, data[data["panel"] == panel], networks, low)
        sf.panel_title(ax, panel, 40)
        ax.set(xscale="log", xlim=(low / 3, high))
        ax.set_ylim(len(networks) - 0.4, -0.95)
        ax.set_yticks(range(len(networks)), networks)
    _annotate_worst(axes, panels, data, networks)
    sf.label_below(axes, min(2, len(axes)), "worst relative error over all steps and parameters")
    figure.legend(handles=_legend(data), loc="outside lower center", ncols=2)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, networks: list[str], low: float) -> None:
    for network in range(len(networks)):
        ax.axhline(network + 0.5, color="#eeeeee", lw=0.8, zorder=0)
    for value in rows["tolerance"].unique():
        ax.axvline(value, color="#b2001d", lw=2, gid="tolerance")
        ax.text(value, -0.6, "tolerance ", ha="right", color="#b2001d", fontsize=9.5)
    epsilon = EPSILON[rows["dtype"].iloc[0]]
    ax.axvline(epsilon, color=sf.FAINT, lw=1.2, ls=":", gid="epsilon")
    ax.text(epsilon, -0.6, " machine ε", ha="left", color="#666666", fontsize=9.5)
    x = rows["relative_error"].mask(rows["exact"], low)
    for stage, (marker, offset, _) in STAGES.items():
        here = rows["stage"] == stage
        y = [networks.index(network) + offset for network in rows.loc[here, "network"]]
        paint = [sf.REGIME_COLOURS.get(regime, sf.FAINT) for regime in rows.loc[here, "regime"]]
        faces = paint if stage == "gate" else "none"
        ax.scatter(x[here], y, marker=marker, s=34, facecolors=faces, edgecolors=paint, linewidths=1.2, gid=stage)


def _annotate_worst(axes: list[Axes], panels: list[str], data: pd.DataFrame, networks: list[str]) -> None:
    """The number beside the check that comes nearest to its tolerance."""
    known = data[data["relative_error"] > 0]
    if known.empty:
        return
    row = known.loc[(known["relative_error"] / known["tolerance"]).idxmax()]
    y = networks.index(row["network"]) + STAGES[row["stage"]][1]
    axes[panels.index(row["panel"])].annotate(
        f"worst = {sf.number(row['relative_error'], 2)}", (row["relative_error"], y), xytext=(18, 0),
        textcoords="offset points", va="center", fontsize=10, fontweight="bold",
        arrowprops={"arrowstyle": "-", "color": sf.INK, "shrinkB": 5}, gid="worst",
    )  # fmt: skip


def _legend(data: pd.DataFrame) -> list[Line2D]:
    stages = [
        Line2D([], [], ls="", marker=marker, ms=6, mec=sf.INK, mfc=sf.INK if stage == "gate" else "none", label=label)
        for stage, (marker, _, label) in STAGES.items()
        if (data["stage"] == stage).any()
    ]
    regimes = [
        Line2D(
            [], [], ls="", marker="s", ms=7, color=sf.REGIME_COLOURS.get(regime, sf.FAINT), label=f"{regime} gradient"
        )
        for regime in [*sf.REGIME_COLOURS, UNKNOWN]
        if (data["regime"] == regime).any()
    ]
    exact = [Line2D([], [], ls="", label="leftmost: exactly 0")] if data["exact"].any() else []
    first = [*stages, *exact]
    padding = [Line2D([], [], ls="", label=" ")] * (max(len(first), len(regimes)) - len(first))
    return [*first, *padding, *regimes]  # two columns, filled from the top


def main(snakemake: Any) -> None:
    sf.render(snakemake, frame, facts, draw)


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
