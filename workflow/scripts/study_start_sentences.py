"""What the page says of networks before training: where gradients turn, vanish and explode, what grows more, and what theory misses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

import study_measures as sm
import study_statistics as stat
import study_tables
from study_phrases import (
    LN10,
    VERBS,
    WORTH_SAYING,
    bracketed,
    count_of,
    has_value,
    interval_words,
    key_of,
    of_networks,
    seeds_of,
    too_few,
    where_of,
)
from study_words import (
    capital,
    decimals,
    few,
    listed,
    marked,
    name_of,
    named,
    number,
    ordered,
    plural_of,
    signed,
    spelled,
)


def turning_words(critical: sm.Critical, **where: Any) -> str:
    """ρ, its interval, and the networks that never turn: 1.19 (95 % interval 1.15 to 1.22)."""

    def write(value: float) -> str:
        return radius_words(value, critical)

    spread = interval_words(critical.radius, write, "critical_radius", **where) if critical.networks > 1 else ""
    if len({write(end) for end in critical.radius}) == 1 and critical.turning == critical.networks:
        spread = f"the same in all {count_of(critical.networks, 'networks', **where)} networks"
    never = critical.networks - critical.turning
    missing = (
        f"{count_of(never, 'never_turning', **where)} of {count_of(critical.networks, 'networks', **where)} networks never {'turns' if never == 1 else 'turn'}"
        if never
        else ""
    )
    return marked(write(critical.radius.value), "critical_radius", critical.radius.value, **where) + bracketed(
        spread, missing
    )


def radius_words(value: float, critical: sm.Critical) -> str:
    """A radius no finer than the values tried can bear; where networks never turn, beyond those."""
    if math.isinf(value):
        return "beyond the largest ρ" if value > 0 else "below the smallest ρ"
    return decimals(value, critical.places)


def turning_sentence(part: sm.Part) -> str:
    """At which spectral radius growth turns, kind by kind of network; which never turn."""
    turn, shrink, grow, other = [], [], [], []
    radii = sorted(part.runs["spectral_radius"].unique())
    for chosen, runs in part.groups():
        name, found, where = name_of(chosen), sm.critical(runs), where_of(part, chosen)
        if found is None:
            other.append(f"{name}: no rate is a number")
        elif math.isfinite(found.radius.value):
            turn.append((found.radius.value, f"{turning_words(found, **where)} for {name}"))
        elif found.shrinking == found.networks:
            shrink.append(name)
        elif found.growing == found.networks:
            grow.append(name)
        else:
            turns = count_of(found.turning, "turning", **where)
            other.append(
                f"{name}: {turns} of {count_of(found.networks, 'networks', **where)} networks turn within the ρ tried"
            )
    low, high = (marked(number(r), "setting", r, axis="spectral_radius") for r in (radii[0], radii[-1]))
    words = []
    if len(turn) > 4:
        (_, first), *_, (_, last) = sorted(turn, key=lambda each: each[0])
        words.append(
            f"Going back in time, gradients turn from shrinking to growing at a spectral radius ρ between {first} and {last}; "
            "the table has all of them."
        )
    elif turn:
        words.append(
            f"Going back in time, gradients turn from shrinking to growing at spectral radius ρ = {listed(each for _, each in turn)}."
        )
    if shrink:
        words.append(f"Those of {few(shrink)} shrink at every ρ from {low} to {high}." if turn else
                     f"Gradients of {few(shrink)} shrink at every ρ from {low} to {high}, in every network.")  # fmt: skip
    if grow:
        words.append(f"Gradients of {few(grow)} grow at every ρ from {low} to {high}, in every network.")
    if other:
        words.append(f"No single ρ for {few(other, 3)}.")
    return " ".join(words)


def regimes_sentence(part: sm.Part, runs: pd.DataFrame) -> str:
    """How many networks keep their gradient at the longest sequence, and at the shortest."""
    own = sm.starts(runs[runs["sweep"] == part.sweep])
    lengths = sorted(own["sequence_length"].unique())
    if len(own) == 1:
        return _of_one_network(part, own)
    said: list[str] = []
    for T in dict.fromkeys((lengths[-1], lengths[0])):
        here = own[own["sequence_length"] == T]
        where = {"sweep": part.sweep, "sequence_length": T}
        counts = sm.regime_counts(here)
        total = count_of(len(here), "starts", **where)
        length = marked(str(T), "setting", T, axis="sequence_length")
        stay = count_of(counts["stable"], "regime_count", regime="stable", **where)
        if not said:
            vanish, explode = (
                count_of(counts[r], "regime_count", regime=r, **where) for r in ("vanishing", "exploding")
            )
            lost = counts["not finite"]
            no_number = (
                f", {count_of(lost, 'regime_count', regime='not finite', **where)} without a number" if lost else ""
            )
            said.append(
                f"At T = {length} steps, {stay} of {total} networks {'keeps its' if counts['stable'] == 1 else 'keep their'} gradient "
                f"within a factor of 100 on its way back ({vanish} {_verb('vanishing', counts)}, {explode} {_verb('exploding', counts)}{no_number})"
            )
        else:
            said.append(f"at T = {length} steps {stay} of {total} {'does' if counts['stable'] == 1 else 'do'}")
    return "; ".join(said) + "."


def _verb(regime: str, counts: Mapping[str, int]) -> str:
    return VERBS[regime][counts[regime] != 1]


def _of_one_network(part: sm.Part, own: pd.DataFrame) -> str:
    """What became of the gradient of a study's only network."""
    row = own.iloc[0]
    length = marked(str(row["sequence_length"]), "setting", row["sequence_length"], axis="sequence_length")
    ratio = float(row["log10_gradient_ratio"])
    if math.isnan(ratio):
        return f"Over T = {length} steps the gradient of the one network is not a number."
    verb = {"vanishing": "vanishes", "stable": "stays within a factor of 100", "exploding": "explodes"}[
        str(row["regime"])
    ]
    text = f"Over T = {length} steps the gradient of the one network {verb} on its way back"
    if math.isinf(ratio):
        return f"{text}: it becomes exactly zero."
    change = marked(("+" if ratio > 0 else "") + decimals(ratio, 1), "median_decades", ratio, sweep=part.sweep)
    return f"{text}: it changes by {change} decades."


def split_sentence(part: sm.Part) -> str:
    """Where no spectral radius varies: which kinds of network vanish, stay and explode, and which are split."""
    if not part.axes:
        return ""
    alike: dict[str, list[str]] = {}
    split = []
    for chosen, runs in sm.grouped(part.runs, part.axes):
        counts = sm.regime_counts(runs)
        regime = next((name for name, count in counts.items() if count == len(runs)), "")
        name = name_of(chosen)
        if regime:
            alike.setdefault(regime, []).append(name)
        else:
            split.append(f"{name} ({of_networks(counts, **where_of(part, chosen))})")
    words = {
        "vanishing": "vanish",
        "stable": "stay within a factor of 100",
        "exploding": "explode",
        "not finite": "are not a number",
    }
    said = [f"{words[regime]} for {few(names)}" for regime, names in alike.items()]
    text = f"In every network, gradients {'; they '.join(said)}." if said else ""
    return " ".join([text, *([f"Networks of one kind disagree for {few(split, 3)}."] if split else [])]).strip()


def growth_sentence(part: sm.Part, axis: str, compared: list[sm.Comparison]) -> str:
    """Along one axis, whose gradient grows more per step back, by how much, and whether that is clear."""
    values = ordered(axis, part.runs[axis])
    means = {key_of(v): part.runs[has_value(part.runs, axis, v)]["growth_rate"].clip(lower=-1e3).mean() for v in values}
    top, low = (pick(values, key=lambda v: means[key_of(v)]) for pick in (max, min))
    found = next((c for c in compared if {key_of(c.a), key_of(c.b)} == {key_of(top), key_of(low)}), None)
    if found is None:
        return ""
    high, less = (found.a, found.b) if found.effect.value >= 0 else (found.b, found.a)
    sign = 1.0 if found.effect.value >= 0 else -1.0
    effect = stat.Interval(
        *(
            sign * end
            for end in (found.effect.value, *sorted((found.effect.low, found.effect.high), key=lambda e: sign * e))
        )
    )
    where = {"sweep": part.sweep, "axis": axis, "a": high, "b": less}
    steps = int(part.runs["sequence_length"].max()) - 1
    worth = effect.value * steps / LN10
    most = max(abs(effect.low), abs(effect.high), abs(effect.value)) if math.isfinite(effect.low) else abs(effect.value)
    one, other = named(axis, high), named(axis, less)
    if most * steps / LN10 < WORTH_SAYING:
        return (
            f"{capital(listed(named(axis, v) for v in values))} give the same growth: no two differ by more than "
            f"{marked(number(effect.value, 2), 'growth_difference', effect.value, **where)} a step, or "
            f"{marked(number(worth, 2), 'growth_difference_decades', worth, **where)} decades over {marked(str(steps), 'steps_back', steps, sweep=part.sweep)} steps."
        )
    size = (
        f"{marked(number(effect.value, 2), 'growth_difference', effect.value, **where)} a step"
        + bracketed(interval_words(effect, partial(number, digits=2), "growth_difference", **where), seeds_of(found))
        + f", or {marked(number(worth, 2), 'growth_difference_decades', worth, **where)} decades over "
        f"{marked(str(steps), 'steps_back', steps, sweep=part.sweep)} steps"
    )
    extremes = f"of the {spelled(len(values))} {plural_of(axis)}, " if len(values) > 2 else ""
    if found.verdict == "few":
        return f"{too_few(found)} whether gradients grow more per step back with {one} than with {other}: the mean difference is {size}."
    if found.verdict == "none":
        return f"{capital(extremes)}{one} and {other} are furthest apart, without a clear difference: {size}." if extremes else (
            f"Between {one} and {other} there is no clear difference in growth: {size}."
        )  # fmt: skip
    zeros = (
        f" Pairs with a gradient of exactly zero, {count_of(found.left_out, 'zero_pairs', **where)} of them, are not in it."
        if found.left_out
        else ""
    )
    return (
        f"{capital(extremes)}{one} keeps {'most' if extremes else 'more'} of the gradient on its way back and {other} {'least' if extremes else 'less'}: "
        f"their growth rates differ by {size}." + zeros
    )


def theory_sentence(part: sm.Part, tests: list[tuple[dict[str, Any], pd.Series, float]]) -> str:
    """How far theory is from the measurement: the typical size, and where it is off in one direction."""
    known = part.runs[np.isfinite(part.runs["deviation"].astype(float))]
    if known.empty:
        return ""
    steps = int(part.runs["sequence_length"].max()) - 1
    typical, where = float(known["deviation"].abs().median()), {"sweep": part.sweep}
    if len(known) == 1:
        only = float(known["deviation"].iloc[0])
        return f"Its growth rate differs from what theory predicts by {marked(signed(only, 2), 'mean_deviation', only, **where)} a step."
    text = (
        f"Theory predicts the growth rate to within {marked(number(typical, 2), 'median_deviation', typical, **where)} a step in the median "
        f"of {count_of(len(known), 'predicted', **where)} networks"
    )
    off = []
    for chosen, found in clearly_off(tests, steps):
        here = where_of(part, chosen)
        size = marked(signed(found.value, 2), "mean_deviation", found.value, **here)
        spread = interval_words(found, partial(signed, digits=2), "mean_deviation", **here)
        off.append(f"{size}{bracketed(spread)} for {name_of(chosen)}")
    if off:
        return f"{text}; measured minus predicted is clearly not zero: {few(off, 3)}."
    return text + "."


def clearly_off(
    tests: list[tuple[dict[str, Any], pd.Series, float]], steps: int
) -> list[tuple[dict[str, Any], stat.Interval]]:
    """The kinds of network whose mean deviation from theory is clearly not zero, and worth saying over so many steps."""
    found = [(chosen, stat.mean(series.to_numpy())) for chosen, series, p in tests
             if p <= stat.LEVEL and len(series) >= stat.FEWEST_SEEDS]  # fmt: skip
    return [(chosen, mean) for chosen, mean in found if abs(mean.value) * steps / LN10 >= WORTH_SAYING]


def formats_sentence(runs: pd.DataFrame) -> str:
    """What narrower formats would have done to the gradients of all distinct starts."""
    starts = sm.distinct_starts(runs)
    total = count_of(len(starts), "distinct_starts")
    lost = {name: int(starts[f"{name}_flushed_at"].notna().sum()) for name in reversed(study_tables.FORMATS)}
    over = {name: int(starts[f"{name}_overflowed_at"].notna().sum()) for name in reversed(study_tables.FORMATS)}
    if len(starts) == 1:
        return _formats_of_one(lost, over)
    if not any(lost.values()) and not any(over.values()):
        return f"In none of {total} starting networks would float16, bfloat16 or float32 have lost the whole gradient on its way back, or let it overflow."
    of = f" of {total} starting networks"
    words = [f"{count_of(count, 'format_lost', format=name)}{{}} as {name}" for name, count in lost.items()]
    said = listed(word.format(of if i == 0 else "") for i, word in enumerate(words))
    text = f"Stored as plain floats, the whole gradient would be lost on its way back in {said}."
    inf = [f"{count_of(count, 'format_overflowed', format=name)} as {name}" for name, count in over.items() if count]
    return text + (f" Entries would overflow in {listed(inf)}." if inf else "")


def _formats_of_one(lost: Mapping[str, int], over: Mapping[str, int]) -> str:
    """The same of a study's only network, without counts."""
    gone, inf = ([name for name, count in counts.items() if count] for counts in (lost, over))
    if not gone and not inf:
        return (
            "The gradient of the one starting network could be stored as float16, bfloat16 or float32 on its way back."
        )
    words = [f"be lost on its way back as {listed(gone, 'or')}"] if gone else []
    words += [f"overflow as {listed(inf, 'or')}"] if inf else []
    return f"Stored as plain floats, the gradient of the one starting network would {listed(words)}."


def check_sentence(checks: pd.DataFrame) -> str:
    """How well the engine agreed with the independent programs."""
    finite = checks.dropna(subset=["relative_error"])
    total = count_of(len(checks), "checks")
    if finite.empty:
        return f"no check of {total} had a finite result to compare"
    worst = finite.groupby("dtype")["relative_error"].max().sort_values()
    said = [
        f"{marked(number(error, 2), 'worst_check', error, dtype=dtype)} in {dtype}" for dtype, error in worst.items()
    ]
    return f"engine compared with PyTorch {total} times, worst relative error {listed(said)}"
