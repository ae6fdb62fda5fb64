"""What the page says, measured from the tables: every number of a sentence, title, caption or table has its one definition here.

A *start* is a network before training: runs that differ only in how they are trained share one. A seed is one network; whatever is
compared is compared seed by seed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from study.report import statistics as stat
from study.report.words import ordered
from study.settings import described_axes

TRAINING = tuple(name for name, axis in described_axes().items() if axis["training"])  # without effect on a start
NOT_COMPARED = ("seed", "trace_every")
REGIMES = ("vanishing", "stable", "exploding")
# Where several settings of the training vary, the first of these is what the study asks about, and has the columns of the table.
ASKED_FIRST = ("clipping", "truncation", "optimizer", "learning_rate", "cell", "initializer", "activation")
REFERENCE: dict[str, Any] = {"clipping": "none", "truncation": None}  # what the other values are compared with
NUMBERS = (
    "spectral_radius",
    "residual_step",
    "residual_leak",
    "input_scale",
    "hidden_size",
    "batch_size",
    "sequence_length",
)


# ---- which runs


def settings() -> list[str]:
    """All settings of a run, in order."""
    return list(described_axes())


def where(runs: pd.DataFrame, **chosen: Any) -> pd.DataFrame:
    """The runs with these settings; None is a setting that is not set."""
    for name, value in chosen.items():
        if isinstance(value, list | tuple):
            runs = runs[runs[name].isin(value)]
        else:
            runs = runs[runs[name].isna() if value is None or pd.isna(value) else runs[name] == value]
    return runs


def varied(runs: pd.DataFrame, without: Iterable[str] = ()) -> list[str]:
    """Settings that tell these runs apart; one that follows from those before it (a task's learning rate) is not needed."""
    found: list[str] = []
    for name in settings():
        if name in NOT_COMPARED or name in without or runs[name].nunique(dropna=False) < 2:
            continue
        groups = runs.groupby(found, dropna=False)[name] if found else runs.groupby(lambda _: 0)[name]
        if groups.nunique(dropna=False).gt(1).any():
            found.append(name)
    return found


def distinct_starts(runs: pd.DataFrame) -> pd.DataFrame:
    """Every start once, whatever sweeps and ways of training share it."""
    return runs.drop_duplicates([name for name in settings() if name not in TRAINING])


def starts(runs: pd.DataFrame) -> pd.DataFrame:
    """Starts whose gradient has a way back (two steps at least): of the runs that train nothing; if there are none, of the others."""
    runs = runs[runs["sequence_length"] > 1]
    untrained = runs[runs["updates"] == 0]
    return distinct_starts(untrained if len(untrained) else runs)


def trained(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs that train."""
    return runs[runs["updates"] > 0]


def at_longest(runs: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The runs at the longest sequence of their kind."""
    T = runs["sequence_length"]
    if not by:
        return runs[T.max() == T]
    return runs[T.groupby([runs[name] for name in by], dropna=False).transform("max") == T]


# ---- regimes, and where they change


def regime_counts(runs: pd.DataFrame) -> dict[str, int]:
    """How many networks vanish, stay and explode; how many have no number."""
    counts = {regime: int((runs["regime"] == regime).sum()) for regime in REGIMES}
    return counts | {"not finite": len(runs) - sum(counts.values())}


@dataclass(frozen=True)
class Critical:
    """Where growth turns from shrinking to growing, over the networks (seeds) of one kind.

    ``radius``: the median over networks, with its interval; infinite where most never turn. ``gap``: the distance between the
    radii tried around it.
    """

    radius: stat.Interval
    turning: int
    shrinking: int
    growing: int
    unordered: int
    gap: float

    @property
    def networks(self) -> int:
        return self.turning + self.shrinking + self.growing + self.unordered

    @property
    def places(self) -> int:
        """Digits after the point that the radii tried can bear."""
        if not self.gap > 0 or not math.isfinite(self.gap):
            return 2
        return max(0, -math.floor(math.log10(self.gap / 5)))


def crossings(runs: pd.DataFrame, rate: str = "growth_rate") -> dict[int, stat.Crossing]:
    """By seed, where ``rate`` crosses zero over the spectral radius."""
    found = {}
    for seed, rows in runs.groupby("seed"):
        rows = rows.groupby("spectral_radius")[rate].mean()
        found[int(seed)] = stat.crossing(rows.index.to_numpy(dtype=float), rows.to_numpy(dtype=float))
    return found


def critical(runs: pd.DataFrame, rate: str = "growth_rate") -> Critical | None:
    """The critical spectral radius of networks of one kind; None with fewer than two radii, or where nothing is a number."""
    if runs["spectral_radius"].nunique() < 2:
        return None
    found = crossings(runs, rate)
    at = np.array([each.at for each in found.values()])
    if np.isnan(at).all():
        return None
    known = at[~np.isnan(at)]
    radius = stat.median(known)
    turning = [each for each in found.values() if math.isfinite(each.at)]
    gaps = [each.above - each.below for each in turning if each.below < radius.value < each.above]
    exact = [each for each in turning if each.below == each.above]
    radii = np.sort(runs["spectral_radius"].unique())
    around = [high - low for low, high in itertools.pairwise(radii) if low <= radius.value <= high]
    gap = min([*gaps, *around], default=math.nan) if gaps or exact or around else math.nan
    return Critical(
        radius,
        turning=len(turning),
        shrinking=int((known == math.inf).sum()),
        growing=int((known == -math.inf).sum()),
        unordered=int(np.isnan(at).sum()),
        gap=float(gap),
    )


def theory_critical(runs: pd.DataFrame) -> Critical | None:
    """Where theory turns: one theory for all radii, since a change from one to another would turn by itself.

    The linear law for the identity, else mean field where it is known for all, else the operating point.
    """
    linear = (runs["activation"] == "identity").all() and runs["linear_rate"].notna().all()
    mean_field = "mean_field_rate" if runs["mean_field_rate"].notna().all() else "operating_rate"
    return critical(runs, "linear_rate" if linear else mean_field)


def never_settled(runs: pd.DataFrame) -> pd.DataFrame:
    """Networks whose state has not reached a usual size where the growth rate is measured, although that decides the rate.

    The settled window then begins as late as it may (rnn_core.theory.settled_window). The identity's slopes know no size.
    """
    latest = (runs["settled_to"] - 1) // 2
    return runs[(runs["settled_from"] - 1 >= latest) & (runs["activation"] != "identity")]


# ---- results of training


def results(runs: pd.DataFrame) -> pd.DataFrame:
    """Trained runs with ``metric`` (accuracy where the task has one, else loss), ``broken`` and ``result``.

    A run that broke down has no result of its own: it counts with that of a prediction that has learnt nothing.
    """
    runs = trained(runs)
    classified = runs["baseline_accuracy"].notna()
    own = runs["held_out_accuracy"].where(classified, runs["held_out_loss"])
    nothing = runs["baseline_accuracy"].where(classified, runs["baseline_loss"])
    broken = runs["first_nonfinite_update"].notna() | ~np.isfinite(own.astype(float))
    metric = np.where(classified, "held_out_accuracy", "held_out_loss")
    return runs.assign(metric=metric, broken=broken, result=own.where(~broken, nothing).astype(float), baseline=nothing)


def per_seed(runs: pd.DataFrame, column: str) -> pd.Series:
    """One number a seed: the mean over the settings."""
    return runs.groupby("seed")[column].mean()


def outcome(runs: pd.DataFrame) -> stat.Interval:
    """Mean result over seeds of runs of one metric, with its interval; of losses the geometric mean."""
    loss = (runs["metric"] == "held_out_loss").all()
    values = runs.assign(value=_log10(runs["result"]) if loss else runs["result"])
    found = stat.mean(per_seed(values, "value").to_numpy())
    if loss:
        return stat.Interval(*(10.0**end for end in found))
    return stat.Interval(found.value, *(min(max(end, 0.0), 1.0) if end == end else end for end in found[1:]))


def _log10(values: pd.Series) -> pd.Series:
    return np.log10(values.clip(lower=1e-300))


# ---- comparisons


@dataclass(frozen=True)
class Comparison:
    """Two values of an axis compared seed by seed: ``a`` minus ``b``, the mean over all other settings of each seed.

    ``measure``: growth_rate (ln per step), held_out_accuracy (fraction), held_out_loss (log10) or broken (share of runs).
    ``fixed``: settings that are the same on both sides, besides the ``settings`` that are averaged over. ``p``: of all comparisons
    of the study together.
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
    left_out: int = 0  # pairs in which a gradient is exactly zero: their difference is infinite

    @property
    def seeds(self) -> int:
        return len(self.differences)

    @property
    def effect(self) -> stat.Interval:
        found = stat.mean(self.differences[np.isfinite(self.differences)].to_numpy())
        if self.measure in ("held_out_accuracy", "broken"):  # shares differ by 1 at most
            return stat.Interval(found.value, *(float(np.clip(end, -1.0, 1.0)) for end in found[1:]))
        return found

    @property
    def verdict(self) -> str:
        """higher or lower (a against b), none, or few: so few seeds that no outcome could be clear."""
        if self.seeds < stat.FEWEST_SEEDS:
            return "few"
        if not self.p <= stat.LEVEL:
            return "none"
        return "higher" if self.differences.clip(-1e300, 1e300).sum() > 0 else "lower"

    @property
    def better(self) -> str:
        """a or b, by what the measure is for; empty where the verdict is open. Of growth neither is better."""
        if self.verdict not in ("higher", "lower") or self.measure == "growth_rate":
            return ""
        more_is_better = self.measure == "held_out_accuracy"
        return "a" if (self.verdict == "higher") == more_is_better else "b"


MOST_SINGLE = 32  # settings that are compared one by one; of more, only their mean
MOST_PAIRED = 8  # values of an axis that are all compared with each other; of more, neighbours and the two ends


def pairs(axis: str, values: list[Any]) -> list[tuple[Any, Any]]:
    """The pairs of values that are compared, the later value first: norm against none."""
    if len(values) <= MOST_PAIRED:
        return [(b, a) for a, b in itertools.combinations(values, 2)]
    return [(b, a) for a, b in [*itertools.pairwise(values), (values[0], values[-1])]]


def side_by_side(runs: pd.DataFrame, axis: str) -> pd.DataFrame:
    """``value`` of every seed and combination of the other settings (rows), by the values of ``axis`` (columns).

    A setting of which the values of ``axis`` have none in common (the step that only a residual cell has) cannot be matched; it is
    averaged over.
    """
    others = [name for name in varied(runs) if name != axis]
    known = runs.assign(
        **{name: runs[name].astype(object).where(runs[name].notna(), UNSET) for name in [axis, *others]}
    )
    shared = [name for name in others if set.intersection(*known.groupby(axis)[name].agg(set))]
    return _means(known.set_index(["seed", *shared, axis])["value"]).unstack(axis)


UNSET = "unset"  # a null among values that are matched


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
        each_pair = (both[sides[0]] - both[sides[1]]).fillna(0.0)  # −∞ on both sides is no difference
    others = [name for name in wide.index.names if name != "seed"]
    count = len(each_pair.index.droplevel("seed").unique()) if others else 1
    one_each = _means(each_pair.droplevel(others))
    return Comparison(sweep, axis, a, b, measure, fixed, one_each, count, left_out=int(np.isinf(each_pair).sum()))


def _means(values: pd.Series) -> pd.Series:
    """Means by index. Of values of which some are infinite, the mean of the finite ones; where none is finite, the one that they all are."""
    levels = list(range(values.index.nlevels))
    found = values.where(np.isfinite(values)).groupby(level=levels).mean()
    nowhere = found.isna()
    if nowhere.any():
        ends = values.groupby(level=levels).agg(["min", "max"])
        found[nowhere] = ends["min"].where(ends["min"] == ends["max"], 0.0)[nowhere]
    return found


def judged(comparisons: list[Comparison], more: Iterable[pd.Series] = ()) -> tuple[list[Comparison], list[float]]:
    """The comparisons with their p values, and those of ``more`` differences from zero: all of one study, judged together."""
    columns = [*(each.differences for each in comparisons), *more]
    if not columns:
        return [], []
    table = pd.concat([_finite(column).rename(i) for i, column in enumerate(columns)], axis=1)
    p = stat.familywise(table.to_numpy())
    count = len(comparisons)
    return [replace(each, p=float(p[i])) for i, each in enumerate(comparisons)], [float(each) for each in p[count:]]


def _finite(differences: pd.Series) -> pd.Series:
    """An infinite difference as one ten times the largest finite one."""
    finite = differences[np.isfinite(differences)].abs()
    most = 10.0 * float(finite.max()) if len(finite) and finite.max() > 0 else 1.0
    return differences.clip(-most, most)


# ---- the study as a whole


@dataclass(frozen=True)
class Part:
    """One sweep's starts, or one task's trained runs of a sweep, and what varies in it.

    ``column``: the axis whose values are the columns of its table; ``rows``: the other axes that vary.
    """

    sweep: str
    trains: bool
    runs: pd.DataFrame
    column: str | None
    rows: list[str]
    fixed: dict[str, Any] = field(default_factory=dict)

    @property
    def axes(self) -> list[str]:
        return [*([self.column] if self.column else []), *self.rows]

    @property
    def columns(self) -> list[Any]:
        return ordered(self.column, self.runs[self.column]) if self.column else [None]

    def groups(self) -> list[tuple[dict[str, Any], pd.DataFrame]]:
        """Settings and runs of every row."""
        return grouped(self.runs, self.rows)


def grouped(runs: pd.DataFrame, axes: list[str]) -> list[tuple[dict[str, Any], pd.DataFrame]]:
    """Settings and runs for every combination of values of ``axes``, in order; a null setting is None."""
    if not axes:
        return [({}, runs)]
    values = [ordered(axis, runs[axis]) for axis in axes]
    by_key = {tuple(None if pd.isna(v) else v for v in key): rows for key, rows in runs.groupby(axes, dropna=False)}
    keys = [key for key in itertools.product(*values) if key in by_key]
    return [(dict(zip(axes, key, strict=True)), by_key[key]) for key in keys]


def parts(runs: pd.DataFrame) -> list[Part]:
    """The starts of every sweep that trains nothing (of all sweeps, if all train), then the trained runs of every sweep and task.

    Of each kind, the part with the most runs comes first.
    """
    found: list[Part] = []
    any_untrained = bool((runs["updates"] == 0).any())
    for sweep, rows in runs.groupby("sweep", sort=False):
        untrained = rows[rows["updates"] == 0]
        own = starts(rows) if len(untrained) or not any_untrained else rows.iloc[:0]
        if len(own):
            axes = varied(own, TRAINING)
            column = _start_column(own, axes)
            shown = own if column == "sequence_length" else at_longest(own, [a for a in axes if a != "sequence_length"])
            rest = [axis for axis in axes if axis not in (column, "sequence_length")]
            found.append(Part(str(sweep), False, shown, column, rest))
    for sweep, rows in runs.groupby("sweep", sort=False):
        measured = results(rows)
        for task, own in measured.groupby("task", sort=True):
            axes = varied(own, ("updates", "task"))
            column = next((a for a in (*ASKED_FIRST, *axes) if a in axes), None)
            fixed = {"task": task} if measured["task"].nunique() > 1 else {}
            found.append(Part(str(sweep), True, own, column, [a for a in axes if a != column], fixed))
    return sorted(found, key=lambda part: (part.trains, -len(part.runs)))


def _start_column(runs: pd.DataFrame, axes: list[str]) -> str | None:
    """Spectral radius, else the number with the most values, else nothing."""
    numeric = [axis for axis in NUMBERS if axis in axes and runs[axis].notna().all()]
    if "spectral_radius" in numeric:
        return "spectral_radius"
    return max(numeric, key=lambda axis: runs[axis].nunique(), default=None)


def comparisons_of(part: Part) -> list[Comparison]:
    """Every pair of values of every axis that is compared: of starts by growth, of trained runs by result and by breakdowns.

    Starts, and trained runs along the axis that the study asks about or one of two values, are compared at every single setting of the
    other axes, too: an effect may have another sign there. More tests would cost all of them their power.
    """
    found = []
    for axis in part.axes:
        if not part.trains and axis in ("spectral_radius", "sequence_length"):
            continue
        values = ordered(axis, part.runs[axis])
        for measure, runs in _measured(part):
            wide = side_by_side(runs, axis)
            found += [difference(wide, part.sweep, axis, a, b, measure, part.fixed) for a, b in pairs(axis, values)]
            others = [
                each
                for each in part.axes
                if each != axis and (part.trains or each not in ("spectral_radius", "sequence_length"))
            ]
            has_reference = axis in REFERENCE and REFERENCE[axis] in values
            singly = [(a, b) for a, b in pairs(axis, values) if not has_reference or REFERENCE[axis] in (a, b)]
            settings_ = grouped(runs, others) if others else []
            wanted = not part.trains or axis == part.column or len(values) == 2
            for chosen, rows in settings_ if wanted and len(settings_) <= MOST_SINGLE else []:
                here, fixed = side_by_side(rows, axis), {**part.fixed, **chosen}
                found += [difference(here, part.sweep, axis, a, b, measure, fixed) for a, b in singly]
    return [each for each in found if each is not None]


def _measured(part: Part) -> list[tuple[str, pd.DataFrame]]:
    """(measure, runs with it as ``value``)."""
    runs = part.runs
    if not part.trains:
        return [("growth_rate", runs.assign(value=runs["growth_rate"]).dropna(subset=["value"]))]
    metric = str(runs["metric"].iloc[0])
    value = _log10(runs["result"]) if metric == "held_out_loss" else runs["result"]
    found = [(metric, runs.assign(value=value).dropna(subset=["value"]))]
    if runs["broken"].any():
        found.append(("broken", runs.assign(value=runs["broken"].astype(float))))
    return found


def alike(part: Part, axes: list[str], axis: str) -> bool:
    """Whether the values of ``axis`` have the same regimes everywhere and the same decades to a tenth."""
    others = [each for each in axes if each != axis] + ([part.column] if part.column else [])
    runs = part.runs.assign(
        shown=part.runs["log10_gradient_ratio"].round(1).astype(str) + part.runs["regime"].fillna("").astype(str)
    )
    keys = ["seed", *others]
    groups = runs.groupby(keys, dropna=False)
    return bool(
        (groups["shown"].nunique() == 1).all()
        and (groups[axis].nunique(dropna=False) == part.runs[axis].nunique(dropna=False)).all()
    )


# ---- theory


def deviations(part: Part) -> list[tuple[dict[str, Any], pd.Series]]:
    """Of every row, one number a network: growth_rate − predicted_rate, the mean over the columns; where there is a prediction.

    Not where that is the linear law, which is exact in the long run: what is left of it are the sequence's ends.

    The seeds are the same networks at every spectral radius, so a row is one test, not one a radius.
    """
    found = []
    for chosen, rows in part.groups():
        known = rows[np.isfinite(rows["deviation"].astype(float)) & (rows["predicted_by"] != "linear law")]
        if len(known):
            found.append((chosen, per_seed(known, "deviation")))
    return found
