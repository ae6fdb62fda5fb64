"""One point of a sweep: what it is (``Experiment``), and what running it measures (``run``)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from rnn_core import readout
from rnn_core.activations import ACTIVATIONS
from rnn_core.arrays import DTYPES, Array, Params, namespace, place, to_numpy
from rnn_core.axes import Axis, axis
from rnn_core.bptt import Gradients, Tape, backward, forward
from rnn_core.cells import CELLS, Cell, make_cell
from rnn_core.clipping import RULES, Clipped, Gradient, parse_clipping
from rnn_core.initializers import INITIALIZERS, sigma_max, spectral_radius
from rnn_core.losses import LOSSES, baseline
from rnn_core.optimizers import OPTIMIZERS
from rnn_core.scaling import log_norms
from rnn_core.streams import stream
from rnn_core.tasks import GENERATED, Sequences, SequenceTask, Task
from rnn_core.theory import MIXING_INITIALIZERS, Growth, bound_rate, fixed_point, growth, linear_rate, regime

SOLVED_AT = 0.1  # a task is solved when the held-out loss is at most this fraction of the best constant prediction's
SATURATED_BELOW = 0.1  # a unit is saturated where |phi'(a)| is below this fraction of sup |phi'|


@dataclass(frozen=True)
class Experiment:
    """One run: every field is a config key, a Parquet column and an axis label.

    Raises:
        ValueError: naming the field, the value given, what is allowed and the nearest name.
    """

    task: str = axis("white_noise", "name", "What the network sees and is asked for", "name", "task")
    cell: str = axis("vanilla", "choice", "Recurrent cell", "name", "cell", choices=CELLS)
    activation: str = axis("tanh", "choice", "Activation function phi", "name", "activation", choices=ACTIVATIONS)
    initializer: str = axis("gaussian", "choice", "Recurrent matrix W_hh before it is rescaled", "name", "initializer", choices=INITIALIZERS)  # fmt: skip
    spectral_radius: float = axis(1.0, "number", "rho: largest modulus of an eigenvalue of W_hh at the start", "1", "spectral radius ρ", above=0)  # fmt: skip
    hidden_size: int = axis(64, "integer", "H: number of hidden units", "units", "hidden size H", minimum=1)
    input_size: int | None = axis(None, "integer", "D: inputs per step of a generated task (default: the task's own)", "inputs", "input size D", minimum=1, optional=True)  # fmt: skip
    input_scale: float = axis(1.0, "number", "Standard deviation that unit-variance inputs give the preactivations", "1", "input scale", above=0)  # fmt: skip
    sequence_length: int = axis(100, "integer", "T: number of time steps", "steps", "sequence length T", minimum=1)
    batch_size: int = axis(16, "integer", "B: sequences per batch", "sequences", "batch size B", minimum=1)
    loss_at: str | None = axis(None, "choice", "Steps that carry a loss: last or every (default: the task's own)", "name", "loss at", choices=("last", "every"), optional=True)  # fmt: skip
    clipping: str = axis("none", "rule", "Gradient clipping: none, norm:THRESHOLD or value:THRESHOLD", "rule", "clipping", choices=RULES)  # fmt: skip
    optimizer: str = axis("sgd", "choice", "Optimiser", "name", "optimiser", choices=OPTIMIZERS)
    learning_rate: float = axis(0.1, "number", "Step size of the optimiser", "1", "learning rate", above=0)
    updates: int = axis(0, "integer", "Training updates; 0 measures gradients at the start and trains nothing", "updates", "updates", minimum=0)  # fmt: skip
    trace_every: int = axis(25, "integer", "Updates between two recorded gradient-norm traces", "updates", "trace every", minimum=1)  # fmt: skip
    dtype: str = axis("float64", "choice", "Floating-point type of the run", "name", "dtype", choices=DTYPES)
    seed: int = axis(0, "integer", "Seed of the run's random streams", "1", "seed", minimum=0)

    def __post_init__(self) -> None:
        for name, described in axes().items():
            described.check(name, getattr(self, name))
        parse_clipping(self.clipping)

    @property
    def key(self) -> str:
        """The run key: 16 hexadecimal digits of the SHA-256 of all fields; equal experiments have equal keys."""
        canonical = {
            k: float(v) if isinstance(v, float | int) and k in _NUMBERS else v for k, v in asdict(self).items()
        }
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
        ValueError: the task is unknown, needs ``data``, or does not fit the experiment.
    """
    task = _make_task(experiment, data)
    cell = make_cell(experiment.cell, experiment.activation)
    params = cell.init_params(
        stream(experiment.seed, "weights"),
        task.input_size,
        experiment.hidden_size,
        experiment.initializer,
        experiment.spectral_radius,
        experiment.input_scale,
    )
    params |= readout.init_readout(stream(experiment.seed, "readout"), experiment.hidden_size, task.output_size)
    placed = {name: place(value, experiment.dtype, device) for name, value in params.items()}
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
    return SequenceTask(data, e.seed, e.sequence_length, e.batch_size, e.loss_at or data.loss_at)


@dataclass(frozen=True)
class Evaluation:
    """Loss and gradients of one batch.

    Attributes:
        update: the number of updates made before it.
        loss: mean over the batch and over the steps that carry a loss.
        accuracy: fraction of right labels; nan for a regression.
        output, grad_output: y and dL/dy, (T, B, C) or (B, C), as the loss is placed.
        grad_hidden: the direct part of dL/dh_t, (T, B, H).
        gradients: from ``backward``.
        param_grads: of all parameters, the readout's included.
    """

    update: int
    loss: float
    accuracy: float
    tape: Tape
    output: Array
    grad_output: Array
    grad_hidden: Array
    gradients: Gradients
    param_grads: Gradient


def loss_of(
    problem: Problem, params: Params, x: Array, target: Array
) -> tuple[float, float, Tape, Array, Array, Array]:
    """(loss, accuracy, tape, h, y, dL/dy): the forward half of ``evaluate``; h and y as the loss is placed."""
    xp = namespace(x)
    tape = forward(problem.cell, params, x)
    h = tape.hidden if problem.task.loss_at == "every" else tape.hidden[-1]
    y = readout.forward(params, h)
    losses, dy = LOSSES[problem.task.loss](y, target)
    count = math.prod(losses.shape)
    accuracy = math.nan
    if problem.task.loss == "softmax_cross_entropy":
        accuracy = float(xp.sum(xp.argmax(y, axis=-1) == target)) / count
    return float(xp.sum(losses)) / count, accuracy, tape, h, y, dy / count


def evaluate(problem: Problem, params: Params, x: Array, target: Array, update: int = 0) -> Evaluation:
    """Loss and all gradients of one batch, by the engine."""
    loss, accuracy, tape, h, y, dy = loss_of(problem, params, x, target)
    readout_grads, dh = readout.backward(params, h, dy)
    grad_hidden = dh if problem.task.loss_at == "every" else last_step_only(tape, dh)
    gradients = backward(tape, grad_hidden)
    param_grads = {**gradients.params, **readout_grads}
    return Evaluation(update, loss, accuracy, tape, y, dy, grad_hidden, gradients, param_grads)


def last_step_only(tape: Tape, dh: Array) -> Array:
    """(T, B, H): zero but for the last step's ``dh`` (B, H)."""
    grad_hidden = namespace(dh).zeros_like(tape.hidden)
    grad_hidden[-1] = dh
    return grad_hidden


@dataclass(frozen=True)
class Result:
    """What one run measured: columns for the tables ``traces`` and ``updates``, one row for ``runs``.

    The first axis of ``traces`` columns is recorded update × t, of ``updates`` columns it is the update.
    """

    traces: dict[str, np.ndarray]
    updates: dict[str, np.ndarray]
    summary: dict[str, Any]


Watcher = Callable[[Problem, Params, Array, Array, Evaluation], None]


def run(
    experiment: Experiment, data: Sequences | None = None, device: str = "cpu", watch: Watcher | None = None
) -> Result:
    """Run one experiment: measure gradients at the start, then train for ``updates`` updates and measure on the way.

    ``watch`` is shown every evaluation whose trace is recorded, with its parameters and batch. A loss, gradient or parameter that is not finite ends the training and is recorded with its update and time step.

    Raises:
        ValueError: the experiment and its task do not fit (see ``prepare``).
    """
    problem = prepare(experiment, data, device)
    clip = parse_clipping(experiment.clipping)
    optimizer = OPTIMIZERS[experiment.optimizer](experiment.learning_rate)
    params, traces, updates = problem.params, [], []
    start: dict[str, Any] = {}
    broken: dict[str, int | None] = {"first_nonfinite_update": None, "first_nonfinite_step": None}

    for update in range(max(1, experiment.updates)):
        with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is recorded below
            x, target = problem.batch(update)
            evaluation = evaluate(problem, params, x, target, update)
            clipped = clip(evaluation.param_grads, params)
            if update == 0:
                start = _measure_start(problem, evaluation)
            if update % experiment.trace_every == 0 or update == experiment.updates - 1:
                traces.append(_trace(problem.cell, update, evaluation))
                if watch is not None:
                    watch(problem, params, x, target, evaluation)
            following = optimizer.step(params, clipped.grads) if experiment.updates else params
            finite = math.isfinite(evaluation.loss) and clipped.finite and _all_finite(following)
        updates.append(_update_row(update, evaluation, clipped, finite))
        if not finite:
            broken = {"first_nonfinite_update": update, "first_nonfinite_step": _first_nonfinite_step(evaluation)}
            break
        params = following

    end = _measure_end(problem, params, trained=experiment.updates > 0, broken=not updates[-1]["finite"])
    return Result(
        traces={name: np.concatenate([trace[name] for trace in traces]) for name in traces[0]},
        updates={name: np.array([row[name] for row in updates]) for name in updates[0]},
        summary={**start, **end, **broken},
    )


def _trace(cell: Cell, update: int, evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Columns of ``traces`` for one update: t = 1 … T."""
    tape, gradients = evaluation.tape, evaluation.gradients
    xp = namespace(tape.columns)
    T = len(gradients.log_norm)
    slope = xp.stack([cell.slope(saved) for saved in tape.saved])
    saturated = xp.astype(xp.abs(slope) < SATURATED_BELOW, tape.x.dtype)
    t = np.arange(1, T + 1, dtype=np.int32)
    return {
        "update": np.full(T, update, dtype=np.int32),
        "t": t,
        "lag": T - t,
        "log10_grad_norm": gradients.log_norm / math.log(10.0),
        "log10_immediate_norm": gradients.log_norm_immediate / math.log(10.0),
        "hidden_rms": np.exp(log_norms(tape.hidden)) / math.sqrt(math.prod(tape.hidden.shape[1:])),
        "saturation": to_numpy(xp.mean(saturated, axis=(1, 2))).astype(np.float64),
    }


def _update_row(update: int, evaluation: Evaluation, clipped: Clipped, finite: bool) -> dict[str, Any]:
    return {
        "update": update,
        "loss": evaluation.loss,
        "accuracy": evaluation.accuracy,
        "log10_norm_before": clipped.log_norm_before / math.log(10.0),
        "log10_norm_after": clipped.log_norm_after / math.log(10.0),
        "clip_factor": clipped.factor,
        "finite": finite,
    }


def _measure_start(problem: Problem, evaluation: Evaluation) -> dict[str, Any]:
    """What the task decided, and spectrum, growth and theory of the network before training."""
    tape = evaluation.tape
    measured = growth_of(problem, evaluation)
    W = to_numpy(problem.params["weight_hh"]).astype(np.float64)
    rho, sigma = spectral_radius(W), sigma_max(W)
    theory = _predict(problem, W, rho, sigma, to_numpy(tape.x).astype(np.float64))
    return {
        "task_input_size": problem.task.input_size,
        "task_loss_at": problem.task.loss_at,
        "measured_spectral_radius": rho,
        "sigma_max": sigma,
        "growth_rate": measured.rate,
        "growth_rate_error": measured.error,
        "log10_gradient_ratio": measured.ratio,
        "regime": regime(measured.ratio),
        **theory,
        "deviation": measured.rate - theory["predicted_rate"],
    }


def growth_of(problem: Problem, evaluation: Evaluation) -> Growth:
    """How the gradient of the last step's loss alone grows on its way back, whatever other steps carry a loss."""
    if problem.task.loss_at == "last":
        return growth(evaluation.gradients.log_norm)
    alone = last_step_only(evaluation.tape, evaluation.grad_hidden[-1])
    return growth(backward(evaluation.tape, alone).log_norm)


def _predict(problem: Problem, W: np.ndarray, rho: float, sigma: float, x: np.ndarray) -> dict[str, Any]:
    e = problem.experiment
    phi = ACTIVATIONS[e.activation]
    mean_field = math.nan
    if e.initializer in MIXING_INITIALIZERS:
        u = x @ to_numpy(problem.params["weight_ih"]).astype(np.float64).T
        mean_field = fixed_point(phi, sigma_w2=float((W**2).sum() / W.shape[0]), sigma_u2=float((u**2).mean())).rate
    exact = phi.name == "identity"
    return {
        "linear_rate": linear_rate(rho),
        "bound_rate": bound_rate(phi.gamma, sigma),
        "mean_field_rate": mean_field,
        "predicted_rate": linear_rate(rho) if exact else mean_field,
    }


def _measure_end(problem: Problem, params: Params, trained: bool, broken: bool) -> dict[str, Any]:
    """Held-out loss and accuracy after training; nan and None where there was none, or where it broke down."""
    if not trained or broken:
        return {"held_out_loss": math.nan, "held_out_accuracy": math.nan, "solved": False if trained else None}
    x, target = problem.held_out()
    with np.errstate(over="ignore", invalid="ignore"):
        loss, accuracy, *_ = loss_of(problem, params, x, target)
    solved = loss <= SOLVED_AT * baseline(problem.task.loss, to_numpy(target))
    return {"held_out_loss": loss, "held_out_accuracy": accuracy, "solved": bool(solved)}


def _all_finite(params: Params) -> bool:
    return all(bool(namespace(p).all(namespace(p).isfinite(p))) for p in params.values())


def _first_nonfinite_step(evaluation: Evaluation) -> int | None:
    """The first t whose state is not finite; else the last t, the first on the way back, whose gradient is not; else None."""
    xp = namespace(evaluation.tape.x)
    states = to_numpy(xp.all(xp.isfinite(evaluation.tape.hidden), axis=(1, 2)))
    if not states.all():
        return int(np.argmin(states)) + 1
    broken = np.flatnonzero(np.isnan(evaluation.gradients.log_norm) | (evaluation.gradients.log_norm == np.inf))
    return int(broken[-1]) + 1 if broken.size else None
