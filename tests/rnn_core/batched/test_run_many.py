"""``run_many`` on a torch device gives the rows of runs alone, to rounding, whatever way a run takes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core.cells import make_cell
from rnn_core.experiment import axes, together
from rnn_core.experiment.problem import task_of
from rnn_core.experiment.together.draws import Draws

SMALL: dict[str, Any] = {"hidden_size": 12, "sequence_length": 60, "batch_size": 4}
devices = pytest.mark.parametrize("device", ["cpu:0", pytest.param("cuda", marks=pytest.mark.gpu)])


def sweep(rules: Iterable[str] = ("none",), radii: Iterable[float] = (0.5, 1.3), **fixed: Any) -> list[rc.Experiment]:
    return [
        rc.Experiment(**{**SMALL, "spectral_radius": rho, "seed": seed, "clipping": rule, **fixed})
        for seed in (0, 1)
        for rho in radii
        for rule in rules
    ]


def went_together(experiments: list[rc.Experiment], device: str, data: dict[str, rc.Sequences] | None = None) -> set[rc.Experiment]:  # fmt: skip
    """Those that the batched engine has made itself."""
    plan = together.planned(experiments, data or {}, device, None)
    made = together.run_together(plan, data or {}, device)
    return {each[0] for each in made if not isinstance(each, rc.Experiment)}


def assert_same_rows(ours: rc.Result, alone: rc.Result, limit: float) -> None:
    """Names, order, kinds and values."""
    for table in ("traces", "updates"):
        mine, theirs = getattr(ours, table), getattr(alone, table)
        assert list(mine) == list(theirs)
        for name, column in theirs.items():
            assert mine[name].dtype == column.dtype, name
            np.testing.assert_allclose(mine[name], column, rtol=limit, atol=limit, err_msg=name)
    assert list(ours.summary) == list(alone.summary)
    for name, value in alone.summary.items():
        assert type(ours.summary[name]) is type(value), name
        if isinstance(value, float):
            np.testing.assert_allclose(ours.summary[name], value, rtol=limit, atol=limit, err_msg=name)
        else:
            assert ours.summary[name] == value, name


RULES = ("none", "norm:0.1", "norm:1e6", "value:0.01", "parameter:0.05", "adaptive:0.01")
SETTINGS: list[dict[str, Any]] = [
    {"rules": RULES},
    *({"activation": name} for name in rc.ACTIVATIONS),
    {"cell": "residual", "residual_leak": 0.3, "residual_step": 0.5},
    {"cell": "residual", "activation": "identity"},
    {"cell": "gru"},
    {"cell": "lstm", "rules": RULES[:2]},
    {"task": "input_mean", "rules": RULES},
    {"cell": "lstm", "loss_at": "every"},
    {"loss_at": "every", "activation": "relu"},
    {"initializer": "orthogonal"},
    {"initializer": "identity"},
    {"input_scale": 8.0},
    {"radii": (0.01,)},  # the gradient vanishes to 10^-100
    {"sequence_length": 2},
    {"sequence_length": 14},
    {"batch_size": 1},
]


@devices
@pytest.mark.parametrize("fixed", SETTINGS, ids=str)
def test_rows_are_those_of_runs_alone(fixed: dict[str, Any], device: str) -> None:
    """A column is reduced over other entries on the device, a window is another, or a rule sees other gradients."""
    experiments = sweep(**fixed)
    results = dict(rc.run_many(experiments, device=device))
    assert set(results) == set(experiments) == went_together(experiments, device)
    for experiment in experiments:
        assert results[experiment].experiment == experiment
        assert_same_rows(results[experiment], rc.run(experiment), 1e-9)


@devices
def test_float32_rows_are_those_of_float32(device: str) -> None:
    """The batch is computed in float64, or a column is lost to rounding."""
    experiments = sweep(dtype="float32", sequence_length=30)
    for experiment, result in rc.run_many(experiments, device=device):
        assert_same_rows(result, rc.run(experiment), 1e-4)


@devices
def test_sequences_of_the_user_go_together_too(device: str) -> None:
    """Labels, accuracy and batches by seed."""
    rng = np.random.default_rng(0)
    for loss_at in ("last", "every"):
        targets = rng.integers(0, 3, 30 if loss_at == "last" else (30, 20))
        data = {"mine": rc.Sequences(rng.standard_normal((30, 20, 2)), targets, np.arange(30) < 6, "softmax_cross_entropy", loss_at)}  # fmt: skip
        experiments = sweep(task="mine", sequence_length=20, loss_at=loss_at)
        assert went_together(experiments, device, data) == set(experiments)
        for experiment, result in rc.run_many(experiments, data, device=device):
            assert_same_rows(result, rc.run(experiment, data["mine"]), 1e-9)


@devices
def test_a_run_that_one_exponent_does_not_hold_comes_from_the_engine_in_numpy(device: str) -> None:
    """Its row says what float arithmetic has left of it. States of relu leave the range of floats at once here."""
    experiments = sweep(activation="relu", radii=(1.0, 30.0), sequence_length=260)
    results, direct = dict(rc.run_many(experiments, device=device)), went_together(experiments, device)
    assert {e.spectral_radius for e in direct} == {1.0} and len(direct) == 2
    for experiment in set(experiments) - direct:
        alone = rc.run(experiment)
        assert alone.summary["log10_gradient_ratio"] > 300
        for name, column in alone.traces.items():
            np.testing.assert_array_equal(results[experiment].traces[name], column)


@devices
def test_states_that_grow_too_large_are_enough(device: str) -> None:
    """Here the gradients hold, and the states, of 10^110, do not: a run is made again where any part of it is in doubt."""
    experiments = sweep(activation="relu", radii=(1.0, 100.0))
    assert {e.spectral_radius for e in went_together(experiments, device)} == {1.0}


@devices
def test_dead_samples_are_counted(device: str) -> None:
    """A sample whose gradient is exactly zero from some step on is no growth of -inf for all."""
    experiments = sweep(activation="relu", hidden_size=4, batch_size=6, radii=(0.7, 1.0), sequence_length=30)
    results = dict(rc.run_many(experiments, device=device))
    assert went_together(experiments, device) == set(experiments)
    assert any(result["dead_samples"] > 0 for result in results.values())
    for experiment, result in results.items():
        assert_same_rows(result, rc.run(experiment), 1e-9)


ALONE: list[dict[str, Any]] = [
    {"updates": 2},
    {"truncation": 7},
    {"rules": ("signal:0.001",)},
    {"cell": "gru_reset_before"},
    {"sequence_length": 1},
]


@pytest.mark.parametrize("fixed", ALONE, ids=str)
def test_what_cannot_go_together_is_run_alone(fixed: dict[str, Any]) -> None:
    """A run that trains is measured at its start alone, or a cell without steps is an error."""
    experiments = sweep(**fixed)
    assert not went_together(experiments, "cpu:0")
    for experiment, result in rc.run_many(experiments, device="cpu:0"):
        assert_same_rows(result, rc.run(experiment), 1e-9)


def test_a_setting_that_the_batched_passes_do_not_heed_sends_a_run_alone() -> None:
    """A setting is added, and a GPU's batch ignores it without a word."""
    assert set(together.OTHERS) | together.HEEDED == set(axes())
    for name in set(together.OTHERS) - {"cell_options"}:  # which only a user's own cell has
        cell = {"cell": axes()[name].cells[0]} if axes()[name].cells else {}
        assert not went_together(sweep(**{name: another_value(name)}, **cell), "cpu:0"), name


OF_ITS_OWN_TEST = {"task", "cell", "weight_scale", "clipping", "dtype"}
AT_THE_START = sorted(name for name in together.HEEDED - OF_ITS_OWN_TEST if not axes()[name].training)


@pytest.mark.parametrize("name", AT_THE_START)
def test_a_setting_that_the_batched_passes_heed_makes_the_rows_of_runs_alone(name: str) -> None:
    """A setting is named in HEEDED, and a GPU's batch ignores it."""
    cell = {"cell": axes()[name].cells[0]} if axes()[name].cells else {}
    experiments = sweep(**{name: another_value(name)}, **cell)
    assert went_together(experiments, "cpu:0") == set(experiments)
    for experiment, result in rc.run_many(experiments, device="cpu:0"):
        assert_same_rows(result, rc.run(experiment), 1e-9)


def another_value(name: str) -> Any:
    """A value of a setting that is not its default."""
    described, default = axes()[name], getattr(rc.Experiment(), name)
    for value in (*described.choices, True, 0.5, 3):  # where growth is small, for rounding differs
        try:
            described.check(name, value)
        except ValueError:
            continue
        if value != default:
            return value
    raise AssertionError(f"{name}: give this test a value to try")


@pytest.mark.parametrize("table", ["traces", "updates", "runs"])
def test_a_column_that_the_batched_rows_lack_comes_from_runs_alone(table: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A measured column is added, and on a GPU it is null without a word."""
    experiments = sweep()
    assert went_together(experiments, "cpu:0") == set(experiments)
    monkeypatch.setitem(together.ALWAYS, table, together.ALWAYS[table] | {"a_new_column"})
    assert not went_together(experiments, "cpu:0")
    for experiment, result in rc.run_many(experiments, device="cpu:0"):
        assert_same_rows(result, rc.run(experiment), 0.0)


def test_a_watcher_and_a_small_memory_are_heard() -> None:
    """A watcher is never called, or a batch takes more than the memory budget of each of its runs allows."""
    experiments, seen = sweep(), []
    assert len(list(rc.run_many(experiments, device="cpu:0", watch=lambda *seen_of: seen.append(seen_of)))) == 4
    assert len(seen) == 4
    assert together.planned(experiments, {}, "cpu:0", 10_000).alone == experiments
    assert not together.planned(experiments, {}, "cpu:0", 10**6).alone


def test_batches_of_any_size_and_mixed_shapes() -> None:
    """The last batch is short, experiments are given twice over in another order, and shapes are mixed."""
    many = [e for T in (20, 30) for s in range(11) for e in sweep(radii=(0.5 + 0.1 * s,), sequence_length=T)]
    forth, back = (dict(rc.run_many(order, device="cpu:0")) for order in (many, many[::-1]))
    assert set(forth) == set(back) == set(many) and len(many) == 44
    for experiment in many:
        for table in ("traces", "updates"):
            for name, column in getattr(forth[experiment], table).items():
                np.testing.assert_array_equal(getattr(back[experiment], table)[name], column, err_msg=name)
        for name, value in forth[experiment].summary.items():
            other = back[experiment].summary[name]
            assert other == value or (math.isnan(other) and math.isnan(value)), name


def test_every_batch_has_as_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may choose another product for another number of runs, and tie a row to the rows beside it."""
    sizes, original = [], together.evaluate_together
    monkeypatch.setattr(
        together, "evaluate_together", lambda *a: (sizes.append((len(a[2]), len(a[3]))), original(*a))[1]
    )
    assert len(list(rc.run_many(sweep(radii=[0.5 + 0.1 * k for k in range(5)]), device="cpu:0"))) == 10
    assert sizes == [(8, 8), (8, 8)]


@pytest.mark.parametrize("cell", ["vanilla", "lstm"])
@pytest.mark.parametrize("initializer", list(rc.INITIALIZERS))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_networks_and_sequences_are_those_of_prepare(cell: str, initializer: str, dtype: str) -> None:
    """A stream is read in another order, or a matrix is scaled in another precision: every bit would differ."""
    experiments = sweep(cell=cell, initializer=initializer, dtype=dtype, input_scale=0.3)
    tasks = [task_of(e, None) for e in experiments]
    loaded = Draws(make_cell(cell, "tanh"), dtype, "cpu").load(experiments, tasks)
    for r, experiment in enumerate(experiments):
        problem = rc.prepare(experiment)
        assert set(loaded.params) == set(problem.params)
        for name, value in problem.params.items():
            np.testing.assert_array_equal(loaded.params[name][r].numpy(), value, err_msg=name)
        x, target = problem.batch(0)
        index = int(loaded.which[r])
        np.testing.assert_array_equal(loaded.x[index].numpy(), x)
        np.testing.assert_array_equal(loaded.target[index].numpy(), target)
    assert len(loaded.x) == 2 and len({id(network) for network in loaded.networks}) == 2


def test_a_weight_scale_goes_together_and_a_bias_alone() -> None:
    """A matrix is scaled to the number of another scale, or gates have no bias on a GPU."""
    scaled = [rc.Experiment(**{**SMALL, "spectral_radius": None, "weight_scale": s}) for s in (0.5, 1.3)]
    loaded = Draws(make_cell("vanilla", "tanh"), "float64", "cpu").load(scaled, [task_of(e, None) for e in scaled])
    for r, experiment in enumerate(scaled):
        np.testing.assert_array_equal(loaded.params["weight_hh"][r].numpy(), rc.prepare(experiment).params["weight_hh"])
    assert went_together(scaled, "cpu:0") == set(scaled)
    for experiment, result in rc.run_many(scaled, device="cpu:0"):
        assert_same_rows(result, rc.run(experiment), 1e-9)
    biased = [rc.Experiment(**{**SMALL, "cell": "lstm", **bias}) for bias in ({"forget_bias": 1.0}, {"chrono": 9})]
    assert not went_together(biased, "cpu:0")


def test_wrong_settings_are_refused_as_by_run() -> None:
    """The batched path makes a run that ``prepare`` refuses."""
    huge = [rc.Experiment(spectral_radius=3e38, dtype="float32", sequence_length=5, hidden_size=2, seed=2)]
    with pytest.raises(ValueError, match=r"spectral_radius: 3e\+38 is not .*weight_hh leave its range"):
        list(rc.run_many(huge, device="cpu:0"))
    with pytest.raises(ValueError, match="task: 'mine' is not generated"):
        list(rc.run_many([rc.Experiment(task="mine")], device="cpu:0"))
    with pytest.raises(ValueError, match="device: 'cdua' is not allowed"):
        list(rc.run_many([rc.Experiment()], device="cdua"))
