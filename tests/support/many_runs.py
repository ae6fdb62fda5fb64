"""Networks for tests of ``rnn_core.batched``: several of one shape, by the readable engine and together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.batched import Shape, Together
from rnn_core.batched.passes import Direct
from rnn_core.batched.sums import input_gradients, parameter_gradients
from rnn_core.batched.trace import read_gradients, read_states
from rnn_core.oracles.compare import relative_error, worst_step
from rnn_core.scaling import Scaled

SATURATED_BELOW = 0.1


@dataclass(frozen=True)
class Net:
    """One run: parameters, inputs (T, B, D), readout (C, H), and dL/dy_t (T, B, C), which counts at the last step alone or at all."""

    params: dict[str, np.ndarray]
    x: np.ndarray
    W_ho: np.ndarray
    dy: np.ndarray

    def readable(self, cell: rc.Cell, every: bool) -> rc.Gradients:
        """By the readable engine, or the compiled one, which is held against it."""
        direct = self.dy @ self.W_ho
        if not every:
            direct[:-1] = 0.0
        return rc.backward(rc.forward(cell, self.params, self.x), direct)


def draw(
    cell: rc.Cell, seed: int = 0, T: int = 40, B: int = 3, D: int = 2, H: int = 5, rho: float = 1.2, scale: float = 1.0,
    dtype: str = "float64", biases: float = 0.1,
) -> Net:  # fmt: skip
    """A network with inputs; ``biases`` is their size."""
    rng, C = np.random.default_rng(seed), 2
    params = cell.init_params(rng, D, H, "gaussian", rho, scale)
    for name in ("bias_ih", "bias_hh"):
        params[name] = biases * rng.standard_normal(params[name].shape)
    arrays = (rng.standard_normal((T, B, D)), rng.standard_normal((C, H)), rng.standard_normal((T, B, C)))
    x, W_ho, dy = (each.astype(dtype) for each in arrays)
    return Net({name: value.astype(dtype) for name, value in params.items()}, x, W_ho, dy)


@dataclass(frozen=True)
class Found:
    """What ``Together`` says of several runs, as tensors in NumPy: the run is the second axis, and the first of ``params``.

    Attributes:
        x, x_exponent: dL/dx_t (T, runs, D, B), and its exponent (T, runs, B).
        h: h_0 … h_T, (T + 1, runs, H, B).
    """

    log_norm: np.ndarray
    log_norm_samples: np.ndarray
    log_norm_cell: np.ndarray | None
    lost: dict[str, np.ndarray]
    hidden_rms: np.ndarray
    saturation: np.ndarray
    params: dict[str, np.ndarray]
    exponent: np.ndarray
    x: np.ndarray
    x_exponent: np.ndarray
    h: np.ndarray
    hold: np.ndarray


def together(cell: rc.Cell, nets: list[Net], device: str = "cpu:0", every: bool = False, runs: int = 4, fused: bool = True) -> Found:  # fmt: skip
    """Forward and backward through ``nets`` at once; without ``fused`` no kernel takes several steps."""
    T, B, D = nets[0].x.shape
    them = Together(Shape(cell, T, B, D, nets[0].W_ho.shape[1], str(nets[0].x.dtype), device), runs)
    if not fused:
        them._fused = None

    def stacked(values: list[np.ndarray]) -> torch.Tensor:
        return torch.stack([torch.tensor(value, device=device) for value in values])

    them.load({name: stacked([n.params[name] for n in nets]) for name in nets[0].params}, stacked([n.x for n in nets]))
    them.forward()
    states = read_states(them, SATURATED_BELOW)
    W, dy = stacked([n.W_ho for n in nets]), stacked([n.dy for n in nets]).permute(1, 0, 3, 2)
    them.backward(W.transpose(1, 2) @ dy[-1], Direct(W, dy) if every else None)
    gradients, sums = read_gradients(them), parameter_gradients(them)
    dx, dx_exponent = input_gradients(them)
    cell_norm = gradients.log_norm_cell
    return Found(
        *(to_numpy(each) for each in (gradients.log_norm, gradients.log_norm_samples)),
        None if cell_norm is None else to_numpy(cell_norm),
        {name: to_numpy(value) for name, value in gradients.lost.items()},
        *(to_numpy(each) for each in (states.hidden_rms, states.saturation)),
        {name: to_numpy(value) for name, value in sums.mantissa.items()},
        *(to_numpy(each) for each in (sums.exponent, dx, dx_exponent, them.h, states.hold & gradients.hold)),
    )


def errors(found: Found, r: int, expected: rc.Gradients) -> dict[str, float]:
    """The largest relative errors of run ``r``, per time step and per parameter; of input gradients per sample too."""
    with np.errstate(invalid="ignore"):  # -inf of a zero on both sides
        worst = {
            "log_norm": _difference(found.log_norm[:, r], expected.log_norm),
            "log_norm_samples": _difference(found.log_norm_samples[:, r], expected.log_norm_samples),
        }
        if expected.log_norm_cell is not None:
            assert found.log_norm_cell is not None
            worst["log_norm_cell"] = _difference(found.log_norm_cell[:, r], expected.log_norm_cell)
    for name, gradient in expected.params.items():
        worst[name] = relative_error(Scaled(found.params[name][r], int(found.exponent[r])), gradient)
    for b in range(found.x.shape[3]):
        ours = Scaled(found.x[:, r, :, b], found.x_exponent[:, r, b])
        worst[f"x, sample {b}"] = worst_step("x", ours, expected.x[:, b] if not isinstance(expected.x, Scaled) else Scaled(expected.x.mantissa[:, b], expected.x.exponent)).relative  # fmt: skip
    return worst


def _difference(ours: np.ndarray, expected: np.ndarray) -> float:
    """The relative error of the norms whose logarithms these are."""
    return float(np.where(ours == expected, 0.0, np.abs(np.expm1(ours - expected))).max())
