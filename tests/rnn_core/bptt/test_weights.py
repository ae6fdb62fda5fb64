"""Which step writes a weight's gradient, and how large the entries of a gradient are: against programs that share nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given

import rnn_core as rc
from rnn_core import compiled
from rnn_core.arrays import to_numpy
from rnn_core.bptt import weights
from rnn_core.oracles.tensors import step_of
from tests.support.arrays import DTYPES, LIBRARIES, array, quick
from tests.support.networks import Network, draw_network, networks

every_cell = pytest.mark.parametrize("cell", [name for name, kind in rc.CELLS.items() if kind.has_matrix])
LIMIT = {"float64": 1e-11, "float32": 2e-4}


def copies_of_the_weight(network: Network) -> np.ndarray:
    """G_t of every step, (T, G·H, H) or (T, H, 1): torch differentiates by a copy of W_hh that this step alone uses."""
    step = step_of(network.cell.name, network.cell.phi.name, network.options)
    p = {name: torch.tensor(value) for name, value in network.params.items()}
    state = {name: torch.tensor(value) for name, value in network.initial().items()}
    own = [p["weight_hh"].clone().requires_grad_() for _ in network.x]
    loss: Any = 0.0
    for W, x_t, g_t in zip(own, torch.tensor(network.x), torch.tensor(network.grad_hidden), strict=True):
        state = step({**p, "weight_hh": W}, x_t, state)
        loss = loss + (state["hidden"] * g_t).sum()
    for name, value in network.initial("grad_state").items():
        loss = loss + (state[name] * torch.tensor(value)).sum()
    found = np.stack([g.numpy() for g in torch.autograd.grad(loss, own)])
    return found if found.ndim == 3 else found[..., None]  # of a diagonal


def worst_error(shares: weights.WeightShares, copies: np.ndarray) -> float:
    """Of norms relative, of cosines absolute: they are at most 1."""
    norms = np.linalg.norm(copies, axis=(1, 2))
    whole = copies.sum(axis=0)
    with np.errstate(all="ignore"):
        cosines = (copies * whole).sum(axis=(1, 2)) / (norms * np.linalg.norm(whole))
        errors = np.abs(np.exp(shares.log_norm) / norms - 1.0)
    zero = norms == 0.0
    assert (shares.log_norm[zero] == -np.inf).all()
    assert np.isnan(shares.cosine[zero]).all()
    return float(np.max([*errors[~zero], *np.abs(shares.cosine - cosines)[~zero], 0.0]))


# ---- in range --------------------------------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 4), (1, 5), (12, 3)])
def test_every_share_is_the_gradient_of_a_copy(cell: str, library: str, dtype: str, shape: tuple[int, int]) -> None:
    """One sample, fewer samples than units, and more."""
    B, H = shape
    network = draw_network(cell, T=9, B=B, H=H, seed=B)
    copies = copies_of_the_weight(network)
    _, gradients = network.to(library, dtype).run()
    assert gradients.weight_shares.names == ("weight_hh",)
    assert worst_error(gradients.weight_shares, copies) < LIMIT[dtype]
    assert gradients.weight_shares.log_norm_sum == pytest.approx(
        math.log(np.linalg.norm(copies.sum(axis=0))), abs=LIMIT[dtype]
    )


@every_cell
def test_by_readable_steps_and_with_checkpoints(cell: str) -> None:
    """Steps that are not kept are taken once more; a direct part may be a function."""
    network = draw_network(cell, T=300, B=3, H=4)
    _, reference = network.run()
    for budget, direct in ((1, network.grad_hidden), (1, lambda start, stop: network.grad_hidden[start:stop])):
        tape = rc.forward(network.cell, network.params, network.x, network.state, memory_budget=budget)
        gradients = rc.backward(tape, direct, network.grad_state)
        assert isinstance(gradients.hidden, rc.NotKept)
        np.testing.assert_allclose(gradients.weight_shares.log_norm, reference.weight_shares.log_norm, rtol=1e-11)
        np.testing.assert_allclose(gradients.weight_shares.cosine, reference.weight_shares.cosine, rtol=1e-8)
        np.testing.assert_allclose(gradients.entry_quantiles.log2, reference.entry_quantiles.log2, rtol=1e-11)
    with compiled.switched_off():
        _, readable = network.run()
        np.testing.assert_allclose(
            readable.weight_shares.log_norm, reference.weight_shares.log_norm, rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize("gain", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("activation", "B", "H"), [("tanh", 1, 7), ("relu", 5, 12), ("sigmoid", 17, 24)])
@every_cell
def test_compiled_is_readable(cell: str, activation: str, B: int, H: int, dtype: str, gain: float) -> None:
    """Vanishing, staying and exploding over 400 steps; columns that fill no whole vector."""
    network = draw_network(cell, activation, T=400, B=B, H=H, gain=gain, loss_at="last", with_state=False)
    gradients = network.to("numpy", dtype).run()[1]
    fast = gradients.weight_shares
    with compiled.switched_off():  # from the same states and the same dL/dh_t
        slow = gradients.find_weight_shares(())
    limit = 1e-11 if dtype == "float64" else 1e-4
    same = np.isfinite(slow.log_norm)
    np.testing.assert_array_equal(np.isfinite(fast.log_norm), same)
    np.testing.assert_allclose(fast.log_norm[same], slow.log_norm[same], rtol=0, atol=limit)
    np.testing.assert_allclose(fast.cosine, slow.cosine, rtol=0, atol=limit)


@given(network=networks())
@quick
def test_shares_make_one(network: Network) -> None:
    """Σ_t ⟨G_t, G⟩ = ‖G‖², whatever the network."""
    shares = network.run()[1].weight_shares
    if np.isfinite(shares.log_norm_sum):
        assert shares.share.sum() == pytest.approx(1.0, abs=1e-12 * np.abs(shares.share).sum())
        assert (np.abs(shares.cosine[np.isfinite(shares.cosine)]) <= 1.0).all()


@every_cell
@pytest.mark.parametrize("window", [1, 3, 7])
def test_with_a_window(cell: str, window: int) -> None:
    """Truncated: every share is that of the truncated gradient, and together they still make one."""
    network = draw_network(cell, T=10, B=2, H=3)
    tape, _ = network.run()
    gradients = rc.backward(tape, network.grad_hidden, network.grad_state, window=window)
    shares = gradients.weight_shares
    assert shares.share.sum() == pytest.approx(1.0, abs=1e-12 * np.abs(shares.share).sum())
    whole = to_numpy(gradients.params["weight_hh"])
    assert shares.log_norm_sum == pytest.approx(math.log(np.linalg.norm(whole)))
    for edge in range(window, 10, window):  # the steps behind the edge are a sequence of their own
        after = replace(
            network,
            x=network.x[-edge:],
            grad_hidden=network.grad_hidden[-edge:],
            state={n: tape.states(n)[-edge - 1] for n in network.cell.state_names},
        )
        own = rc.backward(after.run()[0], after.grad_hidden, after.grad_state, window=window).weight_shares
        np.testing.assert_allclose(shares.log_norm[-edge:], own.log_norm, rtol=1e-11, atol=1e-11)


def test_samples_that_cancel_lose_no_digits() -> None:
    """Of two equal samples with opposite losses a Gram matrix would leave half of the digits."""
    network = draw_network("vanilla", T=5, B=2, H=6, with_state=False)
    network.x[:, 1] = network.x[:, 0]
    for size in (0.0, 1e-9):
        network.grad_hidden[:, 1] = -network.grad_hidden[:, 0] * (1.0 + size)
        copies, shares = copies_of_the_weight(network), network.run()[1].weight_shares
        norms = np.linalg.norm(copies, axis=(1, 2))
        if size:
            np.testing.assert_allclose(np.exp(shares.log_norm[1:]), norms[1:], rtol=1e-5)  # 1e-16 / 1e-9 and a margin
        else:
            single = np.linalg.norm(copies_of_the_weight(replace(network, x=network.x[:, :1], grad_hidden=network.grad_hidden[:, :1])), axis=(1, 2))  # fmt: skip
            assert (np.exp(shares.log_norm[1:]) < 1e-14 * single[1:]).all()


# ---- where there is nothing, or no number ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("cell", ["vanilla", "gru_reset_before", "lstm"])
def test_nothing_is_minus_infinity_and_has_no_cosine(cell: str, library: str) -> None:
    network = draw_network(cell, T=6, B=2, H=3).to(library)
    tape = rc.forward(network.cell, network.params, network.x)  # h_0 = 0: the first step writes nothing
    gradients = rc.backward(tape, network.grad_hidden)
    assert gradients.weight_shares.log_norm[0] == -np.inf
    assert np.isnan(gradients.weight_shares.cosine[0])
    assert gradients.weight_shares.share[0] == 0.0
    nothing = rc.backward(tape)
    assert (nothing.weight_shares.log_norm == -np.inf).all()
    assert np.isnan(nothing.weight_shares.cosine).all()
    assert nothing.weight_shares.log_norm_sum == -np.inf
    assert np.isnan(nothing.weight_shares.share).all()
    assert (nothing.entry_quantiles.log2 == -np.inf).all()
    assert (nothing.entry_quantiles.zero == 1.0).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_says_so(bad: float) -> None:
    network = draw_network("vanilla", T=6, B=2, H=3)
    network.grad_hidden[3, 0, 1] = bad
    _, gradients = network.run()
    assert not np.isfinite(gradients.weight_shares.log_norm[3])
    assert np.isfinite(gradients.weight_shares.log_norm[4:]).all()
    assert np.isnan(gradients.weight_shares.cosine).all()  # the sum is not a number
    assert np.isfinite(gradients.entry_quantiles.log2[4:]).all()
    assert not np.isfinite(gradients.entry_quantiles.log2[3, -1])


# ---- beyond the range of floats --------------------------------------------------------------------------------------------


def exact_shares(T: int, power: int) -> tuple[list[mp.mpf], list[mp.mpf]]:
    """(ln ‖G_t‖, cosines) of h_t = 2**power P h_{t-1} + x_t for a permutation P, in rational numbers."""
    factor, P = Fraction(2) ** power, (1, 2, 0)
    h, before = [Fraction(1), Fraction(2), Fraction(-1)], []
    for _ in range(T):
        before.append(h)
        h = [factor * h[i] for i in P]
    dh, products = [Fraction(1), Fraction(-3), Fraction(1, 2)], []
    for t in reversed(range(T)):
        products.append([[d * f for f in before[t]] for d in dh])
        dh = [factor * dh[j] for j in (2, 0, 1)]
    products.reverse()
    whole = [[sum(G[i][j] for G in products) for j in range(3)] for i in range(3)]

    def inner(A: list[list[Fraction]], B: list[list[Fraction]]) -> mp.mpf:
        total = sum(a * b for r, s in zip(A, B, strict=True) for a, b in zip(r, s, strict=True))
        return mp.mpf(total.numerator) / total.denominator

    norms = [mp.sqrt(inner(G, G)) for G in products]
    return [mp.log(n) for n in norms], [inner(G, whole) / (n * mp.sqrt(inner(whole, whole))) for G, n in zip(products, norms, strict=True)]  # fmt: skip


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("power", [-40, -1, 30])
def test_beyond_range_it_is_that_of_rational_numbers(power: int, library: str) -> None:
    """States and gradients leave the range together: every share has the same size, 2**(power (T - 1))."""
    T = 60 if abs(power) > 1 else 2500
    W = 2.0**power * np.eye(3)[[1, 2, 0]]
    params = {"weight_ih": array(np.ones((3, 1)), library), "weight_hh": array(W, library)}
    start = {"hidden": array([[1.0, 2.0, -1.0]], library)}
    grad = np.zeros((T, 1, 3))
    grad[-1] = [1.0, -3.0, 0.5]
    tape = rc.forward(rc.VanillaCell("identity"), params, array(np.zeros((T, 1, 1)), library), start)
    shares = rc.backward(tape, array(grad, library)).weight_shares
    norms, cosines = exact_shares(T, power)
    np.testing.assert_allclose(shares.log_norm, np.array(norms, dtype=float), rtol=1e-14)
    np.testing.assert_allclose(shares.cosine, np.array(cosines, dtype=float), rtol=1e-12)
    assert shares.share.sum() == pytest.approx(1.0, rel=1e-12)


@every_cell
@pytest.mark.parametrize("power", [-3000, 3000])
def test_scaling_the_loss_moves_the_norms_alone(cell: str, power: int) -> None:
    """dL/dW is linear in the loss; 2**±3000 is far out of range."""
    network = draw_network(cell, T=40, B=3, H=4)
    tape, gradients = network.run()
    moved = rc.backward(
        tape,
        rc.Scaled(network.grad_hidden, power),
        {name: rc.Scaled(value, power) for name, value in (network.grad_state or {}).items()},
    )
    shares, expected = moved.weight_shares, gradients.weight_shares
    np.testing.assert_allclose(shares.log_norm - power * math.log(2.0), expected.log_norm, rtol=0, atol=1e-11)
    np.testing.assert_allclose(shares.cosine, expected.cosine, rtol=1e-9)
    np.testing.assert_allclose(moved.entry_quantiles.log2 - power, gradients.entry_quantiles.log2, rtol=0, atol=1e-11)


@pytest.mark.parametrize("a", [300.0, 340.0])
def test_saturated_units_still_write(a: float) -> None:
    """A slope of 1e-260 or 1e-294 beside a gradient of 1e-200: in plain floats nothing would be left."""
    params = {"weight_ih": np.eye(2), "weight_hh": np.eye(2)}
    x = np.full((2, 1, 2), a)
    tape = rc.forward(rc.VanillaCell("tanh"), params, x, {"hidden": np.array([[0.5, -0.25]])})
    grad = np.zeros((2, 1, 2))
    grad[0] = [1e-200, 2e-200]
    shares = rc.backward(tape, grad).weight_shares
    slopes = [4 * mp.exp(-2 * mp.mpf(a + h)) for h in (0.5, -0.25)]
    dv = [mp.mpf(1e-200) * slopes[0], mp.mpf(2e-200) * slopes[1]]
    expected = mp.log(mp.sqrt(dv[0] ** 2 + dv[1] ** 2) * mp.sqrt(mp.mpf(0.5) ** 2 + mp.mpf(0.25) ** 2))
    assert shares.log_norm[0] == pytest.approx(float(expected), rel=1e-13)
    assert shares.cosine[0] == pytest.approx(1.0, rel=1e-12)


def test_a_saturated_gate_in_float32_still_writes() -> None:
    """z = 1 - 1e-26, a slope of 1e-34, and n = h_{t-1} = 1, so that the update gate receives nothing: float32 holds no factor of dL/dv."""
    params = {
        "weight_ih": np.zeros((3, 1)),
        "weight_hh": np.full((3, 1), 0.125),
        "bias_ih": np.array([0.0, 60.0, 40.0]),
    }
    params = {name: value.astype(np.float32) for name, value in params.items()}
    tape = rc.forward(rc.GRUCell(), params, np.zeros((1, 1, 1), np.float32), {"hidden": np.ones((1, 1), np.float32)})
    shares = rc.backward(tape, np.ones((1, 1, 1), np.float32)).weight_shares
    r = 1.0 / (1.0 + math.exp(-0.125))
    da_n = 4.0 * math.exp(-2.0 * (40.0 + 0.125 * r)) * math.exp(-60.125)
    dv_r, dv_n = r * (1.0 - r) * 0.125 * da_n, r * da_n
    assert shares.log_norm[0] == pytest.approx(math.log(math.hypot(dv_r, dv_n)), abs=1e-4)


# ---- a user's own module -------------------------------------------------------------------------------------------------


MODULES = {"vanilla": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}


@pytest.mark.parametrize("budget", [None, 1])
@pytest.mark.parametrize("power", [0, 3000])
@pytest.mark.parametrize("cell", list(MODULES))
def test_a_module_has_the_shares_of_its_parameters(cell: str, power: int, budget: int | None) -> None:
    """torch's own cell as anybody's module, beside ours: of weight_hh the same shares; of all parameters they make one."""
    network = draw_network(cell, T=9, B=3, H=4, with_state=False)
    ours = network.run()[1].weight_shares
    theirs = rc.TorchCell(MODULES[cell](2, 4).double())
    params = {name: torch.as_tensor(value) for name, value in network.params.items()}
    tape = rc.forward(theirs, params, torch.as_tensor(network.x), memory_budget=budget)
    gradients = rc.backward(tape, rc.Scaled(torch.as_tensor(network.grad_hidden), power))
    shares = gradients.weight_shares_of("weight_hh")
    assert shares.names == ("weight_hh",)
    np.testing.assert_allclose(shares.log_norm - power * math.log(2.0), ours.log_norm, rtol=0, atol=1e-11)
    np.testing.assert_allclose(shares.cosine, ours.cosine, rtol=0, atol=1e-11)
    whole = gradients.weight_shares
    assert set(whole.names) == set(params)
    assert whole.share.sum() == pytest.approx(1.0, rel=1e-12)
    assert (whole.log_norm >= shares.log_norm).all()
    np.testing.assert_allclose(
        gradients.entry_quantiles.log2 - power, network.run()[1].entry_quantiles.log2, atol=1e-11
    )
    with pytest.raises(ValueError, match="parameters: 'weight' is not known"):
        gradients.weight_shares_of("weight")


def test_a_cell_without_the_weight_is_refused() -> None:
    """Shares of a weight that is not there are numbers of something else."""
    with pytest.raises(ValueError, match="tape: its cell 'mingru' has no weight_hh"):
        _ = draw_network("mingru").run()[1].weight_shares


def test_of_our_cells_there_is_one_weight() -> None:
    _, gradients = draw_network().run()
    np.testing.assert_equal(gradients.weight_shares_of("weight_hh").cosine, gradients.weight_shares.cosine)
    with pytest.raises(ValueError, match="parameters: 'bias_hh' is not known; allowed: weight_hh"):
        gradients.weight_shares_of("bias_hh")


# ---- planted bugs: the tests above would see them --------------------------------------------------------------------------


def _h_of_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_states_before", lambda segment, piece: segment.states["hidden"][1:][piece])


def _no_factor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rc.GRUResetBeforeCell, "factors", lambda self, saved, h_prev: [h_prev])


def _factor_of_another_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "_merged", lambda factors, rows: (factors[:1], [slice(0, rows)]))


def _no_exponent_of_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    original = weights.steps_at_size_one
    monkeypatch.setattr(weights, "steps_at_size_one", lambda x, B: (original(x, B)[0], 0 * original(x, B)[1]))


def _norms_added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples as if they were at right angles, without the Gram matrices' other entries."""
    original = weights._block

    def diagonal(d: Any, f: Any, G: Any, B: int) -> Any:
        squares = ((d.reshape(len(d), -1, B) ** 2).sum(0) * (f.reshape(len(f), -1, B) ** 2).sum(0)).sum(1)
        return original(d, f, G, B)._replace(squares=squares)

    monkeypatch.setattr(weights, "_block", diagonal)


@pytest.mark.parametrize(
    "plant", [_h_of_the_same_step, _no_factor, _factor_of_another_block, _no_exponent_of_the_state, _norms_added]
)
def test_planted_bugs_are_seen(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    network = draw_network("gru_reset_before", T=9, B=3, H=4, seed=3)
    copies = copies_of_the_weight(network)
    with compiled.switched_off():
        assert worst_error(network.run()[1].weight_shares, copies) < LIMIT["float64"]
        plant(monkeypatch)
        assert worst_error(network.run()[1].weight_shares, copies) > 1e-3


# ---- how large entries are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_quantiles_are_numpys(activation: str, library: str) -> None:
    network = draw_network("vanilla", activation, T=7, B=3, H=5, loss_at="last").to(library)
    found = network.run()[1].entry_quantiles
    hidden = to_numpy(network.run()[1].hidden)
    for t, entries in enumerate(hidden.reshape(len(hidden), -1)):
        nonzero = entries[entries != 0.0]
        assert found.zero[t] == pytest.approx(1.0 - len(nonzero) / len(entries))
        np.testing.assert_allclose(found.log2[t], np.quantile(np.log2(np.abs(nonzero)), found.levels), rtol=1e-13, atol=1e-13)  # fmt: skip


def test_quantiles_beyond_range() -> None:
    """dL/dh_t = 2**(power (T - t)) times the last one, entry by entry."""
    T, power = 3000, -3
    params = {"weight_ih": np.ones((4, 1)), "weight_hh": 2.0**power * np.eye(4)}
    tape = rc.forward(rc.VanillaCell("identity"), params, np.zeros((T, 2, 1)))
    grad = np.zeros((T, 2, 4))
    grad[-1] = np.random.default_rng(0).standard_normal((2, 4))
    found = rc.backward(tape, grad).entry_quantiles
    at_the_end = np.quantile(np.log2(np.abs(grad[-1])), found.levels)
    expected = at_the_end + power * np.arange(T - 1, -1, -1)[:, None]
    np.testing.assert_allclose(found.log2, expected, rtol=1e-14, atol=1e-13)


def test_gradients_made_by_hand_say_that_they_do_not_know() -> None:
    _, gradients = draw_network().run()
    with pytest.raises(LookupError, match="weight_shares"):
        _ = replace(gradients, find_weight_shares=rc.Gradients.find_weight_shares).weight_shares


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
@pytest.mark.parametrize("memory_budget", [None, 1])
def test_a_module_of_the_users_has_the_shares_of_autograd(kind: str, memory_budget: int | None) -> None:
    """Every step has parameters of its own; their gradients are G_t. An LSTM's cell state acts through its hidden state, too."""
    torch.manual_seed(3)
    module = getattr(torch.nn, kind)(3, 5).double()
    x, g = torch.randn(30, 4, 3, dtype=torch.float64), torch.randn(30, 4, 5, dtype=torch.float64)
    cell = rc.TorchCell(module)
    shares = rc.backward(rc.forward(cell, cell.params(), x, memory_budget=memory_budget), g).weight_shares

    own = [{name: value.detach().clone().requires_grad_() for name, value in module.named_parameters()} for _ in x]
    state, loss = None, torch.zeros((), dtype=torch.float64)
    for t, params in enumerate(own):
        state = torch.func.functional_call(module, params, (x[t], state))
        loss = loss + ((state[0] if isinstance(state, tuple) else state) * g[t]).sum()
    loss.backward()
    by_step = np.array([np.concatenate([value.grad.numpy().ravel() for value in params.values()]) for params in own])
    norms, whole = np.linalg.norm(by_step, axis=1), by_step.sum(axis=0)
    np.testing.assert_allclose(shares.log_norm, np.log(norms), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(shares.cosine, by_step @ whole / (norms * np.linalg.norm(whole)), rtol=1e-11, atol=1e-13)
    assert shares.names == tuple(dict(module.named_parameters()))
    assert shares.share.sum() == pytest.approx(1.0, rel=1e-12)
