"""torch.nn.RNN, GRU and LSTM, their fused loops. They give no trace of dL/dh_t: the least that a user without one pays."""

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
    (_, _, D), H = x.shape, g.shape[1]
    if work.kind == "vanilla":
        rnn: torch.nn.RNNBase = torch.nn.RNN(D, H, nonlinearity=work.activation, device=work.device, dtype=x.dtype)
    else:
        rnn = {"gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[work.kind](D, H, device=work.device, dtype=x.dtype)
    with torch.no_grad():
        for name, value in params.items():
            getattr(rnn, f"{name}_l0").copy_(value)

    def call() -> Any:
        rnn.zero_grad(set_to_none=True)
        outputs, _ = rnn(x)
        outputs[-1].backward(g)
        return None, {name: getattr(rnn, f"{name}_l0").grad for name in params}

    return Prepared(finished(call, work.device), lambda result: [measured(*result)])


PEER = Contender(
    "torch_nn", "torch.nn (no trace)", (Form("module", module),), trace=False, devices=("cpu", "cuda"),
    knows=(("vanilla", "tanh"), ("vanilla", "relu"), ("gru", "tanh"), ("lstm", "tanh")),
)  # fmt: skip
