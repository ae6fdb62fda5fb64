"""Looking a name up in a registry, with an error that says what would have worked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

Entry = TypeVar("Entry")


def unknown(kind: str, given: object, allowed: Iterable[str]) -> str:
    """The message for a name that does not exist: what was given, what is allowed, the nearest valid name."""
    names = list(allowed)
    near = get_close_matches(str(given).lower(), names, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{kind}: {given!r} is not known; allowed: {', '.join(names)}.{hint}"


def choose(kind: str, name: str, registry: Mapping[str, Entry]) -> Entry:
    """``registry[name]``.

    Raises:
        ValueError: naming ``kind``, the name given, those allowed and the nearest one.
    """
    if name not in registry:
        raise ValueError(unknown(kind, name, registry))
    return registry[name]
