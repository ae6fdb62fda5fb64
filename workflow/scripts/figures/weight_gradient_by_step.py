"""Which steps write the gradient of the recurrent weights, and which work against it, at the longest sequence."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from rnn_core.experiment.measures.weights import along_the_sum
from study.report import drawing, facets, layout, measures, reader, style
from study.report.findings import Study
from study.report.sentences.weights import Kind, ends_of, kinds_of, weight_of, weights_sentence
from study.report.words import LONGEST_TITLE, name_of, number, percent, plain

NOTHING = drawing.Nothing(
    "No run of this study recorded which steps write the gradient of its recurrent weights.",
    "Add traces: [weight_gradient] to the config, and a sweep with sequence_length: 2 or more, of a cell that has recurrent weights and a gradient that is not"
    " zero.",
)
BINS = 20  # bars a panel, at most: of a longer sequence, several steps in one
WITH, AGAINST = style.CATEGORIES[0], style.CATEGORIES[1]
LEAST_SCALE = 0.1  # of all contributions: a flat panel is not blown up


def frame(tables: reader.Tables) -> pd.DataFrame:
    """Panel × bar: ``with_it`` and ``against``, of all contributions |⟨G_t, G⟩| the parts of some steps, means over networks.

    Bars are some lags each, ``first`` to ``last``. ``steps`` and ``all_against`` are the medians of ``weight_grad_steps`` and
    ``weight_grad_against`` over the panel's networks.
    """
    runs = measures.starts(
        tables.runs("growth_rate", "task_loss_at", "data", "weight_grad_steps", "weight_grad_against")
    )
    runs = runs[runs["weight_grad_steps"].notna()]
    if runs.empty:
        return pd.DataFrame()
    runs = facets.start_panels(runs)
    runs = runs.assign(ends=runs["run_key"].isin(reader.with_other_losses(tables, runs)))
    return facets.by_panel(runs, lambda rows: _bars(tables, rows), "first")


def _bars(tables: reader.Tables, runs: pd.DataFrame) -> pd.DataFrame:
    """The bars of one panel."""
    T = int(measures.steps(runs).iloc[0])
    along = _contributions(tables, runs, T)
    each = math.ceil(T / BINS)  # steps in a bar, equally many: else its height would say how many they are
    each = next((size for size in range(each, 2 * each) if T % size == 0), each)
    edges = np.array([*range(0, T, each), T])
    signs = {"with_it": np.maximum(along, 0.0), "against": np.minimum(along, 0.0)}
    heights = {name: np.add.reduceat(part, edges[:-1], axis=1).mean(axis=0) for name, part in signs.items()}
    first = runs.iloc[0]
    return pd.DataFrame(heights).assign(
        **{name: first[name] for name in ("panel", "left_out", "fewer", "across", "scaled_by")}, first=edges[:-1], last=edges[1:] - 1, sequence_steps=T,
        networks=len(runs), steps=float(runs["weight_grad_steps"].median()),
        all_against=float(runs["weight_grad_against"].median()), every=bool(first["task_loss_at"] == "every"), ends=bool(runs["ends"].any()),
    )  # fmt: skip


def _contributions(tables: reader.Tables, runs: pd.DataFrame, T: int) -> np.ndarray:
    """⟨G_t, G⟩ / Σ_s |⟨G_s, G⟩| before training by lag, (runs, T)."""
    keys = runs["run_key"].tolist()
    row = pd.Series(np.arange(len(keys)), index=keys)
    parts = np.full((2, len(keys), T), np.nan)
    names = ["log10_weight_grad_norm", "weight_grad_cosine"]
    wanted = (pc.field("update") == 0) & pc.field("run_key").isin(pa.array(keys, pa.string()))
    for piece in tables.pieces("traces", ["run_key", "lag", *names], wanted):
        parts[:, row[piece["run_key"]].to_numpy(), piece["lag"].to_numpy()] = piece[names].to_numpy(dtype=float).T
    along = np.array([along_the_sum(norm, cosine) for norm, cosine in zip(*parts, strict=True)])
    return np.asarray(along / np.abs(along).sum(axis=1, keepdims=True))


# ---- facts


def facts(data: pd.DataFrame, study: Study) -> drawing.Facts:
    if data.empty:
        return NOTHING.facts()
    whose = weight_of(measures.starts(study.all_runs))
    kinds_told = [_told(study, part, kind) for part in study.start_parts for kind in kinds_of(part)]
    title = _title(_of_one_length(kinds_told, set(data["sequence_steps"])), whose)
    kinds = facets.alt_list(data["panel"].cat.categories)
    alt = (
        f"Bar charts{kinds}: what the steps at each lag add to the gradient of the recurrent weights. "
        f"Bars are in percent of all contributions, upwards with the gradient and downwards against it. {title}"
    )
    shown = [
        *(["bins"] if (data["last"] > data["first"]).any() else []),
        *(["three scales"] if data["fewer"].any() else []),
        *(["weight scale"] if data["scaled_by"].iloc[0] == "weight_scale" else []),
        *(["mean"] if data["networks"].max() > 1 else []),
        *(["against"] if (data["against"] < 0).any() else []),
        *(["own"] if whose != "∂L/∂W_hh" else []),
        *(["every"] if data["every"].any() else ["ends"] if data["ends"].any() else []),
        *(["several"] if len(data["panel"].cat.categories) > 1 else []),
    ]
    claims = [study.of_sweep(part, weights_sentence(part)) for part in study.start_parts]
    return drawing.facts(title, alt, [*dict.fromkeys(claims), facets.left_out(data, headline=True)], shown)


def _told(study: Study, part: measures.Part, kind: Kind) -> Kind:
    """The kind by a name that tells it from those of other sweeps."""
    settings = {axis: value for axis, value in kind.where.items() if axis not in ("sweep", "sequence_length")}
    told = study.settings_of(part, settings)
    return replace(kind, name=name_of(told) if told else "")


def _of_one_length(kinds: list[Kind], drawn: set[int]) -> list[Kind]:
    """Those at the longest sequence that has bars: of six steps one may write half, of sixty it would be a finding."""
    longest = max(
        (kind.all_steps for kind in kinds if kind.all_steps in drawn), default=max(kind.all_steps for kind in kinds)
    )
    return [kind for kind in kinds if kind.all_steps == longest]


def _title(kinds: list[Kind], whose: str) -> str:
    """From the fewest to the most steps that write half of the gradient."""
    low, high = ends_of(kinds)
    head = f"Half of {whose} comes from {low.steps_words}"
    if high.share == low.share:
        return f"{head}{' in every setting' if len(kinds) > 1 else ''}."
    names = [
        f" ({facets.inside(kind.name)})"
        if kind.name and [other.share for other in kinds].count(kind.share) == 1
        else ""
        for kind in (low, high)
    ]
    text = f"{head}{names[0]} up to {high.steps_words}{names[1]}."
    return text if len(plain(text)) <= LONGEST_TITLE else f"{head} up to {high.steps_words}, depending on the network."


# ---- drawing


def draw(data: pd.DataFrame) -> Figure:
    if data.empty:
        return NOTHING.draw()
    figure = layout.by_lag(data, _panel, "part of all contributions to the gradient")
    layout.legend_below(figure, _legend(data), most=2)
    return figure


def _words(row: Any) -> str:
    """Half from 5 steps; 12 % against."""
    steps = f"{number(row['steps'])} {'step' if row['steps'] == 1 else 'steps'}"
    return f"half from {steps}" + (f"; {percent(row['all_against'])} against" if row["all_against"] >= 0.005 else "")


def _panel(ax: Axes, rows: pd.DataFrame, _: float) -> None:
    layout.under_title(ax, _words(rows.iloc[0]))
    width = rows["last"] - rows["first"] + 1
    look: dict[str, Any] = {"align": "edge", "width": 0.86 * width, "linewidth": 0}
    at = rows["first"] - 0.5 + 0.07 * width
    ax.bar(at, rows["with_it"], color=WITH, gid="with", **look)
    ax.bar(at, rows["against"], color=AGAINST, gid="against", hatch="////", edgecolor="white", **look)
    ax.axhline(0.0, color=style.INK, lw=0.8)
    high = max(LEAST_SCALE, 1.1 * float(rows["with_it"].max()))
    low = min(-0.06 * high, 1.15 * float(rows["against"].min()))
    ax.set(
        ylim=(low, high),
        xlim=(-0.5 - 0.01 * rows["sequence_steps"].iloc[0], rows["last"].max() + 0.5),
    )
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    ax.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_locator(layout.whole_numbers())


def _legend(data: pd.DataFrame) -> list[Patch]:
    over = " (mean over networks)" if data["networks"].max() > 1 else ""
    handles = [Patch(color=WITH, label=f"works with the whole gradient{over}")]
    if (data["against"] < 0).any():
        handles.append(Patch(facecolor=AGAINST, hatch="////", edgecolor="white", label="works against it"))
    return handles
