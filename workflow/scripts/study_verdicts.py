"""The report's answers, computed from the tables: who vanishes, stays or explodes, and whether clipping helped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import study_tables
from study_tables import STABLE_DECADES

REGIMES = ("vanishing", "stable", "exploding")
_NOT_SETTINGS = ("seed", "trace_every")
_CLEAR = 2.0  # a difference counts from two standard errors


@dataclass(frozen=True)
class Cell:
    """One cell of a verdict table: ``value`` is what a test compares with the tables, ``regime`` or ``mark`` its colour."""

    text: str
    value: float
    mark: str
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One row: what tells it from the others, its cells, and the verdict in words."""

    settings: dict[str, Any]
    cells: list[Cell]
    verdict: str


@dataclass(frozen=True)
class Table:
    """A verdict table, with the axis that its columns are values of, and findings in whole sentences."""

    axis: str
    columns: list[Any]
    row_axes: list[str]
    rows: list[Row]
    sentences: list[str]


def varying(runs: pd.DataFrame, without: tuple[str, ...]) -> list[str]:
    """Settings with more than one value in these runs."""
    names = [name for name in study_tables.axes() if name not in (*without, *_NOT_SETTINGS)]
    return [name for name in names if runs[name].nunique(dropna=False) > 1]


def propagation(runs: pd.DataFrame) -> Table | None:
    """Regime by spectral radius, at each row's longest sequence, of untrained runs; of all runs' starts if all are trained."""
    untrained = runs[runs["updates"] == 0]
    runs = untrained if len(untrained) else runs
    row_axes = varying(runs, ("spectral_radius", "sequence_length", "clipping", "updates")) or ["activation"]
    radii = sorted(runs["spectral_radius"].unique())
    rows = []
    for key, group in runs.groupby(row_axes, dropna=False):
        settings = dict(zip(row_axes, key, strict=True))
        longest = group[group["sequence_length"] == group["sequence_length"].max()]
        by_radius = {radius: longest[longest["spectral_radius"] == radius] for radius in radii}
        cells = [_regime_cell(by_radius[radius]) for radius in radii]
        rows.append(Row(settings, cells, _critical(longest)))
    return Table("spectral_radius", radii, row_axes, rows, _propagation_sentences(runs, rows)) if rows else None


def _regime_cell(runs: pd.DataFrame) -> Cell:
    if runs.empty:
        return Cell("–", math.nan, "none")
    ratio = float(runs["log10_gradient_ratio"].mean())
    regime = regime_of(ratio)
    differ = int((runs["regime"] != regime).sum())
    text = f"{ratio:+.1f}" if math.isfinite(ratio) else "0 exactly" if ratio < 0 else "not finite"
    return Cell(text.replace("-", "−"), ratio, regime, f"{differ} of {len(runs)} seeds differ" if differ else "")


def regime_of(ratio: float) -> str:
    """The regime of a mean over seeds, by the same limits as that of one run (column ``regime``)."""
    if math.isnan(ratio):
        return "not finite"
    return REGIMES[0] if ratio < -STABLE_DECADES else REGIMES[2] if ratio > STABLE_DECADES else REGIMES[1]


def critical_radius(runs: pd.DataFrame) -> float | None:
    """The first spectral radius at which the mean growth rate crosses zero; None if it never does."""
    rate = runs.groupby("spectral_radius")["growth_rate"].mean()
    rate = rate[np.isfinite(rate)]
    found = crossings(rate.index.to_numpy(), rate.to_numpy())
    return found[0] if found else None


def crossings(radius: np.ndarray, rate: np.ndarray) -> list[float]:
    """Where ``rate`` over increasing ``radius`` crosses or touches zero, by straight lines between neighbours."""
    i = np.flatnonzero(np.sign(rate[:-1]) * np.sign(rate[1:]) < 0)
    between = radius[i] - rate[i] * (radius[i + 1] - radius[i]) / (rate[i + 1] - rate[i])
    return sorted([*between.tolist(), *radius[rate == 0].tolist()])


def _critical(runs: pd.DataFrame) -> str:
    critical = critical_radius(runs)
    if critical is not None:
        return f"turns at ρ ≈ {critical:.2f}"
    rates = runs["growth_rate"].dropna()
    low, high = runs["spectral_radius"].min(), runs["spectral_radius"].max()
    if rates.empty:
        return "not measured"
    return f"{'shrinks' if rates.mean() < 0 else 'grows'} at every ρ from {low:g} to {high:g}"


def _propagation_sentences(runs: pd.DataFrame, rows: list[Row]) -> list[str]:
    sentences = []
    turning = [f"{_name(row.settings)} at ρ ≈ {row.verdict.split('≈ ')[1]}" for row in rows if "≈" in row.verdict]
    if turning:
        sentences.append(f"Backward growth changes sign for {_list(turning)}.")
    constant = [f"{_name(row.settings)} {row.verdict}" for row in rows if "every" in row.verdict]
    if constant:
        sentences.append(f"The gradient of {_list(constant)}.")
    longest = runs[runs["sequence_length"] == runs["sequence_length"].max()]
    deviation = longest["deviation"].abs().dropna()
    if len(deviation):
        T = int(runs["sequence_length"].max())
        sentences.append(
            f"At T = {T} theory misses the measured rate by {deviation.median():.3f} per step in the median "
            f"(natural logarithm) and by {deviation.max():.3f} at worst, over {len(deviation)} runs."
        )
    return sentences


def clipping(runs: pd.DataFrame) -> Table | None:
    """What each clipping rule did to held-out accuracy, or held-out loss for a regression, of trained runs."""
    trained = runs[runs["updates"] > 0]
    if trained.empty or trained["clipping"].nunique() < 2:
        return None
    row_axes = varying(trained, ("clipping", "loss_at", "input_size")) or ["activation"]
    rules = sorted(trained["clipping"].unique(), key=lambda rule: (rule != "none", rule))
    rows = []
    for key, group in trained.groupby(row_axes, dropna=False):
        measure = "held_out_accuracy" if group["held_out_accuracy"].notna().any() else "held_out_loss"
        by_rule = {rule: group[group["clipping"] == rule] for rule in rules}
        cells = [_outcome_cell(by_rule[rule], measure) for rule in rules]
        rows.append(Row(dict(zip(row_axes, key, strict=True)), cells, _helped(by_rule, measure)))
    return Table("clipping", rules, row_axes, rows, _clipping_sentences(trained, rows))


def _outcome_cell(runs: pd.DataFrame, measure: str) -> Cell:
    if runs.empty:
        return Cell("–", math.nan, "none")
    broken = int(runs["first_nonfinite_update"].notna().sum())
    mean = float(runs[measure].mean())
    note = f"{broken} of {len(runs)} broke down" if broken else ""
    if math.isnan(mean):
        return Cell("no result", mean, "broken", note)
    text = f"{mean:.0%}" if measure == "held_out_accuracy" else f"{mean:.3g}"
    return Cell(text, mean, "broken" if broken else "whole", note)


def _helped(by_rule: dict[str, pd.DataFrame], measure: str) -> str:
    """The best rule against none, in words."""
    if "none" not in by_rule or by_rule["none"].empty:
        return "no run without clipping to compare with"
    sign = 1.0 if measure == "held_out_accuracy" else -1.0
    none = by_rule["none"]
    others = {rule: runs for rule, runs in by_rule.items() if rule != "none" and runs[measure].notna().any()}
    if not others:
        return "no clipped run has a result"
    best = max(others, key=lambda rule: sign * float(others[rule][measure].mean()))
    broken = int(none["first_nonfinite_update"].notna().sum())
    kept = int(others[best]["first_nonfinite_update"].notna().sum())
    if broken > kept:
        return f"yes: {best} saves training that breaks down"
    gain = sign * (float(others[best][measure].mean()) - float(none[measure].mean()))
    error = math.hypot(_standard_error(others[best][measure]), _standard_error(none[measure]))
    if not abs(gain) > _CLEAR * error:
        return "no clear difference"
    return f"yes: {best} is best" if gain > 0 else "no: unclipped is best"


def _standard_error(values: pd.Series) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.inf


def _clipping_sentences(trained: pd.DataFrame, rows: list[Row]) -> list[str]:
    helped = sum(row.verdict.startswith("yes") for row in rows)
    sentences = [f"Clipping helps in {helped} of {len(rows)} settings."]
    for rule, group in trained.groupby("clipping"):
        broken = int(group["first_nonfinite_update"].notna().sum())
        if broken:
            how = "Without clipping" if rule == "none" else f"With clipping {rule}"
            sentences.append(f"{how}, {broken} of {len(group)} runs reach a value that is not finite.")
    if len(sentences) == 1:
        sentences.append("No run reaches a value that is not finite.")
    return sentences


def _name(settings: dict[str, Any]) -> str:
    return ", ".join(str(value) for value in settings.values())


def _list(items: list[str]) -> str:
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]
