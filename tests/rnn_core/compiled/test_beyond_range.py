"""The compiled passes where numbers leave the range of plain floats, cell by cell, against the readable engine on one tape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import rnn_core as rc
from rnn_core import compiled
from rnn_core.bptt import Gradients
from rnn_core.compiled import build
from rnn_core.scaling import LN2, mantissa_and_exponents
from tests.rnn_core.compiled.planted import fixtures
from tests.support.arrays import DTYPES
from tests.support.networks import FEWEST_INPUTS, FEWEST_UNITS

AGREE = {"float64": 1e-11, "float32": 3e-4}  # after up to 200 steps
OF_SAMPLES = {"float64": 1e-7, "float32": 1e-2}  # what flows to one sample may cancel; here a lost one is looked for
CELLS: dict[str, Callable[[str], rc.Cell]] = {
    "vanilla": rc.VanillaCell,
    "residual": lambda phi: rc.ResidualCell(phi, 0.5, 0.75),
    "lstm": rc.LSTMCell,
    "gru": rc.GRUCell,
    "gru_reset_before": lambda phi: rc.cells.make_cell("gru_reset_before", phi),
    "antisymmetric": lambda phi: rc.AntisymmetricCell(phi, 0.5, 0.75),
    "indrnn": rc.IndRNNCell,
    "lru": rc.LRUCell,
    "mingru": rc.MinGRUCell,
    "layer_norm": lambda phi: rc.LayerNormCell(phi, 0.5, 0.75),
}
HUGE = {"float64": 1e300, "float32": 1e30}

pytestmark = [
    pytest.mark.skipif(build.library().handle is None, reason=f"no fast path here: {build.library().why}"),
    pytest.mark.filterwarnings("ignore:x .* looks batch-first"),
]


class Regime(NamedTuple):
    """How a network is drawn.

    Attributes:
        phi: its activation.
        rho: spectral radius.
        W: how the recurrent matrix is made: ``dense``, ``diagonal`` with units that decay apart, or ``blocks``.
        bias: whether there are biases.
        x: the size of the inputs; ``tiny``, ``huge``, or ``apart``, a size of its own for every sample.
        still: every other sample has neither inputs nor an initial state.
        loss: the steps that carry it: ``last``, ``every``, ``few``, or ``few samples``.
        exponent: of the direct part; ``mixed`` is one of its own for every step.
        final: exponent of dL/d(final state); None where there is none.
        state: exponent of the initial state, of a homogeneous cell.
        window: of a truncated pass.
        T: steps.
    """

    phi: str = "tanh"
    rho: float = 0.9
    W: str = "dense"
    bias: bool = True
    x: float | str = 1.0
    still: bool = False
    loss: str = "last"
    exponent: int | str = 0
    final: int | None = None
    state: int = 0
    window: int | None = None
    T: int = 40


REGIMES = {
    "vanishes": Regime(rho=0.01, T=140),
    "vanishes, a loss at every step": Regime(rho=0.01, loss="every"),
    "vanishes, a loss at a few steps": Regime(rho=1e-9, loss="few"),
    "vanishes, a loss at a few steps of some samples": Regime(rho=1e-9, loss="few samples", T=60),
    "vanishes, without biases": Regime("relu", rho=0.02, bias=False, T=80),
    "explodes": Regime("identity", rho=50.0, T=60),
    "explodes across segments": Regime("leaky_relu", rho=30.0, loss="every", T=135),
    "saturated": Regime(rho=2.0, x=60.0),
    "saturated, a loss at every step": Regime("sigmoid", rho=2.0, x=60.0, loss="every"),
    "samples of different sizes": Regime(rho=0.5, x="apart", loss="every"),
    "samples that decay at different rates": Regime("softsign", rho=3.0, x="apart"),
    "some samples are still": Regime("tanh", rho=0.3, x=20.0, bias=False, still=True),
    "tiny inputs": Regime("elu", x="tiny", bias=False),
    "huge inputs": Regime("silu", rho=0.5, x="huge"),
    "units that decay apart": Regime("identity", rho=0.5, W="diagonal", T=60),
    "units that decay apart across segments": Regime("identity", rho=0.5, W="diagonal", T=200),
    "units that decay apart, relu": Regime("relu", W="diagonal", loss="few"),
    "blocks": Regime("tanh", rho=0.1, W="blocks", T=60),
    "a loss far above the range": Regime("softplus", exponent=5000, loss="every"),
    "a loss far below the range": Regime("selu", exponent=-5000, loss="few"),
    "a loss of any size at every step": Regime("tanh", exponent="mixed", loss="few samples"),
    "a final state far above the range": Regime("hard_tanh", final=5000, loss="every"),
    "a final state far below the range": Regime("identity", final=-5000, loss="few samples"),
    "initial states beyond the range": Regime("relu", state=3000, rho=0.5),
    "initial states far below": Regime("identity", state=-3000, bias=False, x="tiny"),
    "truncated": Regime(rho=0.01, loss="few", exponent=300, window=7),
}


def made(name: str, regime: Regime) -> rc.Cell:
    """The cell. Where a plain one's states explode, those of a gated one, which have no exponent, would be inf: they stay bounded."""
    return CELLS[name](regime.phi if ("gru" not in name and name != "lstm") or regime.rho < 2.0 else "tanh")


SHAPES = [(1, 1, 1), (5, 2, 3), (8, 3, 8), (17, 1, 5), (3, 4, 33), (16, 2, 16)]  # B, D, H


def case(cell: rc.Cell, regime: Regime, dtype: str, shape: tuple[int, int, int], seed: int = 0) -> tuple[rc.Tape, dict[str, Any]]:  # fmt: skip
    """A network after its forward pass, and what its backward pass is given."""
    (B, D, H), T, rng = shape, regime.T, np.random.default_rng(seed)
    D, H = max(D, FEWEST_INPUTS.get(cell.name, 1)), max(H, FEWEST_UNITS.get(cell.name, 1))
    params = cell.init_params(rng, D, H, spectral_radius=regime.rho if cell.has_matrix else None, bias=regime.bias)
    if regime.W == "diagonal" and cell.has_matrix:
        units = [regime.rho * 2.0 ** -rng.uniform(0, 40, H) for _ in cell.gates]
        params["weight_hh"] = np.concatenate(units if compiled.by_unit(cell) else [np.diag(each) for each in units])
    if regime.W == "blocks" and not compiled.by_unit(cell):
        params["weight_hh"].reshape(-1, H, H)[:, : H // 2, H // 2 :] = 0.0
        params["weight_hh"].reshape(-1, H, H)[:, H // 2 :, : H // 2] = 0.0
    params = {name: v + 0.1 * rng.standard_normal(v.shape) * ("bias" in name) for name, v in params.items()}
    x, g = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, H))
    sizes = {"tiny": 1.0 / HUGE[dtype], "huge": HUGE[dtype], "apart": 10.0 ** rng.uniform(-2, 2, (1, B, 1))}
    x *= sizes.get(str(regime.x), regime.x)
    x[:, 1::2] *= not regime.still
    g[{"last": slice(-1), "few": rng.random(T) < 0.9, "few samples": rng.random((T, B)) < 0.9}.get(regime.loss, [])] = 0
    state, final = ({name: rng.standard_normal((B, H)).astype(dtype) for name in cell.state_names} for _ in range(2))
    for part in state.values():
        part[1::2] *= not regime.still
    beyond = {n: rc.Scaled(v, regime.state) for n, v in state.items()} if regime.state and cell.homogeneous else state
    tape = rc.forward(cell, {name: v.astype(dtype) for name, v in params.items()}, x.astype(dtype), beyond)
    exponent = rng.integers(-6000, 6000, T) if regime.exponent == "mixed" else np.full(T, regime.exponent)
    given: dict[str, Any] = {"grad_hidden": rc.Scaled(g.astype(dtype), exponent) if exponent.any() else g.astype(dtype)}
    if regime.final is not None:
        given["grad_state"] = {name: rc.Scaled(v, regime.final) for name, v in final.items()}
    return tape, {**given, "window": regime.window}


def differences(ours: Gradients, theirs: Gradients) -> dict[str, float]:
    """By result the largest relative difference, row by row; inf where one is zero or not finite and the other is not."""
    pairs: dict[str, tuple[Any, Any]] = {name: (_alone(ours.params[name]), _alone(v)) for name, v in theirs.params.items()}  # fmt: skip
    pairs |= {f"state {name}": (_alone(ours.state[name]), _alone(v)) for name, v in theirs.state.items()}
    names = ["hidden", "x"] + ["cell"] * ("cell" in theirs.state)
    found = {name: _apart(*pair) for name, pair in pairs.items()}
    found |= {name: _apart(getattr(ours, name), getattr(theirs, name)) for name in names}
    norms = ["log_norm", "log_norm_immediate", "log_norm_samples"] + ["log_norm_cell"] * ("cell" in theirs.state)
    return found | {name: _logs_apart(getattr(ours, name), getattr(theirs, name)) for name in norms}


def _alone(value: Any) -> rc.Scaled:
    """As one row."""
    m, e = (value.mantissa, value.exponent) if isinstance(value, rc.Scaled) else (value, 0)
    return rc.Scaled(m[None], np.array([e]))


def _apart(a: Any, b: Any) -> float:
    (m, e), (n, f) = map(mantissa_and_exponents, (a, b))
    m, n = (v.reshape(len(v), -1).astype(np.float64) for v in (m, n))
    if not (np.isfinite(m) == np.isfinite(n)).all():
        return np.inf
    m, n, size = np.nan_to_num(m), np.nan_to_num(n), np.frexp(np.abs(n).max(axis=1))[1]
    with np.errstate(over="ignore"):  # a wrong exponent
        m, n = (np.ldexp(v, np.clip(by, -5000, 5000)[:, None]) for v, by in ((m, e - f - size), (n, -size)))
        apart, norms = (np.linalg.norm(v, axis=1) for v in (m - n, n))
    return float(np.where(norms > 0, apart / np.where(norms > 0, norms, 1.0), np.where(apart > 0, np.inf, 0)).max())


def _logs_apart(a: np.ndarray, b: np.ndarray) -> float:
    if not ((np.isneginf(a) == np.isneginf(b)) & (np.isfinite(a) == np.isfinite(b))).all():
        return np.inf
    here = np.isfinite(b)
    return float((np.abs(a[here] - b[here]) / np.maximum(1.0, np.abs(b[here]) / 100)).max(initial=0.0))


def disagreement(found: dict[str, float], dtype: str) -> float:
    """The largest of them over what is allowed."""
    return max(v / (OF_SAMPLES if "samples" in name else AGREE)[dtype] for name, v in found.items())


def against_readable(tape: rc.Tape, given: dict[str, Any]) -> tuple[dict[str, float], Gradients]:
    """The differences of the two engines on one tape, and what the compiled one gave."""
    ours = rc.backward(tape, **given)
    with compiled.switched_off():
        theirs = rc.backward(tape, **given)
    return differences(ours, theirs), ours


def test_every_compiled_cell_is_looked_at() -> None:
    assert {type(made("tanh")) for made in CELLS.values()} == set(compiled.COVERED)


# ---- agreement -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(CELLS))
@pytest.mark.parametrize("regime", list(REGIMES))
def test_it_is_the_readable_engine_beyond_the_range(regime: str, name: str, dtype: str) -> None:
    """An exponent is lost, or a sample, or a sum is taken at a wrong exponent."""
    cell, number = made(name, REGIMES[regime]), list(REGIMES).index(regime)
    shape = SHAPES[(number + list(CELLS).index(name)) % len(SHAPES)]
    tape, given = case(cell, REGIMES[regime], dtype, shape, seed=number)
    found, _ = against_readable(tape, given)
    assert disagreement(found, dtype) < 1.0, found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(CELLS))
def test_checkpoints_and_a_function_give_the_same(name: str, dtype: str) -> None:
    """What flows over a segment's edge loses its exponent, or an exponent of a sample."""
    for regime in (
        Regime(rho=0.05, T=130),
        Regime(rho=0.05, loss="few samples", T=130),
        Regime(rho=3.0, T=130, window=7),
    ):
        tape, given = case(made(name, regime), regime, dtype, (3, 2, 5))
        part = tape.kept
        sparse = rc.forward(
            tape.cell, tape.params, tape.x, {n: v[0].T for n, v in part.states.items()}, memory_budget=1
        )
        whole, again = rc.backward(tape, **given), rc.backward(sparse, **given)
        np.testing.assert_array_equal(whole.log_norm, again.log_norm)
        for key, value in whole.params.items():
            np.testing.assert_array_equal(np.asarray(value), np.asarray(again.params[key]))
        rows = given.pop("grad_hidden")
        called = rc.backward(tape, lambda start, stop, rows=rows: rows[start:stop], **given)
        assert disagreement(differences(called, whole), dtype) < 1.0


@pytest.mark.parametrize("name", list(CELLS))
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_sample(name: str, bad: float) -> None:
    """It spreads to another sample, or hides."""
    tape, given = case(CELLS[name]("tanh"), Regime(rho=0.01, T=60), "float64", (3, 2, 5))
    x = tape.x.copy()
    x[30, 1, 0] = bad
    tape = rc.forward(tape.cell, tape.params, x)
    ours = rc.backward(tape, **given)
    with compiled.switched_off():
        theirs = rc.backward(tape, **given)
    for norms in ("log_norm", "log_norm_samples"):
        np.testing.assert_array_equal(np.isfinite(getattr(ours, norms)), np.isfinite(getattr(theirs, norms)))
    for key, value in theirs.params.items():
        np.testing.assert_array_equal(np.isfinite(ours.params[key]), np.isfinite(value))


@pytest.mark.parametrize("size", [1e-300, 3e-310, 1e-322])
def test_a_state_of_which_both_factors_are_tiny(size: float) -> None:
    """x must be lifted by more than two factors hold: the state is far too small."""
    params = {"weight_ih": np.full((1, 1), 1e-301), "weight_hh": np.zeros((1, 1))}
    hidden = rc.forward(rc.VanillaCell("identity"), params, np.full((1, 1, 1), size)).hidden
    assert isinstance(hidden, rc.Scaled)
    assert abs(hidden.log_norm() - np.log(1e-301) - np.log(size)) < 1e-9


def test_a_bias_as_large_as_the_states() -> None:
    """It is not scaled as the states are."""
    params = {"weight_ih": np.zeros((1, 1)), "weight_hh": np.ones((1, 1)), "bias_hh": np.full(1, 1e200)}
    tape = rc.forward(rc.VanillaCell("relu"), params, np.zeros((5, 1, 1)))
    np.testing.assert_allclose(tape.hidden[:, 0, 0], 1e200 * np.arange(1.0, 6.0), rtol=1e-14)


def test_a_sample_far_below_what_joins_is_not_lost() -> None:
    """The signal of sample 1 is cleared when a gradient joins in sample 0 alone; or that of a unit."""
    params = {"weight_ih": np.zeros((2, 1)), "weight_hh": 0.5 * np.eye(2)}
    grad = np.zeros((7000, 2, 2))
    grad[-1], grad[3000, 0] = 1.0, 1.0
    tape = rc.forward(rc.VanillaCell("identity"), params, np.zeros((7000, 2, 1)))
    found = rc.backward(tape, grad).log_norm_samples[2999]
    np.testing.assert_allclose(found, [np.log(2) / 2 - LN2, np.log(2) / 2 - 4000 * LN2], rtol=1e-12)


def test_a_gradient_that_has_died_far_above_the_range_adds_nothing() -> None:
    """The exponent lives on when every da is zero: 0 times 2**5000 is nan in the sums."""
    cell = rc.ResidualCell("relu", 0.5, 0.25)  # keeps a gradient alive beside units that are off
    params = cell.init_params(np.random.default_rng(0), 1, 3)
    tape = rc.forward(cell, params, np.zeros((300, 1, 1)))
    gradients = rc.backward(tape, None, {"hidden": rc.Scaled(np.ones((1, 3)), 5000)})
    assert np.isfinite(gradients.log_norm).all()
    for value in gradients.params.values():
        assert not np.any(value)


def test_two_numbers_at_the_top_of_the_range_are_added() -> None:
    """dK - dK^T is inf, without a word, where dK is finite."""
    cell, params = rc.AntisymmetricCell(step=1.0), {"weight_ih": np.zeros((2, 1)), "weight_hh": np.zeros((2, 2))}
    tape = rc.forward(cell, params, np.zeros((1, 1, 1)), {"hidden": np.full((1, 2), 1.5e168)})
    found = rc.backward(tape, None, {"hidden": np.array([[1e140, -1e140]])}).params["weight_hh"]
    np.testing.assert_allclose(
        rc.Scaled.log_norm(found), np.log(3.0) + 308 * np.log(10.0) + np.log(2.0) / 2, rtol=1e-13
    )


def test_zeros_far_above_do_not_clear_a_gradient() -> None:
    """Of rows that are zero the exponent counts, and the others become 0: dW_hh where one block of a GRU's rows is zero."""
    tape, given = case(CELLS["gru_reset_before"]("relu"), Regime(exponent=-5000), "float32", (8, 3, 2))
    params = {**tape.params, "weight_ih": tape.params["weight_ih"] * np.float32(1e12)}
    params = {name: v * np.float32("bias" not in name) for name, v in params.items()}
    tape = rc.forward(tape.cell, params, tape.x)
    found, gradients = against_readable(tape, given)
    assert isinstance(gradients.params["weight_hh"], rc.Scaled) or not np.any(gradients.params["weight_hh"])
    assert disagreement(found, "float32") < 1.0, found


def test_the_vanished_cost_no_careful_steps() -> None:
    """The slow path runs where an exponent a step, or a sample, holds everything."""
    for name in CELLS:
        for regime in ("vanishes", "explodes", "a loss far above the range"):
            tape, given = case(CELLS[name]("tanh"), REGIMES[regime], "float64", (8, 3, 8))
            assert rc.backward(tape, **given).careful_steps == 0, (name, regime)


# ---- planted bugs ----------------------------------------------------------------------------------------------------

# What is between « and » becomes the second text.
BUGS = {
    "the exponent of a step is lost": ("*of_h = *of_x = «s->e»;", "0"),
    "the samples' exponent is not given to the sums": ("*e = «NAME(bring_together)(n, s, to->da, layouts[n->cell].da * n->depth, o->sizes)»;", "s->e"),
    "the direct part is not scaled": ("NAME(times_power)(room, H * Bp, «e_g - common», room)", "0"),
    "the direct part is not scaled beside samples apart": ("own[b] = «e_g - s->e - to»;", "-to"),
    "a sample's exponent is not sent on": ("q->sent_columns[j / n.Bp * B + j % n.Bp] = «s.columns[j]»;", "0"),
    "an entry's exponent does not arrive": ("NAME(counts)(&n, j) && !q->again ? q->sent_columns[«j / n.Bp * B» + j % n.Bp] : 0;", "0"),
    "the sums over lost entries lose their exponent": ("*of_x = n->groups == n->Bp ? NAME(bring_together)(n, s, to->dx, n->D, o->sizes) : «e»;", "s->e"),
    "entries of a sample are added at one exponent": ("long shift = «columns[i * n->Bp + b] - by[b]»;", "-by[b]"),
    "units of a pair have exponents of their own": ("for (long i = 0; «n->cell == COMPLEX_DIAGONAL && n->groups != n->Bp» && i < n->H / 2; i++)", "0"),
    "h is not at its scale unit by unit": ("NAME(times_power)(s->rh, n->H * n->Bp, «s->f[0][c]», s->rh) : 0;", "0"),
    "an underflow within a step is called harmless": ("return «enough» ? raised & BROKEN : raised;", "1"),
    "what is cleared is called harmless": ("int lost = «NAME(size)(from, count) == NOTHING ? 0 : LOST»;", "0"),
    "an underflow where a part joins is called harmless": ("return «sound && (!g || !(lost & LOST) || NAME(all_at_least)(n, s->dh, n->depth, HARMLESS, dead))»;", "sound"),
    "da_n for dv_n": ("AT(dv_n, k + j) = «*(vec *)(r + j) * of_n»;", "1 * of_n"),
    "the total of dc is taken twice": ("if («s->dc»)\n                memcpy(s->dc, given, all * sizeof(REAL));\n        }", "NULL"),
    "a norm's exponent is wrong": ("q->square_exponent[i * steps + t] = «common + s->e»;", "common"),
    "the norms of samples lose their exponent": ("by[b] += «s->columns[b]»;", "0"),
    "sums of a part at another's exponent": ("q->sum_exponent[«part * 3 + kind»]", "kind"),
    "the exponent of h is not in the sums": ("(«kind == 0 && e_h» ? e_h[step] : 0)", "0"),
    "the bias is not scaled": ("NAME(times_power)(plain_b, n->H, «-e_t», b)", "0"),
    "the exponent of a state is lost": ("p->exponent[t + 1] = «e»;", "0"),
    "moving forgets the exponent": ("s->e -= «shifts ? 0 : shift»;", "0"),
    "moving forgets a sample's exponent": ("s->columns[b] -= «shifts[b]»;", "0"),
    "a shift is cut short": ("from = to, n = «n < 4 * BIAS ? n - 2 * BIAS : 2 * BIAS»;", "0"),
}  # fmt: skip


planted, wake = fixtures(BUGS)


TELLING = [
    ("vanilla", "vanishes"), ("vanilla", "vanishes, a loss at a few steps of some samples"), ("lstm", "a loss far above the range"), ("gru", "vanishes"),
    ("lstm", "vanishes"), ("lstm", "saturated"), ("vanilla", "a loss of any size at every step"), ("vanilla", "explodes across segments"), ("vanilla", "units that decay apart"),
    ("vanilla", "a final state far below the range"), ("residual", "initial states beyond the range"), ("lstm", "samples that decay at different rates"),
    ("indrnn", "units that decay apart"), ("indrnn", "units that decay apart across segments"), ("lru", "units that decay apart across segments"), ("lru", "vanishes, a loss at a few steps of some samples"), ("lru", "initial states beyond the range"),
    ("indrnn", "explodes across segments"),
]  # fmt: skip


SEEN_BY = {
    "a shift is cut short": lambda: test_a_state_of_which_both_factors_are_tiny(1e-322),
    "what is cleared is called harmless": test_a_sample_far_below_what_joins_is_not_lost,
    "the bias is not scaled": test_a_bias_as_large_as_the_states,
}


def is_seen() -> bool:
    """Whether one of some networks is far from what the readable engine computes, or a state from itself in float64."""
    for name, regime in TELLING:
        for dtype in DTYPES:
            tape, given = case(made(name, REGIMES[regime]), REGIMES[regime], dtype, (5, 2, 3))
            if not disagreement(against_readable(tape, given)[0], dtype) < 1e3:
                return True
            with compiled.switched_off():
                expected = case(made(name, REGIMES[regime]), REGIMES[regime], dtype, (5, 2, 3))[0]
            if tape.cell.homogeneous and not _apart(tape.hidden, expected.hidden) < 1e3 * AGREE[dtype]:
                return True
    return False


def test_nothing_is_seen_where_all_are_asleep(wake: Callable[[str], None]) -> None:
    """The networks that tell the bugs are wrong themselves."""
    wake("")
    assert not is_seen()


@pytest.mark.parametrize("bug", list(BUGS))
def test_a_bug_beyond_the_range_is_caught(wake: Callable[[str], None], bug: str) -> None:
    """A wrong exponent passes."""
    wake(bug)
    if bug in SEEN_BY:
        with pytest.raises(AssertionError):
            SEEN_BY[bug]()
    else:
        assert is_seen()
