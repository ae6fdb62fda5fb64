"""NumPy by hand, row-major as the textbooks have it: h_t = tanh(a_t + h_{t-1} Wᵀ), into buffers that are there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.work import Contender, Form, Measured, Prepared, Work


@lru_cache(maxsize=6)
def _buffers(shape: tuple[int, ...], dtype: np.dtype) -> list[np.ndarray]:
    """The same for all runs of a shape: memory that was used before is faster than fresh memory."""
    return [np.empty(shape, dtype) for _ in range(4)]


class _Loop:
    """The passes; the buffers are used again by all calls."""

    def __init__(self, work: Work) -> None:
        self.params, self.x, self.g = work.params, work.x, work.g
        T, B, _ = work.x.shape
        shape = (T, B, work.hidden_size)
        self.a, self.h, self.dh, self.da = _buffers(shape, work.x.dtype)

    def forward(self) -> None:
        W_T, bias = self.params["weight_hh"].T, self.params["bias_ih"] + self.params["bias_hh"]
        np.matmul(self.x.reshape(-1, self.x.shape[2]), self.params["weight_ih"].T, out=self.a.reshape(-1, len(bias)))
        self.a += bias
        np.tanh(self.a[0], out=self.h[0])
        for before, a, h in zip(self.h, self.a[1:], self.h[1:], strict=False):
            np.matmul(before, W_T, out=h)
            h += a
            np.tanh(h, out=h)

    def backward(self) -> None:
        W, slope = self.params["weight_hh"], np.empty_like(self.g)
        self.dh[-1] = self.g
        for t in range(len(self.x) - 1, -1, -1):
            np.multiply(self.h[t], self.h[t], out=slope)
            np.subtract(1.0, slope, out=slope)
            np.multiply(self.dh[t], slope, out=self.da[t])
            if t:
                np.matmul(self.da[t], W, out=self.dh[t - 1])

    def __call__(self) -> Any:
        self.forward()
        self.backward()
        return self.results()

    def results(self) -> Any:
        H = self.g.shape[1]
        da, signals = self.da.reshape(-1, H), self.dh.reshape(len(self.dh), -1)
        bias = da.sum(axis=0)
        grads = {
            "weight_ih": da.T @ self.x.reshape(-1, self.x.shape[2]),
            "weight_hh": self.da[1:].reshape(-1, H).T @ self.h[:-1].reshape(-1, H),
            "bias_ih": bias,
            "bias_hh": bias,
        }
        return 0.5 * np.log(np.einsum("ti,ti->t", signals, signals)), grads


def by_hand(works: Sequence[Work]) -> Prepared:
    """The loop."""
    [work] = works
    return Prepared(_Loop(work), lambda found: [Measured(found[0].astype(np.float64), found[1])])


PEER = Contender("numpy_loop", "NumPy by hand, row-major", (Form("preallocated", by_hand),))
