"""Optimisers: against torch.optim, step for step."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.arrays import to_numpy
from tests.rnn_core.engine_helpers import DTYPES, EPS, LIBRARIES, array

TORCH: dict[str, Callable[[Iterable[torch.Tensor], float], torch.optim.Optimizer]] = {
    "sgd": lambda params, learning_rate: torch.optim.SGD(params, lr=learning_rate)
}


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


@pytest.mark.parametrize("name", list(rc.OPTIMIZERS))
def test_parameters_given_are_not_changed(name: str) -> None:
    """The start of a run would be overwritten by its training."""
    params = {"w": np.ones(3)}
    following = rc.OPTIMIZERS[name](0.5).step(params, {"w": np.ones(3)})
    np.testing.assert_array_equal(params["w"], 1.0)
    assert (following["w"] < 1.0).all()


@pytest.mark.filterwarnings("ignore:overflow encountered in multiply:RuntimeWarning")
def test_a_gradient_beyond_range_breaks_its_parameters_visibly() -> None:
    """A gradient of 1e400 must make its parameters inf, so that the run is recorded as broken; one of 1e-400 changes nothing."""
    params = {"w": np.ones(2), "b": np.ones(2)}
    grads = {"w": rc.Scaled(np.array([1.0, -1.0]), 1329), "b": rc.Scaled(np.array([1.0, -1.0]), -1329)}
    following = rc.SGD(0.1).step(params, grads)
    np.testing.assert_array_equal(following["w"], [-np.inf, np.inf])
    np.testing.assert_array_equal(following["b"], [1.0, 1.0])
