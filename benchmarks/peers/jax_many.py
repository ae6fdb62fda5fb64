"""JAX, scan and jit, vmap over many runs on a GPU. It is asked for by name, in a process where JAX has not started on the CPU."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers.jax_scan import gradients
from benchmarks.work import Measured, Prepared, Work

jax.config.update("jax_platforms", "cuda")
jax.config.update("jax_default_matmul_precision", "highest")  # else float32 is TF32, wrong in the fourth digit


def over_runs(works: Sequence[Work]) -> Prepared:
    """All runs in one vmap, the weights' gradients as one product."""
    params = {name: jnp.asarray(np.stack([work.params[name] for work in works])) for name in works[0].params}
    x, g = (jnp.asarray(np.stack([getattr(work, name) for work in works])) for name in ("x", "g"))
    spec = (works[0].kind, works[0].activation, 1.0, 0.0)

    def one(params: dict[str, Any], x: Any, g: Any) -> Any:
        log_norm, _, grads = gradients(spec, 1, params, x, g)
        return log_norm, grads

    start = time.perf_counter()
    ready = jax.jit(jax.vmap(one)).lower(params, x, g).compile()
    seconds = time.perf_counter() - start

    def read(result: Any) -> list[Measured]:
        norms, grads = result
        return [
            Measured(np.asarray(norms[r], np.float64), {name: np.asarray(value[r]) for name, value in grads.items()})
            for r in range(len(works))
        ]

    return Prepared(lambda: jax.block_until_ready(ready(params, x, g)), read, seconds)
