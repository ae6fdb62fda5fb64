"""``TorchCell``: torch's own cells against ours, and modules of every kind of state against autograd through the whole sequence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import rnn_core as rc
from rnn_core.oracles.compare import relative_error, step_errors
from tests.rnn_core.own.modules import (
    Decay,
    Elman,
    Late,
    Learned,
    Memory,
    OneBatch,
    Oscillator,
    Stack,
    Turning,
    TurningInPairs,
    Two,
    module,
    normal,
)
from tests.support.arrays import quick

EQUAL = 1e-12
OURS: dict[Any, rc.Cell] = {nn.RNNCell: rc.VanillaCell(), nn.GRUCell: rc.GRUCell(), nn.LSTMCell: rc.LSTMCell()}


def part_of(state: Any, name: str) -> Tensor:
    """A part of a module's state by its name."""
    if isinstance(state, Tensor):
        return state
    part: Tensor = state[name] if isinstance(state, dict) else getattr(state, name)
    return part


def passes(
    cell: rc.Cell, params: Any, x: Tensor, direct: Any = None, last: Any = None, start: Any = None, **kwargs: Any
) -> rc.Gradients:
    return rc.backward(rc.forward(cell, params, x, start, kwargs.pop("memory_budget", None)), direct, last, **kwargs)


def check_equal(a: rc.Gradients, b: rc.Gradients, within: float = EQUAL) -> None:
    """All that two backward passes give: by the comparator of the oracles, beyond the range of floats too."""
    assert set(a.params) == set(b.params) and set(a.state) == set(b.state)
    for name in b.params:
        assert relative_error(a.params[name], b.params[name]) <= within, name
    for name in b.state:
        assert relative_error(a.state[name], b.state[name]) <= within, name
        assert step_errors(a.parts[name], b.parts[name]).max() <= within, name
        np.testing.assert_allclose(a.log_norms[name], b.log_norms[name], rtol=within, atol=within)
    assert step_errors(a.x, b.x).max() <= within and step_errors(a.hidden, b.hidden).max() <= within
    np.testing.assert_allclose(a.log_norm_samples, b.log_norm_samples, rtol=within, atol=within)
    for name, fractions in b.lost.items():
        np.testing.assert_array_equal(a.lost[name], fractions)


# ---- torch's own cells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [1, 7, 300])
@pytest.mark.parametrize("kind", OURS)
def test_torchs_cells_are_ours(kind: Any, T: int) -> None:
    """A gate is another's, a bias is left out, or what c_t sends to h_t within a step is lost."""
    ours, cell = OURS[kind], rc.TorchCell(module(kind, 2, 4))
    x, direct = normal(T, 3, 2), normal(T, 3, 4, seed=1)
    start, last = ({name: normal(3, 4, seed=i + k) for i, name in enumerate(ours.state_names)} for k in (2, 5))
    a, b = (passes(each, cell.params(), x, direct, last, start) for each in (cell, ours))
    assert set(a.params) == set(cell.params())
    check_equal(a, b)
    if kind is nn.LSTMCell:
        assert step_errors(a.cell, b.cell).max() <= EQUAL


@pytest.mark.parametrize(("scale", "decades"), [(1e-5, -5000), (1e6, 5000)])
@pytest.mark.parametrize("kind", OURS)
def test_they_are_ours_beyond_the_range_of_floats(kind: Any, scale: float, decades: int) -> None:
    """A step is differentiated at a scale at which something under- or overflows, or its exponent is lost."""
    ours, made = OURS[kind], module(kind, 2, 4)
    with torch.no_grad():
        for name, value in made.named_parameters():
            value.zero_() if "bias" in name and scale > 1.0 else value.mul_(scale if "weight_hh" in name else 1.0)
    if scale < 1.0 and kind is not nn.RNNCell:  # a gate that forgets
        with torch.no_grad():
            made.bias_ih[4:8] = -12.0
    T = 1100
    x = normal(T, 2, 2) if scale < 1.0 else torch.zeros(T, 2, 2, dtype=torch.float64)
    cell, last = rc.TorchCell(made), {"hidden": normal(2, 4)}
    a, b = (passes(each, cell.params(), x, None, last) for each in (cell, ours))
    assert a.log_norm[0] / math.log(10.0) * math.copysign(1.0, decades) >= abs(decades)
    assert isinstance(a.hidden, rc.Scaled) and a.careful_steps < T / 2
    check_equal(a, b, 1e-9)  # one rounding a step, and a chain of 1100


def test_float32_too() -> None:
    made = module(nn.GRUCell, 2, 4).float()
    with torch.no_grad():
        made.weight_hh.mul_(20.0)
        made.bias_ih.zero_()
        made.bias_hh.zero_()
    cell, x, last = rc.TorchCell(made), torch.zeros(500, 2, 2), {"hidden": normal(2, 4).float()}
    a, b = (passes(each, cell.params(), x, None, last) for each in (cell, rc.GRUCell()))
    assert a.log_norm[0] > 200 and isinstance(a.state["hidden"], rc.Scaled)
    np.testing.assert_allclose(a.log_norm, b.log_norm, rtol=1e-5)
    assert relative_error(a.params["bias_hh"], b.params["bias_hh"]) <= 1e-4


@pytest.mark.parametrize("options", [{"window": 7}, {"window": 1}, {"signal_threshold": 0.01}], ids=str)
@pytest.mark.parametrize("kind", OURS)
def test_truncation_and_clipping_of_the_signal_are_ours(kind: Any, options: dict[str, Any]) -> None:
    cell, x, direct = rc.TorchCell(module(kind, 2, 4)), normal(40, 3, 2), normal(40, 3, 4, seed=1)
    a, b = (passes(each, cell.params(), x, direct, **options) for each in (cell, OURS[kind]))
    check_equal(a, b)


# ---- modules of the user's own -------------------------------------------------------------------------------------------


def check_against_autograd(
    call: Any, cell: rc.TorchCell, x: Tensor, start: Any, names: Any, part: Callable[[Any, Any], Tensor] = part_of
) -> None:
    """The engine against autograd through the whole sequence: states, inputs, every part at every step, parameters."""
    tape = rc.forward(
        cell, cell.params(), x, start if isinstance(start, dict) else {n: part(start, k) for n, k in names.items()}
    )
    direct, x = normal(*tape.hidden.shape, seed=1), x.clone().requires_grad_()
    ours, state, states = rc.backward(tape, direct), start, []
    for x_t in x:
        state = call(x_t, state)
        states.append(state)
    main = tape.cell.state_names[0]
    loss = sum(((g * part(s, names[main])).sum() for g, s in zip(direct, states, strict=True)), start=torch.zeros(()))
    own = list(cell._program.owner.parameters()) if cell._program.owner is not None else []
    wanted = [x, *own, *(part(s, key) for key in names.values() for s in states)]
    dx, *expected = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
    assert step_errors(ours.x, dx).max() <= EQUAL
    for name in cell.params():
        assert relative_error(ours.params[name], expected.pop(0)) <= EQUAL, name
    for i, (name, key) in enumerate(names.items()):
        reference = torch.stack(expected[i * len(x) : (i + 1) * len(x)])
        assert ours.parts[name].shape == reference.shape == tape.states(name).shape
        assert torch.equal(tape.states(name), torch.stack([part(s, key) for s in states]).detach())
        assert step_errors(ours.parts[name], reference).max() <= EQUAL, name


@pytest.mark.parametrize("kind", [Elman, Memory, Oscillator, OneBatch])
def test_it_is_autograd_through_the_whole_sequence(kind: Any) -> None:
    """A part of the state is taken for another, is turned over, or its path within a step is lost."""
    made = module(kind)
    start = made.initial_state(3) if hasattr(made, "initial_state") else torch.zeros(3, 4, dtype=torch.float64)
    cell = rc.TorchCell(made)
    names = rc.forward(cell, cell.params(), normal(2, 3, 2)).cell.state_names
    check_against_autograd(made, cell, normal(11, 3, 2), start, {name: name for name in names})


def test_a_state_of_containers_has_a_part_for_every_tensor() -> None:
    """A list of pairs (h, c), as stacked cells have it: a pair is taken for a part, or a layer for another."""

    def part(state: Any, key: Any) -> Tensor:
        found: Tensor = state[key[0]][key[1]]
        return found

    made = module(Stack)
    names = {f"{layer + 1}.{i + 1}": (layer, i) for layer in range(2) for i in range(2)}
    check_against_autograd(made, rc.TorchCell(made), normal(11, 3, 2), made.initial_state(3), names, part)
    chosen = rc.TorchCell(made, state_names=("h1", "c1", "h2", "c2"), hidden="h2")
    tape = rc.forward(chosen, chosen.params(), normal(4, 3, 2))
    assert tape.cell.state_names == ("h2", "h1", "c1", "c2")
    state = made.initial_state(3)
    for x_t in normal(4, 3, 2):
        state = made(x_t, state)
    assert torch.equal(tape.hidden[-1], state[1][0])
    given = rc.forward(
        chosen, chosen.params(), normal(4, 3, 2), [(part[0] + 1, part[1]) for part in made.initial_state(3)]
    )  # type: ignore[arg-type]
    assert not torch.equal(given.hidden, tape.hidden)


@pytest.mark.parametrize("linear", [False, True])
def test_a_complex_module_is_its_pairs_of_real_numbers(linear: bool) -> None:
    """A gradient is conjugated, or one of the two numbers is lost."""
    made = module(Turning, linear=linear)
    pairs = TurningInPairs(*(torch.view_as_real(value.detach()) for value in made.parameters()), linear=linear)
    a, b = (
        passes(cell, cell.params(), normal(30, 3, 2), normal(30, 3, 3, 2, seed=1))
        for cell in map(rc.TorchCell, (made, pairs))
    )
    check_equal(a, b)
    state = made.initial_state(3)
    states = [state := made(x_t, state) for x_t in normal(30, 3, 2)]
    loss = (torch.view_as_real(torch.stack(states)) * normal(30, 3, 3, 2, seed=1)).sum()
    for name, expected in zip(a.params, torch.autograd.grad(loss, list(made.parameters())), strict=True):
        assert relative_error(a.params[name], torch.view_as_real(expected)) <= EQUAL, name
    assert all(value.is_complex() and value.requires_grad for value in made.parameters())


@pytest.mark.parametrize("modulus", [0.25, 4.0])
def test_a_complex_state_follows_its_law_at_any_size(modulus: float) -> None:
    """Every step back multiplies by conj(λ): the norm by |λ|, 1800 decades far."""
    made, T, last = module(Turning, linear=True), 3000, {"hidden": normal(2, 3, 2)}
    with torch.no_grad():
        made.turn.copy_(torch.polar(torch.full((3,), modulus, dtype=torch.float64), normal(3)))
    cell = rc.TorchCell(made)
    x = torch.zeros(T, 2, 2, dtype=torch.float64)
    grads = passes(cell, cell.params(), x, None, last)
    expected = math.log(float(last["hidden"].norm())) + np.arange(T - 1, -1, -1) * math.log(modulus)
    np.testing.assert_allclose(grads.log_norm, expected, rtol=1e-13)
    exponents = rc.theory.lyapunov_spectrum(rc.forward(cell, cell.params(), x[:50])).exponents
    np.testing.assert_allclose(exponents, math.log(modulus), rtol=1e-12)


def test_a_complex_state_may_be_given_and_probed() -> None:
    made, x = module(Turning), normal(20, 3, 2)
    cell, start = rc.TorchCell(made), torch.complex(normal(3, 3), normal(3, 3, seed=1))
    a, b, c = (
        rc.forward(cell, cell.params(), x, s) for s in (start, {"hidden": start}, {"hidden": torch.view_as_real(start)})
    )  # type: ignore[arg-type]
    assert torch.equal(a.hidden, b.hidden) and torch.equal(a.hidden, c.hidden) and a.shapes == {"hidden": (3, 2)}
    found = rc.probe(made, x, state=start)
    assert found.derivatives is not None and found.derivatives.relative < 1e-8
    plain = rc.TorchCell(lambda x, s: s * torch.complex(x, x).mean(1, keepdim=True))
    assert rc.forward(plain, {}, x, {"hidden": start}).hidden.shape == (20, 3, 3, 2)


SHAPES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3).map(tuple), min_size=1, max_size=3)


@quick
@given(
    shapes=SHAPES,
    kind=st.sampled_from(["tuple", "list", "dict", "tensor"]),
    T=st.integers(1, 6),
    B=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_states_of_any_form_and_shape(shapes: list[tuple[int, ...]], kind: str, T: int, B: int, seed: int) -> None:
    """A part is handed over in another's place, or flattened in another order."""
    shapes = shapes[:1] if kind == "tensor" else shapes
    keys: Any = [f"part {i}" for i in range(len(shapes))] if kind == "dict" else list(range(len(shapes)))

    def built(parts: list[Tensor]) -> Any:
        return (
            parts[0]
            if kind == "tensor"
            else dict(zip(keys, parts, strict=True))
            if kind == "dict"
            else parts
            if kind == "list"
            else tuple(parts)
        )

    def step(x: Tensor, state: Any) -> Any:
        parts = [part(state, key) for key in keys]
        seen = sum(p.flatten(1).sum(1) for p in parts) + x.sum(1)
        return built(
            [torch.sin(p * (i + 0.7) + (i - 0.4) * seen.reshape(-1, *(1,) * (p.ndim - 1))) for i, p in enumerate(parts)]
        )

    def part(state: Any, key: Any) -> Tensor:
        found: Tensor = state if kind == "tensor" else state[key]
        return found

    given_names = None if kind == "dict" else [f"p{i}" for i in keys]
    cell = rc.TorchCell(step, state_names=given_names)
    start = built([normal(B, *shape, seed=seed + i) for i, shape in enumerate(shapes)])
    check_against_autograd(
        step, cell, normal(T, B, 2, seed=seed), start, dict(zip(given_names or keys, keys, strict=True)), part
    )


def test_a_matrix_memory_follows_its_law_at_any_size() -> None:
    """Entry by entry rate^lag: over 5000 decades down, and up, and both in one state."""
    T, g = 1200, normal(2, 2, 2, seed=3)
    for rates in ([[1e-5, 2e-5], [3e-5, 1e-5]], [[1e5, 2e5], [3e5, 1e5]], [[1e-5, 1e-3], [1.0, 1e4]]):
        cell = rc.TorchCell(Decay(rates).double())
        tape = rc.forward(cell, cell.params(), torch.zeros(T, 2, 2, dtype=torch.float64))
        grads = rc.backward(tape, grad_state={"hidden": g})
        lag = np.arange(T)[::-1, None, None, None]
        log_entries = np.log(np.abs(g.numpy())) + lag * np.log(np.array(rates))
        expected = 0.5 * np.logaddexp.reduce(2 * log_entries.reshape(T, 2, -1), axis=2)
        np.testing.assert_allclose(grads.log_norm_samples, expected, rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(
            grads.log_norm, 0.5 * np.logaddexp.reduce(2 * expected, axis=1), rtol=1e-12, atol=1e-9
        )
        assert (
            relative_error(grads.params["rates"], torch.zeros(2, 2, dtype=torch.float64)) == 0.0
        )  # all states are zero


def test_its_parameter_gradients_follow_it_too() -> None:
    """∂L/∂f of C_T = Σ_t f^(T-t) u_t: lost where steps of different size are added up, or beyond the range."""
    T = 1500
    for rate in (1e-3, 0.5, 1e3):
        cell = rc.TorchCell(Decay([[rate]]).double())
        tape = rc.forward(cell, cell.params(), torch.ones(T, 1, 2, dtype=torch.float64))
        assert (tape.first_nonfinite_step is None) == (rate < 1.0)
        if rate < 1.0:
            grads = rc.backward(tape, grad_state={"hidden": torch.ones(1, 1, 1, dtype=torch.float64)})
            u = float(cell.module.read(torch.ones(2, dtype=torch.float64)).detach() ** 2)
            expected = u / (1.0 - rate) ** 2  # Σ k f^(k-1) u
            assert grads.params["rates"].item() == pytest.approx(expected, rel=1e-12)


def test_a_parameter_that_one_small_step_uses_keeps_its_gradient() -> None:
    """It is used 600 decades below the steps that its sum is found with."""
    T, made = 120, module(Elman, 2, 4)

    def step(x: Tensor, h: Tensor) -> Tensor:
        return 1e-5 * h + made.read(x) - made.read.bias

    x = torch.zeros(T, 1, 2, dtype=torch.float64)
    x[0] = 1.0
    cell = rc.TorchCell(step, parameters_of=made)
    start = torch.zeros(1, 4, dtype=torch.float64)
    grads = passes(cell, cell.params(), x, None, {"hidden": torch.ones(1, 4, dtype=torch.float64)}, start)
    found = grads.params["read.weight"]
    assert isinstance(found, rc.Scaled)
    assert found.log_norm() / math.log(10.0) == pytest.approx(-5 * (T - 1) + 0.5 * math.log10(8), rel=1e-12)


def test_parts_that_are_far_apart_lose_nothing() -> None:
    """A part that dies, one that explodes, and a later step at which the first one is all that is left."""

    def step(x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        small, large = state
        return small * 1e-100, large * (1e100 * x[:, :1])

    T = 12
    x = torch.ones(T, 2, 1, dtype=torch.float64)
    x[3] = 0.0  # nothing of the large one comes through
    cell = rc.TorchCell(step, state_names=("small", "large"))
    start = {"small": torch.ones(2, 1, dtype=torch.float64), "large": torch.zeros(2, 1, dtype=torch.float64)}
    tape = rc.forward(cell, {}, x, start)
    grads = rc.backward(tape, grad_state={name: torch.ones(2, 1, dtype=torch.float64) for name in cell.state_names})
    decades = grads.log_norms["small"] / math.log(10.0)
    np.testing.assert_allclose(decades, -100.0 * np.arange(T)[::-1] + math.log10(math.sqrt(2.0)), rtol=1e-12)
    assert np.isneginf(grads.log_norms["large"][:3]).all() and grads.log_norms["large"][3] > 1500
    assert isinstance(grads.state["small"], rc.Scaled) and grads.state["small"].log_norm() / math.log(
        10.0
    ) == pytest.approx(-1200.0 + math.log10(math.sqrt(2.0)))


@pytest.mark.parametrize("kind", [Elman, Memory, OneBatch])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_checkpoints_give_the_same_bits(kind: Any, scale: float) -> None:
    made = module(kind, scale=scale)
    cell, x = rc.TorchCell(made), normal(300, 3, 2)
    direct = normal(*rc.forward(cell, cell.params(), x).hidden.shape, seed=2)
    direct[:-1] = 0.0
    a, b = (passes(cell, cell.params(), x, direct, memory_budget=budget) for budget in (None, 1000))
    assert isinstance(b.hidden, rc.NotKept) and not isinstance(a.hidden, rc.NotKept)
    for name in a.params:
        one, other = (each.params[name] for each in (a, b))
        assert torch.equal(getattr(one, "mantissa", one), getattr(other, "mantissa", other)), name
    for name in a.log_norms:
        np.testing.assert_array_equal(a.log_norms[name], b.log_norms[name])
    np.testing.assert_array_equal(a.log_norm_samples, b.log_norm_samples)
    for name in a.lost:
        np.testing.assert_array_equal(a.lost[name], b.lost[name])


def test_samples_are_those_of_sequences_alone() -> None:
    cell, x = rc.TorchCell(module(Memory)), normal(30, 3, 2)
    together = passes(cell, cell.params(), x, None, {"output": torch.ones(3, 3, dtype=torch.float64)})
    for b in range(3):
        alone = passes(cell, cell.params(), x[:, b : b + 1], None, {"output": torch.ones(1, 3, dtype=torch.float64)})
        np.testing.assert_allclose(together.log_norm_samples[:, b], alone.log_norm, rtol=1e-12)


# ---- names, parameters, and what stays as it is --------------------------------------------------------------------------


def test_the_part_that_a_loss_acts_on_can_be_chosen() -> None:
    cell = rc.TorchCell(module(nn.LSTMCell, 2, 4), hidden="cell")
    tape = rc.forward(cell, cell.params(), normal(6, 3, 2))
    assert tape.cell.state_names == ("cell", "hidden") and torch.equal(tape.hidden, tape.states("cell"))
    grads = rc.backward(tape, normal(6, 3, 4))
    np.testing.assert_array_equal(grads.log_norm, grads.log_norms["cell"])
    usual, last = rc.TorchCell(module(nn.LSTMCell, 2, 4)), {"cell": normal(3, 4)}
    a, b = (passes(each, usual.params(), normal(6, 3, 2), None, last) for each in (cell, usual))
    assert all(torch.equal(a.params[name], value) for name, value in b.params.items()) and torch.equal(a.x, b.x)
    assert rc.forward(
        rc.TorchCell(module(Memory), state_names=("memory", "output", "normaliser")),
        rc.TorchCell(module(Memory)).params(),
        normal(4, 3, 2),
    ).hidden.shape == (4, 3, 3, 3)


def test_names_of_parts() -> None:
    x = normal(2, 3, 2)

    def names(call: Any, start: Any, **kwargs: Any) -> tuple[str, ...]:
        cell = rc.TorchCell(call, **kwargs)
        return rc.forward(cell, cell.params(), x, start).cell.state_names

    h = torch.zeros(3, 2, dtype=torch.float64)
    assert names(lambda x, s: s * x, h) == ("hidden",)
    assert names(lambda x, s: (s[0] * x, s[1] + x, s[2] - x), (h, h, h)) == ("hidden", "part_2", "part_3")
    assert names(lambda x, s: (s[0] * x, s[1] + x), (h, h), state_names=("h", "m")) == ("h", "m")
    assert names(lambda x, s: Two(s.position * x, s.speed), Two(h, h)) == ("position", "speed")
    assert names(lambda x, s: {"b": s["b"] * x, "a": s["a"]}, {"b": h, "a": h}) == ("b", "a")
    assert names(lambda x, s: s * x, {"hidden": h}) == ("hidden",)
    assert names(module(nn.LSTMCell, 2, 4), None) == ("hidden", "cell")


def test_parameters_are_those_that_are_given() -> None:
    """The module's own values are used, or stay changed afterwards."""
    made = module(Elman)
    cell, x = rc.TorchCell(made), normal(5, 3, 2)
    own = {name: value.clone() for name, value in made.named_parameters()}
    other = {name: value + 0.1 for name, value in cell.params().items()}
    a = rc.forward(cell, other, x).hidden
    with torch.no_grad():
        for name, value in made.named_parameters():
            assert torch.equal(value, own[name])
            value.add_(0.1)
    assert torch.equal(a, rc.forward(cell, cell.params(), x).hidden)
    assert all(value.requires_grad and isinstance(value, nn.Parameter) for value in made.parameters())


def test_frozen_parameters_have_no_gradient_and_shared_ones_have_one() -> None:
    class Shared(Elman):
        def __init__(self) -> None:
            super().__init__(4, 4)
            self.turn.weight = self.read.weight

    made = module(Shared)
    made.read.bias.requires_grad_(False)
    cell, x = rc.TorchCell(made), normal(7, 3, 4)
    grads = passes(cell, cell.params(), x, normal(7, 3, 4, seed=1))
    assert list(cell.params()) == ["read.weight", "read.bias"] and list(grads.params) == ["read.weight"]
    h, loss = torch.zeros(3, 4, dtype=torch.float64), torch.zeros(())
    for x_t, g in zip(x, normal(7, 3, 4, seed=1), strict=True):
        h = made(x_t, h)
        loss = loss + (g * h).sum()
    (expected,) = torch.autograd.grad(loss, made.read.weight)
    assert relative_error(grads.params["read.weight"], expected) <= EQUAL


def test_buffers_and_random_numbers_stay_as_they_are() -> None:
    made = nn.Sequential()
    made.add_module("norm", nn.BatchNorm1d(4))

    def step(x: Tensor, h: Tensor) -> Tensor:
        out: Tensor = torch.tanh(made(h) + x)
        return out

    made.double()
    before, state = {name: value.clone() for name, value in made.named_buffers()}, torch.get_rng_state()
    cell = rc.TorchCell(step, parameters_of=made)
    with pytest.raises(ValueError, match="mixes the samples of a batch"):
        rc.forward(cell, cell.params(), normal(6, 3, 4), torch.zeros(3, 4, dtype=torch.float64))
    made.eval()
    rc.forward(cell, cell.params(), normal(6, 3, 4), torch.zeros(3, 4, dtype=torch.float64))
    assert all(torch.equal(value, before[name]) for name, value in made.named_buffers())
    assert torch.equal(state, torch.get_rng_state())


def test_a_method_has_the_parameters_of_its_object() -> None:
    class Model(Elman):
        def step(self, x: Tensor, h: Tensor) -> Tensor:
            return super().forward(x, h)

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            raise AssertionError

    made = module(Model)
    cell = rc.TorchCell(made.step)
    assert (
        passes(cell, cell.params(), normal(5, 3, 2), normal(5, 3, 4)).params.keys()
        == dict(made.named_parameters()).keys()
    )


def test_a_state_that_overflows_says_when() -> None:
    cell = rc.TorchCell(lambda x, h: h * h * x[:, :1])
    tape = rc.forward(
        cell, {}, torch.full((20, 1, 1), 2.0, dtype=torch.float64), torch.full((1, 1), 4.0, dtype=torch.float64)
    )
    assert tape.first_nonfinite_step == 9  # 2^(3·2^t - 1)
    nan = rc.forward(
        rc.TorchCell(lambda x, h: torch.log(h) + x),
        {},
        -torch.ones(5, 1, 1, dtype=torch.float64),
        torch.ones(1, 1, dtype=torch.float64),
    )
    assert nan.first_nonfinite_step == 2


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device")
    for kind in (Elman, Memory, nn.GRUCell):
        made = module(kind, 2, 4) if kind is nn.GRUCell else module(kind)
        x = normal(200, 3, 2)
        cpu = rc.TorchCell(made)
        last = {
            rc.forward(cpu, cpu.params(), x).cell.state_names[0]: torch.ones(
                3, 3 if kind is Memory else 4, dtype=torch.float64
            )
        }
        a = passes(cpu, cpu.params(), x, None, last)
        gpu = rc.TorchCell(made.cuda())
        b = passes(gpu, gpu.params(), x.cuda(), None, {name: value.cuda() for name, value in last.items()})
        assert b.x.device.type == "cuda"
        np.testing.assert_allclose(a.log_norm, b.log_norm, rtol=1e-10)
        for name in a.params:
            assert relative_error(b.params[name], a.params[name]) <= 1e-10


@pytest.mark.parametrize("gain", [1.0, 1e-30])
def test_a_start_that_is_learned_has_its_gradient(gain: float) -> None:
    """Its parameters are used before the first step alone; at a gain of 1e-30 their gradients are beyond the range of floats."""
    made, x = module(Learned), normal(30, 3, 2)
    with torch.no_grad():
        made.turn.weight.mul_(gain)
    cell = rc.TorchCell(made)
    grads = passes(cell, cell.params(), x, None, {"hidden": torch.ones(3, 4, dtype=torch.float64)})
    h = made.initial_state(3)
    if gain == 1.0:
        for x_t in x:
            h = made(x_t, h)
        for name, expected in zip(
            dict(made.named_parameters()), torch.autograd.grad(h.sum(), list(made.parameters())), strict=True
        ):
            assert relative_error(grads.params[name], expected) <= EQUAL, name
    else:
        initial = grads.state["hidden"]
        assert isinstance(initial, rc.Scaled) and isinstance(initial.exponent, int)
        expected = rc.Scaled(initial.mantissa.sum(0), initial.exponent)
        assert relative_error(grads.params["start"], expected) <= EQUAL and isinstance(grads.params["start"], rc.Scaled)
    given = passes(
        cell,
        cell.params(),
        x,
        None,
        {"hidden": torch.ones(3, 4, dtype=torch.float64)},
        {"hidden": made.initial_state(3).detach()},
    )
    assert not given.params["start"].any()  # a state that is given is nobody's parameter


@pytest.mark.parametrize("memory_budget", [None, 0])
def test_a_state_of_its_own_that_acts_late_is_told_on_the_way_back(memory_budget: int | None) -> None:
    """The check on the fourth step cannot see it; the gradient was that of another function than the one that went forward."""
    cell = rc.TorchCell(module(Late, 60))
    tape = rc.forward(cell, cell.params(), normal(300, 3, 2), None, memory_budget)
    with pytest.raises(
        ValueError,
        match=r"'Late' (at step t = \d+|between the steps t = \d+ and \d+) gives another result when it is taken again",
    ):
        rc.backward(tape, None, {"hidden": torch.ones(3, 4, dtype=torch.float64)})


def test_a_parameter_that_is_changed_between_the_passes_is_told() -> None:
    made = module(Elman)
    cell = rc.TorchCell(made)
    tape = rc.forward(cell, cell.params(), normal(20, 3, 2))
    with torch.no_grad():
        made.turn.weight.add_(0.1)
    with pytest.raises(ValueError, match=r"at step t = 20 gives another result .* or was changed since"):
        rc.backward(tape, None, {"hidden": torch.ones(3, 4, dtype=torch.float64)})
