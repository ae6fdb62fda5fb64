"""Five published programs, run again through the public face: the digits that their authors printed come out.

Numbers only are copied here; each test names the program and repeats its order of random draws.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core import readout
from rnn_core.losses import squared_error


def rows(text: str) -> np.ndarray:
    """A printed matrix: one row a line."""
    return np.array([[float(v) for v in line.split()] for line in text.strip().splitlines()])


def printed(values: Any, decimals: int) -> np.ndarray:
    """``values`` as NumPy prints them with so many decimals."""
    return np.array([float(f"{v:.{decimals}f}") for v in np.asarray(values, dtype=np.float64).reshape(-1)])


def same_digits(values: Any, expected: np.ndarray | list[Any], decimals: int) -> None:
    """Every printed digit is the same."""
    np.testing.assert_array_equal(printed(values, decimals), np.asarray(expected, dtype=np.float64).reshape(-1))


def network(W_ih: Any, W_hh: Any, b: Any, W_ho: Any, b_o: Any) -> dict[str, np.ndarray]:
    """Parameters under our names; the programs have one bias, ours is b_ih, and b_hh stays zero."""
    return {
        "weight_ih": np.asarray(W_ih), "weight_hh": np.asarray(W_hh), "bias_ih": np.asarray(b),
        "bias_hh": np.zeros_like(np.asarray(b)), "weight_ho": np.asarray(W_ho), "bias_ho": np.asarray(b_o),
    }  # fmt: skip


def all_gradients(
    cell: rc.Cell, params: dict[str, np.ndarray], x: np.ndarray, target: np.ndarray, loss: str = "squared_error"
) -> tuple[float, dict[str, Any], rc.Tape, rc.Gradients, np.ndarray]:
    """(summed loss, gradients by name, tape, recurrent gradients, outputs) of a loss that is summed over steps."""
    tape = rc.forward(cell, params, x)
    y = readout.forward(params, tape.hidden)
    losses, dy = rc.LOSSES[loss](y, target)
    readout_grads, dh = readout.backward(params, tape.hidden, dy)
    gradients = rc.backward(tape, dh)
    return float(losses.sum()), {**gradients.params, **readout_grads}, tape, gradients, y


# ---- seed 000: a scalar RNN of two steps, by hand and by MXNet ---------------------------------------------------------


def test_seed_000_two_scalar_steps() -> None:
    """The smallest hand calculation there is comes out differently."""
    one = np.ones((1, 1))
    params = network(one, one, np.zeros(1), one, np.zeros(1))
    x, target = np.ones((2, 1, 1)), np.zeros((2, 1, 1))
    loss, grads, tape, gradients, y = all_gradients(rc.VanillaCell("tanh"), params, x, target)
    same_digits(np.array(tape.saved), [1.0000, 1.7616], 4)  # a1, a2
    same_digits(tape.hidden, [0.7616, 0.9427], 4)  # h1, h2
    same_digits(y, [0.7616, 0.9427], 4)
    losses, errors = squared_error(y, target)
    same_digits(losses, [0.2900, 0.4443], 4)
    same_digits(loss, [0.7343], 4)
    same_digits(errors, [0.7616, 0.9427], 4)
    same_digits(gradients.hidden, [0.8666, 0.9427], 4)  # dL/dh1 (total), dL/dh2
    assert isinstance(tape.cell, rc.VanillaCell)
    slopes = np.array([tape.cell.phi.df(a) for a in tape.saved])
    same_digits(slopes, [0.4200, 0.1114], 4)
    same_digits(gradients.x, [0.3639, 0.1050], 4)  # dL/da1, dL/da2, for w_x = 1
    same_digits(grads["weight_ih"], [0.4689], 4)
    same_digits(grads["weight_hh"], [0.0799], 4)
    same_digits(grads["weight_ho"], [1.4687], 4)
    # Its parts: each step alone, and what step 2 sends to h1.
    late = rc.backward(rc.forward(tape.cell, params, x[1:], {"hidden": tape.hidden[0]}), errors[1:])
    same_digits(late.state["hidden"], [0.1050], 4)
    same_digits(late.params["weight_ih"], [0.1050], 4)
    same_digits(late.params["weight_hh"], [0.0799], 4)
    early = rc.backward(rc.forward(tape.cell, params, x[:1]), errors[:1] + late.state["hidden"])
    same_digits(early.params["weight_ih"], [0.3639], 4)
    same_digits(early.params["weight_hh"], [0.0000], 4)


# ---- seed 001: a NumPy class, trained ----------------------------------------------------------------------------------


def test_seed_001_a_training_run() -> None:
    """A hundred updates end elsewhere: every tenth loss and the final predictions, to all printed digits."""
    np.random.seed(42)  # noqa: NPY002
    T, D, H = 50, 10, 16
    x = np.random.randn(T, D)  # noqa: NPY002
    target = np.mean(x, axis=1, keepdims=True)
    W_xh, W_hh, W_hy = (np.random.randn(*shape) * 0.01 for shape in ((D, H), (H, H), (H, 1)))  # noqa: NPY002
    params = network(W_xh.T, W_hh.T, np.zeros(H), W_hy.T, np.zeros(1))
    cell, sgd, losses = rc.VanillaCell("tanh"), rc.OPTIMIZERS["sgd"](0.01), []
    for _ in range(100):
        loss, grads, *_ = all_gradients(cell, params, x[:, None], target[:, None])
        params = sgd.step(params, {**grads, "bias_hh": np.zeros(H)})
        losses.append(loss)
    expected = [2.276755, 0.747057, 0.065337, 0.021704, 0.009755, 0.004976, 0.002936, 0.002053, 0.001667, 0.001493]
    same_digits(losses[9::10], expected, 6)
    y = readout.forward(params, rc.forward(cell, params, x[:, None]).hidden)
    wanted = """0.44806111 -0.79065823 -0.22184356 -0.31010667 -0.25282217 0.19944143 -0.01505699 -0.04773612 0.10144743 -0.14919139
                0.45157019 -0.75982746 -0.22614844 -0.32124421 -0.25618755 0.2076185 -0.0197995 -0.04907385 0.10088893 -0.15778372"""
    same_digits(target[:10], rows(wanted)[0], 8)
    same_digits(y[:10], rows(wanted)[1], 8)


# ---- seed 002: cell and sequence, after a course's notes; and torch.nn.RNN ---------------------------------------------


def draws(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    """np.random.seed(1), then randn of these shapes in this order."""
    np.random.seed(1)  # noqa: NPY002
    return [np.random.randn(*shape) for shape in shapes]  # noqa: NPY002


def test_seed_002_one_step_forward() -> None:
    """A cell's new state or its softmax output."""
    xt, a_prev, Wax, Waa, Wya, ba, by = draws((3, 10), (5, 10), (5, 3), (5, 5), (2, 5), (5, 1), (2, 1))
    params = network(Wax, Waa, ba[:, 0], Wya, by[:, 0])
    tape = rc.forward(rc.VanillaCell("tanh"), params, xt.T[None], {"hidden": a_prev.T})
    expected = (
        "-0.97683053 0.99993218 0.9999085 0.99720415 0.96532437 0.24615069 0.89433073 0.88371261 0.40821569 -0.99446565"
    )
    same_digits(tape.hidden[0, :, 4], rows(expected), 8)
    scores = readout.forward(params, tape.hidden[0])
    _, gradient = rc.LOSSES["softmax_cross_entropy"](scores, np.zeros(10, dtype=np.int64))
    softmax = gradient + np.eye(2)[0]
    same_digits(softmax[:, 1], [0.0617, 0.9972, 0.9895, 0.8253, 0.8099, 0.9891, 0.9262, 0.9997, 0.9953, 0.0052], 4)


def test_seed_002_one_step_backward() -> None:
    """The printed run (the lines ``gradients[…] = …`` above it are another run's, with another order of draws)."""
    xt, a_prev, Wax, Waa, Wya, b, by, da = draws((3, 10), (5, 10), (5, 3), (5, 5), (2, 5), (5, 1), (2, 1), (5, 10))
    params = network(Wax, Waa, b[:, 0], Wya, by[:, 0])
    gradients = rc.backward(rc.forward(rc.VanillaCell("tanh"), params, xt.T[None], {"hidden": a_prev.T}), da.T[None])
    assert gradients.x[0].T[1, 2] == pytest.approx(-1.3872130506020928, rel=1e-14)
    assert np.asarray(gradients.state["hidden"]).T[2, 3] == pytest.approx(-0.1523994937739543, rel=1e-14)
    assert np.asarray(gradients.params["weight_ih"])[3, 1] == pytest.approx(0.41077282493545836, rel=1e-14)
    assert np.asarray(gradients.params["weight_hh"])[1, 2] == pytest.approx(1.1503450668497135, rel=1e-14)
    same_digits(np.asarray(gradients.params["bias_hh"])[4], [0.20023491], 8)


def test_seed_002_four_steps_forward() -> None:
    """States and softmax outputs of a sequence; here Waa is drawn before Wax."""
    x, a0, Waa, Wax, Wya, ba, by = draws((3, 10, 4), (5, 10), (5, 5), (5, 3), (2, 5), (5, 1), (2, 1))
    params = network(Wax, Waa, ba[:, 0], Wya, by[:, 0])
    tape = rc.forward(rc.VanillaCell("tanh"), params, x.transpose(2, 1, 0), {"hidden": a0.T})
    same_digits(tape.hidden[:, 1, 4], [-0.99999375, 0.77911235, -0.99861469, -0.99833267], 8)
    scores = readout.forward(params, tape.hidden)
    _, gradient = rc.LOSSES["softmax_cross_entropy"](scores, np.zeros((4, 10), dtype=np.int64))
    same_digits(gradient[:, 3, 1], [0.79560373, 0.86224861, 0.11118257, 0.81515947], 8)
    same_digits(tape.x[:, 3, 1], [-1.1425182, -0.34934272, -0.20889423, 0.58662319], 8)


def test_seed_002_four_steps_backward() -> None:
    """Backpropagation through four steps; here Wax is drawn before Waa."""
    x, a0, Wax, Waa, Wya, ba, by, da = draws((3, 10, 4), (5, 10), (5, 3), (5, 5), (2, 5), (5, 1), (2, 1), (5, 10, 4))
    params = network(Wax, Waa, ba[:, 0], Wya, by[:, 0])
    tape = rc.forward(rc.VanillaCell("tanh"), params, x.transpose(2, 1, 0), {"hidden": a0.T})
    gradients = rc.backward(tape, da.transpose(2, 1, 0))
    same_digits(gradients.x[:, 2, 1], [-2.07101689, -0.59255627, 0.02466855, 0.01483317], 8)
    assert np.asarray(gradients.state["hidden"]).T[2, 3] == pytest.approx(-0.3149423751266506, rel=1e-12)
    assert np.asarray(gradients.params["weight_ih"])[3, 1] == pytest.approx(11.264104496527771, rel=1e-13)
    assert np.asarray(gradients.params["weight_hh"])[1, 2] == pytest.approx(2.303333126579893, rel=1e-13)
    same_digits(np.asarray(gradients.params["bias_hh"])[4], [-0.74747722], 8)


HIDDEN = """0.4686 -0.298203 0.741399 -0.446474 0.019391
0.365172 -0.361254 0.426838 -0.448951 0.331553
0.589187 -0.188248 0.684941 -0.45859 0.190099
0.146213 -0.306517 0.297109 0.370957 -0.040084
-0.009201 -0.365735 0.333659 0.486789 0.061897
0.030064 -0.282985 0.42643 0.025871 0.026388
0.225432 -0.015057 0.116555 0.080901 0.260097
0.368327 0.258664 0.357446 0.177961 0.55928
0.103317 -0.029123 0.182535 0.216085 0.264766"""
GRAD_X = """-0.643965 0.215931 -0.476378 0.072387
-1.221727 0.221325 -0.757251 0.092991
-0.59872 -0.065826 -0.390795 0.037424
-0.537631 -0.303022 -0.364839 0.214627
-0.815198 0.392338 -0.564135 0.217464
-0.931365 -0.254144 -0.561227 0.164795
-1.055966 0.249554 -0.623127 0.009784
-0.45858 0.108994 -0.240168 0.117779
-0.957469 0.315386 -0.616814 0.205634"""
GRAD_IH = """3.918335 2.958509 3.725173 4.157478
1.261197 0.812825 1.10621 0.97753
2.216469 1.718251 2.366936 2.324907
3.85458 3.052212 3.643157 3.845696
1.806807 1.50062 1.615917 1.521762"""
GRAD_HH = """2.450078 0.243735 4.269672 0.577224 1.46911
0.421015 0.372353 0.994656 0.962406 0.518992
1.079054 0.042843 2.12169 0.863083 0.757618
2.225794 0.188735 3.682347 0.934932 0.955984
0.660546 -0.321076 1.554888 0.833449 0.605201"""
GRAD_BIAS = [7.568411, 2.175445, 4.335336, 6.820628, 3.51003]


def test_seed_002_torch_nn_rnn() -> None:
    """NumPy against torch.nn.RNN with torch's own initial weights: every printed digit of states and gradients.

    torch 2.13 draws uniform float32 weights as r · (2b) - b with one rounding (a fused multiply-add); the program's torch
    rounded twice, so that some weights differ in their last bit and six of the printed digits with them. Here the weights
    are drawn as that torch drew them.
    """
    torch.random.manual_seed(123)
    module = torch.nn.RNN(4, 5).double()
    ours_now = {name.removesuffix("_l0"): value.detach().numpy() for name, value in module.named_parameters()}
    torch.random.manual_seed(123)
    bound = np.float32(1 / math.sqrt(5))
    params = {}
    for name, value in ours_now.items():
        r = torch.rand(value.shape).numpy()
        params[name] = (r * (bound - -bound) + -bound).astype(np.float32).astype(np.float64)
        assert np.abs(params[name] - value).max() <= 2.0**-25  # the same draws, but for the last bit
    np.random.seed(123)  # noqa: NPY002
    x, h0, dh = (np.random.random(shape) for shape in ((3, 3, 4), (1, 3, 5), (3, 3, 5)))  # noqa: NPY002
    tape = rc.forward(rc.VanillaCell("tanh"), params, x, {"hidden": h0[0]})
    gradients = rc.backward(tape, dh)
    same_digits(tape.hidden, rows(HIDDEN), 6)
    same_digits(gradients.x, rows(GRAD_X), 6)
    same_digits(gradients.params["weight_ih"], rows(GRAD_IH), 6)
    same_digits(gradients.params["weight_hh"], rows(GRAD_HH), 6)
    same_digits(gradients.params["bias_ih"], GRAD_BIAS, 6)
    same_digits(gradients.params["bias_hh"], GRAD_BIAS, 6)

    # And as the program did it: against the module itself, on this machine's weights.
    tape = rc.forward(rc.VanillaCell("tanh"), ours_now, x, {"hidden": h0[0]})
    gradients = rc.backward(tape, dh)
    xt = torch.tensor(x, requires_grad=True)
    hidden, _ = module(xt, torch.tensor(h0))
    hidden.backward(torch.tensor(dh))
    np.testing.assert_allclose(tape.hidden, hidden.detach().numpy(), rtol=0, atol=1e-15)
    assert xt.grad is not None
    np.testing.assert_allclose(gradients.x, xt.grad.numpy(), rtol=0, atol=4e-15)
    for name, value in module.named_parameters():
        np.testing.assert_allclose(gradients.params[name.removesuffix("_l0")], value.grad.numpy(), rtol=1e-13)


# ---- seed 003: a feed-forward network with relu and softmax, in float32 -----------------------------------------------


def test_seed_003_a_feed_forward_network_is_an_rnn_of_one_step() -> None:
    """Analytic gradients in float32. The program's softmax - onehot cancels, so its last printed digit is off; ours must be
    within float32 rounding of the same calculation in float64, and within that digit of what was printed."""
    f = np.float32
    W = np.array([[1.0, 0.5, -0.3], [0.2, -1.0, 0.8], [0.4, 0.7, -0.9], [-0.6, 0.1, 0.5]], f)
    U = np.array([[0.5, -0.3, 0.2, 0.1], [-0.4, 0.6, 0.7, -0.8]], f)
    params = network(W, np.zeros((4, 4), f), np.array([0.1, -0.2, 0.3, -0.4], f), U, np.array([0.2, -0.1], f))
    x = np.array([0.5, -1.0, 0.8], f)[None, None]
    _, grads, _, gradients, _ = all_gradients(
        rc.VanillaCell("relu"), params, x, np.array([[1]]), "softmax_cross_entropy"
    )
    wide = {name: value.astype(np.float64) for name, value in params.items()}
    _, exact, *_ = all_gradients(
        rc.VanillaCell("relu"), wide, x.astype(np.float64), np.array([[1]]), "softmax_cross_entropy"
    )
    expected = {
        "weight_ho": [[0.0, 0.38865328, 0.0, 0.0], [0.0, -0.3886532, 0.0, 0.0]],
        "bias_ho": [0.25237226, -0.2523722],
        "weight_ih": [[0.0, 0.0, 0.0], [-0.11356751, 0.22713502, -0.18170802], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        "bias_ih": [0.0, -0.22713502, 0.0, 0.0],
    }
    for name, values in expected.items():
        assert grads[name].dtype == f
        np.testing.assert_allclose(grads[name], np.array(values), rtol=0, atol=1.2e-7)
        np.testing.assert_allclose(grads[name], exact[name], rtol=2.0**-22, atol=0)
    np.testing.assert_allclose(gradients.x[0, 0], [-0.04542701, 0.22713502, -0.18170802], rtol=0, atol=3e-8)


# ---- seed 004: a functional RNN -----------------------------------------------------------------------------------------


def test_seed_004_a_functional_rnn() -> None:
    """Loss and all gradients of five steps, to all printed digits."""
    np.random.seed(42)  # noqa: NPY002
    x, target = np.random.randn(5, 3), np.random.randn(5, 2)  # noqa: NPY002
    W_xh, W_hh, W_hy = (np.random.randn(*shape) * 0.1 for shape in ((4, 3), (4, 4), (2, 4)))  # noqa: NPY002
    params = network(W_xh, W_hh, np.zeros(4), W_hy, np.zeros(2))
    loss, grads, *_ = all_gradients(rc.VanillaCell("tanh"), params, x[:, None], target[:, None])
    assert loss == pytest.approx(4.42928666078666, rel=1e-15)
    expected = {
        "weight_ih": """0.14190064 -0.03085566 -0.16590029
                        0.2048493 -0.25288768 -0.26299734
                        0.22665322 -0.39487468 -0.23698683
                        -0.19705645 0.26551573 0.22413435""",
        "weight_hh": """0.00652463 -0.00843032 0.05760394 0.0185553
                        0.01580351 -0.00631523 0.06006751 0.02529782
                        0.0139037 -0.00806739 0.04922337 0.01920442
                        -0.01248669 0.00766473 -0.05047733 -0.01995666""",
        "weight_ho": """0.15304402 0.00765917 0.83909957 0.28807495
                        0.26431672 0.09696962 -0.08838056 0.30032227""",
        "bias_ih": "0.16823351 0.3340134 0.42787586 -0.32430673",
        "bias_hh": "0.16823351 0.3340134 0.42787586 -0.32430673",
        "bias_ho": "3.37718054 1.00718345",
    }
    assert set(expected) == set(grads)
    for name, text in expected.items():
        same_digits(grads[name], rows(text), 8)
