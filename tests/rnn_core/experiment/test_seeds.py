"""What the printouts of five published programs cannot show; their printed digits are checked in tests/examples.

Each test says which program; its arrays and its order of random draws are in the example of that program.
"""

from __future__ import annotations

import numpy as np
import torch

import rnn_core as rc
from examples import cell_and_sequence, gradient_check
from examples.common import run


def test_torch_nn_rnn_on_its_own_weights() -> None:
    """The sequence against torch.nn.RNN, with the weights that this machine's torch draws, not those of the document's.

    The two draws are the same but for the last bit of a float32 weight.
    """
    torch.random.manual_seed(123)
    module = torch.nn.RNN(4, 5).double()
    params = {name.removesuffix("_l0"): value.detach().numpy() for name, value in module.named_parameters()}
    _, theirs = cell_and_sequence.torch_weights()
    assert params.keys() == theirs.keys()
    for name, value in theirs.items():
        assert np.abs(params[name] - value).max() <= 2.0**-25

    np.random.seed(123)  # noqa: NPY002
    x, h0, dh = (np.random.random(shape) for shape in ((3, 3, 4), (1, 3, 5), (3, 3, 5)))  # noqa: NPY002
    tape = rc.forward(rc.VanillaCell("tanh"), params, x, {"hidden": h0[0]})
    gradients = rc.backward(tape, dh)
    xt = torch.tensor(x, requires_grad=True)
    hidden, _ = module(xt, torch.tensor(h0))
    hidden.backward(torch.tensor(dh))
    np.testing.assert_allclose(tape.hidden, hidden.detach().numpy(), rtol=0, atol=1e-15)
    assert xt.grad is not None
    np.testing.assert_allclose(np.asarray(gradients.x), xt.grad.numpy(), rtol=0, atol=4e-15)
    for name, value in module.named_parameters():
        ours = np.asarray(gradients.params[name.removesuffix("_l0")])
        np.testing.assert_allclose(ours, value.grad.numpy(), rtol=1e-13)


def test_the_example_gives_both_the_same_weights() -> None:
    """The example's module runs on other weights than its engine."""
    module, weights = cell_and_sequence.torch_weights()
    for name, value in module.named_parameters():
        np.testing.assert_array_equal(value.detach().numpy(), weights[name.removesuffix("_l0")])


def test_own_loss_in_float32() -> None:
    """A feed-forward network in float32: the program's softmax - onehot cancels, so that its last printed digit is off.

    Ours must be float32, within rounding of the same calculation in float64, and within that digit of the program's.
    """
    cell, label, loss = gradient_check.CELL, gradient_check.LABEL, "softmax_cross_entropy"
    ours = run(cell, gradient_check.PARAMS, gradient_check.X, label, loss)
    wide = {name: value.astype(np.float64) for name, value in gradient_check.PARAMS.items()}
    exact = run(cell, wide, gradient_check.X.astype(np.float64), label, loss)
    printed = gradient_check.analytic()
    for name, key in gradient_check.OURS.items():
        assert ours.params[key].dtype == np.float32
        np.testing.assert_allclose(ours.params[key], exact.params[key], rtol=2.0**-22, atol=0)
        np.testing.assert_allclose(ours.params[key], printed[name], rtol=0, atol=1.2e-7)
    np.testing.assert_allclose(np.asarray(ours.gradients.x)[0, 0], printed["x"], rtol=0, atol=3e-8)
