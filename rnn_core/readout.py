"""The linear readout y_t = W_ho h_t + b_ho. Shapes: h (…, H), y (…, C); leading axes are time and batch.

States of a homogeneous cell may lie beyond float range; then h, y and dy are ``Scaled``, with time as their leading axis.
"""

from __future__ import annotations

import numpy as np

from rnn_core.arrays import Array, Params, like, namespace
from rnn_core.scaling import Scaled, mantissa_and_exponents, plain_if_fits, sum_of_products


def init_readout(rng: np.random.Generator, hidden_size: int, output_size: int) -> Params:
    """``weight_ho`` (C, H) normal with variance 1/H, ``bias_ho`` (C,) zero; NumPy float64."""
    return {
        "weight_ho": rng.standard_normal((output_size, hidden_size)) / np.sqrt(hidden_size),
        "bias_ho": np.zeros(output_size),
    }


def forward(params: Params, h: Array | Scaled) -> Array:
    """y (…, C) from h (…, H)."""
    W, b = params["weight_ho"], params["bias_ho"]
    if not isinstance(h, Scaled):
        return h @ W.T + b  # y = W_ho h + b_ho
    m, exponent = mantissa_and_exponents(h)
    above = np.maximum(exponent, 0)  # what lies below the range is too small to be seen beside b, or is 0 in y as well
    m = Scaled(m, exponent - above).to_float()
    shrunk = like(np.ldexp(1.0, -np.minimum(above, 2000)), m)  # b_ho beside a state that is stored times 2**-above
    return plain_if_fits(m @ W.T + b * shrunk[:, None, None], above)


def backward(params: Params, h: Array | Scaled, dy: Array | Scaled) -> tuple[dict[str, Array | Scaled], Array]:
    """(gradients by name, dL/dh (…, H)) from dL/dy (…, C)."""
    return parameter_gradients(params, h, dy), input_gradient(params, dy)


def parameter_gradients(params: Params, h: Array | Scaled, dy: Array | Scaled) -> dict[str, Array | Scaled]:
    """Sums over time and batch of dy h^T and of dy."""
    C, H = params["weight_ho"].shape
    xp = namespace(params["weight_ho"])
    (d, e_d), (h, e_h) = mantissa_and_exponents(dy), mantissa_and_exponents(h)

    def contract(d: Array, factor: Array | None) -> Array:
        rows = xp.reshape(d, (-1, C))
        return xp.sum(rows, axis=0) if factor is None else rows.T @ xp.reshape(factor, (-1, H))

    return {
        "weight_ho": sum_of_products(d, e_d + e_h, h, contract),
        "bias_ho": sum_of_products(d, e_d, None, contract),
    }


def input_gradient(params: Params, dy: Array | Scaled) -> Array | Scaled:
    """dL/dh = W_ho^T dL/dy, (…, H)."""
    W = params["weight_ho"]
    m, exponent = (dy.mantissa, dy.exponent) if isinstance(dy, Scaled) else (dy, 0)
    rows = m * W if W.shape[0] == 1 else m @ W  # of a single output a product of matrices is as good, and half as fast
    return plain_if_fits(rows, exponent)
