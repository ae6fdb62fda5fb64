"""Training against a plain program: the runs of a study of success by ``rc.run``, and by PyTorch with autograd alone.

The plain program draws nothing. It has the parameters and the sequences of the run, by ``rc.prepare``, and its own forward pass, loss, Ω,
clipping, step and look at the held-out sequences. None of the engine's code computes in it.

Two programs round differently. Training multiplies that difference from update to update, as it does any small change. So the plain
program is run twice: as it is, and with the hidden units in another order, which changes nothing but the rounding. Where the engine parts
from the plain program no earlier than that twin does, chaos has parted them.

``python -m verification.training studies/pascanu_2013.yaml --lengths 20 --seeds 0 1`` writes one row a run.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

import rnn_core as rc
from study.config.canonical import canonical
from study.config.reader import read
from study.plan import blocks

APART = 1e-6  # relative difference of two losses from which on two programs have parted
FIRST = 100  # updates in which no rounding error has grown so far
COVERED = {  # what the plain program can do
    "cell": ("vanilla",), "activation": ("sigmoid", "tanh"), "optimizer": ("sgd",), "weight_decay": (0.0,), "truncation": (None,), "dtype": ("float64",),
    "layers": (1,), "bidirectional": (False,),
}  # fmt: skip
Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Course:
    """How one program's training went.

    Attributes:
        losses: of every batch, before its update.
        errors: by number of updates, the fraction of held-out sequences that were answered wrongly.
        success_after: updates; None without success.
    """

    losses: np.ndarray
    errors: dict[int, float]
    success_after: int | None


# ---- the plain program


def plain_course(experiment: rc.Experiment, units: np.ndarray | None = None) -> Course:
    """Train by PyTorch: autograd, and no line of the engine.

    Args:
        experiment: of a vanilla network with a loss at the last step, trained by SGD in float64.
        units: (H,) another order of the hidden units; None as they were drawn.

    Raises:
        ValueError: the plain program does not cover a setting.
    """
    for name, allowed in COVERED.items():
        if getattr(experiment, name) not in allowed:
            raise ValueError(
                f"{name}: {getattr(experiment, name)!r} is not covered; allowed: {', '.join(map(repr, allowed))}"
            )
    problem = rc.prepare(experiment)
    params = _tensors(problem.params, units)
    held_out, labels = (torch.from_numpy(np.asarray(each)) for each in problem.held_out())
    losses, errors = [], {}
    for update in range(experiment.updates):
        x, target = (torch.from_numpy(np.asarray(each)) for each in problem.batch(update))
        loss, grads = _gradients(experiment, params, x, target)
        losses.append(loss)
        grads = _clipped(experiment.clipping, grads)
        with torch.no_grad():
            for name, parameter in params.items():
                parameter -= experiment.learning_rate * grads[name]
        if _looks(experiment, made := update + 1):
            with torch.no_grad():
                outputs, _ = _outputs(experiment, params, held_out)
            errors[made] = float((outputs.argmax(dim=1) != labels).double().mean())
            if experiment.success_below is not None and errors[made] < experiment.success_below:
                return Course(np.array(losses), errors, made)
    return Course(np.array(losses), errors, None)


def _tensors(params: Any, units: np.ndarray | None) -> Tensors:
    """The drawn parameters as tensors that autograd follows, the hidden units in this order."""
    by_name = {name: torch.tensor(np.asarray(value)) for name, value in params.items()}
    if units is not None:
        order = torch.from_numpy(units)
        for name, tensor in by_name.items():
            tensor = tensor[order] if not name.endswith("_ho") else tensor
            by_name[name] = tensor[:, order] if name in ("weight_hh", "weight_ho") else tensor
    return {name: tensor.contiguous().requires_grad_() for name, tensor in by_name.items()}


def _outputs(experiment: rc.Experiment, params: Tensors, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """(y of the last step (B, C), h_1 … h_T (B, H)); x is (T, B, D)."""
    activation = torch.tanh if experiment.activation == "tanh" else torch.sigmoid
    h, states = torch.zeros(x.shape[1], params["weight_hh"].shape[0], dtype=x.dtype), []
    for inputs in (x @ params["weight_ih"].T).unbind(0):
        h = activation(inputs + params["bias_ih"] + h @ params["weight_hh"].T + params["bias_hh"])
        states.append(h)
    return h @ params["weight_ho"].T + params["bias_ho"], states


def _gradients(
    experiment: rc.Experiment, params: Tensors, x: torch.Tensor, target: torch.Tensor
) -> tuple[float, Tensors]:
    """(loss, its gradient by parameter, with α times that of Ω)."""
    outputs, states = _outputs(experiment, params, x)
    loss = functional.cross_entropy(outputs, target)
    by_state = states if experiment.omega else []
    derivatives = torch.autograd.grad(loss, [*params.values(), *by_state])
    grads = dict(zip(params, derivatives, strict=False))
    if experiment.omega:
        slopes = [1 - h * h if experiment.activation == "tanh" else h * (1 - h) for h in states]
        regulariser = _omega(
            params["weight_hh"], [dh.detach() for dh in derivatives[len(params) :]], [each.detach() for each in slopes]
        )
        (more,) = torch.autograd.grad(regulariser, [params["weight_hh"]])
        grads["weight_hh"] = grads["weight_hh"] + experiment.omega * more
    return float(loss.detach()), grads


def _omega(weight_hh: torch.Tensor, dh: list[torch.Tensor], slopes: list[torch.Tensor]) -> torch.Tensor:
    """Σ_t (‖J_tᵀ dh_t‖/‖dh_t‖ - 1)² for t = 2 … T, the mean over the batch; dh_t and the slopes are held constant (Pascanu et al. 2013, eq. 9)."""
    later, at = torch.stack(dh[1:]), torch.stack(slopes[1:])
    ratio = torch.linalg.vector_norm((later * at) @ weight_hh, dim=2) / torch.linalg.vector_norm(later, dim=2)
    return ((ratio - 1) ** 2).sum() / later.shape[1]


def _clipped(rule: str, grads: Tensors) -> Tensors:
    """``none``, or ``norm:THRESHOLD`` over all parameters.

    Raises:
        ValueError: it is another rule.
    """
    kind, _, threshold = rule.partition(":")
    if kind == "none":
        return grads
    if kind != "norm":
        raise ValueError(f"clipping: {rule!r} is not covered; allowed: none, norm:THRESHOLD")
    norm = math.sqrt(sum(float((g * g).sum()) for g in grads.values()))
    return {name: g * (float(threshold) / norm) for name, g in grads.items()} if norm > float(threshold) else grads


def _looks(experiment: rc.Experiment, made: int) -> bool:
    """Whether the held-out sequences are looked at after so many updates: every so many, and after the last one."""
    every = experiment.validate_every
    return made == experiment.updates or (every is not None and made % every == 0)


# ---- the engine, and both beside each other


def engine_course(experiment: rc.Experiment) -> Course:
    """The same by ``rc.run``."""
    result = rc.run(experiment)
    updates = result.updates
    errors = {
        int(update) + 1: float(error)
        for update, error in zip(updates["update"], updates["held_out_error"], strict=True)
        if not math.isnan(error)
    }
    took = result["updates_to_success"]
    return Course(np.array(updates["loss"], dtype=float), errors, None if took is None else int(took))


def parted_at(first: Course, second: Course) -> int | None:
    """The first update whose losses differ by more than ``APART``, relatively; None where none does, as far as both go."""
    both = min(len(first.losses), len(second.losses))
    a, b = first.losses[:both], second.losses[:both]
    apart = ~(np.abs(a - b) <= APART * np.abs(b))
    return int(apart.argmax()) if apart.any() else None


def compared(experiment: rc.Experiment) -> dict[str, Any]:
    """One row: success by both programs, the largest difference of the first losses, and where they part; then the twin's, too."""
    every = rc.Experiment(**{**_settings(experiment), "record_every": 1})
    ours, theirs = engine_course(every), plain_course(every)
    parted, twin = parted_at(ours, theirs), None
    if parted is not None or ours.success_after != theirs.success_after:
        twin = plain_course(every, np.random.default_rng(0).permutation(experiment.hidden_size))
    first = min(FIRST, len(ours.losses), len(theirs.losses))
    return {
        **{name: getattr(experiment, name) for name in ("initializer", "clipping", "omega", "sequence_length", "seed")},
        "ours": ours.success_after, "theirs": theirs.success_after, "twin": twin and twin.success_after,
        "first losses": float(np.max(np.abs(ours.losses[:first] / theirs.losses[:first] - 1.0))),
        "parted": parted, "twin parted": twin and parted_at(twin, theirs),
    }  # fmt: skip


def _settings(experiment: rc.Experiment) -> dict[str, Any]:
    return {name: getattr(experiment, name) for name in rc.Experiment.__dataclass_fields__}


def explained(row: dict[str, Any]) -> bool:
    """Whether both programs agree, or have parted as late as the twin has: half as many updates at least."""
    if row["first losses"] > APART:
        return False
    if row["ours"] == row["theirs"] and row["parted"] is None:
        return True
    return row["parted"] is not None and row["twin parted"] is not None and 2 * row["parted"] >= row["twin parted"]


def experiments_of(config_file: Path, lengths: Sequence[int], seeds: Sequence[int]) -> Iterator[rc.Experiment]:
    """The runs of a study with these lengths and seeds."""
    for block in blocks(canonical(read(config_file).values)).values():
        for settings in block.runs():
            if settings["sequence_length"] in lengths and settings["seed"] in seeds:
                yield rc.Experiment(**settings)


def main() -> int:
    """Every run of the study that is asked for; 1 where two programs differ and chaos does not explain it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("config", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=[20])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for experiment in experiments_of(given.config, given.lengths, given.seeds):
        rows.append(row := compared(experiment))
        print(
            "  ".join(
                f"{name}: {value:.2g}" if name == "first losses" else f"{name}: {value}" for name, value in row.items()
            ),
            flush=True,
        )
    alike = sum(row["ours"] == row["theirs"] for row in rows)
    successes = [sum(row[name] is not None for row in rows) for name in ("ours", "theirs")]
    print(f"{alike} of {len(rows)} runs succeed after the same number of updates, or not at all, by both programs.")
    print(f"Successes: {successes[0]} by the engine, {successes[1]} by the plain program.")
    return 0 if all(map(explained, rows)) else 1


if __name__ == "__main__":
    raise SystemExit(main())
