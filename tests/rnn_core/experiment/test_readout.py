"""The linear readout against torch.nn.Linear."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rnn_core import readout
from rnn_core.arrays import to_numpy
from tests.support.arrays import LIBRARIES, array, relative


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("leading", [(5,), (4, 5)])
def test_forward_and_backward_are_those_of_a_linear_layer(leading: tuple[int, ...], library: str) -> None:
    """The readout's gradient is not summed over time and batch, or what it sends back is another unit's."""
    rng = np.random.default_rng(0)
    params = {"weight_ho": rng.standard_normal((3, 6)), "bias_ho": rng.standard_normal(3)}
    h, dy = rng.standard_normal((*leading, 6)), rng.standard_normal((*leading, 3))
    linear = torch.nn.Linear(6, 3, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(params["weight_ho"]))
        linear.bias.copy_(torch.tensor(params["bias_ho"]))
    ht = torch.tensor(h, requires_grad=True)
    y = linear(ht)
    y.backward(torch.tensor(dy))

    ours = {name: array(value, library) for name, value in params.items()}
    grads, dh = readout.backward(ours, array(h, library), array(dy, library))
    assert relative(readout.forward(ours, array(h, library)), y) < 1e-14
    assert relative(dh, ht.grad) < 1e-14
    assert relative(grads["weight_ho"], linear.weight.grad) < 1e-14
    assert relative(grads["bias_ho"], linear.bias.grad) < 1e-14
    assert type(to_numpy(dh)) is np.ndarray


def test_readouts_are_drawn_as_said() -> None:
    """Outputs of a readout have another size than its inputs, so that losses depend on H."""
    params = readout.init_readout(np.random.default_rng(0), 400, 50)
    assert params["weight_ho"].shape == (50, 400)
    assert params["weight_ho"].std() == pytest.approx(1 / math.sqrt(400), rel=0.05)
    assert not params["bias_ho"].any()
