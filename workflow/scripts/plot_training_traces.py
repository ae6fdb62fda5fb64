"""The gradient's way back through time before, during and after training: its norm at every step, relative to the last one."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import study_figures as sf
import study_measures as sm
from study_findings import Study
from study_words import few, marked, name_of, plain, power

NOTHING = sf.Nothing(
    "No run of this study trains, so no gradient changes through training.",
    "Add a sweep with updates: 100 or more, and trace_every: 50 to record the gradient at every step during training.",
)
AT_START_ONLY = sf.Nothing(
    "No run of this study recorded its gradient at every step after its training had begun.", NOTHING.add
)
NO_ROOM = "For want of room some settings have no panel; the counts are of all of them, and so are the tables."
WHEN = ("before", "middle", "after")
COLOURS = dict(zip(WHEN, ("#9ecae1", "#4292c6", "#08306b"), strict=True))  # light to dark
WIDTHS = dict(zip(WHEN, (3.2, 2.2, 1.6), strict=True))
DASHES: dict[str, Any] = {"before": (1, 0), "middle": (4, 1.5), "after": (1, 0)}
MOST_LAGS, LONGEST = 200, 140
MOST_PANELS = 16  # small ones: every rule at every setting of a usual study
MOST = 0.8  # of the runs: what so many do is the headline
DOUBLE = math.log10(2.0)  # decades; a smaller change is none


# ---- what is drawn


def frame(tables: sf.Tables) -> pd.DataFrame:
    """Run × when × lag: log10 of ‖∂L/∂h_t‖ relative to the last step's, of the runs that are drawn.

    Every row repeats the ``first`` and ``final`` value of its run at the first step, before and after training. A run that is not drawn,
    or broke down and has no gradient after training, has one row without lag.
    """
    runs = sf.trained_panels(tables.study, lambda part: [], most=MOST_PANELS, every=True)
    if runs.empty:
        return runs
    moments = _moments(tables, runs)
    if not (moments["when"] == "after").any():
        return pd.DataFrame()
    ends = _ends(tables, runs, moments)
    runs = runs.merge(ends, on="run_key", how="left")
    drawn = runs.dropna(subset=["panel", "final"])
    found = drawn.merge(_traces(tables, drawn, moments), on="run_key")
    rest = runs[~runs["run_key"].isin(found["run_key"])]
    return pd.concat([found, rest], ignore_index=True)


def _moments(tables: sf.Tables, runs: pd.DataFrame) -> pd.DataFrame:
    """run_key, update, when: the first recorded update, the one nearest to the middle, and the last if training came to its end."""
    keys = runs["run_key"].unique().tolist()
    parts = [
        rows.drop_duplicates()
        for rows in tables.pieces(
            "traces", ["run_key", "update"], ds.field("run_key").isin(keys) & (ds.field("lag") == 0)
        )
    ]
    recorded = (
        pd.concat(parts, ignore_index=True).drop_duplicates() if parts else pd.DataFrame(columns=["run_key", "update"])
    )
    broken = set(runs.loc[runs["broken"], "run_key"])
    found = []
    for key, rows in recorded.groupby("run_key"):
        updates = sorted(rows["update"])
        if len(updates) < 2 or key in broken:
            continue
        between = updates[1:-1]
        half = updates[-1] / 2
        middle = between[int(np.abs(np.array(between) - half).argmin())] if between else None
        found += [(key, updates[0], "before"), (key, updates[-1], "after")]
        found += [(key, middle, "middle")] if middle is not None else []
    return pd.DataFrame(found, columns=["run_key", "update", "when"])


def _ends(tables: sf.Tables, runs: pd.DataFrame, moments: pd.DataFrame) -> pd.DataFrame:
    """By run: the gradient at the first step relative to the last step's, before training (first) and after it (final)."""
    two = moments[moments["when"] != "middle"]
    wanted = (
        ds.field("run_key").isin(two["run_key"].unique().tolist())
        & ds.field("update").isin(two["update"].unique().tolist())
        & ((ds.field("t") == 1) | (ds.field("lag") == 0))
    )
    rows = pd.concat(list(tables.pieces("traces", ["run_key", "update", "t", "lag", "log10_grad_norm"], wanted)))
    rows = rows.drop_duplicates(["run_key", "update", "t"]).merge(two, on=["run_key", "update"])
    first = rows[rows["t"] == 1].set_index(["run_key", "when"])["log10_grad_norm"]
    last = rows[rows["lag"] == 0].set_index(["run_key", "when"])["log10_grad_norm"]
    wide = _relative(first, last.reindex(first.index)).unstack()
    updates = two[two["when"] == "after"].set_index("run_key")["update"].rename("last_update")
    return wide.rename(columns={"before": "first", "after": "final"}).join(updates).reset_index()


def _relative(norm: pd.Series, last: pd.Series) -> pd.Series:
    """Decades; −∞ where a gradient is exactly zero, no number where the last step's is."""
    return (norm - last.where(np.isfinite(last))).where(np.isfinite(last))


def _traces(tables: sf.Tables, drawn: pd.DataFrame, moments: pd.DataFrame) -> pd.DataFrame:
    """run_key, when, update, lag, relative; of long sequences some lags evenly spread."""
    moments = moments[moments["run_key"].isin(drawn["run_key"])]
    lags = {
        int(lag)
        for T in drawn["sequence_length"].unique()
        for lag in np.unique(np.linspace(0, T - 1, min(T, MOST_LAGS)).round().astype(int))
    }
    wanted = (
        ds.field("run_key").isin(moments["run_key"].unique().tolist())
        & ds.field("update").isin(moments["update"].unique().tolist())
        & ds.field("lag").isin(sorted(lags))
    )
    rows = pd.concat(list(tables.pieces("traces", ["run_key", "update", "lag", "log10_grad_norm"], wanted)))
    rows = rows.drop_duplicates(["run_key", "update", "lag"]).merge(moments, on=["run_key", "update"])
    last = rows[rows["lag"] == 0].set_index(["run_key", "when"])["log10_grad_norm"]
    index = pd.MultiIndex.from_frame(rows[["run_key", "when"]])
    relative = _relative(rows["log10_grad_norm"].reset_index(drop=True), last.reindex(index).reset_index(drop=True))
    return (
        rows.assign(relative=relative.to_numpy()).drop(columns="log10_grad_norm").rename(columns={"update": "moment"})
    )


def curves(data: pd.DataFrame) -> pd.DataFrame:
    """Panel × when × lag: median over the runs, lowest and highest; −∞ where the median gradient is exactly zero."""
    rows = data.dropna(subset=["lag", "relative"])
    found = rows.groupby(["panel", "when", "lag"], observed=True)["relative"].agg(["median", "min", "max"])
    return found.reset_index().rename(columns={"median": "middle", "min": "low", "max": "high"})


# ---- what is said


def facts(data: pd.DataFrame, study: Study) -> sf.Facts:
    if data.empty:
        return (AT_START_ONLY if (study.runs["updates"] > 0).any() else NOTHING).facts()
    parts = [part for part in study.parts if part.trains]
    runs = data.drop_duplicates("run_key")
    ends = runs.set_index("run_key")[["first", "final"]]
    text = title(runs)
    panels = list(data["panel"].cat.categories)
    alt = (
        f"Line charts of the decimal logarithm of the gradient's norm at every step, relative to the last step's, against steps back; "
        f"one line before training, one halfway, one at the last update; panels: {few(map(str, panels), 12)}. {plain(text)}"
    )
    broken, zero = int(runs["broken"].sum()), int((runs["final"] == -math.inf).sum())
    drawn = set(runs.loc[runs["panel"].notna(), "run_key"])
    claims = [
        _largest(parts, ends[ends.index.isin(drawn)]),
        _lost(runs, broken),
        _zero(zero),
        NO_ROOM if data["left_out"].iloc[0] else "",
    ]
    shown = [
        *(["middle"] if (data["when"] == "middle").any() else []),
        *(["broken"] if broken else []),
        *(["zero"] if (data["relative"] == -math.inf).any() else []),
        *(["every"] if (runs["task_loss_at"] == "every").any() else []),
        *(["band"] if data["seed"].nunique() > 1 else []),
    ]
    return sf.facts(text, alt, claims, shown)


def changes(runs: pd.DataFrame) -> pd.Series:
    """Decades that training adds to the gradient at the first step, relative to the last step's; of −∞ on both sides none."""
    known = runs.dropna(subset=["first", "final"])
    with np.errstate(invalid="ignore"):
        change = known["final"] - known["first"]
    return change.where(known["first"] != known["final"], 0.0)


def title(runs: pd.DataFrame) -> str:
    """In how many runs the gradient at the first step grew, shrank, or did neither, relative to that at the last step."""
    change = changes(runs)
    counts = {"raises": int((change > DOUBLE).sum()), "lowers": int((change < -DOUBLE).sum())}
    counts["hardly changes"] = len(change) - sum(counts.values())
    if not len(change):
        return "No run has a gradient after training whose first and last step can be compared."
    if len(change) == 1:
        row = runs.dropna(subset=["first", "final"]).iloc[0]
        ends = [marked(power(row[name]), f"first_step_{name}", row[name]) for name in ("first", "final")]
        return f"Training takes the gradient at the first step from {ends[0]} to {ends[1]} times that at the last step."
    kinds = dict(zip(counts, ("first_step_raised", "first_step_lowered", "first_step_kept"), strict=True))
    first, second, _ = sorted(counts, key=lambda name: -counts[name])
    written = {name: marked(str(count), kinds[name], count) for name, count in counts.items()}
    total = marked(str(len(change)), "runs_traced_to_end", len(change))
    share = f"all {written[first]}" if counts[first] == len(change) else f"{written[first]} of {total}"
    text = f"Training {first} the share of the gradient that reaches the first step in {share} runs"
    if counts[first] < MOST * len(change):
        return f"{text} and {second} it in {written[second]}."
    middle = float(change.median())
    if first == "hardly changes" or math.isinf(middle):
        return f"{text}."
    return f"{text}: by a factor of {marked(power(abs(middle)), 'first_step_change', middle)} in the median."


def _largest(parts: list[sm.Part], ends: pd.DataFrame) -> str:
    """The kind of network whose gradient at the first step changes most, from what to what."""
    found = []
    for part in parts:
        for chosen, own in sm.grouped(part.runs, part.axes):
            runs = own.merge(ends, left_on="run_key", right_index=True).dropna(subset=["first", "final"])
            if len(runs):
                first, final = float(runs["first"].median()), float(runs["final"].median())
                size = abs(final - first) if math.isfinite(first) and math.isfinite(final) else 0.0
                found.append((size, part, chosen, first, final))
    if len(found) < 2:
        return ""
    _, part, chosen, first, final = max(found, key=lambda each: each[0])
    where = {"sweep": part.sweep, "task": str(part.runs["task"].iloc[0]), **chosen}
    ends_in_words = [
        marked(power(value), f"first_step_{name}", value, **where)
        for name, value in (("first", first), ("final", final))
    ]
    if plain(ends_in_words[0]) == plain(ends_in_words[1]):
        return ""
    task = sf.part_name(part, parts)
    name = ": ".join(filter(None, (task, name_of(chosen) if chosen else "")))
    return f"It changes most for {name}: from {ends_in_words[0]} to {ends_in_words[1]} times the last step's, in the median."


def _lost(runs: pd.DataFrame, broken: int) -> str:
    if not broken:
        return ""
    return f"Not in it are {marked(str(broken), 'runs_broken', broken)} of {marked(str(len(runs)), 'runs_trained', len(runs))} runs, which broke down before the end."


def _zero(zero: int) -> str:
    if not zero:
        return ""
    return f"In {marked(str(zero), 'first_step_zero_after', zero)} {'run' if zero == 1 else 'runs'} the gradient at the first step is exactly zero after training."


# ---- how it is drawn


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    shown = data.dropna(subset=["panel"])
    counts = [rows["panel"].nunique() for _, rows in shown.groupby("part", sort=True)]
    many = max(counts) > 9 or max(counts) == 4
    figure, axes = sf.grid_by_part(
        counts, sf.columns(4 if many else 3, 2 if sum(counts) > 9 else 1), 2.0 if many else 2.2, 1.1
    )
    found = curves(shown)
    scale = limits(found)
    for ax, panel in zip(axes, shown["panel"].cat.categories, strict=True):
        rows = shown[shown["panel"] == panel]
        ax.set_ylim(*scale)
        ax.set_xlim(0, max(1, int(rows["sequence_length"].max()) - 1))
        ax.axhline(0.0, color="#bbbbbb", lw=0.8, zorder=0.5)
        _panel(ax, found[found["panel"] == panel])
        sf.panel_title(ax, panel, 24 if len(axes) > 3 else 32)
        _words(ax, rows)
    _finish(figure, axes, shown)
    return figure


def limits(found: pd.DataFrame) -> tuple[float, float]:
    """One scale for all panels, that every median and the last step's 0 are on."""
    known = found["middle"][np.isfinite(found["middle"])]
    low, high = min(0.0, *known), max(0.0, *known)
    room = 0.06 * (high - low) + 0.1
    return low - room, high + room


def _panel(ax: Axes, own: pd.DataFrame) -> None:
    """A line for each moment, light to dark, thick to thin, so that lines that coincide are all seen; ▼ where it is exactly zero."""
    low, high = ax.get_ylim()
    for when in WHEN:
        rows = own[own["when"] == when].sort_values("lag")
        known = rows[np.isfinite(rows["middle"])]
        if known.empty:
            continue
        before = len(ax.lines)
        sns.lineplot(
            known, x="lag", y="middle", estimator=None, legend=False, ax=ax, color=COLOURS[when], lw=WIDTHS[when],
            ls=(0, DASHES[when]) if when == "middle" else "-", zorder=2 + WHEN.index(when),
        )  # fmt: skip
        ax.lines[before].set_gid(when)
        bounds = known[(known["low"] < known["high"])]
        if len(bounds) and when != "middle":  # a third band would hide the other two
            ax.fill_between(
                known["lag"], known["low"].clip(low, high), known["high"].clip(low, high), color=COLOURS[when], alpha=0.18, lw=0,
                zorder=1, gid=f"band {when}",
            )  # fmt: skip
        if len(known) < len(rows):
            end = known.iloc[-1]
            ax.plot(
                [end["lag"]], [end["middle"]], marker="v", ms=8, color=COLOURS[when], mec="white", ls="", zorder=6, clip_on=False,
                gid="zero",
            )  # fmt: skip
    ax.set(xlabel="", ylabel="")


def _words(ax: Axes, rows: pd.DataFrame) -> None:
    """How many runs of a panel broke down, or have no gradient left at the first step."""
    runs = rows.drop_duplicates("run_key")
    broken, zero = int(runs["broken"].sum()), int((runs["final"] == -math.inf).sum())
    words = [f"{broken} of {len(runs)} broke down"] if broken else []
    words += [f"{zero} of {len(runs)} exactly zero at the end"] if zero else []
    if words:
        sf.under_title(ax, "; ".join(words))


def _finish(figure: Figure, axes: list[Axes], data: pd.DataFrame) -> None:
    for ax, (first, _, lowest) in zip(axes, sf.edges(axes, data), strict=True):
        ax.tick_params(labelleft=first)
        ax.set_xlabel("steps back, T − t" if lowest else "")
    total = "total gradient, " if (data["task_loss_at"] == "every").any() else ""
    words = r"$\log_{10}(\|\partial L/\partial h_t\|\,/\,\|\partial L/\partial h_T\|)$"
    if sf.on_phone():  # one label for all would be off the screen
        for ax in axes:
            ax.set_ylabel(f"{total.replace(', ', chr(10))}{words}", fontsize=9)
    else:
        figure.supylabel(f"{total}{words}", fontsize=10.5)
    figure.legend(handles=_legend(data), loc="outside lower center", ncols=1 if sf.on_phone() else 5)


def _legend(data: pd.DataFrame) -> list[Any]:
    handles: list[Any] = []
    for when in WHEN:
        moments = sorted(data.loc[data["when"] == when, "moment"].dropna().astype(int).unique())
        if moments:
            words = {"middle": "halfway", "after": "at the last update"}.get(when, "")
            words += f" ({moments[0]})" if len(moments) == 1 else ""
            handles.append(Line2D(
                [], [], color=COLOURS[when], lw=WIDTHS[when], ls=(0, DASHES[when]) if when == "middle" else "-",
                label="before training" if when == "before" else words,
            ))  # fmt: skip
    if data["seed"].nunique() > 1:
        handles.append(Patch(color=COLOURS["middle"], alpha=0.3, lw=0, label="lowest to highest seed"))
    if (curves(data)["middle"] == -math.inf).any():
        handles.append(
            Line2D(
                [], [], marker="v", color=COLOURS["middle"], mec="white", ms=8, ls="", label="exactly zero from here on"
            )
        )
    return handles


def main(snakemake: Any) -> None:
    sf.render(snakemake, frame, facts, draw)


if __name__ == "__main__":
    main(snakemake)  # type: ignore[name-defined]  # noqa: F821
