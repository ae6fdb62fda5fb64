"""What a study varies, as panels and hues: which runs stand in one panel, and which values are compared within it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex

from study.report.findings import BETWEEN_SWEEPS, Study
from study.report.measures import OF_CELLS, SCALES, TRAINING, Part, at_longest, grouped, scale_of, starts, varied, where
from study.report.reader import Tables
from study.report.style import CATEGORIES, INK, colours, marker
from study.report.words import OF_ALL, few, in_order, listed, name_of, named, ordered, unbracketed
from study.settings import described_axes

MOST_PANELS = 12
inside = unbracketed  # a name that can stand in brackets
OF_ONE_CELL = tuple(name for name, axis in described_axes().items() if len(axis["cells"]) == 1)
HUE_FIRST = (
    "initializer",
    "cell",
    "dtype",
    *OF_ONE_CELL,
    "hidden_size",
    "layers",
    "bidirectional",
    "input_scale",
    "activation",
)


def hue_axis(axes: Sequence[str], first: Sequence[str] = HUE_FIRST) -> str | None:
    """Of the axes that vary, the one whose values are compared within a panel: the first of ``first``, else the first."""
    return next((axis for axis in (*first, *axes) if axis in axes), None)


def panels(runs: pd.DataFrame, axes: Sequence[str], most: int = MOST_PANELS) -> pd.DataFrame:
    """The runs with their ``panel``: the values of ``axes`` in a name. ``left_out`` names the panels that do not fit.

    Where there are more than ``most``, values of the axes with the most of them are left out (``_thinned``). Where that does not
    help, every value of the first axis keeps a panel, or every sweep some.
    """
    if not axes:
        name = pd.Categorical(["all networks"] * len(runs), categories=["all networks"])
        return runs.assign(panel=name, left_out="")
    order = in_order(runs[list(axes)].drop_duplicates(), list(axes))
    places = _places(_sweeps_of(order, runs))
    if places is not None:  # those of one sweep stand together
        order, places = order.iloc[places.argsort(kind="stable")], places.sort_values(kind="stable")
    names = _names(order, axes, runs)
    order["panel"] = pd.Categorical(names, categories=names, ordered=True)
    kept = _thinned(order[list(axes)], most)
    if kept is None:
        drawn = order.iloc[_spread_over_first(order[axes[0]] if places is None else places, most)]
        unplaced = [name for name in names if name not in set(drawn["panel"])]
    else:
        drawn = order[np.logical_and.reduce([_is_one_of(order[axis], kept[axis]) for axis in axes])]
        unplaced = [
            named(axis, value)
            for axis in axes
            for value in order[axis].drop_duplicates()[~_is_one_of(order[axis].drop_duplicates(), kept[axis])]
        ]
    shown = runs.merge(drawn, on=list(axes))
    shown["panel"] = shown["panel"].cat.remove_unused_categories()
    return shown.assign(left_out=few(unplaced, 6) if unplaced else "")


def _sweeps_of(order: pd.DataFrame, runs: pd.DataFrame) -> list[list[str]]:
    """The sweeps of every row's runs."""
    axes = list(order)
    each = runs[["sweep", *axes]].drop_duplicates().merge(order.reset_index(drop=True).reset_index(), on=axes)
    return [sorted(sweeps) for _, sweeps in each.groupby("index")["sweep"]]


def _places(sweeps: list[list[str]]) -> pd.Series | None:
    """The place of every row's sweep, that of the most rows first; None where there is one sweep, or where two have a row in common."""
    if max(map(len, sweeps)) > 1 or len({sweep for sweep, *_ in sweeps}) < 2:
        return None
    rows = pd.Series([sweep for sweep, *_ in sweeps])
    ranked = sorted(rows.unique(), key=lambda sweep: (-int((rows == sweep).sum()), sweep))
    return rows.map(ranked.index)


def names_of(runs: pd.DataFrame, axes: Sequence[str]) -> dict[tuple[Any, ...], str]:
    """By the values of ``axes``, what panels of these runs are called; a setting that is not set is None."""
    if not axes:
        return {(): ""}
    order = runs[list(axes)].drop_duplicates()
    keys = [tuple(None if pd.isna(value) else value for value in row) for row in order.itertuples(index=False)]
    return dict(zip(keys, _names(order, axes, runs), strict=True))


def _names(order: pd.DataFrame, axes: Sequence[str], runs: pd.DataFrame) -> list[str]:
    """A name for every row. Of several sweeps each by its cell and what its own sweep varies, if that tells all rows apart."""
    rows = order[list(axes)].to_dict("records")
    names = [_name(row, axes, runs) for row in rows]
    if runs["sweep"].nunique() < 2:
        return names
    always = (*BETWEEN_SWEEPS, *OF_CELLS)
    varying = {sweep: {*varied(own, TRAINING), *always} for sweep, own in runs.groupby("sweep")}
    short = []
    for row, sweeps in zip(rows, _sweeps_of(order[list(axes)], runs), strict=True):
        own = {axis: value for axis, value in row.items() if any(axis in varying[sweep] for sweep in sweeps)}
        short.append(_name(own, axes, runs))
    return short if len(set(short)) == len(names) and "" not in short else names


def _name(row: Mapping[str, Any], axes: Sequence[str], runs: pd.DataFrame) -> str:
    """What nothing scales is told by its cell; a row without any setting by what it lacks."""
    cells = [] if "cell" in axes else _unscaled(row, runs)
    if cells:
        row = {"cell": listed(cells), **row}
    some = any(not pd.isna(value) for value in row.values())
    return name_of(row, first="cell" if cells else axes[0]) if some else listed([named(a, None) for a in row] or [""])


def _unscaled(row: Mapping[str, Any], runs: pd.DataFrame) -> list[str]:
    """The cells of runs at these settings of which no number scales the recurrent matrix, where that of others is scaled."""
    if not any(axis in row and pd.isna(row[axis]) for axis in SCALES) or any(
        pd.notna(row.get(axis)) for axis in SCALES
    ):
        return []
    return [str(cell) for cell in ordered("cell", where(runs, **row)["cell"])]


def start_axes(axes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of networks before training: the axes that are compared within a panel, and those that make panels.

    A cell's own settings go with the cell. Activation functions make panels.
    """
    first = hue_axis([axis for axis in axes if axis != "activation"])
    of_cell = [axis for axis in axes if first == "cell" and described_axes()[axis]["cells"]]
    hue = [first, *of_cell] if first else []
    return hue, [axis for axis in axes if axis not in hue]


def start_hues(runs: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """The runs with their ``hue``, what is compared within a panel, in a name (empty without axes), and its ``colour``."""
    if not axes:
        return runs.assign(hue=pd.Categorical([""] * len(runs), categories=[""], ordered=True), colour=INK)
    order = in_order(runs[list(axes)].drop_duplicates(), list(axes))
    names = _names(order, axes, runs)
    single = len(axes) == 1 and order[axes[0]].notna().all()
    keys = order[axes[0]].tolist() if single else names
    paint = colours(axes[0] if single else None, keys)
    order["colour"] = [to_hex(paint[key]) for key in keys]
    order["hue"] = pd.Categorical(names, categories=names, ordered=True)
    return runs.merge(order, on=list(axes))


def by_number(tables: Tables, axis_of: Callable[[Part], str | None], *measured: str) -> list[tuple[str, pd.DataFrame]]:
    """Networks before training, each once, by the number that their sweep is set out along: ``axis_of`` its part, or empty where names alone vary.

    ``sweeps`` names the sweeps. Sweeps of different numbers have no axis in common: beside spectral radii, a sweep of biases would be a heap at ρ = 1, and a cell without
    recurrent weights nowhere. The numbers of the largest sweep come first.
    """
    parts = tables.study.start_parts
    runs = tables.runs_of_sweeps(*measured) if parts else pd.DataFrame()
    sweeps: dict[str, list[str]] = {}
    for part in parts:
        sweeps.setdefault(axis_of(part) or "", []).extend(part.sweeps)
    return [
        (axis, starts(runs[runs["sweep"].isin(names)].drop_duplicates("run_key")).assign(sweeps=listed(names)))
        for axis, names in sweeps.items()
    ]


def start_panels(runs: pd.DataFrame, place: Callable[..., pd.DataFrame] = panels) -> pd.DataFrame:
    """Starts at the longest sequence of their kind with their ``panel``, one a setting: of more than three spectral radii, or weight
    scales, ``three_scales``.

    ``fewer``: whether some of them are left out; ``across``: how many stand side by side; ``scaled_by``: what they are. ``place`` gives panels.
    """
    axes = [axis for axis in varied(runs, TRAINING) if axis != "sequence_length"]
    runs, scale = at_longest(runs, axes), scale_of(runs)
    others = [axis for axis in axes if axis != scale]
    fewer = scale in axes and runs[scale].nunique() > 3
    if fewer:
        runs = pd.concat([three_scales(rows, scale) for _, rows in grouped(runs, others)])
    across = max(rows[scale].nunique() for _, rows in grouped(runs, others))
    shown = place(runs, [*others, *([scale] if scale in axes else [])]).reset_index(drop=True)
    return shown.assign(fewer=fewer, across=across, scaled_by=scale)


def by_panel(runs: pd.DataFrame, make: Callable[[pd.DataFrame], pd.DataFrame], along: str) -> pd.DataFrame:
    """What ``make`` gives of the runs of every panel, which it keeps: panel after panel, each in the order of the column ``along``."""
    data = pd.concat([make(rows) for _, rows in runs.groupby("panel", observed=True)], ignore_index=True)
    data["panel"] = pd.Categorical(data["panel"], categories=runs["panel"].cat.categories, ordered=True)
    return data.sort_values(["panel", along], ignore_index=True)


def three_scales(runs: pd.DataFrame, axis: str) -> pd.DataFrame:
    """The runs at the smallest and the largest spectral radius, or weight scale, and at that between them whose growth is nearest to zero.

    Runs without one stay: their cell has no recurrent matrix, or another number scales it.
    """
    mean = runs["growth_rate"].where(np.isfinite(runs["growth_rate"])).groupby(runs[axis]).mean().abs()
    if mean.empty:
        return runs
    inner = mean.iloc[1:-1]
    between = [] if inner.empty else [inner.index[inner.fillna(np.inf).to_numpy().argmin()]]
    return runs[runs[axis].isin([mean.index[0], *between, mean.index[-1]]) | runs[axis].isna()]


def _thinned(order: pd.DataFrame, most: int) -> dict[str, list[Any]] | None:
    """Of a full grid (a row a panel), the values of every axis that are drawn: at most so many panels, the ends of every axis among them.

    Axes with the most values lose some first. None where the rows are no grid, or two values of every axis are still too many.
    """
    every = {str(axis): order[axis].drop_duplicates().tolist() for axis in order}
    if len(order) < math.prod(map(len, every.values())):
        return None
    kept = dict(every)
    while math.prod(map(len, kept.values())) > most:
        axis = max(kept, key=lambda each: len(kept[each]))
        if len(kept[axis]) == 2:
            return None
        kept[axis] = spread(every[axis], len(kept[axis]) - 1)
    return kept


def _is_one_of(values: pd.Series, kept: Sequence[Any]) -> np.ndarray:
    """Which of the values are kept; what is not set is one of them where it is kept."""
    known = [value for value in kept if not pd.isna(value)]
    return np.asarray(values.isin(known) | (values.isna() & (len(known) < len(kept))))


def _spread_over_first(first: pd.Series, most: int) -> list[int]:
    """Rows to keep, in order: of every value of the first axis as many as there is room for, evenly spread."""
    if len(first) <= most:
        return list(range(len(first)))
    groups = [np.flatnonzero(first.isna() if pd.isna(value) else first == value) for value in first.drop_duplicates()]
    if len(groups) > most:
        groups = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, most).round().astype(int))]
    most_each = max(1, most // len(groups))
    chosen = [g[np.unique(np.linspace(0, len(g) - 1, min(most_each, len(g))).round().astype(int))] for g in groups]
    return sorted(int(i) for group in chosen for i in group)


def trained_panels(
    study: Study, within: Callable[[Part], Iterable[str | None]], most: int = MOST_PANELS, every: bool = False
) -> pd.DataFrame:
    """The trained runs with their results, part by part of the study (``part``: 0, 1 …), and their ``panel``.

    ``within(part)`` names the axes whose values share one panel. The part's other axes make panels.
    ``asked`` is the axis that the part asks about; it is empty where nothing varies. ``hue`` is that axis' value in words.
    Runs whose panel does not fit are left out. If ``every`` run is wanted, they stay and have no panel.
    """
    trained = study.trained_parts
    if not trained:
        return pd.DataFrame()
    placed_parts, names, no_room = [], [], {"": [part_name(part, trained) for part in trained[most:]]}
    panels_wanted = [
        len(grouped(part.runs, [axis for axis in part.axes if axis not in within(part)])) for part in trained
    ]
    for i, part in enumerate(trained):
        axes = [axis for axis in part.axes if axis not in within(part)]
        part_runs = part.runs.assign(panel=None)
        if i < most:
            prefix = part_name(part, trained) or ("" if axes else str(part.runs["task"].iloc[0]))
            part_runs = panels(
                part.runs, axes, panels_wanted[i] if sum(panels_wanted) <= most else max(1, most // len(trained))
            )
            names += (
                new := [
                    f"{prefix}: {name}" if prefix and axes else prefix or str(name)
                    for name in part_runs["panel"].cat.categories
                ]
            )
            if others := part_runs["left_out"].iloc[0]:
                no_room.setdefault(others, []).append(prefix)
            part_runs["panel"] = part_runs["panel"].cat.rename_categories(new).astype(str)
            unplaced = part.runs[~part.runs["run_key"].isin(part_runs["run_key"])]
            part_runs = pd.concat([part_runs, unplaced.assign(panel=None)]) if every and len(unplaced) else part_runs
        hues = [named(part.column, value) for value in part_runs[part.column]] if part.column else ""
        if every or i < most:
            placed_parts.append(part_runs.assign(part=i, asked=part.column or "", hue=hues))
    data = pd.concat(placed_parts, ignore_index=True)
    data["panel"] = pd.Categorical(data["panel"], categories=names, ordered=True)
    return data.assign(left_out=_without_room(no_room, len(trained)))


def _without_room(no_room: Mapping[str, Sequence[str]], parts: int) -> str:
    """What did not fit, in words: whole parts, and by what their panels are called, the parts that they are of."""
    whole, others = no_room[""], {text: names for text, names in no_room.items() if text}
    words = [
        text if len(names) == parts or not any(names) else f"{text} of {few(names, 4)}"
        for text, names in others.items()
    ]
    return listed([*words, *([few(whole, 4)] if whole else [])]) if words or whole else ""


def part_name(part: Part, trained: Sequence[Part]) -> str:
    """What tells a trained part from the others: its task, its sweep, or both; empty if there is no other."""
    task = str(part.runs["task"].iloc[0])
    tasks = [str(other.runs["task"].iloc[0]) for other in trained]
    return ", ".join([*([task] if len(set(tasks)) > 1 else []), *([part.sweep] if tasks.count(task) > 1 else [])])


def of_part(part: Part, trained: Sequence[Part]) -> str:
    """The same behind a noun: on digits; of sweep rules; on digits, sweep rules. Empty if there is no other."""
    name, task = part_name(part, trained), str(part.runs["task"].iloc[0])
    if not name or name == task:
        return f" on {name}" if name else ""
    return f" of sweep {name}" if name == part.sweep else f" on {task}, sweep {part.sweep},"


def hues(data: pd.DataFrame) -> dict[str, dict[str, tuple[Any, str]]]:
    """By the axis that is asked about, its values in words and in order, with colour and marker; of several axes none twice. Clipping rules keep theirs."""
    looks: dict[str, dict[str, tuple[Any, str]]] = {asked: {} for asked in data["asked"].unique()}
    taken: set[Any] = set()
    for asked in sorted(looks, key=lambda axis: axis != "clipping"):
        values = ordered(asked, data.loc[data["asked"] == asked, asked]) if asked else [""]
        used = sum(colour.lower() in taken for colour in CATEGORIES)
        paint = colours(asked or None, values, used)
        looks[asked] = {named(asked, v) if asked else "": (paint[v], marker(used + i)) for i, v in enumerate(values)}
        taken |= set(map(to_hex, paint.values()))
    return looks


def left_out(data: pd.DataFrame, headline: bool = False) -> str:
    """What names the panels that did not fit, and says that the ``headline`` is of all; empty if all are drawn."""
    names = [name for name in data["left_out"].unique() if name]
    of_all = OF_ALL if headline and (names or ("fewer" in data and data["fewer"].any())) else ""
    return " ".join(filter(None, [not_drawn(listed(names) if names else ""), of_all]))


def not_drawn(names: str) -> str:
    """A sentence that names what did not fit; empty where all did."""
    return f"Not drawn, because there is no room: {names}. The tables have all." if names else ""


def alt_list(panels: Iterable[Any]) -> str:
    """Names of panels for an alternative text: nothing of one, some of many."""
    names = [str(name) for name in panels]
    return f", one each for {few(names, 3)}" if len(names) > 1 else ""


def alt_panels(panels: Iterable[Any]) -> str:
    """The same as a sentence of its own, for panels with long names."""
    return f"Panels: {few(map(str, panels), 3)}."


def spread(values: Sequence[Any], most: int) -> list[Any]:
    """At most so many of the values, evenly spread, the first and last among them."""
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int))]
