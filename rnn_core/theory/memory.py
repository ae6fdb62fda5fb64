"""The curse of memory: a recurrence that remembers long is hard to learn, although its gradient does not explode.

For h_t = λ h_{t-1} + x_t the backward signal shrinks by λ a step. The derivative of the state by λ itself, Σ_k k λ^(k-1) x_{t-k}, grows without
limit as λ -> 1 (Zucchet & Orvieto 2024). Derivation: rnn_core/README.md, section 4.4.
"""

from __future__ import annotations

from typing import NamedTuple

from rnn_core.scalars import is_number


class MemorySensitivity(NamedTuple):
    """Of a stationary linear recurrence with inputs of variance 1.

    Attributes:
        state: E h².
        derivative: E (∂h/∂λ)².
    """

    state: float
    derivative: float


def memory_sensitivity(lam: float, r: float) -> MemorySensitivity:
    """(E h², E (∂h/∂λ)²) of h_t = λ h_{t-1} + x_t with E x_t x_{t+k} = r^|k|.

    E h_α h_β = R(α, β) = (1 - r² αβ)/((1 - αβ)(1 - rα)(1 - rβ)), and the second is its mixed derivative at α = β = λ.

    Args:
        lam: λ, of modulus below 1.
        r: correlation of neighbouring inputs, of modulus below 1; 0 for white ones.

    Raises:
        ValueError: λ or r is not a number between -1 and 1.
    """
    for name, number in (("lam", lam), ("r", r)):
        if not (is_number(number) and abs(number) < 1.0):
            raise ValueError(f"{name}: {number!r} is not allowed; it must be a number between -1 and 1, without these")
    above, white, input_part = 1.0 - r * r * lam * lam, 1.0 - lam * lam, 1.0 - r * lam
    state = above / (white * input_part**2)
    logarithmic = -r * r * lam / above + lam / white + r / input_part  # ∂ ln R/∂α
    mixed = 1.0 / white**2 - (r / above) ** 2  # ∂² ln R/∂α∂β
    return MemorySensitivity(state, state * (logarithmic**2 + mixed))
