"""The cliff: the loss of one recurrent unit over its weight and bias, how steep its wall is, and where gradient descent goes there."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from study.report import drawing, layout, reader, style
from study.report.findings import Study
from study.report.words import marked, marked_count, named, number, ordered, power

NOTHING = drawing.Nothing(
    "This study has no surface of a single unit.",
    "Add the key cliff to the config; studies/cliff.yaml has one.",
)
COLUMNS = ["what", "clipping", "update", "weight", "bias", "loss", "grad_bias", "log10_grad_norm"]
LEVELS = (0.001, 0.01, 0.04, 0.16, 0.36)  # of the loss: contours
WALL = 1.0  # log10 of the gradient: a ridge that is nowhere steeper is a hill
LOWEST = -2.0  # log10 of the gradient below which all has one colour
RULE_LINES = ((0, ()), (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.2, 1.2, 1.2)))


def frame(tables: reader.Tables) -> pd.DataFrame:
    """The table ``cliff``: ``what`` is surface, ridge or descent; a path has its rule and update."""
    return tables.read("cliff", COLUMNS) if "cliff" in tables.files else pd.DataFrame()


# ---- facts


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    ridge, paths = _ridge(data), _paths(data)
    title = _title(data, ridge)
    shown = [
        *(["ridge"] if len(ridge) else []),
        *(["left"] if any(_left(data, path) is not None for _, path in paths) else []),
    ]
    alt = (
        "Map of a unit's weight, to the right, and bias, upwards. Colour is for the decimal logarithm of the gradient of the loss, thin "
        f"lines for the loss. Each clipping rule has a path of gradient descent. {title}"
    )
    said = [_path_words(data, *each) for each in paths]
    return drawing.facts(title, alt, [_grid_misses(data, ridge), *said], shown, answer=said)


def _ridge(data: pd.DataFrame) -> pd.DataFrame:
    """The ridge by weight; empty where it is no wall."""
    ridge = data[data["what"] == "ridge"].sort_values("weight")
    return ridge if len(ridge) > 2 and ridge["log10_grad_norm"].max() > WALL else ridge.iloc[:0]


def _paths(data: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Rule and points of every path, in the order of the rules."""
    rows = data[data["what"] == "descent"]
    return [
        (rule, rows[rows["clipping"] == rule].sort_values("update")) for rule in ordered("clipping", rows["clipping"])
    ]


def _title(data: pd.DataFrame, ridge: pd.DataFrame) -> str:
    """By what the slope of the wall is multiplied per unit of weight, from its one end to the other."""
    if ridge.empty:
        highest = float(data.loc[data["what"] == "surface", "log10_grad_norm"].max())
        return f"There is no cliff here: the largest gradient is {marked(power(highest), 'surface_steepest', highest)}."
    rate = slope_per_weight(ridge)
    times = marked(number(10.0**rate, 2), "cliff_per_weight", 10.0**rate)
    low, high = (float(ridge["log10_grad_norm"].iloc[end]) for end in (0, -1))
    ends = [
        marked(power(value), "cliff_slope", value, weight=float(w))
        for value, w in zip((low, high), ridge["weight"].iloc[[0, -1]], strict=True)
    ]
    first, last = (marked_setting(float(w)) for w in ridge["weight"].iloc[[0, -1]])
    return f"On average, the wall's slope multiplies by {times} per unit of weight: from {ends[0]} at w = {first} to {ends[1]} at w = {last}."


def marked_setting(weight: float) -> str:
    return marked(number(weight, 3), "cliff_weight", weight)


def slope_per_weight(ridge: pd.DataFrame) -> float:
    """Decades per unit of weight between the two ends, which the sentence gives: a fitted line would not lead from the one to the other."""
    first, last = ridge.iloc[0], ridge.iloc[-1]
    return float((last["log10_grad_norm"] - first["log10_grad_norm"]) / (last["weight"] - first["weight"]))


def _grid_misses(data: pd.DataFrame, ridge: pd.DataFrame) -> str:
    """How far below the ridge the steepest point of the grid is: why it is a line of its own."""
    surface = data[data["what"] == "surface"]
    steepest = float(surface["log10_grad_norm"].max())
    if ridge.empty:
        return ""
    points = marked_count(len(surface), "cliff_points")
    return f"The ridge is narrower than the grid: of its {points} points, the steepest has a gradient of {marked(power(steepest), 'surface_steepest', steepest)}."


def _path_words(data: pd.DataFrame, rule: str, path: pd.DataFrame) -> str:
    """Where one path ends, and its longest step."""
    step = float(np.hypot(*(path[name].diff() for name in ("weight", "bias"))).max())
    end = path.iloc[-1]
    of = {"clipping": rule}
    name = "Without clipping" if rule == "none" else f"With {named('clipping', rule)}"
    longest = marked(number(step, 2), "longest_step", step, **of)
    updates = marked_count(int(end["update"]), "path_updates", **of)
    loss = marked(number(float(end["loss"]), 2), "path_loss", float(end["loss"]), **of)
    left = _left(data, path)
    gone = "stays on the map" if left is None else f"leaves the map at update {marked_count(left, 'left_at', **of)}"
    return f"{name}, the longest step is {longest}. The path {gone}, and its loss is {loss} after {updates} updates."


def _left(data: pd.DataFrame, path: pd.DataFrame) -> int | None:
    """The first update after which a path is not on the map; None if it stays."""
    surface = data[data["what"] == "surface"]
    inside = pd.Series(True, index=path.index)
    for name in ("weight", "bias"):
        inside &= path[name].between(surface[name].min(), surface[name].max())
    return None if inside.all() else int(path.loc[~inside, "update"].iloc[0])


# ---- drawing


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    figure, (ax,) = layout.grid(1, 1, height=3.6 if layout.on_phone() else 4.6, extra=1.4)
    surface, ridge = data[data["what"] == "surface"], _ridge(data)
    tables = {name: surface.pivot(index="bias", columns="weight", values=name) for name in ("loss", "log10_grad_norm")}
    w, b = tables["loss"].columns.to_numpy(), tables["loss"].index.to_numpy()
    highest = max(float(data.loc[data["what"] != "descent", "log10_grad_norm"].max()), LOWEST + 1.0)
    norm = Normalize(LOWEST, highest)
    mesh = ax.pcolormesh(
        w, b, tables["log10_grad_norm"].to_numpy(), norm=norm, cmap="YlOrBr", shading="nearest", rasterized=True
    )
    ax.contour(w, b, tables["loss"].to_numpy(), levels=LEVELS, colors="#5a6b7b", linewidths=0.7)
    _draw_ridge(ax, ridge, norm)
    for i, (rule, path) in enumerate(_paths(data)):
        _draw_path(
            ax,
            path,
            style.colours("clipping", [rule for rule, _ in _paths(data)])[rule],
            RULE_LINES[i % len(RULE_LINES)],
            _left(data, path),
        )
    ax.set(xlim=(w.min(), w.max()), ylim=(b.min(), b.max()), xlabel="weight w", ylabel="bias b")
    bar = figure.colorbar(
        mesh, ax=ax, extend="min", **({"location": "bottom", "aspect": 30} if layout.on_phone() else {"aspect": 25})
    )
    bar.set_label("log$_{10}$ of the gradient's norm ‖∇E‖")
    layout.legend_below(figure, _legend(data), most=3)
    return figure


def _draw_ridge(ax: Axes, ridge: pd.DataFrame, norm: Normalize) -> None:
    """The wall, coloured as the map is: what no point of the grid meets."""
    points = ridge[["weight", "bias"]].to_numpy()
    if len(points) < 2:
        return
    pieces = np.stack([points[:-1], points[1:]], axis=1)
    between = (ridge["log10_grad_norm"].to_numpy()[:-1] + ridge["log10_grad_norm"].to_numpy()[1:]) / 2
    ax.add_collection(
        LineCollection(list(pieces), cmap="YlOrBr", norm=norm, array=between, linewidths=4.0, gid="ridge", zorder=3)
    )


def _draw_path(ax: Axes, path: pd.DataFrame, colour: Any, line: Any, left: int | None) -> None:
    """A path from its start; a cross at the last point before it leaves the map."""
    ax.plot(path["weight"], path["bias"], color="white", lw=2.8, alpha=0.8, zorder=4)
    ax.plot(path["weight"], path["bias"], color=colour, lw=1.5, ls=line, gid="path", zorder=5)
    first, last = path.iloc[0], path.iloc[-1] if left is None else path[path["update"] < left].iloc[-1]
    ax.plot(first["weight"], first["bias"], "o", ms=8, mfc="white", mec=style.INK, mew=1.4, gid="start", zorder=7)
    mark: dict[str, Any] = {"marker": "s", "ms": 7} if left is None else {"marker": "X", "ms": 10}
    ax.plot(
        last["weight"],
        last["bias"],
        color=colour,
        mec="white",
        ls="",
        gid="end" if left is None else "left",
        zorder=7,
        **mark,
    )


def _legend(data: pd.DataFrame) -> list[Line2D]:
    paths = _paths(data)
    paint = style.colours("clipping", [rule for rule, _ in paths])
    handles = [
        Line2D(
            [],
            [],
            color=paint[rule],
            lw=1.8,
            ls=RULE_LINES[i % len(RULE_LINES)],
            label=f"descent: {named('clipping', rule)}",
        )
        for i, (rule, _) in enumerate(paths)
    ]
    left = [_left(data, path) is not None for _, path in paths]
    handles.append(Line2D([], [], marker="o", ms=8, mfc="white", mec=style.INK, ls="", label="start"))
    if not all(left):
        handles.append(Line2D([], [], marker="s", ms=7, color=style.FAINT, ls="", label="end"))
    if any(left):
        handles.append(
            Line2D([], [], marker="X", ms=10, color=style.FAINT, ls="", label="thrown off the map from here")
        )
    if len(_ridge(data)):
        handles.append(Line2D([], [], color="#662506", lw=4.0, label="ridge: the steepest bias"))
    return handles
