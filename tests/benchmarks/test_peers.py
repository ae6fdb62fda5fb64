"""Benchmarks compute the right things: nothing here is timed."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from benchmarks import cases, check, grid, peers, sweep, timing
from benchmarks.ours import OURS, READABLE
from benchmarks.peers import numpy_loop
from benchmarks.work import Contender, Form, Measured, Prepared, Work, log_norms

SIZE, STEPS, BATCH = 5, 9, 3
ONCE = timing.Rounds(1, 1)
ALL = [(cell, regime) for cell in cases.CELLS for regime in cases.REGIMES]


def group(kind: str = "vanilla", activation: str = "tanh", dtype: str = "float64", steps: int = STEPS) -> cases.Group:
    return cases.Group(kind, activation, SIZE, dtype, steps)


def work(regime: str = "critical", seed: int = 0, **given: Any) -> Work:
    return cases.make(group(**given), regime, seed, BATCH)


def readable(given: Work) -> Measured:
    return check.only(READABLE.forms[0].prepare([given]))


def answers(name: str, dtype: str) -> Iterator[tuple[str, Measured, Measured]]:
    """(what it is, a peer's answer, the readable engine's) in every form, cell and regime that the peer has."""
    peer = next(peer for peer in peers.every()[0] if peer.name == name)
    for cell, regime in ALL:
        if peer.knows and cell not in peer.knows:
            continue
        works = [work(regime, seed, kind=cell[0], activation=cell[1], dtype=dtype) for seed in range(8)]
        for each in works:  # biases are zero in a new network, and would hide where they are added
            rng = np.random.default_rng(0)
            for bias in ("bias_ih", "bias_hh"):
                each.params[bias] += rng.standard_normal(each.params[bias].shape).astype(dtype) / 4
            if regime == "exploding":  # so few units would all be saturated, and 1 - h² would lose the slope
                each.params["weight_hh"] /= 5
        for form in peer.forms:
            ready = form.prepare(works[: form.runs])
            ready.call()  # buffers that are used again must not keep anything
            for found, each in zip(ready.read(ready.call()), works, strict=False):
                assert (found.log_norm is not None) == peer.trace
                yield f"{form.name}, {cell}, {regime}", found, readable(each)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", peers.NAMES)
def test_every_peer_in_every_form_gives_our_numbers(name: str, dtype: str) -> None:
    """A peer is timed on other work: a gate in another place, a bias too few, W for its transpose."""
    if name.startswith("jax") and importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: make bench installs it")
    seen = 0
    for what, found, expected in answers(name, dtype):
        assert check.errors(found, expected).worst < (1e-9 if dtype == "float64" else 5e-3), what
        seen += 1
    assert seen >= len(cases.REGIMES)


@pytest.mark.parametrize(
    ("cell", "regime"), ALL, ids=lambda value: "-".join(value) if isinstance(value, tuple) else value
)
def test_the_work_is_what_a_user_gets(cell: tuple[str, str], regime: str) -> None:
    """Against the public face with a gradient at the last step alone, by another of its arguments."""
    given = work(regime, kind=cell[0], activation=cell[1])
    found = rc.backward(rc.forward(given.cell(), given.params, given.x), grad_state={"hidden": given.g})
    ours = check.only(OURS.forms[0].prepare([given]))
    np.testing.assert_allclose(found.log_norm, ours.log_norm, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(found.params["weight_hh"]), ours.params["weight_hh"], rtol=1e-8)


def _not_transposed(works: Sequence[Work]) -> Prepared:
    """The slip of W for Wᵀ on the way back."""
    loop = numpy_loop.Vanilla(works[0])

    def call() -> Any:
        loop.W_T, W = loop.start()
        loop.W = W.T
        loop.forward()
        loop.backward()
        return loop.results()

    return Prepared(call, numpy_loop.read)


PLANTED = Contender("planted", "planted", (Form("W for its transpose", _not_transposed),))


def test_a_wrong_peer_is_refused_in_range() -> None:
    with pytest.raises(check.WrongNumbers, match=r"planted \(W for its transpose\)"):
        grid.measure(group(), [PLANTED], ONCE, BATCH)


def test_a_wrong_peer_is_marked_elsewhere() -> None:
    """It is timed, and counted as if its answer were right."""
    only_exploding = replace(group(kind="vanilla", activation="relu"), regimes=("exploding",))
    [entry] = grid.measure(only_exploding, [replace(PLANTED, forms=PLANTED.forms), numpy_loop.PEER], ONCE, BATCH)
    assert not entry["contenders"]["planted"]["right"]
    assert entry["contenders"]["numpy_loop"]["right"]
    assert entry["contenders"]["planted"]["median_ms"] > 0.0


def test_our_own_wrong_answer_stops_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our fast path is wrong, and every peer is measured against its mistake."""
    wrong = replace(OURS, forms=(Form("W for its transpose", _not_transposed),))
    with pytest.raises(check.WrongNumbers, match="readable engine"):
        check.Reference(work(), wrong)
    with pytest.raises(check.WrongNumbers, match="readable engine"):
        check.Reference(work(steps=check.CHECKED + 5), wrong)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda right: replace(right, log_norm=right.log_norm[:1]), "a trace of"),
        (lambda right: replace(right, params={}), "gradients of"),
        (lambda right: replace(right, params={**right.params, "weight_hh": np.zeros(1)}), "of shape"),
    ],
)
def test_the_check_refuses(found: Any, said: str) -> None:
    right = readable(work())
    with pytest.raises(check.WrongNumbers, match=said):
        check.errors(found(right), right)


def _with(right: Measured, step: int, value: float) -> Measured:
    norms = np.array(right.log_norm)
    norms[step] = value
    return replace(right, log_norm=norms)


@pytest.mark.parametrize(
    "found",
    [
        lambda right: replace(right, log_norm=right.log_norm + 1e-8),
        lambda right: _with(right, 0, -np.inf),
        lambda right: _with(right, 3, np.inf),
        lambda right: _with(right, 3, np.nan),
        lambda right: replace(right, params={**right.params, "weight_hh": right.params["weight_hh"] * (1 + 1e-8)}),
        lambda right: replace(right, params={**right.params, "bias_hh": right.params["bias_hh"] * 0.0}),
        lambda right: replace(right, params={**right.params, "bias_hh": right.params["bias_hh"] * np.inf}),
        lambda right: replace(right, params={**right.params, "bias_hh": right.params["bias_hh"] * np.nan}),
        lambda right: replace(right, exponents={"weight_hh": 1}),
    ],
)
def test_a_wrong_answer_is_not_right(found: Any) -> None:
    """One step of the trace underflowed, one gradient overflowed, one power of two is lost."""
    reference = check.Reference(work())
    assert reference.judge(reference.expected) == (True, 0.0)
    assert not reference.judge(found(reference.expected))[0]


def test_gradients_beyond_floats_are_compared_by_their_exponents() -> None:
    right = Measured(None, {"w": np.array([1.0, -2.0])}, {"w": 5000})
    assert check.errors(Measured(None, {"w": np.array([4.0, -8.0])}, {"w": 4998}), right).worst == 0.0
    assert check.errors(Measured(None, {"w": np.array([np.inf, -np.inf])}), right).worst == np.inf
    assert check.errors(Measured(None, {"w": np.array([1.0, -2.0])}), right).worst == np.inf  # 2^5000 too small
    zero = Measured(None, {"w": np.zeros(2)})
    assert check.errors(zero, right).worst == np.inf
    assert check.errors(zero, zero).worst == 0.0


def test_where_rounding_is_amplified_a_right_answer_may_differ_by_as_much() -> None:
    """A network that explodes in the forward pass, too: two right programs differ, and 0 is still wrong."""
    given = cases.make(cases.Group("vanilla", "tanh", 32, "float64", 60), "exploding", batch=BATCH)
    reference = check.Reference(given)
    [form] = numpy_loop.PEER.forms
    other = check.only(form.prepare([given]))
    right, error = reference.judge(other)
    assert error > 1e-6
    assert right
    assert other.log_norm is not None
    assert not reference.judge(_with(other, 0, -np.inf))[0]
    assert not reference.judge(replace(other, log_norm=other.log_norm + 700.0))[0]


def test_a_trace_is_judged_by_what_floats_hold() -> None:
    """A norm of 1e-30 in float32 is lost by the square of it alone."""
    signals = np.zeros((4, 2, 2), np.float32)
    signals[:3, 0, 0] = 1e-30, 1e30, 2.0
    np.testing.assert_allclose(log_norms(signals)[:3], np.log([1e-30, 1e30, 2.0]), rtol=1e-6)
    assert log_norms(signals)[3] == -np.inf


def test_the_regimes_are_what_they_are_called() -> None:
    """A regime does not do what it is called, and the page speaks of runs that nobody measured."""
    for cell in cases.CELLS:
        rates = {}
        for regime in cases.REGIMES:
            each = cases.make(cases.Group(*cell, 32, "float64", 200), regime, batch=4)
            norms = check.only(OURS.forms[0].prepare([each])).log_norm
            assert norms is not None
            rates[regime] = (norms[20] - norms[-20]) / (160 * np.log(10.0))  # decades a step
        assert rates["vanishing"] < -0.9, cell
        assert abs(rates["critical"]) < 0.02, cell
        assert rates["exploding"] > 0.1, cell
        assert rates["saturated"] < (0.02 if cell[0] == "residual" else -0.1), cell


def test_the_grid_covers_every_pair() -> None:
    """A length is only measured in one cell, or a regime in one dtype."""
    places = [
        (each.cell, regime, each.hidden_size, each.dtype, each.length)
        for each in cases.grid() for regime in each.regimes
    ]  # fmt: skip
    assert len(set(places)) == len(places)
    values = [set(column) for column in zip(*places, strict=True)]
    assert [len(found) for found in values] == [6, 4, 5, 2, 3]
    for i in range(4):
        for j in range(i + 1, 4):
            assert len({(p[i], p[j]) for p in places}) == len(values[i]) * len(values[j])
        missing = {(value, T) for value in values[i] for T in cases.LENGTHS} - {(p[i], p[4]) for p in places}
        assert missing <= {(256, 500), (256, 2000), (512, 500), (512, 2000)}, "too long, where H is large alone"


def test_more_than_one_thread_is_refused() -> None:
    with pytest.raises(timing.MoreThanOneThread, match=r"1\.50 threads"):
        timing._times("peer", [(1.0, 1.5)] * 3, 1)


def test_rounds_end_when_their_time_is_over() -> None:
    """A grid of sixty groups takes an hour on a slower machine."""
    clock = iter(range(1000))
    calls = {"a": lambda: next(clock), "b": lambda: next(clock)}
    assert len(timing.side_by_side(calls, timing.Rounds(3, 9, seconds=0.0), most_threads=9.0)["a"].seconds) == 3
    assert len(timing.side_by_side(calls, timing.Rounds(3, 5, seconds=60.0), most_threads=9.0)["b"].seconds) == 5


def test_the_work_counts_the_recurrent_products() -> None:
    assert (
        cases.make(cases.Group("vanilla", "tanh", 64, "float64", 10), "critical", batch=4).flops == 6 * 64**2 * 4 * 10
    )
    assert cases.make(cases.Group("lstm", "tanh", 64, "float64", 10), "critical", batch=4).flops == 24 * 64**2 * 4 * 10


def test_the_sweep_of_ours_shares_and_equals_run_many() -> None:
    todo = sweep.experiments(lengths=(3, 6), radii=(0.9, 1.1), size=4)
    starts = [sweep.start_of(each) for each in todo if each.clipping == "none"]
    results = dict(rc.run_many(todo))
    seen = 0
    for start, rule, found, clipped in sweep.ours_engine(starts):
        rows = results[replace(start.experiment, clipping=rule)]
        assert (found.gradients.log_norm / np.log(10.0) == rows.traces["log10_grad_norm"]).all()
        assert clipped.log_norm_after / np.log(10.0) == rows.updates["log10_norm_after"][0]
        seen += 1
    assert seen == len(todo)


def test_the_sweep_checks_peers_and_gives_both_ratios() -> None:
    todo = sweep.experiments(lengths=(3, 6), radii=(0.9, 1.1), size=4)
    found = sweep.measure([numpy_loop.PEER], todo, ONCE)
    assert found["runs"] == len(todo)
    assert {found[part]["best_peer"] for part in ("engine", "whole")} == {"numpy_loop"}
    planted = Contender("numpy_loop", "planted", (Form("W for its transpose", _not_transposed),))
    with pytest.raises(check.WrongNumbers, match="sweep, T = "):
        sweep.measure([planted], todo, ONCE)
