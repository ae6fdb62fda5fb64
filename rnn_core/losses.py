"""Loss functions. Each returns the loss of every sample and its gradient with respect to the outputs.

Shapes: y (…, C), loss (…). A leading axis is time or batch. The caller takes the average.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rnn_core.arrays import Array, namespace
from rnn_core.choices import Registry
from rnn_core.scaling import Scaled, mantissa_and_exponents

NO_LABEL = -1  # the label of a step that carries no target; where targets are numbers it is nan

LossFunction = Callable[[Array, Array], tuple[Array, Array]]


def squared_error(y: Array, target: Array) -> tuple[Array, Array]:
    """½ Σ_c (y_c - target_c)², with target (…, C); the gradient is y - target."""
    e = y - target
    return 0.5 * namespace(y).sum(e * e, axis=-1), e


def scaled_squared_error(y: Scaled, target: Array) -> tuple[Array, Scaled]:
    """``squared_error`` of outputs beyond float range. The loss is inf where plain floats do not hold it; the gradient is exact."""
    m, exponents = mantissa_and_exponents(y)
    e = m - Scaled(target, -exponents).to_float()
    with np.errstate(over="ignore"):
        error = Scaled(e, exponents).to_float()
        return 0.5 * namespace(m).sum(error * error, axis=-1), Scaled(e, exponents)


def softmax_cross_entropy(y: Array, target: Array) -> tuple[Array, Array]:
    """-ln softmax(y)_target, with integer labels target (…); the gradient is softmax(y) - onehot(target).

    It is computed from y - max y, so that no finite score overflows (Bridle 1990; Goodfellow et al. 2016, section 4.1). It avoids
    the differences softmax - 1 and ln 1, which lose every digit where the prediction is confident and right.
    """
    xp = namespace(y)
    top = xp.max(y, axis=-1, keepdims=True)
    e = xp.exp(y - top)
    classes = xp.arange(y.shape[-1], device=y.device)
    is_target = target[..., None] == classes
    is_top = xp.argmax(y, axis=-1)[..., None] == classes
    beside_top = xp.sum(xp.where(is_top, 0.0, e), axis=-1)  # Σ e = 1 + beside_top
    beside_target = xp.sum(xp.where(is_target, 0.0, e), axis=-1, keepdims=True)
    gap = top[..., 0] - xp.sum(xp.where(is_target, y, 0.0), axis=-1)
    z = (1.0 + beside_top)[..., None]
    return gap + xp.log1p(beside_top), xp.where(is_target, -beside_target, e) / z


LOSSES: Registry[LossFunction] = Registry(
    "losses", {"squared_error": squared_error, "softmax_cross_entropy": softmax_cross_entropy}
)


def carries_target(target: Array) -> Array:
    """Which steps of ragged sequences carry a target, bool (T, B), from labels (T, B) or numbers (T, B, C)."""
    xp = namespace(target)
    return target != NO_LABEL if target.ndim == 2 else xp.logical_not(xp.isnan(target[..., 0]))


def commonest(labels: np.ndarray) -> float:
    """The accuracy of always naming the commonest class among the integer ``labels``, of any shape."""
    _, counts = np.unique(labels, return_counts=True)
    return float(counts.max() / counts.sum())


def commonest_missed(labels: np.ndarray) -> float:
    """The fraction of sequences that always naming the commonest class gets wrong: those with any other label.

    Args:
        labels: integers, one a sequence (N,) or some (N, T); those without a label, ``NO_LABEL``, do not count.
    """
    rows = labels.reshape(len(labels), -1)
    carries = rows != NO_LABEL
    classes, counts = np.unique(rows[carries], return_counts=True)
    return float(((rows != classes[counts.argmax()]) & carries).any(axis=1).mean())


def baseline(loss: str, target: np.ndarray) -> float:
    """The mean loss of the best constant prediction: half the variance of the targets, or the entropy of the labels."""
    if loss == "squared_error":
        flat = target.reshape(-1, target.shape[-1])
        return float(0.5 * flat.var(axis=0).sum())
    _, counts = np.unique(target, return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log(p)).sum())
