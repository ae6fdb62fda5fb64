"""A class of sixteen tanh units learns the mean of its inputs, 100 steps of gradient descent over one sequence of 50.

The document writes forward pass, loss ½ Σ_t (y_t - target_t)², BPTT and update as one NumPy class; here they are four
calls. Its weights multiply from the right (x @ W), so that ours are their transposes.

    python -m examples.train_a_small_rnn
"""

from __future__ import annotations

import numpy as np

import rnn_core as rc
from examples.common import network, run


def main() -> None:
    np.random.seed(42)  # noqa: NPY002 - the document's generator and its order of draws
    T, D, H, epochs = 50, 10, 16, 100
    x = np.random.randn(T, D)  # noqa: NPY002
    target = np.mean(x, axis=1, keepdims=True)
    W_xh, W_hh, W_hy = (np.random.randn(*shape) * 0.01 for shape in ((D, H), (H, H), (H, 1)))  # noqa: NPY002
    params = network(W_xh.T, W_hh.T, np.zeros(H), W_hy.T, np.zeros(1))
    cell, sgd = rc.VanillaCell("tanh"), rc.OPTIMIZERS["sgd"](0.01)

    for epoch in range(1, epochs + 1):
        now = run(cell, params, x[:, None], target[:, None])  # a batch of one sequence
        if epoch % 10 == 0:
            print(f"Epoch {epoch}/{epochs}, Loss = {now.losses.sum():.6f}")
        # The document has one hidden bias: our second one would learn the same again.
        params = sgd.step(params, {**now.params, "bias_hh": np.zeros(H)})

    y = run(cell, params, x[:, None], target[:, None]).y
    print(f"\nTargets y_data[:10]:\n{target[:10].flatten()}")
    print(f"Predictions y_pred[:10]:\n{y[:10].flatten()}")


if __name__ == "__main__":
    main()
