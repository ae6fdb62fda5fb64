"""Figures of studies whose sweeps vary different numbers, or weight scales instead of spectral radii."""

from typing import Any

import pytest

from figures import (
    gradient_norm_by_step,
    growth_rate,
    radius_length_map,
    seed_distribution,
    spectra,
    weight_gradient_by_step,
)
from study.report import reader
from study.report.words import plain
from tests.figures.drawn import PROPAGATION, grid, render, show

SEEDS = list(range(6))


@pytest.fixture(scope="module")
def without_matrix(make_study: Any) -> reader.Tables:
    """A sweep of spectral radii, and one of a cell that has no recurrent weights to scale."""
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.0, 1.5, 2.0], sequence_length=[5, 20], seed=SEEDS, sweep="radii")
    gates = grid(
        **PROPAGATION, cell="mingru", initializer=None, spectral_radius=None, chrono=[5, 20], sequence_length=[5, 20], seed=SEEDS,
        sweep="gates", rate=-0.3, weights=False,
    )  # fmt: skip
    return make_study([*runs, *gates])


@pytest.fixture(scope="module")
def scales(make_study: Any) -> reader.Tables:
    """Weight scales in the place of spectral radii, of two activation functions."""
    runs = grid(
        **PROPAGATION, spectral_radius=None, weight_scale=[0.5, 1.0, 1.5, 2.0, 3.0], activation=["tanh", "relu"], sequence_length=[5, 20],
        seed=SEEDS, spectra=True,
    )  # fmt: skip
    return make_study(
        [
            run | {"rate": 0.4 * (run["weight_scale"] - 1.2) + 0.01 * run["seed"] / run["sequence_length"]}
            for run in runs
        ]
    )


@pytest.fixture(scope="module")
def three_sweeps(make_study: Any) -> reader.Tables:
    """Widths; correlations, which two number formats repeat; and another cell, whose own setting varies."""
    widths = grid(**PROPAGATION, hidden_size=[1, 4, 64], sequence_length=30, seed=SEEDS, sweep="widths")
    inputs = grid(
        **PROPAGATION, input_correlation=[0.0, 0.9], dtype=["float32", "float64"], hidden_size=10, sequence_length=[10, 30], seed=SEEDS,
        sweep="inputs",
    )  # fmt: skip
    steps = grid(
        **PROPAGATION,
        cell="antisymmetric",
        antisymmetric_step=[0.1, 1.0],
        sequence_length=30,
        seed=SEEDS,
        sweep="steps",
    )
    runs = [run | {"rate": -0.2 + 0.002 * run["hidden_size"] + 0.001 * run["seed"]} for run in widths]
    runs += [run | {"rate": -0.3 - 0.2 * run["input_correlation"] + 0.001 * run["seed"]} for run in inputs]
    runs += [run | {"rate": 0.1 * run["antisymmetric_step"] + 0.001 * run["seed"]} for run in steps]
    return make_study(runs)


def words(facts: dict[str, Any]) -> str:
    return " ".join(map(plain, [facts["title"], *facts["claims"]]))


def test_sweeps_of_different_numbers_have_axes_of_their_own(without_matrix: reader.Tables) -> None:
    """A cell without recurrent weights took the radii from the axis: all was drawn against T, in panels called "no spectral radius ρ"."""
    data, facts, axes = show(growth_rate, without_matrix)
    assert [(rows["x_axis"].iloc[0], rows["cell"].iloc[0]) for rows in growth_rate.blocks_of(data)] == [
        ("spectral_radius", "vanilla"),
        ("chrono", "mingru"),
    ]
    labels = [ax.get_xlabel() for ax in axes if ax.get_xlabel()]
    assert labels == ["spectral radius ρ", "chrono T_max (steps)"]
    assert plain(facts["title"]).startswith("Growth per step back turns positive at ρ = ")
    assert plain(facts["title"]).endswith(" for vanilla.")
    assert "Sweeps that vary different numbers stand below each other" in render("growth_rate", facts=facts).replace(
        "\n", " "
    )


def test_one_number_is_one_block(scales: reader.Tables) -> None:
    data, facts, _ = show(growth_rate, scales)
    assert len(growth_rate.blocks_of(data)) == 1 and "blocks" not in facts["shown"]


def test_a_cell_without_recurrent_weights_is_drawn_beside_radii(without_matrix: reader.Tables) -> None:
    """It was left out without a word, and the law's miss was told of what nobody saw."""
    data = gradient_norm_by_step.frame(without_matrix)
    assert list(data["panel"].cat.categories) == ["ρ = 0.5", "ρ = 1", "ρ = 2", "mingru"]
    assert set(data.loc[data["panel"] == "mingru", "cell"]) == {"mingru"}


def test_every_sweep_with_a_map_has_one(without_matrix: reader.Tables) -> None:
    """The page said that no sweep had several lengths and several values of another number; two had."""
    data, facts, axes = show(radius_length_map, without_matrix)
    assert dict(data.groupby("panel", observed=True)["axis"].first()) == {
        "sweep radii": "spectral_radius",
        "sweep gates": "chrono",
    }
    assert [ax.get_ylabel() for ax in axes[:2]] == ["spectral radius ρ", "chrono T_max (steps)"]
    assert "radius" not in facts["shown"] and "written at the left" in render("radius_length_map", facts=facts).replace(
        "\n", " "
    )
    assert "spectral radius ρ or chrono T_max upwards" in facts["alt"]


def test_a_map_compares_settings_that_have_both_lengths(three_sweeps: reader.Tables) -> None:
    """It counted the widths at T = 30 beside the correlations at T = 10, and said that long sequences leave fewer settings."""
    facts = radius_length_map.facts(radius_length_map.frame(three_sweeps), three_sweeps.study)
    assert plain(facts["title"]) == (
        "Longer sequences leave fewer settings in which every network keeps its gradient: 4 of 4 at T = 10, 0 at T = 30."
    )


@pytest.mark.parametrize(
    ("rate", "title"),
    [
        (-3.0, "In no setting does every network keep its gradient, neither at T = 5 nor at T = 20."),
        (0.01, "In every setting, every network keeps its gradient, at T = 5 as at T = 20."),
    ],
)
def test_what_length_does_not_change_is_said_without_counts(rate: float, title: str, make_study: Any) -> None:
    """ "Longer sequences leave as many settings …: 0 of 16 at T = 4, 0 of 16 at T = 40" had to be read twice."""
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.5], sequence_length=[5, 20], seed=[0, 1], rate=rate)
    tables = make_study(runs)
    assert plain(radius_length_map.facts(radius_length_map.frame(tables), tables.study)["title"]) == title


def test_panels_are_told_by_what_their_own_sweep_varies(three_sweeps: reader.Tables) -> None:
    """A width was called "H = 1 (float64, ε …, input correlation r = 0)", by defaults that other sweeps vary, and stood among these."""
    data = weight_gradient_by_step.frame(three_sweeps)
    assert list(data["panel"].cat.categories) == [
        "vanilla (float32, input correlation r = 0)",
        "vanilla (float64, input correlation r = 0)",
        "vanilla (float32, input correlation r = 0.9)",
        "vanilla (float64, input correlation r = 0.9)",
        "vanilla (H = 1)",
        "vanilla (H = 4)",
        "vanilla (H = 64)",
        "antisymmetric (ε = 0.1)",
        "antisymmetric (ε = 1)",
    ]


def test_extremes_are_told_by_what_all_that_share_them_have_in_common(three_sweeps: reader.Tables) -> None:
    """Of two number formats that agree, float32 was said to have the lowest rate; and "ε = 1" did not say of which cell."""
    facts = growth_rate.facts(growth_rate.frame(three_sweeps), three_sweeps.study)
    assert plain(facts["title"]) == (
        "At T = 30, growth per step back is lowest for vanilla (input correlation r = 0.9), −0.48, and highest for antisymmetric (ε = 1), +0.1."
    )


def test_weight_scales_are_drawn_as_spectral_radii_are(scales: reader.Tables) -> None:
    """Every σ_w was a kind of network: five rows of spectra did not fit, and the spread was that of ten kinds."""
    data, facts, _ = show(seed_distribution, scales)
    assert list(data["panel"].cat.categories) == ["relu", "tanh"] and {"scale", "weight scale"} <= set(facts["shown"])
    assert set(data.loc[data["near"], "scale"]) == {1.0}  # where growth is nearest to zero
    assert "at the σ_w at which" in render("seed_distribution", facts=facts).replace("\n", " ")
    data, facts, axes = show(spectra, scales)
    assert list(data["panel"].cat.categories) == ["relu", "tanh"] and not facts["claims"][-1].startswith("Not drawn")
    exponents = data[data["what"] == "exponent"].groupby("panel", observed=True)["scale"].unique()
    assert all(sorted(each) == [0.5, 1.0, 1.5, 2.0, 3.0] for each in exponents)
    assert any(ax.get_title(loc="left") == "One network at σ_w = 1" for ax in axes)
    assert "at one weight scale σ_w" in render("spectra", facts=facts).replace("\n", " ")
    data, facts, _ = show(weight_gradient_by_step, scales)
    assert len(data["panel"].cat.categories) == 6
    assert "Three of the weight scales σ_w are drawn" in render("weight_gradient_by_step", facts=facts).replace(
        "\n", " "
    )


def test_no_radius_is_told_where_none_is_set(scales: reader.Tables) -> None:
    """Beside an axis of σ_w, mean field was said to turn at a ρ that stands nowhere."""
    facts = growth_rate.facts(growth_rate.frame(scales), scales.study)
    assert "ρ" not in words(facts) and "σ_w = 1.2" in words(facts)
    assert "ρ" not in " ".join(map(plain, scales.study.sentences))


def test_three_weight_scales_stand_beside_each_other_where_something_else_is_compared(make_study: Any) -> None:
    runs = grid(
        **PROPAGATION, spectral_radius=None, weight_scale=[0.5, 1.0, 2.0, 3.0], initializer=["gaussian", "orthogonal"], sequence_length=9,
        seed=[0, 1],
    )  # fmt: skip
    tables = make_study([run | {"rate": run["weight_scale"] - 1.1} for run in runs])
    data, facts, _ = show(gradient_norm_by_step, tables)
    assert list(data["panel"].cat.categories) == ["σ_w = 0.5", "σ_w = 1", "σ_w = 3"]
    caption = render("gradient_norm_by_step", facts=facts).replace("\n", " ")
    assert "Three of the weight scales are drawn" in caption and "standard deviation σ_w/√H" in caption


def test_spectra_that_agree_are_not_listed(scales: reader.Tables, make_study: Any) -> None:
    """ "6 (6 to 6) for relu (σ_w = 0.5); 6 (6 to 6) for relu (σ_w = 1.5); …", six times."""
    facts = spectra.facts(spectra.frame(scales), scales.study)
    assert "(6 to 6)" not in words(facts) and "In every setting, all networks have as many." in words(facts)
    alone = make_study(grid(**PROPAGATION, sequence_length=9, spectra=True))
    told = words(spectra.facts(spectra.frame(alone), alone.study))
    assert (
        "The measured growth rate and this exponent are 0.001 a step apart." in told
        and "median network" not in told
        and "In no network" not in told
    )


def test_a_spread_of_rounding_is_none(make_study: Any) -> None:
    """An axis down to 10⁻¹⁶ left no room for the networks that do differ."""
    runs = grid(**PROPAGATION, activation=["relu", "tanh"], sequence_length=[5, 20], seed=SEEDS)
    runs = [run | {"rate": -0.3 + (1e-16 if run["activation"] == "relu" else 0.01) * run["seed"]} for run in runs]
    data, _, axes = show(seed_distribution, make_study(runs))
    assert set(data.loc[data["panel"] == "relu", "spread"]) == {0.0} and axes[0].get_ylim()[0] > 1e-4


def test_no_spread_is_no_finding(make_study: Any) -> None:
    """Of networks that all have one rate it was told how many decades the spread adds, 0, and for which kind they differ most: by 0."""
    runs = grid(**PROPAGATION, activation=["relu", "tanh"], sequence_length=9, seed=SEEDS, rate=-0.3)
    tables = make_study(runs)
    facts = seed_distribution.facts(seed_distribution.frame(tables), tables.study)
    assert words(facts) == "Networks of one kind all have the same growth rate at T = 9."


def test_an_exponent_of_rounding_is_zero(make_study: Any) -> None:
    """ "The largest Lyapunov exponent lies between −3 × 10⁻¹⁶ and 2.2 × 10⁻¹⁶ a step", of linear networks with ρ = 1."""
    runs = grid(**PROPAGATION, sequence_length=9, spectra=True, seed=[0, 1, 2])
    tables = make_study([run | {"rate": (run["seed"] - 1) * 2e-16} for run in runs])
    told = words(spectra.facts(spectra.frame(tables), tables.study))
    assert "The largest Lyapunov exponent is 0 a step." in told and "10⁻¹⁶" not in told


def test_captions_name_the_axes_that_are_there(make_study: Any) -> None:
    """ "At the longest sequence" stood above an axis of lengths, and "a smaller ρ" beside a map of biases."""
    lengths = [PROPAGATION | {"sweep": "short", "sequence_length": T, "seed": s} for T in (3, 6, 9) for s in (0, 1)]
    biases = [
        PROPAGATION | {"sweep": "gates", "cell": "gru", "forget_bias": b, "sequence_length": T, "rate": 0.1 * b, "seed": s}
        for b in (-1.0, 1.0) for T in (5, 9) for s in (0, 1)
    ]  # fmt: skip
    _, facts, _ = show(growth_rate, make_study([*lengths, *biases]))
    text = " ".join(render("growth_rate", facts=facts | {"claims": []}).split())
    assert "at the longest sequence where lengths are on no axis" in text
    _, facts, _ = show(radius_length_map, make_study(biases))
    text = " ".join(render("radius_length_map", facts=facts | {"claims": []}).split())
    assert "border" in facts["shown"] and "smaller ρ" not in text and "may grow in one and shrink in the other." in text


def test_networks_of_another_sweep_with_the_same_settings_are_told_apart(make_study: Any) -> None:
    """Highest was "vanilla (gaussian)", of which every network but the flossed ones was near the bottom."""
    common = PROPAGATION | {"sequence_length": 20, "seed": SEEDS}
    plain_ones = grid(**common, initializer=["gaussian", "orthogonal"], rate=-0.25, sweep="plain")
    flossed = grid(**common, initializer="gaussian", flossing=200, rate=0.01, sweep="flossed")
    gated = grid(**common, initializer="gaussian", cell="lstm", rate=-0.4, sweep="gated")
    tables = make_study([*plain_ones, *flossed, *gated])
    _, facts, _ = show(growth_rate, tables)
    assert plain(facts["title"]) == (
        "Growth per step back is lowest for lstm (gaussian), −0.4, and highest for vanilla (gaussian, flossing for 200 updates), +0.01."
    )


def test_a_start_that_several_ways_of_training_share_is_one_network(make_study: Any) -> None:
    """Three sweeps trained the same networks under other rules, and each was counted three times."""
    runs = [
        {"task": "digits", "loss_at": "last", "updates": 8, "sequence_length": 6, "clipping": rule, "seed": seed, "sweep": rule.partition(":")[0]}
        for rule in ("none", "norm:1.0", "value:0.1") for seed in SEEDS
    ]  # fmt: skip
    assert len(make_study(runs).study.networks) == 6


def test_a_mean_over_a_sweep_is_not_named_by_what_another_sweep_varies(make_study: Any) -> None:
    """ "Measured and predicted growth clearly differ, by −0.37 a step for B = 16": a mean over input scales, at one B."""
    common = PROPAGATION | {"sequence_length": 20, "predicted": -0.1}
    batches = grid(**common, batch_size=[1, 4, 64], seed=SEEDS, rate=-0.1, sweep="batches")
    scales = grid(**common, input_scale=[0.1, 3.0, 30.0], seed=SEEDS, sweep="scales")
    scales = [run | {"rate": -0.4 + 0.01 * (run["seed"] - 2.5)} for run in scales]
    tables = make_study([*batches, *scales])
    _, facts, _ = show(growth_rate, tables)
    assert "clearly differ, by −0.3 a step for sweep scales (95 % interval" in words(facts)
    part = next(part for part in tables.study.start_parts if part.sweep == "scales")
    assert tables.study.settings_of(part, {"input_scale": 3.0}) == {"input_scale": 3.0}


def test_a_network_that_two_sweeps_share_leaves_both_their_axes(make_study: Any) -> None:
    """ "By −0.3 a step for B = 16": the sweep of batches had B = 16 in common with that of scales, and seemed to vary nothing."""
    common = PROPAGATION | {"sequence_length": 20, "predicted": -0.1}
    scales = grid(**common, input_scale=[0.1, 1.0, 30.0], batch_size=16, seed=SEEDS, sweep="ascales")
    scales = [run | {"rate": -0.4 + 0.01 * (run["seed"] - 2.5)} for run in scales]
    batches = grid(**common, batch_size=[1, 16], input_scale=1.0, seed=SEEDS, rate=-0.1, sweep="batches")
    shared = [run | {"rate": -0.4 + 0.01 * (run["seed"] - 2.5)} if run["batch_size"] == 16 else run for run in batches]
    _, facts, _ = show(growth_rate, make_study([*scales, *shared]))
    assert "for B = 16" not in words(facts)
    assert "clearly differ, by −0.3 a step for sweep ascales" in words(facts)


def test_a_headline_of_the_longest_sequences_says_so(make_study: Any) -> None:
    """ "Growth per step back is lowest for lstm, −0.47", above a panel with −0.55 at a shorter length."""
    lengths = grid(**PROPAGATION, cell="lstm", sequence_length=[10, 30], seed=SEEDS, sweep="lengths")
    lengths = [run | {"rate": -0.55 if run["sequence_length"] == 10 else -0.47} for run in lengths]
    kinds = grid(**PROPAGATION, cell=["vanilla", "gru"], sequence_length=40, seed=SEEDS, rate=-0.3, sweep="kinds")
    _, facts, _ = show(growth_rate, make_study([*lengths, *kinds]))
    assert plain(facts["title"]).startswith(
        "At the longest T of each sweep, growth per step back is lowest for lstm, −0.47,"
    )


def test_starts_that_two_sweeps_share_are_told_once(make_study: Any) -> None:
    """ "Positive at every ρ for residual and residual; it turns at no single ρ for vanilla and vanilla", and each finding twice."""
    common = {"task": "digits", "loss_at": "last", "updates": 8, "sequence_length": 6, "cell": ["vanilla", "residual"]}
    runs = [
        run | {"rate": 0.5 if run["cell"] == "residual" else run["spectral_radius"] - 1.0 - (run["seed"] > 1)}
        for sweep, rule in (("free", "none"), ("held", "norm:1.0"))
        for run in grid(**common, spectral_radius=[0.8, 1.2], seed=SEEDS, sweep=sweep, clipping=rule)
    ]
    tables = make_study(runs)
    _, facts, _ = show(growth_rate, tables)
    assert plain(facts["title"]) == (
        "Growth per step back is positive at every ρ for residual; it turns at no single ρ for vanilla."
    )
    (part,) = tables.study.start_parts
    assert part.sweeps == ["free", "held"]
    said = [plain(text) for text in tables.study.sentences]
    assert sum("rowth rate of residual is positive" in text for text in said) == 1
    assert not any(text.startswith("Sweeps ") for text in said)  # no other sweep starts from other networks
    assert {each.sweep for each in tables.study.trained_parts} == {"free", "held"}
    others = grid(**common | {"sequence_length": 9}, spectral_radius=[0.8, 1.2], seed=SEEDS, sweep="longer")
    said = [plain(text) for text in make_study([*runs, *others]).study.sentences]
    assert any(text.startswith("Sweeps free and held: the growth rate of residual") for text in said)
