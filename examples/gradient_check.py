"""A network with one hidden layer of relu units and a softmax output is an RNN of one step: its gradients, three ways.

The document works in float32 and prints them from its own backward pass, from central differences with step 1e-5, and
from PyTorch. (It prints all of them twice. Its second program adds 1e-12 inside the logarithm, which float32 does not see next to
the probabilities there.)

    python -m examples.gradient_check
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import rnn_core as rc
from examples.common import network, run
from rnn_core import readout
from rnn_core.oracles.central_differences import best_step, central_difference

f = np.float32
CELL = rc.VanillaCell("relu")
W = np.array([[1.0, 0.5, -0.3], [0.2, -1.0, 0.8], [0.4, 0.7, -0.9], [-0.6, 0.1, 0.5]], f)
U = np.array([[0.5, -0.3, 0.2, 0.1], [-0.4, 0.6, 0.7, -0.8]], f)
b1, b2 = np.array([0.1, -0.2, 0.3, -0.4], f), np.array([0.2, -0.1], f)
PARAMS = network(W, np.zeros((4, 4), f), b1, U, b2)
X = np.array([0.5, -1.0, 0.8], f)[None, None]  # one step of a batch of one
LABEL, ONEHOT = np.array([[1]]), np.array([0, 1], f)
OURS = {"U": "weight_ho", "b2": "bias_ho", "W": "weight_ih", "b1": "bias_ih"}


def softmax(scores: np.ndarray) -> np.ndarray:
    e = np.exp(scores - np.max(scores))
    return np.asarray(e / np.sum(e))


def loss(params: dict[str, np.ndarray], x: np.ndarray) -> float:
    """The document's cross-entropy of the engine's outputs.

    The engine's forward pass gives the document's bits. Its loss does not, being more accurate. A difference over 2e-5 of two
    float32 losses near 1.4 is made of their last bits. So the document's digits come only from its own formula.
    """
    y = softmax(readout.forward(params, rc.forward(CELL, params, x).hidden))
    return float(-np.sum(ONEHOT * np.log(y)))


def analytic() -> dict[str, np.ndarray]:
    """The engine's backward pass from the document's dL/dy = softmax - onehot in float32."""
    tape = rc.forward(CELL, PARAMS, X)
    dy = softmax(readout.forward(PARAMS, tape.hidden)) - ONEHOT
    readout_grads, dh = readout.backward(PARAMS, tape.hidden, dy)
    gradients = rc.backward(tape, dh)
    grads: dict[str, Any] = {**gradients.params, **readout_grads}
    return {**{name: grads[key] for name, key in OURS.items()}, "x": np.asarray(gradients.x)[0, 0]}


def numeric(step: float = 1e-5) -> dict[str, np.ndarray]:
    """Central differences of ``loss`` in float32."""

    def by(key: str) -> np.ndarray:
        return central_difference(lambda value: loss({**PARAMS, key: value}, X), PARAMS[key], step)

    grads = {name: by(key) for name, key in OURS.items()}
    return {**grads, "x": central_difference(lambda x: loss(PARAMS, x), X, step)[0, 0]}


def autograd() -> dict[str, torch.Tensor]:
    """PyTorch's gradients, in float32."""
    leaves = {"U": U, "b2": b2, "W": W, "b1": b1, "x": X[0, 0]}
    p = {name: torch.tensor(value, requires_grad=True) for name, value in leaves.items()}
    y = torch.softmax(p["U"] @ torch.relu(p["W"] @ p["x"] + p["b1"]) + p["b2"], dim=0)
    (-torch.sum(torch.tensor(ONEHOT) * torch.log(y))).backward()
    return {name: leaf.grad for name, leaf in p.items()}


def main() -> None:
    by_hand, by_difference, better = analytic(), numeric(), numeric(best_step(f))
    for name, gradient in by_hand.items():
        print(f"Analytical dL_d{name}:\n", gradient)
        print(f"Numerical dL_d{name}:\n", by_difference[name])
    for name, tensor in autograd().items():
        print(f"PyTorch dL_d{name}:\n", tensor)

    wide = {name: value.astype(np.float64) for name, value in PARAMS.items()}
    exact = run(CELL, wide, X.astype(np.float64), LABEL, "softmax_cross_entropy").dy[0, 0]
    own = run(CELL, PARAMS, X, LABEL, "softmax_cross_entropy").dy[0, 0]
    errors = [np.abs(dy - exact).max() for dy in (by_hand["b2"], own)]
    print(
        f"\n| softmax - onehot, the document's dL/dy = dL_db2, cancels in float32: off by {errors[0]:.0e} from float64;"
    )
    print(f"| the engine's own loss, written without that difference: {own}, off by {errors[1]:.0e}.")
    worst = [max(np.abs(d[name] - by_hand[name]).max() for name in by_hand) for d in (by_difference, better)]
    print(f"| Numerical minus analytical: up to {worst[0]:.0e}; with the step {best_step(f):.1e} up to {worst[1]:.0e}.")


if __name__ == "__main__":
    main()
