"""Benchmarks compute the right things: nothing here is timed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from benchmarks import check, peers, single, sweep, timing
from benchmarks.ours import OURS, READABLE
from benchmarks.peers import numpy_loop
from benchmarks.work import Contender, Form, Measured, Prepared, Work, make

SIZE, STEPS, BATCH = 5, 7, 3


def works(dtype: str, count: int = 8) -> list[Work]:
    return [make(SIZE, dtype, seed, STEPS, BATCH) for seed in range(count)]


def expected(dtype: str) -> list[Measured]:
    return [single._only(READABLE.forms[0].prepare([work])) for work in works(dtype)]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", peers.NAMES)
def test_every_peer_in_every_form_gives_our_numbers(name: str, dtype: str) -> None:
    if name.startswith("jax") and importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: make bench installs it")
    peer = next(peer for peer in peers.load()[0] if peer.name == name)
    for form in peer.forms:
        ready = form.prepare(works(dtype)[: form.runs])
        for _ in range(2):  # buffers that are used again must not keep anything
            found = ready.read(ready.call())
            error = check.check(form.name, found, expected(dtype)[: form.runs], dtype, peer.trace)
            assert error < (1e-13 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_our_two_paths_give_the_same_numbers(dtype: str) -> None:
    [form] = OURS.forms
    check.check("ours", [single._only(form.prepare(works(dtype, 1)))], expected(dtype)[:1], dtype)


def test_the_work_is_what_a_user_gets() -> None:
    """Against the public face with a gradient at the last step alone, by another of its arguments."""
    work = make(SIZE, "float64", 0, STEPS, BATCH)
    tape = rc.forward(rc.VanillaCell("tanh"), work.params, work.x)
    found = rc.backward(tape, grad_state={"hidden": work.g})
    ours = expected("float64")[0]
    np.testing.assert_allclose(found.log_norm, ours.log_norm, rtol=1e-13)
    np.testing.assert_allclose(found.params["weight_hh"], ours.params["weight_hh"], rtol=1e-12)


def _not_transposed(works: Sequence[Work]) -> Prepared:
    """The slip of W for Wᵀ on the way back."""
    [work] = works
    loop = numpy_loop.Loop(work, joined=False)

    def call() -> Any:
        loop.forward()
        loop.params = {**work.params, "weight_hh": work.params["weight_hh"].T}
        loop.backward()
        loop.params = work.params
        return loop.results()

    return Prepared(call, lambda found: [Measured(found[0].astype(np.float64), found[1])])


def test_a_wrong_peer_is_refused() -> None:
    planted = Contender("planted", "planted", (Form("W for its transpose", _not_transposed),))
    with pytest.raises(check.WrongNumbers, match=r"planted \(W for its transpose\)"):
        single.measure(SIZE, "float64", [planted], steps=STEPS, batch=BATCH, rounds=1)


def test_wrong_in_one_form_is_refused_even_where_another_is_faster() -> None:
    forms = (numpy_loop.PEER.forms[0], Form("W for its transpose", _not_transposed))
    with pytest.raises(check.WrongNumbers):
        single.fastest(Contender("planted", "planted", forms), works("float64"), expected("float64"), "float64")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (lambda right: Measured(right.log_norm + 1e-8, right.params), "relative error"),
        (lambda right: Measured(right.log_norm * np.nan, right.params), "relative error"),
        (lambda right: Measured(None, right.params), "no trace"),
        (lambda right: Measured(right.log_norm[:1], right.params), "a trace of"),
        (lambda right: Measured(right.log_norm, {}), "gradients of"),
        (lambda right: Measured(right.log_norm, {**right.params, "weight_hh": np.zeros(1)}), "of shape"),
    ],
)
def test_the_check_refuses(found: Any, said: str) -> None:
    right = expected("float64")[0]
    with pytest.raises(check.WrongNumbers, match=said):
        check.check("peer", [found(right)], [right], "float64")


def test_more_than_one_thread_is_refused() -> None:
    with pytest.raises(timing.MoreThanOneThread, match=r"1\.50 threads"):
        timing._times("peer", [(1.0, 1.5)] * 3, 1)


def test_the_work_counts_the_recurrent_products() -> None:
    assert make(64, "float64", steps=10, batch=4).flops == 6 * 64**2 * 4 * 10


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
    found = sweep.measure([numpy_loop.PEER], todo, rounds=1)
    assert found["runs"] == len(todo)
    assert {found[part]["best_peer"] for part in ("engine", "whole")} == {"numpy_loop"}
    planted = Contender("numpy_loop", "planted", (Form("W for its transpose", _not_transposed),))
    with pytest.raises(check.WrongNumbers, match="sweep, T = "):
        sweep.measure([planted], todo, rounds=1)
