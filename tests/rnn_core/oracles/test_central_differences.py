"""Central differences: exact where they must be, with the error law that the docstring states elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import rnn_core as rc
from rnn_core import readout
from rnn_core.oracles.central_differences import best_step, central_difference


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 1, 4)])
def test_a_quadratic_is_differentiated_exactly(dtype: type, shape: tuple[int, ...]) -> None:
    """An entry is left out, counted twice, or computed in another dtype: with binary numbers there is no rounding at all."""
    at: np.ndarray = np.arange(-2, np.prod(shape) - 2, dtype=dtype).reshape(shape)
    gradient = central_difference(lambda v: np.sum(v * v), at, 0.25)
    assert gradient.dtype == dtype and gradient.shape == shape
    np.testing.assert_array_equal(gradient, 2 * at)


def test_every_difference_moves_one_entry_both_ways() -> None:
    """Two entries move together, or only to one side."""
    seen: list[np.ndarray] = []

    def watch(v: np.ndarray) -> float:
        seen.append(v)
        return 0.0

    at = np.array([[1.0, 2.0], [3.0, 4.0]])
    central_difference(watch, at, 0.5)
    moves = [(v - at).ravel().tolist() for v in seen]
    assert moves == [(s * row).tolist() for row in 0.5 * np.eye(4) for s in (1, -1)]


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_argument_is_never_modified(order: str) -> None:
    """The array given comes back changed: by the difference itself, or by a function that writes into what it receives."""
    at = np.asarray(np.arange(6.0).reshape(2, 3), order=order)  # type: ignore[call-overload]
    before = at.copy()

    def careless(v: np.ndarray) -> float:
        v *= 2.0
        return float(v.sum())

    np.testing.assert_array_equal(central_difference(careless, at, 0.5), np.full((2, 3), 2.0))
    np.testing.assert_array_equal(at, before)
    at.setflags(write=False)
    central_difference(careless, at, 0.5)
    central_difference(careless, at.T[::-1], 0.5)  # a view with strides of its own


def test_the_error_is_step_squared_until_rounding_takes_over() -> None:
    """A one-sided difference has slipped in: its error falls as step, not as step²; and below the best step it grows again."""
    at = np.array([0.7])

    def error(step: float) -> float:
        return abs(float(central_difference(lambda v: np.exp(v[0]), at, step)[0]) - float(np.exp(0.7)))

    for step in (1e-1, 1e-2, 1e-3):
        assert error(step) == pytest.approx(np.exp(0.7) * step**2 / 6, rel=0.01)
    best = error(best_step(np.float64))
    assert best < 1e-9
    assert error(1e-12) > 1e3 * best


def test_the_best_step_is_the_cube_root_of_eps() -> None:
    """The step is that of a one-sided difference (a square root), or forgets the dtype."""
    for dtype in (np.float32, np.float64):
        assert best_step(dtype) ** 3 == pytest.approx(np.finfo(dtype).eps, rel=1e-12)


def test_the_best_step_is_near_the_best_in_float32_too() -> None:
    """float32 needs a far larger step than float64: with 1e-5 two digits of the gradient are left, with the best one four."""
    at = np.linspace(-1, 1, 41, dtype=np.float32)
    exact = np.exp(at.astype(np.float64))

    def worst(step: float) -> float:
        return float(np.abs(central_difference(lambda v: np.exp(v).sum(dtype=np.float64), at, step) / exact - 1).max())

    assert worst(best_step(np.float32)) < worst(1e-5) / 10


def test_the_engine_agrees() -> None:
    """The engine's gradients of a whole sequence, by a program that knows nothing of derivatives."""
    rng = np.random.default_rng(5)
    cell = rc.VanillaCell("tanh")
    params = cell.init_params(rng, 3, 4) | readout.init_readout(rng, 4, 2)
    x, target = rng.standard_normal((6, 2, 3)), rng.integers(0, 2, (6, 2))

    def loss(p: dict[str, np.ndarray], x: np.ndarray) -> float:
        y = readout.forward(p, rc.forward(cell, p, x).hidden)
        return float(rc.LOSSES["softmax_cross_entropy"](y, target)[0].sum())

    tape = rc.forward(cell, params, x)
    _, dy = rc.LOSSES["softmax_cross_entropy"](readout.forward(params, tape.hidden), target)
    readout_grads, dh = readout.backward(params, tape.hidden, dy)
    gradients = rc.backward(tape, dh)
    step = best_step(np.float64)
    for name, grad in {**gradients.params, **readout_grads}.items():
        numeric = central_difference(lambda v, name=name: loss({**params, name: v}, x), params[name], step)  # type: ignore[misc]
        np.testing.assert_allclose(numeric, np.asarray(grad), rtol=0, atol=1e-8)
    np.testing.assert_allclose(
        central_difference(lambda v: loss(params, v), x, step), np.asarray(gradients.x), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("step", [0.0, -1e-5, float("nan"), float("inf"), 1e-60])
def test_a_step_that_cannot_be_taken_is_refused(step: float) -> None:
    """A division by zero or a gradient with the wrong sign comes back; 1e-60 is zero in float32."""
    with pytest.raises(ValueError, match="step"):
        central_difference(lambda v: float(v.sum()), np.zeros(2, np.float32), step)


def test_integers_are_refused() -> None:
    """In an integer array the step would be rounded to nothing."""
    with pytest.raises(TypeError, match="floating point"):
        central_difference(lambda v: float(v.sum()), np.zeros(2, np.int64), 0.5)
