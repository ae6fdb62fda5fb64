"""What the figures share: reading, choice of runs, panels, colours, words for numbers, and saving picture and facts.

A figure is ``plot_<figure>.py``: ``frame`` (what is drawn, tidy), ``facts`` (headline and numbers, from the frame) and
``draw`` (artists, from the frame); ``render`` does the rest. A study may lack what a figure shows: then the frame is empty.
"""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

import study_tables

matplotlib.use("Agg")

WIDTH = 9.0  # inches; at 200 dpi and shown 900 px wide, 9 pt are 12 px
REGIME_DECADES = 2.0  # as rnn_core.theory.REGIME_DECADES; the column "regime" of the table "runs" says the same
TRAINING = ("clipping", "optimizer", "learning_rate", "updates", "trace_every")  # settings without effect on the start
MOST_PANELS = 12

RATIO = r"$\log_{10}\,(\|\partial L/\partial h_{%s}\|\,/\,\|\partial L/\partial h_T\|)$"  # axis label, at step %s
INK, FAINT = "#222222", "#8a8a8a"
REGIME_COLOURS = {"vanishing": "#0072B2", "stable": "#4d4d4d", "exploding": "#D55E00"}
_BELOW_ONE, _ABOVE_ONE = ("#63b5e5", "#0b3c8c"), ("#9c2f00", "#f5a01d")  # far from 1 … near 1, near 1 … far from 1
_RULE_COLOURS = ("#0072B2", "#56B4E9", "#D55E00", "#E69F00", "#009E73", "#CC79A7", "#7570b3", "#8c6d31")
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

Facts = dict[str, Any]


# ---- reading, and choosing runs


@dataclass(frozen=True)
class Tables:
    """The study's tables by name; only the columns and rows asked for are read."""

    files: Mapping[str, str | Path]

    def read(self, table: str, columns: Sequence[str], where: list[tuple[str, str, Any]] | None = None) -> pd.DataFrame:
        return pq.read_table(self.files[table], columns=list(columns), filters=where).to_pandas()

    def runs(self, *measured: str) -> pd.DataFrame:
        """All settings and the measured columns asked for, each run once even if two sweeps share it."""
        return self.read("runs", ["run_key", *study_tables.axes(), *measured]).drop_duplicates("run_key")


def starts(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that show gradients before any training: those that train nothing; if there are none, the start of the others.

    Runs that differ only in how they are trained share their start and count once. One step alone has no way back.
    """
    runs = runs[runs["sequence_length"] > 1]
    untrained = runs[runs["updates"] == 0]
    found = untrained if len(untrained) else runs
    return found.drop_duplicates([name for name in study_tables.axes() if name not in TRAINING])


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that train."""
    return runs[runs["updates"] > 0]


def panels(runs: pd.DataFrame, base: str, drawn: Iterable[str], most: int = MOST_PANELS) -> pd.DataFrame:
    """The runs with their ``panel``: the value of ``base`` and of every other setting that varies and is not ``drawn``.

    At most ``most`` panels are kept; ``left_out`` says how many are not. ``base`` varies fastest.
    """
    keys = [base]
    for axis in study_tables.axes():
        if axis not in {base, *drawn} and runs.groupby(keys)[axis].nunique(dropna=False).gt(1).any():
            keys.append(axis)
    order = runs[keys].drop_duplicates().sort_values([*keys[1:], base])
    names = [", ".join(_named(axis, value, base) for axis, value in zip(keys, row, strict=True)) for row in order.to_numpy()]
    order["panel"] = pd.Categorical(names, categories=names, ordered=True)
    kept = runs.merge(order.head(most), on=keys)
    kept["panel"] = kept["panel"].cat.remove_unused_categories()
    return kept.assign(left_out=max(0, len(order) - most))


def _named(axis: str, value: Any, base: str) -> str:
    if axis in {base, "task", "activation", "cell", "dtype"}:
        return str(value)
    label = study_tables.axes()[axis]["label"]
    return f"{label} {value}" if isinstance(value, str) else f"{label} = {number(value)}"


def longest(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs at the longest sequence of their panel."""
    T = runs["sequence_length"]
    return runs[T == T.groupby(runs["panel"], observed=True).transform("max")]


def rules(values: Iterable[str]) -> list[str]:
    """Clipping rules in a fixed order: none, then by rule, each from its largest threshold down."""
    return sorted(set(values), key=lambda rule: (rule != "none", rule.partition(":")[0], -(threshold(rule) or 0.0)))


def threshold(rule: str) -> float | None:
    """1.0 of ``norm:1.0``; None of ``none``."""
    return float(rule.partition(":")[2]) if ":" in rule else None


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


def number(value: float, digits: int = 3) -> str:
    """``digits`` significant digits, with a true minus; without an exponent where it stays short."""
    if math.isfinite(value) and (value == 0 or 1e-4 <= abs(value) < 1e6):
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
        text = f"{value:.{decimals}f}"
        return (text.rstrip("0").rstrip(".") if "." in text else text).replace("-", "−")
    return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−").replace("inf", "∞")


def signed(value: float, digits: int = 3) -> str:
    """As ``number``, with a plus where it is positive."""
    return ("+" if value > 0 else "") + number(value, digits)


def power(log10: float) -> str:
    """10⁻¹²³ for −123.4; small changes as plain factors: 3.2 for 0.5."""
    return number(10.0**log10, 2) if abs(log10) < 2 else "10" + str(round(log10)).translate(_SUPERSCRIPT)


def percent(fraction: float) -> str:
    """0.123 as 12 %."""
    return f"{100 * fraction:.0f} %"


def plural(count: int, noun: str) -> str:
    """1 run, 2 runs."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def listed(words: Iterable[str]) -> str:
    """a, b and c."""
    *head, last = words
    return f"{', '.join(head)} and {last}" if head else last


def left_out(data: pd.DataFrame) -> str:
    """A sentence about panels that did not fit; empty if all did."""
    count = int(data["left_out"].iloc[0])
    return f"{plural(count, 'further combination')} of settings did not fit and can be found in the tables." if count else ""


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
    """What a figure states. ``numbers`` are formatted; ``claims`` are sentences that hold for this study; empty ones go."""
    return {
        "title": title,
        "alt": alt,
        "numbers": dict(numbers or {}),
        "claims": {name: sentence for name, sentence in (claims or {}).items() if sentence},
        "drawn": drawn,
    }


# ---- artists


def theme() -> AbstractContextManager[None]:
    """White ground, ticks, type of at least 9 pt at the design width."""
    return matplotlib.rc_context(
        {
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
    )


def grid(
    count: int, columns: int, height: float, extra: float = 1.3, sharex: bool = True, sharey: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` axes in rows of ``columns``, each row ``height`` inches; ``extra`` for headline and legend."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, rows * height + extra), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=sharex, sharey=sharey, squeeze=False).flatten()
    for unused in axes[count:]:
        unused.set_axis_off()
    for above in axes[max(0, count - columns) : count]:
        above.tick_params(labelbottom=True)
    return figure, list(axes[:count])


def label_below(axes: Sequence[Axes], columns: int, text: str) -> None:
    """The x label under the lowest panel of every column."""
    for ax in axes[max(0, len(axes) - columns) :]:
        ax.set_xlabel(text)


def panel_title(axes: Axes, text: str, wide: int = 30) -> None:
    """A panel's name above its left corner, wrapped."""
    axes.set_title(textwrap.fill(str(text), wide), loc="left")


def headline(figure: Figure, text: str) -> None:
    """The finding, above everything; what an equals sign joins stays on one line."""
    figure.suptitle(textwrap.fill(text.replace(" = ", "\u00a0=\u00a0").replace(" %", "\u00a0%"), 84), x=0.01, ha="left", fontsize=12.5, fontweight="bold", color=INK)


# ---- saving


def render(
    snakemake: Any,
    frame: Callable[[Tables], pd.DataFrame],
    facts: Callable[[pd.DataFrame], Facts],
    draw: Callable[[pd.DataFrame], Figure],
) -> None:
    """Tables in, PNG, SVG and facts out: the same bytes from the same tables."""
    tables = Tables({table: getattr(snakemake.input, table) for table in study_tables.TABLES})
    data = frame(tables)
    found = {"figure": Path(snakemake.output.png).stem, **facts(data)}
    with theme():
        figure = draw(data)
        headline(figure, found["title"])
        _aside(snakemake.output.png, lambda file: figure.savefig(file, format="png", dpi=200, metadata={"Software": None}))
        _aside(snakemake.output.svg, lambda file: figure.savefig(file, format="svg", metadata={"Date": None}))
    text = json.dumps(found, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    _aside(snakemake.output.facts, lambda file: file.write(text.encode()))


def _aside(target: str | Path, write: Callable[[BinaryIO], Any]) -> None:
    """Write aside and rename, so that no reader ever sees half a file."""
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with aside.open("wb") as file:
            write(file)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
