"""What a cell of the user's own learns from inputs: what its state looks like, what it starts from, and whether its step is one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from rnn_core.arrays import Array, Params, State, check_alike
from rnn_core.cells.base import BadStep, Cell
from rnn_core.choices import unknown

if TYPE_CHECKING:
    from rnn_core.cells.own.checks import Facts
    from rnn_core.cells.own.state import Form
    from rnn_core.cells.own.step import Program

STEPS_AHEAD = 4  # the step on which the module is checked


class LearnsItsState(Cell):
    """A cell that knows nothing of its state until it sees inputs. ``TorchCell`` says what the attributes are."""

    module: Any
    name: str  # type: ignore[misc]
    state_names: tuple[str, ...]  # type: ignore[misc]
    given_names: tuple[str, ...] | None
    given_hidden: str | None
    _source: Any
    _program: Program
    _default: tuple[str, ...]
    _form: Form | None
    _checked: dict[Any, Facts]
    _acting: tuple[str, ...]
    _learned_start: bool

    def bound(self, params: Params, x: Array, state: Any) -> tuple[Self, State | None]:
        """The cell for inputs like x, which knows its state's form, and the state to start from, by name.

        Raises:
            ValueError: a parameter is missing or does not fit, no form of the state is known, or a step is none.
        """
        import torch

        self._check_params(params, x)
        params, x = {name: value.detach() for name, value in params.items()}, x.detach()
        with self._program.trying_out(x), self.holding(params), torch.no_grad():
            bound = copy.copy(self)
            form, start = bound._start(x, state)
            bound._form, bound.state_names = form, form.names
            if all(
                isinstance(start.get(name), torch.Tensor) and start[name].shape == (x.shape[1], *form.shapes[name])
                for name in form.names
            ):
                facts = self._check_step(form, x, {name: start[name].detach() for name in form.names})
                bound.any_batch, bound._acting = facts
        return bound, start

    def _check_params(self, params: Params, x: Array) -> None:
        if isinstance(x, np.ndarray):
            raise ValueError("x: NumPy does not fit; a TorchCell takes torch tensors: torch.as_tensor(x)")
        own = self._program.own_params()
        for name, value in own.items():
            if name not in params:
                near = [given for given in params if given not in own]
                hint = f"; {near[0]!r} is none of its names" if len(near) == 1 else ""
                raise ValueError(
                    f"params: {name} is missing; the cell {self.name!r} needs it, as cell.params() gives it{hint}"
                )
            if params[name].is_complex():
                raise ValueError(
                    f"{name}: {params[name].dtype} is not allowed; give its real and imaginary parts on a last axis, as cell.params() does"
                )
            check_alike(name, params[name], "x", x)
            if params[name].shape != value.shape:
                raise ValueError(
                    f"{name}: shape {tuple(params[name].shape)} does not fit; the module's is {tuple(value.shape)}"
                )

    def _start(self, x: Array, state: Any) -> tuple[Form, dict[str, Any]]:
        """(the form of the state, the state that the first step starts from, by name)."""
        import torch

        from rnn_core.cells.own.state import Form, in_reals

        B = x.shape[1]
        if isinstance(state, torch.Tensor | tuple | list) or _holds_containers(state):  # as the module takes it
            form = Form.of(state, self.given_names, self.given_hidden, self._default)
            return form, form.flat(state)
        real = state
        if isinstance(state, Mapping):
            real = {name: in_reals(part) if isinstance(part, torch.Tensor) else part for name, part in state.items()}
        template, zeros, why = self._template(x, B, guess=state is None or _may_be_hidden(state))
        if template is not None:
            form = Form.of(template, self.given_names, self.given_hidden, self._default)
            if state is not None:
                return form, real
            parts = form.parts_at_start(template, x[0])
            self._learned_start = not zeros and any(part.requires_grad for part in parts.values())
            return form, {name: torch.zeros_like(part) if zeros else part.detach() for name, part in parts.items()}
        if not isinstance(state, Mapping):
            raise ValueError(
                f"state: is needed: nothing says what the states of {self.name!r} look like{why}. Give rc.forward a state, or the module a method initial_state(batch_size)"
            )
        return self._form_that_works(x, dict(state)), dict(real)

    def _template(self, x: Array, B: int, guess: bool) -> tuple[Any, bool, str]:
        """(a state as the module has it, whether zeros are meant, why there is none); ``guess``: from ``hidden_size`` if need be."""
        import torch

        if callable(initial := getattr(self._source, "initial_state", None)):
            with self._program.differentiable(), torch.enable_grad():
                return initial(B), False, ""
        try:
            after = self.module(x[0], None)
            if after is None:
                return (
                    None,
                    True,
                    " (called with None for a state it returns None: if it returns no state, it is no step)",
                )
        except Exception as error:  # whatever a module does with None, it says that there is no such way to start
            why = f" (with None for a state it says: {error})"
        else:
            _require_state_alone(after)
            return after, True, ""
        size = getattr(self._source, "hidden_size", None)
        if guess and isinstance(size, int):
            return torch.zeros((B, size), dtype=x.dtype, device=x.device), True, ""
        return None, True, why

    def _form_that_works(self, x: Array, state: dict[str, Any]) -> Form:
        """The form in which the module takes parts that were given by name: a dict, a tensor, or a tuple."""
        from rnn_core.cells.own.state import Form

        names = self.given_names or tuple(state)
        for name in state:
            if name not in names:
                raise ValueError(unknown("state", name, names))
        if missing := [name for name in names if name not in state]:
            raise ValueError(f"state: {', '.join(missing)} is missing; the cell {self.name!r} needs all parts")
        values = tuple(state[name] for name in names)
        candidates = [{name: state[name] for name in names}, *(values if len(values) == 1 else ()), values]
        failures = []
        for candidate in candidates:
            form = Form.of(candidate, names, self.given_hidden)
            try:
                self._program.forward(form, x[0], form.flat(candidate))
                return form
            except BadStep as bad:
                failures.append(f"given {form.described(x.shape[1])}, it {bad}")
        raise ValueError(f"the cell {self.name!r} at step t = 1: " + "; ".join(failures))

    def _check_step(self, form: Form, x: Array, parts: State) -> Facts:
        """``checks.check_step``, once for everything that it may depend on, some steps into the sequence."""
        from rnn_core.cells.own.checks import check_step

        modes = (
            tuple(module.training for module in self._program.owner.modules())
            if self._program.owner is not None
            else ()
        )
        key = (x.shape[1:], x.dtype, x.device, tuple(form.shapes.items()), modes)
        if key not in self._checked:
            t = 0
            try:
                for t in range(min(x.shape[0], STEPS_AHEAD) - 1):
                    parts = self._program.forward(form, x[t], parts)
                t = min(x.shape[0], STEPS_AHEAD) - 1
                self._checked[key] = check_step(self._program, form, x[t], parts)
            except BadStep as bad:
                hint = self._hint(form) if t == 0 and _may_be_of_the_state(bad.__cause__) else ""
                raise ValueError(f"the cell {self.name!r} at step t = {t + 1} {bad}{hint}") from bad.__cause__
        return self._checked[key]

    def _hint(self, form: Form) -> str:
        """What may be wrong with a state that nobody gave, where the first step fails."""
        if callable(getattr(self._source, "initial_state", None)):
            return ""
        if len(form.names) == 2 and self._default == ("hidden",):
            return _A_PAIR
        return _GUESSED if hasattr(self._source, "hidden_size") else ""


_A_PAIR = (
    ". If the two tensors that it returns are (output, state), wrap it so that the state alone is returned, "
    "and the output, where a loss acts on it, is a part of the state"
)
_GUESSED = (
    ". Its state was taken to be zeros (B, hidden_size): if it is not, give rc.forward a state, or the module a method "
    "initial_state(batch_size)"
)


def _holds_containers(state: Any) -> bool:
    """Whether it is a state as a module takes it, with tuples, lists or dicts inside, and no mapping of parts by name."""
    return isinstance(state, Mapping) and any(isinstance(part, Mapping | tuple | list) for part in state.values())


def _require_state_alone(after: Any) -> None:
    """ValueError where a module that was called without a state returned (output, state)."""
    from rnn_core.cells.own.state import no_state

    if isinstance(after, tuple | list) and len(after) == 2:
        output, state = after
        if hasattr(output, "dtype") and isinstance(state, Mapping | tuple | list):
            raise no_state(after)


def _may_be_of_the_state(error: BaseException | None) -> bool:
    """Whether a module may have failed because its state is of another form: not if a name or an attribute of its own is missing."""
    if isinstance(error, AttributeError | TypeError):
        return any(kind in str(error) for kind in ("Tensor", "data type", "'tuple'", "'list'"))
    return isinstance(error, RuntimeError | ValueError | IndexError) and not isinstance(error, NotImplementedError)


def _may_be_hidden(state: Mapping[str, Any]) -> bool:
    """Whether it may be one tensor (B, hidden_size)."""
    return len(state) == 1 and getattr(next(iter(state.values())), "ndim", 2) == 2
