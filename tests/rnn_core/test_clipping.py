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
from rnn_core.clipping import RULES, Clipped, global_log_norm
from tests.rnn_core.engine_helpers import DTYPES, EPS, LIBRARIES, array, quick, relative, thorough

magnitudes = st.floats(1e-6, 1e6)
thresholds = st.floats(1e-9, 1e9)


@st.composite
def gradients(draw: st.DrawFn) -> dict[str, np.ndarray]:
    """Three parameters of any size, of magnitudes that differ between them."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    shapes = {"weight_hh": (3, 3), "weight_ih": (3, 2), "bias_hh": (3,)}
    return {name: draw(magnitudes) * rng.standard_normal(shape) for name, shape in shapes.items()}


def flat(grads: dict[str, Any]) -> np.ndarray:
    return np.concatenate([to_numpy(np.asarray(g)).reshape(-1) for g in grads.values()]).astype(np.float64)


def clip(text: str, grads: dict[str, Any]) -> Clipped:
    return rc.parse_clipping(text)(grads)


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
@pytest.mark.parametrize("text", ["none", "norm:0.5", "value:0.1"])
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
@pytest.mark.parametrize("text", ["none", "norm:1.0", "value:1.0"])
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


@pytest.mark.parametrize("text", ["none", "norm:1.0", "value:1.0"])
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


def test_a_vanished_gradient_is_within_any_threshold() -> None:
    """A norm of 1e-400 is no reason to clip."""
    grads = {"a": rc.Scaled(np.array([0.6, 0.8]), -1329)}
    clipped = clip("norm:1.0", grads)
    assert clipped.grads["a"] is grads["a"]
    assert clipped.factor == 1.0


def test_a_vanished_gradient_is_left_by_value() -> None:
    """What is within the threshold must stay what it is."""
    clipped = clip("value:1.0", {"a": rc.Scaled(np.array([0.6, 0.8]), -1329)})
    assert clipped.factor == 1.0


@pytest.mark.parametrize(
    ("largest", "dtype"), [(1.2e308, "float64"), (3e38, "float32"), (8e307, "float64"), (1e38, "float32")]
)
def test_a_gradient_near_the_end_of_the_range(largest: float, dtype: str) -> None:
    """Were the factor's mantissa in [1, 2), what is above half the range would overflow to inf before its exponent is applied,
    and ``finite`` would still say True."""
    clipped = clip("norm:5.0", {"a": np.array([largest, -largest / 2], dtype=dtype)})
    after = np.asarray(clipped.grads["a"])
    assert np.linalg.norm(after.astype(np.float64)) == pytest.approx(5.0, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "rule", "threshold"),
    [("none", "none", None), ("norm:1", "norm", 1.0), ("norm:0.25", "norm", 0.25), ("value:1e-3", "value", 1e-3)],
)
def test_rules_are_parsed(text: str, rule: str, threshold: float | None) -> None:
    """The rule or threshold that runs is not the one that was written."""
    clipping = rc.parse_clipping(text)
    assert (clipping.rule, clipping.threshold) == (rule, threshold)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nrom:1.0", r"clipping: 'nrom' is not known; allowed: none, norm, value\. Did you mean 'norm'\?"),
        ("values:1", r"Did you mean 'value'\?"),
        ("norm", r"'norm' is not allowed; write norm:THRESHOLD"),
        ("norm:", r"write norm:THRESHOLD"),
        ("norm:one", r"write norm:THRESHOLD"),
        ("value:0", r"write value:THRESHOLD with a threshold above 0"),
        ("value:-1", r"write value:THRESHOLD"),
        ("norm:inf", r"write norm:THRESHOLD"),
        ("norm:nan", r"write norm:THRESHOLD"),
        ("none:1", r"none takes no threshold"),
    ],
)
def test_rules_that_do_not_exist_are_answered(text: str, message: str) -> None:
    """A rule that cannot be run is accepted, or refused without saying what would have worked."""
    with pytest.raises(ValueError, match=message):
        rc.parse_clipping(text)
    with pytest.raises(ValueError, match=message):
        rc.Experiment(clipping=text)


def test_every_rule_is_tested_and_in_the_schema() -> None:
    """A rule was added to ``RULES`` that no test above runs, or that the config schema would refuse."""
    assert set(RULES) == {"none", "norm", "value"}
    schema = Axis("rule", "", "", "", choices=tuple(RULES)).json_schema()
    for good in ("none", "norm:1", "norm:1.0", "value:0.5", "value:1e-3", "norm:10.0", "norm:100", "norm:.5"):
        assert re.search(schema["pattern"], good), good
        rc.parse_clipping(good)
    for bad in ("", "norm", "norm:", "norm:0", "norm:0.0", "value:-1", "norm:inf", "none:1", "clip:1"):
        assert not re.search(schema["pattern"], bad), bad
