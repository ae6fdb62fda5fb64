"""Shared by the tests of rnn_core: random cases, and programs that compute the same gradients in another way.

Nothing here uses rnn_core's backward pass, its scaling or its comparator.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.tape import segment_length

LIBRARIES = ("numpy", "torch")
DTYPES = ("float64", "float32")
EPS = {"float64": 2.0**-52, "float32": 2.0**-23}
LOG10_2 = math.log10(2.0)

# The same examples every time, so that the same commit gives the same verdict; no deadline on a shared machine.
quick = settings(
    max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
thorough = settings(quick, max_examples=80)  # for tests that cost microseconds

# torch's own functions, for the programs below. Where units saturate torch's derivatives cancel, so cases keep |a| moderate.
TORCH_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": lambda a: a,
    "relu": torch.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": torch.selu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": lambda a: functional.softplus(a, threshold=50.0),
    "softsign": functional.softsign,
    "hard_tanh": functional.hardtanh,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def array(values: Any, library: str = "numpy", dtype: str = "float64") -> Any:
    """``values`` as an array of ``library``."""
    plain = np.asarray(values, dtype=dtype)
    return plain if library == "numpy" else torch.as_tensor(plain.copy())


@dataclass(frozen=True)
class Case:
    """A vanilla network with everything that ``forward`` and ``backward`` take; NumPy float64."""

    params: dict[str, np.ndarray]
    x: np.ndarray
    grad_hidden: np.ndarray
    state: dict[str, np.ndarray] | None
    grad_state: dict[str, np.ndarray] | None

    def to(self, library: str, dtype: str = "float64") -> Case:
        """The same case in another library and dtype."""

        def dictionary(d: dict[str, np.ndarray] | None) -> dict[str, Any] | None:
            return None if d is None else {name: array(value, library, dtype) for name, value in d.items()}

        return Case(
            dictionary(self.params) or {},
            array(self.x, library, dtype),
            array(self.grad_hidden, library, dtype),
            dictionary(self.state),
            dictionary(self.grad_state),
        )

    def run(self, activation: str) -> tuple[rc.Tape, rc.Gradients]:
        """The engine's answer."""
        tape = rc.forward(rc.VanillaCell(activation), self.params, self.x, self.state)
        return tape, rc.backward(tape, self.grad_hidden, self.grad_state)


def draw_case(
    seed: int, T: int, B: int, D: int, H: int, loss_at: str = "every", with_state: bool = False, gain: float = 1.0
) -> Case:
    """Normal weights (recurrent ones of standard deviation gain/√H), biases that are not zero, normal inputs."""
    rng = np.random.default_rng(seed)
    params = {
        "weight_ih": rng.standard_normal((H, D)) / np.sqrt(D),
        "weight_hh": gain * rng.standard_normal((H, H)) / np.sqrt(H),
        "bias_ih": 0.3 * rng.standard_normal(H),
        "bias_hh": 0.3 * rng.standard_normal(H),
    }
    x, grad_hidden = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, H))
    if loss_at == "last":
        grad_hidden[:-1] = 0.0
    state = {"hidden": rng.standard_normal((B, H))} if with_state else None
    grad_state = {"hidden": rng.standard_normal((B, H))} if with_state else None
    return Case(params, x, grad_hidden, state, grad_state)


def cases(max_steps: int = 9) -> st.SearchStrategy[Case]:
    """Networks of every small shape, with and without an initial state, with a loss at every step or at the last."""
    return st.builds(
        draw_case,
        seed=st.integers(0, 2**32 - 1),
        T=st.integers(1, max_steps),
        B=st.integers(1, 4),
        D=st.integers(1, 3),
        H=st.integers(1, 6),
        loss_at=st.sampled_from(["every", "last"]),
        with_state=st.booleans(),
        gain=st.sampled_from([0.5, 1.0, 1.5]),
    )


@dataclass(frozen=True)
class Program:
    """What another program found: states h_t, total dL/dh_t, and the gradients by name."""

    hidden: np.ndarray
    grad_hidden: np.ndarray
    params: dict[str, np.ndarray]
    x: np.ndarray
    state: np.ndarray


def autograd_program(activation: str, case: Case) -> Program:
    """A plain loop over torch tensors, differentiated by torch.autograd in one go."""
    phi = TORCH_FUNCTIONS[activation]
    p = {name: torch.tensor(value, requires_grad=True) for name, value in case.params.items()}
    x = torch.tensor(case.x, requires_grad=True)
    B = case.x.shape[1]
    H = case.params["weight_hh"].shape[0]
    h0 = torch.tensor(case.state["hidden"] if case.state else np.zeros((B, H)), requires_grad=True)
    h, states = h0, []
    for x_t in x.unbind(0):
        h = phi(x_t @ p["weight_ih"].T + p["bias_ih"] + h @ p["weight_hh"].T + p["bias_hh"])
        h.retain_grad()
        states.append(h)
    loss = (torch.stack(states) * torch.tensor(case.grad_hidden)).sum()
    if case.grad_state:
        loss = loss + (h * torch.tensor(case.grad_state["hidden"])).sum()
    loss.backward()

    def grad(tensor: Tensor) -> np.ndarray:
        return np.zeros(tuple(tensor.shape)) if tensor.grad is None else tensor.grad.numpy()

    return Program(
        np.stack([s.detach().numpy() for s in states]),
        np.stack([grad(s) for s in states]),
        {name: grad(value) for name, value in p.items()},
        grad(x),
        grad(h0),
    )


def samples(whole: Any) -> Iterator[Any]:
    """A ``Case`` or a ``Network`` of every sample of the batch by itself."""

    def row(parts: dict[str, Any] | None, b: int) -> dict[str, Any] | None:
        return parts and {name: value[b : b + 1] for name, value in parts.items()}

    for b in range(whole.x.shape[1]):
        here = slice(b, b + 1)
        yield replace(
            whole,
            x=whole.x[:, here],
            grad_hidden=whole.grad_hidden[:, here],
            state=row(whole.state, b),
            grad_state=row(whole.grad_state, b),
        )


def states_before(tape: rc.Tape) -> np.ndarray:
    """h_0 … h_{T-1} of a tape that starts from zero, samples as columns, (T, H, B)."""
    hidden = np.asarray(tape.hidden).transpose(0, 2, 1)
    return np.concatenate([np.zeros_like(hidden[:1]), hidden[:-1]])


def plain_pass(tape: rc.Tape, grad_hidden: np.ndarray) -> Program:
    """The delta recursion with no exponent carried apart, as a textbook writes it (NumPy, vanilla cell), from h_0 = 0.

    Sums over time are taken in the engine's order: piece by piece, the last piece first.
    """
    assert isinstance(tape.cell, rc.VanillaCell)
    W, phi, h_prev = tape.params["weight_hh"], tape.cell.phi, states_before(tape)
    T, B, H = grad_hidden.shape
    dh_next, dh, da = np.zeros((H, B), dtype=grad_hidden.dtype), [], []
    for t in reversed(range(T)):
        dh_t = dh_next + grad_hidden[t].T
        da_t = phi.df(tape.saved[t]) * dh_t
        dh_next = W.T @ da_t
        dh.append(dh_t)
        da.append(da_t)
    da_all, x = np.stack(da[::-1]), tape.x.transpose(0, 2, 1)
    length = segment_length(T)
    pieces = [slice(start, start + length) for start in reversed(range(0, T, length))]

    def summed(factor: np.ndarray) -> np.ndarray:
        return functools.reduce(np.add, [np.tensordot(da_all[p], factor[p], axes=((0, 2), (0, 2))) for p in pieces])

    bias = functools.reduce(np.add, [np.sum(da_all[p], axis=(0, 2)) for p in pieces])
    return Program(
        np.asarray(tape.hidden),
        np.stack(dh[::-1]).transpose(0, 2, 1),
        {"weight_ih": summed(x), "weight_hh": summed(h_prev), "bias_ih": bias, "bias_hh": bias},
        (tape.params["weight_ih"].T @ da_all).transpose(0, 2, 1),
        dh_next.T,
    )


def relative(ours: Any, reference: Any) -> float:
    """‖ours - reference‖ / ‖reference‖ of plain arrays; 0 where both are zero, inf where only the reference is."""
    a, b = to_numpy(ours).astype(np.float64), to_numpy(reference).astype(np.float64)
    assert a.shape == b.shape
    size, difference = float(np.linalg.norm(b)), float(np.linalg.norm(a - b))
    return difference / size if size else (0.0 if difference == 0.0 else math.inf)


def worst_relative(ours: Any, reference: Any) -> float:
    """The largest ``relative`` over the leading index, time."""
    return max(relative(ours[t], reference[t]) for t in range(len(reference)))


def assert_agrees(gradients: rc.Gradients, tape: rc.Tape, program: Program, limit: float) -> None:
    """Every result of the engine within ``limit`` of the program's, relative, per time step, with no absolute tolerance."""
    errors = {
        "states": worst_relative(tape.hidden, program.hidden),
        "dL/dh": worst_relative(gradients.hidden, program.grad_hidden),
        "dL/dx": worst_relative(gradients.x, program.x),
        "dL/dh_0": relative(gradients.state["hidden"], program.state),
        **{name: relative(gradients.params[name], value) for name, value in program.params.items()},
    }
    assert set(gradients.params) == set(program.params)
    assert max(errors.values()) <= limit, errors


def exact(x: Any) -> list[Fraction]:
    """The entries of a plain or scaled array as exact rational numbers, flat."""
    if not isinstance(x, rc.Scaled):
        return [Fraction(float(v)) for v in to_numpy(x).reshape(-1)]
    mantissa = to_numpy(x.mantissa)
    if isinstance(x.exponent, int):
        return [Fraction(float(v)) * Fraction(2) ** x.exponent for v in mantissa.reshape(-1)]
    rows = zip(mantissa, x.exponent, strict=True)
    return [Fraction(float(v)) * Fraction(2) ** int(e) for row, e in rows for v in np.asarray(row).reshape(-1)]


def with_params(problem: rc.Problem, **changes: np.ndarray) -> rc.Problem:
    """``problem`` with some parameters replaced."""
    return replace(problem, params={**problem.params, **changes})


def with_biases(problem: rc.Problem, seed: int = 7) -> rc.Problem:
    """``problem`` with biases that are not zero: a bias that is zero hides what is done to it."""
    rng = np.random.default_rng(seed)
    names = [name for name in problem.params if name.startswith("bias")]
    return with_params(problem, **{n: 0.3 * rng.standard_normal(problem.params[n].shape) for n in names})


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


# ---- every cell --------------------------------------------------------------------------------------------------------

BIASES = {"both": ("bias_ih", "bias_hh"), "none": (), "ih": ("bias_ih",), "hh": ("bias_hh",)}
OPTIONS = {"residual": {"step": 0.7, "leak": 0.2}}  # numbers that none of the cell's terms can hide behind


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


def draw_network(
    cell: str,
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
    """As ``draw_case``, for any cell. All numbers are float32's, so that a float32 run starts from the same ones."""
    rng = np.random.default_rng(seed)
    made = rc.CELLS[cell](activation, **(options or OPTIONS.get(cell, {})))
    rows = made.gates * H

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32).astype(np.float64)

    def rounded(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32).astype(np.float64)

    params = {
        "weight_ih": rounded(normal(rows, D) / np.sqrt(D)),
        "weight_hh": rounded(gain * normal(rows, H) / np.sqrt(H)),
        **{name: rounded(0.3 * normal(rows)) for name in BIASES[biases]},
    }
    x, grad_hidden = normal(T, B, D), normal(T, B, H)
    if loss_at == "last":
        grad_hidden[:-1] = 0.0
    state, grad_state = ({name: normal(B, H) for name in made.state_names} if with_state else None for _ in range(2))
    return Network(made, params, x, grad_hidden, state, grad_state)


def networks(cell: str, activation: str = "tanh", max_steps: int = 7) -> st.SearchStrategy[Network]:
    """Networks of one cell of every small shape, with all, some and no biases, with and without an initial state."""
    residual = {"step": st.sampled_from([0.1, 0.7, 1.0]), "leak": st.sampled_from([0.0, 0.2, 1.0])}
    return st.builds(
        draw_network,
        cell=st.just(cell),
        activation=st.just(activation),
        seed=st.integers(0, 2**32 - 1),
        T=st.integers(1, max_steps),
        B=st.integers(1, 3),
        D=st.integers(1, 3),
        H=st.integers(1, 4),
        biases=st.sampled_from(list(BIASES)),
        loss_at=st.sampled_from(["every", "last"]),
        with_state=st.booleans(),
        gain=st.sampled_from([0.5, 1.0, 1.5]),
        **(residual if cell == "residual" else {}),
    )


TORCH_STEPS = ("vanilla", "residual", "gru", "gru_reset_before", "lstm")  # that torch_step knows


def torch_step(
    cell: rc.Cell, phi: Callable[[Tensor], Tensor], p: dict[str, Tensor], x: Tensor, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """One step of any cell as its papers write it, gate by gate."""
    h = state["hidden"]
    H = h.shape[1]

    def part(which: str, gate: int, factor: Tensor) -> Tensor:
        """One gate's share of the input (``ih``) or of the state (``hh``)."""
        rows = slice(gate * H, (gate + 1) * H)
        product = factor @ p[f"weight_{which}"][rows].T
        return product + p[f"bias_{which}"][rows] if f"bias_{which}" in p else product

    def both(gate: int) -> Tensor:
        return part("ih", gate, x) + part("hh", gate, h)

    if cell.name == "vanilla":
        return {"hidden": phi(both(0))}
    if cell.name == "residual":
        assert isinstance(cell, rc.ResidualCell)
        return {"hidden": h - cell.leak * h + cell.step * phi(both(0))}
    if cell.name == "lstm":
        c = torch.sigmoid(both(1)) * state["cell"] + torch.sigmoid(both(0)) * phi(both(2))
        return {"hidden": torch.sigmoid(both(3)) * phi(c), "cell": c}
    assert cell.name in TORCH_STEPS, f"{cell.name}: write its equations here"
    r, z = torch.sigmoid(both(0)), torch.sigmoid(both(1))
    v_n = part("hh", 2, r * h) if cell.name == "gru_reset_before" else r * part("hh", 2, h)
    n = phi(part("ih", 2, x) + v_n)
    return {"hidden": n + z * (h - n)}


@dataclass(frozen=True)
class NetworkProgram:
    """What another program found: by name the states and the total dL/dstate_t, (T, B, H), and all gradients."""

    states: dict[str, np.ndarray]
    totals: dict[str, np.ndarray]
    params: dict[str, np.ndarray]
    x: np.ndarray
    initial: dict[str, np.ndarray]


def network_program(network: Network) -> NetworkProgram:
    """A plain loop over torch tensors in float64, differentiated by torch.autograd in one go."""
    phi = TORCH_FUNCTIONS[network.cell.phi.name]
    p = {name: torch.tensor(value, requires_grad=True) for name, value in network.params.items()}
    x = torch.tensor(network.x, requires_grad=True)
    start = {name: torch.tensor(value, requires_grad=True) for name, value in network.initial().items()}
    state, history = start, []
    for x_t in x.unbind(0):
        state = torch_step(network.cell, phi, p, x_t, state)
        for part in state.values():
            part.retain_grad()
        history.append(state)
    loss = (torch.stack([s["hidden"] for s in history]) * torch.tensor(network.grad_hidden)).sum()
    for name, value in network.initial("grad_state").items():
        loss = loss + (state[name] * torch.tensor(value)).sum()
    loss.backward()

    def grad(tensor: Tensor) -> np.ndarray:
        return np.zeros(tuple(tensor.shape)) if tensor.grad is None else tensor.grad.numpy()

    return NetworkProgram(
        {name: np.stack([s[name].detach().numpy() for s in history]) for name in start},
        {name: np.stack([grad(s[name]) for s in history]) for name in start},
        {name: grad(value) for name, value in p.items()},
        grad(x),
        {name: grad(value) for name, value in start.items()},
    )


def log_norm_error(ours: np.ndarray, gradients: np.ndarray) -> float:
    """The largest relative error of norms given by their logarithms; inf where only one of two norms is zero."""
    norms = np.linalg.norm(gradients.reshape(len(gradients), -1), axis=1)
    errors = [
        abs(math.expm1(o - math.log(n))) if n else math.inf
        for o, n in zip(ours, norms, strict=True)
        if n or o != -math.inf
    ]
    return max(errors, default=0.0)


def network_errors(tape: rc.Tape, gradients: rc.Gradients, program: NetworkProgram) -> dict[str, float]:
    """The relative error of every result of the engine, the worst time step's, with no absolute tolerance."""
    assert set(gradients.params) == set(program.params)
    assert set(tape.state) == set(gradients.state) == set(program.initial)
    assert (gradients.cell is None) == (gradients.log_norm_cell is None) == ("cell" not in program.totals)
    errors = {name: relative(gradients.params[name], value) for name, value in program.params.items()}
    errors["x"] = worst_relative(gradients.x, program.x)
    errors["states"] = worst_relative(tape.hidden, program.states["hidden"])
    for name, total in program.totals.items():
        log_norm = gradients.log_norm if name == "hidden" else gradients.log_norm_cell
        assert log_norm is not None
        errors[f"states {name}"] = worst_relative(tape.states(name), program.states[name])
        errors[f"final {name}"] = relative(tape.state[name], program.states[name][-1])
        errors[f"dL/d{name}"] = worst_relative(getattr(gradients, name), total)
        errors[f"log_norm {name}"] = log_norm_error(log_norm, total)
        errors[f"initial {name}"] = relative(gradients.state[name], program.initial[name])
    return errors


def assert_network_agrees(tape: rc.Tape, gradients: rc.Gradients, program: NetworkProgram, limit: float) -> None:
    errors = network_errors(tape, gradients, program)
    assert max(errors.values()) <= limit, errors
