"""How large the entries of the gradient are at every step, beside what narrower formats can hold, at the longest sequence."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from rnn_core.experiment.measures.traces import QUANTILES
from rnn_core.formats import FORMATS
from study.report import drawing, facets, layout, measures, reader, style
from study.report.chosen import redrawn
from study.report.findings import Study
from study.report.float_limits import PURPLE
from study.report.phrases import count_of
from study.report.words import listed
from study.tables.columns import FORMATS as FORMAT_NAMES

NOTHING = drawing.Nothing(
    "No run of this study recorded how large the entries of a gradient are on their way back.",
    "Add traces: [entry_quantiles] to the config, and a sweep with sequence_length: 2 or more.",
)
MOST_LAGS = 100
UNHELD = [f"{name}_{what}_at" for what in ("flushed", "overflowed") for name in FORMAT_NAMES]
DECADES = math.log10(2.0)
BANDS = (("log2_entry_min", "log2_entry_max", 0.14), ("log2_entry_q05", "log2_entry_q95", 0.24), ("log2_entry_q25", "log2_entry_q75", 0.42))  # fmt: skip
COLOUR = style.CATEGORIES[0]


def frame(tables: reader.Tables) -> pd.DataFrame:
    """Panel × lag: quantiles of log10 of the magnitudes of the nonzero entries of ∂L/∂h_t before training, each a median over networks.

    −∞ where all entries are zero. ``all_networks`` are at the longest sequence of their kind, drawn or not. Of those ``<format>_flushed``
    have their whole gradient lost by the format at some step, and ``<format>_overflowed`` an entry that is too large for it.
    """
    runs = measures.starts(tables.runs("growth_rate", "task_loss_at", *UNHELD))
    runs = runs[runs["run_key"].isin(_recorded(tables))]
    if runs.empty:
        return pd.DataFrame()
    axes = [axis for axis in measures.varied(runs, measures.TRAINING) if axis != "sequence_length"]
    longest = measures.at_longest(runs, axes)
    lost = {name.removesuffix("_at"): int(longest[name].notna().sum()) for name in UNHELD}
    runs = facets.start_panels(runs, _placed)
    data = facets.by_panel(runs, lambda rows: _quantiles(tables, rows), "lag")
    last_lag = data.groupby("sequence_steps")["lag"].transform("max")  # panels of one length have one axis
    return data.assign(**lost, all_networks=len(longest), last_lag=last_lag)


def _placed(runs: pd.DataFrame, axes: list[str]) -> pd.DataFrame:
    """The runs that have a panel. Where the headline counts what no panel would show, the kind with the most of it has its panels."""
    every, drawn = facets.panels(runs, axes, len(runs)), facets.panels(runs, axes)
    others = [axis for axis in axes if axis not in measures.SCALES]
    told: list[str] = []
    for name in UNHELD:
        some = every[every[name].notna()]
        if some.empty or some["panel"].isin([*drawn["panel"].unique(), *told]).any():
            continue
        _, most = max(measures.grouped(some, others), key=lambda kind: len(kind[1]))
        kind = measures.where(every, **{axis: most[axis].iloc[0] for axis in others})
        told += dict.fromkeys(kind["panel"].astype(str))
    return redrawn(every, drawn, told)


def _recorded(tables: reader.Tables) -> set[str]:
    """Runs whose last step has a quantile before training."""
    there = (pc.field("update") == 0) & (pc.field("lag") == 0) & pc.field("log2_entry_max").is_valid()
    return {key for piece in tables.pieces("traces", ["run_key"], there) for key in piece["run_key"]}


def _quantiles(tables: reader.Tables, runs: pd.DataFrame) -> pd.DataFrame:
    """The quantiles of one panel."""
    first, T = runs.iloc[0], int(measures.steps(runs).iloc[0])
    rows = _rows(tables, runs, range(T))
    dead_from = _dead_from(rows)
    if math.isfinite(dead_from):  # what lies before has room
        rows = _rows(tables, runs, range(int(dead_from) + 1))
        dead_from = _dead_from(rows)
        rows = rows[rows["lag"] <= dead_from]
    medians = (rows.groupby("lag")[list(QUANTILES)].median() * DECADES).reset_index().assign(dead_from=dead_from)
    keep = ("panel", "left_out", "fewer", "across", "scaled_by")
    return medians.assign(**{name: first[name] for name in keep}, sequence_steps=T, networks=len(runs))


def _dead_from(rows: pd.DataFrame) -> float:
    """The first lag from which on all entries of all networks are exactly zero; nan where there is none."""
    largest = rows.groupby("lag")["log2_entry_max"].max()
    dead = np.isneginf(largest.to_numpy())[::-1].cumprod()[::-1].astype(bool)
    return float(largest.index[dead][0]) if dead.any() else math.nan


def _rows(tables: reader.Tables, runs: pd.DataFrame, lags: range) -> pd.DataFrame:
    """The quantiles of every network at some of the lags, evenly spread."""
    keys, wanted = pa.array(runs["run_key"], pa.string()), pa.array(facets.spread(lags, MOST_LAGS), pa.int32())
    where = (pc.field("update") == 0) & pc.field("run_key").isin(keys) & pc.field("lag").isin(wanted)
    rows = pd.concat(list(tables.pieces("traces", ["run_key", "lag", *QUANTILES], where)))
    return rows.drop_duplicates(["run_key", "lag"]).dropna()


# ---- facts


def facts(data: pd.DataFrame, _: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    title = _title(data)
    kinds = facets.alt_list(data["panel"].cat.categories)
    alt = (
        f"Charts{kinds} of the decimal logarithm of the magnitudes of the gradient's entries against steps back from the end. The median "
        f"is a line. {'The middle half, nine tenths and all of them are bands. ' if _bands(data) else ''}{title}"
    )
    lowest = data["log2_entry_max"].groupby(data["panel"], observed=True).min()
    shown = [
        *(["networks"] if data["networks"].max() > 1 else []),
        *(["three scales"] if data["fewer"].any() else []),
        *(["weight scale"] if data["scaled_by"].iloc[0] == "weight_scale" else []),
        *(["limits"] if any(map(_limits, _by_panel(data))) else []),
        *(["beyond"] if any(map(_beyond, _by_panel(data))) else []),
        *(["zeros"] if (lowest == -np.inf).any() else []),
        *(["dead"] if data["dead_from"].notna().any() else []),
        *(["bands"] if _bands(data) else []),
        *(["several"] if len(data["panel"].cat.categories) > 1 else []),
    ]
    return drawing.facts(title, alt, [*_by_format(data), facets.left_out(data, headline=True)], shown)


def _by_panel(data: pd.DataFrame) -> list[pd.DataFrame]:
    return [rows for _, rows in data.groupby("panel", observed=True)]


def _counts(data: pd.DataFrame, what: str) -> dict[str, int]:
    """By format, narrow ones first, how many of all networks have a gradient that it does not hold."""
    return {name: int(data[f"{name}_{what}"].iloc[0]) for name in reversed(FORMAT_NAMES)}


def _title(data: pd.DataFrame) -> str:
    """In how many networks all entries of some step would be rounded to zero, and some overflow, by format."""
    total, lost, above = int(data["all_networks"].iloc[0]), _counts(data, "flushed"), _counts(data, "overflowed")
    if total == 1:
        return _title_of_one(*([name for name, count in counts.items() if count] for counts in (lost, above)))
    if any(above.values()):
        return _of_format(data, FORMAT_NAMES[-1], f" of {count_of(total, 'networks_with_entries')} networks")
    networks = f"{count_of(total, 'networks_with_entries')} networks"
    if not any(lost.values()):
        return f"Not even float16 loses the whole gradient of any of {networks}."
    counts = [f"{count_of(count, 'entries_lost', format=name)}{{}} as {name}" for name, count in lost.items()]
    words = listed(text.format(f" of {networks}" if i == 0 else "") for i, text in enumerate(counts))
    return f"The whole gradient is lost at some step in {words}."


def _title_of_one(lost: list[str], above: list[str]) -> str:
    whose = "whole gradient of the only network"
    if lost:
        overflow = f", and entries overflow as {listed(above)}" if above else ""
        return f"The {whose} is lost as {listed(lost)}{overflow}."
    if above:
        return f"Entries of the only network's gradient overflow as {listed(above)}."
    return f"Not even float16 loses the {whose} at any step."


def _of_format(data: pd.DataFrame, name: str, of: str = "") -> str:
    """In how many networks one format loses the gradient, and in how many it overflows."""
    lost, above = (_counts(data, what)[name] for what in ("flushed", "overflowed"))
    first = f"{count_of(lost, 'entries_lost', format=name)}{of}"
    second = count_of(above, "entries_overflowed", format=name)
    return f"As {name}, the whole gradient is lost at some step in {first}, and entries overflow in {second}."


def _by_format(data: pd.DataFrame) -> list[str]:
    """The same of the wider formats, where the headline tells of one alone."""
    several = int(data["all_networks"].iloc[0]) > 1 and any(_counts(data, "overflowed").values())
    return [_of_format(data, name, " of them") for name in reversed(FORMAT_NAMES[:-1])] if several else []


# ---- drawing


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    figure = layout.by_lag(data, _panel, r"$\log_{10}$ of an entry's magnitude, $\partial L/\partial h_t$")
    layout.legend_below(figure, _legend(data), most=5, on_a_phone=2)
    return figure


def _panel(ax: Axes, rows: pd.DataFrame, height: float) -> None:
    low, high = _scale(rows)
    for below, above, alpha in BANDS:
        known = rows[np.isfinite(rows[below])]
        ax.fill_between(known["lag"], known[below], known[above], color=COLOUR, lw=0, alpha=alpha, gid=below)
    known = rows[np.isfinite(rows["log2_entry_median"])]
    alone: dict[str, Any] = {"marker": "o", "ms": 4} if len(known) == 1 else {}  # a line of one place is invisible
    ax.plot(known["lag"], known["log2_entry_median"], color=style.INK, lw=1.6, gid="median", **alone)
    dead = rows["dead_from"].iloc[0]
    words = [
        *([f"all exactly zero from lag {int(dead)} on"] if np.isfinite(dead) else []),
        *filter(None, [_beyond(rows)]),
    ]
    if words:
        layout.under_title(ax, "\n".join(words))
    for _, y in _limits(rows):
        ax.axhline(y, color=PURPLE, lw=1.0, ls=":", gid="limit", zorder=1)
    ax.set(ylim=(low, high), xlim=(0, max(1, int(rows["last_lag"].iloc[0]))))
    ax.yaxis.set_major_locator(layout.whole_numbers(4))
    ax.xaxis.set_major_locator(layout.whole_numbers())
    layout.label_lines(ax, [(y, text, PURPLE) for text, y in _limits(rows)], gap=0.2 / (height - 0.5))


def _bands(data: pd.DataFrame) -> list[tuple[str, str, float]]:
    """Those that have a height somewhere: of a single entry, or of entries that are all alike, none has."""
    return [band for band in BANDS if (np.isfinite(data[band[0]]) & (data[band[1]] > data[band[0]])).any()]


def _reach(rows: pd.DataFrame) -> tuple[float, float]:
    """The smallest and the largest entry."""
    values = rows[list(QUANTILES)].to_numpy()
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else (-1.0, 1.0)


def _scale(rows: pd.DataFrame) -> tuple[float, float]:
    """All entries, with a margin."""
    low, high = _reach(rows)
    margin = 0.08 * (high - low) + 0.5
    return low - margin, high + margin


def _limits(rows: pd.DataFrame) -> list[tuple[str, float]]:
    """Where formats end, as far as entries reach; of two that are too near to tell, the wider format."""
    low, high = _reach(rows)
    ends = [(f.name, DECADES * y) for f in FORMATS for y in (f.bottom, f.top)]  # float32 first
    kept: list[tuple[str, float]] = []
    for name, y in ends:
        if low < y < high and all(abs(y - other) > 0.1 * (high - low) for _, other in kept):
            kept.append((name, y))
    return kept


def _beyond(rows: pd.DataFrame) -> str:
    """Of entries that a format does not hold at any step, on which no limit is drawn: the widest such format."""
    low, high = _reach(rows)
    for form in FORMATS:  # float32 first
        if low > DECADES * form.top or high < DECADES * form.bottom:
            return f"all {'too large' if low > 0.0 else 'too small'} for {form.name}"
    return ""


def _legend(data: pd.DataFrame) -> list[Line2D | Patch]:
    over = " (median network)" if data["networks"].max() > 1 else ""
    handles: list[Line2D | Patch] = [Line2D([], [], color=style.INK, lw=1.6, label=f"median entry{over}")]
    for band, label in zip(BANDS[::-1], ("middle half", "nine tenths", "all"), strict=True):
        if band in _bands(data):
            handles.append(Patch(color=COLOUR, alpha=band[2], label=label))
    if any(map(_limits, _by_panel(data))):
        handles.append(Line2D([], [], color=PURPLE, lw=1.0, ls=":", label="where a format ends"))
    return handles
