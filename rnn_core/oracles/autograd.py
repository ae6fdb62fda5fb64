"""Oracle: torch.autograd over the equations of ``equations.py``, at any length and beyond floating-point range.

Each step is judged by itself. Forward, torch takes one step from the state that the engine reached before it, and must arrive
at the state that the engine reached after it. Backward, autograd takes the engine's own total dL/dh_t (and dL/dc_t) one step back.
It must arrive at the dL/dx_t that the engine has and, with the direct part, at its total dL/dh_{t-1}. At the last step the total is
the direct part alone, so by induction from there every step is checked. A parameter's gradient is the sum of what the steps add to
it. Nothing of the engine's time loop or cells is used.

Of several layers each is judged so. It gets the engine's states of the layer below as inputs, and as the direct part the engine's own
dL/dx_t of the layer above, which is compared there. Of two directions each is, in its own time (``directions.py``).

So the rounding errors of a chaotic network do not pile up until two sound programs part. A fault shows at its own step, and
many steps are one batch. Where an error is large enough to matter, what rounding does to the step is measured. The step is taken
again from numbers that differ in their last digit, and what its result moves by is no error. What the check cannot see is an error
below the tolerance in every single step, however many there are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_core import Tape
from rnn_core.arrays import Array, to_numpy
from rnn_core.experiment import Evaluation, Problem
from rnn_core.oracles import directions, places, rounding, steps, tensors, unrolled
from rnn_core.oracles.compare import Abstains, Error, relative_error, worst
from rnn_core.oracles.problems import named_in, options_of, params_of, recurrences
from rnn_core.oracles.rounding import Precision, Source
from rnn_core.oracles.scaled import by_step, whole
from rnn_core.oracles.tensors import as_tensor, as_tensors
from rnn_core.scaling import Scaled, log_norm, plain

READOUT = ("weight_ho", "bias_ho")


def check(problem: Problem, params: dict[str, Array], x: Array, target: Array, evaluation: Evaluation) -> Error:
    """The worst relative error of one evaluation of the engine: states, loss, dL/dh_t at every t, every parameter gradient.

    Returns:
        The error; infinite where the engine's loss, a state or a gradient of the readout is not finite in plain floats, and
        torch, running the whole sequence by itself, finds them finite.

    Raises:
        Abstains: they are not finite on both sides, so there is nothing to compare.
    """
    p, xt = as_tensors(params), as_tensor(x)
    of_layers = [states_of(layer.tape) for layer in evaluation.layers]
    goal = _goal(problem, target, xt)
    finite = all(part.isfinite().all() for each in of_layers for part in each.values())
    if not (math.isfinite(evaluation.loss) and finite and _finite(evaluation)):
        if _torch_is_finite(problem, p, xt, goal):
            return Error(math.inf, "a result that is finite in PyTorch alone")
        raise Abstains("not finite, on both sides")
    direct = _direct_parts(evaluation)
    errors = [
        *_readout_errors(problem, p, evaluation, of_layers, goal, direct),
        *_errors_of_layers(problem, p, evaluation, of_layers, xt, direct),
    ]
    # What training uses beside the readout's gradients must be what ``backward`` gave, which is compared with the steps' sums.
    for layer, recurrence in zip(evaluation.layers, recurrences(problem), strict=True):
        for name, grad in layer.gradients.params.items():
            used = named_in(name, *recurrence)
            errors.append(Error(relative_error(evaluation.param_grads[used], grad), used))
    return worst(errors)


def _direct_parts(evaluation: Evaluation) -> list[Array | Scaled]:
    """The engine's own direct part of dL/dh_t, of every direction of the last layer in its own time."""
    wanted = (
        [evaluation.grad_hidden] if evaluation.grad_beside is None else [evaluation.grad_hidden, evaluation.grad_beside]
    )
    parts = [part(0, len(evaluation.tape.x)) for part in wanted]
    return [each for each in parts if each is not None]  # none is: the last step carries a loss


def _readout_errors(
    problem: Problem,
    p: dict[str, Tensor],
    evaluation: Evaluation,
    states: list[dict[str, Tensor]],
    goal: Tensor,
    direct: list[Array | Scaled],
) -> list[Error]:
    """Of the outputs, the loss, dL/dy, the readout's gradients, and what is sent to h_t: ``direct`` is the engine's own."""
    main, precision = next(iter(states[-1])), Precision.of(p["weight_ho"])
    hidden = _read(problem, [each[main] for each in states]).double()
    of_main = f"direct part of {main}"
    names = [of_main + places.in_way(direction) for direction in (0, 1)] if len(direct) > 1 else [of_main]
    weights = {name: p[name].double() for name in READOUT}
    loss, dy = loss_gradient(problem, as_tensor(plain(evaluation.output)).double(), goal)
    ours = {name: whole(evaluation.param_grads[name]) for name in READOUT} | {
        "output": whole(plain(evaluation.output)),
        "loss": whole(torch.tensor(evaluation.loss, dtype=torch.float64)),
        "dL/dy": by_step(evaluation.grad_output),
        **{name: by_step(each) for name, each in zip(names, direct, strict=True)},
    }

    def compute(source: Source) -> dict[str, Scaled]:
        moved = {name: precision.moved(value, source) for name, value in weights.items()}
        y, dh, grads = through_readout(problem, moved, precision.moved(hidden, source), precision.moved(dy, source))
        of_readout = {name: whole(each) for name, each in {"output": y, "loss": loss, **grads}.items()}
        sent = map(by_step, _direct_of_directions(problem, dh))
        return of_readout | {"dL/dy": by_step(dy), **dict(zip(names, sent, strict=True))}

    def floors() -> dict[str, int]:
        through, terms = precision.lost(p["weight_ho"]), math.frexp(hidden[..., 0].numel())[1]
        of_sums = dict.fromkeys(READOUT, precision.lost(hidden) + terms)
        of_direct = dict.fromkeys(names, through)
        return of_sums | of_direct | {"output": through, "loss": precision.lost(), "dL/dy": precision.lost()}

    size = max(log_norm(_readout(problem, weights, hidden)), log_norm(_numbers_of(goal)))
    errors = rounding.judged(compute, ours.__getitem__, precision.eps, floors, {"output": size})
    return [
        Error(float(each.max()), places.at_step(name, int(each.argmax()) + 1) if name in names else name)
        for name, each in errors.items()
    ]


def _read(problem: Problem, states: list[Tensor]) -> Tensor:
    """What the readout reads of the states of all recurrences, (T, B, units): of two directions both, side by side.

    Where the last step alone is read, both stay in their own time, so that it is the last of each.
    """
    if not problem.experiment.bidirectional:
        return states[-1].reshape(*states[-1].shape[:2], -1)
    both = states[-2:]
    return directions.given_by(both) if problem.task.outputs_at == "every" else torch.cat(both, dim=2)


def _direct_of_directions(problem: Problem, direct: Tensor) -> list[Tensor]:
    """dL/d(what the readout reads) as the direct part of each direction, in its own time."""
    if not problem.experiment.bidirectional:
        return [direct]
    forward, reverse = direct.chunk(2, dim=2)
    return [forward, torch.flip(reverse, [0]) if problem.task.outputs_at == "every" else reverse]


def _numbers_of(goal: Tensor) -> Tensor:
    """Targets that outputs can be compared with in size; of labels nothing."""
    return goal.double().nan_to_num() if goal.is_floating_point() else goal.new_zeros(1, dtype=torch.float64)


def _errors_of_layers(
    problem: Problem,
    p: dict[str, Tensor],
    evaluation: Evaluation,
    states: list[dict[str, Tensor]],
    x: Tensor,
    direct: list[Array | Scaled],
) -> list[Error]:
    """Of every layer and direction by itself: its inputs are the states below it, its direct part what the engine claims to send."""
    if len(states) == 1:
        return _recurrent_errors(problem, p, evaluation, states[-1], x, direct[0])
    sides, errors = len(direct), []
    for index, (layer, direction) in enumerate(recurrences(problem)):
        above = [each.gradients.x for each in evaluation.layers[sides * (layer + 1) :][:sides]]
        given = directions.sent_to(above, direction) if above else direct[direction]
        below = [each["hidden"] for each in states[sides * (layer - 1) : sides * layer]] if layer else []
        inputs = directions.turned(directions.given_by(below) if below else x, direction)
        step = steps.Step(step_of(problem), params_of(problem, p, layer, direction), inputs, given)
        of_layer = steps.recurrent_errors(evaluation.layers[index].gradients, states[index], step)
        errors += [Error(each.relative, each.where + place_of(problem, layer, direction)) for each in of_layer]
    return errors


def place_of(problem: Problem, layer: int, direction: int) -> str:
    """Where an error is, behind the step or parameter; nothing in a network of one layer and direction."""
    way = places.in_way(direction) if problem.experiment.bidirectional else ""
    return (places.in_layer(layer + 1) if problem.layers > 1 else "") + way


def _recurrent_errors(
    problem: Problem,
    p: dict[str, Tensor],
    evaluation: Evaluation,
    states: dict[str, Tensor],
    x: Tensor,
    direct: Array | Scaled,
) -> list[Error]:
    """By the oracles' equations; of a user's own cell by its module, which has the only ones."""
    if not problem.cell.opaque:
        return steps.recurrent_errors(evaluation.gradients, states, steps.Step(step_of(problem), p, x, direct))
    module, start = module_of(problem, p, x)
    return unrolled.recurrent_errors(evaluation.gradients, states, module, start, x, direct)


def module_of(problem: Problem, p: dict[str, Tensor], x: Tensor) -> tuple[unrolled.Module, dict[str, Tensor]]:
    """(the module of a user's own cell, the state that it starts from)."""
    cell: Any = problem.cell
    bound, start = cell.bound(p, x, None)
    own = {name: p[name] for name in cell.params()}
    module = unrolled.Module(cell.module, bound._form, own, cell.complex_parameters)
    return module, {name: start[name].detach() for name in bound.state_names}


def states_of(tape: Tape) -> dict[str, Tensor]:
    """The engine's states after every step by name, each (T, B, H), in plain floats."""
    return {name: as_tensor(plain(tape.states(name))) for name in tape.cell.state_names}


def _goal(problem: Problem, target: Array, x: Tensor) -> Tensor:
    """The target of the steps with an output, time first."""
    goal = torch.as_tensor(to_numpy(target), device=x.device)
    return goal if problem.task.outputs_at == "every" else goal[None]


def _readout(problem: Problem, p: dict[str, Tensor], hidden: Tensor) -> Tensor:
    h = hidden if problem.task.outputs_at == "every" else hidden[-1:]
    return h @ p["weight_ho"].T + p["bias_ho"]


def _finite(evaluation: Evaluation) -> bool:
    plain = [g for g in evaluation.param_grads.values() if not isinstance(g, Scaled)]
    norms = [layer.gradients.log_norm for layer in evaluation.layers]
    return not np.isnan(norms).any() and all(np.isfinite(to_numpy(g)).all() for g in plain)


def _torch_is_finite(problem: Problem, p: dict[str, Tensor], x: Tensor, goal: Tensor) -> bool:
    """Whether torch, running the whole sequence by itself, meets only states, a loss and gradients that are finite."""
    inputs, of_layers = x, []
    for layer, direction in recurrences(problem):
        own = params_of(problem, p, layer, direction) if problem.experiment.several_recurrences else p
        of_layers.append(_states_by_torch(problem, own, directions.turned(inputs, direction)))
        if direction == problem.directions - 1:
            inputs = directions.given_by(of_layers[-problem.directions :])
    hidden = _read(problem, of_layers)
    y = _readout(problem, p, hidden)
    loss, dy = loss_gradient(problem, y, goal)
    _, direct, readout_grads = through_readout(problem, p, hidden, dy)
    results = [loss, direct, *of_layers, *readout_grads.values()]
    # A sum in another order may leave the range: only what is well within it says that the engine should have stayed there.
    most = torch.finfo(y.dtype).max * 2.0**-rounding.LEEWAY
    return all(bool((result.abs() <= most).all()) for result in results)


def _states_by_torch(problem: Problem, p: dict[str, Tensor], x: Tensor) -> Tensor:
    """The states of one layer, the first part's numbers side by side, (T, B, units)."""
    step, state = _step_and_start(problem, p, x)
    states = []
    for x_t in x.unbind(0):
        state = step(x_t, state)
        states.append(next(iter(state.values())).reshape(x.shape[1], -1))
    return torch.stack(states)


def _step_and_start(
    problem: Problem, p: dict[str, Tensor], x: Tensor
) -> tuple[Callable[[Tensor, dict[str, Tensor]], dict[str, Tensor]], dict[str, Tensor]]:
    if problem.cell.opaque:
        module, start = module_of(problem, p, x)
        return module.step, start
    blank = torch.zeros(x.shape[1], problem.experiment.hidden_size, dtype=x.dtype, device=x.device)
    return partial(step_of(problem), p), dict.fromkeys(problem.cell.state_names, blank)


def loss_gradient(problem: Problem, output: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, dL/dy) at the engine's own outputs, which are checked by themselves.

    Where training has succeeded, output minus target is made of rounding errors, and two sound programs have different ones.
    """
    y = output.detach().clone().requires_grad_()
    loss = tensors.mean_loss(problem.task.loss, y, target.to(y) if target.is_floating_point() else target)
    (dy,) = torch.autograd.grad(loss, y)
    return loss.detach(), dy


def through_readout(
    problem: Problem, p: dict[str, Tensor], hidden: Tensor, dy: Tensor
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """(outputs, direct dL/dh_t (T, B, H), readout gradients)."""
    h = hidden.detach().clone().requires_grad_()
    leaves = {name: p[name].clone().requires_grad_() for name in READOUT}
    outputs = _readout(problem, leaves, h)
    dh, *grads = torch.autograd.grad(outputs, (h, *leaves.values()), grad_outputs=dy)
    return outputs.detach(), dh, dict(zip(READOUT, grads, strict=True))


def step_of(problem: Problem) -> tensors.Step:
    """One step of the oracles' equations, with the activation and the options of the problem's settings."""
    return tensors.step_of(problem.experiment.cell, problem.experiment.activation, options_of(problem))
