"""How far networks of one kind differ, and of which kinds a longer sequence averages that away."""

from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from study.report import drawing, facets, layout, measures, reader, style
from study.report.findings import Study
from study.report.phrases import LN10
from study.report.words import LONGEST_TITLE, listed, marked, marked_count, number, plain, unrounded

NOTHING = drawing.Nothing(
    "No two networks of this study differ in their seed alone and have a growth rate, so there is no spread to show.",
    "Set seeds: 3 or more in a sweep whose sequence_length is 2 or more, so that there are several networks to compare.",
)
MARKS = {"vanishing": "v", "stable": "o", "exploding": "^"}
SLOPES = (
    (-1.0, "$%s^{-1}$", ": ends only"),
    (-0.5, "$%s^{-1/2}$", ": chance"),
    (0.0, "flat", ": they differ"),
)  # T, or n
SETTING = ["panel", "scale", "sequence_length"]
GOLDEN = 0.6180339887


def frame(tables: reader.Tables) -> pd.DataFrame:
    """One row a network: its ``growth_rate`` and regime, its ``offset`` from the mean over the networks of its setting, and their
    standard deviation ``spread``.

    ``near``: it is at the longest sequence and at the ``scale`` at which the mean rate of its kind (``panel``) is nearest to zero. A scale is
    a spectral radius, or what ``scaled_by`` says. Only settings with several networks; rates that are not finite are in no mean.
    """
    runs = measures.distinct_rates(measures.starts(tables.runs("growth_rate", "regime")))
    if runs.empty:
        return pd.DataFrame()
    scale = measures.scale_of(runs)
    axes = [axis for axis in measures.varied(runs, measures.TRAINING) if axis not in (scale, "sequence_length")]
    runs = facets.panels(runs, axes).assign(scale=lambda shown: shown[scale], scaled_by=scale, steps=measures.steps)
    runs["known"] = runs["growth_rate"].where(np.isfinite(runs["growth_rate"].astype(float)))
    networks = runs.groupby(SETTING, observed=True, dropna=False)["known"]
    runs["mean"], runs["spread"] = networks.transform("mean"), networks.transform("std").map(unrounded)
    runs["offset"] = runs["known"] - runs["mean"]
    runs = runs[runs["spread"].notna()].copy()
    if runs.empty:
        return pd.DataFrame()
    runs["panel"] = runs["panel"].cat.remove_unused_categories()
    runs["regime"] = runs["regime"].fillna("not a number")
    runs["near"] = _near(runs)
    columns = [*SETTING, "steps", "seed", "growth_rate", "regime", "offset", "spread", "near", "scaled_by", "left_out"]
    return runs[columns].sort_values([*SETTING, "seed"], ignore_index=True)


def _near(runs: pd.DataFrame) -> pd.Series:
    """Of every kind the rows at its longest sequence and nearest to where it turns."""
    near = pd.Series(False, index=runs.index)
    for _, kind_rows in runs.groupby("panel", observed=True):
        longest = kind_rows[kind_rows["sequence_length"] == kind_rows["sequence_length"].max()]
        scale = longest.loc[longest["mean"].abs().idxmin(), "scale"]
        near[longest.index[longest["scale"].eq(scale) | longest["scale"].isna()]] = True
    return near


def typical(data: pd.DataFrame) -> pd.DataFrame:
    """The standard deviation of every kind at every length, the median over spectral radii, or weight scales."""
    settings = data.drop_duplicates(SETTING)
    return settings.groupby(["panel", "sequence_length", "steps"], observed=True, as_index=False)["spread"].median()


# ---- facts


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    settings = _settings(study)
    title = _title(settings)
    near = data[data["near"]]
    shown = [
        *(["lengths"] if _has_lengths(data) else []),
        *(["added"] if _length(data)[0] == "steps" else []),
        *(["regimes"] if near["regime"].nunique() > 1 else []),
        *(["scale"] if data["scale"].nunique() > 1 else []),
        *(["weight scale"] if data["scaled_by"].iloc[0] == "weight_scale" else []),
        *(["zeros"] if (near["growth_rate"] == -np.inf).any() else []),
    ]
    left = "on the left, their standard deviation against sequence length; on the right, " if "lengths" in shown else ""
    alt = (
        f"Charts of growth rates of networks that differ in their seed alone: {left}each network's difference from the mean of its "
        f"kind at the longest sequence. {title}"
    )
    return drawing.facts(
        title,
        alt,
        [
            _decades(settings),
            _widest(settings, title),
            _split(study),
            _zeros(study),
            _counted_once(study),
            facets.left_out(data, headline=True),
        ],
        shown,
    )


def _networks_of(study: Study) -> pd.DataFrame:
    """Every network once, of those whose rates are the same by construction."""
    return measures.distinct_rates(measures.starts(study.all_runs))


def _counted_once(study: Study) -> str:
    """Which networks have one rate by construction, so that one of them stands for all."""
    why = {
        "loss_at": "Rates are of the last step's loss alone.",
        "bidirectional": "In a single layer, a reverse cell does not change the forward cell's rate.",
    }
    same = [why[axis] for axis in measures.same_rates(measures.starts(study.all_runs))]
    return " ".join(["Networks whose rates are the same by construction are counted once.", *same]) if same else ""


def _settings(study: Study) -> pd.DataFrame:
    """Every setting with several finite rates: T, the settings besides it, and the standard deviation over its networks."""
    settings, starts = [], _networks_of(study)
    scale = measures.scale_of(starts)
    axes = [axis for axis in measures.varied(starts, measures.TRAINING) if axis not in (scale, "sequence_length")]
    names = facets.names_of(starts, axes)
    for chosen, rows in measures.by_setting(starts):
        known = rows.loc[np.isfinite(rows["growth_rate"].astype(float)), "growth_rate"]
        if len(known) > 1:
            T = int(rows["sequence_length"].iloc[0])
            others = {axis: value for axis, value in chosen.items() if axis != "sequence_length"}
            kind = {axis: value for axis, value in others.items() if axis != scale}
            row = {
                "T": T,
                "steps": int(measures.steps(rows).iloc[0]),
                "scale": others.get(scale),
                "spread": unrounded(float(known.std())),
            }
            settings.append(row | {"kind": names[tuple(kind.values())], "where": kind})
    return pd.DataFrame(settings)


def _at(T: int) -> str:
    return f"T = {marked_count(T, 'setting', axis='sequence_length')}"


def _spread(value: float, T: int, **kind: Any) -> str:
    return marked(number(unrounded(value), 2), "spread", value, sequence_length=T, **kind)


def _by_kind(settings: pd.DataFrame, T: int) -> pd.DataFrame:
    """The typical spread of every kind at one length, from the smallest."""
    at_length = settings[settings["T"] == T]
    return at_length.groupby("kind").agg(spread=("spread", "median"), where=("where", "first")).sort_values("spread")


def _title(settings: pd.DataFrame) -> str:
    """For which kinds the spread falls to less than half from the shortest to the longest sequence."""
    first, last = int(settings["T"].min()), int(settings["T"].max())
    places = [
        set(settings.loc[settings["T"] == T, ["kind", "scale"]].fillna(0.0).itertuples(index=False))
        for T in (first, last)
    ]
    before, after = _by_kind(settings, first), _by_kind(settings, last)
    if first == last or places[0] != places[1] or not (before["spread"] > 0).all() or not (after["spread"] > 0).all():
        return _from_to(_at_longest(settings))
    factor = before["spread"] / after["spread"]
    factor = factor.sort_values(ascending=False)
    times = {
        kind: marked(number(value, 2), "spread_factor", value, first=first, last=last, **after.loc[kind, "where"])
        for kind, value in factor.items()
    }
    fall, others = list(factor.index[factor > 2]), list(factor.index[~(factor > 2)])
    head = f"From {_at(first)} to {_at(last)} the spread of rates over networks"
    if len(factor) == 1:
        if fall:
            return f"{head} falls by a factor of {times[fall[0]]}."
        return f"{head} does not halve: it is {_spread(before['spread'].iloc[0], first)}, then {_spread(after['spread'].iloc[0], last)}."
    texts = [_of_each(each, times, fall, others) for each in (head, head.replace(" of rates", ""))]
    texts.append(_of_many(head, times, fall, len(factor)))
    return next((text for text in texts if len(plain(text)) <= LONGEST_TITLE), texts[-1])


def _of_each(head: str, times: dict[str, str], fall: list[str], others: list[str]) -> str:
    """Kinds by name, with the largest factor."""
    if not fall:
        return f"{head} halves for none of {listed(others)}."
    most = f"{head} falls by a factor of {times[fall[0]]} for {fall[0]}"
    more = f", and more than halves for {listed(fall[1:])}" if fall[1:] else ""
    return f"{most}{more}" + (f"; it does not halve for {listed(others)}." if others else ".")


def _of_many(head: str, times: dict[str, str], fall: list[str], kinds: int) -> str:
    """Kinds by their number."""
    total = marked_count(kinds, "kinds_spread")
    if not fall:
        return f"{head} halves in none of {total} kinds of network."
    count = marked_count(len(fall), "kinds_halving")
    factor = f"{'the most ' if len(fall) > 1 else ''}by a factor of {times[fall[0]]}"
    return f"{head} more than halves in {count} of {total} kinds of network, {factor}."


def _at_longest(settings: pd.DataFrame) -> pd.DataFrame:
    """The typical spread of every kind at its own longest sequence, from the smallest."""
    own = settings[settings["T"] == settings.groupby("kind")["T"].transform("max")]
    kinds = own.groupby("kind").agg(spread=("spread", "median"), where=("where", "first"), T=("T", "first"))
    return kinds.sort_values("spread")


def _from_to(spreads: pd.DataFrame) -> str:
    """The smallest and the largest spread of any kind, with its length: of kinds of one length, said once."""
    low, high = spreads.iloc[0], spreads.iloc[-1]
    one = spreads["T"].nunique() == 1
    at = f" at {_at(low['T'])}" if one else ""
    if not unrounded(high["spread"]):
        return f"Networks of one kind all have the same growth rate{at}."
    ends = [_spread(each["spread"], each["T"], **each["where"]) for each in (low, high)]
    head = f"Growth rates of networks of one kind spread by {ends[0]}"
    if one and plain(ends[0]) == plain(ends[1]):
        return f"{head} a step (standard deviation){at}."
    lengths = ["", ""] if one else [_at(each["T"]) for each in (low, high)]
    names = [
        ", ".join(filter(None, [facets.inside(each.name), T])) for each, T in zip((low, high), lengths, strict=True)
    ]
    text = f"{head} ({names[0]}) up to {ends[1]} ({names[1]}) a step{at}."
    if len(plain(text)) <= LONGEST_TITLE:
        return text
    if one:
        return f"{head} to {ends[1]} a step (standard deviation){at}."
    return f"{head} at {lengths[0]} up to {ends[1]} at {lengths[1]} a step (standard deviation)."


def _decades(settings: pd.DataFrame) -> str:
    """What the typical spread makes of the whole sequence."""
    T = int(settings["T"].max())
    longest = settings[settings["T"] == T]
    decades = float((longest["spread"] * (longest["steps"] - 1)).median()) / LN10
    if not unrounded(decades):
        return ""
    factor = marked(number(decades, 2), "spread_decades", decades, sequence_length=T)
    unit = "decade" if plain(factor) == "1" else "decades"
    return f"A rate that is higher by one standard deviation at every step adds {factor} {unit} over the whole sequence at {_at(T)}{', in the median of the settings' if len(longest) > 1 else ''}."


def _widest(settings: pd.DataFrame, title: str) -> str:
    """The kind of network that differs most, each at its longest sequence, unless the title has it."""
    by_kind = _at_longest(settings)
    if (
        len(by_kind) < 2
        or not unrounded(by_kind["spread"].max())
        or by_kind["spread"].max() < 1.2 * by_kind["spread"].min()
    ):
        return ""
    widest = by_kind.iloc[-1]
    if f"({facets.inside(widest.name)}" in title:
        return ""
    spread, at = _spread(widest["spread"], widest["T"], **widest["where"]), _at(widest["T"])
    if by_kind["T"].nunique() > 1:
        return f"With each kind at its longest sequence, networks differ most for {widest.name}: by {spread} a step, at {at}."
    return f"At {at}, networks differ most for {widest.name}: by {spread} a step."


def _split(study: Study) -> str:
    """In how many settings at the longest sequence networks of one kind end in different regimes."""
    starts = _networks_of(study)
    T = int(starts["sequence_length"].max())
    at_longest = starts[starts["sequence_length"] == T]
    groups = [rows for _, rows in measures.by_setting(at_longest)]
    split = sum(max(measures.regime_counts(rows).values()) < len(rows) for rows in groups)
    if not split:
        return ""
    disagree = "do not even agree on whether gradients vanish, stay or explode."
    at = f" at {_at(T)}" if starts["sequence_length"].nunique() > 1 else ""
    if len(groups) == 1:
        return f"Networks{at} {disagree}"
    counts = [
        marked_count(n, kind, sequence_length=T) for n, kind in ((split, "settings_split"), (len(groups), "settings"))
    ]
    return f"In {counts[0]} of {counts[1]} settings{at}, networks {disagree}"


def _zeros(study: Study) -> str:
    """Networks without a finite rate, which are in no standard deviation."""
    rate = _networks_of(study)["growth_rate"].astype(float)
    count = int((~np.isfinite(rate)).sum())
    return (
        f"Networks that are left out, because their rate is not finite: {marked_count(count, 'without_finite_rate')}."
        if count
        else ""
    )


# ---- drawing


def _has_lengths(data: pd.DataFrame) -> bool:
    """Whether some kind has a spread at several lengths."""
    known = typical(data).query("spread > 0")
    return bool((known.groupby("panel", observed=True)["sequence_length"].nunique() > 1).any())


def _length(data: pd.DataFrame) -> tuple[str, str]:
    """What a rate is averaged over: T, or all steps n where a task adds some to T."""
    return ("steps", "n") if (data["steps"] > data["sequence_length"]).any() else ("sequence_length", "T")


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    kinds, both = len(data["panel"].cat.categories), _has_lengths(data)
    lines = max(name.count("\n") + 1 for name in _kind_names(data).values())
    right = max(2.2, 0.9 + max(0.42, 0.08 + 0.16 * lines) * kinds)
    if not both:
        figure, (ax,) = layout.grid(1, 1, right, extra=0.9)
        _networks(ax, data)
    elif layout.on_phone():
        figure = Figure(
            figsize=(layout.width(), 3.4 + right + (1.1 if _direct(data) else 0.8 + (0.06 + 0.16 * lines) * kinds)),
            layout="constrained",
        )
        upper, lower = figure.subplots(2, 1, height_ratios=[3.4, right])
        _lengths(upper, data)
        _networks(lower, data)
    else:
        figure = Figure(
            figsize=(layout.width(), max(3.6, right) + (0.8 if _direct(data) else 1.5)), layout="constrained"
        )
        left, beside = figure.subplots(1, 2, width_ratios=[1.0, 1.15])
        _lengths(left, data)
        _networks(beside, data)
    layout.legend_below(figure, _legend(data), most=5 if not both or _direct(data) else 4, on_a_phone=2)
    return figure


def _direct(data: pd.DataFrame) -> bool:
    """Whether names of kinds fit at the lines' ends."""
    names = data["panel"].cat.categories
    return max(map(len, names)) <= 16 and len(names) <= 8


def _looks(data: pd.DataFrame) -> dict[str, tuple[str, str, str]]:
    """Colour, marker and line style of every kind: no two alike. Colours that come again have dashes."""
    colours = style.CATEGORIES
    return {
        name: (colours[i % len(colours)], style.marker(i), "-" if i < len(colours) else "--")
        for i, name in enumerate(data["panel"].cat.categories)
    }


def _lengths(ax: Axes, data: pd.DataFrame) -> None:
    """Standard deviation against length, with the slopes to compare with."""
    known = typical(data).query("spread > 0")
    ax.set(xscale="log", yscale="log")
    column, symbol = _length(data)
    lengths = np.sort(known[column].unique())
    labels: list[tuple[float, str, Any]] = []
    start = float(known.loc[known[column] == lengths[0], "spread"].median())
    for slope, short, words in SLOPES:
        line = start * (lengths / lengths[0]) ** slope
        ax.plot(lengths, line, color="#9a9a9a", lw=1.3, ls=(0, (1, 1.5)), gid=f"slope {slope:g}", zorder=1)
        short = short.replace("%s", symbol)
        labels.append((line[-1], short if layout.on_phone() else f"{short}{words}", "#6f6f6f"))
    looks = _looks(data)
    for name, (colour, marker, dashes) in looks.items():
        kind_rows = known[known["panel"] == name]
        if len(kind_rows):
            sns.lineplot(
                kind_rows,
                x=column,
                y="spread",
                ax=ax,
                color=colour,
                marker=marker,
                linestyle=dashes,
                markersize=7,
                lw=2.0,
                legend=False,
            )
            ax.lines[-1].set_gid("spread")
            if len(data["panel"].cat.categories) > 1 and _direct(data):
                labels.append((kind_rows["spread"].iloc[-1], name, colour))
    low, high = min(known["spread"].min(), start * (lengths[-1] / lengths[0]) ** -1.0), known["spread"].max()
    ax.set_ylim(low / 1.4, high * 1.4)
    ax.minorticks_off()
    ax.set_xticks(facets.spread(list(lengths), 5), [str(T) for T in facets.spread(list(lengths), 5)])
    layout.plain_log_ticks(ax)
    ax.set_xlabel("sequence length T (steps)" if symbol == "T" else f"steps of the sequence, {symbol}")
    ax.set_ylabel("standard deviation of growth rates\nover networks (per step)")
    layout.label_lines(ax, labels, gap=0.06, leaders=True)


def _networks(ax: Axes, data: pd.DataFrame) -> None:
    """Every network's difference from the mean of its kind, by regime; behind, one standard deviation."""
    near = data[data["near"]]
    kinds = list(data["panel"].cat.categories)
    ax.axvline(0.0, color=style.FAINT, lw=0.8, zorder=0)
    for place, kind in enumerate(kinds):
        kind_rows = near[near["panel"] == kind]
        spread = float(kind_rows["spread"].iloc[0])
        ax.barh(place, 2 * spread, left=-spread, height=0.62, color="#e4e4e4", zorder=0.5, gid="deviation")
        zero = int((kind_rows["growth_rate"] == -np.inf).sum())
        if zero:
            ax.annotate(
                f"◄ {zero} exactly 0",
                (0.01, place - 0.38),
                xycoords=ax.get_yaxis_transform(),
                fontsize=9,
                va="center",
                gid="zero",
            )
    shown = near[near["offset"].notna()]
    # beside each other by a rule instead of by chance: the same bytes from the same tables
    jitter = ((np.arange(len(shown)) * GOLDEN) % 1.0 - 0.5) * 0.46
    shown = shown.assign(place=[kinds.index(kind) for kind in shown["panel"]] + jitter)
    order = [name for name in (*MARKS, "not a number") if (shown["regime"] == name).any()]
    sns.scatterplot(
        shown, x="offset", y="place", hue="regime", style="regime", hue_order=order, style_order=order, ax=ax, s=44, legend=False,
        palette=[style.REGIME_COLOURS.get(name, style.FAINT) for name in order], markers=[MARKS.get(name, "X") for name in order],
        edgecolor="white", linewidth=0.5, zorder=3,
    )  # fmt: skip
    ax.collections[-1].set_gid("networks")
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    ax.set_yticks(range(len(kinds)), [_kind_names(data)[kind] for kind in kinds])
    ax.tick_params(axis="y", length=0)
    ax.set(xlabel="growth rate of each network\n− mean of its kind (per step)", ylabel="")
    ax.use_sticky_edges = False  # the bars' ends would cut the outermost dots in half
    ax.margins(x=0.08)
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    ax.xaxis.set_major_locator(MaxNLocator(3 if _has_lengths(data) else 5))  # beside long names there is little room
    lengths = near[["sequence_length", "steps"]].drop_duplicates()
    if len(lengths) == 1:
        _decade_axis(ax, *map(int, lengths.iloc[0]))


def _kind_names(data: pd.DataFrame) -> dict[str, str]:
    """What stands beside the rows on the right: the kind, and the radius and length that are drawn of it."""
    near = data[data["near"]]
    return {kind: _kind_name(data, near[near["panel"] == kind], kind) for kind in data["panel"].cat.categories}


def _kind_name(data: pd.DataFrame, kind_rows: pd.DataFrame, kind: str) -> str:
    scale, T = kind_rows["scale"].iloc[0], kind_rows["sequence_length"].iloc[0]
    symbol = measures.symbol_of(str(kind_rows["scaled_by"].iloc[0]))
    known = [
        *([layout.wrapped(kind, 20 if layout.on_phone() else 30)] if len(data["panel"].cat.categories) > 1 else []),
        *([f"{symbol} = {number(scale)}"] if data["scale"].nunique() > 1 and pd.notna(scale) else []),
        *([f"T = {T}"] if data.loc[data["near"], "sequence_length"].nunique() > 1 else []),
    ]
    return "\n".join(known)


def _decade_axis(ax: Axes, T: int, steps: int) -> None:
    """The same in decades over the whole sequence, on top."""
    back = (steps - 1) / LN10
    functions = (lambda x: np.asarray(x) * back, lambda x: np.asarray(x) / back)
    top = ax.secondary_xaxis("top", functions=functions)
    top.set_xlabel(
        f"decades over{chr(10) if layout.on_phone() else ' '}the whole sequence, T = {T}{f' ({steps} steps)' * (steps > T)}"
    )
    top.spines["top"].set_visible(True)
    top.xaxis.set_major_locator(MaxNLocator(4))


def _legend(data: pd.DataFrame) -> list[Any]:
    near = data[data["near"]]
    regimes = [
        Line2D([], [], color=style.REGIME_COLOURS[name], marker=marker, ls="", ms=7, mec="white", label=name)
        for name, marker in MARKS.items()
        if (near["regime"] == name).any()
    ]
    spread = Patch(color="#e4e4e4", label="± one standard deviation")
    if not _has_lengths(data):
        return [*regimes, spread]
    slope = Line2D([], [], color="#9a9a9a", lw=1.3, ls=(0, (1, 1.5)), label="slopes to compare with")
    kinds = [
        Line2D(
            [], [], color=colour, marker=marker, ls=dashes, ms=7, mec="white", lw=1.8, label=layout.wrapped(name, 24)
        )
        for name, (colour, marker, dashes) in _looks(data).items()
    ]
    return [*regimes, spread, slope, *([] if _direct(data) else kinds)]
