"""The cliff of one unit: its numbers, beside published ones and two programs of another kind; where its ridge is; where descent goes."""

from __future__ import annotations

import cmath
import itertools
import math

import numpy as np
import pytest

from rnn_core.experiment import cliff

UNIT = cliff.Unit()


@pytest.mark.parametrize(("w", "b", "expected"), [
    (5.25, -2.767917368916, (0.156398056, -27174.4367, -43659.954)),
    (3.5, -1.5, (0.00405002418, 0.04763684304, 0.06238129948)),
    (5.0, -2.5, (0.02408886881, 0.08631166948, 0.10092501764)),
])  # fmt: skip
def test_points_of_known_value(w: float, b: float, expected: tuple[float, ...]) -> None:
    """By an independent program with 30 digits."""
    point = UNIT(w, np.array([b]))
    found = point.loss[0], point.grad_weight[0], point.grad_bias[0]
    assert found == pytest.approx(expected, rel=1e-6)
    assert point.log10_grad_norm[0] == pytest.approx(math.log10(math.hypot(*found[1:])), rel=1e-12)


def by_complex_steps(unit: cliff.Unit, w: float, b: float) -> tuple[float, float, float]:
    """E, dE/dw and dE/db by the definition in plain Python, an imaginary step on each parameter."""

    def loss(w: complex, b: complex) -> complex:
        x: complex = unit.start
        for _ in range(unit.steps):
            x = w / (1 + cmath.exp(-x)) + b
        return (1 / (1 + cmath.exp(-x)) - unit.target) ** 2

    return loss(w, b).real, loss(w + 1e-150j, b).imag / 1e-150, loss(w, b + 1e-150j).imag / 1e-150


@pytest.mark.parametrize("unit", [UNIT, cliff.Unit(7, -1.3, 0.2)])
def test_a_batch_of_biases_is_each_bias_by_itself(unit: cliff.Unit) -> None:
    """Samples of a batch share W_hh: the gradient of w could be summed over them, or take the state after a step for that before."""
    biases = np.array([-3.1, -2.6, -2.2, 0.4])
    points = unit(4.7, biases)
    for i, b in enumerate(biases):
        expected = by_complex_steps(unit, 4.7, float(b))
        assert (points.loss[i], points.grad_weight[i], points.grad_bias[i]) == pytest.approx(expected, rel=1e-9)


def test_the_gradient_beyond_the_range_of_floats() -> None:
    """At b = −w/2 a unit that starts at 0 stays there: every step back multiplies by w/4, exactly."""
    T = 2000
    point = cliff.Unit(T, 0.0, 0.7)(20.0, np.array([-10.0]))
    # dE/da_t = 2 (0.5 − 0.7) 5^(T−t)/4, so that dE/db is −0.1 (5^T − 1)/4, and dE/dw half of it
    expected = math.log10(0.1 / 4 * math.hypot(1.0, 0.5)) + T * math.log10(5.0)
    assert point.log10_grad_norm[0] == pytest.approx(expected, rel=1e-12) and math.isinf(point.grad_bias[0])


def test_the_ridge_is_where_the_derivative_is_largest() -> None:
    """It is a millionth wide at w = 6: a grid does not see it."""
    b = cliff.ridge(UNIT, 6.0, -3.5, -1.5)
    assert b == pytest.approx(-3.234756002924, rel=1e-11)
    assert UNIT(6.0, np.array([b])).grad_bias[0] == pytest.approx(-16630337.27, rel=1e-6)
    assert cliff.ridge(UNIT, 5.25, -3.5, -1.5) == pytest.approx(-2.767917368916, rel=1e-10)
    for w in (4.2, 5.7):  # lower on both sides
        b = cliff.ridge(UNIT, w, -3.5, -1.5)
        slope = np.abs(UNIT(w, b + np.array([-1e-7, 0.0, 1e-7])).grad_bias)
        assert slope[1] >= max(slope[0], slope[2]) * (1 - 1e-9)
    assert math.isnan(cliff.ridge(UNIT, 5.0, -2.0, -1.5))  # it lies below: no ridge


def test_descent_is_descent() -> None:
    """Clipped paths step by at most the learning rate times their threshold; without clipping, a step is as long as the wall is steep."""
    plain = [(w, b) for w, b, _ in cliff.descent(UNIT, 5.0, -2.2, "none", 0.1, 5)]
    for (w, b), after in itertools.pairwise(plain):
        _, dw, db = by_complex_steps(UNIT, w, b)
        assert after == pytest.approx((w - 0.1 * dw, b - 0.1 * db), rel=1e-9)
    assert len(plain) == 6
    for rule, longest in (("norm:0.1", 0.01), ("value:0.1", 0.01 * math.sqrt(2)), ("adaptive:0.5", 1.0)):
        path = np.array([(w, b) for w, b, _ in cliff.descent(UNIT, 5.0, -2.2, rule, 0.1, 80)])
        assert 0 < np.linalg.norm(np.diff(path, axis=0), axis=1).max() <= longest * (1 + 1e-12)
    remembering = [
        np.array([(w, b) for w, b, _ in cliff.descent(UNIT, 5.0, -2.2, rule, 0.1, 60)])
        for rule in ("none", "adagc:1.05", "zclip:2.5")
    ]
    assert all(len(path) == 61 for path in remembering) and not np.array_equal(remembering[0], remembering[1])
    thrown = np.array([(w, b) for w, b, _ in cliff.descent(UNIT, 5.0, -2.2, "none", 0.1, 100)])
    assert np.linalg.norm(np.diff(thrown, axis=0), axis=1).max() > 1.0
    assert (
        len(list(cliff.descent(UNIT, 6.0, -3.234756002924, "none", 1e308, 9))) < 10
    )  # it ends where nothing is a number


def test_the_table_has_what_a_config_asks_for() -> None:
    asked = cliff.Asked.of(
        {
            "points": 5,
            "steps": 30,
            "from": [5.5, -2.0],
            "updates": 3,
            "clipping": ["none", "norm:1.0"],
            "weights": [4.5, 5.5],
        }
    )
    assert (
        asked.unit.steps == 30 and (asked.path.weight, asked.path.bias) == (5.5, -2.0) and asked.biases == (-3.5, -1.5)
    )
    rows = cliff.table(asked)
    what = np.array(rows["what"])
    assert (what == "surface").sum() == 25 and (what == "ridge").sum() == 5 and (what == "descent").sum() == 8
    assert cliff.Asked.of({}) == cliff.Asked()
    at = [i for i in np.flatnonzero(what == "ridge") if rows["weight"][i] == 5.0]
    assert rows["bias"][at[0]] == cliff.ridge(asked.unit, 5.0, -3.5, -1.5)
