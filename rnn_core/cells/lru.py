"""A diagonal complex recurrence, the linear recurrent unit's (LRU), in real numbers. Derivation: rnn_core/README.md, section 2.10.

Shapes: u, a, h, du, da, dh are (H, B). h holds the real parts of m = ⌊H/2⌋ complex units, one real unit if H is odd, and their imaginary
parts. ``weight_hh`` (H) holds the eigenvalues in the same order; biases (H).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.cells.base import DiagonalCell
from rnn_core.choices import Registry
from rnn_core.initializers import Draw


def pairs_of(modulus: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """``weight_hh`` of the eigenvalues modulus · exp(i phase); of the last of an odd number of units the modulus alone counts."""
    m, H = len(phase), len(modulus) + len(phase)
    re, im = modulus[: H - m].copy(), modulus[:m] * np.sin(phase)
    re[:m] *= np.cos(phase)
    return np.concatenate([re, im])


def disk(rng: np.random.Generator, size: int) -> np.ndarray:
    """Eigenvalues evenly over the unit disk, as a wide Gaussian matrix has them (Orvieto et al. 2023, section 3.2)."""
    return pairs_of(np.sqrt(rng.random(size - size // 2)), 2.0 * np.pi * rng.random(size // 2))


def circle(rng: np.random.Generator, size: int) -> np.ndarray:
    """Eigenvalues evenly on the unit circle, as a wide orthogonal matrix has them."""
    return pairs_of(np.ones(size - size // 2), 2.0 * np.pi * rng.random(size // 2))


class LRUCell(DiagonalCell):
    """s_t = phi(Λ s_{t-1} + u_t), Λ complex and diagonal; with phi = identity the recurrence of Orvieto et al. (2023).

    phi acts on real and imaginary parts. λ is trained as it stands, not as exp(−exp ν + iθ). Their γ ⊙ is part of W_ih, and their
    readout Re(C s) is the study's, which reads both parts.
    """

    name: ClassVar[str] = "lru"
    draws: ClassVar[Registry[Draw] | None] = Registry(
        "initializers",
        {"gaussian": disk, "orthogonal": circle, "identity": lambda rng, n: pairs_of(np.ones(n - n // 2), np.zeros(n // 2))},
    )  # fmt: skip

    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Array]:
        h_prev = state["hidden"]
        re, im = coefficients(params["weight_hh"])
        v = re * h_prev + im * turned(h_prev)  # Re λ Re s - Im λ Im s above, Re λ Im s + Im λ Re s below
        a = v + params["bias_hh"][:, None] + u if "bias_hh" in params else v + u  # a_t = Λ s_{t-1} + b_hh + u_t
        return {"hidden": self.phi.f(a)}, a  # s_t = phi(a_t)

    def backward(self, params: Params, saved: Array, dstate: State) -> tuple[Array, Array, State]:
        da = self.phi.df(saved) * dstate["hidden"]  # dL/da_t = phi'(a_t) ⊙ dL/ds_t
        re, im = coefficients(params["weight_hh"])
        return da, da, {"hidden": re * da - im * turned(da)}  # Λ^T turns back: the conjugate of λ

    def recurrent_gradient(self, params: Params, dv: Array, factor: Array) -> Array:
        xp = namespace(dv)
        along, across = xp.sum(dv * factor, axis=1), xp.sum(dv * turned(factor), axis=1)
        return self.of_numbers(xp.concat([along, across]))

    @staticmethod
    def numbers(weight_hh: np.ndarray) -> np.ndarray:
        """``coefficients`` one below the other, (2H,)."""
        return np.concatenate(coefficients(weight_hh))[:, 0]

    @staticmethod
    def of_numbers(gradient: Array) -> Array:
        """dL/d(weight_hh) from Σ dv ⊙ s and Σ dv ⊙ (its partners), (2H,)."""
        H = gradient.shape[0] // 2
        m, along, across = H // 2, gradient[:H], gradient[H:]
        d_re = namespace(gradient).concat([along[:m] + along[H - m :], along[m : H - m]])  # dv_re s_re + dv_im s_im
        return namespace(gradient).concat([d_re, across[H - m :] - across[:m]])  # of Im λ: dv_im s_re - dv_re s_im

    def recurrent_matrix(self, weight_hh: Any) -> Any:
        re, im = coefficients(weight_hh)
        return re * np.eye(len(weight_hh)) + im * turned(np.eye(len(weight_hh)))


def coefficients(weight_hh: Array) -> tuple[Array, Array]:
    """(H, 1) each: what multiplies a unit itself, Re λ, and what multiplies its partner, -Im λ above and Im λ below."""
    xp, (H,) = namespace(weight_hh), weight_hh.shape
    m = H // 2
    re, im = weight_hh[: H - m], weight_hh[H - m :]
    none = xp.zeros_like(re[m:])
    return xp.concat([re, re[:m]])[:, None], xp.concat([-im, none, im])[:, None]


def turned(h: Array) -> Array:
    """Real and imaginary parts exchanged; a real unit stays."""
    m, H = h.shape[0] // 2, h.shape[0]
    return namespace(h).concat([h[H - m :], h[m : H - m], h[:m]])
