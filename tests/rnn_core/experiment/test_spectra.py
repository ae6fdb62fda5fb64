"""The spectra of runs: what is measured, over which steps, and that it agrees with what the run itself measures."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core.experiment import SPECTRA, SPECTRUM, Request, measure_spectra
from rnn_core.experiment.measures import spectra
from rnn_core.theory import jacobians

SMALL = rc.Experiment(hidden_size=10, sequence_length=60, batch_size=3, spectral_radius=1.3, input_scale=0.5)
CELLS = ["vanilla", "residual", "gru", "gru_reset_before", "lstm"]


@pytest.mark.parametrize("cell", CELLS)
def test_every_declared_column_is_measured(cell: str) -> None:
    found = measure_spectra(replace(SMALL, cell=cell), Request(4, (1, 7), 2))
    assert {*found.summary, "growth_minus_lyapunov"} == {column.name for column in SPECTRA}
    assert set(found.table) == {column.name for column in SPECTRUM}
    size = 20 if cell == "lstm" else 10
    assert {len(values) for values in found.table.values()} == {2 * (2 * size + 4)}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_no_gradient_is_stretched_by_more_than_the_first_singular_value(cell: str, loss_at: str) -> None:
    """The theorem, in every row of the table; of one part of the state too."""
    table = measure_spectra(replace(SMALL, cell=cell, loss_at=loss_at), Request(1, (1, 3, 20, 59, 60), 3)).table
    first = (table["i"] == 1) & (table["lag"] < 60)
    assert (table["log10_gradient_ratio"][first] <= table["log10_singular_value"][first] + 1e-9).all()
    assert np.isfinite(table["log10_gradient_ratio"][first]).all()
    assert np.isnan(table["log10_gradient_ratio"][table["lag"] == 60]).all()


def test_the_exponents_are_those_of_the_settled_window() -> None:
    """The steps between which the growth rate looks at norms; by their determinants."""
    experiment = replace(SMALL, sequence_length=100)
    result, problem = rc.run(experiment), rc.prepare(experiment)
    tape = rc.forward(problem.cell, {n: v for n, v in problem.params.items() if "_ho" not in n}, problem.batch(0)[0])
    steps = slice(result["settled_from"], result["settled_to"])
    volume = np.linalg.slogdet(jacobians(tape, 0)[steps])[1].mean()
    assert measure_spectra(experiment, Request(10)).summary["lyapunov_sum"] == pytest.approx(volume, rel=1e-10)


def test_the_largest_exponent_is_the_growth_rate_of_a_long_run() -> None:
    experiment = replace(SMALL, sequence_length=1500, batch_size=1)
    found = measure_spectra(experiment, Request(2, (), 1)).summary
    assert found["lyapunov_max"] == pytest.approx(rc.run(experiment)["growth_rate"], abs=0.004)
    assert 0.0 < found["lyapunov_error"] < 0.05
    assert found["spectra_lag"] is None and math.isnan(found["surviving_directions"])
    assert math.isnan(found["lyapunov_sum"])  # of 10 exponents 2 are asked for


def test_an_orthogonal_linear_network_keeps_every_direction() -> None:
    experiment = replace(SMALL, activation="identity", initializer="orthogonal", spectral_radius=1.05)
    found = measure_spectra(experiment, Request(8, (1, 50))).summary
    assert found["surviving_directions"] == 10.0 and found["spectra_lag"] == 50
    assert found["log10_condition_number"] == pytest.approx(0.0, abs=1e-10)
    assert found["lyapunov_max"] == pytest.approx(math.log(1.05), rel=1e-10)
    assert found["entropy_rate"] != found["entropy_rate"] or found["entropy_rate"] > 0.0


def test_lags_that_a_sequence_does_not_have_are_left_out() -> None:
    short = measure_spectra(replace(SMALL, sequence_length=5), Request(3, (1, 5, 6, 100)))
    assert short.summary["spectra_lag"] == 5
    assert sorted({lag for lag in short.table["lag"] if lag == lag}) == [1, 5]
    one = measure_spectra(replace(SMALL, sequence_length=1), Request(3, (1,)))
    assert math.isnan(one.summary["lyapunov_max"]) and np.isfinite(one.summary["log10_condition_number"])


def test_units_that_are_off_are_counted_as_lost() -> None:
    found = measure_spectra(replace(SMALL, activation="relu"), Request(10, (1, 30))).summary
    assert found["lyapunov_sum"] == -math.inf and found["log10_condition_number"] == math.inf
    assert 0.0 < found["surviving_directions"] < 10.0


def test_a_dead_sample_is_left_out_of_the_mean_exponent() -> None:
    """One sample whose relu units are all off made the exponent of a network −∞, while its growth rate was a number."""

    def sample(exponent: float, error: float) -> Any:
        return spectra._Sample(rc.theory.Spectrum(np.array([exponent]), np.array([error]), 0.0, 0.0), True, {}, {})

    dead = sample(-math.inf, math.nan)
    found = spectra._summary([sample(-0.1, 0.01), dead, sample(-0.3, 0.01)])
    assert found["lyapunov_max"] == pytest.approx(-0.2) and found["lyapunov_error"] == pytest.approx(0.1)
    assert found["lyapunov_sum"] == -math.inf  # of all samples: this is no mean that a rate could be compared with
    assert spectra._summary([dead, dead])["lyapunov_max"] == -math.inf
    assert math.isnan(spectra._summary([dead, sample(math.nan, math.nan)])["lyapunov_max"])


@pytest.mark.parametrize(("cell", "block"), [("vanilla", 0), ("gru", 2), ("lstm", 2)])
def test_how_far_the_matrix_is_from_normal(cell: str, block: int) -> None:
    """The measures are of another gate's matrix, or change with the scale of W."""
    found = {}
    for radius in (0.7, 1.4):
        experiment = rc.Experiment(cell=cell, hidden_size=12, sequence_length=30, spectral_radius=radius, seed=3)
        summary = measure_spectra(experiment, Request(2, (1,), 1)).summary
        W = rc.prepare(experiment).params["weight_hh"][12 * block : 12 * (block + 1)]
        peak = rc.theory.peak_growth(W, relative=True)
        assert summary["henrici"] == pytest.approx(rc.theory.henrici(W) / np.linalg.norm(W), rel=1e-12)
        assert summary["numerical_radius"] == pytest.approx(rc.theory.numerical_radius(W), rel=1e-9)
        assert (summary["peak_growth"], summary["peak_growth_lag"]) == (pytest.approx(peak.factor), peak.lag)
        found[radius] = summary
    assert found[0.7]["henrici"] == pytest.approx(found[1.4]["henrici"], rel=1e-9) and found[0.7]["henrici"] > 0.1
    assert (
        found[0.7]["peak_growth"] == pytest.approx(found[1.4]["peak_growth"], rel=1e-9)
        and found[0.7]["peak_growth"] > 1.0
    )
    assert found[1.4]["numerical_radius"] == pytest.approx(2 * found[0.7]["numerical_radius"], rel=1e-7)


def test_a_matrix_that_is_too_large_for_its_powers_is_left_out() -> None:
    large = rc.Experiment(hidden_size=257, sequence_length=4, batch_size=1)
    summary = measure_spectra(large, Request(1, (1,), 1)).summary
    assert math.isnan(summary["henrici"]) and summary["peak_growth_lag"] is None
