"""The numbers of the figure of depth and time, computed a second time from the tables of runs and layers alone: plain pandas and NumPy."""

from __future__ import annotations

import itertools
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


def of_kinds(tables: Tables) -> list[dict[int, tuple[float, float, float]]]:
    """Of every kind of network and each of its directions, by seed: decades of a layer down near the loss and far from it, and by how many a
    step back differs between the first layer and the last."""
    runs = stacks(tables, {}).drop_duplicates("run_key")
    kind = [name for name in START if name not in ("sequence_length", "layers")]
    kinds = []
    for _, own in runs.groupby(kind, dropna=False):
        for way in ("forward", "reverse") if own["bidirectional"].iloc[0] == True else ("forward",):  # noqa: E712
            by_seed = {}
            for _, run in own.assign(direction=way).iterrows():
                its = {"layers": tables["layers"][tables["layers"]["run_key"] == run["run_key"]]}
                near, far = (a_layer_down(end)(its, run) for end in (False, True))
                gap = a_step_back(True)(its, run) - a_step_back(False)(its, run)
                if np.isfinite([near, far, gap]).all():
                    by_seed[run["seed"]] = (near, far, gap)
            kinds.append(by_seed)
    return kinds


def kinds_clearly(far: bool, more: bool) -> Callable[[Tables, Where], float]:
    """In how many kinds of network lower layers clearly have less, or more: all kinds, both ends and time are judged together."""

    def count(tables: Tables, where: Where) -> float:
        kinds = of_kinds(tables)
        seeds = sorted({seed for own in kinds for seed in own})
        nothing = (np.nan, np.nan, np.nan)
        table = np.array([[each for own in kinds for each in own.get(seed, nothing)] for seed in seeds])
        p = sign_flips(table)[int(far) :: 3]
        effects = [np.mean([each[int(far)] for each in own.values()]) if len(own) >= 6 else 0.0 for own in kinds]
        return float(sum(each <= 0.05 and (e > 0 if more else e < 0) for each, e in zip(p, effects, strict=True)))

    return count


def sign_flips(differences: np.ndarray) -> np.ndarray:
    """By brute force: how often any comparison is as extreme as each under all patterns of signs, (seeds, comparisons)."""
    length = np.sqrt(np.nansum(differences**2, axis=0))
    unit = np.nan_to_num(differences) / np.where(length > 0, length, 1)
    patterns = [np.abs(np.array(signs) @ unit).max() for signs in itertools.product((1, -1), repeat=len(unit))]
    as_extreme = np.mean(np.array(patterns)[:, None] >= np.abs(unit.sum(axis=0)) - 1e-9, axis=0)
    return np.where(length > 0, as_extreme, 1.0)


KINDS: dict[str, Callable[[Tables, Where], float]] = {
    "depth_kinds": lambda tables, where: float(len(of_kinds(tables))),
    "depth_kinds_near_less": kinds_clearly(far=False, more=False),
    "depth_kinds_near_more": kinds_clearly(far=False, more=True),
    "depth_kinds_far_less": kinds_clearly(far=True, more=False),
    "depth_kinds_far_more": kinds_clearly(far=True, more=True),
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
