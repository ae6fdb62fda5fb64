"""What is drawn: the frames' numbers, the facts and the artists' data, never pixels."""

import math
from typing import Any

import numpy as np
import pytest
from drawn import lines, show

import plot_clipping_norms
import plot_engine_checks
import plot_gradient_norm_by_step
import plot_growth_rate
import plot_learning_curves
import plot_radius_length_map
import plot_seed_distribution
import study_figures as sf
from study_tables import STABLE_DECADES

LN10 = math.log(10.0)


def test_gradient_norm_by_step(study: sf.Tables) -> None:
    data, facts, axes = show(plot_gradient_norm_by_step, study)
    assert set(data["sequence_length"]) == {10}  # the longest
    assert list(data["panel"].cat.categories) == ["identity", "sigmoid"] and len(axes) == 2
    row = data[(data["panel"] == "sigmoid") & (data["spectral_radius"] == 0.5) & (data["lag"] == 9)].iloc[0]
    rate = math.log(0.5) - 1
    assert (row["mean"], row["low"], row["high"]) == pytest.approx(
        (9 * (rate + 0.01) / LN10, 9 * rate / LN10, 9 * (rate + 0.02) / LN10)
    )
    assert (row["seeds"], row["zeros"], row["broken"]) == (3, 0, 0)
    assert facts["numbers"]["lowest"] == sf.number(row["mean"], 3)
    assert (
        "sigmoid, ρ = 0.5" in facts["title"] and "identity, ρ = 1.2" in facts["title"] and "9 steps" in facts["title"]
    )
    for ax in axes:
        for radius, dashed, solid in zip((0.5, 0.9, 1.2), lines(ax, "linear"), lines(ax, "mean"), strict=True):
            assert dashed.get_ydata() == pytest.approx(np.arange(10) * math.log10(radius))
            assert dashed.get_color() == solid.get_color() == sf.radius_colours([0.5, 0.9, 1.2])[radius]


def test_gradient_norm_marks_exact_zeros_and_float_limits(make_study: Any) -> None:
    run = {"updates": 0, "sequence_length": 50, "spectral_radius": 0.5}
    tables = make_study([run | {"seed": 0, "rate": -2.5}, run | {"seed": 1, "rate": -math.inf}])
    data, facts, (ax,) = show(plot_gradient_norm_by_step, tables)
    assert data[data["lag"] == 7][["mean", "zeros"]].to_numpy().tolist() == [[pytest.approx(-17.5 / LN10), 1]]
    assert lines(ax, "zero")[0].get_xdata() == [1]
    assert facts["claims"]["zeros"].startswith("1 run reached")
    assert [text.get_text() for text in ax.texts] == ["float32 min"]


def test_radius_length_map(study: sf.Tables) -> None:
    data, facts, axes = show(plot_radius_length_map, study)
    assert len(data) == 2 * 3 * 2
    cell = data[
        (data["panel"] == "identity") & (data["spectral_radius"] == 1.2) & (data["sequence_length"] == 10)
    ].iloc[0]
    assert cell["mean"] == pytest.approx(9 * (math.log(1.2) + 0.01) / LN10)
    identity, sigmoid, bar = axes
    contours = [artist for artist in identity.collections if hasattr(artist, "levels")]
    assert [artist.levels.tolist() for artist in contours] == [[0.0]]
    assert not any(hasattr(artist, "levels") for artist in sigmoid.collections)  # it vanishes everywhere
    assert -STABLE_DECADES in bar.get_yticks() and STABLE_DECADES in bar.get_yticks() and 0 in bar.get_yticks()
    stable = int((data["mean"].abs() <= 2).sum())
    assert facts["numbers"] | {"settings": "12", "stable": str(stable)} == facts["numbers"]
    assert "at T = 4 and in" in facts["title"] and "at T = 10" in facts["title"]
    assert "sigmoid: none" in facts["claims"]["longest"]


def test_colours_of_the_map_change_exactly_where_stable_ends() -> None:
    cmap, norm = plot_radius_length_map.colours()
    assert cmap(norm(1.99)) != cmap(norm(2.01)) and cmap(norm(0.01)) == cmap(norm(1.99))
    assert cmap(norm(-1.99)) != cmap(norm(-2.01)) and cmap(norm(-0.01)) != cmap(norm(0.01))


def test_growth_rate(study: sf.Tables) -> None:
    data, facts, axes = show(plot_growth_rate, study)
    row = data[(data["panel"] == "identity") & (data["spectral_radius"] == 0.9)].iloc[0]
    assert row["measured"] == pytest.approx(math.log(0.9) + 0.01)
    assert row["error"] == pytest.approx(0.01)  # standard deviation of 0, 0.01, 0.02
    assert (row["linear"], row["bound"]) == pytest.approx((math.log(0.9), math.log(1.8)))
    assert row["deviation"] == pytest.approx(0.03) and row["above_bound"] == 0
    low, high = math.log(0.9) + 0.01, math.log(1.2) + 0.01
    critical = 0.9 + 0.3 * -low / (high - low)
    assert plot_growth_rate.critical_radii(data[data["panel"] == "identity"]) == [pytest.approx(critical)]
    assert facts["numbers"]["critical_identity"] == f"{critical:.2f}" and f"{critical:.2f} (identity)" in facts["title"]
    assert "shrink at every ρ tried for sigmoid" in facts["title"] and "critical_sigmoid" not in facts["numbers"]
    upper, _, lower, _ = axes
    assert lines(upper, "critical")[0].get_xdata() == pytest.approx([critical])
    assert lines(upper, "linear")[0].get_ydata() == pytest.approx(np.log([0.5, 0.9, 1.2]))
    assert lines(lower, "deviation")[0].get_ydata() == pytest.approx([0.03] * 3)
    assert facts["claims"]["bound"] == "No run of 18 lies above the upper bound."
    assert "identity and sigmoid" in facts["claims"]["systematic"]


def test_growth_rate_of_one_seed_has_its_error_over_time(make_study: Any) -> None:
    tables = make_study([{"updates": 0, "sequence_length": 10, "initializer": "identity", "rate": 5.0}])
    data, facts, axes = show(plot_growth_rate, tables)
    assert data["error"].tolist() == [0.005] and data["deviation"].isna().all()
    assert "no prediction" in axes[1].texts[0].get_text().replace("\n", " ")
    assert "one seed" in facts["claims"]["seeds"] and facts["claims"]["bound"].startswith("1 run of 1")


def test_seed_distribution(study: sf.Tables) -> None:
    data, facts, axes = show(plot_seed_distribution, study)
    assert len(data) == 36 and data["spread"].to_numpy() == pytest.approx(0.01)
    assert data.loc[data["seed"] == 2, "offset"].to_numpy() == pytest.approx(0.01)
    assert facts["numbers"]["worst_spread"] == "0.01" and facts["numbers"]["seeds"] == "3"
    agreeing = plot_seed_distribution.spreads(data)["agree"].sum()
    assert facts["numbers"]["agreeing"] == f"{agreeing} of 12"
    assert len(lines(axes[0], "seed")) == 3 and len(lines(axes[0], "seeds")) == 3
    assert lines(axes[2], "1/T")[0].get_ydata() == pytest.approx([0.01, 0.004])


def test_seeds_of_different_regimes_are_told(make_study: Any) -> None:
    run = {"updates": 0, "sequence_length": 11}
    data, facts, _ = show(
        plot_seed_distribution, make_study([run | {"seed": 0, "rate": -0.1}, run | {"seed": 1, "rate": -0.6}])
    )
    assert not data["agree"].any() and facts["numbers"]["agreeing"] == "0 of 1"


def test_clipping_norms(study: sf.Tables) -> None:
    data, facts, axes = show(plot_clipping_norms, study)
    assert len(axes) == 2 * 3  # tasks × rules
    rules = plot_clipping_norms.summary(data)
    assert rules["ended"].to_dict() == {"none": 3, "norm:1.0": 0, "value:0.1": 0}
    assert (
        facts["numbers"]["ended_none"] == "3 of 9"
        and "without clipping, 3 of 9; with clipping, 0 of 18" in facts["title"]
    )
    assert rules.loc["norm:1.0", "share"] == 1.0 and rules.loc["norm:1.0", "cut"] == pytest.approx(0.6)
    assert facts["numbers"]["share_norm:1.0"] == "100 %"
    assert lines(axes[1], "threshold")[0].get_ydata() == pytest.approx([0.0, 0.0])  # log10 of 1.0
    assert not lines(axes[0], "threshold") and not lines(axes[2], "threshold")  # none; a bound on entries is no norm
    assert sorted(lines(axes[0], "ended")[0].get_xdata()) == [3, 4, 5] and not lines(axes[3], "ended")
    after = next(artist for artist in axes[1].collections if artist.get_gid() == "after")
    assert len(after.get_segments()) == 6 and np.concatenate(after.get_segments())[:, 1].max() == pytest.approx(0.0)


def test_learning_curves(study: sf.Tables) -> None:
    data, facts, axes = show(plot_learning_curves, study)
    assert len(axes) == 2 * 3  # tasks × (two radii, results)
    runs = plot_learning_curves.results(data)
    assert len(runs) == 27 and runs["ended"].notna().sum() == 3
    assert runs.groupby("task")["metric"].unique().map(list).to_dict() == {
        "digits": ["held_out_accuracy"], "input_mean": ["held_out_loss"]}  # fmt: skip
    assert facts["numbers"]["broke"] == "3 of 27"
    assert (facts["numbers"]["digits_norm:1.0"], facts["numbers"]["digits_none"]) == (
        "70 %",
        "35 %",
    )  # half of none broke down
    assert "70 % with norm:1.0, 35 % with no clipping; 3 of 27 runs broke down" in facts["title"]
    broken = axes[1]
    assert sorted(lines(broken, "ended")[0].get_xdata()) == [3, 4, 5]
    none = lines(broken, "loss none")[0].get_ydata()
    assert np.isfinite(none).tolist() == [True] * 4 + [False] * 4  # the median is lost with the second of three seeds
    assert lines(broken, "loss norm:1.0")[0].get_ydata() == pytest.approx(2.0 / np.arange(1, 9))
    assert lines(axes[2], "broke") and [text.get_text() for text in axes[2].texts] == ["3"]


def test_engine_checks(study: sf.Tables) -> None:
    data, facts, axes = show(plot_engine_checks, study)
    assert len(data) == 4 and len(axes) == 2  # two oracles
    assert (
        facts["numbers"] | {"checks": "4", "worst": "4 × 10⁻¹⁴", "failed": "0", "checks_gate": "3"} == facts["numbers"]
    )
    assert (
        "is 4 × 10⁻¹⁴; the tolerance is 2500 times larger" in facts["title"]
        and "10 to the power of −14" in facts["alt"]
    )
    assert facts["claims"]["neither"].startswith("In 1 comparison") and facts["claims"]["exact"].startswith(
        "1 comparison "
    )
    autograd = axes[0]
    assert lines(autograd, "tolerance")[0].get_xdata() == [1e-10, 1e-10]
    assert lines(autograd, "epsilon")[0].get_xdata() == [2.0**-52] * 2
    sweep = next(artist for artist in autograd.collections if artist.get_gid() == "sweep")
    assert sweep.get_offsets()[:, 0].tolist() == [4e-14]
    assert any(text.get_text() == "worst = 4 × 10⁻¹⁴" for text in autograd.texts)


def test_a_check_above_the_tolerance_is_the_headline(make_study: Any) -> None:
    _, facts, _ = show(plot_engine_checks, make_study([], [{"relative_error": 1e-3}, {}]))
    assert facts["title"].startswith("1 of 2 comparisons") and facts["numbers"]["failed"] == "1"
