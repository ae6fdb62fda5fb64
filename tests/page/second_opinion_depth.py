"""The numbers of the figure of depth and time, computed a second time from the tables of runs and layers alone: plain pandas and NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from tests.page.second_opinion_start import START, Tables, Where, pick, starts


def stacks(tables: Tables, where: Where) -> pd.DataFrame:
    """The deepest stacks of a kind at their longest sequence."""
    runs = starts(tables["runs"])
    runs = runs[runs["task_loss_at"] == "last"]
    where = {name: value for name, value in where.items() if name != "direction"}
    kind = [name for name in START if name not in ("sequence_length", "layers")]
    for size in ("sequence_length", "layers"):
        runs = runs[runs[size] == runs.groupby(kind, dropna=False)[size].transform("max")]
    return pick(runs[runs["layers"] > 1], where)


def decades(tables: Tables, run: pd.Series, layer: int, lag: int) -> float:
    """Of the direction that the address names; the reverse one goes back from its own last step, t = 1."""
    rows = tables["layers"]
    t = lag + 1 if run["direction"] == "reverse" else run["task_steps"] - lag
    at = rows[(rows["run_key"] == run["run_key"]) & (rows["update"] == 0) & (rows["layer"] == layer) & (rows["t"] == t)]
    return float(at.loc[at["direction"] == run["direction"], "log10_grad_norm"].iloc[0])


def factor(of: Callable[[Tables, pd.Series], float], end: int = 0) -> Callable[[Tables, Where], float]:
    """Ten to the mean over networks of decades, or to an end of its 95 % interval: −1 the lower, 1 the upper."""

    def found(tables: Tables, where: Where) -> float:
        runs = stacks(tables, where).drop_duplicates("run_key").assign(direction=where.get("direction") or "forward")
        each = np.array([of(tables, run) for _, run in runs.iterrows()])
        each = each[np.isfinite(each)]
        half = stdtrit(len(each) - 1, 0.975) * each.std(ddof=1) / len(each) ** 0.5 if end else 0.0
        return float(10.0 ** (each.mean() + end * half))

    return found


def a_layer_down(far: bool) -> Callable[[Tables, pd.Series], float]:
    def of(tables: Tables, run: pd.Series) -> float:
        lag = run["task_steps"] - 1 if far else 0
        return (decades(tables, run, 1, lag) - decades(tables, run, run["layers"], lag)) / (run["layers"] - 1)

    return of


def a_step_back(first: bool) -> Callable[[Tables, pd.Series], float]:
    def of(tables: Tables, run: pd.Series) -> float:
        layer, T = 1 if first else run["layers"], run["task_steps"]
        steps = T - 1 - (T - 1) // 2
        return (decades(tables, run, layer, T - 1) - decades(tables, run, layer, (T - 1) // 2)) / steps

    return of


def second_direction(end: int = 0) -> Callable[[Tables, Where], float]:
    """By how many decades two directions have more at the first step of the first layer than one: the mean over seeds, or an end of its interval."""

    def found(tables: Tables, where: Where) -> float:
        ways: dict[bool, dict[int, float]] = {False: {}, True: {}}
        for _, run in stacks(tables, where).drop_duplicates("run_key").assign(direction="forward").iterrows():
            ends = decades(tables, run, 1, run["task_steps"] - 1), decades(tables, run, run["layers"], 0)
            ways[bool(run["bidirectional"])][run["seed"]] = ends[0] - ends[1]
        each = np.array([ways[True][seed] - ways[False][seed] for seed in ways[True] if seed in ways[False]])
        each = each[np.isfinite(each)]
        half = stdtrit(len(each) - 1, 0.975) * each.std(ddof=1) / len(each) ** 0.5 if end else 0.0
        return float(each.mean() + end * half)

    return found


KINDS: dict[str, Callable[[Tables, Where], float]] = {
    "depth_factor_near": factor(a_layer_down(far=False)),
    "depth_factor_near_low": factor(a_layer_down(far=False), end=-1),
    "depth_factor_near_high": factor(a_layer_down(far=False), end=1),
    "depth_factor_far": factor(a_layer_down(far=True)),
    "second_direction": second_direction(),
    "second_direction_low": second_direction(-1),
    "second_direction_high": second_direction(1),
    "step_factor_last": factor(a_step_back(first=False)),
    "step_factor_first": factor(a_step_back(first=True)),
}
