"""Five steps of four tanh units with two outputs: loss and every gradient of ½ Σ_t |y_t - target_t|².

The document writes forward pass, loss and BPTT as three functions over lists of steps. Then it takes one step of gradient descent,
and prints the gradients of that step.

    python -m examples.functional_rnn
"""

from __future__ import annotations

import numpy as np

import rnn_core as rc
from examples.common import network, run

OURS = {"W_xh": "weight_ih", "W_hh": "weight_hh", "W_hy": "weight_ho", "b_h": "bias_ih", "b_y": "bias_ho"}


def main() -> None:
    np.random.seed(42)  # noqa: NPY002 - the document's generator and its order of draws
    T, D, H, C = 5, 3, 4, 2
    x, target = np.random.randn(T, 1, D), np.random.randn(T, 1, C)  # noqa: NPY002
    W_xh, W_hh, W_hy = (np.random.randn(*shape) * 0.1 for shape in ((H, D), (H, H), (C, H)))  # noqa: NPY002
    params = network(W_xh, W_hh, np.zeros(H), W_hy, np.zeros(C))
    cell, sgd = rc.VanillaCell("tanh"), rc.OPTIMIZERS["sgd"](0.01)

    before = run(cell, params, x, target)
    # The document has one hidden bias: our second one would learn the same again.
    updated = sgd.step(params, {**before.params, "bias_hh": np.zeros(H)})

    print("Loss before update:", before.losses.sum())
    for name, key in OURS.items():
        print(f"Grad {name}:\n", before.params[key])
    print("| Loss after update:", run(cell, updated, x, target).losses.sum())


if __name__ == "__main__":
    main()
