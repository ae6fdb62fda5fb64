"""Phrases that the page's sentences and tables share: counts, intervals, differences, and the addresses of comparisons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import pandas as pd

from study.report import measures, statistics
from study.report.words import listed, marked, marked_count, number, percent, signed, spelled

LN10 = math.log(10.0)
WORTH_SAYING = 0.5  # decades over the whole sequence: a smaller difference in growth changes nothing for a reader
Write = Callable[[float], str]  # a number in words
VERBS = {"vanishing": ("vanishes", "vanish"), "stable": ("stays", "stay"), "exploding": ("explodes", "explode")}


def count_of(count: int, kind: str, **where: Any) -> str:
    return marked_count(count, kind, **where) if count else marked("none", kind, 0, **where)


def every_run(count: int, kind: str, **where: Any) -> str:
    """both, all 12: of a count that is the whole; of one, the one."""
    return "the one" if count == 1 else "both" if count == 2 else f"all {count_of(count, kind, **where)}"


def counted(count: int, noun: str, text: str) -> str:
    """1 update, 12 updates; ``text`` is the number with its address."""
    return f"{text} {noun}" + ("" if count == 1 else "s")


def over_steps(runs: pd.DataFrame) -> str:
    """T = 8 steps, of the longest of these runs; where the task adds to that, T = 8 (28 steps); where one task does and another does not, neither."""
    T = int(runs["sequence_length"].max())
    longest, length = runs[runs["sequence_length"] == T], marked_count(T, "setting", axis="sequence_length")
    each = measures.steps(longest)
    if each.nunique() > 1:
        return f"the whole sequence at T = {length}"
    if each.iloc[0] == T:
        return f"T = {length} steps"
    count = marked_count(int(each.iloc[0]), "task_steps", sequence_length=T, task=str(longest["task"].iloc[0]))
    return f"T = {length} ({count} steps)"


def of_networks(counts: Mapping[str, int], **where: Any) -> str:
    """all 8 vanish; 2 vanish, 1 stays and 5 explode."""
    total = sum(counts.values())
    known = {name: count for name, count in counts.items() if count}
    words = []
    for name, count in known.items():
        verb = VERBS[name][count != 1] if name in VERBS else ("has no number" if count == 1 else "have no number")
        whole = f"all {count_of(count, 'regime_count', regime=name, **where)}" if count == total and total > 1 else ""
        words.append(f"{whole or count_of(count, 'regime_count', regime=name, **where)} {verb}")
    return listed(words)


def interval_words(interval: statistics.Interval, write: Write, kind: str, **where: Any) -> str:
    """1.15 to 1.22, a 95 % interval; empty where there is none."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return ""
    ends = [
        marked(write(end), f"{kind}_{side}", end, **where)
        for side, end in (("low", interval.low), ("high", interval.high))
    ]
    return f"{ends[0]} to {ends[1]}"


def of_seeds(groups: Iterable[pd.DataFrame]) -> str:
    """That a range of a share is of seeds, where some seed has several runs: "none of 28 (0 % to 35 %)" is a riddle without."""
    counts = [(len(runs), int(runs["seed"].nunique())) for runs in groups]
    if all(runs == seeds for runs, seeds in counts):
        return ""
    number_of = {seeds for _, seeds in counts}
    each = f"{spelled(number_of.pop())} " if len(number_of) == 1 else ""
    return f" These ranges are of {each}{'seed' if each == 'one ' else 'seeds'}, not of single runs."


def bracketed(*words: str) -> str:
    known = [word for word in words if word]
    return f" ({'; '.join(known)})" if known else ""


def where_of(part: measures.Part, chosen: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """The address of a part's runs with these settings."""
    return {"sweep": part.sweep, **part.fixed, **chosen}


def task_of(part: measures.Part) -> str:
    return str(part.runs["task"].iloc[0])


def knows_nothing(part: measures.Part) -> str:
    """What a run is measured by, in words. Of a user's sequences the config may say what a prediction without memory gets."""
    if part.runs["metric"].iloc[0] == "held_out_accuracy":
        return "always naming the commonest class"
    return "a prediction without memory" if part.runs["data"].notna().any() else "the best constant prediction"


def writer_of(metric: str, digits: int = 3) -> Write:
    """How a result is written: an accuracy in per cent, a loss with so many digits."""
    return percent if metric == "held_out_accuracy" else partial(number, digits=digits)


def at_value(runs: pd.DataFrame, axis: str | None, value: Any) -> pd.DataFrame:
    return measures.where(runs, **{axis: value}) if axis else runs


def key_of(value: Any) -> Any:
    return None if pd.isna(value) else value


def has_value(runs: pd.DataFrame, axis: str, value: Any) -> pd.Series:
    return runs[axis].isna() if key_of(value) is None else runs[axis] == value


def sides_of(comparison: measures.Comparison) -> dict[str, Any]:
    """The address of a comparison."""
    return {
        "sweep": comparison.sweep,
        "axis": comparison.axis,
        "a": comparison.a,
        "b": comparison.b,
        **comparison.fixed,
    }


def seeds_of(comparison: measures.Comparison) -> str:
    kind = "seeds_of_growth" if comparison.measure == "growth_rate" else "seeds_of_results"
    return count_of(comparison.seeds, kind, **sides_of(comparison)) + (" seed" if comparison.seeds == 1 else " seeds")


def over_settings(comparison: measures.Comparison) -> str:
    """, the mean over 12 settings; nothing where there is one."""
    if comparison.settings == 1:
        return ""
    return f", the mean over {count_of(comparison.settings, 'settings_of_results', **sides_of(comparison))} settings"


def too_few(comparison: measures.Comparison) -> str:
    return f"Too few seeds to tell ({seeds_of(comparison)}; at least {spelled(statistics.FEWEST_SEEDS)} are needed)"


def _points(value: float) -> str:
    """A difference of accuracies in percentage points: +12.3."""
    return signed(round(100 * value, 1), 3)


def effect_words(comparison: measures.Comparison, sign: float, seeds: bool = True) -> str:
    """By how much the first value is ahead: +12 points; a loss 3.2 times lower."""
    effect = comparison.effect
    where = sides_of(comparison)
    if comparison.measure == "held_out_loss":
        return _loss_words(comparison, sign, seeds)
    low, high = sorted((sign * effect.low, sign * effect.high))
    points = statistics.Interval(sign * effect.value, low, high)
    write = _points
    kind = ("success_difference" if comparison.measure == "success" else "accuracy_difference") + (
        "" if sign > 0 else "_back"
    )
    return f"{marked(write(points.value), kind, points.value, **where)} points" + bracketed(
        interval_words(points, write, kind, **where), seeds_of(comparison) if seeds else ""
    )


def _loss_words(comparison: measures.Comparison, sign: float, seeds: bool) -> str:
    """a loss 3.2 times lower; of small differences, a loss 1.5 % lower, or higher."""
    ends = [10.0 ** (-sign * end) for end in comparison.effect]  # how many times lower the loss is
    times = statistics.Interval(ends[0], *sorted(ends[1:]))
    number_of_seeds, side = seeds_of(comparison) if seeds else "", "" if sign > 0 else "_back"
    if 1 / _SMALL < times.value < _SMALL:
        share, word = statistics.Interval(*(1.0 - 1.0 / end for end in times)), "lower"
        if share.value < 0.0:  # a loss "−0.4 % lower" must be read twice
            share, word = statistics.Interval(-share.value, -share.high, -share.low), "higher"
        kind = f"loss_{word}{side}"
        spread = interval_words(share, _percent, kind, **sides_of(comparison))
        value = marked(_percent(share.value), kind, share.value, **sides_of(comparison))
        return f"a loss {value} {word}{bracketed(spread, number_of_seeds)}"
    spread = interval_words(times, partial(number, digits=3), f"loss_ratio{side}", **sides_of(comparison))
    value = marked(number(times.value, 3), f"loss_ratio{side}", times.value, **sides_of(comparison))
    return f"a loss {value} times lower{bracketed(spread, number_of_seeds)}"


def _percent(share: float) -> str:
    """1.5 %, −0.3 %."""
    return f"{number(100 * share, 2)} %"


_SMALL = 1.5  # a ratio below it is written in per cent


def between(compared: list[measures.Comparison], first: Any, second: Any) -> tuple[measures.Comparison, float] | None:
    """The comparison of two values, and +1 if ``one`` is its first."""
    for each in compared:
        if (key_of(each.a), key_of(each.b)) == (key_of(first), key_of(second)):
            return each, 1.0
        if (key_of(each.a), key_of(each.b)) == (key_of(second), key_of(first)):
            return each, -1.0
    return None


def is_better(comparison: measures.Comparison, sign: float) -> bool:
    return comparison.better == ("a" if sign > 0 else "b")
