"""Bugs that people really make, planted one by one: each must be caught by the oracles, and without them all must pass.

A check that lets one of these through proves nothing when it passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core import bptt, experiment, readout
from rnn_core.arrays import Array, Params, State
from rnn_core.losses import LOSSES
from rnn_core.oracles import autograd, torch_modules
from tests.rnn_core.engine_helpers import with_biases

CLEAN = 1e-12
CAUGHT = 1e-3


# ---- bugs in the cell --------------------------------------------------------------------------------------------------


class Transposed(rc.VanillaCell):
    """W for W^T."""

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        da = self.phi.df(saved) * dstate["hidden"]
        return da, da, {"hidden": params["weight_hh"] @ da}


class NoRecurrence(rc.VanillaCell):
    """Nothing flows back: each step sees its own loss only."""

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        du, dv, _ = super().backward(params, saved, dstate)
        return du, dv, {"hidden": 0.0 * du}


class SlopeAtState(rc.VanillaCell):
    """phi'(h) for phi'(a)."""

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        da = self.phi.df(self.phi.f(saved)) * dstate["hidden"]
        return da, da, {"hidden": params["weight_hh"].T @ da}


class NoSlope(rc.VanillaCell):
    """phi' forgotten on the way to h_{t-1}, though not in da."""

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        du, dv, _ = super().backward(params, saved, dstate)
        return du, dv, {"hidden": params["weight_hh"].T @ dstate["hidden"]}


class BiasTwice(rc.VanillaCell):
    """b_hh counted twice in the forward pass."""

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Array]:
        return super().forward({**params, "bias_hh": 2.0 * params["bias_hh"]}, u, state)


class StaleSlope(rc.VanillaCell):
    """The forward pass saves what is not yet a_t: the bias is missing."""

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Array]:
        state, a = super().forward(params, u, state)
        return state, a - params["bias_hh"][:, None]


CELLS: list[type[rc.VanillaCell]] = [Transposed, NoRecurrence, SlopeAtState, NoSlope, BiasTwice, StaleSlope]


# ---- bugs in the time loop and around it -------------------------------------------------------------------------------


def _immediate_dropped(dstate: State, e: int, grad: Array) -> tuple[State, int]:
    """The direct part is left out wherever something flows back already."""
    return (dstate, e) if dstate["hidden"].any() else ({"hidden": dstate["hidden"] + grad}, e)


def _future_dropped(dstate: State, e: int, grad: Array) -> tuple[State, int]:
    """The direct part replaces what flows back instead of joining it."""
    return {"hidden": 0.0 * dstate["hidden"] + grad}, 0


def _parameter_bug(change: Callable[[dict[str, Any], Array], None]) -> Callable[..., Any]:
    """``_parameter_gradients`` with its result changed; ``change`` gets the gradients and dv (T, H, B)."""
    original = bptt._parameter_gradients

    def wrong(tape: rc.Tape, du: Array, dv: Array, exponent: np.ndarray) -> Any:
        grads, dx = original(tape, du, dv, exponent)
        change(grads, dv)
        return grads, dx

    return wrong


def _bias_gradient_twice(grads: dict[str, Any], dv: Array) -> None:
    grads["bias_hh"] = 2.0 * grads["bias_hh"]


def _mean_over_batch(grads: dict[str, Any], dv: Array) -> None:
    for name in grads:
        grads[name] = grads[name] / dv.shape[2]


def _last_step_left_out(grads: dict[str, Any], dv: Array) -> None:
    grads["bias_ih"] = dv[:-1].sum(axis=(0, 2))


def _off_by_one(tape: rc.Tape, du: Array, dv: Array, exponent: np.ndarray) -> Any:
    """h_t for h_{t-1} in dL/dW_hh."""
    shifted = replace(tape, columns=np.concatenate([tape.columns[1:], tape.columns[-1:]]))
    return ORIGINAL_PARAMETER_GRADIENTS(shifted, du, dv, exponent)


ORIGINAL_PARAMETER_GRADIENTS = bptt._parameter_gradients
LOOP: dict[str, tuple[Any, str, Any]] = {
    "immediate term missing": (bptt, "_add_immediate", _immediate_dropped),
    "future missing": (bptt, "_add_immediate", _future_dropped),
    "h_t for h_{t-1}": (bptt, "_parameter_gradients", _off_by_one),
    "bias gradient twice": (bptt, "_parameter_gradients", _parameter_bug(_bias_gradient_twice)),
    "mean over batch": (bptt, "_parameter_gradients", _parameter_bug(_mean_over_batch)),
    "last step left out": (bptt, "_parameter_gradients", _parameter_bug(_last_step_left_out)),
}


def _half_error(y: Array, target: Array) -> tuple[Array, Array]:
    value, gradient = LOSSES["squared_error"](y, target)
    return value, 2.0 * gradient


def _readout_transposed(params: Params, h: Array, dy: Array) -> tuple[Params, Array]:
    grads, dh = ORIGINAL_READOUT(params, h, dy)
    return {**grads, "weight_ho": grads["weight_ho"][:, ::-1]}, dh


def _readout_flows_nothing(params: Params, h: Array, dy: Array) -> tuple[Params, Array]:
    grads, dh = ORIGINAL_READOUT(params, h, dy)
    return grads, dh * (1.0 + 0.01 * np.arange(dh.shape[-1]))


ORIGINAL_READOUT = readout.backward
AROUND: dict[str, tuple[Any, str, Any]] = {
    "gradient of a loss without its half": (experiment, "LOSSES", {**LOSSES, "squared_error": _half_error}),
    "readout gradient of other units": (readout, "backward", _readout_transposed),
    "wrong direct part": (readout, "backward", _readout_flows_nothing),
}


# ---- the oracles -------------------------------------------------------------------------------------------------------


def problem(activation: str, T: int = 14) -> rc.Problem:
    e = rc.Experiment(
        task="input_mean", activation=activation, hidden_size=9, sequence_length=T, batch_size=4, spectral_radius=1.1, seed=2
    )  # fmt: skip
    return with_biases(rc.prepare(e))


def autograd_error(p: rc.Problem) -> float:
    x, target = p.batch(0)
    return autograd.check(p, p.params, x, target, rc.evaluate(p, p.params, x, target)).relative


def module_error(p: rc.Problem) -> float:
    x, _ = p.batch(0)
    grad_hidden = np.random.default_rng(5).standard_normal((*x.shape[:2], p.experiment.hidden_size))
    return torch_modules.check(p, x, grad_hidden).relative


@contextmanager
def planted(where: Any, name: str, bug: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(where, name, bug)
        yield


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu", "selu"])
def test_without_a_bug_all_pass(activation: str) -> None:
    """The oracles accuse a right engine: what they say of a wrong one means nothing."""
    p = problem(activation)
    assert autograd_error(p) < CLEAN
    if torch_modules.module_of(p):
        assert module_error(p) < CLEAN


@pytest.mark.parametrize("activation", ["tanh", "silu", "selu"])
@pytest.mark.parametrize("bug", CELLS)
def test_a_bug_in_the_cell_is_caught(bug: type[rc.VanillaCell], activation: str) -> None:
    """A wrong cell passes the gate."""
    p = replace(problem(activation), cell=bug(activation))
    assert autograd_error(p) > CAUGHT
    if torch_modules.module_of(p):
        assert module_error(p) > CAUGHT


@pytest.mark.parametrize("bug", list(LOOP))
def test_a_bug_in_the_time_loop_is_caught(bug: str) -> None:
    """A wrong time loop or a wrong sum passes the gate."""
    p = problem("tanh")
    with planted(*LOOP[bug]):
        assert autograd_error(p) > CAUGHT
        assert module_error(p) > CAUGHT
    assert autograd_error(p) < CLEAN


@pytest.mark.parametrize("bug", list(AROUND))
def test_a_bug_around_the_network_is_caught(bug: str) -> None:
    """A wrong loss or readout passes the gate (torch.nn.RNN has neither, so only autograd can see it)."""
    p = problem("tanh")
    with planted(*AROUND[bug]):
        assert autograd_error(p) > CAUGHT
    assert autograd_error(p) < CLEAN


@pytest.mark.parametrize("activation", ["tanh", "sigmoid"])
def test_a_bug_in_the_scaling_is_caught_beyond_range(activation: str) -> None:
    """A lost exponent shows only where it is not zero: the gate's problems must reach beyond the range."""
    p = rc.prepare(
        rc.Experiment(activation=activation, spectral_radius=0.4, hidden_size=6, sequence_length=450, batch_size=2)
    )
    assert autograd_error(p) < CLEAN
    original = bptt.renormalise

    def off_by_one(parts: State, exponent: int) -> tuple[State, int]:
        parts, e = original(parts, exponent)
        return parts, e + 1

    with planted(bptt, "renormalise", off_by_one):
        assert autograd_error(p) > CAUGHT
        assert autograd_error(problem(activation)) < CLEAN  # a short problem cannot see it


def test_a_forward_bias_bug_needs_biases_that_are_not_zero() -> None:
    """Drawn biases are zero, and a zero bias hides what the forward pass does with it: known, so give the gate biases."""
    drawn = rc.prepare(rc.Experiment(hidden_size=9, sequence_length=14, batch_size=4))
    assert autograd_error(replace(drawn, cell=BiasTwice("tanh"))) < CLEAN
    assert autograd_error(replace(with_biases(drawn), cell=BiasTwice("tanh"))) > CAUGHT


@pytest.mark.parametrize("bug", ["x", "state", "log_norm"])
def test_every_field_of_the_gradients_is_compared(bug: str) -> None:
    """The gate passes an engine whose dL/dx, dL/dh_0 or log_norm is wrong."""
    p = problem("tanh")
    x, target = p.batch(0)
    evaluation = rc.evaluate(p, p.params, x, target)
    g = evaluation.gradients
    wrong: dict[str, Any] = {
        "x": 2.0 * np.asarray(g.x),
        "state": {"hidden": 2.0 * np.asarray(g.state["hidden"])},
        "log_norm": g.log_norm + 1.0,
    }
    changed = replace(evaluation, gradients=replace(g, **{bug: wrong[bug]}))
    assert autograd.check(p, p.params, x, target, changed).relative > CAUGHT
