"""JAX, scan and jit, vmap over many runs on a GPU. It is asked for by name, in a process where JAX has not started on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import jax

from benchmarks.peers.jax_arrays import one_product, read, ready
from benchmarks.work import Prepared, Work

jax.config.update("jax_platforms", "cuda")
jax.config.update(
    "jax_default_matmul_precision", "highest"
)  # its default for float32 is TF32, wrong in the fourth digit


def over_runs(works: Sequence[Work]) -> Prepared:
    """All runs in one vmap, the weights' gradients as one product."""
    call, seconds = ready(works, one_product, 1)
    return Prepared(call, lambda result: [read(result, run) for run in range(len(works))], seconds)
