"""The parts of a study: the networks of one sweep before training, or the trained runs of one sweep and task."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from study.report.measures.outcomes import per_seed, results, task_axes
from study.report.measures.selection import (
    TRAINING,
    at_longest,
    each_start,
    grouped,
    number_axis,
    starts,
    varied,
    where,
)
from study.report.words import SWEEP, ordered

# Where several settings of the training vary, the first of these is what the study asks about, and has the columns of the table.
ASKED_FIRST = (
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
)


@dataclass(frozen=True)
class Part:
    """One sweep's starts, or one task's trained runs of a sweep, and what varies in it.

    ``column``: the axis whose values are the columns of its table; ``rows``: the other axes that vary.
    ``also``: other sweeps that start from the same networks, and train them in other ways; these starts are told once.
    """

    sweep: str
    trains: bool
    runs: pd.DataFrame
    column: str | None
    rows: list[str]
    fixed: dict[str, Any] = field(default_factory=dict)
    also: list[str] = field(default_factory=list)

    @property
    def sweeps(self) -> list[str]:
        """Its sweep, and those that start from the same networks."""
        return [self.sweep, *self.also]

    @property
    def axes(self) -> list[str]:
        return [*([self.column] if self.column else []), *self.rows]

    @cached_property
    def task_axes(self) -> list[str]:
        """The settings whose values make tasks of unequal difficulty of this part's task; none of starts, which have no result."""
        return task_axes(self.runs) if self.trains else []

    @property
    def columns(self) -> list[Any]:
        return ordered(self.column, self.runs[self.column]) if self.column else [None]

    @property
    def compared(self) -> pd.DataFrame:
        """The runs whose growth is compared. Where lengths are the columns, those of the longest: a mean over lengths would be of no network."""
        if self.trains or self.column != "sequence_length":
            return self.runs
        return self.runs[self.runs["sequence_length"] == self.runs["sequence_length"].max()]

    def groups(self) -> list[tuple[dict[str, Any], pd.DataFrame]]:
        """Settings and runs of every row."""
        return grouped(self.runs, self.rows)


def parts_of(runs: pd.DataFrame) -> list[Part]:
    """The starts of every sweep that trains nothing (of all sweeps, if all train), then the trained runs of every sweep and task.

    Of each kind, the part with the most runs comes first. Sweeps that start from the same networks have one part of starts.
    """
    study_parts: list[Part] = []
    any_untrained = bool((runs["updates"] == 0).any())
    sweeps_with: dict[bytes, list[str]] = {}  # by their starting networks, the sweeps that others share them with
    for sweep, rows in runs.groupby("sweep", sort=False):
        untrained = rows[rows["updates"] == 0]
        part_runs = starts(rows) if len(untrained) or not any_untrained else rows.iloc[:0]
        same = sweeps_with.get(each_start(part_runs))
        if same is not None:
            same.append(str(sweep))
        elif len(part_runs):
            also = sweeps_with.setdefault(each_start(part_runs), [])
            axes = varied(part_runs, TRAINING)
            column = number_axis(part_runs, axes)
            shown = (
                part_runs
                if column == "sequence_length"
                else at_longest(part_runs, [a for a in axes if a != "sequence_length"])
            )
            row_axes = [axis for axis in axes if axis not in (column, "sequence_length")]
            study_parts.append(Part(str(sweep), False, shown, column, row_axes, also=also))
    for sweep, rows in runs.groupby("sweep", sort=False):
        measured = results(rows)
        for task, part_runs in measured.groupby("task", sort=True):
            axes = varied(part_runs, ("task",))
            column = next((a for a in (*ASKED_FIRST, *axes) if a in axes), None)
            fixed = {"task": task} if measured["task"].nunique() > 1 else {}
            study_parts.append(Part(str(sweep), True, part_runs, column, [a for a in axes if a != column], fixed))
    return sorted(study_parts, key=lambda part: (part.trains, -len(part.runs)))


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


def deviations(part: Part) -> list[tuple[dict[str, Any], pd.Series]]:
    """Of every row, one number a network: growth_rate − predicted_rate, the mean over the columns; where there is a prediction.

    Of lengths, the longest alone: short sequences end before the state has settled, which no theory speaks of.

    Not where that is the linear law, which is exact in the long run: what is left of it are the sequence's ends.

    The seeds are the same networks at every spectral radius, so a row is one test, not one a radius.
    """
    by_row = []
    for chosen, rows in grouped(part.compared, part.rows):
        known = rows[np.isfinite(rows["deviation"].astype(float)) & (rows["predicted_by"] != "linear law")]
        if len(known):
            by_row.append((chosen, per_seed(known, "deviation")))
    return by_row


def settings_of(
    part: Part,
    chosen: Mapping[str, Any],
    networks: pd.DataFrame,
    apart: Sequence[str],
    always: Collection[str],
    within: Collection[str],
) -> dict[str, Any]:
    """These settings of a part's networks, and what tells them from ``networks`` of other sweeps that have all of these, too.

    Where these settings leave open what the part's own sweep varies, an axis of another sweep does not name it. The mean over input
    scales, at B = 16 throughout, was read as one of B. The sweep's name does, as ``SWEEP``.

    Args:
        apart: what tells the study's networks apart. What is null in this part cannot be told.
        always: those that are told in any case, if the part has one value of them.
        within: those that some sweep varies itself.
    """
    own = {axis: part.runs[axis].iloc[0] for axis in apart if part.runs[axis].nunique(dropna=False) == 1}
    over_its_axis = set(chosen) < {axis for axis in part.axes if axis != "sequence_length"}
    of_others = [axis for axis in own if over_its_axis and axis not in always and axis in within]
    own = {
        **{axis: value for axis, value in own.items() if axis not in of_others},
        **{axis: own[axis] for axis in of_others},
    }
    own = {axis: value for axis, value in own.items() if not pd.isna(value)}
    told = {
        **{axis: value for axis, value in own.items() if axis in always and axis not in chosen},
        **part.fixed,
        **chosen,
    }
    rivals = where(networks, **{axis: value for axis, value in told.items() if axis in networks})
    for axis, value in own.items():
        like = where(rivals, **{axis: value})
        if axis in told or len(like) == len(rivals):
            continue
        if axis in of_others:
            return {**told, SWEEP: part.sweep}
        told, rivals = {axis: value, **told}, like
    return told
