"""Dynamic mean field by sampling: the growth rate of an infinitely wide network of any cell, with tied weights and memory.

Where every entry of W is N(0, sigma_w²/H), W x_t is a Gaussian process over t as H -> infinity, independent from unit to unit, with
    K(t, s) = sigma_w² E[x_t x_s].
W^T y_t on the way back is another, with a K of its own. W is the same at every step, and that is why K couples the steps. The processes
are sampled step by step, each step given those before it, for many single units; the averages E are over these units. So a cell runs its
own step and its own derivative, on a ``WideMatrix`` in the place of W. Derivation: rnn_core/README.md, section 4.3.

The theory that takes W for new at every step (Chen, Pennington & Schoenholz 2018; Gilboa et al. 2019) can be off by 0.14 a step for
a GRU, and in sign.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from rnn_core import gate_biases
from rnn_core.cells.base import Cell
from rnn_core.scalars import is_integer, is_number
from rnn_core.theory.growth import SETTLED_WITHIN

UNITS = 8000
STEPS = 200
SHORTEST = 40  # steps that are too few
LAGS = (
    0.2,
    0.7,
)  # of the steps: between these lags the slope is taken; before, the gradient turns, and after, the state settles
_FLOOR = 1e-10  # of a variance: what is left of it where a process is all but determined by its past


class DynamicRate(NamedTuple):
    """What sampling says.

    Attributes:
        rate: how ln of the root mean square of dL/dh_t changes per step back. -inf where it becomes exactly zero; nan where states
            leave the range of floats.
        error: its standard error, from the residuals of the slope's parts; the sample of units adds about as much.
        hidden_rms: root mean square of h_t at the middle of the lags.
        settled: it is the same at both ends of the lags, within 5 %. If it is not, the rate depends on the number of steps: so for a
            residual cell without a leak, whose state only ever grows.
    """

    rate: float
    error: float
    hidden_rms: float
    settled: bool


def dynamic_rate(
    cell: Cell,
    sigma_w2: float,
    sigma_u2: float,
    forget_bias: float = 0.0,
    *,
    chrono: int | None = None,
    units: int = UNITS,
    steps: int = STEPS,
    seed: int = 0,
) -> float:
    """The growth rate of an infinitely wide network, ln per step; arguments as for ``dynamic_mean_field``."""
    return dynamic_mean_field(
        cell, sigma_w2, sigma_u2, forget_bias, chrono=chrono, units=units, steps=steps, seed=seed
    ).rate


def dynamic_mean_field(
    cell: Cell,
    sigma_w2: float,
    sigma_u2: float,
    forget_bias: float = 0.0,
    *,
    chrono: int | None = None,
    units: int = UNITS,
    steps: int = STEPS,
    seed: int = 0,
) -> DynamicRate:
    """Sample forward from a zero state, then back from a gradient that knows nothing of the network.

    Without inputs a zero state would stay; then it starts from N(0, 1).

    Args:
        cell: any cell that multiplies by ``weight_hh`` and nothing else.
        sigma_w2: ‖W‖²_F / H of every gate.
        sigma_u2: variance of W_ih x_t over units and time, of every gate; x_t is white.
        forget_bias: bias of an LSTM's forget gate, or of a GRU's update gate z, which keeps the old state.
        chrono: T_max, instead of it: every unit draws a bias (``gate_biases.chrono``).
        units: how many are sampled. Three seconds for a GRU of 8000.
        steps: T.
        seed: of the sampling.

    Raises:
        ValueError: an argument is out of range, the cell is a ``TorchCell``, or ``forget_bias`` is given to a cell without such a gate.
    """
    _check(cell, sigma_w2, sigma_u2, forget_bias, chrono, units, steps, seed)
    rng = np.random.default_rng(seed)
    W = WideMatrix(float(sigma_w2), units, range(len(cell.gates)), steps, rng)
    params = {**cell.own_start(units), "weight_hh": W, "bias_hh": _bias(cell, units, float(forget_bias), chrono, rng)}
    start = rng.standard_normal((units, 1)) if sigma_u2 == 0.0 else np.zeros((units, 1))
    state = {name: start.copy() for name in cell.state_names}
    kept, rms = [], []
    for _ in range(steps):
        u = math.sqrt(sigma_u2) * rng.standard_normal((len(cell.gates) * units, 1))
        with np.errstate(over="ignore", invalid="ignore"):
            state, saved = cell.forward(params, u, state)
            rms.append(float(np.sqrt(np.mean(state["hidden"] ** 2))))
        if not math.isfinite(rms[-1]):  # states grow without limit
            return DynamicRate(math.nan, math.nan, math.inf, False)
        kept.append(saved)
    W.processes.clear()  # what the way forward has drawn is in ``kept``
    return _slope(_back(cell, params, kept, units, rng), rms)


def _back(cell: Cell, params: dict[str, Any], kept: list[Any], units: int, rng: np.random.Generator) -> np.ndarray:
    """ln of the root mean square of dL/dh_t, t = 1 … T. The gradient is brought to size 1 at every step."""
    T = len(kept)
    dstate = {name: np.zeros((units, 1)) for name in cell.state_names}
    dstate["hidden"] = rng.standard_normal((units, 1))
    log_rms, log_scale = np.full(T, -math.inf), 0.0
    for t in range(T - 1, -1, -1):
        size = math.sqrt(sum(float(np.mean(part**2)) for part in dstate.values()))
        if not size > 0.0:
            break
        log_scale += math.log(size)
        dstate = {name: part / size for name, part in dstate.items()}
        hidden = float(np.mean(dstate["hidden"] ** 2))
        log_rms[t] = log_scale + 0.5 * math.log(hidden) if hidden > 0.0 else -math.inf
        _, _, dstate = cell.backward(params, kept[t], cell.total(kept[t], dstate))
    return log_rms


def _slope(log_rms: np.ndarray, rms: list[float]) -> DynamicRate:
    """Between the lags, with the error that its four quarters tell."""
    T = len(log_rms)
    first, last = (round(share * T) for share in LAGS)
    lags = np.linspace(first, last, 5).round().astype(int)
    at, size = log_rms[T - 1 - lags], np.array(rms)[T - 1 - lags]
    middle, settled = float(size[2]), bool(np.abs(size - size[2]).max() <= SETTLED_WITHIN * size[2])
    if not np.isfinite(at).all():  # it becomes exactly zero
        return DynamicRate(-math.inf, math.nan, middle, settled)
    quarters = np.diff(at) / np.diff(lags)
    rate = float((at[-1] - at[0]) / (lags[-1] - lags[0]))
    return DynamicRate(rate, float(quarters.std(ddof=1) / 2.0), middle, settled)


def _check(
    cell: Cell,
    sigma_w2: float,
    sigma_u2: float,
    forget_bias: float,
    chrono: int | None,
    units: int,
    steps: int,
    seed: int,
) -> None:
    if not isinstance(cell, Cell):
        given = f"the class {cell.__name__}" if isinstance(cell, type) else type(cell).__name__
        raise ValueError(f"cell: {given} is not allowed; it must be a cell, such as rc.GRUCell()")
    if cell.opaque or not cell.outer_products:
        raise ValueError(
            f"cell: {cell.name!r} is not allowed; only a cell that multiplies by weight_hh, any matrix, has such a theory"
        )
    for name, number in (("sigma_w2", sigma_w2), ("sigma_u2", sigma_u2)):
        if not (is_number(number) and number >= 0.0):
            raise ValueError(f"{name}: {number!r} is not allowed; it must be a number of at least 0")
    if not is_number(forget_bias):
        raise ValueError(f"forget_bias: {forget_bias!r} is not allowed; it must be a number")
    for name, given in (("forget_bias", forget_bias or None), ("chrono", chrono)):
        if given is not None and cell.keeping_gate is None:
            raise ValueError(
                f"{name}: {given!r} is not allowed; the cell {cell.name!r} has no gate that keeps its state"
            )
    if chrono is not None and not (is_integer(chrono) and chrono >= 3 and forget_bias == 0.0):
        raise ValueError(
            f"chrono: {chrono!r} is not allowed; it must be an integer of at least 3, without a forget_bias"
        )
    for name, number, least in (("units", units, 2), ("steps", steps, SHORTEST), ("seed", seed, 0)):
        if not (is_integer(number) and number >= least):
            raise ValueError(f"{name}: {number!r} is not allowed; it must be an integer of at least {least}")


def _bias(cell: Cell, units: int, forget_bias: float, chrono: int | None, rng: np.random.Generator) -> np.ndarray:
    """(G · units,)."""
    if chrono is not None:
        return gate_biases.chrono(cell, rng, units, int(chrono))
    return gate_biases.uniform(cell, units, forget_bias)


class WideMatrix:
    """Stands for W_hh (G · H, H) of an infinitely wide network: its products are sampled from their law.

    ``W @ x``, ``W[rows] @ x``, ``W.T @ y`` and ``W[rows].T @ y`` are what cells ask for. Each is the next step of a process of its own.

    Args:
        sigma_w2: ‖W‖²_F / H of every block.
        units: H, of those that are sampled.
        blocks: which of the G blocks of rows this is.
        steps: the most that a process takes.
        processes: those that views of one matrix share.
    """

    def __init__(
        self,
        sigma_w2: float,
        units: int,
        blocks: range,
        steps: int,
        rng: np.random.Generator,
        processes: dict[tuple[str, range], _Process] | None = None,
        way: str = "forward",
    ) -> None:
        self.sigma_w2, self.units, self.blocks, self.steps, self.rng, self.way = (
            sigma_w2,
            units,
            blocks,
            steps,
            rng,
            way,
        )
        self.processes = {} if processes is None else processes

    def __getitem__(self, rows: slice) -> WideMatrix:
        """Some blocks of rows."""
        start, stop, _ = rows.indices(len(self.blocks) * self.units)
        return self._view(self.blocks[start // self.units : stop // self.units], self.way)

    @property
    def T(self) -> WideMatrix:
        """Its transpose, for the way back."""
        return self._view(self.blocks, "back")

    def _view(self, blocks: range, way: str) -> WideMatrix:
        return WideMatrix(self.sigma_w2, self.units, blocks, self.steps, self.rng, self.processes, way)

    def __matmul__(self, vector: np.ndarray) -> np.ndarray:
        """The product with a column: (blocks · units, 1) on the way forward, (units, 1) on the way back."""
        key = (self.way, self.blocks)
        if key not in self.processes:
            size = self.units * (len(self.blocks) if self.way == "forward" else 1)
            self.processes[key] = _Process(self.sigma_w2 / self.units, len(vector), size, self.steps, self.rng)
        return self.processes[key].step(vector[:, 0])[:, None]


class _Process:
    """A Gaussian process, independent from entry to entry, with covariance ``factor`` · x_t · x_s over steps; sampled step by step.

    With the Cholesky factor L of the correlations x_t · x_s/(‖x_t‖ ‖x_s‖) it is √factor ‖x_t‖ times a row of L times normal numbers. A new
    step adds a row to L. Correlations know no scale, so that the x of different steps may come in different ones.
    """

    def __init__(self, factor: float, inputs: int, size: int, steps: int, rng: np.random.Generator) -> None:
        self.factor, self.rng, self.taken = factor, rng, 0
        self.x = np.empty((steps, inputs))
        self.normal = np.empty((steps, size))
        self.L = np.zeros((steps, steps))

    def step(self, x: np.ndarray) -> np.ndarray:
        from scipy.linalg import solve_triangular  # takes a while to load

        norm, n = float(np.linalg.norm(x)), self.taken
        if norm == 0.0:
            return np.zeros(self.normal.shape[1])
        self.x[n] = x / norm
        if n:
            self.L[n, :n] = solve_triangular(self.L[:n, :n], self.x[:n] @ self.x[n], lower=True, check_finite=False)
        self.L[n, n] = math.sqrt(max(1.0 - float((self.L[n, :n] ** 2).sum()), _FLOOR))
        self.normal[n] = self.rng.standard_normal(self.normal.shape[1])
        self.taken = n + 1
        return np.asarray(math.sqrt(self.factor) * norm * (self.L[n, : n + 1] @ self.normal[: n + 1]))
