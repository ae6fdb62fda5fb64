"""Training at speed: what an update costs beside its passes. ``python -m benchmarks.training`` measures, ``section`` makes its part of docs/benchmarks.md.

*Passes* are ``forward`` and ``backward`` of one batch, with the gradient of the loss by states given. An *update* is all of a run: draws, loss and readout,
passes, clipping, optimiser, and its row. Both are timed in turn, by processor time, on one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import rnn_core as rc
from benchmarks import ROOT
from rnn_core.arrays import to_numpy
from rnn_core.scaling import plain

RESULTS = ROOT / "benchmarks" / "results-training.json"
SIZE, STEPS, BATCH, GOAL = (
    50,
    100,
    20,
    1.5,
)  # of Pascanu, Mikolov & Bengio 2013; an update may cost so many times its passes
UPDATES, BEFORE, ROUNDS, PASSES = 150, 5, 12, 60


def passes_of(experiment: rc.Experiment) -> Callable[[], None]:
    """Forward and backward of one of its batches."""
    problem = rc.prepare(experiment)
    x, target = problem.batch(0)
    own = {name: value for name, value in problem.params.items() if not name.endswith("ho")}
    direct = to_numpy(plain(rc.evaluate(problem, problem.params, x, target).grad_hidden(0, len(x))))

    def passes() -> None:
        rc.backward(rc.forward(problem.cell, own, x), direct)

    return passes


def seconds_of_passes(passes: Callable[[], None]) -> float:
    """The median of some."""
    times = []
    for _ in range(PASSES):
        start = time.process_time()
        passes()
        times.append(time.process_time() - start)
    return median(times)


def seconds_of_an_update(experiment: rc.Experiment) -> float:
    """What a run of more updates takes longer than a run of few, for each."""
    seconds = []
    for updates in (BEFORE, BEFORE + UPDATES):
        start = time.process_time()
        rc.run(rc.Experiment(**{**vars(experiment), "updates": updates}))
        seconds.append(time.process_time() - start)
    return (seconds[1] - seconds[0]) / UPDATES


def measure(task: str) -> dict[str, Any]:
    """One task: microseconds of the passes and of an update, and their ratio in the median round."""
    experiment = rc.Experiment(
        task=task, hidden_size=SIZE, sequence_length=STEPS, batch_size=BATCH, spectral_radius=0.95, learning_rate=0.01, clipping="norm:1.0",
        trace_every=10**6,
    )  # fmt: skip
    passes = passes_of(experiment)
    seconds_of_passes(passes), seconds_of_an_update(experiment)  # once untimed
    rounds = [(seconds_of_passes(passes), seconds_of_an_update(experiment)) for _ in range(ROUNDS)]
    problem = rc.prepare(experiment)
    return {
        "task": task,
        "loss_at": problem.task.loss_at,
        "steps": len(problem.batch(0)[0]),
        "passes_us": round(1e6 * min(a for a, _ in rounds), 1),
        "update_us": round(1e6 * min(b for _, b in rounds), 1),
        "ratio": round(median(b / a for a, b in rounds), 3),
    }


def section(results: dict[str, Any] | None = None) -> list[str]:
    """The part of docs/benchmarks.md on training, as lines of Markdown; none without results.

    Args:
        results: as results-training.json has them; None reads the file.
    """
    if results is None:
        if not RESULTS.exists():
            return []
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
    rows = results["tasks"]
    met = sum(row["ratio"] <= GOAL for row in rows)
    lines = [
        "## Training",
        "",
        f"An update beside its passes: vanilla tanh, H = {SIZE}, T = {STEPS}, B = {BATCH}, SGD, `norm:1.0`, float64, one thread, processor time. Passes are `forward` and "
        "`backward` of one batch. An update is all that a run does for it: draws, loss, passes, clipping, optimiser and its row. "
        f"The goal is a ratio of at most {GOAL:g}; {met} of {len(rows)} tasks meet it.",
        "",
        "| task | loss at | steps | passes, µs | update, µs | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['task']} | {row['loss_at']} | {row['steps']} | {row['passes_us']:.0f} | {row['update_us']:.0f} | {row['ratio']:.2f} |"
        )
    return lines


def main() -> None:
    """Measure every generated task."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--tasks", nargs="*", default=list(rc.GENERATED), choices=list(rc.GENERATED))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    for task in arguments.tasks:
        rows.append(measure(task))
        print(json.dumps(rows[-1]), flush=True)
    versions = {"numpy": np.__version__}
    arguments.out.write_text(json.dumps({"versions": versions, "tasks": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
