"""Oracle for a cell of the user's own: a step of one sample alone against the same sample in its batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rnn_core.oracles.compare import Error, worst
from rnn_core.oracles.unrolled import Module, Parts

STEPS = 8  # that are looked at, evenly spread over the sequence, the first and the last among them


def sample_error(module: Module, x: Tensor, before: dict[int, Parts]) -> Error:
    """The worst relative error over samples, steps and parts of the state.

    Args:
        x: the inputs, (T, B, D).
        before: the state before each step that is looked at, by t - 1.
    """
    errors = []
    for t, parts in before.items():
        with torch.no_grad():
            together = module.step(x[t], parts)
            for b in range(x.shape[1]):
                alone = module.step(x[t, b : b + 1], {name: part[b : b + 1] for name, part in parts.items()})
                errors += [
                    Error(_relative(alone[name][0], part[b]), f"{name} of sample {b + 1}, t = {t + 1}")
                    for name, part in together.items()
                ]
    return worst(errors)


def _relative(ours: Tensor, reference: Tensor) -> float:
    size, difference = float(reference.norm()), float((ours - reference).norm())
    return difference / size if size else 0.0 if difference == 0.0 else math.inf
