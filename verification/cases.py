"""The cases of ``make verify``: small networks whose gradients do vanish, stay or explode, each drawn from its own name.

A draw has its recurrent weights scaled until the gradient's growth is that of the regime. Units of a bounded activation are held
near rest by their inputs, or else they would saturate and stop growing.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import rnn_core as rc
from rnn_core.arrays import Array, Params, place
from rnn_core.bptt import name_in_layer
from rnn_core.theory import growth

HIDDEN, INPUTS, BATCH = 5, 3, 2
# Inputs where they hold the units: at least as many as units, and not as many, lest a transposition go unseen.
HOLDING = 6
REGIMES = ("vanishing", "critical", "exploding")
LOSS_AT = ("last", "every")
LENGTHS = (1, 2, 7, 100, 1000)
STACKS = (2, 3)  # layers, of every cell
STACK_LENGTHS, STACK_ACTIVATIONS = (2, 7, 100), ("tanh", "relu")
OFFSETS = (1.0, -1.5)  # biases of the sigmoid gates, in turn: one more open than at rest, the next more shut
# Steps over which growth is measured, at least: over fewer it is that of the first steps, not of the regime.
HORIZON = 100
LONG = 100  # longer sequences grow so far that their size has to be thought of
DRAWS, TRIES = 12, 6  # networks drawn, and strengths tried for each, before the nearest to the regime is taken
# Rate of growth (ln per step) that is aimed at, and how near is near enough.
AIM = {"vanishing": (-0.8, 0.15), "critical": (0.0, 0.03), "exploding": (0.75, 0.15)}
# Explosion over a long sequence of a cell whose states cannot be scaled: e^250 squared is still finite.
MILD = (0.25, 0.08)
MOST_KEPT = 0.995  # of the state, by a gate at rest
# The rates that make a regime real.
REAL = {"vanishing": (-math.inf, -0.1), "critical": (-0.1, 0.1), "exploding": (0.1, math.inf)}
# Inputs and biases of a scalable cell that explodes for long: its states then end near 1e+130, not at infinity.
TINY = 1e-200


@dataclass(frozen=True)
class Case:
    """One point of the matrix: everything that is drawn follows from its name and the seed."""

    cell: str
    activation: str
    regime: str
    sequence_length: int
    loss_at: str
    seed: int = 0
    layers: int = 1

    @property
    def name(self) -> str:
        layers = f", {self.layers} layers" if self.layers > 1 else ""
        return (
            f"{self.cell}, {self.activation}, {self.regime}, T = {self.sequence_length}, loss at {self.loss_at}{layers}"
        )

    def rng(self) -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}: {self.name}".encode()).digest()
        return np.random.default_rng(list(digest[:16]))


@dataclass(frozen=True)
class Network:
    """A case with its arrays, on a device.

    Attributes:
        growth_rate: mean change of ln ‖dL/dh_t‖ per step back over at least ``HORIZON`` steps, the last step's loss alone.
    """

    problem: rc.Problem
    x: Array
    target: Array
    growth_rate: float


def regimes_of(cell: str) -> tuple[str, ...]:
    """Those that a cell can be brought to by the strength of its weights.

    An antisymmetric cell adds to its state, and with a small diffusion it forgets nothing: its gradients do not vanish. Layer
    normalisation undoes the strength of weights, and few of its networks explode. No step of a minGRU makes a gradient longer.
    """
    missing = (("antisymmetric", "vanishing"), ("layer_norm", "exploding"), ("mingru", "exploding"))
    return tuple(each for each in REGIMES if (cell, each) not in missing)


def all_cases(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Iterator[Case]:
    """The full matrix."""
    for T in sorted(lengths, reverse=True):  # the longest first, so that no process ends alone with one of them
        for cell in rc.CELLS:
            for activation in rc.ACTIVATIONS:
                for regime in regimes_of(cell):
                    for loss_at in LOSS_AT:
                        yield Case(cell, activation, regime, T, loss_at, seed)
                        if (
                            T in STACK_LENGTHS
                            and activation in STACK_ACTIVATIONS
                            and _can_be_stacked(activation, regime)
                        ):
                            yield from (Case(cell, activation, regime, T, loss_at, seed, layers) for layers in STACKS)


def _can_be_stacked(activation: str, regime: str) -> bool:
    """Inputs that hold the units of a bounded activation, so that their gradient explodes, are no states of a layer below."""
    return not (rc.ACTIVATIONS[activation].bounded and regime == "exploding")


def network_of(case: Case, device: str = "cpu") -> Network:
    """The network of a case: the first draw that is in its regime, or the nearest of several; of a stack so for every layer.

    Raises:
        RuntimeError: no draw had a finite loss and gradients that are not zero.
    """
    network = _stack(case) if case.layers > 1 else _single(case)
    return _placed(replace(network, x=network.x[: case.sequence_length]), device)


def _single(case: Case) -> Network:
    """One layer, with inputs over at least the horizon."""
    rng, best, nearest = case.rng(), None, math.inf
    (aim, near), blank = _aim(case), rc.prepare(_experiment(case))
    for _ in range(DRAWS):
        base, x, target = _draw(case, rng)
        problem, x, rate = _strengthened(case, replace(blank, params=base), x, aim, near)
        off = abs(rate - aim) + (0.0 if is_real(case.regime, rate) else 100.0)
        if off < nearest and _usable(problem, x[: case.sequence_length], target):
            best, nearest = Network(problem, x, target, rate), off
        if nearest <= 2 * near:
            break
    if best is None:
        raise RuntimeError(f"{case.name}: no network of this regime was found in {DRAWS} draws")
    return best


def _stack(case: Case) -> Network:
    """A single layer, and on it as many as are wanted: each is drawn and brought to the regime as it sees the states below it."""
    rng, (aim, near), base = case.rng(), _aim(case), _single(replace(case, layers=1))
    problem, x = base.problem, base.x
    params, below = {name: value for name, value in problem.params.items() if not name.endswith("_ho")}, x
    for layer in range(1, case.layers):
        below = rc.forward(problem.cell, problem.params, below).hidden
        tried: list[tuple[float, int, rc.Problem, float, np.ndarray]] = []
        for _ in range(DRAWS):
            drawn, _, target = _draw(case, rng)
            layer_alone, _, rate = _strengthened(case, replace(problem, params=drawn), below, aim, near)
            tried.append((abs(rate - aim) if math.isfinite(rate) else math.inf, len(tried), layer_alone, rate, target))
            if tried[-1][0] <= 2 * near:
                break
        _, _, problem, rate, target = min(tried)
        own = {name: value for name, value in problem.params.items() if not name.endswith("_ho")}
        params |= {name_in_layer(name, layer): value for name, value in own.items()}
    readout = {name: value for name, value in problem.params.items() if name.endswith("_ho")}
    experiment = replace(base.problem.experiment, layers=case.layers)
    whole = replace(base.problem, experiment=experiment, params=params | readout)
    if not _usable(whole, x[: case.sequence_length], target):
        raise RuntimeError(f"{case.name}: no stack of this regime was found in {DRAWS} draws a layer")
    return Network(whole, x, target, rate)


def is_real(regime: str, rate: float) -> bool:
    """Whether a measured growth rate is that of the regime."""
    low, high = REAL[regime]
    return low < rate < high


def growth_rate(problem: rc.Problem, x: np.ndarray) -> float:
    """The growth of the last step's gradient on its way back over all of x; -inf where it is zero, nan where not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        tape = rc.forward(problem.cell, problem.params, x)
        signal: dict[str, Any] = {"hidden": np.tile(problem.params["weight_ho"], (BATCH, 1))}
        return growth(rc.backward(tape, grad_state=signal).log_norm).rate


def _experiment(case: Case) -> rc.Experiment:
    """Residual cells take a leak where they must forget, and a small step where they should neither forget nor grow."""
    options: dict[str, Any] = {}
    if case.cell == "residual":
        options = {"residual_leak": 0.0, "residual_step": 0.05} if case.regime == "critical" else {"residual_leak": 0.6}
    if case.cell == "antisymmetric":
        options = {"antisymmetric_step": 0.05 if case.regime == "critical" else 0.6, "antisymmetric_diffusion": 0.1}
    return rc.Experiment(
        task="white_noise",
        cell=case.cell,
        activation=case.activation,
        hidden_size=HIDDEN,
        input_size=_input_size(case),
        batch_size=BATCH,
        sequence_length=case.sequence_length,
        loss_at=case.loss_at,
        **options,
    )


def _scalable(case: Case) -> bool:
    """Whether states scale with inputs and biases, so that small ones keep them in range."""
    return rc.CELLS[case.cell](case.activation).homogeneous


def _aim(case: Case) -> tuple[float, float]:
    """(rate, how near is near enough)."""
    mild = case.regime == "exploding" and case.sequence_length > LONG and not _scalable(case)
    return MILD if mild else AIM[case.regime]


def _is_held(case: Case) -> bool:
    """Whether the inputs hold the units where they were drawn: those of a bounded activation would saturate otherwise.

    The inputs of a layer on another one are that one's states, which nobody chooses.
    """
    return case.layers == 1 and rc.ACTIVATIONS[case.activation].bounded and case.regime != "vanishing"


def _input_size(case: Case) -> int:
    """Of a single layer; of several that of every layer but the first."""
    return HIDDEN if case.layers > 1 else HOLDING if _is_held(case) else INPUTS


def _draw(case: Case, rng: np.random.Generator) -> tuple[Params, np.ndarray, np.ndarray]:
    """(parameters of strength 1, x over at least the horizon, target); no bias is zero.

    Where the inputs are to hold the units, x are the preactivations to hold, (steps, B, H).
    """
    gates, H, T, held = rc.CELLS[case.cell].gates, HIDDEN, case.sequence_length, _is_held(case)
    cell = rc.CELLS[case.cell](case.activation)
    rows, shape = len(gates) * H, cell.recurrent_shape(H) if cell.has_matrix else ()
    # Where units do not mix, one that is off at one step has lost its gradient for good: calm inputs, and relu's bias, keep them on.
    alone = len(shape) == 1
    on = 1.0 if alone and case.activation == "relu" else 0.0
    small = TINY if case.regime == "exploding" and T > LONG and _scalable(case) else 1.0
    offsets = np.repeat(_gate_offsets(gates), H)
    params = {
        "weight_ih": rng.standard_normal((rows, _input_size(case))) * (0.1 if held or alone else 0.4),
        **({"weight_hh": rng.standard_normal(shape) / (math.sqrt(H) if len(shape) == 2 else 1.0)} if shape else {}),
        "bias_ih": small * (0.2 * rng.standard_normal(rows) + 0.5 * offsets + on),
        "bias_hh": small * (0.2 * rng.standard_normal(rows) + 0.5 * offsets),
        "weight_ho": rng.standard_normal((1, H)) / math.sqrt(H),
        "bias_ho": rng.standard_normal(1),
        **cell.own_start(H),
    }
    if held:  # well-conditioned, so that moderate inputs are enough
        params["weight_ih"][_candidate(case)] = np.linalg.qr(rng.standard_normal((HOLDING, H)))[0].T
    x = small * rng.standard_normal((max(T, HORIZON), BATCH, H if held else _input_size(case)))
    target = rng.standard_normal((BATCH, 1) if case.loss_at == "last" else (T, BATCH, 1))
    return params, (0.2 if alone else 0.4) * x if held else x, target


def _gate_offsets(gates: tuple[str, ...]) -> list[float]:
    """A bias for every gate: the candidate's is 0."""
    turns = itertools.cycle(OFFSETS)
    return [0.0 if gate == "candidate" else next(turns) for gate in gates]


def _candidate(case: Case) -> slice:
    """The rows of the block that the activation acts on."""
    block = rc.CELLS[case.cell].gates.index("candidate")
    return slice(block * HIDDEN, (block + 1) * HIDDEN)


def _inputs(case: Case, problem: rc.Problem, drawn: np.ndarray) -> np.ndarray:
    """x: as drawn, or such that the units are held at the preactivations that were drawn."""
    if not _is_held(case):
        return drawn
    p, cell, rows = problem.params, problem.cell, _candidate(case)
    block = cell.gates.index("candidate")
    # A gate in front of the recurrent part sees the inputs, too: a few turns settle that.
    turns = 1 if len(cell.gates) == 1 else 3
    inverse = np.linalg.pinv(p["weight_ih"][rows])
    state = {name: np.zeros((HIDDEN, BATCH)) for name in cell.state_names}
    x = np.zeros((len(drawn), BATCH, HOLDING))
    for t, wanted in enumerate(drawn):
        after, saved = state, None
        for turn in range(turns + 1):
            u = (p["weight_ih"] @ np.matrix_transpose(x[t : t + 1]))[0]  # a stack of one, as the engine rounds it
            after, saved = cell.forward(p, u + p["bias_ih"][:, None], state)
            if turn < turns:
                _, preactivation = cell.nonlinearities(saved)[block]
                x[t] += (inverse @ (wanted.T - preactivation)).T
        state = after
    return x


def _strengthened(
    case: Case, base: rc.Problem, drawn: np.ndarray, aim: float, near: float
) -> tuple[rc.Problem, np.ndarray, float]:
    """The draw with the recurrent strength, among some tried, whose growth comes nearest to the aim; all its x, and its growth over them."""
    best, nearest, strength = None, math.inf, math.exp(aim)
    for _ in range(TRIES):
        problem = replace(base, params=_with_strength(case, base.cell, base.params, strength))
        x = _inputs(case, problem, drawn[:HORIZON])
        rate = growth_rate(problem, x)
        if abs(rate - aim) < nearest:
            best, nearest = (problem, x, rate), abs(rate - aim)
        if nearest <= near:
            break
        # Near rest the rate changes as the logarithm of the strength; a nan is an explosion, -inf are units that are all off.
        step = -1.0 if math.isnan(rate) else 0.3 if rate == -math.inf else max(-1.0, min(1.0, aim - rate))
        strength *= math.exp(step)
    if best is not None and len(drawn) <= HORIZON:
        return best
    problem = best[0] if best is not None else base
    x = _inputs(case, problem, drawn)
    return problem, x, growth_rate(problem, x)


def _with_strength(case: Case, cell: rc.Cell, base: Params, strength: float) -> Params:
    """Scales what the activation sees of the state; the bias takes back what it would see at rest, so that units stay alive.

    Without W_hh it is what a gate keeps at rest.
    """
    if not cell.has_matrix:
        return _with_kept(base, min(strength, MOST_KEPT))
    W, b, rows = base["weight_hh"].copy(), base["bias_hh"].copy(), _candidate(case)
    W *= min(1.0, strength) * (0.5 if len(cell.gates) > 1 else 1.0)
    W[rows] = strength * base["weight_hh"][rows]
    b[rows] -= cell.recurrent_matrix(W)[rows] @ np.full(HIDDEN, float(cell.phi.f(np.zeros(1))[0]))
    return {**base, "weight_hh": W, "bias_hh": b}


def _with_kept(base: Params, kept: float) -> Params:
    """A minGRU whose gate keeps so much of the state at rest: b_z is -ln(kept / (1 - kept)), but for the spread that it was drawn with."""
    b = base["bias_hh"].copy()
    b[:HIDDEN] -= OFFSETS[0] + math.log(kept / (1.0 - kept))
    return {**base, "bias_hh": b}


def _usable(problem: rc.Problem, x: np.ndarray, target: np.ndarray) -> bool:
    """Whether there is something to compare: a finite loss, and gradients that are not all zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        evaluation = rc.evaluate(problem, problem.params, x, target)
    return math.isfinite(evaluation.loss) and bool(np.isfinite(evaluation.gradients.log_norm).all())


def _placed(network: Network, device: str) -> Network:
    params = {name: place(value, "float64", device) for name, value in network.problem.params.items()}
    x, target = (place(array, "float64", device) for array in (network.x, network.target))
    return Network(replace(network.problem, params=params, device=device), x, target, network.growth_rate)
