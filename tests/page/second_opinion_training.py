"""Numbers of the figures of training once more, from the Parquet tables alone, in plain NumPy and pandas.

Nothing here is imported from the workflow: a number on the page and its second opinion share the tables, not the code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

Tables = dict[str, pd.DataFrame]
Where = dict[str, Any]
DOUBLE = math.log10(2.0)
LAST = 10


def chosen(runs: pd.DataFrame, where: Where) -> pd.DataFrame:
    """Trained runs with these settings; a list is any of its values, None is not set."""
    runs = runs[runs["updates"] > 0]
    for name, value in where.items():
        if value is None:
            runs = runs[runs[name].isna()]
        elif isinstance(value, list):
            runs = runs[runs[name].isin(value)]
        else:
            runs = runs[runs[name] == value]
    return runs


def once(runs: pd.DataFrame) -> pd.DataFrame:
    """Every run once, whatever sweeps share it."""
    return runs.drop_duplicates("run_key")


def broke(runs: pd.DataFrame) -> pd.Series:
    own = runs["held_out_accuracy"].where(runs["baseline_accuracy"].notna(), runs["held_out_loss"]).astype(float)
    return runs["first_nonfinite_update"].notna() | ~np.isfinite(own)


def updates_of(tables: Tables, runs: pd.DataFrame) -> pd.DataFrame:
    updates = tables["updates"]
    return updates[updates["run_key"].isin(set(runs["run_key"]))].drop_duplicates(["run_key", "update"])


# ---- learning curves


def runs_below_baseline(tables: Tables, where: Where) -> float:
    runs = once(chosen(tables["runs"], where))
    updates = tables["updates"]
    count = 0
    for _, run in runs[~broke(runs)].iterrows():
        end = run["updates"] if pd.isna(run["updates_to_success"]) else run["updates_to_success"]
        own = updates[(updates["run_key"] == run["run_key"]) & (updates["update"] >= end - LAST)]
        own = own[own["update"] != 0].drop_duplicates("update")
        count += bool(len(own) and np.median(own["loss"]) < run["baseline_loss"])
    return float(count)


def runs_with_end(tables: Tables, where: Where) -> float:
    """Runs that broke down, or of which a batch after the first update has a loss."""
    runs, updates = once(chosen(tables["runs"], where)), tables["updates"]
    later = set(updates.loc[updates["update"] > 0, "run_key"])
    return float((broke(runs) | runs["run_key"].isin(later)).sum())


def runs_below_at_first(tables: Tables, where: Where) -> float:
    """Runs whose first training batch already has a lower loss than the held-out prediction without memory."""
    runs = once(chosen(tables["runs"], where)).set_index("run_key")
    first = tables["updates"][tables["updates"]["update"] == 0].drop_duplicates("run_key").set_index("run_key")["loss"]
    return float(sum(first[key] < runs["baseline_loss"][key] for key in runs.index))


# ---- clipping


def under_rules(tables: Tables) -> pd.DataFrame:
    """Runs of the sweeps and tasks in which at least one run is clipped."""
    runs = chosen(tables["runs"], {})
    groups = [rows for _, rows in runs.groupby(["sweep", "task"]) if set(rows["clipping"]) != {"none"}]
    return once(pd.concat(groups))


def runs_by_rule(tables: Tables, where: Where) -> float:
    return float(len(chosen(under_rules(tables), where)))


def runs_broken_by_rule(tables: Tables, where: Where) -> float:
    return float(broke(chosen(under_rules(tables), where)).sum())


def clipped_share(tables: Tables, where: Where) -> float:
    rows = updates_of(tables, chosen(under_rules(tables), where))
    rows = rows[rows["finite"] & np.isfinite(rows["log10_norm_before"]) & np.isfinite(rows["log10_norm_after"])]
    if rows.empty:
        return 0.0
    return float(np.mean(rows["log10_norm_before"] - rows["log10_norm_after"] > 1e-9))


def _finite_norms(tables: Tables) -> pd.DataFrame:
    rows = updates_of(tables, under_rules(tables))
    return rows[np.isfinite(rows["log10_norm_before"])]


def highest_norm(tables: Tables, where: Where) -> float:
    return float(_finite_norms(tables)["log10_norm_before"].max())


def highest_norm_update(tables: Tables, where: Where) -> float:
    rows = _finite_norms(tables)
    return float(rows.loc[rows["log10_norm_before"] == rows["log10_norm_before"].max(), "update"].min())


# ---- traces


def first_steps(tables: Tables, where: Where) -> pd.DataFrame:
    """Of runs that came to their end and recorded more than the start: decades at the first step against the last one."""
    runs = once(chosen(tables["runs"], where))
    found = []
    for _, run in runs[~broke(runs)].iterrows():
        traces = tables["traces"][tables["traces"]["run_key"] == run["run_key"]]
        recorded = traces["update"].unique()
        if len(recorded) < 2:
            continue
        ends = []
        for update in (recorded.min(), recorded.max()):
            own = traces[traces["update"] == update]
            norm = [float(own.loc[own["t"] == t, "log10_grad_norm"].iloc[0]) for t in (1, own["t"].max())]
            ends.append(norm[0] - norm[1] if math.isfinite(norm[1]) else math.nan)
        found.append((run["run_key"], *ends))
    return pd.DataFrame(found, columns=["run_key", "first", "final"])


def change(tables: Tables, where: Where) -> np.ndarray:
    both = first_steps(tables, where).dropna()
    return np.array([0.0 if a == b else b - a for a, b in zip(both["first"], both["final"], strict=True)])


def middle(values: pd.Series) -> float:
    return float(np.median(values.to_numpy()))


# ---- remedies


def remedy_values(tables: Tables, where: Where) -> np.ndarray:
    """What the seeds of one way of training have by one quality; of a run that broke down, the accuracy of no memory or ten times its loss."""
    settings = {name: value for name, value in where.items() if name != "quality"}
    quality, of_task = where["quality"], set(runs_of_one_task(tables)["run_key"])
    runs = once(chosen(tables["runs"], settings))
    runs = runs[runs["run_key"].isin(of_task)]
    if quality == "update_milliseconds":
        seconds = tables["timings"].drop_duplicates("run_key").set_index("run_key")["seconds"]
        study = tables["runs"][tables["runs"]["run_key"].isin(of_task)]
        if study["first_nonfinite_update"].isna().any():
            runs = runs[runs["first_nonfinite_update"].isna()]
        made = runs["updates_to_success"].fillna(runs["first_nonfinite_update"].fillna(runs["updates"] - 1) + 1)
        return (1000.0 * seconds[runs["run_key"]].to_numpy() / made.to_numpy()).astype(float)
    values = runs[quality].astype(float)
    if quality == "updates_to_success" and values.notna().any():
        values = values.fillna(math.inf)
    if quality == "held_out_accuracy":
        values = values.mask(broke(runs), runs["baseline_accuracy"].astype(float))
    if quality == "held_out_loss":
        worst = 10.0 * runs["baseline_loss"].astype(float)
        values = pd.Series(np.fmin(values.mask(broke(runs), worst), worst))
    return values.dropna().to_numpy()


def is_another_task(rows: pd.DataFrame, axis: str) -> bool:
    """Whether two values of a task's own setting have baselines that differ by more than a hundredth, and by more than seeds do."""
    if axis not in ("sequence_length", "loss_at", "input_size"):
        return False
    base = rows["baseline_accuracy"].fillna(rows["baseline_loss"]).astype(float)
    of_values = []
    for value in rows[axis].unique():
        own = rows[axis] == value
        of_values.append([float(base[own & (rows["seed"] == seed)].mean()) for seed in rows.loc[own, "seed"].unique()])
    return any(
        min(more) > max(less) and np.mean(less) < 0.99 * np.mean(more)
        for more, less in itertools.permutations(of_values, 2)
    )


def runs_of_one_task(tables: Tables) -> pd.DataFrame:
    """Those of the commonest task. Of lengths, places of the loss and input sizes with other baselines, the commonest; then the last one."""
    runs = once(tables["runs"][tables["runs"]["updates"] > 0])
    runs = runs[runs["task"] == runs["task"].value_counts().index[0]]
    for axis in ("sequence_length", "loss_at", "input_size"):
        if is_another_task(runs, axis):
            counts = runs[axis].value_counts()
            runs = runs[runs[axis] == max(counts[counts == counts.max()].index)]
    return runs


def remedy(which: int) -> Callable[[Tables, Where], float]:
    """The mean over seeds, or an end of its interval: of losses and times of their logarithms."""

    def number(tables: Tables, where: Where) -> float:
        values = remedy_values(tables, where)
        logs = where["quality"] in ("held_out_loss", "update_milliseconds", "updates_to_success")
        if np.isinf(values).any():  # a median, with the interval of order statistics
            ordered, n = np.sort(values), len(values)
            outside = max(0, int(scipy.stats.binom.ppf(0.025, n, 0.5)) - 1)
            low, high = ordered[(n - 1) // 2], ordered[n // 2]
            middle = high if np.isinf(high) else (low + high) / 2
            return float((ordered[outside], middle, ordered[n - 1 - outside])[which + 1])
        values = np.log10(values) if logs else values
        half = 0.0
        if which:
            half = float(scipy.stats.t.ppf(0.975, len(values) - 1)) * values.std(ddof=1) / math.sqrt(len(values))
        end = float(values.mean() + which * half)
        end = min(max(end, 0.0), 1.0) if which and where["quality"] == "held_out_accuracy" else end
        return 10.0**end if logs else end

    return number


def remedies(tables: Tables, where: Where) -> float:
    """How many ways of training the task with the most runs has."""
    return float(len(set(ways_of_training(tables))))


def ways_of_training(tables: Tables) -> pd.Series:
    """By run of that task, its way of training as one text."""
    runs = runs_of_one_task(tables).set_index("run_key", drop=False)
    names = list(runs.columns)
    settings = names[names.index("run_key") + 1 : names.index("task_input_size")]
    ways = [name for name in settings if name not in ("seed", "trace_every")]
    return pd.Series([repr(way) for way in runs[ways].itertuples(index=False, name=None)], index=runs.index)


def remedies_without_result(tables: Tables, where: Where) -> float:
    """Ways of training of which every run broke down."""
    lost = broke(once(tables["runs"]).set_index("run_key", drop=False))
    by_way: dict[str, list[bool]] = {}
    for key, way in ways_of_training(tables).items():
        by_way.setdefault(way, []).append(bool(lost[key]))
    return float(sum(map(all, by_way.values())))


KINDS: dict[str, Callable[[Tables, Where], float]] = {
    "remedy_value": remedy(0),
    "remedy_low": remedy(-1),
    "remedy_high": remedy(1),
    "remedies": remedies,
    "remedies_without_result": remedies_without_result,
    "remedies_not_drawn": lambda tables, where: remedies(tables, where) - 16,
    "runs_below_baseline": runs_below_baseline,
    "runs_below_at_first": runs_below_at_first,
    "runs_with_end": runs_with_end,
    "runs_without_end": lambda tables, where: (
        len(once(tables["runs"][tables["runs"]["updates"] > 0])) - runs_with_end(tables, where)
    ),
    "runs_by_rule": runs_by_rule,
    "runs_broken_by_rule": runs_broken_by_rule,
    "clipped_share": clipped_share,
    "highest_norm": highest_norm,
    "highest_norm_update": highest_norm_update,
    "first_step_first": lambda tables, where: middle(first_steps(tables, where).dropna()["first"]),
    "first_step_final": lambda tables, where: middle(first_steps(tables, where).dropna()["final"]),
    "first_step_raised": lambda tables, where: float((change(tables, where) > DOUBLE).sum()),
    "first_step_lowered": lambda tables, where: float((change(tables, where) < -DOUBLE).sum()),
    "first_step_kept": lambda tables, where: float((np.abs(change(tables, where)) <= DOUBLE).sum()),
    "first_step_change": lambda tables, where: float(np.median(change(tables, where))),
    "first_step_zero_after": lambda tables, where: float((first_steps(tables, {})["final"] == -math.inf).sum()),
    "runs_without_last_step": lambda tables, where: float(
        first_steps(tables, {})[["first", "final"]].isna().any(axis=1).sum()
    ),
    "runs_traced_to_end": lambda tables, where: float(len(change(tables, where))),
    "runs_broken": lambda tables, where: float(broke(once(chosen(tables["runs"], {}))).sum()),
    "runs_trained": lambda tables, where: float(len(once(chosen(tables["runs"], {})))),
}
