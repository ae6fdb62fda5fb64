"""How closely the engine agrees with independent programs: every check's worst relative error, and the tolerance."""

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
STAGES = {
    "gate": ("o", -0.17, "gate: before the sweeps"),
    "sweep": ("D", 0.17, "sweep: runs of this study, checked once more"),
}
UNKNOWN = "not a number"


def frame(tables: sf.Tables) -> pd.DataFrame:
    """One row a check, with its ``panel`` (oracle, dtype) and ``network`` (cell and activation, as they vary).

    ``exact`` marks an error of exactly 0. Results that neither program finds finite have no error.
    """
    settings = ["stage", "oracle", "run_key", "cell", "activation", "spectral_radius", "sequence_length", "dtype"]
    data = tables.read("checks", [*settings, "regime", "relative_error", "where", "tolerance"])
    if data.empty:
        return pd.DataFrame()
    data["regime"] = data["regime"].fillna(UNKNOWN)
    data["panel"] = _programs(data["oracle"]) + ", " + data["dtype"]
    cell, activation = data["cell"], data["activation"]
    several = cell.nunique() > 1, activation.nunique() > 1
    data["network"] = cell + ", " + activation if all(several) else cell if several[0] else activation
    data["exact"] = data["relative_error"] == 0
    order = ["panel", "network", "stage", "regime", "relative_error"]
    return data.sort_values(order, ignore_index=True)


def _programs(oracles: pd.Series) -> pd.Series:
    """The oracles; torch.nn modules together if there are several, for each covers few networks."""
    modules = oracles.str.startswith("torch.nn.")
    return oracles.mask(modules, "torch.nn modules") if oracles[modules].nunique() > 1 else oracles


def facts(data: pd.DataFrame) -> sf.Facts:
    if data.empty:
        return NOTHING.facts()
    known = data.dropna(subset=["relative_error"])
    oracles = sorted(data["oracle"].unique())
    modules = [oracle for oracle in oracles if oracle.startswith("torch.nn.")]
    compared = f"{len(data)} comparisons with {sf.listed(sorted(_programs(data['oracle']).unique()))}"
    numbers = {"checks": str(len(data))} | {f"checks_{stage}": str((data["stage"] == stage).sum()) for stage in STAGES}
    numbers |= {"modules": sf.listed(modules)} if modules else {}  # the caption names them
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
    worst, largest = (sf.number(error, 2) for error in (nearest["relative_error"], known["relative_error"].max()))
    numbers |= {"worst": worst, "tolerance": sf.number(nearest["tolerance"], 2), "failed": str(failed)}
    if failed:
        title = f"{failed} of {compared} exceed the tolerance; the worst relative error is {worst}."
    else:
        title = f"The largest relative error in {compared} is {largest}{_margin(known)}."
    network = nearest["activation"] if data["cell"].nunique() == 1 else f"{nearest['cell']}, {nearest['activation']},"
    claims["worst"] = (
        f"The worst, {worst}, is {nearest['where']} of {network} at ρ = "
        f"{sf.number(nearest['spectral_radius'])}, "
        f"T = {nearest['sequence_length']} ({nearest['stage']}, {nearest['oracle']})."
    )
    alt = f"Dot plots of relative error on a logarithmic axis, with the tolerance and machine ε. {title}"
    return sf.facts(title, alt, numbers, claims)


def _margin(known: pd.DataFrame) -> str:
    """How far below its tolerance the error stays that comes nearest to it."""
    share = (known["relative_error"] / known["tolerance"]).max()
    if share == 0:
        return ""
    if known["tolerance"].nunique() == 1:
        return f"; the tolerance is {sf.number(1 / share, 2)} times larger"
    return f"; the nearest that any comes to its tolerance is {sf.number(share, 2)} of it"


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    panels = sorted(data["panel"].unique())
    networks = {panel: _networks(data[data["panel"] == panel]) for panel in panels}
    most = max(map(len, networks.values()))
    height = 1.1 + (0.42 if most <= 12 else 0.25) * most
    same = len({tuple(rows) for rows in networks.values()}) == 1
    figure, axes = sf.grid(len(panels), 2, height, extra=1.5, sharex=False, sharey=same)
    for ax, panel in zip(axes, panels, strict=True):
        rows = data[data["panel"] == panel]
        _panel(ax, rows, networks[panel], *_limits(data[data["dtype"] == rows["dtype"].iloc[0]]))
        sf.panel_title(ax, panel, 40)
        ax.set_ylim(len(networks[panel]) - 0.4, -1.4)
        ax.set_yticks(range(len(networks[panel])), networks[panel])
    _annotate_worst(axes, panels, data, networks)
    sf.label_below(axes, min(2, len(axes)), "worst relative error over all steps and parameters")
    figure.legend(handles=_legend(data), loc="outside lower center", ncols=2)
    return figure


def _networks(rows: pd.DataFrame) -> list[str]:
    """The networks of a panel, cells from the simplest."""
    return list(sf.in_order(rows, ["cell", "activation"])["network"].drop_duplicates())


def _limits(rows: pd.DataFrame) -> tuple[float, float]:
    """The x scale of a dtype, the same for every oracle: from below its rounding error to above its tolerance."""
    errors = rows.loc[rows["relative_error"] > 0, "relative_error"]
    return min([*errors, _epsilon(rows)]) / 24, max([*errors, *rows["tolerance"]]) * 4


def _epsilon(rows: pd.DataFrame) -> float:
    return float(np.finfo(rows["dtype"].iloc[0]).eps)


def _panel(ax: Axes, rows: pd.DataFrame, networks: list[str], low: float, high: float) -> None:
    for network in range(len(networks)):
        ax.axhline(network + 0.5, color="#eeeeee", lw=0.8, zorder=0)
    for value in rows["tolerance"].unique():
        ax.axvline(value, color="#b2001d", lw=2, gid="tolerance")
        ax.text(value, -1.1, "tolerance ", ha="right", va="center", color="#b2001d", fontsize=9.5)
    ax.axvline(_epsilon(rows), color=sf.FAINT, lw=1.2, ls=":", gid="epsilon")
    ax.text(_epsilon(rows), -0.65, " machine ε", ha="left", va="center", color="#666666", fontsize=9.5)
    x = rows["relative_error"].mask(rows["exact"], low * 3)
    for stage, (marker, offset, _) in STAGES.items():
        here = rows["stage"] == stage
        y = [networks.index(network) + offset for network in rows.loc[here, "network"]]
        paint = [sf.REGIME_COLOURS.get(regime, sf.FAINT) for regime in rows.loc[here, "regime"]]
        faces = paint if stage == "gate" else "none"
        ax.scatter(x[here], y, marker=marker, s=34, facecolors=faces, edgecolors=paint, linewidths=1.2, gid=stage)
    ax.set(xscale="log", xlim=(low, high))


def _annotate_worst(axes: list[Axes], panels: list[str], data: pd.DataFrame, networks: dict[str, list[str]]) -> None:
    """The number beside the check that comes nearest to its tolerance."""
    known = data[data["relative_error"] > 0]
    if known.empty:
        return
    row = known.loc[(known["relative_error"] / known["tolerance"]).idxmax()]
    ax, error = axes[panels.index(row["panel"])], row["relative_error"]
    left, right = np.log(ax.get_xlim())
    side = 1 if (np.log(error) - left) / (right - left) < 0.5 else -1  # where there is room
    place: dict[str, Any] = {
        "xytext": (18 * side, 0),
        "textcoords": "offset points",
        "ha": "left" if side > 0 else "right",
        "va": "center",
    }
    at = (error, networks[row["panel"]].index(row["network"]) + STAGES[row["stage"]][1])
    line = {"arrowstyle": "-", "color": sf.INK, "shrinkB": 5}
    text = ax.annotate(f"worst = {sf.number(error, 2)}", at, fontsize=10, fontweight="bold", arrowprops=line, **place)
    sf.outlined(text)


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
