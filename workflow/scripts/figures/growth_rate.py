"""The gradient's growth per step back in time beside what theory says; and measured minus predicted."""

import math
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from study.report import drawing, facets, layout, measures, reader, statistics, turning_points
from study.report import style as figure_style
from study.report.findings import Study
from study.report.sentences.growth_claims import (
    bound_sentence,
    clear_deviations,
    extremes_headline,
    left_out_of_means,
    turning_headline,
    unsettled_sentence,
    where_it_turns,
    window_sentence,
)
from study.report.sentences.prediction import CHANGING, THEORIES, prediction_sentences, slopes_change
from study.report.sentences.theory import mean_field_turning_sentence, rest_sentence
from study.report.words import listed, number, spelled
from study.settings import axis_label

NOTHING = drawing.Nothing(
    "No run of this study has a growth rate: no gradient goes two steps back and stays a number.",
    "Add a sweep with several values of spectral_radius and a sequence_length of 2 or more.",
)
RATE = "growth rate per step back\n(change of ln ‖∂L/∂h‖)"
MEASURED = "#D55E00"
THEORY: dict[str, tuple[str, dict[str, Any]]] = {  # column: words, line
    "bound_rate": ("upper bound of one step", {"color": "#8a8a8a", "ls": ":", "lw": 1.6}),
    "mean_field_rate": ("mean field", {"color": "#009E73", "ls": (0, (6, 1.5, 1, 1.5)), "lw": 1.4}),
    "operating_rate": ("operating point", {"color": "#0072B2", "ls": "-", "lw": 1.4}),
    # where mean field is not known
    "dynamic_rate": ("dynamic mean field", {"color": "#009E73", "ls": (0, (6, 1.5, 1, 1.5)), "lw": 1.4}),
    # of gated cells, which have no linear law
    "rest_rate": ("law at rest", {"color": "#7A3E9D", "ls": (0, (3, 2.5)), "lw": 1.2}),
    "linear_rate": ("linear law", {"color": "#222222", "ls": (0, (3, 2.5)), "lw": 1.0}),
}
# points, where nothing is joined; all show
BARS = {"mean_field_rate": 34, "operating_rate": 24, "dynamic_rate": 34, "rest_rate": 44, "linear_rate": 44}
USED: dict[str, Any] = {"marker": "x", "ms": 5.5, "mew": 1.1, "ls": ""}
CROSS = "#444444"
TURN: dict[str, Any] = {"color": "#555555", "ls": (0, (1, 1.6)), "lw": 1.4}
MOST_DOTS = 600  # single networks drawn of one line
RATES = ["growth_rate", "deviation", "predicted_rate", *THEORY]
MEASURED_COLUMNS = [*RATES, "critical_radius_predicted", "bistable", "predicted_by", "settled_from", "settled_to"]
PLACE = ("panel", "hue", "colour", "x", "x_name", "x_axis", "sequence_length", "seed", "cell", "activation", "left_out", "sweeps", "biased")  # fmt: skip
ROUNDING = 1e-9  # ln per step: a smaller deviation is rounding
APART_POINTS = 6.0  # between marks of two hues where they turn
LEGEND_ENTRY = 0.19  # inches
BLOCK_NAME = 0.3
NEAR = 0.006, 0.015  # shares of the width and of the scale: marks that are nearer cover each other
MARK, MARKS = 5.5, (10.0, 5.0)  # points of a mark; of marks that cover each other, from the first hue to the last


def frame(tables: reader.Tables) -> pd.DataFrame:
    """One row a network at the longest sequence: its rates, its ``panel`` and ``hue``, and its place ``x`` on the axis ``x_axis``.

    Where nothing but names varies, ``x`` counts them; ``x_name`` is what is written there. Sweeps that are set out along other numbers
    are of another ``block``, which has panels, hues and an axis of its own.
    """
    by_axis = facets.by_number(tables, lambda part: part.column, *MEASURED_COLUMNS)
    blocks = [(x, runs) for x, runs in by_axis if runs["growth_rate"].notna().any()]
    if not blocks:
        return pd.DataFrame()
    frames = [_block(x, runs).assign(block=i) for i, (x, runs) in enumerate(blocks)]
    data = pd.concat(frames, ignore_index=True)
    for name in ("panel", "hue"):
        every = dict.fromkeys(value for each in frames for value in each[name].cat.categories)
        data[name] = pd.Categorical(data[name], categories=list(every), ordered=True)
    return data


def blocks_of(data: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of every block, with its own panels and hues alone."""
    if data["block"].nunique() == 1:
        return [data]
    return [_with_its_own(rows) for _, rows in data.groupby("block")]


def _with_its_own(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(**{name: rows[name].cat.remove_unused_categories() for name in ("panel", "hue")})


def _block(x: str, runs: pd.DataFrame) -> pd.DataFrame:
    """Networks of sweeps that are set out along ``x``."""
    at_rest = runs["rest_rate"].where(measures.has_law_at_rest(runs))
    runs = runs.assign(rest_rate=at_rest, biased=measures.has_gate_biases(runs))
    axes = measures.varied(runs, measures.TRAINING)
    if x != "sequence_length":
        axes = [axis for axis in axes if axis != "sequence_length"]
        runs = measures.at_longest(runs, axes)
    hue, panel_axes = facets.start_axes([axis for axis in axes if axis != x])
    if not x:  # names alone: they stand side by side
        names, panel_axes = (hue, panel_axes) if hue else (panel_axes[:1], panel_axes[1:])
        runs = facets.start_hues(runs, names).rename(columns={"hue": "name"}).drop(columns="colour")
        runs = runs.assign(x=runs["name"].cat.codes.astype(float), x_name=runs["name"].astype(str))
        x, hue = names[0] if names else "", []
    elif x in measures.SCALES:
        runs = runs.assign(x=runs[x], x_name=runs[x].map(number))
    else:
        values = sorted(runs[x].unique())
        runs = runs.assign(x=runs[x].map(values.index).astype(float), x_name=runs[x].map(number))
    runs = facets.start_hues(facets.panels(runs, panel_axes), hue)
    with_operating = np.isfinite(runs["operating_rate"].astype(float))
    linear = with_operating.any() and runs.loc[with_operating, "predicted_by"].eq("linear law").all()
    runs = runs.assign(x_axis=x, linear=linear, covered=_covered(runs))
    columns = [*PLACE, "linear", "covered", *measures.SCALES, *MEASURED_COLUMNS]
    return runs[columns].sort_values(["panel", "hue", "x", "seed"], ignore_index=True)


def _covered(runs: pd.DataFrame) -> bool:
    """Whether marks of two hues cover each other somewhere: where x is dense, they cannot stand side by side."""
    known = runs[np.isfinite(runs["growth_rate"].astype(float))]
    places, hues = np.sort(known["x"].unique()), runs["hue"].nunique()
    if hues < 2 or len(places) < 2 or _apart(hues) * np.diff(places).min() > NEAR[0] * np.ptp(places):
        return False
    means = known.groupby(["panel", "x", "hue"], observed=True)["growth_rate"].mean().unstack()
    scale = max(0.0, means.max(axis=None)) - min(0.0, means.min(axis=None))
    return bool((np.diff(np.sort(means.to_numpy(), axis=1), axis=1) < NEAR[1] * scale).any())


# ---- facts


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    blocks, numbers = blocks_of(data), set(data["x_axis"])
    title = turning_headline(study) if data["x_axis"].iloc[0] in measures.SCALES else extremes_headline(study)
    drawn = [(rows, column) for column in THEORY for rows in blocks if _is_drawn(rows, column)]
    theory = list(dict.fromkeys(_words(*line) for line in drawn))
    at_rest, most = data[data["rest_rate"].notna()], _most_networks(data)
    shown = [
        *(["theory"] if theory or np.isfinite(data["predicted_rate"].astype(float)).any() else []),
        *(["some lengths" if len(numbers) > 1 else "lengths"] if "sequence_length" in numbers else []),
        *(["blocks"] if len(blocks) > 1 else []),
        *dict.fromkeys(_drawn(*line).removesuffix("_rate") for line in drawn),
        *(f"by {name}" for name in THEORIES if study.networks["predicted_by"].eq(name).any()),
        *([CHANGING] if slopes_change(study.networks).any() else []),
        *(["used"] if any(_is_marked(rows) for rows in blocks) else []),
        *measures.rest_matrices(at_rest["cell"], at_rest["biased"]),
        *(cell for cell in measures.LINEAR_MATRICES if data["cell"].eq(cell).any()),
        *turning_points.shown(blocks),
        *(["identity"] if data["activation"].eq("identity").any() else []),
        *(["theory turning"] if any(map(turning_points.theory_turns, blocks)) else []),
        *(f"turns by {name}" for name in THEORIES if any(name in turning_points.theories_of(rows) for rows in blocks)),
        *(["deviation"] if np.isfinite(data["deviation"]).any() else []),
        *(["one test"] if any(map(_is_joined, blocks)) and any(map(study.theory_tests, study.start_parts)) else []),
        *(["theory lines"] if theory else []),
        *(["untested"] if (np.isfinite(data["deviation"]) & data["predicted_by"].eq("linear law")).any() else []),
        *(["covered"] if data["covered"].any() else []),
        *(["interval"] if most > 1 else ["one network"] if most else []),
        *(["zero"] if (data["growth_rate"] == -np.inf).any() else []),
        *(["hues"] if any(len(rows["hue"].cat.categories) > 1 for rows in blocks) else []),
        *(["radius"] if "spectral_radius" in numbers else []),
        *(["weight scale"] if "weight_scale" in numbers else []),
    ]
    labels = list(dict.fromkeys(label for label in map(_x_label, blocks) if label))
    against = f" against {listed(labels)}" if labels else ""
    kinds = f", {spelled(len(blocks))} below each other" if len(blocks) > 1 else ""
    kinds = kinds or facets.alt_list(data["panel"].cat.categories)
    alt = (
        f"Charts{kinds}: growth rate of the gradient per step back{against}"
        f"{f', with {listed(theory)} as lines' if theory and len(blocks) == 1 else ''}"
        f"{'; below, measured minus predicted' if 'deviation' in shown else ''}. {title}"
    )
    networks, bound = study.networks, bound_sentence(study.networks) if "bound" in shown else ""
    claims = [
        clear_deviations(study),
        *prediction_sentences(networks, study.sampled),
        mean_field_turning_sentence(networks),
        rest_sentence(networks),
        window_sentence(networks),
        unsettled_sentence(networks),
        bound,
        left_out_of_means(networks),
        facets.left_out(data, headline=True),
    ]
    return drawing.facts(title, alt, claims, shown)


def _is_joined(data: pd.DataFrame) -> bool:
    """Whether means stand along a number, so that lines join what theory says of them."""
    return bool(data["x_axis"].iloc[0] in measures.NUMBERS and data["x"].nunique() > 1)


# ---- drawing


def _is_drawn(data: pd.DataFrame, column: str) -> bool:
    """Of two hues two theories are drawn, of more the prediction alone. Of two that are linear, the law that predicts them."""
    hues = len(data["hue"].cat.categories)
    not_drawn = "operating_rate" if hues == 2 and data["linear"].iloc[0] else "linear_rate"
    if hues > 1 and column in ("bound_rate", not_drawn):
        return False
    if column == "bound_rate" and data["x_axis"].iloc[0] not in measures.SCALES:
        return False  # far above everything else: it would only stretch the scale
    if hues > 2 and column in ("mean_field_rate", "dynamic_rate", "rest_rate"):
        return False
    return bool(np.isfinite(data[_drawn(data, column)].astype(float)).any())


def _is_marked(data: pd.DataFrame) -> bool:
    """Whether marks say which theory is the prediction: where several are drawn."""
    several = sum(_is_drawn(data, column) for column in BARS) > 1 and len(data["hue"].cat.categories) < 3
    return several and bool(np.isfinite(data["predicted_rate"].astype(float)).any())


def _drawn(data: pd.DataFrame, column: str) -> str:
    """With more than two hues the operating line is the prediction."""
    return "predicted_rate" if len(data["hue"].cat.categories) > 2 and column == "operating_rate" else column


def _words(data: pd.DataFrame, column: str) -> str:
    """What a line is called; the prediction, by its theory where that is one for all."""
    if _drawn(data, column) != "predicted_rate":
        return THEORY[column][0]
    predicted = data.loc[np.isfinite(data["predicted_rate"].astype(float)), "predicted_by"]
    return f"prediction by {predicted.iloc[0]}" if predicted.nunique() == 1 else "prediction by the theory used"


def _x_label(data: pd.DataFrame) -> str:
    return axis_label(axis) if (axis := str(data["x_axis"].iloc[0])) else ""


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    blocks = blocks_of(data)
    heights = [_height(rows) + (BLOCK_NAME if len(blocks) > 1 else 0.0) for rows in blocks]
    figure = Figure(figsize=(layout.width(), sum(heights)), layout="constrained")
    if len(blocks) == 1:
        _draw_block(figure, data)
        return figure
    places = figure.subfigures(len(blocks), 1, height_ratios=heights, squeeze=False)
    for place, rows in zip(places[:, 0], blocks, strict=True):
        sweeps = f"Sweep{'s' if ' and ' in rows['sweeps'].iloc[0] else ''} {rows['sweeps'].iloc[0]}"
        sweeps = layout.wrapped(sweeps, layout.columns(84, 40))
        place.suptitle(sweeps, x=0.01, ha="left", fontsize=11, color=figure_style.FAINT)
        _draw_block(place, rows)
    return figure


def _places(data: pd.DataFrame) -> tuple[list[Any], int, bool, list[str]]:
    """Of one block: the names of its panels, how many stand side by side, whether each has a strip, and what stands below each name."""
    names = list(data["panel"].cat.categories)
    columns = min(len(names), layout.columns(4 if len(names) == 4 else 3))
    strip = bool(np.isfinite(data["deviation"].astype(float)).any())
    words = [_turning_words(data[data["panel"] == name]) for name in names]
    return names, columns, strip, layout.of_as_many_lines(words)


def _height(data: pd.DataFrame) -> float:
    """Inches that one block takes, with its legend."""
    names, columns, strip, turning_words = _places(data)
    groups = [group for group in _legend(data) if group]
    rows, (upper, lower) = math.ceil(len(names) / columns), _heights(len(names), columns, strip)
    more = _more_height(len(names), columns, turning_words[0], groups) + _slant_height(data, names, columns)
    if layout.on_phone():  # a long legend must not take its room from the panels
        more += LEGEND_ENTRY * max(0, sum(map(len, groups)) - 4)
    return rows * (upper + lower + 0.3) + 1.1 + more


def _draw_block(figure: Figure | SubFigure, data: pd.DataFrame) -> None:
    names, columns, strip, turning_words = _places(data)
    groups = [group for group in _legend(data) if group]
    pairs = _grid(figure, len(names), columns, strip)
    for i, ((upper, lower), name) in enumerate(zip(pairs, names, strict=True)):
        rows = data[data["panel"] == name]
        _panel(upper, rows, _is_marked(data))
        _title(upper, name if len(names) > 1 else "", turning_words[i], columns)
        _ticks(upper, rows, columns)
        if lower is not None:
            _strip(lower, rows)
            _ticks(lower, rows, columns)
            upper.tick_params(labelbottom=False)
        for ax, text in ((upper, RATE), (lower, "measured −\npredicted")):
            if ax is not None:
                ax.set(xlabel="", ylabel="" if i % columns else text)
                ax.tick_params(labelleft=i % columns == 0)
        if i >= len(names) - columns:
            (upper if lower is None else lower).set_xlabel(_x_label(data))
    pairs[0][0].margins(y=0.08)
    if pairs[0][1] is not None:
        pairs[0][1].margins(y=0.2)
        if data["deviation"].astype(float).abs().max() < ROUNDING:  # not a scale of 10⁻¹⁶
            pairs[0][1].set_ylim(-0.01, 0.01)
    across = layout.columns(min(3, len(groups)), 1)
    figure.legend(handles=layout.in_columns(groups), loc="outside lower center", ncols=across)


def _more_height(count: int, columns: int, words: str, groups: list[list[Line2D]]) -> float:
    """Inches that a long legend and several lines above a panel take, so that they are not taken from the panels."""
    entries = len(layout.in_columns(groups)) if layout.on_phone() else max(map(len, groups))
    return 0.2 * max(0, entries - 4) + 0.18 * words.count("\n") * math.ceil(count / columns)


def _slant_height(data: pd.DataFrame, names: list[Any], columns: int) -> float:
    """Inches that names at a slant take below their panels, so that they are not taken from the panels."""
    if data["x_axis"].iloc[0] in ("", *measures.SCALES):
        return 0.0
    words = [data.loc[data["panel"] == name, "x_name"].map(lambda each: layout.wrapped(each, 14)) for name in names]
    down = [layout.slant_height(list(each.unique()), layout.width() / columns) for each in words]
    return layout.over_rows([len(down)], columns, down)


def _heights(count: int, columns: int, strip: bool) -> tuple[float, float]:
    """Inches of a panel and of its strip."""
    rows = math.ceil(count / columns)
    upper, lower = (2.9, 1.15) if rows == 1 else (2.3, 1.15) if rows < 4 or layout.on_phone() else (1.65, 0.75)
    return 2.3 if layout.on_phone() else upper, lower if strip else 0.0


def _grid(figure: Figure | SubFigure, count: int, columns: int, strip: bool) -> list[tuple[Axes, Axes | None]]:
    """Panels with a strip below each, all on one scale."""
    rows = math.ceil(count / columns)
    upper, lower = _heights(count, columns, strip)
    heights = [upper, lower] * rows if strip else [upper] * rows
    axes = figure.subplots(len(heights), columns, squeeze=False, height_ratios=heights)
    places = [(r, c) for r in range(rows) for c in range(columns)]
    pairs = [(axes[2 * r, c], axes[2 * r + 1, c]) if strip else (axes[r, c], None) for r, c in places]
    for pair in pairs[count:]:
        for ax in pair:
            if ax is not None:
                ax.set_axis_off()
    for upper_axes, lower_axes in pairs[1:count]:
        upper_axes.sharey(pairs[0][0])
        if lower_axes is not None:
            lower_axes.sharey(pairs[0][1])
    for upper_axes, lower_axes in pairs[:count]:
        if lower_axes is not None:
            lower_axes.sharex(upper_axes)
    return pairs[:count]


def _ticks(ax: Axes, rows: pd.DataFrame, columns: int) -> None:
    """Names under their places; a radius has its number, and what does not vary has no axis."""
    if not rows["x_axis"].iloc[0]:
        ax.set_xticks([])
        ax.spines["bottom"].set_visible(False)
        ax.set_xlim(-0.35, 0.35)
    elif rows["x_axis"].iloc[0] not in measures.SCALES:
        places = rows.drop_duplicates("x").sort_values("x")
        ax.set_xticks(places["x"], [layout.wrapped(name, 14) for name in places["x_name"]])
        ax.set_xlim(places["x"].min() - 0.6, places["x"].max() + 0.6)
        layout.slant(ax, layout.width() / columns)


def _dodged(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, Any, str]]:
    """Rows of every hue, beside each other, with colour and marker."""
    hues = list(rows["hue"].cat.categories)
    places = np.sort(rows["x"].unique())
    step = float(np.diff(places).min()) if len(places) > 1 else 1.0
    shift = (np.arange(len(hues)) - (len(hues) - 1) / 2) * _apart(len(hues)) * step
    dodged = []
    for hue, hue_rows in rows.groupby("hue", observed=True):
        i = hues.index(hue)
        colour = MEASURED if len(hues) == 1 else hue_rows["colour"].iloc[0]
        dodged.append((hue_rows.assign(x=hue_rows["x"] + shift[i]), colour, figure_style.marker(i)))
    return dodged


def _apart(hues: int) -> float:
    """How far marks of two hues stand apart, as a share of the step between two places."""
    return min(0.12, 0.32 / hues)


def _aside(rows: pd.DataFrame) -> float:
    """How far beside its mean a network stands, where x is a name; not so far that it meets the next hue."""
    x, beside_a_name = str(rows["x_axis"].iloc[0]), 0.1 if len(rows["hue"].cat.categories) == 1 else 0.05
    return {**dict.fromkeys(measures.SCALES, 0.0), "": 0.03}.get(x, beside_a_name)


def _size(hue_rows: pd.DataFrame) -> float:
    """Points of a hue's marks. Where marks cover each other, the larger lie behind, so that all show."""
    if not hue_rows["covered"].iloc[0]:
        return MARK
    hues = hue_rows["hue"].cat.categories
    return float(np.linspace(*MARKS, len(hues))[hues.get_loc(hue_rows["hue"].iloc[0])])


def _points(ax: Axes, rows: pd.DataFrame, column: str, gid: str) -> None:
    """Means with their intervals, hue by hue; behind them every network, light."""
    for hue_rows, colour, marker in _dodged(rows):
        known = hue_rows[np.isfinite(hue_rows[column].astype(float))]
        if known.empty:
            continue
        if column == "growth_rate" and known.groupby("x").size().max() > 1:
            some = known.iloc[:: -(-len(known) // MOST_DOTS)]  # of very many, every so manyth: a mark each is megabytes
            beside = some.assign(x=some["x"] + _aside(rows))
            sns.scatterplot(beside, x="x", y=column, ax=ax, color=colour, s=13, alpha=0.35, linewidth=0, legend=False)
            ax.collections[-1].set_gid("networks")
        before = len(ax.lines)
        style: dict[str, Any] = {"markersize": _size(hue_rows), "linestyle": "none", "markeredgecolor": "white"}
        sns.pointplot(
            known, x="x", y=column, ax=ax, errorbar=statistics.ends_of_mean, native_scale=True, color=colour, marker=marker,
            markeredgewidth=0.6, zorder=4, err_kws={"linewidth": 1.6}, **style,
        )  # fmt: skip
        ax.lines[before].set_gid(gid)
        for line in ax.lines[before + 1 :]:
            line.set_gid(f"{gid} interval")


def _panel(ax: Axes, rows: pd.DataFrame, mark: bool) -> None:
    ax.axhline(0.0, color="#444444", lw=0.8, zorder=0)
    _theory(ax, rows)
    for hue_rows, colour, _ in _dodged(rows) if mark else []:
        # a mean of other networks than the dot's would mislead
        measured = hue_rows[np.isfinite(hue_rows["growth_rate"].astype(float))]
        predicted, x = measured["predicted_rate"].astype(float), measured["x"]
        mean = predicted.where(np.isfinite(predicted).groupby(x).transform("all")).groupby(x).mean()
        ax.plot(mean.index, mean, color=CROSS if colour == MEASURED else colour, gid="used", zorder=3, **USED)
    _points(ax, rows, "growth_rate", "measured")
    if rows["x_axis"].iloc[0] in measures.SCALES:
        each = [(own.assign(x=own[rows["x_axis"].iloc[0]]), colour) for own, colour, _ in _dodged(rows)]
        turning = [
            i for i, (own, _) in enumerate(each) if turning_points.ticks_of(own) or turning_points.critical_of(own)
        ]
        for i, (own, colour) in enumerate(each):
            above = APART_POINTS * (turning.index(i) - (len(turning) - 1) / 2) if i in turning else 0.0
            _turning_marks(ax, own, colour, above)
    for i, (hue_rows, colour, _) in enumerate(_dodged(rows)):
        zero = hue_rows.loc[hue_rows["growth_rate"] == -np.inf, "x"].unique()
        if len(zero):
            triangle: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "mec": "white", "clip_on": False}
            ax.plot(zero, [0.03 + 0.05 * i] * len(zero), "v", ms=7, color=colour, gid="zero", **triangle)


def _theory(ax: Axes, rows: pd.DataFrame) -> None:
    """Means over the networks; lines where x is a number, bars where it is a name, or a number of which one alone has a theory."""
    hues = [hue_rows for _, hue_rows in rows.groupby("hue", observed=True)]
    joined = _is_joined(rows)
    for column, (_, line) in THEORY.items():
        if not _is_drawn(rows, column):
            continue
        for i, hue_rows in enumerate(hues):
            mean = drawn = _mean_theory(hue_rows, _drawn(rows, column))
            thinner = np.linspace(1.6, 0.8, len(hues))[i]  # so that lines that coincide all show
            style = line | ({"color": hue_rows["colour"].iloc[0], "lw": thinner} if len(hues) > 1 else {})
            if not joined:
                style |= _bar(column, 1.0 if len(hues) == 1 else 0.5)
            elif mean.notna().sum() < 2:  # a line of one place is invisible
                style |= _bar(column, 0.5)
            elif rows["x_axis"].iloc[0] in measures.SCALES:
                drawn = measures.along_scale(hue_rows, _drawn(rows, column))
            ax.plot(drawn.index, drawn, gid=_drawn(rows, column).removesuffix("_rate"), zorder=2, **style)


def _mean_theory(rows: pd.DataFrame, column: str) -> pd.Series:
    """By x, the mean over the networks of which it is known."""
    drawn = rows[column].astype(float)
    return drawn.where(np.isfinite(drawn)).groupby(rows["x"]).mean()


def _has_line(data: pd.DataFrame, column: str) -> bool:
    """Whether a theory is drawn as a line somewhere: along a number, known at two places or more of one kind of network."""
    known = (_mean_theory(rows, _drawn(data, column)).notna().sum() for rows in turning_points.lines_of(data))
    return _is_joined(data) and max(known, default=0) > 1


def _bar(column: str, size: float = 1.0) -> dict[str, Any]:
    """A theory where x is a name, or known at one place alone: a short bar."""
    return {"ls": "", "marker": "_", "ms": size * BARS[column], "mew": 2.0}


def _turning_marks(ax: Axes, hue_rows: pd.DataFrame, colour: Any, above: float) -> None:
    """On the zero line: a tick a network, the median with its interval; dotted, where theory turns.

    Those of several hues stand so many points ``above`` it, or below, so that intervals do not lie on each other. An interval has its
    hue's colour; where none is told apart, it is black.
    """
    where: dict[str, Any] = {"transform": ax.transData + ScaledTranslation(0.0, above / 72, ax.figure.dpi_scale_trans)}
    at = turning_points.ticks_of(hue_rows)
    if at:
        tick: dict[str, Any] = {
            "ls": "",
            "marker": "|",
            "ms": 11,
            "mew": 1.1,
            "alpha": 0.75,
            "gid": "turning",
            "zorder": 4.5,
        }
        ax.plot(at, [0.0] * len(at), color=colour, **tick, **where)
    measured, theory = turning_points.critical_of(hue_rows), turning_points.theory_critical_of(hue_rows)
    if theory is not None:
        paint = TURN if colour == MEASURED else TURN | {"color": colour}
        ax.axvline(theory, zorder=1, gid="theory turning", **paint)
    if measured:
        low, high = measured.radius.low, measured.radius.high
        if math.isfinite(low):
            high = high if math.isfinite(high) else hue_rows["x"].max()
            bar: dict[str, Any] = {"lw": 3.0, "solid_capstyle": "butt", "zorder": 4.6, "gid": "critical interval"}
            ax.plot([low, high], [0.0, 0.0], color=figure_style.INK if colour == MEASURED else colour, **bar, **where)
        diamond: dict[str, Any] = {"marker": "D", "ms": 7.5, "mfc": "white", "mec": colour, "mew": 1.8}
        ax.plot([measured.radius.value], [0.0], zorder=5, gid="critical", **diamond, **where)


def _title(ax: Axes, name: str, words: str, columns: int) -> None:
    """The panel's name, and below it where its networks turn."""
    below = 6 + (14 * (words.count("\n") + 1) if words else 0)  # points that the words need
    ax.set_title(layout.wrapped(name, 30 if columns < 4 else 20), loc="left", pad=below)
    if words.strip():
        ax.annotate(
            words, (0, 1), (0, 5), xycoords="axes fraction", textcoords="offset points", fontsize=9.5, gid="turns"
        )


def _turning_words(rows: pd.DataFrame) -> str:
    """turns at 1.49 (1.33–1.50), 3 of 5 never; and below, where theory does."""
    if len(rows["hue"].cat.categories) > 1 or rows["x_axis"].iloc[0] not in measures.SCALES:
        return ""
    return where_it_turns(rows)


def _strip(ax: Axes, rows: pd.DataFrame) -> None:
    """Measured minus predicted."""
    ax.axhline(0.0, color="#444444", lw=0.8, zorder=0)
    if np.isfinite(rows["deviation"].astype(float)).any():
        _points(ax, rows, "deviation", "deviation")
    else:
        ax.text(0.5, 0.5, "no prediction", transform=ax.transAxes, ha="center", va="center", fontsize=9, color="#666666",
                bbox={"facecolor": "white", "lw": 0, "pad": 2})  # fmt: skip


def _most_networks(data: pd.DataFrame) -> int:
    """How many networks with a finite rate stand at one place, at most: a mean of one has no interval."""
    finite = data[np.isfinite(data["growth_rate"].astype(float))]
    return int(finite.groupby(["block", "panel", "hue", "x"], observed=True).size().max()) if len(finite) else 0


def _legend(data: pd.DataFrame) -> list[list[Line2D]]:
    """Only what is drawn: what was measured, theories, turning points."""
    several = len(data["hue"].cat.categories) > 1
    mark = MEASURED if not several else figure_style.FAINT
    networks = _most_networks(data)
    what = "mean, 95 % interval" if networks > 1 else "one network"
    measured = [Line2D([], [], color=mark, marker="o", ls="", ms=6, label=f"measured: {what}")] if networks else []
    if several:
        measured = [
            Line2D([], [], color=colour, marker=marker, ms=6.5, lw=1.4, label=f"{own['hue'].iloc[0]}")
            for own, colour, marker in _dodged(data)
        ] + measured
    if (data["growth_rate"] == -np.inf).any():
        zero = Line2D([], [], color=mark, marker="v", ls="", ms=7, label="a network’s gradient is exactly 0")
        measured.append(zero)
    theories = _legend_of_theory(data, several)
    if len(theories) > len(measured) + 1:
        measured.append(theories.pop(0))
    return [measured, theories, _legend_of_turning(data, mark)]


def _legend_of_theory(data: pd.DataFrame, several: bool) -> list[Line2D]:
    """Bars where bars are drawn, lines where lines are."""
    handles = []
    for column, (_, line) in THEORY.items():
        if _is_drawn(data, column):
            style = line | ({"color": figure_style.FAINT, "lw": 1.4} if several else {})
            if not _has_line(data, column):
                style |= _bar(column, 0.5)
            said = "" if column == "bound_rate" or _drawn(data, column) == "predicted_rate" else "theory: "
            handles.append(Line2D([], [], label=said + _words(data, column), **style))
    if _is_marked(data):
        handles.append(
            Line2D([], [], color=figure_style.FAINT if several else CROSS, label="prediction: theory used", **USED)
        )
    return handles


def _legend_of_turning(data: pd.DataFrame, mark: str) -> list[Line2D]:
    handles = []
    if turning_points.has_ticks(data):
        handles.append(Line2D([], [], color=mark, marker="|", ls="", ms=11, label="turning point: one network"))
    if turning_points.turns(data):
        several = data["seed"].nunique() > 1
        diamond: dict[str, Any] = {
            "mfc": "white",
            "mec": mark,
            "mew": 1.8,
            "color": figure_style.INK if mark == MEASURED else mark,
        }
        diamond |= {"lw": 3.0} if several else {"ls": ""}
        of = "median, 95 % interval" if several else "one network"
        handles.append(Line2D([], [], marker="D", ms=7, label=f"turning point: {of}", **diamond))
    if turning_points.theory_turns(data):
        handles.append(Line2D([], [], label="turning point: theory", **TURN))
    return handles
