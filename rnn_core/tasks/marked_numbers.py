"""Add, or multiply, the two numbers of a sequence that are marked."""

from __future__ import annotations

import math

import numpy as np

from rnn_core.arrays import Array, namespace
from rnn_core.streams import stream
from rnn_core.tasks.base import Batch
from rnn_core.tasks.generated import GeneratedTask

WRONG_BEYOND = 0.2  # a squared error of .04, as Pascanu, Mikolov & Bengio (2013) count


class Adding(GeneratedTask):
    """The sum of two numbers. One of the first half of the steps is marked, and one of the rest (Arjovsky, Shah & Bengio 2016).

    Every step shows (a number from U(0, 1), a mark of 0 or 1). Hochreiter & Schmidhuber (1997) asked first; they, and Pascanu et al.
    (2013), mark the first tenth and the four tenths after it.
    """

    default_loss_at = "last"
    default_input_size = 2
    wrong_if = f"it is more than {WRONG_BEYOND} off"
    own = ("loss_at", "input_size")
    shortest = 2
    white_inputs = False
    prefixes = False

    def draw(self, name: str, index: int, size: int) -> Batch:
        rng, each, half = stream(self.seed, name, index), np.arange(size), self.T // 2
        marked = [rng.integers(half, size=size), rng.integers(half, self.T, size=size)]
        x = np.zeros((self.T, size, 2))
        x[..., 0] = rng.random((self.T, size))
        for step in marked:
            x[step, each, 1] = 1.0
        first, second = (x[step, each, 0] for step in marked)
        return Batch(x, self.answer(first, second)[:, None])

    def answer(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """What is asked of the two numbers."""
        return np.asarray(first + second)

    @property
    def baseline(self) -> float:
        """½ Var(u + v) = ½ · 1/6, of the guess 1."""
        return 1.0 / 12.0

    @property
    def counts_wrong(self) -> bool:
        """Yes: ``wrong`` says how far off is wrong."""
        return True

    def wrong(self, y: Array, target: Array) -> Array:
        """Answers that are more than 0.2 off."""
        xp = namespace(y)
        return xp.abs(y - target)[..., 0] > WRONG_BEYOND

    @property
    def baseline_error(self) -> float:
        """P(|u + v - 1| > w) = (1 - w)² of the guess 1, where the triangular density of u + v is highest; w = 0.2, so 0.64."""
        return (1.0 - WRONG_BEYOND) ** 2


class Multiplication(Adding):
    """The product of the two numbers (Hochreiter & Schmidhuber 1997), marked as in ``Adding``."""

    def answer(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.asarray(first * second)

    @property
    def baseline(self) -> float:
        """½ Var(u v) = ½ (1/9 - 1/16) = ½ · 7/144, of the guess ¼."""
        return 7.0 / 288.0

    @property
    def baseline_error(self) -> float:
        """P(u v > 2 w) of the guess w = 0.2: the density of u v, -ln p, falls, and P(u v <= p) = p (1 - ln p). So 0.2335."""
        return 1.0 - 2.0 * WRONG_BEYOND * (1.0 - math.log(2.0 * WRONG_BEYOND))
