"""Memory: checkpointed tapes give the same bits as whole ones, keep O(√T) states, and say what they have no room for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core import tape as tapes
from rnn_core.arrays import to_numpy
from rnn_core.bptt import NotKept
from tests.support.arrays import LIBRARIES, array

ROOT = Path(__file__).resolve().parents[3]
CELLS = list(rc.CELLS)


def network(cell_name: str, T: int, library: str = "numpy", B: int = 2, D: int = 3, H: int = 4) -> tuple[Any, ...]:
    """(cell, params, x, state, grad_hidden, grad_state), drawn."""
    rng = np.random.default_rng(T)
    cell = rc.CELLS[cell_name]("tanh")
    params = cell.init_params(rng, D, H, spectral_radius=1.2 if cell.has_matrix else None)
    params = {name: array(v + 0.1 * rng.standard_normal(v.shape), library) for name, v in params.items()}
    x, grad = array(rng.standard_normal((T, B, D)), library), array(rng.standard_normal((T, B, H)), library)
    state, grad_state = (
        {name: array(rng.standard_normal((B, H)), library) for name in cell.state_names} for _ in range(2)
    )
    return cell, params, x, state, grad, grad_state


def bits(gradients: rc.Gradients) -> dict[str, np.ndarray]:
    """Everything that a checkpointed pass returns."""
    found = {**gradients.params, **{f"state {name}": g for name, g in gradients.state.items()}, **gradients.lost}
    found |= {
        "log_norm": gradients.log_norm,
        "samples": gradients.log_norm_samples,
        "immediate": gradients.log_norm_immediate,
    }
    if gradients.log_norm_cell is not None:
        found["log_norm_cell"] = gradients.log_norm_cell
    return {name: to_numpy(value) for name, value in found.items()}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("T", [1, 127, 128, 129, 400])
@pytest.mark.parametrize("cell_name", CELLS)
def test_a_checkpointed_tape_gives_the_same_bits(cell_name: str, T: int, library: str) -> None:
    """What is computed again differs from what would have been kept, or sums over time are taken in another order."""
    cell, params, x, state, grad, grad_state = network(cell_name, T, library)
    whole = rc.forward(cell, params, x, state)
    sparse = rc.forward(cell, params, x, state, memory_budget=1)
    assert whole.kept is not None and sparse.kept is None
    for name in cell.state_names:
        np.testing.assert_array_equal(to_numpy(sparse.state[name]), to_numpy(whole.state[name]))
        np.testing.assert_array_equal(to_numpy(sparse.states(name)), to_numpy(whole.states(name)))
    expected, found = (bits(rc.backward(tape, grad, grad_state)) for tape in (whole, sparse))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def test_beyond_range_too() -> None:
    """A checkpoint forgets the exponent of its state or of its gradient."""
    cell, rng = rc.VanillaCell("identity"), np.random.default_rng(0)
    params = cell.init_params(rng, 2, 3, "orthogonal", 4.0)
    x, T = rng.standard_normal((1500, 2, 2)), 1500
    grad = np.zeros((T, 2, 3))
    grad[-1] = 1.0
    whole, sparse = (rc.forward(cell, params, x, memory_budget=budget) for budget in (None, 1))
    assert isinstance(whole.hidden, rc.Scaled) and isinstance(sparse.state["hidden"], rc.Scaled)
    np.testing.assert_array_equal(whole.hidden.exponent, sparse.hidden.exponent)
    np.testing.assert_array_equal(whole.hidden.mantissa, sparse.hidden.mantissa)
    ours, theirs = (rc.backward(tape, grad) for tape in (sparse, whole))
    np.testing.assert_array_equal(ours.log_norm, theirs.log_norm)
    np.testing.assert_array_equal(ours.log_norm_samples, theirs.log_norm_samples)
    for name, expected in theirs.params.items():
        found = ours.params[name]
        assert isinstance(found, rc.Scaled) and isinstance(expected, rc.Scaled)
        assert found.exponent == expected.exponent
        np.testing.assert_array_equal(found.mantissa, expected.mantissa)


@pytest.mark.parametrize("cell_name", CELLS)
def test_the_budget_decides(cell_name: str) -> None:
    """A tape that fits is computed twice, or one that does not is kept."""
    cell, params, x, *_ = network(cell_name, 400)
    kept = rc.forward(cell, params, x).kept
    assert kept is not None
    size = tapes.nbytes(kept)
    assert rc.forward(cell, params, x, memory_budget=2 * size).kept is not None
    assert rc.forward(cell, params, x, memory_budget=size // 2).kept is None


def test_checkpoints_are_about_the_square_root() -> None:
    """The memory of a checkpointed tape grows like T."""
    for T in (1, 1000, 16_385, 1_000_000):
        length = tapes.segment_length(T)
        assert length + T / length <= 2.1 * max(T**0.5, tapes.SHORTEST_SEGMENT)
    cell, params, x, *_ = network("vanilla", 20_000, B=1)
    assert len(rc.forward(cell, params, x, memory_budget=1).checkpoints) == 20_000 // 142 + 1


def test_what_has_no_room_says_so() -> None:
    """An array that was not kept looks like an empty one, or like zeros."""
    cell, params, x, state, grad, grad_state = network("lstm", 300)
    gradients = rc.backward(rc.forward(cell, params, x, state, memory_budget=1), grad, grad_state)
    for name in ("hidden", "x", "cell"):
        array_like = getattr(gradients, name)
        assert isinstance(array_like, NotKept)
        for use in (lambda a: a[0], np.asarray, lambda a: a.shape, len, iter):
            with pytest.raises(LookupError, match=rf"grads\.{name} was not kept: .*memory_budget"):
                use(array_like)
    generous = rc.forward(cell, params, x, state, memory_budget=300 * 2 * (4 + 4 + 3) * 8)
    assert generous.kept is None  # an LSTM saves more than that
    np.testing.assert_array_equal(
        rc.backward(generous, grad, grad_state).hidden, rc.backward(rc.forward(cell, params, x, state), grad, grad_state).hidden
    )  # fmt: skip


def test_a_function_for_the_direct_part() -> None:
    """The loss of a long sequence must be given whole, or a piece of it lands at the wrong steps."""
    cell, params, x, state, grad, _ = network("gru", 300)
    tape, asked = rc.forward(cell, params, x, state), []

    def direct(start: int, stop: int) -> np.ndarray | None:
        asked.append((start, stop))
        return grad[start:stop] if stop > 200 else None

    first = grad.copy()
    first[:128] = 0.0
    found, expected = rc.backward(tape, direct), rc.backward(tape, first)
    assert asked == [(256, 300), (128, 256), (0, 128)]
    np.testing.assert_array_equal(found.hidden, expected.hidden)
    np.testing.assert_array_equal(found.log_norm_immediate, expected.log_norm_immediate)
    with pytest.raises(ValueError, match=r"grad_hidden\(start, stop\): shape \(1, 2, 4\) does not fit"):
        rc.backward(tape, lambda start, stop: grad[:1])


@pytest.mark.parametrize(("loss_at", "updates"), [("last", 0), ("every", 2)])
@pytest.mark.parametrize("cell_name", CELLS)
def test_a_run_measures_the_same_within_a_budget(cell_name: str, loss_at: str, updates: int) -> None:
    """The config's memory_mb changes a row."""
    experiment = rc.Experiment(
        cell=cell_name, loss_at=loss_at, updates=updates, sequence_length=300, hidden_size=5, batch_size=2, trace_every=1
    )  # fmt: skip
    whole, sparse = rc.run(experiment), rc.run(experiment, memory_budget=1)
    for ours, theirs in ((sparse.traces, whole.traces), (sparse.updates, whole.updates)):
        for name, column in theirs.items():
            np.testing.assert_array_equal(ours[name], column, err_msg=name)
    np.testing.assert_equal(sparse.summary, whole.summary)


PROGRAM = """
from pathlib import Path
import numpy as np
import rnn_core as rc

T, B, H = 1_000_000, 1, 64
rng = np.random.default_rng(0)
cell = rc.VanillaCell("tanh")
params = cell.init_params(rng, 1, H, "orthogonal", 1.0)
tape = rc.forward(cell, params, rng.standard_normal((T, B, 1)), memory_budget=64 * 2**20)
gradients = rc.backward(tape, grad_state={"hidden": np.ones((B, H))})
assert np.isfinite(gradients.log_norm).all() and np.isfinite(gradients.params["weight_hh"]).all()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(int(status["VmHWM"].split()[0]) / 2**10, gradients.log_norm[0])  # not getrusage: it begins with the parent's peak
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of one process alone is read from /proc")
def test_a_million_steps_in_less_than_a_gibibyte() -> None:
    """T = 1 000 000 at H = 64, B = 1: the tape alone would be 1 GiB, the gradients as much again."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True)
    peak, log_norm = map(float, done.stdout.split())
    assert peak < 1024
    assert log_norm < -1000.0


def test_torch_tensors_have_the_same_segments() -> None:
    """On the GPU a checkpointed pass would keep everything."""
    cell, params, x, state, grad, grad_state = network("lstm", 300, "torch")
    gradients = rc.backward(rc.forward(cell, params, x, state, memory_budget=1), grad, grad_state)
    assert isinstance(gradients.hidden, NotKept)
    assert isinstance(gradients.params["weight_hh"], torch.Tensor)
