"""From a batch of runs to their results: the columns of all runs as arrays, reduced on the device where they are large.

Every column means what ``experiment.measures`` says of it. The values are those of a run alone, to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rnn_core.batched import Together
from rnn_core.batched.spectra import correlations, log_spectral_radii, mean_fields
from rnn_core.cells import Cell
from rnn_core.clipping import parse_clipping
from rnn_core.experiment.measures.end import untrained_columns
from rnn_core.experiment.measures.growth import columns_of_growth
from rnn_core.experiment.measures.prediction import (
    AtRest,
    Rates,
    WideNetwork,
    columns_of_rates,
    critical_of_inputs,
    law_at_rest,
    mean_field_applies,
)
from rnn_core.experiment.measures.start import flossed_columns
from rnn_core.experiment.measures.states import has_slopes
from rnn_core.experiment.result import Result
from rnn_core.experiment.settings import Experiment
from rnn_core.experiment.together.batch import Evaluated
from rnn_core.formats import FORMATS
from rnn_core.scaling import LN2, LN10, plain_if_fits
from rnn_core.tasks import Task
from rnn_core.theory import Growth, growth, linear_rate, rest_affine, settled_windows

Columns = dict[str, np.ndarray]


def results(
    together: Together,
    evaluated: Evaluated,
    experiments: Sequence[Experiment],
    tasks: Sequence[Task],
    variants: Sequence[Sequence[Experiment]],
) -> Iterator[tuple[Experiment, Result]]:
    """Every run of the batch that has held, with its variants, which differ in clipping; runs without variants fill it up."""
    cell, n = together.shape.cell, len(variants)
    traces = _traces(evaluated, len(experiments))
    starts, stop = settled_windows(traces["hidden_rms"])
    grown = _growths(evaluated, starts[:n], stop)
    rates = _rates(cell, together, evaluated, experiments, starts, stop)
    lost_at = _first_lost(traces)
    sigma_max = _sigma_max(evaluated, together.shape.H)
    updates = _Updates(evaluated)
    linear_network = cell.phi.name == "identity" and cell.jacobian(np.ones((1, 1))) is not None
    for r in np.flatnonzero(evaluated.hold[:n]).tolist():
        measured, network, scale = grown[r], evaluated.loaded.networks[r], evaluated.loaded.scales[r]
        prediction = columns_of_rates(rates(r, float(sigma_max[r])), linear_network)
        summary = {
            "task_input_size": tasks[r].input_size,
            "task_loss_at": tasks[r].loss_at,
            "task_steps": tasks[r].T,
            **flossed_columns(None),
            "measured_spectral_radius": float((network.radius * scale).max()),
            "sigma_max": float(sigma_max[r]),
            "sigma_w": float((network.sigma_w * scale).max()),
            "sigma_u": float(rates.sigma_u[r]),
            **columns_of_growth(measured, slice(int(starts[r]), stop)),
            **prediction,
            "deviation": measured.rate - prediction["predicted_rate"],
            **{name: at[r] for name, at in lost_at.items()},
            **untrained_columns(),
            "first_nonfinite_update": None,
            "first_nonfinite_step": None,
        }
        for experiment in variants[r]:
            own = {name: column[r].copy() if column.ndim == 2 else column for name, column in traces.items()}
            yield experiment, Result(own, updates.row(r, experiment), dict(summary), experiment)


def _host(values: Tensor, n: int) -> np.ndarray:
    """(T, R) on the device as (n, T) in NumPy."""
    return np.asarray(values[:, :n].t().contiguous().cpu())


# ---- traces --------------------------------------------------------------------------------------------------------------


def _traces(evaluated: Evaluated, n: int) -> Columns:
    """The columns of ``traces``, (n, T) where they differ from run to run, (T,) where not."""
    gradients, states = evaluated.gradients, evaluated.states
    T = len(gradients.log_norm)
    t = np.arange(1, T + 1, dtype=np.int32)
    cell = gradients.log_norm_cell
    return {
        "update": np.zeros(T, dtype=np.int32),
        "t": t,
        "lag": T - t,
        "log10_grad_norm": _host(gradients.log_norm, n) / LN10,
        "log10_immediate_norm": _host(evaluated.immediate, n) / LN10,
        "log10_cell_grad_norm": np.full(T, math.nan) if cell is None else _host(cell, n) / LN10,
        "hidden_rms": _host(states.hidden_rms, n),
        "saturation": _host(states.saturation, n),
        **{name: _host(fraction, n) for name, fraction in gradients.lost.items()},
    }


def _first_lost(traces: Columns) -> dict[str, list[int | None]]:
    """``formats.first_lost`` of every run."""
    first: dict[str, list[int | None]] = {}
    for format in FORMATS:
        for name in ("flushed", "overflowed"):
            column = traces[f"{format.name}_{name}"]
            there = column == 1.0 if name == "flushed" else column > 0.0
            last = there.shape[1] - there[:, ::-1].argmax(axis=1)
            first[f"{format.name}_{name}_at"] = [
                int(t) if any_ else None for t, any_ in zip(last, np.any(there, axis=1), strict=True)
            ]
    return first


# ---- growth --------------------------------------------------------------------------------------------------------------


def _growths(evaluated: Evaluated, starts: np.ndarray, stop: int) -> list[Growth]:
    """``theory.growth`` of every run, from what is left of its samples when they are reduced on the device."""
    n = len(starts)
    samples, over_batch = evaluated.growth.log_norm_samples[:, :n], evaluated.growth.log_norm[:, :n]
    device = samples.device
    first = samples[torch.as_tensor(starts, device=device), torch.arange(n, device=device)].cpu().numpy()
    last, mean = samples[stop - 1].cpu().numpy(), _host(samples.mean(dim=2), n)
    alive = samples.isfinite().all(dim=2).all(dim=0).cpu().numpy()
    ratio = ((over_batch[0] - over_batch[-1]) / LN10).cpu().numpy()
    with np.errstate(invalid="ignore"):  # of runs with a dead sample, which are measured by themselves
        rates = (first - last) / (stop - starts - 1)[:, None]
        over_samples = _errors_of_means(rates) if rates.shape[1] > 1 else np.full(n, math.nan)
        errors = np.fmax(over_samples, _errors_over_time(mean, starts, stop))  # where one is nan, the other
        means = rates.mean(axis=1)
    measured = [Growth(float(means[r]), float(errors[r]), float(ratio[r]), 0.0) for r in range(n)]
    for r in np.flatnonzero(~alive):  # a sample whose gradient is exactly zero
        measured[r] = growth(samples[:, int(r)].cpu().numpy(), slice(int(starts[r]), stop))
    return measured


def _errors_over_time(mean: np.ndarray, starts: np.ndarray, stop: int) -> np.ndarray:
    """By batch means: the mean of neighbouring steps of ``mean`` (runs, T) is a difference. nan where the window is short."""
    errors = np.full(len(mean), math.nan)
    for start in np.unique(starts):
        steps = stop - 1 - int(start)
        length = max(1, math.isqrt(steps))
        if steps // length >= 4:
            ends = mean[starts == start, start : start + steps // length * length + 1 : length]
            errors[starts == start] = _errors_of_means(np.diff(ends, axis=1) / length)
    return errors


def _errors_of_means(values: np.ndarray) -> np.ndarray:
    """The standard error of the mean of every row."""
    return np.asarray(values.std(axis=1, ddof=1) / math.sqrt(values.shape[1]))


# ---- theory --------------------------------------------------------------------------------------------------------------


def _sigma_max(evaluated: Evaluated, H: int) -> np.ndarray:
    """The largest singular value of every run's W_hh, of a gated cell of its largest gate, (runs,)."""
    W = evaluated.loaded.params["weight_hh"].double()
    blocks = W.reshape(-1, H, H)
    squared = log_spectral_radii(blocks.transpose(1, 2) @ blocks)
    return np.asarray((0.5 * squared).exp().reshape(len(W), -1).amax(dim=1).cpu())


def _affine(cell: Cell) -> tuple[float, float] | None:
    """(gain, shift): ``Cell.jacobian`` maps W to gain W plus shift times the identity, and eigenvalues likewise. None for a gated cell."""
    at_0, at_1 = (cell.jacobian(np.full((1, 1), value)) for value in (0.0, 1.0))
    return None if at_0 is None or at_1 is None else (float(at_1[0, 0] - at_0[0, 0]), float(at_0[0, 0]))


class _RatesOfRuns:
    """What theory says of every run; called with a run and its sigma_max."""

    def __init__(self, cell: Cell, evaluated: Evaluated) -> None:
        n = len(evaluated.loaded.networks)
        self.cell, self.loaded, self.affine = cell, evaluated.loaded, _affine(cell)
        self.operating, self.fluctuation = np.full(n, math.nan), np.full(n, math.nan)
        self.sigma_u = np.full(n, math.nan)
        self.at_rest, self.candidate = rest_affine(cell), cell.gates.index("candidate")
        self.wide: dict[int, WideNetwork] = {}

    def _linear(self, r: int) -> float:
        """ln of the spectral radius of dh_t/dh_{t-1} where all slopes are 1, by the eigenvalues of W_hh; nan for a gated cell."""
        if self.affine is None:
            return math.nan
        gain, shift = self.affine
        at_one = gain * self.loaded.scales[r, 0] * self.loaded.networks[r].eigenvalues[0] + shift
        return linear_rate(float(np.abs(at_one).max()))

    def _rest(self, r: int) -> AtRest:
        """The law at rest, by the eigenvalues of the candidate's W_hh."""
        if self.at_rest is None:
            return AtRest(math.nan, math.nan)
        a, b = self.at_rest
        network, scale = self.loaded.networks[r], self.loaded.scales[r, self.candidate]
        spectrum = a + b * scale * network.eigenvalues[self.candidate]
        radius = float(scale * network.radius[self.candidate])
        return law_at_rest(self.cell, spectrum, radius, np.zeros(len(self.cell.gates)))

    def __call__(self, r: int, sigma_max: float) -> Rates:
        linear = self._linear(r)
        bound = self.cell.step_bound(sigma_max)
        operating, fluctuation = float(self.operating[r]), float(self.fluctuation[r])
        if not math.isnan(linear) and not has_slopes(self.cell):  # all slopes are 1
            operating, fluctuation = linear, 0.0
        return Rates(
            linear,
            math.nan if bound is None else math.log(bound),
            self._rest(r),
            self.wide.get(r),
            operating,
            fluctuation,
            self.cell.name == "vanilla",
        )


def _rates(
    cell: Cell,
    together: Together,
    evaluated: Evaluated,
    experiments: Sequence[Experiment],
    starts: np.ndarray,
    stop: int,
) -> _RatesOfRuns:
    rates = _RatesOfRuns(cell, evaluated)
    if has_slopes(cell) and evaluated.states.slope_sums is not None:
        mean, square = _settled_slopes(evaluated, starts, stop, together.shape.B, cell.phi.gamma)
        rates.operating = _operating_rates(cell, evaluated.loaded.params["weight_hh"], mean)
        rates.fluctuation = _slope_fluctuations(mean.cpu().numpy(), square.cpu().numpy())
    w, u = _variances(evaluated)
    rates.sigma_u = u.sqrt().cpu().numpy()
    mixing = np.array([mean_field_applies(e) for e in experiments])
    if mixing.any():
        # the others take part, so that a run's bits do not depend on its company
        limits = mean_fields(cell.phi, torch.where(w.isfinite(), w, 1.0), u)
        copies = correlations(cell.phi, w, u, limits)
        shape = evaluated.loaded
        for r in np.flatnonzero(mixing & evaluated.hold).tolist():
            ratio = float(shape.networks[r].radius[0] / shape.networks[r].sigma_w[0])
            critical = critical_of_inputs(cell.phi, float(u[r])) * ratio
            rates.wide[r] = WideNetwork(limits[r], copies[r], critical)
    return rates


def _settled_slopes(evaluated: Evaluated, starts: np.ndarray, stop: int, B: int, gamma: float) -> tuple[Tensor, Tensor]:
    """E phi' and E phi'² of every unit inside the window of its run, float64 (runs, H)."""
    sums = evaluated.states.slope_sums
    assert sums is not None
    n, T = len(starts), sums.shape[1]
    t = torch.arange(T, device=sums.device)[:, None]
    begin = torch.as_tensor(starts, device=sums.device)
    inside = ((t >= begin) & (t < stop)).double()
    total = torch.einsum("tr,strh->srh", inside, sums[:, :, :n].double())
    mean, square = total / ((stop - begin) * B)[:, None]
    return gamma * mean, gamma**2 * square


def _operating_rates(cell: Cell, W: Tensor, mean: Tensor) -> np.ndarray:
    """``theory.operating_rate`` of every run: the Jacobian at mean slopes is a number times D̄ W plus a number times the identity."""
    affine = _affine(cell)
    assert affine is not None
    gain, shift = affine
    at_mean = gain * mean[:, :, None] * W.double() + shift * torch.eye(W.shape[2], device=W.device, dtype=torch.float64)
    return np.asarray(log_spectral_radii(at_mean).cpu())


def _slope_fluctuations(mean: np.ndarray, square: np.ndarray) -> np.ndarray:
    """``theory.slope_fluctuation`` of every run."""
    total = square.mean(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        fluctuation = np.maximum(0.0, (square - mean**2).mean(axis=1)) / total
    return np.where(total > 0.0, fluctuation, math.nan)


def _variances(evaluated: Evaluated) -> tuple[Tensor, Tensor]:
    """(sigma_w², sigma_u²) of every run, float64: ‖W_hh‖²_F / H, and the mean square of W_ih x_t."""
    W, W_ih = (evaluated.loaded.params[name].double() for name in ("weight_hh", "weight_ih"))
    gram, rows = evaluated.loaded.gram[evaluated.loaded.which], evaluated.loaded.x[0, :, :, 0].numel()
    mean_square = ((W_ih @ gram) * W_ih).sum(dim=(1, 2)) / (rows * W_ih.shape[1])
    return (W**2).sum(dim=(1, 2)) / W.shape[1], mean_square


# ---- updates -------------------------------------------------------------------------------------------------------------


class _Updates:
    """The one row of ``updates`` of every run and clipping rule."""

    def __init__(self, evaluated: Evaluated) -> None:
        self.evaluated = evaluated
        self.loss, self.accuracy = (each.cpu().numpy() for each in evaluated.losses[:2])
        logs = [
            torch.linalg.vector_norm(value.double().flatten(1), dim=1).log() + part.exponent.double() * LN2
            for part in evaluated.param_grads
            for value in part.mantissa.values()
        ]
        self.log_norm = (0.5 * torch.logsumexp(2.0 * torch.stack(logs), dim=0)).cpu().numpy()

    def row(self, r: int, experiment: Experiment) -> Columns:
        """Of run ``r`` by the rule of ``experiment``."""
        clipping = parse_clipping(experiment.clipping)
        clipped = clipping.of_norm(float(self.log_norm[r])) or clipping(self._gradient(r), self._params(r))
        loss = float(self.loss[r])
        row: dict[str, Any] = {
            "update": 0,
            "loss": loss,
            "accuracy": float(self.accuracy[r]),
            "log10_norm_before": clipped.log_norm_before / LN10,
            "log10_norm_after": clipped.log_norm_after / LN10,
            "clip_factor": clipped.factor,
            "truncation_bias": math.nan,
            "omega": math.nan,
            "held_out_error": math.nan,
            "finite": math.isfinite(loss) and clipped.finite,
        }
        return {name: np.array([value]) for name, value in row.items()}

    def _gradient(self, r: int) -> dict[str, Any]:
        """The gradients of one run in NumPy, for a rule that must see them."""
        return {
            name: plain_if_fits(value[r].cpu().numpy(), int(part.exponent[r]))
            for part in self.evaluated.param_grads
            for name, value in part.mantissa.items()
        }

    def _params(self, r: int) -> dict[str, np.ndarray]:
        return {name: value[r].cpu().numpy() for name, value in self.evaluated.loaded.params.items()}
