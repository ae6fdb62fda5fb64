"""torch.func: grad and vmap over runs. dL/dh_t is the gradient with respect to a zero that is added to h_t."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.torch_arrays import finished, log_norms, measured, tensors
from benchmarks.work import Contender, Form, Prepared, Work


def _loss(params: dict[str, Tensor], zeros: Tensor, x: Tensor, g: Tensor) -> Tensor:
    h, W_T, bias = torch.zeros_like(g), params["weight_hh"].T, params["bias_ih"] + params["bias_hh"]
    for a_t, zero in zip((x @ params["weight_ih"].T + bias).unbind(0), zeros.unbind(0), strict=True):
        h = torch.tanh(a_t + h @ W_T) + zero
    return (h * g).sum()


def over_runs(works: Sequence[Work]) -> Prepared:
    """All runs in one vmap."""
    each = [tensors(work) for work in works]
    params = {name: torch.stack([p[name].detach() for p, _, _ in each]) for name in each[0][0]}
    x, g = torch.stack([x for _, x, _ in each]), torch.stack([g for _, _, g in each])
    zeros = torch.zeros((*x.shape[:3], g.shape[2]), dtype=x.dtype, device=x.device)
    gradient = torch.func.vmap(torch.func.grad(_loss, (0, 1)))

    def call() -> Any:
        grads, signals = gradient(params, zeros, x, g)
        return log_norms(signals), signals, grads

    def read(result: Any) -> list[Any]:
        _, signals, grads = result
        return [
            measured(signals[run], {name: value[run] for name, value in grads.items()}) for run in range(len(works))
        ]

    return Prepared(finished(call, works[0].device), read)


PEER = Contender(
    "torch_func",
    "torch.func (vmap over runs)",
    (Form("2 runs", over_runs, 2), Form("4 runs", over_runs, 4, 128), Form("8 runs", over_runs, 8, 64)),
    devices=("cuda",),
    knows=(("vanilla", "tanh"),),
)
