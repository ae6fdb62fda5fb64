"""What the figures share: reading, choice of runs, panels, colours, words for numbers, and saving picture and facts.

A figure is ``plot_<figure>.py``: ``frame`` (what is drawn, tidy), ``facts`` (headline and numbers, from the frame) and
``draw`` (artists, from the frame); ``render`` does the rest. If a study lacks what a figure shows, the frame is empty.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

import study_tables
from study_files import written_aside
from study_progress import recorded
from study_verdicts import in_brackets, named, set_only
from study_verdicts import in_order as in_order
from study_verdicts import kind_of as kind_of
from study_verdicts import listed as listed
from study_verdicts import rules as rules
from study_verdicts import threshold as threshold

matplotlib.use("Agg")

WIDTH, DPI = 9.0, 200  # inches; shown 900 px wide, 9 pt are 12 px
TRAINING = ("clipping", "optimizer", "learning_rate", "updates", "trace_every")  # settings without effect on the start
MOST_PANELS = 12
MOST_UPDATES = 300

RATIO = r"$\log_{10}\,(\|\partial L/\partial h_{%s}\|\,/\,\|\partial L/\partial h_T\|)$"  # axis label, at step %s
INK, FAINT = "#222222", "#8a8a8a"
REGIME_COLOURS = {"vanishing": "#0072B2", "stable": "#4d4d4d", "exploding": "#D55E00"}
_BELOW_ONE, _ABOVE_ONE = ("#63b5e5", "#0b3c8c"), ("#9c2f00", "#f5a01d")  # far from 1 … near 1, near 1 … far from 1
# Okabe and Ito's colours, told apart by colour-blind eyes too; a rule beyond the sixth gets one of the last two
_RULE_COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#7570b3", "#8c6d31")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Facts = dict[str, Any]
Filter = list[tuple[str, str, Any]] | list[list[tuple[str, str, Any]]]  # all of these; or any of such lists


# ---- reading, and choosing runs


@dataclass(frozen=True)
class Tables:
    """The study's tables by name; only the columns and rows asked for are read."""

    files: Mapping[str, str | Path]

    def read(self, table: str, columns: Sequence[str], where: Filter | None = None) -> pd.DataFrame:
        return pq.read_table(self.files[table], columns=list(columns), filters=where).to_pandas()

    def runs(self, *measured: str) -> pd.DataFrame:
        """All settings and the measured columns asked for, each run once even if two sweeps share it."""
        return self.read("runs", ["run_key", *study_tables.axes(), *measured]).drop_duplicates("run_key")


def starts(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that show gradients before any training: those that train nothing; if there are none, the others' start.

    Runs that differ only in how they are trained share their start and count once. One step alone has no way back.
    """
    runs = runs[runs["sequence_length"] > 1]
    untrained = runs[runs["updates"] == 0]
    found = untrained if len(untrained) else runs
    return found.drop_duplicates([name for name in study_tables.axes() if name not in TRAINING])


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that train."""
    return runs[runs["updates"] > 0]


def updates_of(tables: Tables, runs: pd.DataFrame, columns: Sequence[str], most: int = MOST_UPDATES) -> pd.DataFrame:
    """These columns of the runs' updates, sorted; of long trainings ``most`` evenly spread, and every breakdown."""
    last = int(runs["updates"].max()) - 1
    spread = np.unique(np.linspace(0, last, min(last + 1, most)).round().astype(int)).tolist()
    ours = ("run_key", "in", set(runs["run_key"]))
    rows = tables.read(
        "updates", ["run_key", "update", *columns], [[ours, ("update", "in", spread)], [ours, ("finite", "==", False)]]
    )
    return rows.drop_duplicates(["run_key", "update"]).sort_values(["run_key", "update"], ignore_index=True)


def panels(runs: pd.DataFrame, base: str, drawn: Iterable[str], most: int = MOST_PANELS) -> pd.DataFrame:
    """The runs with their ``panel``: the value of ``base`` and of every other setting that varies and is not ``drawn``.

    At most ``most`` panels are kept; ``left_out`` says how many are not. ``base`` varies fastest. A cell comes first in
    the name; what is the same in all panels is not in it but in ``common``, what is null nowhere.
    """
    keys = [base]
    for axis in study_tables.axes():
        if axis in {base, *drawn}:
            continue
        if runs.groupby(keys, dropna=False)[axis].nunique(dropna=False).gt(1).any():
            keys.append(axis)
    order = in_order(runs[keys].drop_duplicates(), [*keys[1:], base])
    naming, common = keys, ""
    if len(keys) > 1 and runs[base].nunique() == 1:
        naming, common = keys[1:], f"{study_tables.axes()[base]['label']} {runs[base].iloc[0]}"
    naming = sorted(naming, key=lambda axis: axis != "cell")
    names = [", ".join(named(*item) for item in set_only(row).items()) for row in order[naming].to_dict("records")]
    order["panel"] = pd.Categorical(names, categories=names, ordered=True)
    spread = np.unique(
        np.linspace(0, len(order) - 1, most).round().astype(int)
    )  # not the first ones, lest cells be left out
    kept = runs.merge(order.iloc[spread], on=keys)
    kept["panel"] = kept["panel"].cat.remove_unused_categories()
    return kept.assign(left_out=max(0, len(order) - most), common=common)


def in_lists(panel: str) -> str:
    """A panel's name where it stands among others: residual (η = 0.1, λ = 0)."""
    return in_brackets(panel.split(", ")) if " = " in panel else panel


def longest(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs at the longest sequence of their panel."""
    T = runs["sequence_length"]
    return runs[T.groupby(runs["panel"], observed=True).transform("max") == T]


# ---- colours


def rule_colours(values: Iterable[str]) -> dict[str, str]:
    """Ink for none; the others' colours by their order."""
    others = [rule for rule in rules(values) if rule != "none"]
    return {"none": INK} | {rule: _RULE_COLOURS[i % len(_RULE_COLOURS)] for i, rule in enumerate(others)}


def radius_colours(radii: Iterable[float]) -> dict[float, Any]:
    """Blues below 1, ink at 1, oranges above: the further from 1, the lighter."""
    ordered = sorted(set(radii))
    below, above = [r for r in ordered if r < 1], [r for r in ordered if r > 1]
    blues = sns.blend_palette(_BELOW_ONE, max(2, len(below)))[-len(below) :] if below else []
    oranges = sns.blend_palette(_ABOVE_ONE, max(2, len(above)))[: len(above)]
    return {1.0: INK} | dict(zip(below, blues, strict=True)) | dict(zip(above, oranges, strict=True))


def radius_legend(radii: Iterable[float], most: int = 12) -> list[Line2D]:
    """Legend entries from the largest radius down; of many, some evenly spread."""
    colours, ordered = radius_colours(radii), sorted(set(radii), reverse=True)
    shown = np.unique(np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int))
    return [Line2D([], [], color=colours[ordered[i]], lw=2.4, label=number(ordered[i])) for i in shown]


# ---- words for numbers


def number(value: float, digits: int = 6) -> str:
    """``digits`` significant digits, with a true minus: 0.0034, −363, 3.4 × 10⁻¹⁴, ∞."""
    if math.isfinite(value) and (value == 0 or 1e-4 <= abs(value) < 1e6):
        decimals = digits - 1 - math.floor(math.log10(abs(value))) if value else 0
        text = f"{round(value, decimals):.{max(0, decimals)}f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")
    if not math.isfinite(value):
        return str(value).replace("inf", "∞").replace("-", "−")
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.').replace('-', '−')} × {_ten_to(int(exponent))}"


def signed(value: float, digits: int = 6) -> str:
    """As ``number``, with a plus where it is positive."""
    return ("+" if value > 0 else "") + number(value, digits)


def power(log10: float) -> str:
    """10⁻¹²³ for −123.4; small changes as plain factors: 3.2 for 0.5."""
    return number(10.0**log10, 2) if abs(log10) < 2 else _ten_to(round(log10))


def _ten_to(exponent: int) -> str:
    return "10" + str(exponent).translate(_SUPERSCRIPT)


def spoken(text: str) -> str:
    """For screen readers: 10⁻³ as 10 to the power of −3."""
    plain = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "−0123456789")
    return re.sub("10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda found: f"10 to the power of {found[1].translate(plain)}", text)


def percent(fraction: float) -> str:
    """0.123 as 12 %."""
    return f"{100 * fraction:.0f} %"


def plural(count: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def common(data: pd.DataFrame) -> str:
    """A sentence about a setting that is the same in all panels, and so in no panel's name."""
    return f"The same in all panels: {data['common'].iloc[0]}." if data["common"].iloc[0] else ""


def left_out(data: pd.DataFrame) -> str:
    """A sentence about panels that did not fit; empty if all did."""
    count = int(data["left_out"].iloc[0])
    return f"{plural(count, 'further combination')} of settings did not fit; see the tables." if count else ""


# ---- facts, and what is drawn when there is nothing to draw


@dataclass(frozen=True)
class Nothing:
    """Why a study has nothing to show in a figure, and what to add to the config."""

    why: str
    add: str

    def facts(self) -> Facts:
        return facts(title=self.why, alt=f"An empty panel. {self.why} {self.add}", drawn=False)

    def draw(self) -> Figure:
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.set_axis_off()
        axes.text(0.5, 0.5, textwrap.fill(self.add, 78), ha="center", va="center", fontsize=11.5, color="#444444")
        return figure


def facts(
    title: str,
    alt: str,
    numbers: Mapping[str, str] | None = None,
    claims: Mapping[str, str] | None = None,
    drawn: bool = True,
) -> Facts:
    """What a figure states. ``numbers`` are formatted; ``claims`` are sentences true of this study; empty ones go."""
    return {
        "title": title,
        "alt": spoken(alt),
        "numbers": dict(numbers or {}),
        "claims": {name: sentence for name, sentence in (claims or {}).items() if sentence},
        "drawn": drawn,
    }


# ---- artists


def outlined(text: Text) -> None:
    """Keep a text legible on top of lines."""
    text.set_path_effects([withStroke(linewidth=3, foreground="white")])


@contextmanager
def theme() -> Iterator[None]:
    """White ground, ticks, type of at least 9 pt at the design width."""
    settings = {
        **sns.axes_style("ticks"),
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.labelsize": 10.5,
        "xtick.labelsize": 9.5,
        "ytick.labelsize": 9.5,
        "legend.fontsize": 9.5,
        "legend.title_fontsize": 10,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": "#666666",
        "axes.linewidth": 0.8,
        "lines.solid_capstyle": "round",
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "study_figures",
    }
    with matplotlib.rc_context(settings):
        yield


def grid(
    count: int,
    columns: int,
    height: float,
    extra: float = 1.3,
    sharex: bool = True,
    sharey: bool | Literal["row"] = False,
    widths: Sequence[float] | None = None,
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes in rows of ``columns``, ``height`` inches each, and ``extra`` inches around."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, rows * height + extra), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False, width_ratios=widths).flatten()
    for unused in axes[count:]:
        unused.set_axis_off()
    for above in axes[max(0, count - columns) : count]:
        above.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def stacked_grid(
    filled: Sequence[bool], columns: int, ratios: tuple[float, float], height: float
) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A figure with pairs of axes, one above the other, in rows of ``columns``, ``height`` inches each.

    ``filled`` says for every pair whether its lower axes show anything; a row in which none does gives it less room.
    """
    count = len(filled)
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    upper, lower = ratios
    heights = [lower if any(filled[row * columns : (row + 1) * columns]) else lower / 4 for row in range(rows)]
    total = height * sum(upper + each for each in heights) / (upper + lower)
    figure = Figure(figsize=(WIDTH, total + 0.8), layout="constrained")
    shares = [share for each in heights for share in (upper, each)]
    axes = figure.subplots(2 * rows, columns, squeeze=False, height_ratios=shares)
    pairs = [(axes[2 * row, column], axes[2 * row + 1, column]) for row in range(rows) for column in range(columns)]
    for pair in pairs[count:]:
        for unused in pair:
            unused.set_axis_off()
    return figure, pairs[:count]


def share_y(axes: Sequence[Axes], columns: int, label: str) -> None:
    """One y scale for all that are drawn, with its label at the left of every row."""
    drawn = {index: ax for index, ax in enumerate(axes) if ax.axison}
    limits = [ax.get_ylim() for ax in drawn.values()]
    labelled: set[int] = set()
    for index, ax in drawn.items():
        ax.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        if index // columns in labelled:
            ax.tick_params(labelleft=False)
        else:
            ax.set_ylabel(label)
            labelled.add(index // columns)


def plain_log_ticks(axes: Axes) -> None:
    """Ticks of a logarithmic y axis that stay readable where it spans little: 0.2, 0.5, 1."""
    low, high = axes.get_ylim()
    steps = (1.0, 2.0, 5.0) if math.log10(high / low) < 2.2 else (1.0,)
    axes.yaxis.set_major_locator(LogLocator(subs=steps, numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def label_below(axes: Sequence[Axes], columns: int, text: str) -> None:
    """The x label under the lowest panel of every column."""
    for ax in axes[max(0, len(axes) - columns) :]:
        ax.set_xlabel(text)


def panel_title(axes: Axes, text: str, wide: int = 30) -> None:
    """A panel's name above its left corner, wrapped."""
    axes.set_title(textwrap.fill(_joined(str(text)), wide, break_on_hyphens=False), loc="left")


def _joined(text: str) -> str:
    """What an equals sign, or a times sign, joins stays on one line."""
    for sign in (" = ", " × ", " %"):
        text = text.replace(sign, sign.replace(" ", "\u00a0"))
    return text


def headline(figure: Figure, text: str) -> None:
    """The finding, above everything."""
    figure.suptitle(textwrap.fill(_joined(text), 84), x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=INK)


# ---- saving


def render(
    snakemake: Any,
    frame: Callable[[Tables], pd.DataFrame],
    facts: Callable[[pd.DataFrame], Facts],
    draw: Callable[[pd.DataFrame], Figure],
) -> None:
    """Tables in, PNG, SVG and facts out: the same bytes from the same tables."""
    with recorded(snakemake, "plot"):
        _render(snakemake, frame, facts, draw)


def _render(
    snakemake: Any,
    frame: Callable[[Tables], pd.DataFrame],
    facts: Callable[[pd.DataFrame], Facts],
    draw: Callable[[pd.DataFrame], Figure],
) -> None:
    tables = Tables({table: getattr(snakemake.input, table) for table in study_tables.TABLES})
    data = frame(tables)
    found = {"figure": Path(snakemake.output.png).stem, **facts(data)}
    with theme():
        figure = draw(data)
        headline(figure, found["title"])
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            with written_aside(getattr(snakemake.output, kind)) as aside:
                figure.savefig(aside, format=kind, dpi=DPI, metadata=metadata)
    with written_aside(snakemake.output.facts) as aside:
        aside.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
