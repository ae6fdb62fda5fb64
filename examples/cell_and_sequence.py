"""An RNN cell, then a sequence of four steps, forward with a softmax output and backward from a given dL/da;
and a sequence of three steps against ``torch.nn.RNN``.

The document follows a course's notes: arrays there are (features, batch, time), ours (time, batch, features), so every
array is turned over on its way in and out. Its indices count from 1 in the labels, and so do these.

    python -m examples.cell_and_sequence
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

import rnn_core as rc
from examples.common import network
from rnn_core import readout
from rnn_core.arrays import Array, Params, State

SHAPES = {"Wax": (5, 3), "Waa": (5, 5), "Wya": (2, 5), "ba": (5,), "by": (2,)}
ORDER = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of torch.nn.RNN's parameters


class TheirCell(rc.VanillaCell):
    """The document's cell, operation by operation.

    It prints some gradients to 16 digits or more, and the last of these digits are rounding errors. They come of 1 - h², which
    cancels where the engine's derivative of tanh does not, and of the order of its sums. Only its own order gives its own last
    digits.
    """

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Array]:
        h = np.tanh(u + params["weight_hh"] @ state["hidden"] + params["bias_hh"][:, None])
        return {"hidden": h}, h

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        da = (1 - saved * saved) * dstate["hidden"]
        return da, da, {"hidden": params["weight_hh"].T @ da}


def given(x_shape: tuple[int, ...], order: str) -> tuple[dict[str, np.ndarray], np.ndarray, State]:
    """(parameters, x (T, 10, 3), the first state), drawn in the given order."""
    np.random.seed(1)  # noqa: NPY002 - the document's generator and its order of draws
    x, a0 = np.random.randn(*x_shape), np.random.randn(5, 10)  # noqa: NPY002
    drawn = {name: np.random.randn(*SHAPES[name]) for name in order.split()}  # noqa: NPY002
    params = network(drawn["Wax"], drawn["Waa"], np.zeros(5), drawn["Wya"], drawn["by"]) | {"bias_hh": drawn["ba"]}
    return params, np.atleast_3d(x).transpose(2, 1, 0), {"hidden": a0.T}


def softmax_outputs(params: dict[str, np.ndarray], hidden: np.ndarray) -> np.ndarray:
    """softmax of the readout: dL/dscores of the cross-entropy is softmax - onehot, and the labels are added back."""
    scores = readout.forward(params, hidden)
    first = np.zeros(scores.shape[:-1], dtype=np.int64)
    return np.asarray(rc.LOSSES["softmax_cross_entropy"](scores, first)[1] + np.eye(scores.shape[-1])[0])


def in_their_shapes(dx: Any, da0: Any, dWax: Any, dWaa: Any, dba: Any) -> list[np.ndarray]:
    """The gradients as (features, batch, time), (features, batch) for a single step, and (features, 1) for the bias."""
    dx = np.asarray(dx).T
    return [dx[:, :, 0] if dx.shape[2] == 1 else dx, np.asarray(da0).T, dWax, dWaa, np.asarray(dba)[:, None]]


def in_their_order(params: dict[str, np.ndarray], x: np.ndarray, state: State, da: np.ndarray) -> list[np.ndarray]:
    """The gradients with TheirCell, one step at a time there and back, as the document does it."""
    tapes = []
    for x_t in x:
        tapes.append(rc.forward(TheirCell(), params, x_t[None], state))
        state = tapes[-1].state
    steps: list[rc.Gradients] = []
    for tape, da_t in zip(reversed(tapes), da[::-1], strict=True):
        steps.append(rc.backward(tape, da_t[None], steps[-1].state if steps else None))
    sums = [sum(np.asarray(step.params[name]) for step in steps) for name in ORDER[:3]]
    return in_their_shapes(np.concatenate([step.x for step in reversed(steps)]), steps[-1].state["hidden"], *sums)


def print_gradients(params: dict[str, np.ndarray], x: np.ndarray, a0: State, da: np.ndarray, names: str) -> None:
    """One entry of every gradient, and its shape, as the document chooses them."""
    own = rc.backward(rc.forward(rc.VanillaCell(), params, x, a0), da)
    pair = (
        in_their_order(params, x, a0, da),
        in_their_shapes(own.x, own.state["hidden"], *map(own.params.get, ORDER[:3])),
    )
    entries = "row 2, column 3", "row 3, column 4", "row 4, column 2", "row 2, column 3", "row 5"
    indices = (1, 2), (2, 3), (3, 1), (1, 2), (4,)
    for name, entry, i, theirs, ours in zip(
        [*names.split(), "dWax", "dWaa", "dba"], entries, indices, *pair, strict=True
    ):
        print(f"{name}, {entry} = {theirs[i]}, shape {theirs.shape}  | engine's own cell: {ours[i]}")
    print()


def torch_weights() -> tuple[torch.nn.RNN, dict[str, np.ndarray]]:
    """torch.nn.RNN(4, 5) after seed 123, with the weights that the document's version of torch drew; and these weights.

    torch 2.13 maps a uniform draw r to r · 2b - b with one rounding (a fused multiply-add); the document's torch rounded
    twice, so that some float32 weights differ in their last bit, and six of the printed digits with them.
    """
    torch.random.manual_seed(123)
    module = torch.nn.RNN(4, 5).double()
    torch.random.manual_seed(123)
    bound = np.float32(1 / math.sqrt(5))
    weights = {}
    for name, parameter in zip(ORDER, module.parameters(), strict=True):
        r = torch.rand(parameter.shape).numpy()
        weights[name] = (r * (bound - -bound) + -bound).astype(np.float64)
        parameter.data = torch.from_numpy(weights[name].copy())
    return module, weights


def against_torch() -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(what, ours, torch.nn.RNN's) of states and gradients: three steps of three sequences, from a given dL/dh."""
    module, weights = torch_weights()
    np.random.seed(123)  # noqa: NPY002
    x, h0, dh = (np.random.random(shape) for shape in ((3, 3, 4), (1, 3, 5), (3, 3, 5)))  # noqa: NPY002
    tape = rc.forward(rc.VanillaCell(), weights, x, {"hidden": h0[0]})
    ours = rc.backward(tape, dh)
    xt = torch.tensor(x, requires_grad=True)
    hidden, _ = module(xt, torch.tensor(h0))
    hidden.backward(torch.tensor(dh))
    rows = [("hidden states", tape.hidden, hidden.detach().numpy())]
    rows.append(("gradient of the inputs", np.asarray(ours.x), np.asarray(xt.grad)))
    for name, parameter in zip(ORDER, module.parameters(), strict=True):
        rows.append((f"gradient of {name}", np.asarray(ours.params[name]), np.asarray(parameter.grad)))
    return rows


def main() -> None:
    cell = rc.VanillaCell("tanh")
    print("===== A cell, forward =====")
    params, x, a0 = given((3, 10), "Wax Waa Wya ba by")
    da = np.random.randn(5, 10)  # noqa: NPY002 - for the way back; drawn after the parameters
    hidden = rc.forward(cell, params, x, a0).hidden
    a_next, y = hidden[0].T, softmax_outputs(params, hidden[0]).T
    print(f"Next hidden state, row 5 = {a_next[4]}, shape {a_next.shape}")
    print(f"Prediction, row 2 = {torch.tensor(y[1])}, shape {y.shape}\n")

    print("===== A cell, backward =====")
    print_gradients(params, x, a0, da.T[None], "dxt da_prev")

    print("===== A sequence, forward =====")
    params, x, a0 = given((3, 10, 4), "Waa Wax Wya ba by")
    hidden = rc.forward(cell, params, x, a0).hidden
    a, y = hidden.T, softmax_outputs(params, hidden).T
    print(f"Hidden states, row 5, column 2 = {a[4][1]}, shape {a.shape}")
    print(f"Predictions, row 2, column 4 = {y[1][3]}, shape {y.shape}")
    print(f"Inputs kept for the way back, row 2, column 4 = {x.T[1][3]}\n")

    print("===== A sequence, backward =====")
    params, x, a0 = given((3, 10, 4), "Wax Waa Wya ba by")
    da = np.random.randn(5, 10, 4)  # noqa: NPY002
    print_gradients(params, x, a0, da.T, "dx da0")

    print("===== Against torch.nn.RNN =====")
    with np.printoptions(precision=6, suppress=True):
        for what, ours, theirs in against_torch():
            print(f"{what}, by hand:\n{ours}\n{what}, torch:\n{theirs}")
            print(f"| largest difference: {np.abs(ours - theirs).max():.1e}\n")


if __name__ == "__main__":
    main()
