"""x with its first two axes swapped: said where it is likely, and silent where it is not."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import rnn_core as rc

RNG = np.random.default_rng(0)
CELL = rc.VanillaCell()
PARAMS = CELL.init_params(np.random.default_rng(1), 3, 5)


def noise(*shape: int) -> np.ndarray:
    return RNG.standard_normal((*shape, 3))


def waves(sequences: int, steps: int) -> np.ndarray:
    """Smooth signals, batch first."""
    phase = RNG.uniform(0, 6, (sequences, 1, 3))
    return np.sin(phase + 0.1 * np.arange(steps)[None, :, None])


@pytest.mark.parametrize(
    "x",
    [noise(16, 100), noise(8, 50), noise(32, 784), noise(128, 1000), waves(10, 100), waves(20, 64), waves(5, 8)],
    ids=lambda x: str(x.shape),
)
def test_what_looks_batch_first_is_said(x: np.ndarray) -> None:
    with pytest.warns(
        UserWarning, match=r"is read as T = \d+ steps of B = \d+ sequences, and looks batch-first"
    ) as caught:
        rc.forward(CELL, PARAMS, x)
    assert caught[0].filename == __file__  # where the user called
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rc.forward(CELL, PARAMS, x.swapaxes(0, 1))


@pytest.mark.parametrize(
    "x",
    [
        *[noise(100, 16), noise(50, 50), noise(1, 100), noise(2, 256), noise(7, 200), noise(8, 256), noise(64, 100)],
        *[noise(10, 100), noise(16, 30), waves(100, 10).swapaxes(0, 1), waves(7, 64)[:, :7].swapaxes(0, 1)],
        *[np.repeat(noise(10, 1), 40, axis=1), np.zeros((10, 40, 3)), waves(40, 20).swapaxes(0, 1)],
        *[noise(4, 20), noise(6, 12), noise(3, 64), np.full((12, 30, 3), np.inf)],
    ],
    ids=lambda x: str(x.shape),
)
@pytest.mark.filterwarnings("error:x")
def test_what_does_not_is_not(x: np.ndarray) -> None:
    """Steps of noise, a batch larger than the sequence is long, copies of one sequence, smooth signals in order."""
    rc.forward(CELL, PARAMS, x)


@pytest.mark.filterwarnings("error")
def test_a_run_never_warns() -> None:
    """Tasks know their axes."""
    held_out = np.arange(120) < 10
    rc.run(rc.Experiment(sequence_length=8, batch_size=100, hidden_size=4, updates=1))
    data = rc.Sequences(waves(120, 16), np.arange(120) % 2, held_out, "softmax_cross_entropy", "last")  # fmt: skip
    rc.run(rc.Experiment(task="waves", sequence_length=16, batch_size=100, hidden_size=4), data)


def test_shapes_that_fit_only_with_axes_swapped_say_so() -> None:
    x: Any = noise(6, 9)
    with pytest.raises(
        ValueError,
        match=r"state\['hidden'\]: shape \(6, 5\) does not fit; expected \(9, 5\), which is \(B, H\); x \(6, 9, 3\) looks batch-first: swap",
    ):
        rc.forward(CELL, PARAMS, x, {"hidden": np.zeros((6, 5))})
    tape = rc.forward(CELL, PARAMS, x)
    with pytest.raises(
        ValueError,
        match=r"grad_hidden: shape \(9, 6, 5\) .* expected \(6, 9, 5\), which is \(T, B, H\); x \(6, 9, 3\) looks batch-first, or this does",
    ):
        rc.backward(tape, np.zeros((9, 6, 5)))
    for shape in ((6, 8, 5), (6, 9, 4)):
        with pytest.raises(ValueError, match=r"expected \(6, 9, 5\), which is \(T, B, H\)$"):
            rc.backward(tape, np.zeros(shape))
    with pytest.raises(ValueError, match=r"expected \(9, 5\), which is \(B, H\)$"):
        rc.forward(CELL, PARAMS, x, {"hidden": np.zeros((7, 5))})
