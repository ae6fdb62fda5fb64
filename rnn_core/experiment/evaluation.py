"""Loss and gradients of one batch: the network, its readout and the loss function together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rnn_core import bptt, ragged, readout
from rnn_core.arrays import Array, Params, namespace, to_numpy
from rnn_core.bptt import Gradients, Layer
from rnn_core.choices import ByName
from rnn_core.clipping import Gradient
from rnn_core.experiment.arguments import check_problem, check_readout, check_target
from rnn_core.experiment.problem import Problem
from rnn_core.losses import LOSSES, carries_target, scaled_squared_error
from rnn_core.scaling import Scaled, add, concat, mantissa_and_exponents, plain, plain_if_fits
from rnn_core.tape import Tape
from rnn_core.tasks import Task


class DirectPart:
    """The immediate dL/dh_t = W_ho^T dL/dy_t, computed for the steps that are asked for.

    Called with (start, stop) it gives the rows start … stop - 1, shape (steps, B, H), or None where none of them carries a
    loss. Outputs at fewer steps than the sequence has are those of its last steps. Where a state has another shape than (B, H),
    rows have it too: ``shape`` is that of one sample.

    Attributes:
        first: rows before it are zero.
    """

    def __init__(self, params: Params, dy: Array | Scaled, steps: int, shape: tuple[int, ...] | None = None) -> None:
        self.params, self.dy, self.first = params, dy, steps - dy.shape[0]
        self.shape = (params["weight_ho"].shape[1],) if shape is None else shape

    def __call__(self, start: int, stop: int) -> Array | Scaled | None:
        if stop <= self.first:
            return None
        rows = self._shaped(
            readout.input_gradient(self.params, self.dy[max(start - self.first, 0) : stop - self.first])
        )
        missing = max(self.first - start, 0)
        if not missing:
            return rows
        m, e = mantissa_and_exponents(rows)
        xp = namespace(m)
        zeros = xp.zeros((missing, *m.shape[1:]), dtype=m.dtype, device=m.device)
        return plain_if_fits(xp.concat([zeros, m]), np.concatenate([np.zeros(missing, dtype=np.int64), e]))

    def _shaped(self, rows: Array | Scaled) -> Array | Scaled:
        """(steps, B, units) as the states are shaped."""
        if len(self.shape) == 1:
            return rows
        if isinstance(rows, Scaled):
            return Scaled(self._shaped(rows.mantissa), rows.exponent)
        return namespace(rows).reshape(rows, (*rows.shape[:2], *self.shape))


@dataclass(frozen=True, repr=False)
class Evaluation:
    """Loss and gradients of one batch.

    Attributes:
        update: the number of updates made before it.
        loss: mean over the samples and steps that carry a target.
        accuracy: fraction of right labels; nan for a regression.
        tape: the forward pass; of several layers that of the last, which the readout reads; of two directions the forward one's.
        output, grad_output: y and dL/dy of the steps with an output, (T, B, C) or (1, B, C).
        grad_hidden: the direct part of dL/dh_t.
        gradients: from ``backward``; of several layers and directions those of ``tape``.
        param_grads: of all parameters, those of the readout and of all layers included.
        ends: for ragged sequences, the number of steps until the last target of each, (B,). Otherwise None.
        below: the layers below the last, the first layer first; of two directions the forward one before the reverse one.
        beside: the reverse direction of the last layer, with its ``grad_beside``, both in its own time. None of one direction.
    """

    update: int
    loss: float
    accuracy: float
    tape: Tape
    output: Array | Scaled
    grad_output: Array | Scaled
    grad_hidden: DirectPart
    gradients: Gradients
    param_grads: Gradient
    ends: np.ndarray | None = None
    below: tuple[Layer, ...] = ()
    beside: Layer | None = None
    grad_beside: DirectPart | None = None

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers with both passes, the first layer first; of two directions the forward one before the reverse one."""
        beside = () if self.beside is None else (self.beside,)
        number = len(self.below) // (1 + len(beside))
        return (*self.below, Layer(self.tape, self.gradients, number), *beside)

    def backward(self, **options: Any) -> dict[str, Array | Scaled]:
        """The gradients of the cell's parameters, of all layers, by another backward pass with these ``options`` of ``backward``."""
        tapes, direct = [layer.tape for layer in self.layers], self.grad_hidden
        if self.beside is None:
            return bptt.stack_gradients(bptt.back_through_stack(tapes, direct, **options))
        both = bptt.back_through_stack(tapes, (direct, self.grad_beside), **options)
        return bptt.stack_gradients(both, bidirectional=True)

    def first_nonfinite_step(self) -> int | None:
        """The step t = 1 … T where a number stopped being finite; None where all are.

        It is the first t whose state, in any layer and direction, or output plain floats do not hold. Where there is none, it is the
        first on the way back, the largest t, whose gradient is not finite.
        """
        xp = namespace(self.tape.x)
        finite = to_numpy(xp.all(xp.isfinite(plain(self.output)), axis=2))
        if self.ends is not None:
            finite = finite | (np.arange(len(finite))[:, None] >= self.ends)
        broken_outputs = np.flatnonzero(~finite.all(axis=1))
        steps = [self.grad_hidden.first + int(t) + 1 for t in broken_outputs[:1]]
        T = len(self.gradients.log_norm)
        for layer in self.layers:
            s = layer.tape.first_nonfinite_step
            steps += [] if s is None else [T + 1 - s if layer.direction else s]
        if steps:
            return min(steps)
        norms = np.array([bptt.in_own_time(layer.gradients.log_norm, layer.direction) for layer in self.layers])
        broken = np.flatnonzero((np.isnan(norms) | (norms == np.inf)).any(axis=0))
        return int(broken[-1]) + 1 if broken.size else None

    def __repr__(self) -> str:
        T, B, _ = self.tape.x.shape
        return f"Evaluation(update={self.update}, loss={self.loss:.4g}, accuracy={self.accuracy:.4g}, T={T}, B={B})"


def evaluate(
    problem: Problem,
    params: Params,
    x: Array,
    target: Array,
    update: int = 0,
    memory_budget: int | None = None,
    tape: Tape | None = None,
) -> Evaluation:
    """Loss and all gradients of one batch, by the engine.

    Args:
        problem: from ``prepare``.
        params: those of the cell and of the readout, as in ``problem.params``.
        x: (T, B, D).
        target: as ``problem.batch`` gives it for this task.
        memory_budget: in bytes, for the tape: see ``forward``. Several layers take none.
        tape: of the same parameters and x, where there is one already; of a single layer.

    Raises:
        TypeError: an argument is not what its name says.
        ValueError: a shape, dtype or name does not fit.
    """
    loss, accuracy, tapes, y, dy = loss_of(problem, params, x, target, memory_budget, tape)
    of_last = _of_last_layer(problem, tapes)
    direct = _direct_parts(problem, params, dy, of_last)
    gradients = bptt.back_through_stack(tapes, direct if len(direct) > 1 else direct[0])
    param_grads, start = ByName(bptt.stack_gradients(gradients, len(direct) > 1)), 0
    for h in _states_with_output(of_last, problem.task.outputs_at):
        stop = start + h.shape[0]
        for name, share in readout.parameter_gradients(params, h, dy[start:stop]).items():
            param_grads[name] = add(param_grads[name], share) if start else share
        start = stop
    for name in params.keys() - param_grads.keys():  # a user's module may have parameters that it does not train
        param_grads[name] = namespace(params[name]).zeros_like(params[name])
    ends = ragged.ends_of(target) if problem.task.ragged else None
    layers = [Layer(t, g, *divmod(i, len(direct))) for i, (t, g) in enumerate(zip(tapes, gradients, strict=True))]
    *below, main = layers[: len(layers) - len(direct) + 1]
    beside = (layers[-1], direct[1]) if len(direct) > 1 else ()
    return Evaluation(
        update, loss, accuracy, main.tape, y, dy, direct[0], main.gradients, param_grads, ends, tuple(below), *beside
    )


class Loss(NamedTuple):
    """The forward half of ``Evaluation``: its loss, accuracy, the tapes of all layers and directions, output and grad_output."""

    loss: float
    accuracy: float
    tapes: list[Tape]
    output: Array | Scaled
    grad_output: Array | Scaled


def loss_of(
    problem: Problem,
    params: Params,
    x: Array,
    target: Array,
    memory_budget: int | None = None,
    tape: Tape | None = None,
) -> Loss:
    """The loss of one batch, without its gradients. Arguments and errors are those of ``evaluate``."""
    check_problem(problem, params, Problem)
    several = problem.experiment.several_recurrences
    if tape is not None and several:
        raise ValueError(f"tape: a single one is not allowed with {several}; leave it out")
    if tape is not None:
        tapes = [tape]
    else:
        tapes = bptt.run_stack(problem.cell, params, x, problem.layers, memory_budget, problem.directions > 1)
    of_last = _of_last_layer(problem, tapes)
    check_readout(params, problem.task, x, len(of_last) * math.prod(_shape_of_read(of_last[0])))
    check_target(target, problem.task, x)
    states = _states_with_output(of_last, problem.task.outputs_at)
    y = concat([readout.forward(params, h) for h in states])
    loss, accuracy, dy = _mean_loss(problem.task, y, target)
    return Loss(loss, accuracy, tapes, y, dy)


def _of_last_layer(problem: Problem, tapes: list[Tape]) -> list[Tape]:
    """The tapes of all directions of the last layer, which the readout reads."""
    return tapes[len(tapes) - problem.directions :]


def _shape_of_read(tape: Tape) -> tuple[int, ...]:
    """The shape of what the readout reads of one sample."""
    return tape.shapes[tape.cell.state_names[0]]


def _direct_parts(problem: Problem, params: Params, dy: Array | Scaled, tapes: list[Tape]) -> tuple[DirectPart, ...]:
    """The direct part of dL/dh_t of every direction of the last layer, in its own time. Each has its own columns of W_ho.

    A loss at the last step reads what every direction ends with (section 2.5), so its dL/dy is at the last step of both.
    """
    T, shape = tapes[0].x.shape[0], _shape_of_read(tapes[0])
    if len(tapes) == 1:
        return (DirectPart(params, dy, T, shape),)
    H, parts = shape[0], []
    for i in range(len(tapes)):
        own = {"weight_ho": params["weight_ho"][:, i * H : (i + 1) * H]}
        at = dy if problem.task.outputs_at == "last" else bptt.in_own_time(dy, i)
        parts.append(DirectPart(own, at, T, shape))
    return tuple(parts)


class HeldOut(NamedTuple):
    """What the held-out sequences say of some parameters.

    Attributes:
        loss, accuracy: as in ``Evaluation``.
        error: fraction of the sequences that are answered wrongly (``Task.wrong``); nan where answers are not right or wrong.
    """

    loss: float
    accuracy: float
    error: float


def held_out_of(problem: Problem, params: Params, memory_budget: int | None = None) -> HeldOut:
    """The held-out sequences, forward only, part after part. Arguments and errors are those of ``evaluate``."""
    task, parts, sizes = problem.task, [], []
    for x, target in problem.held_out_parts():
        loss, accuracy, _, y, _ = loss_of(problem, params, x, target, memory_budget)
        error = math.nan
        if task.counts_wrong:
            y = plain(y) if task.outputs_at == "every" else plain(y)[0]
            error = float(namespace(x).count_nonzero(task.wrong(y, target))) / x.shape[1]
        parts.append(HeldOut(loss, accuracy, error))
        sizes.append(x.shape[1])
    if len(parts) == 1:
        return parts[0]
    return HeldOut(*map(float, np.average(np.array(parts), axis=0, weights=sizes)))


def _states_with_output(tapes: list[Tape], outputs_at: str) -> Iterator[Array | Scaled]:
    """h_t of the steps with an output, (steps, B, H), segment by segment, so that a checkpointed tape gives the same bits.

    Of another state it is the first part, its numbers side by side. Of two directions it is both, side by side: at the steps t, or at the
    last step of each.
    """
    if outputs_at == "last":
        yield bptt.side_by_side([_last_state(tape) for tape in tapes])
    elif len(tapes) > 1:
        yield bptt.states_of_layer(tapes)
    else:
        yield from (segment.hidden for segment in tapes[0].segments())


def _last_state(tape: Tape) -> Array | Scaled:
    """What a direction ends with, (1, B, units)."""
    h = tape.state[tape.cell.state_names[0]]
    return Scaled(_flat(h.mantissa[None]), h.exponent) if isinstance(h, Scaled) else _flat(h[None])


def _flat(rows: Array) -> Array:
    """(steps, B, …) as (steps, B, units)."""
    return rows if rows.ndim == 3 else namespace(rows).reshape(rows, (*rows.shape[:2], -1))


def _mean_loss(task: Task, y: Array | Scaled, target: Array) -> tuple[float, float, Array | Scaled]:
    """(mean loss, accuracy, dL/dy) of outputs y (T, B, C) or (1, B, C)."""
    xp = namespace(target)
    goal = target if task.outputs_at == "every" else target[None]
    carries = carries_target(goal) if task.ragged else None
    if carries is not None:
        goal = ragged.only(goal, carries)
    if isinstance(y, Scaled) and task.loss == "squared_error":
        losses, dy = scaled_squared_error(y, goal)
    else:
        losses, dy = LOSSES[task.loss](plain(y), goal)
    right = None if task.loss != "softmax_cross_entropy" else xp.argmax(plain(y), axis=-1) == goal
    count = math.prod(losses.shape)
    if carries is not None:
        losses, dy, count = ragged.only(losses, carries), ragged.only(dy, carries), int(xp.count_nonzero(carries))
        right = None if right is None else right & carries
    accuracy = math.nan if right is None else float(xp.sum(right)) / count
    return float(xp.sum(losses)) / count, accuracy, dy / count
