"""A whole run on torch tensors is the run on NumPy arrays: the code path that a GPU takes, exercised without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core.experiment import problem


def place_on_torch(values: np.ndarray, dtype: str, device: str) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, dtype=dtype))


SETTINGS: list[dict[str, Any]] = [
    {"activation": "tanh", "sequence_length": 60, "spectral_radius": 1.4},
    {"activation": "sigmoid", "sequence_length": 700, "spectral_radius": 0.5, "hidden_size": 6},  # beyond float range
    {
        "task": "input_mean",
        "activation": "relu",
        "updates": 8,
        "clipping": "norm:0.1",
        "trace_every": 3,
        "sequence_length": 12,
    },
    {"task": "input_mean", "activation": "elu", "updates": 5, "clipping": "value:0.1", "sequence_length": 12},
    {"task": "letters", "activation": "tanh", "updates": 5, "sequence_length": 9, "batch_size": 4},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: s["activation"])
def test_a_run_on_torch_tensors_measures_the_same(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> None:
    data = None
    if settings.get("task") == "letters":
        rng = np.random.default_rng(0)
        held_out = np.arange(20) < 5
        data = rc.Sequences(
            rng.standard_normal((20, 9, 2)), rng.integers(0, 3, 20), held_out, "softmax_cross_entropy", "last"
        )
    experiment = rc.Experiment(**settings)
    expected = rc.run(experiment, data)
    monkeypatch.setattr(problem, "place", place_on_torch)
    on_torch = rc.run(experiment, data)
    for name, column in expected.traces.items():
        np.testing.assert_allclose(on_torch.traces[name], column, rtol=1e-9, atol=1e-9)
    for name, column in expected.updates.items():
        np.testing.assert_allclose(on_torch.updates[name], column, rtol=1e-9, atol=1e-9)
    assert on_torch.summary.keys() == expected.summary.keys()
    assert on_torch.summary["regime"] == expected.summary["regime"]
    assert on_torch.summary["growth_rate"] == pytest.approx(expected.summary["growth_rate"], rel=1e-10)
    if experiment.updates:
        assert on_torch.summary["held_out_loss"] == pytest.approx(expected.summary["held_out_loss"], rel=1e-9)
