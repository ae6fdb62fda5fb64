"""Runs of two directions: what they draw, what they record, how they train, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core import bptt
from rnn_core.experiment import COLUMNS, Request, as_one_layer, measure_spectra, together
from rnn_core.oracles import autograd, tensors
from tests.support.trained import assert_trains_as

LN10 = math.log(10.0)
T, H = 9, 6


def small(**changes: Any) -> rc.Experiment:
    settings: dict[str, Any] = {
        "bidirectional": True,
        "layers": 2,
        "hidden_size": H,
        "sequence_length": T,
        "batch_size": 3,
    }
    return rc.Experiment(**settings | changes)


# ---- draws -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", list(rc.CELLS))
def test_directions_have_draws_of_their_own(cell: str) -> None:
    """A direction has the weights of the other; or the first layer's forward cell is another than in one direction."""
    one, both, deep = (
        rc.prepare(small(cell=cell, layers=L, bidirectional=b)).params for b, L in ((False, 1), (True, 1), (True, 2))
    )
    for name, value in one.items():
        if not name.endswith("_ho"):
            np.testing.assert_array_equal(value, both[name])
    for name, value in both.items():
        np.testing.assert_array_equal(value, deep[name])
    drawn = "weight_hh" if rc.CELLS[cell].has_matrix else "weight_ih"
    names = (drawn, f"{drawn}_reverse", f"{drawn}_l1", f"{drawn}_l1_reverse")
    assert len({deep[name].tobytes() for name in names}) == 4
    assert deep["weight_ih_l1"].shape[1] == deep["weight_ih_l1_reverse"].shape[1] == 2 * H == deep["weight_ho"].shape[1]


def test_every_cell_has_the_scale_that_is_asked_for() -> None:
    params = rc.prepare(small(spectral_radius=0.7, hidden_size=40, input_scale=2.0)).params
    for ending in ("", "_reverse", "_l1", "_l1_reverse"):
        assert rc.spectral_radius(params[f"weight_hh{ending}"]) == pytest.approx(0.7)
    assert params["weight_ih_l1_reverse"].std() * math.sqrt(80) == pytest.approx(2.0, rel=0.1)


def test_gate_biases_are_set_in_both_directions() -> None:
    params = rc.prepare(small(cell="lstm", chrono=20)).params
    forget = [params[f"bias_ih{ending}"][H : 2 * H] for ending in ("", "_reverse", "_l1", "_l1_reverse")]
    assert all((each > 0).all() for each in forget) and len({each.tobytes() for each in forget}) == 4


# ---- what is recorded -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("cell", ["vanilla", "lstm"])
def test_a_run_records_every_direction(cell: str, layers: int, loss_at: str) -> None:
    """Rows of a direction are the other's, are not turned to t, or the traces are not those of the last layer's forward cell."""
    experiment = small(cell=cell, layers=layers, loss_at=loss_at, updates=3, trace_every=2)
    seen: list[list[np.ndarray]] = []

    def watch(problem: Any, params: Any, x: Any, target: Any, evaluation: Any) -> None:
        norms = [layer.gradients.log_norm / LN10 for layer in evaluation.layers]
        seen.append([each[::-1] if i % 2 else each for i, each in enumerate(norms)])

    result = rc.run(experiment, watch=watch)
    assert set(result.layers) == {column.name for column in COLUMNS["layers"]}
    shape = (len(seen), layers, 2, T)
    columns = {name: values.reshape(shape) for name, values in result.layers.items()}
    np.testing.assert_array_equal(columns["log10_grad_norm"], np.array(seen).reshape(shape))
    assert (columns["layer"] == np.arange(1, layers + 1)[:, None, None]).all()
    assert (columns["direction"] == np.array([["forward"], ["reverse"]])).all()
    assert (columns["t"] == np.arange(1, T + 1)).all() and (columns["lag"] == T - columns["t"]).all()
    traces = as_one_layer(result.traces)
    for name, values in columns.items():
        if name != "layer":
            np.testing.assert_array_equal(values[:, -1, 0].reshape(-1), traces[name])
    if loss_at == "last":  # the reverse direction's loss acts at t = 1
        immediate = columns["log10_immediate_norm"][:, -1]
        assert np.isfinite(immediate[:, 0, -1]).all() and np.isneginf(immediate[:, 0, :-1]).all()
        assert np.isfinite(immediate[:, 1, 0]).all() and np.isneginf(immediate[:, 1, 1:]).all()


def test_states_of_the_reverse_direction_are_turned_to_t() -> None:
    """hidden_rms of the reverse direction is in its own time."""
    experiment = small(layers=1, sequence_length=30, input_scale=0.3)
    problem, result = rc.prepare(experiment), rc.run(experiment)
    x, _ = problem.batch(0)
    own = bptt.params_of_layer(problem.params, 0, 1)
    states = np.asarray(rc.forward(problem.cell, own, np.ascontiguousarray(x[::-1])).hidden)
    rms = np.sqrt((states**2).mean(axis=(1, 2)))[::-1]
    found = result.layers["hidden_rms"][result.layers["direction"] == "reverse"]
    np.testing.assert_allclose(found, rms, rtol=1e-12)
    assert rms[-1] < rms[0]  # it starts at the last step


def test_one_direction_is_what_it_was() -> None:
    """A run with one direction has another key, or records more."""
    one = small(layers=1, bidirectional=False)
    assert one.key == rc.Experiment(hidden_size=H, sequence_length=T, batch_size=3).key
    assert "bidirectional" not in repr(one) and rc.run(one).layers == {}
    assert small(layers=1).key != one.key and "bidirectional=True" in repr(small())
    assert small(bidirectional=np.bool_(True)).key == small().key
    assert "bidirectional, " in repr(rc.run(small()))


def test_many_runs_are_what_single_ones_are() -> None:
    """Runs of another length, clipping or number of directions share what is not theirs."""
    runs = [
        small(sequence_length=steps, clipping=c, layers=L, bidirectional=both)
        for steps in (5, 9) for c in ("none", "norm:0.1") for L in (1, 2) for both in (False, True)
    ]  # fmt: skip
    for experiment, many in rc.run_many(runs):
        single = rc.run(experiment)
        np.testing.assert_equal(many.traces, single.traces)
        np.testing.assert_equal(many.layers, single.layers)
        np.testing.assert_equal(many.updates, single.updates)
        np.testing.assert_equal(many.summary, single.summary)
    assert not together.planned([small(layers=1, sequence_length=40)], {}, "cpu:0", None).together


def test_growth_of_the_forward_direction_follows_the_linear_law() -> None:
    """Growth, matrix and theory are those of the reverse direction, or of both mixed."""
    experiment = small(
        activation="identity", initializer="orthogonal", spectral_radius=0.9, sequence_length=60, hidden_size=20
    )
    result = rc.run(experiment)
    assert (result["growth_rate"], result["linear_rate"]) == pytest.approx((math.log(0.9), math.log(0.9)), abs=1e-10)
    reverse = result.layers["log10_grad_norm"][
        (result.layers["direction"] == "reverse") & (result.layers["layer"] == 2)
    ]
    np.testing.assert_allclose(np.diff(reverse) * LN10, math.log(0.9), rtol=1e-9)  # it falls with t
    scaled = replace(experiment, initializer="gaussian", spectral_radius=None, weight_scale=1.0)
    drawn = rc.prepare(scaled).params["weight_hh_l1"]
    assert rc.run(scaled)["measured_spectral_radius"] == pytest.approx(rc.spectral_radius(drawn))


def test_one_layer_forward_is_a_network_of_one_direction() -> None:
    """With one layer the forward cell's states, spectra and slopes do not know of the reverse one."""
    both, one = (rc.run(small(layers=1, bidirectional=b, sequence_length=40)) for b in (True, False))
    np.testing.assert_array_equal(both.traces["hidden_rms"], one.traces["hidden_rms"])
    for name in ("measured_spectral_radius", "sigma_u", "operating_rate", "mean_field_rate"):
        assert both[name] == one[name], name


def test_a_breakdown_in_the_reverse_direction_is_told_by_its_step_t() -> None:
    """Its step is told in its own time, or it is not looked for."""
    problem = rc.prepare(small(layers=1, activation="relu", sequence_length=12, spectral_radius=1.0))
    x, target = problem.batch(0)
    params = {**problem.params, "weight_hh_reverse": problem.params["weight_hh_reverse"] * 1e200}
    with np.errstate(all="ignore"):
        evaluation = rc.evaluate(problem, params, x, target)
    s = evaluation.layers[1].tape.first_nonfinite_step
    assert s is not None and evaluation.layers[0].tape.first_nonfinite_step is None
    assert evaluation.first_nonfinite_step() == 12 + 1 - s


# ---- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bidirectional": 1}, "bidirectional: 1 is not allowed; it must be True or False"),
        ({"bidirectional": "yes"}, "bidirectional: 'yes' is not allowed; it must be True or False"),
        ({"bidirectional": None}, "bidirectional: None is not allowed; it must be True or False"),
        ({"omega": 0.5, "layers": 1}, "omega: 0.5 is not allowed with bidirectional: True; Ω is about one matrix"),
        ({"flossing": 5, "layers": 1}, "flossing: 5 is not allowed with bidirectional: True; an exponent is of one"),
    ],
)
def test_what_two_directions_have_not_is_told(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small(**changes)


def test_spectra_and_sequences_that_end_early_are_refused() -> None:
    with pytest.raises(ValueError, match="bidirectional: True is not allowed with spectra; a spectrum is that of one"):
        measure_spectra(small(layers=1), Request())
    rng = np.random.default_rng(5)
    inputs = rng.standard_normal((14, T, 2))
    labels, held_out = (inputs[..., 0] > 0).astype(np.int64), np.arange(14) % 3 == 0
    mask = np.arange(T) < 4 + np.arange(14)[:, None] % 6
    ragged = rc.Sequences(inputs, labels, held_out, "softmax_cross_entropy", "every", mask=mask)
    with pytest.raises(ValueError, match="bidirectional: True does not fit; sequences of task 'mine' end at different"):
        rc.run(small(task="mine"), ragged)
    whole = rc.Sequences(inputs, labels, held_out, "softmax_cross_entropy", "every")
    assert np.isfinite(rc.run(small(task="mine", updates=2), whole)["loss"]).all()


def test_another_name_is_understood() -> None:
    with pytest.raises(TypeError, match="Did you mean 'bidirectional'"):
        rc.Experiment(num_directions=2)  # type: ignore[call-arg]


# ---- training --------------------------------------------------------------------------------------------------------------


def torchs(name: str) -> str:
    plain = name.removesuffix("_reverse")
    return (plain if "_l" in plain else f"{plain}_l0") + name[len(plain) :]


@pytest.mark.parametrize(
    ("cell", "clipping", "optimizer", "loss_at"),
    [
        ("vanilla", "none", "sgd", "last"),
        ("vanilla", "norm:0.05", "sgd", "every"),
        ("lstm", "norm:0.05", "adam", "last"),
        ("gru", "value:0.01", "momentum", "every"),
    ],
)
def test_training_is_that_of_a_plain_torch_program(cell: str, clipping: str, optimizer: str, loss_at: str) -> None:
    """A direction is not trained, or clipping is by the norm of one direction. torch's own module, as a user calls it."""
    experiment = small(
        cell=cell, clipping=clipping, optimizer=optimizer, loss_at=loss_at, task="white_noise", updates=6, learning_rate=0.05
    )  # fmt: skip
    problem = rc.prepare(experiment)
    kind = {"vanilla": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    x, _ = problem.batch(0)
    net = kind(x.shape[2], H, num_layers=2, bidirectional=True, dtype=torch.float64)
    net.load_state_dict({torchs(n): torch.tensor(v) for n, v in problem.params.items() if not n.endswith("_ho")})
    w, b = (torch.nn.Parameter(torch.tensor(problem.params[name])) for name in ("weight_ho", "bias_ho"))

    def loss_of(x: np.ndarray, target: np.ndarray) -> torch.Tensor:
        output, end = net(torch.tensor(x))
        h_n = end[0] if cell == "lstm" else end
        read = output if loss_at == "every" else torch.cat([h_n[-2], h_n[-1]], dim=1)
        return tensors.mean_loss(problem.task.loss, read @ w.T + b, torch.tensor(target))

    assert_trains_as(experiment, [*net.parameters(), w, b], loss_of)


@pytest.mark.parametrize(
    "more",
    [{}, {"truncation": 3}, {"clipping": "signal:0.01"}, {"clipping": "adagc:1.05"}, {"optimizer": "adamw", "weight_decay": 0.1},
     {"dtype": "float32"}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("cell", ["vanilla", "lstm", "lru", "mingru"])
def test_every_direction_is_trained(cell: str, more: dict[str, Any]) -> None:
    """An option of training knows the forward direction alone; or what training followed is not what the oracle says."""
    experiment = small(cell=cell, task="input_mean", updates=4, trace_every=1, **more)
    seen: list[dict[str, np.ndarray]] = []
    limit = 1e-3 if "dtype" in more else 1e-10

    def watch(problem: Any, params: Any, x: Any, target: Any, evaluation: Any) -> None:
        seen.append(dict(params))
        assert autograd.check(problem, params, x, target, evaluation).relative < limit

    result = rc.run(experiment, watch=watch)
    assert result["finite"].all() and math.isfinite(result["held_out_loss"])
    for name, start in seen[0].items():
        assert not np.array_equal(start, seen[-1][name]), name
    if "truncation" in more:
        assert (result["truncation_bias"] > 0).all()
