"""The report's answers, computed from the tables: who vanishes, stays or explodes, and whether clipping helped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

import study_tables
from study_tables import STABLE_DECADES

REGIMES = ("vanishing", "stable", "exploding")
_NOT_SETTINGS = ("seed", "trace_every")
_CELLS = ("vanilla", "residual", "gru", "gru_reset_before", "lstm")  # from the simplest
_RULES = ("none", "norm", "value", "parameter", "adaptive", "signal")
_PLAIN = ("task", "cell", "activation", "dtype")  # settings whose value says which setting it is
_CLEAR = 2.0  # a difference counts from two standard errors of the paired differences, seed by seed


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

    def shown(self, axis: str) -> str:
        """A setting's value in the table; a dash where it is not set."""
        value = self.settings[axis]
        return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Table:
    """A verdict table, with the axis that its columns are values of, and findings in whole sentences."""

    axis: str
    columns: list[Any]
    row_axes: list[str]
    rows: list[Row]
    sentences: list[str]


# ---- settings in words, and their order


def set_only(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that are set; a null one (a residual step of another cell) names nothing."""
    return {axis: value for axis, value in settings.items() if not pd.isna(value)}


def named(axis: str, value: Any) -> str:
    """A setting in a name: tanh, hidden size H = 8, η = 0.1."""
    if axis in _PLAIN:
        return str(value)
    label = study_tables.axes()[axis]["label"]
    if axis.startswith("residual_"):
        label = label.split()[-1]  # the symbol is enough beside the cell's name
    return f"{label} {value}" if isinstance(value, str) else f"{label} = {value:g}".replace("-", "−")


def in_order(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Sorted by these settings: cells from the simplest, everything else by value; what is not set comes first."""
    return rows.sort_values(
        by, key=lambda column: column.map(_place) if column.name == "cell" else column, na_position="first"
    )


def _place(cell: str) -> tuple[int, str]:
    return (_CELLS.index(cell) if cell in _CELLS else len(_CELLS), cell)


def _groups(runs: pd.DataFrame, row_axes: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Settings and runs of every row of a table; a setting that is not set is None."""
    groups = {tuple(None if pd.isna(v) else v for v in key): rows for key, rows in runs.groupby(row_axes, dropna=False)}
    order = in_order(runs[row_axes].drop_duplicates(), row_axes).astype(object)
    keys = [tuple(row) for row in order.where(order.notna(), None).to_numpy()]
    return [(dict(zip(row_axes, key, strict=True)), groups[key]) for key in keys]


# ---- how gradients travel back


def varying(runs: pd.DataFrame, without: tuple[str, ...]) -> list[str]:
    """Settings that tell these runs apart; one that follows from those before it (a task's learning rate) is not needed."""
    keys: list[str] = []
    for name in study_tables.axes():
        if name in (*without, *_NOT_SETTINGS):
            continue
        groups = runs.groupby(keys, dropna=False)[name] if keys else runs.groupby(lambda _: 0)[name]
        if groups.nunique(dropna=False).gt(1).any():
            keys.append(name)
    return keys


def propagation(runs: pd.DataFrame) -> Table | None:
    """Regime by spectral radius, at each row's longest sequence, of untrained runs; of all runs' starts if all are trained."""
    runs = runs.drop_duplicates("run_key")
    untrained = runs[runs["updates"] == 0]
    runs = untrained if len(untrained) else runs
    row_axes = varying(runs, ("spectral_radius", "sequence_length", "clipping", "updates")) or ["activation"]
    radii = sorted(runs["spectral_radius"].unique())
    rows = []
    for settings, group in _groups(runs, row_axes):
        longest = group[group["sequence_length"] == group["sequence_length"].max()]
        by_radius = {radius: longest[longest["spectral_radius"] == radius] for radius in radii}
        cells = [_regime_cell(by_radius[radius]) for radius in radii]
        rows.append(Row(settings, cells, _critical(longest)))
    return Table("spectral_radius", radii, row_axes, rows, _propagation_sentences(runs, rows)) if rows else None


def _regime_cell(runs: pd.DataFrame) -> Cell:
    if runs.empty:
        return Cell("–", math.nan, "none")
    ratios = runs["log10_gradient_ratio"]
    zero = int((ratios == -math.inf).sum())
    ratio = -math.inf if zero == len(runs) else float(ratios[np.isfinite(ratios)].mean())
    regime = regime_of(ratio)
    differ = int((runs["regime"] != regime).sum())
    text = f"{ratio:+.1f}" if math.isfinite(ratio) else "0 exactly" if zero else "not finite"
    note = (
        f"{zero} of {len(runs)} exactly 0"
        if 0 < zero < len(runs)
        else f"{differ} of {len(runs)} seeds differ"
        if differ
        else ""
    )
    return Cell(text.replace("-", "−"), ratio, regime, note)


def regime_of(ratio: float) -> str:
    """The regime of a mean over seeds, by the same limits as that of one run (column ``regime``)."""
    if math.isnan(ratio):
        return "not finite"
    return REGIMES[0] if ratio < -STABLE_DECADES else REGIMES[2] if ratio > STABLE_DECADES else REGIMES[1]


def critical_radius(runs: pd.DataFrame) -> float | None:
    """The first spectral radius at which the mean growth rate crosses zero; None if it never does."""
    rate = runs[np.isfinite(runs["growth_rate"])].groupby("spectral_radius")["growth_rate"].mean()
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
    rates = rates[np.isfinite(rates)] if np.isfinite(rates).any() else rates
    low, high = runs["spectral_radius"].min(), runs["spectral_radius"].max()
    if rates.empty:
        return "not measured"
    return f"{'shrinks' if rates.mean() < 0 else 'grows'} at every ρ from {low:g} to {high:g}"


def _propagation_sentences(runs: pd.DataFrame, rows: list[Row]) -> list[str]:
    sentences = []
    turning = [f"{_name(row.settings)} at ρ ≈ {row.verdict.split('≈ ')[1]}" for row in rows if "≈" in row.verdict]
    if turning:
        sentences.append(f"Backward growth changes sign for {listed(turning)}.")
    constant: dict[str, list[str]] = {}
    for row in rows:
        if "every" in row.verdict:
            constant.setdefault(row.verdict, []).append(_name(row.settings))
    if constant:
        parts = [f"{listed(names)} {verdict}" for verdict, names in constant.items()]
        sentences.append(f"The gradient of {'; that of '.join(parts)}.")
    longest = runs[runs["sequence_length"] == runs["sequence_length"].max()]
    deviation = longest["deviation"].abs().dropna()
    if len(deviation):
        T = int(runs["sequence_length"].max())
        sentences.append(
            f"At T = {T} theory misses the measured rate by {deviation.median():.3f} per step in the median "
            f"(natural logarithm) and by {deviation.max():.3f} at worst, over {len(deviation)} runs."
        )
    return sentences


def formats(runs: pd.DataFrame) -> str:
    """What narrower formats would have done to the gradients at the start of all runs, in a sentence."""
    runs = runs.drop_duplicates("run_key")
    lost = {name: int(runs[f"{name}_flushed_at"].notna().sum()) for name in reversed(study_tables.FORMATS)}
    over = {name: int(runs[f"{name}_overflowed_at"].notna().sum()) for name in reversed(study_tables.FORMATS)}
    if not any(lost.values()) and not any(over.values()):
        return f"No plain {listed(lost, 'or')} would have lost or overflowed the gradient of any of {len(runs)} runs."
    first, *others = (f"{name} {{}}{count}" for name, count in lost.items())
    counts = [first.format("would have lost the whole gradient on its way back in ") + f" of {len(runs)} runs"]
    sentence = listed([*counts, *(other.format("in ") for other in others)])
    inf = [f"{name} in {count}" for name, count in over.items() if count]
    return f"At the start {sentence}" + (f"; entries would have overflowed to inf with {listed(inf)}." if inf else ".")


def truncation(runs: pd.DataFrame, updates: pd.DataFrame) -> str:
    """How far truncated gradients are from the full ones at the start, in a sentence; empty where nothing is truncated.

    ``updates`` has at least ``run_key``, ``update`` and ``truncation_bias``.
    """
    first = updates[updates["update"] == 0].drop_duplicates("run_key")
    cut = runs.drop_duplicates("run_key").dropna(subset=["truncation"]).merge(first, on="run_key")
    if cut.empty:
        return ""
    medians = cut.groupby("truncation")["truncation_bias"].median()
    parts = [f"{100 * bias:.2g} % (k = {int(window)})" for window, bias in medians.items()]
    return (
        f"Truncation to k steps changes the gradient that training starts with by {listed(parts)} of its norm, "
        f"in the median over {len(cut)} runs."
    )


# ---- whether clipping helped


def clipping(runs: pd.DataFrame) -> Table | None:
    """What each clipping rule did to held-out accuracy, or held-out loss for a regression, of trained runs."""
    trained = runs[runs["updates"] > 0].drop_duplicates("run_key")
    if trained.empty or trained["clipping"].nunique() < 2:
        return None
    row_axes = varying(trained, ("clipping",)) or ["activation"]
    compared = trained.groupby(row_axes, dropna=False).filter(lambda runs: runs["clipping"].nunique() > 1)
    if not compared.empty:  # settings that were trained under one rule alone have nothing to compare
        trained = compared
        row_axes = varying(trained, ("clipping",)) or ["activation"]
    columns = rules(trained["clipping"])
    rows = []
    for settings, group in _groups(trained, row_axes):
        measure = "held_out_accuracy" if group["held_out_accuracy"].notna().any() else "held_out_loss"
        by_rule = {rule: group[group["clipping"] == rule] for rule in columns}
        cells = [_outcome_cell(by_rule[rule], measure) for rule in columns]
        rows.append(Row(settings, cells, _helped(by_rule, measure)))
    return Table("clipping", columns, row_axes, rows, _clipping_sentences(trained, rows))


def rules(values: Iterable[str]) -> list[str]:
    """Clipping rules in a fixed order: none, then by rule, each from its largest threshold down."""

    def place(rule: str) -> tuple[int, str, float]:
        kind = kind_of(rule)
        return (_RULES.index(kind) if kind in _RULES else len(_RULES), kind, -(threshold(rule) or 0.0))

    return sorted(set(values), key=place)


def kind_of(rule: str) -> str:
    """norm of ``norm:1.0``."""
    return rule.partition(":")[0]


def threshold(rule: str) -> float | None:
    """1.0 of ``norm:1.0``; None of ``none``."""
    return float(rule.partition(":")[2]) if ":" in rule else None


def _outcome_cell(runs: pd.DataFrame, measure: str) -> Cell:
    if runs.empty:
        return Cell("–", math.nan, "none")
    broken = _broken(runs)
    mean = float(runs[measure].mean())
    note = f"{broken} of {len(runs)} broke down" if broken else ""
    if math.isnan(mean):
        return Cell("no result", mean, "broken", note)
    text = f"{mean:.0%}" if measure == "held_out_accuracy" else f"{mean:.3g}"
    return Cell(text, mean, "broken" if broken else "whole", note)


def _helped(by_rule: dict[str, pd.DataFrame], measure: str) -> str:
    """The best rule against none, in words: first by how few runs break down, then by the result."""
    if "none" not in by_rule or by_rule["none"].empty:
        return "no run without clipping to compare with"
    sign = 1.0 if measure == "held_out_accuracy" else -1.0
    none = by_rule["none"]
    others = {rule: runs for rule, runs in by_rule.items() if rule != "none" and runs[measure].notna().any()}
    if not others:
        return "no clipped run has a result"
    best = min(others, key=lambda rule: (_broken(others[rule]), -sign * float(others[rule][measure].mean())))
    if _broken(none) > _broken(others[best]):
        return f"yes: {best} prevents breakdown"
    pairs = none.merge(others[best], on=["seed"], suffixes=("_none", "_best"))
    gain = (sign * (pairs[f"{measure}_best"] - pairs[f"{measure}_none"])).dropna()
    error = float(gain.std(ddof=1)) / math.sqrt(len(gain)) if len(gain) > 1 else math.inf
    if not abs(float(gain.mean())) > _CLEAR * error:
        return "no clear difference"
    return f"yes: {best} is best" if gain.mean() > 0 else "no: unclipped is best"


def _broken(runs: pd.DataFrame) -> int:
    return int(runs["first_nonfinite_update"].notna().sum())


def _clipping_sentences(trained: pd.DataFrame, rows: list[Row]) -> list[str]:
    helped = sum(row.verdict.startswith("yes") for row in rows)
    sentences = [f"Clipping helps in {helped} of {len(rows)} settings."]
    for rule, group in trained.groupby("clipping"):
        broken = _broken(group)
        if broken:
            how = "Without clipping" if rule == "none" else f"With clipping {rule}"
            sentences.append(f"{how}, {broken} of {len(group)} runs reach a value that is not finite.")
    if len(sentences) == 1:
        sentences.append("No run reaches a value that is not finite.")
    return sentences


def _name(settings: dict[str, Any]) -> str:
    """Cell first, and what else tells it apart in brackets, so that names can stand in a list: residual (η = 0.1)."""
    known = set_only(settings)
    words = [named(axis, known[axis]) for axis in sorted(known, key=lambda axis: axis != "cell")]
    return in_brackets(words) if "cell" in known else ", ".join(words)


def in_brackets(words: list[str]) -> str:
    """residual (η = 0.1, λ = 0)."""
    return words[0] + (f" ({', '.join(words[1:])})" if len(words) > 1 else "")


def listed(words: Iterable[str], last: str = "and") -> str:
    """a, b and c."""
    *head, tail = words
    return f"{', '.join(head)} {last} {tail}" if head else tail
