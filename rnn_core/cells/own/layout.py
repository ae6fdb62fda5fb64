"""How a state holds its tensors: one tensor, or tuples, lists and dicts of them, one inside the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """A tensor, or a container of layouts.

    Attributes:
        kind: ``tensor``, ``dict``, or the class of the tuple or list.
        keys: what the container calls its entries: a dict's keys, a named tuple's fields, else numbers from 1.
        inside: the layout of every entry.
    """

    kind: Any
    keys: tuple[Any, ...] = ()
    inside: tuple[Layout, ...] = ()

    @classmethod
    def of(cls, state: Any) -> Layout:
        """The layout of ``state``.

        Raises:
            TypeError: it holds something else than tensors, or a container holds nothing.
        """
        if isinstance(state, Tensor):
            return cls("tensor")
        entries = _entries(state)
        if not entries:
            raise TypeError(f"{type(state).__name__} holds no tensor")
        kind = "dict" if isinstance(state, Mapping) else type(state)
        return cls(kind, tuple(entries), tuple(map(cls.of, entries.values())))

    @property
    def nested(self) -> bool:
        """Whether a container holds containers."""
        return any(each.kind != "tensor" for each in self.inside)

    @property
    def paths(self) -> tuple[str, ...]:
        """The names of the tensors, in order: the keys on the way to each, with points between; "" of a tensor alone."""
        if self.kind == "tensor":
            return ("",)
        pairs = zip(self.keys, self.inside, strict=True)
        return tuple(f"{key}.{path}" if path else str(key) for key, each in pairs for path in each.paths)

    def tensors(self, state: Any) -> list[Any] | None:
        """What ``state`` has in the places of the tensors, in order; None where its containers are others."""
        if self.kind == "tensor":
            return None if isinstance(state, Mapping | tuple | list) else [state]
        entries = list(_entries(state).values())
        if self.kind == "dict":
            if not isinstance(state, Mapping) or set(state) != set(self.keys):
                return None
            entries = [state[key] for key in self.keys]
        elif isinstance(state, Mapping) or len(entries) != len(self.keys):
            return None
        of_entries: list[Any] = []
        for each, entry in zip(self.inside, entries, strict=True):
            own = each.tensors(entry)
            if own is None:
                return None
            of_entries += own
        return of_entries

    def built(self, tensors: Iterator[Tensor]) -> Any:
        """The state that has these tensors in order."""
        if self.kind == "tensor":
            return next(tensors)
        values = [each.built(tensors) for each in self.inside]
        if self.kind == "dict":
            return dict(zip(self.keys, values, strict=True))
        return self.kind(*values) if hasattr(self.kind, "_fields") else self.kind(values)


def _entries(state: Any) -> dict[Any, Any]:
    """What a container holds, by key; empty where it is none."""
    if isinstance(state, Mapping):
        return dict(state)
    if isinstance(state, tuple | list):
        keys = getattr(state, "_fields", range(1, len(state) + 1))
        return dict(zip(keys, state, strict=True))
    return {}
