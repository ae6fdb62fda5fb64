"""What spectra are held against: Jacobians by autograd, products with hundreds of digits, and frames that go forward."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import torch

import rnn_core as rc
from rnn_core.oracles import tensors


def autonomous(
    cell: rc.Cell, seed: int, N: int, gain: float, T: int, dtype: str = "float64", **options: Any
) -> rc.Tape:
    """The tape of a network without inputs and biases, as the reference numbers were computed: entries of W in the order of its gates."""
    rng = np.random.default_rng(seed)
    W = np.concatenate([rng.standard_normal((N, N)) * gain / np.sqrt(N) for _ in cell.gates])
    state = {name: rng.standard_normal((1, N)).astype(dtype) for name in cell.state_names}
    params = {"weight_ih": np.zeros((len(W), 1), dtype), "weight_hh": W.astype(dtype)}
    return rc.forward(cell, params, np.zeros((T, 1, 1), dtype), state, **options)


def driven(
    cell: rc.Cell, T: int, B: int, H: int, gain: float = 1.2, seed: int = 0, dtype: str = "float64", **options: Any
) -> rc.Tape:
    """The tape of a network with inputs and biases."""
    rng = np.random.default_rng(seed)
    params = cell.init_params(rng, 2, H, spectral_radius=gain if cell.has_matrix else None)
    params = {name: (v + 0.1 * rng.standard_normal(v.shape)).astype(dtype) for name, v in params.items()}
    return rc.forward(cell, params, rng.standard_normal((T, B, 2)).astype(dtype), **options)


def jacobians_by_autograd(tape: rc.Tape, sample: int) -> np.ndarray:
    """∂s_t/∂s_{t-1} from the oracles' own equations, from the engine's states, (T, S, S)."""
    cell = tape.cell
    step = tensors.step_of(cell.name, cell.phi.name, {name: getattr(cell, name) for name in cell.options})
    params = {name: torch.as_tensor(np.asarray(value, np.float64)) for name, value in tape.params.items()}
    states = [
        np.concatenate([part[..., sample] for part in each])
        for each in zip(*(tape.kept.states[name].astype(np.float64) for name in cell.state_names), strict=True)
    ]
    found = []
    for x, before in zip(np.asarray(tape.x[:, sample], np.float64), states[:-1], strict=True):

        def after(s: torch.Tensor, x: np.ndarray = x) -> torch.Tensor:
            parts = dict(zip(cell.state_names, s[None].chunk(len(cell.state_names), dim=-1), strict=True))
            return torch.cat(list(step(params, torch.as_tensor(x)[None], parts).values()), dim=-1)[0]

        found.append(torch.autograd.functional.jacobian(after, torch.as_tensor(before)).numpy())
    return np.array(found)


def log_singular_values_by_mpmath(matrices: list[Any], digits: int) -> np.ndarray:
    """ln of the singular values of … M_2 M_1, with so many digits that the product can be taken as it stands; -inf for zeros."""
    with mp.workdps(digits):
        product = mp.eye(matrices[0].shape[0] if isinstance(matrices[0], np.ndarray) else matrices[0].rows)
        for matrix in matrices:
            product = (mp.matrix(matrix.tolist()) if isinstance(matrix, np.ndarray) else matrix) * product
        squares = mp.eigsy(product.T * product, eigvals_only=True)
        zero = max(squares) * mp.mpf(10) ** (30 - digits)
        values = [float(mp.log(square) / 2) if square > zero else -np.inf for square in squares]
    return np.sort(values)[::-1]


def exponents_by_forward_tangent(matrices: np.ndarray, k: int, burn_in: int = 0) -> np.ndarray:
    """The k largest exponents by a frame that goes forward: modified Gram-Schmidt, written out (Benettin et al. 1980)."""
    S = matrices.shape[1]
    frame = np.random.default_rng(5).standard_normal((S, k))
    logs = np.zeros((len(matrices), k))
    for t, J in enumerate(matrices):
        frame = J @ frame
        for j in range(k):
            for _ in range(2):  # twice is enough (Kahan)
                for i in range(j):
                    frame[:, j] -= (frame[:, i] @ frame[:, j]) * frame[:, i]
            size = np.sqrt(frame[:, j] @ frame[:, j])
            logs[t, j] = np.log(size)
            frame[:, j] /= size
    return np.sort(logs[burn_in:].mean(axis=0))[::-1]
