"""The tables under the answer in short: regimes before training, and what was learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from study.report import measures, ranking, statistics
from study.report.phrases import VERBS, at_value, count_of, effect_words, interval_words, key_of, where_of, writer_of
from study.report.sentences.turning import radius_words, turning_words
from study.report.words import beginning, decimals, few, marked, named, ordered, value_of
from study.settings import described_axes

MOST_ROWS = 12
MOST_NAMED = 5  # columns whose heads repeat what their values are of
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

    part: measures.Part
    row_axes: list[str]
    rows: list[Row]
    notes: list[str]

    @property
    def several(self) -> bool:
        """Whether some cell counts several networks."""
        cells = [*self.row_axes, *([self.part.column] if self.part.column else [])]
        sizes = self.part.runs.groupby(cells, dropna=False).size() if cells else [len(self.part.runs)]
        return max(sizes) > 1

    @property
    def columns(self) -> list[str]:
        axis = self.part.column
        return [named(axis, value) for value in self.part.columns] if axis else ["all networks"]

    @property
    def by(self) -> str:
        """What the values of many columns are of: it stands above the table once, not in every head."""
        axis = self.part.column
        numbers = axis and described_axes()[axis]["kind"] in ("number", "integer")
        return str(described_axes()[str(axis)]["label"]) if numbers and len(self.part.columns) > MOST_NAMED else ""

    @property
    def heads(self) -> list[str]:
        """What stands above the columns."""
        return [value_of(str(self.part.column), value) for value in self.part.columns] if self.by else self.columns


def start_table(part: measures.Part) -> Table:
    """Regimes by the part's column axis; rows that say the same are said together."""
    axes, notes = list(part.rows), []
    for axis in part.rows:
        if len(axes) and measures.alike(part, axes, axis):
            axes.remove(axis)
            values = few((named(axis, v) for v in ordered(axis, part.runs[axis])), 6)
            notes.append(
                f"{beginning(axis, values)} agree in every cell, so each row counts the networks of {'both' if part.runs[axis].nunique() == 2 else 'all'}."
            )
    while axes and len(measures.grouped(part.runs, axes)) > MOST_ROWS:
        axis = min(axes, key=lambda each: _spread(part, each))
        axes.remove(axis)
        values = few([named(axis, v) for v in ordered(axis, part.runs[axis])], 5)
        notes.append(f"Each row counts the networks of {values} together.")
    rows = []
    for chosen, runs in measures.grouped(part.runs, axes):
        cells = [regime_cell(part, chosen, value, at_value(runs, part.column, value)) for value in part.columns]
        rows.append(Row(chosen, cells, row_words(part, chosen, runs)))
    return Table(part, axes, rows, notes)


def _spread(part: measures.Part, axis: str) -> float:
    """How far the mean growth of the axis' values lies apart."""
    means = part.runs.assign(rate=part.runs["growth_rate"].clip(-10, 10)).groupby(axis, dropna=False)["rate"].mean()
    return float(means.max() - means.min())


def regime_cell(part: measures.Part, chosen: Mapping[str, Any], column: Any, runs: pd.DataFrame) -> Cell:
    """Median decades, and how many networks vanish, stay and explode."""
    if runs.empty:
        return Cell("–", "none")
    where = where_of(part, chosen) | ({part.column: column} if part.column else {})
    counts = measures.regime_counts(runs)
    middle = (
        statistics.median(runs["log10_gradient_ratio"].dropna().to_numpy()).value
        if counts["not finite"] < len(runs)
        else math.nan
    )
    text = "not finite" if math.isnan(middle) else "exactly 0" if middle == -math.inf else decimals(middle, 1)
    if math.isfinite(middle) and middle > 0 and text != "0.0":
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


def row_words(part: measures.Part, chosen: Mapping[str, Any], runs: pd.DataFrame) -> str:
    """Where a row turns, or how many of its networks keep their gradient."""
    where = where_of(part, chosen)
    critical = measures.critical(runs) if part.column in measures.SCALES else None
    if critical is None:
        counts = measures.regime_counts(runs)
        stay = count_of(counts["stable"], "regime_count", regime="stable", **where)
        if len(runs) == 1 and not counts["stable"]:
            return "the one does not stay"
        return f"{stay} of {count_of(len(runs), 'starts_at_longest', **where)} {VERBS['stable'][counts['stable'] != 1]}"
    if math.isfinite(critical.radius.value):
        theory = measures.theory_critical(runs)
        predicted = ""
        if theory is not None and math.isfinite(theory.radius.value):
            predicted = f"; {measures.turning_theory(runs)}: {marked(radius_words(theory.radius.value, theory), 'predicted_radius', theory.radius.value, **where)}"
        return f"turns positive at {critical.symbol} = {turning_words(critical, **where)}{predicted}"
    if critical.shrinking == critical.networks:
        return f"negative at every {critical.symbol}, in every network"
    if critical.growing == critical.networks:
        return f"positive at every {critical.symbol}, in every network"
    return f"{count_of(critical.turning, 'turning', **where)} of {count_of(critical.networks, 'networks', **where)} networks {'turns' if critical.turning == 1 else 'turn'}"


def shortened(part: measures.Part) -> tuple[list[str], list[str]]:
    """(the rows' axes of a table of trained runs, and which others are averaged over): no more rows than a reader takes in."""
    axes, notes = list(part.rows), []
    while axes and len(measures.grouped(part.runs, axes)) > MOST_ROWS:
        spread = {
            axis: float(np.ptp([measures.outcome(rows).value for _, rows in measures.grouped(part.runs, [axis])]))
            for axis in axes
        }
        axis = min(axes, key=lambda each: spread[each])
        axes.remove(axis)
        values = few([named(axis, v) for v in ordered(axis, part.runs[axis])], 5)
        notes.append(f"Each row is the mean over {values}.")
    return axes, notes


def outcome_cell(part: measures.Part, chosen: Mapping[str, Any], column: Any, runs: pd.DataFrame) -> Cell:
    """Mean result with its interval, and how many runs broke down; these count with the baseline."""
    if runs.empty:
        return Cell("–", "none")
    metric = str(part.runs["metric"].iloc[0])
    where = where_of(part, chosen) | ({part.column: column} if part.column else {})
    broken, write, mean_result = int(runs["broken"].sum()), writer_of(metric), measures.outcome(runs)
    breakdowns = f"{count_of(broken, 'broken', **where)} of {count_of(len(runs), 'trained_runs', **where)} broke down"
    value = marked(write(mean_result.value), "outcome", mean_result.value, **where)
    if broken == len(runs) or math.isnan(mean_result.value):
        # Where settings are taken together, one without a result counts all the same.
        counts_as = [] if math.isnan(mean_result.value) else [f"counts as {value}"]
        return Cell("no result", "broken", [breakdowns, *counts_as] if broken else [])
    spread = interval_words(mean_result, write, "outcome", **where)
    notes = [note for note in (spread, breakdowns if broken else "") if note]
    return Cell(value, "partly-broken" if broken else "whole", notes, mean_result.value)


def winner(
    part: measures.Part, rows: pd.DataFrame, compared: list[measures.Comparison], breakdowns: list[measures.Comparison]
) -> str:
    """Of one row: which value is clearly better, by how much, than the reference or the runner-up; always with the size.

    A value whose runs all broke down has no result to compare.
    """
    axis = str(part.column)
    by_key = ranking.scores(rows, axis, part.columns)
    leader = ranking.clear_leader(measures.comparable(part.runs, axis), compared, by_key)
    without_result = {key_of(value) for value in part.columns if at_value(rows, axis, value)["broken"].all()}
    less = [
        f"{named(axis, c.b if c.verdict == 'higher' else c.a)} clearly breaks down less often"
        for c in breakdowns
        if c.clear
    ]
    compared = [each for each in compared if not {key_of(each.a), key_of(each.b)} & without_result]
    if without_result and not compared:
        return "; ".join(less) or "no result to compare"
    if axis in part.task_axes:
        return "; ".join(less) or "not compared: they differ without learning"
    if not compared:
        return "nothing to compare"
    by_verdict: dict[str, list[str]] = {}
    for each in _shown(axis, compared, by_key, leader):
        verdict, words = _versus(axis, each)
        by_verdict.setdefault(verdict, []).append(words)
    return "; ".join([*(verdict + "; ".join(words) for verdict, words in by_verdict.items()), *less])


def _shown(
    axis: str, compared: list[measures.Comparison], by_key: Mapping[Any, float], leader: Any
) -> list[measures.Comparison]:
    """The comparisons of a row that are told: one that the leader wins, then those with the reference, else the largest with the best value.

    Of many values not every pair is compared, and the best mean may have a wide spread. So the leader may be none of these.
    """

    def size(comparison: measures.Comparison) -> float:
        return abs(comparison.effect.value)

    best = max(by_key, key=lambda value: by_key[value], default=None)
    reference = measures.REFERENCE.get(axis)
    with_reference = [c for c in compared if axis in measures.REFERENCE and reference in (key_of(c.a), key_of(c.b))]
    with_best = [c for c in compared if best in (key_of(c.a), key_of(c.b))]
    usual = with_reference or [max([c for c in with_best if c.better] or with_best or compared, key=size)]
    leads = [[c for c in some if c.better and ranking.winner_of(c) == leader] for some in (usual, compared)]
    first = max(leads[0] or leads[1], key=size, default=None)
    others = sorted((c for c in usual if c is not first), key=lambda c: not c.better)
    return [first, *others] if first else others


def _versus(axis: str, comparison: measures.Comparison) -> tuple[str, str]:
    """(what the comparison amounts to, its values and the size): ("", norm:1.0 better than …: +12 points)."""
    a_leads = comparison.effect.value > 0 if comparison.measure == "held_out_accuracy" else comparison.effect.value < 0
    leader, behind = (comparison.a, comparison.b) if a_leads else (comparison.b, comparison.a)
    size = effect_words(comparison, 1.0 if a_leads else -1.0)
    if not comparison.differences.any():
        return "the same results, run by run: ", f"{named(axis, leader)} and {named(axis, behind)}"
    if comparison.better:
        return "", f"{named(axis, leader)} better than {named(axis, behind)}: {size}"
    verdict = "too few seeds to tell: " if comparison.verdict == "few" else "no clear difference: "
    return verdict, f"{named(axis, leader)} against {named(axis, behind)}: {size}"
