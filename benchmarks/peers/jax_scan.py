"""JAX, scan and jit, one run at a time; compiling is not timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.peers.jax_arrays import Gradients, one_product, read, ready, through_the_weights
from benchmarks.work import Contender, Form, Prepared, Work


def _prepare(gradients: Gradients, unroll: int) -> Callable[[Sequence[Work]], Prepared]:
    def prepare(works: Sequence[Work]) -> Prepared:
        call, seconds = ready(works, gradients, unroll)
        return Prepared(call, lambda result: [read(result)], seconds)

    return prepare


PEER = Contender(
    "jax_scan",
    "JAX scan + jit",
    (
        Form("grad", _prepare(through_the_weights, 1)),
        Form("grad, unrolled by 4", _prepare(through_the_weights, 4)),
        Form("weight gradient as one product", _prepare(one_product, 1)),
        Form("weight gradient as one product, unrolled by 4", _prepare(one_product, 4)),
    ),
)
