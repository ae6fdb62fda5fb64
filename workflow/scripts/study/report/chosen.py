"""What is drawn where not all has a place: evenly spread, and with it whatever a headline names."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pandas as pd

from study.report.words import few


def with_wanted(chosen: Sequence[int], wanted: Collection[int]) -> list[int]:
    """As many places as are chosen, in order. Each wanted one stands instead of its nearest neighbour that nobody wants.

    Where more are wanted than have a place, the first of them do.
    """
    kept, wanted = list(chosen), list(dict.fromkeys(wanted))[: len(chosen)]
    for place in wanted:
        free = [i for i, each in enumerate(kept) if each not in wanted]
        if place not in kept and free:
            kept[min(free, key=lambda i: abs(kept[i] - place))] = place
    return sorted(kept)


def redrawn(every: pd.DataFrame, drawn: pd.DataFrame, told: Collection[str]) -> pd.DataFrame:
    """The runs that are drawn, of ``every`` run with its panel, with the panels that a headline tells of among them."""
    names = list(every["panel"].cat.categories)
    places = [names.index(name) for name in drawn["panel"].cat.categories]
    wanted = [names.index(name) for name in told]
    if set(wanted) <= set(places):
        return drawn
    kept = [names[i] for i in with_wanted(places, wanted)]
    runs = every[every["panel"].isin(kept)]
    runs = runs.assign(panel=runs["panel"].cat.remove_unused_categories())
    return runs.assign(left_out=few([name for name in names if name not in kept], 6))
