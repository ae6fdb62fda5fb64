"""The check before any sweep: the study's own device, dtypes, cells and activations, at both ends of every range."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

import rnn_core as rc
from rnn_core.oracles.problems import with_biases
from rnn_core.scaling import plain
from study import plan
from study.runs.checks import CheckFailed, Row, autograd_row, module_row, require, settings_of

LONGEST = 10_000  # steps; the oracles keep every step, so longer sequences are cut to this


def cases(sweeps: dict[str, Any]) -> Iterator[tuple[str, rc.Experiment]]:
    """(sweep, experiment) to be checked, each once."""
    seen = set()
    for sweep, described in sweeps.items():
        grid = plan.checked_grid(described["grid"])
        for point in itertools.product(*grid.values()):
            experiment = rc.Experiment(**dict(zip(grid, point, strict=True)))
            experiment = replace(experiment, sequence_length=min(experiment.sequence_length, LONGEST))
            if experiment.key not in seen:
                seen.add(experiment.key)
                yield sweep, experiment


def check(
    sweep: str, experiment: rc.Experiment, data: rc.Sequences | None, device: str, tolerance: float
) -> Iterator[Row]:
    """One row an oracle."""
    problem = with_biases(rc.prepare(experiment, data, device))
    x, target = problem.batch(0)
    with np.errstate(over="ignore", invalid="ignore"):
        evaluation = rc.evaluate(problem, problem.params, x, target)
        common = {**settings_of(problem, evaluation, tolerance), "stage": "gate", "sweep": sweep}
        yield {**common, **autograd_row(problem, problem.params, x, target, evaluation)}
        module = module_row(
            problem, x, plain(evaluation.tape.hidden), tolerance
        )  # any dL/dh_t will do: here L = ½ Σ h²
    if module is not None:
        yield {**common, **module}


def table(
    sweeps: dict[str, Any], data: dict[str, rc.Sequences], device: str, tolerance: dict[str, float]
) -> dict[str, list[Any]]:
    """The columns of the table ``checks``, of all cases.

    Raises:
        CheckFailed: a relative error is above its tolerance; the message names the worst case.
    """
    rows: dict[str, list[Any]] = defaultdict(list)
    failures: list[tuple[float, CheckFailed]] = []
    for sweep, experiment in cases(sweeps):
        limit = tolerance[experiment.dtype]
        for row in check(sweep, experiment, data.get(experiment.task), device, limit):
            try:
                require(row, experiment, limit)
            except CheckFailed as failure:
                failures.append((row["relative_error"] / limit, failure))
            for name, value in row.items():
                rows[name].append(value)
    if failures:
        worst = max(failures, key=lambda failed: failed[0])[1]
        raise CheckFailed(f"{len(failures)} of {len(rows['oracle'])} checks failed; worst: {worst}")
    return rows
