"""Numbers below the smallest normal one. Compiled steps drop them first, for each costs an Intel processor a hundred operations, and look whether that counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import rnn_core as rc
from rnn_core import compiled
from rnn_core.activations import ACTIVATIONS
from rnn_core.arrays import Array
from rnn_core.compiled import build
from tests.rnn_core.compiled.planted import fixtures
from tests.rnn_core.compiled.test_beyond_range import CELLS, REGIMES, against_readable, disagreement, made
from tests.rnn_core.compiled.test_beyond_range import case as network
from tests.rnn_core.compiled.test_beyond_range import (
    test_it_is_the_readable_engine_beyond_the_range as beyond_the_range,
)
from tests.support.arrays import DTYPES

pytestmark = pytest.mark.skipif(build.library().handle is None, reason=f"no fast path here: {build.library().why}")

LOWEST = {"float32": -126, "float64": -1022}  # as powers of two, the smallest normal numbers
NEAR = {"float32": 1e-3, "float64": 1e-5}  # what is subnormal has few digits
REACH = {"float32": 105, "float64": 995}  # how far below the largest entry of a matrix others are looked at
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
    return difference(tape, final, dtype, exponent)


def difference(tape: rc.Tape, final: dict[str, Array], dtype: str, exponent: int = 0) -> float:
    """The same of a tape, with dL/dstate_T."""
    ours = rc.backward(tape, None, {name: rc.Scaled(value, exponent) for name, value in final.items()})
    with compiled.switched_off():
        theirs = rc.backward(tape, None, {name: rc.Scaled(value, exponent + LARGER) for name, value in final.items()})
    pairs = [(ours.log_norm, theirs.log_norm), (ours.log_norm_cell, theirs.log_norm_cell)]
    given = [(ours.x, theirs.x), *((ours.state[name], value) for name, value in theirs.state.items())]
    of_params = 2 + len(given)
    if len(final) == 1:  # of an LSTM rows of dL/dW are too far below others
        given += [(ours.params[name], value) for name, value in theirs.params.items()]
    pairs += [(_logs(here), _logs(there)) for here, there in given]
    worst, low = 0.0, np.log(2.0) * LOWEST[dtype]
    for number, (here, there) in enumerate(pairs):
        if there is not None:
            expected = there - LARGER * np.log(2.0)
            reached = (number < of_params) | (expected > expected.max() - np.log(2.0) * REACH[dtype])
            subnormal = (number > 1) & (exponent == 0) & (expected < low)  # what is returned then has few digits
            known = reached & (here != expected) & ~subnormal
            worst = max(worst, float(np.abs(here[known] - expected[known]).max(initial=0.0)))
    return worst


def _logs(value: Any) -> Array:
    """ln of the magnitudes of a plain or scaled array."""
    m, e = (value.mantissa, value.exponent) if isinstance(value, rc.Scaled) else (value, 0)
    exponent = np.reshape(e, (-1, *(1,) * (m.ndim - 1)))  # one, or one a step
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.abs(m).astype(np.float64)) + exponent * np.log(2.0))


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


def a_row_is_tiny(dtype: str) -> float:
    """A unit's da is dropped at every step, and with it a row of dL/dW. What is sent is large."""
    steep, grad = {"float32": (-99.5, 2.0**-46), "float64": (-981.0, 2.0**-85)}[dtype]
    params = {"weight_hh": np.array([[0.5, 0.4], [0.3, 0.2]])}
    return case(rc.VanillaCell("sigmoid"), params, [[0.1, at(steep)]] * 4, {"hidden": grad}, dtype)


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


def drawn(
    cell: rc.Cell,
    params: dict[str, Any],
    bias: list[float],
    dtype: str,
    state: list[float] | None = None,
    T: int = 1,
    size: float = 0.01,
) -> rc.Tape:
    """A forward pass with inputs of this size, and an initial state."""
    units = len(bias) // len(cell.gates)
    W_ih = np.full((len(bias), len(bias)), 0.25) + np.diag(np.linspace(1.0, 1.25, len(bias)))
    given = {"weight_ih": W_ih, "bias_ih": np.asarray(bias)} | params
    x = np.full((T, 1, len(bias)), size) * np.linspace(1.0, 1.5, T)[:, None, None]
    initial = {"hidden": np.asarray([state or [0.1] * units], dtype)}
    return rc.forward(cell, {name: np.asarray(value, dtype) for name, value in given.items()}, x.astype(dtype), initial)


def a_huge_candidate(dtype: str) -> float:
    """A minGRU's z is so small that its slope is dropped, but that is multiplied by n - h_{t-1}. What other units send is not larger."""
    n, *of_dh = {"float32": (90, -20, -62), "float64": (700, -100, -790)}[dtype]
    tape = drawn(rc.MinGRUCell("identity"), {}, [at(LOWEST[dtype] - 4), 0.1, 2.0**n, 0.3], dtype, T=3)
    return difference(tape, {"hidden": np.array([[2.0**e for e in of_dh]], dtype)}, dtype)


def a_large_gain(dtype: str) -> float:
    """A residual network multiplies what is left of a slope by 2^60 and more."""
    low, gain = LOWEST[dtype], {"float32": 2.0**60, "float64": 2.0**500}[dtype]
    params = {"weight_hh": np.array([[0.5, 0.4], [0.3, 0.2]])}
    tape = drawn(rc.ResidualCell("sigmoid", gain, 1.0), params, [at(low + 26), at(low + 20)], dtype)
    return difference(tape, {"hidden": np.array([[2.0**-22, 2.0**-21]], dtype)}, dtype)


def twice_through_a_matrix(dtype: str) -> float:
    """With its reset gate before the product, a GRU's da_n goes through W_hn to da_r, and that through W_hr."""
    large, shut, of_dh = {"float32": (2.0**60, 109, -20), "float64": (2.0**200, 285, -740)}[dtype]
    W = np.zeros((9, 3))
    W[0, 1], W[6, 0], W[6, 2] = large, large, -large  # a_n is 0 all the same
    bias = [0.0, 0.0, 0.0, -at(-shut), -at(-shut), 0.0, 0.0, 0.0, 0.0]
    tape = drawn(rc.GRUResetBeforeCell("tanh"), {"weight_hh": W}, bias, dtype, [1.0, 0.0, 1.0], size=0.0)
    return difference(tape, {"hidden": np.array([[2.0**of_dh, 2.0**of_dh, 2.0 ** (of_dh + 9)]], dtype)}, dtype)


def a_reset_state(dtype: str) -> float:
    """r h_{t-1} is tiny where h_{t-1} is not. It is a factor of dL/dW_hn."""
    W = np.ones((6, 2))
    W[:, 1] = 2.0**-20  # da_r is dropped, too
    bias = [0.0, at(LOWEST[dtype] + 38), 0.3, 0.2, 0.1, 0.2]
    tape = drawn(rc.GRUResetBeforeCell("tanh"), {"weight_hh": W}, bias, dtype, [2.0**-50, 2.0**-40])
    return difference(tape, {"hidden": np.full((1, 2), 2.0**10, dtype)}, dtype)


def shut_gates(dtype: str) -> float:
    """Both gates of a GRU are shut: of its rows da_n is far larger than all that dL/dW_hh and db_hh are made of."""
    low = LOWEST[dtype] + 7
    bias = [at(low - 1), at(low - 2), at(low - 1.5), at(low - 1.2), 0.1, 0.2]
    params = {"weight_hh": np.full((6, 2), 0.5), "bias_hh": np.zeros(6)}
    tape = drawn(rc.GRUCell("tanh"), params, bias, dtype, [0.1, 0.2], T=140)
    return difference(tape, {"hidden": np.full((1, 2), 2.0**-8, dtype)}, dtype, FAR[dtype])


def a_small_normalised_gain(dtype: str) -> float:
    """Layer normalisation multiplies by so little that da is far below dz, which has sums of its own."""
    rng, small = np.random.default_rng(0), 2.0 ** {"float32": -124, "float64": -1020}[dtype]
    own = {"weight_ln": small * rng.uniform(1.0, 2.0, 3), "bias_ln": np.zeros(3)}
    params = {"weight_hh": 0.5 * rng.standard_normal((3, 3)), "bias_hh": rng.standard_normal(3)} | own
    cell, final, worst = rc.LayerNormCell("tanh", 0.5, 0.5), {"hidden": np.array([[1.0, 0.5, 2.0]], dtype)}, 0.0
    for T, h, x in ((140, 0.1, 0.01), (1, 0.0, 0.0)):  # in the second, gradients of biases alone
        tape = drawn(cell, params, [0.1, 0.5, -0.3], dtype, [h] * 3, T, x)
        worst = max(worst, difference(tape, final, dtype, FAR[dtype]))
    return worst


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


TINY = [
    all_slopes_are_tiny, a_slope_is_tiny_beside_a_small_one, a_row_is_tiny, a_row_is_tiny_far_above_the_range, every_row_is_tiny, a_shut_forget_gate,
    a_shut_output_gate, all_states_are_tiny, a_huge_candidate, a_large_gain, twice_through_a_matrix, a_reset_state, shut_gates,
    a_small_normalised_gain,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tiny", TINY)
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "regime", ["samples that decay at different rates", "vanishes", "a loss of any size at every step"]
)
@pytest.mark.parametrize("name", list(CELLS))
@pytest.mark.parametrize("ways", ["again", "readable", "again, readable"])
def test_sums_taken_otherwise_are_the_same(
    ways: str, name: str, regime: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of an LSTM dh and dc have exponents of their own where samples are apart; steps are those of another part; a parameter is left out."""
    steps, again = compiled.run_backward, compiled.sums_again

    def marked(*args: Any, **options: Any) -> compiled.Steps:
        done = steps(*args, **options)
        lost, broke = "again" in ways, ways == "readable"
        return done._replace(sums=[part._replace(lost=lost, broke=broke) for part in done.sums])

    tape, given = network(
        made(name, REGIMES[regime]._replace(T=140)), REGIMES[regime]._replace(T=140), dtype, (5, 2, 3)
    )
    monkeypatch.setattr(compiled, "run_backward", marked)
    monkeypatch.setattr(compiled, "sums_again", lambda *args: again(*args)._replace(broke="readable" in ways))
    found, _ = against_readable(tape, given)
    assert disagreement(found, dtype) < 1.0, found


def keeps_tiny() -> bool:
    """Whether this thread keeps numbers below the smallest normal one."""
    return bool(np.full(1, 2.0**-126, np.float32) * np.float32(0.5) != 0)


def passes_change_it() -> bool:
    """Whether a forward and a backward pass leave this thread with another setting than they found."""
    changed = False
    for flushed in (True, False):
        if not torch.set_flush_denormal(flushed):
            pytest.skip("this processor cannot drop them")
        for tiny in TINY:
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
    "a row counts as large": ("«NAME(all_large)(sums, n, NAME(far_above)(lost))»", "1", a_row_is_tiny),
    "the sums are taken again where small slopes lose": ("s->e = «!at_top || top == NOTHING» ?", "1", a_row_is_tiny),
    "what dc is multiplied by is dropped": ("if («s->drops»)\n            keep_tiny(s->before);", "0", a_shut_output_gate),
    "what is tiny in h is dropped where it counts": ("if (!NAME(all_large)(s->kept, «layouts[n->cell].kept * n->H * n->Bp», ", "0", all_states_are_tiny),
    "sums are not told what is tiny in h": ("«labs(of_da) < NOT_FINITE» && (s->tiny[c] || reset)", "0", all_states_are_tiny),
    "a minGRU's candidate is looked for where a GRU has it": ("s->kept + «(n->cell == MINGRU ? 1 : 2)» * all;", "0", a_huge_candidate),
    "the gain does not count": ("long factor = «(long)fmax(0, NAME(size)(&n->gain, 1) - 1)»;", "0", a_large_gain),
    "W counts once": ("«(n->cell == GRU_RESET_BEFORE ? of_W : 0)»", "0", twice_through_a_matrix),
    "sums are not told what is lost of r h": ("reset = «dropped && n->cell == GRU_RESET_BEFORE»;", "0", a_reset_state),
    "what sums lose at a scale of their own does not count": ("if («raised & LOST»)\n        NAME(loses)", "!s->apart && raised & LOST", shut_gates),
    "all sums of da count as one": ("count = «of->gates»;", "of->da", a_small_normalised_gain),
    "sums that lose again are taken": ("s->broke || «(q->again && !harmless)» ? 2", "0", a_small_normalised_gain),
    "phi is dropped": ("if («NAME(any)(dropped)»)", "0", phi_is_tiny),
}  # fmt: skip
ELSEWHERE = {
    "the setting is left": ("_mm_setcsr((_mm_getcsr() & ~TO_ZERO) | «before»);", "TO_ZERO"),
    "what overflows at the top is taken": ("if («!(NAME(step_backward)(n, &to) & BROKEN)»)", "(NAME(step_backward)(n, &to), 1)"),
}  # fmt: skip
planted, wake = fixtures({name: bug[:2] for name, bug in BUGS.items()} | ELSEWHERE)


@pytest.mark.parametrize("bug", list(BUGS))
def test_a_bug_is_caught(wake: Callable[[str], None], bug: str) -> None:
    """What counts is dropped."""
    seen_by, fine = BUGS[bug][2], []
    for awake in ("", bug):
        wake(awake)
        limits = {dtype: 2.0**12 if seen_by is phi_is_tiny else NEAR[dtype] for dtype in DTYPES}
        fine.append([float(seen_by(dtype)) < limit for dtype, limit in limits.items()])  # type: ignore[arg-type]
    assert all(fine[0])
    assert not all(fine[1])


def test_a_setting_that_is_left_is_caught(wake: Callable[[str], None]) -> None:
    """NumPy drops what is tiny after a pass, and nobody looks."""
    wake("the setting is left")
    try:
        assert passes_change_it()
    finally:
        torch.set_flush_denormal(False)


def test_sums_that_overflow_at_the_top_are_caught(wake: Callable[[str], None]) -> None:
    """Inputs of 1e300 times a signal that was lifted to the top of the range."""
    wake("what overflows at the top is taken")
    with pytest.raises(AssertionError):
        beyond_the_range("huge inputs", "mingru", "float64")
