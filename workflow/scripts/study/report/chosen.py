"""What is drawn where not all has a place: evenly spread, and with it whatever a headline names."""

from __future__ import annotations

from collections.abc import Collection, Sequence


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
