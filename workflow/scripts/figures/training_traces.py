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
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from study.report import drawing, facets, layout, measures, reader
from study.report.chosen import with_wanted
from study.report.findings import Study
from study.report.sentences.training_change import DOUBLE, change_headline, changes_by_value, split_axis
from study.report.training_gradients import first_step_ends, recorded_updates, relative_norms
from study.report.words import (
    marked,
    marked_count,
    name_of,
    named,
    plain,
    power,
    whole,
)

NOTHING = drawing.Nothing(
    "No run of this study trains, so no gradient changes through training.",
    "Add a sweep with updates: 100 or more, and trace_every: 50 to record the gradient at every step during training.",
)
AT_START_ONLY = drawing.Nothing(
    "No run of this study recorded its gradient at every step after its training had begun.", NOTHING.add
)
LOST = drawing.Nothing(
    "No run has a gradient at its last step both before and after training, so nothing can be compared with it.",
    "Add a sweep with a smaller sequence_length or a larger batch_size, so that some sequence of a batch has all T steps.",
)
NO_ROOM = "Some settings have no panel, because there is no room. The counts and the tables hold all of them."
WHEN = ("before", "middle", "after")
COLOURS = dict(zip(WHEN, ("#7cb9de", "#3383bd", "#08306b"), strict=True))  # light to dark
WIDTHS = dict(zip(WHEN, (3.2, 2.2, 1.6), strict=True))
DASHES: dict[str, Any] = {"before": (1, 0), "middle": (4, 1.5), "after": (1, 0)}
MOST_TOLD = 6  # kinds of network whose gradients before and after training are told one by one
MOST_PANELS = 16  # small ones: every rule at every setting of a usual study
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
    def compared(self) -> int:
        """Runs whose gradient is known at both ends."""
        return len(self.runs.dropna(subset=["first", "final"]))

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

    Every row repeats the ``first`` and ``final`` value of its run at the first step, before and after training. ``beside`` are the
    settings that panels side by side share, ``group`` is their number. ``ends``: some of its sequences end before step T. A run that is not drawn has one row without lag.
    So has a run that broke down, as it has no gradient after training, and one whose last step has none to compare with.
    """
    runs = facets.trained_panels(tables.study, lambda part: part.axes, most=10**6, every=True)
    if runs.empty:
        return runs
    moments = recorded_updates(tables, runs)
    if not (moments["when"] == "after").any():
        return pd.DataFrame()
    ends = first_step_ends(tables, runs, moments)
    runs = _placed(tables.study.trained_parts, runs.merge(ends, on="run_key", how="left"))
    runs["ends"] = runs["run_key"].isin(reader.with_other_losses(tables, runs))
    runs["lost"] = runs["last_update"].notna() & runs[["first", "final"]].isna().any(axis=1)
    drawn = runs.dropna(subset=["panel", "first", "final"])
    if drawn.empty:
        return runs.assign(lag=np.nan)
    with_lags = _of_the_same_networks(drawn.merge(relative_norms(tables, drawn, moments), on="run_key"))
    without_lags = runs[~runs["run_key"].isin(with_lags["run_key"])]
    return pd.concat([with_lags, without_lags], ignore_index=True)


def _of_the_same_networks(lines: pd.DataFrame) -> pd.DataFrame:
    """Without the middle of panels in which some run has nothing to compare with there: lines of other networks are no comparison."""
    middle, panel = lines["when"] == "middle", lines["panel"].astype(str)
    known = lines[middle & lines["relative"].notna()].groupby(panel)["run_key"].nunique()
    every = lines.groupby(panel)["run_key"].nunique()
    return lines[~middle | (panel.map(known) == panel.map(every))]


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
    return with_wanted(facets.spread(places, most), [] if wanted is None else [wanted])


def curves(data: pd.DataFrame) -> pd.DataFrame:
    """Panel × when × lag: median over the runs, lowest and highest; −∞ where the median gradient is exactly zero."""
    rows = data.dropna(subset=["lag", "relative"])
    summary = rows.groupby(["panel", "when", "lag"], observed=True)["relative"].agg(["median", "min", "max"])
    return summary.reset_index().rename(columns={"median": "middle", "min": "low", "max": "high"})


# ---- what is said


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return (AT_START_ONLY if (study.runs["updates"] > 0).any() else NOTHING).facts()
    if data["lag"].isna().all():
        return LOST.facts()
    trained_parts = study.trained_parts
    runs = data.drop_duplicates("run_key")
    axis = split_axis(trained_parts, runs)
    text = change_headline(runs, axis)
    panels = list(data["panel"].cat.categories)
    alt = (
        f"Line charts of the decimal logarithm of the gradient's norm at every step, relative to the last step's, against steps back. "
        f"One line is before training, {_middle_words(data)}one at the last update. {facets.alt_panels(panels)} {plain(text)}"
    )
    broken, zero = int(runs["broken"].sum()), int((runs["final"] == -math.inf).sum())
    ends = _each(trained_parts, _ends_of(data)) or _largest(trained_parts, _ends_of(data))
    claims = [
        *(
            changes_by_value(part, runs[runs["part"] == i], facets.part_name(part, trained_parts))
            for i, part in enumerate(trained_parts)
            if part.column and part.column != axis
        ),
        ends,
        _lost(runs, broken),
        _without_last_step(runs),
        _zero(zero),
        NO_ROOM if data["left_out"].iloc[0] else "",
    ]
    drawn = data.dropna(subset=["panel"])
    scale = scales(drawn)
    shown = [
        *(["middle"] if (data["when"] == "middle").any() else []),
        *(["no middle"] if _middle_is_missing(data) else []),
        *(["broken"] if broken else []),
        *(["lost"] if runs["lost"].any() else []),
        *(["zero"] if (data["relative"] == -math.inf).any() else []),
        *(["every"] if (runs["task_loss_at"] == "every").any() else []),
        *(["ends"] if (runs["ends"] & (runs["task_loss_at"] == "last")).any() else []),
        *(["band"] if data["seed"].nunique() > 1 else []),
        *(["scales"] if len(set(scale.values())) > 1 else []),
        *(["cut"] if _cut(drawn, scale) else []),
    ]
    return drawing.facts(text, alt, claims, shown, answer=[ends])


def _each(trained_parts: Sequence[measures.Part], ends: pd.DataFrame) -> str:
    """Of few kinds of network, each one's gradient at the first step before and after training; empty where there are many, or one."""
    known = [cell for cell in cells(trained_parts, ends) if all(map(math.isfinite, cell.ends))]
    if not 1 < len(known) <= MOST_TOLD:
        return ""
    several = any(cell.compared > 1 for cell in known)
    start, *others = (
        f"from {' to '.join(_ends_words(trained_parts, cell))} for {_name(trained_parts, cell)}{_of_one(cell, several)}."
        for cell in known
    )
    head = "In the median this share goes" if several else "This share goes"
    return " ".join([f"{head} {start}", *(f"It goes {each}" for each in others)])


def _of_one(cell: Cell, several: bool = True) -> str:
    """Where a median is of one run, beside medians of several."""
    return ", in one run" if several and cell.compared == 1 else ""


def _name(trained_parts: Sequence[measures.Part], cell: Cell) -> str:
    """What tells a kind of network from the others."""
    settings = name_of(cell.chosen) if cell.chosen else ""
    return ": ".join(filter(None, (facets.part_name(trained_parts[cell.part], trained_parts), settings)))


def _ends_words(trained_parts: Sequence[measures.Part], cell: Cell) -> list[str]:
    """The median gradient at the first step before training and after it, as a share of that at the last step."""
    part = trained_parts[cell.part]
    where = {"sweep": part.sweep, "task": str(part.runs["task"].iloc[0]), **cell.chosen}
    ends = zip(("first", "final"), cell.ends, strict=True)
    return [marked(power(value), f"first_step_{name}", value, **where) for name, value in ends]


def _largest(trained_parts: Sequence[measures.Part], ends: pd.DataFrame) -> str:
    """The kind of network whose gradient at the first step changes most, from what to what; it has a panel."""
    all_cells = cells(trained_parts, ends)
    largest = max(all_cells, key=lambda cell: cell.change)
    if len(all_cells) < 2 or largest.change < DOUBLE:
        return ""
    first, final = _ends_words(trained_parts, largest)
    which = "in one run" if largest.compared == 1 else "in the median"
    return f"The share changes most for {_name(trained_parts, largest)}, {which} from {first} to {final}."


def _lost(runs: pd.DataFrame, broken: int) -> str:
    if not broken:
        return ""
    return f"{marked_count(broken, 'runs_broken')} of {marked_count(len(runs), 'runs_trained')} runs broke down before the end. They are not counted here."


def _without_last_step(runs: pd.DataFrame) -> str:
    """How many runs recorded a gradient that cannot be compared with the last step's, because that is exactly zero."""
    recorded = runs[runs["last_update"].notna()]
    lost = recorded[recorded[["first", "final"]].isna().any(axis=1)]
    count = len(lost)
    if not count:
        return ""
    total = marked_count(len(runs), "runs_trained")
    text = f"{marked_count(count, 'runs_without_last_step')} of {total} runs {'is' if count == 1 else 'are'} left out, and not counted above."
    text += " At the last step their gradient is exactly zero, before training or after it, so nothing can be compared with it."
    return f"{text} That is so where no sequence of a batch has all T steps." if lost["ends"].any() else text


def _zero(zero: int) -> str:
    if not zero:
        return ""
    return f"In {marked_count(zero, 'first_step_zero_after')} {'run' if zero == 1 else 'runs'} the gradient at the first step is exactly zero after training."


# ---- how it is drawn


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    if data["lag"].isna().all():
        return LOST.draw()
    shown = data.dropna(subset=["panel"])
    figure, axes, columns = _axes(shown)
    medians, scale = curves(shown), scales(shown)
    places = shown.drop_duplicates("panel").set_index("panel")
    for ax, panel in zip(axes, shown["panel"].cat.categories, strict=True):
        rows = shown[shown["panel"] == panel]
        ax.set_ylim(*scale[int(places["group"][panel])])
        ax.yaxis.set_major_locator(MaxNLocator(4))
        ax.set_xlim(0, max(1, int(measures.steps(rows).max()) - 1))
        ax.xaxis.set_major_locator(layout.whole_numbers())
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
    sizes = [max(high - low, FLAT) for group, (low, high) in reach.items() if (medians["group"] == group).any()]
    if max(sizes) < UNLIKE * min(sizes):
        together = min(low for low, _ in reach.values()), max(high for _, high in reach.values())
        reach = dict.fromkeys(reach, together)
    return {group: _with_room(*each) for group, each in reach.items()}


def _reach(medians: pd.DataFrame) -> tuple[float, float]:
    """Every median, the last step's 0, and of bands as much as leaves the medians two thirds of the panel."""
    known = medians["middle"][np.isfinite(medians["middle"])]
    low, high = min([0.0, *known]), max([0.0, *known])
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
        dashes = (0, DASHES[when]) if when == "middle" else "-"
        order = 2 + WHEN.index(when)
        ax.plot(known["lag"], known["middle"], color=COLOURS[when], lw=WIDTHS[when], ls=dashes, zorder=order, gid=when)
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
        if text := next(
            (text for name, text in (("broken", "broke down"), ("lost", "left out")) if runs[name].all()), ""
        ):
            text = f"{whole(len(runs))} {text}" if len(runs) > 1 else text
            ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="#555555", gid="empty")


def _words(runs: pd.DataFrame) -> list[str]:
    """How many runs of a panel broke down or are left out, where not all are, or have no gradient left at the first step."""
    zero = int((runs.loc[~runs["lost"], "final"] == -math.inf).sum())
    counts = (("broke down", int(runs["broken"].sum())), ("left out", int(runs["lost"].sum())))
    words = [f"{count} of {len(runs)} {what}" for what, count in counts if 0 < count < len(runs)]
    return words + ([f"{zero} of {len(runs)} exactly zero at the end"] if zero else [])


def _finish(figure: Figure, axes: list[Axes], data: pd.DataFrame) -> None:
    groups = data.drop_duplicates("panel").set_index("panel")["group"].reindex(data["panel"].cat.categories).tolist()
    own_scales = len(set(scales(data).values())) > 1
    adds = (measures.steps(data) > data["sequence_length"]).any()  # then the last step is not T
    steps_back = "steps back" if adds else "steps back, T − t"
    for i, (ax, (first, _, lowest)) in enumerate(zip(axes, layout.edges(axes, data), strict=True)):
        ax.tick_params(labelleft=first or (own_scales and groups[i] != groups[i - 1]))
        ax.set_xlabel(steps_back if lowest else "")
        if layout.on_phone() and first:  # the whole would be longer than a panel is high
            ax.set_ylabel(r"$\log_{10}$ ratio")
    total = "total gradient, " if (data["task_loss_at"] == "every").any() else ""
    ratio = r"\|\partial L/\partial h_t\|\,/\,\|\partial L/\partial h_T\|"
    if layout.on_phone():
        figure.suptitle(f"{total}ratio = ${ratio}$", x=0.02, ha="left", fontsize=10)
    else:
        figure.supylabel(rf"{total}$\log_{{10}}({ratio})$", fontsize=10.5)
    layout.legend_below(figure, _legend(data), most=5)


def _between(data: pd.DataFrame) -> str:
    """Where in training the middle line is: halfway, or only about."""
    middle = data.loc[data["when"] == "middle"].drop_duplicates("run_key")
    off = (middle["moment"] - middle["last_update"] / 2).abs() > 0.1 * middle["last_update"]
    return "in between" if off.any() else "halfway"


def _middle_words(data: pd.DataFrame) -> str:
    return f"one {_between(data)}, " if (data["when"] == "middle").any() else ""


def _middle_is_missing(data: pd.DataFrame) -> bool:
    """Whether some panels with lines have one between, and others none."""
    has = data.dropna(subset=["lag"]).groupby("panel", observed=True)["when"].agg(lambda when: (when == "middle").any())
    return bool(has.any() and not has.all())


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
