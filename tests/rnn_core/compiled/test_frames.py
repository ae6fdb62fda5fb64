"""Compiled frames against the readable ones, step by step, and with bugs planted in the source."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import rnn_core as rc
from rnn_core import compiled
from rnn_core.compiled import build
from rnn_core.theory import lyapunov_spectrum
from rnn_core.theory.jacobians import SampleSteps
from tests.rnn_core.compiled.planted import fixtures
from tests.rnn_core.theory.spectra_oracles import autonomous, driven

pytestmark = pytest.mark.skipif(build.library().handle is None, reason=f"no fast path here: {build.library().why}")

CELLS = [
    rc.VanillaCell("tanh"), rc.ResidualCell("sigmoid", 0.5, 0.25), rc.GRUCell("softplus"), rc.GRUResetBeforeCell("tanh"),
    rc.LSTMCell("tanh"), rc.AntisymmetricCell("tanh"), rc.IndRNNCell("tanh"), rc.MinGRUCell("tanh"), rc.LayerNormCell("tanh", 0.5, 0.25),
]  # fmt: skip
TAPES = {f"{cell!r} H={H}": driven(cell, 40, 2, H, 1.3) for cell in CELLS for H in (1, 7, 12)}
# Where pairs grow apart, the readable engine's rounding lets the faster into the slower one's direction: here none do.
TAPES |= {f"LRU H={H}": driven(rc.LRUCell("tanh"), 40, 2, H, 1.3) for H in (1, 3, 7)}
_rng = np.random.default_rng(8)
_ILL = (
    np.linalg.qr(_rng.standard_normal((6, 6)))[0] @ np.diag(np.geomspace(1.0, 1e-5, 6)) @ _rng.standard_normal((6, 6))
)
TAPES["one step, ill conditioned"] = rc.forward(
    rc.VanillaCell("identity"), {"weight_ih": np.zeros((6, 1)), "weight_hh": _ILL}, np.zeros((1, 1, 1))
)
STEEP = {
    "LSTM, steep": autonomous(rc.LSTMCell(), 4, 5, 3.0, 60),
    "tanh, steep": autonomous(rc.VanillaCell(), 4, 7, 12.0, 60),
}


def difference(tape: rc.Tape) -> float:
    """The largest difference of an exponent, and of the sums of the first of them, from the readable engine's; inf for nan."""
    size, worst = sum(part.shape[-1] for part in tape.state.values()), 0.0
    for k in {1, min(3, size), size}:
        burn_in = min(5, tape.x.shape[0] - 1)
        ours = lyapunov_spectrum(tape, k, burn_in).exponents
        with compiled.switched_off():
            theirs = lyapunov_spectrum(tape, k, burn_in).exponents
        apart = float(np.abs(ours - theirs).max())
        worst = max(worst, apart if apart == apart else np.inf)
    return worst


@pytest.mark.parametrize("name", list(TAPES))
def test_they_are_those_of_the_readable_engine(name: str) -> None:
    """One part of the state, a rest of rows or columns, or another step's gates are taken."""
    assert difference(TAPES[name]) < 1e-11


def test_units_that_do_not_mix_grow_by_themselves() -> None:
    """Rounding lets the direction of a faster pair of an LRU into that of a slower one: each pair as a network of its own tells."""
    tape, m = driven(rc.LRUCell("tanh"), 400, 1, 12, 1.3), 6
    pairs = [{name: value[[i, i + m]] for name, value in tape.params.items()} for i in range(m)]
    with compiled.switched_off():
        alone = [lyapunov_spectrum(rc.forward(tape.cell, params, tape.x), 2).exponents for params in pairs]
    expected = np.sort(np.concatenate(alone))[::-1]
    np.testing.assert_allclose(lyapunov_spectrum(tape, 12).exponents, expected, rtol=1e-12)


@pytest.mark.parametrize("name", list(STEEP))
def test_a_steep_step_is_left_to_the_readable_engine(name: str) -> None:
    """The frame must be as it arrived there."""
    assert difference(STEEP[name]) < 1e-8


def test_most_steps_are_compiled() -> None:
    """It falls back without a word, and is slow."""
    tape = driven(rc.VanillaCell(), 50, 1, 16, 1.2)
    steps = SampleSteps(tape, next(tape.segments()), 0)
    frame = np.linalg.qr(np.random.default_rng(0).standard_normal((16, 8)))[0]
    sent, diagonal = steps.back_compiled(0, 50, frame, 1e-6)
    assert diagonal.shape == (50, 8) and (diagonal > 0.0).all()
    np.testing.assert_allclose(sent.T @ sent, np.eye(8), atol=1e-14)


def test_what_is_not_finite_ends_it() -> None:
    """A loop goes on with nan, or for ever."""
    tape = driven(rc.VanillaCell(), 50, 1, 4, 1.2)
    tape.kept.saved[20] = np.nan
    steps = SampleSteps(tape, next(tape.segments()), 0)
    assert len(steps.back_compiled(0, 50, np.eye(4), 1e-6)[1]) == 29


# ---- bugs planted in the source ----------------------------------------------------------------------------------------

BUGS = {
    "a part of the state is left out": ("for (long part = 0; «part < c->parts»; part++) {\n                const", "part < 1"),
    "an odd row is left out": ("r < 2 && «i < n->H»; r++)\n                    sum[0]", "0"),
    "columns are not divided": ("row[i] = «1 / diagonal[i]»;", "1"),
    "columns before are not taken out": ("factor = «-gram[i * Bp + p] / diagonal[i]», *below", "0"),
    "another step's gates": ("(const REAL *)p->kept + «(t - 1)» * rows", "t > 1 ? t - 2 : 0"),
    "h_t for h_{t-1}": ("(const REAL *)p->hidden + «(t - 1)» * H", "t"),
    "c_t for c_{t-1}": ("(const REAL *)p->memory + «(t - 1)» * H", "t > 1 ? t - 2 : 0"),
    "steep steps are taken": ("if (!(least > «steep * most»))", "0"),
    "what one pass has left is forgotten": ("diagonal[j] *= «unused[j]»;", "1"),
    "the first column's growth alone": ("diagonal[j] = «sqrt(row[j])»;", "j ? sqrt(row[j]) * 1.001 : sqrt(row[j])"),
}  # fmt: skip


planted, wake = fixtures(BUGS)


def test_the_library_with_sleeping_bugs_is_right(wake: Callable[[str], None]) -> None:
    assert max(map(difference, TAPES.values())) < 1e-11
    assert max(map(difference, STEEP.values())) < 1e-8


@pytest.mark.parametrize("bug", list(BUGS))
def test_a_bug_in_the_source_is_caught(wake: Callable[[str], None], bug: str) -> None:
    wake(bug)
    with np.errstate(divide="ignore", invalid="ignore"):  # on some processors a bug leaves a column of zeros
        bounds = [(tape, 1e-10) for tape in TAPES.values()] + [(tape, 1e-7) for tape in STEEP.values()]
        assert any(not difference(tape) <= bound for tape, bound in bounds)
