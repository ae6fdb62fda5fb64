"""How far one seed can be trusted: every seed's growth rate around the mean, and the spread against length."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import study_figures as sf
import study_tables

NOTHING = sf.Nothing(
    "This study cannot tell one seed from another.",
    "Set seeds: 3 or more in a sweep whose sequence_length is 2 or more, so that there are several seeds to compare.",
)
COLUMNS = 4
GROUP = ["panel", "spectral_radius", "sequence_length"]


def frame(tables: sf.Tables) -> pd.DataFrame:
    """One row a run: its growth rate's ``offset`` from the mean over seeds, and their standard deviation ``spread``.

    Only settings with several seeds. Runs without a finite rate (``zero``, or not a number) have no offset; ``agree``
    says whether all seeds of the setting are of the same regime.
    """
    runs = sf.starts(tables.runs("growth_rate", "regime"))
    if runs.empty:
        return pd.DataFrame()
    runs = sf.panels(runs, "activation", ("spectral_radius", "sequence_length", "seed"))
    rate = runs["growth_rate"]
    runs = runs.assign(
        zero=rate == -np.inf, known=rate.where(np.isfinite(rate)), regime=runs["regime"].fillna("not a number")
    )
    seeds = runs.groupby(GROUP, observed=True)
    runs["seeds"] = seeds["seed"].transform("nunique")
    runs["offset"] = runs["known"] - seeds["known"].transform("mean")
    runs["spread"] = seeds["known"].transform("std")
    runs["agree"] = seeds["regime"].transform("nunique") == 1
    columns = [
        *GROUP,
        "seed",
        "run_key",
        "growth_rate",
        "regime",
        "offset",
        "spread",
        "agree",
        "zero",
        "seeds",
        "left_out",
        "common",
    ]
    return runs.loc[runs["seeds"] > 1, columns].sort_values([*GROUP, "seed"], ignore_index=True)


def spreads(data: pd.DataFrame) -> pd.DataFrame:
    """One row a setting."""
    return data.drop_duplicates(GROUP)[[*GROUP, "spread", "agree"]]


def longest(data: pd.DataFrame) -> pd.DataFrame:
    """The rows at each panel's longest sequence."""
    return sf.longest(data)


def facts(data: pd.DataFrame) -> sf.Facts:
    if data.empty:
        return NOTHING.facts()
    settings = spreads(data)
    agreeing = f"{int(settings['agree'].sum())} of {len(settings)}"
    title = f"All seeds agree whether gradients vanish, stay stable or explode in {agreeing} settings"
    numbers = {"agreeing": agreeing, "seeds": str(data["seeds"].max()), "T": str(data["sequence_length"].max())}
    known = longest(settings).dropna(subset=["spread"])
    claims = {"length": _length(settings), "common": sf.common(data), "left_out": sf.left_out(data)}
    if len(known):
        worst = known.loc[known["spread"].idxmax()]
        where = f"{sf.in_lists(worst['panel'])}, ρ = {sf.number(worst['spectral_radius'])}"
        numbers |= {
            "worst_spread": sf.number(worst["spread"], 2),
            "typical_spread": sf.number(known["spread"].median(), 2),
        }
        decades = worst["spread"] * (worst["sequence_length"] - 1) / np.log(10)
        title += f"; their rates differ most, by ±{sf.number(worst['spread'], 2)} a step, for {where}"
        claims["decades"] = (
            f"A standard deviation of {sf.number(worst['spread'], 2)} a step ({where}) is {sf.number(decades, 2)} "
            "decades over "
            f"{worst['sequence_length']} steps."
        )
    if data["zero"].any():
        claims["zeros"] = (
            f"{sf.plural(int(data['zero'].sum()), 'run')} with a gradient of exactly zero (▼) left the means."
        )
    alt = (
        f"Charts, one for each of {sf.listed(map(sf.in_lists, data['panel'].cat.categories))}: above, every seed's growth rate "
        "minus the mean over "
        f"seeds against spectral radius; below, the standard deviation over seeds against sequence length. {title}."
    )
    return sf.facts(f"{title}.", alt, numbers, claims)


def _length(settings: pd.DataFrame) -> str:
    """By how much the typical spread changes from the shortest to the longest sequence, panel by panel."""
    typical = settings.groupby(["panel", "sequence_length"], observed=True)["spread"].median().unstack().dropna(axis=1)
    if typical.shape[1] < 2:
        return ""
    first, last = typical.columns[0], typical.columns[-1]
    words = [
        f"{sf.number(row[first], 2)} to {sf.number(row[last], 2)} ({sf.in_lists(str(panel))})"
        for panel, row in typical.iterrows()
    ]
    return (
        f"From T = {first} to T = {last} the standard deviation over seeds (median over ρ) goes from "
        f"{sf.listed(words)}; "
        "a spread that came from the two ends of the sequence alone would fall by a factor of "
        f"{sf.number(last / first, 2)}."
    )


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    names = list(data["panel"].cat.categories)
    figure, pairs = sf.stacked_grid([True] * len(names), COLUMNS, (1, 1), 5.2)
    colours = sf.radius_colours(data["spectral_radius"])
    for (upper, lower), name in zip(pairs, names, strict=True):
        rows = data[data["panel"] == name]
        _seeds(upper, longest(rows), colours)
        _spread(lower, spreads(rows), colours)
        sf.panel_title(upper, name, 16)
        upper.set_xlabel(study_tables.label("spectral_radius"))
        lower.set_xlabel("sequence length T\n(steps)")
    sf.share_y([upper for upper, _ in pairs], COLUMNS, "one seed’s growth rate\n− mean over seeds (ln per step)")
    sf.share_y([lower for _, lower in pairs], COLUMNS, "standard deviation\nover seeds (ln per step)")
    figure.legend(handles=_legend(data), loc="outside right center", title="spectral\nradius ρ")
    return figure


def _seeds(ax: Axes, rows: pd.DataFrame, colours: dict[float, Any]) -> None:
    """A dot a seed, the same seed joined across radii; behind them ± one standard deviation."""
    radii = np.sort(rows["spectral_radius"].unique())
    width = 0.36 * (np.diff(radii).min() if len(radii) > 1 else 0.1)
    ax.axhline(0.0, color=sf.FAINT, lw=0.8, zorder=0)
    for _, seed in rows.groupby("seed"):
        ax.plot(seed["spectral_radius"], seed["offset"], color="#bbbbbb", lw=0.8, zorder=1, gid="seed")
    for radius, group in rows.groupby("spectral_radius"):
        spread = group["spread"].iloc[0]
        if np.isfinite(spread):
            ax.fill_between([radius - width, radius + width], -spread, spread, color=colours[radius], alpha=0.25, lw=0)
        ax.plot(
            [radius] * len(group),
            group["offset"],
            "o",
            ms=4.5,
            color=colours[radius],
            mec="white",
            mew=0.4,
            gid="seeds",
        )
        if group["zero"].any():
            ax.plot([radius], [0.03], "v", color=colours[radius], transform=ax.get_xaxis_transform(), gid="zero")
    ax.margins(x=0.08)


def _spread(ax: Axes, rows: pd.DataFrame, colours: dict[float, Any]) -> None:
    """Spread against length on log axes, with the slope of 1/T for comparison."""
    rows = rows[rows["spread"] > 0]
    ax.set_yscale("log")
    ax.set_xscale("log")
    lengths = np.sort(rows["sequence_length"].unique())
    for radius, line in rows.groupby("spectral_radius"):
        ax.plot(line["sequence_length"], line["spread"], "o-", color=colours[radius], lw=1.6, ms=4, gid="spread")
    if len(lengths) > 1:
        anchor = rows.loc[rows["sequence_length"] == lengths[0], "spread"].median()
        ax.plot(lengths, anchor * lengths[0] / lengths, color=sf.INK, ls=":", lw=1.8, gid="1/T")
    if len(rows):
        ax.set_ylim(rows["spread"].min() / 2, rows["spread"].max() * 1.5)
    ax.minorticks_off()
    shown = np.unique(lengths[[0, len(lengths) // 2, -1]]) if len(lengths) else lengths
    ax.set_xticks(shown, [str(T) for T in shown])
    ax.margins(x=0.08)


def _legend(data: pd.DataFrame) -> list[Any]:
    handles = [
        *sf.radius_legend(data["spectral_radius"]),
        Line2D([], [], color="#bbbbbb", lw=0.8, marker="o", ms=5, mfc=sf.FAINT, mec="white", label="one seed"),
        Patch(color=sf.FAINT, alpha=0.3, label="± standard\ndeviation"),
        Line2D([], [], color=sf.INK, ls=":", lw=1.8, label="slope 1/T"),
    ]
    zero = Line2D([], [], color=sf.FAINT, marker="v", ls="", label="exactly 0")
    return [*handles, zero] if data["zero"].any() else handles


def main(snakemake: Any) -> None:
    sf.render(snakemake, frame, facts, draw)


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
