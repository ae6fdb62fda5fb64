"""The check beside the first runs: the study's own device, dtypes, cells and activations, at both ends of every range.

If it fails, no table is made, and jobs that start later end at once.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import rnn_core as rc
from rnn_core.oracles.problems import with_biases
from rnn_core.scaling import plain
from study import plan
from study.files.writing import written_aside
from study.own_cells.described import name_of
from study.runs.checks import (
    CheckFailed,
    Row,
    autograd_row,
    flossing_row,
    module_row,
    omega_row,
    require,
    settings_of,
    spectra_rows,
)

LONGEST = 10_000  # steps; the oracles keep every step, so longer sequences are cut to this


def refuse(mark: str | Path) -> None:
    """Leave a mark that this call's check has failed."""
    with written_aside(mark) as aside:
        aside.write_text("The engine check of this call has failed.\n", encoding="utf-8")


def forget(mark: str | Path) -> None:
    """Take the mark of an earlier call away."""
    Path(mark).unlink(missing_ok=True)


def require_not_refused(mark: str | Path) -> None:
    """End a job that starts after the check has failed: its runs would be gathered into no table.

    Raises:
        CheckFailed: the mark is there.
    """
    if Path(mark).exists():
        raise CheckFailed("the engine check has failed in this call, so nothing more is computed")


def cases(sweeps: dict[str, Any], own_cell: str = "", longest: int = LONGEST) -> Iterator[tuple[str, rc.Experiment]]:
    """(sweep, experiment) to be checked, each once: of the built-in cells, or of one of the user's own. Sequences are cut to ``longest``."""
    seen = set()
    for sweep, described in sweeps.items():
        grid = plan.checked_grid(described["grid"])
        grid["cell"] = [each for each in grid.get("cell", ["vanilla"]) if _is_meant(each, own_cell)]
        for point in itertools.product(*grid.values()):
            experiment = rc.Experiment(**dict(zip(grid, point, strict=True)))
            experiment = replace(experiment, sequence_length=min(experiment.sequence_length, longest))
            if experiment.key not in seen:
                seen.add(experiment.key)
                yield sweep, experiment


def _is_meant(cell: str, own_cell: str) -> bool:
    return name_of(cell) == own_cell if own_cell else cell in rc.CELLS


def check(
    sweep: str,
    experiment: rc.Experiment,
    data: rc.Sequences | None,
    device: str,
    tolerance: float,
    spectra: bool = False,
) -> Iterator[Row]:
    """One row an oracle.

    Args:
        spectra: also the exact identities of spectra.
    """
    problem = with_biases(rc.prepare(experiment, data, device))
    x, target = problem.batch(0)
    with np.errstate(over="ignore", invalid="ignore"):
        evaluation = rc.evaluate(problem, problem.params, x, target)
        common = {**settings_of(problem, evaluation, tolerance), "stage": "gate", "sweep": sweep}
        yield {**common, **autograd_row(problem, problem.params, x, target, evaluation)}
        grad_hidden = plain(evaluation.tape.hidden)  # any dL/dh_t will do; this is that of L = ½ Σ h²
        of_omega = omega_row(problem, problem.params, x, evaluation)
        of_flossing = flossing_row(problem, problem.params, x)
        module = module_row(problem, x, grad_hidden, tolerance)
        identities = spectra_rows(problem, evaluation) if spectra else []
    for check in filter(None, (of_omega, of_flossing, module)):
        yield {**common, **check}
    for identity in identities:
        yield {**common, **identity}


def table(
    sweeps: dict[str, Any],
    data: dict[str, rc.Sequences],
    device: str,
    tolerance: dict[str, float],
    spectra: bool = False,
) -> dict[str, list[Any]]:
    """The columns of the table ``checks``, of all cases.

    Args:
        spectra: whether the study asks for spectra. Their exact identities are then checked, too.

    Raises:
        CheckFailed: a relative error is above its tolerance; the message names the worst case.
    """
    rows: dict[str, list[Any]] = defaultdict(list)
    failures: list[tuple[float, CheckFailed]] = []
    for sweep, experiment in cases(sweeps):
        limit = tolerance[experiment.dtype]
        for row in check(sweep, experiment, data.get(experiment.task), device, limit, spectra):
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
