"""What the page says of networks before training: where gradients turn, vanish and explode, what grows more, and what theory misses."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from study.report import measures as sm
from study.report import statistics as stat
from study.report.phrases import (
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
from study.report.words import (
    capital,
    decimals,
    few,
    listed,
    marked,
    marked_count,
    name_of,
    named,
    number,
    ordered,
    plural_of,
    signed,
    spelled,
)
from study.settings import described_axes
from study.tables.columns import FORMATS


def turning_words(critical: sm.Critical, **where: Any) -> str:
    """ρ, its interval, and the networks that never turn: 1.19 (95 % interval 1.15 to 1.22)."""

    def write(value: float) -> str:
        return radius_words(value, critical)

    spread = interval_words(critical.radius, write, "critical_radius", **where) if critical.networks > 1 else ""
    if spread and critical.networks < stat.FEWEST_SEEDS:  # of so few, the interval is from the lowest to the highest
        spread = f"{spread}, all {count_of(critical.networks, 'networks', **where)} networks"
    if len({write(end) for end in critical.radius}) == 1 and critical.turning == critical.networks:
        spread = f"alike in all {count_of(critical.networks, 'networks', **where)} networks"
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
            f"Going back in time, the growth rate turns from negative to positive at a spectral radius ρ between {first} and {last}; "
            "the table has all of them."
        )
    elif turn:
        words.append(
            f"Going back in time, the growth rate turns from negative to positive at spectral radius ρ = {listed(each for _, each in turn)}."
        )
    if shrink:
        words.append(f"For {few(shrink)} it is negative at every ρ from {low} to {high}." if turn else
                     f"Going back in time, the growth rate of {few(shrink)} is negative at every ρ from {low} to {high}, in every network.")  # fmt: skip
    if grow:
        words.append(f"The growth rate of {few(grow)} is positive at every ρ from {low} to {high}, in every network.")
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
        length = marked_count(T, "setting", axis="sequence_length")
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
    length = marked_count(row["sequence_length"], "setting", axis="sequence_length")
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
    axes = [axis for axis in part.axes if axis == part.column or not sm.alike(part, part.rows, axis)]
    for chosen, runs in sm.grouped(part.runs, axes):
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
    said = [f"{words[regime]} for {few(names, 6)}" for regime, names in alike.items()]
    text = f"In every network, gradients {'; they '.join(said)}." if said else ""
    return " ".join([text, *([f"Networks of one kind disagree for {few(split, 3)}."] if split else [])]).strip()


def staying_sentence(part: sm.Part, runs: pd.DataFrame) -> str:
    """At which spectral radii every network keeps its gradient, at the longest and at the shortest sequence, kind by kind.

    Of many kinds, or where only one network is of a kind, how many networks keep it.
    """
    own = sm.starts(runs[runs["sweep"] == part.sweep])
    lengths = sorted(own["sequence_length"].unique())
    kinds = sm.grouped(own, part.rows)
    if part.column != "spectral_radius" or len(kinds) > 4:
        return regimes_sentence(part, runs)
    said: list[str] = []
    for T in dict.fromkeys((lengths[-1], lengths[0])):
        where: dict[str, list[str]] = {}
        for chosen, rows in kinds:
            here = rows[rows["sequence_length"] == T]
            stay = [rho for rho, group in here.groupby("spectral_radius") if (group["regime"] == "stable").all()]
            where.setdefault(_radii(stay, sorted(here["spectral_radius"].unique())), []).append(name_of(chosen))
        places = [f"{radii} for {few(names)}" if len(where) > 1 else radii for radii, names in where.items()]
        length = marked_count(T, "setting", axis="sequence_length")
        every = (
            "Spectral radii at which every network keeps its gradient within a factor of 100, over"
            if not said
            else "Over"
        )
        said.append(f"{every} T = {length} steps: {'; '.join(places)}.")
    return " ".join(said)


def _radii(stay: list[float], tried: list[float]) -> str:
    """ρ = 1; ρ from 0.9 to 1.1; none."""
    if not stay:
        return "none"
    written = [marked(number(rho), "setting", rho, axis="spectral_radius") for rho in stay]
    if len(stay) == 1:
        return f"ρ = {written[0]}"
    inside = [rho for rho in tried if stay[0] <= rho <= stay[-1]]
    return f"ρ from {written[0]} to {written[-1]}" if inside == stay else f"ρ = {few(written, 6)}"


def growth_sentence(part: sm.Part, axis: str, pooled: list[sm.Comparison], singly: list[sm.Comparison]) -> str:
    """Along one axis, whose gradient grows more per step back, by how much, and whether that is clear."""
    values = ordered(axis, part.runs[axis])
    means = {key_of(v): part.runs[has_value(part.runs, axis, v)]["growth_rate"].clip(lower=-1e3).mean() for v in values}
    top, low = (pick(values, key=lambda v: means[key_of(v)]) for pick in (max, min))
    found = next((c for c in pooled if {key_of(c.a), key_of(c.b)} == {key_of(top), key_of(low)}), None)
    if found is None or math.isnan(found.effect.value):  # nothing finite to compare: every gradient is exactly zero
        return _dead_values(part, axis, values)
    one, other = named(axis, top), named(axis, low)
    singly = [each for each in singly if not math.isnan(each.effect.value)]
    if _same_growth(part, axis, pooled):
        return _same_sentence(part, axis, values)
    if len(values) == 2 and 2 <= len(singly) <= 4:
        return _growth_by_setting(part, axis, singly) + _stays(part, axis, values)
    size = _growth_size(part, found, 1.0 if key_of(found.a) == key_of(top) else -1.0)
    of = f"of the {spelled(len(values))} {plural_of(axis)}, " if len(values) > 2 else ""
    high = f"{one}'s growth rate is {'highest' if of else 'higher'} and {other}'s {'lowest' if of else 'lower'}"
    if found.verdict == "few":
        return f"{too_few(found)} which {axis_word(axis)} makes gradients grow more per step back. {capital(of)}{high}; they differ by {size}."
    clear = "clearly " if found.verdict != "none" else ""
    return f"Per step back, {of}{high}: they {clear}differ by {size}{'' if clear else '; that is not clear'}." + _stays(
        part, axis, values
    )


def _dead_values(part: sm.Part, axis: str, values: list[Any]) -> str:
    """Values with which every gradient is exactly zero, where others keep one."""
    rates = {key_of(v): part.runs[has_value(part.runs, axis, v)]["growth_rate"] for v in values}
    dead = [named(axis, v) for v in values if (rates[key_of(v)] == -math.inf).all()]
    return (
        f"With {few(dead)} every gradient is exactly zero, with {few([named(axis, v) for v in values if named(axis, v) not in dead])} not."
        if 0 < len(dead) < len(values)
        else ""
    )


def axis_word(axis: str) -> str:
    """What one value of an axis is called."""
    return {"clipping": "clipping rule", "dtype": "floating-point type"}.get(axis, str(described_axes()[axis]["label"]))


def _spread_of_values(part: sm.Part, axis: str, measure: str) -> float:
    """The largest difference between two networks that differ in nothing but the value of ``axis``."""
    wide = sm.side_by_side(part.runs.assign(value=part.runs[measure]), axis)
    with np.errstate(invalid="ignore"):  # −∞ on both sides is no difference
        return float((wide.max(axis=1) - wide.min(axis=1)).fillna(0.0).max())


def _same_growth(part: sm.Part, axis: str, pooled: list[sm.Comparison]) -> bool:
    """Whether no two networks that differ in this value alone end up half a decade apart."""
    return bool(pooled) and _spread_of_values(part, axis, "log10_gradient_ratio") < WORTH_SAYING


def _same_sentence(part: sm.Part, axis: str, values: list[Any]) -> str:
    most, where = _spread_of_values(part, axis, "log10_gradient_ratio"), {"sweep": part.sweep, "axis": axis}
    return (
        f"{listed(named(axis, v) for v in values)} give the same gradients: over T = {length_of(part)} steps no network differs by more "
        f"than {marked(number(most, 2), 'largest_difference', most, **where)} decades."
    )


def length_of(part: sm.Part) -> str:
    T = int(part.runs["sequence_length"].max())
    return marked_count(T, "setting", axis="sequence_length")


def decades_words(part: sm.Part, found: sm.Comparison, a: Any, b: Any) -> str:
    """How many decades more of the gradient ``a`` has than ``b`` at the first step, as measured, with its interval."""
    rows = sm.where(part.runs, **found.fixed)
    wide = sm.side_by_side(rows.assign(value=rows["log10_gradient_ratio"]), found.axis)
    measured = sm.difference(wide, part.sweep, found.axis, a, b, "log10_gradient_ratio", found.fixed)
    if measured is None or math.isnan(measured.effect.value):
        return ""
    where = {"sweep": part.sweep, "axis": found.axis, "a": a, "b": b, **found.fixed}
    spread = interval_words(measured.effect, partial(signed, digits=3), "decades_difference", **where)
    value = marked(signed(measured.effect.value, 3), "decades_difference", measured.effect.value, **where)
    return f"{value} decades{bracketed(spread)} over T = {length_of(part)} steps"


def _growth_size(part: sm.Part, found: sm.Comparison, sign: float, over: bool = True) -> str:
    """0.02 a step (0.018 to 0.022; 8 seeds), or 8.7 decades over 999 steps."""
    a, b = (found.a, found.b) if sign > 0 else (found.b, found.a)
    where = {"sweep": part.sweep, "axis": found.axis, "a": a, "b": b, **found.fixed}
    low, high = sorted((sign * found.effect.low, sign * found.effect.high))
    effect = stat.Interval(sign * found.effect.value, low, high)
    zeros = (
        f"{count_of(found.left_out, 'zero_pairs', **where)} left out, where a gradient is exactly zero"
        if found.left_out
        else ""
    )
    text = f"{marked(signed(effect.value, 3) if not over else number(effect.value, 3), 'growth_difference', effect.value, **where)} a step"
    text += bracketed(
        interval_words(effect, partial(signed if not over else number, digits=3), "growth_difference", **where),
        seeds_of(found),
        zeros,
    )
    decades_ = decades_words(part, found, a, b) if over else ""
    return f"{text}, and {decades_}" if decades_ else text


def _growth_by_setting(part: sm.Part, axis: str, singly: list[sm.Comparison]) -> str:
    """The difference of two values at each of a few settings, which may have other signs."""
    a, b = singly[0].a, singly[0].b
    words = [f"{_growth_size(part, each, 1.0, over=False)} for {name_of(each.fixed)}" for each in singly]
    clear = [name_of(each.fixed) for each in singly if each.verdict in ("higher", "lower")]
    few_seeds = all(each.verdict == "few" for each in singly)
    tail = f"clear for {few(clear)}" if 0 < len(clear) < len(singly) else "all clear" if clear else "none is clear"
    if few_seeds:
        tail = f"with fewer than {spelled(stat.FEWEST_SEEDS)} seeds none can be clear"
    largest = max(singly, key=lambda each: abs(each.effect.value))
    decades_ = decades_words(part, largest, a, b)
    text = f"Growth rate per step back, {named(axis, a)} minus {named(axis, b)}: {few(words, 4)}; {tail}."
    return f"{text} The largest goes with {decades_}." if decades_ else text


def _stays(part: sm.Part, axis: str, values: list[Any]) -> str:
    """How many networks of each value keep their gradient at the longest sequence."""
    if len(values) > 4:
        return ""
    words = []
    for value in values:
        rows, where = part.runs[has_value(part.runs, axis, value)], {"sweep": part.sweep, axis: value}
        stay = int((rows["regime"] == "stable").sum())
        words.append(
            f"{count_of(stay, 'regime_count', regime='stable', **where)} of {count_of(len(rows), 'starts_at_longest', **where)} with {named(axis, value)}"
        )
    return f" Networks that keep their gradient within a factor of 100: {listed(words)}."


def theory_sentence(part: sm.Part, tests: list[tuple[dict[str, Any], pd.Series, float]]) -> str:
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


def _deviation(part: sm.Part, chosen: Mapping[str, Any], series: pd.Series) -> str:
    found, here = stat.mean(series.to_numpy()), where_of(part, chosen)
    spread = interval_words(found, partial(signed, digits=2), "mean_deviation", **here)
    return f"{marked(signed(found.value, 2), 'mean_deviation', found.value, **here)}{bracketed(spread)}"


def _worst_deviation(part: sm.Part, known: pd.DataFrame) -> str:
    """Deviations of both signs cancel in a mean over the radii: the largest at one of them."""
    if not part.column or part.runs[part.column].nunique() < 2:
        return ""
    cells = [(chosen, sm.per_seed(rows, "deviation")) for chosen, rows in sm.grouped(known, [*part.rows, part.column])]
    chosen, series = max(cells, key=lambda cell: abs(float(cell[1].mean())))
    return f" The largest at one setting is {_deviation(part, chosen, series)}, for {name_of(chosen, first=part.rows[0] if part.rows else '')}."


def clearly_off(tests: list[tuple[dict[str, Any], pd.Series, float]]) -> list[tuple[dict[str, Any], stat.Interval]]:
    """The kinds of network whose mean deviation from theory is clearly not zero: one test a kind, all tests of the study judged together."""
    return [
        (chosen, stat.mean(series.to_numpy()))
        for chosen, series, p in tests
        if p <= stat.LEVEL and len(series) >= stat.FEWEST_SEEDS
    ]


def formats_sentence(runs: pd.DataFrame) -> str:
    """What narrower formats would have done to the gradients of all distinct starts."""
    starts = sm.distinct_starts(runs)
    total = count_of(len(starts), "distinct_starts")
    lost = {name: int(starts[f"{name}_flushed_at"].notna().sum()) for name in reversed(FORMATS)}
    over = {name: int(starts[f"{name}_overflowed_at"].notna().sum()) for name in reversed(FORMATS)}
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
