"""JAX, scan and jit, vmap over runs; time per run, compiling is not timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.peers.jax_arrays import Gradients, one_product, read, ready, through_the_weights
from benchmarks.work import Contender, Form, Prepared, Work


def _prepare(gradients: Gradients) -> Callable[[Sequence[Work]], Prepared]:
    def prepare(works: Sequence[Work]) -> Prepared:
        call, seconds = ready(works, gradients, 1)
        return Prepared(call, lambda result: [read(result, run) for run in range(len(works))], seconds)

    return prepare


PEER = Contender(
    "jax_vmap",
    "JAX scan + jit + vmap over runs",
    (
        Form("2 runs, weight gradient as one product", _prepare(one_product), 2),
        Form("4 runs", _prepare(through_the_weights), 4, 64),
        Form("4 runs, weight gradient as one product", _prepare(one_product), 4, 128),
    ),
)
