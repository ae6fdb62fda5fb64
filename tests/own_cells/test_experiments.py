"""Runs of a cell of the user's own: settings, keys, draws, and everything that a run does with other cells."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import rnn_core as rc
from rnn_core.experiment import OWN_CELLS, OwnCell, Request, axes, measure_spectra, register
from rnn_core.oracles import autograd
from studies.own_cells.lru import LRU
from studies.own_cells.mamba import Mamba
from studies.own_cells.slstm import SLSTM

SMALL = {"hidden_size": 4, "batch_size": 3, "sequence_length": 12}


class Elman(nn.Module):
    """A vanilla cell, to be compared with ours."""

    def __init__(self, input_size: int, hidden_size: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(torch.randn(hidden_size, input_size))
        self.weight_hh = nn.Parameter(scale * torch.randn(hidden_size, hidden_size) / math.sqrt(hidden_size))
        self.bias_ih = nn.Parameter(torch.zeros(hidden_size))
        self.bias_hh = nn.Parameter(torch.zeros(hidden_size), requires_grad=False)
        self.hidden_size = hidden_size

    def forward(self, x: Any, h: Any) -> Any:
        return torch.tanh(x @ self.weight_ih.T + self.bias_ih + h @ self.weight_hh.T + self.bias_hh)


@pytest.fixture(autouse=True)
def known() -> None:
    """The cells of these tests."""
    register(OwnCell("elman", Elman, {"scale=0.5": {"scale": 0.5}, "scale=2.0": {"scale": 2.0}}, "d1", "elman.py"))
    for name, kind in {"mamba": Mamba, "torch_slstm": SLSTM, "torch_lru": LRU}.items():
        register(OwnCell(name, kind, digest="d2", source=f"{name.removeprefix('torch_')}.py"))


def elman(**settings: Any) -> rc.Experiment:
    return rc.Experiment(**{"cell": "elman:scale=2.0", **SMALL, **settings})


# ---- settings and keys


def test_a_variant_is_cell_and_options() -> None:
    experiment = rc.Experiment(cell="elman:scale=0.5")
    assert (experiment.cell, experiment.cell_options) == ("elman", "scale=0.5")
    assert experiment == rc.Experiment(cell="elman", cell_options="scale=0.5")
    assert replace(experiment, seed=3).cell_options == "scale=0.5"
    assert eval(repr(experiment), {"Experiment": rc.Experiment}) == experiment


def test_what_only_built_in_cells_have_is_none() -> None:
    """Layers and directions, too: a stack is made of built-in cells."""
    values = vars(elman())
    names = ("activation", "initializer", "spectral_radius", "weight_scale", "input_scale", "omega", "flossing", "flossing_exponents", "layers", "bidirectional")  # fmt: skip
    assert {name for name, axis in axes().items() if axis.built_in} == {name for name in names if values[name] is None}
    with pytest.raises(ValueError, match="layers: 2 is not allowed with your own cell 'elman'"):
        elman(layers=2)


@pytest.mark.parametrize(("settings", "words"), [
    ({"cell": "elmann"}, "Did you mean 'elman'"),
    ({"cell": "elman"}, "has several variants; name one of elman:scale=0.5, elman:scale=2.0"),
    ({"cell": "elman:scale=3.0"}, "'scale=3.0' is not known"),
    ({"cell": "mamba:state_size=4"}, "whose options have one value each"),
    ({"cell": "elman:scale=0.5", "cell_options": "scale=2.0"}, "which names others"),
    ({"cell": "gru", "cell_options": "scale=2.0"}, "only a cell of your own has them"),
    ({"cell": "mamba", "activation": "relu"}, "activation: 'relu' is not allowed with your own cell 'mamba'"),
    ({"cell": "mamba", "spectral_radius": 2.0}, "there is no W_hh that the study could scale"),
    ({"cell": "mamba", "residual_leak": 0.1}, "only 'residual' has it"),
])  # fmt: skip
def test_settings_that_do_not_apply_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        rc.Experiment(**settings)
    assert words in str(error.value)


def test_a_built_in_cell_keeps_its_name() -> None:
    with pytest.raises(ValueError, match="built-in"):
        register(OwnCell("gru", Elman))
    with pytest.raises(ValueError, match="usable name"):
        register(OwnCell("a:b", Elman))


def test_source_and_options_are_in_the_key() -> None:
    """An edited file must make other runs, and only of its cell."""
    mamba, other = rc.Experiment(cell="mamba"), rc.Experiment(cell="torch_lru")
    before = {
        mamba.key,
        other.key,
        rc.Experiment(cell="elman:scale=0.5").key,
        rc.Experiment(cell="elman:scale=2.0").key,
    }
    assert len(before) == 4
    register(OwnCell("mamba", Mamba, digest="edited"))
    assert mamba.key not in before and other.key in before
    # an option that becomes an axis does not make other runs of the values that there were
    register(OwnCell("elman", Elman, {None: {"scale": 2.0}}, "d1"))
    assert rc.Experiment(cell="elman").key in before


# ---- draws


def test_a_seed_is_the_same_network_whatever_was_drawn_before() -> None:
    first = rc.prepare(elman(seed=1)).params
    torch.rand(7)
    torch.manual_seed(99)
    again, other = rc.prepare(elman(seed=1)).params, rc.prepare(elman(seed=2)).params
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weight_hh"], other["weight_hh"])
    assert torch.get_default_dtype() == torch.float32


def test_both_dtypes_have_the_same_network() -> None:
    wide, narrow = (rc.prepare(elman(dtype=dtype)).params["weight_hh"] for dtype in ("float64", "float32"))
    assert torch.equal(wide.float(), narrow)


def test_inputs_and_readout_are_those_of_every_cell() -> None:
    ours = rc.prepare(rc.Experiment(**SMALL))
    x, target = rc.prepare(elman()).batch(3)
    assert np.array_equal(x.numpy(), ours.batch(3)[0]) and np.array_equal(target.numpy(), ours.batch(3)[1])
    assert np.array_equal(rc.prepare(elman()).params["weight_ho"].numpy(), ours.params["weight_ho"])


# ---- runs


@pytest.mark.parametrize("settings", [
    {},
    {"loss_at": "every"},
    {"task": "input_mean", "updates": 4, "optimizer": "adam", "clipping": "norm:0.01"},
    {"task": "input_mean", "updates": 3, "optimizer": "momentum", "clipping": "value:0.001", "truncation": 5},
    {"task": "input_mean", "updates": 3, "clipping": "adaptive:0.01"},
    {"task": "input_mean", "updates": 3, "clipping": "signal:0.0001"},
])  # fmt: skip
def test_a_vanilla_cell_as_a_module_is_our_vanilla_cell(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readout, tasks, losses, clipping, truncation and training are the same code, to rounding."""
    own = elman(**settings)
    drawn = rc.prepare(own).params
    ours = rc.Experiment(**{**SMALL, **settings})
    monkeypatch.setattr(
        rc.VanillaCell,
        "init_params",
        lambda *_, **__: {name: drawn[name].numpy() for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")},
    )
    reference = rc.prepare(ours).params
    assert set(reference) == set(drawn)
    build = OWN_CELLS["elman"].build

    def all_trained(*args: Any, **options: Any) -> Any:  # ours trains both biases
        made = build(*args, **options)
        made.bias_hh.requires_grad_()
        return made

    register(replace(OWN_CELLS["elman"], build=all_trained))
    found, expected = rc.run(own), rc.run(ours)
    for table in ("traces", "updates"):
        for name, values in getattr(expected, table).items():
            if name not in ("saturation",):
                np.testing.assert_allclose(getattr(found, table)[name], values, rtol=1e-9, atol=1e-13, err_msg=name)
    for name in ("growth_rate", "regime", "held_out_loss", "solved", "baseline_loss"):
        value, reference_value = found.summary[name], expected.summary[name]
        assert value == reference_value or value == pytest.approx(reference_value, rel=1e-9, nan_ok=True), name


def test_what_is_not_known_of_a_module_is_null() -> None:
    summary = rc.run(elman()).summary
    unknown = (
        "measured_spectral_radius",
        "sigma_max",
        "sigma_w",
        "linear_rate",
        "bound_rate",
        "mean_field_rate",
        "operating_rate",
        "predicted_rate",
        "deviation",
    )
    assert all(math.isnan(summary[name]) for name in unknown)
    assert summary["predicted_by"] is None and summary["bistable"] is None
    assert math.isfinite(summary["growth_rate"])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_law_at_rest_of_a_module_is_that_of_the_cell_it_is(dtype: str) -> None:
    """A user's own cell had no theory beside it, although its step tells its law at rest."""
    summary = rc.run(elman(dtype=dtype)).summary
    W = rc.prepare(elman(dtype=dtype)).params["weight_hh"].double().numpy()
    law = math.log(np.abs(np.linalg.eigvals(W)).max())
    assert summary["rest_rate"] == pytest.approx(law, rel=1e-10 if dtype == "float64" else 1e-5)
    lru = rc.run(rc.Experiment(cell="torch_lru", **SMALL)).summary
    assert lru["rest_rate"] == pytest.approx(lru["growth_rate"], abs=0.1)  # it is linear
    assert math.isnan(rc.run(rc.Experiment(cell="torch_slstm", **SMALL)).summary["rest_rate"])  # rest is no fixed point


def test_a_frozen_parameter_stays() -> None:
    before = rc.prepare(elman()).params["bias_hh"]
    problems = []
    rc.run(
        elman(task="input_mean", updates=3, trace_every=1), watch=lambda problem, params, *_: problems.append(params)
    )
    assert all(torch.equal(params["bias_hh"], before) for params in problems)
    assert not torch.equal(problems[0]["weight_hh"], problems[-1]["weight_hh"])


@pytest.mark.parametrize("cell", ["mamba", "torch_slstm", "torch_lru"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_the_three_cells_agree_with_unrolled_autograd(cell: str, dtype: str, loss_at: str) -> None:
    experiment = rc.Experiment(cell=cell, dtype=dtype, loss_at=loss_at, hidden_size=5, batch_size=3, sequence_length=70)
    problem = rc.prepare(experiment)
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    error = autograd.check(problem, problem.params, x, target, evaluation)
    assert error.relative < {"float64": 1e-10, "float32": 1e-3}[dtype], error


def test_a_lru_is_exact_far_below_the_range_of_floats() -> None:
    """‖∂L/∂s_t‖² = Σ_j |λ_j|^{2 lag} ‖g_j‖²: autograd has zeros from 10^-308 on."""
    register(OwnCell("torch_lru", LRU, {None: {"r_min": 0.3, "r_max": 0.5}}))
    experiment = rc.Experiment(cell="torch_lru", hidden_size=3, batch_size=2, sequence_length=3000)
    problem = rc.prepare(experiment)
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    given = evaluation.grad_hidden(2999, 3000)[0].numpy()  # (B, H, 2)
    log_modulus = -np.exp(problem.params["nu"].numpy())
    lag = np.arange(2999, -1, -1)[:, None, None]
    logs = 2 * lag * log_modulus + np.log((given**2).sum(axis=2))
    expected = 0.5 * np.logaddexp.reduce(logs.reshape(3000, -1), axis=1)
    np.testing.assert_allclose(evaluation.gradients.log_norm, expected, rtol=1e-12)
    assert expected[0] < -2000


def test_the_unrolled_oracle_sees_a_wrong_gradient() -> None:
    """The oracle that verifies runs of a user's cell must not believe the engine."""
    problem = rc.prepare(rc.Experiment(cell="torch_slstm", hidden_size=4, batch_size=2, sequence_length=40))
    x, target = problem.batch(0)
    sound = rc.evaluate(problem, problem.params, x, target)
    wrong = {**sound.gradients.params}
    wrong["recurrent"] = wrong["recurrent"] * (1 + 1e-6)
    bad = replace(sound, gradients=replace(sound.gradients, params=wrong))
    error = autograd.check(problem, problem.params, x, target, bad)
    assert error.relative == pytest.approx(1e-6, rel=1e-2) and error.where == "recurrent"


def test_shorter_sequences_share_the_tape_of_the_longest() -> None:
    """``run_many`` must give the rows of ``run``."""
    runs = [elman(sequence_length=T, clipping=c) for T in (5, 12) for c in ("none", "norm:0.001")]
    for experiment, result in rc.run_many(runs):
        alone = rc.run(experiment)
        for name, values in alone.traces.items():
            np.testing.assert_array_equal(result.traces[name], values, err_msg=name)


def test_a_name_of_the_readouts_is_refused() -> None:
    class Taken(Elman):
        def __init__(self, input_size: int, hidden_size: int) -> None:
            super().__init__(input_size, hidden_size)
            self.weight_ho = nn.Parameter(torch.zeros(1))

    register(OwnCell("taken", Taken))
    with pytest.raises(ValueError, match="'weight_ho', which is the readout's name"):
        rc.prepare(rc.Experiment(cell="taken"))


def test_which_step_writes_the_parameters_of_a_module() -> None:
    """Σ cos_t ‖G_t‖ = ‖G‖, of all parameters that are trained, side by side."""
    result = rc.run(elman(), traces=["weight_gradient", "entry_quantiles"])
    parts = 10.0 ** result["log10_weight_grad_norm"] * np.nan_to_num(result["weight_grad_cosine"])
    problem = rc.prepare(elman())
    gradients = rc.evaluate(problem, problem.params, *problem.batch(0)).gradients
    squares = sum(float((np.asarray(value) ** 2).sum()) for value in gradients.params.values())
    assert parts.sum() == pytest.approx(math.sqrt(squares), rel=1e-10)
    assert 1 <= result["weight_grad_steps"] <= len(parts)
    assert np.isfinite(result["log2_entry_median"]).all()


class OneNumber(nn.Module):
    """A state of one number a sample, one of a matrix, and a parameter that is a number."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight, self.decay = nn.Parameter(torch.randn(input_size)), nn.Parameter(torch.tensor(0.5))

    def initial_state(self, batch_size: int) -> dict[str, Any]:
        return {"sum": self.weight.new_zeros(batch_size), "memory": self.weight.new_zeros(batch_size, 2, 3)}

    def forward(self, x: Any, state: dict[str, Any]) -> dict[str, Any]:
        h = torch.tanh(x @ self.weight + self.decay * state["sum"] + state["memory"].sum(dim=(1, 2)))
        return {"sum": h, "memory": self.decay * state["memory"] + h[:, None, None]}


@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_states_and_parameters_of_any_shape(loss_at: str) -> None:
    """A part of a state without units, or a parameter without axes, is not the usual case."""
    register(OwnCell("one_number", OneNumber))
    experiment = rc.Experiment(cell="one_number", task="input_mean", loss_at=loss_at, updates=2, **SMALL)
    problem = rc.prepare(experiment)
    assert problem.params["weight_ho"].shape == (1, 1)
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    assert autograd.check(problem, problem.params, x, target, evaluation).relative < 1e-12
    assert rc.check_derivatives(problem.cell, x).relative < 1e-6
    assert np.isfinite(rc.run(experiment).updates["loss"]).all()


class OutputFirst(nn.Module):
    """m_t = r m_{t-1} + W x_t, and y_t = Q m_t with an orthogonal Q. The state is (y, m): y acts on no later step.

    ``inside``: whether y_t comes from the very tensor m_t that is returned, or from one beside it.
    """

    rate = 0.9

    def __init__(self, input_size: int, hidden_size: int, inside: bool = True) -> None:
        super().__init__()
        self.inside, self.read = inside, nn.Linear(input_size, hidden_size)
        self.register_buffer("Q", torch.linalg.qr(torch.randn(hidden_size, hidden_size))[0])

    def initial_state(self, batch_size: int) -> dict[str, Any]:
        zero = self.Q.new_zeros(batch_size, len(self.Q))
        return {"y": zero, "m": zero}

    def forward(self, x: Any, state: dict[str, Any]) -> dict[str, Any]:
        m = self.rate * state["m"] + self.read(x)
        return {"y": m @ self.Q.T, "m": m if self.inside else m.clone()}


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("inside", [True, False])
def test_an_output_in_front_does_not_hide_the_gradient_of_the_memory(inside: bool, loss_at: str) -> None:
    """dL/dy_t is exactly zero before the last step, and the study said so of the whole network: every gradient is exactly zero.

    dL/dm_t = r^(T-t) Q^T dL/dy_T, so the rate is ln r. What the last step's loss sends to y_T and, through it, to m_T is √2 times ‖dL/dy_T‖.
    """
    register(OwnCell("output_first", OutputFirst, {f"inside={inside}": {"inside": inside}}))
    task = "white_noise" if loss_at == "last" else "input_mean"
    settings = {"hidden_size": 4, "batch_size": 3, "sequence_length": 60}
    experiment = rc.Experiment(cell=f"output_first:inside={inside}", task=task, loss_at=loss_at, **settings)
    result = rc.run(experiment, traces=["entry_quantiles"])
    ln_r, per_decade = math.log(OutputFirst.rate), math.log(10.0)
    assert result["growth_rate"] == pytest.approx(ln_r, rel=1e-10) and result["dead_samples"] == 0.0
    at_end = 0.5 * math.log(2.0) if inside else 0.0
    assert result["log10_gradient_ratio"] * per_decade == pytest.approx(59 * ln_r - at_end, rel=1e-10)
    if loss_at == "every":
        return
    norms = np.ravel(result["log10_grad_norm"]) * per_decade
    np.testing.assert_allclose(np.diff(norms)[:-1], -ln_r, rtol=1e-9)
    assert np.isfinite(result["log2_entry_median"]).all() and result["regime"] == "vanishing"
    assert result["float32_flushed_at"] is None
    problem = rc.prepare(experiment)
    x, _ = problem.batch(0)
    direct = {"y": torch.ones(3, 4, dtype=torch.float64)}
    whole, tight = (
        rc.backward(rc.forward(problem.cell, problem.params, x, None, budget), None, direct).going_back
        for budget in (None, 0)
    )
    np.testing.assert_array_equal(whole.log_norm, tight.log_norm)
    np.testing.assert_array_equal(whole.log_norm_samples, tight.log_norm_samples)
    np.testing.assert_array_equal(whole.entry_quantiles.log2, tight.entry_quantiles.log2)
    assert all(np.array_equal(whole.lost[name], tight.lost[name]) for name in whole.lost)


def test_an_output_in_front_has_spectra_within_their_bounds() -> None:
    """The ratio of norms was that of the output: -∞ at every lag."""
    register(OwnCell("output_first", OutputFirst))
    experiment = rc.Experiment(cell="output_first", task="white_noise", loss_at="last", **SMALL)
    rows = measure_spectra(experiment, Request(2, (1, 5, 10))).table
    ratio, first = rows["log10_gradient_ratio"], rows["log10_singular_value"]
    own = rows["i"] == 1
    assert np.isfinite(ratio[own & np.isfinite(rows["lag"])]).all()
    assert (ratio[own] <= first[own] + 1e-12)[np.isfinite(rows["lag"][own])].all()


class HalfFrozen(Elman):
    """With a bias that is not trained, and not zero."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.bias_hh.data.fill_(0.25)


@pytest.mark.parametrize("optimizer", list(rc.OPTIMIZERS))
def test_weight_decay_leaves_what_a_module_does_not_train(optimizer: str) -> None:
    """torch's optimisers are given parameters that train; a frozen one must not shrink."""
    register(OwnCell("half_frozen", HalfFrozen, digest="d3", source="half_frozen.py"))
    experiment = rc.Experiment(
        cell="half_frozen", task="input_mean", updates=3, trace_every=1, optimizer=optimizer, weight_decay=0.5, learning_rate=0.1, **SMALL
    )  # fmt: skip
    seen: list[Any] = []
    rc.run(experiment, watch=lambda problem, params, *_: seen.append((problem.frozen, dict(params))))
    assert len(seen) == 3
    for frozen, params in seen:
        assert frozen == ("bias_hh",)
        assert (params["bias_hh"] == 0.25).all()
    assert (seen[-1][1]["weight_hh"] != seen[0][1]["weight_hh"]).any()
