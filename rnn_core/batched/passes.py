"""The passes of R runs over their buffers. Derivation: rnn_core/README.md, sections 2 and 3.

Time is the first axis of every buffer and the run the second; a column is a sample. The signal of every sample has an exponent of its
own, kept apart as an integer. Every few steps the largest entry of its column is brought back to one size by a power of two, which
changes no bit. Nothing waits for a number: whether one exponent has held a column is read off the buffers at the end (``trace``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from rnn_core.batched.columns import Columns
from rnn_core.batched.powers import RANGES, exponent_bits, two_to
from rnn_core.batched.shapes import Shape
from rnn_core.batched.steps import STEPS, Tensors

PIECE = 512  # steps that one CUDA graph holds
NEAR = 2**24  # bytes: so many preactivations are turned into slopes together, while they are near the processors
NO_FLOOR = -(2**60)


class Direct(NamedTuple):
    """A loss at every step: dL/dh_t has the direct part W_ho^T dy_t.

    Attributes:
        weight: W_ho (R, C, H).
        dy: dL/dy_t of all steps, (T, R, C, B).
    """

    weight: Tensor
    dy: Tensor


class Together:
    """R runs of one shape: load networks and inputs, go forward, go backward, read the buffers.

    Attributes:
        shape: what the runs have in common.
        R: runs; a smaller number is filled up with networks of zeros.
        step: what the cell does entry by entry.
        W: the stacked weights (R, rows, K) (``steps``).
        z: [h_t; x_{t+1}; 1] for t = 0 … T, (T + 1, R, K, B).
        a: a_t, after the forward pass what the cell's backward step takes, after ``backward`` da_t; (T, R, rows, B).
        dh, dc: dL/dh_t and, of an LSTM, dL/dc_t for t = 0 … T, (T + 1, R, H, B), times 2**exponent.
        blocks: the exponents of some steps each, int64 (blocks, R, 1, B); ``exponent`` has them step by step.
        columns: what has been read of dh and dc since the last backward pass (``columns.columns_of``).
        kernels: ``kernels``, where Triton reads the buffers; else None.
        c: an LSTM's cell state, (T + 1, R, H, B).
    """

    def __init__(self, shape: Shape, runs: int | None = None) -> None:
        self.shape = shape
        self.step = STEPS[type(shape.cell)](shape.cell, shape.H)
        self.R = shape.runs(self.step.rows) if runs is None else runs
        self.limits = RANGES[shape.dtype]
        T, R, B, H = shape.T, self.R, shape.B, shape.H
        self._options = {"dtype": getattr(torch, shape.dtype), "device": torch.device(shape.device)}

        def empty(*sizes: int) -> Tensor:
            return torch.empty(sizes, **self._options)

        self.W = empty(R, self.step.rows, shape.columns)  # load fills it
        self._W_T = self.W[:, : self.step.recurrent, :H].transpose(1, 2)
        self.z, self.a = empty(T + 1, R, shape.columns, B), empty(T, R, self.step.rows, B)
        self.z[0].zero_()
        self.z[:, :, H:].zero_()
        self.z[:, :, H + shape.D] = 1.0
        self.dh = empty(T + 1, R, H, B)
        self.c: Tensor | None = empty(T + 1, R, H, B) if self._has_cell else None
        self.dc: Tensor | None = empty(T + 1, R, H, B) if self._has_cell else None
        self.blocks = torch.zeros((self._block(T) + 1, R, 1, B), dtype=torch.int64, device=shape.device)
        self._now = torch.zeros((R, 1, B), dtype=torch.int64, device=shape.device)
        self._floor = torch.full((R, 1, B), NO_FLOOR, dtype=torch.int64, device=shape.device)
        self._shrink = empty(R, 1, B)
        self._da: Tensor | None = None
        self._direct: Direct | None = None  # buffers of their own, from the first pass that needs them
        self._joins = False
        if self.c is not None:
            self.c[0].zero_()
        self.columns: dict[str, Columns] = {}
        self.kernels = _kernels(shape)
        self._fused = _fused_kernels(shape)
        self._numbers = self._fused.numbers_of(shape, self.W) if self._fused else self.W
        self._play = _graphs(self.W) if self.W.is_cuda else _at_once

    @property
    def _has_cell(self) -> bool:
        return "cell" in self.shape.cell.state_names

    @property
    def h(self) -> Tensor:
        """h_0 … h_T, (T + 1, R, H, B)."""
        return self.z[:, :, : self.shape.H]

    @property
    def exponent(self) -> Tensor:
        """Of dh and dc, int64 (T + 1, R, B): their values are what is stored times 2**exponent. That of da_t is the one of dh_t."""
        blocks = torch.tensor([self._block(t) for t in range(self.shape.T + 1)], device=self.blocks.device)
        return self.blocks[:, :, 0][blocks]

    def _block(self, t: int) -> int:
        """Which exponent dh_t has: it moves where t is a multiple of ``every``, and holds down to the next."""
        return max(1, -(-t // self.limits.every))

    # ---- networks and inputs -------------------------------------------------------------------------------------------

    def load(self, params: Tensors, x: Tensor, which: Tensor | None = None) -> None:
        """Networks with their inputs; states start from zero.

        Args:
            params: with a leading axis of at most R runs.
            x: inputs, (networks or fewer, T, B, D).
            which: for every run the index into ``x``, where runs share inputs.
        """
        T, H, D = self.shape.T, self.shape.H, self.shape.D
        given = len(params["weight_hh"])
        self.W.zero_()
        self.W[:given] = self.step.stacked(params, self.shape.columns)
        columns = x.permute(1, 0, 3, 2)  # (T, networks, D, B)
        for steps in self.pieces(T):
            self.z[steps, :given, H : H + D] = (
                columns[steps] if which is None else columns[steps].index_select(1, which)
            )

    def pieces(self, T: int, most: int = PIECE) -> Iterator[slice]:
        """All steps in order, some at a time."""
        yield from (slice(start, min(start + most, T)) for start in range(0, T, most))

    # ---- forward -------------------------------------------------------------------------------------------------------

    def forward(self) -> None:
        """Every h_t, and in the place of a_t what the backward step takes."""
        if self._fused:
            self._fused.forward(self.shape, self.W, self.z, self.a, self._numbers)
            return
        for steps in self.pieces(self.shape.T):
            self._play(("forward", steps.start), partial(self._forward, steps))

    def _forward(self, steps: slice) -> None:
        near = max(1, NEAR // (self.a[0].numel() * self.a.element_size()))
        done = steps.start
        for t in range(steps.start, steps.stop):
            torch.bmm(self.W, self.z[t], out=self.a[t])  # a_t = W_hh h_{t-1} + W_ih x_t + b
            self.step.forward(self.a[t], self._state(t), self._state(t + 1))
            if t + 1 - done == near or t + 1 == steps.stop:
                self.step.after_forward(self.a[done : t + 1])
                done = t + 1

    def _state(self, t: int) -> Tensors:
        """The parts of the state after t steps."""
        hidden = {"hidden": self.z[t, :, : self.shape.H]}
        return hidden if self.c is None else {**hidden, "cell": self.c[t]}

    # ---- backward ------------------------------------------------------------------------------------------------------

    def backward(self, last: Tensor, direct: Direct | None = None, keep: bool = True) -> None:
        """Every dL/dh_t, scaled, and da_t in the place of what the forward pass left.

        Args:
            last: the direct part of dL/dh_T of the runs that were loaded, or of all, (at most R, H, B).
            direct: the direct parts before it, where every step carries a loss.
            keep: False leaves the buffer ``a`` as it is, for another pass; there are no parameter gradients then.
        """
        T = self.shape.T
        self.columns.clear()
        self._start(last, direct)
        if self._fused:
            joining = self._direct if direct is not None else None
            self._fused.backward(
                self.shape,
                self.W,
                self.a,
                keep,
                self.dh,
                self.blocks,
                self._floor,
                joining,
                self._numbers,
                self.limits,
            )
            return
        if self._da is None and not keep:
            self._da = torch.empty_like(self.a[0])
        for steps in reversed(list(self.pieces(T))):
            self._play(("backward", steps.start, direct is None, keep), partial(self._backward, steps, keep))

    def _start(self, last: Tensor, direct: Direct | None) -> None:
        """dL/dh_T at the size at which signals are kept, and the exponents of the beginning."""
        self.dh[-1].zero_()
        self.dh[-1, : len(last)] = last
        if self.dc is not None:
            self.dc[-1].zero_()
        self._now.zero_()
        self._floor.fill_(NO_FLOOR)
        self._joins = direct is not None
        if direct is not None:
            self._take(direct)
        self._renormalise(self.shape.T)

    def _take(self, direct: Direct) -> None:
        """The direct parts in buffers of their own. With them a signal never needs an exponent below that of the largest of them."""
        T, R, B = self.shape.T, self.R, self.shape.B
        given, C, H = direct.weight.shape
        if self._direct is None:
            sizes = ((R, C, H), (T, R, C, B))
            self._direct = Direct(*(torch.zeros(size, **self._options) for size in sizes))
        self._direct.weight[:given], self._direct.dy[:, :given] = direct.weight, direct.dy
        largest = torch.zeros((R, 1, B), **self._options)
        weight = torch.linalg.vector_norm(direct.weight, torch.inf, dim=2).sum(dim=1)[:, None, None]  # bounds W_ho^T dy
        dy = torch.linalg.vector_norm(direct.dy, torch.inf, dim=(0, 2))[:, None]
        largest[:given] = weight * dy
        floor = exponent_bits(largest, self.shape.dtype).to(torch.int64) - self.limits.top
        self._floor.copy_(torch.clamp(floor, min=1 - self.limits.bias))

    def _backward(self, steps: slice, keep: bool) -> None:
        for t in reversed(range(steps.start, steps.stop)):
            da = self.a[t] if keep else self._da
            assert da is not None
            total, sent = self._gradient(t + 1), self._gradient(t)
            beside = self.step.backward(self.a[t], self._state(t), self._state(t + 1), total, da, sent)
            self._send(da[:, : self.step.recurrent], sent["hidden"], beside)
            if self._joins and self._direct is not None and t:
                weight, dy = self._direct
                sent["hidden"].baddbmm_(weight.transpose(1, 2), dy[t - 1] * self._shrink)  # g_t joins
            if t and t % self.limits.every == 0:
                self._renormalise(t)

    def _send(self, da: Tensor, sent: Tensor, beside: float) -> None:
        """W_hh^T da_t, added to what is there already or not."""
        if beside:
            sent.baddbmm_(self._W_T, da)
        else:
            torch.bmm(self._W_T, da, out=sent)

    def _gradient(self, t: int) -> Tensors:
        return {"hidden": self.dh[t]} if self.dc is None else {"hidden": self.dh[t], "cell": self.dc[t]}

    def _renormalise(self, t: int) -> None:
        """Bring the largest entry of every column of dh_t to its usual size, and say so in the exponent."""
        parts, limits = self._gradient(t), self.limits
        largest: Tensor | None = None
        for part in parts.values():
            norm = torch.linalg.vector_norm(part, torch.inf, dim=1, keepdim=True)
            largest = norm if largest is None else torch.maximum(largest, norm)
        assert largest is not None
        shift = limits.top - exponent_bits(largest, self.shape.dtype).to(torch.int64)
        shift = torch.minimum(shift, self._now - self._floor).clamp_(1 - limits.bias, limits.bias)
        factor = two_to(shift, self.shape.dtype)
        for part in parts.values():
            part.mul_(factor)
        self._now.sub_(shift)
        self.blocks[self._block(t)].copy_(self._now)
        if self._joins:
            self._shrink.copy_(two_to(-self._now, self.shape.dtype))


def _kernels(shape: Shape) -> ModuleType | None:
    """``kernels``, on CUDA where Triton is installed: torch's builds for CUDA bring it, on some platforms."""
    if torch.device(shape.device).type != "cuda" or find_spec("triton") is None:
        return None
    from rnn_core.batched import kernels

    return kernels


def _fused_kernels(shape: Shape) -> ModuleType | None:
    """``fused``, where its kernels take the steps of such runs."""
    if _kernels(shape) is None:
        return None
    from rnn_core.batched import fused

    return fused if fused.covers(shape) else None


Work = Callable[[], None]
Player = Callable[[tuple[object, ...], Work], None]


def _at_once(name: tuple[object, ...], work: Work) -> None:
    """Where launching costs little: do it."""
    work()


def _graphs(like_this: Tensor) -> Player:
    """On CUDA: the first time, do it; the second time, capture it as a graph; from then on, replay that."""
    seen: set[tuple[object, ...]] = set()
    graphs: dict[tuple[object, ...], torch.cuda.CUDAGraph] = {}
    pool = torch.cuda.graph_pool_handle()

    def play(name: tuple[object, ...], work: Work) -> None:
        with torch.cuda.device(like_this.device):
            if name not in seen:
                seen.add(name)
                work()
                return
            if name not in graphs:
                graphs[name] = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graphs[name], pool=pool):
                    work()
            graphs[name].replay()

    return play
