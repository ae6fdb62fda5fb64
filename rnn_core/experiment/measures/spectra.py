"""How many directions of a gradient survive, and how fast each grows: the spectra of a network as it was drawn.

They are measured apart from a run, of those who ask for them. They change nothing that a run measures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rnn_core import theory
from rnn_core.arrays import to_numpy
from rnn_core.columns import NO_MATRIX, Column
from rnn_core.experiment.evaluation import evaluate
from rnn_core.experiment.measures.growth import norms_of_last_step
from rnn_core.experiment.measures.states import measure_states
from rnn_core.experiment.problem import Problem, prepare
from rnn_core.experiment.settings import Experiment
from rnn_core.scaling import LN10
from rnn_core.tape import Tape
from rnn_core.tasks import Sequences
from rnn_core.theory import SURVIVES

ONE_RECURRENCE = "a spectrum is that of one recurrence, and a network of several layers or directions has several"
_UNASKED = "the config has no key spectra"

_MOST_UNITS = 256  # of a matrix whose powers are looked at: more would take longer than the rest
_NO_NORMALITY = f"{_UNASKED}, more than {_MOST_UNITS} units, {NO_MATRIX}"

SPECTRUM = (
    Column("update", "integer", "updates", "Updates made before: 0, the network as it was drawn"),
    Column("sample", "integer", "sequences", "Which sequence of the first batch, from 0"),
    Column("lag", "integer", "steps", "Steps of the product J_T … J_{T−lag+1}, from a sequence's last step back", null="a Lyapunov exponent"),
    Column("i", "integer", "directions", "Which direction, from 1, the fastest first"),
    Column("lyapunov_exponent", "number", "ln per step",
           "λ_i: mean growth of the i-th direction per step back, inside the settled window. −∞ where the direction dies",
           null="a singular value, or not a number"),
    Column("lyapunov_error", "number", "ln per step", "Standard error of lyapunov_exponent, by batch means over time",
           null="a singular value, few steps, or −∞"),
    Column("log10_singular_value", "number", "log10", "log10 of the i-th singular value of the product. −∞ where it is zero",
           null="a Lyapunov exponent, or not a number"),
    Column("log10_gradient_ratio", "number", "log10",
           "log10(‖∂L/∂h_{T−lag}‖/‖∂L/∂h_T‖) of this sample, for the last step's loss alone: at most the first singular value",
           null="a Lyapunov exponent, a product from the initial state on, or not a number"),
)  # fmt: skip

SPECTRA = (
    Column("lyapunov_max", "number", "ln per step", "λ₁: largest Lyapunov exponent inside the settled window; mean over those samples asked for whose gradient is not exactly zero, as growth_rate;"
           " −∞ if there is none",
           null=f"{_UNASKED}, sequences of one step, or not a number"),
    Column("lyapunov_error", "number", "ln per step",
           "Standard error of lyapunov_max: the larger of that by batch means over time and that of the mean over samples",
           null=f"{_UNASKED}, or sequences of few steps"),
    Column("lyapunov_sum", "number", "ln per step", "Sum of all S exponents: mean of ln |det J_t|; mean over samples",
           null=f"{_UNASKED}, fewer exponents than S are asked for, or not a number"),
    Column("kaplan_yorke_dimension", "number", "directions", "Kaplan–Yorke dimension of the spectrum; mean over samples",
           null=f"{_UNASKED}, or the exponents asked for do not show it"),
    Column("entropy_rate", "number", "ln per step", "Sum of the positive exponents; mean over samples",
           null=f"{_UNASKED}, or the exponents asked for are all positive"),
    Column("spectra_lag", "integer", "steps", "Longest lag of the singular values asked for that the sequences have",
           null=f"{_UNASKED}, or every lag is longer"),
    Column("log10_condition_number", "number", "log10", "log10(σ₁/σ_S) of the product over spectra_lag steps; mean over samples. ∞ where σ_S is zero",
           null="as spectra_lag, or not a number"),
    Column("surviving_directions", "number", "directions",
           f"Directions whose singular value over spectra_lag steps is above {SURVIVES:g} σ₁, of S in the state; mean over samples",
           null="as spectra_lag, or not a number"),
    Column("growth_minus_lyapunov", "number", "ln per step",
           "growth_rate − lyapunov_max: what the readout's direction and the other samples of the batch add",
           null="as either of them"),
    Column("henrici", "number", "1",
           "Departure of W_hh from a normal matrix: √(‖W‖²_F − Σ|λ_i|²)/‖W‖_F, 0 for a normal one, 0.7071 for a wide Gaussian one; of a gated cell W is"
           " the candidate's",
           null=_NO_NORMALITY),
    Column("numerical_radius", "number", "1", "Numerical radius r of that matrix, max |v* W v| over unit vectors: ‖W^k‖ is at most 2 r^k",
           null=_NO_NORMALITY),
    Column("peak_growth", "number", "1",
           f"max_k ‖W^k‖/ρ^k over k up to {theory.nonnormal.POWERS}: how much a linear network's gradient grows on the way beside its growth in the end; 1 for a normal matrix",
           null=_NO_NORMALITY),
    Column("peak_growth_lag", "integer", "steps", "The k of peak_growth", null=_NO_NORMALITY),
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        exponents: how many Lyapunov exponents; a network with fewer units has all of its own.
        singular_values: lags in steps; those that a sequence does not have are left out.
        samples: of how many sequences of the batch.
    """

    exponents: int = 8
    singular_values: tuple[int, ...] = (1, 10, 100)
    samples: int = 1


@dataclass(frozen=True)
class Spectra:
    """What was measured.

    Attributes:
        summary: the columns ``SPECTRA``, without growth_minus_lyapunov.
        table: the columns ``SPECTRUM``.
    """

    summary: dict[str, Any]
    table: dict[str, np.ndarray]


def measure_spectra(
    experiment: Experiment, request: Request, data: Sequences | None = None, memory_budget: int | None = None
) -> Spectra:
    """The spectra of one network on its first batch, on the CPU.

    Args:
        data: the sequences of a task that is not generated.
        memory_budget: in bytes, for the states of one batch: see ``forward``.

    Raises:
        ValueError: the experiment has several layers or directions.
    """
    problem = prepare(experiment, data)
    if several := problem.experiment.several_recurrences:
        raise ValueError(f"{several} is not allowed with spectra; {ONE_RECURRENCE}")
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is recorded
        evaluation = evaluate(problem, problem.params, *problem.batch(0), 0, memory_budget)
        tape, ends, norms = evaluation.tape, evaluation.ends, norms_of_last_step(problem, evaluation)
        states = measure_states(problem.cell, tape, ends)
        windows = states.windows or [theory.settled_window(states.hidden_rms)] * tape.x.shape[1]
        of_samples = [
            _of_sample(tape, b, windows[b], len(norms) if ends is None else int(ends[b]), norms[:, b], request)
            for b in range(min(request.samples, tape.x.shape[1]))
        ]
    return Spectra({**_summary(of_samples), **_of_matrix(problem)}, _table(of_samples))


def _of_matrix(problem: Problem) -> dict[str, Any]:
    """How far W_hh is from normal; of a gated cell its candidate's block."""
    nothing = {"henrici": math.nan, "numerical_radius": math.nan, "peak_growth": math.nan, "peak_growth_lag": None}
    cell = problem.cell
    if "candidate" not in cell.gates or not cell.has_matrix or problem.experiment.hidden_size > _MOST_UNITS:
        return nothing
    W = problem.cell.recurrent_matrix(to_numpy(problem.params["weight_hh"]).astype(np.float64))
    block = np.split(W, len(problem.cell.gates))[problem.cell.gates.index("candidate")]
    return dict(zip(nothing, _nonnormality(block.tobytes(), len(block)), strict=True))


@lru_cache(maxsize=64)  # networks that differ in their sequences share a matrix
def _nonnormality(content: bytes, size: int) -> tuple[float, float, float, int]:
    W = np.frombuffer(content).reshape(size, size)
    peak = theory.peak_growth(W, relative=True)
    return theory.henrici(W) / float(np.linalg.norm(W)), theory.numerical_radius(W), peak.factor, peak.lag


@dataclass(frozen=True)
class _Sample:
    spectrum: theory.Spectrum
    whole: bool
    log_singular_values: Mapping[int, np.ndarray]
    log_ratios: Mapping[int, float]


def _of_sample(tape: Tape, b: int, window: slice, end: int, norms: np.ndarray, request: Request) -> _Sample:
    T, size = tape.x.shape[0], sum(math.prod(part.shape[1:]) for part in tape.state.values())
    k = min(request.exponents, size)
    # The window's first and last step are those between which ``growth`` looks at norms: the steps between them count.
    settle, last = window.start + 1, max(window.stop, window.start + 1)
    if last > settle:
        spectrum = theory.lyapunov_spectrum(tape, k, T - last, b, settle)
    else:
        spectrum = theory.Spectrum(np.full(k, math.nan), np.full(k, math.nan), math.nan, math.nan)
    lags = [lag for lag in request.singular_values if lag <= end]
    values = {lag: theory.log_singular_values(tape, end - lag, end, b) for lag in lags}
    ratios = {lag: _difference(norms[end - 1 - lag], norms[end - 1]) if lag < end else math.nan for lag in lags}
    return _Sample(spectrum, k == size, values, ratios)


def _summary(samples: list[_Sample]) -> dict[str, Any]:
    living = [
        each.spectrum for each in samples if each.spectrum.exponents[0] != -math.inf
    ]  # as growth_rate leaves dead ones out
    living = living or [each.spectrum for each in samples]
    largest = np.array([each.exponents[0] for each in living])
    in_time = np.array([each.error[0] for each in living])
    errors = [float(np.sqrt((in_time**2).sum()) / len(living))]
    with np.errstate(invalid="ignore"):
        errors += [float(largest.std(ddof=1)) / math.sqrt(len(living))] if len(living) > 1 else []
        summary = {
            "lyapunov_max": float(largest.mean()),
            "lyapunov_error": max((error for error in errors if not math.isnan(error)), default=math.nan),
            "lyapunov_sum": _mean(each.spectrum.exponents.sum() if each.whole else math.nan for each in samples),
            "kaplan_yorke_dimension": _mean(each.spectrum.dimension for each in samples),
            "entropy_rate": _mean(each.spectrum.entropy_rate for each in samples),
        }
    lag = min((max(each.log_singular_values, default=0) for each in samples), default=0)
    if not lag:
        return summary | {"spectra_lag": None, "log10_condition_number": math.nan, "surviving_directions": math.nan}
    values = [each.log_singular_values[lag] for each in samples]
    return summary | {
        "spectra_lag": lag,
        "log10_condition_number": _mean(_difference(v[0], v[-1]) / LN10 for v in values),
        "surviving_directions": _mean(theory.surviving_directions(v) for v in values),
    }


def _difference(first: float, second: float) -> float:
    """ln of their ratio; nan where both are zero."""
    return math.nan if first == second == -math.inf else float(first - second)


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _table(samples: list[_Sample]) -> dict[str, np.ndarray]:
    parts: list[dict[str, Any]] = []
    for b, each in enumerate(samples):
        exponents, error = each.spectrum.exponents, each.spectrum.error
        parts += [
            _rows(
                b,
                lag,
                len(values),
                log10_singular_value=values / LN10,
                log10_gradient_ratio=np.full(len(values), each.log_ratios[lag] / LN10),
            )
            for lag, values in sorted(each.log_singular_values.items())
        ]
        parts.append(_rows(b, None, len(exponents), lyapunov_exponent=exponents, lyapunov_error=error))
    return {column.name: np.concatenate([part[column.name] for part in parts]) for column in SPECTRUM}


def _rows(sample: int, lag: int | None, count: int, **numbers: np.ndarray) -> dict[str, Any]:
    measured = {c.name: np.full(count, math.nan) for c in SPECTRUM if c.kind == "number"} | numbers
    lags = np.full(count, math.nan if lag is None else lag)
    return {
        "update": np.zeros(count, int),
        "sample": np.full(count, sample),
        "lag": lags,
        "i": np.arange(1, count + 1),
        **measured,
    }
