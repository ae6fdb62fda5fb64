"""``probe``, ``InputTrace`` and ``check_derivatives``: what a notebook sees of a user's own model."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import rnn_core as rc
from rnn_core.probing.drawing import new_axes
from tests.rnn_core.own.modules import ByHand, Decay, Elman, Memory, Oscillator, Tanh, module, normal

SOUND = 1e-5


# ---- derivatives ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Elman, Memory, Oscillator, ByHand, nn.GRUCell, nn.LSTMCell, "relu", "float32"])
def test_right_derivatives_are_right(kind: Any) -> None:
    """Also at the kinks of relu, where x is 0 and so is every state, and of a module in float32."""
    made = (
        module(nn.RNNCell, 2, 4, nonlinearity="relu")
        if kind == "relu"
        else module(Elman if kind == "float32" else kind, 2, 4)
    )
    for x in (normal(30, 3, 2), torch.zeros(30, 3, 2, dtype=torch.float64)):
        if kind == "float32":
            made, x = made.float(), x.float()
        error = rc.check_derivatives(made, x, steps=None)
        assert error.relative <= SOUND, error


SLOPES: dict[str, Any] = {
    "a value too little": lambda h: 1 - h,
    "a thousandth too much": lambda h: 1.001 * (1 - h * h),
    "a unit is forgotten": lambda h: (1 - h * h) * torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=h.dtype),
    "zero": lambda h: 0 * h,
    "not a number": lambda h: h * math.nan,
}


@pytest.mark.parametrize("name", SLOPES)
def test_a_wrong_backward_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tanh, "slope", staticmethod(SLOPES[name]))
    error = rc.check_derivatives(module(ByHand), normal(20, 3, 2))
    assert error.relative > 1e-4, name
    assert "step t = " in error.where and "autograd has" in error.where and "written by hand: Tanh" in error.where


@pytest.mark.parametrize("step", [1, 7, 20])
def test_its_step_is_the_one_that_is_named(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slope is wrong where a unit is large, which it is at one step alone."""
    monkeypatch.setattr(Tanh, "slope", staticmethod(lambda h: torch.where(h > 0.9999, 2.0, 1 - h * h)))
    x = 0.01 * normal(20, 3, 2)
    made = module(ByHand)
    with torch.no_grad():
        x[step - 1] = 30.0 * made.read.weight.sum(0)
    error = rc.check_derivatives(made, x)
    assert error.relative > 0.1 and f"step t = {step} " in error.where, error


def test_parameters_of_a_function_are_judged_too() -> None:
    made = module(ByHand)
    cell = rc.TorchCell(lambda x, h: made(x, h), parameters_of=made)
    assert rc.check_derivatives(cell, normal(5, 3, 2), torch.zeros(3, 4, dtype=torch.float64)).relative <= SOUND


def test_a_method_in_float32_is_judged_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float32 a slope that is a hundredth off is lost in the rounding of differences."""
    monkeypatch.setattr(Tanh, "slope", staticmethod(lambda h: 1.01 * (1 - h * h)))
    made, x = module(ByHand).float(), normal(20, 3, 2).float()
    assert rc.check_derivatives(made.forward, x, torch.zeros(3, 4)).relative > 5e-3


@pytest.mark.parametrize("factor", [1e3, -1e30])
def test_states_that_leave_the_range_of_floats_are_no_wrong_derivative(factor: float) -> None:
    """inf - inf is a difference that says nothing, and a study of an exploding cell is stopped."""
    start = torch.ones(2, 1, dtype=torch.float64)
    error = rc.check_derivatives(lambda x, h: factor * h + x, normal(200, 2, 1), start, steps=None)
    assert error.relative <= SOUND, error


# ---- probe ---------------------------------------------------------------------------------------------------------------


def test_a_probe_is_what_the_engine_says() -> None:
    made, x = module(nn.GRUCell, 2, 4), normal(60, 3, 2)
    found = rc.probe(made, x.numpy(), grad=np.ones((3, 4)))
    assert isinstance(found, rc.Probe)
    cell = rc.GRUCell()
    params = dict(rc.TorchCell(made).params())
    grads = rc.backward(rc.forward(cell, params, x), grad_state={"hidden": torch.ones(3, 4, dtype=torch.float64)})
    np.testing.assert_allclose(found.log10_grad_norm, grads.log_norm / math.log(10.0), rtol=1e-12)
    np.testing.assert_allclose(found.log10_grad_norm_samples, grads.log_norm_samples / math.log(10.0), rtol=1e-12)
    for name, value in grads.params.items():
        assert found.log10_grad_norm_params[name] == pytest.approx(float(value.norm().log10()), rel=1e-12)
    growth = rc.theory.growth(grads.log_norm_samples, found.window)
    assert found.growth.rate == pytest.approx(growth.rate, rel=1e-12) and found.regime == rc.theory.regime(growth.ratio)
    assert found.growth_of == "hidden" and found.derivatives is not None and found.derivatives.relative <= SOUND
    np.testing.assert_array_equal(found.lost["float16_flushed"], grads.lost["float16_flushed"])
    inside = {"burn_in": len(found.tape.x) - found.window.stop, "settle": found.window.start + 1}
    exponents = rc.theory.lyapunov_spectrum(found.tape, 4, **inside).exponents
    np.testing.assert_array_equal(found.spectrum.exponents, exponents)


def test_a_cell_of_ours_is_probed_with_its_parameters() -> None:
    rng = np.random.default_rng(0)
    cell = rc.VanillaCell()
    params = cell.init_params(rng, 2, 4, spectral_radius=0.5)
    found = rc.probe(cell, rng.standard_normal((50, 3, 2)), params)
    assert isinstance(found, rc.Probe) and found.regime == "vanishing" and found.derivatives is None
    with pytest.raises(ValueError, match="params: is needed; the cell 'vanilla' is equations without arrays"):
        rc.probe(cell, rng.standard_normal((50, 3, 2)))


def test_growth_is_that_of_the_part_that_goes_back() -> None:
    """An output acts on no later step, so its own gradient says nothing; the memory's is known exactly."""

    class Read(Decay):
        def initial_state(self, batch_size: int) -> Any:
            return {"output": self.rates.new_zeros(batch_size, 1), "memory": super().initial_state(batch_size)}

        def forward(self, x: Tensor, state: Any) -> Any:
            memory = super().forward(x, state["memory"])
            return {"output": memory.flatten(1).sum(1, keepdim=True), "memory": memory}

    found = rc.probe(Read([[1e-5, 1e-5]]).double(), torch.zeros(1200, 2, 2, dtype=torch.float64), exponents=0)
    assert isinstance(found, rc.Probe)
    assert found.growth_of == "memory" and found.growth.rate == pytest.approx(math.log(1e-5), rel=1e-12)
    assert found.log10_grad_norms["memory"][0] - found.log10_grad_norms["memory"][-1] == pytest.approx(-5.0 * 1199)
    assert found.lost["float32_flushed"][0] == 1.0 and found.first_lost["float32_flushed_at"] == 1191
    assert np.isneginf(found.log10_grad_norm[:-1]).all()


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_stacked_layers_go_step_by_step(kind: Any, batch_first: bool) -> None:
    """dL/dx_t of two layers: by the engine and by autograd through the fused module."""
    made, x = module(kind, 2, 4, num_layers=2, batch_first=batch_first), normal(40, 3, 2).requires_grad_()
    found = rc.probe(made, x, grad=torch.ones(3, 4, dtype=torch.float64))
    assert isinstance(found, rc.Probe) and found.growth_of == "hidden" and found.regime == "vanishing"
    output, _ = made(x.transpose(0, 1)) if batch_first else made(x)
    (dx,) = torch.autograd.grad((output[:, -1] if batch_first else output[-1]).sum(), x)
    np.testing.assert_allclose(found.log10_grad_norm_x, dx.flatten(1).norm(dim=1).log10().numpy(), rtol=1e-10)


def test_a_broken_backward_and_a_broken_state_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tanh, "slope", staticmethod(lambda h: 1 - h))
    assert "derivatives: WRONG, what step t = " in repr(rc.probe(module(ByHand), normal(20, 3, 2)))
    square = rc.probe(
        rc.TorchCell(lambda x, h: h * h + x),
        torch.full((20, 1, 1), 4.0, dtype=torch.float64),
        state=torch.ones(1, 1, dtype=torch.float64),
        exponents=0,
    )
    assert "states: not finite from step t=" in repr(square)


def test_where_no_step_is_finite_no_derivative_is_called_right() -> None:
    broken = rc.probe(
        lambda x, h: torch.sqrt(x - h), -1 - normal(5, 2, 1) ** 2, state=torch.zeros(2, 1, dtype=torch.float64)
    )
    assert "derivatives: not known, no step is finite" in repr(broken)


def test_exponents_are_those_of_the_window() -> None:
    """Steps in which the state settles, and the growth without them: two numbers of two stretches."""
    x = 2.0 * normal(60, 1, 2)
    probe = rc.probe(module(nn.RNNCell, 2, 4, scale=2.0), x)
    window = probe.window
    expected = rc.theory.lyapunov_spectrum(probe.tape, burn_in=60 - window.stop, settle=window.start + 1)
    np.testing.assert_array_equal(probe.spectrum.exponents, expected.exponents)
    assert abs(probe.growth.rate - expected.exponents[0]) < abs(
        probe.growth.rate - rc.theory.lyapunov_spectrum(probe.tape).exponents[0]
    )


def test_surviving_directions_are_counted() -> None:
    """Of rates 1, 0.98 and 0.9, over 100 steps 0.98^100 = 0.13 keeps more than a hundredth and 0.9^100 = 3e-5 less."""
    rates = torch.tensor([[1.0, 0.98], [0.9, 0.9]], dtype=torch.float64)
    found = rc.probe(module(Decay, rates), normal(150, 2, 2))
    assert found.surviving_directions == 2.0 and found.lag == 100
    np.testing.assert_allclose(found.log_singular_values, 100 * np.log([1.0, 0.98, 0.9, 0.9]), atol=1e-12)
    assert "directions: 2 of 4 keep 1 % of what the best one keeps over the last 100 steps" in repr(found)
    short = rc.probe(module(Decay, rates), normal(20, 2, 2))
    assert short.surviving_directions == 4.0 and short.lag == 20
    none = rc.probe(module(Decay, rates), normal(20, 2, 2), lag=0)
    assert none.log_singular_values is None and "directions" not in repr(none)
    assert rc.probe(module(nn.GRUCell, 2, 300), normal(3, 2, 2)).log_singular_values is None
    with pytest.raises(ValueError, match="lag: -1 is not allowed"):
        rc.probe(module(Decay, rates), normal(20, 2, 2), lag=-1)


@pytest.mark.parametrize("exponents", [-1, 2.5, "8"])
def test_a_number_of_exponents_is_a_number(exponents: Any) -> None:
    with pytest.raises(ValueError, match=r"exponents: .* is not allowed; it must be an integer of at least 0"):
        rc.probe(module(nn.GRUCell, 2, 3), normal(5, 2, 2), exponents=exponents)


def test_a_probe_says_it_in_a_few_lines() -> None:
    text = repr(rc.probe(module(nn.RNNCell, 2, 4, scale=0.3), normal(300, 3, 2)))
    assert text.startswith("Probe of RNNCell: T=300, B=3, D=2, state hidden 4, float64\n")
    for words in (
        "gradient of hidden: log10 of its norm ",
        ": vanishing",
        "per step back (ln, mean over sequences, t=",
        "float16 keeps nothing from t=",
        "Lyapunov exponents: -",
        "derivatives: right",
    ):
        assert words in text, (words, text)
    assert len(text.splitlines()) <= 7 and max(map(len, text.splitlines())) <= 160


def test_a_memory_budget_leaves_out_what_it_has_no_room_for() -> None:
    """What was not kept is used, or its absence is not said."""
    for made in (module(nn.GRUCell, 2, 4), module(Memory)):
        whole, tight = (rc.probe(made, normal(300, 2, 2), memory_budget=budget, exponents=1) for budget in (None, 1000))
        assert tight.log10_grad_norm_x is None and tight.growth_of == whole.growth_of
        np.testing.assert_array_equal(tight.log10_grad_norms[tight.growth_of], whole.log10_grad_norms[tight.growth_of])
        assert ("not known, the memory budget" in repr(tight)) == (tight.growth_of == "memory") == (not tight.lost)
        assert tight.growth.rate == pytest.approx(whole.growth.rate, rel=1e-3 if tight.growth_of == "hidden" else 0.1)


def test_a_gradient_that_ends_is_said_to() -> None:
    cut = rc.probe(lambda x, h: 0 * h + x, torch.ones(5, 2, 3), state=torch.zeros(2, 3))
    assert "at t=5, exactly zero before: vanishing" in repr(cut)


# ---- whole sequences -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("T", [50, 2500])
def test_inputs_of_a_whole_sequence_are_those_of_its_steps(T: int) -> None:
    """Down to 10^-500 by one backward pass of autograd's, scaled."""
    made, x = module(nn.LSTM, 2, 4, num_layers=2), normal(T, 3, 2)
    grad = torch.ones(3, 4, dtype=torch.float64)
    steps, whole = (
        rc.probe(made, x, grad=grad, check=False, exponents=0),
        rc.probe(made, x, grad=grad, whole_sequence=True),
    )
    assert isinstance(steps, rc.Probe) and isinstance(whole, rc.InputTrace) and whole.known.all()
    assert T == 50 or steps.log10_grad_norm_x[0] < -400
    np.testing.assert_allclose(whole.log10_grad_norm_x, steps.log10_grad_norm_x, rtol=1e-12, atol=1e-11)
    alone = rc.probe(made, x[:, :1], grad=grad[:1], whole_sequence=True)
    assert isinstance(alone, rc.InputTrace)
    np.testing.assert_allclose(whole.log10_grad_norm_x_samples[:, 0], alone.log10_grad_norm_x, rtol=1e-10, atol=1e-9)


def through_time(rate: float) -> Any:
    """h_t = rate h_{t-1} + x_t as one fused block, which shows its last output alone."""

    def model(x: Tensor) -> Tensor:
        h = torch.zeros_like(x[0])
        for x_t in x:
            h = rate * h + x_t
        return h

    return model


@pytest.mark.parametrize(("rate", "first_known"), [(1e-2, 0), (1e2, 0), (1e-10, 446), (1e10, 446)])
def test_what_one_pass_does_not_hold_is_unknown(rate: float, first_known: int) -> None:
    """A number that has under- or overflowed is given as if it were one."""
    T = 270 if not first_known else 500
    trace = rc.probe(
        through_time(rate), torch.zeros(T, 1, 1, dtype=torch.float64), grad=torch.ones(1, 1), whole_sequence=True
    )
    assert isinstance(trace, rc.InputTrace)
    lags = np.arange(T)[::-1]
    np.testing.assert_allclose(
        trace.log10_grad_norm_x[trace.known], (lags * math.log10(rate))[trace.known], rtol=1e-9, atol=1e-9
    )
    if first_known:
        assert trace.known[first_known:].all() and not trace.known[: first_known - 20].any()
        assert np.isnan(trace.log10_grad_norm_x[~trace.known]).all() and "not known at" in repr(trace)
    else:
        assert trace.known.all() and "not known" not in repr(trace)


def test_an_input_that_does_not_count_is_zero_and_known() -> None:
    trace = rc.probe(lambda x: x[5:].sum(0), normal(10, 2, 1), grad=torch.ones(2, 1), whole_sequence=True)
    assert isinstance(trace, rc.InputTrace)
    assert np.isneginf(trace.log10_grad_norm_x[:5]).all() and trace.known.all()


def test_a_model_of_whole_sequences_is_told_how_to_ask() -> None:
    """The message spoke of a state that such a model does not have."""

    class Whole(nn.LSTM):
        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return super().forward(x)[0]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Whole(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.inner(x)
            return out

    with pytest.raises(
        ValueError, match=r"state: is needed.*whole sequences.*rc.probe\(model, x, whole_sequence=True\)"
    ):
        rc.probe(module(Model), normal(6, 3, 2))
    assert isinstance(rc.probe(module(Model), normal(6, 3, 2), whole_sequence=True), rc.InputTrace)


def test_dropout_between_layers_is_named() -> None:
    """torch's layers have no part of their own for it, so the words named none."""
    with pytest.raises(ValueError, match=r"draws random numbers \(dropout is on in layers\). Call module.eval\(\)"):
        rc.probe(module(nn.LSTM, 2, 4, num_layers=2, dropout=0.5), normal(6, 3, 2))


def test_a_batch_that_comes_first_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="looks batch-first"):
        rc.probe(module(nn.RNNCell, 2, 3), normal(16, 100, 2), exponents=0, lag=0, check=False)


def test_outputs_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match=r"model: it returned \(7,\); a whole sequence gives \(T, B, …\)"):
        rc.probe(lambda x: x.sum() * torch.ones(7), normal(10, 2, 1), whole_sequence=True)
    with pytest.raises(ValueError, match="does not depend on x by operations that autograd knows"):
        rc.probe(lambda x: x.detach(), normal(10, 2, 1), whole_sequence=True)
    for mixing in (module(nn.LSTM, 2, 4, batch_first=True), lambda x: nn.functional.normalize(x, dim=1)):
        with pytest.raises(ValueError, match=r"the last output of sample \d depends on inputs of other samples"):
            rc.probe(mixing, normal(10, 3, 2), whole_sequence=True)


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_bidirectional_module_is_refused_with_a_call_that_sees_both_ends(kind: type[nn.RNNBase], layers: int) -> None:
    """The call that was named takes the last output, where the reverse direction has seen one step: the first step seemed lost."""
    model, x = module(kind, 2, 4, layers, bidirectional=True), normal(60, 3, 2)
    with pytest.raises(ValueError, match="a bidirectional module has no step") as refused:
        rc.probe(model, x)
    [call] = re.findall(r"rc\.probe\(lambda .*?whole_sequence=True\)", str(refused.value))
    both = eval(call, {"rc": rc, "model": model, "x": x}).log10_grad_norm_x
    last = rc.probe(model, x, whole_sequence=True).log10_grad_norm_x
    assert both[0] > both[30] + 3 and both[-1] > both[30] + 3
    assert last[0] < both[0] - 3


# ---- figures -------------------------------------------------------------------------------------------------------------


def test_a_probe_draws_on_axes_that_it_is_given() -> None:
    from matplotlib.figure import Figure

    found = rc.probe(module(nn.LSTMCell, 2, 4), normal(60, 3, 2))
    axes = Figure().subplots(1, 3)
    assert [each.get_ylabel() for each in found.plot(axes)] == [
        "log$_{10}$ of the gradient's norm",
        "entries lost (%)",
        "Lyapunov exponent (ln per step)",
    ]
    drawn = {line.get_label(): line for line in axes[0].lines}
    np.testing.assert_array_equal(drawn["hidden"].get_ydata(), found.log10_grad_norm)
    assert {"hidden", "cell", "hidden, single sequences"} <= set(drawn)
    trace = rc.probe(through_time(0.5), torch.zeros(9, 1, 1), whole_sequence=True)
    [line] = trace.plot(Figure().subplots()).lines
    np.testing.assert_array_equal(line.get_ydata(), trace.log10_grad_norm_x)


def test_new_axes_need_a_plotting_library_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine imports none."""
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    with pytest.raises(RuntimeError, match=r"import matplotlib.pyplot first, or give matplotlib axes"):
        new_axes(2)
