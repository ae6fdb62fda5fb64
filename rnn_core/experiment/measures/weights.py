"""Which steps write ∂L/∂W_hh before training, in three numbers a run, where traces hold each step's part in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_core.columns import Column

_NONE = "not asked for; the gradient is zero or not a number"
WEIGHTS = (
    Column(
        "weight_grad_steps", "integer", "steps",
        "At the start, the fewest steps whose contributions G_t along G = ∂L/∂W_hh, ⟨G_t, G⟩ / ‖G‖², together make half of it",
        null=_NONE, asked="weight_gradient",
    ),
    Column(
        "weight_grad_lag", "integer", "steps",
        "At the start, the smallest lag such that the steps from there to the end together make half of ∂L/∂W_hh",
        null=_NONE, asked="weight_gradient",
    ),
    Column(
        "weight_grad_against", "number", "fraction",
        "At the start, the part of Σ_t |⟨G_t, G⟩| that is of steps which work against ∂L/∂W_hh, ⟨G_t, G⟩ < 0; at most one half",
        null=_NONE, asked="weight_gradient",
    ),
)  # fmt: skip


def weight_columns(trace: dict[str, np.ndarray]) -> dict[str, Any]:
    """The columns ``WEIGHTS`` of a trace of one update; none where it does not hold what they need."""
    if "weight_grad_cosine" not in trace:
        return {}
    along = along_the_sum(trace["log10_weight_grad_norm"], trace["weight_grad_cosine"])
    total = float(along.sum())
    if not total > 0.0:
        return {"weight_grad_steps": None, "weight_grad_lag": None, "weight_grad_against": float("nan")}
    largest_first, last_first = np.cumsum(np.sort(along)[::-1]), np.cumsum(along[::-1])
    return {
        "weight_grad_steps": int(np.argmax(largest_first >= 0.5 * total)) + 1,
        "weight_grad_lag": int(np.argmax(last_first >= 0.5 * total)),
        "weight_grad_against": float(np.abs(along[along < 0.0]).sum() / np.abs(along).sum()),
    }


def along_the_sum(log10_norm: np.ndarray, cosine: np.ndarray) -> np.ndarray:
    """⟨G_t, G⟩ of every step, up to a common factor: ‖G_t‖ times the cosine, the largest norm brought to 1."""
    largest = np.max(log10_norm[np.isfinite(log10_norm)], initial=-np.inf)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nan_to_num(10.0 ** (log10_norm - largest) * cosine))
