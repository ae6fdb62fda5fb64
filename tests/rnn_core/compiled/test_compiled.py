"""The fast path against the readable engine: step by step on the way forward, on the same tape on the way back."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core import compiled
from rnn_core.compiled import build
from rnn_core.scaling import log_norm
from tests.rnn_core.compiled.planted import fixtures
from tests.support.arrays import DTYPES, EPS, quick
from tests.support.networks import FEWEST_INPUTS, FEWEST_UNITS

ROOT = Path(__file__).resolve().parents[3]
AGREE = {"float64": 1e-13, "float32": 1e-4}
CELLS = [
    rc.VanillaCell,
    lambda activation: rc.ResidualCell(activation, 0.5, 0.25),
    lambda activation: rc.ResidualCell(activation),
    rc.LSTMCell,
    rc.GRUCell,
    rc.GRUResetBeforeCell,
    lambda activation: rc.AntisymmetricCell(activation, 0.5, 0.25),
    rc.IndRNNCell,
    rc.LRUCell,
    rc.MinGRUCell,
    lambda activation: rc.LayerNormCell(activation, 0.5, 0.25),
]

pytestmark = pytest.mark.skipif(build.library().handle is None, reason=f"no fast path here: {build.library().why}")


def network(
    cell: rc.Cell,
    T: int,
    B: int,
    D: int,
    H: int,
    dtype: str = "float64",
    seed: int = 0,
    bias: bool = True,
    rho: float = 0.9,
) -> tuple[Any, ...]:
    """(params, x, state, grad_hidden, grad_state), drawn."""
    rng = np.random.default_rng(seed)
    params = cell.init_params(rng, D, H, spectral_radius=rho if cell.has_matrix else None, bias=bias)
    params = {name: (v + 0.05 * rng.standard_normal(v.shape)).astype(dtype) for name, v in params.items()}
    x, grad = (rng.standard_normal((T, B, size)).astype(dtype) for size in (D, H))
    state, grad_state = (
        {name: rng.standard_normal((B, H)).astype(dtype) for name in cell.state_names} for _ in range(2)
    )
    return params, x, state, grad, grad_state


def enough(cell: rc.Cell, D: int, H: int) -> tuple[int, int]:
    """Inputs and units, as many as layer normalisation leaves something of."""
    return max(D, FEWEST_INPUTS.get(cell.name, 1)), max(H, FEWEST_UNITS.get(cell.name, 1))


def forward_error(cell: rc.Cell, params: Any, tape: rc.Tape, state: Any) -> float:
    """How far a step is from the readable step taken from the state before it, over the size of what is summed in it."""
    worst, before = 0.0, state
    states = {name: tape.states(name) for name in cell.state_names}
    bias = sum((params[name] for name in ("bias_ih", "bias_hh") if name in params), np.zeros(()))
    size = 1 + np.abs(bias).max(initial=0)
    for t in range(len(tape.x)):
        u = (tape.x[t] @ params["weight_ih"].T + params.get("bias_ih", 0)).T
        now, saved = cell.forward(params, u, {name: part.T for name, part in before.items()})
        terms = np.abs(tape.x[t]) @ np.abs(params["weight_ih"]).T + recurrent_terms(cell, params, before["hidden"])
        summed = size + sum(np.split(terms, len(cell.gates), axis=1)) + sum(np.abs(part) for part in before.values())
        if isinstance(cell, rc.LayerNormCell):  # it divides what is summed by the deviation of the units
            summed = summed * np.abs(params["weight_ln"]).max() / np.minimum(1.0, saved[1].T)
        worst = max(worst, *(float((np.abs(states[name][t] - now[name].T) / summed).max()) for name in now))
        before = {name: part[t] for name, part in states.items()}
    return worst


def recurrent_terms(cell: rc.Cell, params: Any, h: np.ndarray) -> np.ndarray:
    """The size of what is summed in W_hh h, (B, G·H)."""
    if not cell.has_matrix:
        return np.zeros((len(h), 1))
    W = np.abs(cell.recurrent_matrix(params["weight_hh"]))
    if isinstance(cell, rc.AntisymmetricCell):
        W = W + W.T + cell.diffusion * np.eye(len(W))
    return np.asarray(np.abs(h) @ W.T)


def backward_errors(tape: rc.Tape, *args: Any, **options: Any) -> dict[str, float]:
    """The differences of everything that ``backward`` returns, fast from readable, on one tape, over the size of what is summed in it."""
    ours = rc.backward(tape, *args, **options)
    with compiled.switched_off():
        theirs = rc.backward(tape, *args, **options)
    sizes = _log_sizes(tape, theirs)
    found = {
        name: _apart(ours.params[name], value, np.logaddexp.reduce(sizes[name]))
        for name, value in theirs.params.items()
    }
    found |= {f"state {name}": _apart(ours.state[name], value) for name, value in theirs.state.items()}
    parts = ["hidden", "cell"][: len(theirs.state)]
    for name in parts:
        found[name] = max(map(_apart, getattr(ours, name), getattr(theirs, name)))
    found["x"] = max(map(_apart, ours.x, theirs.x, sizes["x"]))
    norms = ["log_norm", "log_norm_immediate", "log_norm_cell"][: 1 + len(parts)]
    for name in norms:
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (np.isfinite(a) == np.isfinite(b)).all()
        here = np.isfinite(b)
        found[name] = float(np.abs(a[here] - b[here]).max(initial=0.0))
    a, b, whole = ours.log_norm_samples, theirs.log_norm_samples, theirs.log_norm[:, None]
    with np.errstate(invalid="ignore"):  # a step without any gradient
        found["samples"] = float(np.nanmax(np.abs(np.exp(a - whole) - np.exp(b - whole)), initial=0.0))
    return found


def _log_sizes(tape: rc.Tape, gradients: rc.Gradients) -> dict[str, list[float]]:
    """By step ln of the size of what is summed in dL/dx_t, which may cancel, and of its terms in the parameter gradients."""
    found: dict[str, list[float]] = {name: [] for name in ("x", *tape.params)}
    log_W, h_prev = log_norm(tape.params["weight_ih"]), _log_norms_before(tape)
    for t, saved in enumerate(tape.saved):
        values = {
            name: part[t] for name, part in (("hidden", gradients.hidden), ("cell", gradients.cell)) if part is not None
        }
        log = max(map(log_norm, values.values()))
        e = 0 if log == -np.inf else round(log / np.log(2.0))
        with np.errstate(all="ignore"):
            total = {name: _at(value, e).T for name, value in values.items()}
            du, dv, _ = tape.cell.backward(tape.params, saved, total)
            extra = tape.cell.own_gradients(saved, total)
        if isinstance(tape.cell, rc.LayerNormCell):  # da is what is left of dL/dn, over s
            du = dv = tape.params["weight_ln"][:, None] * extra["bias_ln"] / saved[1]
        of_du, of_dv = log_norm(du) + e * np.log(2.0), log_norm(dv) + e * np.log(2.0)
        found["x"].append(of_du + log_W)
        own = {"weight_ih": of_du + log_norm(tape.x[t]), "weight_hh": of_dv + h_prev[t]}
        own |= {"bias_ih": of_du, "bias_hh": of_dv}
        own |= {name: log_norm(part) + e * np.log(2.0) for name, part in extra.items()}
        for name in tape.params:
            found[name].append(own[name])
    return found


def _log_norms_before(tape: rc.Tape) -> list[float]:
    """ln ‖h_{t-1}‖ of every step."""
    segment = tape.kept
    norms = [log_norm(h) for h in segment.states["hidden"][:-1]]
    return [norm + e * np.log(2.0) for norm, e in zip(norms, segment.exponent[:-1], strict=True)]


def _at(value: Any, e: int) -> np.ndarray:
    """``value * 2**-e``, float64."""
    m, own = (value.mantissa, value.exponent) if isinstance(value, rc.Scaled) else (value, 0)
    return np.ldexp(m.astype(np.float64), own - e)


def _apart(a: Any, b: Any, log_size: float | None = None) -> float:
    """‖a - b‖ of plain or scaled arrays over exp(log_size), which is ‖b‖ where none is given."""
    log = log_norm(b)
    e = 0 if log == -np.inf else round(log / np.log(2.0))
    log_size = log if log_size is None else log_size
    apart = float(np.linalg.norm(_at(a, e) - _at(b, e)))
    return apart if apart == 0.0 or log_size == -np.inf else float(np.exp(np.log(apart) + e * np.log(2.0) - log_size))


def test_every_compiled_cell_is_looked_at() -> None:
    """A cell is computed by C, and no test here knows."""
    assert {type(kind("tanh")) for kind in CELLS} == set(compiled.COVERED)


# ---- agreement -------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:x .* looks batch-first")  # any T and B are drawn
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", compiled.PHI)
@given(
    kind=st.sampled_from(CELLS),
    T=st.integers(1, 40),
    B=st.sampled_from([1, 2, 5, 8, 15, 16, 17, 31, 32, 40, 64, 70]),
    D=st.sampled_from([1, 2, 3, 8, 9, 20]),
    H=st.sampled_from([1, 2, 5, 6, 7, 16, 31, 33, 64]),
    seed=st.integers(0, 10_000),
    bias=st.booleans(),
    last=st.booleans(),
)
@quick
def test_it_is_the_readable_engine(
    activation: str,
    dtype: str,
    kind: Callable[[str], rc.Cell],
    T: int,
    B: int,
    D: int,
    H: int,
    seed: int,
    bias: bool,
    last: bool,
) -> None:
    """A tile, a rest of columns, a panel or a formula is wrong at some shape."""
    cell = kind(activation)
    D, H = enough(cell, D, H)
    params, x, state, grad, grad_state = network(cell, T, B, D, H, dtype, seed, bias)
    if last:
        grad[:-1] = 0.0
    assert compiled.covers(cell, x)
    tape = rc.forward(cell, params, x, state)
    assert compiled.knows(cell, tape.kept.saved)
    assert forward_error(cell, params, tape, state) < 8 * EPS[dtype]
    errors = backward_errors(tape, grad, grad_state)
    assert max(errors.values()) < AGREE[dtype], errors


@pytest.mark.parametrize(
    ("rho", "activation"), [(2.0, "identity"), (0.2, "identity"), (0.3, "tanh"), (2.0, "relu"), (3.0, "tanh")]
)
@pytest.mark.parametrize("loss_at", ["last", "every"])
def test_beyond_the_range_of_plain_floats(rho: float, activation: str, loss_at: str) -> None:
    """The exponent is lost where the fast path stops and the readable loop goes on."""
    cell = rc.VanillaCell(activation)
    params, x, state, grad, _ = network(cell, 1500, 3, 2, 9, rho=rho)
    params = {name: 0 * v if "bias" in name else v for name, v in params.items()}
    if loss_at == "last":
        grad[:-1] = 0.0
    tape = rc.forward(cell, params, 0.0 * x, {"hidden": 1e-3 * state["hidden"]})
    errors = backward_errors(tape, grad)
    assert max(errors.values()) < 1e-11, errors  # 1500 steps


@pytest.mark.parametrize("window", [1, 7, 100, 299])
def test_truncated(window: int) -> None:
    """A cut lies at another step."""
    cell = rc.VanillaCell("tanh")
    params, x, state, grad, grad_state = network(cell, 300, 4, 3, 8)
    errors = backward_errors(rc.forward(cell, params, x, state), grad, grad_state, window=window)
    assert max(errors.values()) < 1e-12, errors


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", compiled.PHI)
def test_what_is_not_finite_stays_so(activation: str, bad: float) -> None:
    """An inf or nan is clipped away, spreads to another sample, or moves to another step."""
    cell = rc.VanillaCell(activation)
    params, x, state, grad, _ = network(cell, 12, 9, 3, 5)
    x[4, 7, 1] = bad
    tape = rc.forward(cell, params, x, state)
    with compiled.switched_off():
        expected = rc.forward(cell, params, x, state)
    np.testing.assert_array_equal(np.isnan(tape.hidden), np.isnan(expected.hidden))
    finite = np.isfinite(expected.hidden)
    np.testing.assert_array_equal(tape.hidden[~finite], expected.hidden[~finite])
    np.testing.assert_allclose(
        tape.hidden[finite], expected.hidden[finite], rtol=0, atol=1e-13
    )  # sums of terms of size 1
    ours, theirs = (rc.backward(t, grad) for t in (tape, expected))
    np.testing.assert_array_equal(np.isfinite(ours.log_norm), np.isfinite(theirs.log_norm))


@pytest.mark.parametrize("activation", compiled.PHI)
def test_phi_in_both_tails(activation: str) -> None:
    """phi or phi' loses relative accuracy where units saturate, or near 0."""
    cell, rng = rc.VanillaCell(activation), np.random.default_rng(0)
    a = rng.choice([-1.0, 1.0], (400, 8, 1)) * 10.0 ** rng.uniform(-12, 2.8, (400, 8, 1))
    a[0, :, 0] = [0.0, -0.0, 19.0, -19.0, 340.0, -340.0, 700.0, -700.0]
    params = {"weight_ih": np.ones((1, 1)), "weight_hh": np.zeros((1, 1))}
    tape = rc.forward(cell, params, a)
    np.testing.assert_array_max_ulp(tape.hidden, cell.phi.f(a), 8)
    found, expected = rc.backward(tape, np.ones_like(a)).x, cell.phi.df(a)
    normal = np.abs(expected) > 1e-300
    near_a_root = (activation in ("silu", "gelu")) & (np.abs(expected) < 1e-2) & (np.abs(a) < 10)  # both cancel there
    np.testing.assert_allclose(found[normal & ~near_a_root], expected[normal & ~near_a_root], rtol=2e-14)


def test_the_scale_of_the_loss_changes_no_bit_of_the_signal() -> None:
    """The fast path rounds differently where it carries an exponent."""
    cell = rc.VanillaCell("tanh")
    params, x, state, grad, _ = network(cell, 400, 4, 3, 16, rho=0.5)
    tape = rc.forward(cell, params, x, state)
    base, small = (rc.backward(tape, grad * 2.0**k) for k in (0, -400))
    np.testing.assert_array_equal(small.hidden, base.hidden * 2.0**-400)
    np.testing.assert_array_equal(small.x, base.x * 2.0**-400)


@pytest.mark.parametrize(("T", "rho", "dtype"), [(300, 0.9, "float64"), (1300, 0.9, "float64"), (1300, 0.8, "float32"), (1300, 0.3, "float64")])  # fmt: skip
def test_a_checkpointed_tape_gives_the_same_bits(T: int, rho: float, dtype: str) -> None:
    """Sums over time are taken apart at other steps where the tape is kept, or where the fast path has stopped."""
    cell = rc.VanillaCell("tanh")
    params, x, state, grad, _ = network(cell, T, 3, 2, 9, dtype, rho=rho)
    grad[:-1] = 0.0
    whole, sparse = (rc.backward(rc.forward(cell, params, x, state, memory_budget=b), grad) for b in (None, 1))
    np.testing.assert_array_equal(whole.log_norm, sparse.log_norm)
    for name, value in whole.params.items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(sparse.params[name]))
        assert type(value) is type(sparse.params[name])


def test_it_declines_what_is_not_its_own() -> None:
    """A subclass, a changed activation, another library or a gated cell is silently computed by the wrong equations."""
    from dataclasses import replace

    import torch

    class Mine(rc.VanillaCell):
        pass

    changed = rc.VanillaCell("tanh")
    changed.phi = replace(changed.phi, gamma=2.0)
    x = np.zeros((1, 1, 1))
    for cell in (Mine("tanh"), changed):
        assert not compiled.covers(cell, x)
    assert not compiled.covers(rc.VanillaCell(), torch.zeros(1, 1, 1))
    assert compiled.covers(rc.VanillaCell(), x)
    with compiled.switched_off():
        assert not compiled.covers(rc.VanillaCell(), x)


def test_a_direct_part_of_any_strides() -> None:
    """A field of a record has strides that are no whole numbers of floats: other bytes are read, without a word."""
    cell = rc.VanillaCell("tanh")
    params, x, state, grad, _ = network(cell, 50, 2, 2, 5)
    record = np.zeros(grad.shape, dtype=[("g", "f8"), ("i", "f4")])
    record["g"] = grad
    tape = rc.forward(cell, params, x, state)
    expected = rc.backward(tape, grad)
    for other in (record["g"], np.asfortranarray(grad), grad[::-1].copy()[::-1], grad.repeat(2, axis=2)[:, :, ::2]):
        found = rc.backward(tape, other)
        np.testing.assert_array_equal(found.hidden, expected.hidden)
        np.testing.assert_array_equal(found.params["weight_hh"], expected.params["weight_hh"])


def test_arrays_of_one_call_survive_the_next() -> None:
    """Memory is given out again while somebody still looks at it."""
    cell = rc.VanillaCell("tanh")
    params, x, state, grad, _ = network(cell, 200, 8, 3, 64)
    tape = rc.forward(cell, params, x, state)
    gradients = rc.backward(tape, grad)
    view, hidden = gradients.hidden[3:5], tape.hidden
    copies = [np.array(v) for v in (view, hidden, gradients.x)]
    del gradients
    others = [rc.backward(rc.forward(cell, params, s * x, state), grad) for s in (2.0, 3.0, 4.0)]
    np.testing.assert_array_equal(view, copies[0])
    np.testing.assert_array_equal(tape.hidden, copies[1])
    assert not np.array_equal(others[0].hidden, others[1].hidden)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: rc.backward(rc.forward(cell, params, x, state), grad).hidden, range(12)))
    for hidden in found:
        np.testing.assert_array_equal(hidden[3:5], copies[0])


# ---- the other instruction sets, and bugs planted in the source -------------------------------------------------------


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a library that was built with other flags in the place of ours."""

    def other(folder: Path, flags: tuple[str, ...]) -> None:
        file = folder / "other.so"
        subprocess.run(["cc", *build.FLAGS, *flags, "-o", str(file), str(build.SOURCES[0])], check=True)
        library = build.Library(ctypes.CDLL(str(file)), "a test's own")
        monkeypatch.setattr(compiled, "library", lambda: library)

    return other


def worst(shapes: list[tuple[int, int, int]], far_enough: float = np.inf) -> float:
    """The largest difference from the readable engine, or the first that is ``far_enough``; inf where something is nan."""
    found = 0.0
    for B, D, H in shapes:
        for dtype in DTYPES:
            for cell in (rc.ResidualCell("tanh", 0.5, 0.25), *(kind("tanh") for kind in CELLS[3:])):
                params, x, state, grad, grad_state = network(cell, 40, B, *enough(cell, D, H), dtype)
                tape = rc.forward(cell, params, x, state)
                errors = [forward_error(cell, params, tape, state) / (8 * EPS[dtype])]
                errors += [error / AGREE[dtype] for error in backward_errors(tape, grad, grad_state).values()]
                found = max(found, *(e if e == e else np.inf for e in errors))
                if found > far_enough:
                    return found
    return found


SHAPES = [(1, 1, 1), (8, 3, 13), (16, 8, 30), (32, 2, 64), (37, 9, 33)]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="these instruction sets are x86's")
@pytest.mark.parametrize("flags", [("-mno-avx512f", "-O1"), ("-mno-avx", "-O1"), ("-O1",)])
def test_other_processors(use: Callable[..., None], tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Another width of vectors has other tiles: one of them is wrong."""
    use(tmp_path, flags)
    assert worst(SHAPES) < 1.0


# What is between « and » becomes the second text.
BUGS = {
    "W for W^T": ("«W_hh[k * H + r]» : r < N", "W_hh[r * H + k]"),
    "a sample is lost from the sums over time": ("z + c * B * vectors * LANES,\n                             vectors * LANES, «B»,", "B - 1"),
    "h_t for h_{t-1} in dW": ("h + «step» * H * B + first * B", "step + 1"),
    "the leak does not carry the gradient": ("s->dh_prev[i] += «n->keep» * s->dh[i];", "0"),
    "a unit is lost in a rest of rows": ("«first + r < count» ? A[", "first + r + 1 < count"),
    "the direct part is added twice": ("s->dh[i * Bp + b] += «g[i * q->g_row + b * q->g_column]»", "2 * g[i * q->g_row + b * q->g_column]"),
    "the bias is left out": ("«start && first + r < count» ? start", "0"),
    "steps out of order in the sums": ("long step = «s->done - 1 - c»;\n        REAL *to", "c"),
    "w for the conjugate of w on the way back": ("«re * CONST_AT(own, b) - im * CONST_AT(other, b)» :", "re * CONST_AT(own, b) + im * CONST_AT(other, b)"),
    "the partner's own number": ("im = n->W_hh[«n->H + i»];", "i"),
    "another unit is the partner": ("i < m ? «i + n->H - m» : i < n->H - m ? i : i - (n->H - m)", "i + m"),
    "h_t for h_{t-1} unit by unit": ("*here = h + («s->done - 1 - c»)", "s->done - c"),
    "the partner is left out of the sums": ("(«share->factor == WITH_PARTNER» ? NAME(partner)(n, i) : i) * n->Bp", "0"),
    "z for 1 - z": ("AT(s->dh_prev, k + j) = *(vec *)(«keep» + j) * dh;", "z"),
    "the state is left out of the gate": ("(*(vec *)(value + j) - «CONST_AT(s->h_prev, k + j)») * dh", "(vec){0}"),
    "the mean is left in": ("m = CONST_AT(s->da, i * Bp + b) - «mean_dn»;", "(vec){0}"),
    "the deviation is held fixed": ("(m - «normal» * along_n) * per_s", "(vec){0}"),
    "the gain's gradient without n": ("AT(dg, i * Bp + b) = «normal» * CONST_AT(dz, i * Bp + b);", "(vec)(0 * normal + 1)"),
    "padding counts in the bias": ("for (long b = «0»; b < Bp; b += LANES)\n                sum +=", "LANES"),
}  # fmt: skip
ELSEWHERE = {
    "1 - h^2 where it cancels": ("e = NAME(decay)(2 * m); r = 1 / (1 + e); return «4 * e * r * r»;", "1 - NAME(f)(TANH, a) * NAME(f)(TANH, a)"),
    "flags are not read": ("return «enough ? raised & BROKEN : raised»;", "raised & BROKEN"),
    "two normalised units by differences": ("if («H == 2»)", "0"),
}  # fmt: skip
planted, wake = fixtures(BUGS | ELSEWHERE)


def test_nothing_is_seen_where_all_are_asleep(wake: Callable[[str], None]) -> None:
    """The planted library is wrong by itself."""
    wake("")
    assert worst(SHAPES) < 1.0


@pytest.mark.parametrize("bug", list(BUGS))
def test_a_bug_in_the_source_is_caught(wake: Callable[[str], None], bug: str) -> None:
    """A wrong fast path passes."""
    wake(bug)
    assert worst(SHAPES, 1e3) > 1e3


def test_a_slope_that_cancels_is_caught(wake: Callable[[str], None]) -> None:
    """1 - tanh^2 has few digits far out."""
    cell, a = rc.VanillaCell("tanh"), np.full((1, 1, 1), 17.0)
    errors = []
    for bug in ("", "1 - h^2 where it cancels"):
        wake(bug)
        tape = rc.forward(cell, {"weight_ih": np.ones((1, 1)), "weight_hh": np.zeros((1, 1))}, a)
        errors.append(abs((rc.backward(tape, np.ones_like(a)).x / cell.phi.df(a)).item() - 1.0))
    assert errors[0] < 1e-13
    assert errors[1] > 1e-3


def test_flags_that_are_not_read_are_caught(wake: Callable[[str], None]) -> None:
    """What underflows within a step is lost without a word. Here it is all that is left once the larger unit has died."""
    cell = rc.VanillaCell("relu")
    params = {"weight_ih": np.eye(2), "weight_hh": np.diag([2.0**-3, 0.7])}
    x, grad = np.ones((800, 1, 2)), np.zeros((800, 1, 2))
    x[100, 0, 1], grad[-1] = -1000.0, 1.0
    tape = rc.forward(cell, params, x)
    wake("")
    found = rc.backward(tape, grad).log_norm
    np.testing.assert_allclose(found[50], -3 * 749 * np.log(2.0), rtol=1e-13)
    wake("flags are not read")
    assert not np.isfinite(rc.backward(tape, grad).log_norm[50])


def two_units(dtype: str) -> float:
    """The relative difference from the readable engine in dL/da_t of two normalised units, in units of rounding. Nothing cancels in dL/dn."""
    rng, cell, worst = np.random.default_rng(0), rc.LayerNormCell("softplus"), 0.0
    params = {
        "weight_ih": np.eye(2),
        "weight_hh": np.zeros((2, 2)),
        "weight_ln": np.array([1.0, 0.5]),
        "bias_ln": rng.standard_normal(2),
    }
    params = {name: value.astype(dtype) for name, value in params.items()}
    grad = (rng.uniform(0.5, 1.0, (1, 7, 2)) * [1.0, -1.0]).astype(dtype)
    for size in (3e-3, 1.0, 30.0, 1e4):
        tape = rc.forward(cell, params, (size * rng.standard_normal((1, 7, 2))).astype(dtype))
        ours = rc.backward(tape, grad).x
        with compiled.switched_off():
            theirs = rc.backward(tape, grad).x
        worst = max(worst, float(np.abs(ours / theirs - 1.0).max()) / EPS[dtype])
    return worst


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_normalised_unit_sends_nothing_through_its_preactivation(dtype: str) -> None:
    """A fused product leaves its rounding, which 1/s then makes 316 times as large."""
    cell = rc.LayerNormCell("tanh", 0.5, 0.25)
    params, x, state, grad, grad_state = network(cell, 40, 5, 3, 1, dtype)
    gradients = rc.backward(rc.forward(cell, params, x, state), grad, grad_state)
    assert np.any(gradients.params["bias_ln"])
    for value in (gradients.x, *(gradients.params[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))):
        assert not np.any(value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_normalised_units_keep_their_digits(wake: Callable[[str], None], dtype: str) -> None:
    """All but epsilon cancels, and a difference leaves noise."""
    wake("")
    assert two_units(dtype) < 32.0
    wake("two normalised units by differences")
    assert not two_units(dtype) < 1e3
