"""Bugs that people really make, planted one by one: each must be caught by the oracles, and without them all must pass.

A check that lets one of these through proves nothing when it passes.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core import readout
from rnn_core.arrays import Array, Params, State
from rnn_core.bptt import loop, results, signal, steps
from rnn_core.experiment import evaluation
from rnn_core.losses import LOSSES
from rnn_core.oracles import autograd, equations, torch_modules
from rnn_core.oracles.central_differences import best_step, central_difference
from rnn_core.oracles.complex_step import complex_step_gradients
from rnn_core.oracles.problems import with_biases
from rnn_core.tape import Segment
from tests.support.arrays import relative, worst_relative
from tests.support.networks import OPTIONS

CLEAN = 1e-12
CAUGHT = 1e-3

Backward = tuple[Array, Array, State]
GATED = [name for name, cell in rc.CELLS.items() if len(cell.gates) > 1]
GRUS = ("gru", "gru_reset_before")


# ---- bugs in any cell: each makes a wrong class of a right one -----------------------------------------------------------


def conjugate(weight_hh: Array) -> Array:
    """Of an LRU's eigenvalues."""
    H = len(weight_hh)
    return np.concatenate([weight_hh[: H - H // 2], -weight_hh[H - H // 2 :]])


def transposed(kind: type[rc.Cell]) -> type[rc.Cell]:
    """W for W^T, gate by gate."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
            W = params["weight_hh"]
            if W.ndim == 1:  # an LRU's eigenvalues: the conjugates
                return super().backward({**params, "weight_hh": conjugate(W)}, saved, dstate)
            blocks = [W[g * W.shape[1] : (g + 1) * W.shape[1]].T for g in range(len(self.gates))]
            return super().backward({**params, "weight_hh": np.concatenate(blocks)}, saved, dstate)

    return Wrong


def no_recurrence(kind: type[rc.Cell]) -> type[rc.Cell]:
    """Nothing flows back: each step sees its own loss only."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
            du, dv, before = super().backward(params, saved, dstate)
            return du, dv, {name: 0.0 * part for name, part in before.items()}

    return Wrong


def no_way_through_the_weights(kind: type[rc.Cell]) -> type[rc.Cell]:
    """W_hh^T dv_t is forgotten; what a gate or a skip connection carries flows on."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
            return super().backward({**params, "weight_hh": 0.0 * params["weight_hh"]}, saved, dstate)

    return Wrong


def _with_wrong_slope(cell: rc.Cell) -> rc.Cell:
    """The cell with phi'(phi(a)) for phi'(a)."""
    phi = cell.phi
    wrong = copy.copy(cell)
    wrong.phi = replace(phi, derivative=lambda xp, a: phi.derivative(xp, phi.formula(xp, a)))
    return wrong


def slope_at_the_value(kind: type[rc.Cell]) -> type[rc.Cell]:
    """phi'(phi(a)) for phi'(a) in the backward step (in a vanilla cell phi'(h))."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
            return kind.backward(_with_wrong_slope(self), params, saved, dstate)

    return Wrong


def no_slope(kind: type[rc.Cell]) -> type[rc.Cell]:
    """phi' is forgotten on the way to the state before, though not in du and dv."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
            flat = copy.copy(self)
            flat.phi = replace(self.phi, derivative=lambda xp, a: xp.ones_like(a))
            du, dv, _ = super().backward(params, saved, dstate)
            return du, dv, kind.backward(flat, params, saved, dstate)[2]

    return Wrong


def bias_twice(kind: type[rc.Cell]) -> type[rc.Cell]:
    """b_hh counted twice in the forward pass."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
            return super().forward({**params, "bias_hh": 2.0 * params["bias_hh"]}, u, state)

    return Wrong


def bias_left_out(kind: type[rc.Cell]) -> type[rc.Cell]:
    """Only one of the two biases is counted."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
            return super().forward({**params, "bias_hh": 0.0 * params["bias_hh"]}, u, state)

    return Wrong


def stale_slope(kind: type[rc.Cell]) -> type[rc.Cell]:
    """The forward pass saves what is not yet a_t: the bias is missing."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
            after, _ = super().forward(params, u, state)
            _, saved = super().forward({**params, "bias_hh": 0.0 * params["bias_hh"]}, u, state)
            return after, saved

    return Wrong


ANY_CELL: list[Callable[[type[rc.Cell]], type[rc.Cell]]] = [
    transposed, no_recurrence, no_way_through_the_weights, slope_at_the_value, no_slope, bias_twice, bias_left_out, stale_slope
]  # fmt: skip


# A diagonal matrix is its own transpose. Without a matrix there is nothing to transpose or to forget, and the candidate's slope is no
# factor of what flows back.
IMPOSSIBLE = [
    ("indrnn", transposed), ("mingru", transposed), ("mingru", no_way_through_the_weights), ("mingru", no_slope)
]  # fmt: skip


# ---- gates in a wrong order ----------------------------------------------------------------------------------------------


def _swapped(a: Array, i: int, j: int, gates: int) -> Array:
    """Blocks of rows i and j of ``a`` exchanged."""
    blocks = np.split(a, gates)
    blocks[i], blocks[j] = blocks[j], blocks[i]
    return np.concatenate(blocks)


def gates_swapped(kind: type[rc.Cell], i: int, j: int) -> type[rc.Cell]:
    """Two gates have each other's weights, consistently forward and backward: only another program can tell."""

    def swap(a: Array) -> Array:
        return _swapped(a, i, j, len(kind.gates))

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def _params(self, params: Params) -> Params:
            return {name: swap(p) if name in ("weight_hh", "bias_hh") else p for name, p in params.items()}

        def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
            return super().forward(self._params(params), swap(u), state)

        def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
            du, dv, before = super().backward(self._params(params), saved, dstate)
            return swap(du), swap(dv), before

        def factors(self, saved: Any, h_prev: Array) -> list[Array]:
            found = super().factors(saved, h_prev)
            if len(found) > 1:
                found[i], found[j] = found[j], found[i]
            return found

    return Wrong


def gate_gradients_swapped(kind: type[rc.Cell], i: int, j: int) -> type[rc.Cell]:
    """Two gates get each other's gradients; all else is right."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
            du, dv, before = super().backward(params, saved, dstate)
            return _swapped(du, i, j, len(self.gates)), _swapped(dv, i, j, len(self.gates)), before

    return Wrong


PAIRS = [(cell, i, j) for cell in GATED for i, j in combinations(range(len(rc.CELLS[cell].gates)), 2)]


# ---- bugs in one cell ----------------------------------------------------------------------------------------------------


class NoPathThroughH(rc.LSTMCell):
    """dL/dc_t without what c_t does through h_t."""

    def total(self, saved: Any, dstate: State) -> State:
        return dstate


class NoPathThroughC(rc.LSTMCell):
    """dL/dc_t without what c_t does through c_{t+1}."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        du, dv, before = super().backward(params, saved, dstate)
        return du, dv, {**before, "cell": 0.0 * before["cell"]}


class ForgetGateForgotten(rc.LSTMCell):
    """dL/dc_t for f_t ⊙ dL/dc_t on the way to c_{t-1}."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        du, dv, before = super().backward(params, saved, dstate)
        return du, dv, {**before, "cell": dstate["cell"]}


class OutputSlopeAtTheValue(rc.LSTMCell):
    """phi'(phi(c_t)) for phi'(c_t)."""

    def total(self, saved: Any, dstate: State) -> State:
        return rc.LSTMCell.total(_with_wrong_slope(self), saved, dstate)  # type: ignore[arg-type]


class CellAfterForCellBefore(rc.LSTMCell):
    """df_t = c_t ⊙ dc_t for c_{t-1} ⊙ dc_t."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        a, i, f, g, o, _, c, s = saved
        return super().backward(params, (a, i, f, g, o, c, c, s), dstate)


class ResetAfterForBefore(rc.GRUCell):
    """The reset gate before the product where it should act after it."""

    forward = rc.GRUResetBeforeCell.forward
    backward = rc.GRUResetBeforeCell.backward
    factors = rc.GRUResetBeforeCell.factors


class ResetBeforeForAfter(rc.GRUResetBeforeCell):
    """The reset gate after the product where it should act before it."""

    forward = rc.GRUCell.forward
    backward = rc.GRUCell.backward
    factors = rc.GRUCell.factors


def update_gate_turned_round(kind: type[rc.Cell]) -> type[rc.Cell]:
    """z for 1 - z in the backward pass."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
            a_r, a_z, a_n, r, z, keep, *rest = saved
            return super().backward(params, (a_r, a_z, a_n, r, keep, z, *rest), dstate)

    return Wrong


def reset_gate_missing(kind: type[rc.Cell]) -> type[rc.Cell]:
    """r is missing in dv_n (in dL/dq_t's way to h_{t-1}, where the reset gate acts before the product)."""

    class Wrong(kind):  # type: ignore[misc, valid-type]
        def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
            a_r, a_z, a_n, r, *rest = saved
            return super().backward(params, (a_r, a_z, a_n, np.ones_like(r), *rest), dstate)

    return Wrong


class CandidateBiasOutside(rc.GRUCell):
    """b_hn beside the reset gate, not inside: n = phi(u_n + b_hn + r ⊙ W_hn h)."""

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        H = state["hidden"].shape[0]
        inside, outside = params["bias_hh"].copy(), np.zeros_like(params["bias_hh"])
        inside[2 * H :], outside[2 * H :] = 0.0, params["bias_hh"][2 * H :]
        return super().forward({**params, "bias_hh": inside}, u + outside[:, None], state)


class ResetMissingInWeights(rc.GRUResetBeforeCell):
    """h_{t-1} for r_t ⊙ h_{t-1} in dL/dW_hn."""

    def factors(self, saved: Any, h_prev: Array) -> list[Array]:
        return [h_prev, h_prev, h_prev]


class StepForgotten(rc.ResidualCell):
    """eta is forgotten in the backward pass."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        return rc.ResidualCell(self.phi.name, 1.0, self.leak).backward(params, saved, dstate)


class LeakForgotten(rc.ResidualCell):
    """1 - lambda is forgotten in the backward pass."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        return rc.ResidualCell(self.phi.name, self.step, 0.0).backward(params, saved, dstate)


class NoSkip(rc.ResidualCell):
    """The skip connection is left out of the backward pass."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        return rc.ResidualCell(self.phi.name, self.step, 1.0).backward(params, saved, dstate)


class WeightsOfTheNextUnit(rc.IndRNNCell):
    """h_{t-1} of another unit in dL/dw."""

    def recurrent_gradient(self, params: Params, dv: Array, factor: Array) -> Array:
        return super().recurrent_gradient(params, dv, np.roll(factor, 1, axis=0))


class PlaceAboveTheDiagonalAlone(rc.AntisymmetricCell):
    """dL/dW_hh as if W_ij stood in K_ij alone."""

    def recurrent_gradient(self, params: Params, dv: Array, factor: Array) -> Array:
        return dv @ factor.T


class SignOfTheTranspose(rc.AntisymmetricCell):
    """K for K^T on the way back."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        return super().backward({**params, "weight_hh": params["weight_hh"].T}, saved, dstate)


class DiffusionForgotten(rc.AntisymmetricCell):
    """gamma is forgotten in the backward pass."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        return rc.AntisymmetricCell(self.phi.name, self.step, 0.0).backward(params, saved, dstate)


class EulerStepForgotten(rc.AntisymmetricCell):
    """epsilon is forgotten in the backward pass."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        return rc.AntisymmetricCell(self.phi.name, 1.0, self.diffusion).backward(params, saved, dstate)


class EigenvaluesOfTheConjugate(rc.LRUCell):
    """The imaginary part of dL/dλ with a wrong sign."""

    def recurrent_gradient(self, params: Params, dv: Array, factor: Array) -> Array:
        return conjugate(super().recurrent_gradient(params, dv, factor))


class OnePartOfTheState(rc.LRUCell):
    """dL/d Re λ from the real part of the state alone."""

    def recurrent_gradient(self, params: Params, dv: Array, factor: Array) -> Array:
        H, right = len(dv), super().recurrent_gradient(params, dv, factor)
        return np.concatenate([(dv * factor).sum(axis=1)[: H - H // 2], right[H - H // 2 :]])


class NormaliserForgotten(rc.SLSTMCell):
    """Nothing flows back through the normaliser."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        du, dv, before = super().backward(params, saved, dstate)
        return du, dv, {**before, "normaliser": 0.0 * before["normaliser"]}


class NormaliserThroughTheGateAlone(rc.SLSTMCell):
    """What the normaliser sends to the one before it is forgotten; its way through w_t is right."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        return super().backward(params, saved, {**dstate, "normaliser": 0.0 * dstate["normaliser"]})


class NoPathThroughO(rc.SLSTMCell):
    """dL/dc_t without what c_t does through h_t."""

    def total(self, saved: Any, dstate: State) -> State:
        return dstate


class ShareTurnedRound(rc.SLSTMCell):
    """1 - w for w in the backward pass."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        a, d, w, keep, *rest = saved
        return super().backward(params, (a, d, keep, w, *rest), dstate)


class CandidateAfterForBefore(rc.SLSTMCell):
    """c_t for c_{t-1} in dw_t."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        *kept, _, c = saved
        return super().backward(params, (*kept, c, c), dstate)


class MeanLeftIn(rc.LayerNormCell):
    """dL/da_t with its mean: a_t acts on the mean of its sample, too."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        n, s, _ = saved
        dn = params["weight_ln"][:, None] * self._dz(saved, dstate["hidden"])
        da = (dn - n * (n * dn).mean(axis=0, keepdims=True)) / s
        dh_prev = (1.0 - self.leak) * dstate["hidden"] + params["weight_hh"].T @ da
        return da, da, {"hidden": dh_prev}


class DeviationHeldFixed(rc.LayerNormCell):
    """s_t is taken for a constant."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        n, s, z = saved
        return super().backward(params, (0.0 * n, s, z), dstate)


class GainForgotten(rc.LayerNormCell):
    """dL/dn_t without the gain."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        return super().backward({**params, "weight_ln": 0.0 * params["weight_ln"] + 1.0}, saved, dstate)


class NotDividedByTheDeviation(rc.LayerNormCell):
    """dL/da_t is not divided by s_t."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        n, s, z = saved
        return super().backward(params, (n, 0.0 * s + 1.0, z), dstate)


class GainsGradientWithoutN(rc.LayerNormCell):
    """dg is db."""

    def own_gradients(self, saved: Any, total: State) -> dict[str, Any]:
        return dict.fromkeys(self.own_parameters, self._dz(saved, total["hidden"]))


class GateTurnedRound(rc.MinGRUCell):
    """z for 1 - z in the backward pass."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        a_z, a_n, z, keep, n, h_prev = saved
        return super().backward(params, (a_z, a_n, keep, z, n, h_prev), dstate)


class StateLeftOutOfTheGate(rc.MinGRUCell):
    """dz_t = n_t ⊙ dh_t, as if h_{t-1} were not multiplied by the gate."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        a_z, a_n, z, keep, n, h_prev = saved
        return super().backward(params, (a_z, a_n, z, keep, n, 0.0 * h_prev), dstate)


class StateAfterForBefore(rc.MinGRUCell):
    """h_t for h_{t-1} in dz_t."""

    def backward(self, params: Params, saved: Any, dstate: State) -> Backward:
        a_z, a_n, z, keep, n, h_prev = saved
        return super().backward(params, (a_z, a_n, z, keep, n, keep * h_prev + z * n), dstate)


OWN: list[type[rc.Cell]] = [
    GateTurnedRound, StateLeftOutOfTheGate, StateAfterForBefore,
    MeanLeftIn, DeviationHeldFixed, GainForgotten, NotDividedByTheDeviation, GainsGradientWithoutN,
    NoPathThroughH, NoPathThroughC, ForgetGateForgotten, OutputSlopeAtTheValue, CellAfterForCellBefore,
    ResetAfterForBefore, ResetBeforeForAfter, CandidateBiasOutside, ResetMissingInWeights,
    *(bug(rc.CELLS[cell]) for bug in (update_gate_turned_round, reset_gate_missing) for cell in GRUS),
    StepForgotten, LeakForgotten, NoSkip, WeightsOfTheNextUnit, PlaceAboveTheDiagonalAlone, SignOfTheTranspose, DiffusionForgotten,
    EulerStepForgotten, EigenvaluesOfTheConjugate, OnePartOfTheState,
    NormaliserForgotten, NormaliserThroughTheGateAlone, NoPathThroughO, ShareTurnedRound, CandidateAfterForBefore,
]  # fmt: skip


# ---- bugs in the time loop and around it -------------------------------------------------------------------------------


def _immediate_dropped(dstate: State, e: int, g_t: Array, e_g: int) -> tuple[State, int]:
    """The direct part is left out wherever something flows back already."""
    return (dstate if dstate["hidden"].any() else {**dstate, "hidden": dstate["hidden"] + g_t}), 0


def _future_dropped(dstate: State, e: int, g_t: Array, e_g: int) -> tuple[State, int]:
    """The direct part replaces what flows back instead of joining it."""
    return {**dstate, "hidden": 0.0 * dstate["hidden"] + g_t}, 0


ORIGINAL_PARAMETER_GRADIENTS = loop.parameter_gradients


def _parameter_bug(change: Callable[[dict[str, Any], Array], None]) -> Callable[..., Any]:
    """``parameter_gradients`` with its result changed; ``change`` gets the gradients and dv (T, G·H, B)."""

    def wrong(tape: rc.Tape, segment: Segment, du: Array, dv: Array, exponent: np.ndarray) -> Any:
        grads = ORIGINAL_PARAMETER_GRADIENTS(tape, segment, du, dv, exponent)
        change(grads, dv)
        return grads

    return wrong


def _bias_gradient_twice(grads: dict[str, Any], dv: Array) -> None:
    grads["bias_hh"] = 2.0 * grads["bias_hh"]


def _mean_over_batch(grads: dict[str, Any], dv: Array) -> None:
    for name in grads:
        grads[name] = grads[name] / dv.shape[2]


def _last_step_left_out(grads: dict[str, Any], dv: Array) -> None:
    grads["bias_ih"] = dv[:-1].sum(axis=(0, 2))


def _off_by_one(tape: rc.Tape, segment: Segment, du: Array, dv: Array, exponent: np.ndarray) -> Any:
    """h_t for h_{t-1} in dL/dW_hh."""
    hidden = segment.states["hidden"]
    shifted = {**segment.states, "hidden": np.concatenate([hidden[1:], hidden[-1:]])}
    return ORIGINAL_PARAMETER_GRADIENTS(tape, replace(segment, states=shifted), du, dv, exponent)


LOOP: dict[str, tuple[Any, str, Any]] = {
    "immediate term missing": (loop, "joined", _immediate_dropped),
    "future missing": (loop, "joined", _future_dropped),
    "h_t for h_{t-1}": (steps, "parameter_gradients", _off_by_one),
    "bias gradient twice": (steps, "parameter_gradients", _parameter_bug(_bias_gradient_twice)),
    "mean over batch": (steps, "parameter_gradients", _parameter_bug(_mean_over_batch)),
    "last step left out": (steps, "parameter_gradients", _parameter_bug(_last_step_left_out)),
}


def _half_error(y: Array, target: Array) -> tuple[Array, Array]:
    value, gradient = LOSSES["squared_error"](y, target)
    return value, 2.0 * gradient


def _readout_of_other_units(params: Params, h: Array, dy: Array) -> Params:
    grads = ORIGINAL_READOUT_GRADIENTS(params, h, dy)
    return {**grads, "weight_ho": grads["weight_ho"][:, ::-1]}


def _wrong_direct_part(params: Params, dy: Array) -> Array:
    dh = ORIGINAL_READOUT_INPUT(params, dy)
    return dh * (1.0 + 0.01 * np.arange(dh.shape[-1]))


ORIGINAL_READOUT_GRADIENTS, ORIGINAL_READOUT_INPUT = readout.parameter_gradients, readout.input_gradient
AROUND: dict[str, tuple[Any, str, Any]] = {
    "gradient of a loss without its half": (evaluation, "LOSSES", {**LOSSES, "squared_error": _half_error}),
    "readout gradient of other units": (readout, "parameter_gradients", _readout_of_other_units),
    "wrong direct part": (readout, "input_gradient", _wrong_direct_part),
}


# ---- the oracles -------------------------------------------------------------------------------------------------------


def problem(activation: str, T: int = 8, cell: str = "vanilla") -> rc.Problem:
    options = {f"{cell}_{name}": value for name, value in OPTIONS.get(cell, {}).items()}
    e = rc.Experiment(
        task="input_mean", cell=cell, activation=activation, hidden_size=4, sequence_length=T, batch_size=4,
        spectral_radius=1.1 if rc.CELLS[cell].has_matrix else None, seed=2, **options,
    )  # fmt: skip
    return with_biases(rc.prepare(e))


def with_bug(p: rc.Problem, bug: type[rc.Cell]) -> rc.Problem:
    """The problem with a wrong cell, which has the right one's options."""
    return replace(p, cell=bug(p.cell.phi.name, **{name: getattr(p.cell, name) for name in p.cell.options}))


def autograd_error(p: rc.Problem) -> float:
    x, target = p.batch(0)
    return autograd.check(p, p.params, x, target, rc.evaluate(p, p.params, x, target)).relative


def grad_hidden_for(p: rc.Problem, x: Array) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((*x.shape[:2], p.experiment.hidden_size))


def module_error(p: rc.Problem) -> float:
    x, _ = p.batch(0)
    return torch_modules.check(p, x, grad_hidden_for(p, x)).relative


def complex_step_error(p: rc.Problem) -> float:
    """Looks at three steps only: each costs as many passes as there are units and inputs."""
    x, _ = p.batch(0)
    steps = [0, len(x) // 2, len(x) - 1]
    params = {name: value for name, value in p.params.items() if not name.endswith("_ho")}
    options = {name: getattr(p.cell, name) for name in p.cell.options}
    grad_hidden = grad_hidden_for(p, x)
    ours = rc.backward(rc.forward(p.cell, params, x), grad_hidden)
    found = complex_step_gradients(
        p.experiment.cell, p.cell.phi.name, params, x, grad_hidden, options=options, steps=steps
    )
    errors = [relative(value, found.params[name]) for name, value in ours.params.items()]
    errors += [relative(value, found.state[name]) for name, value in ours.state.items()]
    errors += [worst_relative(np.asarray(getattr(ours, n))[steps], getattr(found, n)) for n in ("hidden", "x")]
    if found.cell is not None:
        errors.append(worst_relative(np.asarray(ours.cell)[steps], found.cell))
    return max(errors)


def errors_of(p: rc.Problem) -> dict[str, float]:
    """What every oracle that knows this cell says."""
    found = {"autograd": autograd_error(p), "complex step": complex_step_error(p)}
    return found | ({"module": module_error(p)} if torch_modules.module_of(p) else {})


def assert_all_catch(p: rc.Problem) -> None:
    errors = errors_of(p)
    assert min(errors.values()) > CAUGHT, errors


def assert_all_pass(p: rc.Problem) -> None:
    errors = errors_of(p)
    assert max(errors.values()) < CLEAN, errors


@contextmanager
def planted(where: Any, name: str, bug: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, bug)
        yield


every_cell = pytest.mark.parametrize("cell", list(rc.CELLS))


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "selu"])
@every_cell
def test_without_a_bug_all_pass(cell: str, activation: str) -> None:
    """The oracles accuse a right engine: what they say of a wrong one means nothing."""
    assert_all_pass(problem(activation, cell=cell))


@pytest.mark.parametrize("activation", ["tanh", "silu", "selu"])
@pytest.mark.parametrize(
    ("cell", "bug"),
    [(cell, bug) for cell in rc.CELLS for bug in ANY_CELL if (cell, bug) not in IMPOSSIBLE],
)
def test_a_bug_in_the_cell_is_caught(cell: str, bug: Callable[..., type[rc.Cell]], activation: str) -> None:
    """A wrong cell passes the gate."""
    assert_all_catch(with_bug(problem(activation, cell=cell), bug(rc.CELLS[cell])))


@pytest.mark.parametrize("bug", [gates_swapped, gate_gradients_swapped])
@pytest.mark.parametrize(("cell", "i", "j"), PAIRS)
def test_gates_in_a_wrong_order_are_caught(cell: str, i: int, j: int, bug: Callable[..., type[rc.Cell]]) -> None:
    """Parameters that were trained elsewhere would be read into other gates."""
    assert_all_catch(with_bug(problem("tanh", cell=cell), bug(rc.CELLS[cell], i, j)))


@pytest.mark.parametrize("activation", ["tanh", "silu"])
@pytest.mark.parametrize("bug", OWN, ids=lambda bug: f"{bug.name}-{bug.__qualname__.split('.')[0]}")
def test_a_bug_that_only_one_cell_can_have_is_caught(bug: type[rc.Cell], activation: str) -> None:
    """A path, a gate or a factor is missing and the gate passes it."""
    assert_all_catch(with_bug(problem(activation, cell=bug.name), bug))


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("cell", GATED)
def test_a_gates_slope_at_its_value_is_caught(cell: str) -> None:
    """sigma'(sigma(a)) for sigma'(a) passes the gate."""
    sigma = rc.ACTIVATIONS["sigmoid"]
    wrong = replace(sigma, derivative=lambda xp, a: sigma.derivative(xp, sigma.formula(xp, a)))
    p = problem("tanh", cell=cell)
    with planted(sys.modules[type(p.cell).__module__], "SIGMA", wrong):
        assert_all_catch(p)
    assert_all_pass(p)


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("bug", list(LOOP))
@every_cell
def test_a_bug_in_the_time_loop_is_caught(cell: str, bug: str) -> None:
    """A wrong time loop or a wrong sum passes the gate."""
    if bug == "h_t for h_{t-1}" and not rc.CELLS[cell].has_matrix:
        pytest.skip("nothing multiplies h_{t-1} but the gate")
    p = problem("tanh", cell=cell)
    with planted(*LOOP[bug]):
        assert_all_catch(p)
    assert autograd_error(p) < CLEAN


@every_cell
def test_a_segment_that_is_lost_is_caught(cell: str) -> None:
    """The sum over time keeps one segment's share only: the gate's problems must be longer than one segment."""
    p = problem("tanh", T=140, cell=cell)
    with planted(results, "add", lambda total, share: share):
        assert autograd_error(p) > CAUGHT
        assert autograd_error(problem("tanh", cell=cell)) < CLEAN  # a short problem cannot see it
    assert autograd_error(p) < CLEAN


@pytest.mark.parametrize("bug", list(AROUND))
@every_cell
def test_a_bug_around_the_network_is_caught(cell: str, bug: str) -> None:
    """A wrong loss or readout passes the gate (torch's modules have neither, so only autograd can see it)."""
    p = problem("tanh", cell=cell)
    with planted(*AROUND[bug]):
        assert autograd_error(p) > CAUGHT
    assert autograd_error(p) < CLEAN


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_a_bug_in_the_scaling_is_caught_beyond_range(activation: str) -> None:
    """A lost exponent shows only where it is not zero: the gate's problems must reach beyond the range."""
    p = rc.prepare(
        rc.Experiment(activation=activation, spectral_radius=0.4, hidden_size=6, sequence_length=450, batch_size=2)
    )
    assert autograd_error(p) < CLEAN
    original = signal.Wide.signal

    def off_by_one(wide: signal.Wide, like_this: Array) -> signal.Signal:
        right = original(wide, like_this)
        return right if right.wide else signal.Signal.of(right.layers[0].parts, right.layers[0].exponent + 1)

    with planted(signal.Wide, "signal", off_by_one):
        assert autograd_error(p) > CAUGHT
        assert autograd_error(problem(activation)) < CLEAN  # a short problem cannot see it


# ---- the oracles' own equations ------------------------------------------------------------------------------------------


class NoBias:
    """A network of an oracle that leaves b_hh out."""

    def __init__(self, network: Any) -> None:
        self.network = network

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def linear(self, kind: str, a: Any) -> Any:
        product = self.network.linear(kind, a)
        return product - self.network.linear(kind, 0.0 * a) if kind == "hh" else product


class SwappedBlocks(NoBias):
    """A network of an oracle that takes gate i for gate j."""

    def __init__(self, network: Any, i: int, j: int) -> None:
        super().__init__(network)
        self.i, self.j = i, j

    def linear(self, kind: str, a: Any) -> Any:
        return self.network.linear(kind, a)

    def blocks(self, a: Any) -> list[Any]:
        blocks = list(self.network.blocks(a))
        blocks[self.i], blocks[self.j] = blocks[self.j], blocks[self.i]
        return blocks


@contextmanager
def wrong_equations(cell: str, wrong: Callable[..., Any], *more: int) -> Iterator[None]:
    """The oracles' step of a cell sees a wrong network."""
    row = equations.CELLS[cell]
    changed = replace(row, step=lambda net, x, state: row.step(wrong(net, *more), x, state))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(equations.CELLS, cell, changed)
        yield


def difference_error(p: rc.Problem) -> float:
    """The engine's gradient of b_hh against central differences of the loss."""
    x, target = p.batch(0)

    def loss(bias: np.ndarray) -> float:
        return rc.evaluate(p, {**p.params, "bias_hh": bias}, x, target).loss

    bias = p.params["bias_hh"]
    ours = rc.evaluate(p, p.params, x, target).param_grads["bias_hh"]
    return relative(ours, central_difference(loss, bias, best_step(bias.dtype)))


@every_cell
def test_a_bug_in_the_oracles_equations_is_seen_and_placed(cell: str) -> None:
    """Both oracles share their equations, so both accuse a sound engine: what shares nothing with them must acquit it."""
    p = problem("tanh", cell=cell)
    with wrong_equations(cell, NoBias):
        assert min(autograd_error(p), complex_step_error(p)) > CAUGHT
        assert difference_error(p) < 1e-8
        if torch_modules.module_of(p) and cell != "lstm":  # of it, the equations say how dL/dc_t splits in two
            assert module_error(p) < CLEAN
    assert_all_pass(p)


@pytest.mark.parametrize(("cell", "i", "j"), [pair for pair in PAIRS if (pair[0], "tanh") in torch_modules.KERNELS])
def test_a_bug_that_engine_and_equations_share_is_caught_by_torchs_kernels(cell: str, i: int, j: int) -> None:
    """One author misreads a gate twice, in the engine and in the oracles' equations: both oracles pass it."""
    p = with_bug(problem("tanh", cell=cell), gates_swapped(rc.CELLS[cell], i, j))
    with wrong_equations(cell, SwappedBlocks, i, j):
        assert max(autograd_error(p), complex_step_error(p)) < CLEAN
        assert module_error(p) > CAUGHT


# ---- what the gate's problems must be like -----------------------------------------------------------------------------


@every_cell
def test_a_forward_bias_bug_needs_biases_that_are_not_zero(cell: str) -> None:
    """Drawn biases are zero, and a zero bias hides what the forward pass does with it: known, so give the gate biases."""
    drawn = rc.prepare(rc.Experiment(cell=cell, hidden_size=9, sequence_length=14, batch_size=4))
    wrong = bias_twice(rc.CELLS[cell])
    assert autograd_error(with_bug(drawn, wrong)) < CLEAN
    assert autograd_error(with_bug(with_biases(drawn), wrong)) > CAUGHT


@pytest.mark.parametrize(
    ("cell", "bug"),
    [
        (cell, bug)
        for cell in rc.CELLS
        for bug in ("x", "state", "hidden", "log_norm", "cell", "state cell", "log_norm_cell")
        if cell == "lstm" or "cell" not in bug
    ],
)
def test_every_field_of_the_gradients_is_compared(cell: str, bug: str) -> None:
    """The gate passes an engine one of whose results is wrong."""
    p = problem("tanh", cell=cell)
    x, target = p.batch(0)
    evaluation = rc.evaluate(p, p.params, x, target)
    g = evaluation.gradients
    wrong: dict[str, dict[str, Any]] = {
        "x": {"x": 2.0 * np.asarray(g.x)},
        "state": {"state": {**g.state, "hidden": 2.0 * np.asarray(g.state["hidden"])}},
        "hidden": {"hidden": 2.0 * np.asarray(g.hidden)},
        "log_norm": {"log_norm": g.log_norm + 1.0},
    }
    if g.cell is not None and g.log_norm_cell is not None:
        wrong |= {
            "cell": {"cell": 2.0 * np.asarray(g.cell)},
            "state cell": {"state": {**g.state, "cell": 2.0 * np.asarray(g.state["cell"])}},
            "log_norm_cell": {"log_norm_cell": g.log_norm_cell + 1.0},
        }
    changed = replace(evaluation, gradients=replace(g, **wrong[bug]))
    assert autograd.check(p, p.params, x, target, changed).relative > CAUGHT
