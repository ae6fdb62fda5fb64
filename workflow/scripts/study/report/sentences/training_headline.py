"""The headline of the figure of training results: the clearest finding on every task, as short as a headline must be."""

from __future__ import annotations

from typing import Any

from study.report import facets, measures, ranking
from study.report.findings import Study
from study.report.phrases import key_of, knows_nothing, where_of, writer_of
from study.report.sentences.training import depends
from study.report.words import (
    LONGEST_TITLE,
    capital,
    few,
    listed,
    marked,
    named,
    plain,
    plural_of,
    singular_of,
    spelled,
)

FEW = "too few seeds to tell"


def training_headline(study: Study, trained_parts: list[measures.Part]) -> str:
    """The clearest finding on every task; shorter where there are too many."""
    known = [(part, findings(study, part)) for part in trained_parts]
    findings_of = [(part, [text for text, _ in told]) for part, told in known]
    if len(trained_parts) == 1:
        first, *more = findings_of[0][1]
        more = [each for each in more if not each.startswith(FEW)]  # said once
        whole = [
            f"On {trained_parts[0].runs['task'].iloc[0]}, {'; '.join(texts)}."
            for texts in ([first, *more[:1]], [first])
        ]
        return next((text for text in whole if len(plain(text)) <= LONGEST_TITLE), _neutral(trained_parts))
    tasks = {str(part.runs["task"].iloc[0]) for part in trained_parts}
    place = "on" if len(tasks) > 1 else f"on {tasks.pop()}, sweep"
    grouped: dict[str, list[str]] = {}
    for part, texts in findings_of:
        grouped.setdefault(texts[0], []).append(facets.part_name(part, trained_parts))
    text = capital("; ".join(f"{place} {listed(names)}, {text}" for text, names in grouped.items())) + "."
    if len(plain(text)) > LONGEST_TITLE and len(grouped) == 1:
        text = f"On every task, {next(iter(grouped))}."
    if (
        len(plain(text)) > LONGEST_TITLE
    ):  # the first part with a clear finding speaks for itself, else the one with the most runs
        part, ((first, _), *_) = next((own for own in known if own[1][0][1]), known[0])
        text = capital(f"{place} {facets.part_name(part, trained_parts)}, {first}.")
    return text if len(plain(text)) <= LONGEST_TITLE else _neutral(trained_parts)


def _neutral(trained_parts: list[measures.Part]) -> str:
    """For findings that differ, and have too many names for a headline."""
    tasks = ": the clear differences are not the same on every task" if len(trained_parts) > 1 else ""
    return f"What every trained run achieves on held-out sequences{tasks}."


def findings(study: Study, part: measures.Part) -> list[tuple[str, bool]]:
    """What the comparisons along every axis amount to, and whether that is clear: clear ones first, the axis that is asked about before the others."""
    if part.runs["broken"].all():
        return [("no run comes to the end of its training", False)]
    if not part.axes:
        return [(_reached(part), False)]
    metric = str(part.runs["metric"].iloc[0])
    phrases = [(axis, _along(study, part, axis, metric)) for axis in part.axes]
    known = [(text, clear) for _, (text, clear) in phrases if text]
    return sorted(known, key=lambda each: not each[1]) or [(_reached(part), False)]


def _reached(part: measures.Part) -> str:
    """How training ends, where nothing is compared."""
    if axes := part.task_axes:
        return f"results of different {listed(plural_of(axis) for axis in axes)} are not compared, because they differ without learning"
    where, mean_result = where_of(part), measures.outcome(part.runs)
    metric, baseline = str(part.runs["metric"].iloc[0]), float(part.runs["baseline"].mean())
    write = writer_of(metric, digits=2)
    baseline_words = marked(write(baseline), "baseline", baseline, **where)
    result_words = marked(write(mean_result.value), "outcome", mean_result.value, **where)
    called = "a held-out accuracy" if metric == "held_out_accuracy" else "a held-out loss"
    return f"training ends with {called} of {result_words}; {knows_nothing(part)} gets {baseline_words}"


def _along(study: Study, part: measures.Part, axis: str, metric: str) -> tuple[str, bool]:
    """A phrase for one axis, and whether it says that something is clear."""
    compared = study.of(part, axis, metric, pooled=True)
    if not compared:
        return "", False
    values = measures.comparable(part.runs, axis)
    singly = study.of(part, axis, metric, pooled=False) if axis == part.column else []
    if on_what := depends(part, singly):
        return f"{named(axis, singly[0].a)} {on_what}", True
    if not any(each.differences.any() for each in [*compared, *study.of(part, axis, metric, pooled=False)]):
        return f"{_all(axis, values)} give the same results", False
    leader = ranking.clear_leader(values, compared, ranking.scores(part.runs, axis, values))
    over = " on average" if any(each.settings > 1 for each in compared) else ""
    clear = [each for each in compared if each.better]
    if clear:
        best = next(value for value in values if key_of(value) == leader)
        beaten = {key_of(v): {ranking.loser_of(c) for c in clear if ranking.winner_of(c) == key_of(v)} for v in values}
        less = [value for value in values if key_of(value) in beaten[leader]]
        alike = [value for value in values if beaten[key_of(value)] == beaten[leader]]
        alike = alike if len(values) <= measures.MOST_PAIRED else [best]
        if 2 < len(values) == len(less) + 1:
            return f"{named(axis, best)} is{over} clearly better than the other {plural_of(axis)}", True
        first = few([named(axis, value) for value in alike], 3)
        return (
            f"{first} {'is' if len(alike) == 1 else 'are'}{over} clearly better than {few([named(axis, v) for v in less], 2)}",
            True,
        )
    if all(each.verdict == "few" for each in compared):
        return f"{FEW} which {singular_of(axis)} learns best", False
    if len(values) > measures.MOST_PAIRED:
        return f"no clear difference between neighbouring {plural_of(axis)}", False
    return f"no clear difference between {_all(axis, values)}", False


def _all(axis: str, values: list[Any]) -> str:
    return (
        listed(named(axis, value) for value in values)
        if len(values) < 4
        else f"the {spelled(len(values))} {plural_of(axis)}"
    )
