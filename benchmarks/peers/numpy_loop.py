"""NumPy by hand, row-major as the textbooks have it: a step is h_{t-1} Wᵀ, into buffers that are there.

What makes it fast: Wᵀ is copied once, because a product with a transposed view takes a quarter longer; all gates take one
product; a step works in buffers of one step, which stay in cache; a weight gradient is a large product, not a sum of T small
ones. The sign of a sigmoid's argument is put into the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from benchmarks.work import Contender, Form, Measured, Prepared, Work, log_norms


@lru_cache(maxsize=24)
def _buffer(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """The same for all runs of a shape: memory that was used before is faster than fresh memory."""
    return np.empty(shape, dtype)


class Loop:
    """What all cells share. Row t of ``before`` is h_{t-1}; ``dv`` is dL/d(W_hh h_{t-1} + b_hh), its blocks in ``order``."""

    order: tuple[int, ...] = (0,)  # of the gates, in torch.nn's numbering
    sigmoids = 0  # so many blocks of ``order``, from the first, are sigmoids

    def __init__(self, work: Work) -> None:
        self.work, self.params, self.x, self.g = work, work.params, work.x, work.g
        (T, B, _), H, dtype = work.x.shape, work.hidden_size, work.x.dtype
        self.H, rows = H, len(self.order) * H
        self.before, self.dh = _buffer("before", (T + 1, B, H), dtype), _buffer("dh", (T, B, H), dtype)
        self.u, self.dv = _buffer("u", (T, B, rows), dtype), _buffer("dv", (T, B, rows), dtype)
        self.scratch = np.empty((B, H), dtype)

    def ordered(self, value: np.ndarray) -> np.ndarray:
        """Rows of gates in ``order``; and back, because all orders here are their own inverse."""
        blocks = np.split(value, len(self.order))
        return np.concatenate([blocks[i] for i in self.order])

    def start(self) -> tuple[np.ndarray, np.ndarray]:
        """(W_hhᵀ, W_hh) as the loops want them; ``u`` is filled with what the inputs give."""
        W, W_ih = self.ordered(self.params["weight_hh"]), self.ordered(self.params["weight_ih"])
        bias = self.ordered(self.input_bias())
        signs = np.ones(len(W), W.dtype)
        signs[: self.sigmoids * self.H] = -1.0
        rows = len(W)
        np.matmul(self.x.reshape(-1, self.x.shape[2]), (W_ih * signs[:, None]).T, out=self.u.reshape(-1, rows))
        self.u += signs * bias
        self.before[0] = 0.0
        self.dh[-1] = self.g
        return (W * signs[:, None]).T.copy(), W

    def input_bias(self) -> np.ndarray:
        return np.asarray(self.params["bias_ih"] + self.params["bias_hh"])

    def sent(self) -> tuple[np.ndarray, ...]:
        """Where each step back writes dL/dh_{t-1}, from the last: what the first would send to h_0 is not asked for."""
        return (*self.dh[-2::-1], self.scratch)

    def forward(self) -> None:
        raise NotImplementedError

    def backward(self) -> None:
        raise NotImplementedError

    def results(self) -> Any:
        rows = self.dv.shape[2]
        dv, signals = self.dv.reshape(-1, rows), self.dh.reshape(len(self.dh), -1)
        bias = np.ones(len(dv), dv.dtype) @ dv
        weight_ih, bias_ih = self.input_grads(dv, bias)
        grads = {
            "weight_ih": self.ordered(weight_ih),
            "weight_hh": self.ordered(dv.T @ self.before[:-1].reshape(len(dv), -1)),
            "bias_ih": self.ordered(bias_ih),
            "bias_hh": self.ordered(bias),
        }
        return 0.5 * np.log(np.einsum("ti,ti->t", signals, signals)), self.dh, grads

    def input_grads(self, dv: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of weight_ih and bias_ih: the inputs get what the recurrent part gets."""
        return (self.x.reshape(len(dv), -1).T @ dv).T, bias

    def __call__(self) -> Any:
        with np.errstate(all="ignore"):
            self.W_T, self.W = self.start()
            self.forward()
            self.backward()
            return self.results()


def _sigmoid_of_negative(a: np.ndarray, out: np.ndarray) -> None:
    """1 / (1 + exp(a))."""
    np.exp(a, out=out)
    np.add(out, 1.0, out=out)
    np.reciprocal(out, out=out)


def _phi(activation: str, a: np.ndarray, out: np.ndarray) -> None:
    if activation == "tanh":
        np.tanh(a, out=out)
    elif activation == "relu":
        np.maximum(a, 0.0, out=out)
    else:
        _sigmoid_of_negative(a, out)


def _slope(activation: str, h: np.ndarray, out: np.ndarray) -> None:
    """phi' from phi."""
    if activation == "relu":  # whichever takes less time
        np.sign(h, out=out) if h.size <= 4096 else np.greater(h, 0.0, out=out, casting="unsafe")
        return
    np.multiply(h, h, out=out)
    np.subtract(1.0 if activation == "tanh" else h, out, out=out)


class Vanilla(Loop):
    """h = phi(a)."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.sigmoids = int(work.activation == "sigmoid")

    def forward(self) -> None:
        step, W_T, phi = np.empty_like(self.g), self.W_T, self.work.activation
        for h_prev, u, h in zip(self.before, self.u, self.before[1:], strict=False):
            np.matmul(h_prev, W_T, out=step)
            np.add(step, u, out=step)
            _phi(phi, step, h)

    def backward(self) -> None:
        slope, W, phi = np.empty_like(self.g), self.W, self.work.activation
        for h, dh, da, dh_prev in zip(self.before[:0:-1], self.dh[::-1], self.dv[::-1], self.sent(), strict=True):
            _slope(phi, h, slope)
            np.multiply(dh, slope, out=da)
            np.matmul(da, W, out=dh_prev)


class Residual(Vanilla):
    """h = (1 - leak) h_{t-1} + step phi(a); phi(a) is kept."""

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        self.step, self.kept = work.options["step"], 1.0 - work.options["leak"]
        self.phi = _buffer("phi", self.dh.shape, self.dh.dtype)

    def forward(self) -> None:
        step, W_T, phi, size, kept = self.scratch, self.W_T, self.work.activation, self.step, self.kept
        for h_prev, u, s, h in zip(self.before, self.u, self.phi, self.before[1:], strict=False):
            np.matmul(h_prev, W_T, out=step)
            np.add(step, u, out=step)
            _phi(phi, step, s)
            added = s if size == 1.0 else np.multiply(s, size, out=step)
            np.add(h_prev if kept == 1.0 else np.multiply(h_prev, kept, out=h), added, out=h)

    def backward(self) -> None:
        slope, W, phi, size, kept = np.empty_like(self.g), self.W, self.work.activation, self.step, self.kept
        for s, dh, da, dh_prev in zip(self.phi[::-1], self.dh[::-1], self.dv[::-1], self.sent(), strict=True):
            _slope(phi, s, slope)
            np.multiply(dh, slope, out=da)
            if size != 1.0:
                np.multiply(da, size, out=da)
            np.matmul(da, W, out=dh_prev)
            np.add(dh_prev, dh if kept == 1.0 else np.multiply(dh, kept, out=slope), out=dh_prev)


class GRU(Loop):
    """h = n + z (h_{t-1} - n); gates r, z, n."""

    order, sigmoids = (0, 1, 2), 2

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        shape, dtype = self.dh.shape, self.dh.dtype
        self.rz = _buffer("rz", (*shape[:2], 2 * shape[2]), dtype)
        self.v_n, self.n, self.diff, self.da_n = (_buffer(name, shape, dtype) for name in ("v_n", "n", "diff", "da_n"))

    def input_bias(self) -> np.ndarray:
        bias = super().input_bias()
        bias[2 * self.H :] = self.params["bias_ih"][2 * self.H :]  # the reset gate multiplies the other
        return bias

    def forward(self) -> None:
        H, W_T, v = self.H, self.W_T, np.empty_like(self.dv[0])
        v_rz, v_last, b_n = v[:, : 2 * H], v[:, 2 * H :], self.params["bias_hh"][2 * H :]
        rows = zip(
            self.before, self.u[..., : 2 * H], self.u[..., 2 * H :], self.rz, self.rz[..., :H], self.rz[..., H:],
            self.v_n, self.n, self.diff, self.before[1:], strict=False,
        )  # fmt: skip
        for h_prev, u_rz, u_n, rz, r, z, v_n, n, diff, h in rows:
            np.matmul(h_prev, W_T, out=v)
            np.add(v_rz, u_rz, out=rz)
            _sigmoid_of_negative(rz, rz)
            np.add(v_last, b_n, out=v_n)
            np.multiply(r, v_n, out=n)
            np.add(n, u_n, out=n)
            np.tanh(n, out=n)
            np.subtract(h_prev, n, out=diff)
            np.multiply(diff, z, out=h)
            np.add(h, n, out=h)

    def backward(self) -> None:
        H, W = self.H, self.W
        kept, bend, slope = np.empty_like(self.g), np.empty_like(self.g), np.empty_like(self.rz[0])
        back = (
            self.rz, self.rz[..., :H], self.rz[..., H:], self.v_n, self.n, self.diff, self.dh, self.da_n,
            self.dv, self.dv[..., :H], self.dv[..., H : 2 * H], self.dv[..., : 2 * H], self.dv[..., 2 * H :],
        )  # fmt: skip
        for rz, r, z, v_n, n, diff, dh, da_n, dv, dv_r, dv_z, dv_rz, dv_n, dh_prev in zip(
            *(each[::-1] for each in back), self.sent(), strict=True
        ):
            np.multiply(dh, z, out=kept)
            np.subtract(dh, kept, out=da_n)
            np.multiply(n, n, out=bend)
            np.subtract(1.0, bend, out=bend)
            np.multiply(da_n, bend, out=da_n)
            np.subtract(1.0, rz, out=slope)
            np.multiply(slope, rz, out=slope)
            np.multiply(da_n, v_n, out=dv_r)
            np.multiply(dh, diff, out=dv_z)
            np.multiply(dv_rz, slope, out=dv_rz)
            np.multiply(da_n, r, out=dv_n)
            np.matmul(dv, W, out=dh_prev)
            np.add(dh_prev, kept, out=dh_prev)

    def input_grads(self, dv: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        H, da_n, x_T = self.H, self.da_n.reshape(-1, self.H), self.x.reshape(len(dv), -1).T
        weight_ih = np.concatenate([x_T @ dv[:, : 2 * H], x_T @ da_n], 1).T
        return weight_ih, np.concatenate([bias[: 2 * H], np.ones(len(da_n), da_n.dtype) @ da_n])


class LSTM(Loop):
    """c = f c_{t-1} + i g, h = o tanh(c); gates in the order i, f, o, g, so that the sigmoids lie side by side."""

    order, sigmoids = (0, 1, 3, 2), 3

    def __init__(self, work: Work) -> None:
        super().__init__(work)
        (T, B, H), dtype = self.dh.shape, self.dh.dtype
        self.ifo, self.cell = _buffer("ifo", (T, B, 3 * H), dtype), _buffer("cell", (T + 1, B, H), dtype)
        self.bent, self.candidate = _buffer("bent", (T, B, H), dtype), _buffer("candidate", (T, B, H), dtype)

    def gates(self) -> tuple[np.ndarray, ...]:
        H = self.H
        return self.ifo, self.ifo[..., :H], self.ifo[..., H : 2 * H], self.ifo[..., 2 * H :], self.candidate

    def forward(self) -> None:
        H, W_T, a, added = self.H, self.W_T, np.empty_like(self.dv[0]), self.scratch
        a_ifo, a_g = a[:, : 3 * H], a[:, 3 * H :]
        self.cell[0] = 0.0
        rows = zip(
            self.before, self.u, *self.gates(), self.cell, self.cell[1:], self.bent, self.before[1:], strict=False
        )
        for h_prev, u, ifo, i, f, o, g, c_prev, c, bent, h in rows:
            np.matmul(h_prev, W_T, out=a)
            np.add(a, u, out=a)
            _sigmoid_of_negative(a_ifo, ifo)
            np.tanh(a_g, out=g)
            np.multiply(f, c_prev, out=c)
            np.multiply(i, g, out=added)
            np.add(c, added, out=c)
            np.tanh(c, out=bent)
            np.multiply(o, bent, out=h)

    def backward(self) -> None:
        H, W, dv = self.H, self.W, self.dv
        dc, part, slope = np.zeros_like(self.g), np.empty_like(self.g), np.empty_like(self.ifo[0])
        back = (
            *self.gates(), self.cell[:-1], self.bent, self.dh, dv, dv[..., :H], dv[..., H : 2 * H],
            dv[..., 2 * H : 3 * H], dv[..., : 3 * H], dv[..., 3 * H :],
        )  # fmt: skip
        for ifo, i, f, o, g, c_prev, bent, dh, da, da_i, da_f, da_o, da_ifo, da_g, dh_prev in zip(
            *(each[::-1] for each in back), self.sent(), strict=True
        ):
            np.multiply(bent, bent, out=part)
            np.subtract(1.0, part, out=part)
            np.multiply(part, o, out=part)
            np.multiply(part, dh, out=part)
            np.add(dc, part, out=dc)
            np.subtract(1.0, ifo, out=slope)
            np.multiply(slope, ifo, out=slope)
            np.multiply(g, dc, out=da_i)
            np.multiply(c_prev, dc, out=da_f)
            np.multiply(bent, dh, out=da_o)
            np.multiply(da_ifo, slope, out=da_ifo)
            np.multiply(g, g, out=part)
            np.subtract(1.0, part, out=part)
            np.multiply(part, i, out=part)
            np.multiply(part, dc, out=da_g)
            np.matmul(da, W, out=dh_prev)
            np.multiply(dc, f, out=dc)


LOOPS: dict[str, type[Loop]] = {"vanilla": Vanilla, "residual": Residual, "gru": GRU, "lstm": LSTM}


def prepare(works: Sequence[Work]) -> Prepared:
    """The loop of the work's cell."""
    [work] = works
    return Prepared(LOOPS[work.kind](work), read)


def read(result: Any) -> list[Measured]:
    """The trace is taken again from all dL/dh_t, so that no square's under- or overflow spoils it."""
    _, signals, grads = result
    return [Measured(log_norms(signals), {name: value.copy() for name, value in grads.items()})]


PEER = Contender("numpy_loop", "NumPy by hand", (Form("buffers, weight gradients as one product", prepare),))
