"""Spectral radii and mean-field rates of many networks at once, on any device, without an eigenvalue problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rnn_core.activations import Activation
from rnn_core.theory import Correlation, MeanField, correlation_at, fixed_point
from rnn_core.theory.correlation import ENOUGH, NEAREST, ORDERS, hermite
from rnn_core.theory.mean_field import (
    APART,
    AT_REST,
    FAR_OUT,
    FEW_STEPS,
    LARGEST_Q,
    TOLERANCE,
    depth_scale,
    quadrature,
)

HALVES = 60  # of the interval that holds a root
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


def mean_fields(phi: Activation, sigma_w2: Tensor, sigma_u2: Tensor) -> list[MeanField]:
    """``theory.fixed_point`` of many networks.

    All of them are iterated side by side. Where that does not settle, and where phi has kinks, which each need nodes of their own,
    ``fixed_point`` is asked.

    Args:
        sigma_w2, sigma_u2: as for ``fixed_point``, float64 (R,).
    """
    w, u = sigma_w2.cpu().numpy(), sigma_u2.cpu().numpy()
    if phi.homogeneous or phi.kinks:
        return [fixed_point(phi, float(a), float(b)) for a, b in zip(w, u, strict=True)]
    q, chi, rises, settled = (each.cpu().numpy() for each in _side_by_side(phi, sigma_w2, sigma_u2))
    return [
        MeanField(float(q[r]), float(chi[r]), bool(rises[r]))
        if settled[r]
        else fixed_point(phi, float(w[r]), float(u[r]))
        for r in range(len(w))
    ]


def correlations(phi: Activation, sigma_w2: Tensor, sigma_u2: Tensor, limits: Sequence[MeanField]) -> list[Correlation]:
    """``theory.correlation`` of many networks, for copies that see the same inputs.

    Where chi_1 is at most 1, copies meet, and nothing is to be found. Of the others the roots are found side by side.
    """
    w, u = sigma_w2.cpu().numpy(), sigma_u2.cpu().numpy()
    together = not (phi.homogeneous or phi.kinks)
    apart = [r for r, limit in enumerate(limits) if together and limit.chi > 1.0 and math.isfinite(limit.q)]
    settled = (
        dict(zip(apart, _parted(phi, sigma_w2[apart], sigma_u2[apart], [limits[r].q for r in apart]), strict=True))
        if apart
        else {}
    )
    return [
        settled[r] if r in settled else correlation_at(phi, float(w[r]), float(u[r]), limit.q, limit.chi)
        for r, limit in enumerate(limits)
    ]


def _parted(phi: Activation, sigma_w2: Tensor, sigma_u2: Tensor, variances: list[float]) -> list[Correlation]:
    """Where copies stay apart: the c below 1 at which the map of c meets the diagonal, by halves."""
    device = sigma_w2.device
    q = torch.clamp(torch.tensor(variances, dtype=torch.float64, device=device), min=AT_REST)
    powers, tail, order = _series(phi, q)
    k = torch.arange(powers.shape[1], device=device, dtype=torch.float64)

    def value(c: Tensor) -> Tensor:
        return (powers * c[:, None] ** k).sum(dim=1) + tail * c**order

    low, high = torch.zeros_like(q), torch.full_like(q, 1.0 - NEAREST)
    for _ in range(HALVES):
        middle = 0.5 * (low + high)
        rises = (sigma_w2 * value(middle) + sigma_u2) / q > middle
        low, high = torch.where(rises, middle, low), torch.where(rises, high, middle)
    slope = (k * powers)[:, 1:] * low[:, None] ** k[:-1]
    chi = sigma_w2 * (slope.sum(dim=1) + tail * order * low ** (order - 1.0)) / q
    return [Correlation(c, x, depth_scale(x)) for c, x in zip(low.tolist(), chi.tolist(), strict=True)]


def _series(phi: Activation, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(a_k² (R, orders), what the orders beyond carry, their order (R,)), as in ``theory.correlation``."""
    z, weights = (torch.as_tensor(each.reshape(-1), device=q.device) for each in quadrature(()))
    a = q.sqrt()[:, None] * z
    f, df = phi.f(a), phi.df(a)
    value, slope = (f**2 * weights).sum(dim=1), q * (df**2 * weights).sum(dim=1)
    table = torch.as_tensor(hermite(ORDERS[-1]), device=q.device)
    powers = torch.stack([torch.mv(table, row) for row in f * weights]) ** 2  # row by row, for a row's bits
    k = torch.arange(ORDERS[-1], device=q.device, dtype=torch.float64)
    known = (k * powers).cumsum(dim=1)
    enough = torch.stack([slope - known[:, orders - 1] <= ENOUGH * slope for orders in ORDERS[:-1]], dim=1)
    for i, orders in reversed(list(enumerate(ORDERS[:-1]))):
        powers[enough[:, i], orders:] = 0.0
    beyond, left = value - powers.sum(dim=1), slope - (k * powers).sum(dim=1)
    some = (beyond > 0.0) & (left > 0.0)
    return powers, torch.where(some, beyond, 0.0), torch.where(some, left / beyond, 1.0)


def _side_by_side(phi: Activation, sigma_w2: Tensor, sigma_u2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(q, chi_1, whether there is another end above, whether all are known)."""
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
    return end, sigma_w2 * expected(phi.df, end), rises, settled & known & (end <= LARGEST_Q)
