"""rnn_core as a user calls it: by its fast path, and by the readable engine alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import rnn_core as rc
from benchmarks.work import Contender, Form, Measured, Prepared, Work
from rnn_core import compiled
from rnn_core.arrays import place


def public_face(works: Sequence[Work]) -> Prepared:
    """``forward`` and ``backward``; grad_hidden is a whole array whose rows are zero but for the last."""
    [work] = works
    cell = work.cell()
    dense = np.zeros((*work.x.shape[:2], work.hidden_size), work.x.dtype)
    dense[-1] = work.g
    params = {name: _placed(value, work) for name, value in work.params.items()}
    x, grad_hidden = _placed(work.x, work), _placed(dense, work)

    def call() -> rc.Gradients:
        return rc.backward(rc.forward(cell, params, x), grad_hidden)

    if work.device != "cpu":
        from benchmarks.peers.torch_arrays import finished

        return Prepared(finished(call, work.device), _read)
    return Prepared(call, _read)


def readable(works: Sequence[Work]) -> Prepared:
    """The same without the fast path."""
    ready = public_face(works)

    def call() -> Any:
        with compiled.switched_off():
            return ready.call()

    return Prepared(call, ready.read)


def _placed(value: np.ndarray, work: Work) -> Any:
    return value if work.device == "cpu" else place(value, str(value.dtype), work.device)


def _read(gradients: rc.Gradients) -> list[Measured]:
    params, exponents = {}, {}
    for name, value in gradients.params.items():
        if isinstance(value, rc.Scaled):
            exponents[name] = int(value.exponent)
            value = value.mantissa
        params[name] = _numpy(value)
    return [Measured(gradients.log_norm, params, exponents)]


def _numpy(value: Any) -> np.ndarray:
    return value if isinstance(value, np.ndarray) else np.asarray(value.cpu())


OURS = Contender("ours", "rnn_core", (Form("forward and backward", public_face),), devices=("cpu", "cuda"))
READABLE = Contender("readable", "rnn_core, readable engine", (Form("without the fast path", readable),))
