"""Signals and states whose entries, parts, samples or single steps lie hundreds of decades apart: nothing that counts is lost."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core import compiled
from rnn_core.arrays import to_numpy
from rnn_core.bptt.signal import Wide
from tests.support.arrays import LIBRARIES, array, exact, thorough

LN10 = math.log(10.0)


def linear(W: float | np.ndarray, T: int, library: str = "numpy", W_ih: float = 1.0) -> rc.Tape:
    """A linear network at rest."""
    W = np.atleast_2d(np.asarray(W, dtype=np.float64))
    params = {"weight_ih": np.full((len(W), 1), W_ih), "weight_hh": W}
    given = {name: array(value, library) for name, value in params.items()}
    return rc.forward(rc.VanillaCell("identity"), given, array(np.zeros((T, 1, 1)), library))


def last(tape: rc.Tape, values: list[float]) -> dict[str, object]:
    return {"hidden": array(np.array([values]), "numpy" if isinstance(tape.x, np.ndarray) else "torch")}


def assert_close(found: object, expected: Fraction) -> None:
    """A single number, plain or scaled, to rounding."""
    (value,) = exact(found)
    assert abs(value - expected) <= Fraction(1e-14) * abs(expected)


# ---- the numbers themselves --------------------------------------------------------------------------------------------

entries = st.lists(
    st.tuples(st.floats(-1.0, 1.0).filter(lambda v: v == 0 or abs(v) > 1e-3), st.integers(-3000, 3000)), min_size=4, max_size=4
)  # fmt: skip


@given(a=entries, b=entries)
@thorough
def test_sums_and_layers_keep_every_entry(a: list[tuple[float, int]], b: list[tuple[float, int]]) -> None:
    """An entry far below the largest is lost, or an exponent."""

    def wide(values: list[tuple[float, int]]) -> Wide:
        one_by_one = [Wide.of({"hidden": np.where(np.arange(4) == i, m, 0.0)}, e) for i, (m, e) in enumerate(values)]
        total = one_by_one[0]
        for other in one_by_one[1:]:
            total = total.plus(other)
        return total

    total = wide(a).plus(wide(b))
    true = [
        Fraction(m) * Fraction(2) ** e + Fraction(n) * Fraction(2) ** f for (m, e), (n, f) in zip(a, b, strict=True)
    ]
    found = [Fraction(0)] * 4
    for parts, e in total.layers(np.zeros(1)):
        sizes = np.abs(parts["hidden"][parts["hidden"] != 0])
        assert sizes.size and sizes.min() > 2.0**-481 and sizes.max() < 1.0
        layer = exact(rc.Scaled(parts["hidden"], e))
        assert all(v == 0 or w == 0 for v, w in zip(found, layer, strict=True))
        found = [v + w for v, w in zip(found, layer, strict=True)]
    for got, want, (m, e), (n, f) in zip(found, true, a, b, strict=True):
        larger = max(abs(Fraction(m)) * Fraction(2) ** e, abs(Fraction(n)) * Fraction(2) ** f)
        assert abs(got - want) <= Fraction(2.0**-52) * larger


# ---- norms of samples --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [None, 1])
@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("W", [0.25, 1.0, 4.0])
def test_a_sample_far_below_the_largest_keeps_its_norm(
    W: float, fast: bool, budget: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The norm of a sample 600 decades below the largest is taken from columns in which it has been rounded to zero."""
    if not fast:
        monkeypatch.setattr(compiled, "covers", lambda *_: False)
    T, sizes = 400, np.array([1e300, 1e-300, 0.0, 1.0])
    params = {"weight_ih": np.ones((2, 1)), "weight_hh": W * np.eye(2)}
    tape = rc.forward(rc.VanillaCell("identity"), params, np.zeros((T, 4, 1)), memory_budget=budget)
    gradients = rc.backward(tape, grad_state={"hidden": sizes[:, None] * np.array([[3.0, 4.0]])})
    with np.errstate(divide="ignore"):
        expected = np.log(5.0 * sizes) + np.arange(T - 1, -1, -1)[:, None] * math.log(W)
    np.testing.assert_allclose(gradients.log_norm_samples, expected, rtol=1e-14, atol=1e-12)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("budget", [None, 1])
@pytest.mark.parametrize(
    ("cell", "activation", "rho"),
    [("vanilla", "tanh", 1.2), ("vanilla", "relu", 9.0), ("vanilla", "identity", 0.02), ("lstm", "tanh", 3.0), ("residual", "gelu", 0.5)],
)  # fmt: skip
def test_samples_add_up_to_the_batch(
    cell: str, activation: str, rho: float, budget: int | None, dtype: str, library: str
) -> None:
    """The samples' norms are of other columns, steps or exponents than the norm over the batch."""
    rng, T = np.random.default_rng(5), 700
    made = rc.CELLS[cell](activation)
    drawn = made.init_params(rng, 3, 6, spectral_radius=rho)
    params = {name: array(value.astype(dtype), library) for name, value in drawn.items()}
    tape = rc.forward(made, params, array(rng.standard_normal((T, 5, 3)).astype(dtype), library), memory_budget=budget)
    grad = np.zeros((T, 5, 6), dtype)
    grad[-1] = rng.standard_normal((5, 6)) * np.array([1.0, 1e-3, 1.0, 1e3, 1.0])[:, None]
    gradients = rc.backward(tape, array(grad, library))
    assert gradients.log_norm_samples.shape == (T, 5) and gradients.log_norm_samples.dtype == np.float64
    assert (np.diff(gradients.log_norm_samples[-1])[:1] < -4.0).all()
    together = 0.5 * np.logaddexp.reduce(2.0 * gradients.log_norm_samples, axis=1)
    np.testing.assert_allclose(together, gradients.log_norm, rtol=1e-13, atol=1e-13 if dtype == "float64" else 1e-5)


# ---- one step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("W", "g"), [(1e-300, 1e-140), (1.23456789e-180, 7e-143), (1e300, 1e140), (3e200, 1e150)])
def test_a_single_step_across_the_range(W: float, g: float, library: str) -> None:
    """One factor takes a signal of ordinary size out of the range at once."""
    tape = linear(W, 4, library)
    gradients = rc.backward(tape, grad_state=last(tape, [g]))
    expected = math.log(g) + math.log(W) * np.arange(3, -1, -1)
    np.testing.assert_allclose(gradients.log_norm, expected, rtol=1e-14)
    assert_close(gradients.state["hidden"], Fraction(g) * Fraction(W) ** 4)


def test_a_saturated_unit_of_a_run() -> None:
    """tanh at |a| = 300: its slope is 10^-260, and a gradient through some of them was called zero."""
    experiment = rc.Experiment(hidden_size=1, input_scale=100.0, sequence_length=60, batch_size=1, input_size=1, seed=3)
    trace = rc.run(experiment).traces["log10_grad_norm"]
    problem = rc.prepare(experiment)
    evaluation = rc.evaluate(problem, problem.params, *problem.batch(0))
    a = np.array(evaluation.tape.saved)[:, 0, 0]
    slope = (
        np.log(4.0) - 2 * np.abs(a) - 2 * np.log1p(np.exp(-2 * np.abs(a)))
    )  # ln phi'(a), which no float needs to hold
    assert np.abs(a).max() < 370  # beyond, phi' itself is below the range
    steps = slope + np.log(abs(problem.params["weight_hh"][0, 0]))
    expected = np.cumsum(steps[:0:-1])[::-1] / LN10
    np.testing.assert_allclose(trace[:-1] - trace[-1], expected, rtol=1e-11)
    assert trace.min() < -400


@pytest.mark.parametrize("library", LIBRARIES)
def test_dx_across_the_range(library: str) -> None:
    """dL/dx_t = W_ih^T du_t leaves the range although du_t does not."""
    tape = linear(1.0, 2, library, W_ih=1e-200)
    dx = rc.backward(tape, grad_state=last(tape, [1e-140])).x
    assert isinstance(dx, rc.Scaled)
    assert_close(dx[0], Fraction(1e-200) * Fraction(1e-140))


# ---- an LSTM's two parts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("w", [0.3, 0.5, 1.0, 2.5])
def test_a_cell_path_that_explodes_slowly(w: float, library: str) -> None:
    """dc_t + phi'(c_t) ⊙ o ⊙ dh_t overflows first, before the step itself does."""
    T, cell = 3000, rc.LSTMCell()
    params = {"weight_ih": np.zeros((4, 1)), "weight_hh": np.array([[0.0], [0.0], [w], [0.0]])}
    params["bias_ih"] = np.array([40.0, 40.0, 0.0, 40.0])
    given = {name: array(value, library) for name, value in params.items()}
    tape = rc.forward(cell, given, array(np.zeros((T, 1, 1)), library))
    gradients = rc.backward(tape, grad_state={"hidden": array([[1.0]], library)})
    # h = tanh(c), both 0: dc_t = dh_t + dc_{t+1}, dh_t = w dc_{t+1}; so dc grows by 1 + w a step.
    assert gradients.log_norm_cell is not None
    np.testing.assert_allclose(gradients.log_norm_cell, np.log1p(w) * np.arange(T - 1, -1, -1), rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(
        gradients.log_norm[:-1], gradients.log_norm_cell[1:] + math.log(w), rtol=1e-12, atol=1e-11
    )


def test_a_hidden_path_far_below_the_cell_path() -> None:
    """The two parts share an exponent, and the smaller one is lost."""
    T, w = 140, 1e-200
    params = {
        "weight_ih": np.zeros((4, 1)),
        "weight_hh": np.full((4, 1), w),
        "bias_ih": np.array([0.0, -3.0, 0.5, 0.0]),
    }
    tape = rc.forward(rc.LSTMCell(), params, np.zeros((T, 1, 1)))
    gradients = rc.backward(tape, grad_state={"hidden": np.ones((1, 1))})
    assert gradients.log_norm_cell is not None
    gap = gradients.log_norm[:-1] - gradients.log_norm_cell[1:]
    assert np.isfinite(gap).all()
    np.testing.assert_allclose(gap[5:-10], math.log(w), atol=3.0)
    np.testing.assert_allclose(np.diff(gap[5:-10]), 0.0, atol=1e-3)


# ---- entries and samples -----------------------------------------------------------------------------------------------


def test_samples_do_not_destroy_each_other() -> None:
    """One sample's gradient explodes, and another's, which plain floats hold, comes back as zero."""
    T, x = 800, np.zeros((800, 2, 1))
    x[:, 0], x[:, 1] = 1e-300, -1.0
    params = {"weight_ih": np.ones((1, 1)), "weight_hh": np.full((1, 1), 4.0)}
    cell = rc.VanillaCell("leaky_relu")
    both = rc.backward(rc.forward(cell, params, x), np.ones((T, 2, 1)))
    alone = rc.backward(rc.forward(cell, params, x[:, 1:]), np.ones((T, 1, 1)))
    loud = rc.backward(rc.forward(cell, params, x[:, :1]), np.ones((T, 1, 1)))
    np.testing.assert_allclose(both.log_norm, np.logaddexp(2 * alone.log_norm, 2 * loud.log_norm) / 2, rtol=1e-12)
    assert both.log_norm[0] > 1000  # beyond the range


def test_a_unit_that_is_switched_off_later_does_not_hide_the_other() -> None:
    """The largest entry of a step is cut off by relu further back; what was below it is all that remains."""
    x = np.zeros((760, 1, 2))
    x[:10, 0, 0], x[10:, 0, 0], x[:, :, 1] = -1.0, 1e-300, 1e-3
    params = {"weight_ih": np.eye(2), "weight_hh": np.diag([8.0, 1.0])}
    tape = rc.forward(rc.VanillaCell("relu"), params, x)
    gradients = rc.backward(tape, grad_state={"hidden": np.full((1, 2), 1 / 3)})
    assert gradients.log_norm[10] > 1500
    np.testing.assert_allclose(gradients.log_norm[:9], math.log(1 / 3), rtol=1e-13)
    np.testing.assert_allclose(np.asarray(gradients.state["hidden"]), [[0.0, 1 / 3]], rtol=1e-13)


# ---- states ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu"])
@pytest.mark.parametrize(
    ("W_ih", "x", "W"), [(1e200, 1e200, 1.0), (1e-200, 1e-200, 1e150), (1.0, 1e140, 1e200), (1.0, 1e-140, 1e-300)]
)
def test_states_that_cross_the_range_in_one_step(activation: str, W_ih: float, x: float, W: float) -> None:
    """An input, or one product, overflows or underflows before anything was there to be scaled."""
    params = {"weight_ih": np.array([[W_ih]]), "weight_hh": np.array([[W]])}
    inputs = np.zeros((3, 1, 1))
    inputs[0] = x
    hidden = rc.forward(rc.VanillaCell(activation), params, inputs).hidden
    for t in range(3):
        assert_close(hidden[t], Fraction(W_ih) * Fraction(x) * Fraction(W) ** t)


# ---- what is not finite ------------------------------------------------------------------------------------------------


def test_a_window_drops_what_is_not_finite_too() -> None:
    """0 · inf = nan: a detached state lets nothing pass."""
    tape = rc.forward(
        rc.VanillaCell("tanh"), {"weight_ih": np.ones((2, 1)), "weight_hh": np.eye(2)}, np.ones((5, 1, 1))
    )
    grad = np.ones((5, 1, 2))
    grad[-1] = np.inf
    log_norm = rc.backward(tape, grad, window=2).log_norm
    assert np.isfinite(log_norm[:3]).all() and not np.isfinite(log_norm[3:]).any()


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "hard_tanh"])
def test_a_state_that_is_nan_has_no_sound_gradient(activation: str) -> None:
    """phi'(nan) is a number, and what has broken looks mended."""
    x = np.ones((3, 1, 1))
    x[1] = np.nan
    params = {"weight_ih": np.ones((1, 1)), "weight_hh": np.ones((1, 1))}
    gradients = rc.backward(rc.forward(rc.VanillaCell(activation), params, x), np.ones((3, 1, 1)))
    assert np.isnan(gradients.log_norm[0]) and np.isnan(np.asarray(gradients.x)[1]).all()


# ---- Scaled as an array ------------------------------------------------------------------------------------------------


def test_scaled_is_indexed_like_an_array() -> None:
    """What stands in for an array breaks on the first index that a reader tries."""
    s = rc.Scaled(np.arange(1.0, 9.0).reshape(4, 2), np.array([0, 5000, 1, -5000]))
    assert len(s) == 4 and s.shape == (4, 2) and s.ndim == 2
    assert s[0, 1] == 2.0 and s[2, 0] == 10.0
    assert isinstance(s[1, 0], rc.Scaled) and exact(s[1:2])[1] == 4 * Fraction(2) ** 5000
    np.testing.assert_array_equal(s[0::2, 1], [2.0, 12.0])
    assert rc.Scaled(np.ones(2), np.int64(7)).exponent == 7
    with pytest.raises(ValueError, match="one for every leading index"):
        rc.Scaled(np.ones((2, 3)), np.zeros(3, dtype=np.int64))
    tape = linear(2.0, 3)
    for exponent in (np.int64(2000), np.full(3, 2000)):
        gradients = rc.backward(tape, rc.Scaled(np.ones((3, 1, 1)), exponent))
        np.testing.assert_allclose(gradients.log_norm, 2000 * math.log(2.0) + np.log([7.0, 3.0, 1.0]), rtol=1e-14)


def test_stored_states_cannot_be_overwritten() -> None:
    """Writing into tape.hidden changes the gradients."""
    for library in LIBRARIES:
        params = {"weight_ih": array(np.ones((2, 1)), library), "weight_hh": array(np.eye(2), library)}
        tape = rc.forward(rc.VanillaCell("tanh"), params, array(np.ones((4, 1, 1)), library))
        before = to_numpy(rc.backward(tape, grad_state=last(tape, [1.0, 1.0])).params["weight_hh"])
        tape.hidden[...] = 0.0
        np.testing.assert_array_equal(
            to_numpy(rc.backward(tape, grad_state=last(tape, [1.0, 1.0])).params["weight_hh"]), before
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: rc.backward(t, window=1.5), r"window: 1.5 is not allowed"),
        (lambda t: rc.backward(t, window=True), r"window: True is not allowed"),
        (lambda t: rc.backward(t, signal_threshold=0.0), r"signal_threshold: 0.0 is not allowed; it must be a number above 0"),
        (lambda t: rc.backward(t, signal_threshold=math.nan), r"signal_threshold: nan is not allowed"),
        (lambda t: rc.backward(t, lambda a, b: np.ones((b - a, 1, 1), np.float32)), r"grad_hidden\(start, stop\): float32"),
        (lambda t: rc.backward(t, grad_state={"hidden": rc.Scaled(np.ones((1, 1)), np.zeros(1, int))}), "one exponent"),
        (lambda t: rc.forward(rc.VanillaCell, t.params, t.x), r"cell: .* is not allowed; it must be a cell"),
        (lambda t: rc.forward(t.cell, {**t.params, "bias_hx": np.zeros(1)}, t.x), r"params: 'bias_hx' is not known.*Did you mean"),
        (lambda t: rc.forward(t.cell, t.params, t.x, memory_budget=-1), r"memory_budget: -1 is not allowed"),
        (lambda t: t.cell.init_params(np.random.default_rng(0), 0, 3), r"input_size: 0 is not allowed"),
        (lambda t: t.cell.init_params(np.random.default_rng(0), 2, 4.0), r"hidden_size: 4.0 is not allowed"),
        (lambda t: t.cell.init_params(np.random.default_rng(0), 2, 4, input_scale=math.nan), r"input_scale: nan"),
    ],
)  # fmt: skip
def test_mistakes_are_named(call: object, message: str) -> None:
    """A mistake runs, or ends in an error of NumPy's."""
    with pytest.raises(ValueError, match=message):
        call(linear(2.0, 3))  # type: ignore[operator]


def test_torch_tensors_take_the_same_path() -> None:
    """On the GPU nothing says that a step underflowed; the signal's size must."""
    tape = linear(np.diag([2.0**60, 0.5]), 60, "torch")
    gradients = rc.backward(tape, grad_state=last(tape, [1.0, 1.0]))
    assert isinstance(gradients.params["weight_ih"], torch.Tensor | rc.Scaled)
    lag = np.arange(59, -1, -1)
    np.testing.assert_allclose(
        gradients.log_norm, 60 * lag * math.log(2.0) + 0.5 * np.log1p(4.0 ** (-61.0 * lag)), rtol=1e-14
    )
    assert to_numpy(gradients.log_norm)[0] > 2400


# ---- found by attack ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("exponent", [60, 500, 1500, -60, -500, -1500])
@pytest.mark.parametrize("cell_name", list(rc.CELLS))
def test_a_scaled_initial_state_is_its_plain_value(cell_name: str, exponent: int, dtype: str) -> None:
    """The exponent of an initial state is lost in a cell that has no scaled forward pass."""
    rng, cell = np.random.default_rng(0), rc.CELLS[cell_name]("tanh")
    params = {n: v.astype(dtype) for n, v in cell.init_params(rng, 1, 2).items()}
    x = np.ones((3, 1, 1), dtype=dtype)
    state = {name: rc.Scaled(np.array([[0.5, -0.75]], dtype=dtype), exponent) for name in cell.state_names}
    plain = {name: value.to_float() for name, value in state.items()}
    found, expected = rc.forward(cell, params, x, state), rc.forward(cell, params, x, plain)
    np.testing.assert_array_equal(found.hidden, expected.hidden)
    assert found.first_nonfinite_step == expected.first_nonfinite_step


def test_a_direct_part_that_joins_far_below() -> None:
    """Adding it at the exponent of the larger summand flushes it, and relu then switches the larger one off."""
    x, g = np.full((40, 2, 1), 1e-300), np.zeros((40, 2, 1))
    x[0] = [[-1.0], [1e-300]]
    g[-1, 0], g[1, 1] = 1.0, 1.0
    tape = rc.forward(rc.VanillaCell("relu"), {"weight_ih": np.ones((1, 1)), "weight_hh": np.full((1, 1), 1e10)}, x)
    state = np.asarray(rc.backward(tape, g).state["hidden"])
    np.testing.assert_allclose(state, [[0.0], [1e20]], rtol=1e-14)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_scaled_direct_part_that_joins_far_above(library: str) -> None:
    """The same with an exponent given, whatever the library."""
    params = {"weight_ih": array(np.ones((1, 1)), library), "weight_hh": array(np.full((1, 1), 0.5), library)}
    x = array(np.array([[[-1.0], [1.0]], [[1.0], [1.0]], [[1.0], [1.0]]]), library)
    g = np.zeros((3, 2, 1))
    g[2, 0], g[1, 1] = 1.0, 1.0
    tape = rc.forward(rc.VanillaCell("relu"), params, x)
    gradients = rc.backward(tape, rc.Scaled(array(g, library), np.array([0, 0, 1500])))
    np.testing.assert_array_equal(np.asarray(gradients.state["hidden"]), [[0.0], [0.25]])


@pytest.mark.parametrize(("dtype", "size"), [("float64", 1e300), ("float32", 1e30)])
def test_a_sum_that_the_plain_pass_has_right(dtype: str, size: float) -> None:
    """A tiny sum is taken for one that has underflowed, and its terms are lost beside a factor that meets a zero."""
    params = {"weight_ih": np.ones((1, 1)), "weight_hh": np.ones((1, 1)), "bias_ih": np.ones(1)}
    params["weight_ih"] = -params["weight_ih"]
    given = {name: value.astype(dtype) for name, value in params.items()}
    x = np.array([[[size], [1 / size]]], dtype=dtype)
    gradients = rc.backward(rc.forward(rc.VanillaCell("relu"), given, x), np.ones((1, 2, 1), dtype=dtype))
    np.testing.assert_allclose(np.asarray(gradients.params["weight_ih"]), [[1 / size]], rtol=1e-6)


@pytest.mark.parametrize("where", ["x", "weight_ih", "weight_hh", "bias_ih", "grad_hidden"])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
@pytest.mark.parametrize("cell_name", list(rc.CELLS))
def test_nothing_escapes(cell_name: str, bad: float, where: str) -> None:
    """inf or nan in an argument ends in an exception or a warning instead of inf or nan in the result."""
    rng = np.random.default_rng(1)
    if where == "weight_hh" and not rc.CELLS[cell_name].has_matrix:
        where = "weight_ih"
    for activation in ("tanh", "relu", "gelu"):
        cell = rc.CELLS[cell_name](activation)
        arrays = {**cell.init_params(rng, 2, 3), "x": rng.standard_normal((4, 2, 2)), "grad_hidden": np.ones((4, 2, 3))}
        arrays[where] = np.array(arrays[where])
        arrays[where].reshape(-1)[0] = bad
        params = {name: value for name, value in arrays.items() if name not in ("x", "grad_hidden")}
        gradients = rc.backward(rc.forward(cell, params, arrays["x"]), arrays["grad_hidden"])
        everything = [*gradients.params.values(), gradients.hidden, gradients.x, gradients.log_norm]
        if where != "bias_ih" or math.isnan(bad):  # an infinite bias only saturates tanh, whose result is finite
            assert not all(np.isfinite(np.asarray(a)).all() for a in everything)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("cell_name", list(rc.CELLS))
def test_a_callers_own_floating_point_settings_do_not_matter(cell_name: str, dtype: str) -> None:
    """np.seterr(all="raise") in the caller's program stops the engine."""
    rng = np.random.default_rng(2)
    for activation in rc.ACTIVATIONS:
        cell = rc.CELLS[cell_name](activation)
        for scale, size in ((1.0, 1.0), (1e3, 1.0), (1.0, 1e-30), (1.0, 1e30)):
            drawn = cell.init_params(rng, 2, 3, spectral_radius=2.0 if cell.has_matrix else None)
            params = {n: v.astype(dtype) for n, v in drawn.items()}
            x = (scale * rng.standard_normal((150, 2, 2))).astype(dtype)
            grad = (size * rng.standard_normal((150, 2, 3))).astype(dtype)
            expected = rc.backward(rc.forward(cell, params, x), grad)
            with np.errstate(all="raise"):
                found = rc.backward(rc.forward(cell, params, x), grad)
            np.testing.assert_array_equal(found.log_norm, expected.log_norm)
