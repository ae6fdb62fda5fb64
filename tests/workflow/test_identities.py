"""The exact identities of spectra: sound networks pass, and every planted bug is named."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest

import rnn_core as rc
from rnn_core.oracles.problems import with_biases
from rnn_core.theory import frames, singular_values
from rnn_core.theory import spectra as engine
from study.runs import identities as spectra

CELLS = ["vanilla", "residual", "gru", "gru_reset_before", "lstm"]


def findings(cell: str = "vanilla", **options: Any) -> dict[str, spectra.Finding]:
    experiment = rc.Experiment(
        cell=cell, hidden_size=6, sequence_length=30, batch_size=2, spectral_radius=1.3, **options
    )
    problem = with_biases(rc.prepare(experiment))
    x, target = problem.batch(0)
    return {each.name: each for each in spectra.check(problem, rc.evaluate(problem, problem.params, x, target))}


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_sound_networks_pass(cell: str, dtype: str, loss_at: str) -> None:
    found = findings(cell, dtype=dtype, loss_at=loss_at)
    assert set(found) == {"determinant", "forward frame", "singular values", "bounds"}
    assert all(
        each.relative is not None and each.relative < (1e-11 if dtype == "float64" else 1e-5) for each in found.values()
    )


def test_known_eigenvalues_are_found() -> None:
    relative = spectra.check_eigenvalues().relative
    assert relative is not None and relative < 1e-12


def test_where_rounding_decides_nothing_is_said() -> None:
    """Units of relu are off: both determinants are zero, and no number says so."""
    found = findings(activation="relu")
    assert found["determinant"].relative is None and found["bounds"].relative == pytest.approx(0.0, abs=1e-12)


# ---- planted bugs ------------------------------------------------------------------------------------------------------


def _forget_total(patch: pytest.MonkeyPatch) -> None:
    """c_t of an LSTM does not act through h_t."""
    patch.setattr(rc.LSTMCell, "total", lambda self, saved, dstate: dstate)


def _wrong_slope(patch: pytest.MonkeyPatch) -> None:
    """The slope is that of the step's neighbour."""
    module = importlib.import_module("rnn_core.theory.jacobians")  # the package has a function of that name
    of_sample = module.of_sample
    patch.setattr(module, "of_sample", lambda saved, own, widen: np.roll(of_sample(saved, own, widen), 1, axis=0))


def _not_orthonormal(patch: pytest.MonkeyPatch) -> None:
    """The frame is not made orthonormal: its columns keep their lengths."""
    plain = frames.plain_step

    def step(image: np.ndarray) -> Any:
        carried = plain(image)
        return None if carried is None else carried._replace(frame=image / np.linalg.norm(image[:, :1]))

    patch.setattr(frames, "plain_step", step)


def _drop_a_step(patch: pytest.MonkeyPatch) -> None:
    """The window is one step too short."""
    growth = engine._growth_of_frame
    patch.setattr(engine, "_growth_of_frame", lambda *given: growth(*given)[1:])


def _small_values(patch: pytest.MonkeyPatch) -> None:
    """Singular values are in another base."""
    values = singular_values.Graded.log_singular_values
    patch.setattr(singular_values.Graded, "log_singular_values", lambda self: values(self) / np.log(10.0))


def _too_little(patch: pytest.MonkeyPatch) -> None:
    """The product has a step too few."""
    product = singular_values._product
    patch.setattr(
        singular_values, "_product", lambda tape, start, stop, sample: product(tape, min(start + 1, stop), stop, sample)
    )


def _half_frame(patch: pytest.MonkeyPatch) -> None:
    """Exponents are halved, as those of squared norms are not."""
    growth = engine._growth_of_frame
    patch.setattr(engine, "_growth_of_frame", lambda *given: 0.5 * growth(*given))


PLANTED = [
    (_forget_total, "lstm", "singular values", {}),
    (_wrong_slope, "vanilla", "singular values", {}),
    (_not_orthonormal, "vanilla", "forward frame", {}),
    (_drop_a_step, "gru", "determinant", {}),
    (_half_frame, "residual", "forward frame", {}),
    (_small_values, "vanilla", "bounds", {"activation": "identity", "initializer": "orthogonal"}),
    (_too_little, "vanilla", "bounds", {"activation": "identity", "initializer": "orthogonal"}),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "cell", "name", "options"), PLANTED, ids=lambda v: getattr(v, "__name__", None))
def test_a_planted_bug_is_named(
    plant: Any, cell: str, name: str, options: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with rc.compiled.switched_off():
        plant(monkeypatch)
        relative = findings(cell, **options)[name].relative
        assert relative is not None and relative > 1e-4


@pytest.mark.parametrize("plant", [_wrong_slope, _not_orthonormal, _half_frame], ids=lambda plant: plant.__name__)
def test_known_eigenvalues_name_bugs_too(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a linear network every slope is one: a wrong step of it is no bug that shows."""
    with rc.compiled.switched_off():
        plant(monkeypatch)
        relative = spectra.check_eigenvalues().relative
        assert relative is not None and (relative > 1e-3) == (plant is not _wrong_slope)
