"""The table of runs, built directly: settings and measured columns in, no files."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from study.settings import axis_defaults
from study.tables.columns import FORMATS

MEASURED: dict[str, Any] = {
    "growth_rate": math.nan, "log10_gradient_ratio": 0.0, "regime": "stable", "deviation": math.nan, "linear_rate": math.nan, "mean_field_rate": math.nan, "operating_rate": math.nan, "predicted_rate": math.nan, "rest_rate": math.nan, "critical_radius_predicted": math.nan, "dynamic_rate": math.nan, "updates_to_success": math.nan, "correlation": math.nan, "depth_scale": math.nan,
    "predicted_by": None, "bistable": None, "held_out_loss": math.nan, "held_out_accuracy": math.nan, "baseline_loss": math.nan,
    "baseline_accuracy": math.nan, "success": None, "first_nonfinite_update": math.nan, "settled_from": 5, "settled_to": 80, "data": None,
    **{f"{f}_{what}_at": math.nan for f in FORMATS for what in ("flushed", "overflowed")},
}  # fmt: skip


def frame(runs: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """One row a run; what is not given has its default."""
    settings = axis_defaults()
    rows = [{"sweep": "one", "run_key": str(i), **settings, **MEASURED, **run} for i, run in enumerate(runs)]
    return pd.DataFrame(rows)


def start(rate: float, **given: Any) -> dict[str, Any]:
    """An untrained run with this growth rate over its whole sequence."""
    T = given.get("sequence_length", 100)
    ratio = rate * (T - 1) / math.log(10.0)
    regime = None if math.isnan(ratio) else "vanishing" if ratio < -2 else "exploding" if ratio > 2 else "stable"
    return {"updates": 0, "growth_rate": rate, "log10_gradient_ratio": ratio, "regime": regime, **given}


def trained(accuracy: float, **given: Any) -> dict[str, Any]:
    """A trained run of a classification; nan broke down."""
    broken = 3.0 if math.isnan(accuracy) else math.nan
    return {
        "task": "digits", "updates": 9, "held_out_accuracy": accuracy, "baseline_accuracy": 0.1, "baseline_loss": 2.3,
        "held_out_loss": 1.0, "first_nonfinite_update": broken, **given,
    }  # fmt: skip


def regressed(loss: float, **given: Any) -> dict[str, Any]:
    """A trained run of a regression."""
    return trained(0.0, **given) | {"task": "input_mean", "held_out_accuracy": math.nan, "baseline_accuracy": math.nan, "held_out_loss": loss}  # fmt: skip
