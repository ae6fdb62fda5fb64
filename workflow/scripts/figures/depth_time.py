"""The gradient's way through a stack of layers: down through depth and back through time, and which of the two makes it vanish."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from study.report import drawing, facets, layout, measures, reader, statistics, style
from study.report.findings import Study
from study.report.words import (
    DIRECTION,
    few,
    listed,
    marked,
    marked_count,
    name_of,
    number,
    plain,
    power,
    uncapital,
    whole,
)

NOTHING = drawing.Nothing(
    "No network of this study has several layers and a loss at the last step alone.",
    "Add a sweep with layers: [1, 4] and loss_at: last.",
)
MOST_LAGS = 120  # columns of a heat map
LINES = 8  # of equal size in a panel, about
COLOURS = "RdBu_r"  # as on the map of radii and lengths: blue vanishing, red exploding
LABEL = r"$\log_{10}\,(\|\partial L/\partial h_t^{\,\ell}\|\,/\,\|\partial L/\partial h_T^{\,L}\|)$"
PLACE = ["panel", "seed", "layer", "lag"]
WAY = ["run_key", "way"]
REVERSE = "reverse"
MOST_PAIRS = 4  # kinds of network of which one direction is compared with two in a sentence
Signs = tuple[float, float] | None  # of what depth does near the loss and far from it
TOO_FEW = "Too few seeds to tell what depth does"
LOWER_LAYERS = "lower layers clearly have"
NOR_FAR = "nor is there one far from it"
OF_EACH_DIRECTION = (
    ("near the loss", "at each direction's last step"),
    ("Near the loss", "At each direction's last step"),
    ("far from it", "at its first"),
)
DOES_SECOND_DIRECTION = "A second direction multiplies the gradient at the first step of the first layer by"
BOTH_ENDS_ARE_NEAR = (
    "Below the last layer, gradients also come from the other direction of the layer above, whose last step is at the other end. So both ends of a sequence "
    "are near to the loss there, and a step back may be a factor above one."
)
WHAT_REVERSE_IS = (
    "The reverse direction reads from the last step to the first, so its gradient goes the other way in time. "
    "Its lag is t − 1, and its last step is the first one."
)


def frame(tables: reader.Tables) -> pd.DataFrame:
    """Panel × seed × layer × lag: ``decades`` is log10 of ‖∂L/∂h‖ there over that of the last layer at the last step, before training.

    Of every kind of network the deepest stack, at its longest sequence; long sequences at some lags. ``layers`` and ``steps`` are its L and T.
    ``axes`` names the settings that tell panels apart, which stand beside. Of bidirectional networks each ``direction`` has a panel, and the
    lag of the reverse one is in its own time, t − 1.
    """
    if "layers" not in tables.files:
        return pd.DataFrame()
    runs = measures.starts(tables.runs("task_loss_at", "data", "growth_rate"))
    runs = runs[(runs["task_loss_at"] == "last") & runs["layers"].notna()]
    runs = runs[~runs["run_key"].isin(reader.with_other_losses(tables, runs))]
    axes = [axis for axis in measures.varied(runs, measures.TRAINING) if axis not in ("sequence_length", "layers")]
    runs = _deepest(measures.at_longest(runs, axes), axes)
    if runs.empty:
        return pd.DataFrame()
    runs, axes = _by_direction(runs, axes)
    runs = facets.panels(runs, axes).assign(steps=lambda shown: measures.steps(shown))
    of_run = [*WAY, "panel", "seed", "layers", "steps", "left_out", *axes]
    data = _norms(tables, runs).merge(runs[of_run], on=WAY)
    last = data[(data["layer"] == data["layers"]) & (data["lag"] == 0)].set_index(WAY)["log10_grad_norm"]
    ends = last.where(np.isfinite(last)).rename("end")  # a gradient of zero at the end has no ratio
    data = data.join(ends, on=WAY).assign(axes=",".join(axes))
    data["decades"] = data["log10_grad_norm"] - data["end"]
    if data["decades"].isna().all():
        return pd.DataFrame()
    return data.drop(columns=["run_key", "log10_grad_norm", "end"]).sort_values(PLACE, ignore_index=True)


def _by_direction(runs: pd.DataFrame, axes: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """(the runs, those with two directions once for each, their axes). ``way`` is the direction in the table ``layers``."""
    both = runs["bidirectional"].eq(True)
    runs = runs.assign(way="forward")
    if not both.any():
        return runs, axes
    named = [runs[both].assign(way=way, **{DIRECTION: way}) for way in ("forward", REVERSE)]
    return pd.concat([runs[~both].assign(**{DIRECTION: None}), *named], ignore_index=True), [*axes, DIRECTION]


def _deepest(runs: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """The deepest stack of every kind that has several layers."""
    layers = runs["layers"]
    most = layers.groupby([runs[name] for name in axes], dropna=False).transform("max") if axes else layers.max()
    return runs[(layers == most) & (layers > 1)]


def _norms(tables: reader.Tables, runs: pd.DataFrame) -> pd.DataFrame:
    """log10 ‖∂L/∂h‖ of every run, direction and layer at its lags, each in its direction's own time."""
    lags = {T: set(lags_of(T)) for T in runs["steps"].unique()}
    every = sorted({lag for T, own in lags.items() for each in own for lag in (each, T - 1 - each)})
    wanted = (pc.field("update") == 0) & pc.field("run_key").isin(pa.array(runs["run_key"], pa.string()))
    wanted &= pc.field("lag").isin(pa.array(every, pa.int32()))
    columns = ["run_key", "layer", "direction", "lag", "log10_grad_norm"]
    pieces = list(tables.pieces("layers", columns, wanted))
    data = pd.concat(pieces, ignore_index=True) if pieces else pd.DataFrame(columns=columns)
    data = data.rename(columns={"direction": "way"})
    steps = data["run_key"].map(runs.drop_duplicates("run_key").set_index("run_key")["steps"])
    data["lag"] = data["lag"].where(data["way"] != REVERSE, steps - 1 - data["lag"])
    return data[[lag in lags[T] for lag, T in zip(data["lag"], steps, strict=True)]]


def lags_of(T: int) -> np.ndarray:
    """The lags that are looked at, the first, the one in the middle and the last among them."""
    return np.unique([*facets.spread(range(T), MOST_LAGS), (T - 1) // 2, T - 1])


# ---- facts


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        ends_apart = (measures.of_files_at_last_step(study.all_runs)["layers"] > 1).any()
        return NOTHING.facts(drawing.ENDS_APART if ends_apart else "")
    factors = {str(panel): _factors(rows) for panel, rows in data.groupby("panel", observed=True)}
    reverse = _reverse_panels(data)
    told = _least_in_time({panel: decades for panel, decades in factors.items() if panel not in reverse})
    title = _title(data, factors, told)
    title = _of_each_direction(title) if reverse else title
    alt = f"Heat maps of the gradient's size: layer, from the last on top to the first, against steps back from the end. {title}"
    said = [_range(data, factors), *(_sentences(data, told, factors[told]) if told else ())]
    said += [_second_direction(data), _layers_apart(factors)]
    said += [WHAT_REVERSE_IS, BOTH_ENDS_ARE_NEAR] if reverse else []
    shown = [
        *(["panels"] if len(factors) > 1 else []),
        *(["networks"] if data.groupby(["panel", "layer", "lag"], observed=True).size().max() > 1 else []),
        *(["two directions"] if reverse else []),
        *(["one direction"] if DIRECTION not in data or data[DIRECTION].isna().any() else []),
        *(["missing"] if _medians(data)["decades"].isna().any() else []),
    ]
    return drawing.facts(title, alt, [*said, facets.left_out(data)], shown, answer=said)


def _of_each_direction(title: str) -> str:
    """Of two directions each has its own last step, where the loss acts; below the last layer, neither end is far from the loss."""
    for words, instead in OF_EACH_DIRECTION:
        title = title.replace(words, instead)
    return title


def _reverse_panels(data: pd.DataFrame) -> list[str]:
    """The panels of reverse directions."""
    return [] if DIRECTION not in data else list(map(str, data.loc[data[DIRECTION] == REVERSE, "panel"].unique()))


def _factors(rows: pd.DataFrame) -> pd.DataFrame:
    """By seed, in decades: what a layer down does at the last step (``near`` the loss) and at the first (``far``); and what a step back does
    in the last and in the first layer.

    A layer is the mean over layers. A step is the mean over the steps from the middle of the sequence to its beginning.
    """
    L, T = int(rows["layers"].iloc[0]), int(rows["steps"].iloc[0])
    middle = (T - 1) // 2
    table = rows.pivot_table(index="seed", columns=["layer", "lag"], values="decades", dropna=False)
    with np.errstate(invalid="ignore"):
        decades = pd.DataFrame(
            {name: (table[1, lag] - table[L, lag]) / (L - 1) for name, lag in (("near", 0), ("far", T - 1))}
        )
        for name, layer in (("last", L), ("first", 1)):
            decades[name] = (table[layer, T - 1] - table[layer, middle]) / (T - 1 - middle)
    return decades.replace([np.inf, -np.inf], np.nan).dropna()


def _where(data: pd.DataFrame, panel: str) -> dict[str, Any]:
    """The settings that tell a panel from the others."""
    row = data[data["panel"] == panel].iloc[0]
    return {axis: row[axis] for axis in str(row["axes"]).split(",") if axis}


def _factor(decades: float, kind: str, **where: Any) -> str:
    return marked(number(10.0**decades, 3), kind, 10.0**decades, **where)


def _least_in_time(factors: dict[str, pd.DataFrame]) -> str:
    """The panel in which a step back does least, so that depth shows; empty where no size could be followed."""
    known = {panel: decades for panel, decades in factors.items() if len(decades)}
    return min(known, key=lambda panel: abs(float(known[panel]["last"].mean())), default="")


def _title(data: pd.DataFrame, factors: dict[str, pd.DataFrame], panel: str) -> str:
    """What depth does near the loss and far from it; as a finding only where chance does not do it. Of several kinds of network: in how many."""
    if not panel:
        return "No gradient of a stack of layers keeps a size that could be followed."
    if len(factors) > 1:
        return _title_of_kinds(factors, "kinds and directions" if _reverse_panels(data) else "kinds of network")
    where, decades = _where(data, panel), factors[panel]
    near, far = (_factor(float(decades[name].mean()), f"depth_factor_{name}", **where) for name in ("near", "far"))
    return f"{_verdict(_signs(factors)[panel])}: a layer down is a factor of {near} at the last step, of {far} at the first."


def _title_of_kinds(factors: dict[str, pd.DataFrame], kinds: str) -> str:
    """What is so in all kinds of network, or in how many of them lower layers clearly have less, or more."""
    signs = list(_signs(factors).values())
    verdicts = set(map(_verdict, signs))
    if verdicts == {TOO_FEW}:
        return f"{TOO_FEW}."
    if len(verdicts) == 1:
        return f"In {marked(whole(len(factors)), 'depth_kinds', len(factors))} {kinds}, {uncapital(*verdicts)}."
    near, far = _clear_kinds(signs)
    of = f"of {marked_count(len(factors), 'depth_kinds')} {kinds}"
    if not near:
        end = f"far from it, {LOWER_LAYERS} {_in_kinds(far, ' of the gradient')}" if far else NOR_FAR
        return f"Near the loss, depth has no clear effect in any {of}; {end}."
    return (
        f"Near the loss, {LOWER_LAYERS} {_in_kinds(near, ' of the gradient')} {of}; "
        f"{f'far from it, {_in_kinds(far)}' if far else NOR_FAR}."
    )


def _clear_kinds(signs: list[Signs]) -> list[dict[str, str]]:
    """Near the loss and far from it: in how many kinds of network lower layers clearly have ``less`` and ``more``; only where there are any."""
    kinds = []
    for place, end in enumerate(("near", "far")):
        told = [each[place] for each in signs if each]
        counts = {"less": told.count(-1.0), "more": told.count(1.0)}
        kinds.append({way: marked_count(n, f"depth_kinds_{end}_{way}") for way, n in counts.items() if n})
    return kinds


def _in_kinds(counts: dict[str, str], what: str = "") -> str:
    """less of the gradient in 3 and more in 2."""
    first, *others = (f"{way} in {count}" for way, count in counts.items())
    return listed([first.replace(" in ", f"{what} in ", 1), *others])


def _judged(factors: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, dict[tuple[str, str], float]]:
    """(by seed and (panel, what), decades that depth may change: ``near``, ``far``, and ``gap`` between the first and the last layer in a step
    back; the p value of each, all of them judged together)."""
    columns: dict[tuple[str, str], pd.Series] = {}
    for panel, decades in factors.items():
        columns |= {(panel, end): decades[end] for end in ("near", "far")} | {
            (panel, "gap"): decades["first"] - decades["last"]
        }
    table = pd.concat(columns, axis=1).dropna(axis=1, how="all")
    return table, dict(zip(table, statistics.familywise(table.to_numpy()), strict=True))


def _signs(factors: dict[str, pd.DataFrame]) -> dict[str, Signs]:
    """By panel, near the loss and far from it: −1 where lower layers clearly have less of the gradient, 1 where they have more, 0 where neither
    is clear; None where seeds are too few to tell."""
    table, p = _judged(factors)

    def sign(panel: str, end: str) -> float:
        return float(np.sign(table[panel, end].mean())) if p[panel, end] < statistics.LEVEL else 0.0

    return {
        panel: (sign(panel, "near"), sign(panel, "far")) if len(decades) >= statistics.FEWEST_SEEDS else None
        for panel, decades in factors.items()
    }


def _verdict(signs: Signs) -> str:
    """In words what depth clearly does at both ends of the sequence."""
    if signs is None:
        return TOO_FEW
    near, far = signs
    if not near:
        return "Depth has no clear effect near the loss"
    if far == -near:
        less, more = ("less", "more") if near < 0.0 else ("more", "less")
        return f"Lower layers have {less} of the gradient near the loss, and {more} far from it"
    what = "vanishing" if near < 0.0 else "growth"
    return f"Depth adds its own {what}" if near == far else f"Depth adds {what} near the loss alone"


def _sentences(data: pd.DataFrame, panel: str, decades: pd.DataFrame) -> list[str]:
    """The factors of a panel; near the loss with the interval over networks."""
    where, average = _where(data, panel), statistics.mean(decades["near"].to_numpy())
    ends = {"depth_factor_near_low": average.low, "depth_factor_near_high": average.high}
    low, high = (_factor(end, kind, **where) for kind, end in ends.items())
    interval = f" (95 % interval {low} to {high})" if math.isfinite(average.low) else ""
    near, far = (_factor(float(decades[name].mean()), f"depth_factor_{name}", **where) for name in ("near", "far"))
    last, first = (_factor(float(decades[name].mean()), f"step_factor_{name}", **where) for name in ("last", "first"))
    several = data["panel"].nunique() > 1
    begin = f"Where a step back does least, with {panel}, a layer" if several else "A layer"
    return [
        f"{begin} down is a factor of {near}{interval} at the last step, and of {far} at the first.",
        f"There a step back is a factor of {last} in the last layer, and of {first} in the first.",
    ]


def _range(data: pd.DataFrame, factors: dict[str, pd.DataFrame]) -> str:
    """Between what the factors of a layer lie over all panels."""
    means = {panel: decades.mean() for panel, decades in factors.items() if len(decades)}
    if len(means) < 2:
        return ""
    spans = []
    for name in ("near", "far"):
        in_order = sorted((float(mean[name]), panel) for panel, mean in means.items())
        ends = in_order[0], in_order[-1]
        low, high = (_factor(mean, f"depth_factor_{name}", **_where(data, panel)) for mean, panel in ends)
        spans.append(low if plain(low) == plain(high) else f"{low} to {high}")
    if all(" to " not in plain(span) for span in spans):
        return ""  # what is said of one kind holds for all
    return f"Over all kinds of network, a layer down is a factor of {spans[0]} at the last step, and of {spans[1]} at the first."


def _second_direction(data: pd.DataFrame) -> str:
    """What a second direction does to the gradient at the first step of the first layer, where few kinds of network have one direction and two."""
    if DIRECTION not in data or "bidirectional" not in data:  # one way alone
        return ""
    first = data[(data["layer"] == 1) & (data["lag"] == data["steps"] - 1) & (data[DIRECTION] != REVERSE)]
    axes = [axis for axis in str(data["axes"].iloc[0]).split(",") if axis not in ("bidirectional", DIRECTION)]
    words: list[str] = []
    for chosen, rows in measures.grouped(first, axes):
        decades = rows.pivot_table(index="seed", columns=["bidirectional", "layers", "steps"], values="decades")
        if decades.shape[1] != 2 or decades.columns.droplevel(0).nunique() > 1:
            continue  # one alone, or stacks of other sizes
        each = (decades.iloc[:, 1] - decades.iloc[:, 0]).replace([np.inf, -np.inf], np.nan).dropna()
        if len(each):
            change = statistics.mean(each.to_numpy())
            name = f" for {name_of(chosen)}" if chosen else ""
            interval = "" if words else "95 % interval "
            words.append(f"{_of_decades(change, interval, 'second_direction', **chosen)}{name}")
    if not 0 < len(words) <= MOST_PAIRS:
        return ""
    start, *others = words
    sentences = [f"{DOES_SECOND_DIRECTION} {start}.", *(f"It is {each}." for each in others)]
    return f"{' '.join(sentences)} Gradients are relative to that of the last layer at its last step."


def _of_decades(change: statistics.Interval, interval: str, kind: str, **where: Any) -> str:
    """10⁸·¹ (95 % interval 10⁷·⁶ to 10⁸·⁵); ``interval`` says what the brackets hold."""
    value = marked(power(change.value), kind, change.value, **where)
    if not math.isfinite(change.low):
        return value
    low, high = (
        marked(power(end), f"{kind}_{name}", end, **where) for name, end in (("low", change.low), ("high", change.high))
    )
    return f"{value} ({interval}{low} to {high})"


def _layers_apart(factors: dict[str, pd.DataFrame]) -> str:
    """Whether a step back does the same in the first layer as in the last, all panels judged together."""
    table, p = _judged(factors)
    gaps = {panel: table[panel, what] for panel, what in table if what == "gap"}
    if not gaps:
        return ""
    if len(table) < statistics.FEWEST_SEEDS:
        return "Whether time does the same in the first layer as in the last, too few seeds tell."
    apart = [str(panel) for panel in gaps if p[panel, "gap"] < statistics.LEVEL]
    if not apart:
        return "A step back does not clearly differ between the first layer and the last."
    ways = {"larger" if float(gaps[panel].mean()) > 0.0 else "smaller" for panel in apart}
    everywhere = " in every kind of network" if len(apart) == len(factors) else f" for {few(apart)}"
    where = everywhere if len(factors) > 1 else ""
    return (
        f"The factor of a step back is clearly {listed(sorted(ways), 'or')} in the first layer than in the last{where}."
    )


# ---- drawing


def _medians(data: pd.DataFrame) -> pd.DataFrame:
    """Panel × layer × lag: the median over networks; nan where none of them is a number."""
    return data.groupby(["panel", "layers", "steps", "layer", "lag"], observed=True)["decades"].median().reset_index()


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    medians, names = _medians(data), list(data["panel"].cat.categories)
    columns = min(len(names), layout.columns(3))
    deepest = int(data["layers"].max())
    height = min(3.2, 1.5 + 0.2 * deepest)
    figure, axes = layout.grid(len(names), columns, height, extra=1.5 if layout.on_phone() else 1.1, sharex=False)
    finite = medians["decades"][np.isfinite(medians["decades"])]
    most = max(1.0, math.ceil(float(finite.abs().max()))) if len(finite) else 1.0
    norm = Normalize(-most, most)
    for ax, name in zip(axes, names, strict=True):
        _panel(ax, medians[medians["panel"] == name], norm)
        if len(names) > 1:
            layout.panel_title(ax, str(name), 30 if columns < 3 else 26)
    lag = "lag: steps back, T − t" if columns > 1 else "lag: steps back from the end, T − t"
    layout.label_below(axes, columns, "lag, in each direction's own time" if _reverse_panels(data) else lag)
    for ax in axes[::columns]:
        ax.set_ylabel("layer")
    place = (
        {"location": "bottom", "aspect": 30, "fraction": 0.05}
        if layout.on_phone()
        else {"aspect": 35, "fraction": 0.05}
    )
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, **place)
    unit = (
        " (decades)" if layout.on_phone() else "\n(decades)"
    )  # upright, one line of both is longer than a row is high
    bar.set_label(LABEL + unit)
    if len(finite):  # only what is there
        ends = min(float(finite.min()), 0.0), max(float(finite.max()), 0.0, 0.02 * most)
        (bar.ax.set_xlim if layout.on_phone() else bar.ax.set_ylim)(*ends)
    if medians["decades"].isna().any():
        missing = Patch(fc="#dddddd", hatch="///", ec=style.FAINT, label="not a number")
        figure.legend(handles=[missing], loc="outside lower center")
    return figure


def _panel(ax: Axes, medians: pd.DataFrame, norm: Normalize) -> None:
    """One heat map, the last layer on top. Of a long sequence a column stands for the lags around it."""
    table = medians.pivot(index="layer", columns="lag", values="decades").sort_index()
    values = np.array(table.to_numpy(dtype=float))
    values[np.isneginf(values)] = norm.vmin  # exactly zero: the colour of the most vanishing
    ax.set_facecolor("#dddddd")
    ax.patch.set(hatch="///", edgecolor=style.FAINT)
    lags, layers = table.columns.to_numpy(dtype=float), table.index.to_numpy(dtype=float)
    ax.pcolormesh(
        _edges(lags), _edges(layers), np.ma.masked_invalid(values), norm=norm, cmap=COLOURS, rasterized=True, gid="depth map"
    )  # fmt: skip
    if min(values.shape) > 1 and np.isfinite(values).any():
        _lines(ax, lags, layers, values)
    shown = facets.spread([int(layer) for layer in layers], 8)
    ax.set_yticks(shown, [str(layer) for layer in shown])
    ax.set_xlim(*_edges(lags)[[0, -1]])
    ax.xaxis.set_major_locator(layout.whole_numbers())
    ax.tick_params(length=2)


def _lines(ax: Axes, lags: np.ndarray, layers: np.ndarray, values: np.ndarray) -> None:
    """Lines of equal size, as far apart as is easily read: they lean where depth does something."""
    known = values[np.isfinite(values)]
    levels = MaxNLocator(LINES).tick_values(float(known.min()), float(known.max()))
    inside = [level for level in levels if known.min() < level < known.max()]
    if inside:
        ax.contour(lags, layers, np.ma.masked_invalid(values), inside, colors=style.INK, linewidths=0.8, linestyles="-")


def _edges(centres: np.ndarray) -> np.ndarray:
    """Between neighbours, and as far beyond the ends."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    between = (centres[1:] + centres[:-1]) / 2
    return np.array([2 * centres[0] - between[0], *between, 2 * centres[-1] - between[-1]])
