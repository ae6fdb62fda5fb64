"""Biases of gates at the start: what a cell remembers before it has learnt anything."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core import gate_biases

KEEPING = [name for name, cell in rc.CELLS.items() if cell.keeping_gate]
H = 6


def small(**settings: Any) -> rc.Experiment:
    return rc.Experiment(**{"hidden_size": H, "sequence_length": 30, "batch_size": 2, **settings})


def block(problem: rc.Problem, gate: str | None) -> np.ndarray:
    """The bias b_ih + b_hh of one gate, (H,)."""
    total = problem.params["bias_ih"] + problem.params["bias_hh"]
    return dict(zip(problem.cell.gates, np.split(total, len(problem.cell.gates)), strict=True))[str(gate)]


@pytest.mark.parametrize("cell", KEEPING)
@pytest.mark.parametrize("settings", [{"forget_bias": 1.7}, {"forget_bias": -2.0}, {"chrono": 40}])
def test_a_state_fades_by_the_sigmoid_of_the_bias(cell: str, settings: dict[str, Any]) -> None:
    """The bias is in a gate that keeps nothing, or has the other sign: the engine without W multiplies the kept state by σ(b)."""
    problem = rc.prepare(small(cell=cell, **settings))
    kept = problem.cell.state_names[-1]  # an LSTM keeps its cell
    params = {**problem.params, "weight_hh": 0.0 * problem.params["weight_hh"]}
    start = {name: np.full((1, H), float(name == kept)) for name in problem.cell.state_names}
    after = rc.forward(problem.cell, params, np.zeros((7, 1, 8)), start).state[kept][0]
    factor = 1.0 / (1.0 + np.exp(-block(problem, problem.cell.keeping_gate)))
    np.testing.assert_allclose(after, factor**7, rtol=1e-12)


@pytest.mark.parametrize("cell", KEEPING)
@pytest.mark.parametrize(("longest", "expected"), [(100, 50.5), (1000, 500.5)])
def test_the_mean_time_constant_of_chrono(cell: str, longest: int, expected: float) -> None:
    """-1/ln σ(b) is (T_max + 1)/2 on average, and from 1 to T_max (Tallec & Ollivier 2018; science.md, R26)."""
    kind, n = rc.CELLS[cell](), 40_000
    bias = dict(zip(kind.gates, np.split(gate_biases.chrono(kind, np.random.default_rng(0), n, longest), len(kind.gates)), strict=True))  # fmt: skip
    time = 1.0 / np.log1p(np.exp(-bias[str(kind.keeping_gate)]))
    assert time.mean() == pytest.approx(expected, abs=4 * longest / math.sqrt(12 * n))
    assert time.min() > 1.0 and time.max() < longest
    zero = set(kind.gates) - {kind.keeping_gate, kind.writing_gate}
    assert not any(bias[gate].any() for gate in zero)


def test_an_lstm_writes_what_it_does_not_keep() -> None:
    """b_i is -b_f: σ(b_i) + σ(b_f) = 1, unit by unit; a GRU's one gate says both."""
    problem = rc.prepare(small(cell="lstm", chrono=40))
    np.testing.assert_array_equal(block(problem, "input"), -block(problem, "forget"))
    assert (block(problem, "forget") > 0.0).all() and not block(problem, "output").any()
    assert block(rc.prepare(small(cell="gru", chrono=40)), "update") == pytest.approx(block(problem, "forget"))


@pytest.mark.parametrize("cell", KEEPING)
def test_a_bias_changes_nothing_else(cell: str) -> None:
    """Two biases are compared on different networks or sequences, or a longer T_max draws other units."""
    base = small(cell=cell)
    plain, forget, chrono, longer, other = (
        rc.prepare(replace(base, **change))
        for change in ({}, {"forget_bias": 1.0}, {"chrono": 20}, {"chrono": 300}, {"chrono": 20, "seed": 1})
    )
    for problem in (forget, chrono, longer):
        for name, value in plain.params.items():
            assert name == "bias_ih" or np.array_equal(problem.params[name], value), name
        np.testing.assert_array_equal(problem.batch(0)[0], plain.batch(0)[0])
    assert not plain.params["bias_ih"].any()
    gate = plain.cell.keeping_gate
    shares = [(np.exp(block(p, gate)) - 1.0) / (longest - 2.0) for p, longest in ((chrono, 20), (longer, 300))]
    np.testing.assert_allclose(*shares, rtol=1e-9)
    assert not np.array_equal(block(chrono, gate), block(other, gate))


def test_the_law_at_rest_is_that_of_the_biases() -> None:
    """``rest_rate`` is that of a cell without biases: ln ρ(σ(b) I + …), of an LSTM and of a GRU."""
    lstm, gru, chrono = (small(cell=c, **s) for c, s in (("lstm", {"forget_bias": 1.0}), ("gru", {"forget_bias": 1.5}), ("lstm", {"chrono": 20})))  # fmt: skip

    def sigma(b: Any) -> Any:
        return 1.0 / (1.0 + np.exp(-np.asarray(b)))

    def measured(e: rc.Experiment, J: np.ndarray) -> None:
        assert rc.run(e).summary["rest_rate"] == pytest.approx(math.log(np.abs(np.linalg.eigvals(J)).max()), abs=1e-12)

    def candidate(e: rc.Experiment) -> np.ndarray:
        problem = rc.prepare(e)
        return np.split(problem.params["weight_hh"], len(problem.cell.gates))[problem.cell.gates.index("candidate")]

    measured(lstm, sigma(1.0) * np.eye(H) + 0.25 * candidate(lstm))
    measured(gru, sigma(1.5) * np.eye(H) + sigma(-1.5) * 0.5 * candidate(gru))
    f = sigma(block(rc.prepare(chrono), "forget"))[:, None]
    measured(chrono, f * np.eye(H) + (1.0 - f) * 0.5 * candidate(chrono))


def test_no_critical_radius_is_claimed_where_biases_differ() -> None:
    """The law at rest of chrono biases does not scale with W: a root of one number would be wrong."""
    assert math.isnan(rc.run(small(cell="gru", chrono=20)).summary["critical_radius_predicted"])
    assert math.isfinite(rc.run(small(cell="gru", forget_bias=2.0)).summary["critical_radius_predicted"])


def test_a_wide_network_with_chrono_biases() -> None:
    """Sampled units have other biases than the network's: one number for all of them gives another rate."""
    cell, longest = rc.GRUCell(), 20
    sampled = rc.theory.dynamic_rate(cell, 1.0, 1.0, chrono=longest, units=2000, steps=100)
    rates = []
    for seed in range(3):
        e = rc.Experiment(cell="gru", chrono=longest, hidden_size=200, sequence_length=110, batch_size=4, weight_scale=1.0, seed=seed)  # fmt: skip
        log_norm = rc.run(e).traces["log10_grad_norm"] * math.log(10.0)
        rates.append((log_norm[-71] - log_norm[-21]) / 50)
    assert sampled == pytest.approx(np.mean(rates), abs=0.015)  # of 200 units; one slow unit takes over in the end
    of_the_mean = rc.theory.dynamic_rate(cell, 1.0, 1.0, math.log(longest / 2), units=2000, steps=100)
    assert of_the_mean < np.mean(rates) - 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"forget_bias": 1.0}, "forget_bias: 1.0 is not allowed with cell 'vanilla'; only .*'lstm'.* have it"),
        ({"cell": "residual", "chrono": 9}, "chrono: 9 is not allowed with cell 'residual'; only .*'gru'.* have it"),
        ({"cell": "lstm", "chrono": 9, "forget_bias": 1.0}, "forget_bias: 1.0 is not allowed beside chrono: 9"),
        ({"cell": "lstm", "chrono": 2}, "chrono: 2 is not allowed; it must be an integer of at least 3"),
        ({"cell": "gru", "forget_bias": "1"}, "forget_bias: '1' is not allowed; it must be a number"),
    ],
)
def test_a_bias_that_a_cell_cannot_have_is_refused(settings: dict[str, Any], message: str) -> None:
    """A bias is ignored, and two rows of a table are one network."""
    with pytest.raises(ValueError, match=message):
        rc.Experiment(**settings)
