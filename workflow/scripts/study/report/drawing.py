"""What the figures share: reading, what a study varies, panels, colours, labels, and saving pictures and facts.

A figure is ``figures/<figure>.py``: ``frame`` (what is drawn, tidy), ``facts`` (headline and sentences, from the frame) and
``draw`` (artists, from the frame); ``render`` does the rest. If a study lacks what a figure shows, the frame is empty.

``draw`` is called twice: for a page of 900 px, and for a phone, where panels stand below each other (``columns``, ``width``).
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from study.files import pictures as sealed_pictures
from study.files import seal
from study.files.writing import reading, written_aside
from study.report.findings import Study
from study.report.measures import Part, grouped
from study.report.words import few, in_order, listed, name_of, named, number, ordered, plain, spoken
from study.settings import described_axes
from study.tables import store

matplotlib.use("Agg")

PAGE_WIDTH, PHONE_WIDTH, DPI = 9.0, 4.2, 160  # inches; shown 900 px and 400 px wide, so that 9 pt are 12 px
MOST_PANELS = 12
LONGEST_TITLE = 140  # letters of a headline
MOST_UPDATES = 300
MOST_ROWS = 500_000  # of a large table, in memory at once

RATIO = r"$\log_{10}\,(\|\partial L/\partial h_{%s}\|\,/\,\|\partial L/\partial h_T\|)$"  # axis label, at step %s
INK, FAINT = "#222222", "#8a8a8a"
REGIME_COLOURS = {"vanishing": "#0072B2", "stable": "#4d4d4d", "exploding": "#D55E00"}
_BELOW_ONE, _ABOVE_ONE = ("#63b5e5", "#0b3c8c"), ("#9c2f00", "#f5a01d")  # far from 1 … near 1, near 1 … far from 1
# Okabe and Ito's colours, told apart by colour-blind eyes too; a value beyond the sixth gets one of the last two
CATEGORIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7570b3", "#8c6d31")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")  # so that grey print tells them apart

Facts = dict[str, Any]
Filter = list[tuple[str, str, Any]] | list[list[tuple[str, str, Any]]]  # all of these; or any of such lists


# ---- reading


@dataclass(frozen=True)
class Tables:
    """The study's tables by name; only the columns and rows asked for are read, of files that are whole."""

    files: Mapping[str, str | Path]
    own: Mapping[str, Any] = field(default_factory=dict)  # what every table's footer says of itself
    checked: set[str] = field(default_factory=set)

    def read(self, table: str, columns: Sequence[str], where: Filter | None = None) -> pd.DataFrame:
        with reading(self.files[table]):
            return pq.read_table(self.whole(table), columns=list(columns), filters=where).to_pandas()

    def whole(self, table: str) -> str | Path:
        """The file of a table, checked before it is first read."""
        if table not in self.checked:
            store.require(self.files[table], table=table, **self.own)
            self.checked.add(table)
        return self.files[table]

    def pieces(
        self, table: str, columns: Sequence[str], where: pc.Expression, most: int = MOST_ROWS
    ) -> Iterator[pd.DataFrame]:
        """The rows that ``where`` picks, about ``most`` at a time, for what would not fit into memory at once."""
        held: list[pa.RecordBatch] = []
        scan = {"use_threads": False, "batch_readahead": 1, "fragment_readahead": 1}
        for batch in self._batches(table, columns=list(columns), filter=where, **scan):
            held.append(batch)
            if sum(each.num_rows for each in held) >= most:
                yield pa.Table.from_batches(held).to_pandas()
                held = []
        if any(batch.num_rows for batch in held):
            yield pa.Table.from_batches(held).to_pandas()

    def _batches(self, table: str, **scan: Any) -> Iterator[pa.RecordBatch]:
        with reading(self.files[table]):
            yield from ds.dataset(self.whole(table), format="parquet").to_batches(**scan)

    def runs(self, *measured: str) -> pd.DataFrame:
        """All settings and the measured columns asked for, each run once even if two sweeps share it."""
        return self.read("runs", ["sweep", "run_key", *described_axes(), *measured]).drop_duplicates("run_key")

    @cached_property
    def study(self) -> Study:
        """What the page says of these runs, for sentences."""
        with reading(self.files["runs"]):
            return Study(pd.read_parquet(self.whole("runs")))


def updates_of(tables: Tables, runs: pd.DataFrame, columns: Sequence[str], most: int = MOST_UPDATES) -> pd.DataFrame:
    """These columns of the runs' updates, sorted; of long trainings ``most`` evenly spread, and every breakdown.

    Of so many runs that these would be more than ``MOST_ROWS``, fewer updates, but eight at least.
    """
    last = int(runs["updates"].max()) - 1
    most = max(8, min(most, MOST_ROWS // len(runs)))
    spread = np.unique(np.linspace(0, last, min(last + 1, most)).round().astype(int)).tolist()
    ours = ("run_key", "in", set(runs["run_key"]))
    rows = tables.read(
        "updates", ["run_key", "update", *columns], [[ours, ("update", "in", spread)], [ours, ("finite", "==", False)]]
    )
    return rows.drop_duplicates(["run_key", "update"]).sort_values(["run_key", "update"], ignore_index=True)


# ---- what varies: panels and hues


HUE_FIRST = (
    "initializer",
    "cell",
    "dtype",
    "residual_step",
    "residual_leak",
    "hidden_size",
    "input_scale",
    "activation",
)


def hue_axis(axes: Sequence[str], first: Sequence[str] = HUE_FIRST) -> str | None:
    """Of the axes that vary, the one whose values are compared within a panel: the first of ``first``, else the first."""
    return next((axis for axis in (*first, *axes) if axis in axes), None)


def panels(runs: pd.DataFrame, axes: Sequence[str], most: int = MOST_PANELS) -> pd.DataFrame:
    """The runs with their ``panel``: the values of ``axes`` in a name. ``left_out`` names the panels that do not fit.

    Where there are more than ``most``, every value of the first axis keeps a panel.
    """
    if not axes:
        name = pd.Categorical(["all networks"] * len(runs), categories=["all networks"])
        return runs.assign(panel=name, left_out="")
    order = in_order(runs[list(axes)].drop_duplicates(), list(axes))
    names = _names(order, axes)
    order["panel"] = pd.Categorical(names, categories=names, ordered=True)
    kept = order.iloc[_spread_over_first(order[axes[0]], most)]
    out = [name for name in names if name not in set(kept["panel"])]
    shown = runs.merge(kept, on=list(axes))
    shown["panel"] = shown["panel"].cat.remove_unused_categories()
    return shown.assign(left_out=few(out, 6) if out else "")


def _names(order: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """A name for every row; of a row without any setting, what it lacks."""
    return [
        name_of(row, first=axes[0]) if order[list(axes)].notna().iloc[i].any() else listed(named(a, None) for a in axes)
        for i, row in enumerate(order[list(axes)].to_dict("records"))
    ]


def start_axes(axes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of networks before training: the axes whose values are compared within a panel (a cell's own settings go with the cell), and those that make panels.

    Activation functions make panels.
    """
    first = hue_axis([axis for axis in axes if axis != "activation"])
    own = [axis for axis in axes if first == "cell" and axis.startswith("residual_")]
    hue = [first, *own] if first else []
    return hue, [axis for axis in axes if axis not in hue]


def start_hues(runs: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The runs with their ``hue``, what is compared within a panel, in a name (empty without axes), and its ``colour``."""
    if not axes:
        return runs.assign(hue=pd.Categorical([""] * len(runs), categories=[""], ordered=True), colour=INK)
    order = in_order(runs[list(axes)].drop_duplicates(), list(axes))
    names = _names(order, axes)
    single = len(axes) == 1 and order[axes[0]].notna().all()
    keys = order[axes[0]].tolist() if single else names
    paint = colours(axes[0] if single else None, keys)
    order["colour"] = [to_hex(paint[key]) for key in keys]
    order["hue"] = pd.Categorical(names, categories=names, ordered=True)
    return runs.merge(order, on=list(axes))


def _spread_over_first(first: pd.Series, most: int) -> list[int]:
    """Rows to keep, in order: of every value of the first axis as many as there is room for, evenly spread."""
    if len(first) <= most:
        return list(range(len(first)))
    groups = [np.flatnonzero(first.isna() if pd.isna(value) else first == value) for value in first.drop_duplicates()]
    if len(groups) > most:
        groups = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, most).round().astype(int))]
    room = max(1, most // len(groups))
    chosen = [g[np.unique(np.linspace(0, len(g) - 1, min(room, len(g))).round().astype(int))] for g in groups]
    return sorted(int(i) for group in chosen for i in group)


def trained_panels(
    study: Study, within: Callable[[Part], Iterable[str | None]], most: int = MOST_PANELS, every: bool = False
) -> pd.DataFrame:
    """The trained runs with their results, part by part of the study (``part``: 0, 1 …), and their ``panel``.

    ``within(part)`` are the axes that one panel holds all values of; the part's other axes make panels. ``asked`` is the axis that the
    part asks about (empty: nothing varies), ``hue`` its value in words. Runs whose panel does not fit are left out, or, if ``every``
    run is wanted, have no panel.
    """
    trained = [part for part in study.parts if part.trains]
    if not trained:
        return pd.DataFrame()
    found, names, out = [], [], [part_name(part, trained) for part in trained[most:]]
    wanted = [len(grouped(part.runs, [axis for axis in part.axes if axis not in within(part)])) for part in trained]
    for i, part in enumerate(trained):
        axes = [axis for axis in part.axes if axis not in within(part)]
        own = part.runs.assign(panel=None)
        if i < most:
            prefix = part_name(part, trained) or ("" if axes else str(part.runs["task"].iloc[0]))
            own = panels(part.runs, axes, wanted[i] if sum(wanted) <= most else max(1, most // len(trained)))
            names += (
                new := [
                    f"{prefix}: {name}" if prefix and axes else prefix or str(name)
                    for name in own["panel"].cat.categories
                ]
            )
            out += [f"{prefix}: {rest}" if prefix else rest for rest in [own["left_out"].iloc[0]] if rest]
            own["panel"] = own["panel"].cat.rename_categories(new).astype(str)
            rest = part.runs[~part.runs["run_key"].isin(own["run_key"])]
            own = pd.concat([own, rest.assign(panel=None)]) if every and len(rest) else own
        hues = [named(part.column, value) for value in own[part.column]] if part.column else ""
        if every or i < most:
            found.append(own.assign(part=i, asked=part.column or "", hue=hues))
    data = pd.concat(found, ignore_index=True)
    data["panel"] = pd.Categorical(data["panel"], categories=names, ordered=True)
    return data.assign(left_out="; ".join(out))


def part_name(part: Part, trained: Sequence[Part]) -> str:
    """What tells a trained part from the others: its task, its sweep, or both; empty if there is no other."""
    task = str(part.runs["task"].iloc[0])
    tasks = [str(other.runs["task"].iloc[0]) for other in trained]
    return ", ".join([*([task] if len(set(tasks)) > 1 else []), *([part.sweep] if tasks.count(task) > 1 else [])])


def hues(data: pd.DataFrame) -> dict[str, dict[str, tuple[Any, str]]]:
    """By the axis that is asked about: its values in words and in order, each with its colour and marker."""
    found = {}
    for asked in data["asked"].unique():
        values = ordered(asked, data[asked]) if asked else [""]
        paint = colours(asked, values) if asked else {"": CATEGORIES[0]}
        words = [named(asked, value) if asked else "" for value in values]
        found[asked] = {
            w: (paint[v], MARKERS[i % len(MARKERS)]) for i, (w, v) in enumerate(zip(words, values, strict=True))
        }
    return found


def left_out(data: pd.DataFrame) -> str:
    """A sentence that names the panels that did not fit; empty if all did."""
    names = str(data["left_out"].iloc[0])
    return f"Not drawn, because there is no room: {names}; the tables have them." if names else ""


def alt_list(panels: Iterable[Any]) -> str:
    """Names of panels for an alternative text: nothing of one, some of many."""
    names = [str(name) for name in panels]
    return f", one each for {few(names, 8)}" if len(names) > 1 else ""


def inside(name: str) -> str:
    """A name that can stand in brackets: tanh, ρ = 1 of tanh (ρ = 1)."""
    return name.removesuffix(")").replace(" (", ", ", 1) if " (" in name else name


def spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, evenly spread, the first and last among them."""
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))]


# ---- colours


def colours(axis: str | None, values: Iterable[Any]) -> dict[Any, Any]:
    """A colour for every value of an axis: radii by their distance from 1, other numbers from light to dark, names by category."""
    known = list(values)
    if axis == "spectral_radius":
        return radius_colours(known)
    if axis == "clipping":
        return rule_colours(known)
    numeric = all(isinstance(v, int | float | np.number) for v in known)
    if numeric and len(known) > 2:
        return dict(zip(sorted(known), sns.color_palette("viridis_r", len(known) + 1)[1:], strict=True))
    return {value: CATEGORIES[i % len(CATEGORIES)] for i, value in enumerate(known)}


def rule_colours(values: Iterable[str]) -> dict[str, str]:
    """Ink for none; the others' colours by their order."""
    others = [rule for rule in ordered("clipping", values) if rule != "none"]
    return {"none": INK} | {rule: CATEGORIES[i % len(CATEGORIES)] for i, rule in enumerate(others)}


def radius_colours(radii: Iterable[float]) -> dict[float, Any]:
    """Blues below 1, ink at 1, oranges above: the further from 1, the lighter."""
    distinct = sorted(set(radii))
    below, above = [r for r in distinct if r < 1], [r for r in distinct if r > 1]
    blues = sns.blend_palette(_BELOW_ONE, max(2, len(below)))[-len(below) :] if below else []
    oranges = sns.blend_palette(_ABOVE_ONE, max(2, len(above)))[: len(above)]
    return {1.0: INK} | dict(zip(below, blues, strict=True)) | dict(zip(above, oranges, strict=True))


# ---- facts, and studies that have nothing to show


@dataclass(frozen=True)
class Nothing:
    """Why a study has nothing to show in a figure, and what to add to the config."""

    why: str
    add: str

    def facts(self) -> Facts:
        return facts(title=self.why, alt=f"An empty panel. {self.why} {self.add}", claims=[self.add], drawn=False)

    def draw(self) -> Figure:
        figure = Figure(figsize=(width(), 2.6), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        words = textwrap.fill(self.add, 78 if width() == PAGE_WIDTH else 36)
        axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=11.5, color="#444444")
        return figure


def facts(title: str, alt: str, claims: Iterable[str] = (), shown: Iterable[str] = (), drawn: bool = True) -> Facts:
    """What a figure states: ``title``, ``alt`` and ``claims`` are sentences with marked numbers; empty ones go.

    ``shown`` names what is drawn, for captions that explain only what is there.
    """
    said = [claim for claim in claims if claim]
    return {"title": title, "alt": spoken(plain(alt)), "claims": said, "shown": list(shown), "drawn": drawn}


# ---- page or phone


_WIDTH: ContextVar[float] = ContextVar("width", default=PAGE_WIDTH)


def width() -> float:
    """Inches that the figure is wide."""
    return _WIDTH.get()


def on_phone() -> bool:
    """Whether the figure is for a narrow screen."""
    return width() < PAGE_WIDTH


def columns(on_page: int, on_a_phone: int = 1) -> int:
    """How many panels stand side by side."""
    return on_a_phone if on_phone() else on_page


@contextmanager
def wide(inches: float) -> Iterator[None]:
    token = _WIDTH.set(inches)
    try:
        yield
    finally:
        _WIDTH.reset(token)


# ---- artists


def label_lines(ax: Axes, labels: Sequence[tuple[float, str, Any]], gap: float = 0.075, leaders: bool = False) -> None:
    """Names at the right end of lines, instead of a legend: (y, text, colour), moved apart where they would overlap.

    ``gap`` is the least distance, as a share of the axes' height; ``leaders`` lead from a line's end to its name. To be called
    when the limits are final.
    """
    scale = ax.yaxis.get_transform().transform  # a logarithmic axis has its own
    low, high = (float(scale(end)) for end in ax.get_ylim())
    place = sorted(
        ((min(max((float(scale(y)) - low) / (high - low), 0.0), 1.0), text, colour) for y, text, colour in labels),
        key=lambda p: p[0],
    )
    at = [p[0] for p in place]
    for _ in range(200):  # push neighbours apart, and back into the axes
        moved = False
        for i in range(len(at) - 1):
            short = gap - (at[i + 1] - at[i])
            if short > 1e-4:
                at[i], at[i + 1], moved = at[i] - short / 2, at[i + 1] + short / 2, True
        if at and at[0] < 0:
            at = [y - at[0] if i == 0 else y for i, y in enumerate(at)]
        if at and at[-1] > 1:
            at = [1.0 if i == len(at) - 1 else y for i, y in enumerate(at)]
        if not moved:
            break
    for (end, text, colour), y in zip(place, at, strict=True):
        x = 1.035 if leaders else 1.0
        if leaders:
            style: dict[str, Any] = {"transform": ax.transAxes, "clip_on": False, "gid": "leader"}
            ax.add_artist(Line2D([1.004, x], [end, y], color=colour, lw=0.8, **style))
        ax.annotate(
            text, (x, y), (2 if leaders else 5, 0), xycoords="axes fraction", textcoords="offset points",
            ha="left", va="center", fontsize=9.5, color=colour, fontweight="bold", gid="direct",
        )  # fmt: skip


@contextmanager
def theme() -> Iterator[None]:
    """White ground, ticks, type of at least 9 pt at the design width."""
    settings = {
        **sns.axes_style("ticks"),
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.labelsize": 10.5,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "legend.fontsize": 9.5,
        "legend.title_fontsize": 10,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#666666",
        "axes.linewidth": 0.8,
        "lines.solid_capstyle": "round",
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "gradient study",
    }
    with matplotlib.rc_context(settings):
        yield


def grid(
    count: int,
    columns: int,
    height: float,
    extra: float = 1.3,
    sharex: bool | Literal["all", "row", "col"] = True,
    sharey: bool | Literal["all", "row", "col"] = False,
    widths: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes in rows of ``columns``, ``height`` inches each, and ``extra`` inches around."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width(), rows * height + extra), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False, width_ratios=widths).flatten()
    for unused in axes[count:]:
        unused.set_axis_off()
    for above in axes[max(0, count - columns) : count]:
        above.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def grid_by_part(counts: Sequence[int], columns: int, height: float, extra: float = 1.3) -> tuple[Figure, list[Axes]]:
    """As ``grid`` without shared axes; every part of the study, of ``counts`` panels, begins a row of its own if parts have several."""
    if columns > 1 and max(counts) == 1:
        counts = [len(counts)]
    columns = min(columns, max(counts))
    rows = [math.ceil(count / columns) for count in counts]
    high = height if on_phone() else min(height, 10.5 / sum(rows)) if columns > 1 else height
    figure = Figure(figsize=(width(), sum(rows) * high + extra), layout="constrained")
    axes = figure.subplots(sum(rows), columns, squeeze=False)
    kept: list[Axes] = []
    for part, count in enumerate(counts):
        own = axes[sum(rows[:part]) : sum(rows[: part + 1])].flatten()
        kept += list(own[:count])
        for unused in own[count:]:
            unused.remove()
    return figure, kept


def edges(axes: Sequence[Axes], data: pd.DataFrame) -> list[tuple[bool, bool, bool]]:
    """Of every panel of ``grid_by_part``: whether its row, or its part of the study, begins and ends with it, and whether it is the
    lowest of its column and part."""
    parts = data.drop_duplicates("panel").set_index("panel")["part"].reindex(data["panel"].cat.categories).tolist()
    places = [ax.get_subplotspec() for ax in axes]
    columns = [place.colspan.start if place else 0 for place in places]
    found = []
    for i, column in enumerate(columns):
        first = column == 0 or parts[i - 1] != parts[i]
        last = i + 1 == len(columns) or columns[i + 1] == 0 or parts[i + 1] != parts[i]
        below = [j for j in range(i + 1, len(columns)) if columns[j] == column]
        found.append((first, last, not below or parts[below[0]] != parts[i]))
    return found


def under_title(ax: Axes, words: str) -> None:
    """A line, or several, between a panel's name and its axes."""
    ax.set_title(ax.get_title(loc="left") + "\n" * (words.count("\n") + 1), loc="left")
    ax.annotate(
        words, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=9.5, va="bottom",
        color="#444444", gid="under title",
    )  # fmt: skip


def plain_log_ticks(axes: Axes) -> None:
    """Ticks of a logarithmic y axis that stay readable where it spans little: 0.2, 0.5, 1."""
    low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if math.log10(high / low) < 2.2 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def label_below(axes: Sequence[Axes], columns: int, text: str) -> None:
    """The x label under the lowest panel of every column."""
    for ax in axes[max(0, len(axes) - columns) :]:
        ax.set_xlabel(text)


def panel_title(axes: Axes, text: str, wide: int = 30) -> None:
    """A panel's name above its left corner, wrapped."""
    axes.set_title(textwrap.fill(_joined(str(text)), wide, break_on_hyphens=False), loc="left")


def _joined(text: str) -> str:
    """What an equals sign, or a times sign, joins stays on one line."""
    for sign in (" = ", " × ", " %"):
        text = text.replace(sign, sign.replace(" ", "\u00a0"))
    return text


def handles(axis: str | None, values: Sequence[Any], most: int = 12, line: bool = True) -> list[Line2D]:
    """Legend entries of a hue: all values, or some evenly spread."""
    paint = colours(axis, values)
    return [
        Line2D(
            [], [], color=paint[value], lw=2.2 if line else 0, marker="" if line else MARKERS[i % len(MARKERS)],
            label=named(axis, value) if axis else str(value),
        )
        for i, value in enumerate(spread(list(values), most))
    ]  # fmt: skip


def headline(figure: Figure, text: str) -> None:
    """The finding, above everything."""
    figure.suptitle(
        textwrap.fill(_joined(plain(text)), 84), x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=INK
    )


# ---- saving


def render(
    snakemake: Any,
    frame: Callable[[Tables], pd.DataFrame],
    facts: Callable[[pd.DataFrame, Study], Facts],
    draw: Callable[[pd.DataFrame], Figure],
) -> None:
    """Tables in; PNG with its headline, SVG for the page and SVG for a phone without, and facts out: the same bytes from the same tables."""
    files = {table: getattr(snakemake.input, table) for table in store.TABLES}
    tables = Tables(files, own={"study": snakemake.params.study})
    data = frame(tables)
    found, pictures = facts(data, tables.study), {}
    with theme():
        figure = draw(data)
        pictures["svg"] = _save(figure, snakemake.output.svg)
        headline(figure, found["title"])
        pictures["png"] = _save(figure, snakemake.output.png)
        with wide(PHONE_WIDTH):
            pictures["phone"] = _save(draw(data), snakemake.output.phone)
    place = {"study": snakemake.params.study, "figure": Path(snakemake.output.png).stem}
    sealed_pictures.write_facts(snakemake.output.facts, {**place, "pictures": pictures, **found})


def _save(figure: Figure, file: str) -> str:
    """Write a picture; its digest."""
    kind, metadata = ("svg", {"Date": None}) if file.endswith(".svg") else ("png", {"Software": None})
    content = BytesIO()
    figure.savefig(content, format=kind, dpi=DPI, metadata=metadata)
    with written_aside(file) as aside:
        aside.write_bytes(content.getvalue())
    return seal.digest_of(content.getvalue())
