"""Numbers below the smallest normal one. Compiled steps drop them first, for each costs an Intel processor a hundred operations, and look whether that counts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core import compiled
from rnn_core.activations import ACTIVATIONS
from rnn_core.arrays import Array
from rnn_core.compiled import build
from tests.rnn_core.compiled.planted import library, waking
from tests.rnn_core.compiled.test_beyond_range import (
    test_it_is_the_readable_engine_beyond_the_range as beyond_the_range,
)
from tests.support.arrays import DTYPES

pytestmark = pytest.mark.skipif(build.library().handle is None, reason=f"no fast path here: {build.library().why}")

LOWEST = {"float32": -126, "float64": -1022}  # as powers of two, the smallest normal numbers
NEAR = {"float32": 1e-3, "float64": 1e-5}  # what is subnormal has few digits
LARGER = 90
FAR = {"float32": 200, "float64": 3000}  # a loss times two to this is beyond the range


def at(power: float) -> float:
    """Where a sigmoid's slope, and the sigmoid, are two to this power."""
    return float(power * np.log(2.0))


def case(
    cell: rc.Cell, params: dict[str, Any], a: list[list[float]], grad: dict[str, float], dtype: str, exponent: int = 0
) -> float:
    """How far ln |every entry| of what ``backward`` gives is from what the readable engine gives.

    a (T, H) is the input part. W_ih mixes the units, so that no dL/dx_t is tiny. One more input of small weight is so large in a plain run that what
    da adds to W_ih are normal numbers. dL/dstate_T is ``grad`` by name, times 2**exponent. What the readable engine is given is larger, by a power of two that is taken back: it does
    not lose what it would lose here.
    """
    rows = len(a[0])
    mixing = np.eye(rows) + 0.25
    large = np.full((len(a), 1), 1.0 if exponent else {"float32": 2.0**30, "float64": 2.0**80}[dtype])
    x = np.concatenate([np.linalg.solve(mixing, np.asarray(a).T - 1.0).T, large], axis=1).astype(dtype)[:, None]
    params = {"weight_ih": np.concatenate([mixing, np.full((rows, 1), 1 / large[0, 0])], axis=1)} | params
    tape = rc.forward(cell, {name: np.asarray(value, dtype) for name, value in params.items()}, x)
    final = {name: np.full((1, rows // len(cell.gates)), grad[name], dtype) for name in cell.state_names}
    ours = rc.backward(tape, None, {name: rc.Scaled(value, exponent) for name, value in final.items()})
    with compiled.switched_off():
        theirs = rc.backward(tape, None, {name: rc.Scaled(value, exponent + LARGER) for name, value in final.items()})
    pairs = [(ours.log_norm, theirs.log_norm), (ours.log_norm_cell, theirs.log_norm_cell)]
    if len(final) == 1:  # of an LSTM rows of dL/dW are too far below others
        pairs += [(_logs(ours.params[name]), _logs(value)) for name, value in theirs.params.items()]
    worst = 0.0
    for here, there in pairs:
        if there is not None:
            expected = there - LARGER * np.log(2.0)
            plain = exponent == 0 and here.ndim == 2  # what is returned is then subnormal
            known = (here != expected) & ~(plain & (expected < np.log(2.0) * LOWEST[dtype]))
            worst = max(worst, float(np.abs(here[known] - expected[known]).max(initial=0.0)))
    return worst


def _logs(value: Any) -> Array:
    """ln of the magnitudes of a plain or scaled array."""
    m, e = (value.mantissa, value.exponent) if isinstance(value, rc.Scaled) else (value, 0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.abs(m).astype(np.float64)) + e * np.log(2.0))


def all_slopes_are_tiny(dtype: str) -> float:
    """All that a step sends is."""
    low = at(LOWEST[dtype] - 8)
    return case(
        rc.VanillaCell("sigmoid"), {"weight_hh": np.diag([0.5, 0.25])}, [[low, low]] * 4, {"hidden": 2.0**12}, dtype
    )


def a_slope_is_tiny_beside_a_small_one(dtype: str) -> float:
    """One of two slopes is dropped, and what the other sends is not small, for the signal is large."""
    low, large = LOWEST[dtype], {"float32": 2.0**40, "float64": 2.0**80}[dtype]
    params = {"weight_hh": np.array([[0.5, 0.5], [0.5, -0.5]])}
    return case(rc.VanillaCell("sigmoid"), params, [[at(low + 6), at(low - 1.5)]] * 4, {"hidden": large}, dtype)


def a_row_is_tiny(dtype: str, exponent: int = 0) -> float:
    """A unit's da is dropped at every step, and with it a row of dL/dW. What is sent is large."""
    steep, grad = {"float32": (-99.5, 2.0**-46), "float64": (-981.0, 2.0**-85)}[dtype]
    params = {"weight_hh": np.array([[0.5, 0.4], [0.3, 0.2]])}
    return case(rc.VanillaCell("sigmoid"), params, [[0.1, at(steep)]] * 4, {"hidden": grad}, dtype, exponent)


def a_row_is_tiny_far_above_the_range(dtype: str) -> float:
    """The same where the signal has an exponent, which what is lost has too."""
    low, small = LOWEST[dtype], {"float32": -40, "float64": -100}[dtype]
    params = {"weight_hh": np.array([[0.5, 0.4], [0.3, 0.2]])}
    return case(rc.VanillaCell("sigmoid"), params, [[at(small), at(low - 4)]], {"hidden": 1.0}, dtype, FAR[dtype])


def every_row_is_tiny(dtype: str) -> float:
    """All da is dropped, and the signal goes on without them."""
    low = at(LOWEST[dtype] - 4)
    params = {"weight_hh": np.array([[0.5, 0.4], [0.3, 0.2]])}
    cell = rc.ResidualCell("sigmoid", 0.5, 0.25)
    return max(case(cell, params, [[low, low]] * 4, {"hidden": 1.0}, dtype, e) for e in (0, FAR[dtype], -FAR[dtype]))


def a_shut_forget_gate(dtype: str) -> float:
    """f is tiny, and all that is left: no other way leads back."""
    low = at(LOWEST[dtype] - 4)
    a = [[0.3, 0.3, low, low, 0.2, 0.1, at(-60), at(-60)]] * 4  # i, f, g, o
    return case(rc.LSTMCell("tanh"), {"weight_hh": np.zeros((8, 2))}, a, {"hidden": 0.0, "cell": 2.0**60}, dtype)


def a_shut_output_gate(dtype: str) -> float:
    """o is tiny, but dh is so large that most of dc has come through it."""
    o = at(LOWEST[dtype] - 0.5)
    a = [[0.3, 0.3, 3.0, 3.0, 0.2, 0.1, o, o]] * 4  # i, f, g, o
    grad = {"float32": {"hidden": 2.0**46, "cell": 2.0**-82}, "float64": {"hidden": 2.0**470, "cell": 2.0**-900}}[dtype]
    return case(rc.LSTMCell("tanh"), {"weight_hh": np.zeros((8, 2))}, a, grad, dtype)


def all_states_are_tiny(dtype: str) -> float:
    """A network without inputs: all of h_{t-1} is lost in W_hh h_{t-1}, and in dL/dW_hh. Powers of two are exact down to the smallest number."""
    T, large = 5, {"float32": 46, "float64": 104}[dtype]
    h = np.full((1, 4), 2.0 ** (LOWEST[dtype] + 1), dtype)
    params = {"weight_ih": np.ones((4, 1), dtype), "weight_hh": np.full((4, 4), 0.125, dtype)}
    final = {"hidden": np.full((1, 4), 2.0**large, dtype)}
    tape = rc.forward(rc.VanillaCell("tanh"), params, np.zeros((T, 1, 1), dtype), {"hidden": h})
    ours = _logs(rc.backward(tape, None, final).params["weight_hh"]) / np.log(2.0)
    right = h[0, 0] * 2.0 ** -np.arange(1, T + 1)
    wrong_states = float(np.abs(tape.hidden[:, 0] - right[:, None]).max() > 0)
    # da_t is half of what it is one step later, h_{t-1} twice what it is: every step adds the same
    return wrong_states + float(np.abs(ours - (large + LOWEST[dtype] + 2 - T + np.log2(T))).max())


CASES = [
    all_slopes_are_tiny, a_slope_is_tiny_beside_a_small_one, a_row_is_tiny, a_row_is_tiny_far_above_the_range, every_row_is_tiny, a_shut_forget_gate,
    a_shut_output_gate, all_states_are_tiny,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tiny", CASES)
def test_what_is_dropped_does_not_count(tiny: Callable[[str], float], dtype: str) -> None:
    """A gradient is lost because a factor of it is no normal number."""
    assert tiny(dtype) < NEAR[dtype]


def tails(dtype: str) -> dict[str, tuple[Array, Array]]:
    """phi by name, and the readable one, from 0 to where it becomes 0."""
    a = (-np.geomspace(1e-5, 1.1, 3000)[:, None, None] * {"float32": 104.0, "float64": 746.0}[dtype]).astype(dtype)
    params = {"weight_ih": np.ones((1, 1), dtype), "weight_hh": np.zeros((1, 1), dtype)}
    return {name: (rc.forward(rc.VanillaCell(name), params, a).hidden, ACTIVATIONS[name].f(a)) for name in compiled.PHI}


def phi_is_tiny(dtype: str) -> float:
    """How far phi is from the readable one where it is subnormal, in units of the smallest number, over all activations."""
    worst, lift = 0.0, 2.0 ** {"float32": 149, "float64": 537}[dtype]
    for found, expected in tails(dtype).values():
        small = np.abs(expected) < 2.0 ** LOWEST[dtype]
        units = np.abs(found[small].astype(np.float64) * lift - expected[small].astype(np.float64) * lift)
        worst = max(worst, float((units * {"float32": 1.0, "float64": lift}[dtype]).max(initial=0.0)))
    return worst


@pytest.mark.parametrize("dtype", DTYPES)
def test_phi_itself_is_kept(dtype: str) -> None:
    """A small state becomes 0. Activations round a tail of few digits in their own ways."""
    assert phi_is_tiny(dtype) < 2.0 ** {"float32": 8, "float64": 12}[dtype]


def keeps_tiny() -> bool:
    """Whether this thread keeps numbers below the smallest normal one."""
    return bool(np.full(1, 2.0**-126, np.float32) * np.float32(0.5) != 0)


def passes_change_it() -> bool:
    """Whether a forward and a backward pass leave this thread with another setting than they found."""
    changed = False
    for flushed in (True, False):
        if not torch.set_flush_denormal(flushed):
            pytest.skip("this processor cannot drop them")
        for tiny in CASES:
            tiny("float32")
        tails("float32")
        changed |= keeps_tiny() is flushed
    torch.set_flush_denormal(False)
    return changed


def test_the_setting_of_the_thread_is_left_as_it_was() -> None:
    """What NumPy computes afterwards differs."""
    assert keeps_tiny()
    assert not passes_change_it()


# ---- planted bugs ----------------------------------------------------------------------------------------------------

# What is between « and » becomes the second text; who sees it.
BUGS: dict[str, tuple[str, str, Callable[[str], object]]] = {
    "dropped slopes are not seen": ("return «take_flags() & LOST && s->drops ? LOST | FACTOR_LOST : 0»;", "(forget_flags(), 0)", all_slopes_are_tiny),
    "what a dropped slope multiplies does not count": ("raised & FACTOR_LOST ? «NAME(larger_size)(n, s->dh, s->dc)» : 0", "0", a_slope_is_tiny_beside_a_small_one),
    "the sums are not told": ("sums->lost[sums->done] = «lost != NOTHING» ? lost + s->e : NOTHING;", "0", a_row_is_tiny_far_above_the_range),
    "the sums are told without the exponent": ("? «lost + s->e» : NOTHING;", "lost", a_row_is_tiny_far_above_the_range),
    "all counts as out of reach": ("return «lost < NAME(size)(sums, n) - REACH» || ", "1", a_row_is_tiny),
    "a row counts as large": ("«NAME(all_large)(sums, n, (REAL)ldexp(1.0, (int)lost + MARGIN))»", "1", a_row_is_tiny),
    "the sums are taken again where small slopes lose": ("if («at_top && labs(size) < NOT_FINITE && size < TOP»)", "0", a_row_is_tiny),
    "what dc is multiplied by is dropped": ("if («s->drops»)\n            keep_tiny(s->before);", "0", a_shut_output_gate),
    "what is tiny in h is dropped where it counts": ("if (!NAME(all_large)(s->kept, «layouts[n->cell].kept * n->H * n->Bp», ", "0", all_states_are_tiny),
    "sums are not told what is tiny in h": ("if («labs(of_da) < NOT_FINITE»)\n            NAME(loses)", "0", all_states_are_tiny),
    "phi is dropped": ("if («NAME(any)(dropped)»)", "0", phi_is_tiny),
}  # fmt: skip
ELSEWHERE = {
    "the setting is left": ("_mm_setcsr((_mm_getcsr() & ~TO_ZERO) | «before»);", "TO_ZERO"),
    "what overflows at the top is taken": ("if («!(NAME(step_backward)(n, &to) & BROKEN)»)", "(NAME(step_backward)(n, &to), 1)"),
}  # fmt: skip
ALL = {name: bug[:2] for name, bug in BUGS.items()} | ELSEWHERE


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The library with all of them, each asleep until ``planted`` is its number."""
    return library(tmp_path_factory.mktemp("planted"), ALL)


@pytest.fixture
def wake(planted: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    yield from waking(planted, monkeypatch)


@pytest.mark.parametrize("bug", list(BUGS))
def test_a_bug_is_caught(wake: Callable[[int], None], bug: str) -> None:
    """What counts is dropped."""
    seen_by, fine = BUGS[bug][2], []
    for number in (0, 1 + list(ALL).index(bug)):
        wake(number)
        limits = {dtype: 2.0**12 if seen_by is phi_is_tiny else NEAR[dtype] for dtype in DTYPES}
        fine.append([float(seen_by(dtype)) < limit for dtype, limit in limits.items()])  # type: ignore[arg-type]
    assert all(fine[0])
    assert not all(fine[1])


def test_a_setting_that_is_left_is_caught(wake: Callable[[int], None]) -> None:
    """NumPy drops what is tiny after a pass, and nobody looks."""
    wake(1 + list(ALL).index("the setting is left"))
    try:
        assert passes_change_it()
    finally:
        torch.set_flush_denormal(False)


def test_sums_that_overflow_at_the_top_are_caught(wake: Callable[[int], None]) -> None:
    """Inputs of 1e300 times a signal that was lifted to the top of the range."""
    wake(1 + list(ALL).index("what overflows at the top is taken"))
    with pytest.raises(AssertionError):
        beyond_the_range("huge inputs", "mingru", "float64")
