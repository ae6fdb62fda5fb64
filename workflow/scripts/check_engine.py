"""The gate: compare the engine with PyTorch on the study's own device, dtypes, cells, activations and extreme settings.

Above the tolerance the workflow stops here, with a message that names the worst case, before any sweep has started.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import rnn_core as rc
from oracle_checks import CheckFailed, Row, autograd_row, module_row, require, settings_of
from rnn_core.arrays import like, resolve_device
from rnn_core.compiled import made_on
from rnn_core.scaling import plain
from study import plan
from study.data import intake
from study.job import running
from study.tables import store

LONGEST = 10_000  # steps; longer sequences are checked at this length, for the oracles keep every step


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


def with_biases(problem: rc.Problem) -> rc.Problem:
    """The problem with biases that are not zero: where they are, a mistake in them goes unseen."""
    rng = np.random.default_rng(0)
    biases = {
        name: like(0.1 * rng.standard_normal(tuple(value.shape)), value)
        for name, value in problem.params.items()
        if name.startswith("bias")
    }
    return replace(problem, params={**problem.params, **biases})


def main(snakemake: Any) -> None:
    p = snakemake.params
    device = resolve_device(p.device)
    data = {Path(f).stem: rc.Sequences(**intake.load(f)) for f in snakemake.input.get("sequences", [])}
    rows: dict[str, list[Any]] = defaultdict(list)
    failures: list[tuple[float, CheckFailed]] = []
    for sweep, experiment in cases(p.sweeps):
        tolerance = p.tolerance[experiment.dtype]
        for row in check(sweep, experiment, data.get(experiment.task), device, tolerance):
            try:
                require(row, experiment, tolerance)
            except CheckFailed as failure:
                failures.append((row["relative_error"] / tolerance, failure))
            for name, value in row.items():
                rows[name].append(value)
    if failures:
        worst = max(failures, key=lambda f: f[0])[1]
        raise CheckFailed(f"{len(failures)} of {len(rows['oracle'])} checks failed; worst: {worst}")
    made = {"table": "checks", "sweeps": p.sweeps, "engine": p.engine, "device": made_on(device)}
    store.write(store.build("checks", rows), snakemake.output.checks, made)


if __name__ == "__main__":
    settings = "The study's settings cannot be run, so the engine was not checked. "
    # only a disagreement with PyTorch is the engine's
    expected = {ValueError: settings, RuntimeError: settings, CheckFailed: "The engine check stopped the study. "}
    with running(snakemake, expected):  # type: ignore[name-defined]  # noqa: F821
        main(snakemake)  # type: ignore[name-defined]  # noqa: F821
