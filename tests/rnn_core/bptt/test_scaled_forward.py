"""States beyond floating-point range: positively homogeneous cells keep them exactly, others say where they broke."""

from __future__ import annotations

import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.oracles.compare import relative_error
from tests.support.arrays import LIBRARIES, array, exact

HOMOGENEOUS = [name for name, phi in rc.ACTIVATIONS.items() if phi.homogeneous]


def test_which_activations_are_homogeneous() -> None:
    """The flag decides which forward passes may be scaled."""
    assert HOMOGENEOUS == ["identity", "relu", "leaky_relu"]
    assert [c for c in rc.CELLS if rc.CELLS[c]("relu").homogeneous] == [
        "vanilla",
        "residual",
        "indrnn",
        "antisymmetric",
        "lru",
    ]
    assert not any(rc.CELLS[c]("tanh").homogeneous for c in rc.CELLS)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("power", [2, -2])
def test_states_are_exact_where_arithmetic_is(power: int, dtype: str, library: str) -> None:
    """W = 2**power · permutation and a single input: every state is known as a rational number."""
    T, permutation = 1200, np.eye(3)[[1, 2, 0]]
    params = {"weight_ih": np.eye(3), "weight_hh": 2.0**power * permutation}
    x = np.zeros((T, 1, 3))
    x[0] = [1.0, -3.0, 0.5]
    given = {name: array(value, library, dtype) for name, value in params.items()}
    tape = rc.forward(rc.VanillaCell("identity"), given, array(x, library, dtype))
    now, states = [Fraction(1), Fraction(-3), Fraction(1, 2)], []
    for _ in range(T):
        states.append(now)
        now = [Fraction(2) ** power * now[j] for j in (1, 2, 0)]
    assert isinstance(tape.hidden, rc.Scaled)
    assert type(tape.hidden.mantissa) is type(given["weight_ih"])
    assert exact(tape.hidden) == [v for step in states for v in step]
    assert exact(tape.state["hidden"]) == states[-1]


@pytest.mark.parametrize("cell_name", ["vanilla", "residual"])
@pytest.mark.parametrize("activation", HOMOGENEOUS)
@pytest.mark.parametrize("gain", [30.0, 0.02])
def test_forward_and_backward_against_multiprecision(cell_name: str, activation: str, gain: float) -> None:
    """Networks with inputs and biases whose states, and gradients, grow (or, unbiased, shrink) out of range."""
    rng, T, H, D = np.random.default_rng(3), 400, 3, 2
    growing = gain > 1
    params = {
        "weight_ih": rng.standard_normal((H, D)),
        "weight_hh": gain * (np.abs(rng.standard_normal((H, H))) + 0.1),
        "bias_ih": rng.standard_normal(H) * growing,
        "bias_hh": rng.standard_normal(H) * growing,
    }
    x = np.abs(rng.standard_normal((T, 1, D)))
    if not growing:
        x[5:] = 0.0
    cell = rc.CELLS[cell_name](activation) if cell_name == "vanilla" else rc.ResidualCell(activation, 0.5, 1.0)
    grad = rng.standard_normal((T, 1, H))
    tape = rc.forward(cell, params, x)
    gradients = rc.backward(tape, grad)
    eta = 1 if cell_name == "vanilla" else mp.mpf(0.5)
    slope = {"identity": 1, "relu": 0, "leaky_relu": mp.mpf(0.01)}[activation]
    with mp.workdps(40):
        W, W_ih = mp.matrix(params["weight_hh"].tolist()), mp.matrix(params["weight_ih"].tolist())
        bias = mp.matrix(params["bias_ih"].tolist()) + mp.matrix(params["bias_hh"].tolist())
        h, states, before, kinks = mp.zeros(H, 1), [], [], []
        for t in range(T):
            a = W_ih * mp.matrix(x[t, 0].tolist()) + W * h + bias
            before.append(h)
            kinks.append([1 if v > 0 else slope for v in a])
            h = eta * mp.matrix([v * k for v, k in zip(a, kinks[-1], strict=True)])
            states.append(h)
        largest = max(abs(v) for v in states[-1])
        assert largest > mp.mpf(2) ** 1024 or largest < mp.mpf(2) ** -1074
        dh, dW = mp.zeros(H, 1), mp.zeros(H, H)
        for t in reversed(range(T)):
            dh = dh + mp.matrix(grad[t, 0].tolist())
            ours, theirs = _matrix(gradients.hidden[t]), dh
            assert mp.norm(ours - theirs) <= mp.mpf(1e-12) * mp.norm(theirs), t
            assert mp.norm(_matrix(tape.hidden[t]) - states[t]) <= mp.mpf(1e-12) * mp.norm(states[t]), t
            da = eta * mp.matrix([v * k for v, k in zip(dh, kinks[t], strict=True)])
            dW += da * before[t].T
            dh = W.T * da
        ours = _matrix(gradients.params["weight_hh"])
        assert mp.norm(mp.matrix(H * H, 1) + ours - mp.matrix(list(dW))) <= mp.mpf(1e-11) * mp.norm(mp.matrix(list(dW)))


def _matrix(values: object) -> mp.matrix:
    return mp.matrix([mp.mpf(v.numerator) / v.denominator for v in exact(values)])


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("activation", HOMOGENEOUS)
def test_within_range_it_is_the_plain_pass(activation: str) -> None:
    """States that plain floats hold are computed in another way."""
    rng = np.random.default_rng(0)
    cell = rc.VanillaCell(activation)
    params = cell.init_params(rng, 2, 5, spectral_radius=1.3)
    x = rng.standard_normal((60, 3, 2))
    h, states = np.zeros((5, 3)), []
    for x_t in x:
        h = cell.phi.f(params["weight_hh"] @ h + params["bias_hh"][:, None] + (params["weight_ih"] @ x_t.T + params["bias_ih"][:, None]))  # fmt: skip
        states.append(h.T)
    np.testing.assert_array_equal(rc.forward(cell, params, x).hidden, np.stack(states))


def test_the_loss_and_its_gradient_beyond_range() -> None:
    """A linear network's outputs leave the range: the loss is inf, the gradients are exact all the same."""
    experiment = rc.Experiment(
        activation="identity", initializer="orthogonal", spectral_radius=2.0, hidden_size=4, sequence_length=1500, batch_size=2
    )  # fmt: skip
    result, problem = rc.run(experiment), rc.prepare(experiment)
    assert result.summary["growth_rate"] == pytest.approx(math.log(2.0), rel=1e-12)
    assert np.isfinite(result.traces["log10_grad_norm"]).all()
    assert result.updates["loss"][0] == math.inf
    assert result.summary["first_nonfinite_update"] == 0
    with np.errstate(over="ignore", invalid="ignore"):
        x, target = problem.batch(0)
        evaluation = rc.evaluate(problem, problem.params, x, target)
        # The same network with inputs and targets 2**-1400 times as large: loss and gradients scale with them.
        small = rc.evaluate(problem, problem.params, x * 2.0**-900, target * 2.0**-900)
    for name, gradient in evaluation.param_grads.items():
        power = 900 if name.startswith("bias") else 1800
        reference = small.param_grads[name]
        m, e = (reference.mantissa, reference.exponent) if isinstance(reference, rc.Scaled) else (reference, 0)
        assert relative_error(gradient, rc.Scaled(m, int(e) + power)) < 1e-12, name


@pytest.mark.parametrize("library", LIBRARIES)
def test_other_cells_say_where_they_broke(library: str) -> None:
    """softplus overflows like relu, but phi' depends on the scale: the step must be recorded, not renormalised away."""
    params = {name: array(v, library) for name, v in {"weight_ih": np.ones((2, 1)), "weight_hh": 2.0**40 * np.eye(2)}.items()}  # fmt: skip
    x = array(np.ones((60, 1, 1)), library)
    with np.errstate(over="ignore", invalid="ignore"):
        soft, hard = (rc.forward(rc.VanillaCell(name), params, x) for name in ("softplus", "relu"))
    assert not isinstance(soft.hidden, rc.Scaled)
    broken = np.flatnonzero(~np.isfinite(to_numpy(soft.hidden)).all(axis=(1, 2)))[0] + 1
    assert soft.first_nonfinite_step == broken == hard.first_nonfinite_step == 27
    assert isinstance(hard.hidden, rc.Scaled)
    assert hard.hidden.log_norm() == pytest.approx(59 * 40 * math.log(2.0) + 0.5 * math.log(2.0), rel=1e-12)


def test_a_scaled_state_goes_on() -> None:
    """Two halves beyond the range do not make a whole: the exponent of the state in between is lost."""
    rng = np.random.default_rng(1)
    cell = rc.VanillaCell("leaky_relu")
    params = cell.init_params(rng, 2, 3, spectral_radius=64.0)
    x, grad = rng.standard_normal((900, 2, 2)), rng.standard_normal((900, 2, 3))
    whole = rc.forward(cell, params, x)
    first = rc.forward(cell, params, x[:600])
    second = rc.forward(cell, params, x[600:], first.state)
    assert isinstance(first.state["hidden"], rc.Scaled)
    assert relative_error(second.state["hidden"], whole.state["hidden"]) < 1e-12
    late = rc.backward(second, grad[600:])
    early = rc.backward(first, grad[:600], late.state)
    expected = rc.backward(whole, grad)
    np.testing.assert_allclose(np.concatenate([early.log_norm, late.log_norm]), expected.log_norm, rtol=0, atol=1e-11)
    assert relative_error(early.state["hidden"], expected.state["hidden"]) < 1e-11
