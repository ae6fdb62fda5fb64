"""One point of a sweep: what it is (``Experiment``), and what running it measures (``run``)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from rnn_core import ragged, readout
from rnn_core.activations import ACTIVATIONS
from rnn_core.arrays import DTYPES, Array, Params, like, namespace, place, to_numpy
from rnn_core.axes import Axis, axis, described_by_axes
from rnn_core.bptt import Gradients, backward
from rnn_core.bptt import run_forward as forward
from rnn_core.cells import CELLS, Cell, make_cell
from rnn_core.choices import nearest
from rnn_core.clipping import RULES, Clipped, Gradient, compare, global_log_norm, parse_clipping
from rnn_core.formats import first_lost
from rnn_core.initializers import INITIALIZERS, sigma_max, spectral_radius
from rnn_core.losses import LOSSES, carries_target, scaled_squared_error
from rnn_core.optimizers import OPTIMIZERS
from rnn_core.scalars import as_python
from rnn_core.scaling import (
    LN2,
    Scaled,
    all_finite,
    concat,
    log_norms,
    log_norms_of_columns,
    parts,
    plain,
    plain_if_fits,
    plus,
)
from rnn_core.streams import stream
from rnn_core.tape import Segment, Tape, pieces
from rnn_core.tasks import GENERATED, Sequences, SequenceTask, Task
from rnn_core.theory import (
    MIXING_INITIALIZERS,
    STEADY_BELOW,
    Growth,
    Slopes,
    fixed_point,
    growth,
    linear_rate,
    operating_rate,
    ragged_growth,
    regime,
    settled_window,
    slope_fluctuation,
)

SOLVED_AT = 0.1  # a task is solved when the held-out loss is at most this fraction of the task's baseline
SATURATED_BELOW = 0.1  # a unit is saturated where |phi'(a)| is below this fraction of sup |phi'|


@described_by_axes
@dataclass(frozen=True)
class Experiment:
    """One run: every field is a config key, a Parquet column and an axis label.

    NumPy scalars are taken as the Python numbers that they are equal to.

    Raises:
        ValueError: naming the field, the value given, what is allowed and the nearest name.
        TypeError: a field that it has not, naming the nearest one.
    """

    task: str = axis("white_noise", "name", "What the network sees and is asked for", "name", "task")
    cell: str = axis("vanilla", "choice", "Recurrent cell", "name", "cell", choices=CELLS)
    activation: str = axis("tanh", "choice", "Activation function phi", "name", "activation", choices=ACTIVATIONS)
    residual_step: float | None = axis(None, "number", "eta of a residual cell, h_t = (1 - lambda) h_{t-1} + eta phi(a_t) (default 1)", "1", "residual step η", above=0, unset="another cell, or 1")  # fmt: skip
    residual_leak: float | None = axis(None, "number", "lambda of a residual cell, from 0 to 1 (default 0)", "1", "residual leak λ", minimum=0, maximum=1, unset="another cell, or 0")  # fmt: skip
    initializer: str = axis("gaussian", "choice", "Recurrent matrix W_hh before it is rescaled", "name", "initializer", choices=INITIALIZERS)  # fmt: skip
    spectral_radius: float = axis(1.0, "number", "rho: largest modulus of an eigenvalue of W_hh at the start", "1", "spectral radius ρ", above=0)  # fmt: skip
    hidden_size: int = axis(64, "integer", "H: number of hidden units", "units", "hidden size H", minimum=1)
    input_size: int | None = axis(None, "integer", "D: inputs per step of a generated task (default: the task's own)", "inputs", "input size D", minimum=1, unset="the task decides, see task_input_size")  # fmt: skip
    input_scale: float = axis(1.0, "number", "Standard deviation that unit-variance inputs give the preactivations", "1", "input scale", above=0)  # fmt: skip
    sequence_length: int = axis(100, "integer", "T: number of time steps", "steps", "sequence length T", minimum=1)
    batch_size: int = axis(16, "integer", "B: sequences per batch", "sequences", "batch size B", minimum=1)
    loss_at: str | None = axis(None, "choice", "Steps that carry a loss: last or every (default: the task's own)", "name", "loss at", choices=("last", "every"), unset="the task decides, see task_loss_at")  # fmt: skip
    truncation: int | None = axis(None, "integer", "Window of truncated backpropagation: training drops the backward signal every so many steps (default: never)", "steps", "truncation window", minimum=1, unset="the full gradient is used")  # fmt: skip
    clipping: str = axis("none", "rule", "Gradient clipping: none, or RULE:THRESHOLD", "rule", "clipping", choices=RULES)  # fmt: skip
    optimizer: str = axis("sgd", "choice", "Optimiser", "name", "optimiser", choices=OPTIMIZERS)
    learning_rate: float = axis(0.1, "number", "Step size of the optimiser", "1", "learning rate", above=0)
    updates: int = axis(0, "integer", "Training updates; 0 measures gradients at the start and trains nothing", "updates", "updates", minimum=0)  # fmt: skip
    trace_every: int = axis(25, "integer", "Updates between two recorded gradient-norm traces", "updates", "trace every", minimum=1)  # fmt: skip
    dtype: str = axis("float64", "choice", "Floating-point type of the run", "name", "dtype", choices=DTYPES)
    seed: int = axis(0, "integer", "Seed of the run's random streams", "1", "seed", minimum=0)

    def __post_init__(self) -> None:
        for name, described in axes().items():
            described.check(name, getattr(self, name))
            object.__setattr__(self, name, as_python(getattr(self, name)))
        object.__setattr__(self, "clipping", str(parse_clipping(self.clipping)))  # norm:1 and norm:1.0 are one run
        for cell, kind in CELLS.items():
            for option in kind.options:
                name = f"{cell}_{option}"
                if cell != self.cell and getattr(self, name) is not None:
                    raise ValueError(
                        f"{name}: {getattr(self, name)!r} is not allowed with cell {self.cell!r}; only {cell!r} has it"
                    )
        self._check_range()

    def _check_range(self) -> None:
        """Every number that enters the arithmetic must be a normal number of ``dtype``, or 0."""
        limits = np.finfo(self.dtype)
        smallest, largest = float(limits.smallest_normal), float(limits.max)
        numbers = {name: (getattr(self, name), getattr(self, name)) for name in sorted(_NUMBERS)}
        numbers["clipping"] = (self.clipping, parse_clipping(self.clipping).threshold)
        for name, (given, number) in numbers.items():
            if number and not smallest <= abs(number) <= largest:
                raise ValueError(
                    f"{name}: {given!r} is not allowed with dtype {self.dtype!r}; its numbers go from {smallest:.3g} to {largest:.3g}"
                )

    @property
    def key(self) -> str:
        """The run key: 16 hexadecimal digits of the SHA-256 of all fields; equal experiments have equal keys."""
        return self.key_with(None)

    def key_with(self, data_digest: str | None) -> str:
        """``key`` of a run on given sequences: the same digits of all fields and the ``digest`` of its ``Sequences``.

        It is ``key`` where there is no digest, None or empty.
        """
        canonical = {
            k: float(v) if isinstance(v, float | int) and k in _NUMBERS else v for k, v in asdict(self).items()
        }
        if data_digest:
            canonical["data"] = data_digest
        return hashlib.sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()[:16]


def axes() -> dict[str, Axis]:
    """Every field of ``Experiment`` with its description, in order."""
    return {f.name: f.metadata["axis"] for f in fields(Experiment)}


_NUMBERS = frozenset(f.name for f in fields(Experiment) if f.metadata["axis"].kind == "number")


@dataclass(frozen=True)
class Problem:
    """An experiment with its arrays: everything a run starts from, for a run or for an oracle.

    Attributes:
        params: the cell's parameters, and the readout's ``weight_ho`` and ``bias_ho``.
    """

    experiment: Experiment
    cell: Cell
    task: Task
    params: Params
    device: str

    def batch(self, update: int) -> tuple[Array, Array]:
        """The training batch of ``update``: x (T, B, D) and its target, on the device."""
        return self._place(*self.task.batch(update))

    def held_out(self) -> tuple[Array, Array]:
        """The held-out sequences, on the device."""
        return self._place(*self.task.held_out())

    def _place(self, x: np.ndarray, target: np.ndarray) -> tuple[Array, Array]:
        placed = place(x, self.experiment.dtype, self.device)
        if target.dtype.kind != "i":
            return placed, place(target, self.experiment.dtype, self.device)
        return placed, namespace(placed).asarray(target, device=placed.device)


def prepare(experiment: Experiment, data: Sequences | None = None, device: str = "cpu") -> Problem:
    """Draw the parameters of ``experiment`` and set up its task.

    Args:
        data: the sequences of a task that is not generated.
        device: ``cpu`` (NumPy) or ``cuda`` (torch).

    Raises:
        ValueError: the task is unknown, needs ``data``, or does not fit the experiment; the device is unknown; a weight is beyond
            the range of the dtype.
    """
    if device.split(":")[0] not in ("cpu", "cuda"):
        raise ValueError(f"device: {device!r} is not allowed; it must be cpu or cuda")
    task = _make_task(experiment, data)
    options = {option: getattr(experiment, f"{experiment.cell}_{option}") for option in CELLS[experiment.cell].options}
    given = {option: value for option, value in options.items() if value is not None}
    cell = make_cell(experiment.cell, experiment.activation, **given)
    params = cell.init_params(
        stream(experiment.seed, "weights"),
        task.input_size,
        experiment.hidden_size,
        experiment.initializer,
        experiment.spectral_radius,
        experiment.input_scale,
    )
    params |= readout.init_readout(stream(experiment.seed, "readout"), experiment.hidden_size, task.output_size)
    with np.errstate(over="ignore"):  # said below
        placed = {name: place(value, experiment.dtype, device) for name, value in params.items()}
    for field, name in (("spectral_radius", "weight_hh"), ("input_scale", "weight_ih")):
        if not all_finite(placed[name]):
            raise ValueError(
                f"{field}: {getattr(experiment, field)!r} is not allowed with dtype {experiment.dtype!r}; entries of {name} leave its range"
            )
    return Problem(experiment, cell, task, placed, device)


def _make_task(experiment: Experiment, data: Sequences | None) -> Task:
    e = experiment
    if data is None:
        if e.task not in GENERATED:
            raise ValueError(
                f"task: {e.task!r} is not generated ({', '.join(GENERATED)} are), so it needs its sequences"
            )
        kind = GENERATED[e.task]
        D = e.input_size or kind.default_input_size
        return kind(e.seed, e.sequence_length, e.batch_size, D, e.loss_at or kind.default_loss_at)
    if e.input_size not in (None, data.inputs.shape[2]):
        raise ValueError(
            f"input_size: {e.input_size} does not fit; the sequences have {data.inputs.shape[2]} inputs a step"
        )
    if data.largest > float(np.finfo(e.dtype).max):
        raise ValueError(f"dtype: {e.dtype!r} does not hold the sequences, whose largest number is {data.largest:.3g}")
    return SequenceTask(data, e.seed, e.sequence_length, e.batch_size, e.loss_at or data.loss_at)


class DirectPart:
    """g_t = W_ho^T dL/dy_t, the immediate dL/dh_t: called with (start, stop) it gives rows start … stop - 1, (steps, B, H),
    or None where none of these steps carries a loss."""

    def __init__(self, params: Params, dy: Array | Scaled, steps: int) -> None:
        self.params, self.dy, self.first = params, dy, steps - dy.shape[0]

    def __call__(self, start: int, stop: int) -> Array | Scaled | None:
        if stop <= self.first:
            return None
        rows = readout.input_gradient(self.params, self.dy[max(start - self.first, 0) : stop - self.first])
        missing = max(self.first - start, 0)
        if not missing:
            return rows
        m, e = parts(rows)
        xp = namespace(m)
        zeros = xp.zeros((missing, *m.shape[1:]), dtype=m.dtype, device=m.device)
        return plain_if_fits(xp.concat([zeros, m]), np.concatenate([np.zeros(missing, dtype=np.int64), e]))


@dataclass(frozen=True)
class Evaluation:
    """Loss and gradients of one batch.

    Attributes:
        update: the number of updates made before it.
        loss: mean over the samples and steps that carry a target.
        accuracy: fraction of right labels; nan for a regression.
        output, grad_output: y and dL/dy of the steps that carry a loss, (T, B, C) or (1, B, C).
        grad_hidden: the direct part of dL/dh_t.
        gradients: from ``backward``.
        param_grads: of all parameters, the readout's included.
        ends: of ragged sequences the steps until each one's last target, (B,); None where all end with the batch.
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

    def first_nonfinite_step(self) -> int | None:
        """The first t whose state or output plain floats do not hold; else the last t, the first on the way back, whose
        gradient is not finite; else None."""
        xp = namespace(self.tape.x)
        finite = to_numpy(xp.all(xp.isfinite(plain(self.output)), axis=2))
        if self.ends is not None:
            finite = finite | (np.arange(len(finite))[:, None] >= self.ends)
        outputs = finite.all(axis=1)
        steps = [self.grad_hidden.first + int(t) + 1 for t in np.flatnonzero(~outputs)[:1]]
        if (state := self.tape.first_nonfinite_step) is not None:
            steps.append(state)
        if steps:
            return min(steps)
        norms = self.gradients.log_norm
        broken = np.flatnonzero(np.isnan(norms) | (norms == np.inf))
        return int(broken[-1]) + 1 if broken.size else None


def _states_with_loss(tape: Tape, outputs_at: str) -> Iterator[Array | Scaled]:
    """h_t of the steps with an output, (steps, B, H), segment by segment, so that a checkpointed tape gives the same bits."""
    if outputs_at == "last":
        h = tape.state["hidden"]
        yield Scaled(h.mantissa[None], h.exponent) if isinstance(h, Scaled) else h[None]
    else:
        yield from (segment.hidden for segment in tape.segments())


def loss_of(
    problem: Problem,
    params: Params,
    x: Array,
    target: Array,
    memory_budget: int | None = None,
    tape: Tape | None = None,
) -> tuple[float, float, Tape, Array | Scaled, Array | Scaled]:
    """(loss, accuracy, tape, y, dL/dy): the forward half of ``evaluate``; y and dL/dy (T, B, C) or (1, B, C)."""
    xp, task = namespace(x), problem.task
    tape = tape or forward(problem.cell, params, x, memory_budget=memory_budget)
    y = concat([readout.forward(params, h) for h in _states_with_loss(tape, task.outputs_at)])
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
    return float(xp.sum(losses)) / count, accuracy, tape, y, dy / count


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
        memory_budget: in bytes, for the tape: see ``forward``.
        tape: of the same parameters and x, where there is one already.
    """
    loss, accuracy, tape, y, dy = loss_of(problem, params, x, target, memory_budget, tape)
    grad_hidden = DirectPart(params, dy, x.shape[0])
    gradients = backward(tape, grad_hidden)
    param_grads, start = dict(gradients.params), 0
    for h in _states_with_loss(tape, problem.task.outputs_at):
        stop = start + h.shape[0]
        for name, share in readout.parameter_gradients(params, h, dy[start:stop]).items():
            param_grads[name] = plus(param_grads[name], share) if start else share
        start = stop
    ends = ragged.ends_of(target) if problem.task.ragged else None
    return Evaluation(update, loss, accuracy, tape, y, dy, grad_hidden, gradients, param_grads, ends)


@dataclass(frozen=True, repr=False)
class Result:
    """What one run measured. ``result["growth_rate"]`` looks a name up in ``summary``, ``updates`` and ``traces``, in this order.

    Attributes:
        traces: columns of norms by time step, by name; the first axis is recorded update × t, t = 1 … T.
        updates: columns by name; the first axis is the update.
        summary: what there is one of a run, by name: growth rate, regime, theory, held-out loss …
        experiment: what was run.
    """

    traces: dict[str, np.ndarray]
    updates: dict[str, np.ndarray]
    summary: dict[str, Any]
    experiment: Experiment | None = None

    def keys(self) -> list[str]:
        """All names, those of ``summary`` first, each once."""
        return list(dict.fromkeys([*self.summary, *self.updates, *self.traces]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, name: str) -> Any:
        for part in (self.summary, self.updates, self.traces):
            if name in part:
                return part[name]
        near = nearest(name, self.keys())
        hint = f"; did you mean {near!r}?" if near else ""
        raise KeyError(f"{name!r} was not measured{hint} (keys() lists all names)")

    def __repr__(self) -> str:
        """A line a part: the run, some results, and the names of all columns."""
        e, s = self.experiment, self.summary
        run = "" if e is None else f"task={e.task}, cell={e.cell}, activation={e.activation}, H={e.hidden_size}, T={e.sequence_length}, spectral_radius={e.spectral_radius:g}, updates={e.updates}, "  # fmt: skip
        shown = [name for name in ("growth_rate", "regime", "held_out_loss", "solved", "first_nonfinite_update") if s.get(name) is not None and s[name] == s[name]]  # fmt: skip
        # nan is no value, and the only one that differs from itself
        values = [f"{name}={s[name]:.4g}" if isinstance(s[name], float) else f"{name}={s[name]}" for name in shown]
        parts = [f"  {part}: {', '.join(getattr(self, part))}" for part in ("summary", "updates", "traces")]
        return "\n".join([f"Result({run}{', '.join(values)}", *parts]) + ")"


Watcher = Callable[[Problem, Params, Array, Array, Evaluation], None]


def run(
    experiment: Experiment,
    data: Sequences | None = None,
    device: str = "cpu",
    watch: Watcher | None = None,
    memory_budget: int | None = None,
) -> Result:
    """Run one experiment: measure gradients at the start, then train for ``updates`` updates and measure on the way.

    ``watch`` is shown every evaluation whose trace is recorded, with its parameters and batch. A loss, gradient or parameter that is not finite ends the training and is recorded with its update and time step.

    Raises:
        ValueError: the experiment and its task do not fit (see ``prepare``).
    """
    by_task = None if data is None else {experiment.task: data}
    [(_, result)] = run_many([experiment], by_task, device, watch, memory_budget)
    return result


def run_many(
    experiments: Iterable[Experiment],
    data: Mapping[str, Sequences] | None = None,
    device: str = "cpu",
    watch: Watcher | None = None,
    memory_budget: int | None = None,
) -> Iterator[tuple[Experiment, Result]]:
    """Every experiment with what it measured, bit for bit as by ``run``, in an order that shares work.

    Untrained runs that differ only in sequence length share one forward pass: the states of a shorter sequence are the first
    of the longer one's. Those that differ only in clipping share their gradient as well.

    Args:
        data: by task, the sequences of those that are not generated.

    Raises:
        ValueError: an experiment and its task do not fit (see ``prepare``).
    """
    groups: dict[Experiment, list[Experiment]] = {}
    for experiment in experiments:
        groups.setdefault(replace(experiment, sequence_length=1, clipping="none"), []).append(experiment)
    for group in groups.values():
        shared = _Shared()
        for experiment in sorted(group, key=lambda e: -e.sequence_length):
            sequences = (data or {}).get(experiment.task)
            if experiment.updates:
                yield experiment, _train(prepare(experiment, sequences, device), watch, memory_budget)
            else:
                yield experiment, _measure(experiment, sequences, device, watch, memory_budget, shared)


class _Shared:
    """What the untrained runs of a group have found so far: the tape of the longest, and what the last length measured."""

    def __init__(self) -> None:
        self.tape: Tape | None = None
        self.of_states: _OfStates | None = None
        self.last: (
            tuple[Experiment, Problem, Array, Array, Evaluation, dict[str, np.ndarray], dict[str, Any]] | None
        ) = None

    def tape_of(self, x: Array) -> Tape | None:
        """The tape of x, if x is the beginning of the longest sequence."""
        xp, T = namespace(x), x.shape[0]
        if self.tape is None or self.tape.x.shape[0] < T or not bool(xp.all(self.tape.x[:T] == x)):
            return None
        return self.tape.prefix(T)


def _measure(
    experiment: Experiment,
    data: Sequences | None,
    device: str,
    watch: Watcher | None,
    memory_budget: int | None,
    shared: _Shared,
) -> Result:
    """A run without training."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is recorded
        unclipped = replace(experiment, clipping="none")
        if shared.last is None or shared.last[0] != unclipped:
            problem = prepare(experiment, data, device)
            x, target = problem.batch(0)
            given = shared.tape_of(x)
            evaluation = evaluate(problem, problem.params, x, target, 0, memory_budget, given)
            known = shared.of_states.first(len(x)) if given and shared.of_states and evaluation.ends is None else None
            of_states = known or _of_states(problem.cell, evaluation, slopes=True)
            if shared.tape is None:
                shared.tape, shared.of_states = evaluation.tape, of_states
            trace = _trace(0, evaluation, of_states)
            start = _measure_start(problem, evaluation, trace, of_states)
            shared.last = (unclipped, problem, x, target, evaluation, trace, start)
        _, problem, x, target, evaluation, trace, start = shared.last
        if watch is not None:
            watch(problem, problem.params, x, target, evaluation)
        row, _ = _row_of_update(experiment, evaluation, problem.params)
        row["finite"] = row["finite"] and all_finite(*problem.params.values())
    end = _measure_end(problem, problem.params, trained=False, broken=not row["finite"], memory_budget=memory_budget)
    broken = _broken(evaluation) if not row["finite"] else _NOT_BROKEN
    traces = {name: np.array(values) for name, values in trace.items()}  # this result's own
    updates = {name: np.array([value]) for name, value in row.items()}
    return Result(traces, updates, {**start, **end, **broken}, experiment)


def _train(problem: Problem, watch: Watcher | None, memory_budget: int | None) -> Result:
    """A run with training."""
    experiment = problem.experiment
    optimizer = OPTIMIZERS[experiment.optimizer](experiment.learning_rate)
    params, traces, updates = problem.params, [], []
    start: dict[str, Any] = {}
    broken = _NOT_BROKEN
    for update in range(experiment.updates):
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is recorded below
            x, target = problem.batch(update)
            evaluation = evaluate(problem, params, x, target, update, memory_budget)
            row, clipped = _row_of_update(experiment, evaluation, params)
            if update % experiment.trace_every == 0 or update == experiment.updates - 1:
                of_states = _of_states(problem.cell, evaluation, slopes=update == 0)
                traces.append(_trace(update, evaluation, of_states))
                if watch is not None:
                    watch(problem, params, x, target, evaluation)
                if update == 0:
                    start = _measure_start(problem, evaluation, traces[0], of_states)
            following = optimizer.step(params, clipped.grads)
            row["finite"] = row["finite"] and all_finite(*following.values())
            updates.append(row)
            if not row["finite"]:
                broken = _broken(evaluation)
                break
        params = following

    end = _measure_end(problem, params, trained=True, broken=not updates[-1]["finite"], memory_budget=memory_budget)
    return Result(
        traces={name: np.concatenate([trace[name] for trace in traces]) for name in traces[0]},
        updates={name: np.array([row[name] for row in updates]) for name in updates[0]},
        summary={**start, **end, **broken},
        experiment=experiment,
    )


_NOT_BROKEN: dict[str, int | None] = {"first_nonfinite_update": None, "first_nonfinite_step": None}


def _broken(evaluation: Evaluation) -> dict[str, int | None]:
    return {"first_nonfinite_update": evaluation.update, "first_nonfinite_step": evaluation.first_nonfinite_step()}


def _row_of_update(experiment: Experiment, evaluation: Evaluation, params: Params) -> tuple[dict[str, Any], Clipped]:
    """(the row of ``updates``, the gradients that training uses)."""
    truncated, bias = _truncated(experiment, evaluation)
    clipped = _clipped(experiment, evaluation, truncated, params)
    finite = math.isfinite(evaluation.loss) and clipped.finite
    return _update_row(evaluation.update, evaluation, clipped, bias, finite), clipped


def _truncated(experiment: Experiment, evaluation: Evaluation) -> tuple[Gradient, float]:
    """(the gradients that training uses, their bias): truncated ones with ‖truncated - full‖/‖full‖, or the full ones with nan."""
    full = evaluation.param_grads
    if experiment.truncation is None:
        return full, math.nan
    recurrent = backward(evaluation.tape, evaluation.grad_hidden, window=experiment.truncation).params
    used = {**full, **recurrent}
    difference = {name: plus(used[name], full[name] / -1.0) for name in full}
    return used, math.exp(min(global_log_norm(difference) - global_log_norm(full), 700.0))


def _clipped(experiment: Experiment, evaluation: Evaluation, grads: Gradient, params: Params) -> Clipped:
    """``grads`` clipped; by the rule ``signal`` on the way back, which takes another backward pass."""
    clip = parse_clipping(experiment.clipping)
    if not clip.on_signal:
        return clip(grads, params)
    tape, direct = evaluation.tape, evaluation.grad_hidden
    signal = backward(tape, direct, window=experiment.truncation, signal_threshold=clip.threshold)
    return compare(grads, {**grads, **signal.params})


@dataclass(frozen=True)
class _OfStates:
    """What the forward pass alone decides.

    Attributes:
        columns: of ``traces``, each (T,).
        slopes: sums over the batch of phi'/gamma and of its square, float64 (2, T, H), as large beside the tape as 1/B; None
            where nobody asks for them, and where the tape is not kept whole either.
        windows: of ragged sequences the settled window of each (``ragged.live_states``).
    """

    columns: dict[str, np.ndarray]
    slopes: np.ndarray | None
    windows: list[slice] | None = None

    def first(self, T: int) -> _OfStates:
        """What the first T states decide."""
        slopes = None if self.slopes is None else self.slopes[:, :T]
        return _OfStates({name: values[:T] for name, values in self.columns.items()}, slopes)


def _of_states(cell: Cell, evaluation: Evaluation, slopes: bool = False) -> _OfStates:
    """What the forward pass alone decides, with the slopes of a cell that has one a unit if ``slopes``."""
    tape = evaluation.tape
    if evaluation.ends is not None:
        return _of_ragged_states(cell, tape, evaluation.ends)
    rms, saturation, sums = [], [], []
    wanted = slopes and tape.kept is not None and _has_slopes(cell)
    for segment in tape.segments():
        columns, e = segment.states["hidden"][1:], segment.exponent[1:]
        rms.append(np.exp(log_norms(columns) + e * LN2) / math.sqrt(math.prod(columns.shape[1:])))
        for slope in _slopes(cell, segment):
            xp = namespace(slope)
            saturated = xp.count_nonzero(xp.abs(slope) < SATURATED_BELOW, axis=(1, 2))
            saturation.append(to_numpy(saturated) / math.prod(slope.shape[1:]))
            if wanted:
                sums.append(_sums_of_slopes(slope))
    found = {"hidden_rms": np.concatenate(rms), "saturation": np.concatenate(saturation)}
    return _OfStates(found, np.concatenate(sums, axis=1) if wanted else None)


def _of_ragged_states(cell: Cell, tape: Tape, ends: np.ndarray) -> _OfStates:
    """The same over the sequences that have not ended, with every sequence's own window."""
    log_rms, saturated = [], []
    for segment in tape.segments():
        states, e = segment.states["hidden"][1:], segment.exponent[1:]
        log_rms.append(log_norms_of_columns(states) + e[:, None] * LN2 - 0.5 * math.log(states.shape[1]))
        for slope in _slopes(cell, segment):
            xp = namespace(slope)
            saturated.append(to_numpy(xp.count_nonzero(xp.abs(slope) < SATURATED_BELOW, axis=1)) / slope.shape[1])
    live = ragged.live_states(np.concatenate(log_rms), np.concatenate(saturated), ends)
    return _OfStates({"hidden_rms": live.hidden_rms, "saturation": live.saturation}, None, live.windows)


def _has_slopes(cell: Cell) -> bool:
    """Whether the operating point needs the cell's slopes: those of the identity are all 1, a gated cell has no such point."""
    return cell.phi.name != "identity" and cell.jacobian(np.ones((1, 1))) is not None


def _slopes(cell: Cell, segment: Segment) -> Iterator[Array]:
    """The slopes over their supremum of some steps after the other, (steps, rows, B)."""
    for piece in pieces(len(segment.saved), math.prod(segment.states["hidden"].shape[1:])):
        saved = segment.saved[piece]
        whole = isinstance(saved, np.ndarray)  # the fast path keeps a_t in one array
        yield (
            cell.slope(saved)
            if whole
            else namespace(segment.states["hidden"]).stack([cell.slope(kept) for kept in saved])
        )


def _sums_of_slopes(slope: Array) -> np.ndarray:
    """Sums over the batch of the slopes and of their squares, (steps, H, B) to float64 (2, steps, H)."""
    xp = namespace(slope)
    ones = xp.ones_like(slope[0, 0])  # of rows this short, products are taken three times as fast as sums
    return np.stack([to_numpy(xp.vecdot(slope, factor)) for factor in (ones, slope)]).astype(np.float64)


def _ragged_slopes(cell: Cell, tape: Tape, windows: list[slice]) -> Slopes:
    """The slopes inside every sequence's own window."""
    counted, total = ragged.inside(windows, tape.x.shape[0]), np.zeros((2, tape.params["weight_hh"].shape[1]))
    for segment in tape.segments():
        start = segment.start
        for slope in _slopes(cell, segment):
            xp = namespace(slope)
            weight = like(counted[start : start + len(slope), None, :], slope)
            total += [to_numpy(xp.sum(weight * power, axis=(0, 2))).astype(np.float64) for power in (slope, slope**2)]
            start += len(slope)
    mean, square = total / counted.sum()
    return Slopes(cell.phi.gamma * mean, cell.phi.gamma**2 * square)


def _settled_slopes(cell: Cell, tape: Tape, of_states: _OfStates, window: slice) -> Slopes:
    """The slopes inside ``window``, from the sums of ``of_states`` or, where the tape is not whole, from another pass.

    Taken segment by segment, so that both have the same bits.
    """
    if of_states.windows is not None:
        return _ragged_slopes(cell, tape, of_states.windows)
    total: Any = 0.0
    for segment in tape.segments():
        start, stop = max(window.start, segment.start), min(window.stop, segment.stop)
        if start >= stop:
            continue
        sums = of_states.slopes
        if sums is not None:
            inside = sums[:, start:stop]
        else:
            per_step = np.concatenate([_sums_of_slopes(slope) for slope in _slopes(cell, segment)], axis=1)
            inside = per_step[:, start - segment.start : stop - segment.start]
        total = total + inside.sum(axis=1)
    mean, square = total / ((window.stop - window.start) * tape.x.shape[1])
    return Slopes(cell.phi.gamma * mean, cell.phi.gamma**2 * square)


def _trace(update: int, evaluation: Evaluation, of_states: _OfStates) -> dict[str, np.ndarray]:
    """Columns of ``traces`` for one update: t = 1 … T."""
    gradients = evaluation.gradients
    T = len(gradients.log_norm)
    t = np.arange(1, T + 1, dtype=np.int32)
    cell_norm = gradients.log_norm_cell if gradients.log_norm_cell is not None else np.full(T, math.nan)
    return {
        "update": np.full(T, update, dtype=np.int32),
        "t": t,
        "lag": T - t,
        "log10_grad_norm": gradients.log_norm / math.log(10.0),
        "log10_immediate_norm": gradients.log_norm_immediate / math.log(10.0),
        "log10_cell_grad_norm": cell_norm / math.log(10.0),
        **of_states.columns,
        **gradients.lost,
    }


def _update_row(update: int, evaluation: Evaluation, clipped: Clipped, bias: float, finite: bool) -> dict[str, Any]:
    return {
        "update": update,
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "log10_norm_before": clipped.log_norm_before / math.log(10.0),
        "log10_norm_after": clipped.log_norm_after / math.log(10.0),
        "clip_factor": clipped.factor,
        "truncation_bias": bias,
        "finite": finite,
    }


def _measure_start(
    problem: Problem, evaluation: Evaluation, trace: dict[str, np.ndarray], of_states: _OfStates
) -> dict[str, Any]:
    """What the task decided, and spectrum, growth, theory and losses to narrower formats of the network before training."""
    windows = of_states.windows or [settled_window(of_states.columns["hidden_rms"])]
    window = slice(min(each.start for each in windows), max(each.stop for each in windows))
    several = len(trace["t"]) > 1
    measured = growth_of(problem, evaluation, of_states.windows or window)
    matrix = to_numpy(problem.params["weight_hh"]).astype(np.float64)
    blocks = np.split(matrix, len(problem.cell.gates))  # one recurrent matrix a gate
    rho, sigma = max(map(spectral_radius, blocks)), max(map(sigma_max, blocks))
    theory = _predict(problem, evaluation, of_states, window, matrix, sigma)
    return {
        "task_input_size": problem.task.input_size,
        "task_loss_at": problem.task.loss_at,
        "measured_spectral_radius": rho,
        "sigma_max": sigma,
        "sigma_w": max(math.sqrt(_sigma_w2(block)) for block in blocks),
        "settled_from": window.start + 1 if several else None,
        "settled_to": window.stop if several else None,
        "growth_rate": measured.rate,
        "growth_rate_error": measured.error,
        "dead_samples": measured.dead,
        "log10_gradient_ratio": measured.ratio,
        "regime": regime(measured.ratio),
        **theory,
        "deviation": measured.rate - theory["predicted_rate"],
        **first_lost(trace),
    }


def growth_of(problem: Problem, evaluation: Evaluation, window: slice | list[slice] | None = None) -> Growth:
    """How every sample's gradient of the last step's loss alone grows on its way back, whatever other steps carry a loss.

    Of ragged sequences the last step is each one's own (``ragged_growth``).

    Args:
        window: the indices t - 1 that count (``settled_window``), of ragged sequences one a sequence; None is all.
    """
    if evaluation.ends is not None:
        gradients = evaluation.gradients
        if problem.task.loss_at == "every":
            gradients = backward(evaluation.tape, ragged.at_ends(evaluation.grad_hidden, evaluation.ends))
        assert not isinstance(window, slice)
        return ragged_growth(gradients.log_norm_samples, evaluation.ends, window)
    assert not isinstance(window, list)
    if problem.task.loss_at == "last":
        return growth(evaluation.gradients.log_norm_samples, window)
    T = evaluation.tape.x.shape[0]
    last = evaluation.grad_hidden(T - 1, T)
    assert last is not None
    return growth(backward(evaluation.tape, grad_state={"hidden": last[0]}).log_norm_samples, window)


def _sigma_w2(W: np.ndarray) -> float:
    """sigma_w² = ‖W‖²_F / H."""
    return float((W**2).sum() / len(W))


def _predict(
    problem: Problem, evaluation: Evaluation, of_states: _OfStates, window: slice, W: np.ndarray, sigma: float
) -> dict[str, Any]:
    """Rates that theory predicts; nan where it says nothing, as for gated cells."""
    cell = problem.cell
    jacobian, bound = cell.jacobian(W), cell.step_bound(sigma)
    linear = math.nan if jacobian is None else linear_rate(spectral_radius(jacobian))
    operating = fluctuation = math.nan
    if _has_slopes(cell):
        slopes = _settled_slopes(cell, evaluation.tape, of_states, window)
        at_them = cell.jacobian(W, slopes.mean)
        assert at_them is not None
        operating, fluctuation = operating_rate(at_them), slope_fluctuation(slopes)
    elif jacobian is not None:  # all slopes are 1
        operating, fluctuation = linear, 0.0
    mean_field, bistable = _mean_field(problem, W, evaluation)
    if jacobian is not None and cell.phi.name == "identity":
        predicted, by = linear, "linear law"
    elif fluctuation < STEADY_BELOW:
        predicted, by = operating, "operating point"
    else:
        predicted, by = mean_field, "mean field"
    return {
        "linear_rate": linear,
        "bound_rate": math.nan if bound is None else math.log(bound),
        "mean_field_rate": mean_field,
        "bistable": bistable,
        "operating_rate": operating,
        "slope_fluctuation": fluctuation,
        "predicted_rate": predicted,
        "predicted_by": None if math.isnan(predicted) else by,
    }


def _mean_field(problem: Problem, W: np.ndarray, evaluation: Evaluation) -> tuple[float, bool | None]:
    """(its rate, whether there is another); (nan, None) where it is not applied."""
    e = problem.experiment
    if e.cell != "vanilla" or e.initializer not in MIXING_INITIALIZERS:
        return math.nan, None
    x = to_numpy(evaluation.tape.x).astype(np.float64)
    ended = np.zeros(1, dtype=bool) if evaluation.ends is None else np.arange(len(x))[:, None] >= evaluation.ends
    rows = x[~ended] if ended.any() else x.reshape(-1, x.shape[-1])  # of ragged sequences without their padding
    W_ih = to_numpy(problem.params["weight_ih"]).astype(np.float64)
    sigma_u2 = float(np.trace(W_ih @ (rows.T @ rows) @ W_ih.T)) / (len(rows) * len(W_ih))  # mean square of W_ih x_t
    found = fixed_point(problem.cell.phi, sigma_w2=_sigma_w2(W), sigma_u2=sigma_u2)
    return found.rate, found.bistable


def _measure_end(
    problem: Problem, params: Params, trained: bool, broken: bool, memory_budget: int | None
) -> dict[str, Any]:
    """Held-out loss and accuracy after training beside their baseline; nan and None where there was none, or where it broke down."""
    end: dict[str, Any] = {
        "held_out_loss": math.nan,
        "held_out_accuracy": math.nan,
        "baseline_loss": problem.task.baseline if trained else math.nan,
        "baseline_accuracy": problem.task.baseline_accuracy if trained else math.nan,
        "solved": False if trained else None,
    }
    if not trained or broken:
        return end
    x, target = problem.held_out()
    with np.errstate(over="ignore", invalid="ignore"):
        loss, accuracy, *_ = loss_of(problem, params, x, target, memory_budget)
    solved = bool(loss <= SOLVED_AT * end["baseline_loss"])
    return {**end, "held_out_loss": loss, "held_out_accuracy": accuracy, "solved": solved}
