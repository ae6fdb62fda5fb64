"""Clipping rules: what they bound, what they keep, what they say, and that they are torch's where torch is right."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.arrays import to_numpy
from rnn_core.axes import Axis
from rnn_core.clipping import ROWS, RULES, Clipped, clip_signal, compare, global_log_norm
from tests.support.arrays import DTYPES, EPS, LIBRARIES, array, exact, quick, relative, thorough

magnitudes = st.floats(1e-6, 1e6)
thresholds = st.floats(1e-9, 1e9)


def written(rule: str, threshold: float = 1.0) -> str:
    """A rule as a config writes it."""
    return rule if rule == "none" else f"{rule}:{threshold!r}"


# Tests that hold for every rule run over these, so that a rule added later is tested from its first day.
ON_GRADIENTS = [rule for rule in RULES if not rc.parse_clipping(written(rule)).on_signal]
FIXED = [rule for rule in ON_GRADIENTS if not ROWS[rule].remembers]  # the others: test_adapting_clipping.py
THAT_CLIP = [rule for rule in FIXED if rule != "none"]
HOMOGENEOUS = [
    rule for rule in THAT_CLIP if rule != "value"
]  # the direction (of a unit) alone decides what is clipped to
OF_NORM_ONE = ("norm", "parameter", "adaptive")  # a single gradient is clipped to the threshold, of weights of norm 1


@st.composite
def gradients(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Three parameters of any size, of magnitudes that differ between them."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shapes = {"weight_hh": (3, 3), "weight_ih": (3, 2), "bias_hh": (3,)}
    return {name: draw(magnitudes) * rng.standard_normal(shape) for name, shape in shapes.items()}


def flat(grads: dict[str, Any]) -> np.ndarray:
    return np.concatenate([to_numpy(np.asarray(g)).reshape(-1) for g in grads.values()]).astype(np.float64)


def clip(text: str, grads: dict[str, Any], params: dict[str, Any] | None = None) -> Clipped:
    """Clipped by a rule; every parameter is 1 where the test does not say what it is."""
    return rc.parse_clipping(text)(grads, ones(grads) if params is None else params)


def ones(grads: dict[str, Any]) -> dict[str, Any]:
    plain = {name: g.mantissa if isinstance(g, rc.Scaled) else g for name, g in grads.items()}
    return {name: torch.ones_like(g) if isinstance(g, torch.Tensor) else np.ones_like(g) for name, g in plain.items()}


def in_library(values: dict[str, np.ndarray], library: str, dtype: str = "float64") -> dict[str, Any]:
    return {name: array(value, library, dtype) for name, value in values.items()}


@given(grads=gradients(), threshold=thresholds)
@thorough
def test_norm_is_bounded_and_the_direction_is_kept(grads: dict[str, np.ndarray], threshold: float) -> None:
    """Clipping by norm leaves a norm above the threshold, turns the gradient, or changes one that needs no clipping."""
    before, clipped = flat(grads), clip(f"norm:{threshold!r}", grads)
    after, norm = flat(clipped.grads), float(np.linalg.norm(before))
    assert np.linalg.norm(after) <= threshold * (1 + 1e-12)
    if norm <= threshold * (1 - 1e-12):
        np.testing.assert_array_equal(after, before)
        assert clipped.factor == 1.0
    elif norm > threshold * (1 + 1e-12):
        assert np.linalg.norm(after) == pytest.approx(threshold, rel=1e-12)
        assert relative(after / threshold, before / norm) <= 1e-12
        assert clipped.factor == pytest.approx(threshold / norm, rel=1e-12)
    assert clipped.finite
    assert clipped.log_norm_before == pytest.approx(math.log(norm), rel=1e-13, abs=1e-13)
    assert clipped.log_norm_after == pytest.approx(math.log(np.linalg.norm(after)), rel=1e-12, abs=1e-12)


@given(grads=gradients(), threshold=thresholds)
@thorough
def test_by_value_bounds_every_entry(grads: dict[str, np.ndarray], threshold: float) -> None:
    """An entry stays above the threshold, or one within it is changed."""
    before, clipped = flat(grads), clip(f"value:{threshold!r}", grads)
    after = flat(clipped.grads)
    np.testing.assert_array_equal(after, np.clip(before, -threshold, threshold))
    assert clipped.finite
    assert clipped.factor == pytest.approx(np.linalg.norm(after) / np.linalg.norm(before), rel=1e-12)


@given(grads=gradients())
@quick
def test_none_changes_nothing_and_reports_the_norm(grads: dict[str, np.ndarray]) -> None:
    """A run without clipping is clipped, or its norm is not recorded."""
    clipped = clip("none", grads)
    assert clipped.grads is grads
    assert clipped.factor == 1.0
    assert clipped.log_norm_before == clipped.log_norm_after == global_log_norm(grads)


@given(grads=gradients(), threshold=thresholds)
@quick
def test_same_as_torch(grads: dict[str, np.ndarray], threshold: float) -> None:
    """Our rules mean something else than torch.nn.utils.clip_grad_norm_ and clip_grad_value_."""
    for text, function in (("norm", torch.nn.utils.clip_grad_norm_), ("value", torch.nn.utils.clip_grad_value_)):
        leaves = []
        for value in grads.values():
            leaf = torch.zeros(value.shape, dtype=torch.float64, requires_grad=True)
            leaf.grad = torch.tensor(value)
            leaves.append(leaf)
        function(leaves, threshold)
        theirs = np.concatenate([leaf.grad.numpy().reshape(-1) for leaf in leaves if leaf.grad is not None])
        ours = flat(clip(f"{text}:{threshold!r}", grads).grads)
        # torch divides by (norm + 1e-6), ours by the norm.
        slack = 2e-6 / np.linalg.norm(flat(grads)) if text == "norm" else 0.0
        assert relative(ours, theirs) <= 1e-12 + slack


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("text", [written(rule, 0.1 if rule == "value" else 0.5) for rule in ON_GRADIENTS])
def test_library_and_dtype_are_kept(text: str, dtype: str, library: str) -> None:
    """Clipping returns another kind of array than it was given."""
    grads = {"a": array([3.0, -4.0], library, dtype), "b": array([[0.01]], library, dtype)}
    clipped = clip(text, grads)
    for name, value in grads.items():
        assert type(clipped.grads[name]) is type(value)
        assert clipped.grads[name].dtype == value.dtype
    if text == "norm:0.5":
        assert np.linalg.norm(flat(clipped.grads)) == pytest.approx(0.5, rel=4 * EPS[dtype])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("text", [written(rule) for rule in ON_GRADIENTS])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_reported_and_left(bad: float, text: str, library: str) -> None:
    """torch's clip_grad_norm_ turns every gradient into 0 or nan here without a word; ours must say so and touch nothing."""
    grads = {"a": array([1.0, bad], library), "b": array([2.0], library)}
    clipped = clip(text, grads)
    assert not clipped.finite
    assert math.isnan(clipped.factor)
    for name, value in grads.items():
        np.testing.assert_array_equal(to_numpy(clipped.grads[name]), to_numpy(value))


def test_what_is_not_finite_is_reported_once() -> None:
    """``finite=False`` says it; a NumPy warning besides, which a strict program takes for an error, is one too many."""
    with np.errstate(invalid="raise"):
        assert not clip("none", {"a": np.array([np.nan]), "b": np.ones(1)}).finite


@pytest.mark.parametrize("text", [written(rule) for rule in ON_GRADIENTS])
def test_a_zero_gradient_is_left(text: str) -> None:
    """A zero norm is divided by."""
    clipped = clip(text, {"a": np.zeros(3)})
    assert clipped.finite
    assert clipped.factor == 1.0
    assert not np.asarray(clipped.grads["a"]).any()
    assert clipped.log_norm_before == clipped.log_norm_after == -math.inf


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("threshold", [1.0, 1e-3, 37.0])
def test_a_gradient_of_norm_1e400_is_clipped_to_the_threshold(threshold: float, library: str) -> None:
    """Clipping must rescue a gradient beyond float range: with its direction, beside gradients within range."""
    exponent = 1329  # 2**1329 = 1.1e400
    direction = array([0.6, -0.8], library)
    grads = {"weight_hh": rc.Scaled(direction, exponent), "bias_hh": array([1e300], library)}
    clipped = clip(f"norm:{threshold!r}", grads)
    assert clipped.finite
    assert clipped.log_norm_before == pytest.approx(exponent * math.log(2.0), rel=1e-15)
    np.testing.assert_allclose(to_numpy(clipped.grads["weight_hh"]), threshold * to_numpy(direction), rtol=1e-12)
    assert np.asarray(clipped.grads["bias_hh"])[0] == pytest.approx(
        threshold * 1e300 * 2.0**-1000 * 2.0**-329, rel=1e-12
    )
    norm = np.linalg.norm(to_numpy(clipped.grads["weight_hh"]))
    assert norm <= threshold * (1 + 1e-12)


@pytest.mark.filterwarnings("ignore:overflow encountered in multiply:RuntimeWarning")
def test_by_value_beyond_range() -> None:
    """Entries beyond range must end at ± the threshold."""
    clipped = clip("value:0.5", {"a": rc.Scaled(np.array([0.6, -0.8, 0.0]), 5000)})
    np.testing.assert_array_equal(np.asarray(clipped.grads["a"]), [0.5, -0.5, 0.0])
    assert clipped.finite


@pytest.mark.parametrize("rule", THAT_CLIP)
def test_a_vanished_gradient_is_within_any_threshold(rule: str) -> None:
    """A norm of 1e-400 is no reason to clip."""
    grads = {"a": rc.Scaled(np.array([0.6, 0.8]), -1329), "m": rc.Scaled(np.array([[0.6, 0.8], [0.0, 0.1]]), -1329)}
    clipped = clip(written(rule), grads)
    assert clipped.grads["m"] is grads["m"]
    assert clipped.grads["a"] is grads["a"]
    assert clipped.factor == 1.0


def test_a_vanished_gradient_is_left_by_value() -> None:
    """What is within the threshold must stay what it is."""
    clipped = clip("value:1.0", {"a": rc.Scaled(np.array([0.6, 0.8]), -1329)})
    assert clipped.factor == 1.0


@pytest.mark.parametrize("rule", HOMOGENEOUS)
@pytest.mark.parametrize(
    ("largest", "dtype"), [(1.2e308, "float64"), (3e38, "float32"), (8e307, "float64"), (1e38, "float32")]
)
def test_a_gradient_near_the_end_of_the_range(largest: float, dtype: str, rule: str) -> None:
    """Were the factor's mantissa in [1, 2), what is above half the range would overflow to inf before its exponent is applied,
    and ``finite`` would still say True."""
    for values in ([largest, -largest / 2], [[largest, -largest / 2]]):
        g = np.array(values, dtype=dtype)
        clipped = clip(written(rule, 5.0), {"a": g}, {"a": np.full_like(g, math.sqrt(0.5))})  # weights of norm 1
        far_from_it = clip(written(rule, 5.0), {"a": g * g.dtype.type(1e-9)}, {"a": np.full_like(g, math.sqrt(0.5))})
        after, expected = (np.asarray(each.grads["a"]).astype(np.float64) for each in (clipped, far_from_it))
        np.testing.assert_allclose(after, expected, rtol=1e-6)  # the direction alone decides
        assert np.linalg.norm(after) == pytest.approx(
            5.0 if rule in OF_NORM_ONE else np.linalg.norm(expected), rel=1e-6
        )


@pytest.mark.parametrize(
    ("text", "rule", "threshold"),
    [
        ("none", "none", None),
        ("norm:1", "norm", 1.0),
        ("norm:0.25", "norm", 0.25),
        ("value:1e-3", "value", 1e-3),
        ("parameter:1.0", "parameter", 1.0),
        ("adaptive:0.01", "adaptive", 0.01),
        ("adagc:1.05", "adagc", 1.05),
        ("zclip:2.5", "zclip", 2.5),
        ("signal:10", "signal", 10.0),
    ],
)
def test_rules_are_parsed(text: str, rule: str, threshold: float | None) -> None:
    """The rule or threshold that runs is not the one that was written."""
    clipping = rc.parse_clipping(text)
    assert (clipping.rule, clipping.threshold) == (rule, threshold)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "nrom:1.0",
            rf"clipping: 'nrom:1.0' is not known; allowed: {', '.join(RULES)}\. Did you mean 'norm:1.0'\?",
        ),
        ("values:1", r"Did you mean 'value:1'\?"),
        ("norm", r"'norm' is not allowed; write norm:THRESHOLD"),
        ("norm:", r"write norm:THRESHOLD"),
        ("norm:one", r"write norm:THRESHOLD"),
        ("value:0", r"write value:THRESHOLD with a threshold above 0"),
        ("value:-1", r"write value:THRESHOLD"),
        ("norm:inf", r"write norm:THRESHOLD"),
        ("norm:nan", r"write norm:THRESHOLD"),
        ("none:1", r"none takes no threshold"),
        ("parameters:1", r"Did you mean 'parameter:1'\?"),
        ("adaptive", r"write adaptive:THRESHOLD"),
        ("signal:0", r"write signal:THRESHOLD with a threshold above 0"),
    ],
)
def test_rules_that_do_not_exist_are_answered(text: str, message: str) -> None:
    """A rule that cannot be run is accepted, or refused without saying what would have worked."""
    with pytest.raises(ValueError, match=message):
        rc.parse_clipping(text)
    with pytest.raises(ValueError, match=message):
        rc.Experiment(clipping=text)


def test_the_schema_takes_what_is_a_rule() -> None:
    """The config schema refuses a rule that runs, or takes what is none."""
    schema = Axis("rule", "", "", "", choices=tuple(RULES)).json_schema()
    for good in ("none", "norm:1", "norm:1.0", "value:0.5", "value:1e-3", "norm:10.0", "norm:100", "norm:.5"):
        assert re.search(schema["pattern"], good), good
        rc.parse_clipping(good)
    for bad in ("", "norm", "norm:", "norm:0", "norm:0.0", "value:-1", "norm:inf", "none:1", "clip:1"):
        assert not re.search(schema["pattern"], bad), bad
    for rule in RULES:
        assert re.search(schema["pattern"], written(rule, 0.5)), rule
        rc.parse_clipping(written(rule, 0.5))
        for bad in ("none:", f"{rule}:0", f"{rule}:0.0", f"{rule}:-1", f"{rule}:nan", f"{rule}:1.0:1.0"):
            assert not re.search(schema["pattern"], bad), bad
            with pytest.raises(ValueError):
                rc.parse_clipping(bad)


@given(rule=st.sampled_from(list(RULES)), threshold=st.floats(0.0, exclude_min=True, allow_infinity=False))
@thorough
def test_a_rule_has_one_spelling(rule: str, threshold: float) -> None:
    """Two spellings of a rule are two runs, or the canonical one means another threshold or is refused by the schema."""
    clipping = rc.parse_clipping(written(rule, threshold))
    assert rc.parse_clipping(str(clipping)) == clipping
    assert str(rc.parse_clipping(str(clipping))) == str(clipping)
    assert re.search(Axis("rule", "", "", "", choices=tuple(RULES)).json_schema()["pattern"], str(clipping))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("none", "none"), ("norm:1", "norm:1.0"), ("norm:1.0", "norm:1.0"), ("norm:.5", "norm:0.5"), ("value:1e-1", "value:0.1"),
     ("signal:1E1", "signal:10.0"), ("adaptive:010", "adaptive:10.0"), ("norm:1e-07", "norm:1e-07")],
)  # fmt: skip
def test_spellings_are_canonicalised(text: str, canonical: str) -> None:
    """norm:1 and norm:1.0 are one rule."""
    assert str(rc.parse_clipping(text)) == canonical


# What holds for every rule.


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", THAT_CLIP)
@given(grads=gradients(), threshold=thresholds)
@quick
def test_clipping_twice_is_clipping_once(
    grads: dict[str, np.ndarray], threshold: float, rule: str, dtype: str, library: str
) -> None:
    """What is clipped is still outside."""
    once = clip(written(rule, threshold), in_library(grads, library, dtype))
    twice = clip(written(rule, threshold), once.grads)
    assert relative(flat(twice.grads), flat(once.grads)) <= 20 * EPS[dtype]
    assert twice.factor == pytest.approx(1.0, abs=20 * EPS[dtype])
    assert twice.log_norm_before == once.log_norm_after


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rule", ON_GRADIENTS)
@given(grads=gradients(), threshold=thresholds)
@quick
def test_no_entry_grows_or_turns_and_the_report_is_right(
    grads: dict[str, np.ndarray], threshold: float, rule: str, library: str
) -> None:
    """Clipping makes a gradient larger, turns an entry's sign, changes what it was given, or misreports what it did."""
    given_grads, params = in_library(grads, library), in_library({n: g[::-1] * 0.01 for n, g in grads.items()}, library)
    clipped = clip(written(rule, threshold), given_grads, params)
    before, after = flat(grads), flat(clipped.grads)
    assert (np.abs(after) <= np.abs(before) * (1 + 1e-14)).all()
    assert (np.sign(after) == np.sign(before)).all()
    np.testing.assert_array_equal(flat(given_grads), before)
    assert clipped.finite
    norm_before, norm_after = np.linalg.norm(before), np.linalg.norm(after)
    assert clipped.factor == pytest.approx(norm_after / norm_before, rel=1e-12)
    assert clipped.log_norm_before == pytest.approx(math.log(norm_before), rel=1e-12, abs=1e-12)
    assert clipped.log_norm_after == pytest.approx(math.log(norm_after), rel=1e-12, abs=1e-12)
    reported = compare(given_grads, clipped.grads)
    assert (reported.factor, reported.finite) == (clipped.factor, True)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rule", FIXED)
@given(grads=gradients())
@quick
def test_what_is_within_the_threshold_is_not_touched(grads: dict[str, np.ndarray], rule: str, library: str) -> None:
    """A gradient that needs no clipping is copied with other bits."""
    placed = in_library(grads, library)
    clipped = clip(written(rule, 1e9), placed)
    assert clipped.factor == 1.0
    for name, g in placed.items():
        np.testing.assert_array_equal(to_numpy(clipped.grads[name]), to_numpy(g))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rule", ON_GRADIENTS)
@given(grads=gradients(), threshold=thresholds, exponent=st.integers(-60, 60))
@quick
def test_scaled_gradients_are_clipped_as_plain_ones(
    grads: dict[str, np.ndarray], threshold: float, exponent: int, rule: str, library: str
) -> None:
    """An exponent kept apart changes what a rule does."""
    placed = in_library(grads, library)
    apart = {name: rc.Scaled(g * 2.0**-exponent, exponent) for name, g in placed.items()}
    plain, scaled = clip(written(rule, threshold), placed), clip(written(rule, threshold), apart)
    assert relative(flat(scaled.grads), flat(plain.grads)) <= 1e-12
    assert scaled.factor == pytest.approx(plain.factor, rel=1e-11)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", HOMOGENEOUS)
@pytest.mark.parametrize("exponent", [1329, 9000])
def test_beyond_range_only_the_direction_counts(exponent: int, rule: str, dtype: str, library: str) -> None:
    """g · 2^1329 (1e400) must be clipped to what g · 2^40 is clipped to: both are outside, in the same direction."""
    rng = np.random.default_rng(5)
    grads = {"weight": rng.standard_normal((4, 3)), "bias": rng.standard_normal(4)}
    params = in_library({name: rng.standard_normal(g.shape) for name, g in grads.items()}, library, dtype)
    placed = in_library(grads, library, dtype)
    plain = clip(written(rule, 0.5), {name: g * 2.0**40 for name, g in placed.items()}, params)
    huge = clip(written(rule, 0.5), {name: rc.Scaled(g, exponent) for name, g in placed.items()}, params)
    assert huge.finite
    limit = 1e-11 if dtype == "float64" else 1e-5
    for name, g in plain.grads.items():
        assert type(huge.grads[name]) is type(g)
        assert relative(huge.grads[name], g) <= limit
    assert huge.log_norm_after == pytest.approx(plain.log_norm_after, abs=limit)
    assert huge.log_norm_before == pytest.approx(plain.log_norm_before + (exponent - 40) * math.log(2.0), rel=1e-6)
    assert huge.factor == 0.0 or exponent < 1074


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("rule", ON_GRADIENTS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_entry_that_is_not_finite_leaves_every_parameter(bad: float, rule: str, library: str) -> None:
    """Some gradients are clipped and some are not, by where the inf stood."""
    grads = {
        "a": array([[1e6, 2e6]], library),
        "b": rc.Scaled(array([1.0, bad], library), 1329),
        "c": array([5e5], library),
    }
    clipped = clip(written(rule), grads)
    assert not clipped.finite
    assert math.isnan(clipped.factor)
    for name, g in grads.items():
        assert clipped.grads[name] is g


# Each parameter by itself.


@pytest.mark.parametrize("library", LIBRARIES)
@given(grads=gradients(), threshold=thresholds)
@thorough
def test_by_parameter_each_is_bounded_and_keeps_its_direction(
    grads: dict[str, np.ndarray], threshold: float, library: str
) -> None:
    """A parameter is left above the threshold, is turned, or is shrunk for another's sake."""
    placed = in_library(grads, library)
    clipped = clip(f"parameter:{threshold!r}", placed)
    for name, g in grads.items():
        norm, after = float(np.linalg.norm(g)), to_numpy(clipped.grads[name])
        if norm <= threshold * (1 - 1e-12):
            assert clipped.grads[name] is placed[name]
        elif norm > threshold * (1 + 1e-12):
            assert np.linalg.norm(after) == pytest.approx(threshold, rel=1e-12)
            assert relative(after / threshold, g / norm) <= 1e-12


@given(grads=gradients(), threshold=thresholds)
@quick
def test_by_parameter_is_torchs_one_tensor_at_a_time(grads: dict[str, np.ndarray], threshold: float) -> None:
    """Our rule means something else than clip_grad_norm_ called for every parameter."""
    clipped = clip(f"parameter:{threshold!r}", grads)
    for name, value in grads.items():
        leaf = torch.zeros(value.shape, dtype=torch.float64, requires_grad=True)
        leaf.grad = torch.tensor(value)
        torch.nn.utils.clip_grad_norm_(leaf, threshold)
        # torch divides by (norm + 1e-6), ours by the norm.
        assert relative(clipped.grads[name], leaf.grad.numpy()) <= 1e-12 + 2e-6 / np.linalg.norm(value)


def test_by_parameter_a_huge_gradient_does_not_shrink_the_others() -> None:
    """One parameter of 1e400 must not take the others with it; one of 1e-400 stays what it is."""
    grads = {
        "huge": rc.Scaled(np.array([0.6, -0.8]), 1329),
        "usual": np.array([0.3]),
        "tiny": rc.Scaled(np.ones(2), -1329),
    }
    clipped = clip("parameter:0.5", grads)
    np.testing.assert_allclose(np.asarray(clipped.grads["huge"]), [0.3, -0.4], rtol=1e-12)
    assert clipped.grads["usual"] is grads["usual"]
    assert clipped.grads["tiny"] is grads["tiny"]
    assert clipped.log_norm_after == pytest.approx(0.5 * math.log(0.25 + 0.09), rel=1e-12)


# Adaptive clipping.


def published(
    g: np.ndarray, w: np.ndarray, threshold: float, axis: int = 1, smallest: float = 1e-3, whole: bool = True
) -> np.ndarray:
    """Brock et al. 2021, eq. 3, in plain arithmetic; ``axis``, ``smallest`` and ``whole`` can be made wrong."""
    over = {"axis": axis, "keepdims": True} if g.ndim == 2 else {"axis": None, "keepdims": True}
    norms = np.abs if g.ndim == 1 and not whole else lambda x: np.sqrt(np.sum(x**2, **over))
    size, weight = norms(g), np.maximum(norms(w), smallest)
    shrunk = threshold * weight / np.where(size == 0.0, 1.0, size) * g
    return np.asarray(np.where(size / weight > threshold, shrunk, g))


@st.composite
def weights(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Parameters for ``gradients``, of rows that differ in size; some are 0, some smaller than 1e-3."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shapes = {"weight_hh": (3, 3), "weight_ih": (3, 2), "bias_hh": (3,)}
    sizes = st.sampled_from([0.0, 1e-5, 1e-3, 1.0, 1e3])
    drawn = {}
    for name, shape in shapes.items():
        rows = np.array([draw(sizes) for _ in range(3)])
        drawn[name] = rng.standard_normal(shape) * (rows[:, None] if len(shape) == 2 else rows)
    return drawn


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@given(grads=gradients(), params=weights(), threshold=thresholds)
@thorough
def test_adaptive_is_the_published_equation(
    grads: dict[str, np.ndarray], params: dict[str, np.ndarray], threshold: float, dtype: str, library: str
) -> None:
    """A unit is a column, the norm of the weights is forgotten, or a unit whose weights are 0 cannot move."""
    clipped = clip(f"adaptive:{threshold!r}", in_library(grads, library, dtype), in_library(params, library, dtype))
    for name, g in grads.items():
        expected = published(g, params[name], threshold)
        ours = to_numpy(clipped.grads[name]).astype(np.float64)
        np.testing.assert_allclose(ours, expected, rtol=1e-12 if dtype == "float64" else 1e-5)


@pytest.mark.parametrize("mistake", [{"axis": 0}, {"smallest": 1e-2}, {"smallest": 1e-9}, {"whole": False}])
def test_the_comparison_sees_a_mistake_in_the_equation(mistake: dict[str, Any]) -> None:
    """The cases above would not tell a rule with this mistake from the published one."""
    rng = np.random.default_rng(4)
    for name, shape in (("matrix", (3, 3)), ("vector", (3,))):
        g, w = rng.standard_normal(shape), rng.standard_normal(shape) * np.array([1e-5, 1.0, 3.0])[: shape[0]]
        if "smallest" in mistake:
            w = w * 1e-6
        right, wrong = published(g, w, 0.1), published(g, w, 0.1, **mistake)
        ours = np.asarray(clip("adaptive:0.1", {name: g}, {name: w}).grads[name])
        np.testing.assert_allclose(ours, right, rtol=1e-12)
        applies = "smallest" in mistake or ("axis" in mistake) == (name == "matrix")
        assert (relative(ours, wrong) > 0.01) == applies


@pytest.mark.parametrize("library", LIBRARIES)
@given(grads=gradients(), params=weights(), threshold=thresholds)
@thorough
def test_adaptive_bounds_every_unit_and_keeps_its_direction(
    grads: dict[str, np.ndarray], params: dict[str, np.ndarray], threshold: float, library: str
) -> None:
    """A unit is left outside, is turned, is changed for another's sake, or is changed though it was within."""
    clipped = clip(f"adaptive:{threshold!r}", in_library(grads, library), in_library(params, library))
    for name, g in grads.items():
        after = to_numpy(clipped.grads[name])
        units = zip(g, after, params[name], strict=True) if g.ndim == 2 else [(g, after, params[name])]
        for before_unit, after_unit, w in units:
            limit, norm = threshold * max(float(np.linalg.norm(w)), 1e-3), float(np.linalg.norm(before_unit))
            if norm <= limit * (1 - 1e-12):
                np.testing.assert_array_equal(after_unit, before_unit)
            elif norm > limit * (1 + 1e-12):
                assert np.linalg.norm(after_unit) == pytest.approx(limit, rel=1e-12)
                assert relative(after_unit / limit, before_unit / norm) <= 1e-12


@pytest.mark.parametrize("library", LIBRARIES)
def test_adaptive_units_of_1e400_and_1e_minus_400_in_one_matrix(library: str) -> None:
    """Rows beyond range are clipped to their own limits; rows that are within keep every bit, whatever stands beside them."""
    rows = array([[0.6, -0.8], [0.3, 0.4], [0.75, 0.5], [0.0, 0.0]], library)
    g = rc.Scaled(rows, np.array([1329, -1329, 3, 1329]))
    w = array([[3.0, 4.0], [3.0, 4.0], [300.0, 400.0], [0.0, 0.0]], library)
    clipped = clip("adaptive:0.1", {"w": g}, {"w": w})
    assert clipped.finite
    after = clipped.grads["w"]
    assert isinstance(after, rc.Scaled)  # 1e-400 is no plain float
    np.testing.assert_allclose(to_numpy(after[0]), [0.3, -0.4], rtol=1e-12)
    assert exact(after)[2:] == exact(g)[2:]
    assert clipped.log_norm_after == pytest.approx(math.log(math.hypot(0.5, 6.0, 4.0)), rel=1e-12)
    one = clip("adaptive:0.1", {"w": rc.Scaled(rows, 1329)}, {"w": w}).grads[
        "w"
    ]  # one exponent for all, as backward gives
    np.testing.assert_allclose(
        to_numpy(one),
        [[0.3, -0.4], [0.3, 0.4], 50 * np.array([0.75, 0.5]) / math.hypot(0.75, 0.5), [0.0, 0.0]],
        rtol=1e-12,
    )


def test_adaptive_threshold_and_weights_whose_product_overflows() -> None:
    """The limit of a unit is itself beyond range: what is below it stays."""
    g, w = rc.Scaled(np.array([[0.6, 0.8], [0.6, 0.8]]), 1900), np.array([[1e300, 0.0], [1.0, 0.0]])
    after = clip("adaptive:1e300", {"w": g}, {"w": w}).grads["w"]
    assert exact(after)[:2] == exact(g)[:2]
    np.testing.assert_allclose(np.asarray(after[1]), [0.6e300, 0.8e300], rtol=1e-12)


def test_adaptive_leaves_units_whose_weights_are_not_finite() -> None:
    """A weight of nan says the run broke down; its unit is left, and the others are clipped."""
    g = np.full((3, 2), 10.0)
    clipped = clip("adaptive:0.1", {"w": g}, {"w": np.array([[np.nan, 1.0], [np.inf, 1.0], [3.0, 4.0]])})
    np.testing.assert_array_equal(np.asarray(clipped.grads["w"])[:2], 10.0)
    assert np.linalg.norm(np.asarray(clipped.grads["w"])[2]) == pytest.approx(0.5, rel=1e-12)


def test_adaptive_says_that_it_needs_the_parameters() -> None:
    """A KeyError or TypeError from deep inside would not say what to give."""
    with pytest.raises(ValueError, match="adaptive compares gradients with parameters; give params"):
        rc.parse_clipping("adaptive:0.01")({"w": np.ones(2)})


@pytest.mark.parametrize("rule", [rule for rule in ON_GRADIENTS if rule != "adaptive"])
def test_the_other_rules_need_no_parameters(rule: str) -> None:
    """A caller without parameters at hand can no longer clip."""
    assert rc.parse_clipping(written(rule))({"w": np.ones(2)}).finite


# The signal on its way back.


def test_signal_is_no_rule_for_finished_gradients() -> None:
    """The rule would silently do nothing, or something else, where the backward pass was not told of it."""
    assert [rule for rule in RULES if rc.parse_clipping(written(rule)).on_signal] == ["signal"]
    with pytest.raises(ValueError, match="signal acts inside the backward pass"):
        clip("signal:1.0", {"w": np.ones(2)})


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@given(
    seed=st.integers(0, 10_000),
    size=st.floats(1e-6, 1e6),
    threshold=st.floats(1e-6, 1e6),
    exponent=st.integers(-60, 60),
)
@thorough
def test_signal_bounds_every_entry(
    seed: int, size: float, threshold: float, exponent: int, dtype: str, library: str
) -> None:
    """An entry stays outside, one that is within is changed, or mantissas are compared instead of values."""
    rng = np.random.default_rng(seed)
    values = {"hidden": size * rng.standard_normal((3, 2)), "memory": 1e3 * size * rng.standard_normal((3, 2))}
    values = {name: value.astype(dtype) for name, value in values.items()}
    parts = {name: array(value, library, dtype) * 2.0**-exponent for name, value in values.items()}
    after, e = clip_signal(parts, exponent, threshold)
    limit = np.asarray(threshold, dtype=dtype)
    if max(np.abs(value).max() for value in values.values()) <= limit:
        assert after is parts
        assert e == exponent
        return
    assert e == 0
    for name, value in values.items():
        assert type(after[name]) is type(parts[name]) and after[name].dtype == parts[name].dtype
        np.testing.assert_array_equal(to_numpy(after[name]), np.clip(value, -limit, limit))
    again, e = clip_signal(after, 0, threshold)
    assert again is after
    assert e == 0


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [1329, 5000, 10**7])
def test_signal_beyond_range(exponent: int, dtype: str, library: str) -> None:
    """Entries of 1e400 must end at ± the threshold with no warning; those that are not there stay 0."""
    parts = {"hidden": array([[0.6, -0.8], [0.0, 1.0]], library, dtype), "memory": array([[-0.5, 0.0]], library, dtype)}
    after, e = clip_signal(parts, exponent, 0.25)
    assert e == 0
    np.testing.assert_array_equal(to_numpy(after["hidden"]), [[0.25, -0.25], [0.0, 0.25]])
    np.testing.assert_array_equal(to_numpy(after["memory"]), [[-0.25, 0.0]])
    untouched, e = clip_signal(parts, -exponent, 1e-30)
    assert untouched is parts
    assert e == -exponent


@pytest.mark.parametrize("library", LIBRARIES)
def test_signal_too_small_for_plain_floats_beside_a_clipped_one_becomes_0(library: str) -> None:
    """The promise of the docstring: the entry beside is lost, not kept at another size."""
    after, e = clip_signal({"hidden": array([1e300, 1e-200, -1e-20], library)}, -500, 0.125)
    assert e == 0
    np.testing.assert_array_equal(to_numpy(after["hidden"]), [0.125, 0.0, -1e-20 * 2.0**-500])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("exponent", [0, 1329, -1329])
def test_signal_that_is_not_finite_is_left(exponent: int, bad: float, library: str) -> None:
    """inf clipped to the threshold would hide that the gradient broke down."""
    parts = {"hidden": array([5.0, 7.0], library), "memory": array([bad, 5.0], library)}
    for ordered in (parts, dict(reversed(parts.items()))):
        after, e = clip_signal(ordered, exponent, 1.0)
        assert after is ordered
        assert e == exponent


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [0, 900, -900])
@pytest.mark.parametrize("threshold", [0.1, 1.0, 10.0, 1 / 3])
def test_signal_at_the_threshold(threshold: float, exponent: int, dtype: str) -> None:
    """An entry at the threshold is within; the next number is outside. The threshold is the dtype's own nearest to it."""
    if dtype == "float32":
        exponent //= 10
    limit = np.asarray(threshold, dtype=dtype)
    above = np.nextafter(limit, np.asarray(np.inf, dtype=dtype))
    for value, outside in ((limit, False), (-limit, False), (above, True), (-above, True)):
        parts = {"hidden": np.ldexp(np.array([value, 0.0], dtype=dtype), -exponent)}
        after, e = clip_signal(parts, exponent, threshold)
        assert (after is not parts) == outside
        np.testing.assert_array_equal(np.ldexp(after["hidden"], e), [np.copysign(limit, value), 0.0])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize(("threshold", "limit"), [(1e300, "max"), (1e-300, "smallest_normal")])
def test_signal_thresholds_that_float32_has_not(threshold: float, limit: str, library: str) -> None:
    """A threshold out of the dtype's range becomes inf or 0: nothing, or everything, would be clipped."""
    parts = {"hidden": array([0.5, -0.5], library, "float32")}
    after, e = clip_signal(parts, 400, threshold)
    assert e == 0
    np.testing.assert_array_equal(to_numpy(after["hidden"]), np.array([1, -1]) * getattr(np.finfo("float32"), limit))


def test_signal_of_zeros_is_left() -> None:
    """0 times any power of two is within any threshold."""
    parts = {"hidden": np.zeros((2, 3))}
    assert clip_signal(parts, 10**6, 1e-300)[0] is parts


def test_signal_changes_nothing_it_is_given() -> None:
    """What the backward pass keeps of a step would be overwritten by clipping it."""
    parts = {"hidden": np.array([3.0, -0.5])}
    after, _ = clip_signal(parts, 0, 1.0)
    np.testing.assert_array_equal(after["hidden"], [1.0, -0.5])
    np.testing.assert_array_equal(parts["hidden"], [3.0, -0.5])


@pytest.mark.parametrize(
    ("before", "after", "factor", "finite"),
    [
        (np.array([3.0, 4.0]), np.array([0.3, 0.4]), 0.1, True),
        (np.zeros(2), np.zeros(2), 1.0, True),
        (rc.Scaled(np.ones(2), 9000), np.ones(2), 0.0, True),
        (rc.Scaled(np.ones(2), 9000), rc.Scaled(np.ones(2), 8999), 0.5, True),
        (rc.Scaled(np.ones(2), -9000), np.ones(2), math.inf, True),  # parts cancelled, until one was clipped
        (np.zeros(2), np.ones(2), math.inf, True),
        (np.array([np.nan, 1.0]), np.ones(2), math.nan, False),
        (np.ones(2), np.array([np.inf, 1.0]), math.nan, False),
    ],
)
def test_gradients_clipped_elsewhere_are_compared(before: Any, after: Any, factor: float, finite: bool) -> None:
    """The report of a run clipped on its way back says another factor, or fails where the norms lie far apart."""
    result = compare({"w": before}, {"w": after})
    assert result.grads["w"] is after
    assert result.factor == pytest.approx(factor, rel=1e-11, nan_ok=True)
    assert result.finite is finite
    np.testing.assert_equal(result.log_norm_before, global_log_norm({"w": before}))
    np.testing.assert_equal(result.log_norm_after, global_log_norm({"w": after}))
