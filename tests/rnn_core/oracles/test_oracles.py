"""The comparator and the oracles: what they accept, what they refuse, and that the engine passes them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.arrays import Array, Params, State, to_numpy
from rnn_core.oracles import autograd, torch_modules
from rnn_core.oracles.activations import ACTIVATIONS
from rnn_core.oracles.compare import Abstains, Error, relative_error, worst, worst_step
from rnn_core.oracles.problems import params_of, with_biases
from rnn_core.oracles.tensors import mean_loss
from tests.support.arrays import LIBRARIES, array
from tests.support.networks import zero_input_problem

EXACT = 1e-12


def problem_of(**changes: object) -> rc.Problem:
    defaults: dict[str, object] = {"hidden_size": 12, "sequence_length": 30, "batch_size": 3}
    return rc.prepare(rc.Experiment(**(defaults | changes)))  # type: ignore[arg-type]


def check(problem: rc.Problem) -> Error:
    """The autograd oracle's verdict on the first batch."""
    x, target = problem.batch(0)
    return autograd.check(problem, problem.params, x, target, rc.evaluate(problem, problem.params, x, target))


# ---- the comparator ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
def test_relative_error_is_relative(library: str) -> None:
    """An absolute tolerance has crept in: the error must not change when both sides are scaled, down to 1e-300 and beyond."""
    a, b = np.array([3.0, 4.5]), np.array([3.0, 4.0])
    for power in (0, -1000, 1000, 40, -40):
        factor = 2.0**power
        assert relative_error(array(a * factor, library), array(b * factor, library)) == 0.1
    for exponent in (-100_000, 100_000):
        ours, reference = rc.Scaled(array(a, library), exponent), rc.Scaled(array(b, library), exponent)
        assert relative_error(ours, reference) == 0.1
        assert relative_error(rc.Scaled(array(2 * a, library), exponent - 1), reference) == 0.1


def test_relative_error_across_forms() -> None:
    """A plain and a scaled array of the same value differ, or very different ones agree."""
    assert relative_error(np.array([8.0]), rc.Scaled(np.array([1.0]), 3)) == 0.0
    assert relative_error(rc.Scaled(np.array([1.0]), 5000), np.array([1.0])) == math.inf
    assert relative_error(rc.Scaled(np.array([1.0]), -5000), np.array([1.0])) == 1.0
    assert relative_error(np.array([1.0]), rc.Scaled(np.array([1.0]), 5000)) == 1.0


def test_zero_is_zero_and_nothing_else() -> None:
    """A gradient that should be exactly zero passes with something small in it, or one that is lost passes for zero."""
    assert relative_error(np.zeros(3), np.zeros(3)) == 0.0
    assert relative_error(np.array([5e-324, 0.0, 0.0]), np.zeros(3)) == math.inf
    assert relative_error(np.zeros(3), np.array([5e-324, 0.0, 0.0])) == 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_agrees_with_nothing(bad: float) -> None:
    """nan compares false with every limit, and so would pass."""
    for ours, reference in (([bad, 1.0], [1.0, 1.0]), ([1.0, 1.0], [bad, 1.0]), ([bad, 1.0], [bad, 1.0])):
        assert relative_error(np.array(ours), np.array(reference)) == math.inf


def test_shapes_must_agree() -> None:
    """A missing axis is broadcast, and a sum passes for its terms."""
    with pytest.raises(ValueError, match="cannot be compared"):
        relative_error(np.ones(3), np.ones((1, 3)))
    with pytest.raises(ValueError, match="hidden: shapes"):
        worst_step("hidden", np.ones((2, 3)), np.ones((3, 3)))
    with pytest.raises(TypeError, match="worst_step"):
        relative_error(rc.Scaled(np.ones((2, 1)), np.zeros(2, dtype=np.int64)), np.ones((2, 1)))


@pytest.mark.parametrize("library", LIBRARIES)
def test_all_steps_at_once_are_compared_as_one_by_one(library: str) -> None:
    """What is fast compares at another scale, or passes what is not finite, or divides by a step that is zero."""
    rng = np.random.default_rng(0)
    for case in range(200):
        a = rng.standard_normal((1, 3)) * 10.0 ** rng.integers(-320, 305)
        b = a * (1 + 10.0 ** rng.integers(-16, 3) * rng.standard_normal((1, 3)))
        for x in (a, b):
            x[0, rng.integers(3)] = rng.choice([0.0, 1.0, np.nan, np.inf, -np.inf], p=[0.2, 0.65, 0.05, 0.05, 0.05])
        if case % 10 == 0:
            b[:] = 0.0
        if case % 20 == 0:
            a[:] = 0.0
        with np.errstate(all="ignore"):
            expected = relative_error(array(a[0], library), array(b[0], library))
            scaled = relative_error(rc.Scaled(a[0], 3000), rc.Scaled(b[0], 2990))
        np.testing.assert_allclose(worst_step("x", array(a, library), array(b, library)).relative, expected, rtol=1e-12)
        found = worst_step("x", rc.Scaled(a, np.array([3000])), rc.Scaled(b, np.array([2990]))).relative
        np.testing.assert_allclose(found, scaled, rtol=1e-12)


def test_worst_step_looks_at_every_step() -> None:
    """One wrong step hides behind the others: at t = 1 the gradient has vanished, and all of its digits are wrong."""
    reference = np.array([[1e-20], [1e-10], [1.0]])
    ours = reference.copy()
    ours[0] *= 4.0
    assert np.allclose(ours, reference)
    assert worst_step("hidden", ours, reference) == Error(3.0, "hidden, t = 1")
    scaled = rc.Scaled(np.array([[4.0], [1.0], [1.0]]), np.array([-5000, -2500, 0], dtype=np.int64))
    true = rc.Scaled(np.array([[1.0], [1.0], [1.0]]), np.array([-5000, -2500, 0], dtype=np.int64))
    assert worst_step("hidden", scaled, true) == Error(3.0, "hidden, t = 1")


def test_worst_of_several() -> None:
    """Another error than the largest is reported."""
    assert worst([Error(0.1, "a"), Error(math.inf, "b"), Error(0.2, "c")]).where == "b"


# ---- promise 2 ---------------------------------------------------------------------------------------------------------


class Transposed(rc.VanillaCell):
    """W for W^T in the backward pass: the slip that shapes do not betray."""

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        da = self.phi.df(saved) * dstate["hidden"]
        return da, da, {"hidden": params["weight_hh"] @ da}


def test_a_vanished_wrong_gradient_passes_the_usual_rules_and_not_ours() -> None:
    """W for W^T at rho = 0.5, T = 50: np.allclose and torch.allclose see nothing; the relative error is above 250 %."""
    right = problem_of(activation="identity", spectral_radius=0.5, sequence_length=50, hidden_size=32, seed=3)
    wrong = replace(right, cell=Transposed("identity"))
    x, target = right.batch(0)
    good, bad = (rc.evaluate(p, p.params, x, target) for p in (right, wrong))
    reference, ours = (np.asarray(e.gradients.hidden[0]) for e in (good, bad))
    assert 1e-17 < np.linalg.norm(reference) < 1e-15
    assert np.allclose(ours, reference, rtol=1e-5, atol=1e-5)
    assert np.allclose(ours, reference)  # NumPy's defaults: rtol 1e-5, atol 1e-8
    assert torch.allclose(torch.tensor(ours), torch.tensor(reference))  # torch's: the same
    np.testing.assert_allclose(ours, reference, rtol=1e-5, atol=1e-8)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(reference), rtol=1e-5, atol=1e-8)
    assert relative_error(ours, reference) > 2.5
    assert worst_step("hidden", bad.gradients.hidden, good.gradients.hidden).relative > 2.5
    assert check(wrong).relative > 1.5  # of the worst single step; above it is that of fifty
    assert check(right).relative < EXACT


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("activation", ["identity", "tanh"])
def test_it_is_refused_whatever_the_seed(activation: str, seed: int) -> None:
    """The rejection above is luck."""
    right = problem_of(activation=activation, spectral_radius=0.5, sequence_length=50, hidden_size=32, seed=seed)
    assert check(replace(right, cell=Transposed(activation))).relative > 0.5


# ---- the engine passes -------------------------------------------------------------------------------------------------


def test_the_oracle_has_every_loss() -> None:
    """A loss was registered that the gate cannot check."""
    for loss in rc.LOSSES:
        target = torch.tensor([1]) if loss == "softmax_cross_entropy" else torch.zeros(1, 2, dtype=torch.float64)
        assert mean_loss(loss, torch.zeros(1, 2, dtype=torch.float64), target) >= 0.0


@pytest.mark.parametrize("loss_at", ["last", "every"])
@pytest.mark.parametrize("rho", [0.5, 1.0, 1.6])
@pytest.mark.parametrize("activation", list(rc.ACTIVATIONS))
@pytest.mark.parametrize("cell", list(rc.CELLS))
def test_the_engine_agrees_with_autograd(cell: str, activation: str, rho: float, loss_at: str) -> None:
    """The engine and torch differ at some step, however small the gradient is there."""
    radius = {"spectral_radius": rho} if rc.CELLS[cell].has_matrix else {"input_scale": rho}
    problem = with_biases(problem_of(cell=cell, activation=activation, loss_at=loss_at, **radius))
    error = check(problem)
    assert error.relative < EXACT, error


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softsign"])
def test_the_engine_agrees_with_autograd_beyond_range(activation: str) -> None:
    """Beyond the range of float64 torch's own pass gives 0; step by step both must still agree."""
    problem = with_biases(problem_of(activation=activation, spectral_radius=0.2, sequence_length=600, batch_size=2))
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    assert evaluation.gradients.log_norm[0] < -1074 * math.log(2.0)
    assert isinstance(evaluation.gradients.hidden, rc.Scaled)
    error = autograd.check(problem, problem.params, x, target, evaluation)
    assert error.relative < EXACT, error


def test_the_engine_agrees_with_autograd_where_gradients_explode_beyond_range() -> None:
    """The same above the range: a network at rest, whose states stay 0 while its gradients grow by 2 a step."""
    problem, x, target = zero_input_problem("tanh", 2.0, T=1100, initializer="gaussian")
    evaluation = rc.evaluate(problem, problem.params, x, target)
    assert evaluation.gradients.log_norm[0] > 1024 * math.log(2.0)
    error = autograd.check(problem, problem.params, x, target, evaluation)
    assert error.relative < EXACT, error


def test_saturated_units_are_no_exception() -> None:
    """torch's own tanh has derivative 0 at |a| = 19; the oracle's must not, or it would accuse a right engine (or share its fault)."""
    problem = problem_of(activation="tanh", spectral_radius=1.0, input_scale=8.0, hidden_size=6)
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    assert max(float(np.abs(a).max()) for a in evaluation.tape.saved) > 19.0
    assert check(problem).relative < EXACT
    a = torch.tensor([-40.0, -19.0, 19.0, 40.0], dtype=torch.float64, requires_grad=True)
    for name in ("tanh", "sigmoid"):
        (slope,) = torch.autograd.grad(ACTIVATIONS[name].tensor(a).sum(), a)
        np.testing.assert_allclose(slope.numpy(), rc.ACTIVATIONS[name].df(a.detach().numpy()), rtol=1e-14)


@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_classification_passes_too(loss_at: str) -> None:
    """Labels, accuracy or the softmax take another path."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (10, 8) if loss_at == "every" else 10)
    data = rc.Sequences(rng.standard_normal((10, 8, 2)), labels, np.arange(10) < 3, "softmax_cross_entropy", loss_at)
    experiment = rc.Experiment(task="labels", sequence_length=8, batch_size=5, hidden_size=6)
    assert check(with_biases(rc.prepare(experiment, data))).relative < EXACT


def test_a_float32_run_is_checked_at_its_own_precision() -> None:
    """The check of a float32 run breaks on its dtype, or is meaningless."""
    assert 1e-9 < check(problem_of(dtype="float32")).relative < 1e-5


def test_trained_parameters_can_be_checked() -> None:
    """The gate checks sampled runs with the parameters they have reached, not those they started from."""
    problem = problem_of(task="input_mean", learning_rate=0.1)
    params = problem.params
    for update in range(3):
        params = rc.SGD(0.1).step(params, rc.evaluate(problem, params, *problem.batch(update)).param_grads)
    x, target = problem.batch(3)
    assert autograd.check(problem, params, x, target, rc.evaluate(problem, params, x, target)).relative < EXACT
    other = rc.evaluate(problem, problem.params, x, target)
    assert autograd.check(problem, params, x, target, other).relative > 1e-3


@pytest.mark.parametrize(("cell", "activation"), list(torch_modules.KERNELS))
@pytest.mark.parametrize("seed", range(3))
def test_the_engine_agrees_with_torch_nn(cell: str, activation: str, seed: int) -> None:
    """The engine is not torch.nn.RNN, GRU or LSTM."""
    problem = with_biases(problem_of(cell=cell, activation=activation, seed=seed, sequence_length=12))
    grad_hidden = np.random.default_rng(seed).standard_normal((12, 3, 12))
    error = torch_modules.check(problem, problem.batch(0)[0], grad_hidden)
    assert error.relative < EXACT, error


def test_modules_cover_only_what_torch_has() -> None:
    """A cell or an activation that torch.nn does not have is held against another one."""
    pairs = [(cell, phi) for cell in rc.CELLS for phi in rc.ACTIVATIONS]
    covered = {(c, phi) for c, phi in pairs if torch_modules.module_of(problem_of(cell=c, activation=phi))}
    assert covered == {("vanilla", "tanh"), ("vanilla", "relu"), ("gru", "tanh"), ("lstm", "tanh")}


# ---- what is not finite ------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_broken_run_is_not_compared_but_confirmed() -> None:
    """States that overflow are called an error of the engine, or a sound network is called broken."""
    broken = problem_of(activation="relu", spectral_radius=8.0, sequence_length=400)
    with pytest.raises(Abstains, match="not finite, on both sides"):
        check(broken)
    sound = problem_of(activation="relu", spectral_radius=1.0)
    x, target = sound.batch(0)
    evaluation = rc.evaluate(sound, sound.params, x, target)
    alone = autograd.check(sound, sound.params, x, target, replace(evaluation, loss=math.nan))
    assert alone == Error(math.inf, "a result that is finite in PyTorch alone")


def test_two_losses_of_zero_agree() -> None:
    """A run that fits its targets exactly is called wrong."""
    problem, x, target = zero_input_problem("tanh", 0.9, T=4)
    zero = np.zeros_like(target)
    evaluation = rc.evaluate(problem, problem.params, x, zero)
    assert evaluation.loss == 0.0
    assert autograd.check(problem, problem.params, x, zero, evaluation).relative == 0.0


def test_torch_tensors_are_checked_like_numpy_arrays() -> None:
    """The check of a CUDA run, whose arrays are torch tensors, takes another path."""
    experiment = rc.Experiment(hidden_size=8, sequence_length=15, batch_size=3)
    on_torch, on_numpy = rc.prepare(experiment, device="cpu:0"), rc.prepare(experiment)
    assert isinstance(on_torch.params["weight_hh"], torch.Tensor)
    assert check(on_torch).relative < EXACT
    a, b = (rc.evaluate(p, p.params, *p.batch(0)) for p in (on_torch, on_numpy))
    np.testing.assert_allclose(to_numpy(a.gradients.hidden), b.gradients.hidden, rtol=1e-9)


@pytest.mark.parametrize("cell", ["vanilla", "layer_norm", "slstm"])
def test_of_equal_errors_every_process_names_the_same_parameter(cell: str) -> None:
    """The first is named. A set of names has another order in each process, and the table of checks was another one now and then."""
    problem = problem_of(cell=cell, layers=2)
    own = ["weight_ih", "weight_hh", "bias_ih", "bias_hh", *problem.cell.own_parameters]
    assert set(own) == {name for name in problem.params if not name.endswith(("_ho", "_l1"))}
    for layer in range(2):
        assert list(params_of(problem, problem.params, layer)) == own
