"""Random streams: a seed and a name decide the numbers, and nothing else does."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.streams import STREAMS, stream
from tests.support.arrays import quick


def first(seed: int, name: str, index: int = 0, count: int = 4) -> np.ndarray:
    return stream(seed, name, index).standard_normal(count)


@pytest.mark.parametrize("name", STREAMS)
@given(seed=st.integers(0, 2**63), index=st.integers(0, 10_000))
@quick
def test_same_name_same_numbers(name: str, seed: int, index: int) -> None:
    """A run cannot be repeated."""
    np.testing.assert_array_equal(first(seed, name, index), first(seed, name, index))


def test_order_does_not_matter() -> None:
    """Drawing from one stream moves another: an added measurement would change every result after it."""
    alone = first(3, "inputs", 5)
    for name in STREAMS:
        stream(3, name).standard_normal(1000)
    np.testing.assert_array_equal(first(3, "inputs", 5), alone)


def test_streams_differ_by_seed_name_and_index() -> None:
    """Two purposes share their numbers, so that weights and inputs, say, are correlated."""
    keys = list(itertools.product((0, 1, 2, 2**32, 2**40), STREAMS, (0, 1, 2)))
    draws = {tuple(first(*key)) for key in keys}
    assert len(draws) == len(keys)


def test_numbers_are_frozen() -> None:
    """A change of the streams makes every earlier result unrepeatable; it must be a decision, not an accident."""
    golden = {
        "weights": 0.8558989489947592,
        "readout": -0.5115606217982116,
        "inputs": 0.5558001502536156,
        "targets": 0.7618179862977197,
        "batches": 0.2987068868570986,
        "held_out": 1.8256680273879018,
        "held_out_targets": -1.3436663645923537,
    }
    assert {name: first(0, name, 0, 1)[0] for name in golden} == golden


def test_unknown_streams_are_refused() -> None:
    """A typing error would open a stream of its own."""
    with pytest.raises(ValueError, match="stream 'weight' is not one of weights"):
        stream(0, "weight")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, "weights"), "seed: -1 is not allowed; it must be an integer of at least 0"),
        ((0.5, "weights"), "seed: 0.5 is not allowed"),
        ((0, "weights", -2), "index: -2 is not allowed"),
        ((0, "weights", None), "index: None is not allowed"),
    ],
)
def test_impossible_seeds_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    """A seed of None would draw other numbers each time."""
    with pytest.raises(ValueError, match=message):
        stream(*arguments)


# ---- what runs draw from them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [name for name, kind in rc.GENERATED.items() if kind.prefixes])
@given(seed=st.integers(0, 1000), short=st.integers(1, 10), longer=st.integers(0, 10), update=st.integers(0, 5))
@quick
def test_a_shorter_sequence_is_a_prefix_of_a_longer_one(
    task: str, seed: int, short: int, longer: int, update: int
) -> None:
    """Points of a sweep over T see different inputs."""
    a, b = (
        rc.prepare(rc.Experiment(task=task, seed=seed, sequence_length=T, batch_size=3, hidden_size=4))
        for T in (short, short + longer)
    )
    np.testing.assert_array_equal(a.batch(update)[0], b.batch(update)[0][:short])
    np.testing.assert_array_equal(a.held_out()[0], b.held_out()[0][:short])
    for name in a.params:
        np.testing.assert_array_equal(a.params[name], b.params[name])


@pytest.mark.parametrize("initializer", list(rc.INITIALIZERS))
def test_each_spectral_radius_rescales_the_same_network(initializer: str) -> None:
    """Points of a sweep over rho differ in their inputs, readout or directions."""
    a, b = (
        rc.prepare(rc.Experiment(initializer=initializer, spectral_radius=rho, hidden_size=8, seed=4))
        for rho in (0.5, 1.25)
    )
    np.testing.assert_allclose(b.params["weight_hh"], 2.5 * a.params["weight_hh"], rtol=1e-14)
    for name in ("weight_ih", "bias_ih", "bias_hh", "weight_ho", "bias_ho"):
        np.testing.assert_array_equal(a.params[name], b.params[name])
    np.testing.assert_array_equal(a.batch(2)[0], b.batch(2)[0])
    np.testing.assert_array_equal(a.batch(2)[1], b.batch(2)[1])


@pytest.mark.parametrize(
    "change", [{"activation": "relu"}, {"clipping": "norm:1.0"}, {"learning_rate": 0.5}, {"updates": 7}]
)
def test_what_is_not_drawn_changes_no_number(change: dict[str, object]) -> None:
    """Two activations, or two clipping rules, are compared on different networks."""
    a = rc.prepare(rc.Experiment(hidden_size=8))
    b = rc.prepare(rc.Experiment(hidden_size=8, **change))  # type: ignore[arg-type]
    for name in a.params:
        np.testing.assert_array_equal(a.params[name], b.params[name])
    np.testing.assert_array_equal(a.batch(3)[0], b.batch(3)[0])
