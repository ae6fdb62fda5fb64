"""Figures of networks before training, and of the checks: the frames' numbers, the facts and the artists' data, never pixels."""

import itertools
import math
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from figures import engine_checks, gradient_norm_by_step, growth_rate, radius_length_map, seed_distribution
from rnn_core.theory import REGIME_DECADES
from study.report import drawing, layout, reader, style
from study.report.findings import Study
from study.report.page_tables import check_summary
from study.report.sentences.checks import check_sentence
from study.report.words import addresses, plain, spoken
from study.tables import store
from tests.figures.drawn import PROPAGATION, TRAINING, grid, lines, render, show
from tests.page.second_opinion_start import KINDS

LN10 = math.log(10.0)
FIGURES = (gradient_norm_by_step, growth_rate, radius_length_map, seed_distribution, engine_checks)
SHARED = {
    "setting",
    "median_decades",
    "critical_radius",
    "mean_deviation",
    "mean_deviation_low",
    "mean_deviation_high",
}
SEEDS = list(range(6))
LEAKS = [0.0, 0.05, 0.1]


def rate_of_cell(run: dict[str, Any]) -> float:
    """Gated gradients shrink, residual ones hardly change, and with a leak they turn."""
    slope = {0.05: 0.02, 0.1: 0.01}.get(run.get("residual_leak", 0.0))
    turning = (slope or 0.0) * (run["spectral_radius"] - 1)
    if run["cell"] == "vanilla":
        turning = math.log(run["spectral_radius"])
    return {"vanilla": turning, "residual": turning if slope else 0.01}.get(run["cell"], -0.3) - 0.001 * run["seed"]


@pytest.fixture(scope="module")
def cells(make_study: Any) -> reader.Tables:
    """Five cells, a residual one with three leaks, one activation function; two sweeps."""
    varied = {"spectral_radius": [0.5, 1.2, 2.0], "sequence_length": [5, 10], "seed": [0, 1]}
    every = ["vanilla", "residual", "gru", "gru_reset_before", "lstm"]
    runs = grid(**PROPAGATION, cell=every, **varied)
    runs += grid(**PROPAGATION, cell="residual", residual_step=0.1, residual_leak=LEAKS, **varied, sweep="leaks")
    checks = [{"cell": cell} for cell in every] + [{"cell": "gru", "oracle": "torch.nn.GRU", "relative_error": 3e-12}]
    return make_study([run | {"rate": rate_of_cell(run)} for run in runs], checks)


@pytest.fixture(scope="module")
def initializers(make_study: Any) -> reader.Tables:
    """Two initialisers, two activations, five radii, two lengths; the deviation from theory is clear for relu alone."""
    runs = grid(
        **PROPAGATION, initializer=["gaussian", "orthogonal"], activation=["tanh", "relu"], spectral_radius=[0.8, 0.9, 1.0, 1.1, 1.2],
        sequence_length=[50, 400], seed=SEEDS,
    )  # fmt: skip
    for run in runs:
        wobble = 0.01 * (run["seed"] - 2.5) * (1 if run["activation"] == "tanh" else 2)
        turn = 1.0 if run["activation"] == "tanh" else 1.15
        run["rate"] = (
            math.log(run["spectral_radius"] / turn) - 0.02 + wobble + 0.02 * (run["initializer"] == "orthogonal")
        )
    return make_study(runs)


@pytest.fixture(scope="module")
def lost(make_study: Any) -> reader.Tables:
    """Networks with a gradient of exactly zero, and one without a number, beside others."""
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.0, 2.0], sequence_length=[20, 50], seed=[0, 1, 2])
    for run in runs:
        if run["spectral_radius"] == 0.5 and run["seed"] == 0:
            run["rate"] = -math.inf
        if run["spectral_radius"] == 2.0 and run["seed"] == 1:
            run["rate"] = math.nan
    return make_study(
        runs, [{"relative_error": None, "regime": None}, {"relative_error": 1e-3}, {"relative_error": 0.0}]
    )


@pytest.fixture(scope="module")
def gated(make_study: Any) -> reader.Tables:
    return make_study(grid(**PROPAGATION, cell=["gru", "lstm"], spectral_radius=[0.5, 1.5], sequence_length=10))


@pytest.fixture(scope="module")
def trainings(make_study: Any) -> reader.Tables:
    """Only runs that train, on one task, three cells, under two rules."""
    return make_study(
        grid(**TRAINING | {"clipping": ["none", "norm:1.0"]}, cell=["vanilla", "gru", "lstm"], seed=SEEDS)
    )


def by_title(axes: list[Axes]) -> dict[str, Axes]:
    titles = [ax.get_title(loc="left").replace("\n", " ").replace("\u00a0", " ") for ax in axes]
    return {title: ax for title, ax in zip(titles, axes, strict=True) if title}


def collection(ax: Axes, gid: str) -> Any:
    return next(artist for artist in ax.collections if artist.get_gid() == gid)


def texts(ax: Axes, gid: str) -> list[str]:
    return [text.get_text() for text in ax.texts if text.get_gid() == gid]


# ---- what all of them promise

STUDIES = ("study", "cells", "initializers", "lost", "gated", "trainings")


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("module", FIGURES)
def test_every_number_is_marked_and_computed_twice(module: ModuleType, name: str, request: Any) -> None:
    tables = request.getfixturevalue(name)
    data = module.frame(tables)
    if data.empty:
        return
    facts = module.facts(data, tables.study)
    plain_tables = {table: pd.read_parquet(tables.files[table]) for table in ("runs", "traces", "checks")}
    for text in (facts["title"], *facts["claims"]):
        for words, address in addresses(text):
            if address["kind"] not in SHARED:
                again = KINDS[address["kind"]](plain_tables, address["where"])
                assert again == pytest.approx(address["value"], rel=1e-9, abs=1e-12), (words, address)
            else:
                assert address["where"], address
        bare = re.sub(r"\ue000[^\ue002]*\ue002", "", text)
        bare = re.sub(r"95 % interval|\b(?:ρ|η|λ|H|T) = −?[\d.]+|[a-z]+\d+(?= |$|,|\.|\))", "", bare)
        assert not re.search(r"\d", bare), bare


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("module", FIGURES)
def test_headlines_are_short_and_captions_have_three_paragraphs(module: ModuleType, name: str, request: Any) -> None:
    tables = request.getfixturevalue(name)
    data = module.frame(tables)
    facts = module.facts(data, tables.study)
    assert facts["title"].endswith(".") and len(plain(facts["title"])) <= 140
    assert spoken(plain(facts["title"])) in facts["alt"]
    words = [plain(facts["title"]), facts["alt"], *map(plain, facts["claims"])]
    assert not any(re.search(r"\b(nan|inf|None)\b", word) for word in words), words
    html = render(
        module.__name__.removeprefix("figures."), facts=facts | {"claims": [plain(c) for c in facts["claims"]]}
    )
    assert html.count("<p>") == 3 and "  " not in html.replace("\n", " ").replace("> <", "><")
    assert all(plain(claim).split(" ")[0] in html for claim in facts["claims"])


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("module", FIGURES)
def test_phone_and_page_fit_their_width(module: ModuleType, name: str, request: Any) -> None:
    data = module.frame(request.getfixturevalue(name))
    for inches, tallest in ((style.PAGE_WIDTH, 12.0), (style.PHONE_WIDTH, 40.0)):
        with style.theme(), layout.wide(inches):
            figure = module.draw(data)
            figure.draw_without_rendering()
            box = figure.get_tightbbox()
        assert figure.get_size_inches()[0] == inches and figure.get_size_inches()[1] <= tallest
        assert box.x0 > -0.05 and box.x1 < inches + 0.05, (box, inches)  # nothing is cut off
        sizes = [text.get_fontsize() for ax in figure.axes for text in ax.texts]
        assert min(sizes, default=9.0) >= 9.0


@pytest.mark.parametrize("module", FIGURES)
def test_what_is_missing_is_said(module: ModuleType, make_study: Any) -> None:
    tables = make_study([], [])
    data = module.frame(tables)
    facts = module.facts(data, tables.study)
    assert data.empty and not facts["drawn"] and facts["title"] == module.NOTHING.why
    with style.theme():
        (axes,) = module.draw(data).axes
    assert axes.texts[0].get_text().replace("\n", " ") == module.NOTHING.add


# ---- gradient norm by step


def test_gradient_norm_by_step(study: reader.Tables) -> None:
    data, facts, axes = show(gradient_norm_by_step, study)
    assert set(data["sequence_steps"]) == {10}  # the longest
    assert list(data["panel"].cat.categories) == ["identity", "sigmoid"] and len(axes) == 2
    row = data[(data["panel"] == "sigmoid") & (data["spectral_radius"] == 0.5) & (data["lag"] == 9)].iloc[0]
    rate = math.log(0.5) - 1
    assert (row["median"], row["low"], row["high"]) == pytest.approx(
        (9 * (rate + 0.01) / LN10, 9 * rate / LN10, 9 * (rate + 0.02) / LN10)
    )
    assert (row["seeds"], row["zeros"], row["broken"]) == (3, 0, 0)
    title = plain(facts["title"])
    assert title.startswith("Going back over T = 10 steps multiplies the median network's gradient by 10⁻")
    assert "(sigmoid, ρ = 0.5) up to" in title and title.endswith("(identity, ρ = 1.2).")
    low, high = [address for _, address in addresses(facts["title"]) if address["kind"] == "median_decades"]
    assert low["value"] == pytest.approx(row["median"]) and high["value"] == pytest.approx(
        9 * (math.log(1.2) + 0.01) / LN10
    )
    assert low["where"] == {"sweep": "one", "activation": "sigmoid", "spectral_radius": 0.5}
    colours = style.radius_colours([0.5, 0.9, 1.2])
    for ax in axes:
        for radius, dashed, solid in zip((0.5, 0.9, 1.2), lines(ax, "linear"), lines(ax, "median"), strict=True):
            assert dashed.get_ydata() == pytest.approx(np.arange(10) * math.log10(radius))
            assert dashed.get_color() == solid.get_color() == to_hex(colours[radius])
        assert ax.get_ylim() == axes[0].get_ylim()  # panels are compared
        assert texts(ax, "direct") == ["ρ = 0.5", "ρ = 0.9", "ρ = 1.2"]
        below, near, above = (line.get_linewidth() for line in lines(ax, "median"))
        assert below == near < above and lines(ax, "linear")[0].get_linewidth() < below  # grey print tells 0.5 from 1.2
    assert (
        plain(facts["claims"][0])
        == "In the median over settings and networks, the linear law misses by 0.039 decades (identity) up to 3.9 (sigmoid)."
    )
    assert "several" in facts["shown"] and "share one scale" in render(
        "gradient_norm_by_step", facts=facts | {"claims": []}
    )


def test_a_gradient_of_exactly_zero_is_shown_and_counted(make_study: Any) -> None:
    run = {"updates": 0, "sequence_length": 50, "spectral_radius": 0.5}
    tables = make_study([run | {"seed": s, "rate": rate} for s, rate in enumerate((-2.5, -2.6, -math.inf))])
    data, facts, (ax,) = show(gradient_norm_by_step, tables)
    assert data[data["lag"] == 7][["median", "zeros"]].to_numpy().tolist() == [[pytest.approx(-18.2 / LN10), 1]]
    assert lines(ax, "zero")[0].get_xdata() == [1]
    assert [plain(c) for c in facts["claims"]][
        1
    ] == "In 1 of 3 networks the gradient is exactly zero at the first time step."
    assert texts(ax, "limit name") == ["float32 min"] and "limits" in facts["shown"]
    dead = make_study([run | {"seed": s, "rate": -math.inf} for s in (0, 1)])
    _, facts, (ax,) = show(gradient_norm_by_step, dead)
    assert (
        plain(facts["title"]) == "Going back over T = 50 steps multiplies the median network's gradient by exactly 0."
    )


WALKS = [
    {"updates": 0, "sequence_length": 9, "task": task, "cell": cell, "seed": s, "rate": rate + 0.01 * s, **ends}
    for task, ends in (("kinds", {"ends": (0, 3)}), ("sums", {"loss_at": "every"}), ("white_noise", {}))
    for cell, rate in (("vanilla", -0.5), ("gru", -0.3))
    for s in SEEDS
]


def test_gradients_of_sequences_that_end_at_different_steps_are_not_drawn(make_study: Any) -> None:
    """They would jump up wherever one ends; nor is a loss at every step drawn, or in a headline about what is drawn."""
    data, facts, _ = show(gradient_norm_by_step, make_study(WALKS))
    assert set(data["hue"]) == {"vanilla", "gru"} and data["panel"].nunique() == 1
    title = plain(facts["title"])
    assert title.endswith("by 0.022 (vanilla, white_noise) up to 0.11 (gru, white_noise)."), title
    assert "Networks with a loss at other steps, too, are not drawn: kinds and sums." in facts["claims"]
    caption = render("gradient_norm_by_step", facts=facts | {"claims": []})
    assert "Of the networks drawn, only the last step T has a loss." in re.sub(r"\s+", " ", caption)
    some = [run for run in WALKS if run["task"] != "white_noise"]
    data, facts, _ = show(gradient_norm_by_step, make_study(some))
    assert data.empty and not facts["drawn"] and "end at different steps" in facts["claims"][0]
    assert facts["title"] == drawing.ENDS_APART
    at_every_step = show(gradient_norm_by_step, make_study([run for run in WALKS if run["task"] == "sums"]))[1]
    assert at_every_step["title"] == gradient_norm_by_step.NOTHING.why


def test_sequences_of_a_file_that_all_end_at_the_last_step_are_drawn(make_study: Any) -> None:
    tables = make_study([run | {"ends": (0,)} for run in WALKS if run["task"] == "kinds"])
    data, facts, _ = show(gradient_norm_by_step, tables)
    assert set(data["hue"]) == {"vanilla", "gru"} and "mixed" not in facts["shown"]
    assert "before any training. Only the last step T has a loss." in re.sub(
        r"\s+", " ", render("gradient_norm_by_step", facts=facts | {"claims": []})
    )


def test_twelve_kinds_of_network_have_twelve_looks(make_study: Any) -> None:
    """Green diamonds were two kinds, orange squares two others."""
    runs = grid(
        **PROPAGATION, cell=["vanilla", "residual", "gru", "lstm"], initializer=["gaussian", "orthogonal", "identity"],
        sequence_length=[5, 60], seed=[0, 1, 2],
    )  # fmt: skip
    runs = [
        run | {"rate": -0.1 * (1 + run["seed"]) - 0.01 * len(run["cell"]) - 0.003 * len(run["initializer"])}
        for run in runs
    ]
    _, _, (left, *_) = show(seed_distribution, make_study(runs))
    drawn = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines(left, "spread")]
    assert len(drawn) == len(set(drawn)) == len({look[:2] for look in drawn}) == 12
    assert len({style.marker(i) + style.CATEGORIES[i % 8] for i in range(64)}) == 64


def test_networks_without_a_number_are_counted_not_dropped(lost: reader.Tables) -> None:
    data, facts, _ = show(gradient_norm_by_step, lost)
    last = gradient_norm_by_step.ends(data).set_index("spectral_radius")
    assert last["broken"].tolist() == [0, 0, 1] and last["zeros"].tolist() == [1, 0, 0]
    assert last.loc[2.0, "median"] == pytest.approx(49 * (math.log(2.0) + 0.01) / LN10)  # of seeds 0 and 2
    assert plain(facts["claims"][-1]) == "In 2 of 18 networks it is not a number."


def test_a_compared_axis_is_the_hue_at_three_radii(initializers: reader.Tables) -> None:
    data, facts, axes = show(gradient_norm_by_step, initializers)
    assert set(data["hue"]) == {"gaussian", "orthogonal"}
    names = list(by_title(axes))
    assert names == [
        "relu (ρ = 0.8)",
        "relu (ρ = 1.1)",
        "relu (ρ = 1.2)",
        "tanh (ρ = 0.8)",
        "tanh (ρ = 1)",
        "tanh (ρ = 1.2)",
    ]
    assert all(len(lines(ax, "median")) == 2 for ax in axes) and len({ax.get_ylim() for ax in axes}) == 1
    assert all(sorted(texts(ax, "direct")) == ["gaussian", "orthogonal"] for ax in axes)
    widths = [line.get_linewidth() for line in lines(axes[0], "median")]
    assert widths[0] > widths[1] + 1  # so that lines that coincide both show
    assert "three scales" in facts["shown"] and "radii" not in facts["shown"]


def test_the_linear_law_is_the_cells_own(cells: reader.Tables) -> None:
    data, facts, axes = show(gradient_norm_by_step, cells)
    assert list(by_title(axes)) == ["ρ = 0.5", "ρ = 1.2", "ρ = 2"]
    last = gradient_norm_by_step.ends(data).query("spectral_radius == 0.5").set_index("hue")["linear"]
    for name, factor in (("vanilla", 0.5), ("residual", 1.5), ("residual (η = 0.1, λ = 0.05)", 1.0)):
        assert last[name] == pytest.approx(9 * math.log10(factor))
    at_rest = 9 * math.log10(0.5 + 0.25 * 0.5)
    assert last[["gru", "gru_reset_before", "lstm"]].tolist() == [pytest.approx(at_rest)] * 3  # they have no linear law
    assert {"residual", "linear", "at rest"} <= set(facts["shown"])


def test_gated_cells_have_their_law_at_rest_and_no_other(gated: reader.Tables) -> None:
    """A linear law, a bound or a prediction is claimed that they do not have; or the law that they have is not drawn."""
    data, facts, axes = show(gradient_norm_by_step, gated)
    assert "linear" not in facts["shown"] and {"at rest", "law"} <= set(facts["shown"]) and data["at_rest"].all()
    steps = data["sequence_steps"].iloc[0] - 1
    expected = [steps * math.log10(0.5 + 0.25 * radius) for radius in sorted(data["spectral_radius"].unique())]
    drawn = sorted({round(float(line.get_ydata()[-1]), 9) for ax in axes for line in lines(ax, "linear")})
    assert drawn == pytest.approx(expected)
    assert not any("linear law" in plain(claim) for claim in facts["claims"])
    assert any(
        plain(claim).startswith("In the median over settings and networks, the law at rest misses by")
        for claim in facts["claims"]
    )
    html = render("gradient_norm_by_step", facts=facts | {"claims": []})
    assert "linear law" not in html and "law at rest" in html
    _, facts, axes = show(growth_rate, gated)
    assert not any(lines(ax, theory) for ax in axes for theory in ("linear", "bound", "operating", "mean_field"))
    assert not any("bound" in plain(claim) or "predicted" in plain(claim) for claim in facts["claims"])
    assert any(
        plain(claim).startswith("At rest, where the law is exact, gradients of gated networks turn")
        for claim in facts["claims"]
    )
    html = render("growth_rate", facts=facts | {"claims": []})
    assert not any(word in html for word in ("Pascanu", "χ", "strip"))


def test_the_law_at_rest_of_a_users_cell_is_not_that_of_a_gated_one(make_study: Any) -> None:
    """The caption gave the formula of a GRU beside the line of a Mamba."""
    data = gradient_norm_by_step.frame(make_study(grid(**PROPAGATION, cell=["gru", "lstm"], sequence_length=10)))
    study = make_study(grid(**PROPAGATION, cell=["gru", "lstm"], sequence_length=10)).study
    for cells, gated, own in (
        (["gru", "mamba"], True, True),
        (["mamba", "my_lru"], False, True),
        (["gru", "lstm"], True, False),
    ):
        named = data.assign(cell=data["cell"].map(dict(zip(("gru", "lstm"), cells, strict=True))))
        facts = gradient_norm_by_step.facts(named, study)
        html = render("gradient_norm_by_step", facts=facts | {"claims": []}).replace("\n", " ")
        assert ("½ I" in html, "of your own cell multiplies by the derivative of its step" in html) == (gated, own)
        assert (
            f"For {'a gated cell' * gated}{' and for ' * (gated and own)}{'a cell of your own' * own} the dashed line"
            in html
        )
    named = data.assign(cell=data["cell"].map({"gru": "slstm", "lstm": "slstm"}))
    html = render("gradient_norm_by_step", facts=gradient_norm_by_step.facts(named, study) | {"claims": []})
    assert "For a gated cell the dashed line" in html and "For slstm, this matrix is ½ I + ¼ φ′(0) W." in html
    assert "gru" not in html and "For lstm" not in html


def test_an_axis_ends_where_every_gradient_is_zero(make_study: Any) -> None:
    """All that was drawn lay within 15 of 400 steps."""
    runs = grid(**PROPAGATION, activation=["relu", "tanh"], spectral_radius=0.001, sequence_length=400, seed=[0, 1, 2])
    for rate, dead in (((-math.inf, -math.inf), True), ((-math.inf, -0.1), False), ((-math.inf, math.nan), False)):
        tables = make_study([run | {"rate": rate[run["activation"] == "tanh"]} for run in runs])
        _, facts, (ax, *_) = show(gradient_norm_by_step, tables)
        words = [text.get_text() for text in ax.texts if text.get_gid() == "under title"]
        assert words == ["all exactly zero from lag 1 on"] * dead
        assert (ax.get_xlim()[1] < 40) == dead == ("dead" in facts["shown"])
        html = render("gradient_norm_by_step", facts=facts | {"claims": []})
        assert ("The axis ends soon after" in html) == dead
    as_law = [run | {"rate": -math.inf, "spectral_radius": 1.0} for run in runs]  # the law of ρ = 1 is flat
    assert show(gradient_norm_by_step, make_study(as_law))[2][0].get_xlim()[1] > 390


def test_marks_that_are_not_drawn_are_not_explained(make_study: Any) -> None:
    """Of networks that are all dead, the caption described large marks, bars and pale dots; the legend, a mean and its interval."""
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.5], sequence_length=10, seed=[0, 1])
    for rates, mean in (((-math.inf, -math.inf), False), ((-math.inf, -0.5), False), ((-0.4, -0.5), True)):
        _, facts, axes = show(growth_rate, make_study([run | {"rate": rates[run["seed"]]} for run in runs]))
        html = render("growth_rate", facts=facts | {"claims": []})
        assert (
            ("A large mark is the mean" in html)
            == mean
            == bool([c for c in axes[0].collections if c.get_gid() == "networks"])
        )
        assert ("A mark is one network" in html) == (rates[0] != rates[1] and not mean)
        assert ("A triangle at the bottom" in html) == (rates[0] == -math.inf)
        texts = [text.get_text() for legend in axes[0].figure.legends for text in legend.get_texts()]
        assert ("measured: mean, 95 % interval" in texts) == mean and ("measured: one network" in texts) == (
            rates[1] == -0.5 and not mean
        )


@pytest.mark.parametrize("figure", [gradient_norm_by_step, growth_rate])
def test_the_law_at_rest_is_that_of_the_cells_and_biases_of_the_study(figure: Any, make_study: Any) -> None:
    """The caption gave ½ I + ¼ φ′(0) W, "an LSTM: φ′(0)²", beside gates with biases, GRUs alone, and a cell without W."""
    runs = grid(**PROPAGATION, cell=["gru"], forget_bias=[None, 0.0, 2.0], sequence_length=10, seed=[0, 1, 2])
    for biases, said in (
        ((None, 0.0), "½ I + ¼ φ′(0) W. W belongs to the candidate."),
        (
            (0.0, 2.0),
            "σ(b_z) I + σ(−b_z) σ(b_r) φ′(0) W. W belongs to the candidate. b is the sum of a gate's two biases",
        ),
    ):
        _, facts, _ = show(figure, make_study([run for run in runs if run["forget_bias"] in biases]))
        html = " ".join(render(figure.__name__.rpartition(".")[2], facts=facts | {"claims": []}).split())
        assert f"For gru, this {'matrix' if figure is gradient_norm_by_step else 'derivative'} is {said}" in html
        assert "lstm" not in html and ("½ I" in html) == (2.0 not in biases)
    gates = grid(
        **PROPAGATION,
        cell=["mingru"],
        initializer=None,
        spectral_radius=None,
        chrono=[10, 100],
        sequence_length=10,
        seed=[0, 1, 2],
    )
    _, facts, _ = show(figure, make_study(gates))
    html = render(figure.__name__.rpartition(".")[2], facts=facts | {"claims": []})
    assert "is σ(−b_z) I." in html and "W belongs" not in html


def test_dynamic_mean_field_is_drawn_and_turns(make_study: Any) -> None:
    """What was sampled for a setting is left out, or it is not where theory turns."""
    runs = [
        {"updates": 0, "sequence_length": 50, "cell": "gru", "spectral_radius": radius, "seed": seed, "dynamic": 0.2 * (radius - 2.5)}
        for radius in (1.0, 2.0, 3.0) for seed in range(3)
    ]  # fmt: skip
    data, facts, (ax, _) = show(growth_rate, make_study(runs))
    [drawn], [at_rest] = lines(ax, "dynamic"), lines(ax, "rest")
    tried = np.isin(drawn.get_xdata(), [1.0, 2.0, 3.0]), np.isin(at_rest.get_xdata(), [1.0, 2.0, 3.0])
    assert list(drawn.get_ydata()[tried[0]]) == pytest.approx([-0.3, -0.1, 0.1])
    assert list(at_rest.get_ydata()[tried[1]]) == pytest.approx(np.log([0.75, 1.0, 1.25]))
    [turning] = lines(ax, "theory turning")
    assert turning.get_xdata()[0] == pytest.approx(math.exp((math.log(2) + math.log(3)) / 2))
    assert {"dynamic", "rest", "theory turning", "by dynamic mean field", "deviation"} <= set(facts["shown"])
    assert data["deviation"].notna().all()


def test_a_theory_of_one_place_is_seen(make_study: Any) -> None:
    """Dynamic mean field knows one layer and no deeper stack: its line of one place was invisible, and the legend named a line."""
    runs = [
        {"updates": 0, "sequence_length": 50, "cell": cell, "layers": L, "seed": seed, "dynamic": -0.3 if (cell, L) == ("gru", 1) else None}
        for cell in ("vanilla", "gru") for L in (1, 2) for seed in range(3)
    ]  # fmt: skip
    data = growth_rate.frame(make_study(runs))
    with style.theme():
        figure = growth_rate.draw(data)
    known = [line for line in lines(figure.axes[0], "dynamic") if np.isfinite(line.get_ydata()).any()]
    assert [(line.get_marker(), line.get_linestyle()) for line in known] == [("_", "None")]
    named = {handle.get_label(): handle for handle in figure.legends[0].get_lines()}
    assert named["theory: dynamic mean field"].get_marker() == "_"
    assert named["theory: law at rest"].get_linestyle() == "--"  # known of both depths, so a line


def test_a_long_legend_takes_no_room_from_the_panels_on_a_phone(make_study: Any) -> None:
    """Of nine entries the panel was left an inch, and the names of its two axes lay over each other."""
    runs = grid(
        **PROPAGATION, activation="sigmoid", spectral_radius=[0.5, 2.0, 4.0], sequence_length=50, seed=[0, 1, 2]
    )
    data = growth_rate.frame(make_study(runs))
    with style.theme(), layout.wide(style.PHONE_WIDTH):
        figure = growth_rate.draw(data)
        figure.draw_without_rendering()
        upper, lower = (ax.yaxis.label.get_window_extent() for ax in figure.axes[:2])
    assert len(figure.legends[0].get_texts()) > 6
    assert upper.y0 > lower.y1


def test_rounding_has_no_scale_of_its_own(make_study: Any) -> None:
    """The strip of a linear network ran from -10^-16 to 10^-16, and looked like a deviation."""
    runs = grid(**PROPAGATION, activation="identity", spectral_radius=[0.5, 0.9], sequence_length=50, seed=[0])
    data = growth_rate.frame(make_study(runs)).assign(deviation=[1e-16, -1e-16])
    with style.theme():
        _, strip = growth_rate.draw(data).axes
    assert strip.get_ylim() == (-0.01, 0.01)


def test_lines_that_would_flatten_all_others_leave_the_scale(make_study: Any) -> None:
    runs = grid(**PROPAGATION, activation="relu", spectral_radius=[0.1 * i for i in range(1, 13)], sequence_length=50)
    runs = [run | {"rate": -30.0 if i == 0 else 0.01 * i} for i, run in enumerate(runs)]
    data, facts, (ax,) = show(gradient_norm_by_step, make_study(runs))
    low, high = ax.get_ylim()
    ends = gradient_norm_by_step.ends(data)["median"]
    assert ((ends >= low) & (ends <= high)).sum() == 11 and ends.min() < -600 < low
    assert [name for name in texts(ax, "direct") if "↓" in name] == ["ρ = 0.1 ↓ −638"]
    assert "leaving" in facts["shown"] and "10⁻⁶³⁸" in plain(facts["title"])


def test_one_network_is_no_median(make_study: Any) -> None:
    tables = make_study([{"updates": 0, "sequence_length": 11, "spectral_radius": 2.0, "rate": 1.0}])
    _, facts, _ = show(gradient_norm_by_step, tables)
    assert plain(facts["title"]) == "Going back over T = 11 steps multiplies the gradient by 10⁴·³."
    assert plain(facts["claims"][0]) == "The linear law misses by 1.3 decades."
    html = render("gradient_norm_by_step", facts=facts | {"claims": []})
    assert "A line is one network." in html and "share one scale" not in html


def test_the_linear_law_stays_on_the_scale_or_is_marked_where_it_leaves(make_study: Any) -> None:
    runs = grid(**PROPAGATION, initializer=["gaussian", "orthogonal"], spectral_radius=[0.9, 1.1], sequence_length=101)
    data, facts, axes = show(gradient_norm_by_step, make_study([run | {"rate": -0.9} for run in runs]))
    assert gradient_norm_by_step.ends(data)["linear"].max() < axes[0].get_ylim()[1]
    assert "law leaves" not in facts["shown"]
    # all radii are drawn, so that none is left out
    assert "three scales" not in facts["shown"] and "three are drawn" not in render(
        "gradient_norm_by_step", facts=facts | {"claims": []}
    )
    data, facts, axes = show(gradient_norm_by_step, make_study([run | {"rate": -0.01} for run in runs]))
    (mark,) = lines(axes[1], "law leaves")
    (x,), (top,) = mark.get_data()
    assert top == axes[1].get_ylim()[1] and top == pytest.approx(x * math.log10(1.1))
    assert "law leaves" in facts["shown"]


def test_names_of_limits_do_not_lie_over_lines(initializers: reader.Tables) -> None:
    data = gradient_norm_by_step.frame(initializers)
    with style.theme():
        figure = gradient_norm_by_step.draw(data)
        figure.draw_without_rendering()
        named = [(ax, text) for ax in figure.axes for text in ax.texts if text.get_gid() == "limit name"]
        assert named
        for ax, text in named:
            box = text.get_window_extent()
            for line in [*lines(ax, "median"), *lines(ax, "linear")]:
                x = np.linspace(box.x0, box.x1, 50)
                xy = ax.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]))
                y = np.interp(x, xy[:, 0], xy[:, 1])
                assert not ((y > box.y0 + 1) & (y < box.y1 - 1)).any(), (ax.get_title(loc="left"), text)


def test_the_title_spans_panels_that_are_not_drawn(initializers: reader.Tables, make_study: Any) -> None:
    runs = grid(
        **PROPAGATION, activation=[f"phi{i:02d}" for i in range(14)], spectral_radius=[0.9, 1.0], sequence_length=20
    )
    runs = [run | {"rate": -3.0 if run["activation"] == "phi07" else -0.1} for run in runs]
    data, facts, _ = show(gradient_norm_by_step, make_study(runs))
    drawn, lowest = set(data["panel"]), next(a for _, a in addresses(facts["title"]) if a["kind"] == "median_decades")
    assert len(drawn) == 12 and lowest["value"] == pytest.approx(-3.0 * 19 / LN10)
    assert lowest["where"]["activation"] == "phi07" or "phi07" in drawn
    assert "Not drawn" in plain(facts["claims"][-1])


# ---- growth rate


def test_growth_rate(study: reader.Tables) -> None:
    data, facts, axes = show(growth_rate, study)
    upper, lower = by_title(axes)["identity"], axes[2]
    (dots,) = lines(upper, "measured")
    assert dots.get_xdata() == pytest.approx([0.5, 0.9, 1.2]) and dots.get_ydata() == pytest.approx(
        np.log([0.5, 0.9, 1.2]) + 0.01
    )
    half = 4.302653 * 0.01 / math.sqrt(3)  # Student's t with 2 degrees of freedom
    bars = [line.get_ydata() for line in lines(upper, "measured interval")]
    assert sorted(map(list, bars)) == [
        pytest.approx([r + 0.01 - half, r + 0.01 + half]) for r in np.log([0.5, 0.9, 1.2])
    ]
    assert len(collection(upper, "networks").get_offsets()) == 9
    for theory, factor in (("linear", 1.0), ("bound", 2.0), ("operating", math.exp(-0.02))):
        (line,) = lines(upper, theory)
        assert {0.5, 0.9, 1.2} <= set(line.get_xdata())
        assert line.get_ydata() == pytest.approx(np.log(factor * line.get_xdata()))  # not a chord between the radii
    turns = [0.9 * (1.2 / 0.9) ** (-(math.log(0.9) + 0.01 * s) / math.log(1.2 / 0.9)) for s in range(3)]
    assert lines(upper, "turning")[0].get_xdata() == pytest.approx(turns)
    assert lines(upper, "critical")[0].get_xdata() == pytest.approx([turns[1]])
    assert lines(upper, "theory turning")[0].get_xdata() == pytest.approx([1.0] * 2)
    assert lines(lower, "deviation")[0].get_ydata() == pytest.approx([0.03] * 3)
    assert (
        plain(facts["title"])
        == "Growth per step back turns positive at ρ = 0.99 for identity; it never does for sigmoid."
    )
    assert addresses(facts["title"])[0][1]["value"] == pytest.approx(turns[1])
    said = [plain(claim) for claim in facts["claims"]]
    assert "Networks above the upper bound: 0 of 18." in said
    assert "Rates are measured from step t = 3 to t = 7, in the median of the networks." in said
    assert texts(by_title(axes)["sigmoid"], "turns") == ["negative at every ρ\ntheory: never"]
    assert texts(upper, "turns") == ["turns at ρ = 0.99 (0.98–1.00)\ntheory: ρ = 1.00"]
    assert not lines(by_title(axes)["sigmoid"], "critical")
    assert data["x_axis"].unique().tolist() == ["spectral_radius"]


@pytest.mark.parametrize("root", [1.75, 1.0])
def test_a_line_of_theory_crosses_zero_where_theory_turns(root: float, make_study: Any) -> None:
    """Of ρ = 0.5 and 3 alone, the linear law crossed zero at 1.46 and mean field at 2.25, where 1.75 was said to be its turning point."""
    tables = make_study(grid(**PROPAGATION, spectral_radius=[0.5, 3.0], sequence_length=50, seed=[0, 1]))
    data = growth_rate.frame(tables)
    low = data["spectral_radius"] == 0.5
    data = data.assign(mean_field_rate=np.where(low, -0.7, 0.4), critical_radius_predicted=root)
    with style.theme():
        ax = growth_rate.draw(data).axes[0]
    for gid, zero in (("linear", 1.0), ("mean_field", root)):
        x, y = (np.asarray(each) for each in lines(ax, gid)[0].get_data())
        assert np.interp(0.0, y, x) == pytest.approx(zero, rel=0.002)
        assert (np.diff(y) > 0).all() and y[[0, -1]] == pytest.approx(
            {"linear": np.log([0.5, 3.0])}.get(gid, [-0.7, 0.4])
        )
    assert lines(ax, "theory turning")[0].get_xdata() == pytest.approx([root] * 2)
    caption = " ".join(render("growth_rate", facts=growth_rate.facts(data, tables.study) | {"claims": []}).split())
    assert "straight in the logarithm of ρ between the values tried, and cross zero where theory turns." in caption


def test_a_line_of_theory_ends_where_theory_is_not_known(make_study: Any) -> None:
    """Between a radius with a theory and one without there is no line, and no root is put among rates that do not cross zero."""
    tables = make_study(grid(**PROPAGATION, spectral_radius=[0.5, 1.0, 2.0, 3.0], sequence_length=50, seed=[0, 1]))
    data = growth_rate.frame(tables)
    rates = data["spectral_radius"].map({0.5: -0.7, 1.0: -0.2, 2.0: np.nan, 3.0: 0.4})
    data = data.assign(mean_field_rate=rates, critical_radius_predicted=0.8)
    with style.theme():
        x, y = lines(growth_rate.draw(data).axes[0], "mean_field")[0].get_data()
    assert np.isfinite(y[x <= 1.0]).all() and np.isnan(y[(x > 1.0) & (x < 3.0)]).all() and y[-1] == 0.4
    assert y[x == 0.8].size == 0 or y[x == 0.8] < 0


def test_two_hues_share_a_panel_and_theory_has_their_colours(initializers: reader.Tables) -> None:
    _, facts, axes = show(growth_rate, initializers)
    found = by_title(axes)
    assert list(found) == ["relu", "tanh"]
    for ax in found.values():
        assert len(lines(ax, "measured")) == 2 == len(lines(ax, "operating")) == len(lines(ax, "mean_field"))
        assert not lines(ax, "bound") and not lines(ax, "linear")
        paint = [line.get_color() for line in lines(ax, "operating")]
        assert paint == list(style.CATEGORIES[:2]) or [c.upper() for c in paint] == [
            c.upper() for c in style.CATEGORIES[:2]
        ]
        assert ax.get_ylim() == axes[0].get_ylim()
    one, other = (line.get_xdata() for line in lines(found["relu"], "measured"))
    assert (np.asarray(other) - np.asarray(one) > 0.005).all()  # beside each other
    off = [plain(c) for c in facts["claims"] if "clearly differ" in plain(c)]
    assert len(off) == 1 and "relu" in off[0] and "95 % interval" in off[0] and "tanh" not in off[0].split("(95")[0]


def test_never_turning_networks_are_counted(make_study: Any) -> None:
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.0, 1.5], sequence_length=50, seed=SEEDS)
    for run in runs:
        run["rate"] = -0.1 if run["seed"] < 2 else math.log(run["spectral_radius"]) - 0.1
    _, facts, axes = show(growth_rate, make_study(runs))
    assert len(lines(axes[0], "turning")[0].get_xdata()) == 4
    assert "2 of 6 networks never turn\n" in texts(axes[0], "turns")[0]
    assert plain(facts["title"]) == "Growth per step back turns positive at ρ = 1.1."


def test_a_median_of_networks_that_never_turn_is_no_headline(make_study: Any) -> None:
    runs = grid(
        **PROPAGATION, activation=["relu", "tanh"], spectral_radius=[0.5, 1.0, 1.5], sequence_length=50, seed=SEEDS
    )
    for run in runs:
        never = run["activation"] == "relu" and run["seed"] < 4
        run["rate"] = -0.1 if never else math.log(run["spectral_radius"])
    _, facts, axes = show(growth_rate, make_study(runs))
    assert (
        plain(facts["title"])
        == "Growth per step back turns positive at ρ = 1.0 for tanh; it turns at no single ρ for relu."
    )
    assert (
        not lines(by_title(axes)["relu"], "critical")
        and len(lines(by_title(axes)["relu"], "turning")[0].get_xdata()) == 2
    )


def test_growth_of_one_network_has_no_interval(make_study: Any) -> None:
    tables = make_study([{"updates": 0, "sequence_length": 10, "initializer": "identity", "rate": 5.0}])
    data, facts, (ax,) = show(growth_rate, tables)
    assert data["deviation"].isna().all() and "deviation" not in facts["shown"] and "interval" not in facts["shown"]
    assert lines(ax, "measured")[0].get_ydata() == [5.0]
    assert not any("bound" in plain(claim) for claim in facts["claims"])  # it is not drawn
    assert plain(facts["title"]) == "Each step back multiplies the gradient by 148."


def test_without_radii_the_compared_names_are_on_the_axis(trainings: reader.Tables) -> None:
    data, facts, axes = show(growth_rate, trainings)
    assert len(data) == 18  # clipping has no effect on a start
    assert [label.get_text() for label in axes[1].get_xticklabels()] == ["vanilla", "gru", "lstm"]
    assert "bound" not in facts["shown"] and not lines(axes[0], "bound")
    assert plain(facts["title"]) == "Growth per step back is about +0.025 in every kind of network."


def test_dead_networks_and_those_without_a_number_are_counted(lost: reader.Tables) -> None:
    _, facts, axes = show(growth_rate, lost)
    assert lines(axes[0], "zero")[0].get_xdata() == [0.5]
    assert "Not in the means: 1 with a gradient of exactly zero and 1 without a number." in map(plain, facts["claims"])


def test_cells_without_a_prediction_have_no_deviation(cells: reader.Tables) -> None:
    data, facts, axes = show(growth_rate, cells)
    upper, lower = axes
    assert len(lines(upper, "measured")) == 8 and len(lines(lower, "deviation")) == 1
    assert data.loc[data["cell"] != "vanilla", "deviation"].isna().all()
    assert not any("bound" in plain(claim) for claim in facts["claims"])  # with hues it is not drawn


@pytest.mark.parametrize(
    ("rates", "title"),
    [
        ((-0.1, -0.2), "Each step back shrinks the gradient by 14 % on average."),
        ((0.1,), "Each step back stretches the gradient by 11 %."),
        ((1.0, 1.1), "Each step back multiplies the gradient by 2.86 on average."),
        ((-9.0,), "Each step back multiplies the gradient by 0.000123."),
        ((0.0,), "Each step back multiplies the gradient by 1."),
        ((-0.001,), "Each step back multiplies the gradient by 0.999."),
    ],
)
def test_what_each_step_does_to_the_only_kind_of_network(rates: tuple[float, ...], title: str, make_study: Any) -> None:
    tables = make_study(
        [{"updates": 0, "sequence_length": 20, "seed": s, "rate": rate} for s, rate in enumerate(rates)]
    )
    _, facts, axes = show(growth_rate, tables)
    assert plain(facts["title"]) == title
    kinds = {address["kind"] for _, address in addresses(title_of(facts))}
    (kind,) = kinds
    found = KINDS[kind](
        {name: pd.read_parquet(tables.files[name]) for name in ("runs",)}, addresses(title_of(facts))[0][1]["where"]
    )
    assert addresses(title_of(facts))[0][1]["value"] == pytest.approx(found)
    for ax in axes:  # nothing varies, so there is no axis to read
        assert not len(ax.get_xticks()) and not ax.spines["bottom"].get_visible() and not ax.get_xlabel()


def title_of(facts: dict[str, Any]) -> str:
    return str(facts["title"])


def legend_of(module: ModuleType, tables: reader.Tables) -> dict[str, Any]:
    """Handles of the legend by label."""
    with style.theme():
        (legend,) = module.draw(module.frame(tables)).legends
    return {text.get_text(): handle for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)}


def test_the_legend_shows_bars_where_bars_are_drawn(make_study: Any) -> None:
    tables = make_study([{"updates": 0, "sequence_length": 20, "seed": s, "rate": -0.1} for s in range(3)])
    _, _, axes = show(growth_rate, tables)
    found = legend_of(growth_rate, tables)
    for name, gid in (("operating point", "operating"), ("mean field", "mean_field"), ("linear law", "linear")):
        drawn, named = lines(axes[0], gid)[0], found[f"theory: {name}"]
        assert (
            (drawn.get_marker(), drawn.get_linestyle()) == ("_", "None") == (named.get_marker(), named.get_linestyle())
        )
        assert drawn.get_color() == named.get_color()


def test_theory_turns_where_its_column_says(make_study: Any) -> None:
    """Theory's critical radius is a root of theory. Between the radii tried, a line through its rates crosses zero elsewhere."""
    runs = grid(**PROPAGATION, activation="tanh", spectral_radius=[0.5, 1.0, 1.5, 2.0], sequence_length=50, seed=[0, 1])
    tables = make_study(runs)
    data = growth_rate.frame(tables)
    radius = data["spectral_radius"]
    data["operating_rate"], data["mean_field_rate"] = -0.1, np.log(radius / 1.75)
    data["predicted_rate"] = np.where(
        radius < 1.25, -0.1, 0.1
    )  # it changes from one theory to another: no theory turns there

    def drawn(**columns: Any) -> Axes:
        with style.theme():
            return growth_rate.draw(data.assign(**columns)).axes[0]

    ax = drawn(critical_radius_predicted=np.where(data["seed"] == 0, 1.4, 1.5))
    assert lines(ax, "theory turning")[0].get_xdata() == pytest.approx([1.45] * 2)
    assert texts(ax, "turns")[0].endswith("\ntheory: ρ = 1.45")
    for beyond, words in ((2.5, "ρ = 2.50"), (math.inf, "never"), (0.0, "positive at every ρ")):
        ax = drawn(critical_radius_predicted=beyond)
        assert not lines(ax, "theory turning") and texts(ax, "turns")[0].endswith(f"\ntheory: {words}")
    assert (
        not lines(ax := drawn(critical_radius_predicted=math.nan), "theory turning")
        and "theory" not in texts(ax, "turns")[0]
    )
    assert lines(ax, "used")[0].get_ydata() == pytest.approx([-0.1, -0.1, 0.1, 0.1])
    # a cross is the mean over the same networks as the dot beside it, or is not drawn
    ax = drawn(predicted_rate=data["predicted_rate"].mask((data["seed"] == 1) & (radius < 1.25)))
    assert lines(ax, "used")[0].get_ydata() == pytest.approx([math.nan, math.nan, 0.1, 0.1], nan_ok=True)


def test_names_of_panels_stand_clear_of_what_is_said_below_them(make_study: Any) -> None:
    runs = grid(
        **PROPAGATION, activation=["relu", "tanh"], spectral_radius=[0.5, 1.0, 1.5], sequence_length=50, seed=SEEDS
    )
    for run in runs:
        never = run["activation"] == "tanh" and run["seed"] < 2
        run["rate"] = -0.1 if never else math.log(run["spectral_radius"]) - 0.1
    data = growth_rate.frame(make_study(runs))
    for inches in (style.PAGE_WIDTH, style.PHONE_WIDTH):
        with style.theme(), layout.wide(inches):
            figure = growth_rate.draw(data)
            figure.draw_without_rendering()
            titled = [ax for ax in figure.axes if ax.get_title(loc="left")]
            heights = []
            for ax in titled:
                (said,) = [text for text in ax.texts if text.get_gid() == "turns"]
                name = ax._left_title.get_window_extent()  # type: ignore[attr-defined]
                assert name.y0 > said.get_window_extent().y1 - 2
                heights.append(name.y0)
            assert len(titled) == 2 and (inches == style.PHONE_WIDTH or heights[0] == pytest.approx(heights[1]))
            (legend,) = figure.legends
            box = legend.get_window_extent()
            assert box.x0 >= 0 and box.x1 <= inches * figure.dpi


def test_theory_is_thinner_than_what_was_measured(initializers: reader.Tables) -> None:
    _, _, axes = show(growth_rate, initializers)
    for ax in axes[:2]:
        bars = {line.get_linewidth() for line in lines(ax, "measured interval")}
        assert all(line.get_linewidth() <= min(bars) for gid in ("operating", "mean_field") for line in lines(ax, gid))
        assert len(lines(ax, "used")) == 2


@pytest.mark.parametrize("by", ["operating point", "mean field"])
def test_the_caption_explains_the_theory_that_predicts(by: str, make_study: Any) -> None:
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.5], sequence_length=50, seed=[0, 1])
    tables = make_study(runs)
    table = pd.read_parquet(tables.files["runs"])
    table["predicted_by"] = by
    study = Study(table)
    data = growth_rate.frame(tables)
    facts = growth_rate.facts(data, study)
    html = render("growth_rate", facts=facts | {"claims": []}).replace("\n", " ")
    assert ("is the operating point, because" in html) == (by == "operating point")
    assert ("is mean field, because" in html) == (by == "mean field")
    assert "each panel is tested once" in html and "vanish" not in html and "explode" not in html


@pytest.mark.parametrize(
    ("cells", "by", "gid", "words"),
    [
        (["vanilla", "gru", "lstm"], "mean field", "predicted", "prediction by mean field"),
        (["vanilla", "gru"], "operating point", "operating", "theory: operating point"),
        (["vanilla", "gru"], "linear law", "linear", "theory: linear law"),
    ],
)
def test_the_line_of_theory_has_its_own_name(
    cells: list[str], by: str, gid: str, words: str, make_study: Any, tmp_path: Path
) -> None:
    """A line was "predicted" in the legend, "operating point" for a screen reader, and the caption explained a theory that none was by."""
    activation = "identity" if by == "linear law" else "tanh"
    runs = grid(
        **PROPAGATION, cell=cells, activation=activation, spectral_radius=[0.5, 1.5], sequence_length=50, seed=[0, 1]
    )
    tables = make_study(runs)
    table = pd.read_parquet(tables.files["runs"])
    table["predicted_by"] = table["predicted_by"].where(table["predicted_by"].isna(), by)
    file = tmp_path / "runs.parquet"
    store.write(store.build("runs", table.to_dict("list")), file, {"table": "runs"})
    tables = reader.Tables({**tables.files, "runs": file})
    _, facts, axes = show(growth_rate, tables)
    drawn = {name for name in ("operating", "predicted", "linear") if lines(axes[0], name)}
    assert drawn == {gid} and words in legend_of(growth_rate, tables)
    assert f"{words.removeprefix('theory: ')}" in facts["alt"]
    html = " ".join(render("growth_rate", facts=facts | {"claims": []}).split())
    assert ("The operating point is a theory" in html) == (by == "operating point")
    assert ("they are the prediction" in html) == (gid == "predicted")
    assert ("is tested once" in html, "A linear network's deviation is not tested" in html.replace("’", "'")) == (
        by != "linear law",
        by == "linear law",
    )


def test_marks_that_cover_each_other_all_show(make_study: Any) -> None:
    """Two kinds of network had the same rates at radii close together: those of the first were hidden."""
    runs = grid(
        **PROPAGATION,
        initializer=["gaussian", "orthogonal"],
        spectral_radius=[0.5, 0.9, 0.98, 0.99],
        sequence_length=50,
        seed=[0, 1],
    )
    for same in (True, False):
        rates = [
            run
            | {
                "rate": math.log(run["spectral_radius"])
                - (0.3 * (run["initializer"] == "gaussian") if not same else 0.0)
            }
            for run in runs
        ]
        _, facts, (ax, *_) = show(growth_rate, make_study(rates))
        first, last = (line.get_markersize() for line in lines(ax, "measured"))
        assert (first > last + 3) == same and ("covered" in facts["shown"]) == same
        assert ("Where marks lie on each other" in render("growth_rate", facts=facts | {"claims": []})) == same


def test_long_names_below_growth_do_not_run_into_each_other(make_study: Any) -> None:
    """Five initialisers below a panel of three read antisymmegaussianidentity."""
    kinds = ["gaussian", "identity", "orthogonal", "ring", "antisymmetric"]
    runs = [
        PROPAGATION | {"initializer": kind, "cell": cell, "omega": omega, "sequence_length": 20, "seed": s, "rate": -0.1}
        for cell in ("vanilla", "residual", "layer_norm") for kind in kinds for s in (0, 1) for omega in (0.0,)
    ]  # fmt: skip
    data = growth_rate.frame(make_study(runs))
    heights = []
    for some in (data, data[data["x_name"].isin(kinds[:2])]):
        with style.theme():
            figure = growth_rate.draw(some)
            figure.draw_without_rendering()
        heights.append(figure.get_size_inches()[1])
        for ax in figure.axes:
            boxes = [
                label.get_window_extent()
                for label in ax.get_xticklabels()
                if label.get_visible() and not label.get_rotation()
            ]
            assert not any(one.x1 > other.x0 for one, other in itertools.pairwise(boxes))
    assert heights[0] > heights[1] + 0.3


def test_a_number_that_varies_is_the_axis_where_no_radius_does(make_study: Any) -> None:
    runs = grid(**PROPAGATION, hidden_size=[16, 64, 256], activation=["relu", "tanh"], sequence_length=20, seed=[0, 1])
    data, _, axes = show(growth_rate, make_study(runs))
    assert set(data["x_axis"]) == {"hidden_size"} and list(by_title(axes)) == ["relu", "tanh"]
    assert [label.get_text() for label in axes[2].get_xticklabels()] == ["16", "64", "256"]


@pytest.mark.parametrize("axis", ["sequence_length", "hidden_size"])
def test_growth_against_length_is_not_said_to_be_at_the_longest(axis: str, make_study: Any) -> None:
    """The caption says "at the longest sequence" of a figure whose axis is the length."""
    _, facts, _ = show(growth_rate, make_study(grid(**PROPAGATION | {axis: [16, 64]}, seed=[0, 1])))
    html = render("growth_rate", facts=facts | {"claims": []}).replace("\n", " ")
    assert ("at the longest sequence" in html) == (axis != "sequence_length")
    assert "beside what theory says. The rate" in html


def test_a_weight_that_cancels_the_state_has_no_line_of_the_linear_law() -> None:
    """A law of ln 0 draws nothing, and leaves a warning in the log of the figures."""
    with np.errstate(all="raise"):
        assert np.isnan(gradient_norm_by_step._linear_law(np.arange(3), pd.Series([-math.inf, 0.1]))).all()
        assert np.isnan(gradient_norm_by_step._linear_law(np.arange(3), pd.Series([None, None], dtype=float))).all()
        assert gradient_norm_by_step._linear_law(np.arange(3), pd.Series([LN10, LN10])).tolist() == [0.0, 1.0, 2.0]


# ---- the map


def test_radius_length_map(study: reader.Tables) -> None:
    data, facts, axes = show(radius_length_map, study)
    assert len(data) == 2 * 3 * 2
    cell = data[(data["panel"] == "identity") & (data["row"] == 1.2) & (data["sequence_length"] == 10)].iloc[0]
    assert cell["median"] == pytest.approx(9 * (math.log(1.2) + 0.01) / LN10) and cell["stable"] == 3
    identity, sigmoid, bar = axes
    border = collection(identity, "border").get_segments()
    assert sorted(map(np.ndarray.tolist, border)) == [[[0, 1], [1, 1]], [[1, 1], [2, 1]]]  # below the uppermost row
    assert not collection(sigmoid, "border").get_segments()  # it shrinks everywhere
    assert [label.get_text() for label in identity.get_yticklabels()] == ["1.2", "0.9", "0.5"]  # upwards
    assert -REGIME_DECADES in bar.get_yticks() and REGIME_DECADES in bar.get_yticks() and 0 in bar.get_yticks()
    numbers = [text.get_text() for text in identity.texts]
    assert numbers[:2] == ["0.3", "0.8"] and not any(text.get_path_effects() for text in identity.texts)
    assert plain(facts["title"]) == (
        "Longer sequences leave fewer settings in which every network keeps its gradient: 5 of 6 at T = 4, 2 at T = 10."
    )


def test_theory_borders_what_it_says_is_kept(make_study: Any) -> None:
    """A reader compares the dashed line with the palest colours: it must stand where theory passes a factor of 100, and be counted right."""
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.0, 1.5], sequence_length=[11, 21], seed=[0, 1, 2])
    for run in runs:
        run["rate"] = {0.5: -0.3, 1.0: 0.0, 1.5: 0.3}[run["spectral_radius"]]
        run["predicted"] = run["rate"] / (3 if run["spectral_radius"] == 1.5 else 1)
    data, facts, (ax, _) = show(radius_length_map, make_study(runs))
    row = data[(data["row"] == 0.5) & (data["sequence_length"] == 21)].iloc[0]
    assert row["predicted"] == pytest.approx(20 * -0.3 / LN10)
    dashed = sorted(segment.tolist() for segment in collection(ax, "theory").get_segments())
    assert dashed == [
        [[1, 2], [1, 3]],
        [[1, 2], [2, 2]],
    ]  # of the lowest row at T = 21 alone: −2.6 decades; theory's 1.5 keeps +0.87
    assert "Theory is right about whether the median gradient vanishes, stays or explodes in 5 of 6 settings." in map(
        plain, facts["claims"]
    )
    assert "theory" in facts["shown"] and "The dashed line is theory" in render(
        "radius_length_map", facts=facts | {"claims": []}
    )
    own = [run | {"cell": "gru"} for run in runs]  # of which nothing is predicted
    _, facts, (ax, _) = show(radius_length_map, make_study(own))
    assert (
        not collection(ax, "theory").get_segments()
        and "theory" not in facts["shown"]
        and "Theory" not in str(facts["claims"])
    )


def test_theory_says_nothing_where_sequences_end_earlier(make_study: Any) -> None:
    """At T = 24, 39 of 40 sequences of a file were shorter. Theory was given 23 steps, and so "vanishes" of a gradient that is kept."""
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.5], sequence_length=[8, 24], seed=[0, 1, 2])
    for run in runs:
        T, seed = run["sequence_length"], run["seed"]
        run |= {"predicted": -0.24, "rate": -0.12, "ends": (0, 7), "settled_to": 5 if T == 8 else 13 - (seed == 1)}
    tables = make_study(runs)
    data, facts, (ax, _) = show(radius_length_map, tables)
    assert data.loc[data["sequence_length"] == 24, "predicted"].isna().all()
    assert data.loc[data["sequence_length"] == 8, "predicted"].notna().all()
    assert not collection(ax, "theory").get_segments()
    said = "Theory is right about whether the median gradient vanishes, stays or explodes in 2 of 2 settings that it speaks of."
    assert said in map(plain, facts["claims"])
    frames = {"runs": pd.read_parquet(tables.files["runs"])}
    for _, each in addresses(" ".join(facts["claims"])):
        assert KINDS[each["kind"]](frames, each["where"]) == pytest.approx(each["value"]), each
    caption = " ".join(render("radius_length_map", facts=facts | {"claims": []}).split())
    assert "Theory says nothing at a length before which sequences of a file end" in caption
    assert "At other lengths it counts all steps of a sequence of a file, as if none ended earlier." in caption
    whole = [run | {"settled_to": 5 if run["sequence_length"] == 8 else 13} for run in runs]
    data, facts, _ = show(radius_length_map, make_study(whole))
    assert data["predicted"].notna().all() and {"early", "of a file"} & set(facts["shown"]) == {"of a file"}
    generated = [{name: value for name, value in run.items() if name != "ends"} for run in runs]
    data, facts, _ = show(radius_length_map, make_study(generated))
    assert data["predicted"].notna().all() and not {"early", "of a file"} & set(facts["shown"])


@pytest.mark.parametrize("rate", [0.3, 0.02])
def test_a_border_that_theory_covers_shows_on_both_sides(rate: float, make_study: Any) -> None:
    """The white below the dashes covered the thick line, which seemed to end."""
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.5], sequence_length=[11, 21], seed=[0, 1])
    for run in runs:
        run["rate"] = run["predicted"] = -0.01 if run["spectral_radius"] == 0.5 else rate
    _, facts, (ax, *_) = show(radius_length_map, make_study(runs))
    border, theory = collection(ax, "border"), collection(ax, "theory")
    edges = [[tuple(map(float, end)) for end in edge] for edge in theory.get_segments()]
    under = collection(ax, "theory underlay").get_linewidths()[0]
    shared = [
        width
        for edge, width in zip(border.get_segments(), border.get_linewidths(), strict=True)
        if [tuple(map(float, end)) for end in edge] in edges
    ]
    assert bool(shared) == (rate == 0.3) and all(width >= under + 3 for width in shared)
    html = render("radius_length_map", facts=facts | {"claims": []})
    assert ("Where both lines run together" in html) == (rate == 0.3)


def test_cells_whose_networks_disagree_are_marked(make_study: Any) -> None:
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.0], sequence_length=[11, 21], seed=[0, 1, 2])
    for run in runs:
        far = run["spectral_radius"] == 1.0 and run["sequence_length"] == 21 and run["seed"] == 2
        run["rate"] = 1.0 if far else -0.01
    data, facts, axes = show(radius_length_map, make_study(runs))
    corners = collection(axes[0], "split").get_paths()
    assert len(corners) == 1 and corners[0].vertices[:, 0].max() == 2.0 and corners[0].vertices[:, 1].min() == 0.0
    split = data[~data["agree"]]
    assert split[["row", "sequence_length", "stable", "exploding"]].to_numpy().tolist() == [[1.0, 21, 2, 1]]
    assert (
        plain(facts["claims"][0]) == "Networks of one kind disagree about it in 1 of 4 settings."
        and "split" in facts["shown"]
    )


def test_a_map_needs_two_rows_and_two_columns(make_study: Any) -> None:
    for varied in (
        {"sequence_length": [10, 20]},
        {"spectral_radius": [0.5, 1.0]},
        {"cell": ["gru", "lstm"], "sequence_length": [5, 9]},
    ):
        assert radius_length_map.frame(make_study(grid(**PROPAGATION | varied))).empty
    data = radius_length_map.frame(make_study(grid(**PROPAGATION, hidden_size=[8, 16], sequence_length=[5, 9])))
    assert set(data["axis"]) == {"hidden_size"} and len(data) == 4


def test_a_gap_in_the_map_is_no_border(make_study: Any) -> None:
    run = {"updates": 0}
    runs = [run | {"spectral_radius": r, "sequence_length": T} for r, T in ((0.5, 10), (0.5, 20), (2.0, 10))]
    _, _, axes = show(radius_length_map, make_study(runs))
    assert [segment.tolist() for segment in collection(axes[0], "border").get_segments()] == [[[0, 1], [1, 1]]]
    assert [text.get_text() for text in axes[0].texts if text.get_text()] == ["2.7", "−2.7", "−5.7"]


def test_the_caption_of_the_map_names_colours_that_are_there(study: reader.Tables, make_study: Any) -> None:
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 1.5], sequence_length=[11, 21])
    cases = {-2.0: {"blue"}, 0.0: {"pale", "border"}, 2.0: {"red"}}
    for rate, there in cases.items():
        tables = make_study(
            [run | {"rate": rate - (1e-3 if rate == 0 and run["spectral_radius"] < 1 else 0)} for run in runs]
        )
        _, facts, _ = show(radius_length_map, tables)
        assert {"blue", "pale", "red", "border"} & set(facts["shown"]) == there
        html = render("radius_length_map", facts=facts | {"claims": []})
        words = {"blue": "In blue cells", "pale": "palest colours", "red": "In red cells", "border": "thick line"}
        for name, word in words.items():
            assert (word in html) == (name in there), (rate, name)
            assert name == "border" or ({"pale": "white"}.get(name, name) in facts["alt"]) == (name in there)


def test_colours_of_the_map_change_exactly_where_stable_ends() -> None:
    cmap, norm = radius_length_map.colours()
    assert cmap(norm(1.99)) != cmap(norm(2.01)) and cmap(norm(0.01)) == cmap(norm(1.99))
    assert cmap(norm(-1.99)) != cmap(norm(-2.01)) and cmap(norm(-0.01)) != cmap(norm(0.01))


# ---- how far networks differ


def test_seed_distribution(study: reader.Tables) -> None:
    data, facts, axes = show(seed_distribution, study)
    assert len(data) == 36 and data["spread"].to_numpy() == pytest.approx(0.01)
    assert data.loc[data["seed"] == 2, "offset"].to_numpy() == pytest.approx(0.01)
    left, right = axes
    for line in lines(left, "spread"):
        assert line.get_xdata() == pytest.approx([4, 10]) and line.get_ydata() == pytest.approx([0.01, 0.01])
    for slope, gid in ((-1.0, "slope -1"), (-0.5, "slope -0.5"), (0.0, "slope 0")):
        assert lines(left, gid)[0].get_ydata() == pytest.approx([0.01, 0.01 * 2.5**slope])
    near = data[data["near"]]
    assert near.groupby("panel", observed=True)["scale"].unique().map(list).to_dict() == {
        "identity": [0.9],
        "sigmoid": [1.2],
    }
    offsets = collection(right, "networks").get_offsets()
    assert sorted(offsets[:, 0]) == pytest.approx(sorted([-0.01, 0.0, 0.01] * 2))
    assert [label.get_text() for label in right.get_yticklabels()] == ["identity\nρ = 0.9", "sigmoid\nρ = 1.2"]
    assert plain(facts["title"]) == (
        "From T = 4 to T = 10 the spread of rates over networks halves for none of identity and sigmoid."
    )
    assert len({line.get_linewidth() for line in lines(left, "spread")}) == 1  # the width has no meaning


@pytest.mark.parametrize(
    ("power", "words"),
    [
        (-1.0, "the spread of rates over networks falls by a factor of 10."),
        (-0.5, "the spread of rates over networks falls by a factor of 3.2."),
        (0.0, "the spread of rates over networks does not halve: it is 0.019, then 0.019."),
        (0.5, "the spread of rates over networks does not halve: it is 0.059, then 0.19."),
    ],
)
def test_the_headline_says_whether_length_averages(power: float, words: str, make_study: Any) -> None:
    runs = grid(**PROPAGATION, sequence_length=[10, 100], seed=SEEDS)
    runs = [run | {"rate": 0.01 * (run["seed"] - 2.5) * run["sequence_length"] ** power} for run in runs]
    data, facts, _ = show(seed_distribution, make_study(runs))
    assert plain(facts["title"]) == f"From T = 10 to T = 100 {words}"
    found = seed_distribution.typical(data)["spread"].tolist()
    assert found[1] / found[0] == pytest.approx(10**power)


def falling(names: list[str], count: int, make_study: Any) -> reader.Tables:
    """Kinds of network, of which the spread of the first ``count`` falls with the length, of each one faster."""
    runs = grid(**PROPAGATION, activation=names, sequence_length=[10, 100], seed=SEEDS)
    for run in runs:
        place = names.index(run["activation"])
        run["rate"] = (
            0.01 * (run["seed"] - 2.5) * run["sequence_length"] ** (-(1 - 0.1 * place) if place < count else 0.0)
        )
    return make_study(runs)


@pytest.mark.parametrize(
    ("kinds", "fall", "title"),
    [
        (3, 1, "falls by a factor of 10 for phi0; it does not halve for phi1 and phi2."),
        (3, 2, "falls by a factor of 10 for phi0, and more than halves for phi1; it does not halve for phi2."),
        (2, 2, "falls by a factor of 10 for phi0, and more than halves for phi1."),
        (2, 0, "halves for none of phi0 and phi1."),
        (20, 0, "halves in none of 20 kinds of network."),
        (20, 1, "more than halves in 1 of 20 kinds of network, by a factor of 10."),
        (20, 3, "more than halves in 3 of 20 kinds of network, the most by a factor of 10."),
    ],
)
def test_the_headline_tells_kinds_apart(kinds: int, fall: int, title: str, make_study: Any) -> None:
    tables = falling([f"phi{i}" for i in range(kinds)], fall, make_study)
    facts = seed_distribution.facts(seed_distribution.frame(tables), tables.study)
    whole = f"From T = 10 to T = 100 the spread of rates over networks {title}"
    assert plain(facts["title"]) == (whole if len(whole) <= 140 else whole.replace(" of rates", ""))
    frames = {"runs": pd.read_parquet(tables.files["runs"])}
    for _, address in addresses(facts["title"]):
        if address["kind"] != "setting":
            assert KINDS[address["kind"]](frames, address["where"]) == pytest.approx(address["value"]), address


def test_at_one_length_the_headline_has_the_kinds_that_differ_least_and_most(make_study: Any) -> None:
    runs = grid(**PROPAGATION, activation=["relu", "tanh"], sequence_length=20, seed=[0, 1])
    runs = [run | {"rate": (0.1 if run["activation"] == "relu" else 0.01) * run["seed"]} for run in runs]
    _, facts, _ = show(seed_distribution, make_study(runs))
    assert (
        plain(facts["title"])
        == "Growth rates of networks of one kind spread by 0.0071 (tanh) up to 0.071 (relu) a step at T = 20."
    )
    assert not any("differ most" in plain(claim) for claim in facts["claims"])  # the title has it


def test_regimes_within_a_kind_have_their_own_marks(make_study: Any) -> None:
    run = {"updates": 0, "sequence_length": 11}
    tables = make_study([run | {"seed": 0, "rate": -0.1}, run | {"seed": 1, "rate": -0.6}])
    data, facts, (ax, *_) = show(seed_distribution, tables)
    assert (
        set(data["regime"]) == {"stable", "vanishing"}
        and "regimes" in facts["shown"]
        and "lengths" not in facts["shown"]
    )
    colours = {tuple(np.round(c, 3)) for c in collection(ax, "networks").get_facecolors()}
    assert len(colours) == 2
    assert plain(facts["claims"][-1]) == "Networks do not even agree on whether gradients vanish, stay or explode."


def test_one_network_has_no_spread(make_study: Any) -> None:
    assert seed_distribution.frame(make_study(grid(**PROPAGATION, spectral_radius=[0.5, 1.0]))).empty


# ---- checks


def test_one_step_has_no_regime(make_study: Any) -> None:
    """The page said that there is no regime, and the legend "stable gradient"."""
    one = {"sequence_length": 1, "regime": None, "task": "white_noise"}
    _, facts, (ax,) = show(engine_checks, make_study([], [one]))
    (legend,) = ax.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["one step, no way back", "full: gate, before any table"]
    caption = " ".join(render("engine_checks", facts=facts | {"claims": []}).split())
    assert "so it has no regime" in caption and "vanished, stayed or exploded" not in caption
    longer = {"sequence_length": 1, "regime": "stable", "task": "copy_memory"}  # of 21 steps
    _, facts, (ax,) = show(engine_checks, make_study([], [longer]))
    assert ax.figure.legends[0].get_texts()[0].get_text() == "stable gradient" and "one step" not in facts["shown"]
    assert "vanished, stayed or exploded" in render("engine_checks", facts=facts | {"claims": []})


def test_a_study_of_one_cell_names_it(make_study: Any) -> None:
    """Of gated networks alone, the nearest check was "of tanh", as if they were vanilla ones."""
    for cell, named, row in (("vanilla", "of tanh at", "tanh"), ("gru", "of gru (tanh) at", "gru, tanh")):
        data, facts, _ = show(engine_checks, make_study([], [{"cell": cell, "sequence_length": 6}]))
        assert any(named in plain(claim) for claim in facts["claims"]) and list(data["network"]) == [row]


def test_engine_checks(study: reader.Tables) -> None:
    data, facts, (ax,) = show(engine_checks, study)
    assert len(data) == 4
    assert texts(ax, "program") == ["torch.autograd: 3 comparisons, 1 not finite", "torch.nn.RNN: 1 comparison"]
    assert plain(facts["title"]) == (
        "The largest relative error in 4 comparisons with PyTorch is 4 × 10⁻¹⁴; the tolerance is 2500 times larger."
    )
    assert "10 to the power of −14" in facts["alt"]
    claims = [plain(claim) for claim in facts["claims"]]
    assert claims[1:] == ["In 1 of them neither program found a finite result.", "1 of them agreed to the last bit."]
    assert "the gradient with respect to weight_hh, of relu at ρ = 1 and T = 6" in claims[0]
    assert lines(ax, "tolerance")[0].get_xdata() == pytest.approx([1e-10, 1e-10], rel=1e-12)
    assert lines(ax, "epsilon")[0].get_xdata() == pytest.approx([2.0**-52] * 2, rel=1e-12)
    assert collection(ax, "sweep").get_offsets()[:, 0].tolist() == [4e-14]
    assert texts(ax, "worst name") == ["worst 4 × 10⁻¹⁴ "] or texts(ax, "worst name") == [" worst 4 × 10⁻¹⁴"]


STEEP = {"oracle": "spectra: determinant", "relative_error": None, "where": "not compared: a step is steeper than autograd can tell"}  # fmt: skip


def test_what_was_not_compared_is_no_comparison(make_study: Any) -> None:
    """ "In 5 of them neither program found a finite result. 4 of them agreed to the last bit": four of these were not compared, and four are bounds."""
    zero = {"relative_error": 0.0}
    bounds, frames = [zero | {"oracle": f"spectra: {name}"} for name in ("bounds", "forward frame")]
    eigenvalues, module = {"oracle": "spectra: eigenvalues"}, zero | {"oracle": "torch.nn.RNN"}
    neither, room = {"relative_error": None}, STEEP | {"oracle": "torch.autograd", "where": "not compared: no room for every step"}  # fmt: skip
    tables = make_study([], [STEEP, STEEP, bounds, bounds, bounds, frames, eigenvalues, module, neither, {}, room])
    _, facts, (ax,) = show(engine_checks, tables)
    assert "8 comparisons with PyTorch and with exact identities" in plain(facts["title"])
    assert [plain(claim) for claim in facts["claims"][1:]] == [
        "In 1 of them neither program found a finite result.",
        "1 of them agreed to the last bit.",
        "In 1 of them the difference is no more than rounding explains.",
        "In 3 of them a ratio of norms only has to stay below a bound, and does.",
        "3 more were left out: a step is steeper than autograd can tell or there is no room for every step.",
    ]
    assert {"spectra: determinant: 2 left out", "spectra: bounds: 3 comparisons"} <= set(texts(ax, "program"))
    assert "torch.autograd: 2 comparisons, 1 not finite, 1 left out" in texts(ax, "program")
    frames_of = {"checks": pd.read_parquet(tables.files["checks"])}
    for _, each in addresses(" ".join([facts["title"], *facts["claims"]])):
        if each["kind"] != "setting":
            assert KINDS[each["kind"]](frames_of, each["where"]) == pytest.approx(each["value"], rel=1e-9), each
    caption = " ".join(render("engine_checks", facts=facts | {"claims": []}).split())
    assert "a difference that rounding explains, or a bound that holds, or no error at all." in caption
    assert "A row without a mark has no error to tell." in caption
    (legend,) = ax.figure.legends
    assert legend.get_texts()[-1].get_text() == "leftmost: no error beyond rounding"
    assert plain(check_sentence(frames_of["checks"])).startswith("engine compared with PyTorch, and its spectra with exact identities, 8 times")  # fmt: skip
    rows = {row["oracle"]: (row["nonfinite"], row["left_out"]) for row in check_summary(frames_of["checks"])}
    assert rows["torch.autograd"] == (1, 1) and rows["spectra: determinant"] == (0, 2)


@pytest.mark.parametrize(
    ("checks", "title"),
    [
        ([STEEP], "No check of this study could be made."),
        ([{"oracle": "spectra: bounds", "relative_error": 0.0}, {"relative_error": 0.0}],
         "All of 2 comparisons with PyTorch and with exact identities agree within rounding."),
        ([{"relative_error": 0.0}, {"relative_error": 0.0}], "All of 2 comparisons with PyTorch agree to the last bit."),
    ],
)  # fmt: skip
def test_no_error_is_not_always_the_last_bit(checks: list[Any], title: str, make_study: Any) -> None:
    assert plain(show(engine_checks, make_study([], checks))[1]["title"]) == title


def test_labels_of_checks_lie_above_all_dots(study: reader.Tables) -> None:
    _, _, (ax,) = show(engine_checks, study)
    highest = min(c.get_offsets()[:, 1].min() for c in ax.collections)
    named = [
        text
        for text in ax.texts
        if "worst" in text.get_text() or "tolerance" in text.get_text() or "ε" in text.get_text()
    ]
    assert len(named) == 3 and all(text.get_position()[1] < highest - 0.9 for text in named)
    rows = {label.get_text() for label in ax.get_yticklabels()}
    headings = [text.get_position()[1] for text in ax.texts if text.get_gid() == "program"]
    dots = list(itertools.chain(*(np.ma.compressed(c.get_offsets()[:, 1]) for c in ax.collections)))
    assert len(dots) == 3  # the fourth has no error
    assert rows == {"relu", "tanh"} and all(abs(dot - heading) > 0.5 for dot in dots for heading in headings)


def test_a_check_above_the_tolerance_is_the_headline(make_study: Any) -> None:
    _, facts, _ = show(engine_checks, make_study([], [{"relative_error": 1e-3}, {}]))
    assert plain(facts["title"]).startswith("1 of 2 comparisons with PyTorch exceeds the tolerance")


def test_programs_have_rows_of_their_own_networks_alone(cells: reader.Tables) -> None:
    _, facts, (ax,) = show(engine_checks, cells)
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows == ["vanilla", "residual", "gru", "gru_reset_before", "lstm", "gru"]
    assert "modules" in facts["shown"] and "sweep" not in facts["shown"]


def test_types_have_panels_of_their_own(make_study: Any) -> None:
    checks = [{}, {"dtype": "float32", "tolerance": 1e-3, "relative_error": 3e-7}]
    _, facts, axes = show(engine_checks, make_study([], checks))
    assert list(by_title(axes)) == ["float32", "float64"]
    assert [lines(ax, "tolerance")[0].get_xdata()[0] for ax in axes] == [1e-3, 1e-10]
    assert plain(facts["title"]) == "The largest error in 2 comparisons with PyTorch is 0.03 % of what is allowed."


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("x, t = 12", "the gradient with respect to the input x, at t = 12"),
        ("hidden, t = 3", "the gradient with respect to the hidden state, at t = 3"),
        (
            "log_norm of hidden, t = 3",
            "the logarithmic norm of the gradient with respect to the hidden state, at t = 3",
        ),
        ("initial state, hidden", "the gradient with respect to the initial hidden state"),
        ("weight_hh", "the gradient with respect to weight_hh"),
        ("weight_hh, layer 2", "the gradient with respect to weight_hh of layer 2"),
        ("weight_hh_l1_reverse", "the gradient with respect to weight_hh_l1_reverse"),
        ("w_rec.weight", "the gradient with respect to w_rec.weight"),
        ("x, t = 27, layer 2", "the gradient with respect to the input x of layer 2, at t = 27"),
        (
            "x, t = 2, layer 2, forward",
            "the gradient with respect to the input x of layer 2 in its forward direction, at t = 2",
        ),
        (
            "hidden, t = 12, layer 1, reverse in its own time",
            "the gradient with respect to the hidden state of layer 1 in its reverse direction, at t = 12, in that direction's own time",
        ),
        (
            "bias_ih, reverse in its own time",
            "the gradient with respect to bias_ih in its reverse direction",
        ),
        (
            "initial state, cell, layer 3, forward",
            "the gradient with respect to the initial cell state of layer 3 in its forward direction",
        ),
        (
            "direct part of hidden, reverse in its own time, t = 4",
            "the direct part of the gradient with respect to the hidden state in its reverse direction, at t = 4, in that direction's own time",
        ),
        ("state cell, t = 5", "the cell state, at t = 5"),
        ("state hidden, t = 5, layer 2", "the hidden state of layer 2, at t = 5"),
        ("m of the state, t = 6", "the state m, at t = 6"),
        ("dL/d(m before the first step)", "the gradient with respect to the initial state m"),
        ("output", "the network's output"),
        ("loss", "the loss"),
        ("dL/dy", "the gradient with respect to the output"),
        ("Ω", "the penalty Ω"),
        ("∂Ω/∂W_hh", "the gradient of the penalty Ω with respect to weight_hh"),
    ],
)
def test_the_nearest_check_is_named_in_words(where: str, words: str, make_study: Any) -> None:
    """A form that the oracles write ended the page ("2, layer 2, forward" is no step), or a state was called a gradient."""
    tables = make_study([], [{"where": where, "relative_error": 4e-12}])
    _, facts, _ = show(engine_checks, tables)
    assert (
        plain(facts["title"])
        == "The relative error in 1 comparison with PyTorch is 4 × 10⁻¹²; the tolerance is 25 times larger."
    )
    assert f"4 × 10⁻¹²: {words}, of tanh at" in plain(facts["claims"][0])


def test_checks_after_training_are_said_where_there_are_some(make_study: Any) -> None:
    for stage, update, said in (("gate", 0, False), ("sweep", 0, False), ("sweep", 3, True)):
        _, facts, _ = show(engine_checks, make_study([], [{"stage": stage, "update": update}]))
        assert ("after part of their training" in render("engine_checks", facts=facts | {"claims": []})) == said


def test_two_ends_that_read_the_same_are_one() -> None:
    """The page said "misses by 0.36 decades (a) up to 0.36 (b)"."""
    runs = pd.DataFrame(
        {"cell": ["a", "b"], "task": "white_noise", "sequence_length": 11, "linear_rate": np.nan, "rest_rate": -0.1,
         "log10_gradient_ratio": [-0.7951, -0.7952], "seed": 0}
    )  # fmt: skip
    said = gradient_norm_by_step._miss(runs, "law at rest", "rest_law_miss", "cell")
    assert [plain(text) for text in said] == ["In the median over networks, the law at rest misses by 0.36 decades."]
    runs.loc[1, "log10_gradient_ratio"] = -1.0
    [text] = gradient_norm_by_step._miss(runs, "law at rest", "rest_law_miss", "cell")
    assert plain(text) == "In the median over networks, the law at rest misses by 0.36 decades (a) up to 0.57 (b)."
    radii = pd.concat([runs.assign(log10_gradient_ratio=runs["log10_gradient_ratio"] + step) for step in (0.0, -0.1)])
    [text] = gradient_norm_by_step._miss(radii, "law at rest", "rest_law_miss", "cell")  # at which nobody could tell
    assert plain(text).startswith(
        "In the median over settings and networks, the law at rest misses by 0.41 decades (a)"
    )


def same_by_construction(make_study: Any) -> reader.Tables:
    """Two cells with a second direction or without, in one layer and two, with a loss at the last step or at every one."""
    varied = {"bidirectional": [False, True], "loss_at": ["last", "every"], "layers": [1, 2]}
    runs = grid(
        **PROPAGATION | {"loss_at": "last", "layers": 1} | varied,
        cell=["gru", "lstm"],
        sequence_length=[6, 20],
        seed=SEEDS,
    )
    for run in runs:
        of_stack = 0.3 * run["bidirectional"] * (run["layers"] > 1)
        run["rate"] = -0.2 - 0.01 * run["seed"] * (20 / run["sequence_length"]) ** (run["cell"] == "gru") - of_stack
    return make_study(runs)


def test_networks_whose_rates_are_the_same_by_construction_are_counted_once(make_study: Any) -> None:
    """ "Halves in 8 of 16 kinds of network" was of two kinds, four times each: growth is of the last step's loss alone."""
    tables = same_by_construction(make_study)
    data, facts, (left, *_) = show(seed_distribution, tables)
    assert "in 3 of 6 kinds of network" in plain(facts["title"])
    assert len(data) == 6 * 2 * 6 and len(lines(left, "spread")) == 6
    assert set(data["panel"]) == {
        *(f"{cell} (L = 1, one direction)" for cell in ("gru", "lstm")),
        *(f"{cell} (L = 2, {way})" for cell in ("gru", "lstm") for way in ("one direction", "bidirectional")),
    }
    assert "Networks whose rates are the same by construction are counted once." in " ".join(
        map(plain, facts["claims"])
    )


def test_what_is_so_by_construction_is_no_finding(make_study: Any) -> None:
    """The page found that places of the loss "make little difference", and a mean over L held a difference that is always zero."""
    said = " ".join(map(plain, same_by_construction(make_study).study.sentences))
    assert "The place of the loss changes no growth rate, by construction" in said
    assert "each counts once for every place of the loss" in said
    assert "For L = 1 the difference is zero by construction, and lessens this mean" in said
    # rates that are not the same are told as they are
    others = grid(**PROPAGATION | {"loss_at": ["last", "every"]}, cell="gru", sequence_length=9, seed=SEEDS)
    others = [run | {"rate": -0.2 * (1 + (run["loss_at"] == "last")) - 0.01 * run["seed"]} for run in others]
    assert "by construction" not in " ".join(map(plain, make_study(others).study.sentences))


def labels_of(axes: list[Axes]) -> list[str]:
    """What the legend of a figure says."""
    figure = axes[0].figure
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_a_tick_of_a_kind_that_has_no_median_is_explained(make_study: Any) -> None:
    """One network of six turned at 0.54, and neither legend nor caption said what the tick was. The headline hid kinds of one sign."""
    runs = grid(
        **PROPAGATION,
        activation=["relu", "tanh", "elu", "selu"],
        spectral_radius=[0.5, 1.5],
        sequence_length=9,
        seed=SEEDS,
    )
    level = {"relu": 0.5, "elu": 0.6, "tanh": -0.5, "selu": 0.4}
    for run in runs:
        turns = run["activation"] == "selu" and run["seed"] == 0
        run["rate"] = run["spectral_radius"] - 1.0 if turns else level[run["activation"]]
    _, facts, axes = show(growth_rate, make_study(runs))
    labels = labels_of(axes)
    assert "turning point: one network" in labels and not any("median" in each for each in labels)
    said = " ".join(render("growth_rate", facts=facts).split())
    assert (
        "A tick on the zero line is the spectral radius ρ at which one network turns" in said
        and "The diamond" not in said
    )
    many = [
        run | {"initializer": name} for run in runs
        for name in ("gaussian", "orthogonal", "glorot", "sparse")
    ]  # fmt: skip
    _, facts, _ = show(growth_rate, make_study(many))
    assert plain(facts["title"]) == (
        "Growth per step back is positive at every ρ in some kinds of network, negative in others, and turns at no single ρ in the rest."
    )


def test_the_turning_point_of_one_network_is_no_median(make_study: Any) -> None:
    runs = grid(**PROPAGATION, spectral_radius=[0.5, 3.0], sequence_length=9, seed=[0])
    _, facts, axes = show(growth_rate, make_study([run | {"rate": run["spectral_radius"] - 1.0} for run in runs]))
    assert [each for each in labels_of(axes) if "turning point: " in each and "theory" not in each] == [
        "turning point: one network"
    ]
    said = " ".join(render("growth_rate", facts=facts).split())
    assert (
        "A diamond on the zero line is the spectral radius ρ at which one network turns" in said
        and "median of the ticks" not in said
    )
    assert not lines(axes[0], "turning") and len(lines(axes[0], "critical")) == 1


def test_intervals_of_turning_points_do_not_lie_on_each_other(make_study: Any) -> None:
    """The black bars of four kinds of network lay on one another on the zero line."""
    kinds = ["gaussian", "orthogonal", "glorot", "sparse", "ring"]  # the last never turns, and has no place
    runs = grid(**PROPAGATION, initializer=kinds, spectral_radius=[0.5, 1.5], sequence_length=9, seed=SEEDS)
    runs = [
        run | {"rate": run["spectral_radius"] - 1.0 - 0.05 * run["seed"] - (run["initializer"] == "ring")}
        for run in runs
    ]
    _, facts, (ax, *_) = show(growth_rate, make_study(runs))
    bars = lines(ax, "critical interval")
    heights = [bar.get_transform().transform((1.0, 0.0))[1] for bar in bars]
    assert len(bars) == 4 == len({round(each, 3) for each in heights}) == len({bar.get_color() for bar in bars})
    diamonds = [each.get_transform().transform((1.0, 0.0))[1] for each in lines(ax, "critical")]
    assert diamonds == pytest.approx(heights)
    assert np.mean(heights) == pytest.approx(ax.transData.transform((1.0, 0.0))[1])
    assert "stand a little above or below that line" in " ".join(render("growth_rate", facts=facts).split())
