"""Many runs at once are the runs one by one: ``rnn_core.batched`` against the engine in NumPy, on torch's CPU and on CUDA.

Where there is a GPU, fused kernels and captured graphs take the place of single steps; the same tests hold for them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.batched import STEPS, Shape, Together
from rnn_core.batched.passes import Direct
from rnn_core.batched.trace import read_gradients, read_states
from rnn_core.scaling import Scaled
from tests.support.many_runs import SATURATED_BELOW, Found, Net, draw, errors, together

LIMIT = 1e-12  # relative, per time step, float64
WHERE = {"cpu:0": LIMIT, "cuda": 1e-10}
devices = pytest.mark.parametrize("device", ["cpu:0", pytest.param("cuda", marks=pytest.mark.gpu)])
CELLS = [cell for cell, kind in rc.CELLS.items() if kind in STEPS]


def made(cell: str, activation: str = "tanh") -> rc.Cell:
    options = {"step": 0.7, "leak": 0.2} if cell == "residual" else {}
    return rc.CELLS[cell](activation, **options)


def assert_right(cell: rc.Cell, nets: list[Net], device: str, limit: float, hold: bool = True, **how: Any) -> Found:
    found = together(cell, nets, device, **how)
    for r, net in enumerate(nets):
        worst = errors(found, r, net.readable(cell, how.get("every", False)))
        assert max(worst.values()) < limit, (r, worst)
    assert not hold or found.hold[: len(nets)].all()
    return found


# ---- numbers -------------------------------------------------------------------------------------------------------------


@devices
@pytest.mark.parametrize("every", [False, True], ids=["last", "every"])
@pytest.mark.parametrize("activation", list(rc.ACTIVATIONS))
@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_and_activation(cell: str, activation: str, every: bool, device: str) -> None:
    """A formula of ``steps`` differs from the cell's, a gradient lands in another parameter's rows, or a direct part is lost."""
    them = made(cell, activation)
    steep = max(1.0, them.phi.gamma)  # a steeper slope would multiply what rounding leaves, on the way forward as well
    B, H = (16, 16) if device == "cuda" else (3, 5)
    nets = [draw(them, seed, B=B, H=H, rho=(0.7 + 0.2 * seed) / steep) for seed in range(3)]
    assert_right(them, nets, device, WHERE[device], hold=False, every=every)


@devices
@pytest.mark.parametrize("T", [1, 2, 15, 16, 17, 33, 600])
def test_every_length(T: int, device: str) -> None:
    """A sequence shorter than the steps between renormalisations, or one that ends on such a step, takes another's exponent."""
    cell = rc.VanillaCell("sigmoid")
    nets = [draw(cell, seed, T=T, rho=0.3, B=16, H=16) for seed in range(2)]
    assert_right(cell, nets, device, WHERE[device])
    assert_right(cell, nets, device, WHERE[device], every=True)


@devices
@pytest.mark.parametrize("cell", CELLS)
def test_states_saturation_and_what_formats_lose(cell: str, device: str) -> None:
    """A fraction is taken over other entries, or a limit of a narrower format is off by a power of two."""
    them = rc.ResidualCell("tanh", 0.7, 0.9) if cell == "residual" else made(cell)
    # From 1 down past float16, bfloat16 and float32, step by step.
    nets = [draw(them, seed, T=600, rho=0.25, scale=2.0) for seed in range(2)]
    found = together(them, nets, device)
    for r, net in enumerate(nets):
        tape, expected = rc.forward(them, net.params, net.x), net.readable(them, every=False)
        rms = np.sqrt((tape.hidden**2).mean(axis=(1, 2)))
        np.testing.assert_allclose(found.hidden_rms[:, r], rms, rtol=1e-12)
        slopes = [them.slope(kept) for kept in tape.saved]
        saturated = [(np.abs(slope) < SATURATED_BELOW).mean() for slope in slopes]
        np.testing.assert_allclose(found.saturation[:, r], saturated, rtol=1e-12)
        assert set(found.lost) == set(expected.lost)
        for name, fractions in expected.lost.items():
            np.testing.assert_allclose(found.lost[name][:, r], fractions, rtol=0, atol=1e-12, err_msg=name)
        assert expected.lost["float32_flushed"][0] == 1.0
        assert {0.0, 1.0} < set(expected.lost["float16_flushed"])  # and fractions between


@devices
@pytest.mark.parametrize("H", [16, 32, 64, 128])
def test_fused_kernels_and_single_steps_agree(H: int, device: str) -> None:
    """The kernels that a GPU's commonest runs take are held against the single steps of the others."""
    cells = (rc.VanillaCell(), rc.ResidualCell("tanh", 0.7, 0.2), rc.VanillaCell("relu"))
    for dtype, limit, some in (
        ("float64", 1e-12, cells),
        ("float32", 1e-4, cells[:2]),
    ):  # rounding may flip a unit of relu
        for cell in some:
            nets = [draw(cell, seed, T=50, B=32, H=H, D=8, dtype=dtype) for seed in range(2)]
            for every in (False, True):
                fused, single = (together(cell, nets, device, every, fused=fused) for fused in (True, False))
                np.testing.assert_allclose(fused.log_norm[:, :2], single.log_norm[:, :2], rtol=0, atol=limit)
                for name, value in single.params.items():
                    scale = np.exp2((fused.exponent - single.exponent)[:2].astype(float))
                    ours = fused.params[name][:2] * scale.reshape(-1, *[1] * (value.ndim - 1))
                    assert np.linalg.norm(ours - value[:2]) < limit * np.linalg.norm(value[:2]), name


@devices
@pytest.mark.parametrize("every", [False, True], ids=["last", "every"])
def test_graphs_give_the_bits_of_single_launches(every: bool, device: str) -> None:
    """The second pass captures graphs and the third replays them: on new networks, and after a pass of another kind."""
    cell = made("gru")
    first, second = ([draw(cell, seed, T=20, B=16, H=16) for seed in seeds] for seeds in ((0, 1), (2, 3)))
    once = [together(cell, nets, device, every) for nets in (first, second)]
    T, B, D = first[0].x.shape
    them = Together(Shape(cell, T, B, D, 16, "float64", device), 4)
    for nets in (first, second, first, second):
        W = torch.stack([torch.tensor(net.W_ho, device=device) for net in nets])
        dy = torch.stack([torch.tensor(net.dy, device=device) for net in nets]).permute(1, 0, 3, 2)
        names = nets[0].params
        them.load(
            {name: torch.stack([torch.tensor(net.params[name], device=device) for net in nets]) for name in names},
            torch.stack([torch.tensor(net.x, device=device) for net in nets]),
        )
        them.forward()
        them.backward(W.transpose(1, 2) @ dy[-1], keep=False)
        them.backward(W.transpose(1, 2) @ dy[-1], Direct(W, dy) if every else None)
        log_norm = read_gradients(them).log_norm.cpu().numpy()
        np.testing.assert_array_equal(log_norm[:, :2], once[nets is second].log_norm[:, :2])


# ---- beyond the range of floats --------------------------------------------------------------------------------------------


@devices
@pytest.mark.parametrize(
    ("rho", "T", "dtype"), [(32.0, 20_000, "float64"), (2.0**-5, 4000, "float64"), (32.0, 4000, "float32"), (2.0**-5, 4000, "float32")]
)  # fmt: skip
def test_a_gradient_beyond_any_float_is_exact(rho: float, T: int, dtype: str, device: str) -> None:
    """At rest tanh is linear: the gradient grows to 10^30103, or vanishes to 10^-6020, by the same factor at every step."""
    cell, H = rc.VanillaCell(), 16
    net = draw(cell, T=T, B=16, D=1, H=H, dtype=dtype, biases=0.0)
    net.params["weight_hh"][:] = rho * np.eye(H)
    net = replace(net, x=0.0 * net.x)
    found = together(cell, [net], device, runs=1)
    expected = np.log(np.linalg.norm(net.dy[-1] @ net.W_ho)) + np.log(rho) * np.arange(T - 1, -1, -1)
    np.testing.assert_allclose(found.log_norm[:, 0], expected, rtol=1e-12, atol=1e-6 if dtype == "float32" else 1e-9)
    assert abs(found.log_norm[0, 0]) > 0.999 * T * abs(np.log(rho)) and found.hold.all()
    bias = Scaled(found.params["bias_hh"][0], int(found.exponent[0]))
    geometric = (T - 1) * np.log(rho) - np.log1p(-1.0 / rho) if rho > 1.0 else -np.log1p(-rho)  # ln Σ rho^k
    gradient = np.log(np.linalg.norm((net.dy[-1] @ net.W_ho).sum(axis=0))) + geometric
    assert bias.log_norm() == pytest.approx(gradient, rel=1e-12, abs=1e-6 if dtype == "float32" else 1e-9)


@devices
def test_samples_that_part_by_more_than_a_float_holds(device: str) -> None:
    """One exponent a run would lose a sample whose gradient vanishes beside one whose gradient stays."""
    cell = rc.VanillaCell()
    net = draw(cell, T=1000, B=16, H=16, D=2, biases=0.0, scale=4.0)
    net.params["weight_hh"][:] = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 16)))[0]
    net.x[:, 0] = 0.0  # at rest its slopes are 1
    found, expected = together(cell, [net], device), net.readable(cell, every=False)
    assert found.hold[0]
    np.testing.assert_allclose(found.log_norm[:, 0], expected.log_norm, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.log_norm_samples[:, 0], expected.log_norm_samples, rtol=0, atol=1e-10)
    assert found.log_norm_samples[0, 0, 0] - found.log_norm_samples[0, 0, 1] > 1000


@devices
def test_a_loss_at_every_step_beside_a_signal_that_explodes_or_vanishes(device: str) -> None:
    """A direct part that joins at the signal's exponent overflows beside a small signal, or is counted twice."""
    for rho in (0.05, 1.6):
        cell = rc.VanillaCell("identity")
        nets = [draw(cell, seed, T=150, rho=rho, scale=0.01, B=16, H=16) for seed in range(2)]
        assert_right(cell, nets, device, 1e-9, every=True)


@devices
def test_a_direct_part_joins_a_signal_that_has_vanished(device: str) -> None:
    """At the exponent of a signal of 10^-200 the direct part is inf. Here no step but the first and the last ten carries a loss."""
    cell = rc.VanillaCell("identity")
    nets = [draw(cell, seed, T=200, rho=0.05, B=16, H=16) for seed in range(2)]
    for net in nets:
        net.dy[10:190] = 0.0
    found = assert_right(cell, nets, device, WHERE[device], every=True)
    assert found.log_norm[10:, 0].min() < -450


def part_units(params: dict[str, np.ndarray], x: np.ndarray, factor: float, bias: float = 0.0) -> None:
    """Fifteen units keep their gradient, and the sixteenth's shrinks by ``factor`` at every step."""
    params["weight_hh"][:] = np.diag([1.0] * 15 + [factor])
    x *= 0.0
    params["bias_hh"][:], params["bias_ih"][:] = bias, 0.0


def saturate_candidate(params: dict[str, np.ndarray]) -> None:
    """Of an LSTM's gates the inputs drive the candidate alone, and far."""
    H = len(params["weight_ih"]) // 4
    params["weight_ih"][: 2 * H] = params["weight_ih"][3 * H :] = 0.0
    params["weight_ih"][2 * H : 3 * H] *= 200.0


@devices
def test_a_loss_that_a_renormalisation_hides_is_flagged(device: str) -> None:
    """One entry of the signal leaves the range of normal numbers in the one step that ends with a renormalisation: the sixteenth
    from below. All slopes are small there, so the column is brought back, and the entry with it, less some of its digits."""
    cell, H = rc.VanillaCell("sigmoid"), 16
    net = draw(cell, T=17, B=16, D=1, H=H, biases=0.0)
    net.params["weight_hh"][:], net.params["weight_ih"][:] = np.eye(H), 416.0
    net.x[:] = 0.0
    net.x[16] = 1.0
    net.W_ho[:], net.dy[:] = 1.0, 1.0
    net.W_ho[:, -1] = 2.0**-830
    assert not together(cell, [net], device, runs=1).hold[0]
    net.params["weight_ih"][:] = 100.0
    assert together(cell, [net], device, runs=1).hold[0]


@devices
@pytest.mark.parametrize(
    ("what", "cell", "change"),
    [
        ("units decay apart", rc.VanillaCell(), lambda p, x: part_units(p, x, 1e-4)),
        ("units are about to be lost", rc.VanillaCell(), lambda p, x: part_units(p, x, 0.1)),
        ("relu's units are lost", rc.VanillaCell("relu"), lambda p, x: part_units(p, x, 0.1, bias=1.0)),
        ("states overflow", rc.VanillaCell("relu"), lambda p, x: p["weight_hh"].__imul__(1e3)),
        ("states vanish", rc.VanillaCell("identity"), lambda p, x: (p["weight_hh"].__imul__(1e-3), x[2:].__imul__(0.0), [p[b].__imul__(0.0) for b in ("bias_ih", "bias_hh")])),
        ("slopes vanish", rc.VanillaCell("sigmoid"), lambda p, x: x.__imul__(1e3)),
        ("a gate saturates", rc.LSTMCell(), lambda p, x: saturate_candidate(p)),
        ("gates saturate", rc.LSTMCell(), lambda p, x: x.__imul__(1e3)),
        ("not a number", rc.VanillaCell(), lambda p, x: x[3].__imul__(np.nan)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_one_exponent_does_not_hold_is_flagged(what: str, cell: rc.Cell, change: Any, device: str) -> None:
    """A run whose numbers were lost on the way counts as right. The others of its batch are not touched."""
    bad, good = (draw(cell, seed, T=400, B=16, H=16) for seed in (0, 1))
    change(bad.params, bad.x)
    found = together(cell, [good, bad, good], device)
    alone = together(cell, [good], device)
    assert found.hold.tolist()[:2] == [alone.hold[0], False], what
    np.testing.assert_array_equal(found.log_norm[:, 0], alone.log_norm[:, 0])
    np.testing.assert_array_equal(found.log_norm[:, 2], alone.log_norm[:, 0])


# ---- company -------------------------------------------------------------------------------------------------------------


@devices
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_runs_bits_do_not_depend_on_its_company(cell: str, dtype: str, device: str) -> None:
    """A product that is chosen by the number of runs, or a sum over runs, ties a row of a study to the rows beside it."""
    them, R = made(cell), 8
    nets = [draw(them, seed, T=30, B=16, H=16, dtype=dtype, rho=0.5 + 0.3 * seed) for seed in range(R)]
    full = together(them, nets, device, runs=R)
    for order in ([3], [5, 3], [1, 2, 4, 6, 3], list(range(R))[::-1]):
        other = together(them, [nets[i] for i in order], device, runs=R)
        at = order.index(3)
        for name in ("log_norm", "log_norm_samples", "hidden_rms", "x", "h"):
            np.testing.assert_array_equal(getattr(other, name)[:, at], getattr(full, name)[:, 3], err_msg=name)
        for name, value in full.params.items():
            np.testing.assert_array_equal(other.params[name][at], value[3], err_msg=name)


def test_how_many_go_together_does_not_depend_on_how_many_there_are() -> None:
    """R is a power of two that the buffers' room allows, and the same for every batch of a shape."""
    small = Shape(rc.VanillaCell(), 40, 3, 2, 5, "float64", "cpu:0")
    assert small.runs(5) == 8
    large = small._replace(T=100_000)
    assert 0 < large.runs(5) < 8 and large.runs(5) & (large.runs(5) - 1) == 0
    assert large.runs(5) * large.bytes_of_a_run(5) <= 2**28
    assert small._replace(T=10**9).runs(5) == 0
    them = Together(small)
    buffers = [them.z, them.a, them.dh]
    assert sum(each.numel() * each.element_size() for each in buffers) <= them.R * small.bytes_of_a_run(5)


def test_padding_is_not_read() -> None:
    """Networks of an earlier batch stay in the rows that a smaller batch leaves free."""
    cell = rc.VanillaCell("relu")
    nets = [draw(cell, seed) for seed in range(3)]
    them = Together(Shape(cell, 40, 3, 2, 5, "float64", "cpu:0"), 4)
    for some in (nets, nets[:1]):
        them.load(
            {name: torch.stack([torch.tensor(n.params[name]) for n in some]) for name in nets[0].params},
            torch.stack([torch.tensor(n.x) for n in some]),
        )
        them.forward()
    assert not them.h[:, 1:].any() and read_states(them, SATURATED_BELOW).hold[1:].all()
