"""Sentences about where gradients vanish, stay and explode before training, and where their growth turns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from study.report import measures, statistics
from study.report.phrases import VERBS, bracketed, count_of, interval_words, of_networks, over_steps, where_of
from study.report.words import (
    decimals,
    few,
    itemized,
    listed,
    marked,
    marked_count,
    name_of,
    number,
    plain,
    plural_of,
    spelled,
)
from study.settings import described_axes

MOST_TOLD = 4  # kinds of network, each in a sentence


def turning_words(critical: measures.Critical, **where: Any) -> str:
    """ρ, its interval, and the networks that never turn: 1.19 (95 % interval 1.15 to 1.22)."""

    def write(value: float) -> str:
        return radius_words(value, critical)

    spread = interval_words(critical.radius, write, "critical_radius", **where) if critical.networks > 1 else ""
    if (
        spread and critical.networks < statistics.FEWEST_SEEDS
    ):  # of so few, the interval is from the lowest to the highest
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


def radius_words(value: float, critical: measures.Critical) -> str:
    """A radius no finer than the values tried can bear; where networks never turn, beyond those."""
    if math.isinf(value):
        return f"beyond the largest {critical.symbol}" if value > 0 else f"below the smallest {critical.symbol}"
    return decimals(value, critical.places)


def turning_sentence(part: measures.Part) -> str:
    """At which spectral radius, or weight scale, growth turns, kind by kind of network; which never turn."""
    turn, shrink, grow, unclear = [], [], [], []
    axis = str(part.column)
    label, symbol = described_axes()[axis]["label"], measures.symbol_of(axis)
    radii = sorted(part.runs[axis].unique())
    for chosen, runs in part.groups():
        name, critical, where = name_of(chosen), measures.critical(runs), where_of(part, chosen)
        if critical is None:
            unclear.append(f"{name}: no rate is a number")
        elif math.isfinite(critical.radius.value):
            of_kind = f" for {name}" if chosen else ""
            turn.append((critical.radius.value, f"{turning_words(critical, **where)}{of_kind}"))
        elif critical.shrinking == critical.networks:
            shrink.append(name)
        elif critical.growing == critical.networks:
            grow.append(name)
        else:
            turns = count_of(critical.turning, "turning", **where)
            unclear.append(
                f"{name}: {turns} of {count_of(critical.networks, 'networks', **where)} networks {'turns' if critical.turning == 1 else 'turn'} within the {symbol} tried"
            )
    low, high = (marked(number(r), "setting", r, axis=axis) for r in (radii[0], radii[-1]))
    sentences = []
    if len(turn) > 4:
        (_, first), *_, (_, last) = sorted(turn, key=lambda each: each[0])
        sentences.append(
            f"Going back in time, the growth rate turns from negative to positive at a {label} between {first} and {last}. "
            "The table has all of them."
        )
    elif len(turn) > 2:
        sentences.append(
            f"Going back in time, the growth rate turns from negative to positive at these {plural_of(axis)} {symbol}: {itemized(each for _, each in turn)}."
        )
    elif turn:
        sentences.append(
            f"Going back in time, the growth rate turns from negative to positive at {label} = {listed(each for _, each in turn)}."
        )
    if len(shrink) > 1 and not (turn or grow or unclear):
        sentences.append(f"Going back in time, the growth rate is negative at every {symbol} from {low} to {high}, in every network.")  # fmt: skip
    elif shrink:
        sentences.append(f"For {few(shrink)} it is negative at every {symbol} from {low} to {high}." if turn else
                     f"Going back in time, the growth rate{_of(shrink)} is negative at every {symbol} from {low} to {high}, in every network.")  # fmt: skip
    if grow:
        sentences.append(
            f"The growth rate{_of(grow)} is positive at every {symbol} from {low} to {high}, in every network."
        )
    if unclear:
        sentences += [f"There is no single {symbol} at which growth turns for {kind}." for kind in unclear[:3]]
        if len(unclear) > 3:
            sentences.append(f"Nor is there one for {spelled(len(unclear) - 3)} more.")
    return " ".join(sentences)


def regimes_sentence(part: measures.Part, runs: pd.DataFrame) -> str:
    """How many networks keep their gradient at the longest sequence, and at the shortest."""
    starts = measures.starts(runs[runs["sweep"] == part.sweep])
    lengths = sorted(starts["sequence_length"].unique())
    if len(starts) == 1:
        return _of_one_network(part, starts)
    phrases: list[str] = []
    for T in dict.fromkeys((lengths[-1], lengths[0])):
        at_length = starts[starts["sequence_length"] == T]
        where = {"sweep": part.sweep, "sequence_length": T}
        counts = measures.regime_counts(at_length)
        total = count_of(len(at_length), "starts", **where)
        over = f"Over {over_steps(at_length)}"
        stay = count_of(counts["stable"], "regime_count", regime="stable", **where)
        if not phrases:
            vanish, explode = (
                count_of(counts[r], "regime_count", regime=r, **where) for r in ("vanishing", "exploding")
            )
            without_number = counts["not finite"]
            no_number = (
                f", {count_of(without_number, 'regime_count', regime='not finite', **where)} without a number"
                if without_number
                else ""
            )
            phrases.append(
                f"{over}, {stay} of {total} networks {'keeps its' if counts['stable'] == 1 else 'keep their'} gradient "
                f"within a factor of 100 ({vanish} {_verb('vanishing', counts)}, {explode} {_verb('exploding', counts)}{no_number})"
            )
        else:
            phrases.append(f"{over}, {stay} of {total} {'does' if counts['stable'] == 1 else 'do'}")
    return ". ".join(phrases) + "."


def _verb(regime: str, counts: Mapping[str, int]) -> str:
    return VERBS[regime][counts[regime] != 1]


def _of_one_network(part: measures.Part, starts: pd.DataFrame) -> str:
    """What became of the gradient of a study's only network."""
    row = starts.iloc[0]
    over = f"Over {over_steps(starts)}"
    ratio = float(row["log10_gradient_ratio"])
    if math.isnan(ratio):
        return f"{over} the gradient of the one network is not a number."
    verb = {"vanishing": "vanishes", "stable": "stays within a factor of 100", "exploding": "explodes"}[
        str(row["regime"])
    ]
    text = f"{over} the gradient of the one network {verb} on its way back"
    if math.isinf(ratio):
        return f"{text}: it becomes exactly zero."
    change = marked(("+" if ratio > 0 else "") + decimals(ratio, 1), "median_decades", ratio, sweep=part.sweep)
    return f"{text}: it changes by {change} decades."


def split_sentence(part: measures.Part) -> str:
    """Where no spectral radius varies: which kinds of network vanish, stay and explode, and which are split.

    Nothing where all do the same: ``regimes_sentence`` has said it.
    """
    if not part.axes:
        return ""
    if part.column == "sequence_length":
        return lengths_sentence(part)
    alike: dict[str, list[str]] = {}
    split = []
    axes = [axis for axis in part.axes if axis == part.column or not measures.alike(part, part.rows, axis)]
    if not axes:  # the counts say all
        return ""
    for chosen, runs in measures.grouped(part.runs, axes):
        counts = measures.regime_counts(runs)
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
    if len(alike) == 1 and not split:
        return ""
    phrases = [f"{words[regime]} for {few(names, 6)}" for regime, names in alike.items()]
    text = f"In every network, gradients {'. They '.join(phrases)}." if phrases else ""
    return " ".join([text, *([f"Networks of one kind disagree for {few(split, 3)}."] if split else [])]).strip()


def lengths_sentence(part: measures.Part) -> str:
    """Up to which length every network of a kind keeps its gradient, and from which on all vanish, or all explode.

    Of many kinds the table tells.
    """
    said: dict[str, tuple[str, list[str]]] = {}
    kinds = measures.grouped(part.runs, part.rows)
    for chosen, runs in kinds:
        text = _up_to(runs)
        said.setdefault(plain(text), (text, []))[1].append(name_of(chosen) if chosen else "")
    if len(said) > MOST_TOLD or (len(said) == 1 and len(part.runs) == (part.runs["regime"] == "stable").sum()):
        return ""
    sentences = []
    for text, names in said.values():
        whose = "of every network" + (f", for {few(names, 4)}," if len(said) > 1 else "")
        sentences += [f"Gradients {whose} {text}."] if text else []
    return " ".join(sentences)


def _up_to(runs: pd.DataFrame) -> str:
    """stay within a factor of 100 up to T = 20, and vanish from T = 40 on; empty where no length has one regime alone."""
    lengths = sorted(runs["sequence_length"].unique())
    alike = {}
    for T, rows in runs.groupby("sequence_length"):
        counts = measures.regime_counts(rows)
        alike[T] = next((regime for regime, count in counts.items() if count == len(rows)), "")
    staying = list(itertools.takewhile(lambda T: alike[T] == "stable", lengths))
    last = alike[lengths[-1]]
    ending = list(itertools.takewhile(lambda T: alike[T] == last, reversed(lengths))) if last in VERBS else []
    phrases = []
    if len(staying) == len(lengths):
        return "stay within a factor of 100 at every T tried"
    if len(ending) == len(lengths):
        return f"{VERBS[last][1]} at every T tried"
    if staying:
        phrases.append(
            f"stay within a factor of 100 up to T = {marked_count(staying[-1], 'setting', axis='sequence_length')}"
        )
    if ending:
        stay = "stay within a factor of 100" if last == "stable" else VERBS[last][1]
        phrases.append(f"{stay} from T = {marked_count(ending[-1], 'setting', axis='sequence_length')} on")
    return ", and ".join(phrases)


def staying_sentence(part: measures.Part, runs: pd.DataFrame) -> str:
    """At which spectral radii, or weight scales, every network keeps its gradient, at the longest and at the shortest sequence, kind by kind.

    Of many kinds, or where only one network is of a kind, how many networks keep it.
    """
    starts = measures.starts(runs[runs["sweep"] == part.sweep])
    lengths = sorted(starts["sequence_length"].unique())
    kinds = measures.grouped(starts, part.rows)
    if part.column not in measures.SCALES or len(kinds) > 4:
        return regimes_sentence(part, runs)
    axis = part.column
    sentences: list[str] = []
    nowhere: list[int] = []  # the lengths over which no radius does
    kept = False  # whether it is said what the radii are
    for T in dict.fromkeys((lengths[-1], lengths[0])):
        where: dict[str, list[str]] = {}
        for chosen, rows in kinds:
            at_length = rows[rows["sequence_length"] == T]
            stay = [rho for rho, group in at_length.groupby(axis) if (group["regime"] == "stable").all()]
            where.setdefault(radii_words(stay, sorted(at_length[axis].unique()), axis), []).append(name_of(chosen))
        over = f"Over {over_steps(starts[starts['sequence_length'] == T])}"
        if set(where) == {"none"}:
            nowhere.append(T)
            continue
        some = {radii: names for radii, names in where.items() if radii != "none"}
        places = [f"{radii} for {few(names)}" if len(where) > 1 else radii for radii, names in some.items()]
        if len(some) < len(where):
            places.append("none for the others" if len(where["none"]) > 1 else f"none for {where['none'][0]}")
        keeps = "" if kept else f", every network keeps its gradient within a factor of 100 at these {plural_of(axis)}"
        kept = True
        sentences.append(f"{over}{keeps}: {'; '.join(places)}.")
    if nowhere:
        over = f"Over {over_steps(starts[starts['sequence_length'] == nowhere[0]])}"
        if len(nowhere) > 1:
            high, low = (marked_count(T, "setting", axis="sequence_length") for T in nowhere)
            over = f"At both T = {low} and T = {high}"
        none = f"no {measures.symbol_of(axis)} tried lets every network keep its gradient within a factor of 100"
        sentences.insert(0, f"{over}, {none}.")
    return " ".join(sentences)


def _of(names: list[str]) -> str:
    """of relu and tanh; nothing where a study has one kind of network."""
    return "" if names == [name_of({})] else f" of {few(names)}"


def radii_words(stay: list[float], tried: list[float], axis: str = "spectral_radius") -> str:
    """ρ = 1; ρ from 0.9 to 1.1; none."""
    if not stay:
        return "none"
    symbol = measures.symbol_of(axis)
    written = [marked(number(rho), "setting", rho, axis=axis) for rho in stay]
    if len(stay) == 1:
        return f"{symbol} = {written[0]}"
    inside = [rho for rho in tried if stay[0] <= rho <= stay[-1]]
    return f"{symbol} from {written[0]} to {written[-1]}" if inside == stay else f"{symbol} = {few(written, 6)}"
