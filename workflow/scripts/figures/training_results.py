"""What every trained run achieves on held-out sequences, beside what a prediction gets that has learnt nothing."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from study.report import drawing, facets, layout, measures, reader
from study.report.findings import Study
from study.report.phrases import key_of, knows_nothing, where_of, writer_of
from study.report.sentences.training_headline import training_headline
from study.report.words import (
    capital,
    few,
    listed,
    marked,
    marked_count,
    name_of,
    named,
    number,
    ordered,
    plain,
    plural_of,
    spelled,
    whole,
)
from study.settings import axis_label

NOTHING = drawing.Nothing(
    "No run of this study trains, so there is no result of training.",
    'Add a sweep with updates: 100 or more and clipping: [none, "norm:1.0"].',
)
LABELS = {"held_out_accuracy": "held-out accuracy", "held_out_loss": "held-out loss"}
LEARNT_NOTHING = {  # what the dashed line is, by ``phrases.knows_nothing``
    "always naming the commonest class": "commonest\nclass",
    "the best constant prediction": "best constant\nprediction",
    "a prediction without memory": "without\nmemory",
}
OF_TRAINING = ("learning_rate", "updates")  # numbers that make an x axis, besides those of a network
MOST_TICKS = 16  # numbers that an x axis has room for, at a slant
MOST_WORDS = 6  # settings in a panel that have room for words
SLOT, DOTS = 0.84, 0.6  # width of a place on the x axis, and the share of it that the dots take


# ---- what is drawn


def frame(tables: reader.Tables) -> pd.DataFrame:
    """One row a trained run: its result, and where its dot is (``at``): by the x axis, by colour, and by seed."""
    data = facets.trained_panels(tables.study, within)
    if data.empty:
        return data
    return pd.concat([_placed(part, rows) for part, rows in _drawn_parts(tables.study, data)], ignore_index=True)


def within(part: measures.Part) -> list[str | None]:
    """The axes that one panel shows: colour and x."""
    return [part.column, x_axis(part)]


def x_axis(part: measures.Part) -> str | None:
    """The number that takes the most values; if no other varies, the axis that the part asks about."""
    numeric = [
        axis
        for axis in (*measures.NUMBERS, *OF_TRAINING)
        if axis in part.axes and axis != part.column and part.runs[axis].notna().all()
    ]
    return max(numeric, key=lambda axis: int(part.runs[axis].nunique()), default=part.column)


def _drawn_parts(study: Study, data: pd.DataFrame) -> list[tuple[measures.Part, pd.DataFrame]]:
    trained = study.trained_parts
    return [(trained[int(i)], rows) for i, rows in data.groupby("part", sort=True)]


def _placed(part: measures.Part, rows: pd.DataFrame) -> pd.DataFrame:
    """With ``x`` (the axis), ``tick`` (its value in words), ``at`` (where the dot is) and ``middle`` (where the mean is)."""
    axis = x_axis(part)
    values = ordered(axis, part.runs[axis]) if axis else [None]
    hues = part.columns if axis != part.column else [None]
    width = SLOT / len(hues)
    rows = rows.sort_values(["panel", "seed"])
    index = _places(rows, axis, values)
    left = index - SLOT / 2 + (_places(rows, part.column, hues) if len(hues) > 1 else 0.0) * width
    rows = rows.assign(x=axis or "", tick=[tick(axis, value) for value in rows[axis]] if axis else "", tick_at=index)
    group = rows.groupby(["panel", "tick_at", "hue"], observed=True)["seed"]
    count, rank = group.transform("size"), group.cumcount()
    dots = (0.06 + DOTS * (rank + 0.5) / count).where(
        count > 1, 0.5
    )  # a seed keeps its place: equal results lie side by side
    mean = pd.Series(DOTS + 0.2, rows.index).where(count > 1, 0.5)
    return rows.assign(at=left + dots * width, middle=left + mean * width, nothing=knows_nothing(part))


def _places(rows: pd.DataFrame, axis: str | None, values: list[Any]) -> pd.Series:
    """Which of ``values`` every row has: 0, 1, …"""
    place = {key_of(value): float(i) for i, value in enumerate(values)}
    return pd.Series([place[key_of(value)] for value in rows[axis]] if axis else 0.0, index=rows.index, dtype=float)


def tick(axis: str, value: Any) -> str:
    """A value on an axis that has its label: the number alone."""
    known = isinstance(value, int | float | np.number) and not pd.isna(value)
    return number(float(value)) if known else named(axis, value)


def means(data: pd.DataFrame) -> pd.DataFrame:
    """Mean and 95 % interval over seeds of every group of dots, as in the page's table; where there are two seeds or more, and a result."""
    averages = []
    for (panel, at, hue), rows in data.groupby(["panel", "middle", "hue"], observed=True, sort=True):
        outcome = measures.outcome(rows)
        if rows["seed"].nunique() > 1 and math.isfinite(outcome.value) and not rows["broken"].all():
            averages.append((panel, at, hue, *outcome))
    return pd.DataFrame(averages, columns=["panel", "middle", "hue", "value", "low", "high"])


# ---- what is said


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    trained_parts = study.trained_parts
    text = training_headline(study, trained_parts)
    broken, known = data["broken"].any(), len(means(data)) > 0
    asked = few([plural_of(axis) for axis in data["asked"].unique() if axis] or [""])
    alt = (
        f"Dot plots of {listed(LABELS[m] for m in data['metric'].unique())}, a dot a trained run"
        + (f", by {asked}" if asked else "")
        + f". {facets.alt_panels(data['panel'].cat.categories)} {plain(text)}"
    )
    claims = [*_baselines(trained_parts), _crosses(trained_parts), _triangles(trained_parts)]
    claims += [_singly(study, part, trained_parts) for part in trained_parts] + [facets.left_out(data, headline=True)]
    settings = data.groupby(["panel", "middle", "hue"], observed=True)
    shown = [*data["metric"].unique(), *(["broken"] if broken else []), *(["mean"] if known else [])]
    shown += ["beyond"] if data["beyond"].any() else []
    classified = data[data["metric"] == "held_out_accuracy"]
    shown += ["every"] if (classified["task_loss_at"] == "every").any() else []
    shown += ["all broken"] if settings["broken"].all().any() else []
    shown += ["ended"] if any(part.runs["updates_to_success"].notna().any() for part in trained_parts) else []
    return drawing.facts(text, alt, claims, shown)


def _of(part: measures.Part, trained_parts: list[measures.Part]) -> str:
    name = facets.part_name(part, trained_parts)
    return f" ({name})" if name else ""


def _baselines(trained_parts: list[measures.Part]) -> list[str]:
    """What the dashed lines are, task by task."""
    baselines: dict[str, dict[str, str]] = {}  # by what the line is, and part by part
    for part in trained_parts:
        if math.isfinite(float(part.runs["baseline"].mean())) and part.axes:
            baselines.setdefault(knows_nothing(part), {})[_of(part, trained_parts)] = _baseline_words(part)
    said = []
    for what, by_part in baselines.items():
        alike = len(set(map(plain, by_part.values()))) == 1
        values = next(iter(by_part.values())) if alike else few(f"{value}{of}" for of, value in by_part.items())
        verb = "is right in" if "naming" in what else "has a loss of"
        said.append(f"{capital(what)} {verb} {values}.")
    return said


def _baseline_words(part: measures.Part) -> str:
    """One number; where settings of a part have different ones, from which to which."""
    write = writer_of(str(part.runs["metric"].iloc[0]), digits=2)
    if not measures.baselines_differ(part.runs):
        nothing = float(part.runs["baseline"].mean())
        return marked(write(nothing), "baseline", nothing, **where_of(part))
    each = [(float(rows["baseline"].mean()), chosen) for chosen, rows in measures.grouped(part.runs, part.axes)]
    ends = min(each, key=lambda one: one[0]), max(each, key=lambda one: one[0])
    return " to ".join(marked(write(value), "baseline", value, **where_of(part, chosen)) for value, chosen in ends)


def _crosses(trained_parts: list[measures.Part]) -> str:
    """How many runs broke down, part by part; empty where none did."""
    counts = _counts(trained_parts, "broken")
    return f"Crosses are runs that broke down: {counts}." if counts else ""


def _triangles(trained_parts: list[measures.Part]) -> str:
    """How many runs end with a loss above all that is counted."""
    counts = _counts(trained_parts, "beyond")
    return (
        f"Triangles are runs with a loss more than {spelled(int(measures.WORST))} times that of the dashed line: {counts}."
        if counts
        else ""
    )


def _counts(trained_parts: list[measures.Part], column: str) -> str:
    """Of how many runs this is true, part by part: 5 of 18 (digits)."""
    counts = []
    for part in trained_parts:
        count, where = int(part.runs[column].sum()), where_of(part)
        if count:
            total = marked_count(len(part.runs), "trained_runs", **where)
            counts.append(f"{marked_count(count, column, **where)} of {total}{_of(part, trained_parts)}")
    return listed(counts) if counts else ""


def _singly(study: Study, part: measures.Part, trained_parts: list[measures.Part]) -> str:
    """At which single settings the axis that is asked about makes a clear difference."""
    if not part.column or not part.rows:
        return ""
    compared = study.of(part, part.column, str(part.runs["metric"].iloc[0]), pooled=False)
    clear = [each for each in compared if each.better]
    place = _place(part, trained_parts)
    if separating := _separating(part, clear):
        return place + _by_other_axis(part, clear, separating)
    by_pair: dict[str, list[str]] = {}
    for each in clear:
        better, worse = (each.a, each.b) if each.better == "a" else (each.b, each.a)
        pair = f"{named(part.column, better)} is clearly better than {named(part.column, worse)}"
        by_pair.setdefault(pair, []).append(name_of({k: v for k, v in each.fixed.items() if k not in part.fixed}))
    phrases = [f"{pair} for {few(names, 3)}" for pair, names in list(by_pair.items())[:2]]
    return place + "; ".join(phrases) + "." if phrases else ""


def _separating(part: measures.Part, clear: list[measures.Comparison]) -> str:
    """Of two values, each clearly better somewhere: the one other axis that tells where; empty where none does."""
    if len(part.columns) != 2 or {each.better for each in clear} != {"a", "b"}:
        return ""
    for axis in part.rows:
        better, worse = ({key_of(each.fixed[axis]) for each in clear if each.better == side} for side in "ab")
        if not better & worse:
            return axis
    return ""


def _by_other_axis(part: measures.Part, clear: list[measures.Comparison], axis: str) -> str:
    """norm:1.0 clearly harms at learning rate = 0.01, for ρ = 1.2 and ρ = 1.6. It clearly helps at …"""
    asked, a, b = str(part.column), clear[0].a, named(str(part.column), clear[0].b)
    helps, harms = ("helps", "harms") if asked in measures.REFERENCE else (f"beats {b}", f"loses to {b}")
    sentences: list[str] = []
    for value in ordered(axis, [each.fixed[axis] for each in clear]):
        at_value = [each for each in clear if key_of(each.fixed[axis]) == key_of(value)]
        other_settings = [{k: v for k, v in each.fixed.items() if k not in (*part.fixed, axis)} for each in at_value]
        names = f", for {few(map(name_of, other_settings), 3)}" if any(other_settings) else ""
        verb = helps if at_value[0].better == "a" else harms
        sentences.append(f"{'It' if sentences else named(asked, a)} clearly {verb} at {named(axis, value)}{names}.")
    return " ".join(sentences)


def _place(part: measures.Part, trained_parts: list[measures.Part]) -> str:
    """The beginning of a sentence about single settings: which part of the study they are of."""
    name, task = facets.part_name(part, trained_parts), str(part.runs["task"].iloc[0])
    if not name:
        return "Setting by setting, "
    on, sweep = name.startswith(task), name.endswith(part.sweep)
    return (
        capital(" ".join(filter(None, (f"on {task}" if on else "", f"in sweep {part.sweep}" if sweep else "")))) + ", "
    )


# ---- how it is drawn


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    counts = [rows["panel"].nunique() for _, rows in data.groupby("part", sort=True)]
    slots = int(data.groupby("panel", observed=True)["middle"].nunique().max())
    columns = layout.columns(3 if slots <= 12 and max(counts) != 4 else 2 if slots <= 36 else 1)
    figure, axes = layout.grid_by_part(counts, columns, 2.6, 1.1 + _slant_height(data, counts, columns))
    paint, averages = facets.hues(data), means(data)
    scales = {metric: limits(rows) for metric, rows in data.groupby("metric")}
    for ax, panel in zip(axes, data["panel"].cat.categories, strict=True):
        rows = data[data["panel"] == panel]
        _panel(ax, rows, averages[averages["panel"] == panel], paint[str(rows["asked"].iloc[0])])
        _scale(ax, rows, scales[rows["metric"].iloc[0]])
        _all_broken(ax, rows)
        broken = int(rows["broken"].sum())
        layout.panel_title(ax, str(panel), 34)
        if broken:
            layout.under_title(ax, f"{broken} of {len(rows)} broke down (×)")
    _finish(figure, axes, data, paint)
    return figure


def _slant_height(data: pd.DataFrame, counts: Sequence[int], columns: int) -> float:
    """Inches that names at a slant take below the panels of every row, so that they are not taken from the panels."""
    inches = layout.width() / min(columns, data["panel"].nunique())
    down = data.groupby("panel", observed=True)["tick"].agg(
        lambda own: layout.slant_height([layout.wrapped(each, 14) for each in own.unique()[:MOST_TICKS]], inches)
    )
    return layout.over_rows(counts, columns, down.reindex(data["panel"].cat.categories, fill_value=0.0).to_list())


def _panel(ax: Axes, rows: pd.DataFrame, averages: pd.DataFrame, paint: dict[str, tuple[Any, str]]) -> None:
    """Dots, crosses, triangles where a loss is off the scale, means with intervals, and the level of what has learnt nothing."""
    dashed: dict[str, Any] = {"color": "#555555", "lw": 1.2, "ls": (0, (4, 3)), "zorder": 0.5, "gid": "baseline"}
    if measures.baselines_differ(rows):
        for at, own in rows.groupby("tick_at"):
            ax.plot([at - 0.5, at + 0.5], [own["baseline"].mean()] * 2, **dashed)
    elif math.isfinite(float(rows["baseline"].mean())):
        ax.axhline(float(rows["baseline"].mean()), **dashed)
    present = [hue for hue in paint if (rows["hue"] == hue).any()]
    small = rows["middle"].nunique() > 24 or layout.on_phone()
    whole_runs = ~rows["broken"] & ~rows["beyond"]
    for name, kind, marker, size in (("run", whole_runs, "o", 26), ("beyond", rows["beyond"], "^", 40), ("broken", rows["broken"], "X", 46)):  # fmt: skip
        some = rows[kind & np.isfinite(rows["result"])]
        if len(some):
            sns.scatterplot(
                some, x="at", y="result", hue="hue", hue_order=present, palette={h: paint[h][0] for h in present},
                marker=marker, s=size - 11 * small, alpha=0.55 if name == "run" else 1.0, linewidth=0.4, edgecolor="white",
                legend=False, clip_on=False, zorder=3, ax=ax, gid=name,
            )  # fmt: skip
    for hue in present:
        hue_means = averages[averages["hue"] == hue].sort_values("middle")
        if len(hue_means):
            reach = np.abs(hue_means[["low", "high"]].to_numpy().T - hue_means["value"].to_numpy())
            colour, marker = paint[hue]
            ax.errorbar(
                hue_means["middle"], hue_means["value"], yerr=np.nan_to_num(reach), color=colour, marker=marker, ms=6, mec="white",
                mew=0.8, ls="", lw=1.8, capsize=2.5, zorder=4, gid=f"mean {hue}",
            )  # fmt: skip


def _all_broken(ax: Axes, rows: pd.DataFrame) -> None:
    """In words where no run of a setting came to its end: their crosses have no mean. To be called when the scale is final."""
    places = rows.groupby(["middle", "hue"], observed=True)
    if len(places) > MOST_WORDS:
        return
    for _, setting_runs in places:
        if setting_runs["broken"].all() and np.isfinite(setting_runs["result"]).any():
            at = float(setting_runs["at"].mean()), float(setting_runs["result"].max())
            above = ax.transAxes.inverted().transform(ax.transData.transform(at))[1] < 0.6
            ax.annotate(
                "broke\ndown" if len(setting_runs) == 1 else f"{whole(len(setting_runs))}\nbroke\ndown", at, (0, 8 if above else -8),
                textcoords="offset points", ha="center", va="bottom" if above else "top", fontsize=9, color="#555555",
                linespacing=1.0, gid="all broken",
            )  # fmt: skip


def limits(rows: pd.DataFrame) -> tuple[float, float]:
    """One scale for all panels of a metric. Of losses it holds intervals, too, up to a decade beyond the runs."""
    if rows["metric"].iloc[0] == "held_out_accuracy":
        return -0.03, 1.03
    values = pd.concat([rows["result"], rows["baseline"]])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.1, 1.0)
    averages = means(rows)
    low, high = max(low / 10, min(low, averages["low"].min())), min(high * 10, max(high, averages["high"].max()))
    margin = max(1.25, (high / low) ** 0.08)
    return low / margin, high * margin


def _scale(ax: Axes, rows: pd.DataFrame, scale: tuple[float, float]) -> None:
    """Both axes of a panel: results from 0 to 100 %, or losses on a logarithmic scale."""
    if rows["metric"].iloc[0] == "held_out_accuracy":
        ax.set_ylim(*scale)
        ax.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, 0, " %"))
    else:
        ax.set_yscale("log")
        ax.set_ylim(*scale)
        layout.plain_log_ticks(ax)
    ticks = rows[["tick_at", "tick"]].drop_duplicates().sort_values("tick_at")
    last = float(ticks["tick_at"].max())
    ax.set_xlim(-0.55, last + 0.55)
    some = list(range(len(ticks)))
    if rows["x"].iloc[0] in (*measures.NUMBERS, *OF_TRAINING):
        some = some[:: math.ceil(len(some) / MOST_TICKS)]  # even gaps: a number between two others is understood
    words = [layout.wrapped(ticks["tick"].iloc[i], 14) for i in some]
    ax.set_xticks(ticks["tick_at"].iloc[some], words)
    if ticks["tick"].iloc[0] == "":
        ax.set_xticks([])
    ax.set(xlabel="", ylabel="")


def _finish(figure: Figure, axes: list[Axes], data: pd.DataFrame, paint: dict[str, dict[str, tuple[Any, str]]]) -> None:
    """Labels of both axes, of the baseline at the right end of every whole row, crowded ticks at a slant, and the legend."""
    inches = figure.get_size_inches()[0] / len({ax.get_position().x0 for ax in axes})
    panels = data["panel"].cat.categories
    for ax, panel, (first, _, lowest), at_end in zip(
        axes, panels, layout.edges(axes, data), layout.right_ends(axes, data), strict=True
    ):
        rows = data[data["panel"] == panel]
        last = rows[rows["tick_at"] == rows["tick_at"].max()] if measures.baselines_differ(rows) else rows
        metric, baseline, axis = str(rows["metric"].iloc[0]), float(last["baseline"].mean()), str(rows["x"].iloc[0])
        if at_end and math.isfinite(baseline):
            words = f"{LEARNT_NOTHING[str(rows['nothing'].iloc[0])]}: {writer_of(metric, digits=2)(baseline)}"
            ax.annotate(
                words, (1, baseline), (4, 0), xycoords=("axes fraction", "data"), textcoords="offset points", va="center",
                fontsize=9, color="#555555", gid="baseline",
            )  # fmt: skip
        ax.tick_params(labelleft=first)
        ax.set_ylabel(LABELS[metric] if first else "")
        ax.set_xlabel(axis_label(axis) if axis and lowest else "")
        layout.slant(ax, inches)
    handles = _legend(data, paint)
    if handles:
        layout.legend_below(figure, handles, most=5, on_a_phone=2)


def _legend(data: pd.DataFrame, paint: dict[str, dict[str, tuple[Any, str]]]) -> list[Line2D]:
    """What colours mean, where the x axis does not say it; what else there is to see."""
    handles = [
        Line2D([], [], color=colour, marker=marker, ms=7, mec="white", lw=1.8, label=hue)
        for asked, values in paint.items()
        if asked and (data.loc[data["asked"] == asked, "x"] != asked).any()
        for hue, (colour, marker) in values.items()
    ]
    grey: dict[str, Any] = {"ls": "", "color": "#777777", "mec": "white"}
    handles.append(Line2D([], [], marker="o", ms=5.5, label="one run", **grey))
    if data["broken"].any():
        handles.append(Line2D([], [], marker="X", ms=7.5, label="run broke down", **grey))
    if data["beyond"].any():
        handles.append(Line2D([], [], marker="^", ms=7, label=f"loss > {measures.WORST:g} × dashed line", **grey))
    if len(means(data)):
        handles.append(
            Line2D([], [], color="#777777", marker="o", ms=7, mec="white", lw=1.8, label="mean, 95 % interval")
        )
    return handles
