"""The tables under the answer in short: regimes before training, and what was learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

import study_measures as sm
import study_statistics as stat
from study_phrases import (
    VERBS,
    at_value,
    between,
    count_of,
    effect_words,
    is_better,
    key_of,
    seeds_of,
    where_of,
    writer_of,
)
from study_start_sentences import radius_words, turning_words
from study_words import capital, decimals, few, listed, marked, named, ordered

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
        if len(axes) and _alike(part, axes, axis):
            axes.remove(axis)
            values = listed(named(axis, v) for v in ordered(axis, part.runs[axis]))
            notes.append(
                f"{capital(values)} agree in every cell, so each row counts the networks of {'both' if part.runs[axis].nunique() == 2 else 'all'}."
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


def _alike(part: sm.Part, axes: list[str], axis: str) -> bool:
    """Whether the values of ``axis`` have the same regimes everywhere and the same decades to a tenth."""
    others = [each for each in axes if each != axis] + ([part.column] if part.column else [])
    runs = part.runs.assign(
        shown=part.runs["log10_gradient_ratio"].round(1).astype(str) + part.runs["regime"].fillna("").astype(str)
    )
    keys = ["seed", *others]
    groups = runs.groupby(keys, dropna=False)
    return bool(
        (groups["shown"].nunique() == 1).all()
        and (groups[axis].nunique(dropna=False) == part.runs[axis].nunique(dropna=False)).all()
    )


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
        theory = sm.critical(runs, "predicted_rate")
        said = ""
        if theory is not None and math.isfinite(theory.radius.value):
            said = f"; theory: {marked(radius_words(theory.radius.value, theory), 'predicted_radius', theory.radius.value, **where)}"
        return f"turns at ρ = {turning_words(found, **where)}{said}"
    if found.shrinking == found.networks:
        return "shrinks at every ρ, in every network"
    if found.growing == found.networks:
        return "grows at every ρ, in every network"
    return f"{count_of(found.turning, 'turning', **where)} of {count_of(found.networks, 'networks', **where)} networks turn"


def outcome_cell(part: sm.Part, chosen: Mapping[str, Any], column: Any, runs: pd.DataFrame) -> Cell:
    """Mean result with its interval, and how many runs broke down."""
    if runs.empty:
        return Cell("–", "none")
    metric = str(part.runs["metric"].iloc[0])
    where = where_of(part, chosen) | ({part.column: column} if part.column else {})
    broken, write, found = int(runs["broken"].sum()), writer_of(metric), sm.outcome(runs)
    notes = []
    if not math.isnan(found.low):
        ends = [
            marked(write(end), f"outcome_{side}", end, **where)
            for side, end in (("low", found.low), ("high", found.high))
        ]
        notes.append(f"{ends[0]} to {ends[1]}")
    if broken:
        notes.append(
            f"{count_of(broken, 'broken', **where)} of {count_of(len(runs), 'trained_runs', **where)} broke down"
        )
    if math.isnan(found.value):
        return Cell("no result", "broken", notes)
    mark = "broken" if broken == len(runs) else "partly-broken" if broken else "whole"
    return Cell(marked(write(found.value), "outcome", found.value, **where), mark, notes, found.value)


def winner(part: sm.Part, compared: list[sm.Comparison]) -> str:
    """Of one row: which value is clearly better, by how much, than the reference or than the worst; or why that is open."""
    axis = str(part.column)
    if not compared:
        return "nothing to compare"
    values = [value for value in part.columns if any(key_of(value) in (key_of(c.a), key_of(c.b)) for c in compared)]
    reference = sm.REFERENCE.get(axis, "")
    if axis in sm.REFERENCE and any(key_of(v) == reference for v in values):
        against = [(v, between(compared, v, reference)) for v in values if key_of(v) != reference]
        clear = [(v, found) for v, found in against if found and found[0].better]
        if clear:
            words = []
            for v, (found, sign) in clear:
                ahead = is_better(found, sign)
                words.append(
                    f"{named(axis, v) if ahead else named(axis, reference)} better: {effect_words(found, sign if ahead else -sign)}"
                )
            return "; ".join(words)
    else:
        clear_pairs = [c for c in compared if c.better]
        if clear_pairs:
            best = max(clear_pairs, key=lambda c: abs(c.effect.value))
            sign = 1.0 if best.better == "a" else -1.0
            one, other = (best.a, best.b) if sign > 0 else (best.b, best.a)
            return f"{named(axis, one)} better than {named(axis, other)}: {effect_words(best, sign)}"
    if all(c.verdict == "few" for c in compared):
        return f"too few seeds to tell ({seeds_of(min(compared, key=lambda c: c.seeds))})"
    return "no clear difference"
