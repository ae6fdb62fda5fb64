"""Every cell against torch's modules, autograd and complex steps, and the theorems that hold of it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.arrays import namespace, to_numpy
from rnn_core.cells import make_cell
from tests.support.arrays import DTYPES, LIBRARIES, array, quick, relative, worst_relative
from tests.support.networks import BIASES, Network, draw_network, networks, samples
from tests.support.programs import assert_agrees, autograd_program, complex_step_program

CELLS = list(rc.CELLS)
NAMES = list(rc.ACTIVATIONS)
EXACT = 1e-12  # relative, per time step, atol = 0
LIMIT = {"float64": EXACT, "float32": 2e-5}
MODULES = [("vanilla", "tanh"), ("vanilla", "relu"), ("gru", "tanh"), ("lstm", "tanh")]
few = settings(quick, max_examples=4)  # for tests that are also repeated over many parameters

every_cell = pytest.mark.parametrize("cell", CELLS)


# ---- torch.nn ----------------------------------------------------------------------------------------------------------


def module_for(cell: str, activation: str, D: int, H: int, **options: Any) -> torch.nn.RNNBase:
    """PyTorch's own module in float64."""
    if cell == "vanilla":
        return torch.nn.RNN(D, H, nonlinearity=activation, dtype=torch.float64, **options)
    return {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[cell](D, H, dtype=torch.float64, **options)


def load(module: torch.nn.RNNBase, params: dict[str, Any], suffix: str = "_l0") -> None:
    """Copies parameters into a module, under the same names; a bias that is not there is zero."""
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            theirs = getattr(module, name + suffix, None)
            if theirs is not None:
                theirs.copy_(torch.tensor(params[name]) if name in params else torch.zeros_like(theirs))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("cell", "activation"), MODULES)
@given(data=st.data())
@quick
def test_a_cell_is_torchs_module(cell: str, activation: str, library: str, dtype: str, data: st.DataObject) -> None:
    """A name, a shape, the order of gates, the meaning of a bias or of the initial state is not torch.nn's."""
    network: Network = data.draw(networks(cell, activation))
    module = module_for(
        cell,
        activation,
        network.x.shape[2],
        network.grad_hidden.shape[2],
        bias=any("bias" in n for n in network.params),
    )
    load(module, network.params)
    x = torch.tensor(network.x, requires_grad=True)
    start = [torch.tensor(value[None], requires_grad=True) for value in network.initial().values()]
    hidden, end = module(x, tuple(start) if cell == "lstm" else start[0])
    last = list(end) if cell == "lstm" else [end]
    loss = (hidden * torch.tensor(network.grad_hidden)).sum()
    for part, g in zip(last, network.initial("grad_state").values(), strict=True):
        loss = loss + (part[0] * torch.tensor(g)).sum()
    loss.backward()

    # In float32 dL/dx_t of one unit and one sample may cancel by a factor of thousands.
    limit = EXACT if dtype == "float64" else 1e-3
    tape, gradients = network.to(library, dtype).run()
    assert worst_relative(tape.hidden, hidden) <= limit
    assert x.grad is not None
    assert worst_relative(gradients.x, x.grad) <= limit
    for name, before, after in zip(tape.cell.state_names, start, last, strict=True):
        assert relative(tape.state[name], after[0]) <= limit, name
        assert before.grad is not None
        assert relative(gradients.state[name], before.grad[0]) <= limit, name
    assert set(gradients.params) == set(network.params)
    for name, ours in gradients.params.items():
        assert relative(ours, getattr(module, f"{name}_l0").grad) <= limit, name


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("cell", "activation"), MODULES)
def test_drawn_parameters_have_torchs_names_and_shapes(cell: str, activation: str, bias: bool) -> None:
    """Parameters cannot be exchanged with torch.nn."""
    module = module_for(cell, activation, 3, 5, bias=bias)
    drawn = rc.CELLS[cell](activation).init_params(np.random.default_rng(0), 3, 5, bias=bias)
    theirs = {name.removesuffix("_l0"): tuple(value.shape) for name, value in module.named_parameters()}
    assert {name: value.shape for name, value in drawn.items()} == theirs


@pytest.mark.parametrize("biases", list(BIASES))
@every_cell
def test_an_absent_bias_is_a_zero_bias(cell: str, biases: str) -> None:
    """Leaving a bias out changes more than its own gradient, or something is returned for a parameter that is not there."""
    network = draw_network(cell, biases=biases)
    rows = len(network.params["weight_ih"])
    full = replace(network, params={"bias_ih": np.zeros(rows), "bias_hh": np.zeros(rows), **network.params})
    (tape, ours), (full_tape, theirs) = network.run(), full.run()
    np.testing.assert_array_equal(tape.hidden, full_tape.hidden)
    np.testing.assert_array_equal(ours.x, theirs.x)
    assert list(ours.params) == list(network.params)
    for name, gradient in ours.params.items():
        np.testing.assert_array_equal(gradient, theirs.params[name])


# ---- autograd of a plain loop, and complex steps -------------------------------------------------------------------------


@pytest.mark.parametrize("activation", NAMES)
@every_cell
@given(data=st.data())
@few
def test_backward_is_autograds(cell: str, activation: str, data: st.DataObject) -> None:
    """A gate's equation, its slope, its share of W_hh^T dv_t, a sum over time or batch, or a part of the state is wrong."""
    network: Network = data.draw(networks(cell, activation))
    assert_agrees(*network.run(), autograd_program(network), EXACT)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("activation", NAMES)
@every_cell
def test_libraries_and_dtypes_agree(cell: str, activation: str, library: str) -> None:
    """A library's code path differs, float32 is worse than rounding explains, or results come back in another type."""
    network = draw_network(cell, activation, seed=5)
    program = autograd_program(network)
    for dtype in DTYPES:
        tape, gradients = network.to(library, dtype).run()
        assert_agrees(tape, gradients, program, LIMIT[dtype])
        results = [tape.hidden, gradients.hidden, gradients.x, *gradients.params.values()]
        results += [*tape.state.values(), *gradients.state.values(), *map(tape.states, tape.cell.state_names)]
        results += [] if gradients.cell is None else [gradients.cell]
        kind = type(array(0.0, library))
        assert all(type(r) is kind and str(r.dtype).endswith(dtype) for r in results)
        assert type(gradients.log_norm) is type(gradients.log_norm_immediate) is np.ndarray
        assert gradients.log_norm.dtype == gradients.log_norm_immediate.dtype == np.float64


@given(step=st.floats(1e-3, 3.0), leak=st.floats(0.0, 1.0), seed=st.integers(0, 1000))
@quick
def test_residual_with_any_step_and_leak(step: float, leak: float, seed: int) -> None:
    """eta or lambda is left out, or taken for the other, somewhere on the way back."""
    network = draw_network("residual", seed=seed, step=step, leak=leak)
    assert_agrees(*network.run(), autograd_program(network), EXACT)


@pytest.mark.parametrize(
    ("activation", "biases"), [*((a, "both") for a in NAMES), *(("tanh", b) for b in ("none", "ih", "hh"))]
)
@every_cell
def test_backward_is_the_complex_steps(cell: str, activation: str, biases: str) -> None:
    """The backward pass is not the derivative of the forward equations; nothing here was differentiated by hand."""
    network = draw_network(cell, activation, seed=7, T=5, B=2, H=3, biases=biases)
    assert_agrees(*network.run(), complex_step_program(network), EXACT)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softsign", "gelu"])
@every_cell
def test_saturated_gates_keep_their_digits(cell: str, activation: str, seed: int) -> None:
    """1 - z, s (1 - s) or 1 - h² is written so that it cancels: where units saturate, the gradient has lost its digits."""
    network = draw_network(cell, activation, seed=seed, T=5, B=2, H=3)
    rng, rows = np.random.default_rng(seed), len(network.params["bias_ih"])
    bias = rng.choice([-1.0, 1.0], rows) * rng.uniform(12.0, 40.0, rows)
    if (
        "update" in network.cell.gates
    ):  # z near 1: near 0, h_{t-1} - n_t is a difference of two saturated n in any program
        first = network.cell.gates.index("update") * 3
        bias[first : first + 3] = np.abs(bias[first : first + 3])
    if cell == "mingru":  # whose z writes: near 0
        bias[:3] = -np.abs(bias[:3])
    if cell == "slstm":  # for the same reason w near 0: shut inputs, and nothing forgotten
        bias[3:6], bias[6:9] = -np.abs(bias[3:6]), np.abs(bias[6:9])
    saturated = replace(network, params={**network.params, "bias_ih": bias})
    assert_agrees(*saturated.run(), complex_step_program(saturated), EXACT)


# ---- what must hold of every cell ----------------------------------------------------------------------------------------


def results(gradients: rc.Gradients) -> dict[str, np.ndarray]:
    """Every gradient by name."""
    found = {**gradients.params, "x": gradients.x, "hidden": gradients.hidden}
    found |= {f"initial {name}": value for name, value in gradients.state.items()}
    found |= {} if gradients.cell is None else {"cell": gradients.cell}
    return {name: np.asarray(value) for name, value in found.items()}


def any_activation(cell: str) -> st.SearchStrategy[Network]:
    """Networks of one cell with any activation."""
    return st.sampled_from(NAMES).flatmap(lambda activation: networks(cell, activation))


@every_cell
@given(data=st.data(), a=st.floats(-3.0, 3.0), b=st.floats(-3.0, 3.0))
@quick
def test_backward_is_linear_in_the_loss(cell: str, data: st.DataObject, a: float, b: float) -> None:
    """Gradients of a·L1 + b·L2 are not a·∇L1 + b·∇L2: some term is missing, doubled or kept from an earlier call."""
    network: Network = data.draw(any_activation(cell))
    tape = network.run()[0]
    rng = np.random.default_rng(0)
    shape = network.grad_hidden.shape
    losses = [
        (rng.standard_normal(shape), {name: rng.standard_normal(shape[1:]) for name in tape.cell.state_names})
        for _ in range(2)
    ]
    first, second = (results(rc.backward(tape, g, s)) for g, s in losses)
    (g1, s1), (g2, s2) = losses
    both = results(rc.backward(tape, a * g1 + b * g2, {name: a * s1[name] + b * s2[name] for name in s1}))
    for name, value in both.items():
        size = abs(a) * np.linalg.norm(first[name]) + abs(b) * np.linalg.norm(second[name])
        assert np.linalg.norm(value - (a * first[name] + b * second[name])) <= 1e-13 * size, name


@every_cell
@given(data=st.data())
@quick
def test_a_batch_is_the_sum_of_its_samples(cell: str, data: st.DataObject) -> None:
    """Samples leak into each other, or parameter gradients are averaged instead of summed."""
    network: Network = data.draw(any_activation(cell))
    whole = results(network.run()[1])
    alone = [results(sample.run()[1]) for sample in samples(network)]
    for name, value in whole.items():
        parts = [part[name] for part in alone]
        if name in network.params:
            size = sum(np.linalg.norm(part) for part in parts)
            assert np.linalg.norm(value - sum(parts)) <= 1e-13 * size, name
        else:
            joined = np.concatenate(parts, axis=value.ndim - 2)
            assert np.linalg.norm(value - joined) <= 1e-13 * np.linalg.norm(joined), name


@pytest.mark.parametrize("library", LIBRARIES)
@every_cell
def test_two_halves_make_a_whole(cell: str, library: str) -> None:
    """The final state, or the gradient that enters and leaves through states, does not continue a sequence."""
    network = draw_network(cell, T=9).to(library)
    whole_tape, whole = network.run()
    first = rc.forward(network.cell, network.params, network.x[:4], network.state)
    second = rc.forward(network.cell, network.params, network.x[4:], first.state)
    late = rc.backward(second, network.grad_hidden[4:], network.grad_state)
    early = rc.backward(first, network.grad_hidden[:4], late.state)
    xp = namespace(network.x)
    for name in network.cell.state_names:
        joined = xp.concat([first.states(name), second.states(name)])
        np.testing.assert_array_equal(to_numpy(joined), to_numpy(whole_tape.states(name)))
        assert worst_relative(xp.concat([early.parts[name], late.parts[name]]), whole.parts[name]) <= EXACT
        assert relative(early.state[name], whole.state[name]) <= EXACT
    assert worst_relative(xp.concat([early.x, late.x]), whole.x) <= EXACT
    for name in whole.params:
        assert relative(early.params[name] + late.params[name], whole.params[name]) <= EXACT, name


def renamed_units(cell: str, H: int, rng: np.random.Generator) -> np.ndarray:
    """A permutation of the units; those of an LRU stay in pairs."""
    if cell != "lru":
        return rng.permutation(H)
    m = H // 2
    pairs = rng.permutation(m)
    return np.concatenate([pairs, np.arange(m, H - m), H - m + pairs])


@every_cell
@given(data=st.data(), seed=st.integers(0, 1000))
@quick
def test_renaming_hidden_units_renames_their_gradients(cell: str, data: st.DataObject, seed: int) -> None:
    """A unit is treated by its place: blocks of gates are cut at the wrong row, or a unit meets another one's gate."""
    network: Network = data.draw(networks(cell))
    H = network.grad_hidden.shape[2]
    order = renamed_units(cell, H, np.random.default_rng(seed))
    rows = np.concatenate([gate * H + order for gate in range(len(network.cell.gates))])

    def renamed(parts: dict[str, Any]) -> dict[str, Any]:
        return {
            name: p[rows][:, order] if p.shape == (len(rows), H) and name == "weight_hh" else p[rows]
            for name, p in parts.items()
        }

    def states(parts: dict[str, Any] | None) -> dict[str, Any] | None:
        return parts and {name: value[..., order] for name, value in parts.items()}

    other = replace(
        network,
        params=renamed(network.params),
        grad_hidden=network.grad_hidden[..., order],
        state=states(network.state),
        grad_state=states(network.grad_state),
    )
    (tape, before), (other_tape, after) = network.run(), other.run()
    for name in network.cell.state_names:
        assert worst_relative(other_tape.states(name), tape.states(name)[..., order]) <= EXACT, name
        assert worst_relative(after.parts[name], before.parts[name][..., order]) <= EXACT, name
        assert relative(after.state[name], before.state[name][..., order]) <= EXACT, name
    for name, value in renamed(before.params).items():
        assert relative(after.params[name], value) <= EXACT, name
    assert worst_relative(after.x, before.x) <= EXACT


@every_cell
def test_a_part_of_grad_state_that_is_not_given_is_zero(cell: str) -> None:
    """A loss on c_T alone (or on h_T alone) needs the other part spelt out, or gets something else for it."""
    network = draw_network(cell)
    tape = network.run()[0]
    for name, given_part in network.initial("grad_state").items():
        full = {n: given_part if n == name else np.zeros_like(given_part) for n in tape.cell.state_names}
        alone, spelt_out = (results(rc.backward(tape, None, g)) for g in ({name: given_part}, full))
        for key, value in alone.items():
            np.testing.assert_array_equal(value, spelt_out[key])


# ---- known special cases ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", NAMES)
def test_a_residual_cell_that_keeps_nothing_is_the_vanilla_cell(activation: str) -> None:
    """step = leak = 1 must give the vanilla cell, to the last bit."""
    residual = draw_network("residual", activation, step=1.0, leak=1.0)
    (a, ours), (b, theirs) = residual.run(), replace(residual, cell=rc.VanillaCell(activation)).run()
    np.testing.assert_array_equal(a.hidden, b.hidden)
    np.testing.assert_array_equal(ours.log_norm, theirs.log_norm)
    for name, value in results(ours).items():
        np.testing.assert_array_equal(value, results(theirs)[name], err_msg=name)


@pytest.mark.parametrize("rate", [0.05, 0.5, 1.0])
def test_a_leaky_integrator_without_recurrence_is_exponential_smoothing(rate: float) -> None:
    """h_t = (1 - lambda)^t h_0 + Σ_s lambda (1 - lambda)^(t - s) u_s, and dL/dh_t = (1 - lambda)^(T - t) dL/dh_T."""
    T = 12
    network = draw_network("residual", "identity", T=T, loss_at="last", biases="none", step=rate, leak=rate)
    network.params["weight_hh"][:] = 0.0
    assert network.state is not None
    tape, gradients = replace(network, grad_state=None).run()
    u = network.x @ network.params["weight_ih"].T
    weights = rate * np.array([[(1 - rate) ** (t - s) if s <= t else 0.0 for s in range(T)] for t in range(T)])
    decay = (1 - rate) ** np.arange(1, T + 1)
    smoothed = decay[:, None, None] * network.state["hidden"] + np.tensordot(weights, u, axes=1)
    assert worst_relative(tape.hidden, smoothed) <= EXACT
    back = (1 - rate) ** np.arange(T - 1, -1, -1)
    assert worst_relative(gradients.hidden, back[:, None, None] * network.grad_hidden[-1]) <= EXACT
    assert relative(gradients.state["hidden"], (1 - rate) ** T * network.grad_hidden[-1]) <= EXACT
    dx = rate * gradients.hidden @ network.params["weight_ih"]
    assert worst_relative(gradients.x, dx) <= EXACT


def with_gate_bias(network: Network, **gates: float) -> Network:
    """Gates by name held where a bias of the given size holds them (800 saturates a sigmoid exactly)."""
    H = network.grad_hidden.shape[2]
    bias = network.params["bias_ih"].copy()
    for name, value in gates.items():
        place = network.cell.gates.index(name)
        bias[place * H : (place + 1) * H] = value
    return replace(network, params={**network.params, "bias_ih": bias})


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before"])
def test_a_gru_with_z_at_one_copies_its_state_and_its_gradient(cell: str) -> None:
    """z = 1: h_t = h_{t-1} and dL/dh_{t-1} = dL/dh_t to the last bit; z and 1 - z are exchanged if not."""
    network = replace(with_gate_bias(draw_network(cell, T=20, loss_at="last"), update=800.0), grad_state=None)
    assert network.state is not None
    tape, gradients = network.run()
    for t in range(20):
        np.testing.assert_array_equal(tape.hidden[t], network.state["hidden"])
        np.testing.assert_array_equal(gradients.hidden[t], network.grad_hidden[-1])
    np.testing.assert_array_equal(gradients.state["hidden"], network.grad_hidden[-1])
    assert not any(np.any(g) for g in gradients.params.values())


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before"])
def test_a_gru_with_z_at_zero_forgets(cell: str) -> None:
    """z = 0: h_t = n_t, so that with r = 1 it is the vanilla cell with the rows of n."""
    network = with_gate_bias(draw_network(cell, H=4), update=-800.0, reset=800.0)
    tape, gradients = network.run()
    rows = slice(8, None)
    vanilla = replace(
        network, cell=rc.VanillaCell("tanh"), params={name: value[rows] for name, value in network.params.items()}
    )
    their_tape, theirs = vanilla.run()
    assert worst_relative(tape.hidden, their_tape.hidden) <= EXACT
    assert worst_relative(gradients.hidden, theirs.hidden) <= EXACT
    assert worst_relative(gradients.x, theirs.x) <= EXACT
    for name, value in theirs.params.items():
        assert relative(gradients.params[name][rows], value) <= EXACT
        assert not gradients.params[name][:8].any()


@given(data=st.data())
@quick
def test_both_grus_agree_where_r_is_one(data: st.DataObject) -> None:
    """Where nothing is reset it cannot matter on which side of the product; a difference is a bug in one of them."""
    network: Network = data.draw(networks("gru").filter(lambda n: "bias_ih" in n.params))
    after = with_gate_bias(network, reset=800.0)
    (a, ours), (b, theirs) = after.run(), replace(after, cell=rc.GRUResetBeforeCell("tanh")).run()
    assert worst_relative(a.hidden, b.hidden) <= EXACT
    for name, value in results(ours).items():
        assert relative(value, results(theirs)[name]) <= EXACT, name


def test_both_grus_differ_where_r_is_not_one() -> None:
    """The two are the same cell under two names."""
    network = draw_network("gru")
    (a, ours), (b, theirs) = network.run(), replace(network, cell=rc.GRUResetBeforeCell("tanh")).run()
    assert relative(a.hidden, b.hidden) > 1e-3
    assert relative(ours.params["weight_hh"], theirs.params["weight_hh"]) > 1e-3


def test_an_lstm_that_only_remembers_carries_its_error_constantly() -> None:
    """f = 1, i = 0: c_t = c_0 and dL/dc_t = dL/dc_T to the last bit (the constant error carousel, Hochreiter & Schmidhuber 1997)."""
    network = with_gate_bias(draw_network("lstm", T=50), forget=800.0, input=-800.0)
    assert network.state is not None and network.grad_state is not None
    tape, gradients = replace(network, grad_hidden=None, grad_state={"cell": network.grad_state["cell"]}).run()
    for t in range(50):
        np.testing.assert_array_equal(tape.states("cell")[t], network.state["cell"])
        np.testing.assert_array_equal(gradients.cell[t], network.grad_state["cell"])
    np.testing.assert_array_equal(gradients.state["cell"], network.grad_state["cell"])
    assert gradients.log_norm_cell is not None and len(set(gradients.log_norm_cell)) == 1
    assert (gradients.log_norm == -np.inf).all()  # nothing acts through h: the output gate is seen by no loss


def test_an_lstm_that_remembers_adds_up_what_its_outputs_say() -> None:
    """f = 1, i = 0, W_hh = 0: dL/dc_t = Σ_{s >= t} phi'(c_s) o_s dL/dh_s, both ways into dL/dc_t and nothing else."""
    network = with_gate_bias(draw_network("lstm", T=30), forget=800.0, input=-800.0)
    network.params["weight_hh"][:] = 0.0
    assert network.state is not None
    _, gradients = replace(network, grad_state=None).run()
    a_o = (network.x @ network.params["weight_ih"].T + network.params["bias_ih"] + network.params["bias_hh"])[..., 12:]
    direct = network.grad_hidden / np.cosh(network.state["cell"]) ** 2 / (1 + np.exp(-a_o))
    assert worst_relative(gradients.cell, np.cumsum(direct[::-1], axis=0)[::-1]) <= EXACT
    assert worst_relative(gradients.hidden, network.grad_hidden) <= EXACT


def test_an_lstm_that_forgets_sends_nothing_through_its_cell() -> None:
    """f = 0: dL/dc_0 is exactly zero, and dL/dc_t comes through h_t alone."""
    network = with_gate_bias(draw_network("lstm"), forget=-800.0)
    tape, gradients = replace(network, grad_state=None).run()
    assert not gradients.state["cell"].any()
    slope = np.stack([tape.cell.phi.df(s[6]) * s[4] for s in tape.saved]).transpose(0, 2, 1)
    assert worst_relative(gradients.cell, slope * gradients.hidden) <= EXACT


# ---- layers and directions by composition --------------------------------------------------------------------------------


def _flip(x: Any) -> Any:
    return namespace(x).flip(x, axis=0)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", ["vanilla", "gru", "lstm"])
def test_layers_and_directions_compose(cell: str, layers: int, bidirectional: bool, library: str) -> None:
    """grads.x is not what the layer below needs as grad_hidden, or a pass over x[::-1] is not the other direction."""
    T, B, D, H, seed = 6, 3, 2, 4, 0
    sides = 2 if bidirectional else 1
    rng = np.random.default_rng(11)
    module = module_for(cell, "tanh", D, H, num_layers=layers, bidirectional=bidirectional)
    parts: dict[tuple[int, int], Network] = {}
    for layer in range(layers):
        for side in range(sides):
            seed += 1
            parts[layer, side] = draw_network(cell, seed=seed, T=T, B=B, D=H * sides if layer else D, H=H)
            load(module, parts[layer, side].params, f"_l{layer}{'_reverse' * side}")
    x, grad_output = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, H * sides))

    xt = torch.tensor(x, requires_grad=True)
    names = next(iter(parts.values())).cell.state_names
    start = [torch.tensor(np.stack([n.initial()[name] for n in parts.values()]), requires_grad=True) for name in names]
    outputs, end = module(xt, tuple(start) if cell == "lstm" else start[0])
    last = list(end) if cell == "lstm" else [end]
    loss = (outputs * torch.tensor(grad_output)).sum()
    for name, part in zip(names, last, strict=True):
        loss = loss + (part * torch.tensor(np.stack([n.initial("grad_state")[name] for n in parts.values()]))).sum()
    loss.backward()

    placed = {key: n.to(library) for key, n in parts.items()}
    below, tapes = array(x, library), {}
    xp = namespace(below)
    for layer in range(layers):
        found = []
        for side in range(sides):
            n = placed[layer, side]
            tape = tapes[layer, side] = rc.forward(n.cell, n.params, _flip(below) if side else below, n.state)
            found.append(_flip(tape.hidden) if side else tape.hidden)
        below = xp.concat(found, axis=-1)
    assert worst_relative(below, outputs) <= EXACT
    above, gradients = array(grad_output, library), {}
    for layer in reversed(range(layers)):
        down = []
        for side in range(sides):
            share = above[..., side * H : (side + 1) * H]
            grads = rc.backward(tapes[layer, side], _flip(share) if side else share, placed[layer, side].grad_state)
            gradients[layer, side] = grads
            down.append(_flip(grads.x) if side else grads.x)
        above = sum(down)
    assert xt.grad is not None
    assert worst_relative(above, xt.grad) <= EXACT
    for at, ((layer, side), grads) in enumerate(sorted(gradients.items())):
        for name, value in grads.params.items():
            theirs = getattr(module, f"{name}_l{layer}{'_reverse' * side}").grad
            assert relative(value, theirs) <= EXACT, (layer, side, name)
        for name, before, after in zip(names, start, last, strict=True):
            assert before.grad is not None
            assert relative(grads.state[name], before.grad[at]) <= EXACT, (layer, side, name)
            assert relative(tapes[layer, side].state[name], after[at]) <= EXACT, (layer, side, name)


# ---- published numbers ---------------------------------------------------------------------------------------------------
# Expected outputs of "Building your Recurrent Neural Network - Step by Step" (deeplearning.ai, Coursera, Sequence Models, week 1),
# printed there to 8 or 12 digits for numpy.random.seed(1). Its arrays are (units, samples[, steps]), its weights [W_hh, W_ih].


def course_weights(rng: np.random.RandomState) -> tuple[dict[str, np.ndarray], Any]:
    """The course's Wf, bf, Wi, bi, Wo, bo, Wc, bc, Wy, by (in the order of its draws), as our parameters."""
    drawn = {gate: (rng.randn(5, 8), rng.randn(5, 1)) for gate in "fioc"}
    rng.randn(2, 5), rng.randn(2, 1)  # Wy, by
    weights = np.concatenate([drawn[gate][0] for gate in "ifco"])
    bias = np.concatenate([drawn[gate][1][:, 0] for gate in "ifco"])
    return {"weight_ih": weights[:, 5:], "weight_hh": weights[:, :5], "bias_ih": bias}, rng


def printed(ours: Any, expected: Any, digits: int) -> None:
    np.testing.assert_allclose(ours, expected, rtol=0, atol=0.6 * 10.0**-digits)


def test_a_courses_lstm_step() -> None:
    """lstm_cell_forward and lstm_cell_backward of the course give other numbers."""
    rng = np.random.RandomState(1)
    x, a, c = rng.randn(3, 10), rng.randn(5, 10), rng.randn(5, 10)
    params, rng = course_weights(rng)
    tape = rc.forward(rc.LSTMCell(), params, x.T[None], {"hidden": a.T, "cell": c.T})
    printed(tape.hidden[0, :, 4], [-0.66408471, 0.0036921, 0.02088357, 0.22834167, -0.85575339, 0.00138482, 0.76566531, 0.34631421, -0.00215674, 0.43827275], 8)  # fmt: skip
    printed(tape.states("cell")[0, :, 2], [0.63267805, 1.00570849, 0.35504474, 0.20690913, -1.64566718, 0.11832942, 0.76449811, -0.0981561, -0.74348425, -0.26810932], 8)  # fmt: skip
    gradients = rc.backward(tape, None, {"hidden": rng.randn(5, 10).T, "cell": rng.randn(5, 10).T})
    printed(gradients.x[0, 2, 1], 3.23055911511, 11)
    printed(gradients.state["hidden"][3, 2], -0.0639621419711, 12)
    printed(gradients.state["cell"][3, 2], 0.797522038797, 12)
    W = np.asarray(gradients.params["weight_hh"])  # the course's dW[gate][unit][1 or 2] are of the state
    printed([W[5 + 3, 1], W[1, 2], W[10 + 3, 1], W[15 + 1, 2]], [-0.147954838164, 1.05749805523, 2.30456216369, 0.331311595289], 11)  # fmt: skip
    printed(gradients.params["bias_ih"][[9, 4, 14, 19]], [0.18864637, -0.40142491, 0.25587763, 0.13893342], 8)


def test_a_courses_lstm() -> None:
    """lstm_forward of the course gives other numbers."""
    rng = np.random.RandomState(1)
    x, a0 = rng.randn(3, 10, 7), rng.randn(5, 10)
    params, _ = course_weights(rng)
    tape = rc.forward(rc.LSTMCell(), params, x.transpose(2, 1, 0), {"hidden": a0.T, "cell": np.zeros((10, 5))})
    printed(tape.hidden[6, 3, 4], 0.172117767533, 12)
    printed(tape.states("cell")[1, 2, 1], -0.855544916718, 12)


def test_a_courses_rnn() -> None:
    """rnn_forward and rnn_backward of the course give other numbers."""
    rng = np.random.RandomState(1)
    x, a0 = rng.randn(3, 10, 4), rng.randn(5, 10)
    W_ih, W_hh = rng.randn(5, 3), rng.randn(5, 5)
    rng.randn(2, 5)  # Wya
    params = {"weight_ih": W_ih, "weight_hh": W_hh, "bias_hh": rng.randn(5, 1)[:, 0]}
    rng.randn(2, 1)  # by
    da = rng.randn(5, 10, 4)
    tape = rc.forward(rc.VanillaCell(), params, x.transpose(2, 1, 0), {"hidden": a0.T})
    gradients = rc.backward(tape, da.transpose(2, 1, 0))
    printed(gradients.x[:, 2, 1], [-2.07101689, -0.59255627, 0.02466855, 0.01483317], 8)
    printed(gradients.state["hidden"][3, 2], -0.314942375127, 12)
    printed(gradients.params["weight_ih"][3, 1], 11.2641044965, 10)
    printed(gradients.params["weight_hh"][1, 2], 2.30333312658, 11)
    printed(gradients.params["bias_hh"][4], -0.74747722, 8)


@every_cell
def test_a_cells_nonlinearities_are_those_of_its_gates_and_then_others(cell: str) -> None:
    """Saturation is read from another preactivation, or ``gates`` does not say which block is the candidate's."""
    network = draw_network(cell, "softsign", T=1)
    tape, _ = network.run()
    pairs, gates = network.cell.nonlinearities(tape.saved[0]), network.cell.gates
    assert [phi.name for phi, _ in pairs[: len(gates)]] == [
        "softsign" if gate == "candidate" else "sigmoid" for gate in gates
    ]
    assert gates.count("candidate") == 1 and all(a.shape == (4, 3) for _, a in pairs)
    if cell in ("lstm", "vanilla", "residual"):  # nothing is gated before the nonlinearities
        p = network.params
        a = (
            network.x[0] @ p["weight_ih"].T
            + network.initial()["hidden"] @ p["weight_hh"].T
            + p["bias_ih"]
            + p["bias_hh"]
        )
        np.testing.assert_allclose(np.concatenate([a for _, a in pairs[: len(gates)]]), a.T, rtol=1e-12)
    slopes = [phi.df(a) / phi.gamma for phi, a in pairs[: len(gates)]]
    np.testing.assert_array_equal(network.cell.slope(tape.saved[0]), np.concatenate(slopes))
    assert [(phi.name, a.tolist()) for phi, a in pairs[len(gates) :]] == (
        [("softsign", tape.states("cell")[0].T.tolist())] if cell == "lstm" else []
    )


# ---- what does not fit is said -------------------------------------------------------------------------------------------


@every_cell
def test_parameters_that_do_not_fit_are_named(cell: str) -> None:
    """A missing or misshapen parameter fails somewhere inside, or is broadcast into a wrong result."""
    network = draw_network(cell, D=2, H=4)
    p, G = network.params, len(network.cell.gates)
    without = {name: {n: v for n, v in p.items() if n != name} for name in p}
    wrong: list[tuple[str, dict[str, Any]]] = [
        (f"params: weight_ih is missing; the cell '{cell}' needs it", without["weight_ih"]),
        (f"bias_ih: shape ({4 * G - 1},) does not fit; expected ({4 * G},)", {**p, "bias_ih": p["bias_ih"][1:]}),
        (f"bias_hh: shape ({4 * G}, 1) does not fit; expected ({4 * G},)", {**p, "bias_hh": p["bias_hh"][:, None]}),
        (
            f"weight_ih: 0 rows do not fit; the cell '{cell}' has {G} blocks of H rows",
            {**p, "weight_ih": np.zeros((0, 2))},
        ),
    ]
    if network.cell.has_matrix:
        W = p["weight_hh"]
        wrong += [
            (f"params: weight_hh is missing; the cell '{cell}' needs it", without["weight_hh"]),
            (f"weight_hh: shape {W[..., :3].shape} does not fit; expected {W.shape}", {**p, "weight_hh": W[..., :3]}),
            (f"weight_hh: shape ({4 * G + 4}, 4) does not fit", {**p, "weight_hh": np.zeros((4 * G + 4, 4))}),
        ]
        if G > 1:
            wrong += [(f"weight_hh: shape (4, 4) does not fit; expected ({4 * G}, 4)", {**p, "weight_hh": W[:4]})]
    if G > 1:
        rows = f"weight_ih: {4 * G + 1} rows do not fit; the cell '{cell}' has {G} blocks of H rows"
        wrong += [(rows, {**p, "weight_ih": np.zeros((4 * G + 1, 2))})]
    for message, params in wrong:
        with pytest.raises(ValueError, match=re.escape(message)):
            rc.forward(network.cell, params, network.x)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_another_cells_parameters_are_refused(cell: str) -> None:
    """An LSTM's parameters pass for a GRU's where 4H is a multiple of 3, and the other way round."""
    network, other = draw_network(cell, H=12), draw_network("lstm" if cell == "gru" else "gru", H=12)
    with pytest.raises(ValueError, match=r"weight_hh: shape .* does not fit"):
        rc.forward(network.cell, other.params, network.x)


@every_cell
def test_states_that_do_not_fit_are_named(cell: str) -> None:
    """A part of the state is missing, unknown or misshapen, and the pass goes on from something else."""
    network = draw_network(cell, B=3, H=4)
    state, names = network.initial(), network.cell.state_names
    tape = network.run()[0]
    for name in names:
        rest = {n: v for n, v in state.items() if n != name}
        with pytest.raises(ValueError, match=f"state: {name} is missing; the cell '{cell}' needs all parts"):
            rc.forward(network.cell, network.params, network.x, rest)
        turned = {**state, name: state[name].T}
        message = re.escape(f"[{name!r}]: shape (4, 3) does not fit; expected (3, 4)")
        with pytest.raises(ValueError, match="state" + message):
            rc.forward(network.cell, network.params, network.x, turned)
        with pytest.raises(ValueError, match="grad_state" + message):
            rc.backward(tape, network.grad_hidden, turned)
    for unknown in {"cell", "sell"} - set(names):
        extra = {**state, unknown: state["hidden"]}
        with pytest.raises(ValueError, match=f"state: {unknown!r} is not known; allowed: {', '.join(names)}"):
            rc.forward(network.cell, network.params, network.x, extra)
        with pytest.raises(ValueError, match=f"grad_state: {unknown!r} is not known"):
            rc.backward(tape, network.grad_hidden, extra)


@every_cell
def test_unknown_activations_are_named(cell: str) -> None:
    """A misspelt activation gives a default one."""
    with pytest.raises(ValueError, match=r"activation: 'tahn' is not known; .*Did you mean 'tanh'\?"):
        rc.CELLS[cell]("tahn")
    with pytest.raises(ValueError, match="activation: 'tahn' is not known"):
        make_cell(cell, "tahn")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_residual_steps_out_of_range_are_refused(value: float) -> None:
    """A step that gives no network, or one that runs backwards, is accepted."""
    with pytest.raises(ValueError, match=re.escape(f"step: {value!r} is not allowed; it must be a number above 0")):
        rc.ResidualCell("tanh", step=value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_residual_leaks_out_of_range_are_refused(value: float) -> None:
    """A leak that makes the state grow by itself, or change its sign, is accepted."""
    with pytest.raises(ValueError, match=re.escape(f"leak: {value!r} is not allowed; it must be a number from 0 to 1")):
        make_cell("residual", "tanh", leak=value)


def test_cells_are_made_by_name() -> None:
    """The registry gives another cell, drops an option, or an option goes to a cell that has none."""
    for name, kind in rc.CELLS.items():
        assert type(make_cell(name, "relu")) is kind
        assert make_cell(name, "relu").phi.name == "relu"
    cell = make_cell("residual", "relu", step=0.5, leak=0.25)
    assert repr(cell) == "ResidualCell(activation='relu', step=0.5, leak=0.25)"
    assert repr(make_cell("lstm", "tanh")) == "LSTMCell(activation='tanh')"
    again = eval(repr(cell), vars(rc))
    assert (again.phi, again.step, again.leak) == (cell.phi, cell.step, cell.leak)
    with pytest.raises(ValueError, match=r"cell: 'grru' is not known; .*Did you mean 'gru'\?"):
        make_cell("grru", "tanh")
    with pytest.raises(TypeError, match="step"):
        make_cell("gru", "tanh", step=0.5)
