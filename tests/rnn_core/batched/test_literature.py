"""Tasks with a number of steps of their own, and matrices as drawn, go through the shared ways as they go alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import rnn_core as rc

COPY = rc.Experiment(task="copy_memory", sequence_length=6, hidden_size=8, batch_size=4)


@pytest.mark.parametrize("device", ["cpu", "cpu:0"])
@pytest.mark.parametrize("cell", ["vanilla", "gru"])
def test_untrained_runs_are_those_of_run_alone(device: str, cell: str) -> None:
    """A lag is taken for the number of steps, or a matrix as drawn is scaled, where runs share a pass."""
    runs = [
        replace(COPY, cell=cell, sequence_length=T, spectral_radius=rho, initializer=kind, clipping=clipping)
        for T in (3, 6) for rho in (None, 1.2) for kind in ("gaussian", "pascanu_tanh") for clipping in ("none", "norm:0.01")
    ]  # fmt: skip
    for experiment, result in rc.run_many(runs, device=device):
        alone = rc.run(experiment)
        assert result["task_steps"] == experiment.sequence_length + 20 == result["t"].max()
        for name in ("log10_grad_norm", "loss", "log10_norm_after"):
            np.testing.assert_allclose(result[name], alone[name], rtol=1e-9, atol=0, err_msg=name)
        for name in (
            "growth_rate",
            "measured_spectral_radius",
            "rest_rate",
            "linear_rate",
            "critical_radius_predicted",
        ):
            np.testing.assert_allclose(result[name], alone[name], rtol=1e-6, atol=0, err_msg=name)


@pytest.mark.parametrize("task", ["temporal_order", "adding"])
def test_runs_of_several_lengths_do_not_share_sequences_that_differ(task: str) -> None:
    """A shorter sequence is taken for the beginning of a longer one, though marks move with the length."""
    runs = [replace(COPY, task=task, sequence_length=T) for T in (10, 20, 30)]
    for experiment, result in rc.run_many(runs):
        alone = rc.run(experiment)
        np.testing.assert_array_equal(result["log10_grad_norm"], alone["log10_grad_norm"])
        np.testing.assert_equal(result.summary, alone.summary)


def test_a_trace_of_every_step_can_be_asked_for() -> None:
    """What a step adds to the gradient is recorded for T steps, and the sequence has more."""
    result = rc.run(COPY, traces=["weight_gradient", "entry_quantiles"])
    assert len(result["log10_weight_grad_norm"]) == 26
