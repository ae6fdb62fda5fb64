"""Oracle: torch.autograd over our equations, at any length and beyond floating-point range.

Every step is run forward by torch from the state that the engine reached before it, and must arrive at the state that the
engine reached after it; by induction the whole forward pass is checked, and the rounding errors of a chaotic network cannot
pile up until the two trajectories part. Backward, autograd differentiates step after step, last first, and the signal in
between is rescaled by powers of two. Nothing of ``bptt.py`` or ``cells/`` is used.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rnn_core import Gradients, Tape
from rnn_core.arrays import Array, to_numpy
from rnn_core.experiment import Evaluation, Problem
from rnn_core.oracles import equations
from rnn_core.oracles.compare import Error, relative_error, worst, worst_step
from rnn_core.scaling import Scaled, plain, times_power_of_two, top_exponent


class NotFinite(Exception):
    """The engine's own result is not finite."""


@dataclass(frozen=True)
class Reference:
    """What autograd found: dL/dh_t (and dL/dc_t) and dL/dx_t for t = 1 … T, dL/d(initial state), dL/d(parameter), and the worst
    forward error."""

    states: dict[str, list[Scaled]]
    x: list[Scaled]
    initial: dict[str, Scaled]
    params: dict[str, Scaled]
    forward: Error


def check(problem: Problem, params: dict[str, Array], x: Array, target: Array, evaluation: Evaluation) -> Error:
    """The worst relative error of one evaluation of the engine: states, loss, dL/dh_t at every t, every parameter gradient.

    Raises:
        NotFinite: the engine's loss, a state or a gradient of the readout is not finite in plain floats, so there is nothing
            to compare; ``confirms_nonfinite`` asks torch whether it agrees.
    """
    p, xt = as_tensors(params), as_tensor(x)
    states = states_of(evaluation.tape)
    goal = _goal(problem, target, xt)
    if not (
        math.isfinite(evaluation.loss) and all(s.isfinite().all() for s in states.values()) and _finite(evaluation)
    ):
        raise NotFinite
    output = as_tensor(plain(evaluation.output))
    loss, dy, direct, readout_grads = loss_gradients(problem, p, states["hidden"], goal, output)
    reference = recurrent_gradients(problem, p, xt, states, direct)
    ours = evaluation.grad_hidden(0, len(xt))
    assert ours is not None
    errors = [
        Error(_output_error(plain(evaluation.output), _readout(problem, p, states["hidden"]), goal), "output"),
        Error(_relative(evaluation.loss, loss), "loss"),
        Error(relative_error(evaluation.grad_output, dy), "dL/dy"),
        worst_step("direct part of hidden", ours, direct),
        *compare_recurrent(evaluation.gradients, reference),
    ]
    expected: dict[str, Array | Scaled] = {**reference.params, **readout_grads}
    errors += [Error(relative_error(grad, expected[name]), name) for name, grad in evaluation.param_grads.items()]
    return worst(errors)


def states_of(tape: Tape) -> dict[str, Tensor]:
    """The engine's states after every step by name, each (T, B, H), in plain floats."""
    return {name: as_tensor(plain(tape.states(name))) for name in tape.cell.state_names}


def compare_recurrent(ours: Gradients, reference: Reference) -> list[Error]:
    """The errors of every field of ``Gradients``, and of the states."""
    errors = [reference.forward]
    for t, dx in enumerate(reference.x):
        errors.append(Error(relative_error(ours.x[t], dx), f"x, t = {t + 1}"))
    for name, log_norm in (("hidden", ours.log_norm), ("cell", ours.log_norm_cell)):
        for t, d in enumerate(reference.states.get(name, [])):
            assert log_norm is not None
            errors.append(Error(relative_error(getattr(ours, name)[t], d), f"{name}, t = {t + 1}"))
            errors.append(Error(_log_error(float(log_norm[t]), d.log_norm()), f"log_norm of {name}, t = {t + 1}"))
    for name, initial in reference.initial.items():
        errors.append(Error(relative_error(ours.state[name], initial), f"initial state, {name}"))
    return errors + [Error(relative_error(grad, reference.params[name]), name) for name, grad in ours.params.items()]


def _goal(problem: Problem, target: Array, x: Tensor) -> Tensor:
    """The target of the steps with an output, time first."""
    goal = torch.as_tensor(to_numpy(target), device=x.device)
    return goal if problem.task.outputs_at == "every" else goal[None]


def _readout(problem: Problem, p: dict[str, Tensor], hidden: Tensor) -> Tensor:
    h = hidden if problem.task.outputs_at == "every" else hidden[-1:]
    return h @ p["weight_ho"].T + p["bias_ho"]


def _output_error(ours: Array, reference: Tensor, target: Tensor) -> float:
    """Relative to the larger of outputs and targets: what training brings to zero is their difference."""
    y, expected = to_numpy(ours).astype(np.float64), to_numpy(reference).astype(np.float64)
    size = float(np.linalg.norm(expected))
    if target.is_floating_point():
        size = max(size, float(np.linalg.norm(np.nan_to_num(to_numpy(target).astype(np.float64)))))
    return float(np.linalg.norm(y - expected)) / size if size else 0.0 if not y.any() else math.inf


def _relative(ours: float, reference: float) -> float:
    return abs(ours - reference) / abs(reference) if reference else 0.0 if ours == 0.0 else math.inf


def _log_error(ours: float, reference: float) -> float:
    """The relative error of a norm given by its logarithm, beyond what rounding does to a logarithm of this size."""
    if ours == reference:
        return 0.0
    rounding = 4.0 * max(1.0, abs(reference)) * float(np.finfo(np.float64).eps)
    return max(0.0, abs(math.expm1(min(ours - reference, 700.0))) - rounding) if math.isfinite(reference) else math.inf


def _finite(evaluation: Evaluation) -> bool:
    plain = [g for g in evaluation.param_grads.values() if not isinstance(g, Scaled)]
    return not np.isnan(evaluation.gradients.log_norm).any() and all(np.isfinite(to_numpy(g)).all() for g in plain)


def confirms_nonfinite(problem: Problem, params: dict[str, Array], x: Array, target: Array) -> bool:
    """Whether torch, running the whole sequence by itself, also meets a state, loss or gradient that is not finite."""
    step, phi = step_of(problem), equations.ACTIVATIONS[problem.experiment.activation]
    p, xt = as_tensors(params), as_tensor(x)
    blank = torch.zeros(xt.shape[1], p["weight_hh"].shape[1], dtype=xt.dtype, device=xt.device)
    state, states = dict.fromkeys(problem.cell.state_names, blank), []
    for x_t in xt.unbind(0):
        state = step(p, phi, x_t, state)
        states.append(state["hidden"])
    goal, hidden = _goal(problem, target, xt), torch.stack(states)
    loss, _, direct, readout_grads = loss_gradients(problem, p, hidden, goal, _readout(problem, p, hidden))
    parts = [direct, hidden, *readout_grads.values()]
    return not (math.isfinite(loss) and all(bool(part.isfinite().all()) for part in parts))


def loss_gradients(
    problem: Problem, p: dict[str, Tensor], hidden: Tensor, target: Tensor, output: Tensor
) -> tuple[float, Tensor, Tensor, dict[str, Tensor]]:
    """(loss, dL/dy, direct dL/dh_t (T, B, H), readout gradients) from the engine's states and outputs.

    The loss is differentiated at the engine's own outputs, which are checked by themselves: where training has succeeded,
    output minus target is made of rounding errors, and two sound programs have different ones.
    """
    y = output.detach().clone().requires_grad_()
    loss = equations.mean_loss(problem.task.loss, y, target)
    (dy,) = torch.autograd.grad(loss, y)
    h = hidden.detach().clone().requires_grad_()
    w, b = p["weight_ho"].clone().requires_grad_(), p["bias_ho"].clone().requires_grad_()
    outputs = _readout(problem, {"weight_ho": w, "bias_ho": b}, h)
    dh, dw, db = torch.autograd.grad(outputs, (h, w, b), grad_outputs=dy)
    return float(loss.detach()), dy, dh, {"weight_ho": dw, "bias_ho": db}


def step_of(problem: Problem) -> equations.Step:
    """One step of our equations with the cell's options."""
    e, step = problem.experiment, equations.STEPS[problem.experiment.cell]
    options = {name: getattr(e, f"{e.cell}_{name}") for name in problem.cell.options}
    return functools.partial(step, **{name: value for name, value in options.items() if value is not None})


def recurrent_gradients(
    problem: Problem,
    p: dict[str, Tensor],
    x: Tensor,
    states: dict[str, Tensor],
    direct: Tensor,
    step: equations.Step | None = None,
    cell_seen: bool = True,
) -> Reference:
    """All gradients from the engine's states (each (T, B, H)) and the direct parts dL/dh_t (T, B, H).

    The initial state is zero; ``step`` is one step forward, by default that of our equations. ``cell_seen`` says that its h_t
    is computed from the c_t that it returns, so that the total dL/dc_t can be found.
    """
    step = step or step_of(problem)
    phi = equations.ACTIVATIONS[problem.experiment.activation]
    leaves = {name: value.clone().requires_grad_() for name, value in p.items() if not name.endswith("_ho")}
    blank = {name: torch.zeros_like(part[0]) for name, part in states.items()}
    signal = {name: Scaled(part, 0) for name, part in blank.items()}  # what the future sends to the state after step t
    sums = {name: Scaled(torch.zeros_like(p[name]), 0) for name in leaves}
    totals: dict[str, list[Scaled]] = {name: [] for name in states if name == "hidden" or cell_seen}
    inputs, forward_error = [], Error(0.0, "state")
    for t in reversed(range(x.shape[0])):
        before = {name: (part[t - 1] if t else blank[name]).clone().requires_grad_() for name, part in states.items()}
        x_t = x[t].clone().requires_grad_()
        after = step(leaves, phi, x_t, before)
        for name, part in after.items():
            error = relative_error(states[name][t], part.detach())
            forward_error = worst([forward_error, Error(error, f"state {name}, t = {t + 1}")])
        total = _common({**signal, "hidden": _sum(signal["hidden"], Scaled(direct[t], 0))})
        e = int(total["hidden"].exponent)
        outputs, given = list(after.values()), [total[name].mantissa for name in after]
        totals["hidden"].append(total["hidden"])
        if "cell" in totals:  # all that c_t does, through h_t too
            (dc,) = torch.autograd.grad(outputs, after["cell"], grad_outputs=given, retain_graph=True)
            totals["cell"].append(Scaled(dc, e))
        found = torch.autograd.grad(outputs, [*before.values(), x_t, *leaves.values()], grad_outputs=given)
        signal = {name: Scaled(d, e) for name, d in zip(before, found, strict=False)}
        inputs.append(Scaled(found[len(before)], e))
        own = found[len(before) + 1 :]
        sums = {name: _sum(sums[name], Scaled(g, e)) for name, g in zip(leaves, own, strict=True)}
    ordered = {name: found[::-1] for name, found in totals.items()}
    return Reference(ordered, inputs[::-1], signal, sums, forward_error)


def _common(parts: dict[str, Scaled]) -> dict[str, Scaled]:
    """The same values at one exponent, the largest mantissa between 1/2 and 1."""
    tops = [top + int(v.exponent) for v in parts.values() if (top := top_exponent(v.mantissa)) is not None]
    e = max(tops, default=0)
    return {name: Scaled(times_power_of_two(v.mantissa, int(v.exponent) - e), e) for name, v in parts.items()}


def _sum(a: Scaled, b: Scaled) -> Scaled:
    """a + b, the larger one's mantissa between 1/2 and 1."""
    tops = [top + int(part.exponent) for part in (a, b) if (top := top_exponent(part.mantissa)) is not None]
    if not tops:
        return a
    parts = [times_power_of_two(part.mantissa, int(part.exponent) - max(tops)) for part in (a, b)]
    return Scaled(parts[0] + parts[1], max(tops))


def as_tensor(array: Array) -> Tensor:
    return torch.as_tensor(array).detach()


def as_tensors(params: dict[str, Array]) -> dict[str, Tensor]:
    return {name: as_tensor(value) for name, value in params.items()}
