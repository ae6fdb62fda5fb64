"""Torch modules as users write them: right ones of every kind of state, and wrong ones."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from rnn_core.cells.own.step import in_floats

Pair = tuple[Tensor, Tensor]


def module(kind: Any, *args: Any, seed: int = 0, scale: float = 1.0, **kwargs: Any) -> Any:
    """A module in float64 from a seed, its weights times ``scale``."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = in_floats(kind(*args, **kwargs), torch.float64)
    with torch.no_grad():
        for value in made.parameters():
            value.mul_(scale)
    return made


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Elman(nn.Module):
    """h = tanh(A x + W h), in two layers of torch's."""

    def __init__(self, D: int = 2, H: int = 4) -> None:
        super().__init__()
        self.hidden_size = H
        self.read, self.turn = nn.Linear(D, H), nn.Linear(H, H, bias=False)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.read(x) + self.turn(h))


class Memory(nn.Module):
    """A matrix memory after Beck et al. (2024), eqs. 19-27, and its output, which acts on no later step: a dict of parts of three shapes."""

    def __init__(self, D: int = 2, N: int = 3) -> None:
        super().__init__()
        self.N = N
        self.query, self.key, self.value, self.gates = (
            nn.Linear(D, N),
            nn.Linear(D, N),
            nn.Linear(D, N),
            nn.Linear(D, 2),
        )

    def initial_state(self, batch_size: int) -> dict[str, Tensor]:
        weight = self.gates.weight
        return {
            "output": weight.new_zeros(batch_size, self.N),
            "memory": weight.new_zeros(batch_size, self.N, self.N),
            "normaliser": weight.new_ones(batch_size, self.N),
        }

    def forward(self, x: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        q, k, v = self.query(x), self.key(x), self.value(x)
        i, f = torch.sigmoid(self.gates(x)).unsqueeze(-1).unbind(1)
        memory = f[..., None] * state["memory"] + (i * v)[..., :, None] * k[..., None, :]
        normaliser = f * state["normaliser"] + i * k
        seen = torch.einsum("bij,bj->bi", memory, q)
        size = (normaliser * q).sum(-1, keepdim=True).abs().clamp_min(1.0)
        return {"output": torch.tanh(seen / size), "memory": memory, "normaliser": normaliser}


class Two(NamedTuple):
    position: Tensor
    speed: Tensor


class Oscillator(nn.Module):
    """A named tuple: dv = -K x, after one step of symplectic Euler. The part ``speed`` acts on ``position`` within the step."""

    def __init__(self, D: int = 2, H: int = 3) -> None:
        super().__init__()
        self.H = H
        self.read, self.stiffness = nn.Linear(D, H), nn.Linear(H, H, bias=False)

    def initial_state(self, batch_size: int) -> Two:
        zero = self.read.weight.new_zeros(batch_size, self.H)
        return Two(zero, zero)

    def forward(self, x: Tensor, state: Two) -> Two:
        speed = state.speed - 0.3 * torch.tanh(self.stiffness(state.position)) + self.read(x)
        return Two(state.position + 0.3 * speed, speed)


class Decay(nn.Module):
    """A matrix memory C_t = f ⊙ C_{t-1} + v v^T with fixed rates: every gradient is known exactly, however far it goes."""

    def __init__(self, rates: Any, D: int = 2) -> None:
        super().__init__()
        self.rates = nn.Parameter(torch.as_tensor(rates, dtype=torch.float64))
        self.read = nn.Linear(D, self.rates.shape[0], bias=False)

    def initial_state(self, batch_size: int) -> Tensor:
        return self.rates.new_zeros(batch_size, *self.rates.shape)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        v = self.read(x)
        return self.rates * memory + v[:, :, None] * v[:, None, : memory.shape[2]]


class OneBatch(Elman):
    """Made for three sequences and no other number, as modules with buffers are."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("offset", torch.arange(12.0).reshape(3, 4) / 12)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        if x.shape[0] != 3:
            raise ValueError("three sequences")
        return torch.tanh(self.read(x) + self.turn(h) + self.offset)


class Tanh(torch.autograd.Function):
    """tanh with a backward pass by hand, which is ``slope(h)``."""

    slope: Any = staticmethod(lambda h: 1 - h * h)

    @staticmethod
    def forward(ctx: Any, a: Tensor) -> Tensor:
        h = torch.tanh(a)
        ctx.save_for_backward(h)
        return h

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (h,) = ctx.saved_tensors
        found: Tensor = g * Tanh.slope(h)
        return found


class ByHand(Elman):
    """Elman's cell with that."""

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        out: Tensor = Tanh.apply(self.read(x) + self.turn(h))
        return out


class Learned(Elman):
    """Elman's cell from a state that is learned, by two parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.start, self.scale = nn.Parameter(torch.randn(4)), nn.Parameter(torch.ones(()))

    def initial_state(self, batch_size: int) -> Tensor:
        return (self.scale * self.start).expand(batch_size, -1)


class Stack(nn.Module):
    """Two LSTM cells, one on the other. Its state is what people keep of it: a list of pairs (h, c)."""

    def __init__(self, D: int = 2, H: int = 4) -> None:
        super().__init__()
        self.lower, self.upper = nn.LSTMCell(D, H), nn.LSTMCell(H, H)

    def initial_state(self, batch_size: int) -> list[Pair]:
        weight = self.lower.weight_hh
        return [(weight.new_zeros(batch_size, 4), weight.new_zeros(batch_size, 4)) for _ in range(2)]

    def forward(self, x: Tensor, state: list[Pair]) -> list[Pair]:
        below = self.lower(x, state[0])
        return [below, self.upper(below[0], state[1])]


class Turning(nn.Module):
    """A complex state and complex parameters: a_t = λ ⊙ s_{t-1} + B x_t, and s_t = a_t / √(1 + |a_t|²), or a_t itself."""

    def __init__(self, D: int = 2, H: int = 3, linear: bool = False) -> None:
        super().__init__()
        self.linear = linear
        self.turn = nn.Parameter(torch.randn(H, dtype=torch.cfloat))
        self.read = nn.Parameter(torch.randn(H, D, dtype=torch.cfloat))

    def initial_state(self, batch_size: int) -> Tensor:
        return self.turn.new_zeros(batch_size, len(self.turn))

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        a = self.turn * s + x.to(self.read.dtype) @ self.read.T
        return a if self.linear else a / (1 + a.real**2 + a.imag**2).sqrt()


class TurningInPairs(nn.Module):
    """The same equations without a complex number: real and imaginary part on the last axis of state and parameters."""

    def __init__(self, turn: Tensor, read: Tensor, linear: bool = False) -> None:
        super().__init__()
        self.linear, self.turn, self.read = linear, nn.Parameter(turn), nn.Parameter(read)

    def initial_state(self, batch_size: int) -> Tensor:
        return self.turn.new_zeros(batch_size, *self.turn.shape)

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        (c, d), (u, v) = self.turn.unbind(-1), s.unbind(-1)
        entering = torch.einsum("bd,hdk->bhk", x, self.read)
        a = torch.stack([c * u - d * v, d * u + c * v], dim=-1) + entering
        return a if self.linear else a / (1 + (a**2).sum(-1, keepdim=True)).sqrt()


class Late(Elman):
    """A sum over time, and a counter of calls, which acts from call ``after`` on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.calls, self.after = 0, after

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        self.calls += 1
        return h + 0.01 * torch.tanh(self.read(x) * (1.0 if self.calls < self.after else 2.0))
