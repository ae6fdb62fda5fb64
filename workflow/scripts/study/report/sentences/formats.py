"""Sentences about what narrower number formats would have done to the gradients."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from study.report import measures
from study.report.phrases import count_of
from study.report.words import listed
from study.tables.columns import FORMATS


def formats_sentence(runs: pd.DataFrame) -> str:
    """What narrower formats would have done to the gradients of all distinct starts that have a way back."""
    starts = measures.distinct_starts(runs[runs["sequence_length"] > 1])
    if starts.empty:
        return "Every sequence has a single step, so no gradient has a way back."
    total = count_of(len(starts), "distinct_starts")
    flushed = {name: int(starts[f"{name}_flushed_at"].notna().sum()) for name in reversed(FORMATS)}
    overflowed = {name: int(starts[f"{name}_overflowed_at"].notna().sum()) for name in reversed(FORMATS)}
    if len(starts) == 1:
        return _formats_of_one(flushed, overflowed)
    if not any(flushed.values()) and not any(overflowed.values()):
        return f"In none of {total} starting networks would float16, bfloat16 or float32 have lost the whole gradient on its way back, or let it overflow."
    of = f" of {total} starting networks"
    words = [f"{count_of(count, 'format_lost', format=name)}{{}} as {name}" for name, count in flushed.items()]
    said = listed(word.format(of if i == 0 else "") for i, word in enumerate(words))
    text = f"Stored as plain floats, the whole gradient would be lost on its way back in {said}."
    inf = [
        f"{count_of(count, 'format_overflowed', format=name)} as {name}" for name, count in overflowed.items() if count
    ]
    return text + (f" Entries would overflow in {listed(inf)}." if inf else "")


def _formats_of_one(flushed: Mapping[str, int], overflowed: Mapping[str, int]) -> str:
    """The same of a study's only network, without counts."""
    too_small, too_large = ([name for name, count in counts.items() if count] for counts in (flushed, overflowed))
    if not too_small and not too_large:
        return (
            "The gradient of the one starting network could be stored as float16, bfloat16 or float32 on its way back."
        )
    words = [f"be lost on its way back as {listed(too_small, 'or')}"] if too_small else []
    words += [f"overflow as {listed(too_large, 'or')}"] if too_large else []
    return f"Stored as plain floats, the gradient of the one starting network would {listed(words)}."
