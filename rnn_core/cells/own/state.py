"""How a torch module takes and returns its state, and the parts of it by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnn_core.cells.base import BadStep
from rnn_core.cells.own.layout import Layout
from rnn_core.choices import unknown

TAKEN = ("x", "immediate")  # names that the engine's results have for other things


@dataclass(frozen=True)
class Form:
    """A tensor, or tuples, lists and dicts of tensors, the batch first. A complex part is kept as two real numbers an entry.

    Attributes:
        layout: how the module holds the parts.
        order: the names of the parts as the module orders them.
        names: the same, first the one that the loss acts on.
        shapes: of every part of one sample's state; of a complex one with a last axis of real and imaginary part.
        pairs: the names of the complex parts.
    """

    layout: Layout
    order: tuple[str, ...]
    names: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    pairs: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls, state: Any, names: Sequence[str] | None, hidden: str | None, default: tuple[str, ...] = ("hidden",)
    ) -> Form:
        """The form of ``state``.

        Args:
            names: what the user calls the parts; None takes the names that the state has, or ``default`` and numbers.
            hidden: the part that the loss acts on; None is the first.

        Raises:
            ValueError: ``state`` is nothing of that kind, or a name does not fit.
        """
        layout = _layout_of(state)
        tensors = layout.tensors(state) or []
        order, order_of_names = _names_of(layout, names, default)
        if len(order_of_names) != len(tensors) or len(set(order_of_names)) != len(tensors):
            given = ", ".join(map(str, order_of_names))
            raise ValueError(
                f"state_names: {given} does not fit; the state has {len(tensors)} parts: {described(state)}"
            )
        for name in order:
            if not isinstance(name, str) or name in TAKEN:
                raise ValueError(
                    f"state_names: {name!r} is not allowed; a name is a string, and none of {', '.join(TAKEN)}"
                )
        if hidden is not None and hidden not in order:
            raise ValueError(unknown("hidden", hidden, order))
        first = hidden or order_of_names[0]
        ordered = (first, *(name for name in order_of_names if name != first))
        parts = dict(zip(order, tensors, strict=True))
        shapes = {name: tuple(in_reals(parts[name]).shape[1:]) for name in ordered}
        return cls(layout, order, ordered, shapes, frozenset(name for name, part in parts.items() if part.is_complex()))

    def built(self, parts: Mapping[str, Tensor]) -> Any:
        """The state as the module takes it."""
        if self.layout.kind == "tensor" and not self.pairs:  # the usual one, at every step
            return parts[self.order[0]]
        return self.layout.built(
            torch.view_as_complex(parts[name].contiguous()) if name in self.pairs else parts[name]
            for name in self.order
        )

    def flat(self, state: Any) -> dict[str, Tensor]:
        """The parts by name of a state as the module takes it."""
        tensors = self.layout.tensors(state) or []
        return {name: in_reals(part) for name, part in zip(self.order, tensors, strict=True)}

    def parts(self, state: Any, like: Tensor) -> dict[str, Tensor]:
        """The parts of what the module returned for x_t ``like``, by name.

        Raises:
            BadStep: it is not of this form, or a part has another shape, dtype or device than it was given.
        """
        alone = self.layout.kind == "tensor" and not isinstance(state, Tensor)
        tensors = None if alone else self.layout.tensors(state)
        if tensors is None:
            raise BadStep(
                f"returned {described(state)}; it was given {self.described(like.shape[0])}, and a step returns the next one{_hint(state)}"
            )
        by_name = dict(zip(self.order, tensors, strict=True))
        for name in self.order:
            _check_part(name, by_name[name], self.shapes[name], name in self.pairs, like)
        return {name: in_reals(by_name[name]) if name in self.pairs else by_name[name] for name in self.names}

    def parts_at_start(self, state: Any, like: Tensor) -> dict[str, Tensor]:
        """``parts`` of what the module starts from.

        Raises:
            ValueError: a part does not fit x_t ``like``.
        """
        try:
            return self.parts(state, like)
        except BadStep as bad:
            other = any(
                isinstance(part, Tensor) and (part.dtype is not like.dtype or part.device != like.device)
                for part in self.layout.tensors(state) or []
            )
            raise ValueError(f"state: the module's own start {bad}{_LIKE_A_PARAMETER * other}") from None

    def described(self, B: int) -> str:
        """In words, for messages."""
        parts = [f"{name} {(B, *self._shape(name))}" for name in self.order]
        if self.layout.kind == "tensor":
            return f"a tensor {(B, *self._shape(self.order[0]))}"
        kind = "dict" if self.layout.kind == "dict" else self.layout.kind.__name__
        return f"a {kind} of {', '.join(parts)}"

    def _shape(self, name: str) -> tuple[int, ...]:
        """Of a part as the module has it."""
        return self.shapes[name][:-1] if name in self.pairs else self.shapes[name]


def in_reals(part: Tensor) -> Tensor:
    """A complex tensor with its real and imaginary parts on a last axis; a real one as it is. Autograd goes through."""
    return torch.view_as_real(part.resolve_conj()) if part.is_complex() else part


def no_state(state: Any) -> ValueError:
    """What to raise of something that is no state."""
    return ValueError(
        f"state: {described(state)} is not allowed; a state is a tensor, or tuples, lists and dicts of tensors{_hint(state)}"
    )


def _layout_of(state: Any) -> Layout:
    try:
        return Layout.of(state)
    except TypeError:
        raise no_state(state) from None


def _names_of(
    layout: Layout, names: Sequence[str] | None, default: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(the names of the parts as the module orders them, as the user does)."""
    own, count = layout.paths, len(layout.paths)
    if layout.kind == "dict":
        for name in names or ():
            if name not in own:
                raise ValueError(unknown("state_names", name, own))
        return own, tuple(names or own)
    if not layout.nested and not hasattr(layout.kind, "_fields"):
        own = (*default, *(f"part_{i + 1}" for i in range(len(default), count)))[:count]
    return tuple(names or own), tuple(names or own)


def _check_part(name: str, part: Any, shape: tuple[int, ...], pairs: bool, like: Tensor) -> None:
    if not isinstance(part, Tensor):
        raise BadStep(f"returned {described(part)} as {name!r}; every part of a state is a tensor")
    if part.is_complex() != pairs:
        raise BadStep(
            f"returned {name!r} in {part.dtype}; it was given as a {'complex' if pairs else 'real'} one, and a state stays what it is: "
            "let initial_state make it so"
        )
    own = shape[:-1] if pairs else shape
    if part.shape != (like.shape[0], *own):
        raise BadStep(
            f"returned {name!r} with shape {tuple(part.shape)}; it was given with {(like.shape[0], *own)}, and a state keeps its shape, the batch first"
        )
    if part.dtype is not (like.dtype.to_complex() if pairs else like.dtype):
        raise BadStep(
            f"returned {name!r} in {part.dtype}; x is {like.dtype}, and every part of the state is kept in that"
        )
    if part.device != like.device:
        raise BadStep(f"returned {name!r} on {part.device}; x is on {like.device}")


_LIKE_A_PARAMETER = ". In initial_state make it like a parameter, with its dtype and device: self.weight.new_zeros(batch_size, hidden_size)"


def _hint(state: Any) -> str:
    """What is usually meant."""
    if isinstance(state, tuple | list) and len(state) == 2:
        return ". If it returns (output, state), wrap it so that the state alone is returned, and the output, where a loss acts on it, is a part of the state"
    if state is None:
        return ". If the module has no state to return, it is no step of a recurrent network"
    return ""


def described(value: Any) -> str:
    """In words, for messages."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)}"
    if isinstance(value, Mapping):
        return f"a dict of {', '.join(f'{name}: {described(each)}' for name, each in value.items()) or 'nothing'}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {', '.join(map(described, value)) or 'nothing'}"
    return "None" if value is None else f"a {type(value).__name__}"


def columns(part: Tensor) -> Tensor:
    """(B, …) as (rows, B), the batch as columns."""
    return part.T if part.ndim == 2 else part.reshape(part.shape[0], -1).T


def batch(column: Tensor, shape: tuple[int, ...]) -> Tensor:
    """(rows, B) as (B, *shape), contiguous."""
    rows = column.T.contiguous()
    return rows if len(shape) == 1 else rows.reshape(-1, *shape)
