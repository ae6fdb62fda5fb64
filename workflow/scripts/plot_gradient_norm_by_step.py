"""How the gradient norm changes on its way back through time, at the longest sequence, beside the linear law."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import study_figures as sf

NOTHING = sf.Nothing(
    "No run of this study shows how one gradient travels back through time.",
    "Add a sweep with updates: 0, loss_at: last and sequence_length: 2 or more (a loss at every step would mix "
    "gradients "
    "of different age).",
)
MOST_LAGS = 200
FLOAT_LIMITS = (  # log10 of the smallest normal and the smallest positive number; log10 of the largest
    ("float32", -37.9, -44.9, 38.5),
    ("float64", -307.7, -323.3, 308.3),
)
GROUP = ["panel", "spectral_radius", "sequence_length", "lag"]


def frame(tables: sf.Tables) -> pd.DataFrame:
    """Panel × spectral radius × lag: log10(‖∂L/∂h_t‖/‖∂L/∂h_T‖), its mean, lowest and highest seed, and the linear law.

    Seeds whose gradient is exactly zero there (``zeros``) or not a number (``broken``) are not in the mean.
    """
    runs = tables.runs("linear_rate", "task_loss_at")  # what the task decides where the config says nothing
    runs = sf.starts(runs[runs["task_loss_at"] == "last"])
    if runs.empty:
        return pd.DataFrame()
    runs = sf.longest(sf.panels(runs, "activation", ("spectral_radius", "sequence_length", "seed")))
    found = _aggregated(tables, runs)
    found["mean"] = (found["sum"] / found["finite"]).where(found["finite"] > 0)
    found["broken"] = found["seeds"] - found["finite"] - found["zeros"]
    found["linear"] = found["lag"] * found["rate"] / np.log(10)  # null where the cell has no such law
    order = [*GROUP, "mean", "low", "high", "seeds", "zeros", "left_out", "common", "cell", "broken", "linear"]
    return found[order]


def _aggregated(tables: sf.Tables, runs: pd.DataFrame) -> pd.DataFrame:
    """Sums, extremes and counts by ``GROUP``, from the traces piece by piece, so that any number of runs fits."""
    grids = [np.linspace(0, T - 1, min(T, MOST_LAGS + 1)).round().astype(int) for T in runs["sequence_length"].unique()]
    keys = pa.array(runs["run_key"], pa.string())
    ours = (pc.field("update") == 0) & pc.field("run_key").isin(keys)
    shown = ours & pc.field("lag").isin(pa.array(np.unique(np.concatenate(grids)), pa.int32()))
    columns = ["sweep", "run_key", "lag", "log10_grad_norm"]
    ends = pd.concat(tables.pieces("traces", columns, ours & (pc.field("lag") == 0)))
    last = ends.drop_duplicates("run_key").set_index("run_key")["log10_grad_norm"]
    settings = ["panel", "spectral_radius", "sequence_length", "linear_rate", "left_out", "common", "cell"]
    described = runs.set_index(["sweep", "run_key"])[settings]  # a run that two sweeps share counts in the first
    total: pd.DataFrame | None = None
    for piece in tables.pieces("traces", columns, shown):
        ratio = piece["log10_grad_norm"] - piece["run_key"].map(last)
        piece["zeros"], piece["ratio"] = ratio == -np.inf, ratio.where(np.isfinite(ratio))
        rows = piece.join(described, on=["sweep", "run_key"], how="inner")
        part = rows.groupby(GROUP, observed=True).agg(
            sum=("ratio", "sum"), low=("ratio", "min"), high=("ratio", "max"), finite=("ratio", "count"),
            seeds=("run_key", "size"), zeros=("zeros", "sum"),
        )  # fmt: skip
        total = part if total is None else _added(total, part)
    assert total is not None, "runs without a trace"
    own = runs.groupby(["panel", "spectral_radius", "sequence_length"], observed=True).agg(
        left_out=("left_out", "first"), common=("common", "first"), cell=("cell", "first"), rate=("linear_rate", "mean")
    )
    return total.join(own, on=["panel", "spectral_radius", "sequence_length"]).reset_index()


def _added(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """The aggregates of two pieces as those of both."""
    how = {"sum": "sum", "low": "min", "high": "max", "finite": "sum", "seeds": "sum", "zeros": "sum"}
    return pd.concat([one, other]).groupby(level=GROUP, observed=True).agg(how)


def ends(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first time step."""
    return data[data["lag"] == data["sequence_length"] - 1]


def facts(data: pd.DataFrame) -> sf.Facts:
    if data.empty:
        return NOTHING.facts()
    at_first = ends(data)
    known = at_first.dropna(subset=["mean"])
    lags = sf.listed(map(str, sorted(set(at_first["lag"]))))
    zeros, broken = int(at_first["zeros"].sum()), int(at_first["broken"].sum())
    claims = {
        "zeros": f"{sf.plural(zeros, 'run')} reached a gradient of exactly zero (▼) and left the mean there."
        if zeros
        else "",
        "broken": f"{sf.plural(broken, 'run')} had a gradient that is not a number and left the mean."
        if broken
        else "",
        "common": sf.common(data),
        "left_out": sf.left_out(data),
    }
    numbers = {"lag": lags, "seeds": _range(data["seeds"])}
    if known.empty:
        title = "Every gradient is exactly zero, or not a number, before it has reached the first time step."
        return sf.facts(title, f"Small multiples without lines. {title}", numbers, claims)
    low, high = known.loc[known["mean"].idxmin()], known.loc[known["mean"].idxmax()]
    spread = [
        f"{sf.power(row['mean'])} ({sf.in_lists(row['panel'])}, ρ = {sf.number(row['spectral_radius'])})"
        for row in (low, high)
    ]
    title = f"Going back {lags} steps multiplies the gradient by " + (
        f"anything from {spread[0]} to {spread[1]}." if low["mean"] < high["mean"] else f"{spread[0]}."
    )
    numbers |= {"lowest": sf.number(low["mean"], 3), "highest": sf.number(high["mean"], 3)}
    off = (known["mean"] - known["linear"]).abs().groupby(known["panel"], observed=True).max().dropna()
    if len(off):
        numbers["linear_off_most"] = sf.number(off.max(), 2)
        claims["linear"] = _linear(data, off)
    return sf.facts(title, _alt(data, title), numbers, claims)


def _linear(data: pd.DataFrame, off: pd.Series) -> str:
    """How far the linear law is off, and whose spectral radius it takes."""
    words = sf.listed(f"{sf.number(value, 2)} ({sf.in_lists(panel)})" for panel, value in off.items())
    residual = " The law of a residual cell takes the spectral radius of (1 − λ) I + η W_hh." if _residual(data) else ""
    return f"At the first time step the linear law ρ^lag is off by {words} decades at most.{residual}"


def _residual(data: pd.DataFrame) -> bool:
    return bool((data["cell"] == "residual").any())


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _alt(data: pd.DataFrame, title: str) -> str:
    panels = sf.listed(map(sf.in_lists, data["panel"].cat.categories))
    law = ", with the linear law dashed" if data["linear"].notna().any() else ""
    return (
        f"Line charts, one for each of {panels}: decimal logarithm of the gradient norm, relative to the last "
        "time step, against "
        f"lag in steps back from the end, one line per spectral radius{law}. {title}"
    )


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    names = list(data["panel"].cat.categories)
    columns = 2 if len(names) <= 4 else 3
    figure, axes = sf.grid(len(names), columns, 2.75, sharex=data["sequence_length"].nunique() == 1)
    colours = sf.radius_colours(data["spectral_radius"])
    for ax, name in zip(axes, names, strict=True):
        _panel(ax, data[data["panel"] == name], colours)
        sf.panel_title(ax, name, 30 if columns == 2 else 19)
    for ax in axes:
        _mark_float_limits(ax)
    sf.label_below(axes, columns, "lag: steps back from the end, T − t" if columns == 2 else "lag: steps back, T − t")
    scales = " (decades; every panel has its own scale)" if len(names) > 1 else " (decades)"
    figure.supylabel(sf.RATIO % "t" + scales, fontsize=10.5)
    figure.legend(handles=_legend(data), title="spectral\nradius ρ", loc="outside right center")
    return figure


def _legend(data: pd.DataFrame) -> list[Any]:
    """The radii, and only what is drawn."""
    several = data["seeds"].max() > 1
    seeds = f"mean of {_range(data['seeds'])} seeds" if several else "one seed"
    law = "linear law\nρ^lag" + ("\n(residual:\nits own ρ)" if _residual(data) else "")
    zero = Line2D([], [], color=sf.FAINT, marker="v", ms=8, ls="", label="exactly 0\nfrom here")
    entries = [
        (True, Line2D([], [], color=sf.FAINT, lw=2.2, label=seeds)),
        (several, Patch(color=sf.FAINT, alpha=0.3, label="lowest to\nhighest seed")),
        (data["linear"].notna().any(), Line2D([], [], color=sf.FAINT, lw=1.2, ls=(0, (4, 2)), label=law)),
        (data["zeros"].any(), zero),
    ]
    return [*sf.radius_legend(data["spectral_radius"]), *(handle for there, handle in entries if there)]


def _panel(ax: Axes, rows: pd.DataFrame, colours: dict[float, Any]) -> None:
    ax.axhline(0.0, color=sf.FAINT, lw=0.8, zorder=0)
    for radius, line in rows.groupby("spectral_radius"):
        style = {"color": colours[radius]}
        if line["linear"].notna().any():
            ax.plot(line["lag"], line["linear"], lw=1.1, ls=(0, (4, 2)), alpha=0.8, gid="linear", **style)
        ax.fill_between(line["lag"], line["low"], line["high"], lw=0, alpha=0.25, **style)
        ax.plot(line["lag"], line["mean"], lw=2.0, gid="mean", **style)
        if line["zeros"].any():
            first = line.loc[line["zeros"].gt(0).idxmax(), "lag"]
            ax.plot(
                [first],
                [0.03],
                marker="v",
                ms=8,
                clip_on=False,
                gid="zero",
                transform=ax.get_xaxis_transform(),
                **style,
            )
    ax.margins(x=0.01)


def _mark_float_limits(ax: Axes) -> None:
    """Where plain floats run out, if a gradient of norm 1 at the last step gets there."""
    low, high = ax.get_ylim()
    for dtype, normal, smallest, largest in FLOAT_LIMITS:
        if low < normal:
            ax.axhspan(smallest, normal, color="#cc79a7", alpha=0.35, lw=0, zorder=0.5)
        if high > largest:
            ax.axhline(largest, color="#cc79a7", lw=1.4, zorder=0.5)
        for y, word, align in ((smallest, f"{dtype} min", "top"), (largest, f"{dtype} max", "bottom")):
            if low < y < high:
                sf.outlined(
                    ax.text(0.015, y, word, transform=ax.get_yaxis_transform(), va=align, fontsize=9, color="#8f3a6d")
                )
    ax.set_ylim(low, high)


def main(snakemake: Any) -> None:
    sf.render(snakemake, frame, facts, draw)


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
