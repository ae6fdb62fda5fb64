"""Where gradients vanish, stay or explode: spectral radius × sequence length, with the contour of no change."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import study_figures as sf
import study_tables
from study_tables import STABLE_DECADES

NOTHING = sf.Nothing(
    "No run of this study has a sequence of two steps or more.",
    "Add a sweep with several values of spectral_radius and of sequence_length (2 or more).",
)
BOUNDS = (2, 10, 30, 100)  # decades; the first is where "stable" ends
GROUP = ["panel", "spectral_radius", "sequence_length"]


def frame(tables: sf.Tables) -> pd.DataFrame:
    """Panel × spectral radius × T: mean over seeds of log10(‖∂L/∂h_1‖/‖∂L/∂h_T‖).

    It is −inf where all seeds are exactly zero. Otherwise seeds that are exactly zero (``zeros``) or not a number
    (``broken``) are not in it.
    """
    runs = sf.starts(tables.runs("log10_gradient_ratio"))
    if runs.empty:
        return pd.DataFrame()
    runs = sf.panels(runs, "activation", ("spectral_radius", "sequence_length", "seed"))
    ratio = runs["log10_gradient_ratio"]
    runs = runs.assign(zero=ratio == -np.inf, known=ratio.where(np.isfinite(ratio)))
    found = runs.groupby(GROUP, observed=True, as_index=False).agg(
        mean=("known", "mean"), seeds=("run_key", "size"), zeros=("zero", "sum"), finite=("known", "count"),
        left_out=("left_out", "first"), common=("common", "first"),
    )  # fmt: skip
    found["broken"] = found["seeds"] - found["finite"] - found["zeros"]
    found["mean"] = found["mean"].mask((found["finite"] == 0) & (found["zeros"] > 0), -np.inf)
    return found.drop(columns="finite")


def facts(data: pd.DataFrame) -> sf.Facts:
    if data.empty:
        return NOTHING.facts()
    known = data.dropna(subset=["mean"])
    stable = known[known["mean"].abs() <= STABLE_DECADES]
    vanishing, exploding = known[known["mean"] < -STABLE_DECADES], known[known["mean"] > STABLE_DECADES]
    longest = known[known["sequence_length"] == known["sequence_length"].max()]
    T = str(data["sequence_length"].max())
    title = f"Gradients stay within a factor of 100 in {_stable_at(known)}."
    if known.empty:
        title = "No gradient of this study is a number."
    counts = f"{len(vanishing)} vanish, {len(stable)} are stable and {len(exploding)} explode"
    zeros, broken = int(data["zeros"].sum()), int(data["broken"].sum())
    claims = {
        "counts": f"Of {len(known)} settings {counts}.",
        "longest": _stable_radii(longest, T),
        "zeros": f"{sf.plural(zeros, 'run')} had a gradient of exactly zero." if zeros else "",
        "broken": f"{sf.plural(broken, 'run')} had no number to show." if broken else "",
        "common": sf.common(data),
        "left_out": sf.left_out(data),
    }
    finite = known.loc[np.isfinite(known["mean"]), "mean"]
    numbers = {"settings": str(len(known)), "stable": str(len(stable)), "vanishing": str(len(vanishing))}
    numbers |= {"exploding": str(len(exploding)), "longest": T}
    numbers |= {"lowest": sf.number(finite.min(), 3), "highest": sf.number(finite.max(), 3)} if len(finite) else {}
    alt = (
        f"Heat maps, one for each of {sf.listed(map(sf.in_lists, data['panel'].cat.categories))}: spectral radius upwards, sequence "
        "length to the "
        "right, colour for the decades by which the gradient changes from the last step back to the first: blue "
        "vanishing, "
        f"white stable, red exploding. {title} {claims['longest']}"
    )
    return sf.facts(title, alt, numbers, claims)


def _stable_at(known: pd.DataFrame) -> str:
    """How many settings are stable at the shortest and at the longest sequence."""
    T = known["sequence_length"]
    counts = []
    for length in sorted({T.min(), T.max()}):
        stable = known.loc[length == T, "mean"].abs() <= STABLE_DECADES
        counts.append(f"{stable.sum()} of {len(stable)} settings at T = {length}")
    return " and in ".join(counts)


def _stable_radii(rows: pd.DataFrame, T: str) -> str:
    """Which radii are stable at the longest sequence, panel by panel."""
    parts = []
    for panel, group in rows.groupby("panel", observed=True):
        radii = group.loc[group["mean"].abs() <= STABLE_DECADES, "spectral_radius"]
        parts.append(f"{sf.in_lists(str(panel))}: " + (", ".join(f"{sf.number(r)}" for r in sorted(radii)) or "none"))
    return f"Spectral radii that are stable at T = {T}: {'; '.join(parts)}." if parts else ""


def colours() -> tuple[ListedColormap, BoundaryNorm]:
    """Diverging, in steps: the two palest on either side of 0 are the stable band, the arrows hold what lies beyond."""
    bounds = [-b for b in reversed(BOUNDS)] + [0, *BOUNDS]
    shades = np.array([0.06, 0.3, 0.5, 0.7, 0.92])
    palette = sns.color_palette("RdBu_r", as_cmap=True)(np.concatenate([0.5 - shades[::-1] / 2, 0.5 + shades / 2]))
    return ListedColormap(palette), BoundaryNorm(bounds, len(palette), extend="both")


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    names = list(data["panel"].cat.categories)
    tables = [
        data[data["panel"] == name].pivot(index="spectral_radius", columns="sequence_length", values="mean")
        for name in names
    ]
    columns, radii = 2 if len(names) <= 4 else 3, max(len(table) for table in tables)
    figure, axes = sf.grid(len(names), columns, min(3.6, max(2.2, 0.9 + 0.26 * radii)), sharex=False)
    cmap, norm = colours()
    for ax, name, table in zip(axes, names, tables, strict=True):
        _panel(ax, table, cmap, norm, numbers=table.shape[1] <= 16 // columns and radii <= 14)
        sf.panel_title(ax, name, 30 if columns == 2 else 24)
    sf.label_below(axes, columns, study_tables.label("sequence_length"))
    for ax in axes[::columns]:
        ax.set_ylabel(study_tables.label("spectral_radius"))
    bar = figure.colorbar(ScalarMappable(norm, cmap), ax=axes, aspect=35, fraction=0.05, ticks=norm.boundaries)
    bar.ax.set_yticklabels([sf.signed(b) for b in norm.boundaries])
    bar.set_label(sf.RATIO % "1" + " (decades)")
    _legend(figure, tables, cmap, norm)
    return figure


def _legend(figure: Figure, tables: list[pd.DataFrame], cmap: ListedColormap, norm: BoundaryNorm) -> None:
    """Only what is there: the contour, the two colours of the stable band, cells without a value."""
    band = tuple(Patch(facecolor=cmap(norm(side)), edgecolor=sf.FAINT) for side in (-1.0, 1.0))
    entries: list[tuple[bool, Any, str]] = [
        (
            any(_has_contour(t.to_numpy()) for t in tables),
            Line2D([], [], color=sf.INK, lw=2.4),
            "0: neither grows nor shrinks",
        ),
        (True, band, "stable: within ±2 decades"),
        (
            any(t.isna().any(axis=None) for t in tables),
            Patch(fc="#dddddd", hatch="///", ec=sf.FAINT),
            "no run, or not a number",
        ),
    ]
    handles, labels = zip(*(entry[1:] for entry in entries if entry[0]), strict=True)
    pairs = {tuple: HandlerTuple(ndivide=None, pad=0)}
    figure.legend(handles, labels, handler_map=pairs, loc="outside lower center", ncols=3)


def _panel(ax: Axes, table: pd.DataFrame, cmap: ListedColormap, norm: BoundaryNorm, numbers: bool) -> None:
    """Cells of equal size, whatever the step between the values; the contour runs between the cells' centres."""
    values = table.to_numpy()
    rows, columns = values.shape
    ax.set_facecolor("#dddddd")
    ax.patch.set(hatch="///", edgecolor=sf.FAINT)
    ax.pcolormesh(
        np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, values, cmap=cmap, norm=norm, ec="white", lw=0.6
    )
    if numbers:
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if abs(value) > BOUNDS[-2] else sf.INK
                text = ax.text(j, i, _cell(value), ha="center", va="center", fontsize=9, color=colour, zorder=5)
                text.set_bbox({"facecolor": cmap(norm(value)), "lw": 0, "pad": 0.6})  # above the contour
    if _has_contour(values):
        ax.contour(np.ma.masked_invalid(values), levels=[0.0], colors=sf.INK, linewidths=2.4)
    ax.set_xticks(*_ticks(table.columns, 12))
    ax.set_yticks(*_ticks(table.index, 14))
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _has_contour(values: np.ndarray) -> bool:
    """Two rows and columns at least, and finite values on both sides of zero."""
    finite = values[np.isfinite(values)]
    return min(values.shape) > 1 and finite.size > 0 and bool(finite.min() < 0 < finite.max())


def _cell(value: float) -> str:
    if np.isinf(value):
        return "zero"
    return f"{value:.1f}".replace("-", "−") if abs(value) < 9.95 else f"{value:.0f}".replace("-", "−")


def _ticks(values: pd.Index, most: int) -> tuple[np.ndarray, list[str]]:
    """Positions and labels of at most ``most`` cells."""
    shown = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))
    return shown, [sf.number(float(values[i])) for i in shown]


def main(snakemake: Any) -> None:
    sf.render(snakemake, frame, facts, draw)


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
