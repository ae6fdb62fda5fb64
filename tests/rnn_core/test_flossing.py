"""Gradient flossing: its loss and its gradient, against autograd through QR, differences and theorems; and what it does to a network."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core import flossing
from rnn_core.arrays import to_numpy
from rnn_core.experiment import flossing as before_training
from rnn_core.flossing import COVERED
from rnn_core.oracles import flossing as oracle
from rnn_core.oracles.activations import ACTIVATIONS
from rnn_core.oracles.compare import Abstains
from rnn_core.oracles.problems import with_biases
from tests.support.arrays import DTYPES, LIBRARIES, relative
from tests.support.networks import Network, draw_network

both_cells = pytest.mark.parametrize("cell", COVERED)
LIMIT = 1e-11
ROOT = Path(__file__).resolve().parents[2]


def by_autograd(network: Network, k: int) -> dict[str, np.ndarray]:
    """The loss and its gradient by torch, through every QR."""
    p = {name: torch.tensor(value) for name, value in network.params.items()}
    return oracle.gradients_of(
        ACTIVATIONS[network.cell.phi.name].tensor, p, torch.tensor(network.x), k, **network.options
    )


def worst(network: Network, k: int, of: Network | None = None) -> float:
    """The largest relative error of loss and gradients; ``of`` is the same network in another library or dtype."""
    of = of or network
    ours, right = rc.flossing_loss(of.cell, of.params, of.x, k), by_autograd(network, k)
    errors = [abs(ours.loss - float(right["loss"])) / float(right["loss"])]
    errors += [relative(to_numpy(g).astype(np.float64), right[name]) for name, g in ours.gradients.items()]
    assert set(ours.gradients) == set(network.params)
    return max(errors)


# ---- the gradient ----------------------------------------------------------------------------------------------------------


@both_cells
@pytest.mark.parametrize("activation", [name for name in rc.ACTIVATIONS if name not in ("relu", "hard_tanh")])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_it_is_the_gradient_by_autograd_through_qr(k: int, activation: str, cell: str) -> None:
    """A path of the gradient is missing: through the frame, the slopes, or the states that slopes depend on."""
    for seed, biases in enumerate(("both", "none", "ih", "hh")):
        assert worst(draw_network(cell, activation, seed=seed, T=9, B=3, H=5, biases=biases), k) < LIMIT, seed


@pytest.mark.parametrize("activation", ["relu", "hard_tanh"])
def test_units_that_are_off_are_no_reason_to_stop_where_the_rest_lives_on(activation: str) -> None:
    """A residual cell's directions live where its units are off."""
    network = draw_network("residual", activation, T=9, B=3, H=5, step=0.3, leak=0.2)
    assert worst(network, 4) < LIMIT


@both_cells
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_any_library_and_dtype(cell: str, dtype: str, library: str) -> None:
    """The gradient is of another kind than the weight it is of, or single precision is summed in single precision."""
    network = draw_network(cell, T=9, B=3, H=5)
    moved = network.to(library, dtype)
    assert worst(network, 3, moved) < (LIMIT if dtype == "float64" else 1e-6)
    for name, gradient in rc.flossing_loss(moved.cell, moved.params, moved.x, 3).gradients.items():
        assert type(gradient) is type(moved.params[name]) and str(gradient.dtype).endswith(dtype)


@both_cells
@pytest.mark.parametrize("k", [1, 4])
def test_the_gradient_is_a_central_difference(cell: str, k: int) -> None:
    """Autograd's derivative of QR and ours could share a mistake; a difference of losses cannot."""
    network = draw_network(cell, T=8, B=2, H=4)
    gradients, step = rc.flossing_loss(network.cell, network.params, network.x, k).gradients, 2e-6
    for name, value in network.params.items():
        found = np.empty_like(value)
        for index in np.ndindex(value.shape):
            losses = []
            for sign in (1.0, -1.0):
                changed = value.copy()
                changed[index] += sign * step
                losses.append(rc.flossing_loss(network.cell, {**network.params, name: changed}, network.x, k).loss)
            found[index] = (losses[0] - losses[1]) / (2.0 * step)
        assert relative(gradients[name], found) < 1e-6, name


def test_a_batch_is_the_mean_of_its_samples() -> None:
    """Samples act on each other, or the sum is divided by something else than B."""
    network = draw_network(T=9, B=4, H=5)
    whole = rc.flossing_loss(network.cell, network.params, network.x, 3)
    alone = [rc.flossing_loss(network.cell, network.params, network.x[:, b : b + 1], 3) for b in range(4)]
    assert whole.loss == pytest.approx(np.mean([each.loss for each in alone]), rel=1e-13)
    mean = np.mean([each.gradients["weight_hh"] for each in alone], axis=0)
    assert relative(whole.gradients["weight_hh"], mean) < 1e-12


# ---- theorems --------------------------------------------------------------------------------------------------------------


@both_cells
def test_all_exponents_together_are_the_volume(cell: str) -> None:
    """Σ λ_i = mean ln |det J_t|, whatever frame it starts from; and those of a frame that goes back."""
    network = draw_network(cell, T=30, B=2, H=5, with_state=False)
    tape, _ = network.run()
    found = rc.flossing_loss(network.cell, network.params, network.x).exponents
    for sample in range(2):
        volume = np.linalg.slogdet(np.asarray(rc.theory.jacobians(tape, sample)))[1].mean()
        assert found[sample].sum() == pytest.approx(volume, rel=1e-12)
        assert rc.theory.lyapunov_spectrum(tape, sample=sample).exponents.sum() == pytest.approx(volume, rel=1e-12)


def test_the_gradient_of_a_linear_volume() -> None:
    """T Σ λ_i = T ln |det W|, so its gradient is T W^-T, though each λ_i has another."""
    network = draw_network(activation="identity", T=12, B=1, H=6, biases="none")
    passed = flossing._forward(network.cell, network.params, network.x, 6)
    found = flossing._backward(network.cell, network.params, passed, np.ones((1, 6)))
    W = network.params["weight_hh"]
    assert relative(found["weight_hh"], 12.0 * np.linalg.inv(W).T) < 1e-10
    assert not found["weight_ih"].any()


@pytest.mark.parametrize("scale", [0.3, 1.7])
@pytest.mark.parametrize("k", [1, 4, 6])
def test_a_scaled_rotation(k: int, scale: float) -> None:
    """W = c Q: every λ_i is ln c, L = ln² c, and ⟨dL/dW, W⟩ = c dL/dc = 2 ln c. Any k, any T."""
    Q = np.linalg.qr(np.random.default_rng(1).standard_normal((6, 6)))[0]
    params = {"weight_ih": np.ones((6, 1)), "weight_hh": scale * Q}
    found = rc.flossing_loss(rc.VanillaCell("identity"), params, np.ones((200, 2, 1)), k)
    np.testing.assert_allclose(found.exponents, math.log(scale), rtol=1e-12)
    assert found.loss == pytest.approx(math.log(scale) ** 2, rel=1e-12)
    assert float((found.gradients["weight_hh"] * params["weight_hh"]).sum()) == pytest.approx(
        2.0 * math.log(scale), rel=1e-10
    )


def test_a_long_sequence_keeps_its_digits() -> None:
    """What rounding puts above the diagonal of Q^T P grows by R_ii/R_jj a step, until nothing else is left."""
    rng = np.random.default_rng(2)
    params = {"weight_ih": np.ones((6, 1)), "weight_hh": np.diag(np.exp(-0.3 * np.arange(6)))}
    params["weight_hh"] += 0.01 * rng.standard_normal((6, 6))
    cell, x = rc.VanillaCell("identity"), np.zeros((1000, 1, 1))
    passed = flossing._forward(cell, params, x, 6)
    found = flossing._backward(cell, params, passed, np.ones((1, 6)))["weight_hh"]
    right = 1000.0 * np.linalg.inv(params["weight_hh"]).T
    assert relative(found, right) < 1e-10
    with planted("_frame_back", lambda P, Q, c: P), np.errstate(all="ignore"):
        lost = flossing._backward(cell, params, passed, np.ones((1, 6)))["weight_hh"]
        assert not relative(lost, right) < 1e-3


# ---- planted bugs ------------------------------------------------------------------------------------------------------------


@contextmanager
def planted(name: str, bug: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flossing, name, bug)
        yield


RIGHT = flossing._backward


def _changed(**wrong: Callable[[list[np.ndarray]], list[np.ndarray]]) -> Callable[..., Any]:
    """The backward pass with something else in the place of what the forward pass left."""
    return lambda cell, params, passed, c: RIGHT(
        cell, params, passed._replace(**{n: change(getattr(passed, n)) for n, change in wrong.items()}), c
    )


def _without_curvature(cell: Any, params: Any, passed: Any, c: np.ndarray) -> Any:
    flat = rc.cells.make_cell(cell.name, cell.phi.name, **{name: getattr(cell, name) for name in cell.options})
    flat.phi = replace(cell.phi, second=lambda xp, a: 0.0 * a)
    return RIGHT(flat, params, passed, c)


BUGS: dict[str, Callable[..., Any]] = {
    "slopes held constant": _without_curvature,
    "R for its transpose": _changed(R=lambda each: [np.matrix_transpose(R) for R in each]),
    "the frame after the step": _changed(Q=lambda each: [*each[1:], each[-1]]),
    "the state after the step": _changed(h=lambda each: [*each[1:], each[-1]]),
    "the mean over another number": lambda cell, params, passed, c: RIGHT(cell, params, passed, 2.0 * c),
    "one exponent left out": lambda cell, params, passed, c: RIGHT(
        cell, params, passed, c * (np.arange(c.shape[1]) > 0)
    ),
}


@both_cells
@pytest.mark.parametrize("bug", list(BUGS))
def test_a_planted_bug_is_seen(bug: str, cell: str) -> None:
    """A comparison that lets one of these pass proves nothing."""
    network = draw_network(cell, T=9, B=3, H=5)
    assert worst(network, 3) < LIMIT
    with planted("_backward", BUGS[bug]):
        assert worst(network, 3) > 1e-3


@both_cells
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "rho", "k"), [("tanh", 1.2, None), ("tanh", 3.0, 2), ("identity", 1.0, 4), ("softsign", 1.5, 7)])  # fmt: skip
def test_a_study_checks_it(cell: str, activation: str, rho: float, k: int | None, dtype: str) -> None:
    """The engine check raises a false alarm, or lets a bug pass."""
    options = {"residual_step": 0.6, "residual_leak": 0.5} if cell == "residual" else {}
    e = rc.Experiment(cell=cell, activation=activation, spectral_radius=rho, sequence_length=80, hidden_size=7, batch_size=3, dtype=dtype, flossing=2, flossing_exponents=k, **options)  # fmt: skip
    problem = with_biases(rc.prepare(e))
    x, _ = problem.batch(0)
    limit = 1e-11 if dtype == "float64" else 1e-5
    assert oracle.check(problem, problem.params, x).relative < limit
    with planted("_backward", BUGS["R for its transpose" if (k or 7) > 1 else "the mean over another number"]):
        assert oracle.check(problem, problem.params, x).relative > 1e-3


# ---- where there is no gradient ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
def test_a_dead_direction_has_no_exponent() -> None:
    """Rounding is taken for a direction: ln 1e-17 is trained on."""
    params = {"weight_ih": np.ones((4, 1)), "weight_hh": np.eye(4), "bias_ih": np.array([1.0, 1.0, -9.0, 1.0])}
    found = rc.flossing_loss(rc.VanillaCell("relu"), params, np.ones((5, 2, 1)))
    assert found.loss == math.inf and np.isnan(found.gradients["weight_hh"]).all()
    params["weight_hh"][0, 0] = np.inf
    assert math.isnan(rc.flossing_loss(rc.VanillaCell("tanh"), params, np.ones((5, 2, 1))).loss)
    e = rc.Experiment(activation="relu", hidden_size=12, sequence_length=20, flossing=5)
    result = rc.run(e)
    assert result["flossing_updates"] == 0 and result["flossing_loss"] == math.inf
    np.testing.assert_array_equal(rc.prepare(e).params["weight_hh"], rc.prepare(replace(e, flossing=0)).params["weight_hh"])  # fmt: skip
    with pytest.raises(Abstains, match="a direction dies"):
        oracle.check(rc.prepare(e), rc.prepare(e).params, rc.prepare(e).batch(0)[0])


@pytest.mark.parametrize("cell", [cell for cell in rc.CELLS if cell not in COVERED])
def test_other_cells_are_refused_in_words(cell: str) -> None:
    message = "is not allowed.*; only vanilla and residual can be flossed"
    with pytest.raises(ValueError, match=f"flossing: 9 {message}"):
        rc.Experiment(cell=cell, flossing=9)
    network = draw_network(cell)
    with pytest.raises(ValueError, match=f"cell: '{cell}' {message}"):
        rc.flossing_loss(network.cell, network.params, network.x)


def test_a_stack_of_layers_is_refused() -> None:
    """One layer of a stack is flossed as if the others were not there."""
    message = "flossing: 9 is not allowed with layers: 2; an exponent is of one recurrence, and every layer and direction has its own"
    with pytest.raises(ValueError, match=message):
        rc.Experiment(layers=2, flossing=9)
    assert rc.Experiment(layers=2).flossing == 0


@pytest.mark.parametrize("k", [0, 5, 2.0, True])
def test_a_number_of_exponents_that_there_are_not_is_refused(k: Any) -> None:
    network = draw_network(H=4)
    with pytest.raises(ValueError, match=r"k: .* is not allowed; it must be an integer from 1 to 4"):
        rc.flossing_loss(network.cell, network.params, network.x, k)
    with pytest.raises(
        ValueError, match="flossing_exponents: 9 is not allowed; a network of hidden_size: 8 has no more"
    ):
        rc.Experiment(hidden_size=8, flossing_exponents=9)


# ---- before training -----------------------------------------------------------------------------------------------------------


def spectrum(problem: rc.Problem, k: int, batch: int) -> np.ndarray:
    """The k largest exponents of one network on the sequences of a batch, mean over some of them, by a frame that goes back."""
    tape = rc.forward(problem.cell, {n: v for n, v in problem.params.items() if not n.endswith("ho")}, problem.batch(batch)[0])  # fmt: skip
    return np.mean([rc.theory.lyapunov_spectrum(tape, k, burn_in=20, sample=b).exponents for b in range(4)], axis=0)


WEAK = {"hidden_size": 16, "sequence_length": 150, "batch_size": 4, "seed": 1, "input_scale": 0.1}


@pytest.mark.parametrize(
    ("settings", "k", "updates", "limit"),
    [
        ({"spectral_radius": 0.5}, 6, 200, 0.1),
        ({"cell": "residual", "residual_step": 0.3, "residual_leak": 0.3, "spectral_radius": 0.7}, 6, 150, 0.03),
        ({"spectral_radius": 1.0}, 16, 300, 0.2),  # the last one from -3.1
    ],
)
def test_flossing_brings_exponents_to_zero(settings: dict[str, Any], k: int, updates: int, limit: float) -> None:
    """The loss falls and the exponents of other, longer sequences, measured in another way, do not come near zero."""
    e = rc.Experiment(**WEAK, flossing=updates, flossing_exponents=k, **settings)
    drawn, flossed = rc.prepare(replace(e, flossing=0)), rc.prepare(e)
    before, after = spectrum(drawn, k, 1000), spectrum(flossed, k, 1000)
    assert np.abs(before).max() > 6.0 * limit
    assert np.abs(after).max() < limit, (before, after)


def test_a_flossed_network_keeps_its_gradient() -> None:
    """The norm at the first step is next to nothing, as without flossing."""
    e = rc.Experiment(**WEAK, spectral_radius=0.5)
    plain, flossed = rc.run(e), rc.run(replace(e, flossing=200, flossing_exponents=6))
    decades = [float(r.traces["log10_grad_norm"][0] - r.traces["log10_grad_norm"][-1]) for r in (plain, flossed)]
    assert decades[0] < -40.0 and decades[1] > -5.0, decades
    assert flossed["flossing_updates"] == 200
    assert flossed["flossing_loss"] < 1e-2 * flossed["flossing_loss_drawn"]
    assert plain["flossing_updates"] is None and math.isnan(plain["flossing_loss"])
    assert math.isnan(flossed["mean_field_rate"]) and not math.isnan(plain["mean_field_rate"])


SMALL = rc.Experiment(hidden_size=6, sequence_length=12, batch_size=3, flossing=3, flossing_exponents=2)


def test_it_is_adam_by_the_first_batches() -> None:
    """Updates follow another rule or rate, see other inputs, or the readout is moved, too."""
    e = replace(SMALL, sequence_length=80)
    drawn, flossed = rc.prepare(replace(e, flossing=0)), rc.prepare(e)
    own = {name: torch.tensor(v, requires_grad=True) for name, v in drawn.params.items() if not name.endswith("ho")}
    adam = torch.optim.Adam(own.values(), lr=1e-3)
    for update in range(3):
        adam.zero_grad()
        x = torch.tensor(drawn.batch(update)[0][:55, :16])
        oracle.loss_of(torch.tanh, own, x, 2).backward()
        adam.step()
    for name, value in own.items():
        np.testing.assert_allclose(flossed.params[name], value.detach().numpy(), rtol=1e-9, atol=1e-12)
    for name in ("weight_ho", "bias_ho"):
        np.testing.assert_array_equal(flossed.params[name], drawn.params[name])


def test_runs_alone_are_runs_together() -> None:
    """A flossed network of one length is taken for that of another, as networks that are not flossed may be."""
    every = [replace(SMALL, sequence_length=T, clipping=clipping) for T in (5, 12, 20) for clipping in ("none", "norm:1.0")]  # fmt: skip
    found = dict(rc.run_many(every))
    for e in every:
        alone = rc.run(e)
        np.testing.assert_equal(found[e].summary, alone.summary)
        np.testing.assert_equal(found[e].traces, alone.traces)


def test_a_network_is_flossed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spectra, checks and runs that differ in training floss the same network again; or training changes how it starts."""
    before_training._remembered.clear()
    first = rc.prepare(SMALL)
    monkeypatch.setattr(before_training, "_flossed", None)  # no second time
    for other in ({"updates": 5, "optimizer": "adam"}, {"clipping": "norm:1.0"}, {"dtype": "float32"}):
        again = rc.prepare(replace(SMALL, **other))
        np.testing.assert_array_equal(again.params["weight_hh"], first.params["weight_hh"].astype(again.params["weight_hh"].dtype))  # fmt: skip
        again.params["weight_hh"][:] = 0.0  # a network's own
    with pytest.raises(TypeError):
        rc.prepare(replace(SMALL, seed=1))


def test_keys_of_runs_without_it_are_as_before() -> None:
    """Every finished run of every study would be made again."""
    assert rc.Experiment().key == "e8e3391659cda68f"
    assert rc.Experiment(flossing=0).key == rc.Experiment().key
    keys = {
        replace(SMALL, **change).key for change in ({}, {"flossing": 4}, {"flossing_exponents": 3}, {"flossing": 0})
    }
    assert len(keys) == 4


def test_the_oracle_asks_for_no_pandas() -> None:
    """torch loads its compiler for some second derivatives, and that asks for pandas, which a job of a study leaves out."""
    program = (
        "import sys; sys.modules['pandas'] = None\n"
        "import torch; from rnn_core.oracles import flossing\n"
        "from rnn_core.oracles.activations import ACTIVATIONS\n"
        "for phi in ACTIVATIONS.values():\n"
        "    p = {'weight_ih': torch.ones(3, 2), 'weight_hh': torch.eye(3) + 0.1 * torch.ones(3, 3)}\n"
        "    flossing.gradients_of(phi.tensor, p, torch.ones(2, 1, 2), 2)\n"
        "assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
