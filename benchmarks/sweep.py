"""A sweep: many lengths, clipping settings and radii of one task, by ``run_many`` and by the best peer run after run.

Two comparisons, because a run of ours measures more than a peer is asked for (eigenvalues, theory, saturation …):

- engine work: networks and inputs are there; trace, parameter gradients and their norm after clipping.
- whole runs: from the settings to the results. Ours is ``run_many`` with all that it measures; the best peer of the
  first comparison draws the same networks and inputs, by the same code, and does its engine work, nothing more.

The peers are given dL/dh_T and the readout's gradients; ours computes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

import rnn_core as rc
from benchmarks import check, timing
from benchmarks.work import BATCH, INPUTS, Contender, Form, Measured, Prepared, Work
from rnn_core.experiment import Evaluation

LENGTHS = (50, 100, 200, 300, 400, 500)
CLIPPING = ("none", "norm:1.0", "norm:0.01", "value:0.001")
RADII = (0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)
HIDDEN = 64
ROUNDS = timing.Rounds(3, 3)
CONTENDERS = ("torch_eager", "numpy_loop")  # of those who give a trace, the fastest of this size
NORM_TOLERANCE = 1e-9  # of log10 of the norms before and after clipping


@dataclass(frozen=True)
class Start:
    """A network with its inputs, and what the readout gives: the start of four runs that differ in clipping."""

    experiment: rc.Experiment
    problem: rc.Problem
    x: np.ndarray
    target: np.ndarray
    work: Work
    readout: dict[str, np.ndarray]


def experiments(lengths: Sequence[int] = LENGTHS, radii: Sequence[float] = RADII, size: int = HIDDEN) -> list[rc.Experiment]:  # fmt: skip
    """All runs of the sweep."""
    first = rc.Experiment(hidden_size=size, batch_size=BATCH, input_size=INPUTS, input_scale=0.5)
    return [
        replace(first, spectral_radius=radius, sequence_length=length, clipping=rule)
        for radius, length, rule in product(radii, lengths, CLIPPING)
    ]


def start_of(experiment: rc.Experiment) -> Start:
    """What a run starts from, and for the peers dL/dh_T and the readout's gradients."""
    problem = rc.prepare(experiment)
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    T = experiment.sequence_length
    cell = {name: value for name, value in problem.params.items() if name in evaluation.gradients.params}
    readout: dict[str, Any] = {name: value for name, value in evaluation.param_grads.items() if name not in cell}
    last: Any = evaluation.grad_hidden(T - 1, T)
    return Start(experiment, problem, x, target, Work("vanilla", "tanh", cell, x, last[0]), readout)


def clipped_norms(grads: dict[str, np.ndarray], rule: str) -> tuple[float, float]:
    """The norm before and after clipping, as a peer computes it."""
    kind, _, number = rule.partition(":")
    before = math.sqrt(sum(float(np.vdot(g, g)) for g in grads.values()))
    if kind == "none":
        return before, before
    limit = float(number)
    if kind == "norm":
        factor = min(1.0, limit / before)
        return before, math.sqrt(sum(float(np.vdot(c, c)) for c in (g * factor for g in grads.values())))
    clipped = (np.clip(g, -limit, limit) for g in grads.values())
    return before, math.sqrt(sum(float(np.vdot(c, c)) for c in clipped))


Run = tuple[np.ndarray, float, float]  # ln ‖dL/dh_t‖, the norm before clipping and after


def ours_engine(starts: Sequence[Start]) -> Iterator[tuple[Start, str, Evaluation, rc.Clipped]]:
    """Lengths share the forward pass of the longest, clipping settings share a gradient: what ``run_many`` does."""
    groups: dict[float | None, list[Start]] = {}
    for start in starts:
        groups.setdefault(start.experiment.spectral_radius, []).append(start)
    for group in groups.values():
        tape: Any = None
        for start in sorted(group, key=lambda each: -each.experiment.sequence_length):
            problem, T = start.problem, start.experiment.sequence_length
            evaluation = rc.evaluate(
                problem, problem.params, start.x, start.target, tape=None if tape is None else tape.prefix(T)
            )
            tape = tape or evaluation.tape
            for rule in CLIPPING:
                yield start, rule, evaluation, rc.parse_clipping(rule)(evaluation.param_grads, problem.params)


def peer_runs(starts: Sequence[Start], ready: Sequence[Prepared]) -> Iterator[tuple[Start, str, Run]]:
    """Run after run."""
    for start, call in zip(starts, ready, strict=True):
        for rule in CLIPPING:
            yield start, rule, peer_run(start, call, rule)


def peer_run(start: Start, ready: Prepared, rule: str) -> Run:
    """One run of a peer, with its clipped norm."""
    [measured] = ready.read(ready.call())
    assert measured.log_norm is not None
    return measured.log_norm, *clipped_norms({**measured.params, **start.readout}, rule)


def whole_runs(todo: Sequence[rc.Experiment], form: Form, known: dict[rc.Experiment, Start]) -> Iterator[Run]:
    """A peer from settings to results, run after run. Only dL/dh_T and the readout's gradients are known before."""
    for experiment in todo:
        start = known[replace(experiment, clipping="none")]
        problem = rc.prepare(experiment)
        x, _ = problem.batch(0)
        params = {name: problem.params[name] for name in start.work.params}
        work = Work("vanilla", "tanh", params, x, start.work.g)
        yield peer_run(start, form.prepare([work]), experiment.clipping)


def measure(
    peers: Sequence[Contender], todo: Sequence[rc.Experiment] | None = None, rounds: timing.Rounds = ROUNDS
) -> dict[str, Any]:
    """The sweep by ours and by the fastest peers that give a trace, as results.json has it.

    Raises:
        WrongNumbers: a peer computes something else than ours does.
        MoreThanOneThread: somebody takes more than one.
    """
    todo = experiments() if todo is None else todo
    starts = [start_of(experiment) for experiment in todo if experiment.clipping == "none"]
    known = {start.experiment: start for start in starts}
    calls: dict[str, Any] = {"ours": _again(ours_engine, starts)}
    competing = {peer.name: peer for peer in peers if peer.name in CONTENDERS}
    errors: dict[str, float] = {}
    for name, peer in competing.items():
        ready = [peer.forms[0].prepare([start.work]) for start in starts]
        errors[name] = _check(name, starts, ready, todo)
        calls[name] = _again(peer_runs, starts, ready)
    engine = _compared(timing.side_by_side(calls, rounds), competing, errors)
    best = competing[engine["best_peer"]]
    whole = {"ours": _again(rc.run_many, todo), best.name: _again(whole_runs, todo, best.forms[0], known)}
    return {
        "runs": len(todo),
        "setting": {"lengths": len({e.sequence_length for e in todo}), "clipping": list(CLIPPING), "radii": len({e.spectral_radius for e in todo}), "hidden_size": todo[0].hidden_size, "dtype": todo[0].dtype},
        "engine": engine,
        "whole": _compared(timing.side_by_side(whole, rounds), {best.name: best}, errors),
    }  # fmt: skip


def _again(function: Any, *arguments: Any) -> Any:
    return lambda: _exhaust(function(*arguments))


def _exhaust(iterator: Iterator[Any]) -> None:
    for _ in iterator:
        pass


def _check(name: str, starts: Sequence[Start], ready: Sequence[Prepared], todo: Sequence[rc.Experiment]) -> float:
    """Every run of a peer against ``run_many``'s rows and gradients."""
    results = dict(rc.run_many(todo))
    worst = 0.0
    for start, rule, run in peer_runs(starts, ready):
        experiment = replace(start.experiment, clipping=rule)
        row = results[experiment]
        trace = row.traces["log10_grad_norm"] * math.log(10.0)
        of_norms = max(
            abs(math.log10(run[1]) - float(row.updates["log10_norm_before"][0])),
            abs(math.log10(run[2]) - float(row.updates["log10_norm_after"][0])),
        )
        where = f"{name}, sweep, T = {experiment.sequence_length}, rho = {experiment.spectral_radius}, {rule}"
        if not of_norms <= NORM_TOLERANCE:
            raise check.WrongNumbers(f"{where}: log10 of the clipped norm is off by {of_norms:.1e}")
        error = check.errors(Measured(run[0], {}), Measured(trace, {})).worst
        if not error <= check.TOLERANCE[experiment.dtype]:
            raise check.WrongNumbers(f"{where}: a trace that is {error:.1e} away")
        worst = max(worst, error)
    return worst


def _compared(times: dict[str, timing.Times], peers: dict[str, Contender], errors: dict[str, float]) -> dict[str, Any]:
    rows: dict[str, dict[str, Any]] = {
        name: {
            "label": peers[name].label if name in peers else "rnn_core",
            "relative_error": errors.get(name, 0.0),
            **each.summary(),
        }
        for name, each in times.items()
    }
    best = min(peers, key=lambda name: float(rows[name]["median_ms"]))
    ratio = rows[best]["median_ms"] / rows["ours"]["median_ms"]
    return {"contenders": rows, "best_peer": best, "ours_vs_best_peer": round(ratio, 3)}
