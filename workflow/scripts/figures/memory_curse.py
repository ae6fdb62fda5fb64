"""The curse of memory: a backward signal that never grows, and a parameter's gradient that does, as a recurrence remembers longer."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogFormatterMathtext, NullLocator

from study.report import drawing, facets, layout, measures, reader, statistics, style
from study.report.findings import Study
from study.report.phrases import bracketed, counted, interval_words
from study.report.words import LONGEST_TITLE, itemized, listed, marked, marked_count, number, plain, signed, spelled

NOTHING = drawing.Nothing(
    "No two values of ρ below 1 have runs whose last state was recorded to move with a weight.",
    "Add traces: [parameter_sensitivity] to the config, and a sweep of cell: indrnn, activation: identity, initializer: identity with several values"
    " of spectral_radius below 1.",
)
MOST_KINDS = 4  # colours
NEAREST = 3  # radii next to 1, over which the power is fitted
NEAR = 0.8  # ρ from which on it is near to 1
SIGNAL, STATE, SENSITIVITY = "growth_rate", "last_hidden_rms", "log10_parameter_sensitivity"
PREDICTED = {SIGNAL: "linear_rate", STATE: "last_hidden_rms_predicted", SENSITIVITY: "log10_sensitivity_predicted"}
BELOW = 1.0 - 1e-6  # a ρ of 1 is measured with rounding errors, and is not below 1
LINES = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)))  # of kinds
PANELS = {  # column: title, label of the axis
    SIGNAL: ("The signal going back", "growth rate per step back"),
    STATE: ("The state", "root mean square of $h_T$"),
    SENSITIVITY: ("A weight's sensitivity", r"root mean square of $\partial h_T/\partial\theta$"),
}


def frame(tables: reader.Tables) -> pd.DataFrame:
    """One row a network at its longest sequence with ρ below 1: the three measured numbers, what is predicted of them, and its ``panel``.

    State and sensitivity as log10. ``forgetting`` is 1 − ρ. ``axes`` names the settings that tell panels apart, which stand beside. Networks
    whose state does not move with a weight at all are left out; ``unmoved`` is their number.
    """
    runs = measures.starts(tables.runs(*PREDICTED, *PREDICTED.values(), "measured_spectral_radius"))
    runs = runs[runs[SENSITIVITY].notna() & (runs["measured_spectral_radius"] < BELOW)]
    if runs.empty or runs["spectral_radius"].nunique() < 2:
        return pd.DataFrame()
    axes = [
        axis for axis in measures.varied(runs, measures.TRAINING) if axis not in ("sequence_length", "spectral_radius")
    ]
    runs = measures.at_longest(runs, [*axes, "spectral_radius"])
    moved = np.isfinite(runs[SENSITIVITY].astype(float))
    unmoved, runs = int((~moved).sum()), runs[moved]
    if runs["spectral_radius"].nunique() < 2:
        return pd.DataFrame()
    runs = facets.panels(runs, axes, MOST_KINDS).assign(unmoved=unmoved)
    with np.errstate(divide="ignore"):
        logs = {name: np.log10(runs[name].astype(float)) for name in (STATE, PREDICTED[STATE])}
    own = [axis for axis in axes if axis not in ("panel", "seed")]
    columns = [
        "panel",
        "seed",
        "spectral_radius",
        "forgetting",
        *PREDICTED,
        *PREDICTED.values(),
        "left_out",
        "unmoved",
        "axes",
        *own,
    ]
    forgetting = 1.0 - runs["measured_spectral_radius"].astype(float)
    data = runs.assign(**logs, forgetting=forgetting, axes=",".join(own))[columns]
    return data.sort_values(["panel", "forgetting", "seed"], ignore_index=True)


# ---- facts


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    title = _title(data)
    alt = (
        "Three charts against one minus the spectral radius, smaller to the right. They show the growth rate of the backward signal, the size "
        f"of the state, and the sensitivity of the state to a weight, measured and predicted. {title}"
    )
    powers_said = _power_sentences(data)
    said = [_factors(data), *powers_said, _deviation(data), _unmoved(data)]
    claims = [*said, facets.left_out(data)]
    shown = [
        *_laws(data),
        *(["from below"] if all(_comes_up(rows) for _, rows in _kinds(data)) else []),
        *([f"near: {_nearest_words(data)}"] if powers_said else []),
        *(["kinds"] if _named(data) else []),
        *(["networks"] if data.groupby(["panel", "spectral_radius"], observed=True).size().max() > 1 else []),
    ]
    return drawing.facts(title, alt, claims, shown, answer=said)


def _kinds(data: pd.DataFrame) -> list[tuple[Any, pd.DataFrame]]:
    return list(data.groupby("panel", observed=True))


def _named(data: pd.DataFrame) -> bool:
    return len(data["panel"].cat.categories) > 1


def _laws(data: pd.DataFrame) -> list[str]:
    """Which laws are drawn as lines: that of linear recurrences in all panels, and of networks without it the linear law of the signal alone."""
    whole = data[PREDICTED[SENSITIVITY]].notna()
    alone = data[PREDICTED[SIGNAL]].notna() & ~whole
    return [*(["law"] if whole.any() else []), *(["linear law"] if alone.any() else [])]


def _comes_up(rows: pd.DataFrame) -> bool:
    """Whether the mean rate of the signal is below zero at every radius, and nearer to it at each larger one."""
    mean = rows.groupby("spectral_radius")[SIGNAL].mean()
    return bool((mean < 0.0).all() and mean.is_monotonic_increasing)


def _where(rows: pd.DataFrame) -> dict[str, Any]:
    """The settings that rows of one panel share and others do not."""
    return {axis: rows[axis].iloc[0] for axis in str(rows["axes"].iloc[0]).split(",") if axis}


def _unmoved(data: pd.DataFrame) -> str:
    """How many networks are left out, as their sensitivity is zero."""
    count = int(data["unmoved"].iloc[0])
    networks = counted(count, "network", marked_count(count, "networks_unmoved"))
    return f"Left out, because no weight moves the last state: {networks}." if count else ""


def _factor_words(factor: float) -> Callable[[float], str]:
    """How a factor and its ends are written: two digits, or as many as tell it from 1."""
    return partial(number, digits=4 if number(factor, 2) == "1" else 2)


def _title(data: pd.DataFrame) -> str:
    """Of the kind whose sensitivity grows most, from the smallest to the largest radius; as a finding only where chance does not do it."""
    gains = pd.concat({str(panel): _gains(rows) for panel, rows in _kinds(data)}, axis=1)
    panel = gains.mean().idxmax()
    rows = data[data["panel"] == panel]
    mean, top = float(gains[panel].mean()), float(data[SIGNAL].astype(float).max())
    factor = marked(_factor_words(10.0**mean)(10.0**mean), "sensitivity_factor", 10.0**mean, **_where(rows))
    grows = (
        f"A signal grows by up to {marked(number(top, 2), 'fastest_signal', top)} a step back, and"
        if top > 0.0
        else "No signal grows going back, yet"
    )
    p = statistics.familywise(gains.to_numpy())[list(gains).index(panel)]
    few = len(gains) < statistics.FEWEST_SEEDS
    if not few and p >= statistics.LEVEL:
        return (
            f"{grows.removesuffix(', and').removesuffix(', yet')}, and a weight's sensitivity does not clearly change."
        )
    ends = [number(float(end)) for end in (data["spectral_radius"].min(), data["spectral_radius"].max())]
    verb = "changes" if few or mean < 0.0 else "grows"
    text = f"{grows} from ρ = {ends[0]} to {ends[1]} a weight's sensitivity {verb} by a factor of {factor}"
    where = f" at {panel}" if _named(data) and len(plain(text)) + len(panel) + 5 <= LONGEST_TITLE else ""
    return f"{text}: too few seeds to tell." if few else f"{text}{where}."


def _gains(rows: pd.DataFrame) -> pd.Series:
    """By seed: log10 of the sensitivity at the largest radius over that at the smallest."""
    table = rows.pivot_table(index="seed", columns="spectral_radius", values=SENSITIVITY)
    return (table.iloc[:, -1] - table.iloc[:, 0]).dropna()


def _factors(data: pd.DataFrame) -> str:
    """By what factor sensitivity grows from the smallest to the largest radius, kind by kind, with its interval over seeds."""
    words = []
    for panel, rows in _kinds(data):
        average = statistics.mean(_gains(rows).to_numpy())
        if not np.isfinite(average.low):
            return ""
        factor = statistics.Interval(*(10.0**end for end in average))
        write = _factor_words(factor.value)
        value = marked(write(factor.value), "sensitivity_factor", factor.value, **_where(rows))
        spread = interval_words(factor, write, "sensitivity_factor", **_where(rows))
        words.append(f"{value} ({spread}){f' for {panel}' if _named(data) else ''}")
    return f"The factor from the smallest to the largest ρ, in the geometric mean over networks: {itemized(words)}."


def _nearest(rows: pd.DataFrame) -> np.ndarray:
    """The radii next to 1 over which a power is fitted."""
    near = rows.loc[rows["spectral_radius"] >= NEAR, "spectral_radius"].unique()
    return np.asarray(np.sort(near)[-NEAREST:])


def _nearest_words(data: pd.DataFrame) -> str:
    """three largest ρ, none below 0.8: over which radii powers are fitted."""
    counts = sorted({len(_nearest(rows)) for _, rows in _kinds(data) if _power(rows)})
    return f"{' or '.join(map(spelled, counts))} largest ρ, none below {number(NEAR)}"


def powers(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Of every seed the slope of a sensitivity's log10 against log10(1 − ρ), over the radii next to 1; nan of a seed that lacks one.

    Empty where fewer than two radii are near to 1.
    """
    radii = _nearest(rows)
    if len(radii) < 2:
        return np.array([])
    table = rows[rows["spectral_radius"].isin(radii)].pivot_table(
        index="seed", columns="spectral_radius", values=column, dropna=False
    )
    x = np.log10(rows.groupby("spectral_radius")["forgetting"].median().loc[table.columns].to_numpy(dtype=float))
    x = x - x.mean()
    return np.asarray(table.to_numpy(dtype=float) @ x / (x @ x))


def _power_sentences(data: pd.DataFrame) -> list[str]:
    """A sentence for every kind; kinds of which the same is said share one."""
    said: dict[str, tuple[str, list[str]]] = {}
    for panel, rows in _kinds(data):
        text = _power(rows)
        said.setdefault(plain(text), (text, []))[1].append(str(panel))
    named = _named(data)
    return [f"{text}{f', for {listed(kinds)}' if named else ''}." for text, kinds in said.values() if text]


def _power(rows: pd.DataFrame) -> str:
    """Sensitivity as a power of 1 − ρ near 1, with its interval over seeds, and the law's."""
    measured, law = powers(rows, SENSITIVITY), powers(rows, PREDICTED[SENSITIVITY])
    average = statistics.mean(measured[np.isfinite(measured)])
    if not np.isfinite(average.value):
        return ""
    said = marked(number(average.value, 3), "sensitivity_power", average.value, **_where(rows))
    spread = interval_words(average, partial(number, digits=3), "sensitivity_power", **_where(rows))
    by_law = float(law[np.isfinite(law)].mean()) if np.isfinite(law).any() else math.nan
    theory = (
        f", by the law {marked(number(by_law, 3), 'law_power', by_law, **_where(rows))}"
        if math.isfinite(by_law)
        else ""
    )
    return f"Near ρ = 1 a weight's sensitivity goes as (1 − ρ) to the power {said}{bracketed(spread)}{theory}"


def _deviation(data: pd.DataFrame) -> str:
    """Measured minus law in decades, kind by kind; called different only where a joint test over kinds says so."""
    gaps = data.assign(gap=(data[SENSITIVITY] - data[PREDICTED[SENSITIVITY]]).astype(float)).dropna(subset=["gap"])
    if gaps.empty:
        return ""
    table = gaps.pivot_table(index="seed", columns="panel", values="gap", observed=True)
    average = statistics.mean(gaps.groupby("seed")["gap"].mean().to_numpy())
    said = f"Measured minus law is {marked(signed(average.value, 2), 'sensitivity_deviation', average.value)} decades on average"
    said += bracketed(interval_words(average, partial(signed, digits=2), "sensitivity_deviation"))
    if len(table) < statistics.FEWEST_SEEDS:
        return f"{said}: too few seeds to tell whether they differ."
    p = statistics.familywise(table.to_numpy())
    apart = [str(panel) for panel, each in zip(table.columns, p, strict=True) if each < statistics.LEVEL]
    if not apart:
        return f"{said}: no clear difference."
    return f"{said}. They clearly differ{f' for {listed(apart)}' if _named(data) else ''}."


# ---- drawing


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    figure, axes = layout.grid(len(PANELS), layout.columns(3), 3.0, sharex=False)
    kinds = list(data["panel"].cat.categories)
    paint = dict(zip(kinds, style.CATEGORIES, strict=False))
    for ax, column in zip(axes, PANELS, strict=True):
        for place, (panel, rows) in enumerate(_kinds(data)):
            _lines(ax, rows, column, paint[panel], place)
        _finished(ax, column, data)
    layout.legend_below(figure, _legend(data, paint), most=2)
    return figure


def _lines(ax: Axes, rows: pd.DataFrame, column: str, colour: str, place: int) -> None:
    """Every network light, their mean dark, and the law as a line. Later kinds are smaller, so that kinds that agree all show."""
    marker, size = style.marker(place), max(4.0, 8.0 - 2.0 * place)
    # by the radius that was asked for: measured ones of several seeds differ by rounding
    rows = rows.assign(forgetting=rows.groupby("spectral_radius")["forgetting"].transform("median"))
    law = rows.groupby("forgetting")[PREDICTED[column]].mean().dropna()
    ax.plot(law.index, law, color=colour, lw=1.5, ls=LINES[place % len(LINES)], gid="law", zorder=2)
    ax.plot(
        rows["forgetting"], rows[column], ls="", marker=marker, ms=3.5, mew=0, alpha=0.35, color=colour, gid="networks"
    )
    mean = rows.groupby("forgetting")[column].mean()
    ax.plot(
        mean.index, mean, ls="", marker=marker, ms=size, color=colour, mec="white", mew=0.6, gid="measured", zorder=3
    )


def _finished(ax: Axes, column: str, data: pd.DataFrame) -> None:
    title, label = PANELS[column]
    ax.set_title(title, loc="left")
    ax.set(xscale="log", xlabel="1 − ρ (longer memory →)", ylabel=label)
    low, high = float(data["forgetting"].min()), float(data["forgetting"].max())
    ends = low / 1.3, min(high * 1.3, 1.05)  # 1 − ρ is at most 1
    ax.set_xlim(*reversed(ends))
    ax.xaxis.set_major_locator(layout.log_locator(*ends, layout.DECADES, layout.WITHIN_DECADE))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    ax.xaxis.set_minor_locator(NullLocator())
    if column == SIGNAL:
        ax.axhline(0.0, color=style.FAINT, lw=1.0, zorder=0)
        return
    bottom, top = ax.get_ylim()
    places = np.arange(np.floor(bottom), np.ceil(top) + 1.0)
    ax.set_yticks(places, [LogFormatterMathtext()(10.0**place) for place in places])
    ax.set_ylim(min(bottom, places[0] if len(places) < 3 else bottom), max(top, bottom + 1.0))


def _measured(data: pd.DataFrame) -> str:
    several = data.groupby(["panel", "spectral_radius"], observed=True).size().max() > 1
    return f"measured: {'mean; light: one network' if several else 'one network'}"


def _legend(data: pd.DataFrame, paint: dict[Any, str]) -> list[Line2D]:
    several = _named(data)
    own = [
        Line2D([], [], color=colour, marker=style.marker(i), ls="", ms=6, label=str(panel)) for i, (panel, colour) in enumerate(paint.items())
    ] if several else []  # fmt: skip
    ink = style.FAINT if several else style.CATEGORIES[0]
    own.append(Line2D([], [], color=ink, marker="o", ls="", ms=6, label=_measured(data)))
    laws = {"law": "law of linear recurrences", "linear law": "linear law of the signal"}
    if drawn := _laws(data):  # a line has the style of its kind
        own.append(Line2D([], [], color=ink, lw=1.5, label=" or ".join(laws[name] for name in drawn)))
    return own
