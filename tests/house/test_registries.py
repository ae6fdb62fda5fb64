"""What is added must be added everywhere: each place of the README's table "Where to add" that was forgotten is named."""

from __future__ import annotations

import json

import pytest

import rnn_core as rc
from rnn_core.oracles import activations, equations
from study.tools.write_docs import SCHEMA_FILE
from tests.rnn_core import engine_helpers, test_activations, test_planted_bugs
from verification import cases

SETTINGS = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))["properties"]["sweeps"]["additionalProperties"]
SETTINGS = SETTINGS["properties"]["grid"]["properties"]

ACTIVATION_PLACES = {
    "ACTIVATIONS in rnn_core/oracles/activations.py": activations.ACTIVATIONS,
    "REFERENCE in tests/rnn_core/test_activations.py": test_activations.REFERENCE,
    "TORCH_FUNCTIONS in tests/rnn_core/engine_helpers.py": engine_helpers.TORCH_FUNCTIONS,
    "the config schema: make docs": SETTINGS["activation"]["anyOf"][0]["enum"],
}
CELL_PLACES = {
    "CELLS in rnn_core/oracles/equations.py": equations.CELLS,
    "torch_step in tests/rnn_core/engine_helpers.py": engine_helpers.TORCH_STEPS,
    "CANDIDATE in verification/cases.py": cases.CANDIDATE,
    "the config schema: make docs": SETTINGS["cell"]["anyOf"][0]["enum"],
}
GATED = {name for name, cell in rc.CELLS.items() if cell.gates > 1}
GATE_PLACES = {
    "GATE_BIAS in verification/cases.py": cases.GATE_BIAS,
    "GATES in tests/rnn_core/test_planted_bugs.py": test_planted_bugs.GATES,
}


@pytest.mark.parametrize("place", ACTIVATION_PLACES)
def test_every_activation_is_in(place: str) -> None:
    """An activation was added to rnn_core/activations.py and not here."""
    assert set(ACTIVATION_PLACES[place]) == set(rc.ACTIVATIONS)


@pytest.mark.parametrize("place", CELL_PLACES)
def test_every_cell_is_in(place: str) -> None:
    """A cell was added to rnn_core/cells and not here."""
    assert set(CELL_PLACES[place]) == set(rc.CELLS)


@pytest.mark.parametrize("place", GATE_PLACES)
def test_every_gated_cell_is_in(place: str) -> None:
    """A cell with gates was added to rnn_core/cells and not here."""
    assert set(GATE_PLACES[place]) == GATED


def test_every_cell_is_public() -> None:
    """A cell was added that rnn_core/__init__.py does not export."""
    assert {cell.__name__ for cell in rc.CELLS.values()} <= set(rc.__all__)
