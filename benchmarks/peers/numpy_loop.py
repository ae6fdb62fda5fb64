"""NumPy by hand, row-major as the textbooks have it: h_t = tanh(a_t + h_{t-1} Wᵀ), into buffers that are there.

What makes it fast: Wᵀ is copied once, because a product with a transposed view takes a quarter longer; a step works in buffers
of one step, which stay in cache; a weight gradient is a large product, not a sum of T small ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any

import numpy as np

from benchmarks.work import Contender, Form, Measured, Prepared, Work


@lru_cache(maxsize=18)
def _buffer(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The same for all runs of a shape: memory that was used before is faster than fresh memory."""
    return np.empty(shape, dtype)


class Loop:
    """The passes. Row t of ``before`` is h_{t-1} and, where they are ``joined``, x_t beside it: then one product a step serves both."""

    def __init__(self, work: Work, joined: bool) -> None:
        self.params, self.x, self.g, self.joined = work.params, work.x, work.g, joined
        T, B, D = work.x.shape
        H, dtype = work.hidden_size, work.x.dtype
        self.before = _buffer("before", (T + 1, B, H + D * joined), dtype)
        self.dh, self.da = _buffer("dh", (T, B, H), dtype), _buffer("da", (T, B, H), dtype)

    def forward(self) -> None:
        H, bias = self.g.shape[1], self.params["bias_ih"] + self.params["bias_hh"]
        self.before[0, :, :H] = 0.0
        added: Iterable[np.ndarray]
        if self.joined:
            added = repeat(bias, len(self.x))
            self.before[:-1, :, H:] = self.x
            weights_T = np.concatenate([self.params["weight_hh"].T, self.params["weight_ih"].T])
        else:
            weights_T = self.params["weight_hh"].T.copy()
            added = _buffer("added", self.da.shape, self.da.dtype)
            np.matmul(self.x.reshape(-1, self.x.shape[2]), self.params["weight_ih"].T, out=added.reshape(-1, H))
            added += bias
        step = np.empty_like(self.g)
        for before, extra, h in zip(self.before, added, self.before[1:, :, :H], strict=False):
            np.matmul(before, weights_T, out=step)
            np.add(step, extra, out=step)
            np.tanh(step, out=h)

    def backward(self) -> None:
        W, slope, H = self.params["weight_hh"], np.empty_like(self.g), self.g.shape[1]
        self.dh[-1] = self.g
        sent = (*self.dh[-2::-1], np.empty_like(self.g))  # what the first step would send to h_0 is not asked for
        for h, dh, da, dh_before in zip(self.before[:0:-1, :, :H], self.dh[::-1], self.da[::-1], sent, strict=True):
            np.multiply(h, h, out=slope)
            np.subtract(1.0, slope, out=slope)
            np.multiply(dh, slope, out=da)
            np.matmul(da, W, out=dh_before)

    def results(self) -> Any:
        H = self.g.shape[1]
        da, signals = self.da.reshape(-1, H), self.dh.reshape(len(self.dh), -1)
        product = da.T @ self.before[:-1].reshape(len(da), -1)
        bias = np.ones(len(da), da.dtype) @ da
        weight_ih = product[:, H:] if self.joined else (self.x.reshape(len(da), -1).T @ da).T
        grads = {"weight_ih": weight_ih, "weight_hh": product[:, :H], "bias_ih": bias, "bias_hh": bias}
        return 0.5 * np.log(np.einsum("ti,ti->t", signals, signals)), grads

    def __call__(self) -> Any:
        self.forward()
        self.backward()
        return self.results()


def _prepare(joined: bool) -> Callable[[Sequence[Work]], Prepared]:
    def prepare(works: Sequence[Work]) -> Prepared:
        [work] = works
        return Prepared(Loop(work, joined), lambda result: [Measured(result[0].astype(np.float64), result[1])])

    return prepare


PEER = Contender(
    "numpy_loop",
    "NumPy by hand, row-major",
    (Form("inputs' products before the loop", _prepare(False)), Form("state and input in one matrix", _prepare(True))),
)
