"""A key that stands in the wrong place: where in a config it belongs. Most often it is indented too far, or not far enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from study.config.schema import schema

ANY = "NAME"  # stands for a name that the user chooses, as that of a sweep
Place = tuple[str, ...]  # path of a mapping: ("sweeps", ANY, "grid")


def belongs_under(key: str, here: tuple[Any, ...]) -> str | None:
    """The mapping that has such a key, with the names that ``here`` has; None if no mapping has it.

    Args:
        here: path of the mapping in which the key stands. Of several mappings that have it, the one nearest to it is meant.
    """
    there = [place for place, keys in keys_by_place() if key in keys]
    if not there:
        return None
    nearest = max(there, key=lambda place: (_shared(place, here), "grid" in place))
    return ".".join([*map(str, here[: _shared(nearest, here)]), *nearest[_shared(nearest, here) :]]) or "top level"


def _shared(place: Place, here: tuple[Any, ...]) -> int:
    """How many steps of the way to ``here`` lead to ``place`` as well."""
    count = 0
    for step, given in zip(place, here, strict=False):
        if step not in (ANY, given):
            break
        count += 1
    return count


@cache
def keys_by_place() -> list[tuple[Place, frozenset[str]]]:
    """Every mapping of a config, and the keys that it may have."""
    return list(_mappings(schema(), ()))


def _mappings(described: Mapping[str, Any], place: Place) -> Iterator[tuple[Place, frozenset[str]]]:
    keys = described.get("properties", {})
    if keys:
        yield place, frozenset(keys)
    for key, inner in keys.items():
        yield from _mappings(inner, (*place, key))
    if isinstance(named := described.get("additionalProperties"), Mapping):
        yield from _mappings(named, (*place, ANY))
