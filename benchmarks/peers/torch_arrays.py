"""What the torch peers share: the work as tensors, and results back in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.work import Measured, Work

torch.set_num_threads(1)
torch.backends.cudnn.allow_tf32 = False  # float32 means float32 for everybody; of plain products this is the default


def tensors(work: Work) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """(parameters that want gradients, x, g)."""
    params = {name: torch.tensor(value, device=work.device, requires_grad=True) for name, value in work.params.items()}
    return params, torch.tensor(work.x, device=work.device), torch.tensor(work.g, device=work.device)


def preactivations(params: dict[str, Tensor], x: Tensor) -> Tensor:
    """What the inputs give to every step, (T, B, H), as one product."""
    T, B, D = x.shape
    bias = params["bias_ih"] + params["bias_hh"]
    return torch.addmm(bias, x.reshape(T * B, D), params["weight_ih"].T).reshape(T, B, -1)


def log_norms(signals: Tensor) -> Tensor:
    """ln of the norm over batch and units, (…, T)."""
    return torch.linalg.vector_norm(signals, dim=(-2, -1)).log()


def finished(call: Callable[[], Any], device: str) -> Callable[[], Any]:
    """``call``, returning when the device has done what it was asked."""
    if device == "cpu":
        return call

    def waiting() -> Any:
        result = call()
        torch.cuda.synchronize()
        return result

    return waiting


def numpy(value: Tensor) -> np.ndarray:
    return np.asarray(value.detach().cpu())


def measured(log_norm: Tensor | None, grads: dict[str, Tensor]) -> Measured:
    """Results of one run, in NumPy."""
    return Measured(
        None if log_norm is None else numpy(log_norm).astype(np.float64),
        {name: numpy(value) for name, value in grads.items()},
    )
