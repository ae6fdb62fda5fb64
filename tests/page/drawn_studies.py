"""Studies drawn at random: any subset of axes swept, trained or not, one seed or many, all broken, one run alone."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

Settings = dict[str, Any]
MOST_RUNS = 150

STARTS: dict[str, list[Any]] = {
    "activation": ["identity", "relu", "sigmoid", "tanh"],
    "cell": ["vanilla", "gru", "lstm"],
    "initializer": ["gaussian", "orthogonal"],
    "spectral_radius": [0.5, 0.9, 1.0, 1.2, 1.5],
    "sequence_length": [2, 5, 9],
    "hidden_size": [8, 16],
    "input_scale": [0.1, 1.0],
    "dtype": ["float32", "float64"],
}
TRAININGS: dict[str, list[Any]] = {
    "clipping": ["none", "norm:1.0", "norm:0.1"],
    "learning_rate": [0.01, 0.1, 0.5],
    "optimizer": ["adam", "sgd"],
    "cell": ["vanilla", "gru"],
    "initializer": ["gaussian", "orthogonal"],
    "spectral_radius": [0.9, 1.2, 1.5],
    "truncation": [None, 3],
}


def some(rng: np.random.Generator, axes: dict[str, list[Any]], seeds: int) -> list[Settings]:
    """The product of some values of some axes, so small that a test draws it in a moment."""
    chosen: dict[str, list[Any]] = {}
    for axis in rng.permutation(list(axes)):
        values = axes[str(axis)]
        if rng.random() < 0.5 and len(values) > 1:
            kept = sorted(rng.choice(len(values), size=int(rng.integers(2, len(values) + 1)), replace=False))
            if math.prod(map(len, chosen.values())) * len(kept) * seeds <= MOST_RUNS:
                chosen[str(axis)] = [values[i] for i in kept]
    return [dict(zip(chosen, each, strict=True)) for each in itertools.product(*chosen.values())]


def study(number: int) -> list[Settings]:
    """One study: its runs, with what they measured."""
    rng = np.random.default_rng(number)
    runs: list[Settings] = []
    if rng.random() < 0.75:
        runs += starts(rng)
    if rng.random() < 0.75 or not runs:
        runs += trainings(rng, "digits" if rng.random() < 0.6 else "input_mean")
    if rng.random() < 0.2:
        runs += trainings(rng, "input_mean", sweep="more")
    return shuffled(runs)


def shuffled(runs: list[Settings]) -> list[Settings]:
    """As a study's tables have them: sorted by run key, which knows nothing of settings."""
    return [runs[i] for i in np.random.default_rng(0).permutation(len(runs))]


def starts(rng: np.random.Generator) -> list[Settings]:
    seeds = int(rng.choice([1, 2, 5, 8]))
    base = {"updates": 0, "sequence_length": 9, "task": "white_noise", "sweep": "propagation"}
    dead, wild = rng.random() < 0.2, rng.random() < 0.3
    found = []
    for each in some(rng, STARTS, seeds):
        kind = rng.normal(0, 0.5)
        for seed in range(seeds):
            rate = math.log(each.get("spectral_radius", 1.0)) + kind + 0.3 * rng.standard_normal()
            if dead and rng.random() < 0.2:
                rate = -math.inf
            elif wild:
                rate *= 20
            lost = {f"{f}_flushed_at": int(rng.integers(1, 9)) for f in ("float16", "bfloat16") if rng.random() < 0.3}
            found.append(
                base | each | lost | {"seed": seed, "rate": rate, "predicted": rate - 0.1 * rng.standard_normal()}
            )
    return found


def trainings(rng: np.random.Generator, task: str, sweep: str = "training") -> list[Settings]:
    seeds = int(rng.choice([1, 3, 6, 8]))
    breaks = float(rng.choice([0.0, 0.0, 0.2, 1.0]))
    found = []
    asked = np.random.default_rng(
        [seeds, int(1000 * breaks), len(sweep)]
    )  # of its own, so that all else stays as it was
    threshold = 0.5 if task == "digits" and asked.random() < 0.5 else None
    base = {"updates": 4, "trace_every": 2, "sequence_length": 6, "task": task, "sweep": sweep}
    base |= {
        "hidden_size": 64 if sweep == "training" else 32
    }  # other networks: a run that two sweeps share would be one
    for each in some(rng, TRAININGS, seeds):
        level = rng.uniform(0.1, 0.9)
        for seed in range(seeds):
            run = base | each | {"seed": seed, "norm": float(rng.normal(0, 2))}
            run |= {"accuracy": float(np.clip(level + 0.1 * rng.standard_normal(), 0, 1)) if task == "digits" else None}
            run |= {"held_out_loss": float(10.0 ** (level + 0.2 * rng.standard_normal()))}
            if rng.random() < breaks:
                run["breaks_at"] = int(rng.integers(0, 4))
            found.append(run | succeeding(run, threshold, asked))
    return found


def succeeding(run: Settings, threshold: float | None, rng: np.random.Generator) -> Settings:
    """What a run says of success, if it was asked for it; its training ends there."""
    if threshold is None:
        return {}
    success = "breaks_at" not in run and run["accuracy"] > 1.0 - threshold
    took = int(rng.integers(1, run["updates"] + 1)) if success else None
    return {"success_below": threshold, "success": success, "updates_to_success": took, "ends_at": took}
