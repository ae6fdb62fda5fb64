"""What the figure of growth rates says: where growth turns, which kinds of network are extreme, and how far theory is off."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from study.report import measures
from study.report.findings import Study
from study.report.phrases import key_of
from study.report.sentences.theory import clearly_off
from study.report.words import (
    LONGEST_TITLE,
    decimals,
    few,
    listed,
    marked,
    marked_count,
    name_of,
    number,
    plain,
    signed,
    spelled,
    unrounded,
)

LN2 = math.log(2.0)
ALIKE = 1e-3  # relative: numbers that differ by less are one
ROUNDING = 1e-9


@dataclass
class _Turning:
    """Kinds of network by how growth depends on ρ: those that turn (ρ, ρ in words, name), and names of the others."""

    turn: list[tuple[float, str, str]] = field(default_factory=list)
    never: list[str] = field(default_factory=list)
    always: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    symbol: str = "ρ"


def _by_turning(study: Study) -> _Turning:
    kinds = _Turning()
    for part in study.parts:
        for chosen, runs in [] if part.trains or part.column not in measures.SCALES else part.groups():
            kinds.symbol = measures.symbol_of(str(part.column))
            critical, name, where = (
                measures.critical(runs),
                name_of(study.settings_of(part, chosen)),
                {"sweep": part.sweep, **part.fixed, **chosen},
            )
            if critical is None:
                kinds.unclear.append(name)
            elif math.isfinite(critical.radius.value):
                at = marked(
                    f"{critical.radius.value:.{critical.places}f}", "critical_radius", critical.radius.value, **where
                )
                if (plain(at), name) not in [
                    (plain(known), known_name) for _, known, known_name in kinds.turn
                ]:  # two sweeps may share it
                    kinds.turn.append((critical.radius.value, at, name))
            else:
                all_shrink, all_grow = (count == critical.networks for count in (critical.shrinking, critical.growing))
                (kinds.never if all_shrink else kinds.always if all_grow else kinds.unclear).append(name)
    kinds.turn.sort()
    return kinds


def turning_headline(study: Study) -> str:
    """Between which radii kinds of network turn, and which do not."""
    kinds = _by_turning(study)
    turn, others = kinds.turn, [kinds.never, kinds.always, kinds.unclear]
    everywhere = f"Growth per step back is {'negative' if kinds.never else 'positive'} at every {kinds.symbol}, in every kind of network."
    of_one_sign = not turn and not kinds.unclear and not (kinds.never and kinds.always)
    if of_one_sign and len(kinds.never + kinds.always) > 1:
        return everywhere
    ends = [f"{at} for {name}" for _, at, name in ([turn[0], turn[-1]] if len(turn) > 1 else turn)]
    alone = len(turn) == 1 and not any(others) and turn[0][2] == name_of({})
    at = turn[0][1] if alone else (" to " if len(turn) > 2 else " and ").join(ends)
    phrases = [
        *([f"turns positive at {kinds.symbol} = {at}"] if turn else []),
        *(
            [f"{'never does' if turn else f'stays negative at every {kinds.symbol}'} for {few(kinds.never, 3)}"]
            if kinds.never
            else []
        ),
        *([f"is positive at every {kinds.symbol} for {few(kinds.always, 3)}"] if kinds.always else []),
        *([f"turns at no single {kinds.symbol} for {few(kinds.unclear, 3)}"] if kinds.unclear else []),
    ]
    text = f"Growth per step back {'; it '.join(phrases)}."
    if len(plain(text)) <= LONGEST_TITLE and not any(len(names) > 3 for names in others):
        return text
    if turn:
        same = plain(turn[0][1]) == plain(turn[-1][1])
        between = f"= {turn[0][1]}" if same else f"from {turn[0][1]} to {turn[-1][1]}"
        apart = [
            *([f"at no single {kinds.symbol}"] if kinds.unclear else []),
            *(["not at all"] if kinds.never or kinds.always else []),
        ]
        elsewhere = f"; in other kinds of network {' or '.join(apart)}" if apart else ""
        return f"Growth per step back turns positive at {kinds.symbol} {between}{elsewhere}."
    if of_one_sign:
        return everywhere
    if not kinds.unclear and len(plain(text)) <= LONGEST_TITLE:  # some shrink everywhere, and some grow
        return text
    if not kinds.never and not kinds.always:
        return f"In no kind of network does growth per step back turn positive at one {kinds.symbol} that most networks share."
    signs = [sign for sign, names in (("positive", kinds.always), ("negative", kinds.never)) if names]
    second = f", {signs[1]} in others" if len(signs) > 1 else ""
    where = "the rest" if second else "others"
    rest = f"{',' if second else ''} and turns at no single {kinds.symbol} in {where}" if kinds.unclear else ""
    return f"Growth per step back is {signs[0]} at every {kinds.symbol} in some kinds of network{second}{rest}."


def extremes_headline(study: Study) -> str:
    """The settings with the highest and with the lowest mean rate."""
    mean_rates: list[tuple[float, str, dict[str, Any], dict[str, Any]]] = []  # value, in words, settings, address
    several = False
    everywhere = measures.varied(study.networks, measures.TRAINING)  # what tells a sweep whose own settings do not vary
    where: dict[str, Any] = {}
    for part in study.parts:
        for chosen, runs in [] if part.trains else measures.grouped(part.compared, part.axes):
            known = runs.loc[np.isfinite(runs["growth_rate"].astype(float)), "growth_rate"]
            if len(known):
                several = several or len(known) > 1
                where = {"sweep": part.sweep, **part.fixed, **chosen}
                value = float(known.mean())
                settings = {axis: setting for axis, setting in chosen.items() if axis != "sequence_length"}
                named = study.settings_of(part, settings) or {axis: runs[axis].iloc[0] for axis in everywhere}
                mean_rates.append(
                    (value, marked(signed(unrounded(value), 2), "mean_growth", value, **where), named, where)
                )
    if not mean_rates:
        return "Every gradient of this study is exactly zero, or not a number, on its way back."
    (_, lowest, _, low_at), (_, highest, _, high_at) = (end(mean_rates, key=lambda rate: rate[0]) for end in (min, max))
    if len(mean_rates) == 1:
        return _each_step(mean_rates[0][0], several, **where)
    growth = f"{_at_longest(study)}rowth per step back is"
    if plain(lowest) == plain(highest):
        return f"{growth} about {lowest} in every kind of network."
    if _may_be_chance(study, low_at, high_at):
        return f"{growth} between {lowest} and {highest} in every kind of network, without a clear difference."
    low, high = (shared_name([each[:3] for each in mean_rates], end) for end in (min, max))
    text = f"{growth} lowest for {low}, {lowest}, and highest for {high}, {highest}."
    return text if len(plain(text)) <= LONGEST_TITLE else f"{growth} between {lowest} and {highest}."


def _may_be_chance(study: Study, low: Mapping[str, Any], high: Mapping[str, Any]) -> bool:
    """Whether two kinds of network of one sweep, by their addresses, differ in nothing that makes a clear difference anywhere.

    Where seeds are too few for any difference to be clear, and between sweeps, nothing is tested.
    """
    part = next(part for part in study.start_parts if part.sweep == low["sweep"])
    axes = [axis for axis in low if key_of(low[axis]) != key_of(high.get(axis))]
    tested = [each for axis in axes for each in study.of(part, axis, "growth_rate")]
    return "sweep" not in axes and bool(tested) and all(each.verdict == "none" for each in tested)


def _at_longest(study: Study) -> str:
    """At T = 100, g; where sweeps end at different lengths, At the longest T of each sweep, g; G where lengths are no question."""
    lengths = {int(part.compared["sequence_length"].max()) for part in study.start_parts}
    if not any(part.column == "sequence_length" for part in study.start_parts):
        return "G"
    if len(lengths) > 1:
        return "At the longest T of each sweep, g"
    return f"At T = {marked_count(lengths.pop(), 'setting', axis='sequence_length')}, g"


def shared_name(told: list[tuple[float, str, dict[str, Any]]], end: Callable[..., Any]) -> str:
    """The lowest or the highest of some numbers (value, in words, settings), by what all have in common that are as low, or as high.

    Where float32 and float64 agree, neither is the lowest.
    """
    extreme = float(end(told, key=lambda each: each[0])[0])
    alike = [settings for value, _, settings in told if value == extreme or abs(value - extreme) < ALIKE * abs(extreme)]
    first = alike[0]
    shared = {axis: value for axis, value in first.items() if all(_agree(value, each.get(axis)) for each in alike[1:])}
    return name_of(shared) if shared else f"{spelled(len(alike)) if len(alike) < 11 else 'many'} of the settings"


def _agree(one: Any, other: Any) -> bool:
    return bool(one == other or (pd.isna(one) and pd.isna(other)))


def _each_step(rate: float, several: bool, **where: Any) -> str:
    """What one step back does to the gradient of the only kind of network."""
    mean = " on average" if several else ""
    change = abs(math.expm1(min(rate, 1.0)))
    if 0.005 <= change <= 0.99 and rate < LN2:
        size = marked(f"{number(100 * change, 2)} %", "growth_percent", change, **where)
        return f"Each step back {'shrinks' if rate < 0 else 'stretches'} the gradient by {size}{mean}."
    factor = math.exp(min(rate, 700.0))
    return f"Each step back multiplies the gradient by {marked(number(factor, 3), 'growth_factor', factor, **where)}{mean}."


def clear_deviations(study: Study) -> str:
    """Which kinds of network theory is clearly off for, where that is worth saying; one test a kind."""
    deviations = []
    for part in study.parts:
        for chosen, off in [] if part.trains else clearly_off(study.theory_tests(part)):
            where = {"sweep": part.sweep, **part.fixed, **chosen}
            middle, low, high = (
                marked(signed(value, 2), f"mean_deviation{side}", value, **where)
                for side, value in zip(("", "_low", "_high"), off, strict=True)
            )
            told = study.settings_of(part, chosen)
            of = f" for {name_of(told)}" if told else ""
            deviations.append(f"{middle} a step{of} (95 % interval {low} to {high})")
    return f"Measured and predicted growth clearly differ, by {few(deviations, 3)}." if deviations else ""


def window_sentence(networks: pd.DataFrame) -> str:
    """From which step to which rates are measured, at the longest of the study's sequences: a median over lengths would be of no sequence."""
    window = measures.window(networks)
    if window is None:
        return ""
    where = {"task_steps": window.steps}
    at = (
        f"In sequences of {marked_count(window.steps, 'task_steps', **where)} steps, rates"
        if measures.steps(networks).nunique() > 1
        else "Rates"
    )
    return (
        f"{at} are measured from step t = {marked(number(window.first), 'settled_from', window.first, **where)} to "
        f"t = {marked(number(window.last), 'settled_to', window.last, **where)}{', in the median of the networks' if window.networks > 1 else ''}."
    )


def unsettled_sentence(networks: pd.DataFrame) -> str:
    """Networks of which no window is settled, of those in which that decides the rate."""
    others, count = networks[~measures.is_linear(networks)], len(measures.never_settled(networks))
    if not count:
        return ""
    if len(networks) == 1:
        return "The state of this network does not settle within the sequence: its window is the later half."
    if len(others) < len(networks):
        of = f"{marked_count(count, 'never_settled')} of {marked_count(len(others), 'networks_not_linear')}"
        whose = f"Of the networks that are not linear, the state of {of}"
        linear = " A linear network's rate does not depend on its state."
    else:
        of = f"{marked_count(count, 'never_settled')} of {marked_count(len(networks), 'networks_at_longest')}"
        whose, linear = f"The state of {of} networks", ""
    return f"{whose} does not settle within the sequence: their window is the later half.{linear}"


def bound_sentence(networks: pd.DataFrame) -> str:
    bounded = networks[networks["bound_rate"].notna() & networks["growth_rate"].notna()]
    above = int((bounded["growth_rate"] > bounded["bound_rate"] + ROUNDING).sum())
    if bounded.empty:
        return ""
    total = marked_count(len(bounded), "bounded")
    return f"Networks above the upper bound: {marked_count(above, 'above_bound')} of {total}."


def left_out_of_means(networks: pd.DataFrame) -> str:
    """Networks that have no place in a mean."""
    zero, broken = int((networks["growth_rate"] == -np.inf).sum()), int(networks["growth_rate"].isna().sum())
    phrases = [
        *([f"{marked_count(zero, 'dead')} with a gradient of exactly zero"] if zero else []),
        *([f"{marked_count(broken, 'without_rate')} without a number"] if broken else []),
    ]
    return f"Not in the means: {listed(phrases)}." if phrases else ""


# ---- above a panel


def where_it_turns(rows: pd.DataFrame) -> str:
    """Of networks of one kind: turns at ρ = 1.49 (1.33–1.50); below it how many never turn, and where theory does."""
    measured, theory = _measured_turning(rows), measures.theory_critical(rows)
    if not measured or theory is None or math.isnan(theory.radius.value):
        return measured
    return f"{measured}\ntheory: {_at_radius(theory)}"


def _at_radius(critical: measures.Critical) -> str:
    """ρ = 1.41; where there is none, on which side."""
    if math.isfinite(critical.radius.value):
        return f"{critical.symbol} = {decimals(critical.radius.value, critical.places)}"
    return "never" if critical.radius.value > 0 else f"positive at every {critical.symbol}"


def _measured_turning(rows: pd.DataFrame) -> str:
    critical = measures.critical(rows)
    if not critical:
        return ""
    if critical.shrinking == critical.networks:
        return f"negative at every {critical.symbol}"
    if critical.growing == critical.networks:
        return f"positive at every {critical.symbol}"
    never = critical.networks - critical.turning
    some = f"{never} of {critical.networks} networks never {'turns' if never == 1 else 'turn'}" if never else ""
    if not math.isfinite(critical.radius.value):
        return some

    def write(value: float) -> str:
        return f"{value:.{critical.places}f}" if math.isfinite(value) else "∞"

    low, high = write(critical.radius.low), write(critical.radius.high)
    spread = f" ({low}–{high})" if critical.networks > 1 and low != high else ""
    return f"turns at {critical.symbol} = {write(critical.radius.value)}{spread}" + (f"\n{some}" if some else "")
