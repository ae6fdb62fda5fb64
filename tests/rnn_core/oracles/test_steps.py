"""The check that judges each step by itself: what it must see in a single step, and what it must not call an error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core.oracles import autograd, rounding, steps, torch_modules
from rnn_core.oracles.compare import Error, worst
from rnn_core.oracles.problems import with_biases
from rnn_core.oracles.rounding import beyond_rounding
from rnn_core.oracles.tensors import as_tensor, as_tensors
from rnn_core.scaling import Scaled, log_norms, mantissa_and_exponents

TOLERANCE = 1e-10  # of the gate
SOUND = 1e-12
every_cell = pytest.mark.parametrize("cell", list(rc.CELLS))


def problem_of(cell: str = "vanilla", **changes: Any) -> rc.Problem:
    settings: dict[str, Any] = {
        "cell": cell, "hidden_size": 5, "sequence_length": 40, "batch_size": 3, "input_size": 2, "loss_at": "every",
        "spectral_radius": 1.1 if rc.CELLS[cell].has_matrix else None,
    }  # fmt: skip
    return with_biases(rc.prepare(rc.Experiment(**(settings | changes))))


def errors_of(problem: rc.Problem, change: Callable[[rc.Gradients], rc.Gradients] = lambda g: g) -> Error:
    x, target = problem.batch(0)
    evaluation = rc.evaluate(problem, problem.params, x, target)
    changed = replace(evaluation, gradients=change(evaluation.gradients))
    return autograd.check(problem, problem.params, x, target, changed)


def edited(g: rc.Gradients, name: str, edit: Callable[[np.ndarray, np.ndarray], None]) -> rc.Gradients:
    """``g`` with the mantissas and exponents of one of its arrays changed in place."""
    mantissa, exponent = (np.array(part) for part in mantissa_and_exponents(getattr(g, name)))
    edit(mantissa, exponent)
    return replace(g, **{name: Scaled(mantissa, exponent)})


def put(where: Any, factor: float) -> Callable[[np.ndarray, np.ndarray], None]:
    def edit(m: np.ndarray, e: np.ndarray) -> None:
        m[where] *= factor

    return edit


def put_largest(t: int, factor: float) -> Callable[[np.ndarray, np.ndarray], None]:
    def edit(m: np.ndarray, e: np.ndarray) -> None:
        m[t].flat[np.abs(m[t]).argmax()] *= factor

    return edit


def times(x: Any, factor: float) -> Any:
    return Scaled(x.mantissa * factor, x.exponent) if isinstance(x, Scaled) else x * factor


def swap(m: np.ndarray, e: np.ndarray) -> None:
    m[[10, 11]], e[[10, 11]] = m[[11, 10]], e[[11, 10]]


def shift_exponents(m: np.ndarray, e: np.ndarray) -> None:
    e[:20] += 1


def zero(name: str) -> Callable[[rc.Gradients], rc.Gradients]:
    """Everything that follows from a gradient of zero is zero, too."""

    def change(g: rc.Gradients) -> rc.Gradients:
        T = len(g.log_norm)
        until = T if name == "all" else T // 2
        for each in ("hidden", "x", *(["cell"] if g.cell is not None else [])):
            g = edited(g, each, put(slice(0, until), 0.0))
        log_norm = g.log_norm.copy()
        log_norm[:until] = -math.inf
        nothing = {part: np.zeros(value.shape) for part, value in g.state.items()}
        return replace(g, log_norm=log_norm, state=nothing)

    return change


def norm_off(g: rc.Gradients) -> rc.Gradients:
    log_norm = g.log_norm.copy()
    log_norm[17] += math.log(2.0)
    return replace(g, log_norm=log_norm)


BUGS: dict[str, Callable[[rc.Gradients], rc.Gradients]] = {
    "two steps swapped": lambda g: edited(edited(g, "hidden", swap), "x", swap),
    "an exponent lost between two steps": lambda g: edited(edited(g, "hidden", shift_exponents), "x", shift_exponents),
    "the first step a billionth too large": lambda g: edited(g, "hidden", put(0, 1 + 1e-9)),
    "the last step a billionth too large": lambda g: edited(g, "hidden", put(-1, 1 + 1e-9)),
    "one step a billionth too large": lambda g: edited(g, "hidden", put(20, 1 + 1e-9)),
    "one unit of one sample": lambda g: edited(g, "hidden", put_largest(20, 1 + 1e-7)),
    "x of one step": lambda g: edited(g, "x", put(20, 1 + 1e-9)),
    "x of the last step": lambda g: edited(g, "x", put(-1, 1 + 1e-9)),
    "zero everywhere": zero("all"),
    "zero from some step back": zero("half"),
    "a norm that is not that of its gradient": norm_off,
    "a parameter": lambda g: replace(g, params={**g.params, "weight_ih": times(g.params["weight_ih"], 1 + 1e-9)}),
    "the initial state": lambda g: replace(g, state={**g.state, "hidden": times(g.state["hidden"], 1 + 1e-9)}),
}


@pytest.mark.parametrize("bug", BUGS)
@every_cell
def test_a_fault_in_a_single_step_is_seen(cell: str, bug: str) -> None:
    """A check of single steps follows a wrong claim from one step to the next, and finds all in order."""
    assert errors_of(problem_of(cell), BUGS[bug]).relative > TOLERANCE


@pytest.mark.parametrize("bug", BUGS)
@pytest.mark.parametrize(
    "settings", [{"spectral_radius": 0.2, "sequence_length": 700}, {"spectral_radius": 4.0, "sequence_length": 80}]
)
def test_so_it_is_beyond_the_range_of_floats(settings: dict[str, Any], bug: str) -> None:
    problem = problem_of(activation="tanh", loss_at="last", **settings)
    assert errors_of(problem).relative < SOUND
    assert errors_of(problem, BUGS[bug]).relative > TOLERANCE


@pytest.mark.parametrize("name", ["hidden", "cell"])
@pytest.mark.parametrize("t", [0, 1, 20, 38, 39])
def test_a_fault_in_an_lstms_totals_is_seen_at_every_step(name: str, t: int) -> None:
    """What c_t receives through h_t is counted twice, or the last step's total is taken as given."""
    problem = problem_of("lstm")
    error = errors_of(problem, lambda g: edited(g, name, put(t, 1 + 1e-8)))
    assert error.relative > TOLERANCE
    p = replace(problem, params={n: v for n, v in problem.params.items() if not n.endswith("_ho")})
    x, _ = p.batch(0)
    tape = rc.forward(p.cell, p.params, x)
    direct = np.random.default_rng(0).standard_normal((40, 3, 5))
    found = edited(rc.backward(tape, direct), name, put(t, 1 + 1e-8))
    assert worst(of_kernel(p, tape, found, direct)).relative > TOLERANCE
    assert worst(of_kernel(p, tape, rc.backward(tape, direct), direct)).relative < SOUND


def of_kernel(p: rc.Problem, tape: rc.Tape, gradients: rc.Gradients, direct: np.ndarray) -> list[Error]:
    """As ``torch_modules.check`` compares, with gradients of our own."""
    import torch

    def kernel(params: Any, x: Any, state: Any) -> Any:
        weights = [params[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        _, h, c = torch.lstm(x[None], [s[None] for s in state.values()], weights, True, 1, 0.0, False, False, False)
        return {"hidden": h[0], "cell": c[0]}

    step = steps.Step(autograd.step_of(p), as_tensors(p.params), as_tensor(tape.x), as_tensor(direct), kernel)
    return steps.recurrent_errors(gradients, autograd.states_of(tape), step)


# ---- bugs of the engine that grow -----------------------------------------------------------------------------------


def a_little_off(kind: type[rc.Cell], factor: float) -> type[rc.Cell]:
    class Wrong(kind):  # type: ignore[misc, valid-type]
        def backward(self, params: Any, saved: Any, dstate: Any) -> Any:
            du, dv, before = super().backward(params, saved, dstate)
            return du, dv, {**before, "hidden": before["hidden"] * factor}

    return Wrong


@every_cell
def test_a_factor_of_a_billionth_a_step_is_seen(cell: str) -> None:
    """It is small in one step and large over ten thousand: seen in the first, and at its size."""
    right = problem_of(cell, sequence_length=30)
    options = {name: getattr(right.cell, name) for name in right.cell.options}
    wrong = replace(right, cell=a_little_off(rc.CELLS[cell], 1 + 1e-9)("tanh", **options))
    assert errors_of(right).relative < SOUND
    assert 1e-10 < errors_of(wrong).relative < 1e-7


# ---- batches of steps ------------------------------------------------------------------------------------------------


@every_cell
@pytest.mark.parametrize(("rows", "spread", "T"), [(1, 256, 9), (3 * 5 * 7, 256, 22), (2**22, 0, 9), (2**22, 3, 22)])
def test_however_steps_are_batched_the_same_is_found(
    cell: str, rows: int, spread: int, T: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step at the edge of a batch is left out, or loses what its neighbour sends. Where every step is a batch, nine have all edges."""
    problem = problem_of(cell, sequence_length=T)
    x, _ = problem.batch(0)
    monkeypatch.setattr(steps, "ROWS", rows)
    monkeypatch.setattr(steps, "SPREAD", spread)
    assert errors_of(problem).relative < SOUND
    for t in (0, 6, 7, 13, 14, T - 1) if T > 14 else (0, 6, 7, T - 1):
        error = errors_of(problem, lambda g, t=t: edited(g, "hidden", put(t, 1 + 1e-6)))  # type: ignore[misc]
        assert error.relative > 1e-7
    if torch_modules.module_of(problem):
        direct = np.random.default_rng(0).standard_normal((T, 3, 5))
        assert torch_modules.check(problem, x, direct).relative < SOUND


def test_long_sequences_are_few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call of torch a step takes a hundred times as long as the run."""
    from rnn_core.oracles import equations

    calls: list[int] = []
    vanilla = equations.CELLS["vanilla"]

    def counting(net: Any, x: Any, state: Any) -> Any:
        calls.append(len(x))
        return vanilla.step(net, x, state)

    monkeypatch.setitem(equations.CELLS, "vanilla", replace(vanilla, step=counting))
    problem = problem_of(sequence_length=6000, hidden_size=2, spectral_radius=0.7, loss_at="last")
    assert errors_of(problem).relative < SOUND
    assert len(calls) < 120 and sum(calls) < 2.2 * 6000 * 3


def test_a_batch_takes_its_own_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch turns the whole sequence into float64: of a long one, or of many samples, that takes longer than all else."""
    converted: list[int] = []

    def counting(x: Any, **options: Any) -> Any:
        converted.append(len(x))
        return by_step(x, **options)

    by_step = steps.by_step
    monkeypatch.setattr(steps, "by_step", counting)
    monkeypatch.setattr(steps, "ROWS", 1)  # as many batches as steps
    assert errors_of(problem_of(sequence_length=200)).relative < SOUND
    assert sum(converted) < 6 * 200


def test_shares_of_a_parameter_far_apart_are_added() -> None:
    """States grow as gradients shrink: every step adds as much, though its gradient is far below the largest."""
    problem = problem_of(activation="identity", spectral_radius=2.0, initializer="orthogonal", sequence_length=900, loss_at="last", input_scale=1e-300)  # fmt: skip
    x, target = problem.batch(0)
    problem = replace(problem, params={n: 0.0 * v if n.startswith("bias") else v for n, v in problem.params.items()})
    evaluation = rc.evaluate(problem, problem.params, x, target)
    assert autograd.check(problem, problem.params, x, target, evaluation).relative < SOUND
    params = dict(evaluation.gradients.params)
    half = {"weight_hh": params["weight_hh"] / 2.0}
    changed = replace(
        evaluation,
        gradients=replace(evaluation.gradients, params=params | half),
        param_grads=evaluation.param_grads | half,
    )
    assert autograd.check(problem, problem.params, x, target, changed).relative > 0.1


# ---- what rounding does ------------------------------------------------------------------------------------------------


def cancelled(depth: float, seed: int) -> tuple[rc.Problem, rc.Tape, np.ndarray]:
    """A network of one sample and two units whose direct part at step 5 all but cancels what step 6 sends to it."""
    problem = problem_of(hidden_size=2, batch_size=1, sequence_length=9, seed=seed)
    tape = rc.forward(problem.cell, problem.params, problem.batch(0)[0])
    direct = np.random.default_rng(seed).standard_normal((9, 1, 2))
    sent = rc.backward(tape, direct).hidden[4] - direct[4]
    direct[4] = -sent * (1 + depth * np.array([1.0, -0.7]))
    return problem, tape, direct


def errors_at(problem: rc.Problem, tape: rc.Tape, direct: np.ndarray, gradients: rc.Gradients) -> float:
    p = as_tensors({n: v for n, v in problem.params.items() if not n.endswith("_ho")})
    step = steps.Step(autograd.step_of(problem), p, as_tensor(tape.x), as_tensor(direct))
    return worst(steps.recurrent_errors(gradients, autograd.states_of(tape), step)).relative


def test_a_sound_engine_is_not_accused_where_terms_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sound programs part by 1e-9 where a sum is a ten-millionth of its terms; that is no fault of either."""
    raw = []
    for seed in range(20):
        problem, tape, direct = cancelled(1e-9, seed)
        gradients = rc.backward(tape, direct)
        assert errors_at(problem, tape, direct, gradients) < SOUND, seed
        wrong = edited(gradients, "hidden", put(4, 1 + 1e-4))
        assert errors_at(problem, tape, direct, wrong) > 5e-5, seed  # a fault is still one
        with monkeypatch.context() as patch:
            patch.setattr(rounding, "MOST_TRIALS", 0)
            raw.append(errors_at(problem, tape, direct, gradients))
    assert max(raw) > 1e-9


def test_a_fault_is_not_excused_by_rounding() -> None:
    """Where nothing cancels, what is let pass is below 1e-13."""
    for cell in rc.CELLS:
        error = errors_of(problem_of(cell), lambda g: edited(g, "hidden", put(20, 1 + 1e-11)))
        assert 0.3e-11 < error.relative < 1.1e-10


def test_a_long_chaotic_run_of_few_units_is_sound() -> None:
    """Its gradient at the first step is ill-conditioned: engine and autograd, each over the whole chain, part by 5e-10."""
    problem = problem_of(
        hidden_size=4, batch_size=16, sequence_length=10_000, spectral_radius=1.0, loss_at="last", input_size=8
    )
    assert errors_of(problem).relative < SOUND


DRIFTING = [
    ("tanh", "float64", 2, 800),
    ("tanh", "float32", 8, 300),
    ("sigmoid", "float64", 4, 2000),
    ("sigmoid", "float32", 4, 600),
]


@pytest.mark.parametrize(("activation", "dtype", "H", "T"), DRIFTING)
def test_a_residual_network_that_drifts_into_saturation_is_not_accused(
    activation: str, dtype: str, H: int, T: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state grows by one a step until phi' leaves the range of floats. Two right programs part there, and no gradient feels it."""
    drifting = problem_of(
        "residual",
        activation=activation,
        dtype=dtype,
        hidden_size=H,
        sequence_length=T,
        loss_at="last",
        spectral_radius=2.0,
    )
    assert errors_of(drifting).relative < (SOUND if dtype == "float64" else 1e-4)
    monkeypatch.setattr(rounding, "LEEWAY", -(10**6))  # without a floor
    assert errors_of(drifting).relative > (TOLERANCE if dtype == "float64" else 1e-3)  # the gate's


RULED: list[dict[str, Any]] = [
    {"activation": "gelu", "spectral_radius": 1.5, "hidden_size": 8, "sequence_length": 100, "batch_size": 1, "seed": 4},
    {"activation": "relu", "spectral_radius": 0.1, "hidden_size": 4, "sequence_length": 50, "batch_size": 1, "seed": 1, "dtype": "float32"},
]  # fmt: skip


@pytest.mark.parametrize("settings", RULED, ids=[each["activation"] for each in RULED])
def test_an_slstm_whose_new_input_rules_is_not_accused(settings: dict[str, Any]) -> None:
    """Autograd of ln(f n) + softplus(d) is 1 - σ(d), of which nothing is left where the input gate is large: the oracle was wrong."""
    ruled = problem_of("slstm", **{"input_size": 8, "input_scale": 10.0, "spectral_radius": 1.0, **settings})
    assert errors_of(ruled).relative < (TOLERANCE if ruled.experiment.dtype == "float64" else 1e-3)


def test_a_fault_is_seen_as_far_below_the_signal_as_floats_reach() -> None:
    """The floor of what underflows hides gradients that floats still hold, 200 decades below the signal."""
    drifting = problem_of("residual", hidden_size=2, sequence_length=600, loss_at="last", spectral_radius=1.0)
    x, target = drifting.batch(0)
    gradients = rc.evaluate(drifting, drifting.params, x, target).gradients
    below = (log_norms(gradients.x) - gradients.log_norm) / math.log(10.0)
    deep = np.flatnonzero((below < -200) & (below > -295))
    assert len(deep) > 20
    for t in deep[:: len(deep) // 3].tolist():
        found = errors_of(drifting, lambda g, t=t: edited(g, "x", put(t, 1 + 1e-6)))  # type: ignore[misc]
        assert found.relative > TOLERANCE and found.where == f"x, t = {t + 1}"


def cancelling(wanted: str, seed: int) -> tuple[rc.Problem, Any, Any, float]:
    """(problem, x, target, size of the terms) such that the gradient of ``wanted`` cancels to almost nothing."""
    problem = problem_of(task="input_mean", sequence_length=30, batch_size=4, hidden_size=1, seed=seed)
    x, target = problem.batch(0)

    def gradient(shift: float) -> float:
        return float(rc.evaluate(problem, problem.params, x, target + shift).param_grads[wanted][0])

    shift = 0.0
    for _ in range(5):  # the gradient is linear in the targets: a shift of all of them brings it to zero
        shift -= gradient(shift) / (gradient(shift + 1.0) - gradient(shift))
    return problem, x, target + shift, abs(gradient(shift + 1.0))


@pytest.mark.parametrize("wanted", ["bias_hh", "bias_ho"])
def test_a_parameter_whose_terms_cancel_is_not_accused(wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near a minimum of the loss the terms of a sum over steps and samples cancel, and two sound programs part."""
    raw = []
    for seed in range(8):
        problem, x, target, terms = cancelling(wanted, seed)
        found = rc.evaluate(problem, problem.params, x, target)
        assert abs(found.param_grads[wanted][0]) < 1e-12 * terms
        given = (problem, problem.params, x, target)
        assert autograd.check(*given, found).relative < SOUND
        off = {wanted: found.param_grads[wanted] + 1e-12 * terms}
        params = {name: off.get(name, value) for name, value in found.gradients.params.items()}
        wrong = replace(found, param_grads=found.param_grads | off, gradients=replace(found.gradients, params=params))
        assert autograd.check(*given, wrong).relative > 0.1
        with monkeypatch.context() as patch:
            patch.setattr(rounding, "MOST_TRIALS", 0)
            raw.append(autograd.check(*given, found).relative)
    assert max(raw) > TOLERANCE


def test_what_rounding_does_to_a_sum_is_no_error() -> None:
    """A sum far below its terms, an exact zero in one program and not in the other; but no more than rounding."""
    total, terms = np.array([1e-8]), [np.array([1e-8 + 3e-16]), np.array([1e-8 - 1e-16])]
    assert beyond_rounding(total * (1 + 1e-7), total, terms) == 0.0
    assert beyond_rounding(total * (1 + 1e-6), total, terms) > 0.5e-6
    assert beyond_rounding(total * (1 + 1e-7), total, []) > 0.9e-7
    nothing = 0.0 * total
    assert beyond_rounding(np.array([4e-16]), nothing, [np.array([1e-16])]) == 0.0
    assert beyond_rounding(np.array([9e-16]), nothing, [np.array([1e-16])]) == math.inf
    assert beyond_rounding(np.array([1e-300]), nothing, []) == math.inf
    assert beyond_rounding(nothing, total, terms) == pytest.approx(1.0)
    assert beyond_rounding(nothing, nothing, [nothing]) == 0.0
