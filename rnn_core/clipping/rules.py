"""Rules of a fixed threshold, what every rule returns, and clipping on the way back through time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rnn_core.arrays import Array, Params, like, namespace
from rnn_core.scaling import LN2, Scaled, log_norm, log_norms, mantissa_and_exponents, plain, times, times_power_of_two

Gradient = dict[str, "Array | Scaled"]

SMALLEST_WEIGHT_NORM = 1e-3  # Brock et al. 2021, eq. 3: lest a unit whose weights are 0 can never leave 0


@dataclass(frozen=True, repr=False)
class Clipped:
    """What a rule returns.

    Attributes:
        grads: by parameter name.
        factor: norm after over norm before; 1 where nothing was clipped, nan where not finite. (Above 1 only where clipping the
            signal kept parts from cancelling.)
        log_norm_before: ln of the global norm.
        log_norm_after: ln of the global norm.
        finite: False if a gradient held inf or nan.
        memory: what a rule that adapts in time remembers, to be given to it with the next gradient; None for the others.
    """

    grads: Gradient
    factor: float
    log_norm_before: float
    log_norm_after: float
    finite: bool
    memory: Any = None

    def __repr__(self) -> str:
        norms = f"log_norm {self.log_norm_before:.4g} to {self.log_norm_after:.4g}"
        return f"Clipped({', '.join(self.grads)}; factor={self.factor:.4g}, {norms}, finite={self.finite})"


def global_log_norm(grads: Gradient) -> float:
    """ln of the norm of all gradients taken as one vector; nan or inf where an entry is."""
    norms = [log_norm(g) for g in grads.values()]
    if any(map(math.isnan, norms)):
        return math.nan
    peak = max(norms)
    return peak if math.isinf(peak) else peak + 0.5 * math.log(sum(math.exp(2.0 * (norm - peak)) for norm in norms))


def none(grads: Gradient, threshold: float | None = None, params: Params | None = None) -> Clipped:
    """Nothing is clipped; the norm is reported."""
    before = global_log_norm(grads)
    return result(grads, grads, before, before)


def by_norm(grads: Gradient, threshold: float, params: Params | None = None) -> Clipped:
    """g <- g · threshold/‖g‖ where the global norm exceeds the threshold (Pascanu, Mikolov & Bengio 2013, algorithm 1)."""
    return scaled_to(grads, math.log(threshold))


def scaled_to(grads: Gradient, log_threshold: float) -> Clipped:
    """``by_norm`` for a threshold of any size, by its logarithm."""
    before = global_log_norm(grads)
    log_factor = log_threshold - before
    if not log_factor < 0.0 or math.isinf(before):  # within the threshold, or not finite
        return result(grads, grads, before, before)
    # The factor itself may underflow, so it too is a mantissa, in [1/2, 1), and an exponent.
    exponent = math.floor(log_factor / LN2) + 1
    mantissa = math.exp(log_factor - exponent * LN2)
    clipped = {name: times(g, mantissa, exponent) for name, g in grads.items()}
    return result(grads, clipped, before, global_log_norm(clipped))


def by_value(grads: Gradient, threshold: float, params: Params | None = None) -> Clipped:
    """Every entry is moved into [-threshold, threshold] (Mikolov 2012); the direction changes."""
    before = global_log_norm(grads)
    if not is_finite(before):
        return result(grads, grads, before, before)
    clipped: Gradient = {}
    for name, g in grads.items():
        if isinstance(g, Scaled) and g.log_norm() <= math.log(threshold):  # too small for plain floats: within
            clipped[name] = g
        else:
            values = plain(g)
            clipped[name] = namespace(values).clip(values, -threshold, threshold)
    return result(grads, clipped, before, global_log_norm(clipped))


def by_parameter(grads: Gradient, threshold: float, params: Params | None = None) -> Clipped:
    """Every parameter's gradient is clipped to the norm by itself, so that one which explodes does not shrink the others.

    McMahan et al. 2018, section 2 ("per-layer clipping"; here one threshold for all), Keras's ``clipnorm``. The direction of
    the whole changes. Where one gradient is not finite, all are left.
    """
    before = global_log_norm(grads)
    if not is_finite(before):
        return result(grads, grads, before, before)
    clipped = {name: by_norm({name: g}, threshold).grads[name] for name, g in grads.items()}
    return result(grads, clipped, before, global_log_norm(clipped))


def adaptive(grads: Gradient, threshold: float, params: Params | None = None) -> Clipped:
    """g_i <- g_i · threshold·‖w_i‖*/‖g_i‖ for every unit i with ‖g_i‖/‖w_i‖* > threshold, ‖w_i‖* = max(‖w_i‖, 1e-3).

    Adaptive gradient clipping (Brock, De, Smith & Simonyan 2021, eq. 3). A unit is a row of a matrix (one
    column or many); a vector is one unit, as in their code (``unitwise_norm``). Every parameter is clipped; they leave the
    last linear layer's weights out. Where one gradient is not finite, all are left; where the weights of a unit are not, its
    gradient is.

    Raises:
        ValueError: ``params`` is missing.
    """
    if params is None:
        raise ValueError("clipping: adaptive compares gradients with parameters; give params")
    before = global_log_norm(grads)
    if not is_finite(before):
        return result(grads, grads, before, before)
    clipped = {name: _clip_units(g, params[name], threshold) for name, g in grads.items()}
    return result(grads, clipped, before, global_log_norm(clipped))


def signal(grads: Gradient, threshold: float, params: Params | None = None) -> Clipped:
    """Not a rule for finished gradients: see ``clip_signal``.

    Raises:
        ValueError: always.
    """
    raise ValueError(
        "clipping: signal acts inside the backward pass, at every time step (clip_signal); it cannot clip finished gradients"
    )


def clip_signal(parts: dict[str, Array], exponent: int, threshold: float) -> tuple[dict[str, Array], int]:
    """Every entry of what flows back through time is moved into [-threshold, threshold], as (parts, exponent).

    Graves 2013, section 2.1, who clips dL/d(preactivations) of his LSTM layers at every step. The values of ``parts`` are what
    is stored times 2**exponent, and are compared with the threshold (rounded to their dtype) as such, whatever their size.
    If none is outside, both arguments come back as they are. Otherwise the values are plain floats and the exponent is 0: an
    entry too small for a plain float becomes 0 beside one that was clipped. If an entry is inf or nan nothing changes, so that
    a gradient that broke down says so.
    """
    first = next(iter(parts.values()))
    xp = namespace(first)
    numbers = xp.finfo(first.dtype)
    limit = float(like(max(min(threshold, float(numbers.max)), float(numbers.smallest_normal)), first))
    sizes = [float(xp.max(xp.abs(part))) for part in parts.values()]
    if not all(map(math.isfinite, sizes)) or not _exceeds(max(sizes), exponent, limit):
        return parts, exponent
    with np.errstate(over="ignore"):  # what overflows is outside, and is clipped
        values = {name: times_power_of_two(part, exponent) for name, part in parts.items()}
    return {name: xp.clip(part, -limit, limit) for name, part in values.items()}, 0


def compare(before: Gradient, after: Gradient) -> Clipped:
    """What was done to gradients that were clipped elsewhere: ``after`` with the factor and norms. nan if either is not finite."""
    return result(before, after, global_log_norm(before), global_log_norm(after))


def _clip_units(g: Array | Scaled, weights: Array, threshold: float) -> Array | Scaled:
    """``g`` with every unit's norm within threshold · max(‖weights of the unit‖, 1e-3); ``g`` itself if all are."""
    limits = math.log(threshold) + np.maximum(_log_unit_norms(weights), math.log(SMALLEST_WEIGHT_NORM))
    log_factors = limits - _log_unit_norms(g)
    outside = log_factors < 0.0
    if not outside.any():
        return g
    # As in by_norm, every factor is a mantissa and an exponent; a unit that is within is multiplied by exactly 1.
    exponents = np.where(outside, np.floor(log_factors / LN2) + 1.0, 0.0).astype(np.int64)
    mantissas = np.exp(np.where(outside, log_factors - exponents * LN2, 0.0))
    if g.ndim < 2:
        return times(g, float(mantissas[0]), int(exponents[0]))
    return times(g, like(mantissas.reshape(-1, *[1] * (g.ndim - 1)), mantissa_and_exponents(g)[0]), exponents)


def _log_unit_norms(x: Array | Scaled) -> np.ndarray:
    """ln of the norm of every unit: of the rows of a matrix, of a vector as a whole."""
    return np.array([log_norm(x)]) if x.ndim < 2 else log_norms(x)


def _exceeds(size: float, exponent: int, limit: float) -> bool:
    """Whether size · 2**exponent > limit, for a size >= 0 and a limit > 0; exact, whatever the exponent."""
    fraction, own = math.frexp(size)
    limit_fraction, limit_exponent = math.frexp(limit)
    return size > 0.0 and (own + exponent, fraction) > (limit_exponent, limit_fraction)


def is_finite(log_norm: float) -> bool:
    """Whether this is the ln of a finite norm, 0 included."""
    return math.isfinite(log_norm) or log_norm == -math.inf


def with_memory(clipped: Clipped, memory: Any) -> Clipped:
    """The same, with what the rule remembers."""
    return replace(clipped, memory=memory)


def result(before: Gradient, after: Gradient, log_before: float, log_after: float) -> Clipped:
    """What a rule returns, from gradients and ln of their global norms."""
    if not (is_finite(log_before) and is_finite(log_after)):
        return Clipped(after, math.nan, log_before, log_after, finite=False)
    change = 0.0 if log_before == log_after else log_after - log_before  # -inf of a zero gradient too is no change
    factor = math.exp(change) if change < 709.0 else math.inf
    return Clipped(after, factor, log_before, log_after, finite=True)
