"""The Jacobians of single steps, against autograd of equations written by another hand, for every cell, library and way to keep a tape."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core import compiled
from rnn_core.arrays import to_numpy
from rnn_core.theory import jacobians
from tests.rnn_core.theory.spectra_oracles import driven, jacobians_by_autograd
from tests.support.arrays import DTYPES, LIBRARIES, array, worst_relative

CELLS = [
    rc.VanillaCell("tanh"), rc.VanillaCell("relu"), rc.ResidualCell("softplus", 0.5, 0.25), rc.GRUCell("tanh"),
    rc.GRUResetBeforeCell("gelu"), rc.LSTMCell("tanh"),
]  # fmt: skip
cells = pytest.mark.parametrize("cell", CELLS, ids=repr)


@cells
@pytest.mark.parametrize("fast", [True, False])
def test_every_cell_has_the_jacobians_that_autograd_finds(cell: rc.Cell, fast: bool) -> None:
    """W^T stands for W, a gate is forgotten, or an LSTM's c_t does not act through h_t."""
    if fast:
        tape = driven(cell, T=7, B=3, H=5)
    else:
        with compiled.switched_off():
            tape = driven(cell, T=7, B=3, H=5)
    for sample in range(3):
        found = jacobians(tape, sample)
        assert found.shape == (7, 5 * len(cell.state_names), 5 * len(cell.state_names))
        assert worst_relative(found, jacobians_by_autograd(tape, sample)) < 1e-14


@cells
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_they_come_in_the_library_and_dtype_of_the_tape(cell: rc.Cell, library: str, dtype: str) -> None:
    """The derivative is taken in float64 whatever the tape's dtype: only its states are rounded."""
    reference = driven(cell, T=5, B=2, H=4, dtype=dtype)
    tape = rc.forward(
        cell,
        {name: array(v, library, dtype) for name, v in reference.params.items()},
        array(reference.x, library, dtype),
    )
    found = jacobians(tape, 1)
    assert type(found) is type(tape.x) and found.dtype == tape.x.dtype
    tolerance = 1e-14 if dtype == "float64" else 3e-6
    assert worst_relative(to_numpy(found), jacobians_by_autograd(reference, 1)) < tolerance


@cells
def test_a_tape_with_checkpoints_has_the_same(cell: rc.Cell) -> None:
    """A segment's own count of steps stands for the sequence's."""
    tape = driven(cell, T=300, B=2, H=3)
    again = rc.forward(cell, tape.params, tape.x, memory_budget=1)
    assert again.kept is None
    assert worst_relative(jacobians(again, 1), jacobians(tape, 1)) < 1e-15


def test_states_beyond_the_range_of_floats_have_jacobians() -> None:
    """phi' of a homogeneous activation knows no scale, and the exponent of h_t is none of its business."""
    W = np.random.default_rng(0).standard_normal((4, 4)) * 50.0
    params = {"weight_ih": np.ones((4, 1)), "weight_hh": W}
    tape = rc.forward(rc.VanillaCell("leaky_relu"), params, np.ones((400, 1, 1)))
    assert isinstance(tape.hidden, rc.Scaled)
    found = jacobians(tape)
    slopes = found / W  # one number a row
    assert np.isin(np.round(slopes, 12), (0.01, 1.0)).all()
    assert (slopes.max(axis=2) - slopes.min(axis=2) < 1e-14).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda tape: jacobians(tape.hidden), "tape: ndarray is not allowed; it must be what rc.forward returns"),
        (lambda tape: jacobians(tape, 3), "sample: 3 is not allowed; it must be an integer from 0 to 2, for B = 3"),
        (lambda tape: jacobians(tape, -1), "sample: -1 is not allowed"),
        (lambda tape: jacobians(tape, 0.0), "sample: 0.0 is not allowed"),
        (lambda tape: jacobians(tape, True), "sample: True is not allowed"),
    ],
)
def test_a_wrong_argument_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(driven(rc.VanillaCell(), T=4, B=3, H=2))
