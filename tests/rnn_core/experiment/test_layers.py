"""Runs of several layers: what they draw, what they record, and how they train."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core import bptt
from rnn_core.experiment import COLUMNS, Request, as_one_layer, measure_spectra
from rnn_core.oracles import autograd, tensors
from tests.support.trained import assert_trains_as

LN10 = math.log(10.0)


def small(**changes: Any) -> rc.Experiment:
    settings: dict[str, Any] = {"layers": 3, "hidden_size": 6, "sequence_length": 9, "batch_size": 3}
    return rc.Experiment(**settings | changes)


# ---- draws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", list(rc.CELLS))
def test_a_deeper_stack_begins_with_the_same_layers(cell: str) -> None:
    """The first layer is not that of a run with one, or two layers have the same matrix."""
    one, two, three = (rc.prepare(small(cell=cell, layers=L)).params for L in (1, 2, 3))
    assert set(one) < set(two) < set(three)
    for shallow in (one, two):
        for name, value in shallow.items():
            np.testing.assert_array_equal(value, three[name])
    drawn = "weight_hh" if rc.CELLS[cell].has_matrix else "weight_ih"  # of the first layer it has other inputs
    for name in (drawn, f"{drawn}_l1"):
        assert not np.array_equal(three[name], three[f"{drawn}_l2"])
    assert three["weight_ih_l2"].shape[1] == 6


def test_every_layer_has_the_scale_that_is_asked_for() -> None:
    params = rc.prepare(small(spectral_radius=0.7, hidden_size=40, input_scale=2.0)).params
    for layer in range(3):
        W = params[bptt.name_in_layer("weight_hh", layer)]
        assert rc.spectral_radius(W) == pytest.approx(0.7)
    assert params["weight_ih_l1"].std() * math.sqrt(40) == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize("setting", [{"forget_bias": 1.5}, {"chrono": 20}])
def test_gate_biases_are_set_in_every_layer(setting: dict[str, Any]) -> None:
    params = rc.prepare(small(cell="lstm", **setting)).params
    forget = [params[bptt.name_in_layer("bias_ih", layer)][6:12] for layer in range(3)]
    if "forget_bias" in setting:
        assert all((each == 1.5).all() for each in forget)
    else:
        assert all((each > 0).all() for each in forget) and not np.array_equal(forget[0], forget[1])


# ---- what is recorded -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", list(rc.CELLS))
@pytest.mark.parametrize("more", [{}, {"task": "input_mean", "updates": 3, "trace_every": 2}], ids=str)
def test_a_run_records_every_layer(cell: str, more: dict[str, Any]) -> None:
    """Rows of a layer are another's, or the traces are not those of the last layer."""
    experiment = small(cell=cell, **more)
    seen: list[tuple[int, list[np.ndarray]]] = []

    def watch(problem: Any, params: Any, x: Any, target: Any, evaluation: Any) -> None:
        seen.append((evaluation.update, [layer.gradients.log_norm / LN10 for layer in evaluation.layers]))

    result = rc.run(experiment, watch=watch)
    assert set(result.layers) == {column.name for column in COLUMNS["layers"]}
    rows = result.layers["log10_grad_norm"].reshape(len(seen), 3, 9)
    for i, (update, norms) in enumerate(seen):
        np.testing.assert_array_equal(rows[i], norms)
        assert (result.layers["update"].reshape(len(seen), 3, 9)[i] == update).all()
    assert (result.layers["layer"].reshape(len(seen), 3, 9) == np.array([1, 2, 3])[:, None]).all()
    last = {name: values.reshape(len(seen), 3, 9)[:, 2].reshape(-1) for name, values in result.layers.items()}
    for name, values in as_one_layer(result.traces).items():
        if name != "layer":
            np.testing.assert_array_equal(values, last[name])


def test_one_layer_is_what_it_was() -> None:
    """A run with one layer has another key, or records more."""
    one = small(layers=1)
    assert one.key == replace(one, layers=1).key and "layers" not in repr(one)
    result = rc.run(one)
    assert result.layers == {} and as_one_layer(result.traces)["layer"].tolist() == [1] * 9
    assert small(layers=2).key != one.key


def test_many_runs_are_what_single_ones_are() -> None:
    """Stacks of another length or clipping share what is not theirs."""
    runs = [
        small(sequence_length=T, clipping=c, layers=L) for T in (5, 9) for c in ("none", "norm:0.1") for L in (1, 2, 3)
    ]
    for experiment, many in rc.run_many(runs):
        single = rc.run(experiment)
        np.testing.assert_equal(many.traces, single.traces)
        np.testing.assert_equal(many.layers, single.layers)
        np.testing.assert_equal(many.updates, single.updates)
        np.testing.assert_equal(many.summary, single.summary)


def test_matrix_and_theory_are_of_the_last_layer() -> None:
    """A column speaks of the first layer's matrix beside the last layer's gradient."""
    experiment = small(layers=2, weight_scale=1.0, hidden_size=30)
    params, summary = rc.prepare(experiment).params, rc.run(experiment).summary
    assert summary["measured_spectral_radius"] == pytest.approx(rc.spectral_radius(params["weight_hh_l1"]))
    assert summary["linear_rate"] == pytest.approx(math.log(rc.spectral_radius(params["weight_hh_l1"])))
    x, _ = rc.prepare(experiment).batch(0)
    inputs = bptt.run_stack(rc.VanillaCell("tanh"), params, x, 2)[0].hidden
    u = np.asarray(inputs) @ params["weight_ih_l1"].T
    assert summary["sigma_u"] == pytest.approx(math.sqrt((u**2).mean()))


def test_growth_of_the_last_layer_follows_the_linear_law() -> None:
    """In the last layer the gradient goes back through one recurrence, whatever feeds it."""
    experiment = rc.Experiment(
        layers=3,
        activation="identity",
        initializer="orthogonal",
        spectral_radius=0.9,
        sequence_length=60,
        hidden_size=20,
    )
    assert rc.run(experiment)["growth_rate"] == pytest.approx(math.log(0.9), abs=1e-10)


@pytest.mark.parametrize("layers", [2, 4])
def test_mean_field_holds_in_the_last_layer(layers: int) -> None:
    """It takes the inputs of the first layer, whose states are larger: their rates differ by a tenth."""
    deep = rc.Experiment(
        layers=layers, initializer="orthogonal", spectral_radius=1.1, sequence_length=200, hidden_size=128
    )
    rate, predicted = (
        np.mean([rc.run(replace(deep, seed=s))[name] for s in range(3)]) for name in ("growth_rate", "mean_field_rate")
    )
    shallow = rc.run(replace(deep, layers=1))["mean_field_rate"]
    assert rate == pytest.approx(predicted, abs=0.02) and abs(rate - shallow) > 0.08


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 0}, "layers: 0 is not allowed; it must be an integer from 1 to 64"),
        ({"layers": 65}, "layers: 65 is not allowed"),
        ({"layers": 2.5}, "layers: 2.5 is not allowed"),
        ({"layers": 2, "omega": 0.5}, "omega: 0.5 is not allowed with layers: 2; Ω is about one matrix"),
    ],
)
def test_what_a_stack_has_not_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_spectra_are_refused() -> None:
    with pytest.raises(ValueError, match="layers: 3 is not allowed with spectra; a spectrum is that of one recurrence"):
        measure_spectra(small(), Request())


def test_another_name_is_understood() -> None:
    with pytest.raises(TypeError, match="Did you mean 'layers'"):
        rc.Experiment(num_layers=2)  # type: ignore[call-arg]


# ---- training --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "activation", "clipping", "optimizer"),
    [
        ("vanilla", "tanh", "none", "sgd"),
        ("vanilla", "relu", "norm:0.05", "sgd"),
        ("lstm", "tanh", "norm:0.05", "adam"),
        ("gru", "tanh", "value:0.01", "momentum"),
    ],
)
def test_training_is_that_of_a_plain_torch_program(cell: str, activation: str, clipping: str, optimizer: str) -> None:
    """A layer is not trained, or clipping is by the norm of one layer."""
    experiment = small(
        cell=cell, activation=activation, clipping=clipping, optimizer=optimizer, task="input_mean", updates=6, learning_rate=0.05, layers=3
    )  # fmt: skip
    problem = rc.prepare(experiment)
    params = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in problem.params.items()}
    step = tensors.step_of(cell, activation)

    def loss_of(x: np.ndarray, target: np.ndarray) -> torch.Tensor:
        inputs = list(torch.tensor(x).unbind(0))
        for layer in range(3):
            own = bptt.params_of_layer(params, layer)
            state = {n: torch.zeros(3, 6, dtype=torch.float64) for n in problem.cell.state_names}
            states = []
            for x_t in inputs:
                state = step(own, x_t, state)
                states.append(state["hidden"])
            inputs = states
        y = torch.stack(inputs) @ params["weight_ho"].T + params["bias_ho"]
        return tensors.mean_loss(problem.task.loss, y, torch.tensor(target))

    assert_trains_as(experiment, list(params.values()), loss_of)


@pytest.mark.parametrize(
    "more", [{}, {"truncation": 3}, {"clipping": "signal:0.01"}, {"clipping": "adagc:1.05"}, {"optimizer": "adamw", "weight_decay": 0.1}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("cell", ["vanilla", "lstm", "layer_norm", "lru", "slstm"])
def test_every_layer_is_trained(cell: str, more: dict[str, Any]) -> None:
    """An option of training knows the first layer alone; or what training followed is not what the oracle says."""
    experiment = small(cell=cell, task="input_mean", updates=4, trace_every=1, **more)
    seen: list[dict[str, np.ndarray]] = []

    def watch(problem: Any, params: Any, x: Any, target: Any, evaluation: Any) -> None:
        seen.append(dict(params))
        assert autograd.check(problem, params, x, target, evaluation).relative < 1e-10

    result = rc.run(experiment, watch=watch)
    assert result["finite"].all() and math.isfinite(result["held_out_loss"])
    for name, start in seen[0].items():
        assert not np.array_equal(start, seen[-1][name]), name
    if "truncation" in more:
        assert (result["truncation_bias"] > 0).all()


def test_success_and_ragged_sequences() -> None:
    """A stack ends its training where it succeeds, and reads sequences of several lengths."""
    rng = np.random.default_rng(5)
    inputs = rng.standard_normal((14, 9, 2))
    data = rc.Sequences(
        inputs, (inputs[..., 0] > 0).astype(np.int64), np.arange(14) % 3 == 0, "softmax_cross_entropy", "every",
        mask=np.arange(9) < 4 + np.arange(14)[:, None] % 6,
    )  # fmt: skip
    result = rc.run(small(task="mine", updates=3, trace_every=1), data)
    assert len(result.layers["t"]) == 3 * 3 * 9 and np.isfinite(result["loss"]).all()
    early = rc.run(small(task="adding", updates=5, validate_every=1, success_below=0.999, batch_size=8))
    assert len(early["loss"]) <= 5


def test_a_breakdown_below_is_told() -> None:
    """A state that leaves plain floats in the first layer is looked for in the last alone."""
    result = rc.run(
        small(activation="relu", spectral_radius=1e30, sequence_length=30, layers=2, task="input_mean", updates=2)
    )
    assert result["first_nonfinite_update"] == 0 and result["first_nonfinite_step"] <= 12
