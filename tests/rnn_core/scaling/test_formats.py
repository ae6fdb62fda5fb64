"""What float32, bfloat16 and float16 would lose: against real conversions, and beyond the range of any."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import rnn_core as rc
from rnn_core.formats import FORMATS, first_lost, lost_fractions
from tests.support.arrays import LIBRARIES, array, quick

TORCH = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# around every limit of the three formats, as powers of two
EDGES = [v for f in FORMATS for top in (f.top - 1, f.bottom) for v in (top - 1, top, top + 1)]


def rounded_to_odd(values: np.ndarray) -> np.ndarray:
    """float32 such that a second rounding, to fewer digits, gives what one rounding of ``values`` would (Boldo & Melquiond 2008).

    torch converts float64 to narrower formats through float32, and so rounds twice.
    """
    nearest = values.astype(np.float32)
    other = np.nextafter(nearest, np.where(values > nearest, np.inf, -np.inf).astype(np.float32))
    keep = (nearest == values) | (nearest.view(np.uint32) % 2 == 1)
    return np.where(keep, nearest, other)


def converted(values: np.ndarray, name: str) -> tuple[float, float]:
    """(flushed, overflowed): fractions of the nonzero entries, by torch's own conversion."""
    with np.errstate(over="ignore", under="ignore"):
        source = values if name == "float32" else rounded_to_odd(values)
    cast = torch.tensor(source).to(TORCH[name]).double().numpy()
    nonzero = values != 0
    count = max(int(nonzero.sum()), 1)
    return float((nonzero & (cast == 0)).sum()) / count, float(np.isinf(cast).sum()) / count


@given(
    powers=st.lists(st.sampled_from([*EDGES, 0, 3, -10]), min_size=1, max_size=8),
    mantissas=st.lists(st.sampled_from([1.0, 1.0 + 2**-52, 1.5, 2 - 2.0**-8, 2 - 2.0**-9, 2 - 2.0**-11, 2 - 2.0**-12, 2 - 2.0**-24, 2 - 2.0**-25, 2 - 2.0**-52, 0.0]), min_size=8, max_size=8),
)  # fmt: skip
@quick
def test_fractions_are_those_of_a_conversion(powers: list[int], mantissas: list[float]) -> None:
    """A limit is off by a rounding, or by a power of two."""
    values = np.array([(-1.0) ** i * m * 2.0**p for i, (p, m) in enumerate(zip(powers, mantissas, strict=False))])
    found = lost_fractions(values[None], np.zeros(1, dtype=np.int64))
    for format in FORMATS:
        flushed, overflowed = converted(values, format.name)
        assert found[f"{format.name}_flushed"][0] == flushed, format
        assert found[f"{format.name}_overflowed"][0] == overflowed, format


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_an_exponent_apart_is_counted(dtype: str, library: str) -> None:
    """Beyond the range of the run's own dtype everything looks like its mantissa."""
    exponents = np.array([-100_000, -150, -140, -20, 0, 17, 200, 100_000])
    mantissa = array(np.tile([0.75, -0.75, 0.0], (8, 1)), library, dtype)
    found = lost_fractions(mantissa, exponents)
    np.testing.assert_array_equal(found["float32_flushed"], [1, 1, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found["bfloat16_flushed"], [1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found["float16_flushed"], [1, 1, 1, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(found["float32_overflowed"], [0, 0, 0, 0, 0, 0, 1, 1])
    np.testing.assert_array_equal(found["float16_overflowed"], [0, 0, 0, 0, 0, 1, 1, 1])


def test_zeros_and_what_is_not_a_number() -> None:
    """A zero is called flushed, or nan is called anything."""
    none = lost_fractions(np.zeros((2, 3)), np.zeros(2, dtype=np.int64))
    assert all((column == 0).all() for column in none.values())
    bad = lost_fractions(np.array([[np.nan, 1.0], [np.inf, 1.0]]), np.zeros(2, dtype=np.int64))
    assert bad["float32_flushed"].tolist() == [0, 0] and bad["float32_overflowed"].tolist() == [0, 0.5]


def test_first_lost_is_the_first_on_the_way_back() -> None:
    """The step is counted from the wrong end, or one flushed entry counts as all."""
    columns = {f"{f.name}_{what}": np.zeros(5) for f in FORMATS for what in ("flushed", "overflowed")}
    columns["float16_flushed"] = np.array([1.0, 1.0, 0.5, 0.0, 0.0])
    columns["bfloat16_overflowed"] = np.array([1.0, 0.0, 0.1, 0.0, 0.0])
    found = first_lost(columns)
    assert found["float16_flushed_at"] == 2 and found["bfloat16_overflowed_at"] == 3
    assert [name for name, t in found.items() if t is not None] == ["bfloat16_overflowed_at", "float16_flushed_at"]


@pytest.mark.parametrize(("rho", "T"), [(0.5, 400), (2.0, 400)])
def test_a_run_records_what_a_real_conversion_loses(rho: float, T: int) -> None:
    """The columns of a sweep are not those of its gradients."""
    experiment = rc.Experiment(
        activation="identity", initializer="orthogonal", spectral_radius=rho, sequence_length=T, hidden_size=6, batch_size=2
    )  # fmt: skip
    result, problem = rc.run(experiment), rc.prepare(experiment)
    hidden = np.asarray(rc.evaluate(problem, problem.params, *problem.batch(0)).gradients.hidden)
    for name in TORCH:
        losses = [converted(step.reshape(-1), name) for step in hidden]
        np.testing.assert_allclose(result.traces[f"{name}_flushed"], [flushed for flushed, _ in losses], rtol=1e-15)
        np.testing.assert_allclose(result.traces[f"{name}_overflowed"], [over for _, over in losses], rtol=1e-15)
        gone = [t + 1 for t, (flushed, _) in enumerate(losses) if flushed == 1]
        over = [t + 1 for t, (_, overflowed) in enumerate(losses) if overflowed > 0]
        assert result.summary[f"{name}_flushed_at"] == (max(gone) if gone else None)
        assert result.summary[f"{name}_overflowed_at"] == (max(over) if over else None)
        assert bool(gone) == (rho < 1) and bool(over) == (rho > 1)
