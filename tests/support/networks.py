"""Random networks of any cell, with everything that ``forward`` and ``backward`` take; and problems that tests change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

import rnn_core as rc
from tests.support.arrays import array

BIASES = {"both": ("bias_ih", "bias_hh"), "none": (), "ih": ("bias_ih",), "hh": ("bias_hh",)}
OPTIONS = {
    "residual": {"step": 0.7, "leak": 0.2},
    "layer_norm": {"step": 0.7, "leak": 0.2},
    "antisymmetric": {"step": 0.6, "diffusion": 0.3},
}  # numbers that none of the cell's terms can hide behind
OPTION_VALUES = {
    "residual": {"step": [0.1, 0.7, 1.0], "leak": [0.0, 0.2, 1.0]},
    "layer_norm": {"step": [0.1, 0.7, 1.0], "leak": [0.0, 0.2, 1.0]},
    "antisymmetric": {"step": [0.1, 0.6, 1.0], "diffusion": [0.0, 0.3, 1.0]},
}


# Of two units, n is ±1 whatever a is, and of one input its size makes no difference: what is left of such a gradient is rounding.
FEWEST_UNITS, FEWEST_INPUTS = {"layer_norm": 3}, {"layer_norm": 2}


@dataclass(frozen=True)
class Network:
    """A network of any cell with everything that ``forward`` and ``backward`` take."""

    cell: rc.Cell
    params: dict[str, Any]
    x: Any
    grad_hidden: Any
    state: dict[str, Any] | None
    grad_state: dict[str, Any] | None

    def to(self, library: str, dtype: str = "float64") -> Network:
        """The same network in another library and dtype."""

        def dictionary(d: dict[str, Any] | None) -> dict[str, Any] | None:
            return None if d is None else {name: array(value, library, dtype) for name, value in d.items()}

        return replace(
            self,
            params=dictionary(self.params) or {},
            x=array(self.x, library, dtype),
            grad_hidden=array(self.grad_hidden, library, dtype),
            state=dictionary(self.state),
            grad_state=dictionary(self.grad_state),
        )

    def run(self) -> tuple[rc.Tape, rc.Gradients]:
        """The engine's answer."""
        tape = rc.forward(self.cell, self.params, self.x, self.state)
        return tape, rc.backward(tape, self.grad_hidden, self.grad_state)

    def initial(self, which: str = "state") -> dict[str, Any]:
        """``state`` or ``grad_state``, zeros where there is none."""
        given = getattr(self, which)
        return given or {name: np.zeros(self.grad_hidden.shape[1:]) for name in self.cell.state_names}

    @property
    def options(self) -> dict[str, float]:
        """The numbers that the cell was made with."""
        return {name: getattr(self.cell, name) for name in self.cell.options}


def draw_network(
    cell: str = "vanilla",
    activation: str = "tanh",
    seed: int = 0,
    T: int = 7,
    B: int = 3,
    D: int = 2,
    H: int = 4,
    biases: str = "both",
    loss_at: str = "every",
    with_state: bool = True,
    gain: float = 1.0,
    **options: float,
) -> Network:
    """Normal weights (recurrent ones of deviation gain/√H), inputs and losses, and biases that are not zero.

    All numbers are float32's, so that a float32 run starts from the same ones.
    """
    rng = np.random.default_rng(seed)
    drawn = rc.CELLS[cell](activation, **(options or OPTIONS.get(cell, {})))
    rows, shape = len(drawn.gates) * H, drawn.recurrent_shape(H) if drawn.has_matrix else ()

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    def rounded(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32).astype(np.float64)

    params = {
        "weight_ih": rounded(normal(rows, D) / np.sqrt(D)),
        **(
            {"weight_hh": rounded(gain * normal(*shape) / np.sqrt(shape[-1] if len(shape) == 2 else 1))}
            if shape
            else {}
        ),
        **{name: rounded(0.3 * normal(rows)) for name in BIASES[biases]},
        **{name: rounded(value + 0.3 * normal(H)) for name, value in drawn.own_start(H).items()},
    }
    x, grad_hidden = normal(T, B, D), normal(T, B, H)
    if loss_at == "last":
        grad_hidden[:-1] = 0.0
    state, grad_state = ({name: normal(B, H) for name in drawn.state_names} if with_state else None for _ in range(2))
    return Network(drawn, params, x, grad_hidden, state, grad_state)


def networks(
    cell: str = "vanilla", activation: str = "tanh", biases: Sequence[str] = tuple(BIASES)
) -> st.SearchStrategy[Network]:
    """Networks of one cell of every small shape, with all, some and no biases, with and without an initial state."""
    return st.builds(
        draw_network,
        cell=st.just(cell),
        activation=st.just(activation),
        seed=st.integers(0, 2**32 - 1),
        T=st.integers(1, 9),
        B=st.integers(1, 3),
        D=st.integers(FEWEST_INPUTS.get(cell, 1), 3),
        H=st.integers(FEWEST_UNITS.get(cell, 1), 4),
        biases=st.sampled_from(biases),
        loss_at=st.sampled_from(["every", "last"]),
        with_state=st.booleans(),
        gain=st.sampled_from([0.5, 1.0, 1.5]),
        **{name: st.sampled_from(values) for name, values in OPTION_VALUES.get(cell, {}).items()},
    )


def samples(network: Network) -> Iterator[Network]:
    """A network of every sample of the batch by itself."""

    def row(arrays: dict[str, Any] | None, b: int) -> dict[str, Any] | None:
        return arrays and {name: value[b : b + 1] for name, value in arrays.items()}

    for b in range(network.x.shape[1]):
        yield replace(
            network,
            x=network.x[:, b : b + 1],
            grad_hidden=network.grad_hidden[:, b : b + 1],
            state=row(network.state, b),
            grad_state=row(network.grad_state, b),
        )


# ---- problems ----------------------------------------------------------------------------------------------------------


def zero_input_problem(
    activation: str, rho: float, T: int, B: int = 2, H: int = 4, initializer: str = "orthogonal", dtype: str = "float64"
) -> tuple[rc.Problem, np.ndarray, np.ndarray]:
    """(problem, x, target) of a network at rest: x = 0, so that states stay 0 however fast gradients grow."""
    experiment = rc.Experiment(
        activation=activation, initializer=initializer, spectral_radius=rho, hidden_size=H, input_size=1,
        sequence_length=T, batch_size=B, dtype=dtype,
    )  # fmt: skip
    target = np.random.default_rng(3).standard_normal((B, 1)).astype(dtype)
    return rc.prepare(experiment), np.zeros((T, B, 1), dtype=dtype), target
