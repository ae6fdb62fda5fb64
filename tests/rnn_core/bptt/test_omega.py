"""Pascanu's regulariser: its value and its immediate gradient, against autograd, differences, reference numbers and theorems."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

import rnn_core as rc
from rnn_core import compiled, regularizers
from rnn_core.arrays import to_numpy
from rnn_core.oracles import omega as oracle
from rnn_core.oracles.activations import ACTIVATIONS
from rnn_core.oracles.compare import Abstains
from rnn_core.oracles.problems import with_biases
from rnn_core.regularizers import COVERED, _Terms
from tests.support.arrays import DTYPES, LIBRARIES, array, quick, relative
from tests.support.networks import Network, draw_network, networks, samples

both_cells = pytest.mark.parametrize("cell", COVERED)
LIMIT = {"float64": 1e-12, "float32": 1e-4}


# ---- the definition once more, in torch: every J_t^T dh_t by autograd ------------------------------------------------------


def constants(network: Network) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """phi'(a_t) and dL/dh_t of every step, each (B, H), by autograd through the whole network."""
    phi, p = ACTIVATIONS[network.cell.phi.name].tensor, {n: torch.tensor(v) for n, v in network.params.items()}
    h, states, slopes, loss = torch.tensor(network.initial()["hidden"]), [], [], torch.tensor(0.0)
    for x_t, g_t in zip(torch.tensor(network.x), torch.tensor(network.grad_hidden), strict=True):
        h = h.detach().requires_grad_() if not states else h
        a = x_t @ p["weight_ih"].T + h @ p["weight_hh"].T + p.get("bias_ih", 0.0) + p.get("bias_hh", 0.0)
        slopes.append(torch.autograd.grad(phi(a).sum(), a, retain_graph=True)[0].detach())
        h = after(network, h, phi(a))
        states.append(h)
        loss = loss + (h * g_t).sum()
    loss = loss + (h * torch.tensor(network.initial("grad_state")["hidden"])).sum()
    return slopes, list(torch.autograd.grad(loss, states))


def after(network: Network, h: torch.Tensor, phi: torch.Tensor) -> torch.Tensor:
    options = network.options
    return phi if not options else (1.0 - options["leak"]) * h + options["step"] * phi


def definition(network: Network, W: torch.Tensor, power: int = 1, first: int = 1) -> torch.Tensor:
    """Ω of that W, with slopes and dL/dh_t held constant; ``power`` 2 is the squared ratio of Pascanu's program."""
    total, B = torch.tensor(0.0, dtype=torch.float64), network.x.shape[1]
    for slope, dh in list(zip(*constants(network), strict=True))[first:]:
        h = torch.zeros_like(dh, requires_grad=True)
        step = after(network, h, slope * (h @ W.T))  # linear in h, with the slopes of the point
        [sent] = torch.autograd.grad(step, h, dh, create_graph=True)
        there = dh.norm(dim=1) > 0.0
        ratio = sent[there].norm(dim=1) / dh[there].norm(dim=1)
        total = total + ((ratio**power - 1.0) ** 2).sum() / B
    return total


def by_autograd(network: Network) -> tuple[float, np.ndarray]:
    W = torch.tensor(network.params["weight_hh"], requires_grad=True)
    value = definition(network, W)
    if not value.requires_grad:  # a single step has no pair of neighbours
        return 0.0, np.zeros(W.shape)
    [gradient] = torch.autograd.grad(value, W)
    return float(value.detach()), gradient.numpy()


def worst(network: Network, of: Network | None = None) -> float:
    """The larger relative error of the value and of the gradient; ``of`` is the same network in another library or dtype."""
    value, gradients = rc.omega(*(of or network).run())
    expected, gradient = by_autograd(network)
    error = abs(value - expected) / expected if expected else abs(value)
    return max(error, relative(gradients["weight_hh"], gradient))


@both_cells
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_it_is_the_definition_by_autograd(cell: str, loss_at: str, dtype: str, library: str) -> None:
    """The value or the gradient belongs to another formula."""
    for seed, activation in enumerate(rc.ACTIVATIONS):
        network = draw_network(cell, activation, seed=seed, T=9, B=3, H=5, loss_at=loss_at)
        assert worst(network, network.to(library, dtype)) < LIMIT[dtype], activation


@both_cells
@given(data=networks())
@quick
def test_of_any_shape(cell: str, data: Network) -> None:
    """One step, one sample, one unit; with and without an initial state and biases."""
    network = replace(data, cell=draw_network(cell).cell)
    assert worst(network) < LIMIT["float64"]


@both_cells
def test_the_gradient_is_a_central_difference(cell: str) -> None:
    """Autograd and we could share a mistake; a difference of values cannot."""
    network = draw_network(cell, T=8, B=3, H=4)
    W, h = network.params["weight_hh"], 1e-5
    differences = np.empty_like(W)
    for index in np.ndindex(W.shape):
        up, down = (float(definition(network, torch.tensor(W + sign * h * (np.arange(W.size).reshape(W.shape) == np.ravel_multi_index(index, W.shape))))) for sign in (1, -1))  # fmt: skip
        differences[index] = (up - down) / (2.0 * h)
    assert relative(rc.omega(*network.run())[1]["weight_hh"], differences) < 1e-8


def test_reference_numbers() -> None:
    """R22 of the specification, computed by another program."""
    rng = np.random.default_rng(41)
    W = rng.standard_normal((4, 4)) * 1.2 / 2
    u, d = rng.standard_normal((6, 2, 4)), rng.standard_normal((2, 4))
    tape = rc.forward(rc.VanillaCell(), {"weight_hh": W, "weight_ih": np.eye(4)}, u)
    value, gradients = rc.omega(tape, rc.backward(tape, grad_state={"hidden": d}))
    gradient = gradients["weight_hh"]
    assert value == pytest.approx(0.9314287739850, rel=1e-12)
    assert gradient[0, 0] == pytest.approx(0.5990848090, rel=1e-9)
    assert gradient[1, 2] == pytest.approx(0.0875969091, rel=1e-9)
    assert float(np.linalg.norm(gradient)) == pytest.approx(0.8233126745, rel=1e-9)
    network = Network(rc.VanillaCell(), {"weight_hh": W, "weight_ih": np.eye(4)}, u, np.zeros_like(u), None, {"hidden": d})  # fmt: skip
    assert float(definition(network, torch.tensor(W), power=2)) == pytest.approx(1.9451650892, rel=1e-9)


# ---- theorems ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.5, 1.0, 3.0])
def test_a_rotation_times_c(c: float) -> None:
    """phi = identity, W = cQ: every ratio is c, so Ω = (T - 1)(c - 1)², and the gradient along W is 2 (T - 1) c (c - 1)."""
    T, H = 1500, 6  # 3^1500 = 1e715, 0.5^1500 = 1e-451
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((H, H)))[0]
    network = draw_network(activation="identity", T=T, B=3, H=H, loss_at="last", with_state=False, biases="none")
    value, gradients = rc.omega(*replace(network, params={**network.params, "weight_hh": c * Q}).run())
    assert value == pytest.approx((T - 1) * (c - 1.0) ** 2, rel=1e-12, abs=1e-20)
    along = float((gradients["weight_hh"] * c * Q).sum())
    assert along == pytest.approx(2.0 * (T - 1) * c * (c - 1.0), rel=1e-12, abs=1e-9)


@given(network=networks())
@quick
def test_eulers_theorem(network: Network) -> None:
    """r is homogeneous of degree 1 in the W_hh of a vanilla cell: ⟨∂Ω/∂W, W⟩ = mean Σ 2 r (r - 1), whatever the network."""
    tape, grads = network.run()
    _, gradients = rc.omega(tape, grads)
    W, along = network.params["weight_hh"], 0.0
    for a, dh in list(zip(tape.saved, grads.hidden, strict=True))[1:]:
        sent = W.T @ (network.cell.phi.df(a) * dh.T)
        size = np.linalg.norm(dh, axis=1)
        r = np.linalg.norm(sent, axis=0)[size > 0.0] / size[size > 0.0]
        along += float((2.0 * r * (r - 1.0)).sum()) / len(size)
    assert float((gradients["weight_hh"] * W).sum()) == pytest.approx(along, rel=1e-11, abs=1e-12)


@both_cells
def test_a_batch_is_the_mean_of_its_samples(cell: str) -> None:
    """Samples act on each other, or the sum is divided by something else than B."""
    network = draw_network(cell, T=9, B=4, H=5)
    value, gradients = rc.omega(*network.run())
    alone = [rc.omega(*each.run()) for each in samples(network)]
    assert value == pytest.approx(np.mean([v for v, _ in alone]), rel=1e-13)
    assert relative(gradients["weight_hh"], np.mean([g["weight_hh"] for _, g in alone], axis=0)) < 1e-13


# ---- beyond the range of floats, and out of memory -------------------------------------------------------------------------


@both_cells
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("power", [-20_000, 3000])
def test_the_size_of_the_loss_does_not_matter(cell: str, power: int, library: str) -> None:
    """A gradient of 10^-6000 is dropped as too small, or its ratio loses digits."""
    network = draw_network(cell, T=40, B=3, H=4).to(library)
    tape, grads = network.run()
    moved = rc.backward(
        tape,
        rc.Scaled(network.grad_hidden, power),
        {name: rc.Scaled(value, power) for name, value in (network.grad_state or {}).items()},
    )
    (value, gradients), (expected, right) = rc.omega(tape, moved), rc.omega(tape, grads)
    assert value == pytest.approx(expected, rel=1e-12)
    assert relative(gradients["weight_hh"], right["weight_hh"]) < 1e-12


def by_directions(tape: rc.Tape, network: Network) -> tuple[float, np.ndarray]:
    """Ω of a loss at the last step alone, sample by sample: only the direction of dh_t is ever kept, so nothing can vanish."""
    W, B = network.params["weight_hh"], network.x.shape[1]
    value, gradient = 0.0, np.zeros_like(W)
    slopes = [network.cell.phi.df(to_numpy(a)) for a in tape.saved]
    for b in range(B):
        d = network.grad_hidden[-1, b] / np.linalg.norm(network.grad_hidden[-1, b])
        for slope in slopes[:0:-1]:
            da = slope[:, b] * d
            r = float(np.linalg.norm(W.T @ da))
            if r == 0.0:  # a dead unit ends it
                value += 1.0 / B
                break
            d = (W.T @ da) / r
            value += (r - 1.0) ** 2 / B
            gradient += 2.0 * (r - 1.0) * np.outer(da, d) / B
    return value, gradient


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("activation", "gain", "spread"), [("tanh", 0.1, 0.0), ("tanh", 0.1, 3.0), ("relu", 0.5, 0.3), ("tanh", 9.0, 0.0)])  # fmt: skip
def test_samples_that_drift_apart(activation: str, gain: float, spread: float, library: str) -> None:
    """Beside a sample of size 1 one of 10^-5000 is lost: its directions would be those of rounding, or zero."""
    network = draw_network("vanilla", activation, T=5000, B=3, H=5, gain=gain, loss_at="last", with_state=False)
    network.x[:, 1] *= spread  # another size of inputs, another slope, another rate
    tape, grads = network.to(library).run()
    value, gradients = rc.omega(tape, grads)
    expected, right = by_directions(tape, network)
    assert value == pytest.approx(expected, rel=1e-9)
    assert relative(gradients["weight_hh"], right) < 1e-9


@both_cells
def test_with_a_memory_budget(cell: str) -> None:
    """Steps that are not kept are taken once more; a direct part may be a function, and samples may drift apart."""
    options = {"residual": {"leak": 0.9, "step": 1.0}}.get(cell, {})
    network = draw_network(cell, T=900, B=3, H=4, gain=0.1, with_state=False, loss_at="last", **options)
    network.x[:, 1] *= 4.0
    expected, right = rc.omega(*network.run())
    for direct in (network.grad_hidden, lambda start, stop: network.grad_hidden[start:stop]):
        tape = rc.forward(network.cell, network.params, network.x, memory_budget=1)
        value, gradients = rc.omega(tape, rc.backward(tape, direct))
        assert value == pytest.approx(expected, rel=1e-12)
        assert relative(gradients["weight_hh"], right["weight_hh"]) < 1e-12


def test_readable_steps_give_the_same() -> None:
    """What compiled steps keep is read in another way."""
    network = draw_network(T=300, B=3, H=4)
    expected, right = rc.omega(*network.run())
    with compiled.switched_off():
        value, gradients = rc.omega(*network.run())
    assert value == pytest.approx(expected, rel=1e-12)
    assert relative(gradients["weight_hh"], right["weight_hh"]) < 1e-12


@pytest.mark.filterwarnings("error")
def test_where_nothing_flows_or_no_number() -> None:
    """A gradient of zero divides by zero, or what is not a number looks like one."""
    network = draw_network(T=6, B=2, H=3)
    tape, _ = network.run()
    value, gradients = rc.omega(tape, rc.backward(tape))
    assert value == 0.0
    assert not gradients["weight_hh"].any()
    dead = draw_network(activation="relu", T=6, B=1, H=3, loss_at="last", with_state=False)
    dead.params["bias_ih"][:] = -100.0  # the last step sends nothing; those before it receive nothing
    value, gradients = rc.omega(*dead.run())
    assert value == 1.0
    assert not gradients["weight_hh"].any()
    network.grad_hidden[3, 0, 1] = np.nan
    value, gradients = rc.omega(*network.run())
    assert math.isnan(value)
    assert np.isnan(gradients["weight_hh"]).all()


# ---- in training -------------------------------------------------------------------------------------------------------------


@both_cells
@pytest.mark.parametrize("clipping", ["norm:0.5", "signal:0.001"])
def test_a_run_adds_it_before_clipping(cell: str, clipping: str) -> None:
    """The weight is left out, Ω is added after clipping, reaches another parameter, or the row tells of another update."""
    e = rc.Experiment(task="input_mean", cell=cell, hidden_size=5, sequence_length=9, batch_size=3, spectral_radius=1.5, updates=4, omega=2.5, clipping=clipping)  # fmt: skip
    problem, result, optimizer = rc.prepare(e), rc.run(e), rc.SGD(0.1)
    params, clip = problem.params, rc.parse_clipping(clipping)
    for update in range(4):
        evaluation = rc.evaluate(problem, params, *problem.batch(update))
        own = {name: value for name, value in params.items() if not name.endswith("ho")}
        direct = evaluation.grad_hidden(0, 9)
        value, gradient = by_autograd(Network(problem.cell, own, problem.batch(update)[0], direct, None, None))
        assert result["omega"][update] == pytest.approx(value, rel=1e-11)
        grads = dict(evaluation.param_grads)
        if clip.on_signal:
            grads |= rc.backward(evaluation.tape, direct, signal_threshold=clip.threshold).params
        grads["weight_hh"] = grads["weight_hh"] + 2.5 * gradient
        used = grads if clip.on_signal else clip(grads, params).grads
        norms = [float(np.linalg.norm(np.asarray(g))) for g in used.values()]
        assert result["log10_norm_after"][update] == pytest.approx(math.log10(math.hypot(*norms)), abs=1e-11)
        assert result["loss"][update] == pytest.approx(evaluation.loss, rel=1e-13)  # of L alone
        params = optimizer.step(params, used)
    assert not np.array_equal(result["loss"], rc.run(replace(e, omega=0.0))["loss"])


def test_a_run_without_it_measures_nothing() -> None:
    """A column is filled where nobody asked, or an untrained run with Ω has none."""
    small = rc.Experiment(hidden_size=5, sequence_length=9, batch_size=3)
    assert np.isnan(rc.run(small)["omega"]).all()
    assert np.isfinite(rc.run(replace(small, omega=1.0))["omega"]).all()


@pytest.mark.parametrize("cell", [cell for cell in rc.CELLS if cell not in COVERED])
def test_the_setting_is_refused_with_other_cells(cell: str) -> None:
    with pytest.raises(
        ValueError, match=f"omega: 4.0 is not allowed with cell '{cell}'; only vanilla and residual have"
    ):
        rc.Experiment(cell=cell, omega=4.0)
    assert rc.Experiment(cell=cell, omega=0).omega == 0


# ---- the engine check's oracle ---------------------------------------------------------------------------------------------------


ORACLE_BUGS: dict[str, Callable[..., Any]] = {
    "transposed": lambda value, gradient: (value, gradient.T),
    "half the gradient": lambda value, gradient: (value, 0.5 * gradient),
    "the initial state too": lambda value, gradient: (value * 1.1, gradient),
}


@both_cells
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "rho", "T"), [("tanh", 1.2, 30), ("relu", 0.4, 200), ("identity", 1.0, 20), ("tanh", 9.0, 400)])  # fmt: skip
def test_a_study_checks_it(
    cell: str, activation: str, rho: float, T: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check raises a false alarm, or lets a bug pass; at ratios of 1, too, where all that is left of Ω is rounding."""
    initializer = "orthogonal" if activation == "identity" else "gaussian"
    options = {"residual_step": 0.6, "residual_leak": 0.5} if cell == "residual" else {}
    e = rc.Experiment(cell=cell, activation=activation, spectral_radius=rho, sequence_length=T, hidden_size=7, batch_size=3, initializer=initializer, dtype=dtype, omega=1.0, **options)  # fmt: skip
    problem = with_biases(rc.prepare(e))
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    limit = 1e-11 if dtype == "float64" else 1e-4
    assert oracle.check(problem, problem.params, x, evaluation).relative < limit
    if activation == "identity":
        return  # Ω is next to nothing, and so is a tenth of it
    for bug in ORACLE_BUGS.values():
        value, gradients = rc.omega(evaluation.tape, evaluation.gradients)
        wrong, gradient = bug(value, gradients["weight_hh"])
        monkeypatch.setattr(
            oracle, "omega", lambda *_, wrong=wrong, gradient=gradient: (wrong, {"weight_hh": gradient})
        )
        assert oracle.check(problem, problem.params, x, evaluation).relative > 1e-3


def test_the_check_abstains_where_samples_are_too_far_apart() -> None:
    """A false alarm, or a run that is said to be checked and was not."""
    e = rc.Experiment(spectral_radius=0.1, sequence_length=5000, hidden_size=5, batch_size=3, omega=1.0)
    problem = rc.prepare(e)
    x, target = problem.batch(0)
    x[:, 1] *= 3.0
    with pytest.raises(Abstains, match="too far apart"):
        oracle.check(problem, problem.params, x, rc.evaluate(problem, problem.params, x, target))


# ---- what is refused, and planted bugs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [cell for cell in rc.CELLS if cell not in COVERED])
def test_other_cells_are_refused_in_words(cell: str) -> None:
    with pytest.raises(
        ValueError, match=f"tape: its cell is '{cell}', which has no omega; only vanilla and residual have one"
    ):
        rc.omega(*draw_network(cell).run())


def test_arguments_that_do_not_fit() -> None:
    tape, grads = draw_network(T=5).run()
    with pytest.raises(TypeError, match=r"tape: Gradients is not allowed; it must be what rc\.forward returns"):
        rc.omega(grads, tape)
    with pytest.raises(ValueError, match=r"grads: they are of \(T, B\) = \(4, 3\), and the tape is of \(5, 3\)"):
        rc.omega(tape, draw_network(T=4).run()[1])


def _squared(terms: _Terms, counts: np.ndarray) -> Any:
    return _Terms(terms.log_norm, terms.ratio**2, terms.da, terms.sent, terms.lengths), counts


@pytest.mark.parametrize(
    "bug",
    [
        lambda right, terms, counts: right(terms, counts).T,
        lambda right, terms, counts: right(*_squared(terms, counts)),
        lambda right, terms, counts: right(terms._replace(lengths=terms.lengths * terms.ratio), counts),
        lambda right, terms, counts: right(terms, np.ones_like(counts)),
        lambda right, terms, counts: 0.5 * right(terms, counts),
    ],
    ids=["transposed", "squared ratio", "divided by r twice", "the initial state too", "half"],
)
@both_cells
def test_a_planted_bug_is_seen(cell: str, bug: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison that lets one of these pass proves nothing."""
    network, right = draw_network(cell, T=6, B=3, H=4), _Terms.gradient
    assert worst(network) < LIMIT["float64"]
    monkeypatch.setattr(_Terms, "gradient", lambda terms, counts: bug(right, terms, counts))
    assert worst(network) > 1e-3


def test_a_lost_sample_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pass of its own a sample of 10^-5000 counts as nothing."""
    network = draw_network("vanilla", T=5000, B=3, H=5, gain=0.1, loss_at="last", with_state=False)
    network.x[:, 1] *= 3.0
    monkeypatch.setattr(regularizers, "HELD", {"float64": math.inf})
    tape, grads = network.run()
    assert rc.omega(tape, grads)[0] != pytest.approx(by_directions(tape, network)[0], rel=1e-3)


def test_scalars_and_torch_come_back_in_their_kind() -> None:
    """The gradient is of another library or dtype than the weight it is of."""
    for library in LIBRARIES:
        network = draw_network().to(library, "float32")
        value, gradients = rc.omega(*network.run())
        assert isinstance(value, float)
        assert type(gradients["weight_hh"]) is type(array(0.0, library))
        assert str(gradients["weight_hh"].dtype).endswith("float32")
