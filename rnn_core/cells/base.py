"""What every recurrent cell is: two equations, written forward directly above backward in a file of its own.

Inside the kernels a column is a sample: u, a, h are (rows, B), so that code reads like the derivation in
``rnn_core/README.md`` (``W @ h``) and each step is one well-shaped matrix product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from rnn_core.arrays import Array, Params, State
from rnn_core.initializers import recurrent_matrix


class Cell(ABC):
    """Equations, no arrays. A cell has G gates of H units: ``weight_hh`` is (G·H, H).

    One step receives the input part u_t = W_ih x_t + b_ih (bptt.py computes it for all t in one product) and the state
    before it; what it returns as ``saved`` is all that its backward step will need.
    """

    name: ClassVar[str]
    gates: ClassVar[int]
    state_names: ClassVar[tuple[str, ...]] = ("hidden",)

    @abstractmethod
    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        """(state_t, saved) from u_t (G·H, B) and state_{t-1} (each (H, B))."""

    @abstractmethod
    def backward(self, params: Params, saved: Any, dstate: State) -> tuple[Array, Array, State]:
        """(du, dv, dstate_{t-1}) from the total dL/dstate_t.

        du = dL/du_t and dv = dL/dv_t, both (G·H, B), where v_t = W_hh h_{t-1} + b_hh is the recurrent part; they differ
        only in cells that gate v_t.
        """

    @abstractmethod
    def slope(self, saved: Any) -> Array:
        """phi'(a_t) of the squashing nonlinearity over its supremum, (H, B) or stacked: what saturation is read from."""

    def init_params(
        self,
        rng: np.random.Generator,
        input_size: int,
        hidden_size: int,
        initializer: str = "gaussian",
        spectral_radius: float = 1.0,
        input_scale: float = 1.0,
    ) -> Params:
        """Parameters with torch.nn's names, shapes and gate order, NumPy float64.

        The recurrent matrix of each gate has the given spectral radius, measured. Entries of ``weight_ih`` are normal
        with standard deviation input_scale/√D, so that inputs of unit variance give preactivations of variance
        input_scale². Biases are zero.
        """
        blocks = [recurrent_matrix(rng, hidden_size, initializer, spectral_radius) for _ in range(self.gates)]
        rows = self.gates * hidden_size
        return {
            "weight_ih": rng.standard_normal((rows, input_size)) * (input_scale / np.sqrt(input_size)),
            "weight_hh": np.concatenate(blocks),
            "bias_ih": np.zeros(rows),
            "bias_hh": np.zeros(rows),
        }
