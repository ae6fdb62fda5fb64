"""A second computation of every kind of number on the page, in plain pandas and NumPy, that shares no code with the first.

``KINDS[kind](tables, where)`` is the number; ``tables`` are the study's tables as read from Parquet, ``where`` the settings of the rows.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from tests.page import (
    second_opinion_cliff,
    second_opinion_depth,
    second_opinion_memory,
    second_opinion_spectra,
    second_opinion_start,
    second_opinion_success,
    second_opinion_training,
    second_opinion_weights,
)

Tables = dict[str, pd.DataFrame]
Where = dict[str, Any]
Kind = Callable[[Tables, Where], float]

HOW_TRAINED = [
    "clipping",
    "omega",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "updates",
    "trace_every",
    "truncation",
]


_last: list[tuple[Tables, dict[str, Any]]] = []  # the study that was asked about last, and what was found


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function(tables, *others)``, computed once a study: a page asks for the mean and both ends of every interval."""

    @functools.wraps(function)
    def asked(tables: Tables, *others: Any) -> Any:
        if not _last or _last[0][0] is not tables:
            _last[:] = [(tables, {})]
        found, key = _last[0][1], f"{function.__name__}{others!r}"
        if key not in found:
            found[key] = function(tables, *others)
        return found[key]

    return asked


def columns_of_settings(tables: Tables) -> list[str]:
    """Settings stand in ``runs`` between the run key and the first measured column."""
    names = list(tables["runs"].columns)
    return names[names.index("run_key") + 1 : names.index("task_input_size")]


def matches(row: Any, where: Where) -> bool:
    for name, wanted in where.items():
        if name not in row:
            continue
        value = row[name]
        if isinstance(wanted, list):
            if value not in wanted:
                return False
        elif wanted is None:
            if not pd.isna(value):
                return False
        elif value != wanted:
            return False
    return True


def pick(rows: pd.DataFrame, where: Where) -> pd.DataFrame:
    where = {name: value for name, value in where.items() if name not in ("axis", "a", "b", "regime", "format")}
    keep = np.ones(len(rows), dtype=bool)
    for name, wanted in where.items():
        column = rows[name]
        if isinstance(wanted, list):
            keep &= column.isin(wanted).to_numpy()
        elif wanted is None:
            keep &= column.isna().to_numpy()
        else:
            keep &= (column == wanted).to_numpy()
    return rows[keep]


@remembered
def one_each(tables: Tables) -> pd.DataFrame:
    """Every run of every sweep once; its words as Python's own, in one block: rows are taken out of it hundreds of times a page."""
    runs = tables["runs"].drop_duplicates(["sweep", "run_key"])
    words = [name for name in runs if isinstance(runs[name].dtype, pd.StringDtype)]
    return runs.astype(dict.fromkeys(words, object)).copy()


def beginnings(tables: Tables, where: Where) -> pd.DataFrame:
    """The distinct untrained networks of a sweep with a way back (of the trained ones, if the study has no others)."""
    return beginnings_of(tables, where.get("sweep"))


@remembered
def beginnings_of(tables: Tables, sweep: str | None) -> pd.DataFrame:
    runs = one_each(tables)
    any_untrained = (runs["updates"] == 0).any()
    runs = runs if sweep is None else pick(runs, {"sweep": sweep})
    runs = runs[(runs["task_steps"] > 1) & ((runs["updates"] == 0) | (not any_untrained))]
    runs = runs.drop_duplicates([name for name in columns_of_settings(tables) if name not in HOW_TRAINED])
    return runs.assign(**dict.fromkeys(HOW_TRAINED, None))  # a beginning knows nothing of its training


@remembered
def longest(tables: Tables, sweep: str | None) -> pd.DataFrame:
    """Of every kind of network the longest sequence; all lengths where length is what the study varies as a number."""
    rows = beginnings_of(tables, sweep)
    kinds = [c for c in columns_of_settings(tables) if c not in [*HOW_TRAINED, "seed", "sequence_length"]]
    most = rows.groupby(kinds, dropna=False)["sequence_length"].transform("max")
    return rows if length_is_asked(rows) else rows[rows["sequence_length"] == most]


def length_is_asked(rows: pd.DataFrame) -> bool:
    """Whether length is the number that these networks vary most (of two with as many values the first), and nothing scales their matrix."""
    return second_opinion_start.kinds_axis(rows) == "sequence_length"


@remembered
def networks(tables: Tables, where: Where) -> pd.DataFrame:
    every_length = "sequence_length" in where
    return pick(beginnings(tables, where) if every_length else longest(tables, where.get("sweep")), where)


def grown(tables: Tables, where: Where) -> pd.DataFrame:
    """The networks whose growth is compared: all of one length, the longest, where length is what a sweep asks about."""
    rows = networks(tables, where)
    whole = beginnings(tables, {"sweep": where["sweep"]})
    return rows[rows["sequence_length"] == whole["sequence_length"].max()] if length_is_asked(whole) else rows


def counted_regime(tables: Tables, where: Where) -> float:
    rows = networks(tables, where)
    decades = rows["log10_gradient_ratio"].to_numpy(dtype=float)
    inside = {
        "vanishing": decades < -2, "exploding": decades > 2, "stable": np.abs(decades) <= 2, "not finite": np.isnan(decades)
    }  # fmt: skip
    return float(inside[where["regime"]].sum())


# ---- critical radii


def turning_points(tables: Tables, where: Where, rate: str = "growth_rate") -> list[float]:
    """By network, where the rate crosses zero; inf if it never grows, −inf if it always does; networks in no such order left out."""
    found = []
    rows = networks(tables, where)
    scale = "weight_scale" if rows["spectral_radius"].isna().all() else "spectral_radius"
    for seed in sorted(set(rows["seed"])):
        own = rows[rows["seed"] == seed]
        line = sorted((rho, float(np.mean(group[rate]))) for rho, group in own.groupby(scale))
        line = [(rho, value) for rho, value in line if not math.isnan(value)]
        if (
            not line
            or (line[0][1] > 0 and any(value < 0 for _, value in line))
            or (line[0][1] > 0 and any(value == 0 for _, value in line))
        ):
            continue
        if all(value < 0 for _, value in line):
            found.append(math.inf)
        elif all(value > 0 for _, value in line):
            found.append(-math.inf)
        else:
            found.append(first_zero(line))
    return found


def first_zero(line: list[tuple[float, float]]) -> float:
    for i, (rho, value) in enumerate(line):
        if value == 0:
            return rho
        if value > 0:
            before, below = line[i - 1]
            if math.isinf(below):
                return rho
            if math.isinf(value):
                return before
            x0, x1 = math.log(before), math.log(rho)
            return math.exp(x0 + (x1 - x0) * (0 - below) / (value - below))
    raise AssertionError


def all_networks(tables: Tables, where: Where) -> int:
    return int(networks(tables, where)["seed"].nunique())


def median_of(values: list[float]) -> float:
    values = sorted(values)
    low, high = values[(len(values) - 1) // 2], values[len(values) // 2]
    if math.isinf(low) or math.isinf(high):
        return low if math.isinf(low) else high
    return (low + high) / 2


def median_end(values: list[float], upper: bool) -> float:
    """The end of the exact 95 % interval of a median: ranks beyond it on one side have a chance of 2.5 % at most."""
    values = sorted(values)
    n, beyond, chance = len(values), 0, 0.0
    if n < 2:
        return math.nan
    while chance + math.comb(n, beyond) / 2**n <= 0.025:
        chance += math.comb(n, beyond) / 2**n
        beyond += 1
    rank = max(0, beyond - 1)
    return values[n - 1 - rank] if upper else values[rank]


# ---- training


@remembered
def outcomes(tables: Tables, where: Where) -> pd.DataFrame:
    """Trained runs with their result. A broken one has the accuracy of what knows nothing, or ten times its loss; no loss is more than that."""
    runs = pick(one_each(tables)[lambda r: r["updates"] > 0], where).copy()
    runs["accuracy"] = runs["baseline_accuracy"].notna()
    values, broken = [], []
    for row in runs.to_dict("records"):
        own = row["held_out_accuracy"] if row["accuracy"] else row["held_out_loss"]
        bad = not pd.isna(row["first_nonfinite_update"]) or pd.isna(own) or math.isinf(own)
        worst = 10.0 * row["baseline_loss"]
        values.append(
            (row["baseline_accuracy"] if bad else own) if row["accuracy"] else worst if bad else min(own, worst)
        )
        broken.append(bad)
    runs["result"], runs["broken"] = np.array(values, dtype=float), broken
    return runs


def scale(runs: pd.DataFrame) -> pd.Series:
    """Accuracy as it is, loss by its decimal logarithm."""
    return runs["result"] if runs["accuracy"].all() else np.log10(np.maximum(runs["result"], 1e-300))


@remembered
def seed_means(tables: Tables, where: Where) -> np.ndarray:
    runs = outcomes(tables, where)
    return scale(runs).groupby(runs["seed"]).mean().to_numpy()


def student(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and 95 % interval; Student's quantile from its own table, by bisection of the incomplete beta function."""
    from scipy.special import stdtrit

    n = len(values)
    middle = float(np.mean(values))
    if n < 2:
        return middle, math.nan, math.nan
    half = float(stdtrit(n - 1, 0.975)) * math.sqrt(float(np.var(values, ddof=1)) / n)
    return middle, middle - half, middle + half


def result(tables: Tables, where: Where, end: int) -> float:
    values = seed_means(tables, where)
    found = student(values)[end]
    if outcomes(tables, where)["accuracy"].all():
        return min(max(found, 0.0), 1.0) if end else found
    return 10.0**found


def paired(tables: Tables, where: Where, runs: pd.DataFrame, column: str) -> np.ndarray:
    """One difference a seed: a minus b, averaged over all other settings that both have."""
    own = paired_by_seed(tables, where, runs, column)
    return np.array([own[seed] for seed in sorted(own)])


def paired_by_seed(
    tables: Tables, where: Where, runs: pd.DataFrame, column: str, zero_pairs: list[int] | None = None
) -> dict[Any, float]:
    pairs = paired_one_by_one(tables, where, runs, column)
    if zero_pairs is not None:
        zero_pairs.append(sum(math.isinf(one) or math.isinf(other) for one, other in pairs.values()))
    by_seed: dict[Any, list[float]] = {}
    for key, (one, other) in pairs.items():
        by_seed.setdefault(key[0], []).append(one - other)  # of two that are both −∞ nobody knows it
    return {seed: finite_mean(np.array(values)) for seed, values in by_seed.items()}


def paired_one_by_one(
    tables: Tables, where: Where, runs: pd.DataFrame, column: str
) -> dict[tuple[Any, ...], tuple[float, float]]:
    """By seed and other settings that both sides have: a, and b."""
    axis, seeds = told(runs[where["axis"]]), runs["seed"].tolist()
    known = {name: told(runs[name]) for name in columns_of_settings(tables) if name in runs}
    others = [
        values for name, values in known.items()
        if name not in (where["axis"], "seed", "trace_every") and len(set(values)) > 1 and shared_by_all(axis, values)
    ]  # fmt: skip
    measured: dict[Any, dict[Any, list[float]]] = {}
    for value, key, number in zip(axis, zip(seeds, *others, strict=True), runs[column].tolist(), strict=True):
        measured.setdefault(value, {}).setdefault(key, []).append(float(number))
    sides = [
        {key: finite_mean(np.array(numbers)) for key, numbers in measured.get(value, {}).items()}
        for value in (where["a"], where["b"])
    ]
    return {key: (value, sides[1][key]) for key, value in sides[0].items() if key in sides[1]}


def growth_by_setting(tables: Tables, where: Where) -> list[float]:
    """The mean over seeds of a minus b at every single setting, times the sign of the whole difference."""
    runs = grown(tables, place(where)).dropna(subset=["growth_rate"])
    by_setting: dict[Any, list[float]] = {}
    for key, (a, b) in paired_one_by_one(tables, where, runs, "growth_rate").items():
        if math.isfinite(a) and math.isfinite(b):
            by_setting.setdefault(key[1:], []).append(a - b)
    sign = math.copysign(1.0, growth_difference(tables, where, 0))
    return [sign * sum(values) / len(values) for values in by_setting.values()]


def told(column: pd.Series) -> list[Any]:
    """The values as Python has them; None where there is none."""
    return [None if value is None or value is pd.NA or value != value else value for value in column.tolist()]


def shared_by_all(axis: list[Any], values: list[Any]) -> bool:
    """Whether a setting does more than follow the axis, and the rows of all its values have some in common."""
    found: dict[Any, set[Any]] = {}
    for side, value in zip(axis, values, strict=True):
        found.setdefault(side, set()).add(value)
    return any(len(each) > 1 for each in found.values()) and bool(set.intersection(*found.values()))


def narrow(tables: Tables, runs: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """The settings of which these runs have several values, their seeds, and these columns."""
    names = [n for n in columns_of_settings(tables) if n == "seed" or runs[n].nunique(dropna=False) > 1]
    return runs[list(dict.fromkeys([*names, *columns]))]


def follows(runs: pd.DataFrame, name: str, given: list[str]) -> bool:
    """Whether a setting has one value for each value of the given ones (a learning rate chosen for the cell)."""
    return bool((runs.groupby(given, dropna=False)[name].nunique(dropna=False) <= 1).all())


def finite_mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    if len(known):
        return float(np.mean(known))
    values = values[~np.isnan(values)]
    if not len(values):
        return math.nan
    return float(values[0]) if len(set(values)) == 1 else math.nan


def place(where: Where) -> Where:
    """Where a comparison is made, without its two sides."""
    return {name: value for name, value in where.items() if name not in ("axis", "a", "b")}


def growth_difference(tables: Tables, where: Where, end: int) -> float:
    return float(growth_interval(tables, where)[end])


@remembered
def growth_interval(tables: Tables, where: Where) -> tuple[float, float, float]:
    runs = grown(tables, place(where)).dropna(subset=["growth_rate"])
    values = paired(tables, where, runs, "growth_rate")
    return student(values[np.isfinite(values)])


def count_zero_pairs(tables: Tables, where: Where) -> float:
    count: list[int] = []
    runs = grown(tables, place(where)).dropna(subset=["growth_rate"])
    paired_by_seed(tables, where, runs, "growth_rate", count)
    return float(count[0])


def decades_difference(tables: Tables, where: Where, end: int) -> float:
    longest_of_all = networks(tables, {"sweep": where["sweep"]})["sequence_length"].max()
    runs = networks(tables, place(where)).dropna(subset=["log10_gradient_ratio"])
    runs = runs[runs["sequence_length"] == longest_of_all]
    values = paired(tables, where, runs, "log10_gradient_ratio")
    return student(values[np.isfinite(values)])[end]


def largest_difference(tables: Tables, where: Where) -> float:
    """Between two networks of one seed that differ in the axis alone."""
    runs, axis = grown(tables, place(where)), where["axis"]
    others = [name for name in columns_of_settings(tables) if name not in (axis, "trace_every")]
    sides = [side for _, side in runs.groupby(axis, dropna=False)]
    others = [name for name in others if set.intersection(*(set(map(str, side[name])) for side in sides))]
    groups = runs.groupby([list(map(str, runs[name])) for name in others])["log10_gradient_ratio"]
    with np.errstate(invalid="ignore"):
        return float((groups.max() - groups.min()).fillna(0.0).max())


def every_network(tables: Tables) -> pd.DataFrame:
    """The networks before training of all sweeps, at their longest sequence."""
    runs = one_each(tables)
    found = [networks(tables, {"sweep": sweep}) for sweep in dict.fromkeys(runs["sweep"])]
    every = pd.concat([rows for rows in found if len(rows)])
    return every.drop_duplicates([name for name in columns_of_settings(tables) if name not in HOW_TRAINED])


def unsettled(tables: Tables) -> list[Any]:
    """Networks whose window begins as late as it may; not linear ones, whose slopes know no size."""
    rows = every_network(tables).to_dict("records")
    late = [r for r in rows if r["settled_from"] - 1 >= (r["settled_to"] - 1) // 2]
    return [r for r in late if r["activation"] != "identity" or pd.isna(r["linear_rate"])]


def sampled_in_vain(tables: Tables) -> list[Any]:
    """Networks without a prediction, of a cell and with weights and inputs that dynamic mean field samples."""
    cells = ("residual", "layer_norm", "gru", "gru_reset_before", "lstm", "slstm")
    return [
        row for row in every_network(tables).to_dict("records")
        if row["cell"] in cells and pd.isna(row["predicted_by"]) and row["initializer"] == "gaussian" and row["layers"] == 1
        and row["task"] in ("white_noise", "input_mean") and row["input_correlation"] == 0 and not row["flossing"]
    ]  # fmt: skip


def trained_difference(tables: Tables, where: Where, end: int) -> float:
    return float(trained_interval(tables, where)[end])


@remembered
def trained_interval(tables: Tables, where: Where) -> tuple[float, float, float]:
    runs = outcomes(tables, {k: v for k, v in where.items() if k not in ("axis", "a", "b")})
    return student(paired(tables, where, runs.assign(v=scale(runs)), "v"))


def loss_ratio(tables: Tables, where: Where, end: int, sign: float) -> float:
    ends = [10.0 ** (-sign * trained_difference(tables, where, i)) for i in range(3)]
    return [ends[0], min(ends[1:]), max(ends[1:])][end]


def loss_lower(tables: Tables, where: Where, end: int, sign: float) -> float:
    return 1.0 - 1.0 / loss_ratio(tables, where, end, sign)


def loss_higher(tables: Tables, where: Where, end: int, sign: float) -> float:
    return 1.0 / loss_ratio(tables, where, (0, 2, 1)[end], sign) - 1.0


def points(tables: Tables, where: Where, end: int, sign: float) -> float:
    ends = [min(1.0, max(-1.0, sign * trained_difference(tables, where, i))) for i in range(3)]
    return [ends[0], min(ends[1:]), max(ends[1:])][end]


def success_points(tables: Tables, where: Where, end: int, sign: float) -> float:
    """How much more often runs succeed with one value of an axis than with another, in pairs of one seed."""
    runs = outcomes(tables, {k: v for k, v in where.items() if k not in ("axis", "a", "b")})
    runs = runs[runs["success"].notna()]
    found = student(paired(tables, where, runs.assign(v=runs["success"].astype(float)), "v"))
    ends = [min(1.0, max(-1.0, sign * each)) for each in found]
    return [ends[0], min(ends[1:]), max(ends[1:])][end]


def beyond(tables: Tables, where: Where) -> float:
    """Runs that came to their end with a loss more than ten times that of what knows nothing."""
    rows = outcomes(tables, where).to_dict("records")
    return float(
        sum(not (r["broken"] or r["accuracy"]) and r["held_out_loss"] > 10.0 * r["baseline_loss"] for r in rows)
    )


def broken(tables: Tables, where: Where) -> float:
    return float(outcomes(tables, where)["broken"].sum())


def wilson(tables: Tables, where: Where, upper: bool) -> float:
    """Wilson's interval of the share of broken runs, in which a seed counts once however many runs it has."""
    runs, z = outcomes(tables, where), 1.959963984540054
    n = runs["seed"].nunique()
    k = runs["broken"].mean() * n
    middle, half = (k + z * z / 2) / (n + z * z), z * math.sqrt(k * (n - k) / n + z * z / 4) / (n + z * z)
    return middle + half if upper else middle - half


def beside(tables: Tables, where: Where) -> list[pd.DataFrame]:
    """The runs of a part, setting by setting of the other axes."""
    runs = with_scale(tables, where)
    others = [name for name in varying(tables, runs, ["task"]) if name != where["axis"]]
    if None not in compared_values(runs, where["axis"]):
        runs = runs[runs[where["axis"]].notna()]
    return [group for _, group in runs.groupby([list(map(str, runs[name])) for name in others])]


def best_in(tables: Tables, where: Where) -> float:
    """In how many of them no mean is better than that of ``a``."""
    axis, count = where["axis"], 0
    for runs in beside(tables, where):
        sign = 1 if runs["accuracy"].all() else -1
        means = {
            v: sign * g.groupby("seed")["v"].mean().mean()
            for v, g in runs.groupby(["None" if pd.isna(value) else str(value) for value in runs[axis]])
        }
        best = max(means.values())
        count += abs(means.get(str(where["a"]), -math.inf) - best) <= 1e-12 * abs(best)
    return float(count)


def predicted_radii(tables: Tables, where: Where) -> list[float]:
    """Where theory turns, network by network: dynamic mean field where every network has it, or else the column."""
    rows = networks(tables, where)
    if rows["dynamic_rate"].notna().all():
        return turning_points(tables, where, "dynamic_rate")
    if rows["spectral_radius"].isna().all():  # what the column predicts is a spectral radius
        return turning_points(tables, where, "predicted_rate")
    return rows.groupby("seed")["critical_radius_predicted"].median().dropna().tolist()  # a seed may have several cells


# ---- verdicts: every comparison of the study, and the sign-flip test by brute force


def deviation_of(tables: Tables, where: Where, end: int) -> float:
    rows = grown(tables, where)
    rows = rows[np.isfinite(rows["deviation"].astype(float))]
    return student(rows.groupby("seed")["deviation"].mean().to_numpy())[end]


def with_both_theories(tables: Tables, where: Where) -> list[dict[str, Any]]:
    """Gated networks whose dynamic mean field and law at rest are both known."""
    return [
        row for row in grown(tables, where).to_dict("records")
        if pd.isna(row["linear_rate"]) and all(math.isfinite(float(row[name] if row[name] is not None else math.nan)) for name in ("growth_rate", "dynamic_rate", "rest_rate"))
    ]  # fmt: skip


def missed_by(column: str) -> Callable[[Tables, Where, int], float]:
    def missed(tables: Tables, where: Where, end: int) -> float:
        by_seed: dict[int, list[float]] = {}
        for row in with_both_theories(tables, where):
            by_seed.setdefault(row["seed"], []).append(abs(row["growth_rate"] - row[column]))
        return student(np.array([np.mean(misses) for misses in by_seed.values()]))[end]

    return missed


def settings_of(tables: Tables, where: Where) -> float:
    """How many single settings two values of an axis are compared at."""
    runs = outcomes(tables, {k: v for k, v in where.items() if k not in ("axis", "a", "b")})
    others = [
        name for name in columns_of_settings(tables)
        if name not in ("seed", "trace_every", where["axis"], "task") and runs[name].nunique(dropna=False) > 1
    ]  # fmt: skip
    kept: list[str] = []
    for name in others:
        if not kept or not follows(runs, name, kept):
            kept.append(name)
    groups = [group for _, group in runs.groupby(where["axis"], dropna=False)]
    kept = [name for name in kept if set.intersection(*(set(map(str, group[name])) for group in groups))]
    has = []
    for value in (where["a"], where["b"]):
        rows = runs[runs[where["axis"]].isna()] if value is None else runs[runs[where["axis"]] == value]
        has.append({tuple(map(str, key)) for key in rows[kept].itertuples(index=False)})
    return float(len(has[0] & has[1]))


@remembered
def family(tables: Tables) -> list[tuple[Where, np.ndarray]]:
    """Every test of the study: its label, and one difference a seed (nan for seeds that it does not have)."""
    runs = one_each(tables)
    seeds = sorted(set(runs["seed"]))
    found: list[tuple[Where, np.ndarray]] = []

    def add(label: Where, rows: pd.DataFrame, column: str) -> None:
        own = paired_by_seed(tables, label, rows, column)
        if own:
            largest = max((abs(v) for v in own.values() if math.isfinite(v)), default=0.0)
            most = 10 * largest if largest > 0 else 1.0
            found.append((label, np.array([min(max(own[s], -most), most) if s in own else math.nan for s in seeds])))

    deviations, tested = [], set()
    for sweep in dict.fromkeys(runs["sweep"]):
        rows = grown(tables, {"sweep": sweep}).dropna(subset=["growth_rate"])
        everything = beginnings(tables, {"sweep": sweep})
        same = frozenset(map(str, everything[columns_of_settings(tables)].itertuples(index=False, name=None)))
        if len(everything) and same not in tested:  # the networks that two sweeps train in two ways are tested once
            tested.add(same)
            axes = varying(tables, everything, [*HOW_TRAINED])
            column = start_column(everything, axes)
            compared = [axis for axis in axes if axis not in ("spectral_radius", "weight_scale", "sequence_length")]
            own = narrow(tables, rows, *axes, "growth_rate")
            for axis in compared:
                kinds = [other for other in compared if other != axis]
                for b, a in compared_pairs(compared_values(rows, axis)):
                    label = {"sweep": sweep, "axis": axis, "a": a, "b": b, "measure": "growth_rate"}
                    add(label, own, "growth_rate")
                    for _, group in own.groupby(kinds, dropna=False) if kinds else []:
                        add({**label, "single": True}, group, "growth_rate")
            kinds = [axis for axis in axes if axis not in (column, "sequence_length")]
            known = grown(tables, {"sweep": sweep})
            known = known[np.isfinite(known["deviation"].astype(float)) & (known["predicted_by"] != "linear law")]
            for _, group in known.groupby(kinds, dropna=False) if kinds else [((), known)] if len(known) else []:
                means = group.groupby("seed")["deviation"].mean()
                deviations.append(
                    ({"sweep": sweep, "measure": "deviation"}, np.array([means.get(s, math.nan) for s in seeds]))
                )
    for sweep in dict.fromkeys(runs["sweep"]):
        trained = outcomes(tables, {"sweep": sweep})
        several = trained["task"].nunique() > 1
        for task in sorted(set(trained["task"])):
            label = {"sweep": sweep, **({"task": task} if several else {})}
            rows = outcomes(tables, {"sweep": sweep, "task": task})
            rows = rows.assign(v=scale(rows), broke=rows["broken"].astype(float))
            measured = [("v", rows)]
            if rows["success"].notna().any():
                judged = rows[rows["success"].notna()]
                measured.append(("succeeds", judged.assign(succeeds=judged["success"].astype(float))))
            if rows["broken"].any():
                measured.append(("broke", rows))
            axes = varying(tables, rows, ["task"])
            asked = next((a for a in [*ASKED, *axes] if a in axes), None)
            measured = [(column, narrow(tables, own, *axes, column)) for column, own in measured]
            for axis in axes:
                every = compared_pairs(compared_values(rows, axis))
                kinds = [a for a in axes if a != axis]
                for column, own in measured:
                    if column == "v" and second_opinion_training.is_another_task(rows, axis):
                        continue
                    for b, a in every:
                        add({**label, "axis": axis, "a": a, "b": b, "measure": column}, own, column)
                    if kinds and (axis == asked or len(compared_values(rows, axis)) == 2):
                        reference = {"clipping": "none", "truncation": None}
                        known = values_of(own, axis)
                        single = [p for p in every if reference.get(axis, "") not in known or reference[axis] in p]
                        every_one = list(own.groupby(kinds, dropna=False))
                        for key, group in every_one if len(every_one) <= 32 else []:
                            chosen = {k: None if pd.isna(v) else v for k, v in zip(kinds, key, strict=True)}
                            for b, a in single:
                                add(
                                    {
                                        **label,
                                        **chosen,
                                        "axis": axis,
                                        "a": a,
                                        "b": b,
                                        "measure": column,
                                        "single": True,
                                    },
                                    group,
                                    column,
                                )
    return found + deviations


ASKED = [
    "clipping",
    "omega",
    "flossing",
    "chrono",
    "forget_bias",
    "truncation",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "cell",
    "initializer",
    "activation",
]
CELL_ORDER = [
    "vanilla",
    "residual",
    "gru",
    "gru_reset_before",
    "lstm",
    "indrnn",
    "antisymmetric",
    "lru",
    "slstm",
    "layer_norm",
    "mingru",
]


def values_of(rows: pd.DataFrame, axis: str) -> list[Any]:
    """The values of an axis in the page's order: none first, cells from the simplest, thresholds from the largest, else sorted."""
    values = [None if pd.isna(v) else v for v in rows[axis].unique()]
    if axis == "clipping":
        return sorted(values, key=lambda v: (v != "none", -float(v.partition(":")[2] or 0)))
    if axis == "cell":
        return sorted(values, key=CELL_ORDER.index)
    return sorted(values, key=lambda v: (v is not None, v or 0) if not isinstance(v, str) else (True, v))


OF_CELLS = [
    "residual_step",
    "residual_leak",
    "antisymmetric_step",
    "antisymmetric_diffusion",
    "layer_norm_step",
    "layer_norm_leak",
    "forget_bias",
    "chrono",
]


def compared_values(rows: pd.DataFrame, axis: str) -> list[Any]:
    """The values that are compared: not an unset one that only other cells have, or networks with another setting in its place."""
    values = values_of(rows, axis)
    stands_for = {"forget_bias": "chrono", "spectral_radius": "weight_scale"}
    if None not in values or axis not in [*OF_CELLS, *stands_for]:
        return values
    with_value = {row["cell"] for row in rows.to_dict("records") if not pd.isna(row[axis])}
    for row in rows.to_dict("records"):
        instead = axis in stands_for and not pd.isna(row[stands_for[axis]])
        if pd.isna(row[axis]) and not instead and row["cell"] in with_value:
            return values
    return [value for value in values if value is not None]


def compared_pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    """All of up to eight values; of more, those that stand side by side, and the two ends."""
    if len(values) > 8:
        return [*itertools.pairwise(values), (values[0], values[-1])]
    return list(itertools.combinations(values, 2))


def varying(tables: Tables, rows: pd.DataFrame, without: list[str]) -> list[str]:
    kept: list[str] = []
    names = columns_of_settings(tables)
    for of, instead in (
        ("forget_bias", "chrono"),
        ("spectral_radius", "weight_scale"),
    ):  # what stands for another tells first
        names.remove(instead)
        names.insert(names.index(of), instead)
    for name in names:
        if name in ("seed", "trace_every", *without) or rows[name].nunique(dropna=False) < 2:
            continue
        if not kept or not follows(rows, name, kept):
            kept.append(name)
    return kept


def bias_at(t: Tables, where: Where, which: Callable[[pd.DataFrame], Any]) -> float:
    """The median over truncated runs of how far their gradients are from the full ones, at one of their updates."""
    runs = pick(one_each(t).drop_duplicates("run_key"), where)[["run_key", "updates"]]
    own = runs.merge(t["updates"].drop_duplicates(["run_key", "update"]), on="run_key")
    return float(np.nanmedian(own.loc[which(own), "truncation_bias"].astype(float)))


def start_column(rows: pd.DataFrame, axes: list[str]) -> str | None:
    numbers = second_opinion_start.NUMBERS
    here = [name for name in numbers if name in axes and rows[name].notna().all()]
    for name in ("spectral_radius", "weight_scale"):
        if name in here:
            return name
    return max(here, key=lambda name: rows[name].nunique()) if here else None


def clearly(tables: Tables, where: Where, better: bool) -> float:
    """In how many single settings ``a`` is clearly better, or worse, than ``b``: all tests of the study judged together."""
    tests = family(tables)
    p = sign_flips(np.stack([differences for _, differences in tests], axis=1))
    count = 0
    for (label, differences), each in zip(tests, p, strict=True):
        if not label.get("single") or label["measure"] != "v" or any(label.get(k) != v for k, v in where.items()):
            continue
        enough = np.isfinite(differences).sum() >= 6
        more = np.nansum(differences) > 0
        rows = outcomes(tables, {k: v for k, v in where.items() if k not in ("axis", "a", "b")})
        good = more == bool(rows["accuracy"].all())
        count += int(enough and each <= 0.05 and good == better)
    return float(count)


def sign_flips(differences: np.ndarray) -> np.ndarray:
    """By brute force: how often any comparison is as extreme as each under all patterns of signs, (seeds, comparisons)."""
    length = np.sqrt(np.nansum(differences**2, axis=0))
    unit = np.nan_to_num(differences) / np.where(length > 0, length, 1)
    seen = np.abs(unit.sum(axis=0))
    count, total = np.zeros(unit.shape[1]), 0
    for signs in itertools.product((1, -1), repeat=len(unit)):
        count += (np.abs(np.array(signs) @ unit).max() >= seen - 1e-9).astype(float)
        total += 1
    return np.where(length > 0, count / total, 1.0)


def with_scale(tables: Tables, where: Where) -> pd.DataFrame:
    runs = outcomes(tables, {k: v for k, v in where.items() if k not in ("axis", "a", "b")})
    return runs.assign(v=scale(runs))


# ---- all kinds


WEIGHTS = second_opinion_weights.kinds(grown)


def weight_settings(tables: Tables, where: Where) -> list[tuple[float, int]]:
    names = [n for n in columns_of_settings(tables) if n not in [*HOW_TRAINED, "seed"]]
    settings = WEIGHTS["settings"](tables, {"sweep": where["sweep"]}, names)
    return [s for s in settings if "steps" not in where or s[0] / s[1] == where["steps"] / where["length"]]


def _of_weights(name: str, kind: str) -> dict[str, Kind]:
    """A median over networks with the ends of its interval."""
    return {
        name: lambda t, w: median_of(WEIGHTS[kind](t, w)),
        f"{name}_low": lambda t, w: median_end(WEIGHTS[kind](t, w), upper=False),
        f"{name}_high": lambda t, w: median_end(WEIGHTS[kind](t, w), upper=True),
    }


def _three(name: str, function: Callable[[Tables, Where, int], float]) -> dict[str, Kind]:
    """A number and the ends of its interval."""
    ends = {name: 0, f"{name}_low": 1, f"{name}_high": 2}
    return {kind: (lambda t, w, end=end: function(t, w, end)) for kind, end in ends.items()}


def _setting(tables: Tables, where: Where) -> float:
    """A setting's value is right if it is one of the study's; which one the text says."""
    return math.nan


KINDS: dict[str, Kind] = {
    **second_opinion_start.KINDS,
    **second_opinion_training.KINDS,
    **second_opinion_spectra.KINDS,
    **second_opinion_success.KINDS,
    **second_opinion_cliff.KINDS,
    **second_opinion_memory.KINDS,
    **second_opinion_depth.KINDS,
    **_of_weights("weight_steps", "steps"),
    **_of_weights("weight_against", "against"),
    "weight_networks": lambda t, w: WEIGHTS["networks"](t, w),
    "weight_settings": lambda t, w: float(len(weight_settings(t, w))),
    "weight_settings_alike": lambda t, w: float(len(weight_settings(t, w))),
    "regime_count": counted_regime,
    "task_steps": lambda t, w: float(networks(t, w)["task_steps"].max()),
    "starts": lambda t, w: float(len(networks(t, w))),
    "starts_at_longest": lambda t, w: float(len(networks(t, w))),
    "networks": lambda t, w: float(all_networks(t, w)),
    "turning": lambda t, w: float(sum(math.isfinite(x) for x in turning_points(t, w))),
    "never_turning": lambda t, w: float(all_networks(t, w) - sum(math.isfinite(x) for x in turning_points(t, w))),
    "critical_radius": lambda t, w: median_of(turning_points(t, w)),
    "critical_radius_low": lambda t, w: median_end(turning_points(t, w), upper=False),
    "critical_radius_high": lambda t, w: median_end(turning_points(t, w), upper=True),
    "predicted_radius": lambda t, w: median_of(predicted_radii(t, w)),
    "median_decades": lambda t, w: median_of(networks(t, w)["log10_gradient_ratio"].dropna().tolist()),
    **_three("growth_difference", growth_difference),
    **_three("decades_difference", decades_difference),
    "largest_difference": largest_difference,
    **_three("loss_lower", lambda t, w, end: loss_lower(t, w, end, 1.0)),
    **_three("loss_lower_back", lambda t, w, end: loss_lower(t, w, end, -1.0)),
    **_three("loss_higher", lambda t, w, end: loss_higher(t, w, end, 1.0)),
    **_three("loss_higher_back", lambda t, w, end: loss_higher(t, w, end, -1.0)),
    "with_dead_samples": lambda t, w: float(
        sum(0 < dead < 1 and abs(rate) < math.inf for dead, rate in every_network(t)[["dead_samples", "growth_rate"]].astype(float).to_numpy())
    ),
    "never_settled": lambda t, w: float(len(unsettled(t))),
    "theory_unsettled": lambda t, w: float(len(sampled_in_vain(t))),
    "zero_pairs": count_zero_pairs,
    "growth_settings": lambda t, w: float(len(growth_by_setting(t, w))),
    "growth_reversed": lambda t, w: float(sum(each < -1e-12 for each in growth_by_setting(t, w))),
    "median_deviation": lambda t, w: float(np.median(networks(t, w)["deviation"].dropna().abs()[np.isfinite])),
    "predicted": lambda t, w: float(np.isfinite(networks(t, w)["deviation"].astype(float)).sum()),
    **_three("mean_deviation", deviation_of),
    "deviation_seeds": lambda t, w: float(grown(t, w).loc[lambda r: np.isfinite(r["deviation"].astype(float)), "seed"].nunique()),
    **_three("dynamic_rate_miss", missed_by("dynamic_rate")),
    **_three("rest_rate_miss", missed_by("rest_rate")),
    "networks_of_theories": lambda t, w: float(len(with_both_theories(t, w))),
    "starts_of_one_step": lambda t, w: float(
        one_each(t)[lambda r: r["task_steps"] == 1][[n for n in columns_of_settings(t) if n not in HOW_TRAINED]].drop_duplicates().shape[0]
    ),
    "starts_with_gradient": lambda t, w: float(len(going_back(t))),
    "starts_without_gradient": lambda t, w: float(len(distinct(t)) - len(going_back(t))),
    "format_lost": lambda t, w: float(going_back(t)[f"{w['format']}_flushed_at"].notna().sum()),
    "format_overflowed": lambda t, w: float(going_back(t)[f"{w['format']}_overflowed_at"].notna().sum()),
    "truncation_bias": lambda t, w: bias_at(t, w, lambda own: own["update"] == 0),
    "truncation_bias_last": lambda t, w: bias_at(t, w, lambda own: own["update"] == own["updates"] - 1),
    **_three("outcome", result),
    "baseline": lambda t, w: float(
        np.mean([r["baseline_accuracy"] if r["accuracy"] else r["baseline_loss"] for r in outcomes(t, w).to_dict("records")])
    ),
    "trained_runs": lambda t, w: float(len(outcomes(t, w))),
    "broken": broken,
    "beyond": beyond,
    "broken_share_low": lambda t, w: max(0.0, wilson(t, w, upper=False)),
    "broken_share_high": lambda t, w: min(1.0, wilson(t, w, upper=True)),
    "best_in": best_in,
    "settings_beside": lambda t, w: float(len(beside(t, w))),
    **_three("accuracy_difference", lambda t, w, end: points(t, w, end, 1.0)),
    **_three("accuracy_difference_back", lambda t, w, end: points(t, w, end, -1.0)),
    **_three("success_difference", lambda t, w, end: success_points(t, w, end, 1.0)),
    **_three("success_difference_back", lambda t, w, end: success_points(t, w, end, -1.0)),
    **_three("loss_ratio", lambda t, w, end: loss_ratio(t, w, end, 1.0)),
    **_three("loss_ratio_back", lambda t, w, end: loss_ratio(t, w, end, -1.0)),
    "single_settings": settings_of,
    "clearly_better": lambda t, w: clearly(t, w, better=True),
    "clearly_worse": lambda t, w: clearly(t, w, better=False),
    "tests": lambda t, w: float(len(family(t))),
    "seeds_of_growth": lambda t, w: float(len(paired(t, w, grown(t, place(w)).dropna(subset=["growth_rate"]), "growth_rate"))),
    "seeds_of_results": lambda t, w: float(len(paired(t, w, with_scale(t, w), "v"))),
    "settings_of_results": settings_of,
    "settings_trained": lambda t, w: float(len(with_scale(t, w)[varying(t, with_scale(t, w), ["task"])].drop_duplicates())),
    "seeds_trained": lambda t, w: float(outcomes(t, w)["seed"].nunique()),
    "worst_check": lambda t, w: float(np.nanmax(pick(t["checks"], w)["relative_error"].astype(float))),
    "setting": _setting,
}  # fmt: skip


def going_back(tables: Tables) -> pd.DataFrame:
    """Distinct starts of which the gradient is known to vanish, stay or explode: those of all others are no numbers."""
    return distinct(tables).dropna(subset=["regime"])


def distinct(tables: Tables) -> pd.DataFrame:
    runs = one_each(tables)
    return runs[runs["task_steps"] > 1].drop_duplicates(
        [n for n in columns_of_settings(tables) if n not in HOW_TRAINED]
    )
