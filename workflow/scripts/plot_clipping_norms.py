"""What clipping does to the gradient through training: the global norm before and after, rule by rule."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import study_figures as sf

NOTHING = sf.Nothing(
    "No run of this study trains, so no gradient was clipped.",
    'Add a sweep with updates: 100 or more and clipping: [none, "norm:1.0"].',
)
BEFORE, ENDED = "#b4b4b4", "#b2001d"
MOST_ROWS, MOST_RULES, MOST_RUNS = 4, 6, 60
POOLED = ("clipping", "spectral_radius", "activation", "seed", "updates", "trace_every")
UNCHANGED = 1e-9  # decades


def frame(tables: sf.Tables) -> pd.DataFrame:
    """Run × update: log10 of the global gradient norm before and after clipping, and of the rule's threshold on it.

    Of long trainings some updates evenly spread. ``ended`` marks the update at which a run ended because a value was
    not finite; its norm is the last finite one. An exactly zero gradient has no norm here.
    """
    runs = sf.trained(tables.runs("first_nonfinite_update"))
    if runs.empty:
        return pd.DataFrame()
    runs = sf.panels(runs, "task", POOLED, MOST_ROWS)
    kept = sf.rules(runs["clipping"])[:MOST_RULES]
    runs["left_out"] += runs["clipping"].nunique() - len(kept)
    runs = runs[runs["clipping"].isin(kept)]
    rows = sf.updates_of(tables, runs, ["log10_norm_before", "log10_norm_after", "finite"])
    names = {"log10_norm_before": "before", "log10_norm_after": "after"}
    rows = rows.rename(columns=names)
    rows["ended"] = ~rows.pop("finite")
    for name in names.values():
        finite = rows[name].where(np.isfinite(rows[name]))
        last = finite.groupby(rows["run_key"]).ffill()
        rows[name] = finite.where(~rows["ended"], last)
    settings = [
        "run_key",
        "panel",
        "task",
        "cell",
        "activation",
        "spectral_radius",
        "clipping",
        "seed",
        "left_out",
        "common",
    ]
    rows = rows.merge(runs[settings], on="run_key")
    norms = {rule: np.log10(sf.threshold(rule) or np.nan) if rule.startswith("norm:") else np.nan for rule in kept}
    return rows.assign(threshold=rows["clipping"].map(norms))


def summary(data: pd.DataFrame) -> pd.DataFrame:
    """One row a rule: its runs, how many ended, the share of updates clipped and the typical cut in decades."""
    going = data[~data["ended"]].dropna(subset=["before", "after"])
    going = going.assign(cut=going["before"] - going["after"])
    clipped = going[going["cut"] > UNCHANGED]
    found = pd.DataFrame({
        "runs": data.groupby("clipping")["run_key"].nunique(),
        "ended": data[data["ended"]].groupby("clipping")["run_key"].nunique(),
        "share": (going["cut"] > UNCHANGED).groupby(going["clipping"]).mean(),
        "cut": clipped.groupby("clipping")["cut"].median(),
        "highest": going.groupby("clipping")["before"].max(),
    })  # fmt: skip
    return found.fillna({"ended": 0, "share": 0.0}).reindex(sf.rules(found.index))


def facts(data: pd.DataFrame) -> sf.Facts:
    if data.empty:
        return NOTHING.facts()
    rules = summary(data)
    numbers = {f"ended_{rule}": f"{row['ended']:.0f} of {row['runs']:.0f}" for rule, row in rules.iterrows()}
    numbers["rules"] = ", ".join(dict.fromkeys(map(sf.kind_of, rules.index)))  # the caption explains each
    numbers |= {f"share_{rule}": sf.percent(row["share"]) for rule, row in rules.iterrows() if rule != "none"}
    numbers |= {
        f"highest_{rule}": sf.power(row["highest"]) for rule, row in rules.iterrows() if np.isfinite(row["highest"])
    }
    clipping = rules.drop("none", errors="ignore")
    cuts = [
        f"{rule} cuts {sf.percent(row['share'])} of the updates"
        + (f", typically by a factor of {sf.power(row['cut'])}" if row["share"] else "")
        for rule, row in clipping.iterrows()
    ]
    claims = {
        "cuts": f"{'; '.join(cuts)}." if cuts else "",
        "highest": "The highest norm before clipping was " + _highest(rules) + ".",
        "ended": _ended(data),
        "common": sf.common(data),
        "left_out": sf.left_out(data),
    }
    title = _title(rules, clipping)
    alt = (
        f"Line charts, rows {sf.listed(map(sf.in_lists, data['panel'].cat.categories))}, columns {sf.listed(rules.index)}: decimal "
        "logarithm of the "
        "global gradient norm before clipping (grey) and after it (coloured) against training update, one line a "
        f"run. {title}"
    )
    return sf.facts(title, alt, numbers, claims)


def _highest(rules: pd.DataFrame) -> str:
    known = rules.dropna(subset=["highest"])
    if len(known) > 1 and known["highest"].map(sf.power).nunique() == 1:
        return f"{sf.power(known['highest'].iloc[0])}, with every rule"
    return (
        sf.listed(f"{sf.power(row['highest'])} ({rule})" for rule, row in known.iterrows())
        if len(known)
        else "never finite"
    )


def _ended(data: pd.DataFrame) -> str:
    """Which runs ended, by rule, network and spectral radius."""
    ended = data[data["ended"]]
    if ended.empty:
        return "No run ended at a value that is not finite."
    network = "cell" if data["activation"].nunique() == 1 < data["cell"].nunique() else "activation"
    counts = ended.groupby(["clipping", network, "spectral_radius"])["run_key"].nunique()
    words = [f"{count} ({rule}, {phi}, ρ = {sf.number(rho)})" for (rule, phi, rho), count in counts.items()]
    more = [f"{counts.iloc[5:].sum()} elsewhere"] if len(words) > 6 else []
    return f"Runs that ended at a value that is not finite: {sf.listed([*words[:5], *more] if more else words)}."


def _title(rules: pd.DataFrame, clipping: pd.DataFrame) -> str:
    """Who ended; if nobody did, who was clipped most; if nobody was, how large gradients got."""
    if rules["ended"].sum():
        parts = []
        if "none" in rules.index:
            parts.append(f"without clipping, {rules.loc['none', 'ended']:.0f} of {rules.loc['none', 'runs']:.0f}")
        if len(clipping):
            parts.append(f"with clipping, {clipping['ended'].sum():.0f} of {clipping['runs'].sum():.0f}")
        return f"Runs that break down at a value that is not finite: {'; '.join(parts)}."
    if clipping["share"].any():
        rule = clipping["share"].idxmax()
        return f"No run breaks down; {rule} clips most: {sf.percent(clipping.loc[rule, 'share'])} of the updates."
    highest = rules["highest"].max()
    if not np.isfinite(highest):
        return "No run breaks down and nothing is clipped; every gradient is exactly zero."
    return f"No run breaks down and nothing is clipped; the highest gradient norm is {sf.power(highest)}."


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    panels, rules = list(data["panel"].cat.categories), sf.rules(data["clipping"])
    crowded = len(rules) > 4
    figure, axes = sf.grid(len(panels) * len(rules), len(rules), 2.45, sharey="row")
    colours = sf.rule_colours(rules)
    for row, panel in enumerate(panels):
        here = data[data["panel"] == panel]
        for ax, rule in zip(axes[row * len(rules) : (row + 1) * len(rules)], rules, strict=True):
            _panel(ax, here[here["clipping"] == rule], colours[rule])
            if row == 0:
                _rule_title(ax, rule, crowded)
        left = axes[row * len(rules)]
        _limit(left, here)
        left.set_ylabel(f"{panel}\n" + r"$\log_{10}$ of gradient norm")
        for ax, rule in zip(axes[row * len(rules) : (row + 1) * len(rules)], rules, strict=True):
            _mark_ends(ax, here[here["clipping"] == rule], "\n" if crowded else " ")
    sf.label_below(axes, len(rules), "update" if crowded else "training update")
    figure.legend(handles=_legend(data, colours), loc="outside lower center", ncols=2)
    return figure


def _rule_title(ax: Axes, rule: str, crowded: bool) -> None:
    """The rule above its column, and above the words of ``_mark_ends``."""
    none = "no clipping" if crowded else "none: no clipping"
    size, up = (10, 32) if crowded else (11, 20)
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "gid": "rule"}
    text = none if rule == "none" else rule
    ax.annotate(text, (0, 1), (0, up), fontweight="bold", fontsize=size, **place)


def _panel(ax: Axes, rows: pd.DataFrame, colour: str) -> None:
    """A line a run, before and after; the threshold; × where a run ended."""
    keys = rows["run_key"].unique()
    some = keys[:: max(1, -(-len(keys) // MOST_RUNS))]
    shown = rows[rows["run_key"].isin(some) & ~rows["ended"]]
    for name, paint, width, alpha in (("before", BEFORE, 0.8, 0.75), ("after", colour, 0.8, 0.6)):
        lines = [run[["update", name]].to_numpy() for _, run in shown.groupby("run_key")]
        ax.add_collection(LineCollection(lines, colors=paint, linewidths=width, alpha=alpha, gid=name), autolim=True)
    if rows["threshold"].notna().any():
        ax.axhline(rows["threshold"].iloc[0], color=sf.INK, lw=1.4, ls=(0, (4, 2)), gid="threshold")
    ax.autoscale_view()


def _limit(ax: Axes, rows: pd.DataFrame) -> None:
    """A y scale for almost all norms of a row and its thresholds; explosions leave it at the top."""
    norms = rows.loc[~rows["ended"], ["before", "after"]].melt()["value"].dropna()
    known = [*norms.quantile([0.002, 0.985]), *rows["threshold"].dropna()] if len(norms) else [0.0]
    low, high = min(known), max(known)
    ax.set_ylim(low - 0.05 * (high - low) - 0.1, high + 0.1 * (high - low) + 0.1)


def _mark_ends(ax: Axes, rows: pd.DataFrame, between: str) -> None:
    """× where runs ended, at their last finite norm or at the top if that is off the scale, and how many did."""
    low, high = ax.get_ylim()
    top = high - 0.04 * (high - low)
    ended = rows[rows["ended"]]
    if len(ended):
        y = ended["before"].fillna(top).clip(low, top)
        ax.plot(ended["update"], y, "x", color=ENDED, ms=8, mew=2.2, ls="", clip_on=False, zorder=5, gid="ended")
    highest = rows["before"].max()
    peak = f"peak {sf.power(highest)}" if np.isfinite(highest) else "no finite norm"
    words = f"{len(ended)} of {rows['run_key'].nunique()} end ×,{between}{peak}" if len(rows) else "no run"
    ax.set_title(words, loc="left", fontsize=9.5, fontweight="normal")


def _legend(data: pd.DataFrame, colours: dict[str, str]) -> list[Line2D]:
    colour = colours[sf.rules(data["clipping"])[-1]]
    dashes: dict[str, Any] = {"color": sf.INK, "ls": (0, (4, 2)), "lw": 1.4}
    cross: dict[str, Any] = {"color": ENDED, "marker": "x", "ms": 8, "mew": 2.2, "ls": ""}
    entries = [
        (True, Line2D([], [], color=BEFORE, lw=2, label="before clipping, one line a run")),
        (True, Line2D([], [], color=colour, lw=2, label="after clipping (colour of the rule)")),
        (data["threshold"].notna().any(), Line2D([], [], label="threshold on the global norm", **dashes)),
        (data["ended"].any(), Line2D([], [], label="run ends: a value is not finite", **cross)),
    ]
    return [handle for there, handle in entries if there]


def main(snakemake: Any) -> None:
    sf.render(snakemake, frame, facts, draw)


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
