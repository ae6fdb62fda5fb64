"""What rounding may do to a result: measured where it matters, and never more.

A result in floats is right if it is the exact one of numbers that differ in their last digits (Higham 2002, section 1.5). So a
reference is computed from the engine's own numbers in float64, whatever precision these have: of a float32 engine it has no rounding
of its own. Where an error is large enough to matter, it is computed again, from numbers changed in their last digits, in the engine's
precision. What it moves by, the engine may be off by. A derivative that underflows has another floor: it cannot be known better than
the smallest normal number, times what it is multiplied by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from rnn_core.arrays import Array
from rnn_core.oracles.compare import log_distance, step_errors
from rnn_core.oracles.scaled import whole
from rnn_core.scaling import LN2, Scaled

ROUNDING = 2.0  # times eps: by how much numbers are changed to find out what rounding does
ALLOWED = 8.0  # so many times what the changes do is no error
SUSPECT = 1e3  # times eps: a larger error is held against what rounding can do there
# How often numbers are changed: so often at once, and until so often while an error still looks like a fault. One change may happen to
# leave a result as it is: a number beside a kink is pushed over it by half of them.
TRIALS, MOST_TRIALS = 4, 16
# Powers of two: what a derivative that underflows costs is below the smallest normal number, times what weights, states and sums make of it.
LEEWAY = 16

Results = Mapping[str, Scaled]  # by name, an exponent for every step
Source: TypeAlias = "torch.Generator | None"  # where changes come from; None: numbers stay as they are


@dataclass(frozen=True)
class Precision:
    """Of the engine's numbers: eps and the smallest normal number."""

    eps: float
    tiny: float

    @classmethod
    def of(cls, x: Tensor) -> Precision:
        """That of a tensor's dtype."""
        limits = torch.finfo(x.dtype)
        return cls(float(limits.eps), float(limits.tiny))

    def lost(self, *factors: Tensor) -> int:
        """The exponent of what underflow may cost a product of a number of size 1 with each of the factors, whichever comes first."""
        return math.frexp(self.tiny)[1] + LEEWAY + sum(max(0, _exponent(factor)) for factor in factors)

    def not_stored(self, *factors: Tensor) -> int:
        """The exponent of what storing a number in plain floats may cost such a product: what is below the smallest float becomes 0."""
        return math.frexp(self.tiny * self.eps)[1] + LEEWAY // 2 + sum(max(0, _exponent(factor)) for factor in factors)

    def moved(self, x: Tensor, source: Source) -> Tensor:
        """``x`` in float64 with its last digit changed at random; as it is without a ``source``."""
        return moved(x.double(), source, self.eps)

    def rounded(self, x: Tensor, source: Source) -> Tensor:
        """A result as another program may have it: ``moved``, and what underflows has either sign, or is 0."""
        if source is None:
            return x
        sign = torch.randint(-1, 2, x.shape, generator=source, dtype=torch.float64).to(x)
        return self.moved(x, source) + self.tiny * sign


def _exponent(x: Tensor) -> int:
    largest = float(x.abs().max()) if x.numel() else 0.0
    return math.frexp(largest)[1] if math.isfinite(largest) else 0


def noise(trial: int) -> torch.Generator:
    """Where a trial takes its changes from."""
    return torch.Generator().manual_seed(trial)


def moved(x: Tensor, source: Source, eps: float | None = None) -> Tensor:
    """``x`` with its last digit changed at random, by ``eps`` or by that of its dtype; as it is without a ``source``."""
    if source is None:
        return x
    change = 2.0 * torch.rand(x.shape, generator=source, dtype=torch.float64).to(x) - 1.0
    return x * (1.0 + ROUNDING * (torch.finfo(x.dtype).eps if eps is None else eps) * change)


def judged(
    compute: Callable[[Source], Results],
    ours: Callable[[str], Scaled],
    eps: float,
    floors: Callable[[], Mapping[str, np.ndarray | int]],
    sizes: Mapping[str, float] | None = None,
) -> dict[str, np.ndarray]:
    """The relative errors of every step, by name, beyond what rounding may do.

    Args:
        compute: the reference, from numbers as they are or changed.
        ours: the engine's result of that name. It is asked for after the reference.
        eps: of the engine's numbers.
        floors: exponents; results that are nearer to each other than 2**exponent are the same.
        sizes: ln of what errors are relative to, where that is not the size of the reference.
    """
    reference = compute(None)
    claims = {name: ours(name) for name in reference}
    errors = {name: step_errors(claims[name], value) for name, value in reference.items()}
    for name, size in (sizes or {}).items():
        errors[name] = _relative(log_distance(claims[name], reference[name]), size)
    if not _suspect(errors, eps):
        return errors
    distances = {name: log_distance(claims[name], value) for name, value in reference.items()}
    allowed = {name: np.full(len(each), -math.inf) for name, each in errors.items()}
    for name, floor in floors().items():
        if name in allowed:
            allowed[name] = np.maximum(allowed[name], np.asarray(floor) * LN2)
    left = {name: _beyond(errors[name], distances[name], allowed[name]) for name in errors}
    for trial in range(MOST_TRIALS):
        if not _suspect(left, eps):
            break
        for name, value in compute(noise(trial)).items():
            allowed[name] = _allowing(allowed[name], value, reference[name])
        if trial + 1 >= TRIALS:
            left = {name: _beyond(errors[name], distances[name], allowed[name]) for name in errors}
    return left


def beyond_rounding(ours: Array | Scaled, reference: Array | Scaled, again: list[Array | Scaled]) -> float:
    """The relative error of an array with one exponent, less what rounding may do: ``again`` is ``reference`` from changed numbers."""
    right, own, *changed = (whole(each) for each in (reference, ours, *again))
    return float(errors_beyond_rounding(own, right, changed)[0])


def errors_beyond_rounding(ours: Array | Scaled, reference: Array | Scaled, again: list[Array | Scaled]) -> np.ndarray:
    """``beyond_rounding`` of every step, float64 (T,)."""
    errors, distance = step_errors(ours, reference), log_distance(ours, reference)
    allowed = np.full(len(errors), -math.inf)
    for each in again:
        allowed = _allowing(allowed, each, reference)
    return _beyond(errors, distance, allowed)


def _allowing(allowed: np.ndarray, changed: Array | Scaled, reference: Array | Scaled) -> np.ndarray:
    """ln of what is allowed, once the reference has moved to ``changed``. A change that leaves the range of floats says nothing."""
    change = log_distance(changed, reference) + math.log(ALLOWED)
    return np.asarray(np.fmax(allowed, change))


def _suspect(errors: Mapping[str, np.ndarray], eps: float) -> bool:
    return any((each > SUSPECT * eps).any() for each in errors.values())


def _beyond(error: np.ndarray, distance: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """What is left of errors, from ln of their distances and of what is allowed; all of it where a result is not finite."""
    with np.errstate(invalid="ignore"):
        share = np.where(np.isnan(distance), 1.0, -np.expm1(np.minimum(0.0, allowed - distance)))
        return np.where(distance <= allowed, 0.0, error * share)


def _relative(distance: np.ndarray, size: float) -> np.ndarray:
    """exp(distance - size); inf where it is not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(np.isnan(distance), math.inf, np.where(distance == -math.inf, 0.0, np.exp(distance - size)))
