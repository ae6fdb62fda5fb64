"""Spectral radii and mean-field rates of many networks at once, on any device, without an eigenvalue problem."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rnn_core.activations import Activation
from rnn_core.theory import fixed_point
from rnn_core.theory.mean_field import APART, AT_REST, FAR_OUT, FEW_STEPS, LARGEST_Q, TOLERANCE, quadrature

SQUARINGS = 52  # 2**52 factors: what is left of the difference to the limit is below the last digit


def log_spectral_radii(matrices: Tensor) -> Tensor:
    """ln ρ of matrices (R, n, n), float64 (R,): ln ‖M^k‖ / k for k = 2**52, by squaring (Gelfand's formula); -inf where ρ is 0.

    Each square is brought back to norm 1, and the logarithm of what was taken out counts half as much as the one before. So the
    rounding errors of later squares hardly count, and the result is as accurate as the eigenvalues are.
    """
    power = matrices.double()
    largest = power.abs().amax(dim=(1, 2))
    power, log_radius, weight = power / torch.where(largest > 0.0, largest, 1.0)[:, None, None], largest.log(), 1.0
    for _ in range(SQUARINGS):
        norm = torch.linalg.matrix_norm(power)
        log_radius += weight * norm.log()
        power = torch.where(norm[:, None, None] > 0.0, power / norm[:, None, None], 0.0)
        power, weight = power @ power, 0.5 * weight
    return log_radius + weight * torch.linalg.matrix_norm(power).log()


def mean_fields(phi: Activation, sigma_w2: Tensor, sigma_u2: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(rate, bistable) of ``theory.fixed_point`` for many networks, float64 and bool (R,).

    All of them are iterated side by side. Where that does not settle, and where phi has kinks, which each need nodes of their own,
    ``fixed_point`` is asked.

    Args:
        sigma_w2, sigma_u2: as for ``fixed_point``, float64 (R,).
    """
    rate, bistable = np.full(len(sigma_w2), math.nan), np.zeros(len(sigma_w2), dtype=bool)
    known = np.zeros(len(sigma_w2), dtype=bool)
    if not (phi.homogeneous or phi.kinks):
        chi, rises, settled = _side_by_side(phi, sigma_w2, sigma_u2)
        known = settled.cpu().numpy()
        rate, bistable = 0.5 * chi.log().cpu().numpy(), rises.cpu().numpy()
    w, u = sigma_w2.cpu().numpy(), sigma_u2.cpu().numpy()
    for r in np.flatnonzero(~known):
        limit = fixed_point(phi, float(w[r]), float(u[r]))
        rate[r], bistable[r] = limit.rate, limit.bistable
    return rate, bistable


def _side_by_side(phi: Activation, sigma_w2: Tensor, sigma_u2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(chi_1, whether there is another end above, whether both are known)."""
    z, weights = (torch.as_tensor(each.reshape(-1), device=sigma_w2.device) for each in quadrature(()))

    def expected(function: Callable[[Tensor], Tensor], q: Tensor) -> Tensor:
        return (function(q.sqrt()[:, None] * z) ** 2 * weights).sum(
            dim=1
        )  # not @: a row's bits must not depend on its place

    def map_of(q: Tensor) -> Tensor:
        return torch.clamp(sigma_w2 * expected(phi.f, q) + sigma_u2, min=AT_REST)

    q, end, settled = torch.clamp(sigma_u2, min=AT_REST), sigma_u2, torch.zeros_like(sigma_u2, dtype=torch.bool)
    for _ in range(FEW_STEPS):
        following = map_of(q)
        near = (following - q).abs() <= TOLERANCE * following
        end, settled, q = torch.where(near & ~settled, following, end), settled | near, following
        if bool(settled.all()):
            break
    far, lower = FAR_OUT * (sigma_u2 + sigma_w2), (1.0 + APART) * end
    rises, known = torch.zeros_like(settled), torch.zeros_like(settled)
    for _ in range(FEW_STEPS):
        following = map_of(far)
        comes_down, stays = following <= lower, following >= far
        rises, known, far = torch.where(known, rises, stays & ~comes_down), known | comes_down | stays, following
        if bool(known.all()):
            break
    return sigma_w2 * expected(phi.df, end), rises, settled & known & (end <= LARGEST_Q)
