"""Cells of the user's own in experiments: a torch module by its step, under a name of the user's choice.

A process knows the cells that it was told of (``register``). Then ``Experiment(cell="mamba")`` is a run of it like any other.
Where an option has several values, each is a variant of the cell: ``cell_options="state_size=16"``, or in short
``cell="mamba:state_size=16"``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rnn_core.arrays import Array
from rnn_core.cells import CELLS
from rnn_core.choices import choose
from rnn_core.streams import stream

if TYPE_CHECKING:
    from rnn_core.cells import TorchCell
    from rnn_core.experiment.settings import Experiment

SEPARATOR = ":"  # between a cell's name and its variant


@dataclass(frozen=True, repr=False)
class OwnCell:
    """A user's cell, as experiments know it.

    Attributes:
        name: what settings and tables call it.
        build: (input_size, hidden_size, **options) -> the module whose call is one step, (x_t, state) -> state.
        variants: the values of ``cell_options``, each with all options of ``build``. Without swept options it is {None: options}.
        digest: of the source. It enters the run's key.
        source: where the source stands, for messages.
        hidden: the part of the state that the readout reads and the loss acts on; None is the first.
    """

    name: str
    build: Callable[..., Any]
    variants: Mapping[str | None, Mapping[str, Any]] = field(default_factory=lambda: {None: {}})
    digest: str = ""
    source: str = ""
    hidden: str | None = None

    def __repr__(self) -> str:
        options = ", ".join(str(variant) for variant in self.variants if variant is not None)
        return f"OwnCell({self.name!r}{f' with {options}' if options else ''}{f' from {self.source}' if self.source else ''})"


OWN_CELLS: dict[str, OwnCell] = {}


def register(own: OwnCell) -> OwnCell:
    """Let experiments of this process know a cell; one of the same name is replaced.

    Raises:
        ValueError: the name is that of a built-in cell, or no name.
    """
    if own.name in CELLS:
        raise ValueError(f"cell: {own.name!r} is the name of a built-in cell; choose another")
    if not own.name or SEPARATOR in own.name:
        raise ValueError(f"cell: {own.name!r} is not a usable name; give a word without {SEPARATOR!r}")
    OWN_CELLS[own.name] = own
    return own


def own_cell_of(experiment: Experiment, input_size: int, device: str) -> tuple[TorchCell, Array]:
    """(the cell with its parameters drawn, an input (1, 1, D) of the run's kind).

    They are drawn from the run's stream of weights, by torch's generator, in float64: those of float32 are the same, rounded.

    Raises:
        ValueError: what ``build`` returns is no step.
    """
    import torch

    from rnn_core.cells import TorchCell
    from rnn_core.cells.own.step import in_floats

    own = OWN_CELLS[experiment.cell]
    options = options_of(experiment.cell, experiment.cell_options)
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(experiment.seed, "weights").integers(2**63)))
        torch.set_default_dtype(torch.float64)
        try:
            module = own.build(input_size, experiment.hidden_size, **options)
        finally:
            torch.set_default_dtype(before)
    if isinstance(module, torch.nn.Module):
        module = in_floats(module, getattr(torch, experiment.dtype), device)
    cell = TorchCell(module, hidden=own.hidden)
    cell.name = own.name
    x = torch.zeros((1, 1, input_size), dtype=getattr(torch, experiment.dtype), device=device)
    bound: Any = cell.bound(cell.params(), x, None)[0]
    return bound, x


def options_of(name: str, variant: str | None) -> dict[str, Any]:
    """All options of one variant of a user's cell.

    Raises:
        ValueError: there is no such variant. The message names the nearest one.
    """
    variants = OWN_CELLS[name].variants
    if variant in variants:
        return dict(variants[variant])
    if variant is None:
        known = ", ".join(f"{name}{SEPARATOR}{each}" for each in variants)
        raise ValueError(f"cell: {name!r} has several variants; name one of {known}")
    if set(variants) == {None}:
        raise ValueError(
            f"cell_options: {variant!r} is not allowed with cell {name!r}, whose options have one value each"
        )
    choose("cell_options", variant, {str(each): each for each in variants})  # it raises
    raise AssertionError(variant)
