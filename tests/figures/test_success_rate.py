"""The figure of success rates: counts, intervals, medians, verdicts and published marks, from synthetic runs."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy.stats import binomtest

from study.report import layout, style
from study.report.words import plain
from tests.figures.drawn import Settings, lines, render, show

success_rate = importlib.import_module("figures.success_rate")
training_results = importlib.import_module("figures.training_results")
ASKED = {
    "task": "temporal_order",
    "loss_at": "last",
    "updates": 1000,
    "success_below": 0.01,
    "record_every": 500,
    "accuracy": 0.5,
}


def runs(chance: dict[str, dict[int, int]], seeds: int, **more: Any) -> list[Settings]:
    """By rule and length, how many seeds succeed: the first ones, seed s after 100 (s + 1) updates."""
    return [
        {
            **ASKED, **more, "clipping": rule, "sequence_length": T, "seed": seed,
            "success": seed < count, "updates_to_success": 100 * (seed + 1) if seed < count else None,
        }
        for rule, by_length in chance.items() for T, count in by_length.items() for seed in range(seeds)
    ]  # fmt: skip


def test_rates_have_wilsons_interval_and_medians_are_of_the_successful(make_study: Any) -> None:
    """Runs are miscounted, an interval is another, or a run without success counts among the updates."""
    tables = make_study(runs({"none": {10: 5, 20: 0}, "norm:1.0": {10: 5, 20: 3}}, seeds=5))
    data, facts, axes = show(success_rate, tables)
    assert data[["line", "sequence_length", "succeeded", "runs"]].values.tolist() == [
        ["no clipping", 10, 5, 5], ["no clipping", 20, 0, 5], ["norm:1.0", 10, 5, 5], ["norm:1.0", 20, 3, 5],
    ]  # fmt: skip
    for row in data.itertuples():
        interval = binomtest(row.succeeded, 5).proportion_ci(method="wilson")
        np.testing.assert_allclose([row.low, row.high], [interval.low, interval.high], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(data["median"], [300.0, np.nan, 300.0, 200.0])
    assert plain(facts["title"]) == "5 of 10 runs succeed with no clipping and 8 of 10 with norm:1.0."
    claims = " ".join(map(plain, facts["claims"]))
    assert "fewer than 1 % of the held-out sequences wrongly, within 1 000 updates" in claims
    assert "With no clipping, the longest T at which a run succeeds is 10 (5 of 5, 57 % to 100 %)." in claims
    assert "With norm:1.0, the longest T at which a run succeeds is 20 (3 of 5, 23 % to 88 %)." in claims
    few = "Too few seeds to tell (5 seeds; at least six are needed) which of no clipping and norm:1.0 succeeds more often."
    assert few in claims
    (rate,) = [container for container in axes[0].containers if container.lines[0].get_gid() == "rate norm:1.0"] or [
        None
    ]
    drawn = (
        rate.lines[0] if rate else next(line for line in axes[0].lines if np.array_equal(line.get_ydata(), [1.0, 0.6]))
    ).get_ydata()
    np.testing.assert_array_equal(drawn, [1.0, 0.6])
    assert lines(axes[1], "budget")[0].get_ydata()[0] == 1000


@pytest.mark.parametrize(
    ("better", "claimed"),
    [(8, "More runs succeed with norm:1.0 than with no clipping: by +"), (2, "no clear difference")],
)
def test_a_difference_is_claimed_where_a_test_says_so(make_study: Any, better: int, claimed: str) -> None:
    """Two counts that chance explains are called different, or a clear difference is passed over."""
    tables = make_study(runs({"none": {10: 1, 20: 0}, "norm:1.0": {10: better, 20: better}}, seeds=8))
    _, facts, _ = show(success_rate, tables)
    claims = " ".join(map(plain, facts["claims"]))
    assert claimed in claims and ("More runs" in claims) == (better == 8)


def test_the_page_says_how_many_succeed(make_study: Any) -> None:
    """The answer in short says nothing of success, or counts other runs than the figure."""
    tables = make_study(runs({"none": {10: 1, 20: 0}, "norm:1.0": {10: 8, 20: 4}}, seeds=8))
    said = " ".join(map(plain, tables.study.answer))
    low, high = (round(100 * end) for end in binomtest(6, 8).proportion_ci(method="wilson"))
    few, some = (
        (2 / 16 + 1.96**2 / 8 + side * 1.96 * (4 / 8 * (15 / 256) + (1.96 / 8) ** 2) ** 0.5) / 2 / (1 + 1.96**2 / 8)
        for side in (-1, 1)
    )
    assert (
        f"1 of 16 runs with no clipping succeed ({round(100 * few)} % to {round(100 * some)} %) and 12 of 16 with norm:1.0 ({low} % to {high} %), within 1000 updates"
        in said
    )
    assert "Success takes between 100 and 800 updates, half of the time at most 300." in said
    three = " ".join(
        map(plain, make_study(runs({"none": {10: 1}, "norm:1.0": {10: 2}, "norm:0.1": {10: 0}}, seeds=2)).study.answer)
    )
    assert (
        "On temporal_order, so many runs succeed within 1000 updates: 1 of 2 with no clipping (9 % to 91 %); 2 of 2 with norm:1.0 "
        in three
    )
    none = " ".join(map(plain, make_study(runs({"none": {10: 0}}, seeds=2)).study.answer))
    assert "none of 2 runs succeed (0 % to 66 %), within 1000 updates. More updates might change that." in none


def test_published_marks_stand_only_beside_their_settings(make_study: Any) -> None:
    """A published number is drawn beside runs of another setting, or not beside its own."""
    theirs = success_rate.PUBLISHED[0]["settings"]
    others: list[Settings] = [{"hidden_size": 64}, {"learning_rate": 0.1}, {"spectral_radius": 1.0}, {"omega": 0.0}]
    for change, marked in (({}, [50]), *((other, []) for other in others)):
        own = runs({"norm:1.0": {50: 1, 60: 0}}, seeds=2, **{**theirs, **change})
        data, facts, axes = show(success_rate, make_study(own))
        assert data.loc[data["published"].notna(), "sequence_length"].tolist() == marked
        assert [x for line in lines(axes[0], "published") for x in line.get_xdata()] == marked
        ours = "Of ours, 1 of 2 succeed within 1 000 updates, a difference of −50 points (−91 to +9)."
        assert (ours in map(plain, facts["claims"])) == bool(marked)
        assert (
            ("published" in facts["shown"])
            == any("Published" in plain(claim) for claim in facts["claims"])
            == bool(marked)
        )


def test_a_regulariser_makes_a_line_of_its_own(make_study: Any) -> None:
    """Runs with and without Ω are one line, or those without it are said to have a weight of zero."""
    both = [run for omega in (0.0, 4.0) for run in runs({"none": {10: 1}, "norm:1.0": {10: 2}}, seeds=2, omega=omega)]
    data, _, _ = show(success_rate, make_study(both))
    assert list(data["line"]) == [
        "no clipping",
        "no clipping and Ω weight = 4",
        "norm:1.0",
        "norm:1.0 and Ω weight = 4",
    ]


def test_many_lines_have_a_short_headline_and_a_sentence_each(make_study: Any) -> None:
    """Four lines were counted in a headline of four lines, and three panels had sentences of eighty words."""
    table = {"pascanu_sigmoid": (0, 1, 0, 2), "pascanu_tanh": (2, 4, 3, 4), "pascanu_smart": (2, 4, 4, 4)}
    every = [
        run for kind, counts in table.items()
        for (rule, omega), count in zip((("none", 0.0), ("none", 4.0), ("norm:1.0", 0.0), ("norm:1.0", 4.0)), counts, strict=True)
        for run in runs({rule: {20: count, 50: count // 2}}, seeds=6, omega=omega, initializer=kind, sweep=kind)
    ]  # fmt: skip
    _, facts, _ = show(success_rate, make_study(every))
    claims = list(map(plain, facts["claims"]))
    title = plain(facts["title"])
    assert title.startswith("44 of 144 runs succeed: most with norm:1.0 and Ω weight = 4 (") and len(title) < 130
    assert title.endswith(", fewest with no clipping (6 of 36).")
    assert (
        "With no clipping, the longest T at which a run succeeds is 50 for pascanu_smart (1 of 6, 3 % to 56 %) and pascanu_tanh "
        "(1 of 6, 3 % to 56 %). No run succeeds for pascanu_sigmoid." in claims
    )
    assert (
        "With no clipping and Ω weight = 4, a run succeeds up to this T: 50 for pascanu_smart (2 of 6, 10 % to 70 %) and "
        "pascanu_tanh (2 of 6, 10 % to 70 %); 20 for pascanu_sigmoid (1 of 6, 3 % to 56 %)." in claims
    )
    assert sum("no Ω and Ω weight = 4" in claim or "with Ω weight = 4 than with no Ω" in claim for claim in claims) > 0
    assert facts["answer"][0] in facts["claims"] and len(facts["answer"]) > 4


def test_lines_without_success_are_named_apart(make_study: Any) -> None:
    """ "With no clipping, no clipping and Ω weight = 4, norm:1.0 and norm:1.0 and Ω weight = 4, no run succeeds" is read three times."""
    none = [
        run for omega in (0.0, 4.0) for run in runs({"none": {10: 0}, "norm:1.0": {10: 0, 20: 0}}, seeds=2, omega=omega)
    ]
    _, facts, _ = show(success_rate, make_study(none))
    assert plain(facts["title"]) == "No run succeeds within the updates that it has."
    assert not any(plain(claim).startswith("No run succeeds") for claim in facts["claims"])
    one = none + runs({"norm:0.5": {10: 1}}, seeds=2, omega=0.0)
    _, facts, _ = show(success_rate, make_study(one))
    assert (
        "No run succeeds with these: no clipping; no clipping and Ω weight = 4; norm:1.0; norm:1.0 and Ω weight = 4."
        in map(plain, facts["claims"])
    )


def test_runs_without_a_threshold_of_success_show_nothing(make_study: Any) -> None:
    """Runs that were asked for no success count as failures."""
    plain_runs = [{**ASKED, "success_below": None, "seed": seed} for seed in range(2)]
    assert success_rate.frame(make_study(plain_runs)).empty


def test_a_run_that_ended_at_its_success_keeps_its_loss(make_study: Any) -> None:
    """A median over the runs that still train is that of the slow ones, or a run that succeeded counts as one that learnt nothing."""
    curves = importlib.import_module("figures.learning_curves")
    early = [
        {**ASKED, "updates": 40, "record_every": 1, "ends_at": 12 if seed == 0 else None, "seed": seed,
         "success": seed == 0, "updates_to_success": 12 if seed == 0 else None} for seed in range(2)
    ]  # fmt: skip
    tables = make_study(early)
    data = curves.frame(tables)
    (ended,) = data.loc[data["seed"] == 0, "run_key"].unique()
    own = data[data["run_key"] == ended].sort_values("update")
    assert own["update"].max() > 38 and own.loc[own["update"] > 12, "loss"].nunique() == 1
    assert own["last_loss"].iloc[0] == pytest.approx(np.median([2.0 / (1 + u) for u in range(2, 12)]))
    facts = curves.facts(data, tables.study)
    assert "keeps its last loss" in render("learning_curves", facts=facts)


def test_panels_without_room_leave_out_middle_values_and_not_what_a_study_asks_about(make_study: Any) -> None:
    """Of three lengths and two weights of Ω, with four panels a sweep, no panel with Ω was drawn."""
    curves = importlib.import_module("figures.learning_curves")
    every = [
        run for kind in ("gaussian", "orthogonal", "identity") for omega in (0.0, 4.0)
        for run in runs({"none": {10: 1, 20: 0, 30: 0}, "norm:1.0": {10: 1, 20: 1, 30: 0}}, seeds=2, initializer=kind, sweep=f"{kind}_matrices_of_one_radius", omega=omega, updates=10)
    ]  # fmt: skip
    every[-1]["breaks_at"] = 0
    tables = make_study(every)
    data = curves.frame(tables)
    drawn = data.dropna(subset=["panel"]).drop_duplicates("panel")
    assert len(drawn) == 12 and set(zip(drawn["sequence_length"], drawn["omega"], strict=True)) == {
        (T, omega) for T in (10, 30) for omega in (0.0, 4.0)
    }
    facts = curves.facts(data, tables.study)
    left_out = "Not drawn, because there is no room: T = 20. The tables have all."
    assert f"{left_out} The headline is of all values, drawn or not." in map(plain, facts["claims"])
    assert plain(facts["title"]) == (
        "71 of 72 runs end training below the held-out loss of a prediction without memory."
    )


def test_many_panels_draw_on_both_screens(make_study: Any) -> None:
    """Panels of several sweeps overlap, or a caption does not render."""
    several = [
        run for i, kind in enumerate(("gaussian", "orthogonal", "pascanu_tanh", "identity"))
        for run in runs({"none": {10: i, 20: 0}, "norm:1.0": {10: 3, 20: i}}, seeds=3, initializer=kind, sweep=kind)
    ]  # fmt: skip
    tables = make_study(several)
    _, facts, axes = show(success_rate, tables)
    assert len(axes) == 8 and facts["drawn"]
    assert "What would refute it" in render("success_rate", facts=facts)
    with style.theme():
        assert len(success_rate.draw(success_rate.frame(tables)).axes) == 8


def test_what_has_no_panel_is_named_and_the_headline_is_of_all(make_study: Any) -> None:
    several = [
        run for i in range(10)
        for run in runs({"none": {10: 2, 20: 0}}, seeds=2, hidden_size=10 + i, sweep=f"width_{i}", cell=["gru", "lstm"][i % 2])
    ]  # fmt: skip
    _, facts, axes = show(success_rate, make_study(several))
    assert "of 40 runs succeed" in plain(facts["title"]) and len({ax.get_title(loc="left") for ax in axes} - {""}) == 9
    (named,) = [plain(claim) for claim in facts["claims"] if "no room" in plain(claim)]
    assert named.endswith("The tables have all. The headline is of all values, drawn or not.")


def test_a_line_alone_in_its_panel_stands_at_its_lengths(make_study: Any) -> None:
    """The only line of a panel stood beside T = 5, because another panel has two more."""
    one = runs({"none": {10: 5, 20: 3}}, seeds=5, sweep="one", cell="vanilla")
    two = [run for cell in ("gru", "lstm") for run in runs({"none": {10: 5, 20: 0}}, seeds=5, sweep="two", cell=cell)]
    _, _, axes = show(success_rate, make_study([*one, *two]))
    [ax] = [ax for ax in axes if ax.get_title(loc="left") == "one"]
    assert [10, 20] in [list(line.get_xdata()) for line in ax.lines]


def test_a_legend_stands_within_the_figure() -> None:
    """Four rules of long names and a source were cut off at both sides."""
    figure = Figure(figsize=(9.0, 4.0), layout="constrained")
    handles = [
        Line2D([], [], label=f"norm:{n}.0 and Ω weight = {n}, published by somebody in a year") for n in range(5)
    ]
    legend = layout.legend_below(figure, handles, most=4)
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and len(figure.legends) == 1
    assert layout.legend_below(Figure(figsize=(9.0, 4.0)), handles[:1], most=4)._ncols == 1


def test_lines_are_named_by_what_their_own_runs_vary(make_study: Any) -> None:
    """ "8 of 12 runs succeed with no weight decay and adam": weight decay varied in another sweep, in which nobody asked for success."""
    asked = [
        run | {"optimizer": optimizer, "sweep": "asked"}
        for optimizer, count in (("adam", 3), ("sgd", 1))
        for run in runs({"none": {10: count}}, seeds=4)
    ]
    others = [
        {"task": "digits", "loss_at": "last", "updates": 8, "sequence_length": 6, "weight_decay": decay, "seed": s, "sweep": "decay"}
        for decay in (0.0, 0.01) for s in range(4)
    ]  # fmt: skip
    data, facts, _ = show(success_rate, make_study([*asked, *others]))
    assert list(data["line"].cat.categories) == ["adam", "sgd"]
    assert plain(facts["title"]) == "3 of 4 runs succeed with adam and 1 of 4 with sgd."


def test_results_of_runs_that_ended_at_success_are_said_to_be_of_that_moment(make_study: Any) -> None:
    """Accuracies of runs that stopped at the first look above half were ranked, and no word said that they had stopped."""
    said = "Training ends at success: a run that succeeds has the result of that moment"
    for succeed in (0, 3):
        tables = make_study(runs({"none": {10: succeed}, "norm:1.0": {10: succeed}}, seeds=5))
        _, facts, _ = show(training_results, tables)
        assert (said in render("training_results", facts=facts)) == (succeed > 0)
