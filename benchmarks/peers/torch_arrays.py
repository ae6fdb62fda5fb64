"""What the torch peers share: the work as tensors, and results back in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import work
from benchmarks.work import Measured, Work

torch.set_num_threads(1)
torch.backends.cudnn.allow_tf32 = False  # float32 means float32 for everybody; of plain products this is the default


def tensors(given: Work) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """(parameters that want gradients, x, g)."""
    params = {
        name: torch.tensor(value, device=given.device, requires_grad=True) for name, value in given.params.items()
    }
    return params, torch.tensor(given.x, device=given.device), torch.tensor(given.g, device=given.device)


def log_norms(signals: Tensor) -> Tensor:
    """ln of the norm over batch and units, (…, T)."""
    return torch.linalg.vector_norm(signals, dim=(-2, -1)).log()


def finished(call: Callable[[], Any], device: str) -> Callable[[], Any]:
    """``call``, returning when the device has done what it was asked."""
    if not device.startswith("cuda"):
        return call

    def waiting() -> Any:
        result = call()
        torch.cuda.synchronize()
        return result

    return waiting


def numpy(value: Tensor) -> np.ndarray:
    return np.asarray(value.detach().cpu())


def measured(signals: Tensor | None, grads: dict[str, Tensor]) -> Measured:
    """Results of one run, in NumPy. The trace is taken again from all dL/dh_t, so that no square's under- or overflow spoils it."""
    trace = None if signals is None else work.log_norms(numpy(signals))
    return Measured(trace, {name: numpy(value) for name, value in grads.items()})
