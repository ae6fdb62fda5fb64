"""A scalar RNN of two steps, every derivative written out: by hand in the document, here by ``rnn_core``.

    h_t = tanh(w_x x_t + w_h h_{t-1}),  y_t = w_y h_t,  L = ½ y_1² + ½ y_2²,  with w_x = w_h = w_y = x_t = 1

The document checks its hand calculation with MXNet's autograd. MXNet is no longer maintained, so its column is copied
from the document, and PyTorch's autograd runs beside it.

    python -m examples.two_steps_by_hand
"""

from __future__ import annotations

import numpy as np
import torch

import rnn_core as rc
from examples.common import network, number, run

MXNET = {"L": 0.7343, "w_x": 0.4689, "w_h": 0.0799, "w_y": 1.4687}  # as the document prints them
OURS = {"w_x": "weight_ih", "w_h": "weight_hh", "w_y": "weight_ho"}


def autograd() -> dict[str, float]:
    """L and its derivatives, by PyTorch."""
    w = {name: torch.ones((), dtype=torch.float64, requires_grad=True) for name in OURS}
    h, L = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for _ in range(2):
        h = torch.tanh(w["w_x"] + w["w_h"] * h)
        L = L + 0.5 * (w["w_y"] * h) ** 2
    L.backward()
    return {"L": L.item(), **{name: value.grad.item() for name, value in w.items()}}


def main() -> None:
    cell, one = rc.VanillaCell("tanh"), np.ones((1, 1))
    params = network(one, one, np.zeros(1), one, np.zeros(1))
    x, target = np.ones((2, 1, 1)), np.zeros((2, 1, 1))
    whole = run(cell, params, x, target)
    h, L = whole.tape.hidden, whole.losses.sum()
    # The two steps apart: what reaches h_1 from the second one is the end of the first one's gradient.
    late = rc.backward(rc.forward(cell, params, x[1:], {"hidden": h[0]}), whole.direct[1:])
    early = rc.backward(rc.forward(cell, params, x[:1]), whole.direct[:1], late.state)

    print("===== BPTT by hand (a scalar RNN of two steps) =====")
    for t, (a, h_t, y, loss) in enumerate(zip(whole.tape.saved, h, whole.y, whole.losses, strict=True), start=1):
        values = f"h{t} = tanh(a{t}) = {number(h_t):.4f}, y{t} = {number(y):.4f}, l{t} = {number(loss):.4f}"
        print(f"a{t} = {number(a):.4f}, {values}")
    print(f"Total Loss L = {L:.4f}\n")

    print("== Gradients at the output ==")
    for t, e in enumerate(whole.dy, start=1):
        print(f"e{t} = y{t} - y{t}_hat = {number(e):.4f}")
    print(f"dL/dh1 (from l1 alone) = {number(whole.direct[0]):.4f}")
    print(f"dL/dh2 = {number(whole.gradients.hidden[1]):.4f}\n")

    print("== Back through t = 2 ==")
    print(f"dh2/da2 = 1 - h2^2 = {number(cell.phi.df(whole.tape.saved[1])):.4f}")
    print(f"dL/da2 = dL/dh2 * dh2/da2 = {number(late.params['bias_ih']):.4f}")
    print(f"dL/dw_x (from t=2) = {number(late.params['weight_ih']):.4f}")
    print(f"dL/dw_h (from t=2) = {number(late.params['weight_hh']):.4f}")
    print(f"dL/dh1 (from t=2)  = {number(late.state['hidden']):.4f}\n")

    print("== Back through t = 1 ==")
    print(f"dL/dh1_total = dL/dh1_from_l1 + dL/dh1_from_t2 = {number(whole.gradients.hidden[0]):.4f}")
    print(f"dh1/da1 = 1 - h1^2 = {number(cell.phi.df(whole.tape.saved[0])):.4f}")
    print(f"dL/da1 = dL/dh1_total * dh1/da1 = {number(early.params['bias_ih']):.4f}")
    print(f"dL/dw_x (from t=1) = {number(early.params['weight_ih']):.4f}")
    print(f"dL/dw_h (from t=1) = {number(early.params['weight_hh']):.4f}\n")

    ours, torch_now = {name: number(whole.params[key]) for name, key in OURS.items()}, autograd()
    print("== Gradients of the parameters ==")
    for name, value in ours.items():
        print(f"dL/d{name} = {value:.4f}")

    print("\n===== By automatic differentiation =====")
    print(f"MXNet forward: L = {MXNET['L']:.4f}      | PyTorch now: {torch_now['L']:.4f}")
    for name in ours:
        print(f"dL/d{name} (mxnet) = {MXNET[name]:.4f}      | PyTorch now: {torch_now[name]:.4f}")

    print("\n===== By hand and by automatic differentiation =====")
    for name, value in ours.items():
        print(f"{name}: manual = {value:.4f}, mxnet = {MXNET[name]:.4f}      | PyTorch now: {torch_now[name]:.4f}")


if __name__ == "__main__":
    main()
