"""One point of a sweep: what may stand in it, its key, and that what a run records is what happened."""

from __future__ import annotations

import json
import math
import pydoc
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

import rnn_core as rc
from rnn_core import bptt
from rnn_core.columns import Column
from rnn_core.experiment import ASKED, COLUMNS, SATURATED_BELOW, Evaluation, axes
from rnn_core.experiment.measures.end import BREAKDOWN, END
from rnn_core.oracles.activations import ACTIVATIONS
from rnn_core.oracles.problems import with_biases
from rnn_core.theory import MIXING_INITIALIZERS, growth
from tests.support.arrays import relative

LN10 = math.log(10.0)
# Diverges: relu at rho = 1.5 with a large step.
DIVERGES: dict[str, Any] = {
    "task": "input_mean", "activation": "relu", "spectral_radius": 1.5, "learning_rate": 0.3, "updates": 10,
    "hidden_size": 32, "sequence_length": 50,
}  # fmt: skip


def small(**changes: Any) -> rc.Experiment:
    return rc.Experiment(**({"hidden_size": 8, "sequence_length": 9, "batch_size": 3} | changes))


def labelled(loss_at: str, N: int = 14, T: int = 9) -> rc.Sequences:
    """Sequences whose label is the sign of their first input, three classes counted."""
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((N, T, 2))
    labels = (inputs[..., 0] > 0).astype(np.int64) + (inputs[..., 1] > 1)
    return rc.Sequences(
        inputs, labels if loss_at == "every" else labels[:, -1], np.arange(N) % 3 == 0, "softmax_cross_entropy", loss_at
    )


# ---- what may stand in an experiment -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation": "thanh"}, r"activation: 'thanh' is not known; allowed: .*Did you mean 'tanh'\?"),
        ({"cell": "vanila"}, r"cell: 'vanila' .*Did you mean 'vanilla'\?"),
        ({"initializer": "ortogonal"}, r"initializer: 'ortogonal' .*Did you mean 'orthogonal'\?"),
        ({"optimizer": "sdg"}, r"optimizer: 'sdg' .*Did you mean 'sgd'\?"),
        ({"dtype": "float46"}, r"dtype: 'float46' .*Did you mean 'float64'\?"),
        ({"loss_at": "lst"}, r"loss_at: 'lst' .*Did you mean 'last'\?"),
        ({"clipping": "nrom:1"}, r"clipping: 'nrom:1' .*Did you mean 'norm:1'\?"),
        ({"activation": 3}, r"activation: 3 is not allowed; it must be a name"),
        ({"task": None}, r"task: None is not allowed; it must be a name"),
        ({"spectral_radius": 0.0}, r"spectral_radius: 0.0 is not allowed; it must be a number above 0"),
        ({"spectral_radius": -1}, r"spectral_radius: -1 is not allowed"),
        ({"spectral_radius": math.nan}, r"spectral_radius: nan is not allowed"),
        ({"spectral_radius": math.inf}, r"spectral_radius: inf is not allowed"),
        ({"success_below": 1.5}, r"success_below: 1.5 is not allowed; it must be a number above 0 and below 1"),
        ({"spectral_radius": "1"}, r"spectral_radius: '1' is not allowed; it must be a number above 0"),
        ({"spectral_radius": True}, r"spectral_radius: True is not allowed"),
        ({"input_scale": 0}, r"input_scale: 0 is not allowed"),
        ({"learning_rate": -0.1}, r"learning_rate: -0.1 is not allowed"),
        ({"hidden_size": 0}, r"hidden_size: 0 is not allowed; it must be an integer of at least 1"),
        ({"hidden_size": 8.0}, r"hidden_size: 8.0 is not allowed; it must be an integer of at least 1"),
        ({"sequence_length": 0}, r"sequence_length: 0 is not allowed"),
        ({"batch_size": 0}, r"batch_size: 0 is not allowed"),
        ({"input_size": 0}, r"input_size: 0 is not allowed"),
        ({"truncation": 0}, r"truncation: 0 is not allowed; it must be an integer of at least 1"),
        ({"residual_step": 0.5}, r"residual_step: 0.5 is not allowed with cell 'vanilla'; only 'residual' has it"),
        ({"cell": "residual", "residual_step": 0}, r"residual_step: 0 is not allowed; it must be a number above 0"),
        ({"cell": "residual", "residual_leak": 2}, r"residual_leak: 2 is not allowed; it must be a number from 0 to 1"),
        ({"updates": -1}, r"updates: -1 is not allowed; it must be an integer of at least 0"),
        ({"trace_every": 0}, r"trace_every: 0 is not allowed"),
        ({"seed": -1}, r"seed: -1 is not allowed"),
        ({"seed": True}, r"seed: True is not allowed"),
        ({"seed": np.bool_(True)}, r"seed: np.True_ is not allowed; it must be an integer of at least 0"),
        ({"hidden_size": np.float64(8)}, r"hidden_size: np.float64\(8.0\) is not allowed; it must be an integer"),
        ({"spectral_radius": np.float32("nan")}, r"spectral_radius: np.float32\(nan\) is not allowed"),
        ({"spectral_radius": 1j}, r"spectral_radius: 1j is not allowed"),
        ({"activation": "ReLU"}, r"activation: 'ReLU' is not known; allowed: .*Did you mean 'relu'\?"),
        ({"clipping": 1.0}, r"clipping: 1.0 is not allowed; it must be a name. Did you mean 'norm:1.0'\?"),
        ({"clipping": {"norm": 0.5}}, r"clipping: {'norm': 0.5} is not allowed; .*Did you mean 'norm:0.5'\?"),
        (
            {"dtype": "float32", "spectral_radius": 1e-300},
            r"spectral_radius: 1e-300 is not allowed with dtype 'float32'; its numbers go from 1.18e-38 to 3.4e\+38",
        ),
        ({"dtype": "float32", "spectral_radius": 1e39}, r"spectral_radius: 1e\+39 is not allowed with dtype 'float32'"),
        ({"dtype": "float32", "input_scale": 1e-40}, r"input_scale: 1e-40 is not allowed with dtype 'float32'"),
        ({"dtype": "float32", "learning_rate": 1e300}, r"learning_rate: 1e\+300 is not allowed with dtype 'float32'"),
        ({"dtype": "float32", "cell": "residual", "residual_step": 1e-50}, r"residual_step: 1e-50 is not allowed with"),
        ({"dtype": "float32", "cell": "residual", "residual_leak": 1e-50}, r"residual_leak: 1e-50 is not allowed with"),
        ({"dtype": "float32", "clipping": "norm:1e39"}, r"clipping: 'norm:1e\+39' is not allowed with dtype 'float32'"),
        ({"spectral_radius": 1e-310}, r"spectral_radius: 1e-310 is not allowed with dtype 'float64'"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(change: dict[str, Any], message: str) -> None:
    """A typing error in a config runs, or is refused without its key, its value and what would have worked."""
    with pytest.raises(ValueError, match=message):
        rc.Experiment(**change)


@pytest.mark.parametrize(
    ("field", "meant"),
    [
        ("lr", "learning_rate"),
        ("epochs", "updates"),
        ("activaton", "activation"),
        ("T", "sequence_length"),
        ("zzz", None),
    ],
)
def test_a_field_that_there_is_not_is_refused_with_the_nearest(field: str, meant: str | None) -> None:
    """A typing error ends in Python's own words, which name no field."""
    with pytest.raises(TypeError, match=f"Experiment has no field '{field}'; it has task, .*, seed") as caught:
        rc.Experiment(**{field: 1})
    assert str(caught.value).partition("Did you mean ")[2] == (f"{meant!r}?" if meant else "")
    with pytest.raises(TypeError, match=field):
        replace(rc.Experiment(), **{field: 1})


def test_help_says_what_every_field_means() -> None:
    """``help(rc.Experiment)`` lists names alone."""
    text = " ".join(str(pydoc.render_doc(rc.Experiment, renderer=pydoc.plaintext)).replace("|", "").split())
    for name, axis in axes().items():
        default = f"default {getattr(rc.Experiment(), name)!r}."
        line = text[text.index(f"{name}: {axis.meaning}") :]
        assert default in line and line.index(default) < 400, name
        assert all(choice in line[: line.index(default)] for choice in axis.choices), name
    assert "sequence_length: T: number of time steps; unit: steps; an integer of at least 1; default 100." in text


def test_numpy_scalars_are_numbers() -> None:
    """A number is refused for its type, or a run has another key, JSON or equality than the same run in Python's numbers."""
    given = rc.Experiment(
        cell=np.str_("residual"), residual_step=np.float32(0.5), residual_leak=np.float16(0), hidden_size=np.int64(8),
        spectral_radius=np.float32(0.1), sequence_length=np.uint8(9), learning_rate=np.longdouble(0.25), truncation=np.array(3),
        bidirectional=np.bool_(False),
    )  # fmt: skip
    plain = rc.Experiment(
        cell="residual", residual_step=0.5, residual_leak=0.0, hidden_size=8,
        spectral_radius=float(np.float32(0.1)), sequence_length=9, learning_rate=0.25, truncation=3,
    )  # fmt: skip
    assert given == plain and hash(given) == hash(plain) and given.key == plain.key and repr(given) == repr(plain)
    assert json.dumps(asdict(given)) == json.dumps(asdict(plain))
    assert all(type(value) in (str, int, float, bool, type(None)) for value in asdict(given).values())
    by_number = rc.run(given, memory_budget=np.int64(10**6)).traces["log10_grad_norm"]
    np.testing.assert_array_equal(by_number, rc.run(plain, memory_budget=10**6).traces["log10_grad_norm"])


def test_every_field_is_described() -> None:
    """A field has no meaning, unit or label: its column and axis would be blank."""
    assert set(axes()) == {f.name for f in fields(rc.Experiment)}
    assert {axis.checked for axis in axes().values()} == {"all", "ends", "first"}
    assert all(axis.checked == "first" for axis in axes().values() if axis.training)
    for name, axis in axes().items():
        assert axis.meaning and axis.unit and axis.label, name
        axis.check(name, getattr(rc.Experiment(), name))


@pytest.mark.parametrize(
    ("experiment", "data", "message"),
    [
        (
            small(task="digits"),
            None,
            r"task: 'digits' is not generated \(white_noise, input_mean, .*temporal_order_3 are\), so it needs",
        ),
        (small(), labelled("last"), r"task: 'white_noise' is generated, and sequences were given; give them a name"),
        (small(task="labels", input_size=5), labelled("last"), r"input_size: 5 does not fit; the sequences have 2"),
        (small(task="labels", sequence_length=10), labelled("last"), r"sequence_length: 10 is more than the 9"),
        (small(task="labels", batch_size=10), labelled("last"), r"batch_size: 10 is more than the 9 training"),
        (small(task="labels", loss_at="every"), labelled("last"), r"loss_at: 'every' needs a target at every step"),
        (
            small(dtype="float32", spectral_radius=3e38, hidden_size=2, seed=2),
            None,
            r"spectral_radius: 3e\+38 is not .*weight_hh leave its range",
        ),
        (
            small(dtype="float32", input_scale=3e38, input_size=1),
            None,
            r"input_scale: 3e\+38 is not .*weight_ih leave its range",
        ),
        (
            small(task="labels", dtype="float32"),
            replace(labelled("last"), inputs=np.full((14, 9, 2), 1e39)),
            r"dtype: 'float32' does not hold the sequences, whose largest number is 1e\+39",
        ),
    ],
)
def test_an_experiment_that_does_not_fit_its_task_is_refused(
    experiment: rc.Experiment, data: rc.Sequences | None, message: str
) -> None:
    """The mismatch shows only deep inside a run."""
    with pytest.raises(ValueError, match=message):
        rc.prepare(experiment, data)


# ---- the run key -------------------------------------------------------------------------------------------------------


def test_run_keys_are_frozen() -> None:
    """The key has changed: every finished run would be computed again. It must be a decision, not an accident."""
    assert rc.Experiment().key == "e8e3391659cda68f"
    assert rc.Experiment(**DIVERGES, clipping="norm:1.0", seed=3).key == "56116fa17c775624"


def test_an_integer_and_the_same_float_are_one_run() -> None:
    """``spectral_radius: 1`` and ``1.0`` are two rows of a table."""
    for name, axis in axes().items():
        if axis.kind == "number" and not (axis.above == 0 and axis.below == 1):  # between these there is no integer
            base = rc.Experiment(cell=axis.cells[0]) if axis.cells else rc.Experiment()
            one = 1 if axis.below is None else 0
            assert replace(base, **{name: one}).key == replace(base, **{name: float(one)}).key
            assert replace(base, **{name: one}) == replace(base, **{name: float(one)})
    assert rc.Experiment(clipping="norm:1") == rc.Experiment(clipping="norm:1.0")


def test_the_key_of_given_sequences_is_that_of_their_content() -> None:
    """A run on other data has the same key, or one on generated data another key than before."""
    e = rc.Experiment()
    assert e.key_with(None) == e.key_with("") == e.key
    keys = [
        e.key,
        e.key_with("0123456789abcdef"),
        e.key_with("1123456789abcdef"),
        replace(e, seed=1).key_with("0123456789abcdef"),
    ]
    assert len(set(keys)) == 4 and all(len(key) == 16 and int(key, 16) >= 0 for key in keys)


def another_value(name: str) -> Any:
    """A value of the setting that is not its default."""
    axis, default = axes()[name], getattr(rc.Experiment(), name)
    if axis.kind == "choice":
        return next(choice for choice in axis.choices if choice != default)
    if axis.kind in ("name", "rule"):
        return {"name": "input_mean", "rule": "norm:1.0"}[axis.kind]
    if axis.kind == "flag":
        return not default
    return (default or 4) + 1 if axis.kind == "integer" else (default or 1.0) / 2


def test_every_field_is_in_the_key() -> None:
    """Two experiments that differ share a key, and one is taken for the other."""
    names = [name for name in axes() if name != "cell_options"]  # of a user's own cell: test_own_cells.py
    bases = [rc.Experiment(cell=(axes()[name].cells or ("vanilla",))[0]) for name in names]
    changed = [replace(base, **{name: another_value(name)}) for base, name in zip(bases, names, strict=True)]
    changed = [replace(e, seed=99 + i) if names[i] == "cell" else e for i, e in enumerate(changed)]
    assert len({e.key for e in [*bases, *changed]}) == len(changed) + len({e.cell for e in bases})


# ---- loss and gradients of one batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("task", ["white_noise", "input_mean", "labels"])
@pytest.mark.parametrize("activation", list(rc.ACTIVATIONS))
def test_evaluate_is_a_whole_torch_program(activation: str, task: str, loss_at: str) -> None:
    """Loss, readout and network together: the mean over the batch and over the steps that carry a loss, and its gradients."""
    experiment = small(task=task, activation=activation, loss_at=loss_at, spectral_radius=1.2)
    problem = with_biases(rc.prepare(experiment, labelled("every") if task == "labels" else None))
    x, target = problem.batch(1)
    ours = rc.evaluate(problem, problem.params, x, target)

    p = {name: torch.tensor(value, requires_grad=True) for name, value in problem.params.items()}
    h, outputs = torch.zeros(3, 8, dtype=torch.float64), []
    for x_t in torch.tensor(x):
        a = x_t @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
        h = ACTIVATIONS[activation].tensor(a)
        outputs.append(h @ p["weight_ho"].T + p["bias_ho"])
    y, goal = (torch.stack(outputs) if loss_at == "every" else outputs[-1]), torch.tensor(target)
    if task == "labels":
        loss = functional.cross_entropy(y.reshape(-1, y.shape[-1]), goal.reshape(-1))
        right = float((y.argmax(-1) == goal).double().mean())
        assert ours.accuracy == right
    else:
        loss = (0.5 * (y - goal) ** 2).sum(-1).mean()
        assert math.isnan(ours.accuracy)
    loss.backward()
    assert ours.loss == pytest.approx(loss.item(), rel=1e-13)
    assert set(ours.param_grads) == set(p)
    for name, gradient in ours.param_grads.items():
        assert relative(gradient, p[name].grad) < 1e-12, name


@pytest.mark.parametrize("clipping", ["none", "norm:0.05", "value:0.01"])
def test_training_is_torchs(clipping: str) -> None:
    """The losses of a run are those of the same network trained by a plain torch program."""
    experiment = small(task="input_mean", updates=6, learning_rate=0.2, clipping=clipping)
    result, problem = rc.run(experiment), rc.prepare(experiment)
    p = {name: torch.tensor(value, requires_grad=True) for name, value in problem.params.items()}
    optimizer, losses, norms = torch.optim.SGD(p.values(), lr=0.2), [], []
    for update in range(6):
        x, target = (torch.tensor(v) for v in problem.batch(update))
        h, outputs = torch.zeros(3, 8, dtype=torch.float64), []
        for x_t in x:
            h = torch.tanh(x_t @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"])
            outputs.append(h @ p["weight_ho"].T + p["bias_ho"])
        loss = 0.5 * functional.mse_loss(torch.stack(outputs), target)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.get_total_norm([v.grad for v in p.values() if v.grad is not None])
        if clipping.startswith("norm"):
            for v in p.values():
                v.grad *= min(1.0, 0.05 / float(norm))
        if clipping.startswith("value"):
            torch.nn.utils.clip_grad_value_(p.values(), 0.01)
        optimizer.step()
        losses.append(loss.item())
        norms.append(math.log10(float(norm)))
    np.testing.assert_allclose(result.updates["loss"], losses, rtol=1e-11)
    np.testing.assert_allclose(result.updates["log10_norm_before"], norms, rtol=0, atol=1e-11)
    if clipping != "none":
        assert (result.updates["clip_factor"] < 1.0).any()


# ---- what a run records ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("updates", "trace_every"), [(0, 5), (1, 1), (1, 5), (7, 1), (7, 3), (7, 7), (7, 50), (8, 4)])
def test_every_column_has_the_right_length(updates: int, trace_every: int) -> None:
    """A trace is missing, doubled, or a column is shorter than its neighbours."""
    result = rc.run(small(updates=updates, trace_every=trace_every))
    recorded = sorted({*range(0, max(1, updates), trace_every), max(1, updates) - 1} if updates else {0})
    T = 9
    for name, column in result.traces.items():
        assert column.shape == (len(recorded) * T,), name
    for name, column in result.updates.items():
        assert column.shape == (max(1, updates),), name
    np.testing.assert_array_equal(result.traces["update"], np.repeat(recorded, T))
    np.testing.assert_array_equal(result.traces["t"], np.tile(np.arange(1, T + 1), len(recorded)))
    np.testing.assert_array_equal(result.traces["t"] + result.traces["lag"], T)
    np.testing.assert_array_equal(result.updates["update"], np.arange(max(1, updates)))
    assert all(column.dtype != object for column in [*result.traces.values(), *result.updates.values()])


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("activation", list(rc.ACTIVATIONS))
def test_traces_are_what_happened(activation: str, loss_at: str) -> None:
    """A column holds something else than its name says."""
    experiment = small(activation=activation, loss_at=loss_at, input_scale=2.0)
    result, problem = rc.run(experiment), rc.prepare(experiment)
    evaluation = rc.evaluate(problem, problem.params, *problem.batch(0))
    hidden, tape = np.asarray(evaluation.gradients.hidden), evaluation.tape
    norm = np.linalg.norm(hidden.reshape(9, -1), axis=1)
    direct = np.linalg.norm(np.asarray(evaluation.grad_hidden(0, 9)).reshape(9, -1), axis=1)
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(result.traces["log10_grad_norm"], np.log10(norm), atol=1e-13)
        np.testing.assert_allclose(result.traces["log10_immediate_norm"], np.log10(direct), atol=1e-13)
    np.testing.assert_allclose(result.traces["hidden_rms"], [np.sqrt((h**2).mean()) for h in tape.hidden], rtol=1e-14)
    phi = rc.ACTIVATIONS[activation]
    saturated = [(np.abs(phi.df(a)) < SATURATED_BELOW * phi.gamma).mean() for a in tape.saved]
    np.testing.assert_allclose(result.traces["saturation"], saturated, rtol=1e-14)


def test_saturation_counts_flat_units_only() -> None:
    """If no unit were ever counted as saturated, or all, the test above would pass with a constant."""
    flat = rc.run(small(activation="tanh", input_scale=20.0)).traces["saturation"]
    steep = rc.run(small(activation="tanh", input_scale=0.01)).traces["saturation"]
    none = rc.run(small(activation="identity")).traces["saturation"]
    assert flat.mean() > 0.7 and steep.max() == 0.0 and none.max() == 0.0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_hidden_rms_of_large_states_is_finite(dtype: str) -> None:
    """States are finite, yet their root mean square is recorded as inf."""
    experiment = small(
        task="labels", activation="identity", initializer="orthogonal", dtype=dtype, updates=1, learning_rate=1e-37,
        spectral_radius=1e25 if dtype == "float64" else 1e3, clipping="norm:1.0",
    )  # fmt: skip
    result = rc.run(experiment, labelled("last"))
    assert result.updates["finite"].all() and result.traces["t"].shape == (9,)
    assert np.isfinite(result.traces["hidden_rms"]).all()


@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_growth_is_that_of_the_last_steps_loss(loss_at: str) -> None:
    """With a loss at every step the total gradient does not show how one step's signal travels; growth must not use it."""
    experiment = small(loss_at=loss_at, sequence_length=40)
    summary, problem = rc.run(experiment).summary, rc.prepare(experiment)
    evaluation = rc.evaluate(problem, problem.params, *problem.batch(0))
    last = np.array(evaluation.grad_hidden(0, 40))
    last[:-1] = 0.0
    window = slice(summary["settled_from"] - 1, summary["settled_to"])
    measured = growth(rc.backward(evaluation.tape, last).log_norm_samples, window)
    assert (summary["growth_rate"], summary["growth_rate_error"]) == (measured.rate, measured.error)
    assert summary["log10_gradient_ratio"] == measured.ratio
    assert summary["dead_samples"] == measured.dead == 0.0
    total = growth(evaluation.gradients.log_norm_samples, window).rate
    assert (total == measured.rate) == (loss_at == "last")


@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_a_single_unit_whose_weight_cancels_its_state_is_measured(activation: str) -> None:
    """A study of one unit ends with "math domain error", because the linear law of h_{t-1} - phi(h_{t-1}) is ln 0."""
    every = [
        small(cell="residual", activation=activation, hidden_size=1, seed=seed, sequence_length=9) for seed in range(8)
    ]
    weights = [float(rc.prepare(each).params["weight_hh"].squeeze()) for each in every]
    experiment = every[weights.index(-1.0)]
    for device in (None, "cpu:0"):
        [(_, result)] = rc.run_many([experiment]) if device is None else rc.run_many([experiment], device=device)
        assert result.summary["linear_rate"] == -math.inf
        assert result.summary["bound_rate"] == pytest.approx(math.log(2.0))
        assert (result.summary["growth_rate"] == -math.inf) == (activation == "identity")


@pytest.mark.parametrize("initializer", list(rc.INITIALIZERS))
@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_the_summary_has_theory_beside_measurement(activation: str, initializer: str) -> None:
    """rho and sigma_max are confused, or the wrong theory is compared with the measurement."""
    experiment = small(activation=activation, initializer=initializer, spectral_radius=1.3, sequence_length=20)
    summary, W = rc.run(experiment).summary, rc.prepare(experiment).params["weight_hh"]
    assert summary["measured_spectral_radius"] == pytest.approx(1.3, rel=1e-12)
    assert summary["sigma_max"] == pytest.approx(np.linalg.svd(W)[1][0], rel=1e-12)
    assert summary["linear_rate"] == pytest.approx(math.log(1.3), rel=1e-12)
    assert summary["bound_rate"] == pytest.approx(math.log(summary["sigma_max"]), rel=1e-12)
    if activation == "identity":
        assert summary["predicted_rate"] == summary["linear_rate"]
    elif initializer not in MIXING_INITIALIZERS:
        assert math.isnan(summary["predicted_rate"]) and summary["predicted_by"] is None and summary["bistable"] is None
    else:
        assert summary["predicted_by"] == "mean field" and summary["bistable"] is False
        assert summary["predicted_rate"] == summary["mean_field_rate"]
    np.testing.assert_equal(summary["deviation"], summary["growth_rate"] - summary["predicted_rate"])
    assert summary["regime"] in ("vanishing", "stable", "exploding")


@pytest.mark.parametrize(("rho", "expected"), [(0.7, "vanishing"), (1.0, "stable"), (1.4, "exploding")])
def test_the_regime_of_a_linear_network(rho: float, expected: str) -> None:
    """A linear network whose steps all multiply by rho: 49 of them make rho**49, and the regime must say so."""
    summary = rc.run(
        small(activation="identity", initializer="identity", spectral_radius=rho, sequence_length=50)
    ).summary
    assert summary["regime"] == expected
    assert summary["growth_rate"] == pytest.approx(math.log(rho), abs=1e-12)
    assert summary["deviation"] == pytest.approx(0.0, abs=1e-12)
    assert summary["log10_gradient_ratio"] == pytest.approx(49 * math.log10(rho), abs=1e-10)


def assert_same(a: rc.Result, b: rc.Result) -> None:
    """Bit for bit."""
    for ours, theirs in ((a.traces, b.traces), (a.updates, b.updates)):
        assert list(ours) == list(theirs)
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    np.testing.assert_equal(a.summary, b.summary)


@pytest.mark.parametrize("task", ["white_noise", "input_mean", "labels"])
def test_a_run_is_repeatable(task: str) -> None:
    """The same experiment gives other numbers a second time."""
    experiment = small(task=task, updates=4, trace_every=2, learning_rate=0.05)
    data = labelled("every") if task == "labels" else None
    first = rc.run(experiment, data)
    rc.run(small(seed=9, updates=2))
    assert_same(first, rc.run(experiment, data))


def test_seeds_differ() -> None:
    """Every seed gives the same run."""
    losses = {rc.run(small(seed=seed)).updates["loss"][0] for seed in range(5)}
    assert len(losses) == 5


def test_without_updates_nothing_is_trained() -> None:
    """A measurement at the start changes parameters, or claims to have solved the task."""
    summary = rc.run(small(updates=0)).summary
    assert summary["solved"] is None
    assert math.isnan(summary["held_out_loss"])


def test_a_learnable_task_is_solved() -> None:
    """Training does not train, or held-out loss is measured on something else."""
    easy = small(
        task="input_mean", activation="identity", spectral_radius=0.5, updates=200, learning_rate=0.3, batch_size=16
    )
    summary = rc.run(easy).summary
    assert summary["solved"] is True
    assert summary["held_out_loss"] < 0.1 * 0.5 / 10  # a tenth of half the variance of a mean of ten
    assert rc.run(replace(easy, updates=1)).summary["solved"] is False


def test_solved_compares_with_the_tasks_own_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that can be half guessed without memory counts as solved by a network that guesses."""
    easy = small(task="input_mean", activation="identity", spectral_radius=0.5, updates=200, learning_rate=0.3, batch_size=16)  # fmt: skip
    summary, noise = rc.run(easy).summary, rc.prepare(replace(easy, task="white_noise"))
    assert summary["baseline_loss"] == 0.5 / 10
    assert noise.task.baseline == pytest.approx(0.5 * np.var(noise.held_out()[1]), rel=1e-12)
    assert math.isnan(summary["baseline_accuracy"])
    better = 5.0 * summary["held_out_loss"]
    monkeypatch.setattr(rc.GENERATED["input_mean"], "baseline", better)
    other = rc.run(easy).summary
    assert (other["baseline_loss"], other["solved"], other["held_out_loss"]) == (
        better,
        False,
        summary["held_out_loss"],
    )


def test_the_baseline_is_there_for_every_run_that_trains() -> None:
    """A run that breaks down has no baseline, one that trains nothing has, or classes are counted among training targets."""
    data = labelled("every")
    summary = rc.run(small(task="labels", updates=1), data).summary
    classes = data.targets[data.held_out]
    shares = np.bincount(classes.reshape(-1)) / classes.size
    assert summary["baseline_accuracy"] == pytest.approx(shares.max(), rel=1e-14)
    assert summary["baseline_loss"] == pytest.approx(-(shares * np.log(shares)).sum(), rel=1e-14)
    untrained = rc.run(small(task="labels"), data).summary
    assert math.isnan(untrained["baseline_loss"]) and math.isnan(untrained["baseline_accuracy"])
    broken = rc.run(rc.Experiment(**DIVERGES)).summary
    assert broken["solved"] is False and broken["baseline_loss"] > 0.0


def test_a_watcher_sees_every_recorded_evaluation() -> None:
    """The gate inside a sweep checks other parameters or batches than the run used."""
    seen: list[tuple[float, float]] = []

    def watch(problem: rc.Problem, params: Any, x: Any, target: Any, evaluation: Evaluation) -> None:
        seen.append((evaluation.loss, rc.evaluate(problem, params, x, target).loss))

    result = rc.run(small(updates=7, trace_every=3, learning_rate=0.1), watch=watch)
    assert [a for a, _ in seen] == [b for _, b in seen] == list(result.updates["loss"][[0, 3, 6]])


# ---- runs that break down ----------------------------------------------------------------------------------------------


def test_a_run_that_diverges_is_recorded_with_its_update_and_step() -> None:
    """A broken run raises, goes on with nan, or hides where it broke."""
    experiment = rc.Experiment(**DIVERGES)
    result, problem = rc.run(experiment), rc.prepare(experiment)
    broken = result.summary["first_nonfinite_update"]
    assert 1 <= broken <= 3
    assert len(result.updates["loss"]) == broken + 1
    np.testing.assert_array_equal(result.updates["finite"], [True] * broken + [False])
    assert result.summary["solved"] is False
    assert math.isnan(result.summary["held_out_loss"])
    assert np.isfinite(result.updates["loss"][:-1]).all()

    # The step, found again by a plain NumPy program.
    with np.errstate(over="ignore", invalid="ignore"):
        params = problem.params
        for update in range(broken):
            params = rc.SGD(0.3).step(params, rc.evaluate(problem, params, *problem.batch(update)).param_grads)
        h, step = np.zeros((16, 32)), None
        for t, x_t in enumerate(problem.batch(broken)[0], start=1):
            h = x_t @ params["weight_ih"].T + params["bias_ih"] + h @ params["weight_hh"].T + params["bias_hh"]
            h = np.where(h < 0, 0.0, h)
            if not np.isfinite(h).all() or not np.isfinite(h @ params["weight_ho"].T + params["bias_ho"]).all():
                step = t
                break
    assert result.summary["first_nonfinite_step"] == step is not None


@pytest.mark.parametrize("clipping", ["norm:1.0", "value:0.1"])
def test_clipping_rescues_it(clipping: str) -> None:
    """Clipping has no effect on the very run it is for."""
    result = rc.run(rc.Experiment(**DIVERGES, clipping=clipping))
    assert result.summary["first_nonfinite_update"] is None
    assert result.summary["first_nonfinite_step"] is None
    assert result.updates["finite"].all()
    assert np.isfinite(result.updates["loss"]).all()
    assert (result.updates["clip_factor"] < 1.0).any()
    if clipping == "norm:1.0":
        assert (result.updates["log10_norm_after"] <= 1e-12).all()


def test_a_gradient_beyond_range_is_finite_until_it_is_applied() -> None:
    """A gradient of 1e400 is called nan, or its update is applied unseen; clipped by norm, it is an ordinary update.

    tanh at rest: inputs so small that the states never leave the linear part, while gradients grow by 4 a step.
    """
    rng = np.random.default_rng(0)
    tiny = 1e-20 * rng.standard_normal((4, 525, 8))
    data = rc.Sequences(tiny, rng.standard_normal((4, 1)), np.arange(4) == 0, "squared_error", "last")
    experiment = small(
        task="tiny", initializer="orthogonal", spectral_radius=4.0, input_scale=1e-300, sequence_length=525,
        updates=1, learning_rate=0.1,
    )  # fmt: skip
    alone = rc.run(experiment, data)
    assert alone.updates["log10_norm_before"][0] > 308
    assert not alone.updates["finite"][0]
    assert alone.summary["first_nonfinite_update"] == 0
    clipped = rc.run(replace(experiment, clipping="norm:1.0"), data)
    assert clipped.updates["finite"][0]
    assert clipped.updates["log10_norm_after"][0] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.filterwarnings("error")
def test_a_broken_run_is_silent() -> None:
    """What is recorded is also warned about, once for every operation."""
    rc.run(rc.Experiment(**DIVERGES))
    rc.run(small(activation="relu", spectral_radius=60.0, sequence_length=400, updates=2))


# ---- given sequences ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_sequences_are_run(loss_at: str) -> None:
    """A task on given data records other columns, or no accuracy."""
    experiment = small(task="labels", loss_at=loss_at, updates=60, trace_every=20, learning_rate=0.5, batch_size=9)
    result = rc.run(experiment, labelled("every", N=60))
    assert result.traces["t"].shape == (4 * 9,)
    assert result.summary["task_loss_at"] == loss_at
    assert result.summary["task_input_size"] == 2
    assert ((result.updates["accuracy"] >= 0) & (result.updates["accuracy"] <= 1)).all()
    assert 0.0 <= result.summary["held_out_accuracy"] <= 1.0
    assert isinstance(result.summary["solved"], bool)
    assert result.updates["loss"][-10:].mean() < 0.8 * result.updates["loss"][:10].mean()
    direct = result.traces["log10_immediate_norm"].reshape(4, 9)
    assert np.isfinite(direct[:, -1]).all()
    assert np.isfinite(direct[:, :-1]).all() == (loss_at == "every")


def test_held_out_accuracy_is_counted_on_held_out_sequences() -> None:
    """Accuracy is that of the training sequences, or is averaged wrongly."""
    data = labelled("last", N=30)
    experiment = small(task="labels", updates=3, learning_rate=0.2)
    problem = rc.prepare(experiment, data)
    params = problem.params
    for update in range(3):
        params = rc.SGD(0.2).step(params, rc.evaluate(problem, params, *problem.batch(update)).param_grads)
    h = np.zeros((10, 8))
    for x_t in data.inputs[data.held_out].transpose(1, 0, 2):
        h = np.tanh(x_t @ params["weight_ih"].T + params["bias_ih"] + h @ params["weight_hh"].T + params["bias_hh"])
    guess = (h @ params["weight_ho"].T + params["bias_ho"]).argmax(1)
    accuracy = (guess == data.targets[data.held_out]).mean()
    assert rc.run(experiment, data).summary["held_out_accuracy"] == pytest.approx(accuracy)


def test_an_experiment_is_one_row() -> None:
    """A field cannot be written to a table as it is."""
    assert all(isinstance(v, str | int | float | None) for v in asdict(rc.Experiment()).values())


# ---- many runs that share work ---------------------------------------------------------------------------------------


SWEPT = [
    {"activation": "tanh", "loss_at": "last"},
    {"activation": "tanh", "loss_at": "every", "task": "input_mean"},
    {"activation": "relu", "spectral_radius": 2.5, "loss_at": "last"},
    {"activation": "relu", "spectral_radius": 30.0, "loss_at": "every"},  # states leave the range of plain floats
    {"activation": "gelu", "cell": "residual", "residual_leak": 0.5},
    {"cell": "lstm", "dtype": "float32"},
    {"activation": "sigmoid", "spectral_radius": 0.2, "truncation": 7},
    {"updates": 3, "loss_at": "every", "learning_rate": 0.1},
]


@pytest.mark.parametrize("fixed", SWEPT, ids=str)
def test_runs_that_share_work_give_the_bits_of_runs_alone(fixed: dict[str, Any]) -> None:
    """Which runs were computed together changes a row: a grown study differs from a fresh one."""
    lengths, rules = (5, 40, 260, 130), ("none", "norm:0.01", "value:0.001", "signal:0.001")
    sweep = [small(**{**fixed, "sequence_length": T, "clipping": rule, "seed": seed}) for T in lengths for rule in rules for seed in (0, 1)]  # fmt: skip
    together = dict(rc.run_many(sweep))
    assert set(together) == set(sweep)
    for experiment in sweep:
        assert_same(rc.run(experiment), together[experiment])


def test_sharing_is_real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that could share a forward pass or a gradient compute their own."""
    counted: list[str] = []
    for name in ("run_stack", "back_through_stack"):
        original = getattr(bptt, name)
        monkeypatch.setattr(bptt, name, lambda *a, n=name, f=original, **k: (counted.append(n), f(*a, **k))[1])
    sweep = [
        small(sequence_length=T, clipping=rule) for T in (10, 20, 30) for rule in ("none", "norm:1.0", "value:0.1")
    ]
    assert len(list(rc.run_many(sweep))) == 9
    assert (counted.count("run_stack"), counted.count("back_through_stack")) == (1, 3)


def test_sequences_of_the_user_are_shared_too() -> None:
    """A shorter run reads other sequences than the longer one whose states it takes."""
    data = labelled("every")
    sweep = [replace(small(task="mine", loss_at="every"), sequence_length=T) for T in (2, data.inputs.shape[1])]
    for experiment, result in rc.run_many(sweep, {"mine": data}):
        assert_same(rc.run(experiment, data), result)


# ---- what a result shows of itself -------------------------------------------------------------------------------------


def test_a_result_shows_its_values_and_lists_its_names() -> None:
    """A result prints all its arrays, hides a column's name, or says nan for what it did not measure."""
    experiment = small(activation="relu", spectral_radius=0.5, updates=2, task="input_mean")
    result = rc.run(experiment)
    s, loss = result.summary, result.updates["loss"]
    for text in (repr(result), str(result)):
        assert f"growth_rate={s['growth_rate']:.4g} ± {s['growth_rate_error']:.2g} ln per step" in text
        assert f"regime={s['regime']}, " in text or f"regime={s['regime']}\n" in text
        assert f"loss={loss[0]:.4g} to {loss[-1]:.4g}, held_out_loss={s['held_out_loss']:.4g}, solved=False" in text
        assert (
            "nan" not in text.replace("dead", "") and "None" not in text and "nonfinite" not in text.split("summary")[0]
        )
    assert len(repr(result)) < 300 and "traces 18×14, updates 2×10" in repr(result)
    assert len(str(result)) < 1500 and repr(experiment) in str(result)
    names = {*result.summary, *result.updates, *result.traces}
    assert all(name in str(result) for name in names)
    assert set(result.keys()) == names == set(result) and len(result.keys()) == len(names)
    assert "held_out_loss=" not in str(rc.run(small()))
    assert "first_nonfinite_update=" in repr(rc.run(rc.Experiment(**DIVERGES)))
    assert result["regime"] == result.summary["regime"] and result["loss"] is result.updates["loss"]
    assert result["log10_grad_norm"] is result.traces["log10_grad_norm"] and dict(result)["clip_factor"].shape == (2,)
    with pytest.raises(KeyError, match="'growth' was not measured; did you mean 'growth_rate'"):
        result["growth"]


# ---- what a run measures is what its columns say -----------------------------------------------------------------------

KINDS: dict[str, tuple[type, ...]] = {
    "integer": (int, np.integer),
    "number": (float, np.floating),
    "flag": (bool, np.bool_),
    "name": (str,),
}


@pytest.mark.parametrize("ragged", [False, True], ids=["even", "ragged"])
@pytest.mark.parametrize("cell", list(rc.CELLS))
@pytest.mark.parametrize("settings", [{}, {"updates": 2}, {"updates": 1, "truncation": 3}, DIVERGES], ids=str)
def test_a_run_measures_exactly_the_declared_columns(settings: dict[str, Any], cell: str, ragged: bool) -> None:
    """A column is declared and not measured, measured and not declared, or its values are not what it declares."""
    data = labelled("every")
    if ragged:
        data = replace(data, mask=np.arange(9) < 4 + np.arange(14)[:, None] % 6)
    if not rc.CELLS[cell].has_matrix:
        settings = {name: value for name, value in settings.items() if name != "spectral_radius"}
    experiment = small(**{**settings, "task": "mine", "cell": cell, "hidden_size": 8, "sequence_length": 9})
    result = rc.run(experiment, data, traces=ASKED)
    assert set(result.traces) - set(rc.run(experiment, data).traces) == {c.name for c in COLUMNS["traces"] if c.asked}
    for table, measured in (("traces", result.traces), ("updates", result.updates), ("runs", result.summary)):
        declared = {column.name: column for column in COLUMNS[table]}
        assert sorted(declared) == sorted(measured), f"{table}: a column without a value, or a value without a column"
        for name, values in measured.items():
            column = declared[name]
            for value in np.unique(values) if table != "runs" else [values]:
                if value is None or (column.kind == "number" and math.isnan(value)):
                    assert column.null or name == "clip_factor" or math.isnan(value), name
                else:
                    assert isinstance(value, KINDS[column.kind]), (name, value)
                    assert column.kind != "integer" or not isinstance(value, bool), name


def test_what_traces_hold_besides_is_asked_for() -> None:
    """A run records what nobody asked for, or not what was asked for; or run and run_many differ."""
    trained = small(task="input_mean", updates=3, trace_every=1)
    for name in ASKED:
        columns = [column.name for column in COLUMNS["traces"] if column.asked == name]
        result = rc.run(trained, traces=[name])
        assert set(result.traces) - set(rc.run(trained).traces) == set(columns)
        assert all(len(result.traces[column]) == 27 for column in columns)
        (_, many), *_ = rc.run_many([trained], traces=[name])
        np.testing.assert_equal(many.traces, result.traces)
        bounded = rc.run(trained, traces=[name], memory_budget=1)
        np.testing.assert_equal(bounded.traces, result.traces)
    shares = rc.run(trained, traces=list(ASKED))
    size = 10.0 ** shares["log10_weight_grad_norm"] * np.nan_to_num(shares["weight_grad_cosine"])
    problem = rc.prepare(trained)
    gradient = rc.evaluate(problem, problem.params, *problem.batch(0)).param_grads["weight_hh"]
    assert size[:9].sum() == pytest.approx(np.linalg.norm(gradient))  # Σ cos_t ‖G_t‖ = ‖G‖
    with pytest.raises(TypeError, match="traces: a str is not allowed"):
        rc.run(trained, traces="weight_gradient")
    with pytest.raises(ValueError, match=r"traces: 'weight_gradients' is not known; .*Did you mean 'weight_gradient'"):
        rc.run(trained, traces=["weight_gradients"])


def test_columns_are_described_once() -> None:
    """Two columns of a table share a name, one has no meaning, or its kind is not known."""
    for table, columns in COLUMNS.items():
        names = [column.name for column in columns]
        assert len(set(names)) == len(names), table
        assert all(column.meaning and column.unit for column in columns)
        assert not set(names) & set(axes()) - {"updates", "omega"}, table  # Ω of an update, and its weight
    with pytest.raises(
        ValueError, match="kind of column x: 'float' is not known; allowed: integer, number, flag, name"
    ):
        Column("x", "float", "1", "A number")


def test_what_acts_on_training_changes_nothing_at_the_start() -> None:
    """A setting that is said to act on training alone changes the start, and runs that differ are taken for one start."""
    base = small(task="input_mean", updates=2)
    changes: dict[str, Any] = {
        "clipping": "norm:0.01", "optimizer": "adam", "learning_rate": 0.5, "updates": 3, "trace_every": 1, "truncation": 2,
        "record_every": 2, "held_out_sequences": 9, "validate_every": 1, "omega": 2.0, "weight_decay": 0.1,
    }  # fmt: skip
    success = {"task": "adding", "success_below": 0.5}  # of a task whose answers are right or wrong
    assert {*changes, "success_below"} == {name for name, axis in axes().items() if axis.training}
    at_start = [column.name for column in COLUMNS["runs"] if column not in (*END, *BREAKDOWN)]
    start = rc.run(base, traces=ASKED)
    for name, value in changes.items():
        other = rc.run(replace(base, **{name: value}), traces=ASKED)
        np.testing.assert_equal([other[column] for column in at_start], [start[column] for column in at_start])
        np.testing.assert_array_equal(other["log10_grad_norm"][:9], start["log10_grad_norm"][:9])
    asked, unasked = (
        rc.run(replace(base, **{**success, **more}), traces=ASKED) for more in ({}, {"success_below": None})
    )
    np.testing.assert_equal([asked[column] for column in at_start], [unasked[column] for column in at_start])


def test_one_step_has_no_regime() -> None:
    """The table said "stable" of a gradient that has no way back."""
    one = rc.run(rc.Experiment(sequence_length=1, hidden_size=4, batch_size=2))
    two = rc.run(rc.Experiment(sequence_length=2, hidden_size=4, batch_size=2))
    assert one["regime"] is None and one["settled_from"] is None and two["regime"] == "stable"
