"""How a torch module takes and returns its state, and the parts of it by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from rnn_core.cells.base import BadStep
from rnn_core.choices import unknown

TAKEN = ("x", "immediate")  # names that the engine's results have for other things


@dataclass(frozen=True)
class Form:
    """A tensor, a tuple or a dict of tensors, the batch first.

    Attributes:
        kind: ``tensor``, ``dict``, or the class of the tuple.
        order: the names of the parts as the module orders them.
        names: the same, first the one that the loss acts on.
        shapes: of every part of one sample's state.
    """

    kind: Any
    order: tuple[str, ...]
    names: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]

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
        parts = _raw_parts(state)
        kind: Any
        order: tuple[str, ...]
        if isinstance(state, Mapping):
            kind, order = "dict", tuple(state)  # of a tuple its class
            for name in names or ():
                if name not in order:
                    raise ValueError(unknown("state_names", name, order))
            order_of_names = tuple(names or order)
        else:
            kind = "tensor" if isinstance(state, Tensor) else type(state)
            numbered = tuple(f"part_{i + 1}" for i in range(len(default), len(parts)))
            own: Sequence[str] = getattr(state, "_fields", (*default, *numbered)[: len(parts)])
            order = tuple(names or own)
            order_of_names = order
        if len(order_of_names) != len(parts) or len(set(order_of_names)) != len(parts):
            given = ", ".join(map(str, order_of_names))
            raise ValueError(f"state_names: {given} does not fit; the state has {len(parts)} parts: {described(state)}")
        for name in order:
            if not isinstance(name, str) or name in TAKEN:
                raise ValueError(
                    f"state_names: {name!r} is not allowed; a name is a string, and none of {', '.join(TAKEN)}"
                )
        if hidden is not None and hidden not in order:
            raise ValueError(unknown("hidden", hidden, order))
        first = hidden or order_of_names[0]
        ordered = (first, *(name for name in order_of_names if name != first))
        shapes = {name: tuple(part.shape[1:]) for name, part in zip(order, parts, strict=True)}
        return cls(kind, order, ordered, {name: shapes[name] for name in ordered})

    def built(self, parts: Mapping[str, Tensor]) -> Any:
        """The state as the module takes it."""
        if self.kind == "tensor":
            return parts[self.order[0]]
        if self.kind == "dict":
            return {name: parts[name] for name in self.order}
        values = [parts[name] for name in self.order]
        return self.kind(*values) if hasattr(self.kind, "_fields") else self.kind(values)

    def parts(self, state: Any, like: Tensor) -> dict[str, Tensor]:
        """The parts of what the module returned for x_t ``like``, by name.

        Raises:
            BadStep: it is not of this form, or a part has another shape, dtype or device than it was given.
        """
        if self.kind == "tensor":
            by_name = {self.order[0]: state} if isinstance(state, Tensor) else None
        elif self.kind == "dict":
            by_name = dict(state) if isinstance(state, Mapping) and set(state) == set(self.order) else None
        else:
            fits = isinstance(state, tuple | list) and len(state) == len(self.order)
            by_name = dict(zip(self.order, state, strict=True)) if fits else None
        if by_name is None:
            raise BadStep(
                f"returned {described(state)}; it was given {self.described(like.shape[0])}, and a step returns the next one{_hint(state)}"
            )
        for name in self.order:
            _check_part(name, by_name[name], self.shapes[name], like)
        return {name: by_name[name] for name in self.names}

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
                for part in _raw_parts(state)
            )
            raise ValueError(f"state: the module's own start {bad}{_LIKE_A_PARAMETER * other}") from None

    def described(self, B: int) -> str:
        """In words, for messages."""
        parts = [f"{name} {(B, *self.shapes[name])}" for name in self.order]
        if self.kind == "tensor":
            return f"a tensor {(B, *self.shapes[self.order[0]])}"
        return f"a {'dict' if self.kind == 'dict' else self.kind.__name__} of {', '.join(parts)}"


def _raw_parts(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    values = (
        list(state.values()) if isinstance(state, Mapping) else list(state) if isinstance(state, tuple | list) else []
    )
    if not values or not all(isinstance(value, Tensor) for value in values):
        raise ValueError(
            f"state: {described(state)} is not allowed; a state is a tensor, or a tuple or dict of tensors{_hint(state)}"
        )
    return values


def _check_part(name: str, part: Any, shape: tuple[int, ...], like: Tensor) -> None:
    if not isinstance(part, Tensor):
        raise BadStep(f"returned {described(part)} as {name!r}; every part of a state is a tensor")
    if part.shape != (like.shape[0], *shape):
        raise BadStep(
            f"returned {name!r} with shape {tuple(part.shape)}; it was given with {(like.shape[0], *shape)}, and a state keeps its shape, the batch first"
        )
    if part.is_complex():
        raise BadStep(f"returned {name!r} in {part.dtype}; keep a complex state as two real ones, torch.view_as_real")
    if part.dtype is not like.dtype:
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
