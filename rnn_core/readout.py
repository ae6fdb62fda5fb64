"""The linear readout y_t = W_ho h_t + b_ho. Shapes: h (…, H), y (…, C); leading axes are time and batch."""

from __future__ import annotations

import numpy as np

from rnn_core.arrays import Array, Params, namespace


def init_readout(rng: np.random.Generator, hidden_size: int, output_size: int) -> Params:
    """``weight_ho`` (C, H) normal with variance 1/H, ``bias_ho`` (C,) zero; NumPy float64."""
    return {
        "weight_ho": rng.standard_normal((output_size, hidden_size)) / np.sqrt(hidden_size),
        "bias_ho": np.zeros(output_size),
    }


def forward(params: Params, h: Array) -> Array:
    """y (…, C) from h (…, H)."""
    return h @ params["weight_ho"].T + params["bias_ho"]  # y = W_ho h + b_ho


def backward(params: Params, h: Array, dy: Array) -> tuple[Params, Array]:
    """(gradients by name, dL/dh (…, H)) from dL/dy (…, C)."""
    xp = namespace(h)
    C, H = params["weight_ho"].shape
    dy_rows, h_rows = xp.reshape(dy, (-1, C)), xp.reshape(h, (-1, H))
    grads = {"weight_ho": dy_rows.T @ h_rows, "bias_ho": xp.sum(dy_rows, axis=0)}  # sums over time and batch
    return grads, dy @ params["weight_ho"]  # dL/dh = W_ho^T dL/dy
