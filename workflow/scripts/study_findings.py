"""The report's answers in sentences and tables, for whatever the study varies; every number comes from ``study_measures``."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

import study_measures as sm
import study_statistics as stat
import study_tables
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
    percent,
    plain,
    plural_of,
    signed,
    spelled,
)

LN10 = math.log(10.0)
MOST_SENTENCES = 8
MOST_ROWS = 12
WORTH_SAYING = 0.5  # decades over the whole sequence: a smaller difference in growth changes nothing for a reader
Write = Callable[[float], str]  # a number in words
_VERBS = {"vanishing": ("vanishes", "vanish"), "stable": ("stays", "stay"), "exploding": ("explodes", "explode")}
_SYMBOLS = {"vanishing": "▼", "stable": "●", "exploding": "▲"}


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

    part: sm.Part
    row_axes: list[str]
    rows: list[Row]
    notes: list[str]

    @property
    def columns(self) -> list[str]:
        axis = self.part.column
        return [named(axis, value) for value in self.part.columns] if axis else ["all networks"]


@dataclass(frozen=True)
class Sentence:
    """A finding; those with the lowest ``place`` are said first."""

    place: int
    text: str


class Study:
    """Everything that the page says of a study's runs.

    Args:
        runs: the table ``runs``.
        first_updates: of the table ``updates``, run_key, update and truncation_bias of at least the first updates.
    """

    def __init__(self, runs: pd.DataFrame, first_updates: pd.DataFrame | None = None) -> None:
        self.all_runs = runs
        self.runs = runs.drop_duplicates(["sweep", "run_key"])
        self.first_updates = first_updates
        self.parts = sm.parts(self.runs)

    @cached_property
    def _judged(self) -> tuple[list[sm.Comparison], dict[tuple[int, int], tuple[pd.Series, float]]]:
        """All comparisons of the study, and every row's deviation from theory, judged together."""
        comparisons = [each for part in self.parts for each in sm.comparisons_of(part)]
        rows = [
            ((i, j), series)
            for i, part in enumerate(self.parts)
            if not part.trains
            for j, (_, series) in enumerate(sm.deviations(part))
        ]
        judged, p = sm.judged(comparisons, [series for _, series in rows])
        return judged, {key: (series, each) for (key, series), each in zip(rows, p, strict=True)}

    @property
    def comparisons(self) -> list[sm.Comparison]:
        return self._judged[0]

    @property
    def tests(self) -> int:
        """How many tests the study makes, all judged together."""
        return len(self._judged[0]) + len(self._judged[1])

    def theory_tests(self, part: sm.Part) -> list[tuple[dict[str, Any], pd.Series, float]]:
        """Of every row of a part: its settings, its networks' deviations from theory, and their p value."""
        index, found = self.parts.index(part), self._judged[1]
        return [(chosen, *found[index, j]) for j, (chosen, _) in enumerate(sm.deviations(part))]

    @cached_property
    def networks(self) -> pd.DataFrame:
        """All networks before training at the longest sequence of their kind, each once."""
        starts = [part.runs for part in self.parts if not part.trains]
        return pd.concat(starts).drop_duplicates("run_key") if starts else self.runs.iloc[:0]

    def of(self, part: sm.Part, axis: str | None, measure: str = "", pooled: bool | None = None) -> list[sm.Comparison]:
        """Comparisons of a part along ``axis``: over all its settings (``pooled``), at every single one (False), or both."""
        trains = part.trains
        return [
            each
            for each in self.comparisons
            if each.sweep == part.sweep
            and each.axis == axis
            and (each.measure != "growth_rate") == trains
            and each.fixed.get("task") == part.fixed.get("task")
            and (not measure or each.measure == measure)
            and (pooled is None or (set(each.fixed) == set(part.fixed)) == pooled)
        ]

    @cached_property
    def sentences(self) -> list[str]:
        """All findings, the most important first."""
        found: list[Sentence] = []
        for part in self.parts:
            of_part = self._of_training(part) if part.trains else self._of_starts(part)
            later = 20 if self.all_train and not part.trains else 0
            found += [Sentence(each.place + later, self._of_sweep(part, each.text)) for each in of_part]
        found += self._formats() + self._truncation()
        texts = [each.text for each in sorted(found, key=lambda each: each.place) if each.text]
        return list(dict.fromkeys(texts))

    def _of_sweep(self, part: sm.Part, text: str) -> str:
        """The sentence, with its sweep where another sweep has sentences of this kind."""
        alike = [each for each in self.parts if each.trains == part.trains and each.fixed == part.fixed]
        if not text or len(alike) < 2:
            return text
        return f"Sweep {part.sweep}: {'on ' + text[3:] if text.startswith('On ') else text}"

    @cached_property
    def answer(self) -> list[str]:
        """The answer in short: the first findings, as many as make about seven sentences."""
        said: list[str] = []
        room = MOST_SENTENCES
        for text in self.sentences:
            room -= count_sentences(text)
            if room < 0 and said:
                break
            said.append(text)
        return said

    @property
    def more(self) -> list[str]:
        """What else was found."""
        return self.sentences[len(self.answer) :]

    @cached_property
    def tables(self) -> list[Table]:
        """One table a part, in the order of the answers."""
        ordered_parts = sorted(self.parts, key=lambda part: not part.trains) if self.all_train else self.parts
        return [self._training_table(part) if part.trains else start_table(part) for part in ordered_parts]

    @property
    def all_train(self) -> bool:
        """Whether every run trains: then what was learnt is the question, and how the networks started comes after it."""
        return bool((self.runs["updates"] > 0).all())

    # ---- how gradients travel back

    def _of_starts(self, part: sm.Part) -> Iterator[Sentence]:
        if part.column == "spectral_radius":
            yield Sentence(10, turning_sentence(part))
        yield Sentence(11, regimes_sentence(part, self.runs))
        if part.column != "spectral_radius":
            yield Sentence(12, split_sentence(part))
        crowded = len(part.axes) > 3
        for axis in part.axes:
            pooled = self.of(part, axis, "growth_rate", pooled=True)
            if pooled:
                obvious = axis == "activation" and part.column == "spectral_radius"  # each has its own critical radius
                yield Sentence(45 if obvious or crowded else 14, growth_sentence(part, axis, pooled))
        yield Sentence(40, theory_sentence(part, self.theory_tests(part)))

    # ---- what was learnt

    def _of_training(self, part: sm.Part) -> Iterator[Sentence]:
        metric = str(part.runs["metric"].iloc[0])
        later = (
            10 if part is not next(each for each in self.parts if each.trains) else 0
        )  # the largest part speaks first
        yield Sentence(20 + later, learnt_sentence(part))
        own = [each for axis in part.axes for each in self.of(part, axis)]
        if own and all(each.verdict == "few" for each in own) and not part.runs["broken"].all():
            yield Sentence(21 + later, few_seeds_sentence(part, self.of(part, part.column, metric, pooled=True)))
        for axis in part.axes if any(each.verdict != "few" for each in own) else ():
            pooled = self.of(part, axis, metric, pooled=True)
            singly = self.of(part, axis, metric, pooled=False) if axis == part.column else []
            place = 21 if axis == part.column else 31
            yield Sentence(place + later, result_sentence(part, axis, pooled, singly))
        place = 22 if part.runs["broken"].any() else 43
        yield Sentence(place, breakdown_sentence(part, self.of(part, part.column, "broken", pooled=True)))

    def _training_table(self, part: sm.Part) -> Table:
        metric = str(part.runs["metric"].iloc[0])
        rows = []
        for chosen, runs in part.groups():
            cells = [outcome_cell(part, chosen, value, _at(runs, part.column, value)) for value in part.columns]
            own = [c for c in self.of(part, part.column, metric) if _same(c.fixed, {**part.fixed, **chosen})]
            rows.append(Row(chosen, cells, winner(part, own) if part.column else ""))
        return Table(part, part.rows, rows, [])

    # ---- the whole study

    def _formats(self) -> list[Sentence]:
        return [Sentence(50, formats_sentence(self.runs))]

    def _truncation(self) -> list[Sentence]:
        if self.first_updates is None:
            return []
        return [Sentence(35, truncation_sentence(self.runs, self.first_updates))]


def _at(runs: pd.DataFrame, axis: str | None, value: Any) -> pd.DataFrame:
    return sm.where(runs, **{axis: value}) if axis else runs


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Equal settings; a setting that is not set equals itself."""
    if set(one) != set(other):
        return False
    return all(one[k] == other[k] or (pd.isna(one[k]) and pd.isna(other[k])) for k in one)


# ---- phrases


def _count(count: int, kind: str, **where: Any) -> str:
    return marked(str(count) if count else "none", kind, count, **where)


def of_networks(counts: Mapping[str, int], **where: Any) -> str:
    """all 8 vanish; 2 vanish, 1 stays and 5 explode."""
    total = sum(counts.values())
    known = {name: count for name, count in counts.items() if count}
    words = []
    for name, count in known.items():
        verb = _VERBS[name][count != 1] if name in _VERBS else ("has no number" if count == 1 else "have no number")
        whole = f"all {_count(count, 'regime_count', regime=name, **where)}" if count == total and total > 1 else ""
        words.append(f"{whole or _count(count, 'regime_count', regime=name, **where)} {verb}")
    return listed(words)


def interval_words(interval: stat.Interval, write: Write, kind: str, **where: Any) -> str:
    """1.15 to 1.22, a 95 % interval; empty where there is none."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return ""
    ends = [
        marked(write(end), f"{kind}_{side}", end, **where)
        for side, end in (("low", interval.low), ("high", interval.high))
    ]
    return f"{ends[0]} to {ends[1]}"


def _bracketed(*words: str) -> str:
    known = [word for word in words if word]
    return f" ({'; '.join(known)})" if known else ""


def _where(part: sm.Part, chosen: Mapping[str, Any]) -> dict[str, Any]:
    return {"sweep": part.sweep, **part.fixed, **chosen}


def steps_of(part: sm.Part) -> str:
    """T = 400 of the networks of a part, or from 25 to 400."""
    lengths = sorted(part.runs["sequence_length"].unique())
    ends = [marked(str(T), "setting", T, axis="sequence_length") for T in (lengths[0], lengths[-1])]
    return f"T = {ends[1]}" if len(lengths) == 1 else f"T from {ends[0]} to {ends[1]}"


# ---- sentences about starts


def turning_words(critical: sm.Critical, **where: Any) -> str:
    """ρ, its interval, and the networks that never turn: 1.19 (95 % interval 1.15 to 1.22)."""

    def write(value: float) -> str:
        return radius_words(value, critical)

    spread = interval_words(critical.radius, write, "critical_radius", **where) if critical.networks > 1 else ""
    if len({write(end) for end in critical.radius}) == 1 and critical.turning == critical.networks:
        spread = f"the same in all {_count(critical.networks, 'networks', **where)} networks"
    never = critical.networks - critical.turning
    missing = (
        f"{_count(never, 'never_turning', **where)} of {_count(critical.networks, 'networks', **where)} networks never {'turns' if never == 1 else 'turn'}"
        if never
        else ""
    )
    return marked(write(critical.radius.value), "critical_radius", critical.radius.value, **where) + _bracketed(
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
        name, found, where = name_of(chosen), sm.critical(runs), _where(part, chosen)
        if found is None:
            other.append(f"{name}: no rate is a number")
        elif math.isfinite(found.radius.value):
            turn.append((found.radius.value, f"{turning_words(found, **where)} for {name}"))
        elif found.shrinking == found.networks:
            shrink.append(name)
        elif found.growing == found.networks:
            grow.append(name)
        else:
            turns = _count(found.turning, "turning", **where)
            other.append(
                f"{name}: {turns} of {_count(found.networks, 'networks', **where)} networks turn within the ρ tried"
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
        total = _count(len(here), "starts", **where)
        length = marked(str(T), "setting", T, axis="sequence_length")
        stay = _count(counts["stable"], "regime_count", regime="stable", **where)
        if not said:
            vanish, explode = (_count(counts[r], "regime_count", regime=r, **where) for r in ("vanishing", "exploding"))
            lost = counts["not finite"]
            no_number = (
                f", {_count(lost, 'regime_count', regime='not finite', **where)} without a number" if lost else ""
            )
            said.append(
                f"At T = {length} steps, {stay} of {total} networks {'keeps its' if counts['stable'] == 1 else 'keep their'} gradient "
                f"within a factor of 100 on its way back ({vanish} {_verb('vanishing', counts)}, {explode} {_verb('exploding', counts)}{no_number})"
            )
        else:
            said.append(f"at T = {length} steps {stay} of {total} {'does' if counts['stable'] == 1 else 'do'}")
    return "; ".join(said) + "."


def _verb(regime: str, counts: Mapping[str, int]) -> str:
    return _VERBS[regime][counts[regime] != 1]


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
            split.append(f"{name} ({of_networks(counts, **_where(part, chosen))})")
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
    means = {_key(v): part.runs[_is(part.runs, axis, v)]["growth_rate"].clip(lower=-1e3).mean() for v in values}
    top, low = (pick(values, key=lambda v: means[_key(v)]) for pick in (max, min))
    found = next((c for c in compared if {_key(c.a), _key(c.b)} == {_key(top), _key(low)}), None)
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
        + _bracketed(interval_words(effect, partial(number, digits=2), "growth_difference", **where), _seeds(found))
        + f", or {marked(number(worth, 2), 'growth_difference_decades', worth, **where)} decades over "
        f"{marked(str(steps), 'steps_back', steps, sweep=part.sweep)} steps"
    )
    extremes = f"of the {spelled(len(values))} {plural_of(axis)}, " if len(values) > 2 else ""
    if found.verdict == "few":
        return f"{_too_few(found)} whether gradients grow more per step back with {one} than with {other}: the mean difference is {size}."
    if found.verdict == "none":
        return f"{capital(extremes)}{one} and {other} are furthest apart, without a clear difference: {size}." if extremes else (
            f"Between {one} and {other} there is no clear difference in growth: {size}."
        )  # fmt: skip
    zeros = (
        f" Pairs with a gradient of exactly zero, {_count(found.left_out, 'zero_pairs', **where)} of them, are not in it."
        if found.left_out
        else ""
    )
    return (
        f"{capital(extremes)}{one} keeps {'most' if extremes else 'more'} of the gradient on its way back and {other} {'least' if extremes else 'less'}: "
        f"their growth rates differ by {size}." + zeros
    )


def _sides(found: sm.Comparison) -> dict[str, Any]:
    """The address of a comparison."""
    return {"sweep": found.sweep, "axis": found.axis, "a": found.a, "b": found.b, **found.fixed}


def _seeds(found: sm.Comparison) -> str:
    kind = "seeds_of_growth" if found.measure == "growth_rate" else "seeds_of_results"
    return _count(found.seeds, kind, **_sides(found)) + (" seed" if found.seeds == 1 else " seeds")


def _over_settings(found: sm.Comparison) -> str:
    """, the mean over 12 settings; nothing where there is one."""
    if found.settings == 1:
        return ""
    return f", the mean over {_count(found.settings, 'settings_of_results', **_sides(found))} settings"


def _too_few(found: sm.Comparison) -> str:
    return f"Too few seeds to tell ({_seeds(found)}; at least {spelled(stat.FEWEST_SEEDS)} are needed)"


def _key(value: Any) -> Any:
    return None if pd.isna(value) else value


def _is(runs: pd.DataFrame, axis: str, value: Any) -> pd.Series:
    return runs[axis].isna() if _key(value) is None else runs[axis] == value


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
        f"of {_count(len(known), 'predicted', **where)} networks"
    )
    off = []
    for chosen, found in clearly_off(tests, steps):
        here = _where(part, chosen)
        size = marked(signed(found.value, 2), "mean_deviation", found.value, **here)
        spread = interval_words(found, partial(signed, digits=2), "mean_deviation", **here)
        off.append(f"{size}{_bracketed(spread)} for {name_of(chosen)}")
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
    total = _count(len(starts), "distinct_starts")
    lost = {name: int(starts[f"{name}_flushed_at"].notna().sum()) for name in reversed(study_tables.FORMATS)}
    over = {name: int(starts[f"{name}_overflowed_at"].notna().sum()) for name in reversed(study_tables.FORMATS)}
    if len(starts) == 1:
        return _formats_of_one(lost, over)
    if not any(lost.values()) and not any(over.values()):
        return f"In none of {total} starting networks would float16, bfloat16 or float32 have lost the whole gradient on its way back, or let it overflow."
    of = f" of {total} starting networks"
    words = [f"{_count(count, 'format_lost', format=name)}{{}} as {name}" for name, count in lost.items()]
    said = listed(word.format(of if i == 0 else "") for i, word in enumerate(words))
    text = f"Stored as plain floats, the whole gradient would be lost on its way back in {said}."
    inf = [f"{_count(count, 'format_overflowed', format=name)} as {name}" for name, count in over.items() if count]
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


def truncation_sentence(runs: pd.DataFrame, updates: pd.DataFrame) -> str:
    """How far truncated gradients are from the full ones at the start; empty where nothing is truncated."""
    first = updates[updates["update"] == 0].drop_duplicates("run_key")
    cut = runs.drop_duplicates("run_key").dropna(subset=["truncation"]).merge(first, on="run_key")
    if cut.empty:
        return ""
    medians = cut.groupby("truncation")["truncation_bias"].median()
    parts = [
        f"{marked(f'{100 * bias:.2g} %', 'truncation_bias', bias, truncation=k)} (k = {int(k)})"
        for k, bias in medians.items()
    ]
    return f"Truncation to k steps changes the gradient that training starts with by {listed(parts)} of its norm, in the median over the runs."


# ---- sentences about training


def _write(metric: str) -> Write:
    """How a result is written."""
    return percent if metric == "held_out_accuracy" else partial(number, digits=3)


def _called(metric: str) -> str:
    return "held-out accuracy" if metric == "held_out_accuracy" else "held-out loss"


def task_of(part: sm.Part) -> str:
    return str(part.runs["task"].iloc[0])


def learnt_sentence(part: sm.Part) -> str:
    """The best setting's result, with its interval, beside what a prediction gets that has learnt nothing."""
    metric, runs = str(part.runs["metric"].iloc[0]), part.runs
    if not np.isfinite(runs["result"]).any():
        return ""
    if runs["broken"].all():
        total = _count(len(runs), "trained_runs", sweep=part.sweep, **part.fixed)
        return f"On {task_of(part)} no run comes to the end of its training: all {total} break down at a value that is not finite."
    sign = 1.0 if metric == "held_out_accuracy" else -1.0
    groups = sm.grouped(runs, part.axes)
    chosen, best = max(groups, key=lambda group: sign * sm.outcome(group[1]).value)
    found, where, write = sm.outcome(best), _where(part, chosen), _write(metric)
    nothing = float(runs["baseline"].mean())
    which = (
        f"the best of {_count(len(groups), 'settings_trained', sweep=part.sweep, **part.fixed)} settings, {name_of(chosen)}, reaches"
        if len(groups) > 1
        else "training reaches"
    )
    seeds = best["seed"].nunique()
    text = (
        f"On {task_of(part)}, {which} {_called(metric)} {marked(write(found.value), 'outcome', found.value, **where)}"
        + _bracketed(
            interval_words(found, write, "outcome", **where),
            _count(seeds, "seeds_trained", **where) + (" seeds" if seeds > 1 else " seed"),
        )
    )
    least = marked(write(nothing), "baseline", nothing, sweep=part.sweep, **part.fixed)
    return text + (
        f"; always naming the commonest class gets {least}."
        if metric == "held_out_accuracy"
        else f"; the best constant prediction gets {least}."
    )


def few_seeds_sentence(part: sm.Part, pooled: list[sm.Comparison]) -> str:
    """That nothing can be compared, with the largest difference along the axis that is asked about."""
    if not pooled:
        return ""
    largest = max(pooled, key=lambda each: abs(each.effect.value))
    sign = 1.0 if (largest.effect.value >= 0) == (largest.measure == "held_out_accuracy") else -1.0
    one, other = (largest.a, largest.b) if sign > 0 else (largest.b, largest.a)
    axis = str(part.column)
    return (
        f"With {_seeds(largest)}, no difference in what was learnt on {task_of(part)} can be told from chance; at least "
        f"{spelled(stat.FEWEST_SEEDS)} seeds are needed. The largest mean difference between {plural_of(axis)} is {effect_words(largest, sign)} "
        f"for {named(axis, one)} against {named(axis, other)}."
    )


def _points(value: float) -> str:
    """A difference of accuracies in percentage points: +12.3."""
    return signed(round(100 * value, 1), 3)


def effect_words(found: sm.Comparison, sign: float) -> str:
    """By how much the first value is ahead: +12 points; a loss 3.2 times lower."""
    effect = found.effect
    where = _sides(found)
    if found.measure == "held_out_loss":
        ratio = stat.Interval(*(10.0 ** (-sign * end) for end in effect))  # how many times lower the loss is
        low, high = sorted((ratio.low, ratio.high))
        times = stat.Interval(ratio.value, low, high)
        write: Write = partial(number, digits=3)
        kind = "loss_ratio" if sign > 0 else "loss_ratio_back"
        return f"a loss {marked(write(times.value), kind, times.value, **where)} times lower" + _bracketed(
            interval_words(times, write, kind, **where), _seeds(found)
        )
    low, high = sorted((sign * effect.low, sign * effect.high))
    points = stat.Interval(sign * effect.value, low, high)
    write = _points
    kind = "accuracy_difference" if sign > 0 else "accuracy_difference_back"
    return f"{marked(write(points.value), kind, points.value, **where)} points" + _bracketed(
        interval_words(points, write, kind, **where), _seeds(found)
    )


def _ranked(part: sm.Part, axis: str, runs: pd.DataFrame) -> list[Any]:
    """The values of an axis, best result first."""
    metric = str(part.runs["metric"].iloc[0])
    sign = 1.0 if metric == "held_out_accuracy" else -1.0
    values = ordered(axis, runs[axis])
    results = {_key(v): sm.outcome(runs[_is(runs, axis, v)]).value for v in values}
    return sorted(values, key=lambda v: -sign * results[_key(v)])


def _between(compared: list[sm.Comparison], one: Any, other: Any) -> tuple[sm.Comparison, float] | None:
    """The comparison of two values, and +1 if ``one`` is its first."""
    for each in compared:
        if (_key(each.a), _key(each.b)) == (_key(one), _key(other)):
            return each, 1.0
        if (_key(each.a), _key(each.b)) == (_key(other), _key(one)):
            return each, -1.0
    return None


def _is_better(found: sm.Comparison, sign: float) -> bool:
    return found.better == ("a" if sign > 0 else "b")


def result_sentence(part: sm.Part, axis: str, pooled: list[sm.Comparison], singly: list[sm.Comparison]) -> str:
    """Which value of an axis learns best, by how much, with interval; or that there is no clear difference."""
    if not pooled:
        return ""
    if depends(part, singly):
        return depends_sentence(part, singly)
    first, *rest = _ranked(part, axis, part.runs)
    pairs = [(other, found) for other in rest if (found := _between(pooled, first, other))]
    if not pairs:
        return ""
    task, one = task_of(part), named(axis, first)
    over = _over_settings(pairs[0][1][0])
    ahead = [(other, found) for other, found in pairs if _is_better(*found)]
    elsewhere = [each for each in pooled if each.better]
    if ahead:
        against = few([f"{effect_words(*found)} against {named(axis, other)}" for other, found in ahead], 3)
        open_ = [named(axis, other) for other, found in pairs if (other, found) not in ahead]
        if open_:
            text = f"On {task}, {one} is ahead: {against}{over}. It cannot be told from {few(open_, last='or')}."
        else:
            of = f" of the {spelled(len(rest) + 1)} {plural_of(axis)}" if len(rest) > 1 else ""
            text = f"On {task}, {one} learns best{of}: {against}{over}."
    elif elsewhere:
        largest = max(elsewhere, key=lambda each: abs(each.effect.value))
        sign = 1.0 if largest.better == "a" else -1.0
        better, worse = (largest.a, largest.b) if sign > 0 else (largest.b, largest.a)
        text = f"On {task}, {named(axis, better)} is ahead of {named(axis, worse)}: {effect_words(largest, sign)}{over}. No one of the {spelled(len(rest) + 1)} {plural_of(axis)} is clearly best."
    elif any(found.verdict == "few" for _, (found, _) in pairs):
        other, found = pairs[-1]
        text = f"{_too_few(found[0])} whether {one} learns {task} better than {named(axis, other)}: the mean difference is {effect_words(*found)}{over}."
    else:
        other, found = pairs[-1]
        values = [named(axis, v) for v in (first, *rest)]
        names = listed(values) if len(rest) < 4 else f"the {spelled(len(values))} {plural_of(axis)}"
        text = f"On {task}, there is no clear difference between {names}: {effect_words(*found)} for {one} against {named(axis, other)}{over}."
    return text + _singly(part, singly)


def depends(part: sm.Part, singly: list[sm.Comparison]) -> str:
    """Of two values, each clearly better in some settings: what that depends on, in words; empty where it is not so."""
    if len(part.columns) != 2 or not {"a", "b"} <= {each.better for each in singly}:
        return ""
    for name in part.rows:
        better, worse = ({_key(each.fixed[name]) for each in singly if each.better == side} for side in "ab")
        if not better & worse:
            one, other = (listed(named(name, v) for v in ordered(name, values)) for values in (better, worse))
            return f"helps only at {one} and harms only at {other}"
    return "helps in some settings and harms in others"


def depends_sentence(part: sm.Part, singly: list[sm.Comparison]) -> str:
    """Of two values, each clearly better in some settings: where, by how much at most, and which other setting decides."""
    axis, a, b = str(part.column), singly[0].a, singly[0].b
    where = {"sweep": part.sweep, "axis": axis, "a": a, "b": b, **part.fixed}
    groups = {side: [each for each in singly if each.better == side] for side in "ab"}
    words = []
    for side, word in (("a", "better"), ("b", "worse")):
        count = _count(len(groups[side]), f"clearly_{word}", **where)
        of = f" of {_count(len(singly), 'single_settings', **where)} settings" if side == "a" else ""
        most = max(groups[side], key=lambda each: abs(each.effect.value))
        setting = name_of({name: value for name, value in most.fixed.items() if name not in part.fixed})
        ahead = f"{named(axis, b)} ahead by " if side == "b" else ""
        size = effect_words(most, 1.0 if side == "a" else -1.0)
        words.append(f"clearly {word} in {count}{of}, most for {setting}: {ahead}{size}")
    return (
        f"On {task_of(part)}, {named(axis, a)} {depends(part, singly)}. "
        f"Against {named(axis, b)} it is {words[0]}; and {words[1]}."
    )


def _singly(part: sm.Part, singly: list[sm.Comparison]) -> str:
    """In how many single settings the second value beats the reference, of two values."""
    if len(part.columns) != 2 or len(singly) < 2:
        return ""
    a, b = singly[0].a, singly[0].b
    where = {"sweep": part.sweep, "axis": part.column, "a": a, "b": b, **part.fixed}
    if all(each.verdict == "few" for each in singly):
        return ""
    counts = {side: sum(each.better == side for each in singly) for side in "ab"}
    better, worse = (
        _count(counts[side], f"clearly_{word}", **where) for side, word in (("a", "better"), ("b", "worse"))
    )
    axis = str(part.column)
    return f" Setting by setting, {named(axis, a)} is clearly better than {named(axis, b)} in {better} of {_count(len(singly), 'single_settings', **where)} and clearly worse in {worse}."


def breakdown_sentence(part: sm.Part, compared: list[sm.Comparison]) -> str:
    """How many runs break down, by the axis that is asked about, and whether that differs clearly."""
    runs = part.runs
    where = {"sweep": part.sweep, **part.fixed}
    total = _count(len(runs), "trained_runs", **where)
    if not runs["broken"].any():
        return f"No run on {task_of(part)} breaks down: loss, gradients and parameters stay finite in all {total}."
    if runs["broken"].all():
        return ""
    by_value = {value: int(_at(runs, part.column, value)["broken"].sum()) for value in part.columns}
    groups = [[value] for value, count in by_value.items() if count]
    whole = [value for value, count in by_value.items() if not count]
    words = [_breakdowns(part, runs, values, where) for values in [*groups, *([whole] if whole else [])]]
    clear = [each for each in compared if each.verdict in ("higher", "lower")]
    few_seeds = any(each.verdict == "few" for each in compared)
    tail = ""
    if compared:
        tail = (
            "; a clear difference"
            if clear
            else "; too few seeds to tell whether that differs"
            if few_seeds
            else "; no clear difference"
        )
    return f"Runs on {task_of(part)} that break down at a value that is not finite: {few(words, 6)}{tail}."


def _breakdowns(part: sm.Part, runs: pd.DataFrame, values: list[Any], where: Mapping[str, Any]) -> str:
    """5 of 18 (12 % to 51 %) with no clipping."""
    axis = part.column
    rows = pd.concat([_at(runs, axis, value) for value in values])
    here = {**where, **({axis: values[0] if len(values) == 1 else values} if axis else {})}
    count = int(rows["broken"].sum())
    share = interval_words(stat.proportion(count, len(rows)), percent, "broken_share", **here)
    with_ = f" with {few([named(axis, value) for value in values])}" if axis else ""
    return f"{_count(count, 'broken', **here)} of {_count(len(rows), 'trained_runs', **here)}{_bracketed(share)}{with_}"


# ---- tables


def start_table(part: sm.Part) -> Table:
    """Regimes by the part's column axis; rows that say the same are said together."""
    axes, notes = list(part.rows), []
    for axis in part.rows:
        if len(axes) and _alike(part, axes, axis):
            axes.remove(axis)
            values = listed(named(axis, v) for v in ordered(axis, part.runs[axis]))
            notes.append(
                f"{capital(values)} agree in every cell, so each row counts the networks of {'both' if part.runs[axis].nunique() == 2 else 'all'}."
            )
    while axes and len(sm.grouped(part.runs, axes)) > MOST_ROWS:
        axis = min(axes, key=lambda each: _spread(part, each))
        axes.remove(axis)
        values = few([named(axis, v) for v in ordered(axis, part.runs[axis])], 5)
        notes.append(f"Each row counts the networks of {values} together.")
    rows = []
    for chosen, runs in sm.grouped(part.runs, axes):
        cells = [regime_cell(part, chosen, value, _at(runs, part.column, value)) for value in part.columns]
        rows.append(Row(chosen, cells, row_words(part, chosen, runs)))
    return Table(part, axes, rows, notes)


def _alike(part: sm.Part, axes: list[str], axis: str) -> bool:
    """Whether the values of ``axis`` have the same regimes everywhere and the same decades to a tenth."""
    others = [each for each in axes if each != axis] + ([part.column] if part.column else [])
    runs = part.runs.assign(
        shown=part.runs["log10_gradient_ratio"].round(1).astype(str) + part.runs["regime"].fillna("").astype(str)
    )
    keys = ["seed", *others]
    groups = runs.groupby(keys, dropna=False)
    return bool(
        (groups["shown"].nunique() == 1).all()
        and (groups[axis].nunique(dropna=False) == part.runs[axis].nunique(dropna=False)).all()
    )


def _spread(part: sm.Part, axis: str) -> float:
    """How far the mean growth of the axis' values lies apart."""
    means = part.runs.assign(rate=part.runs["growth_rate"].clip(-10, 10)).groupby(axis, dropna=False)["rate"].mean()
    return float(means.max() - means.min())


def regime_cell(part: sm.Part, chosen: Mapping[str, Any], column: Any, runs: pd.DataFrame) -> Cell:
    """Median decades, and how many networks vanish, stay and explode."""
    if runs.empty:
        return Cell("–", "none")
    where = _where(part, chosen) | ({part.column: column} if part.column else {})
    counts = sm.regime_counts(runs)
    middle = (
        stat.median(runs["log10_gradient_ratio"].dropna().to_numpy()).value
        if counts["not finite"] < len(runs)
        else math.nan
    )
    text = "not finite" if math.isnan(middle) else "exactly 0" if middle == -math.inf else decimals(middle, 1)
    if math.isfinite(middle) and middle > 0:
        text = f"+{text}"
    regime = next((name for name, count in counts.items() if count == len(runs)), "split")
    known = {name: count for name, count in counts.items() if count}
    if regime != "split":
        symbol = _SYMBOLS.get(regime, "")
        count = _count(len(runs), "regime_count", regime=regime, **where)
        verb = _VERBS[regime][len(runs) != 1] if regime in _VERBS else "without a number"
        notes = (
            [f"{symbol} {'all ' if len(runs) > 1 else ''}{count} {verb}".strip()]
            if len(runs) > 1
            else [f"{symbol} {verb}".strip()]
        )
    else:
        notes = [
            f"{_SYMBOLS.get(name, '')} {_count(count, 'regime_count', regime=name, **where)} {_VERBS[name][count != 1] if name in _VERBS else 'no number'}".strip()
            for name, count in known.items()
        ]
    shown = text if math.isnan(middle) else marked(text, "median_decades", middle, **where)
    return Cell(shown, regime.replace(" ", "-"), notes, middle)


def row_words(part: sm.Part, chosen: Mapping[str, Any], runs: pd.DataFrame) -> str:
    """Where a row turns, or how many of its networks keep their gradient."""
    where = _where(part, chosen)
    found = sm.critical(runs) if part.column == "spectral_radius" else None
    if found is None:
        counts = sm.regime_counts(runs)
        return f"{_count(counts['stable'], 'regime_count', regime='stable', **where)} of {_count(len(runs), 'starts_at_longest', **where)} stay"
    if math.isfinite(found.radius.value):
        theory = sm.critical(runs, "predicted_rate")
        said = ""
        if theory is not None and math.isfinite(theory.radius.value):
            said = f"; theory: {marked(radius_words(theory.radius.value, theory), 'predicted_radius', theory.radius.value, **where)}"
        return f"turns at ρ = {turning_words(found, **where)}{said}"
    if found.shrinking == found.networks:
        return "shrinks at every ρ, in every network"
    if found.growing == found.networks:
        return "grows at every ρ, in every network"
    return f"{_count(found.turning, 'turning', **where)} of {_count(found.networks, 'networks', **where)} networks turn"


def outcome_cell(part: sm.Part, chosen: Mapping[str, Any], column: Any, runs: pd.DataFrame) -> Cell:
    """Mean result with its interval, and how many runs broke down."""
    if runs.empty:
        return Cell("–", "none")
    metric = str(part.runs["metric"].iloc[0])
    where = _where(part, chosen) | ({part.column: column} if part.column else {})
    broken, write, found = int(runs["broken"].sum()), _write(metric), sm.outcome(runs)
    notes = []
    if not math.isnan(found.low):
        ends = [
            marked(write(end), f"outcome_{side}", end, **where)
            for side, end in (("low", found.low), ("high", found.high))
        ]
        notes.append(f"{ends[0]} to {ends[1]}")
    if broken:
        notes.append(f"{_count(broken, 'broken', **where)} of {_count(len(runs), 'trained_runs', **where)} broke down")
    if math.isnan(found.value):
        return Cell("no result", "broken", notes)
    mark = "broken" if broken == len(runs) else "partly-broken" if broken else "whole"
    return Cell(marked(write(found.value), "outcome", found.value, **where), mark, notes, found.value)


def winner(part: sm.Part, compared: list[sm.Comparison]) -> str:
    """Of one row: which value is clearly better, by how much, than the reference or than the worst; or why that is open."""
    axis = str(part.column)
    if not compared:
        return "nothing to compare"
    values = [value for value in part.columns if any(_key(value) in (_key(c.a), _key(c.b)) for c in compared)]
    reference = sm.REFERENCE.get(axis, "")
    if axis in sm.REFERENCE and any(_key(v) == reference for v in values):
        against = [(v, _between(compared, v, reference)) for v in values if _key(v) != reference]
        clear = [(v, found) for v, found in against if found and found[0].better]
        if clear:
            words = []
            for v, (found, sign) in clear:
                ahead = _is_better(found, sign)
                words.append(
                    f"{named(axis, v) if ahead else named(axis, reference)} better: {effect_words(found, sign if ahead else -sign)}"
                )
            return "; ".join(words)
    else:
        clear_pairs = [c for c in compared if c.better]
        if clear_pairs:
            best = max(clear_pairs, key=lambda c: abs(c.effect.value))
            sign = 1.0 if best.better == "a" else -1.0
            one, other = (best.a, best.b) if sign > 0 else (best.b, best.a)
            return f"{named(axis, one)} better than {named(axis, other)}: {effect_words(best, sign)}"
    if all(c.verdict == "few" for c in compared):
        return f"too few seeds to tell ({_seeds(min(compared, key=lambda c: c.seeds))})"
    return "no clear difference"


def count_sentences(text: str) -> int:
    """How many sentences a finding has."""
    return plain(text).count(". ") + 1


# ---- checks of the engine


def check_sentence(checks: pd.DataFrame) -> str:
    """How well the engine agreed with the independent programs."""
    finite = checks.dropna(subset=["relative_error"])
    total = _count(len(checks), "checks")
    if finite.empty:
        return f"no check of {total} had a finite result to compare"
    worst = finite.groupby("dtype")["relative_error"].max().sort_values()
    said = [
        f"{marked(number(error, 2), 'worst_check', error, dtype=dtype)} in {dtype}" for dtype, error in worst.items()
    ]
    return f"engine compared with PyTorch {total} times, worst relative error {listed(said)}"
