"""How a figure is laid out, on a page of 900 px and on a phone: grids of panels, titles, labels at the ends of lines, legends."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator

from study.report.facets import spread
from study.report.style import INK, PAGE_WIDTH, colours, marker
from study.report.words import named, number, plain

DECADES, WITHIN_DECADE = (1.0,), (1.0, 2.0, 5.0)  # steps of ticks on a logarithmic axis
LETTERS_PER_INCH = 10.5  # of a legend, beside its handle
LEAST_HIGH = 1.6  # inches of a row: the label of its axis and the names at the ends of its lines have their places
A_LINE, AROUND_A_PANEL = 0.14, 0.75  # inches of a line of words, and of what stands above and below a panel
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


def legend_below(
    figure: Figure, handles: Sequence[Artist], most: int, on_a_phone: int = 1, labels: Sequence[str] | None = None
) -> Legend:
    """A legend below the panels in as many columns, up to ``most``, as stand in the figure's width. ``labels`` instead of the handles' own.

    Names that are wider than the figure are wrapped. What a study calls its values decides how wide they are, so no number of columns is right for all.
    """
    words = list(labels or [str(handle.get_label()) for handle in handles])
    pairs = {tuple: HandlerTuple(ndivide=None, pad=0)}
    for columns_of_it in range(max(1, min(columns(most, on_a_phone), len(handles))), 0, -1):
        legend = figure.legend(handles, words, handler_map=pairs, loc="outside lower center", ncols=columns_of_it)
        if legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            return legend
        legend.remove()
    words = [wrapped(each, int(LETTERS_PER_INCH * width())) for each in words]
    return figure.legend(handles, words, handler_map=pairs, loc="outside lower center", ncols=1)


@contextmanager
def wide(inches: float) -> Iterator[None]:
    token = _WIDTH.set(inches)
    try:
        yield
    finally:
        _WIDTH.reset(token)


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
    """As ``grid`` without shared axes; every part of the study, of ``counts`` panels, begins a row of its own if it has several.

    Parts of one panel that follow each other share rows. Rows of many are lower, but not lower than ``LEAST_HIGH``.
    """
    columns, counts = _shape(counts, columns)
    rows = [math.ceil(count / columns) for count in counts]
    high = height if on_phone() or columns == 1 else row_height(height, sum(rows))
    figure = Figure(figsize=(width(), sum(rows) * high + extra), layout="constrained")
    axes = figure.subplots(sum(rows), columns, squeeze=False)
    used: list[Axes] = []
    for part, count in enumerate(counts):
        part_axes = axes[sum(rows[:part]) : sum(rows[: part + 1])].flatten()
        used += list(part_axes[:count])
        for unused in part_axes[count:]:
            unused.remove()
    return figure, used


def _shape(counts: Sequence[int], columns: int) -> tuple[int, Sequence[int]]:
    """(columns that are needed, the counts of panels that begin a row of their own) of ``grid_by_part``."""
    columns = min(columns, max(counts) if max(counts) > 1 else len(counts))
    return columns, _sharing_rows(counts) if columns > 1 else counts


def over_rows(counts: Sequence[int], columns: int, inches: Sequence[float]) -> float:
    """What the rows of ``grid_by_part`` take together if each takes the most that one of its panels does."""
    columns, counts = _shape(counts, columns)
    parts = [inches[end - n : end] for end, n in zip(itertools.accumulate(counts), counts, strict=True)]
    return sum(max(part[i : i + columns]) for part in parts for i in range(0, len(part), columns))


def _sharing_rows(counts: Sequence[int]) -> list[int]:
    """The counts of panels, those of parts with one panel that follow each other as one."""
    return [
        total
        for single, own in itertools.groupby(counts, lambda count: count == 1)
        for total in ([len(list(own))] if single else own)
    ]


def line_gap(ax: Axes, around: float) -> float:
    """The height of a line of words as a share of a panel's, of a figure with so many inches ``around`` its rows; for ``label_lines``."""
    place, figure = ax.get_subplotspec(), ax.get_figure(root=True)
    rows = place.get_gridspec().nrows if place else 1
    row = (figure.get_size_inches()[1] - around) / rows if figure else 2.0
    return A_LINE / (row - AROUND_A_PANEL)


def row_height(height: float, rows: int) -> float:
    """Inches of one row of so many that the figure would be too high with all of ``height``."""
    return min(height, max(LEAST_HIGH, 10.5 / rows))


def edges(axes: Sequence[Axes], data: pd.DataFrame) -> list[tuple[bool, bool, bool]]:
    """Of every panel of ``grid_by_part``: (is it the first of its row or part, is it the last, is it the lowest of its column in its part)."""
    part_of_panel = (
        data.drop_duplicates("panel").set_index("panel")["part"].reindex(data["panel"].cat.categories).tolist()
    )
    places = [ax.get_subplotspec() for ax in axes]
    columns = [place.colspan.start if place else 0 for place in places]
    panel_edges = []
    for i, column in enumerate(columns):
        first = column == 0 or part_of_panel[i - 1] != part_of_panel[i]
        last = i + 1 == len(columns) or columns[i + 1] == 0 or part_of_panel[i + 1] != part_of_panel[i]
        below = [j for j in range(i + 1, len(columns)) if columns[j] == column]
        panel_edges.append((first, last, not below or part_of_panel[below[0]] != part_of_panel[i]))
    return panel_edges


def right_ends(axes: Sequence[Axes], data: pd.DataFrame) -> list[bool]:
    """Of every panel of ``grid_by_part``, whether words may stand at its right: it reaches as far as any of its part.

    At the end of a shorter row they would push the next column aside, and the gaps would be uneven.
    """
    part = data.drop_duplicates("panel").set_index("panel")["part"].reindex(data["panel"].cat.categories).tolist()
    places = [ax.get_subplotspec() for ax in axes]
    column = [place.colspan.start if place else 0 for place in places]
    return [
        at == max(c for c, other in zip(column, part, strict=True) if other == own)
        for at, own in zip(column, part, strict=True)
    ]


def under_title(ax: Axes, words: str) -> None:
    """A line, or several, between a panel's name and its axes."""
    ax.set_title(ax.get_title(loc="left") + "\n" * (words.count("\n") + 1), loc="left")
    ax.annotate(
        words, (0, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", fontsize=9.5, va="bottom",
        color="#444444", gid="under title",
    )  # fmt: skip


def log_locator(low: float, high: float, *steps: tuple[float, ...]) -> Locator:
    """Where ticks of a logarithmic axis stand: by the first of ``steps``, numbers within a decade, that has two ticks on the axis.

    One tick alone gives a place and no scale. So where no step has two, ticks are at even distances: 0.08, 0.09, 0.1.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for each in steps:
        if sum(low <= step * 10.0**decade <= high for decade in decades for step in each) > 1:
            return LogLocator(subs=each, numticks=6)
    return MaxNLocator(4, steps=[1, 2, 5, 10])


def whole_numbers(most: int = 5) -> Locator:
    """Where ticks of steps, updates and indices stand: at whole numbers, also where there is one alone."""
    return MaxNLocator(most, integer=True, min_n_ticks=1)


def plain_log_ticks(axes: Axes) -> None:
    """Ticks of a logarithmic y axis that stay readable where it spans little: 0.2, 0.5, 1."""
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(log_locator(low, high, WITHIN_DECADE if math.log10(high / low) < 2.2 else DECADES))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def label_below(axes: Sequence[Axes], columns: int, text: str) -> None:
    """The x label under the lowest panel of every column."""
    for ax in axes[max(0, len(axes) - columns) :]:
        ax.set_xlabel(text)


def by_lag(data: pd.DataFrame, draw: Callable[[Axes, pd.DataFrame, float], None], label: str) -> Figure:
    """A figure of ``facets.start_panels`` against the lag: ``draw(axes, rows, height)`` of each, its name, and the label of all y axes."""
    names = list(data["panel"].cat.categories)
    across = int(data["across"].iloc[0])  # radii side by side
    side_by_side = min(len(names), columns(2 if across == 2 and len(names) > 2 else 3))
    height = 3.0 if len(names) <= 3 else 2.1
    figure, axes = grid(len(names), side_by_side, height, sharex=data["sequence_steps"].nunique() == 1)
    for ax, name in zip(axes, names, strict=True):
        if len(names) > 1:
            panel_title(ax, name, 30 if side_by_side < 3 else 26)
        draw(ax, data[data["panel"] == name], height)
    label_below(
        axes, side_by_side, "lag: steps back, T − t" if side_by_side > 1 else "lag: steps back from the end, T − t"
    )
    figure.supylabel(label, fontsize=10.5)
    return figure


def slant(ax: Axes, inches: float) -> None:
    """Names below an axis, so wrapped that they stand side by side in a panel of this width; where they do not, at a slant."""
    texts = [label.get_text() for label in ax.get_xticklabels()]
    ax.set_xticks(ax.get_xticks(), _side_by_side(texts, inches))
    if slant_height(texts, inches):
        ax.tick_params(axis="x", labelrotation=35)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def slant_height(names: list[str], inches: float) -> float:
    """Inches that the names of ``slant`` reach further down than side by side; 0 where they stand so."""
    longest = max((len(line) for name in _side_by_side(names, inches) for line in name.split("\n")), default=0)
    return 0.05 * longest if len(names) * (longest + 2) * 0.085 > inches - 0.8 else 0.0


def _side_by_side(names: list[str], inches: float) -> list[str]:
    """Names in lines so short that they have their places; as they are where a word is too long for that."""
    whole = [name.replace("_\n", "_").replace("\n", " ") for name in names]
    letters = int((inches - 0.8) / (0.085 * max(1, len(names)))) - 2
    narrow = [wrapped(name, max(5, letters)) for name in whole]
    fits = all(len(line) <= letters for name in narrow for line in name.split("\n"))
    return narrow if fits else names  # words on several lines are read more easily


def panel_title(axes: Axes, text: str, wide: int = 30) -> None:
    """A panel's name above its left corner, wrapped."""
    axes.set_title(wrapped(str(text), wide), loc="left")


def wrapped(text: str, wide: int) -> str:
    """A text in lines of at most ``wide`` letters; what belongs together stays on one line. A longer name is broken behind an underscore."""
    for words in (" = ", " × ", " %", "learning rate"):
        text = text.replace(words, words.replace(" ", "\u00a0"))
    pieces: list[tuple[str, str]] = []  # what stands before each on its line, and the piece
    for word in text.split(" "):
        parts = re.findall(r"[^_]*_+|[^_]+", word) if len(word) > wide else [word]
        pieces += [("" if i else " ", part) for i, part in enumerate(parts)]
    lines = [""]
    for before, piece in pieces:
        if lines[-1] and len(lines[-1] + before + piece) > wide:
            lines.append(piece)
        else:
            lines[-1] += (before if lines[-1] else "") + piece
    return "\n".join(lines)


def handles(axis: str | None, values: Sequence[Any], most: int = 12, line: bool = True) -> list[Line2D]:
    """Legend entries of a hue: all values, or some evenly spread."""
    paint = colours(axis, values)
    return [
        Line2D(
            [], [], color=paint[value], lw=2.2 if line else 0, marker="" if line else marker(i),
            label=named(axis, value) if axis else str(value),
        )
        for i, value in enumerate(spread(list(values), most))
    ]  # fmt: skip


def in_columns(groups: list[list[Line2D]]) -> list[Line2D]:
    """Entries of groups, so filled up that each group is a column of the legend; on a phone, below each other."""
    most = max(map(len, groups))
    if on_phone() or most > 6:
        return [entry for group in groups for entry in group]
    return [entry for group in groups for entry in [*group, *[Line2D([], [], ls="", label=" ")] * (most - len(group))]]


def headline(figure: Figure, text: str) -> None:
    """The finding, above everything."""
    figure.suptitle(wrapped(plain(text), 84), x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=INK)


def of_as_many_lines(texts: list[str]) -> list[str]:
    """Texts of as many lines each, so that the names above them stand in a row."""
    most = max(text.count("\n") + 1 if text else 0 for text in texts)
    return [text + "\n " * (most - 1 - text.count("\n")) if most else "" for text in texts]
