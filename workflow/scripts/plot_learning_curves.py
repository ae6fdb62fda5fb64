"""Whether clipping helps: training loss over updates, rule by rule, and every trained run's result on held-out data."""

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
    "No run of this study trains, so there is nothing to learn from.",
    'Add a sweep with updates: 100 or more and clipping: [none, "norm:1.0"].',
)
ENDED = "#b2001d"
MOST_ROWS, MOST_RADII, MOST_RULES, BINS = 4, 3, 6, 34
MANY = 4  # rules; the lines of more are told apart by width as well
WIDTHS = "A rule that never clips coincides with none, so every rule's line is thinner than those beneath it."
METRICS = {"held_out_accuracy": "held-out accuracy", "held_out_loss": "held-out loss"}


def frame(tables: sf.Tables) -> pd.DataFrame:
    """Run × bin of updates: the bin's median training loss, ∞ from the bin at which the run broke down.

    Every row repeats what the run achieved: ``metric`` (accuracy where the task has one, else loss), ``held_out``, its
    value, null for a run that broke down, and ``ended``, the update at which it did.
    """
    runs = sf.trained(tables.runs("held_out_loss", "held_out_accuracy", "first_nonfinite_update"))
    if runs.empty:
        return pd.DataFrame()
    runs = sf.panels(runs, "activation", ("clipping", "spectral_radius", "seed", "updates", "trace_every"), MOST_ROWS)
    kept = sf.rules(runs["clipping"])[:MOST_RULES]
    runs["left_out"] += runs["clipping"].nunique() - len(kept)
    runs = runs[runs["clipping"].isin(kept)].rename(columns={"first_nonfinite_update": "ended"})
    rows = sf.updates_of(tables, runs, ["loss", "accuracy", "finite"])
    classified = set(rows.loc[rows["accuracy"].notna(), "run_key"])
    has_accuracy = runs["run_key"].isin(classified).groupby(runs["panel"], observed=True).transform("any")
    runs["metric"] = np.where(has_accuracy, "held_out_accuracy", "held_out_loss")
    runs["held_out"] = runs["held_out_accuracy"].where(has_accuracy, runs["held_out_loss"])
    settings = [
        "run_key",
        "panel",
        "task",
        "spectral_radius",
        "clipping",
        "seed",
        "metric",
        "held_out",
        "ended",
        "left_out",
        "common",
    ]
    return _binned(rows, runs).merge(runs[settings], on="run_key")


def _binned(rows: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """run_key, update (the bin's first) and loss."""
    width = -(-int(runs["updates"].max()) // BINS)
    loss = rows["loss"].where(rows["finite"] & np.isfinite(rows["loss"]))
    binned = (
        rows.assign(loss=loss, update=rows["update"] // width * width).groupby(["update", "run_key"])["loss"].median()
    )
    wide = binned.unstack()
    ended = runs.dropna(subset=["ended"]).set_index("run_key")["ended"] // width * width
    wide = wide.reindex(columns=[*wide.columns, *ended.index.difference(wide.columns)])
    broken = wide.index.to_numpy()[:, None] >= ended.reindex(wide.columns).to_numpy()[None, :]  # nan: never
    wide = wide.mask(broken, np.inf)
    return wide.melt(ignore_index=False, value_name="loss").reset_index().dropna(subset=["loss"])


def results(data: pd.DataFrame) -> pd.DataFrame:
    """One row a run."""
    return data.drop_duplicates("run_key").drop(columns=["update", "loss"])


def typical(data: pd.DataFrame) -> pd.DataFrame:
    """Median of the held-out metric by task and rule, a run that broke down counting as the worst; best rule first."""
    runs = results(data)
    worst = runs["metric"].map({"held_out_accuracy": 0.0, "held_out_loss": np.inf})
    runs = runs.assign(value=runs["held_out"].fillna(worst), broke=runs["ended"].notna())
    found = runs.groupby(["task", "metric", "clipping"], as_index=False).agg(
        median=("value", "median"), runs=("run_key", "size"), broke=("broke", "sum")
    )
    better = found["median"].where(found["metric"] == "held_out_loss", -found["median"])
    return found.assign(rank=better).sort_values(["metric", "task", "rank", "clipping"], ignore_index=True)


def facts(data: pd.DataFrame) -> sf.Facts:
    if data.empty:
        return NOTHING.facts()
    table = typical(data)
    broke, runs = int(table["broke"].sum()), int(table["runs"].sum())
    sentences = {task: _sentence(str(task), rows) for task, rows in table.groupby("task", sort=False)}
    title = next(iter(sentences.values())).removesuffix(".")
    title += f"; {broke} of {runs} runs broke down." if broke else "; no run broke down."
    if broke == runs:
        title = f"No run came to the end of its training: {runs} of {runs} broke down."
    numbers = {f"{row['task']}_{row['clipping']}": _value(row) for _, row in table.iterrows()}
    numbers |= {"broke": f"{broke} of {runs}"}
    words = [
        f"{row['broke']} of {row['runs']} ({row['clipping']}, {row['task']})"
        for _, row in table.iterrows()
        if row["broke"]
    ]
    claims = {
        "tasks": " ".join(list(sentences.values())[1:]),
        "broke": f"Runs that broke down: {sf.listed(words)}." if words else "No run broke down.",
        "radii": _radii(data),
        "common": sf.common(data),
        "widths": WIDTHS if data["clipping"].nunique() > MANY else "",
        "left_out": sf.left_out(data),
    }
    alt = (
        f"Rows {sf.listed(map(sf.in_lists, data['panel'].cat.categories))}: line charts of training loss against update, one line "
        "per clipping rule, "
        f"by spectral radius; on the right every run's result on held-out data. {title} {claims['broke']}"
    )
    return sf.facts(title, alt, numbers, claims)


def _value(row: pd.Series) -> str:
    if row["metric"] == "held_out_accuracy":
        return sf.percent(row["median"])
    return sf.number(row["median"], 2) if np.isfinite(row["median"]) else "none (most runs broke down)"


def _sentence(task: str, rows: pd.DataFrame) -> str:
    """The best rule of a task against no clipping, or against the worst rule; medians over all runs of the rule."""
    best, last = rows.iloc[0], rows.iloc[-1]
    none = rows[rows["clipping"] == "none"]
    other = none.iloc[0] if len(none) else last
    name = METRICS[best["metric"]]
    rule, instead = ("no clipping" if row["clipping"] == "none" else row["clipping"] for row in (best, other))
    text = f"{task}: median {name} is {_value(best)} with {rule}"
    if other["clipping"] == best["clipping"]:
        return text + (f", the best of {len(rows)} rules." if len(rows) > 1 else ".")
    return f"{text}, {_value(other)} with {instead}."


def _radii(data: pd.DataFrame) -> str:
    shown, every = shown_radii(data), data["spectral_radius"].nunique()
    some = f"Loss curves are shown for ρ = {sf.listed(map(sf.number, shown))} of {every} spectral radii."
    return some if len(shown) < every else ""


def shown_radii(data: pd.DataFrame) -> list[float]:
    """All radii, or the smallest, a middle one and the largest."""
    radii = sorted(data["spectral_radius"].unique())
    return radii if len(radii) <= MOST_RADII else [radii[0], radii[len(radii) // 2], radii[-1]]


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    panels, radii, rules = list(data["panel"].cat.categories), shown_radii(data), sf.rules(data["clipping"])
    colours = sf.rule_colours(rules)
    columns = len(radii) + 1
    figure, axes = sf.grid(len(panels) * columns, columns, 1.75, sharex=False, widths=[1.0] * len(radii) + [1.5])
    for row, panel in enumerate(panels):
        here = data[data["panel"] == panel]
        *left, right = axes[row * columns : (row + 1) * columns]
        limits = _loss_limits(here[here["spectral_radius"].isin(radii)])
        for ax, radius in zip(left, radii, strict=True):
            _curves(ax, here[here["spectral_radius"] == radius], colours, limits)
            ax.tick_params(labelleft=ax is left[0], labelbottom=row == len(panels) - 1)
            if row == 0:
                sf.panel_title(ax, f"ρ = {sf.number(radius)}")
        left[0].set_ylabel(panel.replace(", ", "\n") + "\ntraining loss")
        _results(right, results(here), rules, colours)
        if row == 0:
            sf.panel_title(right, "after training")
    for ax in axes[-columns:-1]:
        ax.set_xlabel("training update")
    axes[-1].set_xlabel(study_tables.label("spectral_radius"))
    figure.legend(handles=_legend(data, colours), loc="outside lower center", ncols=4)
    return figure


def _loss_limits(rows: pd.DataFrame) -> tuple[float, float]:
    """A scale for almost all losses of a row; explosions leave it at the top."""
    losses = rows.loc[np.isfinite(rows["loss"]) & (rows["loss"] > 0), "loss"]
    if losses.empty:
        return 0.1, 10.0
    low, high = losses.min(), losses.quantile(0.96)
    return low / 1.3, max(high, low * 2) * 1.3


def _curves(ax: Axes, rows: pd.DataFrame, colours: dict[str, str], limits: tuple[float, float]) -> None:
    """Median over seeds, lowest to highest behind it; the line ends where half of the seeds have broken down.

    Of many rules some never clip and coincide: each is drawn thinner than the one beneath it, so that all show.
    """
    ax.set(yscale="log", ylim=limits)
    groups = {str(rule): group for rule, group in rows.groupby("clipping")}
    many = len(colours) > MANY
    widths = np.linspace(7.0, 1.2, len(colours)) if many else [1.8] * len(colours)
    for (rule, colour), width in zip(colours.items(), widths, strict=True):
        if rule not in groups:
            continue
        group = groups[rule]
        seeds = group.groupby("update")["loss"]
        middle = seeds.median()
        lowest = seeds.min().replace(np.inf, np.nan)
        ax.fill_between(
            middle.index, lowest, seeds.max().clip(upper=1e300), color=colour, alpha=0.04 if many else 0.15, lw=0
        )
        ax.plot(middle.index, middle.where(np.isfinite(middle)), color=colour, lw=width, gid=f"loss {rule}")
        ended = results(group)["ended"].dropna()
        if len(ended):
            ax.plot(ended, [0.93] * len(ended), transform=ax.get_xaxis_transform(), gid="ended", **_cross(colour))
    sf.plain_log_ticks(ax)


def _cross(colour: str) -> dict[str, Any]:
    return {"marker": "x", "color": colour, "ms": 7, "mew": 2, "ls": "", "clip_on": False, "zorder": 6}


def _results(ax: Axes, runs: pd.DataFrame, rules: list[str], colours: dict[str, str]) -> None:
    """A dot a run, side by side by rule; × and how many, at the bad end, for those that broke down."""
    radii = sorted(runs["spectral_radius"].unique())
    accuracy = runs["metric"].iloc[0] == "held_out_accuracy"
    for place, rule in enumerate(rules):
        x = (place - (len(rules) - 1) / 2) * 0.8 / max(len(rules), 1)
        for index, radius in enumerate(radii):
            here = runs[(runs["clipping"] == rule) & (runs["spectral_radius"] == radius)]
            values = here["held_out"].dropna()
            ax.plot(
                [index + x] * len(values),
                values,
                "o",
                ms=5,
                mfc=colours[rule],
                mec="white",
                mew=0.5,
                gid=f"held out {rule}",
            )
            if broke := int(here["ended"].notna().sum()):
                bad = 0.07 if accuracy else 0.93
                ax.plot([index + x], [bad], transform=ax.get_xaxis_transform(), gid="broke", **_cross(colours[rule]))
                near: dict[str, Any] = {
                    "xytext": (5, 0),
                    "textcoords": "offset points",
                    "va": "center",
                    "fontsize": 9.5,
                }
                count = ax.annotate(f"{broke}", (index + x, bad), xycoords=ax.get_xaxis_transform(), **near)
                count.set(color=colours[rule], fontweight="bold")
    ax.set(xlim=(-0.6, len(radii) - 0.4), ylabel=METRICS[runs["metric"].iloc[0]])
    some = np.unique(np.linspace(0, len(radii) - 1, min(6, len(radii))).round().astype(int))
    ax.set_xticks(some, [sf.number(radii[i]) for i in some])
    if accuracy:
        ax.set_ylim(-0.12, 1.0)
        ax.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    else:
        ax.set_yscale("log")
        low, high = ax.get_ylim()
        ax.set_ylim(low, high * (high / low) ** 0.2)
        sf.plain_log_ticks(ax)


def _legend(data: pd.DataFrame, colours: dict[str, str]) -> list[Any]:
    rules = [Line2D([], [], color=colours[rule], lw=2.4, label=rule) for rule in sf.rules(data["clipping"])]
    ended = (
        [Line2D([], [], label="run broke down (and how many)", **_cross(sf.INK))] if data["ended"].notna().any() else []
    )
    return [
        *rules,
        Patch(color=sf.FAINT, alpha=0.3, label="lowest to highest seed"),
        Line2D([], [], ls="", marker="o", color=sf.FAINT, mec="white", ms=6, label="one run"),
        *ended,
    ]


def main(snakemake: Any) -> None:
    sf.render(snakemake, frame, facts, draw)


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
