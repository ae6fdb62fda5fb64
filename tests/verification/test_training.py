"""The plain program of ``verification.training``: it trains as the engine does, and a mistake in either is seen."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from verification import training

SMALL = {
    "task": "temporal_order", "initializer": "pascanu_tanh", "spectral_radius": None, "input_scale": 0.244949, "hidden_size": 20,
    "batch_size": 20, "sequence_length": 12, "learning_rate": 0.1, "updates": 60, "success_below": 0.01, "validate_every": 20,
    "held_out_sequences": 300,
}  # fmt: skip
STUDY = Path(__file__).parents[2] / "studies" / "pascanu_2013.yaml"


def small(**changed: Any) -> rc.Experiment:
    return rc.Experiment(**{**SMALL, **changed})


@pytest.mark.parametrize(
    ("activation", "clipping", "omega"), list(itertools.product(("tanh", "sigmoid"), ("none", "norm:0.2"), (0.0, 4.0)))
)
def test_both_programs_train_alike(activation: str, clipping: str, omega: float) -> None:
    """A loss, Ω, clipping or a step of one program is another than that of the other."""
    initializer = {"tanh": "pascanu_smart", "sigmoid": "pascanu_sigmoid"}[activation]
    experiment = small(
        activation=activation, clipping=clipping, omega=omega, initializer=initializer, success_below=None, seed=3
    )
    ours, theirs = training.engine_course(experiment), training.plain_course(experiment)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9, atol=0)
    assert list(ours.errors) == list(theirs.errors) == [20, 40, 60]
    assert ours.errors == theirs.errors and ours.success_after == theirs.success_after


def test_both_programs_end_at_the_same_success() -> None:
    """One looks at other sequences, at another update, or calls another share a success."""
    experiment = small(success_below=0.7, updates=400, learning_rate=0.3)
    ours, theirs = training.engine_course(experiment), training.plain_course(experiment)
    assert ours.success_after == theirs.success_after and ours.success_after in (20, 40, 60, 80, 100, 120, 140, 160)
    assert len(ours.losses) == len(theirs.losses) == ours.success_after


def test_another_order_of_the_units_changes_rounding_alone() -> None:
    """The twin is another network, or the same bits, which would say nothing of rounding."""
    experiment = small(omega=2.0)
    plain = training.plain_course(experiment)
    twin = training.plain_course(experiment, np.random.default_rng(0).permutation(20))
    np.testing.assert_allclose(twin.losses, plain.losses, rtol=1e-9, atol=0)
    assert (twin.losses != plain.losses).any()


@pytest.mark.parametrize("mistake", ["omega", "clipping", "slope"])
def test_a_mistake_in_a_program_is_no_chaos(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong program is called chaotic."""
    if mistake == "omega":  # from the first step on, whose state before is no state of the network
        right = training._omega
        monkeypatch.setattr(training, "_omega", lambda W, dh, slopes: right(W, [dh[0], *dh], [slopes[0], *slopes]))
    if mistake == "clipping":  # every gradient has the threshold's size
        monkeypatch.setattr(training, "_clipped", lambda rule, grads: {name: g * 0.1 for name, g in grads.items()})
    if mistake == "slope":
        monkeypatch.setattr(torch, "tanh", lambda a: torch.sigmoid(2.001 * a) * 2 - 1)
    row = training.compared(small(omega=4.0, clipping="norm:1.0"))
    assert not training.explained(row)


def test_runs_that_part_as_late_as_the_twin_are_explained() -> None:
    """Chaos fails the check, or success after another number of updates passes although nothing has parted."""
    alike = {"first losses": 1e-12, "ours": 500, "theirs": 500, "twin": 500, "parted": None, "twin parted": None}
    assert training.explained(alike)
    assert training.explained({**alike, "theirs": 1000, "parted": 3000, "twin parted": 4000})
    assert not training.explained({**alike, "theirs": 1000})
    assert not training.explained({**alike, "theirs": 1000, "parted": 300, "twin parted": 4000})
    assert not training.explained({**alike, "theirs": 1000, "parted": 300})
    assert not training.explained({**alike, "first losses": 1e-3})


def test_the_runs_of_the_study_are_those_that_are_asked_for() -> None:
    """Another study's settings are compared, or a setting that the plain program does not know passes unseen."""
    found = list(training.experiments_of(STUDY, [20], [0, 1]))
    assert len(found) == 3 * 2 * 2 * 2 and {e.updates for e in found} == {7000}
    assert {e.initializer for e in found} == {"pascanu_sigmoid", "pascanu_tanh", "pascanu_smart"}
    for changed, message in (
        ({"optimizer": "adam"}, "optimizer: 'adam' is not covered"),
        ({"layers": 2}, "layers: 2 is not covered"),
        ({"bidirectional": True}, "bidirectional: True is not covered"),
        ({"clipping": "value:1.0"}, "clipping: 'value:1.0'"),
    ):
        with pytest.raises(ValueError, match=message):
            training.plain_course(small(updates=1, **changed))
