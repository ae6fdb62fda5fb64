"""Loss functions: value and gradient, against torch, against differences and against exact numbers."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.losses import baseline, commonest
from rnn_core.oracles.tensors import mean_loss
from tests.support.arrays import DTYPES, EPS, LIBRARIES, array, quick


def draw(loss: str, seed: int, leading: tuple[int, ...], C: int, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Outputs (…, C) and targets of the kind that ``loss`` takes."""
    rng = np.random.default_rng(seed)
    y = scale * rng.standard_normal((*leading, C))
    return y, rng.integers(0, C, leading) if loss == "softmax_cross_entropy" else rng.standard_normal(y.shape)


def target_like(target: np.ndarray, library: str, dtype: str) -> np.ndarray | torch.Tensor:
    return array(target, library, dtype if target.dtype.kind == "f" else "int64")


@pytest.mark.parametrize("loss", list(rc.LOSSES))
@given(seed=st.integers(0, 10_000), T=st.integers(1, 4), B=st.integers(1, 4), C=st.integers(1, 5))
@quick
def test_value_and_gradient_are_torchs(loss: str, seed: int, T: int, B: int, C: int) -> None:
    """A loss is not the one it is named after, or its gradient is another function's."""
    y, target = draw(loss, seed, (T, B), C, scale=3.0)
    values, gradient = rc.LOSSES[loss](y, target)
    yt = torch.tensor(y, requires_grad=True)
    if loss == "softmax_cross_entropy":
        theirs = functional.cross_entropy(yt.reshape(-1, C), torch.tensor(target.reshape(-1)), reduction="none")
    else:
        theirs = 0.5 * ((yt - torch.tensor(target)) ** 2).sum(-1).reshape(-1)
    (slope,) = torch.autograd.grad(theirs.sum(), yt)
    assert values.shape == (T, B)
    assert gradient.shape == (T, B, C)
    np.testing.assert_allclose(values.reshape(-1), theirs.detach().numpy(), rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(gradient, slope.numpy(), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("loss", list(rc.LOSSES))
def test_gradient_is_the_derivative_of_the_value(loss: str) -> None:
    """Value and gradient of one loss do not belong together. (A new loss is tested at birth.)"""
    y, target = draw(loss, 1, (3, 2), 4)
    _, gradient = rc.LOSSES[loss](y, target)
    direction, step = np.random.default_rng(2).standard_normal(y.shape), 1e-6
    higher, lower = (rc.LOSSES[loss](y + s * direction, target)[0].sum() for s in (step, -step))
    size = np.linalg.norm(gradient) * np.linalg.norm(direction)
    assert abs((higher - lower) / (2 * step) - (gradient * direction).sum()) <= 1e-9 * size


@pytest.mark.parametrize("loss", list(rc.LOSSES))
@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_and_torch_agree(loss: str, dtype: str) -> None:
    """The two libraries compute different losses, or one changes the dtype."""
    y, target = draw(loss, 3, (4, 3), 5)
    results = []
    for library in LIBRARIES:
        given_y = array(y, library, dtype)
        values, gradient = rc.LOSSES[loss](given_y, target_like(target, library, dtype))
        assert values.dtype == gradient.dtype == given_y.dtype
        results.append((to_numpy(values), to_numpy(gradient)))
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=16 * EPS[dtype], atol=4 * EPS[dtype])


def test_the_oracle_knows_every_loss() -> None:
    """The gate's mean loss differs from the engine's, by a factor or by what it averages over."""
    for loss in rc.LOSSES:
        for leading in ((5,), (3, 5)):
            y, target = draw(loss, 4, leading, 3)
            ours = float(rc.LOSSES[loss](y, target)[0].mean())
            assert float(mean_loss(loss, torch.tensor(y), torch.tensor(target))) == pytest.approx(ours, rel=1e-14)


@pytest.mark.parametrize("library", LIBRARIES)
def test_large_scores_do_not_overflow(library: str) -> None:
    """exp of a score of 1000 is inf, and the loss nan."""
    y = array([[1000.0, 0.0, -1000.0], [1000.0, 0.0, -1000.0]], library)
    values, gradient = rc.LOSSES["softmax_cross_entropy"](y, target_like(np.array([0, 2]), library, "float64"))
    np.testing.assert_array_equal(to_numpy(values), [0.0, 2000.0])
    np.testing.assert_array_equal(to_numpy(gradient), [[0.0, 0.0, 0.0], [1.0, 0.0, -1.0]])


@pytest.mark.parametrize("margin", [10.0, 20.0, 30.0])
def test_confident_predictions_keep_their_digits(margin: float) -> None:
    """softmax - onehot and -ln softmax cancel where the prediction is confident and right: at a margin of 30 three digits stay."""
    y = np.array([[margin, 0.0, -1.0]])
    values, gradient = rc.LOSSES["softmax_cross_entropy"](y, np.array([0]))
    with mp.workdps(60):
        e = [mp.exp(mp.mpf(float(v))) for v in y[0]]
        p = [v / mp.fsum(e) for v in e]
        true = [float(p[0] - 1), *map(float, p[1:])]
        loss = float(-mp.log(p[0]))
    np.testing.assert_allclose(gradient[0], true, rtol=1e-14)
    np.testing.assert_allclose(values, loss, rtol=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_of_the_softmax_sums_to_zero(seed: int) -> None:
    """Probabilities do not sum to one."""
    y, target = draw("softmax_cross_entropy", seed, (6,), 4)
    gradient = rc.LOSSES["softmax_cross_entropy"](y, target)[1]
    np.testing.assert_allclose(gradient.sum(-1), 0.0, atol=1e-15)


def test_baseline_is_the_best_constant() -> None:
    """``solved`` is measured against something else than the best constant prediction."""
    target = np.random.default_rng(0).standard_normal((50, 2)) + np.array([3.0, -1.0])
    best = baseline("squared_error", target)
    for offset in (0.0, 0.1, -0.1):
        constant = np.broadcast_to(target.mean(0) + offset, target.shape)
        mean = rc.LOSSES["squared_error"](constant, target)[0].mean()
        assert mean == pytest.approx(best) if offset == 0.0 else mean > best * 1.001
    labels, p = np.array([0, 0, 0, 1, 2, 2]), np.array([3, 1, 2]) / 6
    best = baseline("softmax_cross_entropy", labels)
    assert best == pytest.approx(-(p * np.log(p)).sum())
    constant = np.broadcast_to(np.log(p), (6, 3))
    assert rc.LOSSES["softmax_cross_entropy"](constant, labels)[0].mean() == pytest.approx(best)


def test_the_commonest_class() -> None:
    """The rarest class is named, or the last."""
    assert commonest(np.array([[0, 0, 2], [1, 0, 2]])) == 0.5
    assert commonest(np.zeros((2, 3), dtype=np.int64)) == 1.0


def test_baseline_of_targets_at_every_step() -> None:
    """Targets (T, B, C) are averaged over the wrong axes."""
    target = np.random.default_rng(1).standard_normal((7, 5, 2))
    assert baseline("squared_error", target) == pytest.approx(0.5 * sum(target[..., c].var() for c in range(2)))
    assert math.isfinite(baseline("softmax_cross_entropy", np.zeros((3, 2), dtype=np.int64)))
