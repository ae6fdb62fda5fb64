"""PyTorch, a loop over steps, in its best form.

The inputs' products are one product before the loop, and are unbound (indexed within it they cost O(T²)). All gates take one
product a step. Autograd stops at the preactivations, and every weight's gradient is one large product after it, not a sum of T
small ones. The norms of all dL/dh_t are one stacked operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers.torch_arrays import finished, log_norms, measured, tensors
from benchmarks.work import Contender, Form, Prepared, Work

Params = dict[str, Tensor]
Leaves = list[Tensor]  # preactivations that inputs give, in blocks of gates, each (T, B, ·), wanting gradients
Steps = tuple[list[Tensor], list[Tensor]]  # all h_t, and what else the weights' gradients need
PHI: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}


def _vanilla(work: Work, params: Params, leaves: Leaves, h: Tensor) -> Steps:
    W_T, phi, states = params["weight_hh"].T, PHI[work.activation], []
    for u in leaves[0].unbind(0):
        h = phi(torch.addmm(u, h, W_T))
        states.append(h)
    return states, []


def _residual(work: Work, params: Params, leaves: Leaves, h: Tensor) -> Steps:
    W_T, phi, states = params["weight_hh"].T, PHI[work.activation], []
    step, kept = work.options["step"], 1.0 - work.options["leak"]
    for u in leaves[0].unbind(0):
        h = torch.add(h if kept == 1.0 else h * kept, phi(torch.addmm(u, h, W_T)), alpha=step)
        states.append(h)
    return states, []


def _gru(work: Work, params: Params, leaves: Leaves, h: Tensor) -> Steps:
    H, W_T, states, resets = h.shape[1], params["weight_hh"].T, [], []
    bias = torch.cat([torch.zeros_like(params["bias_hh"][: 2 * H]), params["bias_hh"][2 * H :]])
    for u_rz, u_n in zip(leaves[0].unbind(0), leaves[1].unbind(0), strict=True):
        v_rz, v_n = torch.addmm(bias, h, W_T).split([2 * H, H], 1)
        r, z = torch.sigmoid(u_rz + v_rz).chunk(2, 1)
        h = torch.lerp(torch.tanh(torch.addcmul(u_n, r, v_n)), h, z)
        states.append(h)
        resets.append(r)
    return states, resets


def _lstm(work: Work, params: Params, leaves: Leaves, h: Tensor) -> Steps:
    H, W_T, c, states = h.shape[1], params["weight_hh"].T, torch.zeros_like(h), []
    for u in leaves[0].unbind(0):
        ifo, g = torch.addmm(u, h, W_T).split([3 * H, H], 1)
        i, f, o = torch.sigmoid(ifo).chunk(3, 1)
        c = torch.addcmul(f * c, i, torch.tanh(g))
        h = o * torch.tanh(c)
        states.append(h)
    return states, []


STEPS: dict[str, Callable[[Work, Params, Leaves, Tensor], Steps]] = {
    "vanilla": _vanilla, "residual": _residual, "gru": _gru, "lstm": _lstm,
}  # fmt: skip


def _gates_reordered(params: Params, H: int) -> Params:
    """An LSTM's i, f, g, o as i, f, o, g, or back: the sigmoids lie side by side. The same order brings them back."""
    return {name: torch.cat([p[: 2 * H], p[3 * H :], p[2 * H : 3 * H]]) for name, p in params.items()}


def _leaves(work: Work, params: Params, x: Tensor) -> Leaves:
    """The inputs' products, as one; a GRU's b_hh of the candidate stays out, because the reset gate multiplies it."""
    (T, B, D), H = x.shape, work.hidden_size
    bias = params["bias_ih"] + params["bias_hh"]
    blocks = [len(bias)]
    if work.kind == "gru":
        bias[2 * H :] -= params["bias_hh"][2 * H :]
        blocks = [2 * H, H]
    u = torch.addmm(bias, x.reshape(T * B, D), params["weight_ih"].T).reshape(T, B, -1)
    return [part.requires_grad_() for part in u.split(blocks, 2)]


def _grads(u_grads: Sequence[Tensor], x: Tensor, states: list[Tensor], resets: list[Tensor]) -> Params:
    """Parameter gradients as large products. A GRU's recurrent part gets r times what the candidate gets."""
    du = u_grads[0] if len(u_grads) == 1 else torch.cat(list(u_grads), 2)
    dv = torch.cat([u_grads[0], torch.stack(resets) * u_grads[1]], 2) if resets else du
    T, B, rows = du.shape
    bias = du.sum((0, 1))
    return {
        "weight_ih": du.reshape(T * B, rows).T @ x.reshape(T * B, -1),
        "weight_hh": dv[1:].reshape((T - 1) * B, rows).T @ torch.cat(states[:-1]),
        "bias_ih": bias,
        "bias_hh": dv.sum((0, 1)) if resets else bias,
    }


def run(work: Work) -> Prepared:
    """Forward, backward and the trace."""
    params, x, g = tensors(work)
    params = {name: value.detach() for name, value in params.items()}
    H, is_lstm = work.hidden_size, work.kind == "lstm"

    def call() -> Any:
        own = _gates_reordered(params, H) if is_lstm else params
        leaves = _leaves(work, own, x)
        states, resets = STEPS[work.kind](work, own, leaves, torch.zeros_like(g))
        gradients = torch.autograd.grad(states[-1], [*leaves, *states], g)
        u_grads, signals = gradients[: len(leaves)], torch.stack(gradients[len(leaves) :])
        with torch.no_grad():
            grads = _grads(u_grads, x, states, resets)
            return log_norms(signals), signals, _gates_reordered(grads, H) if is_lstm else grads

    return Prepared(finished(call, work.device), lambda result: [measured(*result[1:])])


def _only(works: Sequence[Work]) -> Prepared:
    [work] = works
    return run(work)


PEER = Contender(
    "torch_eager", "PyTorch eager", (Form("weight gradients as one product", _only),), devices=("cpu", "cuda")
)
