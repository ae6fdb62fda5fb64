"""Optimisers: against torch.optim, step for step, and against what their papers prove."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.optimizers import Adam, Momentum, Optimizer
from tests.support.arrays import DTYPES, EPS, LIBRARIES, array, quick, thorough

TORCH: dict[str, Callable[[Iterable[torch.Tensor], float], torch.optim.Optimizer]] = {
    "sgd": lambda params, learning_rate: torch.optim.SGD(params, lr=learning_rate),
    "momentum": lambda params, learning_rate: torch.optim.SGD(params, lr=learning_rate, momentum=0.9),
    "adam": lambda params, learning_rate: torch.optim.Adam(params, lr=learning_rate),
    "adamw": lambda params, learning_rate: torch.optim.AdamW(params, lr=learning_rate, weight_decay=0.0),
}


@dataclass(frozen=True)
class Setting:
    """An optimiser with settings of its own, ours and torch's."""

    ours: Callable[[], Optimizer]
    theirs: Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]


@st.composite
def settings_of(draw: st.DrawFn) -> Setting:
    """Every optimiser, with every setting that torch has too."""
    rate, decay = draw(st.floats(1e-4, 1.0)), draw(st.sampled_from([0.0, 1e-3, 0.1, 0.9]))
    name = draw(st.sampled_from(list(rc.OPTIMIZERS)))
    if name == "momentum":
        mu = draw(st.floats(0.0, 0.99))
        return Setting(
            lambda: Momentum(rate, mu, decay),
            lambda params: torch.optim.SGD(params, lr=rate, momentum=mu, weight_decay=decay),
        )
    if name == "adam":
        decay = 0.0  # with a penalty: test_adams_penalty_is_torchs
    if name in ("adam", "adamw"):
        beta1, beta2, eps = draw(st.floats(0.0, 0.99)), draw(st.floats(0.5, 0.9999)), draw(st.floats(1e-10, 0.1))
        ours, theirs = {"adam": (Adam, torch.optim.Adam), "adamw": (rc.AdamW, torch.optim.AdamW)}[name]
        return Setting(
            lambda: ours(rate, beta1, beta2, eps, decay),
            lambda params: theirs(params, lr=rate, betas=(beta1, beta2), eps=eps, weight_decay=decay),
        )
    return Setting(
        lambda: rc.OPTIMIZERS[name](rate, weight_decay=decay),
        lambda params: torch.optim.SGD(params, lr=rate, weight_decay=decay),
    )


def draw_steps(seed: int, steps: int, scale: float = 1.0) -> list[dict[str, np.ndarray]]:
    """The start, and ``steps`` gradients; the start is of size 1, the gradients of size ``scale``."""
    rng = np.random.default_rng(seed)
    sizes = [1.0] + [scale] * steps
    return [{"weight": size * rng.standard_normal((3, 2)), "bias": size * rng.standard_normal(3)} for size in sizes]


def train(ours: Optimizer, drawn: list[dict[str, np.ndarray]], library: str = "numpy", dtype: str = "float64") -> Any:
    """Our parameters after every step."""
    params, path = {n: array(v, library, dtype) for n, v in drawn[0].items()}, []
    for grads in drawn[1:]:
        params = ours.step(params, {n: array(g, library, dtype) for n, g in grads.items()})
        path.append(params)
    return path


def assert_torchs(
    ours: Optimizer,
    make_theirs: Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer],
    drawn: list[dict[str, np.ndarray]],
    library: str,
    dtype: str,
) -> None:
    """The parameters after every step are those of torch's optimiser."""
    leaves = {n: torch.tensor(v, dtype=getattr(torch, dtype), requires_grad=True) for n, v in drawn[0].items()}
    theirs = make_theirs(leaves.values())
    largest = max(float(np.abs(v).max()) for v in drawn[0].values())
    for grads, params in zip(drawn[1:], train(ours, drawn, library, dtype), strict=True):
        for n, leaf in leaves.items():
            leaf.grad = torch.tensor(grads[n], dtype=leaf.dtype)
        theirs.step()
        for n, value in params.items():
            assert type(value) is type(array(0.0, library)) and str(value.dtype).endswith(dtype)
            expected = leaves[n].detach().numpy()
            # What is rounded is the way there: a parameter that comes near 0 keeps the error of its largest value.
            largest = max(largest, float(np.abs(expected).max()))
            np.testing.assert_allclose(to_numpy(value), expected, rtol=20 * EPS[dtype], atol=10 * EPS[dtype] * largest)


def test_every_optimizer_is_compared() -> None:
    """An optimiser was added with nothing here to hold it against."""
    assert set(TORCH) == set(rc.OPTIMIZERS)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(rc.OPTIMIZERS))
def test_ten_steps_are_torchs(name: str, dtype: str, library: str) -> None:
    """A step goes uphill, has the wrong size, or what is remembered from step to step is lost."""
    rng = np.random.default_rng(0)
    start = {"weight": rng.standard_normal((3, 2)), "bias": rng.standard_normal(3)}
    params = {n: array(v, library, dtype) for n, v in start.items()}
    leaves = {n: torch.tensor(v, dtype=getattr(torch, dtype), requires_grad=True) for n, v in start.items()}
    ours, theirs = rc.OPTIMIZERS[name](0.05), TORCH[name](leaves.values(), 0.05)
    for _ in range(10):
        grads = {n: rng.standard_normal(v.shape) for n, v in start.items()}
        params = ours.step(params, {n: array(g, library, dtype) for n, g in grads.items()})
        for n, leaf in leaves.items():
            leaf.grad = torch.tensor(grads[n], dtype=leaf.dtype)
        theirs.step()
    for n, value in params.items():
        assert str(value.dtype).endswith(dtype)
        np.testing.assert_allclose(
            to_numpy(value), leaves[n].detach().numpy(), rtol=20 * EPS[dtype], atol=2 * EPS[dtype]
        )


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@given(
    setting=settings_of(),
    seed=st.integers(0, 2**32 - 1),
    steps=st.integers(1, 30),
    scale=st.sampled_from([1e-9, 1e-3, 1.0, 30.0]),
)
@thorough
def test_every_setting_is_torchs(
    setting: Setting, seed: int, steps: int, scale: float, dtype: str, library: str
) -> None:
    """A setting is ignored, or means something else than the same word in torch.optim."""
    assert_torchs(setting.ours(), setting.theirs, draw_steps(seed, steps, scale), library, dtype)


@pytest.mark.parametrize("wrong", [lambda: Momentum(0.05, 0.899), lambda: Adam(0.05, 0.9, 0.998), lambda: Adam(0.0501)])
def test_the_comparison_sees_a_wrong_setting(wrong: Callable[[], Optimizer]) -> None:
    """The tolerance would let another rule pass for torch's."""
    name = "momentum" if isinstance(wrong(), Momentum) else "adam"
    with pytest.raises(AssertionError):
        assert_torchs(wrong(), lambda p: TORCH[name](p, 0.05), draw_steps(0, 10), "numpy", "float32")


@pytest.mark.parametrize("name", list(rc.OPTIMIZERS))
def test_parameters_given_are_not_changed(name: str) -> None:
    """The start of a run would be overwritten by its training."""
    params = {"w": np.ones(3)}
    following = rc.OPTIMIZERS[name](0.5).step(params, {"w": np.ones(3)})
    np.testing.assert_array_equal(params["w"], 1.0)
    assert (following["w"] < 1.0).all()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", list(rc.OPTIMIZERS))
def test_nothing_is_shared_with_the_caller(name: str, library: str) -> None:
    """A gradient is changed by a step, or a caller who overwrites a gradient or parameters changes what is remembered."""
    drawn = draw_steps(1, 3)
    expected = train(rc.OPTIMIZERS[name](0.1), drawn, library)
    ours, params = rc.OPTIMIZERS[name](0.1), {n: array(v.copy(), library) for n, v in drawn[0].items()}
    for grads, after in zip(drawn[1:], expected, strict=True):
        given = {n: array(g.copy(), library) for n, g in grads.items()}
        following = ours.step(params, given)
        for n in params:
            np.testing.assert_array_equal(to_numpy(given[n]), grads[n])
            np.testing.assert_array_equal(to_numpy(following[n]), to_numpy(after[n]))
            given[n][...] = 1e9
            params[n][...] = 1e9
        params = following


@pytest.mark.parametrize("name", list(rc.OPTIMIZERS))
def test_parameters_are_independent(name: str) -> None:
    """What one parameter remembers reaches another, or the order of the parameters matters."""
    drawn = draw_steps(2, 5)
    together = train(rc.OPTIMIZERS[name](0.1), drawn)
    alone = train(rc.OPTIMIZERS[name](0.1), [{"bias": d["bias"]} for d in drawn])
    turned = train(rc.OPTIMIZERS[name](0.1), [dict(reversed(d.items())) for d in drawn])
    for a, b, c in zip(together, alone, turned, strict=True):
        np.testing.assert_array_equal(a["bias"], b["bias"])
        np.testing.assert_array_equal(a["bias"], c["bias"])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", list(rc.OPTIMIZERS))
def test_scaled_gradients_within_range_are_plain_ones(name: str, library: str) -> None:
    """A gradient with its exponent apart makes another step than the same gradient in plain floats."""
    w, g = array([1.0, 2.0], library), array([0.3, -0.7], library)
    plain = rc.OPTIMIZERS[name](0.1).step({"w": w}, {"w": g})
    scaled = rc.OPTIMIZERS[name](0.1).step({"w": w}, {"w": rc.Scaled(g * 2.0**20, -20)})
    np.testing.assert_array_equal(to_numpy(plain["w"]), to_numpy(scaled["w"]))


@pytest.mark.filterwarnings("ignore:overflow encountered in multiply:RuntimeWarning")
def test_a_gradient_beyond_range_breaks_its_parameters_visibly() -> None:
    """A gradient of 1e400 must make its parameters inf, so that the run is recorded as broken; one of 1e-400 changes nothing."""
    params = {"w": np.ones(2), "b": np.ones(2)}
    grads = {"w": rc.Scaled(np.array([1.0, -1.0]), 1329), "b": rc.Scaled(np.array([1.0, -1.0]), -1329)}
    following = rc.SGD(0.1).step(params, grads)
    np.testing.assert_array_equal(following["w"], [-np.inf, np.inf])
    np.testing.assert_array_equal(following["b"], [1.0, 1.0])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("name", list(rc.OPTIMIZERS))
def test_every_optimizer_breaks_visibly_beyond_range(name: str, library: str) -> None:
    """A gradient of 1e400, inf or nan leaves parameters that look whole, now or one step later."""
    start = {"w": array([1.0, 1.0], library), "b": array([1.0, 1.0], library)}
    direction = array([1.0, -1.0], library)
    for bad in (rc.Scaled(direction, 1329), direction * np.inf, direction * np.nan):
        ours = rc.OPTIMIZERS[name](0.1)
        with np.errstate(over="ignore", invalid="ignore"):
            params = ours.step(start, {"w": bad, "b": rc.Scaled(direction, -1329)})
            assert not np.isfinite(to_numpy(params["w"])).any()
            np.testing.assert_array_equal(to_numpy(params["b"]), 1.0)
            params = ours.step(params, {"w": direction, "b": direction})
        assert not np.isfinite(to_numpy(params["w"])).any()
        assert np.isfinite(to_numpy(params["b"])).all()


@given(seed=st.integers(0, 2**32 - 1), rate=st.floats(1e-4, 1.0))
@quick
def test_momentum_0_is_sgd(seed: int, rate: float) -> None:
    """Momentum remembers something it was told to forget; to the bit."""
    drawn = draw_steps(seed, 5)
    for a, b in zip(train(Momentum(rate, 0.0), drawn), train(rc.SGD(rate), drawn), strict=True):
        for n in a:
            np.testing.assert_array_equal(a[n], b[n])


@given(mu=st.floats(0.0, 0.95), rate=st.floats(1e-4, 1.0), steps=st.integers(1, 40))
@quick
def test_momentum_of_a_constant_gradient(mu: float, rate: float, steps: int) -> None:
    """v after t equal gradients is (1 - momentum^t) / (1 - momentum) · g: the sum of the geometric series."""
    ours, params = Momentum(rate, mu), {"w": np.zeros(1)}
    for t in range(1, steps + 1):
        following = ours.step(params, {"w": np.ones(1)})
        expected = -rate * (1.0 - mu**t) / (1.0 - mu)
        assert float(following["w"][0] - params["w"][0]) == pytest.approx(expected, rel=1e-10)
        params = following


def test_momentum_is_sutskevers() -> None:
    """The heavy ball of Sutskever et al. 2013, eq. 1-2, takes the same steps: velocity in units of the parameters."""
    drawn = draw_steps(3, 10)
    v, theta = np.zeros((3, 2)), drawn[0]["weight"]
    for grads, params in zip(drawn[1:], train(Momentum(0.05, 0.8), drawn), strict=True):
        v = 0.8 * v - 0.05 * grads["weight"]
        theta = theta + v
        np.testing.assert_allclose(params["weight"], theta, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@given(exponent=st.integers(-25, 25), rate=st.floats(1e-4, 1.0))
@quick
def test_adams_first_step_is_the_learning_rate(exponent: int, rate: float, dtype: str, library: str) -> None:
    """With eps -> 0 the first step is -learning_rate · sign(g), whatever the size of g (Kingma & Ba 2015, section 2.1)."""
    g = array([3.0 * 10.0**exponent, -(10.0**exponent), 10.0**exponent], library, dtype)
    after = Adam(rate, eps=0.0).step({"w": g * 0.0}, {"w": g})
    np.testing.assert_allclose(to_numpy(after["w"]), [-rate, rate, -rate], rtol=20 * EPS[dtype])


@pytest.mark.parametrize("library", LIBRARIES)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-290, 290))
@thorough
def test_adam_does_not_see_the_scale_of_gradients(seed: int, exponent: int, library: str) -> None:
    """With eps -> 0, c · g takes the steps of g (Kingma & Ba 2015, section 2.1), from 1e-290 to 1e290: also where g² is not
    a number."""
    plain = train(Adam(0.05, eps=0.0), draw_steps(seed, 8), library)
    scaled = train(Adam(0.05, eps=0.0), draw_steps(seed, 8, 10.0**exponent), library)
    for a, b in zip(plain, scaled, strict=True):
        for n in a:
            np.testing.assert_allclose(to_numpy(a[n]), to_numpy(b[n]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("dtype", "huge"), [("float64", 1e300), ("float32", 1e37)])
def test_adam_goes_on_after_a_gradient_whose_square_overflows(dtype: str, huge: float, library: str) -> None:
    """v would be inf for ever: parameters stand still, and every number that is recorded looks whole."""
    ours, params = Adam(0.1), {"w": array([1.0], library, dtype)}
    for size in (huge, -huge, huge / 3):
        following = ours.step(params, {"w": array([size], library, dtype)})
        assert np.isfinite(to_numpy(following["w"])).all()
        assert 1e-4 < abs(float(following["w"][0] - params["w"][0])) <= 0.11
        params = following
    leaf = torch.ones(1, dtype=getattr(torch, dtype), requires_grad=True)
    leaf.grad = torch.full_like(leaf, huge)
    torch.optim.Adam([leaf], lr=0.1).step()
    assert float(leaf.detach()[0]) == 1.0  # torch's stands still


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 60), beta1=st.floats(0.0, 0.9))
@quick
def test_adams_steps_are_bounded(seed: int, steps: int, beta1: float) -> None:
    """|m̂|/√v̂ <= √(Σ a_i²/b_i), where a_i and b_i are the weights of g_i in m̂ and g_i² in v̂ (Cauchy-Schwarz); g_i = a_i/b_i
    reaches it. (Kingma & Ba 2015, section 2.1, give 1 for most gradients, which some exceed.)"""
    age = np.arange(steps)[::-1]
    a = (1.0 - beta1) * beta1**age / (1.0 - beta1**steps)
    b = (1.0 - 0.99) * 0.99**age / (1.0 - 0.99**steps)
    limit = 0.1 * float(np.sqrt(np.sum(a**2 / b)))
    rng = np.random.default_rng(seed)
    sparse = rng.standard_normal((steps, 50)) * (rng.random((steps, 50)) < 0.1)
    gradients = np.concatenate([sparse, (a / b)[:, None]], axis=1)
    ours, params = Adam(0.1, beta1, 0.99, eps=1e-300), {"w": np.zeros(51)}
    for g in gradients:
        before, params = params, ours.step(params, {"w": g})
    last = np.abs(params["w"] - before["w"])
    assert last.max() <= limit * (1 + 1e-9)
    assert last[-1] == pytest.approx(limit, rel=1e-9)


# ---- weight decay --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(rc.OPTIMIZERS))
def test_without_weight_decay_not_a_bit_changes(name: str) -> None:
    """Runs that have no weight decay get other numbers."""
    drawn = draw_steps(4, 6)
    plain, none = train(rc.OPTIMIZERS[name](0.1), drawn), train(rc.OPTIMIZERS[name](0.1, weight_decay=0.0), drawn)
    assert "weight_decay" not in repr(rc.OPTIMIZERS[name](0.1))
    assert "weight_decay=0.5" in repr(rc.OPTIMIZERS[name](0.1, weight_decay=0.5))
    for a, b in zip(plain, none, strict=True):
        for n in a:
            np.testing.assert_array_equal(a[n], b[n])


def test_adamw_without_weight_decay_is_adam() -> None:
    """The two differ in more than where the decay stands."""
    for a, b in zip(train(rc.AdamW(0.1), draw_steps(5, 6)), train(Adam(0.1), draw_steps(5, 6)), strict=True):
        for n in a:
            np.testing.assert_array_equal(a[n], b[n])


@given(rate=st.floats(1e-3, 1.0), decay=st.floats(1e-3, 0.9), steps=st.integers(1, 40))
@quick
def test_without_a_gradient_parameters_decay_geometrically(rate: float, decay: float, steps: int) -> None:
    """SGD and AdamW: theta_k = (1 - rate · decay)^k theta_0. (Adam's L2 penalty would move by the learning rate at first, whatever the decay.)"""
    zeros = {"w": np.zeros(2)}
    for ours in (rc.SGD(rate, decay), rc.AdamW(rate, weight_decay=decay)):
        params = {"w": np.array([3.0, -1e-5])}
        for _ in range(steps):
            params = ours.step(params, zeros)
        np.testing.assert_allclose(params["w"], np.array([3.0, -1e-5]) * (1.0 - rate * decay) ** steps, rtol=1e-12)
    first = Adam(rate, eps=0.0, weight_decay=decay).step({"w": np.array([3.0, -1e-5])}, zeros)
    np.testing.assert_allclose(first["w"], [3.0 - rate, -1e-5 + rate], rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@given(seed=st.integers(0, 2**32 - 1), decay=st.floats(1e-6, 0.1))
@quick
def test_adams_penalty_is_torchs(seed: int, decay: float, dtype: str) -> None:
    """With gradients of the parameters' size. (Where the penalty rules, Adam makes steps of size 1 of parameters near 0: rounding grows.)"""
    theirs = lambda params: torch.optim.Adam(params, lr=0.02, weight_decay=decay)  # noqa: E731
    assert_torchs(Adam(0.02, weight_decay=decay), theirs, draw_steps(seed, 6), "numpy", dtype)
