"""The report's answers, for whatever the study varies: its findings in order, and its tables; every number is one of ``study.report.measures``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from study.report import measures
from study.report.answer_tables import Row, Table, outcome_cell, shortened, start_table, winner
from study.report.phrases import at_value
from study.report.sentences.breakdown import breakdown_sentence, truncation_sentence
from study.report.sentences.formats import formats_sentence
from study.report.sentences.growth import growth_sentence
from study.report.sentences.success import success_sentence
from study.report.sentences.theory import forgetting_sentence, rest_sentence, theories_sentence, theory_sentence
from study.report.sentences.training import few_seeds_sentence, learnt_sentence, result_sentence
from study.report.sentences.turning import split_sentence, staying_sentence, turning_sentence
from study.report.sentences.weights import weights_sentence
from study.report.words import listed, plain

BETWEEN_SWEEPS = (
    "cell",
    "activation",
    "initializer",
)  # told where sweeps differ in them, beside what varies within a sweep
MOST_SENTENCES = 11  # of the answer in short: a finding has one to three

BEGINNINGS = (
    "All",
    "At",
    "By",
    "Each",
    "Every",
    "Going",
    "Growth",
    "Half",
    "In",
    "Measured",
    "Networks",
    "No",
    "Not",
    "Of",
    "On",
    "Over",
    "Stored",
    "The",
    "There",
    "Too",
    "Training",
    "Two",
    "With",
)  # words that may lose their capital


@dataclass(frozen=True)
class Sentence:
    """A finding; those with the lowest ``place`` are said first."""

    place: int
    text: str


class Study:
    """Everything that the page says of a study's runs.

    Args:
        runs: the table ``runs``.
        updates: of the table ``updates``, run_key, update and truncation_bias of at least every run's first and last.
        lead: what the study's first figure answers; it is said before all findings.
        sampled: whether dynamic mean field was sampled, whatever came of it.
    """

    def __init__(
        self, runs: pd.DataFrame, updates: pd.DataFrame | None = None, lead: Sequence[str] = (), sampled: bool = False
    ) -> None:
        runs = measures.flags_as_numbers(runs)
        self.lead, self.sampled = list(lead), sampled or bool(runs["dynamic_rate"].notna().any())
        self.all_runs = runs
        self.runs = runs.drop_duplicates(["sweep", "run_key"])
        self.updates = updates
        self.parts = measures.parts_of(self.runs)

    @cached_property
    def _judged(self) -> tuple[list[measures.Comparison], dict[tuple[int, int], tuple[pd.Series, float]]]:
        """All comparisons of the study, and every row's deviation from theory, judged together."""
        comparisons = [each for part in self.parts for each in measures.comparisons_of(part)]
        rows = [
            ((i, j), series)
            for i, part in enumerate(self.parts)
            if not part.trains
            for j, (_, series) in enumerate(measures.deviations(part))
        ]
        judged, p = measures.judged(comparisons, [series for _, series in rows])
        return judged, {key: (series, each) for (key, series), each in zip(rows, p, strict=True)}

    @property
    def comparisons(self) -> list[measures.Comparison]:
        return self._judged[0]

    @property
    def tests(self) -> int:
        """How many tests the study makes, all judged together."""
        return len(self._judged[0]) + len(self._judged[1])

    def theory_tests(self, part: measures.Part) -> list[tuple[dict[str, Any], pd.Series, float]]:
        """Of every row of a part: its settings, its networks' deviations from theory, and their p value."""
        index, tested = self.parts.index(part), self._judged[1]
        return [(chosen, *tested[index, j]) for j, (chosen, _) in enumerate(measures.deviations(part))]

    @property
    def trained_parts(self) -> list[measures.Part]:
        """The parts that train."""
        return [part for part in self.parts if part.trains]

    @property
    def start_parts(self) -> list[measures.Part]:
        """The parts of networks before training."""
        return [part for part in self.parts if not part.trains]

    @cached_property
    def networks(self) -> pd.DataFrame:
        """All networks before training at the longest sequence of their kind, each once, whatever ways of training share it."""
        starts = [part.runs for part in self.start_parts]
        return measures.distinct_starts(pd.concat(starts)) if starts else self.runs.iloc[:0]

    def settings_of(self, part: measures.Part, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """These settings of a part's networks, and what tells the part from other sweeps: ε = 1 of a study of other cells, too, is antisymmetric.

        Where networks of other sweeps have all of these settings, too, what tells them apart is added: flossing, say.
        """
        return measures.settings_of(part, chosen, self.networks, self._varied, BETWEEN_SWEEPS, self._within)

    @cached_property
    def _varied(self) -> list[str]:
        """The settings that tell the study's networks apart, those first that are always told."""
        every = measures.varied(self.networks, (*measures.TRAINING, "sequence_length"))
        always = [axis for axis in BETWEEN_SWEEPS if self.networks[axis].nunique() > 1]
        return [*always, *(axis for axis in every if axis not in always)]

    @cached_property
    def _within(self) -> set[str]:
        """Those that some sweep varies itself. The sweep's own runs say so: of ``networks``, one that two sweeps share is in the first alone."""
        return {a for a in self._varied for part in self.start_parts if part.runs[a].nunique(dropna=False) > 1}

    def of(
        self, part: measures.Part, axis: str | None, measure: str = "", pooled: bool | None = None
    ) -> list[measures.Comparison]:
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
        findings: list[Sentence] = []
        for part in self.parts:
            of_part = self._of_training(part) if part.trains else self._of_starts(part)
            later = 20 if self.all_train and not part.trains else 0
            findings += [Sentence(each.place + later, self.of_sweep(part, each.text)) for each in of_part]
        findings += self._at_rest() + self._formats() + self._truncation()
        texts = [each.text for each in sorted(findings, key=lambda each: each.place) if each.text]
        return list(dict.fromkeys(texts))

    def of_sweep(self, part: measures.Part, text: str) -> str:
        """The sentence, with its sweep where another sweep has sentences of this kind."""
        alike = [each for each in self.parts if each.trains == part.trains and each.fixed == part.fixed]
        if not text or len(alike) < 2:
            return text
        first = text.split(" ")[0]
        sweep = f"Sweep{'s' if part.also else ''} {listed(part.sweeps)}"
        return f"{sweep}: {text[0].lower() + text[1:] if first in BEGINNINGS else text}"

    @cached_property
    def answer(self) -> list[str]:
        """The answer in short: what the first figure answers, and the first findings, as many as make about ten sentences."""
        answers = list(self.lead)
        sentences_left = MOST_SENTENCES - sum(map(count_sentences, self.lead))
        for text in self.sentences:
            sentences_left -= count_sentences(text)
            if sentences_left < 0 and answers:
                break
            answers.append(text)
        return answers

    @property
    def more(self) -> list[str]:
        """What else was found."""
        return self.sentences[len(self.answer) - len(self.lead) :]

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

    def _of_starts(self, part: measures.Part) -> Iterator[Sentence]:
        if part.column in measures.SCALES:
            yield Sentence(10, turning_sentence(part))
        # How a study's own settings differ is said before how theories do.
        later = 10 if part.column in measures.SCALES else 13
        yield Sentence(40 if self.trained_parts else later, theories_sentence(part))  # what was learnt has to find room
        yield Sentence(11, staying_sentence(part, self.runs))
        if part.column not in measures.SCALES:
            yield Sentence(12, split_sentence(part))
        yield from self._of_growth(part)
        yield Sentence(40, theory_sentence(part, self.theory_tests(part)))
        yield Sentence(41, forgetting_sentence(part))
        yield Sentence(42, weights_sentence(part))

    def _of_growth(self, part: measures.Part) -> Iterator[Sentence]:
        """How growth differs along every axis: what is clear before what is not, and of that the largest first."""
        scaled, crowded = part.column in measures.SCALES, len(part.axes) > 3
        effects = {axis: self.of(part, axis, "growth_rate", pooled=True) for axis in part.axes}
        clear = {
            axis: max((abs(c.effect.value) for c in pooled if c.clear), default=0.0) for axis, pooled in effects.items()
        }
        for axis in sorted(part.axes, key=lambda axis: -clear[axis]):
            obvious = axis == "activation" and scaled  # each has its own critical radius
            place = 45 if obvious or (crowded and not clear[axis]) else 14 if scaled or not clear[axis] else 10
            if self.trained_parts:
                place = max(place, 25)  # what was learnt has to find room
            if effects[axis]:
                singly = self.of(part, axis, "growth_rate", pooled=False)
                yield Sentence(place, growth_sentence(part, axis, effects[axis], singly))

    # ---- what was learnt

    def _of_training(self, part: measures.Part) -> Iterator[Sentence]:
        metric = str(part.runs["metric"].iloc[0])
        largest = self.trained_parts[0]
        later = 0 if part is largest else 10  # it speaks first
        yield Sentence(19 + later, success_sentence(part))
        yield Sentence(20 + later, learnt_sentence(part))
        comparisons = [each for axis in part.axes for each in self.of(part, axis)]
        if comparisons and all(each.verdict == "few" for each in comparisons) and not part.runs["broken"].all():
            yield Sentence(21 + later, few_seeds_sentence(part, self.of(part, part.column, metric, pooled=True)))
        for axis in part.axes if any(each.verdict != "few" for each in comparisons) else ():
            pooled = self.of(part, axis, metric, pooled=True)
            singly = self.of(part, axis, metric, pooled=False)
            place = later + (21 if axis == part.column else 31)
            if any(each.better for each in pooled):  # what is clear is said before what is not, wherever it was found
                place = min(place, 22)
            else:
                place = min(place, 23) if any(each.better for each in singly) else max(place, 24)
            yield Sentence(place, result_sentence(part, axis, pooled, singly))
        place = 22 if part.runs["broken"].any() else 43
        yield Sentence(place, breakdown_sentence(part, self.of(part, part.column, "broken", pooled=True)))

    def _training_table(self, part: measures.Part) -> Table:
        metric = str(part.runs["metric"].iloc[0])
        axes, notes = shortened(part)
        rows = []
        for chosen, runs in measures.grouped(part.runs, axes):
            cells = [outcome_cell(part, chosen, value, at_value(runs, part.column, value)) for value in part.columns]
            at_setting = [c for c in self.of(part, part.column) if _same(c.fixed, {**part.fixed, **chosen})]
            by_result, by_breakdowns = (
                [c for c in at_setting if c.measure == measure] for measure in (metric, "broken")
            )
            rows.append(
                Row(
                    chosen,
                    cells,
                    winner(part, runs, by_result, by_breakdowns) if part.column and len(axes) == len(part.rows) else "",
                )
            )
        return Table(part, axes, rows, notes)

    # ---- the whole study

    def _at_rest(self) -> list[Sentence]:
        return [Sentence(40 if self.trained_parts else 10, rest_sentence(self.networks))]

    def _formats(self) -> list[Sentence]:
        return [Sentence(50, formats_sentence(self.runs))]

    def _truncation(self) -> list[Sentence]:
        if self.updates is None:
            return []
        return [Sentence(35, truncation_sentence(self.runs, self.updates))]


def count_sentences(text: str) -> int:
    """How many sentences a finding has."""
    return plain(text).count(". ") + 1


def _same(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Equal settings; a setting that is not set equals itself."""
    if set(first) != set(second):
        return False
    return all(first[k] == second[k] or (pd.isna(first[k]) and pd.isna(second[k])) for k in first)
