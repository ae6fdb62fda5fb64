"""What the JAX peers share: the scans, the work as JAX arrays, and compiling ahead of time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.work import Measured, Work

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

Gradients = Callable[..., Any]


def _preactivations(params: dict[str, Any], x: Any) -> Any:
    return x @ params["weight_ih"].T + params["bias_ih"] + params["bias_hh"]


def _scan(W: Any, a: Any, zeros: Any, g: Any, unroll: int) -> Any:
    """(L, all h_t); dL/dh_t is the gradient with respect to the zeros that are added to h_t."""

    def step(h: Any, given: Any) -> Any:
        a_t, zero = given
        h = jnp.tanh(a_t + h @ W.T) + zero
        return h, h

    last, states = jax.lax.scan(step, jnp.zeros_like(g), (a, zeros), unroll=unroll)
    return jnp.sum(last * g), states


def _log_norms(signals: Any) -> Any:
    return 0.5 * jnp.log(jnp.sum(signals * signals, axis=(1, 2)))


def through_the_weights(unroll: int, params: dict[str, Any], x: Any, g: Any) -> Any:
    """(ln ‖dL/dh_t‖, parameter gradients), all from ``jax.grad``."""

    def loss(params: dict[str, Any], zeros: Any) -> Any:
        return _scan(params["weight_hh"], _preactivations(params, x), zeros, g, unroll)[0]

    grads, signals = jax.grad(loss, (0, 1))(params, jnp.zeros((*x.shape[:2], g.shape[1]), x.dtype))
    return _log_norms(signals), grads


def one_product(unroll: int, params: dict[str, Any], x: Any, g: Any) -> Any:
    """The same; ``jax.grad`` stops at the preactivations, and the weights' gradients are large products over all steps."""
    a, H = _preactivations(params, x), g.shape[1]

    def loss(a: Any, zeros: Any) -> Any:
        return _scan(params["weight_hh"], a, zeros, g, unroll)

    (da, signals), states = jax.grad(loss, (0, 1), has_aux=True)(a, jnp.zeros_like(a))
    bias = jnp.sum(da, axis=(0, 1))
    grads = {
        "weight_ih": da.reshape(-1, H).T @ x.reshape(-1, x.shape[2]),
        "weight_hh": da[1:].reshape(-1, H).T @ states[:-1].reshape(-1, H),
        "bias_ih": bias,
        "bias_hh": bias,
    }
    return _log_norms(signals), grads


@cache
def compiled(gradients: Gradients, unroll: int, vmapped: bool, shapes: tuple, dtype: str) -> tuple[Any, float]:
    """(the compiled function, seconds that took), once for every shape."""

    def function(params: dict[str, Any], x: Any, g: Any) -> Any:
        return gradients(unroll, params, x, g)

    names, (x, g) = shapes[:-2], shapes[-2:]
    params = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in names}
    start = time.perf_counter()
    made = jax.jit(jax.vmap(function) if vmapped else function)
    ready = made.lower(params, jax.ShapeDtypeStruct(x, dtype), jax.ShapeDtypeStruct(g, dtype)).compile()
    return ready, time.perf_counter() - start


def ready(works: Sequence[Work], gradients: Gradients, unroll: int) -> tuple[Callable[[], Any], float]:
    """(a call that does the works, and returns when they are done; seconds of compiling)."""
    vmapped = len(works) > 1
    join = np.stack if vmapped else (lambda values: values[0])
    params = {name: jnp.asarray(join([work.params[name] for work in works])) for name in works[0].params}
    x, g = jnp.asarray(join([work.x for work in works])), jnp.asarray(join([work.g for work in works]))
    shapes = (*((name, value.shape) for name, value in params.items()), x.shape, g.shape)
    function, seconds = compiled(gradients, unroll, vmapped, shapes, str(x.dtype))
    return lambda: jax.block_until_ready(function(params, x, g)), seconds


def read(result: Any, run: int | None = None) -> Measured:
    """Results of one run, in NumPy."""
    norms, grads = result if run is None else (result[0][run], {name: value[run] for name, value in result[1].items()})
    return Measured(np.asarray(norms, np.float64), {name: np.asarray(value) for name, value in grads.items()})
