"""The proof of a user's own cell, before any of its runs: what it is, is checked once, and told in its own words.

For the ends of every range that a sweep has: torch goes back through the unrolled sequence and must meet the engine's gradients; the
derivative of single steps must be that of central differences; each sample alone must do what it does in its batch; the same seed must
draw the same parameters.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import rnn_core as rc
from rnn_core.cells.own.step import equal_but_for_rounding
from rnn_core.experiment import OWN_CELLS, Evaluation, OwnCell, Problem
from rnn_core.oracles import autograd, samples_apart
from rnn_core.oracles.compare import Error
from rnn_core.oracles.tensors import as_tensors
from rnn_core.probing.derivatives import BY_HAND, SOUND, spread_steps, states_before
from rnn_core.tape import Tape
from study.own_cells.described import ALONE, DIFFERENCES
from study.own_cells.loading import CellError, described, place_in
from study.runs import gate
from study.runs.checks import CheckFailed, Row, autograd_row, describe, require, settings_of, spectra_rows

LONGEST, LONGEST_OF_STEPS = 1000, 200  # steps of a sequence that is checked; a run's verification takes all of them


def table(
    cell: str,
    sweeps: dict[str, Any],
    data: dict[str, rc.Sequences],
    device: str,
    tolerance: dict[str, float],
    spectra: bool = False,
) -> dict[str, list[Any]]:
    """The columns of the table ``checks``, of all cases of one cell.

    Args:
        spectra: whether the study asks for spectra. Their exact identities are then checked, too.

    Raises:
        CellError: the cell is no step, or draws other parameters each time.
        CheckFailed: it or the engine is wrong by more than the tolerance.
    """
    own, rows, seen = OWN_CELLS[cell], defaultdict(list), set()
    for sweep, experiment in gate.cases(sweeps, cell, LONGEST):
        alike = experiment.task, experiment.cell_options, experiment.hidden_size, experiment.input_size
        try:
            checked = _rows(
                experiment, data.get(experiment.task), device, tolerance[experiment.dtype], alike not in seen, spectra
            )
        except (CellError, CheckFailed):
            raise
        except Exception as error:
            where = place_in(own.source, error) or place_in(own.source, error.__cause__)  # of a step that failed
            if not (where or isinstance(error, ValueError)):  # the engine's words of a bad step are a ValueError
                raise
            raise CellError(f"{_words(own)}{where}: {_said(error)}, in {describe(experiment)}") from error
        seen.add(alike)
        for row in checked:
            for name, value in {"sweep": sweep, **row}.items():
                rows[name].append(value)
    return rows


def _rows(
    experiment: rc.Experiment, data: rc.Sequences | None, device: str, tolerance: float, steps: bool, spectra: bool
) -> list[Row]:
    """One row a check of one case. ``steps``: single steps are looked at as well; ``spectra``: and exact identities of spectra."""
    problem = rc.prepare(experiment, data, device)
    _require_same_draw(problem, rc.prepare(experiment, data, device))
    x, target = problem.batch(0)
    with np.errstate(over="ignore", invalid="ignore"):
        evaluation = rc.evaluate(problem, problem.params, x, target)
        _require_same_states(problem, evaluation.tape)
        _require_numbers(problem, evaluation)
        common = {**settings_of(problem, evaluation, tolerance), "stage": "gate"}
        rows = [{**common, **autograd_row(problem, problem.params, x, target, evaluation)}]
        rows += [{**common, **row} for row in (spectra_rows(problem, evaluation) if spectra else [])]
    rows += [{**common, **row} for row in (_step_rows(experiment, data, tolerance) if steps else [])]
    for row in rows:
        require(row, experiment, row["tolerance"])
    return rows


def _require_same_draw(problem: Problem, again: Problem) -> None:
    for name, value in problem.params.items():
        if not torch.equal(value, again.params[name]):
            raise CheckFailed(
                f"{_words(OWN_CELLS[problem.experiment.cell])}: the same seed draws two values of {name}. Draw parameters by torch's own "
                "functions (torch.rand, nn.init), which the study seeds, and not by NumPy or random"
            )


def _require_same_states(problem: Problem, before: Tape) -> None:
    """A module with a state of its own that acts late runs the same sequence in two ways. Then no oracle that calls it can agree.

    Args:
        before: of the same parameters and inputs, when the module had been called less often.
    """
    if before.x.is_cuda:  # there rounding differs from call to call, and a chaotic state with it
        return
    again = rc.forward(problem.cell, problem.params, before.x)
    for name in before.cell.state_names:
        for t, (first, second) in enumerate(zip(before.states(name), again.states(name), strict=True)):
            if not equal_but_for_rounding(second, first):
                raise CheckFailed(
                    f"{_words(OWN_CELLS[problem.experiment.cell])}: run twice from the same parameters and inputs, it gives another "
                    f"{name!r} at step t = {t + 1}. The module keeps a state of its own between calls, as a counter. What changes from step to "
                    f"step belongs into the state that is passed; in {describe(problem.experiment)}"
                )


def _require_numbers(problem: Problem, evaluation: Evaluation) -> None:
    """A step that makes nan has a mistake, unless the network leaves the range of floats."""
    tape = evaluation.tape
    if (t := tape.first_nonfinite_step) is None:
        return
    name, part = next(
        (name, states[t - 1])
        for name in tape.cell.state_names
        if not (states := tape.states(name))[t - 1].isfinite().all()
    )
    if bool(part.isnan().any()):
        before = "its inputs and the state before are finite" if t > 1 else "it starts from its own state"
        raise CheckFailed(
            f"{_words(OWN_CELLS[problem.experiment.cell])}: step t = {t} gives nan in {name!r}; {before}. Look for 0/0, ∞ − ∞, or the "
            f"logarithm or root of a negative number; in {describe(problem.experiment)}"
        )


def _step_rows(experiment: rc.Experiment, data: rc.Sequences | None, tolerance: float) -> list[Row]:
    """Single steps, in float64 whatever the run's own floats: central differences need the digits."""
    T = min(experiment.sequence_length, LONGEST_OF_STEPS)
    problem = rc.prepare(replace(experiment, dtype="float64", sequence_length=T), data)
    x, _ = problem.batch(0)
    tape = rc.forward(problem.cell, problem.params, x)
    derivatives = rc.check_derivatives(problem.cell, x, steps=None)
    if not derivatives.relative <= SOUND:
        _require_same_states(problem, tape)
        raise CheckFailed(_of_wrong_derivative(experiment, derivatives))
    module, _ = autograd.module_of(problem, as_tensors(problem.params), x)
    chosen = spread_steps(tape.first_nonfinite_step or len(x), samples_apart.STEPS)
    states = states_before(tape, chosen)
    before = {int(t): {name: part[k] for name, part in states.items()} for k, t in enumerate(chosen)}
    alone = samples_apart.sample_error(module, x, before)
    return [
        {"oracle": DIFFERENCES, "relative_error": derivatives.relative, "where": derivatives.where if derivatives.relative else "nothing beyond rounding", "tolerance": SOUND},
        {"oracle": ALONE, "relative_error": alone.relative, "where": alone.where, "tolerance": min(tolerance, 1e-10)},
    ]  # fmt: skip


def _of_wrong_derivative(experiment: rc.Experiment, error: Error) -> str:
    where, _, by_hand = error.where.partition(BY_HAND)
    look = (
        f"The backward of {by_hand.replace(', ', ' or ')} is written by hand: look there"
        if by_hand
        else "Something cuts or replaces the gradient on its way: detach, .data, no_grad, or a hook"
    )
    return f"{_words(OWN_CELLS[experiment.cell])}: its derivative is wrong: {where}. {look}; in {describe(experiment)}"


def _words(own: OwnCell) -> str:
    return f"Your own cell {own.name} ({own.source})"


def _said(error: Exception) -> str:
    return str(error).rstrip(".") if isinstance(error, ValueError) else described(error)
