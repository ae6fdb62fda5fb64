"""What is added must be added everywhere: each place that was forgotten is named by a failing test.

An activation has three places: its row, its row in the oracles, a formula for 200 digits. A cell has four: its file, its row,
its step in the oracles, a section of the derivation. The config schema is written from the code by ``make docs``.
"""

from __future__ import annotations

import importlib
import inspect
import json
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import rnn_core as rc
from rnn_core.oracles import activations, equations
from rnn_core.tasks import GeneratedTask
from study.tools.write_docs import SCHEMA_FILE
from tests.rnn_core.cells import test_activations

ROOT = Path(__file__).resolve().parent.parent.parent
SETTINGS = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))["properties"]["sweeps"]["additionalProperties"]
SETTINGS = SETTINGS["properties"]["grid"]["properties"]

ACTIVATION_PLACES = {
    "ACTIVATIONS in rnn_core/oracles/activations.py": activations.ACTIVATIONS,
    "REFERENCE in tests/rnn_core/cells/test_activations.py": test_activations.REFERENCE,
    "the config schema: make docs": SETTINGS["activation"]["anyOf"][0]["enum"],
}
CELL_PLACES = {
    "CELLS in rnn_core/oracles/equations.py": equations.CELLS,
    "the config schema: make docs": SETTINGS["cell"]["anyOf"][0]["examples"],  # not all: a study may name its own
}


@pytest.mark.parametrize("place", ACTIVATION_PLACES)
def test_every_activation_is_in(place: str) -> None:
    """An activation was added to rnn_core/activations.py and not here."""
    assert set(ACTIVATION_PLACES[place]) == set(rc.ACTIVATIONS)


@pytest.mark.parametrize("place", CELL_PLACES)
def test_every_cell_is_in(place: str) -> None:
    """A cell was added to rnn_core/cells and not here."""
    assert set(CELL_PLACES[place]) == set(rc.CELLS)


def section_of(cell: str) -> tuple[str, str]:
    """(file, number) of the section that derives a cell, as the first lines of the cell's file say."""
    text = " ".join((sys.modules[rc.CELLS[cell].__module__].__doc__ or "").split())
    named = re.search(r"Derivation: (\S+\.md), section (\d[\d.]*\d|\d)", text)
    assert named, f"rnn_core/cells/{cell}.py does not say which section derives it"
    return named[1], named[2]


@pytest.mark.parametrize("cell", rc.CELLS)
def test_every_cell_is_derived(cell: str) -> None:
    """A cell was added and its backward step is derived nowhere, or its file names a section that is another cell's."""
    file, number = section_of(cell)
    headings = re.findall(r"^#+ (\d[\d.]*)", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
    assert number in headings
    assert [other for other in rc.CELLS if section_of(other) == (file, number)] == [cell]


@pytest.mark.parametrize("cell", rc.CELLS)
def test_captions_say_of_what_matrix_the_linear_law_is(cell: str) -> None:
    """A cell's linear step multiplies by another matrix than W_hh, and it has no ``linear_matrix``: captions print the wrong law."""
    kind = rc.CELLS[cell]()
    weight_hh = np.random.default_rng(0).standard_normal(kind.recurrent_shape(3))
    W = kind.recurrent_matrix(weight_hh)
    jacobian = kind.jacobian(W)
    assert bool(kind.linear_matrix) == (jacobian is not None and not np.allclose(jacobian, W))


@pytest.mark.parametrize("cell", rc.CELLS)
def test_captions_say_of_what_matrix_the_law_at_rest_is(cell: str) -> None:
    """A cell has a law at rest and no linear law, and it has no ``rest_matrices``: captions name a law without its formula."""
    kind = rc.CELLS[cell]()
    params = kind.init_params(np.random.default_rng(0), 2, 3)
    alone = kind.jacobian(kind.recurrent_matrix(params["weight_hh"])) is None if kind.has_matrix else True
    rests = not kind.leaves_rest and rc.theory.rest_rate(kind, params) < math.inf
    assert bool(kind.rest_matrices) == (alone and rests)


@pytest.mark.parametrize("cell", rc.CELLS)
def test_the_oracles_know_a_cell_as_the_engine_does(cell: str) -> None:
    """A cell's row in rnn_core/oracles/equations.py has other gates, states or options than the cell."""
    row, kind = equations.CELLS[cell], rc.CELLS[cell]
    assert (row.gates, row.states, tuple(row.options)) == (len(kind.gates), kind.state_names, kind.options)
    assert {name: getattr(kind(), name) for name in kind.options} == row.options


def test_every_cell_has_a_file_of_its_own() -> None:
    """A cell was added to the registry and not in a file rnn_core/cells/<name>.py, or a file has no row in the registry."""
    files = {file.stem for file in (ROOT / "rnn_core" / "cells").glob("*.py")} - {"__init__"}
    assert {name: kind.__module__ for name, kind in rc.CELLS.items()} == {n: f"rnn_core.cells.{n}" for n in files}


def test_every_cell_is_public() -> None:
    """A cell was added that ``__all__`` of rnn_core/cells/__init__.py does not name."""
    assert {cell.__name__ for cell in rc.CELLS.values()} <= set(rc.__all__)


def test_every_generated_task_is_in_the_registry() -> None:
    """A task was added to rnn_core/tasks and not to GENERATED."""
    for file in (ROOT / "rnn_core" / "tasks").glob("*.py"):
        importlib.import_module(f"rnn_core.tasks.{file.stem}")
    concrete = {task for task in _subclasses(GeneratedTask) if not inspect.isabstract(task)}
    assert concrete == set(rc.GENERATED.values())


def _subclasses(kind: type) -> set[type]:
    return {below for each in kind.__subclasses__() for below in (each, *_subclasses(each))}
