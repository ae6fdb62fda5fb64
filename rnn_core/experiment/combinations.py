"""Settings of one run that do not go together. What each may be by itself, its ``axis`` says (``settings.py``)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from rnn_core import flossing, regularizers
from rnn_core.cells import CELLS
from rnn_core.initializers import OF_OWN_SIZE, check_size
from rnn_core.tasks import GENERATED

if TYPE_CHECKING:
    from rnn_core.experiment.settings import Experiment

OWN_FORM = "whose W_hh has a form of its own"


def check(experiment: Experiment) -> None:
    """Refuse what does not go together.

    Raises:
        ValueError: naming a setting, its value, and what it is not allowed with.
    """
    for of in (_size, _cell_options, _omega, _flossing, _biases, _scale, _draw, _correlation):
        of(experiment)


def _refuse(name: str, value: Any, why: str) -> NoReturn:
    raise ValueError(f"{name}: {value!r} is not allowed {why}")


def _size(e: Experiment) -> None:
    """A matrix has a size that its draw can have."""
    if e.initializer is not None:
        check_size(e.initializer, e.hidden_size)


def _cell_options(e: Experiment) -> None:
    """The settings of some cells are not given with another."""
    for name, cells in _owners().items():
        value = getattr(e, name)
        if value is not None and e.cell not in cells:
            have = f"only {cells[0]!r} has it" if len(cells) == 1 else f"only {', '.join(map(repr, cells))} have it"
            _refuse(name, value, f"with cell {e.cell!r}; {have}")


@cache
def _owners() -> dict[str, tuple[str, ...]]:
    """The settings that only some cells have, with those cells."""
    from rnn_core.experiment.settings import axes  # which imports this module

    return {name: axis.cells for name, axis in axes().items() if axis.cells}


def _omega(e: Experiment) -> None:
    if e.omega and e.cell not in regularizers.COVERED:
        _refuse("omega", e.omega, f"with cell {e.cell!r}; {regularizers.ONLY}")
    if e.omega and e.several_recurrences:
        _refuse("omega", e.omega, f"with {e.several_recurrences}; {regularizers.ONE_LAYER}")


def _flossing(e: Experiment) -> None:
    """Only some cells can be flossed, in no more directions than they have units."""
    if e.flossing and e.cell not in flossing.COVERED:
        _refuse("flossing", e.flossing, f"with cell {e.cell!r}; {flossing.ONLY}")
    if e.flossing and e.several_recurrences:
        _refuse("flossing", e.flossing, f"with {e.several_recurrences}; {flossing.ONE_LAYER}")
    k, H = e.flossing_exponents, e.hidden_size
    if k is not None and k > H:
        raise ValueError(
            f"flossing_exponents: {k!r} is not allowed; a network of hidden_size: {H!r} has no more than that"
        )


def _biases(e: Experiment) -> None:
    if e.chrono is not None and e.forget_bias is not None:
        _refuse("forget_bias", e.forget_bias, f"beside chrono: {e.chrono!r}; both set the same bias")


def _scale(e: Experiment) -> None:
    """At most one number scales W_hh, and only where it has no size or form of its own."""
    if e.weight_scale is None:
        return
    if e.spectral_radius not in (None, type(e).spectral_radius):
        _refuse(
            "spectral_radius",
            e.spectral_radius,
            f"beside weight_scale: {e.weight_scale!r}; one of them scales W_hh",
        )
    if e.cell in CELLS and CELLS[e.cell].draws is not None:
        _refuse("weight_scale", e.weight_scale, f"with cell {e.cell!r}, {OWN_FORM}")
    if e.initializer in OF_OWN_SIZE:
        _refuse("weight_scale", e.weight_scale, f"with initializer {e.initializer!r}, which has a size of its own")


def _draw(e: Experiment) -> None:
    """A cell whose W_hh has a form of its own draws it by what that form allows."""
    draws = CELLS[e.cell].draws if e.cell in CELLS else None
    if draws is not None and e.initializer not in draws:
        _refuse("initializer", e.initializer, f"with cell {e.cell!r}, {OWN_FORM}; allowed: {', '.join(draws)}")


def _correlation(e: Experiment) -> None:
    """Only a task that draws its inputs so has correlated ones."""
    task = GENERATED.get(e.task)
    if e.input_correlation and not (task is not None and task.correlates):
        able = ", ".join(name for name, kind in GENERATED.items() if kind.correlates)
        _refuse("input_correlation", e.input_correlation, f"with task {e.task!r}; only {able} has it")
