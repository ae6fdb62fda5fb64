"""Sentences about which value of a setting makes gradients grow more per step back."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from study.report import measures, statistics
from study.report.measures.comparisons import UNSET
from study.report.phrases import (
    WORTH_SAYING,
    bracketed,
    count_of,
    has_value,
    interval_words,
    key_of,
    over_steps,
    seeds_of,
    too_few,
)
from study.report.words import (
    beginning,
    few,
    itemized,
    listed,
    marked,
    marked_count,
    name_of,
    named,
    number,
    plural_of,
    signed,
    singular_of,
    spelled,
    unrounded,
)

SAME = 0.01  # decades: of two percent and more, nobody would say that it is the same


def growth_sentence(
    part: measures.Part, axis: str, pooled: list[measures.Comparison], singly: list[measures.Comparison]
) -> str:
    """Along one axis, whose gradient grows more per step back, by how much, and whether that is clear."""
    values = measures.comparable(part.compared, axis)
    if axis == "loss_at" and axis in measures.same_rates(part.compared):
        return _of_last_loss(part, pooled)
    if _same_growth(part, axis, pooled):
        return _same_sentence(part, axis, values)
    means = {
        key_of(v): part.compared[has_value(part.compared, axis, v)]["growth_rate"].clip(lower=-1e3).mean()
        for v in values
    }
    highest, lowest = (pick(values, key=lambda v: means[key_of(v)]) for pick in (max, min))
    comparison = next((c for c in pooled if {key_of(c.a), key_of(c.b)} == {key_of(highest), key_of(lowest)}), None)
    tested = comparison is not None
    comparison = comparison or _untested(part, axis, highest, lowest)
    if comparison is None or math.isnan(
        comparison.effect.value
    ):  # nothing finite to compare: every gradient is exactly zero
        return _dead_values(part, axis, values)
    fastest, slowest = named(axis, highest), named(axis, lowest)
    singly = [each for each in singly if not math.isnan(each.effect.value)]
    if len(values) == 2 and 2 <= len(singly) <= 4:
        return _growth_by_setting(part, axis, singly) + _stays(part, axis, values)
    size = _growth_size(part, comparison, 1.0 if key_of(comparison.a) == key_of(highest) else -1.0)
    every = f"Of the {spelled(len(values))} {plural_of(axis)}, "
    averaged = _averaged(part, axis) + _same_in_one_layer(part, axis)
    reversed_ = _reversed(part, comparison)
    if not tested:
        order = f"{every}the growth rate per step back is highest with {fastest} and lowest with {slowest}."
        return f"{order} The difference is {size}. Of so many values this pair is not tested.{averaged}{reversed_}"
    if comparison.verdict == "none":
        unclear = f"There is no clear difference in the growth rate per step back between {fastest} and {slowest}:"
        if len(values) > 2:
            unclear = f"{every}no two clearly differ in the growth rate per step back. The largest difference, {fastest} minus {slowest}, is"
        return f"{unclear} {size}.{averaged}" + _stays(part, axis, values)
    order = f"With {fastest}, the growth rate per step back is higher than with {slowest}."
    if len(values) > 2:
        order = f"{every}the growth rate per step back is highest with {fastest} and lowest with {slowest}."
    if comparison.verdict == "few":
        return f"{too_few(comparison)} which {singular_of(axis)} makes gradients grow more per step back. {order} The difference is {size}.{averaged}{reversed_}"
    return f"{order} The difference is clear: {size}.{averaged}{reversed_}" + _stays(part, axis, values)


def _of_last_loss(part: measures.Part, pooled: list[measures.Comparison]) -> str:
    """That a loss at other steps changes no growth rate, which is no finding; nor are its networks others."""
    if not pooled:
        return ""
    text = "The place of the loss changes no growth rate, by construction: rates are of the last step's loss alone."
    most = _spread_of_values(part, "loss_at", "log10_gradient_ratio")
    if most >= SAME:  # the whole sequence has ends, and a last step's loss reaches a reverse cell at another place
        size = marked(number(most, 2), "largest_difference", most, sweep=part.sweep, axis="loss_at")
        text += f" Over {over_steps(part.runs)} gradients of the states change by up to {size} decades more or less."
    return f"{text} Where networks are counted, each counts once for every place of the loss."


def _same_in_one_layer(part: measures.Part, axis: str) -> str:
    """That a mean over numbers of layers holds a difference of zero by construction."""
    if axis != "bidirectional" or "layers" not in part.axes or axis not in measures.same_rates(part.compared):
        return ""
    return " For L = 1 the difference is zero by construction, and lessens this mean: the rate is that of the forward cell."


def _averaged(part: measures.Part, axis: str, fixed: Collection[str] = (), one: str = "This") -> str:
    """Of which other settings that vary a difference is the mean; nothing where it is of one setting."""
    others = measures.shared_axes(_with_rates(part), axis, part.trains)
    names = [
        measures.symbol_of(each) if each in measures.SCALES else plural_of(each)
        for each in part.axes
        if each in others and each not in fixed
    ]
    return f" {one} is a mean over all {listed(names)}." if names else ""


def _with_rates(part: measures.Part) -> pd.DataFrame:
    """The networks whose growth is compared, with their rate as ``value``."""
    return part.compared.assign(value=part.compared["growth_rate"]).dropna(subset=["value"])


def _reversed(part: measures.Part, comparison: measures.Comparison) -> str:
    """At how many single settings the mean difference has the other sign: a mean over all of them hides it."""
    wide = measures.side_by_side(_with_rates(part), comparison.axis, part.trains)
    a, b = (wide.columns[UNSET if key_of(each) is None else each] for each in (comparison.a, comparison.b))
    with np.errstate(invalid="ignore"):  # −∞ on both sides is no difference
        each_pair = pd.Series(a - b)
    by_setting = each_pair[np.isfinite(each_pair)].groupby(wide.others[np.isfinite(each_pair)]).mean()
    other_way = int((by_setting.map(unrounded) * np.sign(comparison.effect.value) < 0.0).sum())
    if not other_way:
        return ""
    where = {"sweep": part.sweep, "axis": comparison.axis, "a": comparison.a, "b": comparison.b}
    count, total = (
        marked_count(number_of, kind, **where)
        for number_of, kind in ((other_way, "growth_reversed"), (len(by_setting), "growth_settings"))
    )
    return f" At {count} of {total} single settings the order is reversed."


def _untested(part: measures.Part, axis: str, highest: Any, lowest: Any) -> measures.Comparison | None:
    """The difference of two values that are no pair of ``measures.comparisons_of``: of many values not all are compared with each other."""
    if key_of(highest) == key_of(lowest):
        return None
    wide = measures.side_by_side(_with_rates(part), axis, part.trains)
    return measures.difference(wide, part.sweep, axis, highest, lowest, "growth_rate", part.fixed)


def _dead_values(part: measures.Part, axis: str, values: list[Any]) -> str:
    """Values with which every gradient is exactly zero, where others keep one."""
    rates = {key_of(v): part.compared[has_value(part.compared, axis, v)]["growth_rate"] for v in values}
    dead = [named(axis, v) for v in values if (rates[key_of(v)] == -math.inf).all()]
    return (
        f"With {few(dead)}, every gradient is exactly zero. With {few([named(axis, v) for v in values if named(axis, v) not in dead])}, not every one is."
        if 0 < len(dead) < len(values)
        else ""
    )


def _spread_of_values(part: measures.Part, axis: str, measure: str) -> float:
    """The largest difference between two networks that differ in nothing but the value of ``axis``, and what only some of its values have."""
    runs = part.compared
    alike = runs.groupby(["seed", *measures.shared_axes(runs, axis, part.trains)], dropna=False)[measure]
    with np.errstate(invalid="ignore"):  # −∞ on both sides is no difference
        return float((alike.max() - alike.min()).fillna(0.0).max())


def _same_growth(part: measures.Part, axis: str, pooled: list[measures.Comparison]) -> bool:
    """Whether no two networks that differ in this value alone end up half a decade apart; not where every gradient is exactly zero."""
    alive = bool(np.isfinite(part.compared["growth_rate"].astype(float)).any())
    return bool(pooled) and alive and _spread_of_values(part, axis, "log10_gradient_ratio") < WORTH_SAYING


def _same_sentence(part: measures.Part, axis: str, values: list[Any]) -> str:
    """That values make no difference, or little, to ‖∂L/∂h_1‖/‖∂L/∂h_T‖; a weight's gradient may differ by much more."""
    most, where = _spread_of_values(part, axis, "log10_gradient_ratio"), {"sweep": part.sweep, "axis": axis}
    if most == 0.0:
        return f"{beginning(axis, few((named(axis, v) for v in values), 6))} let gradients of the states change exactly alike on their way back."
    alike = "let gradients of the states change alike on their way back"
    same = alike if most < SAME else "make little difference to how gradients of the states change"
    return (
        f"{beginning(axis, few((named(axis, v) for v in values), 6))} {same}. Over {over_steps(part.runs)} no network differs by more "
        f"than {marked(number(most, 2), 'largest_difference', most, **where)} decades."
    )


def decades_words(part: measures.Part, comparison: measures.Comparison, a: Any, b: Any) -> tuple[float, str]:
    """How many decades more of the gradient ``a`` has than ``b`` at the first step, as measured; in words, with its interval."""
    rows = measures.where(part.runs, **comparison.fixed)
    rows = rows[rows["sequence_length"] == part.runs["sequence_length"].max()]  # of which over_steps speaks
    if rows.empty:
        return math.nan, ""
    wide = measures.side_by_side(rows.assign(value=rows["log10_gradient_ratio"]), comparison.axis, part.trains)
    measured = measures.difference(wide, part.sweep, comparison.axis, a, b, "log10_gradient_ratio", comparison.fixed)
    if measured is None or math.isnan(measured.effect.value):
        return math.nan, ""
    where = {"sweep": part.sweep, "axis": comparison.axis, "a": a, "b": b, **comparison.fixed}
    spread = interval_words(measured.effect, partial(signed, digits=3), "decades_difference", **where)
    value = marked(signed(measured.effect.value, 3), "decades_difference", measured.effect.value, **where)
    return measured.effect.value, f"{value} decades{bracketed(spread)} over {over_steps(rows)}"


def _growth_size(part: measures.Part, comparison: measures.Comparison, sign: float, over: bool = True) -> str:
    """0.02 a step (0.018 to 0.022; 8 seeds), or 8.7 decades over 999 steps."""
    a, b = (comparison.a, comparison.b) if sign > 0 else (comparison.b, comparison.a)
    where = {"sweep": part.sweep, "axis": comparison.axis, "a": a, "b": b, **comparison.fixed}
    low, high = sorted((sign * comparison.effect.low, sign * comparison.effect.high))
    effect = statistics.Interval(*map(unrounded, (sign * comparison.effect.value, low, high)))
    zeros = (
        f"{count_of(comparison.left_out, 'zero_pairs', **where)} left out, where a gradient is exactly zero"
        if comparison.left_out
        else ""
    )
    text = f"{marked(signed(effect.value, 3) if not over else number(effect.value, 3), 'growth_difference', effect.value, **where)}{' a step' if over else ''}"
    text += bracketed(
        interval_words(effect, partial(signed if not over else number, digits=3), "growth_difference", **where),
        seeds_of(comparison),
        zeros,
    )
    decades, words = decades_words(part, comparison, a, b) if over else (0.0, "")
    if effect.value * decades < 0:  # a reader would take one of them for an error
        return f"{text}, but {words}, which count the ends of the sequence, too"
    return f"{text}, and {words}" if words else text


def _growth_by_setting(part: measures.Part, axis: str, singly: list[measures.Comparison]) -> str:
    """The difference of two values at each of a few settings, which may have other signs."""
    a, b = singly[0].a, singly[0].b
    different = [each for each in singly if each.differences.map(unrounded).any()]
    same = [name_of(each.fixed) for each in singly if not each.differences.map(unrounded).any()] if different else []
    singly = different or singly  # a difference of nothing has no interval
    words = [f"{_growth_size(part, each, 1.0, over=False)} for {name_of(each.fixed)}" for each in singly]
    clear = [name_of(each.fixed) for each in singly if each.clear]
    few_seeds = all(each.verdict == "few" for each in singly)
    averaged = _averaged(part, axis, [*singly[0].fixed], "Each")
    verdict = "All of these are clear." if clear else "In no setting is the difference clear."
    if 0 < len(clear) < len(singly):
        verdict = f"Of these, the difference is clear for {few(clear)}."
    if len(singly) == 1:
        verdict = f"The difference is {'' if clear else 'not '}clear."
    if few_seeds:
        none_can = "none of these can be clear" if len(singly) > 1 else "it cannot be clear"
        verdict = f"With fewer than {spelled(statistics.FEWEST_SEEDS)} seeds, {none_can}."
    largest = max(singly, key=lambda each: abs(each.effect.value))
    decades, size = decades_words(part, largest, a, b)
    text = f"Growth rate per step back, {named(axis, a)} minus {named(axis, b)}: {itemized(words)}.{averaged} {verdict}"
    if decades * largest.effect.value < 0:
        text += f" With the ends of the sequence, that of {name_of(largest.fixed)} makes {size}."
    elif size:
        text += f" {'The largest difference' if len(singly) > 1 else 'It'} makes {size}."
    if not same:
        return text
    why = " by construction: it is that of the forward cell" if axis == "bidirectional" else ", network by network"
    return f"{text} For {few(same)} the growth rate is the same{why}."


def _stays(part: measures.Part, axis: str, values: list[Any]) -> str:
    """How many networks of each value keep their gradient at the longest sequence."""
    if len(values) > 4:
        return ""
    if (part.compared["regime"] == "stable").nunique() == 1:  # all, or none: that is said already
        return ""
    words = []
    for value in values:
        rows, where = part.compared[has_value(part.compared, axis, value)], {"sweep": part.sweep, axis: value}
        where |= {"sequence_length": int(rows["sequence_length"].max())} if part.column == "sequence_length" else {}
        stay = int((rows["regime"] == "stable").sum())
        words.append(
            f"{count_of(stay, 'regime_count', regime='stable', **where)} of {count_of(len(rows), 'starts_at_longest', **where)} with {named(axis, value)}"
        )
    return f" Networks that keep their gradient within a factor of 100: {itemized(words)}."
