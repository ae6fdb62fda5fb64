"""Sentences about measured growth minus what theory predicts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from study.report import measures, statistics
from study.report.phrases import bracketed, interval_words, where_of
from study.report.words import few, marked, name_of, number, plain, signed


def theory_sentence(part: measures.Part, tests: list[tuple[dict[str, Any], pd.Series, float]]) -> str:
    """Measured minus predicted, kind by kind of network, with interval; which are clearly not zero; and the worst at one setting."""
    known = part.runs[np.isfinite(part.runs["deviation"].astype(float)) & (part.runs["predicted_by"] != "linear law")]
    if known.empty:
        return ""
    if len(known) == 1:
        only = float(known["deviation"].iloc[0])
        return f"Its growth rate differs from what theory predicts by {marked(signed(only, 2), 'mean_deviation', only, sweep=part.sweep)} a step."
    clear = [chosen for chosen, _ in clearly_off(tests)]
    by_size = sorted(tests, key=lambda test: -abs(float(test[1].mean())))
    words = [
        f"{_deviation(part, chosen, series)} for {name_of(chosen)}{', clearly not zero' if chosen in clear else ''}"
        for chosen, series, _ in by_size
    ]
    if len(tests) == 1:
        words = [_deviation(part, *tests[0][:2]) + (", clearly not zero" if clear else "")]
    return f"Measured minus predicted growth, the mean per step: {few(words, 4)}." + _worst_deviation(part, known)


def _deviation(part: measures.Part, chosen: Mapping[str, Any], series: pd.Series) -> str:
    average, where = statistics.mean(series.to_numpy()), where_of(part, chosen)
    spread = interval_words(average, partial(signed, digits=2), "mean_deviation", **where)
    return f"{marked(signed(average.value, 2), 'mean_deviation', average.value, **where)}{bracketed(spread)}"


def _worst_deviation(part: measures.Part, known: pd.DataFrame) -> str:
    """Deviations of both signs cancel in a mean over the radii: the largest at one of them."""
    if not part.column or part.runs[part.column].nunique() < 2:
        return ""
    cells = [
        (chosen, measures.per_seed(rows, "deviation"))
        for chosen, rows in measures.grouped(known, [*part.rows, part.column])
    ]
    chosen, series = max(cells, key=lambda cell: abs(float(cell[1].mean())))
    return f" The largest at one setting is {_deviation(part, chosen, series)}, for {name_of(chosen, first=part.rows[0] if part.rows else '')}."


def clearly_off(
    tests: list[tuple[dict[str, Any], pd.Series, float]],
) -> list[tuple[dict[str, Any], statistics.Interval]]:
    """The kinds of network whose mean deviation from theory is clearly not zero: one test a kind, all tests of the study judged together."""
    return [
        (chosen, statistics.mean(series.to_numpy()))
        for chosen, series, p in tests
        if p <= statistics.LEVEL and len(series) >= statistics.FEWEST_SEEDS
    ]


def rest_sentence(networks: pd.DataFrame) -> str:
    """At which spectral radius gated networks would turn at rest: the median over the networks, cell by cell, and the lowest and highest.

    A network is one matrix: all radii and lengths of a seed share it.
    """
    gated = networks[measures.has_law_at_rest(networks)]
    gated = gated[np.isfinite(gated["critical_radius_predicted"].astype(float))]
    if gated.empty:
        return ""
    alike: dict[str, tuple[str, str, list[str]]] = {}  # cells may share a matrix: by what is said of them
    telling = [axis for axis in ("cell", "activation", "forget_bias") if gated[axis].nunique(dropna=False) > 1]
    for chosen, rows in measures.grouped(gated, telling):
        own = rows.groupby(measures.NETWORK, dropna=False)["critical_radius_predicted"].first()
        middle, low, high = (
            marked(number(value, 3), f"rest_critical{end}", value, **chosen)
            for end, value in (("", own.median()), ("_low", own.min()), ("_high", own.max()))
        )
        spread = f" ({low} to {high} over networks)" if plain(low) != plain(high) else ""
        alike.setdefault(plain(middle + spread), (middle, spread, []))[2].append(name_of(chosen))
    if len(alike) == 1:
        [(middle, spread, _)] = alike.values()
        at = middle + spread
    else:
        at = few([f"{middle} for {few(names, 3)}" for middle, _, names in alike.values()], 3)
    return f"At rest, where the law is exact, gradients of gated networks turn from shrinking to growing at ρ = {at}."
