"""What the page says of trained runs: what was learnt, and which value of an axis is better."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from study.report import measures, statistics
from study.report.phrases import (
    between,
    bracketed,
    count_of,
    effect_words,
    every_run,
    has_value,
    interval_words,
    is_better,
    key_of,
    knows_nothing,
    over_settings,
    seeds_of,
    task_of,
    too_few,
    where_of,
    writer_of,
)
from study.report.words import (
    capital,
    few,
    listed,
    marked,
    name_of,
    named,
    ordered,
    plural_of,
    spelled,
)
from study.settings import described_axes

MOST_TASKS = 3  # of unequal difficulty, of which each has its sentence
ROUNDING = 1e-12  # means of the same results in another order


def _called(metric: str) -> str:
    return "held-out accuracy" if metric == "held_out_accuracy" else "held-out loss"


def learnt_sentence(part: measures.Part) -> str:
    """The best setting's result, with its interval, beside what a prediction gets that has learnt nothing."""
    metric, runs = str(part.runs["metric"].iloc[0]), part.runs
    if not np.isfinite(runs["result"]).any():
        return ""
    if runs["broken"].all():
        if len(runs) == 1:
            return f"On {task_of(part)}, the one run does not come to the end of its training: it breaks down at a value that is not finite."
        every = every_run(len(runs), "trained_runs", sweep=part.sweep, **part.fixed)
        return f"On {task_of(part)}, no run comes to the end of its training: {every} break down at a value that is not finite."
    if axes := part.task_axes:
        return _learnt_by_task(part, axes)
    best = _best_setting(part, runs)
    text = f"On {task_of(part)}, training reaches {_called(metric)} {best.value}"
    if best.settings > 1:
        count = count_of(best.settings, "settings_trained", sweep=part.sweep, **part.fixed)
        text = f"On {task_of(part)}, the best mean {_called(metric)} of {count} settings is {best.value}, for {few(best.leaders)}"
    least = marked(writer_of(metric)(best.baseline), "baseline", best.baseline, **where_of(part))
    return f"{text}. {capital(knows_nothing(part))} gets {least}{best.not_beaten}."


@dataclass(frozen=True)
class _Best:
    """The setting with the best mean result: the result in words, the names of those that have it, and of how many settings it is the best.

    ``baseline`` is what is achieved without learning, ``not_beaten`` what is said where no setting achieves more.
    """

    value: str
    leaders: list[str]
    settings: int
    baseline: float
    not_beaten: str


def _best_setting(part: measures.Part, runs: pd.DataFrame, aside: Sequence[str] = ()) -> _Best:
    """Of some of a part's runs, not all of which broke down. ``aside``: axes that are told already."""
    metric = str(runs["metric"].iloc[0])
    sign, write = 1.0 if metric == "held_out_accuracy" else -1.0, writer_of(metric)
    settings = measures.grouped(runs, part.axes)
    groups = [(own, rows) for own, rows in settings if not rows["broken"].all()]  # without a result none is the best
    outcomes = [measures.outcome(rows).value for _, rows in groups]
    chosen, best = max(zip(groups, outcomes, strict=True), key=lambda each: sign * each[1])[0]
    mean_result, where, seeds = measures.outcome(best), where_of(part, chosen), best["seed"].nunique()
    value = marked(write(mean_result.value), "outcome", mean_result.value, **where) + bracketed(
        interval_words(mean_result, write, "outcome", **where),
        count_of(seeds, "seeds_trained", **where) + (" seeds" if seeds > 1 else " seed"),
    )
    leaders = [
        name_of({axis: setting for axis, setting in own.items() if axis not in aside})
        for (own, _), each in zip(groups, outcomes, strict=True)
        if math.isclose(each, mean_result.value, rel_tol=ROUNDING)
    ]
    baseline = float(runs["baseline"].mean())
    beaten = sign * mean_result.value > sign * baseline
    not_beaten = "" if beaten else ", which no setting beats" if len(settings) > 1 else ", which it does not beat"
    return _Best(value, leaders, len(settings), baseline, not_beaten)


def _learnt_by_task(part: measures.Part, axes: Sequence[str]) -> str:
    """The same of every task of unequal difficulty, of many of the first and the last: the best result of one is no better than that of another."""
    metric = str(part.runs["metric"].iloc[0])
    kinds = measures.grouped(part.runs, list(axes))
    told = kinds if len(kinds) <= MOST_TASKS else [kinds[0], kinds[-1]]
    sentences: list[str] = []
    for chosen, runs in told:
        on = "" if sentences else f"on {task_of(part)}, "
        if runs["broken"].all():
            sentences.append(capital(f"{on}with {_named_all(chosen)}, no run comes to the end of its training."))
            continue
        best = _best_setting(part, runs, axes)
        of = "the best mean " if best.settings > 1 else ""
        leaders = f", for {few(best.leaders, 3)}" if best.settings > 1 else ""
        least = marked(writer_of(metric)(best.baseline), "baseline", best.baseline, **where_of(part, chosen))
        sentences.append(
            f"{capital(f'{on}with {_named_all(chosen)}, {of}{_called(metric)}')} is {best.value}{leaders}. "
            f"{capital(knows_nothing(part))} gets {least} there{best.not_beaten}."
        )
    if len(told) < len(kinds):
        sentences.append("The tables have the others.")
    names = listed(plural_of(axis) for axis in axes)
    return f"{' '.join(sentences)} Results of different {names} are not compared: without learning they differ already."


def _named_all(chosen: Mapping[str, Any]) -> str:
    """T = 10, or T = 10 and loss at every step: settings behind a preposition."""
    return listed(named(axis, value) for axis, value in chosen.items())


def few_seeds_sentence(part: measures.Part, pooled: list[measures.Comparison]) -> str:
    """That nothing can be compared, with the largest difference along the axis that is asked about."""
    if not pooled:
        return ""
    if not any(each.differences.any() for each in pooled):
        return _same_results(part, str(part.column), part.columns)
    largest = max(pooled, key=lambda each: abs(each.effect.value))
    sign = 1.0 if (largest.effect.value >= 0) == (largest.measure == "held_out_accuracy") else -1.0
    leader, behind = (largest.a, largest.b) if sign > 0 else (largest.b, largest.a)
    axis = str(part.column)
    return (
        f"With {seeds_of(largest)}, no difference in what was learnt on {task_of(part)} can be told from chance. At least "
        f"{spelled(statistics.FEWEST_SEEDS)} seeds are needed. The largest mean difference between {plural_of(axis)} is {effect_words(largest, sign)} "
        f"for {named(axis, leader)} against {named(axis, behind)}."
    )


def _same_results(part: measures.Part, axis: str, values: list[Any]) -> str:
    return f"On {task_of(part)}, {few([named(axis, value) for value in values])} give the same results, run by run."


def some_compared(axis: str, values: list[Any]) -> str:
    """Of many values, which pairs are compared; empty of few."""
    if len(values) <= measures.MOST_PAIRED:
        return ""
    return f" Of so many {plural_of(axis)}, neighbours and the two ends are compared."


def _ranked(part: measures.Part, axis: str, runs: pd.DataFrame) -> list[Any]:
    """The values of an axis that are compared, best result first, and last those whose runs all broke down."""
    metric = str(part.runs["metric"].iloc[0])
    sign = 1.0 if metric == "held_out_accuracy" else -1.0
    values = measures.comparable(runs, axis)
    rows = {key_of(v): runs[has_value(runs, axis, v)] for v in values}
    lost = {value: bool(own["broken"].all()) for value, own in rows.items()}
    results = {value: measures.outcome(own).value for value, own in rows.items()}
    return sorted(values, key=lambda v: (lost[key_of(v)], -sign * results[key_of(v)]))


def result_sentence(
    part: measures.Part, axis: str, pooled: list[measures.Comparison], singly: list[measures.Comparison]
) -> str:
    """Which value of an axis learns best, by how much, with interval; or that there is no clear difference."""
    if not pooled:
        return ""
    if depends(part, singly):
        return depends_sentence(part, singly)
    first, *rest = _ranked(part, axis, part.runs)
    pairs = [(other, compared) for other in rest if (compared := between(pooled, first, other))]
    if not pairs:
        return ""
    task, leader = task_of(part), named(axis, first)
    tied = [named(axis, other) for other, (compared, _) in pairs if not compared.differences.any()]
    if len(tied) == len(rest) and not any(each.differences.any() for each in singly):
        return _same_results(part, axis, [first, *rest])
    over = over_settings(pairs[0][1][0])
    ahead = [(other, compared) for other, compared in pairs if is_better(*compared)]
    elsewhere = [each for each in pooled if each.better]
    if ahead:
        effects = [f"{effect_words(*compared)} against {named(axis, other)}" for other, compared in ahead]
        against = "; ".join(effects) if len(effects) < 4 else few(effects, 3)
        means = f" {over.removeprefix(', ').replace('the mean', 'Each is the mean')}." if over else ""
        open_ = [named(axis, other) for other, compared in pairs if (other, compared) not in ahead]
        if open_ and len(pairs) == len(rest):
            text = f"On {task}, {leader} is ahead: {against}.{means} It cannot be told from {few(open_, last='or')}."
            text += _also_ahead(
                axis, [each for each in elsewhere if key_of(first) not in (key_of(each.a), key_of(each.b))]
            )
        elif len(pairs) < len(rest):
            cannot = f" It cannot be told from {few(open_, last='or')}." if open_ else ""
            text = f"On {task}, {leader} has the best mean of the {spelled(len(rest) + 1)} {plural_of(axis)}, clearly ahead: {against}.{means}{cannot}"
        else:
            of = f" of the {spelled(len(rest) + 1)} {plural_of(axis)}" if len(rest) > 1 else ""
            text = f"On {task}, {leader} learns {'best' if of else 'better'}{of}: {against}.{means}"
    elif elsewhere:
        largest = max(elsewhere, key=lambda each: abs(each.effect.value))
        sign = 1.0 if largest.better == "a" else -1.0
        better, worse = (largest.a, largest.b) if sign > 0 else (largest.b, largest.a)
        text = f"On {task}, {named(axis, better)} is ahead of {named(axis, worse)}: {effect_words(largest, sign)}{over}. No one of the {spelled(len(rest) + 1)} {plural_of(axis)} is clearly best."
    elif any(compared.verdict == "few" for _, (compared, _) in pairs):
        other, compared = pairs[-1]
        text = f"{too_few(compared[0])} whether {leader} learns {task} better than {named(axis, other)}: the mean difference is {effect_words(*compared)}{over}."
    else:
        values = [named(axis, v) for v in (first, *rest)]
        names = listed(values) if len(rest) < 4 else f"the {spelled(len(values))} {plural_of(axis)}"
        unlike = [each for each in pairs if named(axis, each[0]) not in tied] or pairs
        shown = unlike if len(unlike) <= 3 else [unlike[0], unlike[-1]]
        sizes = listed(f"{effect_words(*compared)} against {named(axis, other)}" for other, compared in shown)
        best = f"{few([leader, *tied])}, which give the same results, run by run" if tied else leader
        text = (
            f"On {task}, there is no clear difference between {names}. The best mean is that of {best}: {sizes}{over}."
        )
    edge = _at_the_edge(axis, [first, *rest]) if ahead else ""
    return text + edge + some_compared(axis, [first, *rest]) + _singly(part, axis, first, singly)


def _at_the_edge(axis: str, ranked: list[Any]) -> str:
    """That the best of three numbers or more is the largest or the smallest of them: beyond it may lie a better one."""
    if described_axes()[axis]["kind"] not in ("number", "integer") or len(ranked) < 3 or None in ranked:
        return ""
    ends = {min(ranked): "smallest", max(ranked): "largest"}
    return f" It is the {ends[ranked[0]]} one tried." if ranked[0] in ends else ""


def _also_ahead(axis: str, clear: list[measures.Comparison]) -> str:
    """Clear differences among the values that are not the best."""
    pairs = [(each.a, each.b) if each.better == "a" else (each.b, each.a) for each in clear]
    words = few([f"{named(axis, better)} of {named(axis, worse)}" for better, worse in pairs], 3) if pairs else ""
    return f" Clearly ahead, too: {words}." if words else ""


def _others(part: measures.Part, axis: str) -> list[str]:
    return [each for each in part.axes if each != axis]


def depends(part: measures.Part, singly: list[measures.Comparison]) -> str:
    """Of two values, each clearly better in some settings: what that depends on, in words; empty where it is not so."""
    if not singly or part.runs[singly[0].axis].nunique(dropna=False) != 2:
        return ""
    if not {"a", "b"} <= {each.better for each in singly}:
        return ""
    axis, b = singly[0].axis, named(singly[0].axis, singly[0].b)
    helps, harms = ("helps", "harms") if axis in measures.REFERENCE else (f"beats {b}", "loses to it")
    for name in _others(part, axis):
        better, worse = ({key_of(each.fixed[name]) for each in singly if each.better == side} for side in "ab")
        if not better & worse:
            helped, harmed = (listed(named(name, v) for v in ordered(name, values)) for values in (better, worse))
            return f"clearly {helps} at {helped} and clearly {harms} at {harmed}"
    return f"clearly {helps} in some settings and clearly {harms} in others"


def depends_sentence(part: measures.Part, singly: list[measures.Comparison]) -> str:
    """Of two values, each clearly better in some settings: where, by how much at most, and which other setting decides."""
    axis, a, b = singly[0].axis, singly[0].a, singly[0].b
    where = {"sweep": part.sweep, "axis": axis, "a": a, "b": b, **part.fixed}
    groups = {side: [each for each in singly if each.better == side] for side in "ab"}
    words = []
    for side, word in (("a", "better"), ("b", "worse")):
        count = count_of(len(groups[side]), f"clearly_{word}", **where)
        of = f" of {count_of(len(singly), 'single_settings', **where)} settings" if side == "a" else ""
        most = max(groups[side], key=lambda each: abs(each.effect.value))
        ahead = f"{named(axis, b)} ahead by " if side == "b" else ""
        size = effect_words(most, 1.0 if side == "a" else -1.0)
        words.append(f"clearly {word} in {count}{of}, most for {_setting(part, most)}: {ahead}{size}")
    return (
        f"On {task_of(part)}, {named(axis, a)} {depends(part, singly)}. "
        f"Against {named(axis, b)}, it is {words[0]}. It is {words[1]}."
    )


def _setting(part: measures.Part, comparison: measures.Comparison) -> str:
    """The settings that a comparison is made at."""
    return name_of({name: value for name, value in comparison.fixed.items() if name not in part.fixed})


def _singly(part: measures.Part, axis: str, first: Any, singly: list[measures.Comparison]) -> str:
    """What holds at the single settings of the other axes, of which the sentence before is the mean."""
    if part.runs[axis].nunique(dropna=False) > 2:
        return _best_in(part, axis, first)
    if len(singly) < 2 or all(each.verdict == "few" for each in singly):
        return ""
    where = {"sweep": part.sweep, "axis": axis, "a": singly[0].a, "b": singly[0].b, **part.fixed}
    sides = {side: sum(each.better == side for each in singly) for side in "ab"}
    if not any(sides.values()):
        sign = 1.0 if key_of(first) == key_of(singly[0].a) else -1.0
        return _no_single(part, sorted(singly, key=lambda each: each.effect.value), sign)
    counts = {side: count_of(sides[side], f"clearly_{w}", **where) for side, w in (("a", "better"), ("b", "worse"))}
    ahead, behind = ("a", "b") if key_of(first) == key_of(singly[0].a) else ("b", "a")  # as the sentence before has it
    total = count_of(len(singly), "single_settings", **where)
    return f" Setting by setting, {named(axis, first)} is clearly better in {counts[ahead]} of {total} and clearly worse in {counts[behind]}."


def _no_single(part: measures.Part, singly: list[measures.Comparison], sign: float) -> str:
    """That no single setting has a clear difference, with both of two, or with the two ends; of settings with none nothing but that."""
    unlike = [each for each in singly if each.differences.any()]
    if not unlike:
        return ""
    ends = list(dict.fromkeys(_setting(part, each) for each in (unlike[0], unlike[-1])))
    words = [
        f"{effect_words(each, sign, seeds=False)} for {name}"
        for each, name in zip((unlike[0], unlike[-1]), ends, strict=False)
    ]
    same = len(singly) - len(unlike)
    others = "one other setting" if same == 1 else f"{spelled(same)} other settings"
    alike = f" In {others} the results are the same, run by run." if same else ""
    between = ", from" if len(unlike) > 2 else ":"
    return f" In no single setting is there a clear difference{between} {' to '.join(words) if between == ', from' else listed(words)}.{alike}"


def _best_in(part: measures.Part, axis: str, first: Any) -> str:
    """In how many of the other settings no value has a better mean than that which is best on average."""
    runs = part.runs if None in measures.comparable(part.runs, axis) else part.runs.dropna(subset=[axis])
    groups = measures.grouped(runs, _others(part, axis)) if _others(part, axis) else []
    if len(groups) < 2:
        return ""
    best = sum(_is_best(part, axis, first, rows) for _, rows in groups)
    where = {"sweep": part.sweep, "axis": axis, "a": first, **part.fixed}
    return f" In {count_of(best, 'best_in', **where)} of {count_of(len(groups), 'settings_beside', **where)} single settings, no other mean is better."


def _is_best(part: measures.Part, axis: str, value: Any, runs: pd.DataFrame) -> bool:
    """Whether no other value has a better mean; several may share the best one."""
    best = _ranked(part, axis, runs)[0]
    own, most = (runs[has_value(runs, axis, each)] for each in (value, best))
    return len(own) > 0 and math.isclose(measures.outcome(own).value, measures.outcome(most).value, rel_tol=ROUNDING)
