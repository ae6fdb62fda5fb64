"""Two values of a setting compared seed by seed, and which differences are clear."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from study.report import statistics
from study.report.measures.coded import coded, combinations, in_common, refined, telling
from study.report.measures.outcomes import log10
from study.report.measures.parts import Part
from study.report.measures.selection import IN_PLACE_OF, OF_CELLS, SCALES, TRAINING, grouped, varying_codes
from study.report.words import ordered

REFERENCE: dict[str, Any] = {"clipping": "none", "truncation": None}  # what the other values are compared with
MOST_SINGLE = 32  # settings that are compared one by one; of more, only their mean
MOST_PAIRED = 8  # values of an axis that are all compared with each other; of more, neighbours and the two ends
UNSET = "unset"  # a null among values that are matched


@dataclass(frozen=True)
class Comparison:
    """Two values of an axis compared seed by seed: ``a`` minus ``b``, the mean over all other settings of each seed.

    ``measure`` is growth_rate (ln per step), held_out_accuracy (fraction), held_out_loss (log10), success or broken (share of runs).
    ``fixed`` holds the settings that are the same on both sides. ``settings`` counts the combinations of the others, which are averaged over.
    ``p`` is the p value, with all comparisons of the study taken into account.
    """

    sweep: str
    axis: str
    a: Any
    b: Any
    measure: str
    fixed: Mapping[str, Any]
    differences: pd.Series
    settings: int
    p: float = math.nan
    left_out: int = (
        0  # pairs in which a gradient is exactly zero: their difference is infinite, or of nothing with nothing
    )

    @property
    def seeds(self) -> int:
        return len(self.differences)

    @property
    def effect(self) -> statistics.Interval:
        average = statistics.mean(self.differences[np.isfinite(self.differences)].to_numpy())
        if self.measure in ("held_out_accuracy", "success", "broken"):  # shares differ by 1 at most
            return statistics.Interval(average.value, *(float(np.clip(end, -1.0, 1.0)) for end in average[1:]))
        return average

    @property
    def verdict(self) -> str:
        """higher or lower (a against b), none, or few: so few seeds that no outcome could be clear."""
        if self.seeds < statistics.FEWEST_SEEDS:
            return "few"
        if not self.p <= statistics.LEVEL:
            return "none"
        return "higher" if np.nansum(np.clip(self.differences.to_numpy(), -1e300, 1e300)) > 0 else "lower"

    @property
    def clear(self) -> bool:
        return self.verdict in ("higher", "lower")

    @property
    def better(self) -> str:
        """a or b, by what the measure is for; empty where the verdict is open. Of growth neither is better."""
        if not self.clear or self.measure == "growth_rate":
            return ""
        more_is_better = self.measure in ("held_out_accuracy", "success")
        return "a" if (self.verdict == "higher") == more_is_better else "b"


def comparable(runs: pd.DataFrame, axis: str) -> list[Any]:
    """The values of an axis that are compared. A setting that is not set is one of them only where that is a choice.

    It is none where no cell has it both set and not (the step of a residual cell beside a vanilla one): then the cells differ.
    Nor is it one where another setting stands in its place (a forget bias beside chrono biases).
    """
    values = ordered(axis, runs[axis])
    if None not in values or axis not in (*OF_CELLS, *IN_PLACE_OF):
        return values
    unset = runs[runs[axis].isna()]
    if axis in IN_PLACE_OF:
        unset = unset[unset[IN_PLACE_OF[axis]].isna()]
    chosen = set(unset["cell"]) & set(runs.loc[runs[axis].notna(), "cell"])
    return values if chosen else values[1:]


def pairs(axis: str, values: list[Any]) -> list[tuple[Any, Any]]:
    """The pairs of values that are compared, the later value first: norm against none."""
    if len(values) <= MOST_PAIRED:
        return [(b, a) for a, b in itertools.combinations(values, 2)]
    return [(b, a) for a, b in [*itertools.pairwise(values), (values[0], values[-1])]]


@dataclass(frozen=True)
class Values:
    """What was measured for every seed and combination of the other settings (rows), by the values of an axis (columns).

    Attributes:
        seeds: of every row.
        others: of every row the number of its combination.
        columns: by value of the axis, a number a row; nan where no run has both.
    """

    seeds: np.ndarray
    others: np.ndarray
    columns: Mapping[Any, np.ndarray]


class Matching:
    """Runs with ``value``, whose settings are matched again and again.

    Args:
        runs: with ``value``.
        trains: whether they train. Starts match whatever way of training their row names (``distinct_starts`` keeps any one).
    """

    def __init__(self, runs: pd.DataFrame, trains: bool) -> None:
        self.runs = runs
        self.codes = varying_codes(runs, () if trains else TRAINING)
        self.seeds, self.of_seed = np.unique(runs["seed"].to_numpy(), return_inverse=True)
        self.values = runs["value"].to_numpy(dtype=float) if "value" in runs else np.full(len(runs), math.nan)
        self._axes: dict[str, tuple[np.ndarray, pd.Index]] = {}

    def shared_axes(self, axis: str, rows: np.ndarray | None = None) -> list[str]:
        """The other settings that vary in these rows (all unless told) and of which all values of ``axis`` have some in common."""
        rows = np.arange(len(self.runs)) if rows is None else rows
        codes = {name: own[rows] for name, own in self.codes.items()}
        others = [name for name in telling(codes, len(rows)) if name != axis]
        by = self._coded_axis(axis)[0][rows]
        return [name for name in others if in_common(by, codes[name])]

    def side_by_side(self, axis: str, rows: np.ndarray | None = None) -> Values:
        """``value`` in these rows (all unless told), by the values of ``axis``.

        A setting of which the values of ``axis`` have none in common (the step that only a residual cell has) cannot be matched; it is
        averaged over.
        """
        rows = np.arange(len(self.runs)) if rows is None else rows
        by, known = self._coded_axis(axis)
        others = combinations({n: c[rows] for n, c in self.codes.items()}, self.shared_axes(axis, rows), len(rows))
        place, count = refined(self.of_seed[rows], others)
        cells, averages = _means(self.values[rows], place * len(known) + by[rows])
        table = np.full((count, len(known)), math.nan)
        table.flat[cells] = averages
        one_of = np.empty(count, dtype=np.int64)
        one_of[place] = np.arange(len(rows))
        names = [UNSET if pd.isna(each) else each for each in known]
        columns = {name: table[:, i] for i, name in enumerate(names)}
        return Values(self.seeds[self.of_seed[rows][one_of]], others[one_of], columns)

    def _coded_axis(self, axis: str) -> tuple[np.ndarray, pd.Index]:
        """Of every run the number of its value, and the values."""
        if axis not in self._axes:
            self._axes[axis] = coded(self.runs[axis])
        return self._axes[axis]


def side_by_side(runs: pd.DataFrame, axis: str, trains: bool) -> Values:
    """``value`` of every seed and combination of the other settings, by the values of ``axis``."""
    return Matching(runs, trains).side_by_side(axis)


def shared_axes(runs: pd.DataFrame, axis: str, trains: bool) -> list[str]:
    """The other settings that vary and of which all values of ``axis`` have some in common."""
    return Matching(runs, trains).shared_axes(axis)


def difference(
    values: Values, sweep: str, axis: str, a: Any, b: Any, measure: str, fixed: Mapping[str, Any]
) -> Comparison | None:
    """``a`` minus ``b`` in rows of ``side_by_side``; None where no seed has both."""
    sides = [UNSET if pd.isna(each) else each for each in (a, b)]
    if set(sides) - set(values.columns):
        return None
    first, second = (values.columns[side] for side in sides)
    both = ~(np.isnan(first) | np.isnan(second))
    if not both.any():
        return None
    with np.errstate(invalid="ignore"):
        each_pair = (
            first[both] - second[both]
        )  # −∞ on both sides: nan, which no size counts and a test takes for no difference
    count = len(np.unique(values.others[both]))
    seeds, averages = _means(each_pair, values.seeds[both])
    one_each = pd.Series(averages, index=pd.Index(seeds, name="seed"))
    return Comparison(sweep, axis, a, b, measure, fixed, one_each, count, left_out=int((~np.isfinite(each_pair)).sum()))


def _means(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The groups in order, and the mean of each. Of values of which some are infinite, the mean of the finite ones; where none is finite, the one that they all are.

    nan where no value is a number, or infinite ones of both signs are all there is.
    """
    each_once, index = np.unique(groups, return_inverse=True)
    if len(each_once) == len(values):
        alone = np.empty(len(values))
        alone[index] = values
        return each_once, alone
    every = pd.Series(values)
    averages = every.where(np.isfinite(every)).groupby(index).mean()
    nowhere = averages.isna()
    if nowhere.any():
        ends = every.groupby(index).agg(["min", "max"])
        averages[nowhere] = ends["min"].where(ends["min"] == ends["max"])[nowhere]
    return each_once, averages.to_numpy()


def judged(comparisons: list[Comparison], more: Iterable[pd.Series] = ()) -> tuple[list[Comparison], list[float]]:
    """The comparisons with their p values, and those of ``more`` differences from zero: all of one study, judged together."""
    columns = [*(each.differences for each in comparisons), *more]
    if not columns:
        return [], []
    table = pd.concat([column.rename(i) for i, column in enumerate(columns)], axis=1)
    p = statistics.familywise(finite(table.to_numpy(dtype=float)))
    count = len(comparisons)
    return [replace(each, p=float(p[i])) for i, each in enumerate(comparisons)], [float(each) for each in p[count:]]


def finite(differences: np.ndarray) -> np.ndarray:
    """(seeds, comparisons): an infinite difference as one ten times the largest finite one of its comparison."""
    largest = np.abs(np.where(np.isfinite(differences), differences, 0.0)).max(axis=0, initial=0.0)
    most = np.where(largest > 0, 10.0 * largest, 1.0)
    return np.asarray(np.clip(differences, -most, most))


def comparisons_of(part: Part) -> list[Comparison]:
    """Every pair of values of every axis that is compared: starts by growth, trained runs by result and by breakdowns.

    All are compared in the mean over the other axes. Starts are compared at every single setting too, because an effect may have
    another sign there. So are trained runs along the axis that the study asks about, and along an axis of two values.
    More tests would cost all of them their power.

    Results of tasks of unequal difficulty are not compared: with more blanks to copy, every network is right more often.
    """
    compared = []
    every = [(measure, Matching(runs, part.trains)) for measure, runs in _measured(part)]
    for axis in part.axes:
        measured = [(name, own) for name, own in every if axis not in part.task_axes or not name.startswith("held_out")]
        if not part.trains and axis in (*SCALES, "sequence_length"):
            continue
        values = comparable(part.compared, axis)
        others = [
            each for each in part.axes if each != axis and (part.trains or each not in (*SCALES, "sequence_length"))
        ]
        has_reference = axis in REFERENCE and REFERENCE[axis] in values
        singly = [(a, b) for a, b in pairs(axis, values) if not has_reference or REFERENCE[axis] in (a, b)]
        wanted = bool(others) and (not part.trains or axis == part.column or len(values) == 2)
        for measure, matching in measured:
            wide = matching.side_by_side(axis)
            compared += [difference(wide, part.sweep, axis, a, b, measure, part.fixed) for a, b in pairs(axis, values)]
            settings_ = grouped(matching.runs[others].reset_index(drop=True), others) if wanted else []
            for chosen, rows in settings_ if len(settings_) <= MOST_SINGLE else []:
                at_setting, fixed = matching.side_by_side(axis, rows.index.to_numpy()), {**part.fixed, **chosen}
                compared += [difference(at_setting, part.sweep, axis, a, b, measure, fixed) for a, b in singly]
    return [each for each in compared if each is not None]


def _measured(part: Part) -> list[tuple[str, pd.DataFrame]]:
    """(measure, runs with it as ``value``)."""
    runs = part.compared
    if not part.trains:
        return [("growth_rate", runs.assign(value=runs["growth_rate"]).dropna(subset=["value"]))]
    metric = str(runs["metric"].iloc[0])
    value = log10(runs["result"]) if metric == "held_out_loss" else runs["result"]
    measured = [(metric, runs.assign(value=value).dropna(subset=["value"]))]
    if runs["success"].notna().any():
        asked = runs[runs["success"].notna()]
        measured.append(("success", asked.assign(value=asked["success"].astype(float))))
    if runs["broken"].any():
        measured.append(("broken", runs.assign(value=runs["broken"].astype(float))))
    return measured
