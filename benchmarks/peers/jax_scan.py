"""JAX, scan and jit, in its best form; compiling is not timed.

The inputs' products are one product before the scan. dL/dh_t is the gradient with respect to a zero that is added to h_t.
``jax.grad`` stops at the preactivations, and every weight's gradient is one large product over all steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.work import Contender, Form, Measured, Prepared, Work, log_norms

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

PHI: dict[str, Callable[[Any], Any]] = {"tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid}
Spec = tuple[str, str, float, float]  # kind, activation, step, leak
State = tuple[Any, ...]  # h_t and what else is carried


def _step(spec: Spec, params: dict[str, Any], state: State, u: Any) -> tuple[State, Any]:
    """(state_t, what a GRU's weight gradients need) from state_{t-1} and what the inputs give."""
    kind, activation, step, leak = spec
    h, phi = state[0], PHI[activation]
    v = h @ params["weight_hh"].T
    if kind == "vanilla":
        return (phi(u + v),), None
    if kind == "residual":
        return ((1.0 - leak) * h + step * phi(u + v),), None
    H = h.shape[1]
    if kind == "gru":
        r, z = jnp.split(jax.nn.sigmoid(u[:, : 2 * H] + v[:, : 2 * H]), 2, axis=1)
        n = jnp.tanh(u[:, 2 * H :] + r * (v[:, 2 * H :] + params["bias_hh"][2 * H :]))
        return ((1.0 - z) * n + z * h,), r
    i, f, g, o = jnp.split(u + v, 4, axis=1)
    c = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None


def _inputs_part(spec: Spec, params: dict[str, Any], x: Any) -> Any:
    bias, H = params["bias_ih"] + params["bias_hh"], params["weight_hh"].shape[1]
    if spec[0] == "gru":
        bias = bias.at[2 * H :].set(params["bias_ih"][2 * H :])
    return x @ params["weight_ih"].T + bias


def gradients(spec: Spec, unroll: int, params: dict[str, Any], x: Any, g: Any) -> Any:
    """(ln ‖dL/dh_t‖, dL/dh_t, parameter gradients)."""

    def loss(u: Any, zeros: Any) -> Any:
        def step(state: State, given: Any) -> Any:
            u_t, zero = given
            new, extra = _step(spec, params, state, u_t)
            h = new[0] + zero
            return (h, *new[1:]), (h, extra)

        start = (jnp.zeros_like(g),) * (2 if spec[0] == "lstm" else 1)
        last, (states, extras) = jax.lax.scan(step, start, (u, zeros), unroll=unroll)
        return jnp.sum(last[0] * g), (states, extras)

    zeros = jnp.zeros((*x.shape[:2], g.shape[1]), x.dtype)
    (du, signals), (states, resets) = jax.grad(loss, (0, 1), has_aux=True)(_inputs_part(spec, params, x), zeros)
    H, rows = g.shape[1], du.shape[2]
    dv = du if resets is None else jnp.concatenate([du[..., : 2 * H], du[..., 2 * H :] * resets], 2)
    grads = {
        "weight_ih": du.reshape(-1, rows).T @ x.reshape(-1, x.shape[2]),
        "weight_hh": dv[1:].reshape(-1, rows).T @ states[:-1].reshape(-1, H),
        "bias_ih": jnp.sum(du, axis=(0, 1)),
        "bias_hh": jnp.sum(dv, axis=(0, 1)),
    }
    return 0.5 * jnp.log(jnp.sum(signals * signals, axis=(1, 2))), signals, grads


@cache
def compiled(spec: Spec, unroll: int, shapes: tuple, dtype: str) -> tuple[Any, float]:
    """(the compiled function, seconds that took), once for every cell and shape."""

    def function(params: dict[str, Any], x: Any, g: Any) -> Any:
        return gradients(spec, unroll, params, x, g)

    names, (x, g) = shapes[:-2], shapes[-2:]
    params = {name: jax.ShapeDtypeStruct(shape, dtype) for name, shape in names}
    start = time.perf_counter()
    ready = jax.jit(function).lower(params, jax.ShapeDtypeStruct(x, dtype), jax.ShapeDtypeStruct(g, dtype)).compile()
    return ready, time.perf_counter() - start


def _prepare(unroll: int) -> Callable[[Sequence[Work]], Prepared]:
    def prepare(works: Sequence[Work]) -> Prepared:
        [work] = works
        params = {name: jnp.asarray(value) for name, value in work.params.items()}
        x, g = jnp.asarray(work.x), jnp.asarray(work.g)
        shapes = (*((name, value.shape) for name, value in params.items()), x.shape, g.shape)
        spec = (work.kind, work.activation, work.options.get("step", 1.0), work.options.get("leak", 0.0))
        function, seconds = compiled(spec, unroll, shapes, str(x.dtype))
        return Prepared(lambda: jax.block_until_ready(function(params, x, g)), _read, seconds)

    return prepare


def _read(result: Any) -> list[Measured]:
    """In NumPy; the trace is taken again from all dL/dh_t, so that no square's under- or overflow spoils it."""
    _, signals, grads = result
    return [Measured(log_norms(np.asarray(signals)), {name: np.asarray(value) for name, value in grads.items()})]


# XLA's flags keep the code that it writes to AVX2, but not its library of products: a large one in float64 took 103 GFLOP/s with
# them as without, where NumPy, kept to AVX2, took 57.
PEER = Contender(
    "jax_scan",
    "JAX scan + jit",
    (Form("a step at a time", _prepare(1)), Form("unrolled by 4", _prepare(4), 1, 64)),
    narrows=False,
)
