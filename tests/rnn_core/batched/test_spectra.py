"""Spectral radii and mean-field rates of many networks, against eigenvalues and against ``theory.fixed_point`` one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.batched.powers import RANGES, exponent_bits, times_two_to, two_to
from rnn_core.batched.spectra import correlations, log_spectral_radii, mean_fields
from rnn_core.theory import correlation, fixed_point

devices = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


@devices
@pytest.mark.parametrize("size", [1, 2, 5, 64])
def test_spectral_radii_are_those_of_the_eigenvalues(size: int, device: str) -> None:
    """Complex pairs, scaled rows, symmetric and orthogonal matrices, a multiple of the identity."""
    rng = np.random.default_rng(size)
    M = rng.standard_normal((24, size, size))
    M[6:12] *= rng.uniform(0.0, 1.0, (6, size, 1))
    M[12:16] += M[12:16].swapaxes(1, 2)
    M[16:20] = np.linalg.qr(M[16:20])[0]
    M[20] = 1e-200 * np.eye(size)
    M[21] *= 1e150
    expected = np.log(np.abs(np.linalg.eigvals(M)).max(axis=1))
    found = log_spectral_radii(torch.tensor(M, device=device)).cpu().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_matrix_whose_powers_end_has_no_radius() -> None:
    """Its eigenvalues are all 0."""
    nilpotent = torch.triu(torch.ones((5, 5), dtype=torch.float64), 1)
    found = log_spectral_radii(torch.stack([nilpotent, 0.0 * nilpotent]))
    assert found.tolist() == [-np.inf, -np.inf]


@devices
@pytest.mark.parametrize("activation", list(rc.ACTIVATIONS))
def test_mean_fields_are_those_of_one_network_after_the_other(activation: str, device: str) -> None:
    """Below and above the critical point, beside it, without inputs, and with two ends (silu)."""
    rng, phi = np.random.default_rng(0), rc.ACTIVATIONS[activation]
    w, u = rng.uniform(0.1, 5.0, 24), rng.uniform(0.0, 2.0, 24)
    u[:4], w[4:6] = 0.0, 1.0
    on_device = torch.tensor(w, device=device), torch.tensor(u, device=device)
    limits = mean_fields(phi, *on_device)
    one_by_one = [fixed_point(phi, float(a), float(b)) for a, b in zip(w, u, strict=True)]
    np.testing.assert_allclose([each.rate for each in limits], [each.rate for each in one_by_one], rtol=0, atol=1e-11)
    np.testing.assert_allclose([each.q for each in limits], [each.q for each in one_by_one], rtol=1e-9)
    assert [each.bistable for each in limits] == [each.bistable for each in one_by_one]
    copies = correlations(phi, *on_device, limits)
    expected = [correlation(phi, float(a), float(b)) for a, b in zip(w, u, strict=True)]
    for part, tolerance in (("c", 1e-9), ("chi", 1e-9), ("scale", 1e-6)):
        np.testing.assert_allclose(
            [getattr(c, part) for c in copies], [getattr(c, part) for c in expected], rtol=tolerance, err_msg=part
        )


@devices
@pytest.mark.parametrize("dtype", list(RANGES))
def test_powers_of_two_are_exact(dtype: str, device: str) -> None:
    """An exponent is off by one, or a power is rounded."""
    limits, numbers = RANGES[dtype], np.finfo(dtype)
    e = torch.arange(1 - limits.bias, limits.bias + 1, device=device)
    powers = two_to(e, dtype)
    assert powers.cpu().tolist() == [2.0**k for k in e.tolist()]
    assert two_to(torch.tensor([-limits.bias, -(10**6)], device=device), dtype).tolist() == [0.0, 0.0]
    x = torch.tensor([0.75, 1.0, float(numbers.smallest_normal), float(numbers.max)], dtype=powers.dtype, device=device)
    assert exponent_bits(x, dtype).tolist() == [0, 1, 2 - limits.bias, limits.bias + 1]
    far = torch.tensor([3, 2 * limits.bias, -2 * limits.bias, -(10**6)], device=device)
    one = torch.ones(4, dtype=powers.dtype, device=device)
    assert times_two_to(one, far).tolist() == [8.0, np.inf, 0.0, 0.0]
