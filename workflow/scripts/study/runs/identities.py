"""Exact identities that spectra must obey, with Jacobians by torch's autograd of the oracles' own equations, or of a user's own step.

Five checks, and no statistics:

- *determinant*: all exponents add up to the mean of ln |det J_t|.
- *forward frame*: the same sum by a frame that goes forward, J_t Q_{t-1} = Q_t R_t, with tangents of autograd.
- *singular values*: the largest of products of a few steps are those of the plain product.
- *bounds*: no measured ratio of gradient norms is above the first singular value.
- *eigenvalues*: of a linear network the exponents are ln |eigenvalue|.

A network is abstained from where rounding decides:

- A step is so steep that autograd's own Jacobian, a sum of parts, has lost its small directions.
- A direction is below what the network's own precision holds, so it may be zero for one side alone.
- A unit is so near a kink of its activation that rounding decides on which side it is.

Elsewhere determinant and frame are found again from Jacobians that differ in their last digits. What they move by is no error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import rnn_core as rc
from rnn_core import theory
from rnn_core.arrays import dtype_name, to_numpy
from rnn_core.experiment import Evaluation, Problem, norms_of_last_step
from rnn_core.oracles.equations import CELLS
from rnn_core.tape import Tape

STEPS = 40  # that are looked at, the last of the sequence
STEEPEST = 1e8  # condition number of a Jacobian
KINK = 64.0  # times eps and the largest preactivation: nearer to a kink rounding decides
FEW, HELD = (
    3,
    1e-3,
)  # steps of a plain product, and the share of its first singular value down to which it holds the others
LOST = "a direction is below what the precision of the network holds"  # what is longest later may be lost beside it
LARGEST = 256  # units of a state: the time grows with their cube


class Finding(NamedTuple):
    """One check: its name, the relative error (None: abstained), and where, or why."""

    name: str
    relative: float | None
    where: str


def check(problem: Problem, evaluation: Evaluation) -> list[Finding]:
    """The checks of one network, on the first sample of a batch."""
    tape, T = evaluation.tape, evaluation.tape.x.shape[0]
    from rnn_core.oracles.jacobians import by_forward_frame  # imports torch

    size = sum(math.prod(part.shape[1:]) for part in tape.state.values())
    stop = T if evaluation.ends is None else int(evaluation.ends[0])
    own = problem.cell.opaque
    known = problem.cell.any_batch if own else problem.cell.name in CELLS
    if not known or size > LARGEST or tape.kept is None:
        why = f"not compared: a cell that the oracles do not know, {size} units, or no room for every step"
        return [Finding("determinant", None, why)]
    start = max(0, stop - STEPS)
    matrices = (_jacobians_of_own if own else _jacobians)(problem, tape, start, stop)
    why = _undecided(tape, matrices, start, stop)
    if why:
        left_out = Finding("determinant", None, f"not compared: {why}")
        return [left_out] if why == LOST else [left_out, _bounds(problem, evaluation, stop)]
    ours = theory.lyapunov_spectrum(tape, None, T - stop, 0, start).exponents
    return [
        _sum("determinant", ours, _by_determinant, matrices, tape, f"steps {start + 1} to {stop}"),
        _sum("forward frame", ours, by_forward_frame, matrices, tape, f"steps {start + 1} to {stop}"),
        _singular_values(tape, matrices, stop),
        _bounds(problem, evaluation, stop),
    ]


def _undecided(tape: Tape, matrices: np.ndarray, start: int, stop: int) -> str:
    """Why rounding decides what the exponents are; empty where it does not."""
    if not np.isfinite(matrices).all():
        return "a step is not finite"
    values, limits = np.linalg.svd(matrices, compute_uv=False), np.finfo(dtype_name(tape.x))
    tiny = limits.tiny / limits.eps
    if any(_smallest_of_units_on(matrix) < tiny for matrix in matrices[values[:, -1] < tiny]):
        return LOST
    if (values[:, 0] > STEEPEST * values[:, -1]).any():
        return "a step is steeper than autograd can tell"
    for saved in [] if tape.cell.opaque or tape.kept is None else tape.kept.saved[start:stop]:
        for phi, a in tape.cell.nonlinearities(saved):
            own = to_numpy(a)[:, 0]
            near = KINK * float(limits.eps) * max(1.0, float(np.abs(own).max()))
            if any((np.abs(own - kink) < near).any() for kink in phi.kinks):
                return "a unit is at a kink of its activation"
    return ""


def _smallest_of_units_on(matrix: np.ndarray) -> float:
    """The smallest singular value without rows and columns of zeros: a unit of relu that is off has lost nothing to rounding."""
    on = matrix[matrix.any(axis=1)][:, matrix.any(axis=0)]
    return float(np.linalg.svd(on, compute_uv=False)[-1]) if on.size else math.inf


def _by_determinant(matrices: np.ndarray) -> float:
    """The mean of ln |det J_t|."""
    return float(np.linalg.slogdet(matrices)[1].mean())


def _sum(
    name: str, ours: np.ndarray, of: Callable[[np.ndarray], float], matrices: np.ndarray, tape: Tape, where: str
) -> Finding:
    """The sum of all exponents against a function of the Jacobians, relative to the sum of their sizes, beyond rounding."""
    from rnn_core.oracles.jacobians import rounded_otherwise
    from rnn_core.oracles.rounding import ALLOWED, TRIALS

    eps, expected = float(np.finfo(dtype_name(tape.x)).eps), of(matrices)
    allowed = ALLOWED * max(abs(of(rounded_otherwise(matrices, eps, trial)) - expected) for trial in range(TRIALS))
    scale = max(1.0, float(np.abs(ours).sum()))
    return Finding(name, max(0.0, abs(float(ours.sum()) - expected) - allowed) / scale, where)


def _jacobians(problem: Problem, tape: Tape, start: int, stop: int) -> np.ndarray:
    """J_t of the first sample by the oracle, t = start + 1 … stop, (steps, S, S) in float64."""
    from rnn_core.oracles import jacobians

    cell, params = problem.cell, {n: to_numpy(v).astype(np.float64) for n, v in tape.params.items()}
    assert tape.kept is not None
    states = {name: to_numpy(tape.kept.states[name][start:stop, :, 0]).astype(np.float64) for name in cell.state_names}
    options = {name: getattr(cell, name) for name in cell.options}
    x = to_numpy(tape.x[start:stop, 0]).astype(np.float64)
    return jacobians.jacobians(cell.name, problem.experiment.activation, options, params, states, x)


def _jacobians_of_own(problem: Problem, tape: Tape, start: int, stop: int) -> np.ndarray:
    """The same of a user's own cell: its step, differentiated entry by entry, without the engine's frames."""
    import torch

    cell: Any = tape.cell
    assert tape.kept is not None
    sizes = [math.prod(tape.shapes[name]) for name in cell.state_names]
    matrices = []
    for t in range(start, stop):

        def step(flat: Any, t: int = t) -> Any:
            pieces = zip(cell.state_names, flat.split(sizes), strict=True)
            after = cell.step(tape.params, tape.x[t, :1], {n: piece.reshape(1, *tape.shapes[n]) for n, piece in pieces})
            return torch.cat([after[name].reshape(-1) for name in cell.state_names])

        before = torch.cat([tape.kept.states[name][t][:, 0] for name in cell.state_names])
        matrices.append(to_numpy(torch.autograd.functional.jacobian(step, before)).astype(np.float64))
    return np.array(matrices)


def _singular_values(tape: Tape, matrices: np.ndarray, stop: int) -> Finding:
    """The worst relative error of those that a plain product holds."""
    worst = Finding("singular values", 0.0, f"lag 1 to {min(FEW, len(matrices))}")
    for lag in range(1, min(FEW, len(matrices)) + 1):
        product = matrices[-1]
        for J in matrices[-lag:-1][::-1]:
            product = product @ J
        plain = np.linalg.svd(product, compute_uv=False)
        held = plain > HELD * plain[0]
        ours = theory.log_singular_values(tape, stop - lag, stop)
        error = float(np.abs(np.expm1(ours[held] - np.log(plain[held]))).max())
        if error > (worst.relative or 0.0):
            worst = Finding("singular values", error, f"lag {lag}")
    return worst


def _bounds(problem: Problem, evaluation: Evaluation, stop: int) -> Finding:
    """By how much a measured ratio is above the first singular value, at some lags."""
    norms, worst = (
        norms_of_last_step(problem, evaluation)[:, 0],
        Finding("bounds", 0.0, "no ratio is above the first singular value"),
    )
    for lag in sorted({lag for lag in (1, min(10, stop - 1), min(STEPS, stop - 1)) if 0 < lag < stop}):
        largest, ratio = (
            theory.log_singular_values(evaluation.tape, stop - lag, stop)[0],
            norms[stop - 1 - lag] - norms[stop - 1],
        )
        above = float(ratio - largest)
        if not math.isfinite(above):  # no gradient, or nothing is finite on either side
            continue
        if above > (worst.relative or 0.0):
            worst = Finding("bounds", above, f"lag {lag}")
    return worst


def check_eigenvalues() -> Finding:
    """Exponents of a linear network whose eigenvalues are known: real ones, a pair, and one far below the rest."""
    rng = np.random.default_rng(0)
    blocks = np.diag([1.2, 0.0, 0.0, 0.5, 0.05])
    blocks[1:3, 1:3] = 0.9 * np.array([[math.cos(0.7), math.sin(0.7)], [-math.sin(0.7), math.cos(0.7)]])
    basis = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    params = {"weight_ih": np.zeros((5, 1)), "weight_hh": basis @ blocks @ basis.T}
    tape = rc.forward(rc.VanillaCell("identity"), params, np.zeros((300, 1, 1)))
    expected = np.log([1.2, 0.9, 0.9, 0.5, 0.05])
    ours = theory.lyapunov_spectrum(tape, burn_in=150).exponents
    return Finding("eigenvalues", float(np.abs(ours - expected).max()), "a linear network of five units")
