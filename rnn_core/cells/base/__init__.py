"""What every recurrent cell is: a step forward, directly above its derivative, in a file of its own.

Inside the kernels a column is a sample: u, a, h are (rows, B). So code reads like the derivation in ``rnn_core/README.md``, and each
step is one well-shaped matrix product, ``W @ h``.

| file | holds |
|---|---|
| here | ``Cell``: what a new cell says, and what follows unless it says otherwise |
| ``rest.py`` | one step at rest, and its derivative |
| ``start.py`` | how the recurrent parameter is drawn |
| ``opaque.py`` | what the engine asks of a cell without equations, a user's own module |
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

from rnn_core import activations
from rnn_core.activations import Activation
from rnn_core.arrays import Array, Params, State, namespace
from rnn_core.cells.base import rest, start
from rnn_core.cells.base.opaque import BadStep, Hooks
from rnn_core.cells.base.start import NO_MATRIX
from rnn_core.choices import Registry, hints_at_arguments
from rnn_core.initializers import Draw
from rnn_core.scalars import as_python, is_integer, is_number

__all__ = ["NO_MATRIX", "BadStep", "Cell", "DiagonalCell", "blocks", "product", "step_and_leak"]


class Cell(Hooks, ABC):
    """Equations, no arrays. A cell has G gates of H units. W_hh is (G·H, H), and ``weight_hh`` is W_hh, or the numbers that it is made of.

    One step receives the input part u_t = W_ih x_t + b_ih, which is computed for many t in one product, and the state before
    it. It returns ``saved``, all that its backward step will need.

    Attributes:
        name: what settings and tables call the cell.
        gates: the names of the G blocks of rows of the weights, in torch.nn's order. ``phi`` acts on the "candidate"; the
            others are sigmoids.
        state_names: the parts of the state. The first is the one that the loss acts on: ``grad_hidden`` joins it, and
            ``hidden`` and ``log_norm`` are about it.
        options: the numbers that the constructor takes besides the activation.
        keeping_gate: the gate whose sigmoid multiplies the old state; None if there is none.
        writing_gate: the gate whose sigmoid multiplies the candidate, where that is another one. Without a keeping gate, 1 minus it keeps.
        leaves_rest: the law at rest is exact, and no network stays there: nothing is predicted by it.
        linear_matrix: for captions, what a step back multiplies by without an activation function, with its letters; empty if
            it is W_hh, or if a linear network has no such matrix.
        rest_matrices: of a cell that has none, for captions, what a step back multiplies by at rest: with zero biases, and with b_g in gate g.
        own_parameters: vectors (H,) that the cell has besides weights and biases.
        phi: the activation of the candidate, and of the LSTM's output.
        homogeneous: the step maps (c u_t, c b_hh, c h_{t-1}) to c h_t for every c > 0.
        outer_products: dL/d(weight_hh) is Σ_t dv_t h_{t-1}^T, for h_{t-1} or what ``factors`` names. What it is for another cell,
            ``recurrent_gradient`` says.
        has_matrix: a matrix W_hh multiplies the state before. Without one there is no ``weight_hh``, and v_t is b_hh.
        draws: of a cell whose W_hh has a form of its own, what each initializer draws: (rng, H) -> ``weight_hh``. None: any matrix.

    Raises:
        ValueError: the activation is not registered.
    """

    name: ClassVar[str]
    gates: ClassVar[tuple[str, ...]] = ("candidate",)
    state_names: ClassVar[tuple[str, ...]] = ("hidden",)
    options: ClassVar[tuple[str, ...]] = ()
    keeping_gate: ClassVar[str | None] = None
    writing_gate: ClassVar[str | None] = None
    leaves_rest: ClassVar[bool] = False
    linear_matrix: ClassVar[str] = ""
    rest_matrices: ClassVar[tuple[str, str] | None] = None
    own_parameters: ClassVar[tuple[str, ...]] = ()
    homogeneous: bool = False
    outer_products: ClassVar[bool] = True
    has_matrix: ClassVar[bool] = True
    draws: ClassVar[Registry[Draw] | None] = None

    def __init__(self, activation: str = "tanh") -> None:
        self.phi = activations.activation(activation)

    @abstractmethod
    def forward(self, params: Params, u: Array, state: State) -> tuple[State, Any]:
        """(state_t, saved) from u_t (G·H, B) and state_{t-1} (each (H, B))."""

    @abstractmethod
    def backward(self, params: Params, saved: Any, dstate: State) -> tuple[Array, Array, State]:
        """(du, dv, dstate_{t-1}) from the total dL/dstate_t.

        du = dL/du_t and dv = dL/dv_t, both (G·H, B), where v_t is the recurrent part W_hh h_{t-1} + b_hh; they differ
        only in cells that gate v_t.
        """

    @abstractmethod
    def nonlinearities(self, saved: Any) -> list[tuple[Activation, Array]]:
        """(function, what it acts on (H, B)) of every nonlinearity of a step; first those of the gates, in their order."""

    # ---- what follows from a step; a cell may say otherwise --------------------------------------------------------------

    def total(self, saved: Any, dstate: State) -> State:
        """dstate_t with what one part of the state sends to another within the step: an LSTM's c_t acts through h_t."""
        return dstate

    def back(
        self, params: Params, saved: Any, dstate: State, after: State | None = None
    ) -> tuple[State, Array, Array, State]:
        """(total dL/dstate_t, du, dv, dstate_{t-1}) from dL/dstate_t as the future and the loss of step t send it.

        ``after`` is what an opaque cell's step gave on the way forward: it must give the same when it is differentiated.
        """
        total = self.total(saved, dstate)
        return total, *self.backward(params, saved, total)

    def factors(self, saved: Any, h_prev: Array) -> list[Array]:
        """What the blocks of rows of W_hh are multiplied by in v_t, each (H, B), for blocks of equal height."""
        return [h_prev]

    def saved_from(self, rows: Array, before: State, after: State) -> Any:
        """``saved`` from the rows that compiled steps keep of it (…, rows, B), and the states before and after, each (…, H, B)."""
        return rows

    def slope(self, saved: Any) -> Array:
        """The slope of every gate's nonlinearity over its supremum, (G·H, B): saturation is read from it."""
        slopes = [phi.df(a) / phi.gamma for phi, a in self.nonlinearities(saved)[: len(self.gates)]]
        return slopes[0] if len(slopes) == 1 else namespace(slopes[0]).concat(slopes, axis=-2)

    def jacobian(self, W: np.ndarray, slopes: np.ndarray | float = 1.0) -> np.ndarray | None:
        """dh_t/dh_{t-1} (H, H) where phi'(a_t) is ``slopes``, (H,) or one number; None for a gated cell, which has more slopes."""
        return None

    def rest_jacobian(self, params: Params) -> np.ndarray | None:
        """ds_t/ds_{t-1} at zero state and zero input, or another matrix with the same nonzero eigenvalues, float64.

        None where rest is no fixed point, or where a nonlinearity has a kink there.

        Args:
            params: NumPy float64; ``weight_ih`` and the biases may be left out, and what the cell has of its own, which is then as drawn.
                A cell without ``weight_hh`` needs one of the others.

        Raises:
            ValueError: ``weight_hh`` is missing, or a shape does not fit the cell.
        """
        return rest.jacobian(self, params)

    def step_bound(self, sigma_max: float) -> float | None:
        """A bound on ‖dh_t/dh_{t-1}‖ from the largest singular value of W_hh; None where there is none."""
        return None

    @property
    def measured(self) -> tuple[str, ...]:
        """The parts whose gradient is looked at on its way back: the first; where that acts on no later step, also the first that does."""
        return self.state_names[:1]

    def state_shapes(self, params: Params) -> dict[str, tuple[int, ...]]:
        """The shape of every part of one sample's state."""
        if self.has_matrix:
            H = self.units_of(params["weight_hh"].shape)
        else:
            H = rest.units_of_rows(self, params["weight_ih"])
        return dict.fromkeys(self.state_names, (H,))

    # ---- what the recurrent parameter is ---------------------------------------------------------------------------------

    def recurrent_shape(self, hidden_size: int) -> tuple[int, ...]:
        """The shape of ``weight_hh``."""
        return len(self.gates) * hidden_size, hidden_size

    def units_of(self, shape: tuple[int, ...]) -> int:
        """H, from the shape of ``weight_hh``."""
        return int(shape[-1])

    @property
    def recurrent_letters(self) -> str:
        """The shape of ``weight_hh`` as messages have it: (4H, H)."""
        return "(H, H)" if len(self.gates) == 1 else f"({len(self.gates)}H, H)"

    def recurrent_matrix(self, weight_hh: Any) -> Any:
        """W_hh (G·H, H) from ``weight_hh``, NumPy."""
        return weight_hh

    def recurrent_gradient(self, params: Params, dv: Array, factor: Array) -> Array:
        """dL/d(weight_hh) of steps and samples side by side: dv (G·H, N), and what W_hh multiplies, (H, N)."""
        return dv @ factor.T

    # ---- parameters -----------------------------------------------------------------------------------------------------

    def own_start(self, hidden_size: int) -> dict[str, np.ndarray]:
        """``own_parameters`` before training."""
        return {}

    def own_gradients(self, saved: Any, total: State) -> dict[str, Array]:
        """What a step adds to the gradients of ``own_parameters``, by name, each (H, B); from the total dL/dstate_t."""
        return {}

    @hints_at_arguments
    def init_params(
        self,
        rng: np.random.Generator,
        input_size: int,
        hidden_size: int,
        initializer: str = "gaussian",
        spectral_radius: float | None = 1.0,
        input_scale: float = 1.0,
        bias: bool = True,
        *,
        weight_scale: float | None = None,
    ) -> Params:
        """Parameters with torch.nn's names, shapes and gate order, NumPy float64.

        The recurrent matrix of each gate has the given spectral radius, measured; or, with a ``weight_scale`` and a
        ``spectral_radius`` of None, entries of that standard deviation over √H. With neither it stays as drawn. Entries of
        ``weight_ih`` are normal with standard deviation input_scale/√D, so that inputs of unit variance give preactivations of
        variance input_scale². Biases are zero, or left out.

        Raises:
            ValueError: unknown initializer, a size below 1, a spectral radius or scale that is not positive and finite.
        """
        if not isinstance(rng, np.random.Generator):
            raise ValueError(f"rng: {rng!r} is not allowed; it must be a NumPy generator, np.random.default_rng(seed)")
        if not (is_integer(input_size) and input_size >= 1):
            raise ValueError(f"input_size: {input_size!r} is not allowed; it must be an integer of at least 1")
        if not (is_number(input_scale) and input_scale > 0.0):
            raise ValueError(f"input_scale: {input_scale!r} is not allowed; it must be a number above 0")
        input_size, hidden_size, input_scale = as_python(input_size), as_python(hidden_size), as_python(input_scale)
        recurrent = start.recurrent(self, rng, hidden_size, initializer, spectral_radius, weight_scale)
        rows = len(self.gates) * hidden_size
        params = {
            "weight_ih": rng.standard_normal((rows, input_size)) * (input_scale / np.sqrt(input_size)),
            **recurrent,
            **self.own_start(hidden_size),
        }
        return params | {"bias_ih": np.zeros(rows), "bias_hh": np.zeros(rows)} if bias else params

    def __repr__(self) -> str:
        """Python that makes the cell again."""
        numbers = "".join(f", {name}={getattr(self, name)!r}" for name in self.options)
        return f"{type(self).__name__}(activation={self.phi.name!r}{numbers})"


class DiagonalCell(Cell):
    """A cell whose W_hh is known by H numbers, ``weight_hh`` (H,): h_t = phi(a_t) with a_t = W_hh h_{t-1} + b_hh + u_t."""

    outer_products: ClassVar[bool] = False

    def __init__(self, activation: str = "tanh") -> None:
        super().__init__(activation)
        self.homogeneous = self.phi.homogeneous

    def recurrent_shape(self, hidden_size: int) -> tuple[int, ...]:
        return (hidden_size,)

    @property
    def recurrent_letters(self) -> str:
        return "(H,)"

    def nonlinearities(self, saved: Array) -> list[tuple[Activation, Array]]:
        return [(self.phi, saved)]

    def jacobian(self, W: np.ndarray, slopes: np.ndarray | float = 1.0) -> np.ndarray:
        return np.asarray(np.reshape(slopes, (-1, 1)) * W)

    def step_bound(self, sigma_max: float) -> float:
        return self.phi.gamma * sigma_max  # sigma_max is the largest modulus of an eigenvalue


def step_and_leak(step: float, leak: float) -> tuple[float, float]:
    """eta and lambda of h_t = (1 - lambda) h_{t-1} + eta phi(…).

    Raises:
        ValueError: eta is not above 0, or lambda not from 0 to 1.
    """
    if not (is_number(step) and step > 0.0):
        raise ValueError(f"step: {step!r} is not allowed; it must be a number above 0")
    if not (is_number(leak) and 0.0 <= leak <= 1.0):
        raise ValueError(f"leak: {leak!r} is not allowed; it must be a number from 0 to 1")
    return float(step), float(leak)


def product(params: Params, h: Array, rows: slice = slice(None)) -> Array:
    """W_hh h + b_hh, or some rows of it; without the bias where there is none."""
    v = params["weight_hh"][rows] @ h
    return v + params["bias_hh"][rows][:, None] if "bias_hh" in params else v


def blocks(rows: Array, height: int) -> list[Array]:
    """(…, n · height, B) as n blocks of rows, each (…, height, B), views."""
    return [rows[..., start : start + height, :] for start in range(0, rows.shape[-2], height)]
