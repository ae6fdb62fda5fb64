"""torch.nn.RNN, its fused loop. It gives no trace of dL/dh_t: the floor that a user pays without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.peers.torch_arrays import finished, measured, tensors
from benchmarks.work import Contender, Form, Prepared, Work


def module(works: Sequence[Work]) -> Prepared:
    """The module with our parameters."""
    [work] = works
    params, x, g = tensors(work)
    rnn = torch.nn.RNN(x.shape[2], g.shape[1], device=work.device, dtype=x.dtype)
    with torch.no_grad():
        for name, value in params.items():
            getattr(rnn, f"{name}_l0").copy_(value)

    def call() -> Any:
        rnn.zero_grad(set_to_none=True)
        _, last = rnn(x)
        last[0].backward(g)
        return None, {name: getattr(rnn, f"{name}_l0").grad for name in params}

    return Prepared(finished(call, work.device), lambda result: [measured(*result)])


PEER = Contender(
    "torch_rnn", "torch.nn.RNN (no trace)", (Form("module", module),), trace=False, devices=("cpu", "cuda")
)
