"""The gate, without Snakemake: which cases it checks, and that planted mistakes do not pass."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from yaml import safe_load

import check_engine
import rnn_core as rc
from rnn_core import flossing, regularizers
from rnn_core.cells import vanilla
from study.provenance import engine_digest
from study.runs import gate as gate_of_study
from study.runs import runner
from study.runs.checks import CheckFailed, Verifier
from tests.support.study_project import ROOT

SWEEPS = {
    "one": {
        "seeds": 3,
        "grid": {
            "activation": ["tanh", "relu"],
            "spectral_radius": [0.5, 0.9, 1.0, 1.8],
            "sequence_length": [3, 9, 40],
            "hidden_size": 7,
            "batch_size": 3,
            "clipping": ["none", "norm:1.0"],
        },
    },
    "two": {
        "seeds": 1,
        "grid": {"task": "input_mean", "activation": "sigmoid", "sequence_length": 12, "hidden_size": 5},
    },
}


class Outputs(dict):  # type: ignore[type-arg]
    def __getattr__(self, name: str) -> Any:
        return self[name]


def gate(path: Any, sweeps: dict[str, Any] = SWEEPS) -> pd.DataFrame:
    tolerance = {"float64": 1e-10, "float32": 1e-3}
    mark = str(path / "refused")
    params = SimpleNamespace(device="cpu", sweeps=sweeps, tolerance=tolerance, engine="e", refused=mark, spectra=False)
    output, log = Outputs(checks=path / "gate.parquet"), [str(path / "gate.log")]
    check_engine.main(SimpleNamespace(params=params, input={}, output=output, log=log))
    return pd.read_parquet(path / "gate.parquet")


def test_every_activation_is_checked_at_both_ends_of_every_range() -> None:
    cases = list(gate_of_study.cases(SWEEPS))
    found = {(e.task, e.activation, e.spectral_radius, e.sequence_length) for _, e in cases}
    ends = {("white_noise", phi, rho, T) for phi in ("tanh", "relu") for rho in (0.5, 1.8) for T in (3, 40)}
    assert found == ends | {("input_mean", "sigmoid", 1.0, 12)}
    assert len(cases) == len(found)


def test_the_default_study_is_checked_on_all_its_activations_and_tasks() -> None:
    config = safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    cases = [e for _, e in gate_of_study.cases(config["sweeps"])]
    assert {e.activation for e in cases} == {"identity", "relu", "sigmoid", "tanh"}
    assert {e.task for e in cases} == {"white_noise", "digits"}
    assert {e.dtype for e in cases} == {"float32", "float64"}
    assert {e.sequence_length for e in cases if e.task == "white_noise"} == {25, 400}


def test_the_engine_passes(tmp_path: Any) -> None:
    checks = gate(tmp_path)
    assert set(checks["oracle"]) == {"torch.autograd", "torch.nn.RNN"}
    assert len(checks) == 9 + 8
    assert checks["relative_error"].max() < 1e-12


def test_a_study_with_omega_has_it_checked(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ω trains networks, and nobody has looked at its gradient."""
    sweeps = {"omega": {"grid": {"cell": ["vanilla", "residual"], "sequence_length": [12], "hidden_size": [5], "updates": [2], "omega": [4.0]}, "seeds": 1}}  # fmt: skip
    checks = gate(tmp_path, sweeps)
    assert (checks["oracle"] == "torch.autograd of Ω").sum() == 2
    assert checks["relative_error"].max() < 1e-12
    terms = regularizers._Terms
    right = terms.gradient
    monkeypatch.setattr(terms, "gradient", lambda self, counts: right(self, counts).T)
    with pytest.raises(CheckFailed, match=r"torch\.autograd of Ω: relative error .* at ∂Ω/∂W_hh"):
        gate(tmp_path, sweeps)
    verifier = Verifier(1e-10)
    with pytest.raises(CheckFailed, match=r"torch\.autograd of Ω"):
        rc.run(rc.Experiment(hidden_size=5, sequence_length=12, updates=2, omega=4.0), watch=verifier)


def test_a_study_with_flossing_has_it_checked(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks are flossed, and nobody has looked at the gradient that does it."""
    sweeps = {"flossing": {"grid": {"cell": ["vanilla", "residual"], "sequence_length": [12], "hidden_size": [5], "flossing": [0, 2], "flossing_exponents": [3]}, "seeds": 1}}  # fmt: skip
    checks = gate(tmp_path, sweeps)
    assert (checks["oracle"] == "torch.autograd of flossing").sum() == 2
    assert checks["relative_error"].max() < 1e-11
    right = flossing._frame_back
    monkeypatch.setattr(flossing, "_frame_back", lambda P, Q, c: 1.001 * right(P, Q, c))
    with pytest.raises(CheckFailed, match=r"torch\.autograd of flossing: relative error"):
        gate(tmp_path, sweeps)


BUGS = {
    "transposed W": lambda p, a, dh: (vanilla_da(p, a, dh), p["weight_hh"] @ vanilla_da(p, a, dh)),
    "dropped recurrence": lambda p, a, dh: (vanilla_da(p, a, dh), 0.0 * dh),
    "phi' of h, not of a": lambda p, a, dh: ((d := PHI.df(PHI.f(a)) * dh), p["weight_hh"].T @ d),
    "a millionth too large": lambda p, a, dh: (
        vanilla_da(p, a, dh),
        (1 + 1e-6) * (p["weight_hh"].T @ vanilla_da(p, a, dh)),
    ),
}
PHI = rc.ACTIVATIONS["tanh"]


def vanilla_da(p: Any, a: Any, dh: Any) -> Any:
    return PHI.df(a) * dh


@pytest.mark.usefixtures("readable")
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_mistake_stops_the_study_and_names_the_case(
    bug: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backward(self: Any, params: Any, saved: Any, dstate: Any) -> Any:
        da, dh = BUGS[bug](params, saved, dstate["hidden"])
        return da, da, {"hidden": dh}

    monkeypatch.setattr(vanilla.VanillaCell, "backward", backward)
    sweeps = {"one": {**SWEEPS["one"], "grid": {**SWEEPS["one"]["grid"], "activation": ["tanh"]}}}  # type: ignore[dict-item]
    with pytest.raises(CheckFailed, match=r"checks failed; worst: the engine disagrees with .* activation=tanh"):
        gate(tmp_path, sweeps)
    assert not (tmp_path / "gate.parquet").exists()


@pytest.mark.usefixtures("readable")
def test_a_bias_that_is_counted_twice_is_seen(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn biases are zero, so the gate gives its problems others."""
    forward = vanilla.VanillaCell.forward

    def twice(self: Any, params: Any, u: Any, state: Any) -> Any:
        return forward(self, params, u + params["bias_hh"][:, None], state)

    monkeypatch.setattr(vanilla.VanillaCell, "forward", twice)
    with pytest.raises(CheckFailed, match="17 of 17 checks failed"):
        gate(tmp_path)


def test_states_that_overflow_are_no_failure_if_pytorch_agrees(tmp_path: Any) -> None:
    grid = {"activation": "relu", "spectral_radius": 60.0, "sequence_length": 400, "hidden_size": 5, "batch_size": 2}
    checks = gate(tmp_path, {"one": {"seeds": 1, "grid": grid}})
    assert len(checks) == 1  # no module to compare with where nothing is finite
    row = checks[checks["oracle"] == "torch.autograd"].iloc[0]
    assert pd.isna(row["relative_error"])
    assert row["where"] == "not finite, on both sides"


@pytest.mark.parametrize(("dtype", "radius"), [("float64", 10.0), ("float32", 3.0), ("float32", 10.0)])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_sound_engine_passes_on_chaotic_and_exploding_networks(
    tmp_path: Any, dtype: str, radius: float, activation: str
) -> None:
    """Two sound programs part after some steps of a chaotic network; the gate must not take that for a mistake."""
    grid = {
        "activation": activation,
        "spectral_radius": radius,
        "sequence_length": 60,
        "hidden_size": 64,
        "dtype": dtype,
    }
    gate(tmp_path, {"one": {"seeds": 1, "grid": grid}})


def test_training_that_succeeds_is_not_stopped() -> None:
    """Where the loss has come near zero, output minus target is rounding error, and two sound programs have different ones."""
    from study.runs.checks import Verifier

    verifier = Verifier(1e-10)
    settings = {"task": "input_mean", "activation": "identity", "spectral_radius": 0.1, "hidden_size": 12}
    training = {"sequence_length": 5, "batch_size": 8, "learning_rate": 0.4, "updates": 6000, "trace_every": 2000}
    result = rc.run(rc.Experiment(**settings, **training), watch=verifier)
    assert result.updates["loss"][-1] < 1e-9
    assert [row["update"] for row in verifier.rows] == [0, 2000, 4000, 5999]
    assert max(row["relative_error"] for row in verifier.rows) < 1e-11


def test_jobs_that_start_after_a_failed_check_end_at_once(tmp_path: Any) -> None:
    """Under --keep-going or on a cluster. The next call begins without the mark."""
    mark = tmp_path / "checks" / "refused"
    params = SimpleNamespace(
        refused=str(mark), engine=engine_digest(), device="cpu", cache=str(tmp_path), memory_mb=None
    )
    job = SimpleNamespace(params=params, input={})
    runner.prepared(job, "a block")
    gate_of_study.refuse(mark)
    with pytest.raises(CheckFailed, match="the engine check has failed in this call"):
        runner.prepared(job, "a block")
    gate_of_study.forget(mark)
    gate_of_study.forget(mark)
    runner.prepared(job, "a block")
