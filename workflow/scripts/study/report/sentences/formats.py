"""Sentences about what narrower number formats would have done to the gradients."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from study.report import measures
from study.report.phrases import count_of, counted
from study.report.words import capital, listed, marked_count
from study.tables.columns import FORMATS


def formats_sentence(runs: pd.DataFrame) -> str:
    """What narrower formats would have done to the gradients of all distinct starts that have a way back."""
    every_start = measures.distinct_starts(runs[measures.steps(runs) > 1])
    starts = measures.with_gradient(every_start)
    if every_start.empty:
        return "Every sequence has a single step, so no gradient has a way back."
    if starts.empty:
        return "No starting network has a gradient of numbers on its way back, so none shows what a narrower format would do to it."
    without = len(every_start) - len(starts)
    if not without:
        return _of_formats(starts, "starting network")
    count = marked_count(without, "starts_without_gradient")
    none = f"In {counted(without, 'starting network', count)} the gradient is not a number."
    return f"{none} {_of_formats(starts, 'other starting network')}"


def _of_formats(starts: pd.DataFrame, network: str) -> str:
    """The same of networks whose gradients are numbers, and what one of them is called."""
    total = count_of(len(starts), "starts_with_gradient")
    flushed = {name: int(starts[f"{name}_flushed_at"].notna().sum()) for name in reversed(FORMATS)}
    overflowed = {name: int(starts[f"{name}_overflowed_at"].notna().sum()) for name in reversed(FORMATS)}
    if len(starts) == 1:
        return _formats_of_one(flushed, overflowed, network)
    if not any(flushed.values()) and not any(overflowed.values()):
        return f"In none of {total} {network}s would float16, bfloat16 or float32 have lost the whole gradient on its way back, or let it overflow."
    of = f" of {total} {network}s"
    words = [f"{count_of(count, 'format_lost', format=name)}{{}} as {name}" for name, count in flushed.items()]
    said = listed(word.format(of if i == 0 else "") for i, word in enumerate(words))
    text = f"Stored as plain floats, the whole gradient would be lost on its way back in {said}."
    inf = [
        f"{count_of(count, 'format_overflowed', format=name)} as {name}" for name, count in overflowed.items() if count
    ]
    return text + (f" Entries would overflow in {listed(inf)}." if inf else "")


def _formats_of_one(flushed: Mapping[str, int], overflowed: Mapping[str, int], network: str) -> str:
    """The same of a study's only network, without counts."""
    too_small, too_large = ([name for name, count in counts.items() if count] for counts in (flushed, overflowed))
    gradient = f"the gradient of the one {network}"
    if not too_small and not too_large:
        return f"{capital(gradient)} could be stored as float16, bfloat16 or float32 on its way back."
    words = [f"be lost on its way back as {listed(too_small, 'or')}"] if too_small else []
    words += [f"overflow as {listed(too_large, 'or')}"] if too_large else []
    return f"Stored as plain floats, {gradient} would {listed(words)}."
