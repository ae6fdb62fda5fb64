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
        tape: the forward pass; of several layers that of the last, which the readout reads.
        output, grad_output: y and dL/dy of the steps with an output, (T, B, C) or (1, B, C).
        grad_hidden: the direct part of dL/dh_t.
        gradients: from ``backward``; of several layers those of the last.
        param_grads: of all parameters, those of the readout and of all layers included.
        ends: for ragged sequences, the number of steps until the last target of each, (B,). Otherwise None.
        below: the layers below the last, the first layer first.
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

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers with both passes, the first layer first."""
        return (*self.below, Layer(self.tape, self.gradients))

    def backward(self, **options: Any) -> dict[str, Array | Scaled]:
        """The gradients of the cell's parameters, of all layers, by another backward pass with these ``options`` of ``backward``."""
        tapes = [layer.tape for layer in self.layers]
        return bptt.stack_gradients(bptt.back_through_stack(tapes, self.grad_hidden, **options))

    def first_nonfinite_step(self) -> int | None:
        """The step t = 1 … T where a number stopped being finite; None where all are.

        It is the first t whose state, in any layer, or output plain floats do not hold. Where there is none, it is the first on the
        way back, the largest t, whose gradient is not finite.
        """
        xp = namespace(self.tape.x)
        finite = to_numpy(xp.all(xp.isfinite(plain(self.output)), axis=2))
        if self.ends is not None:
            finite = finite | (np.arange(len(finite))[:, None] >= self.ends)
        broken_outputs = np.flatnonzero(~finite.all(axis=1))
        steps = [self.grad_hidden.first + int(t) + 1 for t in broken_outputs[:1]]
        states = [layer.tape.first_nonfinite_step for layer in self.layers]
        steps += [state for state in states if state is not None]
        if steps:
            return min(steps)
        norms = np.array([layer.gradients.log_norm for layer in self.layers])
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
    tape = tapes[-1]
    grad_hidden = DirectPart(params, dy, x.shape[0], tape.shapes[tape.cell.state_names[0]])
    gradients = bptt.back_through_stack(tapes, grad_hidden)
    param_grads, start = ByName(bptt.stack_gradients(gradients)), 0
    for h in _states_with_output(tape, problem.task.outputs_at):
        stop = start + h.shape[0]
        for name, share in readout.parameter_gradients(params, h, dy[start:stop]).items():
            param_grads[name] = add(param_grads[name], share) if start else share
        start = stop
    for name in params.keys() - param_grads.keys():  # a user's module may have parameters that it does not train
        param_grads[name] = namespace(params[name]).zeros_like(params[name])
    ends = ragged.ends_of(target) if problem.task.ragged else None
    below = tuple(map(Layer, tapes[:-1], gradients[:-1]))
    return Evaluation(update, loss, accuracy, tape, y, dy, grad_hidden, gradients[-1], param_grads, ends, below)


class Loss(NamedTuple):
    """The forward half of ``Evaluation``: its loss, accuracy, the tapes of all layers, output and grad_output."""

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
    if tape is not None and problem.layers > 1:
        raise ValueError(f"tape: a single one is not allowed with layers: {problem.layers}; leave it out")
    tapes = [tape] if tape is not None else bptt.run_stack(problem.cell, params, x, problem.layers, memory_budget)
    tape = tapes[-1]
    check_readout(params, problem.task, x, math.prod(tape.shapes[tape.cell.state_names[0]]))
    check_target(target, problem.task, x)
    states = _states_with_output(tape, problem.task.outputs_at)
    y = concat([readout.forward(params, h) for h in states])
    loss, accuracy, dy = _mean_loss(problem.task, y, target)
    return Loss(loss, accuracy, tapes, y, dy)


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


def _states_with_output(tape: Tape, outputs_at: str) -> Iterator[Array | Scaled]:
    """h_t of the steps with an output, (steps, B, H), segment by segment, so that a checkpointed tape gives the same bits.

    Of another state it is the first part, its numbers side by side.
    """
    if outputs_at == "last":
        h = tape.state[tape.cell.state_names[0]]
        if isinstance(h, Scaled):
            yield Scaled(_flat(h.mantissa[None]), h.exponent)
        else:
            yield _flat(h[None])
    else:
        yield from (segment.hidden for segment in tape.segments())


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
