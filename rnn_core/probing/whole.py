"""A model that shows whole sequences alone: the norm of dL/dx_t, from one backward pass of autograd's at several scales.

Backward passes are linear in the loss's gradient. Scaled up by a power of two, one pass shows what has vanished; scaled down,
another shows what has exploded. Together they span about twice the range of the dtype: 1100 decades in float64, 125 in float32. What lies further
apart within one sequence cannot be seen from outside the model, and is said to be unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rnn_core.arrays import dtype_name
from rnn_core.scaling import LN2, LN10, log_norms, log_norms_of_columns

SCALES = {"float64": (900, 450, 0, -450, -900), "float32": (100, 50, 0, -50, -100)}  # powers of two, the highest first
# Powers of two above the smallest normal number, above which nothing that a gradient is made of has lost digits.
ROOM = {"float64": 64, "float32": 32}


@dataclass(frozen=True, eq=False, repr=False)
class InputTrace:
    """How much a loss on the last output depends on each input: ‖dL/dx_t‖. It is not the norm of the gradient of a hidden state.

    Attributes:
        model: its name.
        log10_grad_norm_x: log10 ‖dL/dx_t‖ over batch and inputs, float64 (T,); -inf where it is exactly zero, nan where no pass
            holds it.
        log10_grad_norm_x_samples: the same of each sample, (T, B).
        known: whether a pass holds it, bool (T,).
    """

    model: str
    log10_grad_norm_x: np.ndarray
    log10_grad_norm_x_samples: np.ndarray
    known: np.ndarray

    def __repr__(self) -> str:
        T, B = self.log10_grad_norm_x_samples.shape
        lines = [
            f"InputTrace of {self.model}: T={T}, B={B}; how the last output depends on each input, not on a hidden state"
        ]
        finite = np.flatnonzero(np.isfinite(self.log10_grad_norm_x))
        if finite.size:
            first, last = finite[0], finite[-1]
            ends = [f"{self.log10_grad_norm_x[t]:.2f} at t={t + 1}" for t in (last, first)]
            lines.append(f"  log10 ‖dL/dx_t‖: {ends[0]}, {ends[1]}")
        if not self.known.all():
            lines.append(
                f"  not known at {int((~self.known).sum())} steps, the last of them t={int(np.flatnonzero(~self.known)[-1]) + 1}: beyond what one pass holds"
            )
        return "\n".join(lines)

    def plot(self, axes: Any = None) -> Any:
        """Draws the trace on matplotlib ``axes``; None makes new ones, where matplotlib.pyplot has been imported."""
        from rnn_core.probing.drawing import draw_inputs, new_axes

        return draw_inputs(self, new_axes(1)[0] if axes is None else axes)


def input_trace(model: Any, x: Any, grad: Any = None, seed: int = 0) -> InputTrace:
    """‖dL/dx_t‖ of a model that maps x (T, B, D) to outputs (T, B, C) or (B, C), or to a tuple that begins with them.

    Args:
        grad: dL/d(last output), (B, C); None is drawn from a normal distribution.
        seed: of that.

    Raises:
        ValueError: the outputs have another shape, nothing is differentiable, or samples act on each other.
    """
    import torch

    x = x.detach().clone().requires_grad_()
    T, B = x.shape[:2]
    with torch.enable_grad():
        output = model(x)
        while isinstance(output, tuple | list) and output:
            output = output[0]
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        if not isinstance(output, torch.Tensor) or (shape[:2] != (T, B) and shape[:1] != (B,)):
            raise ValueError(
                f"model: it returned {shape}; a whole sequence gives (T, B, …) = ({T}, {B}, …), or (B, …) of the last step"
            )
        last = output[-1] if shape[:2] == (T, B) else output
    if not last.requires_grad:
        raise ValueError("model: its last output does not depend on x by operations that autograd knows")
    _require_samples_apart(last, x)
    if grad is None:
        grad = torch.randn(last.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    grad = torch.as_tensor(grad).to(last)
    scales = SCALES[dtype_name(x)]
    passes = [torch.autograd.grad(last, x, grad * 2.0**scale, retain_graph=True)[0] for scale in scales]
    return _best_of(type(model).__name__, passes, scales)


def _require_samples_apart(last: Any, x: Any) -> None:
    """ValueError if what the first or the last sample puts out depends on another sample's inputs."""
    import torch

    B = x.shape[1]
    for b in {0, B - 1} if B > 1 else ():
        alone = torch.zeros_like(last)
        alone[b] = 1.0
        dx = torch.autograd.grad(last, x, alone, retain_graph=True)[0]
        others = [other for other in range(B) if other != b]
        if bool((dx[:, others].nan_to_num() != 0).any()):
            raise ValueError(
                f"model: the last output of sample {b + 1} depends on inputs of other samples. x is (T, B, D), time first: a model with "
                "batch_first=True needs lambda x: model(x.transpose(0, 1)).transpose(0, 1). Layers that mix samples need model.eval()"
            )


def _best_of(model: str, passes: list[Any], scales: tuple[int, ...]) -> InputTrace:
    """At each step the pass with the highest scale that has not overflowed: what underflows there is lost in all others too."""
    import torch

    T, B = passes[0].shape[:2]
    norms, samples, known = np.full(T, np.nan), np.full((T, B), np.nan), np.zeros(T, dtype=bool)
    limits = torch.finfo(passes[0].dtype)
    lowest = np.log(float(limits.smallest_normal)) + ROOM[dtype_name(passes[0])] * LN2
    for dx, scale in zip(reversed(passes), reversed(scales), strict=True):  # a higher one goes over a lower one
        stored = log_norms(dx)
        finite = np.logical_and.accumulate(dx.isfinite().flatten(1).all(1).cpu().numpy()[::-1])[::-1]
        small = (stored < lowest) & (stored > -np.inf)
        unharmed = ~np.logical_or.accumulate(small[::-1])[::-1]
        columns = dx.flatten(2).transpose(1, 2)
        norms[finite], samples[finite] = (
            stored[finite] - scale * LN2,
            (log_norms_of_columns(columns) - scale * LN2)[finite],
        )
        known = np.where(finite, unharmed, known)
    zero_after_loss = np.isneginf(norms) & np.logical_or.accumulate(~known[::-1])[::-1]
    known &= ~zero_after_loss
    norms[~known], samples[~known] = np.nan, np.nan
    return InputTrace(model, norms / LN10, samples / LN10, known)
