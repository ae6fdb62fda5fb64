"""Several cells, settings that are null for some of them, and six clipping rules: names, laws, bounds and room."""

import itertools
import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from drawn import PROPAGATION, TRAINING, grid, lines, render, show
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import plot_clipping_norms
import plot_engine_checks
import plot_gradient_norm_by_step
import plot_growth_rate
import plot_learning_curves
import plot_radius_length_map
import plot_seed_distribution
import study_figures as sf

NAMES = [
    "vanilla",
    "residual",
    "residual, η = 0.1, λ = 0",
    "residual, η = 0.1, λ = 0.05",
    "residual, η = 0.1, λ = 0.1",
    "gru",
    "gru_reset_before",
    "lstm",
]
RULES = ["none", "norm:1.0", "value:0.1", "parameter:0.5", "adaptive:0.1", "signal:0.001"]
OKABE_ITO = {"#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}
AT_START = (plot_gradient_norm_by_step, plot_growth_rate, plot_radius_length_map, plot_seed_distribution)


def rate(run: dict[str, Any]) -> float:
    """Gated gradients shrink, residual ones hardly change, and with a leak they turn."""
    slope = {0.05: 0.02, 0.1: 0.01}.get(run.get("residual_leak", 0.0))
    turning = (
        math.log(run["spectral_radius"]) if run["cell"] == "vanilla" else (slope or 0.0) * (run["spectral_radius"] - 1)
    )
    return {"vanilla": turning, "residual": turning if slope else 0.01}.get(run["cell"], -0.3) - 0.001 * run["seed"]


@pytest.fixture(scope="module")
def cells(make_study: Any) -> sf.Tables:
    """Five cells, a residual one with three leaks, one activation function; training under six rules."""
    radii, seeds = [0.5, 1.2, 2.0], [0, 1]
    varied = {"spectral_radius": radii, "sequence_length": [5, 10], "seed": seeds}
    every = ["vanilla", "residual", "gru", "gru_reset_before", "lstm"]
    runs = grid(**PROPAGATION, cell=every, **varied)
    runs += grid(
        **PROPAGATION, cell="residual", residual_step=0.1, residual_leak=[0.0, 0.05, 0.1], **varied, sweep="leaks"
    )
    runs = [run | {"rate": rate(run)} for run in runs]
    training = TRAINING | {"task": "input_mean", "clipping": RULES, "accuracy": None}
    runs += grid(**training, cell=["vanilla", "gru"], seed=seeds, sweep="clipping")
    checks = [
        {"cell": cell, "oracle": oracle}
        for cell, oracle in (*((cell, "torch.autograd") for cell in every), ("gru", "torch.nn.GRU"), ("vanilla", "torch.nn.RNN"))
    ]  # fmt: skip
    return make_study(runs, checks)


@pytest.fixture(scope="module")
def gated(make_study: Any) -> sf.Tables:
    return make_study(grid(**PROPAGATION, cell=["gru", "lstm"], spectral_radius=[0.5, 1.5], sequence_length=10))


@pytest.mark.parametrize("module", AT_START)
def test_names_have_the_cell_first_and_nothing_null_or_common(module: ModuleType, cells: sf.Tables) -> None:
    data, facts, axes = show(module, cells)
    assert list(data["panel"].cat.categories) == NAMES
    titles = [ax.get_title(loc="left").replace("\n", " ").replace("\u00a0", " ") for ax in axes]
    assert [title for title in titles if title] == NAMES
    assert facts["claims"]["common"] == "The same in all panels: activation tanh."
    words = [facts["title"], facts["alt"], *facts["claims"].values(), *facts["numbers"].values()]
    assert not any("nan" in word or "None" in word for word in words)


@pytest.mark.parametrize("module", AT_START)
def test_panel_titles_do_not_overlap(module: ModuleType, cells: sf.Tables) -> None:
    with sf.theme():
        figure: Figure = module.draw(module.frame(cells))
        figure.draw_without_rendering()
    boxes = [ax._left_title.get_window_extent() for ax in figure.axes]  # type: ignore[attr-defined]
    boxes = [box for box in boxes if box.width > 1]
    assert len(boxes) == len(NAMES)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    legends = [legend.get_window_extent() for legend in figure.legends]
    assert not any(box.overlaps(legend) for box in boxes for legend in legends)


@pytest.mark.parametrize("module", AT_START)
def test_headlines_fit_on_three_lines(module: ModuleType, cells: sf.Tables) -> None:
    figure = Figure()
    sf.headline(figure, module.facts(module.frame(cells))["title"])
    assert figure.get_suptitle().count("\n") <= 2


def test_a_headline_with_too_many_names_counts_instead(cells: sf.Tables) -> None:
    facts = plot_growth_rate.facts(plot_growth_rate.frame(cells))
    assert facts["title"].startswith("Of 8 kinds of network, gradients neither shrink nor grow at a ρ between 1.02")
    assert facts["title"].endswith("in 3, shrink at every ρ tried in 3 and grow at every ρ tried in 2.")
    assert "residual (η = 0.1, λ = 0.05)" in facts["claims"]["crossings"]  # the names are in the caption


def by_title(axes: list[Axes]) -> dict[str, Axes]:
    titles = [ax.get_title(loc="left").replace("\n", " ").replace("\u00a0", " ") for ax in axes]
    return {title: ax for title, ax in zip(titles, axes, strict=True) if title}


def test_the_linear_law_is_the_cells_own(cells: sf.Tables) -> None:
    data, facts, axes = show(plot_gradient_norm_by_step, cells)
    found = by_title(axes)
    for name, factor in (("vanilla", 0.5), ("residual", 1.5), ("residual, η = 0.1, λ = 0.05", 1.0)):
        assert lines(found[name], "linear")[0].get_ydata() == pytest.approx(np.arange(10) * math.log10(factor))
    assert not any(lines(found[name], "linear") for name in ("gru", "gru_reset_before", "lstm"))
    assert "(1 − λ) I + η W_hh" in facts["claims"]["linear"] and "gru" not in facts["claims"]["linear"]
    assert data.loc[data["cell"] == "lstm", "linear"].isna().all()


def test_nothing_is_claimed_of_gated_cells(gated: sf.Tables) -> None:
    _, facts, axes = show(plot_gradient_norm_by_step, gated)
    assert not any(lines(ax, "linear") for ax in axes) and "linear" not in facts["claims"]
    assert "linear law" not in render("gradient_norm_by_step", facts=facts)
    _, facts, axes = show(plot_growth_rate, gated)
    assert not any(lines(ax, theory) for ax in axes for theory in ("linear", "bound", "predicted"))
    assert "bound" not in facts["claims"] and "prediction" not in facts["alt"]
    html = render("growth_rate", facts=facts)
    assert not any(word in html for word in ("Dashed", "Dotted", "solid line", "strip"))
    (legend,) = plot_growth_rate.draw(plot_growth_rate.frame(gated)).legends
    assert [text.get_text().split(",")[0] for text in legend.texts] == ["measured", "critical ρ: measured rate is 0"]


def test_growth_rate_of_cells_without_a_prediction(cells: sf.Tables) -> None:
    data, facts, axes = show(plot_growth_rate, cells)
    found = by_title(axes)
    strips = [ax for ax in axes if lines(ax, "deviation")]
    empty = [ax for ax in axes if [text.get_text() for text in ax.texts] == ["no prediction for this cell"]]
    assert len(strips) == 1 and len(empty) == 7
    assert not any(ax.axison or ax.lines for ax in empty)  # neither axes nor a line at 0
    assert max(np.abs(strips[0].get_ylim())) < 0.2  # and they do not stretch the scale of the one that shows something
    assert lines(found["residual"], "bound")[0].get_ydata() == pytest.approx(np.log([2.0, 3.4, 5.0]))
    assert not lines(found["gru"], "bound") and not lines(found["gru"], "linear")
    bounded = int(data.loc[data["bound"].notna(), "seeds"].sum())
    assert facts["claims"]["bound"] == f"Of the {bounded} runs that have an upper bound none lies above it."
    assert "no prediction for residual, gru, gru_reset_before and lstm" in facts["claims"]["without"]
    labels = [text.get_text() for text in plot_growth_rate.draw(data).legends[0].texts]
    assert "linear law ln ρ (residual: of (1 − λ) I + η W)" in labels
    assert any("1-\\lambda+\\eta" in label for label in labels)
    assert "for a residual cell ln(1 − λ + η γ σ" in render("growth_rate", facts=facts)


def test_six_rules_have_a_column_each(cells: sf.Tables) -> None:
    data, facts, axes = show(plot_clipping_norms, cells)
    assert sf.rules(data["clipping"]) == RULES and "left_out" not in facts["claims"]
    assert len(axes) == 2 * 6 and list(data["panel"].cat.categories) == ["vanilla", "gru"]
    headed = [text.get_text() for ax in axes for text in ax.texts if text.get_gid() == "rule"]
    assert headed == ["no clipping", *RULES[1:]]
    assert [bool(lines(ax, "threshold")) for ax in axes[:6]] == [rule.startswith("norm") for rule in RULES]
    boxes = [text.get_window_extent() for ax in axes for text in ax.texts if text.get_gid() == "rule"]
    boxes += [ax._left_title.get_window_extent() for ax in axes]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_the_caption_explains_every_rule_that_occurs(cells: sf.Tables, study: sf.Tables) -> None:
    def html(tables: sf.Tables) -> str:
        return render("clipping_norms", facts=plot_clipping_norms.facts(plot_clipping_norms.frame(tables)))

    kinds = [rule.partition(":")[0] for rule in RULES[1:]]
    assert all(f"The rule <em>{kind}</em>" in html(cells).replace("\n", " ") for kind in kinds)
    assert [f"<em>{kind}</em>" in html(study) for kind in kinds] == [True, True, False, False, False]


def test_colours_of_six_rules_are_safe_for_colour_blind_eyes() -> None:
    colours = sf.rule_colours(RULES)
    assert len(set(colours.values())) == 6 and set(colours.values()) - {sf.INK} <= OKABE_ITO


def test_learning_curves_of_six_rules(cells: sf.Tables) -> None:
    _, facts, axes = show(plot_learning_curves, cells)
    widths = [lines(axes[0], f"loss {rule}")[0].get_linewidth() for rule in RULES]
    order = [line.get_gid() for line in axes[0].lines if str(line.get_gid()).startswith("loss")]
    assert order == [f"loss {rule}" for rule in RULES] and np.all(np.diff(widths) < -0.5)  # coinciding lines all show
    assert facts["claims"]["widths"] == plot_learning_curves.WIDTHS
    assert len(facts["title"]) < 2 * 84 and facts["title"].endswith("no run broke down.")


def test_the_best_without_clipping_is_a_short_headline(make_study: Any) -> None:
    runs = grid(**TRAINING | {"clipping": RULES})
    tables = make_study([run | {"accuracy": 0.9 if run["clipping"] == "none" else 0.5} for run in runs])
    facts = plot_learning_curves.facts(plot_learning_curves.frame(tables))
    assert facts["title"] == (
        "digits: median held-out accuracy is 90 % with no clipping, the best of 6 rules; no run broke down."
    )


def test_modules_share_a_panel_and_no_row_is_empty(cells: sf.Tables) -> None:
    data, facts, (autograd, modules) = show(plot_engine_checks, cells)
    assert set(data["panel"]) == {"torch.autograd, float64", "torch.nn modules, float64"}
    rows = [[label.get_text() for label in ax.get_yticklabels()] for ax in (autograd, modules)]
    assert rows == [["vanilla", "residual", "gru", "gru_reset_before", "lstm"], ["vanilla", "gru"]]
    assert facts["numbers"]["modules"] == "torch.nn.GRU and torch.nn.RNN"
    html = render("engine_checks", facts=facts).replace("\n", " ")
    assert "torch.nn.GRU and torch.nn.RNN" in html and "LSTM" not in html
