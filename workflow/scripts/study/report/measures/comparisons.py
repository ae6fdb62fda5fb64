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
from study.report.measures.outcomes import log10
from study.report.measures.parts import Part
from study.report.measures.selection import IN_PLACE_OF, OF_CELLS, SCALES, TRAINING, grouped, varied
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
        return "higher" if self.differences.clip(-1e300, 1e300).sum() > 0 else "lower"

    @property
    def better(self) -> str:
        """a or b, by what the measure is for; empty where the verdict is open. Of growth neither is better."""
        if self.verdict not in ("higher", "lower") or self.measure == "growth_rate":
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


def side_by_side(runs: pd.DataFrame, axis: str, trains: bool) -> pd.DataFrame:
    """``value`` of every seed and combination of the other settings (rows), by the values of ``axis`` (columns).

    Starts match whatever way of training their row names (``distinct_starts`` keeps any one).
    A setting of which the values of ``axis`` have none in common (the step that only a residual cell has) cannot be matched; it is
    averaged over.
    """
    shared = shared_axes(runs, axis, trains)
    known = runs.assign(
        **{name: runs[name].astype(object).where(runs[name].notna(), UNSET) for name in [axis, *shared]}
    )
    return _means(known.set_index(["seed", *shared, axis])["value"]).unstack(axis)


def shared_axes(runs: pd.DataFrame, axis: str, trains: bool) -> list[str]:
    """The other settings that vary and of which all values of ``axis`` have some in common."""
    others = [name for name in varied(runs, () if trains else TRAINING) if name != axis]
    known = runs.assign(**{name: runs[name].astype(object).where(runs[name].notna(), UNSET) for name in others})
    by_value = known.groupby(axis, dropna=False)
    return [name for name in others if set.intersection(*by_value[name].agg(set))]


def difference(
    wide: pd.DataFrame, sweep: str, axis: str, a: Any, b: Any, measure: str, fixed: Mapping[str, Any]
) -> Comparison | None:
    """``a`` minus ``b`` in rows of ``side_by_side``; None where no seed has both."""
    sides = [UNSET if pd.isna(each) else each for each in (a, b)]
    if set(sides) - set(wide.columns):
        return None
    both = wide[sides].dropna()
    if both.empty:
        return None
    with np.errstate(invalid="ignore"):
        each_pair = (
            both[sides[0]] - both[sides[1]]
        )  # −∞ on both sides: nan, which no size counts and a test takes for no difference
    others = [name for name in wide.index.names if name != "seed"]
    count = len(each_pair.index.droplevel("seed").unique()) if others else 1
    one_each = _means(each_pair.droplevel(others))
    return Comparison(sweep, axis, a, b, measure, fixed, one_each, count, left_out=int((~np.isfinite(each_pair)).sum()))


def _means(values: pd.Series) -> pd.Series:
    """Means by index. Of values of which some are infinite, the mean of the finite ones; where none is finite, the one that they all are.

    nan where no value is a number, or infinite ones of both signs are all there is.
    """
    levels = list(range(values.index.nlevels))
    averages = values.where(np.isfinite(values)).groupby(level=levels).mean()
    nowhere = averages.isna()
    if nowhere.any():
        ends = values.groupby(level=levels).agg(["min", "max"])
        averages[nowhere] = ends["min"].where(ends["min"] == ends["max"])[nowhere]
    return averages


def judged(comparisons: list[Comparison], more: Iterable[pd.Series] = ()) -> tuple[list[Comparison], list[float]]:
    """The comparisons with their p values, and those of ``more`` differences from zero: all of one study, judged together."""
    columns = [*(each.differences for each in comparisons), *more]
    if not columns:
        return [], []
    table = pd.concat([_finite(column).rename(i) for i, column in enumerate(columns)], axis=1)
    p = statistics.familywise(table.to_numpy())
    count = len(comparisons)
    return [replace(each, p=float(p[i])) for i, each in enumerate(comparisons)], [float(each) for each in p[count:]]


def _finite(differences: pd.Series) -> pd.Series:
    """An infinite difference as one ten times the largest finite one."""
    finite = differences[np.isfinite(differences)].abs()
    most = 10.0 * float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
    return differences.clip(-most, most)


def comparisons_of(part: Part) -> list[Comparison]:
    """Every pair of values of every axis that is compared: starts by growth, trained runs by result and by breakdowns.

    All are compared in the mean over the other axes. Starts are compared at every single setting too, because an effect may have
    another sign there. So are trained runs along the axis that the study asks about, and along an axis of two values.
    More tests would cost all of them their power.
    """
    compared = []
    for axis in part.axes:
        if not part.trains and axis in (*SCALES, "sequence_length"):
            continue
        values = comparable(part.compared, axis)
        for measure, runs in _measured(part):
            wide = side_by_side(runs, axis, part.trains)
            compared += [difference(wide, part.sweep, axis, a, b, measure, part.fixed) for a, b in pairs(axis, values)]
            others = [
                each for each in part.axes if each != axis and (part.trains or each not in (*SCALES, "sequence_length"))
            ]
            has_reference = axis in REFERENCE and REFERENCE[axis] in values
            singly = [(a, b) for a, b in pairs(axis, values) if not has_reference or REFERENCE[axis] in (a, b)]
            settings_ = grouped(runs, others) if others else []
            wanted = not part.trains or axis == part.column or len(values) == 2
            for chosen, rows in settings_ if wanted and len(settings_) <= MOST_SINGLE else []:
                at_setting, fixed = side_by_side(rows, axis, part.trains), {**part.fixed, **chosen}
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
