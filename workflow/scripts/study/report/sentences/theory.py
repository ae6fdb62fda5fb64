"""Sentences about measured growth minus what theory predicts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from study.report import measures, statistics
from study.report.phrases import bracketed, counted, interval_words, where_of
from study.report.sentences.turning import radii_words
from study.report.words import capital, few, listed, marked, marked_count, name_of, number, plain, signed


def theory_sentence(part: measures.Part, tests: list[tuple[dict[str, Any], pd.Series, float]]) -> str:
    """Measured minus predicted, kind by kind of network, with interval; which are clearly not zero; and the worst at one setting."""
    runs = part.compared
    known = runs[np.isfinite(runs["deviation"].astype(float)) & (runs["predicted_by"] != "linear law")]
    if known.empty:
        return ""
    if len(known) == 1:
        only = float(known["deviation"].iloc[0])
        return f"The growth rate of the one network differs from what theory predicts by {marked(signed(only, 2), 'mean_deviation', only, sweep=part.sweep)} a step."
    clear = [chosen for chosen, _ in clearly_off(tests)]
    by_size = sorted(tests, key=lambda test: -abs(float(test[1].mean())))
    column = part.column or ""
    only_at = (  # of several values of the column, the one that theory speaks of
        {column: known[column].iloc[0]}
        if column and known[column].nunique() == 1 and runs[column].nunique() > 1
        else {}
    )
    alike: dict[str, tuple[str, str, list[str]]] = {}  # number formats often are: by what is said of them
    for chosen, series, _ in by_size:
        size, verdict = _deviation(part, chosen, series), ", clearly not zero" if chosen in clear else ""
        alike.setdefault(plain(size) + verdict, (size, verdict, []))[2].append(name_of(chosen | only_at))
    words = [f"{size} for {few(names, 3)}{verdict}" for size, verdict, names in alike.values()]
    if len(tests) == 1 and len(part.groups()) == 1 and not only_at:
        words = [_deviation(part, *tests[0][:2]) + (", clearly not zero" if clear else "")]
    return f"Measured minus predicted growth, the mean per step: {few(words, 4)}." + _worst_deviation(part, known)


def _deviation(part: measures.Part, chosen: Mapping[str, Any], series: pd.Series) -> str:
    """The mean with its interval; of how many seeds, where not all of them have a prediction."""
    average, where = statistics.mean(series.to_numpy()), where_of(part, chosen)
    some = len(series) < part.compared["seed"].nunique()
    seeds = counted(len(series), "seed", marked_count(len(series), "deviation_seeds", **where)) if some else ""
    spread = interval_words(average, partial(signed, digits=2), "mean_deviation", **where)
    return f"{marked(signed(average.value, 2), 'mean_deviation', average.value, **where)}{bracketed(spread, seeds)}"


def _worst_deviation(part: measures.Part, known: pd.DataFrame) -> str:
    """Deviations of both signs cancel in a mean over the radii: the largest at one of them."""
    if not part.column or known[part.column].nunique() < 2:
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
    """The kinds of network whose mean deviation from theory is clearly not zero: one test a kind, all tests of the study judged together.

    The interval that is printed beside it must say so, too. Six deviations of one sign pass the test however unequal they are, and one
    that is far off makes Student's interval reach over zero.
    """
    clear = [
        (chosen, statistics.mean(series.to_numpy()))
        for chosen, series, p in tests
        if p <= statistics.LEVEL and len(series) >= statistics.FEWEST_SEEDS
    ]
    return [(chosen, off) for chosen, off in clear if off.low > 0.0 or off.high < 0.0]


def rest_sentence(networks: pd.DataFrame) -> str:
    """At which spectral radius gated networks would turn at rest: the median over the networks, cell by cell, and the lowest and highest."""
    at_rest = networks[measures.has_law_at_rest(networks)]
    gated = networks[networks["linear_rate"].isna()]["cell"].unique()
    turning = at_rest.loc[np.isfinite(at_rest["critical_radius_predicted"].astype(float)), "cell"].unique()
    whose = "gated" if len(turning) == len(gated) or len(turning) > 1 else str(turning[0]) if len(turning) else ""
    among = at_rest if whose == "gated" else at_rest[at_rest["cell"] == whose]
    at = _turning_radii(among, among, "rest_critical", ["cell", "activation", "forget_bias", "layers"])
    return (
        at
        and f"At rest, where the law is exact, gradients of {whose} networks turn from shrinking to growing at ρ = {at}."
    )


GATED_THEORIES = {"dynamic_rate": "Dynamic mean field", "rest_rate": "the law at rest"}


def theories_sentence(part: measures.Part) -> str:
    """How far both theories of a gated network miss its growth rate, over the networks for which both are known."""
    runs = part.compared[measures.has_law_at_rest(part.compared)]
    runs = runs[np.isfinite(runs[["growth_rate", *GATED_THEORIES]].astype(float)).all(axis=1)]
    if len(runs) < 2:
        return ""
    words = []
    for column, name in GATED_THEORIES.items():
        sizes = runs.assign(miss=(runs["growth_rate"] - runs[column]).astype(float).abs())
        average = statistics.mean(measures.per_seed(sizes, "miss").to_numpy())
        kind = f"{column}_miss"
        spread = interval_words(average, partial(number, digits=2), kind, sweep=part.sweep)
        words.append(
            (name, marked(number(average.value, 2), kind, average.value, sweep=part.sweep) + bracketed(spread))
        )
    (first, own), (second, other) = words
    networks = marked_count(len(runs), "networks_of_theories", sweep=part.sweep)
    return f"{first} misses the growth rate by {own} a step in the mean, {second} by {other}. Both are known for {networks} networks."


def mean_field_turning_sentence(networks: pd.DataFrame) -> str:
    """The same of mean field, activation by activation."""
    vanilla = networks[networks["cell"] == "vanilla"]
    told = vanilla[vanilla["mean_field_rate"].notna() & (vanilla["activation"] != "identity")]
    axes = ["activation", "initializer", "input_scale", "layers"]
    at = _turning_radii(told, vanilla, "mean_field_critical", axes)
    whose = " of vanilla networks" if len(vanilla) < len(networks) else ""
    return at and f"In mean field, growth{whose} turns from negative to positive at ρ = {at}."


def _turning_radii(told: pd.DataFrame, among: pd.DataFrame, kind: str, axes: list[str]) -> str:
    """Theory's critical ρ: the median over networks, kind by kind, and the lowest and highest. Empty where there is none.

    Kinds are named by what varies ``among`` networks that a reader may take the number for. A network is one matrix, and has one
    radius where all its inputs are alike; those of a last layer are the states below it, at a ρ of their own. Networks with a weight
    scale are left out: their ρ is on no axis.
    """
    known = told[np.isfinite(told["critical_radius_predicted"].astype(float)) & told["weight_scale"].isna()]
    if known.empty:
        return ""
    alike: dict[str, tuple[str, str, list[str]]] = {}  # kinds may share a matrix: by what is said of them
    varied = [axis for axis in axes if among[axis].nunique(dropna=False) > 1]
    for chosen, rows in measures.grouped(known, varied):
        own = rows.groupby(measures.NETWORK, dropna=False)["critical_radius_predicted"]
        middle, low, high = (
            marked(number(value, 3), f"{kind}{end}", value, **chosen)
            for end, value in (("", own.median().median()), ("_low", own.min().min()), ("_high", own.max().max()))
        )
        over = "" if np.isclose(own.min(), own.max(), rtol=measures.ALIKE).all() else " and their inputs"
        spread = f" ({low} to {high} over networks{over})" if plain(low) != plain(high) else ""
        short = middle + (spread if over else "")  # of several kinds, a range of networks alone has no room
        alike.setdefault(plain(middle + spread), (middle + spread, short, []))[2].append(name_of(chosen))
    if len(alike) == 1 and len(measures.grouped(among, varied)) == len(measures.grouped(known, varied)):
        [(whole, _, _)] = alike.values()
        return whole
    return few([f"{short} for {few(names, 3)}" for _, short, names in alike.values()], 4)


def forgetting_sentence(part: measures.Part) -> str:
    """By mean field, at which radii networks forget where they started, kind by kind; and how slowly the slowest do."""
    linear = measures.is_linear(part.compared)  # at ρ < 1 it forgets, however slowly: no news, and no claim
    others, runs = " that is not linear" if linear.any() else "", part.compared[~linear]
    kinds = runs.groupby([runs[name] for name in ("cell", "initializer", "flossing")], dropna=False)["correlation"]
    covered = runs[kinds.transform("count") > 0]  # the others have no mean field
    which = "vanilla " if set(runs["cell"]) > set(covered["cell"]) else ""
    everywhere, runs = len(covered) == len(runs), covered
    known = runs[runs["correlation"].notna()]
    if known.empty:
        return ""
    one = f"the network{others}" if len(runs) == 1 else f"the one network{others} of which it is known"
    whose = (
        (f"{one} forgets", f"{one} does not forget")
        if len(known) == 1
        else ("networks forget", "networks do not forget")
    )
    start = f"where {'it' if len(known) == 1 else 'they'} started"
    forgets, stays, some = (_radii_by_kind(part, runs, how) for how in ("every one", "none", "some"))
    every = f"at every {measures.symbol_of(str(part.column))}" if {*forgets, *stays, *some} > {"all"} else ""
    apart = True
    if (known["correlation"] == 1.0).all() and len(known) == len(runs) and (everywhere or which):
        text = f"By mean field, {'every' if len(known) > 1 else 'the'} {which}network{others} forgets where it started."
        others, apart = "", False  # it is said
    elif not forgets and not stays:  # at every radius some do
        text = ""
    elif not stays:
        text = f"By mean field, {whose[0]} {start}{_places(forgets, every)}."
    elif not forgets:
        text = f"By mean field, {whose[1]} {start}{_places(stays, every)}."
    else:
        text = f"By mean field, networks forget where they started{_places(forgets, every)}. They do not{_places(stays, every)}."
    if text and apart and _places(some, every):
        text += f" {capital(_places(some, every).strip())}, some do and some do not."
    return (text + _apart(part, known) + _slowest(part, known, others, apart and bool(text))).strip()


def _radii_by_kind(part: measures.Part, runs: pd.DataFrame, how: str) -> dict[str, list[str]]:
    """Names of kinds of network by the radii, in words, at which every one of them forgets its start, some do, or none does (``how``)."""
    by_words: dict[str, list[str]] = {}
    axis = part.column if part.column in measures.SCALES else None
    kinds = part.rows if axis else [each for each in part.axes if each != "sequence_length"]
    for chosen, rows in measures.grouped(runs, kinds):
        if axis is None:
            words = "all" if _how_many_forget(rows) == how else ""
        else:
            tried = sorted(rows[axis].unique())
            at = [rho for rho in tried if _how_many_forget(rows[rows[axis] == rho]) == how]
            words = "all" if at == tried else radii_words(at, tried, axis) if at else ""
        if words:
            by_words.setdefault(words, []).append(name_of(chosen) if chosen else "")
    return by_words


def _how_many_forget(rows: pd.DataFrame) -> str:
    """every one, some or none; empty where that is not known of every network, or of any."""
    forget, stay = (rows["correlation"] == 1.0), (rows["correlation"] < 1.0)
    return "every one" if forget.all() else "none" if stay.all() else "some" if forget.any() and stay.any() else ""


def _places(by_words: Mapping[str, list[str]], every: str) -> str:
    """at every ρ for relu and at ρ from 0.5 to 1.2 for tanh, with a space before; empty where no place is told from another. ``every``: what is said of all radii, nothing where no others are told of."""
    phrases = []
    for words, names in by_words.items():
        kinds = few([name for name in names if name], 3) if any(names) else ""
        at = every if words == "all" else f"at {words}"
        phrases.append(" ".join(each for each in (at, f"for {kinds}" if kinds else "") if each))
    places = [each for each in phrases if each]
    return f" {listed(places)}" if places else ""


def _apart(part: measures.Part, known: pd.DataFrame) -> str:
    """The lowest correlation at which two copies end that see the same inputs."""
    lowest = float(known["correlation"].min())
    if lowest == 1.0:
        return ""
    return f" Two copies that see the same inputs may end as far apart as a correlation of {marked(number(lowest, 2), 'lowest_correlation', lowest, sweep=part.sweep)}."


def _slowest(part: measures.Part, known: pd.DataFrame, others: str, apart: bool) -> str:
    """How long a difference lasts where it fades most slowly. ``others``: linear networks are left out, and that is not said yet.

    ``apart``: settings are told apart, so that the reader is told of which one this is.
    """
    fading = known.loc[(known["correlation"] == 1.0) & np.isfinite(known["depth_scale"].astype(float)), "depth_scale"]
    if fading.empty:
        return ""
    longest = float(fading.max())
    steps = marked(number(longest, 2), "longest_depth_scale", longest, sweep=part.sweep)
    if len(known) == 1:
        return f" A difference takes {steps} steps to fade by a factor of e."
    aside = ", linear networks aside" if others else ""
    where = {axis: known.loc[fading.idxmax(), axis] for axis in part.axes if apart and axis != "sequence_length"}
    aside += f", for {name_of(where)}" if where else ""
    return f" Where it fades most slowly{aside}, a difference takes {steps} steps to fade by a factor of e."
