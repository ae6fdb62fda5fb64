"""One case against every oracle that applies, as rows of the table ``verification``. torch is imported on first use."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import rnn_core as rc
from rnn_core.arrays import Array, like, to_numpy
from rnn_core.experiment import Evaluation, loss_of
from rnn_core.oracles.compare import Abstains, Error, relative_error, worst
from rnn_core.scaling import LN2, Scaled, parts, plain
from verification.cases import Case, Network, network_of

Row = dict[str, Any]

TOLERANCE = 1e-10  # of a step or a parameter, atol = 0; two sound programs differ by some 1e-13
# A central difference with step s has the error s²/6 · L'''/L' + eps/s · L/L'; at s = eps^(1/3) both terms are eps^(2/3) = 4e-11
# times a ratio, and the ratios reach 1e3 where a gradient is small beside the loss or strongly curved.
DIFFERENCE_TOLERANCE = 1e-6
KNOWN_TO = 0.25  # of the tolerance: how well a difference must know itself before it may judge
LONGEST_DIFFERENCE = 7  # steps: every entry of every parameter takes four passes, and over many steps L''' outgrows L'
WHOLE = 10  # steps that the complex-step oracle takes at once; of longer sequences each step by itself, see there
SIDE_BY_SIDE = (
    200  # steps in one pass of it; over more, the imaginary parts of a signal would differ by hundreds of decades
)


def rows_of(case: Case, device: str) -> list[Row]:
    """One row an oracle."""
    network = network_of(case, device)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):  # what is not finite is an abstention, and said
        problem = network.problem
        evaluation = rc.evaluate(problem, problem.params, network.x, network.target)
        return [_row(case, network, name, oracle, evaluation) for name, oracle in _oracles(network)]


def _oracles(network: Network) -> Iterator[tuple[str, Callable[[Network, Evaluation], Error]]]:
    """Those that apply, by name."""
    from rnn_core.oracles import torch_modules

    yield "torch.autograd", against_autograd
    module = torch_modules.module_of(network.problem)
    if module is not None:
        yield module, against_module
    yield "complex step", against_complex_step
    if network.problem.experiment.sequence_length <= LONGEST_DIFFERENCE:
        yield "central differences", against_central_differences


def _row(
    case: Case, network: Network, name: str, oracle: Callable[[Network, Evaluation], Error], evaluation: Evaluation
) -> Row:
    error: float | None
    tolerance = DIFFERENCE_TOLERANCE if name == "central differences" else TOLERANCE
    try:
        error, where = oracle(network, evaluation)
    except Abstains as reason:
        error, where = None, str(reason)
    return {
        "cell": case.cell,
        "activation": case.activation,
        "regime": case.regime,
        "sequence_length": case.sequence_length,
        "loss_at": case.loss_at,
        "device": network.problem.device,
        "oracle": name,
        "growth_rate": network.growth_rate,
        "relative_error": error,
        "where": where,
        "tolerance": tolerance,
        "passed": None if error is None else error <= tolerance,
    }


def against_autograd(network: Network, evaluation: Evaluation) -> Error:
    """torch.autograd over our equations, step by step."""
    from rnn_core.oracles import autograd

    problem = network.problem
    return autograd.check(problem, problem.params, network.x, network.target, evaluation)


def against_module(network: Network, evaluation: Evaluation) -> Error:
    """The kernels of torch.nn."""
    from rnn_core.oracles import torch_modules

    direct = evaluation.grad_hidden(0, network.x.shape[0])
    return torch_modules.check(network.problem, network.x, plain(direct), TOLERANCE)


# ---- central differences -----------------------------------------------------------------------------------------------


def against_central_differences(network: Network, evaluation: Evaluation) -> Error:
    """Every entry of every parameter and input, by two values of the loss; with half the step again, to know its own error."""
    from rnn_core.oracles.central_differences import best_step, central_difference

    problem, sides = network.problem, _sides(evaluation.tape)
    found: list[Error] = []
    for name, value in {**problem.params, "x": network.x}.items():
        at = to_numpy(value)
        f = _loss_along(network, name, sides)
        step = best_step(at.dtype) * max(1.0, float(np.abs(at).max()))
        wide, narrow = central_difference(f, at, step), central_difference(f, at, step / 2)
        ours = evaluation.gradients.x if name == "x" else evaluation.param_grads[name]
        pieces = [(f"x, t = {t + 1}", t) for t in range(len(at))] if name == "x" else [(name, slice(None))]
        for where, piece in pieces:
            own = relative_error(wide[piece], narrow[piece])
            if not own <= KNOWN_TO * DIFFERENCE_TOLERANCE:
                raise Abstains("the differences with steps s and s/2 part by more than a quarter of the tolerance")
            found.append(Error(relative_error(to_numpy(plain(ours))[piece], narrow[piece]), where))
    return worst(found)


def _loss_along(network: Network, name: str, sides: list[np.ndarray]) -> Callable[[np.ndarray], float]:
    """The loss as a function of one parameter, or of x, by the engine's forward pass."""

    def loss(value: np.ndarray) -> float:
        x, params = network.x, network.problem.params
        if name == "x":
            x = like(value, x)
        else:
            params = {**params, name: like(value, params[name])}
        found, _, tape, *_ = loss_of(network.problem, params, x, network.target)
        if any((a != b).any() for a, b in zip(sides, _sides(tape), strict=True)):
            raise Abstains("the step reaches over a kink of the activation")
        return found

    return loss


def _sides(tape: rc.Tape) -> list[np.ndarray]:
    """On which side of every kink each preactivation lies."""
    seen = [pair for saved in tape.saved for pair in tape.cell.nonlinearities(saved)]
    return [np.sign(to_numpy(a) - kink) for phi, a in seen for kink in phi.kinks]


# ---- complex step ------------------------------------------------------------------------------------------------------


def against_complex_step(network: Network, evaluation: Evaluation) -> Error:
    """Complex-step differentiation: all parameters, dL/dx, dL/dh (and dL/dc) at every step, the initial state.

    A long sequence is taken step by step: in a chaotic network two sound trajectories part by rounding alone, and what is
    accumulated forward through saturated gates loses digits that the way back keeps. A step starts from the engine's state
    and ends in the engine's dL/dh; what it sends to the state before it must be the dL/dh that the step before ends in.
    """
    from rnn_core.oracles.complex_step import OutOfRange

    tape, T = evaluation.tape, network.x.shape[0]
    if any(isinstance(tape.states(name), Scaled) for name in tape.cell.state_names) or not math.isfinite(
        evaluation.loss
    ):
        raise Abstains("a state or the loss is not finite in plain floats")
    sums: dict[str, Array | Scaled] = {}
    errors: list[Error] = []
    ends = _ends(network, evaluation)
    for steps, starts in _groups(T):
        try:
            shares, found = _segments(network, evaluation, steps, starts, ends)
        except OutOfRange as reason:
            raise Abstains(f"out of the range of the complex step: {_kind(str(reason))}") from None
        errors += found
        for name, share in shares.items():
            sums[name] = rc.scaling.plus(sums[name], share) if name in sums else share
    for name, total in sums.items():
        errors.append(Error(relative_error(evaluation.gradients.params[name], total), name))
    return worst(errors)


def _kind(reason: str) -> str:
    """Without the place and the number, so that reasons can be counted."""
    for known in ("lost to underflow", "no normal float64", "not finite", "too large"):
        if known in reason:
            return known
    return reason


def _groups(T: int) -> Iterator[tuple[int, list[int]]]:
    """(steps in a segment, where segments start): the whole sequence, or its steps, some side by side."""
    if T <= WHOLE:
        yield T, [0]
        return
    for first in range(0, T, SIDE_BY_SIDE):
        yield 1, list(range(first, min(first + SIDE_BY_SIDE, T)))


def _ends(network: Network, evaluation: Evaluation) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What ends a segment after each step, by name: (mantissas (T, B, H), exponents): the total dL/dh_t; and of an LSTM the
    part of dL/dc_t that does not come through h_t, which the segment finds by itself."""
    gradients, tape = evaluation.gradients, evaluation.tape
    hidden, e = parts(gradients.hidden)
    ends = {"hidden": (to_numpy(hidden), e)}
    if "cell" in tape.cell.state_names:
        cell, e_cell = parts(gradients.cell)
        through_h = np.zeros_like(to_numpy(cell))
        for t, saved in enumerate(tape.saved):
            dh = np.ldexp(to_numpy(hidden[t]), int(e[t] - e_cell[t])).T
            zero = like(np.zeros(dh.shape), tape.x)
            through_h[t] = to_numpy(tape.cell.total(saved, {"hidden": like(dh, tape.x), "cell": zero})["cell"]).T
        ends["cell"] = (to_numpy(cell) - through_h, e_cell)
        ends["cell through hidden"] = (through_h, e_cell)
    return ends


def _segments(
    network: Network, evaluation: Evaluation, steps: int, starts: list[int], ends: dict[str, Any]
) -> tuple[dict[str, Scaled], list[Any]]:
    """(parameter gradients, errors at every step) of segments side by side, as if they were samples of one batch.

    A power of two is taken out of all that L consists of, so that signals far from 1 stay in range.
    """
    from rnn_core.oracles.complex_step import complex_step_gradients

    problem, T = network.problem, network.x.shape[0]
    tape, last = evaluation.tape, [start + steps - 1 for start in starts]
    norms = evaluation.gradients.log_norm[np.array(last)]
    e = round(float(norms[np.isfinite(norms)].mean()) / LN2) if np.isfinite(norms).any() else 0
    direct = np.ldexp(to_numpy(plain(evaluation.grad_hidden(0, T))), -e)
    end = {
        n: np.stack([np.ldexp(m[t], int(x[t]) - e) for t in last]).reshape(-1, m.shape[2])
        for n, (m, x) in ends.items()
        if n in tape.cell.state_names
    }
    carries = [direct[start : start + steps].copy() for start in starts]
    for own in carries:
        own[-1] = 0.0  # it is part of what ends the segment
    states = {name: to_numpy(plain(tape.states(name))) for name in tape.cell.state_names}
    blank = np.zeros((network.x.shape[1], direct.shape[2]))
    options = {name: getattr(problem.experiment, f"{problem.experiment.cell}_{name}") for name in problem.cell.options}
    x = to_numpy(network.x)
    found = complex_step_gradients(
        problem.experiment.cell,
        problem.experiment.activation,
        {name: to_numpy(value) for name, value in problem.params.items() if not name.endswith("_ho")},
        np.concatenate([x[start : start + steps] for start in starts], axis=1),
        np.concatenate(carries, axis=1),
        {
            name: np.concatenate([part[start - 1] if start else blank for start in starts])
            for name, part in states.items()
        },
        end,
        {name: value for name, value in options.items() if value is not None},
    )
    return {name: Scaled(value, e) for name, value in found.params.items()}, [
        *_errors(evaluation, found, starts, e),
        *_initial_errors(evaluation, found, starts, e, direct, ends),
    ]


def _errors(evaluation: Evaluation, found: Any, starts: list[int], e: int) -> list[Any]:
    """The relative errors at every step of the segments, and of the initial state."""
    gradients, B = evaluation.gradients, evaluation.tape.x.shape[1]
    named = {"hidden": gradients.hidden, "x": gradients.x, "cell": gradients.cell}
    errors = []
    for name, ours in named.items():
        reference = getattr(found, name)
        if reference is None:
            continue
        for i, start in enumerate(starts):
            for k in range(len(found.steps)):
                part = Scaled(reference[k, i * B : (i + 1) * B], e)
                errors.append(Error(relative_error(ours[start + k], part), f"{name}, t = {start + k + 1}"))
    return errors


def _initial_errors(
    evaluation: Evaluation, found: Any, starts: list[int], e: int, direct: np.ndarray, ends: dict[str, Any]
) -> list[Any]:
    """The errors of what segments send to the state before them, with what else acts on it there: dL/dh_t, or dL/dc_t."""
    gradients, B = evaluation.gradients, evaluation.tape.x.shape[1]
    errors = []
    for name, value in found.state.items():
        for i, start in enumerate(starts):
            sent = value[i * B : (i + 1) * B]
            if start == 0:
                errors.append(Error(relative_error(gradients.state[name], Scaled(sent, e)), f"initial state, {name}"))
                continue
            if name == "hidden":
                sent, ours = sent + direct[start - 1], gradients.hidden[start - 1]
            else:
                m, x = ends["cell through hidden"]
                sent, ours = sent + np.ldexp(m[start - 1], int(x[start - 1]) - e), gradients.cell[start - 1]
            errors.append(Error(relative_error(ours, Scaled(sent, e)), f"{name}, t = {start}"))
    return errors
