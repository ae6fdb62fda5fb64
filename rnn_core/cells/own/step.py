"""One step of a torch module: taken, and differentiated, with parameters of the engine's in the place of the module's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from rnn_core.cells.base import BadStep
from rnn_core.cells.own.state import Form, in_reals

CHANGED = (
    "gives another result when it is taken again for the way back: the module keeps a state of its own between calls, as a counter, "
    "or was changed since. What changes from step to step belongs into the state that is passed"
)


class Program:
    """A function or module (x_t, state) -> state, and the module that its parameters belong to.

    Attributes:
        call: what is called.
        owner: the module with the parameters; None for a function.
        names: of the parameters, in the order of ``named_parameters``.
        trainable: the names of those that ask for a gradient.
        complex: the names of those that are complex. Outside the module their real and imaginary parts stand on a last axis.
    """

    def __init__(self, call: Any, owner: nn.Module | None) -> None:
        self.call, self.owner = call, owner
        named = dict(owner.named_parameters()) if owner is not None else {}
        self.names = tuple(named)
        self.trainable = tuple(name for name, value in named.items() if value.requires_grad)
        self.complex = frozenset(name for name, value in named.items() if value.is_complex())
        self._places = _places(owner) if owner is not None else []
        self._held: Mapping[str, Tensor] | None = None
        self._buffers: list[tuple[nn.Module, str, Tensor, Tensor]] = []

    def own_params(self) -> dict[str, Tensor]:
        """The module's parameters, which share its memory; complex ones with real and imaginary part on a last axis."""
        named = self.owner.named_parameters() if self.owner is not None else ()
        return {name: in_reals(value.detach()) for name, value in named}

    @contextmanager
    def trying_out(self, x: Tensor) -> Iterator[None]:
        """Within it the module is called for a look at it: afterwards its buffers and torch's random numbers are as before."""
        modules = list(self.owner.modules()) if self.owner is not None else []
        self._buffers = [
            (module, leaf, value, value.clone())
            for module in modules
            for leaf, value in module._buffers.items()
            if value is not None
        ]
        try:
            with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
                yield
        finally:
            for module, leaf, value, copy in self._buffers:
                module._buffers[leaf] = value
                if not _equal(value, copy):
                    value.copy_(copy)

    def changed_buffers(self) -> list[str]:
        """The names of those that have changed since ``trying_out`` began."""
        return [leaf for module, leaf, _, copy in self._buffers if not _equal(module._buffers[leaf], copy)]

    @contextmanager
    def holding(self, params: Mapping[str, Tensor]) -> Iterator[None]:
        """Within it the module computes with ``params``."""
        if self._held is params:
            yield
            return
        before = [(module, leaf, module._parameters[leaf]) for module, leaf, _ in self._places]
        held_before, self._held = self._held, params
        try:
            with torch.enable_grad():
                for module, leaf, name in self._places:
                    value = params[name]
                    module._parameters[leaf] = torch.view_as_complex(value) if name in self.complex else value
            yield
        finally:
            self._held = held_before
            for module, leaf, value in before:
                module._parameters[leaf] = value

    def differentiable(self) -> AbstractContextManager[None]:
        """``holding`` with parameters from which derivatives can be taken: the module's own, or those that it holds."""
        held = self._held if self._held is not None else self.own_params()
        return self.holding(self._leaves(held))

    def _leaves(self, params: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {n: value.detach().requires_grad_(n in self.trainable) for n, value in params.items() if n in self.names}

    def start_gradients(
        self, params: Mapping[str, Tensor], form: Form, source: Any, name: str, given: Tensor
    ) -> dict[str, Tensor]:
        """What the gradient ``given`` of one part of ``source.initial_state`` adds to those of the parameters."""
        leaves = self._leaves(params)
        with self.holding(leaves), torch.enable_grad():
            part = form.parts(source.initial_state(given.shape[0]), given)[name]
        wanted = [leaves[each] for each in self.trainable]
        gradients = self.derivatives(
            [part] if part.requires_grad else [], wanted, [given] if part.requires_grad else []
        )
        return dict(zip(self.trainable, gradients, strict=True))

    def step(self, form: Form, x: Tensor, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The state after x_t (B, D), by name.

        Raises:
            BadStep: the module failed, or returned no state like the one that it was given.
        """
        try:
            after = self.call(x, form.built(parts))
        except Exception as error:  # whatever it is, the user needs to know at which step it came
            raise BadStep(f"failed: {type(error).__name__}: {error}") from error
        return form.parts(after, x)

    def forward(self, form: Form, x: Tensor, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """``step`` without a graph.

        Raises:
            BadStep: it changed what it was given.
        """
        versions = [(name, part, part._version) for name, part in (*parts.items(), ("x_t", x))]
        with torch.no_grad():
            after = self.step(form, x, parts)
        for name, part, version in versions:
            if part._version != version:
                raise BadStep(
                    f"changed {name!r} in place; a step returns new tensors (h = h * f, not h *= f or h.mul_(f))"
                )
        return after

    def back(
        self,
        form: Form,
        x: Tensor,
        parts: dict[str, Tensor],
        given: dict[str, Tensor],
        known: dict[str, Tensor] | None = None,
    ) -> tuple[dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """(totals, dL/dx_t, dL/dstate_{t-1}) of the step from ``parts``, from dL/dstate_t as ``given``.

        The total of a part is what it was given and what it sends to other parts within the step. Autograd has it for the tensor
        that the step returned.

        Args:
            known: what the step gave on the way forward.

        Raises:
            BadStep: it gives something else now, or cannot be differentiated.
        """
        before = {name: part.detach().requires_grad_() for name, part in parts.items()}
        leaf = x.detach().requires_grad_()
        after = self.graph(form, leaf, before)
        if known is not None:
            require_repeated(after, known)
        several = [after[name] for name in given if after[name].requires_grad] if len(given) > 1 else []
        connected = [name for name in given if after[name].requires_grad]
        derivatives = self.derivatives(
            [after[name] for name in connected], [leaf, *before.values(), *several], [given[name] for name in connected]
        )
        n = 1 + len(before)
        totals = dict(given)
        if several:
            totals |= dict(zip(connected, derivatives[n:], strict=True))
        return totals, derivatives[0], dict(zip(before, derivatives[1:n], strict=True))

    def graph(self, form: Form, x: Tensor, before: dict[str, Tensor]) -> dict[str, Tensor]:
        """``step`` with its graph; every part a tensor of its own."""
        with torch.enable_grad():
            after = self.step(form, x, before)
            apart: dict[str, Tensor] = {}
            seen: list[Tensor] = [x, *before.values()]
            for name, part in after.items():
                apart[name] = part.view_as(part) if any(part is each for each in seen) else part
                seen.append(part)
        return apart

    def derivatives(self, outputs: list[Tensor], inputs: list[Tensor], given: list[Tensor]) -> tuple[Tensor, ...]:
        """The derivatives of Σ given · outputs; zero for what nothing depends on."""
        if not outputs:
            return tuple(map(torch.zeros_like, inputs))
        try:
            return tuple(torch.autograd.grad(outputs, inputs, given, allow_unused=True, materialize_grads=True))
        except RuntimeError as error:
            raise BadStep(f"cannot be differentiated: {error}") from error
        except Exception as error:  # of a backward pass that was written by hand
            raise BadStep(f"cannot be differentiated: {type(error).__name__}: {error}") from error

    def parameter_gradients(
        self, params: Mapping[str, Tensor], form: Form, x: Tensor, parts: dict[str, Tensor], given: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """What a step of all rows of x (rows, D) adds to the gradients of the parameters, summed over the rows."""
        leaves = self._leaves(params)
        with self.holding(leaves):
            after = self.graph(form, x, parts)
        connected = [name for name in after if after[name].requires_grad]
        wanted = [leaves[name] for name in self.trainable]
        gradients = self.derivatives([after[n] for n in connected], wanted, [given[n] for n in connected])
        return dict(zip(self.trainable, gradients, strict=True))


def in_floats(module: nn.Module, dtype: torch.dtype, device: Any = None) -> nn.Module:
    """The module with its floats in ``dtype`` and its complex numbers in pairs of them, in place. ``module.to`` would drop imaginary parts."""

    def moved(value: Tensor) -> Tensor:
        own = dtype.to_complex() if value.is_complex() else dtype if value.is_floating_point() else None
        return value.to(device=device, dtype=own)

    return module._apply(moved)


def require_repeated(repeated: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> None:
    """BadStep unless a step that is taken again gives what it gave before."""
    if not all(equal_but_for_rounding(repeated[name].detach(), part) for name, part in known.items()):
        raise BadStep(CHANGED)


def equal_but_for_rounding(a: Tensor, b: Tensor) -> bool:
    """But for rounding, which may differ from call to call on a GPU. Relative to the largest entry; nan equals nan."""
    if torch.equal(a, b):
        return True
    odd = ~(a.isfinite() & b.isfinite())
    if not torch.equal(a[odd].nan_to_num(), b[odd].nan_to_num()):
        return False
    difference, size = (a - b)[~odd].abs(), b[~odd].abs()
    return not difference.numel() or bool(difference.max() <= 1e4 * torch.finfo(a.dtype).eps * size.max())


def _equal(a: Tensor | None, b: Tensor) -> bool:
    """nan equals nan."""
    return a is not None and a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())


def _places(owner: nn.Module) -> list[tuple[nn.Module, str, str]]:
    """(module, name in it, name in the owner) of every place that holds a parameter; a shared one has several."""
    first: dict[int, str] = {}
    places = []
    for prefix, module in owner.named_modules(remove_duplicate=True):
        for leaf, value in module._parameters.items():
            if value is not None:
                name = first.setdefault(id(value), f"{prefix}.{leaf}" if prefix else leaf)
                places.append((module, leaf, name))
    return places
