"""The gradient's way back through time before, during and after training: its norm at every step, relative to the last one."""

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from study.report import drawing, facets, layout, measures, reader
from study.report.findings import Study
from study.report.phrases import count_of
from study.report.words import (
    capital,
    few,
    listed,
    marked,
    marked_count,
    name_of,
    named,
    ordered,
    plain,
    power,
    value_of,
)

NOTHING = drawing.Nothing(
    "No run of this study trains, so no gradient changes through training.",
    "Add a sweep with updates: 100 or more, and trace_every: 50 to record the gradient at every step during training.",
)
AT_START_ONLY = drawing.Nothing(
    "No run of this study recorded its gradient at every step after its training had begun.", NOTHING.add
)
NO_ROOM = "For want of room some settings have no panel; the counts are of all of them, and so are the tables."
WHEN = ("before", "middle", "after")
COLOURS = dict(zip(WHEN, ("#7cb9de", "#3383bd", "#08306b"), strict=True))  # light to dark
WIDTHS = dict(zip(WHEN, (3.2, 2.2, 1.6), strict=True))
DASHES: dict[str, Any] = {"before": (1, 0), "middle": (4, 1.5), "after": (1, 0)}
MOST_LAGS, LONGEST = 200, 140
MOST_PANELS = 16  # small ones: every rule at every setting of a usual study
MOST = 0.8  # of the runs: what so many do is the headline
DOUBLE = math.log10(2.0)  # decades; a smaller change is none
APART, MOST_VALUES = 0.3, 4  # shares of runs that differ so much are told by value, of so few values
UNLIKE, FLAT = 5.0, 0.5  # scales that differ by this factor are not shared; decades that count as no range
BANDS = {"before": 0.4, "after": 0.2}  # opacity; a third band would hide the other two


# ---- what is drawn


@dataclass(frozen=True)
class Cell:
    """The runs of one panel: a part of the study, a setting of its other axes, and a value of the axis that it asks about."""

    part: int
    setting: int
    value: int
    chosen: Mapping[str, Any]
    runs: pd.DataFrame
    asked: str

    @property
    def place(self) -> tuple[int, int, int]:
        return self.part, self.setting, self.value

    @property
    def ends(self) -> tuple[float, float]:
        """The median gradient at the first step, before and after training."""
        known = self.runs.dropna(subset=["first", "final"])
        return float(known["first"].median()), float(known["final"].median())

    @property
    def change(self) -> float:
        first, final = self.ends
        return abs(final - first) if math.isfinite(first) and math.isfinite(final) else 0.0

    @property
    def beside(self) -> str:
        """The settings besides the value that is asked about: ρ = 0.5, learning rate = 0.1."""
        others = {axis: value for axis, value in self.chosen.items() if axis != self.asked}
        known = [named(axis, value) for axis, value in others.items() if not pd.isna(value)]
        return ", ".join(known or [named(axis, None) for axis in others])


def frame(tables: reader.Tables) -> pd.DataFrame:
    """Run × when × lag: log10 of ‖∂L/∂h_t‖ relative to the last step's, of the runs that are drawn.

    Every row repeats the ``first`` and ``final`` value of its run at the first step, before and after training. A run that is not drawn,
    or broke down and has no gradient after training, has one row without lag. ``beside`` are the settings that panels side by side
    share, ``group`` their number.
    """
    runs = facets.trained_panels(tables.study, lambda part: part.axes, most=10**6, every=True)
    if runs.empty:
        return runs
    moments = _moments(tables, runs)
    if not (moments["when"] == "after").any():
        return pd.DataFrame()
    ends = _ends(tables, runs, moments)
    runs = _placed(_parts(tables.study), runs.merge(ends, on="run_key", how="left"))
    drawn = runs.dropna(subset=["panel", "final"])
    with_lags = drawn.merge(_traces(tables, drawn, moments), on="run_key")
    without_lags = runs[~runs["run_key"].isin(with_lags["run_key"])]
    return pd.concat([with_lags, without_lags], ignore_index=True)


def _parts(study: Study) -> list[measures.Part]:
    return [part for part in study.parts if part.trains]


def cells(trained_parts: Sequence[measures.Part], ends: pd.DataFrame) -> list[Cell]:
    """All panels that there could be, in order; ``ends``: first and final by run."""
    all_cells = []
    for i, part in enumerate(trained_parts):
        runs = part.runs.merge(ends, left_on="run_key", right_index=True)
        for j, (chosen, setting_runs) in enumerate(measures.grouped(runs, part.rows)):
            for k, value in enumerate(part.columns):
                asked = {part.column: value} if part.column else {}
                if len(rows := measures.where(setting_runs, **asked)):
                    all_cells.append(Cell(i, j, k, {**asked, **chosen}, rows, part.column or ""))
    return all_cells


def _ends_of(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.drop_duplicates("run_key").set_index("run_key")[["first", "final"]]


def _placed(trained_parts: Sequence[measures.Part], runs: pd.DataFrame) -> pd.DataFrame:
    """With ``panel``, ``beside`` and ``group`` of what is drawn, and ``left_out``: whether something is not."""
    all_cells = cells(trained_parts, _ends_of(runs))
    drawn = _kept(all_cells)
    runs = runs.drop(columns=["panel", "left_out"]).assign(panel=None, prefix="", beside="", group=-1)
    names, groups = [], list(dict.fromkeys((cell.part, cell.setting) for cell in drawn))
    for cell in drawn:
        in_cell = (runs["part"] == cell.part) & runs["run_key"].isin(cell.runs["run_key"])
        prefix, hue = facets.part_name(trained_parts[cell.part], trained_parts), str(runs.loc[in_cell, "hue"].iloc[0])
        name = ", ".join(filter(None, (cell.beside, hue)))
        names.append(": ".join(filter(None, (prefix, name))) or str(runs.loc[in_cell, "task"].iloc[0]))
        runs.loc[in_cell, ["panel", "prefix", "beside"]] = names[-1], prefix, cell.beside
        runs.loc[in_cell, "group"] = groups.index((cell.part, cell.setting))
    runs["panel"] = pd.Categorical(runs["panel"], categories=names, ordered=True)
    return runs.assign(left_out=len(drawn) < len(all_cells))


def _kept(known: list[Cell]) -> list[Cell]:
    """All panels, or as many as there is room for: whole rows of what is asked about, and that which changes most."""
    if len(known) <= MOST_PANELS:
        return known
    most = max(known, key=lambda cell: cell.change)
    kept: set[tuple[int, int, int]] = set()
    kept_parts = _spread(sorted({cell.part for cell in known}), MOST_PANELS, most.part)
    for part in kept_parts:
        part_cells, has_most = [cell for cell in known if cell.part == part], most.part == part
        most_each = MOST_PANELS // len(kept_parts)
        values = _spread(sorted({cell.value for cell in part_cells}), most_each, most.value if has_most else None)
        settings = _spread(
            sorted({cell.setting for cell in part_cells}), most_each // len(values), most.setting if has_most else None
        )
        kept |= set(itertools.product([part], settings, values))
    return [cell for cell in known if cell.place in kept]


def _spread(places: list[int], most: int, wanted: int | None) -> list[int]:
    """At most so many, evenly spread, the wanted one instead of its neighbour."""
    chosen = facets.spread(places, most)
    if wanted is not None and wanted not in chosen:
        chosen[min(range(len(chosen)), key=lambda i: abs(chosen[i] - wanted))] = wanted
    return chosen


def _moments(tables: reader.Tables, runs: pd.DataFrame) -> pd.DataFrame:
    """run_key, update, when: the first recorded update, the one nearest to the middle, and the last if training came to its end."""
    keys = runs["run_key"].unique().tolist()
    pieces = [
        rows.drop_duplicates()
        for rows in tables.pieces(
            "traces", ["run_key", "update"], ds.field("run_key").isin(keys) & (ds.field("lag") == 0)
        )
    ]
    recorded = (
        pd.concat(pieces, ignore_index=True).drop_duplicates()
        if pieces
        else pd.DataFrame(columns=["run_key", "update"])
    )
    broken = set(runs.loc[runs["broken"], "run_key"])
    moments = []
    for key, rows in recorded.groupby("run_key"):
        updates = sorted(rows["update"])
        if len(updates) < 2 or key in broken:
            continue
        between = updates[1:-1]
        half = updates[-1] / 2
        middle = between[int(np.abs(np.array(between) - half).argmin())] if between else None
        moments += [(key, updates[0], "before"), (key, updates[-1], "after")]
        moments += [(key, middle, "middle")] if middle is not None else []
    return pd.DataFrame(moments, columns=["run_key", "update", "when"])


def _ends(tables: reader.Tables, runs: pd.DataFrame, moments: pd.DataFrame) -> pd.DataFrame:
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


def _traces(tables: reader.Tables, drawn: pd.DataFrame, moments: pd.DataFrame) -> pd.DataFrame:
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
    summary = rows.groupby(["panel", "when", "lag"], observed=True)["relative"].agg(["median", "min", "max"])
    return summary.reset_index().rename(columns={"median": "middle", "min": "low", "max": "high"})


# ---- what is said


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return (AT_START_ONLY if (study.runs["updates"] > 0).any() else NOTHING).facts()
    trained_parts = _parts(study)
    runs = data.drop_duplicates("run_key")
    axis = split_axis(trained_parts, runs)
    text = title(runs, axis)
    panels = list(data["panel"].cat.categories)
    alt = (
        f"Line charts of the decimal logarithm of the gradient's norm at every step, relative to the last step's, against steps back; "
        f"one line before training, one {_between(data)}, one at the last update; panels: {few(map(str, panels), 12)}. {plain(text)}"
    )
    broken, zero = int(runs["broken"].sum()), int((runs["final"] == -math.inf).sum())
    claims = [
        *(
            _by_value(runs, each)
            for each in dict.fromkeys(part.column for part in trained_parts)
            if each and each != axis
        ),
        _largest(trained_parts, _ends_of(data)),
        _lost(runs, broken),
        _zero(zero),
        NO_ROOM if data["left_out"].iloc[0] else "",
    ]
    drawn = data.dropna(subset=["panel"])
    scale = scales(drawn)
    shown = [
        *(["middle"] if (data["when"] == "middle").any() else []),
        *(["broken"] if broken else []),
        *(["zero"] if (data["relative"] == -math.inf).any() else []),
        *(["every"] if (runs["task_loss_at"] == "every").any() else []),
        *(["band"] if data["seed"].nunique() > 1 else []),
        *(["scales"] if len(set(scale.values())) > 1 else []),
        *(["cut"] if _cut(drawn, scale) else []),
    ]
    return drawing.facts(text, alt, claims, shown)


def changes(runs: pd.DataFrame) -> pd.Series:
    """Decades that training adds to the gradient at the first step, relative to the last step's; of −∞ on both sides none."""
    known = runs.dropna(subset=["first", "final"])
    with np.errstate(invalid="ignore"):
        change = known["final"] - known["first"]
    return change.where(known["first"] != known["final"], 0.0)


KINDS = {"raises": "first_step_raised", "lowers": "first_step_lowered", "hardly changes": "first_step_kept"}


def counted(change: pd.Series) -> dict[str, int]:
    """In how many runs the gradient at the first step grew, shrank, or did neither, relative to that at the last step."""
    counts = {"raises": int((change > DOUBLE).sum()), "lowers": int((change < -DOUBLE).sum())}
    return counts | {"hardly changes": len(change) - sum(counts.values())}


def title(runs: pd.DataFrame, axis: str | None = None) -> str:
    """What training does to the gradient at the first step in most runs; else in how many, by the values of an axis if that decides."""
    change = changes(runs)
    counts = counted(change)
    if not len(change):
        return "No run has a gradient after training whose first and last step can be compared."
    if len(change) == 1:
        row = runs.dropna(subset=["first", "final"]).iloc[0]
        ends = [marked(power(row[name]), f"first_step_{name}", row[name]) for name in ("first", "final")]
        return f"Training takes the gradient at the first step from {ends[0]} to {ends[1]} times that at the last step."
    first, *others = sorted(counts, key=lambda name: -counts[name])
    written = {name: marked_count(count, KINDS[name]) for name, count in counts.items()}
    total = marked_count(len(change), "runs_traced_to_end")
    share = f"all {written[first]}" if counts[first] == len(change) else f"{written[first]} of {total}"
    text = f"Training {first} the share of the gradient that reaches the first step in {share} runs"
    if counts[first] < MOST * len(change):
        by_value = _split_title(runs, first, axis) if axis else ""
        rest = [f"{name} it in {written[name]}" for name in others if counts[name]]
        return by_value or f"{listed([text, *rest])}."
    middle = float(change.median())
    if first == "hardly changes" or math.isinf(middle):
        return f"{text}."
    return f"{text}: by a factor of {marked(power(abs(middle)), 'first_step_change', middle)} in the median."


def split_axis(trained_parts: Sequence[measures.Part], runs: pd.DataFrame) -> str | None:
    """The axis along which the runs differ most in what training does to them; none where the same is done to most, or it decides little."""
    counts = counted(changes(runs))
    first = max(counts, key=lambda name: counts[name])
    if counts[first] >= MOST * max(1, sum(counts.values())):
        return None
    differences = {}
    for axis in dict.fromkeys(axis for part in trained_parts for axis in part.axes):
        shares = [counts_of_value[first] / total for _, counts_of_value, total in _counts(runs, axis) if total]
        if 1 < len(shares) <= MOST_VALUES:
            differences[axis] = max(shares) - min(shares)
    best = max(differences, key=lambda axis: differences[axis], default=None)
    return best if best and differences[best] >= APART else None


def _counts(runs: pd.DataFrame, axis: str) -> list[tuple[Any, dict[str, int], int]]:
    """By value of an axis, how many runs grew, shrank, or did neither, and of how many."""
    known = runs.dropna(subset=["first", "final"])
    counts = []
    for value in ordered(axis, known[axis]):
        change = changes(measures.where(known, **{axis: value}))
        counts.append((value, counted(change), len(change)))
    return counts


def _split_title(runs: pd.DataFrame, verb: str, axis: str) -> str:
    """32 of 40 runs with ρ = 0.5, 1 of 50 with ρ = 1.6; empty where that is too long."""
    whats = ("the share of the gradient that reaches the first step", "the gradient's share at the first step")
    for what, short in itertools.product(whats, (False, True)):
        words = []
        for i, (value, counts, total) in enumerate(_counts(runs, axis)):
            name = value_of(axis, value) if short and i else named(axis, value)
            run = " runs" if not i else ""
            words.append(f"{_of_total(verb, counts, total, axis, value)}{run} with {name}")
        text = f"Training {verb} {what} in {listed(words)}."
        if len(plain(text)) <= LONGEST:
            return text
    return ""


def _of_total(verb: str, counts: Mapping[str, int], total: int, axis: str, value: Any) -> str:
    """32 of 40."""
    count = count_of(counts[verb], KINDS[verb], **{axis: value})
    return f"{count} of {marked_count(total, 'runs_traced_to_end', **{axis: value})}"


def _by_value(runs: pd.DataFrame, axis: str) -> str:
    """How many runs grew and shrank, for every value of the axis that is asked about, where they differ."""
    known = _counts(runs, axis)
    shares = {tuple(count / total for count in counts.values()) for _, counts, total in known if total}
    if len(shares) < 2 or len(known) > MOST_VALUES:
        return ""
    words = []
    for i, (value, counts, total) in enumerate(known):
        raised = _of_total("raises", counts, total, axis, value)
        lowered = count_of(counts["lowers"], KINDS["lowers"], **{axis: value})
        start, runs_ = (", training raises this share", " runs") if not i else (" it raises it", "")
        words.append(f"with {named(axis, value)}{start} in {raised}{runs_} and lowers it in {lowered}")
    return capital("; ".join(words)) + "."


def _largest(trained_parts: Sequence[measures.Part], ends: pd.DataFrame) -> str:
    """The kind of network whose gradient at the first step changes most, from what to what; it has a panel."""
    all_cells = cells(trained_parts, ends)
    largest = max(all_cells, key=lambda cell: cell.change)
    if len(all_cells) < 2 or largest.change < DOUBLE:
        return ""
    part = trained_parts[largest.part]
    where = {"sweep": part.sweep, "task": str(part.runs["task"].iloc[0]), **largest.chosen}
    first, final = (
        marked(power(value), f"first_step_{name}", value, **where)
        for name, value in zip(("first", "final"), largest.ends, strict=True)
    )
    name = ": ".join(
        filter(None, (facets.part_name(part, trained_parts), name_of(largest.chosen) if largest.chosen else ""))
    )
    return f"It changes most for {name}: from {first} to {final} times the last step's, in the median."


def _lost(runs: pd.DataFrame, broken: int) -> str:
    if not broken:
        return ""
    return f"Not in it are {marked_count(broken, 'runs_broken')} of {marked_count(len(runs), 'runs_trained')} runs, which broke down before the end."


def _zero(zero: int) -> str:
    if not zero:
        return ""
    return f"In {marked_count(zero, 'first_step_zero_after')} {'run' if zero == 1 else 'runs'} the gradient at the first step is exactly zero after training."


# ---- how it is drawn


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    shown = data.dropna(subset=["panel"])
    figure, axes, columns = _axes(shown)
    medians, scale = curves(shown), scales(shown)
    places = shown.drop_duplicates("panel").set_index("panel")
    for ax, panel in zip(axes, shown["panel"].cat.categories, strict=True):
        rows = shown[shown["panel"] == panel]
        ax.set_ylim(*scale[int(places["group"][panel])])
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.set_xlim(0, max(1, int(rows["sequence_length"].max()) - 1))
        ax.axhline(0.0, color="#bbbbbb", lw=0.8, zorder=0.5)
        _panel(ax, medians[medians["panel"] == panel])
    _names(axes, shown, columns)
    _finish(figure, axes, shown)
    return figure


def _axes(shown: pd.DataFrame) -> tuple[Figure, list[Axes], int]:
    """Axes, and how many columns they have: what is compared stands side by side; two pairs in a row."""
    panels = shown.drop_duplicates("panel")
    sizes = panels.groupby("group").size()
    pairs = set(sizes) <= {1, 2} and panels.groupby("part")["group"].agg(lambda own: sizes[own].nunique() == 1).all()
    counts = (panels.groupby("part").size() if pairs else sizes).tolist()
    most = int(sizes.max())
    across = 4 if most in (2, 4) or most > 6 else 3
    columns = layout.columns(across, 2 if len(panels) > 9 else 1)
    figure, axes = layout.grid_by_part(counts, columns, 1.75 if columns == 2 else 2.0 if across == 4 else 2.2, 1.1)
    return figure, axes, min(columns, max(counts))


def scales(shown: pd.DataFrame) -> dict[int, tuple[float, float]]:
    """By group, the scale of its panels: one for all, unless the groups' ranges differ so much that some would be flat lines."""
    medians = curves(shown).merge(shown[["panel", "group"]].drop_duplicates(), on="panel")
    reach = {int(group): _reach(medians[medians["group"] == group]) for group in shown["group"].unique()}
    sizes = [max(high - low, FLAT) for low, high in reach.values()]
    if max(sizes) < UNLIKE * min(sizes):
        whole = min(low for low, _ in reach.values()), max(high for _, high in reach.values())
        reach = dict.fromkeys(reach, whole)
    return {group: _with_room(*each) for group, each in reach.items()}


def _reach(medians: pd.DataFrame) -> tuple[float, float]:
    """Every median, the last step's 0, and of bands as much as leaves the medians two thirds of the panel."""
    known = medians["middle"][np.isfinite(medians["middle"])]
    low, high = min(0.0, *known), max(0.0, *known)
    beyond = 0.25 * max(high - low, FLAT)
    bounds = medians[["low", "high"]].to_numpy()
    bounds = bounds[np.isfinite(bounds)]
    if not len(bounds):
        return low, high
    return min(low, max(float(bounds.min()), low - beyond)), max(high, min(float(bounds.max()), high + beyond))


def _with_room(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) + 0.1
    return low - margin, high + margin


def _cut(shown: pd.DataFrame, scale: Mapping[int, tuple[float, float]]) -> bool:
    """Whether a band leaves its panel."""
    medians = curves(shown).merge(shown[["panel", "group"]].drop_duplicates(), on="panel")
    medians = medians[medians["when"].isin(list(BANDS))]
    low, high = (medians["group"].map({group: ends[i] for group, ends in scale.items()}) for i in (0, 1))
    return bool(((medians["low"] < low) | (medians["high"] > high)).any())


def _panel(ax: Axes, panel_curves: pd.DataFrame) -> None:
    """A line for each moment, light to dark, thick to thin, so that lines that coincide are all seen; ▼ where it is exactly zero."""
    low, high = ax.get_ylim()
    for when in WHEN:
        rows = panel_curves[panel_curves["when"] == when].sort_values("lag")
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
        if len(bounds) and when in BANDS:
            ax.fill_between(
                known["lag"], known["low"].clip(low, high), known["high"].clip(low, high), color=COLOURS[when], alpha=BANDS[when], lw=0,
                zorder=1, gid=f"band {when}",
            )  # fmt: skip
        if len(known) < len(rows):
            end = known.iloc[-1]
            ax.plot(
                [end["lag"]], [end["middle"]], marker="v", ms=8, color=COLOURS[when], mec="white", ls="", zorder=6, clip_on=False,
                gid="zero",
            )  # fmt: skip
    ax.set(xlabel="", ylabel="")


def _names(axes: list[Axes], shown: pd.DataFrame, columns: int) -> None:
    """Above the first panel of a group what it shares; above each panel what is asked about, and what there is to count."""
    letters = int(9.5 * layout.width() / columns)
    named_groups: set[int] = set()
    named_parts: set[int] = set()
    for ax, panel in zip(axes, shown["panel"].cat.categories, strict=True):
        rows = shown[shown["panel"] == panel]
        runs = rows.drop_duplicates("run_key")
        part, prefix, group, beside, hue = runs[["part", "prefix", "group", "beside", "hue"]].iloc[0]
        heading = ": ".join(filter(None, ("" if part in named_parts else prefix, beside or hue))) or str(panel)
        heading = heading.replace("learning rate", "learning\u00a0rate")  # wrapped before, not within
        size = shown.loc[shown["group"] == group, "panel"].nunique() if beside else 1
        with matplotlib.rc_context({"axes.titlesize": 10}):
            layout.panel_title(
                ax, "" if beside and group in named_groups else heading, letters * min(int(size), columns)
            )
            words = [*([hue] if beside else []), *(textwrap.fill(each, letters) for each in _words(runs))]
            if words:
                layout.under_title(ax, "\n".join(words))
        named_groups.add(group)
        named_parts.add(part)
        if runs["broken"].all():
            text = f"all {len(runs)} broke down" if len(runs) > 1 else "broke down"
            ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="#555555", gid="empty")


def _words(runs: pd.DataFrame) -> list[str]:
    """How many runs of a panel broke down, where not all did, or have no gradient left at the first step."""
    broken, zero = int(runs["broken"].sum()), int((runs["final"] == -math.inf).sum())
    words = [f"{broken} of {len(runs)} broke down"] if 0 < broken < len(runs) else []
    return words + ([f"{zero} of {len(runs)} exactly zero at the end"] if zero else [])


def _finish(figure: Figure, axes: list[Axes], data: pd.DataFrame) -> None:
    groups = data.drop_duplicates("panel").set_index("panel")["group"].reindex(data["panel"].cat.categories).tolist()
    own_scales = len(set(scales(data).values())) > 1
    for i, (ax, (first, _, lowest)) in enumerate(zip(axes, layout.edges(axes, data), strict=True)):
        ax.tick_params(labelleft=first or (own_scales and groups[i] != groups[i - 1]))
        ax.set_xlabel("steps back, T − t" if lowest else "")
        if layout.on_phone() and first:  # the whole would be longer than a panel is high
            ax.set_ylabel(r"$\log_{10}$ ratio")
    total = "total gradient, " if (data["task_loss_at"] == "every").any() else ""
    ratio = r"\|\partial L/\partial h_t\|\,/\,\|\partial L/\partial h_T\|"
    if layout.on_phone():
        figure.suptitle(f"{total}ratio = ${ratio}$", x=0.02, ha="left", fontsize=10)
    else:
        figure.supylabel(rf"{total}$\log_{{10}}({ratio})$", fontsize=10.5)
    figure.legend(handles=_legend(data), loc="outside lower center", ncols=1 if layout.on_phone() else 5)


def _between(data: pd.DataFrame) -> str:
    """Where in training the middle line is: halfway, or only about."""
    middle = data.loc[data["when"] == "middle"].drop_duplicates("run_key")
    off = (middle["moment"] - middle["last_update"] / 2).abs() > 0.1 * middle["last_update"]
    return "in between" if off.any() else "halfway"


def _legend(data: pd.DataFrame) -> list[Any]:
    handles: list[Any] = []
    for when in WHEN:
        moments = sorted(data.loc[data["when"] == when, "moment"].dropna().astype(int).unique())
        if moments:
            words = {"middle": _between(data), "after": "last update"}.get(when, "")
            update = "update " if when == "middle" else ""
            words += f" ({update}{moments[0]})" if len(moments) == 1 else ""
            handles.append(Line2D(
                [], [], color=COLOURS[when], lw=WIDTHS[when], ls=(0, DASHES[when]) if when == "middle" else "-",
                label="before training" if when == "before" else words,
            ))  # fmt: skip
    if data["seed"].nunique() > 1:
        handles.append(Patch(color=COLOURS["before"], alpha=BANDS["before"], lw=0, label="lowest to highest seed"))
    if (curves(data)["middle"] == -math.inf).any():
        handles.append(
            Line2D(
                [], [], marker="v", color=COLOURS["middle"], mec="white", ms=8, ls="", label="exactly zero from here on"
            )
        )
    return handles
