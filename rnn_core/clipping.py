"""Gradient clipping: pure functions from gradients to clipped gradients that say what they did.

A rule is written ``none``, ``norm:1.0`` or ``value:0.1`` (name and threshold). Norms are over all parameters together, and
neither overflow nor underflow. Where a gradient holds inf or nan no factor can mend it: every rule then returns the gradients
as they are with ``finite=False``, and the caller decides (torch's ``clip_grad_norm_`` turns them all into 0 or nan silently).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from rnn_core.arrays import Array, namespace
from rnn_core.choices import unknown
from rnn_core.scaling import LN2, Scaled, log_norm_of, plain_if_fits

Gradient = dict[str, "Array | Scaled"]


@dataclass(frozen=True)
class Clipped:
    """What a rule returns.

    Attributes:
        grads: by parameter name.
        factor: norm after over norm before; 1 where nothing was clipped, nan where not finite.
        log_norm_before: ln of the global norm.
        log_norm_after: ln of the global norm.
        finite: False if a gradient held inf or nan.
    """

    grads: Gradient
    factor: float
    log_norm_before: float
    log_norm_after: float
    finite: bool


def global_log_norm(grads: Gradient) -> float:
    """ln of the norm of all gradients taken as one vector; nan or inf where an entry is."""
    parts = [log_norm_of(g) for g in grads.values()]
    if any(map(math.isnan, parts)):
        return math.nan
    peak = max(parts)
    return peak if math.isinf(peak) else peak + 0.5 * math.log(sum(math.exp(2.0 * (part - peak)) for part in parts))


def none(grads: Gradient, threshold: float | None = None) -> Clipped:
    """Nothing is clipped; the norm is reported."""
    before = global_log_norm(grads)
    return _result(grads, grads, before, before)


def by_norm(grads: Gradient, threshold: float) -> Clipped:
    """g <- g · threshold/‖g‖ where the global norm exceeds the threshold (Pascanu, Mikolov & Bengio 2013, algorithm 1)."""
    before = global_log_norm(grads)
    log_factor = math.log(threshold) - before
    if not log_factor < 0.0 or math.isinf(before):  # within the threshold, or not finite
        return _result(grads, grads, before, before)
    # The factor itself may underflow, so it too is a mantissa, in [1/2, 1), and an exponent.
    exponent = math.floor(log_factor / LN2) + 1
    mantissa = math.exp(log_factor - exponent * LN2)
    clipped = {name: _times(g, mantissa, exponent) for name, g in grads.items()}
    return _result(grads, clipped, before, global_log_norm(clipped))


def by_value(grads: Gradient, threshold: float) -> Clipped:
    """Every entry is moved into [-threshold, threshold] (Mikolov 2012); the direction changes."""
    before = global_log_norm(grads)
    if not math.isfinite(before) and before != -math.inf:
        return _result(grads, grads, before, before)
    clipped: Gradient = {}
    for name, g in grads.items():
        if isinstance(g, Scaled) and g.log_norm() <= math.log(threshold):  # too small for plain floats: within
            clipped[name] = g
        else:
            plain = g.to_float() if isinstance(g, Scaled) else g
            clipped[name] = namespace(plain).clip(plain, -threshold, threshold)
    return _result(grads, clipped, before, global_log_norm(clipped))


RULES: dict[str, Callable[..., Clipped]] = {"none": none, "norm": by_norm, "value": by_value}


@dataclass(frozen=True)
class Clipping:
    """A rule with its threshold, as parsed from ``none``, ``norm:1.0`` or ``value:0.1``."""

    rule: str
    threshold: float | None

    def __call__(self, grads: Gradient) -> Clipped:
        return RULES[self.rule](grads, self.threshold)


def parse_clipping(text: str) -> Clipping:
    """The rule that ``text`` names.

    Raises:
        ValueError: unknown rule, missing threshold, or threshold not a positive finite number.
    """
    rule, colon, number = text.partition(":")
    if rule not in RULES:
        raise ValueError(unknown("clipping", rule, RULES))
    if rule == "none":
        if colon:
            raise ValueError(f"clipping: {text!r} is not allowed; none takes no threshold")
        return Clipping(rule, None)
    try:
        threshold = float(number)
    except ValueError:
        threshold = math.nan
    if not 0.0 < threshold < math.inf:
        raise ValueError(
            f"clipping: {text!r} is not allowed; write {rule}:THRESHOLD with a threshold above 0, as {rule}:1.0"
        )
    return Clipping(rule, threshold)


def _times(g: Array | Scaled, mantissa: float, exponent: int) -> Array | Scaled:
    if isinstance(g, Scaled):
        return plain_if_fits(g.mantissa * mantissa, g.exponent + exponent)
    return plain_if_fits(g * mantissa, exponent)


def _result(before: Gradient, after: Gradient, log_before: float, log_after: float) -> Clipped:
    finite = math.isfinite(log_before) or log_before == -math.inf
    factor = math.nan if not finite else 1.0 if log_before == log_after else math.exp(log_after - log_before)
    return Clipped(after, factor, log_before, log_after, finite)
