"""What was aimed at, and whether it was met. The float32 targets are those of float64."""

from __future__ import annotations

FRACTION = {32: 0.35, 64: 0.55, 128: 0.70, 256: 0.80, 512: 0.80}  # of the machine's large matrix-product rate
RATIO = {32: 1.6, 64: 2.0, 128: 1.7, 256: 1.35, 512: 1.35}  # the best peer's time by ours
SWEEP = 4.0
# A NumPy loop has its gradient derived by hand, as ours has: the targets are against programs that differentiate by themselves
# (PyTorch, JAX), and it is shown beside them.
BY_HAND = "numpy_loop"


def verdict(value: float, target: float | None) -> str:
    """In words; a size that has no target says nothing."""
    if target is None:
        return "no target"
    return "met" if value >= target else "not met"
