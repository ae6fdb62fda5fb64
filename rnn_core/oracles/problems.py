"""What a problem must be like for a check of it to see every mistake."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rnn_core.arrays import like
from rnn_core.experiment import Problem


def with_biases(problem: Problem) -> Problem:
    """The problem with biases that are not zero: where they are, a mistake in them goes unseen."""
    rng = np.random.default_rng(0)
    biases = {
        name: like(0.1 * rng.standard_normal(tuple(value.shape)), value)
        for name, value in problem.params.items()
        if name.startswith("bias")
    }
    return replace(problem, params={**problem.params, **biases})
