"""PyTorch, a loop over steps: the preactivations are unbound before it (indexed within it they cost O(T²)), and the norms of all
dL/dh_t are taken in one stacked operation after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.torch_arrays import finished, log_norms, measured, preactivations, tensors
from benchmarks.work import Contender, Form, Prepared, Work


def _states(a: Tensor, W: Tensor, g: Tensor) -> list[Tensor]:
    h, states, W_T = torch.zeros_like(g), [], W.T
    for a_t in a.unbind(0):
        h = torch.tanh(torch.addmm(a_t, h, W_T))
        states.append(h)
    return states


def retain_grad(works: Sequence[Work]) -> Prepared:
    """As a user writes it: every h_t keeps its gradient."""
    [work] = works
    params, x, g = tensors(work)

    def call() -> Any:
        for value in params.values():
            value.grad = None
        states = _states(preactivations(params, x), params["weight_hh"], g)
        for h in states:
            h.retain_grad()
        states[-1].backward(g)
        return log_norms(torch.stack([h.grad for h in states])), {name: p.grad for name, p in params.items()}

    return Prepared(finished(call, work.device), lambda result: [measured(*result)])


def asked_for(works: Sequence[Work]) -> Prepared:
    """The gradients of all h_t asked for in one call of ``autograd.grad``, without hooks."""
    [work] = works
    params, x, g = tensors(work)

    def call() -> Any:
        states = _states(preactivations(params, x), params["weight_hh"], g)
        gradients = torch.autograd.grad(states[-1], [*params.values(), *states], g)
        return log_norms(torch.stack(gradients[len(params) :])), dict(zip(params, gradients, strict=False))

    return Prepared(finished(call, work.device), lambda result: [measured(*result)])


def one_product(works: Sequence[Work]) -> Prepared:
    """Autograd stops at the preactivations, and dL/dW_hh is one large product afterwards instead of a sum of T small ones."""
    [work] = works
    params, x, g = tensors(work)
    others = [name for name in params if name != "weight_hh"]

    def call() -> Any:
        a = preactivations(params, x)
        states = _states(a, params["weight_hh"].detach(), g)
        gradients = torch.autograd.grad(states[-1], [a, *(params[name] for name in others), *states], g)
        da, grads, signals = gradients[0], gradients[1 : 1 + len(others)], gradients[1 + len(others) :]
        H = g.shape[1]
        weight_hh = da[1:].reshape(-1, H).T @ torch.stack(states[:-1]).detach().reshape(-1, H)
        return log_norms(torch.stack(signals)), {"weight_hh": weight_hh, **dict(zip(others, grads, strict=True))}

    return Prepared(finished(call, work.device), lambda result: [measured(*result)])


PEER = Contender(
    "torch_eager",
    "PyTorch eager",
    (
        Form("retain_grad", retain_grad),
        Form("autograd.grad of every state", asked_for),
        Form("weight gradient as one product", one_product),
    ),
    devices=("cpu", "cuda"),
)
