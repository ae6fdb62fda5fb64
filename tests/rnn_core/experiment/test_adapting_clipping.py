"""Clipping rules that follow the norms of the gradients before: the published programs, their bounds, gradients of any size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.clipping import ROWS, Clipped, adapting
from tests.support.arrays import LIBRARIES, array, quick, relative

ADAPTING = [name for name, row in ROWS.items() if row.remembers]
Grads = dict[str, Any]


def drawn(seed: int, steps: int, spikes: float = 20.0, size: float = 1.0) -> list[Grads]:
    """Gradients of two parameters, of norms that drift; one in eight is ``spikes`` times as large."""
    rng = np.random.default_rng(seed)
    drift = np.exp(np.cumsum(0.1 * rng.standard_normal(steps))) * np.where(rng.random(steps) < 0.125, spikes, 1.0)
    return [
        {"weight": size * d * rng.standard_normal((3, 2)), "bias": 0.1 * size * d * rng.standard_normal(3)}
        for d in drift
    ]


def clipped(text: str, sequence: list[Grads]) -> Iterator[Clipped]:
    """One after the other; what the rule remembers is passed along."""
    rule, memory = rc.parse_clipping(text), None
    for grads in sequence:
        done = rule(grads, memory=memory)
        memory = done.memory
        yield done


def norm(*grads: Any) -> float:
    return float(np.sqrt(sum((to_numpy(g).astype(np.float64) ** 2).sum() for g in grads)))


# ---- the published algorithms, in plain floats and torch's functions ---------------------------------------------------------


def published_adagc(sequence: list[Grads], threshold: float, **mistakes: Any) -> list[Grads]:
    """Wang et al. 2025, algorithm 1, lines 5 to 14: lambda_rel = threshold, lambda_abs = 1, beta = 0.98, T_start = 100."""
    beta, start, after = mistakes.get("beta", 0.98), mistakes.get("start", 100), mistakes.get("after", True)
    gamma: dict[str, float] = {}
    result = []
    for t, grads in enumerate(sequence):
        tensors = {name: torch.tensor(g) for name, g in grads.items()}
        if t < start:
            whole = float(torch.sqrt(sum(g.square().sum() for g in tensors.values())))
            used = {name: g * min(1.0 / whole, 1.0) for name, g in tensors.items()}
            gamma = {name: min(gamma.get(name, math.inf), float(g.norm())) for name, g in used.items()}
        else:
            used = {name: g * min(threshold * gamma[name] / float(g.norm()), 1.0) for name, g in tensors.items()}
            seen = used if after else tensors
            gamma = {name: beta * gamma[name] + (1.0 - beta) * float(seen[name].norm()) for name in used}
        result.append({name: g.numpy() for name, g in used.items()})
    return result


def published_zclip(sequence: list[Grads], threshold: float, **mistakes: Any) -> list[Grads]:
    """Kumar et al. 2025, section 3: alpha = 0.97, N_w = 25, z* = threshold²/z; mean and variance follow the norm after clipping."""
    alpha, start, after = mistakes.get("alpha", 0.97), mistakes.get("start", 25), mistakes.get("after", True)
    first: list[float] = []
    mean = variance = math.nan
    result = []
    for grads in sequence:
        tensors = {name: torch.tensor(g) for name, g in grads.items()}
        whole = float(torch.sqrt(sum(g.square().sum() for g in tensors.values())))
        to = whole
        if len(first) < start:
            first.append(whole)
            mean, variance = float(np.mean(first)), float(np.var(first))
        else:
            z = (whole - mean) / math.sqrt(variance)
            if z > threshold:
                to = mean + math.sqrt(variance) * (threshold**2 / z if not mistakes.get("flat") else threshold)
            seen = to if after else whole
            mean = alpha * mean + (1.0 - alpha) * seen
            variance = alpha * variance + (1.0 - alpha) * (seen - mean) ** 2
        result.append({name: (g * (to / whole)).numpy() for name, g in tensors.items()})
    return result


PUBLISHED = {"adagc": (published_adagc, 1.05), "zclip": (published_zclip, 2.5)}


def test_every_adapting_rule_has_its_published_form() -> None:
    """A rule was added that remembers, and nothing says that it is what was published."""
    assert set(PUBLISHED) == set(ADAPTING)


@pytest.mark.parametrize("rule", ADAPTING)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.2, 3.0))
@quick
def test_it_is_the_published_algorithm(rule: str, seed: int, scale: float) -> None:
    """Another threshold, another order of steps, or statistics of other norms."""
    program, usual = PUBLISHED[rule]
    sequence, threshold = drawn(seed, 160), usual * scale
    for ours, theirs in zip(clipped(f"{rule}:{threshold!r}", sequence), program(sequence, threshold), strict=True):
        for name, g in theirs.items():
            assert relative(ours.grads[name], g) < 1e-11


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [
        ("adagc", {"beta": 0.97}),
        ("adagc", {"start": 99}),
        ("adagc", {"after": False}),
        ("zclip", {"alpha": 0.98}),
        ("zclip", {"start": 24}),
        ("zclip", {"after": False}),
        ("zclip", {"flat": True}),
    ],
)
def test_the_comparison_sees_a_mistake(rule: str, mistake: dict[str, Any]) -> None:
    """Gradients as drawn above would not tell a rule with this mistake from the published one."""
    program, usual = PUBLISHED[rule]
    sequence = drawn(0, 160)
    pairs = zip(program(sequence, usual), program(sequence, usual, **mistake), strict=True)
    assert max(relative(wrong[name], right[name]) for right, wrong in pairs for name in right) > 1e-4


# ---- what the formulas imply -------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 10_000), threshold=st.floats(0.5, 3.0), spikes=st.floats(1.0, 1e6))
@quick
def test_adagc_bounds_every_parameter_by_its_own_past(seed: int, threshold: float, spikes: float) -> None:
    """‖g_i‖ <= threshold · gamma_i, so gamma_i grows by a factor of at most beta + (1 - beta) threshold an update, whatever comes."""
    gamma: dict[str, float] = {}
    for t, done in enumerate(clipped(f"adagc:{threshold!r}", drawn(seed, 160, spikes))):
        now = {name: math.exp(log) for name, log in done.memory.log_gamma.items()}
        if t < 100:
            assert norm(*done.grads.values()) <= 1.0 + 1e-12
        else:
            for name, g in done.grads.items():
                assert norm(g) <= threshold * gamma[name] * (1 + 1e-12)
                assert now[name] <= gamma[name] * (0.98 + 0.02 * max(threshold, 0.0)) * (1 + 1e-12)
        gamma = now


@given(seed=st.integers(0, 10_000), threshold=st.floats(0.5, 5.0), spikes=st.floats(1.0, 1e6))
@quick
def test_zclip_bounds_the_norm_by_mean_and_deviation(seed: int, threshold: float, spikes: float) -> None:
    """After the first 25 gradients ‖g‖ <= mu + threshold · sigma; the direction stays, and one within keeps every bit."""
    memory, sequence = adapting.Spread(), drawn(seed, 80, spikes)
    for t, (grads, done) in enumerate(zip(sequence, clipped(f"zclip:{threshold!r}", sequence), strict=True)):
        if t < 25:
            assert done.grads is grads
        else:
            mu = math.exp(memory.log_mean)
            limit, before = mu * (1.0 + threshold * memory.deviation), norm(*grads.values())
            assert norm(*done.grads.values()) <= limit * (1 + 1e-12)
            assert relative(done.grads["weight"] / norm(*done.grads.values()), grads["weight"] / before) < 1e-12
            if before < limit * (1 - 1e-12):
                assert done.grads is grads
        memory = done.memory


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("exponent", [-9000, 9000])
def test_zclip_does_not_see_the_scale(exponent: int, library: str) -> None:
    """Gradients of 10^±2700 are clipped as those of size 1 are: the rule knows sizes by each other alone."""
    sequence = [{name: array(g, library) for name, g in grads.items()} for grads in drawn(2, 60)]
    far = [{name: rc.Scaled(g, exponent) for name, g in grads.items()} for grads in sequence]
    pairs = list(zip(clipped("zclip:2.5", sequence), clipped("zclip:2.5", far), strict=True))
    assert min(near.factor for near, _ in pairs) < 0.5
    for near, beyond in pairs:
        assert beyond.factor == pytest.approx(near.factor, rel=1e-9)
        assert beyond.finite


def test_adagc_follows_a_parameter_of_any_size() -> None:
    """After the first hundred, whose global norm is clipped to 1, sizes count by each other alone."""
    sequence = drawn(3, 160, size=1e-6)  # never clipped at the start
    far = [{name: rc.Scaled(g, -9000) for name, g in grads.items()} for grads in sequence]
    pairs = list(zip(clipped("adagc:1.05", sequence), clipped("adagc:1.05", far), strict=True))
    assert min(near.factor for near, _ in pairs) < 0.5
    for near, beyond in pairs:
        assert beyond.factor == pytest.approx(near.factor, rel=1e-9)


@pytest.mark.parametrize("rule", ADAPTING)
@pytest.mark.parametrize("spike", [1e300, rc.Scaled(np.array([0.6, -0.8]), 40_000)], ids=["1e300", "1e12041"])
def test_a_spike_of_any_size_is_clipped_and_soon_forgotten(rule: str, spike: Any) -> None:
    """A spike stays, becomes inf or nan in what is remembered, or raises the threshold for those that follow."""
    usual = [{"w": np.array([0.003, 0.004]) * (1.0 + 0.1 * math.sin(t))} for t in range(130)]
    huge = {"w": spike if isinstance(spike, rc.Scaled) else np.array([0.6, -0.8]) * spike}
    done = list(clipped(f"{rule}:{PUBLISHED[rule][1]!r}", [*usual, huge, *usual[:5]]))
    assert norm(done[130].grads["w"]) < 0.0065
    np.testing.assert_allclose(done[130].grads["w"] / norm(done[130].grads["w"]), [0.6, -0.8], rtol=1e-12)
    assert all(each.finite for each in done)
    quiet = list(clipped(f"{rule}:{PUBLISHED[rule][1]!r}", [*usual, *usual[:5]]))
    for after, without in zip(done[131:], quiet[130:], strict=True):
        assert norm(after.grads["w"]) == pytest.approx(norm(without.grads["w"]), rel=0.01)


@pytest.mark.parametrize("rule", ADAPTING)
@pytest.mark.parametrize("nothing", [0.0, math.nan, math.inf])
def test_what_says_nothing_of_usual_sizes_is_not_remembered(rule: str, nothing: float) -> None:
    """A zero gradient would lower the threshold to 0 for ever; one that is not finite would make it nan."""
    sequence = drawn(4, 130)
    bad = {"weight": np.zeros((3, 2)), "bias": np.array([0.0, nothing, 0.0])}
    text = f"{rule}:{PUBLISHED[rule][1]!r}"
    expected = list(clipped(text, sequence))
    found = list(clipped(text, [bad, *sequence[:60], bad, *sequence[60:]]))
    for place in (0, 61):
        assert found[place].grads is bad or norm(found[place].grads["weight"]) == 0.0
        assert found[place].finite == (nothing == 0.0)
    rest = found[1:61] + found[62:]
    assert rest[-1].memory == expected[-1].memory
    for ours, theirs in zip(rest, expected, strict=True):
        np.testing.assert_array_equal(ours.grads["weight"], theirs.grads["weight"])


@pytest.mark.parametrize("rule", ADAPTING)
def test_a_rule_is_a_pure_function(rule: str) -> None:
    """What is remembered is changed in place, so that the same arguments give another answer the second time."""
    *before, last = drawn(5, 128)
    last = {name: 100.0 * g for name, g in last.items()}
    memory = list(clipped(f"{rule}:1.0", before))[-1].memory
    clip = rc.parse_clipping(f"{rule}:1.0")
    once, again = clip(last, memory=memory), clip(last, memory=memory)
    assert once.memory == again.memory != memory
    assert once.factor == again.factor < 1.0


# ---- in a run ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ADAPTING)
def test_training_passes_it_along(rule: str) -> None:
    """A run forgets what the rule remembers, or clips with that of another run."""
    program, usual = PUBLISHED[rule]
    threshold, sequence = 0.2 * usual, []
    e = rc.Experiment(
        task="input_mean", hidden_size=6, sequence_length=8, batch_size=2, updates=125, learning_rate=0.01, clipping=f"{rule}:{threshold!r}"
    )  # fmt: skip
    problem, result = rc.prepare(e), rc.run(e)
    params, optimizer = problem.params, rc.SGD(0.01)
    for update in range(e.updates):
        evaluation = rc.evaluate(problem, params, *problem.batch(update))
        sequence.append({name: np.asarray(g) for name, g in evaluation.param_grads.items()})
        factor = result["clip_factor"][update]
        used = {name: factor * g for name, g in sequence[-1].items()}
        if rule == "adagc" and update >= 100:  # every parameter has a factor of its own
            used = program(sequence, threshold)[-1]
        params = optimizer.step(params, used)
    norms = [math.log10(norm(*used.values())) for used in program(sequence, threshold)]
    np.testing.assert_allclose(result["log10_norm_after"], norms, rtol=0, atol=1e-9)
    assert (result["clip_factor"] < 0.999).sum() > 2
