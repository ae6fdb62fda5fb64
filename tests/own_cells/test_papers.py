"""The three cells of ``studies/own_cells``, each beside a formula of another kind than its step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from studies.own_cells.lru import LRU
from studies.own_cells.mamba import Mamba
from studies.own_cells.slstm import SLSTM

T, B, D, H = 40, 3, 2, 5


def made(kind: type[nn.Module], seed: int = 0, **options: Any) -> nn.Module:
    """A module in float64, of its own seed."""
    torch.manual_seed(seed)
    torch.set_default_dtype(torch.float64)
    try:
        return kind(D, H, **options)
    finally:
        torch.set_default_dtype(torch.float32)


def inputs(seed: int = 1) -> Tensor:
    return torch.as_tensor(np.random.default_rng(seed).standard_normal((T, B, D)))


def run(module: Any, x: Tensor) -> Any:
    """The state after every step."""
    state, states = module.initial_state(B), []
    for x_t in x:
        state = module(x_t, state)
        states.append(state)
    return states


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in module.named_parameters()}


# ---- Mamba


@pytest.mark.parametrize("options", [{}, {"state_size": 3, "window": 1}, {"state_size": 4, "window": 6}])
def test_mamba_is_its_unrolled_sum(options: dict[str, int]) -> None:
    """S_T = Σ_s exp(A Σ_{r > s} Δ_r) Δ_s u_s B_sᵀ, with u from a convolution over the whole sequence."""
    module, x = made(Mamba, **options), inputs()
    p = arrays(module)
    with torch.no_grad():
        ours = run(module, x)[-1]["hidden"].numpy()
    window = p["kernel"].shape[1]
    padded = np.concatenate([np.zeros((window - 1, B, H)), x.numpy() @ p["inward.weight"].T])
    seen = np.stack([padded[t : t + window] for t in range(T)])  # (T, window, B, H)
    before = np.einsum("twbh,hw->tbh", seen, p["kernel"]) + p["kernel_bias"]
    u = before / (1 + np.exp(-before))
    duration = np.logaddexp(0, u @ p["down.weight"].T @ p["up.weight"].T + p["up.bias"])  # softplus
    entering = u @ p["to_B.weight"].T
    A = -np.exp(p["log_A"])
    later = duration.sum(axis=0) - np.cumsum(duration, axis=0)  # Σ_{r > s} Δ_r
    kept = np.exp(later[..., None] * A)
    expected = np.einsum("sbhn,sbh,sbn->bhn", kept, duration * u, entering)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=0)


def test_a_gradient_through_mamba_shrinks_by_its_durations() -> None:
    """∂S_T/∂S_0 is diagonal: exp(A Σ Δ_t). Every duration is above 0, so it never grows."""
    module, x = made(Mamba, state_size=3), inputs()
    state = {name: part.requires_grad_() for name, part in module.initial_state(B).items()}  # type: ignore[operator]
    first = state["hidden"]
    for x_t in x:
        state = module(x_t, state)
    (grad,) = torch.autograd.grad(state["hidden"].sum(), first)
    assert bool((grad > 0).all()) and bool((grad < 1).all())
    ratios = torch.log(grad) / torch.exp(module.log_A)  # type: ignore[arg-type]
    torch.testing.assert_close(
        ratios, ratios[..., :1].expand_as(ratios), rtol=1e-10, atol=0
    )  # − Σ Δ_t, the same for all n


def test_mambas_steps_begin_between_a_thousandth_and_a_tenth() -> None:
    """Section 3.6: softplus of the bias alone is from 0.001 to 0.1."""
    durations = nn.functional.softplus(made(Mamba).up.bias)  # type: ignore[union-attr, arg-type]
    assert bool((durations >= 1e-3).all()) and bool((durations <= 0.1).all())


# ---- sLSTM


@pytest.mark.parametrize("forget", ["sigmoid", "exponential"])
def test_slstm_is_its_equations_without_stabiliser(forget: str) -> None:
    """Where i and f stay in range, the stabiliser changes nothing of h; c and n are times exp(−m)."""
    module, x = made(SLSTM, forget=forget), inputs()
    p = arrays(module)
    h, c, n = np.zeros((B, H)), np.zeros((B, H)), np.zeros((B, H))
    with torch.no_grad():
        for t, ours in enumerate(run(module, x)):
            z, i, f, o = np.split(x[t].numpy() @ p["inward"].T + h @ p["recurrent"].T + p["bias"], 4, axis=1)
            kept = 1 / (1 + np.exp(-f)) if forget == "sigmoid" else np.exp(f)
            c, n = kept * c + np.exp(i) * np.tanh(z), kept * n + np.exp(i)
            h = c / n / (1 + np.exp(-o))
            np.testing.assert_allclose(ours["hidden"].numpy(), h, rtol=1e-11, atol=0)
            scale = np.exp(ours["stabiliser"].numpy())
            np.testing.assert_allclose(ours["cell"].numpy() * scale, c, rtol=1e-11, atol=0)
            np.testing.assert_allclose(ours["normaliser"].numpy() * scale, n, rtol=1e-11, atol=0)


def test_slstm_stays_finite_where_its_gates_do_not() -> None:
    """exp(ĩ) is inf from 710 on."""
    module: Any = made(SLSTM)
    with torch.no_grad():
        module.bias[H : 2 * H] = 2000.0
        states = run(module, inputs())
    assert all(bool(part.isfinite().all()) for state in states for part in state.values())
    assert bool((states[-1]["hidden"].abs() <= 1).all())


def test_slstm_refuses_a_gate_that_it_does_not_have() -> None:
    with pytest.raises(ValueError, match="sigmoid, exponential"):
        SLSTM(D, H, forget="tanh")


# ---- LRU


def test_lru_is_its_sum_of_powers() -> None:
    """s_T = Σ_s λ^{T-s} γ B x_s, in complex numbers."""
    module, x = made(LRU, r_min=0.5, r_max=0.99), inputs()
    p = arrays(module)
    with torch.no_grad():
        ours = run(module, x)[-1].numpy()
    eigenvalues = np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"]))
    driven = x.numpy() @ (p["B"][0] + 1j * p["B"][1]).T * np.exp(p["log_gamma"])
    powers = eigenvalues ** np.arange(T - 1, -1, -1)[:, None, None]
    expected = (powers * driven).sum(axis=0)
    np.testing.assert_allclose(ours[..., 0] + 1j * ours[..., 1], expected, rtol=1e-12, atol=0)


def test_the_eigenvalues_of_lrus_step_are_its_lambdas() -> None:
    module: Any = made(LRU, r_min=0.5, r_max=0.99)
    zero = module.initial_state(1)
    J = torch.autograd.functional.jacobian(lambda state: module(torch.zeros(1, D, dtype=zero.dtype), state), zero)
    found = np.linalg.eigvals(J.reshape(2 * H, 2 * H).numpy())
    p = arrays(module)
    expected = np.exp(-np.exp(p["nu"]) + 1j * np.exp(p["theta"]))
    both = np.concatenate([expected, expected.conj()])
    np.testing.assert_allclose(np.sort_complex(found), np.sort_complex(both), rtol=1e-10, atol=0)


def test_lru_is_drawn_evenly_in_its_ring() -> None:
    """Proposition 3.3: for unit white inputs and γ = 1 the mean square of a unit is 13.2645757815 in the ring from 0.9 to 0.99."""
    torch.manual_seed(0)
    module: Any = LRU(1, 400_000, r_min=0.9, r_max=0.99)
    modulus = torch.exp(-torch.exp(module.nu)).detach().double()
    assert float(modulus.min()) >= 0.9 - 1e-6 and float(modulus.max()) <= 0.99 + 1e-6
    assert float((1 / (1 - modulus**2)).mean()) == pytest.approx(13.2645757815, rel=5e-3)
    driven = torch.exp(2 * module.log_gamma).detach().double() / (1 - modulus**2)
    torch.testing.assert_close(
        driven, torch.ones_like(driven), rtol=1e-4, atol=0
    )  # γ makes the mean square of every unit 1
