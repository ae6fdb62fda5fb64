"""Rules whose threshold follows the norms of the gradients before: AdaGC and ZClip.

A rule is a pure function still. What it remembers comes as an argument, None before the first gradient, and goes back as
``Clipped.memory``. Norms are remembered by their logarithms, so gradients of any size can be followed. Two things are the same for both:

- A gradient that is exactly zero, or not finite, says nothing about usual sizes: it is left as it is and nothing is remembered of it.
- What counts as a norm from then on is that after clipping, lest one spike raises the threshold for the next.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from rnn_core.arrays import Params
from rnn_core.clipping.rules import (
    Clipped,
    Gradient,
    by_norm,
    global_log_norm,
    is_finite,
    result,
    scaled_to,
    with_memory,
)
from rnn_core.scaling import log_norm

ADAGC_FIRST, ADAGC_LARGEST, ADAGC_KEEPS = 100, 1.0, 0.98  # T_start, lambda_abs and beta of Wang et al. 2025
ZCLIP_FIRST, ZCLIP_KEEPS = 25, 0.97  # N_w and alpha of Kumar et al. 2025


@dataclass(frozen=True)
class Usual:
    """What AdaGC remembers: how many gradients it has seen, and by parameter ln gamma."""

    seen: int = 0
    log_gamma: dict[str, float] = field(default_factory=dict)


def adagc(grads: Gradient, threshold: float, params: Params | None = None, memory: Usual | None = None) -> Clipped:
    """g_i <- g_i · min(1, threshold · gamma_i/‖g_i‖) for every parameter i; gamma_i <- beta gamma_i + (1 - beta) ‖g_i‖ of what is left.

    AdaGC (Wang et al. 2025, algorithm 1: threshold is lambda_rel, 1.05 there; beta = 0.98). Of the first 100 gradients the global norm is
    clipped to 1, and gamma_i is the smallest norm of parameter i until then.
    """
    memory, before = memory or Usual(), global_log_norm(grads)
    if not is_finite(before):
        return with_memory(result(grads, grads, before, before), memory)
    if memory.seen < ADAGC_FIRST:
        clipped, follow = by_norm(grads, ADAGC_LARGEST).grads, _smaller
    else:
        limits = {name: math.log(threshold) + gamma for name, gamma in memory.log_gamma.items()}
        clipped = {name: scaled_to({name: g}, limits.get(name, math.inf)).grads[name] for name, g in grads.items()}
        follow = _decayed
    norms = {name: norm for name, g in clipped.items() if (norm := log_norm(g)) > -math.inf}
    known = memory.log_gamma
    gamma = {**known, **{name: follow(known.get(name, norm), norm) for name, norm in norms.items()}}
    return with_memory(
        result(grads, clipped, before, global_log_norm(clipped)), Usual(memory.seen + bool(norms), gamma)
    )


def _smaller(log_gamma: float, log_norm: float) -> float:
    return min(log_gamma, log_norm)


def _decayed(log_gamma: float, log_norm: float) -> float:
    return float(np.logaddexp(math.log(ADAGC_KEEPS) + log_gamma, math.log1p(-ADAGC_KEEPS) + log_norm))


@dataclass(frozen=True)
class Spread:
    """What ZClip remembers: ln of the first norms, and from then on ln of their mean mu with their deviation over it, sigma/mu."""

    first: tuple[float, ...] = ()
    log_mean: float = math.nan
    deviation: float = math.nan


def zclip(grads: Gradient, threshold: float, params: Params | None = None, memory: Spread | None = None) -> Clipped:
    """With z = (‖g‖ - mu)/sigma, where z > threshold: g is scaled to the norm mu + sigma · threshold²/z.

    ZClip (Kumar, Owen, Chowdhury & Güra 2025; threshold 2.5 there). mu and sigma² are means of the norms so far that forget with alpha = 0.97:

    mu <- alpha mu + (1 - alpha) ‖g‖,   then   sigma² <- alpha sigma² + (1 - alpha) (‖g‖ - mu)².

    They start from the first 25 norms, which
    are not clipped. The further out a norm is, the nearer to the mean it ends.
    """
    memory, before = memory or Spread(), global_log_norm(grads)
    if not math.isfinite(before):
        return with_memory(result(grads, grads, before, before), memory)
    if len(memory.first) < ZCLIP_FIRST:
        return with_memory(result(grads, grads, before, before), _with_one_more(memory, before))
    excess = math.expm1(min(before - memory.log_mean, 600.0))  # (‖g‖ - mu)/mu
    if excess <= threshold * memory.deviation:
        return with_memory(result(grads, grads, before, before), _followed(memory, excess))
    excess = (threshold * memory.deviation) ** 2 / excess
    return with_memory(scaled_to(grads, memory.log_mean + math.log1p(excess)), _followed(memory, excess))


def _with_one_more(memory: Spread, log_norm: float) -> Spread:
    """With one of the first norms; mean and deviation once there are enough."""
    first = (*memory.first, log_norm)
    if len(first) < ZCLIP_FIRST:
        return Spread(first)
    largest = max(first)
    norms = np.exp(np.array(first) - largest)
    return Spread(first, largest + math.log(norms.mean()), float(norms.std() / norms.mean()))


def _followed(memory: Spread, excess: float) -> Spread:
    """After a norm of (1 + excess) mu; everything over the mean before."""
    mean = 1.0 + (1.0 - ZCLIP_KEEPS) * excess
    variance = ZCLIP_KEEPS * memory.deviation**2 + (1.0 - ZCLIP_KEEPS) * (1.0 + excess - mean) ** 2
    return Spread(memory.first, memory.log_mean + math.log(mean), math.sqrt(variance) / mean)
