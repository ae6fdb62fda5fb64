"""Gradient clipping: pure functions from gradients to clipped gradients that say what they did.

A rule is written ``none`` or with its threshold, as ``norm:1.0``. Norms neither overflow nor underflow, and those reported are
over all parameters together. Where a gradient holds inf or nan no factor can mend it. Every rule then returns the gradients as they
are with ``finite=False``, and the caller decides. (torch's ``clip_grad_norm_`` turns them all into 0 or nan silently.)

| file | holds |
|---|---|
| ``rules.py`` | rules of a fixed threshold |
| ``adapting.py`` | rules whose threshold follows the gradients before: what they remember is passed along |

To add one: a function in one of them, and its import and row in ``ROWS`` below. Templates: docs/extending.md.

``signal:10.0`` does not act on finished gradients but on what flows back through time. The backward pass hands it to
``clip_signal`` at every step, and ``compare`` says what that did to the gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from rnn_core.arrays import Params
from rnn_core.choices import unknown
from rnn_core.clipping.adapting import adagc, zclip
from rnn_core.clipping.rules import (
    Clipped,
    Gradient,
    adaptive,
    by_norm,
    by_parameter,
    by_value,
    clip_signal,
    compare,
    global_log_norm,
    none,
    result,
    signal,
)
from rnn_core.scalars import as_python

__all__ = ["ROWS", "RULES", "WHAT_RULES_DO", "Clipped", "Clipping", "Gradient", "clip_signal", "compare", "global_log_norm", "parse_clipping"]  # fmt: skip


class Row(NamedTuple):
    """A rule, what follows "The rule NAME" on the page and in captions, and whether it adapts in time.

    Of a rule that adapts the fourth argument is what it returned as ``Clipped.memory`` for the gradient before.
    """

    rule: Callable[..., Clipped]
    does: str
    remembers: bool = False


ROWS = {
    "none": Row(none, "leaves every gradient as it is"),
    "norm": Row(by_norm, "scales a gradient whose norm over all parameters exceeds the threshold down to it"),
    "value": Row(
        by_value, "moves every entry into ± the threshold, which changes the direction and sets no limit to the norm"
    ),
    "parameter": Row(by_parameter, "scales each parameter's gradient by itself down to the threshold"),
    "adaptive": Row(adaptive, "scales each unit's gradient down to a fraction of the norm of its weights"),
    "adagc": Row(
        adagc,
        "scales each parameter's gradient down to the threshold times a norm that it remembers: the smallest of the first hundred, then a mean that forgets. Until then it scales the whole gradient down to a norm of 1",
        remembers=True,
    ),
    "zclip": Row(
        zclip,
        "scales a gradient down whose norm exceeds the mean of those before by the threshold times their standard deviation. It clips none of the first 25 gradients",
        remembers=True,
    ),
    "signal": Row(
        signal,
        "moves the entries of the backward signal into ± the threshold at every step, before parameter gradients are computed from it",
    ),
}
RULES = {name: row.rule for name, row in ROWS.items()}
WHAT_RULES_DO = {name: row.does for name, row in ROWS.items() if name != "none"}


@dataclass(frozen=True)
class Clipping:
    """A rule with its threshold, as parsed from ``none``, ``norm:1.0`` or ``value:0.1``."""

    rule: str
    threshold: float | None

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", as_python(self.threshold))

    def __call__(self, grads: Gradient, params: Params | None = None, memory: Any = None) -> Clipped:
        """Clip ``grads``.

        Args:
            params: the parameters they are of; needed by ``adaptive`` alone.
            memory: of a rule that adapts in time ``Clipped.memory`` of the gradient before; None for the first.
        """
        row = ROWS[self.rule]
        return row.rule(grads, self.threshold, params, *((memory,) if row.remembers else ()))

    def of_norm(self, log_norm: float) -> Clipped | None:
        """What the rule does to gradients of this global norm, without the gradients; None where it must see them."""
        if self.threshold is None:
            return result({}, {}, log_norm, log_norm)
        if self.rule != "norm":
            return None
        outside = math.log(self.threshold) < log_norm < math.inf
        return result({}, {}, log_norm, math.log(self.threshold) if outside else log_norm)

    def __str__(self) -> str:
        """The one spelling of this rule: ``norm:1.0`` for ``norm:1`` and ``norm:1e0``."""
        return self.rule if self.threshold is None else f"{self.rule}:{float(self.threshold)!r}"

    @property
    def on_signal(self) -> bool:
        """Whether the backward pass clips (``clip_signal``), and not this object."""
        return RULES[self.rule] is signal


def parse_clipping(text: str) -> Clipping:
    """The rule that ``text`` names.

    Raises:
        ValueError: unknown rule, missing threshold, or threshold not a positive finite number.
    """
    rule, colon, number = text.partition(":")
    if rule not in RULES:
        raise ValueError(unknown("clipping", text, RULES))
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
