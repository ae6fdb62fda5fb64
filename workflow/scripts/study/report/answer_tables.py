"""The tables under the answer in short: regimes before training, and what was learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from study.report import measures as sm
from study.report import statistics as stat
from study.report.phrases import (
    VERBS,
    at_value,
    count_of,
    effect_words,
    interval_words,
    key_of,
    where_of,
    writer_of,
)
from study.report.start_sentences import radius_words, turning_words
from study.report.words import decimals, few, listed, marked, named, ordered

MOST_ROWS = 12
SYMBOLS = {"vanishing": "▼", "stable": "●", "exploding": "▲"}


@dataclass(frozen=True)
class Cell:
    """One cell of a table: its number (``value`` is what ``text`` prints), what stands below it, and its colour."""

    text: str
    mark: str
    notes: list[str] = field(default_factory=list)
    value: float = math.nan


@dataclass(frozen=True)
class Row:
    """One row: what tells it from the others, its cells, and what they amount to."""

    settings: dict[str, Any]
    cells: list[Cell]
    verdict: str


@dataclass(frozen=True)
class Table:
    """A table of a part of the study: its axes, and sentences that say what all its rows share."""

    part: sm.Part
    row_axes: list[str]
    rows: list[Row]
    notes: list[str]

    @property
    def columns(self) -> list[str]:
        axis = self.part.column
        return [named(axis, value) for value in self.part.columns] if axis else ["all networks"]


def start_table(part: sm.Part) -> Table:
    """Regimes by the part's column axis; rows that say the same are said together."""
    axes, notes = list(part.rows), []
    for axis in part.rows:
        if len(axes) and sm.alike(part, axes, axis):
            axes.remove(axis)
            values = listed(named(axis, v) for v in ordered(axis, part.runs[axis]))
            notes.append(
                f"{values} agree in every cell, so each row counts the networks of {'both' if part.runs[axis].nunique() == 2 else 'all'}."
            )
    while axes and len(sm.grouped(part.runs, axes)) > MOST_ROWS:
        axis = min(axes, key=lambda each: _spread(part, each))
        axes.remove(axis)
        values = few([named(axis, v) for v in ordered(axis, part.runs[axis])], 5)
        notes.append(f"Each row counts the networks of {values} together.")
    rows = []
    for chosen, runs in sm.grouped(part.runs, axes):
        cells = [regime_cell(part, chosen, value, at_value(runs, part.column, value)) for value in part.columns]
        rows.append(Row(chosen, cells, row_words(part, chosen, runs)))
    return Table(part, axes, rows, notes)


def _spread(part: sm.Part, axis: str) -> float:
    """How far the mean growth of the axis' values lies apart."""
    means = part.runs.assign(rate=part.runs["growth_rate"].clip(-10, 10)).groupby(axis, dropna=False)["rate"].mean()
    return float(means.max() - means.min())


def regime_cell(part: sm.Part, chosen: Mapping[str, Any], column: Any, runs: pd.DataFrame) -> Cell:
    """Median decades, and how many networks vanish, stay and explode."""
    if runs.empty:
        return Cell("–", "none")
    where = where_of(part, chosen) | ({part.column: column} if part.column else {})
    counts = sm.regime_counts(runs)
    middle = (
        stat.median(runs["log10_gradient_ratio"].dropna().to_numpy()).value
        if counts["not finite"] < len(runs)
        else math.nan
    )
    text = "not finite" if math.isnan(middle) else "exactly 0" if middle == -math.inf else decimals(middle, 1)
    if math.isfinite(middle) and middle > 0:
        text = f"+{text}"
    regime = next((name for name, count in counts.items() if count == len(runs)), "split")
    known = {name: count for name, count in counts.items() if count}
    if regime != "split":
        symbol = SYMBOLS.get(regime, "")
        count = count_of(len(runs), "regime_count", regime=regime, **where)
        verb = VERBS[regime][len(runs) != 1] if regime in VERBS else "without a number"
        notes = (
            [f"{symbol} {'all ' if len(runs) > 1 else ''}{count} {verb}".strip()]
            if len(runs) > 1
            else [f"{symbol} {verb}".strip()]
        )
    else:
        notes = [
            f"{SYMBOLS.get(name, '')} {count_of(count, 'regime_count', regime=name, **where)} {VERBS[name][count != 1] if name in VERBS else 'no number'}".strip()
            for name, count in known.items()
        ]
    shown = text if math.isnan(middle) else marked(text, "median_decades", middle, **where)
    return Cell(shown, regime.replace(" ", "-"), notes, middle)


def row_words(part: sm.Part, chosen: Mapping[str, Any], runs: pd.DataFrame) -> str:
    """Where a row turns, or how many of its networks keep their gradient."""
    where = where_of(part, chosen)
    found = sm.critical(runs) if part.column == "spectral_radius" else None
    if found is None:
        counts = sm.regime_counts(runs)
        return f"{count_of(counts['stable'], 'regime_count', regime='stable', **where)} of {count_of(len(runs), 'starts_at_longest', **where)} stay"
    if math.isfinite(found.radius.value):
        theory = sm.theory_critical(runs)
        said = ""
        if theory is not None and math.isfinite(theory.radius.value):
            said = f"; theory: {marked(radius_words(theory.radius.value, theory), 'predicted_radius', theory.radius.value, **where)}"
        return f"turns positive at ρ = {turning_words(found, **where)}{said}"
    if found.shrinking == found.networks:
        return "negative at every ρ, in every network"
    if found.growing == found.networks:
        return "positive at every ρ, in every network"
    return f"{count_of(found.turning, 'turning', **where)} of {count_of(found.networks, 'networks', **where)} networks turn"


def shortened(part: sm.Part) -> tuple[list[str], list[str]]:
    """(the rows' axes of a table of trained runs, and which others are averaged over): no more rows than a reader takes in."""
    axes, notes = list(part.rows), []
    while axes and len(sm.grouped(part.runs, axes)) > MOST_ROWS:
        spread = {
            axis: float(np.ptp([sm.outcome(rows).value for _, rows in sm.grouped(part.runs, [axis])])) for axis in axes
        }
        axis = min(axes, key=lambda each: spread[each])
        axes.remove(axis)
        values = few([named(axis, v) for v in ordered(axis, part.runs[axis])], 5)
        notes.append(f"Each row is the mean over {values}.")
    return axes, notes


def outcome_cell(part: sm.Part, chosen: Mapping[str, Any], column: Any, runs: pd.DataFrame) -> Cell:
    """Mean result with its interval, and how many runs broke down; these count with the baseline."""
    if runs.empty:
        return Cell("–", "none")
    metric = str(part.runs["metric"].iloc[0])
    where = where_of(part, chosen) | ({part.column: column} if part.column else {})
    broken, write, found = int(runs["broken"].sum()), writer_of(metric), sm.outcome(runs)
    lost = f"{count_of(broken, 'broken', **where)} of {count_of(len(runs), 'trained_runs', **where)} broke down"
    if broken == len(runs) or math.isnan(found.value):
        return Cell("no result", "broken", [lost] if broken else [])
    spread = interval_words(found, write, "outcome", **where)
    notes = [note for note in (spread, lost if broken else "") if note]
    value = marked(write(found.value), "outcome", found.value, **where)
    return Cell(value, "partly-broken" if broken else "whole", notes, found.value)


def winner(part: sm.Part, rows: pd.DataFrame, compared: list[sm.Comparison], breakdowns: list[sm.Comparison]) -> str:
    """Of one row: which value is clearly better, by how much, than the reference or the runner-up; always with the size.

    A value whose runs all broke down has no result to compare.
    """
    axis = str(part.column)
    lost = {key_of(value) for value in part.columns if at_value(rows, axis, value)["broken"].all()}
    less = [
        f"{named(axis, c.b if c.verdict == 'higher' else c.a)} clearly breaks down less often"
        for c in breakdowns
        if c.verdict in ("higher", "lower")
    ]
    compared = [each for each in compared if not {key_of(each.a), key_of(each.b)} & lost]
    if lost and not compared:
        return "; ".join(less) or "no result to compare"
    if not compared:
        return "nothing to compare"
    reference = sm.REFERENCE.get(axis)
    if axis in sm.REFERENCE and any(reference in (key_of(c.a), key_of(c.b)) for c in compared):
        shown = [c for c in compared if reference in (key_of(c.a), key_of(c.b))]
    else:
        clear = [c for c in compared if c.better]
        shown = [max(clear or compared, key=lambda c: abs(c.effect.value))]
    return "; ".join([*(_versus(axis, each) for each in shown), *less])


def _versus(axis: str, found: sm.Comparison) -> str:
    """norm:1.0 better: +12 points (…); or the same without a verdict."""
    ahead = found.effect.value > 0 if found.measure == "held_out_accuracy" else found.effect.value < 0
    one, other = (found.a, found.b) if ahead else (found.b, found.a)
    size = effect_words(found, 1.0 if ahead else -1.0)
    if not found.differences.any():
        return "the same results, run by run"
    if found.better:
        return f"{named(axis, one)} better than {named(axis, other)}: {size}"
    why = "too few seeds to tell" if found.verdict == "few" else "no clear difference"
    return f"{why}: {named(axis, one)} against {named(axis, other)} {size}"
