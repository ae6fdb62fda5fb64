"""Many runs at once on a torch device: networks of one shape go through time together. Derivation: rnn_core/README.md, section 3.

A GPU needs work for all its processors at every step, and one run has too little. So R runs of one shape are stacked: weights
(R, rows, K), states (R, K, B), and a step is one batched product. Nothing looks at a number before all steps are taken.

| file | holds |
|---|---|
| ``shapes.py`` | ``Shape``: what runs must share to go together, and how many go |
| ``powers.py`` | powers of two as tensors, and which magnitudes a pass may hold |
| ``steps.py`` | one step of each cell with a leading run axis, forward above backward |
| ``passes.py`` | ``Together``: the buffers, and the passes over them, on CUDA as captured graphs |
| ``fused.py`` | the passes of small vanilla and residual cells on CUDA: all steps in one kernel, by Triton |
| ``columns.py`` | what every column of a signal says of itself |
| ``kernels.py`` | on CUDA the reductions of ``columns`` and ``sums``, by Triton |
| ``sums.py`` | gradients of parameters and inputs: products over all steps |
| ``trace.py`` | what is read off the buffers: norms, saturation, slopes, what narrower formats lose |
| ``spectra.py`` | spectral radii and mean-field rates of many networks at once |

The readable engine stays the reference: ``tests/rnn_core/batched`` hold this package against it. torch is imported here, so nothing
imports this package before a torch device is asked for.
"""

from __future__ import annotations

from rnn_core.batched.passes import Together
from rnn_core.batched.shapes import Shape
from rnn_core.batched.steps import STEPS

__all__ = ["STEPS", "Shape", "Together"]
