"""Array libraries, lookups in registries, axes: the small things that everything stands on."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.arrays import DTYPES, namespace, place, to_numpy
from rnn_core.axes import Axis
from rnn_core.cells import make_cell
from rnn_core.choices import choose, unknown
from rnn_core.experiment import axes


@pytest.mark.parametrize("dtype", DTYPES)
def test_place(dtype: str) -> None:
    """A run on the CPU is not NumPy, one on another device is not torch, or the dtype is lost."""
    values = np.arange(3.0)
    on_cpu, on_torch = place(values, dtype, "cpu"), place(values, dtype, "cpu:0")
    assert isinstance(on_cpu, np.ndarray) and on_cpu.dtype == dtype
    assert isinstance(on_torch, torch.Tensor) and on_torch.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(to_numpy(on_torch), values)
    assert namespace(on_cpu) is np
    assert "torch" in namespace(on_torch).__name__


def test_to_numpy_detaches() -> None:
    """A tensor that autograd watches cannot be measured."""
    np.testing.assert_array_equal(to_numpy(torch.ones(2, requires_grad=True)), [1.0, 1.0])


def test_an_unknown_name_is_answered() -> None:
    """The message leaves out what was given, what is allowed, or the nearest name; or it makes one up where none is near."""
    assert unknown("colour", "gren", ["green", "blue"]) == (
        "colour: 'gren' is not known; allowed: green, blue. Did you mean 'green'?"
    )
    assert unknown("colour", "xyz", ["green"]) == "colour: 'xyz' is not known; allowed: green."
    assert choose("colour", "green", {"green": 3}) == 3
    with pytest.raises(ValueError, match="Did you mean 'green'"):
        choose("colour", "greem", {"green": 3})


def test_cells_are_made_by_name() -> None:
    """A cell gets another activation than the experiment names."""
    for name, kind in rc.CELLS.items():
        cell = make_cell(name, "relu")
        assert isinstance(cell, kind) and cell.name == name
        assert "relu" in repr(cell)
    with pytest.raises(ValueError, match=r"cell: 'vanila' .*Did you mean 'vanilla'\?"):
        make_cell("vanila", "tanh")
    with pytest.raises(ValueError, match="activation"):
        make_cell("vanilla", "thanh")


@pytest.mark.parametrize(
    ("axis", "good", "bad"),
    [
        (Axis("choice", "", "", "", choices=("a", "b")), ["a", "b"], ["c", 1, None, ""]),
        (Axis("choice", "", "", "", choices=("a",), unset="the default"), ["a", None], ["b"]),
        (Axis("name", "", "", ""), ["anything"], [1, None]),
        (Axis("integer", "", "", "", minimum=1), [1, 10**6], [0, -1, 1.0, "1", True, None]),
        (Axis("integer", "", "", "", minimum=1, unset="the default"), [1, None], [0, True]),
        (
            Axis("number", "", "", "", above=0),
            [1, 1e-300, 0.5],
            [0, 0.0, -1, float("nan"), float("inf"), "1", False, None],
        ),
        (Axis("number", "", "", ""), [-1.0, 0], [float("nan"), "x"]),
    ],
)
def test_an_axis_lets_in_what_it_says(axis: Axis, good: list[Any], bad: list[Any]) -> None:
    """A value that no run can use is let in, or one that it can is kept out."""
    for value in good:
        axis.check("key", value)
    for value in bad:
        with pytest.raises(ValueError, match=re.escape(f"key: {value!r} is not")):
            axis.check("key", value)


def test_schemas_say_the_same() -> None:
    """The config schema, which plans a study, and the check of an experiment, which runs it, disagree."""
    for name, axis in axes().items():
        schema = axis.json_schema()
        if axis.kind == "choice":
            assert schema["enum"] == list(axis.choices), name
        elif axis.kind in ("integer", "number"):
            assert schema["type"] == axis.kind, name
            assert schema.get("minimum") == axis.minimum, name
            assert schema.get("exclusiveMinimum") == axis.above, name
        else:
            assert schema["type"] == ("boolean" if axis.kind == "flag" else "string"), name
