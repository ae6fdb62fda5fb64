"""A step for a signal of any size and spread: layer by layer, each at a scale at which nothing is lost.

Derivation: rnn_core/README.md, section 3. A backward step is linear in what the future sends, so its layers go back through it by
themselves and the results are added.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.bptt.loop import Step, Steps
from rnn_core.bptt.signal import Layer, Signal, Wide, any_part
from rnn_core.bptt.watch import results_hold
from rnn_core.cells.base import Cell
from rnn_core.scaling import (
    at_first_sound_scale,
    common_exponent,
    flags_raise,
    log_norm,
    sum_of_terms,
    times_power_of_two,
)


def careful_step(cell: Cell, params: Params, saved: Any, signal: Signal) -> Steps:
    """The step that saved ``saved``, back from ``signal``, in which the direct part has joined."""
    layers = signal.at_size_one()
    steps = _side_by_side(cell, params, saved, layers) or [_of_layer(cell, params, saved, each) for each in layers]
    total = {name: sum_of_terms([(step.total[name], step.exponent) for step in steps]) for name in cell.state_names}
    du, dv = (sum_of_terms([(getattr(step, which), step.exponent) for step in steps]) for which in ("du", "dv"))
    common = common_exponent(du, dv)
    return Steps(
        totals=[{name: part for name, (part, _) in total.items()}],
        du=[times_power_of_two(du[0], du[1] - common)],
        dv=[times_power_of_two(dv[0], dv[1] - common)],
        log_norm=np.array([[log_norm(part, e) for part, e in total.values()]]),
        exponent=np.array([[*(e for _, e in total.values()), common]]),
        sent=Signal.sum_of([Layer(step.sent, step.exponent) for step in steps]),
        log_norm_samples=_log_norms_of_samples(cell.measured[-1], steps) if len(steps) > 1 else None,
        careful=True,
    )


def _log_norms_of_samples(name: str, steps: list[Step]) -> np.ndarray:
    """ln of the norm of every sample of one part of dL/dstate_t, (B,)."""
    return Wide.sum_of([Layer({name: step.total[name]}, step.exponent) for step in steps]).log_norms(name)


def _side_by_side(cell: Cell, params: Params, saved: Any, layers: list[Layer]) -> list[Step] | None:
    """The step of several layers at once, as if they were samples; None where that over- or underflows somewhere."""
    xp, count = namespace(any_part(layers[0].parts)), len(layers)
    if count == 1 or not cell.any_batch:
        return None
    joint = {name: xp.concat([layer.parts[name] for layer in layers], axis=-1) for name in cell.state_names}
    repeated: Any = tuple(xp.concat([a] * count, axis=-1) for a in (saved if isinstance(saved, tuple) else (saved,)))
    repeated = repeated if isinstance(saved, tuple) else repeated[0]
    try:
        with flags_raise():
            total, du, dv, sent = cell.back(params, repeated, joint)
    except FloatingPointError:
        return None
    if not results_hold(total, du, dv, sent):
        return None
    B, steps = du.shape[1] // count, []
    for i, layer in enumerate(layers):
        own = slice(i * B, (i + 1) * B)
        own_total, own_sent = ({name: part[:, own] for name, part in state.items()} for state in (total, sent))
        steps.append(Step(own_total, du[:, own], dv[:, own], own_sent, layer.exponent))
    return steps


def _of_layer(cell: Cell, params: Params, saved: Any, layer: Layer) -> Step:
    """The step of one layer, at the first scale at which nothing over- or underflows."""

    def step(shift: int) -> tuple[State, Array, Array, State]:
        return cell.back(params, saved, {name: times_power_of_two(part, shift) for name, part in layer.parts.items()})

    def arrays(results: tuple[State, Array, Array, State]) -> list[Array]:
        total, du, dv, sent = results
        return [*total.values(), du, dv, *sent.values()]

    like_this = any_part(layer.parts)
    results, shift = at_first_sound_scale(step, arrays, lambda results: results_hold(*results), like_this)
    return Step(*results, layer.exponent - shift)
