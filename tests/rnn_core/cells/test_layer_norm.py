"""Layer normalisation of the preactivation: torch's layers, what it is invariant to, and how its gradient grows."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.scaling import plain
from rnn_core.theory import dynamic_rate, rest_rate
from tests.support.networks import draw_network

KAPPA = 2.0**20  # of weights so large the epsilon under the root is below rounding


@pytest.mark.parametrize(("step", "leak"), [(1.0, 1.0), (0.3, 0.0), (0.5, 0.2)])
def test_a_network_of_torchs_layers(step: float, leak: float) -> None:
    """Linear layers and LayerNorm of torch, unrolled: a term of the derivative, or a sum over time, is missing."""
    network = draw_network("layer_norm", T=9, B=3, D=3, H=5, step=step, leak=leak)
    _, ours = network.run()
    p = {name: torch.tensor(value, requires_grad=True) for name, value in network.params.items()}
    norm = torch.nn.LayerNorm(5, dtype=torch.float64)
    norm.weight.data[:], norm.bias.data[:] = p["weight_ln"].detach(), p["bias_ln"].detach()
    h = torch.tensor(network.initial()["hidden"])
    loss = torch.zeros((), dtype=torch.float64)
    for x, g in zip(torch.tensor(network.x), torch.tensor(network.grad_hidden), strict=True):
        a = x @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"]
        h = (1.0 - leak) * h + step * torch.tanh(norm(a))
        loss = loss + (g * h).sum()
    (loss + (torch.tensor(network.initial("grad_state")["hidden"]) * h).sum()).backward()
    expected = {name: p[name].grad for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    expected |= {"weight_ln": norm.weight.grad, "bias_ln": norm.bias.grad}
    assert set(ours.params) == set(expected)
    for name, value in expected.items():
        error = np.abs(ours.params[name] - value.numpy()).max() / np.abs(value.numpy()).max()
        assert error < 1e-12, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-4, 3e-3, 1.0, 30.0, 1e4])
def test_two_units_keep_their_digits(dtype: str, size: float) -> None:
    """The box of section 2.12 with 60 digits, from the engine's own numbers: in float32 a difference leaves nothing at a size of 13."""
    rng = np.random.default_rng(0)
    g, b = (rng.standard_normal(2).astype(dtype) for _ in range(2))
    params = {"weight_hh": np.zeros((2, 2), dtype), "weight_ln": g, "bias_ln": b}
    u, dh = (size * rng.standard_normal((2, 7))).astype(dtype), rng.standard_normal((2, 7)).astype(dtype)
    cell = rc.LayerNormCell("softplus")
    _, saved = cell.forward(params, u, {"hidden": np.zeros((2, 7), dtype)})
    da, _, _ = cell.backward(params, saved, {"hidden": dh})
    with mp.workdps(60):
        for k in range(7):
            a = [mp.mpf(float(v)) for v in u[:, k]]
            c = [a[0] - (a[0] + a[1]) / 2, a[1] - (a[0] + a[1]) / 2]
            s = mp.sqrt((c[0] ** 2 + c[1] ** 2) / 2 + mp.mpf("1e-5"))
            n = [each / s for each in c]
            dn = [
                mp.mpf(float(g[i]))
                / (1 + mp.exp(-mp.mpf(float(g[i])) * n[i] - mp.mpf(float(b[i]))))
                * mp.mpf(float(dh[i, k]))
                for i in range(2)
            ]
            m = [dn[0] - (dn[0] + dn[1]) / 2, dn[1] - (dn[0] + dn[1]) / 2]
            along = (n[0] * m[0] + n[1] * m[1]) / 2
            expected = np.array([float((m[i] - n[i] * along) / s) for i in range(2)])
            terms = float(sum(abs(each) for each in dn) / max(abs(each) for each in m))  # m is a difference of dn
            error = np.abs(da[:, k] / expected - 1.0).max()
            assert error < 16.0 * terms * float(np.finfo(dtype).eps), (k, error)


def scaled(params: dict[str, np.ndarray], factor: float) -> dict[str, np.ndarray]:
    return {name: value * (1.0 if name.endswith("_ln") else factor) for name, value in params.items()}


def test_the_scale_of_weights_makes_no_difference() -> None:
    """W, its biases and its inputs' weights times a number: the same states, and gradients divided by it."""
    network = draw_network("layer_norm", T=12, B=2, D=3, H=6)
    grads = []
    for factor in (KAPPA, 8.0 * KAPPA):
        params = scaled(network.params, factor)
        tape = rc.forward(network.cell, params, network.x, network.state)
        grads.append((tape.hidden, rc.backward(tape, network.grad_hidden), params))
    (h, first, params), (same, second, _) = grads
    np.testing.assert_allclose(h, same, rtol=1e-9)
    for name in network.params:
        factor = 1.0 if name.endswith("_ln") else 8.0
        np.testing.assert_allclose(plain(first.params[name]), factor * plain(second.params[name]), rtol=1e-6)
    parts = [plain(first.params[n]) * params[n] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
    assert abs(sum(part.sum() for part in parts)) < 1e-9 * sum(np.abs(part).sum() for part in parts)  # Euler's theorem


def test_two_directions_are_lost() -> None:
    """dL/da_t has no mean, and no share along n_t."""
    network = draw_network("layer_norm", T=1, B=4, D=3, H=7)
    tape = rc.forward(network.cell, scaled(network.params, KAPPA), network.x)
    [(n, s, z)] = tape.saved
    da, _, _ = network.cell.backward(tape.params, (n, s, z), {"hidden": network.grad_hidden[0].T})
    size = np.abs(da).sum(axis=0)
    assert (np.abs(da.sum(axis=0)) < 1e-14 * size).all() and (np.abs((da * n).sum(axis=0)) < 1e-13 * size).all()
    np.testing.assert_allclose([n.mean(axis=0), (n * n).mean(axis=0)], [np.zeros(4), np.ones(4)], atol=1e-12)


def test_at_rest_it_grows_by_the_root_of_epsilon() -> None:
    """The law at rest: ln ρ((1 - λ) I + η φ'(0) (I - 1/H) W / √ε), and the engine obeys it."""
    cell, H = rc.LayerNormCell(step=0.01, leak=0.2), 9
    params = cell.init_params(np.random.default_rng(0), 2, H, spectral_radius=0.7)
    J = 0.8 * np.eye(H) + 0.01 * (np.eye(H) - 1.0 / H) @ params["weight_hh"] / math.sqrt(1e-5)
    expected = math.log(np.abs(np.linalg.eigvals(J)).max())
    assert rest_rate(cell, params) == pytest.approx(expected, abs=1e-12)
    assert rest_rate(cell, {"weight_hh": params["weight_hh"]}) == pytest.approx(expected, abs=1e-12)
    tape = rc.forward(cell, params, np.zeros((400, 1, 2)))
    grads = rc.backward(tape, grad_state={"hidden": np.random.default_rng(1).standard_normal((1, H))})
    assert (grads.log_norm[0] - grads.log_norm[-101]) / 299 == pytest.approx(expected, abs=0.02)
    assert math.isnan(rest_rate(cell, {**params, "bias_ln": np.ones(H)}))


@pytest.mark.parametrize(("step", "leak", "sigma_w", "sigma_u"), [(1.0, 1.0, 1.0, 1.0), (1.0, 1.0, 3.0, 0.5), (0.5, 0.5, 2.0, 0.5)])  # fmt: skip
def test_it_grows_as_dynamic_mean_field_says(step: float, leak: float, sigma_w: float, sigma_u: float) -> None:
    """Sampled units have mean and variance over all of them; the rate is that of wide networks, and of no other scale."""
    cell = rc.LayerNormCell(step=step, leak=leak)
    sampled = dynamic_rate(cell, sigma_w**2, sigma_u**2, units=2000, steps=100)
    assert dynamic_rate(cell, 16 * sigma_w**2, 16 * sigma_u**2, units=2000, steps=100) == pytest.approx(
        sampled, abs=1e-3
    )
    rates = []
    for seed in range(3):
        e = rc.Experiment(
            cell="layer_norm", layer_norm_step=step, layer_norm_leak=leak, weight_scale=sigma_w, input_scale=sigma_u,
            hidden_size=200, input_size=100, sequence_length=100, batch_size=4, seed=seed,
        )  # fmt: skip
        rates.append(rc.run(e)["growth_rate"])
    assert sampled == pytest.approx(np.mean(rates), abs=0.02)


def test_gradients_of_gain_and_shift_are_exact_beyond_the_range() -> None:
    """They lose the exponent that the signal carries apart."""
    network = draw_network("layer_norm", T=40, B=2, D=2, H=5, step=1.0, leak=0.0)
    tape = rc.forward(network.cell, network.params, network.x)
    ours, tiny = (rc.backward(tape, network.grad_hidden * size) for size in (1.0, 2.0**-1000))
    for name in network.cell.own_parameters:
        small = tiny.params[name]
        value = small.mantissa * 2.0 ** (small.exponent + 1000) if hasattr(small, "mantissa") else small * 2.0**1000
        np.testing.assert_allclose(value, ours.params[name], rtol=1e-12)


def test_a_run_trains_its_gain_and_shift() -> None:
    """The optimiser does not see what the cell has of its own, or a step bound that does not hold is claimed."""
    e = rc.Experiment(
        cell="layer_norm", task="input_mean", hidden_size=8, sequence_length=10, updates=3, learning_rate=0.1
    )
    problem = rc.prepare(e)
    assert (problem.params["weight_ln"] == 1.0).all() and not problem.params["bias_ln"].any()
    evaluation = rc.evaluate(problem, problem.params, *problem.batch(0))
    assert set(evaluation.param_grads) == set(problem.params)
    result = rc.run(e)
    assert math.isnan(result["linear_rate"]) and math.isnan(result["bound_rate"])
    with pytest.raises(ValueError, match="params: weight_ln is missing; the cell 'layer_norm' needs it"):
        rc.forward(problem.cell, {n: v for n, v in problem.params.items() if n != "weight_ln"}, problem.batch(0)[0])
    with pytest.raises(ValueError, match=r"bias_ln: shape \(3,\) does not fit; expected \(8,\), which is \(H,\)"):
        rc.forward(problem.cell, {**problem.params, "bias_ln": np.zeros(3)}, problem.batch(0)[0])
    for option in ({"step": 0.0}, {"leak": 1.5}):
        with pytest.raises(ValueError, match=f"{next(iter(option))}: .* is not allowed"):
            rc.LayerNormCell(**option)
