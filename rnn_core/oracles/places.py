"""Where an error is, as the oracles write it, ``x, t = 12, layer 2, forward``, and as it is read again."""

from __future__ import annotations

import re
from typing import NamedTuple

WAYS = ("forward", "reverse in its own time")


class Place(NamedTuple):
    """What differs, and where: the step, the layer and the direction, each None where it is not said."""

    what: str
    step: int | None
    layer: int | None
    way: str | None


def at_step(name: str, t: int) -> str:
    """Of the step t = 1 … T."""
    return f"{name}, t = {t}"


def in_way(direction: int) -> str:
    """Behind what is of one of two directions."""
    return f", {WAYS[direction]}"


def in_layer(layer: int) -> str:
    """Behind what is of one of several layers, 1 … L."""
    return f", layer {layer}"


def read(where: str) -> Place:
    """What the functions above have written, in whatever order they were called."""
    what, step, layer, way = where, None, None, None
    while last := re.fullmatch(r"(.*), (?:t = (\d+)|layer (\d+)|(" + "|".join(WAYS) + "))", what):
        what, t, number, direction = last.groups()
        step, layer = int(t) if t else step, int(number) if number else layer
        way = direction or way
    return Place(what, step, layer, way)
