"""How the gradient norm changes on its way back through time, at the longest sequence, beside the linear law or the law at rest."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rnn_core import CELLS
from study.report import drawing, facets, layout, measures, reader, statistics, style
from study.report.findings import Study
from study.report.float_limits import LIMITS, PURPLE, name_limit
from study.report.phrases import over_steps
from study.report.sentences.growth_claims import shared_name
from study.report.words import (
    LONGEST_TITLE,
    decimals,
    few,
    listed,
    marked,
    marked_count,
    named,
    number,
    plain,
    power,
)
from study.settings import described_axes

NOTHING = drawing.Nothing(
    "No run of this study has a gradient of numbers that travels back from the last step alone.",
    "Add a sweep with loss_at: last and sequence_length: 2 or more. A loss at every step, or sequences that end at different steps, would mix "
    "gradients of different age.",
)
MOST_LAGS = 200
MOST_VALUES = 4_000_000  # runs × lags in memory at once
OUTSIDE = 0.1  # share of the lines that may leave the scale, where with them the others would be flat
FLAT = 3.0  # times as long a scale flattens
RESTRAINT = 1.25  # times as long a scale still holds the linear laws
THIN, THICK = 1.1, 2.2  # lines of radii below 1, and of the others: grey print tells 0.5 from 1.8
LAW: dict[str, Any] = {"lw": 1.0, "ls": (0, (4, 2.5)), "alpha": 0.75}
GROUP = ["panel", "hue"]


def frame(tables: reader.Tables) -> pd.DataFrame:
    """Panel × hue × lag: log10(‖∂L/∂h_t‖/‖∂L/∂h_T‖), its median, lowest and highest network, and the law.

    The law is the linear one; of a gated cell, which has none, the law at rest. ``zeros`` networks have a gradient of exactly zero there, which counts as −∞; ``broken`` ones have no number.
    """
    runs = measures.starts(tables.runs("linear_rate", "rest_rate", "growth_rate", "task_loss_at", "data"))
    tasks = _tasks(tables, runs)
    runs = runs[_from_last_step(runs, tasks)]
    if runs.empty:
        return pd.DataFrame()
    axes = [axis for axis in measures.varied(runs, measures.TRAINING) if axis != "sequence_length"]
    runs = _laid_out(measures.at_longest(runs, axes), axes)
    data = _lines(tables, runs)
    if dead := _dead_from(data):  # every lag before it has room
        data = _lines(tables, runs, dead.lag)
    if data.loc[data["lag"] > 0, "median"].isna().all():
        return pd.DataFrame()  # no gradient is a number
    for name in GROUP:
        data[name] = pd.Categorical(data[name], categories=runs[name].cat.categories, ordered=True)
    data = data.assign(tasks=[tasks] * len(data))
    return data.sort_values([*GROUP, "lag"], ignore_index=True)


def _tasks(tables: reader.Tables, starts: pd.DataFrame) -> tuple[str, ...]:
    """Tasks of which no step but the last has a loss. Of sequences in a file, some may end before it: then another step has one, too."""
    last = starts[starts["task_loss_at"] == "last"]  # as the task decides where the config says nothing
    mixed = set(last.loc[last["run_key"].isin(reader.with_other_losses(tables, last)), "task"])
    return tuple(sorted(set(last["task"]) - mixed))


def _from_last_step(runs: pd.DataFrame, tasks: tuple[str, ...]) -> pd.Series:
    """Whether a gradient comes from the last step alone."""
    return (runs["task_loss_at"] == "last") & runs["task"].isin(tasks)


def _laid_out(runs: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """Panels and hues: spectral radii, or weight scales, side by side; where another axis is compared, at most three of them make panels."""
    scale = measures.scale_of(runs)
    hue, rest = facets.start_axes([axis for axis in axes if axis != scale])
    chosen, all_scales = scale in axes and bool(hue), runs[scale].nunique()
    if chosen:
        runs = pd.concat([facets.three_scales(rows, scale) for _, rows in measures.grouped(runs, rest)])
        rest = [*rest, scale]
    elif scale in axes:
        hue = [scale]
    elif not hue:
        hue, rest = [axis for axis in rest if axis == "activation"], []
    fewer = chosen and all_scales > 3
    runs = facets.start_hues(facets.panels(runs, rest), hue).reset_index(drop=True)
    return runs.assign(
        by=hue[0] if hue else "", scaled_by=scale, chosen=chosen, fewer=fewer, place=np.arange(len(runs))
    )


def _lines(tables: reader.Tables, runs: pd.DataFrame, most: int | None = None) -> pd.DataFrame:
    """Every line, at lags up to ``most`` and at the first time step."""
    lags, ratio = _ratios(tables, runs, most)
    lines = [_line(rows, lags, ratio[rows["place"]]) for _, rows in runs.groupby(GROUP, observed=True)]
    return pd.concat(lines, ignore_index=True)


def _ratios(tables: reader.Tables, runs: pd.DataFrame, to_lag: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Lags, and log10 ratios of every run at them (runs, lags), from the traces piece by piece; nan where there is none."""
    most = max(8, min(MOST_LAGS, MOST_VALUES // len(runs)))
    lengths = measures.steps(runs).unique()
    wanted_lags = [[*facets.spread(range(min(T, (to_lag or T) + 1)), most + 1), T - 1] for T in lengths]
    lags = np.unique([lag for each in wanted_lags for lag in each])
    row = pd.Series(runs["place"].to_numpy(), index=runs["run_key"])
    keys, wanted = pa.array(runs["run_key"], pa.string()), pa.array(lags, pa.int32())
    wanted_rows = (pc.field("update") == 0) & pc.field("run_key").isin(keys) & pc.field("lag").isin(wanted)
    norm = np.full((len(runs), len(lags)), np.nan)
    for piece in tables.pieces("traces", ["run_key", "lag", "log10_grad_norm"], wanted_rows):
        norm[row[piece["run_key"]].to_numpy(), np.searchsorted(lags, piece["lag"])] = piece["log10_grad_norm"]
    first = np.where(np.isfinite(norm[:, :1]), norm[:, :1], np.nan)  # a gradient of zero at the end has no ratio
    return lags, norm - first


def _line(rows: pd.DataFrame, lags: np.ndarray, ratio: np.ndarray) -> pd.DataFrame:
    """One line with its band, at the lags of its own length."""
    first, T = rows.iloc[0], int(measures.steps(rows).iloc[0])
    # of a shorter sequence's grid all lags are kept, of a longer one's those that it has a value at
    has = (lags < T) & ~np.isnan(ratio).all(axis=0) | (lags == T - 1) | (lags == 0)
    lags, ratio = lags[has], ratio[:, has]
    nothing = np.isnan(ratio).all(axis=0)
    known = np.where(nothing, 0.0, ratio)
    each = (
        ("median", np.nanmedian(known, axis=0)),
        ("low", np.nanmin(known, axis=0)),
        ("high", np.nanmax(known, axis=0)),
    )
    over_networks = {name: np.where(nothing, np.nan, value) for name, value in each}
    keep = ["panel", "hue", "colour", "spectral_radius", "by", "scaled_by", "chosen", "fewer", "left_out", "cell"]
    return pd.DataFrame(over_networks).assign(
        **{name: first[name] for name in keep}, sequence_steps=T, lag=lags, seeds=len(rows),
        zeros=(ratio == -np.inf).sum(axis=0), broken=np.isnan(ratio).sum(axis=0),
        linear=_linear_law(lags, measures.law(rows)),  # null where there is no law
        at_rest=bool(measures.has_law_at_rest(rows).any()), biased=bool(measures.has_gate_biases(rows).any()),
    )  # fmt: skip


def _linear_law(lags: np.ndarray, rates: pd.Series) -> np.ndarray:
    """Decades of the linear law; no number where the cell has none, or where a weight cancels the state and its rate is −∞."""
    rate = float(rates.mean()) if np.isfinite(rates.astype(float)).all() else math.nan
    return lags * rate / math.log(10)


def ends(data: pd.DataFrame) -> pd.DataFrame:
    """The rows of the first time step."""
    return data[data["lag"] == data["sequence_steps"] - 1]


# ---- facts


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        ends_apart = len(measures.of_files_at_last_step(study.all_runs))
        return NOTHING.facts(drawing.ENDS_APART if ends_apart else "")
    tasks = data["tasks"].iloc[0]
    title, last, mixed = _title(study, tasks), ends(data), _mixed(study, tasks)
    laws = data["linear"].notna().any()
    linear = (data["linear"].notna() & ~data["at_rest"]).any()
    at_rest = data[data["at_rest"] & data["linear"].notna()]
    shown = [
        *(["linear"] if linear else []),
        *(["at rest"] if data["at_rest"].any() else []),
        *(["gated at rest"] if data.loc[data["at_rest"], "cell"].isin(CELLS).any() else []),
        *measures.rest_matrices(at_rest["cell"], at_rest["biased"]),
        *(["own at rest"] if not data.loc[data["at_rest"], "cell"].isin(CELLS).all() else []),
        *(["law"] if laws else []),
        *(["no law"] if laws and data["linear"].isna().any() else []),
        *(cell for cell in measures.LINEAR_MATRICES if laws and data["cell"].eq(cell).any()),
        *(["radii"] if data["by"].iloc[0] == "spectral_radius" else []),
        *(["identity"] if linear and _has_linear_networks(study) else []),
        *(
            ["only linear"]
            if linear and measures.is_linear(study.runs[study.runs["linear_rate"].notna()]).all()
            else []
        ),
        *(["normalised"] if data["cell"].map(_leaves_rest).any() else []),
        *(["three scales"] if data["fewer"].any() else ["all scales"] if data["chosen"].any() else []),
        *(["weight scale"] if data["scaled_by"].iloc[0] == "weight_scale" else []),
        *(["band"] if data["seeds"].max() > 1 else []),
        *(["zeros"] if last["zeros"].any() else []),
        *(["dead"] if _dead_from(data) else []),
        *(["limits"] if _limits(data) else []),
        *(["leaving"] if len(leaving(data)) else []),
        *(["several"] if len(data["panel"].cat.categories) > 1 else []),
        *(["law leaves"] if _law_leaves(data) else []),
        *(["mixed"] if mixed else []),
    ]
    kinds = facets.alt_list(data["panel"].cat.categories)
    alt = (
        f"Line charts{kinds}: decimal logarithm of the gradient norm, relative to the last time step. It stands against the lag in steps "
        f"back from the end{_hues_in_words(data)}{_laws_in_words(linear, bool(data['at_rest'].any()))}. {title}"
    )
    claims = [
        *(_misses(study, tasks) if laws else ()),
        *_lost(study, tasks),
        mixed,
        facets.left_out(data, headline=True),
    ]
    return drawing.facts(title, alt, claims, shown)


def _has_linear_networks(study: Study) -> bool:
    """Whether some networks are linear, so that their law holds in the long run. A gated cell with the identity is none of them."""
    return bool(measures.is_linear(study.runs).any())


def _leaves_rest(cell: str) -> bool:
    return cell in CELLS and CELLS[cell].leaves_rest


def _laws_in_words(linear: bool, at_rest: bool) -> str:
    laws = listed(
        [
            *(["the linear law"] if linear else []),
            *(["the law at rest of other cells" if linear else "the law at rest"] if at_rest else []),
        ]
        or [""]
    )
    return f", with {laws} dashed" if laws else ""


def _hues_in_words(data: pd.DataFrame) -> str:
    by = data["by"].iloc[0]
    return f", one line for each {described_axes()[by]['label']}" if by else ""


def _longest(part: measures.Part, tasks: tuple[str, ...]) -> pd.DataFrame:
    """A part's runs that can be drawn, at the longest sequence of their kind."""
    longest = measures.at_longest(part.runs, [axis for axis in part.axes if axis != "sequence_length"])
    return longest[_from_last_step(longest, tasks)]


def _ends_of(study: Study, tasks: tuple[str, ...]) -> list[tuple[float, dict[str, Any], dict[str, Any], str]]:
    """Median decades of every kind of start at every spectral radius: value, settings, address and over how many steps, at the longest sequence."""
    medians = []
    for part in study.parts:
        if part.trains:
            continue
        for chosen, runs in measures.grouped(_longest(part, tasks), part.axes):
            known = runs["log10_gradient_ratio"].dropna().to_numpy()
            if len(known):
                settings = {axis: value for axis, value in chosen.items() if axis != "sequence_length"}
                where = {"sweep": part.sweep, **part.fixed, **chosen}
                told = study.settings_of(part, settings)
                medians.append((statistics.median(known).value, told, where, over_steps(runs)))
    return medians


def _title(study: Study, tasks: tuple[str, ...]) -> str:
    """From the smallest to the largest factor of all that could be drawn."""
    medians = sorted(_ends_of(study, tasks), key=lambda each: each[0])
    if not medians:
        return "No gradient of this study is a number when it arrives at the first time step."
    low, high = medians[0], medians[-1]
    going = f"Going back over {high[3]}" if low[3] == high[3] else "Going back over the whole sequence"
    whose = "the median network's gradient" if _has_medians(study, tasks) else "the gradient"
    sizes = [marked(_factor_words(value), "median_decades", value, **where) for value, _, where, _ in (low, high)]
    if plain(sizes[0]) == plain(sizes[1]):
        return f"{going} multiplies {whose} by {sizes[0]}."
    told = [(value, _factor_words(value), settings) for value, settings, _, _ in medians]
    names = [facets.inside(shared_name(told, end)) if low[1] else "" for end in (min, max)]
    text = f"{going} multiplies {whose} by {sizes[0]} ({names[0]}) up to {sizes[1]} ({names[1]})."
    short = f"{going} multiplies {whose} by anything from {sizes[0]} to {sizes[1]}."
    return text if all(names) and len(plain(text)) <= LONGEST_TITLE else short


def _factor_words(decades: float) -> str:
    return "exactly 0" if decades == -np.inf else power(decades)


def _has_medians(study: Study, tasks: tuple[str, ...]) -> bool:
    """Whether some kind of network has several networks, so that its line is a median."""
    return any(
        rows["log10_gradient_ratio"].notna().sum() > 1
        for part in study.parts
        if not part.trains
        for _, rows in measures.grouped(_longest(part, tasks), part.axes)
    )


def _misses(study: Study, tasks: tuple[str, ...]) -> list[str]:
    """How far the linear law is off at the first time step, by activation function, and the law at rest of gated cells."""
    starts = pd.concat([_longest(part, tasks) for part in study.start_parts])
    starts = starts.drop_duplicates("run_key")
    starts = starts[np.isfinite(starts["log10_gradient_ratio"].astype(float))]
    linear = starts[starts["linear_rate"].notna()]
    at_rest = starts[measures.has_law_at_rest(starts) & np.isfinite(starts["rest_rate"].astype(float))]
    return [
        *_miss(linear, "linear law", "linear_law_miss", "activation"),
        *_miss(at_rest, "law at rest", "rest_law_miss", "cell"),
    ]


def _miss(starts: pd.DataFrame, law: str, kind: str, axis: str) -> list[str]:
    """The best and the worst value of the axis."""
    if starts.empty:
        return []
    decades = measures.law(starts) * (measures.steps(starts) - 1) / math.log(10)
    off = (starts["log10_gradient_ratio"] - decades).abs().groupby(starts[axis]).median().sort_values()
    misses = [(marked(number(value, 2), kind, value, **{axis: name}), named(axis, name)) for name, value in off.items()]
    miss = f"{misses[0][0]} {'decade' if plain(misses[0][0]) == '1' else 'decades'}"
    if plain(misses[0][0]) != plain(misses[-1][0]):
        miss += f" ({misses[0][1]}) up to {misses[-1][0]} ({misses[-1][1]})"
    several = starts.duplicated([axis, "seed"]).any()  # one seed has several settings
    of = f"In the median over {'settings and ' if several else ''}networks, the" if len(starts) > 1 else "The"
    return [f"{of} {law} misses by {miss}."]


def _lost(study: Study, tasks: tuple[str, ...]) -> list[str]:
    """Networks with a gradient of exactly zero, or without a number."""
    starts = measures.starts(study.all_runs)
    starts = starts[_from_last_step(starts, tasks)]
    zero, total = int((starts["log10_gradient_ratio"] == -np.inf).sum()), len(starts)
    broken = int(starts["log10_gradient_ratio"].isna().sum())
    of = f" of {marked_count(total, 'starts_from_last_step')} networks"
    sentences = []
    if zero:
        sentences.append(
            f"In {marked_count(zero, 'exactly_zero_from_last_step')}{of} the gradient is exactly zero at the first time step."
        )
    if broken:
        sentences.append(f"In {marked_count(broken, 'without_ratio_from_last_step')}{of} it is not a number.")
    return sentences


def _mixed(study: Study, tasks: tuple[str, ...]) -> str:
    """What is not drawn, because losses at other steps would mix gradients of different age."""
    starts = measures.starts(study.all_runs)
    others = starts[~_from_last_step(starts, tasks)]
    if others.empty:
        return ""
    names = sorted(set(others["task"]) - set(tasks))
    return f"Networks with a loss at other steps, too, are not drawn{f': {few(names)}' if names else ''}."


# ---- drawing


def scale(data: pd.DataFrame) -> tuple[float, float]:
    """One y scale for all panels; if a few lines would flatten all others, at least 90 % of the lines end inside."""
    whole = _span(data[["low", "high", "median"]].to_numpy())
    with_law = _span(data[["low", "high", "median", "linear"]].to_numpy(dtype=float))
    if with_law[1] - with_law[0] <= RESTRAINT * (whole[1] - whole[0]):
        whole = with_law
    last = ends(data)["median"].to_numpy()
    last = np.sort(last[np.isfinite(last)])
    spare = math.floor(OUTSIDE * len(last))
    if not spare:
        return whole
    windows = [(last[i], last[len(last) - 1 - spare + i]) for i in range(spare + 1)]
    low, high = min(windows, key=lambda w: max(w[1], 0.0) - min(w[0], 0.0))
    inner = _span(np.array([low, high]))
    return inner if whole[1] - whole[0] > FLAT * (inner[1] - inner[0]) else whole


def _span(values: np.ndarray) -> tuple[float, float]:
    known = np.append(values[np.isfinite(values)], 0.0)  # lines begin at 0
    low, high = float(known.min()), float(known.max())
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


class _Dead(NamedTuple):
    """The lag from which on every gradient of the figure is exactly zero, and the end of an axis that shows all before it."""

    lag: int
    end: float


def _dead_from(data: pd.DataFrame) -> _Dead | None:
    """None where there is none, or where what lies before takes half of the axis; a law that stays in the scale goes on to its end."""
    alive = data.loc[data["high"] != -np.inf, "lag"].max()  # what is no number is not zero
    beyond, last = data.loc[data["lag"] > alive, "lag"], ends(data)
    if beyond.empty:
        return None
    (low, high), law = scale(data), last["linear"].astype(float)
    edge = law.where(law.isna()).mask(law > high, high).mask(law < low, low)
    if (law.notna() & edge.isna()).any():
        return None
    leaves = (last["lag"] * edge / law).max()  # a law is a straight line from 0
    end = 1.1 * max(float(beyond.min()), float(leaves) if math.isfinite(leaves) else 0.0)
    return _Dead(int(beyond.min()), end) if end < 0.5 * data["lag"].max() else None


def _law_leaves(data: pd.DataFrame) -> bool:
    """Whether some linear law runs out of the scale."""
    low, high = scale(data)
    last = ends(data)["linear"].astype(float)
    return bool(((last < low) | (last > high)).any())


def leaving(data: pd.DataFrame) -> pd.DataFrame:
    """Ends of lines that lie outside the scale."""
    low, high = scale(data)
    last = ends(data)
    return last[np.isfinite(last["median"]) & ((last["median"] < low) | (last["median"] > high))]


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    names = list(data["panel"].cat.categories)
    columns = min(len(names), layout.columns(3 if data["chosen"].any() or len(names) > 4 else 2))
    height = (2.2 if len(names) > 6 else 2.5) if len(names) > 4 or layout.on_phone() else 3.3
    figure, axes = layout.grid(len(names), columns, height, sharex=data["sequence_steps"].nunique() == 1, sharey=True)
    axes[0].set_ylim(*scale(data))
    direct = _direct(data, columns)
    dead = _dead_from(data)
    for ax, name in zip(axes, names, strict=True):
        rows = data[data["panel"] == name]
        _panel(ax, rows, markers=not direct)
        if dead:
            ax.set_xlim(-0.01 * dead.end, dead.end)
        if len(names) > 1:
            layout.panel_title(ax, name, 30 if columns < 3 else 24)
        if dead:
            layout.under_title(ax, f"all exactly zero from lag {dead.lag} on")
        if direct:
            layout.label_lines(ax, _labels(ax, rows), gap=0.14 / (height - 0.5), leaders=True)
    for ax in axes:
        ax.xaxis.set_major_locator(layout.whole_numbers(9 if columns == 1 else 6))
    layout.label_below(
        axes, columns, "lag: steps back from the end, T − t" if columns < 3 else "lag: steps back, T − t"
    )
    figure.supylabel(style.RATIO % "t" + " (decades)", fontsize=10.5)
    hues = [] if direct else _hue_legend(data)
    layout.legend_below(figure, [*hues, *_legend(data)], most=3 if hues else 4)
    _label_limits(figure, axes, data)
    return figure


def _direct(data: pd.DataFrame, columns: int) -> bool:
    """Whether names fit at the lines' ends; a line that leaves the scale is always named there."""
    longest = max(map(len, data["hue"].cat.categories))
    return longest <= (22 if columns == 1 and not layout.on_phone() else 13) or bool(len(leaving(data)))


def _hues(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, Any, float, str]]:
    """Rows, colour, width and marker of every line; names get ever thinner lines, so that lines that coincide all show."""
    names = list(rows["hue"].cat.categories)
    by, lines = rows["by"].iloc[0], []
    widths = np.linspace(3.6, 1.1, len(names)) if len(names) > 1 else [THICK]
    for hue, line in rows.groupby("hue", observed=True):
        i = names.index(hue)
        width = 2.0 if by in measures.NUMBERS and len(names) > 3 else float(widths[i])
        if by == "spectral_radius":
            width = THIN if line["spectral_radius"].iloc[0] < 1 else THICK
        lines.append((line, line["colour"].iloc[0], width, style.marker(i)))
    return lines


def _panel(ax: Axes, rows: pd.DataFrame, markers: bool) -> None:
    ax.axhline(0.0, color=style.FAINT, lw=0.8, zorder=0)
    low, _ = ax.get_ylim()
    laws = rows.groupby("lag")["linear"].agg(lambda law: law.max() - law.min())  # they differ by rounding, at least
    one_law = rows["hue"].nunique() > 1 and not (laws > 1e-3 * np.ptp(ax.get_ylim())).any()
    for i, (line, colour, width, marker) in enumerate(_hues(rows)):
        if line["linear"].notna().any() and not (one_law and i):
            paint = style.INK if one_law else colour
            _law(ax, line, paint)
        band = line[["low", "high"]].clip(lower=low - 1e6)  # one network at exactly zero opens it downwards
        ax.fill_between(line["lag"], band["low"], band["high"], color=colour, lw=0, alpha=0.22)
        solid = line.assign(median=line["median"].where(np.isfinite(line["median"])))
        above = 2.3 if width == THIN else 2.2  # a thin line is seen on a thick one
        ax.plot(solid["lag"], solid["median"], color=colour, lw=width, gid="median", zorder=above)
        if markers:
            end = solid.iloc[[-1]]
            ax.plot(end["lag"], end["median"], marker=marker, ms=7, color=colour, mec="white", clip_on=False, gid="end")
        if line["zeros"].any():
            first = line.loc[line["zeros"].gt(0).idxmax(), "lag"]
            triangle: dict[str, Any] = {"marker": "v", "ms": 8, "clip_on": False, "mec": "white", "gid": "zero"}
            ax.plot([first], [0.03 + 0.05 * i], color=colour, transform=ax.get_xaxis_transform(), **triangle)
    ax.set(xlabel="", ylabel="")
    ax.margins(x=0.01)


def _law(ax: Axes, line: pd.DataFrame, colour: Any) -> None:
    """The linear law, lighter than what was measured; a triangle where it leaves the scale."""
    ax.plot(line["lag"], line["linear"], color=colour, gid="linear", zorder=2.1, **LAW)
    last, (low, high) = line.iloc[-1], ax.get_ylim()
    if low <= last["linear"] <= high:
        return
    edge = high if last["linear"] > high else low
    at = last["lag"] * edge / last["linear"]  # the law is a straight line from 0
    triangle: dict[str, Any] = {"marker": "^" if edge == high else "v", "ms": 6, "clip_on": False, "mec": colour}
    ax.plot([at], [edge], color=colour, mfc="white", ls="", gid="law leaves", **triangle)


def _hue_legend(data: pd.DataFrame) -> list[Line2D]:
    """Names of lines that are too long to stand beside them."""
    return [
        Line2D([], [], color=colour, lw=width, marker=marker, ms=7, mec="white", label=str(line["hue"].iloc[0]))
        for line, colour, width, marker in _hues(data)
    ]


def _labels(ax: Axes, rows: pd.DataFrame) -> list[tuple[float, str, Any]]:
    """Names at the lines' ends; with an arrow and its value where a line leaves the scale."""
    low, high = ax.get_ylim()
    last = ends(rows)
    named_hues = set(facets.spread(list(last["hue"]), 12))
    labels = []
    for row in last[last["hue"].isin(named_hues)].to_dict("records"):
        y = row["median"]
        text = str(row["hue"])
        if row["by"] == "spectral_radius":
            text = f"ρ = {number(row['spectral_radius'])}"
        if y == -np.inf:
            text, y = f"{text} ▼ 0".strip(), low
        elif not np.isfinite(y):
            continue
        elif not low <= y <= high:
            text = f"{text} {'↓' if y < low else '↑'} {decimals(y, 0)}".strip()
        if text:
            labels.append((y, text, row["colour"]))
    return labels


def _legend(data: pd.DataFrame) -> list[Any]:
    """Only what is drawn."""
    several = int(data["seeds"].max()) > 1
    seeds = _range(data["seeds"])
    linear = (data["linear"].notna() & ~data["at_rest"]).any()
    own = [cell for cell in measures.LINEAR_MATRICES if data["cell"].eq(cell).any()]
    law = r"linear law $\rho^{\mathrm{lag}}$" + (
        f" ({' and '.join(own)}: {'their' if len(own) > 1 else 'its'} own ρ)" if own else ""
    )
    if data["at_rest"].any():
        law = "linear law; other cells: at rest" if linear else "law at rest"
    zero: dict[str, Any] = {"color": style.FAINT, "marker": "v", "ms": 8, "ls": ""}
    median = f"median of {seeds} networks" if several else "one network"
    leaves: dict[str, Any] = {"color": style.FAINT, "mfc": "white", "marker": "^", "ms": 6, "ls": ""}
    entries = [
        (True, Line2D([], [], color=style.FAINT, lw=2.2, label=median)),
        (several, Patch(color=style.FAINT, alpha=0.3, label="lowest to highest")),
        (data["linear"].notna().any(), Line2D([], [], color=style.FAINT, label=law, **LAW)),
        (_law_leaves(data), Line2D([], [], label="it leaves the scale", **leaves)),
        (bool(_limits(data)), Line2D([], [], color=PURPLE, lw=1.0, ls=":", label="where plain floats end")),
        (data["zeros"].any(), Line2D([], [], label="a network is exactly 0 from here", **zero)),
    ]
    return [handle for there, handle in entries if there]


def _range(values: pd.Series) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"


def _limits(data: pd.DataFrame) -> list[tuple[str, float]]:
    """Where plain floats run out, of a gradient of norm 1 at the last step, as far as the scale reaches."""
    low, high = scale(data)
    return [
        (f"{dtype} {word}", y)
        for dtype, *ys in LIMITS
        for word, y in zip(("min", "max"), ys, strict=True)
        if low < y < high
    ]


def _label_limits(figure: Figure, axes: list[Axes], data: pd.DataFrame) -> None:
    """The limits of floats as lines, named where no line of the data is in the way."""
    there = _limits(data)
    if not there:
        return
    for ax in axes:
        for _, y in there:
            ax.axhline(y, color=PURPLE, lw=1.0, ls=":", gid="limit", zorder=1)
    figure.draw_without_rendering()
    for ax, (_, rows) in zip(axes, data.groupby("panel", observed=True), strict=True):
        for text, y in there:
            name_limit(ax, text, y, rows)
