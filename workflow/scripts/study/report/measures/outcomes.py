"""What training achieved: a result for every run, and its mean over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from study.report import statistics
from study.report.measures.selection import trained
from study.settings import UNEQUAL

OF_TASK = ("sequence_length", "loss_at", "input_size")  # settings that make another task of a task
WORST = 10.0  # times the loss of a prediction that has learnt nothing: no loss counts as more, and a run that broke down with as much


def results(runs: pd.DataFrame) -> pd.DataFrame:
    """Trained runs with ``metric`` (accuracy where the task has one, else loss), ``broken``, ``result`` and ``beyond``.

    A run that broke down has no result of its own. Its accuracy counts as that of a prediction that has learnt nothing, its loss as ``counted`` says.
    ``beyond``: a run that did not break down has a loss above all that is counted.
    """
    runs = trained(runs)
    classified = runs["baseline_accuracy"].notna()
    achieved = runs["held_out_accuracy"].where(classified, runs["held_out_loss"])
    baseline = runs["baseline_accuracy"].where(classified, runs["baseline_loss"])
    broken = runs["first_nonfinite_update"].notna() | ~np.isfinite(achieved.astype(float))
    metric = np.where(classified, "held_out_accuracy", "held_out_loss")
    loss = counted(runs["held_out_loss"], runs["baseline_loss"], broken)
    result = achieved.where(~broken, baseline).where(classified, loss).astype(float)
    beyond = ~classified & ~broken & (achieved > loss)
    return runs.assign(metric=metric, broken=broken, result=result, baseline=baseline, beyond=beyond)


def baselines_differ(runs: pd.DataFrame, axes: Sequence[str] = OF_TASK) -> bool:
    """Whether settings of one task have different baselines, as lags of copy memory have.

    A baseline may be that of the sequences that were drawn, and then it is another for every seed. So two settings differ only where no seed
    of one is as low as any of the other.
    """
    seeds = runs.groupby([*axes, "seed"], dropna=False)["baseline"].mean()  # over the other settings, which seeds share
    each = seeds.groupby(list(axes), dropna=False).agg(["mean", "min", "max"])
    mean, low, high = (each[name].to_numpy(dtype=float)[:, None] for name in ("mean", "min", "max"))
    return bool(((low > high.T) & (mean - mean.T > UNEQUAL * abs(mean))).any())


def task_axes(runs: pd.DataFrame) -> list[str]:
    """The settings that change what is achieved without learning. Their values are tasks of unequal difficulty, whose results are not compared."""
    return [axis for axis in OF_TASK if baselines_differ(runs, [axis])]


def counted(loss: pd.Series, baseline: pd.Series, broken: pd.Series) -> pd.Series:
    """What losses count as in every mean and comparison: at most ``WORST`` times the baseline, and of a run that broke down just that.

    Where a run that has left all bounds comes to its end, and where floats end first, depends on the number of updates. So both count alike, and
    no run counts as better for having broken down.
    """
    most = WORST * baseline.astype(float).where(baseline > 0)
    return loss.astype(float).where(~broken, most).clip(upper=most)


def updates_made(runs: pd.DataFrame) -> pd.Series:
    """How many updates a run made that did not break down: one that succeeds ends there."""
    return runs["updates_to_success"].astype(float).fillna(runs["updates"].astype(float))


def per_seed(runs: pd.DataFrame, column: str) -> pd.Series:
    """One number a seed: the mean over the settings."""
    return runs.groupby("seed")[column].mean()


def outcome(runs: pd.DataFrame) -> statistics.Interval:
    """Mean result over seeds of runs of one metric, with its interval; of losses the geometric mean."""
    loss = (runs["metric"] == "held_out_loss").all()
    values = runs.assign(value=log10(runs["result"]) if loss else runs["result"])
    average = statistics.mean(per_seed(values, "value").to_numpy())
    if loss:
        return statistics.Interval(*(10.0**end for end in average))
    return statistics.Interval(average.value, *(min(max(end, 0.0), 1.0) if end == end else end for end in average[1:]))


def log10(values: pd.Series) -> pd.Series:
    return np.log10(values.clip(lower=1e-300))
