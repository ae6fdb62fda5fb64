"""Where mean field turns: the smallest sigma_w at which chi_1 reaches 1.

The fixed point q belongs to sigma_w² = s(q) = (q - sigma_u²)/E[phi(√q z)²]. A network that starts from a zero state goes to the lowest fixed
point. So as sigma_w grows, q walks up along s wherever s reaches a new height, and jumps over the dips. On the way chi_1 is
s(q) E[phi'(√q z)²]. It reaches 1 at a root, or in a jump.

Derivation: rnn_core/README.md, section 4.2.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from rnn_core.activations import ACTIVATIONS, Activation
from rnn_core.theory.mean_field import AT_REST, _expect, check

_LARGEST_SIGMA_W = 1e3
_PER_DECADE = 24  # values of q at which a root is looked for
_FAR = 1e30  # a q at which phi is all but homogeneous
_HIGHEST = 1e9  # the largest of them
_NEAR = 1e-9  # relative: what two numbers of q = AT_REST differ by
_STEP = 1e-6  # relative, of q: enough to see whether sigma_w rises


def critical_sigma_w(phi: Activation, sigma_u2: float) -> float:
    """The smallest sigma_w at which chi_1 reaches 1; inf where none below 1000 does.

    chi_1 may jump past 1, where the branch that a zero state leads to ends. Then it is the place of the jump.

    Args:
        sigma_u2: variance of W_ih x_t + b_ih + b_hh over units and time.

    Raises:
        ValueError: the variance is negative, or phi is no activation.
    """
    check(phi, sigma_u2=sigma_u2)
    slope_at_rest = _expect(phi, AT_REST, phi.df)
    if phi.homogeneous:  # phi' knows no scale
        return 1.0 / math.sqrt(slope_at_rest)
    if sigma_u2 <= AT_REST and slope_at_rest * AT_REST >= (1.0 - _NEAR) * _expect(phi, AT_REST, phi.f):
        return 1.0 / math.sqrt(slope_at_rest)  # rest is a fixed point until chi_1 = 1
    return _walk(phi, sigma_u2)


def _walk(phi: Activation, sigma_u2: float) -> float:
    """Up along the branch, from one q to the next, until chi_1 is past 1."""
    branch = _Branch(phi, sigma_u2)
    q, squares, slopes = _moments(phi)
    first = int(np.searchsorted(q, max(sigma_u2, AT_REST), side="right"))
    q = np.concatenate([[max(sigma_u2, AT_REST)], q[first:]])
    s = np.concatenate([[0.0], (q[1:] - sigma_u2) / squares[first:]])
    past = np.concatenate([[False], s[1:] * slopes[first:] >= 1.0])
    here, height = 0, 0.0  # the last place on the branch, and sigma_w² there
    for i in range(1, len(q)):
        if s[i] <= height or s[i] > _LARGEST_SIGMA_W**2:
            continue
        landing = q[here]
        if here < i - 1:  # a dip lies between: q jumps from its edge to where s has the same height again
            edge, height = branch.top(q[max(here - 1, 0)], q[here + 1])
            if branch.past(edge) >= 0.0:
                return branch.root(q[max(here - 1, 0)], edge)
            if s[i] <= height:
                continue
            landing = branch.at_height(height, q[i - 1], q[i])
            if branch.past(landing) >= 0.0:
                return math.sqrt(height)
        if past[i]:
            return branch.root(landing, q[i])
        here, height = i, float(s[i])
    return _at_the_end(branch, q, here, height)


def _at_the_end(branch: _Branch, q: np.ndarray, here: int, height: float) -> float:
    """Where the branch leads to no further q, the network's states grow without limit, and only the slopes far out count.

    An unbounded phi is homogeneous there: its q and its chi_1 turn at the same sigma_w.
    """
    far = _expect(branch.phi, _FAR, branch.phi.df)
    turning = 1.0 / far if far > _LARGEST_SIGMA_W**-2 else math.inf
    if height < turning:
        return math.sqrt(turning)
    edge, top = branch.top(q[max(here - 1, 0)], q[min(here + 1, len(q) - 1)])
    return branch.root(q[max(here - 1, 0)], edge) if branch.past(edge) >= 0.0 else math.sqrt(top)


class _Branch:
    """sigma_w² and chi_1 of the fixed point q."""

    def __init__(self, phi: Activation, sigma_u2: float) -> None:
        self.phi, self.sigma_u2 = phi, sigma_u2

    def height(self, q: float) -> float:
        return (q - self.sigma_u2) / _expect(self.phi, q, self.phi.f)

    def past(self, q: float) -> float:
        return self.height(q) * _expect(self.phi, q, self.phi.df) - 1.0

    def root(self, low: float, high: float) -> float:
        """sigma_w where chi_1 is 1; where the branch ends before, at its end."""
        from scipy.optimize import brentq  # takes a while to load

        q = float(brentq(self.past, low, high, xtol=1e-300, rtol=1e-14)) if self.past(low) < 0.0 else low
        rises = self.height(q) <= self.height(min(q * (1.0 + _STEP), high))
        return math.sqrt(self.height(q) if rises else self.top(low, q)[1])

    def top(self, low: float, high: float) -> tuple[float, float]:
        """(q, sigma_w²) of the largest sigma_w between."""
        from scipy.optimize import minimize_scalar

        peak = minimize_scalar(lambda x: -self.height(math.exp(x)), bounds=(math.log(low), math.log(high)), method="bounded",
                                options={"xatol": 1e-9})  # fmt: skip
        return math.exp(peak.x), -float(peak.fun)

    def at_height(self, height: float, low: float, high: float) -> float:
        from scipy.optimize import brentq

        return float(brentq(lambda q: self.height(q) - height, low, high, xtol=1e-300, rtol=1e-14))


@lru_cache(maxsize=len(ACTIVATIONS))
def _moments(phi: Activation) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(q, E[phi(√q z)²], E[phi'(√q z)²]) of many q."""
    decades = math.log10(_HIGHEST / AT_REST)
    q = AT_REST * 10.0 ** (np.arange(round(decades * _PER_DECADE) + 1) / _PER_DECADE)
    squares, slopes = (np.array([_expect(phi, each, function) for each in q]) for function in (phi.f, phi.df))
    return q, squares, slopes
