"""What the functions of a run may be given. A wrong argument ends in a sentence: what was given, and what to write."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

import numpy as np

from rnn_core.arrays import Array, Params, check_alike, dtype_name
from rnn_core.choices import FIELD_ALIASES, nearest, nearest_value, unknown
from rnn_core.experiment.settings import Experiment
from rnn_core.scaling import Scaled
from rnn_core.tasks import Sequences, Task

Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")


def takes_an_experiment(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Explain a call that gives the fields of an Experiment to ``function``, instead of an Experiment."""
    own = frozenset(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: Arguments.args, **named: Arguments.kwargs) -> Returned:
        settings = {name: value for name, value in named.items() if name not in own}
        if settings or not (args or "experiment" in named):
            given = f"the settings {', '.join(settings)}" if settings else "nothing"
            if args or "experiment" in named:
                given = f"{given} beside it"
            raise TypeError(_wanted(function.__name__, given, settings))
        return function(*args, **named)

    return checked


def check_experiment(function: str, experiment: Any) -> None:
    """TypeError unless this is an Experiment."""
    if not isinstance(experiment, Experiment):
        settings = experiment if isinstance(experiment, Mapping) else {}
        raise TypeError(_wanted(function, _kind(experiment), settings))


def check_experiments(experiments: Any) -> list[Experiment]:
    """The experiments of ``run_many``, as a list.

    Raises:
        TypeError: these are not several Experiments.
    """
    wanted = "write rc.run_many([rc.Experiment(), …])"
    if isinstance(experiments, Experiment | Mapping | str) or not isinstance(experiments, Iterable):
        raise TypeError(f"run_many takes several Experiments, and was given {_kind(experiments)}: {wanted}")
    several = list(experiments)
    for each in several:
        if not isinstance(each, Experiment):
            raise TypeError(f"run_many takes several Experiments, and one of them is {_kind(each)}: {wanted}")
    return several


def check_data(data: Any) -> None:
    """TypeError unless these are Sequences, or None."""
    if data is not None and not isinstance(data, Sequences):
        raise TypeError(
            f"data: {_kind(data)} is not allowed; it must be sequences, "
            "rc.Sequences(inputs, targets, held_out, loss, loss_at), or None for a generated task"
        )


def check_data_by_task(data: Any) -> None:
    """TypeError unless this is a dict from tasks to their Sequences, or None."""
    if data is not None and not isinstance(data, Mapping):
        raise TypeError(f"data: {_kind(data)} is not allowed; it must be a dict from a task's name to its sequences")
    for sequences in (data or {}).values():
        check_data(sequences)


def check_device(device: Any) -> None:
    """ValueError unless the device is one that a run can be made on."""
    if not isinstance(device, str) or device.split(":")[0] not in ("cpu", "cuda"):
        near = nearest_value("device", device, ("cpu", "cuda"))
        hint = f". Did you mean {near!r}?" if near else ""
        raise ValueError(f"device: {device!r} is not allowed; it must be cpu or cuda{hint}")


def check_watch(watch: Any) -> None:
    """TypeError unless this can be called, or is None."""
    if watch is not None and not callable(watch):
        raise TypeError(
            f"watch: {_kind(watch)} is not allowed; it must be a function of (problem, params, x, target, evaluation)"
        )


def check_traces(traces: Any, known: Collection[str]) -> None:
    """What traces hold besides.

    Raises:
        TypeError: these are not several names.
        ValueError: a name is not known.
    """
    if isinstance(traces, str) or not isinstance(traces, Collection):
        raise TypeError(
            f"traces: {_kind(traces)} is not allowed; it must be several names, such as {list(known)[:1]!r}"
        )
    for name in traces:
        if name not in known:
            raise ValueError(unknown("traces", str(name), tuple(known)))


def check_readout(params: Params, task: Task, x: Array, H: int) -> None:
    """The readout's parameters, for states of H numbers; ``forward`` has checked those of the cell.

    Raises:
        ValueError: a name is missing, or a shape does not fit the task and the cell.
    """
    for name, shape in (("weight_ho", (task.output_size, H)), ("bias_ho", (task.output_size,))):
        if name not in params:
            raise ValueError(f"params: {name} is missing; the readout needs it, with shape {shape}")
        value = params[name]
        if not hasattr(value, "dtype") or value.dtype != x.dtype:
            check_alike(name, value, "x", x)
        if tuple(value.shape) != shape:
            raise ValueError(f"{name}: shape {tuple(value.shape)} does not fit; expected {shape}")


def check_target(target: Any, task: Task, x: Array) -> None:
    """A target for x (T, B, D).

    Raises:
        TypeError: not an array.
        ValueError: its shape or its dtype does not fit the task.
    """
    if not hasattr(target, "shape") or not hasattr(target, "dtype"):
        raise TypeError(f"target: {_kind(target)} is not allowed; it must be an array, as problem.batch(0) gives it")
    labelled = task.loss == "softmax_cross_entropy"
    T, B = x.shape[:2]
    expected = (*((T,) if task.outputs_at == "every" else ()), B, *(() if labelled else (task.output_size,)))
    if tuple(target.shape) != expected:
        raise ValueError(
            f"target: shape {tuple(target.shape)} does not fit; "
            f"expected {expected} for {task.loss} at {task.outputs_at} and x {tuple(x.shape)}"
        )
    if _holds_integers(target) != labelled:
        wanted = "integer labels" if labelled else f"numbers in {dtype_name(x)}"
        raise ValueError(f"target: dtype {target.dtype} is not allowed; {task.loss} needs {wanted}")


def _holds_integers(array: Array) -> bool:
    """Whether the entries of a NumPy array or torch tensor are integers."""
    if isinstance(array, np.ndarray):
        return array.dtype.kind in "iu"
    return not (array.dtype.is_floating_point or array.dtype.is_complex)


def check_problem(problem: Any, params: Any, kind: type) -> None:
    """TypeError unless these are what ``prepare`` returns and a dict of parameters."""
    if not isinstance(problem, kind):
        raise TypeError(f"problem: {_kind(problem)} is not allowed; it must be rc.prepare(experiment)")
    if not isinstance(params, Mapping):
        raise TypeError(f"params: {_kind(params)} is not allowed; it must be a dict, such as problem.params")


def _wanted(function: str, given: str, settings: Mapping[Any, Any]) -> str:
    """What to say where an Experiment is missing, with the one that the settings make."""
    fields = Experiment.__dataclass_fields__
    meant = {name: name if name in fields else nearest(name, fields, FIELD_ALIASES) for name in settings}
    example = ", ".join(f"{field}={settings[name]!r}" for name, field in meant.items() if field)
    unknown = "".join(f" An Experiment has no field {name!r}." for name in settings if name not in fields)
    return f"{function} takes an Experiment, and was given {given}: write rc.{function}(rc.Experiment({example})).{unknown}"


def _kind(value: Any) -> str:
    """What a value is, in words."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if isinstance(value, Scaled) or not hasattr(value, "shape"):
        article = "an" if type(value).__name__[0] in "AEIOUaeiou" else "a"
        return "None" if value is None else f"{article} {type(value).__name__}"
    return f"an array {tuple(value.shape)}"
