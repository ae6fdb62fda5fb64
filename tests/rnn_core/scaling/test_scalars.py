"""NumPy scalars are numbers wherever one is taken, and the result is the same to the bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core.scalars import as_python, is_integer, is_number

RNG = np.random.default_rng(3)


@pytest.mark.parametrize(
    ("value", "number", "integer"),
    [
        *[(1, True, True), (np.int64(1), True, True), (np.uint8(1), True, True), (1.0, True, False)],
        *[
            (np.float32(1), True, False),
            (np.longdouble(1), True, False),
            (True, False, False),
            (np.True_, False, False),
        ],
        *[(math.nan, False, False), (np.float64("inf"), False, False), ("1", False, False), (None, False, False)],
        *[(1j, False, False), (np.complex64(1), False, False), (np.array([1]), False, False)],
    ],
)
def test_what_counts_as_a_number(value: Any, number: bool, integer: bool) -> None:
    assert (is_number(value), is_integer(value)) == (number, integer)


def test_a_scalar_keeps_its_value() -> None:
    assert as_python(np.float32(0.1)) == float(np.float32(0.1)) and type(as_python(np.longdouble(0.5))) is float
    assert type(as_python(np.int8(7))) is int and as_python("x") == "x" and as_python(None) is None


def network(dtype: type[Any] = np.float64) -> tuple[rc.Cell, dict[str, np.ndarray], np.ndarray]:
    cell = rc.ResidualCell("tanh", step=np.float32(0.5), leak=np.float64(0.25))
    params = cell.init_params(np.random.default_rng(0), np.int32(3), np.int64(4), spectral_radius=np.float32(0.5))
    return cell, {n: v.astype(dtype) for n, v in params.items()}, RNG.standard_normal((30, 2, 3)).astype(dtype)


def test_cells_and_matrices_take_them() -> None:
    cell, params, _ = network()
    assert repr(cell) == repr(rc.ResidualCell("tanh", step=0.5, leak=0.25)) and params["weight_hh"].shape == (4, 4)
    a, b = (
        rc.recurrent_matrix(np.random.default_rng(1), H, "gaussian", rho)
        for H, rho in ((5, 0.5), (np.uint8(5), np.float32(0.5)))
    )
    np.testing.assert_array_equal(a, b)


def test_the_engine_takes_them() -> None:
    """A budget or window overflows in its own small type, or a threshold is refused."""
    cell, params, x = network()
    direct = RNG.standard_normal((30, 2, 4))
    for budget, same in ((np.uint8(100), 100), (np.float32(1e4), 10000.0), (math.inf, None)):
        a, b = (
            rc.backward(rc.forward(cell, params, x, memory_budget=m), lambda s, e: direct[s:e]) for m in (budget, same)
        )
        np.testing.assert_array_equal(a.log_norm, b.log_norm)
    tape = rc.forward(cell, params, x)
    for given in ({"window": np.uint8(7)}, {"signal_threshold": np.float32(0.5)}):
        a, b = (rc.backward(tape, direct, **g) for g in (given, {n: v.item() for n, v in given.items()}))
        np.testing.assert_array_equal(a.params["weight_hh"], b.params["weight_hh"])
    for bad in (np.True_, True, -1, "1", math.nan):
        with pytest.raises(ValueError, match="memory_budget"):
            rc.forward(cell, params, x, memory_budget=bad)
        with pytest.raises(ValueError, match="signal_threshold"):
            rc.backward(tape, direct, signal_threshold=bad)
    for bad in (np.True_, 7.0, np.float64(7), 0):
        with pytest.raises(ValueError, match="window"):
            rc.backward(tape, direct, window=bad)


@pytest.mark.parametrize("make", list(rc.OPTIMIZERS.values()), ids=list(rc.OPTIMIZERS))
def test_a_learning_rate_does_not_decide_the_dtype(make: Any) -> None:
    """np.float64(0.1) times a float32 array is float64: the whole run would be."""
    p, g = {"w": np.ones(3, np.float32)}, {"w": np.full(3, 0.5, np.float32)}
    stepped = make(np.float64(0.1)).step(p, g)["w"]
    assert stepped.dtype == np.float32
    np.testing.assert_array_equal(stepped, make(0.1).step(p, g)["w"])


def test_a_threshold_is_a_number() -> None:
    g = {"w": np.full(3, 0.5, np.float32)}
    assert rc.Clipping("norm", np.float32(0.5)) == rc.Clipping("norm", 0.5)
    assert rc.Clipping("value", np.float64(0.25))(g).grads["w"].dtype == np.float32


def test_the_package_says_its_version_and_that_it_is_typed() -> None:
    from importlib.resources import files

    assert rc.__version__.count(".") == 2 and files("rnn_core").joinpath("py.typed").is_file()
