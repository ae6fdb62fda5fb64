"""The numbers of the figures about networks before training, and of the checks, computed a second time from the tables alone.

Plain pandas and NumPy, and none of the workflow's modules. The engine only tells which settings there are. ``KINDS`` has a function for
every kind of number; it gets the tables by name and the rows that the number says it was computed from.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

import rnn_core as rc

Tables = dict[str, pd.DataFrame]
Where = dict[str, Any]

AXES = rc.experiment.axes()
START = [
    name for name, axis in AXES.items() if not axis.training and name != "seed"
]  # settings of a network before training
NUMERIC = [name for name in START if AXES[name].kind in ("number", "integer")]
SCALES, SIZES = ["spectral_radius", "weight_scale"], ["input_scale", "hidden_size", "batch_size", "sequence_length"]
NUMBERS = list(dict.fromkeys([*SCALES, *(name for name in NUMERIC if AXES[name].cells), *SIZES, *NUMERIC]))


def starts(runs: pd.DataFrame) -> pd.DataFrame:
    """Networks before training, each once: those that nothing trains, or else those that training begins with."""
    runs = runs[runs["task_steps"] > 1]
    untrained = runs[runs["updates"] == 0]
    return (untrained if len(untrained) else runs).drop_duplicates([*START, "seed"])


def by_sweep(runs: pd.DataFrame) -> list[pd.DataFrame]:
    """The networks of every sweep; a sweep that trains counts only where none does without."""
    any_untrained = (runs["updates"] == 0).any()
    sweeps = [own for _, own in runs.groupby("sweep") if (own["updates"] == 0).any() or not any_untrained]
    return [own for own in map(starts, sweeps) if len(own)]


def longest(networks: pd.DataFrame) -> pd.DataFrame:
    kind = [name for name in START if name != "sequence_length"]
    most = networks.groupby(kind, dropna=False)["sequence_length"].transform("max")
    return networks[networks["sequence_length"] == most]


def compared(runs: pd.DataFrame) -> pd.DataFrame:
    """The networks that growth is compared of: at the longest sequence, unless length is the number that varies most."""
    found = []
    for own in by_sweep(runs):
        found.append(own if kinds_axis(own) == "sequence_length" else longest(own))
    return pd.concat(found).drop_duplicates([*START, "seed"])


def pick(rows: pd.DataFrame, where: Where) -> pd.DataFrame:
    for name, value in where.items():
        rows = rows[rows[name].isna() if value is None else rows[name] == value]
    return rows


def count(rows: pd.Series) -> float:
    return float(rows.sum())


def finite(values: pd.Series) -> pd.Series:
    values = values.astype(float)
    return values[np.isfinite(values)]


# ---- gradients and growth


def from_last_step(tables: Tables, networks: pd.DataFrame) -> pd.DataFrame:
    """Without tasks of which another step than the last ever has a loss: its gradient has a part of its own there."""
    traces = tables["traces"][tables["traces"]["update"] == 0]
    elsewhere = traces[(traces["lag"] > 0) & (traces["log10_immediate_norm"].fillna(-math.inf) > -math.inf)]
    mixed = networks[networks["run_key"].isin(set(elsewhere["run_key"]))]["task"]
    return networks[(networks["task_loss_at"] != "every") & ~networks["task"].isin(set(mixed))]


def drawn_ratios(tables: Tables) -> pd.Series:
    return from_last_step(tables, starts(tables["runs"]))["log10_gradient_ratio"]


def linear_law_miss(tables: Tables, where: Where) -> float:
    networks = pd.concat([longest(own) for own in by_sweep(tables["runs"])]).drop_duplicates("run_key")
    networks = from_last_step(tables, pick(networks, where))
    networks = networks[np.isfinite(networks["log10_gradient_ratio"]) & networks["linear_rate"].notna()]
    law = networks["linear_rate"] * (networks["task_steps"] - 1) / math.log(10)
    return float((networks["log10_gradient_ratio"] - law).abs().median())


def rest_law_miss(tables: Tables, where: Where) -> float:
    networks = pd.concat([longest(own) for own in by_sweep(tables["runs"])]).drop_duplicates("run_key")
    networks = pick(networks, where)
    networks = networks[np.isfinite(networks["log10_gradient_ratio"]) & networks["linear_rate"].isna()]
    networks = networks[np.isfinite(networks["rest_rate"].astype(float))]
    law = networks["rest_rate"] * (networks["task_steps"] - 1) / math.log(10)
    return float((networks["log10_gradient_ratio"] - law).abs().median())


def mean_field_critical(tables: Tables, where: Where) -> pd.DataFrame:
    """Of the vanilla networks the radius at which mean field turns: by network its lowest, median and highest."""
    networks = pick(compared(tables["runs"]), where)
    networks = networks[networks["weight_scale"].isna()]  # along which no ρ can be found
    networks = networks[networks["mean_field_rate"].notna() & (networks["activation"] != "identity")]
    networks = networks[np.isfinite(networks["critical_radius_predicted"].astype(float))]
    return radii_by_network(networks)


def radii_by_network(networks: pd.DataFrame) -> pd.DataFrame:
    """By network, where theory turns: the lowest, the median and the highest; other inputs are those of another radius."""
    drawn = ["cell", "activation", "forget_bias", "initializer", "hidden_size", "layers", "bidirectional", "seed"]
    return networks.groupby(drawn, dropna=False)["critical_radius_predicted"].agg(["min", "median", "max"])


def copies(tables: Tables, where: Where) -> pd.DataFrame:
    """The networks of a sweep of which mean field says whether two copies meet; a linear network is not told of."""
    own = starts(pick(tables["runs"], where))
    own = own if kinds_axis(own) == "sequence_length" else longest(own)
    return own[own["correlation"].notna() & (own["activation"] != "identity")]


def kinds_axis(own: pd.DataFrame) -> str:
    """The number that the networks of a sweep are set out along."""
    numbers = [name for name in NUMBERS if own[name].notna().all() and own[name].nunique() > 1]
    scales = [name for name in ("spectral_radius", "weight_scale") if name in numbers]
    return scales[0] if scales else max(numbers, key=lambda n: own[n].nunique(), default="")


def rest_critical(tables: Tables, where: Where) -> pd.DataFrame:
    """Of the gated networks the radius at which the law at rest turns: by network its lowest, median and highest."""
    networks = pick(compared(tables["runs"]), where)
    networks = networks[networks["weight_scale"].isna()]
    networks = networks[networks["linear_rate"].isna() & networks["rest_rate"].notna()]
    networks = networks[np.isfinite(networks["critical_radius_predicted"].astype(float))]
    return radii_by_network(networks)


def mean_growth(tables: Tables, where: Where) -> float:
    sweep = {"sweep": where["sweep"]}
    own = starts(pick(tables["runs"], sweep))
    settings = {name: value for name, value in where.items() if name != "sweep"}
    return float(finite(pick(own if "sequence_length" in where else longest(own), settings)["growth_rate"]).mean())


def bounded(networks: pd.DataFrame) -> pd.DataFrame:
    return networks[networks["bound_rate"].notna() & networks["growth_rate"].notna()]


def unsettled(tables: Tables) -> float:
    """Networks whose window begins as late as it may: halfway to its end. A linear network's slopes know no size."""
    networks = compared(tables["runs"])
    late = networks["settled_from"] > (networks["settled_to"] - 1) // 2
    return count(late & ~linear(networks))


def linear(networks: pd.DataFrame) -> pd.Series:
    """Networks with the identity, in a cell of which there is a linear law."""
    return (networks["activation"] == "identity") & networks["linear_rate"].notna()


def above_bound(tables: Tables, where: Where) -> float:
    networks = bounded(compared(tables["runs"]))
    return count(networks["growth_rate"] - networks["bound_rate"] > 1e-9)


# ---- settings and their networks


def settings(tables: Tables, where: Where) -> list[pd.DataFrame]:
    own = pick(once_by_construction(starts(tables["runs"])), where)
    return [rows for _, rows in own.groupby(START, dropna=False)]


def once_by_construction(own: pd.DataFrame) -> pd.DataFrame:
    """Networks whose rates can only be the same, once: whatever steps have a loss beside the last, and whether a single layer has a reverse cell."""
    every, single = own, own[own["layers"] == 1]
    for axis, concerned in (("loss_at", every), ("bidirectional", single)):
        rest = [name for name in [*START, "seed"] if name != axis]
        rates = [sorted(rate.dropna()) or [0.0] for _, rate in concerned.groupby(rest, dropna=False)["growth_rate"]]
        several = concerned[axis].nunique(dropna=False) > 1 and concerned.duplicated(rest).any()
        if several and all(rate[0] == rate[-1] or rate[-1] - rate[0] < 1e-9 for rate in rates):
            ordered = own.sort_values(axis, ascending=axis == "bidirectional", kind="stable")
            doubled = ordered.duplicated(rest) & (ordered["layers"].eq(1) | (axis == "loss_at"))
            own = ordered[~doubled].sort_index()
    return own


def maps(tables: Tables) -> list[tuple[str, pd.DataFrame]]:
    """Of every number that sweeps are set out along beside T: the networks of which two values and two lengths stand in one map."""
    by_number: dict[str, list[pd.DataFrame]] = {}
    for own in by_sweep(tables["runs"]):
        numbers = [n for n in NUMBERS if n != "sequence_length" and own[n].notna().all() and own[n].nunique() > 1]
        scales = [name for name in SCALES if name in numbers]
        if numbers:
            axis = scales[0] if scales else max(numbers, key=lambda n: own[n].nunique())
            by_number.setdefault(axis, []).append(own)
    found = []
    for axis, every in by_number.items():
        rows = starts(pd.concat(every).drop_duplicates("run_key"))
        others = [name for name in START if name not in (axis, "sequence_length")]
        panels = [
            own
            for _, own in rows.groupby(others, dropna=False)
            if own[axis].nunique() > 1 and own["sequence_length"].nunique() > 1
        ]
        if panels and pd.concat(panels)["log10_gradient_ratio"].notna().any():
            found.append((axis, pd.concat(panels)))
    return found


def map_settings(tables: Tables) -> list[pd.DataFrame]:
    return [rows for _, own in maps(tables) for _, rows in own.groupby(START, dropna=False)]


def with_both(tables: Tables, where: Where, length: int) -> list[pd.DataFrame]:
    """The networks of the maps at one length of settings whose shortest and longest sequence are the two given."""
    kind = [name for name in START if name != "sequence_length"]
    found = []
    for rows in (rows for _, own in maps(tables) for _, rows in own.groupby(kind, dropna=False)):
        T = rows["sequence_length"]
        if (T.min(), T.max()) == (where["first"], where["last"]):
            found.append(rows[length == T])
    return found


def regimes(rows: pd.DataFrame) -> set[str]:
    return set(rows["regime"].fillna("not a number"))


def ends_early(tables: Tables, rows: pd.DataFrame) -> bool:
    """Whether a network on the same file at this length was measured on sequences that are all shorter: its last settled step says so."""
    T = int(rows["task_steps"].iloc[0])
    same = starts(tables["runs"])
    same = same[(same["task_steps"] == T) & same["data"].isin(rows["data"].dropna())]
    return bool((same["settled_to"] < max(T - 11, T - (T - 1) // 2)).any())


def foretold(tables: Tables) -> list[bool]:
    """Of every setting of the maps that theory speaks of, whether the median network does what it says."""
    found = []
    for rows in map_settings(tables):
        if ends_early(tables, rows):
            continue
        decades = rows["predicted_rate"].astype(float) * (rows["task_steps"] - 1) * math.log10(math.e)
        measured = rows["log10_gradient_ratio"].dropna()
        if decades.notna().all() and len(measured):
            kinds = [0 if abs(x) <= 2 else math.copysign(1, x) for x in (measured.median(), decades.median())]
            found.append(kinds[0] == kinds[1])
    return found


def spread(tables: Tables, where: Where) -> float:
    rates = [finite(rows["growth_rate"]) for rows in settings(tables, where)]
    return float(np.median([np.std(rate, ddof=1) for rate in rates if len(rate) > 1]))


def spread_decades(tables: Tables, where: Where) -> float:
    decades = [
        float(np.std(rate, ddof=1)) * (rows["task_steps"].max() - 1) * math.log10(math.e)
        for rows in settings(tables, where)
        if len(rate := finite(rows["growth_rate"])) > 1
    ]
    return float(np.median(decades))


def kinds_spread(tables: Tables) -> dict[tuple[Any, ...], dict[int, float]]:
    """By kind of network (all settings but ρ and T) that has both ends: the typical standard deviation at every length."""
    own = once_by_construction(starts(tables["runs"]))
    scale = "weight_scale" if own["spectral_radius"].isna().all() else "spectral_radius"
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    for key, rows in own.groupby([n for n in START if n not in (scale, "sequence_length")], dropna=False):
        for T, here in rows.groupby("sequence_length"):
            rates = [finite(group["growth_rate"]) for _, group in here.groupby(scale, dropna=False)]
            known = [float(np.std(rate, ddof=1)) for rate in rates if len(rate) > 1]
            if known:
                found.setdefault(tuple(map(str, key)), {})[int(T)] = float(np.median(known))
    lengths = [T for kind in found.values() for T in kind]
    return {key: kind for key, kind in found.items() if {min(lengths), max(lengths)} <= set(kind)}


def without_finite_rate(tables: Tables, where: Where) -> float:
    own = once_by_construction(starts(tables["runs"]))
    return float(len(own) - len(finite(own["growth_rate"])))


def spread_factor(tables: Tables, where: Where) -> float:
    kind = {name: value for name, value in where.items() if name not in ("first", "last")}
    ends = [spread(tables, {"sequence_length": where[end], **kind}) for end in ("first", "last")]
    return ends[0] / ends[1]


def kinds_halving(tables: Tables, where: Where) -> float:
    found = kinds_spread(tables)
    first, last = (end(T for kind in found.values() for T in kind) for end in (min, max))
    return float(sum(kind[last] < kind[first] / 2 for kind in found.values()))


def with_entries(tables: Tables) -> pd.DataFrame:
    """Networks at the longest sequence of their kind of which the sizes of entries are recorded."""
    traces = tables["traces"]
    recorded = traces[(traces["update"] == 0) & (traces["lag"] == 0) & traces["log2_entry_max"].notna()]
    own = starts(tables["runs"])
    return longest(own[own["run_key"].isin(set(recorded["run_key"]))])


# ---- checks


def nearest_step(tables: Tables, where: Where) -> float:
    return _nearest_place(tables, "t = ")


def nearest_layer(tables: Tables, where: Where) -> float:
    return _nearest_place(tables, "layer ")


def _nearest_place(tables: Tables, before: str) -> float:
    """The number that is written after these words."""
    written = str(tables["checks"].loc[shares(tables).idxmax(), "where"]).split(", ")
    return float(next(part.removeprefix(before) for part in written[1:] if part.startswith(before)))


def shares(tables: Tables) -> pd.Series:
    checks = tables["checks"]
    return (checks["relative_error"] / checks["tolerance"]).dropna()


def not_made(tables: Tables) -> float:
    checks = tables["checks"]
    return count(checks["relative_error"].isna()) - count(
        checks["where"].isin(["not finite, on both sides", "not finite"])
    )


def without_error(tables: Tables, oracles: str) -> float:
    """How many checks by these oracles have an error of exactly zero."""
    checks = tables["checks"]
    return float(
        sum(
            bool(re.match(oracles, name)) and error == 0
            for name, error in zip(checks["oracle"], checks["relative_error"], strict=True)
        )
    )


def nearest_error(tables: Tables, where: Where) -> float:
    return float(tables["checks"].loc[shares(tables).idxmax(), "relative_error"])


KINDS: dict[str, Callable[[Tables, Where], float]] = {
    "linear_law_miss": linear_law_miss,
    "rest_law_miss": rest_law_miss,
    "mean_field_critical": lambda t, w: float(mean_field_critical(t, w)["median"].median()),
    "mean_field_critical_low": lambda t, w: float(mean_field_critical(t, w)["min"].min()),
    "mean_field_critical_high": lambda t, w: float(mean_field_critical(t, w)["max"].max()),
    "lowest_correlation": lambda t, w: float(copies(t, w)["correlation"].min()),
    "longest_depth_scale": lambda t, w: float(
        finite(copies(t, w).loc[copies(t, w)["correlation"] == 1.0, "depth_scale"]).max()
    ),
    "rest_critical": lambda t, w: float(rest_critical(t, w)["median"].median()),
    "rest_critical_low": lambda t, w: float(rest_critical(t, w)["min"].min()),
    "rest_critical_high": lambda t, w: float(rest_critical(t, w)["max"].max()),
    "exactly_zero_from_last_step": lambda t, w: count(drawn_ratios(t) == -math.inf),
    "without_ratio_from_last_step": lambda t, w: count(drawn_ratios(t).isna()),
    "starts_from_last_step": lambda t, w: float(len(drawn_ratios(t))),
    "mean_growth": mean_growth,
    "growth_percent": lambda t, w: abs(math.exp(mean_growth(t, w)) - 1.0),
    "growth_factor": lambda t, w: math.exp(mean_growth(t, w)),
    "networks_at_longest": lambda t, w: float(len(compared(t["runs"]))),
    "predicted_by": lambda t, w: float(len(pick(compared(t["runs"]), w))),
    "most_sampled": lambda t, w: 100.0,  # as docs/decisions.md has it
    "unpredicted": lambda t, w: float(sum(pd.isna(by) for by in compared(t["runs"])["predicted_by"])),
    "bistable": lambda t, w: float(sum(value is True or value == 1 for value in compared(t["runs"])["bistable"])),
    "settled_from": lambda t, w: float(pick(compared(t["runs"]), w)["settled_from"].median()),
    "settled_to": lambda t, w: float(pick(compared(t["runs"]), w)["settled_to"].median()),
    "networks_not_linear": lambda t, w: count(~linear(compared(t["runs"]))),
    "bounded": lambda t, w: float(len(bounded(compared(t["runs"])))),
    "above_bound": above_bound,
    "never_settled": lambda t, w: unsettled(t),
    "dead": lambda t, w: count(compared(t["runs"])["growth_rate"] == -math.inf),
    "without_rate": lambda t, w: count(compared(t["runs"])["growth_rate"].isna()),
    "without_finite_rate": without_finite_rate,
    "settings": lambda t, w: float(len(settings(t, w))),
    "map_settings": lambda t, w: float(len(map_settings(t))),
    "map_settings_split": lambda t, w: float(sum(len(regimes(rows)) > 1 for rows in map_settings(t))),
    "map_without_ratio": lambda t, w: float(sum(rows["log10_gradient_ratio"].isna().sum() for rows in map_settings(t))),
    "map_settings_stay": lambda t, w: float(
        sum(regimes(rows) == {"stable"} for rows in with_both(t, w, w["sequence_length"]))
    ),
    "map_settings_with_both": lambda t, w: float(len(with_both(t, w, w["first"]))),
    "map_settings_predicted": lambda t, w: float(len(foretold(t))),
    "map_settings_as_predicted": lambda t, w: float(sum(foretold(t))),
    "settings_split": lambda t, w: float(sum(len(regimes(rows)) > 1 for rows in settings(t, w))),
    "spread": spread,
    "spread_decades": spread_decades,
    "spread_factor": spread_factor,
    "kinds_spread": lambda t, w: float(len(kinds_spread(t))),
    "kinds_halving": kinds_halving,
    "checks": lambda t, w: float(len(t["checks"])) - not_made(t),
    "checks_left_out": lambda t, w: not_made(t),
    "checks_without_error": lambda t, w: count(t["checks"]["where"].isin(["not finite, on both sides", "not finite"])),
    "checks_exact": lambda t, w: without_error(t, r"torch|spectra: (singular values|eigenvalues)"),
    "checks_within_rounding": lambda t, w: without_error(t, "spectra: (determinant|forward frame)"),
    "checks_that_hold": lambda t, w: without_error(t, "spectra: bounds"),
    "checks_failed": lambda t, w: count(shares(t) > 1),
    "largest_error": lambda t, w: float(t["checks"]["relative_error"].max()),
    "nearest_error": nearest_error,
    "nearest_step": nearest_step,
    "networks_with_entries": lambda t, w: float(len(with_entries(t))),
    "entries_lost": lambda t, w: count(with_entries(t)[f"{w['format']}_flushed_at"].notna()),
    "entries_overflowed": lambda t, w: count(with_entries(t)[f"{w['format']}_overflowed_at"].notna()),
    "nearest_layer": nearest_layer,
    "tolerance_over_error": lambda t, w: 1.0 / float(shares(t).max()),
    "error_over_tolerance": lambda t, w: float(shares(t).max()),
}
