"""Where gradients vanish, stay or explode: spectral radius × sequence length, and the border between shrinking and growing."""

import math
from typing import Any

import matplotlib.patches
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rnn_core.theory import REGIME_DECADES
from rnn_core.theory import regime as regime_of
from study.report import drawing, facets, layout, measures, reader, style
from study.report.findings import Study
from study.report.phrases import counted
from study.report.words import decimals, listed, marked_count, number, signed
from study.settings import axis_label, described_axes

NOTHING = drawing.Nothing(
    "There is no map, because no sweep of this study has several sequence lengths and several values of another number.",
    "Add a sweep with several values of spectral_radius and of sequence_length (2 or more).",
)
BOUNDS = (int(REGIME_DECADES), 10, 30, 100)  # decades; the first is where "stable" ends
COLOURS = {"blue": "blue vanishing", "pale": "white stable", "red": "red exploding"}
GROUP = ["panel", "row", "sequence_length"]
Edge = list[tuple[float, float]]
BORDER, UNDERLAY = 3.0, 2.6  # points: of the border, and of the white below theory's
SHARED = 6.5  # points of the border where theory's covers it: it shows on both sides
MOST_COLUMNS = 16  # more have no room for numbers


def frame(tables: reader.Tables) -> pd.DataFrame:
    """Panel × row × T: median over networks of log10(‖∂L/∂h_1‖/‖∂L/∂h_T‖), and how many networks vanish, stay and explode.

    ``predicted`` is the median of what theory says, predicted_rate over all steps but one, in decades; nan where it says nothing of a network.
    It is nan, too, where sequences of a file end earlier than at T (``early``): they have fewer steps, and lead the norm of a batch.
    A ``row`` is a value of ``axis``: the spectral radius, or else the number with the most values in the sweep. An exactly zero gradient
    counts as −∞. ``agree``: all networks are of one regime. ``drawn``: there is room for the panel.
    """
    by_axis = facets.by_number(
        tables, _axis_of, "log10_gradient_ratio", "regime", "predicted_rate", "settled_to", "data"
    )
    maps = [each for each in (_maps(axis, runs) for axis, runs in by_axis if axis) if len(each)]
    if not maps:
        return pd.DataFrame()
    names = [list(each["panel"].cat.categories) for each in maps]
    if len(maps) > 1:  # panels of different sweeps may be named alike
        for i, each in enumerate(maps):
            new = [f"sweep {each['sweeps'].iloc[0]}" + (f": {n}" if len(names[i]) > 1 else "") for n in names[i]]
            each["panel"], names[i] = each["panel"].cat.rename_categories(new), new
    data = pd.concat(maps, ignore_index=True)
    data["panel"] = pd.Categorical(data["panel"], categories=[n for each in names for n in each], ordered=True)
    return data[
        [
            *GROUP,
            "axis",
            "median",
            "predicted",
            "added",
            "early",
            "of a file",
            "networks",
            *measures.REGIMES,
            "lost",
            "agree",
            "drawn",
            "left_out",
        ]
    ]


def _axis_of(part: measures.Part) -> str | None:
    """What makes the rows of a sweep's map; None where there is none."""
    axes = measures.varied(part.runs, measures.TRAINING)
    return measures.number_axis(part.runs, [name for name in axes if name != "sequence_length"])


def _maps(axis: str, runs: pd.DataFrame) -> pd.DataFrame:
    """The cells of the maps of sweeps with this axis, panel by panel; empty where no panel has two rows and two columns."""
    axes = measures.varied(runs, measures.TRAINING)
    panel_axes = [name for name in axes if name not in (axis, "sequence_length")]
    with_room = facets.panels(runs, panel_axes)
    runs = facets.panels(runs, panel_axes, most=len(runs))
    runs = runs.assign(row=runs[axis], drawn=runs["panel"].isin(with_room["panel"].cat.categories))
    runs["left_out"] = with_room["left_out"].iloc[0]
    runs["early"] = measures.end_early(runs)
    runs = runs[_has_map(runs)]
    if runs.empty or not runs["drawn"].any() or runs["log10_gradient_ratio"].isna().all():
        return pd.DataFrame()
    cells = [_cell(rows) | dict(zip(GROUP, key, strict=True)) for key, rows in runs.groupby(GROUP, observed=True)]
    panels = [name for name in runs["panel"].cat.categories if (runs["panel"] == name).any()]
    data = pd.DataFrame(cells).assign(axis=axis, **{name: runs[name].iloc[0] for name in ("left_out", "sweeps")})
    data["panel"] = pd.Categorical(data["panel"], categories=panels, ordered=True)
    return data


def _has_map(runs: pd.DataFrame) -> pd.Series:
    """Runs of panels with two rows and two columns at least."""
    by = runs.groupby("panel", observed=True)
    return (by["row"].transform("nunique") > 1) & (by["sequence_length"].transform("nunique") > 1)


def _cell(rows: pd.DataFrame) -> dict[str, Any]:
    counts, predicted = measures.regime_counts(rows), measures.predicted_decades(rows)
    early = bool(rows["early"].any()) and not math.isnan(predicted)
    return {
        "median": measures.median_decades(rows),
        "predicted": math.nan if early else predicted,
        "early": early,
        "of a file": bool(rows["data"].notna().any()) and not early and not math.isnan(predicted),
        "added": bool((measures.steps(rows) > rows["sequence_length"]).any()),
        "networks": len(rows),
        "drawn": bool(rows["drawn"].iloc[0]),
        **{regime: counts[regime] for regime in measures.REGIMES},
        "lost": counts["not finite"],
        "agree": max(counts.values()) == len(rows),
    }


# ---- facts


def facts(data: pd.DataFrame, _: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    cells, without_number = _cells(data), int(data["lost"].sum())
    title, data = _title(cells), _drawn(data)
    axes = list(dict.fromkeys(data["axis"]))
    shown = [
        *(["border"] if any(_borders(table) for table in _tables(data)) else []),
        *(["theory"] if any(_theory_borders(rows) for rows in _panels(data)) else []),
        *(["together"] if any(map(_together, _panels(data))) else []),
        *(["split"] if not data["agree"].all() else []),
        *(["several"] if data["networks"].max() > 1 else []),
        *_colours_there(data),
        *(["one"] if _around_one(data[data["axis"] == "spectral_radius"]["row"]) else []),
        *(["zeros"] if (data["median"] == -np.inf).any() else []),
        *(["radius"] if axes == ["spectral_radius"] else []),
        *(["added"] if data["added"].any() else []),
        *(name for name in ("early", "of a file") if data[name].any()),
    ]
    split = cells[~cells["agree"]]
    disagree = (
        f"Networks of one kind disagree about it in {marked_count(len(split), 'map_settings_split')} of "
        f"{marked_count(len(cells), 'map_settings')} settings."
        if len(split)
        else ""
    )
    gone = (
        f"Without a number to show: {counted(without_number, 'network', marked_count(without_number, 'map_without_ratio'))}."
        if without_number
        else ""
    )
    alt = (
        f"Heat maps{facets.alt_list(data['panel'].cat.categories)}: {listed((str(described_axes()[axis]['label']) for axis in axes), 'or')} upwards, sequence "
        "length to the right. Colour is for the decades by which the gradient changes from the last step back to the first: "
        f"{listed(COLOURS[colour] for colour in _colours_there(data))}. {title}"
    )
    return drawing.facts(title, alt, [disagree, _predicted(cells), gone, facets.left_out(data, headline=True)], shown)


def _around_one(radii: pd.Series) -> bool:
    return bool(len(radii) and radii.min() < 1 < radii.max())


def _colours_there(data: pd.DataFrame) -> list[str]:
    """Which of the map's three kinds of colour there are."""
    value, stable = data["median"], BOUNDS[0]
    there = {"blue": value < -stable, "pale": value.abs() <= stable, "red": value > stable}
    return [colour for colour in COLOURS if there[colour].any()]


def _cells(data: pd.DataFrame) -> pd.DataFrame:
    """Every setting of the maps: its T, whether all its networks stay, whether they agree, and whether theory is right."""
    known = data["median"].notna() & data["predicted"].notna()
    regimes = [data[column].map(regime_of) for column in ("median", "predicted")]
    return pd.DataFrame(
        {
            "T": data["sequence_length"].astype(int),
            "kind": [(str(panel), row) for panel, row in zip(data["panel"], data["row"], strict=True)],
            "stay": data["stable"] == data["networks"],
            "agree": data["agree"],
            "predicted": known,
            "as predicted": known & (regimes[0] == regimes[1]),
        }
    )


def _predicted(cells: pd.DataFrame) -> str:
    """In how many settings theory has the median network right."""
    known = cells[cells["predicted"]]
    if known.empty:
        return ""
    right = marked_count(int(known["as predicted"].sum()), "map_settings_as_predicted")
    total = marked_count(len(known), "map_settings_predicted")
    return f"Theory is right about whether the median gradient vanishes, stays or explodes in {right} of {total} settings{' that it speaks of' * (len(known) < len(cells))}."


def _title(cells: pd.DataFrame) -> str:
    """In how many settings every network keeps its gradient, at the shortest and at the longest sequence: of those that have both."""
    both = cells.assign(
        first=cells.groupby("kind")["T"].transform("min"), last=cells.groupby("kind")["T"].transform("max")
    )
    both = both[both["first"] < both["last"]]
    ends = both.value_counts(["first", "last"]).index[0]  # of the most settings
    both = both[(both["first"] == ends[0]) & (both["last"] == ends[1])]
    short, long = (both[both["T"] == T] for T in ends)
    total, stay = len(short), [int(at_length["stay"].sum()) for at_length in (short, long)]
    lengths = [marked_count(int(T), "setting", axis="sequence_length") for T in ends]
    if stay[0] == stay[1] and stay[0] in (0, total):
        if stay[0]:
            return f"In every setting, every network keeps its gradient, at T = {lengths[0]} as at T = {lengths[1]}."
        return (
            f"In no setting does every network keep its gradient, neither at T = {lengths[0]} nor at T = {lengths[1]}."
        )
    where = {"first": int(ends[0]), "last": int(ends[1])}
    counts = [
        marked_count(count, "map_settings_stay", sequence_length=int(T), **where)
        for count, T in zip(stay, ends, strict=True)
    ]
    of = marked_count(total, "map_settings_with_both", **where)
    change = "fewer" if stay[1] < stay[0] else "more" if stay[1] > stay[0] else "as many"
    return f"Longer sequences leave {change} settings in which every network keeps its gradient: {counts[0]} of {of} at T = {lengths[0]}, {counts[1]} at T = {lengths[1]}."


# ---- drawing


def colours() -> tuple[ListedColormap, BoundaryNorm]:
    """Diverging, in steps: the two palest on either side of 0 are the stable band, the arrows hold what lies beyond."""
    bounds = [-b for b in reversed(BOUNDS)] + [0, *BOUNDS]
    shades = np.array([0.06, 0.3, 0.5, 0.7, 0.92])
    palette = sns.color_palette("RdBu_r", as_cmap=True)(np.concatenate([0.5 - shades[::-1] / 2, 0.5 + shades / 2]))
    return ListedColormap(palette), BoundaryNorm(bounds, len(palette), extend="both")


def _tables(data: pd.DataFrame) -> list[pd.DataFrame]:
    """Median decades of every panel, rows × T, the largest value on top."""
    return [_table(rows, "median") for rows in _panels(data)]


def _table(cells: pd.DataFrame, values: str) -> pd.DataFrame:
    return cells.pivot(index="row", columns="sequence_length", values=values).sort_index(ascending=False)


def _panels(data: pd.DataFrame) -> list[pd.DataFrame]:
    return [rows for _, rows in data.groupby("panel", observed=True)]


def _drawn(data: pd.DataFrame) -> pd.DataFrame:
    """The cells of panels that have room."""
    data = data[data["drawn"]]
    return data.assign(panel=data["panel"].cat.remove_unused_categories())


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    data = _drawn(data)
    names, tables = list(data["panel"].cat.categories), _tables(data)
    columns = min(len(names), layout.columns(2 if len(names) <= 4 else 3))
    rows = max(len(table) for table in tables)
    height = min(3.8, max(1.9, 0.75 + 0.25 * rows))
    if len(names) <= columns and not layout.on_phone():
        height = max(height, 2.7)  # the colour bar's labels need that
    figure, axes = layout.grid(len(names), columns, height, extra=1.7 if layout.on_phone() else 1.0, sharex=False)
    cmap, norm = colours()
    for ax, (name, cells), table in zip(axes, data.groupby("panel", observed=True), tables, strict=True):
        _panel(ax, table, cells, cmap, norm, table.shape[1] <= MOST_COLUMNS // columns and rows <= 14)
        if len(names) > 1:
            layout.panel_title(ax, str(name), 30 if columns == 2 else 24)
    layout.label_below(axes, columns, axis_label("sequence_length"))
    for i, (ax, cells) in enumerate(zip(axes, _panels(data), strict=True)):
        if not i % columns or data["axis"].nunique() > 1:
            ax.set_ylabel(axis_label(str(cells["axis"].iloc[0])))
    _colour_bar(figure, axes, cmap, norm)
    _legend(figure, data, tables, cmap, norm)
    return figure


def _colour_bar(figure: Figure, axes: list[Axes], cmap: ListedColormap, norm: BoundaryNorm) -> None:
    """Beside the panels; on a phone below them."""
    place = (
        {"location": "bottom", "aspect": 30, "fraction": 0.05}
        if layout.on_phone()
        else {"aspect": 35, "fraction": 0.05}
    )
    bar = figure.colorbar(ScalarMappable(norm, cmap), ax=axes, ticks=norm.boundaries, **place)
    labels = [signed(b) for b in norm.boundaries]
    (bar.ax.set_xticklabels if layout.on_phone() else bar.ax.set_yticklabels)(labels)
    bar.set_label(style.RATIO % "1" + " (decades)")


def _panel(
    ax: Axes, table: pd.DataFrame, cells: pd.DataFrame, cmap: ListedColormap, norm: BoundaryNorm, numbers: bool
) -> None:
    """Cells of equal size, whatever the step between the values."""
    values = table.to_numpy(dtype=float)
    finite = np.where(np.isneginf(values), -1e300, values)  # exactly zero: the colour of the most vanishing
    texts = np.vectorize(_cell_text, otypes=[object])(values)
    ax.set_facecolor("#dddddd")
    ax.patch.set(hatch="///", edgecolor=style.FAINT)
    sns.heatmap(
        pd.DataFrame(finite, index=table.index, columns=table.columns), ax=ax, cmap=cmap, norm=norm, cbar=False, linewidths=0.8,
        linecolor="white", annot=texts if numbers else False, fmt="", annot_kws={"fontsize": 9},
        xticklabels=False, yticklabels=False,  # seaborn would lay out the figure once for each label, and keep it all
    )  # fmt: skip
    theory, borders = _theory_borders(cells), _borders(table)
    widths = [SHARED if edge in theory else BORDER for edge in borders]
    ax.add_collection(
        LineCollection(borders, colors=style.INK, linewidths=widths, capstyle="round", gid="border", zorder=4)
    )
    for paint, width, style_of, gid in (
        ("white", UNDERLAY, "-", "theory underlay"),
        ("#111111", 1.5, (0, (2.5, 1.6)), "theory"),
    ):
        ax.add_collection(LineCollection(theory, colors=paint, linewidths=width, linestyles=[style_of], capstyle="butt", gid=gid, zorder=4.5))  # fmt: skip
    corners = _corners(table, cells)
    ax.add_collection(PatchCollection(corners, facecolor="#6a3d9a", edgecolor="white", lw=0.6, gid="split", zorder=3))
    ax.set(xlabel="", ylabel="")
    ax.set_xticks(*_ticks(table.columns, 12), rotation=0)
    ax.set_yticks(*_ticks(table.index, 14), rotation=0)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _borders(table: pd.DataFrame) -> list[Edge]:
    """Edges between a cell that shrinks and a neighbour that does not: never through a number."""
    values = table.to_numpy(dtype=float)
    return _edges(np.where(np.isnan(values), np.nan, np.where(values >= 0, 1.0, 0.0)))


def _theory_borders(cells: pd.DataFrame) -> list[Edge]:
    """Edges between cells of which theory says vanish, stay and explode: its rate over all steps but one passes ±2 decades there."""
    values = _table(cells, "predicted").to_numpy(dtype=float)
    return _edges(np.where(np.isnan(values), np.nan, np.sign(values) * (np.abs(values) > BOUNDS[0])))


def _together(cells: pd.DataFrame) -> bool:
    """Whether the border and theory's share an edge."""
    theory = _theory_borders(cells)
    return any(edge in theory for edge in _borders(_table(cells, "median")))


def _edges(kinds: np.ndarray) -> list[Edge]:
    """Edges between neighbours of two kinds; a cell that is nan has none."""
    rows, columns = kinds.shape
    segments = []
    for i in range(rows):
        for j in range(columns):
            if i + 1 < rows and abs(kinds[i, j] - kinds[i + 1, j]) > 0:
                segments.append([(float(j), i + 1.0), (j + 1.0, i + 1.0)])
            if j + 1 < columns and abs(kinds[i, j] - kinds[i, j + 1]) > 0:
                segments.append([(j + 1.0, float(i)), (j + 1.0, i + 1.0)])
    return segments


def _corners(table: pd.DataFrame, cells: pd.DataFrame) -> list[matplotlib.patches.Polygon]:
    """A triangle in the corner of cells whose networks disagree about the regime."""
    triangles = []
    for cell in cells[~cells["agree"]].to_dict("records"):
        i, j = table.index.get_loc(cell["row"]), table.columns.get_loc(cell["sequence_length"])
        triangles.append(matplotlib.patches.Polygon([(j + 0.82, i), (j + 1, i), (j + 1, i + 0.42)]))
    return triangles


def _cell_text(value: float) -> str:
    if math.isnan(value):
        return ""
    if math.isinf(value):
        return "0"
    return decimals(value, 1 if abs(value) < 9.95 else 0)


def _ticks(values: pd.Index, most: int) -> tuple[list[float], list[str]]:
    """Centres and labels of at most so many cells."""
    shown = facets.spread(list(range(len(values))), most)
    return [i + 0.5 for i in shown], [number(float(values[i])) for i in shown]


def _legend(
    figure: Figure, data: pd.DataFrame, tables: list[pd.DataFrame], cmap: ListedColormap, norm: BoundaryNorm
) -> None:
    """Only what is there."""
    band = tuple(Patch(facecolor=cmap(norm(side)), edgecolor=style.FAINT) for side in (-1.0, 1.0))
    corner = Line2D([], [], marker=[(-1, 1), (1, 1), (1, -1), (-1, 1)], ms=9, ls="", mfc="#6a3d9a", mec="white")
    several = data["networks"].max() > 1
    entries: list[tuple[bool, Any, str]] = [
        (any(_borders(t) for t in tables), Line2D([], [], color=style.INK, lw=3.0), "border between shrinking and growing"),
        (any(_theory_borders(rows) for rows in _panels(data)), Line2D([], [], color="#111111", lw=1.5, ls=(0, (2.5, 1.6))), "theory: where stable begins and ends"),
        ("pale" in _colours_there(data), band, f"stable: {'median ' if several else ''}within ±2 decades"),
        (not data["agree"].all(), corner, "networks disagree about the regime"),
        (any(t.isna().any(axis=None) for t in tables), Patch(fc="#dddddd", hatch="///", ec=style.FAINT), "no run, or not a number"),
    ]  # fmt: skip
    handles, labels = [entry[1] for entry in entries if entry[0]], [entry[2] for entry in entries if entry[0]]
    if handles:
        layout.legend_below(figure, handles, most=2, labels=labels)
