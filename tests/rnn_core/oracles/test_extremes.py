"""At the ends of what a study may ask for, the engine check must not call a right engine wrong, and must see a wrong one.

Each of these networks was accused once, by this check or on the way to it. The reference is torch's, in float64, from the very numbers that the engine has: so of a float32
network it is a result of higher precision, and the engine is right to the digits that its precision has.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.oracles import autograd, rounding
from rnn_core.oracles.compare import Abstains, Error, log_distance
from rnn_core.oracles.problems import named_in, with_biases
from rnn_core.oracles.rounding import Precision
from rnn_core.scaling import Scaled, exponents_of, log_norm, mantissa_and_exponents, times

TOLERANCE = {"float64": 1e-10, "float32": 1e-3}  # of the gate
Settings = dict[str, Any]


def extreme(cell: str, activation: str, seed: int, biases: bool = False, **settings: Any) -> Settings:
    """Settings of one unit, one sample and one input, in float32, unless they say something else."""
    usual: Settings = {"hidden_size": 1, "batch_size": 1, "input_size": 1, "dtype": "float32", "loss_at": "last"}
    return {**usual, "cell": cell, "activation": activation, "seed": seed, "biases": biases, **settings}


ACCUSED: dict[str, Settings] = {
    # What phi leaves of a state is no normal number: torch has 0 in float32, or other digits.
    "a state of a GRU underflows": extreme("gru", "silu", 502, sequence_length=40, input_scale=1e3, spectral_radius=1e-6, loss_at="every"),
    "a candidate of a GRU underflows": extreme("gru", "leaky_relu", 233, True, sequence_length=1, input_size=2, input_scale=100.0, spectral_radius=0.1),
    "a state of an LRU underflows": extreme("lru", "gelu", 778, sequence_length=5, input_size=2, input_scale=10.0, spectral_radius=1e-6),
    "a readout of it underflows": extreme("lru", "gelu", 111, True, hidden_size=8, sequence_length=40, input_size=3, input_scale=1e3, spectral_radius=3.0),
    "a state of an sLSTM underflows": extreme("slstm", "relu", 452, sequence_length=2, input_size=3, input_scale=1e3, spectral_radius=0.1, loss_at="every", task="input_mean", dtype="float64"),
    "states of a long saturated LRU": extreme("lru", "sigmoid", 483, True, hidden_size=3, sequence_length=40, input_size=None, task="temporal_order", loss_at=None, input_scale=1e3, spectral_radius=1e-6),
    # A preactivation, or c_t, underflows beside a kink, and programs are on two sides of it.
    "a preactivation underflows at a kink": extreme("residual", "relu", 697, hidden_size=3, layers=2, sequence_length=2, input_size=2, input_scale=1e-30, spectral_radius=0.1, loss_at="every", residual_leak=1.0, residual_step=0.05, task="input_mean"),
    "c_t underflows at a kink": extreme("lstm", "relu", 22, hidden_size=3, sequence_length=5, input_size=2, input_scale=1e3, spectral_radius=3.0),
    # What cancels by the form of the cell: two directions of layer normalisation.
    "layer norm of two units": extreme("layer_norm", "softplus", 444, hidden_size=2, sequence_length=40, input_size=3, spectral_radius=0.1),
    "layer norm of two units, far out": extreme("layer_norm", "leaky_relu", 727, hidden_size=2, batch_size=2, sequence_length=40, input_scale=1e3, spectral_radius=0.1, loss_at="every", layer_norm_leak=0.5),
    "layer norm of two units in float64": extreme("layer_norm", "tanh", 3, hidden_size=2, sequence_length=5, input_scale=1e3, spectral_radius=1.0, dtype="float64"),
    "layer norm of one unit": extreme("layer_norm", "silu", 720, True, sequence_length=40, input_size=3, input_scale=1e3, spectral_radius=1e-6, dtype="float64", loss_at="every", layer_norm_leak=0.5),
    "layer norm of what one input says": extreme("layer_norm", "gelu", 29, hidden_size=8, layers=2, sequence_length=40, input_scale=1e3, spectral_radius=0.1, loss_at="every"),
    # A signal is wider than the numbers that are returned of it.
    "a signal of many decades": extreme("slstm", "relu", 535, True, hidden_size=8, batch_size=2, sequence_length=40, input_size=3, input_scale=1e3, spectral_radius=1e-6),
    "another one": extreme("slstm", "selu", 336, True, hidden_size=2, sequence_length=40, input_scale=1e3, spectral_radius=1e-6),
    "steps without a signal beside vanished ones": extreme("gru_reset_before", "hard_tanh", 366, layers=2, sequence_length=40, input_scale=1e3, spectral_radius=0.1, dtype="float64"),
    # A loss or an output that underflows.
    "outputs of an exploding network": extreme("vanilla", "identity", 948, hidden_size=3, sequence_length=40, input_size=3, input_scale=10.0, spectral_radius=3.0),
    "a gradient of the readout underflows": extreme("indrnn", "identity", 667, layers=2, batch_size=2, sequence_length=2, input_size=2, input_scale=1e-30, spectral_radius=0.1, loss_at="every", task="input_mean"),
}  # fmt: skip
every_extreme = pytest.mark.parametrize("settings", ACCUSED.values(), ids=list(ACCUSED))


def evaluated(settings: Settings) -> tuple[rc.Problem, Any, Any, rc.Evaluation]:
    own = {name: value for name, value in settings.items() if name != "biases" and value is not None}
    problem = rc.prepare(rc.Experiment(**own))
    problem = with_biases(problem) if settings["biases"] else problem
    x, target = problem.batch(0)
    with np.errstate(over="ignore", invalid="ignore"):
        return problem, x, target, rc.evaluate(problem, problem.params, x, target)


def error_of(problem: rc.Problem, x: Any, target: Any, evaluation: rc.Evaluation) -> Error:
    return autograd.check(problem, problem.params, x, target, evaluation)


@every_extreme
def test_a_right_engine_is_not_accused(settings: Settings) -> None:
    found = error_of(*evaluated(settings))
    assert found.relative < 0.5 * TOLERANCE[settings["dtype"]], found


def edited(part: Any, t: int) -> Scaled:
    """One step of an array times 1.01."""
    mantissa, exponent = (np.array(each) for each in mantissa_and_exponents(part))
    mantissa[t] *= 1.01
    return Scaled(mantissa, exponent)


def size_of(part: Any) -> np.ndarray:
    """The exponent of the largest entry of every step; nan where all are zero."""
    mantissa, exponent = mantissa_and_exponents(part)
    return exponents_of(mantissa) + exponent


@pytest.mark.parametrize("name", list(ACCUSED))
def test_a_wrong_one_is(name: str) -> None:
    """One per cent, in the largest dL/dh and dL/dx of the last layer and in the parameters' gradients.

    Of these only such as are not below what a float32 derivative holds, beside the signal. And where all preactivations underflow at a kink,
    only dL/dh_T is known.
    """
    settings = ACCUSED[name]
    problem, x, target, evaluation = evaluated(settings)
    gradients = evaluation.gradients
    signal = np.nanmax(size_of(gradients.hidden))
    decided = name != "a preactivation underflows at a kink"
    for field in ("hidden", "x"):
        part = getattr(gradients, field)
        sizes = size_of(part)
        if field == "hidden" or (decided and np.nanmax(sizes, initial=-(10**6)) > signal - 80):
            wrong = replace(gradients, **{field: edited(part, int(np.nanargmax(sizes)))})
            assert error_of(problem, x, target, replace(evaluation, gradients=wrong)).relative > 2e-3, field
    for parameter, grad in gradients.params.items():
        if decided and log_norm(grad) > (signal - 80) * np.log(2.0):
            off, used = times(grad, 1.01), named_in(parameter, problem.layers - 1)
            wrong = replace(gradients, params={**gradients.params, parameter: off})
            changed = replace(evaluation, gradients=wrong, param_grads={**evaluation.param_grads, used: off})
            assert error_of(problem, x, target, changed).relative > 2e-3, parameter


# ---- what is compared --------------------------------------------------------------------------------------------------


def judged(ours: float, reference: float, moves: float, floor: int = -1070, eps: float = 2.0**-52) -> float:
    """One number; ``moves`` is what every change of the last digits does to it."""

    def compute(source: rounding.Source) -> dict[str, Scaled]:
        return {"a": Scaled(np.array([[reference + (moves if source else 0.0)]]), np.array([0]))}

    return float(
        rounding.judged(compute, lambda name: Scaled(np.array([[ours]]), np.array([0])), eps, lambda: {"a": floor})[
            "a"
        ][0]
    )


def test_what_is_allowed_is_what_rounding_does() -> None:
    assert judged(1.0 + 7e-6, 1.0, 1e-6) == 0.0
    assert judged(1.0 + 18e-6, 1.0, 1e-6) == pytest.approx(1e-5, rel=1e-6)
    assert judged(1.0 + 1e-14, 1.0, 0.0) == pytest.approx(1e-14, rel=0.1)  # too small to be suspect: as it is
    assert judged(1.01, 1.0, 0.0) == pytest.approx(0.01)


def test_a_floor_is_no_more_than_it_says() -> None:
    assert judged(2.0**-101, 0.0, 0.0, floor=-100) == 0.0
    assert judged(2.0**-99, 0.0, 0.0, floor=-100) == np.inf
    assert judged(2.0**-99, 2.0**-98, 0.0, floor=-100) == pytest.approx(0.25)


def test_what_is_not_finite_agrees_with_nothing() -> None:
    for ours, reference in ((np.nan, 1.0), (np.inf, 1.0), (1.0, np.nan), (np.inf, np.inf), (np.nan, np.nan)):
        assert judged(ours, reference, 0.0, floor=1000) == np.inf
    assert judged(1.5, 1.0, np.inf) == pytest.approx(0.5)  # a change that leaves the range of floats allows nothing


def test_a_number_beside_a_kink_is_pushed_over_it() -> None:
    """Half of the changes do nothing: with four of them one right engine in sixteen was accused."""
    seen: list[int] = []

    def compute(source: rounding.Source) -> dict[str, Scaled]:
        seen.append(0 if source is None else 1)
        over = source is not None and len(seen) > 9
        return {"a": Scaled(np.array([[1.0 if over else 0.0, 1.0]]), np.array([0]))}

    ours = Scaled(np.array([[1.0, 1.0]]), np.array([0]))
    found = rounding.judged(compute, lambda name: ours, 2.0**-52, dict)
    assert found["a"][0] == 0.0 and len(seen) == 10


def test_a_distance_is_right_at_any_exponent() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 3, 4))
    expected = np.log(np.linalg.norm(a - b, axis=1))
    for e in (0, 5000, -5000):
        np.testing.assert_allclose(log_distance(Scaled(a, e), Scaled(b, e)), expected + e * np.log(2.0), rtol=1e-13)
    far = log_distance(Scaled(a, 3000), Scaled(b, -3000))
    np.testing.assert_allclose(far, np.log(np.linalg.norm(a, axis=1)) + 3000 * np.log(2.0), rtol=1e-13)
    assert log_distance(a, a).tolist() == [-np.inf] * 3
    tiny = np.full((1, 2), 1e-300)
    np.testing.assert_allclose(log_distance(tiny, -tiny), np.log(2e-300) + 0.5 * np.log(2.0), rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_move_by_the_last_digit_of_their_own_precision(dtype: torch.dtype) -> None:
    x = torch.linspace(-3.0, 3.0, 1000, dtype=dtype)
    precision = Precision.of(x)
    change = (precision.moved(x, rounding.noise(0)) / x.double() - 1.0).abs()
    assert 1.5 * precision.eps < float(change.max()) < 3.0 * precision.eps
    assert torch.equal(precision.moved(x, None), x.double())
    nothing = precision.rounded(torch.zeros(100, dtype=torch.float64), rounding.noise(0))
    assert set(nothing.tolist()) == {0.0, precision.tiny, -precision.tiny}


# ---- losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("margin", [60.0, 95.0, 110.0, 720.0, 760.0])
def test_a_sure_and_right_answer_is_not_an_error(dtype: str, margin: float) -> None:
    """Its loss and dL/dy are e^-margin, which floats do not hold beyond 103 or 745; a wrong one is still wrong."""
    problem = rc.prepare(
        rc.Experiment(task="temporal_order", hidden_size=2, sequence_length=12, batch_size=1, dtype=dtype)
    )
    x, target = problem.batch(0)
    bias = np.zeros_like(problem.params["bias_ho"])
    bias[int(target[0])] = margin
    sure = replace(problem, params={**problem.params, "bias_ho": bias})
    found = rc.evaluate(sure, sure.params, x, target)
    assert error_of(sure, x, target, found).relative < 0.1 * TOLERANCE[dtype]
    unsure = rc.evaluate(problem, problem.params, x, target)
    assert error_of(problem, x, target, replace(unsure, loss=unsure.loss * 1.01)).relative > 5e-3
    assert error_of(problem, x, target, replace(unsure, grad_output=unsure.grad_output * 1.01)).relative > 5e-3


def test_only_what_is_well_in_range_is_missed() -> None:
    """Where a loss is within a few powers of two of the largest float, the order of a sum decides whether it is finite."""
    problem = rc.prepare(rc.Experiment(hidden_size=2, sequence_length=2, batch_size=2, input_size=1, dtype="float32"))
    x, target = problem.batch(0)
    found = replace(rc.evaluate(problem, problem.params, x, target), loss=float("inf"))
    assert error_of(problem, x, target, found) == Error(np.inf, "a result that is finite in PyTorch alone")
    with pytest.raises(Abstains, match="not finite, on both sides"):
        error_of(problem, x, target * 1.5e19, found)
